/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * preload.c: malloc and all its kin out of secmalloc, to be preloaded to programs
 * that know nothing of it.  A shim for the tests: who does this to a program
 * has every byte of its heap locked.
 *
 *	LD_PRELOAD=libsecmalloc.so.1:preload.so program
 *
 * In the environment, PRELOAD_HELPER is the helper to lock by (none: the process
 * locks by itself), and PRELOAD_FAULT=short has malloc return a byte less than
 * was asked for.
 */
#include "config.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <unistd.h>

#include "arena.h"
#include "secmalloc.h"

#define SHIM __attribute__((visibility("default")))

static bool started;
static size_t shortage;

/*
 * Whether this thread is within the library.  What that calls of the C library
 * may allocate for itself (pthread_setspecific() does), and then comes here.
 */
static __thread volatile bool inside __attribute__((tls_model("initial-exec")));

static void
die(const char *why, size_t length)
{
	if (write(STDERR_FILENO, why, length) == -1)
		_exit(126);
	_exit(127);
}

#define DIE(why) die(why "\n", sizeof(why))

static void
start(void)
{
	struct secmalloc_config config = { .mode = SECMALLOC_MODE_INPROCESS };
	const char *fault = getenv("PRELOAD_FAULT");

	config.helper_path = getenv("PRELOAD_HELPER");
	if (config.helper_path != NULL)
		config.mode = SECMALLOC_MODE_HELPER;
	inside = true;
	if (secmalloc_init(&config) == -1)
		DIE("preload: the library does not start");
	inside = false;
	shortage = fault != NULL && strcmp(fault, "short") == 0;
	__atomic_store_n(&started, true, __ATOMIC_RELEASE);
}

/*
 * Whether it is the library's turn.  The dynamic linker allocates when no
 * constructor has run and there is no environment yet.
 */
static bool
enter(void)
{
	if (inside)
		return false;
	if (!__atomic_load_n(&started, __ATOMIC_ACQUIRE)) {
		if (environ == NULL)
			return false;
		start();
	}
	return inside = true;
}

static void *
from_arena(size_t align, size_t size)
{
	void *object = arena_allocate(align, size);

	if (object == NULL)
		DIE("preload: too much was allocated before the library starts");
	return object;
}

static void *
allocate(size_t align, size_t size)
{
	void *object;

	if (!enter())
		return from_arena(align, size);
	if (size > shortage)
		size -= shortage;
	object = align == 0 ? secmalloc(size) : secaligned_alloc(align, size);
	inside = false;
	return object;
}

SHIM void *
malloc(size_t size)
{
	return allocate(0, size);
}

SHIM void
free(void *ptr)
{
	bool within = inside;

	if (ptr == NULL || arena_has(ptr))
		return;
	inside = true;
	secfree(ptr);
	inside = within;
}

SHIM void *
calloc(size_t nmemb, size_t size)
{
	size_t bytes;

	if (__builtin_mul_overflow(nmemb, size, &bytes)) {
		errno = ENOMEM;
		return NULL;
	}
	return allocate(0, bytes); /* zero, as all that comes of it */
}

SHIM void *
realloc(void *ptr, size_t size)
{
	void *moved;

	if (ptr == NULL)
		return allocate(0, size);
	if (arena_has(ptr)) {
		if ((moved = allocate(0, size)) != NULL)
			memcpy(moved, ptr, size < arena_size(ptr) ?
			    size : arena_size(ptr));
		return moved;
	}
	inside = true;
	moved = secrealloc(ptr, size);
	inside = false;
	return moved;
}

SHIM void *
reallocarray(void *ptr, size_t nmemb, size_t size)
{
	size_t bytes;

	if (__builtin_mul_overflow(nmemb, size, &bytes)) {
		errno = ENOMEM;
		return NULL;
	}
	return realloc(ptr, bytes);
}

SHIM void *
aligned_alloc(size_t alignment, size_t size)
{
	return allocate(alignment, size);
}

SHIM void *
memalign(size_t alignment, size_t size)
{
	return allocate(alignment, size);
}

SHIM int
posix_memalign(void **memptr, size_t alignment, size_t size)
{
	int before = errno, error;
	void *made;

	if (alignment % sizeof(void *) != 0)
		return EINVAL;
	if ((made = allocate(alignment, size)) != NULL) {
		*memptr = made;
		return 0;
	}
	error = errno;
	errno = before;
	return error;
}

SHIM void *
valloc(size_t size)
{
	return allocate((size_t)sysconf(_SC_PAGESIZE), size);
}

#ifdef __GLIBC__
SHIM void *
pvalloc(size_t size)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	if (size > PTRDIFF_MAX) {
		errno = ENOMEM;
		return NULL;
	}
	return allocate(page, (size + page - 1) / page * page);
}
#endif

SHIM size_t
malloc_usable_size(void *ptr)
{
	return ptr != NULL && arena_has(ptr) ? arena_size(ptr) :
	    secmalloc_usable_size(ptr);
}
