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

#include "descriptor.h"

struct client {
	struct descriptor socket; /* while there is a conversation */
	const uint32_t *pulse;    /* see helper/protocol.h; NULL: not open */
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

/* These return 0, or -1 with errno; ENOLCK if the conversation is over. */
int client_grant(struct client *, size_t size, uint32_t *id, int *fd);
int client_lock(struct client *, uint32_t id);
int client_adopt(struct client *, size_t size, int fd, uint32_t *id);
int client_release(struct client *, uint32_t id);
int client_status(struct client *, uint64_t *pools, uint64_t *bytes);

/* Whether FD is a memfd of SIZE bytes that cannot shrink; -1 with EPROTO. */
int client_check(int fd, size_t size);

/* Whether the conversation goes on, as far as one look tells. */
bool client_answers(struct client *);

/*
 * Whether the helper lives, and so keeps its locks, conversation or not.  Needs
 * no descriptor and no system call.
 */
bool client_lives(const struct client *);

/* Closes what is still ours, and forgets the helper. */
void client_close(struct client *);

#endif
