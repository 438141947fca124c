/**
 * Says (exit code 0 or 1) whether node_modules holds what package-lock.json asks for, so that
 * `make setup` runs `npm ci` only when something changed.
 *
 * npm leaves its own record of what it installed in node_modules/.package-lock.json; the two files
 * are compared package by package. Optional packages may be missing (they are for other platforms),
 * but one that is there must have the version asked for.
 */

const { existsSync, readFileSync } = require('node:fs');
const path = require('node:path');

const root = path.join(__dirname, '..');

/** The `packages` of a lock file, by path; undefined when there is no such file. */
function packagesOf(file) {
  const full = path.join(root, file);
  if (!existsSync(full)) return undefined;
  return JSON.parse(readFileSync(full, 'utf8')).packages;
}

/** The first difference in words, or undefined when node_modules is as asked for. */
function firstDifference() {
  const wanted = packagesOf('package-lock.json');
  if (wanted === undefined) return 'there is no package-lock.json';
  const installed = packagesOf('node_modules/.package-lock.json');
  if (installed === undefined) return 'nothing is installed yet';
  for (const [where, entry] of Object.entries(wanted)) {
    if (where === '') continue;
    const found = installed[where];
    if (found === undefined) {
      if (entry.optional || entry.devOptional || entry.peer) continue;
      return `${where} is missing`;
    }
    if (found.version !== entry.version) {
      return `${where} is ${found.version} instead of ${entry.version}`;
    }
    if (!existsSync(path.join(root, where))) return `${where} is recorded but not there`;
  }
  return undefined;
}

const difference = firstDifference();
if (difference !== undefined) {
  process.stdout.write(`${difference}\n`);
  process.exitCode = 1;
}
