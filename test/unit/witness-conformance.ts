/**
 * What every Witness must do, whatever stands behind it. A backend's test calls this with a way to
 * make Witness objects that share one (fresh) backend.
 */
import type { FtError } from '../../src/common/errors';
import { type ProcessIdentity, thisProcess } from '../../src/witness/process-identity';
import type { Witness } from '../../src/witness/witness';

export interface WitnessBackend {
  /** Another Witness object on the same backend, as another process (or host) would have. */
  open(identity?: ProcessIdentity): Promise<Witness>;
  /** Removes the backend. */
  remove(): Promise<void>;
}

export function describeWitness(name: string, start: () => Promise<WitnessBackend>): void {
  describe(`${name} as a witness`, () => {
    let backend: WitnessBackend;
    let alpha: Witness;
    let beta: Witness;

    beforeEach(async () => {
      backend = await start();
      alpha = await backend.open();
      beta = await backend.open();
    });

    afterEach(async () => {
      await alpha.close();
      await beta.close();
      await backend.remove();
    });

    test('a pair that never ran has no generation', async () => {
      expect(await alpha.current('web')).toBeUndefined();
    });

    test('the first claim wins generation 1, and everybody sees it', async () => {
      expect(await alpha.claim('web', 0, 'alpha')).toEqual({ outcome: 'won', generation: 1 });
      expect(await alpha.current('web')).toMatchObject({ generation: 1, owner: 'alpha' });
      expect(await beta.current('web')).toMatchObject({ generation: 1, owner: 'alpha' });
    });

    test('the second to claim loses and learns who won', async () => {
      await alpha.claim('web', 0, 'alpha');
      const current = { generation: 1, owner: 'alpha' };
      expect(await beta.claim('web', 0, 'beta')).toEqual({ outcome: 'lost', current });
    });

    test('claiming again gives the same answer to the winner', async () => {
      await alpha.claim('web', 0, 'alpha');
      expect(await alpha.claim('web', 0, 'alpha')).toEqual({ outcome: 'won', generation: 1 });
      expect(await alpha.current('web')).toMatchObject({ generation: 1, owner: 'alpha' });
    });

    test('another process of the same node is not the winner', async () => {
      await alpha.claim('web', 0, 'alpha');
      const again = await beta.claim('web', 0, 'alpha');
      expect(again.outcome).toBe('lost');
    });

    test('who is behind a name is told apart from the name', async () => {
      await alpha.claim('web', 0, 'alpha');
      const origin = expect.stringContaining(`process ${process.pid}`) as string;
      expect(await alpha.current('web')).toEqual({
        ...{ generation: 1, owner: 'alpha', claimant: 'self', origin },
      });
      expect(await beta.current('web')).toMatchObject({ owner: 'alpha', claimant: 'running' });
      const me = thisProcess();
      const seenBy = async (identity: ProcessIdentity): Promise<unknown> => {
        const other = await backend.open(identity);
        const current = await other.current('web');
        await other.close();
        return current?.claimant;
      };
      expect(await seenBy({ ...me, host: 'f'.repeat(32) })).toBe('elsewhere');
      const rebooted = me.hardware === '' ? 'elsewhere' : 'ended';
      expect(await seenBy({ ...me, boot: 'another-boot' })).toBe(rebooted);
      const clone = { ...me, boot: 'another-boot', hardware: 'd'.repeat(32) };
      expect(await seenBy(clone)).toBe('elsewhere');
      expect(await seenBy({ ...me, pidNamespace: 'pid:[1]' })).toBe('elsewhere');
    });

    test('a name alone wins nothing: the same one on another host loses', async () => {
      const twin = await backend.open({ ...thisProcess(), host: 'e'.repeat(32) });
      await alpha.claim('web', 0, 'alpha');
      expect(await twin.claim('web', 0, 'alpha')).toMatchObject({ outcome: 'lost' });
      expect(await twin.current('web')).toMatchObject({ claimant: 'elsewhere' });
      await twin.close();
    });

    test('generations follow one another and change hands', async () => {
      await alpha.claim('web', 0, 'alpha');
      expect(await beta.claim('web', 1, 'beta')).toEqual({ outcome: 'won', generation: 2 });
      expect(await alpha.claim('web', 2, 'alpha')).toEqual({ outcome: 'won', generation: 3 });
      expect(await beta.current('web')).toMatchObject({ generation: 3, owner: 'alpha' });
    });

    test('who was superseded loses, even with a generation it once won', async () => {
      await alpha.claim('web', 0, 'alpha');
      await beta.claim('web', 1, 'beta');
      const current = { generation: 2, owner: 'beta' };
      expect(await alpha.claim('web', 0, 'alpha')).toEqual({ outcome: 'lost', current });
      expect(await alpha.claim('web', 1, 'alpha')).toEqual({ outcome: 'lost', current });
    });

    test('numbers are compared as numbers: 10 is newer than 9', async () => {
      for (let from = 0; from < 10; from++) await alpha.claim('web', from, 'alpha');
      expect(await beta.current('web')).toMatchObject({ generation: 10, owner: 'alpha' });
      expect((await beta.claim('web', 9, 'beta')).outcome).toBe('lost');
    });

    test('a claim from a generation that the witness never saw is not answered', async () => {
      await alpha.claim('web', 0, 'alpha');
      const error = await alpha.claim('web', 5, 'alpha').catch((thrown: FtError) => thrown);
      expect(error).toMatchObject({ code: expect.stringMatching(/^FT_ERR_WITNESS_/) });
      expect(await alpha.current('web')).toMatchObject({ generation: 1, owner: 'alpha' });
    });

    test('pairs do not see each other, however alike their names', async () => {
      await alpha.claim('web', 0, 'alpha');
      expect(await beta.current('web2')).toBeUndefined();
      expect(await beta.current('we')).toBeUndefined();
      expect(await beta.claim('web.generation-1', 0, 'beta')).toMatchObject({ outcome: 'won' });
      expect(await alpha.current('web')).toMatchObject({ generation: 1, owner: 'alpha' });
    });

    test('a prepared claim is like any other, and what was prepared decides nothing', async () => {
      await alpha.claim('web', 0, 'alpha');
      await beta.prepare?.('web', 1, 'beta');
      await beta.prepare?.('web', 1, 'beta');
      expect(await beta.current('web')).toMatchObject({ generation: 1, owner: 'alpha' });
      expect(await alpha.current('web')).toMatchObject({ generation: 1, owner: 'alpha' });
      expect(await beta.claim('web', 1, 'beta')).toEqual({ outcome: 'won', generation: 2 });
      expect(await beta.claim('web', 1, 'beta')).toEqual({ outcome: 'won', generation: 2 });
      expect(await alpha.current('web')).toMatchObject({ generation: 2, owner: 'beta' });
      const current = { generation: 2, owner: 'beta' };
      expect(await alpha.claim('web', 1, 'alpha')).toEqual({ outcome: 'lost', current });
    });

    test('who was prepared and comes second loses', async () => {
      await alpha.claim('web', 0, 'alpha');
      await beta.prepare?.('web', 1, 'beta');
      await alpha.claim('web', 1, 'alpha');
      const current = { generation: 2, owner: 'alpha' };
      expect(await beta.claim('web', 1, 'beta')).toEqual({ outcome: 'lost', current });
      // Also when that became known before: nothing is prepared for a generation that is taken.
      await beta.prepare?.('web', 1, 'beta');
      expect(await beta.claim('web', 1, 'beta')).toEqual({ outcome: 'lost', current });
      expect(await alpha.current('web')).toMatchObject(current);
    });

    test('a preparation for another generation, node or pair does no harm', async () => {
      await alpha.prepare?.('web', 0, 'alpha');
      expect(await alpha.claim('web2', 0, 'alpha')).toMatchObject({ outcome: 'won' });
      expect(await alpha.claim('web', 0, 'gamma')).toEqual({ outcome: 'won', generation: 1 });
      expect(await beta.current('web')).toMatchObject({ generation: 1, owner: 'gamma' });
      await alpha.prepare?.('web', 0, 'alpha');
      await alpha.prepare?.('web', 5, 'alpha');
      expect(await alpha.claim('web', 1, 'alpha')).toEqual({ outcome: 'won', generation: 2 });
      await alpha.prepare?.('web', 2, 'alpha');
      const current = { generation: 2, owner: 'alpha' };
      expect(await alpha.claim('web', 0, 'alpha')).toEqual({ outcome: 'lost', current });
      expect(await alpha.claim('web', 2, 'alpha')).toEqual({ outcome: 'won', generation: 3 });
    });

    test('of many prepared claims at once exactly one wins', async () => {
      for (let from = 0; from < 20; from++) {
        const prepared = [alpha.prepare?.('web', from, 'alpha'), beta.prepare?.('web', from, 'b')];
        // Claims that come before, amid and after the end of a preparation.
        if (from % 3 === 0) await Promise.all(prepared);
        if (from % 3 === 1) await prepared[0];
        const results = await Promise.all([
          alpha.claim('web', from, 'alpha'),
          beta.claim('web', from, 'b'),
        ]);
        await Promise.all(prepared);
        const owner = (await alpha.current('web'))?.owner;
        const won = results.map((result) => result.outcome === 'won');
        expect(won).toEqual([owner === 'alpha', owner === 'b']);
        const first = await beta.claim('web', from, 'b');
        expect(first.outcome).toBe(owner === 'b' ? 'won' : 'lost');
      }
    });

    test.each(['', 'a/b', '../web', 'a b', 'x'.repeat(65), 'ü'])(
      'the name %j is refused for pairs and nodes',
      async (bad) => {
        await expect(alpha.current(bad)).rejects.toMatchObject({ code: 'FT_ERR_WITNESS_NAME' });
        await expect(alpha.claim(bad, 0, 'alpha')).rejects.toMatchObject({
          code: 'FT_ERR_WITNESS_NAME',
        });
        await expect(alpha.claim('web', 0, bad)).rejects.toMatchObject({
          code: 'FT_ERR_WITNESS_NAME',
        });
        if (alpha.prepare === undefined) return;
        await expect(alpha.prepare(bad, 0, 'alpha')).rejects.toMatchObject({
          code: 'FT_ERR_WITNESS_NAME',
        });
        await expect(alpha.prepare('web', 0, bad)).rejects.toMatchObject({
          code: 'FT_ERR_WITNESS_NAME',
        });
      },
    );

    test('of many claims at once exactly one wins', async () => {
      for (let from = 0; from < 20; from++) {
        const results = await Promise.all([
          alpha.claim('web', from, 'alpha'),
          beta.claim('web', from, 'beta'),
          beta.claim('web', from, 'beta'),
        ]);
        const owner = (await alpha.current('web'))?.owner;
        const won = results.map((result) => result.outcome === 'won');
        expect(won).toEqual(owner === 'alpha' ? [true, false, false] : [false, true, true]);
        for (const result of results) {
          if (result.outcome === 'lost') {
            expect(result.current).toEqual({ generation: from + 1, owner });
          }
        }
      }
    });
  });
}
