/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * runs.h: the free runs of all pools, in the order of their lengths and, of the
 * same length, of their addresses.  A run must not change while it is in here.
 */
#ifndef RUNS_H
#define RUNS_H

#include <stdint.h>

struct block;

/* O(log n) each. */
void runs_insert(struct block *head);
void runs_remove(struct block *head);

/* The shortest run of at least NBLOCKS; the one after HEAD in order; or NULL. */
struct block *runs_fit(uint32_t nblocks);
struct block *runs_after(const struct block *head);

void runs_clear(void);

#endif
