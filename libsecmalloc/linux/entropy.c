/* SPDX-License-Identifier: BSD-2-Clause */
/* entropy.c: getrandom(2), or what there is instead; must not know what for. */
#include "config.h"

#include <stdint.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/random.h>
#include <time.h>

#include "random.h"

/*
 * Early in the boot, or where a filter forbids getrandom(): each program has
 * 16 random bytes of the kernel (AT_RANDOM), and splitmix64 stretches them.
 */
static void
make_do(uint64_t *bits, size_t count)
{
	static uint64_t seed;
	const void *given = (const void *)getauxval(AT_RANDOM);
	struct timespec now;

	if (seed == 0 && given != NULL)
		memcpy(&seed, given, sizeof seed);
	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	seed += (uint64_t)now.tv_nsec << 32;
	for (size_t i = 0; i < count; i++) {
		uint64_t z = seed += UINT64_C(0x9e3779b97f4a7c15);

		z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
		z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
		bits[i] = z ^ (z >> 31);
	}
}

void
random_fill(uint64_t *bits, size_t count)
{
	size_t size = count * sizeof *bits;

	if (getrandom(bits, size, GRND_NONBLOCK) != (ssize_t)size)
		make_do(bits, count);
}
