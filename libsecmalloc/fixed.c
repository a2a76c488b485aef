/* SPDX-License-Identifier: BSD-2-Clause */
/* fixed.c: the pages of what is set once; must not know what it is. */
#include "config.h"

#include <stdbool.h>
#include <string.h>

#include "fatal.h"
#include "fixed.h"
#include "memory.h"

union fixed_pages fixed_pages __attribute__((aligned(FIXED_ALIGN)));

/*
 * Some linkers and loaders align no further than they like.  A page of ours
 * that nobody else has anything in is needed.
 */
static bool
is_sealable(void)
{
	size_t page = memory_page_size();

	return page <= FIXED_ALIGN && (uintptr_t)&fixed_pages % page == 0;
}

/*
 * Writable pages to put in their place: RLIMIT_DATA may be lower when they are
 * to be opened than it was when they were sealed (mm/mprotect.c).
 */
static void *spare;

static bool sealed;

void
fixed_seal(void)
{
	if (!is_sealable() || (spare = memory_reserve(FIXED_ALIGN)) == NULL)
		return;
	/* First: a child may be a picture of any moment of this. */
	__atomic_store_n(&sealed, true, __ATOMIC_RELEASE);
	if (memory_map_private(spare, FIXED_ALIGN) == -1 ||
	    memory_make_readable(&fixed_pages, FIXED_ALIGN) == -1)
		fixed_open();
}

void
fixed_open(void)
{
	if (!sealed)
		return;
	if (memory_make_writable(&fixed_pages, FIXED_ALIGN) == -1) {
		memcpy(spare, &fixed_pages, FIXED_ALIGN);
		if (memory_move(&fixed_pages, spare, FIXED_ALIGN) == -1)
			fatal_bug("mremap");
	}
	sealed = false;
	memory_unreserve(spare, FIXED_ALIGN);
}
