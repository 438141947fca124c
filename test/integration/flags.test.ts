/** Flags that do not parse: exit code 2, the flag by its name, nothing started. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { type CommandFlags, commandLine, expectRefusal, runCommand, runWords } from './command';

describe('command line', () => {
  let folder = '';
  let primary: CommandFlags = {};
  let standby: CommandFlags = {};

  beforeAll(() => {
    folder = mkdtempSync(path.join(os.tmpdir(), 'ft-flags-'));
    const common = { machine: 'simulated', 'sim-port': '29999', witness: `file:${folder}` };
    primary = common;
    standby = { ...common, listen: '127.0.0.1:0' };
  });

  afterAll(() => {
    expect(readdirSync(folder)).toEqual([]);
    rmSync(folder, { recursive: true });
  });

  const bad: readonly [string, CommandFlags, RegExp][] = [
    ['no witness', { witness: undefined }, /--witness/],
    ['a witness of no known kind', { witness: 'paper:/x' }, /--witness.*file:DIR/],
    ['memory 0', { memory: '0' }, /--memory.*"0"/],
    ['memory with a word', { memory: 'lots' }, /--memory.*"lots"/],
    ['memory that is no whole number of pages', { memory: '1048577' }, /--memory.*4096/],
    ['memory of petabytes', { memory: '4000000G' }, /--memory/],
    ['a negative interval', { 'interval-us': '-5' }, /--interval-us/],
    ['a fractional interval', { 'interval-us': '1.5' }, /--interval-us.*"1.5"/],
    ['an interval of nothing', { 'interval-us': '0' }, /--interval-us/],
    ['too much in flight', { 'in-flight': '1000' }, /--in-flight.*64/],
    ['an address without a port', { standby: '127.0.0.1' }, /--standby.*HOST:PORT/],
    ['a port that does not exist', { standby: '127.0.0.1:99999' }, /--standby/],
    ['plaintext to another host', { standby: '192.0.2.1:7001' }, /--insecure/],
    ['a group address as MAC', { mac: '01:00:5e:00:00:01' }, /--mac/],
    ['a TAP name that is a path', { tap: '../../etc' }, /--tap/],
    ['a pair name that is a path', { pair: '../x' }, /--pair/],
    ['suspicion faster than heartbeats', { 'suspect-after-ms': '5' }, /--suspect-after-ms/],
    ['an unknown processor', { cpu: 'z80' }, /--cpu.*host, baseline, x86-64-v2, x86-64-v3/],
    ['an unknown machine', { machine: 'abacus' }, /--machine.*kvm, simulated/],
    ['an unknown fault', { 'test-fault': 'meteor' }, /--test-fault/],
    ['a misspelt flag', { wittness: 'none' }, /did you mean --witness/],
    ['a flag from elsewhere', { 'enable-kvm': true }, /--enable-kvm/],
  ];

  test.each(bad)('%s is refused', async (_name, change, words) => {
    expectRefusal(await runCommand('ft-primary', { ...primary, ...change }), 2, words);
  });

  test.each([
    ['no address to listen at', { listen: undefined }, /--listen/],
    ['a kernel for a standby', { kernel: '/boot/x' }, /--kernel/],
    ['an initrd for a standby', { initrd: '/boot/x' }, /--initrd/],
    ['plaintext from everywhere', { listen: '0.0.0.0:7001' }, /--insecure/],
  ])('ft-standby: %s is refused', async (_name, change, words) => {
    expectRefusal(await runCommand('ft-standby', { ...standby, ...change }), 2, words);
  });

  test('a word that is no flag, a flag twice, a flag without its value', async () => {
    const words = commandLine('ft-primary', primary);
    expectRefusal(await runWords([...words, 'hello']), 2, /"hello"/);
    expectRefusal(
      await runWords([...words, '--memory', '1M', '--memory', '2M']),
      2,
      /--memory.*twice/,
    );
    expectRefusal(await runWords([...words, '--tap']), 2, /--tap needs a value/);
    expectRefusal(
      await runCommand('ft-primary', { witness: 'none', tap: 'tap0' }),
      2,
      /--kernel PATH is missing/,
    );
  });

  test('--help and --version say so on stdout and end well', async () => {
    for (const command of ['ft-primary', 'ft-standby'] as const) {
      const help = await runCommand(command, { help: true });
      expect(help.code).toBe(0);
      expect(help.text).toMatch(/Usage: ft-/);
      expect(help.text).toMatch(/--interval-us/);
      expect(help.text).toMatch(/Exit codes:/);
      const version = await runCommand(command, { version: true });
      expect(version.code).toBe(0);
      expect(version.text).toMatch(/\d+\.\d+\.\d+/);
    }
  });
});
