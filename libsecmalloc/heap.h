/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * heap.h: objects: their sizes, slots and spans.  Knows addresses, nothing of
 * locking.
 *
 * A slot's state and the size of the object in it are in its record, the one of
 * the RECORD_UNIT bytes that it begins in, away from the data:
 *
 *      LIVE | slack    an object; slack is what it leaves of the slot
 *      CACHED          nobody's, but handed to the cache
 *      FREE            nobody's
 *
 * A slack of LONG_SLACK or more is in the three records that follow, 7 bits in
 * each, so that none but a slot's first ever looks LIVE.  Slots that can have
 * one have records enough; in those of small classes it is the rare result of
 * a shrinking.
 *
 * A slot that is not LIVE is zero.  CANARY_SIZE bytes that nobody outside can
 * know follow the bytes asked for; before a guarded object, which has a page
 * that cannot be touched in their place, they fill its first page.  In the tags of a span's blocks is what the
 * cache wants to find there; in all others, 0.
 */
#ifndef HEAP_H
#define HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fixed.h"
#include "memory.h"
#include "pool.h"
#include "sanitizers.h"

enum {
	CANARY_SIZE = 8,
	/* Up to 1040 bytes: see heap.c. */
	SMALL_CLASSES = 21,
	SMALL_MAX = 1040,
	/*
	 * Up to 65,600 bytes, four to each doubling, multiples of 64 with room
	 * for a power of two and more; those after them serve alignments.
	 */
	SIZED_CLASSES = 45,
	SLOT_MAX = 65600,
	STEPS = 4,
	STEPS_FROM = 1024,
	STEPS_EXTRA = 64,
	/*
	 * Slots up to here are checked whole when they are handed out; of
	 * others, so many times 64 bytes.
	 */
	CHECKED_WHOLE = 528,
	SAMPLES = 4
};

enum {
	RECORD_FREE = 0,
	RECORD_CACHED = 1,
	RECORD_LIVE = 0x80,
	LONG_SLACK = 0x7f
};

/* What is wrong with a pointer that a caller hands in, or a slot handed out. */
enum heap_fault {
	HEAP_FINE = 0,
	HEAP_FOREIGN,  /* not a pointer of this library */
	HEAP_INTERIOR, /* not the start of an object */
	HEAP_FREED,    /* the start of what is no longer an object */
	HEAP_OVERFLOW, /* the canary after it is damaged */
	HEAP_UNDERFLOW, /* the canaries before it are */
	HEAP_UNGUARDED, /* an object, but not a guarded one */
	HEAP_WRITTEN,  /* free, and yet not zero */
	HEAP_DENIED    /* in a child: of the parent, and not for the child */
};

struct heap_slot {
	unsigned char *at;
	uint8_t *record;
};

/*
 * What needs no lock: the records and bytes of a slot that is the caller's.
 * Records are read by others at any time.
 */

static inline unsigned
record_load(const uint8_t *record)
{
	return __atomic_load_n(record, __ATOMIC_RELAXED);
}

/*
 * After what was done to the bytes before, and before what is done to them
 * after it, as anybody's picture of memory sees it.
 */
static inline void
record_store(uint8_t *record, unsigned value)
{
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
	/* The same, without a register for the low byte of another. */
	__asm__ volatile("movb %b1, %0" : "=m"(*record) : "qi"(value) :
	    "memory");
#else
	__atomic_store_n(record, (uint8_t)value, __ATOMIC_RELEASE);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
#endif
}

/*
 * The record and the three after it, the first one lowest.  They are read and
 * written at once where that may be: it is what a growing object costs.
 */
static inline uint32_t
record_load_four(const uint8_t *record)
{
	uint32_t four;

#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
	__builtin_memcpy(&four, record, sizeof four);
#else
	four = record_load(record) | record_load(record + 1) << 8 |
	    record_load(record + 2) << 16 | record_load(record + 3) << 24;
#endif
	return four;
}

static inline void
record_store_four(uint8_t *record, uint32_t four)
{
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
	__asm__ volatile("movl %1, %0" : "=m"(*(uint8_t (*)[4])record) :
	    "r"(four) : "memory");
#else
	for (unsigned i = 4; i-- > 0; )
		record_store(record + i, four >> (8 * i) & 0xff);
#endif
}

static inline size_t
record_slack(const uint8_t *record, unsigned state)
{
	uint32_t four;

	if (state != (RECORD_LIVE | LONG_SLACK))
		return state - RECORD_LIVE;
	four = record_load_four(record);
	return (four >> 8 & 0x7f) | (four >> 9 & 0x3f80) |
	    (four >> 10 & 0x1fc000);
}

static inline void
record_set_slack(uint8_t *record, size_t slack)
{
	uint32_t bits = (uint32_t)slack;

	if (slack < LONG_SLACK)
		record_store(record, RECORD_LIVE | bits);
	else
		record_store_four(record, RECORD_LIVE | LONG_SLACK |
		    (bits & 0x7f) << 8 | (bits & 0x3f80) << 9 |
		    (bits & 0x1fc000) << 10);
}

/*
 * Keyed twice, by address: who has seen one canary knows no other.  Objects
 * are at even addresses and both keys are odd, so it is odd; in memory that
 * byte is first: a string's end, written one too far, does not look like it.
 */
static inline uint64_t
canary_of(const void *object)
{
	uint64_t value = ((uintptr_t)object ^ fixed.key[0]) * fixed.key[1];

#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	value = __builtin_bswap64(value);
#endif
	return value;
}

static inline void
canary_set(unsigned char *object, size_t size)
{
	uint64_t canary = canary_of(object);

	__builtin_memcpy(object + size, &canary, CANARY_SIZE);
}

static inline bool
canary_is_whole(const unsigned char *object, size_t size)
{
	uint64_t canary;

	__builtin_memcpy(&canary, object + size, CANARY_SIZE);
	return canary == canary_of(object);
}

typedef uint64_t heap_pair __attribute__((vector_size(16), may_alias));

/* Whether SIZE bytes, a multiple of 16, are zero; of many, samples. */
static inline bool
heap_is_zero(const unsigned char *at, size_t size)
{
	const heap_pair *pairs = (const heap_pair *)(const void *)at;
	size_t n = size / sizeof *pairs, i = 0;
	heap_pair any = { 0, 0 };

	if (size <= CHECKED_WHOLE) {
		for (; i + 4 <= n; i += 4)
			any |= (pairs[i] | pairs[i + 1]) |
			    (pairs[i + 2] | pairs[i + 3]);
		for (; i < n; i++)
			any |= pairs[i];
	} else
		for (; i + 4 <= n; i += n / SAMPLES)
			any |= (pairs[i] | pairs[i + 1]) |
			    (pairs[i + 2] | pairs[i + 3]);
	return (any[0] | any[1]) == 0;
}

/*
 * Wipes an object of SIZE, its canary, and to a multiple of 16 bytes, so that
 * the wide loads of who checks for zero fall within one store each.  What is
 * long is wiped by the C library, which knows the processor; and that without
 * the canary, so that a power of two of bytes remains one.
 */
static inline void
heap_wipe(unsigned char *at, size_t size)
{
	size_t used = (size + CANARY_SIZE + SLOT_ALIGN - 1) / SLOT_ALIGN;
	heap_pair *pairs = (heap_pair *)(void *)at;
	const heap_pair zero = { 0, 0 };
	size_t i = 0;

	if (size > SMALL_MAX - CANARY_SIZE) {
		memory_wipe(at, size);
		i = used - 2;
	} else if (size > CHECKED_WHOLE - CANARY_SIZE) {
		memory_wipe(at, used * SLOT_ALIGN);
		return;
	}
	for (; i + 4 <= used; i += 4) {
		pairs[i] = pairs[i + 1] = zero;
		pairs[i + 2] = pairs[i + 3] = zero;
		__asm__ volatile("" : : : "memory");
	}
	for (; i < used; i++) {
		pairs[i] = zero;
		__asm__ volatile("" : : : "memory");
	}
}

/* The smallest class of at least NEED bytes, more than SMALL_MAX. */
static inline unsigned
heap_large_class(size_t need)
{
	size_t last = need - STEPS_EXTRA - 1;
	unsigned doubling;

	if (last < STEPS_FROM)
		last = STEPS_FROM;
	doubling = (unsigned)__builtin_clzl(STEPS_FROM) -
	    (unsigned)__builtin_clzl(last);
	return SMALL_CLASSES + STEPS * doubling + (unsigned)
	    ((last >> doubling) / (STEPS_FROM / STEPS)) - STEPS;
}

/* The class that serves, or CLASSES if none does. */
unsigned heap_class(size_t size, size_t align);

/*
 * Whether an object in a slot of ROOM bytes stays there when it gets SIZE: if
 * it fits, and leaves no more than half of it, or of what is little anyway.
 */
static inline bool
heap_stays(size_t size, size_t room)
{
	enum { LITTLE = 64 };

	/* Nothing at all is not resized but freed. */
	return size - 1 < room - CANARY_SIZE &&
	    (size > room / 2 || room <= LITTLE);
}

/* What to make of an object of OLD bytes that is to have SIZE and must move. */
static inline size_t
heap_headroom(size_t old, size_t size)
{
	const size_t most = SLOT_MAX - CANARY_SIZE;

	/* What grows by little will grow again; but runs grow in their place. */
	if (size <= old || size - old > old / 8 || size > most)
		return size;
	return size < most - size / 2 ? size + size / 2 : most;
}

/*
 * Makes an object in a slot of ROOM bytes that was handed out, or one another
 * size.  Live first: what a picture shows as free must be zero.
 */
static inline void
heap_fill(struct heap_slot slot, size_t room, size_t size)
{
	record_set_slack(slot.record, room - CANARY_SIZE - size);
	canary_set(slot.at, size);
}

static inline void
heap_refill(struct heap_slot slot, size_t room, size_t old, size_t size)
{
	const uint64_t zero = 0;

	/* What is given up, and the canary, which becomes zero or data. */
	if (size < old)
		memory_wipe(slot.at + size, old - size);
	__builtin_memcpy(slot.at + old, &zero, CANARY_SIZE);
	heap_fill(slot, room, size);
}

/*
 * All else is called with the lock held.
 */

void heap_lock(void);
void heap_unlock(void);

/* In a child: whoever held it is not in this process. */
void heap_lock_anew(void);

/* Once the pools have started, what is fixed being open; before they stop. */
void heap_start(void);
void heap_stop(void);

/* Up to N free slots of CLASS, in random order, for the cache; 0 with errno. */
size_t heap_take_slots(unsigned class, struct heap_slot *slots, size_t n);
void heap_give_slots(const struct heap_slot *slots, size_t n);

/*
 * The same for those of N slots whose pools hold little else.  Returns how many
 * are left, which are the first of SLOTS then.
 */
size_t heap_give_leftovers(struct heap_slot *slots, size_t n);

/*
 * *PTR becomes SIZE zeroed bytes at a multiple of ALIGN, a power of two; NULL
 * with errno.
 */
enum heap_fault heap_allocate(void **ptr, size_t size, size_t align);

/* *PTR becomes SIZE zeroed bytes between two guard pages, at the second. */
enum heap_fault heap_allocate_guarded(void **ptr, size_t size);

/*
 * Whether PTR is a guarded object; and limits the access to it, to SECMALLOC_*:
 * *RESULT is 0, or -1 with errno.
 */
bool heap_is_guarded(const void *ptr);
enum heap_fault heap_protect(const void *ptr, int access, int *result);

/*
 * *MOVED becomes a guarded object of SIZE with what is in PTR, which is one and
 * is freed; NULL with errno, and PTR is as before.
 */
enum heap_fault heap_move_guarded(void **moved, void *ptr, size_t size);

/* Wipes and frees. */
enum heap_fault heap_free(void *ptr);

/* The size asked for. */
enum heap_fault heap_size(const void *ptr, size_t *size);

/*
 * Makes PTR, of *OLD bytes, an object of SIZE in its place; *DONE says whether
 * it is one.  FORCED: though it becomes smaller and ought to move.
 */
enum heap_fault heap_resize(void *ptr, size_t size, bool forced, size_t *old,
    bool *done);

/* Whether AT lies within a live object. */
bool heap_contains(const void *at);

struct heap_totals {
	size_t objects;
	size_t bytes;     /* asked for */
	size_t guardable; /* objects that have a guard if there can be one */
};

/* Counts what is there, so that the usual ways need not. */
void heap_totals(struct heap_totals *);

/* Fork: see fork.c.  MOVING: other threads have slots and may be at them. */
void heap_fork_prepare(bool moving);
void heap_fork_parent(void);
void heap_fork_child(void);

/* All three at once, in a child whose memory is a picture of any moment. */
void heap_fork_late(void);

#endif
