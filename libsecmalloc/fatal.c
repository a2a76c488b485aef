/* SPDX-License-Identifier: BSD-2-Clause */
/* fatal.c: the one way to stop; must not know of anything else in here. */
#include "config.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "fatal.h"

static void (*callback)(const char *, const char *, void *);
static void *callback_data;

void
fatal_set_callback(void (*function)(const char *, const char *, void *),
    void *data)
{
	callback = function;
	callback_data = data;
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

void
fatal_misuse(const char *function, const char *what)
{
	const char *words[] = {
		"libsecmalloc: ", function, "(): ", what, "\n"
	};

	say(words, 5);
	if (callback != NULL)
		callback(function, what, callback_data);
	abort();
}

void
fatal_bug(const char *what)
{
	const char *words[] = { "libsecmalloc: internal error: ", what, "\n" };

	say(words, 3);
	abort();
}
