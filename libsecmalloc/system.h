/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * system.h: what each system has under another name; knows nothing of what any
 * of it is for.
 */
#ifndef SYSTEM_H
#define SYSTEM_H

#include <signal.h>

/* As getenv(); NULL where somebody else's privilege is in play. */
const char *system_getenv(const char *name);

/* As pipe(2), close-on-exec; where it can, before anybody else may fork. */
int system_pipe(int ends[2]);

/* Takes a signal of SET, which is blocked and pending. */
void system_take_signal(const sigset_t *set);

#endif
