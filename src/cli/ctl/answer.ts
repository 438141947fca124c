/** What a command does with an answer that is no success: words to stderr, and an exit code. */
import type { ControlAnswer } from '../control-client';
import { CtlExitCode } from './command';

/** Says why the node did not do it; with `json`, the answer itself goes to stdout. */
export function refusedBy(answer: ControlAnswer, json: boolean): CtlExitCode {
  const { status, body } = answer;
  if (json) process.stdout.write(`${JSON.stringify(body)}\n`);
  const { message } = body;
  const why = typeof message === 'string' ? message : `the node answered ${status} and no reason`;
  process.stderr.write(`ftctl: ${printable(why)}\n`);
  // 429: it has too many clients of this kind already, and is as it was.
  return status === 409 || status === 429 ? CtlExitCode.refused : CtlExitCode.internal;
}

/** Control characters made visible: text of a peer or a guest must not steer the terminal. */
export function printable(text: string): string {
  return text.replace(
    /\p{Cc}/gu,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
