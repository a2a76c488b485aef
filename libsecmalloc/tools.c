/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tools.c: what tools.h promises, in the words of each tool; must not know of
 * anything else in here.
 */
#include "config.h"

#ifdef HAVE_VALGRIND_MEMCHECK_H
# include <valgrind/memcheck.h>
#endif

#include "tools.h"

/*
 * Of the sanitizers' interface, what they have had from the first.  Weak: they
 * are in the program or they are not, and it need not be the compiler of this
 * library that brought them.  Where a linker wants to find what is weak, too,
 * they are not told.
 */
#ifdef HAVE_WEAK_REFERENCES
# define WEAK(type, name, ...) \
	__attribute__((weak, visibility("default"))) type name(__VA_ARGS__)
#else
# define WEAK(type, name, ...) static type (*const name)(__VA_ARGS__) = NULL
#endif

WEAK(void, __asan_poison_memory_region, const volatile void *, size_t);
WEAK(void, __asan_unpoison_memory_region, const volatile void *, size_t);
WEAK(int, __asan_address_is_poisoned, const volatile void *);
WEAK(void, __lsan_register_root_region, const void *, size_t);
WEAK(void, __lsan_unregister_root_region, const void *, size_t);

enum { CANARY_SIZE = 8 }; /* memcheck describes what is this near an object */

int tools_watcher;

/* Nothing is kept here; its address stands for all our objects. */
static _Alignas(16) char probe[16];

#ifdef HAVE_VALGRIND_MEMCHECK_H
/*
 * Objects in a pool of memcheck's, which can be forgotten as a whole: that two
 * of the same address are live ends valgrind itself.  But it looks for none
 * that is lost unless there is a block outside of pools, so it is shown one for
 * as long as an object is live.
 */
static char block[16];
static char *volatile block_found = block; /* by who searches memory for pointers */
static size_t live;

static void
show_block(void)
{
	if (__atomic_fetch_add(&live, 1, __ATOMIC_RELAXED) == 0)
		VALGRIND_MALLOCLIKE_BLOCK(block_found, sizeof block, 0, 1);
}

static void
hide_block(void)
{
	if (__atomic_sub_fetch(&live, 1, __ATOMIC_RELAXED) == 0)
		VALGRIND_FREELIKE_BLOCK(block_found, 0);
}
#endif

static bool
memcheck_watches(void)
{
#ifdef HAVE_VALGRIND_MEMCHECK_H
	/* Outside of valgrind and to its other tools this is 0. */
	return VALGRIND_MAKE_MEM_DEFINED(probe, sizeof probe) != 0;
#else
	return false;
#endif
}

/* It does nothing with allow_user_poisoning=0, and says so in no other way. */
static bool
address_sanitizer_watches(void)
{
	bool poisoned;

	if (__asan_poison_memory_region == NULL ||
	    __asan_unpoison_memory_region == NULL ||
	    __asan_address_is_poisoned == NULL)
		return false;
	__asan_poison_memory_region(probe, sizeof probe);
	poisoned = __asan_address_is_poisoned(probe) != 0;
	__asan_unpoison_memory_region(probe, sizeof probe);
	return poisoned;
}

/* Of threads that come here at once, one has its answer kept. */
int
tools_look(void)
{
	int unknown = TOOLS_UNKNOWN, watcher = TOOLS_NONE;

	if (memcheck_watches())
		watcher = TOOLS_MEMCHECK;
	else if (address_sanitizer_watches())
		watcher = TOOLS_ADDRESS;
	if (!__atomic_compare_exchange_n(&tools_watcher, &unknown, watcher, 0,
	    __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		return unknown;
#ifdef HAVE_VALGRIND_MEMCHECK_H
	if (watcher == TOOLS_MEMCHECK)
		VALGRIND_CREATE_MEMPOOL(probe, CANARY_SIZE, 1);
#endif
	return watcher;
}

void
tools_tell_allocated(void *at, size_t size, size_t room)
{
#ifdef HAVE_VALGRIND_MEMCHECK_H
	if (tools_watcher == TOOLS_MEMCHECK) {
		show_block();
		VALGRIND_MEMPOOL_ALLOC(probe, at, size);
	}
#endif
	tools_tell_open(at, size);
	tools_tell_closed((char *)at + size, room - size);
}

void
tools_tell_freed(void *at, size_t room)
{
#ifdef HAVE_VALGRIND_MEMCHECK_H
	if (tools_watcher == TOOLS_MEMCHECK) {
		VALGRIND_MEMPOOL_FREE(probe, at);
		hide_block();
	}
#endif
	tools_tell_closed(at, room);
}

void
tools_tell_resized(void *at, size_t old, size_t size, size_t room)
{
#ifdef HAVE_VALGRIND_MEMCHECK_H
	if (tools_watcher == TOOLS_MEMCHECK)
		VALGRIND_MEMPOOL_CHANGE(probe, at, at, size);
#endif
	/* What was there before may be undefined, and stays so. */
	if (size > old)
		tools_tell_open((char *)at + old, size - old);
	tools_tell_closed((char *)at + size, room - size);
}

void
tools_tell_open(const void *at, size_t length)
{
	if (tools_watcher == TOOLS_ADDRESS)
		__asan_unpoison_memory_region(at, length);
#ifdef HAVE_VALGRIND_MEMCHECK_H
	else
		(void)VALGRIND_MAKE_MEM_DEFINED(at, length);
#endif
}

/* Of the eight bytes that AT may be among, those before it stay as they are. */
void
tools_tell_closed(const void *at, size_t length)
{
	if (tools_watcher == TOOLS_ADDRESS)
		__asan_poison_memory_region(at, length);
#ifdef HAVE_VALGRIND_MEMCHECK_H
	else
		(void)VALGRIND_MAKE_MEM_NOACCESS(at, length);
#endif
}

/* memcheck sees by itself what becomes of a mapping. */
void
tools_tell_unmapped(const void *at, size_t length)
{
	if (tools_watcher == TOOLS_ADDRESS)
		__asan_unpoison_memory_region(at, length);
}

void
tools_tell_forget(void)
{
#ifdef HAVE_VALGRIND_MEMCHECK_H
	if (tools_watcher == TOOLS_MEMCHECK) {
		VALGRIND_DESTROY_MEMPOOL(probe);
		VALGRIND_CREATE_MEMPOOL(probe, CANARY_SIZE, 1);
		if (__atomic_exchange_n(&live, 0, __ATOMIC_RELAXED) != 0)
			VALGRIND_FREELIKE_BLOCK(block_found, 0);
	}
#endif
}

void
tools_reserved(const void *at, size_t length)
{
	if (__lsan_register_root_region != NULL)
		__lsan_register_root_region(at, length);
}

void
tools_unreserved(const void *at, size_t length)
{
	if (__lsan_unregister_root_region != NULL)
		__lsan_unregister_root_region(at, length);
}
