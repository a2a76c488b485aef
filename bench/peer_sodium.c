/* SPDX-License-Identifier: BSD-2-Clause */
/* peer_sodium.c: libsodium's guarded heap. */
#include "config.h"

#ifdef HAVE_PEER_SODIUM
# include <string.h>

# include <sodium.h>

static inline void *
peer_malloc(size_t size)
{
	return sodium_malloc(size);
}

static inline void
peer_free(void *at, size_t size)
{
	(void)size;
	sodium_free(at);
}

/* It has none. */
static inline void *
peer_realloc(void *at, size_t old, size_t size)
{
	void *moved = peer_malloc(size);

	if (moved == NULL)
		return NULL;
	memcpy(moved, at, old < size ? old : size);
	peer_free(at, old);
	return moved;
}

# include "loops.h"

static const char *
start(struct terms terms)
{
	(void)terms;
	return sodium_init() == -1 ? "it does not start" : NULL;
}
#else
# include "bench.h"
#endif

const struct peer peer_sodium = {
	.name = "sodium",
	.title = "libsodium",
	.remark = "sodium_malloc, pages of its own for each object",
#ifdef HAVE_PEER_SODIUM
	.locks = true,
	.loops = &loops,
	.start = start,
	.fill_room = 16 << 20,
	.fill_objects = 2048,
#endif
};
