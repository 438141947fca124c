/** LZ4: what is on the wire, when it is used, and what a broken block does. */
import { randomBytes } from 'node:crypto';
import { FtError } from '../../src/common/errors';
import { COMPRESS_BYTES_MIN, Lz4Compressor, Lz4Decompressor } from '../../src/wire/compressor';
import { BODY_BYTES_MAX } from '../../src/wire/frame';

/** A clock on which every compression takes `us`. */
function stepping(us: { value: number }): () => number {
  let now = 0;
  return () => {
    now += us.value / 2;
    return now;
  };
}

const TEXT = Buffer.from('the quick brown fox jumps over the lazy dog; '.repeat(400));
const INTO = Buffer.alloc(1 << 20);

describe('Lz4Compressor', () => {
  test('what it packs comes back, as one raw LZ4 block', () => {
    const compressor = new Lz4Compressor(stepping({ value: 1 }));
    const bytes = compressor.compress(TEXT, INTO);
    expect(bytes).toBeGreaterThan(0);
    expect(bytes).toBeLessThan(TEXT.length / 10);
    // A raw block begins with a token: literals in the high half. No length, no magic in front.
    expect((INTO[0] as number) >> 4).toBe(15);
    const raw = new Lz4Decompressor().decompress(INTO.subarray(0, bytes), TEXT.length);
    expect(Buffer.compare(raw as Uint8Array, TEXT)).toBe(0);
  });

  test('a block written by hand is understood', () => {
    // Token 0x1f: 1 literal, match of 15 + 4 + more; offset 1; more = 80; then 5 last literals.
    const block = Buffer.from('1f610100505061616161 61'.replace(' ', ''), 'hex');
    const raw = new Lz4Decompressor().decompress(block, 105);
    expect(Buffer.from(raw as Uint8Array).toString()).toBe('a'.repeat(105));
  });

  test('small bodies and noise go as they are', () => {
    const compressor = new Lz4Compressor(stepping({ value: 1 }));
    expect(compressor.compress(Buffer.alloc(COMPRESS_BYTES_MIN - 1), INTO)).toBe(0);
    expect(compressor.facts().tried).toBe(0);
    expect(compressor.compress(randomBytes(8192), INTO)).toBe(0);
    expect(compressor.facts()).toMatchObject({ tried: 1, sentCompressed: 0 });
  });

  test('a body that would not fit into the target goes as it is', () => {
    const compressor = new Lz4Compressor(stepping({ value: 1 }));
    expect(compressor.compress(TEXT, Buffer.alloc(16))).toBe(0);
  });

  test('what does not pay is tried ever more rarely, and found again when it pays', () => {
    const compressor = new Lz4Compressor(stepping({ value: 1 }));
    const noise = randomBytes(8192);
    for (let i = 0; i < 1000; i++) compressor.compress(noise, INTO);
    const { tried, skipped } = compressor.facts();
    expect(tried + skipped).toBe(1000);
    expect(tried).toBeGreaterThanOrEqual(3);
    expect(tried).toBeLessThan(10);
    let until = 0;
    while (compressor.compress(TEXT, INTO) === 0) until++;
    expect(until).toBeLessThanOrEqual(1024);
    expect(compressor.compress(TEXT, INTO)).toBeGreaterThan(0);
    expect(compressor.facts().savedPart).toBeGreaterThan(0.9);
  });

  test('the link decides: the same body pays on a slow one and not on a fast one', () => {
    const us = { value: 400 };
    const slow = new Lz4Compressor(stepping(us));
    for (let i = 0; i < 60; i++) slow.observeLink(125_000, 10_000);
    expect(slow.facts().linkBytesPerUs).toBeCloseTo(12.5, 0);
    expect(slow.compress(TEXT, INTO)).toBeGreaterThan(0);
    const fast = new Lz4Compressor(stepping(us));
    for (let i = 0; i < 60; i++) fast.observeLink(1_000_000, 200);
    expect(fast.facts().linkBytesPerUs).toBeCloseTo(5000, -2);
    expect(fast.compress(TEXT, INTO)).toBe(0);
    expect(fast.compress(TEXT, INTO)).toBe(0);
    expect(fast.facts()).toMatchObject({ tried: 1, skipped: 1 });
  });

  test('short transfers and times of zero say nothing about the link', () => {
    const compressor = new Lz4Compressor();
    const before = compressor.facts().linkBytesPerUs;
    compressor.observeLink(4096, 1000);
    compressor.observeLink(1 << 20, 0);
    compressor.observeLink(1 << 20, Number.NaN);
    expect(compressor.facts().linkBytesPerUs).toBe(before);
  });
});

describe('Lz4Decompressor', () => {
  const compressor = new Lz4Compressor(stepping({ value: 1 }));
  const bytes = compressor.compress(TEXT, INTO);
  const block = Buffer.from(INTO.subarray(0, bytes));

  test.each([
    ['cut short', block.subarray(0, bytes - 3), TEXT.length],
    ['one byte only', block.subarray(0, 1), TEXT.length],
    ['empty', Buffer.alloc(0), 100],
    ['longer than claimed', block, TEXT.length - 1],
    ['shorter than claimed', block, TEXT.length + 1],
    ['an offset before the beginning', Buffer.from('1f61ff00505061616161', 'hex'), 100],
    ['an offset of zero', Buffer.from('1f610000505061616161', 'hex'), 104],
    ['over the limit', block, BODY_BYTES_MAX + 1],
    ['noise', randomBytes(2000), 4000],
  ])('%s is an error value', (_name, bad, rawBytes) => {
    const result = new Lz4Decompressor().decompress(bad, rawBytes);
    expect(result).toBeInstanceOf(FtError);
    expect((result as FtError).code).toBe('FT_ERR_FRAME_LZ4');
  });

  test('an error leaves it as good as new, and results are not overwritten by later ones', () => {
    const decompressor = new Lz4Decompressor();
    const first = decompressor.decompress(block, TEXT.length) as Uint8Array;
    decompressor.decompress(Buffer.from('ff', 'hex'), 100);
    decompressor.decompress(block, TEXT.length);
    expect(Buffer.compare(first, TEXT)).toBe(0);
  });
});
