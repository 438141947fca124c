/** One precedence for command line, environment and file; errors that say where; --print-config. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { FtError } from '../../src/common/errors';
import {
  type PrimaryConfig,
  type Request,
  readPrimaryConfig,
  readStandbyConfig,
  type StandbyConfig,
} from '../../src/config/config';
import type { Environment } from '../../src/config/environment';
import { FLAGS } from '../../src/config/flags';
import { variableOf } from '../../src/config/given';
import { nearest } from '../../src/config/spelling';

const BASE = 'machine: simulated\nsim-port: 7777\nwitness: none\n';

let folder = '';
let file = '';
beforeAll(() => {
  folder = mkdtempSync(path.join(os.tmpdir(), 'ft-config-'));
  file = path.join(folder, 'node.yaml');
});
afterAll(() => rmSync(folder, { recursive: true }));

interface Sources {
  readonly text?: string;
  readonly env?: Environment;
  readonly words?: readonly string[];
}

function read(sources: Sources): Request<PrimaryConfig> {
  const words = sources.text === undefined ? [] : ['--config', file];
  if (sources.text !== undefined) writeFileSync(file, sources.text);
  return readPrimaryConfig([...words, ...(sources.words ?? [])], sources.env);
}

function primary(sources: Sources): PrimaryConfig {
  const request = read(sources);
  if (request.kind !== 'run') throw new Error(`expected a run, got ${request.kind}`);
  return request.config;
}

function refusal(act: () => unknown): FtError {
  try {
    act();
  } catch (thrown) {
    if (thrown instanceof FtError) return thrown;
    throw thrown;
  }
  throw new Error('nothing was refused');
}

/** The message, with the file's path as FILE. */
function refusalOf(sources: Sources): string {
  const error = refusal(() => read(sources));
  expect(error.code).toBe('FT_ERR_CONFIG');
  return error.message.replaceAll(file, 'FILE');
}

describe('precedence', () => {
  test('flag, environment, file, default', () => {
    const text = `${BASE}interval-us: 1000\nin-flight: 2\naudit-pages: 7\n`;
    const env = { ROMULUS_INTERVAL_US: '2000', ROMULUS_IN_FLIGHT: '3' };
    const words = ['--interval-us', '3000'];
    expect(primary({ text, env, words }).policy).toMatchObject({
      ...{ intervalUs: 3000, inFlightMax: 3, auditPages: 7, dirtyBudgetPages: 4096 },
    });
  });

  test('a list is taken whole from one source', () => {
    const text = `${BASE}standby:\n  - 127.0.0.1:1\n  - 127.0.0.1:2\n`;
    const ports = (sources: Sources): number[] =>
      primary({ text, ...sources }).standbys.map(({ port }) => port);
    expect(ports({})).toEqual([1, 2]);
    expect(ports({ env: { ROMULUS_STANDBY: '127.0.0.1:3  127.0.0.1:4' } })).toEqual([3, 4]);
    expect(ports({ env: { ROMULUS_STANDBY: '' } })).toEqual([]);
    expect(ports({ words: ['--standby', '127.0.0.1:5'] })).toEqual([5]);
  });

  test('a switch can be turned off again', () => {
    const text = `${BASE}listen: 0.0.0.0:1\ninsecure: true\n`;
    expect(primary({ text }).listen?.host).toBe('0.0.0.0');
    expect(refusalOf({ text, words: ['--insecure=false'] })).toContain('add --insecure');
    expect(refusalOf({ text, env: { ROMULUS_INSECURE: 'false' } })).toContain('--insecure');
    const env = { ROMULUS_NO_CUT_ON_OUTPUT: 'true' };
    expect(primary({ text, env }).policy.cutOnOutput).toBe(false);
    expect(primary({ text, env, words: ['--no-cut-on-output=false'] }).policy.cutOnOutput).toBe(
      true,
    );
  });

  test('the environment may name the file, and the command line another one', () => {
    writeFileSync(file, `${BASE}pair: one\n`);
    const other = path.join(folder, 'other.yaml');
    writeFileSync(other, `${BASE}pair: two\n`);
    const env = { ROMULUS_CONFIG: file };
    expect(primary({ env }).pair).toBe('one');
    expect(primary({ env, words: ['--config', other] }).pair).toBe('two');
  });

  test('numbers in YAML’s ways, sizes as numbers, texts with signs, an empty file', () => {
    const text = `${BASE}interval-us: 0x3e8\nmemory: 2097152\ncmdline: "a: b # c"\n"vcpus": 1\n`;
    const config = primary({ text });
    expect(config.policy.intervalUs).toBe(1000);
    expect(config.guest).toMatchObject({ memoryBytes: 2 * 1024 ** 2, cmdline: 'a: b # c' });
    const words = ['--machine', 'simulated', '--sim-port', '1', '--witness', 'none'];
    expect(primary({ text: '', words }).pair).toBe('default');
    expect(primary({ text: '# nothing\n', words }).pair).toBe('default');
  });

  test('help and version win over sources that are wrong', () => {
    const env = { ROMULUS_NONSENSE: '1' };
    expect(readPrimaryConfig(['--help', '--config', '/nowhere'], env).kind).toBe('help');
    expect(readStandbyConfig(['--version'], env).kind).toBe('version');
  });
});

describe('an error names the key, what was found, what is allowed, and where', () => {
  const whole = 'it must be a whole number from 20 to 10000000';
  test.each<[string, string, string]>([
    ['too small', '\n\ninterval-us: 5\n', `FILE:3: interval-us is "5"; ${whole}.`],
    ['a fraction', 'interval-us: 20.5\n', `FILE:1: interval-us is "20.5"; ${whole}.`],
    ['huge', 'interval-us: .inf\n', `FILE:1: interval-us is "Infinity"; ${whole}.`],
    [
      'a number in quotes',
      'interval-us: "400"\n',
      `FILE:1: interval-us is the text "400"; ${whole}, without quotes.`,
    ],
    [
      'a text that is a number',
      'pair: 1\n',
      'FILE:1: pair is 1; it must be a text; put it in quotes.',
    ],
    ['a map', 'pair: {a: 1}\n', 'FILE:1: pair is a map; it must be a text.'],
    ['nothing', 'tap:\n', 'FILE:1: tap is empty; it must be a text.'],
    ['a size in quotes', 'memory: "2097152"\n', 'a number of bytes without quotes, or a size such'],
    ['a yes', 'insecure: yes\n', 'FILE:1: insecure is the text "yes"; it must be true or false'],
    [
      'one for a list',
      'standby: 127.0.0.1:1\n',
      'FILE:1: standby is the text "127.0.0.1:1"; it must be a list',
    ],
    [
      'a wrong one in a list',
      'standby:\n  - 127.0.0.1:1\n  - x\n',
      'FILE:3: standby is "x"; it must be HOST:PORT',
    ],
    ['a list in a list', 'standby:\n  - [a]\n', 'FILE:2: standby is a list; it must be a text.'],
    ['an unknown key', 'memroy: 1M\n', 'FILE:1: "memroy" is no setting; did you mean memory?'],
    ['an underscore', 'interval_us: 400\n', 'did you mean interval-us?'],
    ['a strange key', 'enable-kvm: true\n', '"enable-kvm" is no setting; docs/configuration.md'],
    ['a key that is no name', '1: true\n', 'FILE:1: a key is a name'],
    ['a key twice', 'pair: a\npair: b\n', 'FILE:2: a key stands here a second time'],
    ['an alias', 'pair: &x a\nnode: *x\n', 'FILE:2: node is an alias; write the value out.'],
    ['a merge', '<<: {pair: a}\n', '"<<" is no setting'],
    ['a tag', 'pair: !secret a\n', 'FILE:1: this is no YAML: Unresolved tag: !secret.'],
    ['a tab', 'standby:\n\t- a\n', 'FILE:2: this is no YAML: Tabs are not allowed'],
    ['two documents', 'pair: a\n---\npair: b\n', 'this is no YAML: Source contains multiple'],
    ['no map', '- pair\n', 'FILE:1: a configuration is made of lines "key: value".'],
    ['a word', 'pair\n', 'FILE:1: a configuration is made of lines "key: value".'],
    ['an order', 'force-claim: true\n', 'FILE:1: force-claim is an order for one start'],
    ['the file itself', 'config: a\n', 'FILE:1: config says which file this is'],
    ['brackets', 'listen: [::1]:1\n', 'FILE:1: this is no YAML'],
  ])('%s', (_name, text, words) => {
    expect(refusalOf({ text })).toContain(words);
  });

  test('what settings must be to each other', () => {
    const open = refusalOf({ text: `${BASE}standby:\n  - 127.0.0.1:1\n  - 192.0.2.1:2\n` });
    expect(open).toMatch(/^FILE:6: standby 192\.0\.2\.1:2 is not a loopback address/);
    const slow = refusalOf({ text: `${BASE}suspect-after-ms: 11\n` });
    expect(slow).toMatch(/^FILE:4: suspect-after-ms is "11"; it must be at least twice/);
    const env = { ROMULUS_SUSPECT_AFTER_MS: '12' };
    expect(refusalOf({ text: BASE, env })).toMatch(/^ROMULUS_SUSPECT_AFTER_MS is "12"; it must be/);
  });

  test('a mistake counts although another source wins', () => {
    const words = ['--interval-us', '1000'];
    expect(refusalOf({ text: `${BASE}interval-us: 1\n`, words })).toContain('FILE:4: interval-us');
    const env = { ROMULUS_INTERVAL_US: 'fast' };
    expect(refusalOf({ text: BASE, env, words })).toContain('ROMULUS_INTERVAL_US is "fast"');
  });

  test.each<[string, Environment, string]>([
    ['a misspelt variable', { ROMULUS_MEMROY: '1M' }, 'did you mean ROMULUS_MEMORY?'],
    ['an unknown one', { ROMULUS_ENABLE_KVM: '1' }, 'ROMULUS_ENABLE_KVM is no setting; docs/'],
    [
      'a switch that is 1',
      { ROMULUS_INSECURE: '1' },
      'ROMULUS_INSECURE is "1"; it must be true or false.',
    ],
    ['one of Kubernetes', { ROMULUS_SERVICE_HOST: '10.0.0.1' }, 'enableServiceLinks: false'],
    ['another', { ROMULUS_PORT_80_TCP_ADDR: '10.0.0.1' }, 'enableServiceLinks: false'],
    ['a third', { ROMULUS_SERVICE_PORT_HTTP: '80' }, 'enableServiceLinks: false'],
    [
      'a password in a URL',
      { ROMULUS_WITNESS: 'etcd:https://u:p@ss/word@etcd.example:2379' },
      'ROMULUS_WITNESS is "etcd:https://***@etcd.example:2379"; it must be',
    ],
    ['an empty value', { ROMULUS_PAIR: '' }, 'ROMULUS_PAIR is ""; it must be 1 to 64 letters'],
    [
      'an order',
      { ROMULUS_FORCE_CLAIM: 'true' },
      'ROMULUS_FORCE_CLAIM is set; --force-claim is an order',
    ],
  ])('%s', (_name, env, words) => {
    expect(refusalOf({ text: BASE, env })).toContain(words);
  });

  test('what is not ours is left alone', () => {
    const env = { ROMULUS_ARGS: '--x', ROMULUSX: '1', HOME: '/', romulus_pair: 'x' };
    expect(primary({ text: BASE, env }).pair).toBe('default');
  });

  test('keys of the other command are refused by name', () => {
    writeFileSync(file, `${BASE}listen: 127.0.0.1:1\n`);
    const words = ['--config', file];
    const request = readStandbyConfig(words) as Request<StandbyConfig>;
    expect(request.kind).toBe('run');
    const kernel = refusal(() => readStandbyConfig(words, { ROMULUS_KERNEL: 'k' }));
    expect(kernel.message).toBe(
      'ROMULUS_KERNEL is set; it is a setting of ft-primary alone, not of ft-standby.',
    );
    writeFileSync(file, `${BASE}kernel: k\n`);
    const inFile = refusal(() => readStandbyConfig(words));
    expect(inFile.message).toContain('kernel is a setting of ft-primary alone, not of ft-standby.');
  });

  test('a file that cannot be read', () => {
    const at = (name: string): string => path.join(folder, name);
    const refused = (name: string): string =>
      refusal(() => readPrimaryConfig(['--config', at(name)])).message;
    expect(refused('none.yaml')).toMatch(/cannot be read .*ENOENT.*check --config/);
    mkdirSync(at('folder'));
    expect(refused('folder')).toContain('no regular file');
    execFileSync('mkfifo', [at('pipe')]);
    expect(refused('pipe')).toContain('no regular file');
    writeFileSync(at('large'), `# ${'x'.repeat(64 * 1024)}\n`);
    expect(refused('large')).toContain('larger than 64K');
    writeFileSync(at('bytes'), Buffer.from([0x70, 0x3a, 0x20, 0xff, 0x0a]));
    expect(refused('bytes')).toContain('cannot be read');
    writeFileSync(at('deep'), `a: ${'['.repeat(30_000)}`);
    expect(refused('deep')).toMatch(/this is no (YAML|configuration)/);
  });
});

describe('--print-config', () => {
  function print(sources: Sources): string {
    const request = read({ ...sources, words: [...(sources.words ?? []), '--print-config'] });
    if (request.kind !== 'print') throw new Error(`expected a text, got ${request.kind}`);
    return request.text;
  }

  test('says what is in effect and where it comes from', () => {
    const text = `${BASE}standby: ["[::1]:2"]\ncmdline: "a: b"\nmemory: 2097152\n`;
    const env = { ROMULUS_PAIR: 'web', ROMULUS_IN_FLIGHT: '3' };
    const lines = print({ text, env, words: ['--in-flight', '4'] })
      .replaceAll(file, 'FILE')
      .split('\n');
    const has = (line: RegExp): void =>
      expect(lines.filter((one) => line.test(one))).toHaveLength(1);
    has(/^pair: web +# ROMULUS_PAIR$/);
    has(/^in-flight: 4 +# --in-flight$/);
    has(/^cmdline: "a: b" +# FILE:5$/);
    has(/^memory: 2097152 +# FILE:6$/);
    has(/^ {2}- "\[::1\]:2" +# FILE:4$/);
    has(/^interval-us: 400 +# default$/);
    has(/^on-fenced: exit +# default$/);
    has(/^node: \S+-primary +# default$/);
    has(/^insecure: false +# default$/);
    has(/^# kernel: +# not set$/);
    expect(lines.join('\n')).not.toMatch(/force-claim|print-config|help:/);
  });

  test.each<[string, Sources]>([
    ['a simulated guest', { text: BASE }],
    [
      'a KVM pair',
      {
        words: [
          ...['--kernel', 'k', '--tap', 't0', '--listen', '[::1]:0', '--standby', '127.0.0.1:9'],
          ...[
            '--cmdline',
            ' x "y" \\ #: \u2028\n',
            '--disk',
            'true',
            '--disk',
            '1.5,ro',
            '--node',
            '1e3',
          ],
          ...[
            '--witness',
            'etcd:http://127.0.0.1:2379',
            '--witness-prefix',
            '/a/b',
            '--vcpus',
            '2',
          ],
          ...[
            '--console',
            'unix:/run/c',
            '--no-cut-on-output',
            '--memory',
            '1048576',
            '--pair',
            'null',
          ],
          ...['--control', '/run/x', '--outbox-bytes-max', '65536K', '--status-interval-ms', '10'],
        ],
      },
    ],
  ])('can be given back: %s', (_name, sources) => {
    const first = primary(sources);
    const text = print(sources);
    expect(primary({ text })).toEqual(first);
    // And once more it says the same, but for the places.
    const bare = (all: string): string => all.replace(/ +# \S+( set)?$/gm, '');
    expect(bare(print({ text }))).toBe(bare(text));
  });

  test('is refused as the start would be', () => {
    expect(refusalOf({ text: 'witness: none\n', words: ['--print-config'] })).toContain('--tap');
  });
});

test('names: variables are one to one, and misspelt names find the nearest', () => {
  expect(new Set(FLAGS.map((flag) => variableOf(flag.name))).size).toBe(FLAGS.length);
  expect(nearest('paer', ['pair', 'peer', 'tap'])).toBe('pair');
  expect(nearest('x', ['a', 'b'])).toBeUndefined();
  expect(nearest('intervalUs', ['interval-us', 'in-flight'])).toBe('interval-us');
  expect(
    nearest(
      'completely-else',
      FLAGS.map((flag) => flag.name),
    ),
  ).toBeUndefined();
});
