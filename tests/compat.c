/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A program for secmalloc 0.5, kept to its four verbs and its habits, that must
 * go on compiling and working unchanged; it knows nothing that 0.5 had not.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <secmalloc.h>

int main(int argc, char *argv[])
{
	struct secmalloc_config conf;
	char *a;
	int *b;

	memset(&conf, 0, sizeof(struct secmalloc_config));
	conf.initial_pools = 4;

	if (secmalloc_init(&conf) < 0) {
		perror("secmalloc_init");
		return EXIT_FAILURE;
	}

	/* Drop root privileges, they are no longer needed. */
	if (setuid(getuid() ? getuid() : 65534) < 0) {
		perror("setuid");
		return EXIT_FAILURE;
	}

	a = (char *) secmalloc(100);
	b = (int *) seccalloc(100, sizeof(int));
	if (!a || !b) {
		perror("secmalloc");
		return EXIT_FAILURE;
	}

	strcpy(a, argc > 1 ? "secret" : "default secret");
	b[99] = b[0] + 1;

	a = (char *) secrealloc(a, 200);
	if (!a) {
		perror("secrealloc");
		return EXIT_FAILURE;
	}

	printf("%s %d %s\n", argv[0] ? "ok" : "no name", b[99], a);

	secfree(b);
	secfree(a);
	secfree(NULL);

	return EXIT_SUCCESS;
}
