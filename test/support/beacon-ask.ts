/** One question to the fixture guest (docs/beacon.md) at a time, from inside a network namespace. */
import { spawn, spawnSync } from 'node:child_process';

/** The request's `a`: how the guest ends. */
export const EndOp = { powerOff: 0, keyboard: 1, resetPort: 2, tripleFault: 3 } as const;

/** What a test wants to know of an answer. */
export interface Answer {
  readonly status: number;
  readonly sequence: bigint;
  /** The guest's own clock since it booted. */
  readonly uptimeNs: bigint;
}

let requests = 0;

/**
 * Sends one request and waits for its answer; undefined when none came within a second. A process of
 * its own, since a namespace belongs to a process.
 */
function ask(
  netns: string | undefined,
  guest: { readonly host: string; readonly port: number },
  op: number,
  a: number,
): Answer | undefined {
  const [command = '', ...words] = wordsOf(netns, guest, op, a);
  const run = spawnSync(command, words, { encoding: 'latin1' });
  const answer = Buffer.from(run.stdout, 'hex');
  if (answer.length !== 128) return undefined;
  return {
    status: answer.readUInt16LE(6),
    sequence: answer.readBigUInt64LE(24),
    uptimeNs: answer.readBigUInt64LE(56),
  };
}

/** The command that asks, and writes the answer in hexadecimal digits. */
function wordsOf(
  netns: string | undefined,
  guest: { readonly host: string; readonly port: number },
  op: number,
  a: number,
): string[] {
  requests += 1;
  const request = Buffer.alloc(40);
  request.write('FTBQ', 0, 'latin1');
  request[4] = 1;
  request[5] = op;
  request.writeUInt32LE(0xe4d, 8);
  request.writeUInt32LE(requests, 12);
  request.writeBigUInt64LE(BigInt(a), 16);
  const script = `
    const socket = require('node:dgram').createSocket('udp4');
    socket.on('message', (answer) => { process.stdout.write(answer.toString('hex')); process.exit(); });
    socket.send(Buffer.from('${request.toString('hex')}', 'hex'), ${guest.port}, '${guest.host}');
    setTimeout(() => process.exit(), 1000);`;
  const node = [process.execPath, '-e', script];
  return netns === undefined ? node : ['ip', 'netns', 'exec', netns, ...node];
}

type Where = Parameters<typeof ask>[1];

/** Counts one up: a question that changes something. */
export function askIncrement(netns: string | undefined, guest: Where): Answer | undefined {
  return ask(netns, guest, 1, 0);
}

/** Asks the guest to end itself; `how` is one of EndOp. */
export function askEnd(netns: string | undefined, guest: Where, how: number): Answer | undefined {
  return ask(netns, guest, 9, how);
}

/** Sends the same without waiting; resolves when the sender has ended, answered or not. */
export function sendEnd(netns: string | undefined, guest: Where, how: number): Promise<void> {
  const [command = '', ...words] = wordsOf(netns, guest, 9, how);
  return new Promise((resolve) => spawn(command, words, { stdio: 'ignore' }).on('exit', resolve));
}
