/**
 * ftctl from its words to its exit code: reads them, asks the node, says what it answered.
 *
 *   words ─▶ request ─▶ 200: exit 0 · 409: exit 5 · anything else: exit 70
 *     │ 2        │ 3: nobody answers
 */
import { type FtError, toFtError } from '../common/errors';
import { CtlExitCode, type CtlOrder, ctlHelpText, readCtlRequest } from '../config/ftctl';
import { askNode, type ControlAnswer } from './control-client';
import { statusText } from './status-words';
import { version } from './version';

/** Runs ftctl to its end; sets the exit code. */
export async function ctlMain(words: readonly string[]): Promise<void> {
  try {
    const request = readCtlRequest(words);
    if (request.kind === 'help') process.stdout.write(ctlHelpText());
    else if (request.kind === 'version') process.stdout.write(`ftctl ${version()}\n`);
    else process.exitCode = await run(request);
  } catch (thrown) {
    const error = toFtError(thrown);
    process.stderr.write(`ftctl: ${error.message}\n`);
    process.exitCode = codeOf(error);
  }
}

async function run(request: CtlOrder): Promise<CtlExitCode> {
  const answer =
    request.command === 'status'
      ? await askNode(request.control, 'GET', '/v1/status')
      : await askNode(request.control, 'POST', '/v1/switchover');
  const { status, body } = answer;
  if (request.json) process.stdout.write(`${JSON.stringify(body)}\n`);
  if (status === 200) {
    const text = request.command === 'status' ? statusText(body) : switchoverText(body);
    if (!request.json) process.stdout.write(text);
    return CtlExitCode.ok;
  }
  process.stderr.write(`ftctl: ${messageOf(answer)}\n`);
  return status === 409 ? CtlExitCode.refused : CtlExitCode.internal;
}

function switchoverText({ generation, blackoutUs }: ControlAnswer['body']): string {
  const still =
    typeof blackoutUs === 'number'
      ? ` It stood still for ${(blackoutUs / 1000).toFixed(1)} ms at most.`
      : '';
  return `The guest goes on at the other host, in generation ${generation}.${still}\n`;
}

function messageOf({ status, body }: ControlAnswer): string {
  const { message } = body;
  return typeof message === 'string' ? message : `the node answered ${status} and no reason`;
}

function codeOf(error: FtError): CtlExitCode {
  if (error.code === 'FT_ERR_CONFIG') return CtlExitCode.usage;
  if (error.code === 'FT_ERR_CONTROL_UNREACHABLE') return CtlExitCode.environment;
  return CtlExitCode.internal;
}
