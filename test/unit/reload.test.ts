/** What a reload takes over, what it leaves, and that an error leaves everything. */
import { liveSettings } from '../../src/cli/live-settings';
import { type LiveFiles, type Reading, Reloader, reloadWords } from '../../src/cli/reloader';
import { FtError } from '../../src/common/errors';
import { readPrimaryConfig } from '../../src/config/config';
import { FLAGS } from '../../src/config/flags';
import type { ReloadOutcome } from '../../src/config/reload';

const BASE = ['--machine', 'simulated', '--sim-port', '7', '--witness', 'none'];

function reading(...words: string[]): Reading {
  const request = readPrimaryConfig([...BASE, ...words]);
  if (request.kind !== 'run') throw new Error('expected a run');
  return request;
}

/** A reloader that reads `next`, and what was done. */
class Rig {
  readonly done: string[] = [];
  next: () => Reading;
  readonly reloader: Reloader;

  constructor(...words: string[]) {
    const first = reading(...words);
    this.next = () => first;
    this.reloader = new Reloader(first.flags, () => this.next());
    const log = { level: 'info' as const };
    const settings = liveSettings(
      {
        node: { change: (change) => void this.done.push(`change ${change.intervalUs}`) },
        redial: (standbys) => void this.done.push(`dial ${standbys.map(({ port }) => port)}`),
      },
      log,
      { set: (intervalMs) => void this.done.push(`status ${intervalMs}`) },
    );
    for (const setting of settings) {
      const apply: typeof setting.apply = (next) => {
        setting.apply(next);
        if (setting.flags.includes('log-level')) this.done.push(`log ${log.level}`);
      };
      this.reloader.addSetting({ ...setting, apply });
    }
  }

  becomes(...words: string[]): void {
    this.next = () => reading(...words);
  }

  reload(): ReloadOutcome {
    const outcome = this.reloader.reload();
    if (outcome instanceof FtError) throw outcome;
    return outcome;
  }
}

function files(rig: Rig, name: string, broken: () => FtError | undefined): LiveFiles {
  return {
    flags: [name],
    read: () => {
      const error = broken();
      if (error !== undefined) throw error;
      return () => void rig.done.push(`read ${name}`);
    },
  };
}

test('each setting that the table calls live has somebody who takes it over', () => {
  const settings = liveSettings(
    { node: { change: () => {} }, redial: () => {} },
    { level: 'info' },
    { set: () => {} },
  );
  const taken = settings.flatMap(({ flags }) => flags);
  const live = FLAGS.filter((flag) => flag.reload === true).map((flag) => flag.name);
  expect([...taken].sort()).toEqual([...live].sort());
});

test('applied, needs a restart, unchanged', () => {
  const rig = new Rig('--pair', 'a', '--interval-us', '500', '--log-level', 'warn');
  rig.becomes('--pair', 'b', '--interval-us', '600', '--log-level', 'warn', '--insecure');
  expect(rig.reload()).toEqual({
    applied: ['interval-us'],
    needsRestart: ['pair', 'insecure'],
    unchanged: ['machine', 'sim-port', 'witness', 'log-level'],
  });
  expect(rig.done).toEqual(['change 600']);
  // What was taken over is as it was the next time; what was not is told of again.
  expect(rig.reload()).toMatchObject({ applied: [], needsRestart: ['pair', 'insecure'] });
  rig.becomes('--pair', 'a', '--interval-us', '600', '--log-level', 'warn');
  expect(rig.reload()).toMatchObject({ applied: [], needsRestart: [] });
  expect(rig.done).toHaveLength(1);
});

test('a key that goes falls back to its default; one that is given as its default is no change', () => {
  const rig = new Rig('--status-interval-ms', '50', '--log-level', 'debug');
  rig.becomes('--interval-us', '400');
  expect(rig.reload()).toMatchObject({
    applied: ['log-level', 'status-interval-ms'],
    needsRestart: [],
  });
  expect(rig.done).toEqual(['log info', 'status undefined']);
});

test('lists: their order counts', () => {
  const rig = new Rig('--standby', '127.0.0.1:1', '--standby', '127.0.0.1:2');
  rig.becomes('--standby', '127.0.0.1:2', '--standby', '127.0.0.1:1');
  expect(rig.reload()).toMatchObject({ applied: ['standby'], needsRestart: [] });
  expect(rig.done).toEqual(['dial 2,1']);
  expect(rig.reload().applied).toEqual([]);
});

test('what cannot be read changes nothing, and the next reload is as good as any', () => {
  const rig = new Rig('--interval-us', '500');
  rig.reloader.addFiles(files(rig, 'tls-cert', () => undefined));
  rig.next = () => {
    throw new FtError('FT_ERR_CONFIG', '/etc/x.yaml:3: it is wrong.');
  };
  expect(rig.reloader.reload()).toMatchObject({ code: 'FT_ERR_CONFIG' });
  expect(rig.done).toEqual([]);
  rig.becomes('--interval-us', '600');
  expect(rig.reload().applied).toEqual(['tls-cert', 'interval-us']);
});

test('files: all are checked before the first thing changes', () => {
  const rig = new Rig('--interval-us', '500');
  let broken: FtError | undefined = new FtError('FT_ERR_HTTP_TOKEN', 'It is empty.');
  rig.reloader.addFiles(files(rig, 'tls-cert', () => undefined));
  rig.reloader.addFiles(files(rig, 'http-token-file', () => broken));
  rig.becomes('--interval-us', '600');
  expect(rig.reloader.reload()).toBe(broken);
  expect(rig.done).toEqual([]);
  broken = undefined;
  expect(rig.reload().applied).toEqual(['tls-cert', 'http-token-file', 'interval-us']);
  expect(rig.done).toEqual(['read tls-cert', 'read http-token-file', 'change 600']);
});

test('the words for the log', () => {
  const none = { applied: [], needsRestart: [], unchanged: ['pair'] };
  expect(reloadWords(none)).toBe('the settings were read again; nothing had changed');
  expect(reloadWords({ ...none, applied: ['a', 'b'], needsRestart: ['c'] })).toBe(
    'the settings were read again; in effect: a, b; changed, but only a restart takes it over: c',
  );
});
