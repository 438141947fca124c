/** The manual pages: as the tables of settings have it, complete, and free of faults for man. */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { manPages } from '../../src/cli/man-pages';
import { flagsOf } from '../../src/config/flags';
import { escaped, manPage } from '../../src/config/man';

const root = path.join(__dirname, '../..');
const folder = path.join(root, 'docs/man');

/** What a reader sees, with the overstriking of old printers taken out. */
function read(file: string): string {
  const args = ['--warnings=all', '-E', 'UTF-8', '-l', file];
  const env = { ...process.env, MANWIDTH: '90', MAN_KEEP_FORMATTING: '' };
  const run = spawnSync('man', args, { encoding: 'utf8', env });
  expect(run.stderr).toBe('');
  expect(run.status).toBe(0);
  return run.stdout.replace(/.[\b]/g, '').replace(/\s+/g, ' ');
}

const test_ = existsSync('/usr/bin/man') ? test : test.skip;

describe('manual pages', () => {
  const pages = manPages();

  test('docs/man is what tools/make-man writes today', () => {
    expect(readdirSync(folder).sort()).toEqual([...pages.keys()].sort());
    for (const [name, text] of pages) {
      expect({ name, text: readFileSync(path.join(folder, name), 'utf8') }).toEqual({ name, text });
    }
  });

  test('they come with the package', () => {
    const description = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8'));
    const listed = [...pages.keys()].map((name) => `docs/man/${name}`);
    expect([...description.man].sort()).toEqual(listed.sort());
    expect(description.files).toContain('docs');
    const commands = Object.keys(description.bin);
    expect([...pages.keys()]).toEqual(expect.arrayContaining(commands.map((name) => `${name}.1`)));
  });

  test('every flag and every key is there', () => {
    for (const command of ['ft-primary', 'ft-standby'] as const) {
      for (const { name } of flagsOf(command)) {
        expect(pages.get(`${command}.1`)).toContain(`\\fB${escaped(`--${name}`)}\\fR`);
      }
    }
    for (const flag of flagsOf('ft-primary')) {
      const inFile = flag.commandLineOnly !== true && flag.notInFile !== true;
      const key = `\\fB${escaped(flag.name)}:\\fR`;
      expect(pages.get('romulus.yaml.5')?.includes(key)).toBe(inFile);
    }
  });

  test_('man prints them without a warning, and a reader finds what there is', () => {
    for (const name of pages.keys()) {
      const text = read(path.join(folder, name));
      for (const title of ['NAME', 'SYNOPSIS', 'DESCRIPTION', 'SEE ALSO']) {
        expect(text).toContain(title);
      }
    }
    const primary = read(path.join(folder, 'ft-primary.1'));
    expect(primary).toMatch(/--interval-us N time between cuts \[400\]/);
    expect(primary).toMatch(/EXIT STATUS 0 ended as asked 2 /);
    expect(primary).toContain('ft-primary --kernel beacon.elf --memory 64M --tap tap0 \\');
  });

  test('what troff would take for a command or a hyphen is told to be none', () => {
    const page = manPage({
      name: 'x',
      section: 1,
      about: 'a-b',
      version: '1',
      help: 'Usage: x\n\n.dotted\nand \\back\n\nFlags:\n  --long-flag VALUE\n       .text\n',
      more: [],
      seeAlso: [],
    });
    expect(page).toContain('a\\-b');
    expect(page).toContain('\\&.dotted and \\eback');
    expect(page).toContain('.SH OPTIONS\n.TP\n\\fB\\-\\-long\\-flag\\fR \\fIVALUE\\fR\n\\&.text');
  });
});
