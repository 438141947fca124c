/**
 * The frame: what every message between the two nodes is wrapped in. Little-endian.
 *
 *   off size field
 *     0   4  magic          "RMLS"
 *     4   1  version        3
 *     5   1  type           FrameType
 *     6   2  flags          FrameFlag bits; a bit that is not defined for the type is refused
 *     8   8  generation     u64 (at most 2^53 − 1 here)
 *    16   8  epoch          u64 (likewise); 0 where the type has no epoch
 *    24   4  bodyBytes      length of the body that follows
 *    28   4  rawBytes       length of the body once decompressed; = bodyBytes without LZ4
 *    32   4  bodyCrc        CRC-32C of the body as sent
 *    36   4  headerCrc      CRC-32C of bytes 0…35
 *    40      body
 *
 * Retired type numbers are never reused. Unknown versions and types are refused by name.
 */

export const FRAME_MAGIC = 0x534c4d52; // "RMLS" read as u32 little-endian
export const PROTOCOL_VERSION = 4;
export const FRAME_HEADER_BYTES = 40;

/** Bodies accepted before the handshake is done. */
export const BODY_BYTES_MAX_HANDSHAKE = 64 * 1024;
/** What the side that dialled takes as the answer to its hello: the maps of four disks, and some. */
export const BODY_BYTES_MAX_WELCOME = 160 * 1024;
/** Bodies accepted after it. Encoders split epochs into chunks well below this. */
export const BODY_BYTES_MAX = 8 * 1024 * 1024;
/** What one encoded chunk aims at. */
export const CHUNK_BYTES = 1024 * 1024;

export const FrameType = {
  /** First frame of every connection, from the side that dialled. msgpack Hello. */
  hello: 1,
  /** Accepts. msgpack Welcome. */
  welcome: 2,
  /** Refuses, naming the field. msgpack Refuse. The connection ends. */
  refuse: 3,
  /** A piece of the initial sync. Binary. */
  syncPages: 4,
  /** A piece of an epoch; the piece flagged `last` completes it. Binary. */
  epoch: 5,
  /** Every epoch up to `epoch` is held by the standby. No body. */
  ack: 6,
  /** I am alive; `epoch` is the newest cut or held. Body: heartbeat.ts. Heartbeat connections only. */
  heartbeat: 7,
  /** Audit: these pages differ. msgpack AuditMismatch. */
  auditMismatch: 8,
  /** An orderly end, with the reason. msgpack Bye. */
  bye: 9,
  /** The guest ended itself in `epoch`, which follows. msgpack GuestEnded. */
  guestEnd: 10,
  /** The primary gives up its right to run the guest: `epoch` was its last. No body. */
  handOver: 11,
  /** First frame of a catch-up: the pages that the standby clears, one bit each. Binary. */
  catchUp: 12,
} as const;
export type FrameType = (typeof FrameType)[keyof typeof FrameType];

export const FrameFlag = {
  /** The body is an LZ4 block of rawBytes. */
  lz4: 1,
  /** epoch: the last piece. syncPages: the scan is done. */
  last: 2,
  /** epoch: from this epoch on the image is restorable. */
  base: 4,
} as const;

/** Header fields that the sender chooses; lengths and checksums are filled in by the encoder. */
export interface FrameHeader {
  type: FrameType;
  flags: number;
  generation: number;
  epoch: number;
  /** Only with FrameFlag.lz4. */
  rawBytes?: number;
  /** CRC-32C of the body as sent, from who summed it already; undefined: the encoder does. */
  bodyCrc?: number | undefined;
}

/**
 * A decoded frame. `body` points into a receive buffer and is valid until that is read into again; the
 * frame object itself is used again for the next frame, so keep copies of fields, never the frame.
 * With FrameFlag.lz4 the body is still compressed: see compressor.ts.
 */
export interface Frame {
  type: FrameType;
  flags: number;
  generation: number;
  epoch: number;
  rawBytes: number;
  body: Uint8Array;
}

/** A reusable send buffer: FRAME_HEADER_BYTES of room for the header, then the body. */
export interface FrameBuffer {
  /** Whole buffer, header room included. */
  readonly bytes: Buffer;
  /** The part behind the header room; bodies are written here. */
  readonly body: Buffer;
}

/** CRC-32C as an injected function: the native one on the hot path, the portable one elsewhere. */
export type Checksum = (bytes: Uint8Array) => number;
