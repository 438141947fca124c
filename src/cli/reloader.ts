/**
 * Takes over what changed in the configuration while the node runs: on SIGHUP, by `ftctl reload`, or
 * POST /v1/reload. All or nothing: everything is read and checked before the first thing is changed.
 *
 *   read file ─▶ compare ─▶ check certificates, token ─▶ apply ─▶ { applied, needsRestart, unchanged }
 *       │                        │
 *       └── an FtError: nothing has changed, and the node runs on as it was
 */
import { type FtError, toFtError } from '../common/errors';
import type { PrimaryConfig, StandbyConfig } from '../config/config';
import type { Flags } from '../config/given';
import { changedSettings, type ReloadOutcome, settingsGiven } from '../config/reload';

/** Settings whose changed values somebody takes over. */
export interface LiveSetting {
  readonly flags: readonly string[];
  /** Takes over what `next` says; called when one of the flags changed. */
  apply(next: PrimaryConfig | StandbyConfig): void;
}

/** Files that somebody reads again; settings name their paths. */
export interface LiveFiles {
  readonly flags: readonly string[];
  /**
   * Reads them as they lie there now, and throws the FtError that says what is wrong with them. What it
   * returns takes over what was read, and cannot fail.
   */
  read(): () => void;
}

/** One reading of all sources. */
export interface Reading {
  readonly config: PrimaryConfig | StandbyConfig;
  readonly flags: Flags;
}

export class Reloader {
  private readonly settings: LiveSetting[] = [];
  private readonly files: LiveFiles[] = [];

  /** `read` reads all sources anew, and throws what is wrong with them. */
  constructor(
    private running: Flags,
    private readonly read: () => Reading,
  ) {}

  /** What the node works with now: of what was reloaded the new values, else the first ones. */
  get inEffect(): Flags {
    return this.running;
  }

  /** Whoever takes over settings says so once, at the start. */
  addSetting(setting: LiveSetting): void {
    this.settings.push(setting);
  }

  addFiles(files: LiveFiles): void {
    this.files.push(files);
  }

  /** Never throws. An FtError: nothing has changed. */
  reload(): ReloadOutcome | FtError {
    try {
      return this.takeOver(this.read());
    } catch (thrown) {
      return toFtError(thrown, 'FT_ERR_RELOAD');
    }
  }

  private takeOver({ config, flags }: Reading): ReloadOutcome {
    const read = this.files.map((files) => ({ flags: files.flags, install: files.read() }));
    const changed = new Set(changedSettings(this.running, flags));
    const applied = new Set<string>();
    for (const { flags: names, install } of read) {
      install();
      for (const name of names) if (!changed.has(name)) applied.add(name);
    }
    for (const setting of this.settings) {
      const names = setting.flags.filter((name) => changed.has(name));
      if (names.length === 0) continue;
      setting.apply(config);
      for (const name of names) applied.add(name);
    }
    const needsRestart = [...changed].filter((name) => !applied.has(name));
    const unchanged = settingsGiven(flags).filter(
      (name) => !applied.has(name) && !changed.has(name),
    );
    // What needs a restart runs on as it was, and is told of again the next time.
    this.running = this.running.withSome(applied, flags);
    return { applied: [...applied], needsRestart, unchanged };
  }
}

/** For the log. */
export function reloadWords({ applied, needsRestart }: ReloadOutcome): string {
  const taken = applied.length === 0 ? 'nothing had changed' : `in effect: ${applied.join(', ')}`;
  const rest = `; changed, but only a restart takes it over: ${needsRestart.join(', ')}`;
  return `the settings were read again; ${taken}${needsRestart.length === 0 ? '' : rest}`;
}
