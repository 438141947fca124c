/**
 * Regular expressions that allow exactly the decimal numbers of a range: JSON Schema has no other way
 * to limit a number that stands in a text, such as the 64 in "64M" or a port behind a host.
 */

/** A pattern, without anchors, for the whole numbers min…max without leading zeros; 0 <= min <= max. */
export function rangePattern(min: number, max: number): string {
  const parts: string[] = [];
  let low = min;
  while (low <= max) {
    const high = endOfBlock(low, max);
    parts.push(blockPattern(`${low}`, `${high}`));
    low = high + 1;
  }
  return `(?:${parts.join('|')})`;
}

/** The largest number such that low…it differ in one digit, and in the digits behind it freely. */
function endOfBlock(low: number, max: number): number {
  let unit = 1;
  // Of the same length, from a multiple of the next unit on, and not beyond the maximum.
  while (low > 0 && low % (unit * 10) === 0 && low + unit * 10 - 1 <= max) unit *= 10;
  const digit = Math.floor(low / unit) % 10;
  for (let top = 9; top >= digit; top -= 1) {
    const high = low + (top - digit + 1) * unit - 1;
    if (high <= max) return high;
  }
  return low;
}

/** For two numbers of the same length, equal up to one digit, then from 0… to 9…. */
function blockPattern(low: string, high: string): string {
  let at = 0;
  while (at < low.length && low[at] === high[at]) at += 1;
  if (at === low.length) return low;
  const free = low.length - at - 1;
  const digits = `[${low[at]}-${high[at]}]`;
  const rest = free === 0 ? '' : free === 1 ? '[0-9]' : `[0-9]{${free}}`;
  return low.slice(0, at) + digits + rest;
}

/**
 * A pattern, without anchors, for the multiples of a power of two, written without leading zeros:
 * whether a number is one, its last digits say, as many as the power.
 */
export function multiplePattern(powerOfTwo: number): string {
  const digits = Math.log2(powerOfTwo);
  const endings: string[] = [];
  const short: string[] = [];
  for (let value = 0; value < 10 ** digits; value += powerOfTwo) {
    const text = `${value}`;
    endings.push(text.padStart(digits, '0'));
    if (text.length < digits) short.push(text);
  }
  if (digits === 0) return '[0-9]+';
  return `(?:[0-9]*(?:${endings.join('|')})${short.map((text) => `|${text}`).join('')})`;
}
