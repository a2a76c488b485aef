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
 *  - No thread has a cache before its first allocation; a dying one, one that
 *    a tool watches, and one that needs windows, has none.  Then it has the one
 *    that has nothing.
 *  - A cache's memory is MADV_WIPEONFORK: in a child, however it was made, each
 *    bin is empty and full at once (its pointers are NULL), and the way on
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
#include "memory.h"

/* Two callers each, and each the shorter for it. */
#define INLINE inline __attribute__((always_inline))

enum {
	/* Of sizes by 16, with the canary. */
	CACHE_SIZES = SMALL_MAX / SLOT_ALIGN + 1,
	/* Slots in a bin, of which a class may use less: see cache.c. */
	SMALL_BIN = 64,
	LARGE_BIN = 8,
	/* Bytes of large slots that a thread keeps, of all classes together. */
	LARGE_TOTAL = 256 * 1024
};

/* A stack that grows from bottom to limit; of a wiped one all three are NULL. */
struct bin {
	struct heap_slot *top;         /* after the last one */
	struct heap_slot *bottom;
	struct heap_slot *small_limit; /* if the class is small; else bottom */
	struct heap_slot *limit;
	uint32_t size;    /* of a slot */
	uint16_t base;    /* of a small class: LIVE + the most it can hold */
	uint8_t class;
	bool busy;        /* it was empty, or full, since cache_settle() */
	_Alignas(16) struct heap_slot slots[];
};

/* A stride of bins, in bytes: they are found by offset only. */
#define BIN_SIZE(n) (sizeof(struct bin) + (n) * sizeof(struct heap_slot))
#define CACHE_BINS (SMALL_CLASSES * BIN_SIZE(SMALL_BIN) + \
	(CLASSES - SMALL_CLASSES) * BIN_SIZE(LARGE_BIN))

struct cache {
	/* By size, what a tag of a block has; apart, to be found by one index. */
	uint16_t bin_of[CACHE_SIZES];
	uint16_t units_of[CACHE_SIZES];
	_Alignas(16) unsigned char none[sizeof(struct bin)]; /* zero for good */
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

/* Bytes in the slots that threads and depots have. */
size_t cache_bytes(void);

/* Fork: see fork.c. */
void cache_fork_prepare(void);
void cache_fork_parent(void);
void cache_fork_child(void);
void cache_fork_late(void);

/* At load: see fork.c. */
void cache_load(void);

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
 * A small slot is checked, and wiped, by as many pairs of words as it has, from
 * the last to the first: one jump leads to where that begins.
 */
#define OR_1(i) any |= pair[i]
#define OR_2(i) OR_1((i) + 1); OR_1(i)
#define OR_4(i) OR_2((i) + 2); OR_2(i)
#define WIPE_1(i) pair[i] = zero
#define WIPE_2(i) WIPE_1((i) + 1); WIPE_1(i)
#define WIPE_4(i) WIPE_2((i) + 2); WIPE_2(i)

static INLINE bool
cache_is_zero(const unsigned char *at, unsigned units)
{
	const heap_pair *pair = (const heap_pair *)(const void *)at;
	heap_pair any = pair[0] | pair[1];

	switch (units) {
	/* Samples only: see heap_is_zero(). */
	case 65:
	case 58: OR_4(52); OR_4(36); OR_4(18); OR_2(2); break;
	case 52: OR_4(44); OR_4(30); OR_4(16); OR_2(2); break;
	case 45: OR_4(40); OR_4(26); OR_4(13); OR_2(2); break;
	case 39: OR_4(35); OR_4(23); OR_4(12); OR_2(2); break;
	case 33: OR_4(29); /* fallthrough */
	case 29: OR_4(25); /* fallthrough */
	case 25: OR_4(21); /* fallthrough */
	case 21: OR_4(17); /* fallthrough */
	case 17: OR_2(15); /* fallthrough */
	case 15: OR_2(13); /* fallthrough */
	case 13: OR_2(11); /* fallthrough */
	case 11: OR_2(9); /* fallthrough */
	case 9: OR_1(8); /* fallthrough */
	case 8: OR_1(7); /* fallthrough */
	case 7: OR_1(6); /* fallthrough */
	case 6: OR_1(5); /* fallthrough */
	case 5: OR_1(4); /* fallthrough */
	case 4: OR_1(3); /* fallthrough */
	case 3: OR_1(2); /* fallthrough */
	case 2: break;
	default: __builtin_unreachable();
	}
	return (any[0] | any[1]) == 0;
}

static INLINE void
cache_wipe(unsigned char *at, unsigned units)
{
	heap_pair *pair = (heap_pair *)(void *)at;
	heap_pair zero = { 0, 0 };

	KEEP_IN_REGISTER(zero);
	switch (units) {
	case 65: WIPE_1(64); WIPE_2(62); WIPE_4(58); /* fallthrough */
	case 58: WIPE_2(56); WIPE_4(52); /* fallthrough */
	case 52: WIPE_1(51); WIPE_2(49); WIPE_4(45); /* fallthrough */
	case 45: WIPE_2(43); WIPE_4(39); /* fallthrough */
	case 39: WIPE_2(37); WIPE_4(33); /* fallthrough */
	case 33: WIPE_4(29); /* fallthrough */
	case 29: WIPE_4(25); /* fallthrough */
	case 25: WIPE_4(21); /* fallthrough */
	case 21: WIPE_4(17); /* fallthrough */
	case 17: WIPE_2(15); /* fallthrough */
	case 15: WIPE_2(13); /* fallthrough */
	case 13: WIPE_2(11); /* fallthrough */
	case 11: WIPE_2(9); /* fallthrough */
	case 9: WIPE_1(8); /* fallthrough */
	case 8: WIPE_1(7); /* fallthrough */
	case 7: WIPE_1(6); /* fallthrough */
	case 6: WIPE_1(5); /* fallthrough */
	case 5: WIPE_1(4); /* fallthrough */
	case 4: WIPE_1(3); /* fallthrough */
	case 3: WIPE_1(2); /* fallthrough */
	case 2: WIPE_2(0); break;
	default: __builtin_unreachable();
	}
	__asm__ volatile("" : : "r"(at) : "memory");
}

static INLINE bool
cache_is_small(size_t size)
{
	return size <= SMALL_MAX - CANARY_SIZE;
}

/*
 * The usual allocation, of a small size: SIZE zeroed bytes, or NULL where more
 * is to be done or known: see cache_allocate().
 */
static INLINE void *
cache_take(size_t size)
{
	struct cache *cache = cache_mine;
	size_t row = (size + CANARY_SIZE + SLOT_ALIGN - 1) / SLOT_ALIGN;
	struct bin *bin = cache_bin(cache, CACHE_LOAD(cache->bin_of[row]));
	struct heap_slot *top = CACHE_LOAD(bin->top);
	unsigned char *at;

	if (top == bin->bottom)
		return NULL;
	at = top[-1].at;
	if (at == NULL)
		__builtin_unreachable();
	if (!cache_is_zero(at, cache->units_of[row]))
		return NULL;
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
	const struct tag *tag;
	unsigned state;

	if (offset >= fixed.size)
		return false;
	record = fixed.records + offset / RECORD_UNIT;
	state = record_load(record);
	if (state < RECORD_LIVE)
		return false;
	tag = &fixed.tags[offset >> BLOCK_SHIFT];
	bin = cache_bin(cache, CACHE_LOAD(tag->bin));
	top = CACHE_LOAD(bin->top);
	if (top >= bin->small_limit)
		return false;
	size = bin->base - state;
	if (!canary_is_whole(ptr, size))
		return false;
	/* Zero first, for the same reason. */
	cache_wipe(ptr, CACHE_LOAD(tag->units));
	record_store(record, RECORD_CACHED);
	top->at = ptr;
	top->record = record;
	CACHE_STORE(bin->top, top + 1);
	if (__builtin_expect(--cache->credit == 0, 0))
		cache_settle();
	return true;
}

static INLINE bool
cache_is_large(unsigned class)
{
	return class >= SMALL_CLASSES;
}

/* Whether another slot of its class may be kept. */
static INLINE bool
cache_has_room(const struct cache *cache, const struct bin *bin)
{
	return CACHE_LOAD(bin->top) < bin->limit && (!cache_is_large(bin->class) ||
	    cache->large + bin->size <= LARGE_TOTAL);
}

/* Whether AT may be the start of a slot, and which bin it goes to. */
static INLINE struct bin *
cache_find_bin(const void *at, uint8_t **record, unsigned *state_of)
{
	size_t offset = (uintptr_t)at - fixed.base;
	struct bin *bin;

	if (offset >= fixed.size)
		return NULL;
	*record = fixed.records + offset / RECORD_UNIT;
	*state_of = record_load(*record);
	bin = cache_bin(cache_mine, CACHE_LOAD(fixed.tags[offset >>
	    BLOCK_SHIFT].bin));
	return *state_of >= RECORD_LIVE && bin->limit != NULL ? bin : NULL;
}

/* The same, with the size of the object that it is, if its canary is whole. */
static INLINE struct bin *
cache_find(const void *at, uint8_t **record, size_t *size)
{
	size_t most, slack;
	unsigned live;
	struct bin *bin = cache_find_bin(at, record, &live);

	if (bin == NULL)
		return NULL;
	most = bin->size - CANARY_SIZE;
	slack = record_slack(*record, live);
	if (slack > most || !canary_is_whole(at, most - slack))
		return NULL;
	*size = most - slack;
	return bin;
}

/* The same, of larger sizes; and the other of any. */
static INLINE void *
cache_take_long(size_t size)
{
	struct cache *cache = cache_mine;
	struct heap_slot *top;
	struct bin *bin;
	unsigned char *at;

	if (cache_is_small(size) || size > SLOT_MAX - CANARY_SIZE ||
	    !CACHE_LOAD(cache->open))
		return NULL;
	bin = cache_bin(cache,
	    fixed.classes[heap_large_class(size + CANARY_SIZE)].tag.bin);
	top = CACHE_LOAD(bin->top);
	if (top == bin->bottom)
		return NULL;
	at = top[-1].at;
	if (!heap_is_zero(at, bin->size))
		return NULL;
	cache->large -= bin->size;
	record_set_slack(top[-1].record, bin->size - CANARY_SIZE - size);
	canary_set(at, size);
	CACHE_STORE(bin->top, top - 1);
	return at;
}

static INLINE bool
cache_give_long(void *ptr)
{
	struct cache *cache = cache_mine;
	struct heap_slot slot = { .at = ptr };
	size_t size;
	struct bin *bin = cache_find(ptr, &slot.record, &size);

	if (bin == NULL || !cache_has_room(cache, bin))
		return false;
	heap_wipe(ptr, size);
	record_store(slot.record, RECORD_CACHED);
	*bin->top = slot;
	CACHE_STORE(bin->top, bin->top + 1);
	if (cache_is_large(bin->class))
		cache->large += bin->size;
	if (__builtin_expect(--cache->credit == 0, 0))
		cache_settle();
	return true;
}

/*
 * The usual resize: what grows by little and stays where it is; false where
 * more is to be done: see cache_resize().
 */
static INLINE bool
cache_grow(void *ptr, size_t size)
{
	const uint64_t zero = 0, canary = canary_of(ptr);
	unsigned char *at = ptr;
	uint8_t *record;
	unsigned live;
	struct bin *bin = cache_find_bin(ptr, &record, &live);
	size_t most, old;
	uint64_t there;

	if (bin == NULL || !CACHE_LOAD(cache_mine->open))
		return false;
	most = bin->size - CANARY_SIZE;
	old = most - record_slack(record, live);
	/* Nothing at all is not resized but freed. */
	if (old > size || size - 1 >= most)
		return false;
	__builtin_memcpy(&there, at + old, sizeof there);
	if (there != canary)
		return false;
	record_set_slack(record, most - size);
	__builtin_memcpy(at + old, &zero, sizeof zero);
	__builtin_memcpy(at + size, &canary, sizeof canary);
	return true;
}

#endif
