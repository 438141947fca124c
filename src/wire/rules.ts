/**
 * What each frame type may carry: one table for the encoder (which keeps to it) and the decoder
 * (which refuses what does not).
 *
 *   type           flags            epoch  largest body
 *   hello          –                0      64 KiB
 *   welcome        –                0      160 KiB
 *   refuse         –                0      64 KiB
 *   syncPages      lz4 last         any    8 MiB
 *   epoch          lz4 last base    any    8 MiB
 *   ack            –                any    0
 *   heartbeat      –                any    16
 *   auditMismatch  –                any    64 KiB
 *   bye            –                any    64 KiB
 *   guestEnd       –                any    64 KiB
 *   handOver       –                any    0
 *   catchUp        –                0      1 MiB
 */
import { PAGE_MAP_BYTES_MAX } from '../common/page-map';
import {
  BODY_BYTES_MAX,
  BODY_BYTES_MAX_HANDSHAKE,
  BODY_BYTES_MAX_WELCOME,
  FrameFlag,
  FrameType,
} from './frame';
import { HEARTBEAT_BYTES } from './heartbeat';

export interface FrameRule {
  readonly name: string;
  /** The flag bits that are defined for the type. */
  readonly flags: number;
  /** False: the epoch field must be zero. */
  readonly hasEpoch: boolean;
  readonly bodyBytesMax: number;
}

function rule(name: string, flags: number, hasEpoch: boolean, bodyBytesMax: number): FrameRule {
  return { name, flags, hasEpoch, bodyBytesMax };
}

const { lz4, last, base } = FrameFlag;

const RULES: readonly (FrameRule | undefined)[] = (() => {
  const rules: (FrameRule | undefined)[] = new Array(256).fill(undefined);
  rules[FrameType.hello] = rule('hello', 0, false, BODY_BYTES_MAX_HANDSHAKE);
  rules[FrameType.welcome] = rule('welcome', 0, false, BODY_BYTES_MAX_WELCOME);
  rules[FrameType.refuse] = rule('refuse', 0, false, BODY_BYTES_MAX_HANDSHAKE);
  rules[FrameType.syncPages] = rule('syncPages', lz4 | last, true, BODY_BYTES_MAX);
  rules[FrameType.epoch] = rule('epoch', lz4 | last | base, true, BODY_BYTES_MAX);
  rules[FrameType.ack] = rule('ack', 0, true, 0);
  rules[FrameType.heartbeat] = rule('heartbeat', 0, true, HEARTBEAT_BYTES);
  rules[FrameType.auditMismatch] = rule('auditMismatch', 0, true, BODY_BYTES_MAX_HANDSHAKE);
  rules[FrameType.bye] = rule('bye', 0, true, BODY_BYTES_MAX_HANDSHAKE);
  rules[FrameType.guestEnd] = rule('guestEnd', 0, true, BODY_BYTES_MAX_HANDSHAKE);
  rules[FrameType.handOver] = rule('handOver', 0, true, 0);
  rules[FrameType.catchUp] = rule('catchUp', 0, false, PAGE_MAP_BYTES_MAX);
  return rules;
})();

/** The rule of a type number, or undefined for a number that names no type. */
export function ruleOf(type: number): FrameRule | undefined {
  return RULES[type];
}

/** "epoch", or "type 77" for a number that names no type; for messages. */
export function frameTypeName(type: number): string {
  return RULES[type]?.name ?? `type ${type}`;
}
