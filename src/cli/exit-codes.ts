/** From an error to an exit code. The codes and their meanings: config/help.ts. */
import type { FtError } from '../common/errors';
import { ExitCode } from '../config/help';
import type { Drained } from '../node/drain';
import type { NodeEnd } from '../node/running-node';

/** For an error that kept the command from starting. */
export function exitCodeOfStart(error: FtError): ExitCode {
  if (error.code === 'FT_ERR_CONFIG') return ExitCode.usage;
  if (error.code === 'FT_ERR_GENERATION_OWNED') return ExitCode.refused;
  // Whatever else has a code of ours at the start is about this host: device, image, port, witness.
  if (error.code === 'FT_ERR_UNEXPECTED') return ExitCode.internal;
  return ExitCode.environment;
}

/** For a node that came to its end by itself. */
export function exitCodeOfEnd(end: NodeEnd): ExitCode {
  switch (end.kind) {
    case 'fenced':
      return ExitCode.fenced;
    case 'drained':
      return ExitCode.ok;
    case 'guest-ended':
      return end.end.kind === 'reset' ? ExitCode.guestReset : ExitCode.guestOff;
    case 'rejoin-failed':
      return exitCodeOfStart(end.error);
    case 'witness-lost':
      return ExitCode.witnessLost;
    case 'machine-error':
    case 'promotion-failed':
      return isOfThisHost(end.error) ? ExitCode.environment : ExitCode.internal;
  }
}

/** Those that say that all is well with the guest's disks here. */
const ORDERLY: ReadonlySet<ExitCode> = new Set([
  ExitCode.ok,
  ExitCode.guestOff,
  ExitCode.guestReset,
]);

/** For an end with `code`, when the disks could not be closed with `error`. */
export function exitCodeOfStop(code: ExitCode, error: FtError | undefined): ExitCode {
  return error !== undefined && ORDERLY.has(code) ? ExitCode.environment : code;
}

/** A disk or a port, not a defect of ours. */
function isOfThisHost(error: FtError): boolean {
  return error.code.startsWith('FT_ERR_DISK_') || error.code === 'FT_ERR_SIM_PORT';
}

const DRAINED: Readonly<Record<Drained['guest'], string>> = {
  'handed-over': 'This node was drained: its guest goes on at the other host.',
  ended: 'This node was drained: its guest, which no standby held, ended with it.',
  elsewhere: 'This node was drained: its primary was told, and has the guest without a standby.',
};

/** One sentence for the person who reads the log. */
export function sentenceOfEnd(end: NodeEnd): string {
  switch (end.kind) {
    case 'fenced':
      return (
        `Node ${end.current.owner} won generation ${end.current.generation}; the guest goes on ` +
        'there. Start this node again to protect it: ft-primary with --listen, or ft-standby. With ' +
        '--on-fenced rejoin it does so by itself.'
      );
    case 'drained':
      return DRAINED[end.drained.guest];
    case 'rejoin-failed':
      return (
        `Node ${end.current.owner} runs the guest in generation ${end.current.generation}, and this ` +
        `host cannot be its standby: ${end.error.message} Mend that and start this command again.`
      );
    case 'witness-lost':
      return (
        `The standby is lost and the witness cannot be asked (${end.error.message}), so the guest ` +
        'was ended here (--on-witness-loss stop).'
      );
    case 'guest-ended':
      return `The guest ended itself: ${end.end.cause}.`;
    case 'machine-error':
      return `The guest cannot go on here: ${end.error.message}`;
    case 'promotion-failed':
      return `This node owns the guest now and cannot resume it: ${end.error.message}`;
  }
}
