/* A guest that means harm: finds every virtio device by its window, posts what no driver should to
 * each of its queues, and says how the devices took it. It ends by switching itself off; the last
 * line on the console is
 *
 *   hostile: done, <devices> devices, <attacks> attacks, <n> resets asked for, <n> unexpected
 */
#include "attacks.h"
#include "device.h"
#include "machine.h"

#define WINDOWS_BASE 0xd0000000ull
#define WINDOW_BYTES 0x1000
#define WINDOWS 8
#define NOISE_ROUNDS 256
#define PORT_NOISE_ROUNDS 4096

void hostile_main(void);

void hostile_main(void) {
  struct score score = {0, 0, 0};
  unsigned devices = 0;
  for (unsigned window = 0; window < WINDOWS; window++) {
    const uint64_t base = WINDOWS_BASE + (uint64_t)window * WINDOW_BYTES;
    const uint32_t id = device_id(base);
    if (id == 0) continue;
    devices++;
    say("hostile: attacking ");
    say(device_name(id));
    say("\n");
    judge(&score, device_name(id), "works at first", 0, works(base, id));
    attack_queues(base, id, &score);
    attack_registers(base, id, &score);
    make_noise(base, id, NOISE_ROUNDS, &score);
  }
  make_port_noise(PORT_NOISE_ROUNDS);
  say("\nhostile: done, ");
  say_number(devices);
  say(" devices, ");
  say_number(score.attacks);
  say(" attacks, ");
  say_number(score.resets);
  say(" resets asked for, ");
  say_number(score.unexpected);
  say(" unexpected\n");
  power_off();
}
