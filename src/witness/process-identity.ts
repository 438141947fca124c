/**
 * Which process made a claim. A node's name is what people chose, and they may choose the same one
 * for two hosts (cloned machines have one host name, and the default name comes from it). So each
 * record also carries what nobody chooses:
 *
 *   incarnation   16 random hexadecimal digits, drawn for each Witness object, kept in memory alone:
 *                 no restarted process can have it, so nobody takes over a claim by its name
 *   host          a digest of the machine id and, where root can read it, of the board's UUID
 *   hardware      a digest of what is no copy on a cloned disk: the board's UUID and the addresses
 *                 of the hardware network cards; empty where neither is known. Unlike the host's,
 *                 it may change while the host runs (a card is plugged in, or given to a network
 *                 namespace), so it is asked for only where host alone proves nothing
 *   boot          the kernel's random id of this boot
 *   pidNamespace  in which process numbers mean something
 *   pid, started  the process, and its start time in clock ticks after boot, since numbers are used
 *                 again
 *
 * What a process can say about the maker of a record:
 *
 *   incarnation is mine ───────────────────────────────────────────────▶ self
 *   host differs, or is not in the record ─────────────────────────────▶ elsewhere
 *   boot differs, and hardware differs or is not known on both sides:
 *   perhaps a machine with a copy of this disk, and its guest runs ────▶ elsewhere
 *   boot differs else: every process of that boot is gone ─────────────▶ ended
 *   pidNamespace differs: its number means nothing here ───────────────▶ elsewhere
 *   no such process, another start time, or a zombie without threads ──▶ ended
 *   else ──────────────────────────────────────────────────────────────▶ running
 *
 * "Ended" is the only word that lets a node boot a guest in a name's own right, and it is said on
 * proof alone: a guest cannot outlive its process, nor a process its boot. Whatever cannot be proved
 * is "elsewhere", and a person decides. One boot needs no hardware: its id is random, and no other
 * machine has it.
 */
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import type { Claimant } from './witness';

export interface ProcessIdentity {
  readonly incarnation: string;
  /** Hexadecimal digits; the same for every process of a host. */
  readonly host: string;
  /** Hexadecimal digits; empty where nothing tells this machine from one with a copy of its disk. */
  readonly hardware: string;
  /** For people only. */
  readonly hostName: string;
  readonly boot: string;
  readonly pidNamespace: string;
  readonly pid: number;
  /** Clock ticks after boot. */
  readonly started: string;
}

/** Where the kernel tells of the hardware. */
const SYSFS = '/sys';

/** This process, with an incarnation of its own for each call. Never throws. */
export function thisProcess(): ProcessIdentity {
  const boot = textOf('/proc/sys/kernel/random/boot_id');
  const machine = textOf('/etc/machine-id');
  const board = boardOf(SYSFS);
  // A host without any id of its own is known for this boot alone.
  const known = machine === '' && board === '' ? `boot ${boot}` : `${machine} ${board}`;
  return {
    incarnation: randomBytes(8).toString('hex'),
    host: digestOf(`romulus host ${known}`),
    hardware: hardwareOf(SYSFS),
    hostName: os.hostname().slice(0, 64),
    boot,
    pidNamespace: linkOf('/proc/self/ns/pid'),
    pid: process.pid,
    started: parseStat(textOf('/proc/self/stat'))?.started ?? '',
  };
}

/**
 * ProcessIdentity.hardware by what lies under `sysfs`. A card is what has a device behind it; bridges,
 * TAPs and the like have none. An address that the kernel drew at random is another one after the
 * next boot and says nothing about the card. Never throws.
 */
export function hardwareOf(sysfs: string): string {
  const board = boardOf(sysfs);
  const cards: string[] = [];
  for (const name of namesIn(path.join(sysfs, 'class/net'))) {
    const card = path.join(sysfs, 'class/net', name);
    const address = textOf(path.join(card, 'address')).toLowerCase();
    const drawn = textOf(path.join(card, 'addr_assign_type')) === '1';
    if (!drawn && /[1-9a-f]/.test(address) && existsSync(path.join(card, 'device'))) {
      cards.push(address);
    }
  }
  if (board === '' && cards.length === 0) return '';
  return digestOf(`romulus hardware ${[board, ...cards.sort()].join(' ')}`);
}

/** Empty where it cannot be read, or is all zeros or all ones, as where no maker filled it in. */
function boardOf(sysfs: string): string {
  const uuid = textOf(path.join(sysfs, 'class/dmi/id/product_uuid'));
  return /^[-0]*$|^[-f]*$/i.test(uuid) ? '' : uuid;
}

/** What `me` can say about `maker`; see the table above. Never rejects. */
export async function claimantOf(
  maker: Partial<ProcessIdentity>,
  me: ProcessIdentity,
): Promise<Claimant> {
  if (maker.incarnation === me.incarnation) return 'self';
  if (maker.host === undefined || maker.host !== me.host) return 'elsewhere';
  if (!maker.boot || !maker.pid || !maker.started || me.boot === '') return 'elsewhere';
  if (maker.boot !== me.boot) {
    return me.hardware !== '' && maker.hardware === me.hardware ? 'ended' : 'elsewhere';
  }
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

function digestOf(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 32);
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
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
