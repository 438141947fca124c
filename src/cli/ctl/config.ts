/** ftctl config: the settings that a running node works with. */
import { askNode } from '../control-client';
import { printable, refusedBy } from './answer';
import { type CtlCall, type CtlCommand, CtlExitCode } from './command';
import { type Fields, fieldsIn, textIn } from './fields';

export const configCommand: CtlCommand = {
  name: 'config',
  summary: 'the settings that the node works with, and where each comes from',
  about: [
    'Every setting with its value and its source: the command line, the environment, a line of the ' +
      'settings file, or the default. Of secrets there are paths only.',
  ],
  json: true,
  examples: [['config', 'which settings are in effect?']],
  run: config,
};

async function config({ control, json }: CtlCall): Promise<CtlExitCode> {
  const answer = await askNode(control, 'GET', '/v1/config');
  if (answer.status !== 200) return refusedBy(answer, json);
  process.stdout.write(json ? `${JSON.stringify(answer.body)}\n` : configText(answer.body));
  return CtlExitCode.ok;
}

/** One setting a line: name, value, source. */
export function configText(body: Fields): string {
  const settings = fieldsIn(body, 'settings');
  const rows = Object.keys(settings).map((name) => {
    const setting = fieldsIn(settings, name);
    const { value } = setting;
    const text = Array.isArray(value) ? value.join(' ') : String(value ?? '-');
    return [name, printable(text), printable(textIn(setting, 'from'))] as const;
  });
  const width = (at: 0 | 1): number => Math.max(0, ...rows.map((row) => row[at].length));
  const [names, values] = [width(0), Math.min(40, width(1))];
  return rows
    .map(([name, value, from]) => `${name.padEnd(names)}  ${value.padEnd(values)}  # ${from}\n`)
    .join('');
}
