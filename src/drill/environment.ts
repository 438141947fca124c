/** What this host must have for a pair of our own; each lack in a sentence with its remedy. */
import { accessSync, constants, existsSync } from 'node:fs';
import path from 'node:path';
import { FtError } from '../common/errors';
import { beaconPath } from './pair/pair';
import type { WitnessKind } from './pair/sandbox-witness';

/** Programs, and the Debian packages that have them. */
const PACKAGES: Readonly<Record<string, string>> = {
  ip: 'iproute2',
  tc: 'iproute2',
  sysctl: 'procps',
  tcpdump: 'tcpdump',
  etcd: 'etcd-server',
};

/** Throws FT_ERR_DRILL_ENVIRONMENT with everything that is missing. */
export function checkEnvironment(programs: readonly string[]): void {
  const lacks: string[] = [];
  if (process.getuid?.() !== 0) {
    lacks.push('It needs root, for network namespaces: run it with sudo.');
  }
  if (!isOpenable('/dev/kvm')) {
    lacks.push('/dev/kvm is missing or may not be opened: drills need real guests.');
  }
  if (!existsSync(beaconPath)) {
    lacks.push(`The guest image ${beaconPath} is missing: make build makes it.`);
  }
  for (const program of programs.filter((name) => !isInstalled(name))) {
    lacks.push(
      `${program} is missing: install the Debian package ${PACKAGES[program] ?? program}.`,
    );
  }
  if (lacks.length > 0) throw new FtError('FT_ERR_DRILL_ENVIRONMENT', lacks.join(' '));
}

/** The witness that drills have if nobody says which. */
export function defaultWitness(): WitnessKind {
  return isInstalled('etcd') ? 'etcd' : 'file';
}

function isInstalled(program: string): boolean {
  const folders = (process.env['PATH'] ?? '').split(':').filter((folder) => folder !== '');
  return folders.some((folder) => existsSync(path.join(folder, program)));
}

function isOpenable(file: string): boolean {
  try {
    accessSync(file, constants.R_OK | constants.W_OK);
    return true;
  } catch {
    return false;
  }
}
