/**
 * The witness as a directory that both hosts can reach: on one machine any directory, across hosts
 * shared storage on which link(2) is exclusive for all of them (NFS, cluster file systems).
 *
 *   <pair>.generation-1     {"generation":1,"owner":"alpha","incarnation":"…",…}   (record.ts)
 *   <pair>.generation-2     …
 *
 * One file per generation, never changed and never removed. A claim writes a file of its own aside
 * and gives it the generation's name with link(2): that either makes the name, with its whole
 * content, or fails because somebody was first. The answer "won" is given only after file and
 * directory are synced, so no power cut takes a generation back. (Both are synced together, after
 * the link: a claim stands in the way of every failover, and two syncs one after the other would
 * take twice as long. A power cut before that can leave a file that makes no sense, which is
 * reported as such and never taken for a victory.)
 *
 *   newest < from ── rejects (FT_ERR_WITNESS_BEHIND): these are not the files we know
 *   newest = from ── link ── made, or the name is taken ─┐
 *   newest > from ───────────────────────────────────────┴─▶ read the newest
 *        from + 1, and made by this very object ── sync ─▶ won;  otherwise ─▶ lost
 *
 * The directory is never created here: an empty directory in the place of storage that is not
 * mounted would let both sides win.
 */
import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { access, link, open, readdir, stat, unlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { FtError } from '../common/errors';
import { type ProcessIdentity, thisProcess } from './process-identity';
import {
  checkName,
  describeNewest,
  encodeRecord,
  ownershipOf,
  parseRecord,
  RECORD_BYTES_MAX,
  type StoredRecord,
} from './record';
import type { ClaimResult, NewestGeneration, Witness } from './witness';

export interface FileWitnessOptions {
  /** Past this the storage counts as unreachable and the outcome as unknown. */
  readonly answerMsMax?: number;
  /** Who claims; this process if absent. */
  readonly identity?: ProcessIdentity;
}

const ANSWER_MS_MAX = 2000;

export class FileWitness implements Witness {
  readonly description: string;
  private readonly directory: string;
  private readonly answerMsMax: number;
  private readonly me: ProcessIdentity;
  /** Settles when every question so far has its answer, in time or not. */
  private settled: Promise<void> = Promise.resolve();

  private constructor(directory: string, options: FileWitnessOptions) {
    this.directory = directory;
    this.description = `file:${directory}`;
    this.answerMsMax = options.answerMsMax ?? ANSWER_MS_MAX;
    this.me = options.identity ?? thisProcess();
  }

  /**
   * Looks once whether the directory is there and can be written, so that a wrong path is found at
   * the start and not at the failover. Rejects with FT_ERR_WITNESS_UNREACHABLE or _PERMISSION.
   */
  static async open(directory: string, options: FileWitnessOptions = {}): Promise<FileWitness> {
    const witness = new FileWitness(path.resolve(directory), options);
    await witness.answer(async () => {
      const found = await stat(witness.directory);
      if (!found.isDirectory()) throw notDirectory(witness.directory);
      await access(witness.directory, constants.R_OK | constants.W_OK | constants.X_OK);
    });
    return witness;
  }

  current(pair: string): Promise<NewestGeneration | undefined> {
    return this.answer(async () => {
      const newest = await this.newest(pair);
      return newest && describeNewest(newest, this.me);
    });
  }

  claim(pair: string, fromGeneration: number, nodeId: string): Promise<ClaimResult> {
    return this.answer(async () => {
      checkName('node', nodeId);
      const newest = await this.newest(pair);
      const known = newest?.generation ?? 0;
      if (known < fromGeneration) throw behind(this.directory, pair, known, fromGeneration);
      if (known === fromGeneration) await this.link(pair, fromGeneration + 1, nodeId);
      return this.judge(pair, fromGeneration + 1, nodeId);
    });
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  /** Who has `wanted`, now that the name is certainly taken? */
  private async judge(pair: string, wanted: number, nodeId: string): Promise<ClaimResult> {
    const newest = await this.newest(pair);
    if (newest === undefined) throw behind(this.directory, pair, 0, wanted);
    const { generation, owner, incarnation } = newest;
    if (generation === wanted && owner === nodeId && incarnation === this.me.incarnation) {
      await Promise.all([sync(this.pathOf(pair, wanted)), sync(this.directory)]);
      return { outcome: 'won', generation };
    }
    return { outcome: 'lost', current: ownershipOf(newest) };
  }

  /** Makes the generation's file, with its whole content, unless its name is taken. */
  private async link(pair: string, generation: number, nodeId: string): Promise<void> {
    const draft = path.join(this.directory, `.${pair}.${randomBytes(8).toString('hex')}.draft`);
    const record = encodeRecord(generation, nodeId, this.me);
    await writeFile(draft, `${record}\n`, { flag: 'wx', mode: 0o644 });
    try {
      await link(draft, this.pathOf(pair, generation));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    } finally {
      // A draft that stays behind is harmless: no name of a generation begins with a dot.
      await unlink(draft).catch(() => {});
    }
  }

  private pathOf(pair: string, generation: number): string {
    return path.join(this.directory, `${pair}.generation-${generation}`);
  }

  private async newest(pair: string): Promise<StoredRecord | undefined> {
    checkName('pair', pair);
    const prefix = `${pair}.generation-`;
    let newest = 0;
    for (const name of await readdir(this.directory)) {
      if (!name.startsWith(prefix)) continue;
      const digits = name.slice(prefix.length);
      if (/^[1-9][0-9]{0,14}$/.test(digits)) newest = Math.max(newest, Number(digits));
    }
    return newest === 0 ? undefined : this.read(pair, newest);
  }

  private async read(pair: string, generation: number): Promise<StoredRecord> {
    const file = this.pathOf(pair, generation);
    const handle = await open(file, constants.O_RDONLY);
    try {
      const room = Buffer.alloc(RECORD_BYTES_MAX + 1);
      const { bytesRead } = await handle.read(room, 0, room.length, 0);
      const record = parseRecord(room.toString('utf8', 0, bytesRead));
      if (bytesRead > RECORD_BYTES_MAX || record?.generation !== generation) throw corrupt(file);
      return record;
    } finally {
      await handle.close();
    }
  }

  /**
   * Runs `ask`, turning system errors and silence into FtErrors. One question at a time: an answer
   * that came too late for its caller may still be a claim that lands, so nothing is said about the
   * pair before it has. Until then every further question meets the same silence.
   */
  private async answer<T>(ask: () => Promise<T>): Promise<T> {
    let timer: NodeJS.Timeout | undefined;
    const until = performance.now() + this.answerMsMax;
    const turn = this.settled.then(ask);
    this.settled = turn.then(ignore, ignore);
    const silence = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(() => reject(silent(this.directory, this.answerMsMax)), this.answerMsMax);
    });
    try {
      const answer = await Promise.race([turn, silence]);
      // A process that was stopped meanwhile may see the answer before its own alarm: both are due.
      if (performance.now() > until) throw silent(this.directory, this.answerMsMax);
      return answer;
    } catch (thrown) {
      throw thrown instanceof FtError ? thrown : systemError(this.directory, thrown);
    } finally {
      clearTimeout(timer);
    }
  }
}

function ignore(): void {}

/** Waits until a file or directory is on the disk. */
async function sync(file: string): Promise<void> {
  const handle = await open(file, constants.O_RDONLY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function corrupt(file: string): FtError {
  return new FtError(
    'FT_ERR_WITNESS_CORRUPT',
    `The witness file ${file} makes no sense. Find out which node runs the guest, then write the ` +
      'file anew or remove it while both nodes are stopped.',
    { path: file },
  );
}

function behind(directory: string, pair: string, known: number, from: number): FtError {
  return new FtError(
    'FT_ERR_WITNESS_BEHIND',
    `The witness ${directory} knows generation ${known} of pair ${pair} as the newest, and this ` +
      `node has seen ${from}. Is the right storage mounted there, or was an old copy restored?`,
    { path: directory, pair, known, seen: from },
  );
}

function silent(directory: string, answerMsMax: number): FtError {
  return new FtError(
    'FT_ERR_WITNESS_UNREACHABLE',
    `The witness ${directory} has not answered for ${answerMsMax} ms. Check the storage.`,
    { path: directory, answerMsMax },
  );
}

function notDirectory(directory: string): FtError {
  return new FtError(
    'FT_ERR_WITNESS_UNREACHABLE',
    `The witness ${directory} is not a directory. Name a directory that both hosts can reach.`,
    { path: directory },
  );
}

function systemError(directory: string, thrown: unknown): FtError {
  const { code = 'unknown', message } = thrown as NodeJS.ErrnoException;
  const facts = { path: directory, cause: code };
  if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS') {
    const text =
      `The witness ${directory} does not let this process read and write (${code}). Give it the ` +
      'permission, on a file system with hard links that is mounted for writing.';
    return new FtError('FT_ERR_WITNESS_PERMISSION', text, facts, thrown);
  }
  const todo =
    code === 'ENOENT'
      ? 'Create the directory on storage that both hosts can reach; check that it is mounted.'
      : 'Check the storage.';
  const text = `The witness ${directory} cannot be reached (${message}). ${todo}`;
  return new FtError('FT_ERR_WITNESS_UNREACHABLE', text, facts, thrown);
}
