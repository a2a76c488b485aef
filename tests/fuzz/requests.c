/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * requests.c: a fuzzer for all that a client can say to its helper and do to
 * its pools; it plays the client, and a model of the helper tells it what each
 * answer has to be.  It must not know how requests are told apart or pools are
 * found, but replaces the calls by which the helper reaches the kernel.
 *
 * The input is what the client does, a byte for each act.  Only a byte's lowest
 * five bits count, so that every byte is an act, and letters and signs name
 * them all.  A number is the byte behind it; where four bits of that are
 * enough, a digit is itself.  Wider ones are little-endian.
 *
 *   before HELLO: what the helper is told at its start
 *     A number   the status that it answers HELLO with, ENOMEM at most
 *     O number   tries to lock, and sets the limit to so many half pages
 *     Z          its next pool is among the last that can have an id
 *   requests
 *     H          HELLO
 *     V ab       HELLO from version A to version B, of four bits each
 *     G number   GRANT of so many pages, 15 at most
 *     U number8  GRANT of so many bytes
 *     L          LOCK of what is granted
 *     R          RELEASE of the pool that the client is at
 *     S          STATUS
 *     I tiiii    type T of id IIII
 *     X tkv      the right request of type T, but byte K is changed by V
 *     W packet   the next 32 bytes
 *     N number   STATUS, cut or lengthened to so many bytes, 63 at most
 *     D number   STATUS with descriptors, three at most
 *     ] number   ADOPT of so many pages, 15 at most, and in the number's upper
 *                bits of what, of enum offer
 *   what else a client does
 *     B          asks without having read the last reply; reads it, once the
 *                helper does nothing but wait for that
 *     Y          is silent until the helper looks after its pools
 *     _          leaves; what follows, it does while the helper lingers
 *   to the pool that it is at, which is that granted last
 *     |          is at the next one
 *     M ~        maps it, unmaps it
 *     P Q        populates it, or its first page only
 *     K          punches its first page out
 *     T          makes it longer
 *     E number   adds seals
 *     C          closes its descriptor
 *   and what happens to the helper meanwhile
 *     [ number   so many pages are left of the total; 255: there is no ledger
 *     F ce       the next call C fails with error E, of enum call and errors[];
 *                where that is to receive, and EMFILE, it is a descriptor that
 *                is not received
 *
 * Newlines and the rest mean nothing.
 */
#include "config.h"

#include <linux/falloc.h>
#include <sched.h>

#include "helper.h"

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

enum {
	/* So few that each limit is run into; see the redefinition below. */
	POOLS_MAX = 24,
	HALF_PAGES = 128,
	LEDGER_PAGES = 1000,
	/* What the client keeps record of, half of it given up at least. */
	RECORDS = 2 * POOLS_MAX,
	/* Of what no client would populate, in pages. */
	LARGE = 256,
	/* Above all descriptors that are in use here. */
	FILES = 128,
	/* Looks at pools that nobody maps, till the kernel lets go of them. */
	NAPS = 1000
};

/* What must be so, whatever the client does.  libFuzzer keeps the input. */
#define must(cond) \
	((cond) ? (void)0 : broken(#cond, __LINE__))

_Noreturn static void
broken(const char *what, int line)
{
	fprintf(stderr, "requests.c:%d: not so: %s (errno %d, %s)\n", line,
	    what, errno, strerror(errno));
	abort();
}

/* --- What the client has and knows ---------------------------------------- */

/* What is sent with ADOPT.  Memfds are mapped, like pools. */
enum offer {
	AT_POOL,   /* what the client is at, again */
	MEMFD,
	EMPTY,     /* a memfd that is not populated */
	UNSEALED,
	LARGER,    /* ... of a page more */
	STRANGER,
	NOTHING,
	PAIR,      /* a memfd, twice */
	OFFERS
};

/* A pool that the client was granted, for as long as it has any of it. */
struct record {
	uint64_t bytes;
	void *map;
	uint32_t id;
	int fd;
	bool held;     /* by the helper */
	bool locked;
	bool open;     /* to new writers and holes, for want of a seal */
	bool careless; /* the client let nobody add a seal */
};

/* What there must be of a reply to the request under way. */
struct expected {
	bool asked;
	bool charged; /* what is to be adopted */
	bool ended;  /* there is none; the conversation is over */
	bool last;   /* after it the conversation is over */
	unsigned lines;
	struct wire_message m;
};

static struct {
	const uint8_t *at;
	size_t left;
	int socket, beyond; /* the client's end; descriptors of others */
	bool flying;        /* a request waits to be received */
	bool deaf;          /* does not read the next reply */
	bool unread;        /* has not read the last one */
	bool carries;       /* that had a descriptor */
	bool pulse;         /* the helper has it open */
	unsigned with;      /* descriptors with the request under way */
	bool silent;
	bool over;          /* no more requests */
	unsigned naps;
	struct record records[RECORDS], *at_pool;
	struct record own;  /* of the client's making, until it is adopted */
	struct expected expected;
} client;

/* What the helper should know. */
static struct {
	bool greeted;
	enum wire_status able;
	uint64_t limit, held, locked;
	uint32_t locked_pools, outstanding, last_id;
} model;

static uint64_t ledger_pages, ledger_taken;
static int pulse_fd;
static unsigned lines, maps;

static uint8_t
byte(void)
{
	if (client.left == 0)
		return 0;
	client.left--;
	return *client.at++;
}

static uint64_t
number(unsigned bytes)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < bytes; i++)
		n |= (uint64_t)byte() << (8 * i);
	return n;
}

static struct record *
record_find(uint32_t id)
{
	for (size_t i = 0; i < RECORDS; i++)
		if (client.records[i].held && client.records[i].id == id)
			return &client.records[i];
	return NULL;
}

/* The helper gives a pool up, whatever the client has of it. */
static void
record_drop(struct record *r)
{
	model.held -= r->bytes;
	if (r->locked) {
		model.locked -= r->bytes;
		model.locked_pools--;
	}
	if (model.outstanding == r->id)
		model.outstanding = 0;
	r->held = r->locked = false;
}

static void
client_close(struct record *r)
{
	if (r->fd != -1)
		must(close(r->fd) == 0);
	r->fd = -1;
}

static void
client_unmap(struct record *r)
{
	if (r->map != NULL)
		must(munmap(r->map, (size_t)r->bytes) == 0);
	r->map = NULL;
}

static void
client_leave(void)
{
	if (client.socket != -1)
		must(close(client.socket) == 0);
	client.socket = -1;
}

/* --- log.c and ledger.c, or what a client sees of them -------------------- */

enum wire_status
refuse(enum wire_status status, const char *format, ...)
{
	char line[WHY_SIZE];
	va_list ap;
	int n;

	va_start(ap, format);
	n = vsnprintf(line, sizeof(line), format, ap);
	va_end(ap);
	must(n > 0);
	printable(line);
	lines++;
	return status;
}

static enum wire_status
status_of(int error)
{
	return error == EPERM || error == EACCES ? WIRE_EPERM : WIRE_ENOMEM;
}

enum wire_status
refuse_errno(const char *what)
{
	return refuse(status_of(errno), "%s", what);
}

void
printable(char *text)
{
	for (; *text != '\0'; text++)
		must(*text >= ' ' && *text <= '~');
}

const char *
ledger_take(uint64_t pages)
{
	must(pages > 0);
	if (ledger_taken > ledger_pages || pages > ledger_pages - ledger_taken)
		return "the total";
	ledger_taken += pages;
	return NULL;
}

void
ledger_give(uint64_t pages)
{
	must(pages <= ledger_taken);
	ledger_taken -= pages;
}

uint64_t
ledger_left(void)
{
	return ledger_pages > ledger_taken ? ledger_pages - ledger_taken : 0;
}

/* --- The kernel, or what the helper sees of it ---------------------------- */

enum call {
	CALL_NONE, CALL_MEMFD_CREATE, CALL_FCHMOD, CALL_FTRUNCATE, CALL_FCNTL,
	CALL_FSTAT, CALL_MMAP, CALL_MLOCK, CALL_MPROTECT, CALL_SENDMSG,
	CALL_RECVMSG, CALL_IOCTL, CALL_POLL, CALL_FSTATFS, CALL_LSEEK, CALLS
};

static const int errors[] = { ENOMEM, EPERM, EAGAIN, EINTR, EINVAL, EMFILE,
	ETOOMANYREFS, EACCES };

/*
 * What is to fail next; and what failed last since the request, of what the
 * locker does and of what carries the conversation.
 */
static struct {
	enum call call;
	int error;
} fault, failed, lost;

static bool
is_fault(enum call call)
{
	if (fault.call != call)
		return false;
	fault.call = CALL_NONE;
	errno = fault.error;
	return true;
}

/* RESULT, with a note of how the call ended. */
static int
noted(enum call call, int result)
{
	if (result == -1) {
		failed.call = call;
		failed.error = errno;
	}
	return result;
}

static int
noted_lost(enum call call)
{
	lost.call = call;
	lost.error = errno;
	return -1;
}

static int
call_memfd_create(const char *name, unsigned flags)
{
	int fd = is_fault(CALL_MEMFD_CREATE) ? -1 : memfd_create(name, flags);

	failed.call = CALL_NONE; /* it is tried twice */
	return noted(CALL_MEMFD_CREATE, fd);
}

static int
call_fchmod(int fd, mode_t mode)
{
	must(mode == 0);
	return noted(CALL_FCHMOD, is_fault(CALL_FCHMOD) ? -1 :
	    fchmod(fd, mode));
}

static int
call_ftruncate(int fd, off_t size)
{
	return noted(CALL_FTRUNCATE, is_fault(CALL_FTRUNCATE) ? -1 :
	    ftruncate(fd, size));
}

/* As of this, so of what is asked of it first: it is not a pool then. */
static int
call_fstatfs(int fd, struct statfs *fs)
{
	return noted(CALL_FSTATFS, is_fault(CALL_FSTATFS) ? -1 :
	    fstatfs(fd, fs));
}

static off_t
call_lseek(int fd, off_t from, int whence)
{
	off_t at = is_fault(CALL_LSEEK) ? -1 : lseek(fd, from, whence);

	must(whence == SEEK_HOLE);
	(void)noted(CALL_LSEEK, at == -1 ? -1 : 0);
	return at;
}

static int
call_close(int fd)
{
	if (client.pulse && fd == pulse_fd) {
		client.pulse = false;
		client.beyond--;
	}
	must(close(fd) == 0);
	return 0;
}

static int
call_fstat(int fd, struct stat *st)
{
	return noted(CALL_FSTAT, is_fault(CALL_FSTAT) ? -1 : fstat(fd, st));
}

static void *
call_mmap(size_t size, int protection, int flags, int fd)
{
	void *base;

	must(protection == PROT_READ && flags == MAP_PRIVATE);
	base = is_fault(CALL_MMAP) ? MAP_FAILED :
	    mmap(NULL, size, protection, flags, fd, 0);
	maps += base != MAP_FAILED;
	noted(CALL_MMAP, base == MAP_FAILED ? -1 : 0);
	return base;
}

static int
call_munmap(void *base, size_t size)
{
	maps--;
	return munmap(base, size);
}

/* A sanitizer makes the C library's do nothing. */
static int
call_mlock(const void *base, size_t size)
{
#ifdef PLANTED
	/* To be found: a second pool, of seven pages, is not locked. */
	if (model.locked_pools == 1 && size == 7 * page_size())
		return 0;
#endif
	return noted(CALL_MLOCK, is_fault(CALL_MLOCK) ? -1 :
	    (int)syscall(SYS_mlock, base, size));
}

static int
call_mprotect(void *base, size_t size, int protection)
{
	must(protection == PROT_NONE);
	return noted(CALL_MPROTECT, is_fault(CALL_MPROTECT) ? -1 :
	    mprotect(base, size, protection));
}

static int
call_ioctl(int fd, unsigned long what, int *value)
{
	must(fd == 0 && what == SIOCOUTQ);
	if (!client.over && is_fault(CALL_IOCTL))
		return noted_lost(CALL_IOCTL);
	return ioctl(fd, what, value);
}

static ssize_t
call_sendmsg(const struct msghdr *msg, int flags)
{
	must((flags & (MSG_DONTWAIT | MSG_NOSIGNAL)) ==
	    (MSG_DONTWAIT | MSG_NOSIGNAL));
	return is_fault(CALL_SENDMSG) ? noted_lost(CALL_SENDMSG) :
	    sendmsg(0, msg, flags);
}

static ssize_t
call_recvmsg(struct msghdr *msg, int flags)
{
	must((flags & MSG_DONTWAIT) != 0);
	/* Who is not to hand over a pool hands over nothing. */
	must((msg->msg_controllen != 0) == (!client.over && model.greeted &&
	    model.outstanding == 0));
	if (!client.over && is_fault(CALL_RECVMSG)) {
		if (errno != EMFILE || client.with != 1)
			return errno == EINTR || errno == EAGAIN ? -1 :
			    noted_lost(CALL_RECVMSG);
		msg->msg_controllen = 0;
		noted(CALL_RECVMSG, -1);
	}
	client.flying = false;
	return recvmsg(0, msg, flags);
}

static int
call_shutdown(int fd, int how)
{
	must(fd == 0 && how == SHUT_RDWR && !client.over);
	client.over = true;
	return shutdown(fd, how);
}

static int call_fcntl(int fd, int command, ...);
static int call_poll(const struct pollfd *socket, nfds_t n, int ms);
static int call_nanosleep(const struct timespec *pause);

#define clock_nanosleep(clock, flags, pause, left) call_nanosleep(pause)
#define fchmod(fd, mode) call_fchmod(fd, mode)
#define close(fd) call_close(fd)
#define fcntl(fd, ...) call_fcntl(fd, __VA_ARGS__)
#define fstat(fd, st) call_fstat(fd, st)
#define fstatfs(fd, fs) call_fstatfs(fd, fs)
#define ftruncate(fd, size) call_ftruncate(fd, size)
#define ioctl(fd, what, value) call_ioctl(fd, what, value)
#define lseek(fd, from, whence) call_lseek(fd, from, whence)
#define memfd_create(name, flags) call_memfd_create(name, flags)
#define mlock(base, size) call_mlock(base, size)
#define mmap(at, size, prot, flags, fd, from) call_mmap(size, prot, flags, fd)
#define mprotect(base, size, prot) call_mprotect(base, size, prot)
#define munmap(base, size) call_munmap(base, size)
#define poll(socket, n, ms) call_poll(socket, n, ms)
#define recvmsg(fd, msg, flags) call_recvmsg(msg, flags)
#define sendmsg(fd, msg, flags) call_sendmsg(msg, flags)
#define shutdown(fd, how) call_shutdown(fd, how)
#define WIRE_POOLS_MAX POOLS_MAX

#include "../../helper/locker.c"
#include "../../helper/serve.c"

#undef clock_nanosleep
#undef close
#undef fchmod
#undef fcntl
#undef fstat
#undef fstatfs
#undef ftruncate
#undef ioctl
#undef lseek
#undef memfd_create
#undef mlock
#undef mmap
#undef mprotect
#undef munmap
#undef poll
#undef recvmsg
#undef sendmsg
#undef shutdown

/* The record of what the helper has under its descriptor FD. */
static struct record *
record_of(int fd)
{
	for (uint32_t i = 0; i < pool_count; i++)
		if (pools[i].fd == fd)
			return record_find(pools[i].id);
	return NULL;
}

/*
 * Of a seal against writers the kernel's answer is what the model goes by:
 * pages that it has not let go of keep a pool as a mapping does, for a while.
 * But a pool that is mapped must be kept.
 */
static int
call_seal(int fd, int seals)
{
	struct record *r = record_of(fd);
	bool faulty = is_fault(CALL_FCNTL);
	int result = faulty ? -1 : fcntl(fd, F_ADD_SEALS, seals);

	if (seals == F_SEAL_WRITE) {
		must(r != NULL && r->locked);
		if (result == -1 && errno == EBUSY)
			return result;
		must(r->map == NULL || faulty || r->careless);
		record_drop(r);
		return result;
	}
	if (seals == F_SEAL_FUTURE_WRITE && result == -1 && errno == EINVAL) {
		must(r != NULL && faulty);
		r->open = true; /* as before Linux 5.1 */
		return result;
	}
	return noted(CALL_FCNTL, result);
}

static int
call_fcntl(int fd, int command, ...)
{
	va_list ap;
	int seals;

	if (command == F_GET_SEALS) {
		seals = is_fault(CALL_FCNTL) ? -1 : fcntl(fd, F_GET_SEALS);
		return noted(CALL_FSTATFS, seals);
	}
	must(command == F_ADD_SEALS);
	va_start(ap, command);
	seals = va_arg(ap, int);
	va_end(ap);
	return call_seal(fd, seals);
}

/* --- What the client asks ------------------------------------------------- */

/* Whether each page of it is there, and they are BYTES. */
static bool
is_whole(int fd, uint64_t bytes)
{
	struct stat st;

	must(fstat(fd, &st) == 0);
	return (uint64_t)st.st_size == bytes &&
	    lseek(fd, 0, SEEK_HOLE) == st.st_size;
}

static bool
is_populated(uint32_t id)
{
	const struct pool *pool = pool_find(id);

	must(pool != NULL);
	return is_whole(pool->fd, pool->size);
}

static uint64_t
model_left(void)
{
	uint64_t left = MIN(ledger_left(), UINT64_MAX / page_size());

	return MIN(model.limit - model.held, left * page_size());
}

static enum wire_status
grant_expected(uint64_t bytes)
{
	unsigned held = 0;

	for (size_t i = 0; i < RECORDS; i++)
		held += client.records[i].held;
	if (bytes == 0 || bytes % page_size() != 0)
		return WIRE_EINVAL;
	return bytes > model_left() || held == POOLS_MAX ||
	    model.last_id == UINT32_MAX ? WIRE_EDQUOT : WIRE_OK;
}

static enum wire_status
adopt_expected(uint64_t bytes, int fd, bool *charged)
{
	const int wanted = F_SEAL_SHRINK | F_SEAL_GROW;
	const int seals = fcntl(fd, F_GET_SEALS);
	enum wire_status status;

	if (seals == -1 || (seals & wanted) != wanted)
		return WIRE_EINVAL;
	status = grant_expected(bytes);
	*charged = status == WIRE_OK;
	return status == WIRE_OK && !is_whole(fd, bytes) ? WIRE_EINVAL :
	    status;
}

/*
 * The reply to M, which comes with FD, if no call fails; false if there is to be
 * none.
 */
static bool
reply_expected(const struct wire_message *m, int fd, struct expected *e)
{
	bool granted = model.outstanding != 0;
	struct wire_message *r = &e->m;

	*r = (struct wire_message){ .magic = WIRE_MAGIC,
	    .version = WIRE_VERSION, .type = m->type };
	if (m->magic != WIRE_MAGIC || m->version != 1 || m->status != 0 ||
	    model.greeted != (m->type != WIRE_HELLO))
		return false;
	switch (m->type) {
	case WIRE_HELLO:
		r->status = m->a > 1 || m->b < 1 ? WIRE_EPROTO : model.able;
		e->last = r->status != WIRE_OK;
		r->a = e->last ? 0 : 1;
		r->b = e->last ? 0 : model.limit;
		r->c = e->last ? 0 : model_left();
		return m->id == 0 && m->a <= m->b;
	case WIRE_GRANT:
		r->status = grant_expected(m->a);
		r->id = r->status == WIRE_OK ? model.last_id + 1 : 0;
		r->a = m->a; /* is not in the reply; see reply_check() */
		return !granted && m->id == 0 && m->b == 0;
	case WIRE_LOCK:
		if (!granted || m->id != model.outstanding)
			return false;
		r->status = is_populated(m->id) ? WIRE_OK : WIRE_EINVAL;
		return m->a == 0 && m->b == 0;
	case WIRE_RELEASE:
		r->id = m->id; /* the same */
		return m->id != 0 && m->id <= model.last_id && m->a == 0 &&
		    m->b == 0;
	case WIRE_ADOPT:
		if (granted || m->id != 0 || m->b != 0)
			return false;
		r->status = adopt_expected(m->a, fd, &e->charged);
		r->b = m->a; /* is not in the reply; see adopted() */
		return true;
	case WIRE_STATUS:
		r->a = model.locked;
		r->b = model.locked_pools;
		r->c = model_left();
		return m->id == 0 && m->a == 0 && m->b == 0;
	default:
		return false;
	}
}

/* With FD, DESCRIPTORS times. */
static void
packet_send(const uint8_t *packet, size_t length, unsigned descriptors, int fd)
{
	union {
		struct cmsghdr header;
		unsigned char space[CMSG_SPACE(3 * sizeof(int))];
	} control = { { .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS,
	    .cmsg_len = CMSG_LEN(descriptors * sizeof(int)) } };
	uint8_t copy[WIRE_REPLY_LEN * 2];
	struct iovec iov = { copy, length };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1,
	    .msg_control = descriptors == 0 ? NULL : &control,
	    .msg_controllen = descriptors == 0 ? 0 : sizeof(control) };
	struct expected *e = &client.expected;
	struct wire_message m = { 0 };

	must(length <= sizeof(copy));
	memcpy(copy, packet, length);
	for (unsigned i = 0; i < descriptors; i++)
		memcpy(CMSG_DATA(&control.header) + i * sizeof(int), &fd,
		    sizeof(int));
	*e = (struct expected){ .asked = true };
	memcpy(&m, packet, MIN(length, WIRE_REQUEST_LEN));
	wire_swap(&m);
	e->ended = client.unread || length != WIRE_REQUEST_LEN ||
	    descriptors != (m.type == WIRE_ADOPT) ||
	    !reply_expected(&m, fd, e);
	e->lines = length == 0 ? 0 : e->ended ||
	    (e->m.status != WIRE_OK && (m.type != WIRE_HELLO ||
	    e->m.status == WIRE_EPROTO));
	must(sendmsg(client.socket, &msg, 0) == (ssize_t)length);
	client.flying = true;
	client.with = descriptors;
}

/* --- What the helper has made of it --------------------------------------- */

/* What failed decides, if anything did that should have been tried. */
static void
expected_revise(struct expected *e)
{
	bool locks = e->m.type == WIRE_LOCK || e->m.type == WIRE_ADOPT;

	if (failed.call == CALL_RECVMSG) {
		if (e->asked && !e->ended && e->m.type == WIRE_ADOPT) {
			e->m.status = WIRE_ENOMEM;
			e->charged = false;
			e->lines = 1;
		}
	} else if (failed.call == CALL_FSTATFS) {
		e->m.status = WIRE_EINVAL;
		e->charged = false;
		e->lines = 1;
	} else if (failed.call != CALL_NONE && e->m.status == WIRE_OK) {
		e->m.status = locks && (failed.call == CALL_FCNTL ||
		    failed.call == CALL_FSTAT || failed.call == CALL_LSEEK) ?
		    WIRE_EINVAL : status_of(failed.error);
		e->lines = 1;
	}
	if (lost.call == CALL_SENDMSG && e->m.status == WIRE_OK &&
	    lost.error == ETOOMANYREFS && (e->m.type == WIRE_GRANT ||
	    e->m.type == WIRE_HELLO)) {
		e->m.status = WIRE_ENOMEM;
		e->lines = 1;
		if (e->m.type == WIRE_HELLO) {
			e->m.a = e->m.b = e->m.c = 0;
			e->last = true;
		}
		return;
	}
	if (lost.call != CALL_NONE)
		e->asked = e->ended = true;
	if (lost.call == CALL_POLL || lost.call == CALL_RECVMSG)
		e->lines = 0;
	else if (lost.call == CALL_IOCTL)
		e->lines = 1;
}

/* One that was never used, or else what is left of a pool is forgotten. */
static struct record *
record_new(void)
{
	struct record *r = NULL;

	for (size_t i = RECORDS; i-- > 0;)
		if (!client.records[i].held && (r == NULL || r->bytes != 0 ||
		    client.records[i].bytes == 0))
			r = &client.records[i];
	must(r != NULL);
	client_close(r);
	client_unmap(r);
	*r = (struct record){ .fd = -1 };
	return r;
}

/* The grant of BYTES that the client has been sent as FD. */
static void
record_grant(uint32_t id, uint64_t bytes, int fd)
{
	struct record *r = record_new();
	struct stat st;
	int seals;

	*r = (struct record){ .bytes = bytes, .id = id, .fd = fd,
	    .held = true };
	client.at_pool = r;
	model.outstanding = model.last_id = id;
	model.held += bytes;
	seals = fcntl(fd, F_GET_SEALS);
	must(fstat(fd, &st) == 0 && (uint64_t)st.st_size == bytes);
	must(S_ISREG(st.st_mode) && (st.st_mode & 07777) == 0);
	must((seals & (F_SEAL_SHRINK | F_SEAL_GROW)) ==
	    (F_SEAL_SHRINK | F_SEAL_GROW));
	must((seals & (F_SEAL_SEAL | F_SEAL_WRITE)) == 0);
}

/* What the client has made for ADOPT. */
static void
own_forget(void)
{
	client_close(&client.own);
	client_unmap(&client.own);
	client.own = (struct record){ .fd = -1 };
}

/* What was offered is the helper's now, or was for a moment, if CHARGED. */
static void
adopted(struct wire_message *m, bool charged)
{
	struct record *r;

	model.last_id += charged;
	if (m->status == WIRE_OK) {
		must(charged);
		r = record_new();
		*r = client.own;
		client.own = (struct record){ .fd = -1 };
		r->bytes = m->b;
		r->id = m->id = model.last_id;
		r->held = r->locked = true;
		client.at_pool = r;
		model.held += r->bytes;
		model.locked += r->bytes;
		model.locked_pools++;
		m->a = model.locked;
	}
	m->b = 0;
	own_forget();
}

/* E is answered, with FD or -1: what is so from now on, and E as it is sent. */
static void
model_update(struct expected *e, int fd)
{
	struct wire_message *m = &e->m;
	struct record *r;

	if (m->type == WIRE_HELLO)
		model.greeted = true;
	if (m->type == WIRE_ADOPT)
		adopted(m, e->charged);
	if (m->type == WIRE_LOCK &&
	    (r = record_find(model.outstanding)) != NULL) {
		model.outstanding = 0;
		if (m->status == WIRE_OK) {
			r->locked = true;
			model.locked += r->bytes;
			model.locked_pools++;
			m->a = model.locked;
		} else
			record_drop(r);
	}
	if (m->type == WIRE_RELEASE) {
		if ((r = record_find(m->id)) != NULL)
			record_drop(r);
		m->id = 0;
		m->a = model.locked;
	}
	if (m->type == WIRE_GRANT) {
		must((fd != -1) == (m->status == WIRE_OK));
		if (m->status == WIRE_OK)
			record_grant(m->id, m->a, fd);
		else if (lost.call == CALL_SENDMSG)
			model.last_id++; /* of what was withdrawn */
		m->id = fd == -1 ? 0 : m->id;
		m->a = 0;
	} else if (fd != -1) {
		must(m->type == WIRE_HELLO && m->status == WIRE_OK);
		must(close(fd) == 0);
	} else
		must(m->type != WIRE_HELLO || m->status != WIRE_OK ||
		    lost.call == CALL_SENDMSG);
}

/* Exactly one reply of the one form, and what was expected of it. */
static void
reply_check(struct expected *e)
{
	union {
		struct cmsghdr header;
		unsigned char space[CMSG_SPACE(2 * sizeof(int))];
	} control;
	unsigned char packet[WIRE_REPLY_LEN + 1], other[WIRE_REPLY_LEN];
	struct iovec iov = { packet, sizeof(packet) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1,
	    .msg_control = &control, .msg_controllen = sizeof(control) };
	const struct cmsghdr *c;
	struct wire_message m;
	int fd = -1;

	must(recvmsg(client.socket, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC |
	    (client.deaf ? MSG_PEEK : 0)) == WIRE_REPLY_LEN);
	client.unread = client.deaf;
	client.deaf = false;
	if ((c = CMSG_FIRSTHDR(&msg)) != NULL) {
		must(c->cmsg_level == SOL_SOCKET && c->cmsg_type ==
		    SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof(int)));
		memcpy(&fd, CMSG_DATA(c), sizeof(int));
	}
	must(wire_unpack(packet, WIRE_REPLY_LEN, &m) == 0);
	wire_pack(other, WIRE_REPLY_LEN, &m);
	must(memcmp(packet, other, WIRE_REPLY_LEN) == 0);
	client.carries = fd != -1;
	model_update(e, fd);
	must(memcmp(&m, &e->m, sizeof(m)) == 0);
	must(lines == e->lines);
}

/* In this process are both, and libFuzzer's. */
static int
files_open(void)
{
	struct pollfd files[FILES];
	int open = 0;

	for (int fd = 0; fd < FILES; fd++)
		files[fd] = (struct pollfd){ .fd = fd };
	must(poll(files, FILES, 0) != -1);
	for (int fd = 0; fd < FILES; fd++)
		open += (files[fd].revents & POLLNVAL) == 0;
	return open;
}

/* Bytes that this process has locked, so the kernel. */
static uint64_t
kernel_locked(void)
{
	char text[4096];
	const char *line;
	int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
	ssize_t n;

	must(fd != -1 && (n = read(fd, text, sizeof(text) - 1)) > 0);
	close(fd);
	text[n] = '\0';
	must((line = strstr(text, "\nVmLck:")) != NULL);
	return (uint64_t)strtoull(line + sizeof("\nVmLck:"), NULL, 10) * 1024;
}

/* Whatever has happened so far. */
static void
invariants_check(void)
{
	int files = client.beyond + (client.socket != -1) +
	    (client.own.fd != -1);
	static uint64_t looked;
	uint32_t held = 0;

	for (size_t i = 0; i < RECORDS; i++) {
		files += (client.records[i].fd != -1) + client.records[i].held;
		held += client.records[i].held;
	}
	must(locker.limit == model.limit && locker.held == model.held);
	must(locker.locked == model.locked && pool_count == held);
	must(locker.locked_pools == model.locked_pools);
	must(locker.outstanding == model.outstanding);
	must(last_id == model.last_id && greeted == model.greeted);
	must(locker.held <= locker.limit && locker.locked <= locker.held);
	must(ledger_taken * page_size() == locker.held);
	must(maps == locker.locked_pools);
	must(files_open() == files);
	if (looked != locker.locked)
		must(kernel_locked() == locker.locked);
	looked = locker.locked;
}

/* --- What the client does ------------------------------------------------- */

static void
request(unsigned type, uint32_t id, uint64_t a, uint64_t b)
{
	struct wire_message m = { .version = WIRE_VERSION,
	    .type = (uint16_t)type, .id = id, .a = a, .b = b };
	unsigned char packet[WIRE_REQUEST_LEN];

	wire_pack(packet, sizeof(packet), &m);
	packet_send(packet, sizeof(packet), 0, -1);
}

/* Of TYPE, as right as may be, and a byte of it changed. */
static void
request_spoilt(unsigned type)
{
	struct wire_message m = { .version = WIRE_VERSION,
	    .type = (uint16_t)type };
	unsigned char packet[WIRE_REQUEST_LEN];
	unsigned at = byte() % WIRE_REQUEST_LEN;

	if (type == WIRE_HELLO)
		m.a = m.b = WIRE_VERSION;
	else if (type == WIRE_GRANT)
		m.a = page_size();
	else if (type == WIRE_LOCK || type == WIRE_RELEASE)
		m.id = model.outstanding != 0 ? model.outstanding :
		    model.last_id;
	wire_pack(packet, sizeof(packet), &m);
	packet[at] ^= byte();
	packet_send(packet, sizeof(packet), 0, -1);
}

static void
request_raw(void)
{
	unsigned char packet[WIRE_REPLY_LEN] = { 0 }, other[WIRE_REPLY_LEN];
	struct wire_message m;
	uint64_t eight;

	for (unsigned i = 0; i < WIRE_REQUEST_LEN; i += 8) {
		eight = number(8);
		for (unsigned k = 0; k < 8; k++)
			packet[i + k] = (unsigned char)(eight >> (8 * k));
	}
	/* As a library would take it for a reply. */
	if (wire_unpack(packet, WIRE_REPLY_LEN, &m) == 0) {
		wire_pack(other, WIRE_REPLY_LEN, &m);
		must(memcmp(packet, other, WIRE_REPLY_LEN) == 0);
	}
	packet_send(packet, WIRE_REQUEST_LEN, 0, -1);
}

static void
status_spoilt(size_t length, unsigned descriptors)
{
	struct wire_message m = { .version = WIRE_VERSION,
	    .type = WIRE_STATUS };
	unsigned char packet[2 * WIRE_REQUEST_LEN] = { 0 };

	wire_pack(packet, WIRE_REQUEST_LEN, &m);
	packet_send(packet, length, descriptors, client.socket);
}

static void
own_make(uint64_t bytes, enum offer offer)
{
	size_t size = (size_t)bytes + (offer == LARGER) * page_size();
	struct record *own = &client.own;

	own->bytes = size; /* that are mapped */
	own->fd = memfd_create("own", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	must(own->fd != -1 && ftruncate(own->fd, (off_t)size) == 0);
	if (size > 0) {
		own->map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED,
		    own->fd, 0);
		must(own->map != MAP_FAILED);
		if (offer != EMPTY)
			memset(own->map, 1, size);
	}
	must(offer == UNSEALED || fcntl(own->fd, F_ADD_SEALS, F_SEAL_SHRINK |
	    F_SEAL_GROW) == 0);
}

static void
request_adopt(uint8_t n)
{
	struct wire_message m = { .version = WIRE_VERSION, .type = WIRE_ADOPT,
	    .a = (n & 15) * page_size() };
	enum offer offer = n >> 4 & (OFFERS - 1);
	unsigned char packet[WIRE_REQUEST_LEN];
	int fd = offer == AT_POOL ? client.at_pool->fd : client.socket;

	if (offer != AT_POOL && offer != STRANGER && offer != NOTHING) {
		own_make(m.a, offer);
		fd = client.own.fd;
	}
	wire_pack(packet, sizeof(packet), &m);
	packet_send(packet, sizeof(packet), offer == NOTHING || fd == -1 ? 0 :
	    offer == PAIR ? 2 : 1, fd);
}

/* Whether there was a request. */
static bool
client_asks(unsigned act)
{
	unsigned type;

	switch (act) {
	case 'H' & 31:
		request(WIRE_HELLO, 0, WIRE_VERSION, WIRE_VERSION);
		return true;
	case 'V' & 31:
		type = byte();
		request(WIRE_HELLO, 0, type & 15, type >> 4);
		return true;
	case 'G' & 31:
		request(WIRE_GRANT, 0, (byte() & 15) * page_size(), 0);
		return true;
	case 'U' & 31:
		request(WIRE_GRANT, 0, number(8), 0);
		return true;
	case 'L' & 31:
		request(WIRE_LOCK, model.outstanding, 0, 0);
		return true;
	case 'R' & 31:
		request(WIRE_RELEASE, client.at_pool->id, 0, 0);
		return true;
	case 'S' & 31:
		request(WIRE_STATUS, 0, 0, 0);
		return true;
	case 'I' & 31:
		type = byte() & 7;
		request(type, (uint32_t)number(4), 0, 0);
		return true;
	case 'X' & 31:
		request_spoilt(byte() & 7);
		return true;
	case 'W' & 31:
		request_raw();
		return true;
	case 'N' & 31:
		status_spoilt(byte() & 63, 0);
		return true;
	case ']' & 31:
		request_adopt(byte());
		return true;
	case 'D' & 31:
		status_spoilt(WIRE_REQUEST_LEN, byte() & 3);
		return true;
	default:
		return false;
	}
}

static void
client_populates(const struct record *r, uint64_t bytes)
{
	if (r->bytes > LARGE * page_size() || bytes > r->bytes)
		return;
	for (uint64_t at = 0; at < bytes; at += page_size())
		if (r->map != NULL)
			((volatile char *)r->map)[at] = 1;
		else if (pwrite(r->fd, "", 1, (off_t)at) == -1)
			return;
}

/* A locked pool is open to no new mapping, nor to holes. */
static void
client_maps(struct record *r)
{
	void *map;

	if (r->fd == -1 || r->map != NULL || r->bytes > LARGE * page_size())
		return;
	map = mmap(NULL, (size_t)r->bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
	    r->fd, 0);
	must(map == MAP_FAILED || !r->locked || r->open);
	r->map = map == MAP_FAILED ? NULL : map;
}

static void
client_punches(const struct record *r)
{
	must(r->fd == -1 || fallocate(r->fd, FALLOC_FL_PUNCH_HOLE |
	    FALLOC_FL_KEEP_SIZE, 0, (off_t)page_size()) == -1 ||
	    !r->locked || r->open);
}

static void
client_seals(struct record *r, int seals)
{
	if (r->fd != -1 && fcntl(r->fd, F_ADD_SEALS, seals) == 0 &&
	    (seals & F_SEAL_SEAL) != 0)
		r->careless = true;
}

/* Whether the act was one that needs no request. */
static bool
client_acts(unsigned act)
{
	struct record *r = client.at_pool;

	switch (act) {
	case '|' & 31:
		client.at_pool = r == &client.records[RECORDS - 1] ||
		    r[1].bytes == 0 ? client.records : r + 1;
		return true;
	case 'M' & 31:
		client_maps(r);
		return true;
	case '~' & 31:
		client_unmap(r);
		return true;
	case 'P' & 31:
		client_populates(r, r->bytes);
		return true;
	case 'Q' & 31:
		client_populates(r, page_size());
		return true;
	case 'K' & 31:
		client_punches(r);
		return true;
	case 'T' & 31:
		must(r->fd == -1 || ftruncate(r->fd,
		    (off_t)(r->bytes + page_size())) == -1);
		return true;
	case 'E' & 31:
		client_seals(r, byte() & 63);
		return true;
	case 'C' & 31:
		client_close(r);
		return true;
	default:
		return false;
	}
}

/* What the helper finds when it starts. */
static void
helper_starts(unsigned act)
{
	uint64_t n;

	if (model.greeted)
		return;
	if (act == ('A' & 31)) {
		able_to_serve = model.able = byte() & WIRE_ENOMEM;
	} else if (act == ('Z' & 31)) {
		last_id = model.last_id = UINT32_MAX - 2;
	} else if (act == ('O' & 31)) {
		n = byte();
		n = n == UINT8_MAX ? UINT64_MAX : n * page_size() / 2;
		must(locker_open(n) == (failed.call == CALL_NONE ? WIRE_OK :
		    status_of(failed.error)));
		must(lines == (failed.call == CALL_NONE ? 0 : 1));
		failed.call = CALL_NONE;
		lines = 0;
		model.limit = MIN(n, SIZE_MAX / 2);
		model.limit -= model.limit % page_size();
	}
}

static void
helper_meets(unsigned act)
{
	uint8_t n;

	if (act == ('[' & 31)) {
		n = byte();
		ledger_pages = n == UINT8_MAX ? UINT64_MAX : ledger_taken + n;
	} else if (act == ('F' & 31)) {
		n = byte();
		fault.call = n % CALLS;
		fault.error = errors[(byte() & 15) % COUNT(errors)];
	} else
		helper_starts(act);
}

/* What the helper has done since it waited last, as it waits again. */
static void
judge(void)
{
	expected_revise(&client.expected);
	must(!client.expected.ended && !client.expected.last);
	must(!client.silent || (model.greeted && model.locked_pools > 0));
	if (client.expected.asked)
		reply_check(&client.expected);
	must(client.expected.asked || lines == 0);
	invariants_check();
	client.expected = (struct expected){ .asked = false };
	client.silent = false;
	failed.call = lost.call = CALL_NONE;
	lines = 0;
}

/*
 * The conversation is over, and the helper waits for a descriptor that is unread
 * to be received, or for its client to leave.
 */
static int
call_pause(void)
{
	unsigned act;
	char reply;

	must(client.over && client.unread && client.socket != -1);
	must(client.carries);
	while (client.left > 0) {
		act = byte() & 31;
		if (act == ('Y' & 31))
			return 0;
		if (act == ('B' & 31)) {
			must(recv(client.socket, &reply, 1, MSG_DONTWAIT) == 1);
			client.unread = false;
			return 0;
		}
		if (act == ('_' & 31))
			break;
		client_acts(act);
	}
	client_leave();
	return 0;
}

/*
 * The helper waits: the client acts until there is something to be received, or
 * it is silent.
 */
static int
call_poll(const struct pollfd *socket, nfds_t n, int ms)
{
	unsigned act;

	if (n == 0)
		return call_pause();
	must(socket->fd == 0 && socket->events == POLLIN && n == 1);
	must(ms > 0 && ms <= PATIENCE_MS); /* never for ever */
	if (!client.flying && client.socket != -1)
		judge();
	if (is_fault(CALL_POLL))
		return errno == EINTR ? -1 : noted_lost(CALL_POLL);
	if (client.flying || client.socket == -1)
		return 1;
	while (client.left > 0) {
		act = byte() & 31;
		if (client_asks(act) || act == ('_' & 31))
			break;
		client.silent = act == ('Y' & 31);
		if (client.silent)
			return 0;
		if (act == ('B' & 31))
			client.deaf = true;
		else if (!client_acts(act))
			helper_meets(act);
	}
	if (!client.flying)
		client_leave();
	return 1;
}

/* The helper has closed its end, and something must have told it to. */
static void
end_check(void)
{
	struct expected *e = &client.expected;
	char after;
	ssize_t n;

	client.beyond--;
	expected_revise(e);
	if (e->asked && !e->ended) {
		must(e->last);
		reply_check(e);
	}
	/* No reply more; but one that is unread is still there. */
	if (client.socket != -1 && !client.unread) {
		n = recv(client.socket, &after, 1, MSG_DONTWAIT);
		must(n == 0 || (n == -1 && errno == ECONNRESET));
	}
	must(lines == e->lines);
	/* A descriptor that is under way is waited for. */
	must(!client.carries || !client.unread || client.socket == -1);
	must(e->asked || client.socket == -1 || (client.silent &&
	    (!model.greeted || model.locked_pools == 0)));
	/* What is granted is not known to the client, and will be given up. */
	if (e->ended && lost.call == CALL_SENDMSG && e->m.type != WIRE_GRANT)
		model_update(e, -1);
	own_forget();
}

/* The helper lingers: the client does the rest, then lets go of all it maps. */
static int
call_nanosleep(const struct timespec *pause)
{
	unsigned act;

	must(pause->tv_sec == 0 && pause->tv_nsec >= PAUSE_MIN &&
	    pause->tv_nsec < 2 * PAUSE_MAX);
	must(model.locked_pools > 0);
	fault.call = CALL_NONE;
	while (client.left > 0)
		if (client_acts(act = byte() & 31) && act == ('~' & 31))
			return 0;
	for (size_t i = 0; i < RECORDS; i++)
		if (client.records[i].map != NULL) {
			client_unmap(&client.records[i]);
			return 0;
		}
	must(client.naps++ < NAPS);
	sched_yield();
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
play_begin(const uint8_t *data, size_t size)
{
	int pair[2];

	memset(&client, 0, sizeof(client));
	memset(&model, 0, sizeof(model));
	for (size_t i = 0; i < RECORDS; i++)
		client.records[i].fd = -1;
	client.at = data;
	client.left = size;
	client.at_pool = client.records;
	client.own.fd = -1;
	ledger_pages = LEDGER_PAGES;
	ledger_taken = 0;
	fault.call = failed.call = lost.call = CALL_NONE;
	lines = 0;
	greeted = false;
	last_id = 0;
	locker.limit = model.limit = HALF_PAGES / 2 * page_size();
	close(0);
	must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
	must(pair[0] == 0);
	client.socket = pair[1];
	pulse_fd = memfd_create("pulse", MFD_CLOEXEC);
	must(pulse_fd != -1);
	client.pulse = true;
	client.beyond = files_open() - 1;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	play_begin(data, size);
	serve(WIRE_OK, pulse_fd);
	end_check();
	if (client.pulse)
		(void)call_close(pulse_fd);
	client_leave();
	fault.call = CALL_NONE;
	locker_linger();
	must(pool_count == 0 && locker.held == 0 && locker.locked == 0);
	must(locker.locked_pools == 0 && locker.outstanding == 0);
	must(ledger_taken == 0 && maps == 0);
	must(model.locked_pools == 0);
	for (size_t i = 0; i < RECORDS; i++) {
		client_close(&client.records[i]);
		client_unmap(&client.records[i]);
	}
	must(files_open() == client.beyond && kernel_locked() == 0);
	return 0;
}
