/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pools.h: what the files that pools are made of share: their state, and what
 * they offer each other.  Nobody else includes it.
 *
 *      region.c   the addresses, and which pool they are of
 *      blocks.c   runs of blocks in a pool, and what a child has none of
 *      guards.c   pages that cannot be accessed
 *      locks.c    sources, and how what they lock is kept so
 *      pool.c     whole pools
 *      twins.c    the copies that a child gets
 */
#ifndef POOLS_H
#define POOLS_H

#include "pool.h"

enum {
	/* One for each pool, one without, a child's, and this process. */
	SOURCES_MAX = POOLS_MAX + 3,
	/* That may die, one after another, at work which takes one. */
	HELPERS_TRIED = 8,
	/* Of all pools that a child has together. */
	HOLES_MAX = 4096,
	RANGES_MAX = POOLS_MAX + HOLES_MAX
};

struct pools {
	struct pool_config config;
	const struct source_ops *ops; /* of which kind the sources are; or NULL */
	struct source *source;        /* the one that is asked for more; or NULL */
	struct source sources[SOURCES_MAX];
	size_t sources_used;          /* all that are open are before it */
	struct pool *chain;
	struct pool *table[POOLS_MAX]; /* sorted by address */
	size_t count;
	size_t locked; /* bytes in pools that are not dead */
	size_t books;  /* bytes of bookkeeping, of the same */
	size_t guards; /* objects with a guard behind them ... */
	size_t fences; /* ... of which so many have one before them, too */
	size_t map_limit;
	size_t spare; /* bytes in pools that are kept though they are empty */
	bool lost, lost_news;
	int64_t retry; /* not before, if lost; CLOCK_MONOTONIC in ms */
	bool shrunk; /* of late: see pool_has_shrunk() */
	/* While a fork is made: */
	struct source *twin;
	int relock[2]; /* pipe; the child's end closes once it has locked */
	bool prepared;
};

extern struct pools pools;

/* Stores of which a picture may be taken between any two: see pool.h. */
#define PUBLISH(to, value) __atomic_store_n(&(to), value, __ATOMIC_RELEASE)

/* --- region.c --- */

/* -1 with ENOMEM or EAGAIN. */
int region_take(void);
void region_give(void);

/* Addresses for a pool of SIZE bytes, at random; NULL with ENOMEM. */
void *region_place(size_t size);

/* Makes a pool one that pool_find() finds, and no more. */
void region_insert(struct pool *pool);
void region_remove(const struct pool *pool);

/* --- blocks.c --- */

uint32_t block_index(const struct block *block);
uint32_t blocks_of_page(void);

/* Marks the blocks from FROM to before TO as one free run ... */
void blocks_mark_free(struct pool *pool, uint32_t from, uint32_t to);
/* ... to be found by who looks for one; of no blocks, if FROM is TO. */
void blocks_offer(struct pool *pool, uint32_t from, uint32_t to);
void blocks_mark_inner(struct pool *pool, uint32_t head, uint32_t from,
    uint32_t to);
void blocks_mark_absent(struct pool *pool, uint32_t from, uint32_t to);

/* A run of any pool, TAKEN, or NULL. */
struct block *blocks_take(uint32_t nblocks, size_t align);

/* Takes the free runs of a pool out of the order of all. */
void blocks_withdraw(struct pool *pool);

/* Where a child has no pages: see hole_next(). */
struct hole {
	uint32_t from, to; /* whole pages */
	uint32_t end;      /* the head after it */
};

uint32_t vacancy_end(const struct pool *pool, uint32_t at, bool also_free);
struct hole hole_within(uint32_t at, uint32_t end, uint32_t gap);
struct hole hole_next(const struct pool *pool, uint32_t at, uint32_t gap);

/* For who asks a source: the next question overwrites them. */
extern struct source_range pool_ranges[RANGES_MAX];
size_t ranges_add(size_t n, const struct pool *pool, unsigned char *base,
    uint32_t gap);
size_t ranges_of(const struct pool *pool);

/* --- guards.c --- */

void guards_count(const struct pool *pool);

/* Has all be readable for a moment, and then as it was; false if it cannot. */
int guards_open(struct pool *pool);
bool guards_restore(struct pool *pool);

/* --- locks.c --- */

/* NULL with errno. */
struct source *locks_open(const struct source_ops *ops);
void locks_close(struct source *source);

/* Closes one that has no pool and is not asked for any. */
void locks_forsake(struct source *source);

/* One that lives and answers: if the last one does not, another.  -1 with errno. */
int locks_require(void);

/* As pool_keep(); NOW: also if that has failed a moment ago.  Errno is kept. */
bool locks_keep(bool now);

/* Has this process lock what a helper has, if it was told to, and may. */
void locks_belt(const struct pool *pool);

/* --- pool.c --- */

size_t pool_records_size(size_t size);
size_t pool_books_size(const struct pool *pool);
size_t pool_locked_size(const struct pool *pool);
bool pool_is_empty(const struct pool *pool);
void pool_not_spare(struct pool *pool);
void pool_close_records(const void *at, size_t size);
bool pool_close_off(struct pool *pool);
void pool_discard(struct pool *pool);

#endif
