/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * peer_bzero.c: the C library's malloc as a careful program uses it: objects
 * are wiped before they are freed, and moved by hand, for realloc(3) leaves the
 * old copy behind.  The caller knows its sizes.  Nothing is locked.
 */
#include "config.h"

#include <stdlib.h>
#include <string.h>

static inline void *
peer_malloc(size_t size)
{
	return malloc(size);
}

static inline void
peer_free(void *at, size_t size)
{
	explicit_bzero(at, size);
	free(at);
}

static inline void *
peer_realloc(void *at, size_t old, size_t size)
{
	void *moved = malloc(size);

	if (moved == NULL)
		return NULL;
	memcpy(moved, at, old < size ? old : size);
	peer_free(at, old);
	return moved;
}

#include "loops.h"

const struct peer peer_bzero = {
	.name = "bzero",
	.title = "glibc+bzero",
	.remark = "glibc and explicit_bzero before free; locks nothing",
	.loops = &loops,
};
