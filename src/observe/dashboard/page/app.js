/**
 * Brings the page to life: opens a feed to the node that the page came from and to each of its peers,
 * and shows what they say. Any of them may die: the page goes on with who lives, and picks up who
 * returns.
 *
 *   feed of this node ── hello names peers ─▶ feeds of the peers
 *      └── wants a token, or another one ─▶ it is asked for, and kept until the tab is closed
 */
import { NodeFeed } from './feed.js';
import { clock, utc } from './format.js';
import { NodeModel, PairModel } from './model.js';
import { Plots } from './plots.js';
import { byId, setText, showEvents, showNodes, showTiles, showVerdict } from './view.js';

const TOKEN_KEY = 'romulus-token';

const model = new PairModel();
/** @type {NodeFeed[]} */
const feeds = [];
const plots = new Plots(model, byId('plots'), byId('table'));
/** Names of the nodes that the plots were built with. */
let plotted = '';
let drawn = 0;

/** @returns {string | undefined} */
function token() {
  return sessionStorage.getItem(TOKEN_KEY) ?? undefined;
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
    ({ state, trouble }) => {
      node.feed = state;
      node.trouble = trouble;
      if (node === model.nodes[0]) showTokenForm(node);
      show();
    },
  );
  feeds.push(feed);
  feed.open();
}

/** From when this page's own node wants a token until it lets us in. @param {NodeModel} own */
function showTokenForm(own) {
  const form = byId('token');
  if (own.isLive) form.hidden = true;
  if (own.trouble.kind !== 'token') return;
  const opens = form.hidden;
  form.hidden = false;
  const hadOne = token() !== undefined;
  setText(byId('token-error'), hadOne ? 'The token is not good, or not any more.' : '');
  // Whoever watches the other node is left where they are.
  if (opens && model.live.length === 0) byId('token-text').focus();
}

/** @param {SubmitEvent} event */
function takeToken(event) {
  event.preventDefault();
  const input = /** @type {HTMLInputElement} */ (byId('token-text'));
  const text = input.value.trim();
  input.value = '';
  input.focus();
  const isToken = /^[!-~]+$/.test(text);
  setText(byId('token-error'), isToken ? '' : 'That is no token: one word, as it is in the file.');
  if (!isToken) return;
  sessionStorage.setItem(TOKEN_KEY, text);
  for (const feed of feeds) if (feed.state !== 'live') feed.open();
}

function show() {
  const [own] = model.nodes;
  const live = model.live.length;
  const none = own?.feed === 'connecting' ? 'connecting' : 'no connection';
  const badge = byId('live');
  badge.dataset['live'] = live === 0 ? 'none' : live < model.nodes.length ? 'some' : 'all';
  setText(
    badge,
    live === 0
      ? none
      : `live from ${live} of ${model.nodes.length} ${model.nodes.length === 1 ? 'node' : 'nodes'}`,
  );
  // Without a token there may be nothing to show; before the first answer that is not known.
  const waits = own?.feed === 'connecting' || own?.trouble.kind === 'token';
  byId('board').hidden = waits && live === 0;
  // It is the window's title as well, which must not stay at what was.
  showVerdict(model);
  if (byId('board').hidden) return;
  showNodes(model);
  showTiles(model);
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
  show();
  if (byId('board').hidden) return;
  if (document.visibilityState === 'hidden' && now - drawn < 10_000) return;
  drawn = now;
  plots.update();
}

byId('token-form').addEventListener('submit', takeToken);
addNode(location.origin);
setInterval(tick, 1000);
tick();
