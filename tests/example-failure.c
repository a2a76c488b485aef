/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Example: the event of failure.  Nothing unlocked is ever returned, so a
 * program decides what it does when there is no locked memory (more), when a
 * lock is lost, and what it says before it is stopped for a misuse.
 *
 *	cc example-failure.c -lsecmalloc
 *	example-failure [helper]
 *
 * The argument is for a helper that is not installed in the usual place.
 */
#include <sys/types.h>
#include <sys/wait.h>

#include <err.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <secmalloc.h>

struct program {
	volatile sig_atomic_t lock_lost;
	int log;
};

/* What a user can do about it. */
static const char *
advice(int error)
{
	switch (error) {
	case EPERM:
		return "nothing here may lock memory: install the helper "
		    "(make install-privileged), or raise RLIMIT_MEMLOCK";
	case EAGAIN:
		return "RLIMIT_MEMLOCK is reached: raise it, or install the "
		    "helper";
	case EDQUOT:
		return "the administrator's policy allows no more";
	case ENOMEM:
		return "too large, or more than max_locked, or the system is "
		    "out of memory";
	case ENOLCK:
		return "a lock was lost: assume that secrets reached the swap";
	case EPROTO:
		return "helper and library are of different versions: restart "
		    "after the upgrade";
	case EINVAL:
		return "a bug in this program: look at its configuration";
	case EMFILE:
	case ENFILE:
		return "no descriptor is left: raise RLIMIT_NOFILE";
	default:
		return strerror(error);
	}
}

/* No function of the library may be called here, and malloc() is unwise. */
static void
misuse(const char *function, const char *what, void *data)
{
	const struct program *program = data;

	dprintf(program->log, "misuse noticed by %s: %s\n", function, what);
}

/* From whichever thread noticed: leave a note, act where it is convenient. */
static void
lock_lost(void *data)
{
	struct program *program = data;

	program->lock_lost = 1;
}

/* One request at a time may fail; what was there before is untouched. */
static char *
grow(char *secret, size_t size)
{
	char *larger = secrealloc(secret, size);

	if (larger == NULL) {
		printf("cannot grow to %zu bytes: %s\n", size, advice(errno));
		return secret;
	}
	return larger;
}

/* The classic off-by-one, in a child, for the parent to see what comes of it. */
static void
forget_the_terminator(const char *secret)
{
	char *copy = secmalloc(strlen(secret));
	char *to = copy;

	if (copy == NULL)
		err(1, "secmalloc");
	do
		*to++ = *secret;
	while (*secret++ != '\0');
	secfree(copy);
}

int
main(int argc, char **argv)
{
	static struct program program = {.log = STDOUT_FILENO};
	struct secmalloc_config config = {0};
	char *secret;
	pid_t child;
	int status;

	config.on_misuse = misuse;
	config.on_lock_lost = lock_lost;
	config.callback_data = &program;
	if (argc > 1)
		config.helper_path = argv[1];

	/*
	 * To start is the place to fail: nothing is kept locked then, and the
	 * program may try anew later, or run without secrets.
	 */
	if (secmalloc_init(&config) == -1)
		errx(1, "no locked memory: %s", advice(errno));

	secret = secstrdup("correct horse battery staple");
	if (secret == NULL)
		errx(1, "%s", advice(errno));

	/* Larger than any memory is: refused, and the secret is still there. */
	secret = grow(secret, (size_t)-1 / 2);
	secret = grow(secret, 4096);
	if (strcmp(secret, "correct horse battery staple") != 0)
		errx(1, "the secret is gone");

	/*
	 * Once in a while, and before a new secret is accepted: is everything
	 * still locked?  A lock that cannot be restored is reported here and
	 * by the callback.
	 */
	if (secmalloc_verify() == -1 || program.lock_lost) {
		secmalloc_shutdown();
		errx(1, "%s", advice(ENOLCK));
	}

	fflush(stdout);
	child = fork();
	if (child == -1)
		err(1, "fork");
	if (child == 0) {
		forget_the_terminator(secret);
		_exit(0);
	}
	if (waitpid(child, &status, 0) == -1)
		err(1, "waitpid");
	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT)
		errx(1, "an overflow went unnoticed");
	printf("the child that overflowed was stopped\n");

	secfree(secret);
	return 0;
}
