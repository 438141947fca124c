/**
 * What the page knows: each node's last word, the figures of the last five minutes, and who runs
 * the guest.
 */
import { NO_TROUBLE } from './feed.js';

/** @typedef {import('./feed.js').Sample} Sample */
/** @typedef {import('./feed.js').JournalEvent} JournalEvent */
/** @typedef {import('./feed.js').Message} Message */
/** @typedef {import('./feed.js').Hello} Hello */

export const WINDOW_S = 300;

/** One second of the pair: figures of the node that ran the guest, and of each node its own. */
/**
 * @typedef {object} Second
 * @property {Sample} figures
 * @property {string} node Who ran the guest; empty when nobody said so.
 * @property {string} state
 * @property {Map<string, number>} loops Node → longest absence of its event loop, µs.
 */
/** @typedef {JournalEvent & { node: string, ms: number }} SeenEvent */

/** States of a primary whose guest runs here no more. */
const OVER = new Set(['fenced', 'ended', 'stopped']);

export class NodeModel {
  name = '';
  pair = '';
  /** @type {import('./feed.js').FeedState} */
  feed = 'connecting';
  /** Why it cannot be heard, as far as this browser says. */
  trouble = NO_TROUBLE;
  /** When it was heard last, by this browser's clock. */
  heardMs = 0;
  /** Its clock less this browser's. */
  aheadMs = 0;
  /** When its process began; another one counts its events anew. */
  started = 0;
  /** The newest of its events that was taken. */
  seq = 0;
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

  /** Somebody answers there, though this page is told nothing. */
  get isMute() {
    return !this.isLive && this.trouble.kind !== 'none' && this.trouble.kind !== 'away';
  }

  /** Since when the guest has been as safe as it is, by this browser's clock; 0: it does not say. */
  get sinceMs() {
    const since = this.number('since');
    return since === undefined ? 0 : since - this.aheadMs;
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

  /** @param {NodeModel} node @param {Message} message @returns {SeenEvent[]} New events. */
  take(node, message) {
    node.heardMs = Date.now();
    if (message.type === 'hello') return this.#greet(node, message);
    if (message.type === 'event') return this.#freshEvents(node, [message.event]);
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
    if (node.started !== hello.started) node.seq = 0;
    node.started = hello.started;
    node.aheadMs = hello.at - Date.now();
    node.sample = hello.sample;
    const { fields, rows } = hello.history;
    for (const row of rows) {
      this.#keepSecond(node, Object.fromEntries(fields.map((name, at) => [name, row[at] ?? null])));
    }
    return this.#freshEvents(node, hello.events);
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

  /**
   * A hello tells again what was told before.
   * @param {NodeModel} node
   * @param {readonly JournalEvent[]} events Oldest first, as their numbers are.
   * @returns {SeenEvent[]}
   */
  #freshEvents(node, events) {
    const fresh = events
      .filter(({ seq }) => seq > node.seq)
      .map((event) => ({
        ...event,
        node: node.name,
        ms: Date.parse(event.at) - node.aheadMs,
      }));
    node.seq = fresh.at(-1)?.seq ?? node.seq;
    return fresh;
  }

  /** Nodes that can be heard. */
  get live() {
    return this.nodes.filter((node) => node.isLive);
  }

  /** The node that runs the guest, as far as anybody who can be heard says so. */
  get active() {
    const sides = this.live.filter(
      (node) => node.text('role') === 'primary' && !OVER.has(node.text('state')),
    );
    return sides.sort((a, b) => (b.number('generation') ?? 0) - (a.number('generation') ?? 0))[0];
  }

  /** @param {NodeModel} node */
  other(node) {
    return this.nodes.find((candidate) => candidate !== node);
  }
}
