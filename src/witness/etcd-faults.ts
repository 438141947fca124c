/**
 * What went wrong at an etcd member, in words for the operator: which endpoint, what it said, what
 * to do. Several members may each have a reason; the one that people can act on best gives the code.
 */
import { FtError } from '../common/errors';

/** From the most telling to the least. */
const KINDS = ['file', 'cluster', 'permission', 'tls', 'full', 'unreachable'] as const;
export type FaultKind = (typeof KINDS)[number];

/** One endpoint's reason for not having answered. */
export interface Fault {
  readonly endpoint: string;
  readonly kind: FaultKind;
  /** "refused the connection (ECONNREFUSED)": follows the endpoint's name in a sentence. */
  readonly said: string;
}

const CODES: Readonly<Record<FaultKind, string>> = {
  file: 'FT_ERR_WITNESS_FILE',
  cluster: 'FT_ERR_WITNESS_CLUSTER',
  permission: 'FT_ERR_WITNESS_PERMISSION',
  tls: 'FT_ERR_WITNESS_TLS',
  full: 'FT_ERR_WITNESS_FULL',
  unreachable: 'FT_ERR_WITNESS_UNREACHABLE',
};

const TO_DO: Readonly<Record<FaultKind, string>> = {
  file: 'Put the file right, or the flag that names it.',
  cluster: 'Name only members of one and the same cluster in --witness.',
  permission:
    'Check --witness-user and --witness-password-file, and that the user may read and write ' +
    'the keys under --witness-prefix.',
  tls: "Check --witness-ca, --witness-cert and --witness-key, and the names in etcd's certificate.",
  full: 'Compact and defragment etcd, then disarm its space alarm.',
  unreachable: 'Check that etcd runs there with a majority of its members, and the network.',
};

/** The error for a question that no endpoint answered. `faults` has at least one. */
export function unanswered(faults: readonly Fault[]): FtError {
  const kind = KINDS.find((one) => faults.some((fault) => fault.kind === one)) ?? 'unreachable';
  const said = faults.map((fault) => `${fault.endpoint} ${fault.said}`).join('; ');
  const text = `The etcd witness gives no answer: ${said}. ${TO_DO[kind]}`;
  const endpoints = faults.map((fault) => fault.endpoint).join(' ');
  return new FtError(CODES[kind], text, { endpoints, cause: said });
}

/** What an HTTP answer that is no success says. */
export function faultOfAnswer(endpoint: string, status: number, text: string): Fault {
  const said = textOf(text);
  if (said === undefined) {
    return {
      ...{ endpoint, kind: 'unreachable' },
      said: `answered HTTP ${status} as no etcd does (is its JSON gateway on?)`,
    };
  }
  const words = `said ${JSON.stringify(said)}`;
  if (/database space exceeded/.test(said)) return { endpoint, kind: 'full', said: words };
  const denied =
    status === 401 || status === 403 || /user name is empty|authentication failed/.test(said);
  return { endpoint, kind: denied ? 'permission' : 'unreachable', said: words };
}

/** What a connection that failed says. */
export function faultOfError(endpoint: string, thrown: unknown): Fault {
  if (thrown instanceof FtError) {
    const file = thrown.code === CODES.file;
    return {
      endpoint,
      kind: file ? 'file' : 'unreachable',
      said: `was not asked: ${thrown.message}`,
    };
  }
  const { code = '', message = String(thrown) } = thrown as NodeJS.ErrnoException;
  const words = REASONS[code];
  if (words !== undefined) return { endpoint, kind: 'unreachable', said: `${words} (${code})` };
  if (isTls(code, message)) {
    return { endpoint, kind: 'tls', said: `failed in TLS (${code || 'no code'}: ${message})` };
  }
  return { endpoint, kind: 'unreachable', said: `failed (${code || message})` };
}

const REASONS: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'refused the connection',
  ECONNRESET: 'broke the connection off',
  EPIPE: 'broke the connection off',
  EHOSTUNREACH: 'cannot be reached',
  ENETUNREACH: 'cannot be reached',
  ETIMEDOUT: 'cannot be reached',
  ENOTFOUND: 'has a name that is not known',
  EAI_AGAIN: 'has a name that cannot be looked up now',
};

function isTls(code: string, message: string): boolean {
  return (
    /^(ERR_(TLS|SSL|OSSL)|EPROTO|CERT_|UNABLE_TO_|DEPTH_ZERO|SELF_SIGNED|HOSTNAME_)/.test(code) ||
    /\b(SSL|TLS|PEM|certificate)\b/i.test(message)
  );
}

/** The words of etcd's JSON error, or undefined when it is none. */
function textOf(text: string): string | undefined {
  try {
    const { error, message } = JSON.parse(text) as { error?: unknown; message?: unknown };
    const said = typeof message === 'string' ? message : error;
    return typeof said === 'string' ? said.slice(0, 200) : undefined;
  } catch {
    return undefined;
  }
}
