/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * client.c: starts a helper, or is connected to one, and talks to it, the
 * mirror of helper/serve.c; must not know what the memory is for, nor map any
 * of it.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../helper/protocol.h"
#include "client.h"
#include "memory.h"
#include "sanitizers.h"

/*
 * What runs in the host's memory and never returns to it must leave no trace
 * in a sanitizer's books.  ThreadSanitizer takes every clone() for a fork, but
 * does not know the C library's other name for it.
 */
#define UNWATCHED \
	__attribute__((no_sanitize("address"), no_sanitize("thread")))
#ifdef __SANITIZE_THREAD__
int __clone(int (*)(void *), void *, int, void *, ...);
# define clone __clone
#endif

enum {
	/* Locking takes 0.7 ms per MiB; a helper silent for so long is lost. */
	REPLY_MS = 20 * 1000,
	/* Nor does who lets others wait for so long accept anybody soon. */
	CONNECT_MS = 5 * 1000,
	/* Two stacks for a few calls each, with every signal blocked. */
	SPAWN_STACK = 32 * 1024
};

/*
 * Spawning.  The calling thread makes an intermediate with no exit signal,
 * which makes the helper and ends; so the helper is nobody's child here.  Both
 * run in our memory while we wait (CLONE_VM | CLONE_VFORK): no page table is
 * copied, and they can say what went wrong.
 */
struct spawn {
	const char *path;
	int socket;
	int error;
	unsigned char *helper_stack; /* its highest address */
};

UNWATCHED static int
become_helper(void *arg)
{
	struct spawn *spawn = arg;
	char name[] = "secmalloc-helper";
	char *argv[] = { name, NULL }, *envp[] = { NULL };

	/* dup2() onto itself would leave it close-on-exec. */
	if ((spawn->socket == STDIN_FILENO ?
	    fcntl(STDIN_FILENO, F_SETFD, 0) :
	    dup2(spawn->socket, STDIN_FILENO)) == -1 ||
	    execve(spawn->path, argv, envp) == -1)
		spawn->error = errno;
	return 127;
}

UNWATCHED static int
become_intermediate(void *arg)
{
	struct spawn *spawn = arg;

	if (clone(become_helper, spawn->helper_stack, CLONE_VM | CLONE_VFORK,
	    spawn) == -1)
		spawn->error = errno;
	return 0;
}

/* 0 or an error number. */
static int
spawn_on(unsigned char *stacks, struct spawn *spawn)
{
	sigset_t all, before;
	pid_t pid;

	spawn->helper_stack = stacks + SPAWN_STACK;
	/* The host's handlers must not run in what shares its memory. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pid = clone(become_intermediate, stacks + 2 * SPAWN_STACK,
	    CLONE_VM | CLONE_VFORK, spawn);
	if (pid == -1)
		spawn->error = errno;
	else
		/* ECHILD: a thread of the host waits for just any child. */
		while (waitpid(pid, NULL, (int)__WCLONE) == -1 &&
		    errno == EINTR)
			;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return spawn->error;
}

static int
spawn_helper(const char *path, int socket)
{
	struct spawn spawn = { .path = path, .socket = socket };
	size_t size = memory_round_up(2 * SPAWN_STACK);
	unsigned char *stacks;
	int error;

	/* What may not be executed, no process need find out. */
	if (faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) == -1) {
		errno = EPERM;
		return -1;
	}
	if ((stacks = memory_reserve(size)) == NULL)
		return -1;
	if (memory_map_private(stacks, size) == -1) {
		/* EAGAIN is of what may be locked, under mlockall(). */
		error = errno;
		memory_unreserve(stacks, size);
		errno = error;
		return -1;
	}
	error = spawn_on(stacks, &spawn);
	memory_unreserve(stacks, size);
	switch (error) {
	case 0:
		return 0;
	case EAGAIN: /* RLIMIT_NPROC */
	case ENOMEM:
	case E2BIG:  /* RLIMIT_STACK leaves no room for even this much */
		errno = ENOMEM;
		return -1;
	case EMFILE:
	case ENFILE:
		errno = error;
		return -1;
	default: /* ENOENT, EACCES, EPERM, ENOEXEC, ... */
		errno = EPERM;
		return -1;
	}
}

/* The conversation is over; what the pulse tells is true yet. */
static void
hang_up(struct client *client)
{
	descriptor_close(&client->socket);
}

void
client_close(struct client *client)
{
	const uint32_t *pulse = client->pulse;

	hang_up(client);
	/*
	 * Forgotten first: a child whose memory is a picture of this moment may
	 * have something else there by the time that it closes this.
	 */
	__atomic_store_n(&client->pulse, NULL, __ATOMIC_RELEASE);
	if (pulse != NULL)
		memory_unreserve((void *)(uintptr_t)pulse, memory_page_size());
}

/* With the descriptor FD, or none: -1. */
static int
send_request(int socket, const struct wire_message *request, int fd)
{
	union {
		struct cmsghdr header;
		unsigned char bytes[CMSG_SPACE(sizeof(int))];
	} control = { { .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS,
	    .cmsg_len = CMSG_LEN(sizeof(int)) } };
	unsigned char packet[WIRE_REQUEST_LEN];
	struct iovec iov = { .iov_base = packet, .iov_len = sizeof packet };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = fd == -1 ? NULL : &control,
		.msg_controllen = fd == -1 ? 0 : sizeof control
	};
	ssize_t sent;

	wire_pack(packet, sizeof packet, request);
	memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
	/* There is room: the one before has been answered. */
	do
		sent = sendmsg(socket, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (sent == -1 && errno == EINTR);
	return sent == (ssize_t)sizeof packet ? 0 : -1;
}

static int64_t
now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Whether there is anything to receive in time, however often interrupted. */
static bool
await_reply(int socket)
{
	struct pollfd peer = { .fd = socket, .events = POLLIN };
	int64_t end = now_ms() + REPLY_MS, left;

	while ((left = end - now_ms()) > 0) {
		int ready = poll(&peer, 1, (int)left);

		if (ready > 0)
			return true;
		if (ready == -1 && errno != EINTR)
			return false;
	}
	return false;
}

/*
 * The descriptors that came with MSG, which has room for one control message:
 * keeps one in *FD, closes all others.
 */
static int
take_descriptors(const struct msghdr *msg, int *fd)
{
	const struct cmsghdr *c = CMSG_FIRSTHDR(msg);
	int n = 0, got;

	*fd = -1;
	if (c == NULL || c->cmsg_level != SOL_SOCKET ||
	    c->cmsg_type != SCM_RIGHTS)
		return 0;
	for (size_t at = CMSG_LEN(0); at + sizeof got <= c->cmsg_len;
	    at += sizeof got) {
		memcpy(&got, (const unsigned char *)c + at, sizeof got);
		if (n++ == 0)
			*fd = got;
		else
			(void)close(got);
	}
	return n;
}

/*
 * A well-formed reply and the number of descriptors with it, or -1.  One that
 * found no room here, at the limit of descriptors, counts, but *FD is -1.
 */
static int
receive_reply(int socket, struct wire_message *reply, int *fd)
{
	unsigned char packet[WIRE_REPLY_LEN];
	union {
		struct cmsghdr align;
		unsigned char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { .iov_base = packet, .iov_len = sizeof packet };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = &control, .msg_controllen = sizeof control
	};
	ssize_t got;
	int fds;

	if (!await_reply(socket))
		return -1;
	do
		got = recvmsg(socket, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	while (got == -1 && errno == EINTR);
	if (got == -1)
		return -1;
	fds = take_descriptors(&msg, fd);
	if (got != (ssize_t)sizeof packet || (msg.msg_flags & MSG_TRUNC) != 0 ||
	    wire_unpack(packet, sizeof packet, reply) == -1)
		fds = -1;
	else if ((msg.msg_flags & MSG_CTRUNC) == 0)
		return fds;
	else
		fds = 1;
	if (*fd != -1)
		(void)close(*fd);
	*fd = -1;
	return fds;
}

static int
errno_of_status(uint32_t status)
{
	switch (status) {
	case WIRE_EPERM:
		return EPERM;
	case WIRE_EDQUOT:
		return EDQUOT;
	case WIRE_ENOMEM:
		return ENOMEM;
	default: /* we never ask what EINVAL would answer */
		return EPROTO;
	}
}

/*
 * Asks and waits for the answer.  GIVEN is the descriptor to send, or -1.  GOT
 * is where the one goes that a reply of status OK must carry, or NULL if it
 * must carry none.  A reply that is late, malformed or of another request
 * leaves no way to tell what the next one belongs to, so that it ends the
 * conversation: ENOLCK.
 */
static int
converse(struct client *client, const struct wire_message *request, int given,
    struct wire_message *reply, int *got)
{
	int socket = client->socket.fd, came = -1, n = -1;

	if (descriptor_is_ours(&client->socket) &&
	    send_request(socket, request, given) == 0)
		n = receive_reply(socket, reply, &came);
	if (n == -1 || reply->version != WIRE_VERSION ||
	    reply->type != request->type ||
	    n != (reply->status == WIRE_OK && got != NULL)) {
		if (came != -1)
			(void)close(came);
		hang_up(client);
		errno = ENOLCK;
		return -1;
	}
	if (reply->status != WIRE_OK) {
		errno = errno_of_status(reply->status);
		return -1;
	}
	if (got != NULL)
		*got = came;
	return 0;
}

/*
 * Of a descriptor that came with a reply: whether it is SIZE bytes, sealed
 * against becoming fewer, which would turn a touch into a SIGBUS.
 */
int
client_check(int fd, size_t size)
{
	struct stat st;
	int seals = fcntl(fd, F_GET_SEALS);

	if (seals == -1 || (seals & F_SEAL_SHRINK) == 0 ||
	    fstat(fd, &st) == -1 || (uintmax_t)st.st_size != size) {
		errno = EPROTO;
		return -1;
	}
	return 0;
}

/* Maps the page of FD, which is closed. */
static int
take_pulse(struct client *client, int fd)
{
	size_t size = memory_page_size();
	void *page = NULL;
	int error;

	if (fd == -1) {
		errno = EMFILE;
		return -1;
	}
	if (client_check(fd, size) == 0 &&
	    (page = memory_reserve(size)) != NULL) {
		if (memory_map_readable(page, size, fd) == 0)
			client->pulse = page;
		else {
			error = errno;
			memory_unreserve(page, size);
			errno = error;
		}
	}
	(void)close(fd); /* which leaves errno alone */
	return client->pulse != NULL ? 0 : -1;
}

static int
say_hello(struct client *client)
{
	struct wire_message reply, hello = {
		.version = WIRE_VERSION, .type = WIRE_HELLO,
		.a = WIRE_VERSION, .b = WIRE_VERSION
	};
	int pulse;

	if (converse(client, &hello, -1, &reply, &pulse) == -1) {
		/* It ended without a word: it is not the helper we know. */
		if (errno == ENOLCK)
			errno = EPROTO;
		return -1;
	}
	if (reply.a == WIRE_VERSION)
		return take_pulse(client, pulse);
	if (pulse != -1)
		(void)close(pulse);
	errno = EPROTO;
	return -1;
}

/* Starts the helper at PATH with the other end of our socket. */
static int
start_helper(struct client *client, const char *path)
{
	int pair[2], error = 0;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == -1)
		return -1;
	if (descriptor_keep(&client->socket, pair[0]) == -1 ||
	    spawn_helper(path, pair[1]) == -1)
		error = errno;
	(void)close(pair[1]);
	errno = error;
	return error == 0 ? 0 : -1;
}

/*
 * Waits for room in the listener's queue, which may never come: connect() of
 * a Unix socket heeds the time to send.  A signal's handler ends the wait, and
 * then the socket is as it was.
 */
static int
connect_in_time(int socket, const struct sockaddr_un *address)
{
	int64_t end = now_ms() + CONNECT_MS, left;

	while ((left = end - now_ms()) > 0) {
		struct timeval wait = {
			.tv_sec = (time_t)(left / 1000),
			.tv_usec = (suseconds_t)(left % 1000 * 1000)
		};

		if (setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &wait,
		    sizeof wait) == -1)
			return -1;
		if (connect(socket, (const struct sockaddr *)address,
		    sizeof *address) == 0)
			return 0;
		if (errno != EINTR)
			return -1;
	}
	errno = EAGAIN;
	return -1;
}

/* Asks whoever listens at PATH for a helper, which is then our peer. */
static int
connect_helper(struct client *client, const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	size_t length = strlen(path);

	if (length >= sizeof address.sun_path) {
		errno = EINVAL;
		return -1;
	}
	memcpy(address.sun_path, path, length);
	if (descriptor_keep(&client->socket, socket(AF_UNIX,
	    SOCK_SEQPACKET | SOCK_CLOEXEC, 0)) == 0 &&
	    connect_in_time(client->socket.fd, &address) == 0)
		return 0;
	switch (errno) {
	case EMFILE:
	case ENFILE:
		return -1;
	case ENOMEM:
	case ENOBUFS:
		errno = ENOMEM;
		return -1;
	case EAGAIN:     /* nobody accepts */
	case EPROTOTYPE: /* it is of another type */
		errno = EPROTO;
		return -1;
	default: /* ECONNREFUSED: nobody listens; EACCES, ENOENT, ... */
		errno = EPERM;
		return -1;
	}
}

int
client_open(struct client *client, const char *path)
{
	struct stat st;
	int error;

	*client = (struct client){ .socket.fd = -1 };
	/* Where there is no helper, that is all it takes to find out. */
	if (stat(path, &st) == -1) {
		if (errno != ENOMEM)
			errno = EPERM;
		return -1;
	}
	if ((S_ISSOCK(st.st_mode) ? connect_helper(client, path) :
	    start_helper(client, path)) == 0 && say_hello(client) == 0)
		return 0;
	error = errno;
	client_close(client);
	errno = error;
	return -1;
}

int
client_grant(struct client *client, size_t size, uint32_t *id, int *fd)
{
	struct wire_message reply, grant = {
		.version = WIRE_VERSION, .type = WIRE_GRANT, .a = size
	};

	if (converse(client, &grant, -1, &reply, fd) == -1)
		return -1;
	*id = reply.id;
	if (*fd != -1)
		return 0;
	if (client_release(client, *id) == 0)
		errno = EMFILE;
	return -1;
}

int
client_lock(struct client *client, uint32_t id)
{
	struct wire_message reply, lock = {
		.version = WIRE_VERSION, .type = WIRE_LOCK, .id = id
	};

	return converse(client, &lock, -1, &reply, NULL);
}

int
client_release(struct client *client, uint32_t id)
{
	struct wire_message reply, release = {
		.version = WIRE_VERSION, .type = WIRE_RELEASE, .id = id
	};

	return converse(client, &release, -1, &reply, NULL);
}

int
client_status(struct client *client, uint64_t *pools, uint64_t *bytes)
{
	struct wire_message reply, status = {
		.version = WIRE_VERSION, .type = WIRE_STATUS
	};

	if (converse(client, &status, -1, &reply, NULL) == -1)
		return -1;
	*bytes = reply.a;
	*pools = reply.b;
	return 0;
}

int
client_adopt(struct client *client, size_t size, int fd, uint32_t *id)
{
	struct wire_message reply, adopt = {
		.version = WIRE_VERSION, .type = WIRE_ADOPT, .a = size
	};

	if (converse(client, &adopt, fd, &reply, NULL) == -1)
		return -1;
	*id = reply.id;
	return 0;
}

bool
client_answers(struct client *client)
{
	struct pollfd peer = { .fd = client->socket.fd,
	    .events = POLLIN | POLLRDHUP };
	int ready;

	if (!descriptor_is_ours(&client->socket))
		return false;
	/* It never speaks first: anything to see here is its end. */
	ready = poll(&peer, 1, 0);
	return ready == 0 || (ready == -1 && errno == EINTR);
}

bool
client_lives(const struct client *client)
{
	return client->pulse != NULL &&
	    (__atomic_load_n(client->pulse, __ATOMIC_RELAXED) &
	    WIRE_PULSE_DIED) == 0;
}
