/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * children.h: ways to make a child, to wait for what it does, and for its end.
 * It knows nothing of what it does.
 */
#ifndef TESTS_CHILDREN_H
#define TESTS_CHILDREN_H

#include <sys/syscall.h>

#include "faults.h"

/* Ways to make a child. */
typedef pid_t way(void);

static inline pid_t
way_fork(void)
{
	return fork();
}

/* Runs no handlers. */
static inline pid_t
way_clone(void)
{
#if defined(__s390__) || defined(__s390x__)
	return (pid_t)syscall(SYS_clone, 0, SIGCHLD, 0, 0, 0);
#else
	return (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
#endif
}

#ifdef HAVE__FORK
# define way_bare_fork _Fork
#else
# define way_bare_fork way_clone
#endif

static inline bool
child_succeeds(pid_t pid)
{
	int status;

	expect(waitpid(pid, &status, 0) == pid);
	if (WIFSIGNALED(status))
		diag("a child was stopped by signal %d", WTERMSIG(status));
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* For one side to wait for the other. */
struct gate {
	int ends[2];
};

static inline struct gate
make_gate(void)
{
	struct gate gate;

	expect(pipe2(gate.ends, O_CLOEXEC) == 0);
	return gate;
}

static inline void
open_gate(struct gate *gate)
{
	expect(write(gate->ends[1], "", 1) == 1);
}

static inline void
pass_gate(struct gate *gate)
{
	char byte;

	expect(read(gate->ends[0], &byte, 1) == 1);
}

#endif
