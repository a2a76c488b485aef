/* SPDX-License-Identifier: BSD-2-Clause */
/* keyless.c: protection keys, where system or C library has none. */
#include "config.h"

#include <errno.h>

#include "memory.h"

int
memory_key_make(void)
{
	errno = ENOTSUP;
	return -1;
}

void
memory_key_give(int key)
{
	(void)key;
}

int
memory_set_key(void *at, size_t size, int key, bool writable)
{
	(void)at;
	(void)size;
	(void)key;
	(void)writable;
	return 0;
}
