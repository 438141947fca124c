/** ftctl console: the guest's serial port, on this terminal. */
import type { Duplex } from 'node:stream';
import { attachConsole } from '../control-client';
import { refusedBy } from './answer';
import { type CtlCall, type CtlCommand, CtlExitCode } from './command';
import { EscapeReader } from './escape';

export const consoleCommand: CtlCommand = {
  name: 'console',
  summary: "attaches this terminal to the guest's serial console",
  about: [
    'Shows the newest 64 KiB that the guest printed, then what it prints, and passes every key to ' +
      'it, Ctrl-C too. Ctrl-A x detaches; Ctrl-A a (or Ctrl-A twice) types one Ctrl-A. Works ' +
      'whatever --console of the node says, for several clients at once. What is shown is safe: it ' +
      'left the host only when the standby held what printed it.',
    'On a standby a line says so; what is typed is thrown away until the guest runs there. ' +
      'Standard input that is no terminal is passed on as it is, and its end ends nothing.',
  ],
  examples: [
    ['console', 'log in to the guest; Ctrl-A x leaves'],
    ['console < /dev/null | tee guest.log', 'only looks, and keeps what it sees'],
  ],
  run: attach,
};

async function attach({ control }: CtlCall): Promise<CtlExitCode> {
  const attached = await attachConsole(control);
  if ('status' in attached) return refusedBy(attached, false);
  const { stream, head } = attached;
  const terminal = process.stdin.isTTY === true;
  if (terminal) {
    process.stderr.write('ftctl: attached to the console; Ctrl-A x detaches.\r\n');
    process.stdin.setRawMode(true);
  }
  // However this process ends, the terminal is as it was.
  const restore = (): void => {
    if (terminal) process.stdin.setRawMode(false);
  };
  process.on('exit', restore);
  for (const signal of ['SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => process.exit(CtlExitCode.ok));
  }
  try {
    return (await relay(stream, head, terminal)) === 'detached'
      ? CtlExitCode.ok
      : CtlExitCode.environment;
  } finally {
    restore();
    process.stdin.pause();
    stream.destroy();
  }
}

/** Until the person detaches or the node lets go, which is said. */
function relay(stream: Duplex, head: Buffer, terminal: boolean): Promise<'detached' | 'gone'> {
  return new Promise((resolve) => {
    const keys = new EscapeReader();
    const show = (bytes: Buffer): void => {
      if (process.stdout.write(bytes)) return;
      // A slow terminal holds up this client, and nobody else.
      stream.pause();
      process.stdout.once('drain', () => stream.resume());
    };
    if (head.length > 0) show(head);
    stream.on('data', show);
    stream.on('error', () => stream.destroy());
    stream.on('close', () => {
      process.stderr.write(`${terminal ? '\r\n' : ''}ftctl: the node has ended the console.\n`);
      resolve('gone');
    });
    process.stdin.on('data', (typed: Buffer) => {
      const { bytes, leave } = terminal ? keys.take(typed) : { bytes: typed, leave: false };
      if (bytes.length > 0 && !stream.write(bytes)) {
        process.stdin.pause();
        stream.once('drain', () => process.stdin.resume());
      }
      if (!leave) return;
      process.stderr.write('\r\nftctl: detached.\r\n');
      stream.removeAllListeners('close');
      resolve('detached');
    });
    process.stdin.on('error', () => undefined);
  });
}
