/**
 * Asks a node over its control socket: one request and one JSON answer, a stream of lines, or the
 * guest's console. What can be asked: docs/control-api.openapi.yaml.
 */
import { request } from 'node:http';
import type { Duplex } from 'node:stream';
import { FtError } from '../common/errors';
import { CONTROL_FOLDER, controlSockets } from './control-sockets';

/** What the node answered; `body` is a JSON object. */
export interface ControlAnswer {
  readonly status: number;
  readonly body: Readonly<Record<string, unknown>>;
}

/** A status comes at once; a switchover takes seconds at most, unless the witness goes away in it. */
const ANSWER_MS_MAX = 30_000;
const ANSWER_BYTES_MAX = 1024 * 1024;

/**
 * Resolves with whatever the node says. Rejects with FT_ERR_CONTROL_UNREACHABLE when nobody does,
 * FT_ERR_CONTROL_UNANSWERED when somebody took a POST, which may have been done, and does not say, or
 * FT_ERR_CONTROL_ANSWER when it is no JSON object.
 */
export function askNode(
  socketPath: string,
  method: 'GET' | 'POST',
  path: string,
  body?: object,
  /** Where sockets are looked for, to name them in the error, if there is none at the path. */
  folder: string = CONTROL_FOLDER,
): Promise<ControlAnswer> {
  return new Promise((resolve, reject) => {
    const fail = (error: NodeJS.ErrnoException): void => {
      const taken = method === 'POST' && error.syscall !== 'connect';
      reject(taken ? unanswered(socketPath, error) : unreachable(socketPath, error, folder));
    };
    const asked = request({ socketPath, method, path, timeout: ANSWER_MS_MAX }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (piece: string) => {
        text += piece;
        if (text.length > ANSWER_BYTES_MAX) response.destroy(new Error('the answer is too long'));
      });
      response.on('error', fail);
      response.on('end', () => {
        const body = parseObject(text);
        if (body === undefined) reject(senseless(socketPath));
        else resolve({ status: response.statusCode ?? 0, body });
      });
    });
    asked.on('timeout', () => asked.destroy(new Error(`no answer for ${ANSWER_MS_MAX / 1000} s`)));
    asked.on('error', fail);
    asked.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

/** A stream of lines that was opened. */
export interface LineReader {
  /** Resolves when the node has ended it; "gone" when it broke off. */
  readonly ended: Promise<'done' | 'gone'>;
  close(): void;
}

type Line = Readonly<Record<string, unknown>>;

/**
 * Reads lines, each a JSON object, until the node ends the stream or `close()`. Resolves with the
 * reader, or with the answer of a node that refuses; rejects as askNode() does.
 */
export function readLines(
  socketPath: string,
  path: string,
  onLine: (line: Line) => void,
): Promise<LineReader | ControlAnswer> {
  return new Promise((resolve, reject) => {
    const asked = request({ socketPath, method: 'GET', path }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      const status = response.statusCode ?? 0;
      const takeLines = (piece: string): void => {
        text += piece;
        const lines = text.split('\n');
        text = lines.pop() ?? '';
        for (const line of lines) {
          const value = parseObject(line);
          if (value !== undefined) onLine(value);
        }
        if (text.length > ANSWER_BYTES_MAX) response.destroy(new Error('a line is too long'));
      };
      response.on('data', (piece: string) => {
        if (status === 200) takeLines(piece);
        else if (text.length < ANSWER_BYTES_MAX) text += piece;
      });
      if (status !== 200) {
        response.on('error', (error) => reject(unreachable(socketPath, error)));
        response.on('end', () => resolve({ status, body: parseObject(text) ?? {} }));
        return;
      }
      const ended = new Promise<'done' | 'gone'>((done) => {
        response.on('end', () => done('done'));
        response.on('error', () => done('gone'));
      });
      resolve({ ended, close: () => response.destroy() });
    });
    asked.on('error', (error) => reject(unreachable(socketPath, error)));
    asked.end();
  });
}

/** Attaches to the guest's console: raw bytes both ways. Resolves with the answer of a node that
 * refuses; rejects as askNode() does. */
export function attachConsole(
  socketPath: string,
): Promise<{ readonly stream: Duplex; readonly head: Buffer } | ControlAnswer> {
  return new Promise((resolve, reject) => {
    const headers = { Connection: 'Upgrade', Upgrade: 'romulus-console' };
    const asked = request({ socketPath, method: 'GET', path: '/v1/console', headers });
    asked.on('upgrade', (_response, stream, head) => resolve({ stream, head }));
    asked.on('response', (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (piece: string) => {
        if (text.length < ANSWER_BYTES_MAX) text += piece;
      });
      response.on('error', (error) => reject(unreachable(socketPath, error)));
      response.on('end', () => {
        resolve({ status: response.statusCode ?? 0, body: parseObject(text) ?? {} });
      });
    });
    asked.on('error', (error) => reject(unreachable(socketPath, error)));
    asked.end();
  });
}

function parseObject(text: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
    return value as Record<string, unknown>;
  } catch {
    return undefined;
  }
}

function unreachable(
  path: string,
  error: NodeJS.ErrnoException,
  folder: string = CONTROL_FOLDER,
): FtError {
  const why: Readonly<Record<string, string>> = {
    ENOENT: `There is no such socket. ${whereElse(folder)}`,
    ECONNREFUSED: 'The node that served it has ended. Start it again.',
    EACCES: 'It belongs to the user that runs the node. Run ftctl as that user.',
    ECONNRESET: 'The node ended before it answered. Ask the other node for its status.',
  };
  const todo = why[error.code ?? ''] ?? `${error.message}. Is the node alive and well?`;
  const message = `No node answers at the control socket ${path}: ${todo}`;
  return new FtError('FT_ERR_CONTROL_UNREACHABLE', message, { path, cause: error.code }, error);
}

function unanswered(path: string, error: NodeJS.ErrnoException): FtError {
  const message =
    `The node at the control socket ${path} took the request and did not answer it ` +
    `(${error.message}), so it is not known what came of it. Ask both nodes for their status before ` +
    'you ask again.';
  return new FtError('FT_ERR_CONTROL_UNANSWERED', message, { path, cause: error.code }, error);
}

function whereElse(folder: string): string {
  const there = controlSockets(folder);
  if (there.length > 0) return `Name one that there is with --control: ${there.join(' and ')}.`;
  return 'Start the node with --control, and name the same path here with --control.';
}

function senseless(path: string): FtError {
  const message = `What answers at ${path} is no node of this release. Check --control.`;
  return new FtError('FT_ERR_CONTROL_ANSWER', message, { path });
}
