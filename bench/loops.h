/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * loops.h: the loops that every allocator is put through.  Each peer_*.c
 * defines peer_malloc, peer_free and peer_realloc and then includes this, so
 * that no call is slower for coming by a pointer.  Of every object the first
 * and the last byte are written.
 */
#include <sched.h>

#include "bench.h"

/* So that the compiler keeps what is written, and the call. */
static inline bool
touch(unsigned char *at, size_t size)
{
	if (at == NULL)
		return false;
	at[0] = 1;
	at[size - 1] = 2;
	__asm__ volatile("" : : "r"(at) : "memory");
	return true;
}

/* A step of Marsaglia's xorshift, of which all bits are good enough here. */
static inline uint64_t
draw(struct work *work)
{
	uint64_t x = work->random;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return work->random = x;
}

static inline size_t
size_drawn(const struct work *work, uint64_t drawn)
{
	return work->size != 0 ? work->size : sizes[drawn % SIZES];
}

static size_t
loop_grow(struct work *work)
{
	for (size_t i = 0; i < work->count; i++) {
		size_t size = size_drawn(work, draw(work));
		unsigned char *at = peer_malloc(size);

		if (!touch(at, size))
			return i;
		work->live[i] = (struct object){ at, size };
		if (i % 64 == 63 && work->deadline != 0 &&
		    now_ns() > work->deadline)
			return i + 1;
	}
	return work->count;
}

static bool
loop_pair(struct work *work, size_t n)
{
	size_t size = work->size;

	for (; n > 0; n--) {
		unsigned char *at = peer_malloc(size);

		if (!touch(at, size))
			return false;
		peer_free(at, size);
	}
	return true;
}

static bool
loop_replace(struct work *work, size_t n)
{
	for (; n > 0; n--) {
		uint64_t drawn = draw(work);
		struct object *object = &work->live[
		    ((drawn >> 32) * work->count) >> 32];
		size_t size = size_drawn(work, drawn);
		unsigned char *at;

		peer_free(object->at, object->size);
		at = peer_malloc(size);
		*object = (struct object){ at, size };
		if (!touch(at, size))
			return false;
	}
	return true;
}

/* For another thread to go on; which may be waiting for this processor. */
static inline void
ring_wait(unsigned *turns)
{
	if (++*turns % 1024 == 0)
		(void)sched_yield();
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#endif
}

static inline void
ring_put(struct ring *ring, unsigned char *at)
{
	size_t put = atomic_load_explicit(&ring->put, memory_order_relaxed);
	unsigned turns = 0;

	while (put - ring->taken_seen == RING_SLOTS) {
		ring->taken_seen = atomic_load_explicit(&ring->taken,
		    memory_order_acquire);
		if (put - ring->taken_seen == RING_SLOTS)
			ring_wait(&turns);
	}
	ring->slots[put % RING_SLOTS] = at;
	atomic_store_explicit(&ring->put, put + 1, memory_order_release);
}

static inline unsigned char *
ring_take(struct ring *ring)
{
	size_t taken = atomic_load_explicit(&ring->taken,
	    memory_order_relaxed);
	unsigned turns = 0;
	unsigned char *at;

	while (ring->put_seen == taken) {
		ring->put_seen = atomic_load_explicit(&ring->put,
		    memory_order_acquire);
		if (ring->put_seen == taken)
			ring_wait(&turns);
	}
	at = ring->slots[taken % RING_SLOTS];
	atomic_store_explicit(&ring->taken, taken + 1, memory_order_release);
	return at;
}

static bool
loop_put(struct work *work, size_t n)
{
	for (; n > 0; n--) {
		unsigned char *at = peer_malloc(work->size);

		if (!touch(at, work->size))
			return false;
		ring_put(work->ring, at);
	}
	return true;
}

static void
loop_end(struct work *work)
{
	ring_put(work->ring, NULL);
}

static void
loop_take(struct work *work)
{
	unsigned char *at;

	while ((at = ring_take(work->ring)) != NULL)
		peer_free(at, work->size);
}

/* N times all the way from 16 bytes to 64 KiB. */
static inline bool
resize(size_t n, size_t factor, size_t more)
{
	for (; n > 0; n--) {
		size_t size = 16;
		unsigned char *at = peer_malloc(size);

		if (!touch(at, size))
			return false;
		while (size < 65536) {
			size_t larger = size * factor + more;
			unsigned char *moved = peer_realloc(at, size, larger);

			if (!touch(moved, larger)) {
				peer_free(at, size);
				return false;
			}
			at = moved;
			size = larger;
		}
		peer_free(at, size);
	}
	return true;
}

static bool
loop_doubling(struct work *work, size_t n)
{
	(void)work;
	return resize(n, 2, 0);
}

static bool
loop_steps(struct work *work, size_t n)
{
	(void)work;
	return resize(n, 1, 16);
}

static const struct loops loops = {
	.grow = loop_grow,
	.pair = loop_pair,
	.replace = loop_replace,
	.put = loop_put,
	.end = loop_end,
	.take = loop_take,
	.doubling = loop_doubling,
	.steps = loop_steps,
};
