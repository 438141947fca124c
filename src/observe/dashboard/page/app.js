/**
 * Brings the page to life: asks whether a token is needed, opens a feed to the node that the page
 * came from and to each of its peers, and shows what they say. Any of them may die: the page goes on
 * with who lives, and picks up who returns.
 *
 *   /access ── reader ─▶ feed of this node ── hello names peers ─▶ feeds of the peers
 *      └── not yet ─▶ the token is asked for, once in this tab
 */
import { NodeFeed } from './feed.js';
import { clock, utc } from './format.js';
import { NodeModel, PairModel } from './model.js';
import { Plots } from './plots.js';
import { byId, setText, showEvents, showNodes, showTiles, showVerdict } from './view.js';

const TOKEN_KEY = 'romulus-token';

const model = new PairModel();
const plots = new Plots(model, byId('plots'), byId('table'));
/** Names of the nodes that the plots were built with. */
let plotted = '';
let drawn = 0;

/** @returns {string | undefined} */
function token() {
  return sessionStorage.getItem(TOKEN_KEY) ?? undefined;
}

/** Whether this node lets us read. */
async function mayRead() {
  const known = token();
  const headers = known === undefined ? {} : { Authorization: `Bearer ${known}` };
  const response = await fetch('/access', { headers, cache: 'no-store' });
  return /** @type {{ reader: boolean }} */ (await response.json()).reader;
}

function askForToken() {
  const hadOne = token() !== undefined;
  sessionStorage.removeItem(TOKEN_KEY);
  byId('board').hidden = true;
  byId('token').hidden = false;
  const error = byId('token-error');
  setText(error, hadOne ? 'The token is not good, or not any more.' : '');
  const input = /** @type {HTMLInputElement} */ (byId('token-text'));
  input.focus();
  byId('token-form').addEventListener(
    'submit',
    (event) => {
      event.preventDefault();
      sessionStorage.setItem(TOKEN_KEY, input.value.trim());
      input.value = '';
      start().catch(showTrouble);
    },
    { once: true },
  );
}

async function start() {
  if (!(await mayRead())) {
    askForToken();
    return;
  }
  byId('token').hidden = true;
  byId('board').hidden = false;
  if (model.nodes.length === 0) addNode(location.origin);
  show();
}

/** @param {string} origin */
function addNode(origin) {
  if (model.nodes.some((node) => node.origin === origin)) return;
  const node = new NodeModel(origin);
  model.nodes.push(node);
  const feed = new NodeFeed(
    origin,
    token,
    (message) => {
      const fresh = model.take(node, message);
      if (fresh.length > 0) showEvents(fresh, message.type === 'hello');
      if (message.type === 'hello' && node === model.nodes[0]) message.peers.forEach(addNode);
      // Figures come every second, and are shown by tick(); a change of state is shown at once.
      if (message.type === 'hello' || message.type === 'now') show();
    },
    (state) => {
      node.feed = state;
      show();
      // A node that lets us in no more looks, from here, like one that is away.
      if (state === 'lost' && node === model.nodes[0]) checkAccess();
    },
  );
  feed.open();
}

function checkAccess() {
  mayRead().then(
    (isReader) => {
      if (!isReader) askForToken();
    },
    () => undefined,
  );
}

function show() {
  showVerdict(model);
  showNodes(model);
  showTiles(model);
  const live = model.nodes.filter((node) => node.isLive).length;
  const badge = byId('live');
  badge.dataset['live'] = live === 0 ? 'none' : live < model.nodes.length ? 'some' : 'all';
  setText(
    badge,
    live === 0
      ? 'no connection'
      : `live from ${live} of ${model.nodes.length} ${model.nodes.length === 1 ? 'node' : 'nodes'}`,
  );
  const names = model.nodes.map((node) => node.title).join();
  if (names === plotted) return;
  plotted = names;
  plots.build();
}

/** Once a second, whatever comes: silence is shown as well. */
function tick() {
  const now = Date.now();
  const time = /** @type {HTMLTimeElement} */ (byId('clock'));
  setText(time, clock(now));
  time.dateTime = new Date(now).toISOString();
  time.title = utc(now);
  if (byId('board').hidden) return;
  show();
  if (document.visibilityState === 'hidden' && now - drawn < 10_000) return;
  drawn = now;
  plots.update();
}

/** @param {unknown} thrown */
function showTrouble(thrown) {
  byId('board').hidden = false;
  setText(byId('verdict-title'), 'This page cannot start');
  setText(byId('verdict-text'), String(thrown));
}

start().catch(showTrouble);
setInterval(tick, 1000);
tick();
