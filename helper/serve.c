/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * serve.c: reads requests, lets the locker act on them, and answers; distrusts
 * every byte it reads, and must not know how memory is locked.
 */
#include "config.h"
#include "helper.h"

/*
 * Milliseconds that a silence may last in which nobody maps a pool, that he who
 * is refused may take to ask why, and between two looks at what is unread.
 */
#ifndef PATIENCE_MS
#define PATIENCE_MS 60000
#endif
#define REFUSED_MS 1000
#define UNREAD_MS 250

/* Where in a conversation we are. */
enum { GREETING = 1, READY = 2, GRANTED = 4 /* a pool, not yet locked */ };

struct reply {
	struct wire_message message;
	int fd; /* to send with it, or -1 */
};

union control {
	struct cmsghdr header;
	unsigned char space[CMSG_SPACE(sizeof(int))];
};

static enum wire_status able_to_serve;
static bool greeted;
static int own_pulse;     /* to be sent with the reply to HELLO */
static int received = -1; /* the descriptor that came with the request */
static bool crowded;      /* ... or would have, had there been room for it */
static bool carried;      /* the last reply, a descriptor */

static unsigned
step(void)
{
	return !greeted ? GREETING : locker.outstanding == 0 ? READY : GRANTED;
}

/* The handlers: false if a field is set that has no meaning, or a wrong one. */
static bool
hello(const struct wire_message *m, struct reply *r)
{
	if (m->id != 0 || m->a > m->b)
		return false;
	greeted = true;
	r->message.status = m->a > WIRE_VERSION || m->b < WIRE_VERSION ?
	    refuse(WIRE_EPROTO, "protocol version") : able_to_serve;
	if (r->message.status == WIRE_OK) {
		r->message.a = WIRE_VERSION;
		r->message.b = locker.limit;
		r->message.c = locker_left();
		r->fd = own_pulse;
	}
	return true;
}

static bool
grant(const struct wire_message *m, struct reply *r)
{
	if (m->id != 0 || m->b != 0)
		return false;
	r->message.status = locker_grant(m->a, &r->message.id, &r->fd);
	return true;
}

static bool
lock(const struct wire_message *m, struct reply *r)
{
	if (m->id != locker.outstanding || m->a != 0 || m->b != 0)
		return false;
	r->message.status = locker_lock();
	r->message.a = r->message.status == WIRE_OK ? locker.locked : 0;
	return true;
}

static bool
release(const struct wire_message *m, struct reply *r)
{
	if (m->a != 0 || m->b != 0 || !locker_release(m->id))
		return false;
	r->message.a = locker.locked;
	return true;
}

/* What was received is the locker's, whatever comes of it. */
static bool
adopt(const struct wire_message *m, struct reply *r)
{
	const int fd = received;

	if (m->id != 0 || m->b != 0)
		return false;
	received = -1;
	r->message.status = fd == -1 ?
	    refuse(WIRE_ENOMEM, "no room for a descriptor") :
	    locker_adopt(fd, m->a, &r->message.id);
	r->message.a = r->message.status == WIRE_OK ? locker.locked : 0;
	return true;
}

static bool
status(const struct wire_message *m, struct reply *r)
{
	if (m->id != 0 || m->a != 0 || m->b != 0)
		return false;
	r->message.a = locker.locked;
	r->message.b = locker.locked_pools;
	r->message.c = locker_left();
	return true;
}

static const struct {
	unsigned when;
	bool (*handle)(const struct wire_message *, struct reply *);
} requests[] = {
	[WIRE_HELLO] = { GREETING, hello },
	[WIRE_GRANT] = { READY, grant },
	[WIRE_LOCK] = { GRANTED, lock },
	[WIRE_RELEASE] = { READY | GRANTED, release },
	[WIRE_STATUS] = { READY | GRANTED, status },
	[WIRE_ADOPT] = { READY, adopt },
};

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

	while ((ready = poll(&socket, 1, able_to_serve == WIRE_OK ?
	    PATIENCE_MS : REFUSED_MS)) <= 0)
		if (ready == -1 ? errno != EINTR : !greeted || !locker_reap())
			return false;
	return true;
}

/*
 * The length of a request, 0 at the end, -1 if there is more to it than bytes
 * and one descriptor: for what has no room the kernel sets MSG_CTRUNC, also,
 * and then with nothing received, where we may have no further descriptor.
 * Where none is wanted there is no room: to close one may have to wait for its
 * file system, which may be the client's (FUSE); what the kernel drops does not.
 * The socket's flags and options are also the caller's, who may make it
 * non-blocking, or have a pidfd come with each request, at any time.
 */
static ssize_t
request_receive(unsigned char packet[WIRE_REQUEST_LEN])
{
	union control control = { .header = { .cmsg_len = 0 } };
	struct iovec iov = { packet, WIRE_REQUEST_LEN };
	struct msghdr msg;
	ssize_t n;

	do {
		if (!request_await())
			return 0;
		/* Not CMSG_SPACE(): the padding is room for another one. */
		msg = (struct msghdr){ .msg_iov = &iov, .msg_iovlen = 1,
		    .msg_control = &control, .msg_controllen =
		    step() == READY ? CMSG_LEN(sizeof(int)) : 0 };
		n = recvmsg(0, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	} while (n == -1 && (errno == EAGAIN || errno == EINTR));
	/* ECONNRESET: gone, and has left a reply unread. */
	if (n == -1)
		return 0;
	/* Also of what has no bytes, or too many: to be closed. */
	if (control.header.cmsg_len == CMSG_LEN(sizeof(int)) &&
	    (control.header.cmsg_type == SCM_RIGHTS ||
	    control.header.cmsg_type == SCM_PIDFD))
		memcpy(&received, CMSG_DATA(&control.header), sizeof(int));
	crowded = (msg.msg_flags & MSG_CTRUNC) != 0 &&
	    control.header.cmsg_len == 0;
	return (msg.msg_flags & (crowded ? MSG_TRUNC :
	    MSG_TRUNC | MSG_CTRUNC)) == 0 ? n : -1;
}

/*
 * One reply always finds room in the socket's buffer: who leaves so many unread
 * that it does not is not waited for.
 */
static bool
reply_send(const struct reply *r)
{
	union control control = { { .cmsg_level = SOL_SOCKET,
	    .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int)) } };
	unsigned char packet[WIRE_REPLY_LEN];
	struct iovec iov = { packet, sizeof(packet) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1,
	    .msg_control = r->fd == -1 ? NULL : &control,
	    .msg_controllen = r->fd == -1 ? 0 : sizeof(control) };

	wire_pack(packet, WIRE_REPLY_LEN, &r->message);
	memcpy(CMSG_DATA(&control.header), &r->fd, sizeof(int));
	if (sendmsg(0, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) != WIRE_REPLY_LEN)
		return false;
	carried = r->fd != -1;
	return true;
}

static bool
reply_deliver(struct reply *r)
{
	if (reply_send(r))
		return true;
	if (r->fd == -1 || errno != ETOOMANYREFS)
		return false;
	/* Of all helpers together, whose user is ours. */
	locker_release(r->message.id);
	*r = (struct reply){ .message = { .version = WIRE_VERSION,
	    .type = r->message.type, .status = refuse(WIRE_ENOMEM,
	    "too many descriptors are under way") }, .fd = -1 };
	return reply_send(r);
}

/* False if PACKET breaks a rule of form.  Otherwise R is the answer. */
static bool
request_handle(const unsigned char packet[WIRE_REQUEST_LEN], struct reply *r)
{
	struct wire_message m;

	if (wire_unpack(packet, WIRE_REQUEST_LEN, &m) == -1 ||
	    m.version != WIRE_VERSION ||
	    (received != -1 || crowded) != (m.type == WIRE_ADOPT))
		return false;
	*r = (struct reply){ .message = { .version = WIRE_VERSION,
	    .type = m.type }, .fd = -1 };
	return m.type < sizeof(requests) / sizeof(requests[0]) &&
	    (requests[m.type].when & step()) != 0 &&
	    requests[m.type].handle(&m, r);
}

/* Who asks on and on and reads no reply would fill the kernel with them. */
static bool
replies_are_read(void)
{
	int unread;

	return ioctl(0, SIOCOUTQ, &unread) == 0 && unread == 0;
}

/* False once the conversation is over. */
static bool
request_answer(const unsigned char packet[WIRE_REQUEST_LEN], ssize_t length)
{
	const char *wrong = NULL;
	struct reply r;

	if (length != 0)
		wrong = !replies_are_read() ? "replies are not read" :
		    length != WIRE_REQUEST_LEN || !request_handle(packet, &r) ?
		    "malformed request" : NULL;
	if (received != -1)
		close(received);
	received = -1;
	if (wrong != NULL)
		refuse(WIRE_OK, "%s", wrong);
	if (length == 0 || wrong != NULL || !reply_deliver(&r))
		return false;
	/* Without a pulse, HELLO was refused; with one, it stays mapped. */
	return r.message.type != WIRE_HELLO || (r.fd != -1 && close(r.fd) == 0);
}

void
serve(enum wire_status able, int pulse)
{
	unsigned char packet[WIRE_REQUEST_LEN];

	able_to_serve = able;
	own_pulse = pulse;
	while (request_answer(packet, request_receive(packet)))
		;
	/* Others may hold descriptors of our end of the socket. */
	shutdown(0, SHUT_RDWR);
	/*
	 * A descriptor that was not received, of a pool or the pulse, counts
	 * against our account, of all its helpers together; so its client's
	 * place is not free yet.  What is left of requests goes, for one may
	 * hold the other end open.
	 */
	while (carried && !replies_are_read()) {
		while (recvmsg(0, &(struct msghdr){ .msg_iovlen = 0 },
		    MSG_DONTWAIT | MSG_TRUNC) > 0)
			;
		locker_reap();
		poll(NULL, 0, UNREAD_MS);
	}
	close(0);
}
