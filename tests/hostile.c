/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * hostile.c: callers that want a helper to stay for ever, or to hold more than
 * is theirs, and what becomes of it; knows the wire, but not the library.
 *
 * SECMALLOC_TEST_HELPER is one whose patience is half a second.
 */
#include "config.h"

#include <limits.h>

#include "client.h"

#define MIB ((size_t)1 << 20)

enum {
	/* Pipelined grants, each released at once. */
	MANY = 50,
	/* Of a helper that has no reason to stay, in milliseconds. */
	GONE_MS = 5000,
	LINGER_GONE_MS = 3000,
	/* Three times its patience. */
	SILENCE_MS = 1500
};

static bool
helper_stays(pid_t pid, int ms)
{
	int status;

	return !helper_gone(pid, ms, &status);
}

/* SIZE locked bytes, which nothing but the mapping keeps. */
static void *
lock_pool(int socket, size_t size)
{
	struct wire_message reply;
	uint32_t id;
	void *pool;
	int fd, none;

	expect(ask_wire(socket, WIRE_GRANT, 0, size, 0, &reply, &fd));
	id = reply.id;
	expect(fd != -1);
	pool = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	expect(pool != MAP_FAILED);
	(void)close(fd);
	memset(pool, 1, size);
	expect(ask_wire(socket, WIRE_LOCK, id, 0, 0, &reply, &none));
	expect(reply.a == size);
	return pool;
}

/* --- The promises --- */

static int
peers_of_each_other(const void *arg)
{
	pid_t one, other;
	int socket;

	(void)arg;
	become_nobody(0);
	one = helper_connect(&socket, become_anything);
	greet(socket);
	expect(munmap(lock_pool(socket, 64 * MIB), 64 * MIB) == 0);
	other = helper_start(socket, -1, become_anything);
	(void)close(socket);
	expect(helper_ends(other, GONE_MS));
	expect(helper_ends(one, GONE_MS));
	return 0;
}

/* The control of those that are not waited for. */
static int
silence_while_mapped(const void *arg)
{
	struct wire_message reply;
	int socket, fd;
	pid_t helper;

	(void)arg;
	become_nobody(0);
	helper = helper_connect(&socket, become_anything);
	greet(socket);
	expect(lock_pool(socket, MIB) != NULL);
	expect(helper_stays(helper, SILENCE_MS));
	expect(ask_wire(socket, WIRE_STATUS, 0, 0, 0, &reply, &fd));
	expect(reply.a == MIB && reply.b == 1);
	return 0;
}

static int
silence_unmapped(const void *arg)
{
	int socket;
	pid_t helper;

	(void)arg;
	become_nobody(0);
	helper = helper_connect(&socket, become_anything);
	greet(socket);
	expect(munmap(lock_pool(socket, MIB), MIB) == 0);
	expect(helper_ends(helper, GONE_MS));
	return 0;
}

static int
no_hello(const void *arg)
{
	int socket;
	pid_t helper;

	(void)arg;
	become_nobody(0);
	helper = helper_connect(&socket, become_anything);
	expect(helper_ends(helper, GONE_MS));
	return 0;
}

static void
become_slack(void)
{
	expect(prctl(PR_SET_TIMERSLACK, (unsigned long)LONG_MAX, 0, 0, 0) == 0);
}

static int
timer_slack(const void *arg)
{
	int socket;
	pid_t helper;
	void *pool;

	(void)arg;
	become_nobody(0);
	helper = helper_connect(&socket, become_slack);
	greet(socket);
	pool = lock_pool(socket, 64 * MIB);
	(void)close(socket);
	expect(helper_stays(helper, 100));
	expect(munmap(pool, 64 * MIB) == 0);
	expect(helper_ends(helper, LINGER_GONE_MS));
	return 0;
}

/* How many descriptors are under way on a socket whose other end is closed. */
static unsigned
descriptors_left(int socket)
{
	struct wire_message reply;
	unsigned n = 0;
	int fd;

	for (;;) {
		errno = 0;
		if (hear(socket, &reply, &fd))
			n += fd != -1;
		else if (errno != ECONNRESET)
			return n;
	}
}

static int
unread_replies(const void *arg)
{
	const int room = 1 << 20;
	struct wire_message reply;
	unsigned left;
	int socket, fd;
	pid_t helper;

	(void)arg;
	become_nobody(0);
	/* The control: who reads them is served as often as he likes. */
	helper = helper_connect(&socket, become_anything);
	greet(socket);
	for (uint32_t id = 1; id <= MANY; id++) {
		expect(ask_wire(socket, WIRE_GRANT, 0, MIB, 0, &reply, &fd));
		expect(fd != -1 && reply.id == id);
		(void)close(fd);
		expect(ask_wire(socket, WIRE_RELEASE, id, 0, 0, &reply, &fd));
	}
	(void)close(socket);
	expect(helper_ends(helper, GONE_MS));

	helper = helper_connect(&socket, become_anything);
	expect(setsockopt(socket, SOL_SOCKET, SO_SNDBUF, &room,
	    sizeof(room)) == 0);
	greet(socket);
	for (uint32_t id = 1; id <= MANY; id++)
		if (!say(socket, WIRE_GRANT, 0, MIB, 0) ||
		    !say(socket, WIRE_RELEASE, id, 0, 0))
			break;
	/*
	 * It is over, but what is under way is counted against the account that
	 * all helpers share: until it is received, a helper stands for it.
	 */
	expect(helper_stays(helper, 500));
	left = descriptors_left(socket);
	if (left != 1)
		diag("%u descriptors were under way", left);
	expect(left == 1);
	expect(helper_ends(helper, GONE_MS));
	return 0;
}

static void
become_leader(void)
{
	expect(setpgid(0, 0) == 0);
}

static void
become_session(void)
{
	expect(setsid() != -1);
}

/* Answered: in a session of its own; else it ends and says that it failed. */
static int
own_session(const void *arg)
{
	static void (*const ways[])(void) = {
		become_anything, become_session, become_leader
	};

	(void)arg;
	become_nobody(0);
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		struct wire_message reply;
		int socket, fd, status = -1;
		pid_t helper = helper_connect(&socket, ways[i]);
		bool answered = ask_wire(socket, WIRE_HELLO, 0, WIRE_VERSION,
		    WIRE_VERSION, &reply, &fd);

		/* Only who leads a group may be refused. */
		expect(answered || ways[i] == become_leader);
		if (answered)
			expect(getsid(helper) == helper);
		(void)close(socket);
		expect(helper_gone(helper, GONE_MS, &status));
		expect((WEXITSTATUS(status) == 0) == answered);
		expect(WEXITSTATUS(status) != 127);
	}
	return 0;
}

static const struct {
	const char *name;
	int (*body)(const void *);
	const char *promise;
} promises[] = {
	{ "peers", peers_of_each_other,
	    "two helpers that are each other's peer end, and what they locked "
	    "with them" },
	{ "peers", silence_while_mapped,
	    "a helper whose pool is mapped stays, however long the silence" },
	{ "peers", silence_unmapped,
	    "one whose pools nobody maps does not" },
	{ "hello", no_hello, "a helper that gets no HELLO ends" },
	{ "slack", timer_slack,
	    "an inherited timer slack does not keep a helper for ever" },
	{ "replies", unread_replies, "who reads no reply is not served on" },
	{ "session", own_session,
	    "a process-group leader still gets a helper with a session of its "
	    "own, or none" },
};

int
main(int argc, char *argv[])
{
	for (size_t i = 0; i < sizeof(promises) / sizeof(promises[0]); i++)
		if (argc < 2 || strcmp(argv[1], promises[i].name) == 0)
			ok(run_worker(promises[i].body, NULL, 30), "%s",
			    promises[i].promise);
	if (harness.run == 0)
		bail_out("usage: hostile [peers|hello|slack|replies|session]");
	return done_testing();
}
