/** Stand-ins for the witness, logger and compression modules. */
import { linkSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { FtError } from '../common/errors';
import type { Logger } from '../common/logger';
import type { WitnessConfig } from '../config/config';
import type { BodyDecompressor } from '../standby/checkpoint-applier';
import type { GenerationRecord, Witness } from '../witness/witness';

export const interimDecompressor: BodyDecompressor = {
  decompress: () => new FtError('FT_ERR_LZ4', 'no lz4 yet'),
};

export function interimLogger(write: (line: string) => void): Logger {
  const put = (level: string) => (message: string, facts?: object) =>
    write(`${new Date().toISOString()} ${level} ${message} ${JSON.stringify(facts ?? {})}\n`);
  return { info: put('info'), warn: put('warn'), error: put('error') };
}

export function openWitness(config: WitnessConfig): Promise<Witness> {
  const directory = config.kind === 'file' ? config.directory : '/tmp';
  const newest = (pair: string): GenerationRecord | undefined => {
    const numbers = readdirSync(directory)
      .filter((name) => name.startsWith(`${pair}.`) && !name.includes('tmp'))
      .map((name) => Number(name.slice(pair.length + 1)))
      .sort((a, b) => b - a);
    const generation = numbers[0];
    if (generation === undefined) return undefined;
    return {
      generation,
      owner: readFileSync(path.join(directory, `${pair}.${generation}`), 'utf8'),
    };
  };
  mkdirSync(directory, { recursive: true });
  return Promise.resolve({
    description: 'interim',
    current: async (pair) => newest(pair),
    claim: async (pair, from, nodeId) => {
      const temp = path.join(directory, `tmp.${nodeId}.${process.pid}`);
      writeFileSync(temp, nodeId);
      try {
        const now = newest(pair)?.generation ?? 0;
        if (now === from) linkSync(temp, path.join(directory, `${pair}.${from + 1}`));
      } catch {
        // Taken: read below.
      }
      rmSync(temp, { force: true });
      const current = newest(pair);
      if (current?.owner === nodeId && current.generation === from + 1) {
        return { outcome: 'won', generation: from + 1 };
      }
      if (current === undefined) throw new FtError('FT_ERR_WITNESS_UNREACHABLE', 'gone');
      return { outcome: 'lost', current };
    },
    close: () => Promise.resolve(),
  });
}
