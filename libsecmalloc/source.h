/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * source.h: the one seam between memory that is used and memory that is
 * locked: "give me locked pages, keep them locked".
 *
 * Above it nobody knows who locks; below it nobody knows what for.  There are
 * three kinds of source: helpers (source_helper.c); and this process itself, with
 * pages that it locks, or with secret ones (source_inprocess.c).  A source is
 * used by one thread at a time; the caller sees to that.
 */
#ifndef SOURCE_H
#define SOURCE_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client.h"
#include "descriptor.h"

struct source {
	const struct source_ops *ops; /* NULL: not open */
	struct client client;         /* of the helper source */
	uint32_t pools;               /* that it has provided or adopted */
	bool failed;                  /* it was found not to keep them */
};

/* What a source has provided, in its own terms. */
struct grant {
	uint32_t ticket;
	struct descriptor memory; /* where another can adopt it by that */
};

/* Whole pages.  Where there are several, they are in order of address. */
struct source_range {
	void *at;
	size_t size;
};

/*
 * Every function that can fail returns 0, or -1 with one of the errnos that
 * secmalloc.h lists, and then has changed nothing.  What is provided at once,
 * in one range or in several, is one pool.
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
	 * Puts zero bytes, backed by memory and locked, at the COUNT ranges,
	 * which are reserved.  On failure they are reserved as before.
	 */
	int (*provide)(struct source *, const struct source_range *,
	    size_t count, struct grant *);

	/*
	 * Locks once more, where it is, what was provided by a source that no
	 * longer keeps it.  Other threads may be using it.
	 */
	int (*adopt)(struct source *, const struct source_range *,
	    size_t count, struct grant *);

	/*
	 * Ends the lock of what was provided; the caller has wiped it and
	 * unmaps it next.
	 */
	void (*withdraw)(struct source *, struct grant *);

	/* In a child: locks its copy of what the parent had been provided. */
	int (*relock)(const struct source_range *, size_t count);

	/* Whether it can be asked for more, as far as one system call tells. */
	bool (*answers)(struct source *);

	/*
	 * Whether it keeps what it has provided locked, though it may no longer
	 * answer.  Takes no system call.
	 */
	bool (*keeps)(const struct source *);

	/*
	 * Whether every one of the COUNT ranges, which are all of all that it
	 * has provided, is locked now.  -1 with ENOLCK if not, with another
	 * errno if that cannot be told.
	 */
	int (*verify)(struct source *, const struct source_range *,
	    size_t count);

	/* One that becomes readable when it no longer keeps them; or -1. */
	int (*descriptor)(const struct source *);

	/* Ends the connection, not the locks: those end with the mappings. */
	void (*close)(struct source *);
};

static inline size_t
source_bytes(const struct source_range *ranges, size_t count)
{
	size_t bytes = 0;

	for (size_t i = 0; i < count; i++)
		bytes += ranges[i].size;
	return bytes;
}

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
extern const struct source_ops source_secret;

#endif
