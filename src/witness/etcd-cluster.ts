/**
 * An etcd cluster as one thing that can be asked: several members, one answer, one deadline.
 *
 *   ask ─▶ member 1 ── answers ───────────────────────────────▶ the answer; the others are let go
 *             │ fails, or is silent for STAGGER_MS
 *             └─▶ member 2 (member 1 may still answer) ─▶ … ── all failed, or the deadline ─▶ error
 *
 * One question may so reach etcd more than once, and each copy may take effect. Whoever asks for a
 * change therefore asks in a way that takes effect once at most (etcd.ts: a transaction that
 * compares the revision it is about to change), and may then believe any copy's answer.
 *
 * A member belongs to a cluster, and only to the first one seen here: two clusters under one flag
 * would be two witnesses. So a member that never answered before is asked something harmless first.
 */
import type { FtError } from '../common/errors';
import { EtcdEndpoint, type HttpAnswer, readSecret, type TlsFiles } from './etcd-endpoint';
import { type Fault, faultOfAnswer, faultOfError, unanswered } from './etcd-faults';
import { parseObject } from './record';

export interface EtcdUser {
  readonly name: string;
  readonly passwordFile: string;
}

export interface EtcdClusterOptions {
  /** http or https URLs, at least one; the first is asked first while all are well. */
  readonly endpoints: readonly string[];
  readonly tls: TlsFiles;
  readonly user: EtcdUser | undefined;
  /** A key that the user may read, for the harmless first question. */
  readonly probeKey: string;
}

export type JsonObject = Readonly<Record<string, unknown>>;

/** How long the next member waits for the one before it. */
const STAGGER_MS = 100;
const RANGE = '/v3/kv/range';
const AUTHENTICATE = '/v3/auth/authenticate';
const AUTH_IS_OFF = 'authentication is not enabled';

/** Thrown within this file: an endpoint's reason as a value that can be thrown. */
class EndpointFault extends Error {
  constructor(readonly fault: Fault) {
    super(fault.said);
  }
}

export class EtcdCluster {
  private readonly endpoints: readonly EtcdEndpoint[];
  private clusterId: string | undefined;
  private clusterName = '';
  private token: string | undefined;

  constructor(private readonly options: EtcdClusterOptions) {
    this.endpoints = options.endpoints.map((name) => new EtcdEndpoint(name, options.tls));
  }

  /**
   * Resolves with the first good answer. `until` is the deadline (performance.now, ms). Rejects
   * with FT_ERR_WITNESS_…; it is then not known whether a change that was asked for took effect or
   * will do so later.
   */
  ask(path: string, body: JsonObject, until: number): Promise<JsonObject> {
    const text = JSON.stringify(body);
    // Those that failed last go last; sort keeps the operator's order among equals.
    const order = [...this.endpoints].sort((a, b) => Number(a.failed) - Number(b.failed));
    return new Promise((resolve, reject) => {
      const race = new Race(order, until, {
        call: (endpoint, signal) => this.call(endpoint, path, text, signal),
        resolve,
        reject,
      });
      race.start();
    });
  }

  /**
   * Reads `key` at every member, each by itself, so that connections stay open, tokens stay valid
   * and members that left or came back are known before they are needed. Resolves with the answers
   * and the faults; never rejects.
   */
  async lookRound(key: string, until: number): Promise<{ answers: JsonObject[]; faults: Fault[] }> {
    const text = JSON.stringify({ key });
    const answers: JsonObject[] = [];
    const faults: Fault[] = [];
    await Promise.all(
      this.endpoints.map(async (endpoint) => {
        const limitMs = Math.max(1, Math.ceil(until - performance.now()));
        const signal = AbortSignal.timeout(limitMs);
        try {
          answers.push(await this.call(endpoint, RANGE, text, signal));
        } catch (thrown) {
          faults.push(signal.aborted ? silence(endpoint, limitMs) : toFault(endpoint.name, thrown));
        }
      }),
    );
    return { answers, faults };
  }

  close(): void {
    for (const endpoint of this.endpoints) endpoint.close();
  }

  /** One member, one answer of success; rejects with an EndpointFault or a connection's error. */
  private async call(
    endpoint: EtcdEndpoint,
    path: string,
    body: string,
    signal: AbortSignal,
  ): Promise<JsonObject> {
    if (endpoint.clusterId === undefined && path !== RANGE) {
      await this.call(endpoint, RANGE, JSON.stringify({ key: this.options.probeKey }), signal);
    }
    if (this.options.user !== undefined) this.token ??= await this.logIn(endpoint, signal);
    const { token } = this;
    let answer = await endpoint.post(path, body, token || undefined, signal);
    if (this.options.user !== undefined && isStaleToken(answer)) {
      // Another call may have a fresh one by now.
      if (this.token === token) this.token = await this.logIn(endpoint, signal);
      answer = await endpoint.post(path, body, this.token || undefined, signal);
    }
    const fields = parseObject(answer.text);
    if (answer.status !== 200 || fields === undefined) {
      throw new EndpointFault(faultOfAnswer(endpoint.name, answer.status, answer.text));
    }
    this.checkCluster(endpoint, fields);
    return fields;
  }

  /** A token for the user; empty where the cluster asks for none. */
  private async logIn(endpoint: EtcdEndpoint, signal: AbortSignal): Promise<string> {
    const { user } = this.options;
    if (user === undefined) return '';
    const secret = await readSecret('--witness-password-file', user.passwordFile);
    const password = secret.toString('utf8').replace(/\r?\n$/, '');
    const body = JSON.stringify({ name: user.name, password });
    const answer = await endpoint.post(AUTHENTICATE, body, undefined, signal);
    if (answer.status !== 200 && answer.text.includes(AUTH_IS_OFF)) return '';
    const token = parseObject(answer.text)?.['token'];
    if (answer.status === 200 && typeof token === 'string') return token;
    throw new EndpointFault(faultOfAnswer(endpoint.name, answer.status, answer.text));
  }

  private checkCluster(endpoint: EtcdEndpoint, fields: JsonObject): void {
    const id = (fields['header'] as JsonObject | undefined)?.['cluster_id'];
    const name = endpoint.name;
    if (typeof id !== 'string') {
      const said = 'answered as no etcd does (it names no cluster)';
      throw new EndpointFault({ endpoint: name, kind: 'unreachable', said });
    }
    if (this.clusterId === undefined) {
      this.clusterId = id;
      this.clusterName = name;
    }
    if (id !== this.clusterId) {
      endpoint.clusterId = undefined;
      const said = `belongs to another cluster than ${this.clusterName}`;
      throw new EndpointFault({ endpoint: name, kind: 'cluster', said });
    }
    endpoint.clusterId = id;
  }
}

interface RaceHandlers {
  call(endpoint: EtcdEndpoint, signal: AbortSignal): Promise<JsonObject>;
  resolve(answer: JsonObject): void;
  reject(error: FtError): void;
}

/** One question on its way to one member after the other. */
class Race {
  private readonly startedAt = performance.now();
  private readonly faults = new Map<EtcdEndpoint, Fault>();
  private readonly letGo = new AbortController();
  private alarm: NodeJS.Timeout | undefined;
  private stagger: NodeJS.Timeout | undefined;
  private started = 0;
  private over = false;

  constructor(
    private readonly order: readonly EtcdEndpoint[],
    private readonly until: number,
    private readonly handlers: RaceHandlers,
  ) {}

  start(): void {
    const limitMs = Math.max(0, this.until - this.startedAt);
    this.alarm = setTimeout(() => this.lose(), limitMs);
    this.next();
  }

  private next(): void {
    clearTimeout(this.stagger);
    const endpoint = this.order[this.started];
    if (this.over || endpoint === undefined) return;
    this.started += 1;
    this.stagger = setTimeout(() => this.next(), STAGGER_MS);
    this.handlers.call(endpoint, this.letGo.signal).then(
      (answer) => this.answered(answer),
      (thrown: unknown) => this.failed(endpoint, thrown),
    );
  }

  private answered(answer: JsonObject): void {
    if (this.over) return;
    // A process that was stopped meanwhile may see the answer before its own alarm: both are due.
    if (performance.now() > this.until) this.lose();
    else if (this.end()) this.handlers.resolve(answer);
  }

  private failed(endpoint: EtcdEndpoint, thrown: unknown): void {
    if (this.over) return;
    this.faults.set(endpoint, toFault(endpoint.name, thrown));
    if (this.faults.size === this.order.length) this.lose();
    else this.next();
  }

  /** Nobody answered, or too late. */
  private lose(): void {
    if (!this.end()) return;
    const waitedMs = Math.round(performance.now() - this.startedAt);
    const asked = this.order.slice(0, Math.max(1, this.started));
    const faults = asked.map((one) => this.faults.get(one) ?? silence(one, waitedMs));
    this.handlers.reject(unanswered(faults));
  }

  /** True for the first who ends it. */
  private end(): boolean {
    if (this.over) return false;
    this.over = true;
    clearTimeout(this.alarm);
    clearTimeout(this.stagger);
    // Calls still under way are let go: their connections are closed, their answers unheard.
    this.letGo.abort();
    return true;
  }
}

function silence(endpoint: EtcdEndpoint, waitedMs: number): Fault {
  const said = `has not answered for ${waitedMs} ms`;
  return { endpoint: endpoint.name, kind: 'unreachable', said };
}

function toFault(endpoint: string, thrown: unknown): Fault {
  return thrown instanceof EndpointFault ? thrown.fault : faultOfError(endpoint, thrown);
}

/** Tokens end when they are not used for minutes, when a member restarts, when users change. */
function isStaleToken(answer: HttpAnswer): boolean {
  if (answer.status === 200) return false;
  return /invalid auth token|revision of auth store is old|user name is empty/.test(answer.text);
}
