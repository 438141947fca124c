/** What a link to a standby is made of, what it says, and how it ends: see link.ts. */
import type { Clock } from '../common/clock';
import type { FtError } from '../common/errors';
import type { Logger } from '../common/logger';
import type { MachineDescription } from '../machine/machine';
import type { Connection } from '../transport/connection';
import type { Frame } from '../wire/frame';
import type { CatchUpFrom, TookOver } from '../wire/messages';

/** Opens one connection; exactly one of the callbacks is called, once. */
export type Dial = (
  onOpen: (connection: Connection) => void,
  onFail: (error: FtError) => void,
) => void;

export interface LinkOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  /** Where standbys may be, tried in turn. */
  readonly dials: readonly Dial[];
  readonly pair: string;
  readonly nodeId: string;
  readonly machine: MachineDescription;
  /** As the machine's diskSyncIds(); asked for at each hello. */
  readonly diskSyncIds: () => readonly string[];
  /** The image of an earlier session from which this side can go on; asked for at each hello. */
  readonly catchUpFrom: () => CatchUpFrom | undefined;
  readonly heartbeatIntervalMs: number;
  readonly suspectAfterMs: number;
  /** A fresh session name. */
  readonly drawSession: () => string;
  /** The generation this side runs in, and its newest epoch; asked for at each use. */
  readonly generation: () => number;
  readonly epoch: () => number;
}

export type LinkDown =
  | { readonly kind: 'lost'; readonly error: FtError }
  /** The standby left in order and will not promote in this generation. */
  | { readonly kind: 'bye'; readonly reason: string }
  /** The standby says that it runs the guest. `error` is for whoever did not hand it over. */
  | { readonly kind: 'took-over'; readonly tookOver: TookOver; readonly error: FtError }
  /** The standby owns `generation`, runs nothing in it, and never will. `error`: likewise, and why. */
  | { readonly kind: 'gave-up'; readonly generation: number; readonly error: FtError };

/** Who answered, and what it said of itself. */
export interface LinkPeer {
  readonly standbyId: string;
  /** Names this session on both sides. */
  readonly session: string;
  /** For beginReplication(); checked against the machine's disks. */
  readonly diskMaps: readonly (Uint8Array | undefined)[];
  /** How long it waits for a sign of ours before it suspects us. */
  readonly suspectAfterMs: number;
  /** It has the image of an earlier session that our hello named, and waits for a catchUp frame. */
  readonly catchUp: boolean;
}

export interface LinkHandlers {
  onUp(connection: Connection, peer: LinkPeer): void;
  onFrame(frame: Frame): void;
  /** A heartbeat is about to be sent; returns its number. */
  onBeat(): number;
  /** The standby has heard the heartbeat of this number; 0: none yet. */
  onEcho(sequence: number): FtError | undefined;
  /** No frame of what was read is left. */
  onTurn(): void;
  onDown(down: LinkDown): void;
  /** The standby refuses this node, or answers nonsense; the link keeps trying. */
  onRefused(error: FtError): void;
}
