/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Example: against stray accesses of the program itself.  A guarded object has
 * a page that cannot be accessed on either side, and is out of reach but while
 * it is used.  With protection keys, all objects are, but in a window.
 *
 *	cc example-guarded.c -lsecmalloc
 *	example-guarded [helper]
 *
 * The argument is for a helper that is not installed in the usual place.
 */
#include <sys/types.h>
#include <sys/random.h>
#include <sys/wait.h>

#include <err.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <secmalloc.h>

enum { KEY_SIZE = 32 };

/* For good: the windows where the processor has them, or else nothing more. */
static int
start(const char *helper)
{
	struct secmalloc_config config = {0};

	config.helper_path = helper;
	config.flags = SECMALLOC_PKEY;
	if (secmalloc_init(&config) == 0)
		return 1;
	if (errno != ENOTSUP)
		err(1, "secmalloc_init");
	config.flags = 0;
	if (secmalloc_init(&config) == -1)
		err(1, "secmalloc_init");
	return 0;
}

/* What a bug would do, in a child: returns 1 if the processor stopped it. */
static int
stopped(int (*bug)(unsigned char *), unsigned char *object)
{
	pid_t child;
	int status;

	(void)fflush(stdout); /* or the child might write it, too */
	child = fork();
	if (child == -1)
		err(1, "fork");
	if (child == 0) {
		/* A sanitizer would say more than the kernel. */
		signal(SIGSEGV, SIG_DFL);
		_exit(bug(object));
	}
	if (waitpid(child, &status, 0) == -1)
		err(1, "waitpid");
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV;
}

static int
read_it(unsigned char *object)
{
	return *(volatile unsigned char *)object;
}

static int
write_it(unsigned char *object)
{
	*(volatile unsigned char *)object = 0;
	return 0;
}

static int
read_past_it(unsigned char *object)
{
	return *(volatile unsigned char *)(object + KEY_SIZE);
}

/* The only place that reads the key, and only while it runs. */
static void
use(unsigned char *key, unsigned char *message, size_t size)
{
	if (secmalloc_protect(key, SECMALLOC_READONLY) == -1)
		err(1, "secmalloc_protect");
	for (size_t i = 0; i < size; i++)
		message[i] ^= key[i % KEY_SIZE];
	if (secmalloc_protect(key, SECMALLOC_NOACCESS) == -1)
		err(1, "secmalloc_protect");
}

int
main(int argc, char **argv)
{
	const int windows = start(argc > 1 ? argv[1] : NULL);
	unsigned char message[] = "attack at dawn", *key, *token;

	/* ENOTSUP where there are no windows, which are then not needed. */
	if (secmalloc_open() == -1 && errno != ENOTSUP)
		err(1, "secmalloc_open");
	key = secmalloc_guarded(KEY_SIZE);
	if (key == NULL)
		err(1, "secmalloc_guarded");
	if (getrandom(key, KEY_SIZE, 0) != KEY_SIZE)
		err(1, "getrandom");

	if (!stopped(read_past_it, key))
		errx(1, "a read past the end went unnoticed");
	if (stopped(read_it, key))
		errx(1, "the key cannot be read");
	if (secmalloc_protect(key, SECMALLOC_READONLY) == -1)
		err(1, "secmalloc_protect");
	if (!stopped(write_it, key))
		errx(1, "a stray write went unnoticed");
	if (secmalloc_protect(key, SECMALLOC_NOACCESS) == -1)
		err(1, "secmalloc_protect");
	if (!stopped(read_it, key))
		errx(1, "a stray read went unnoticed");

	use(key, message, sizeof(message));
	use(key, message, sizeof(message));
	if (strcmp((char *)message, "attack at dawn") != 0)
		errx(1, "the key has changed");
	secmalloc_close();
	printf("guarded: out of reach but while it is used\n");

	/* An ordinary object, no larger than it has to be: windows alone. */
	token = secmalloc(KEY_SIZE);
	if (token == NULL)
		err(1, "secmalloc");
	if (stopped(read_it, token) != windows)
		errx(1, "a window that is closed and can be read through");
	if (windows && (secmalloc_open() == -1 || stopped(read_it, token) ||
	    secmalloc_close() == -1))
		errx(1, "a window that is open and cannot be read through");
	printf("windows: %s\n", windows ? "all objects are out of reach" :
	    "this processor has no protection keys");

	secfree(token);
	/* Freed as any other, whatever the access. */
	secfree(key);
	return 0;
}
