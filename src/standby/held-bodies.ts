/**
 * Room for bodies that are held longer than the turn in which they came: those of large epochs,
 * until their last piece is there. It is kept from epoch to epoch, since fresh memory costs several
 * times what the copy does, and gives the collector work besides.
 */
import { CHUNK_BYTES } from '../wire/frame';

/** A smaller body would waste room, and its own costs little. */
const LARGE_BYTES_MIN = CHUNK_BYTES / 2;
/** An epoch of 4,096 raw pages is 17 bodies. */
const IDLE_MAX = 20;

/** A body that is ours, and the room it lies in when that is to be given back. */
export interface HeldCopy {
  readonly body: Uint8Array;
  readonly room: Buffer | undefined;
}

export class HeldBodies {
  private readonly idle: Buffer[] = [];

  /** Copies `body`. */
  hold(body: Uint8Array): HeldCopy {
    const large = body.length >= LARGE_BYTES_MIN && body.length <= CHUNK_BYTES;
    if (!large) return { body: Buffer.from(body), room: undefined };
    const room = this.idle.pop() ?? Buffer.allocUnsafeSlow(CHUNK_BYTES);
    room.set(body);
    return { body: room.subarray(0, body.length), room };
  }

  /** Nobody looks at the body any more that lies in `room`. */
  release(room: Buffer): void {
    if (this.idle.length < IDLE_MAX) this.idle.push(room);
  }
}
