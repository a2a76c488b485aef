/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * hold.c: holds a secret in one kind of memory while others look for it
 * elsewhere; it must keep no copy of the secret anywhere but in that memory,
 * and knows nothing of swap, cores or cgroups.
 *
 * usage: hold secmalloc|inprocess|secret|malloc|memfd BYTES LABEL
 *
 * The secret is the first line of standard input.  BYTES of memory are filled
 * with LABEL and secret, again and again; then "ready PID ADDRESS BYTES" is
 * printed.  At each line that follows, "locked" is printed if, for the first
 * three kinds, the library finds them locked, or else why not.  At the end of
 * standard input the bytes are compared with what was written: exit status 0
 * says that they are the same and, again, locked.
 */
#include "config.h"

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <err.h>
#include <errno.h>
#include <grp.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "secmalloc.h"

enum {
	SECRET_MAX = 1024,
	NOBODY = 65534
};

static pid_t second_mapper = -1;

/* What was opened by a shell for others would keep them from their ends. */
static void
close_others(void)
{
	long most = sysconf(_SC_OPEN_MAX);

	if (most < 0 || most > 4096)
		most = 4096;
	for (int fd = STDERR_FILENO + 1; fd < most; fd++)
		(void)close(fd);
}

static void *
hold_secmalloc(size_t bytes)
{
	struct secmalloc_config config = {0};

	config.mode = SECMALLOC_MODE_HELPER;
	config.helper_path = getenv("SECMALLOC_TEST_HELPER");
	if (secmalloc_init(&config) != 0)
		err(1, "secmalloc_init");
	return secmalloc(bytes);
}

/* Locks while privileged; whoever starts as root gives that up afterwards. */
static void *
hold_inprocess(size_t bytes, size_t flags)
{
	const struct rlimit limit = { 2 * bytes, 2 * bytes };
	struct secmalloc_config config = {0};

	config.mode = SECMALLOC_MODE_INPROCESS;
	config.flags = flags;
	config.initial_pools = 1;
	/* Of later kernels it is also root's, if the memory is secret. */
	if (geteuid() == 0)
		(void)setrlimit(RLIMIT_MEMLOCK, &limit);
	/* Room for what the library puts between objects. */
	config.pool_size = bytes + bytes / 8;
	if (secmalloc_init(&config) != 0)
		err(1, "secmalloc_init");
	if (geteuid() == 0) {
		if (setgroups(0, NULL) != 0 || setgid(NOBODY) != 0 ||
		    setuid(NOBODY) != 0)
			err(1, "giving up root");
		if (setuid(0) == 0)
			errx(1, "still root");
		/* A core file is asked of it. */
		if (prctl(PR_SET_DUMPABLE, 1) != 0)
			err(1, "prctl");
	}
	return secmalloc(bytes);
}

/* Mapped by two processes as the library's pools are, but locked by neither. */
static void *
hold_memfd(size_t bytes)
{
	int fd = memfd_create("hold", MFD_CLOEXEC);
	void *p;

	if (fd < 0 || ftruncate(fd, (off_t)bytes) != 0)
		err(1, "memfd_create");
	p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		err(1, "mmap");
	(void)close(fd);
	return p;
}

static void
start_second_mapper(const volatile unsigned char *p, size_t bytes)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	pid_t parent = getpid();
	int touched[2];
	char c = 0;

	if (pipe(touched) != 0)
		err(1, "pipe");
	second_mapper = fork();
	if (second_mapper < 0)
		err(1, "fork");
	if (second_mapper == 0) {
		if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent)
			_exit(1);
		for (size_t i = 0; i < bytes; i += page)
			c = (char)(c ^ (char)p[i]);
		if (write(touched[1], "", 1) != 1)
			_exit(1);
		for (;;)
			(void)pause();
	}
	(void)close(touched[1]);
	if (read(touched[0], &c, 1) != 1)
		errx(1, "the second process ended");
	(void)close(touched[0]);
}

/*
 * Reads the first line of standard input into P, which has room for
 * SECRET_MAX, and returns its length.
 */
static size_t
read_secret(unsigned char *p)
{
	volatile const unsigned char *seen = p;
	size_t length = 0;
	ssize_t n;

	do {
		n = read(STDIN_FILENO, p + length, SECRET_MAX - length);
		if (n < 0 && errno != EINTR)
			err(1, "standard input");
		for (ssize_t i = 0; i < n && seen[length] != '\n'; i++)
			length++;
	} while (n != 0 && length < SECRET_MAX && seen[length] != '\n');
	if (length == 0)
		errx(1, "no secret on standard input");
	return length;
}

/*
 * Fills P with LABEL and the secret and returns the length of both.  Byte by
 * byte: the string functions would leave some of it in the vector registers,
 * and those are in every core file.
 */
static size_t
fill(unsigned char *memory, size_t bytes, const char *label)
{
	volatile unsigned char *p = memory;
	size_t period = strlen(label);

	for (size_t i = 0; i < period; i++)
		p[i] = (unsigned char)label[i];
	period += read_secret(memory + period);
	for (size_t i = period; i < bytes; i++)
		p[i] = p[i - period];
	return period;
}

/* Until standard input ends: also when whoever started this is killed. */
static void
answer_until_end(bool secure)
{
	char c = 0;
	ssize_t n;

	while ((n = read(STDIN_FILENO, &c, 1)) > 0 || (n < 0 && errno == EINTR))
		if (n > 0 && c == '\n' && dprintf(STDOUT_FILENO, "%s\n",
		    !secure || secmalloc_verify() == 0 ? "locked" :
		    strerror(errno)) < 0)
			err(1, "standard output");
}

int
main(int argc, char *argv[])
{
	unsigned char *p;
	const char *kind, *label;
	size_t bytes, period;
	bool secure;

	if (argc != 4)
		errx(2, "usage: hold secmalloc|inprocess|secret|malloc|memfd BYTES LABEL");
	kind = argv[1];
	bytes = (size_t)strtoull(argv[2], NULL, 10);
	label = argv[3];
	if (bytes < strlen(label) + SECRET_MAX)
		errx(2, "at least %zu bytes", strlen(label) + SECRET_MAX);
	close_others();

	secure = strcmp(kind, "secmalloc") == 0 ||
	    strcmp(kind, "inprocess") == 0 || strcmp(kind, "secret") == 0;
	if (strcmp(kind, "secmalloc") == 0)
		p = hold_secmalloc(bytes);
	else if (strcmp(kind, "inprocess") == 0)
		p = hold_inprocess(bytes, 0);
	else if (strcmp(kind, "secret") == 0)
		p = hold_inprocess(bytes, SECMALLOC_SECRET);
	else if (strcmp(kind, "malloc") == 0)
		p = malloc(bytes);
	else if (strcmp(kind, "memfd") == 0)
		p = hold_memfd(bytes);
	else
		errx(2, "%s: no such kind", kind);
	if (p == NULL)
		err(1, "%zu bytes", bytes);

	period = fill(p, bytes, label);
	if (strcmp(kind, "memfd") == 0)
		start_second_mapper(p, bytes);
	if (dprintf(STDOUT_FILENO, "ready %ld 0x%" PRIxPTR " %zu\n",
	    (long)getpid(), (uintptr_t)p, bytes) < 0)
		err(1, "standard output");
	answer_until_end(secure);

	if (second_mapper > 0) {
		(void)kill(second_mapper, SIGKILL);
		(void)waitpid(second_mapper, NULL, 0);
	}
	if (memcmp(p, label, strlen(label)) != 0 ||
	    memcmp(p, p + period, bytes - period) != 0)
		errx(1, "the bytes are not what was written");
	if (secure && secmalloc_verify() != 0)
		err(1, "secmalloc_verify");
	if (secure)
		secfree(p);
	else if (strcmp(kind, "malloc") == 0)
		free(p);
	return 0;
}
