/**
 * What can be asked over the control socket: each route once, as docs/control-api.openapi.yaml
 * describes it; a test holds the two together in both directions.
 */
import { FtError } from '../common/errors';
import type { ConsoleDoor } from './console-door';
import type { Journal } from './journal';

export interface ControlRoute {
  readonly method: 'GET' | 'POST';
  readonly path: string;
  /** One answer; a stream of lines; or raw bytes both ways after an upgrade. */
  readonly kind: 'answer' | 'lines' | 'upgrade';
}

export const CONTROL_ROUTES = [
  { method: 'GET', path: '/v1/status', kind: 'answer' },
  { method: 'GET', path: '/v1/samples', kind: 'lines' },
  { method: 'GET', path: '/v1/events', kind: 'lines' },
  { method: 'POST', path: '/v1/switchover', kind: 'answer' },
  { method: 'POST', path: '/v1/drain', kind: 'answer' },
  { method: 'GET', path: '/v1/config', kind: 'answer' },
  { method: 'POST', path: '/v1/reload', kind: 'answer' },
  { method: 'GET', path: '/v1/console', kind: 'upgrade' },
] as const satisfies readonly ControlRoute[];

/** Status lines with rates and percentiles of the stretches between them (status.ts). */
export interface SampleSource {
  next(): object;
  close(): void;
}

/** What the socket lets its clients ask of the node. Answers are plain values for JSON. */
export interface ControlTarget {
  status(): object;
  samples(): SampleSource;
  readonly journal: Journal;
  /** Resolves with what it took, or with the FtError that says why it was not done, or that nobody
   * here knows how it ended. */
  switchover(): Promise<object | FtError>;
  drain(force: boolean): Promise<object | FtError>;
  /** The settings in effect. */
  config(): object;
  reload(): object | FtError;
  readonly console: ConsoleDoor;
}

/** A request as far as routes look at it. */
export interface ControlRequest {
  readonly route: ControlRoute & { readonly path: (typeof CONTROL_ROUTES)[number]['path'] };
  readonly query: URLSearchParams;
}

/** The request's route, or the error that answers it, with its HTTP status. */
export function findRoute(
  method: string,
  url: string,
): ControlRequest | { readonly status: 404 | 405; readonly error: FtError } {
  const [path = '', search = ''] = url.split('?', 2);
  const there = CONTROL_ROUTES.filter((route) => route.path === path);
  const route = there.find((one) => one.method === method);
  if (route !== undefined) return { route, query: new URLSearchParams(search) };
  const [other] = there;
  if (other !== undefined) {
    const message = `${path} is asked with ${other.method}, not with ${method}.`;
    return { status: 405, error: new FtError('FT_ERR_CONTROL_REQUEST', message) };
  }
  const all = CONTROL_ROUTES.map((one) => `${one.method} ${one.path}`).join(', ');
  const message = `There is no such thing here; there are ${all}.`;
  return { status: 404, error: new FtError('FT_ERR_CONTROL_REQUEST', message) };
}

/** A number of the query: `fallback` when it is not given, an FtError when it is none, or is out of
 * bounds. */
export function numberOf(
  query: URLSearchParams,
  name: string,
  [min, max, fallback]: readonly [min: number, max: number, fallback: number],
): number | FtError {
  const text = query.get(name);
  if (text === null) return fallback;
  const value = /^[0-9]{1,16}$/.test(text) ? Number(text) : Number.NaN;
  if (value >= min && value <= max) return value;
  return badRequest(
    `${name} is ${JSON.stringify(text)}; it must be a number from ${min} to ${max}.`,
  );
}

/** "1" or "true"; else false, or an FtError. */
export function switchOf(query: URLSearchParams, name: string): boolean | FtError {
  const text = query.get(name);
  if (text === null || text === '0' || text === 'false') return false;
  if (text === '1' || text === 'true') return true;
  return badRequest(`${name} is ${JSON.stringify(text)}; it must be 0 or 1.`);
}

export function badRequest(message: string): FtError {
  return new FtError('FT_ERR_CONTROL_REQUEST', message);
}
