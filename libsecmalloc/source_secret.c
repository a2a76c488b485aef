/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * source_secret.c: pages of memfd_secret(2), which nobody but this process's
 * page tables leads to, the kernel's own included; must not know what they are
 * for.
 *
 * The kernel keeps them in memory whoever maps them.  It counts them against
 * RLIMIT_MEMLOCK: each mapping when it is made, of a process; or, as of 2026,
 * each page when it is touched, of a user.
 */
#include "config.h"

#include <errno.h>

#include "mappings.h"
#include "memory.h"
#include "secmalloc.h"
#include "source.h"
#include "window.h"

/* A trial, as of source_inprocess.c. */
static int
secret_open(struct source *source, const char *helper_path)
{
	size_t size = memory_page_size();
	void *at = memory_reserve(size);
	int error = 0;

	(void)source;
	(void)helper_path;
	if (at == NULL)
		return -1;
	if (memory_map_secret(at, size) == -1)
		error = errno;
	memory_unreserve(at, size);
	if (error == 0)
		return 0;
	errno = error;
	return -1;
}

static int
map(const struct source_range *range)
{
	return memory_map_secret(range->at, range->size) == 0 &&
	    memory_keep_from_core(range->at, range->size) == 0 &&
	    window_cover(range->at, range->size) == 0 ? 0 : -1;
}

static int
secret_provide(struct source *source, const struct source_range *ranges,
    size_t count, struct grant *grant)
{
	size_t i = 0;
	int error;

	(void)source;
	*grant = (struct grant){ .memory.fd = -1 };
	while (i < count && map(&ranges[i]) == 0)
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

static void
secret_withdraw(struct source *source, struct grant *grant)
{
	/* Unmapping, which comes next, is all that it takes. */
	(void)source;
	descriptor_close(&grant->memory);
}

static bool
secret_answers(struct source *source)
{
	(void)source;
	return true;
}

static bool
secret_keeps(const struct source *source)
{
	(void)source;
	return true;
}

/* Not by "lo": a child's mappings do not have it, and need it no more. */
static int
secret_verify(struct source *source, const struct source_range *ranges,
    size_t count)
{
	(void)source;
	return mappings_verify(MAPPINGS_SECRET, ranges, count);
}

static int
secret_descriptor(const struct source *source)
{
	(void)source;
	return -1;
}

static void
secret_close(struct source *source)
{
	(void)source;
}

const struct source_ops source_secret = {
	.mode = SECMALLOC_MODE_INPROCESS,
	.shared = true,
	.open = secret_open,
	.provide = secret_provide,
	.adopt = secret_adopt,
	.withdraw = secret_withdraw,
	.answers = secret_answers,
	.keeps = secret_keeps,
	.verify = secret_verify,
	.descriptor = secret_descriptor,
	.close = secret_close,
};
