/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * window.c: the thread's rights by the key; must not know what is behind it.
 *
 * No lock and no system call.  A signal handler begins with no rights, and what
 * it interrupts gets its own back from the kernel: so all here may be
 * interrupted, between any two instructions, by a handler that opens as many
 * windows as it closes.
 */
#include "config.h"

#include <errno.h>
#include <stdint.h>
#include <sys/mman.h>

#include "memory.h"
#include "secmalloc.h"
#include "window.h"

/*
 * Of each open window of the thread, whether it was opened within another: the
 * last one is the lowest bit.  A 1 precedes the first of them.
 */
static _Thread_local uint64_t windows
    __attribute__((tls_model("initial-exec"))) = 1;

/* There is no room for one more. */
#define WINDOWS_FULL (UINT64_C(1) << 63)

/*
 * What the thread may do, in terms of the processor: read once, and written only
 * where it has to change, which is what a window costs.
 */
#if defined(HAVE_PKEY_ALLOC) && !defined(WINDOW_BY_LIBRARY) && \
	(defined(__x86_64__) || defined(__i386__))
/* Of all keys, two bits each.  EDX and ECX must be zero. */
static uint32_t
rights_read(int key)
{
	uint32_t rights, zero;

	(void)key;
	__asm__ volatile("rdpkru" : "=a"(rights), "=d"(zero) : "c"(0));
	return rights;
}

static bool
rights_open(uint32_t rights, int key)
{
	return (rights >> 2 * key & 3) == 0;
}

static void
rights_write(uint32_t rights, int key, bool open)
{
	rights &= ~(UINT32_C(3) << 2 * key);
	if (!open)
		rights |= (uint32_t)PKEY_DISABLE_ACCESS << 2 * key;
	/* Nothing moves past it, in the compiler or in the processor. */
	__asm__ volatile("wrpkru" : : "a"(rights), "c"(0), "d"(0) : "memory");
}
#elif defined(HAVE_PKEY_ALLOC)
/* Of this key. */
static uint32_t
rights_read(int key)
{
	return (uint32_t)pkey_get(key);
}

static bool
rights_open(uint32_t rights, int key)
{
	(void)key;
	return rights == 0;
}

static void
rights_write(uint32_t rights, int key, bool open)
{
	(void)rights;
	__asm__ volatile("" : : : "memory");
	/* It cannot fail of a key that there is. */
	(void)pkey_set(key, open ? 0 : PKEY_DISABLE_ACCESS);
	__asm__ volatile("" : : : "memory");
}
#else
static uint32_t
rights_read(int key)
{
	(void)key;
	return 0;
}

static bool
rights_open(uint32_t rights, int key)
{
	(void)key;
	return rights == 0;
}

static void
rights_write(uint32_t rights, int key, bool open)
{
	(void)rights;
	(void)key;
	(void)open;
}
#endif

int
window_start(void)
{
	int key = memory_key_make();

	if (key == -1)
		return -1;
	fixed.window = key;
	return 0;
}

void
window_stop(void)
{
	int key = fixed.window;

	if (key == 0)
		return;
	/* Whoever is given the key next finds it closed here. */
	window_deny();
	windows = 1;
	fixed.window = 0;
	memory_key_give(key);
}

int
window_cover(void *at, size_t size)
{
	return fixed.window == 0 ? 0 :
	    memory_set_key(at, size, fixed.window, true);
}

int
window_reveal(void *at, size_t size)
{
	return fixed.window == 0 ? memory_make_readable(at, size) :
	    memory_set_key(at, size, fixed.window, false);
}

bool
window_admit(void)
{
	int key = fixed.window;
	uint32_t rights = rights_read(key);

	if (rights_open(rights, key))
		return false;
	rights_write(rights, key, true);
	return true;
}

void
window_deny(void)
{
	rights_write(rights_read(fixed.window), fixed.window, false);
}

int
secmalloc_open(void)
{
	const int key = fixed.window;
	uint64_t before = windows;
	uint32_t rights;
	bool nested;

	if (key == 0) {
		errno = ENOTSUP;
		return -1;
	}
	if ((before & WINDOWS_FULL) != 0) {
		errno = EOVERFLOW;
		return -1;
	}
	rights = rights_read(key);
	nested = rights_open(rights, key);
	windows = before << 1 | nested;
	if (!nested)
		rights_write(rights, key, true);
	return 0;
}

/*
 * A thread that was created within a window has its creator's rights, and no
 * window of its own: it closes them all the same.
 */
int
secmalloc_close(void)
{
	const int key = fixed.window;
	uint64_t before = windows;
	uint32_t rights;

	if (key == 0) {
		errno = ENOTSUP;
		return -1;
	}
	if (before != 1) {
		windows = before >> 1;
		if ((before & 1) == 0)
			window_deny();
		return 0;
	}
	rights = rights_read(key);
	rights_write(rights, key, false);
	if (rights_open(rights, key))
		return 0;
	errno = EINVAL;
	return -1;
}
