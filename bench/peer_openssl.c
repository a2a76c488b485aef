/* SPDX-License-Identifier: BSD-2-Clause */
/* peer_openssl.c: the secure heap of OpenSSL's libcrypto. */
#include "config.h"

#ifdef HAVE_PEER_OPENSSL
# include <string.h>

# include <openssl/crypto.h>

static inline void *
peer_malloc(size_t size)
{
	return OPENSSL_secure_malloc(size);
}

static inline void
peer_free(void *at, size_t size)
{
	OPENSSL_secure_clear_free(at, size);
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

/* It rounds each object up to a power of two. */
static const char *
start(struct terms terms)
{
	size_t room = 64 << 20;

	while (!terms.exactly && room < terms.room * 2)
		room *= 2;
	if (terms.exactly)
		room = terms.room;
	switch (CRYPTO_secure_malloc_init(room, 16)) {
	case 1:
		return NULL;
	case 2:
		return "it may not lock memory";
	default:
		return "it does not start";
	}
}
#else
# include "bench.h"
#endif

const struct peer peer_openssl = {
	.name = "openssl",
	.title = "OpenSSL",
	.remark = "CRYPTO_secure_malloc, a heap of fixed size",
#ifdef HAVE_PEER_OPENSSL
	.locks = true,
	.loops = &loops,
	.start = start,
	.fill_room = 16 << 20,
#endif
};
