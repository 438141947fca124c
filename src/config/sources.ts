/** Command line, environment and file put together, each value of each of them checked on its own. */
import { FtError } from '../common/errors';
import { type Environment, readEnvironment } from './environment';
import { readConfigFile } from './file';
import { type CommandName, type FlagSpec, flagsOf } from './flags';
import { Flags, type Layer, locate, mergeLayers } from './given';
import { parseFlags, specsOf } from './parse';
import { checkValue } from './value-types';

/**
 * What was given, by whatever source. With --help or --version nothing else is read. Throws
 * FT_ERR_CONFIG for anything that is no value of its setting, also where another source's value
 * counts: what is wrong in a file shall not show only when a flag goes.
 */
export function readSources(
  command: CommandName,
  words: readonly string[],
  environment: Environment,
): Flags {
  const specs = specsOf(flagsOf(command));
  const line = parseFlags(command, words);
  if (line.has('help') || line.has('version')) return new Flags(line, specs);
  const surroundings = readEnvironment(command, environment);
  checkLayer(line, specs);
  checkLayer(surroundings, specs);
  const path = new Flags(mergeLayers(line, surroundings), specs).text('config');
  const file: Layer = path === undefined ? new Map() : readConfigFile(command, path);
  checkLayer(file, specs);
  return new Flags(mergeLayers(line, surroundings, file), specs);
}

/** Throws FT_ERR_CONFIG, in the words of the source. */
export function checkLayer(layer: Layer, specs: ReadonlyMap<string, FlagSpec>): void {
  for (const [name, items] of layer) {
    const type = specs.get(name)?.type;
    if (type === undefined) continue;
    for (const { text, from } of items) {
      try {
        checkValue(type, name, text);
      } catch (thrown) {
        throw thrown instanceof FtError ? locate(thrown, name, from) : thrown;
      }
    }
  }
}
