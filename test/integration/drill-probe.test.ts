/**
 * The probe of live drills against servers of our own on loopback: each kind of probe is answered, a
 * server that is away for a while shows as a gap of that length, and a stranger's socket is nobody's
 * node.
 */
import dgram from 'node:dgram';
import { mkdtempSync, rmSync } from 'node:fs';
import http from 'node:http';
import net, { type AddressInfo } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { parseProbe } from '../../src/drill/live/probe';
import { ProbeClient } from '../../src/drill/live/probe-client';
import { ownerOfSocket } from '../../src/drill/live/socket-owner';
import { monotonicUs, sleep, until } from '../../src/drill/process/time';

const RATE = 100;

async function listening(server: net.Server, port = 0): Promise<number> {
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
}

function ended(server: net.Server): Promise<void> {
  return new Promise((resolve) => server.close(() => resolve()));
}

async function answers(url: string, count = 5): Promise<void> {
  const client = new ProbeClient(parseProbe(url), RATE);
  client.start();
  try {
    await until(`answers of ${url}`, () => client.counts.answered >= count, 5000);
  } finally {
    await client.close();
  }
}

test('TCP, and a gap as long as the server was away', async () => {
  const server = net.createServer((socket) => socket.on('error', () => undefined).resume());
  const port = await listening(server);
  const client = new ProbeClient(parseProbe(`tcp://127.0.0.1:${port}`), RATE);
  client.start();
  await until('answers', () => client.counts.answered > 10, 5000);
  const fromUs = monotonicUs();
  await ended(server);
  await sleep(300);
  const toUs = monotonicUs();
  await listening(server, port);
  const before = client.counts.answered;
  await until('answers again', () => client.counts.answered > before + 3, 5000);
  await client.close();
  await ended(server);
  const gap = client.gap(fromUs, toUs);
  const gapMs = gap === undefined ? 0 : (gap.toUs - gap.fromUs) / 1000;
  expect(gapMs).toBeGreaterThan(290);
  const unanswered = client.timeline(fromUs, toUs).filter(([, latencyUs]) => latencyUs < 0);
  expect(unanswered.length).toBeGreaterThan(3);
});

test('HTTP: what a server says counts, but not that it failed', async () => {
  let status = 404;
  const server = http.createServer((_request, response) => response.writeHead(status).end('x'));
  const port = await listening(server);
  const url = `http://127.0.0.1:${port}/health`;
  await answers(url);
  status = 503;
  await expect(answers(url)).rejects.toThrow(/in vain for answers/);
  await ended(server);
});

test('UDP: any answer to the given bytes', async () => {
  const server = dgram.createSocket('udp4');
  server.on('message', (bytes, from) => {
    if (bytes.toString('hex') === '0aff') server.send('yes', from.port, from.address);
  });
  await new Promise<void>((resolve) => server.bind(0, '127.0.0.1', resolve));
  await answers(`udp://127.0.0.1:${server.address().port}?hex=0aff`);
  server.close();
});

test('ICMP, by the program ping', async () => {
  await answers('icmp://127.0.0.1', 20);
});

test('whose a socket is, is what the kernel says', async () => {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'ft-owner-'));
  const file = path.join(folder, 'one.sock');
  const server = net.createServer();
  await new Promise<void>((resolve) => server.listen(file, resolve));
  expect(ownerOfSocket(file)).toBe(process.pid);
  await ended(server);
  expect(() => ownerOfSocket(file)).toThrow(/No process of this host serves/);
  rmSync(folder, { recursive: true });
});
