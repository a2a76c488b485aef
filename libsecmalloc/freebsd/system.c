/* SPDX-License-Identifier: BSD-2-Clause */
/* system.c: FreeBSD's names for what system.h has; must not know what for. */
#include "config.h"

#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "system.h"

/* secure_getenv() is of FreeBSD 14. */
const char *
system_getenv(const char *name)
{
	return issetugid() ? NULL : getenv(name);
}

int
system_pipe(int ends[2])
{
	return pipe2(ends, O_CLOEXEC);
}

void
system_take_signal(const sigset_t *set)
{
	static const struct timespec at_once;

	(void)sigtimedwait(set, NULL, &at_once);
}
