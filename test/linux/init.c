// The guest's /init: changes DIRTY_PAGES pages a pass, in user mode, for ever.
//
// It makes no system calls, since some nested KVMs do not deliver them to the guest's kernel. What
// the guest says to the world is the kernel's own: answers to ping, and its log on the console.
#ifndef DIRTY_PAGES
#define DIRTY_PAGES 64
#endif
#ifndef IDLE_TURNS
#define IDLE_TURNS 2000
#endif
#define PAGE_BYTES 4096

static volatile unsigned char pages[DIRTY_PAGES][PAGE_BYTES] __attribute__((aligned(PAGE_BYTES)));

void _start(void) {
  for (unsigned long pass = 1;; pass++) {
    for (int page = 0; page < DIRTY_PAGES; page++) {
      *(volatile unsigned long*)pages[page] = pass;
      // Some distance between two writes, so that one cut sees a part of the pages.
      for (volatile int turn = 0; turn < IDLE_TURNS; turn++) {
      }
    }
  }
}
