/** What a standby may say, and what the ends of its connections allow. */
import { FtError } from '../../src/common/errors';
import { SessionEnd } from '../../src/standby/session-end';
import { Signs } from '../../src/standby/signs';
import { type Connection, closedByPeer } from '../../src/transport/connection';
import { allocFrameBuffer } from '../../src/wire/buffer-pool';
import type { FrameBuffer, FrameHeader } from '../../src/wire/frame';
import {
  HEARTBEAT_BYTES,
  noHeartbeat,
  readHeartbeat,
  writeHeartbeat,
} from '../../src/wire/heartbeat';
import { ManualClock } from '../support/manual-clock';

interface Sent {
  readonly epoch: number;
  readonly sequence: number;
  readonly echo: number;
}

class Wire {
  readonly sent: Sent[] = [];
  /** What each beat told of the replication connection: bytes received, and sent. */
  readonly counts: [number, number][] = [];
  /** Frames wait here for the system when it does not take them at once. */
  readonly waiting: (() => void)[] = [];
  takes = true;
  readonly connection = {
    send: (header: FrameHeader, buffer: FrameBuffer, bytes: number, onFlushed?: () => void) => {
      const beat = noHeartbeat();
      expect(readHeartbeat(buffer.body.subarray(0, bytes), beat)).toBeUndefined();
      const { sequence, echo } = beat;
      this.sent.push({ epoch: header.epoch, sequence, echo });
      this.counts.push([beat.received, beat.sent]);
      if (this.takes) onFlushed?.();
      else if (onFlushed !== undefined) this.waiting.push(onFlushed);
    },
  } as Connection;
}

function beat(sequence: number): Uint8Array {
  const { body } = allocFrameBuffer(HEARTBEAT_BYTES);
  writeHeartbeat({ ...noHeartbeat(), sequence }, body);
  return body;
}

const replication = { bytesReceived: 0, bytesSent: 0 };

function speaking(): { wire: Wire; signs: Signs } {
  const wire = new Wire();
  const signs = new Signs({ generation: 3, epoch: () => 7 });
  signs.begin(wire.connection, replication);
  return { wire, signs };
}

describe('signs', () => {
  test('each beat is echoed at once, and the newest echo goes with every beat', () => {
    const { wire, signs } = speaking();
    signs.beat();
    signs.heard(beat(1));
    signs.heard(beat(2));
    signs.beat();
    expect(wire.sent).toEqual([
      { epoch: 7, sequence: 1, echo: 0 },
      { epoch: 7, sequence: 2, echo: 1 },
      { epoch: 7, sequence: 3, echo: 2 },
      { epoch: 7, sequence: 4, echo: 2 },
    ]);
  });

  test('beats that come while one is on its way are answered by one, and it names the newest', () => {
    const { wire, signs } = speaking();
    wire.takes = false;
    signs.heard(beat(1));
    signs.heard(beat(2));
    signs.heard(beat(3));
    expect(wire.sent).toHaveLength(1);
    wire.takes = true;
    wire.waiting.shift()?.();
    expect(wire.sent.map((sent) => sent.echo)).toEqual([1, 3]);
  });

  test('hushed, nothing new is echoed, although it beats; then the next beat is', () => {
    const { wire, signs } = speaking();
    signs.heard(beat(1));
    signs.hush();
    signs.heard(beat(2));
    signs.beat();
    expect(wire.sent.map((sent) => sent.echo)).toEqual([1, 1]);
    signs.speak();
    signs.checkAck();
    signs.beat();
    expect(wire.sent.at(-1)?.echo).toBe(1);
    signs.heard(beat(3));
    expect(wire.sent.at(-1)?.echo).toBe(3);
  });

  test('an answer that was due is not given once hushed', () => {
    const { wire, signs } = speaking();
    wire.takes = false;
    signs.heard(beat(1));
    signs.heard(beat(2));
    signs.hush();
    wire.waiting.shift()?.();
    expect(wire.sent).toHaveLength(1);
  });

  test('each beat tells how the replication connection stands', () => {
    const { wire, signs } = speaking();
    signs.beat();
    Object.assign(replication, { bytesReceived: 2 ** 40 + 5, bytesSent: 46 });
    signs.beat();
    expect(wire.counts).toEqual([
      [0, 0],
      [2 ** 40 + 5, 46],
    ]);
  });

  test('what is no heartbeat is an error', () => {
    const { signs, wire } = speaking();
    expect(signs.heard(new Uint8Array(3))?.code).toBe('FT_ERR_MESSAGE');
    expect(wire.sent).toEqual([]);
  });
});

function lost(cause: string): FtError {
  return new FtError('FT_ERR_CONNECTION_LOST', 'gone', { cause });
}

test('an end is the doing of the peer’s kernel when it sent a FIN or a reset', () => {
  expect(closedByPeer(undefined)).toBe(true);
  expect(closedByPeer(new FtError('FT_ERR_FRAME_TRUNCATED', 'half'))).toBe(true);
  for (const code of ['ECONNRESET', 'EPIPE']) expect(closedByPeer(lost(code))).toBe(true);
  for (const code of ['ETIMEDOUT', 'EHOSTUNREACH', 'ENETUNREACH', 'ECONNABORTED', 'closed']) {
    expect(closedByPeer(lost(code))).toBe(false);
  }
  expect(closedByPeer(new FtError('FT_ERR_FRAME_MAGIC', 'rubbish'))).toBe(false);
});

describe('the ends of a session', () => {
  function ending(): { clock: ManualClock; end: SessionEnd; said: string[] } {
    const clock = new ManualClock();
    const said: string[] = [];
    const end = new SessionEnd(clock, 60, {
      onHalf: () => said.push('half'),
      onClosed: () => said.push('closed'),
      onLapsed: () => said.push('lapsed'),
    });
    return { clock, end, said };
  }

  test('both closed by the peer: a claim at once', () => {
    const { clock, end, said } = ending();
    end.ended(undefined);
    expect(said).toEqual(['half']);
    end.ended(lost('ECONNRESET'));
    expect(said).toEqual(['half', 'closed']);
    clock.advance(1000);
    expect(said).toHaveLength(2);
  });

  test('one alone: when the last sign has lapsed', () => {
    const { clock, end, said } = ending();
    end.ended(lost('ECONNRESET'));
    clock.advance(59.9);
    expect(said).toEqual(['half']);
    clock.advance(0.2);
    expect(said).toEqual(['half', 'lapsed']);
  });

  test('two ends of which one is the path’s: no proof', () => {
    for (const errors of [
      [undefined, lost('ETIMEDOUT')],
      [lost('ETIMEDOUT'), undefined],
      [lost('EHOSTUNREACH'), lost('ETIMEDOUT')],
    ]) {
      const { clock, end, said } = ending();
      for (const error of errors) end.ended(error);
      expect(said).toEqual(['half']);
      clock.advance(61);
      expect(said).toEqual(['half', 'lapsed']);
    }
  });

  test('a second end within the wait ends it', () => {
    const { clock, end, said } = ending();
    end.ended(undefined);
    clock.advance(30);
    end.ended(undefined);
    expect(said).toEqual(['half', 'closed']);
    clock.advance(100);
    expect(said).toHaveLength(2);
  });

  test('a session that this side closed says nothing', () => {
    const { clock, end, said } = ending();
    end.ended(undefined);
    end.stop();
    clock.advance(100);
    expect(said).toEqual(['half']);
  });
});
