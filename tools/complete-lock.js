/**
 * Completes package-lock.json with the optional packages for other platforms, which npm leaves out
 * when the registry at hand does not offer them. Without an entry for each of them `npm ci` refuses
 * the lock file, though it would install none of them here.
 *
 *   node tools/complete-lock.js           adds what is missing
 *   node tools/complete-lock.js --check   only says what is missing; exit code 1 if anything is
 *
 * An added entry has the version that its parent asks for and the platform that its name tells; it
 * has no integrity hash, since the package was never seen. Where one day such a package is really
 * installed, npm fills the hash in.
 */

const { readFileSync, writeFileSync } = require('node:fs');
const path = require('node:path');

const file = path.join(__dirname, '..', 'package-lock.json');

/** Node's names of what may stand in a platform package's name. */
const operatingSystems = {
  aix: 'aix',
  android: 'android',
  androideabi: 'android',
  darwin: 'darwin',
  freebsd: 'freebsd',
  linux: 'linux',
  netbsd: 'netbsd',
  openbsd: 'openbsd',
  openharmony: 'openharmony',
  ohos: 'openharmony',
  sunos: 'sunos',
  win32: 'win32',
};
const processors = {
  arm: 'arm',
  arm64: 'arm64',
  ia32: 'ia32',
  loong64: 'loong64',
  mips64el: 'mips64el',
  ppc64: 'ppc64',
  riscv64: 'riscv64',
  s390x: 's390x',
  wasm32: 'wasm32',
  x64: 'x64',
};

/** `os`, `cpu` and `libc` of a platform package, told by its name; undefined for any other. */
function platformOf(name) {
  const words = name.split(/[/-]/);
  const os = words.map((word) => operatingSystems[word]).find((one) => one !== undefined);
  const cpu = words.map((word) => processors[word]).find((one) => one !== undefined);
  if (cpu === undefined) return undefined;
  if (cpu === 'wasm32') return { cpu: ['wasm32'] };
  if (os === undefined) return undefined;
  const musl = words.some((word) => word.startsWith('musl'));
  return { cpu: [cpu], os: [os], ...(musl ? { libc: ['musl'] } : {}) };
}

/** The packages that an optional dependency names and that the lock file does not have. */
function missingFrom(packages) {
  const missing = [];
  for (const [parent, entry] of Object.entries(packages)) {
    for (const [name, version] of Object.entries(entry.optionalDependencies ?? {})) {
      const nested = `${parent}/node_modules/${name}`;
      const top = `node_modules/${name}`;
      if (packages[nested] !== undefined || packages[top] !== undefined) continue;
      missing.push({ where: top, version, dev: entry.dev === true, platform: platformOf(name) });
    }
  }
  return missing;
}

function main() {
  const lock = JSON.parse(readFileSync(file, 'utf8'));
  const missing = missingFrom(lock.packages);
  if (process.argv.includes('--check')) {
    for (const one of missing) process.stdout.write(`${one.where}\n`);
    process.exitCode = missing.length > 0 ? 1 : 0;
    return;
  }
  for (const { where, version, dev, platform } of missing) {
    if (platform === undefined || !/^\d/.test(version)) {
      process.stderr.write(`complete-lock: cannot tell what ${where}@${version} is for\n`);
      process.exitCode = 1;
      continue;
    }
    const { cpu, libc, os } = platform;
    lock.packages[where] = {
      version,
      cpu,
      ...(dev ? { dev } : {}),
      ...(libc ? { libc } : {}),
      optional: true,
      ...(os ? { os } : {}),
    };
  }
  const [root, ...others] = Object.keys(lock.packages);
  const order = [root, ...others.sort((a, b) => a.localeCompare(b, 'en'))];
  lock.packages = Object.fromEntries(order.map((where) => [where, lock.packages[where]]));
  writeFileSync(file, `${JSON.stringify(lock, null, 2)}\n`);
}

main();
