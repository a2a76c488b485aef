/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fork.h: what becomes of the heap in a child.
 *
 * fork(2) runs the handlers that fork_start() registers: copies are readied
 * before it and settled in after it.  A child that was made behind the
 * handlers' back (_Fork(3), clone(2)) finds a page that the kernel has wiped,
 * and does all of it at its first call.
 */
#ifndef FORK_H
#define FORK_H

/* Called once or more, with the heap's lock held; 0, or -1 with ENOMEM. */
int fork_start(void);

/* Called first by every public function, without the heap's lock. */
void fork_enter(void);

#endif
