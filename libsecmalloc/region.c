/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * region.c: the addresses of all pools, and the table of which pool is where;
 * must not know what a pool holds, nor who locks it.
 */
#include "config.h"

#include <errno.h>
#include <string.h>

#include "fixed.h"
#include "memory.h"
#include "pools.h"
#include "random.h"
#include "tools.h"

/* The least that is reserved of addresses for pools. */
enum { REGION_GRANULES_MIN = 8 };

#if SIZE_MAX > UINT32_MAX
# define REGION_SIZE ((size_t)16 << 30)
#else
# define REGION_SIZE ((size_t)256 << 20)
#endif
/* Valgrind remarks upon 256 MiB and more. */
#define REGION_WATCHED ((size_t)192 << 20)

/*
 * The table.
 */

/* The index of the first pool that ends above AT. */
static size_t
table_search(const void *at)
{
	size_t low = 0, high = pools.count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct pool *pool = pools.table[middle];

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

	if (i == pools.count || (uintptr_t)at < (uintptr_t)pools.table[i]->base)
		return NULL;
	return pools.table[i];
}

void
region_insert(struct pool *pool)
{
	size_t i = table_search(pool->base);

	memmove(pools.table + i + 1, pools.table + i,
	    (pools.count - i) * sizeof *pools.table);
	pools.table[i] = pool;
	pools.count++;
}

void
region_remove(const struct pool *pool)
{
	size_t i = table_search(pool->base);

	pools.count--;
	memmove(pools.table + i, pools.table + i + 1,
	    (pools.count - i) * sizeof *pools.table);
}

struct pool *
pool_first(void)
{
	return pools.chain;
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

	for (size_t i = 0; i < pools.count; i++) {
		const struct pool *pool = pools.table[i];

		if (!pool->vacated)
			continue;
		memory_vacate((void *)from, (uintptr_t)pool->base - from);
		from = (uintptr_t)pool->base + pool->size;
	}
	memory_vacate((void *)from, end - from);
}

/* Forgotten first: see pool_stop(). */
void
region_give(void)
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
	region_give();
	errno = error == EAGAIN ? EAGAIN : ENOMEM;
	return -1;
}

/*
 * As large as it can be, but no more than a quarter of the addresses that the
 * host may have.
 */
int
region_take(void)
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

	return i == pools.count ||
	    (uintptr_t)pools.table[i]->base >= at + size + page;
}

/* Addresses for a pool of SIZE bytes, at random; NULL with ENOMEM. */
void *
region_place(size_t size)
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
