/**
 * What a command of ftctl is: its words, its help and what it does, in one value. A file in this
 * folder exports one; table.ts lists them; reading, help and shell completion all go by that list.
 */
import type { FlagSpec } from '../../config/flags';
import type { Flags } from '../../config/parse';
import type { ValueType } from '../../config/value-types';

/** Exit codes of ftctl; the same numbers as the nodes' where they mean the same. */
export const CtlExitCode = {
  ok: 0,
  usage: 2,
  environment: 3,
  refused: 5,
  inVain: 9,
  unknown: 10,
  internal: 70,
} as const;
export type CtlExitCode = (typeof CtlExitCode)[keyof typeof CtlExitCode];

export const EXIT_MEANINGS: Readonly<Record<CtlExitCode, string>> = {
  [CtlExitCode.ok]: 'done',
  [CtlExitCode.usage]: 'a word or a flag is wrong',
  [CtlExitCode.environment]: 'no node answers at the control socket, or this host lacks something',
  [CtlExitCode.refused]: 'not done, with the reason; the guest is where it was',
  [CtlExitCode.inVain]: 'what was waited for (--wait) did not come in time',
  [CtlExitCode.unknown]:
    'begun, and its end is not known here; ask both nodes before you try again',
  [CtlExitCode.internal]: 'an error of our own, or an answer that makes no sense',
};

export interface CtlFlag {
  readonly name: string;
  /** What stands for the value in the help; undefined for a switch. */
  readonly value?: string;
  /** What the value may be, where one of the settings' types fits; checked when it is read. */
  readonly type?: ValueType;
  readonly help: string;
  /** The default, as it would be written on the command line. */
  readonly fallback?: string;
  readonly repeats?: true;
  /** What the shell offers as values: these words, or names of files. */
  readonly offers?: readonly string[] | 'files';
}

/** The same as a row of the tables of settings, for their parser and help. */
export function specOf(flag: CtlFlag): FlagSpec {
  const { name, help, value, fallback, repeats, type = { kind: 'text' } } = flag;
  const base = { name, help, group: 'Operation', ...(repeats && { repeats }) } as const;
  if (value === undefined) return base;
  return { ...base, value, type, ...(fallback !== undefined && { fallback }) };
}

/** A word of a command that is no flag. */
export interface CtlOperand {
  /** As it stands in the usage: "SHELL". */
  readonly name: string;
  readonly optional?: true;
  readonly offers?: readonly string[] | 'files';
}

/** One call of a command, read from the command line. */
export interface CtlCall {
  /** Path of the node's control socket. */
  readonly control: string;
  /** --json was given; only for commands that have it. */
  readonly json: boolean;
  /** The command's own flags. */
  readonly flags: Flags;
  /** As many as the command's `operands` allow. */
  readonly operands: readonly string[];
}

export interface CtlCommand {
  /** One word, or several: "status", "pki init". */
  readonly name: string;
  /** A few words for the list of commands. */
  readonly summary: string;
  /** Paragraphs for its own help; they are wrapped there. */
  readonly about: readonly string[];
  readonly operands?: readonly CtlOperand[];
  readonly flags?: readonly CtlFlag[];
  /** Whether it has --json: the answer as one JSON object (or one a line), errors too. */
  readonly json?: true;
  /** False for a command that asks no node: it has no --control. */
  readonly asksNode?: false;
  /** A command line without the leading "ftctl", and what it is good for. */
  readonly examples: readonly (readonly [line: string, use: string])[];
  /** Does it. May write to stdout and stderr; throws or rejects with an FtError. */
  run(call: CtlCall): CtlExitCode | Promise<CtlExitCode>;
}
