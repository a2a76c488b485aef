/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * privilege.h: from any of the ways to be privileged to one user id and
 * CAP_IPC_LOCK; knows nothing of pools and sockets.  Every failure ends the
 * process: none of these returns with more than it should have.
 */
#ifndef SECMALLOC_PRIVILEGE_H
#define SECMALLOC_PRIVILEGE_H

#include <sys/types.h>

#include <stdbool.h>

struct identity {
	uid_t uid;
	gid_t gid;
	bool may_lock;
};

/* Neither traceable by others of the same user nor ever in a core file. */
void privilege_undumpable(void);

/* Makes usable those permitted capabilities that starting up needs. */
void privilege_raise(void);

/* Whom to become. */
struct identity privilege_identify(void);

/*
 * Becomes WHO, with CAP_IPC_LOCK if it is permitted and WHO may lock.  Where
 * that cannot be, becomes the caller, who may lock only if root.  There is no
 * way back from either.
 */
void privilege_drop(struct identity who);

#endif
