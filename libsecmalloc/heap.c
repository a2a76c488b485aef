/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * heap.c: objects in slots of geometric size classes, or in runs of pages of
 * their own; must not know who locks the pages, nor how.
 *
 * Size and state of a slot are in its pool's slots[], away from the data:
 *
 *      LIVE | bytes asked for      an object
 *      index of a slot + 1, or 0   free, and the next free one
 *
 * A slot or run that is free is zero.  CANARY_SIZE bytes that nobody outside
 * can know follow the bytes asked for.
 */
#include "config.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/random.h>

#include "heap.h"
#include "memory.h"
#include "pool.h"

enum {
	CANARY_SIZE = 8,
	/* 16 to 128 by 16, then four to each doubling up to 16 KiB. */
	LINEAR_CLASSES = 8,
	LINEAR_MAX = LINEAR_CLASSES * SLOT_ALIGN,
	STEPS = 4,
	DOUBLINGS = 7,
	CLASSES = LINEAR_CLASSES + STEPS * DOUBLINGS,
	SLOT_MAX = LINEAR_MAX << DOUBLINGS,
	LIVE = 0x8000
};

_Static_assert(SLOT_MAX < LIVE, "a slot's size fits beside its LIVE bit");

static struct {
	struct {
		size_t size;
		uint32_t npages; /* of a span */
		uint32_t nslots;
		struct page *partial; /* spans with a free slot */
	} classes[CLASSES];
	uint64_t canary_key;
	size_t objects;
	size_t bytes;
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

/*
 * Size classes.
 */

static size_t
class_size(unsigned class)
{
	unsigned step;

	if (class < LINEAR_CLASSES)
		return (class + 1) * (size_t)SLOT_ALIGN;
	step = class - LINEAR_CLASSES;
	return (size_t)(STEPS + 1 + step % STEPS) *
	    (LINEAR_MAX / STEPS) << (step / STEPS);
}

/* The smallest class of at least SIZE bytes, 1 to SLOT_MAX. */
static unsigned
class_of(size_t size)
{
	unsigned doubling = 0;
	size_t last = size - 1;

	if (size <= LINEAR_MAX)
		return (unsigned)(last / SLOT_ALIGN);
	while (last >= (size_t)LINEAR_MAX << (doubling + 1))
		doubling++;
	return LINEAR_CLASSES + STEPS * doubling + (unsigned)
	    ((last >> doubling) / (LINEAR_MAX / STEPS)) - STEPS;
}

/* Pages in a span: few, and wasting at most an eighth at its end. */
static uint32_t
span_pages(size_t slot_size)
{
	uint32_t npages = 1;

	for (;; npages++) {
		size_t bytes = npages * memory_page_size();

		if (bytes >= slot_size && bytes % slot_size <= bytes / 8)
			return npages;
	}
}

static void
seed_canary(void)
{
	const void *random = (const void *)getauxval(AT_RANDOM);

	if (getrandom(&state.canary_key, sizeof state.canary_key,
	    GRND_NONBLOCK) == (ssize_t)sizeof state.canary_key)
		return;
	/* Early in the boot; the kernel gave every program 16 bytes. */
	if (random != NULL)
		memcpy(&state.canary_key, random, sizeof state.canary_key);
}

void
heap_start(void)
{
	size_t page_size = memory_page_size();

	for (unsigned i = 0; i < CLASSES; i++) {
		size_t size = class_size(i);
		uint32_t npages = span_pages(size);

		state.classes[i].size = size;
		state.classes[i].npages = npages;
		state.classes[i].nslots = (uint32_t)(npages * page_size / size);
		state.classes[i].partial = NULL;
	}
	seed_canary();
	state.objects = state.bytes = 0;
}

void
heap_stop(void)
{
	for (unsigned i = 0; i < CLASSES; i++)
		state.classes[i].partial = NULL;
	state.objects = state.bytes = 0;
}

/*
 * Canaries.
 */

static void
make_canary(const unsigned char *at, unsigned char canary[CANARY_SIZE])
{
	uint64_t value = state.canary_key ^
	    (uintptr_t)at * UINT64_C(0x9e3779b97f4a7c15);

	memcpy(canary, &value, CANARY_SIZE);
	/* A string's end, written one too far, must not look like it. */
	canary[0] |= 1;
}

static void
set_canary(unsigned char *at)
{
	unsigned char canary[CANARY_SIZE];

	make_canary(at, canary);
	memcpy(at, canary, CANARY_SIZE);
}

static bool
canary_is_whole(const unsigned char *at)
{
	unsigned char canary[CANARY_SIZE];

	make_canary(at, canary);
	return memcmp(at, canary, CANARY_SIZE) == 0;
}

/*
 * Spans.
 */

static uint16_t *
span_slots(const struct page *span)
{
	const struct pool *pool = span->pool;
	size_t index = (size_t)(span - pool->pages);

	return pool->slots + index * (memory_page_size() / SLOT_ALIGN);
}

static void
list_span(struct page *span)
{
	struct page **list = &state.classes[span->class].partial;

	span->prev = NULL;
	span->next = *list;
	if (span->next != NULL)
		span->next->prev = span;
	*list = span;
	span->listed = true;
}

static void
unlist_span(struct page *span)
{
	if (!span->listed)
		return;
	if (span->prev != NULL)
		span->prev->next = span->next;
	else
		state.classes[span->class].partial = span->next;
	if (span->next != NULL)
		span->next->prev = span->prev;
	span->listed = false;
}

/* Strings every slot that is not live together, and counts the others. */
static void
thread_slots(struct page *span)
{
	uint16_t *slots = span_slots(span);

	span->first_free = 0;
	span->used = 0;
	for (uint32_t i = state.classes[span->class].nslots; i-- > 0; )
		if (slots[i] & LIVE)
			span->used++;
		else {
			slots[i] = span->first_free;
			span->first_free = (uint16_t)(i + 1);
		}
}

static void
delete_span(struct page *span)
{
	unlist_span(span);
	pool_give(span);
}

/* Gives back the spans that were kept empty; whether there was one. */
static bool
delete_empty_spans(void)
{
	bool any = false;

	for (unsigned i = 0; i < CLASSES; i++) {
		struct page *span = state.classes[i].partial, *next;

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
static struct page *
take_pages(size_t npages, size_t align)
{
	struct page *head = pool_take(npages, align, false);

	if (head == NULL && delete_empty_spans())
		head = pool_take(npages, align, false);
	return head != NULL ? head : pool_take(npages, align, true);
}

static struct page *
new_span(unsigned class)
{
	struct page *span = take_pages(state.classes[class].npages, 1);

	if (span == NULL)
		return NULL;
	span->class = (uint8_t)class;
	memset(span_slots(span), 0,
	    state.classes[class].nslots * sizeof(uint16_t));
	thread_slots(span);
	/* Last: from here on its class and slots are believed. */
	__atomic_store_n(&span->kind, PAGE_SPAN, __ATOMIC_RELEASE);
	list_span(span);
	return span;
}

static unsigned char *
slot_bytes(const struct page *span, uint32_t index)
{
	return (unsigned char *)page_address(span) +
	    index * state.classes[span->class].size;
}

static void
set_slot(struct page *span, uint32_t index, unsigned value)
{
	__atomic_store_n(&span_slots(span)[index], (uint16_t)value,
	    __ATOMIC_RELEASE);
}

static void *
take_slot(unsigned class, size_t size)
{
	struct page *span = state.classes[class].partial;
	unsigned char *bytes;
	uint32_t index;

	if (span == NULL && (span = new_span(class)) == NULL)
		return NULL;
	index = span->first_free - 1u;
	bytes = slot_bytes(span, index);
	span->first_free = span_slots(span)[index];
	/* Live first: what a picture shows as free must be zero. */
	set_slot(span, index, LIVE | (unsigned)size);
	set_canary(bytes + size);
	span->used++;
	if (span->first_free == 0)
		unlist_span(span);
	return bytes;
}

static void
give_slot(struct page *span, uint32_t index)
{
	struct page *first = state.classes[span->class].partial;
	bool alone = first == NULL || (first == span && span->next == NULL);

	set_slot(span, index, span->first_free);
	span->first_free = (uint16_t)(index + 1);
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

/*
 * Objects.
 */

static size_t
pages_for(size_t bytes)
{
	return memory_round_up(bytes) / memory_page_size();
}

static void *
take_run(size_t size, size_t align)
{
	size_t page_size = memory_page_size();
	struct page *head = take_pages(pages_for(size + CANARY_SIZE),
	    align > page_size ? align / page_size : 1);

	if (head == NULL)
		return NULL;
	head->requested = size;
	__atomic_store_n(&head->kind, PAGE_OBJECT, __ATOMIC_RELEASE);
	set_canary((unsigned char *)page_address(head) + size);
	return page_address(head);
}

/* The class that serves, or CLASSES if none does. */
static unsigned
class_for(size_t size, size_t align)
{
	unsigned class;

	if (size > SLOT_MAX - CANARY_SIZE || align > memory_page_size())
		return CLASSES;
	for (class = class_of(size + CANARY_SIZE); class < CLASSES; class++)
		if (state.classes[class].size % align == 0)
			break;
	return class;
}

void *
heap_allocate(size_t size, size_t align)
{
	unsigned class;
	void *ptr;

	if (size > PTRDIFF_MAX - CANARY_SIZE - memory_page_size()) {
		errno = ENOMEM;
		return NULL;
	}
	if (pool_lost()) {
		errno = ENOLCK;
		return NULL;
	}
	class = class_for(size, align);
	ptr = class < CLASSES ? take_slot(class, size) : take_run(size, align);
	if (ptr != NULL) {
		state.objects++;
		state.bytes += size;
	}
	return ptr;
}

/* A live object, whichever form it has. */
struct object {
	struct page *head;
	uint32_t index; /* in a span */
	unsigned char *bytes;
	size_t size;
	size_t room;    /* for bytes asked for and canary */
};

static enum heap_fault
find_in_span(struct page *span, const unsigned char *at, struct object *object)
{
	size_t size = state.classes[span->class].size;
	size_t offset = (size_t)(at - (unsigned char *)page_address(span));
	uint32_t index = (uint32_t)(offset / size);
	uint16_t slot;

	if (index >= state.classes[span->class].nslots)
		return HEAP_INTERIOR;
	slot = span_slots(span)[index];
	object->head = span;
	object->index = index;
	object->bytes = slot_bytes(span, index);
	object->size = slot & ~(unsigned)LIVE;
	object->room = size;
	if (object->bytes != at)
		return HEAP_INTERIOR;
	return slot & LIVE ? HEAP_FINE : HEAP_FREED;
}

/*
 * The object that begins at AT.  Of a pointer into the middle of one, OBJECT
 * is that one, if it is live.
 */
static enum heap_fault
find_object(const void *at, struct object *object)
{
	struct pool *pool = pool_find(at);
	struct page *head;

	object->head = NULL;
	if (pool == NULL)
		return HEAP_FOREIGN;
	if (pool->dead)
		return HEAP_DENIED;
	head = page_head(pool, at);
	if (head->kind == PAGE_FREE)
		return HEAP_FREED;
	if (head->kind == PAGE_SPAN)
		return find_in_span(head, at, object);
	object->head = head;
	object->bytes = page_address(head);
	object->size = head->requested;
	object->room = head->npages * memory_page_size();
	return object->bytes == at ? HEAP_FINE : HEAP_INTERIOR;
}

/* The same, and whether all is well with it. */
static enum heap_fault
check_object(const void *at, struct object *object)
{
	enum heap_fault fault = find_object(at, object);

	if (fault == HEAP_FINE && !canary_is_whole(object->bytes +
	    object->size))
		fault = HEAP_OVERFLOW;
	return fault;
}

static void
free_object(const struct object *object)
{
	struct page *head = object->head;

	state.objects--;
	state.bytes -= object->size;
	/* All of it: a stray write may have gone past the canary. */
	memory_wipe(object->bytes, object->room);
	if (head->kind == PAGE_SPAN)
		give_slot(head, object->index);
	else
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
	if (object.head->kind == PAGE_SPAN &&
	    (span_slots(object.head)[object.index] & LIVE) == 0)
		return false;
	offset = (size_t)((const unsigned char *)at - object.bytes);
	return offset == 0 || offset < object.size;
}

/*
 * Whether SIZE bytes can stay where the object is: they fit, and a smaller
 * class would not do.
 */
static bool
stays(const struct object *object, size_t size)
{
	unsigned class = class_for(size, SLOT_ALIGN);

	if (object->head->kind == PAGE_SPAN)
		return class == object->head->class;
	return class == CLASSES && size + CANARY_SIZE <= object->room;
}

static void
resize_in_place(const struct object *object, size_t size)
{
	struct page *head = object->head;
	size_t old = object->size, less = size < old ? size : old;

	/* What is given up, and the canary, which becomes zero or data. */
	memory_wipe(object->bytes + less, object->room - less);
	set_canary(object->bytes + size);
	state.bytes += size - old;
	if (head->kind == PAGE_SPAN)
		set_slot(head, object->index, LIVE | (unsigned)size);
	else {
		__atomic_store_n(&head->requested, size, __ATOMIC_RELEASE);
		pool_shorten(head, pages_for(size + CANARY_SIZE));
	}
}

enum heap_fault
heap_resize(void **ptr, size_t size, int *failed)
{
	struct object object;
	enum heap_fault fault = check_object(*ptr, &object);
	void *moved;

	*failed = 0;
	if (fault != HEAP_FINE)
		return fault;
	if (size <= PTRDIFF_MAX - CANARY_SIZE && !pool_lost() &&
	    stays(&object, size)) {
		resize_in_place(&object, size);
		return HEAP_FINE;
	}
	if ((moved = heap_allocate(size, SLOT_ALIGN)) == NULL) {
		/* To become smaller takes no room. */
		if (size <= object.size && !pool_lost())
			resize_in_place(&object, size);
		else
			*failed = errno;
		return HEAP_FINE;
	}
	memcpy(moved, object.bytes, size < object.size ? size : object.size);
	free_object(&object);
	*ptr = moved;
	return HEAP_FINE;
}

void
heap_totals(struct heap_totals *totals)
{
	totals->objects = state.objects;
	totals->bytes = state.bytes;
}

/*
 * Fork.
 */

/* Calls VISIT for every live object in POOL. */
static void
visit_objects(struct pool *pool,
    void (*visit)(const struct object *, void *), void *data)
{
	struct page *head;

	for (uint32_t i = 0; i < pool->npages; i += head->npages) {
		struct object object = { .head = head = &pool->pages[i] };

		object.bytes = page_address(head);
		if (head->kind == PAGE_OBJECT) {
			object.size = head->requested;
			visit(&object, data);
		} else if (head->kind == PAGE_SPAN) {
			uint16_t *slots = span_slots(head);
			uint32_t n = state.classes[head->class].nslots;

			for (object.index = 0; object.index < n;
			    object.index++) {
				if ((slots[object.index] & LIVE) == 0)
					continue;
				object.bytes = slot_bytes(head, object.index);
				object.size = slots[object.index] &
				    ~(unsigned)LIVE;
				visit(&object, data);
			}
		}
	}
}

struct copy {
	const struct pool *from;
	unsigned char *to;
};

static void
copy_object(const struct object *object, void *data)
{
	const struct copy *copy = data;

	memcpy(copy->to + (object->bytes - copy->from->base), object->bytes,
	    object->size + CANARY_SIZE);
}

static void
copy_pool(const struct pool *pool, unsigned char *to)
{
	struct copy copy = { .from = pool, .to = to };

	visit_objects((struct pool *)(uintptr_t)pool, copy_object, &copy);
}

static void
count_object(const struct object *object, void *data)
{
	(void)data;
	state.objects++;
	state.bytes += object->size;
}

static void
renew_canary(const struct object *object, void *data)
{
	(void)data;
	set_canary(object->bytes + object->size);
}

/* Makes all that is derived from the pools' books anew. */
static void
rebuild(void)
{
	for (unsigned i = 0; i < CLASSES; i++)
		state.classes[i].partial = NULL;
	state.objects = state.bytes = 0;
	for (struct pool *pool = pool_first(); pool != NULL;
	    pool = pool_next(pool)) {
		struct page *head;

		if (pool->dead)
			continue;
		for (uint32_t i = 0; i < pool->npages; i += head->npages) {
			head = &pool->pages[i];
			if (head->kind != PAGE_SPAN)
				continue;
			thread_slots(head);
			head->listed = false;
			if (head->first_free != 0)
				list_span(head);
		}
		visit_objects(pool, count_object, NULL);
	}
}

void
heap_fork_prepare(void)
{
	heap_lock();
	pool_fork_prepare(copy_pool);
}

void
heap_fork_parent(void)
{
	pool_fork_parent();
	heap_unlock();
}

void
heap_fork_child(void)
{
	pool_fork_child();
	rebuild();
	heap_unlock();
}

void
heap_fork_late(void)
{
	/* Whoever held it is not in this process. */
	lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
	heap_lock();
	pool_rebuild();
	pool_fork_prepare(copy_pool);
	pool_fork_child();
	rebuild();
	/* The parent went on: its sizes and canaries are no longer these. */
	for (struct pool *pool = pool_first(); pool != NULL;
	    pool = pool_next(pool))
		if (!pool->dead)
			visit_objects(pool, renew_canary, NULL);
	heap_unlock();
}
