/** The help of ftctl and of each of its commands, from the table that the reader goes by. */
import { flagLines } from '../../config/help';
import { type CtlCommand, EXIT_MEANINGS, specOf } from './command';
import { CONTROL_VARIABLE, ctlFlags, DEFAULT_CONTROL } from './read-words';

const COLUMNS = 78;

/** `ftctl --help`. */
export function ctlHelp(table: readonly CtlCommand[]): string {
  const width = Math.max(...table.map(({ name }) => name.length)) + 2;
  return [
    'Usage: ftctl [--control PATH] COMMAND [flags]',
    '',
    ...wrap(
      'Asks a node that was started with --control PATH, on the same host and as the same user, ' +
        'how it is, and tells it what to do.',
    ),
    '',
    'Commands:',
    ...table.flatMap(({ name, summary }) => hang(`  ${name.padEnd(width)}`, summary)),
    '',
    ...wrap('ftctl COMMAND --help says more of one. Words for programs come with --json.'),
    '',
    'Flags of every command that asks a node:',
    ...ctlFlags().flatMap((flag) => flagLines(specOf(flag))),
    '',
    'Environment:',
    ...hang(
      `  ${CONTROL_VARIABLE.padEnd(18)}`,
      'the socket of a node, where --control is not given',
    ),
    ...hang(
      '  NO_COLOR          ',
      'if set to anything, nothing is coloured (neither without a terminal)',
    ),
    '',
    'Files:',
    ...hang(`  ${DEFAULT_CONTROL}  `, 'where a node is looked for when nothing is said'),
    ...hang(
      '  /run/romulus/PAIR/control.sock  ',
      'where the units put it; asked if it is the only one',
    ),
    '',
    ...exitLines(),
    '',
    'Examples:',
    ...table.flatMap(({ examples }) => exampleLines(examples.slice(0, 1))),
    '',
  ].join('\n');
}

/** `ftctl COMMAND --help`. */
export function ctlCommandHelp(command: CtlCommand): string {
  const { name, operands = [], about, examples } = command;
  const words = operands.map((one) => (one.optional === true ? `[${one.name}]` : one.name));
  const node = command.asksNode === false ? '' : '[--control PATH] ';
  return [
    `Usage: ${['ftctl', `${node}${name}`, ...words].join(' ')} [flags]`,
    ...about.flatMap((text) => ['', ...wrap(text)]),
    '',
    'Flags:',
    ...ctlFlags(command).flatMap((flag) => flagLines(specOf(flag))),
    '',
    ...exitLines(),
    '',
    'Examples:',
    ...exampleLines(examples),
    '',
  ].join('\n');
}

function exitLines(): string[] {
  const codes = Object.entries(EXIT_MEANINGS).map(
    ([code, meaning]) => `  ${code.padStart(2)}  ${meaning}`,
  );
  return ['Exit codes:', ...codes];
}

function exampleLines(examples: CtlCommand['examples']): string[] {
  return examples.flatMap(([line, use]) => [`  ftctl ${line}`, ...hang('      ', use)]);
}

/** `text` wrapped beside `left`, which stands before its first line alone. */
function hang(left: string, text: string): string[] {
  const pad = ' '.repeat(left.length);
  return wrap(text, COLUMNS - left.length).map((line, at) => (at === 0 ? left : pad) + line);
}

function wrap(text: string, columns = COLUMNS): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > columns) {
      lines.push(line);
      line = '';
    }
    line = line === '' ? word : `${line} ${word}`;
  }
  return [...lines, line];
}
