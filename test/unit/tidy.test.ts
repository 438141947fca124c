/**
 * House rules that no compiler or linter holds by itself: the size and the first line of files, the
 * direction of native includes, the lock file, the promises in SPECIFICATION.md. The import
 * directions of TypeScript are Biome's to hold (biome.json); here we prove that it does.
 */
import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

const root = path.join(__dirname, '..', '..');
const linesMax = 500;
/** Files that may be longer than `linesMax`, each with its reason. */
const longFiles: Readonly<Record<string, string>> = {};

/** Every file of the project under `folder`, relative to the root; nothing generated. */
function filesUnder(folder: string): string[] {
  const skip = new Set(['node_modules', 'build', 'dist', 'coverage', '.git', '.cache']);
  const found: string[] = [];
  const walk = (where: string): void => {
    for (const entry of readdirSync(path.join(root, where), { withFileTypes: true })) {
      const name = path.join(where, entry.name);
      if (entry.isDirectory() && !skip.has(entry.name)) walk(name);
      else if (entry.isFile()) found.push(name);
    }
  };
  if (existsSync(path.join(root, folder))) walk(folder);
  return found;
}

const read = (file: string): string => readFileSync(path.join(root, file), 'utf8');
const rooms = ['src', 'native', 'guest', 'bench', 'demo', 'test', 'tools', '.ci'];
const sources = rooms
  .flatMap(filesUnder)
  .filter((file) => /\.(ts|js|cc|c|h|S|ld)$/.test(file) || /^(tools|\.ci)\/[^.]+$/.test(file));

describe('files', () => {
  test('there are some to look at', () => {
    expect(sources.length).toBeGreaterThan(30);
  });

  test(`none is longer than ${linesMax} lines without a reason`, () => {
    const tooLong = sources
      .map((file) => ({ file, lines: read(file).split('\n').length - 1 }))
      .filter(({ file, lines }) => lines > (file in longFiles ? 800 : linesMax));
    expect(tooLong).toEqual([]);
    for (const file of Object.keys(longFiles)) expect(sources).toContain(file);
  });

  test('each begins by saying what it is for', () => {
    const silent = sources.filter((file) => {
      const lines = read(file).split('\n');
      if (lines[0]?.startsWith('#!')) lines.shift();
      return !/^(\/\/|\/\*|#)\s*\S|^\/\*\*$/.test(lines[0] ?? '');
    });
    expect(silent).toEqual([]);
  });

  test('none runs one test alone, or leaves a mark for later', () => {
    const focused = /\b(test|it|describe)\.only\(|\bf(describe|it)\(/;
    const mark = new RegExp(['\\b(TO', 'DO|FIX', 'ME)\\b'].join(''));
    const marked = sources.filter((file) => focused.test(read(file)) || mark.test(read(file)));
    expect(marked.filter((file) => file !== 'test/unit/tidy.test.ts')).toEqual([]);
  });
});

describe('native include directions', () => {
  /** Which rooms of native/ each room may include. */
  const allowed: Readonly<Record<string, readonly string[]>> = {
    core: ['core'],
    delta: ['core', 'delta'],
    disk: ['core', 'disk'],
    kvm: ['core', 'kvm'],
    machine: ['core', 'delta', 'disk', 'kvm', 'machine'],
    binding: ['core', 'delta', 'disk', 'kvm', 'machine', 'binding'],
    tests: ['core', 'delta', 'disk', 'kvm', 'machine', 'tests'],
    fuzz: ['core', 'delta', 'disk', 'kvm', 'machine', 'tests', 'fuzz'],
  };
  const known = Object.keys(allowed);

  /** What is wrong with the includes of one file that stands in `room`. */
  function wrongIncludes(room: string, text: string): string[] {
    const wrong: string[] = [];
    for (const match of text.matchAll(/^\s*#\s*include\s*([<"])([^>"]+)[>"]/gm)) {
      const target = match[2] ?? '';
      const first = target.split('/')[0] ?? '';
      if (match[1] === '"' && target.includes('..')) wrong.push(target);
      if (known.includes(first) && !allowed[room]?.includes(first)) wrong.push(target);
      if (/^(napi|node_api|js_native_api|v8|uv|node)(\.h$|\/|-)/.test(target)) {
        if (room !== 'binding') wrong.push(target);
      }
    }
    return wrong;
  }

  test('core ← delta, disk, kvm ← machine ← binding, and only binding knows Node', () => {
    const bad = filesUnder('native')
      .filter((file) => /\.(cc|h)$/.test(file))
      .map((file) => ({ file, wrong: wrongIncludes(file.split('/')[1] ?? '', read(file)) }))
      .filter(({ wrong }) => wrong.length > 0);
    expect(bad).toEqual([]);
  });

  test('a wrong include is seen', () => {
    expect(wrongIncludes('core', '#include "kvm/vm.h"\n')).toEqual(['kvm/vm.h']);
    expect(wrongIncludes('kvm', '#include "machine/outbox.h"\n')).toEqual(['machine/outbox.h']);
    expect(wrongIncludes('disk', '#include "kvm/vm.h"\n')).toEqual(['kvm/vm.h']);
    expect(wrongIncludes('machine', '#include <napi.h>\n')).toEqual(['napi.h']);
    expect(wrongIncludes('machine', '#include "../kvm/vm.h"\n')).toEqual(['../kvm/vm.h']);
    expect(wrongIncludes('binding', '#include <napi.h>\n#include "machine/cut.h"\n')).toEqual([]);
  });
});

describe('TypeScript import directions', () => {
  /** room, statement, whether the linter must refuse it. */
  const cases: readonly (readonly [string, string, 'refused' | 'accepted'])[] = [
    ['common', "import '../wire/frame';", 'refused'],
    ['common', "import 'node:net';", 'refused'],
    ['common', "import './errors';", 'accepted'],
    ['wire', "import '../transport/connection';", 'refused'],
    ['wire', "import 'node:net';", 'refused'],
    ['wire', "import '../machine/machine';", 'refused'],
    ['wire', "import '../common/errors';", 'accepted'],
    ['transport', "import '../primary/pipeline';", 'refused'],
    ['transport', "import 'node:net';", 'accepted'],
    ['machine', "import '../wire/frame';", 'refused'],
    ['witness', "import '../primary/pipeline';", 'refused'],
    ['config', "import '../node/node';", 'refused'],
    ['observe', "import '../primary/pipeline';", 'refused'],
    ['observe', "import 'prom-client';", 'accepted'],
    ['primary', "import '../standby/applier';", 'refused'],
    ['standby', "import '../primary/pipeline';", 'refused'],
    ['primary', "import 'node:net';", 'refused'],
    ['standby', "import 'node:net';", 'refused'],
    ['primary', "import 'prom-client';", 'refused'],
    ['primary', "import '../../build/Release/romulus.node';", 'refused'],
    ['primary', "import '../machine/kvm-machine';", 'refused'],
    ['primary', "import '../transport/tcp';", 'refused'],
    ['primary', "import type { Socket } from 'node:net';\nexport type S = Socket;", 'refused'],
    ['primary', "export const later = import('node:net');", 'refused'],
    ['primary', "export const net = require('node:net');", 'refused'],
    ['primary', "import '../machine/machine';", 'accepted'],
    ['primary', "import '../transport/connection';", 'accepted'],
    ['standby', "import '../witness/witness';", 'accepted'],
    ['drill', "import '../primary/pipeline';", 'refused'],
    ['drill', "import '../node/status';", 'refused'],
    ['drill', "import '../cli/main';", 'refused'],
    ['drill', "import '../../test/support/kvm';", 'refused'],
    ['drill', "import '../cli/control-client';", 'accepted'],
    ['drill', "import '../common/errors';", 'accepted'],
    ['node', "import '../cli/ft-primary';", 'refused'],
    ['node', "import '../primary/pipeline';", 'accepted'],
  ];

  /** The files under `folder` in which Biome, with the project's rules, finds a bad import. */
  function refusedFiles(folder: string): Set<string> {
    const config = JSON.parse(read('biome.json')) as Record<string, unknown>;
    config['vcs'] = { enabled: false };
    delete config['$schema'];
    writeFileSync(path.join(folder, 'biome.json'), JSON.stringify(config));
    const biome = path.join(root, 'node_modules', '.bin', 'biome');
    const run = spawnSync(biome, ['lint', '--reporter=json', '--max-diagnostics=none', 'src'], {
      cwd: folder,
      encoding: 'utf8',
    });
    const report = JSON.parse(run.stdout) as {
      diagnostics: { category: string; location: { path: string } }[];
    };
    const rules = ['lint/style/noRestrictedImports', 'lint/style/noCommonJs'];
    return new Set(
      report.diagnostics.filter((d) => rules.includes(d.category)).map((d) => d.location.path),
    );
  }

  test('the linter refuses what the design forbids, and nothing else', () => {
    const folder = mkdtempSync(path.join(tmpdir(), 'romulus-tidy-'));
    try {
      cases.forEach(([room, statement], index) => {
        mkdirSync(path.join(folder, 'src', room), { recursive: true });
        writeFileSync(path.join(folder, 'src', room, `case-${index}.ts`), `${statement}\n`);
      });
      const refused = refusedFiles(folder);
      const judged = cases.map(([room, statement], index) => [
        room,
        statement,
        refused.has(`src/${room}/case-${index}.ts`) ? 'refused' : 'accepted',
      ]);
      expect(judged).toEqual(cases);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});

describe('package-lock.json', () => {
  test('names no address, so that any mirror serves it', () => {
    const lock = read('package-lock.json');
    expect(lock).not.toMatch(/"resolved"/);
    const addresses = lock
      .split('\n')
      .filter((line) => /https?:\/\//.test(line) && !/"url":/.test(line));
    expect(addresses).toEqual([]);
  });

  test('names every optional package, without which `npm ci` refuses it', () => {
    const tool = path.join(root, 'tools', 'complete-lock.js');
    const run = spawnSync(process.execPath, [tool, '--check'], { encoding: 'utf8' });
    expect(run.stdout).toBe('');
    expect(run.status).toBe(0);
  });
});

describe('SPECIFICATION.md', () => {
  const rows = read('SPECIFICATION.md')
    .split('\n')
    .filter((line) => /^\| *[A-Z]+[0-9]+ *\|/.test(line))
    .map((line) => line.split('|').map((cell) => cell.trim()))
    .map((cells) => ({ number: cells[1] ?? '', heldBy: cells[cells.length - 2] ?? '' }));

  test('has promises, each number once', () => {
    expect(rows.length).toBeGreaterThan(10);
    expect(new Set(rows.map((row) => row.number)).size).toBe(rows.length);
  });

  test('links each promise to a test or benchmark that exists, or says that it is pending', () => {
    const loose = rows.filter(({ heldBy }) => {
      const files = [...heldBy.matchAll(/`((?:test|bench|demo|native|\.ci)\/[^`]+)`/g)];
      if (files.length === 0) return !/\bpending\b/.test(heldBy);
      return files.some((match) => !existsSync(path.join(root, match[1] ?? '')));
    });
    expect(loose).toEqual([]);
  });
});

describe('documents', () => {
  test('link only to files that exist', () => {
    const documents = [
      ...filesUnder('docs'),
      'README.md',
      'CONTRIBUTING.md',
      'SPECIFICATION.md',
    ].filter((file) => file.endsWith('.md') && existsSync(path.join(root, file)));
    const dead = documents.flatMap((file) =>
      [...read(file).matchAll(/\]\(([^)#\s]+)(?:#[^)]*)?\)/g)]
        .map((match) => match[1] ?? '')
        .filter((target) => !/^[a-z]+:/.test(target))
        .filter((target) => !existsSync(path.join(root, path.dirname(file), target)))
        .map((target) => `${file} → ${target}`),
    );
    expect(dead).toEqual([]);
  });
});
