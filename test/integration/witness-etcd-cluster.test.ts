/** The etcd witness on clusters: members that die, users and passwords, TLS, and what is refused. */
import { chmodSync, copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { FtError } from '../../src/common/errors';
import { LocalEtcd } from '../../src/drill/pair/etcd';
import { EtcdWitness, type EtcdWitnessOptions } from '../../src/witness/etcd';
import type { ClaimResult } from '../../src/witness/witness';
import { type CertificateFiles, TestAuthority } from '../support/certificates';
import { FaultProxy } from '../support/fault-proxy';
import { describeWitness } from '../unit/witness-conformance';

const witnesses: EtcdWitness[] = [];

async function open(
  endpoints: readonly string[],
  more: Partial<EtcdWitnessOptions> = {},
): Promise<EtcdWitness> {
  const witness = await EtcdWitness.open({
    ...{ endpoints, prefix: '/cluster', pair: 'web', ...more },
  });
  witnesses.push(witness);
  return witness;
}

function failure(result: Promise<unknown>): Promise<FtError> {
  return result.then(
    (value) => {
      throw new Error(`expected a rejection, got ${JSON.stringify(value)}`);
    },
    (thrown: FtError) => thrown,
  );
}

/** Claims until the outcome is known. */
async function claim(witness: EtcdWitness, from: number, name: string): Promise<ClaimResult> {
  for (let tries = 1; ; tries++) {
    try {
      return await witness.claim('web', from, name);
    } catch (thrown) {
      if (tries === 50) throw thrown;
    }
  }
}

afterEach(async () => {
  for (const witness of witnesses.splice(0)) await witness.close();
});

describe('three members', () => {
  let etcd: LocalEtcd;

  beforeAll(async () => {
    etcd = await LocalEtcd.start({ members: 3 });
  });

  afterAll(() => etcd?.close());

  let prefixes = 0;
  describeWitness('three etcd members', async () => {
    const prefix = `/three-${prefixes++}`;
    // Each object asks another member first.
    let opened = 0;
    return {
      open: (identity) => {
        const n = opened++ % 3;
        const endpoints = [...etcd.endpoints.slice(n), ...etcd.endpoints.slice(0, n)];
        return EtcdWitness.open({ endpoints, prefix, pair: 'web', ...(identity && { identity }) });
      },
      remove: async () => {
        etcd.etcdctl('del', '--prefix', prefix);
      },
    };
  });

  test('one may be killed, the leader or another, and no generation is lost', async () => {
    const alpha = await open(etcd.endpoints);
    const beta = await open([...etcd.endpoints].reverse());
    let from = 0;
    for (const which of ['leader', 'follower'] as const) {
      const victim = which === 'leader' ? etcd.leader() : (etcd.leader() + 1) % 3;
      await etcd.kill(victim);
      for (let n = 0; n < 3; n++, from++) {
        const results = await Promise.all([claim(alpha, from, 'alpha'), claim(beta, from, 'beta')]);
        const winner = results[0].outcome === 'won' ? 'alpha' : 'beta';
        expect(results.map((result) => result.outcome).sort()).toEqual(['lost', 'won']);
        expect(await alpha.current('web')).toMatchObject({ generation: from + 1, owner: winner });
      }
      await etcd.run(victim);
    }
    expect(await beta.current('web')).toMatchObject({ generation: from });
  });

  test('members come and go while four claim: one owner for each generation', async () => {
    const names = ['a', 'b', 'c', 'd'];
    const rivals = await Promise.all(
      names.map((_name, n) => {
        const endpoints = [...etcd.endpoints.slice(n % 3), ...etcd.endpoints.slice(0, n % 3)];
        return open(endpoints, { prefix: '/turmoil', answerMsMax: 400, lookMs: 100 });
      }),
    );
    for (let from = 0; from < 9; from++) {
      const victim = from % 3;
      const claims = Promise.all(rivals.map((rival, n) => claim(rival, from, names[n] ?? '')));
      if (from % 2 === 0) await etcd.kill(victim);
      else etcd.signal('SIGSTOP', victim);
      const results = await claims;
      const winners = names.filter((_name, n) => results[n]?.outcome === 'won');
      expect(winners).toHaveLength(1);
      for (const result of results) {
        if (result.outcome === 'won') continue;
        expect(result.current).toEqual({ generation: from + 1, owner: winners[0] });
      }
      if (from % 2 === 0) await etcd.run(victim);
      else etcd.signal('SIGCONT', victim);
    }
  });

  test('without a majority nobody wins; with it again, somebody does', async () => {
    const alpha = await open(etcd.endpoints, { pair: 'lone', answerMsMax: 700 });
    await etcd.kill(0);
    await etcd.kill(1);
    const error = await failure(alpha.claim('lone', 0, 'alpha'));
    expect(error.code).toBe('FT_ERR_WITNESS_UNREACHABLE');
    // Every endpoint is named with what it did.
    expect(error.message).toMatch(/refused the connection \(ECONNREFUSED\).*majority/);
    for (const endpoint of etcd.endpoints) expect(error.message).toContain(endpoint);
    await etcd.run(0);
    const won = async (): Promise<ClaimResult> => {
      for (let tries = 1; ; tries++) {
        try {
          return await alpha.claim('lone', 0, 'alpha');
        } catch (thrown) {
          if (tries === 20) throw thrown;
        }
      }
    };
    expect(await won()).toEqual({ outcome: 'won', generation: 1 });
    await etcd.run(1);
  });
});

describe('two clusters under one flag', () => {
  let first: LocalEtcd;
  let second: LocalEtcd;

  beforeAll(async () => {
    [first, second] = await Promise.all([LocalEtcd.start(), LocalEtcd.start()]);
  });

  afterAll(() => Promise.all([first?.close(), second?.close()]));

  test('are refused at the start', async () => {
    const error = await failure(open([...first.endpoints, ...second.endpoints]));
    expect(error.code).toBe('FT_ERR_WITNESS_CLUSTER');
    expect(error.message).toMatch(/belongs to another cluster than http.*one and the same cluster/);
  });

  test('are found out later, before anything is written to the wrong one', async () => {
    const proxy = await FaultProxy.start(second.port());
    proxy.fault = 'reset';
    try {
      const alpha = await open([proxy.url, ...first.endpoints], { answerMsMax: 1000 });
      proxy.fault = 'pass';
      await first.kill();
      const error = await failure(alpha.claim('web', 0, 'alpha'));
      expect(error.code).toBe('FT_ERR_WITNESS_CLUSTER');
      expect(second.etcdctl('get', '--prefix', '/')).toBe('');
    } finally {
      await proxy.close();
      await first.run();
    }
  });
});

describe('users', () => {
  let etcd: LocalEtcd;
  let folder = '';

  const userOf = (name: string, password: string): { name: string; passwordFile: string } => {
    const passwordFile = path.join(folder, `${name}-${password}`);
    writeFileSync(passwordFile, `${password}\n`, { mode: 0o600 });
    return { name, passwordFile };
  };

  beforeAll(async () => {
    folder = mkdtempSync(path.join(os.tmpdir(), 'ft-users-'));
    etcd = await LocalEtcd.start();
    etcd.etcdctl('role', 'add', 'keeper');
    etcd.etcdctl('role', 'grant-permission', 'keeper', 'readwrite', '--prefix=true', '/cluster/');
    for (const name of ['root', 'romulus', 'guest']) etcd.etcdctl('user', 'add', `${name}:secret`);
    etcd.etcdctl('user', 'grant-role', 'root', 'root');
    etcd.etcdctl('user', 'grant-role', 'romulus', 'keeper');
    etcd.etcdctl('auth', 'enable');
  });

  afterAll(async () => {
    await etcd?.close();
    rmSync(folder, { recursive: true, force: true });
  });

  test('the right password, of a user who may', async () => {
    const alpha = await open(etcd.endpoints, { user: userOf('romulus', 'secret') });
    expect(await alpha.claim('web', 0, 'alpha')).toEqual({ outcome: 'won', generation: 1 });
  });

  test('a login that a restart of etcd forgot is made again by itself', async () => {
    const alpha = await open(etcd.endpoints, {
      ...{ user: userOf('romulus', 'secret'), pair: 'again', answerMsMax: 5000 },
    });
    await etcd.kill();
    await etcd.run();
    expect(await alpha.claim('again', 0, 'alpha')).toEqual({ outcome: 'won', generation: 1 });
  });

  test.each([
    ['a wrong password', 'romulus', 'guess', /authentication failed, invalid user ID or password/],
    ['a user nobody knows', 'remus', 'secret', /authentication failed/],
    ['a user without the right', 'guest', 'secret', /permission denied/],
  ])('%s is refused in words', async (_what, name, password, words) => {
    const error = await failure(open(etcd.endpoints, { user: userOf(name, password) }));
    expect(error.code).toBe('FT_ERR_WITNESS_PERMISSION');
    expect(error.message).toMatch(words);
    expect(error.message).toMatch(/Check --witness-user and --witness-password-file/);
    expect(error.message).not.toContain('guess');
  });

  test('nobody in particular is refused', async () => {
    const error = await failure(open(etcd.endpoints));
    expect(error).toMatchObject({ code: 'FT_ERR_WITNESS_PERMISSION' });
    expect(error.message).toMatch(/user name is empty/);
  });

  test('a password file that is not there', async () => {
    const user = { name: 'romulus', passwordFile: path.join(folder, 'none') };
    const error = await failure(open(etcd.endpoints, { user }));
    expect(error.code).toBe('FT_ERR_WITNESS_FILE');
    expect(error.message).toMatch(/none cannot be read \(ENOENT\); check --witness-password-file/);
  });
});

describe('TLS', () => {
  let etcd: LocalEtcd;
  let folder = '';
  let ours: TestAuthority;
  let theirs: TestAuthority;
  let client: CertificateFiles;

  beforeAll(async () => {
    folder = mkdtempSync(path.join(os.tmpdir(), 'ft-tls-'));
    ours = new TestAuthority(folder, 'ours');
    theirs = new TestAuthority(folder, 'theirs');
    client = ours.issue('client');
    etcd = await LocalEtcd.start({ tls: { ca: ours.ca, server: ours.issue('server') } });
  });

  afterAll(async () => {
    await etcd?.close();
    rmSync(folder, { recursive: true, force: true });
  });

  test('each side shows a certificate that the other believes', async () => {
    const alpha = await open(etcd.endpoints, { tls: { ca: ours.ca, ...client } });
    expect(await alpha.claim('web', 0, 'alpha')).toEqual({ outcome: 'won', generation: 1 });
  });

  test('an authority that did not sign etcd’s certificate is not believed', async () => {
    const error = await failure(open(etcd.endpoints, { tls: { ca: theirs.ca, ...client } }));
    expect(error.code).toBe('FT_ERR_WITNESS_TLS');
    expect(error.message).toMatch(/failed in TLS .*Check --witness-ca/);
  });

  test('a certificate for another address is not believed', async () => {
    const [url = ''] = etcd.endpoints;
    const named = url.replace('127.0.0.1', 'localhost');
    const error = await failure(open([named], { tls: { ca: ours.ca, ...client } }));
    expect(error.code).toBe('FT_ERR_WITNESS_TLS');
    expect(error.message).toMatch(/localhost/);
  });

  test.each([
    ['none', () => ({})],
    ['a strange one', () => theirs.issue('stranger')],
  ])('as client certificate, %s is refused by etcd', async (_what, made) => {
    const error = await failure(open(etcd.endpoints, { tls: { ca: ours.ca, ...made() } }));
    expect(error.code).toBe('FT_ERR_WITNESS_TLS');
  });

  test('a file that is not there, and one that holds no certificate', async () => {
    const tls = { ...client, ca: path.join(folder, 'absent.pem') };
    const absent = await failure(open(etcd.endpoints, { tls }));
    expect(absent.code).toBe('FT_ERR_WITNESS_FILE');
    expect(absent.message).toMatch(/absent\.pem cannot be read \(ENOENT\); check --witness-ca/);
    const junk = path.join(folder, 'junk.pem');
    writeFileSync(junk, 'junk');
    const error = await failure(
      open(etcd.endpoints, { tls: { ca: ours.ca, cert: junk, key: junk } }),
    );
    expect(error.code).toBe('FT_ERR_WITNESS_TLS');
  });

  test('a certificate that was replaced on disk is used from the next connection on', async () => {
    const cert = path.join(folder, 'turning.pem');
    const key = path.join(folder, 'turning.key');
    const install = (files: CertificateFiles): void => {
      copyFileSync(files.cert, cert);
      copyFileSync(files.key, key);
      chmodSync(key, 0o600);
    };
    install(client);
    const alpha = await open(etcd.endpoints, {
      ...{ tls: { ca: ours.ca, cert, key }, pair: 'turning', answerMsMax: 4000, lookMs: 60_000 },
    });
    await etcd.kill();
    install(theirs.issue('expired'));
    await failure(alpha.claim('turning', 0, 'alpha'));
    await etcd.run();
    expect((await failure(alpha.claim('turning', 0, 'alpha'))).code).toBe('FT_ERR_WITNESS_TLS');
    install(ours.issue('renewed'));
    expect(await alpha.claim('turning', 0, 'alpha')).toEqual({ outcome: 'won', generation: 1 });
  });
});
