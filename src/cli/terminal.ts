/**
 * Tells a SIGHUP that somebody sent from the one of a terminal that was closed.
 *
 *   at a terminal ── two looks, one after the other, find it gone ──▶ without one
 *        │                                                               └ SIGHUP: somebody sent it
 *        └ SIGHUP: is it gone? then it was closed just now; else somebody sent it
 *
 * A process that was put into the background may outlive its terminal without a word. The kernel's
 * SIGHUP, or the shell's, follows a closed terminal within a moment, so what comes after two looks has
 * another sender.
 */
import { closeSync, openSync } from 'node:fs';
import { isatty } from 'node:tty';

const STANDARD_FDS = [0, 1, 2];
/** How often it is looked whether the terminal is still there. */
const LOOK_MS = 10_000;

/** The terminal, if any, that the process was started at. */
export class Terminal {
  private readonly fds: number[];
  private readonly timer: NodeJS.Timeout | undefined;
  private missed = false;
  private isPast = false;

  /** `answers` says whether a descriptor is that of a terminal which is there. */
  constructor(private readonly answers: (fd: number) => boolean = isatty) {
    this.fds = STANDARD_FDS.filter((fd) => answers(fd));
    if (this.fds.length > 0) this.timer = setInterval(() => this.look(), LOOK_MS).unref();
  }

  /** It was there until a moment ago, and answers no more. */
  get isGone(): boolean {
    return !this.isPast && this.noneAnswers;
  }

  /**
   * At the end: puts /dev/null in the place of a terminal that answers no more. Node sets the terminal
   * back when it exits, and aborts when that fails; a descriptor that has become another file it
   * leaves alone.
   */
  letGo(): void {
    clearInterval(this.timer);
    if (!this.noneAnswers) return;
    for (const fd of this.fds) {
      closeSync(fd);
      // The lowest number that is free: this one.
      openSync('/dev/null', 'r+');
    }
    this.fds.length = 0;
  }

  private get noneAnswers(): boolean {
    return this.fds.length > 0 && this.fds.every((fd) => !this.answers(fd));
  }

  private look(): void {
    const gone = this.noneAnswers;
    this.isPast = gone && this.missed;
    this.missed = gone;
    if (this.isPast) clearInterval(this.timer);
  }
}
