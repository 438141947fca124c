/** From the words of ft-drill's command line to what shall be done. */
import { FtError } from '../common/errors';
import { type Flags, parseWords } from '../config/parse';
import { nearest } from '../config/spelling';
import { parseChoice } from '../config/values';
import {
  DRILL_COMMANDS,
  DRILL_FLAGS,
  type DrillCommand,
  flagsOfCommand,
  KILL_SWITCH,
} from './flags';
import { LIVE_SCENARIOS, type LiveScenario } from './live/live-scenarios';
import { type ProbeTarget, parseProbe } from './live/probe';
import { WITNESS_KINDS, type WitnessKind } from './pair/sandbox-witness';
import type { Scenario } from './scenarios/scenario';
import { scenarios } from './scenarios/scenarios';

/** How often: each scenario, or all together. */
export type Count = { readonly runs: number } | { readonly drills: number };

interface Reports {
  readonly count: Count;
  readonly json: string | undefined;
  readonly html: string | undefined;
  readonly logs: string | undefined;
}

export interface SandboxRunOrder extends Reports {
  readonly kind: 'run-sandbox';
  readonly scenarios: readonly Scenario[];
  /** All that there are, so that those may be left out which this host cannot do. */
  readonly all: boolean;
  /** Undefined: etcd where it is installed. */
  readonly witness: WitnessKind | undefined;
  readonly memory: string;
  readonly suspectAfterMs: number;
  readonly clients: number;
  readonly ratePerSecond: number;
  readonly seed: number;
  readonly nodeFlags: readonly string[];
}

export interface LiveRunOrder extends Reports {
  readonly kind: 'run-live';
  readonly scenarios: readonly LiveScenario[];
  readonly sockets: readonly string[];
  readonly probe: ProbeTarget;
  readonly probeRate: number;
  readonly gapMsMax: number | undefined;
  readonly settleMs: number;
  readonly yes: boolean;
}

export interface SandboxOrder {
  readonly kind: 'sandbox';
  readonly httpPort: number;
  readonly restartMs: number;
  readonly logs: string | undefined;
}

export type DrillOrder =
  | { readonly kind: 'help' | 'version' | 'list' }
  | SandboxRunOrder
  | LiveRunOrder
  | SandboxOrder;

/** Throws FT_ERR_CONFIG. */
export function readDrillOrder(words: readonly string[]): DrillOrder {
  const { flags, others } = parseWords('ft-drill', DRILL_FLAGS, words);
  if (flags.has('help')) return { kind: 'help' };
  if (flags.has('version')) return { kind: 'version' };
  const [word, ...names] = others;
  const command = DRILL_COMMANDS.find((known) => known === word);
  if (command === undefined) throw unknownCommand(word);
  for (const { name } of DRILL_FLAGS) {
    const known = flagsOfCommand(command).some((flag) => flag.name === name);
    if (flags.has(name) && !known) throw misplaced(name, `ft-drill ${command} does not know it`);
  }
  if (command !== 'run' && names[0] !== undefined) {
    throw usage(`ft-drill ${command} takes no further words; found ${JSON.stringify(names[0])}.`);
  }
  if (command === 'list') return { kind: 'list' };
  if (command === 'sandbox') return sandboxOrder(flags);
  return flags.has('live') ? liveOrder(flags, names) : sandboxRunOrder(flags, names);
}

function sandboxOrder(flags: Flags): SandboxOrder {
  return {
    kind: 'sandbox',
    httpPort: flags.integer('http-port'),
    restartMs: flags.integer('restart-s') * 1000,
    logs: flags.text('logs'),
  };
}

function sandboxRunOrder(flags: Flags, names: readonly string[]): SandboxRunOrder {
  refuseRoom(flags, 'live pair', 'it is for a live pair: give --live SOCKET too');
  const witness = flags.text('witness');
  const fault = flags.text('test-fault');
  return {
    kind: 'run-sandbox',
    ...reports(flags, names.length),
    scenarios: chosen(names, scenarios),
    all: names.includes('all'),
    witness: witness === undefined ? undefined : parseChoice('witness', witness, WITNESS_KINDS),
    memory: flags.needed('memory', 'it has a default'),
    suspectAfterMs: flags.integer('suspect-after-ms'),
    clients: flags.integer('clients'),
    ratePerSecond: flags.integer('rate'),
    seed: flags.has('seed') ? flags.integer('seed') : Date.now() % 1e9,
    nodeFlags: fault === undefined ? [] : ['--test-fault', fault],
  };
}

function liveOrder(flags: Flags, names: readonly string[]): LiveRunOrder {
  refuseRoom(flags, 'sandbox pair', 'a live pair is what it is: leave it out');
  const allowed = LIVE_SCENARIOS.filter(({ kills }) => !kills || flags.has(KILL_SWITCH));
  const named = chosen(names, LIVE_SCENARIOS, `${scenarioList(LIVE_SCENARIOS)} on a live pair`);
  // Who says all means all that may be done.
  const wanted = names.includes('all') ? allowed : named;
  const deadly = wanted.find((scenario) => !allowed.includes(scenario));
  if (deadly !== undefined) {
    throw usage(
      `${deadly.name} kills a node of the live pair. If that is what you want, and something ` +
        'starts it again, add --' +
        `${KILL_SWITCH}.`,
    );
  }
  const sockets = [...new Set(flags.all('live'))];
  if (sockets.length > 2) throw usage('A pair has two nodes: give --live once or twice.');
  const single = wanted.find((scenario) => scenario.needsBoth);
  if (single !== undefined && sockets.length < 2) {
    throw usage(`${single.name} needs the control sockets of both nodes: give --live twice.`);
  }
  const order = reports(flags, names.length);
  const [often] = Object.values(order.count);
  if (sockets.length < 2 && often !== 1) {
    throw usage(
      'With one socket a run is one switchover (--runs 1, the default): the next one is asked of the ' +
        'other node. Give --live twice.',
    );
  }
  return {
    kind: 'run-live',
    ...order,
    scenarios: wanted,
    sockets,
    probe: parseProbe(flags.needed('probe', 'it is the client that measures what a drill costs')),
    probeRate: flags.integer('probe-rate'),
    gapMsMax: flags.has('gap-ms-max') ? flags.integer('gap-ms-max') : undefined,
    settleMs: flags.integer('settle-s') * 1000,
    yes: flags.has('yes'),
  };
}

function reports(flags: Flags, named: number): Reports {
  if (named === 0) throw usage('Which scenarios? Name them, or say all; ft-drill list shows them.');
  if (flags.has('runs') && flags.has('drills')) {
    throw misplaced('drills', 'it says the same as --runs in another way: give one of them');
  }
  const count = flags.has('drills')
    ? { drills: flags.integer('drills') }
    : { runs: flags.has('runs') ? flags.integer('runs') : 1 };
  const [json, html, logs] = [flags.text('json'), flags.text('html'), flags.text('logs')];
  return { count, json, html, logs };
}

/** The scenarios of these names, each once; `all` names them all. */
function chosen<T extends { readonly name: string }>(
  names: readonly string[],
  known: readonly T[],
  which = `${scenarioList(known)}, and all`,
): readonly T[] {
  if (names.includes('all')) return known;
  return [...new Set(names)].map((name) => {
    const found = known.find((scenario) => scenario.name === name);
    if (found !== undefined) return found;
    const near = nearest(
      name,
      known.map((scenario) => scenario.name),
    );
    const hint = near === undefined ? '' : ` Did you mean ${near}?`;
    throw usage(`There is no scenario ${JSON.stringify(name)} here. There are: ${which}.${hint}`);
  });
}

function scenarioList(known: readonly { readonly name: string }[]): string {
  return known.map(({ name }) => name).join(', ');
}

function refuseRoom(flags: Flags, room: 'live pair' | 'sandbox pair', why: string): void {
  const found = DRILL_FLAGS.find((flag) => flag.room === room && flags.has(flag.name));
  if (found !== undefined) throw misplaced(found.name, why);
}

function unknownCommand(word: string | undefined): FtError {
  const found = word === undefined ? 'No command is given' : `${JSON.stringify(word)} is none`;
  const known: readonly DrillCommand[] = DRILL_COMMANDS;
  return usage(`${found}; the commands of ft-drill are ${known.join(', ')} (see --help).`);
}

function misplaced(flag: string, why: string): FtError {
  return new FtError('FT_ERR_CONFIG', `--${flag} is out of place: ${why}.`, { flag });
}

function usage(message: string): FtError {
  return new FtError('FT_ERR_CONFIG', message);
}
