/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tools.h: tells whoever watches the program's accesses, if anybody does, what
 * of our memory is an object and what is off limits.  Watching are valgrind's
 * memcheck, and AddressSanitizer in the program, whether or not this library
 * was built with it.  Must not know what a span, a pool or a lock is.
 *
 * None of these touches the memory itself.  Where nobody watches, each is one
 * load and a branch; where somebody does, the heap has to:
 *
 *      span handed out, all of it off limits        tools_span
 *      slot taken: before its canary is written     tools_open
 *                  after that                       tools_allocated
 *      object freed or resized: before its canary
 *                  is looked at                     tools_open
 *                  after the wipe                   tools_freed, tools_resized
 */
#ifndef TOOLS_H
#define TOOLS_H

#include <stdbool.h>
#include <stddef.h>

/* Who watches; found out at the first call here, and then the same for good. */
enum tools_watcher {
	TOOLS_UNKNOWN = 0,
	TOOLS_NONE,
	TOOLS_MEMCHECK,
	TOOLS_ADDRESS
};

extern int tools_watcher;

int tools_look(void);
void tools_tell_allocated(void *at, size_t size, size_t room);
void tools_tell_freed(void *at, size_t room);
void tools_tell_resized(void *at, size_t old, size_t size, size_t room);
void tools_tell_open(const void *at, size_t length);
void tools_tell_closed(const void *at, size_t length);
void tools_tell_unmapped(const void *at, size_t length);
void tools_tell_forget(void);

/*
 * Whether anybody watches.  False under other tools of valgrind, and where
 * ASAN_OPTIONS has allow_user_poisoning=0.
 */
static inline bool
tools_watch(void)
{
	int watcher = __atomic_load_n(&tools_watcher, __ATOMIC_RELAXED);

	if (__builtin_expect(watcher == TOOLS_UNKNOWN, 0))
		watcher = tools_look();
	return __builtin_expect(watcher != TOOLS_NONE, 0);
}

/*
 * An object of SIZE bytes, zero and at a multiple of 8, is handed out; what is
 * behind it in its ROOM is off limits.
 */
static inline void
tools_allocated(void *at, size_t size, size_t room)
{
	if (tools_watch())
		tools_tell_allocated(at, size, room);
}

/* An object is no more: its ROOM is off limits until it is allocated again. */
static inline void
tools_freed(void *at, size_t room)
{
	if (tools_watch())
		tools_tell_freed(at, room);
}

/* An object stays where it is, with another size; what it gained is zero. */
static inline void
tools_resized(void *at, size_t old, size_t size, size_t room)
{
	if (tools_watch())
		tools_tell_resized(at, old, size, room);
}

/* We are about to touch what may be off limits, until it is closed again. */
static inline void
tools_open(const void *at, size_t length)
{
	if (tools_watch())
		tools_tell_open(at, length);
}

/*
 * Off limits from here on: pages in which nothing is allocated yet, or what
 * tools_open() opened where none of the three above closes it.
 */
static inline void
tools_span(const void *at, size_t length)
{
	if (tools_watch())
		tools_tell_closed(at, length);
}

/* These addresses are not ours any more, whatever was said of them. */
static inline void
tools_unmapped(const void *at, size_t length)
{
	if (tools_watch())
		tools_tell_unmapped(at, length);
}

/*
 * No object is live any more, though none was freed: the library shuts down,
 * or this child was denied its parent's.
 */
static inline void
tools_forget(void)
{
	if (tools_watch())
		tools_tell_forget();
}

/*
 * All our objects are and will be within these addresses: what they alone
 * point to is not leaked, LeakSanitizer is told.  Whether or not anybody
 * watches; once for each start, and the same again at its end.
 */
void tools_reserved(const void *at, size_t length);
void tools_unreserved(const void *at, size_t length);

#endif
