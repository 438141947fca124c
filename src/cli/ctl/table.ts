/** The commands of ftctl, in the order in which the help lists them. */
import type { CtlCommand } from './command';
import { PKI_COMMANDS } from './pki';
import { statusCommand } from './status';
import { switchoverCommand } from './switchover';

export const CTL_COMMANDS: readonly CtlCommand[] = [
  statusCommand,
  switchoverCommand,
  ...PKI_COMMANDS,
];
