/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * memory.c: the system calls of the BSDs, macOS among them, that shape the
 * address space; must not know what the memory is for.
 *
 * All pages are private: no other process locks any, and a child has copies,
 * which are not locked until it locks them.  What is mapped here is in no core
 * file from the beginning (memory_map_new()).
 */
#include "config.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "memory.h"
#include "memory_parts.h"

void *
memory_map_reserved(size_t size)
{
	return memory_map_new(NULL, size, PROT_NONE, 0);
}

/* What was locked there is not any more, without munlock(). */
int
memory_close_off(void *at, size_t size)
{
	return memory_map_new(at, size, PROT_NONE, MAP_FIXED) == MAP_FAILED ?
	    -1 : 0;
}

/* Private pages: nobody else sees them change their place. */
int
memory_move(void *to, void *from, size_t size)
{
	if (memory_map_private(to, size) == -1)
		return -1;
	memory_copy(to, from, size);
	memory_vacate(from, size);
	return 0;
}

/* No process is counted its mappings, so it does not matter which are one. */
int
memory_mark(void *at, size_t size, enum memory_mark mark)
{
	(void)at;
	(void)size;
	(void)mark;
	return 0;
}

size_t
memory_map_limit(void)
{
	return SIZE_MAX;
}

void *
memory_view(void *at, size_t size)
{
	(void)at;
	(void)size;
	errno = ENOTSUP;
	return NULL;
}

void *
memory_view_file(int fd, size_t offset, size_t size)
{
	(void)fd;
	(void)offset;
	(void)size;
	errno = ENOTSUP;
	return NULL;
}

/* Old pages or new ones, they are zero; and what a child inherits is the same. */
void
memory_discard(void *at, size_t size)
{
	memset(at, 0, size);
	(void)madvise(at, size, MADV_FREE);
}

/* By other pages: what is inaccessible cannot be locked, but stays so. */
void
memory_discard_locked(void *at, size_t size)
{
	if (memory_map_new(at, size, PROT_READ, MAP_FIXED) == MAP_FAILED)
		return;
	(void)mlock(at, size);
	(void)memory_make_inaccessible(at, size);
}

int
memory_lock(void *at, size_t size)
{
	struct rlimit limit;

	if (mlock(at, size) == 0)
		return 0;
	/* ENOMEM, too, for a limit that is reached, or 0. */
	if (errno == ENOMEM && getrlimit(RLIMIT_MEMLOCK, &limit) == 0 &&
	    limit.rlim_cur != RLIM_INFINITY)
		errno = limit.rlim_cur == 0 ? EPERM : EAGAIN;
	return -1;
}

int
memory_map_secret(void *at, size_t size)
{
	(void)at;
	(void)size;
	errno = ENOTSUP;
	return -1;
}

/* See memory_map_new(). */
int
memory_keep_from_core(void *at, size_t size)
{
	(void)at;
	(void)size;
	return 0;
}
