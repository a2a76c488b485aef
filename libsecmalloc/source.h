/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * source.h: the one seam between memory that is used and memory that is
 * locked: "give me locked pages, keep them locked".
 *
 * Above it nobody knows who locks; below it nobody knows what for.  There are
 * two sources: a helper (source_helper.c) and this process itself
 * (source_inprocess.c).  A source is used by one thread at a time; the caller
 * sees to that.
 */
#ifndef SOURCE_H
#define SOURCE_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client.h"

struct source {
	const struct source_ops *ops; /* NULL: not open */
	struct client client;         /* of the helper source */
};

struct source_range {
	void *at;
	size_t size;
};

/*
 * Every function that can fail returns 0, or -1 with one of the errnos that
 * secmalloc.h lists, and then has changed nothing.
 */
struct source_ops {
	/* SECMALLOC_MODE_HELPER or _INPROCESS. */
	int mode;

	/*
	 * Whether a fork shares with the child what was provided, so that the
	 * child needs copies made; otherwise the kernel copies the bytes, but
	 * not the lock, and the child needs relock().
	 */
	bool shared;

	/*
	 * Finds out whether this source can lock anything at all.  HELPER_PATH
	 * is the one place to look for a helper; NULL means the usual ones.
	 */
	int (*open)(struct source *, const char *helper_path);

	/*
	 * Puts SIZE zero bytes, backed by memory and locked, at AT, which is
	 * reserved.  On failure AT is reserved as before.  TICKET is the
	 * source's own name for what it gave.
	 */
	int (*provide)(struct source *, void *at, size_t size,
	    uint32_t *ticket);

	/*
	 * Ends the lock of what was provided; the caller has wiped it and
	 * unmaps it next.
	 */
	void (*withdraw)(struct source *, uint32_t ticket);

	/* In a child: locks its copy of what the parent had been provided. */
	int (*relock)(void *at, size_t size);

	/* Whether the source still stands, as far as one system call tells. */
	bool (*alive)(struct source *);

	/*
	 * Whether every one of the COUNT ranges, which are all that it has
	 * provided, in the order of their addresses, is locked now.  -1 with
	 * ENOLCK if not, with another errno if that cannot be told.
	 */
	int (*verify)(struct source *, const struct source_range *,
	    size_t count);

	/* Ends the connection, not the locks: those end with the mappings. */
	void (*close)(struct source *);
};

/*
 * Of two refusals, in the order in which they came, the one that says more: a
 * quota stands in the way of nobody else, and EPERM is also what is said where
 * nothing is installed.
 */
static inline int
source_refusal(int first, int second)
{
	return first == EPERM || second == EDQUOT ? second : first;
}

extern const struct source_ops source_helper;
extern const struct source_ops source_inprocess;

#endif
