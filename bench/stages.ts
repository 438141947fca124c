/**
 * Where an epoch's time goes: the stages in their order, as the status lines of both nodes tell
 * them, and the table of them.
 *
 *   the guest stands still           │ it runs on                                     standby
 *   kick barrier harvest copy state reset │ encode compress frame send wire │ decode apply │ ack release
 *
 * A status line has `<stage>UsP50`, `<stage>UsP99` and `<stage>UsMax` for each stage that its node
 * measures, over the stretch since the line before.
 */
import { quantileOf } from '../test/support/oracle-meter';
import type { Line } from '../test/support/process';
import { figure, table } from '../test/support/report';

/** How long one stage took, µs: the middle of the percentiles of each stretch, and the longest. */
export interface StageTimes {
  readonly stage: string;
  readonly usP50: number;
  readonly usP99: number;
  readonly usMax: number;
}

/** In the order of an epoch's life; those of the standby come from its own lines. */
const PAUSE_STAGES = ['kick', 'barrier', 'harvest', 'copy', 'state', 'reset'];
const AFTER_STAGES = ['encode', 'compress', 'frame', 'send', 'wire'];
const STANDBY_STAGES = ['decode', 'apply'];
const END_STAGES = ['ack', 'release'];

/** The stages that the lines know, in the order of an epoch's life. */
export function readStages(primary: readonly Line[], standby: readonly Line[]): StageTimes[] {
  const from = (lines: readonly Line[], stages: readonly string[]): StageTimes[] =>
    stages.flatMap((stage) => {
      const of = (name: string): number[] =>
        lines
          .map((line) => line.fields[`${stage}Us${name}`])
          .filter((value): value is number => typeof value === 'number');
      if (of('P50').length === 0) return [];
      return [
        {
          stage,
          usP50: quantileOf(of('P50'), 0.5),
          usP99: quantileOf(of('P99'), 0.5),
          usMax: Math.max(0, ...of('Max')),
        },
      ];
    });
  return [
    ...from(primary, [...PAUSE_STAGES, ...AFTER_STAGES]),
    ...from(standby, STANDBY_STAGES),
    ...from(primary, END_STAGES),
  ];
}

/** A column for each row that has stages, a line for each stage: p50 / p99. Empty without any. */
export function stagesTable(
  rows: readonly { readonly name: string; readonly stages: readonly StageTimes[] }[],
): string {
  const measured = rows.filter((row) => row.stages.length > 0);
  const names = [...PAUSE_STAGES, ...AFTER_STAGES, ...STANDBY_STAGES, ...END_STAGES].filter(
    (stage) => measured.some((row) => row.stages.some((one) => one.stage === stage)),
  );
  if (names.length === 0) return '';
  const lines = names.map((stage) => [
    PAUSE_STAGES.includes(stage) ? `${stage} (pause)` : stage,
    ...measured.map((row) => {
      const found = row.stages.find((one) => one.stage === stage);
      return found === undefined ? '-' : `${figure(found.usP50, 1)} / ${figure(found.usP99, 1)}`;
    }),
  ]);
  return table(['stage, us p50/p99', ...measured.map((row) => row.name)], lines);
}
