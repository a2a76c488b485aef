/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * check-helper.c: says whether a given helper locks memory for whoever runs
 * this; it knows nothing of how the helper was installed.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "secmalloc.h"

int
main(int argc, char **argv)
{
	struct secmalloc_config config;
	const char *failed = NULL;

	if (argc != 2) {
		fputs("usage: check-helper HELPER\n", stderr);
		return 2;
	}
	memset(&config, 0, sizeof(config));
	config.mode = SECMALLOC_MODE_HELPER;
	config.helper_path = argv[1];

	if (secmalloc_init(&config) != 0)
		failed = "secmalloc_init";
	else if (secmalloc_verify() != 0)
		failed = "secmalloc_verify";
	/* Said only by a helper that has its policy and, if any, its ledger. */
	if (failed != NULL && errno == EDQUOT) {
		puts("the helper works: the policy refuses this user, as it may");
		return 0;
	}
	if (failed != NULL) {
		printf("locked memory: no (%s: %s)\n", failed, strerror(errno));
		return 1;
	}
	puts("locked memory: yes");
	secmalloc_shutdown();
	return 0;
}
