/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * objects.h: objects of every kind of size whose bytes tell what they should be.
 */
#ifndef TESTS_OBJECTS_H
#define TESTS_OBJECTS_H

#include <setjmp.h>

#include "children.h"

#define KIB ((size_t)1024)
#define MIB (1024 * KIB)

/* Objects of sizes from slots to pages to pools of their own. */
static const size_t sizes[] = {
	0, 1, 16, 24, 100, 1000, 4000, 4096, 5000, 20000, 100 * KIB, 600 * KIB
};

#define OBJECTS (sizeof(sizes) / sizeof(sizes[0]))

static unsigned char *objects[OBJECTS];

static inline void
fill_objects(unsigned char seed)
{
	for (size_t i = 0; i < OBJECTS; i++)
		memset(objects[i], (int)(seed + i), sizes[i]);
}

static inline void
make_objects(unsigned char seed)
{
	for (size_t i = 0; i < OBJECTS; i++)
		expect((objects[i] = secmalloc(sizes[i])) != NULL);
	fill_objects(seed);
}

/* Asks nothing of the library. */
static inline bool
bytes_are(size_t i, unsigned char seed)
{
	for (size_t at = 0; at < sizes[i]; at++)
		if (objects[i][at] != (unsigned char)(seed + i))
			return false;
	return true;
}

static inline bool
objects_are(unsigned char seed)
{
	for (size_t i = 0; i < OBJECTS; i++)
		if (secmalloc_usable_size(objects[i]) != sizes[i] ||
		    !bytes_are(i, seed))
			return false;
	return true;
}

/* Whether ARE says so of the bytes of every object that has any. */
static inline bool
objects_all(bool (*are)(const void *at, size_t size))
{
	for (size_t i = 0; i < OBJECTS; i++)
		if (sizes[i] != 0 && !are(objects[i], sizes[i]))
			return false;
	return true;
}

static inline bool
objects_locked(void)
{
	return objects_all(pages_locked);
}

/* Frees them all; each checks the canary. */
static inline void
free_objects(void)
{
	for (size_t i = 0; i < OBJECTS; i++)
		secfree(objects[i]);
}

static inline void
use_allocator(void)
{
	static const size_t some[] = { 1, 64, 3000, 70000, 400 * KIB };

	for (size_t i = 0; i < sizeof(some) / sizeof(some[0]); i++) {
		unsigned char *p = secmalloc(some[i]);

		expect(p != NULL);
		for (size_t at = 0; at < some[i]; at++)
			expect(p[at] == 0);
		memset(p, 0xa5, some[i]);
		expect((p = secrealloc(p, some[i] * 2)) != NULL);
		expect(p[some[i] - 1] == 0xa5 && p[some[i]] == 0);
		secfree(p);
	}
}

static sigjmp_buf fault;

static inline void
on_fault(int sig)
{
	siglongjmp(fault, sig);
}

/* Whether touching *AT faults. */
__attribute__((no_sanitize_address)) static inline bool
faults(volatile unsigned char *at)
{
	struct sigaction catch = { .sa_handler = on_fault }, segv, bus;
	volatile bool faulted = true;

	(void)sigaction(SIGSEGV, &catch, &segv);
	(void)sigaction(SIGBUS, &catch, &bus);
	if (sigsetjmp(fault, 1) == 0) {
		(void)*at;
		faulted = false;
	}
	(void)sigaction(SIGSEGV, &segv, NULL);
	(void)sigaction(SIGBUS, &bus, NULL);
	return faulted;
}

#endif
