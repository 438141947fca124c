/** ftctl switchover: the two hosts exchange their roles. */
import { askNode } from '../control-client';
import { refusedBy } from './answer';
import { type CtlCall, type CtlCommand, CtlExitCode } from './command';

export const switchoverCommand: CtlCommand = {
  name: 'switchover',
  summary: 'the two hosts of a protected pair exchange their roles; nothing is lost',
  about: [
    'Asked of the primary of a protected pair. The guest stands still for some milliseconds and ' +
      'goes on at the other host; no client loses an answer. This node becomes the standby, if it ' +
      'was started with --listen.',
    'Refused, with the guest running on as before, when the pair is not protected, or when its ' +
      'witness cannot decide at this moment. If the link is lost or this node ends in the midst of ' +
      'it, the witness decides where the guest runs, and this node may not know: ask both for their ' +
      'status before you try again (code 10).',
  ],
  json: true,
  examples: [
    ['switchover', 'moves the guest to the other host'],
    ['switchover --json', 'the same; prints generation, blackoutUs, drainUs and takeoverUs'],
  ],
  run: switchover,
};

async function switchover({ control, json }: CtlCall): Promise<CtlExitCode> {
  const answer = await askNode(control, 'POST', '/v1/switchover');
  if (answer.status !== 200) return refusedBy(answer, json);
  const { generation, blackoutUs } = answer.body;
  if (json) process.stdout.write(`${JSON.stringify(answer.body)}\n`);
  else process.stdout.write(`${words(generation, blackoutUs)}\n`);
  return CtlExitCode.ok;
}

function words(generation: unknown, blackoutUs: unknown): string {
  const still =
    typeof blackoutUs === 'number'
      ? ` It stood still for ${(blackoutUs / 1000).toFixed(1)} ms at most.`
      : '';
  return `The guest goes on at the other host, in generation ${generation}.${still}`;
}
