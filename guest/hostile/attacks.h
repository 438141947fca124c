/* What the hostile guest does to its devices. */
#pragma once

#include <stdint.h>

/* Counts over all devices. */
struct score {
  uint64_t attacks;
  uint64_t resets;     /* the device asked for a reset */
  uint64_t unexpected; /* it did not where it had to, or it did not work again afterwards */
};

/* Chains and rings that break the rules, each told apart; the device must ask for a reset. */
void attack_queues(uint64_t base, uint32_t id, struct score* score);
/* Registers and queue set-ups that make no sense; the device must work again after a reset. */
void attack_registers(uint64_t base, uint32_t id, struct score* score);
/* Random rings, random registers, random ports; likewise. */
void make_noise(uint64_t base, uint32_t id, unsigned rounds, struct score* score);
void make_port_noise(unsigned rounds);
/* Counts, and says on the console what was not as it has to be. */
void judge(struct score* score, const char* device, const char* attack, unsigned queue, int good);
