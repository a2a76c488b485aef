/* SPDX-License-Identifier: BSD-2-Clause */
/* peer_gcrypt.c: libgcrypt's secure memory. */
#include "config.h"

#ifdef HAVE_PEER_GCRYPT
# include <gcrypt.h>

static inline void *
peer_malloc(size_t size)
{
	return gcry_malloc_secure(size);
}

static inline void
peer_free(void *at, size_t size)
{
	(void)size;
	gcry_free(at);
}

static inline void *
peer_realloc(void *at, size_t old, size_t size)
{
	(void)old;
	return gcry_realloc(at, size);
}

# include "loops.h"

/* The first block that fits is taken, and so holes remain. */
static const char *
start(struct terms terms)
{
	size_t room = terms.exactly ? terms.room :
	    (8 << 20) + terms.room * 2;

	if (gcry_check_version(GCRYPT_VERSION) == NULL)
		return "it is older than its header";
	(void)gcry_control(GCRYCTL_DISABLE_SECMEM_WARN);
	if (room > INT32_MAX || gcry_control(GCRYCTL_INIT_SECMEM,
	    (int)room, 0) != 0)
		return "it may not lock memory";
	(void)gcry_control(GCRYCTL_INITIALIZATION_FINISHED, 0);
	return NULL;
}
#else
# include "bench.h"
#endif

const struct peer peer_gcrypt = {
	.name = "gcrypt",
	.title = "libgcrypt",
	.remark = "gcry_malloc_secure, a heap of fixed size",
#ifdef HAVE_PEER_GCRYPT
	.locks = true,
	.loops = &loops,
	.start = start,
	/* Its time to fill this grows with the square. */
	.fill_room = 1 << 20,
#endif
};
