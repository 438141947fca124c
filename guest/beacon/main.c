/* User mode (CPL3) from here on: look around, bring the device up, then serve for ever.
 *
 *   ┌─▶ poll the network ─▶ a step of load ─▶ TCP timeouts ─▶ poll the disks ─▶ more to do? ─yes─┐
 *   │                                                                                │ no        │
 *   │                                                           interrupts on, rings still empty?│
 *   │                                                                                │ yes: sleep│
 *   └────────────────────────────────────────────────────────────────────────────────┴───────────┘
 */
#include "command_line.h"
#include "console.h"
#include "cpu.h"
#include "disk.h"
#include "interrupts.h"
#include "layout.h"
#include "load.h"
#include "net.h"
#include "pvclock.h"
#include "service.h"
#include "smp.h"
#include "stack.h"
#include "start_info.h"
#include "tcp.h"
#include "virtio_blk.h"

#define VIRTIO_TYPE_NET 1
#define VIRTIO_TYPE_BLOCK 2
#define FRAMES_PER_POLL 16
#define LOAD_PERIOD_NS 1000000
#define SLEEP_NS_MAX 1000000000

void user_main(u64 start_info) __attribute__((noreturn));

static void __attribute__((noreturn)) stop(const char* what, const char* why) {
  console_print("beacon: ");
  console_print(what);
  console_print(why);
  console_print("; stopping\n");
  cpu_stop();
}

/* The next device of a type at or after *at, which moves behind it. */
static bool find_device(const char** at, u32 type, struct VirtioDevice* device) {
  const char* text;
  while ((text = command_line_next(at, "virtio_mmio.device")) != NULL) {
    if (!parse_device(text, &device->address, &device->irq)) {
      stop("a virtio_mmio.device= on the command line is not SIZE@ADDRESS:IRQ", "");
    }
    if (virtio_probe(device->address, type)) return true;
  }
  return false;
}

/* Brings every disk up and says so; a disk that cannot be used ends the guest. */
static void init_disks(const char* command_line) {
  const char* at = command_line;
  struct VirtioDevice device;
  while (find_device(&at, VIRTIO_TYPE_BLOCK, &device)) {
    const char* wrong = blk_init(&device);
    if (wrong != NULL) stop("a disk cannot be used: ", wrong);
    interrupts_route(device.irq);
    console_print("beacon: disk ");
    console_decimal(blk_disks() - 1);
    console_print(" of ");
    console_decimal(blk_blocks(blk_disks() - 1));
    console_print(" blocks\n");
  }
}

static u64 choose_boot_id(const char* command_line) {
  const char* at = command_line;
  const char* text = command_line_next(&at, "boot_id");
  u64 boot_id;
  if (text == NULL) {
    boot_id = (read_tsc() ^ pvclock_now_ns() << 32) * 0x9e3779b97f4a7c15ull;
    return boot_id ^ boot_id >> 29;
  }
  if (!parse_hex(text, &boot_id)) stop("boot_id= on the command line is not a hex u64", "");
  return boot_id;
}

static u32 own_ip(const char* command_line) {
  const char* at = command_line;
  const char* text = command_line_next(&at, "ip");
  u32 ip;
  if (text == NULL) stop("there is no ip= on the command line", "");
  if (!parse_ip(text, &ip)) stop("ip= on the command line is not an IPv4 address", "");
  return ip;
}

static void say_up(u64 boot_id, u64 memory_bytes, const struct VirtioDevice* device, u64 ready_ns) {
  console_print("beacon: up, boot id ");
  console_hex(boot_id, 16);
  console_print(", memory ");
  console_decimal((memory_bytes + (1 << 20) - 1) >> 20);
  console_print(" MiB, ip ");
  for (u32 i = 0; i < 4; i++) {
    if (i > 0) console_print(".");
    console_decimal(stack_ip >> (8 * i) & 255);
  }
  console_print(", mac ");
  for (u32 i = 0; i < 6; i++) {
    if (i > 0) console_print(":");
    console_hex(net_mac[i], 2);
  }
  console_print(", device at 0x");
  console_hex(device->address, 1);
  console_print(" irq ");
  console_decimal(device->irq);
  console_print(", ready after ");
  console_decimal(ready_ns / 1000);
  console_print(" us\n");
}

/* Until an interrupt; the timer's comes when load or TCP has something to do. */
static void sleep_until_due(void) {
  u64 ns = tcp_due_ns();
  if (disk_due_ns() < ns) ns = disk_due_ns();
  if (load_paced() && ns > LOAD_PERIOD_NS) ns = LOAD_PERIOD_NS;
  if (ns == 0) return;
  if (ns != NEVER) timer_arm_ns(ns < SLEEP_NS_MAX ? (u32)ns : SLEEP_NS_MAX);
  cpu_sleep();
}

/* Interrupts on. False when there is work already, so there must be no sleep. */
static bool prepare_sleep(void) {
  bool woken = wake[WAKE_DEVICE] != 0;
  wake[WAKE_DEVICE] = 0;
  wake[WAKE_TIMER] = 0;
  bool quiet = net_prepare_sleep(woken);
  return blk_prepare_sleep(woken) && quiet;
}

static void serve_for_ever(void) {
  for (;;) {
    bool busy = net_poll(FRAMES_PER_POLL);
    service_end_if_asked();
    busy |= load_step();
    busy |= tcp_poll();
    busy |= disk_poll();
    if (busy) continue;
    if (prepare_sleep()) sleep_until_due();
    net_awake();
    blk_awake();
  }
}

void user_main(u64 start_info_address) {
  struct StartInfo info;
  struct VirtioDevice device;
  console_init();
  const char* wrong = start_info_read((u32)start_info_address, &info);
  if (wrong != NULL) stop(wrong, "");
  u64 boot_id = choose_boot_id(info.command_line);
  stack_init(own_ip(info.command_line));
  const char* at = info.command_line;
  if (!find_device(&at, VIRTIO_TYPE_NET, &device)) {
    stop("no virtio-mmio version 2 network device answers at any virtio_mmio.device= address", "");
  }
  interrupts_init();
  interrupts_route(device.irq);
  wrong = net_init(&device);
  if (wrong != NULL) stop("the network device cannot be used: ", wrong);
  init_disks(info.command_line);
  load_init(info.free_first, info.free_pages);
  service_init(boot_id);
  tcp_init(boot_id);
  arp_announce();
  smp_start();
  u64 ready_ns = pvclock_ticks_to_ns(read_tsc() - boot_tsc);
  say_up(boot_id, info.memory_bytes, &device, ready_ns);
  serve_for_ever();
  __builtin_unreachable();
}
