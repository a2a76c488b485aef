/* SPDX-License-Identifier: BSD-2-Clause */
/* fixed.c: the pages of what is set once; must not know what it is. */
#include "config.h"

#include "fatal.h"
#include "fixed.h"
#include "memory.h"

union fixed_pages fixed_pages __attribute__((aligned(FIXED_ALIGN)));

/*
 * Some linkers and loaders align no further than they like.  A page of ours
 * that nobody else has anything in is needed.
 */
static int
is_sealable(void)
{
	size_t page = memory_page_size();

	return page <= FIXED_ALIGN && (uintptr_t)&fixed_pages % page == 0;
}

void
fixed_seal(void)
{
	if (is_sealable())
		(void)memory_make_readable(&fixed_pages, sizeof fixed_pages);
}

void
fixed_open(void)
{
	/* It was writable before, so the kernel lacks nothing to make it so. */
	if (is_sealable() && memory_make_writable(&fixed_pages,
	    sizeof fixed_pages) == -1)
		fatal_bug("mprotect");
}
