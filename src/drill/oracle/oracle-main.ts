/**
 * The clients as a process of their own, so that they can live inside a network namespace and their
 * event loop is theirs alone. Commands come on stdin, one JSON object a line; answers go to stdout:
 *
 *   → {"id":1,"command":"start","ratePerSecond":1000}        ← {"id":1,"ok":true,"result":{…}}
 *                                                            ← {"id":1,"ok":false,"error":"…"}
 *
 * The first argument is ClientOptions as JSON. Ends when stdin ends.
 */
import { closeSync, openSync, readSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { BLOCK_BYTES } from './disk-block';
import { type DiskVerdict, judgeDisk } from './disk-oracle';
import { judge } from './oracle';
import { type ClientOptions, OracleClients } from './oracle-client';
import { At, Op, u64At } from './oracle-layout';
import type { BeaconStats, DiskFigures, DiskJudging, OracleCommand } from './oracle-process';

const U64_MAX = 2n ** 64n - 1n;
const SPIN = 2n ** 63n;
const DISK_SHIFT = 56n;

function readStats(answer: Buffer): BeaconStats {
  return {
    bootId: answer.readBigUInt64LE(At.bootId).toString(16),
    sequence: u64At(answer, At.sequence),
    uptimeNs: u64At(answer, At.uptimeNs),
    progress: u64At(answer, At.progress),
    pagesDirtied: u64At(answer, At.pagesDirtied),
    gapMaxNs: u64At(answer, At.gapMaxNs),
    gapP50Ns: u64At(answer, At.gapP50Ns),
    gapP99Ns: u64At(answer, At.gapP99Ns),
    gapCount: u64At(answer, At.gapCount),
    loadPagesMax: u64At(answer, At.loadPagesMax),
  };
}

function readDiskFigures(answer: Buffer): DiskFigures {
  return {
    writes: u64At(answer, At.detail0),
    reads: u64At(answer, At.detail1),
    errors: u64At(answer, At.detail2),
    broken: u64At(answer, At.detail3),
  };
}

/** Judges the disk requests; with a path, the image that lies there as well. */
function judgeDisks(clients: OracleClients, { image, region }: DiskJudging): DiskVerdict {
  if (image === undefined) return judgeDisk(clients.history);
  const file = openSync(image, 'r');
  try {
    const read = (_disk: number, number: bigint): Buffer => {
      const block = Buffer.alloc(BLOCK_BYTES);
      readSync(file, block, 0, BLOCK_BYTES, Number(number) * BLOCK_BYTES);
      return block;
    };
    return judgeDisk(clients.history, { image: read, region });
  } finally {
    closeSync(file);
  }
}

async function perform(clients: OracleClients, command: OracleCommand): Promise<unknown> {
  switch (command.command) {
    case 'start':
      clients.start(command.ratePerSecond);
      return {};
    case 'stop':
      return { unanswered: await clients.rest(command.timeoutMs) };
    case 'sample':
      return clients.sample();
    case 'silence':
      return {
        silence: (command.ofDisk === true ? clients.diskArrivals : clients.arrivals).longestSilence(
          command.fromUs,
          command.withinMs,
        ),
      };
    case 'timeline':
      return { requests: clients.history.between(command.fromUs, command.toUs) };
    case 'stats':
      return readStats(await clients.ask1({ op: Op.stats }, command.timeoutMs));
    case 'load': {
      const rate = command.pagesPerMs === 'max' ? U64_MAX : BigInt(command.pagesPerMs);
      const set = BigInt(command.workingSetPages) | (command.spin ? SPIN : 0n);
      const op = command.each === true ? Op.loadEach : Op.load;
      const request = { op, a: rate, b: BigInt(command.bytesPerPage), c: set };
      return readStats(await clients.ask1(request, command.timeoutMs));
    }
    case 'vcpu': {
      const request = { op: Op.vcpu, a: BigInt(command.index) };
      const answer = await clients.ask1(request, command.timeoutMs);
      return {
        vcpus: u64At(answer, At.value),
        progress: u64At(answer, At.detail0),
        pagesDirtied: u64At(answer, At.detail1),
      };
    }
    case 'disk-load': {
      const a = (BigInt(command.writesPerSecond) << 32n) | BigInt(command.underWayMax);
      const c = (BigInt(command.disk) << DISK_SHIFT) | BigInt(command.blocks);
      const request = { op: Op.diskLoad, a, b: BigInt(command.firstBlock), c };
      return readDiskFigures(await clients.ask1(request, command.timeoutMs));
    }
    case 'disk-figures': {
      const request = { op: Op.diskLoad, a: U64_MAX };
      return readDiskFigures(await clients.ask1(request, command.timeoutMs));
    }
    case 'judge-disk':
      return judgeDisks(clients, command);
    case 'finish': {
      await clients.rest(command.timeoutMs);
      await clients.readBack(command.timeoutMs);
      return judge(clients.history, command.judge ?? {});
    }
  }
}

async function main(): Promise<void> {
  const options = JSON.parse(process.argv[2] ?? '{}') as ClientOptions;
  const clients = new OracleClients(options);
  await clients.open();
  const reply = (value: object): void => {
    process.stdout.write(`${JSON.stringify(value)}\n`);
  };
  reply({ event: 'ready' });
  const lines = createInterface({ input: process.stdin });
  lines.on('line', (line) => {
    const command = JSON.parse(line) as OracleCommand & { id: number };
    perform(clients, command).then(
      (result) => reply({ id: command.id, ok: true, result }),
      (thrown: unknown) => {
        const error = thrown instanceof Error ? thrown.message : String(thrown);
        reply({ id: command.id, ok: false, error });
      },
    );
  });
  lines.on('close', () => {
    clients.close();
    process.exit(0);
  });
}

main().catch((thrown: unknown) => {
  process.stderr.write(`oracle: ${thrown instanceof Error ? thrown.stack : String(thrown)}\n`);
  process.exit(70);
});
