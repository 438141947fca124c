/**
 * The feed of one node: a WebSocket that is opened again and again until somebody answers.
 *
 *   connecting ── /access ── feed ── hello ──▶ live ── closed, or silent for SILENCE_MS ─┐
 *        ▲           └─────────┴── not opened ──────▶ lost, and why ◀────────────────────┘
 *        └───────────────────────── soon, or at once ────┘
 *
 * A browser says nothing of why a WebSocket did not open. So each time a request goes before it, and
 * what became of the two tells the causes apart: see Trouble. A node that stands still keeps its
 * connections: silence is how this page notices.
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
/**
 * Why there is no feed. "away": nobody answered, or this browser does not believe the certificate.
 * "token": the node of this page wants a token, or another one. "odd": it answered something else,
 * which `said` is. "refused": a node answered, and did not open its feed; it tells pages of other
 * origins no more. "full": it serves as many pages as it does at once.
 * @typedef {object} Trouble
 * @property {'none' | 'away' | 'token' | 'odd' | 'refused' | 'full'} kind
 * @property {string} said
 */

const PROTOCOL = 'romulus-feed-1';
/** Samples come every second. */
const SILENCE_MS = 3000;
const HELLO_MS = 4000;
const AGAIN_MS_MIN = 300;
const AGAIN_MS_MAX = 3000;
/** The close code for a reader too many: "try again later". */
const FULL = 1013;
const SAID_CHARS_MAX = 200;

/** @type {Trouble} */
export const NO_TROUBLE = { kind: 'none', said: '' };

export class NodeFeed {
  /** @type {FeedState} */
  state = 'connecting';
  trouble = NO_TROUBLE;
  /** @type {WebSocket | undefined} */
  #socket;
  #turn = 0;
  #againMs = AGAIN_MS_MIN;
  /** @type {number | undefined} What is due next: the end of our patience, or another try. */
  #timer;

  /**
   * @param {string} origin "http://127.0.0.1:7080"
   * @param {() => string | undefined} token
   * @param {(message: Message) => void} onMessage
   * @param {(feed: NodeFeed) => void} onState Told of each try that failed, and of the first success.
   */
  constructor(origin, token, onMessage, onState) {
    this.origin = origin;
    this.token = token;
    this.onMessage = onMessage;
    this.onState = onState;
  }

  /** Tries at once, and gives up what is under way. */
  open() {
    this.#letGo();
    const turn = this.#turn;
    /** @param {Trouble | undefined} trouble */
    const decide = (trouble) => {
      if (turn !== this.#turn) return;
      if (trouble === undefined) this.#connect();
      else this.#again(trouble);
    };
    this.#ask().then(decide, (thrown) => {
      const isOdd = thrown instanceof SyntaxError;
      decide(isOdd ? { kind: 'odd', said: 'what no node says' } : { kind: 'away', said: '' });
    });
  }

  /**
   * Asks whether the feed would be opened; rejects when nobody answers. A request comes first for
   * another reason as well: a node asks for a client certificate, and browsers settle that for a
   * request, whether they have one or not, and remember it; for a WebSocket that comes first they
   * give up.
   * @returns {Promise<Trouble | undefined>}
   */
  async #ask() {
    const token = this.token();
    const isOwn = this.origin === location.origin;
    const response = await fetch(`${this.origin}/access`, {
      ...(isOwn ? {} : { mode: 'no-cors', credentials: 'include' }),
      headers: isOwn && token !== undefined ? { Authorization: `Bearer ${token}` } : {},
      cache: 'no-store',
      signal: AbortSignal.timeout(HELLO_MS),
    });
    // What another node answers is hidden from this page.
    if (!isOwn) return undefined;
    const text = await response.text();
    if (!response.ok) return { kind: 'odd', said: oneLine(`${response.status}: ${text}`) };
    const { reader } = /** @type {{ reader: boolean }} */ (JSON.parse(text));
    return reader ? undefined : { kind: 'token', said: '' };
  }

  #connect() {
    const token = this.token();
    const protocols = token === undefined ? [PROTOCOL] : [PROTOCOL, tokenProtocol(token)];
    const socket = new WebSocket(`${this.origin.replace(/^http/, 'ws')}/feed`, protocols);
    this.#socket = socket;
    let opened = false;
    this.#expectWithin(HELLO_MS);
    socket.addEventListener('open', () => {
      opened = true;
    });
    socket.addEventListener('message', ({ data }) => {
      if (socket !== this.#socket) return;
      this.#againMs = AGAIN_MS_MIN;
      this.#expectWithin(SILENCE_MS);
      this.onMessage(JSON.parse(String(data)));
      this.#live();
    });
    socket.addEventListener('close', ({ code }) => {
      if (socket !== this.#socket) return;
      const kind = code === FULL ? 'full' : opened ? 'away' : 'refused';
      this.#again({ kind, said: '' });
    });
  }

  /** @param {number} ms */
  #expectWithin(ms) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#again({ kind: 'away', said: '' }), ms);
  }

  /** @param {Trouble} trouble */
  #again(trouble) {
    this.#letGo();
    this.#timer = setTimeout(() => this.open(), this.#againMs);
    this.#againMs = Math.min(AGAIN_MS_MAX, this.#againMs * 1.6);
    this.state = 'lost';
    this.trouble = trouble;
    this.onState(this);
  }

  #live() {
    if (this.state === 'live') return;
    this.state = 'live';
    this.trouble = NO_TROUBLE;
    this.onState(this);
  }

  /** What comes of all that is under way counts no more. */
  #letGo() {
    clearTimeout(this.#timer);
    this.#turn += 1;
    const socket = this.#socket;
    this.#socket = undefined;
    socket?.close();
  }
}

/** @param {string} text */
function oneLine(text) {
  return text.replace(/\s+/g, ' ').trim().slice(0, SAID_CHARS_MAX);
}

/** A subprotocol may hold few characters. @param {string} token */
function tokenProtocol(token) {
  const base64 = btoa(String.fromCharCode(...new TextEncoder().encode(token)));
  return `token.${base64.replace(/\+/g, '-').replace(/\//g, '_').replace(/=+$/, '')}`;
}
