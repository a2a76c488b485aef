/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fatal.c: the one way to stop; must not know of anything else in here.
 *
 * Nothing here takes a lock or allocates: whatever was damaged, and whatever
 * the thread holds, the process is stopped.
 */
#include "config.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#include "fatal.h"

typedef void callback_function(const char *, const char *, void *);

static callback_function *callback;
static void *callback_data;

/* The process that is being stopped, and whether by this very thread. */
static pid_t stopping;
static _Thread_local bool stopping_here
    __attribute__((tls_model("initial-exec")));

void
fatal_set_callback(callback_function *function, void *data)
{
	__atomic_store_n(&callback_data, data, __ATOMIC_RELAXED);
	__atomic_store_n(&callback, function, __ATOMIC_RELEASE);
}

/*
 * One writev(), so that lines of several threads do not mix.  No address is
 * printed: it would tell a reader of the log where to aim.
 */
static void
say(const char *const *words, int n)
{
	struct iovec line[8];

	for (int i = 0; i < n; i++) {
		line[i].iov_base = (void *)(uintptr_t)words[i];
		line[i].iov_len = strlen(words[i]);
	}
	if (writev(STDERR_FILENO, line, n) == -1)
		return; /* nowhere to say it; the abort says enough */
}

/*
 * Returns in the first thread that comes here, the others wait for its end.
 * A child may have been made meanwhile: there, nobody is on the way.
 */
static void
stop_once(void)
{
	pid_t self = getpid(), first = __atomic_load_n(&stopping,
	    __ATOMIC_RELAXED);

	while (first != self)
		if (__atomic_compare_exchange_n(&stopping, &first, self, 0,
		    __ATOMIC_RELAXED, __ATOMIC_RELAXED))
			return;
	for (;;)
		(void)pause();
}

void
fatal_misuse(const char *function, const char *what)
{
	const char *words[] = {
		"libsecmalloc: ", function, "(): ", what, "\n"
	};
	callback_function *tell = __atomic_load_n(&callback, __ATOMIC_ACQUIRE);
	int before;

	/* A thread that is cancelled in the callback would not get to abort. */
	(void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
	if (!stopping_here) {
		stop_once();
		stopping_here = true;
		if (tell != NULL)
			tell(function, what, __atomic_load_n(&callback_data,
			    __ATOMIC_RELAXED));
	}
	say(words, 5);
	abort();
}

void
fatal_bug(const char *what)
{
	const char *words[] = { "libsecmalloc: internal error: ", what, "\n" };

	say(words, 3);
	abort();
}
