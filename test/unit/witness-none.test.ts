/** The witness that is none. */
import { NoneWitness } from '../../src/witness/none';

describe('NoneWitness', () => {
  test('the first boot is granted, and claiming it again changes nothing', async () => {
    const witness = new NoneWitness();
    expect(await witness.current('web')).toBeUndefined();
    const won = { outcome: 'won', generation: 1 };
    expect(await witness.claim('web', 0, 'alpha')).toEqual(won);
    expect(await witness.claim('web', 0, 'alpha')).toEqual(won);
    expect(await witness.current('web')).toMatchObject({ generation: 1, owner: 'alpha' });
  });

  test('no takeover without a person', async () => {
    const standby = new NoneWitness();
    await expect(standby.claim('web', 1, 'beta')).rejects.toMatchObject({
      code: 'FT_ERR_WITNESS_NONE',
    });
    const primary = new NoneWitness();
    await primary.claim('web', 0, 'alpha');
    await expect(primary.claim('web', 1, 'alpha')).rejects.toMatchObject({
      code: 'FT_ERR_WITNESS_NONE',
    });
  });

  test("the operator's word serves for one claim, from the generation it names", async () => {
    const standby = new NoneWitness();
    standby.allow('web', 1);
    await expect(standby.claim('web', 2, 'beta')).rejects.toMatchObject({
      code: 'FT_ERR_WITNESS_NONE',
    });
    await expect(standby.claim('other', 1, 'beta')).rejects.toMatchObject({
      code: 'FT_ERR_WITNESS_NONE',
    });
    expect(await standby.claim('web', 1, 'beta')).toEqual({ outcome: 'won', generation: 2 });
    await expect(standby.claim('web', 2, 'beta')).rejects.toMatchObject({
      code: 'FT_ERR_WITNESS_NONE',
    });
  });

  test('a superseded claim loses', async () => {
    const witness = new NoneWitness();
    await witness.claim('web', 0, 'alpha');
    witness.allow('web', 1);
    await witness.claim('web', 1, 'alpha');
    expect(await witness.claim('web', 0, 'alpha')).toEqual({
      outcome: 'lost',
      current: { generation: 2, owner: 'alpha' },
    });
  });
});
