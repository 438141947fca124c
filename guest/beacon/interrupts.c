/* LAPIC and I/O APIC set-up. The stubs in traps.S acknowledge interrupts themselves. */
#include "interrupts.h"

#include "layout.h"

#define LAPIC 0xfee00000ull
#define LAPIC_ID (LAPIC + 0x20)
#define LAPIC_TASK_PRIORITY (LAPIC + 0x80)
#define LAPIC_SPURIOUS (LAPIC + 0xf0)
#define LAPIC_LVT_TIMER (LAPIC + 0x320)
#define LAPIC_LVT_PIN0 (LAPIC + 0x350)
#define LAPIC_LVT_PIN1 (LAPIC + 0x360)
#define LAPIC_INITIAL_COUNT (LAPIC + 0x380)
#define LAPIC_DIVIDE (LAPIC + 0x3e0)
#define LVT_MASKED 0x10000
#define DIVIDE_BY_ONE 0xb

#define IOAPIC_SELECT 0xfec00000ull
#define IOAPIC_WINDOW 0xfec00010ull
#define IOAPIC_REDIRECTION 0x10

static void ioapic_write(u32 index, u32 value) {
  mmio_write(IOAPIC_SELECT, index);
  mmio_write(IOAPIC_WINDOW, value);
}

void interrupts_init(void) {
  mmio_write(LAPIC_TASK_PRIORITY, 0);
  mmio_write(LAPIC_LVT_PIN0, LVT_MASKED);
  mmio_write(LAPIC_LVT_PIN1, LVT_MASKED);
  mmio_write(LAPIC_SPURIOUS, 0x100 | VECTOR_SPURIOUS);
  /* KVM's timer counts at 1 GHz unless told otherwise: one tick is one nanosecond. */
  mmio_write(LAPIC_DIVIDE, DIVIDE_BY_ONE);
  mmio_write(LAPIC_LVT_TIMER, VECTOR_TIMER);
}

void interrupts_route(u32 irq) {
  u32 destination = mmio_read(LAPIC_ID) & 0xff000000;
  ioapic_write(IOAPIC_REDIRECTION + 2 * irq + 1, destination);
  ioapic_write(IOAPIC_REDIRECTION + 2 * irq, VECTOR_DEVICE);
}

void timer_arm_ns(u32 ns) {
  mmio_write(LAPIC_INITIAL_COUNT, ns);
}
