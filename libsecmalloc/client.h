/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * client.h: a conversation with a helper, as helper/protocol.h has it.  Knows
 * descriptors and packets, nothing of addresses.
 */
#ifndef CLIENT_H
#define CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct client {
	int fd; /* -1: no conversation */
	/*
	 * What fd was when it was ours: a host may close descriptors that it
	 * did not open, and get the same number for another file.
	 */
	dev_t dev;
	ino_t ino;
};

/*
 * Connects to PATH if that is a socket, else starts the helper there, and says
 * HELLO.  Nothing of it is seen by the host: no child, no SIGCHLD, no change of
 * signal mask or dispositions, no descriptor that survives an exec.  0, or -1
 * with EPERM (missing, not to be executed, nobody listens, or without
 * privilege), EDQUOT (too many helpers), EPROTO (also: whoever listens accepts
 * nobody in time, or ends before it has answered), EINVAL (a socket whose path
 * does not fit an address), ENOMEM, EMFILE or ENFILE.
 */
int client_open(struct client *, const char *path);

/* The rest return 0, or -1 with errno; ENOLCK if the helper is gone. */
int client_grant(struct client *, size_t size, uint32_t *id, int *fd);
int client_lock(struct client *, uint32_t id);
int client_release(struct client *, uint32_t id);
int client_status(struct client *, uint64_t *pools, uint64_t *bytes);

/* Whether the other end is there. */
bool client_alive(struct client *);

/* Closes what is still ours. */
void client_close(struct client *);

#endif
