/**
 * Control messages: what the bodies of hello, welcome, refuse, auditMismatch, bye and
 * guestEnd mean. They travel as one MessagePack map each.
 *
 * What arrives is trusted with nothing. Before msgpackr sees a byte, `plain-msgpack.ts` walks the
 * body and lets only plain data through: no extension types (msgpackr would let a peer define
 * record structures with them), bounded depth and count. Then every field is checked by hand, by
 * name. Fields that are not known are ignored, so that a later version may add some.
 */
import { Packr, Unpackr } from 'msgpackr';
import { DISKS_MAX, REGION_MAP_BYTES_MAX } from '../common/disk-regions';
import { FtError } from '../common/errors';
import { allocFrameBuffer } from './buffer-pool';
import type { FrameBuffer } from './frame';
import { bytesListField, Fields, numberRecordField, stringListField } from './message-fields';
import { checkPlainMsgpack } from './plain-msgpack';

export type Channel = 'replication' | 'heartbeat';

/**
 * What both hosts must agree on. The fields are those of the machine interface's
 * MachineDescription, which is assignable to this; the wire has its own so that it depends on
 * nothing but bytes.
 */
export interface HelloMachine {
  readonly kind: 'kvm' | 'simulated';
  readonly memoryBytes: number;
  readonly vcpus: number;
  /** Name → 32-bit word of every CPU feature word that the guest was given. */
  readonly cpuFeatures: Readonly<Record<string, number>>;
  readonly devices: readonly string[];
  readonly disks: readonly HelloDisk[];
  readonly stateVersion: number;
}

/** One disk of the guest. */
export interface HelloDisk {
  readonly bytes: number;
  readonly readOnly: boolean;
  /** Of a read-only image: 32 bits that tell two of them apart; else 0. */
  readonly fingerprint: number;
}

/** The dialling side's first frame on every connection. */
export interface Hello {
  readonly protocolVersion: number;
  /** Name of the pair, [a-zA-Z0-9._-]{1,64}. */
  readonly pair: string;
  readonly nodeId: string;
  readonly channel: Channel;
  /** Random; the replication connection draws it and the heartbeat connection repeats it. */
  readonly session: string;
  readonly machine: HelloMachine;
  /** For each disk the session in which it was last in step with a peer's; "" for none. */
  readonly diskSyncIds: readonly string[];
  /** On a replication connection whose primary noted what changed since an earlier session. */
  readonly catchUp?: CatchUpFrom;
}

/** The image that a returning standby may still have. */
export interface CatchUpFrom {
  /** The session that it comes from. */
  readonly session: string;
  /** The primary knows every page that changed after this epoch of that session. */
  readonly epoch: number;
}

/** The accepting side's answer. */
export interface Welcome {
  readonly nodeId: string;
  /** The session of the hello that is accepted. */
  readonly session: string;
  /**
   * For each disk that was last in step in the session that the hello names: which regions of the
   * standby's image may differ, one bit a region. Nil (here: undefined) for one that must be sent
   * whole. Empty on a heartbeat connection.
   */
  readonly diskMaps: readonly (Uint8Array | undefined)[];
  /**
   * On silence, nobody is promoted here before this long has passed since this side last
   * acknowledged or echoed anything: what the primary's lease is made of.
   */
  readonly suspectAfterMs: number;
  /** The image that the hello asks for is here, of that epoch or a later one: a catchUp frame comes
   * first. */
  readonly catchUp?: boolean;
}

/** Why a connection is refused: the field that differs, both values as text, and a sentence. */
export interface Refuse {
  readonly code: string;
  readonly field: string;
  /** As the refusing side has it. */
  readonly ours: string;
  readonly theirs: string;
  readonly message: string;
}

/** Pages whose audit hash differs on the standby; the frame's epoch says when. */
export interface AuditMismatch {
  readonly gfns: readonly number[];
}

/** The connection ends in order. */
export interface Bye {
  readonly reason: string;
  /** The primary leaves because the guest ended itself, in the midst of a sync. */
  readonly guestEnd?: GuestEnded;
  /** The standby leaves because it runs the guest itself. */
  readonly tookOver?: TookOver;
  /** The standby leaves since it cannot run the guest that was handed over, and owns its generation. */
  readonly gaveUp?: GaveUp;
}

/** The standby's word that it owns a generation in which nobody has run the guest, nor will. */
export interface GaveUp {
  readonly generation: number;
}

/** The standby's word that the guest runs there. */
export interface TookOver {
  /** In which it runs. */
  readonly generation: number;
  /** From what made the standby claim until the guest ran, µs. */
  readonly takeoverUs: number;
}

/** How the guest ended itself; the same fields as the machine interface's GuestEnd. */
export interface GuestEnded {
  readonly kind: 'power-off' | 'reset';
  readonly cause: string;
}

export const AUDIT_GFNS_MAX = 1024;
export const NAME_CHARS_MAX = 64;
export const TEXT_CHARS_MAX = 1024;
export const DEVICES_MAX = 64;
export const CPU_FEATURES_MAX = 512;
/** As --suspect-after-ms takes it. */
export const SUSPECT_AFTER_MS_MAX = 60_000;

const NAME = /^[a-zA-Z0-9._-]{1,64}$/;
/** As NAME, or empty. */
const NAME_OR_NONE = /^[a-zA-Z0-9._-]{0,64}$/;
const CODE = /^FT_ERR_[A-Z0-9_]{1,64}$/;

const packr = new Packr({ useRecords: false, variableMapSize: true });
const unpackr = new Unpackr({ useRecords: false, mapsAsObjects: true, int64AsType: 'number' });

/** True for a name of a pair, a node or a session as it may stand in a message or a file name. */
export function isName(text: string): boolean {
  return NAME.test(text);
}

export type Message = Hello | Welcome | Refuse | AuditMismatch | Bye | GuestEnded;

/** Writes a message as MessagePack into a buffer that has just room for it; `bytes` of body. */
export function packFrame(message: Message): { buffer: FrameBuffer; bytes: number } {
  const packed = packr.pack('diskMaps' in message ? withNil(message) : message);
  const buffer = allocFrameBuffer(packed.length);
  packed.copy(buffer.body);
  return { buffer, bytes: packed.length };
}

/** What is not there travels as nil: undefined has no plain encoding. */
function withNil(welcome: Welcome): object {
  return { ...welcome, diskMaps: welcome.diskMaps.map((map) => map ?? null) };
}

/** Errors: FT_ERR_MESSAGE with the message's name and the field, likewise for all below. */
export function unpackHello(body: Uint8Array): Hello | FtError {
  const fields = open('hello', body);
  if (fields instanceof FtError) return fields;
  const channel = fields.text('channel', /^(replication|heartbeat)$/);
  const hello: Hello = {
    protocolVersion: fields.integer('protocolVersion', 0, 0xffff),
    pair: fields.text('pair', NAME),
    nodeId: fields.text('nodeId', NAME),
    channel: channel === 'heartbeat' ? 'heartbeat' : 'replication',
    session: fields.text('session', NAME),
    machine: machineField(fields),
    diskSyncIds: fields.list('diskSyncIds', DISKS_MAX, 'names or empty strings', (item) =>
      typeof item === 'string' && NAME_OR_NONE.test(item) ? item : undefined,
    ),
  };
  if (hello.diskSyncIds.length !== hello.machine.disks.length) {
    const found = `${hello.diskSyncIds.length} entries`;
    fields.refuse('diskSyncIds', found, `one for each of the ${hello.machine.disks.length} disks`);
  }
  if (!fields.names().includes('catchUp')) return fields.error ?? hello;
  const from = fields.map('catchUp');
  const catchUp = {
    session: from.text('session', NAME),
    epoch: from.integer('epoch', 0, Number.MAX_SAFE_INTEGER),
  };
  return fields.error ?? { ...hello, catchUp };
}

export function unpackWelcome(body: Uint8Array): Welcome | FtError {
  const fields = open('welcome', body);
  if (fields instanceof FtError) return fields;
  const welcome: Welcome = {
    nodeId: fields.text('nodeId', NAME),
    session: fields.text('session', NAME),
    diskMaps: bytesListField(fields, 'diskMaps', DISKS_MAX, REGION_MAP_BYTES_MAX),
    suspectAfterMs: fields.integer('suspectAfterMs', 2, SUSPECT_AFTER_MS_MAX),
  };
  if (!fields.names().includes('catchUp')) return fields.error ?? welcome;
  const catchUp = fields.flag('catchUp');
  return fields.error ?? { ...welcome, catchUp };
}

export function unpackRefuse(body: Uint8Array): Refuse | FtError {
  const fields = open('refuse', body);
  if (fields instanceof FtError) return fields;
  const refuse: Refuse = {
    code: fields.text('code', CODE),
    field: fields.words('field', TEXT_CHARS_MAX),
    ours: fields.words('ours', TEXT_CHARS_MAX),
    theirs: fields.words('theirs', TEXT_CHARS_MAX),
    message: fields.words('message', TEXT_CHARS_MAX),
  };
  return fields.error ?? refuse;
}

export function unpackAuditMismatch(body: Uint8Array): AuditMismatch | FtError {
  const fields = open('auditMismatch', body);
  if (fields instanceof FtError) return fields;
  const gfns: readonly number[] = fields.integerList('gfns', AUDIT_GFNS_MAX, 0xffffffff);
  return fields.error ?? { gfns };
}

export function unpackBye(body: Uint8Array): Bye | FtError {
  const fields = open('bye', body);
  if (fields instanceof FtError) return fields;
  const reason = fields.words('reason', TEXT_CHARS_MAX);
  const names = fields.names();
  const bye = {
    reason,
    ...(names.includes('guestEnd') ? { guestEnd: guestEndFields(fields.map('guestEnd')) } : {}),
    ...(names.includes('tookOver') ? { tookOver: tookOverFields(fields.map('tookOver')) } : {}),
    ...(names.includes('gaveUp') ? { gaveUp: gaveUpFields(fields.map('gaveUp')) } : {}),
  };
  return fields.error ?? bye;
}

function tookOverFields(fields: Fields): TookOver {
  return {
    generation: fields.integer('generation', 1, Number.MAX_SAFE_INTEGER),
    takeoverUs: fields.integer('takeoverUs', 0, Number.MAX_SAFE_INTEGER),
  };
}

function gaveUpFields(fields: Fields): GaveUp {
  return { generation: fields.integer('generation', 1, Number.MAX_SAFE_INTEGER) };
}

export function unpackGuestEnd(body: Uint8Array): GuestEnded | FtError {
  const fields = open('guestEnd', body);
  if (fields instanceof FtError) return fields;
  const ended = guestEndFields(fields);
  return fields.error ?? ended;
}

function guestEndFields(fields: Fields): GuestEnded {
  const kind = fields.text('kind', /^(power-off|reset)$/);
  const cause = fields.words('cause', TEXT_CHARS_MAX);
  return { kind: kind === 'reset' ? 'reset' : 'power-off', cause };
}

function machineField(fields: Fields): HelloMachine {
  const machine = fields.map('machine');
  const kind = machine.text('kind', /^(kvm|simulated)$/);
  return {
    kind: kind === 'simulated' ? 'simulated' : 'kvm',
    memoryBytes: machine.integer('memoryBytes', 0, Number.MAX_SAFE_INTEGER),
    vcpus: machine.integer('vcpus', 0, 0xffff),
    cpuFeatures: numberRecordField(machine, 'cpuFeatures', CPU_FEATURES_MAX),
    devices: stringListField(machine, 'devices', DEVICES_MAX),
    disks: machine.mapList('disks', DISKS_MAX, (disk) => ({
      bytes: disk.integer('bytes', 0, Number.MAX_SAFE_INTEGER),
      readOnly: disk.flag('readOnly'),
      fingerprint: disk.integer('fingerprint', 0, 0xffffffff),
    })),
    stateVersion: machine.integer('stateVersion', 0, 0xffffffff),
  };
}

/** Decodes a body to its fields; an FtError when it is not one map of plain data. */
function open(message: string, body: Uint8Array): Fields | FtError {
  const refused = checkPlainMsgpack(body);
  if (refused !== undefined) return notMsgpack(message, refused);
  let value: unknown;
  try {
    value = unpackr.unpack(body);
  } catch (thrown) {
    return notMsgpack(message, thrown instanceof Error ? thrown.message : String(thrown));
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return notMsgpack(message, 'it is not a map');
  }
  return new Fields(message, value as Record<string, unknown>);
}

function notMsgpack(message: string, why: string): FtError {
  return new FtError(
    'FT_ERR_MESSAGE',
    `The peer's ${message} message cannot be read: ${why}. The connection is closed.`,
    { message, why },
  );
}
