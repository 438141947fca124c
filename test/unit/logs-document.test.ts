/** docs/logs.md tells of the lines that are there: each that it names is said somewhere, and back. */
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { LOG_LEVELS } from '../../src/common/logger';

const root = path.join(__dirname, '..', '..');
const document = readFileSync(path.join(root, 'docs/logs.md'), 'utf8');
/** All of src/, with the pieces of long strings put together. */
const source = (readdirSync(path.join(root, 'src'), { recursive: true }) as string[])
  .filter((file) => file.endsWith('.ts') && !file.startsWith('drill'))
  .map((file) => readFileSync(path.join(root, 'src', file), 'utf8'))
  .join('\n')
  .replace(/['`] \+\s*['`]/g, '');

/** The part of a line that is the same each time. */
const fixed = (words: string): string => words.split(/…|\$\{/)[0]?.trim() ?? '';

test('every line that the document names is said', () => {
  const rows = document.slice(document.indexOf('## Lines')).match(/^\| \w+ \| .* \|.*\|$/gm) ?? [];
  const named = rows.flatMap((row) =>
    [...(row.split('|')[2] ?? '').matchAll(/`([^`]+)`/g)].map((match) => match[1] ?? ''),
  );
  expect(named.length).toBeGreaterThan(25);
  expect(named.filter((words) => !source.includes(fixed(words)))).toEqual([]);
});

test('every line that a node says is in the document', () => {
  const calls = [
    ...source.matchAll(/\b(?:logger|log)\.(?:debug|info|warn|error)\(\s*['`]([^'`\n]+)/g),
  ];
  const said = calls.map((match) => fixed(match[1] ?? '')).filter((words) => words !== '');
  expect(said.length).toBeGreaterThan(15);
  // A long sentence is named by its beginning.
  const unknown = said.filter((words) => !document.includes(words.slice(0, 24)));
  expect(unknown).toEqual([]);
});

test('every level is explained, from the most pressing on', () => {
  const rows = [...document.matchAll(/^\| `(\w+)` \| .* \| .* \|$/gm)].map(
    (match) => match[1] ?? '',
  );
  const levels = rows.filter((word) => LOG_LEVELS.some((level) => level === word));
  expect(levels).toEqual([...LOG_LEVELS].reverse());
});
