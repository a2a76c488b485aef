/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mappings.c: what the kernel says of this process's mappings; must not know
 * what they are for.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mappings.h"
#include "memory.h"

/* mm/secretmem.c; behind it stands " (deleted)", as of all without a name. */
#define SECRET_NAME " /secretmem"

/* Reads lines of a file, without stdio, which would allocate. */
struct lines {
	int fd;
	size_t start, end;
	char buffer[4096];
};

/* The next line, its newline removed, or NULL at the end or on an error. */
static char *
next_line(struct lines *lines)
{
	for (;;) {
		char *line = lines->buffer + lines->start;
		size_t length = lines->end - lines->start;
		char *newline = memchr(line, '\n', length);
		ssize_t got;

		if (newline != NULL) {
			*newline = '\0';
			lines->start += (size_t)(newline - line) + 1;
			return line;
		}
		memmove(lines->buffer, line, length);
		lines->start = 0;
		lines->end = length;
		if (length == sizeof lines->buffer)
			lines->end = 0; /* a name of a mapping; not needed */
		do
			got = read(lines->fd, lines->buffer + lines->end,
			    sizeof lines->buffer - lines->end);
		while (got == -1 && errno == EINTR);
		if (got <= 0)
			return NULL;
		lines->end += (size_t)got;
	}
}

/*
 * Walks /proc/self/smaps, which is in the order of addresses, as are the
 * ranges: "START-END ... NAME" opens a mapping, "VmFlags: ... lo ..." closes it
 * and says whether it is locked.  Returns whether the ranges are covered without
 * a gap by mappings of KIND.
 */
static bool
all_are(enum mappings_kind kind, struct lines *smaps,
    const struct source_range *ranges, size_t count)
{
	uintptr_t start = 0, end = 0;
	bool secret = false;
	uintptr_t next = count != 0 ? (uintptr_t)ranges[0].at : 0;
	size_t i = 0;

	while (i < count) {
		char *line = next_line(smaps), *rest;
		unsigned long address;

		if (line == NULL)
			return false;
		address = strtoul(line, &rest, 16);
		if (rest != line && *rest == '-') {
			start = address;
			end = strtoul(rest + 1, NULL, 16);
			secret = strstr(line, SECRET_NAME) != NULL;
		}
		if (strncmp(line, "VmFlags:", 8) != 0 || next < start ||
		    next >= end)
			continue;
		if (kind == MAPPINGS_SECRET ? !secret :
		    strstr(line, " lo") == NULL)
			return false;
		next = end;
		while (i < count &&
		    next >= (uintptr_t)ranges[i].at + ranges[i].size)
			if (++i < count && next < (uintptr_t)ranges[i].at)
				next = (uintptr_t)ranges[i].at;
	}
	return true;
}

/* For a host that has no /proc, as in a root of its own. */
static bool
each_is(enum mappings_kind kind, const struct source_range *ranges,
    size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (kind == MAPPINGS_SECRET ?
		    !memory_is_secret(ranges[i].at, ranges[i].size) :
		    !memory_is_locked(ranges[i].at, ranges[i].size))
			return false;
	return true;
}

int
mappings_verify(enum mappings_kind kind, const struct source_range *ranges,
    size_t count)
{
	struct lines smaps = { .start = 0 };
	bool all = false;

	smaps.fd = open("/proc/self/smaps", O_RDONLY | O_CLOEXEC);
	if (smaps.fd == -1 && (errno == EMFILE || errno == ENFILE ||
	    errno == ENOMEM))
		return -1;
	if (smaps.fd == -1)
		all = each_is(kind, ranges, count);
	else {
		all = all_are(kind, &smaps, ranges, count);
		(void)close(smaps.fd);
	}
	if (!all)
		errno = ENOLCK;
	return all ? 0 : -1;
}
