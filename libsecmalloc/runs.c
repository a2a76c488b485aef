/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * runs.c: a treap of free runs (Seidel and Aragon, "Randomized search trees",
 * 1996), its links in the runs' own entries; must not know where runs come
 * from.
 */
#include "config.h"

#include <stdbool.h>
#include <stddef.h>

#include "pool.h"
#include "runs.h"

static struct block *root;

/* As good as random, for blocks of one program; nobody chooses addresses. */
static uint32_t
priority(const struct block *block)
{
	return (uint32_t)(((uint64_t)(uintptr_t)block *
	    UINT64_C(0x9e3779b97f4a7c15)) >> 32);
}

static bool
is_before(const struct block *a, const struct block *b)
{
	return a->nblocks < b->nblocks ||
	    (a->nblocks == b->nblocks && (uintptr_t)a < (uintptr_t)b);
}

void
runs_insert(struct block *head)
{
	struct block **link = &root, *rest;
	struct block **before = &head->left, **after = &head->right;

	while (*link != NULL && priority(*link) >= priority(head))
		link = is_before(*link, head) ? &(*link)->right :
		    &(*link)->left;
	rest = *link;
	*link = head;
	/* What was there is parted into what is before and what is after. */
	while (rest != NULL)
		if (is_before(rest, head)) {
			*before = rest;
			before = &rest->right;
			rest = rest->right;
		} else {
			*after = rest;
			after = &rest->left;
			rest = rest->left;
		}
	*before = *after = NULL;
}

void
runs_remove(struct block *head)
{
	struct block **link = &root;
	struct block *before = head->left, *after = head->right;

	while (*link != head)
		link = is_before(*link, head) ? &(*link)->right :
		    &(*link)->left;
	while (before != NULL && after != NULL)
		if (priority(before) >= priority(after)) {
			*link = before;
			link = &before->right;
			before = before->right;
		} else {
			*link = after;
			link = &after->left;
			after = after->left;
		}
	*link = before != NULL ? before : after;
	head->left = head->right = NULL;
}

struct block *
runs_fit(uint32_t nblocks)
{
	struct block *found = NULL;

	for (struct block *block = root; block != NULL; )
		if (block->nblocks >= nblocks) {
			found = block;
			block = block->left;
		} else
			block = block->right;
	return found;
}

struct block *
runs_after(const struct block *head)
{
	struct block *found = NULL;

	for (struct block *block = root; block != NULL; )
		if (is_before(head, block)) {
			found = block;
			block = block->left;
		} else
			block = block->right;
	return found;
}

void
runs_clear(void)
{
	root = NULL;
}
