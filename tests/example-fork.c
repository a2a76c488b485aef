/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Example: fork.  A child gets its own locked copy of every object, or, with
 * SECMALLOC_FORK_DENY, none of them; what it allocates is its own either way.
 *
 *	cc example-fork.c -lsecmalloc
 *	example-fork [helper]
 *
 * The argument is for a helper that is not installed in the usual place.
 */
#include <sys/types.h>
#include <sys/wait.h>

#include <err.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <secmalloc.h>

/* The child's half, under SECMALLOC_FORK_COPY. */
static int
with_a_copy(char *secret)
{
	if (strcmp(secret, "the parent's") != 0)
		return 1;
	/* The child's own, and locked: the parent sees nothing of this. */
	strcpy(secret, "the child's");
	if (secmalloc_verify() == -1)
		return 2;
	secfree(secret);
	return 0;
}

/* The child's half, under SECMALLOC_FORK_DENY. */
static int
without(char *secret)
{
	char *own;

	/* To read the secret would fault. */
	if (secmalloc_is_secure(secret))
		return 1;
	/* Code that is shared with the parent may free it: nothing happens. */
	secfree(secret);
	own = secstrdup("the child's");
	if (own == NULL || secmalloc_verify() == -1)
		return 2;
	secfree(own);
	return 0;
}

static void
run(const char *helper, int policy, int (*child_main)(char *))
{
	struct secmalloc_config config = {0};
	char *secret;
	pid_t child;
	int status;

	config.fork_policy = policy;
	config.helper_path = helper;
	if (secmalloc_init(&config) == -1)
		err(1, "secmalloc_init");
	secret = secstrdup("the parent's");
	if (secret == NULL)
		err(1, "secstrdup");

	child = fork();
	if (child == -1)
		err(1, "fork");
	if (child == 0)
		_exit(child_main(secret));
	if (waitpid(child, &status, 0) == -1)
		err(1, "waitpid");
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		errx(1, "the child failed: status %#x", (unsigned)status);

	if (strcmp(secret, "the parent's") != 0)
		errx(1, "the child changed the parent's secret");
	if (secmalloc_verify() == -1)
		err(1, "secmalloc_verify");
	secfree(secret);
	/* To start again with another policy.  Few programs need this. */
	secmalloc_shutdown();
}

int
main(int argc, char **argv)
{
	const char *helper = argc > 1 ? argv[1] : NULL;

	run(helper, SECMALLOC_FORK_COPY, with_a_copy);
	printf("copy: parent and child each kept their own secret\n");
	run(helper, SECMALLOC_FORK_DENY, without);
	printf("deny: the child got none of the parent's secrets\n");
	return 0;
}
