/**
 * Writes what the model knows into the page: verdict, nodes, tiles, events. Everything is set as
 * text; nothing that a node says is ever read as markup.
 */
import {
  bytes,
  count,
  counted,
  duration,
  moment,
  percent,
  preciseClock,
  rate,
  utc,
} from './format.js';
import { troubleOf } from './trouble.js';
import { verdictOf } from './verdict.js';

/** @typedef {import('./model.js').PairModel} PairModel */
/** @typedef {import('./model.js').NodeModel} NodeModel */
/** @typedef {import('./model.js').SeenEvent} SeenEvent */

const EVENTS_SHOWN = 200;

/** State → what it means, in a few words. */
const STATES = new Map([
  ['primary starting', 'is about to boot the guest'],
  ['primary solo', 'runs the guest alone'],
  ['primary syncing', 'runs the guest and sends a copy'],
  ['primary protected', 'runs the guest'],
  ['primary switching', 'hands the guest over'],
  ['primary suspended', 'lost its standby, holds all output'],
  ['primary fenced', 'lost the guest to another node'],
  ['primary ended', 'its guest ended itself'],
  ['primary stopped', 'ends'],
  ['standby joining', 'waits for a primary'],
  ['standby syncing', 'receives a copy of the guest'],
  ['standby ready', 'holds a copy, ready to take over'],
  ['standby suspecting', 'lost its primary, asks the witness'],
  ['standby promoting', 'won the guest, is about to run it'],
  ['standby active', 'resumes the guest'],
  ['standby ended', 'the guest ended itself'],
  ['standby fenced', 'another node has the guest'],
  ['standby stopped', 'ends'],
]);

/** @param {string} id */
export function byId(id) {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`There is no #${id}.`);
  return found;
}

/** Sets a text where it changed: a live region is read aloud for changes alone. */
/** @param {Element} element @param {string} text */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** @param {PairModel} model */
export function showVerdict(model) {
  const verdict = verdictOf(model);
  byId('verdict').dataset['level'] = verdict.level;
  setText(byId('verdict-title'), verdict.title);
  setText(byId('verdict-text'), verdict.text);
  setText(byId('verdict-action'), verdict.action);
  const pair = model.nodes.find((node) => node.pair !== '')?.pair ?? '…';
  setText(byId('pair'), pair);
  const title = `${verdict.title} · ${pair} · Romulus`;
  if (document.title !== title) document.title = title;
  showSync(model, verdict.isSyncing);
}

/** @param {PairModel} model @param {boolean} isSyncing */
function showSync(model, isSyncing) {
  const { active } = model;
  byId('sync').hidden = !isSyncing;
  if (active === undefined || !isSyncing) return;
  const ratio = active.number('syncProgress') ?? 0;
  /** @type {HTMLProgressElement} */ (byId('sync-bar')).value = ratio;
  const [bytesLeft, msLeft] = [active.number('syncBytesLeft'), active.number('syncLeftMs')];
  const size = bytesLeft === undefined ? '' : `, ${bytes(bytesLeft)} left`;
  const time = msLeft === undefined ? '' : `, about ${duration(msLeft * 1000)}`;
  setText(byId('sync-text'), `${percent(ratio)} sent${size}${time}`);
}

/** @param {PairModel} model */
export function showNodes(model) {
  const parent = byId('nodes');
  const wanted = model.nodes.map((_, at) => `node-${at}`);
  if ([...parent.querySelectorAll('.node')].map(({ id }) => id).join() !== wanted.join()) {
    parent.replaceChildren(...model.nodes.flatMap((node, at) => makeCard(node, at)));
  }
  model.nodes.forEach((node, at) => {
    showCard(node, byId(`node-${at}`), model);
  });
  showLink(model);
}

/** @param {NodeModel} node @param {number} at @returns {HTMLElement[]} */
function makeCard(node, at) {
  const card = make('article', 'node');
  card.id = `node-${at}`;
  card.setAttribute('aria-labelledby', `node-${at}-name`);
  const name = make('h3', 'node-name');
  name.id = `node-${at}-name`;
  const head = make('div', 'node-head');
  head.append(name, make('span', 'badge'));
  const facts = make('dl', 'node-facts');
  for (const label of ['Generation', 'Life', 'Epoch']) {
    const pair = make('div');
    pair.append(make('dt', '', label), make('dd'));
    facts.append(pair);
  }
  const where =
    at === 0 ? make('p', 'node-where', 'This page comes from here.') : make('p', 'node-where');
  if (at > 0) {
    const link = /** @type {HTMLAnchorElement} */ (make('a', '', node.origin));
    link.href = `${node.origin}/`;
    link.rel = 'noreferrer';
    where.append(link);
  }
  card.append(head, make('p', 'node-state'), make('p', 'node-advice'), facts, where);
  if (at !== 1) return [card];
  const between = make('div', 'between');
  between.id = 'between';
  return [between, card];
}

/** @param {NodeModel} node @param {HTMLElement} card @param {PairModel} model */
function showCard(node, card, model) {
  const role = node.text('role');
  const known = node.heardMs > 0;
  card.dataset['feed'] = node.feed;
  card.dataset['role'] = known ? role : '';
  setText(part(card, '.node-name'), node.title);
  const badge = node.isLive ? role : node.feed === 'connecting' ? 'connecting' : 'no connection';
  setText(part(card, '.badge'), badge);
  const { what, advice } = describe(node, model);
  setText(part(card, '.node-state'), what);
  setText(part(card, '.node-advice'), advice);
  const epoch = node.number(role === 'primary' ? 'epochCommitted' : 'epochHeld');
  const facts = [count(node.number('generation')), count(node.number('life')), count(epoch)];
  card.querySelectorAll('dd').forEach((cell, at) => {
    setText(cell, facts[at] ?? '');
  });
}

/** @param {NodeModel} node @param {PairModel} model */
function describe(node, model) {
  const [role, state] = [node.text('role'), node.text('state')];
  const words = STATES.get(`${role} ${state}`) ?? state;
  if (node.isLive) return { what: `${state}: ${words}`, advice: '' };
  if (node.feed === 'connecting') return { what: 'Is being asked.', advice: '' };
  const { what, advice } = troubleOf(node, model);
  const heard = `; silent since ${moment(node.heardMs)}, when it was “${state}”`;
  const sentence = `${what.charAt(0).toUpperCase()}${what.slice(1)}`;
  return { what: `${sentence}${node.heardMs > 0 ? heard : ''}.`, advice };
}

/** What goes from card to card. @param {PairModel} model */
function showLink(model) {
  const between = document.getElementById('between');
  if (between === null) return;
  const { active } = model;
  const state = active?.text('state') ?? '';
  const flows = active !== undefined && (state === 'protected' || state === 'syncing');
  between.dataset['flow'] = flows ? (active === model.nodes[0] ? 'right' : 'left') : 'none';
  const words = state === 'syncing' ? 'copies to' : 'replicates to';
  const text = flows ? words : 'nothing is replicated';
  setText(between, text);
}

/** Tiles: label, what it is worth, and a note on it. */
/** @type {readonly (readonly [string, string, (node: NodeModel) => [string, string]])[]} */
const TILES = [
  [
    'Epochs',
    'epochs',
    (node) => [
      counted('/s')(node.number('epochsPerSecond')),
      `${count(node.number('inFlight'))} in flight`,
    ],
  ],
  [
    'Pause',
    'pause',
    (node) => {
      const [median, high] = [node.number('pauseUsP50'), node.number('pauseUsP99')];
      if (high === undefined || high === 0) return ['–', 'no epoch was cut'];
      return [duration(median), `99 % below ${duration(high)}`];
    },
  ],
  [
    'Output delay',
    'output',
    (node) => {
      const [median, high] = [node.number('outputDelayUsP50'), node.number('outputDelayUsP99')];
      if (high === undefined || high === 0) return ['–', 'there was no output'];
      return [duration(median), `99 % below ${duration(high)}`];
    },
  ],
  [
    'Outbox',
    'outbox',
    (node) => [
      counted('frames', 'frame')(node.number('outboxFrames')),
      `${bytes(node.number('outboxBytes'))} held back`,
    ],
  ],
  [
    'Wire',
    'wire',
    (node) => {
      const [wire, raw] = [node.number('wireBytesPerSecond'), node.number('rawBytesPerSecond')];
      const share = wire === undefined || raw === undefined || raw === 0 ? undefined : wire / raw;
      const note =
        share === undefined ? 'no page was written' : `${percent(share)} of the pages’ size`;
      return [rate(wire), note];
    },
  ],
  [
    'Audit mismatches',
    'audit',
    (node) => {
      const wrong = node.number('auditMismatches');
      return [count(wrong), wrong === 0 ? 'as it must be' : 'a defect: see the events'];
    },
  ],
];

/** @param {PairModel} model */
export function showTiles(model) {
  const parent = byId('tiles');
  if (parent.childElementCount === 0) {
    for (const [label, id] of TILES) {
      const tile = make('div', 'tile');
      tile.id = `tile-${id}`;
      tile.append(make('dt', '', label), make('dd', 'tile-value'), make('dd', 'tile-note'));
      parent.append(tile);
    }
  }
  const { active } = model;
  for (const [, id, read] of TILES) {
    const tile = byId(`tile-${id}`);
    const [value, note] = active === undefined ? ['–', 'no node runs the guest'] : read(active);
    setText(part(tile, '.tile-value'), value);
    setText(part(tile, '.tile-note'), note);
  }
  byId('tile-audit').classList.toggle('is-bad', (active?.number('auditMismatches') ?? 0) > 0);
}

/** @param {readonly SeenEvent[]} fresh Any order. @param {boolean} quietly Nobody is told aloud. */
export function showEvents(fresh, quietly) {
  const list = byId('events');
  if (quietly) list.setAttribute('aria-live', 'off');
  for (const event of fresh) {
    const item = makeEvent(event);
    const next = [...list.children].find((other) => Number(dataOf(other)['ms']) <= event.ms);
    list.insertBefore(item, next ?? null);
  }
  while (list.childElementCount > EVENTS_SHOWN) list.lastElementChild?.remove();
  byId('no-events').hidden = list.childElementCount > 0;
  if (quietly) setTimeout(() => list.setAttribute('aria-live', 'polite'), 500);
}

/** @param {Element} element */
function dataOf(element) {
  return /** @type {HTMLElement} */ (element).dataset;
}

const LEVELS = { warn: 'warning', error: 'error' };

/** @param {SeenEvent} event */
function makeEvent(event) {
  const item = make('li', 'event');
  item.dataset['level'] = event.level;
  item.dataset['kind'] = event.kind;
  item.dataset['ms'] = `${event.ms}`;
  const time = /** @type {HTMLTimeElement} */ (make('time', '', preciseClock(event.ms)));
  time.dateTime = new Date(event.ms).toISOString();
  time.title = utc(event.ms);
  const why = event.facts['why'];
  const text = make('p', 'event-text', why === undefined ? event.text : `${event.text}: ${why}`);
  const more = facts(event);
  if (more !== '') text.append(' ', make('span', 'event-facts', more));
  item.append(
    time,
    make('span', 'event-node', event.node),
    make('span', 'event-level', event.level === 'info' ? event.kind : LEVELS[event.level]),
    text,
  );
  return item;
}

/** Facts that the line, or the page, has said already. */
const SAID = new Set(['why', 'role', 'from', 'to', 'epoch', 'generation', 'life', 'pair', 'node']);

/** @param {SeenEvent} event */
function facts(event) {
  const known = Object.entries(event.facts)
    .filter(([name]) => !SAID.has(name))
    .map(([name, value]) => `${name}=${value}`);
  const where = event.generation > 0 ? [`generation ${event.generation}`] : [];
  if (event.epoch > 0) where.push(`epoch ${count(event.epoch)}`);
  return [...where, ...known].join(' · ');
}

/** @param {Element} parent @param {string} selector */
function part(parent, selector) {
  const found = parent.querySelector(selector);
  if (found === null) throw new Error(`There is no ${selector}.`);
  return found;
}

/** @param {string} tag @param {string} [className] @param {string} [text] */
function make(tag, className = '', text = '') {
  const made = document.createElement(tag);
  if (className !== '') made.className = className;
  if (text !== '') made.textContent = text;
  return made;
}
