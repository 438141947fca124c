/**
 * A generation's record as the witnesses store it: one JSON object, the same for all of them.
 *
 *   {"generation":2,"owner":"beta","incarnation":"6b1f…","host":"90c4…","hardware":"1ed0…",
 *    "hostName":"host-b","boot":"56cc…","pidNamespace":"pid:[4026531836]","pid":4711,
 *    "started":"123456","claimedAt":"2026-01-01T00:00:00.000Z"}
 *
 * generation, owner and incarnation decide; the rest says who that was (process-identity.ts). A
 * record that was written before its claim says "preparedAt": nobody knew yet when that would be.
 */
import { FtError } from '../common/errors';
import { claimantOf, originOf, type ProcessIdentity } from './process-identity';
import type { GenerationRecord, NewestGeneration } from './witness';

export interface StoredRecord extends Partial<Omit<ProcessIdentity, 'incarnation'>> {
  readonly generation: number;
  readonly owner: string;
  /** Which process of the owner: a restarted node is not the one that claimed. */
  readonly incarnation: string;
}

/** No record is longer; what is longer was not written by this program. */
export const RECORD_BYTES_MAX = 4096;

const NAME = /^[a-zA-Z0-9._-]{1,64}$/;

export function encodeRecord(
  generation: number,
  owner: string,
  me: ProcessIdentity,
  writtenFor: 'claimedAt' | 'preparedAt' = 'claimedAt',
): string {
  return JSON.stringify({ generation, owner, ...me, [writtenFor]: new Date().toISOString() });
}

/** Undefined unless the text is a record of a generation from 1 on. */
export function parseRecord(text: string): StoredRecord | undefined {
  if (text.length > RECORD_BYTES_MAX) return undefined;
  const fields = parseObject(text);
  if (fields === undefined) return undefined;
  const { generation, owner, incarnation, pid } = fields;
  if (typeof generation !== 'number' || !Number.isSafeInteger(generation)) return undefined;
  if (generation < 1 || typeof owner !== 'string' || !NAME.test(owner)) return undefined;
  if (typeof incarnation !== 'string' || !NAME.test(incarnation)) return undefined;
  const record: Record<string, unknown> = { generation, owner, incarnation };
  for (const name of ['host', 'hardware', 'hostName', 'boot', 'pidNamespace', 'started']) {
    const value = fields[name];
    if (typeof value === 'string' && value.length <= 128) record[name] = value;
  }
  if (typeof pid === 'number' && Number.isSafeInteger(pid) && pid > 0) record['pid'] = pid;
  return record as unknown as StoredRecord;
}

/** Undefined unless the text is a JSON object. */
export function parseObject(text: string): Readonly<Record<string, unknown>> | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
  return value as Record<string, unknown>;
}

/** What whoever lost a claim is told. */
export function ownershipOf(record: StoredRecord): GenerationRecord {
  return { generation: record.generation, owner: record.owner };
}

/** The newest record, with what `me` can say about its maker. Never rejects. */
export async function describeNewest(
  record: StoredRecord,
  me: ProcessIdentity,
): Promise<NewestGeneration> {
  const { generation, owner } = record;
  return { generation, owner, claimant: await claimantOf(record, me), origin: originOf(record) };
}

/** Throws FT_ERR_WITNESS_NAME: names become parts of file names and keys. */
export function checkName(what: 'pair' | 'node', name: string): void {
  if (NAME.test(name)) return;
  throw new FtError(
    'FT_ERR_WITNESS_NAME',
    `${JSON.stringify(name.slice(0, 80))} cannot name a ${what}: use 1 to 64 letters, digits, ` +
      'dots, underscores and dashes.',
    { what },
  );
}
