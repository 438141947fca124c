/** The --help texts and the table of exit codes, from the same table that the parser reads. */
import { type CommandName, type FlagSpec, flagsOf } from './flags';

/** Exit codes of both commands. The help prints this table; nothing else defines them. */
export const ExitCode = {
  ok: 0,
  usage: 2,
  environment: 3,
  fenced: 4,
  refused: 5,
  guestOff: 6,
  guestReset: 7,
  witnessLost: 8,
  internal: 70,
} as const;
export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode];

const EXIT_MEANINGS: Readonly<Record<ExitCode, string>> = {
  [ExitCode.ok]: 'ended as asked',
  [ExitCode.usage]: 'a flag is wrong',
  [ExitCode.environment]: 'the host lacks something: /dev/kvm, TAP, kernel, disk, port, witness',
  [ExitCode.fenced]: 'another node won the witness; the guest goes on there',
  [ExitCode.refused]: 'the peer refused this node, or the newest generation is another node’s',
  [ExitCode.guestOff]: 'the guest switched itself off',
  [ExitCode.guestReset]: 'the guest asked for a reset: start it again if it shall go on',
  [ExitCode.witnessLost]: 'nobody could say who owns the guest, and --on-witness-loss is stop',
  [ExitCode.internal]: 'an error of our own',
};

const INTRODUCTION: Readonly<Record<CommandName, string>> = {
  'ft-primary': `Usage: ft-primary --kernel PATH --witness file:DIR [--standby HOST:PORT] [flags]

Boots a guest and, while a standby answers, keeps a copy of it on another host,
thousands of times a second. What the guest says leaves this host only when the
standby holds the state that said it. With --listen, a node that finds its guest
at another host becomes its standby: one command line for both hosts, always.

Example:
  ft-primary --kernel beacon.elf --memory 64M --tap tap0 \\
    --witness file:/srv/witness --standby 127.0.0.1:7001`,
  'ft-standby': `Usage: ft-standby --listen HOST:PORT --witness file:DIR [flags]

Holds the copy of a guest that runs under ft-primary on another host. When the
primary is lost and the witness agrees, the guest goes on here, from the last
state the primary was told is safe.

Example:
  ft-standby --listen 127.0.0.1:7001 --memory 64M --tap tap0 \\
    --witness file:/srv/witness`,
};

const LEFT_COLUMN = 30;
const TEXT_COLUMNS = 62;

export function helpText(command: CommandName): string {
  const lines = [INTRODUCTION[command], ''];
  const flags = flagsOf(command);
  for (const group of new Set(flags.map((flag) => flag.group))) {
    lines.push(`${group}:`);
    for (const flag of flags.filter((one) => one.group === group)) lines.push(...flagLines(flag));
    lines.push('');
  }
  lines.push('Exit codes:');
  for (const code of Object.values(ExitCode)) {
    lines.push(`  ${String(code).padStart(2)}  ${EXIT_MEANINGS[code]}`);
  }
  lines.push('', 'SIGTERM or SIGINT ends cleanly; a second one ends at once.', '');
  return lines.join('\n');
}

/** A flag and what it means, as lines of a help text. */
export function flagLines(flag: FlagSpec): string[] {
  const left = `  --${flag.name}${flag.value === undefined ? '' : ` ${flag.value}`}`;
  const fallback = flag.fallback ? ` [${flag.fallback}]` : '';
  const repeats = flag.repeats === true ? ' (may be repeated)' : '';
  const text = wrap(`${flag.help}${repeats}${fallback}`);
  const pad = ' '.repeat(LEFT_COLUMN);
  if (left.length < LEFT_COLUMN - 1) {
    const [first = '', ...rest] = text;
    return [left.padEnd(LEFT_COLUMN) + first, ...rest.map((line) => pad + line)];
  }
  return [left, ...text.map((line) => pad + line)];
}

function wrap(text: string): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line.length > 0 && line.length + 1 + word.length > TEXT_COLUMNS) {
      lines.push(line);
      line = '';
    }
    line = line.length === 0 ? word : `${line} ${word}`;
  }
  return [...lines, line];
}
