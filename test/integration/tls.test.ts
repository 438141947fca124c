/** A pair whose link is TLS, on KVM: as good as one in the clear, and closed to everybody else. */
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { OracleProcess } from '../../src/drill/oracle/oracle-process';
import { Pair } from '../../src/drill/pair/pair';
import { sleep, until } from '../../src/drill/process/time';
import { type CertificateFiles, TestAuthority } from '../support/certificates';
import { kvmDescribe } from '../support/kvm';

const PAIR = 'drill';

kvmDescribe('a pair over TLS', () => {
  let folder: string;
  let authority: TestAuthority;
  let files: CertificateFiles;
  let pair: Pair | undefined;
  let oracle: OracleProcess | undefined;

  const flagsFor = (shown: CertificateFiles): string[] => [
    ...['--tls-ca', authority.ca, '--tls-cert', shown.cert, '--tls-key', shown.key],
  ];

  beforeEach(() => {
    folder = mkdtempSync(path.join(os.tmpdir(), 'ft-tls-'));
    authority = new TestAuthority(folder, 'ca');
    // Nodes of the tests change their names with each start.
    files = authority.issue('node', [`URI:romulus:pair:${PAIR}`]);
  });

  afterEach(async () => {
    await oracle?.close();
    await pair?.close();
    oracle = undefined;
    pair = undefined;
    rmSync(folder, { recursive: true, force: true });
  });

  test('protects, fails over, and protects again; no client loses an answer', async () => {
    pair = new Pair({ machine: 'kvm', name: 'tls', flags: flagsFor(files) });
    await pair.start();
    const settings = { ...pair.guest, clients: 8, ratePerSecond: 400 };
    oracle = await OracleProcess.start(settings, pair.netns?.name);
    await oracle.start();
    await sleep(1000);
    await pair.killActive();
    await pair.rejoin();
    await sleep(500);
    await pair.killActive();
    const verdict = await oracle.finish();
    expect(verdict.violations.map((violation) => violation.story)).toEqual([]);
    expect(pair.story()).toMatch(/both sides by certificate/);
  });

  test('a node with a certificate that is not believed stays outside, and says why', async () => {
    pair = new Pair({ machine: 'kvm', name: 'tls-refused' });
    const strange = new TestAuthority(folder, 'strange').issue('x', [`URI:romulus:pair:${PAIR}`]);
    const expired = authority.issueNodeAt('old', PAIR, 2020);
    const standby = pair.startStandby(pair.slots[1], '64M', flagsFor(files));
    const says = (words: RegExp) => (): boolean => words.test(standby.process.stderrTail);
    const old = pair.startPrimary(pair.slots[0], pair.slots[1].port, flagsFor(expired));
    await old.process.waitExit(8000);
    expect(old.process.stderrTail).toMatch(/expired on 2020-02-01/);
    const foreign = pair.startPrimary(pair.slots[0], pair.slots[1].port, [
      ...['--tls-ca', path.join(folder, 'strange.pem')],
      ...['--tls-cert', strange.cert, '--tls-key', strange.key],
    ]);
    await foreign.waitState(['solo'], 8000);
    const why = (): boolean => /not signed by an authority/.test(foreign.process.stderrTail);
    await until('the reason in the log of the primary', why, 8000);
    await foreign.process.stop();
    const force = ['--force-claim'];
    const plain = pair.startPrimary(pair.slots[0], pair.slots[1].port, force);
    await until('the word of a node in the clear', says(/FT_ERR_TLS_PLAINTEXT/), 8000);
    const told = (): boolean => /only by TLS/.test(plain.process.stderrTail);
    await until('that it was told so', told, 8000);
    expect(plain.state).toBe('solo');
    expect(standby.process.exit).toBeUndefined();
  });

  test('a renewed certificate is used without a restart', async () => {
    const own = { cert: path.join(folder, 'own.pem'), key: path.join(folder, 'own.key') };
    copyFileSync(files.cert, own.cert);
    copyFileSync(files.key, own.key);
    pair = new Pair({ machine: 'kvm', name: 'tls-renewed', flags: flagsFor(own) });
    await pair.start();
    const { active, standby } = pair;
    if (active === undefined || standby === undefined) throw new Error('The pair is not complete.');
    const renewed = authority.issue('renewed', [`URI:romulus:pair:${PAIR}`]);
    copyFileSync(renewed.cert, own.cert);
    copyFileSync(renewed.key, own.key);
    for (const node of [active, standby]) {
      node.process.kill('SIGHUP');
      const taken = (): boolean => /certificate as it is now/.test(node.process.stderrTail);
      await until('the new certificate', taken, 8000);
      expect(node.process.exit).toBeUndefined();
    }
    expect(active.state).toBe('protected');
    await pair.killActive();
    await pair.rejoin();
  });
});
