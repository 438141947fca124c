/** romulus.yaml(5): every setting that may stand in a file, from the table of settings. */
import type { FlagSpec } from './flag-spec';
import { escaped, manPage } from './man';

const INTRODUCTION = `Usage: /etc/romulus/PAIR.yaml

The settings of a node in one file, in YAML: ft-primary and ft-standby read it with
--config PATH. Its keys are the names of the flags without the dashes. A flag that
may be repeated is a list here, a switch is true or false. The command line wins
over the environment, the environment over the file, the file over the defaults.

A key that is unknown or a value that is not allowed is refused by name, and
nothing is started; --print-config shows what was read. docs/config.schema.json
describes the file for editors.

What is marked "reload" is taken over by a running node on SIGHUP or "ftctl
reload"; a change of anything else needs a restart, and the answer says so.

Example:
  pair: web
  node: host-a
  kernel: /var/lib/romulus/web/vmlinuz
  cmdline: console=ttyS0 root=/dev/vda
  memory: 1G
  tap: tap-web
  disk:
    - /var/lib/romulus/web/root.img
  listen: 192.0.2.1:7001
  standby:
    - 192.0.2.2:7001
  witness: etcd:https://192.0.2.10:2379,https://192.0.2.11:2379
  control: /run/romulus/web/control.sock
`;

/** The page, ending with a line feed. */
export function settingsPage(flags: readonly FlagSpec[], version: string): string {
  const keys = flags.filter((flag) => flag.commandLineOnly !== true && flag.notInFile !== true);
  return manPage({
    name: 'romulus.yaml',
    section: 5,
    about: 'settings of a node of a protected pair',
    version,
    help: INTRODUCTION,
    body: ['.SH SETTINGS', ...groups(keys)],
    more: [],
    seeAlso: ['ft-primary(1)', 'ft-standby(1)', 'ftctl(1)'],
  });
}

function groups(keys: readonly FlagSpec[]): string[] {
  const lines: string[] = [];
  for (const group of new Set(keys.map((key) => key.group))) {
    lines.push(`.SS ${group}`);
    for (const key of keys.filter((one) => one.group === group)) lines.push(...entry(key));
  }
  return lines;
}

function entry(key: FlagSpec): string[] {
  const value = key.value ?? 'true|false';
  const facts: string[] = [];
  if (key.repeats === true) facts.push('a list');
  if (key.only !== undefined) facts.push(`${key.only} only`);
  if (key.fallback) facts.push(`default: ${key.fallback}`);
  if (key.reload === true) facts.push('reload');
  const lines = ['.TP', `\\fB${escaped(key.name)}:\\fR \\fI${escaped(value)}\\fR`];
  lines.push(escaped(`${sentence(key.help)}${facts.length > 0 ? ` (${facts.join('; ')})` : ''}`));
  return lines;
}

function sentence(help: string): string {
  return `${help.charAt(0).toUpperCase()}${help.slice(1)}.`;
}
