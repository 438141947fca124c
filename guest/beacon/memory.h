/* The functions the compiler may call on its own. */
#pragma once

#include "types.h"

void* memcpy(void* to, const void* from, size_t bytes);
void* memset(void* to, int value, size_t bytes);
int memcmp(const void* left, const void* right, size_t bytes);
