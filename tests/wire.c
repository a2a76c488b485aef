/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * wire.c: starts a helper by hand and says to it what it is told to, rightly or
 * wrongly; one line of output for each command.  Uses nothing of the library.
 *
 *   wire [-0t] [-a ARG] [-x DIGITS] HELPER COMMAND...
 *
 * -0 gives the helper no argv at all, -t a timer that is about to expire, -a
 * one argument, and -x closes those of its descriptors 0, 1 and 2.  The command
 * "-" reads further ones, one a line.
 */
#include "config.h"

#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../helper/protocol.h"

#define GONE_MILLISECONDS 5000

static struct {
	unsigned char *base;
	size_t size;
	uint32_t id;
	int fd;
} pools[2 * WIRE_POOLS_MAX]; /* what is released stays in it */
static unsigned pool_count;

static int helper_socket;
static pid_t helper_pid;
static int pulse = -1;

/* What is to be wrong with the next packet. */
static struct {
	bool magic, version, padding, attach;
	int length;
	int descriptor; /* that is attached */
} spoilt;

/* How the helper is to be started. */
static struct {
	char *argument;
	const char *closed;
	bool no_argv, timer;
} start = { .closed = "" };

static void
helper_start(const char *path)
{
	const struct itimerval soon = { .it_value = { .tv_usec = 100000 } };
	char name[] = "secmalloc-helper";
	char *argv[] = { name, start.argument, NULL };
	int sv[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) == -1)
		err(1, "socketpair");
	if ((helper_pid = fork()) == -1)
		err(1, "fork");
	if (helper_pid == 0) {
		if (dup2(sv[1], 0) == -1)
			_exit(126);
		for (const char *c = start.closed; *c != '\0'; c++)
			close(*c - '0');
		if (start.timer)
			setitimer(ITIMER_REAL, &soon, NULL);
		execve(path, start.no_argv ? argv + 2 : argv, environ);
		_exit(127);
	}
	close(sv[1]);
	helper_socket = sv[0];
	printf("helper %ld client %ld\n", (long)helper_pid, (long)getpid());
}

static ssize_t
packet_send(const struct wire_message *m)
{
	unsigned char packet[WIRE_REQUEST_LEN * 2] = { 0 };
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { packet, WIRE_REQUEST_LEN };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *c;

	wire_pack(packet, WIRE_REQUEST_LEN, m);
	if (spoilt.magic)
		packet[3] ^= 1;
	if (spoilt.version)
		packet[4] ^= 3;
	if (spoilt.padding)
		packet[15] = 1;
	if (spoilt.length != 0)
		iov.iov_len = (size_t)spoilt.length;
	if (spoilt.attach) {
		memset(&control, 0, sizeof(control));
		msg.msg_control = &control;
		msg.msg_controllen = sizeof(control);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &spoilt.descriptor, sizeof(int));
	}
	memset(&spoilt, 0, sizeof(spoilt));
	return sendmsg(helper_socket, &msg, MSG_NOSIGNAL);
}

/* Waits 5 s at most.  False if the helper closed the socket. */
static bool
packet_receive(struct wire_message *m, int *fd)
{
	unsigned char packet[WIRE_REPLY_LEN + 1];
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { packet, sizeof(packet) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1,
	    .msg_control = &control, .msg_controllen = sizeof(control) };
	struct pollfd p = { .fd = helper_socket, .events = POLLIN };
	const struct cmsghdr *c;
	ssize_t n;

	if (poll(&p, 1, GONE_MILLISECONDS) == 0)
		errx(1, "no reply");
	n = recvmsg(helper_socket, &msg, MSG_CMSG_CLOEXEC);
	if (n == 0 || (n == -1 && errno == ECONNRESET))
		return false;
	if (n != WIRE_REPLY_LEN || wire_unpack(packet, WIRE_REPLY_LEN, m) != 0)
		errx(1, "malformed reply");
	*fd = -1;
	if ((c = CMSG_FIRSTHDR(&msg)) != NULL) {
		if (c->cmsg_len != CMSG_LEN(sizeof(int)) ||
		    (msg.msg_flags & MSG_CTRUNC) != 0)
			errx(1, "not one descriptor");
		memcpy(fd, CMSG_DATA(c), sizeof(int));
	}
	return true;
}

/* One request and its reply, which is printed. */
static bool
ask(const char *name, unsigned type, uint32_t id, uint64_t a, uint64_t b,
    struct wire_message *reply, int *fd)
{
	static const char *const statuses[] = {
		"OK", "EPERM", "EDQUOT", "ENOMEM", "EINVAL", "EPROTO"
	};
	struct wire_message m = { .version = WIRE_VERSION,
	    .type = (uint16_t)type, .id = id, .a = a, .b = b };

	if (packet_send(&m) == -1 || !packet_receive(reply, fd)) {
		printf("%s closed\n", name);
		return false;
	}
	if (reply->type != type || reply->version != WIRE_VERSION ||
	    reply->status >= sizeof(statuses) / sizeof(statuses[0]))
		errx(1, "reply to another request");
	printf("%s %s id=%" PRIu32 " a=%" PRIu64 " b=%" PRIu64 " c=%" PRIu64,
	    name, statuses[reply->status], reply->id, reply->a, reply->b,
	    reply->c);
	return true;
}

static void
ask_plainly(const char *name, unsigned type, uint32_t id, uint64_t a,
    uint64_t b)
{
	struct wire_message reply;
	int fd;

	if (!ask(name, type, id, a, b, &reply, &fd))
		return;
	if ((fd != -1) != (type == WIRE_HELLO && reply.status == WIRE_OK))
		errx(1, "a descriptor nobody asked for, or none");
	if (fd != -1)
		(void)close(fd);
	putchar('\n');
}

/* A pulse comes with OK, and with nothing else. */
static void
hello(void)
{
	struct wire_message reply;

	if (!ask("hello", WIRE_HELLO, 0, 1, 1, &reply, &pulse))
		return;
	if ((pulse != -1) != (reply.status == WIRE_OK))
		errx(1, "pulse and status differ");
	putchar('\n');
}

/* The last pool once more, as if its helper were another. */
static void
adopt(void)
{
	if (pool_count == 0)
		errx(2, "no pool");
	spoilt.attach = true;
	spoilt.descriptor = pools[pool_count - 1].fd;
	ask_plainly("adopt", WIRE_ADOPT, 0, pools[pool_count - 1].size, 0);
}

static void
grant(uint64_t bytes)
{
	struct wire_message reply;
	unsigned char *base;
	int fd;

	if (!ask("grant", WIRE_GRANT, 0, bytes, 0, &reply, &fd))
		return;
	if ((fd != -1) != (reply.status == WIRE_OK))
		errx(1, "descriptor and status differ");
	if (fd != -1) {
		if (pool_count == sizeof(pools) / sizeof(pools[0]))
			errx(1, "too many grants");
		base = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE,
		    MAP_SHARED, fd, 0);
		if (base == MAP_FAILED)
			err(1, "mmap");
		pools[pool_count].base = base;
		pools[pool_count].size = (size_t)bytes;
		pools[pool_count].id = reply.id;
		pools[pool_count].fd = fd;
		pool_count++;
		printf(" at=%" PRIxPTR, (uintptr_t)base);
	}
	putchar('\n');
}

static void
populate(void)
{
	if (pool_count > 0)
		memset(pools[pool_count - 1].base, 0x5a,
		    pools[pool_count - 1].size);
	puts("populate");
}

static void
unmap(void)
{
	while (pool_count > 0) {
		pool_count--;
		munmap(pools[pool_count].base, pools[pool_count].size);
		close(pools[pool_count].fd);
	}
	puts("unmap");
}

/* What the client may do with the descriptor of its last pool. */
static void
tamper(void)
{
	off_t size;
	char path[64];
	void *p;
	int fd;

	if (pool_count == 0)
		errx(2, "no pool");
	fd = pools[pool_count - 1].fd;
	size = (off_t)pools[pool_count - 1].size;
	(void)snprintf(path, sizeof(path), "/proc/%ld/fd/%d", (long)getpid(),
	    fd);
	p = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	printf("tamper shrink=%d grow=%d punch=%d map=%d reopen=%d\n",
	    ftruncate(fd, size / 2) == 0, ftruncate(fd, size * 2) == 0,
	    fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
	    size) == 0, p != MAP_FAILED, open(path, O_RDWR | O_CLOEXEC) != -1);
}

/*
 * Somebody else who maps the pools, and has nothing to do with the socket.  It
 * writes to each page, since fork() leaves shared ones to be found anew.
 */
static void
keep(void)
{
	pid_t pid;

	fflush(stdout);
	if ((pid = fork()) == -1)
		err(1, "fork");
	if (pid == 0) {
		for (unsigned i = 0; i < pool_count; i++)
			memset(pools[i].base, 0xa5, pools[i].size);
		printf("keeper %ld\n", (long)getpid());
		close(helper_socket);
		close(STDIN_FILENO);
		close(STDOUT_FILENO);
		close(STDERR_FILENO);
		for (;;)
			pause();
	}
}

static void
gone(void)
{
	const struct timespec pause = { .tv_nsec = 1000000 };
	struct timespec from, to;
	pid_t pid;
	long ms;
	int status;

	clock_gettime(CLOCK_MONOTONIC, &from);
	do {
		pid = waitpid(helper_pid, &status, WNOHANG);
		clock_gettime(CLOCK_MONOTONIC, &to);
		ms = (to.tv_sec - from.tv_sec) * 1000 +
		    (to.tv_nsec - from.tv_nsec) / 1000000;
		if (pid == 0)
			nanosleep(&pause, NULL);
	} while (pid == 0 && ms < GONE_MILLISECONDS);
	if (pid == 0)
		puts("gone never");
	else if (pid == helper_pid && WIFEXITED(status))
		printf("gone %d %s\n", WEXITSTATUS(status),
		    ms < 1000 ? "promptly" : "late");
	else
		puts("gone killed");
}

/* Asks without reading an answer, until there is no more room for asking. */
static void
flood(void)
{
	struct wire_message m = { .version = WIRE_VERSION,
	    .type = WIRE_STATUS };
	struct timeval second = { .tv_sec = 1 };

	setsockopt(helper_socket, SOL_SOCKET, SO_SNDTIMEO, &second,
	    sizeof(second));
	for (int i = 0; i < 1000000; i++) {
		if (packet_send(&m) != -1)
			continue;
		printf("flood %s\n", errno == EPIPE || errno == ECONNRESET ?
		    "closed" : strerror(errno));
		return;
	}
	puts("flood endless");
}

/* True if NAME is what is to be wrong next. */
static bool
spoil(const char *name)
{
	if (strcmp(name, "bad-magic") == 0)
		spoilt.magic = true;
	else if (strcmp(name, "bad-version") == 0)
		spoilt.version = true;
	else if (strcmp(name, "bad-padding") == 0)
		spoilt.padding = true;
	else if (strcmp(name, "attach") == 0)
		spoilt.attach = true;
	else if (strcmp(name, "short") == 0)
		spoilt.length = WIRE_REQUEST_LEN - 1;
	else if (strcmp(name, "long") == 0)
		spoilt.length = WIRE_REQUEST_LEN + 1;
	else
		return false;
	return true;
}

/* TYPE,ID,A,B */
static void
packet(char *text)
{
	uint64_t field[4] = { 0 };

	for (int i = 0; i < 4 && *text != '\0'; i++) {
		field[i] = strtoull(text, &text, 0);
		if (*text == ',')
			text++;
	}
	ask_plainly("packet", (unsigned)field[0], (uint32_t)field[1], field[2],
	    field[3]);
}

static void
empty(void)
{
	struct wire_message reply;
	int fd;

	(void)send(helper_socket, "", 0, MSG_NOSIGNAL);
	puts(packet_receive(&reply, &fd) ? "empty answered" : "empty closed");
}

static void
command(char *name)
{
	char *value = strchr(name, '=');
	uint64_t number = 0;

	if (value != NULL) {
		*value++ = '\0';
		number = strtoull(value, NULL, 0);
	}
	if (spoil(name))
		puts(name);
	else if (strcmp(name, "hello") == 0)
		hello();
	else if (strcmp(name, "packet") == 0 && value != NULL)
		packet(value);
	else if (strcmp(name, "grant") == 0)
		grant(number);
	else if (strcmp(name, "populate") == 0)
		populate();
	else if (strcmp(name, "lock") == 0)
		ask_plainly(name, WIRE_LOCK, (uint32_t)number, 0, 0);
	else if (strcmp(name, "release") == 0)
		ask_plainly(name, WIRE_RELEASE, (uint32_t)number, 0, 0);
	else if (strcmp(name, "status") == 0)
		ask_plainly(name, WIRE_STATUS, 0, 0, 0);
	else if (strcmp(name, "empty") == 0)
		empty();
	else if (strcmp(name, "unmap") == 0)
		unmap();
	else if (strcmp(name, "adopt") == 0)
		adopt();
	else if (strcmp(name, "tamper") == 0)
		tamper();
	else if (strcmp(name, "keep") == 0)
		keep();
	else if (strcmp(name, "flood") == 0)
		flood();
	else if (strcmp(name, "hangup") == 0)
		puts(close(helper_socket) == 0 ? "hangup" : "hangup failed");
	else if (strcmp(name, "gone") == 0)
		gone();
	else
		errx(2, "unknown command: %s", name);
}

int
main(int argc, char *argv[])
{
	char line[256];
	int c;

	setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
	while ((c = getopt(argc, argv, "+0ta:x:")) != -1) {
		if (c == '0')
			start.no_argv = true;
		else if (c == 't')
			start.timer = true;
		else if (c == 'a')
			start.argument = optarg;
		else if (c == 'x')
			start.closed = optarg;
		else
			return 2;
	}
	if (optind == argc)
		errx(2, "no helper");
	helper_start(argv[optind]);
	while (++optind < argc) {
		if (strcmp(argv[optind], "-") != 0) {
			command(argv[optind]);
			continue;
		}
		while (fgets(line, sizeof(line), stdin) != NULL) {
			line[strcspn(line, "\n")] = '\0';
			command(line);
		}
	}
	return 0;
}
