/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * guards.c: pages that cannot be accessed, behind objects and around them, and
 * objects that cannot be, while that is asked for.
 */
#include "config.h"

#include <errno.h>
#include <string.h>

#include "memory.h"
#include "pools.h"
#include "secmalloc.h"
#include "window.h"

enum {
	/* What a guard may take: it parts a mapping in three. */
	MAPPINGS_OF_GUARD = 2,
	/* Pool, records and books, and what is between them. */
	MAPPINGS_OF_POOL = 8
};

static void *
guard_page(const struct block *head)
{
	return (unsigned char *)block_address(head) +
	    ((size_t)head->nblocks << BLOCK_SHIFT) - memory_page_size();
}

/* Whether there are mappings for so many MORE guards. */
static bool
has_mappings(size_t more)
{
	size_t mappings = (pools.guards + pools.fences + more) *
	    MAPPINGS_OF_GUARD + pools.count * MAPPINGS_OF_POOL;

	return mappings < pools.map_limit / 2;
}

void
pool_guard(struct block *head)
{
	if (!has_mappings(1) || memory_make_inaccessible(guard_page(head),
	    memory_page_size()) == -1)
		return;
	head->guarded = true;
	pools.guards++;
}

/* A run of its own; in a pool that is never empty from here on. */
static void
lose_last_page(struct block *head)
{
	uint32_t page = blocks_of_page(), end = block_index(head) + head->nblocks;
	struct block *lost = &head->pool->blocks[end - page];

	blocks_mark_inner(head->pool, end - page, end - page + 1, end);
	PUBLISH(lost->nblocks, page);
	PUBLISH(lost->kind, BLOCK_LOST);
	PUBLISH(head->nblocks, head->nblocks - page);
}

/* Of a TAKEN run; what is left of it. */
static struct block *
lose_first_page(struct block *head)
{
	uint32_t page = blocks_of_page(), at = block_index(head);
	struct block *rest = head + page;

	/* Another head speaks for the rest before this one stops to. */
	blocks_mark_inner(head->pool, at + page, at + page + 1, at + head->nblocks);
	PUBLISH(rest->nblocks, head->nblocks - page);
	PUBLISH(rest->kind, BLOCK_TAKEN);
	PUBLISH(head->nblocks, page);
	PUBLISH(head->kind, BLOCK_LOST);
	return rest;
}

void
pool_unguard(struct block *head)
{
	if (!head->guarded)
		return;
	head->guarded = false;
	pools.guards--;
	if (memory_make_writable(guard_page(head), memory_page_size()) == -1)
		lose_last_page(head);
}

/*
 * All that can take a mapping comes first, and can be undone.  From then on
 * front, inside and rear are mappings of their own, whatever is beside them: to
 * change what they allow takes none.
 */
static int
close_ends(const struct block *head)
{
	void *front = block_address(head), *rear = guard_page(head);
	size_t page = memory_page_size();

	if (memory_mark(front, page, MEMORY_FRONT) == -1)
		return -1;
	if (memory_mark(rear, page, MEMORY_REAR) == -1) {
		(void)memory_mark(front, page, MEMORY_PLAIN);
		errno = ENOMEM;
		return -1;
	}
	return memory_make_inaccessible(front, page) == -1 ||
	    memory_make_inaccessible(rear, page) == -1 ? -1 : 0;
}

static bool
open_end(void *at)
{
	if (memory_make_writable(at, memory_page_size()) == -1)
		return false;
	(void)memory_mark(at, memory_page_size(), MEMORY_PLAIN);
	return true;
}

static struct block *
open_ends(struct block *head)
{
	bool front = open_end(block_address(head));
	bool rear = open_end(guard_page(head));

	if (!rear)
		lose_last_page(head);
	return front ? head : lose_first_page(head);
}

int
pool_fence(struct block *head)
{
	if (has_mappings(2) && close_ends(head) == 0) {
		head->guarded = head->fenced = true;
		head->access = SECMALLOC_READWRITE;
		pools.guards++;
		pools.fences++;
		return 0;
	}
	pool_give(open_ends(head));
	errno = ENOMEM;
	return -1;
}

struct block *
pool_unfence(struct block *head)
{
	/* First: without its fence the object would be in another place. */
	PUBLISH(head->kind, BLOCK_TAKEN);
	head->guarded = head->fenced = false;
	pools.guards--;
	pools.fences--;
	return open_ends(head);
}

unsigned char *
pool_inside(const struct block *head, size_t *size)
{
	size_t page = memory_page_size();

	*size = ((size_t)head->nblocks << BLOCK_SHIFT) - 2 * page;
	return (unsigned char *)block_address(head) + page;
}

static int
limit(const struct block *head, int access)
{
	size_t size;
	void *at = pool_inside(head, &size);

	if (access == SECMALLOC_READWRITE)
		return memory_make_writable(at, size);
	if (access == SECMALLOC_READONLY)
		return memory_make_readable(at, size);
	return memory_make_inaccessible(at, size);
}

/* What the books say can be read, can be, in whichever picture. */
int
pool_access(struct block *head, int access)
{
	uint8_t was = head->access;

	if (access < was)
		PUBLISH(head->access, (uint8_t)access);
	if (limit(head, access) == -1) {
		PUBLISH(head->access, was);
		return -1;
	}
	PUBLISH(head->access, (uint8_t)access);
	return 0;
}

/* Where in the file of POOL its pages at AT are. */
static size_t
offset_in_file(const struct pool *pool, const unsigned char *at)
{
	size_t n = ranges_of(pool), i = 0;

	while (i + 1 < n && (uintptr_t)pool_ranges[i + 1].at <= (uintptr_t)at)
		i++;
	return source_bytes(pool_ranges, i) +
	    (size_t)(at - (unsigned char *)pool_ranges[i].at);
}

const void *
pool_view(const struct block *head)
{
	const struct pool *pool = head->pool;
	const struct descriptor *file = &pool->grant.memory;
	size_t size;
	unsigned char *at = pool_inside(head, &size);
	/* The other way counts as locked where we lock, and valgrind has none. */
	void *view = !descriptor_is_ours(file) ? memory_view(at, size) :
	    memory_view_file(file->fd, offset_in_file(pool, at), size);

	if (view != NULL && window_reveal(view, size) == -1) {
		memory_unview(view, size);
		view = NULL;
	}
	return view;
}

void
pool_abandon(struct block *head)
{
	size_t size;
	void *at = pool_inside(head, &size);

	/* RLIMIT_DATA, of which only private pages are, or no memory at all. */
	if (!pools.ops->shared)
		memory_discard_locked(at, size);
	PUBLISH(head->kind, BLOCK_LOST);
	head->guarded = head->fenced = false;
	pools.guards--;
	pools.fences--;
}

void
guards_count(const struct pool *pool)
{
	for (uint32_t i = 0; i < pool->nblocks; i += pool->blocks[i].nblocks) {
		const struct block *head = &pool->blocks[i];

		if (head->kind != BLOCK_OBJECT)
			continue;
		pools.guards += head->guarded;
		pools.fences += head->fenced;
	}
}

/*
 * Guards are of the address space, and a new mapping has none.  False if a fence
 * cannot be made.
 */
bool
guards_restore(struct pool *pool)
{
	for (uint32_t i = 0; i < pool->nblocks; i += pool->blocks[i].nblocks) {
		struct block *head = &pool->blocks[i];

		if (head->kind == BLOCK_LOST)
			(void)memory_make_inaccessible(block_address(head),
			    (size_t)head->nblocks << BLOCK_SHIFT);
		if (head->kind != BLOCK_OBJECT || !head->guarded)
			continue;
		if (head->fenced) {
			if (close_ends(head) == -1 ||
			    limit(head, head->access) == -1)
				return false;
			continue;
		}
		head->guarded = memory_make_inaccessible(guard_page(head),
		    memory_page_size()) == 0;
		pools.guards -= !head->guarded;
	}
	return true;
}

/* Adjoining pages that cannot be touched, whatever they are of. */
struct closed {
	unsigned char *at;
	size_t size;
};

static int
open_closed(struct closed *closed)
{
	return closed->size == 0 ? 0 :
	    memory_make_readable(closed->at, closed->size);
}

/* Before a part comes another one, or nothing of it. */
static int
add_closed(struct closed *closed, void *at, size_t size)
{
	if (closed->at + closed->size == at) {
		closed->size += size;
		return 0;
	}
	if (open_closed(closed) == -1)
		return -1;
	*closed = (struct closed){ at, size };
	return 0;
}

/*
 * What is inaccessible cannot be locked (mm/gup.c): it can be read, for the
 * moment, but not written.
 */
int
guards_open(struct pool *pool)
{
	size_t page = memory_page_size();
	struct closed closed = { pool->base, 0 };

	for (uint32_t i = 0; i < pool->nblocks; i += pool->blocks[i].nblocks) {
		struct block *head = &pool->blocks[i];
		size_t size = (size_t)head->nblocks << BLOCK_SHIFT;
		unsigned char *at = block_address(head);

		if (head->kind == BLOCK_LOST) {
			if (add_closed(&closed, at, size) == -1)
				return -1;
			continue;
		}
		if (head->kind != BLOCK_OBJECT || !head->guarded)
			continue;
		if (head->fenced && (add_closed(&closed, at, page) == -1 ||
		    (head->access == SECMALLOC_NOACCESS &&
		    add_closed(&closed, at + page, size - 2 * page) == -1)))
			return -1;
		if (add_closed(&closed, guard_page(head), page) == -1)
			return -1;
	}
	return open_closed(&closed);
}
