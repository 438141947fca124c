/** ftctl's words: reading them, help, status texts, screens of any size, completion. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import { completionScript } from '../../src/cli/ctl/completion';
import { configText } from '../../src/cli/ctl/config';
import { EscapeReader } from '../../src/cli/ctl/escape';
import { eventLine } from '../../src/cli/ctl/events';
import { ctlCommandHelp, ctlHelp } from '../../src/cli/ctl/help-text';
import { ctlFlags, readCtlWords } from '../../src/cli/ctl/read-words';
import { reloadText } from '../../src/cli/ctl/reload';
import { isSo } from '../../src/cli/ctl/status';
import { statusText } from '../../src/cli/ctl/status-text';
import { CTL_COMMANDS } from '../../src/cli/ctl/table';
import { bar, bytes, duration, lookOf, micros, render, spark } from '../../src/cli/ctl/terminal';
import { type WatchView, watchFrame, watchLine } from '../../src/cli/ctl/watch-frame';

const read = (...words: string[]) => readCtlWords(CTL_COMMANDS, words);

describe('the words of ftctl', () => {
  test('--control stands anywhere; the environment names its default', () => {
    const call = (words: string[], control?: string) => {
      const request = readCtlWords(CTL_COMMANDS, words, control);
      if (request.kind !== 'run') throw new Error('a command was given');
      return request.call.control;
    };
    expect(call(['--control', '/a', 'status'])).toBe('/a');
    expect(call(['status', '--control', '/a'])).toBe('/a');
    expect(call(['status'], '/e')).toBe('/e');
    expect(call(['status', '--control=/a'], '/e')).toBe('/a');
    expect(call(['status'])).toBe('/run/romulus/control.sock');
  });

  test('a command of two words, its operands and its flags', () => {
    expect(read('pki', 'init', '/tmp/x', '--pair', 'web')).toMatchObject({
      kind: 'run',
      command: { name: 'pki init' },
      call: { operands: ['/tmp/x'] },
    });
    expect(() => read('pki')).toThrow(/"pki" is none; the commands of ftctl are pki init/);
  });

  test.each([
    [['dance'], /"dance" is none/],
    [[], /No command is given/],
    [['status', 'now'], /one word too many/],
    [['status', '--force'], /has no flag --force/],
    [['status', '--wait', 'happy'], /--wait is "happy"/],
    [['status', '--timeout', '1e9'], /--timeout is "1e9"/],
    [['completion'], /needs SHELL/],
    [['completion', 'csh'], /must be bash, zsh, fish/],
    [['completion', 'bash', '--control', '/x'], /has no flag --control/],
  ])('%j is refused', (words, message) => {
    expect(() => read(...words)).toThrow(message);
  });

  test('flags of the same name take a value in all commands, or in none', () => {
    const seen = new Map<string, boolean>();
    for (const command of CTL_COMMANDS) {
      for (const { name, value } of ctlFlags(command)) {
        expect(seen.get(name) ?? value !== undefined).toBe(value !== undefined);
        seen.set(name, value !== undefined);
      }
    }
  });

  test('help names every command, flag, code and example, in lines for a terminal', () => {
    const help = ctlHelp(CTL_COMMANDS);
    for (const command of CTL_COMMANDS) {
      expect(help).toContain(`  ${command.name} `);
      const own = ctlCommandHelp(command);
      for (const { name } of ctlFlags(command)) expect(own).toContain(`--${name}`);
      for (const [line] of command.examples) expect(own).toContain(`ftctl ${line}`);
      expect(own).toMatch(/Exit codes:.* 70 /s);
      for (const line of own.split('\n')) expect(line.length).toBeLessThanOrEqual(100);
      expect(read(...command.name.split(' '), '--help')).toMatchObject({ kind: 'help', command });
      expect(read('help', ...command.name.split(' '))).toMatchObject({ kind: 'help', command });
    }
    expect(help).toMatch(/ROMULUS_CONTROL.*NO_COLOR.*Files:/s);
  });
});

const PRIMARY = {
  ...{ role: 'primary', state: 'protected', node: 'alpha', pair: 'web', life: 1, generation: 3 },
  ...{ protected: true, why: '', peer: 'beta', peerAddress: '10.0.0.2:7001', pid: 12_345 },
  ...{ epochCut: 1_234_567, epochCommitted: 1_234_566, inFlight: 1, guestHalted: '' },
  ...{ epochsPerSecond: 2481.4, pauseUsP50: 45, pauseUsP99: 91.2, pauseUsMax: 1500 },
  ...{ ackUsP50: 180, ackUsP99: 420, ackUsMax: 9000, outputDelayUsP50: 200 },
  ...{ dirtyPagesPerEpoch: 17.4, wireBytesPerSecond: 12_345_678, rawBytesPerSecond: 170_000_000 },
  ...{ outboxFrames: 2, outboxBytes: 3000, eventLoopUsMax: 800, auditMismatches: 0 },
};
const SYNCING = {
  ...PRIMARY,
  ...{ state: 'syncing', protected: false, syncProgress: 0.45, syncBytesTotal: 2 ** 31 },
  ...{ syncBytesLeft: 2 ** 30, syncElapsedMs: 10_000, syncLeftMs: 12_200 },
  why: 'runs the guest, not protected yet: a standby is being sent a copy (standby beta joined)',
};
const STANDBY = {
  ...{ role: 'standby', state: 'ready', node: 'beta', pair: 'web', life: 2, generation: 3 },
  ...{ protected: true, why: '', epochHeld: 99, epochApplied: 98, pagesApplied: 1e6 },
  ...{ diskBacklogBytes: 4096, diskRegionsMarked: 0, diskErrors: 1 },
};

describe('status for people', () => {
  test('a protected primary', () => {
    const text = statusText(PRIMARY);
    expect(text).toMatch(/^alpha \(primary, protected\) runs the guest, protected: /);
    expect(text).toMatch(/other side +beta at 10\.0\.0\.2:7001\n/);
    expect(text).toMatch(/epoch cut +1,234,567\n/);
    expect(text).toMatch(/process +12345\n/);
    expect(text).not.toMatch(/why|sync/);
  });

  test('a sync has a bar, a rate and an estimate; an unprotected node says why', () => {
    const text = statusText(SYNCING);
    expect(text).toContain('[#############-----------------]  45 %, 1.0 GiB of 2.0 GiB left, ');
    expect(text).toContain('102 MiB/s, about 12 s');
    expect(text).toMatch(/why +standby beta joined\n/);
    const begun: Record<string, unknown> = { ...SYNCING, syncProgress: 0.001 };
    delete begun['syncLeftMs'];
    expect(statusText(begun)).toContain('just begun');
  });

  test('a peer’s words cannot steer the terminal', () => {
    const why = 'runs the guest, UNPROTECTED: no standby has joined (\u001b[2Jgone\n)';
    const text = statusText({ ...PRIMARY, state: 'solo', protected: false, why });
    expect(text).toContain('\\u001b[2Jgone\\u000a');
    expect(text).not.toContain('\u001b');
  });

  test('what --wait waits for', () => {
    expect(isSo(PRIMARY, 'protected')).toBe(true);
    expect(isSo(SYNCING, 'protected')).toBe(false);
    expect(isSo(STANDBY, 'ready')).toBe(true);
    expect(isSo(PRIMARY, 'ready')).toBe(false);
    expect(isSo(SYNCING, 'primary')).toBe(true);
    expect(isSo(SYNCING, 'standby')).toBe(false);
  });

  test('events, settings and a reload', () => {
    const event = {
      ...{ at: '2026-01-02T03:04:05.678Z', level: 'warn', kind: 'link', text: 'lost' },
      facts: { cause: 'no word', n: 3, event: 'link' },
    };
    const plain = render(eventLine(event), 500, { colour: false, unicode: true });
    expect(plain).toBe('2026-01-02T03:04:05.678Z warn  link       lost cause="no word" n=3');
    const settings = {
      node: { value: 'a', from: '--node' },
      disk: { value: ['x', 'y'], from: 'f:2' },
    };
    expect(configText({ settings: { ...settings, tap: { value: null, from: 'default' } } })).toBe(
      'node  a    # --node\ndisk  x y  # f:2\ntap   -    # default\n',
    );
    expect(reloadText({ applied: ['log-level'], needsRestart: ['memory'] })).toBe(
      'Applied: log-level.\nChanged, and needs a restart of the node: memory.\n',
    );
    expect(reloadText({ applied: [], needsRestart: [] })).toBe('Nothing to apply.\n');
  });
});

describe('figures', () => {
  test('sizes, times, bars', () => {
    expect([0, 1023, 1024, 1536, 123_456_789].map(bytes)).toEqual([
      '0 B',
      '1023 B',
      '1.0 KiB',
      '1.5 KiB',
      '118 MiB',
    ]);
    expect([0, 999, 1250, 12_500, 2_100_000].map(micros)).toEqual([
      '0 µs',
      '999 µs',
      '1.25 ms',
      '12.5 ms',
      '2.1 s',
    ]);
    expect([400, 59_000, 200_000, 7_500_000].map(duration)).toEqual([
      '0.4 s',
      '59 s',
      '3 min 20 s',
      '2 h 5 min',
    ]);
    expect([-1, 0, 0.5, 1, 9].map((done) => bar(done, 4))).toEqual([
      '[----]',
      '[----]',
      '[##--]',
      '[####]',
      '[####]',
    ]);
    expect(spark([0, 1, 2, 4], 3, false)).toBe('259');
    expect(spark([], 10, true)).toBe('');
  });

  test('colour only where it is wanted', () => {
    const tty = { isTTY: true };
    const utf8 = { LANG: 'C.UTF-8', TERM: 'xterm' };
    expect(lookOf(tty, utf8)).toEqual({ colour: true, unicode: true });
    expect(lookOf(tty, { ...utf8, NO_COLOR: '1' }).colour).toBe(false);
    expect(lookOf(tty, { ...utf8, TERM: 'dumb' }).colour).toBe(false);
    expect(lookOf({}, utf8).colour).toBe(false);
    expect(lookOf(tty, { ...utf8, LC_ALL: 'C' }).unicode).toBe(false);
  });
});

describe('the screen of ftctl watch', () => {
  const event = (n: number) => ({
    ...{ seq: n, at: '2026-01-02T03:04:05.678Z', level: n % 7 === 0 ? 'error' : 'info' },
    text: `event ${n} → \u001b[31m${'long words '.repeat(20)}`,
  });
  const view = (sample: WatchView['sample']): WatchView => {
    const events = Array.from({ length: 40 }, (_, n) => event(n + 1));
    const history = Array.from({ length: 120 }, (_, n) => n * 20);
    return { sample, history, events, note: '', clock: '19:20:31' };
  };
  const samples = { PRIMARY, SYNCING, STANDBY, none: undefined };
  const sizes = [
    [80, 24],
    [40, 12],
    [200, 60],
    [20, 5],
    [1, 1],
  ] as const;

  test.each(Object.keys(samples))('%s fits every size, with colour and without', (name) => {
    const sample = samples[name as keyof typeof samples];
    for (const [columns, rows] of sizes) {
      for (const unicode of [true, false]) {
        const plain = watchFrame(view(sample), columns, rows, { colour: false, unicode });
        expect(plain.length).toBe(rows);
        for (const line of plain) {
          expect([...line].length).toBeLessThanOrEqual(columns);
          expect(line).not.toMatch(/\p{Cc}/u);
          if (!unicode) expect(line).toMatch(/^[\x20-\x7e]*$/);
        }
        const coloured = watchFrame(view(sample), columns, rows, { colour: true, unicode });
        const bare = coloured.map((line) => stripVTControlCharacters(line));
        expect(bare).toEqual(plain);
      }
    }
  });

  test('80x24 has the state, the figures and the newest events', () => {
    const text = watchFrame(view(PRIMARY), 80, 24, { colour: false, unicode: true }).join('\n');
    expect(text).toMatch(/^romulus {2}pair web, node alpha {2,}19:20:31\n/);
    expect(text).toContain('PRIMARY  PROTECTED  generation 3, life 1');
    expect(text).toMatch(/epochs\/s +2,481 +[▁-█]{56}\n/);
    expect(text).toMatch(/pause +p50 45 µs +p99 91 µs +max 1\.50 ms/);
    expect(text).toContain('11.8 MiB/s sent for 162 MiB/s of changed pages');
    expect(text).toMatch(/03:04:05 event 40 → /);
    expect(text).toMatch(/q leaves$/);
  });

  test('a low screen keeps the state; a sync has its bar; trouble is said', () => {
    const low = watchFrame(view(STANDBY), 80, 6, { colour: false, unicode: true });
    expect(low.slice(0, 3).join('\n')).toMatch(/STANDBY {2}READY.*\nholds a copy/s);
    const sync = watchFrame(view(SYNCING), 80, 24, { colour: false, unicode: true }).join('\n');
    expect(sync).toContain('sync           [####------]  45 %, 1.0 GiB of 2.0 GiB left, 102 MiB/s');
    const disks = watchFrame(view(STANDBY), 80, 24, { colour: false, unicode: true }).join('\n');
    expect(disks).toContain('1 ERRORS');
    const note = 'the node does not answer any more; trying again';
    const gone = watchFrame({ ...view(PRIMARY), note }, 80, 24, { colour: false, unicode: true });
    expect(gone.join('\n')).toContain(note);
  });

  test('without a terminal: a line', () => {
    expect(watchLine(view(PRIMARY))).toBe(
      '19:20:31 alpha primary protected, generation 3, 2,481 epochs/s, pause p99 91 µs, ' +
        'output delay p99 0 µs',
    );
    expect(watchLine({ ...view(undefined), note: 'gone' })).toBe('19:20:31 gone');
  });
});

describe('the escape of the console', () => {
  const taken = (...pieces: string[]): string => {
    const reader = new EscapeReader();
    return pieces
      .map((piece) => {
        const { bytes: typed, leave } = reader.take(Buffer.from(piece, 'latin1'));
        return `${typed.toString('latin1')}${leave ? '<left>' : ''}`;
      })
      .join('|');
  };

  test.each([
    [['ls\n'], 'ls\n'],
    [['a\u0001xb'], 'a<left>'],
    [['\u0001', 'x'], '|<left>'],
    [['\u0001a\u0001\u0001'], '\u0001\u0001'],
    [['\u0001qz'], 'z'],
    [['\u0003x'], '\u0003x'],
  ])('%j', (pieces, wanted) => {
    expect(taken(...pieces)).toBe(wanted);
  });
});

describe('shell completion', () => {
  let folder = '';
  beforeAll(() => {
    folder = mkdtempSync(path.join(os.tmpdir(), 'ft-completion-'));
    writeFileSync(path.join(folder, 'ftctl.bash'), completionScript('bash', CTL_COMMANDS));
    writeFileSync(path.join(folder, 'some.sock'), '');
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  /** What bash offers for the last of these words. */
  const offered = (...words: string[]): string[] => {
    const script = `set -u; source ./ftctl.bash; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _ftctl; printf '%s\\n' "\${COMPREPLY[@]-}"`;
    const run = spawnSync('bash', ['-c', script, 'bash', 'ftctl', ...words], {
      cwd: folder,
      encoding: 'utf8',
    });
    expect(run.stderr).toBe('');
    return run.stdout.split('\n').filter((word) => word !== '');
  };

  test('bash reads the script without a word of complaint', () => {
    const run = spawnSync('bash', ['-n', path.join(folder, 'ftctl.bash')], { encoding: 'utf8' });
    expect(run).toMatchObject({ status: 0, stderr: '' });
  });

  test('bash offers commands, flags, values and files', () => {
    expect(offered('')).toEqual(expect.arrayContaining(['status', 'pki', 'help', '--control']));
    expect(offered('s')).toEqual(['status', 'switchover']);
    expect(offered('status', '--w')).toEqual(['--wait']);
    expect(offered('status', '--wait', '')).toEqual(['protected', 'ready', 'primary', 'standby']);
    expect(offered('--control', 'so')).toEqual(['some.sock']);
    expect(offered('--control', 'some.sock', 'dr')).toEqual(['drain']);
    expect(offered('--control', 'some.sock', 'drain', '--f')).toEqual(['--force']);
    expect(offered('pki', '')).toEqual(expect.arrayContaining(['init', 'node']));
    expect(offered('pki', 'init', 'so')).toEqual(['some.sock']);
    expect(offered('pki', 'init', '--pa')).toEqual(['--pair']);
    expect(offered('completion', '')).toEqual(expect.arrayContaining(['bash', 'zsh', 'fish']));
    expect(offered('help', 'wa')).toEqual(['watch']);
    expect(offered('nonsense', '')).toEqual([]);
  });

  test('zsh and fish know every command and every flag', () => {
    for (const shell of ['zsh', 'fish'] as const) {
      const script = completionScript(shell, CTL_COMMANDS);
      for (const command of CTL_COMMANDS) {
        for (const word of command.name.split(' '))
          expect(script).toMatch(new RegExp(`\\b${word}\\b`));
        for (const { name } of ctlFlags(command)) {
          expect(script).toContain(shell === 'zsh' ? `--${name}` : `-l ${name}`);
        }
      }
      // Quotes come in pairs, but for those that fish has escaped.
      const quotes = script.replaceAll("\\'", '').split("'").length - 1;
      expect(quotes % 2).toBe(0);
    }
  });
});
