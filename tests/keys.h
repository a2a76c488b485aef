/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * keys.h: protection keys for a processor that has none, by mprotect(2): what
 * has a key is inaccessible to the whole process while nobody has access by it.
 * Linked with --wrap, so that all mappings are known here.
 *
 * Unlike real ones they are not a thread's own, and a signal handler begins
 * with what it interrupts; the fault is another SIGSEGV.  Like real ones they
 * stop system calls, mlock(2) among them; and they stay with a mapping that is
 * protected anew or moved, and not with its addresses.
 */
#ifndef TESTS_KEYS_H
#define TESTS_KEYS_H

#include <stdarg.h>
#include <stdint.h>
#include <sys/mman.h>

#include "faults.h"

enum { KEYS = 16, KEYED_MAX = 1024 };

static struct keyed {
	uintptr_t from, to;
	int protection, key;
} keyed[KEYED_MAX];
static size_t keyed_count;
static unsigned keys_taken = 1; /* of the first, all memory is */
static unsigned keys_rights[KEYS];
static unsigned keys_changes;

void *__real_mmap(void *at, size_t size, int protection, int flags, int fd,
    off_t offset);
void *__wrap_mmap(void *at, size_t size, int protection, int flags, int fd,
    off_t offset);
void *__real_mmap64(void *at, size_t size, int protection, int flags, int fd,
    off64_t offset);
void *__wrap_mmap64(void *at, size_t size, int protection, int flags, int fd,
    off64_t offset);
int __real_mprotect(void *at, size_t size, int protection);
int __wrap_mprotect(void *at, size_t size, int protection);
void *__real_mremap(void *at, size_t old, size_t size, int flags, ...);
void *__wrap_mremap(void *at, size_t old, size_t size, int flags, ...);
int __real_munmap(void *at, size_t size);
int __wrap_munmap(void *at, size_t size);
int __wrap_pkey_alloc(unsigned flags, unsigned rights);
int __wrap_pkey_free(int key);
int __wrap_pkey_get(int key);
int __wrap_pkey_mprotect(void *at, size_t size, int protection, int key);
int __wrap_pkey_set(int key, unsigned rights);

/* How often rights were changed so far. */
static inline unsigned
keys_set(void)
{
	return keys_changes;
}

/* After it, a range is either within FROM to TO or outside of it. */
static inline void
keyed_split(uintptr_t from, uintptr_t to)
{
	const uintptr_t cuts[] = { from, to };

	for (size_t c = 0; c < 2; c++)
		for (size_t i = 0; i < keyed_count; i++) {
			struct keyed *range = &keyed[i];

			if (cuts[c] <= range->from || cuts[c] >= range->to)
				continue;
			expect(keyed_count < KEYED_MAX);
			keyed[keyed_count] = *range;
			keyed[keyed_count++].from = cuts[c];
			range->to = cuts[c];
		}
}

static inline bool
keyed_within(const struct keyed *range, uintptr_t from, uintptr_t to)
{
	return range->from >= from && range->to <= to;
}

static inline void
keyed_drop(const void *at, size_t size)
{
	uintptr_t from = (uintptr_t)at, to = from + size;

	keyed_split(from, to);
	for (size_t i = keyed_count; i-- > 0; )
		if (keyed_within(&keyed[i], from, to))
			keyed[i] = keyed[--keyed_count];
}

static inline int
keyed_protection(const struct keyed *range)
{
	return keys_rights[range->key] == 0 ? range->protection : PROT_NONE;
}

void *
__wrap_mmap(void *at, size_t size, int protection, int flags, int fd,
    off_t offset)
{
	void *got = __real_mmap(at, size, protection, flags, fd, offset);

	if (got != MAP_FAILED)
		keyed_drop(got, size);
	return got;
}

void *
__wrap_mmap64(void *at, size_t size, int protection, int flags, int fd,
    off64_t offset)
{
	void *got = __real_mmap64(at, size, protection, flags, fd, offset);

	if (got != MAP_FAILED)
		keyed_drop(got, size);
	return got;
}

int
__wrap_munmap(void *at, size_t size)
{
	int result = __real_munmap(at, size);

	if (result == 0)
		keyed_drop(at, size);
	return result;
}

int
__wrap_mprotect(void *at, size_t size, int protection)
{
	uintptr_t from = (uintptr_t)at, to = from + size;
	int effective = protection;

	/* Nothing is protected here that has a key in some of its pages. */
	keyed_split(from, to);
	for (size_t i = 0; i < keyed_count; i++) {
		if (!keyed_within(&keyed[i], from, to))
			continue;
		keyed[i].protection = protection;
		effective = keyed_protection(&keyed[i]);
	}
	return __real_mprotect(at, size, effective);
}

void *
__wrap_mremap(void *at, size_t old, size_t size, int flags, ...)
{
	uintptr_t from = (uintptr_t)at, to = from + old;
	void *target = NULL, *got;
	va_list ap;

	va_start(ap, flags);
	if ((flags & MREMAP_FIXED) != 0)
		target = va_arg(ap, void *);
	va_end(ap);
	got = __real_mremap(at, old, size, flags, target);
	if (got == MAP_FAILED)
		return got;
	if (target != NULL)
		keyed_drop(target, size);
	keyed_split(from, to);
	for (size_t i = 0; i < keyed_count; i++)
		if (keyed_within(&keyed[i], from, to)) {
			keyed[i].from += (uintptr_t)got - from;
			keyed[i].to += (uintptr_t)got - from;
		}
	return got;
}

int
__wrap_pkey_alloc(unsigned flags, unsigned rights)
{
	expect(flags == 0);
	for (int key = 0; key < KEYS; key++)
		if ((keys_taken >> key & 1) == 0) {
			keys_taken |= 1U << key;
			keys_rights[key] = rights;
			return key;
		}
	errno = ENOSPC;
	return -1;
}

/* The kernel does not look whether it is in use; here it must not be. */
int
__wrap_pkey_free(int key)
{
	expect(key > 0 && key < KEYS && (keys_taken >> key & 1) != 0);
	for (size_t i = 0; i < keyed_count; i++)
		expect(keyed[i].key != key);
	keys_taken &= ~(1U << key);
	return 0;
}

int
__wrap_pkey_get(int key)
{
	expect(key > 0 && key < KEYS);
	return (int)keys_rights[key];
}

int
__wrap_pkey_mprotect(void *at, size_t size, int protection, int key)
{
	struct keyed range = { (uintptr_t)at, (uintptr_t)at + size,
	    protection, key };

	expect((keys_taken >> key & 1) != 0);
	keyed_drop(at, size);
	expect(keyed_count < KEYED_MAX);
	keyed[keyed_count++] = range;
	return __real_mprotect(at, size, keyed_protection(&range));
}

int
__wrap_pkey_set(int key, unsigned rights)
{
	expect(key > 0 && key < KEYS && (keys_taken >> key & 1) != 0);
	keys_changes++;
	keys_rights[key] = rights;
	for (size_t i = 0; i < keyed_count; i++)
		/* ENOMEM: the kernel has kept it from this child. */
		if (keyed[i].key == key)
			expect(__real_mprotect((void *)keyed[i].from,
			    keyed[i].to - keyed[i].from,
			    keyed_protection(&keyed[i])) == 0 ||
			    errno == ENOMEM);
	return 0;
}

#endif
