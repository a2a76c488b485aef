/* SPDX-License-Identifier: BSD-2-Clause */
/* random.c: random bits in batches; must not know what for. */
#include "config.h"

#include <stdbool.h>
#include <stddef.h>

#include "random.h"

enum { BATCH = 64 };

static struct {
	uint64_t bits[BATCH];
	size_t left;
	uint32_t half; /* what random_below() has not used of its last bits */
	bool has_half;
} state;

uint64_t
random_bits(void)
{
	uint64_t bits;

	if (state.left == 0) {
		random_fill(state.bits, BATCH);
		state.left = BATCH;
	}
	bits = state.bits[--state.left];
	state.bits[state.left] = 0; /* a later reader of memory learns nothing */
	return bits;
}

uint32_t
random_below(uint32_t bound)
{
	uint32_t half = state.half;

	if (!state.has_half) {
		uint64_t bits = random_bits();

		half = (uint32_t)bits;
		state.half = (uint32_t)(bits >> 32);
	}
	state.has_half = !state.has_half;
	return (uint32_t)(((uint64_t)half * bound) >> 32);
}

void
random_fork(void)
{
	state.left = 0;
	state.has_half = false;
}
