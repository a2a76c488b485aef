/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * descriptor.h: descriptors that stay open between calls, in a process whose
 * host may close what it did not open, and get the same number for a file of
 * its own.  Knows what a file is, nothing of what is in it.
 */
#ifndef DESCRIPTOR_H
#define DESCRIPTOR_H

#include <stdbool.h>
#include <sys/types.h>

struct descriptor {
	int fd; /* -1: none */
	/* What it was when it was ours. */
	dev_t dev;
	ino_t ino;
};

/*
 * Makes *KEPT of FD, a new one or -1: close-on-exec, and not among 0 to 2,
 * where a host that has closed one writes yet.  0, or -1 with errno, FD being
 * closed.
 */
int descriptor_keep(struct descriptor *kept, int fd);

/* Whether it is there and still what it was. */
bool descriptor_is_ours(const struct descriptor *);

/* Closes it if it is ours; then there is none. */
void descriptor_close(struct descriptor *);

#endif
