/** The serial console of the native machine: native/machine/console_tail.h. */
import type { MachineConsole } from './machine';
import type { NativeMachine } from './native';

export class NativeConsole implements MachineConsole {
  private onOutput: (() => void) | undefined;
  private closed = false;

  /** `facts` is the machine's: its first number is read right after each call. */
  constructor(
    private readonly native: NativeMachine,
    private readonly facts: Float64Array,
  ) {}

  get head(): number {
    return this.closed ? 0 : this.native.consoleHead();
  }

  read(from: number, into: Uint8Array): { readonly first: number; readonly bytes: number } {
    if (this.closed) return { first: from, bytes: 0 };
    const bytes = this.native.readConsole(from, into);
    return { first: this.facts[0] as number, bytes };
  }

  type(typed: Uint8Array): number {
    return this.closed ? 0 : this.native.typeConsole(typed);
  }

  watch(onOutput: (() => void) | undefined): void {
    this.onOutput = onOutput;
    if (!this.closed) this.native.watchConsole(onOutput !== undefined);
  }

  /** The native side says that something was printed. */
  printed(): void {
    this.onOutput?.();
  }

  /** The machine is closed: nothing is to be had any more. */
  close(): void {
    this.closed = true;
    this.onOutput = undefined;
  }
}
