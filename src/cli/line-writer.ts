/**
 * Writes lines to a file descriptor without ever blocking the event loop: on Linux, process.stdout
 * on a pipe is written synchronously, and a reader that stalls would stall the heartbeats with it.
 * What cannot be written is dropped beyond a bound; a reader that is gone is nobody's loss.
 *
 *   put ─▶ waiting ─┬─ pipe, terminal: at once; what does not fit, again in RETRY_MS
 *              │    └─ file, socket: by a thread of Node's pool
 *              └─ flush, before the process ends: here and now, for FLUSH_MS at most
 *
 * A pipe or terminal is opened anew so as not to block, which changes nothing for others who have it
 * too. A write that blocks would hold a thread of the pool, which the witness needs, and it would
 * hold the end of the process, since Node waits for its threads. A file takes everything, and a
 * socket is the journal's, which reads.
 */
import { constants, fstatSync, openSync, write, writeSync } from 'node:fs';

const WAITING_CHARS_MAX = 1024 * 1024;
const RETRY_MS = 10;
/** How long the last words may take to reach a reader that is slow. */
const FLUSH_MS = 200;

export class LineWriter {
  /** Lines to come, but for those that are in `bytes`. */
  private waiting = '';
  /** What is being written, from `at` on. */
  private bytes = Buffer.alloc(0);
  private at = 0;
  private busy = false;
  private broken = false;
  /** Of a pipe or terminal: never blocks. */
  private readonly own: number | undefined;

  constructor(private readonly fd: number) {
    this.own = openWithoutBlocking(fd);
  }

  put(line: string): void {
    if (this.broken || this.waiting.length > WAITING_CHARS_MAX) return;
    this.waiting += line;
    if (!this.busy) this.pump();
  }

  /**
   * Writes what waits, synchronously: for the moment before the process ends. What a thread of the
   * pool has begun it also finishes: Node ends after its threads.
   */
  flush(): void {
    const { own, fd } = this;
    const endMs = performance.now() + FLUSH_MS;
    // What the pool has is not ours to repeat.
    if (own === undefined && this.busy) this.at = this.bytes.length;
    while (!this.broken && this.more()) {
      if (this.writeNow(own ?? fd) === 0 && performance.now() > endMs) break;
    }
    this.broken = true;
  }

  private pump(): void {
    if (this.broken || !this.more()) return;
    if (this.own === undefined) this.writeByPool();
    else this.writeOwn(this.own);
  }

  /** Whether something is left to be written; it is in `bytes` then. */
  private more(): boolean {
    if (this.at < this.bytes.length) return true;
    this.bytes = Buffer.from(this.waiting);
    this.waiting = '';
    this.at = 0;
    return this.bytes.length > 0;
  }

  private writeOwn(own: number): void {
    while (!this.broken && this.more()) {
      if (this.writeNow(own) > 0) continue;
      this.busy = true;
      setTimeout(() => {
        this.busy = false;
        this.pump();
      }, RETRY_MS);
      return;
    }
  }

  /** Bytes written; 0 when there is no room, or nobody reads any more (`broken`). */
  private writeNow(fd: number): number {
    try {
      const wrote = writeSync(fd, this.bytes, this.at);
      this.at += wrote;
      return wrote;
    } catch (thrown) {
      if ((thrown as NodeJS.ErrnoException).code !== 'EAGAIN') this.broken = true;
      return 0;
    }
  }

  private writeByPool(): void {
    this.busy = true;
    const { bytes, at } = this;
    write(this.fd, bytes, at, bytes.length - at, null, (error, wrote) => {
      if (this.bytes !== bytes) return;
      if (error?.code === 'EAGAIN') {
        setTimeout(() => this.writeByPool(), RETRY_MS);
        return;
      }
      this.busy = false;
      this.broken ||= error !== null;
      this.at += wrote ?? 0;
      if (!this.broken) this.pump();
    });
  }
}

/** A descriptor of our own for the same pipe or terminal; undefined for anything else. */
function openWithoutBlocking(fd: number): number | undefined {
  const { O_WRONLY, O_NONBLOCK, O_NOCTTY } = constants;
  try {
    const what = fstatSync(fd);
    if (!what.isFIFO() && !what.isCharacterDevice()) return undefined;
    return openSync(`/proc/self/fd/${fd}`, O_WRONLY | O_NONBLOCK | O_NOCTTY);
  } catch {
    // Somebody else's terminal, or a pipe that nobody reads any more.
    return undefined;
  }
}
