/** ftctl events: what happened to the node, in the words of its log. */
import { readLines } from '../control-client';
import { complain, printable, refusedBy } from './answer';
import { type CtlCall, type CtlCommand, CtlExitCode } from './command';
import { type Fields, fieldsIn, textIn } from './fields';
import { lookOf, render, type Style } from './terminal';

export const eventsCommand: CtlCommand = {
  name: 'events',
  summary: 'what happened to the node, as it happens with --follow',
  about: [
    'Prints what the node remembers, the newest 1,000 events: changes of state, failovers and ' +
      'switchovers, syncs, trouble with the link or the witness, refusals. The words are those of ' +
      'the log. What an event has is in docs/events.md.',
    'With --follow it goes on until the node ends or you end it (Ctrl-C).',
  ],
  flags: [
    { name: 'follow', help: 'goes on with what happens from now on' },
    {
      name: 'since',
      value: 'SEQ',
      fallback: '0',
      help: 'only events after number SEQ (the "seq" of --json); 0 for all',
      type: { kind: 'integer', min: 0, max: 9_007_199_254_740_991 },
    },
  ],
  json: true,
  examples: [
    ['events', 'what happened so far'],
    ['events --follow', 'and what happens now'],
    [
      'events --follow --since 120 --json',
      'for programs: one JSON object a line, from event 121 on',
    ],
  ],
  run: events,
};

async function events({ control, json, flags }: CtlCall): Promise<CtlExitCode> {
  const follow = flags.has('follow');
  const path = `/v1/events?since=${flags.integer('since')}${follow ? '&follow=1' : ''}`;
  const look = lookOf(process.stdout, process.env);
  const reader = await readLines(control, path, (event) => {
    const text = json ? JSON.stringify(event) : render(eventLine(event), 10_000, look);
    process.stdout.write(`${text}\n`);
  });
  if ('status' in reader) return refusedBy(reader, json);
  const end = await reader.ended;
  if (!follow && end === 'done') return CtlExitCode.ok;
  const message = 'the node has ended, or let go of its control socket.';
  complain({ code: 'FT_ERR_CONTROL_GONE', message }, json);
  return CtlExitCode.environment;
}

/** A change of state is written out in its text. */
const IN_THE_TEXT: ReadonlySet<string> = new Set(['event', 'from', 'to']);
const STYLES: Readonly<Record<string, Style>> = { warn: 'warn', error: 'bad' };

/** "2026-01-02T03:04:05.678Z info  state     primary: solo → syncing why=…" */
export function eventLine(event: Fields): (readonly [string, Style?])[] {
  const level = textIn(event, 'level');
  const facts = Object.entries(fieldsIn(event, 'facts'))
    .filter(([name]) => !IN_THE_TEXT.has(name))
    .map(([name, value]) => ` ${name}=${typeof value === 'string' ? quoted(value) : value}`);
  return [
    [`${textIn(event, 'at')} `, 'dim'],
    [`${level.padEnd(5)} `, STYLES[level] ?? 'plain'],
    [`${textIn(event, 'kind').padEnd(10)} `, 'plain'],
    [printable(textIn(event, 'text')), 'bold'],
    [printable(facts.join('')), 'dim'],
  ];
}

function quoted(text: string): string {
  return /^[^\s"=\\]+$/.test(text) ? text : JSON.stringify(text);
}
