/**
 * A scraper for measurements: asks nodes for their metrics again and again, does nothing with what
 * they say, and prints a JSON line for each round.
 *
 *   node dist/bench/scraper.js PERIOD_MS PORT …
 */
import { connect } from 'node:net';

const [period = '1000', ...ports] = process.argv.slice(2);

/** Bytes of a page, headers included; 0 when nobody answers. */
function scrape(port: number): Promise<number> {
  return new Promise((resolve) => {
    let bytes = 0;
    const socket = connect(port, '127.0.0.1', () => {
      socket.write(`GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nConnection: close\r\n\r\n`);
    });
    socket.on('data', (piece: Buffer) => {
      bytes += piece.length;
    });
    socket.on('error', () => undefined);
    socket.on('close', () => resolve(bytes));
  });
}

function round(): void {
  const began = performance.now();
  Promise.all(ports.map((port) => scrape(Number(port)))).then(
    (bytes) => {
      const ms = Math.round((performance.now() - began) * 10) / 10;
      process.stdout.write(`${JSON.stringify({ scraped: bytes, ms })}\n`);
    },
    () => process.exit(1),
  );
}

round();
setInterval(round, Number(period));
