/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * report.h: what the library held when the process exits, on standard error, if
 * the environment has SECMALLOC_STATS=1.  Knows the public header only.
 */
#ifndef REPORT_H
#define REPORT_H

#include "secmalloc.h"

/*
 * Once, as the library is loaded: looks at the environment, which the host may
 * change later.  STATS is called at exit, when the host's own handlers are
 * done.
 */
void report_start(int (*stats)(struct secmalloc_stats *));

#endif
