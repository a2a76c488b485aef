/* SPDX-License-Identifier: BSD-2-Clause */
/* peer_secmalloc.c: ours, by its public interface. */
#include "config.h"

#include <errno.h>
#include <string.h>

#include "secmalloc.h"

static inline void *
peer_malloc(size_t size)
{
	return secmalloc(size);
}

static inline void
peer_free(void *at, size_t size)
{
	(void)size;
	secfree(at);
}

static inline void *
peer_realloc(void *at, size_t old, size_t size)
{
	(void)old;
	return secrealloc(at, size);
}

#include "loops.h"

static const char *
start(struct terms terms)
{
	struct secmalloc_config config = { 0 };

	if (terms.helper != NULL) {
		config.mode = SECMALLOC_MODE_HELPER;
		config.helper_path = terms.helper;
	}
	if (terms.exactly)
		config.max_locked = terms.room;
	return secmalloc_init(&config) == 0 ? NULL : strerror(errno);
}

static size_t
locked(void)
{
	struct secmalloc_stats stats;

	return secmalloc_stats(&stats) == 0 ? stats.locked_bytes : 0;
}

const struct peer peer_secmalloc = {
	.name = "secmalloc",
	.title = "secmalloc",
	.locks = true,
	.loops = &loops,
	.start = start,
	.fill_room = 16 << 20,
	.locked = locked,
};
