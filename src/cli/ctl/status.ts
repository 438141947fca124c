/** ftctl status: what a node is and does at this moment. */
import { askNode } from '../control-client';
import { refusedBy } from './answer';
import { type CtlCall, type CtlCommand, CtlExitCode } from './command';
import { statusText } from './status-text';

export const statusCommand: CtlCommand = {
  name: 'status',
  summary: 'what the node is and does at this moment',
  about: ['One sentence and the figures that belong to it.'],
  json: true,
  examples: [
    ['status', 'is the guest protected?'],
    ['status --json', 'the same with every figure, one JSON object (docs/status-lines.md)'],
  ],
  run: status,
};

async function status({ control, json }: CtlCall): Promise<CtlExitCode> {
  const answer = await askNode(control, 'GET', '/v1/status');
  if (answer.status !== 200) return refusedBy(answer, json);
  process.stdout.write(json ? `${JSON.stringify(answer.body)}\n` : statusText(answer.body));
  return CtlExitCode.ok;
}
