/**
 * The image that a standby keeps when its session ends: what a primary that comes back need not send
 * again.
 *
 *   none ── a session with a base epoch ends by silence or a lost claim ──▶ kept (session, epoch)
 *     ▲                                                                          │
 *     └── another sync begins · the first page is cleared for the catch-up ◀─────┘
 *
 * It is whole: every epoch up to `epoch` is in it and nothing of a later one. While it is kept nothing
 * is ever resumed from it; it is raw material. An image in which the audit found a page that
 * differs is not kept, healed or not, nor one of a session that ended over bytes that made no sense.
 */
import type { CatchUpFrom } from '../wire/messages';

export class KeptImage {
  private image: CatchUpFrom | undefined;

  /** The image is that of `session` after `epoch`. */
  keep(session: string, epoch: number): void {
    this.image = { session, epoch };
  }

  forget(): void {
    this.image = undefined;
  }

  /** Whether this is an image from which the primary that asks can go on. */
  fits(wanted: CatchUpFrom | undefined): boolean {
    const { image } = this;
    if (image === undefined || wanted === undefined) return false;
    return image.session === wanted.session && image.epoch >= wanted.epoch;
  }
}
