/** "Did you mean …": the known name that a misspelt one is nearest to. */

const EDITS_MAX = 2;

/** The nearest of `known` that is at most two typing errors away, one for very short names. */
export function nearest(name: string, known: readonly string[]): string | undefined {
  let best: string | undefined;
  let edits = Math.min(EDITS_MAX, Math.floor(name.length / 2)) + 1;
  for (const candidate of known) {
    if (Math.abs(candidate.length - name.length) >= edits) continue;
    const distance = editDistance(candidate, name);
    if (distance < edits) [best, edits] = [candidate, distance];
  }
  return best;
}

/** Levenshtein's distance; the words are short. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const swap = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(swap, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
