/* SPDX-License-Identifier: BSD-2-Clause */
/* random.c: getrandom(2) in batches; must not know what for. */
#include "config.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/random.h>
#include <time.h>

#include "random.h"

enum { BATCH = 64 };

static struct {
	uint64_t bits[BATCH];
	size_t left;
	uint32_t half; /* what random_below() has not used of its last bits */
	bool has_half;
} state;

/*
 * Early in the boot, or where a filter forbids getrandom(): each program has
 * 16 random bytes of the kernel (AT_RANDOM), and splitmix64 stretches them.
 */
static void
make_do(void)
{
	static uint64_t seed;
	const void *given = (const void *)getauxval(AT_RANDOM);
	struct timespec now;

	if (seed == 0 && given != NULL)
		memcpy(&seed, given, sizeof seed);
	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	seed += (uint64_t)now.tv_nsec << 32;
	for (size_t i = 0; i < BATCH; i++) {
		uint64_t z = seed += UINT64_C(0x9e3779b97f4a7c15);

		z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
		z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
		state.bits[i] = z ^ (z >> 31);
	}
}

uint64_t
random_bits(void)
{
	uint64_t bits;

	if (state.left == 0) {
		if (getrandom(state.bits, sizeof state.bits, GRND_NONBLOCK) !=
		    (ssize_t)sizeof state.bits)
			make_do();
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
