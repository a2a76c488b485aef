/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * requests.c: every request said in every wrong way, at every step of a
 * conversation, and what the helper makes of it; knows the wire and what the
 * kernel allows a client, but nothing of the library or of the helper's inside.
 *
 *   requests order|form|form-elsewhen|ids|sizes|descriptors|adopt|memory|
 *       options|leaving|silence|bursts|sequences...
 *
 * silence is for a helper whose patience is half a second.
 */
#include "config.h"

#include <limits.h>
#include <sys/vfs.h>

#include "scene.h"

#ifndef MFD_HUGETLB
#define MFD_HUGETLB 4U
#endif
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

/* Of Linux 6.5. */
#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76
#endif

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

enum {
	/* So many requests at once. */
	BURST = 100000,
	GREEDY = 20000,
	/* So many grants, each released. */
	SEQUENCE = 1000,
	/* How much a helper may grow by that, in KiB: four pages of 4 KiB. */
	SEQUENCE_GROWTH_KIB = 16
};

/* --- Order: each type at each step --- */

/* The request that is right for TYPE, as far as one can be. */
static struct wire_message
request_right(const struct client *c, unsigned type)
{
	struct wire_message m = { .version = WIRE_VERSION,
	    .type = (uint16_t)type };

	if (type == WIRE_HELLO)
		m.a = m.b = WIRE_VERSION;
	else if (type == WIRE_GRANT || type == WIRE_ADOPT)
		m.a = pool_size();
	else if (type == WIRE_LOCK || type == WIRE_RELEASE)
		m.id = c->last_id != 0 ? c->last_id : 1;
	return m;
}

static const struct {
	unsigned type;
	const char *name;
	/* What comes of it before HELLO, with a pool locked, with a grant. */
	int greeting, held, granted;
	/* Bytes of the packet, as bits, that must be zero: id, a, b. */
	uint32_t zero;
} types[] = {
	{ WIRE_HELLO, "HELLO", WIRE_OK, ENDED, ENDED, 0x00000f00 },
	{ WIRE_GRANT, "GRANT", ENDED, WIRE_OK, ENDED, 0xff000f00 },
	{ WIRE_LOCK, "LOCK", ENDED, ENDED, WIRE_OK, 0xffff0000 },
	{ WIRE_RELEASE, "RELEASE", ENDED, WIRE_OK, WIRE_OK, 0xffff0000 },
	{ WIRE_STATUS, "STATUS", ENDED, WIRE_OK, WIRE_OK, 0xffff0f00 },
	{ 0, "type 0", ENDED, ENDED, ENDED, 0xffff0f00 },
	{ WIRE_ADOPT, "ADOPT", ENDED, WIRE_OK, ENDED, 0xff000f00 },
	{ 7, "type 7", ENDED, ENDED, ENDED, 0xffff0f00 },
	{ 0xffff, "type 0xffff", ENDED, ENDED, ENDED, 0xffff0f00 },
};

/* What comes of a right request. */
static int
outcome_right(size_t type, enum step step)
{
	if (step == GREETING)
		return types[type].greeting;
	if (step == READY && types[type].type == WIRE_RELEASE)
		return ENDED; /* no pool has an id yet */
	return step == GIVEN || step == GRANTED ? types[type].granted :
	    types[type].held;
}

/* A memfd as GRANT gives it, but the client's own. */
static int
memfd_own(size_t size, int seals)
{
	int fd = memfd_create("secmalloc", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	expect(fd != -1 && ftruncate(fd, (off_t)size) == 0);
	expect(fcntl(fd, F_ADD_SEALS, seals) == 0);
	return fd;
}

static struct pool
pool_own(void)
{
	struct pool p = { .size = pool_size(), .keeps = true,
	    .fd = memfd_own(pool_size(), F_SEAL_SHRINK | F_SEAL_GROW) };

	p.base = mmap(NULL, p.size, PROT_READ | PROT_WRITE, MAP_SHARED, p.fd,
	    0);
	expect(p.base != MAP_FAILED);
	memset(p.base, 0x5a, p.size);
	return p;
}

/* What was adopted is P, whatever the client has of it. */
static void
pool_adopted(struct client *c, const struct pool *p)
{
	pool_last(c)->base = p->base;
	pool_last(c)->fd = p->fd;
	pool_last(c)->keeps = p->keeps;
}

/* A bytes of P, right or not. */
static int
client_adopt(struct client *c, const struct pool *p, uint64_t a)
{
	struct wire_message reply;
	int fd;

	expect(say_adopt(c->socket, a, p->fd));
	if (!hear(c->socket, &reply, &fd)) {
		c->ended = true;
		return outcome_of_silence();
	}
	client_account(c, WIRE_ADOPT, 0, a, &reply, fd);
	if (reply.status == WIRE_OK)
		pool_adopted(c, p);
	return (int)reply.status;
}

static int
act_right(struct client *c, const struct scene *s)
{
	struct wire_message m = request_right(c, s->type);
	struct pool own;
	int outcome;

	if (s->type == WIRE_ADOPT) {
		own = pool_own();
		outcome = client_adopt(c, &own, m.a);
	} else
		outcome = client_ask(c, s->type, m.id, m.a, m.b);
	if (!c->ended)
		client_served(c);
	return outcome;
}

static void
play_order(void)
{
	static const enum step steps[] = { GREETING, READY, HELD, GRANTED };

	for (size_t i = 0; i < COUNT(steps); i++)
		for (size_t t = 0; t < COUNT(types); t++) {
			struct scene s = { .step = steps[i], .act = act_right,
			    .type = types[t].type,
			    .outcome = outcome_right(t, steps[i]) };

			(void)snprintf(s.name, sizeof(s.name), "%s, %s",
			    types[t].name, step_names[steps[i]]);
			scene_play(&s);
		}
}

/* --- Form: each type, spoilt --- */

enum kind {
	NONE, NULL_DEVICE, PIPE, DIRECTORY, HUGETLB, UNSEALED, SEALED,
	OWN_SOCKET, OWN_POOL
};

struct spoilt {
	const char *how;
	int more;          /* than a request's length, in bytes */
	unsigned at, with; /* the byte that is changed, by exclusive or */
	enum kind kind;
	unsigned descriptors;
	bool attached;     /* an SCM_RIGHTS of no descriptors is */
	bool credentials;
	bool harmless;     /* what comes of it is what comes of a right one */
	int flags;
};

/* A message carries 253 descriptors at the most (SCM_MAX_FD, net/scm.h). */
static const struct spoilt spoilts[] = {
	{ .how = "of no bytes", .more = -32 },
	{ .how = "of 1 byte", .more = -31 },
	{ .how = "of 31 bytes", .more = -1 },
	{ .how = "of 33 bytes", .more = 1 },
	{ .how = "of 64 KiB", .more = 65536 - 32 },
	{ .how = "with another magic", .at = 0, .with = 1 },
	{ .how = "with another end of the magic", .at = 3, .with = 0x80 },
	{ .how = "of version 0", .at = 4, .with = 1 },
	{ .how = "of version 2", .at = 4, .with = 3 },
	{ .how = "of version 0xff01", .at = 5, .with = 0xff },
	{ .how = "with a type's upper byte", .at = 7, .with = 1 },
	{ .how = "with padding", .at = 12, .with = 1 },
	{ .how = "with padding at its end", .at = 15, .with = 0x80 },
	{ .how = "with an id that it has not", .at = 8, .with = 1 },
	{ .how = "with a large id that it has not", .at = 11, .with = 0x80 },
	{ .how = "with an a that it has not", .at = 16, .with = 1 },
	{ .how = "with a large a that it has not", .at = 23, .with = 0x80 },
	{ .how = "with a b that it has not", .at = 24, .with = 1 },
	{ .how = "with a large b that it has not", .at = 31, .with = 0x80 },
	{ .how = "with a descriptor", .kind = NULL_DEVICE, .descriptors = 1 },
	{ .how = "with 2 descriptors", .kind = NULL_DEVICE, .descriptors = 2 },
	{ .how = "with 250 descriptors", .kind = NULL_DEVICE,
	    .descriptors = 250 },
	{ .how = "with no byte and its own socket", .more = -32,
	    .kind = OWN_SOCKET, .descriptors = 1 },
	{ .how = "with 1 byte and its own socket", .more = -31,
	    .kind = OWN_SOCKET, .descriptors = 1 },
	{ .how = "with another magic and its own socket", .at = 0, .with = 1,
	    .kind = OWN_SOCKET, .descriptors = 1 },
	{ .how = "with 1 byte and 250 descriptors", .more = -31,
	    .kind = NULL_DEVICE, .descriptors = 250 },
	{ .how = "with no byte and 250 descriptors", .more = -32,
	    .kind = NULL_DEVICE, .descriptors = 250 },
	{ .how = "with a descriptor and credentials", .kind = NULL_DEVICE,
	    .descriptors = 1, .credentials = true },
	{ .how = "with room for descriptors, but none", .attached = true,
	    .harmless = true },
	{ .how = "with credentials", .credentials = true, .harmless = true },
};

static int
kind_open(const struct client *c, enum kind kind)
{
	int fd, pair[2];

	switch (kind) {
	case PIPE:
		expect(pipe(pair) == 0);
		return pair[0];
	case DIRECTORY:
		return open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	case HUGETLB:
		fd = memfd_create("secmalloc", MFD_ALLOW_SEALING | MFD_HUGETLB);
		expect(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0);
		return fd;
	case UNSEALED:
	case SEALED:
		return memfd_own(pool_size(), kind == UNSEALED ? 0 :
		    F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
	case OWN_SOCKET:
		return dup(c->socket);
	case OWN_POOL:
		return dup(c->pool[0].fd);
	default:
		return open("/dev/null", O_RDWR | O_CLOEXEC);
	}
}

/* Appends to CONTROL; the length that it then has. */
static socklen_t
control_append(unsigned char *control, socklen_t used, int type, const void *data,
    size_t size)
{
	const struct cmsghdr header = { .cmsg_len = (socklen_t)CMSG_LEN(size),
	    .cmsg_level = SOL_SOCKET, .cmsg_type = type };

	memcpy(control + used, &header, sizeof(header));
	memcpy(control + used + CMSG_LEN(0), data, size);
	return used + (socklen_t)CMSG_SPACE(size);
}

/* With N times FD. */
static socklen_t
control_make(const struct spoilt *spoilt, int fd, unsigned n,
    unsigned char *control)
{
	const struct ucred own = { getpid(), getuid(), getgid() };
	socklen_t used = 0;
	int fds[250];

	for (unsigned i = 0; i < COUNT(fds); i++)
		fds[i] = fd;
	if (spoilt->credentials)
		used = control_append(control, used, SCM_CREDENTIALS, &own,
		    sizeof(own));
	if (spoilt->attached || n != 0)
		used = control_append(control, used, SCM_RIGHTS, fds,
		    n * sizeof(int));
	return used;
}

static int
act_spoilt(struct client *c, const struct scene *s)
{
	static unsigned char packet[65536];
	static union {
		struct cmsghdr align;
		unsigned char space[2048];
	} control;
	const struct spoilt *spoilt = s->detail;
	struct wire_message m = request_right(c, s->type), reply;
	struct iovec iov = { packet,
	    (size_t)(WIRE_REQUEST_LEN + spoilt->more) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct pool own = { .fd = -1 };
	unsigned n = spoilt->descriptors;
	int fd, outcome, sent = -1;

	if (n != 0)
		expect((sent = kind_open(c, spoilt->kind)) != -1);
	else if (s->type == WIRE_ADOPT && !spoilt->attached) {
		own = pool_own();
		n = 1;
	}
	wire_pack(packet, WIRE_REQUEST_LEN, &m);
	packet[spoilt->at] ^= (unsigned char)spoilt->with;
	msg.msg_controllen = control_make(spoilt, sent != -1 ? sent : own.fd, n,
	    control.space);
	if (msg.msg_controllen != 0)
		msg.msg_control = &control;
	outcome = converse(c, &msg, spoilt->flags, &reply, &fd);
	if (sent != -1)
		(void)close(sent);
	if (outcome < ENDED) {
		expect(spoilt->harmless || s->outcome == outcome);
		client_account(c, s->type, m.id, m.a, &reply, fd);
		if (s->type == WIRE_ADOPT && outcome == WIRE_OK)
			pool_adopted(c, &own);
	}
	if (!c->ended)
		client_served(c);
	return outcome;
}

/* ADOPT has to have a descriptor, and one, which may then be of anything. */
static int
outcome_spoilt(size_t t, enum step step, const struct spoilt *spoilt)
{
	bool adopt = types[t].type == WIRE_ADOPT;

	if (spoilt->flags != 0)
		return NOT_SENT;
	if (adopt && spoilt->descriptors == 1 && spoilt->more == 0 &&
	    spoilt->with == 0 && outcome_right(t, step) == WIRE_OK)
		return spoilt->kind == OWN_POOL ? WIRE_OK : WIRE_EINVAL;
	return spoilt->harmless && !(adopt && spoilt->attached) ?
	    outcome_right(t, step) : ENDED;
}

static void
play_spoilt(size_t t, enum step step, const struct spoilt *spoilt)
{
	struct scene s = { .step = step, .act = act_spoilt, .detail = spoilt,
	    .type = types[t].type,
	    .outcome = outcome_spoilt(t, step, spoilt) };

	(void)snprintf(s.name, sizeof(s.name), "%s %s, %s", types[t].name,
	    spoilt->how, step_names[step]);
	scene_play(&s);
}

static void
play_form(enum step step)
{
	for (size_t t = 0; t < COUNT(types); t++)
		for (size_t i = 0; i < COUNT(spoilts); i++)
			/* What a field that the type has says is not form. */
			if (spoilts[i].with == 0 || spoilts[i].at < 8 ||
			    (spoilts[i].at >= 12 && spoilts[i].at < 16) ||
			    (types[t].zero >> spoilts[i].at & 1) != 0)
				play_spoilt(t, step, &spoilts[i]);
}

static void
play_form_held(void)
{
	play_form(HELD);
}

static void
play_form_elsewhen(void)
{
	play_form(GREETING);
	play_form(GRANTED);
}

/* What no message can be: the kernel refuses to carry it. */
static int
act_forged(struct client *c, const struct scene *s)
{
	static union {
		struct cmsghdr align;
		unsigned char space[CMSG_SPACE(sizeof(struct ucred))];
	} control;
	const struct ucred root = { 1, 0, 0 };
	struct wire_message m = request_right(c, s->type), reply;
	unsigned char packet[WIRE_REQUEST_LEN];
	struct iovec iov = { packet, sizeof(packet) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1,
	    .msg_control = &control };
	int fd;

	wire_pack(packet, sizeof(packet), &m);
	expect(converse(c, &msg, MSG_OOB, &reply, &fd) == NOT_SENT &&
	    errno == EOPNOTSUPP);
	msg.msg_controllen = control_append(control.space, 0, SCM_CREDENTIALS,
	    &root, sizeof(root));
	expect(converse(c, &msg, 0, &reply, &fd) == NOT_SENT && errno == EPERM);
	client_served(c);
	return NOT_SENT;
}

/* Whatever comes where a descriptor might be wanted. */
static void
play_descriptors(void)
{
	static const struct spoilt sent[] = {
		{ .how = "with a pipe", .kind = PIPE, .descriptors = 1 },
		{ .how = "with a directory", .kind = DIRECTORY,
		    .descriptors = 1 },
		{ .how = "with a memfd of huge pages", .kind = HUGETLB,
		    .descriptors = 1 },
		{ .how = "with an unsealed memfd", .kind = UNSEALED,
		    .descriptors = 1 },
		{ .how = "with a memfd sealed against writing", .kind = SEALED,
		    .descriptors = 1 },
		{ .how = "with its own socket", .kind = OWN_SOCKET,
		    .descriptors = 1 },
		{ .how = "with its own socket twice", .kind = OWN_SOCKET,
		    .descriptors = 2 },
		{ .how = "with its own pool", .kind = OWN_POOL,
		    .descriptors = 1 },
	};
	int huge = memfd_create("huge", MFD_HUGETLB);

	for (size_t t = 0; t < COUNT(types); t++) {
		struct scene forged = { .step = HELD, .act = act_forged,
		    .type = types[t].type, .outcome = NOT_SENT };

		(void)snprintf(forged.name, sizeof(forged.name),
		    "%s out of band, or with the credentials of root",
		    types[t].name);
		scene_play(&forged);
		for (size_t i = 0; i < COUNT(sent); i++)
			if (sent[i].kind == HUGETLB && huge == -1)
				skip("a memfd of huge pages",
				    "this kernel has none");
			else
				play_spoilt(t, HELD, &sent[i]);
	}
	(void)close(huge);
}

/* --- Ids and sizes --- */

static int
act_given(struct client *c, const struct scene *s)
{
	int outcome = client_ask(c, s->type, s->id, s->a, s->b);

	if (!c->ended)
		client_served(c);
	return outcome;
}

static int
act_release_twice(struct client *c, const struct scene *s)
{
	(void)s;
	expect(client_ask(c, WIRE_RELEASE, 1, 0, 0) == WIRE_OK);
	return act_given(c, &(struct scene){ .type = WIRE_RELEASE, .id = 1 });
}

static int
act_lock_released(struct client *c, const struct scene *s)
{
	expect(client_ask(c, WIRE_RELEASE, 2, 0, 0) == WIRE_OK);
	return act_given(c, s);
}

/* An id is not given again, so that nobody locks what he believes released. */
static int
act_lock_earlier(struct client *c, const struct scene *s)
{
	expect(client_ask(c, WIRE_RELEASE, 2, 0, 0) == WIRE_OK);
	expect(client_ask(c, WIRE_GRANT, 0, pool_size(), 0) == WIRE_OK);
	expect(pool_last(c)->id == 3);
	client_map(c);
	client_populate(c);
	return act_given(c, s);
}

static int
act_withdrawn(struct client *c, const struct scene *s)
{
	expect(client_lock(c) == WIRE_EINVAL);
	return act_given(c, s);
}

static void
play_ids(void)
{
	static const struct scene scenes[] = {
		{ .name = "LOCK of no id", .step = GRANTED, .outcome = ENDED,
		    .act = act_given, .type = WIRE_LOCK, .id = 0 },
		{ .name = "LOCK of what is locked, with a grant",
		    .step = GRANTED, .outcome = ENDED, .act = act_given,
		    .type = WIRE_LOCK, .id = 1 },
		{ .name = "LOCK of what is locked, with none", .step = HELD,
		    .outcome = ENDED, .act = act_given, .type = WIRE_LOCK,
		    .id = 1 },
		{ .name = "LOCK of the next id", .step = GRANTED,
		    .outcome = ENDED, .act = act_given, .type = WIRE_LOCK,
		    .id = 3 },
		{ .name = "LOCK of the last of all ids", .step = GRANTED,
		    .outcome = ENDED, .act = act_given, .type = WIRE_LOCK,
		    .id = UINT32_MAX },
		{ .name = "LOCK of an id of the witness's", .step = GRANTED,
		    .outcome = ENDED, .act = act_given, .type = WIRE_LOCK,
		    .id = WITNESS_MORE + 1 },
		{ .name = "LOCK of a grant that was released", .step = GRANTED,
		    .outcome = ENDED, .act = act_lock_released,
		    .type = WIRE_LOCK, .id = 2 },
		{ .name = "LOCK of an earlier grant than the one that is given",
		    .step = GRANTED, .outcome = ENDED, .act = act_lock_earlier,
		    .type = WIRE_LOCK, .id = 2 },
		{ .name = "LOCK of a grant that was withdrawn", .step = MAPPED,
		    .outcome = ENDED, .act = act_withdrawn, .type = WIRE_LOCK,
		    .id = 1 },
		{ .name = "RELEASE of no id", .step = HELD, .outcome = ENDED,
		    .act = act_given, .type = WIRE_RELEASE, .id = 0 },
		{ .name = "RELEASE of the next id", .step = HELD,
		    .outcome = ENDED, .act = act_given, .type = WIRE_RELEASE,
		    .id = 2 },
		{ .name = "RELEASE of the last of all ids", .step = HELD,
		    .outcome = ENDED, .act = act_given, .type = WIRE_RELEASE,
		    .id = UINT32_MAX },
		{ .name = "RELEASE of an id of the witness's", .step = HELD,
		    .outcome = ENDED, .act = act_given, .type = WIRE_RELEASE,
		    .id = WITNESS_MORE + 1 },
		{ .name = "RELEASE of what was released, which is nothing",
		    .step = HELD, .outcome = WIRE_OK,
		    .act = act_release_twice },
		{ .name = "RELEASE of a grant that was withdrawn, the same",
		    .step = MAPPED, .outcome = WIRE_OK, .act = act_withdrawn,
		    .type = WIRE_RELEASE, .id = 1 },
		{ .name = "RELEASE of a pool while another is granted",
		    .step = GRANTED, .outcome = WIRE_OK, .act = act_given,
		    .type = WIRE_RELEASE, .id = 1 },
		{ .name = "RELEASE of the grant", .step = GRANTED,
		    .outcome = WIRE_OK, .act = act_given, .type = WIRE_RELEASE,
		    .id = 2 },
	};

	for (size_t i = 0; i < COUNT(scenes); i++)
		scene_play(&scenes[i]);
}

/* A pages and B bytes more than the limit. */
static int
act_more_than_limit(struct client *c, const struct scene *s)
{
	return act_given(c, &(struct scene){ .type = WIRE_GRANT,
	    .a = c->limit + s->a * page_size() + s->b });
}

/* The same of what is left. */
static int
act_more_than_left(struct client *c, const struct scene *s)
{
	return act_given(c, &(struct scene){ .type = WIRE_GRANT,
	    .a = c->left - client_locked(c) + s->a * page_size() + s->b });
}

static void
play_sizes(void)
{
	static const uint64_t half = UINT64_C(1) << 63;
	const uint64_t page = page_size();
	const struct {
		const char *name;
		uint64_t size;
		int outcome;
	} sizes[] = {
		{ "0 bytes", 0, WIRE_EINVAL },
		{ "1 byte", 1, WIRE_EINVAL },
		{ "a byte less than a page", page - 1, WIRE_EINVAL },
		{ "a byte more than a page", page + 1, WIRE_EINVAL },
		{ "half a page more than a pool", pool_size() + page / 2,
		    WIRE_EINVAL },
		{ "2^63 and a byte", half + 1, WIRE_EINVAL },
		{ "2^64-1 bytes", UINT64_MAX, WIRE_EINVAL },
		{ "2^32 pages", page << 32, WIRE_EDQUOT },
		{ "2^63 bytes less a page", half - page, WIRE_EDQUOT },
		{ "2^63 bytes", half, WIRE_EDQUOT },
		{ "2^63 bytes and a page", half + page, WIRE_EDQUOT },
		{ "2^64 bytes less a page", 0 - page, WIRE_EDQUOT },
		{ "one page", page, WIRE_OK },
	};
	static const struct scene limits[] = {
		{ .name = "GRANT of a page more than the limit", .step = HELD,
		    .outcome = WIRE_EDQUOT, .act = act_more_than_limit,
		    .a = 1 },
		{ .name = "GRANT of the limit, of which some is used",
		    .step = HELD, .outcome = WIRE_EDQUOT,
		    .act = act_more_than_limit },
		{ .name = "GRANT of a byte less than the limit", .step = HELD,
		    .outcome = WIRE_EINVAL, .act = act_more_than_limit,
		    .b = UINT64_MAX },
		/* The witness may have held a pool when HELLO said that. */
		{ .name = "GRANT of a page more than can be left",
		    .step = HELD, .outcome = WIRE_EDQUOT,
		    .act = act_more_than_left, .a = POOL_PAGES + 1 },
	};

	for (size_t i = 0; i < COUNT(sizes); i++) {
		struct scene s = { .step = HELD, .outcome = sizes[i].outcome,
		    .act = act_given, .type = WIRE_GRANT, .a = sizes[i].size };

		(void)snprintf(s.name, sizeof(s.name), "GRANT of %s",
		    sizes[i].name);
		scene_play(&s);
	}
	for (size_t i = 0; i < COUNT(limits); i++)
		scene_play(&limits[i]);
}

/* --- Memory: what a client does with the pool before and after LOCK --- */

/* Ends the conversation, so that only what is mapped is kept. */
static int
client_end(struct client *c)
{
	struct wire_message reply;
	struct iovec iov = { NULL, 0 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	int fd;

	return converse(c, &msg, 0, &reply, &fd);
}

static int
act_half_populated(struct client *c, const struct scene *s)
{
	(void)s;
	memset(pool_last(c)->base, 1, pool_last(c)->size / 2);
	return client_lock(c);
}

static int
act_all_but_a_page(struct client *c, const struct scene *s)
{
	(void)s;
	memset(pool_last(c)->base, 1, pool_last(c)->size - page_size());
	return client_lock(c);
}

static bool
punches(const struct pool *p)
{
	return fallocate(p->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
	    (off_t)page_size()) == 0;
}

static int
act_punch_first(struct client *c, const struct scene *s)
{
	(void)s;
	expect(punches(pool_last(c)));
	return client_lock(c);
}

static int
act_remove_first(struct client *c, const struct scene *s)
{
	(void)s;
	expect(madvise(pool_last(c)->base, page_size(), MADV_REMOVE) == 0);
	return client_lock(c);
}

/* The pool is locked, and must be whole to the end. */
static int
act_take_back(struct client *c, const struct scene *s)
{
	const struct pool *p = pool_last(c);
	const off_t size = (off_t)p->size;
	void *base;

	(void)s;
	expect(!punches(p) && errno == EPERM);
	expect(madvise(p->base, page_size(), MADV_REMOVE) == -1 &&
	    errno == EPERM);
	expect(pwrite(p->fd, "", 1, 0) == -1 && errno == EPERM);
	expect(mmap(NULL, p->size, PROT_READ | PROT_WRITE, MAP_SHARED, p->fd,
	    0) == MAP_FAILED && errno == EPERM);
	base = mmap(NULL, p->size, PROT_READ, MAP_SHARED, p->fd, 0);
	expect(base != MAP_FAILED);
	expect(mprotect(base, p->size, PROT_READ | PROT_WRITE) == -1);
	expect(munmap(base, p->size) == 0);
	expect(ftruncate(p->fd, 0) == -1 && ftruncate(p->fd, size * 2) == -1);
	expect(fcntl(p->fd, F_ADD_SEALS, F_SEAL_WRITE) == -1 &&
	    errno == EBUSY);
	(void)madvise(p->base, p->size, MADV_DONTNEED);
	(void)munlock(p->base, p->size);
	for (size_t i = 0; i < p->size; i += page_size())
		expect(p->base[i] == 0x5a);
	client_served(c);
	return client_end(c);
}

static int
act_resize(struct client *c, const struct scene *s)
{
	const struct pool *p = pool_last(c);
	const off_t size = (off_t)p->size;

	(void)s;
	expect(ftruncate(p->fd, 0) == -1 && errno == EPERM);
	expect(ftruncate(p->fd, size - 1) == -1 && errno == EPERM);
	expect(ftruncate(p->fd, size + 1) == -1 && errno == EPERM);
	expect(fallocate(p->fd, 0, size, (off_t)page_size()) == -1 &&
	    errno == EPERM);
	expect(pwrite(p->fd, "", 1, size) <= 0);
	return client_lock(c);
}

/* Populated by write(2), and mapped only so that it can be read. */
static int
act_read_only(struct client *c, const struct scene *s)
{
	struct pool *p = pool_last(c);
	unsigned sum = 0;

	(void)s;
	client_write(c);
	p->base = mmap(NULL, p->size, PROT_READ, MAP_SHARED, p->fd, 0);
	expect(p->base != MAP_FAILED);
	p->keeps = true;
	expect(client_lock(c) == WIRE_OK);
	for (size_t i = 0; i < p->size; i += page_size())
		sum += ((volatile unsigned char *)p->base)[i];
	expect(sum == POOL_PAGES);
	client_served(c);
	return client_end(c);
}

/* A private mapping is the client's own copy: nothing is kept for it. */
static int
act_private(struct client *c, const struct scene *s)
{
	struct pool *p = pool_last(c);

	(void)s;
	client_write(c);
	p->base = mmap(NULL, p->size, PROT_READ | PROT_WRITE, MAP_PRIVATE,
	    p->fd, 0);
	expect(p->base != MAP_FAILED);
	expect(client_lock(c) == WIRE_OK);
	client_served(c);
	return client_end(c);
}

static int
act_not_mapped(struct client *c, const struct scene *s)
{
	(void)s;
	client_write(c);
	expect(client_lock(c) == WIRE_OK);
	client_served(c);
	return client_end(c);
}

static int
act_unmapped(struct client *c, const struct scene *s)
{
	struct pool *p = pool_last(c);

	(void)s;
	expect(munmap(p->base, p->size) == 0);
	p->base = NULL;
	p->keeps = false;
	expect(client_lock(c) == WIRE_OK);
	client_served(c);
	return client_end(c);
}

/* Sealed so, it can be locked no more. */
static int
act_seal_seal(struct client *c, const struct scene *s)
{
	(void)s;
	expect(fcntl(pool_last(c)->fd, F_ADD_SEALS, F_SEAL_SEAL) == 0);
	return client_lock(c);
}

/* Nobody can map it writable any more: locked, and kept for nobody. */
static int
act_seal_write(struct client *c, const struct scene *s)
{
	(void)s;
	client_write(c);
	expect(fcntl(pool_last(c)->fd, F_ADD_SEALS, F_SEAL_WRITE) == 0);
	expect(client_lock(c) == WIRE_OK);
	client_served(c);
	return client_end(c);
}

static int
act_seal_mapped(struct client *c, const struct scene *s)
{
	const int fd = pool_last(c)->fd;

	(void)s;
	expect(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) == -1 && errno == EBUSY);
	expect(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE) == 0);
	expect(client_lock(c) == WIRE_OK);
	client_served(c);
	return client_end(c);
}

/* Each file's owner may change its mode: where it is the same user, it may. */
static int
act_reopen(struct client *c, const struct scene *s)
{
	const struct pool *p = pool_last(c);
	struct stat st;
	char path[64];

	(void)s;
	expect(fstat(p->fd, &st) == 0 && (st.st_mode & 07777) == 0);
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", p->fd);
	expect(open(path, O_RDWR | O_CLOEXEC) == -1 && errno == EACCES);
	expect(open(path, O_RDONLY | O_CLOEXEC) == -1 && errno == EACCES);
	if (st.st_uid != getuid())
		expect(fchmod(p->fd, 0777) == -1 && errno == EPERM);
	return client_lock(c);
}

static void
play_memory(void)
{
	static const struct scene scenes[] = {
		{ .name = "LOCK of a pool half populated", .step = MAPPED,
		    .act = act_half_populated, .outcome = WIRE_EINVAL },
		{ .name = "LOCK of a pool that lacks a page", .step = MAPPED,
		    .act = act_all_but_a_page, .outcome = WIRE_EINVAL },
		{ .name = "LOCK of a pool with a hole punched into it",
		    .step = POPULATED, .act = act_punch_first,
		    .outcome = WIRE_EINVAL },
		{ .name = "LOCK of a pool with a page removed from it",
		    .step = POPULATED, .act = act_remove_first,
		    .outcome = WIRE_EINVAL },
		{ .name = "LOCK of a pool that its client has sealed for good",
		    .step = POPULATED, .act = act_seal_seal,
		    .outcome = WIRE_EINVAL },
		{ .name = "LOCK after attempts to resize", .step = POPULATED,
		    .act = act_resize, .outcome = WIRE_OK },
		{ .name = "LOCK after attempts to open it again",
		    .step = POPULATED, .act = act_reopen, .outcome = WIRE_OK },
		{ .name = "a locked pool cannot be punched, resized, written "
		    "to or mapped writable, and stays", .step = HELD,
		    .act = act_take_back, .outcome = ENDED },
		{ .name = "a pool mapped for reading only is locked, and stays",
		    .step = GIVEN, .act = act_read_only, .outcome = ENDED },
		{ .name = "a pool that its client tried to seal while mapped "
		    "is locked, and stays", .step = POPULATED,
		    .act = act_seal_mapped, .outcome = ENDED },
		{ .name = "a pool mapped privately keeps no helper",
		    .step = GIVEN, .act = act_private, .outcome = ENDED },
		{ .name = "a pool never mapped keeps no helper", .step = GIVEN,
		    .act = act_not_mapped, .outcome = ENDED },
		{ .name = "a pool unmapped before LOCK keeps no helper",
		    .step = POPULATED, .act = act_unmapped, .outcome = ENDED },
		{ .name = "a pool sealed by its client against writing keeps "
		    "no helper", .step = GIVEN, .act = act_seal_write,
		    .outcome = ENDED },
	};

	for (size_t i = 0; i < COUNT(scenes); i++)
		scene_play(&scenes[i]);
}

/* --- ADOPT: what is a pool, and what is none --- */

struct offer {
	const char *what;
	size_t pages;       /* of the memfd; 0: POOL_PAGES */
	size_t missing;     /* pages that are not populated */
	int seals;
	int outcome;
	int64_t more;       /* than its size, in bytes, is asked for */
	bool again;         /* opened, with these flags */
	int flags;
	bool behind;        /* it has as many blocks behind its end */
	bool unmapped;
};

enum { SEALS = F_SEAL_SHRINK | F_SEAL_GROW };

static int
act_offer(struct client *c, const struct scene *s)
{
	const struct offer *o = s->detail;
	const size_t page = page_size();
	struct pool p = { .size = POOL_PAGES * page, .keeps = !o->unmapped,
	    .fd = memfd_own(POOL_PAGES * page, 0) };
	size_t whole = p.size - o->missing * page;
	char path[64];

	p.base = mmap(NULL, p.size, PROT_READ | PROT_WRITE, MAP_SHARED, p.fd,
	    0);
	expect(p.base != MAP_FAILED);
	memset(p.base, 0x5a, whole);
	if (o->behind)
		expect(fallocate(p.fd, FALLOC_FL_KEEP_SIZE, (off_t)p.size,
		    (off_t)p.size) == 0);
	if (o->unmapped) {
		expect(munmap(p.base, p.size) == 0);
		p.base = NULL;
	}
	expect(fcntl(p.fd, F_ADD_SEALS, o->seals) == 0);
	if (o->again) {
		(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", p.fd);
		expect((p.fd = open(path, o->flags | O_CLOEXEC)) != -1);
	}
	expect(outcome_is(client_adopt(c, &p, p.size + (uint64_t)o->more),
	    o->outcome));
	client_served(c);
	return o->outcome == WIRE_OK ? client_end(c) : o->outcome;
}

/* As large as could be had is what nobody need have populated. */
static int
act_adopt_sized(struct client *c, const struct scene *s)
{
	struct pool p = { .size = (size_t)(s->b * c->limit + s->a) };

	p.fd = memfd_own(p.size, SEALS);
	expect(client_adopt(c, &p, p.size) == s->outcome);
	client_served(c);
	return s->outcome;
}

static int
act_adopt_file(struct client *c, const struct scene *s)
{
	struct pool p = { .size = pool_size(), .fd = open("/dev/shm",
	    O_TMPFILE | O_RDWR | O_CLOEXEC, 0600) };

	expect(p.fd != -1 && posix_fallocate(p.fd, 0, (off_t)p.size) == 0);
	expect(client_adopt(c, &p, p.size) == s->outcome);
	client_served(c);
	return s->outcome;
}

/* Of one page, as large as those are, so that only its kind is wrong. */
static int
act_adopt_huge(struct client *c, const struct scene *s)
{
	struct pool p = { .fd = memfd_create("secmalloc", MFD_CLOEXEC |
	    MFD_ALLOW_SEALING | MFD_HUGETLB) };
	struct statfs fs;

	expect(p.fd != -1 && fstatfs(p.fd, &fs) == 0);
	p.size = (size_t)fs.f_bsize;
	expect(ftruncate(p.fd, (off_t)p.size) == 0);
	expect(fcntl(p.fd, F_ADD_SEALS, SEALS) == 0);
	expect(client_adopt(c, &p, p.size) == s->outcome);
	client_served(c);
	return s->outcome;
}

/* With any of its descriptors: the file's owner may have opened it again. */
static void
pulse_attack(int fd)
{
	const off_t page = (off_t)page_size();

	expect(pwrite(fd, "", 1, 0) == -1 && errno == EPERM);
	expect(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
	    page) == -1 && errno == EPERM);
	expect(fallocate(fd, 0, 0, 2 * page) == -1 && errno == EPERM);
	expect(ftruncate(fd, 0) == -1 && errno == EPERM);
	expect(ftruncate(fd, 2 * page) == -1 && errno == EPERM);
	expect(mmap(NULL, (size_t)page, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
	    0) == MAP_FAILED && errno == EPERM);
	expect(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) == -1 && errno == EPERM);
}

static int
act_pulse(struct client *c, const struct scene *s)
{
	struct pool p = { .size = page_size() };
	struct wire_message reply;
	struct stat st;
	uint32_t *word;
	char path[64];
	int again;

	expect(request_say(c, WIRE_HELLO, 0, 1, 1, &reply, &p.fd) == WIRE_OK);
	word = mmap(NULL, p.size, PROT_READ, MAP_SHARED, p.fd, 0);
	expect(word != MAP_FAILED && *word == (uint32_t)c->helper);
	expect(mprotect(word, p.size, PROT_READ | PROT_WRITE) == -1);
	expect(madvise(word, p.size, MADV_REMOVE) == -1);
	pulse_attack(p.fd);
	expect(fstat(p.fd, &st) == 0);
	expect((fchmod(p.fd, 0600) == 0) == (st.st_uid == getuid()));
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", p.fd);
	again = open(path, O_RDWR | O_CLOEXEC);
	expect((again != -1) == (st.st_uid == getuid()));
	if (again != -1)
		pulse_attack(again);
	expect(open(path, O_RDWR | O_TRUNC | O_CLOEXEC) == -1);
	again = dup(p.fd);
	client_account(c, WIRE_HELLO, 0, 0, &reply, p.fd);
	p.fd = again;
	expect(client_adopt(c, &p, p.size) == s->outcome);
	client_served(c);
	expect(*word == (uint32_t)c->helper);
	return s->outcome;
}

/* Of another helper. */
static int
act_adopt_pulse(struct client *c, const struct scene *s)
{
	struct client other = { .socket = -1 };
	struct pool p = { .size = page_size(), .fd = -1 };
	struct wire_message reply;

	client_prepare(&other, become_anything, false);
	expect(ask_wire(other.socket, WIRE_HELLO, 0, 1, 1, &reply, &p.fd));
	expect(client_adopt(c, &p, p.size) == s->outcome);
	client_served(c);
	(void)close(other.socket);
	expect(helper_ends(other.helper, PROMPTLY_MS));
	return s->outcome;
}

/*
 * Locked and charged twice, until one of them is released; the kernel counts
 * that for pages that are on its lists.
 */
static int
act_adopt_twice(struct client *c, const struct scene *s)
{
	struct pool p = pool_own(), same = { .size = p.size };

	(void)s;
	pages_drain();
	expect(client_adopt(c, &p, p.size) == WIRE_OK);
	expect((same.fd = dup(p.fd)) != -1);
	expect(client_adopt(c, &same, p.size) == WIRE_OK);
	client_served(c);
	expect(client_ask(c, WIRE_RELEASE, c->last_id, 0, 0) == WIRE_OK);
	client_served(c);
	return client_end(c);
}

/* What a memfd is that ADOPT takes, whoever made it: a pool like another. */
static int
act_adopt_take_back(struct client *c, const struct scene *s)
{
	struct pool p = pool_own();

	expect(client_adopt(c, &p, p.size) == WIRE_OK);
	return act_take_back(c, s);
}

static void
play_adopt(void)
{
	const int64_t page = (int64_t)page_size();
	const struct offer offers[] = {
		{ .what = "its own memfd, like a pool", .seals = SEALS },
		{ .what = "one that lacks a page", .seals = SEALS,
		    .missing = 1, .outcome = WIRE_EINVAL },
		{ .what = "one that lacks every page", .seals = SEALS,
		    .missing = POOL_PAGES, .outcome = WIRE_EINVAL },
		{ .what = "one whose pages are behind its end",
		    .seals = SEALS, .missing = POOL_PAGES, .behind = true,
		    .outcome = WIRE_EINVAL },
		{ .what = "one that it has opened for reading",
		    .seals = SEALS, .again = true, .flags = O_RDONLY,
		    .outcome = WIRE_EINVAL },
		{ .what = "one that it has opened for writing",
		    .seals = SEALS, .again = true, .flags = O_WRONLY,
		    .outcome = WIRE_EPERM },
		{ .what = "one that it has opened as a path only",
		    .seals = SEALS, .again = true, .flags = O_PATH,
		    .outcome = WIRE_EINVAL },
		{ .what = "one that has no seals", .outcome = WIRE_EINVAL },
		{ .what = "one that can grow", .seals = F_SEAL_SHRINK,
		    .outcome = WIRE_EINVAL },
		{ .what = "one that can shrink", .seals = F_SEAL_GROW,
		    .outcome = WIRE_EINVAL },
		{ .what = "one that is sealed for good",
		    .seals = SEALS | F_SEAL_SEAL, .outcome = WIRE_EINVAL },
		{ .what = "one that is sealed for good, as if locked",
		    .seals = SEALS | F_SEAL_SEAL | F_SEAL_FUTURE_WRITE,
		    .outcome = WIRE_EINVAL },
		{ .what = "one that was locked before",
		    .seals = SEALS | F_SEAL_FUTURE_WRITE },
		{ .what = "one that nobody maps", .seals = SEALS,
		    .unmapped = true },
		{ .what = "one that nobody can write to any more",
		    .seals = SEALS | F_SEAL_WRITE, .unmapped = true },
		{ .what = "one, but of a page more", .seals = SEALS,
		    .more = page, .outcome = WIRE_EINVAL },
		{ .what = "one, but of a page less", .seals = SEALS,
		    .more = -page, .outcome = WIRE_EINVAL },
		{ .what = "one, but of a byte less", .seals = SEALS,
		    .more = -1, .outcome = WIRE_EINVAL },
		{ .what = "one, but of no bytes", .seals = SEALS,
		    .more = -POOL_PAGES * page, .outcome = WIRE_EINVAL },
	};
	const struct scene scenes[] = {
		{ .name = "ADOPT of a memfd of no bytes", .step = HELD,
		    .act = act_adopt_sized, .outcome = WIRE_EINVAL },
		{ .name = "ADOPT of a memfd of no whole pages", .step = HELD,
		    .act = act_adopt_sized, .a = pool_size() + 1,
		    .outcome = WIRE_EINVAL },
		{ .name = "ADOPT of a memfd larger than the limit",
		    .step = HELD, .act = act_adopt_sized, .a = page_size(),
		    .b = 1, .outcome = WIRE_EDQUOT },
		{ .name = "ADOPT of the limit, of which some is used",
		    .step = HELD, .act = act_adopt_sized, .b = 1,
		    .outcome = WIRE_EDQUOT },
		{ .name = "ADOPT of a file of tmpfs that is no memfd",
		    .step = HELD, .act = act_adopt_file,
		    .outcome = WIRE_EINVAL },
		{ .name = "a pulse cannot be written to, punched, resized, "
		    "mapped writable or adopted", .step = GREETING,
		    .act = act_pulse, .outcome = WIRE_EINVAL },
		{ .name = "ADOPT of another helper's pulse", .step = READY,
		    .act = act_adopt_pulse, .outcome = WIRE_EINVAL },
		{ .name = "ADOPT of one memfd twice", .step = READY,
		    .act = act_adopt_twice, .outcome = ENDED },
		{ .name = "an adopted pool cannot be punched, resized, "
		    "written to or mapped writable, and stays", .step = READY,
		    .act = act_adopt_take_back, .outcome = ENDED },
	};

	const struct scene huge = { .name = "ADOPT of a memfd of huge pages",
	    .step = HELD, .act = act_adopt_huge, .outcome = WIRE_EINVAL };
	int fd = memfd_create("huge", MFD_HUGETLB);

	for (size_t i = 0; i < COUNT(offers); i++) {
		struct scene s = { .step = READY, .act = act_offer,
		    .detail = &offers[i], .outcome = offers[i].outcome ==
		    WIRE_OK ? ENDED : offers[i].outcome };

		(void)snprintf(s.name, sizeof(s.name), "ADOPT of %s",
		    offers[i].what);
		scene_play(&s);
	}
	for (size_t i = 0; i < COUNT(scenes); i++)
		scene_play(&scenes[i]);
	if (fd == -1)
		skip(huge.name, "this kernel has none");
	else
		scene_play(&huge);
	(void)close(fd);
}

/* --- The socket's options, which are also the client's --- */

static void
set_option(int option, int value)
{
	(void)setsockopt(STDIN_FILENO, SOL_SOCKET, option, &value,
	    sizeof(value));
}

static void
prepare_credentials(void)
{
	set_option(SO_PASSCRED, 1);
}

static void
prepare_pidfd(void)
{
	set_option(SO_PASSPIDFD, 1);
}

static void
prepare_timestamp(void)
{
	set_option(SO_TIMESTAMP, 1);
}

static void
prepare_buffers(void)
{
	set_option(SO_SNDBUF, 0);
	set_option(SO_RCVBUF, 0);
	set_option(SO_RCVLOWAT, INT_MAX);
}

static void
prepare_timeouts(void)
{
	const struct timeval tiny = { .tv_usec = 1 };

	(void)setsockopt(STDIN_FILENO, SOL_SOCKET, SO_RCVTIMEO, &tiny,
	    sizeof(tiny));
	(void)setsockopt(STDIN_FILENO, SOL_SOCKET, SO_SNDTIMEO, &tiny,
	    sizeof(tiny));
}

static void
prepare_flags(void)
{
	(void)fcntl(STDIN_FILENO, F_SETOWN, getpid());
	(void)fcntl(STDIN_FILENO, F_SETFL, O_NONBLOCK | O_ASYNC);
}

/* Whether it has given up what would let it start as somebody else. */
static bool
helper_has_started(pid_t pid)
{
	char path[64], line[256];
	bool started = false;
	FILE *f;

	(void)snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	if ((f = fopen(path, "re")) == NULL)
		return false;
	while (fgets(line, sizeof(line), f) != NULL)
		started |= strcmp(line, "NoNewPrivs:\t1\n") == 0;
	(void)fclose(f);
	return started;
}

/* Until then it is the client's to signal, as any program that it starts. */
static int
act_converse(struct client *c, const struct scene *s)
{
	int64_t end = now_us() + PATIENCE_TEST_MS * 1000;
	int outcome;

	(void)s;
	while (!helper_has_started(c->helper) && now_us() < end)
		sleep_ms(1);
	outcome = client_ask(c, WIRE_HELLO, 0, 1, 1);
	if (outcome != WIRE_OK)
		return outcome;
	client_hold(c, pool_size());
	client_served(c);
	return outcome;
}

/* Nothing is read before the helper has hung up. */
static int
act_ask_ahead(struct client *c, const struct scene *s)
{
	struct pollfd p = { c->socket, 0, 0 };

	(void)s;
	expect(say(c->socket, WIRE_HELLO, 0, 1, 1));
	expect(say(c->socket, WIRE_STATUS, 0, 0, 0));
	expect(poll(&p, 1, PATIENCE_TEST_MS) == 1);
	expect((p.revents & POLLHUP) != 0);
	c->ended = true;
	return ENDED;
}

static bool
passes_pidfds(int socket, int value)
{
	return setsockopt(socket, SOL_SOCKET, SO_PASSPIDFD, &value,
	    sizeof(value)) == 0;
}

/* Set in the middle of a conversation, by who has kept both ends. */
static int
act_pidfd(struct client *c, const struct scene *s)
{
	struct pool own = pool_own();

	expect(passes_pidfds(c->theirs, 1));
	return s->type == WIRE_ADOPT ? client_adopt(c, &own, own.size) :
	    client_ask(c, s->type, 0, 0, 0);
}

/* It comes where a descriptor is wanted. */
static int
act_pidfd_adopted(struct client *c, const struct scene *s)
{
	expect(passes_pidfds(c->theirs, 1));
	expect(client_ask(c, WIRE_ADOPT, 0, pool_size(), 0) == s->outcome);
	expect(passes_pidfds(c->theirs, 0));
	client_served(c);
	return s->outcome;
}

static void
play_pidfds(void)
{
	static const struct scene scenes[] = {
		{ .name = "STATUS with a pidfd", .step = HELD, .both = true,
		    .act = act_pidfd, .type = WIRE_STATUS, .outcome = ENDED },
		{ .name = "STATUS with a pidfd, with a grant", .step = GRANTED,
		    .both = true, .act = act_pidfd, .type = WIRE_STATUS,
		    .outcome = ENDED },
		{ .name = "ADOPT with a pool and a pidfd", .step = HELD,
		    .both = true, .act = act_pidfd, .type = WIRE_ADOPT,
		    .outcome = ENDED },
		{ .name = "ADOPT with a pidfd", .step = HELD, .both = true,
		    .act = act_pidfd_adopted, .outcome = WIRE_EINVAL },
	};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	bool known = passes_pidfds(fd, 1);

	(void)close(fd);
	for (size_t i = 0; i < COUNT(scenes); i++)
		if (known)
			scene_play(&scenes[i]);
		else
			skip(scenes[i].name, "this kernel passes none");
}

static void
play_options(void)
{
	static const struct scene scenes[] = {
		{ .name = "credentials with every message", .outcome = ENDED,
		    .act = act_converse, .prepare = prepare_credentials },
		{ .name = "a pidfd with every message", .outcome = EITHER,
		    .act = act_converse, .prepare = prepare_pidfd },
		{ .name = "a time with every message", .outcome = EITHER,
		    .act = act_converse, .prepare = prepare_timestamp },
		{ .name = "the smallest buffers", .outcome = WIRE_OK,
		    .act = act_converse, .prepare = prepare_buffers },
		{ .name = "the shortest time limits", .outcome = WIRE_OK,
		    .act = act_converse, .prepare = prepare_timeouts },
		{ .name = "signals at each message, and no waiting",
		    .outcome = WIRE_OK, .act = act_converse,
		    .prepare = prepare_flags },
		{ .name = "a request before the answer to HELLO is read",
		    .outcome = ENDED, .act = act_ask_ahead },
	};

	for (size_t i = 0; i < COUNT(scenes); i++)
		scene_play(&scenes[i]);
	play_pidfds();
}

/* --- Leaving, at each step and in each way --- */

static int
act_leave(struct client *c, const struct scene *s)
{
	static const int shut[] = {
		[SHUTS_RD] = SHUT_RD, [SHUTS_WR] = SHUT_WR,
		[SHUTS_RDWR] = SHUT_RDWR
	};

	for (unsigned i = 0; s->unmaps && i < c->count; i++)
		pool_leave(&c->pool[i]);
	if (s->way == STOPS)
		return SILENT;
	c->ended = true;
	if (s->way == IS_KILLED)
		return SILENT;
	if (s->way == CLOSES) {
		expect(close(c->socket) == 0);
		c->socket = -1;
		return ENDED;
	}
	expect(shutdown(c->socket, shut[s->way]) == 0);
	/* Who no longer reads is found out when he is answered. */
	if (s->way == SHUTS_RD)
		(void)say(c->socket, c->greeted ? WIRE_STATUS : WIRE_HELLO, 0,
		    !c->greeted, !c->greeted);
	return ENDED;
}

static void
play_leaving(void)
{
	static const char *const ways[] = {
		[CLOSES] = "closes", [SHUTS_RD] = "reads no more",
		[SHUTS_WR] = "writes no more",
		[SHUTS_RDWR] = "neither reads nor writes any more",
		[IS_KILLED] = "is killed"
	};

	for (enum way way = CLOSES; way <= IS_KILLED; way++)
		for (enum step step = GREETING; step <= GRANTED; step++)
			for (int unmaps = 0; unmaps < 2; unmaps++) {
				struct scene s = { .step = step, .way = way,
				    .unmaps = unmaps, .act = act_leave,
				    .outcome = way == IS_KILLED ? SILENT :
				    ENDED };

				/* There is something to unmap. */
				if (unmaps && (step < MAPPED ||
				    step == RELEASED))
					continue;
				(void)snprintf(s.name, sizeof(s.name),
				    "who %s %s%s", ways[way], step_names[step],
				    unmaps ? ", unmapped again" : "");
				scene_play(&s);
			}
}

/* With a helper whose patience is half a second. */
static int
act_mute(struct client *c, const struct scene *s)
{
	int fd;
	struct wire_message reply;

	(void)s;
	expect(!hear(c->socket, &reply, &fd));
	c->ended = true;
	return outcome_of_silence();
}

/* Asks once, and never reads the answer. */
static int
act_deaf(struct client *c, const struct scene *s)
{
	struct pollfd p = { c->socket, 0, 0 };
	struct wire_message m = request_right(c, s->type);
	int status;

	expect(say(c->socket, s->type, m.id, m.a, m.b));
	expect(poll(&p, 1, PATIENCE_TEST_MS) == 1);
	expect((p.revents & POLLHUP) != 0);
	c->ended = true;
	if (s->type == WIRE_GRANT)
		client_leaves_unread(c);
	/* So is the pulse under way, for which a helper has to stand. */
	if (s->type == WIRE_HELLO)
		expect(!helper_gone(c->helper, PROMPTLY_MS / 2, &status));
	return ENDED;
}

static void
play_silence(void)
{
	static const struct scene scenes[] = {
		{ .name = "who never speaks", .step = GREETING, .act = act_mute,
		    .outcome = ENDED },
		{ .name = "who never speaks after HELLO", .step = READY,
		    .act = act_mute, .outcome = ENDED },
		{ .name = "who never speaks after a grant", .step = POPULATED,
		    .act = act_mute, .outcome = ENDED },
		{ .name = "who never speaks after a release", .step = RELEASED,
		    .act = act_mute, .outcome = ENDED },
		{ .name = "who never reads the answer to HELLO",
		    .step = GREETING, .act = act_deaf, .type = WIRE_HELLO,
		    .outcome = ENDED },
		{ .name = "who never reads the answer to GRANT", .step = READY,
		    .act = act_deaf, .type = WIRE_GRANT, .outcome = ENDED },
		{ .name = "who never reads the answer to STATUS", .step = READY,
		    .act = act_deaf, .type = WIRE_STATUS, .outcome = ENDED },
	};

	for (size_t i = 0; i < COUNT(scenes); i++)
		scene_play(&scenes[i]);
	for (enum step step = READY; step <= GRANTED; step++) {
		struct scene s = { .step = step, .way = STOPS,
		    .act = act_leave, .outcome = SILENT };

		(void)snprintf(s.name, sizeof(s.name), "who is stopped %s",
		    step_names[step]);
		scene_play(&s);
	}
}

/* --- Bursts and sequences --- */

static int
act_burst_read(struct client *c, const struct scene *s)
{
	(void)s;
	for (int i = 0; i < BURST; i++)
		client_served(c);
	return WIRE_OK;
}

/* As many as can be sent; a control is that the helper took some. */
static int
act_burst_unread(struct client *c, const struct scene *s)
{
	struct wire_message m = request_right(c, s->type);
	int sent = 0;

	while (sent < BURST && say(c->socket, s->type, m.id, m.a, m.b))
		sent++;
	expect(sent < BURST && (errno == EPIPE || errno == ECONNRESET));
	expect(sent > 0);
	if (s->type == WIRE_RELEASE)
		pool_forget(c, m.id);
	if (s->type == WIRE_GRANT)
		client_leaves_unread(c);
	c->ended = true;
	return ENDED;
}

/* While one process sends, another one reads what comes. */
static int
act_burst_apart(struct client *c, const struct scene *s)
{
	struct wire_message m = request_right(c, s->type), reply;
	int fd, sent = 0, status;
	pid_t reader;

	expect((reader = fork()) != -1);
	if (reader == 0) {
		while (hear(c->socket, &reply, &fd))
			if (reply.type != s->type || reply.status != WIRE_OK)
				_exit(2);
		_exit(0);
	}
	while (sent < BURST && say(c->socket, s->type, m.id, m.a, m.b))
		sent++;
	/* Where reading kept pace all along, it is over now. */
	(void)shutdown(c->socket, SHUT_WR);
	expect(waitpid(reader, &status, 0) == reader && status == 0);
	c->ended = true;
	return ENDED;
}

static int
act_burst_empty(struct client *c, const struct scene *s)
{
	int sent = 0;

	(void)s;
	while (sent < BURST && send(c->socket, "", 0, MSG_NOSIGNAL) == 0)
		sent++;
	expect(sent < BURST && (errno == EPIPE || errno == ECONNRESET));
	c->ended = true;
	return ENDED;
}

/* What is refused must not be missing elsewhere, not even for a moment. */
static int
act_burst_greedy(struct client *c, const struct scene *s)
{
	uint64_t more = c->left - client_locked(c) + page_size();

	(void)s;
	for (int i = 0; i < GREEDY; i++)
		expect(client_ask(c, WIRE_GRANT, 0, more, 0) == WIRE_EDQUOT);
	client_served(c);
	return WIRE_OK;
}

static int
act_burst_strange(struct client *c, const struct scene *s)
{
	struct pool p = { .size = pool_size(), .fd = open("/dev/null",
	    O_RDWR | O_CLOEXEC) };

	for (int i = 0; i < GREEDY; i++)
		expect(client_adopt(c, &p, p.size) == s->outcome);
	client_served(c);
	return s->outcome;
}

static void
play_bursts(void)
{
	static const struct scene scenes[] = {
		{ .name = "100,000 requests, each answer read", .step = HELD,
		    .act = act_burst_read, .outcome = WIRE_OK },
		{ .name = "20,000 requests for more than is left", .step = HELD,
		    .act = act_burst_greedy, .outcome = WIRE_OK },
		{ .name = "20,000 ADOPT of what is no pool", .step = HELD,
		    .act = act_burst_strange, .outcome = WIRE_EINVAL },
		{ .name = "100,000 STATUS, no answer read", .step = HELD,
		    .act = act_burst_unread, .type = WIRE_STATUS,
		    .outcome = ENDED },
		{ .name = "100,000 GRANT, no answer read", .step = HELD,
		    .act = act_burst_unread, .type = WIRE_GRANT,
		    .outcome = ENDED },
		{ .name = "100,000 RELEASE, no answer read", .step = HELD,
		    .act = act_burst_unread, .type = WIRE_RELEASE,
		    .outcome = ENDED },
		{ .name = "100,000 STATUS, answers read by another process",
		    .step = HELD, .act = act_burst_apart, .type = WIRE_STATUS,
		    .outcome = ENDED },
		{ .name = "100,000 messages of no bytes", .step = HELD,
		    .act = act_burst_empty, .outcome = ENDED },
		{ .name = "100,000 messages of no bytes before HELLO",
		    .step = GREETING, .act = act_burst_empty,
		    .outcome = ENDED },
	};

	for (size_t i = 0; i < COUNT(scenes); i++)
		scene_play(&scenes[i]);
}

static int
act_sequence(struct client *c, const struct scene *s)
{
	(void)s;
	for (int i = 0; i < SEQUENCE; i++) {
		client_hold(c, pool_size());
		expect(client_ask(c, WIRE_RELEASE, c->last_id, 0, 0) ==
		    WIRE_OK);
	}
	client_served(c);
	return WIRE_OK;
}

/* Ten at a time, of a page to 64, released in another order. */
static int
act_sequence_random(struct client *c, const struct scene *s)
{
	uint64_t state = 0x9e3779b97f4a7c15;

	(void)s;
	for (int i = 0; i < SEQUENCE / POOLS_MAX; i++) {
		while (c->count < POOLS_MAX) {
			/* Knuth, MMIX: the upper bits are the good ones. */
			state = state * UINT64_C(6364136223846793005) +
			    UINT64_C(1442695040888963407);
			client_hold(c, ((size_t)(state >> 40) % 64 + 1) *
			    page_size());
		}
		client_served(c);
		while (c->count > 0) {
			state = state * UINT64_C(6364136223846793005) +
			    UINT64_C(1442695040888963407);
			expect(client_ask(c, WIRE_RELEASE, c->pool[(state >>
			    40) % c->count].id, 0, 0) == WIRE_OK);
		}
	}
	client_served(c);
	return WIRE_OK;
}

static int
act_sequence_adopt(struct client *c, const struct scene *s)
{
	struct pool p;

	(void)s;
	for (int i = 0; i < SEQUENCE; i++) {
		p = pool_own();
		expect(client_adopt(c, &p, p.size) == WIRE_OK);
		expect(client_ask(c, WIRE_RELEASE, c->last_id, 0, 0) ==
		    WIRE_OK);
	}
	client_served(c);
	return WIRE_OK;
}

static void
play_sequences(void)
{
	static const struct scene scenes[] = {
		{ .name = "1,000 grants, locks and releases, one at a time",
		    .step = RELEASED, .act = act_sequence, .outcome = WIRE_OK,
		    .growth = SEQUENCE_GROWTH_KIB },
		{ .name = "1,000 grants, locks and releases, ten at a time, of "
		    "all sizes", .step = RELEASED, .act = act_sequence_random,
		    .outcome = WIRE_OK, .growth = SEQUENCE_GROWTH_KIB },
		{ .name = "1,000 ADOPT and releases", .step = RELEASED,
		    .act = act_sequence_adopt, .outcome = WIRE_OK },
	};

	for (size_t i = 0; i < COUNT(scenes); i++)
		scene_play(&scenes[i]);
}

static const struct {
	const char *name;
	void (*play)(void);
} groups[] = {
	{ "order", play_order },
	{ "form", play_form_held },
	{ "form-elsewhen", play_form_elsewhen },
	{ "ids", play_ids },
	{ "sizes", play_sizes },
	{ "descriptors", play_descriptors },
	{ "adopt", play_adopt },
	{ "memory", play_memory },
	{ "options", play_options },
	{ "leaving", play_leaving },
	{ "silence", play_silence },
	{ "bursts", play_bursts },
	{ "sequences", play_sequences },
};

int
main(int argc, char *argv[])
{
	bool known = argc > 1;

	if (geteuid() != 0)
		bail_out("the judge must be root");
	if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == -1)
		bail_out("prctl: %s", strerror(errno));
	witness_start();
	(void)ok(witness_goes_on() && ledger_says(witness.report.held /
	    page_size(), 1), "the witness is served");
	for (int i = 1; i < argc && known; i++) {
		known = false;
		for (size_t g = 0; g < COUNT(groups); g++)
			if (strcmp(argv[i], groups[g].name) == 0) {
				groups[g].play();
				known = true;
			}
	}
	if (!known)
		bail_out("usage: requests GROUP...; see its beginning");
	diag("the witness had %u turns, the longest of %jd us", witness.turns,
	    (intmax_t)witness.longest);
	(void)ok(witness.longest < PROMPTLY_MS * 1000,
	    "the witness was never kept waiting for a second");
	(void)kill(witness.pid, SIGKILL);
	(void)waitpid(witness.pid, NULL, 0);
	return done_testing();
}
