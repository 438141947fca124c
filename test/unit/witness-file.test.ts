/** The file witness: conformance, processes against each other, storage that misbehaves. */
import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { FileWitness } from '../../src/witness/file';
import { thisProcess } from '../../src/witness/process-identity';
import { encodeRecord } from '../../src/witness/record';
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

  test('a prepared claim is one link: the draft, written before, gets the name', async () => {
    const witness = await FileWitness.open(directory);
    await witness.claim('web', 0, 'alpha');
    await witness.prepare('web', 1, 'alpha');
    await witness.prepare('web', 1, 'alpha');
    const [draft, ...rest] = (await readdir(directory)).sort();
    expect(draft).toMatch(/^\.web\.[0-9a-f]{16}\.draft$/);
    expect(rest).toEqual(['web.generation-1']);
    const { ino } = await stat(path.join(directory, String(draft)));
    expect(await witness.claim('web', 1, 'alpha')).toEqual({ outcome: 'won', generation: 2 });
    await witness.close();
    expect((await readdir(directory)).sort()).toEqual(['web.generation-1', 'web.generation-2']);
    const file = path.join(directory, 'web.generation-2');
    expect(await stat(file)).toMatchObject({ ino, nlink: 1 });
    const record = JSON.parse(await readFile(file, 'utf8')) as Record<string, unknown>;
    expect(record).toMatchObject({ generation: 2, owner: 'alpha' });
    // When it was claimed is not known beforehand, so it does not say so.
    expect(record['claimedAt']).toBeUndefined();
    expect(Date.parse(String(record['preparedAt']))).toBeGreaterThan(1.7e12);
  });

  test('nothing that was prepared stays behind: lost, another generation, an end', async () => {
    const witness = await FileWitness.open(directory);
    const other = await FileWitness.open(directory);
    const drafts = async (): Promise<number> =>
      (await readdir(directory)).filter((name) => name.startsWith('.')).length;
    await witness.prepare('web', 0, 'alpha');
    await other.claim('web', 0, 'beta');
    expect((await witness.claim('web', 0, 'alpha')).outcome).toBe('lost');
    await witness.current('web');
    expect(await drafts()).toBe(0);
    await witness.prepare('web', 1, 'alpha');
    await other.claim('web', 1, 'beta');
    await witness.prepare('web', 2, 'alpha');
    expect(await drafts()).toBe(1);
    await witness.prepare('web', 7, 'alpha');
    expect(await drafts()).toBe(0);
    await witness.prepare('web', 2, 'alpha');
    await witness.prepare('mail', 0, 'alpha');
    expect(await drafts()).toBe(2);
    await witness.close();
    expect(await drafts()).toBe(0);
  });

  test('what a dead process prepared is removed; what a living or unknown one did is not', async () => {
    const me = thisProcess();
    const dead = { ...me, incarnation: 'd'.repeat(16), started: '1' };
    const far = { ...me, incarnation: 'f'.repeat(16), host: 'e'.repeat(32) };
    for (const identity of [dead, far]) {
      const file = path.join(directory, `.web.${identity.incarnation}.draft`);
      await writeFile(file, `${encodeRecord(1, 'alpha', identity, 'preparedAt')}\n`);
    }
    const living = await FileWitness.open(directory);
    await living.prepare('web', 0, 'alpha');
    const strangers = [
      '.web.0123456789abcdef.draft',
      '.web.x.0123456789abcdef.draft',
      '.web.draft',
    ];
    for (const name of strangers) await writeFile(path.join(directory, name), 'no record');
    const before = (await readdir(directory)).sort();
    const witness = await FileWitness.open(directory);
    await witness.prepare('web', 0, 'beta');
    await witness.close();
    const gone = `.web.${dead.incarnation}.draft`;
    expect((await readdir(directory)).sort()).toEqual(before.filter((name) => name !== gone));
    await living.close();
  });

  test('a draft that went away costs time alone; a directory that did, the answer', async () => {
    const witness = await FileWitness.open(directory);
    await witness.claim('web', 0, 'alpha');
    await witness.prepare('web', 1, 'alpha');
    for (const name of await readdir(directory)) {
      if (name.startsWith('.')) await rm(path.join(directory, name));
    }
    expect(await witness.claim('web', 1, 'alpha')).toEqual({ outcome: 'won', generation: 2 });
    await witness.prepare('web', 2, 'alpha');
    await rename(directory, `${directory}.away`);
    await mkdir(directory);
    // Empty, as where the storage is not mounted: the draft is not there to be linked.
    await expect(witness.claim('web', 2, 'alpha')).rejects.toMatchObject({
      code: 'FT_ERR_WITNESS_BEHIND',
    });
    await expect(witness.prepare('web', 2, 'alpha')).resolves.toBeUndefined();
    expect(await readdir(directory)).toEqual([]);
    await rm(directory, { recursive: true });
    await expect(witness.prepare('web', 2, 'alpha')).rejects.toMatchObject({
      code: 'FT_ERR_WITNESS_UNREACHABLE',
    });
    await rename(`${directory}.away`, directory);
    expect(await witness.claim('web', 2, 'alpha')).toEqual({ outcome: 'won', generation: 3 });
    await witness.close();
  });

  test('a prepared claim without its directory is an unknown outcome, and is made again', async () => {
    const witness = await FileWitness.open(directory);
    await witness.claim('web', 0, 'alpha');
    await witness.prepare('web', 1, 'alpha');
    await rename(directory, `${directory}.away`);
    await expect(witness.claim('web', 1, 'alpha')).rejects.toMatchObject({
      code: 'FT_ERR_WITNESS_UNREACHABLE',
    });
    await rename(`${directory}.away`, directory);
    expect(await witness.claim('web', 1, 'alpha')).toEqual({ outcome: 'won', generation: 2 });
    await witness.close();
    await expect(witness.claim('web', 2, 'alpha')).rejects.toMatchObject({
      code: 'FT_ERR_WITNESS_CLOSED',
    });
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
    limit.answerMsMax = 10;
    const late = witness.claim('web', 0, 'beta');
    // It begins in time.
    await Promise.resolve();
    const until = performance.now() + 20;
    while (performance.now() < until);
    await expect(late).rejects.toMatchObject({ code: 'FT_ERR_WITNESS_UNREACHABLE' });
    limit.answerMsMax = 2000;
    // Asked at once, while the claim is still on its way: the answer waits for it.
    expect(await witness.current('web')).toMatchObject({ generation: 1, owner: 'beta' });
  });

  test('after storage that hung: what nobody waits for is not asked any more', async () => {
    const witness = await FileWitness.open(directory);
    let comesBack: () => void = () => undefined;
    const hidden = witness as unknown as { settled: Promise<void>; answerMsMax: number };
    hidden.settled = new Promise((resolve) => {
      comesBack = resolve;
    });
    hidden.answerMsMax = 5;
    const claims = Array.from({ length: 100 }, () => witness.claim('web', 0, 'alpha'));
    const outcomes = await Promise.allSettled(claims);
    expect(new Set(outcomes.map((outcome) => outcome.status))).toEqual(new Set(['rejected']));
    hidden.answerMsMax = 2000;
    comesBack();
    // No claim of those took effect before this answer, and none does afterwards.
    expect(await witness.current('web')).toBeUndefined();
    expect(await readdir(directory)).toEqual([]);
    expect(await witness.claim('web', 0, 'alpha')).toEqual({ outcome: 'won', generation: 1 });
  });

  test('of 8 processes claiming at once exactly one wins, 50 times over', async () => {
    const judge = await FileWitness.open(directory);
    await claimInProcesses({ processes: 8, rounds: 50, where: directory, judge });
    expect((await readdir(directory)).length).toBe(50);
  }, 60_000);

  test('… and as many, when half of them are prepared', async () => {
    const judge = await FileWitness.open(directory);
    await claimInProcesses({ processes: 8, rounds: 50, where: directory, judge, prepared: 4 });
    const names = await readdir(directory);
    expect(names.filter((name) => !name.startsWith('.')).length).toBe(50);
  }, 60_000);
});
