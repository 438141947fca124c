/**
 * What a node gives up before it opens anything: it goes on writing where its settings say, and only
 * there; it listens and dials at the ports in its settings; it starts no program. A guest or a peer
 * that finds a defect in this process finds little else. What the kernel does for it:
 * native/core/confine.h.
 */
import { readlinkSync, realpathSync, statSync } from 'node:fs';
import path from 'node:path';
import type { Logger } from '../common/logger';
import type { DiskConfig } from '../config/compound-values';
import type { PrimaryConfig, StandbyConfig } from '../config/config';
import { confineProcess } from '../machine';
import type { Confined, Confinement } from '../machine/native';
import { diskFiles } from './disk-files';

type Config = PrimaryConfig | StandbyConfig;

const DEVICES = ['/dev/kvm', '/dev/net/tun', '/dev/null'];
/** Landlock confines TCP ports from this version on, and devices from the next one. */
const LANDLOCK_WHOLE = 5;

/**
 * Must run before the process has threads of its own (libuv's pool). Returns what is to be said of it
 * once there is a log. Throws FT_ERR_CONFINE or FT_ERR_ADDON.
 */
export function confineNode(config: Config): (logger: Logger) => void {
  // A simulated guest is for tests, and does without the addon.
  if (!config.confine || config.guest.kind !== 'kvm') return () => undefined;
  const confined = confineProcess(confinementOf(config));
  return (logger) => tellConfined(confined, logger);
}

/** Says what holds from now on; nothing else shows from outside whether Landlock does. */
export function tellConfined({ landlock, forbidden }: Confined, logger: Logger): void {
  if (forbidden) {
    logger.warn(
      'Landlock is forbidden here, so what this process may write is up to its user alone; let the ' +
        'unit or container allow landlock_create_ruleset, landlock_add_rule, landlock_restrict_self',
    );
  } else if (landlock === 0) {
    logger.info('this kernel has no Landlock: what this process may write is up to its user alone');
  } else if (landlock < LANDLOCK_WHOLE) {
    const message = 'this kernel has an old Landlock: not all that this process may do is confined';
    logger.info(message, { landlock });
  } else {
    logger.info('this process is confined by Landlock', { landlock });
  }
}

/** The places and ports that the settings name. */
export function confinementOf(config: Config): Confinement {
  const { guest, witness, listen, http, control } = config;
  const writable = [...DEVICES];
  if (witness.kind === 'file') writable.push(...witnessPlaces(witness.directory));
  for (const disk of guest.disks) writable.push(...diskPlaces(disk, guest.diskMapDir));
  if (guest.console.kind === 'file') writable.push(fileOrFolder(guest.console.path));
  if (guest.console.kind === 'unix') writable.push(path.dirname(guest.console.path));
  if (guest.console.kind === 'stdio') writable.push(...standardOutput());
  if (control !== undefined) writable.push(path.dirname(control));
  const bound = [listen?.port, http?.address.port];
  return { writable, bindPorts: bound.filter((port) => port !== undefined) };
}

/**
 * The directory, and what it is mounted on. Landlock knows directories by their inodes: storage that
 * is mounted anew has others, and every claim would fail until a restart. What lies above a mount
 * stays, and counts for whatever is mounted there later; the mount point itself does not. A mount in
 * the root directory has only "/" above it, which would be no bound at all.
 *
 *   /  ·  srv  ·  witness ╪ web       ╪: another file system is mounted here
 *         └ stays         └ named
 */
export function witnessPlaces(
  directory: string,
  deviceOf: (folder: string) => number = deviceBelow,
): string[] {
  try {
    // The end "/." makes an automounter mount what belongs there.
    let mount = realpathSync(`${directory}/.`);
    const device = deviceOf(mount);
    const places = [mount];
    while (mount !== '/' && deviceOf(path.dirname(mount)) === device) mount = path.dirname(mount);
    const above = path.dirname(mount);
    return above === '/' ? places : [...places, above];
  } catch {
    // Whoever opens it says what is wrong with it.
    return [directory];
  }
}

function deviceBelow(folder: string): number {
  return statSync(`${folder}/.`).dev;
}

/** An image, and where the map of what differs between the hosts is kept. */
function diskPlaces(disk: DiskConfig, mapFolder: string | undefined): string[] {
  try {
    return diskFiles([disk], mapFolder).flatMap(({ path: image, mapPath }) => {
      // Even a disk that is only read is asked for its size: a device by an ioctl.
      if (disk.readOnly) return statSync(image).isBlockDevice() ? [image] : [];
      return mapPath === '' ? [image] : [image, path.dirname(mapPath)];
    });
  } catch {
    // Whoever opens it says what is wrong with it.
    return [];
  }
}

function fileOrFolder(file: string): string {
  return statSync(file, { throwIfNoEntry: false }) === undefined ? path.dirname(file) : file;
}

/** The console opens it anew, to write without waiting. A pipe needs no leave. */
function standardOutput(): string[] {
  try {
    const target = readlinkSync('/proc/self/fd/1');
    return target.startsWith('/') ? [target] : [];
  } catch {
    return [];
  }
}
