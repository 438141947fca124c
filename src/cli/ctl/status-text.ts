/** A node's status for people: one sentence, and the figures that belong to it. */
import { stateSentence } from '../../node/state-words';

type Status = Readonly<Record<string, unknown>>;

const LINES: readonly (readonly [string, string])[] = [
  ['pair', 'pair'],
  ['generation', 'generation'],
  ['life', 'life'],
  ['process', 'pid'],
  ['version', 'version'],
  ['sync', 'syncProgress'],
  ['epoch cut', 'epochCut'],
  ['epoch acknowledged', 'epochCommitted'],
  ['epoch held', 'epochHeld'],
  ['epochs in flight', 'inFlight'],
  ['output held', 'outboxFrames'],
  ['links lost', 'linksLost'],
  ['audit mismatches', 'auditMismatches'],
  ['disk sync', 'diskSyncProgress'],
  ['disk regions unlike', 'diskRegionsMarked'],
  ['disk errors', 'diskErrors'],
];

const LABEL_COLUMNS = 20;

/** The text that `ftctl status` prints, ending with a line feed. */
export function statusText(status: Status): string {
  const { node, role, state } = status;
  const lines = [`${node} (${role}, ${state}) ${stateSentence(role, state)}.`];
  for (const [label, name] of LINES) {
    const value = status[name];
    if (value === undefined || (name.endsWith('rogress') && state !== 'syncing')) continue;
    lines.push(`  ${label.padEnd(LABEL_COLUMNS)}${figure(name, value)}`);
  }
  return `${lines.join('\n')}\n`;
}

function figure(name: string, value: unknown): string {
  if (typeof value !== 'number') return String(value);
  if (name.endsWith('rogress')) return `${Math.floor(value * 100)} %`;
  return name === 'pid' ? `${value}` : value.toLocaleString('en-US');
}
