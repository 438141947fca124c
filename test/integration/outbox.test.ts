/** A guest that says more at once than may be held: it waits, its words leave in time, nothing stops. */

import { GUEST_ADDRESS } from '../../src/drill/lan/netns';
import { Pair } from '../../src/drill/pair/pair';
import { kvmDescribe } from '../support/kvm';

/** Far less than the 256 frames of 1,442 bytes that one transmit queue holds. */
const OUTBOX_FLAGS = ['--outbox-bytes-max', '64K'] as const;

kvmDescribe('outbox bound', () => {
  const pair = new Pair({ machine: 'kvm', name: 'outbox', flags: OUTBOX_FLAGS });

  afterEach(() => pair.close());

  test('a burst larger than the outbox slows the guest and stops nothing', async () => {
    await pair.start();
    const burst = ['-q', '-f', '-l', '250', '-s', '1400', '-c', '4000', '-w', '20'];
    const said = pair.netns?.run('ping', ...burst, GUEST_ADDRESS) ?? '';
    expect(Number(/(\d+) received/.exec(said)?.[1])).toBeGreaterThan(500);
    const committed = pair.active?.figure('epochCommitted') ?? 0;
    await pair.active?.waitStatus(
      'epochs go on',
      (fields) => Number(fields['epochCommitted']) > committed + 500,
      8000,
    );
    expect(pair.netns?.run('ping', '-c', '3', '-i', '0.2', '-W', '1', GUEST_ADDRESS)).toMatch(
      / 0% packet loss/,
    );
  }, 60_000);
});
