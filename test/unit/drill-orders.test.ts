/** The words of ft-drill: what they mean, and what is refused with which words. */
import { FtError } from '../../src/common/errors';
import { drillHelp } from '../../src/drill/help';
import { LIVE_SCENARIOS } from '../../src/drill/live/live-scenarios';
import { parseProbe } from '../../src/drill/live/probe';
import { type DrillOrder, readDrillOrder } from '../../src/drill/orders';
import { scenarios } from '../../src/drill/scenarios/scenarios';
import { runsOf } from '../../src/drill/session';

const read = (words: string): DrillOrder => readDrillOrder(words.split(' '));

function refusal(words: string): string {
  try {
    read(words);
  } catch (thrown) {
    if (thrown instanceof FtError && thrown.code === 'FT_ERR_CONFIG') return thrown.message;
    throw thrown;
  }
  throw new Error(`${words} was accepted.`);
}

const LIVE = '--live /tmp/a.sock --live /tmp/b.sock --probe tcp://10.0.0.5:80';

test('a run on a sandbox pair', () => {
  const order = read('run primary-kill link-cut primary-kill --runs 3 --html r.html --seed 9');
  expect(order).toMatchObject({
    ...{ kind: 'run-sandbox', all: false, count: { runs: 3 }, html: 'r.html', json: undefined },
    ...{ seed: 9, suspectAfterMs: 50, memory: '32M', nodeFlags: [] },
  });
  const named = order.kind === 'run-sandbox' ? order.scenarios.map(({ name }) => name) : [];
  expect(named).toEqual(['primary-kill', 'link-cut']);
  expect(read('run all --drills 100')).toMatchObject({ scenarios, count: { drills: 100 } });
  expect(read('run all --test-fault release-early')).toMatchObject({
    nodeFlags: ['--test-fault', 'release-early'],
  });
});

test('a run on a live pair: what is safe, and what must be asked for', () => {
  const safe = LIVE_SCENARIOS.filter(({ kills }) => !kills);
  expect(safe.map(({ name }) => name)).toEqual(['switchover']);
  expect(read(`run all ${LIVE}`)).toMatchObject({ kind: 'run-live', scenarios: safe, yes: false });
  expect(refusal(`run primary-kill ${LIVE}`)).toMatch(/add --i-understand-that-it-kills/);
  expect(read(`run all ${LIVE} --i-understand-that-it-kills`)).toMatchObject({
    scenarios: LIVE_SCENARIOS,
  });
  expect(refusal(`run link-cut ${LIVE}`)).toMatch(/There are: switchover, primary-kill/);
});

test('a live pair needs a probe, and both sockets for the way back', () => {
  expect(refusal('run switchover --live /tmp/a.sock')).toMatch(/--probe URL is missing/);
  const one = 'run switchover --live /tmp/a.sock --probe icmp://10.0.0.5';
  expect(read(one)).toMatchObject({ sockets: ['/tmp/a.sock'], count: { runs: 1 } });
  expect(read(`${one} --drills 1`)).toMatchObject({ count: { drills: 1 } });
  for (const more of ['--runs 2', '--drills 2']) {
    expect(refusal(`${one} ${more}`)).toMatch(/With one socket a run is one switchover \(--runs 1/);
  }
  expect(refusal(`run switchover ${LIVE} --live /tmp/c.sock`)).toMatch(/A pair has two nodes/);
});

test('what is out of place or unknown is named', () => {
  expect(refusal('')).toMatch(/the commands of ft-drill are list, run, sandbox/);
  expect(refusal('run')).toMatch(/Which scenarios\?/);
  expect(refusal('run primary-kil')).toMatch(/Did you mean primary-kill\?/);
  expect(refusal('run all --runs 1 --drills 2')).toMatch(/--drills is out of place/);
  expect(refusal('run all --runs 0')).toMatch(/--runs/);
  expect(refusal('run all --probe tcp://h:1')).toMatch(/--probe is out of place.*--live/);
  expect(refusal(`run switchover ${LIVE} --memory 64M`)).toMatch(/--memory is out of place/);
  expect(refusal('sandbox --runs 2')).toMatch(/ft-drill sandbox does not know it/);
  expect(refusal('list all')).toMatch(/takes no further words/);
});

test('probes', () => {
  expect(parseProbe('tcp://[::1]:80')).toMatchObject({ kind: 'tcp', host: '::1', port: 80 });
  expect(parseProbe('http://guest/health')).toMatchObject({ kind: 'http' });
  expect(parseProbe('icmp://10.0.0.5')).toMatchObject({ kind: 'icmp', host: '10.0.0.5' });
  const udp = parseProbe('udp://10.0.0.5:53?hex=0aFF');
  expect(udp.kind === 'udp' && udp.payload).toEqual(Buffer.from([0x0a, 0xff]));
  const wrong = ['tcp://h', 'ftp://h/', 'h:80', 'udp://h:5?hex=abc', 'icmp://', 'icmp://-f'];
  for (const text of wrong) expect(() => parseProbe(text)).toThrow(/--probe/);
});

test('drills are spread evenly, and all of them are done', () => {
  const spread = Array.from({ length: 18 }, (_, n) => runsOf({ drills: 100 }, n, 18));
  expect(spread.reduce((sum, one) => sum + one, 0)).toBe(100);
  expect(Math.max(...spread) - Math.min(...spread)).toBe(1);
  expect(runsOf({ runs: 4 }, 7, 18)).toBe(4);
});

test('the help names every exit code and every flag', () => {
  const help = drillHelp();
  for (const word of ['--live', '--probe', '--drills', '--html', '--http-port', 'Exit codes']) {
    expect(help).toContain(word);
  }
  for (const line of help.split('\n')) expect(line.length).toBeLessThanOrEqual(100);
});
