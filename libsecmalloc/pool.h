/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pool.h: pools of locked pages, and runs of blocks within them.  Asks a source
 * for pools, puts them at random places of one region of addresses, grows,
 * trims and copies them for a child; knows nothing of the objects in them.
 * Used under the heap's lock.
 *
 *      region:      ... | locked pages: base .. base + size | ...
 *      records:     ... | a byte for each RECORD_UNIT bytes | ...
 *      tags:        ... | a struct tag for each block        | ...
 *      books:       guard | struct pool | blocks[] | guard
 *
 * Between pools, and at either end of the region and of all else, is at least
 * a page that cannot be touched.  Records and tags of addresses that no pool
 * has are zero, and can be read.
 *
 * A block is BLOCK_SIZE bytes, whatever the size of a page.  blocks[] has one
 * entry per block.  Every block belongs to a run, and the entry of a run's
 * first block, its head, speaks for the run:
 *
 *      kind      nblocks  the rest
 *      FREE      run      left, right      each block of the run is marked FREE;
 *                                          the last one's head says where it begins
 *      TAKEN     run      -                to become one of the next two
 *      OBJECT    run      requested,       one large object
 *                         fenced, access
 *      SPAN      run      class, records   slots of one size class
 *      LOST      run      -                pages that stay inaccessible
 *      ABSENT    run      -                addresses without pages, in a child
 *      INNER     -        head             any further block of the latter five
 *
 * kind and nblocks of the heads, requested, fenced, access, class and the
 * records are the truth; all else can be made anew from them (pool_rebuild(),
 * heap_fork_late()).  They are written in an order that leaves them true after
 * each single store, for the sake of a child whose memory is a picture taken
 * at any moment.
 */
#ifndef POOL_H
#define POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "source.h"

/*
 * Bounded by the helper's table.  Pools double up to POOL_SIZE_MAX, so that
 * this many are 16 GiB.
 */
#define POOLS_MAX 1024

enum {
	BLOCK_SHIFT = 12,
	BLOCK_SIZE = 1 << BLOCK_SHIFT,
	/* No slot is smaller, so no record is of two. */
	RECORD_SHIFT = 5,
	RECORD_UNIT = 1 << RECORD_SHIFT,
	/* What every object is aligned to. */
	SLOT_ALIGN = 16,
	POOL_SIZE_DEFAULT = 256 * 1024, /* whole programs need 0.02 to 1 MiB */
	POOL_PAGES_DEFAULT = 16,        /* at the least, where pages are large */
	POOL_SIZE_MAX = 16 * 1024 * 1024
};

enum block_kind {
	BLOCK_FREE = 0,
	BLOCK_INNER,
	BLOCK_TAKEN,
	BLOCK_OBJECT,
	BLOCK_SPAN,
	BLOCK_LOST,
	BLOCK_ABSENT
};

struct block {
	uint8_t kind;
	uint8_t class;    /* SPAN */
	bool listed;      /* SPAN: in the list of its class */
	bool guarded;     /* OBJECT: its last page is inaccessible */
	uint32_t nblocks;
	uint32_t head;
	union {
		uint32_t used; /* SPAN: slots that are not free */
		struct {       /* OBJECT: */
			bool fenced;    /* its first page is, too */
			uint8_t access; /* to a fenced one: SECMALLOC_* */
		};
	};
	size_t requested; /* OBJECT: bytes asked for */
	struct pool *pool;
	union {
		struct { struct block *left, *right; }; /* FREE: see runs.c */
		struct { struct block *next, *prev; };  /* SPAN: in its list */
	};
};

struct pool {
	struct pool *chain; /* all pools; the table is made from it */
	unsigned char *base;
	size_t size;
	uint32_t nblocks;
	uint32_t free_blocks;
	uint32_t absent_blocks;
	struct source *source; /* who keeps it locked */
	struct grant grant;    /* ... and what it knows it by */
	bool initial; /* kept until the end */
	bool spare;   /* empty, and kept for what comes next */
	bool dead;    /* in a child: what it held was not for the child */
	bool vacated; /* dead, and its addresses are no longer ours */
	/* While a fork is made: */
	uint32_t gap;        /* what the child need not have: see next_hole() */
	unsigned char *twin; /* the child's copy, ... */
	struct grant twin_grant;
	uint8_t *picture;    /* ... and the records it was made from, if needed */
	struct block blocks[];
};

struct pool_config {
	size_t initial_pools;
	size_t pool_size;  /* whole pages; 0: the default, or what can be had */
	size_t max_locked; /* 0: no limit of ours */
	int mode;
	bool secret;      /* of secret memory, and not as MODE says ... */
	bool secret_else; /* ... unless that cannot be had at the start */
	bool copy_on_fork;
	bool belt; /* what a helper locks, this process locks too, if it may */
	const char *helper_path; /* NULL: wherever the source looks for one */
};

struct pool_totals {
	size_t pools;
	size_t bytes;
	size_t books;
	size_t guards;
	int mode; /* -1: no source is open */
};

/*
 * Takes CONFIG (the path is not copied), reserves the region and locks the
 * initial pools.  What is fixed must be open.
 */
int pool_start(const struct pool_config *config);

/* Gives all back, wiped. */
void pool_stop(void);

/* The pool that AT lies in, or NULL; the first, or the next one, or NULL. */
struct pool *pool_find(const void *at);
struct pool *pool_first(void);
struct pool *pool_next(const struct pool *);

/* From a block's entry to its address, and from an address to its run's head. */
void *block_address(const struct block *);
struct block *block_head(struct pool *, const void *at);

/* The records of what lies at AT and after it. */
uint8_t *pool_records(const void *at);

/*
 * A run of NBLOCKS zeroed blocks, at a multiple of ALIGN blocks, TAKEN: the
 * shortest that fits; from a new pool only if GROW.  NULL with errno.
 */
struct block *pool_take(size_t nblocks, size_t align, bool grow);

/* Gives a run back, wiped; the pool may go with it. */
void pool_give(struct block *head);

/*
 * Whether little is all that keeps POOL, or any of them, from being empty.  It
 * may be nothing that anybody needs.
 */
bool pool_is_left_over(const struct pool *);
bool pool_leftovers(void);

/* The same, but true only once after runs were given back. */
bool pool_has_shrunk(void);

/* Gives back all but the first NBLOCKS of an OBJECT without a guard. */
void pool_shorten(struct block *head, size_t nblocks);

/* Makes an OBJECT without a guard NBLOCKS long, if what follows is free. */
bool pool_extend(struct block *head, size_t nblocks);

/*
 * Makes the last page of an OBJECT, which begins and ends with a page,
 * inaccessible, if the number of mappings that this takes is there to be had;
 * and accessible once more.  The latter may cost the page: the run is shorter
 * then.
 */
void pool_guard(struct block *head);
void pool_unguard(struct block *head);

/*
 * A fenced object lies between two pages of its run that are inaccessible, and
 * to what is between them access can be limited.
 *
 * pool_fence() makes of a TAKEN run one that is fenced, to be read and written,
 * once it is an OBJECT; or gives it back and returns -1 with ENOMEM.
 * pool_unfence() makes a fenced OBJECT, its inside writable and wiped, a TAKEN
 * run, which may be shorter.
 */
int pool_fence(struct block *head);
struct block *pool_unfence(struct block *head);

/* What is between the two, and its size. */
unsigned char *pool_inside(const struct block *head, size_t *size);

/* Limits the access to that, to SECMALLOC_*; -1 with ENOMEM. */
int pool_access(struct block *head, int access);

/*
 * The same to be read elsewhere, whatever the access to it; until it is given to
 * memory_unview().  NULL with errno.  Of a pool that a fork would share only.
 */
const void *pool_view(const struct block *head);

/* Drops a fenced OBJECT that cannot be made writable, and its run for good. */
void pool_abandon(struct block *head);

void pool_totals(struct pool_totals *);

/*
 * Sees to it that what was handed out is locked: what has lost its lock gets
 * another, or it is not true.  Takes no system call while all is well.
 */
bool pool_keep(void);

/*
 * The same after a look at all that is: 0, or -1 with ENOLCK; EMFILE, ENFILE or
 * ENOMEM if it cannot be told.
 */
int pool_verify(void);

/*
 * A descriptor that becomes readable when a lock is lost, or -1 with ENOTSUP if
 * there is none, or ENOLCK.
 */
int pool_lock_fd(void);

/* Whether the lock of what was handed out was lost when it was last asked. */
bool pool_lost(void);

/* The same, but true only once for each loss: who asks must tell the host. */
bool pool_lost_news(void);

/*
 * Fork.  Before it, pool_fork_prepare() readies copies for the child, of what
 * is in use, filled by COPY, which gets a pool and where its copy is, and says
 * whether it could; after it, exactly one of the others follows in each
 * process.  None of these can fail: if there is no copy, the pools are dead in
 * the child.  With MOVING set other threads may change records meanwhile, and a
 * picture of these is taken first: COPY goes by it, and in the child MEND is
 * told the pool, to set right what came after it.
 */
void pool_fork_prepare(bool (*copy)(const struct pool *, unsigned char *to),
    bool moving);
void pool_fork_parent(void);
void pool_fork_child(void (*mend)(struct pool *));

/*
 * In a child that is a picture of a moment: makes the table and the free runs
 * anew, and frees what was TAKEN.
 */
void pool_rebuild(void);

#endif
