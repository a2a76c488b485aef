/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * report.c: the table at exit; must not allocate, nor call what does, for the
 * library may be what the host's malloc is made of.  That leaves out stdio,
 * and atexit().
 */
#include "config.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "report.h"
#include "system.h"

enum {
	NAME_WIDTH = 18,
	VALUE_WIDTH = 12,
	DIGITS = 20 /* of UINT64_MAX */
};

/* Filled to the end it takes no more. */
struct text {
	size_t length;
	char bytes[1024];
};

static int (*get_stats)(struct secmalloc_stats *);

void
report_start(int (*stats)(struct secmalloc_stats *))
{
	const char *wish = system_getenv("SECMALLOC_STATS");

	if (wish != NULL && wish[0] != '\0' && strcmp(wish, "0") != 0)
		get_stats = stats;
}

static void
put(struct text *text, const char *words)
{
	size_t length = strlen(words);

	if (length > sizeof text->bytes - text->length)
		length = sizeof text->bytes - text->length;
	memcpy(text->bytes + text->length, words, length);
	text->length += length;
}

/* The decimal digits of NUMBER, in what ROOM they take of DIGITS + 1 bytes. */
static const char *
digits(uint64_t number, char room[DIGITS + 1])
{
	char *at = room + DIGITS;

	*at = '\0';
	do {
		*--at = (char)('0' + number % 10);
		number /= 10;
	} while (number != 0);
	return at;
}

static void
put_blanks(struct text *text, size_t used, size_t width)
{
	for (; used < width; used++)
		put(text, " ");
}

/* Names to the left, values to the right of their columns. */
static void
put_row(struct text *text, const char *name, const char *value,
    const char *remark)
{
	put(text, "  ");
	put(text, name);
	put_blanks(text, strlen(name), NAME_WIDTH);
	put_blanks(text, strlen(value), VALUE_WIDTH);
	put(text, value);
	put(text, remark);
	put(text, "\n");
}

static void
put_count(struct text *text, const char *name, size_t value)
{
	char room[DIGITS + 1];

	put_row(text, name, digits(value, room), "");
}

/* With how much PART is of WHOLE, in tenths of a percent. */
static void
put_share(struct text *text, const char *name, size_t part, size_t whole)
{
	char room[DIGITS + 1], tenths[DIGITS + 1];
	uint64_t share = whole == 0 ? 0 : (uint64_t)part * 1000 / whole;
	struct text remark = { 0 };

	if (whole != 0) {
		put(&remark, "  (");
		put(&remark, digits(share / 10, tenths));
		put(&remark, ".");
		put(&remark, digits(share % 10, tenths));
		put(&remark, "% of locked)");
	}
	put_row(text, name, digits(part, room), remark.bytes);
}

static void
put_table(struct text *text, const struct secmalloc_stats *stats)
{
	char room[DIGITS + 1];

	put(text, "libsecmalloc: process ");
	put(text, digits((uint64_t)getpid(), room));
	put(text, " at its exit\n");
	put_row(text, "locked by",
	    stats->mode == SECMALLOC_MODE_HELPER ? "helper" : "in-process", "");
	put_count(text, "pools", stats->pools);
	put_count(text, "locked bytes", stats->locked_bytes);
	put_count(text, "live objects", stats->objects);
	put_count(text, "object bytes", stats->object_bytes);
	put_count(text, "cached bytes", stats->cached_bytes);
	put_share(text, "metadata bytes", stats->metadata_bytes,
	    stats->locked_bytes);
	put_count(text, "guarded objects", stats->guards);
	put_count(text, "unguarded objects", stats->unguarded);
}

/*
 * One write(), so that the tables of several processes do not mix.  A pipe that
 * nobody reads must not end the process in another way than it chose.
 */
static void
say(const struct text *text)
{
	sigset_t pipe_only, before, pending;
	bool ours;

	sigemptyset(&pipe_only);
	sigaddset(&pipe_only, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &pipe_only, &before);
	sigpending(&pending);
	ours = sigismember(&pending, SIGPIPE) == 0;
	if (write(STDERR_FILENO, text->bytes, text->length) == -1 &&
	    errno == EPIPE && ours)
		system_take_signal(&pipe_only);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* No atexit(): it allocates once it has more than a few to remember. */
__attribute__((destructor)) static void
report(void)
{
	struct secmalloc_stats stats;
	struct text text = { 0 };

	if (get_stats == NULL || get_stats(&stats) == -1 || stats.mode == -1)
		return;
	put_table(&text, &stats);
	say(&text);
}
