/** The command line of ftctl, which asks a running node over its control socket: words, help, codes. */

import { FtError } from '../common/errors';
import type { FlagSpec } from './flags';
import { flagLines } from './help';
import { parseWords } from './parse';
import { configError, parseSocketPath } from './values';

/** Exit codes of ftctl; the same numbers as the nodes' where they mean the same. */
export const CtlExitCode = {
  ok: 0,
  usage: 2,
  environment: 3,
  refused: 5,
  internal: 70,
} as const;
export type CtlExitCode = (typeof CtlExitCode)[keyof typeof CtlExitCode];

const EXIT_MEANINGS: Readonly<Record<CtlExitCode, string>> = {
  [CtlExitCode.ok]: 'done',
  [CtlExitCode.usage]: 'a word or a flag is wrong',
  [CtlExitCode.environment]: 'no node answers at the control socket',
  [CtlExitCode.refused]: 'the node cannot do it, and says why; the guest runs on where it ran',
  [CtlExitCode.internal]: 'an error of our own, or an answer that makes no sense',
};

const DEFAULT_CONTROL = '/run/romulus/control.sock';

const FLAGS: readonly FlagSpec[] = [
  {
    group: 'Operation',
    name: 'control',
    value: 'PATH',
    type: { kind: 'socket-path' },
    fallback: DEFAULT_CONTROL,
    help: "the node's control socket, as given to it with --control",
  },
  { group: 'Operation', name: 'json', help: 'prints the answer as one JSON object' },
  { group: 'Operation', name: 'help', help: 'prints this text' },
  { group: 'Operation', name: 'version', help: 'prints the version' },
];

const COMMANDS = ['status', 'switchover'] as const;
export type CtlCommand = (typeof COMMANDS)[number];

/** What to ask, of which node, and how to print what it answers. */
export interface CtlOrder {
  readonly kind: 'run';
  readonly command: CtlCommand;
  readonly control: string;
  readonly json: boolean;
}

export type CtlRequest = { readonly kind: 'help' } | { readonly kind: 'version' } | CtlOrder;

/** Throws FT_ERR_CONFIG. */
export function readCtlRequest(words: readonly string[]): CtlRequest {
  const { flags, others } = parseWords('ftctl', FLAGS, words);
  if (flags.has('help')) return { kind: 'help' };
  if (flags.has('version')) return { kind: 'version' };
  const control = parseSocketPath('control', flags.needed('control', 'it has no default'));
  const [word, more] = others;
  const command = COMMANDS.find((known) => known === word);
  if (command === undefined) {
    const found = word === undefined ? 'No command is given' : `${JSON.stringify(word)} is none`;
    const message = `${found}; the commands of ftctl are ${COMMANDS.join(' and ')} (see --help).`;
    throw new FtError('FT_ERR_CONFIG', message, { found: word });
  }
  if (more !== undefined) throw configError(command, more, 'given without further words');
  return { kind: 'run', command, control, json: flags.has('json') };
}

export function ctlHelpText(): string {
  const codes = Object.values(CtlExitCode).map(
    (code) => `  ${String(code).padStart(2)}  ${EXIT_MEANINGS[code]}`,
  );
  return [
    `Usage: ftctl [--control PATH] status [--json]
       ftctl [--control PATH] switchover [--json]

Asks a node that was started with --control PATH, on the same host.

  status      what the node is and does at this moment
  switchover  asked of the primary of a protected pair: the two hosts exchange
              their roles, and nothing is lost; the old primary becomes the
              standby if it was started with --listen`,
    '',
    'Flags:',
    ...FLAGS.flatMap((flag) => flagLines(flag)),
    '',
    'Exit codes:',
    ...codes,
    '',
  ].join('\n');
}
