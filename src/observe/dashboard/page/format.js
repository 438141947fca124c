/**
 * Figures and times as people read them: three digits, a unit on each, the browser's own time zone.
 * Each function takes undefined for "not known" and says so with a dash.
 */

const NONE = '–';

/** @param {number} value */
function digits(value) {
  const size = Math.abs(value);
  const places = size >= 100 || Number.isInteger(value) ? 0 : size >= 10 ? 1 : 2;
  return value.toLocaleString('en', { maximumFractionDigits: places });
}

/**
 * @param {number | undefined} value
 * @param {readonly (readonly [number, string])[]} steps From the largest factor to 1.
 */
function scaled(value, steps) {
  if (value === undefined || !Number.isFinite(value)) return NONE;
  for (const [factor, unit] of steps) {
    if (Math.abs(value) >= factor) return `${digits(value / factor)} ${unit}`;
  }
  return `${digits(value)} ${steps.at(-1)?.[1] ?? ''}`;
}

/** Microseconds. @param {number | undefined} us */
export function duration(us) {
  return scaled(us, [
    [1e6, 's'],
    [1e3, 'ms'],
    [1, 'µs'],
  ]);
}

/** @param {number | undefined} value */
export function bytes(value) {
  return scaled(value, [
    [1e9, 'GB'],
    [1e6, 'MB'],
    [1e3, 'kB'],
    [1, 'B'],
  ]);
}

/** @param {number | undefined} value */
export function rate(value) {
  const text = bytes(value);
  return text === NONE ? text : `${text}/s`;
}

/** @param {number | undefined} value */
export function count(value) {
  if (value === undefined || !Number.isFinite(value)) return NONE;
  return digits(value >= 100 ? Math.round(value) : value);
}

/** A count and what is counted. @param {string} unit @param {string} one */
export function counted(unit, one = unit) {
  /** @param {number | undefined} value */
  return (value) =>
    count(value) === NONE ? NONE : `${count(value)} ${count(value) === '1' ? one : unit}`;
}

/** 0…1. @param {number | undefined} ratio */
export function percent(ratio) {
  if (ratio === undefined) return NONE;
  return `${Math.floor(ratio * 1000) / 10} %`;
}

/** A moment in local time. @param {number} ms Unix time. */
export function clock(ms) {
  return new Date(ms).toLocaleTimeString('en-GB');
}

/** One that may lie days back. @param {number} ms */
export function moment(ms) {
  const then = new Date(ms);
  if (then.toDateString() === new Date().toDateString()) return clock(ms);
  return `${clock(ms)} on ${then.toLocaleDateString('en-GB', { day: 'numeric', month: 'long' })}`;
}

/** A moment to the millisecond. @param {number} ms */
export function preciseClock(ms) {
  const millis = `${new Date(ms).getMilliseconds()}`.padStart(3, '0');
  return `${clock(ms)}.${millis}`;
}

/** What a pointer sees that rests on a time. @param {number} ms */
export function utc(ms) {
  return `${new Date(ms).toISOString().replace('T', ' ').replace('Z', '')} UTC`;
}
