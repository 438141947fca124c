/** The judge of "one active side, as the network sees it" finds what is wrong, and nothing else. */
import { findDualActive, type Grant, type GuestFrame } from '../../src/drill/lan/dual-active';

/** "a1 b2": frames of host a at 1 ms and of host b at 2 ms. */
function at(text: string): { host: 'a' | 'b'; atUs: number }[] {
  const words = text.split(' ').filter((word) => word !== '');
  return words.map((word) => ({
    host: word.startsWith('a') ? 'a' : 'b',
    atUs: Number(word.slice(1)) * 1000,
  }));
}

const judge = (frames: string, grants: string): string[] =>
  findDualActive(at(frames) as GuestFrame[], at(grants) as Grant[]).map(
    (moment) => `${moment.host} x${moment.frames}`,
  );

describe('two active sides', () => {
  test('one side alone is one side', () => {
    expect(judge('', '')).toEqual([]);
    expect(judge('a1 a2 a3', 'a0')).toEqual([]);
  });

  test('a takeover, and one back, are none', () => {
    expect(judge('a1 a100 b201 b202 a301 a302', 'a0 b200 a300')).toEqual([]);
  });

  test('one side may be promoted twice in a row, when the other never spoke between', () => {
    expect(judge('a1 b201 b202 b401 a501', 'a0 b200 b400 a500')).toEqual([]);
  });

  test('what a node says a moment late is as good', () => {
    expect(judge('a1 a100 b201 b202', 'a0 b210')).toEqual([]);
  });

  test('the old side after the new one is found', () => {
    expect(judge('a1 b201 a202 b203', 'a0 b200')).toEqual(['a x1']);
    expect(judge('a1 b201 a202 a203 b204 a205', 'a0 b200')).toEqual(['a x2', 'a x1']);
  });

  test('the old side may go on until the new one is heard', () => {
    expect(judge('a1 a250 b260', 'a0 b200')).toEqual([]);
  });

  test('a side that was never granted the guest is found', () => {
    expect(judge('a1 b201 b202', 'a0')).toEqual(['b x2']);
  });

  test('an old grant is no reason to speak again', () => {
    expect(judge('a1 b201 a301 b302 b303', 'a0 b200 a300')).toEqual(['b x2']);
  });

  test('a moment says who, how much and how long after', () => {
    const [moment] = findDualActive(at('a1 b201 a202 a206 b207'), at('a0 b200'));
    expect(moment).toMatchObject({ host: 'a', frames: 2, fromUs: 202_000, toUs: 206_000 });
    expect(moment?.story).toMatch(
      /host a sent 2 frames in 4\.0 ms, the first 2\.0 ms after host b/,
    );
  });
});
