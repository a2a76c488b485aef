/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * locker.h: the pools of one conversation, from their making until nobody maps
 * them any more; knows nothing of the socket they are asked for and sent over.
 */
#ifndef SECMALLOC_LOCKER_H
#define SECMALLOC_LOCKER_H

#include <stdbool.h>
#include <stdint.h>

#include "protocol.h"

/* Bytes that one helper grants, all its pools together. */
#define HELPER_CEILING ((uint64_t)64 << 20)

struct locker_totals {
	uint64_t locked; /* bytes */
	uint32_t pools;  /* locked ones */
	uint64_t left;   /* bytes that may still be granted */
};

/* Whether this process can lock memory at all, found out by doing it. */
enum wire_status locker_trial(void);

/*
 * Makes a pool of BYTES.  *FD is its memfd, which stays the locker's.  It is
 * outstanding until it is locked or released; there may be but one such.
 */
enum wire_status locker_grant(uint64_t bytes, uint32_t *id, int *fd);

/* Locks the outstanding pool.  On failure it is withdrawn. */
enum wire_status locker_lock(void);

/* Gives up a pool in whichever state.  False if there was none of that id. */
bool locker_release(uint32_t id);

/* Gives up what is locked and mapped by nobody.  Whether anything remains. */
bool locker_reap(void);

/* The id of the outstanding pool, or 0. */
uint32_t locker_outstanding(void);

struct locker_totals locker_totals(void);

/*
 * To be called once nobody can ask any more: keeps what is locked for as long
 * as some process maps it, then returns.
 */
void locker_linger(void);

#endif
