/**
 * The end of a node that somebody asked for with a signal: at once, or when it is clear whether the
 * guest hangs on this side.
 *
 *   asked ──┬── standby, its claim under way ──▶ waits ── active: the guest runs here, and stays
 *           │                                      └───── joining, ready ─────────────────▶ ends
 *           ├── primary, handing over ─────────▶ waits ── fenced, solo, protected ────────▶ leaves
 *           │                                      └───── suspended, before it claims ────▶ leaves
 *           └── any other state ──────────────────────────────────────────────────────────▶ ends
 *
 * Who asks while the guest is being handed over wants it to live elsewhere, so the node leaves then
 * (PrimaryRole.leave): a standby that holds the guest takes it over, also when the handover came to
 * nothing. Where the link was lost in its midst this side makes no claim: it could only win a guest
 * that it is about to end.
 */
import type { Clock } from '../common/clock';
import type { RunningNode, StateEvent } from './running-node';

export interface AskedEndHandlers {
  /** It waits, and why, in words. */
  onWaits(signal: string, why: string): void;
  /** The guest runs here now; what was asked for is forgotten. */
  onStays(signal: string): void;
  /** The node is to end; `leave`: without a word to a standby that may hold the guest. */
  onEnd(signal: string, leave: boolean): void;
}

export class AskedEnd {
  private signal: string | undefined;

  constructor(
    private readonly clock: Pick<Clock, 'soon'>,
    private readonly node: Pick<RunningNode, 'claiming' | 'state'>,
    private readonly handlers: AskedEndHandlers,
  ) {}

  /** True while what was asked for waits. */
  get waits(): boolean {
    return this.signal !== undefined;
  }

  ask(signal: string, leave = false): void {
    const { node } = this;
    if (node.claiming) this.wait(signal, 'taking over; waiting for the witness');
    else if (node.state.state === 'switching') this.wait(signal, 'handing the guest over');
    else this.handlers.onEnd(signal, leave);
  }

  /** To be called with each state that the node enters. */
  stateChanged({ role, from, to }: Pick<StateEvent, 'role' | 'from' | 'to'>): void {
    const { signal } = this;
    if (signal === undefined) return;
    if (role === 'primary') {
      if (from !== 'switching') return;
      this.signal = undefined;
      if (to === 'suspended') this.handlers.onEnd(signal, true);
      else this.askSoon(signal, true);
    } else if (to === 'active') {
      this.signal = undefined;
      this.handlers.onStays(signal);
    } else if (to === 'joining' || to === 'ready') {
      this.signal = undefined;
      this.askSoon(signal, false);
    }
  }

  private wait(signal: string, why: string): void {
    this.signal = signal;
    this.handlers.onWaits(signal, why);
  }

  /** Later: whoever waits for what has just become known comes first, and may end this node. */
  private askSoon(signal: string, leave: boolean): void {
    this.clock.soon(() => this.ask(signal, leave));
  }
}
