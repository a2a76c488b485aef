/* SPDX-License-Identifier: BSD-2-Clause */
/* memory.c: what FreeBSD alone has of it; must not know what it is for. */
#include "config.h"

#include <sys/types.h>

#include <errno.h>
#include <sys/mman.h>

#include "memory.h"
#include "memory_parts.h"

void *
memory_map_new(void *at, size_t size, int protection, int flags)
{
	return mmap(at, size, protection, MAP_PRIVATE | MAP_ANON | MAP_NOCORE |
	    flags, -1, 0);
}

int
memory_claim(void *at, size_t size)
{
	return memory_map_new(at, size, PROT_NONE, MAP_FIXED | MAP_EXCL) ==
	    MAP_FAILED ? -1 : 0;
}

/* Pages that are locked refuse to be invalidated; others of no file stay. */
bool
memory_is_locked(void *at, size_t size)
{
	unsigned char *byte = at;

	for (size_t i = 0; i < size; i += memory_page_size())
		if (msync(byte + i, memory_page_size(), MS_SYNC |
		    MS_INVALIDATE) == 0 || errno != EBUSY)
			return false;
	return true;
}

int
memory_keep_from_children(void *at, size_t size)
{
	return minherit(at, size, INHERIT_NONE);
}

int
memory_wipe_in_children(void *at, size_t size)
{
	return minherit(at, size, INHERIT_ZERO);
}
