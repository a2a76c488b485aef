/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Example: a program as it was written for secmalloc 0.5, which starts as root
 * (or setuid root), locks its pools and gives the privilege up.  It knows
 * nothing of helpers; where one is installed it is used all the same.
 *
 *	cc example-classic.c -lsecmalloc
 *	example-classic [helper]
 *
 * The argument is for a helper that is not installed in the usual place.
 */
#include <sys/types.h>

#include <err.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <secmalloc.h>

#define NOBODY 65534

/* For good: back to who called us, or to nobody where that is root. */
static void
drop_privilege(void)
{
	uid_t uid = getuid() != 0 ? getuid() : NOBODY;
	gid_t gid = getuid() != 0 ? getgid() : NOBODY;

	if (geteuid() == 0 && setgroups(1, &gid) == -1)
		err(1, "setgroups");
	if (setgid(gid) == -1)
		err(1, "setgid");
	if (setuid(uid) == -1)
		err(1, "setuid");
	if (setuid(0) == 0)
		errx(1, "still privileged");
}

int
main(int argc, char **argv)
{
	struct secmalloc_config config;
	char *password;

	memset(&config, 0, sizeof(config));
	config.initial_pools = 2;
	if (argc > 1)
		config.helper_path = argv[1];
	if (secmalloc_init(&config) == -1)
		err(1, "secmalloc_init");

	/* What is locked stays locked.  What cannot be locked is refused. */
	drop_privilege();

	password = secmalloc(64);
	if (password == NULL)
		err(1, "secmalloc");
	snprintf(password, 64, "correct horse");
	password = secrealloc(password, 4096);
	if (password == NULL)
		err(1, "secrealloc");
	strcat(password, " battery staple");
	printf("as uid %u: %zu bytes of password in locked memory\n",
	    (unsigned)getuid(), strlen(password));

	/* Wiped here: no memset that a compiler could leave out. */
	secfree(password);
	return 0;
}
