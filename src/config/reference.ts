/** The table of all settings in docs/configuration.md, made from the table that the commands read. */
import { FLAGS, type FlagSpec } from './flags';
import { variableOf } from './given';
import { formatSize } from './values';

/** One table in Markdown per group. */
export function settingsReference(): string {
  const lines: string[] = [];
  for (const group of new Set(FLAGS.map((flag) => flag.group))) {
    const flags = FLAGS.filter((flag) => flag.group === group && !flag.commandLineOnly);
    if (flags.length === 0) continue;
    lines.push(`### ${group}`, '', '| key | value | default | reload | |', '|---|---|---|---|---|');
    for (const flag of flags) {
      const fallback = flag.fallback === undefined ? '' : `\`${flag.fallback || '""'}\``;
      const cells = [`\`${flag.name}\``, allowedWords(flag), fallback, reloadWords(flag)];
      lines.push(`| ${cells.join(' | ')} | ${escaped(flag.help)}${notes(flag)} |`);
    }
    lines.push('');
  }
  return lines.join('\n');
}

function allowedWords(flag: FlagSpec): string {
  const { type } = flag;
  if (type === undefined) return 'true or false';
  const words = (): string => {
    if (type.kind === 'integer') return `${type.min} to ${type.max}`;
    if (type.kind === 'size') return `${formatSize(type.min)} to ${formatSize(type.max)}`;
    if (type.kind === 'choice') return type.choices.map((choice) => `\`${choice}\``).join(', ');
    return `\`${escaped(flag.value)}\``;
  };
  return `${flag.repeats === true ? 'list of ' : ''}${words()}`;
}

function reloadWords({ reload }: FlagSpec): string {
  if (reload === 'contents') return 'contents';
  return reload === true ? 'yes' : '';
}

function notes(flag: FlagSpec): string {
  const only = flag.only === undefined ? '' : `; ${flag.only} alone`;
  return `${only}${flag.notInFile === true ? `; not in the file (\`${variableOf(flag.name)}\`)` : ''}`;
}

function escaped(text: string): string {
  return text.replaceAll('|', '\\|').replaceAll('<', '&lt;');
}
