/**
 * ftctl from its words to its exit code.
 *
 *   words ─▶ call ─▶ the command's own code: 0 done · 5 not done · 9 waited in vain · 10 unknown
 *     │ 2      └──── 3: nobody answers · 10: nobody answers any more · 70: an error of our own
 */
import { type FtError, toFtError } from '../../common/errors';
import { likelySocket } from '../control-sockets';
import { version } from '../version';
import { complain } from './answer';
import { CtlExitCode } from './command';
import { ctlCommandHelp, ctlHelp } from './help-text';
import { CONTROL_VARIABLE, readCtlWords } from './read-words';
import { CTL_COMMANDS } from './table';

/** Runs ftctl to its end; sets the exit code. */
export async function ctlMain(words: readonly string[]): Promise<void> {
  // A reader that is gone (ftctl … | head) is no error.
  process.stdout.on('error', () => process.exit(CtlExitCode.ok));
  try {
    const named = process.env[CONTROL_VARIABLE];
    const request = readCtlWords(CTL_COMMANDS, words, named, likelySocket);
    if (request.kind === 'version') process.stdout.write(`ftctl ${version()}\n`);
    else if (request.kind === 'run') process.exitCode = await request.command.run(request.call);
    else {
      const { command } = request;
      process.stdout.write(command === undefined ? ctlHelp(CTL_COMMANDS) : ctlCommandHelp(command));
    }
  } catch (thrown) {
    const error = toFtError(thrown);
    const { code, message, facts } = error;
    complain({ ...facts, code, message }, words.includes('--json'));
    process.exitCode = codeOf(error);
  }
}

function codeOf(error: FtError): CtlExitCode {
  if (error.code === 'FT_ERR_CONFIG') return CtlExitCode.usage;
  if (error.code === 'FT_ERR_CONTROL_UNANSWERED') return CtlExitCode.unknown;
  const ours = ['FT_ERR_UNEXPECTED', 'FT_ERR_CONTROL_ANSWER'];
  return ours.includes(error.code) ? CtlExitCode.internal : CtlExitCode.environment;
}
