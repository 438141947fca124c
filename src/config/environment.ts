/**
 * Settings from the environment: --interval-us is ROMULUS_INTERVAL_US there. A switch is "true" or
 * "false"; the values of a list are separated by spaces. Every other variable that begins with
 * ROMULUS_ is refused, since it is a setting that somebody believes to be made.
 */
import { FtError } from '../common/errors';
import { type CommandName, FLAGS, type FlagSpec } from './flags';
import { type Item, type Layer, variableOf } from './given';
import { nearest } from './spelling';
import { masked } from './values';

const PREFIX = 'ROMULUS_';

/** Left to whoever starts the commands (docs/configuration.md): further words of a command line. */
const NOT_OURS: ReadonlySet<string> = new Set(['ROMULUS_ARGS']);

/** What Kubernetes tells the containers beside a Service that is called "romulus". */
const OF_A_SERVICE =
  /^ROMULUS_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(ADDR|PORT|PROTO))?)?)$/;
const SERVICE_HINT =
  'Kubernetes sets it for a Service called "romulus": give the pod enableServiceLinks: false, or the ' +
  'Service another name';

/** Variables by their names; those of the process in real life. */
export type Environment = Readonly<Record<string, string | undefined>>;

const BY_VARIABLE: ReadonlyMap<string, FlagSpec> = new Map(
  FLAGS.map((flag) => [variableOf(flag.name), flag]),
);

/** What the environment says. Throws FT_ERR_CONFIG for a variable that is none of `command`. */
export function readEnvironment(command: CommandName, environment: Environment): Layer {
  const given = new Map<string, readonly Item[]>();
  for (const [variable, text] of Object.entries(environment)) {
    if (text === undefined || !variable.startsWith(PREFIX) || NOT_OURS.has(variable)) continue;
    const spec = BY_VARIABLE.get(variable);
    if (spec === undefined) throw unknown(variable);
    refuseMisplaced(command, spec, variable);
    given.set(spec.name, itemsOf(spec, variable, text));
  }
  return given;
}

function itemsOf(spec: FlagSpec, variable: string, text: string): readonly Item[] {
  const from = { kind: 'environment', variable } as const;
  if (spec.value === undefined && text !== 'true' && text !== 'false') {
    const found = masked(text);
    const message = `${variable} is ${JSON.stringify(found)}; it must be true or false.`;
    const facts = { flag: spec.name, found, allowed: 'true or false', place: variable };
    throw new FtError('FT_ERR_CONFIG', message, facts);
  }
  if (spec.repeats !== true) return [{ text, from }];
  const words = text.split(' ').filter((word) => word !== '');
  return words.map((word) => ({ text: word, from }));
}

function refuseMisplaced(command: CommandName, spec: FlagSpec, variable: string): void {
  const facts = { flag: spec.name, place: variable };
  if (spec.commandLineOnly === true) {
    const message =
      `${variable} is set; --${spec.name} is an order for one start and is given on the command ` +
      'line alone.';
    throw new FtError('FT_ERR_CONFIG', message, facts);
  }
  if (spec.only !== undefined && spec.only !== command) {
    const message = `${variable} is set; it is a setting of ${spec.only} alone, not of ${command}.`;
    throw new FtError('FT_ERR_CONFIG', message, facts);
  }
}

function unknown(variable: string): FtError {
  const near = nearest(variable, [...BY_VARIABLE.keys()]);
  const known = near === undefined ? 'docs/configuration.md lists them' : `did you mean ${near}?`;
  const hint = OF_A_SERVICE.test(variable) ? SERVICE_HINT : known;
  const message = `${variable} is no setting; ${hint}`;
  return new FtError('FT_ERR_CONFIG', message, { found: variable, place: variable });
}
