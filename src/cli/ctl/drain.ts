/** ftctl drain: takes a node's work away, for the maintenance of its host. */
import { FtError } from '../../common/errors';
import { askNode, type ControlAnswer } from '../control-client';
import { refusedBy } from './answer';
import { type CtlCall, type CtlCommand, CtlExitCode } from './command';
import { numberIn } from './fields';
import { NodeProcess } from './node-process';
import { micros } from './terminal';

/** How long a drained node may take to end. */
const END_MS_MAX = 10_000;
const LOOK_MS = 50;
/** How soon a node that refused for a moment only is asked again. */
const ASK_AGAIN_MS = 250;

export const drainCommand: CtlCommand = {
  name: 'drain',
  summary: 'hands on the work of this node and ends it, for maintenance of its host',
  about: [
    'A primary whose guest is protected hands the guest over to the other host (a switchover) and ' +
      'ends with code 0; it does not join as standby. A standby says good-bye: its primary goes on ' +
      'alone at once, knowing why, and this node ends with code 0. A primary that is handing the guest ' +
      'over already goes on from how that ends. Returns when the process has ended.',
    'Refused, with everything as it was, where the guest would be lost with this node (a primary ' +
      'without a standby that holds the guest), where it would stand still (a standby, with ' +
      '--on-standby-loss pause), and while that is not clear. With --force the guest ' +
      'of an unprotected primary ends with the node, and a paused one stands still.',
    'While a standby is about to take over, and while the witness is asked who has the guest, the ' +
      'node refuses for a moment only; with --wait it is asked again until it is clear where the ' +
      'guest runs.',
  ],
  flags: [
    { name: 'force', help: 'ends a guest that no standby holds, with the node' },
    {
      name: 'wait',
      value: 'SECONDS',
      fallback: '0',
      help: 'how long to ask again a node that refuses for a moment only',
      type: { kind: 'integer', min: 0, max: 3600 },
    },
  ],
  json: true,
  examples: [
    ['drain && systemctl reboot', 'maintenance of this host: the guest does not notice'],
    ['drain --wait 20', 'for scripts: waits out a takeover that is under way'],
    ['drain --force', 'ends the guest for good, too, if nobody can take it over'],
  ],
  run: drain,
};

const WORDS: Readonly<Record<string, string>> = {
  'handed-over': 'The guest goes on at the other host; this node has ended.',
  ended: 'This node has ended, and its guest with it.',
  elsewhere: 'This standby has ended; its primary has the guest, unprotected, and knows why.',
};

async function drain({ control, json, flags }: CtlCall): Promise<CtlExitCode> {
  const { body: status } = await askNode(control, 'GET', '/v1/status');
  const node = NodeProcess.of(status['pid']);
  const waitMs = flags.integer('wait') * 1000;
  const answer = await askUntilClear(control, flags.has('force'), waitMs);
  if (answer.status !== 200) {
    const code = refusedBy(answer, json);
    return waitMs > 0 && isBusy(answer) ? CtlExitCode.inVain : code;
  }
  await nodeEnds(control, node);
  const { guest } = answer.body;
  const blackoutUs = numberIn(answer.body, 'blackoutUs');
  const still = blackoutUs === 0 ? '' : ` The guest stood still for ${micros(blackoutUs)} at most.`;
  const words = WORDS[String(guest)] ?? 'This node has ended.';
  process.stdout.write(json ? `${JSON.stringify(answer.body)}\n` : `${words}${still}\n`);
  return CtlExitCode.ok;
}

/** Asks for the drain, again while the node is busy: for `waitMs`, and once at least. */
async function askUntilClear(
  control: string,
  force: boolean,
  waitMs: number,
): Promise<ControlAnswer> {
  const endMs = performance.now() + waitMs;
  for (;;) {
    const answer = await askNode(control, 'POST', '/v1/drain', { force });
    if (!isBusy(answer) || performance.now() >= endMs) return answer;
    await sleep(ASK_AGAIN_MS);
  }
}

/** It refused for a moment only. */
function isBusy({ status, body }: ControlAnswer): boolean {
  return status !== 200 && body['code'] === 'FT_ERR_DRAIN_BUSY';
}

/** Resolves when the socket is closed and the process gone. Rejects when that takes too long. */
async function nodeEnds(control: string, node: NodeProcess | undefined): Promise<void> {
  const endMs = performance.now() + END_MS_MAX;
  let served = true;
  while (performance.now() < endMs) {
    served &&= await isServed(control);
    if (!served && node?.gone !== false) return;
    await sleep(LOOK_MS);
  }
  const message = `The node is drained and has not ended within ${END_MS_MAX / 1000} s; see its log.`;
  throw new FtError('FT_ERR_CONTROL_ENDLESS', message, { control });
}

async function isServed(control: string): Promise<boolean> {
  try {
    await askNode(control, 'GET', '/v1/status');
    return true;
  } catch {
    return false;
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
