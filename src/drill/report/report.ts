/** What reports share: where they were made, tables for the terminal, files for the machine. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { projectRoot } from '../process/process';

/** Where figures were measured: without it they mean nothing. */
export interface Site {
  readonly machine: string;
  readonly kernel: string;
  readonly commit: string;
  readonly date: string;
}

export function describeSite(): Site {
  const cpus = os.cpus();
  const memoryGiB = Math.round(os.totalmem() / 1024 ** 3);
  const model = cpus[0]?.model.trim() ?? 'unknown CPU';
  return {
    machine: `${cpus.length} x ${model}, ${memoryGiB} GiB, ${virtualization()}`,
    kernel: `${os.type()} ${os.release()}`,
    commit: commit(),
    date: new Date().toISOString(),
  };
}

/** How the CPUs of the machine spent their time since boot, in seconds of all of them together. */
export interface CpuSeconds {
  readonly busy: number;
  /** What a hypervisor below us gave to others although we wanted it. */
  readonly stolen: number;
  readonly total: number;
}

export function cpuSeconds(): CpuSeconds {
  // user nice system idle iowait irq softirq steal, in hundredths of a second
  const line = /^cpu +(.*)$/m.exec(readText('/proc/stat'))?.[1] ?? '';
  const [user = 0, nice = 0, system = 0, idle = 0, wait = 0, irq = 0, soft = 0, stolen = 0] = line
    .split(' ')
    .map((text) => Number(text) / 100);
  const busy = user + nice + system + irq + soft;
  return { busy, stolen, total: busy + idle + wait + stolen };
}

/** CPUs that were busy, and that were stolen, on average between two looks. */
export function cpusBetween(
  before: CpuSeconds,
  after: CpuSeconds,
): { readonly busy: number; readonly stolen: number } {
  const total = Math.max(1e-9, after.total - before.total);
  const share = (of: 'busy' | 'stolen'): number =>
    ((after[of] - before[of]) / total) * os.cpus().length;
  return { busy: share('busy'), stolen: share('stolen') };
}

/** Writes `build/<name>` whole or not at all; returns the path relative to the project. */
export function writeReport(name: string, value: unknown): string {
  const file = path.join(projectRoot, 'build', name);
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(`${file}.new`, `${JSON.stringify(value, null, 2)}\n`);
  renameSync(`${file}.new`, file);
  return path.relative(projectRoot, file);
}

/** Plain text columns: the first to the left, the others to the right. */
export function table(heads: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = heads.map((head, at) =>
    Math.max(head.length, ...rows.map((row) => row[at]?.length ?? 0)),
  );
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, at) => (at === 0 ? cell.padEnd(widths[at] ?? 0) : cell.padStart(widths[at] ?? 0)))
      .join('  ');
  const rule = widths.map((width) => '-'.repeat(width)).join('  ');
  return [line(heads), rule, ...rows.map(line)].join('\n');
}

/** 1234567 → "1,234,567"; with `digits` behind the point. */
export function figure(value: number, digits = 0): string {
  return value.toLocaleString('en-US', {
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  });
}

function virtualization(): string {
  const flags = /^flags\s*:(.*)$/m.exec(readText('/proc/cpuinfo'))?.[1] ?? '';
  const nested = / hypervisor\b/.test(flags) ? 'inside a virtual machine' : 'bare metal';
  const kvm = ['kvm_intel', 'kvm_amd', 'kvm_pvm'].find(
    (name) => readText(`/sys/module/${name}/initstate`) !== '' || isLoaded(name),
  );
  return kvm === undefined ? nested : `${nested}, ${kvm}`;
}

function isLoaded(name: string): boolean {
  return new RegExp(`^${name} `, 'm').test(readText('/proc/modules'));
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

/** The commit of a clone; an installed package has none, and may lie in somebody else's. */
function commit(): string {
  if (!existsSync(path.join(projectRoot, '.git'))) return 'an installed package';
  const git = (...args: string[]): string =>
    execFileSync('git', args, {
      cwd: projectRoot,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    });
  try {
    const changed = git('status', '--porcelain', '--untracked-files=no').trim() !== '';
    return `${git('rev-parse', '--short=12', 'HEAD').trim()}${changed ? ' with changes' : ''}`;
  } catch {
    return 'unknown';
  }
}
