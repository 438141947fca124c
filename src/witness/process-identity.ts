/**
 * Which process made a claim. A node's name is what people chose, and they may choose the same one
 * for two hosts (cloned machines have one host name, and the default name comes from it). So each
 * record also carries what nobody chooses:
 *
 *   incarnation   16 random hexadecimal digits, drawn for each Witness object, kept in memory alone:
 *                 no restarted process can have it, so nobody takes over a claim by its name
 *   host          a digest of the machine id and, where root can read it, of the board's UUID:
 *                 cloned disks share the first, no two machines share the second
 *   boot          the kernel's random id of this boot
 *   pidNamespace  in which process numbers mean something
 *   pid, started  the process, and its start time in clock ticks after boot, since numbers are used
 *                 again
 *
 * What a process can say about the maker of a record:
 *
 *   incarnation is mine ───────────────────────────────────────────────▶ self
 *   host differs, or is not in the record ─────────────────────────────▶ elsewhere
 *   boot differs: every process of that boot is gone ──────────────────▶ ended
 *   pidNamespace differs: its number means nothing here ───────────────▶ elsewhere
 *   no such process, another start time, or a zombie without threads ──▶ ended
 *   else ──────────────────────────────────────────────────────────────▶ running
 *
 * "Ended" is the only word that lets a node boot a guest in a name's own right, and it is said on
 * proof alone: a guest cannot outlive its process, nor a process its boot. Whatever cannot be proved
 * is "elsewhere", and a person decides.
 */
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, readlinkSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import os from 'node:os';
import type { Claimant } from './witness';

export interface ProcessIdentity {
  readonly incarnation: string;
  /** Hexadecimal digits; the same for every process of a host. */
  readonly host: string;
  /** For people only. */
  readonly hostName: string;
  readonly boot: string;
  readonly pidNamespace: string;
  readonly pid: number;
  /** Clock ticks after boot. */
  readonly started: string;
}

/** This process, with an incarnation of its own for each call. Never throws. */
export function thisProcess(): ProcessIdentity {
  const boot = textOf('/proc/sys/kernel/random/boot_id');
  const machine = textOf('/etc/machine-id');
  const board = textOf('/sys/class/dmi/id/product_uuid');
  // A host without any id of its own is known for this boot alone.
  const known = machine === '' && board === '' ? `boot ${boot}` : `${machine} ${board}`;
  return {
    incarnation: randomBytes(8).toString('hex'),
    host: createHash('sha256').update(`romulus host ${known}`).digest('hex').slice(0, 32),
    hostName: os.hostname().slice(0, 64),
    boot,
    pidNamespace: linkOf('/proc/self/ns/pid'),
    pid: process.pid,
    started: parseStat(textOf('/proc/self/stat'))?.started ?? '',
  };
}

/** What `me` can say about `maker`; see the table above. Never rejects. */
export async function claimantOf(
  maker: Partial<ProcessIdentity>,
  me: ProcessIdentity,
): Promise<Claimant> {
  if (maker.incarnation === me.incarnation) return 'self';
  if (maker.host === undefined || maker.host !== me.host) return 'elsewhere';
  if (!maker.boot || !maker.pid || !maker.started || me.boot === '') return 'elsewhere';
  if (maker.boot !== me.boot) return 'ended';
  if (maker.pidNamespace !== me.pidNamespace) return 'elsewhere';
  return (await hasEnded(maker.pid, maker.started)) ? 'ended' : 'running';
}

/** "host-a, process 4711", as far as it is known. */
export function originOf(maker: Partial<ProcessIdentity>): string {
  const { hostName, pid } = maker;
  if (hostName === undefined) return '';
  return pid === undefined ? hostName : `${hostName}, process ${pid}`;
}

async function hasEnded(pid: number, started: string): Promise<boolean> {
  let text: string;
  try {
    text = await readFile(`/proc/${pid}/stat`, 'utf8');
  } catch {
    // Where /proc hides the processes of others, the file is missing although the process runs.
    return !exists(pid);
  }
  const stat = parseStat(text);
  if (stat === undefined) return false;
  if (stat.started !== started) return true;
  if (stat.state !== 'Z' && stat.state !== 'X') return false;
  // The first thread may be a zombie while others, a vCPU's perhaps, are still on their way out.
  const threads = await readdir(`/proc/${pid}/task`).catch(() => []);
  return threads.length <= 1;
}

function exists(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (thrown) {
    return (thrown as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}

/** "pid (name) S 1 2 …": the name may hold blanks and brackets, so fields are counted behind it. */
function parseStat(text: string): { state: string; started: string } | undefined {
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const [state, started] = [fields[0], fields[19]];
  if (!state || !started || !/^[0-9]+$/.test(started)) return undefined;
  return { state, started };
}

function textOf(file: string): string {
  try {
    return readFileSync(file, 'utf8').trim();
  } catch {
    return '';
  }
}

function linkOf(file: string): string {
  try {
    return readlinkSync(file);
  } catch {
    return '';
  }
}
