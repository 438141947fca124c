/** The JSON schema and the reader of the file say the same; what is made from the table is current. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import Ajv from 'ajv';
import { parse } from 'yaml';
import { FtError } from '../../src/common/errors';
import { readPrimaryConfig } from '../../src/config/config';
import { parseConfigText } from '../../src/config/file';
import { FLAGS } from '../../src/config/flags';
import { multiplePattern, rangePattern } from '../../src/config/number-pattern';
import { specsOf } from '../../src/config/parse';
import { settingsReference } from '../../src/config/reference';
import { configSchema } from '../../src/config/schema';
import { checkLayer } from '../../src/config/sources';
import { checkValue } from '../../src/config/value-types';

const root = path.join(__dirname, '../..');
const validate = new Ajv({ strict: true, allowUnionTypes: true }).compile(configSchema());

/** What the reader says of a file for ft-primary, key by key; undefined: nothing is wrong. */
function refusalOf(text: string): string | undefined {
  try {
    checkLayer(parseConfigText('ft-primary', 'x', text), specsOf(FLAGS));
    return undefined;
  } catch (thrown) {
    if (thrown instanceof FtError) return thrown.message;
    throw thrown;
  }
}

test('docs/config.schema.json and the tables in docs/configuration.md are current', () => {
  const schema = JSON.parse(readFileSync(path.join(root, 'docs/config.schema.json'), 'utf8'));
  expect(schema).toEqual(JSON.parse(JSON.stringify(configSchema())));
  const page = readFileSync(path.join(root, 'docs/configuration.md'), 'utf8');
  expect(page).toContain(settingsReference());
});

test('docs/configuration.md tells of each setting that a reload takes over, and of no other', () => {
  const page = readFileSync(path.join(root, 'docs/configuration.md'), 'utf8');
  const [, section = ''] = page.split('## Changing settings while a node runs');
  const rows = section.split('| setting | what a reload does |')[1]?.split('\n\n')[0] ?? '';
  const named = [...rows.matchAll(/^\| (`.*?`) \|/gm)].flatMap(([, cell = '']) =>
    [...cell.matchAll(/`([\w-]+)`/g)].map(([, name]) => name),
  );
  const live = FLAGS.filter((flag) => flag.reload !== undefined).map((flag) => flag.name);
  expect([...named].sort()).toEqual([...live].sort());
});

test('the example file is one that both take', () => {
  const file = path.join(root, 'packaging/romulus.example.yaml');
  expect(validate(parse(readFileSync(file, 'utf8'))) || validate.errors).toBe(true);
  expect(readPrimaryConfig(['--config', file]).kind).toBe('run');
});

test.each<[string, boolean]>([
  ['', true],
  ['machine: kvm', true],
  ['machine: qemu', false],
  ['machine: true', false],
  ['memory: 64M', true],
  ['memory: 4K', false],
  ['memory: 1024K', true],
  ['memory: 1026K', false],
  ['memory: 1028K', true],
  ['memory: 1048576', true],
  ['memory: 1048577', false],
  ['memory: "1048576"', false],
  ['memory: 1024G', true],
  ['memory: 1025G', false],
  ['memory: 01M', false],
  ['memory: -64M', false],
  ['outbox-bytes-max: 64K', true],
  ['outbox-bytes-max: 63K', false],
  ['outbox-bytes-max: 65537', true],
  ['outbox-bytes-max: 16G', true],
  ['outbox-bytes-max: 17G', false],
  ['interval-us: 20', true],
  ['interval-us: 19', false],
  ['interval-us: 1e3', true],
  ['interval-us: 20.0', true],
  ['interval-us: 20.5', false],
  ['interval-us: "20"', false],
  ['interval-us: .nan', false],
  ['audit-pages: -0', true],
  ['insecure: true', true],
  ['insecure: "true"', false],
  ['insecure: 1', false],
  ['standby: ["127.0.0.1:1"]', true],
  ['standby: []', true],
  ['standby: 127.0.0.1:1', false],
  ['standby: ["127.0.0.1:0"]', false],
  ['standby: ["127.0.0.1:00080"]', true],
  ['standby: ["127.0.0.1:000080"]', false],
  ['standby: ["127.0.0.1:65535"]', true],
  ['standby: ["127.0.0.1:65536"]', false],
  ['standby: ["[fe80::1%eth0]:1"]', true],
  ['standby: ["[eth0]:1"]', false],
  ['standby: ["::1:1"]', false],
  ['standby: ["a b:1"]', false],
  ['listen: "127.0.0.1:0"', true],
  ['listen: "127.0.0.1:"', false],
  ['pair: a', true],
  ['pair: .a', false],
  ['pair: ""', false],
  [`pair: ${'x'.repeat(64)}`, true],
  [`pair: ${'x'.repeat(65)}`, false],
  ['tap: fifteen-letters', true],
  ['tap: sixteen-letters-', false],
  ['netns: ..', false],
  ['netns: ...', true],
  ['netns: a/b', false],
  ['netns: /run/netns/b', true],
  ['mac: 52:54:00:12:34:56', true],
  ['mac: 53:54:00:12:34:56', false],
  ['mac: 00:00:00:00:00:00', false],
  ['console: stdio', true],
  ['console: "file:"', false],
  ['console: "file:/x\\0"', false],
  ['console: unix:/a', true],
  ['disk: [a, "b,ro"]', true],
  ['disk: ["a,rw"]', false],
  ['disk: ["a,"]', false],
  ['witness: none', true],
  ['witness: file:/w', true],
  ['witness: "file:"', false],
  ['witness: etcd:http://a:1,https://b:2/', true],
  ['witness: etcd:http://a:1/x', false],
  ['witness: etcd:http://a:1,', false],
  ['witness: paper:/x', false],
  ['witness-prefix: /a/b', true],
  ['witness-prefix: /a/', false],
  [`witness-prefix: /${'a'.repeat(200)}`, false],
  ['kernel: ""', false],
  ['cmdline: ""', true],
  ['cmdline:', false],
  ['control: /run/x', true],
  [`control: /${'x'.repeat(107)}`, false],
  ['http-peer: ["https://a:1"]', true],
  ['http-peer: ["ftp://a:1"]', false],
  ['test-fault: [release-early]', true],
  ['test-fault: [meteor]', false],
  ['status-interval-ms: null', false],
  ['force-claim: true', false],
  ['config: x', false],
  ['unknown: 1', false],
  ['- 1', false],
])('schema and reader agree on %s', (text, good) => {
  expect({ reader: refusalOf(text) === undefined, schema: validate(parse(text) ?? null) }).toEqual({
    reader: good,
    schema: good,
  });
});

test('every default is a value of its setting, and every choice is in the help', () => {
  for (const { name, type, fallback, value } of FLAGS) {
    if (type === undefined) continue;
    if (fallback !== undefined) expect(() => checkValue(type, name, fallback)).not.toThrow();
    if (type.kind === 'choice' && value.includes('|')) expect(value).toBe(type.choices.join('|'));
  }
});

describe('patterns for numbers', () => {
  test.each([
    [0, 0],
    [0, 9],
    [1, 65_535],
    [7, 1234],
    [99, 1001],
    [100, 100],
    [16, 60_000],
  ])('%i to %i, and nothing else', (min, max) => {
    const pattern = new RegExp(`^${rangePattern(min, max)}$`);
    const wrong: number[] = [];
    for (let value = 0; value <= 70_000; value += value < 2000 ? 1 : 7) {
      if (pattern.test(`${value}`) !== (value >= min && value <= max)) wrong.push(value);
    }
    expect(wrong).toEqual([]);
    for (const value of [min, max]) expect(pattern.test(`${value}`)).toBe(true);
    expect(pattern.test(`${max + 1}`)).toBe(false);
    expect(pattern.test(`0${max}`)).toBe(false);
  });

  test.each([1, 2, 4, 16])('multiples of %i, and nothing else', (of) => {
    const pattern = new RegExp(`^${multiplePattern(of)}$`);
    const wrong: number[] = [];
    for (let value = 0; value <= 30_000; value += 1) {
      if (pattern.test(`${value}`) !== (value % of === 0)) wrong.push(value);
    }
    expect(wrong).toEqual([]);
  });
});
