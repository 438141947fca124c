/** Asks the fixture guest to end itself (docs/beacon.md, op 9), from inside a network namespace. */
import { spawnSync } from 'node:child_process';

/** The request's `a`: how the guest ends. */
export const EndOp = { powerOff: 0, keyboard: 1, resetPort: 2, tripleFault: 3 } as const;

/**
 * Sends one request and waits for its answer; undefined when none came within a second. A process of
 * its own, since a namespace belongs to a process. `id` numbers the requests of `client`.
 */
export function askEnd(
  netns: string | undefined,
  guest: { readonly host: string; readonly port: number },
  how: number,
  id = 1,
): { readonly status: number; readonly sequence: bigint } | undefined {
  const request = Buffer.alloc(40);
  request.write('FTBQ', 0, 'latin1');
  request[4] = 1;
  request[5] = 9;
  request.writeUInt32LE(0xe4d, 8);
  request.writeUInt32LE(id, 12);
  request.writeBigUInt64LE(BigInt(how), 16);
  const script = `
    const socket = require('node:dgram').createSocket('udp4');
    socket.on('message', (answer) => { process.stdout.write(answer.toString('hex')); process.exit(); });
    socket.send(Buffer.from('${request.toString('hex')}', 'hex'), ${guest.port}, '${guest.host}');
    setTimeout(() => process.exit(), 1000);`;
  const node = [process.execPath, '-e', script];
  const words = netns === undefined ? node : ['ip', 'netns', 'exec', netns, ...node];
  const run = spawnSync(words[0] ?? '', words.slice(1), { encoding: 'latin1' });
  const answer = Buffer.from(run.stdout, 'hex');
  if (answer.length !== 128) return undefined;
  return { status: answer.readUInt16LE(6), sequence: answer.readBigUInt64LE(24) };
}
