/**
 * Linux on a replicated disk: the guest kernel mounts ext4 read-write from virtio-blk and writes to
 * it by itself; the primary is killed while it does, a returning node is resynced by the maps, and
 * the survivor is killed in its turn. When the guest has come to rest, both images are equal byte
 * for byte, and e2fsck finds nothing. FT_LINUX_DISK_KILLS says how often (2 if absent). By
 * `make test-linux` only.
 */
import { mkdirSync } from 'node:fs';
import { processSettings } from '../../src/drill/process/process';
import { kvmDescribe } from '../support/kvm';
import { EXT4_BYTES, EXT4_ROOT, ext4Faults, firstDifference, makeExt4Image } from './ext4-image';
import { findLinuxImages, LINUX_CMDLINE } from './linux-guest';
import { BOOT_MS_MAX, FAILOVER_MS_MAX, LinuxPair, say } from './linux-pair';

const kills = Number(process.env['FT_LINUX_DISK_KILLS'] ?? 2);
/** The kernel's thread rests between two groups; longer than this means that it has done its work. */
const REST_MS = 20_000;
const WRITING_MS_MAX = 400_000;

kvmDescribe('a Linux guest with a disk', () => {
  let linux: LinuxPair | undefined;

  afterEach(async () => {
    await linux?.pair.close();
    linux = undefined;
  });

  test(
    `keeps its file system whole when its primary is killed, ${kills} times in one boot`,
    async () => {
      mkdirSync(processSettings.logFolder, { recursive: true });
      const images = findLinuxImages();
      const guest = new LinuxPair('linux-disk', {
        kernel: images.vmlinux,
        kernelFlags: ['--cmdline', `${LINUX_CMDLINE} ${EXT4_ROOT}`],
        diskBytes: EXT4_BYTES,
      });
      linux = guest;
      const { pair } = guest;
      try {
        const [first, second] = pair.slots;
        makeExt4Image(pair.imagePath(first), images.init);
        await guest.boot();
        for (let kill = 1; kill <= kills; kill++) {
          await pair.rejoin(120_000);
          await guest.writesToDisk(60_000);
          const sent = pair.active?.figure('diskSyncBytes') ?? 0;
          const { promotedMs, answeredMs } = await guest.failOver();
          say(
            `disk: kill ${kill} of ${kills} while it wrote: sync of ${sent} bytes, promoted after ` +
              `${promotedMs.toFixed(1)} ms, ping answered after ${answeredMs.toFixed(0)} ms`,
          );
        }
        await pair.rejoin(120_000);
        await guest.diskRests(REST_MS, WRITING_MS_MAX);
        const written = pair.active?.figure('diskBytesWritten') ?? 0;
        await pair.stopInOrder();
        const images2 = [pair.imagePath(first), pair.imagePath(second)] as const;
        expect(firstDifference(...images2)).toBe('');
        for (const image of images2) expect(ext4Faults(image)).toBe('');
        expect(guest.console.faults()).toEqual([]);
        say(
          `disk: ${kills} kills, images equal, e2fsck clean; the last side wrote ${written} bytes`,
        );
      } catch (thrown) {
        throw guest.explain(thrown);
      }
    },
    2 * BOOT_MS_MAX + kills * FAILOVER_MS_MAX + WRITING_MS_MAX,
  );
});
