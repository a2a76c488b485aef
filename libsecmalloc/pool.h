/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pool.h: pools of locked pages, and runs of pages within them.  Asks a source
 * for pools, maps them between guard pages, grows, trims and copies them for a
 * child; knows nothing of the objects in them.  Used under the heap's lock.
 *
 *      guard |  locked pages: base .. base + size   | guard
 *      guard |  struct pool | pages[] | slots[]     | guard
 *
 * The bookkeeping of a pool is a mapping of its own.  pages[] has one entry
 * per page.  Every page belongs to a run, and the entry of a run's first page,
 * its head, speaks for the run:
 *
 *      kind      npages  the rest
 *      FREE      run     -               each page of the run is marked FREE;
 *                                        the last one's head says where it begins
 *      TAKEN     run     -               to become one of the next two
 *      OBJECT    run     requested       one large object
 *      SPAN      run     class, slots    slots of one size class
 *      INNER     -       head            any further page of the latter three
 *
 * kind and npages of the heads, requested, class and slots[] are the truth;
 * all else can be made anew from them (pool_rebuild(), heap_fork_late()).  They
 * are written in an order that leaves them true after each single store, for
 * the sake of a child whose memory is a picture taken at any moment.
 */
#ifndef POOL_H
#define POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Bounded by the helper's table.  Pools double up to POOL_SIZE_MAX, so that
 * this many are 16 GiB.
 */
#define POOLS_MAX 1024

enum {
	POOL_SIZE_DEFAULT = 256 * 1024, /* whole programs need 0.02 to 1 MiB */
	POOL_PAGES_DEFAULT = 16,        /* at the least, where pages are large */
	POOL_SIZE_MAX = 16 * 1024 * 1024,
	/* The smallest slot, and what every object is aligned to. */
	SLOT_ALIGN = 16
};

enum page_kind {
	PAGE_FREE = 0,
	PAGE_INNER,
	PAGE_TAKEN,
	PAGE_OBJECT,
	PAGE_SPAN
};

struct page {
	uint8_t kind;
	uint8_t class;       /* SPAN */
	uint16_t first_free; /* SPAN: index of a free slot + 1, 0: none */
	uint16_t used;       /* SPAN: live slots */
	bool listed;         /* SPAN: in the list of its class */
	uint32_t npages;
	uint32_t head;
	size_t requested;    /* OBJECT: bytes asked for */
	struct page *next, *prev; /* SPAN: in that list */
	struct pool *pool;
};

struct pool {
	struct pool *chain; /* all pools; the table is made from it */
	unsigned char *base;
	size_t size;
	uint32_t npages;
	uint32_t free_pages;
	uint32_t ticket;
	bool initial; /* kept until the end */
	bool dead;    /* in a child: what it held was not for the child */
	bool vacated; /* dead, and its addresses are no longer ours */
	unsigned char *twin; /* while a fork is made: the child's copy */
	uint32_t twin_ticket;
	struct page *pages;
	uint16_t *slots; /* of the heap: page size / SLOT_ALIGN for each page */
};

struct pool_config {
	size_t initial_pools;
	size_t pool_size;  /* whole pages; 0: the default, or what can be had */
	size_t max_locked; /* 0: no limit of ours */
	int mode;
	bool copy_on_fork;
	const char *helper_path; /* NULL: wherever the source looks for one */
};

struct pool_totals {
	size_t pools;
	size_t bytes;
	int mode; /* -1: no source is open */
};

/* Takes CONFIG (the path is not copied) and locks the initial pools. */
int pool_start(const struct pool_config *config);

/* Gives all back, wiped. */
void pool_stop(void);

/* The pool that AT lies in, or NULL; the first, or the next one, or NULL. */
struct pool *pool_find(const void *at);
struct pool *pool_first(void);
struct pool *pool_next(const struct pool *);

/* From a page's entry to its address, and from an address to its run's head. */
void *page_address(const struct page *);
struct page *page_head(struct pool *, const void *at);

/*
 * A run of NPAGES zeroed pages, at a multiple of ALIGN pages, TAKEN; from a new
 * pool only if GROW.  NULL with errno.
 */
struct page *pool_take(size_t npages, size_t align, bool grow);

/* Gives a run back, wiped; the pool may go with it. */
void pool_give(struct page *head);

/* Gives back all but the first NPAGES of an OBJECT. */
void pool_shorten(struct page *head, size_t npages);

void pool_totals(struct pool_totals *);

/* 0, or -1 with ENOLCK; EMFILE, ENFILE or ENOMEM if it cannot be told. */
int pool_verify(void);

/* Whether the lock of what was handed out is known to be lost. */
bool pool_lost(void);

/* The same, but true only once for each loss: who asks must tell the host. */
bool pool_lost_news(void);

/*
 * Fork.  Before it, pool_fork_prepare() readies copies for the child, filled
 * by COPY, which gets a pool and where its copy is; after it, exactly one of
 * the others follows in each process.  None can fail: if there is no copy,
 * the pools are dead in the child.
 */
void pool_fork_prepare(void (*copy)(const struct pool *, unsigned char *to));
void pool_fork_parent(void);
void pool_fork_child(void);

/*
 * In a child that is a picture of a moment: makes the table and the free runs
 * anew, and frees what was TAKEN.
 */
void pool_rebuild(void);

#endif
