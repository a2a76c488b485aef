/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A program of a project that knows libsecmalloc only as installed: says whether
 * it was found, and whether it locks memory for whoever runs this.
 */
#ifdef HAVE_CONFIG_H
# include "config.h"
#endif

#include <errno.h>
#include <stdio.h>
#include <string.h>

#ifdef HAVE_SECMALLOC

#include <secmalloc.h>

int
main(void)
{
	char *secret = secmalloc(32);

	if (secret == NULL) {
		printf("found, refused: %s\n", strerror(errno));
		return errno == EPERM || errno == EAGAIN || errno == EDQUOT ?
		    0 : 1;
	}
	strcpy(secret, "a secret");
	if (!secmalloc_is_secure(secret) || secmalloc_verify() != 0) {
		perror("secmalloc_verify");
		return 1;
	}
	secfree(secret);
	puts("found, locked");
	return 0;
}

#else

int
main(void)
{
	puts("not found");
	return 0;
}

#endif
