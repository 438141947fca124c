/** Control messages: bytes, strictness, and the comparison of two hellos. */
import { Packr } from 'msgpackr';
import { DISKS_MAX, REGION_MAP_BYTES_MAX } from '../../src/common/disk-regions';
import { FtError } from '../../src/common/errors';
import { compareHello } from '../../src/wire/compare-hello';
import { BODY_BYTES_MAX_WELCOME, PROTOCOL_VERSION } from '../../src/wire/frame';
import {
  AUDIT_GFNS_MAX,
  type Hello,
  type Message,
  packFrame,
  unpackAuditMismatch,
  unpackBye,
  unpackGuestEnd,
  unpackHello,
  unpackRefuse,
  unpackWelcome,
} from '../../src/wire/messages';
import { checkPlainMsgpack } from '../../src/wire/plain-msgpack';

const HELLO: Hello = {
  protocolVersion: PROTOCOL_VERSION,
  pair: 'web',
  nodeId: 'alpha',
  channel: 'replication',
  session: 'f00d',
  machine: {
    kind: 'kvm',
    memoryBytes: 8 * 2 ** 30,
    vcpus: 1,
    cpuFeatures: { 'cpuid.7.0.ebx': 0xfffffffe, 'cpuid.1.0.ecx': 5 },
    devices: ['virtio-net', 'serial'],
    disks: [
      { bytes: 2 ** 33, readOnly: false, fingerprint: 0 },
      { bytes: 2 ** 20, readOnly: true, fingerprint: 0xdeadbeef },
    ],
    stateVersion: 3,
  },
  diskSyncIds: ['0a1b2c', ''],
};

const packr = new Packr({ useRecords: false });

function body(message: Message): Buffer {
  return packFrame(message).buffer.body;
}

/** A hello with one field replaced (or, with undefined, taken away). */
function changed(path: string, value: unknown): Buffer {
  const copy = structuredClone(HELLO) as unknown as Record<string, unknown>;
  const names = path.split('/');
  const last = names.pop() as string;
  let at = copy;
  for (const name of names) at = at[name] as Record<string, unknown>;
  if (value === undefined) delete at[last];
  else at[last] = value;
  return packr.pack(copy);
}

describe('messages', () => {
  test('what is packed is what arrives', () => {
    expect(unpackHello(body(HELLO))).toEqual(HELLO);
    const heartbeat: Hello = { ...HELLO, channel: 'heartbeat' };
    expect(unpackHello(body(heartbeat))).toEqual(heartbeat);
    const returning: Hello = { ...HELLO, catchUp: { session: 'f00d', epoch: 41 } };
    expect(unpackHello(body(returning))).toEqual(returning);
    const diskMaps = [undefined, Uint8Array.of(1, 0, 255), new Uint8Array(0)];
    const welcome = { nodeId: 'beta', session: 'f00d', diskMaps, suspectAfterMs: 50 };
    expect(unpackWelcome(body(welcome))).toEqual(welcome);
    expect(unpackWelcome(body({ ...welcome, catchUp: true }))).toEqual({
      ...welcome,
      catchUp: true,
    });
    expect(unpackWelcome(packr.pack({ ...welcome, diskMaps: [], catchUp: 1 }))).toMatchObject({
      code: 'FT_ERR_MESSAGE',
      facts: { field: 'catchUp' },
    });
    const refuse = { code: 'FT_ERR_PAIR', field: 'pair', ours: 'a', theirs: 'b', message: 'No. ü' };
    expect(unpackRefuse(body(refuse))).toEqual(refuse);
    const gfns = Array.from({ length: AUDIT_GFNS_MAX }, (_, i) => 0xffffffff - i);
    expect(unpackAuditMismatch(body({ gfns }))).toEqual({ gfns });
    expect(unpackBye(body({ reason: 'switchover' }))).toEqual({ reason: 'switchover' });
    const guestEnd = { kind: 'reset', cause: 'triple fault' } as const;
    expect(unpackGuestEnd(body(guestEnd))).toEqual(guestEnd);
    expect(unpackBye(body({ reason: 'over', guestEnd }))).toEqual({ reason: 'over', guestEnd });
    const tookOver = { generation: 7, takeoverUs: 8123 };
    expect(unpackBye(body({ reason: 'over', tookOver }))).toEqual({ reason: 'over', tookOver });
    for (const wrong of [{ generation: 0, takeoverUs: 1 }, { generation: 2 }, 7]) {
      const bytes = packr.pack({ reason: 'over', tookOver: wrong });
      expect(unpackBye(bytes)).toBeInstanceOf(FtError);
    }
    const gaveUp = { generation: 7 };
    expect(unpackBye(body({ reason: 'broken', gaveUp }))).toEqual({ reason: 'broken', gaveUp });
    for (const wrong of [{ generation: 0 }, { generation: '2' }, {}, 7]) {
      expect(unpackBye(packr.pack({ reason: 'x', gaveUp: wrong }))).toBeInstanceOf(FtError);
    }
    for (const wrong of [{ kind: 'pause', cause: 'x' }, { kind: 'reset' }]) {
      const bytes = packr.pack({ reason: 'over', guestEnd: wrong });
      expect(unpackBye(bytes)).toBeInstanceOf(FtError);
      expect(unpackGuestEnd(packr.pack(wrong))).toBeInstanceOf(FtError);
    }
  });

  test('the largest welcome keeps to its bound, and its maps outlive the receive buffer', () => {
    const diskMaps = Array.from({ length: DISKS_MAX }, (_, i) =>
      new Uint8Array(REGION_MAP_BYTES_MAX).fill(i + 1),
    );
    const name = 'x'.repeat(64);
    const message = { nodeId: name, session: name, diskMaps, suspectAfterMs: 60_000 };
    const { buffer, bytes } = packFrame(message);
    expect(bytes).toBeLessThanOrEqual(BODY_BYTES_MAX_WELCOME);
    const received = Buffer.from(buffer.body);
    const welcome = unpackWelcome(received);
    received.fill(0);
    expect(welcome).toEqual(message);
  });

  test.each<[string, unknown]>([
    ['no list', null],
    ['a list of numbers', [1]],
    ['a list of strings', ['\x01']],
    ['five', Array(5).fill(new Uint8Array(1))],
    ['one over 32 KiB', [new Uint8Array(REGION_MAP_BYTES_MAX + 1)]],
  ])('maps of disks: %s', (_name, diskMaps) => {
    const error = unpackWelcome(packr.pack({ nodeId: 'b', session: 's', diskMaps }));
    expect(error).toMatchObject({ code: 'FT_ERR_MESSAGE' });
    expect((error as FtError).facts['field']).toMatch(/^diskMaps/);
  });

  test('bytes by hand: a bye is a map with one string', () => {
    expect(body({ reason: 'ok' }).toString('hex')).toBe('81a6726561736f6ea26f6b');
    expect(unpackBye(Buffer.from('81a6726561736f6ea26f6b', 'hex'))).toEqual({ reason: 'ok' });
  });

  test('fields of a later version are ignored', () => {
    expect(unpackHello(changed('later', { any: [1, 2, { thing: null }] }))).toEqual(HELLO);
    expect(unpackHello(changed('machine/later', 1.5))).toEqual(HELLO);
  });

  test.each([
    ['protocolVersion', undefined],
    ['protocolVersion', '1'],
    ['protocolVersion', 1.5],
    ['protocolVersion', -1],
    ['pair', ''],
    ['pair', '../etc'],
    ['pair', 'x'.repeat(65)],
    ['nodeId', 7],
    ['nodeId', 'a\nb'],
    ['channel', 'telepathy'],
    ['session', null],
    ['machine', []],
    ['machine', undefined],
    ['machine/kind', 'xen'],
    ['machine/memoryBytes', 2 ** 60],
    ['machine/memoryBytes', Number.NaN],
    ['machine/vcpus', true],
    ['machine/cpuFeatures', 'sse'],
    ['machine/cpuFeatures/cpuid.1.0.ecx', 2 ** 32],
    ['machine/cpuFeatures/a b', 1],
    ['machine/devices', { 0: 'net' }],
    ['machine/devices', ['net', 5]],
    ['machine/devices', Array(65).fill('net')],
    ['machine/stateVersion', undefined],
    ['machine/disks', undefined],
    ['machine/disks', Array(5).fill({ bytes: 512, readOnly: false, fingerprint: 0 })],
    ['machine/disks', [512]],
    ['machine/disks', [{ bytes: -512, readOnly: false, fingerprint: 0 }]],
    ['machine/disks', [{ bytes: 512, readOnly: 1, fingerprint: 0 }]],
    ['machine/disks', [{ bytes: 512, readOnly: true, fingerprint: 2 ** 32 }]],
    ['catchUp', true],
    ['catchUp', { session: 'f00d' }],
    ['catchUp', { session: 'f00d', epoch: -1 }],
    ['catchUp', { session: '../f00d', epoch: 1 }],
    ['diskSyncIds', undefined],
    ['diskSyncIds', ['one', 2]],
    ['diskSyncIds', ['one', '../two']],
    ['diskSyncIds', ['only one of two']],
    ['diskSyncIds', ['one', new Uint8Array(3)]],
    ['pair', new Uint8Array([0x61])],
  ])('a hello with a wrong %s (%p) is refused by that name', (path, value) => {
    const error = unpackHello(changed(path, value));
    expect(error).toBeInstanceOf(FtError);
    const { code, facts, message } = error as FtError;
    expect(code).toBe('FT_ERR_MESSAGE');
    const field = path.replace('/', '.').replace(/\/.*/, '');
    expect(String(facts['field'])).toContain(field);
    expect(message).toContain('hello');
  });

  test.each([
    ['too many', { gfns: Array(AUDIT_GFNS_MAX + 1).fill(1) }],
    ['negative', { gfns: [1, -1] }],
    ['fractions', { gfns: [1.5] }],
    ['over 32 bits', { gfns: [2 ** 32] }],
    ['no list', { gfns: 1 }],
  ])('audit pages: %s', (_name, message) => {
    expect(unpackAuditMismatch(packr.pack(message))).toMatchObject({ code: 'FT_ERR_MESSAGE' });
  });

  test.each([
    ['nothing', '', /ends early/],
    ['a number', '01', /not a map/],
    ['a list', '9101', /not a map/],
    ['nil', 'c0', /not a map/],
    ['more than one value', '8000', /1 bytes follow/],
    ['half a map', '82a161', /ends early/],
    ['a key that is a number', '810101', /key/],
    ['a record definition', 'd4724091a16101', /tag 0xd4/],
    ['a date', '81a161d6ff00000001', /tag 0xd6/],
    ['an error object', '81a161c703659301a178a0', /tag 0xc7/],
    ['binary that ends early', '81a161c40201', /ends early/],
    ['binary of 4 GiB', '81a161c6ffffffff', /ends early/],
    ['the byte that is never used', '81a161c1', /tag 0xc1/],
    ['a string of 4 GiB', '81a161dbffffffff', /ends early/],
    ['a list of 4 G entries', '81a161ddffffffff', /ends early/],
    ['a map of 4 G entries', 'dfffffffff', /not a string|ends early/],
  ])('%s is no message', (_name, hex, words) => {
    const error = unpackBye(Buffer.from(hex, 'hex'));
    expect(error).toMatchObject({ code: 'FT_ERR_MESSAGE' });
    expect((error as FtError).message).toMatch(words);
  });

  test('depth and count are bounded', () => {
    expect(checkPlainMsgpack(Buffer.alloc(60_000, 0x91))).toMatch(/nested deeper/);
    const wide = Buffer.concat([Buffer.from('dc1000', 'hex'), Buffer.alloc(4096, 1)]);
    expect(checkPlainMsgpack(wide)).toMatch(/more than 4096/);
  });

  test('a peer cannot reach the prototype of objects', () => {
    const hostile = Buffer.concat([
      Buffer.from('82a6726561736f6ea26f6ba9', 'hex'),
      Buffer.from('__proto__', 'latin1'),
      Buffer.from('81a8706f6c6c75746564c3', 'hex'),
    ]);
    expect(unpackBye(hostile)).toMatchObject({
      facts: { why: 'a key of a map ends with __proto__' },
    });
    expect(({} as { polluted?: boolean }).polluted).toBeUndefined();
    const named = packr.pack({ ...HELLO, machine: { ...HELLO.machine, kind: undefined } });
    expect(unpackHello(named)).toBeInstanceOf(FtError);
  });
});

describe('compareHello', () => {
  const theirs: Hello = { ...HELLO, nodeId: 'beta' };
  const machine = (change: Partial<Hello['machine']>): Hello => ({
    ...theirs,
    machine: { ...HELLO.machine, ...change },
  });
  const disk = (at: number, change: Partial<Hello['machine']['disks'][number]>): Hello =>
    machine({
      disks: HELLO.machine.disks.map((it, index) => (index === at ? { ...it, ...change } : it)),
    });

  test('two nodes that fit', () => {
    expect(compareHello(HELLO, { ...theirs, channel: 'heartbeat', session: 'x' })).toBeUndefined();
    const { cpuFeatures } = HELLO.machine;
    const reordered = Object.fromEntries(Object.entries(cpuFeatures).reverse());
    expect(compareHello(HELLO, machine({ cpuFeatures: reordered }))).toBeUndefined();
  });

  test.each<[string, Hello, string, string]>([
    ['protocolVersion', { ...theirs, protocolVersion: 9 }, `${PROTOCOL_VERSION}`, '9'],
    ['pair', { ...theirs, pair: 'db' }, 'web', 'db'],
    ['nodeId', HELLO, 'alpha', 'alpha'],
    ['machine.kind', machine({ kind: 'simulated' }), 'kvm', 'simulated'],
    ['machine.memoryBytes', machine({ memoryBytes: 4096 }), '8589934592', '4096'],
    ['machine.vcpus', machine({ vcpus: 2 }), '1', '2'],
    ['machine.devices', machine({ devices: ['serial'] }), 'virtio-net serial', 'serial'],
    ['machine.stateVersion', machine({ stateVersion: 4 }), '3', '4'],
    ['machine.disks', machine({ disks: HELLO.machine.disks.slice(1) }), '2', '1'],
    ['machine.disks[0].bytes', disk(0, { bytes: 2 ** 34 }), '8589934592', '17179869184'],
    ['machine.disks[0].readOnly', disk(0, { readOnly: true }), 'false', 'true'],
    ['machine.disks[1].fingerprint', disk(1, { fingerprint: 1 }), '0xdeadbeef', '0x00000001'],
    [
      'machine.cpuFeatures.cpuid.7.0.ebx',
      machine({ cpuFeatures: { 'cpuid.7.0.ebx': 0xffffffff, 'cpuid.1.0.ecx': 5 } }),
      '0xfffffffe',
      '0xffffffff',
    ],
    [
      'machine.cpuFeatures.cpuid.1.0.edx',
      machine({ cpuFeatures: { 'cpuid.1.0.edx': 1 } }),
      'absent',
      '0x00000001',
    ],
    [
      'machine.cpuFeatures.new',
      machine({ cpuFeatures: { ...HELLO.machine.cpuFeatures, new: 0 } }),
      'absent',
      '0x00000000',
    ],
  ])('%s differs', (field, other, ours, their) => {
    const refuse = compareHello(HELLO, other);
    expect(refuse).toMatchObject({ field, ours, theirs: their });
    expect(refuse?.message).toContain(ours);
    expect(unpackRefuse(body(refuse as NonNullable<typeof refuse>))).toEqual(refuse);
  });

  const withCpu = (offered: Record<string, number>, given: Record<string, number>): unknown =>
    compareHello(
      { ...HELLO, machine: { ...HELLO.machine, cpuFeatures: offered } },
      machine({ cpuFeatures: given }),
    );

  test.each<[string, Record<string, number>, Record<string, number>]>([
    ['more bits', { 'cpuid.7.0.ebx': 0x30 }, { 'cpuid.7.0.ebx': 0x20 }],
    ['a word that the guest has not', { 'cpuid.7.0.edx': 1 }, {}],
    ['an empty word that the standby has not', {}, { 'cpuid.7.0.ebx': 0 }],
    ['the sign bit', { 'cpuid.7.0.ebx': 0x8000_0001 }, { 'cpuid.7.0.ebx': 0x8000_0000 }],
    ['wider addresses', { 'cpuid.80000008.0.eax': 48 }, { 'cpuid.80000008.0.eax': 46 }],
    ['a family that a named model does not tell', { 'cpuid.1.0.eax': 5 }, {}],
    ['a component that the guest has not', { 'cpuid.d.9.ebx': 2688 }, { 'cpuid.d.2.ebx': 576 }],
  ])('a standby with %s does', (_name, offered, given) => {
    const more = { 'cpuid.d.2.ebx': 576, ...offered };
    expect(withCpu(more, given)).toBeUndefined();
  });

  test.each<[string, Record<string, number>, Record<string, number>, RegExp]>([
    ['another vendor', { 'cpuid.0.0.ebx': 1 }, { 'cpuid.0.0.ebx': 2 }, /vendors differ/],
    ['another model', { 'cpuid.1.0.eax': 16 }, { 'cpuid.1.0.eax': 32 }, /family or model differs/],
    ['a narrower address', { 'cpuid.80000008.0.eax': 40 }, { 'cpuid.80000008.0.eax': 46 }, /less/],
    ['no width', {}, { 'cpuid.80000008.0.eax': 46 }, /addresses less memory/],
    ['state elsewhere', { 'cpuid.d.9.ebx': 2440 }, { 'cpuid.d.9.ebx': 2688 }, /laid out/],
    ['state not at all', {}, { 'cpuid.d.9.ebx': 2688 }, /laid out/],
    ['an unknown word', { 'cpuid.99.0.eax': 3 }, { 'cpuid.99.0.eax': 1 }, /laid out/],
  ])('a standby with %s does not', (_name, offered, given, words) => {
    expect(withCpu(offered, given)).toMatchObject({
      code: 'FT_ERR_CPU_FEATURES',
      field: `machine.cpuFeatures.${Object.keys(given)[0]}`,
      message: expect.stringMatching(words) as string,
    });
  });

  test.each<[string, number, number, RegExp]>([
    [
      'cpuid.1.0.ecx',
      0x10,
      0x0080_0011,
      /lacks what the guest was given: sse3 \(cpuid\.1\.0\.ecx bit 0\), popcnt \(.* bit 23\)\. .*--cpu/,
    ],
    ['cpuid.7.0.ebx', 0, 0x1_0000, /lacks .*: avx512f \(cpuid\.7\.0\.ebx bit 16\)\./],
    ['cpuid.7.0.ebx', 0, 0x20 | 0x8000_0000, /lacks .*: avx2 \(.*\), avx512vl \(.* bit 31\)\./],
    ['cpuid.7.1.eax', 0, 3, /lacks .*: cpuid\.7\.1\.eax bit 0, cpuid\.7\.1\.eax bit 1\./],
    ['cpuid.7.1.eax', 0, -1 >>> 0, /: cpuid\.7\.1\.eax bit 0, .* bit 5\) and 26 more\./],
  ])('%s: %d here, %d there names the features', (name, ours, other, words) => {
    const standby = { ...HELLO, machine: { ...HELLO.machine, cpuFeatures: { [name]: ours } } };
    const refuse = compareHello(standby, machine({ cpuFeatures: { [name]: other } }));
    expect(refuse?.code).toBe('FT_ERR_CPU_FEATURES');
    expect(refuse?.message).toMatch(words);
  });

  test('however long the values, the refusal can be sent and read', () => {
    const long = Array.from({ length: 64 }, (_, i) => `device-${i}`.padEnd(64, 'x'));
    const refuse = compareHello(HELLO, machine({ devices: long }));
    expect(unpackRefuse(body(refuse as NonNullable<typeof refuse>))).toEqual(refuse);
  });
});
