/** A node's status for people: one sentence, and the figures that belong to it. */

type Status = Readonly<Record<string, unknown>>;

/** By role and state; the states are drawn in primary-role.ts and standby-role.ts. */
const SENTENCES: Readonly<Record<string, string>> = {
  'primary starting': 'asks the witness whose guest it is',
  'primary solo': 'runs the guest, UNPROTECTED: no standby has joined',
  'primary syncing': 'runs the guest, not protected yet: a standby is being sent a copy',
  'primary protected': 'runs the guest, protected: a standby holds all that its clients have seen',
  'primary suspended': 'lost its standby and asks the witness who goes on; output is held',
  'primary switching': 'hands the guest over to its standby',
  'primary fenced': 'lost the guest to another node',
  'primary ended': 'has nothing to run: the guest ended itself',
  'primary stopped': 'has stopped',
  'standby joining': 'holds no copy yet: it waits for a primary to dial it',
  'standby syncing': 'is being sent a copy of the guest',
  'standby ready': 'holds a copy of the guest and can take over',
  'standby suspecting': 'lost its primary and asks the witness who goes on',
  'standby promoting': 'won the guest and is about to run it',
  'standby active': 'runs the guest',
  'standby ended': 'has nothing to take over: the guest ended itself',
  'standby fenced': 'lost the guest to another node; its copy is of no use any more',
  'standby stopped': 'has stopped',
};

/** What a node does that has this role and is in this state, without a full stop. */
export function stateSentence(role: unknown, state: unknown): string {
  return SENTENCES[`${role} ${state}`] ?? `is ${state}`;
}

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
