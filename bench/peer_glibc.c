/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * peer_glibc.c: malloc as the C library has it, and the same calls again where
 * another library is preloaded.  Nothing is locked or wiped.
 */
#include "config.h"

#include <stdlib.h>

static inline void *
peer_malloc(size_t size)
{
	return malloc(size);
}

static inline void
peer_free(void *at, size_t size)
{
	(void)size;
	free(at);
}

static inline void *
peer_realloc(void *at, size_t old, size_t size)
{
	(void)old;
	return realloc(at, size);
}

#include "loops.h"

const struct peer peer_glibc = {
	.name = "glibc",
	.title = "glibc",
	.remark = "locks nothing, wipes nothing",
	.loops = &loops,
};

const struct peer peer_jemalloc = {
	.name = "jemalloc",
	.title = "jemalloc",
	.remark = "locks nothing, wipes nothing",
#ifdef PEER_JEMALLOC
	.preload = PEER_JEMALLOC,
	.loops = &loops,
#endif
};

const struct peer peer_mimalloc = {
	.name = "mimalloc",
	.title = "mimalloc",
	.remark = "locks nothing, wipes nothing",
#ifdef PEER_MIMALLOC
	.preload = PEER_MIMALLOC,
	.loops = &loops,
#endif
};
