/**
 * The door of a node that is the primary: whoever dials it is told why it is not let in. A peer that
 * was promoted while this node stood still is one of them, and so is a third node whose list of
 * candidates names this one.
 *
 *   this primary            the caller's generation     answer
 *   starting, fenced        any                         FT_ERR_BUSY: ask again soon
 *   any other               newer than ours             FT_ERR_BUSY: this node is about to learn of it
 *   any other               ours or older               FT_ERR_ACTIVE: the guest runs here
 *
 * A caller's word for a newer generation is no proof: only the witness ends a reign, so nothing is
 * done about it here but to ask for patience.
 */
import { assert } from '../common/assert';
import type { PrimaryState } from '../primary/primary-types';
import { Doorkeeper, type DoorkeeperOptions, refusal } from '../standby/doorkeeper';
import type { Connection } from '../transport/connection';
import type { Hello, Refuse } from '../wire/messages';

/** What the door asks of the primary behind it. */
export interface BehindTheDoor {
  readonly state: PrimaryState;
  readonly generation: number;
}

export class ClosedDoor {
  private readonly doorkeeper: Doorkeeper;

  constructor(
    private readonly options: DoorkeeperOptions,
    private readonly primary: BehindTheDoor,
    onRefused: () => void = () => undefined,
  ) {
    this.doorkeeper = new Doorkeeper(options, {
      judge: (hello, generation) => this.judge(hello, generation),
      prepare: (hello) => this.judge(hello, 0),
      admitted: () => assert(false, 'a closed door lets nobody in'),
      onRefused,
    });
  }

  /** A connection was accepted by the listener. */
  accept(connection: Connection): void {
    this.doorkeeper.accept(connection);
  }

  private judge(hello: Hello, generation: number): Refuse {
    const { nodeId } = this.options;
    const { state, generation: ours } = this.primary;
    const refuse = (code: string, message: string): Refuse =>
      refusal(code, 'generation', `${ours}`, `${generation}`, message);
    if (state === 'starting' || state === 'fenced') {
      const doing = state === 'starting' ? 'is starting' : 'is letting go of a guest it lost';
      return refuse('FT_ERR_BUSY', `Node ${nodeId} ${doing}; it can be asked again in a moment.`);
    }
    if (generation > ours) {
      const message =
        `Node ${nodeId} runs the guest in generation ${ours} and has not heard yet of generation ` +
        `${generation}; it joins as standby once the witness has told it so.`;
      return refuse('FT_ERR_BUSY', message);
    }
    const message =
      `Node ${nodeId} runs the guest itself (${state}, generation ${ours}), so it cannot be the ` +
      `standby of ${hello.nodeId}. Name another node with --standby, or end one of the two.`;
    return refuse('FT_ERR_ACTIVE', message);
  }
}
