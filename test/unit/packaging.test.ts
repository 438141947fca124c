/** Units, settings and the runbook: each is held against what it speaks of. */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parse } from 'yaml';
import { readPrimaryConfig } from '../../src/config/config';
import { FLAGS } from '../../src/config/flags';
import { ExitCode } from '../../src/config/help';

const root = path.join(__dirname, '../..');
const read = (file: string): string => readFileSync(path.join(root, file), 'utf8');

/** How a heading is linked to. */
const anchorOf = (heading: string): string =>
  heading
    .toLowerCase()
    .replace(/[^\p{L}\p{N}_ -]/gu, '')
    .replaceAll(' ', '-');

function anchorsOf(markdown: string): string[] {
  return [...markdown.matchAll(/^#{1,6} (.+)$/gm)].map((match) => anchorOf(match[1] ?? ''));
}

describe('the units', () => {
  const verifies = existsSync('/usr/bin/systemd-analyze') ? test : test.skip;
  let folder = '';

  beforeEach(() => {
    folder = mkdtempSync(path.join(os.tmpdir(), 'ft-units-'));
    const units = path.join(folder, 'etc/systemd/system');
    cpSync(path.join(root, 'packaging/systemd'), units, { recursive: true });
    for (const target of ['basic', 'sysinit', 'shutdown', 'network', 'network-online']) {
      writeFileSync(path.join(units, `${target}.target`), `[Unit]\nDescription=${target}\n`);
    }
    writeFileSync(path.join(units, 'docker.service'), '[Service]\nExecStart=/usr/bin/docker\n');
    const ours = ['usr/local/bin/ft-primary', 'usr/local/bin/ftctl'];
    for (const command of [...ours, 'usr/bin/ip', 'usr/bin/install', 'usr/bin/docker', 'bin/sh']) {
      mkdirSync(path.dirname(path.join(folder, command)), { recursive: true });
      writeFileSync(path.join(folder, command), '#!/bin/sh\n');
      chmodSync(path.join(folder, command), 0o755);
    }
  });

  afterEach(() => {
    rmSync(folder, { recursive: true });
  });

  const verify = (): { status: number | null; text: string } => {
    const names = ['romulus@web.service', 'romulus-tap@web.service'];
    const args = ['verify', `--root=${folder}`, '--man=no', ...names];
    const run = spawnSync('systemd-analyze', args, { encoding: 'utf8' });
    return { status: run.status, text: run.stderr };
  };

  verifies('systemd-analyze has nothing to say about them, and would if there were', () => {
    expect(verify()).toEqual({ status: 0, text: '' });
    const unit = path.join(folder, 'etc/systemd/system/romulus@.service');
    writeFileSync(unit, readFileSync(unit, 'utf8').replace('WatchdogSec=30', 'WatchdogSec=long'));
    expect(verify().text).toContain('Failed to parse sec value');
  });

  test('a node under its unit may confine itself', () => {
    const filters = [
      ...read('packaging/systemd/romulus@.service').matchAll(/^SystemCallFilter=([^~].*)$/gm),
    ];
    const allowed = filters.flatMap((match) => (match[1] ?? '').split(' '));
    for (const step of ['create_ruleset', 'add_rule', 'restrict_self']) {
      expect(allowed).toContain(`landlock_${step}`);
    }
  });

  verifies('nor about the one that runs a container', () => {
    const units = path.join(folder, 'etc/systemd/system');
    cpSync(path.join(root, 'packaging/container'), units, { recursive: true });
    expect(verify()).toEqual({ status: 0, text: '' });
  });

  test('node, reload and stop speak of one control socket, whatever the file says', () => {
    for (const kind of ['systemd', 'container']) {
      const unit = read(`packaging/${kind}/romulus@.service`);
      expect(unit).toMatch(/^Environment=ROMULUS_CONTROL=\/run\/romulus\/%i\/control\.sock$/m);
      expect(unit).not.toContain('--control');
    }
  });

  test('"install container" puts the unit of a container in place of the other', () => {
    const install = path.join(root, 'packaging/install');
    const env = { ...process.env, DESTDIR: path.join(folder, 'host') };
    const unit = path.join(folder, 'host/usr/local/lib/systemd/system/romulus@.service');
    expect(spawnSync(install, ['container'], { env }).status).toBe(0);
    expect(readFileSync(unit, 'utf8')).toBe(read('packaging/container/romulus@.service'));
    expect(spawnSync(install, [], { env }).status).toBe(0);
    expect(readFileSync(unit, 'utf8')).toContain('/usr/local/bin/ft-primary --config');
    expect(spawnSync(install, ['docker'], { env }).status).toBe(1);
  });

  test('what a restart may be and may not be is as the exit codes say', () => {
    const unit = read('packaging/systemd/romulus@.service');
    expect(unit).toContain(`RestartPreventExitStatus=${ExitCode.usage} ${ExitCode.guestOff}\n`);
    expect(unit).toContain(`SuccessExitStatus=${ExitCode.guestOff}\n`);
    expect(unit).toMatch(/^RestartSec=5$/m);
    expect(unit).toMatch(/^Type=notify$/m);
    expect(unit).toMatch(/^LimitMEMLOCK=infinity$/m);
  });
});

describe('the runbook', () => {
  const runbook = read('docs/runbook.md');
  const anchors = anchorsOf(runbook);

  test('has a part for every alert, and every alert leads to its part', () => {
    const rules = parse(read('dashboards/romulus.rules.yml')) as {
      groups: { rules: { alert?: string; annotations?: { runbook_url?: string } }[] }[];
    };
    const alerts = rules.groups.flatMap((group) => group.rules).filter((rule) => rule.alert);
    expect(alerts.length).toBeGreaterThan(5);
    for (const { alert = '', annotations } of alerts) {
      expect(runbook).toContain(`\n### ${alert}\n`);
      const [file, anchor] = (annotations?.runbook_url ?? '').split('#');
      expect(`${alert}: ${file}`).toBe(`${alert}: docs/runbook.md`);
      expect(anchors).toContain(anchor);
    }
    // Nor does it speak of alerts that are none any more.
    const parts = [...runbook.matchAll(/^### (Romulus\w+)$/gm)].map((match) => match[1]);
    expect(parts.sort()).toEqual(alerts.map(({ alert }) => alert).sort());
  });

  test('every alert says what it means and what to do', () => {
    const parts = runbook.split(/^### (?=Romulus)/m).slice(1);
    for (const part of parts) {
      const [title = ''] = part.split('\n', 1);
      expect({ title, says: /^\*\*You see\*\*/m.test(part) }).toEqual({ title, says: true });
      expect({ title, does: /^\*\*Do\*\*/m.test(part) }).toEqual({ title, does: true });
    }
  });

  test('every exit code has its row', () => {
    const rows = [...runbook.matchAll(/^\| (\d+) \|/gm)].map((match) => Number(match[1]));
    expect(rows).toEqual(Object.values(ExitCode).sort((a, b) => a - b));
  });

  test('every line of the log that needs a person is there', () => {
    const words = errorLines();
    expect(words.length).toBeGreaterThan(5);
    const section = runbook.slice(runbook.indexOf('## Errors in the log'));
    const missing = words.filter((line) => !line.some((word) => section.includes(word)));
    expect(missing).toEqual([]);
  });

  test('links to headings and files that there are', () => {
    for (const [, target = ''] of runbook.matchAll(/\]\(([^)\s]+)\)/g)) {
      if (target.startsWith('http')) continue;
      const [file = '', anchor] = target.split('#');
      const there = file === '' ? runbook : read(path.join('docs', file));
      if (anchor !== undefined) expect(anchorsOf(there)).toContain(anchor);
    }
  });

  test('names flags and keys that there are', () => {
    const known = new Set(FLAGS.map(({ name }) => name));
    const keys = runbook.match(/```yaml\n([\s\S]*?)```/)?.[1] ?? '';
    const used = [...keys.matchAll(/^ *([a-z][a-z-]+):/gm)].map((match) => match[1] ?? '');
    expect(used.length).toBeGreaterThan(10);
    for (const name of used) expect(known).toContain(name);
    // And a node would take them so.
    const folder = mkdtempSync(path.join(os.tmpdir(), 'ft-runbook-'));
    try {
      const file = path.join(folder, 'web.yaml');
      writeFileSync(file, keys.replace(/^ {3}/gm, ''));
      const request = readPrimaryConfig(['--config', file, '--print-config'], {});
      expect(request.kind).toBe('print');
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

/** What each call of logger.error under src/ says, in pieces without the parts that vary. */
function errorLines(): string[][] {
  const lines: string[][] = [];
  for (const file of sources(path.join(root, 'src'))) {
    const text = readFileSync(file, 'utf8');
    for (const match of text.matchAll(
      /logger\.error\(\s*([\s\S]*?)(?:,\s*\{|,\s*[a-z]+,?\s*\)|\);)/g,
    )) {
      const pieces = [...(match[1] ?? '').matchAll(/(['`])((?:(?!\1).)*)\1/g)]
        .flatMap((literal) => (literal[2] ?? '').split(/\$\{[^}]*\}/))
        .map((piece) => piece.trim())
        .filter((piece) => piece.length > 8);
      if (pieces.length > 0) lines.push(pieces);
    }
  }
  return lines;
}

function sources(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const file = path.join(folder, entry.name);
    if (entry.isDirectory()) return sources(file);
    return entry.name.endsWith('.ts') ? [file] : [];
  });
}
