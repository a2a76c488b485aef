/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * heap.c: objects in slots of geometric size classes, or in runs of blocks of
 * their own; must not know who locks the pages, nor how.
 */
#include "config.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "fatal.h"
#include "heap.h"
#include "memory.h"
#include "random.h"
#include "secmalloc.h"
#include "tools.h"
#include "window.h"

enum {
	/* Of the classes for alignments: 256, 512, 1024 and 2048. */
	ALIGNED_MIN = 256,
	/* Larger objects are followed by a guard page. */
	GUARDED_FROM = 64 * 1024,
	/* Slots given at once: the records of so many bytes are a cache line. */
	LINE_SPAN = 64 * RECORD_UNIT
};

/* With room for what is added to it, and no overflow. */
#define OBJECT_MAX ((size_t)PTRDIFF_MAX / 2)

static struct {
	struct block *partial[CLASSES]; /* spans with a free slot */
} state;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int cancel_state; /* of the thread that holds it */

void
heap_lock(void)
{
	int before;

	/* A thread cancelled in a system call would hold it for ever. */
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
	pthread_mutex_lock(&lock);
	cancel_state = before;
}

void
heap_unlock(void)
{
	int before = cancel_state;

	pthread_mutex_unlock(&lock);
	pthread_setcancelstate(before, &before);
}

void
heap_lock_anew(void)
{
	lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
	heap_lock();
}

/*
 * Size classes.
 */

/*
 * By 16, then four to each doubling, and five to the last, so that none leaves
 * LONG_SLACK of a slot.  A power of two and its canary leave next to nothing.
 */
static const uint16_t small_sizes[SMALL_CLASSES] = {
	32, 48, 64, 80, 96, 112, 128, 144,
	176, 208, 240, 272,
	336, 400, 464, 528,
	624, 720, 832, 928, SMALL_MAX
};

static size_t
class_size(unsigned class)
{
	unsigned step = class - SMALL_CLASSES;

	if (class < SMALL_CLASSES)
		return small_sizes[class];
	if (class >= SIZED_CLASSES)
		return (size_t)ALIGNED_MIN << (class - SIZED_CLASSES);
	return ((size_t)(STEPS + 1 + step % STEPS) * (STEPS_FROM / STEPS) <<
	    (step / STEPS)) + STEPS_EXTRA;
}

/* The smallest class of at least NEED bytes, up to SLOT_MAX. */
static unsigned
class_of(size_t need)
{
	unsigned class = 0;

	if (need > SMALL_MAX)
		return heap_large_class(need);
	while (small_sizes[class] < need)
		class++;
	return class;
}

unsigned
heap_class(size_t size, size_t align)
{
	size_t need = size + CANARY_SIZE;
	unsigned class;

	if (size > SLOT_MAX - CANARY_SIZE)
		return CLASSES;
	if (align <= SLOT_ALIGN)
		return class_of(need);
	/* Spans begin with a block. */
	if (align > BLOCK_SIZE)
		return CLASSES;
	for (class = class_of(need); class < SMALL_CLASSES &&
	    small_sizes[class] < ALIGNED_MIN; class++)
		if (small_sizes[class] % align == 0)
			return class;
	for (class = SIZED_CLASSES; class < CLASSES; class++)
		if (need <= class_size(class) && align <= class_size(class))
			break;
	return class;
}

/* Blocks in a span: few, and wasting at most a sixteenth at its end. */
static uint32_t
span_blocks(size_t slot_size)
{
	uint32_t nblocks = 1;

	for (;; nblocks++) {
		size_t bytes = (size_t)nblocks << BLOCK_SHIFT;

		if (bytes >= slot_size && bytes % slot_size <= bytes / 16)
			return nblocks;
	}
}

void
heap_start(void)
{
	for (unsigned i = 0; i < CLASSES; i++) {
		size_t size = class_size(i);
		uint32_t nblocks = span_blocks(size);

		fixed.classes[i].size = (uint32_t)size;
		fixed.classes[i].nblocks = nblocks;
		fixed.classes[i].nslots =
		    (uint32_t)(((size_t)nblocks << BLOCK_SHIFT) / size);
	}
	fixed.key[0] = random_bits() | 1;
	fixed.key[1] = random_bits() | 1;
	memset(&state, 0, sizeof state);
}

void
heap_stop(void)
{
	tools_forget();
	memset(&state, 0, sizeof state);
}

/*
 * Spans.
 */

/*
 * A pointer into the first slot of a record but not to its start is found out
 * by its canary; to look for that must not lead out of the pool.
 */
static uint32_t
span_slots(const struct block *span)
{
	const struct pool *pool = span->pool;
	uint32_t nslots = fixed.classes[span->class].nslots;
	size_t bytes = (size_t)span->nblocks << BLOCK_SHIFT;

	if (span + span->nblocks == pool->blocks + pool->nblocks &&
	    bytes - nslots * fixed.classes[span->class].size < RECORD_UNIT)
		nslots--;
	return nslots;
}

static struct heap_slot
span_slot(const struct block *span, uint32_t index)
{
	unsigned char *at = (unsigned char *)block_address(span) +
	    (size_t)index * fixed.classes[span->class].size;

	return (struct heap_slot){ at, pool_records(at) };
}

static void
set_tags(const struct block *span, struct tag tag)
{
	struct tag *tags = fixed.tags + (((uintptr_t)block_address(span) -
	    fixed.base) >> BLOCK_SHIFT);

	for (uint32_t i = 0; i < span->nblocks; i++) {
		__atomic_store_n(&tags[i].units, tag.units, __ATOMIC_RELAXED);
		__atomic_store_n(&tags[i].bin, tag.bin, __ATOMIC_RELAXED);
	}
}

static void
list_span(struct block *span)
{
	struct block **list = &state.partial[span->class];

	span->prev = NULL;
	span->next = *list;
	if (span->next != NULL)
		span->next->prev = span;
	*list = span;
	span->listed = true;
}

static void
unlist_span(struct block *span)
{
	if (!span->listed)
		return;
	if (span->prev != NULL)
		span->prev->next = span->next;
	else
		state.partial[span->class] = span->next;
	if (span->next != NULL)
		span->next->prev = span->prev;
	span->listed = false;
}

static void
delete_span(struct block *span)
{
	unlist_span(span);
	set_tags(span, (struct tag){ 0, 0 });
	pool_give(span);
}

/* Gives back the spans that were kept empty; whether there was one. */
static bool
delete_empty_spans(void)
{
	bool any = false;

	for (unsigned i = 0; i < CLASSES; i++) {
		struct block *span = state.partial[i], *next;

		/* It was alone in its list when it was kept; others follow. */
		for (; span != NULL; span = next) {
			next = span->next;
			if (span->used != 0)
				continue;
			delete_span(span);
			any = true;
		}
	}
	return any;
}

/* Rather than have more locked, does without what is kept for speed. */
static struct block *
take_blocks(size_t nblocks, size_t align)
{
	struct block *head = pool_take(nblocks, align, false);

	if (head == NULL && delete_empty_spans())
		head = pool_take(nblocks, align, false);
	return head != NULL ? head : pool_take(nblocks, align, true);
}

static struct block *
new_span(unsigned class)
{
	struct block *span = take_blocks(fixed.classes[class].nblocks, 1);
	size_t bytes;

	if (span == NULL)
		return NULL;
	bytes = (size_t)span->nblocks << BLOCK_SHIFT;
	span->class = (uint8_t)class;
	span->used = 0;
	memset(pool_records(block_address(span)), RECORD_FREE,
	    bytes / RECORD_UNIT);
	/* Before it is believed that this is a span, and after it was one. */
	__atomic_store_n(&span->kind, BLOCK_SPAN, __ATOMIC_RELEASE);
	set_tags(span, fixed.classes[class].tag);
	tools_span(block_address(span), bytes);
	list_span(span);
	return span;
}

static struct block *
partial_span(unsigned class)
{
	struct block *span = state.partial[class];

	return span != NULL ? span : new_span(class);
}

static void
shuffle(struct heap_slot *slots, size_t n)
{
	for (size_t i = n; i > 1; i--) {
		size_t other = random_below((uint32_t)i);
		struct heap_slot slot = slots[i - 1];

		slots[i - 1] = slots[other];
		slots[other] = slot;
	}
}

/*
 * Slots whose records share a cache line go to one thread, so that no other
 * writes to it, nor to what lies beside the slots.
 */
static size_t
take_lines(struct block *span, struct heap_slot *slots, size_t n)
{
	uint32_t nslots = span_slots(span);
	uintptr_t line = 0;
	size_t taken = 0;

	for (uint32_t i = 0; i < nslots && taken < n; i++) {
		struct heap_slot slot = span_slot(span, i);

		if (record_load(slot.record) != RECORD_FREE)
			continue;
		if (taken >= (n + 1) / 2 && (uintptr_t)slot.at / LINE_SPAN != line)
			break;
		line = (uintptr_t)slot.at / LINE_SPAN;
		record_store(slot.record, RECORD_CACHED);
		slots[taken++] = slot;
	}
	span->used += (uint32_t)taken;
	if (span->used == nslots)
		unlist_span(span);
	return taken;
}

size_t
heap_take_slots(unsigned class, struct heap_slot *slots, size_t n)
{
	struct block *span;
	size_t taken;

	if (pool_lost()) {
		errno = ENOLCK;
		return 0;
	}
	if ((span = partial_span(class)) == NULL)
		return 0;
	taken = take_lines(span, slots, n);
	shuffle(slots, taken);
	return taken;
}

static void
give_slot(struct heap_slot slot)
{
	struct block *span = block_head(pool_find(slot.at), slot.at);
	const struct block *first = state.partial[span->class];
	bool alone = first == NULL || (first == span && span->next == NULL);

	record_store(slot.record, RECORD_FREE);
	span->used--;
	/*
	 * An empty span goes back, unless there is no other of its class with
	 * a free slot and its pool stays in any case.
	 */
	if (span->used == 0 && !(alone && span->pool->initial))
		delete_span(span);
	else if (!span->listed)
		list_span(span);
}

void
heap_give_slots(const struct heap_slot *slots, size_t n)
{
	for (size_t i = 0; i < n; i++)
		give_slot(slots[i]);
}

size_t
heap_give_leftovers(struct heap_slot *slots, size_t n)
{
	size_t kept = 0;

	for (size_t i = 0; i < n; i++)
		if (pool_is_left_over(pool_find(slots[i].at)))
			give_slot(slots[i]);
		else
			slots[kept++] = slots[i];
	return kept;
}

/*
 * Objects.
 */

static size_t
blocks_for(size_t bytes)
{
	return (bytes + BLOCK_SIZE - 1) >> BLOCK_SHIFT;
}

/* Of an object in a run, where it is large with the guard page after it. */
static size_t
run_blocks(size_t size)
{
	if (size <= GUARDED_FROM)
		return blocks_for(size + CANARY_SIZE);
	return (memory_round_up(size + CANARY_SIZE) + memory_page_size()) >>
	    BLOCK_SHIFT;
}

static size_t
run_size(const struct block *head)
{
	return (size_t)head->nblocks << BLOCK_SHIFT;
}

static size_t
run_room(const struct block *head)
{
	if (head->fenced)
		return head->requested;
	return run_size(head) - (head->guarded ? memory_page_size() : 0);
}

/* Where the object in a run begins: a fenced one ends with its last page. */
static unsigned char *
run_object(const struct block *head)
{
	unsigned char *at = block_address(head);
	size_t inside;

	if (!head->fenced)
		return at;
	at = pool_inside(head, &inside);
	return at + (inside - head->requested);
}

static bool
run_is_zero(const struct block *head)
{
	bool entered = window_enter();
	bool zero = heap_is_zero(block_address(head), run_size(head));

	window_leave(entered);
	return zero;
}

static enum heap_fault
take_run(void **ptr, size_t size, size_t align)
{
	struct block *head;
	unsigned char *at;
	bool entered;

	if (size > GUARDED_FROM && align < memory_page_size())
		align = memory_page_size();
	head = take_blocks(run_blocks(size), align > BLOCK_SIZE ?
	    align >> BLOCK_SHIFT : 1);
	if (head == NULL)
		return HEAP_FINE;
	at = block_address(head);
	tools_open(at, (size_t)head->nblocks << BLOCK_SHIFT);
	if (!run_is_zero(head))
		return HEAP_WRITTEN;
	head->requested = size;
	head->guarded = head->fenced = false;
	__atomic_store_n(&head->kind, BLOCK_OBJECT, __ATOMIC_RELEASE);
	entered = window_enter();
	canary_set(at, size);
	window_leave(entered);
	if (size > GUARDED_FROM)
		pool_guard(head);
	tools_allocated(at, size, run_room(head));
	*ptr = at;
	return HEAP_FINE;
}

/* What is on the first page of a fenced object before it. */
struct gap {
	unsigned char *at;
	size_t size;
};

static struct gap
gap_of(const struct block *head)
{
	struct gap gap;

	gap.at = pool_inside(head, &gap.size);
	gap.size -= head->requested;
	return gap;
}

/* Of the canaries that fill it, the last one may lack its end. */
static void
fill_gap(const struct block *head)
{
	struct gap gap = gap_of(head);
	uint64_t canary = canary_of(gap.at);
	bool entered = window_enter();

	for (size_t i = 0, left = gap.size; left != 0; ) {
		size_t n = left < CANARY_SIZE ? left : CANARY_SIZE;

		memcpy(gap.at + i, &canary, n);
		i += n;
		left -= n;
	}
	window_leave(entered);
}

static bool
gap_is_whole(const struct block *head)
{
	struct gap gap = gap_of(head);
	uint64_t canary = canary_of(gap.at);
	bool entered = window_enter(), whole = true;

	for (size_t i = 0, left = gap.size; left != 0 && whole; ) {
		size_t n = left < CANARY_SIZE ? left : CANARY_SIZE;

		whole = memcmp(gap.at + i, &canary, n) == 0;
		i += n;
		left -= n;
	}
	window_leave(entered);
	return whole;
}

static enum heap_fault
take_fenced(void **ptr, size_t size)
{
	size_t page = memory_page_size(), inside = memory_round_up(size);
	struct block *head;
	unsigned char *at;

	if (inside == 0)
		inside = page;
	head = take_blocks((inside + 2 * page) >> BLOCK_SHIFT,
	    page >> BLOCK_SHIFT);
	if (head == NULL)
		return HEAP_FINE;
	at = block_address(head);
	tools_open(at, run_size(head));
	if (!run_is_zero(head))
		return HEAP_WRITTEN;
	tools_span(at, run_size(head));
	if (pool_fence(head) == -1)
		return HEAP_FINE;
	head->requested = size;
	__atomic_store_n(&head->kind, BLOCK_OBJECT, __ATOMIC_RELEASE);
	tools_open(at + page, inside - size);
	fill_gap(head);
	tools_span(at + page, inside - size);
	*ptr = run_object(head);
	tools_allocated(*ptr, size, size);
	return HEAP_FINE;
}

enum heap_fault
heap_allocate_guarded(void **ptr, size_t size)
{
	*ptr = NULL;
	if (size <= OBJECT_MAX && !pool_lost())
		return take_fenced(ptr, size);
	errno = size > OBJECT_MAX ? ENOMEM : ENOLCK;
	return HEAP_FINE;
}

static enum heap_fault
take_slot(void **ptr, unsigned class, size_t size)
{
	size_t room = fixed.classes[class].size;
	struct heap_slot slot;
	bool entered, zero;

	if (heap_take_slots(class, &slot, 1) == 0)
		return HEAP_FINE;
	tools_open(slot.at, room);
	entered = window_enter();
	zero = heap_is_zero(slot.at, room);
	if (zero)
		heap_fill(slot, room, size);
	window_leave(entered);
	if (!zero)
		return HEAP_WRITTEN;
	tools_allocated(slot.at, size, room);
	*ptr = slot.at;
	return HEAP_FINE;
}

enum heap_fault
heap_allocate(void **ptr, size_t size, size_t align)
{
	enum heap_fault fault = HEAP_FINE;
	unsigned class;

	*ptr = NULL;
	if (size > OBJECT_MAX) {
		errno = ENOMEM;
		return HEAP_FINE;
	}
	if (pool_lost()) {
		errno = ENOLCK;
		return HEAP_FINE;
	}
	class = heap_class(size, align);
	if (class < CLASSES)
		fault = take_slot(ptr, class, size);
	/* Where no span can be had, a run that is shorter may. */
	if (*ptr == NULL && fault == HEAP_FINE && !pool_lost() &&
	    (class == CLASSES || run_blocks(size) < fixed.classes[class].nblocks))
		fault = take_run(ptr, size, align);
	return fault;
}

/* A live object, whichever form it has. */
struct object {
	struct block *head;
	struct heap_slot slot; /* in a span; of others, where they begin */
	size_t size;
	size_t room;           /* for bytes asked for and canary */
};

static size_t
slot_size(const struct block *span, struct heap_slot slot)
{
	size_t most = fixed.classes[span->class].size - CANARY_SIZE;
	size_t slack = record_slack(slot.record, record_load(slot.record));

	/* A picture may have been taken between two of the stores. */
	return slack < most ? most - slack : 0;
}

static enum heap_fault
find_in_span(struct block *span, const unsigned char *at,
    struct object *object)
{
	size_t room = fixed.classes[span->class].size;
	size_t offset = (size_t)(at - (unsigned char *)block_address(span));
	uint32_t index = (uint32_t)(offset / room);

	if (index >= span_slots(span))
		return HEAP_INTERIOR;
	object->slot = span_slot(span, index);
	if (record_load(object->slot.record) < RECORD_LIVE)
		return object->slot.at == at ? HEAP_FREED : HEAP_INTERIOR;
	object->head = span;
	object->size = slot_size(span, object->slot);
	object->room = room;
	return object->slot.at == at ? HEAP_FINE : HEAP_INTERIOR;
}

/*
 * The object that begins at AT.  Of a pointer into the middle of one, OBJECT
 * is that one, if it is live.
 */
static enum heap_fault
find_object(const void *at, struct object *object)
{
	struct pool *pool = pool_find(at);
	struct block *head;

	*object = (struct object){ .head = NULL };
	if (pool == NULL)
		return HEAP_FOREIGN;
	if (pool->dead)
		return HEAP_DENIED;
	head = block_head(pool, at);
	if (head->kind == BLOCK_SPAN)
		return find_in_span(head, at, object);
	if (head->kind != BLOCK_OBJECT)
		return HEAP_FREED;
	object->head = head;
	object->slot.at = run_object(head);
	object->size = head->requested;
	object->room = run_room(head);
	return object->slot.at == at ? HEAP_FINE : HEAP_INTERIOR;
}

static bool
is_fenced(const struct object *object)
{
	return object->head->kind == BLOCK_OBJECT && object->head->fenced;
}

/* What tells whether it was written past: of a fenced object, before it. */
static struct gap
checked(const struct object *object)
{
	return is_fenced(object) ? gap_of(object->head) :
	    (struct gap){ object->slot.at + object->size, CANARY_SIZE };
}

/* The same of a fenced one, which can be written then, if that can be. */
static enum heap_fault
check_fenced(const struct object *object)
{
	struct gap gap = gap_of(object->head);

	if (object->head->access != SECMALLOC_READWRITE &&
	    pool_access(object->head, SECMALLOC_READWRITE) == -1)
		return HEAP_FINE;
	tools_open(gap.at, gap.size);
	return gap_is_whole(object->head) ? HEAP_FINE : HEAP_UNDERFLOW;
}

/* The same, and whether all is well with it. */
static enum heap_fault
check_object(const void *at, struct object *object)
{
	enum heap_fault fault = find_object(at, object);
	bool entered, whole;

	if (fault != HEAP_FINE)
		return fault;
	if (is_fenced(object))
		return check_fenced(object);
	tools_open(object->slot.at + object->size,
	    object->room - object->size);
	entered = window_enter();
	whole = canary_is_whole(object->slot.at, object->size);
	window_leave(entered);
	return whole ? HEAP_FINE : HEAP_OVERFLOW;
}

static void
free_fenced(const struct object *object)
{
	struct block *head = object->head;
	size_t size;
	unsigned char *at = pool_inside(head, &size);
	bool writable = head->access == SECMALLOC_READWRITE;

	if (writable) {
		bool entered = window_enter();

		tools_open(at, size);
		memory_wipe(at, size);
		window_leave(entered);
	}
	tools_freed(object->slot.at, object->size);
	tools_span(at, size);
	if (writable)
		pool_give(pool_unfence(head));
	else
		pool_abandon(head);
}

static void
free_object(const struct object *object)
{
	struct block *head = object->head;
	bool entered;

	if (is_fenced(object)) {
		free_fenced(object);
		return;
	}
	entered = window_enter();
	heap_wipe(object->slot.at, object->size);
	window_leave(entered);
	tools_freed(object->slot.at, object->room);
	if (head->kind == BLOCK_SPAN) {
		give_slot(object->slot);
		return;
	}
	pool_unguard(head);
	pool_give(head);
}

enum heap_fault
heap_free(void *ptr)
{
	struct object object;
	enum heap_fault fault = check_object(ptr, &object);

	if (fault == HEAP_FINE)
		free_object(&object);
	return fault;
}

bool
heap_is_guarded(const void *ptr)
{
	struct object object;

	return find_object(ptr, &object) == HEAP_FINE && is_fenced(&object);
}

enum heap_fault
heap_protect(const void *ptr, int access, int *result)
{
	struct object object;
	enum heap_fault fault = find_object(ptr, &object);

	*result = -1;
	if (fault != HEAP_FINE)
		return fault;
	if (!is_fenced(&object))
		return HEAP_UNGUARDED;
	*result = pool_access(object.head, access);
	return HEAP_FINE;
}

enum heap_fault
heap_move_guarded(void **moved, void *ptr, size_t size)
{
	struct object object;
	enum heap_fault fault = heap_allocate_guarded(moved, size);

	if (fault != HEAP_FINE || *moved == NULL)
		return fault;
	if ((fault = check_object(ptr, &object)) != HEAP_FINE)
		return fault;
	if (object.head->access == SECMALLOC_READWRITE) {
		bool entered = window_enter();

		memcpy(*moved, ptr, size < object.size ? size : object.size);
		window_leave(entered);
		free_fenced(&object);
		return HEAP_FINE;
	}
	fault = heap_free(*moved);
	*moved = NULL;
	errno = ENOMEM;
	return fault;
}

enum heap_fault
heap_size(const void *ptr, size_t *size)
{
	struct object object;
	enum heap_fault fault = find_object(ptr, &object);

	*size = fault == HEAP_FINE ? object.size : 0;
	return fault;
}

bool
heap_contains(const void *at)
{
	struct object object;
	enum heap_fault fault = find_object(at, &object);
	size_t offset;

	if (fault != HEAP_FINE && (fault != HEAP_INTERIOR ||
	    object.head == NULL))
		return false;
	offset = (size_t)((const unsigned char *)at - object.slot.at);
	return offset == 0 || offset < object.size;
}

/*
 * Makes a run the length that SIZE takes, its guard being away.  If it was OLD
 * bytes, and had its guard page taken from it, it may lack room for one.
 */
static bool
fit_run(struct block *head, size_t old, size_t size)
{
	size_t nblocks = run_blocks(size), had = head->nblocks;
	unsigned char *at = block_address(head);

	if (nblocks > had) {
		if (!pool_extend(head, nblocks))
			return size <= old;
		tools_open(at, nblocks << BLOCK_SHIFT);
		return true;
	}
	pool_shorten(head, nblocks);
	tools_span(at + (nblocks << BLOCK_SHIFT), (had - nblocks) <<
	    BLOCK_SHIFT);
	return true;
}

static void
guard_run(struct block *head, size_t size)
{
	if (size > GUARDED_FROM && head->nblocks >= run_blocks(size))
		pool_guard(head);
}

static bool
resize_run(const struct object *object, size_t size)
{
	struct block *head = object->head;
	unsigned char *at = object->slot.at;
	size_t old = object->size, less = size < old ? size : old;

	/* A run that begins within a page, or has too little left of it. */
	if (size > GUARDED_FROM && (uintptr_t)at % memory_page_size() != 0)
		return false;
	pool_unguard(head);
	/* Of what is given up nothing is left, and that before it is. */
	memory_wipe(at + less, old + CANARY_SIZE - less);
	if (!fit_run(head, old, size)) {
		canary_set(at, old);
		guard_run(head, old);
		return false;
	}
	canary_set(at, size);
	__atomic_store_n(&head->requested, size, __ATOMIC_RELEASE);
	guard_run(head, size);
	return true;
}

/*
 * Whether SIZE bytes can be where the object is; unless FORCED, only if that is
 * where they would be put now.
 */
static bool
resize_in_place(const struct object *object, size_t size, bool forced)
{
	unsigned class = heap_class(size, SLOT_ALIGN);

	if (object->head->kind == BLOCK_OBJECT)
		return (class == CLASSES || forced) &&
		    resize_run(object, size);
	if (!heap_stays(size, object->room) && !forced)
		return false;
	heap_refill(object->slot, object->room, object->size, size);
	return true;
}

enum heap_fault
heap_resize(void *ptr, size_t size, bool forced, size_t *old, bool *done)
{
	struct object object;
	enum heap_fault fault = check_object(ptr, &object);

	*done = false;
	if (fault != HEAP_FINE)
		return fault;
	*old = object.size;
	if (size <= OBJECT_MAX && !pool_lost() && (!forced || size <= *old)) {
		bool entered = window_enter();

		*done = resize_in_place(&object, size, forced);
		window_leave(entered);
	}
	if (object.head->kind == BLOCK_OBJECT)
		object.room = run_room(object.head);
	if (*done)
		tools_resized(ptr, *old, size, object.room);
	else
		tools_span(object.slot.at + *old, object.room - *old);
	return HEAP_FINE;
}

/*
 * All objects.
 */

/* Calls VISIT for every live object in POOL, as RECORDS tell of slots. */
static void
visit_objects(const struct pool *pool, const uint8_t *records,
    void (*visit)(const struct object *, void *), void *data)
{
	const struct block *head;

	for (uint32_t i = 0; i < pool->nblocks; i += head->nblocks) {
		struct object object = {
			.head = (struct block *)(uintptr_t)&pool->blocks[i]
		};

		head = object.head;
		if (head->kind == BLOCK_OBJECT) {
			object.slot.at = run_object(head);
			object.size = head->requested;
			visit(&object, data);
			continue;
		}
		for (uint32_t n = head->kind == BLOCK_SPAN ?
		    span_slots(head) : 0; n-- > 0; ) {
			object.slot = span_slot(head, n);
			object.slot.record = (uint8_t *)(uintptr_t)records +
			    (size_t)(object.slot.at - pool->base) / RECORD_UNIT;
			if (record_load(object.slot.record) < RECORD_LIVE)
				continue;
			object.size = slot_size(head, object.slot);
			visit(&object, data);
		}
	}
}

static void
visit_all(void (*visit)(const struct object *, void *), void *data)
{
	for (struct pool *pool = pool_first(); pool != NULL;
	    pool = pool_next(pool))
		if (!pool->dead)
			visit_objects(pool, pool_records(pool->base), visit,
			    data);
}

/* Calls VISIT for every span in POOL. */
static void
visit_spans(struct pool *pool, void (*visit)(struct block *))
{
	struct block *head;

	for (uint32_t i = 0; i < pool->nblocks; i += head->nblocks) {
		head = &pool->blocks[i];
		if (head->kind == BLOCK_SPAN)
			visit(head);
	}
}

static void
visit_all_spans(void (*visit)(struct block *))
{
	for (struct pool *pool = pool_first(); pool != NULL;
	    pool = pool_next(pool))
		if (!pool->dead)
			visit_spans(pool, visit);
}

static void
count_object(const struct object *object, void *data)
{
	struct heap_totals *totals = data;

	totals->objects++;
	totals->bytes += object->size;
	totals->guardable += is_fenced(object) ||
	    (object->size > GUARDED_FROM &&
	    object->head->kind == BLOCK_OBJECT);
}

void
heap_totals(struct heap_totals *totals)
{
	*totals = (struct heap_totals){ .objects = 0 };
	visit_all(count_object, totals);
}

/*
 * Fork.
 */

struct copy {
	const struct pool *from;
	unsigned char *to;
	bool failed;
};

/*
 * One that cannot be read stays so where it is, for the sake of other threads:
 * what is looked at is another mapping of its pages.
 */
static void
copy_fenced(const struct object *object, struct copy *copy)
{
	struct gap gap = gap_of(object->head);
	size_t size = gap.size + object->size;
	const void *view = gap.at;

	if (object->head->access == SECMALLOC_NOACCESS &&
	    (view = pool_view(object->head)) == NULL) {
		copy->failed = true;
		return;
	}
	tools_open(gap.at, gap.size);
	memory_copy(copy->to + (gap.at - copy->from->base), view, size);
	tools_span(gap.at, gap.size);
	if (view != gap.at)
		memory_unview(view, size);
}

static void
copy_object(const struct object *object, void *data)
{
	struct copy *copy = data;
	unsigned char *at = object->slot.at;

	if (is_fenced(object)) {
		copy_fenced(object, copy);
		return;
	}
	tools_open(at + object->size, CANARY_SIZE);
	memory_copy(copy->to + (at - copy->from->base), at,
	    object->size + CANARY_SIZE);
	tools_span(at + object->size, CANARY_SIZE);
}

static bool
copy_pool(const struct pool *pool, unsigned char *to)
{
	struct copy copy = { .from = pool, .to = to };

	visit_objects(pool, pool->picture != NULL ? pool->picture :
	    pool_records(pool->base), copy_object, &copy);
	return !copy.failed;
}

/*
 * What other threads did between the picture and the fork: nobody here can
 * know of those objects.  But a slot that is free must be zero, and what is
 * live must not look as if it had overflowed.
 */
static void
mend_slot(const struct block *span, struct heap_slot slot, uint8_t *before)
{
	struct heap_slot then = { slot.at, before };
	size_t room = fixed.classes[span->class].size, kept = 0, size;
	bool was_live = record_load(before) >= RECORD_LIVE;
	bool is_live = record_load(slot.record) >= RECORD_LIVE;

	if (!was_live && !is_live)
		return;
	size = is_live ? slot_size(span, slot) : 0;
	if (was_live && is_live) {
		kept = slot_size(span, then);
		if (kept == size)
			return;
		kept = kept < size ? kept : size;
	}
	tools_open(slot.at, room);
	memory_wipe(slot.at + kept, room - kept);
	if (is_live)
		canary_set(slot.at, size);
}

static void
mend_span(struct block *span)
{
	const struct pool *pool = span->pool;

	for (uint32_t n = span_slots(span); n-- > 0; ) {
		struct heap_slot slot = span_slot(span, n);

		mend_slot(span, slot, pool->picture +
		    (size_t)(slot.at - pool->base) / RECORD_UNIT);
	}
}

static void
mend_pool(struct pool *pool)
{
	visit_spans(pool, mend_span);
}

/* What is live here may have been on its way to be free, and closed already. */
static void
open_object(const struct object *object, void *data)
{
	struct gap gap = checked(object);

	(void)data;
	tools_open(gap.at, gap.size);
	tools_open(object->slot.at, object->size);
}

/* Nobody else is in this process yet. */
static void
renew_gap(struct block *head)
{
	int access = head->access;

	if (pool_access(head, SECMALLOC_READWRITE) == -1 ||
	    (fill_gap(head), pool_access(head, access) == -1))
		fatal_bug("mprotect");
}

static void
renew_canary(const struct object *object, void *data)
{
	struct gap gap = checked(object);

	(void)data;
	tools_open(gap.at, gap.size);
	if (is_fenced(object))
		renew_gap(object->head);
	else
		canary_set(object->slot.at, object->size);
}

static void
announce(const struct object *object, void *data)
{
	(void)data;
	if (is_fenced(object))
		tools_span(block_address(object->head),
		    run_size(object->head));
	tools_open(object->slot.at, object->size);
	if (object->head->kind == BLOCK_OBJECT)
		tools_span(object->slot.at + object->size,
		    run_room(object->head) - object->size);
}

static void
announce_span(struct block *span)
{
	tools_span(block_address(span), (size_t)span->nblocks << BLOCK_SHIFT);
}

/* What a tool knew of addresses went with the mappings that were there. */
static void
tell_tools(void)
{
	if (!tools_watch())
		return;
	visit_all_spans(announce_span);
	visit_all(announce, NULL);
}

/* Every slot that is not live is free: of the caches, none is left. */
static void
rebuild_span(struct block *span)
{
	uint32_t nslots = span_slots(span);

	span->used = 0;
	for (uint32_t i = 0; i < nslots; i++) {
		struct heap_slot slot = span_slot(span, i);

		if (record_load(slot.record) >= RECORD_LIVE)
			span->used++;
		else
			record_store(slot.record, RECORD_FREE);
	}
	/* The picture may be of one that was just made, or about to go. */
	set_tags(span, fixed.classes[span->class].tag);
	span->listed = false;
	if (span->used < nslots)
		list_span(span);
}

/* Makes all that is derived from the pools' books anew. */
static void
rebuild(void)
{
	memset(&state, 0, sizeof state);
	random_fork();
	visit_all_spans(rebuild_span);
}

void
heap_fork_prepare(bool moving)
{
	/* If it fails: what is not locked here may be so in the child. */
	(void)pool_keep();
	pool_fork_prepare(copy_pool, moving);
}

void
heap_fork_parent(void)
{
	pool_fork_parent();
}

void
heap_fork_child(void)
{
	pool_fork_child(mend_pool);
	rebuild();
	tell_tools();
}

void
heap_fork_late(void)
{
	pool_rebuild();
	visit_all(open_object, NULL);
	pool_fork_prepare(copy_pool, false);
	pool_fork_child(mend_pool);
	rebuild();
	/* The parent went on: its sizes and canaries are no longer these. */
	visit_all(renew_canary, NULL);
	tell_tools();
}
