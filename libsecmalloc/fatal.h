/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fatal.h: the one way to stop.  Calls the host's callback for a misuse, says
 * one line, aborts; never returns, never touches the heap, takes no lock.
 */
#ifndef FATAL_H
#define FATAL_H

void fatal_set_callback(void (*)(const char *, const char *, void *), void *);

/*
 * FUNCTION is the public function that noticed; WHAT, what it noticed.  Of
 * threads that come here at once, one is heard.  Called with no lock held that
 * the callback, or a fork in it, may wait for.
 */
_Noreturn void fatal_misuse(const char *function, const char *what);

/* For what cannot happen unless this library, or its memory, is broken. */
_Noreturn void fatal_bug(const char *what);

#endif
