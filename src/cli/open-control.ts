/** Opens a node's control socket (--control), put together from parts that do not know each other. */
import { systemClock } from '../common/clock';
import type { FtError } from '../common/errors';
import type { Logger } from '../common/logger';
import { ConsoleDoor } from '../node/console-door';
import { ControlServer } from '../node/control-server';
import type { Journal } from '../node/journal';
import type { RunningNode } from '../node/running-node';
import { StatusReporter } from '../node/status';
import { statusNow } from '../node/status-now';
import { version } from './version';

export interface ControlParts {
  readonly node: RunningNode;
  readonly journal: Journal;
  readonly logger: Logger;
  /** The settings in effect: config/describe.ts. */
  readonly settings: () => object;
  /** Reads the settings anew; says which were applied, or why none was. */
  readonly reload: () => object | FtError;
}

export interface OpenControl {
  /** The node changed its state. */
  nodeChanged(): void;
  close(): Promise<void>;
}

/** Serves from now on. Rejects with FT_ERR_CONTROL_TAKEN or FT_ERR_CONTROL. */
export async function openControl(path: string, parts: ControlParts): Promise<OpenControl> {
  const { node, journal, logger } = parts;
  const console = new ConsoleDoor(node, logger);
  const release = version();
  const stamp = (): object => ({ pid: process.pid, version: release, journalSeq: journal.seq });
  const server = new ControlServer({
    status: () => ({ ...statusNow(node), ...stamp() }),
    samples: () => {
      const reporter = new StatusReporter(node, systemClock);
      return {
        next: () => ({ ...reporter.next(), ...stamp() }),
        close: () => reporter.close(),
      };
    },
    journal,
    switchover: () => node.switchover(),
    drain: (force) => node.drain(force),
    config: () => ({ settings: parts.settings() }),
    reload: () => parts.reload(),
    console,
  });
  await server.listen(path);
  logger.info('ftctl is served', { control: path });
  return { nodeChanged: () => console.nodeChanged(), close: () => server.close() };
}
