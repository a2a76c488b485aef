/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * source_inprocess.c: private pages that this process locks itself, for as
 * long as it may; must not know what they are for.
 */
#include "config.h"

#include <errno.h>

#include "mappings.h"
#include "memory.h"
#include "secmalloc.h"
#include "source.h"
#include "window.h"

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
	    memory_lock(range->at, range->size) == 0 &&
	    window_cover(range->at, range->size) == 0 ? 0 : -1;
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

static int
inprocess_verify(struct source *source, const struct source_range *ranges,
    size_t count)
{
	(void)source;
	return mappings_verify(MAPPINGS_LOCKED, ranges, count);
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
