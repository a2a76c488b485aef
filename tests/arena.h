/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * arena.h: the least that can stand in for malloc: bytes are cut off from the
 * front of an array, and never come back.  It calls nothing, and so can be
 * called before anything else works.
 */
#ifndef TESTS_ARENA_H
#define TESTS_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifndef ARENA_SIZE
# define ARENA_SIZE (256 * 1024)
#endif

/* Before each object, so that realloc() knows how much there is. */
union arena_head {
	size_t size;
	max_align_t align;
};

static _Alignas(64) unsigned char arena[ARENA_SIZE];
static size_t arena_used;

static inline bool
arena_has(const void *object)
{
	return (uintptr_t)object - (uintptr_t)arena < sizeof arena;
}

static inline size_t
arena_size(const void *object)
{
	return ((const union arena_head *)object)[-1].size;
}

/* Zeroed; NULL if there is no more. */
static inline void *
arena_allocate(size_t align, size_t size)
{
	size_t room, begin;

	if (align < sizeof(union arena_head))
		align = sizeof(union arena_head);
	if (size > sizeof arena || align > 64)
		return NULL;
	room = (sizeof(union arena_head) + size + 2 * align - 1) & ~(align - 1);
	begin = __atomic_fetch_add(&arena_used, room, __ATOMIC_RELAXED);
	if (begin > sizeof arena - room)
		return NULL;
	begin = (begin + sizeof(union arena_head) + align - 1) & ~(align - 1);
	((union arena_head *)(void *)(arena + begin))[-1].size = size;
	return arena + begin;
}

#endif
