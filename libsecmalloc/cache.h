/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cache.h: free slots that a thread keeps at hand, and depots where threads
 * leave them for each other; knows slots and classes, nothing of pools.
 *
 *      thread:  cache -> bins, one a class: a stack of zeroed slots
 *      all:     depots, one a class: what bins had too many of
 *      heap:    what depots have too many of, or too few
 *
 * The usual allocation and the usual free touch the thread's own cache, the
 * slot and its record, and nothing else: no lock, no atomic operation, no
 * system call.  All that is unusual, a bin says by being empty, or full:
 *
 *  - No thread has a cache before its first allocation; a dying one, and one
 *    that a tool watches, has none.  Then it has the one that has nothing.
 *  - A cache's memory is MADV_WIPEONFORK: in a child, however it was made, each
 *    bin is empty and full at once (level and limit are zero), and the way on
 *    leads to fork_enter().
 *  - To have another thread come by before its next allocation, its table of
 *    classes is made to say that each is in a bin which is always empty.
 */
#ifndef CACHE_H
#define CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "heap.h"

/* Two callers each, and each the shorter for it. */
#define INLINE inline __attribute__((always_inline))

enum {
	/* Of sizes by 16, with the canary. */
	CACHE_SIZES = SMALL_MAX / SLOT_ALIGN + 1,
	/* Slots in a bin, of which a class may use less: see cache.c. */
	SMALL_BIN = 64,
	LARGE_BIN = 8
};

/* A stack that grows from bottom to limit; of a wiped one all three are NULL. */
struct bin {
	struct heap_slot *top;         /* after the last one */
	struct heap_slot *bottom;
	struct heap_slot *short_limit; /* if the class is short; else bottom */
	struct heap_slot *limit;
	uint32_t size;    /* of a slot */
	uint16_t base;    /* of a short class: LIVE + the most it can hold */
	uint8_t units;    /* of a short class: size by 16 */
	uint8_t class;
	_Alignas(16) struct heap_slot slots[];
};

/* A stride of bins, in bytes: they are found by offset only. */
#define BIN_SIZE(n) (sizeof(struct bin) + (n) * sizeof(struct heap_slot))
#define CACHE_BINS (SMALL_CLASSES * BIN_SIZE(SMALL_BIN) + \
	(CLASSES - SMALL_CLASSES) * BIN_SIZE(LARGE_BIN))

struct cache {
	uint16_t table[CACHE_SIZES];    /* from size to the offset of a bin */
	struct bin none;                /* zero for good */
	int32_t credit;                 /* frees until cache_settle() */
	size_t large;                   /* bytes of cached slots > SMALL_MAX */
	bool active;
	bool open;                      /* not asked to come by */
	_Alignas(16) unsigned char bins[CACHE_BINS];
};

_Static_assert(sizeof(struct cache) <= UINT16_MAX, "offsets fit a tag");

extern _Thread_local struct cache *cache_mine
    __attribute__((tls_model("initial-exec"), visibility("hidden")));

/*
 * What takes more than the two functions at the end of this file, but no lock
 * of the heap.
 */

/* As cache_take() and cache_give(), of longer slots, and nearly as quick. */
void *cache_take_long(size_t size);
bool cache_give_long(void *ptr);

/*
 * Makes *PTR SIZE zeroed bytes at a multiple of ALIGN; NULL if the cache and
 * the depot have none, or have no say in it.
 */
enum heap_fault cache_allocate(void **ptr, size_t size, size_t align);

/* Wipes and frees; false if the heap has to look at it. */
bool cache_free(void *ptr);

/* The size asked for; false if the heap has to be asked. */
bool cache_size(const void *ptr, size_t *size);

/*
 * Whether PTR, an object of *OLD bytes, is one of SIZE now, in its place; *OLD
 * is 0 if the heap has to look at it.
 */
bool cache_resize(void *ptr, size_t size, size_t *old);

/* Gives back to the heap what has been idle; called once in a while. */
void cache_settle(void);

/*
 * Has the thread's exit return its cache, if that was not seen to yet.  Without
 * the heap's lock, since pthread_setspecific() may allocate.
 */
void cache_attend(void);

/*
 * All else is called with the heap's lock held.
 */

/* Once the pools have started, what is fixed being open; before they stop. */
void cache_start(void);
void cache_stop(void);

/*
 * Sees to it that cache_allocate() or cache_free() has what it lacked: a cache,
 * slots, or room for one.  False if it will not do.
 */
bool cache_fill(size_t size, size_t align);
bool cache_spill(const void *ptr);

/* Gives all to the heap that can be reached; whether there was anything. */
bool cache_drain(void);

/* No cache hands anything out until its thread has come by. */
void cache_close(void);

struct cache_totals {
	size_t slots;
	size_t bytes; /* in those slots */
};

void cache_totals(struct cache_totals *);

/* Fork: see fork.c. */
void cache_fork_prepare(void);
void cache_fork_parent(void);
void cache_fork_child(void);
void cache_fork_late(void);

/* At load: see fork.c. */
void cache_load(void);

typedef uint64_t cache_pair __attribute__((vector_size(16), may_alias));

/* Not made anew for each store. */
#ifdef __SSE2__
# define KEEP_IN_REGISTER(pair) __asm__("" : "+x"(pair))
#else
# define KEEP_IN_REGISTER(pair) ((void)0)
#endif

/* What others look at now and then, when they count. */
#define CACHE_LOAD(from) __atomic_load_n(&(from), __ATOMIC_RELAXED)
#define CACHE_STORE(to, value) \
	__atomic_store_n(&(to), (value), __ATOMIC_RELAXED)

static INLINE struct bin *
cache_bin(struct cache *cache, size_t offset)
{
	return (struct bin *)(void *)((unsigned char *)cache + offset);
}

/*
 * A short slot is checked and wiped by as many pairs of words as it has, from
 * the last to the first.
 */
static INLINE bool
cache_is_zero(const unsigned char *at, unsigned units)
{
	const cache_pair *pair = (const cache_pair *)(const void *)at;
	cache_pair any = pair[0] | pair[1];

	switch (units) {
	case 17: any |= pair[16] | pair[15]; /* fallthrough */
	case 15: any |= pair[14] | pair[13]; /* fallthrough */
	case 13: any |= pair[12] | pair[11]; /* fallthrough */
	case 11: any |= pair[10] | pair[9]; /* fallthrough */
	case 9: any |= pair[8]; /* fallthrough */
	case 8: any |= pair[7]; /* fallthrough */
	case 7: any |= pair[6]; /* fallthrough */
	case 6: any |= pair[5]; /* fallthrough */
	case 5: any |= pair[4]; /* fallthrough */
	case 4: any |= pair[3]; /* fallthrough */
	case 3: any |= pair[2]; /* fallthrough */
	case 2: break;
	default: __builtin_unreachable();
	}
	return (any[0] | any[1]) == 0;
}

static INLINE void
cache_wipe(unsigned char *at, unsigned units)
{
	cache_pair *pair = (cache_pair *)(void *)at;
	cache_pair zero = { 0, 0 };

	KEEP_IN_REGISTER(zero);
	switch (units) {
	case 17: pair[16] = zero; pair[15] = zero; /* fallthrough */
	case 15: pair[14] = zero; pair[13] = zero; /* fallthrough */
	case 13: pair[12] = zero; pair[11] = zero; /* fallthrough */
	case 11: pair[10] = zero; pair[9] = zero; /* fallthrough */
	case 9: pair[8] = zero; /* fallthrough */
	case 8: pair[7] = zero; /* fallthrough */
	case 7: pair[6] = zero; /* fallthrough */
	case 6: pair[5] = zero; /* fallthrough */
	case 5: pair[4] = zero; /* fallthrough */
	case 4: pair[3] = zero; /* fallthrough */
	case 3: pair[2] = zero; /* fallthrough */
	case 2: pair[1] = zero; pair[0] = zero; break;
	default: __builtin_unreachable();
	}
	__asm__ volatile("" : : "r"(at) : "memory");
}

static INLINE bool
cache_is_short(size_t size)
{
	return size <= SHORT_MAX - CANARY_SIZE;
}

/*
 * The usual allocation, of a short size: SIZE zeroed bytes, or NULL where more is to be done or
 * known: see cache_allocate().
 */
static INLINE void *
cache_take(size_t size)
{
	struct cache *cache = cache_mine;
	struct bin *bin = cache_bin(cache, CACHE_LOAD(cache->table[(size +
	    CANARY_SIZE + SLOT_ALIGN - 1) / SLOT_ALIGN]));
	struct heap_slot *top = CACHE_LOAD(bin->top);
	unsigned char *at;

	if (top == bin->bottom)
		return NULL;
	at = top[-1].at;
	if (!cache_is_zero(at, bin->units))
		return NULL;
	if (at == NULL)
		__builtin_unreachable();
	/* Live first: what a picture shows as free must be zero. */
	record_store(top[-1].record, bin->base - (unsigned)size);
	canary_set(at, size);
	CACHE_STORE(bin->top, top - 1);
	return at;
}

/* The usual free; false where more is to be done: see cache_free(). */
static INLINE bool
cache_give(void *ptr)
{
	size_t offset = (uintptr_t)ptr - fixed.base, size;
	struct cache *cache = cache_mine;
	struct heap_slot *top;
	struct bin *bin;
	uint8_t *record;
	unsigned state;

	if (offset >= fixed.size)
		return false;
	record = fixed.records + offset / RECORD_UNIT;
	state = record_load(record);
	if (state < RECORD_LIVE)
		return false;
	bin = cache_bin(cache, CACHE_LOAD(fixed.tags[offset >>
	    BLOCK_SHIFT]));
	top = CACHE_LOAD(bin->top);
	if (top >= bin->short_limit)
		return false;
	size = bin->base - state;
	if (!canary_is_whole(ptr, size))
		return false;
	/* Zero first, for the same reason. */
	cache_wipe(ptr, bin->units);
	record_store(record, RECORD_CACHED);
	top->at = ptr;
	top->record = record;
	CACHE_STORE(bin->top, top + 1);
	if (__builtin_expect(--cache->credit == 0, 0))
		cache_settle();
	return true;
}

#endif
