/** Strangers and peers that break the protocol, at the door of a production standby. */
import { FtError } from '../../src/common/errors';
import { MemoryLink } from '../../src/transport/memory';
import { allocFrameBuffer } from '../../src/wire/buffer-pool';
import {
  type Frame,
  FrameFlag,
  type FrameHeader,
  FrameType,
  PROTOCOL_VERSION,
} from '../../src/wire/frame';
import { type Message, packFrame, unpackRefuse, unpackWelcome } from '../../src/wire/messages';
import { beaconRequest } from './sim-lan';
import { type SimHost, World } from './world';

/** Speaks the wire by hand, as a stranger or a broken primary would. */
class Stranger {
  readonly frames: Frame[] = [];
  closed = false;
  readonly link: MemoryLink;

  constructor(
    readonly world: World,
    to: SimHost,
  ) {
    this.link = new MemoryLink(world.clock, { delayMs: 0.1 });
    this.link.a.onFrame = (frame) => {
      this.frames.push({ ...frame, body: Buffer.from(frame.body) });
    };
    this.link.a.onClose = () => {
      this.closed = true;
    };
    to.node.accept(this.link.b);
  }

  say(header: Partial<FrameHeader>, message?: object, body?: Buffer): void {
    const full = { type: FrameType.hello, flags: 0, generation: 1, epoch: 0, ...header };
    const buffer =
      message === undefined
        ? allocFrameBuffer(body?.length ?? 0)
        : packFrame(message as Message).buffer;
    body?.copy(buffer.body);
    this.link.a.send(full, buffer, buffer.body.length);
  }

  hello(host: SimHost, changes: object = {}, generation = 1): void {
    const hello = {
      protocolVersion: PROTOCOL_VERSION,
      pair: 'sim',
      nodeId: 'x',
      channel: 'replication',
      session: 's1',
      machine: host.machine.description,
      diskSyncIds: host.machine.diskSyncIds(),
    };
    this.say({ generation }, { ...hello, ...changes });
  }

  get refusal(): { code: string; field: string } | undefined {
    const frame = this.frames.find((one) => one.type === FrameType.refuse);
    if (frame === undefined) return undefined;
    const refuse = unpackRefuse(frame.body);
    return refuse instanceof FtError ? undefined : refuse;
  }

  get welcomed(): boolean {
    const frame = this.frames.find((one) => one.type === FrameType.welcome);
    return frame !== undefined && !(unpackWelcome(frame.body) instanceof FtError);
  }
}

describe('who may come in', () => {
  test('strangers, garbage and second primaries do not disturb a running session', async () => {
    const world = new World();
    const { a, b } = await world.protectedPair();
    const silent = new Stranger(world, b);
    const rude = new Stranger(world, b);
    rude.say({ type: FrameType.epoch, epoch: 1, flags: FrameFlag.last });
    const garbled = new Stranger(world, b);
    garbled.say({}, undefined, Buffer.from('no msgpack at all'));
    const second = new Stranger(world, b);
    second.hello(b);
    const hijacker = new Stranger(world, b);
    hijacker.hello(b, { channel: 'heartbeat', session: 'a-0' });
    await world.advance(20);
    expect(rude.closed).toBe(true);
    expect(garbled.closed).toBe(true);
    expect(second.refusal).toMatchObject({ code: 'FT_ERR_BUSY' });
    expect(hijacker.refusal).toMatchObject({ code: 'FT_ERR_SESSION' });
    expect(silent.closed).toBe(false);
    await world.advance(2100, 5);
    expect(silent.closed).toBe(true);
    expect(a.states.at(-1)?.to).toBe('protected');
    world.lan.request(beaconRequest('incr', 1, 1));
    await world.advance(3);
    expect(world.answers).toHaveLength(1);
    expect(b.node.standby?.stats.refused).toBe(5);
  });

  test.each([
    ['memory', { machine: { memoryBytes: 1 } }, 'machine.memoryBytes'],
    ['pair', { pair: 'other' }, 'pair'],
    ['name', { nodeId: 'b' }, 'nodeId'],
    ['version', { protocolVersion: 9 }, 'protocolVersion'],
  ])('another %s is refused by the field', async (_name, changes, field) => {
    const world = new World();
    const b = world.add('b', 'a');
    b.node.startStandby();
    const stranger = new Stranger(world, b);
    const { machine, ...rest } = changes as { machine?: object };
    stranger.hello(b, { ...rest, machine: { ...b.machine.description, ...machine } });
    await world.advance(5);
    expect(stranger.refusal?.field).toBe(field);
    expect(stranger.closed).toBe(true);
    expect(b.state).toBe('joining');
  });

  test('a primary that is refused runs on alone and takes the right standby later', async () => {
    const world = new World();
    const a = world.add('a', 'b');
    await world.startPrimary(a);
    const wrong = world.add('b', 'a', { memoryBytes: 64 * 1024 });
    wrong.node.startStandby();
    await world.until('the refusal', () => a.refused !== undefined);
    expect(a.refused?.message).toContain('memoryBytes');
    expect(a.state).toBe('solo');
    world.kill(wrong);
    const right = world.add('b', 'a');
    right.node.startStandby();
    await world.until('protected', () => a.state === 'protected', 10_000);
  });

  test('a node that became active refuses, naming its generation', async () => {
    const world = new World();
    const { a, b } = await world.protectedPair();
    world.kill(a);
    await world.until('solo', () => b.state === 'solo');
    const old = new Stranger(world, b);
    old.hello(b);
    await world.advance(5);
    expect(old.refusal).toMatchObject({ code: 'FT_ERR_ACTIVE', ours: '2' });
  });

  test('a generation that is over is refused', async () => {
    const world = new World();
    const { a, b } = await world.protectedPair();
    world.witness.unreachableFor.add('b');
    world.cutLinks();
    await world.until('solo', () => a.state === 'solo');
    world.witness.unreachableFor.clear();
    await world.until('joining', () => b.state === 'joining');
    const stale = new Stranger(world, b);
    stale.hello(b, {}, 1);
    await world.advance(5);
    expect(stale.refusal?.code).toBe('FT_ERR_GENERATION_STALE');
  });
});

describe('a primary that breaks the protocol', () => {
  async function joined(): Promise<{ world: World; b: SimHost; main: Stranger; beat: Stranger }> {
    const world = new World();
    const b = world.add('b', 'a');
    b.node.startStandby();
    const main = new Stranger(world, b);
    main.hello(b);
    await world.advance(2);
    expect(main.welcomed).toBe(true);
    const beat = new Stranger(world, b);
    beat.hello(b, { channel: 'heartbeat' });
    await world.advance(2);
    expect(b.state).toBe('syncing');
    return { world, b, main, beat };
  }

  /** An empty scan and an empty base make the standby ready. */
  function makeReady(main: Stranger): void {
    main.say({ type: FrameType.syncPages, flags: FrameFlag.last });
    main.say({ type: FrameType.epoch, flags: FrameFlag.last | FrameFlag.base, epoch: 1 });
  }

  test.each<[string, (main: Stranger) => void]>([
    ['an epoch twice', (s) => s.say({ type: FrameType.epoch, epoch: 1, flags: FrameFlag.last })],
    ['a gap', (s) => s.say({ type: FrameType.epoch, epoch: 3, flags: FrameFlag.last })],
    ['another generation', (s) => s.say({ type: FrameType.epoch, epoch: 2, generation: 2 })],
    ['an ack', (s) => s.say({ type: FrameType.ack, epoch: 1 })],
    ['a second hello', (s) => s.say({}, { reason: 'x' })],
    [
      'a damaged body',
      (s) => s.say({ type: FrameType.epoch, epoch: 2 }, undefined, Buffer.from('?')),
    ],
  ])('%s: told, dropped, and nothing is claimed', async (_name, act) => {
    const { world, b, main, beat } = await joined();
    makeReady(main);
    await world.advance(2);
    expect(b.state).toBe('ready');
    act(main);
    await world.advance(300, 2);
    expect(b.state).toBe('joining');
    expect(world.witness.owners).toEqual([]);
    expect(main.frames.some((frame) => frame.type === FrameType.bye)).toBe(true);
    expect(main.closed && beat.closed).toBe(true);
  });

  test('a session whose heartbeat connection never comes is given up', async () => {
    const world = new World();
    const b = world.add('b', 'a');
    b.node.startStandby();
    new Stranger(world, b).hello(b);
    await world.advance(2100, 5);
    const next = new Stranger(world, b);
    next.hello(b, { session: 's2' });
    await world.advance(5);
    expect(next.welcomed).toBe(true);
  });
});
