/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fixed.h: what is found out once, when the library starts, and cannot be
 * written from then until it stops; knows nothing of what any of it is for.
 *
 * It fills pages of its own in the library's data, so that reading it takes no
 * pointer, and a stray write to it faults.
 */
#ifndef FIXED_H
#define FIXED_H

#include <stddef.h>
#include <stdint.h>

enum {
	/* Of slots: 21 small ones, 24 larger ones, 4 for alignments. */
	CLASSES = 49,
	/* The largest page of a target; where it is larger, nothing is sealed. */
#if defined(__x86_64__) || defined(__i386__) || defined(__s390__)
	FIXED_ALIGN = 4096
#elif defined(__MACH__)
	FIXED_ALIGN = 16384 /* and a section there has 32768 at most */
#else
	FIXED_ALIGN = 65536
#endif
};

/*
 * Of a block in a span, and of a size: where in a cache the bin of its slots
 * is, and how many times 16 bytes each of them has, if they are small.
 */
struct tag {
	uint16_t bin;
	uint16_t units;
};

struct fixed_values {
	/*
	 * The region: SIZE addresses from BASE on, all pools among them.  Of
	 * every RECORD_UNIT bytes there is a record, of every block a tag;
	 * what they say is the heap's (see heap.h).
	 */
	uintptr_t base;
	size_t size;
	uint8_t *records;
	struct tag *tags;
	/* The protection key of all pool memory; 0: it has none. */
	int window;
	/* The canaries' keys; both odd. */
	uint64_t key[2];
	/* Slots of each class, and their spans. */
	struct {
		uint32_t size;
		uint32_t nblocks;
		uint32_t nslots;
		struct tag tag; /* of their blocks */
	} classes[CLASSES];
};

union fixed_pages {
	struct fixed_values is;
	unsigned char pages[FIXED_ALIGN];
};

extern union fixed_pages fixed_pages;

#define fixed (fixed_pages.is)

_Static_assert(sizeof(struct fixed_values) <= FIXED_ALIGN, "one page holds it");

/* Makes it read-only, where the kernel can; and writable, for whoever sets it. */
void fixed_seal(void);
void fixed_open(void);

#endif
