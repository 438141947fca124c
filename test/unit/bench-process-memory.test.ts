/** What the system says of the memory of a process. */
import { ownBytesOf, processMemory } from '../../bench/process-memory';

test('what is private and what are files counts, shared memory files do not', () => {
  const rollup = [
    '00400000-7fff [rollup]',
    'Rss:             2168860 kB',
    'Pss:             2135360 kB',
    'Pss_Anon:           1000 kB',
    'Pss_File:             24 kB',
    'Pss_Shmem:       1048576 kB',
  ].join('\n');
  expect(ownBytesOf(rollup)).toBe(1024 * 1024);
  expect(() => ownBytesOf('Rss: 1 kB')).toThrow('Pss_Anon');
});

test('this process takes memory and has no guest', () => {
  const memory = processMemory(process.pid);
  expect(memory.ownBytes).toBeGreaterThan(10 * 1024 * 1024);
  expect(memory).toMatchObject({ guestFileBytes: 0, totalBytes: memory.ownBytes });
});
