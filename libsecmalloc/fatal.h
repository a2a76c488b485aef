/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fatal.h: the one way to stop.  Says one line, calls the host's callback for
 * a misuse, aborts; never returns and never touches the heap.
 */
#ifndef FATAL_H
#define FATAL_H

void fatal_set_callback(void (*)(const char *, const char *, void *), void *);

/* FUNCTION is the public function that noticed; WHAT, what it noticed. */
_Noreturn void fatal_misuse(const char *function, const char *what);

/* For what cannot happen unless this library, or its memory, is broken. */
_Noreturn void fatal_bug(const char *what);

#endif
