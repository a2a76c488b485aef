/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * blocks.c: runs of blocks within a pool, and which of its pages are there; must
 * not know what is kept in a run.
 */
#include "config.h"

#include "memory.h"
#include "pools.h"
#include "runs.h"

/*
 * Runs.
 */

void *
block_address(const struct block *block)
{
	const struct pool *pool = block->pool;

	return pool->base +
	    ((size_t)(block - pool->blocks) << BLOCK_SHIFT);
}

struct block *
block_head(struct pool *pool, const void *at)
{
	size_t index = (size_t)((const unsigned char *)at - pool->base) >>
	    BLOCK_SHIFT;
	struct block *block = &pool->blocks[index];

	return block->kind == BLOCK_INNER ? &pool->blocks[block->head] : block;
}

uint32_t
block_index(const struct block *block)
{
	return (uint32_t)(block - block->pool->blocks);
}

/* Marks the blocks from FROM to before TO as one free run. */
void
blocks_mark_free(struct pool *pool, uint32_t from, uint32_t to)
{
	struct block *head = &pool->blocks[from];

	PUBLISH(head->nblocks, to - from);
	pool->blocks[to - 1].head = from;
	for (uint32_t i = from; i < to; i++)
		PUBLISH(pool->blocks[i].kind, BLOCK_FREE);
}

/* The same, to be found by who looks for one. */
void
blocks_offer(struct pool *pool, uint32_t from, uint32_t to)
{
	if (from == to)
		return;
	blocks_mark_free(pool, from, to);
	runs_insert(&pool->blocks[from]);
}

void
blocks_mark_inner(struct pool *pool, uint32_t head, uint32_t from, uint32_t to)
{
	for (uint32_t i = from; i < to; i++) {
		pool->blocks[i].head = head;
		pool->blocks[i].kind = BLOCK_INNER;
	}
}

void
blocks_mark_absent(struct pool *pool, uint32_t from, uint32_t to)
{
	if (from == to)
		return;
	blocks_mark_inner(pool, from, from + 1, to);
	PUBLISH(pool->blocks[from].nblocks, to - from);
	PUBLISH(pool->blocks[from].kind, BLOCK_ABSENT);
	pool->absent_blocks += to - from;
}

/* The first of NBLOCKS within the free run at HEAD, or the end of it. */
static uint32_t
fit(const struct block *head, uint32_t nblocks, size_t align)
{
	uint32_t at = block_index(head);
	uintptr_t first = (uintptr_t)block_address(head) >> BLOCK_SHIFT;
	uintptr_t gap = -first & (align - 1);

	if (gap > head->nblocks || head->nblocks - gap < nblocks)
		return at + head->nblocks;
	return at + (uint32_t)gap;
}

static struct block *
carve(struct block *head, uint32_t at, uint32_t nblocks)
{
	struct pool *pool = head->pool;
	uint32_t from = block_index(head), end = from + head->nblocks;
	struct block *block = &pool->blocks[at];

	runs_remove(head);
	/* From the far end on, so that heads lead from one to the next. */
	blocks_offer(pool, at + nblocks, end);
	blocks_mark_inner(pool, at, at + 1, at + nblocks);
	PUBLISH(block->nblocks, nblocks);
	PUBLISH(block->kind, BLOCK_TAKEN);
	blocks_offer(pool, from, at);
	pool->free_blocks -= nblocks;
	pool_not_spare(pool);
	return block;
}

/* Best fit.  What has to be aligned may have to look at longer ones, too. */
struct block *
blocks_take(uint32_t nblocks, size_t align)
{
	struct block *head;

	for (head = runs_fit(nblocks); head != NULL; head = runs_after(head)) {
		uint32_t at = fit(head, nblocks, align);

		if (at != block_index(head) + head->nblocks)
			return carve(head, at, nblocks);
	}
	return NULL;
}

/* Takes the free runs of a pool out of the order of all. */
void
blocks_withdraw(struct pool *pool)
{
	for (uint32_t i = 0; i < pool->nblocks; i += pool->blocks[i].nblocks)
		if (pool->blocks[i].kind == BLOCK_FREE)
			runs_remove(&pool->blocks[i]);
}

/*
 * Holes.  A child gets pages for what is in use, and for small gaps between.
 */

uint32_t
blocks_of_page(void)
{
	return (uint32_t)(memory_page_size() >> BLOCK_SHIFT);
}

/* The head after the last of those that are vacant, from the one at AT on. */
uint32_t
vacancy_end(const struct pool *pool, uint32_t at, bool also_free)
{
	const struct block *blocks = pool->blocks;

	while (at < pool->nblocks && (blocks[at].kind == BLOCK_ABSENT ||
	    (also_free && blocks[at].kind == BLOCK_FREE)))
		at += blocks[at].nblocks;
	return at;
}

/* What is vacant from AT to END, if it is GAP or more; or else of no blocks. */
struct hole
hole_within(uint32_t at, uint32_t end, uint32_t gap)
{
	uint32_t page = blocks_of_page();
	uint32_t from = (at + page - 1) / page * page, to = end / page * page;

	if (to <= from || to - from < gap)
		from = to = end;
	return (struct hole){ from, to, end };
}

/*
 * The next hole of POOL from the head at AT on.  It is what is ABSENT; or with
 * a GAP, where that many blocks or more are ABSENT or FREE.  Where there is
 * none, it is of no blocks, at the end of the pool.
 */
struct hole
hole_next(const struct pool *pool, uint32_t at, uint32_t gap)
{
	while (at < pool->nblocks) {
		uint32_t end = vacancy_end(pool, at, gap != 0);
		struct hole hole = hole_within(at, end, gap);

		if (hole.from != hole.to)
			return hole;
		at = end == pool->nblocks ? end :
		    end + pool->blocks[end].nblocks;
	}
	return (struct hole){ at, at, at };
}

struct source_range pool_ranges[RANGES_MAX];

/*
 * Writes to pool_ranges[], from N on, what of POOL is in none of its holes, as
 * if it were at BASE.  Returns how many there are then.
 */
size_t
ranges_add(size_t n, const struct pool *pool, unsigned char *base,
    uint32_t gap)
{
	struct hole hole = { 0, 0, 0 };

	do {
		uint32_t from = hole.to;

		hole = hole_next(pool, hole.end, gap);
		if (hole.from > from)
			pool_ranges[n++] = (struct source_range){
				base + ((size_t)from << BLOCK_SHIFT),
				(size_t)(hole.from - from) << BLOCK_SHIFT
			};
	} while (hole.from != hole.to);
	return n;
}

/* The same for one that is as it is. */
size_t
ranges_of(const struct pool *pool)
{
	return ranges_add(0, pool, pool->base, 0);
}
