/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pool.c: pools of locked pages and runs of pages within them; must not know
 * who locks, nor what is kept in a run.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fatal.h"
#include "fixed.h"
#include "memory.h"
#include "pool.h"
#include "random.h"
#include "runs.h"
#include "secmalloc.h"
#include "source.h"
#include "tools.h"
#include "window.h"

enum {
	/* The least that is reserved of addresses for pools. */
	REGION_GRANULES_MIN = 8,
	/* Bytes in empty pools that are kept. */
	RESERVE = 1024 * 1024,
	/* A pool of which one block in so many is taken may do without it. */
	LEFTOVER = 4,
	/* What a guard may take: it parts a mapping in three. */
	MAPPINGS_OF_GUARD = 2,
	/* Pool, records and books, and what is between them. */
	MAPPINGS_OF_POOL = 8,
	/* One for each pool, one without, a child's, and this process. */
	SOURCES_MAX = POOLS_MAX + 3,
	/* Between two attempts to lock what is not; the first waits that long. */
	RETRY_MS = 250,
	/* Helpers that may die while they are handed what another had locked. */
	HELPERS_TRIED = 8,
	/* The fewest pages that are left out of the middle of a copy. */
	GAP_PAGES_MIN = 4,
	/* ... which costs two mappings: of all pools together, and of one. */
	HOLES_MAX = 4096,
	HOLES_OF_POOL_MAX = 1024,
	MAPPINGS_OF_HOLE = 2,
	RANGES_MAX = POOLS_MAX + HOLES_MAX
};

#if SIZE_MAX > UINT32_MAX
# define REGION_SIZE ((size_t)16 << 30)
#else
# define REGION_SIZE ((size_t)256 << 20)
#endif
/* Valgrind remarks upon 256 MiB and more. */
#define REGION_WATCHED ((size_t)192 << 20)

static struct {
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
} state;

/* Stores of which a picture may be taken between any two: see pool.h. */
#define PUBLISH(to, value) __atomic_store_n(&(to), value, __ATOMIC_RELEASE)

static void
note_lost(void)
{
	if (!state.lost)
		state.lost_news = true;
	state.lost = true;
}

bool
pool_lost(void)
{
	return state.lost;
}

bool
pool_lost_news(void)
{
	bool news = state.lost_news;

	state.lost_news = false;
	return news;
}

/*
 * Sources.
 */

/* There always is one. */
static struct source *
unused_source(void)
{
	size_t i = 0;

	while (state.sources[i].ops != NULL)
		i++;
	if (state.sources_used <= i)
		state.sources_used = i + 1;
	state.sources[i] = (struct source){ .ops = NULL };
	return &state.sources[i];
}

static struct source *
open_with(const struct source_ops *ops)
{
	struct source *source = unused_source();

	if (ops->open(source, state.config.helper_path) == -1)
		return NULL;
	source->ops = ops;
	return source;
}

static void
close_source(struct source *source)
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

	if (state.ops != NULL)
		return open_with(state.ops);
	if (state.config.secret) {
		if ((source = open_with(&source_secret)) != NULL)
			state.ops = source->ops;
		return source;
	}
	if (state.config.mode != SECMALLOC_MODE_INPROCESS &&
	    (source = open_with(&source_helper)) == NULL)
		error = errno;
	if (source == NULL && state.config.mode != SECMALLOC_MODE_HELPER &&
	    (source = open_with(&source_inprocess)) == NULL)
		error = source_refusal(error, errno);
	if (source != NULL)
		state.ops = source->ops;
	errno = error;
	return source;
}

/* A source without a pool is of use only if it can be asked for one. */
static void
forsake(struct source *source)
{
	if (source->pools == 0 && source != state.source)
		close_source(source);
}

static bool
keeps(const struct source *source)
{
	return !source->failed && source->ops->keeps(source);
}

/* One that lives and answers: if the last one does not, another. */
static int
require_source(void)
{
	struct source *was = state.source;

	if (was != NULL && keeps(was) && was->ops->answers(was))
		return 0;
	state.source = NULL;
	if (was != NULL)
		forsake(was);
	state.source = open_source();
	/* After one that was known, a stranger is one that was killed. */
	if (state.source == NULL && errno == EPROTO && was != NULL)
		state.source = open_source();
	return state.source != NULL ? 0 : -1;
}

/*
 * The table.
 */

/* The index of the first pool that ends above AT. */
static size_t
table_search(const void *at)
{
	size_t low = 0, high = state.count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct pool *pool = state.table[middle];

		if ((uintptr_t)pool->base + pool->size <= (uintptr_t)at)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct pool *
pool_find(const void *at)
{
	size_t i = table_search(at);

	if (i == state.count || (uintptr_t)at < (uintptr_t)state.table[i]->base)
		return NULL;
	return state.table[i];
}

static void
table_insert(struct pool *pool)
{
	size_t i = table_search(pool->base);

	memmove(state.table + i + 1, state.table + i,
	    (state.count - i) * sizeof *state.table);
	state.table[i] = pool;
	state.count++;
}

static void
table_remove(const struct pool *pool)
{
	size_t i = table_search(pool->base);

	state.count--;
	memmove(state.table + i, state.table + i + 1,
	    (state.count - i) * sizeof *state.table);
}

struct pool *
pool_first(void)
{
	return state.chain;
}

struct pool *
pool_next(const struct pool *pool)
{
	return pool->chain;
}

/*
 * The region.
 */

/* What pools begin at multiples of: the records of a pool are pages of its own. */
static size_t
granule(void)
{
	return memory_page_size() * RECORD_UNIT;
}

static size_t
tags_size(size_t size)
{
	return memory_round_up((size >> BLOCK_SHIFT) * sizeof *fixed.tags);
}

/* Between what is vacated nothing is anybody else's. */
static void
give_addresses(uintptr_t base, size_t size)
{
	size_t page = memory_page_size();
	uintptr_t from = base - page, end = base + size + page;

	for (size_t i = 0; i < state.count; i++) {
		const struct pool *pool = state.table[i];

		if (!pool->vacated)
			continue;
		memory_vacate((void *)from, (uintptr_t)pool->base - from);
		from = (uintptr_t)pool->base + pool->size;
	}
	memory_vacate((void *)from, end - from);
}

/* Forgotten first: see pool_stop(). */
static void
give_region(void)
{
	struct fixed_values was = fixed;

	PUBLISH(fixed.size, 0);
	PUBLISH(fixed.base, 0);
	PUBLISH(fixed.records, NULL);
	PUBLISH(fixed.tags, NULL);
	if (was.base != 0) {
		tools_unmapped((void *)was.base, was.size);
		tools_unreserved((void *)was.base, was.size);
		give_addresses(was.base, was.size);
	}
	if (was.records != NULL)
		memory_unreserve(was.records, was.size / RECORD_UNIT);
	if (was.tags != NULL)
		memory_unreserve(was.tags, tags_size(was.size));
}

static int
take_region_of(size_t size)
{
	int error;

	fixed.size = size;
	fixed.base = (uintptr_t)memory_reserve(size);
	if (fixed.base != 0)
		tools_reserved((void *)fixed.base, size);
	fixed.records = memory_reserve(size / RECORD_UNIT);
	fixed.tags = memory_reserve(tags_size(size));
	if (fixed.base != 0 && fixed.records != NULL && fixed.tags != NULL &&
	    memory_make_readable(fixed.records, size / RECORD_UNIT) == 0 &&
	    memory_make_writable(fixed.tags, tags_size(size)) == 0 &&
	    memory_keep_from_core(fixed.tags, tags_size(size)) == 0)
		return 0;
	error = errno;
	give_region();
	errno = error == EAGAIN ? EAGAIN : ENOMEM;
	return -1;
}

/*
 * As large as it can be, but no more than a quarter of the addresses that the
 * host may have.
 */
static int
take_region(void)
{
	size_t size = tools_watch() ? REGION_WATCHED : REGION_SIZE;

	while (size > memory_address_limit() / 4 &&
	    size > REGION_GRANULES_MIN * granule())
		size /= 2;
	while (take_region_of(size) == -1) {
		if (size <= REGION_GRANULES_MIN * granule())
			return -1;
		size /= 2;
	}
	return 0;
}

/* Whether SIZE bytes at AT, and a page on either side, are no pool's. */
static bool
is_vacant(uintptr_t at, size_t size)
{
	size_t page = memory_page_size();
	size_t i = table_search((void *)(at - page));

	return i == state.count ||
	    (uintptr_t)state.table[i]->base >= at + size + page;
}

/* Addresses for a pool of SIZE bytes, at random; NULL with ENOMEM. */
static void *
place(size_t size)
{
	enum { TRIES = 16 };
	size_t step = granule();
	uint32_t n;

	if (size > fixed.size) {
		errno = ENOMEM;
		return NULL;
	}
	n = (uint32_t)((fixed.size - size) / step) + 1;
	/* Where a tool watches, addresses are few, and nobody attacks. */
	for (unsigned i = 0; i < TRIES && !tools_watch(); i++) {
		uintptr_t at = fixed.base + random_below(n) * step;

		if (is_vacant(at, size))
			return (void *)at;
	}
	for (uint32_t i = 0; i < n; i++) {
		uintptr_t at = fixed.base + i * step;

		if (is_vacant(at, size))
			return (void *)at;
	}
	errno = ENOMEM;
	return NULL;
}

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

static uint32_t
index_of(const struct block *block)
{
	return (uint32_t)(block - block->pool->blocks);
}

/* Marks the blocks from FROM to before TO as one free run. */
static void
mark_free(struct pool *pool, uint32_t from, uint32_t to)
{
	struct block *head = &pool->blocks[from];

	PUBLISH(head->nblocks, to - from);
	pool->blocks[to - 1].head = from;
	for (uint32_t i = from; i < to; i++)
		PUBLISH(pool->blocks[i].kind, BLOCK_FREE);
}

/* The same, to be found by who looks for one. */
static void
offer(struct pool *pool, uint32_t from, uint32_t to)
{
	if (from == to)
		return;
	mark_free(pool, from, to);
	runs_insert(&pool->blocks[from]);
}

static void
mark_inner(struct pool *pool, uint32_t head, uint32_t from, uint32_t to)
{
	for (uint32_t i = from; i < to; i++) {
		pool->blocks[i].head = head;
		pool->blocks[i].kind = BLOCK_INNER;
	}
}

static void
mark_absent(struct pool *pool, uint32_t from, uint32_t to)
{
	if (from == to)
		return;
	mark_inner(pool, from, from + 1, to);
	PUBLISH(pool->blocks[from].nblocks, to - from);
	PUBLISH(pool->blocks[from].kind, BLOCK_ABSENT);
	pool->absent_blocks += to - from;
}

/* The first of NBLOCKS within the free run at HEAD, or the end of it. */
static uint32_t
fit(const struct block *head, uint32_t nblocks, size_t align)
{
	uint32_t at = index_of(head);
	uintptr_t first = (uintptr_t)block_address(head) >> BLOCK_SHIFT;
	uintptr_t gap = -first & (align - 1);

	if (gap > head->nblocks || head->nblocks - gap < nblocks)
		return at + head->nblocks;
	return at + (uint32_t)gap;
}

static void
not_spare(struct pool *pool)
{
	if (pool->spare)
		state.spare -= pool->size;
	pool->spare = false;
}

static struct block *
carve(struct block *head, uint32_t at, uint32_t nblocks)
{
	struct pool *pool = head->pool;
	uint32_t from = index_of(head), end = from + head->nblocks;
	struct block *block = &pool->blocks[at];

	runs_remove(head);
	/* From the far end on, so that heads lead from one to the next. */
	offer(pool, at + nblocks, end);
	mark_inner(pool, at, at + 1, at + nblocks);
	PUBLISH(block->nblocks, nblocks);
	PUBLISH(block->kind, BLOCK_TAKEN);
	offer(pool, from, at);
	pool->free_blocks -= nblocks;
	not_spare(pool);
	return block;
}

/* Best fit.  What has to be aligned may have to look at longer ones, too. */
static struct block *
take_fitting(uint32_t nblocks, size_t align)
{
	struct block *head;

	for (head = runs_fit(nblocks); head != NULL; head = runs_after(head)) {
		uint32_t at = fit(head, nblocks, align);

		if (at != index_of(head) + head->nblocks)
			return carve(head, at, nblocks);
	}
	return NULL;
}

/* Takes the free runs of a pool out of the order of all. */
static void
withdraw_runs(struct pool *pool)
{
	for (uint32_t i = 0; i < pool->nblocks; i += pool->blocks[i].nblocks)
		if (pool->blocks[i].kind == BLOCK_FREE)
			runs_remove(&pool->blocks[i]);
}

/*
 * Holes.  A child gets pages for what is in use, and for small gaps between.
 */

struct hole {
	uint32_t from, to; /* whole pages */
	uint32_t end;      /* the head after it */
};

static uint32_t
page_blocks(void)
{
	return (uint32_t)(memory_page_size() >> BLOCK_SHIFT);
}

/* The head after the last of those that are vacant, from the one at AT on. */
static uint32_t
vacancy_end(const struct pool *pool, uint32_t at, bool also_free)
{
	const struct block *blocks = pool->blocks;

	while (at < pool->nblocks && (blocks[at].kind == BLOCK_ABSENT ||
	    (also_free && blocks[at].kind == BLOCK_FREE)))
		at += blocks[at].nblocks;
	return at;
}

/* What is vacant from AT to END, if it is GAP or more; or else of no blocks. */
static struct hole
hole_in(uint32_t at, uint32_t end, uint32_t gap)
{
	uint32_t page = page_blocks();
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
static struct hole
next_hole(const struct pool *pool, uint32_t at, uint32_t gap)
{
	while (at < pool->nblocks) {
		uint32_t end = vacancy_end(pool, at, gap != 0);
		struct hole hole = hole_in(at, end, gap);

		if (hole.from != hole.to)
			return hole;
		at = end == pool->nblocks ? end :
		    end + pool->blocks[end].nblocks;
	}
	return (struct hole){ at, at, at };
}

static struct source_range ranges[RANGES_MAX];

/*
 * Writes to ranges[], from N on, what of POOL is in none of its holes, as if it
 * were at BASE.  Returns how many there are then.
 */
static size_t
add_ranges(size_t n, const struct pool *pool, unsigned char *base,
    uint32_t gap)
{
	struct hole hole = { 0, 0, 0 };

	do {
		uint32_t from = hole.to;

		hole = next_hole(pool, hole.end, gap);
		if (hole.from > from)
			ranges[n++] = (struct source_range){
				base + ((size_t)from << BLOCK_SHIFT),
				(size_t)(hole.from - from) << BLOCK_SHIFT
			};
	} while (hole.from != hole.to);
	return n;
}

/* The same for one that is as it is. */
static size_t
ranges_of(const struct pool *pool)
{
	return add_ranges(0, pool, pool->base, 0);
}

/*
 * Guards.
 */

static void *
guard_page(const struct block *head)
{
	return (unsigned char *)block_address(head) +
	    ((size_t)head->nblocks << BLOCK_SHIFT) - memory_page_size();
}

/* Whether there are mappings for so many MORE guards. */
static bool
has_mappings(size_t more)
{
	size_t mappings = (state.guards + state.fences + more) *
	    MAPPINGS_OF_GUARD + state.count * MAPPINGS_OF_POOL;

	return mappings < state.map_limit / 2;
}

void
pool_guard(struct block *head)
{
	if (!has_mappings(1) || memory_make_inaccessible(guard_page(head),
	    memory_page_size()) == -1)
		return;
	head->guarded = true;
	state.guards++;
}

/* A run of its own; in a pool that is never empty from here on. */
static void
lose_last_page(struct block *head)
{
	uint32_t page = page_blocks(), end = index_of(head) + head->nblocks;
	struct block *lost = &head->pool->blocks[end - page];

	mark_inner(head->pool, end - page, end - page + 1, end);
	PUBLISH(lost->nblocks, page);
	PUBLISH(lost->kind, BLOCK_LOST);
	PUBLISH(head->nblocks, head->nblocks - page);
}

/* Of a TAKEN run; what is left of it. */
static struct block *
lose_first_page(struct block *head)
{
	uint32_t page = page_blocks(), at = index_of(head);
	struct block *rest = head + page;

	/* Another head speaks for the rest before this one stops to. */
	mark_inner(head->pool, at + page, at + page + 1, at + head->nblocks);
	PUBLISH(rest->nblocks, head->nblocks - page);
	PUBLISH(rest->kind, BLOCK_TAKEN);
	PUBLISH(head->nblocks, page);
	PUBLISH(head->kind, BLOCK_LOST);
	return rest;
}

void
pool_unguard(struct block *head)
{
	if (!head->guarded)
		return;
	head->guarded = false;
	state.guards--;
	if (memory_make_writable(guard_page(head), memory_page_size()) == -1)
		lose_last_page(head);
}

/*
 * All that can take a mapping comes first, and can be undone.  From then on
 * front, inside and rear are mappings of their own, whatever is beside them: to
 * change what they allow takes none.
 */
static int
close_ends(const struct block *head)
{
	void *front = block_address(head), *rear = guard_page(head);
	size_t page = memory_page_size();

	if (memory_mark(front, page, MEMORY_FRONT) == -1)
		return -1;
	if (memory_mark(rear, page, MEMORY_REAR) == -1) {
		(void)memory_mark(front, page, MEMORY_PLAIN);
		errno = ENOMEM;
		return -1;
	}
	return memory_make_inaccessible(front, page) == -1 ||
	    memory_make_inaccessible(rear, page) == -1 ? -1 : 0;
}

static bool
open_end(void *at)
{
	if (memory_make_writable(at, memory_page_size()) == -1)
		return false;
	(void)memory_mark(at, memory_page_size(), MEMORY_PLAIN);
	return true;
}

static struct block *
open_ends(struct block *head)
{
	bool front = open_end(block_address(head));
	bool rear = open_end(guard_page(head));

	if (!rear)
		lose_last_page(head);
	return front ? head : lose_first_page(head);
}

int
pool_fence(struct block *head)
{
	if (has_mappings(2) && close_ends(head) == 0) {
		head->guarded = head->fenced = true;
		head->access = SECMALLOC_READWRITE;
		state.guards++;
		state.fences++;
		return 0;
	}
	pool_give(open_ends(head));
	errno = ENOMEM;
	return -1;
}

struct block *
pool_unfence(struct block *head)
{
	/* First: without its fence the object would be in another place. */
	PUBLISH(head->kind, BLOCK_TAKEN);
	head->guarded = head->fenced = false;
	state.guards--;
	state.fences--;
	return open_ends(head);
}

unsigned char *
pool_inside(const struct block *head, size_t *size)
{
	size_t page = memory_page_size();

	*size = ((size_t)head->nblocks << BLOCK_SHIFT) - 2 * page;
	return (unsigned char *)block_address(head) + page;
}

static int
limit(const struct block *head, int access)
{
	size_t size;
	void *at = pool_inside(head, &size);

	if (access == SECMALLOC_READWRITE)
		return memory_make_writable(at, size);
	if (access == SECMALLOC_READONLY)
		return memory_make_readable(at, size);
	return memory_make_inaccessible(at, size);
}

/* What the books say can be read, can be, in whichever picture. */
int
pool_access(struct block *head, int access)
{
	uint8_t was = head->access;

	if (access < was)
		PUBLISH(head->access, (uint8_t)access);
	if (limit(head, access) == -1) {
		PUBLISH(head->access, was);
		return -1;
	}
	PUBLISH(head->access, (uint8_t)access);
	return 0;
}

/* Where in the file of POOL its pages at AT are. */
static size_t
offset_in_file(const struct pool *pool, const unsigned char *at)
{
	size_t n = ranges_of(pool), i = 0;

	while (i + 1 < n && (uintptr_t)ranges[i + 1].at <= (uintptr_t)at)
		i++;
	return source_bytes(ranges, i) +
	    (size_t)(at - (unsigned char *)ranges[i].at);
}

const void *
pool_view(const struct block *head)
{
	const struct pool *pool = head->pool;
	const struct descriptor *file = &pool->grant.memory;
	size_t size;
	unsigned char *at = pool_inside(head, &size);

	/* The other way counts as locked where we lock, and valgrind has none. */
	if (descriptor_is_ours(file))
		return memory_view_file(file->fd, offset_in_file(pool, at),
		    size);
	return memory_view(at, size);
}

void
pool_abandon(struct block *head)
{
	size_t size;
	void *at = pool_inside(head, &size);

	/* RLIMIT_DATA, of which only private pages are, or no memory at all. */
	if (!head->pool->source->ops->shared)
		memory_discard_locked(at, size);
	PUBLISH(head->kind, BLOCK_LOST);
	head->guarded = head->fenced = false;
	state.guards--;
	state.fences--;
}

static void
count_guards(const struct pool *pool)
{
	for (uint32_t i = 0; i < pool->nblocks; i += pool->blocks[i].nblocks) {
		const struct block *head = &pool->blocks[i];

		if (head->kind != BLOCK_OBJECT)
			continue;
		state.guards += head->guarded;
		state.fences += head->fenced;
	}
}

/*
 * Guards are of the address space, and a new mapping has none.  False if a fence
 * cannot be made.
 */
static bool
guard_again(struct pool *pool)
{
	for (uint32_t i = 0; i < pool->nblocks; i += pool->blocks[i].nblocks) {
		struct block *head = &pool->blocks[i];

		if (head->kind == BLOCK_LOST)
			(void)memory_make_inaccessible(block_address(head),
			    (size_t)head->nblocks << BLOCK_SHIFT);
		if (head->kind != BLOCK_OBJECT || !head->guarded)
			continue;
		if (head->fenced) {
			if (close_ends(head) == -1 ||
			    limit(head, head->access) == -1)
				return false;
			continue;
		}
		head->guarded = memory_make_inaccessible(guard_page(head),
		    memory_page_size()) == 0;
		state.guards -= !head->guarded;
	}
	return true;
}

/* Adjoining pages that cannot be touched, whatever they are of. */
struct closed {
	unsigned char *at;
	size_t size;
};

static int
open_closed(struct closed *closed)
{
	return closed->size == 0 ? 0 :
	    memory_make_readable(closed->at, closed->size);
}

/* Before a part comes another one, or nothing of it. */
static int
add_closed(struct closed *closed, void *at, size_t size)
{
	if (closed->at + closed->size == at) {
		closed->size += size;
		return 0;
	}
	if (open_closed(closed) == -1)
		return -1;
	*closed = (struct closed){ at, size };
	return 0;
}

/*
 * What is inaccessible cannot be locked (mm/gup.c): it can be read, for the
 * moment, but not written.
 */
static int
open_guards(struct pool *pool)
{
	size_t page = memory_page_size();
	struct closed closed = { pool->base, 0 };

	for (uint32_t i = 0; i < pool->nblocks; i += pool->blocks[i].nblocks) {
		struct block *head = &pool->blocks[i];
		size_t size = (size_t)head->nblocks << BLOCK_SHIFT;
		unsigned char *at = block_address(head);

		if (head->kind == BLOCK_LOST) {
			if (add_closed(&closed, at, size) == -1)
				return -1;
			continue;
		}
		if (head->kind != BLOCK_OBJECT || !head->guarded)
			continue;
		if (head->fenced && (add_closed(&closed, at, page) == -1 ||
		    (head->access == SECMALLOC_NOACCESS &&
		    add_closed(&closed, at + page, size - 2 * page) == -1)))
			return -1;
		if (add_closed(&closed, guard_page(head), page) == -1)
			return -1;
	}
	return open_closed(&closed);
}

/*
 * Locks.
 */

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
	for (size_t i = 0; i < state.sources_used; i++)
		if (state.sources[i].ops != NULL && state.sources[i].pools != 0 &&
		    !keeps(&state.sources[i]))
			return false;
	return true;
}

/* Best effort, by design: the helper's lock is what was promised. */
static void
put_belt_on(const struct pool *pool)
{
	size_t n = state.config.belt && state.ops == &source_helper ?
	    ranges_of(pool) : 0;
	bool entered = window_enter();

	for (size_t i = 0; i < n; i++)
		(void)memory_lock(ranges[i].at, ranges[i].size);
	window_leave(entered);
}

/* This process, where it is not what provides pools. */
static struct source *
ourselves(void)
{
	for (size_t i = 0; i < state.sources_used; i++)
		if (state.sources[i].ops == &source_inprocess &&
		    !state.sources[i].failed)
			return &state.sources[i];
	return open_with(&source_inprocess);
}

static int
adopt(struct source *source, struct pool *pool)
{
	struct source *was = pool->source;
	bool mapped_here = source->ops == &source_inprocess;
	size_t n = ranges_of(pool);
	bool entered = window_enter();
	int result = mapped_here ? open_guards(pool) : 0;

	if (result == 0)
		result = source->ops->adopt(source, ranges, n, &pool->grant);
	if (mapped_here && !guard_again(pool))
		fatal_bug("mprotect");
	window_leave(entered);
	if (result == -1)
		return -1;
	pool->source = source;
	source->pools++;
	was->pools--;
	forsake(was);
	return 0;
}

/* By whom we ask for more: a helper, where it was one.  Errno is of the last. */
static bool
relock_by_source(void)
{
	bool able = require_source() == 0, all = able;

	for (struct pool *pool = state.chain; pool != NULL && able;
	    pool = pool->chain)
		if (!is_kept(pool) && adopt(state.source, pool) == -1)
			all = false;
	return all;
}

/* As far as we may. */
static bool
relock_ourselves(void)
{
	struct source *source = NULL;
	bool all = true;

	for (struct pool *pool = state.chain; pool != NULL; pool = pool->chain) {
		if (is_kept(pool))
			continue;
		if (source == NULL && state.ops == &source_helper)
			source = ourselves();
		if (source == NULL || adopt(source, pool) == -1)
			all = false;
	}
	if (source != NULL)
		forsake(source);
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

static bool
keep(bool now)
{
	int error = errno;

	if (all_kept())
		state.lost = false;
	else if (!state.lost) {
		if (!relock_soon())
			note_lost();
	} else if (now || now_ms() >= state.retry)
		state.lost = !relock_by_source() && !relock_ourselves();
	else
		return false;
	if (state.lost)
		state.retry = now_ms() + RETRY_MS;
	errno = error;
	return !state.lost;
}

bool
pool_keep(void)
{
	return keep(false);
}

static int
verify_source(struct source *source)
{
	size_t n = 0;

	for (size_t i = 0; i < state.count; i++) {
		const struct pool *pool = state.table[i];

		if (!pool->dead && pool->source == source)
			n = add_ranges(n, pool, pool->base, 0);
	}
	return n == 0 ? 0 : source->ops->verify(source, ranges, n);
}

/* Only if one source keeps all, and answers. */
int
pool_lock_fd(void)
{
	size_t pools = 0;
	int fd = -1;

	if (!keep(true)) {
		errno = ENOLCK;
		return -1;
	}
	for (const struct pool *pool = state.chain; pool != NULL;
	    pool = pool->chain)
		pools += !pool->dead;
	if (state.source != NULL && state.source->pools == pools &&
	    state.source->ops->answers(state.source))
		fd = state.source->ops->descriptor(state.source);
	if (fd == -1)
		errno = ENOTSUP;
	return fd;
}

/* What is found out not to be locked is locked, if it can be. */
int
pool_verify(void)
{
	bool found = false;

	if (!keep(true)) {
		errno = ENOLCK;
		return -1;
	}
	for (size_t i = 0; i < state.sources_used; i++) {
		struct source *source = &state.sources[i];

		if (source->ops == NULL || verify_source(source) == 0)
			continue;
		if (errno != ENOLCK)
			return -1;
		found = source->failed = true;
	}
	if (!found || keep(true))
		return 0;
	errno = ENOLCK;
	return -1;
}

/*
 * Pools.
 */

static size_t
books_size(size_t nblocks)
{
	return memory_round_up(sizeof(struct pool) +
	    nblocks * sizeof(struct block));
}

static size_t
records_size(size_t size)
{
	return memory_round_up(size / RECORD_UNIT);
}

static size_t
bookkeeping_size(const struct pool *pool)
{
	return books_size(pool->nblocks) + records_size(pool->size);
}

uint8_t *
pool_records(const void *at)
{
	return fixed.records + ((uintptr_t)at - fixed.base) / RECORD_UNIT;
}

static size_t
locked_size(const struct pool *pool)
{
	return (size_t)(pool->nblocks - pool->absent_blocks) << BLOCK_SHIFT;
}

static void
link_pool(struct pool *pool)
{
	pool->chain = state.chain;
	PUBLISH(state.chain, pool);
	table_insert(pool);
	state.locked += locked_size(pool);
	state.books += bookkeeping_size(pool);
}

static void
unlink_pool(struct pool *pool)
{
	struct pool **link = &state.chain;

	while (*link != pool)
		link = &(*link)->chain;
	PUBLISH(*link, pool->chain);
	table_remove(pool);
	if (!pool->dead) {
		state.locked -= locked_size(pool);
		state.books -= bookkeeping_size(pool);
	}
	not_spare(pool);
}

/* Writable records for SIZE bytes at AT. */
static int
open_records(const void *at, size_t size)
{
	return memory_make_writable(pool_records(at), records_size(size));
}

/* What they said is forgotten, whether or not the rest can be done. */
static void
close_records(const void *at, size_t size)
{
	memory_discard(pool_records(at), records_size(size));
	(void)memory_make_readable(pool_records(at), records_size(size));
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
		if (require_source() == -1)
			return -1;
		if (state.source->ops->provide(state.source, &all, 1,
		    grant) == 0)
			return 0;
		if (errno != ENOLCK || !keep(true))
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
	void *at = place(size);
	int error;

	if (at == NULL || open_records(at, size) == -1)
		return NULL;
	if (provide(at, size, grant) == 0)
		return at;
	error = errno;
	close_records(at, size);
	errno = error;
	return NULL;
}

/*
 * Makes the addresses of POOL inaccessible.  Where the kernel has no memory
 * even for that, they are lost: their pool stays, as a dead one.
 */
static bool
close_off(struct pool *pool)
{
	if (memory_close_off(pool->base, pool->size) == 0)
		return true;
	memory_vacate(pool->base, pool->size);
	pool->vacated = true;
	return false;
}

static struct pool *
new_pool(size_t size)
{
	struct pool *pool;
	struct grant grant;
	void *base;
	int error;

	if (state.count == POOLS_MAX || (state.config.max_locked != 0 &&
	    size > state.config.max_locked - state.locked)) {
		errno = ENOMEM;
		return NULL;
	}
	if (require_source() == -1)
		return NULL;
	/* Before the books take memory, since a refusal should not. */
	if ((base = new_memory(size, &grant)) == NULL)
		return NULL;
	if ((state.config.copy_on_fork ||
	    memory_keep_from_children(base, size) == 0) &&
	    (pool = new_books(size)) != NULL) {
		pool->base = base;
		pool->grant = grant;
		pool->source = state.source;
		pool->source->pools++;
		offer(pool, 0, pool->nblocks);
		link_pool(pool);
		put_belt_on(pool);
		return pool;
	}
	error = errno;
	close_records(base, size);
	if (memory_close_off(base, size) == -1 &&
	    memory_make_inaccessible(base, size) == -1)
		fatal_bug("mmap");
	state.source->ops->withdraw(state.source, &grant);
	errno = error;
	return NULL;
}

/* POOL holds nothing that is not wiped, and is nobody's to take from. */
static void
discard_pool(struct pool *pool)
{
	withdraw_runs(pool);
	close_records(pool->base, pool->size);
	unlink_pool(pool);
	pool->dead = true;
	if (close_off(pool)) {
		free_books(pool);
		return;
	}
	pool->chain = state.chain;
	PUBLISH(state.chain, pool);
	table_insert(pool);
}

static void
delete_pool(struct pool *pool)
{
	struct source *source = pool->source;
	struct grant grant = pool->grant;

	discard_pool(pool);
	source->ops->withdraw(source, &grant);
	source->pools--;
	forsake(source);
}

static bool
is_empty(const struct pool *pool)
{
	return pool->free_blocks + pool->absent_blocks == pool->nblocks;
}

static struct pool *
largest_spare(void)
{
	struct pool *largest = NULL;

	for (size_t i = 0; i < state.count; i++)
		if (state.table[i]->spare && (largest == NULL ||
		    state.table[i]->size > largest->size))
			largest = state.table[i];
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
	size_t wanted = state.locked;
	struct pool *pool;

	needed = memory_round_up(needed);
	if (wanted < state.config.pool_size)
		wanted = state.config.pool_size;
	if (wanted > POOL_SIZE_MAX)
		wanted = POOL_SIZE_MAX;
	if (wanted < needed)
		wanted = needed;
	/* Who may not lock at all may not lock less either. */
	if (require_source() == -1)
		return NULL;
	while ((pool = new_pool(wanted)) == NULL) {
		if (errno != ENOMEM && errno != EDQUOT && errno != EAGAIN)
			return NULL;
		if (wanted > needed)
			wanted = half(wanted) > needed ? half(wanted) : needed;
		else if (state.spare != 0)
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
	block = take_fitting((uint32_t)nblocks, align);
	if (block != NULL)
		return block;
	errno = ENOMEM;
	if (!grow || grown_pool(needed << BLOCK_SHIFT) == NULL)
		return NULL;
	return take_fitting((uint32_t)nblocks, align);
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
	state.shrunk = true;
	if (pool->absent_blocks != 0) {
		delete_pool(pool);
		return;
	}
	pool->spare = true;
	state.spare += pool->size;
	if (state.spare > RESERVE && (state.spare != pool->size ||
	    pool->size > POOL_SIZE_MAX))
		delete_pool(largest_spare());
}

bool
pool_is_left_over(const struct pool *pool)
{
	return !pool->initial && !pool->dead && !is_empty(pool) &&
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
	offer(pool, from, to);
	if (is_empty(pool))
		trim(pool);
	else
		state.shrunk |= pool_is_left_over(pool);
}

bool
pool_leftovers(void)
{
	for (size_t i = 0; i < state.count; i++)
		if (pool_is_left_over(state.table[i]))
			return true;
	return false;
}

bool
pool_has_shrunk(void)
{
	bool shrunk = state.shrunk;

	state.shrunk = false;
	return shrunk && pool_leftovers();
}

void
pool_give(struct block *head)
{
	uint32_t at = index_of(head);

	release_blocks(head->pool, at, at + head->nblocks);
}

void
pool_shorten(struct block *head, size_t nblocks)
{
	uint32_t at = index_of(head);
	uint32_t end = at + head->nblocks, cut = at + (uint32_t)nblocks;

	if (cut >= end)
		return;
	/* The tail must be a run before the head stops to speak for it. */
	mark_free(head->pool, cut, end);
	PUBLISH(head->nblocks, (uint32_t)nblocks);
	release_blocks(head->pool, cut, end);
}

bool
pool_extend(struct block *head, size_t nblocks)
{
	struct pool *pool = head->pool;
	uint32_t at = index_of(head), end = at + head->nblocks;
	struct block *next = &pool->blocks[end];
	size_t more = nblocks - head->nblocks;

	if (end == pool->nblocks || next->kind != BLOCK_FREE ||
	    next->nblocks < more)
		return false;
	runs_remove(next);
	/* What is left of it, before the head speaks for the rest. */
	offer(pool, end + (uint32_t)more, end + next->nblocks);
	PUBLISH(head->nblocks, (uint32_t)nblocks);
	mark_inner(pool, at, end, end + (uint32_t)more);
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
	if (state.chain != NULL || fixed.base != 0)
		pool_stop();
	state.config = *config;
	state.map_limit = memory_map_limit();
	if (config->pool_size == 0)
		state.config.pool_size = default_size();
	if (take_region() == -1)
		return -1;
	for (size_t i = 0; i < n; i++) {
		struct pool *pool = whatever ? grown_pool(memory_page_size()) :
		    new_pool(state.config.pool_size);

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
	struct pool *chain = state.chain, *next;

	for (struct pool *pool = chain; pool != NULL; pool = pool->chain) {
		if (pool->dead)
			continue;
		wipe_runs(pool);
		pool->source->ops->withdraw(pool->source, &pool->grant);
	}
	PUBLISH(state.chain, NULL);
	give_region();
	for (struct pool *pool = chain; pool != NULL; pool = next) {
		next = pool->chain;
		free_books(pool);
	}
	for (size_t i = 0; i < state.sources_used; i++)
		close_source(&state.sources[i]);
	runs_clear();
	memset(&state, 0, sizeof state);
}

void
pool_totals(struct pool_totals *totals)
{
	totals->pools = 0;
	totals->bytes = state.locked;
	totals->books = state.books;
	totals->guards = state.guards;
	totals->mode = state.ops == NULL ? -1 : state.ops->mode;
	for (size_t i = 0; i < state.count; i++)
		totals->pools += !state.table[i]->dead;
}

/*
 * Fork.
 */

/*
 * What this process has locked itself, and was told to at the start, its child
 * has whole, since it may not be able to lock more.
 */
static bool
is_copied_whole(const struct pool *pool)
{
	return pool->initial && state.config.initial_pools != 0 &&
	    pool->source->ops->mode == SECMALLOC_MODE_INPROCESS;
}

static bool
wants_twin(const struct pool *pool)
{
	return !pool->dead && (is_copied_whole(pool) || !is_empty(pool));
}

static size_t
count_holes(const struct pool *pool, uint32_t gap)
{
	struct hole hole = { 0, 0, 0 };
	size_t n = 0;

	for (;; n++) {
		hole = next_hole(pool, hole.end, gap);
		if (hole.from == hole.to)
			return n;
	}
}

/* As small as it can be with no more than MAX holes. */
static uint32_t
choose_gap(const struct pool *pool, size_t max)
{
	uint32_t gap = GAP_PAGES_MIN * page_blocks();

	if (is_copied_whole(pool))
		return pool->nblocks + 1;
	while (count_holes(pool, gap) > max)
		gap *= 2;
	return gap;
}

static void
choose_gaps(void)
{
	size_t left = state.map_limit / MAPPINGS_OF_HOLE / 4, max;

	if (left > HOLES_MAX)
		left = HOLES_MAX;
	for (struct pool *pool = state.chain; pool != NULL; pool = pool->chain) {
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
		memory_unreserve(picture, records_size(pool->size));
}

static int
take_picture(struct pool *pool)
{
	size_t size = records_size(pool->size);
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
	if (state.twin != NULL)
		close_source(state.twin);
	state.twin = NULL;
}

static void
drop_twins(void)
{
	for (struct pool *pool = state.chain; pool != NULL; pool = pool->chain) {
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
	for (struct pool *pool = state.chain; pool != NULL; pool = pool->chain) {
		size_t n = pool->twin == NULL ? 0 :
		    add_ranges(0, pool, pool->twin, pool->gap);

		for (size_t i = 0; i < n; i++)
			memory_wipe(ranges[i].at, ranges[i].size);
	}
}

static int
make_twin(struct pool *pool,
    bool (*copy)(const struct pool *, unsigned char *), bool moving)
{
	unsigned char *twin = memory_reserve(pool->size);

	if (twin == NULL)
		return -1;
	if (state.twin->ops->provide(state.twin, ranges,
	    add_ranges(0, pool, twin, pool->gap), &pool->twin_grant) == -1) {
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
	if ((state.twin = open_with(state.ops)) == NULL)
		return false;
	for (struct pool *pool = state.chain; pool != NULL; pool = pool->chain)
		if (wants_twin(pool) && make_twin(pool, copy, moving) == -1) {
			wipe_twins();
			drop_twins();
			return false;
		}
	return true;
}

void
pool_fork_prepare(bool (*copy)(const struct pool *, unsigned char *),
    bool moving)
{
	state.relock[0] = state.relock[1] = -1;
	state.prepared = false;
	if (!state.config.copy_on_fork || state.ops == NULL)
		return;
	choose_gaps();
	state.prepared = state.ops->shared ? make_twins(copy, moving) :
	    pipe2(state.relock, O_CLOEXEC) == 0;
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
	struct pollfd end = { .fd = state.relock[0] };

	(void)close(state.relock[1]);
	(void)poll(&end, 1, PATIENCE_MS); /* POLLHUP: the child has closed */
	(void)close(state.relock[0]);
}

void
pool_fork_parent(void)
{
	drop_twins();
	if (state.relock[0] != -1)
		await_relock();
}

/* In a child: what is in a hole is ABSENT, what else was not in use is FREE. */
static void
settle_runs(struct pool *pool)
{
	struct block *blocks = pool->blocks;
	uint32_t i = 0, end;

	state.locked -= locked_size(pool);
	withdraw_runs(pool);
	pool->free_blocks = pool->absent_blocks = 0;
	while (i < pool->nblocks) {
		struct hole hole;

		end = vacancy_end(pool, i, true);
		if (end == i) {
			i += blocks[i].nblocks;
			continue;
		}
		hole = hole_in(i, end, pool->gap);
		/* From the far end on, as in carve(). */
		offer(pool, hole.to, end);
		mark_absent(pool, hole.from, hole.to);
		offer(pool, i, hole.from);
		pool->free_blocks += end - i - (hole.to - hole.from);
		i = end;
	}
	state.locked += locked_size(pool);
}

/* In a child, whose holes keep nothing of its parent's. */
static int
close_holes(const struct pool *pool)
{
	struct hole hole = next_hole(pool, 0, pool->gap);

	for (; hole.from != hole.to;
	    hole = next_hole(pool, hole.end, pool->gap))
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

	if (!state.prepared || close_holes(pool) == -1)
		return -1;
	n = add_ranges(0, pool, pool->base, pool->gap);
	for (size_t i = 0; i < n && !state.ops->shared; i++)
		if (memory_make_writable(ranges[i].at, ranges[i].size) == -1 ||
		    window_cover(ranges[i].at, ranges[i].size) == -1)
			return -1;
	if (!state.ops->shared)
		return state.ops->relock(ranges, n);
	for (size_t i = 0; i < n; i++)
		if (memory_move(ranges[i].at, pool->twin +
		    ((unsigned char *)ranges[i].at - pool->base),
		    ranges[i].size) == -1)
			return -1;
	/* What is left of the reservation: guard pages and holes. */
	memory_unreserve(pool->twin, pool->size);
	pool->twin = NULL;
	descriptor_close(&pool->grant.memory);
	pool->grant = pool->twin_grant;
	pool->source = state.twin;
	return 0;
}

static bool
settle_guards(struct pool *pool)
{
	size_t guards = state.guards, fences = state.fences;

	count_guards(pool);
	if (guard_again(pool))
		return true;
	state.guards = guards;
	state.fences = fences;
	return false;
}

static bool
settle_in_child(struct pool *pool)
{
	if (settle_memory(pool) == -1)
		return false;
	settle_runs(pool);
	put_belt_on(pool);
	return settle_guards(pool);
}

/*
 * Nothing else may come to lie where old pointers point; unless, where the
 * kernel kept the pool from us, something does already.
 */
static void
bury(struct pool *pool)
{
	withdraw_runs(pool);
	close_records(pool->base, pool->size);
	if (state.config.copy_on_fork)
		(void)close_off(pool);
	else
		pool->vacated = memory_claim(pool->base, pool->size) == -1;
	if (pool->twin != NULL) {
		memory_unreserve(pool->twin, pool->size);
		descriptor_close(&pool->twin_grant.memory);
	}
	pool->twin = NULL;
	descriptor_close(&pool->grant.memory);
	pool->dead = true;
	state.locked -= locked_size(pool);
	state.books -= bookkeeping_size(pool);
	not_spare(pool);
}

/* Of the parent's sources the child has none but what was made for it. */
static void
settle_sources(void)
{
	bool shares = state.ops != NULL && state.ops->shared;

	for (size_t i = 0; i < state.sources_used; i++) {
		struct source *source = &state.sources[i];

		source->pools = 0;
		if (source != state.twin && (shares || !state.prepared))
			close_source(source);
	}
	if (shares || !state.prepared)
		state.source = state.twin;
	state.twin = NULL;
	/* Where nothing is left, anybody may do. */
	if (state.source == NULL)
		state.ops = NULL;
	for (struct pool *pool = state.chain; pool != NULL; pool = pool->chain)
		if (!pool->dead)
			pool->source->pools++;
}

void
pool_fork_child(void (*mend)(struct pool *))
{
	struct pool *next;
	bool whole = true;

	state.guards = state.fences = 0;
	for (struct pool *pool = state.chain; pool != NULL; pool = next) {
		next = pool->chain;
		if (pool->dead)
			continue;
		if (state.config.copy_on_fork && !wants_twin(pool)) {
			descriptor_close(&pool->grant.memory);
			discard_pool(pool);
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
	if (state.relock[0] != -1) {
		(void)close(state.relock[0]);
		(void)close(state.relock[1]);
	}
	/* The parent's loss is not the child's, but a missing copy is news. */
	state.lost = false;
	state.lost_news = !whole && state.config.copy_on_fork;
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
			offer(pool, i, end);
			pool->free_blocks += end - i;
		} else
			mark_inner(pool, i, i + 1, end);
		i = end;
	}
}

void
pool_rebuild(void)
{
	state.count = 0;
	state.locked = state.books = state.spare = 0;
	runs_clear();
	close_twin();
	for (struct pool *pool = state.chain; pool != NULL; pool = pool->chain) {
		/* Of a sibling, whose fork another thread was in. */
		if (pool->twin != NULL) {
			memory_unreserve(pool->twin, pool->size);
			descriptor_close(&pool->twin_grant.memory);
		}
		pool->twin = NULL;
		drop_picture(pool);
		table_insert(pool);
		pool->spare = false;
		if (pool->dead)
			continue;
		rebuild_runs(pool);
		state.locked += locked_size(pool);
		state.books += bookkeeping_size(pool);
	}
}
