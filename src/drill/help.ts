/** What ft-drill --help prints, and what its exit codes mean. */
import { flagLines } from '../config/help';
import { DRILL_FLAGS, type FlagRoom, KILL_SWITCH } from './flags';

/** Exit codes of ft-drill; the same numbers as the other commands' where they mean the same. */
export const DrillExitCode = {
  ok: 0,
  broken: 1,
  usage: 2,
  environment: 3,
  refused: 5,
  internal: 70,
  interrupted: 130,
} as const;
export type DrillExitCode = (typeof DrillExitCode)[keyof typeof DrillExitCode];

const MEANINGS: Readonly<Record<DrillExitCode, string>> = {
  [DrillExitCode.ok]: 'every drill was done, and every promise was kept',
  [DrillExitCode.broken]: 'a promise was broken, or a pair was not protected again in time',
  [DrillExitCode.usage]: 'a word or a flag is wrong',
  [DrillExitCode.environment]: 'the host lacks something: root, /dev/kvm, a program, a live node',
  [DrillExitCode.refused]: 'nothing was done: the live pair is not protected, or nobody said yes',
  [DrillExitCode.internal]: 'an error of our own',
  [DrillExitCode.interrupted]: 'ended by a signal; what was done until then kept its promises',
};

const INTRODUCTION = `Usage: ft-drill list
       ft-drill run SCENARIO…|all [--runs N | --drills N] [flags]
       ft-drill run SCENARIO… --live SOCKET [--live SOCKET] --probe URL [flags]
       ft-drill sandbox [flags]

Does something wrong to a protected pair while clients ask its guest, waits until
the pair has mended itself, and judges what clients and network saw.

  list      the scenarios, in a sentence each, and which may be done to a live pair
  run       drills on a pair that it makes itself, in network namespaces of its own
            (as root); with --live on one that is there
  sandbox   a protected guest on this machine that stays up until Ctrl-C: two nodes,
            their dashboards, and a supervisor that restarts a node that was killed

Examples:
  ft-drill run all --runs 3 --html drills.html --json drills.json
  ft-drill run primary-kill primary-freeze --runs 20
  ft-drill run switchover --live /run/romulus/a.sock --live /run/romulus/b.sock \\
    --probe http://10.0.0.5/health --gap-ms-max 500`;

const ROOMS: readonly (readonly [FlagRoom, string])[] = [
  ['run', 'run'],
  ['sandbox pair', 'run, with a pair of its own'],
  ['live pair', 'run, with a live pair'],
  ['sandbox', 'sandbox'],
  ['all', 'All commands'],
];

const AFTERWORD = `On a live pair only switchover is done without further words; with one socket once,
since the next one is asked of the other node. primary-kill and
standby-kill need --${KILL_SWITCH}, and a service manager that starts
the killed node again. A live pair is drilled only while it is protected.

Ctrl-C ends the drills after the present one; the report tells of what was done. A
second Ctrl-C ends at once. Either way nothing is left behind.
`;

export function drillHelp(): string {
  const flags = ROOMS.flatMap(([room, title]) => [
    `${title}:`,
    ...DRILL_FLAGS.filter((flag) => flag.room === room).flatMap((flag) => flagLines(flag)),
    '',
  ]);
  const codes = Object.values(DrillExitCode).map(
    (code) => `  ${String(code).padStart(3)}  ${MEANINGS[code]}`,
  );
  return [INTRODUCTION, '', ...flags, 'Exit codes:', ...codes, '', AFTERWORD].join('\n');
}
