/**
 * What the end of a link means for the side that runs the guest, or ran it until it was handed over.
 *
 *   tookOver, and we had handed over ────────────────────────────▶ handed over: this side is fenced
 *   gaveUp, and we had handed over ──────────────────────────────▶ claim from the generation given up
 *   bye ─────────────────────────────────────────────────────────▶ alone: nobody else can claim
 *   lost, or a word that has no place here ── output held? yes ──▶ claim from ours
 *                                                          no ───▶ alone: nobody else can be promoted
 *
 * Why a claim from the generation that was given up, g + 1, leaves one active side at most. Each
 * generation has one owner for ever, and that of g + 1 says, over the session in which our guest was
 * handed over, that it owns it, has run no vCPU in it and never will: its claim is over, its role has
 * ended, and a process that comes after it needs a generation of its own. A standby of g + 1 cannot
 * exist, since nobody replicated in it. So whoever runs the guest next must win g + 2, and that the
 * witness gives to one: to us, or to a node that was booted there by force meanwhile, and then we
 * are fenced. Until it has answered, nothing leaves here. Were the word a lie, its teller, alone,
 * would run a guest that the witness knows to be superseded: as far as any liar comes that owns g + 1.
 *
 * Why nothing is lost by it: the epoch that was handed over was the last, and all its output had
 * left; what the standby held at most, and never ran, is what stands still here.
 */
import type { FtError } from '../common/errors';
import type { Logger } from '../common/logger';
import type { TookOver } from '../wire/messages';
import type { LinkDown } from './link-types';
import type { PrimaryStats } from './primary-stats';

export interface LinkStanding {
  /** In which the guest ran here. */
  readonly generation: number;
  /** The standby may have come to hold an image that it can run. */
  readonly holding: boolean;
  /** The right to run the guest was given up, in this session. */
  readonly handedOver: boolean;
}

export type LinkEnd =
  | { readonly kind: 'handed-over'; readonly tookOver: TookOver }
  | { readonly kind: 'alone'; readonly why: string; readonly lost?: FtError }
  | { readonly kind: 'given-up'; readonly from: number; readonly error: FtError }
  | { readonly kind: 'claim'; readonly from: number; readonly error: FtError };

/** Pure. */
export function endOfLink(down: LinkDown, standing: LinkStanding): LinkEnd {
  const { generation, holding, handedOver } = standing;
  if (down.kind === 'bye') return { kind: 'alone', why: `the standby left: ${down.reason}` };
  const { error } = down;
  if (down.kind === 'took-over' && handedOver) {
    return { kind: 'handed-over', tookOver: down.tookOver };
  }
  // No generation but the next one can have been won by a standby of ours.
  if (down.kind === 'gave-up' && handedOver && down.generation === generation + 1) {
    return { kind: 'given-up', from: down.generation, error };
  }
  if (holding) return { kind: 'claim', from: generation, error };
  return { kind: 'alone', why: 'the standby was lost before it could take over', lost: error };
}

/** Counts a standby that was lost, and says for the operator what became of it; `alone` is what the
 * guest does without one. */
export function reportEnd(
  down: LinkDown,
  end: LinkEnd,
  logger: Logger,
  stats: PrimaryStats,
  alone: string,
): void {
  // A standby that was ended says so in words of its own; one that had to give up, with a code.
  if (down.kind === 'bye' && down.reason.startsWith('FT_ERR_')) {
    logger.error(`${alone} The standby gave up: ${down.reason}`);
  }
  if (end.kind === 'given-up') {
    logger.error(end.error.message, { ...end.error.facts, code: end.error.code });
  }
  const lost = end.kind === 'claim' ? end.error : end.kind === 'alone' ? end.lost : undefined;
  if (lost === undefined) return;
  stats.linksLost += 1;
  const facts = { event: 'link', code: lost.code, cause: lost.message };
  logger.warn('the standby is lost', facts);
}
