/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * harness.h: what every C test program needs to report in TAP and to find the
 * helper it is to use; it knows nothing of the library's inside.
 */
#ifndef TESTS_HARNESS_H
#define TESTS_HARNESS_H

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "secmalloc.h"

static struct {
	unsigned run;
	unsigned failed;
	unsigned planned;
} harness;

/*
 * One line in one write(2): nothing is left in a buffer for a child of fork()
 * to print again.
 */
__attribute__((format(printf, 2, 0))) static inline void
harness_line(const char *head, const char *fmt, va_list ap)
{
	char line[1024];
	size_t used;
	int n;

	n = snprintf(line, sizeof(line), "%s", head);
	used = n < 0 ? 0 : (size_t)n;
	n = vsnprintf(line + used, sizeof(line) - used - 1, fmt, ap);
	used += n < 0 ? 0 : (size_t)n;
	if (used > sizeof(line) - 2)
		used = sizeof(line) - 2;
	line[used++] = '\n';
	if (write(STDOUT_FILENO, line, used) != (ssize_t)used)
		_exit(99);
}

/* A remark in the log. */
__attribute__((format(printf, 1, 2))) static inline void
diag(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	harness_line("# ", fmt, ap);
	va_end(ap);
}

/* Says beforehand how many calls of ok() will come; else use done_testing(). */
static inline void
plan(unsigned n)
{
	char line[32];
	int length = snprintf(line, sizeof(line), "1..%u\n", n);

	harness.planned = n;
	if (write(STDOUT_FILENO, line, (size_t)length) != length)
		_exit(99);
}

/*
 * One promise: whether it holds, and its words.  From the main thread of the
 * main process only.  Returns COND.  errno is kept.
 */
__attribute__((format(printf, 2, 3))) static inline bool
ok(bool cond, const char *fmt, ...)
{
	int saved = errno;
	char head[32];
	va_list ap;

	(void)snprintf(head, sizeof(head), "%s %u - ", cond ? "ok" : "not ok",
	    ++harness.run);
	va_start(ap, fmt);
	harness_line(head, fmt, ap);
	va_end(ap);
	if (!cond) {
		harness.failed++;
		diag("errno is %d (%s)", saved, strerror(saved));
	}
	errno = saved;
	return cond;
}

/*
 * One promise that cannot be checked here, and why.  With SECMALLOC_NO_SKIP=1
 * in the environment that is a failure.
 */
static inline void
skip(const char *promise, const char *why)
{
	const char *no = getenv("SECMALLOC_NO_SKIP");

	if (no != NULL && strcmp(no, "1") == 0)
		(void)ok(false, "%s (skipped: %s)", promise, why);
	else
		(void)ok(true, "%s # SKIP %s", promise, why);
}

/* Ends the report.  The value is for main() to return. */
static inline int
done_testing(void)
{
	if (harness.planned == 0)
		plan(harness.run);
	return harness.failed == 0 && harness.planned == harness.run ? 0 : 1;
}

/* Stops a test that cannot go on. */
__attribute__((format(printf, 1, 2), noreturn)) static inline void
bail_out(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	harness_line("Bail out! ", fmt, ap);
	va_end(ap);
	exit(99);
}

/*
 * The defaults, MODE, and the helper that SECMALLOC_TEST_HELPER names (unset:
 * the installed one).
 */
static inline void
test_config(struct secmalloc_config *c, int mode)
{
	memset(c, 0, sizeof(*c));
	c->mode = mode;
	c->helper_path = getenv("SECMALLOC_TEST_HELPER");
}

#endif
