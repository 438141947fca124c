/**
 * One question to a guest that we know nothing of: whether it answers, and after how long. Four ways:
 *
 *   tcp://HOST:PORT             a connection is made, and closed
 *   udp://HOST:PORT?hex=BYTES   a datagram of these bytes (one zero byte if absent); any answer counts
 *   http://…, https://…         a GET; any status below 500 counts
 *   icmp://HOST                 an echo request, by the program ping
 *
 * Each probe is one of its own: a connection that a failover swallowed is not waited for by others.
 */
import dgram from 'node:dgram';
import http from 'node:http';
import https from 'node:https';
import net from 'node:net';
import { configError } from '../../config/values';

export type ProbeTarget =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number; readonly text: string }
  | {
      readonly kind: 'udp';
      readonly host: string;
      readonly port: number;
      readonly payload: Buffer;
      readonly text: string;
    }
  | { readonly kind: 'http'; readonly url: URL; readonly text: string }
  | { readonly kind: 'icmp'; readonly host: string; readonly text: string };

const ALLOWED =
  'tcp://HOST:PORT, udp://HOST:PORT, http://HOST[:PORT]/…, https://HOST[:PORT]/… or icmp://HOST';
const PAYLOAD_BYTES_MAX = 1400;
const BODY_BYTES_MAX = 1024 * 1024;

/** Throws FT_ERR_CONFIG. */
export function parseProbe(text: string): ProbeTarget {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const host = url?.hostname.replace(/^\[|\]$/g, '') ?? '';
  if (url === undefined || host === '') throw configError('probe', text, ALLOWED);
  const port = Number(url.port);
  switch (url.protocol) {
    case 'http:':
    case 'https:':
      return { kind: 'http', url, text };
    case 'icmp:':
      if (host.startsWith('-')) throw configError('probe', text, ALLOWED);
      return { kind: 'icmp', host, text };
    case 'tcp:':
    case 'udp:': {
      if (port === 0) throw configError('probe', text, ALLOWED);
      if (url.protocol === 'tcp:') return { kind: 'tcp', host, port, text };
      return { kind: 'udp', host, port, payload: payloadOf(url, text), text };
    }
    default:
      throw configError('probe', text, ALLOWED);
  }
}

function payloadOf(url: URL, text: string): Buffer {
  const hex = url.searchParams.get('hex') ?? '00';
  if (/^([0-9a-f]{2})+$/i.test(hex) && hex.length <= 2 * PAYLOAD_BYTES_MAX) {
    return Buffer.from(hex, 'hex');
  }
  throw configError('probe', text, `hex= with 1 to ${PAYLOAD_BYTES_MAX} bytes, two digits each`);
}

/** Asks once. Resolves with whether an answer came within `timeoutMs`; never rejects. */
export function probeOnce(
  target: Exclude<ProbeTarget, { readonly kind: 'icmp' }>,
  timeoutMs: number,
): Promise<boolean> {
  switch (target.kind) {
    case 'tcp':
      return probeTcp(target.host, target.port, timeoutMs);
    case 'udp':
      return probeUdp(target.host, target.port, target.payload, timeoutMs);
    case 'http':
      return probeHttp(target.url, timeoutMs);
  }
}

function probeTcp(host: string, port: number, timeoutMs: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect({ host, port });
    const end = (isAnswered: boolean): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(isAnswered);
    };
    const timer = setTimeout(() => end(false), timeoutMs);
    socket.once('connect', () => end(true));
    socket.once('error', () => end(false));
  });
}

function probeUdp(
  host: string,
  port: number,
  payload: Buffer,
  timeoutMs: number,
): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = dgram.createSocket(net.isIPv6(host) ? 'udp6' : 'udp4');
    let isOver = false;
    const end = (isAnswered: boolean): void => {
      if (isOver) return;
      isOver = true;
      clearTimeout(timer);
      socket.close();
      resolve(isAnswered);
    };
    const timer = setTimeout(() => end(false), timeoutMs);
    socket.on('error', () => end(false));
    socket.once('message', () => end(true));
    socket.connect(port, host, (error?: Error) => {
      if (error !== undefined) end(false);
      else if (!isOver) socket.send(payload);
    });
  });
}

function probeHttp(url: URL, timeoutMs: number): Promise<boolean> {
  return new Promise((resolve) => {
    const { request } = url.protocol === 'https:' ? https : http;
    const asked = request(url, { agent: false }, (response) => {
      const isAnswered = (response.statusCode ?? 500) < 500;
      let bytes = 0;
      response.on('data', (piece: Buffer) => {
        bytes += piece.length;
        if (bytes > BODY_BYTES_MAX) asked.destroy();
      });
      response.on('error', () => undefined);
      end(isAnswered);
    });
    const end = (isAnswered: boolean): void => {
      clearTimeout(timer);
      resolve(isAnswered);
    };
    const timer = setTimeout(() => {
      asked.destroy();
      end(false);
    }, timeoutMs);
    asked.on('error', () => end(false));
    asked.end();
  });
}
