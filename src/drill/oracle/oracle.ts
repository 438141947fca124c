/**
 * The judge: reads a whole history of requests and answers and says whether one guest, never reset,
 * never rolled back, could have given it. Pure: no sockets, no clock.
 *
 * Every served request has a sequence number, so the history is a total order and the guest can be
 * replayed request by request:
 *
 *   sequence  1        2        3        …     each number known exactly once
 *   chain     bootId ─▶ h1 ────▶ h2 ────▶ …    previousHash is the hash before, hash is recomputed
 *   counter   +1 per incr, by exactly one
 *   table     a get gives the value of the newest put before it
 *   time      uptime never falls; what was sent after an answer came has a higher number
 */
import type { History, RecordView } from './oracle-history';
import { At, chainHash, Op, opName, Status } from './oracle-layout';

/** What can be wrong. The first group means that something acknowledged is gone. */
export const LOSS_KINDS = ['unanswered', 'put-lost', 'sequence-missing', 'not-read-back'] as const;
export const REGRESSION_KINDS = [
  'boot-id-changed',
  'contradiction',
  'stray-answer',
  'wrong-echo',
  'refused',
  'sequence-repeated',
  'chain-broken',
  'hash-wrong',
  'counter-back',
  'counter-jumped',
  'value-invented',
  'order-broken',
  'clock-back',
] as const;
export type ViolationKind = (typeof LOSS_KINDS)[number] | (typeof REGRESSION_KINDS)[number];

export interface Violation {
  readonly kind: ViolationKind;
  readonly client: number;
  readonly requestId: number;
  readonly sequence: number;
  /** One readable story: who asked what and when, what was expected, what came. */
  readonly story: string;
}

export interface Verdict {
  readonly requests: number;
  readonly answered: number;
  readonly unanswered: number;
  /** Violations in which something acknowledged (or asked) is gone. */
  readonly lost: number;
  /** All others. */
  readonly regressed: number;
  readonly sequenceMax: number;
  readonly counter: number;
  readonly keys: number;
  readonly retries: number;
  readonly bootId: string;
  readonly byKind: Readonly<Partial<Record<ViolationKind, number>>>;
  /** The first of each kind, at most `storiesMax` in all. */
  readonly violations: readonly Violation[];
}

export interface JudgeOptions {
  /** Number of the first request of this history; above 1 when others were served before. */
  readonly firstSequence?: number;
  /** Every put must have been read back later (the final reading was done). Default true. */
  readonly readBack?: boolean;
  /** The guest died with both its hosts, so the last requests may have no answer. Default false. */
  readonly guestLost?: boolean;
  readonly storiesMax?: number;
}

/** Judges a history after the clients have come to rest. */
export function judge(history: History, options: JudgeOptions = {}): Verdict {
  return new Judge(history, options).run();
}

interface Written {
  readonly value: bigint;
  readonly sequence: number;
}

class Judge {
  private readonly found: Violation[] = [];
  private readonly byKind: Partial<Record<ViolationKind, number>> = {};
  private readonly hash = new Uint32Array(2);
  private readonly table = new Map<bigint, bigint>();
  private readonly writes = new Map<bigint, Written[]>();
  private readonly unansweredPuts = new Map<bigint, Set<bigint>>();
  private readonly readBackAt = new Map<bigint, number>();
  private readonly originUs: number;
  private readonly first: number;
  private counter = 0n;
  /** A number is missing before here, so a counter may have moved unseen. */
  private counterUncertain: boolean;
  /** Numbers missing that unanswered requests of a lost guest explain. */
  private servedUnheard = 0;
  private retries = 0;
  private lost = 0;
  private regressed = 0;

  constructor(
    private readonly history: History,
    private readonly options: JudgeOptions,
  ) {
    this.originUs = history.length > 0 ? history.view(0).sentUs : 0;
    this.first = options.firstSequence ?? 1;
    this.counterUncertain = this.first > 1;
  }

  run(): Verdict {
    const order = this.collect();
    this.checkAside();
    this.checkOrder(order);
    this.replay(order);
    if (this.options.readBack !== false) this.checkReadBack(order);
    const last = order[order.length - 1];
    const first = order[0];
    return {
      requests: this.history.length,
      answered: this.history.answeredCount,
      unanswered: this.history.length - this.history.answeredCount,
      lost: this.lost,
      regressed: this.regressed,
      sequenceMax: last === undefined ? 0 : this.history.sequence(last),
      counter: Number(this.counter),
      keys: this.writes.size,
      retries: this.retries,
      bootId: first === undefined ? '' : this.history.answerField(first, At.bootId).toString(16),
      byKind: this.byKind,
      violations: this.found,
    };
  }

  /** Indices of the answered records by sequence; reports the unanswered and the malformed. */
  private collect(): number[] {
    const order: number[] = [];
    const sequences = new Float64Array(this.history.length);
    for (let i = 0; i < this.history.length; i++) {
      const record = this.history.view(i);
      this.retries += record.attempts - 1;
      if (record.answeredUs === 0) {
        this.noteUnanswered(i, record);
        continue;
      }
      sequences[i] = this.history.sequence(i);
      order.push(i);
      this.checkEcho(i, record);
    }
    order.sort((x, y) => {
      const bySequence = (sequences[x] ?? 0) - (sequences[y] ?? 0);
      if (bySequence !== 0) return bySequence;
      return this.history.view(x).answeredUs - this.history.view(y).answeredUs;
    });
    return order;
  }

  private noteUnanswered(index: number, record: RecordView): void {
    if (this.options.guestLost !== true) {
      this.add('unanswered', index, `no answer came, though it was sent ${record.attempts} times`);
    }
    if (record.requests[record.requestAt + At.op] !== Op.put) return;
    const key = record.requests.readBigUInt64LE(record.requestAt + At.a);
    const values = this.unansweredPuts.get(key) ?? new Set<bigint>();
    values.add(record.requests.readBigUInt64LE(record.requestAt + At.b));
    this.unansweredPuts.set(key, values);
  }

  /** The answer must speak of this request and must not refuse it. */
  private checkEcho(index: number, record: RecordView): void {
    const { requests, requestAt, answers, answerAt } = record;
    const op = requests[requestAt + At.op];
    if (answers[answerAt + At.op] !== op) {
      this.add('wrong-echo', index, `the answer is for ${opName(answers[answerAt + At.op] ?? 0)}`);
    }
    const status = answers.readUInt16LE(answerAt + At.status);
    if (status !== Status.ok && !(status === Status.notFound && op === Op.get)) {
      this.add('refused', index, `expected status 0, found status ${status}`);
    }
    if ((op !== Op.put && op !== Op.diskWrite) || status !== Status.ok) return;
    const wrote = requests.readBigUInt64LE(requestAt + At.b);
    const echoed = answers.readBigUInt64LE(answerAt + At.value);
    if (wrote !== echoed) {
      this.add('wrong-echo', index, `expected stored value ${wrote}, found ${echoed}`);
    }
  }

  private checkAside(): void {
    for (const { index, answer, atUs } of this.history.contradictions) {
      const sequence = answer.readBigUInt64LE(At.sequence);
      const value = answer.readBigUInt64LE(At.value);
      this.add(
        'contradiction',
        index,
        `another answer to the same request came at ${this.time(atUs)}: sequence ${sequence}, ` +
          `value ${value}`,
      );
    }
    for (const { answer, atUs } of this.history.strays) {
      const client = answer.readUInt32LE(At.client);
      const requestId = answer.readUInt32LE(At.requestId);
      this.push({
        kind: 'stray-answer',
        client,
        requestId,
        sequence: Number(answer.readBigUInt64LE(At.sequence)),
        story: `client ${client} got an answer at ${this.time(atUs)} to request ${requestId}, which it never made`,
      });
    }
  }

  /** Real time: who asked after an answer had come was served after it. */
  private checkOrder(order: readonly number[]): void {
    let earliest = Number.POSITIVE_INFINITY;
    let earliestIndex = -1;
    for (let at = order.length - 1; at >= 0; at--) {
      const index = order[at] ?? 0;
      const { sentUs, answeredUs } = this.history.view(index);
      if (
        sentUs > earliest &&
        this.history.sequence(index) < this.history.sequence(earliestIndex)
      ) {
        this.add(
          'order-broken',
          index,
          `it was sent after sequence ${this.history.sequence(earliestIndex)} had been answered at ` +
            `${this.time(earliest)}, so a higher sequence was expected`,
        );
      }
      if (answeredUs < earliest) {
        earliest = answeredUs;
        earliestIndex = index;
      }
    }
  }

  private replay(order: readonly number[]): void {
    const bootIds = new Set<bigint>();
    let uptimeMax = 0n;
    let expected = this.first;
    /** Hashes of the number before; several where a number was given twice. */
    let heads: bigint[] = [];
    let group: bigint[] = [];
    for (const index of order) {
      const record = this.history.view(index);
      const sequence = this.history.sequence(index);
      if (sequence >= expected) {
        if (sequence > expected) this.noteMissing(index, expected, sequence);
        heads = sequence === expected ? group : [];
        group = [];
        expected = sequence + 1;
      } else {
        this.add(
          'sequence-repeated',
          index,
          `number ${sequence} was given to another request, too`,
        );
      }
      bootIds.add(this.checkBootId(index, bootIds));
      this.checkChain(index, record, sequence, heads);
      group.push(this.history.answerField(index, At.hash));
      const uptime = this.history.answerField(index, At.uptimeNs);
      if (uptime < uptimeMax) {
        this.add(
          'clock-back',
          index,
          `expected uptime of ${uptimeMax} ns or more, found ${uptime} ns`,
        );
      } else uptimeMax = uptime;
      this.replayOp(index, record, sequence);
    }
  }

  private noteMissing(index: number, from: number, to: number): void {
    this.counterUncertain = true;
    // A guest that died may have served what it could not answer any more, and nothing beside that.
    const unanswered = this.history.length - this.history.answeredCount;
    if (this.options.guestLost === true && this.servedUnheard + to - from <= unanswered) {
      this.servedUnheard += to - from;
      return;
    }
    const which = to - from === 1 ? `number ${from}` : `numbers ${from} to ${to - 1}`;
    this.add('sequence-missing', index, `nobody knows ${which}, just before this one`, to - from);
  }

  private checkBootId(index: number, seen: ReadonlySet<bigint>): bigint {
    const bootId = this.history.answerField(index, At.bootId);
    if (seen.size > 0 && !seen.has(bootId)) {
      const others = [...seen].map((id) => id.toString(16)).join(', ');
      this.add(
        'boot-id-changed',
        index,
        `expected boot id ${others}, found ${bootId.toString(16)}`,
      );
    }
    return bootId;
  }

  private checkChain(
    index: number,
    record: RecordView,
    sequence: number,
    heads: readonly bigint[],
  ): void {
    const { requests, requestAt, answers, answerAt } = record;
    const previous = answers.readBigUInt64LE(answerAt + At.previousHash);
    const before = sequence === 1 ? [this.history.answerField(index, At.bootId)] : heads;
    if (before.length > 0 && !before.includes(previous)) {
      const wanted = before.map((hash) => hash.toString(16)).join(' or ');
      this.add(
        'chain-broken',
        index,
        `expected previous hash ${wanted}, found ${previous.toString(16)}`,
      );
    }
    chainHash(this.hash, answers, answerAt + At.previousHash, requests, requestAt);
    const low = answers.readUInt32LE(answerAt + At.hash);
    const high = answers.readUInt32LE(answerAt + At.hash + 4);
    if (low !== this.hash[0] || high !== this.hash[1]) {
      const wanted = ((BigInt(this.hash[1] ?? 0) << 32n) | BigInt(this.hash[0] ?? 0)).toString(16);
      const found = answers.readBigUInt64LE(answerAt + At.hash).toString(16);
      this.add('hash-wrong', index, `expected hash ${wanted} over this request, found ${found}`);
    }
  }

  private replayOp(index: number, record: RecordView, sequence: number): void {
    const { requests, requestAt, answers, answerAt } = record;
    const op = requests[requestAt + At.op];
    const value = answers.readBigUInt64LE(answerAt + At.value);
    if (op === Op.incr) this.replayIncr(index, value);
    if (op !== Op.put && op !== Op.get) return;
    const key = requests.readBigUInt64LE(requestAt + At.a);
    const ok = answers.readUInt16LE(answerAt + At.status) === Status.ok;
    if (op === Op.get) this.replayGet(index, sequence, key, ok ? value : undefined);
    if (op === Op.get || !ok) return;
    const wrote = requests.readBigUInt64LE(requestAt + At.b);
    this.table.set(key, wrote);
    const writes = this.writes.get(key) ?? [];
    writes.push({ value: wrote, sequence });
    this.writes.set(key, writes);
  }

  private replayIncr(index: number, value: bigint): void {
    const expected = this.counter + 1n;
    if (value < expected) {
      this.add('counter-back', index, `expected counter ${expected} or more, found ${value}`);
    } else if (value > expected && !this.counterUncertain) {
      this.add('counter-jumped', index, `expected counter ${expected}, found ${value}`);
    }
    this.counter = value;
    this.counterUncertain = false;
  }

  private replayGet(index: number, sequence: number, key: bigint, value: bigint | undefined): void {
    this.readBackAt.set(key, sequence);
    const expected = this.table.get(key);
    if (value === expected) return;
    if (value !== undefined && this.unansweredPuts.get(key)?.has(value)) {
      this.table.set(key, value);
      return;
    }
    const story = `key ${key}: expected ${expected ?? 'nothing'}, found ${value ?? 'nothing'}`;
    const older = (this.writes.get(key) ?? []).find((write) => write.value === value);
    if (value === undefined) this.add('put-lost', index, `${story}: an acknowledged put is gone`);
    else if (older !== undefined) {
      this.add('put-lost', index, `${story}, which is the older put of sequence ${older.sequence}`);
    } else if (this.first === 1 || expected !== undefined) {
      this.add('value-invented', index, `${story}, which no put before it wrote`);
    }
    if (value === undefined) this.table.delete(key);
    else this.table.set(key, value);
  }

  /** Every key that was ever put was read after its last put. */
  private checkReadBack(order: readonly number[]): void {
    for (const [key, writes] of this.writes) {
      const last = writes[writes.length - 1];
      if (last === undefined || (this.readBackAt.get(key) ?? 0) > last.sequence) continue;
      const index = order.find((candidate) => this.history.sequence(candidate) === last.sequence);
      this.add('not-read-back', index ?? 0, `key ${key} was never read after this put`);
    }
  }

  private add(kind: ViolationKind, index: number, what: string, count = 1): void {
    const { requests, requestAt, sentUs, answeredUs } = this.history.view(index);
    const client = requests.readUInt32LE(requestAt + At.client);
    const requestId = requests.readUInt32LE(requestAt + At.requestId);
    const sequence = answeredUs === 0 ? 0 : this.history.sequence(index);
    const answered =
      answeredUs === 0 ? '' : `, answered ${this.time(answeredUs)} as sequence ${sequence}`;
    const who = `client ${client}, request ${requestId} (${opName(requests[requestAt + At.op] ?? 0)})`;
    const story = `${kind}: ${who}, sent ${this.time(sentUs)}${answered}: ${what}`;
    this.push({ kind, client, requestId, sequence, story }, count);
  }

  private push(violation: Violation, count = 1): void {
    const { kind } = violation;
    const before = this.byKind[kind] ?? 0;
    this.byKind[kind] = before + count;
    if ((LOSS_KINDS as readonly string[]).includes(kind)) this.lost += count;
    else this.regressed += count;
    const full = this.found.length >= (this.options.storiesMax ?? 50);
    if (!full || before === 0) this.found.push(violation);
  }

  private time(us: number): string {
    return `${((us - this.originUs) / 1e6).toFixed(6)} s`;
  }
}
