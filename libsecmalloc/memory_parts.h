/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * memory_parts.h: what memory.c needs of the system that it is built for, in
 * the folder of that name, and offers to it.  Nobody else includes it.
 */
#ifndef MEMORY_PARTS_H
#define MEMORY_PARTS_H

#include <stddef.h>

/*
 * As mmap(2): new private pages that no file has, with FLAGS beside what that
 * takes.  Where the system says so for a mapping, no core file has them either.
 */
void *memory_map_new(void *at, size_t size, int protection, int flags);

/* The same anywhere, inaccessible, which takes addresses and nothing else. */
void *memory_map_reserved(size_t size);

/* As memory_wiped_on_fork(), of pages that are there; 0, or -1 with errno. */
int memory_wipe_in_children(void *at, size_t size);

/* 0 if GOT is a mapping that can be accessed, -1 if there is none. */
int memory_mapped(void *got, size_t size);

#endif
