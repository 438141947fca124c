/** The witness of a sandbox pair: an etcd of its own on the witness's cable, or a directory. */
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { Lan, LanHost } from '../lan/lan';
import { atExit } from '../process/process-exit';
import { LocalEtcd } from './etcd';

export const WITNESS_KINDS = ['etcd', 'file'] as const;
export type WitnessKind = (typeof WITNESS_KINDS)[number];

const PORT = 7100;

export class SandboxWitness {
  private constructor(
    /** The etcd that can be stopped and cut off; undefined where the witness is a directory. */
    readonly etcd: LocalEtcd | undefined,
    private readonly folder: string | undefined,
  ) {}

  static async start(kind: WitnessKind, lan: Lan): Promise<SandboxWitness> {
    if (kind === 'etcd') {
      const addresses = lan.witnessAddresses;
      const netns = lan.witness.name;
      const etcd = await LocalEtcd.start({ netns, addresses, ports: [PORT, PORT + 1] });
      return new SandboxWitness(etcd, undefined);
    }
    const folder = mkdtempSync(path.join(os.tmpdir(), 'ft-witness-'));
    const witness = new SandboxWitness(undefined, folder);
    atExit(folder, () => witness.removeFolder());
    return witness;
  }

  /** The value of --witness on a host. */
  flag(host: LanHost): string {
    if (this.folder !== undefined) return `file:${this.folder}`;
    return `etcd:http://${host.witnessAddress}:${PORT}`;
  }

  /** It answers again, whatever a drill did to it. */
  async putRight(): Promise<void> {
    if (this.etcd === undefined) return;
    if (this.etcd.isUp()) this.etcd.signal('SIGCONT');
    else await this.etcd.run();
  }

  async close(): Promise<void> {
    await this.etcd?.close();
    this.removeFolder();
  }

  private removeFolder(): void {
    if (this.folder !== undefined) rmSync(this.folder, { recursive: true, force: true });
  }
}
