/**
 * Settings under generated input: the schema and the reader of the file agree, the three sources
 * agree, and no text makes the reader throw anything but a refusal.
 */
import Ajv from 'ajv';
import fc from 'fast-check';
import { parse, stringify } from 'yaml';
import { FtError } from '../../src/common/errors';
import { readEnvironment } from '../../src/config/environment';
import { parseConfigText } from '../../src/config/file';
import type { FlagSpec, ValueFlag } from '../../src/config/flag-spec';
import { FLAGS } from '../../src/config/flags';
import { type Layer, variableOf } from '../../src/config/given';
import { parseFlags, specsOf } from '../../src/config/parse';
import { configSchema } from '../../src/config/schema';
import { checkLayer } from '../../src/config/sources';

const validate = new Ajv({ strict: true, allowUnionTypes: true }).compile(configSchema());
const specs = specsOf(FLAGS);
/** Types of which the schema only knows the form: hosts of URLs, and bytes of a socket's path. */
const LOOSE: ReadonlySet<string> = new Set(['url', 'witness', 'socket-path']);

const isOfFile = (flag: FlagSpec): boolean =>
  !flag.commandLineOnly && !flag.notInFile && flag.only !== 'ft-standby';
const settings = FLAGS.filter(isOfFile);
const valued = settings.filter((flag): flag is ValueFlag => flag.value !== undefined);

/** The texts, when everything is good; undefined when it is refused. */
function accepted(read: () => Layer): string[] | undefined {
  try {
    const layer = read();
    checkLayer(layer, specs);
    return [...layer.values()].flat().map((item) => item.text);
  } catch (thrown) {
    if (thrown instanceof FtError && thrown.code === 'FT_ERR_CONFIG') return undefined;
    throw thrown;
  }
}

/** Texts near what settings look like. */
const word = fc.oneof(
  fc.string({ maxLength: 20 }),
  fc.string({ unit: 'binary', maxLength: 8 }),
  fc.stringMatching(/^[0-9a-zA-Z:.,[\]%/_@ -]{0,30}$/),
  fc.stringMatching(/^[1-9][0-9]{0,12}[KMG]?$/),
  fc.stringMatching(/^(\[[0-9a-f:]{2,12}(%[a-z]{1,3})?\]|[a-z0-9.]{1,12}):0{0,3}[0-9]{1,5}$/),
  fc.stringMatching(/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/),
  fc.stringMatching(/^(file|unix|etcd):[a-z0-9/:.,]{0,20}$/),
  fc.stringMatching(/^etcd:http:\/\/[a-z]{1,3}:[1-9](,https:\/\/[d-f]{1,3}:[1-9]\/?){0,3}$/),
  fc.stringMatching(/^[a-z/.]{1,12}(,ro)?$/),
  fc.constantFrom(...valued.flatMap((flag) => flag.fallback ?? [])),
  fc.constantFrom('kvm', 'pause', 'rejoin', 'hold', 'exit', 'json', 'none', 'release-early'),
);
const scalar = fc.oneof(
  word,
  fc.integer({ min: -2, max: 100 }),
  fc.integer({ min: 0, max: 2 ** 41 }),
  fc.integer({ min: 0, max: 2 ** 20 }).map((pages) => pages * 4096),
  fc.double(),
  fc.boolean(),
  fc.constant(null),
);

/** Values about as often good for this flag as not. */
function valueFor(flag: FlagSpec): fc.Arbitrary<unknown> {
  const { type } = flag;
  const near =
    type?.kind === 'integer'
      ? fc.integer({ min: type.min - 1, max: type.max + 1 })
      : type?.kind === 'choice'
        ? fc.constantFrom(...type.choices)
        : scalar;
  const one = fc.oneof(near, near, scalar);
  const many = fc.array(one, { maxLength: 3 });
  return flag.repeats === true ? fc.oneof(many, many, one) : fc.oneof(one, one, one, many);
}

test('schema and reader accept and refuse the same values', () => {
  const sample = fc
    .constantFrom(...settings)
    .chain((flag) => fc.tuple(fc.constant(flag), fc.oneof(valueFor(flag), fc.constant({ a: 1 }))));
  let good = 0;
  fc.assert(
    fc.property(sample, ([flag, generated]) => {
      const text = stringify({ [flag.name]: generated });
      // What YAML made of it, since that is what both get to see.
      const data: unknown = parse(text);
      const reader = accepted(() => parseConfigText('ft-primary', 'x', text)) !== undefined;
      const schema = validate(data) === true;
      if (reader) good += 1;
      const loose = flag.type !== undefined && LOOSE.has(flag.type.kind);
      if (loose && !reader) return;
      if (schema !== reader) throw new Error(`${text} reader: ${reader}, schema: ${schema}`);
    }),
    { numRuns: 4000 },
  );
  expect(good).toBeGreaterThan(400);
});

test('a value means the same from the file, the environment and the command line', () => {
  const single = fc.constantFrom(...valued.filter((flag) => flag.repeats !== true));
  fc.assert(
    fc.property(single, word, (flag, text) => {
      fc.pre(!text.includes('\0'));
      const line = accepted(() => parseFlags('ft-primary', [`--${flag.name}=${text}`]));
      const environment = { [variableOf(flag.name)]: text };
      expect(accepted(() => readEnvironment('ft-primary', environment))).toEqual(line);
      const isNumber = flag.type.kind === 'integer' || flag.type.kind === 'size';
      const plain = /^[0-9]+$/.test(text) && `${Number(text)}` === text;
      if (isNumber && !plain && flag.type.kind === 'integer') return;
      const node = isNumber && plain ? Number(text) : text;
      const file = stringify({ [flag.name]: node });
      if (JSON.stringify(parse(file)) !== JSON.stringify({ [flag.name]: node })) return;
      expect(accepted(() => parseConfigText('ft-primary', 'x', file))).toEqual(line);
    }),
    { numRuns: 3000 },
  );
});

test('no text makes the reader do anything but accept or refuse', () => {
  const piece = fc.oneof(
    fc.constantFrom(...settings.map((flag) => `${flag.name}: `)),
    fc.constantFrom('\n', '- ', '  ', '[', ']', '{', '}', '&a ', '*a', '!t ', '|', '>', '"', "'"),
    fc.constantFrom('? ', ': ', '#', '%YAML 1.1\n', '---\n', '...\n', '\t', '<<: ', '\ufeff'),
    word,
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
      accepted(() => parseConfigText('ft-primary', 'x', pieces.join('')));
    }),
    { numRuns: 3000 },
  );
});
