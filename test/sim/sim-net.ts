/**
 * The network between the simulated hosts: every link that was dialled, and the faults of the way
 * between two slots. A link carries the frames of one connection in order; each link draws its own
 * delays, so what is sent on two connections arrives in any order.
 *
 *   blocked "a>b"   nothing from slot a reaches slot b, and neither is told; it waits, as with TCP
 *   void            a link over which nothing ever passes again: its host lost its power, or a box
 *                   in between forgot this one connection; after GIVE_UP_MS it breaks
 *   reset           one connection breaks, and both ends are told
 */
import { FtError } from '../../src/common/errors';
import type { Dial } from '../../src/primary/link-types';
import { type MemoryConnection, MemoryLink } from '../../src/transport/memory';
import type { ManualClock } from '../support/manual-clock';
import { GatedConnection } from './host-gate';
import type { SimHost } from './sim-host';

/** As a real kernel: nobody may wait for that. */
const GIVE_UP_MS = 15 * 60 * 1000;

/** How a host's connections end with it. */
export type Death = 'fin' | 'reset' | 'silent';

interface SimLink {
  readonly link: MemoryLink;
  readonly from: SimHost;
  readonly to: SimHost;
  isVoid: boolean;
}

export class SimNet {
  /** New links get this delay, and this much at random on top for each frame. */
  delayMs = 0.2;
  jitterMs = 0;
  drawPart: () => number = () => 0;
  private readonly blocked = new Set<string>();
  private links: SimLink[] = [];

  constructor(
    private readonly clock: ManualClock,
    private readonly hostIn: (slot: string) => SimHost | undefined,
    /** A sum over bodies; nothing here flips bits, so a cheap one does. */
    private readonly checksum: ((bytes: Uint8Array) => number) | undefined,
  ) {}

  /** Opens connections of `from` to whoever listens in slot `slot`. */
  dialler(from: SimHost, slot: string): Dial {
    return (onOpen, onFail) => {
      if (!from.gate.effect()) return;
      this.clock.after(this.delayMs, () => {
        const to = this.hostIn(slot);
        if (to === undefined || !to.listens || this.blocks(from, to) || this.blocks(to, from)) {
          const refused = new FtError('FT_ERR_DIAL_REFUSED', 'Nobody listens.');
          from.gate.pass(() => onFail(refused));
          return;
        }
        const link = new MemoryLink(this.clock, {
          delayMs: this.delayMs,
          jitterMs: () => this.jitterMs * this.drawPart(),
          nameA: from.name,
          nameB: to.name,
          ...(this.checksum === undefined ? {} : { checksum: this.checksum }),
        });
        this.links.push({ link, from, to, isVoid: false });
        const heardBy = (host: SimHost, other: SimHost) => () => {
          host.hearing = other;
        };
        from.gate.pass(() => onOpen(new GatedConnection(link.a, from.gate, heardBy(from, to))));
        to.gate.pass(() => to.node.accept(new GatedConnection(link.b, to.gate, heardBy(to, from))));
      });
    };
  }

  /** Nothing passes that way from now on: "a>b", or "both": between no two slots. */
  block(way: string): void {
    this.blocked.add(way);
    for (const one of this.links) {
      if (this.blocks(one.from, one.to)) one.link.cut('fromA');
      if (this.blocks(one.to, one.from)) one.link.cut('fromB');
    }
  }

  /** What was held arrives, in order. */
  unblock(): void {
    this.blocked.clear();
    for (const one of this.links) if (!one.isVoid) one.link.heal();
  }

  /** In the order in which they were made: of a session, the heartbeat's last. */
  linksOf(host: SimHost): MemoryLink[] {
    return this.of(host).map((one) => one.link);
  }

  /** A box in between forgets a connection. */
  forget(link: MemoryLink): void {
    for (const one of this.links) if (one.link === link) one.isVoid = true;
    link.cut();
    // The kernels repeat what is not acknowledged, and then give up.
    this.clock.after(GIVE_UP_MS, () => link.reset('ETIMEDOUT'));
  }

  /** Frames sent from now on need so much longer. */
  slow(delayMs: number): void {
    for (const one of this.links) one.link.setDelayMs(delayMs);
  }

  /** SIGKILL ("fin", and "reset" where something was left unread), or the end of its power. */
  die(host: SimHost, how: Death): void {
    for (const one of this.of(host)) {
      const end: MemoryConnection = one.from === host ? one.link.a : one.link.b;
      if (how === 'fin') end.close();
      else if (how === 'reset') end.close(new FtError('FT_ERR_TEST', 'The process was killed.'));
      else this.forget(one.link);
    }
  }

  /** All connections of a host break at once, and everybody is told. */
  breakAll(host: SimHost, cause: string): void {
    for (const one of this.of(host)) one.link.reset(cause);
  }

  private of(host: SimHost): SimLink[] {
    // Those whose hosts are both gone matter to nobody.
    this.links = this.links.filter((one) => one.from.alive || one.to.alive || one.from === host);
    return this.links.filter((one) => one.from === host || one.to === host);
  }

  private blocks(from: SimHost, to: SimHost): boolean {
    return this.blocked.has('both') || this.blocked.has(`${from.slot}>${to.slot}`);
  }
}
