/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cache.c: threads' caches and the depots between them; must not know what a
 * span or a pool is.
 */
#include "config.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "cache.h"
#include "fork.h"
#include "memory.h"
#include "tools.h"
#include "window.h"

enum {
	/* Bytes in the bin of a small class, and of a large one. */
	SMALL_CACHED = 16 * 1024,
	LARGE_CACHED = 32 * 1024,
	/* Bytes that the latter gets at once. */
	LARGE_BATCH = 4 * 1024,
	/* Slots in a depot, of which a class may use less. */
	DEPOT_SLOTS = 4 * SMALL_BIN,
	/* Of what is idle, one slot in so many stays. */
	KEPT = 4,
	/* Of a slot that comes from a depot, and of a processor's cache. */
	WARMED = 256,
	LINE = 64,
	/* Frees in which a bin that was never empty nor full is idle. */
	CREDIT = 16384
};

static const struct cache nothing;

_Thread_local struct cache *cache_mine =
    (struct cache *)(uintptr_t)&nothing;

/*
 * Every cache that was ever made, whether or not a thread has it now.  Not in
 * the caches, which are wiped.
 */
struct holder {
	struct holder *next;
	struct cache *cache;
	bool used;
};

static _Thread_local struct {
	struct holder *holder;
	bool attended; /* the thread's exit will be noticed */
	bool dying;
} thread __attribute__((tls_model("initial-exec")));

static struct {
	struct holder *holders;
	struct holder *unmade; /* without a cache yet */
	pthread_key_t key;
	bool has_key;
} state;

static struct depot {
	pthread_mutex_t lock;
	uint32_t count;
	uint32_t limit;
	bool busy;
	struct heap_slot slots[DEPOT_SLOTS];
} depots[CLASSES] = {
	[0 ... CLASSES - 1] = { .lock = PTHREAD_MUTEX_INITIALIZER }
};

/*
 * Bins.
 */

static size_t
bin_offset(unsigned class)
{
	size_t small = class < SMALL_CLASSES ? class : SMALL_CLASSES;

	return offsetof(struct cache, bins) + small * BIN_SIZE(SMALL_BIN) +
	    (class - small) * BIN_SIZE(LARGE_BIN);
}

static struct bin *
bin_of(struct cache *cache, unsigned class)
{
	return cache_bin(cache, bin_offset(class));
}

/* Slots that a thread keeps of a class: few bytes, but enough to be of use. */
static uint32_t
bin_slots(unsigned class)
{
	uint32_t small = SMALL_CACHED / fixed.classes[class].size;
	uint32_t large = LARGE_CACHED / fixed.classes[class].size;

	if (class < SMALL_CLASSES)
		return small < SMALL_BIN ? small : SMALL_BIN;
	return large > LARGE_BIN ? LARGE_BIN : large == 0 ? 1 : large;
}

static uint32_t
bin_count(const struct bin *bin)
{
	return (uint32_t)(CACHE_LOAD(bin->top) - bin->bottom);
}

static uint32_t
bin_limit(const struct bin *bin)
{
	return (uint32_t)(bin->limit - bin->bottom);
}

/* Slots that an empty bin gets at once. */
static uint32_t
batch(const struct bin *bin)
{
	uint32_t half = (bin_limit(bin) + 1) / 2, few = LARGE_BATCH / bin->size;

	if (!cache_is_large(bin->class) || half <= few)
		return half;
	return few != 0 ? few : 1;
}

static void
bin_set_count(struct bin *bin, size_t count)
{
	CACHE_STORE(bin->top, bin->bottom + count);
}

static void
count_large(struct cache *cache, unsigned class, size_t added,
    size_t removed)
{
	if (cache_is_large(class))
		cache->large += (added - removed) * fixed.classes[class].size;
}

/* N slots were put into a bin that was empty. */
static void
fill_bin(struct cache *cache, struct bin *bin, size_t n)
{
	bin_set_count(bin, n);
	count_large(cache, bin->class, n, 0);
	bin->busy = true;
}

/* Takes the N slots away that have been there for the longest. */
static void
drop_oldest(struct cache *cache, struct bin *bin, size_t n)
{
	size_t count = bin_count(bin);

	memmove(bin->slots, bin->slots + n, (count - n) * sizeof *bin->slots);
	bin_set_count(bin, count - n);
	count_large(cache, bin->class, 0, n);
}

static void
give_oldest(struct cache *cache, struct bin *bin, size_t n)
{
	heap_give_slots(bin->slots, n);
	drop_oldest(cache, bin, n);
}

/*
 * Depots.
 */

static bool
leave_at_depot(struct cache *cache, struct bin *bin)
{
	struct depot *depot = &depots[bin->class];
	uint32_t n = (bin_count(bin) + 1) / 2;
	bool fits;

	if (n == 0)
		return false;
	pthread_mutex_lock(&depot->lock);
	fits = depot->count + n <= depot->limit;
	if (fits) {
		memcpy(depot->slots + depot->count, bin->slots,
		    n * sizeof *bin->slots);
		CACHE_STORE(depot->count, depot->count + n);
		depot->busy = true;
	}
	pthread_mutex_unlock(&depot->lock);
	if (fits) {
		drop_oldest(cache, bin, n);
		bin->busy = true;
	}
	return fits;
}

/* Another processor has had them: its lines are asked for all at once. */
static void
warm(const struct bin *bin, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		for (size_t at = 0; at < bin->size && at < WARMED; at += LINE)
			__builtin_prefetch(bin->slots[i].at + at, 1);
}

/* Into a bin that is empty. */
static bool
fetch_from_depot(struct cache *cache, struct bin *bin)
{
	struct depot *depot = &depots[bin->class];
	uint32_t n = batch(bin);

	if (CACHE_LOAD(depot->count) == 0)
		return false;
	pthread_mutex_lock(&depot->lock);
	if (n > depot->count)
		n = depot->count;
	memcpy(bin->slots, depot->slots + depot->count - n,
	    n * sizeof *bin->slots);
	CACHE_STORE(depot->count, depot->count - n);
	depot->busy = true;
	pthread_mutex_unlock(&depot->lock);
	fill_bin(cache, bin, n);
	warm(bin, n);
	return n != 0;
}

/* What is given to the heap of slots that nobody has. */
enum drain { DRAIN_ALL, DRAIN_IDLE, DRAIN_LEFTOVERS };

/*
 * Of COUNT slots, gives those that HOW says, the oldest and most of them if they
 * are IDLE: how many stay, which are then the first.  From those that are
 * BUSY, LEFTOVERS takes what keeps a pool that would be empty without.
 */
static uint32_t
drain(struct heap_slot *slots, uint32_t count, bool busy, enum drain how)
{
	uint32_t kept = how == DRAIN_ALL ? 0 : busy ? count : count / KEPT;

	heap_give_slots(slots, count - kept);
	memmove(slots, slots + (count - kept), kept * sizeof *slots);
	return how == DRAIN_LEFTOVERS ?
	    (uint32_t)heap_give_leftovers(slots, kept) : kept;
}

static bool
drain_depot(struct depot *depot, enum drain how)
{
	uint32_t count, kept;

	pthread_mutex_lock(&depot->lock);
	count = depot->count;
	kept = drain(depot->slots, count, depot->busy, how);
	CACHE_STORE(depot->count, kept);
	depot->busy = false;
	pthread_mutex_unlock(&depot->lock);
	return count > kept;
}

/*
 * Caches.
 */

static void
open_cache(struct cache *cache)
{
	/* Closed for good: nothing is handed out any more, but taken back. */
	if (pool_lost())
		return;
	for (size_t i = 0; i < CACHE_SIZES; i++) {
		size_t size = i < 2 ? 0 : i * SLOT_ALIGN - CANARY_SIZE;
		struct tag tag =
		    fixed.classes[heap_class(size, SLOT_ALIGN)].tag;

		cache->units_of[i] = tag.units;
		CACHE_STORE(cache->bin_of[i], tag.bin);
	}
	cache->open = true;
}

static void
make_cache(struct cache *cache)
{
	for (unsigned i = 0; i < CLASSES; i++) {
		struct bin *bin = bin_of(cache, i);

		bin->top = bin->bottom = bin->small_limit = bin->slots;
		bin->limit = bin->slots + bin_slots(i);
		bin->size = fixed.classes[i].size;
		bin->class = (uint8_t)i;
		if (i >= SMALL_CLASSES)
			continue;
		bin->small_limit = bin->limit;
		bin->base = (uint16_t)(RECORD_LIVE + bin->size - CANARY_SIZE);
	}
	cache->credit = CREDIT;
	cache->active = true;
	open_cache(cache);
}

static bool
drain_cache(struct cache *cache, enum drain how)
{
	bool any = false;

	for (unsigned i = 0; i < CLASSES; i++) {
		struct bin *bin = bin_of(cache, i);
		uint32_t count = bin_count(bin);
		uint32_t kept = drain(bin->slots, count, bin->busy, how);

		bin_set_count(bin, kept);
		count_large(cache, i, 0, count - kept);
		bin->busy = false;
		any |= count > kept;
	}
	return any;
}

static size_t
cache_length(void)
{
	return memory_round_up(sizeof(struct cache));
}

/* One that no thread has, or one more. */
static struct holder *
find_holder(void)
{
	struct holder *holder = state.holders;
	size_t page = memory_page_size();

	while (holder != NULL && holder->used)
		holder = holder->next;
	if (holder != NULL)
		return holder;
	if (state.unmade == NULL) {
		struct holder *more = memory_reserve(page);

		if (more == NULL)
			return NULL;
		if (memory_map_private(more, page) == -1) {
			memory_unreserve(more, page);
			return NULL;
		}
		for (size_t i = 0; i < page / sizeof *more; i++) {
			more[i].next = state.unmade;
			state.unmade = &more[i];
		}
	}
	holder = state.unmade;
	holder->cache = memory_wiped_on_fork(cache_length());
	if (holder->cache == NULL)
		return NULL;
	state.unmade = holder->next;
	holder->next = state.holders;
	state.holders = holder;
	return holder;
}

/* The thread's own cache, or NULL if it is to have none. */
static struct cache *
obtain(void)
{
	/* What a cache hands out and takes back, it does in no window. */
	if (thread.dying || !CACHE_LOAD(state.has_key) || fixed.size == 0 ||
	    fixed.window != 0 || tools_watch())
		return NULL;
	if (thread.holder == NULL) {
		if ((thread.holder = find_holder()) == NULL)
			return NULL;
		thread.holder->used = true;
	}
	/* After a stop, it is there, but empty. */
	if (!thread.holder->cache->active)
		make_cache(thread.holder->cache);
	cache_mine = thread.holder->cache;
	return cache_mine;
}

static void
abandon(void)
{
	struct holder *holder = thread.holder;

	cache_mine = (struct cache *)(uintptr_t)&nothing;
	thread.holder = NULL;
	if (holder == NULL)
		return;
	if (holder->cache->active)
		(void)drain_cache(holder->cache, DRAIN_ALL);
	memory_discard(holder->cache, cache_length());
	holder->used = false;
}

static void
at_thread_exit(void *unused)
{
	(void)unused;
	fork_enter();
	heap_lock();
	/* Destructors that come after this one allocate without a cache. */
	thread.dying = true;
	abandon();
	heap_unlock();
}

void
cache_load(void)
{
	state.has_key = pthread_key_create(&state.key, at_thread_exit) == 0;
}

/* A thread that ends after this library is gone must not call into it. */
__attribute__((destructor)) static void
unload(void)
{
	bool had_key = state.has_key;

	/* Threads may be at work until the end. */
	CACHE_STORE(state.has_key, false);
	if (had_key)
		(void)pthread_key_delete(state.key);
}

void
cache_attend(void)
{
	if (thread.attended || thread.holder == NULL)
		return;
	thread.attended = true;
	if (pthread_setspecific(state.key, &thread) == 0)
		return;
	/* It cannot be attended, so it has to do without. */
	heap_lock();
	thread.dying = true;
	abandon();
	heap_unlock();
}

void
cache_start(void)
{
	for (unsigned i = 0; i < CLASSES; i++) {
		uint32_t slots = bin_slots(i) * (cache_is_large(i) ? 2 : 4);

		fixed.classes[i].tag = (struct tag){ (uint16_t)bin_offset(i),
		    cache_is_large(i) ? 0 :
		    (uint16_t)(fixed.classes[i].size / SLOT_ALIGN) };
		depots[i].limit = slots < DEPOT_SLOTS ? slots : DEPOT_SLOTS;
	}
}

/* What was in them is no more. */
static void
forget_depots(void)
{
	for (unsigned i = 0; i < CLASSES; i++)
		depots[i].count = 0;
}

void
cache_stop(void)
{
	for (struct holder *h = state.holders; h != NULL; h = h->next)
		memset(h->cache, 0, sizeof *h->cache);
	forget_depots();
}

void
cache_close(void)
{
	for (struct holder *h = state.holders; h != NULL; h = h->next) {
		if (!h->used)
			continue;
		for (unsigned i = 0; i < CACHE_SIZES; i++)
			CACHE_STORE(h->cache->bin_of[i],
			    (uint16_t)offsetof(struct cache, none));
		CACHE_STORE(h->cache->open, false);
	}
}

bool
cache_drain(void)
{
	bool any = false;

	if (cache_mine->active)
		any = drain_cache(cache_mine, DRAIN_ALL);
	for (unsigned i = 0; i < CLASSES; i++)
		any = drain_depot(&depots[i], DRAIN_ALL) || any;
	/* Other threads are asked to do the same, before they allocate. */
	cache_close();
	if (cache_mine->active)
		open_cache(cache_mine);
	return any;
}

bool
cache_fill(size_t size, size_t align)
{
	unsigned class = heap_class(size, align);
	struct cache *cache;
	struct bin *bin;
	size_t n;

	if (class == CLASSES || (cache = obtain()) == NULL || pool_lost())
		return false;
	if (!cache->open) {
		(void)drain_cache(cache, DRAIN_ALL);
		open_cache(cache);
	}
	bin = bin_of(cache, class);
	if (bin_count(bin) != 0)
		return true;
	n = heap_take_slots(class, bin->slots, batch(bin));
	if (n == 0 && cache_drain())
		n = heap_take_slots(class, bin->slots, 1);
	fill_bin(cache, bin, n);
	return n != 0;
}

bool
cache_spill(const void *ptr)
{
	unsigned live;
	uint8_t *record;
	struct bin *bin;

	if (!cache_mine->active && obtain() == NULL)
		return false;
	bin = cache_find_bin(ptr, &record, &live);
	if (bin == NULL || cache_has_room(cache_mine, bin))
		return false;
	if (bin->top < bin->limit)
		/* It is the others of the large ones that have too much. */
		for (unsigned i = SMALL_CLASSES; i < CLASSES; i++) {
			struct bin *other = bin_of(cache_mine, i);

			give_oldest(cache_mine, other, bin_count(other));
		}
	else
		give_oldest(cache_mine, bin, (bin_count(bin) + 1) / 2);
	bin->busy = true;
	return true;
}

enum heap_fault
cache_allocate(void **ptr, size_t size, size_t align)
{
	struct cache *cache = cache_mine;
	unsigned class = heap_class(size, align);
	struct heap_slot slot;
	struct bin *bin;

	*ptr = NULL;
	if (class == CLASSES || !cache->active || !CACHE_LOAD(cache->open))
		return HEAP_FINE;
	bin = bin_of(cache, class);
	if (bin_count(bin) == 0 && !fetch_from_depot(cache, bin))
		return HEAP_FINE;
	slot = bin->slots[bin_count(bin) - 1];
	if (!heap_is_zero(slot.at, bin->size))
		return HEAP_WRITTEN;
	bin_set_count(bin, bin_count(bin) - 1);
	count_large(cache, class, 0, 1);
	heap_fill(slot, bin->size, size);
	*ptr = slot.at;
	return HEAP_FINE;
}

bool
cache_free(void *ptr)
{
	uint8_t *record;
	size_t size;
	struct bin *bin;

	if (cache_give_long(ptr))
		return true;
	bin = cache_find(ptr, &record, &size);
	return bin != NULL && leave_at_depot(cache_mine, bin) &&
	    cache_give_long(ptr);
}

bool
cache_size(const void *ptr, size_t *size)
{
	uint8_t *record;

	return cache_find(ptr, &record, size) != NULL;
}

bool
cache_resize(void *ptr, size_t size, size_t *old)
{
	struct heap_slot slot = { .at = ptr };
	struct bin *bin = cache_find(ptr, &slot.record, old);

	if (bin == NULL) {
		*old = 0;
		return false;
	}
	if (!heap_stays(size, bin->size) || !CACHE_LOAD(cache_mine->open))
		return false;
	heap_refill(slot, bin->size, *old, size);
	return true;
}

void
cache_settle(void)
{
	struct cache *cache = cache_mine;
	int error = errno; /* secfree() keeps it */
	enum drain how;

	cache->credit = CREDIT;
	heap_lock();
	how = pool_leftovers() ? DRAIN_LEFTOVERS : DRAIN_IDLE;
	(void)drain_cache(cache, how);
	for (unsigned i = 0; i < CLASSES; i++)
		(void)drain_depot(&depots[i], how);
	heap_unlock();
	errno = error;
}

size_t
cache_bytes(void)
{
	size_t bytes = 0;

	for (unsigned i = 0; i < CLASSES; i++) {
		size_t n = CACHE_LOAD(depots[i].count);

		for (struct holder *h = state.holders; h != NULL; h = h->next)
			if (h->used)
				n += bin_count(bin_of(h->cache, i));
		bytes += n * fixed.classes[i].size;
	}
	return bytes;
}

/*
 * Fork.
 */

/* Whether other threads have caches, and so may be at them. */
static bool
others_have_caches(void)
{
	for (struct holder *h = state.holders; h != NULL; h = h->next)
		if (h->used && h != thread.holder)
			return true;
	return false;
}

/* Of the child's threads none has a cache: what was in any is free. */
static void
start_anew(void)
{
	for (struct holder *h = state.holders; h != NULL; h = h->next) {
		h->used = false;
		if (h->cache->active) /* some emulators do not wipe */
			memset(h->cache, 0, sizeof *h->cache);
	}
	thread.holder = NULL;
	cache_mine = (struct cache *)(uintptr_t)&nothing;
	forget_depots();
}

void
cache_fork_prepare(void)
{
	bool entered;

	heap_lock();
	for (unsigned i = 0; i < CLASSES; i++)
		pthread_mutex_lock(&depots[i].lock);
	entered = window_enter();
	heap_fork_prepare(others_have_caches());
	window_leave(entered);
}

static void
unlock_all(void)
{
	for (unsigned i = 0; i < CLASSES; i++)
		pthread_mutex_unlock(&depots[i].lock);
	heap_unlock();
}

void
cache_fork_parent(void)
{
	heap_fork_parent();
	unlock_all();
}

void
cache_fork_child(void)
{
	bool entered = window_enter();

	heap_fork_child();
	window_leave(entered);
	start_anew();
	unlock_all();
}

void
cache_fork_late(void)
{
	bool entered;

	for (unsigned i = 0; i < CLASSES; i++)
		depots[i].lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
	heap_lock_anew();
	entered = window_enter();
	heap_fork_late();
	window_leave(entered);
	start_anew();
	heap_unlock();
}
