/**
 * Where an epoch's time goes: the stages in their order, as the status lines of both nodes tell
 * them, and the table of them.
 *
 *   before the pause   kick
 *   in the pause       barrier harvest copy state reset
 *   after it           wake encode compress frame send wire release
 *   of wire, the standby's: decode ack apply (the last one behind the acknowledgement, or beside it)
 *
 * A status line has `stage<Name>UsP50`, `…P99` and `…Max` for each stage of its node, over the
 * stretch since the line before.
 */
import { quantileOf } from '../src/common/quantile';
import type { Line } from '../src/drill/process/process';
import { figure, table } from '../src/drill/report/report';

/** How long one stage took, µs: the middle of the percentiles of each stretch, and the longest. */
export interface StageTimes {
  readonly stage: string;
  readonly usP50: number;
  readonly usP99: number;
  readonly usMax: number;
}

const BEFORE_STAGES = ['kick'];
const PAUSE_STAGES = ['barrier', 'harvest', 'copy', 'state', 'reset'];
const AFTER_STAGES = ['wake', 'encode', 'compress', 'frame', 'send', 'wire'];
const STANDBY_STAGES = ['decode', 'ack', 'apply'];
const END_STAGES = ['release'];
const SENDER_STAGES = [...BEFORE_STAGES, ...PAUSE_STAGES, ...AFTER_STAGES];
const ALL_STAGES = [...SENDER_STAGES, ...STANDBY_STAGES, ...END_STAGES];

/** The stages that the lines know, in the order of an epoch's life. */
export function readStages(primary: readonly Line[], standby: readonly Line[]): StageTimes[] {
  const from = (lines: readonly Line[], stages: readonly string[]): StageTimes[] =>
    stages.flatMap((stage) => {
      const of = (name: string): number[] =>
        lines
          .map((line) => line.fields[`stage${capital(stage)}Us${name}`])
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
    ...from(primary, SENDER_STAGES),
    ...from(standby, STANDBY_STAGES),
    ...from(primary, END_STAGES),
  ];
}

/** A column for each row that has stages, a line for each stage: p50 / p99. Empty without any. */
export function stagesTable(
  rows: readonly { readonly name: string; readonly stages: readonly StageTimes[] }[],
): string {
  const measured = rows.filter((row) => row.stages.length > 0);
  const names = ALL_STAGES.filter((stage) =>
    measured.some((row) => row.stages.some((one) => one.stage === stage)),
  );
  if (names.length === 0) return '';
  const lines = names.map((stage) => [
    whereIs(stage),
    ...measured.map((row) => {
      const found = row.stages.find((one) => one.stage === stage);
      return found === undefined ? '-' : `${figure(found.usP50, 1)} / ${figure(found.usP99, 1)}`;
    }),
  ]);
  return table(['stage, us p50/p99', ...measured.map((row) => row.name)], lines);
}

function whereIs(stage: string): string {
  if (PAUSE_STAGES.includes(stage)) return `pause: ${stage}`;
  return STANDBY_STAGES.includes(stage) ? `  standby: ${stage}` : stage;
}

function capital(word: string): string {
  return word.charAt(0).toUpperCase() + word.slice(1);
}
