/**
 * A primary that stands still and comes back (SIGSTOP, SIGCONT) is the dangerous one: it does not
 * know that the guest lives elsewhere. It must find itself fenced, and not one answer of its guest
 * may leave; a standby that stands still must cost the guest nothing but a moment.
 */

import { OracleProcess } from '../../src/drill/oracle/oracle-process';
import { Pair, type PairNode } from '../../src/drill/pair/pair';
import { sleep, until } from '../../src/drill/process/time';
import { kvmTest } from '../support/kvm';

interface Scene {
  readonly pair: Pair;
  readonly oracle: OracleProcess;
  readonly primary: PairNode;
  readonly standby: PairNode;
}

async function inScene(name: string, act: (scene: Scene) => Promise<void>): Promise<void> {
  const pair = new Pair({ machine: 'kvm', name });
  let oracle: OracleProcess | undefined;
  try {
    await pair.start();
    const settings = { ...pair.guest, clients: 12, ratePerSecond: 600 };
    oracle = await OracleProcess.start(settings, pair.netns?.name);
    await oracle.load({ pagesPerMs: 16, bytesPerPage: 8, workingSetPages: 256, spin: false });
    await oracle.start();
    await sleep(500);
    const { active, standby } = pair;
    if (active === undefined || standby === undefined) throw new Error('The pair is not complete.');
    await act({ pair, oracle, primary: active, standby });
    const verdict = await oracle.finish();
    expect(verdict.violations.map((violation) => violation.story)).toEqual([]);
    expect(verdict).toMatchObject({ unanswered: 0, lost: 0, regressed: 0 });
  } finally {
    await oracle?.close();
    await pair.close();
  }
}

async function answersGoOn(oracle: OracleProcess): Promise<void> {
  const { answered } = await oracle.sample();
  const more = async (): Promise<boolean> => (await oracle.sample()).answered > answered + 50;
  await until('more answers', more, 5000);
}

kvmTest('a primary that was stopped for a while finds itself fenced', async () => {
  await inScene('stall-primary', async ({ pair, oracle, primary, standby }) => {
    const from = standby.process.lines.length;
    primary.process.kill('SIGSTOP');
    await standby.waitState(['solo'], 5000, from);
    await answersGoOn(oracle);
    primary.process.kill('SIGCONT');
    // It ends by itself: exit code 4, fenced.
    expect(await primary.process.waitExit(5000)).toMatchObject({ code: 4, signal: null });
    await answersGoOn(oracle);
    pair.active = standby;
    await pair.rejoin();
    await pair.killActive();
    await answersGoOn(oracle);
  });
});

kvmTest('a standby that was stopped for a while never runs the guest a second time', async () => {
  await inScene('stall-standby', async ({ oracle, primary, standby }) => {
    const from = primary.process.lines.length;
    standby.process.kill('SIGSTOP');
    await primary.waitState(['solo'], 5000, from);
    await answersGoOn(oracle);
    const known = standby.process.lines.length;
    standby.process.kill('SIGCONT');
    // It lost the witness, forgets its copy, and is taken on again by the very same primary.
    await primary.waitState(['protected'], 10_000, from);
    await answersGoOn(oracle);
    const states = standby.process.lines.slice(known).map((line) => line.fields['to']);
    expect(states).not.toContain('active');
    expect(standby.process.exit).toBeUndefined();
  });
});

kvmTest('pauses shorter than the suspicion change nothing', async () => {
  await inScene('stall-short', async ({ oracle, primary, standby }) => {
    const from = primary.process.lines.length;
    for (const node of [primary, standby, primary, standby]) {
      node.process.kill('SIGSTOP');
      await sleep(60);
      node.process.kill('SIGCONT');
      await answersGoOn(oracle);
    }
    const events = primary.process.lines.slice(from).filter((l) => l.fields['event'] === 'state');
    expect(events).toEqual([]);
  });
});
