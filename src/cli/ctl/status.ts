/** ftctl status: what a node is and does at this moment, or, with --wait, once it is well. */
import { FtError } from '../../common/errors';
import { askNode, type ControlAnswer } from '../control-client';
import { complain, refusedBy } from './answer';
import { type CtlCall, type CtlCommand, CtlExitCode } from './command';
import type { Fields } from './fields';
import { statusText, syncWords } from './status-text';

const WAITS = ['protected', 'ready', 'primary', 'standby'] as const;
type Wait = (typeof WAITS)[number];

const ASK_AGAIN_MS = 200;

export const statusCommand: CtlCommand = {
  name: 'status',
  summary: 'what the node is and does at this moment',
  about: [
    'One sentence and the figures that belong to it: whether the guest is protected and, if not, ' +
      'why; who the other side is; how far a sync has come.',
    'With --wait it waits until the node is so: "protected" (the guest would outlive the loss of ' +
      'this host, or, asked of a standby, of its primary), "ready" (this node is a standby and can ' +
      'take over), "primary" or "standby". A node that does not answer yet is waited for, too. On a ' +
      'terminal a bar shows how far a sync has come.',
  ],
  flags: [
    {
      name: 'wait',
      value: WAITS.join('|'),
      help: 'waits until the node is so, then prints its status',
      type: { kind: 'choice', choices: WAITS },
      offers: WAITS,
    },
    {
      name: 'timeout',
      value: 'SECONDS',
      fallback: '60',
      help: 'how long --wait waits; 0 for as long as it takes',
      type: { kind: 'integer', min: 0, max: 86_400 },
    },
  ],
  json: true,
  examples: [
    ['status', 'is the guest protected?'],
    ['status --json', 'the same with every figure, one JSON object (docs/status-lines.md)'],
    ['status --wait protected --timeout 300', 'for scripts: goes on once the guest is protected'],
  ],
  run: status,
};

async function status(call: CtlCall): Promise<CtlExitCode> {
  const { control, json, flags } = call;
  const wait = WAITS.find((one) => one === flags.text('wait'));
  const answer =
    wait === undefined ? await askNode(control, 'GET', '/v1/status') : await waited(call, wait);
  if (answer === undefined) return CtlExitCode.inVain;
  if (answer.status !== 200) return refusedBy(answer, json);
  process.stdout.write(json ? `${JSON.stringify(answer.body)}\n` : statusText(answer.body));
  return CtlExitCode.ok;
}

/** The first answer that is as it shall be; undefined when time is over, which is said. */
async function waited(call: CtlCall, wait: Wait): Promise<ControlAnswer | undefined> {
  const { control, json, flags } = call;
  const seconds = flags.integer('timeout');
  const endMs = seconds === 0 ? Number.POSITIVE_INFINITY : performance.now() + seconds * 1000;
  const progress = new ProgressLine();
  for (;;) {
    const answer = await ask(control);
    const late = performance.now() > endMs;
    if (!(answer instanceof FtError)) {
      if (answer.status !== 200 || isSo(answer.body, wait)) {
        progress.clear();
        return answer;
      }
      progress.show(answer.body);
    }
    if (late) {
      progress.clear();
      const how = answer instanceof FtError ? answer.message : statusText(answer.body).trimEnd();
      const message = `not ${wait} after ${seconds} s.`;
      const last = answer instanceof FtError ? { cause: answer.code } : { status: answer.body };
      complain({ code: 'FT_ERR_CONTROL_WAITED', message, ...last }, json, `${message} ${how}`);
      return undefined;
    }
    await new Promise((resolve) => setTimeout(resolve, ASK_AGAIN_MS));
  }
}

/** The answer, or that there is none yet. */
async function ask(control: string): Promise<ControlAnswer | FtError> {
  try {
    return await askNode(control, 'GET', '/v1/status');
  } catch (thrown) {
    if (thrown instanceof FtError && thrown.code === 'FT_ERR_CONTROL_UNREACHABLE') return thrown;
    throw thrown;
  }
}

export function isSo(fields: Fields, wait: Wait): boolean {
  const { role, state } = fields;
  if (wait === 'protected') return fields['protected'] === true;
  if (wait === 'ready') return role === 'standby' && state === 'ready';
  return role === wait;
}

/** One line of stderr, written over again and again; nothing without a terminal. */
class ProgressLine {
  private shown = false;

  show(fields: Fields): void {
    if (!process.stderr.isTTY) return;
    const { node, role, state } = fields;
    const [sync = `${node} (${role}, ${state})`] = syncWords(fields, 24);
    process.stderr.write(`\r\u001b[K${sync.slice(0, (process.stderr.columns ?? 80) - 1)}`);
    this.shown = true;
  }

  clear(): void {
    if (this.shown) process.stderr.write('\r\u001b[K');
    this.shown = false;
  }
}
