/** The release that this program is of, as package.json has it. */
import { readFileSync } from 'node:fs';
import path from 'node:path';

export function version(): string {
  const here = path.resolve(__dirname, '..', '..');
  const root = path.basename(here) === 'dist' ? path.dirname(here) : here;
  const text = readFileSync(path.join(root, 'package.json'), 'utf8');
  return String((JSON.parse(text) as { version?: unknown }).version);
}
