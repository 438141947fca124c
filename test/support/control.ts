/** Asks a node something over its control socket, as ftctl does. */
import http from 'node:http';

export interface ControlAnswer {
  readonly status: number;
  readonly body: Readonly<Record<string, unknown>>;
}

const ANSWER_MS = 6000;

/** Rejects when the node cannot be reached, ends before it answered, or takes too long. */
export function askControl(
  socketPath: string,
  method: 'GET' | 'POST',
  path: string,
): Promise<ControlAnswer> {
  return new Promise((resolve, reject) => {
    const request = http.request({ socketPath, method, path, timeout: ANSWER_MS }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (piece: string) => {
        text += piece;
      });
      response.on('error', reject);
      response.on('end', () => {
        const body = JSON.parse(text) as Record<string, unknown>;
        resolve({ status: response.statusCode ?? 0, body });
      });
    });
    request.on('timeout', () => request.destroy(new Error(`${path} was not answered in time.`)));
    request.on('error', reject);
    request.end();
  });
}
