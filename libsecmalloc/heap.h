/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * heap.h: objects: their sizes, slots and spans.  Knows addresses, nothing of
 * locking.  All but heap_lock() is called with the lock held.
 */
#ifndef HEAP_H
#define HEAP_H

#include <stdbool.h>
#include <stddef.h>

/* What is wrong with a pointer that a caller hands in. */
enum heap_fault {
	HEAP_FINE = 0,
	HEAP_FOREIGN,  /* not a pointer of this library */
	HEAP_INTERIOR, /* not the start of an object */
	HEAP_FREED,    /* the start of what is no longer an object */
	HEAP_OVERFLOW, /* the canary after it is damaged */
	HEAP_DENIED    /* in a child: of the parent, and not for the child */
};

void heap_lock(void);
void heap_unlock(void);

/* Once the pools have started, and before they stop. */
void heap_start(void);
void heap_stop(void);

/* SIZE zeroed bytes at a multiple of ALIGN, a power of two; NULL with errno. */
void *heap_allocate(size_t size, size_t align);

/* Wipes and frees. */
enum heap_fault heap_free(void *ptr);

/* The size asked for. */
enum heap_fault heap_size(const void *ptr, size_t *size);

/*
 * Makes *PTR an object of SIZE bytes, which may move; -1 with errno in
 * *FAILED, and then nothing has changed.
 */
enum heap_fault heap_resize(void **ptr, size_t size, int *failed);

/* Whether AT lies within a live object. */
bool heap_contains(const void *at);

struct heap_totals {
	size_t objects;
	size_t bytes;
};

void heap_totals(struct heap_totals *);

/* Fork: see fork.c. */
void heap_fork_prepare(void);
void heap_fork_parent(void);
void heap_fork_child(void);

/* All three at once, in a child whose memory is a picture of any moment. */
void heap_fork_late(void);

#endif
