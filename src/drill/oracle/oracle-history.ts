/**
 * Everything that the clients said and heard, kept whole: the bytes of each request, the bytes of
 * its first answer, when it was first sent and first answered. In slabs, so that recording a request
 * costs two small copies and a history of a million requests never has to be moved.
 */
import { ANSWER_BYTES, At, REQUEST_BYTES } from './oracle-layout';

const SLAB_RECORDS = 4096;
const STRAYS_MAX = 100;
const TIMES_MAX = 20_000;

interface Slab {
  readonly requests: Buffer;
  readonly answers: Buffer;
  readonly sentUs: Float64Array;
  readonly answeredUs: Float64Array;
  readonly attempts: Uint16Array;
}

/** An answer that differs from the first answer to the same request. */
export interface Contradiction {
  readonly index: number;
  readonly answer: Buffer;
  readonly atUs: number;
}

/** An answer to a request that was never made. */
export interface Stray {
  readonly answer: Buffer;
  readonly atUs: number;
}

/** One record, read for judging; offsets point into the slabs, nothing is copied. */
export interface RecordView {
  readonly requests: Buffer;
  readonly requestAt: number;
  readonly answers: Buffer;
  readonly answerAt: number;
  readonly sentUs: number;
  /** 0: never answered. */
  readonly answeredUs: number;
  readonly attempts: number;
}

/** Times are monotonic microseconds of one clock (see monotonicUs). */
export class History {
  readonly contradictions: Contradiction[] = [];
  readonly strays: Stray[] = [];
  strayCount = 0;
  private readonly slabs: Slab[] = [];
  private records = 0;
  private answered = 0;

  /** Requests recorded. */
  get length(): number {
    return this.records;
  }

  /** Requests that have an answer. */
  get answeredCount(): number {
    return this.answered;
  }

  /** Records a request that is about to be sent for the first time. Returns its index. */
  add(request: Buffer, sentUs: number): number {
    const index = this.records++;
    const at = index % SLAB_RECORDS;
    if (at === 0) this.slabs.push(newSlab());
    const slab = this.slab(index);
    request.copy(slab.requests, at * REQUEST_BYTES, 0, REQUEST_BYTES);
    slab.sentUs[at] = sentUs;
    slab.attempts[at] = 1;
    return index;
  }

  /** The same request was sent once more. */
  again(index: number): void {
    const slab = this.slab(index);
    const at = index % SLAB_RECORDS;
    slab.attempts[at] = Math.min(65535, (slab.attempts[at] ?? 0) + 1);
  }

  /** Records an answer to request `index`. A later answer must equal the first, byte for byte. */
  answer(index: number, answer: Buffer, atUs: number): 'first' | 'same' | 'contradiction' {
    const slab = this.slab(index);
    const at = index % SLAB_RECORDS;
    const offset = at * ANSWER_BYTES;
    if ((slab.answeredUs[at] ?? 0) === 0) {
      answer.copy(slab.answers, offset, 0, ANSWER_BYTES);
      slab.answeredUs[at] = atUs;
      this.answered++;
      return 'first';
    }
    if (answer.compare(slab.answers, offset, offset + ANSWER_BYTES) === 0) return 'same';
    this.contradictions.push({ index, answer: Buffer.from(answer), atUs });
    return 'contradiction';
  }

  /** Records an answer that belongs to no request; the first hundred are kept. */
  stray(answer: Buffer, atUs: number): void {
    this.strayCount++;
    if (this.strays.length < STRAYS_MAX) this.strays.push({ answer: Buffer.from(answer), atUs });
  }

  view(index: number): RecordView {
    const slab = this.slab(index);
    const at = index % SLAB_RECORDS;
    return {
      requests: slab.requests,
      requestAt: at * REQUEST_BYTES,
      answers: slab.answers,
      answerAt: at * ANSWER_BYTES,
      sentUs: slab.sentUs[at] ?? 0,
      answeredUs: slab.answeredUs[at] ?? 0,
      attempts: slab.attempts[at] ?? 0,
    };
  }

  /** A u64 of the first answer (see At), exact up to 2^53. */
  answerField(index: number, field: number): bigint {
    const slab = this.slab(index);
    return slab.answers.readBigUInt64LE((index % SLAB_RECORDS) * ANSWER_BYTES + field);
  }

  /** The first answer's sequence number, or 0 without an answer. */
  sequence(index: number): number {
    return Number(this.answerField(index, At.sequence));
  }

  /**
   * [when sent, µs until the first answer or -1] of the requests that were sent in a stretch of time,
   * in their order; the newest TIMES_MAX at most.
   */
  between(fromUs: number, toUs: number): [number, number][] {
    const times: [number, number][] = [];
    for (let index = this.records - 1; index >= 0 && times.length < TIMES_MAX; index--) {
      const slab = this.slab(index);
      const at = index % SLAB_RECORDS;
      const sentUs = slab.sentUs[at] ?? 0;
      if (sentUs < fromUs) break;
      const answeredUs = slab.answeredUs[at] ?? 0;
      if (sentUs <= toUs) times.push([sentUs, answeredUs === 0 ? -1 : answeredUs - sentUs]);
    }
    return times.reverse();
  }

  private slab(index: number): Slab {
    const slab = this.slabs[Math.floor(index / SLAB_RECORDS)];
    if (slab === undefined) throw new RangeError(`there is no record ${index}`);
    return slab;
  }
}

function newSlab(): Slab {
  return {
    requests: Buffer.alloc(SLAB_RECORDS * REQUEST_BYTES),
    answers: Buffer.alloc(SLAB_RECORDS * ANSWER_BYTES),
    sentUs: new Float64Array(SLAB_RECORDS),
    answeredUs: new Float64Array(SLAB_RECORDS),
    attempts: new Uint16Array(SLAB_RECORDS),
  };
}
