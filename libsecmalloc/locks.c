/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * locks.c: the sources that pools are from, and what becomes of a pool whose
 * source does not keep it any more; must not know what is in a pool.
 */
#include "config.h"

#include <errno.h>
#include <poll.h>
#include <time.h>

#include "fatal.h"
#include "memory.h"
#include "pools.h"
#include "secmalloc.h"
#include "window.h"

/* Between two attempts to lock what is not; the first waits that long. */
enum { RETRY_MS = 250 };

/*
 * Sources.
 */

/* There always is one. */
static struct source *
unused_source(void)
{
	size_t i = 0;

	while (pools.sources[i].ops != NULL)
		i++;
	if (pools.sources_used <= i)
		pools.sources_used = i + 1;
	pools.sources[i] = (struct source){ .ops = NULL };
	return &pools.sources[i];
}

struct source *
locks_open(const struct source_ops *ops)
{
	struct source *source = unused_source();

	if (ops->open(source, pools.config.helper_path) == -1)
		return NULL;
	source->ops = ops;
	return source;
}

void
locks_close(struct source *source)
{
	if (source->ops != NULL)
		source->ops->close(source);
	source->ops = NULL;
}

/* Whoever may lock, in the order of secmalloc_config.mode; then for good. */
static struct source *
open_source(void)
{
	struct source *source = NULL;
	int error = EPERM;

	if (pools.ops != NULL)
		return locks_open(pools.ops);
	if (pools.config.secret) {
		if ((source = locks_open(&source_secret)) != NULL)
			pools.ops = source->ops;
		return source;
	}
	if (pools.config.mode != SECMALLOC_MODE_INPROCESS &&
	    (source = locks_open(&source_helper)) == NULL)
		error = errno;
	if (source == NULL && pools.config.mode != SECMALLOC_MODE_HELPER &&
	    (source = locks_open(&source_inprocess)) == NULL)
		error = source_refusal(error, errno);
	if (source != NULL)
		pools.ops = source->ops;
	errno = error;
	return source;
}

/* A source without a pool is of use only if it can be asked for one. */
void
locks_forsake(struct source *source)
{
	if (source->pools == 0 && source != pools.source)
		locks_close(source);
}

static bool
keeps(const struct source *source)
{
	return !source->failed && source->ops->keeps(source);
}

/* One that lives and answers: if the last one does not, another. */
int
locks_require(void)
{
	struct source *was = pools.source;

	if (was != NULL && keeps(was) && was->ops->answers(was))
		return 0;
	pools.source = NULL;
	if (was != NULL)
		locks_forsake(was);
	pools.source = open_source();
	/* Killed before it said hello, if it is not the first one. */
	if (pools.source == NULL && errno == EPROTO && was != NULL)
		pools.source = open_source();
	return pools.source != NULL ? 0 : -1;
}

/*
 * Locks.
 */

static void
note_lost(void)
{
	if (!pools.lost)
		pools.lost_news = true;
	pools.lost = true;
}

bool
pool_lost(void)
{
	return pools.lost;
}

bool
pool_lost_news(void)
{
	bool news = pools.lost_news;

	pools.lost_news = false;
	return news;
}

static int64_t
now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static bool
is_kept(const struct pool *pool)
{
	return pool->dead || keeps(pool->source);
}

static bool
all_kept(void)
{
	for (size_t i = 0; i < pools.sources_used; i++)
		if (pools.sources[i].ops != NULL && pools.sources[i].pools != 0 &&
		    !keeps(&pools.sources[i]))
			return false;
	return true;
}

/* Best effort, by design: the helper's lock is what was promised. */
void
locks_belt(const struct pool *pool)
{
	size_t n = pools.config.belt && pools.ops == &source_helper ?
	    ranges_of(pool) : 0;
	bool entered = n != 0 && window_enter();

	for (size_t i = 0; i < n; i++)
		(void)memory_lock(pool_ranges[i].at, pool_ranges[i].size);
	window_leave(entered);
}

/* This process, where it is not what provides pools. */
static struct source *
ourselves(void)
{
	for (size_t i = 0; i < pools.sources_used; i++)
		if (pools.sources[i].ops == &source_inprocess &&
		    !pools.sources[i].failed)
			return &pools.sources[i];
	return locks_open(&source_inprocess);
}

static int
adopt(struct source *source, struct pool *pool)
{
	struct source *was = pool->source;
	bool mapped_here = source->ops == &source_inprocess;
	size_t n = ranges_of(pool);
	int result = mapped_here ? guards_open(pool) : 0;
	bool entered = mapped_here && window_enter();

	if (result == 0)
		result = source->ops->adopt(source, pool_ranges, n, &pool->grant);
	window_leave(entered);
	if (mapped_here && !guards_restore(pool))
		fatal_bug("mprotect");
	if (result == -1)
		return -1;
	pool->source = source;
	source->pools++;
	was->pools--;
	locks_forsake(was);
	return 0;
}

/* By whom we ask for more: a helper, where it was one.  Errno is of the last. */
static bool
relock_by_source(void)
{
	bool able = locks_require() == 0, all = able;

	for (struct pool *pool = pools.chain; pool != NULL && able;
	    pool = pool->chain)
		if (!is_kept(pool) && adopt(pools.source, pool) == -1)
			all = false;
	return all;
}

/* As far as we may. */
static bool
relock_ourselves(void)
{
	struct source *source = NULL;
	bool all = true;

	for (struct pool *pool = pools.chain; pool != NULL; pool = pool->chain) {
		if (is_kept(pool))
			continue;
		if (source == NULL && pools.ops == &source_helper)
			source = ourselves();
		if (source == NULL || adopt(source, pool) == -1)
			all = false;
	}
	if (source != NULL)
		locks_forsake(source);
	return all;
}

/*
 * What a helper held against the quota is free a moment after its locks are
 * gone.  One that is killed at its work is followed by another.
 */
static bool
relock_soon(void)
{
	int64_t end = now_ms() + RETRY_MS;
	unsigned tried = 1;

	while (!relock_by_source()) {
		/* EPROTO: it has not even said hello. */
		bool over = errno == EDQUOT ? now_ms() >= end :
		    (errno != ENOLCK && errno != EPROTO) ||
		    ++tried > HELPERS_TRIED;

		if (over)
			return relock_ourselves();
		if (errno == EDQUOT)
			(void)poll(NULL, 0, 1);
	}
	return true;
}

bool
locks_keep(bool now)
{
	int error = errno;

	if (all_kept())
		pools.lost = false;
	else if (!pools.lost) {
		if (!relock_soon())
			note_lost();
	} else if (now || now_ms() >= pools.retry)
		pools.lost = !relock_by_source() && !relock_ourselves();
	else
		return false;
	if (pools.lost)
		pools.retry = now_ms() + RETRY_MS;
	errno = error;
	return !pools.lost;
}

bool
pool_keep(void)
{
	return locks_keep(false);
}

static int
verify_source(struct source *source)
{
	size_t n = 0;

	for (size_t i = 0; i < pools.count; i++) {
		const struct pool *pool = pools.table[i];

		if (!pool->dead && pool->source == source)
			n = ranges_add(n, pool, pool->base, 0);
	}
	return n == 0 ? 0 : source->ops->verify(source, pool_ranges, n);
}

/* Only if one source keeps all, and answers. */
int
pool_lock_fd(void)
{
	size_t count = 0;
	int fd = -1;

	if (!locks_keep(true)) {
		errno = ENOLCK;
		return -1;
	}
	for (const struct pool *pool = pools.chain; pool != NULL;
	    pool = pool->chain)
		count += !pool->dead;
	if (pools.source != NULL && pools.source->pools == count &&
	    pools.source->ops->answers(pools.source))
		fd = pools.source->ops->descriptor(pools.source);
	if (fd == -1)
		errno = ENOTSUP;
	return fd;
}

/* What is found out not to be locked is locked, if it can be. */
int
pool_verify(void)
{
	bool found = false;

	if (!locks_keep(true)) {
		errno = ENOLCK;
		return -1;
	}
	for (size_t i = 0; i < pools.sources_used; i++) {
		struct source *source = &pools.sources[i];

		if (source->ops == NULL || verify_source(source) == 0)
			continue;
		if (errno != ENOLCK)
			return -1;
		found = source->failed = true;
	}
	if (!found || locks_keep(true))
		return 0;
	errno = ENOLCK;
	return -1;
}
