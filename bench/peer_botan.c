/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * peer_botan.c: what Botan keeps its secure_vector in.  Its two functions are
 * called by their C++ names, so that no C++ compiler is needed.
 */
#include "config.h"

#ifdef HAVE_PEER_BOTAN
# include <stddef.h>
# include <string.h>

# if __SIZEOF_SIZE_T__ == 8
#  define MANGLED(name, arguments) name arguments "mm"
# else
#  define MANGLED(name, arguments) name arguments "jj"
# endif

void *botan_allocate(size_t count, size_t size)
    __asm__(MANGLED("_ZN5Botan15allocate_memoryE", ""));
void botan_deallocate(void *at, size_t count, size_t size)
    __asm__(MANGLED("_ZN5Botan17deallocate_memoryE", "Pv"));

static inline void *
peer_malloc(size_t size)
{
	return botan_allocate(size, 1);
}

static inline void
peer_free(void *at, size_t size)
{
	botan_deallocate(at, size, 1);
}

/* It has none. */
static inline void *
peer_realloc(void *at, size_t old, size_t size)
{
	void *moved = peer_malloc(size);

	memcpy(moved, at, old < size ? old : size);
	peer_free(at, old);
	return moved;
}

# include "loops.h"
#else
# include "bench.h"
#endif

const struct peer peer_botan = {
	.name = "botan",
	.title = "Botan",
	.remark = "allocate_memory, which goes on unlocked when its pool is full, and where objects are large",
#ifdef HAVE_PEER_BOTAN
	.locks = true,
	.loops = &loops,
#endif
};
