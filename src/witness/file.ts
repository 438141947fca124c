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
 * Preparing: while a pair is whole, each side writes and syncs the file of its next claim beforehand.
 * The claim is then the link and one sync of the directory, for which nothing else needs to be known:
 *
 *   draft there, name free ── link ── made ── sync the directory, read the newest ─▶ as below
 *   draft gone (storage not mounted), or another's generation ─────────────────────▶ as below
 *
 *   Exclusive as ever: it is the same link(2) to the same name, and the newest is read after it. No
 *   look before it is needed, since generations are neither left out nor removed, and the draft was
 *   written where `from` was the newest: so if the draft is there to be linked, these are the files
 *   we know, and if the name is free, nobody claimed. (Had somebody removed files by hand, the newest
 *   read afterwards would be another one: lost.)
 *   Durable as ever: when "won" is said, content and inode were synced with the draft and the name is
 *   synced with the directory. The link changes the inode's count once more; file systems that keep a
 *   journal do that in one step with the name, and NFS servers before they answer.
 *   Each draft has a name of its own that its maker alone knows and links. It goes with its maker's
 *   end in order, or else when somebody prepares who can prove that its maker has ended.
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
import { access, link, open, readdir, readFile, stat, unlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { FtError } from '../common/errors';
import { claimantOf, type ProcessIdentity, thisProcess } from './process-identity';
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
/** What follows ".PAIR." in a draft's name. */
const DRAFT_REST = /^[0-9a-f]{16}\.draft$/;

/** A claim's file that is on the disk already, but for its name. */
interface Staged {
  readonly generation: number;
  readonly nodeId: string;
  readonly draft: string;
}

export class FileWitness implements Witness {
  readonly description: string;
  private readonly directory: string;
  private readonly answerMsMax: number;
  private readonly me: ProcessIdentity;
  /** Settles when every question so far has its answer, in time or not. */
  private settled: Promise<void> = Promise.resolve();
  private readonly staged = new Map<string, Staged>();
  private everPrepared = false;
  private closed = false;

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
      if (this.closed) throw new FtError('FT_ERR_WITNESS_CLOSED', 'The witness was let go of.');
      checkName('pair', pair);
      checkName('node', nodeId);
      const sooner = await this.claimStaged(pair, fromGeneration + 1, nodeId);
      if (sooner !== undefined) return sooner;
      const newest = await this.newest(pair);
      const known = newest?.generation ?? 0;
      if (known < fromGeneration) throw behind(this.directory, pair, known, fromGeneration);
      if (known === fromGeneration) await this.link(pair, fromGeneration + 1, nodeId);
      return this.judge(pair, fromGeneration + 1, nodeId);
    });
  }

  prepare(pair: string, fromGeneration: number, nodeId: string): Promise<void> {
    this.everPrepared = true;
    return this.answer(async () => {
      if (this.closed) return;
      checkName('pair', pair);
      checkName('node', nodeId);
      const wanted = fromGeneration + 1;
      const before = this.staged.get(pair);
      if (before?.generation === wanted && before.nodeId === nodeId) return;
      await this.unstage(pair);
      await this.sweep(pair);
      const newest = await this.newest(pair);
      if ((newest?.generation ?? 0) !== fromGeneration) return;
      const draft = this.newDraft(pair);
      const record = encodeRecord(wanted, nodeId, this.me, 'preparedAt');
      // Known from the first byte on: whatever becomes of the rest, it is removed later.
      this.staged.set(pair, { generation: -1, nodeId, draft });
      await writeFile(draft, `${record}\n`, { flag: 'wx', mode: 0o644 });
      await sync(draft);
      this.staged.set(pair, { generation: wanted, nodeId, draft });
    });
  }

  /** Takes what is prepared away; waits for no storage that hangs. */
  async close(): Promise<void> {
    this.closed = true;
    if (!this.everPrepared) return;
    const clean = async (): Promise<void> => {
      for (const pair of [...this.staged.keys()]) await this.unstage(pair);
    };
    await this.answer(clean).catch(ignore);
  }

  /** The claim that was prepared; undefined when none was, or it found no draft to link. */
  private async claimStaged(
    pair: string,
    wanted: number,
    nodeId: string,
  ): Promise<ClaimResult | undefined> {
    const staged = this.staged.get(pair);
    if (staged?.generation !== wanted || staged.nodeId !== nodeId) return undefined;
    this.staged.delete(pair);
    const opening = open(this.directory, constants.O_RDONLY);
    // Whoever waits for it below hears of a failure; nobody may be there yet when it comes.
    opening.catch(ignore);
    try {
      if (!(await linked(staged.draft, this.pathOf(pair, wanted)))) return undefined;
      const directory = await opening;
      const [newest] = await Promise.all([this.newest(pair), directory.sync()]);
      return this.verdict(pair, newest, wanted, nodeId);
    } catch (thrown) {
      if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw thrown;
    } finally {
      // A failover does not wait for this; the next question does.
      const closing = opening.then((directory) => directory.close());
      const rest = Promise.allSettled([closing, unlink(staged.draft)]);
      this.settled = this.settled.then(() => rest).then(ignore);
    }
  }

  private async unstage(pair: string): Promise<void> {
    const staged = this.staged.get(pair);
    if (staged === undefined) return;
    this.staged.delete(pair);
    await unlink(staged.draft).catch(ignore);
  }

  /** Removes what dead processes prepared and could not take away. */
  private async sweep(pair: string): Promise<void> {
    const first = `.${pair}.`;
    for (const name of await readdir(this.directory)) {
      if (!name.startsWith(first) || !DRAFT_REST.test(name.slice(first.length))) continue;
      const draft = path.join(this.directory, name);
      const record = parseRecord(await readFile(draft, 'utf8').catch(() => ''));
      if (record === undefined) continue;
      if ((await claimantOf(record, this.me)) === 'ended') await unlink(draft).catch(ignore);
    }
  }

  /** Who has `wanted`, now that the name is certainly taken? */
  private async judge(pair: string, wanted: number, nodeId: string): Promise<ClaimResult> {
    const verdict = this.verdict(pair, await this.newest(pair), wanted, nodeId);
    if (verdict.outcome === 'won') {
      await Promise.all([sync(this.pathOf(pair, wanted)), sync(this.directory)]);
    }
    return verdict;
  }

  /** "won" is only to be said once name and content are synced. */
  private verdict(
    pair: string,
    newest: StoredRecord | undefined,
    wanted: number,
    nodeId: string,
  ): ClaimResult {
    if (newest === undefined) throw behind(this.directory, pair, 0, wanted);
    const { generation, owner, incarnation } = newest;
    if (generation === wanted && owner === nodeId && incarnation === this.me.incarnation) {
      return { outcome: 'won', generation };
    }
    return { outcome: 'lost', current: ownershipOf(newest) };
  }

  /** Makes the generation's file, with its whole content, unless its name is taken. */
  private async link(pair: string, generation: number, nodeId: string): Promise<void> {
    const draft = this.newDraft(pair);
    const record = encodeRecord(generation, nodeId, this.me);
    await writeFile(draft, `${record}\n`, { flag: 'wx', mode: 0o644 });
    try {
      await linked(draft, this.pathOf(pair, generation));
    } finally {
      // A draft that stays behind is harmless: no name of a generation begins with a dot.
      await unlink(draft).catch(ignore);
    }
  }

  private newDraft(pair: string): string {
    return path.join(this.directory, `.${pair}.${randomBytes(8).toString('hex')}.draft`);
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
   *
   * A question whose caller has given up when its turn comes is not asked any more: after storage
   * that hung for an hour the newest one, on which a guest waits, would stand behind all of them.
   * Its caller was told that the outcome is unknown, and what never begins has no effect, so that
   * stays true. Those that began still end before the next one begins.
   */
  private async answer<T>(ask: () => Promise<T>): Promise<T> {
    let timer: NodeJS.Timeout | undefined;
    const until = performance.now() + this.answerMsMax;
    const turn = this.settled.then(() => {
      if (performance.now() > until) throw silent(this.directory, this.answerMsMax);
      return ask();
    });
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

/** Gives `draft` a second name; false when that is taken. */
async function linked(draft: string, name: string): Promise<boolean> {
  try {
    await link(draft, name);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

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
      'permission, on a file system with hard links that is mounted for writing. If it had that ' +
      'when it started, the storage may have been mounted anew where a confined process may not ' +
      'write: restart this node (docs/security.md).';
    return new FtError('FT_ERR_WITNESS_PERMISSION', text, facts, thrown);
  }
  const todo =
    code === 'ENOENT'
      ? 'Create the directory on storage that both hosts can reach; check that it is mounted.'
      : 'Check the storage.';
  const text = `The witness ${directory} cannot be reached (${message}). ${todo}`;
  return new FtError('FT_ERR_WITNESS_UNREACHABLE', text, facts, thrown);
}
