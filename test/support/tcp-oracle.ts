/**
 * The judge of numbered messages over one TCP connection, written from docs/beacon.md alone.
 *
 *   record  0 number · 8 value                                                  16 bytes
 *   answer  0 number · 8 sum of all values · 16 bootId · 24 hash of all records  32 bytes
 *
 * Records go out numbered 1, 2, 3 … on one stream, so there is exactly one right answer to each and
 * one right order. A guest that lost, repeated or reordered a record shows it in number, sum or
 * hash; one that was restarted, or that went back in time, cannot know the sum or the hash.
 */

export const TCP_PORT = 7778;
export const RECORD_BYTES = 16;
export const ANSWER_BYTES = 32;

const FNV_OFFSET = 0xcbf29ce484222325n;
const FNV_PRIME = 0x100000001b3n;
const STORIES_MAX = 20;

const u64 = (value: bigint): bigint => BigInt.asUintN(64, value);

function fnv1a(hash: bigint, bytes: Buffer): bigint {
  let result = hash;
  for (const byte of bytes) result = u64((result ^ BigInt(byte)) * FNV_PRIME);
  return result;
}

/** Writes the record with this number; its value follows from number and seed. */
export function writeRecord(into: Buffer, offset: number, number: number, seed: bigint): void {
  const n = BigInt(number);
  into.writeBigUInt64LE(n, offset);
  into.writeBigUInt64LE(u64((n ^ seed) * 0x9e3779b97f4a7c15n), offset + 8);
}

/** What a guest that serves one connection answers; also the reference guest of the tests. */
export class StreamModel {
  private total = 0n;
  private hash: bigint;
  private readonly previous = Buffer.alloc(8);

  constructor(private readonly bootId: bigint) {
    this.hash = bootId;
  }

  /** Serves one record of RECORD_BYTES; the answer's ANSWER_BYTES are written to `into`. */
  serve(record: Buffer, into: Buffer, offset: number): void {
    this.previous.writeBigUInt64LE(this.hash);
    this.hash = fnv1a(fnv1a(FNV_OFFSET, this.previous), record);
    this.total = u64(this.total + record.readBigUInt64LE(8));
    into.writeBigUInt64LE(record.readBigUInt64LE(0), offset);
    into.writeBigUInt64LE(this.total, offset + 8);
    into.writeBigUInt64LE(this.bootId, offset + 16);
    into.writeBigUInt64LE(this.hash, offset + 24);
  }
}

export interface TcpVerdict {
  readonly messages: number;
  /** Messages that have an answer. */
  readonly answered: number;
  readonly lost: number;
  readonly repeated: number;
  readonly outOfOrder: number;
  /** Answers with a wrong sum, hash or boot id, or to a message that was never sent. */
  readonly wrong: number;
  /** The first of these, in words. */
  readonly stories: readonly string[];
}

/** Takes the answers as they come; no two judgements share anything. */
export class TcpJudge {
  private readonly seen: Uint8Array;
  private readonly right: Buffer;
  private readonly record = Buffer.alloc(RECORD_BYTES);
  private model: StreamModel | undefined;
  private modelled = 0;
  private highest = 0;
  private answeredCount = 0;
  private repeated = 0;
  private outOfOrder = 0;
  private wrong = 0;
  private readonly stories: string[] = [];

  /** @param messages how many there will be, numbered from 1; @param seed as in writeRecord */
  constructor(
    private readonly messages: number,
    private readonly seed: bigint,
  ) {
    this.seen = new Uint8Array(messages + 1);
    this.right = Buffer.alloc(messages * ANSWER_BYTES);
  }

  /** Messages that have an answer so far. */
  get answered(): number {
    return this.answeredCount;
  }

  /** The next answer of the stream, ANSWER_BYTES long. */
  take(answer: Buffer): void {
    const wide = answer.readBigUInt64LE(0);
    if (wide < 1n || wide > BigInt(this.messages)) {
      this.wrong++;
      this.tell(`an answer to message ${wide}, which was never sent`);
      return;
    }
    const number = Number(wide);
    if (this.seen[number] === 1) {
      this.repeated++;
      this.tell(`message ${number} was answered again, after ${this.highest}`);
      return;
    }
    this.seen[number] = 1;
    this.answeredCount++;
    if (number < this.highest) {
      this.outOfOrder++;
      this.tell(`message ${number} was answered after ${this.highest}`);
    }
    this.highest = Math.max(this.highest, number);
    this.compare(number, answer);
  }

  /** The judgement, after the last answer. What is not answered by now is lost. */
  finish(): TcpVerdict {
    const lost = this.messages - this.answeredCount;
    if (lost > 0) {
      const first = this.seen.indexOf(0, 1);
      this.tell(`${lost} messages were never answered, the first of them is ${first}`);
    }
    return {
      messages: this.messages,
      answered: this.answeredCount,
      lost,
      repeated: this.repeated,
      outOfOrder: this.outOfOrder,
      wrong: this.wrong,
      stories: this.stories,
    };
  }

  private compare(number: number, answer: Buffer): void {
    // Whoever answers first says who it is; everyone after must be the same.
    this.model ??= new StreamModel(answer.readBigUInt64LE(16));
    while (this.modelled < number) {
      writeRecord(this.record, 0, this.modelled + 1, this.seed);
      this.model.serve(this.record, this.right, this.modelled * ANSWER_BYTES);
      this.modelled++;
    }
    const right = this.right.subarray((number - 1) * ANSWER_BYTES, number * ANSWER_BYTES);
    if (right.equals(answer)) return;
    this.wrong++;
    const fields = [
      ['sum', 8],
      ['boot id', 16],
      ['hash', 24],
    ] as const;
    const differing = fields
      .filter(([, at]) => answer.readBigUInt64LE(at) !== right.readBigUInt64LE(at))
      .map(([name, at]) => `${name} ${hex(answer, at)} instead of ${hex(right, at)}`);
    this.tell(`message ${number} was answered with ${differing.join(', ')}`);
  }

  private tell(story: string): void {
    if (this.stories.length < STORIES_MAX) this.stories.push(story);
  }
}

function hex(bytes: Buffer, at: number): string {
  return bytes.readBigUInt64LE(at).toString(16).padStart(16, '0');
}
