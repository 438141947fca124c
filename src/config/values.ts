/**
 * Strict readers for flag values: each gives the value or throws an FT_ERR_CONFIG that names the
 * flag, the value found and what is allowed. Nothing is rounded, trimmed or guessed.
 */
import { type Address, parseAddress as readAddress } from '../common/address';
import { FtError } from '../common/errors';

/** A text that was given, for people and logs: what a URL says before its "@" may be a password. */
export function masked(text: string): string {
  return text.replace(/\/\/\S*@/g, '//***@');
}

export function configError(flag: string, given: string, allowed: string): FtError {
  const found = masked(given);
  const message = `--${flag} is ${JSON.stringify(found)}; it must be ${allowed}.`;
  return new FtError('FT_ERR_CONFIG', message, { flag, found, allowed });
}

export function parseInteger(flag: string, text: string, min: number, max: number): number {
  const value = /^(0|[1-9][0-9]{0,15})$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= min && value <= max)) {
    throw configError(flag, text, `a whole number from ${min} to ${max}`);
  }
  return value;
}

const UNIT_BYTES: Readonly<Record<string, number>> = { '': 1, K: 1024, M: 1024 ** 2, G: 1024 ** 3 };

/**
 * A size in bytes: "67108864", "65536K", "64M", "1G"; with `multipleOf` (bytes) only in whole ones of
 * those.
 */
export function parseSize(
  flag: string,
  text: string,
  min: number,
  max: number,
  multipleOf = 1,
): number {
  const range = `${formatSize(min)} to ${formatSize(max)}`;
  const whole = multipleOf === 1 ? '' : `, a multiple of ${multipleOf} bytes`;
  const allowed = `a size from ${range}, in bytes or with K, M or G${whole}`;
  const match = /^([1-9][0-9]{0,15})([KMG]?)$/.exec(text);
  const bytes = Number(match?.[1]) * (UNIT_BYTES[match?.[2] ?? ''] ?? 1);
  if (!(bytes >= min && bytes <= max && bytes % multipleOf === 0)) {
    throw configError(flag, text, allowed);
  }
  return bytes;
}

export function formatSize(bytes: number): string {
  for (const unit of ['G', 'M', 'K']) {
    const factor = UNIT_BYTES[unit] ?? 1;
    if (bytes >= factor && bytes % factor === 0) return `${bytes / factor}${unit}`;
  }
  return `${bytes}`;
}

/** "127.0.0.1:7001", "[::1]:7001" or "host.example:7001". */
export function parseAddress(flag: string, text: string, portMin: number): Address {
  const address = readAddress(text);
  if (address instanceof FtError || address.port < portMin) {
    const allowed = `HOST:PORT with a port from ${portMin} to 65535 (an IPv6 host in brackets)`;
    throw configError(flag, text, allowed);
  }
  return address;
}

/** Names of pairs and nodes: they become file names at the witness. */
export function parseName(flag: string, text: string): string {
  if (/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(text)) return text;
  throw configError(
    flag,
    text,
    '1 to 64 letters, digits, ".", "_" or "-", a letter or digit first',
  );
}

/** A network interface's name, as Linux limits it. */
export function parseTap(flag: string, text: string): string {
  if (/^[A-Za-z0-9._-]{1,15}$/.test(text)) return text;
  throw configError(flag, text, 'the name of a network device, 1 to 15 characters');
}

/** A network namespace: a name as `ip netns` knows it, or the path of a file that stands for one. */
export function parseNetns(flag: string, text: string): string {
  const isName = text !== '.' && text !== '..' && /^[^/\0]{1,255}$/.test(text);
  if (isName || /^\/[^\0]+$/.test(text)) return text;
  throw configError(flag, text, 'a network namespace: a name of ip netns, or a path');
}

export function parseMac(flag: string, text: string): string {
  const valid = /^[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}$/.test(text);
  const first = Number.parseInt(text.slice(0, 2), 16);
  if (valid && (first & 1) === 0 && !/^(00:){5}00$/.test(text)) return text.toLowerCase();
  throw configError(flag, text, 'six hexadecimal bytes "AA:BB:CC:DD:EE:FF", not a group address');
}

export function parseChoice<T extends string>(
  flag: string,
  text: string,
  choices: readonly T[],
): T {
  const found = choices.find((choice) => choice === text);
  if (found === undefined) throw configError(flag, text, `one of ${choices.join(', ')}`);
  return found;
}

/** As many bytes as the system takes for the path of a UNIX socket, without its closing zero. */
const SOCKET_PATH_BYTES_MAX = 107;

export function parseSocketPath(flag: string, text: string): string {
  const bytes = Buffer.byteLength(text);
  if (bytes === 0 || bytes > SOCKET_PATH_BYTES_MAX || text.includes('\0')) {
    throw configError(flag, text, `a path of 1 to ${SOCKET_PATH_BYTES_MAX} bytes`);
  }
  return text;
}

/** A path of this host. Whether anything is there, whoever opens it will say. */
export function parsePath(flag: string, text: string): string {
  if (text !== '' && !text.includes('\0')) return text;
  throw configError(flag, text, 'a path');
}

/** Any text that a program can be handed. */
export function parseText(flag: string, text: string): string {
  if (!text.includes('\0')) return text;
  throw configError(flag, text, 'a text without a zero character');
}

/** What the keys of etcd begin with: it begins with a slash and does not end with one. */
export function parsePrefix(flag: string, text: string): string {
  if (text.length <= 200 && /^(\/[A-Za-z0-9._-]+)+$/.test(text)) return text;
  throw configError(flag, text, 'a slash and a name, perhaps several times over, such as /romulus');
}

/** "https://host:7080": of host and port alone. Gives its origin, without a slash at the end. */
export function parseUrl(flag: string, text: string): string {
  const origin = bareOrigin(text);
  if (origin !== undefined) return origin;
  throw configError(flag, text, `an ${BARE_URL}, such as https://node-a:7080`);
}

export const BARE_URL = 'http:// or https:// URL of host and port alone';

/** The origin of a URL that has nothing but host and port; undefined for any other text. */
export function bareOrigin(text: string): string | undefined {
  if (!/^https?:\/\/[^/?#@\s]+\/?$/.test(text) || !URL.canParse(text)) return undefined;
  const url = new URL(text);
  return url.hostname === '' ? undefined : url.origin;
}
