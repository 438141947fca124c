/* The processors besides the boot processor. Each lives in one page and does nothing but load.
 *
 *   boot processor                              processor n
 *   INIT ─▶ start-up signal ─────────────────▶  smp_boot.S ─▶ ap_main(): ready
 *   order, orders++ ─▶ wake-up interrupt ────▶  takes the order ─▶ a step of load ─▶ … ─▶ sleeps
 *   reads its figures
 */
#include "smp.h"

#include "console.h"
#include "cpu.h"
#include "interrupts.h"
#include "layout.h"
#include "memory.h"
#include "pvclock.h"
#include "smp_table.h"

#define LAPIC_COMMAND 0xfee00300ull
#define LAPIC_COMMAND_TO 0xfee00310ull
#define COMMAND_INIT 0x4500
#define COMMAND_START_UP 0x4600
#define COMMAND_FIXED 0x4000
#define COMMAND_PENDING 0x1000

#define INIT_NS 10000000     /* from INIT to the start-up signal */
#define START_UP_NS 20000000 /* from one start-up signal to the next */
#define START_UPS_MAX 10
#define SLEEP_NS 1000000

#define GATE_INTERRUPT 0x8e
#define DPL_3 0x60

struct Tss {
  u32 reserved;
  u32 rsp0[2];
  u32 unused[8];
  u32 ist1[2];
  u32 rest[13];
};
_Static_assert(sizeof(struct Tss) == AP_TSS_BYTES, "the processor's layout");

/* All that is a processor's own. The boot processor writes apic_id to orders, the other the rest.
 */
struct Ap {
  volatile u8 wake; /* by the traps, cleared at CPL3 */
  u32 tss_selector;
  u32 index;
  u32 apic_id;
  struct LoadOrder order;
  volatile u32 orders; /* counts them */
  u32 orders_seen;
  volatile bool ready;
  struct Load load;
};

union ApPage {
  struct Ap ap;
  u8 bytes[PAGE_BYTES];
  struct {
    u8 below[AP_TSS_AT];
    struct Tss tss;
  };
};
_Static_assert(sizeof(union ApPage) == PAGE_BYTES, "one page each");
_Static_assert(sizeof(struct Ap) < AP_USER_STACK_TOP / 2, "room for the user stack");
_Static_assert(offsetof(struct Ap, wake) == AP_WAKE, "smp_boot.S");
_Static_assert(offsetof(struct Ap, tss_selector) == AP_TSS_SELECTOR_AT, "smp_boot.S");

struct Gate {
  u16 offset_low;
  u16 selector;
  u8 ist;
  u8 type;
  u16 offset_middle;
  u32 offset_high;
  u32 reserved;
};
_Static_assert(sizeof(struct Gate) == 16, "the processor's layout");

extern const u8 ap_trampoline[], ap_trampoline_end[];
extern u8 ap_trap_sleep[], ap_trap_interrupt[], fault_stack_top[];
struct Gate ap_idt[VECTORS];
struct Ap* ap_starting;
PAGES static union ApPage pages[APS_MAX];
static u32 started;

void ap_main(struct Ap* ap) __attribute__((noreturn));

static void wait_ns(u64 ns) {
  u64 end = pvclock_now_ns() + ns;
  while (pvclock_now_ns() < end) {
  }
}

static void command(u32 apic_id, u32 what) {
  mmio_write(LAPIC_COMMAND_TO, apic_id << 24);
  mmio_write(LAPIC_COMMAND, what);
  while ((mmio_read(LAPIC_COMMAND) & COMMAND_PENDING) != 0) {
  }
}

static void set_gate(u32 vector, u64 handler, u8 ist, u8 dpl) {
  ap_idt[vector] = (struct Gate){.offset_low = (u16)handler,
                                 .selector = KERNEL_CODE,
                                 .ist = ist,
                                 .type = (u8)(GATE_INTERRUPT | dpl),
                                 .offset_middle = (u16)(handler >> 16),
                                 .offset_high = (u32)(handler >> 32)};
}

static void make_tables(void) {
  for (u32 vector = 0; vector < VECTOR_DEVICE; vector++) {
    set_gate(vector, TRAPS + (u64)vector * TRAP_BYTES, 1, 0);
  }
  for (u32 vector = VECTOR_DEVICE; vector < VECTORS; vector++) {
    set_gate(vector, (u64)ap_trap_interrupt, 0, 0);
  }
  set_gate(VECTOR_SLEEP, (u64)ap_trap_sleep, 0, DPL_3);
  set_gate(VECTOR_SPURIOUS, TRAPS + (u64)VECTOR_SPURIOUS * TRAP_BYTES, 0, 0);
  memcpy((void*)TRAMPOLINE, ap_trampoline, (size_t)(ap_trampoline_end - ap_trampoline));
}

static void describe_tss(u32 selector, u64 base) {
  u64* descriptor = (u64*)(u64)(DESCRIPTORS + 0x400 + selector);
  descriptor[0] =
      (AP_TSS_BYTES - 1) | (base & 0xffffff) << 16 | 0x89ull << 40 | (base >> 24 & 0xff) << 56;
  descriptor[1] = base >> 32;
}

static void prepare(union ApPage* page, u32 index, u8 apic_id) {
  page->ap.index = index;
  page->ap.apic_id = apic_id;
  page->ap.tss_selector = AP_TSS_SELECTOR + 16 * (index - 1);
  page->tss.rsp0[0] = (u32)(u64)page + AP_KERNEL_STACK_TOP;
  page->tss.ist1[0] = (u32)(u64)fault_stack_top;
  page->tss.rest[12] = AP_TSS_BYTES << 16; /* the I/O bitmap lies beyond the limit: no ports */
  describe_tss(page->ap.tss_selector, (u64)&page->tss);
}

/* False when it does not come. */
static bool start_one(struct Ap* ap) {
  ap_starting = ap;
  for (u32 i = 0; i < START_UPS_MAX && !ap->ready; i++) {
    command(ap->apic_id, COMMAND_START_UP | TRAMPOLINE >> 12);
    u64 end = pvclock_now_ns() + START_UP_NS;
    while (!ap->ready && pvclock_now_ns() < end) {
    }
  }
  return ap->ready;
}

void smp_start(void) {
  u8 apic_ids[APS_MAX];
  u32 count = smp_table_read(apic_ids, APS_MAX);
  if (count == 0) return;
  make_tables();
  for (u32 i = 0; i < count; i++) command(apic_ids[i], COMMAND_INIT);
  wait_ns(INIT_NS);
  for (u32 i = 0; i < count; i++) {
    prepare(&pages[started], started + 1, apic_ids[i]);
    if (!start_one(&pages[started].ap)) {
      console_print("beacon: a processor does not start; going on without it and the next ones\n");
      break;
    }
    started++;
  }
  console_print("beacon: ");
  console_decimal(smp_count());
  console_print(" processors\n");
}

u64 smp_count(void) {
  return started + 1;
}

void smp_order(const struct LoadOrder* order) {
  for (u32 i = 0; i < started; i++) {
    struct Ap* ap = &pages[i].ap;
    /* It may be reading the last order: odd while this one is written. */
    ap->orders++;
    compiler_barrier();
    ap->order = order == NULL ? (struct LoadOrder){.rate = 0} : *order;
    compiler_barrier();
    ap->orders++;
    command(ap->apic_id, COMMAND_FIXED | VECTOR_WAKE);
  }
}

void smp_figures(u64 index, u64* figures) {
  const volatile struct Load* load = index == 0 ? NULL : &pages[index - 1].ap.load;
  figures[0] = load == NULL ? load_progress() : load->progress;
  figures[1] = load == NULL ? load_pages_dirtied() : load->pages_dirtied;
}

/* The newest order, if it is a whole one. */
static void take_order(struct Ap* ap) {
  u32 orders = ap->orders;
  if (orders == ap->orders_seen || (orders & 1) != 0) return;
  compiler_barrier();
  struct LoadOrder order = ap->order;
  compiler_barrier();
  if (orders != ap->orders) return;
  ap->orders_seen = orders;
  load_begin(&ap->load, &order, ap->index);
}

void ap_main(struct Ap* ap) {
  interrupts_init();
  ap->ready = true;
  for (;;) {
    take_order(ap);
    if (load_run(&ap->load)) continue;
    ap->wake = 0;
    if (ap->orders != ap->orders_seen) continue;
    if (ap->load.rate != 0) timer_arm_ns(SLEEP_NS);
    cpu_sleep();
  }
}
