/** Each command of ftctl as a subsection of its manual page, in the language of man(7). */
import { escaped, marked } from '../../config/man';
import type { CtlCommand } from './command';

export function ctlManBody(table: readonly CtlCommand[]): string[] {
  return ['.SH COMMANDS IN DETAIL', ...table.flatMap(subsection)];
}

function subsection(command: CtlCommand): string[] {
  const { name, operands = [], flags = [], about, examples } = command;
  const words = operands.map((one) => (one.optional === true ? `[${one.name}]` : one.name));
  return [
    `.SS ${escaped(['ftctl', name, ...words].join(' '))}`,
    ...about.flatMap((text) => ['.PP', escaped(text)]),
    ...flags.flatMap(({ name: flag, value, help, fallback }) => {
      const term = marked(`--${flag}${value === undefined ? '' : ` ${value}`}`);
      return ['.TP', term, escaped(fallback === undefined ? help : `${help} [${fallback}]`)];
    }),
    ...examples.flatMap(([line, use]) => ['.TP', marked(`ftctl ${line}`), escaped(use)]),
  ];
}
