/** A node's status for people: one sentence, and the figures that belong to it. */
import { stateSentence } from '../../node/state-words';
import { printable } from './answer';
import { type Fields, numberIn, textIn } from './fields';
import { bar, bytes, count, duration } from './terminal';

const LINES: readonly (readonly [label: string, name: string])[] = [
  ['pair', 'pair'],
  ['generation', 'generation'],
  ['life', 'life'],
  ['process', 'pid'],
  ['version', 'version'],
  ['epoch cut', 'epochCut'],
  ['epoch acknowledged', 'epochCommitted'],
  ['epoch held', 'epochHeld'],
  ['epochs in flight', 'inFlight'],
  ['output held', 'outboxFrames'],
  ['links lost', 'linksLost'],
  ['audit mismatches', 'auditMismatches'],
  ['disk regions unlike', 'diskRegionsMarked'],
  ['disk errors', 'diskErrors'],
];

const LABEL_COLUMNS = 20;
const BAR_COLUMNS = 30;

/** The text that `ftctl status` prints, ending with a line feed. */
export function statusText(status: Fields): string {
  const { role, state } = status;
  const lines = [`${textIn(status, 'node')} (${role}, ${state}) ${stateSentence(role, state)}.`];
  const put = (label: string, value: string): void => {
    lines.push(`  ${label.padEnd(LABEL_COLUMNS)}${printable(value)}`);
  };
  const why = reason(status);
  if (why !== '') put('why', why);
  if (textIn(status, 'peer') !== '') put('other side', peerWords(status));
  for (const text of syncWords(status)) put('sync', text);
  for (const [label, name] of LINES) {
    const value = status[name];
    if (value !== undefined) put(label, figure(name, value));
  }
  return `${lines.join('\n')}\n`;
}

/** "b at 10.0.0.2:7001" */
export function peerWords(status: Fields): string {
  const at = textIn(status, 'peerAddress');
  return `${textIn(status, 'peer')}${at === '' ? '' : ` at ${at}`}`;
}

/** What is behind the sentence of an unprotected state: the words in brackets. */
export function reason(status: Fields): string {
  const { role, state } = status;
  const why = textIn(status, 'why');
  const sentence = stateSentence(role, state);
  return why.startsWith(`${sentence} (`) ? why.slice(sentence.length + 2, -1) : '';
}

/** A bar, how much is left and how long that will take; empty unless a sync goes on. */
export function syncWords(status: Fields, columns = BAR_COLUMNS): string[] {
  if (status['state'] !== 'syncing' || status['role'] !== 'primary') return [];
  const done = numberIn(status, 'syncProgress');
  const left = numberIn(status, 'syncBytesLeft');
  const total = numberIn(status, 'syncBytesTotal');
  const seconds = numberIn(status, 'syncElapsedMs') / 1000;
  const rate = seconds > 0 ? (total - left) / seconds : 0;
  const estimate = status['syncLeftMs'];
  const words = [
    `${bar(done, columns)} ${String(Math.floor(done * 100)).padStart(3)} %`,
    `${bytes(left)} of ${bytes(total)} left`,
    `${bytes(rate)}/s`,
    typeof estimate === 'number' ? `about ${duration(estimate)}` : 'just begun',
  ];
  return [words.join(', ')];
}

function figure(name: string, value: unknown): string {
  if (typeof value !== 'number') return String(value);
  return name === 'pid' ? `${value}` : count(value);
}
