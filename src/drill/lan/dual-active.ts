/**
 * One active side, as the network sees it. Pure: who sent what when, and which side had a reason to
 * begin, are given.
 *
 *   grants       a: booted              b: promoted
 *                   │                      │
 *   frames       ───┴─ a a a a a a a ──────┴── b b b b ─ a ─ b b ──▶ time
 *                                              │         └── a moment of two active sides
 *                                              └── from here on, not one frame of a may come
 *
 * A side may begin to send when it was granted the guest (it boots it, or is about to promote) later
 * than the side that sent before. Whoever sends against that is the second active side; all frames
 * until the rightful side is heard again are one moment.
 */
import type { HostName } from './lan';

/** A frame that a guest sent, as seen at the switch; µs of one clock. */
export interface GuestFrame {
  readonly atUs: number;
  readonly host: HostName;
}

/** From here on a side may send for the guest. */
export interface Grant {
  readonly atUs: number;
  readonly host: HostName;
}

export interface DualActiveMoment {
  readonly host: HostName;
  readonly fromUs: number;
  readonly toUs: number;
  readonly frames: number;
  readonly story: string;
}

/** A node says that it goes on with the guest within this time of its first frame. */
const SAID_LATE_US = 20_000;

/**
 * @param frames in the order in which they came.
 * @param grants in any order; several for one takeover are as good as one.
 */
export function findDualActive(
  frames: readonly GuestFrame[],
  grants: readonly Grant[],
): DualActiveMoment[] {
  const sorted = [...grants].sort((x, y) => x.atUs - y.atUs);
  const newest: Partial<Record<HostName, number>> = {};
  const found: DualActiveMoment[] = [];
  let next = 0;
  let speaker: Grant | undefined;
  let stray: GuestFrame[] = [];
  const close = (): void => {
    const first = stray[0];
    if (first !== undefined && speaker !== undefined) found.push(momentOf(stray, first, speaker));
    stray = [];
  };
  for (const frame of frames) {
    for (let grant = sorted[next]; grant !== undefined; grant = sorted[next]) {
      if (grant.atUs > frame.atUs + SAID_LATE_US) break;
      newest[grant.host] = grant.atUs;
      next++;
    }
    const grantedUs = newest[frame.host] ?? Number.NEGATIVE_INFINITY;
    if (speaker === undefined || frame.host === speaker.host) {
      close();
      speaker = { host: frame.host, atUs: Math.max(grantedUs, speaker?.atUs ?? grantedUs) };
    } else if (grantedUs > speaker.atUs) {
      close();
      speaker = { host: frame.host, atUs: grantedUs };
    } else stray.push(frame);
  }
  close();
  return found;
}

function momentOf(
  frames: readonly GuestFrame[],
  first: GuestFrame,
  speaker: Grant,
): DualActiveMoment {
  const last = frames[frames.length - 1] ?? first;
  const after = ((first.atUs - speaker.atUs) / 1000).toFixed(1);
  return {
    host: first.host,
    fromUs: first.atUs,
    toUs: last.atUs,
    frames: frames.length,
    story:
      `host ${first.host} sent ${frames.length} frames in ` +
      `${((last.atUs - first.atUs) / 1000).toFixed(1)} ms, the first ${after} ms after host ` +
      `${speaker.host} was granted the guest and had begun to send`,
  };
}
