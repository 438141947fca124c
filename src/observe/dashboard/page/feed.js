/**
 * The feed of one node: a WebSocket that is opened again and again until somebody answers.
 *
 *   connecting ── hello ──▶ live ── closed, or silent for SILENCE_MS ──▶ lost ── soon ──▶ connecting
 *
 * A node that stands still keeps its connections: silence is how this page notices.
 */

/** @typedef {Record<string, number | string | boolean | null>} Sample */
/**
 * @typedef {object} JournalEvent
 * @property {number} seq
 * @property {string} at
 * @property {'info' | 'warn' | 'error'} level
 * @property {string} kind
 * @property {string} text
 * @property {string} role
 * @property {string} state
 * @property {number} generation
 * @property {number} epoch
 * @property {number} life
 * @property {Record<string, string | number | boolean>} facts
 */
/**
 * @typedef {object} Hello
 * @property {'hello'} type
 * @property {string} node
 * @property {string} pair
 * @property {string[]} peers
 * @property {number} started
 * @property {number} at
 * @property {Sample} sample
 * @property {{ fields: string[], rows: (number | string | null)[][] }} history
 * @property {JournalEvent[]} events
 */
/**
 * @typedef {Hello
 *   | { type: 'sample', sample: Sample }
 *   | { type: 'now', status: Sample }
 *   | { type: 'event', event: JournalEvent }} Message
 */
/** @typedef {'connecting' | 'live' | 'lost'} FeedState */

const PROTOCOL = 'romulus-feed-1';
/** Samples come every second. */
const SILENCE_MS = 3000;
const HELLO_MS = 4000;
const AGAIN_MS_MIN = 300;
const AGAIN_MS_MAX = 3000;

export class NodeFeed {
  /** @type {FeedState} */
  state = 'connecting';
  /** @type {WebSocket | undefined} */
  #socket;
  #againMs = AGAIN_MS_MIN;
  /** @type {number | undefined} */
  #silence;

  /**
   * @param {string} origin "http://127.0.0.1:7080"
   * @param {() => string | undefined} token
   * @param {(message: Message) => void} onMessage
   * @param {(state: FeedState) => void} onState
   */
  constructor(origin, token, onMessage, onState) {
    this.origin = origin;
    this.token = token;
    this.onMessage = onMessage;
    this.onState = onState;
  }

  open() {
    if (!this.origin.startsWith('https:') || this.origin === location.origin) {
      this.#connect();
      return;
    }
    // A node asks for a client certificate. Browsers settle that for a request, whether they have one
    // or not, and remember it; for a WebSocket that comes first they give up.
    fetch(`${this.origin}/access`, {
      ...{ mode: 'no-cors', credentials: 'include', cache: 'no-store' },
      signal: AbortSignal.timeout(HELLO_MS),
    }).then(
      () => this.#connect(),
      () => this.#again(),
    );
  }

  #connect() {
    const token = this.token();
    const protocols = token === undefined ? [PROTOCOL] : [PROTOCOL, tokenProtocol(token)];
    const socket = new WebSocket(`${this.origin.replace(/^http/, 'ws')}/feed`, protocols);
    this.#socket = socket;
    this.#expectWithin(HELLO_MS);
    socket.addEventListener('message', ({ data }) => {
      if (socket !== this.#socket) return;
      this.#againMs = AGAIN_MS_MIN;
      this.#expectWithin(SILENCE_MS);
      this.onMessage(JSON.parse(String(data)));
      this.#become('live');
    });
    socket.addEventListener('close', () => this.#lost(socket));
  }

  /** @param {number} ms */
  #expectWithin(ms) {
    clearTimeout(this.#silence);
    const socket = this.#socket;
    this.#silence = setTimeout(() => {
      if (socket !== undefined) this.#lost(socket);
    }, ms);
  }

  /** @param {WebSocket} socket */
  #lost(socket) {
    if (socket !== this.#socket) return;
    this.#socket = undefined;
    clearTimeout(this.#silence);
    socket.close();
    this.#again();
  }

  #again() {
    this.#become('lost');
    setTimeout(() => this.open(), this.#againMs);
    this.#againMs = Math.min(AGAIN_MS_MAX, this.#againMs * 1.6);
  }

  /** @param {FeedState} state */
  #become(state) {
    if (this.state === state) return;
    this.state = state;
    this.onState(state);
  }
}

/** A subprotocol may hold few characters. @param {string} token */
function tokenProtocol(token) {
  const base64 = btoa(String.fromCharCode(...new TextEncoder().encode(token)));
  return `token.${base64.replace(/\+/g, '-').replace(/\//g, '_').replace(/=+$/, '')}`;
}
