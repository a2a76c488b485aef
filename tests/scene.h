/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * scene.h: a stage on which one client at a time does harm to its helper, and
 * what the helper holds is looked at before and after.  It knows the wire and
 * the ledger's layout, but not what harm is done.
 *
 * Three sides: the judge is root and never talks to a helper; for each scene it
 * starts a client, which is nobody; the witness is another client of the same
 * user with a helper of its own, whose service goes on meanwhile and whose pool
 * stays locked.  The judge counts descriptors, memory, and the share of the
 * ledger if SECMALLOC_TEST_LEDGER names that file.
 */
#ifndef TESTS_SCENE_H
#define TESTS_SCENE_H

#include "client.h"

enum {
	/* Pages of the witness's pool, and other pools, of a page each. */
	WITNESS_PAGES = 64,
	WITNESS_MORE = 7,
	/* Pages of a pool that a client asks for. */
	POOL_PAGES = 16,
	POOLS_MAX = 10,
	/* How long anything may take, in milliseconds, also the witness. */
	PATIENCE_TEST_MS = 10000,
	PROMPTLY_MS = 1000,
	/* Twice the patience of the helper that is used for silences. */
	SILENCE_MS = 1000,
	/*
	 * By how much a helper's memory may grow in a scene, in KiB: pages of
	 * its program and libraries that are needed for the first time, which
	 * the kernel brings in 64 KiB at a time.
	 */
	GROWTH_KIB = 512,
	/* Where a user's helpers stand in the ledger, after 2^29 pages. */
	LEDGER_BITS = 30
};

/* How far a conversation has come. */
enum step {
	GREETING,  /* nothing was said */
	READY,     /* HELLO */
	GIVEN,     /* a pool is granted */
	MAPPED,    /* ... mapped */
	POPULATED, /* ... populated */
	HELD,      /* ... locked */
	RELEASED,  /* ... and released */
	GRANTED    /* one is locked, another one granted and populated */
};

static const char *const step_names[] = {
	"before HELLO", "after HELLO", "with a grant", "with a grant mapped",
	"with a grant populated", "with a pool locked", "with a pool released",
	"with a pool locked and another granted"
};

/* What comes of a request: an enum wire_status, or one of these. */
enum {
	ENDED = 100, /* the conversation */
	NOT_SENT,    /* the kernel refused to carry it */
	SILENT,      /* no answer */
	STRANGE,     /* an answer that is none */
	EITHER       /* ended or served: the kernel's version decides */
};

static inline const char *
outcome_name(int outcome)
{
	static const char *const statuses[] = {
		"OK", "EPERM", "EDQUOT", "ENOMEM", "EINVAL", "EPROTO"
	};
	static const char *const others[] = {
		"the end", "not sent", "silence", "a strange answer",
		"the end or OK"
	};

	return outcome < ENDED ? statuses[outcome % 6] :
	    others[outcome - ENDED];
}

struct pool {
	unsigned char *base; /* NULL: not mapped */
	size_t size;
	uint32_t id;
	int fd;
	bool locked, keeps; /* keeps: the mapping counts for the helper */
	bool under_way;     /* its descriptor was sent, and not received */
};

struct client {
	struct pool pool[POOLS_MAX]; /* the first of them, by count */
	unsigned count;
	uint32_t last_id;
	uint64_t limit, left; /* as HELLO said */
	int socket, theirs;   /* theirs: the helper's end, if it is kept */
	pid_t helper;
	bool greeted, ended;
};

/* How a client leaves. */
enum way { STAYS, CLOSES, SHUTS_RD, SHUTS_WR, SHUTS_RDWR, IS_KILLED, STOPS };

struct scene {
	char name[160];
	enum step step;
	int outcome;
	int (*act)(struct client *, const struct scene *);
	void (*prepare)(void);
	const void *detail; /* what ACT does not find here */
	unsigned type;
	uint32_t id;
	uint64_t a, b;
	enum way way;
	bool unmaps;      /* before it leaves */
	bool both;        /* ends of the socket stay the client's */
	unsigned growth;  /* in KiB; 0: GROWTH_KIB */
};

/* What client or witness says to the judge, who answers with one byte. */
struct report {
	uint64_t at, size;   /* a pool that must be locked, if any */
	uint64_t held;       /* bytes that the helper should have granted */
	int32_t holder;      /* the process that maps it */
	int32_t helper;
	int32_t outcome;
	uint32_t pools;      /* that the helper should have */
	uint32_t greeted, ended, unread;
};

static inline size_t
page_size(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

static inline size_t
pool_size(void)
{
	return POOL_PAGES * page_size();
}

/* --- A client's side --- */

static inline void
client_prepare(struct client *c, void (*prepare)(void), bool both)
{
	const struct timeval limit = { .tv_sec = PATIENCE_TEST_MS / 1000 };
	int pair[2];

	c->theirs = -1;
	if (both) {
		expect(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0,
		    pair) == 0);
		c->socket = pair[0];
		c->theirs = pair[1];
		c->helper = helper_start(pair[1], pair[0], prepare);
	} else
		c->helper = helper_connect(&c->socket, prepare);
	expect(setsockopt(c->socket, SOL_SOCKET, SO_RCVTIMEO, &limit,
	    sizeof(limit)) == 0);
}

static inline int
outcome_of_silence(void)
{
	if (errno == 0 || errno == ECONNRESET)
		return ENDED;
	return errno == EAGAIN ? SILENT : STRANGE;
}

/* What comes of a message that is sent as it is. */
static inline int
converse(struct client *c, const struct msghdr *msg, int flags,
    struct wire_message *reply, int *fd)
{
	*fd = -1;
	if (sendmsg(c->socket, msg, flags | MSG_NOSIGNAL) == -1) {
		if (errno != EPIPE && errno != ECONNRESET)
			return NOT_SENT;
		c->ended = true;
		return ENDED;
	}
	if (hear(c->socket, reply, fd))
		return (int)reply->status;
	c->ended = true;
	return outcome_of_silence();
}

static inline int
request_say(struct client *c, unsigned type, uint32_t id, uint64_t a,
    uint64_t b, struct wire_message *reply, int *fd)
{
	const struct wire_message m = { .version = WIRE_VERSION,
	    .type = (uint16_t)type, .id = id, .a = a, .b = b };
	unsigned char packet[WIRE_REQUEST_LEN];
	struct iovec iov = { packet, sizeof(packet) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	wire_pack(packet, sizeof(packet), &m);
	return converse(c, &msg, 0, reply, fd);
}

static inline uint64_t
client_locked(const struct client *c)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < c->count; i++)
		bytes += c->pool[i].locked ? c->pool[i].size : 0;
	return bytes;
}

static inline unsigned
client_pools_locked(const struct client *c)
{
	unsigned n = 0;

	for (unsigned i = 0; i < c->count; i++)
		n += c->pool[i].locked;
	return n;
}

/* Gives up the mapping and the descriptor. */
static inline void
pool_leave(struct pool *p)
{
	if (p->base != NULL)
		expect(munmap(p->base, p->size) == 0);
	if (p->fd != -1)
		expect(close(p->fd) == 0);
	p->base = NULL;
	p->fd = -1;
	p->keeps = false;
}

/* In no order: the last takes the place of the forgotten. */
static inline void
pool_forget(struct client *c, uint32_t id)
{
	for (unsigned i = 0; i < c->count; i++)
		if (c->pool[i].id == id) {
			pool_leave(&c->pool[i]);
			c->pool[i] = c->pool[--c->count];
			return;
		}
}

static inline struct pool *
pool_last(struct client *c)
{
	expect(c->count > 0);
	return &c->pool[c->count - 1];
}

/*
 * Keeps the books of a request that was answered, and holds the answer to what
 * the protocol promises.
 */
static inline void
client_account(struct client *c, unsigned type, uint32_t id, uint64_t a,
    const struct wire_message *reply, int fd)
{
	bool fine = reply->status == WIRE_OK;

	expect(reply->type == type && reply->version == WIRE_VERSION);
	expect((fd != -1) == (fine && (type == WIRE_HELLO ||
	    type == WIRE_GRANT)));
	if (!fine) {
		expect(reply->id == 0 && reply->a == 0 && reply->b == 0 &&
		    reply->c == 0);
		if (type == WIRE_LOCK)
			pool_forget(c, id);
	} else if (type == WIRE_HELLO) {
		c->greeted = true;
		c->limit = reply->b;
		c->left = reply->c;
		expect(reply->a == WIRE_VERSION);
		expect(c->limit >= c->left && c->limit % page_size() == 0);
		(void)close(fd);
	} else if (type == WIRE_GRANT || type == WIRE_ADOPT) {
		expect(c->count < POOLS_MAX && reply->id == c->last_id + 1);
		c->last_id = reply->id;
		c->pool[c->count++] = (struct pool){ .size = (size_t)a,
		    .id = reply->id, .fd = fd, .locked = type == WIRE_ADOPT };
	} else if (type == WIRE_LOCK) {
		for (unsigned i = 0; i < c->count; i++)
			c->pool[i].locked |= c->pool[i].id == id;
	} else if (type == WIRE_RELEASE) {
		pool_forget(c, id);
	} else {
		expect(reply->b == client_pools_locked(c));
	}
	if (fine && type >= WIRE_LOCK)
		expect(reply->a == client_locked(c));
}

/* A request and its bookkeeping. */
static inline int
client_ask(struct client *c, unsigned type, uint32_t id, uint64_t a,
    uint64_t b)
{
	struct wire_message reply;
	int fd, outcome = request_say(c, type, id, a, b, &reply, &fd);

	if (outcome < ENDED)
		client_account(c, type, id, a, &reply, fd);
	return outcome;
}

/* Whether the conversation goes on, and with the right figures. */
static inline void
client_served(struct client *c)
{
	expect(client_ask(c, c->greeted ? WIRE_STATUS : WIRE_HELLO, 0,
	    !c->greeted, !c->greeted) == WIRE_OK);
}

static inline void
client_map(struct client *c)
{
	struct pool *p = pool_last(c);

	p->base = mmap(NULL, p->size, PROT_READ | PROT_WRITE, MAP_SHARED,
	    p->fd, 0);
	expect(p->base != MAP_FAILED);
	p->keeps = true;
}

/* One was granted, and the answer that carries it stays unread. */
static inline void
client_leaves_unread(struct client *c)
{
	c->pool[c->count++] = (struct pool){ .size = pool_size(), .fd = -1,
	    .under_way = true };
}

static inline void
client_populate(struct client *c)
{
	memset(pool_last(c)->base, 0x5a, pool_last(c)->size);
}

/* The same without a mapping. */
static inline void
client_write(struct client *c)
{
	const struct pool *p = pool_last(c);
	char page[1 << 16] = { 1 };

	for (size_t done = 0; done < p->size; done += page_size())
		expect(pwrite(p->fd, page, page_size(), (off_t)done) ==
		    (ssize_t)page_size());
}

static inline int
client_lock(struct client *c)
{
	return client_ask(c, WIRE_LOCK, pool_last(c)->id, 0, 0);
}

static inline void
client_hold(struct client *c, size_t size)
{
	expect(client_ask(c, WIRE_GRANT, 0, size, 0) == WIRE_OK);
	client_map(c);
	client_populate(c);
	expect(client_lock(c) == WIRE_OK);
}

static inline void
client_reach(struct client *c, enum step step)
{
	if (step >= READY)
		expect(client_ask(c, WIRE_HELLO, 0, 1, 1) == WIRE_OK);
	if (step >= GIVEN)
		expect(client_ask(c, WIRE_GRANT, 0, pool_size(), 0) == WIRE_OK);
	if (step >= MAPPED)
		client_map(c);
	if (step >= POPULATED)
		client_populate(c);
	if (step >= HELD)
		expect(client_lock(c) == WIRE_OK);
	if (step == RELEASED)
		expect(client_ask(c, WIRE_RELEASE, 1, 0, 0) == WIRE_OK);
	if (step == GRANTED) {
		expect(client_ask(c, WIRE_GRANT, 0, pool_size(), 0) == WIRE_OK);
		client_map(c);
		client_populate(c);
	}
}

/* Says how it stands, and waits until the judge has looked at it. */
static inline void
client_report(int judge, const struct client *c, int outcome, pid_t holder)
{
	struct report r = { .holder = holder, .helper = c->helper,
	    .outcome = outcome, .greeted = c->greeted, .ended = c->ended };
	char go;

	for (unsigned i = 0; i < c->count; i++) {
		const struct pool *p = &c->pool[i];

		/* Of those that are not kept, an end leaves nothing. */
		if (c->ended && !(p->locked && p->keeps) && !p->under_way)
			continue;
		r.pools++;
		r.held += p->size;
		r.unread |= p->under_way;
		if (p->locked && p->keeps) {
			r.at = (uintptr_t)p->base;
			r.size = p->size;
		}
	}
	expect(send(judge, &r, sizeof(r), MSG_NOSIGNAL) == (ssize_t)sizeof(r));
	expect(recv(judge, &go, 1, 0) == 1);
}

/* A child that maps what its parent does.  fork() leaves pages to be found. */
static inline pid_t
client_keeper(const struct client *c)
{
	int ready[2];
	pid_t pid;
	char byte;

	expect(pipe(ready) == 0 && (pid = fork()) != -1);
	if (pid == 0) {
		for (unsigned i = 0; i < c->count; i++)
			if (c->pool[i].base != NULL)
				memset(c->pool[i].base, 2, c->pool[i].size);
		(void)close(c->socket);
		expect(write(ready[1], "", 1) == 1);
		for (;;)
			(void)pause();
	}
	(void)close(ready[1]);
	expect(read(ready[0], &byte, 1) == 1);
	(void)close(ready[0]);
	return pid;
}

static inline void
client_run(int judge, const struct scene *s)
{
	struct client c = { .socket = -1 };
	pid_t holder = getpid();
	int outcome;

	(void)alarm(60);
	become_nobody(0);
	client_prepare(&c, s->prepare != NULL ? s->prepare : become_anything,
	    s->both);
	client_reach(&c, s->step);
	client_report(judge, &c, SILENT, holder);
	outcome = s->act(&c, s);
	if (s->way == IS_KILLED && !s->unmaps)
		holder = client_keeper(&c);
	client_report(judge, &c, outcome, holder);
	while (c.count > 0)
		pool_leave(&c.pool[--c.count]);
	if (c.socket != -1)
		expect(close(c.socket) == 0);
	if (c.theirs != -1)
		expect(close(c.theirs) == 0);
	expect(helper_ends(c.helper, PROMPTLY_MS));
	_exit(0);
}

/* --- The witness --- */

static inline void
witness_turn(struct client *c)
{
	client_served(c);
	client_hold(c, POOL_PAGES * page_size());
	expect(client_ask(c, WIRE_RELEASE, c->last_id, 0, 0) == WIRE_OK);
	client_served(c);
}

/* Its ids go beyond those that a scene's client has. */
static inline void
witness_run(int judge)
{
	struct client c = { .socket = -1 };

	become_nobody(0);
	client_prepare(&c, become_anything, false);
	client_reach(&c, READY);
	for (unsigned i = 0; i < WITNESS_MORE; i++)
		client_hold(&c, page_size());
	client_hold(&c, WITNESS_PAGES * page_size());
	for (;;) {
		client_report(judge, &c, WIRE_OK, getpid());
		witness_turn(&c);
	}
}

static struct {
	struct report report;
	int socket;
	pid_t pid;
	int64_t longest; /* turn, in microseconds */
	unsigned turns;
} witness;

static inline bool
witness_hear(void)
{
	struct pollfd p = { witness.socket, POLLIN, 0 };

	return poll(&p, 1, PATIENCE_TEST_MS) == 1 &&
	    recv(witness.socket, &witness.report, sizeof(witness.report),
	    MSG_DONTWAIT) == (ssize_t)sizeof(witness.report);
}

static inline pid_t
side_start(int *socket, void (*run)(int, const struct scene *),
    const struct scene *s)
{
	int pair[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == -1 ||
	    (pid = fork()) == -1)
		bail_out("fork: %s", strerror(errno));
	if (pid == 0) {
		(void)close(pair[0]);
		if (run != NULL)
			run(pair[1], s);
		else
			witness_run(pair[1]);
		_exit(0);
	}
	(void)close(pair[1]);
	*socket = pair[0];
	return pid;
}

static inline void
witness_start(void)
{
	witness.pid = side_start(&witness.socket, NULL, NULL);
	if (!witness_hear())
		bail_out("no witness");
}

/* Whether all that another client may want goes on. */
static inline bool
witness_goes_on(void)
{
	const struct ask pages = { witness.report.at, witness.report.size,
	    ASK_PAGES, witness.report.holder };
	int64_t start = now_us(), turn;
	struct answer answer;

	if (send(witness.socket, "", 1, MSG_NOSIGNAL) != 1 || !witness_hear())
		bail_out("the witness is no longer served");
	turn = now_us() - start;
	witness.turns++;
	if (turn > witness.longest)
		witness.longest = turn;
	answer = observe_pages_drained(&pages);
	if (answer.count == WITNESS_PAGES && answer.unlocked == 0)
		return true;
	diag("%ju of the witness's %ju pages are not locked",
	    (uintmax_t)answer.unlocked, (uintmax_t)answer.count);
	return false;
}

/* --- The judge --- */

/* What a process has. */
struct seen {
	unsigned sockets, memfds, others;
	unsigned long kib;
};

static inline unsigned long
resident_kib(pid_t pid)
{
	unsigned long kib = 0;
	char path[64], line[256];
	FILE *f;

	/* Counted exactly, unlike VmRSS. */
	(void)snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pid);
	if ((f = fopen(path, "re")) == NULL)
		return 0;
	while (fgets(line, sizeof(line), f) != NULL)
		if (strncmp(line, "Rss:", 4) == 0)
			kib = strtoul(line + 4, NULL, 10);
	(void)fclose(f);
	return kib;
}

/* All zero for a process that is no more. */
static inline struct seen
look_at(pid_t pid)
{
	struct seen seen = { .kib = resident_kib(pid) };
	struct dirent *entry;
	char path[64], link[128];
	ssize_t length;
	DIR *dir;

	(void)snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	if ((dir = opendir(path)) == NULL)
		return seen;
	while ((entry = readdir(dir)) != NULL) {
		length = readlinkat(dirfd(dir), entry->d_name, link,
		    sizeof(link) - 1);
		if (length == -1)
			continue;
		link[length] = '\0';
		if (strncmp(link, "socket:", 7) == 0)
			seen.sockets++;
		else if (strcmp(link, "/memfd:secmalloc (deleted)") == 0)
			seen.memfds++;
		else
			seen.others++;
	}
	(void)closedir(dir);
	return seen;
}

/* Bytes of the ledger that somebody has locked, from FROM to before TO. */
static inline uint64_t
ledger_bytes(int fd, off_t from, off_t to)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET,
	    .l_start = from, .l_len = to - from };
	off_t first, end;

	if (from >= to)
		return 0;
	if (fcntl(fd, F_OFD_GETLK, &l) == -1)
		bail_out("ledger: %s", strerror(errno));
	if (l.l_type == F_UNLCK)
		return 0;
	first = l.l_start > from ? l.l_start : from;
	end = l.l_len == 0 || l.l_start + l.l_len > to ? to :
	    l.l_start + l.l_len;
	return (uint64_t)(end - first) + ledger_bytes(fd, from, first) +
	    ledger_bytes(fd, end, to);
}

/* Whether nobody's share is PAGES, of HELPERS. */
static inline bool
ledger_says(uint64_t pages, uint64_t helpers_there)
{
	const off_t start = (off_t)NOBODY << LEDGER_BITS;
	const off_t middle = start + ((off_t)1 << (LEDGER_BITS - 1));
	const off_t end = start + ((off_t)1 << LEDGER_BITS);
	const char *path = getenv("SECMALLOC_TEST_LEDGER");
	bool right;
	int fd;

	if (path == NULL || *path == '\0')
		return true;
	if ((fd = open(path, O_RDONLY | O_CLOEXEC)) == -1)
		bail_out("%s: %s", path, strerror(errno));
	right = ledger_bytes(fd, start, middle) == pages &&
	    ledger_bytes(fd, middle, end) == helpers_there;
	(void)close(fd);
	return right;
}

/* Whether the helper comes to have what its client says it should. */
static inline bool
helper_settles(const struct report *r, const struct seen *before,
    unsigned growth)
{
	int64_t end = now_us() + PROMPTLY_MS * 1000;
	bool gone = r->ended && r->pools == 0;
	struct seen seen;

	do {
		seen = look_at(r->helper);
		if (gone ? seen.sockets + seen.memfds + seen.others == 0 :
		    seen.memfds == r->pools &&
		    seen.sockets == before->sockets - (r->ended && !r->unread) &&
		    seen.others == before->others &&
		    ledger_says((witness.report.held + r->held) / page_size(),
		    2))
			break;
		sleep_ms(1);
	} while (now_us() < end);
	if (now_us() >= end) {
		diag("%u sockets, %u pools, %u others; %u, %u, %u before; "
		    "%u pools expected", seen.sockets, seen.memfds, seen.others,
		    before->sockets, before->memfds, before->others, r->pools);
		return false;
	}
	if (!gone && seen.kib > before->kib + r->held / 1024 + growth) {
		diag("%lu KiB, %lu before, of which %u may be new", seen.kib,
		    before->kib, growth);
		return false;
	}
	return true;
}

static inline bool
pool_is_locked(const struct report *r)
{
	const struct ask pages = { r->at, r->size, ASK_PAGES, r->holder };
	struct answer answer;

	if (r->size == 0)
		return true;
	answer = observe_pages_drained(&pages);
	if (answer.count == r->size / page_size() && answer.unlocked == 0)
		return true;
	diag("%ju of %ju pages are not locked", (uintmax_t)answer.unlocked,
	    (uintmax_t)answer.count);
	return false;
}

/* The next report of a scene's client; the witness is served meanwhile. */
static inline bool
report_hear(int socket, struct report *r)
{
	struct pollfd p = { socket, POLLIN, 0 };
	bool goes_on = true;

	while (poll(&p, 1, 5) == 0)
		goes_on = witness_goes_on() && goes_on;
	return recv(socket, r, sizeof(*r), 0) == (ssize_t)sizeof(*r) && goes_on;
}

static inline bool
child_succeeds(pid_t pid)
{
	int status;

	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
	    WEXITSTATUS(status) == 0;
}

static inline bool
outcome_is(int outcome, int expected)
{
	if (outcome == expected || (expected == EITHER &&
	    (outcome == WIRE_OK || outcome == ENDED)))
		return true;
	diag("%s, where %s was expected", outcome_name(outcome),
	    outcome_name(expected));
	return false;
}

/* The client is killed; its helper, now our child, keeps what is kept. */
static inline bool
scene_kill(pid_t pid, struct report *r, const struct seen *before)
{
	bool kept = r->holder != pid, fine;
	int status;

	(void)kill(pid, SIGKILL);
	(void)waitpid(pid, &status, 0);
	fine = helper_settles(r, before, GROWTH_KIB) &&
	    (!kept || pool_is_locked(r)) && witness_goes_on();
	if (kept) {
		(void)kill(r->holder, SIGKILL);
		(void)waitpid(r->holder, &status, 0);
	}
	return helper_ends(r->helper, PROMPTLY_MS) && fine;
}

/*
 * The client is stopped: it is waited for as long as it maps what is locked,
 * and no longer than the helper's patience if it does not.
 */
static inline bool
scene_stop(pid_t pid, struct report *r, const struct seen *before)
{
	struct report still = *r;
	int64_t end = now_us() + SILENCE_MS * 1000;
	bool fine = true;

	(void)kill(pid, SIGSTOP);
	still.ended = r->size == 0;
	if (still.ended)
		still.pools = 0, still.held = 0;
	while (now_us() < end) {
		fine = witness_goes_on() && fine;
		sleep_ms(20);
	}
	fine = helper_settles(&still, before, GROWTH_KIB) && fine;
	fine = pool_is_locked(r) && witness_goes_on() && fine;
	(void)kill(pid, SIGCONT);
	return fine;
}

/* From its first report on; the client is no more when it returns. */
static inline bool
scene_watch(const struct scene *s, int socket, pid_t pid)
{
	struct seen before;
	struct report r;
	bool fine;

	if (!report_hear(socket, &r))
		return child_succeeds(pid) && false;
	/* Before HELLO is answered it is not known how far it has come. */
	before = look_at(r.helper);
	if (s->step != GREETING && before.sockets == 0) {
		diag("the helper is not to be seen");
		return false;
	}
	(void)send(socket, "", 1, MSG_NOSIGNAL);
	if (!report_hear(socket, &r))
		return child_succeeds(pid) && false;
	fine = outcome_is(r.outcome, s->outcome);
	if (s->way == IS_KILLED)
		return scene_kill(pid, &r, &before) && fine;
	if (s->way == STOPS)
		fine = scene_stop(pid, &r, &before) && fine;
	else if (s->step != GREETING)
		fine = helper_settles(&r, &before, s->growth != 0 ? s->growth :
		    GROWTH_KIB) && fine;
	fine = pool_is_locked(&r) && witness_goes_on() && fine;
	(void)send(socket, "", 1, MSG_NOSIGNAL);
	return child_succeeds(pid) && fine;
}

/* Waits until nothing is left of a scene, in processes and in the ledger. */
static inline bool
scene_leaves_nothing(void)
{
	int64_t end = now_us() + PROMPTLY_MS * 1000;
	bool nothing;

	while (!(nothing = observe_children(true, NULL) == 1 &&
	    ledger_says(witness.report.held / page_size(), 1)) &&
	    now_us() < end) {
		sleep_ms(1);
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
	}
	if (!nothing)
		diag("something of it is left");
	return nothing;
}

static inline void
scene_play(const struct scene *s)
{
	int socket;
	pid_t pid = side_start(&socket, client_run, s);
	bool fine = scene_watch(s, socket, pid);

	(void)close(socket);
	fine = scene_leaves_nothing() && fine;
	(void)ok(fine, "%s: %s", s->name, outcome_name(s->outcome));
}

#endif
