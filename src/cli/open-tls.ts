/**
 * This node's certificate at the command: loaded before anything is opened, looked at again every
 * minute (whoever renews it need not tell us), and spoken of before it expires.
 */
import type { FtError } from '../common/errors';
import { LineBudget, type Logger } from '../common/logger';
import type { PrimaryConfig, StandbyConfig } from '../config/config';
import { TlsMaterial } from '../transport/tls';

/** How often the files are looked at. */
const LOOK_MS = 60_000;
const WARN_SECONDS = 14 * 24 * 3600;
/** How often a certificate that expires soon is spoken of. */
const REMIND_MS = 24 * 3_600_000;

export interface OpenTls {
  readonly material: TlsMaterial;
  /** Reads the files again now, or throws what is wrong with them. What it returns puts them to use. */
  readAgain(): () => void;
  close(): void;
}

/** Undefined when the node has no certificate. Throws the FtError of TlsMaterial.load. */
export function openTls(
  config: PrimaryConfig | StandbyConfig,
  logger: Logger,
): OpenTls | undefined {
  if (config.tls === undefined) return undefined;
  const owner = { pair: config.pair, node: config.nodeId };
  const material = TlsMaterial.load(config.tls, owner);
  logger.info('the link is encrypted, both sides by certificate', facts(material));
  const watch = new CertificateWatch(material, logger);
  return { material, readAgain: () => watch.readAgain(), close: () => watch.close() };
}

class CertificateWatch {
  private readonly timer: NodeJS.Timeout;
  /** The state of the files that were found wrong last: said once, not every minute. */
  private refused: string | undefined;
  private remindAtMs = 0;

  constructor(
    private readonly material: TlsMaterial,
    private readonly logger: Logger,
  ) {
    this.timer = setInterval(() => this.look(), LOOK_MS);
    this.timer.unref();
    this.remind();
  }

  private reload(): FtError | undefined {
    const error = this.material.reload();
    if (error === undefined) {
      this.renewed();
    } else {
      const message = `The certificate files cannot be used, so the old ones stay in use: ${error.message}`;
      this.logger.warn(message, { code: error.code, ...error.facts });
    }
    this.remind();
    return error;
  }

  readAgain(): () => void {
    const install = this.material.readAgain();
    return () => {
      install();
      this.renewed();
      this.remind();
    };
  }

  private renewed(): void {
    this.refused = undefined;
    this.remindAtMs = 0;
    this.logger.info('new connections use the certificate as it is now', facts(this.material));
  }

  close(): void {
    clearInterval(this.timer);
  }

  private look(): void {
    const changed = this.material.changedFiles();
    if (changed !== undefined && changed !== this.refused) {
      // Files that are being replaced one by one do not fit each other until the last: the next look
      // finds them changed again.
      if (this.reload() !== undefined) this.refused = changed;
    }
    this.remind();
  }

  private remind(): void {
    const nowMs = Date.now();
    const leftSeconds = this.material.expirySeconds - nowMs / 1000;
    if (leftSeconds > WARN_SECONDS || nowMs < this.remindAtMs) return;
    this.remindAtMs = nowMs + REMIND_MS;
    const days = Math.floor(leftSeconds / 86_400);
    const when = leftSeconds < 0 ? 'has expired' : `expires in ${days} days`;
    this.logger.warn(
      `the certificate of this node, or its authority, ${when}: make a new one with ftctl pki node; ` +
        'after that day no new connection to the peer comes about',
      facts(this.material),
    );
  }
}

/** Strangers can make this node write: so many lines at once, then one in this time. */
const LINES_AT_ONCE = 10;
const LINE_MS = 5000;

/** For TcpListener.onTrouble. */
export function troubleTo(logger: Logger): (error: FtError) => void {
  const lines = new LineBudget(LINES_AT_ONCE, LINE_MS);
  return ({ message, code, facts: more }) => {
    const unsaid = lines.take(performance.now() * 1000);
    if (unsaid === undefined) return;
    const level = code === 'FT_ERR_DEFECT' ? 'error' : 'warn';
    const rest = unsaid === 0 ? {} : { unsaid };
    logger[level](message, { event: 'door', code, ...more, ...rest });
  };
}

function facts({ names, expirySeconds }: TlsMaterial): Record<string, string> {
  return { subject: names.subject, expires: new Date(expirySeconds * 1000).toISOString() };
}
