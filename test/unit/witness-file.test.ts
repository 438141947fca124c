/** The file witness: conformance, processes against each other, storage that misbehaves. */
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { FileWitness } from '../../src/witness/file';
import { claimInProcesses } from '../support/witness-processes';
import { describeWitness } from './witness-conformance';

async function folder(): Promise<string> {
  return mkdtemp(path.join(tmpdir(), 'romulus-witness-'));
}

describeWitness('a directory', async () => {
  const directory = await folder();
  return {
    open: (identity) => FileWitness.open(directory, identity && { identity }),
    remove: () => rm(directory, { recursive: true }),
  };
});

describe('FileWitness', () => {
  let directory: string;

  beforeEach(async () => {
    directory = await folder();
  });

  afterEach(async () => {
    await rm(directory, { recursive: true, force: true });
  });

  test('a generation is one file with its whole content, and no draft stays', async () => {
    const witness = await FileWitness.open(directory);
    await witness.claim('web', 0, 'alpha');
    await witness.claim('web', 0, 'alpha');
    expect(await readdir(directory)).toEqual(['web.generation-1']);
    const text = await readFile(path.join(directory, 'web.generation-1'), 'utf8');
    const record = JSON.parse(text) as Record<string, unknown>;
    expect(record).toMatchObject({ generation: 1, owner: 'alpha' });
    expect(Date.parse(String(record['claimedAt']))).toBeGreaterThan(1.7e12);
  });

  test('a directory that is not there is never made', async () => {
    const missing = path.join(directory, 'not-mounted');
    await expect(FileWitness.open(missing)).rejects.toMatchObject({
      code: 'FT_ERR_WITNESS_UNREACHABLE',
      message: expect.stringContaining('Create the directory') as string,
    });
    expect(await readdir(directory)).toEqual([]);
  });

  test('a file in its place is refused', async () => {
    const file = path.join(directory, 'file');
    await writeFile(file, '');
    await expect(FileWitness.open(file)).rejects.toMatchObject({
      code: 'FT_ERR_WITNESS_UNREACHABLE',
    });
  });

  test('storage that goes away leaves the outcome unknown', async () => {
    const witness = await FileWitness.open(directory);
    await witness.claim('web', 0, 'alpha');
    await rm(directory, { recursive: true });
    await expect(witness.current('web')).rejects.toMatchObject({
      code: 'FT_ERR_WITNESS_UNREACHABLE',
    });
    await expect(witness.claim('web', 1, 'alpha')).rejects.toMatchObject({
      code: 'FT_ERR_WITNESS_UNREACHABLE',
    });
  });

  test('an empty directory in the place of the known one lets nobody take over', async () => {
    const witness = await FileWitness.open(directory);
    await expect(witness.claim('web', 3, 'alpha')).rejects.toMatchObject({
      code: 'FT_ERR_WITNESS_BEHIND',
      facts: { known: 0, seen: 3 },
    });
    expect(await readdir(directory)).toEqual([]);
  });

  test.each([
    ['nothing', ''],
    ['half a record', '{"generation":1,"own'],
    ['another generation', '{"generation":2,"owner":"alpha","incarnation":"a1"}'],
    ['no owner', '{"generation":1,"incarnation":"a1"}'],
    ['an owner that is no name', '{"generation":1,"owner":"../x","incarnation":"a1"}'],
    ['no incarnation', '{"generation":1,"owner":"alpha"}'],
    ['generation zero', '{"generation":0,"owner":"alpha","incarnation":"a1"}'],
    ['a list', '[1]'],
    [
      'five kilobytes',
      JSON.stringify({ generation: 1, owner: 'a', incarnation: 'b', x: 'y'.repeat(5000) }),
    ],
  ])('a record with %s is corrupt, never ours', async (_what, text) => {
    await writeFile(path.join(directory, 'web.generation-1'), text);
    const witness = await FileWitness.open(directory);
    const corrupt = { code: 'FT_ERR_WITNESS_CORRUPT' };
    await expect(witness.current('web')).rejects.toMatchObject(corrupt);
    await expect(witness.claim('web', 0, 'alpha')).rejects.toMatchObject(corrupt);
    await expect(witness.claim('web', 1, 'alpha')).rejects.toMatchObject(corrupt);
  });

  test('silence is no answer', async () => {
    const witness = await FileWitness.open(directory);
    // A time limit that is over before any storage can answer.
    const impatient = await FileWitness.open(directory);
    (impatient as unknown as { answerMsMax: number }).answerMsMax = 0;
    const blocked = impatient.claim('web', 0, 'beta');
    const until = performance.now() + 20;
    while (performance.now() < until);
    await expect(blocked).rejects.toMatchObject({ code: 'FT_ERR_WITNESS_UNREACHABLE' });
    // Whatever became of that claim, the witness tells it consistently afterwards.
    await new Promise((resolve) => setTimeout(resolve, 50));
    const seen = await witness.current('web');
    if (seen !== undefined) expect(seen).toMatchObject({ generation: 1, owner: 'beta' });
  });

  test('nothing is said about a pair while a claim that came too late may still land', async () => {
    const witness = await FileWitness.open(directory);
    const limit = witness as unknown as { answerMsMax: number };
    limit.answerMsMax = 0;
    const late = witness.claim('web', 0, 'beta');
    const until = performance.now() + 20;
    while (performance.now() < until);
    await expect(late).rejects.toMatchObject({ code: 'FT_ERR_WITNESS_UNREACHABLE' });
    limit.answerMsMax = 2000;
    // Asked at once, while the claim is still on its way: the answer waits for it.
    expect(await witness.current('web')).toMatchObject({ generation: 1, owner: 'beta' });
  });

  test('of 8 processes claiming at once exactly one wins, 50 times over', async () => {
    const judge = await FileWitness.open(directory);
    await claimInProcesses({ processes: 8, rounds: 50, where: directory, judge });
    expect((await readdir(directory)).length).toBe(50);
  }, 60_000);
});
