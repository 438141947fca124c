/** The guest's clock across takeovers: it never goes back, and how far it fell behind is said. */

import { Pair } from '../../src/drill/pair/pair';
import { monotonicUs } from '../../src/drill/process/time';
import { askIncrement } from '../support/beacon-ask';
import { kvmDescribe } from '../support/kvm';

kvmDescribe('the guest’s clock', () => {
  let pair: Pair;
  beforeEach(() => {
    pair = new Pair({ machine: 'kvm', name: 'guest-time' });
  });
  afterEach(() => pair.close());

  /** The guest's uptime, and when it was asked and answered. */
  const look = (): { uptimeUs: number; askedUs: number; answeredUs: number } => {
    const askedUs = monotonicUs();
    const answer = askIncrement(pair.netns?.name, pair.guest);
    if (answer === undefined) throw new Error('The guest does not answer.');
    return { uptimeUs: Number(answer.uptimeNs / 1000n), askedUs, answeredUs: monotonicUs() };
  };

  test('goes on over two takeovers, and each says what it cost', async () => {
    await pair.start();
    for (let round = 0; round < 2; round += 1) {
      const before = look();
      await pair.killActive();
      const after = look();
      expect(after.uptimeUs).toBeGreaterThan(before.uptimeUs);
      const takeover = pair.active?.process.lines.find((line) => line.fields['to'] === 'active');
      const stepUs = Number(takeover?.fields['guestClockStepUs']);
      const takeoverUs = Number(takeover?.fields['takeoverUs']);
      expect(stepUs).toBeGreaterThanOrEqual(0);
      expect(takeoverUs).toBeGreaterThan(0);
      // Restoring takes milliseconds; the clock must not have gone on by itself for longer.
      expect(stepUs).toBeLessThan(takeoverUs);
      // What the guest's clock did not see of real time is what was said, give or take the time that
      // question and answer took, and an epoch on its way.
      const slackUs =
        after.answeredUs - after.askedUs + before.answeredUs - before.askedUs + 50_000;
      const realUs = after.askedUs - before.answeredUs;
      const missedUs = realUs - (after.uptimeUs - before.uptimeUs);
      expect(Math.abs(missedUs - (takeoverUs - stepUs))).toBeLessThan(slackUs);
      await pair.rejoin();
    }
    const { active } = pair;
    await active?.waitStatus('its clock', (f) => Number(f['guestClockBehindUs']) > 0, 3000);
  });
});
