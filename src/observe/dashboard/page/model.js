/**
 * What the page knows: each node's last word, the figures of the last five minutes, the events of
 * all nodes, and the verdict over the pair that follows from them.
 */
import { clock } from './format.js';

/** @typedef {import('./feed.js').Sample} Sample */
/** @typedef {import('./feed.js').JournalEvent} JournalEvent */
/** @typedef {import('./feed.js').Message} Message */
/** @typedef {import('./feed.js').Hello} Hello */

export const WINDOW_S = 300;
const EVENTS_MAX = 300;

/** One second of the pair: figures of the node that ran the guest, and of each node its own. */
/**
 * @typedef {object} Second
 * @property {Sample} figures
 * @property {string} node Who ran the guest; empty when nobody said so.
 * @property {string} state
 * @property {Map<string, number>} loops Node → longest absence of its event loop, µs.
 */
/** @typedef {JournalEvent & { node: string, ms: number, key: string }} SeenEvent */
/**
 * @typedef {object} Verdict
 * @property {'ok' | 'busy' | 'bad' | 'unknown'} level
 * @property {string} title
 * @property {string} text
 * @property {string} action What to do; empty: nothing.
 * @property {boolean} isSyncing
 */

export class NodeModel {
  name = '';
  pair = '';
  /** @type {import('./feed.js').FeedState} */
  feed = 'connecting';
  /** When it was heard last, by this browser's clock. */
  heardMs = 0;
  /** Its clock less this browser's. */
  aheadMs = 0;
  started = 0;
  /** @type {Sample} */
  sample = {};

  /** @param {string} origin */
  constructor(origin) {
    this.origin = origin;
  }

  /** @param {string} field */
  number(field) {
    const value = this.sample[field];
    return typeof value === 'number' ? value : undefined;
  }

  /** @param {string} field */
  text(field) {
    const value = this.sample[field];
    return typeof value === 'string' ? value : '';
  }

  get isLive() {
    return this.feed === 'live';
  }

  /** How people know it. */
  get title() {
    return this.name === '' ? this.origin.replace(/^https?:\/\//, '') : this.name;
  }
}

export class PairModel {
  /** @type {NodeModel[]} */
  nodes = [];
  /** @type {Map<number, Second>} Second of unix time → what was then. */
  seconds = new Map();
  /** @type {SeenEvent[]} Oldest first. */
  events = [];
  /** @type {Set<string>} */
  #seen = new Set();

  /** @param {NodeModel} node @param {Message} message @returns {SeenEvent[]} New events. */
  take(node, message) {
    node.heardMs = Date.now();
    if (message.type === 'hello') return this.#greet(node, message);
    if (message.type === 'event') return this.#keepEvents(node, [message.event]);
    if (message.type === 'now') {
      node.sample = { ...node.sample, ...message.status };
    } else {
      node.sample = message.sample;
      this.#keepSecond(node, message.sample);
    }
    return [];
  }

  /** @param {NodeModel} node @param {Hello} hello */
  #greet(node, hello) {
    node.name = hello.node;
    node.pair = hello.pair;
    node.started = hello.started;
    node.aheadMs = hello.at - Date.now();
    node.sample = hello.sample;
    const { fields, rows } = hello.history;
    for (const row of rows) {
      this.#keepSecond(node, Object.fromEntries(fields.map((name, at) => [name, row[at] ?? null])));
    }
    return this.#keepEvents(node, hello.events);
  }

  /** @param {NodeModel} node @param {Sample} sample */
  #keepSecond(node, sample) {
    const second = Math.round((Number(sample['at']) - node.aheadMs) / 1000);
    let kept = this.seconds.get(second);
    if (kept === undefined) {
      kept = { figures: {}, node: '', state: '', loops: new Map() };
      this.seconds.set(second, kept);
    }
    const loop = sample['eventLoopUsMax'];
    if (typeof loop === 'number') kept.loops.set(node.name, loop);
    if (sample['role'] === 'primary') {
      kept.figures = sample;
      kept.node = node.name;
      kept.state = String(sample['state']);
    }
    const oldest = Date.now() / 1000 - WINDOW_S - 5;
    for (const at of this.seconds.keys()) if (at < oldest) this.seconds.delete(at);
  }

  /** @param {NodeModel} node @param {readonly JournalEvent[]} events @returns {SeenEvent[]} */
  #keepEvents(node, events) {
    const fresh = events
      .map((event) => ({
        ...event,
        node: node.name,
        ms: Date.parse(event.at) - node.aheadMs,
        key: `${node.origin} ${node.started} ${event.seq}`,
      }))
      .filter(({ key }) => !this.#seen.has(key));
    for (const { key } of fresh) this.#seen.add(key);
    this.events.push(...fresh);
    this.events.sort((a, b) => a.ms - b.ms);
    this.events.splice(0, this.events.length - EVENTS_MAX);
    return fresh;
  }

  /** The node that runs the guest, as far as anybody who can be heard says so. */
  get active() {
    const sides = this.nodes.filter((node) => node.isLive && node.text('role') === 'primary');
    return sides.sort((a, b) => (b.number('generation') ?? 0) - (a.number('generation') ?? 0))[0];
  }

  /** Until when the guest was protected, as far as this page has seen it; 0: it has not. */
  get protectedUntilMs() {
    let newest = 0;
    for (const [second, { state }] of this.seconds) {
      if (state === 'protected' && second > newest) newest = second;
    }
    return newest * 1000;
  }

  /** @returns {Verdict} */
  get verdict() {
    const { active } = this;
    if (active !== undefined) {
      return verdictOf(active, this.#other(active), this.protectedUntilMs);
    }
    const live = this.nodes.filter((node) => node.isLive);
    const heir = live.find((node) => TAKING_OVER.has(node.text('state')));
    if (heir !== undefined) return takeover(heir, this.#other(heir));
    const copy = live[0];
    if (copy === undefined) return nobody(this.nodes);
    return unseen(copy, this.#other(copy));
  }

  /** @param {NodeModel} node */
  #other(node) {
    return this.nodes.find((candidate) => candidate !== node);
  }
}

/** The node's own reason, which stands in brackets behind what it does. @param {string} why */
function causeOf(why) {
  const reason = /\((.*)\)$/s.exec(why)?.[1];
  return reason === undefined ? '' : ` Cause: ${reason.replace(/\.?$/, '.')}`;
}

/** What a standby is called that nobody named. */
const NAMELESS = 'its standby';

/** A name as it is, words with a capital letter. @param {string} subject */
function begin(subject) {
  return subject === NAMELESS ? 'Its standby' : subject;
}

const TAKING_OVER = new Set(['suspecting', 'promoting', 'active']);

/**
 * @param {NodeModel} active
 * @param {NodeModel | undefined} other
 * @param {number} untilMs
 * @returns {Verdict}
 */
function verdictOf(active, other, untilMs) {
  const here = active.title;
  const there = active.text('peer') || (other?.name ?? '') || NAMELESS;
  const cause = causeOf(active.text('why'));
  const state = active.text('state');
  const common = { action: '', isSyncing: false };
  switch (state) {
    case 'protected':
      return {
        ...{ ...common, level: 'ok', title: 'Protected' },
        text: `${begin(there)} holds everything that clients have seen. If ${here} fails, it goes on there.`,
      };
    case 'syncing':
      return {
        ...{ ...common, level: 'busy', title: 'Not protected yet', isSyncing: true },
        text: `${begin(there)} is receiving a copy of the guest. Until it is whole, only ${here} has it.`,
        action: 'Nothing to do but wait; the guest runs meanwhile.',
      };
    case 'solo':
      return {
        ...{ ...common, level: 'bad', title: 'UNPROTECTED' },
        text: [
          `${here} runs the guest alone`,
          untilMs > 0 ? `, since ${clock(untilMs)}.` : '.',
          ' If it fails now, the guest is lost.',
          cause,
        ].join(''),
        action:
          other === undefined || other.isLive
            ? 'See the events below for why no standby is taken.'
            : `Start the node on ${other.title} again; it joins and is synced by itself.`,
      };
    case 'suspended':
      return {
        ...{ ...common, level: 'bad', title: 'UNPROTECTED, and waiting' },
        text: `${here} lost its standby. Its output is held until the witness has said who goes on.${cause}`,
        action: 'If this lasts for longer than seconds, look after the witness.',
      };
    case 'switching':
      return {
        ...{ ...common, level: 'busy', title: 'Switching over' },
        text: `The guest moves from ${here} to ${there}, as it was asked to.`,
      };
    case 'starting':
      return {
        ...{ ...common, level: 'busy', title: 'Starting' },
        text: `${here} is about to boot the guest.`,
      };
    default:
      return {
        ...{ ...common, level: 'bad', title: 'The guest does not run' },
        text: `${here} says “${state}”.${cause}`,
        action: 'See the events below for how it came to that.',
      };
  }
}

/**
 * @param {NodeModel} heir
 * @param {NodeModel | undefined} other
 * @returns {Verdict}
 */
function takeover(heir, other) {
  const lost = other === undefined ? 'The other node' : other.title;
  const words = {
    suspecting: `${heir.title} hears nothing from it and asks the witness who goes on.`,
    promoting: `${heir.title} has won the guest and is about to run it.`,
    active: `${heir.title} has won the guest and resumes it.`,
  };
  const state = /** @type {keyof typeof words} */ (heir.text('state'));
  return {
    ...{ level: 'busy', title: 'Failover under way', isSyncing: false },
    text: `${lost} is lost. ${words[state]}`,
    action: 'If this lasts for longer than seconds, look after the witness.',
  };
}

/**
 * @param {NodeModel} copy
 * @param {NodeModel | undefined} other
 * @returns {Verdict}
 */
function unseen(copy, other) {
  const state = copy.text('state');
  const there = other === undefined ? 'the node that runs the guest' : other.title;
  if (state === 'ready') {
    return {
      ...{ level: 'ok', title: 'Protected', isSyncing: false },
      text: `${copy.title} holds everything that clients have seen. This page cannot reach ${there}.`,
      action: other === undefined ? 'Name it with --http-peer to see both sides here.' : '',
    };
  }
  if (state === 'syncing') {
    return {
      ...{ level: 'busy', title: 'Not protected yet', isSyncing: false },
      text: `${copy.title} is receiving a copy of the guest. This page cannot reach ${there}.`,
      action: '',
    };
  }
  return {
    ...{ level: 'bad', title: 'The guest runs nowhere that this page can see', isSyncing: false },
    text: `${copy.title} waits for a primary (“${state}”).`,
    action: `Start the node on ${there}, or look whether this page’s way there is blocked.`,
  };
}

/** @param {readonly NodeModel[]} nodes @returns {Verdict} */
function nobody(nodes) {
  const known = nodes.filter((node) => node.heardMs > 0);
  if (known.length === 0) {
    return {
      ...{ level: 'unknown', title: 'Connecting', isSyncing: false },
      text: 'No node has answered yet.',
      action: '',
    };
  }
  return {
    ...{ level: 'unknown', title: 'Connection lost', isSyncing: false },
    text: 'No node answers this page, so it cannot say how the pair is. It keeps asking.',
    action: 'Look whether the nodes run, and whether this browser reaches their hosts.',
  };
}
