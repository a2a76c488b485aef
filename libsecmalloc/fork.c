/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fork.c: notices that this process is a new one; must not know what becomes
 * of the heap.
 */
#include "config.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>

#include "cache.h"
#include "fork.h"
#include "memory.h"

enum {
	WIPED = 0, /* as the kernel leaves it in a child */
	SETTLED,
	SETTLING
};

static int *mark;
static bool settled_late; /* since the last fork that our handlers saw */

static void
settle(void)
{
	int wiped = WIPED;

	if (__atomic_compare_exchange_n(mark, &wiped, SETTLING, 0,
	    __ATOMIC_ACQUIRE, __ATOMIC_ACQUIRE)) {
		cache_fork_late();
		settled_late = true;
		__atomic_store_n(mark, SETTLED, __ATOMIC_RELEASE);
	} else
		/* The child has threads, and another one was first. */
		while (__atomic_load_n(mark, __ATOMIC_ACQUIRE) != SETTLED)
			sched_yield();
}

/* Of threads that come here at once, one makes it. */
static int *
make_mark(void)
{
	int *page = memory_wiped_on_fork(memory_page_size()), *first = NULL;

	if (page == NULL)
		return NULL;
	*page = SETTLED;
	if (__atomic_compare_exchange_n(&mark, &first, page, 0,
	    __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
		return page;
	memory_unreserve(page, memory_page_size());
	return first;
}

void
fork_enter(void)
{
	int *known = __atomic_load_n(&mark, __ATOMIC_ACQUIRE);

	/*
	 * Before the heap's lock is ever taken: a child that is made while
	 * another thread holds it must find the mark.
	 */
	if (known == NULL)
		known = make_mark();
	if (known != NULL &&
	    __atomic_load_n(known, __ATOMIC_ACQUIRE) != SETTLED)
		settle();
}

static int cancel_state; /* of the thread that forks */

static void
prepare(void)
{
	fork_enter();
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
	cache_fork_prepare();
	settled_late = false;
}

static void
in_parent(void)
{
	int error = errno; /* of a fork that failed */

	cache_fork_parent();
	pthread_setcancelstate(cancel_state, &cancel_state);
	errno = error;
}

static void
in_child(void)
{
	/*
	 * If a handler of the host's that was registered before ours, and so
	 * comes before it, has called us, all is done, as behind the handlers'
	 * back.  Not by the mark, which some emulators do not wipe.
	 */
	if (!settled_late)
		cache_fork_child();
	if (mark != NULL)
		__atomic_store_n(mark, SETTLED, __ATOMIC_RELEASE);
	pthread_setcancelstate(cancel_state, &cancel_state);
}

static bool registered;

/*
 * At load, before there is a lock of ours that might be held: these are the
 * only calls made here that may allocate, and this library may be the malloc
 * that they call.
 */
__attribute__((constructor)) static void
load(void)
{
	if (!registered)
		registered = pthread_atfork(prepare, in_parent, in_child) == 0;
	cache_load();
}

int
fork_start(void)
{
	/* Kept for good, as the handlers are: they cannot be taken back. */
	if (mark == NULL && make_mark() == NULL)
		return -1;
	if (!registered && pthread_atfork(prepare, in_parent, in_child) != 0) {
		errno = ENOMEM;
		return -1;
	}
	registered = true;
	return 0;
}
