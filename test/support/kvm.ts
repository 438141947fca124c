/**
 * Tests that need a real guest. Their names begin with "kvm: ", they are skipped where there is no
 * /dev/kvm, and the summary fails when one was skipped although it is there.
 */
import { existsSync } from 'node:fs';

/** True where this machine can run guests. */
export const haveKvm = existsSync('/dev/kvm');

/** `test`, for what needs /dev/kvm. `timeoutMs` overrides the project's. */
export function kvmTest(name: string, fn: () => Promise<void> | void, timeoutMs?: number): void {
  const run = haveKvm ? test : test.skip;
  run(`kvm: ${name}`, fn as () => Promise<void>, timeoutMs);
}

/** `describe`, for a group that needs /dev/kvm. Its tests may use plain `test`. */
export function kvmDescribe(name: string, fn: () => void): void {
  const run = haveKvm ? describe : describe.skip;
  run(`kvm: ${name}`, fn);
}
