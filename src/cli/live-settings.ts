/** Which settings a running node takes over, and how: docs/configuration.md lists them. */

import type { RunningNode } from '../node/running-node';
import type { NodeLog } from '../observe/logger';
import type { BuiltNode } from './build-node';
import type { OpenHttp } from './open-http';
import type { OpenTls } from './open-tls';
import type { LiveFiles, LiveSetting } from './reloader';
import type { StatusTicker } from './status-ticker';

/** What of a built node can be changed while it runs. */
export interface LiveNode {
  readonly node: Pick<RunningNode, 'change'>;
  readonly redial: BuiltNode['redial'];
}

/** Everything with `reload: true` in the table of settings. */
export function liveSettings(
  { node, redial }: LiveNode,
  log: Pick<NodeLog, 'level'>,
  ticker: Pick<StatusTicker, 'set'>,
): readonly LiveSetting[] {
  return [
    {
      flags: ['log-level'],
      apply: (next) => {
        log.level = next.log.level;
      },
    },
    { flags: ['status-interval-ms'], apply: (next) => ticker.set(next.statusIntervalMs) },
    { flags: ['standby'], apply: (next) => redial(next.standbys) },
    {
      flags: ['on-standby-loss', 'on-witness-loss', 'on-guest-end', 'interval-us'],
      apply: (next) => node.change({ ...next, intervalUs: next.policy.intervalUs }),
    },
  ];
}

/** The certificate, its key and the authorities. */
export function tlsFiles(tls: OpenTls): LiveFiles {
  return { flags: ['tls-ca', 'tls-cert', 'tls-key'], read: () => tls.readAgain() };
}

/** The secret that opens the reader's paths of the HTTP server. */
export function tokenFiles(http: OpenHttp): LiveFiles {
  return { flags: ['http-token-file'], read: () => http.readTokenAgain() };
}
