/** ftctl drain: takes a node's work away, for the maintenance of its host. */
import { FtError } from '../../common/errors';
import { askNode } from '../control-client';
import { refusedBy } from './answer';
import { type CtlCall, type CtlCommand, CtlExitCode } from './command';
import { numberIn } from './fields';
import { micros } from './terminal';

/** How long a drained node may take to end. */
const END_MS_MAX = 10_000;
const LOOK_MS = 50;

export const drainCommand: CtlCommand = {
  name: 'drain',
  summary: 'hands on the work of this node and ends it, for maintenance of its host',
  about: [
    'A primary whose guest is protected hands the guest over to the other host (a switchover) and ' +
      'ends with code 0; it does not join as standby. A standby says good-bye: its primary goes on ' +
      'alone at once, knowing why, and this node ends with code 0. Returns when the node has ended.',
    'Refused, with everything as it was, where the guest would be lost with this node (a primary ' +
      'without a standby that holds the guest), and while a standby is about to take over. With ' +
      '--force the guest of an unprotected primary ends with the node.',
  ],
  flags: [{ name: 'force', help: 'ends a guest that no standby holds, with the node' }],
  json: true,
  examples: [
    ['drain && systemctl reboot', 'maintenance of this host: the guest does not notice'],
    ['drain --force', 'ends the guest for good, too, if nobody can take it over'],
  ],
  run: drain,
};

const WORDS: Readonly<Record<string, string>> = {
  'handed-over': 'The guest goes on at the other host; this node has ended.',
  ended: 'This node has ended, and its guest with it.',
  elsewhere: 'This standby has ended; its primary runs the guest, unprotected, and knows why.',
};

async function drain({ control, json, flags }: CtlCall): Promise<CtlExitCode> {
  const answer = await askNode(control, 'POST', '/v1/drain', { force: flags.has('force') });
  if (answer.status !== 200) return refusedBy(answer, json);
  await nodeEnds(control);
  const { guest } = answer.body;
  const blackoutUs = numberIn(answer.body, 'blackoutUs');
  const still = blackoutUs === 0 ? '' : ` The guest stood still for ${micros(blackoutUs)} at most.`;
  const words = WORDS[String(guest)] ?? 'This node has ended.';
  process.stdout.write(json ? `${JSON.stringify(answer.body)}\n` : `${words}${still}\n`);
  return CtlExitCode.ok;
}

/** Resolves when nobody serves the socket any more. Rejects when that takes too long. */
async function nodeEnds(control: string): Promise<void> {
  const endMs = performance.now() + END_MS_MAX;
  while (performance.now() < endMs) {
    try {
      await askNode(control, 'GET', '/v1/status');
    } catch {
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
  const message = `The node is drained and has not ended within ${END_MS_MAX / 1000} s; see its log.`;
  throw new FtError('FT_ERR_CONTROL_ENDLESS', message, { control });
}
