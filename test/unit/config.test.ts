/** Flags to values: strict; every refusal names the flag, what was found and what is allowed. */
import { FtError } from '../../src/common/errors';
import {
  type PrimaryConfig,
  readPrimaryConfig,
  readStandbyConfig,
  type StandbyConfig,
} from '../../src/config/config';
import { flagsOf } from '../../src/config/flags';
import { ExitCode, helpText } from '../../src/config/help';

const SIMULATED = ['--machine', 'simulated', '--sim-port', '7777', '--witness', 'file:/w'];
const KVM = ['--kernel', 'k.elf', '--tap', 'tap0', '--witness', 'file:/w'];

function primary(...words: string[]): PrimaryConfig {
  const request = readPrimaryConfig(words);
  if (request.kind !== 'run') throw new Error(`expected a run, got ${request.kind}`);
  return request.config;
}

function standby(...words: string[]): StandbyConfig {
  const request = readStandbyConfig(words);
  if (request.kind !== 'run') throw new Error(`expected a run, got ${request.kind}`);
  return request.config;
}

function refusalOf(read: () => unknown): FtError {
  try {
    read();
  } catch (thrown) {
    if (thrown instanceof FtError) return thrown;
  }
  throw new Error('nothing was refused');
}

describe('defaults', () => {
  test('a KVM primary', () => {
    const config = primary(...KVM);
    expect(config).toMatchObject({
      command: 'ft-primary',
      pair: 'default',
      witness: { kind: 'file', directory: '/w' },
      standbys: [],
      forceClaim: false,
      heartbeatIntervalMs: 10,
      busyPollUs: 0,
      suspectAfterMs: 50,
      statusIntervalMs: undefined,
      policy: {
        intervalUs: 400,
        inFlightMax: 16,
        dirtyBudgetPages: 4096,
        auditPages: 2,
        cutOnOutput: true,
      },
    });
    expect(config.guest).toMatchObject({
      kind: 'kvm',
      memoryBytes: 64 * 1024 ** 2,
      kernel: 'k.elf',
      vcpus: 1,
      cpu: 'host',
    });
    expect(config.nodeId).toMatch(/-primary$/);
  });

  test('who can listen rejoins, who cannot ends, and either can be told otherwise', () => {
    const at = ['--listen', '127.0.0.1:7001'];
    expect(primary(...KVM)).toMatchObject({ listen: undefined, onFenced: 'exit' });
    expect(primary(...KVM, ...at)).toMatchObject({ listen: { port: 7001 }, onFenced: 'rejoin' });
    expect(primary(...KVM, ...at, '--on-fenced', 'exit').onFenced).toBe('exit');
    expect(standby('--tap', 't', '--witness', 'none', ...at).onFenced).toBe('rejoin');
    const refused = refusalOf(() => primary(...KVM, '--on-fenced', 'rejoin'));
    expect(refused.message).toMatch(/--on-fenced rejoin needs --listen HOST:PORT/);
    const open = refusalOf(() => primary(...KVM, '--listen', '0.0.0.0:7001'));
    expect(open.message).toMatch(/--insecure/);
    const floor = refusalOf(() => primary(...KVM, ...at, '--measure-floor'));
    expect(floor.message).toMatch(/without --listen only/);
  });

  test('a control socket has a path that the system takes', () => {
    expect(primary(...KVM).control).toBeUndefined();
    expect(primary(...KVM, '--control', '/run/x.sock').control).toBe('/run/x.sock');
    const long = refusalOf(() => primary(...KVM, '--control', `/run/${'x'.repeat(104)}`));
    expect(long.message).toMatch(/--control .* a path of 1 to 107 bytes/);
  });

  test('a standby has no kernel and a name of its own', () => {
    const config = standby(...SIMULATED, '--listen', '[::1]:7001');
    expect(config.listen).toEqual({ host: '::1', port: 7001 });
    expect(config.guest.kernel).toBeUndefined();
    expect(config.guest.initrd).toBeUndefined();
    expect(config.nodeId).toMatch(/-standby$/);
  });
});

describe('values', () => {
  test('every flag of a primary', () => {
    const config = primary(
      ...KVM,
      ...['--memory', '1G', '--cmdline', 'ip=10.0.0.2 x=--y', '--mac', 'AA:BB:CC:00:11:22'],
      ...['--pair', 'web', '--node', 'alpha', '--standby', '127.0.0.1:1', '--standby', '[::1]:2'],
      ...['--interval-us', '1000', '--in-flight', '64', '--dirty-budget', '100'],
      ...['--audit-pages', '0', '--no-cut-on-output', '--heartbeat-interval-ms', '5'],
      ...['--suspect-after-ms', '10', '--outbox-bytes-max', '1M', '--console', 'file:/c'],
      ...['--http', '127.0.0.1:0', '--vcpu-cpu', '1', '--status-interval-ms', '100'],
      ...['--vcpus', '8'],
      ...['--test-fault', 'release-early', '--force-claim', '--initrd', 'root.cpio'],
      ...['--cpu', 'baseline'],
    );
    expect(config.guest).toMatchObject({
      memoryBytes: 1024 ** 3,
      initrd: 'root.cpio',
      cpu: 'baseline',
      cmdline: 'ip=10.0.0.2 x=--y',
      mac: 'aa:bb:cc:00:11:22',
      console: { kind: 'file', path: '/c' },
      vcpuCpu: 1,
      vcpus: 8,
      outboxBytesMax: 1024 ** 2,
      faults: ['release-early'],
    });
    expect(config.standbys).toEqual([
      { host: '127.0.0.1', port: 1 },
      { host: '::1', port: 2 },
    ]);
    expect(config.policy).toMatchObject({ intervalUs: 1000, inFlightMax: 64, cutOnOutput: false });
    expect(config.forceClaim).toBe(true);
  });

  test.each([
    ['1M', 1024 ** 2],
    ['1048576', 1024 ** 2],
    ['2048K', 2 * 1024 ** 2],
  ])('memory %s', (text, bytes) => {
    expect(primary(...KVM, '--memory', text).guest.memoryBytes).toBe(bytes);
  });
});

describe('refusals', () => {
  test.each([
    ['--memory', '0'],
    ['--memory', '1023K'],
    ['--memory', '1048577'],
    ['--memory', '64m'],
    ['--memory', ' 64M'],
    ['--memory', '6.4M'],
    ['--memory', '99999G'],
    ['--interval-us', '0'],
    ['--interval-us', '1e3'],
    ['--interval-us', '0x10'],
    ['--in-flight', '65'],
    ['--in-flight', '0'],
    ['--dirty-budget', '70000'],
    ['--audit-pages', '-1'],
    ['--heartbeat-interval-ms', 'fast'],
    ['--suspect-after-ms', '19'],
    ['--outbox-bytes-max', '1K'],
    ['--standby', '127.0.0.1:0'],
    ['--standby', 'nowhere'],
    ['--standby', '127.0.0.1:65536'],
    ['--pair', '../up'],
    ['--pair', ''],
    ['--node', 'a b'],
    ['--tap', 'a/b'],
    ['--tap', 'sixteen-letters-'],
    ['--netns', 'a/b'],
    ['--netns', '..'],
    ['--netns', ''],
    ['--mac', '01:00:00:00:00:01'],
    ['--mac', '00:00:00:00:00:00'],
    ['--mac', '52:54:00:12:34'],
    ['--witness', 'etcd:x'],
    ['--witness', 'etcd:'],
    ['--witness', 'etcd:http://127.0.0.1:1/path'],
    ['--witness', 'etcd:http://user:secret@127.0.0.1:1'],
    ['--witness', 'etcd:http://127.0.0.1:1,'],
    ['--witness', 'etcd:http://127.0.0.1:1,http://127.0.0.1:1'],
    ['--witness', 'etcd:ftp://127.0.0.1:1'],
    ['--witness', 'file:'],
    ['--console', 'tty'],
    ['--console', 'unix:'],
    ['--vcpu-cpu', '-1'],
    ['--vcpus', '0'],
    ['--vcpus', '9'],
    ['--vcpus', '2.0'],
    ['--machine', 'qemu'],
    ['--test-fault', 'none'],
    ['--status-interval-ms', '5'],
    ['--http', '127.0.0.1'],
    ['--http', '0.0.0.0:9100'],
    ['--standby', '192.0.2.7:7001'],
  ])('%s %s', (flag, value) => {
    const base = KVM.filter((_word, at) => {
      const name = KVM[at - (at % 2)];
      return name !== flag;
    });
    const error = refusalOf(() => primary(...base, `${flag}=${value}`));
    expect(error.code).toBe('FT_ERR_CONFIG');
    expect(error.message).toContain(flag);
    expect(error.message).toContain(value.replace('user:secret@', '***@'));
    expect(error.message).not.toContain('secret');
  });

  test('what is missing is asked for by name and reason', () => {
    expect(refusalOf(() => primary('--machine', 'simulated', '--sim-port', '7')).message).toContain(
      '--witness file:DIR|etcd:URL[,URL…]|none is missing',
    );
    expect(refusalOf(() => primary('--witness', 'none')).message).toContain('--tap');
    const words = ['--witness', 'none', '--tap', 't'];
    expect(refusalOf(() => primary(...words)).message).toContain('--kernel PATH is missing');
    expect(refusalOf(() => standby(...SIMULATED)).message).toContain('--listen');
    const noPort = ['--machine', 'simulated', '--witness', 'none'];
    expect(refusalOf(() => primary(...noPort)).message).toContain('--sim-port');
  });

  test('a simulated guest has one processor', () => {
    expect(refusalOf(() => primary(...SIMULATED, '--vcpus', '2')).message).toContain('--vcpus');
    expect(primary(...SIMULATED, '--vcpus', '1').guest.vcpus).toBe(1);
  });

  test('words that are no flags, doubled flags, switches with values, values without', () => {
    expect(refusalOf(() => primary(...KVM, 'go')).message).toContain('"go" is no flag');
    expect(refusalOf(() => primary(...KVM, '--memory', '1M', '--memory', '1M')).message).toContain(
      'given twice',
    );
    expect(refusalOf(() => primary(...KVM, '--force-claim=yes')).message).toContain(
      'without a value',
    );
    expect(refusalOf(() => primary(...KVM, '--memory')).message).toContain('needs a value');
    expect(refusalOf(() => primary(...KVM, '--memroy', '1M')).message).toContain(
      'did you mean --memory?',
    );
    expect(refusalOf(() => standby(...SIMULATED, '--force-claim')).message).toContain(
      'ft-standby has no flag --force-claim',
    );
  });

  test('plaintext off loopback needs --insecure, on both sides', () => {
    const remote = ['--standby', '192.0.2.7:7001'];
    expect(primary(...KVM, ...remote, '--insecure').standbys).toHaveLength(1);
    const listen = ['--listen', '0.0.0.0:7001'];
    expect(refusalOf(() => standby(...SIMULATED, ...listen)).message).toContain('--insecure');
    expect(standby(...SIMULATED, ...listen, '--insecure').listen.host).toBe('0.0.0.0');
  });

  test('a name that only looks like loopback is not loopback', () => {
    const sly = ['--standby', '127.example.org:7001'];
    expect(refusalOf(() => primary(...KVM, ...sly)).message).toContain('--insecure');
  });
});

describe('help', () => {
  test('wins over everything else and names every flag and exit code', () => {
    expect(readPrimaryConfig(['--memory', 'x', '--help']).kind).toBe('help');
    expect(readStandbyConfig(['--version']).kind).toBe('version');
    for (const command of ['ft-primary', 'ft-standby'] as const) {
      const text = helpText(command);
      for (const flag of flagsOf(command)) expect(text).toContain(`--${flag.name}`);
      for (const code of Object.values(ExitCode))
        expect(text).toMatch(new RegExp(`^ +${code}  \\S`, 'm'));
      for (const line of text.split('\n')) expect(line.length).toBeLessThanOrEqual(96);
    }
  });
});
