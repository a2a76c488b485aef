/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * talk.c: says HELLO to a helper, by helper/protocol.h, and keeps the answer,
 * more of which is told there than the library hands on.  Locks nothing.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../helper/protocol.h"
#include "tool.h"

/* Whoever has nothing to say within that time is of no use to a program. */
enum { TALK_SECONDS = 5, END_MS = 2000 };

/*
 * What came with MSG, which has room for one control message, is closed: the
 * helper stays as long as it is under way.
 */
static void
descriptors_close(const struct msghdr *msg)
{
	const struct cmsghdr *c = CMSG_FIRSTHDR(msg);
	int fd;

	if (c == NULL || c->cmsg_level != SOL_SOCKET ||
	    c->cmsg_type != SCM_RIGHTS)
		return;
	for (size_t at = CMSG_LEN(0); at + sizeof(fd) <= c->cmsg_len;
	    at += sizeof(fd)) {
		memcpy(&fd, (const unsigned char *)c + at, sizeof(fd));
		(void)close(fd);
	}
}

static bool
reply_receive(int fd, struct wire_message *reply)
{
	unsigned char packet[WIRE_REPLY_LEN];
	union {
		struct cmsghdr header;
		unsigned char space[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { packet, sizeof(packet) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1,
	    .msg_control = &control, .msg_controllen = sizeof(control) };
	struct pollfd peer = { .fd = fd, .events = POLLIN };
	ssize_t n;

	if (poll(&peer, 1, TALK_SECONDS * 1000) != 1 ||
	    (n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC)) == -1)
		return false;
	descriptors_close(&msg);
	return n == (ssize_t)sizeof(packet) &&
	    (msg.msg_flags & MSG_TRUNC) == 0 &&
	    wire_unpack(packet, sizeof(packet), reply) == 0 &&
	    reply->type == WIRE_HELLO && reply->version == WIRE_VERSION;
}

static void
say_hello(int fd, struct answer *answer)
{
	const struct wire_message hello = { .version = WIRE_VERSION,
	    .type = WIRE_HELLO, .a = WIRE_VERSION, .b = WIRE_VERSION };
	unsigned char packet[WIRE_REQUEST_LEN];
	struct wire_message reply;

	answer->kind = ANSWER_SILENT;
	wire_pack(packet, sizeof(packet), &hello);
	if (send(fd, packet, sizeof(packet), MSG_NOSIGNAL) !=
	    (ssize_t)sizeof(packet) || !reply_receive(fd, &reply))
		return;
	answer->kind = reply.status == WIRE_OK ? ANSWER_SERVES :
	    ANSWER_REFUSED;
	answer->status = reply.status;
	answer->limit = reply.b;
	answer->left = reply.c;
}

void
talk_to_socket(const char *path, struct answer *answer)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const struct timeval wait = { .tv_sec = TALK_SECONDS };
	int fd;

	*answer = (struct answer){ .kind = ANSWER_ERROR };
	if (strlen(path) >= sizeof(address.sun_path)) {
		answer->error = ENAMETOOLONG;
		return;
	}
	memcpy(address.sun_path, path, strlen(path));
	if ((fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)) == -1 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait,
	    sizeof(wait)) == -1 || connect(fd,
	    (const struct sockaddr *)&address, sizeof(address)) == -1)
		answer->error = errno;
	else
		say_hello(fd, answer);
	if (fd != -1)
		(void)close(fd);
}

/* As the library starts it, but as a child whose end can be waited for. */
static _Noreturn void
become_helper(const char *path, int fd, int told)
{
	char name[] = "secmalloc-helper";
	char *argv[] = { name, NULL }, *envp[] = { NULL };
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null != -1 && dup2(fd, 0) != -1 && dup2(null, 1) != -1 &&
	    dup2(null, 2) != -1)
		(void)execve(path, argv, envp);
	(void)!write(told, &errno, sizeof(errno));
	_exit(127);
}

void
talk_to_helper(const char *path, struct answer *answer)
{
	int pair[2], told[2];
	pid_t pid;

	*answer = (struct answer){ .kind = ANSWER_ERROR };
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == -1) {
		answer->error = errno;
		return;
	}
	if (pipe2(told, O_CLOEXEC) == -1 || (pid = fork()) == -1) {
		answer->error = errno;
		(void)close(pair[0]);
		(void)close(pair[1]);
		return;
	}
	if (pid == 0)
		become_helper(path, pair[1], told[1]);
	(void)close(pair[1]);
	(void)close(told[1]);
	/* Nothing comes from who has executed it. */
	if (read(told[0], &answer->error, sizeof(answer->error)) <= 0)
		say_hello(pair[0], answer);
	(void)close(told[0]);
	(void)close(pair[0]);
	(void)run_wait(pid, END_MS);
}
