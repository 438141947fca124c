/**
 * Streams of lines over the control socket, one JSON object each: events of the journal, and status
 * lines as time goes by. Nothing is queued for a reader that is slow: what it has not taken stays in
 * the journal, whose ring is bounded, or is not made at all.
 *
 *   pump: write ── the reader keeps up ──▶ next ── nothing left ──▶ wait for an event, or the end
 *           └── its buffer is full ──▶ wait for drain ── 60 s in vain ──▶ cut off
 */
import type { ServerResponse } from 'node:http';
import type { SampleSource } from './control-routes';
import type { Journal } from './journal';

const STALLED_MS_MAX = 60_000;

/** One reader of lines. */
class LineStream {
  /** The reader takes more. */
  onRoom: () => void = () => undefined;
  /** The reader is gone, or this side ended. Once. */
  onEnd: () => void = () => undefined;
  private stalled: NodeJS.Timeout | undefined;
  private ended = false;

  constructor(private readonly response: ServerResponse) {
    response.writeHead(200, {
      Connection: 'close',
      'Content-Type': 'application/x-ndjson; charset=utf-8',
      'Cache-Control': 'no-store',
    });
    // Who follows shall know at once that it is heard.
    response.flushHeaders();
    response.on('drain', () => {
      clearTimeout(this.stalled);
      this.stalled = undefined;
      this.onRoom();
    });
    response.on('close', () => this.finish());
  }

  /** False while the reader has not taken what was written before, or is gone. */
  get hasRoom(): boolean {
    return !this.ended && this.stalled === undefined;
  }

  write(value: object): void {
    if (!this.hasRoom) return;
    if (this.response.write(`${JSON.stringify(value)}\n`)) return;
    this.stalled = setTimeout(() => this.response.destroy(), STALLED_MS_MAX).unref();
  }

  /** What was written is delivered, if the reader takes it. */
  end(): void {
    this.response.end();
  }

  private finish(): void {
    if (this.ended) return;
    this.ended = true;
    clearTimeout(this.stalled);
    this.onEnd();
  }
}

/** The events after number `since`, and, with `follow`, those to come until the reader goes.
 * `onDone` is called once when the stream has ended; what is returned ends it, with all that the
 * reader takes of what was said until then. */
export function streamEvents(
  response: ServerResponse,
  journal: Journal,
  { since, follow }: { readonly since: number; readonly follow: boolean },
  onDone: () => void,
): () => void {
  const lines = new LineStream(response);
  let told = since > journal.seq ? 0 : since;
  const pump = (): void => {
    for (const event of journal.since(told)) {
      if (!lines.hasRoom) return;
      lines.write(event);
      told = event.seq;
    }
    if (!follow) lines.end();
  };
  const unlisten = follow ? journal.onEvent(() => pump()) : () => undefined;
  lines.onRoom = pump;
  lines.onEnd = () => {
    unlisten();
    onDone();
  };
  pump();
  return () => {
    pump();
    lines.end();
  };
}

/** A status line now and then every `intervalMs`, until the reader goes. One that comes while the
 * reader is busy with the last is left out. What is returned ends it. */
export function streamSamples(
  response: ServerResponse,
  source: SampleSource,
  intervalMs: number,
  onDone: () => void,
): () => void {
  const next = (): object => ({ ...source.next(), at: new Date().toISOString() });
  // Before the head: what cannot be taken is answered with an error.
  const first = next();
  const lines = new LineStream(response);
  const timer = setInterval(() => {
    if (lines.hasRoom) lines.write(next());
  }, intervalMs);
  lines.onEnd = () => {
    clearInterval(timer);
    source.close();
    onDone();
  };
  lines.write(first);
  return () => lines.end();
}
