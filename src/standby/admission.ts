/**
 * Whether a primary whose hello fits may come in now: what this side is busy with decides; and what it
 * then finds. The hello itself was compared before, field by field (wire/compare-hello.ts).
 */
import { toFtError } from '../common/errors';
import { type Hello, type Refuse, TEXT_CHARS_MAX, type Welcome } from '../wire/messages';
import type { CheckpointApplier } from './checkpoint-applier';
import { refusal } from './doorkeeper';

/** How this side stands, as far as its door goes. */
export interface Standing {
  readonly nodeId: string;
  /** "active" or "stopped" when no primary is taken at all. */
  readonly closed: 'active' | 'stopped' | undefined;
  /** The newest generation seen here. */
  readonly generation: number;
  /** The session that is open. */
  readonly session:
    | { readonly name: string; readonly primaryId: string; readonly whole: boolean }
    | undefined;
  /** The guest ended itself, and its end is not dealt with yet. */
  readonly guestEnded: boolean;
  /** A disk here failed lately. */
  readonly diskError: { readonly code: string; readonly message: string } | undefined;
}

/** Why `hello` is refused; undefined to welcome it. */
export function judge(here: Standing, hello: Hello, generation: number): Refuse | undefined {
  const { nodeId, session } = here;
  const ours = `${here.generation}`;
  if (here.closed !== undefined) {
    const message =
      `Node ${nodeId} is ${here.closed} in generation ${ours}. Start your ` +
      'node again, with --listen (or as ft-standby), if it shall protect this one.';
    return refusal('FT_ERR_ACTIVE', 'generation', ours, `${generation}`, message);
  }
  if (hello.channel === 'heartbeat') {
    const same = session?.name === hello.session && session.primaryId === hello.nodeId;
    if (same && !session.whole) return undefined;
    const message = 'There is no session here that waits for this heartbeat connection.';
    return refusal('FT_ERR_SESSION', 'session', session?.name ?? 'none', hello.session, message);
  }
  if (here.guestEnded) {
    const message = `Node ${nodeId} protected a guest that ended itself, and is not done with it.`;
    return refusal('FT_ERR_BUSY', 'session', 'ended', hello.session, message);
  }
  if (session !== undefined) {
    const message = `Node ${nodeId} is busy: it protects ${session.primaryId}.`;
    return refusal('FT_ERR_BUSY', 'session', session.primaryId, hello.nodeId, message);
  }
  if (here.diskError !== undefined) {
    const { code, message } = here.diskError;
    const what = `A disk of node ${nodeId} failed, so it protects nobody for now: ${message}`;
    return refusal(code, 'disk', 'failed', 'whole', what.slice(0, TEXT_CHARS_MAX));
  }
  if (generation < Math.max(1, here.generation)) {
    const message = `Generation ${generation} is over; this node has seen generation ${ours}.`;
    return refusal('FT_ERR_GENERATION_STALE', 'generation', ours, `${generation}`, message);
  }
  return undefined;
}

/** Begins the image of a primary that was let in: what the welcome says of it, or why it cannot be. */
export function prepareImage(
  applier: Pick<CheckpointApplier, 'begin'>,
  hello: Hello,
  nodeId: string,
): Pick<Welcome, 'diskMaps' | 'catchUp'> | Refuse {
  try {
    return applier.begin(hello.diskSyncIds, hello.catchUp);
  } catch (thrown) {
    const error = toFtError(thrown, 'FT_ERR_MACHINE');
    const what = `Node ${nodeId} cannot begin a sync: ${error.message}`;
    const words = what.slice(0, TEXT_CHARS_MAX);
    return refusal(error.code, 'machine', 'failed', 'whole', words);
  }
}
