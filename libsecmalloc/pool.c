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
#include <unistd.h>

#include "memory.h"
#include "pool.h"
#include "secmalloc.h"
#include "source.h"

static struct {
	struct pool_config config;
	struct source source;
	struct pool *chain;
	struct pool *table[POOLS_MAX]; /* sorted by address */
	size_t count;
	size_t locked; /* bytes in pools that are not dead */
	struct pool *spare; /* the one empty pool that is kept */
	bool lost, lost_news;
	/* While a fork is made: */
	struct source twin;
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
 * The source.
 */

static int
open_with(struct source *source, const struct source_ops *ops)
{
	if (ops->open(source, state.config.helper_path) == -1)
		return -1;
	source->ops = ops;
	return 0;
}

/* Whoever may lock, in the order of secmalloc_config.mode. */
static int
open_source(struct source *source)
{
	int error = EPERM;

	if (state.config.mode != SECMALLOC_MODE_INPROCESS) {
		if (open_with(source, &source_helper) == 0)
			return 0;
		error = errno;
	}
	if (state.config.mode != SECMALLOC_MODE_HELPER) {
		if (open_with(source, &source_inprocess) == 0)
			return 0;
		error = source_refusal(error, errno);
	}
	errno = error;
	return -1;
}

static int
require_source(void)
{
	return state.source.ops != NULL ? 0 : open_source(&state.source);
}

static void
close_source(struct source *source)
{
	if (source->ops != NULL)
		source->ops->close(source);
	source->ops = NULL;
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

static void
link_pool(struct pool *pool)
{
	pool->chain = state.chain;
	PUBLISH(state.chain, pool);
	table_insert(pool);
	state.locked += pool->size;
}

static void
unlink_pool(struct pool *pool)
{
	struct pool **link = &state.chain;

	while (*link != pool)
		link = &(*link)->chain;
	PUBLISH(*link, pool->chain);
	table_remove(pool);
	if (!pool->dead)
		state.locked -= pool->size;
	if (state.spare == pool)
		state.spare = NULL;
}

/*
 * Runs.
 */

void *
page_address(const struct page *page)
{
	const struct pool *pool = page->pool;

	return pool->base +
	    (size_t)(page - pool->pages) * memory_page_size();
}

struct page *
page_head(struct pool *pool, const void *at)
{
	size_t index = (size_t)((const unsigned char *)at - pool->base) /
	    memory_page_size();
	struct page *page = &pool->pages[index];

	return page->kind == PAGE_INNER ? &pool->pages[page->head] : page;
}

/* Marks the pages from FROM to before TO as one free run. */
static void
mark_free(struct pool *pool, uint32_t from, uint32_t to)
{
	struct page *head = &pool->pages[from];

	if (from == to)
		return;
	PUBLISH(head->npages, to - from);
	pool->pages[to - 1].head = from;
	for (uint32_t i = from; i < to; i++)
		PUBLISH(pool->pages[i].kind, PAGE_FREE);
}

/* The first of NPAGES within the free run at HEAD, or the end of it. */
static uint32_t
fit(const struct pool *pool, uint32_t head, uint32_t npages, size_t align)
{
	uint32_t end = head + pool->pages[head].npages;
	uintptr_t page_size = memory_page_size();
	uintptr_t first = (uintptr_t)pool->base / page_size + head;
	uintptr_t gap = -first & (align - 1);

	if (gap > end - head || end - head - gap < npages)
		return end;
	return head + (uint32_t)gap;
}

static struct page *
carve(struct pool *pool, uint32_t head, uint32_t at, uint32_t npages)
{
	uint32_t end = head + pool->pages[head].npages;
	struct page *page = &pool->pages[at];

	/* From the far end on, so that heads lead from one to the next. */
	mark_free(pool, at + npages, end);
	for (uint32_t i = at + 1; i < at + npages; i++) {
		pool->pages[i].head = at;
		pool->pages[i].kind = PAGE_INNER;
	}
	PUBLISH(page->npages, npages);
	PUBLISH(page->kind, PAGE_TAKEN);
	mark_free(pool, head, at);
	pool->free_pages -= npages;
	if (state.spare == pool)
		state.spare = NULL;
	return page;
}

/* First fit, in the order of addresses. */
static struct page *
take_from(struct pool *pool, uint32_t npages, size_t align)
{
	uint32_t step;

	if (pool->dead || pool->free_pages < npages)
		return NULL;
	for (uint32_t i = 0; i < pool->npages; i += step) {
		uint32_t at;

		step = pool->pages[i].npages;
		if (pool->pages[i].kind != PAGE_FREE || step < npages)
			continue;
		at = fit(pool, i, npages, align);
		if (at != i + step)
			return carve(pool, i, at, npages);
	}
	return NULL;
}

/*
 * Pools.
 */

static size_t
bookkeeping_size(size_t npages)
{
	size_t slots = npages * (memory_page_size() / SLOT_ALIGN);

	return memory_round_up(sizeof(struct pool) +
	    npages * sizeof(struct page) + slots * sizeof(uint16_t));
}

/* The bookkeeping of a pool of SIZE bytes that has no pages yet. */
static struct pool *
new_bookkeeping(size_t size)
{
	size_t npages = size / memory_page_size();
	size_t length = bookkeeping_size(npages);
	struct pool *pool;
	void *at;

	if (npages > UINT32_MAX / 2) {
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
	pool->npages = pool->free_pages = (uint32_t)npages;
	pool->pages = (struct page *)(pool + 1);
	pool->slots = (uint16_t *)(pool->pages + npages);
	for (size_t i = 0; i < npages; i++)
		pool->pages[i].pool = pool;
	mark_free(pool, 0, pool->npages);
	return pool;
}

static void
free_bookkeeping(struct pool *pool)
{
	memory_unreserve(pool, bookkeeping_size(pool->npages));
}

/* SIZE locked bytes of the source, between guard pages; NULL with errno. */
static void *
new_memory(size_t size, uint32_t *ticket)
{
	void *base = memory_reserve(size);
	int error;

	if (base == NULL)
		return NULL;
	if (state.source.ops->provide(&state.source, base, size, ticket) == 0)
		return base;
	error = errno;
	memory_unreserve(base, size);
	if (error == ENOLCK)
		note_lost();
	errno = error;
	return NULL;
}

static struct pool *
new_pool(size_t size)
{
	struct pool *pool;
	uint32_t ticket;
	void *base;
	int error;

	if (state.count == POOLS_MAX || (state.config.max_locked != 0 &&
	    size > state.config.max_locked - state.locked)) {
		errno = ENOMEM;
		return NULL;
	}
	if (require_source() == -1)
		return NULL;
	/* First, since books take memory too, and a refusal should not. */
	if ((base = new_memory(size, &ticket)) == NULL)
		return NULL;
	if ((state.config.copy_on_fork ||
	    memory_keep_from_children(base, size) == 0) &&
	    (pool = new_bookkeeping(size)) != NULL) {
		pool->base = base;
		pool->ticket = ticket;
		link_pool(pool);
		return pool;
	}
	error = errno;
	memory_unreserve(base, size);
	state.source.ops->withdraw(&state.source, ticket);
	errno = error;
	return NULL;
}

/* POOL holds nothing that is not wiped. */
static void
delete_pool(struct pool *pool)
{
	unlink_pool(pool);
	if (!pool->vacated)
		memory_unreserve(pool->base, pool->size);
	if (!pool->dead && !state.lost)
		state.source.ops->withdraw(&state.source, pool->ticket);
	free_bookkeeping(pool);
}

static bool
is_empty(const struct pool *pool)
{
	return pool->free_pages == pool->npages;
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
		else if (state.spare != NULL)
			delete_pool(state.spare); /* too small, but locked */
		else
			return NULL;
	}
	return pool;
}

struct page *
pool_take(size_t npages, size_t align, bool grow)
{
	size_t page_size = memory_page_size(), needed = npages + align - 1;
	struct pool *pool;
	struct page *page;

	if (npages > UINT32_MAX / 2 || align > UINT32_MAX / 2 ||
	    needed > PTRDIFF_MAX / page_size) {
		errno = ENOMEM;
		return NULL;
	}
	/* Here, and not at every allocation, the price of a call is small. */
	if (!state.lost && state.source.ops != NULL &&
	    !state.source.ops->alive(&state.source))
		note_lost();
	if (state.lost) {
		errno = ENOLCK;
		return NULL;
	}
	for (size_t i = 0; i < state.count; i++) {
		page = take_from(state.table[i], (uint32_t)npages, align);
		if (page != NULL)
			return page;
	}
	errno = ENOMEM;
	if (!grow || (pool = grown_pool(needed * page_size)) == NULL)
		return NULL;
	return take_from(pool, (uint32_t)npages, align);
}

/* POOL has become empty: keeps one of those, the smaller, if it is not large. */
static void
trim(struct pool *pool)
{
	struct pool *other = state.spare;

	if (pool->initial)
		return;
	if (pool->size > POOL_SIZE_MAX) {
		delete_pool(pool);
		return;
	}
	state.spare = pool;
	if (other == NULL)
		return;
	if (other->size < pool->size) {
		state.spare = other;
		other = pool;
	}
	delete_pool(other);
}

/* Makes the pages from FROM to before TO free, with the free ones beside. */
static void
release_pages(struct pool *pool, uint32_t from, uint32_t to)
{
	struct page *pages = pool->pages;

	pool->free_pages += to - from;
	if (to < pool->npages && pages[to].kind == PAGE_FREE)
		to += pages[to].npages;
	if (from > 0 && pages[from - 1].kind == PAGE_FREE)
		from = pages[from - 1].head;
	mark_free(pool, from, to);
	if (is_empty(pool))
		trim(pool);
}

void
pool_give(struct page *head)
{
	uint32_t at = (uint32_t)(head - head->pool->pages);

	release_pages(head->pool, at, at + head->npages);
}

void
pool_shorten(struct page *head, size_t npages)
{
	uint32_t at = (uint32_t)(head - head->pool->pages);
	uint32_t end = at + head->npages, cut = at + (uint32_t)npages;

	if (cut == end)
		return;
	/* The tail must be a run before the head stops to speak for it. */
	mark_free(head->pool, cut, end);
	PUBLISH(head->npages, (uint32_t)npages);
	release_pages(head->pool, cut, end);
}

static size_t
default_size(void)
{
	size_t least = POOL_PAGES_DEFAULT * memory_page_size();

	return least > POOL_SIZE_DEFAULT ? least : POOL_SIZE_DEFAULT;
}

int
pool_start(const struct pool_config *config)
{
	size_t n = config->initial_pools == 0 ? 1 : config->initial_pools;
	bool whatever = config->pool_size == 0 && config->initial_pools == 0;

	state.config = *config;
	if (config->pool_size == 0)
		state.config.pool_size = default_size();
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

void
pool_stop(void)
{
	while (state.chain != NULL) {
		struct pool *pool = state.chain;

		if (!pool->dead)
			for (uint32_t i = 0; i < pool->npages;
			    i += pool->pages[i].npages)
				if (pool->pages[i].kind != PAGE_FREE)
					memory_wipe(
					    page_address(&pool->pages[i]),
					    pool->pages[i].npages *
					    memory_page_size());
		delete_pool(pool);
	}
	close_source(&state.source);
	state.lost = state.lost_news = false;
}

void
pool_totals(struct pool_totals *totals)
{
	totals->pools = 0;
	totals->bytes = state.locked;
	totals->mode = state.source.ops == NULL ? -1 : state.source.ops->mode;
	for (size_t i = 0; i < state.count; i++)
		totals->pools += !state.table[i]->dead;
}

int
pool_verify(void)
{
	static struct source_range ranges[POOLS_MAX];
	size_t n = 0;

	for (size_t i = 0; i < state.count; i++)
		if (!state.table[i]->dead)
			ranges[n++] = (struct source_range){
				state.table[i]->base, state.table[i]->size
			};
	if (!state.lost && n != 0 &&
	    state.source.ops->verify(&state.source, ranges, n) == -1) {
		if (errno != ENOLCK)
			return -1;
		note_lost();
	}
	if (!state.lost)
		return 0;
	errno = ENOLCK;
	return -1;
}

/*
 * Fork.
 */

/* An empty pool that nobody asked for is not worth a copy. */
static bool
wants_twin(const struct pool *pool)
{
	return !pool->dead && (pool->initial || !is_empty(pool));
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
	}
	close_source(&state.twin);
}

/* For those that no child shares. */
static void
wipe_twins(void)
{
	for (struct pool *pool = state.chain; pool != NULL; pool = pool->chain)
		if (pool->twin != NULL)
			memory_wipe(pool->twin, pool->size);
}

static int
make_twin(struct pool *pool,
    void (*copy)(const struct pool *, unsigned char *))
{
	unsigned char *twin = memory_reserve(pool->size);

	if (twin == NULL)
		return -1;
	if (state.twin.ops->provide(&state.twin, twin, pool->size,
	    &pool->twin_ticket) == -1) {
		memory_unreserve(twin, pool->size);
		return -1;
	}
	copy(pool, twin);
	pool->twin = twin;
	return 0;
}

static bool
make_twins(void (*copy)(const struct pool *, unsigned char *))
{
	if (open_with(&state.twin, state.source.ops) == -1)
		return false;
	for (struct pool *pool = state.chain; pool != NULL; pool = pool->chain)
		if (wants_twin(pool) && make_twin(pool, copy) == -1) {
			wipe_twins();
			drop_twins();
			return false;
		}
	return true;
}

void
pool_fork_prepare(void (*copy)(const struct pool *, unsigned char *))
{
	state.relock[0] = state.relock[1] = -1;
	state.prepared = false;
	if (!state.config.copy_on_fork || state.lost ||
	    state.source.ops == NULL)
		return;
	state.prepared = state.source.ops->shared ? make_twins(copy) :
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

static int
settle_in_child(struct pool *pool)
{
	if (!state.prepared)
		return -1;
	if (!state.source.ops->shared)
		return state.source.ops->relock(pool->base, pool->size);
	if (memory_move(pool->base, pool->twin, pool->size) == -1)
		return -1;
	/* What is left of the reservation: its two guard pages. */
	memory_unreserve(pool->twin, pool->size);
	pool->twin = NULL;
	pool->ticket = pool->twin_ticket;
	return 0;
}

/*
 * Nothing else may come to lie where old pointers point; unless, where the
 * kernel kept the pool from us, something does already.
 */
static void
bury(struct pool *pool)
{
	if (!state.config.copy_on_fork)
		pool->vacated = memory_claim(pool->base, pool->size) == -1;
	else if (memory_close_off(pool->base, pool->size) == -1) {
		/* At the limit of mappings; to have one less is possible. */
		memory_vacate(pool->base, pool->size);
		pool->vacated = true;
	}
	if (pool->twin != NULL)
		memory_unreserve(pool->twin, pool->size);
	pool->twin = NULL;
	pool->dead = true;
	state.locked -= pool->size;
	if (state.spare == pool)
		state.spare = NULL;
}

void
pool_fork_child(void)
{
	struct pool *next;
	bool whole = true;

	for (struct pool *pool = state.chain; pool != NULL; pool = next) {
		next = pool->chain;
		if (pool->dead)
			continue;
		if (state.config.copy_on_fork && !wants_twin(pool)) {
			state.locked -= pool->size;
			pool->dead = true;
			delete_pool(pool);
		} else if (settle_in_child(pool) == -1) {
			bury(pool);
			whole = false;
		}
	}
	close_source(&state.source);
	if (state.prepared)
		state.source = state.twin.ops != NULL ? state.twin :
		    (struct source){ .ops = &source_inprocess };
	state.twin.ops = NULL;
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

	pool->free_pages = 0;
	while (i < pool->npages) {
		struct page *head = &pool->pages[i];
		uint32_t end = i + head->npages;

		if (head->kind == PAGE_TAKEN)
			head->kind = PAGE_FREE;
		if (head->kind == PAGE_FREE) {
			while (end < pool->npages && pool->pages[end].kind ==
			    PAGE_FREE)
				end += pool->pages[end].npages;
			mark_free(pool, i, end);
			pool->free_pages += end - i;
		} else
			for (uint32_t inner = i + 1; inner < end; inner++) {
				pool->pages[inner].kind = PAGE_INNER;
				pool->pages[inner].head = i;
			}
		i = end;
	}
}

void
pool_rebuild(void)
{
	state.count = 0;
	state.locked = 0;
	state.spare = NULL;
	close_source(&state.twin);
	for (struct pool *pool = state.chain; pool != NULL; pool = pool->chain) {
		/* Of a sibling, whose fork another thread was in. */
		if (pool->twin != NULL)
			memory_unreserve(pool->twin, pool->size);
		pool->twin = NULL;
		table_insert(pool);
		rebuild_runs(pool);
		if (!pool->dead)
			state.locked += pool->size;
	}
}
