/** The commands of ftctl, in the order in which the help lists them. */
import type { CtlCommand } from './command';
import { completionCommand } from './completion';
import { configCommand } from './config';
import { consoleCommand } from './console';
import { drainCommand } from './drain';
import { eventsCommand } from './events';
import { PKI_COMMANDS } from './pki';
import { reloadCommand } from './reload';
import { statusCommand } from './status';
import { switchoverCommand } from './switchover';
import { watchCommand } from './watch';

export const CTL_COMMANDS: readonly CtlCommand[] = [
  statusCommand,
  watchCommand,
  eventsCommand,
  consoleCommand,
  switchoverCommand,
  drainCommand,
  configCommand,
  reloadCommand,
  ...PKI_COMMANDS,
  completionCommand(() => CTL_COMMANDS),
];
