/**
 * The witness as one key for each pair in an etcd cluster:
 *
 *   <prefix>/<pair>/generation  =  {"generation":2,"owner":"beta","incarnation":"…",…}   (record.ts)
 *
 * A claim from g is one transaction, built upon a look at the key at revision r, where it said g:
 *
 *   if   mod_revision(key) = r          (0: the key is not there, and g is 0)
 *   then put key = generation g + 1, owner, incarnation
 *   else get key
 *
 * etcd applies transactions one after the other on a majority of members, and gives each change a
 * revision that no other change has or ever had. So of all claims built upon r at most one takes
 * effect, whoever made them, however often each was sent and in which order they arrive. That is
 * promise 2: a generation is created once, by the one claim that its record names. Looks are
 * linearizable (etcd's default): they never show a state older than a change answered before.
 *
 * A claim without an answer
 *   It may have taken effect, may never, or may do so later: its bytes can wait in a network or in
 *   a stopped etcd for as long as they like. What was said meanwhile ("nobody claimed", on which a
 *   standby resigns and a primary goes on alone) would then become untrue, and a generation would
 *   have an owner who does not run. So before anything is said about a pair that has such a claim,
 *   that claim is made impossible, by a transaction that changes r and nothing else:
 *
 *   if   mod_revision(key) = r  then put key = the very content it has  else get key
 *
 *   Done: the claim had not taken effect, and no longer can, since r never comes back. Not done:
 *   somebody changed the key before, so the claim either shows in the key or can no more take
 *   effect either. Unanswered: nothing is said; the next question begins with it again. That this
 *   fence may itself arrive late does no harm: it then finds another revision, or it changes no
 *   content. Another node's claim built upon r fails by it, is told so, and is built anew upon the
 *   revision that it is shown.
 *
 *              claim sent                 answer
 *   quiet ─────────────────▶ pending(r) ──────────▶ quiet
 *                              ▲    │ no answer: the caller hears "unknown"
 *            no answer ────────┤    ▼
 *                              └─ fence(r), before the next question ── answer ──▶ quiet
 *
 *   What is left is the claim of a process that died right after it. There is nobody to say anything
 *   untrue. The primary that loses such a standby claims the next generation itself, which uses up r;
 *   where the dead one's claim comes first, it is as if that process had died right after it won.
 *
 * What etcd must be for this: one cluster (members of another are refused), which does not forget
 * (a backup that is restored under running nodes shows an older generation: FT_ERR_WITNESS_BEHIND).
 */
import { FtError } from '../common/errors';
import { EtcdCluster, type EtcdUser, type JsonObject } from './etcd-cluster';
import type { TlsFiles } from './etcd-endpoint';
import { unanswered } from './etcd-faults';
import { type ProcessIdentity, thisProcess } from './process-identity';
import {
  checkName,
  describeNewest,
  encodeRecord,
  ownershipOf,
  parseObject,
  parseRecord,
  type StoredRecord,
} from './record';
import type { ClaimResult, NewestGeneration, Witness } from './witness';

export interface EtcdWitnessOptions {
  /** "http://127.0.0.1:2379": members of one cluster, in the order in which they are asked. */
  readonly endpoints: readonly string[];
  /** Where the keys begin; no slash at the end. */
  readonly prefix: string;
  readonly tls?: TlsFiles;
  readonly user?: EtcdUser | undefined;
  /** The pair to look at once at the start, and then every `lookMs`. */
  readonly pair: string;
  /** Past this a question counts as unanswered. */
  readonly answerMsMax?: number;
  readonly lookMs?: number;
  /** The looks find that nobody answers (once, until somebody does). */
  readonly onSilent?: (error: FtError) => void;
  readonly onBack?: () => void;
  /** Who claims; this process if absent. */
  readonly identity?: ProcessIdentity;
}

/** What the key held at a revision. */
interface Seen {
  readonly revision: string;
  /** As stored; undefined when the key is not there. */
  readonly text: string | undefined;
  /** Undefined for a pair that never ran. */
  readonly record: StoredRecord | undefined;
}

const ANSWER_MS_MAX = 2000;
const LOOK_MS = 2000;
/** What a fence puts where there was no key: a pair that still never ran. */
const NEVER_RAN = '{"generation":0}';
const RANGE = '/v3/kv/range';
const TXN = '/v3/kv/txn';

export class EtcdWitness implements Witness {
  readonly description: string;
  private readonly cluster: EtcdCluster;
  private readonly me: ProcessIdentity;
  private readonly answerMsMax: number;
  /** The newest state seen of a pair; good for building a claim upon, never for an answer. */
  private readonly seen = new Map<string, Seen>();
  /** What an unanswered claim of ours was built upon. */
  private readonly pending = new Map<string, Seen>();
  /** One question after the other, so that `pending` is never judged while a claim is under way. */
  private turn: Promise<unknown> = Promise.resolve();
  private timer: NodeJS.Timeout | undefined;
  private looking = false;
  private closed = false;
  private silent = false;

  private constructor(private readonly options: EtcdWitnessOptions) {
    this.description = `etcd:${options.endpoints.join(',')} ${options.prefix}`;
    this.me = options.identity ?? thisProcess();
    this.answerMsMax = options.answerMsMax ?? ANSWER_MS_MAX;
    this.cluster = new EtcdCluster({
      endpoints: options.endpoints,
      tls: options.tls ?? {},
      user: options.user,
      probeKey: this.keyOf(options.pair),
    });
  }

  /**
   * Looks once at every endpoint, so that a wrong address, certificate or password is found at the
   * start and not at the failover. Rejects with FT_ERR_WITNESS_… unless at least one answers and
   * none belongs to another cluster.
   */
  static async open(options: EtcdWitnessOptions): Promise<EtcdWitness> {
    const witness = new EtcdWitness(options);
    try {
      await witness.firstLook();
    } catch (thrown) {
      await witness.close();
      throw thrown;
    }
    witness.timer = setInterval(() => void witness.look(), options.lookMs ?? LOOK_MS).unref();
    return witness;
  }

  current(pair: string): Promise<NewestGeneration | undefined> {
    return this.answer(async (until) => {
      checkName('pair', pair);
      const { record } = await this.fresh(pair, until);
      return record && describeNewest(record, this.me);
    });
  }

  claim(pair: string, fromGeneration: number, nodeId: string): Promise<ClaimResult> {
    return this.answer(async (until) => {
      checkName('pair', pair);
      checkName('node', nodeId);
      const known = this.seen.get(pair);
      const hasBase = known !== undefined && generationOf(known) === fromGeneration;
      let base = hasBase && !this.pending.has(pair) ? known : await this.fresh(pair, until);
      while (generationOf(base) === fromGeneration) {
        const record = encodeRecord(fromGeneration + 1, nodeId, this.me);
        const outcome = await this.exchange(pair, base, record, until);
        if (outcome.done) return { outcome: 'won', generation: fromGeneration + 1 };
        base = outcome.seen;
      }
      return this.judge(pair, base, fromGeneration, nodeId);
    });
  }

  /** Knows the revision to build upon, over a connection that is open and logged in. */
  prepare(pair: string, fromGeneration: number, nodeId: string): Promise<void> {
    return this.answer(async (until) => {
      checkName('pair', pair);
      checkName('node', nodeId);
      const known = this.seen.get(pair);
      const hasBase = known !== undefined && generationOf(known) === fromGeneration;
      if (!hasBase || this.pending.has(pair)) await this.fresh(pair, until);
    });
  }

  close(): Promise<void> {
    this.closed = true;
    clearInterval(this.timer);
    this.cluster.close();
    return Promise.resolve();
  }

  /** Who has the generation after `from`, now that `seen` is certainly no longer it? */
  private judge(pair: string, seen: Seen, from: number, nodeId: string): ClaimResult {
    const { record } = seen;
    if (record === undefined || record.generation < from) {
      throw behind(this.description, pair, generationOf(seen), from);
    }
    const { generation, owner, incarnation } = record;
    if (generation === from + 1 && owner === nodeId && incarnation === this.me.incarnation) {
      return { outcome: 'won', generation };
    }
    return { outcome: 'lost', current: ownershipOf(record) };
  }

  /** What the key holds now, and from now on no claim of ours from before can change it. */
  private async fresh(pair: string, until: number): Promise<Seen> {
    const base = this.pending.get(pair);
    if (base !== undefined) {
      const outcome = await this.exchange(pair, base, base.text ?? NEVER_RAN, until);
      return outcome.seen;
    }
    const answer = await this.cluster.ask(RANGE, { key: encode(this.keyOf(pair)) }, until);
    return this.keep(pair, this.seenIn(pair, answer));
  }

  /**
   * Puts `text` if the key is still what `base` saw. Until there is an answer, it counts as
   * something that may yet take effect.
   */
  private async exchange(
    pair: string,
    base: Seen,
    text: string,
    until: number,
  ): Promise<{ done: boolean; seen: Seen }> {
    const key = encode(this.keyOf(pair));
    this.pending.set(pair, base);
    this.seen.delete(pair);
    const answer = await this.cluster.ask(
      TXN,
      {
        compare: [{ key, target: 'MOD', result: 'EQUAL', mod_revision: base.revision }],
        success: [{ request_put: { key, value: encode(text) } }],
        failure: [{ request_range: { key } }],
      },
      until,
    );
    const done = answer['succeeded'] === true;
    const response = firstOf(answer['responses']);
    const revision = isObject(answer['header']) ? answer['header']['revision'] : undefined;
    const put = response?.['response_put'];
    const range = response?.['response_range'];
    let seen: Seen;
    if (done && isObject(put) && isRevision(revision)) {
      seen = { revision, text, record: parseRecord(text) };
    } else if (!done && isObject(range)) {
      seen = this.seenIn(pair, range);
    } else {
      throw corrupt(this.description, this.keyOf(pair));
    }
    this.pending.delete(pair);
    return { done, seen: this.keep(pair, seen) };
  }

  private keep(pair: string, seen: Seen): Seen {
    this.seen.set(pair, seen);
    return seen;
  }

  /** Reads a range's answer. Throws FT_ERR_WITNESS_CORRUPT. */
  private seenIn(pair: string, range: JsonObject): Seen {
    // What is empty is left out of the JSON: no count means no key, no value an empty one.
    if (range['count'] === undefined && range['kvs'] === undefined) {
      return { revision: '0', text: undefined, record: undefined };
    }
    const { mod_revision: revision, value = '' } = firstOf(range['kvs']) ?? {};
    if (!isRevision(revision) || typeof value !== 'string') {
      throw corrupt(this.description, this.keyOf(pair));
    }
    const text = Buffer.from(value, 'base64').toString('utf8');
    const record = parseRecord(text);
    if (record === undefined && parseObject(text)?.['generation'] !== 0) {
      throw corrupt(this.description, this.keyOf(pair));
    }
    return { revision, text, record };
  }

  private keyOf(pair: string): string {
    return `${this.options.prefix}/${pair}/generation`;
  }

  /** One question at a time; the deadline counts from now, also while others are in front. */
  private answer<T>(ask: (until: number) => Promise<T>): Promise<T> {
    const until = performance.now() + this.answerMsMax;
    const turn = this.turn.then(() => ask(until));
    this.turn = turn.catch(() => undefined);
    return turn;
  }

  // ── looks ──────────────────────────────────────────────────────────────────────────────────────

  private async firstLook(): Promise<void> {
    checkName('pair', this.options.pair);
    const until = performance.now() + this.answerMsMax;
    const key = this.keyOf(this.options.pair);
    const { answers, faults } = await this.cluster.lookRound(encode(key), until);
    if (answers.length === 0 || faults.some((fault) => fault.kind === 'cluster')) {
      throw unanswered(faults);
    }
    for (const answer of answers) this.seenIn(this.options.pair, answer);
  }

  /**
   * Keeps connections, tokens and the newest revision at hand, so that a failover costs one
   * exchange, and tells the operator of a witness that is gone before it is needed.
   */
  private async look(): Promise<void> {
    if (this.looking) return;
    this.looking = true;
    const { pair, onSilent, onBack } = this.options;
    const until = performance.now() + this.answerMsMax;
    const { answers, faults } = await this.cluster.lookRound(encode(this.keyOf(pair)), until);
    this.looking = false;
    if (this.closed) return;
    if (answers.length === 0) {
      if (!this.silent) onSilent?.(unanswered(faults));
      this.silent = true;
      return;
    }
    if (this.silent) onBack?.();
    this.silent = false;
    for (const answer of answers) this.learn(pair, answer);
  }

  /** Takes over what a look saw, unless a question that was asked meanwhile saw more. */
  private learn(pair: string, answer: JsonObject): void {
    if (this.pending.has(pair)) return;
    try {
      const seen = this.seenIn(pair, answer);
      const known = this.seen.get(pair);
      if (known === undefined || BigInt(seen.revision) > BigInt(known.revision)) {
        this.seen.set(pair, seen);
      }
    } catch {
      // A record that makes no sense is said to whoever asks for it.
    }
  }
}

function generationOf(seen: Seen): number {
  return seen.record?.generation ?? 0;
}

function encode(text: string): string {
  return Buffer.from(text, 'utf8').toString('base64');
}

/** The first element, if it is an object in a list. */
function firstOf(value: unknown): JsonObject | undefined {
  const first: unknown = Array.isArray(value) ? value[0] : undefined;
  return isObject(first) ? first : undefined;
}

function isRevision(value: unknown): value is string {
  return typeof value === 'string' && /^[1-9][0-9]{0,18}$/.test(value);
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null;
}

function corrupt(witness: string, key: string): FtError {
  return new FtError(
    'FT_ERR_WITNESS_CORRUPT',
    `The key ${key} at the witness ${witness} makes no sense. Find out which node runs the guest, ` +
      'then remove the key while both nodes are stopped.',
    { witness, key },
  );
}

function behind(witness: string, pair: string, known: number, from: number): FtError {
  return new FtError(
    'FT_ERR_WITNESS_BEHIND',
    `The witness ${witness} knows generation ${known} of pair ${pair} as the newest, and this ` +
      `node has seen ${from}. Is this the right cluster and prefix, or was an old backup restored?`,
    { witness, pair, known, seen: from },
  );
}
