/**
 * The unit that runs a container, under a real systemd, with a stand-in for Docker that notes what
 * it is asked for: as whom the node runs, what it is given, and what a stop and an end lead to.
 */
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { projectRoot } from '../../src/drill/process/process';
import { until } from '../../src/drill/process/time';
import { haveSystemd, SystemdHost } from '../support/systemd-host';

const UNIT = 'romulus@web';
const systemdDescribe = haveSystemd ? describe : describe.skip;

systemdDescribe('the unit of a container', () => {
  let stage = '';
  let host: SystemdHost | undefined;

  beforeEach(() => {
    stage = mkdtempSync(path.join(os.tmpdir(), 'ft-container-'));
  });

  afterEach(async () => {
    await host?.close();
    host = undefined;
    rmSync(stage, { recursive: true, force: true });
  });

  const write = (file: string, text: string): void => {
    mkdirSync(path.dirname(path.join(stage, file)), { recursive: true });
    writeFileSync(path.join(stage, file), text);
  };

  const writeStage = (): void => {
    for (const target of ['test', 'sysinit', 'basic', 'network', 'network-online', 'shutdown']) {
      const text = `[Unit]\nDescription=${target}\nDefaultDependencies=no\n`;
      write(`etc/systemd/test/${target}.target`, text);
    }
    const daemon = '[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n';
    write('etc/systemd/test/docker.service', daemon);
    const unit = path.join(projectRoot, 'packaging/container/romulus@.service');
    const ours = readFileSync(unit, 'utf8').replaceAll('/usr/bin/docker', `${stage}/docker`);
    write('etc/systemd/test/romulus@.service', ours.replace('RestartSec=5', 'RestartSec=100ms'));
    write('etc/romulus/web.yaml', 'pair: web\n');
    cpSync(
      path.join(projectRoot, 'packaging/sysusers.d'),
      path.join(stage, 'usr-local/lib/sysusers.d'),
      { recursive: true },
    );
    write('setup', '#!/bin/sh\nsystemd-sysusers romulus.conf && chgrp kvm /dev/kvm\n');
    // "run" is the container's life: it ends at a stop, or with the code that "end" holds.
    write(
      'docker',
      `#!/bin/sh
cd ${stage} && echo "$*" >> told
case $1 in
  run)
    echo "control $ROMULUS_CONTROL" >> told
    trap 'exit 0' TERM
    echo $$ > pid
    while [ ! -e end ]; do sleep 0.05; done
    code=$(cat end); rm end; exit $code ;;
  stop) kill -TERM $(cat pid) ;;
  rm) exit 1 ;;
esac
`,
    );
    for (const file of ['setup', 'docker']) chmodSync(path.join(stage, file), 0o755);
  };

  const told = (): string[] => {
    const file = path.join(stage, 'told');
    return existsSync(file) ? readFileSync(file, 'utf8').trimEnd().split('\n') : [];
  };
  const runs = (): number => told().filter((line) => line.startsWith('run ')).length;

  test('runs it as the host’s user, drains it by a stop, and starts again only what failed', async () => {
    writeStage();
    host = await SystemdHost.boot(stage);
    host.must('systemctl', 'start', UNIT);
    await until('the container', () => told().some((line) => line.startsWith('control ')), 10_000);
    const id = (...words: string[]): string => (host?.must(...words) ?? '').trim();
    const user = `${id('id', '-u', 'romulus')}:${id('id', '-g', 'romulus')}`;
    const [removed, run = '', control] = told();
    expect(removed).toBe('rm romulus-web');
    expect(run).toContain(` --user ${user} --group-add ${id('stat', '-c', '%g', '/dev/kvm')} `);
    expect(run).toContain(' --env ROMULUS_CONTROL ');
    expect(run).toContain(' --volume /run/romulus/web:/run/romulus/web ');
    expect(run).toMatch(/ romulus --config \/etc\/romulus\/web\.yaml$/);
    expect(control).toBe('control /run/romulus/web/control.sock');
    expect(id('stat', '-c', '%U:%G %a', '/run/romulus/web')).toBe('romulus:romulus 750');

    host.must('systemctl', 'reload', UNIT);
    expect(told().at(-1)).toBe('exec romulus-web ftctl reload');

    // A node that fails is started again; one that was drained, or whose guest is off, is not.
    writeFileSync(path.join(stage, 'end'), '70');
    await until('a new start', () => runs() === 2, 10_000);
    writeFileSync(path.join(stage, 'end'), '0');
    await host.waitShow(UNIT, 'ActiveState', /^inactive$/, 10_000);
    expect([host.show(UNIT, 'Result'), runs()]).toEqual(['success', 2]);

    host.must('systemctl', 'start', UNIT);
    await until('a third', () => runs() === 3, 10_000);
    await until('its number', () => existsSync(path.join(stage, 'pid')), 10_000);
    host.must('systemctl', 'stop', UNIT);
    expect(told().at(-1)).toBe('stop -t 70 romulus-web');
    expect(host.show(UNIT, 'Result')).toBe('success');
  }, 60_000);
});
