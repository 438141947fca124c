/**
 * Two guests that nobody gave an address have the same one, and on one network cut each other off.
 * Whether another such guest is there a node cannot know; whether its guest is on a bridge it can.
 */
import { readlinkSync } from 'node:fs';
import path from 'node:path';
import type { Logger } from '../common/logger';
import type { GuestConfig } from '../config/config';
import { DEFAULT_MAC } from '../config/flags-guest';

/** Warns of a guest with the default address on a bridge, as `devices` (of sysfs) shows its TAP. */
export function warnOfSharedMac(
  guest: GuestConfig,
  logger: Logger,
  devices = '/sys/class/net',
): void {
  // What sysfs shows is the namespace of this process, not one that only the TAP is in.
  if (guest.kind !== 'kvm' || guest.mac !== DEFAULT_MAC || guest.netns !== undefined) return;
  const bridge = bridgeOf(path.join(devices, guest.tap ?? ''));
  if (bridge === undefined) return;
  logger.warn(
    `the guest's card has the address that is the default for every guest: a second one on the ` +
      'same network would cut both off. Give each guest a mac of its own, the same on both hosts.',
    { mac: guest.mac, bridge },
  );
}

function bridgeOf(device: string): string | undefined {
  try {
    return path.basename(readlinkSync(path.join(device, 'brport', 'bridge')));
  } catch {
    return undefined;
  }
}
