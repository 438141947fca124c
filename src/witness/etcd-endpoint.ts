/**
 * One member of an etcd cluster, asked over HTTP: etcd's own JSON gateway, a POST for each call.
 *
 * Connections are kept open between calls. Certificates are read again after a call that failed: a
 * process that runs for months outlives the certificate it began with.
 */
import { readFile } from 'node:fs/promises';
import http from 'node:http';
import https from 'node:https';
import { FtError } from '../common/errors';

/** Paths of PEM files; each may be left out, certificate and key only together. */
export interface TlsFiles {
  readonly ca?: string | undefined;
  readonly cert?: string | undefined;
  readonly key?: string | undefined;
}

export interface HttpAnswer {
  readonly status: number;
  readonly text: string;
}

interface TlsContent {
  ca?: Buffer;
  cert?: Buffer;
  key?: Buffer;
}

/** What we ask for fits into a few kilobytes; whoever sends more is not etcd. */
const ANSWER_BYTES_MAX = 64 * 1024;
/** Calls at once to one member are few: a claim, and the look that keeps connections warm. */
const IDLE_SOCKETS_MAX = 2;

export class EtcdEndpoint {
  /** The cluster it belongs to, once it was heard. */
  clusterId: string | undefined;
  /** Whether its last call failed: then others are asked first. */
  failed = false;
  /** "http://10.0.0.1:2379", as the operator wrote it. */
  readonly name: string;
  private readonly url: URL;
  private readonly agent: http.Agent;
  private tls: Promise<TlsContent> | undefined;

  /** `name` is an http or https URL without path, query, user and password. */
  constructor(
    name: string,
    private readonly files: TlsFiles,
  ) {
    this.name = name;
    this.url = new URL(name);
    const options = { keepAlive: true, maxFreeSockets: IDLE_SOCKETS_MAX };
    this.agent =
      this.url.protocol === 'https:' ? new https.Agent(options) : new http.Agent(options);
  }

  /**
   * Sends `body` to `path` and resolves with whatever HTTP status came. Rejects with the system's
   * or TLS's error, or with the signal's. A rejection leaves open whether etcd acted.
   */
  async post(
    path: string,
    body: string,
    token: string | undefined,
    signal: AbortSignal,
  ): Promise<HttpAnswer> {
    try {
      const answer = await this.exchange(path, body, token, signal);
      this.failed = false;
      return answer;
    } catch (thrown) {
      this.failed = true;
      this.tls = undefined;
      throw thrown;
    }
  }

  close(): void {
    this.agent.destroy();
  }

  private async exchange(
    path: string,
    body: string,
    token: string | undefined,
    signal: AbortSignal,
  ): Promise<HttpAnswer> {
    const secure = this.url.protocol === 'https:';
    if (secure) this.tls ??= readTls(this.files);
    const tls = await this.tls;
    const headers: http.OutgoingHttpHeaders = {
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(body),
    };
    if (token !== undefined) headers['authorization'] = token;
    const options: https.RequestOptions = {
      ...{ method: 'POST', agent: this.agent, headers, signal, path },
      // A URL's host wears brackets around an IPv6 address; a socket wants none.
      hostname: this.url.hostname.replace(/^\[(.*)\]$/, '$1'),
      port: this.url.port === '' ? (secure ? 443 : 80) : this.url.port,
      ...tls,
      ...(secure && { minVersion: 'TLSv1.2' as const }),
    };
    return new Promise((resolve, reject) => {
      const request = (secure ? https : http).request(options, (response) => {
        readAnswer(response).then(resolve, reject);
      });
      request.on('error', reject);
      request.end(body);
    });
  }
}

function readAnswer(response: http.IncomingMessage): Promise<HttpAnswer> {
  return new Promise((resolve, reject) => {
    const pieces: Buffer[] = [];
    let bytes = 0;
    response.on('data', (piece: Buffer) => {
      bytes += piece.length;
      pieces.push(piece);
      if (bytes > ANSWER_BYTES_MAX) response.destroy(new Error('its answer is far too long'));
    });
    response.on('error', reject);
    response.on('end', () => {
      const text = Buffer.concat(pieces).toString('utf8');
      resolve({ status: response.statusCode ?? 0, text });
    });
  });
}

async function readTls(files: TlsFiles): Promise<TlsContent> {
  const content: TlsContent = {};
  for (const part of ['ca', 'cert', 'key'] as const) {
    const file = files[part];
    if (file !== undefined) content[part] = await readSecret(`--witness-${part}`, file);
  }
  return content;
}

/** Reads a small file that a flag names. Rejects with FT_ERR_WITNESS_FILE. */
export async function readSecret(flag: string, file: string): Promise<Buffer> {
  try {
    return await readFile(file);
  } catch (thrown) {
    const cause = (thrown as NodeJS.ErrnoException).code ?? 'unknown';
    const message = `The file ${file} cannot be read (${cause}); check ${flag} and its permission.`;
    throw new FtError('FT_ERR_WITNESS_FILE', message, { flag, path: file, cause }, thrown);
  }
}
