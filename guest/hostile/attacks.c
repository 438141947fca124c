/* Chains, rings and set-ups that break the rules one by one. */
#include "attacks.h"

#include "device.h"
#include "machine.h"

#define BEYOND_MEMORY 0x100000000000ull
#define DEVICE_WINDOW 0xd0000000ull

static uint64_t at_buffer(void) {
  return (uint64_t)buffer;
}

/* Which direction an honest first buffer of this queue has. */
static uint16_t direction(uint32_t id, unsigned queue) {
  return id == ID_RNG || (id == ID_NET && queue == 0) ? DESC_WRITE : 0;
}

typedef void craft(unsigned queue, uint16_t way);

static void loop_of_two(unsigned queue, uint16_t way) {
  set_desc(queue, 0, at_buffer(), 64, DESC_NEXT | way, 1);
  set_desc(queue, 1, at_buffer(), 64, DESC_NEXT | way, 0);
}

static void loop_of_one(unsigned queue, uint16_t way) {
  set_desc(queue, 0, at_buffer(), 64, DESC_NEXT | way, 0);
}

static void next_beyond_table(unsigned queue, uint16_t way) {
  set_desc(queue, 0, at_buffer(), 64, DESC_NEXT | way, QUEUE_SIZE);
}

static void next_far_away(unsigned queue, uint16_t way) {
  set_desc(queue, 0, at_buffer(), 64, DESC_NEXT | way, 0xffff);
}

static void beyond_memory(unsigned queue, uint16_t way) {
  set_desc(queue, 0, BEYOND_MEMORY, 64, way, 0);
}

static void wraps_around(unsigned queue, uint16_t way) {
  set_desc(queue, 0, 0xfffffffffffff000ull, 0x2000, way, 0);
}

static void huge_length(unsigned queue, uint16_t way) {
  set_desc(queue, 0, at_buffer(), 0xffffffff, way, 0);
}

static void no_length(unsigned queue, uint16_t way) {
  set_desc(queue, 0, at_buffer(), 0, way, 0);
}

static void onto_a_device(unsigned queue, uint16_t way) {
  set_desc(queue, 0, DEVICE_WINDOW, 64, way, 0);
}

static void readable_after_writable(unsigned queue, uint16_t way) {
  (void)way;
  set_desc(queue, 0, at_buffer(), 64, DESC_NEXT | DESC_WRITE, 1);
  set_desc(queue, 1, at_buffer(), 64, 0, 0);
}

static void indirect(unsigned queue, uint16_t way) {
  set_desc(queue, 0, at_buffer(), 64, DESC_INDIRECT | way, 0);
}

static void wrong_direction(unsigned queue, uint16_t way) {
  set_desc(queue, 0, at_buffer(), 64, way ^ DESC_WRITE, 0);
}

static void too_short(unsigned queue, uint16_t way) {
  set_desc(queue, 0, at_buffer(), 4, way, 0);
}

struct attack {
  const char* name;
  craft* make;
  uint16_t head;
  uint16_t jump; /* added to the available index before the chain is offered */
};

static const struct attack kAttacks[] = {
    {"loop of two", loop_of_two, 0, 0},
    {"loop of one", loop_of_one, 0, 0},
    {"next beyond the table", next_beyond_table, 0, 0},
    {"next far away", next_far_away, 0, 0},
    {"head beyond the table", loop_of_one, QUEUE_SIZE, 0},
    {"head far away", loop_of_one, 0xffff, 0},
    {"index ran ahead", loop_of_one, 0, QUEUE_SIZE + 5},
    {"index went back", loop_of_one, 0, 0xfff0},
    {"buffer beyond memory", beyond_memory, 0, 0},
    {"buffer wraps around", wraps_around, 0, 0},
    {"huge length", huge_length, 0, 0},
    {"no length", no_length, 0, 0},
    {"buffer on a device", onto_a_device, 0, 0},
    {"readable after writable", readable_after_writable, 0, 0},
    {"indirect, not agreed", indirect, 0, 0},
    {"wrong direction", wrong_direction, 0, 0},
    {"too short", too_short, 0, 0},
};
#define ATTACKS (sizeof(kAttacks) / sizeof(kAttacks[0]))

/* What is no fault of a chain: any length of entropy, and a receive buffer for smaller frames. */
static int is_allowed(const struct attack* attack, uint32_t id, unsigned queue) {
  return attack->make == too_short && (id == ID_RNG || (id == ID_NET && queue == 0));
}

void judge(struct score* score, const char* device, const char* attack, unsigned queue, int good) {
  score->attacks++;
  if (good) return;
  score->unexpected++;
  say("hostile: ");
  say(device);
  say(", queue ");
  say_number(queue);
  say(": not as it has to be: ");
  say(attack);
  say("\n");
}

void attack_queues(uint64_t base, uint32_t id, struct score* score) {
  for (unsigned queue = 0; queue < queue_count(id); queue++) {
    for (unsigned i = 0; i < ATTACKS; i++) {
      const struct attack* attack = &kAttacks[i];
      if (is_allowed(attack, id, queue)) continue;
      bring_up(base, queue_count(id));
      attack->make(queue, direction(id, queue));
      queues[queue].avail.idx += attack->jump;
      offer(base, queue, attack->head);
      const bool asked = waits_for_reset(base);
      if (asked) score->resets++;
      judge(score, device_name(id), attack->name, queue, asked);
    }
  }
  judge(score, device_name(id), "works after the attacks", 0, works(base, id));
}

/* Rings where none can be, and sizes that no ring can have. */
static void set_up_badly(uint64_t base, unsigned queue, unsigned kind) {
  const uint64_t desc = (uint64_t)queues[queue].desc;
  const uint64_t driver = (uint64_t)&queues[queue].avail;
  const uint64_t device = (uint64_t)&queues[queue].used;
  write32(base + REG_QUEUE_SEL, queue);
  write32(base + REG_QUEUE_READY, 0);
  switch (kind) {
    case 0:
      set_queue(base, queue, 0, desc, driver, device);
      break;
    case 1:
      set_queue(base, queue, 3, desc, driver, device);
      break;
    case 2:
      set_queue(base, queue, 0xffffffff, desc, driver, device);
      break;
    case 3:
      set_queue(base, queue, QUEUE_SIZE, BEYOND_MEMORY, driver, device);
      break;
    case 4:
      set_queue(base, queue, QUEUE_SIZE, desc, 0xfffffffffffffff0ull, device);
      break;
    case 5:
      set_queue(base, queue, QUEUE_SIZE, desc, driver, DEVICE_WINDOW);
      break;
    case 6:
      set_queue(base, queue, QUEUE_SIZE, desc + 1, driver, device);
      break;
    case 7:
      set_queue(base, queue, QUEUE_SIZE, desc, driver, desc);
      break;
    case 8:
      set_queue(base, queue, QUEUE_SIZE, desc, driver, driver);
      break;
    default:
      set_queue(base, queue + 7, QUEUE_SIZE, desc, driver, device);
      break;
  }
}
#define BAD_SET_UPS 10

/* Takes a queue away while a request in it is under way, and puts its rings where none can be: what
 * ends then has nowhere to be told. */
static void withdraw(uint64_t base, uint32_t id, uint64_t rings) {
  const unsigned queue = id == ID_NET ? 1 : 0;
  bring_up(base, queue_count(id));
  post(base, id);
  write32(base + REG_QUEUE_SEL, queue);
  write32(base + REG_QUEUE_READY, 0);
  write32(base + REG_QUEUE_DEVICE, (uint32_t)rings);
  write32(base + REG_QUEUE_DEVICE + 4, (uint32_t)(rings >> 32));
}
#define WITHDRAWALS 64

void attack_registers(uint64_t base, uint32_t id, struct score* score) {
  for (unsigned kind = 0; kind < BAD_SET_UPS; kind++) {
    for (unsigned queue = 0; queue < queue_count(id); queue++) {
      bring_up(base, queue_count(id));
      set_up_badly(base, queue, kind);
      set_desc(queue, 0, at_buffer(), 64, direction(id, queue), 0);
      offer(base, queue, 0);
      if (needs_reset(base)) score->resets++;
      judge(score, device_name(id), "works after a bad set-up", queue, works(base, id));
    }
  }
  /* Used before it was brought up, and without the steps of a handshake. */
  for (uint32_t status = 0; status < 256; status += 5) {
    write32(base + REG_STATUS, 0);
    write32(base + REG_STATUS, status);
    write32(base + REG_QUEUE_READY, 1);
    for (unsigned queue = 0; queue < 9; queue++) write32(base + REG_QUEUE_NOTIFY, queue);
  }
  judge(score, device_name(id), "works after odd states", 0, works(base, id));
  for (unsigned round = 0; round < WITHDRAWALS; round++) {
    withdraw(base, id, round % 2 == 0 ? BEYOND_MEMORY : 1);
    for (unsigned turn = 0; turn < 16; turn++) read32(base + REG_STATUS);
  }
  judge(score, device_name(id), "works after its queue was withdrawn", 0, works(base, id));
}
