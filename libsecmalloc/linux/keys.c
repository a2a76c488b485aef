/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * keys.c: protection keys (pkeys(7)), which only Linux hands out; must not know
 * what is behind them.
 */
#include "config.h"

#include <errno.h>
#include <sys/mman.h>

#include "fatal.h"
#include "memory.h"

int
memory_key_make(void)
{
	int key = pkey_alloc(0, PKEY_DISABLE_ACCESS);

	/* EINVAL, ENOSPC, ENOSYS: of a processor or a kernel without them. */
	if (key == -1)
		errno = ENOTSUP;
	return key;
}

void
memory_key_give(int key)
{
	if (pkey_free(key) == -1)
		fatal_bug("pkey_free");
}

int
memory_set_key(void *at, size_t size, int key, bool writable)
{
	if (pkey_mprotect(at, size, PROT_READ | (writable ? PROT_WRITE : 0),
	    key) == 0)
		return 0;
	if (errno != ENOMEM)
		fatal_bug("pkey_mprotect");
	return -1;
}
