/**
 * The verdict over the pair: in words, with the next step, and only from what nodes say of
 * themselves. What nobody says is not made up.
 */
import { moment } from './format.js';
import { troubleOf } from './trouble.js';

/** @typedef {import('./model.js').NodeModel} NodeModel */
/** @typedef {import('./model.js').PairModel} PairModel */
/**
 * @typedef {object} Verdict
 * @property {'ok' | 'busy' | 'bad' | 'unknown'} level
 * @property {string} title
 * @property {string} text
 * @property {string} action What to do; empty: nothing.
 * @property {boolean} isSyncing
 */

const TAKING_OVER = new Set(['suspecting', 'promoting', 'active']);

/** @param {PairModel} model @returns {Verdict} */
export function verdictOf(model) {
  const { live, active } = model;
  const heir = live.find(
    (node) => node.text('role') === 'standby' && TAKING_OVER.has(node.text('state')),
  );
  if (heir !== undefined && (active === undefined || hasOvertaken(heir, active))) {
    return takeover(heir, model.other(heir));
  }
  // One that has lost the guest, or whose guest has ended, says so while nobody else runs it.
  const primary = active ?? live.find((node) => node.text('role') === 'primary');
  if (primary !== undefined) return ofPrimary(primary, model.other(primary));
  const copy = live[0];
  return copy === undefined ? ofNobody(model) : ofCopy(copy, model.other(copy));
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

/**
 * Who won the guest has a newer generation than the one whose output is held. A guest that is handed
 * over on purpose is its primary's to tell of until it has gone.
 * @param {NodeModel} heir
 * @param {NodeModel} active
 */
function hasOvertaken(heir, active) {
  const [newer, older] = [heir.number('generation') ?? 0, active.number('generation') ?? 0];
  return active.text('state') === 'suspended' && newer > older;
}

/**
 * @param {NodeModel} active
 * @param {NodeModel | undefined} other
 * @returns {Verdict}
 */
function ofPrimary(active, other) {
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
          active.sinceMs > 0 ? `, since ${moment(active.sinceMs)}.` : '.',
          ' If it fails now, the guest is lost.',
          cause,
        ].join(''),
        action:
          other === undefined || other.isLive || other.isMute
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
  const fate = other?.isLive ? 'has lost the guest' : 'is lost';
  const words = {
    suspecting: `${heir.title} hears nothing from it and asks the witness who goes on.`,
    promoting: `${heir.title} has won the guest and is about to run it.`,
    active: `${heir.title} has won the guest and resumes it.`,
  };
  const state = /** @type {keyof typeof words} */ (heir.text('state'));
  return {
    ...{ level: 'busy', title: 'Failover under way', isSyncing: false },
    text: `${lost} ${fate}. ${words[state]}`,
    action: 'If this lasts for longer than seconds, look after the witness.',
  };
}

/**
 * @param {NodeModel} copy
 * @param {NodeModel | undefined} other
 * @returns {Verdict}
 */
function ofCopy(copy, other) {
  const state = copy.text('state');
  const there = other === undefined ? 'the node that runs the guest' : other.title;
  const hidden = other?.isMute
    ? `${there} does not let this page read.`
    : `This page cannot reach ${there}.`;
  if (state === 'ready') {
    return {
      ...{ level: 'ok', title: 'Protected', isSyncing: false },
      text: `${copy.title} holds everything that clients have seen. ${hidden}`,
      action: other === undefined ? 'Name it with --http-peer to see both sides here.' : '',
    };
  }
  if (state === 'syncing') {
    return {
      ...{ level: 'busy', title: 'Not protected yet', isSyncing: false },
      text: `${copy.title} is receiving a copy of the guest. ${hidden}`,
      action: '',
    };
  }
  return {
    ...{ level: 'bad', title: 'The guest runs nowhere that this page can see', isSyncing: false },
    text: `${copy.title} waits for a primary (“${state}”).`,
    action: other?.isMute
      ? `See on the card of ${there} what it asks for.`
      : `Start the node on ${there}, or look whether this page’s way there is blocked.`,
  };
}

/** @param {PairModel} model @returns {Verdict} */
function ofNobody(model) {
  const { nodes } = model;
  const known = nodes.some((node) => node.heardMs > 0);
  const mute = nodes.find((node) => node.isMute);
  const common = { level: /** @type {const} */ ('unknown'), isSyncing: false };
  if (mute !== undefined) {
    const { what, advice } = troubleOf(mute, model);
    const title = known ? 'Connection lost' : 'Not connected yet';
    return { ...common, title, text: `${mute.title} ${what}.`, action: advice };
  }
  const look = 'Look whether the nodes run, and whether this browser reaches their hosts.';
  if (known) {
    const text = 'No node answers this page, so it cannot say how the pair is. It keeps asking.';
    return { ...common, title: 'Connection lost', text, action: look };
  }
  const failed = nodes.some((node) => node.feed === 'lost');
  const text = 'No node has answered yet.';
  return { ...common, title: 'Connecting', text, action: failed ? look : '' };
}
