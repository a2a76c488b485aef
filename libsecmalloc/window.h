/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * window.h: windows, in which the calling thread may touch pool memory, by a
 * protection key (pkeys(7)) that all of it has, if the host asked for that.
 * Knows nothing of what the memory is for.
 *
 * Whoever touches the bytes of an object here does so between window_enter()
 * and window_leave(), also by a system call: the kernel heeds the key where it
 * reads, writes or locks for the thread.  Addresses, records, tags and books
 * are not behind it.
 */
#ifndef WINDOW_H
#define WINDOW_H

#include <stdbool.h>
#include <stddef.h>

#include "fixed.h"

/*
 * Takes a key; -1 with ENOTSUP.  What is fixed must be open for both.  At the
 * end no memory may have it any more.
 */
int window_start(void);
void window_stop(void);

/* Puts memory, which is readable and writable, behind the key, if there is one. */
int window_cover(void *at, size_t size);

/* Makes memory, which is inaccessible, readable, behind the key alike. */
int window_reveal(void *at, size_t size);

/* Admits the calling thread; false if it was admitted before. */
bool window_admit(void);
void window_deny(void);

/* What is entered is to be left with what this returned. */
static inline bool
window_enter(void)
{
	return __builtin_expect(fixed.window != 0, 0) && window_admit();
}

static inline void
window_leave(bool entered)
{
	if (entered)
		window_deny();
}

#endif
