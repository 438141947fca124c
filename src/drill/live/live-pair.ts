/**
 * A pair in production, as its control sockets show it. One socket, of either node, is enough to see
 * whether it is protected; both are needed to ask the other node for the way back.
 */
import { askNode, type ControlAnswer } from '../../cli/control-client';
import { FtError } from '../../common/errors';
import { monotonicUs, sleep } from '../process/time';

/** What one node says of itself. */
export interface LiveNode {
  readonly socket: string;
  readonly node: string;
  readonly pair: string;
  readonly role: string;
  readonly state: string;
  readonly generation: number;
  /** The node's process, on its own host. */
  readonly pid: number;
}

const LOOK_MS = 10;

export class LivePair {
  constructor(readonly sockets: readonly string[]) {}

  /** What each node says at this moment; those that do not answer are left out. */
  async look(): Promise<readonly LiveNode[]> {
    const found = await Promise.all(
      this.sockets.map((socket) => nodeAt(socket).catch(() => undefined)),
    );
    return found.filter((node) => node !== undefined);
  }

  /**
   * The node that runs the protected guest. Throws FT_ERR_CONTROL_… when a node does not answer,
   * FT_ERR_DRILL_UNPROTECTED when the pair is not whole or the sockets are not those of one pair.
   */
  async protectedPrimary(): Promise<LiveNode> {
    const nodes = await Promise.all(this.sockets.map(nodeAt));
    const names = new Set(nodes.map(({ pair }) => pair));
    if (names.size > 1) {
      throw unprotected(`The sockets are of two pairs, ${[...names].join(' and ')}.`);
    }
    const primary = nodes.find(({ role }) => role === 'primary');
    if (primary === undefined) {
      const [one] = nodes;
      const what = one === undefined ? '' : ` Node ${one.node} is ${one.role}, ${one.state}.`;
      throw unprotected(`No node of these runs the guest.${what} Give the primary's socket.`);
    }
    if (primary.state !== 'protected') {
      throw unprotected(
        `Node ${primary.node} is ${primary.state}, and a live pair is drilled only while its guest ` +
          'is protected.',
      );
    }
    const other = nodes.find((node) => node !== primary);
    if (other !== undefined && !(other.role === 'standby' && other.state === 'ready')) {
      throw unprotected(
        `Node ${other.node} is ${other.role}, ${other.state}, and no ready standby.`,
      );
    }
    return primary;
  }

  /** Asks a node to exchange the roles. Throws, with its words, when it did not, or does
   * not know how it went. */
  async switchover({ socket, node }: LiveNode): Promise<ControlAnswer['body']> {
    const { status, body } = await askNode(socket, 'POST', '/v1/switchover');
    if (status === 200) return body;
    const why = typeof body['message'] === 'string' ? body['message'] : JSON.stringify(body);
    throw new Error(`Node ${node} did not switch over: ${why}`);
  }

  /**
   * Waits until the guest is protected in a newer generation than `generation`, as far as the nodes
   * tell: by the word of the primary, or of its ready standby where the primary's is out of reach.
   * @returns since when, monotonic µs.
   */
  async protectedAfter(generation: number, settleMs: number): Promise<number> {
    const isWhole = ({ role, state, generation: newest }: LiveNode): boolean =>
      newest > generation &&
      ((role === 'primary' && state === 'protected') || (role === 'standby' && state === 'ready'));
    return this.until('protected again', settleMs, (nodes) => {
      const whole = nodes.filter(isWhole);
      return whole.length === this.sockets.length ? whole[0] : undefined;
    });
  }

  /** Waits until a node runs the guest with a newer generation. @returns since when, monotonic µs. */
  async ranAfter(generation: number, settleMs: number): Promise<number> {
    return this.until('running at the other node', settleMs, (nodes) =>
      nodes.find((node) => node.role === 'primary' && node.generation > generation),
    );
  }

  private async until(
    what: string,
    settleMs: number,
    find: (nodes: readonly LiveNode[]) => LiveNode | undefined,
  ): Promise<number> {
    const endUs = monotonicUs() + settleMs * 1000;
    for (;;) {
      const nodes = await this.look();
      if (find(nodes) !== undefined) return monotonicUs();
      if (monotonicUs() > endUs) {
        const said = nodes.map((one) => `${one.node} is ${one.role}, ${one.state}`).join('; ');
        const seen = said === '' ? 'no node answers' : said;
        throw new Error(`The guest is not ${what} after ${settleMs / 1000} s: ${seen}.`);
      }
      await sleep(LOOK_MS);
    }
  }
}

async function nodeAt(socket: string): Promise<LiveNode> {
  const { status, body } = await askNode(socket, 'GET', '/v1/status');
  if (status !== 200) throw new Error(`The node at ${socket} answered ${status}.`);
  const word = (name: string): string => (typeof body[name] === 'string' ? body[name] : '');
  const count = (name: string): number => (typeof body[name] === 'number' ? body[name] : 0);
  const [generation, pid] = [count('generation'), count('pid')];
  const [node, pair, role, state] = [word('node'), word('pair'), word('role'), word('state')];
  return { socket, node, pair, role, state, generation, pid };
}

function unprotected(message: string): FtError {
  return new FtError('FT_ERR_DRILL_UNPROTECTED', message);
}
