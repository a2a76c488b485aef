/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * source_inprocess.c: private pages that this process locks itself, for as
 * long as it may; must not know what they are for.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "memory.h"
#include "secmalloc.h"
#include "source.h"

/* A trial: no capability set or limit tells the truth in every namespace. */
static int
inprocess_open(struct source *source, const char *helper_path)
{
	size_t size = memory_page_size();
	void *at = memory_reserve(size);
	int error = 0;

	(void)source;
	(void)helper_path;
	if (at == NULL)
		return -1;
	if (memory_map_private(at, size) == -1 || memory_lock(at, size) == -1)
		error = errno;
	memory_unreserve(at, size);
	if (error == 0)
		return 0;
	errno = error;
	return -1;
}

static int
map_and_lock(const struct source_range *range)
{
	return memory_map_private(range->at, range->size) == 0 &&
	    memory_keep_from_core(range->at, range->size) == 0 &&
	    memory_lock(range->at, range->size) == 0 ? 0 : -1;
}

static int
inprocess_provide(struct source *source, const struct source_range *ranges,
    size_t count, struct grant *grant)
{
	size_t i = 0;
	int error;

	(void)source;
	*grant = (struct grant){ .memory.fd = -1 };
	while (i < count && map_and_lock(&ranges[i]) == 0)
		i++;
	if (i == count)
		return 0;
	error = errno;
	for (i = 0; i < count; i++)
		(void)memory_close_off(ranges[i].at, ranges[i].size);
	errno = error;
	return -1;
}

/* A child may have addresses back that its parent had no pages at. */
static int
inprocess_relock(const struct source_range *ranges, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (memory_keep_from_core(ranges[i].at, ranges[i].size) == -1 ||
		    memory_lock(ranges[i].at, ranges[i].size) == -1)
			return -1;
	return 0;
}

/* Through the mapping that is used: it is locked for all who have the pages. */
static int
inprocess_adopt(struct source *source, const struct source_range *ranges,
    size_t count, struct grant *grant)
{
	(void)source;
	(void)grant;
	return inprocess_relock(ranges, count);
}

static void
inprocess_withdraw(struct source *source, struct grant *grant)
{
	/* Unmapping, which comes next, unlocks. */
	(void)source;
	descriptor_close(&grant->memory);
}

static bool
inprocess_answers(struct source *source)
{
	(void)source;
	return true;
}

static bool
inprocess_keeps(const struct source *source)
{
	(void)source;
	return true;
}

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
 * ranges: "START-END ..." opens a mapping, "VmFlags: ... lo ..." closes it and
 * says whether it is locked.  Returns whether the ranges are covered without
 * a gap by mappings that are.
 */
static bool
all_locked(struct lines *smaps, const struct source_range *ranges,
    size_t count)
{
	uintptr_t start = 0, end = 0;
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
		}
		if (strncmp(line, "VmFlags:", 8) != 0 || next < start ||
		    next >= end)
			continue;
		if (strstr(line, " lo") == NULL)
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
each_locked(const struct source_range *ranges, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (!memory_is_locked(ranges[i].at, ranges[i].size))
			return false;
	return true;
}

static int
inprocess_verify(struct source *source, const struct source_range *ranges,
    size_t count)
{
	struct lines smaps = { .start = 0 };
	bool locked = false;

	(void)source;
	smaps.fd = open("/proc/self/smaps", O_RDONLY | O_CLOEXEC);
	if (smaps.fd == -1 && (errno == EMFILE || errno == ENFILE ||
	    errno == ENOMEM))
		return -1;
	if (smaps.fd == -1)
		locked = each_locked(ranges, count);
	else {
		locked = all_locked(&smaps, ranges, count);
		(void)close(smaps.fd);
	}
	if (!locked)
		errno = ENOLCK;
	return locked ? 0 : -1;
}

static int
inprocess_descriptor(const struct source *source)
{
	(void)source;
	return -1;
}

static void
inprocess_close(struct source *source)
{
	(void)source;
}

const struct source_ops source_inprocess = {
	.mode = SECMALLOC_MODE_INPROCESS,
	.shared = false,
	.open = inprocess_open,
	.provide = inprocess_provide,
	.adopt = inprocess_adopt,
	.withdraw = inprocess_withdraw,
	.relock = inprocess_relock,
	.answers = inprocess_answers,
	.keeps = inprocess_keeps,
	.verify = inprocess_verify,
	.descriptor = inprocess_descriptor,
	.close = inprocess_close,
};
