/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * run.c: children that may fail, hang or die without their parent doing so;
 * must not know what they are for.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tool.h"

enum { PROGRAM_MS = 5000, STEP_MS = 5 };

static long
now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int
run_wait(pid_t pid, int milliseconds)
{
	const long end = now_ms() + milliseconds;
	pid_t ended;
	int status;

	while ((ended = waitpid(pid, &status, WNOHANG)) == 0 &&
	    now_ms() < end)
		(void)poll(NULL, 0, STEP_MS);
	if (ended == pid)
		return WIFEXITED(status) ? WEXITSTATUS(status) : RUN_FAILED;
	if (ended == -1)
		return RUN_FAILED;
	/* EPERM: a helper that is somebody else by now, and ends by itself. */
	if (kill(pid, SIGKILL) == 0)
		while (waitpid(pid, &status, 0) == -1 && errno == EINTR)
			;
	return RUN_TIMEOUT;
}

/*
 * All that comes from FD, as far as it fits, until its end or END.  How much it
 * is; what does not fit is left out.
 */
static size_t
read_until(int fd, void *to, size_t size, long end)
{
	struct pollfd from = { .fd = fd, .events = POLLIN };
	char rest[256];
	size_t got = 0;
	ssize_t n = 1;
	long left;

	while (n > 0 && (left = end - now_ms()) > 0) {
		if (poll(&from, 1, (int)left) <= 0)
			continue;
		n = got < size ? read(fd, (char *)to + got, size - got) :
		    read(fd, rest, sizeof(rest));
		if (n > 0 && got < size)
			got += (size_t)n;
	}
	return got;
}

int
run_program(char *const argv[], char *said, size_t size)
{
	const long end = now_ms() + PROGRAM_MS;
	size_t length;
	int ends[2];
	pid_t pid;

	said[0] = '\0';
	(void)fflush(stdout);
	if (pipe2(ends, O_CLOEXEC) == -1)
		return RUN_FAILED;
	if ((pid = fork()) == 0) {
		int null = open("/dev/null", O_RDWR | O_CLOEXEC);

		if (null != -1 && dup2(null, 0) != -1 &&
		    dup2(ends[1], 1) != -1 && dup2(ends[1], 2) != -1)
			(void)execv(argv[0], argv);
		(void)dprintf(ends[1], "%s", strerror(errno));
		_exit(127);
	}
	(void)close(ends[1]);
	length = pid == -1 ? 0 : read_until(ends[0], said, size - 1, end);
	(void)close(ends[0]);
	said[length] = '\0';
	while (length > 0 && said[length - 1] == '\n')
		said[--length] = '\0';
	return pid == -1 ? RUN_FAILED :
	    run_wait(pid, (int)(end > now_ms() ? end - now_ms() : 0));
}

int
run_child(void (*child)(const void *argument, void *result),
    const void *argument, void *result, size_t size, int seconds)
{
	const long end = now_ms() + (long)seconds * 1000;
	int ends[2], outcome;
	size_t got;
	pid_t pid;

	(void)fflush(stdout);
	if (pipe2(ends, O_CLOEXEC) == -1)
		return RUN_FAILED;
	if ((pid = fork()) == 0) {
		(void)close(ends[0]);
		child(argument, result);
		_exit(write(ends[1], result, size) != (ssize_t)size);
	}
	(void)close(ends[1]);
	got = pid == -1 ? 0 : read_until(ends[0], result, size, end);
	(void)close(ends[0]);
	if (pid == -1)
		return RUN_FAILED;
	outcome = run_wait(pid, (int)(end > now_ms() ? end - now_ms() : 0));
	return outcome == RUN_TIMEOUT ? RUN_TIMEOUT :
	    outcome == 0 && got == size ? 0 : RUN_FAILED;
}
