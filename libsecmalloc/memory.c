/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * memory.c: every system call that shapes the address space; must not know
 * what the memory is for.
 */
#include "config.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__has_feature)
# if __has_feature(address_sanitizer)
#  define __SANITIZE_ADDRESS__
# endif
#endif
#ifdef __SANITIZE_ADDRESS__
# include <sanitizer/asan_interface.h>
#endif

#include "fatal.h"
#include "memory.h"

/* Linux 5.14; older headers lack it. */
#ifndef MADV_POPULATE_WRITE
# define MADV_POPULATE_WRITE 23
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

/*
 * Not mlock() and munlock(): the sanitizers' runtimes replace these by
 * functions that do nothing.
 */
static int
lock(void *at, size_t size)
{
	return (int)syscall(SYS_mlock, at, size);
}

static int
unlock(void *at, size_t size)
{
	return (int)syscall(SYS_munlock, at, size);
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
	at = mmap(NULL, size + 2 * page, PROT_NONE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (at == MAP_FAILED) {
		/* EINVAL, of some emulators, for a size beyond them */
		if (errno != EAGAIN)
			errno = ENOMEM;
		return NULL;
	}
	/*
	 * Under mlockall(MCL_FUTURE) the reservation itself counts as locked;
	 * what is mapped over it will count again.
	 */
	(void)unlock(at, size + 2 * page);
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

static int
map_at(void *at, size_t size, int protection, int flags, int fd)
{
	if (mmap(at, size, protection, flags | MAP_FIXED, fd, 0) == MAP_FAILED)
		return -1;
#ifdef __SANITIZE_ADDRESS__
	/* AddressSanitizer may remember a stack that was here before. */
	if (protection != PROT_NONE)
		ASAN_UNPOISON_MEMORY_REGION(at, size);
#endif
	return 0;
}

int
memory_map_private(void *at, size_t size)
{
	return map_at(at, size, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1);
}

int
memory_map_shared(void *at, size_t size, int fd)
{
	return map_at(at, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
}

int
memory_close_off(void *at, size_t size)
{
	return map_at(at, size, PROT_NONE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
}

void
memory_vacate(void *at, size_t size)
{
	if (munmap(at, size) == -1)
		fatal_bug("munmap");
}

int
memory_claim(void *at, size_t size)
{
	void *got = mmap(at, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS |
	    MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);

	if (got == MAP_FAILED)
		return -1;
	if (got == at)
		return 0;
	(void)munmap(got, size); /* Linux before 4.17 takes AT for a hint */
	return -1;
}

int
memory_move(void *to, void *from, size_t size)
{
	return mremap(from, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, to) ==
	    MAP_FAILED ? -1 : 0;
}

int
memory_populate(void *at, size_t size)
{
	volatile unsigned char *byte = at;

	if (madvise(at, size, MADV_POPULATE_WRITE) == 0)
		return 0;
	if (errno != EINVAL) {
		/* EFAULT, EHWPOISON, EAGAIN: all of them, no page was to be had */
		errno = ENOMEM;
		return -1;
	}
	for (size_t i = 0; i < size; i += memory_page_size())
		byte[i] = 0;
	return 0;
}

int
memory_lock(void *at, size_t size)
{
	struct rlimit limit;

	if (lock(at, size) == 0)
		return 0;
	/*
	 * mm/mlock.c: EPERM if the limit is 0, ENOMEM both for a limit that is
	 * reached and for want of memory.
	 */
	if (errno == ENOMEM && getrlimit(RLIMIT_MEMLOCK, &limit) == 0 &&
	    limit.rlim_cur != RLIM_INFINITY)
		errno = EAGAIN;
	return -1;
}

int
memory_keep_from_core(void *at, size_t size)
{
	return madvise(at, size, MADV_DONTDUMP);
}

int
memory_keep_from_children(void *at, size_t size)
{
	return madvise(at, size, MADV_DONTFORK);
}

void *
memory_wiped_on_fork(void)
{
	size_t size = memory_page_size();
	void *at = memory_reserve(size);
	int error;

	if (at == NULL)
		return NULL;
	if (memory_map_private(at, size) == 0 &&
	    madvise(at, size, MADV_WIPEONFORK) == 0)
		return at;
	error = errno;
	memory_unreserve(at, size);
	errno = error;
	return NULL;
}

void
memory_wipe(void *at, size_t size)
{
	explicit_bzero(at, size);
}
