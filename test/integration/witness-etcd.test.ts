/** The etcd witness on a real etcd: conformance, and what networks and stalled members do to it. */
import { createServer } from 'node:http';
import type { FtError } from '../../src/common/errors';
import { LocalEtcd } from '../../src/drill/pair/etcd';
import { sleep } from '../../src/drill/process/time';
import { EtcdWitness, type EtcdWitnessOptions } from '../../src/witness/etcd';
import type { ClaimResult } from '../../src/witness/witness';
import { FAULTS, FaultProxy } from '../support/fault-proxy';
import { answerOf, claimInProcesses, startClaimer } from '../support/witness-processes';
import { describeWitness } from '../unit/witness-conformance';

const TXN = '/v3/kv/txn';

let etcd: LocalEtcd;
let prefixes = 0;

beforeAll(async () => {
  etcd = await LocalEtcd.start();
});

afterAll(() => etcd?.close());

function freshPrefix(): string {
  return `/test-${prefixes++}`;
}

/** Asks until there is an answer: a busy machine may need more than a short deadline. */
async function patiently<T>(ask: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await ask();
    } catch (thrown) {
      if (tries === 20 || (thrown as FtError).code !== 'FT_ERR_WITNESS_UNREACHABLE') throw thrown;
    }
  }
}

describeWitness('an etcd member', async () => {
  const prefix = freshPrefix();
  return {
    open: (identity) =>
      EtcdWitness.open({
        ...{ endpoints: etcd.endpoints, prefix, pair: 'web', lookMs: 50 },
        ...(identity && { identity }),
      }),
    remove: async () => {
      etcd.etcdctl('del', '--prefix', prefix);
    },
  };
});

describe('a claim through a network that fails', () => {
  const witnesses: EtcdWitness[] = [];
  let prefix = '';
  let proxy: FaultProxy;

  beforeEach(async () => {
    prefix = freshPrefix();
    proxy = await FaultProxy.start(etcd.port());
  });

  afterEach(async () => {
    for (const witness of witnesses.splice(0)) await witness.close();
    await proxy.close();
  });

  async function open(more: Partial<EtcdWitnessOptions> = {}): Promise<EtcdWitness> {
    const options = { endpoints: [proxy.url], prefix, pair: 'web', lookMs: 60_000 };
    const witness = await patiently(() =>
      EtcdWitness.open({ ...options, answerMsMax: 300, ...more }),
    );
    witnesses.push(witness);
    return witness;
  }

  const direct = (): Promise<EtcdWitness> => open({ endpoints: etcd.endpoints, answerMsMax: 5000 });

  function failure(result: Promise<unknown>): Promise<FtError> {
    return result.then(
      (value) => {
        throw new Error(`expected a rejection, got ${JSON.stringify(value)}`);
      },
      (thrown: FtError) => thrown,
    );
  }

  function disturb(fault: FaultProxy['fault'], delayMs = 0): void {
    Object.assign(proxy, { fault, delayMs, only: TXN });
  }

  function calm(): void {
    proxy.fault = 'pass';
  }

  test.each([0, 1])(
    'lands late from generation %d, unless something was said since',
    async (from) => {
      const alpha = await open();
      const judge = await direct();
      for (let g = 0; g < from; g++) await judge.claim('web', g, 'judge');
      disturb('hold');
      await failure(alpha.claim('web', from, 'alpha'));
      expect(proxy.heldCount).toBe(1);
      calm();
      proxy.release();
      await sleep(100);
      // Nothing was said: the claim may land, and then its maker is told so.
      expect(await judge.current('web')).toMatchObject({ generation: from + 1, owner: 'alpha' });
      expect(await patiently(() => alpha.claim('web', from, 'alpha'))).toMatchObject({
        outcome: 'won',
      });
    },
  );

  test.each([0, 1])(
    'from generation %d lands no more once its maker said "not claimed"',
    async (from) => {
      const alpha = await open();
      const judge = await direct();
      for (let g = 0; g < from; g++) await judge.claim('web', g, 'judge');
      disturb('hold');
      await failure(alpha.claim('web', from, 'alpha'));
      calm();
      const said = await patiently(() => alpha.current('web'));
      expect(said?.generation ?? 0).toBe(from);
      proxy.release();
      await sleep(100);
      expect((await judge.current('web'))?.generation ?? 0).toBe(from);
      expect((await patiently(() => alpha.current('web')))?.generation ?? 0).toBe(from);
      // And everybody may claim as if nothing had been.
      const won = { outcome: 'won', generation: from + 1 };
      expect(await judge.claim('web', from, 'judge')).toEqual(won);
      expect(await patiently(() => alpha.claim('web', from, 'alpha'))).toMatchObject({
        outcome: 'lost',
      });
    },
  );

  test('lands no more once another claim of its maker was lost', async () => {
    const alpha = await open();
    const judge = await direct();
    disturb('hold');
    await failure(alpha.claim('web', 0, 'alpha'));
    await failure(alpha.claim('web', 0, 'alpha'));
    await failure(alpha.current('web'));
    calm();
    await judge.claim('web', 0, 'judge');
    expect(await patiently(() => alpha.claim('web', 0, 'alpha'))).toMatchObject({
      outcome: 'lost',
    });
    proxy.release();
    await sleep(100);
    expect(await judge.current('web')).toMatchObject({ generation: 1, owner: 'judge' });
  });

  test.each(['drop-answer', 'cut'] as const)(
    'whose answer is lost (%s) is read back',
    async (fault) => {
      const alpha = await open();
      disturb(fault);
      const error = await failure(alpha.claim('web', 0, 'alpha'));
      expect(error.code).toBe('FT_ERR_WITNESS_UNREACHABLE');
      calm();
      expect(await patiently(() => alpha.current('web'))).toMatchObject({
        ...{ generation: 1, owner: 'alpha', claimant: 'self' },
      });
      expect(await patiently(() => alpha.claim('web', 0, 'alpha'))).toEqual({
        outcome: 'won',
        generation: 1,
      });
      const beta = await direct();
      expect(await beta.claim('web', 0, 'beta')).toMatchObject({ outcome: 'lost' });
    },
  );

  test('is not won by an answer that comes after its caller gave up', async () => {
    const alpha = await open();
    disturb('late-answer', 400);
    const settled: string[] = [];
    const claim = alpha.claim('web', 0, 'alpha').then(
      (result) => settled.push(result.outcome),
      () => settled.push('unknown'),
    );
    await claim;
    await sleep(300);
    expect(settled).toEqual(['unknown']);
  });

  test('is not won by a process that slept through its deadline', async () => {
    for (let from = 0; from < 3; from++) {
      const options = { endpoints: [proxy.url], prefix, pair: 'web', answerMsMax: 1000 };
      const child = await startClaimer(JSON.stringify(options));
      try {
        disturb('late-answer', 250);
        const answer = answerOf(child);
        child.send({ from, nodeId: 'alpha' });
        await sleep(100);
        // The answer comes while the process is stopped, and is there when it goes on.
        child.kill('SIGSTOP');
        await sleep(1400);
        child.kill('SIGCONT');
        expect(await answer).toMatchObject({ outcome: 'error' });
        expect(await (await direct()).current('web')).toMatchObject({ generation: from + 1 });
      } finally {
        child.kill('SIGKILL');
        calm();
      }
    }
  });

  test.each([
    ['blackhole', /has not answered for \d{3} ms.*Check that etcd runs there/],
    ['reset', /broke the connection off \(ECONNRESET\)/],
  ] as const)('by %s ends in words that name the endpoint', async (fault, words) => {
    const alpha = await open();
    disturb(fault);
    const startedAt = performance.now();
    const error = await failure(alpha.claim('web', 0, 'alpha'));
    expect(performance.now() - startedAt).toBeLessThan(1500);
    expect(error).toMatchObject({ code: 'FT_ERR_WITNESS_UNREACHABLE' });
    expect(error.message).toMatch(words);
    expect(error.message).toContain(proxy.url);
    calm();
    expect(await patiently(() => alpha.claim('web', 0, 'alpha'))).toEqual({
      outcome: 'won',
      generation: 1,
    });
  });

  test('goes to the next endpoint when the first is silent', async () => {
    const alpha = await open({ endpoints: [proxy.url, ...etcd.endpoints], answerMsMax: 3000 });
    disturb('blackhole');
    const startedAt = performance.now();
    expect(await patiently(() => alpha.claim('web', 0, 'alpha'))).toEqual({
      outcome: 'won',
      generation: 1,
    });
    expect(performance.now() - startedAt).toBeLessThan(1500);
  });

  test('sent to two endpoints takes effect once', async () => {
    const alpha = await open({ endpoints: [proxy.url, ...etcd.endpoints], answerMsMax: 3000 });
    disturb('late-request', 250);
    expect(await patiently(() => alpha.claim('web', 0, 'alpha'))).toEqual({
      outcome: 'won',
      generation: 1,
    });
    await sleep(400);
    const beta = await direct();
    expect(await beta.claim('web', 1, 'beta')).toEqual({ outcome: 'won', generation: 2 });
    expect(await patiently(() => alpha.current('web'))).toMatchObject({
      generation: 2,
      owner: 'beta',
    });
  });

  test('to a member that is stopped and goes on later: what was said stays true', async () => {
    for (let from = 0; from < 8; from++) {
      const alpha = await open();
      const judge = await direct();
      etcd.signal('SIGSTOP');
      try {
        await failure(alpha.claim('web', from, 'alpha'));
      } finally {
        etcd.signal('SIGCONT');
      }
      const said = (await patiently(() => alpha.current('web')))?.generation ?? 0;
      await sleep(50);
      expect((await judge.current('web'))?.generation ?? 0).toBe(said);
      if (said === from) await judge.claim('web', from, 'judge');
    }
  });

  test('the looks tell of silence once, and of the end of it once', async () => {
    const heard: string[] = [];
    await open({
      lookMs: 30,
      onSilent: (error) => heard.push(error.code),
      onBack: () => heard.push('back'),
    });
    proxy.fault = 'reset';
    await sleep(300);
    proxy.fault = 'pass';
    await sleep(300);
    expect(heard).toEqual(['FT_ERR_WITNESS_UNREACHABLE', 'back']);
  });

  test('an etcd that was set back lets nobody take over', async () => {
    const alpha = await open();
    for (let from = 0; from < 3; from++) await alpha.claim('web', from, 'alpha');
    etcd.etcdctl('del', '--prefix', prefix);
    expect(await failure(alpha.claim('web', 3, 'alpha'))).toMatchObject({
      code: 'FT_ERR_WITNESS_BEHIND',
      facts: { known: 0, seen: 3 },
    });
  });

  test.each(['nothing', '{"generation":1}', '[1]', '{"generation":-1,"owner":"a"}'])(
    'a key that holds %s is corrupt, never ours',
    async (text) => {
      const alpha = await open();
      etcd.etcdctl('put', `${prefix}/web/generation`, text);
      const corrupt = { code: 'FT_ERR_WITNESS_CORRUPT' };
      await expect(alpha.current('web')).rejects.toMatchObject(corrupt);
      await expect(alpha.claim('web', 0, 'alpha')).rejects.toMatchObject(corrupt);
      await expect(alpha.claim('web', 1, 'alpha')).rejects.toMatchObject(corrupt);
      expect(etcd.etcdctl('get', '--print-value-only', `${prefix}/web/generation`).trim()).toBe(
        text,
      );
    },
  );

  test.each([
    ['hello', /answered HTTP 200 as no etcd does \(is its JSON gateway on\?\)/],
    ['{}', /as no etcd does \(it names no cluster\)/],
    ['{"header":7}', /as no etcd does \(it names no cluster\)/],
    ['{"header":{"cluster_id":"1"},"kvs":5}', /makes no sense/],
    ['{"header":{"cluster_id":"1"},"kvs":[5],"count":"1"}', /makes no sense/],
    ['{"header":{"cluster_id":"1"},"count":"1"}', /makes no sense/],
    ['{"header":{"cluster_id":"1"},"kvs":[{"mod_revision":"x"}],"count":"1"}', /makes no sense/],
    [`{"x":"${'y'.repeat(70_000)}"}`, /far too long/],
  ])('something that is no etcd is told from one: %.60s', async (text, words) => {
    const server = createServer((_request, response) => response.end(text));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as { port: number };
    const error = await failure(open({ endpoints: [`http://127.0.0.1:${port}`] }));
    server.closeAllConnections();
    server.close();
    expect(error.code).toMatch(/^FT_ERR_WITNESS_/);
    expect(error.message).toMatch(words);
  });
});

test('of 6 processes claiming at once exactly one wins, 30 times over', async () => {
  const options = { endpoints: etcd.endpoints, prefix: freshPrefix(), pair: 'web' };
  const judge = await EtcdWitness.open(options);
  try {
    const where = JSON.stringify({ ...options, answerMsMax: 10_000 });
    await claimInProcesses({ processes: 6, rounds: 30, where, judge });
  } finally {
    await judge.close();
  }
});

describe('many claimers behind faulty networks', () => {
  /** Park and Miller: the same sequence for the same seed. */
  function randomOf(seed: number): (below: number) => number {
    let state = seed;
    return (below) => {
      state = (state * 48_271) % 2_147_483_647;
      return state % below;
    };
  }

  /** A claimer behind a network of its own, whose weather changes. */
  interface Claimer {
    readonly name: string;
    readonly proxy: FaultProxy;
    readonly witness: EtcdWitness;
    /** Tries of the present claim in vain; at last the network is left alone until something gets through. */
    unknown: number;
  }

  const CALM_AFTER = 6;

  /** Claims until the outcome is known, as a suspended primary does. */
  async function claimUntilKnown(
    one: Claimer,
    from: number,
    untilMs: number,
  ): Promise<ClaimResult> {
    for (one.unknown = 0; ; one.unknown += 1) {
      if (one.unknown >= CALM_AFTER) one.proxy.fault = 'pass';
      try {
        return await one.witness.claim('web', from, one.name);
      } catch (thrown) {
        if (performance.now() > untilMs) throw thrown;
      }
    }
  }

  test.each([1, 2, 3])('never two owners, and always one (seed %d)', async (seed) => {
    const random = randomOf(seed);
    const prefix = freshPrefix();
    const claimers = await Promise.all(
      Array.from({ length: 6 }, async (_, n): Promise<Claimer> => {
        const proxy = await FaultProxy.start(etcd.port());
        const options = { endpoints: [proxy.url], prefix, pair: 'web', lookMs: 40 };
        const witness = await patiently(() => EtcdWitness.open({ ...options, answerMsMax: 120 }));
        return { name: `node-${n}`, proxy, witness, unknown: 0 };
      }),
    );
    const weather = setInterval(() => {
      const one = claimers[random(claimers.length)];
      if (one === undefined || one.unknown >= CALM_AFTER) return;
      one.proxy.fault = FAULTS[random(FAULTS.length)] ?? 'pass';
      one.proxy.delayMs = random(200);
    }, 5);
    const startedMs = performance.now();
    let unknown = 0;
    try {
      // As many rounds as fit: a busy machine does fewer, and each must hold.
      for (let from = 0; from < 20 && performance.now() < startedMs + 10_000; from++) {
        const untilMs = performance.now() + 30_000;
        const results = await Promise.all(
          claimers.map((one) => claimUntilKnown(one, from, untilMs)),
        );
        for (const one of claimers) unknown += one.unknown;
        const winners = claimers.filter((_one, n) => results[n]?.outcome === 'won');
        expect(winners).toHaveLength(1);
        for (const result of results) {
          if (result.outcome === 'won') expect(result.generation).toBe(from + 1);
          else expect(result.current).toEqual({ generation: from + 1, owner: winners[0]?.name });
        }
      }
      expect(unknown).toBeGreaterThan(5);
    } finally {
      clearInterval(weather);
      for (const one of claimers) {
        await one.witness.close();
        await one.proxy.close();
      }
    }
  });
});
