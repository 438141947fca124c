/**
 * What happened around one fault, for people to look at: each request as a point, and the marks that
 * divide the time.
 *
 *   latency │ ····· ▏        ▕\
 *           │ ····· ▏        ▕ \···········
 *           └───────┴────────┴──────────────▶ time
 *                 fault   first answer        … and suspicion, claim, guest runs, protected again
 *
 * The times of the marks are the nodes' own words: each state event carries the host's monotonic
 * clock, which is the clients' clock too.
 */
import type { RequestTime } from './oracle/oracle-process';

export type MarkKind =
  | 'fault'
  | 'suspicion'
  | 'claim'
  | 'runs'
  | 'answers'
  | 'protected'
  /** Anything else that is worth a word. */
  | 'note';

export interface Mark {
  readonly kind: MarkKind;
  /** After the fault. */
  readonly atMs: number;
  readonly text: string;
}

export interface Timeline {
  /** When each request was sent, ms after the fault, and its latency in ms; -1 without an answer. */
  readonly requests: readonly (readonly [atMs: number, latencyMs: number])[];
  /** In the order of time; the first is the fault, or what led to it. */
  readonly marks: readonly Mark[];
}

/** A change of state, as a node said it. */
export interface StateChange {
  readonly atUs: number;
  readonly host: string;
  readonly role: string;
  readonly from: string;
  readonly to: string;
}

/** Something that the drill itself did. */
export interface Deed {
  readonly atUs: number;
  readonly text: string;
}

/** So much of the time before the fault is shown. */
export const BEFORE_MS = 250;

export interface TimelineParts {
  readonly faultUs: number;
  /** What was done, in a few words. */
  readonly fault: string;
  /** The first answer after the silence. */
  readonly answeredUs: number | undefined;
  readonly changes: readonly StateChange[];
  readonly deeds: readonly Deed[];
  readonly requests: readonly RequestTime[];
}

/** Puts everything on one clock, whose zero is the fault. */
export function timelineOf(parts: TimelineParts): Timeline {
  const { faultUs, answeredUs } = parts;
  const ms = (atUs: number): number => Math.round((atUs - faultUs) / 10) / 100;
  const marks: Mark[] = [{ kind: 'fault', atMs: 0, text: parts.fault }];
  if (answeredUs !== undefined) {
    marks.push({ kind: 'answers', atMs: ms(answeredUs), text: 'the first new answer is heard' });
  }
  for (const { atUs, text } of parts.deeds) marks.push({ kind: 'note', atMs: ms(atUs), text });
  const last = parts.changes.findLast(({ to }) => to === 'protected');
  const before: Before = { hasRun: false, handedOver: false, promoted: new Set() };
  for (const change of parts.changes) {
    const found = wordsOf(change, before);
    if (change.to === 'switching') before.handedOver = true;
    if (change.to === 'promoting') before.promoted.add(change.host);
    if (found === undefined || (change.to === 'protected' && change !== last)) continue;
    if (found.kind === 'runs') before.hasRun = true;
    marks.push({ ...found, atMs: ms(change.atUs) });
  }
  return {
    // A fault comes before what follows from it at the same moment.
    marks: marks.sort((x, y) => x.atMs - y.atMs || rank(x) - rank(y)),
    requests: parts.requests.map(([sentUs, latencyUs]) => [
      ms(sentUs),
      latencyUs < 0 ? -1 : Math.round(latencyUs) / 1000,
    ]),
  };
}

function rank({ kind }: Mark): number {
  return kind === 'fault' ? 0 : 1;
}

/** What of the changes before a change says what that one means. */
interface Before {
  hasRun: boolean;
  handedOver: boolean;
  readonly promoted: Set<string>;
}

/** What a change of state means to an operator; undefined when it means nothing new. */
function wordsOf(
  { host, role, from, to }: StateChange,
  { hasRun, handedOver, promoted }: Before,
): Pick<Mark, 'kind' | 'text'> | undefined {
  switch (to) {
    case 'suspecting':
      if (handedOver) return { kind: 'note', text: `host ${host} has all of it and claims it` };
      return { kind: 'suspicion', text: `host ${host} suspects that the primary is lost` };
    case 'suspended':
      return { kind: 'suspicion', text: `host ${host} has lost its standby and holds its output` };
    case 'switching':
      return { kind: 'note', text: `host ${host} halts the guest and hands it over` };
    case 'promoting':
      return { kind: 'claim', text: `host ${host} wins the claim at the witness` };
    case 'solo':
      if (role !== 'primary') return undefined;
      if (from === 'starting' && !promoted.has(host)) {
        return { kind: 'runs', text: `host ${host} boots the guest anew` };
      }
      if (from === 'syncing' || hasRun) {
        return { kind: 'note', text: `host ${host} runs the guest alone` };
      }
      return { kind: 'runs', text: `the guest runs on host ${host}, its output open` };
    case 'fenced':
      return { kind: 'note', text: `host ${host} is fenced: the guest is another host’s` };
    case 'joining':
      return from === 'starting' || from === 'fenced'
        ? { kind: 'note', text: `host ${host} joins as the standby` }
        : undefined;
    case 'syncing':
      return role === 'primary' ? { kind: 'note', text: `host ${host} sends its copy` } : undefined;
    case 'protected':
      return { kind: 'protected', text: 'the guest is protected again' };
    default:
      return undefined;
  }
}
