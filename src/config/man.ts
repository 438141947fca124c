/**
 * Manual pages from help texts, so that there is one source for both:
 *
 *   Usage: command words          .SH SYNOPSIS
 *   A paragraph.                  .SH DESCRIPTION
 *   Example:                      .SH EXAMPLES, as it stands
 *   Guest:                        .SS Guest, under .SH OPTIONS, when its entries are flags;
 *     --flag VALUE  what it is    else .SH in capitals; each entry is a .TP
 *   Exit codes:                   .SH EXIT STATUS
 *
 * Source of the macros: man(7).
 */

/** What a page has that a help text has not. */
export interface ManPage {
  readonly name: string;
  readonly section: 1 | 5;
  /** Half a sentence for the index of all pages. */
  readonly about: string;
  readonly version: string;
  readonly help: string;
  /** What stands between the help text and those sections, in the language of man(7). */
  readonly body?: readonly string[];
  /** Sections that follow, each with its paragraphs. */
  readonly more: readonly (readonly [title: string, paragraphs: readonly string[]])[];
  /** Other pages, such as "ftctl(1)". */
  readonly seeAlso: readonly string[];
}

/** The page in the language of man(7), ending with a line feed. */
export function manPage(page: ManPage): string {
  const { name, section, about, version } = page;
  const lines = [
    '.\\" Made by tools/make-man from the table of settings; changes belong there.',
    `.TH ${name.toUpperCase()} ${section} "" "Romulus ${version}" "Romulus"`,
    '.SH NAME',
    `${escaped(name)} \\- ${escaped(about)}`,
    ...new HelpReader().read(page.help),
    ...(page.body ?? []),
  ];
  for (const [title, paragraphs] of page.more) {
    lines.push(`.SH ${title}`, ...paragraphs.flatMap((text) => ['.PP', escaped(text)]));
  }
  const others = page.seeAlso.map((other) => {
    const [title = '', number = ''] = other.split(/[()]/);
    return `.BR ${escaped(title)} (${number})`;
  });
  lines.push('.SH SEE ALSO', others.join(',\n'));
  return `${lines.join('\n')}\n`;
}

/** Reads a help text line by line. */
class HelpReader {
  private readonly out: string[] = [];
  private paragraph: string[] = [];
  private verbatim = false;
  private flagsSeen = false;

  read(help: string): readonly string[] {
    const lines = help.trimEnd().split('\n');
    let at = this.synopsis(lines);
    this.out.push('.SH DESCRIPTION');
    for (; at < lines.length; at++) this.line(lines[at] ?? '', lines[at + 1] ?? '');
    this.endParagraph();
    this.endVerbatim();
    return this.out;
  }

  /** Returns the number of the first line behind it. */
  private synopsis(lines: readonly string[]): number {
    this.out.push('.SH SYNOPSIS', '.nf');
    let at = 0;
    for (; at < lines.length; at++) {
      const match = /^(?:Usage:| {6}) (.*)$/.exec(lines[at] ?? '');
      if (match === null) break;
      const [command = '', ...words] = (match[1] ?? '').trim().split(' ');
      this.out.push(`\\fB${escaped(command)}\\fR ${escaped(words.join(' '))}`.trimEnd());
    }
    this.out.push('.fi');
    return at;
  }

  private line(line: string, next: string): void {
    const heading = /^([A-Za-z][^.:]*):$/.exec(line);
    if (heading !== null) {
      this.endParagraph();
      this.endVerbatim();
      this.heading(heading[1] ?? '', next);
    } else if (this.verbatim && (line === '' || line.startsWith('  '))) {
      this.out.push(escaped(line.slice(2)));
    } else if (line === '') {
      this.endParagraph();
    } else {
      this.endVerbatim();
      this.words(line);
    }
  }

  private heading(title: string, next: string): void {
    if (/^Examples?$/.test(title)) {
      this.out.push('.SH EXAMPLES', '.nf');
      this.verbatim = true;
    } else if (/^ +-/.test(next)) {
      if (!this.flagsSeen) this.out.push('.SH OPTIONS');
      this.flagsSeen = true;
      if (title !== 'Flags') this.out.push(`.SS ${escaped(title)}`);
    } else {
      this.out.push(`.SH ${title === 'Exit codes' ? 'EXIT STATUS' : escaped(title.toUpperCase())}`);
    }
  }

  /** A line of a paragraph, the first one of an entry, or a further one of its text. */
  private words(line: string): void {
    const indent = line.length - line.trimStart().length;
    if (indent === 0) {
      if (this.paragraph.length === 0) this.out.push('.PP');
      this.paragraph.push(line);
      return;
    }
    if (indent > 3) {
      this.paragraph.push(line.trim());
      return;
    }
    this.endParagraph();
    const [term = '', ...text] = line.trim().split(/ {2,}/);
    this.out.push('.TP', marked(term));
    if (text.length > 0) this.paragraph.push(text.join(' '));
  }

  private endParagraph(): void {
    if (this.paragraph.length > 0) this.out.push(escaped(this.paragraph.join(' ')));
    this.paragraph = [];
  }

  private endVerbatim(): void {
    if (!this.verbatim) return;
    while (this.out.at(-1) === '') this.out.pop();
    this.out.push('.fi');
    this.verbatim = false;
  }
}

/** "--tap NAME": the word bold, what stands for a value in italics. */
export function marked(term: string): string {
  const [word = '', ...rest] = term.split(' ');
  const value = rest.length === 0 ? '' : ` \\fI${escaped(rest.join(' '))}\\fR`;
  return `\\fB${escaped(word)}\\fR${value}`;
}

/** Text as troff prints it: a dash stays one that can be copied, no line begins with a command. */
export function escaped(text: string): string {
  return text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replaceAll('’', '\\(cq')
    .replaceAll('…', '...')
    .replace(/^([.'])/gm, '\\&$1');
}
