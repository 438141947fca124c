/** Tells a SIGHUP that somebody sent from the one of a terminal that was closed. */
import { closeSync, openSync } from 'node:fs';
import { isatty } from 'node:tty';

const STANDARD_FDS = [0, 1, 2];

/** The terminal, if any, that the process was started at. */
export class Terminal {
  private readonly fds = STANDARD_FDS.filter((fd) => isatty(fd));

  /** It was there at the start and answers no more. */
  get isGone(): boolean {
    return this.fds.length > 0 && this.fds.every((fd) => !isatty(fd));
  }

  /**
   * Puts /dev/null in its place. Node sets the terminal back when it exits, and aborts when that
   * fails; a descriptor that has become another file it leaves alone.
   */
  letGo(): void {
    for (const fd of this.fds) {
      closeSync(fd);
      // The lowest number that is free: this one.
      openSync('/dev/null', 'r+');
    }
    this.fds.length = 0;
  }
}
