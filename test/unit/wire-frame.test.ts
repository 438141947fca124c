/** The frame, byte by byte: what the encoder writes and what the decoder refuses, and why. */
import { crc32c } from '../../src/common/crc32c';
import type { FtError } from '../../src/common/errors';
import { allocFrameBuffer, FrameBufferPool } from '../../src/wire/buffer-pool';
import { FrameDecoder } from '../../src/wire/decoder';
import { encodeFrame } from '../../src/wire/encoder';
import { BODY_BYTES_MAX, type Frame, FrameFlag, FrameType } from '../../src/wire/frame';

/** Fields by hand, checksums right unless said otherwise: what a hostile peer can send. */
function craft(fields: {
  magic?: string;
  version?: number;
  type?: number;
  flags?: number;
  generation?: bigint;
  epoch?: bigint;
  bodyBytes?: number;
  rawBytes?: number;
  body?: Buffer;
}): Buffer {
  const body = fields.body ?? Buffer.alloc(0);
  const header = Buffer.alloc(40);
  header.write(fields.magic ?? 'RMLS', 0, 'latin1');
  header[4] = fields.version ?? 4;
  header[5] = fields.type ?? FrameType.epoch;
  header.writeUInt16LE(fields.flags ?? 0, 6);
  header.writeBigUInt64LE(fields.generation ?? 1n, 8);
  header.writeBigUInt64LE(fields.epoch ?? 0n, 16);
  header.writeUInt32LE(fields.bodyBytes ?? body.length, 24);
  header.writeUInt32LE(fields.rawBytes ?? fields.bodyBytes ?? body.length, 28);
  header.writeUInt32LE(crc32c(body), 32);
  header.writeUInt32LE(crc32c(header.subarray(0, 36)), 36);
  return Buffer.concat([header, body]);
}

function decode(bytes: Buffer, bodyBytesMax = BODY_BYTES_MAX) {
  const decoder = new FrameDecoder(crc32c, bodyBytesMax);
  const frames: Frame[] = [];
  const error = decoder.push(bytes, (frame) =>
    frames.push({ ...frame, body: Buffer.from(frame.body) }),
  );
  return { decoder, frames, error };
}

describe('encodeFrame', () => {
  test('an epoch piece, byte for byte', () => {
    const buffer = allocFrameBuffer(16);
    buffer.body.write('abc', 'latin1');
    const header = {
      type: FrameType.epoch,
      flags: FrameFlag.last | FrameFlag.base,
      generation: 0x0000_0001_0203_0405,
      epoch: 0x001f_ffff_ffff_ffff,
    };
    expect(encodeFrame(header, buffer, 3, crc32c)).toBe(43);
    expect(buffer.bytes.toString('hex', 0, 43)).toBe(
      [
        '524d4c53', // RMLS
        '04', // version
        '05', // epoch
        '0600', // last | base
        '0504030201000000', // generation
        'ffffffffffff1f00', // epoch
        '03000000', // bodyBytes
        '03000000', // rawBytes
        'b73f4b36', // CRC-32C of "abc"
        '4ee441e3', // CRC-32C of the 36 bytes before
        '616263',
      ].join(''),
    );
  });

  test('an ack has no body and a body checksum of zero', () => {
    const buffer = allocFrameBuffer(0);
    const header = { type: FrameType.ack, flags: 0, generation: 3, epoch: 9 };
    expect(encodeFrame(header, buffer, 0, () => 0xdead)).toBe(40);
    expect(buffer.bytes.toString('hex', 24, 36)).toBe('000000000000000000000000');
  });

  test('the checksum that is handed in is the one that is used', () => {
    const buffer = allocFrameBuffer(4);
    let seen = 0;
    const header = { type: FrameType.bye, flags: 0, generation: 1, epoch: 0 };
    encodeFrame(header, buffer, 2, (bytes) => {
      seen = bytes.length;
      return -1;
    });
    expect(seen).toBe(2);
    expect(buffer.bytes.readUInt32LE(32)).toBe(0xffffffff);
  });
});

describe('FrameDecoder', () => {
  test('hands out what was sent', () => {
    const body = Buffer.from('hello');
    const epoch = 2n ** 53n - 1n;
    const { frames, error } = decode(craft({ flags: FrameFlag.last, generation: 7n, epoch, body }));
    expect(error).toBeUndefined();
    expect(frames).toEqual([
      { type: 5, flags: 2, generation: 7, epoch: Number(epoch), rawBytes: 5, body },
    ]);
  });

  test('a body inside one chunk is a view of that chunk; one across chunks is not', () => {
    const bytes = craft({ body: Buffer.alloc(100, 7) });
    const decoder = new FrameDecoder(crc32c);
    const owners: ArrayBufferLike[] = [];
    const note = (frame: Frame) => owners.push(frame.body.buffer);
    decoder.push(bytes, note);
    decoder.push(bytes.subarray(0, 90), note);
    decoder.push(bytes.subarray(90), note);
    expect(owners).toHaveLength(2);
    expect(owners[0]).toBe(bytes.buffer);
    expect(owners[1]).not.toBe(bytes.buffer);
  });

  test.each([
    ['MAGIC', craft({ magic: 'RMLX' }), /not a romulus node/],
    ['VERSION', craft({ version: 9 }), /version 9 .* version 4/],
    ['VERSION', craft({ version: 0 }), /version 0/],
    ['TYPE', craft({ type: 0 }), /type 0/],
    ['TYPE', craft({ type: 99 }), /type 99/],
    ['TYPE', craft({ type: 255 }), /type 255/],
    ['FLAGS', craft({ flags: 8 }), /flags that epoch does not have/],
    ['FLAGS', craft({ type: FrameType.syncPages, flags: FrameFlag.base }), /syncPages/],
    ['FLAGS', craft({ type: FrameType.hello, flags: FrameFlag.lz4 }), /hello/],
    ['FLAGS', craft({ type: FrameType.ack, flags: 0x8000 }), /ack/],
    ['NUMBER', craft({ generation: 2n ** 53n }), /2\^53/],
    ['NUMBER', craft({ epoch: 2n ** 64n - 1n }), /2\^53/],
    ['NUMBER', craft({ type: FrameType.hello, epoch: 1n }), /hello has none/],
    ['LENGTH', craft({ bodyBytes: BODY_BYTES_MAX + 1 }), /over 8388608/],
    ['LENGTH', craft({ bodyBytes: 0xffffffff }), /4294967295/],
    ['LENGTH', craft({ type: FrameType.hello, bodyBytes: 65537 }), /over 65536/],
    ['LENGTH', craft({ type: FrameType.ack, bodyBytes: 1 }), /ack body of 1 bytes is over 0/],
    ['LENGTH', craft({ bodyBytes: 5, rawBytes: 6 }), /two lengths differ/],
    ['LENGTH', craft({ flags: FrameFlag.lz4, bodyBytes: 5, rawBytes: 5 }), /no shorter/],
    ['LENGTH', craft({ flags: FrameFlag.lz4, bodyBytes: 0, rawBytes: 9 }), /empty/],
    ['LENGTH', craft({ flags: FrameFlag.lz4, bodyBytes: 9, rawBytes: 2 ** 23 + 1 }), /over/],
    ['LENGTH', craft({ flags: FrameFlag.lz4, bodyBytes: 10, rawBytes: 5000 }), /grow further/],
  ])('FT_ERR_FRAME_%s', (code, bytes, words) => {
    const { error, frames, decoder } = decode(bytes);
    expect(error?.code).toBe(`FT_ERR_FRAME_${code}`);
    expect(error?.message).toMatch(words);
    expect(error?.facts['frame']).toBe(1);
    expect(frames).toEqual([]);
    // Dead for good: a sound frame changes nothing.
    expect(decoder.push(craft({ body: Buffer.from('x') }), () => frames.push())).toBe(error);
    expect(decoder.frames).toBe(0);
  });

  test('checksums are checked, header before everything that it vouches for', () => {
    const header = craft({ body: Buffer.from('abc') });
    header[9] = 1;
    expect(decode(header).error?.code).toBe('FT_ERR_FRAME_HEADER_CRC');
    const body = craft({ body: Buffer.from('abc') });
    body[41] = 0;
    expect(decode(body).error?.code).toBe('FT_ERR_FRAME_BODY_CRC');
    const empty = craft({});
    empty.writeUInt32LE(5, 32);
    empty.writeUInt32LE(crc32c(empty.subarray(0, 36)), 36);
    expect(decode(empty).error?.code).toBe('FT_ERR_FRAME_BODY_CRC');
  });

  test('sound frames before a bad one are handed out', () => {
    const good = craft({ epoch: 1n, body: Buffer.from('x') });
    const { frames, error } = decode(Buffer.concat([good, good, craft({ type: 99 })]));
    expect(frames).toHaveLength(2);
    expect(error?.facts).toMatchObject({ frame: 3, type: 99 });
  });

  test('nothing is allocated for a body that is refused', () => {
    const spy = jest.spyOn(Buffer, 'allocUnsafeSlow');
    try {
      decode(craft({ bodyBytes: 0xffff_ffff }));
      decode(craft({ bodyBytes: BODY_BYTES_MAX }), 65536);
      expect(spy).not.toHaveBeenCalled();
      decode(craft({ bodyBytes: 65536 }), 65536);
      expect(spy.mock.calls).toEqual([[65536]]);
    } finally {
      spy.mockRestore();
    }
  });

  test('the limit is raised between two frames of one chunk', () => {
    const hello = craft({ type: FrameType.hello, body: Buffer.from('h') });
    const large = craft({ body: Buffer.alloc(70_000) });
    const decoder = new FrameDecoder(crc32c);
    const sizes: number[] = [];
    const error = decoder.push(Buffer.concat([hello, large]), (frame) => {
      sizes.push(frame.body.length);
      decoder.setMaxBodyBytes(BODY_BYTES_MAX);
    });
    expect(error).toBeUndefined();
    expect(sizes).toEqual([1, 70_000]);
    expect(decode(large, 65536).error?.code).toBe('FT_ERR_FRAME_LENGTH');
  });

  test('stop() from within a callback is obeyed at once', () => {
    const bytes = craft({ body: Buffer.from('x') });
    const decoder = new FrameDecoder(crc32c);
    let seen = 0;
    decoder.push(Buffer.concat([bytes, bytes, bytes]), () => {
      seen++;
      decoder.stop();
    });
    decoder.push(bytes, () => seen++);
    expect([seen, decoder.error]).toEqual([1, undefined]);
  });

  test('an end is clean between frames only', () => {
    const bytes = craft({ body: Buffer.alloc(300) });
    for (let cut = 0; cut <= bytes.length; cut++) {
      const decoder = new FrameDecoder(crc32c);
      decoder.push(bytes.subarray(0, cut), () => {});
      const error: FtError | undefined = decoder.end();
      if (cut === 0 || cut === bytes.length) expect(error).toBeUndefined();
      else expect(error?.facts['haveBytes']).toBe(cut);
    }
  });
});

describe('FrameBufferPool', () => {
  test('buffers go round; only so many are kept', () => {
    const pool = new FrameBufferPool(100, 2);
    const [a, b, c] = [pool.acquire(), pool.acquire(), pool.acquire()];
    expect(a.body).toHaveLength(100);
    expect(a.bytes).toHaveLength(140);
    expect(a.body.buffer).toBe(a.bytes.buffer);
    expect(pool.out).toBe(3);
    for (const buffer of [a, b, c]) pool.release(buffer);
    expect(pool.out).toBe(0);
    const again = [pool.acquire(), pool.acquire(), pool.acquire()];
    expect(again.filter((buffer) => [a, b, c].includes(buffer))).toHaveLength(2);
  });
});
