/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * client.h: starts the helper that SECMALLOC_TEST_HELPER names and says to it
 * what is right; who is to say what is wrong packs it by himself.  It knows the
 * wire, and nothing of the library.
 */
#ifndef TESTS_CLIENT_H
#define TESTS_CLIENT_H

#include "../helper/protocol.h"
#include "faults.h"

static inline void
become_anything(void)
{
}

/*
 * Before it becomes a helper, the child does PREPARE; END is its descriptor 0.
 * OTHER, or -1, is to be none of its.
 */
static inline pid_t
helper_start(int end, int other, void (*prepare)(void))
{
	const char *path = getenv("SECMALLOC_TEST_HELPER");
	pid_t pid;

	expect(path != NULL);
	expect((pid = fork()) != -1);
	if (pid != 0)
		return pid;
	expect(dup2(end, STDIN_FILENO) != -1);
	(void)close(end);
	if (other != -1)
		(void)close(other);
	prepare();
	execl(path, path, (char *)NULL);
	_exit(127);
}

static inline pid_t
helper_connect(int *ours, void (*prepare)(void))
{
	int pair[2];
	pid_t pid;

	expect(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0,
	    pair) == 0);
	pid = helper_start(pair[0], pair[1], prepare);
	(void)close(pair[0]);
	*ours = pair[1];
	return pid;
}

/* Whether it ends within MS, by itself. */
static inline bool
helper_gone(pid_t pid, int ms, int *status)
{
	int64_t end = now_us() + (int64_t)ms * 1000;
	pid_t ended;

	while ((ended = waitpid(pid, status, WNOHANG)) == 0 && now_us() < end)
		sleep_ms(2);
	return ended == pid && WIFEXITED(*status);
}

static inline bool
helper_ends(pid_t pid, int ms)
{
	int status = -1;

	return helper_gone(pid, ms, &status) && WEXITSTATUS(status) == 0;
}

static inline bool
say(int socket, unsigned type, uint32_t id, uint64_t a, uint64_t b)
{
	struct wire_message m = { .version = WIRE_VERSION,
	    .type = (uint16_t)type, .id = id, .a = a, .b = b };
	unsigned char packet[WIRE_REQUEST_LEN];

	wire_pack(packet, sizeof(packet), &m);
	return send(socket, packet, sizeof(packet), MSG_NOSIGNAL) ==
	    (ssize_t)sizeof(packet);
}

/* ADOPT of BYTES, with FD. */
static inline bool
say_adopt(int socket, uint64_t bytes, int fd)
{
	const struct wire_message m = { .version = WIRE_VERSION,
	    .type = WIRE_ADOPT, .a = bytes };
	unsigned char packet[WIRE_REQUEST_LEN];
	union {
		struct cmsghdr header;
		unsigned char space[CMSG_SPACE(sizeof(int))];
	} control = { { .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS,
	    .cmsg_len = CMSG_LEN(sizeof(int)) } };
	struct iovec iov = { packet, sizeof(packet) };
	const struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1,
	    .msg_control = &control, .msg_controllen = sizeof(control) };

	wire_pack(packet, sizeof(packet), &m);
	memcpy(CMSG_DATA(&control.header), &fd, sizeof(int));
	return sendmsg(socket, &msg, MSG_NOSIGNAL) == (ssize_t)sizeof(packet);
}

/*
 * One reply, and the descriptor that came with it, or -1.  False with errno,
 * which is 0 or ECONNRESET at the end of the conversation.
 */
static inline bool
hear(int socket, struct wire_message *m, int *fd)
{
	unsigned char packet[WIRE_REPLY_LEN + 1];
	union {
		struct cmsghdr align;
		unsigned char space[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { packet, sizeof(packet) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1,
	    .msg_control = &control, .msg_controllen = sizeof(control) };
	const struct cmsghdr *c;
	ssize_t n;

	*fd = -1;
	errno = 0;
	n = recvmsg(socket, &msg, MSG_CMSG_CLOEXEC);
	if (n <= 0)
		return false;
	if ((c = CMSG_FIRSTHDR(&msg)) != NULL)
		memcpy(fd, CMSG_DATA(c), sizeof(int));
	if (n == WIRE_REPLY_LEN && (msg.msg_flags & MSG_CTRUNC) == 0 &&
	    wire_unpack(packet, WIRE_REPLY_LEN, m) == 0)
		return true;
	errno = EBADMSG;
	return false;
}

/* Whether it was answered, and with OK. */
static inline bool
ask_wire(int socket, unsigned type, uint32_t id, uint64_t a, uint64_t b,
    struct wire_message *reply, int *fd)
{
	return say(socket, type, id, a, b) && hear(socket, reply, fd) &&
	    reply->type == type && reply->status == WIRE_OK;
}

static inline void
greet(int socket)
{
	struct wire_message reply;
	int pulse;

	expect(ask_wire(socket, WIRE_HELLO, 0, WIRE_VERSION, WIRE_VERSION,
	    &reply, &pulse));
	expect(pulse != -1);
	(void)close(pulse);
}

#endif
