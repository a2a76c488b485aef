/* SPDX-License-Identifier: BSD-2-Clause */
/* entropy.c: getentropy(3); must not know what for. */
#include "config.h"

#include <sys/random.h>
#include <unistd.h>

#include "fatal.h"
#include "random.h"

void
random_fill(uint64_t *bits, size_t count)
{
	enum { MOST = 256 / sizeof *bits }; /* of a call */

	for (size_t i = 0, n; i < count; i += n) {
		n = count - i < MOST ? count - i : MOST;
		if (getentropy(bits + i, n * sizeof *bits) == -1)
			fatal_bug("getentropy");
	}
}
