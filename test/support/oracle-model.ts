/**
 * A reference guest: serves request bytes as docs/beacon.md says. The tests of the oracle make their
 * true histories with it, and doctor them.
 */
import { BLOCK_BYTES, BlockKind, inspectBlock, makeBlock } from '../../src/drill/oracle/disk-block';
import {
  ANSWER_BYTES,
  At,
  chainHash,
  Op,
  Status,
  stampAnswer,
} from '../../src/drill/oracle/oracle-layout';

/** What a rollback brings back: everything that a guest's memory holds. */
export interface ReferenceState {
  sequence: bigint;
  counter: bigint;
  head: Buffer;
  table: Map<bigint, bigint>;
  answers: Map<string, Buffer>;
  uptimeNs: bigint;
}

export class ReferenceBeacon {
  /** The disk, by block. It is not in memory, so no rollback brings it back. */
  readonly blocks = new Map<bigint, Buffer>();
  private state: ReferenceState;
  private readonly hash = new Uint32Array(2);

  constructor(private readonly bootId: bigint) {
    const head = Buffer.alloc(8);
    head.writeBigUInt64LE(bootId);
    const table = new Map<bigint, bigint>();
    this.state = { sequence: 0n, counter: 0n, head, table, answers: new Map(), uptimeNs: 0n };
  }

  /** A copy of everything, as a checkpoint would hold it. */
  checkpoint(): ReferenceState {
    const { sequence, counter, head, table, answers, uptimeNs } = this.state;
    return {
      sequence,
      counter,
      head: Buffer.from(head),
      table: new Map(table),
      answers: new Map(answers),
      uptimeNs,
    };
  }

  restore(state: ReferenceState): void {
    this.state = state;
  }

  /** Serves one request; a duplicate gets the first answer. The answer is a buffer of its own. */
  serve(request: Buffer): Buffer {
    const name = `${request.readUInt32LE(At.client)}/${request.readUInt32LE(At.requestId)}`;
    const known = this.state.answers.get(name);
    if (known !== undefined) return known;
    const { state } = this;
    state.sequence += 1n;
    state.uptimeNs += 1000n;
    const answer = Buffer.alloc(ANSWER_BYTES);
    stampAnswer(answer, 0);
    answer[At.op] = request[At.op] ?? 0;
    request.copy(answer, At.client, At.client, At.client + 8);
    answer.writeBigUInt64LE(this.bootId, At.bootId);
    answer.writeBigUInt64LE(state.sequence, At.sequence);
    state.head.copy(answer, At.previousHash);
    chainHash(this.hash, state.head, 0, request, 0);
    state.head = Buffer.alloc(8);
    state.head.writeUInt32LE(this.hash[0] ?? 0, 0);
    state.head.writeUInt32LE(this.hash[1] ?? 0, 4);
    state.head.copy(answer, At.hash);
    answer.writeBigUInt64LE(state.uptimeNs, At.uptimeNs);
    this.apply(request, answer);
    state.answers.set(name, answer);
    return answer;
  }

  private apply(request: Buffer, answer: Buffer): void {
    const { state } = this;
    const key = request.readBigUInt64LE(At.a);
    const value = request.readBigUInt64LE(At.b);
    switch (request[At.op]) {
      case Op.incr:
        state.counter += 1n;
        answer.writeBigUInt64LE(state.counter, At.value);
        break;
      case Op.put:
        state.table.set(key, value);
        answer.writeBigUInt64LE(value, At.value);
        break;
      case Op.get: {
        const found = state.table.get(key);
        if (found === undefined) answer.writeUInt16LE(Status.notFound, At.status);
        else answer.writeBigUInt64LE(found, At.value);
        break;
      }
      case Op.diskWrite: {
        const fields = { kind: BlockKind.request, number: key, sequence: value };
        this.blocks.set(key, makeBlock({ ...fields, bootId: this.bootId }));
        answer.writeBigUInt64LE(value, At.value);
        break;
      }
      case Op.diskDiscard:
        this.blocks.delete(key);
        answer.writeBigUInt64LE(value, At.value);
        break;
      case Op.diskRead:
        this.readBlock(key, answer);
        break;
      case Op.stats:
      case Op.load:
        break;
      default:
        answer.writeUInt16LE(Status.badOp, At.status);
    }
  }

  private readBlock(number: bigint, answer: Buffer): void {
    const found = inspectBlock(this.blocks.get(number) ?? Buffer.alloc(BLOCK_BYTES));
    answer.writeBigUInt64LE(found.sequence, At.value);
    answer.writeBigUInt64LE(found.number, At.detail0);
    answer.writeBigUInt64LE(found.bootId, At.detail1);
    answer.writeBigUInt64LE(
      BigInt(['blank', 'whole', 'torn'].indexOf(found.condition)),
      At.detail2,
    );
    answer.writeBigUInt64LE(BigInt(found.kind), At.detail3);
  }
}
