/**
 * What may be done to a pair in production. A switchover is what operators do anyway; killing a node
 * must be asked for with a switch of its own, and then somebody else must start it again.
 */
import { FtError } from '../../common/errors';
import { monotonicUs } from '../process/time';
import type { Deed } from '../timeline';
import type { LiveNode, LivePair } from './live-pair';
import { ownerOfSocket } from './socket-owner';

export interface LiveScene {
  readonly pair: LivePair;
  /** Runs the guest, protected. */
  readonly primary: LiveNode;
  readonly settleMs: number;
}

export interface LiveOutcome {
  readonly faultUs: number;
  /** Since when the guest runs with its output open, as far as it was seen. */
  readonly ranUs: number;
  readonly blackoutMs: number | undefined;
  readonly moved: boolean;
  readonly deeds: readonly Deed[];
}

export interface LiveScenario {
  readonly name: string;
  readonly what: string;
  /** A node is killed. */
  readonly kills: boolean;
  /** Both control sockets are needed. */
  readonly needsBoth: boolean;
  readonly act: (scene: LiveScene) => Promise<LiveOutcome>;
}

async function switchover({ pair, primary }: LiveScene): Promise<LiveOutcome> {
  const faultUs = monotonicUs();
  const { blackoutUs, generation } = await pair.switchover(primary);
  const ranUs = monotonicUs();
  const text = `node ${primary.node} has word that the guest runs there, generation ${generation}`;
  return {
    ...{ faultUs, ranUs, moved: true, deeds: [{ atUs: ranUs, text }] },
    blackoutMs: typeof blackoutUs === 'number' ? blackoutUs / 1000 : undefined,
  };
}

async function killPrimary({ pair, primary, settleMs }: LiveScene): Promise<LiveOutcome> {
  const faultUs = killNode(primary);
  const ranUs = await pair.ranAfter(primary.generation, settleMs);
  const text = 'the other node says that it runs the guest';
  const deeds = [{ atUs: ranUs, text }];
  return { faultUs, ranUs, blackoutMs: undefined, moved: true, deeds };
}

async function killStandby({ pair, primary, settleMs }: LiveScene): Promise<LiveOutcome> {
  const nodes = await pair.look();
  const standby = nodes.find(({ role }) => role === 'standby');
  if (standby === undefined) throw new Error('The standby does not answer.');
  const faultUs = killNode(standby);
  const ranUs = await pair.ranAfter(primary.generation, settleMs);
  const deeds = [{ atUs: ranUs, text: `node ${primary.node} says that it runs the guest alone` }];
  return { faultUs, ranUs, blackoutMs: undefined, moved: false, deeds };
}

/** SIGKILL to the process behind a control socket. Returns when, monotonic µs. */
function killNode({ socket, node, pid: said }: LiveNode): number {
  const pid = ownerOfSocket(socket);
  if (pid !== said) {
    // A socket that was forwarded from another host is served by somebody else here.
    const message = `Node ${node} is process ${said} of its own host, and process ${pid} serves its socket here. Kill it from there.`;
    throw new FtError('FT_ERR_DRILL_PROCESS', message, { pid, said });
  }
  const atUs = monotonicUs();
  try {
    process.kill(pid, 'SIGKILL');
  } catch (thrown) {
    const message = `The process ${pid} of node ${node} may not be killed by this user.`;
    throw new FtError('FT_ERR_DRILL_PROCESS', message, { pid }, thrown);
  }
  return atUs;
}

export const LIVE_SCENARIOS: readonly LiveScenario[] = [
  {
    name: 'switchover',
    what: 'the sides change places as planned',
    kills: false,
    needsBoth: false,
    act: switchover,
  },
  {
    name: 'primary-kill',
    what: 'the primary is killed',
    kills: true,
    needsBoth: true,
    act: killPrimary,
  },
  {
    name: 'standby-kill',
    what: 'the standby is killed',
    kills: true,
    needsBoth: true,
    act: killStandby,
  },
];
