/** ftctl reload: the node reads its settings anew. */
import { askNode } from '../control-client';
import { printable, refusedBy } from './answer';
import { type CtlCall, type CtlCommand, CtlExitCode } from './command';

export const reloadCommand: CtlCommand = {
  name: 'reload',
  summary: 'the node reads its settings and certificates anew',
  about: [
    'The same as SIGHUP. Settings that can change while the node runs are applied; of the others ' +
      'it says that they need a restart. A file with a mistake changes nothing.',
  ],
  json: true,
  examples: [['reload', 'after a change of the settings file, or new certificates']],
  run: reload,
};

async function reload({ control, json }: CtlCall): Promise<CtlExitCode> {
  const answer = await askNode(control, 'POST', '/v1/reload');
  if (answer.status !== 200) return refusedBy(answer, json);
  if (json) process.stdout.write(`${JSON.stringify(answer.body)}\n`);
  else process.stdout.write(reloadText(answer.body));
  return CtlExitCode.ok;
}

/** For people: what was applied, and what waits for a restart. */
export function reloadText(body: Readonly<Record<string, unknown>>): string {
  const list = (name: string): string => {
    const value = body[name];
    return Array.isArray(value) ? value.map((one) => printable(String(one))).join(', ') : '';
  };
  const applied = list('applied');
  const restart = list('needsRestart');
  const lines = [applied === '' ? 'Nothing to apply.' : `Applied: ${applied}.`];
  if (restart !== '') lines.push(`Changed, and needs a restart of the node: ${restart}.`);
  return `${lines.join('\n')}\n`;
}
