/** Ctrl-A as the escape of a console: what is typed to the guest, and what to ftctl. */

const ESCAPE = 0x01;
const LEAVE = 'x'.charCodeAt(0);
const ITSELF = 'a'.charCodeAt(0);

/**
 * Reads keys as they come, also when the two of an escape come apart.
 *
 *   Ctrl-A x   leaves         Ctrl-A a, Ctrl-A Ctrl-A   types one Ctrl-A        Ctrl-A y   types nothing
 */
export class EscapeReader {
  private escaped = false;

  /** What goes on to the guest, and whether the person leaves. */
  take(typed: Uint8Array): { readonly bytes: Buffer; readonly leave: boolean } {
    const bytes: number[] = [];
    for (const byte of typed) {
      if (!this.escaped) {
        this.escaped = byte === ESCAPE;
        if (!this.escaped) bytes.push(byte);
        continue;
      }
      this.escaped = false;
      if (byte === LEAVE) return { bytes: Buffer.from(bytes), leave: true };
      if (byte === ITSELF || byte === ESCAPE) bytes.push(ESCAPE);
    }
    return { bytes: Buffer.from(bytes), leave: false };
  }
}
