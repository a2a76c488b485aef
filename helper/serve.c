/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * serve.c: reads requests, lets the locker act on them, and answers; distrusts
 * every byte it reads, and must not know how memory is locked.
 */
#include "config.h"

#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "locker.h"
#include "serve.h"

struct reply {
	struct wire_message message;
	int fd; /* to send with it, or -1 */
};

/* Where in a conversation we are. */
/* Milliseconds that a silence may last in which nobody maps a pool. */
#ifndef PATIENCE_MS
#define PATIENCE_MS 60000
#endif

enum {
	GREETING = 1,  /* nothing was said yet */
	READY = 2,     /* no grant is outstanding */
	GRANTED = 4    /* one is */
};

/* Fields of a request that may be other than zero. */
enum {
	FIELD_ID = 1,
	FIELD_A = 2,
	FIELD_B = 4
};

/* False: the request breaks a rule of form. */
typedef bool handler(const struct wire_message *, struct reply *);

static handler hello, grant, lock, release, status;

static const struct {
	uint16_t type;
	unsigned when;
	unsigned fields;
	handler *handle;
} requests[] = {
	{ WIRE_HELLO, GREETING, FIELD_A | FIELD_B, hello },
	{ WIRE_GRANT, READY, FIELD_A, grant },
	{ WIRE_LOCK, GRANTED, FIELD_ID, lock },
	{ WIRE_RELEASE, READY | GRANTED, FIELD_ID, release },
	{ WIRE_STATUS, READY | GRANTED, 0, status },
};

static enum wire_status able_to_serve;
static bool greeted;

static bool
hello(const struct wire_message *m, struct reply *r)
{
	if (m->a > m->b)
		return false;
	greeted = true;
	r->message.status = able_to_serve;
	if (m->a > WIRE_VERSION || m->b < WIRE_VERSION)
		r->message.status = WIRE_EPROTO;
	if (r->message.status == WIRE_OK) {
		r->message.a = WIRE_VERSION;
		r->message.b = HELPER_CEILING;
		r->message.c = locker_totals().left;
	}
	return true;
}

static bool
grant(const struct wire_message *m, struct reply *r)
{
	r->message.status = locker_grant(m->a, &r->message.id, &r->fd);
	return true;
}

static bool
lock(const struct wire_message *m, struct reply *r)
{
	if (m->id != locker_outstanding())
		return false;
	r->message.status = locker_lock();
	if (r->message.status == WIRE_OK)
		r->message.a = locker_totals().locked;
	return true;
}

static bool
release(const struct wire_message *m, struct reply *r)
{
	if (!locker_release(m->id))
		return false;
	r->message.a = locker_totals().locked;
	return true;
}

static bool
status(const struct wire_message *m, struct reply *r)
{
	struct locker_totals totals = locker_totals();

	(void)m;
	r->message.a = totals.locked;
	r->message.b = totals.pools;
	r->message.c = totals.left;
	return true;
}

/*
 * False if there is nobody to wait for: silence before HELLO, or while nobody
 * maps a pool.  The end of a socket does not tell that to a helper whose peer
 * is another one.
 */
static bool
request_await(void)
{
	struct pollfd socket = { .fd = 0, .events = POLLIN };
	int ready;

	while ((ready = poll(&socket, 1, PATIENCE_MS)) <= 0) {
		if (ready == -1 && errno != EINTR)
			return false;
		if (ready == 0 && (!greeted || !locker_reap()))
			return false;
	}
	return true;
}

/* Who asks on and on and reads no reply would fill the kernel with them. */
static bool
replies_are_read(void)
{
	int unread;

	return ioctl(0, SIOCOUTQ, &unread) == 0 && unread == 0;
}

/*
 * False at the end of the conversation, whether it was ended or broken.  There
 * is no room for a descriptor: the kernel drops one that comes nevertheless and
 * tells by MSG_CTRUNC.  The socket's flags are also the caller's, who may make
 * it non-blocking, or blocking, at any time.
 */
static bool
request_receive(struct wire_message *m)
{
	unsigned char packet[WIRE_REQUEST_LEN];
	struct iovec iov = { packet, sizeof(packet) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	do {
		if (!request_await())
			return false;
		n = recvmsg(0, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	} while (n == -1 && (errno == EAGAIN || errno == EINTR));
	return n == WIRE_REQUEST_LEN && replies_are_read() &&
	    (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0 &&
	    wire_unpack(packet, WIRE_REQUEST_LEN, m) == 0 &&
	    m->version == WIRE_VERSION;
}

/*
 * One reply always finds room in the socket's buffer: who leaves so many unread
 * that it does not is not waited for.
 */
static int
reply_send(const struct reply *r)
{
	unsigned char packet[WIRE_REPLY_LEN];
	union {
		struct cmsghdr align;
		unsigned char space[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { packet, sizeof(packet) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *c;

	wire_pack(packet, WIRE_REPLY_LEN, &r->message);
	if (r->fd != -1) {
		memset(&control, 0, sizeof(control));
		msg.msg_control = &control;
		msg.msg_controllen = sizeof(control);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &r->fd, sizeof(int));
	}
	return sendmsg(0, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) ==
	    WIRE_REPLY_LEN ? 0 : -1;
}

/* ETOOMANYREFS: too many descriptors of our user are under way, of all its
 * helpers together. */
static bool
reply_deliver(struct reply *r)
{
	if (reply_send(r) == 0)
		return true;
	if (r->fd == -1 || errno != ETOOMANYREFS)
		return false;
	locker_release(r->message.id);
	r->message.id = 0;
	r->message.status = WIRE_ENOMEM;
	r->fd = -1;
	return reply_send(r) == 0;
}

/* False once the conversation is over. */
static bool
request_answer(const struct wire_message *m)
{
	struct reply r = { .message = { .version = WIRE_VERSION,
	    .type = m->type }, .fd = -1 };
	unsigned now = !greeted ? GREETING :
	    locker_outstanding() == 0 ? READY : GRANTED;
	unsigned used = (m->id != 0 ? FIELD_ID : 0U) |
	    (m->a != 0 ? FIELD_A : 0U) | (m->b != 0 ? FIELD_B : 0U);

	for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
		if (requests[i].type != m->type)
			continue;
		return (requests[i].when & now) != 0 &&
		    (used & ~requests[i].fields) == 0 &&
		    requests[i].handle(m, &r) && reply_deliver(&r) &&
		    (m->type != WIRE_HELLO || r.message.status == WIRE_OK);
	}
	return false;
}

/* shutdown(): others may hold descriptors of our end of the socket. */
void
serve(enum wire_status able)
{
	struct wire_message m;

	able_to_serve = able;
	while (request_receive(&m) && request_answer(&m))
		;
	shutdown(0, SHUT_RDWR);
	close(0);
}
