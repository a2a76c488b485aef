/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mappings.h: whether memory still is what it was made, by the kernel's word;
 * knows nothing of who made it so.
 */
#ifndef MAPPINGS_H
#define MAPPINGS_H

#include <stddef.h>

#include "source.h"

enum mappings_kind {
	MAPPINGS_LOCKED, /* by mlock() */
	MAPPINGS_SECRET  /* of memfd_secret(): unevictable, locked or not */
};

/*
 * Whether every one of the COUNT ranges, in the order of their addresses, is of
 * KIND throughout: 0, or -1 with ENOLCK; with EMFILE, ENFILE or ENOMEM if that
 * cannot be told.
 */
int mappings_verify(enum mappings_kind kind, const struct source_range *ranges,
    size_t count);

#endif
