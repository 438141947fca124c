/**
 * Every setting of ft-primary and ft-standby in one table: the parser of the command line, the
 * environment and the file, the help text, --print-config, the JSON schema, reloading and the "what
 * is allowed" part of error messages all read it. The rows stand in flags-*.ts, by group.
 */
import type { CommandName, FlagSpec } from './flag-spec';
import { GUEST_FLAGS } from './flags-guest';
import { OPERATION_FLAGS } from './flags-operation';
import { PAIR_FLAGS } from './flags-pair';
import { REPLICATION_FLAGS } from './flags-replication';

export type { CommandName, FlagSpec } from './flag-spec';

export const FLAGS: readonly FlagSpec[] = [
  ...GUEST_FLAGS,
  ...PAIR_FLAGS,
  ...REPLICATION_FLAGS,
  ...OPERATION_FLAGS,
];

export function flagsOf(command: CommandName): readonly FlagSpec[] {
  return FLAGS.filter((flag) => flag.only === undefined || flag.only === command);
}
