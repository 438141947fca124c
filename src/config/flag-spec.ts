/** One row of the tables of settings. */
import type { ValueType } from './value-types';

export type CommandName = 'ft-primary' | 'ft-standby';

interface SpecBase {
  /** As on the command line, without the dashes; also the key in a file. */
  readonly name: string;
  readonly help: string;
  /** May be given more than once; in a file it is a list. */
  readonly repeats?: true;
  /** Commands that know the flag; both when absent. */
  readonly only?: CommandName;
  /**
   * What a running node takes over when its settings are read again: a changed value (true), or the
   * contents of the file that is named (while another path needs a restart). Absent: nothing.
   */
  readonly reload?: true | 'contents';
  /** An order for one start: it may stand neither in a file nor in the environment. */
  readonly commandLineOnly?: true;
  /** Names the file itself: on the command line or in the environment, not in the file. */
  readonly notInFile?: true;
  readonly group:
    | 'Guest'
    | 'Pair'
    | 'Witness'
    | 'Security'
    | 'Replication'
    | 'Detection'
    | 'Operation'
    | 'Testing';
}

/** A flag with a value. */
export interface ValueFlag extends SpecBase {
  /** What stands for the value in the help. */
  readonly value: string;
  readonly type: ValueType;
  /** The default, as it would be written on the command line. */
  readonly fallback?: string;
}

/** A flag that is there or not; true or false in a file. */
export interface SwitchFlag extends SpecBase {
  readonly value?: undefined;
  readonly type?: undefined;
  readonly fallback?: undefined;
}

export type FlagSpec = ValueFlag | SwitchFlag;
