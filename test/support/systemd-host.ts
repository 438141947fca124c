/**
 * systemd as on a host of its own, for tests of units: see systemd-host.sh. What runs in there is
 * asked by nsenter, and everything is gone when it is closed.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, rmdirSync } from 'node:fs';
import path from 'node:path';
import { projectRoot, WatchedProcess } from '../../src/drill/process/process';
import { atExit } from '../../src/drill/process/process-exit';
import { sleep, until } from '../../src/drill/process/time';

const SYSTEMD = '/lib/systemd/systemd';
const GROUPS = '/sys/fs/cgroup';

/** Whether this machine can show systemd a host of its own. */
export const haveSystemd =
  existsSync(SYSTEMD) && existsSync('/usr/bin/nsenter') && process.getuid?.() === 0;

const open = new Set<SystemdHost>();

export class SystemdHost {
  private readonly group = `ft-systemd-${process.pid}`;
  private readonly process: WatchedProcess;
  private pid = 0;

  private constructor(stage: string) {
    atExit('systemd hosts', closeAll);
    open.add(this);
    this.process = new WatchedProcess({
      name: 'systemd',
      command: path.join(projectRoot, 'test/support/systemd-host.sh'),
      args: [this.group, stage],
    });
  }

  /** Boots it with the files of `stage`; resolves when systemd answers. */
  static async boot(stage: string): Promise<SystemdHost> {
    const host = new SystemdHost(stage);
    try {
      await until('systemd', () => host.answers(), 15_000);
    } catch (thrown) {
      const story = host.process.story();
      await host.close();
      throw new Error(`${thrown}\n${story}`);
    }
    return host;
  }

  /** Runs a command there to its end; returns what it printed and how it ended. */
  run(...words: string[]): { readonly code: number | null; readonly text: string } {
    const args = ['-t', `${this.pid}`, '-a', ...words];
    const done = spawnSync('nsenter', args, { encoding: 'utf8', timeout: 60_000 });
    return { code: done.status, text: `${done.stdout}${done.stderr}` };
  }

  /** The same; throws unless it succeeds. */
  must(...words: string[]): string {
    const { code, text } = this.run(...words);
    if (code !== 0) throw new Error(`${words.join(' ')} ended with code ${code}: ${text}`);
    return text;
  }

  /** A property of a unit, as `systemctl show` has it. */
  show(unit: string, property: string): string {
    return this.must('systemctl', 'show', unit, '-p', property, '--value').trim();
  }

  /** Waits for a property to match. */
  async waitShow(unit: string, property: string, wanted: RegExp, timeoutMs: number): Promise<void> {
    let seen = '';
    const isWanted = (): boolean => {
      seen = this.show(unit, property);
      return wanted.test(seen);
    };
    try {
      await until(`${property} ${wanted}`, isWanted, timeoutMs);
    } catch (thrown) {
      const status = this.run('systemctl', 'status', unit, '--no-pager', '-n', '0');
      throw new Error(`${thrown} It is ${JSON.stringify(seen)}.\n${status.text}`);
    }
  }

  async close(): Promise<void> {
    if (!open.delete(this)) return;
    // Process 1 of its namespace takes everybody in it along.
    this.kill();
    await this.process.stop(0);
    for (let tries = 0; tries < 20 && !this.removeGroups(); tries++) await sleep(100);
  }

  kill(): void {
    const { pid } = this;
    this.pid = 0;
    try {
      if (pid > 0) process.kill(pid, 'SIGKILL');
    } catch {
      // It has ended by itself.
    }
  }

  private answers(): boolean {
    if (this.process.exit !== undefined) throw this.process.failure('systemd');
    const { pid } = this.process;
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim();
    if (children === '' || children.includes(' ')) return false;
    this.pid = Number(children);
    if (readFileSync(`/proc/${this.pid}/comm`, 'utf8').trim() !== 'systemd') return false;
    return this.run('systemctl', 'show', 'test.target', '-p', 'ActiveState').text.includes(
      'active',
    );
  }

  /** Its control groups, the innermost first. True when none is left. */
  private removeGroups(): boolean {
    const roots = [GROUPS, ...readdirSync(GROUPS).map((name) => path.join(GROUPS, name))];
    return roots
      .map((root) => path.join(root, this.group))
      .filter((folder) => existsSync(folder))
      .map(removeGroup)
      .every((gone) => gone);
  }
}

function removeGroup(folder: string): boolean {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    if (entry.isDirectory()) removeGroup(path.join(folder, entry.name));
  }
  try {
    rmdirSync(folder);
    return true;
  } catch {
    return false;
  }
}

function closeAll(): void {
  for (const host of open) host.kill();
}
