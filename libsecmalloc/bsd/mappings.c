/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mappings.c: what the kernel says of this process's mappings, asked for each;
 * must not know what they are for.
 */
#include "config.h"

#include <errno.h>

#include "mappings.h"
#include "memory.h"

int
mappings_verify(enum mappings_kind kind, const struct source_range *ranges,
    size_t count)
{
	size_t i = 0;

	while (i < count && kind == MAPPINGS_LOCKED &&
	    memory_is_locked(ranges[i].at, ranges[i].size))
		i++;
	if (i == count)
		return 0;
	errno = ENOLCK;
	return -1;
}
