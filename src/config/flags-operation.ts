/** The flags for whoever operates a node, and those that serve tests alone. */
import { LOG_LEVELS } from '../common/logger';
import {
  LOG_FORMATS,
  ON_GUEST_END,
  ON_STANDBY_LOSS,
  ON_WITNESS_LOSS,
  TEST_FAULTS,
} from './choices';
import type { FlagSpec } from './flag-spec';

export const OPERATION_FLAGS: readonly FlagSpec[] = [
  {
    group: 'Operation',
    name: 'on-standby-loss',
    value: 'continue|pause',
    type: { kind: 'choice', choices: ON_STANDBY_LOSS },
    fallback: 'continue',
    reload: true,
    help:
      'while a guest that was protected has no standby, after a takeover too: run on without one, ' +
      'or stand still until one holds it (docs/policies.md)',
  },
  {
    group: 'Operation',
    name: 'on-witness-loss',
    value: 'hold|pause|stop',
    type: { kind: 'choice', choices: ON_WITNESS_LOSS },
    fallback: 'hold',
    reload: true,
    help:
      'when the standby is lost and the witness cannot say who goes on: run on with all output held, ' +
      'stand still, or end the guest and this process (docs/policies.md)',
  },
  {
    group: 'Operation',
    name: 'on-guest-end',
    value: 'exit|hold',
    type: { kind: 'choice', choices: ON_GUEST_END },
    fallback: 'exit',
    reload: true,
    help:
      'when the guest switches itself off or resets: end this process, or stay (a primary for a ' +
      'look at console and figures, a standby for the next primary)',
  },
  {
    group: 'Operation',
    name: 'control',
    value: 'PATH',
    type: { kind: 'socket-path' },
    help: 'serves ftctl at this UNIX socket; only for the user that runs the command',
  },
  {
    group: 'Operation',
    name: 'http',
    value: 'HOST:PORT',
    type: { kind: 'address', portMin: 0 },
    help: 'serves health, Prometheus metrics and the dashboard there',
  },
  {
    group: 'Operation',
    name: 'http-peer',
    value: 'URL',
    type: { kind: 'url' },
    repeats: true,
    help: 'the same of another node of the pair, as browsers reach it: one page shows both',
  },
  {
    group: 'Operation',
    name: 'http-token-file',
    value: 'PATH',
    type: { kind: 'path' },
    reload: 'contents',
    help:
      'file whose first line opens metrics and dashboard, the same on all nodes of a pair; off ' +
      'loopback that or a client certificate is needed',
  },
  {
    group: 'Operation',
    name: 'status-interval-ms',
    value: 'N',
    type: { kind: 'integer', min: 10, max: 3_600_000 },
    reload: true,
    help: 'prints a JSON status line on stdout every N ms, and a line per state change',
  },
  {
    group: 'Operation',
    name: 'log-level',
    value: 'debug|info|warn|error|fatal',
    type: { kind: 'choice', choices: LOG_LEVELS },
    fallback: 'info',
    reload: true,
    help: 'the least pressing lines of the log that are written (docs/logs.md)',
  },
  {
    group: 'Operation',
    name: 'log-format',
    value: 'text|json',
    type: { kind: 'choice', choices: LOG_FORMATS },
    fallback: 'text',
    help: 'form of the log on stderr: for people and the journal, or a JSON object a line',
  },
  {
    group: 'Operation',
    name: 'unconfined',
    help:
      'keeps rights that a node does not need: to write anywhere, to start programs, to listen ' +
      'at any port (docs/security.md)',
  },
  {
    group: 'Operation',
    name: 'config',
    value: 'PATH',
    type: { kind: 'path' },
    notInFile: true,
    help:
      'a YAML file with settings, under the names of the flags; a flag wins over the environment ' +
      '(ROMULUS_INTERVAL_US), that over the file (docs/configuration.md)',
  },
  {
    group: 'Operation',
    name: 'print-config',
    commandLineOnly: true,
    help: 'checks all settings, prints them as such a file with where each one comes from, and ends',
  },
  { group: 'Operation', name: 'help', commandLineOnly: true, help: 'prints this text' },
  { group: 'Operation', name: 'version', commandLineOnly: true, help: 'prints the version' },
  {
    group: 'Testing',
    name: 'measure-floor',
    only: 'ft-primary',
    help:
      'harvests dirty pages every --interval-us and replicates nothing: what dirty tracking alone ' +
      'costs here; not with --standby',
  },
  {
    group: 'Testing',
    name: 'test-fault',
    value: 'hide-dirty-page|release-early|ignore-lease',
    type: { kind: 'choice', choices: TEST_FAULTS },
    repeats: true,
    help: 'breaks a promise on purpose, to prove that tests notice; never in production',
  },
];
