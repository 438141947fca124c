/**
 * From the words after "ftctl" to a call of one of its commands.
 *
 *   words ── flags of all commands ──▶ which words are none ──▶ the command ── its own flags ──▶ call
 *
 * So --control may stand before the command or after it, and a flag that another command has is
 * still refused.
 */
import { FtError } from '../../common/errors';
import { type Flags, parseWords } from '../../config/parse';
import { checkValue } from '../../config/value-types';
import { configError, parseSocketPath } from '../../config/values';
import { CONTROL_FOLDER } from '../control-sockets';
import { type CtlCall, type CtlCommand, type CtlFlag, specOf } from './command';

export const DEFAULT_CONTROL = `${CONTROL_FOLDER}/control.sock`;
/** Names the default of --control. */
export const CONTROL_VARIABLE = 'ROMULUS_CONTROL';

const CONTROL_FLAG: CtlFlag = {
  name: 'control',
  value: 'PATH',
  fallback: DEFAULT_CONTROL,
  help:
    `the node's control socket, as given to it with --control; ${CONTROL_VARIABLE} changes the ` +
    'default. Where that is not there, the only /run/romulus/PAIR/control.sock that is',
  offers: 'files',
};
const JSON_FLAG: CtlFlag = {
  name: 'json',
  help: 'prints the answer as JSON, for programs; of an error its code and message',
};
const HELP_FLAGS: readonly CtlFlag[] = [
  { name: 'help', help: 'prints this text' },
  { name: 'version', help: 'prints the version' },
];

/** The flags of a command, its own ones first; without one, those that are always there. */
export function ctlFlags(command?: CtlCommand): CtlFlag[] {
  const own = command?.flags ?? [];
  const json = command?.json === true ? [JSON_FLAG] : [];
  const control = command?.asksNode === false ? [] : [CONTROL_FLAG];
  return [...own, ...json, ...control, ...HELP_FLAGS];
}

export type CtlRequest =
  | { readonly kind: 'help'; readonly command: CtlCommand | undefined }
  | { readonly kind: 'version' }
  | { readonly kind: 'run'; readonly command: CtlCommand; readonly call: CtlCall };

/** Throws FT_ERR_CONFIG. `control` is what the environment has for --control; `likely` says which
 * socket is asked where nobody names one. */
export function readCtlWords(
  table: readonly CtlCommand[],
  words: readonly string[],
  control?: string,
  likely: () => string = () => DEFAULT_CONTROL,
): CtlRequest {
  const every = new Map(table.flatMap((one) => ctlFlags(one)).map((flag) => [flag.name, flag]));
  const { flags, others } = parse([...every.values()], words);
  if (others[0] === 'help') {
    return {
      kind: 'help',
      command: others[1] === undefined ? undefined : find(table, others.slice(1)),
    };
  }
  const command = others.length === 0 ? undefined : find(table, others);
  if (flags.has('help')) return { kind: 'help', command };
  if (flags.has('version')) return { kind: 'version' };
  if (command === undefined) throw unknownCommand(table, undefined);
  const own = parse(ctlFlags(command), words);
  for (const { name, type } of ctlFlags(command)) {
    if (type !== undefined) for (const text of own.flags.all(name)) checkValue(type, name, text);
  }
  const operands = others.slice(command.name.split(' ').length);
  checkOperands(command, operands);
  const call = {
    control: controlPath(command, own.flags, control, likely),
    json: command.json === true && own.flags.has('json'),
    flags: own.flags,
    operands,
  };
  return { kind: 'run', command, call };
}

function controlPath(
  command: CtlCommand,
  flags: Flags,
  fromOutside: string | undefined,
  likely: () => string,
): string {
  if (command.asksNode === false) return '';
  const fallback = fromOutside === undefined || fromOutside === '' ? undefined : fromOutside;
  if (!flags.has('control') && fallback !== undefined) {
    return parseSocketPath(CONTROL_VARIABLE, fallback);
  }
  if (!flags.has('control')) return likely();
  return parseSocketPath('control', flags.needed('control', 'it has no default'));
}

function parse(
  flags: readonly CtlFlag[],
  words: readonly string[],
): { readonly flags: Flags; readonly others: readonly string[] } {
  return parseWords('ftctl', flags.map(specOf), words);
}

/** The command whose name the words begin with; of several the longest. */
function find(table: readonly CtlCommand[], words: readonly string[]): CtlCommand {
  const fitting = table
    .filter(({ name }) => name.split(' ').every((part, at) => words[at] === part))
    .sort((a, b) => b.name.length - a.name.length);
  const [command] = fitting;
  if (command === undefined) throw unknownCommand(table, words);
  return command;
}

function unknownCommand(
  table: readonly CtlCommand[],
  words: readonly string[] | undefined,
): FtError {
  const found = words === undefined ? undefined : words[0];
  const begins = table.filter(({ name }) => name.startsWith(`${found} `));
  const known = (begins.length > 0 ? begins : table).map(({ name }) => name);
  const last = known.pop();
  const list = known.length === 0 ? last : `${known.join(', ')} and ${last}`;
  const what =
    found === undefined ? 'No command is given' : `${JSON.stringify(words?.join(' '))} is none`;
  const message = `${what}; the commands of ftctl are ${list} (see --help).`;
  return new FtError('FT_ERR_CONFIG', message, { found });
}

function checkOperands(command: CtlCommand, given: readonly string[]): void {
  const allowed = command.operands ?? [];
  const stray = given[allowed.length];
  if (stray !== undefined) {
    const message = `${JSON.stringify(stray)} is one word too many for ftctl ${command.name} (see --help).`;
    throw new FtError('FT_ERR_CONFIG', message, { found: stray });
  }
  allowed.forEach((operand, at) => {
    const word = given[at];
    if (word === undefined && operand.optional !== true) {
      const message = `ftctl ${command.name} needs ${operand.name} (see ftctl ${command.name} --help).`;
      throw new FtError('FT_ERR_CONFIG', message, { missing: operand.name });
    }
    if (word === undefined || !Array.isArray(operand.offers)) return;
    if (!operand.offers.includes(word)) {
      throw configError(operand.name, word, operand.offers.join(', '));
    }
  });
}
