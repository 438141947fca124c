/** What a command does at an end that is no success: words, the same for programs, an exit code. */
import type { ControlAnswer } from '../control-client';
import { CtlExitCode } from './command';
import type { Fields } from './fields';

/** An error as programs have it: further fields are the facts that it speaks of. */
type Complaint = Fields & { readonly code: string; readonly message: string };

/** Says why it was not done: in `words` to stderr and, with `json`, as one object to stdout. */
export function complain(error: Complaint, json: boolean, words = error.message): void {
  if (json) process.stdout.write(`${JSON.stringify(error)}\n`);
  process.stderr.write(`ftctl: ${words}\n`);
}

/** Says why the node did not do it. */
export function refusedBy({ status, body }: ControlAnswer, json: boolean): CtlExitCode {
  const { code, message } = body;
  const why = typeof message === 'string' ? message : `the node answered ${status} and no reason`;
  const known = typeof code === 'string' ? code : 'FT_ERR_CONTROL_ANSWER';
  complain({ ...body, code: known, message: why }, json, printable(why));
  // 429: it has too many clients of this kind already, and is as it was.
  if (status === 409 || status === 429) return CtlExitCode.refused;
  return status === 504 ? CtlExitCode.unknown : CtlExitCode.internal;
}

/** Control characters made visible: text of a peer or a guest must not steer the terminal. */
export function printable(text: string): string {
  return text.replace(
    /\p{Cc}/gu,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
