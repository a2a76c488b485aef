/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * twins.c: the copies of pools that a child gets, from before the fork until
 * they are its own; must not know what is copied.
 */
#include "config.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include "memory.h"
#include "pools.h"
#include "runs.h"
#include "secmalloc.h"
#include "system.h"
#include "window.h"

enum {
	/* The fewest pages that are left out of the middle of a copy ... */
	GAP_PAGES_MIN = 4,
	/* ... and how often, of one pool; each takes two mappings. */
	HOLES_OF_POOL_MAX = 1024,
	MAPPINGS_OF_HOLE = 2
};

/*
 * What this process has locked itself, and was told to at the start, its child
 * has whole, since it may not be able to lock more.  What was a helper's comes
 * from a helper, whoever keeps it now.
 */
static bool
is_copied_whole(const struct pool *pool)
{
	return pool->initial && pools.config.initial_pools != 0 &&
	    pools.ops->mode == SECMALLOC_MODE_INPROCESS;
}

static bool
wants_twin(const struct pool *pool)
{
	return !pool->dead && (is_copied_whole(pool) || !pool_is_empty(pool));
}

static size_t
count_holes(const struct pool *pool, uint32_t gap)
{
	struct hole hole = { 0, 0, 0 };
	size_t n = 0;

	for (;; n++) {
		hole = hole_next(pool, hole.end, gap);
		if (hole.from == hole.to)
			return n;
	}
}

/* As small as it can be with no more than MAX holes. */
static uint32_t
choose_gap(const struct pool *pool, size_t max)
{
	uint32_t gap = GAP_PAGES_MIN * blocks_of_page();

	if (is_copied_whole(pool))
		return pool->nblocks + 1;
	while (count_holes(pool, gap) > max)
		gap *= 2;
	return gap;
}

static void
choose_gaps(void)
{
	size_t left = pools.map_limit / MAPPINGS_OF_HOLE / 4, max;

	if (left > HOLES_MAX)
		left = HOLES_MAX;
	for (struct pool *pool = pools.chain; pool != NULL; pool = pool->chain) {
		if (!wants_twin(pool))
			continue;
		max = left < HOLES_OF_POOL_MAX ? left : HOLES_OF_POOL_MAX;
		pool->gap = choose_gap(pool, max);
		left -= count_holes(pool, pool->gap);
	}
}

static void
drop_picture(struct pool *pool)
{
	uint8_t *picture = pool->picture;

	PUBLISH(pool->picture, NULL);
	if (picture != NULL)
		memory_unreserve(picture, pool_records_size(pool->size));
}

static int
take_picture(struct pool *pool)
{
	size_t size = pool_records_size(pool->size);
	const uint8_t *records = pool_records(pool->base);
	uint8_t *picture = memory_reserve(size);

	if (picture == NULL)
		return -1;
	if (memory_map_private(picture, size) == -1) {
		memory_unreserve(picture, size);
		return -1;
	}
	for (size_t i = 0; i < pool->size / RECORD_UNIT; i++)
		picture[i] = __atomic_load_n(&records[i], __ATOMIC_ACQUIRE);
	PUBLISH(pool->picture, picture);
	return 0;
}

static void
close_twin(void)
{
	if (pools.twin != NULL)
		locks_close(pools.twin);
	pools.twin = NULL;
}

static void
drop_twins(void)
{
	for (struct pool *pool = pools.chain; pool != NULL; pool = pool->chain) {
		unsigned char *twin = pool->twin;

		if (twin == NULL)
			continue;
		/* Forgotten first: see pool_rebuild(). */
		PUBLISH(pool->twin, NULL);
		memory_unreserve(twin, pool->size);
		descriptor_close(&pool->twin_grant.memory);
		drop_picture(pool);
	}
	close_twin();
}

/* For those that no child shares. */
static void
wipe_twins(void)
{
	for (struct pool *pool = pools.chain; pool != NULL; pool = pool->chain) {
		size_t n = pool->twin == NULL ? 0 :
		    ranges_add(0, pool, pool->twin, pool->gap);

		for (size_t i = 0; i < n; i++)
			memory_wipe(pool_ranges[i].at, pool_ranges[i].size);
	}
}

static int
make_twin(struct pool *pool,
    bool (*copy)(const struct pool *, unsigned char *), bool moving)
{
	unsigned char *twin = memory_reserve(pool->size);

	if (twin == NULL)
		return -1;
	if (pools.twin->ops->provide(pools.twin, pool_ranges,
	    ranges_add(0, pool, twin, pool->gap), &pool->twin_grant) == -1) {
		memory_unreserve(twin, pool->size);
		return -1;
	}
	PUBLISH(pool->twin, twin);
	if (moving && take_picture(pool) == -1)
		return -1;
	return copy(pool, twin) ? 0 : -1;
}

static bool
make_twins(bool (*copy)(const struct pool *, unsigned char *), bool moving)
{
	if ((pools.twin = locks_open(pools.ops)) == NULL)
		return false;
	for (struct pool *pool = pools.chain; pool != NULL; pool = pool->chain)
		if (wants_twin(pool) && make_twin(pool, copy, moving) == -1) {
			int error = errno;

			wipe_twins();
			drop_twins();
			errno = error;
			return false;
		}
	return true;
}

/* A helper that is killed at this work is followed by another. */
static bool
make_twins_soon(bool (*copy)(const struct pool *, unsigned char *),
    bool moving)
{
	for (unsigned tries = 0; tries < HELPERS_TRIED; tries++) {
		if (make_twins(copy, moving))
			return true;
		/* EPROTO: it has not even said hello. */
		if (errno != ENOLCK && errno != EPROTO)
			break;
	}
	return false;
}

void
pool_fork_prepare(bool (*copy)(const struct pool *, unsigned char *),
    bool moving)
{
	pools.relock[0] = pools.relock[1] = -1;
	pools.prepared = false;
	if (!pools.config.copy_on_fork || pools.ops == NULL)
		return;
	choose_gaps();
	pools.prepared = pools.ops->shared ? make_twins_soon(copy, moving) :
	    system_pipe(pools.relock) == 0;
}

/*
 * The parent's pages are its child's until either writes; whoever writes
 * first leaves the other the old page, and the child's is not locked yet.  So
 * the parent waits, but not for a child that is stopped.
 */
static void
await_relock(void)
{
	enum { PATIENCE_MS = 1000 };
	struct pollfd end = { .fd = pools.relock[0] };

	(void)close(pools.relock[1]);
	(void)poll(&end, 1, PATIENCE_MS); /* POLLHUP: the child has closed */
	(void)close(pools.relock[0]);
}

void
pool_fork_parent(void)
{
	drop_twins();
	if (pools.relock[0] != -1)
		await_relock();
}

/* In a child: what is in a hole is ABSENT, what else was not in use is FREE. */
static void
settle_runs(struct pool *pool)
{
	struct block *blocks = pool->blocks;
	uint32_t i = 0, end;

	pools.locked -= pool_locked_size(pool);
	blocks_withdraw(pool);
	pool->free_blocks = pool->absent_blocks = 0;
	while (i < pool->nblocks) {
		struct hole hole;

		end = vacancy_end(pool, i, true);
		if (end == i) {
			i += blocks[i].nblocks;
			continue;
		}
		hole = hole_within(i, end, pool->gap);
		/* From the far end on, as in carve(). */
		blocks_offer(pool, hole.to, end);
		blocks_mark_absent(pool, hole.from, hole.to);
		blocks_offer(pool, i, hole.from);
		pool->free_blocks += end - i - (hole.to - hole.from);
		i = end;
	}
	pools.locked += pool_locked_size(pool);
}

/* In a child, whose holes keep nothing of its parent's. */
static int
close_holes(const struct pool *pool)
{
	struct hole hole = hole_next(pool, 0, pool->gap);

	for (; hole.from != hole.to;
	    hole = hole_next(pool, hole.end, pool->gap))
		if (memory_close_off(pool->base +
		    ((size_t)hole.from << BLOCK_SHIFT),
		    (size_t)(hole.to - hole.from) << BLOCK_SHIFT) == -1)
			return -1;
	return 0;
}

static int
settle_memory(struct pool *pool)
{
	size_t n;

	if (!pools.prepared || close_holes(pool) == -1)
		return -1;
	n = ranges_add(0, pool, pool->base, pool->gap);
	for (size_t i = 0; i < n && !pools.ops->shared; i++)
		if (memory_make_writable(pool_ranges[i].at,
		    pool_ranges[i].size) == -1 ||
		    window_cover(pool_ranges[i].at, pool_ranges[i].size) == -1)
			return -1;
	if (!pools.ops->shared)
		return pools.ops->relock(pool_ranges, n);
	for (size_t i = 0; i < n; i++)
		if (memory_move(pool_ranges[i].at, pool->twin +
		    ((unsigned char *)pool_ranges[i].at - pool->base),
		    pool_ranges[i].size) == -1)
			return -1;
	/* What is left of the reservation: guard pages and holes. */
	memory_unreserve(pool->twin, pool->size);
	pool->twin = NULL;
	descriptor_close(&pool->grant.memory);
	pool->grant = pool->twin_grant;
	pool->source = pools.twin;
	return 0;
}

static bool
settle_guards(struct pool *pool)
{
	size_t guards = pools.guards, fences = pools.fences;

	guards_count(pool);
	if (guards_restore(pool))
		return true;
	pools.guards = guards;
	pools.fences = fences;
	return false;
}

static bool
settle_in_child(struct pool *pool)
{
	if (settle_memory(pool) == -1)
		return false;
	settle_runs(pool);
	locks_belt(pool);
	return settle_guards(pool);
}

/*
 * Nothing else may come to lie where old pointers point; unless, where the
 * kernel kept the pool from us, something does already.
 */
static void
bury(struct pool *pool)
{
	blocks_withdraw(pool);
	pool_close_records(pool->base, pool->size);
	if (pools.config.copy_on_fork)
		(void)pool_close_off(pool);
	else
		pool->vacated = memory_claim(pool->base, pool->size) == -1;
	if (pool->twin != NULL) {
		memory_unreserve(pool->twin, pool->size);
		pools.twin->ops->withdraw(pools.twin, &pool->twin_grant);
	} else if (pools.twin != NULL && pool->source == pools.twin)
		pools.twin->ops->withdraw(pools.twin, &pool->grant);
	pool->twin = NULL;
	descriptor_close(&pool->grant.memory);
	pool->dead = true;
	pools.locked -= pool_locked_size(pool);
	pools.books -= pool_books_size(pool);
	pool_not_spare(pool);
}

/* Of the parent's sources the child has none but what was made for it. */
static void
settle_sources(void)
{
	bool shares = pools.ops != NULL && pools.ops->shared;

	for (size_t i = 0; i < pools.sources_used; i++) {
		struct source *source = &pools.sources[i];

		source->pools = 0;
		if (source != pools.twin && (shares || !pools.prepared))
			locks_close(source);
	}
	if (shares || !pools.prepared)
		pools.source = pools.twin;
	pools.twin = NULL;
	/* Where nothing is left, anybody may do. */
	if (pools.source == NULL)
		pools.ops = NULL;
	for (struct pool *pool = pools.chain; pool != NULL; pool = pool->chain)
		if (!pool->dead)
			pool->source->pools++;
}

void
pool_fork_child(void (*mend)(struct pool *))
{
	struct pool *next;
	bool whole = true;

	pools.guards = pools.fences = 0;
	for (struct pool *pool = pools.chain; pool != NULL; pool = next) {
		next = pool->chain;
		if (pool->dead)
			continue;
		if (pools.config.copy_on_fork && !wants_twin(pool)) {
			descriptor_close(&pool->grant.memory);
			pool_discard(pool);
			continue;
		}
		if (settle_in_child(pool)) {
			if (pool->picture != NULL)
				mend(pool);
		} else {
			bury(pool);
			whole = false;
		}
		drop_picture(pool);
	}
	settle_sources();
	if (pools.relock[0] != -1) {
		(void)close(pools.relock[0]);
		(void)close(pools.relock[1]);
	}
	/* The parent's loss is not the child's, but a missing copy is news. */
	pools.lost = false;
	pools.lost_news = !whole && pools.config.copy_on_fork;
}

/* Makes the derived fields of POOL's runs anew. */
static void
rebuild_runs(struct pool *pool)
{
	uint32_t i = 0;

	pool->free_blocks = pool->absent_blocks = 0;
	while (i < pool->nblocks) {
		struct block *head = &pool->blocks[i];
		uint32_t end = i + head->nblocks;

		if (head->kind == BLOCK_TAKEN) {
			head->kind = BLOCK_FREE;
			head->guarded = false;
		}
		if (head->kind == BLOCK_ABSENT)
			pool->absent_blocks += head->nblocks;
		if (head->kind == BLOCK_FREE) {
			while (end < pool->nblocks && pool->blocks[end].kind ==
			    BLOCK_FREE)
				end += pool->blocks[end].nblocks;
			blocks_offer(pool, i, end);
			pool->free_blocks += end - i;
		} else
			blocks_mark_inner(pool, i, i + 1, end);
		i = end;
	}
}

void
pool_rebuild(void)
{
	pools.count = 0;
	pools.locked = pools.books = pools.spare = 0;
	runs_clear();
	close_twin();
	for (struct pool *pool = pools.chain; pool != NULL; pool = pool->chain) {
		/* Of a sibling, whose fork another thread was in. */
		if (pool->twin != NULL) {
			memory_unreserve(pool->twin, pool->size);
			descriptor_close(&pool->twin_grant.memory);
		}
		pool->twin = NULL;
		drop_picture(pool);
		region_insert(pool);
		pool->spare = false;
		if (pool->dead)
			continue;
		rebuild_runs(pool);
		pools.locked += pool_locked_size(pool);
		pools.books += pool_books_size(pool);
	}
}
