/**
 * Errors from outside (wire, files, flags, devices, peers) as values with a stable code and the
 * facts. A broken invariant of our own is not an FtError: it goes through `assert` and stops the
 * process.
 */

/** Facts that belong to an error: epoch, gfn, field, path, size with its unit in the name. */
export type Facts = Readonly<Record<string, string | number | boolean | undefined>>;

/**
 * An error with a code that never changes (`FT_ERR_…`), a whole sentence for the person who must
 * act, and the facts it speaks of.
 */
const STACK_CHARS_MAX = 2000;

export class FtError extends Error {
  readonly code: string;
  readonly facts: Facts;

  constructor(code: string, message: string, facts: Facts = {}, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'FtError';
    this.code = code;
    this.facts = facts;
  }
}

/**
 * A defect of ours that something from outside brought to light. Whoever it was loses its connection;
 * the process goes on, since nothing that it holds was in the hands of that code.
 */
export function defectError(remote: string, thrown: unknown): FtError {
  const stack = thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown);
  const message =
    `A defect of this program ended the connection of ${remote}; nothing else is touched by it. ` +
    'Please report it with the stack that stands here.';
  return new FtError(
    'FT_ERR_DEFECT',
    message,
    { remote, stack: stack.slice(0, STACK_CHARS_MAX) },
    thrown,
  );
}

/** Turns anything thrown (a native error with a `code`, a Node system error) into an FtError. */
export function toFtError(thrown: unknown, code = 'FT_ERR_UNEXPECTED'): FtError {
  if (thrown instanceof FtError) return thrown;
  if (thrown instanceof Error) {
    const own = (thrown as { code?: unknown }).code;
    const known = typeof own === 'string' && own.startsWith('FT_ERR_');
    return new FtError(known ? own : code, thrown.message, {}, thrown);
  }
  return new FtError(code, String(thrown));
}
