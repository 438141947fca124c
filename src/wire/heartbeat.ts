/**
 * The body of a heartbeat: a number of its own, the number of the newest one heard, and how the other
 * connection of the session stands, as seen from here. Little-endian.
 *
 *   off size field
 *     0   8  sequence   u64, 1 and up (at most 2^53 − 1), counted by each side in each session
 *     8   8  echo       the newest `sequence` of the other side that this side took note of; 0: none
 *    16   8  received   bytes of the replication connection that have arrived here, from its first on
 *    24   8  sent       bytes that were handed to the replication connection here, likewise
 *
 * An echo is a promise (docs/adr/031-lease-on-the-release-path.md), so a standby that may be about
 * to promote echoes nothing new, although it still beats. The two counts promise nothing: they tell a
 * side that hears heartbeats that the other connection brings nothing any more (primary/link-watch.ts).
 */
import { FtError } from '../common/errors';

export const HEARTBEAT_BYTES = 32;

export interface Heartbeat {
  sequence: number;
  echo: number;
  received: number;
  sent: number;
}

/** One of which nothing is known yet. */
export function noHeartbeat(): Heartbeat {
  return { sequence: 0, echo: 0, received: 0, sent: 0 };
}

const TWO_TO_32 = 2 ** 32;

/** Writes the body; returns its length. Allocates nothing. */
export function writeHeartbeat(beat: Heartbeat, body: Buffer): number {
  put(body, beat.sequence, 0);
  put(body, beat.echo, 8);
  put(body, beat.received, 16);
  put(body, beat.sent, 24);
  return HEARTBEAT_BYTES;
}

/** Reads a body into `into`, which is left as it is on an error. Error: FT_ERR_MESSAGE. */
export function readHeartbeat(body: Uint8Array, into: Heartbeat): FtError | undefined {
  if (body.length !== HEARTBEAT_BYTES) {
    const message = `A heartbeat has ${HEARTBEAT_BYTES} bytes, not ${body.length}.`;
    return new FtError('FT_ERR_MESSAGE', message, { bytes: body.length });
  }
  const sequence = take(body, 0);
  const echo = take(body, 8);
  const received = take(body, 16);
  const sent = take(body, 24);
  const exact = Number.isSafeInteger(sequence) && Number.isSafeInteger(echo);
  if (sequence === 0 || !exact || !Number.isSafeInteger(received) || !Number.isSafeInteger(sent)) {
    const message = `A heartbeat is numbered ${sequence} and echoes ${echo}, which cannot be.`;
    return new FtError('FT_ERR_MESSAGE', message, { sequence, echo, received, sent });
  }
  into.sequence = sequence;
  into.echo = echo;
  into.received = received;
  into.sent = sent;
  return undefined;
}

function put(body: Buffer, value: number, at: number): void {
  body.writeUInt32LE(value % TWO_TO_32, at);
  body.writeUInt32LE(Math.floor(value / TWO_TO_32), at + 4);
}

function take(body: Uint8Array, at: number): number {
  return word(body, at) + word(body, at + 4) * TWO_TO_32;
}

function word(body: Uint8Array, at: number): number {
  const [a = 0, b = 0, c = 0, d = 0] = body.subarray(at, at + 4);
  return (a | (b << 8) | (c << 16) | (d << 24)) >>> 0;
}
