/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * memory.c: what of memory.h every system has in the same words; must not know
 * what the memory is for.
 */
#include "config.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "fatal.h"
#include "memory.h"
#include "memory_parts.h"
#include "sanitizers.h"

#ifdef __SANITIZE_ADDRESS__
# include <sanitizer/asan_interface.h>
#endif

size_t
memory_page_size(void)
{
	static size_t size; /* the same from whichever thread comes first */
	size_t known = __atomic_load_n(&size, __ATOMIC_RELAXED);

	if (known == 0) {
		known = (size_t)sysconf(_SC_PAGESIZE);
		__atomic_store_n(&size, known, __ATOMIC_RELAXED);
	}
	return known;
}

size_t
memory_round_up(size_t size)
{
	size_t mask = memory_page_size() - 1;

	return size > SIZE_MAX - mask ? 0 : (size + mask) & ~mask;
}

void *
memory_reserve(size_t size)
{
	size_t page = memory_page_size();
	unsigned char *at;

	if (size > PTRDIFF_MAX - 2 * page) {
		errno = ENOMEM;
		return NULL;
	}
	at = memory_map_reserved(size + 2 * page);
	if (at == MAP_FAILED) {
		/* EINVAL, of some emulators, for a size beyond them */
		if (errno != EAGAIN)
			errno = ENOMEM;
		return NULL;
	}
	return at + page;
}

void
memory_unreserve(void *at, size_t size)
{
	size_t page = memory_page_size();

	/* Unmapping whole mappings cannot need memory. */
	if (munmap((unsigned char *)at - page, size + 2 * page) == -1)
		fatal_bug("munmap");
}

int
memory_mapped(void *got, size_t size)
{
	if (got == MAP_FAILED)
		return -1;
#ifdef __SANITIZE_ADDRESS__
	/* AddressSanitizer may remember a stack that was here before. */
	ASAN_UNPOISON_MEMORY_REGION(got, size);
#else
	(void)size;
#endif
	return 0;
}

int
memory_map_private(void *at, size_t size)
{
	return memory_mapped(memory_map_new(at, size, PROT_READ | PROT_WRITE,
	    MAP_FIXED), size);
}

void
memory_vacate(void *at, size_t size)
{
	if (munmap(at, size) == -1)
		fatal_bug("munmap");
}

static int
protect(void *at, size_t size, int protection)
{
	if (mprotect(at, size, protection) == 0)
		return 0;
	if (errno != ENOMEM)
		fatal_bug("mprotect");
	return -1;
}

int
memory_make_inaccessible(void *at, size_t size)
{
	return protect(at, size, PROT_NONE);
}

int
memory_make_readable(void *at, size_t size)
{
	return protect(at, size, PROT_READ);
}

int
memory_make_writable(void *at, size_t size)
{
	return protect(at, size, PROT_READ | PROT_WRITE);
}

void
memory_unview(const void *view, size_t size)
{
	memory_vacate((void *)(uintptr_t)view, size);
}

size_t
memory_address_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_AS, &limit) == -1 ||
	    limit.rlim_cur == RLIM_INFINITY ||
	    (uintmax_t)limit.rlim_cur > SIZE_MAX)
		return SIZE_MAX;
	return (size_t)limit.rlim_cur;
}

void *
memory_wiped_on_fork(size_t size)
{
	void *at = memory_reserve(size);
	int error;

	if (at == NULL)
		return NULL;
	if (memory_map_private(at, size) == 0 &&
	    memory_wipe_in_children(at, size) == 0)
		return at;
	error = errno;
	memory_unreserve(at, size);
	errno = error;
	return NULL;
}

#ifdef __SANITIZE_THREAD__
/* To copy objects for a child is no race: fork() would have done it unseen. */
__attribute__((no_sanitize("thread"))) void
memory_copy(void *to, const void *from, size_t size)
{
	volatile unsigned char *out = to;
	const volatile unsigned char *in = from;

	for (size_t i = 0; i < size; i++)
		out[i] = in[i];
}
#else
void
memory_copy(void *to, const void *from, size_t size)
{
	memcpy(to, from, size);
}
#endif
