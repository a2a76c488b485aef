/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * source_inprocess.c: pages that this process has by its own right, for as long
 * as it has that; must not know what they are for.
 *
 * There are two kinds.  Private pages are locked by mlock(2).  Secret ones, of
 * memfd_secret(2), nobody but this process's page tables leads to, the kernel's
 * own included; the kernel keeps them in memory whoever maps them, and counts
 * them against RLIMIT_MEMLOCK: each mapping when it is made, of a process; or,
 * as of 2026, each page when it is touched, of a user.
 */
#include "config.h"

#include <errno.h>

#include "mappings.h"
#include "memory.h"
#include "secmalloc.h"
#include "source.h"
#include "window.h"

static int
map_private(void *at, size_t size)
{
	return memory_map_private(at, size) == 0 &&
	    memory_lock(at, size) == 0 ? 0 : -1;
}

/* A trial: no capability set or limit tells the truth in every namespace. */
static int
try(int (*map)(void *at, size_t size))
{
	size_t size = memory_page_size();
	void *at = memory_reserve(size);
	int error = 0;

	if (at == NULL)
		return -1;
	if (map(at, size) == -1)
		error = errno;
	memory_unreserve(at, size);
	if (error == 0)
		return 0;
	errno = error;
	return -1;
}

static int
provide(int (*map)(void *at, size_t size), const struct source_range *ranges,
    size_t count, struct grant *grant)
{
	size_t i = 0;
	int error;

	*grant = (struct grant){ .memory.fd = -1 };
	while (i < count && map(ranges[i].at, ranges[i].size) == 0 &&
	    memory_keep_from_core(ranges[i].at, ranges[i].size) == 0 &&
	    window_cover(ranges[i].at, ranges[i].size) == 0)
		i++;
	if (i == count)
		return 0;
	error = errno;
	for (i = 0; i < count; i++)
		(void)memory_close_off(ranges[i].at, ranges[i].size);
	errno = error;
	return -1;
}

/*
 * What both kinds do alike.
 */

static void
withdraw(struct source *source, struct grant *grant)
{
	/* Unmapping, which comes next, is all that it takes. */
	(void)source;
	descriptor_close(&grant->memory);
}

static bool
answers(struct source *source)
{
	(void)source;
	return true;
}

static bool
keeps(const struct source *source)
{
	(void)source;
	return true;
}

static int
descriptor(const struct source *source)
{
	(void)source;
	return -1;
}

static void
end(struct source *source)
{
	(void)source;
}

/*
 * Private pages.
 */

static int
inprocess_open(struct source *source, const char *helper_path)
{
	(void)source;
	(void)helper_path;
	return try(map_private);
}

static int
inprocess_provide(struct source *source, const struct source_range *ranges,
    size_t count, struct grant *grant)
{
	(void)source;
	return provide(map_private, ranges, count, grant);
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

static int
inprocess_verify(struct source *source, const struct source_range *ranges,
    size_t count)
{
	(void)source;
	return mappings_verify(MAPPINGS_LOCKED, ranges, count);
}

const struct source_ops source_inprocess = {
	.mode = SECMALLOC_MODE_INPROCESS,
	.shared = false,
	.open = inprocess_open,
	.provide = inprocess_provide,
	.adopt = inprocess_adopt,
	.withdraw = withdraw,
	.relock = inprocess_relock,
	.answers = answers,
	.keeps = keeps,
	.verify = inprocess_verify,
	.descriptor = descriptor,
	.close = end,
};

/*
 * Secret pages.
 */

static int
secret_open(struct source *source, const char *helper_path)
{
	(void)source;
	(void)helper_path;
	return try(memory_map_secret);
}

static int
secret_provide(struct source *source, const struct source_range *ranges,
    size_t count, struct grant *grant)
{
	(void)source;
	return provide(memory_map_secret, ranges, count, grant);
}

/*
 * Pages are made secret when they are made, or never: what another source had
 * provided is not, and neither is what the host has put in the place of ours,
 * the only loss that there can be.
 */
static int
secret_adopt(struct source *source, const struct source_range *ranges,
    size_t count, struct grant *grant)
{
	(void)source;
	(void)ranges;
	(void)count;
	(void)grant;
	errno = ENOLCK;
	return -1;
}

/* Not by "lo": a child's mappings do not have it, and need it no more. */
static int
secret_verify(struct source *source, const struct source_range *ranges,
    size_t count)
{
	(void)source;
	return mappings_verify(MAPPINGS_SECRET, ranges, count);
}

const struct source_ops source_secret = {
	.mode = SECMALLOC_MODE_INPROCESS,
	.shared = true,
	.open = secret_open,
	.provide = secret_provide,
	.adopt = secret_adopt,
	.withdraw = withdraw,
	.answers = answers,
	.keeps = keeps,
	.verify = secret_verify,
	.descriptor = descriptor,
	.close = end,
};
