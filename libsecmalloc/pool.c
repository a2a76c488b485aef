/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pool.c: whole pools: made when runs are asked for that no pool has, and given
 * back when they are empty; must not know who locks them, nor what is kept in a
 * run.
 */
#include "config.h"

#include <errno.h>
#include <string.h>

#include "fatal.h"
#include "fixed.h"
#include "memory.h"
#include "pools.h"
#include "runs.h"
#include "secmalloc.h"
#include "tools.h"
#include "window.h"

enum {
	/* Bytes in empty pools that are kept. */
	RESERVE = 1024 * 1024,
	/* A pool of which one block in so many is taken may do without it. */
	LEFTOVER = 4
};

struct pools pools;

static size_t
books_size(size_t nblocks)
{
	return memory_round_up(sizeof(struct pool) +
	    nblocks * sizeof(struct block));
}

size_t
pool_records_size(size_t size)
{
	return memory_round_up(size / RECORD_UNIT);
}

size_t
pool_books_size(const struct pool *pool)
{
	return books_size(pool->nblocks) + pool_records_size(pool->size);
}

uint8_t *
pool_records(const void *at)
{
	return fixed.records + ((uintptr_t)at - fixed.base) / RECORD_UNIT;
}

size_t
pool_locked_size(const struct pool *pool)
{
	return (size_t)(pool->nblocks - pool->absent_blocks) << BLOCK_SHIFT;
}

static void
link_pool(struct pool *pool)
{
	pool->chain = pools.chain;
	PUBLISH(pools.chain, pool);
	region_insert(pool);
	pools.locked += pool_locked_size(pool);
	pools.books += pool_books_size(pool);
}

static void
unlink_pool(struct pool *pool)
{
	struct pool **link = &pools.chain;

	while (*link != pool)
		link = &(*link)->chain;
	PUBLISH(*link, pool->chain);
	region_remove(pool);
	if (!pool->dead) {
		pools.locked -= pool_locked_size(pool);
		pools.books -= pool_books_size(pool);
	}
	pool_not_spare(pool);
}

/* Writable records for SIZE bytes at AT. */
static int
open_records(const void *at, size_t size)
{
	return memory_make_writable(pool_records(at), pool_records_size(size));
}

/* What they said is forgotten, whether or not the rest can be done. */
void
pool_close_records(const void *at, size_t size)
{
	memory_discard(pool_records(at), pool_records_size(size));
	(void)memory_make_readable(pool_records(at), pool_records_size(size));
}

/* The books of a pool of SIZE bytes. */
static struct pool *
new_books(size_t size)
{
	size_t nblocks = size >> BLOCK_SHIFT;
	size_t length = books_size(nblocks);
	struct pool *pool;
	void *at;

	if (nblocks > UINT32_MAX / 2) {
		errno = ENOMEM;
		return NULL;
	}
	if ((at = memory_reserve(length)) == NULL)
		return NULL;
	if (memory_map_private(at, length) == -1 ||
	    memory_keep_from_core(at, length) == -1) {
		int error = errno;

		memory_unreserve(at, length);
		errno = error;
		return NULL;
	}
	pool = at;
	pool->size = size;
	pool->nblocks = pool->free_blocks = (uint32_t)nblocks;
	for (size_t i = 0; i < nblocks; i++)
		pool->blocks[i].pool = pool;
	return pool;
}

static void
free_books(struct pool *pool)
{
	memory_unreserve(pool, books_size(pool->nblocks));
}

/* Once more, if the source ends in the middle of it. */
static int
provide(void *at, size_t size, struct grant *grant)
{
	struct source_range all = { at, size };

	for (unsigned tries = 0; tries < 2; tries++) {
		if (locks_require() == -1)
			return -1;
		if (pools.source->ops->provide(pools.source, &all, 1,
		    grant) == 0)
			return 0;
		if (errno != ENOLCK || !locks_keep(true))
			return -1;
	}
	return -1;
}

/*
 * SIZE locked bytes of the source in the region, and records for them; NULL
 * with errno.  The records come first: while they can be taken back there are
 * mappings to spare, and with those all else can.
 */
static void *
new_memory(size_t size, struct grant *grant)
{
	void *at = region_place(size);
	int error;

	if (at == NULL || open_records(at, size) == -1)
		return NULL;
	if (provide(at, size, grant) == 0)
		return at;
	error = errno;
	pool_close_records(at, size);
	errno = error;
	return NULL;
}

/*
 * Makes the addresses of POOL inaccessible.  Where the kernel has no memory
 * even for that, they are lost: their pool stays, as a dead one.
 */
bool
pool_close_off(struct pool *pool)
{
	if (memory_close_off(pool->base, pool->size) == 0)
		return true;
	memory_vacate(pool->base, pool->size);
	pool->vacated = true;
	return false;
}

/* A child may have begun with more: see choose_gap(). */
static bool
is_beyond_limit(size_t size)
{
	size_t max = pools.config.max_locked;

	return max != 0 && (pools.locked > max || size > max - pools.locked);
}

static struct pool *
new_pool(size_t size)
{
	struct pool *pool;
	struct grant grant;
	void *base;
	int error;

	if (pools.count == POOLS_MAX || is_beyond_limit(size)) {
		errno = ENOMEM;
		return NULL;
	}
	if (locks_require() == -1)
		return NULL;
	/* Before the books take memory, since a refusal should not. */
	if ((base = new_memory(size, &grant)) == NULL)
		return NULL;
	if ((pools.config.copy_on_fork ||
	    memory_keep_from_children(base, size) == 0) &&
	    (pool = new_books(size)) != NULL) {
		pool->base = base;
		pool->grant = grant;
		pool->source = pools.source;
		pool->source->pools++;
		blocks_offer(pool, 0, pool->nblocks);
		link_pool(pool);
		locks_belt(pool);
		return pool;
	}
	error = errno;
	pool_close_records(base, size);
	if (memory_close_off(base, size) == -1 &&
	    memory_make_inaccessible(base, size) == -1)
		fatal_bug("mmap");
	pools.source->ops->withdraw(pools.source, &grant);
	errno = error;
	return NULL;
}

/* POOL holds nothing that is not wiped, and is nobody's to take from. */
void
pool_discard(struct pool *pool)
{
	blocks_withdraw(pool);
	pool_close_records(pool->base, pool->size);
	unlink_pool(pool);
	pool->dead = true;
	if (pool_close_off(pool)) {
		free_books(pool);
		return;
	}
	pool->chain = pools.chain;
	PUBLISH(pools.chain, pool);
	region_insert(pool);
}

static void
delete_pool(struct pool *pool)
{
	struct source *source = pool->source;
	struct grant grant = pool->grant;

	pool_discard(pool);
	source->ops->withdraw(source, &grant);
	source->pools--;
	locks_forsake(source);
}

void
pool_not_spare(struct pool *pool)
{
	if (pool->spare)
		pools.spare -= pool->size;
	pool->spare = false;
}

bool
pool_is_empty(const struct pool *pool)
{
	return pool->free_blocks + pool->absent_blocks == pool->nblocks;
}

static struct pool *
largest_spare(void)
{
	struct pool *largest = NULL;

	for (size_t i = 0; i < pools.count; i++)
		if (pools.table[i]->spare && (largest == NULL ||
		    pools.table[i]->size > largest->size))
			largest = pools.table[i];
	return largest;
}

/* Half of SIZE in whole pages. */
static size_t
half(size_t size)
{
	return memory_round_up(size / 2);
}

/*
 * A new pool with room for NEEDED bytes.  Each is as large as all before it,
 * within bounds, and smaller where a limit leaves no more.
 */
static struct pool *
grown_pool(size_t needed)
{
	size_t wanted = pools.locked;
	struct pool *pool;

	needed = memory_round_up(needed);
	if (wanted < pools.config.pool_size)
		wanted = pools.config.pool_size;
	if (wanted > POOL_SIZE_MAX)
		wanted = POOL_SIZE_MAX;
	if (wanted < needed)
		wanted = needed;
	/* Who may not lock at all may not lock less either. */
	if (locks_require() == -1)
		return NULL;
	while ((pool = new_pool(wanted)) == NULL) {
		if (errno != ENOMEM && errno != EDQUOT && errno != EAGAIN)
			return NULL;
		if (wanted > needed)
			wanted = half(wanted) > needed ? half(wanted) : needed;
		else if (pools.spare != 0)
			delete_pool(largest_spare()); /* too small, but locked */
		else
			return NULL;
	}
	return pool;
}

struct block *
pool_take(size_t nblocks, size_t align, bool grow)
{
	size_t needed = nblocks + align - 1;
	struct block *block;

	if (nblocks > UINT32_MAX / 2 || align > UINT32_MAX / 2 ||
	    needed > PTRDIFF_MAX >> BLOCK_SHIFT) {
		errno = ENOMEM;
		return NULL;
	}
	block = blocks_take((uint32_t)nblocks, align);
	if (block != NULL)
		return block;
	errno = ENOMEM;
	if (!grow || grown_pool(needed << BLOCK_SHIFT) == NULL)
		return NULL;
	return blocks_take((uint32_t)nblocks, align);
}

/*
 * POOL has become empty.  Such are kept while they are few bytes; or else one,
 * the smallest, if it is not large.  One that is not whole is of no use.
 */
static void
trim(struct pool *pool)
{
	if (pool->initial)
		return;
	pools.shrunk = true;
	if (pool->absent_blocks != 0) {
		delete_pool(pool);
		return;
	}
	pool->spare = true;
	pools.spare += pool->size;
	if (pools.spare > RESERVE && (pools.spare != pool->size ||
	    pool->size > POOL_SIZE_MAX))
		delete_pool(largest_spare());
}

bool
pool_is_left_over(const struct pool *pool)
{
	return !pool->initial && !pool->dead && !pool_is_empty(pool) &&
	    pool->nblocks - pool->absent_blocks - pool->free_blocks <=
	    pool->nblocks / LEFTOVER;
}

/* Makes the blocks from FROM to before TO free, with the free ones beside. */
static void
release_blocks(struct pool *pool, uint32_t from, uint32_t to)
{
	struct block *blocks = pool->blocks;

	pool->free_blocks += to - from;
	if (to < pool->nblocks && blocks[to].kind == BLOCK_FREE) {
		runs_remove(&blocks[to]);
		to += blocks[to].nblocks;
	}
	if (from > 0 && blocks[from - 1].kind == BLOCK_FREE) {
		from = blocks[from - 1].head;
		runs_remove(&blocks[from]);
	}
	blocks_offer(pool, from, to);
	if (pool_is_empty(pool))
		trim(pool);
	else
		pools.shrunk |= pool_is_left_over(pool);
}

bool
pool_leftovers(void)
{
	for (size_t i = 0; i < pools.count; i++)
		if (pool_is_left_over(pools.table[i]))
			return true;
	return false;
}

bool
pool_has_shrunk(void)
{
	bool shrunk = pools.shrunk;

	pools.shrunk = false;
	return shrunk && pool_leftovers();
}

void
pool_give(struct block *head)
{
	uint32_t at = block_index(head);

	release_blocks(head->pool, at, at + head->nblocks);
}

void
pool_shorten(struct block *head, size_t nblocks)
{
	uint32_t at = block_index(head);
	uint32_t end = at + head->nblocks, cut = at + (uint32_t)nblocks;

	if (cut >= end)
		return;
	/* The tail must be a run before the head stops to speak for it. */
	blocks_mark_free(head->pool, cut, end);
	PUBLISH(head->nblocks, (uint32_t)nblocks);
	release_blocks(head->pool, cut, end);
}

bool
pool_extend(struct block *head, size_t nblocks)
{
	struct pool *pool = head->pool;
	uint32_t at = block_index(head), end = at + head->nblocks;
	struct block *next = &pool->blocks[end];
	size_t more = nblocks - head->nblocks;

	if (end == pool->nblocks || next->kind != BLOCK_FREE ||
	    next->nblocks < more)
		return false;
	runs_remove(next);
	/* What is left of it, before the head speaks for the rest. */
	blocks_offer(pool, end + (uint32_t)more, end + next->nblocks);
	PUBLISH(head->nblocks, (uint32_t)nblocks);
	blocks_mark_inner(pool, at, end, end + (uint32_t)more);
	pool->free_blocks -= (uint32_t)more;
	return true;
}

/*
 * Start and stop.
 */

static size_t
default_size(void)
{
	size_t least = POOL_PAGES_DEFAULT * memory_page_size();

	return least > POOL_SIZE_DEFAULT ? least : POOL_SIZE_DEFAULT;
}

static int
start(const struct pool_config *config)
{
	size_t n = config->initial_pools == 0 ? 1 : config->initial_pools;
	bool whatever = config->pool_size == 0 && config->initial_pools == 0 &&
	    !config->secret_else;

	/* Of the parent, which another thread was about to start or to stop. */
	if (pools.chain != NULL || fixed.base != 0)
		pool_stop();
	pools.config = *config;
	pools.map_limit = memory_map_limit();
	if (config->pool_size == 0)
		pools.config.pool_size = default_size();
	if (region_take() == -1)
		return -1;
	for (size_t i = 0; i < n; i++) {
		struct pool *pool = whatever ? grown_pool(memory_page_size()) :
		    new_pool(pools.config.pool_size);

		if (pool == NULL) {
			int error = errno;

			pool_stop();
			errno = error;
			return -1;
		}
		pool->initial = true;
	}
	return 0;
}

int
pool_start(const struct pool_config *config)
{
	struct pool_config other = *config;

	if (start(config) == 0)
		return 0;
	if (!config->secret_else)
		return -1;
	other.secret = other.secret_else = false;
	return start(&other);
}

/* But for a guard page, or one that was lost: nothing is there. */
static void
wipe_runs(struct pool *pool)
{
	bool entered = window_enter();

	for (uint32_t i = 0; i < pool->nblocks; i += pool->blocks[i].nblocks) {
		struct block *head = &pool->blocks[i];
		size_t size = (size_t)head->nblocks << BLOCK_SHIFT;
		unsigned char *at = block_address(head);

		if (head->kind == BLOCK_FREE || head->kind == BLOCK_LOST ||
		    head->kind == BLOCK_ABSENT)
			continue;
		if (head->kind == BLOCK_OBJECT && head->fenced) {
			at = pool_inside(head, &size);
			if (pool_access(head, SECMALLOC_READWRITE) == -1)
				continue; /* and unmapped next */
		} else if (head->guarded)
			size -= memory_page_size();
		tools_open(at, size);
		memory_wipe(at, size);
	}
	window_leave(entered);
}

/*
 * In an order that lets a child, whose memory is a picture of any moment, still
 * do the same: what is given back is forgotten before that, pools before the
 * region that they are in.
 */
void
pool_stop(void)
{
	struct pool *chain = pools.chain, *next;

	for (struct pool *pool = chain; pool != NULL; pool = pool->chain) {
		if (pool->dead)
			continue;
		wipe_runs(pool);
		pool->source->ops->withdraw(pool->source, &pool->grant);
	}
	PUBLISH(pools.chain, NULL);
	region_give();
	for (struct pool *pool = chain; pool != NULL; pool = next) {
		next = pool->chain;
		free_books(pool);
	}
	for (size_t i = 0; i < pools.sources_used; i++)
		locks_close(&pools.sources[i]);
	runs_clear();
	memset(&pools, 0, sizeof pools);
}

void
pool_totals(struct pool_totals *totals)
{
	totals->pools = 0;
	totals->bytes = pools.locked;
	totals->books = pools.books;
	totals->guards = pools.guards;
	totals->mode = pools.ops == NULL ? -1 : pools.ops->mode;
	for (size_t i = 0; i < pools.count; i++)
		totals->pools += !pools.table[i]->dead;
}
