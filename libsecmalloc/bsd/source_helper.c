/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * source_helper.c: where there is no helper, which is a program for Linux; must
 * not know who asks.
 */
#include "config.h"

#include <errno.h>

#include "secmalloc.h"
#include "source.h"

/* As where none is installed.  Nothing else is asked of what did not open. */
static int
helper_open(struct source *source, const char *helper_path)
{
	(void)source;
	(void)helper_path;
	errno = EPERM;
	return -1;
}

const struct source_ops source_helper = {
	.mode = SECMALLOC_MODE_HELPER,
	.shared = true,
	.open = helper_open,
};
