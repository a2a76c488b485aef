/* SPDX-License-Identifier: BSD-2-Clause */
/* system.c: macOS's names for what system.h has; must not know what for. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "system.h"

const char *
system_getenv(const char *name)
{
	return issetugid() ? NULL : getenv(name);
}

/* There is no pipe2(): who forks and executes in between has the ends, too. */
int
system_pipe(int ends[2])
{
	int error;

	if (pipe(ends) == -1)
		return -1;
	if (fcntl(ends[0], F_SETFD, FD_CLOEXEC) != -1 &&
	    fcntl(ends[1], F_SETFD, FD_CLOEXEC) != -1)
		return 0;
	error = errno;
	(void)close(ends[0]);
	(void)close(ends[1]);
	ends[0] = ends[1] = -1;
	errno = error;
	return -1;
}

/* Without sigtimedwait(): one that another thread has taken is not waited for. */
void
system_take_signal(const sigset_t *set)
{
	sigset_t pending;
	int taken;

	for (int signal = 1; signal < NSIG; signal++)
		if (sigismember(set, signal) == 1 &&
		    sigpending(&pending) == 0 &&
		    sigismember(&pending, signal) == 1) {
			(void)sigwait(set, &taken);
			return;
		}
}
