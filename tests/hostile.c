/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * hostile.c: callers that want a helper to stay for ever, or to hold more than
 * is theirs, and what becomes of it; and helpers that end, in whichever way.
 * Knows the wire, but not the library.
 *
 * SECMALLOC_TEST_HELPER is one whose patience is half a second, and which does
 * what a plan says (see helper-faults.c).
 */
#include "config.h"

#include <limits.h>

#include "client.h"

/* Of Linux 5.1. */
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

#define MIB ((size_t)1 << 20)

enum {
	/* Pipelined grants, each released at once. */
	MANY = 50,
	/* Of a helper that has no reason to stay, in milliseconds. */
	GONE_MS = 5000,
	LINGER_GONE_MS = 3000,
	/* Three times its patience. */
	SILENCE_MS = 1500,
	/* So many helpers are killed in turn. */
	KILLS = 20,
	/* More calls of fcntl() than a start makes. */
	FCNTLS = 40
};

static bool
helper_stays(pid_t pid, int ms)
{
	int status;

	return !helper_gone(pid, ms, &status);
}

/* SIZE locked bytes, of the memfd *KEPT. */
static void *
lock_pool_of(int socket, size_t size, int *kept)
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
	memset(pool, 1, size);
	expect(ask_wire(socket, WIRE_LOCK, id, 0, 0, &reply, &none));
	expect(reply.a == size);
	*kept = fd;
	return pool;
}

/* SIZE locked bytes, which nothing but the mapping keeps. */
static void *
lock_pool(int socket, size_t size)
{
	int fd;
	void *pool = lock_pool_of(socket, size, &fd);

	(void)close(fd);
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

/* --- How a helper's end is told, and what of it is made good --- */

/* HELLO, and what its answer tells of the helper's life. */
static const volatile uint32_t *
greet_and_watch(int socket)
{
	struct wire_message reply;
	void *page;
	int fd;

	expect(ask_wire(socket, WIRE_HELLO, 0, WIRE_VERSION, WIRE_VERSION,
	    &reply, &fd));
	page = mmap(NULL, (size_t)sysconf(_SC_PAGESIZE), PROT_READ, MAP_SHARED,
	    fd, 0);
	expect(page != MAP_FAILED);
	(void)close(fd);
	return page;
}

static bool
has_died(const volatile uint32_t *pulse)
{
	return (*pulse & WIRE_PULSE_DIED) != 0;
}

/* A process that stays root, and kills whom it is told to. */
static int
killer_start(void)
{
	int ends[2];
	pid_t pid, victim;

	expect(pipe2(ends, O_CLOEXEC) == 0 && (pid = fork()) != -1);
	if (pid != 0) {
		(void)close(ends[0]);
		return ends[1];
	}
	(void)close(ends[1]);
	while (read(ends[0], &victim, sizeof(victim)) ==
	    (ssize_t)sizeof(victim))
		(void)kill(victim, SIGKILL);
	_exit(0);
}

static void
kill_by(int killer, pid_t victim)
{
	expect(write(killer, &victim, sizeof(victim)) ==
	    (ssize_t)sizeof(victim));
}

static bool
ended_by(pid_t pid, int sig)
{
	int status;

	return waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) &&
	    WTERMSIG(status) == sig;
}

/* The plan in force for all helpers, of which root keeps a descriptor. */
static int
plan_open(void)
{
	char path[PATH_MAX];

	(void)snprintf(path, sizeof(path), "%s.plan",
	    getenv("SECMALLOC_TEST_HELPER"));
	return open(path, O_WRONLY | O_CLOEXEC);
}

static void
plan_set(int fd, const char *function, uint32_t at, int error)
{
	struct plan plan = { .at = at, .error = error };

	(void)snprintf(plan.function, sizeof(plan.function), "%s", function);
	expect(pwrite(fd, &plan, sizeof(plan), 0) == (ssize_t)sizeof(plan));
}

/* One that is not locked any more was first told to be so. */
static int
killed(const void *arg)
{
	int killer = killer_start(), socket;
	const volatile uint32_t *pulse;
	unsigned between = 0;
	bool locked;
	pid_t helper;
	void *pool;

	(void)arg;
	become_nobody(0);
	for (int i = 0; i < KILLS; i++) {
		helper = helper_connect(&socket, become_anything);
		pulse = greet_and_watch(socket);
		pool = lock_pool(socket, 16 * MIB);
		expect(pages_locked(pool, 16 * MIB) && !has_died(pulse));
		kill_by(killer, helper);
		do {
			locked = pages_locked(pool, 16 * MIB);
			expect(locked || has_died(pulse));
			between += locked && has_died(pulse);
		} while (locked);
		expect(ended_by(helper, SIGKILL));
		(void)close(socket);
		expect(munmap(pool, 16 * MIB) == 0);
	}
	diag("%u times it was seen to have died, and its pool locked yet",
	    between);
	return 0;
}

/* Alive for as long as it stays, whether or not there is a conversation. */
static int
ended(const void *arg)
{
	const volatile uint32_t *pulse;
	pid_t helper;
	void *pool;
	int socket;

	(void)arg;
	become_nobody(0);
	helper = helper_connect(&socket, become_anything);
	pulse = greet_and_watch(socket);
	pool = lock_pool(socket, MIB);
	(void)close(socket);
	expect(helper_stays(helper, SILENCE_MS));
	expect(!has_died(pulse) && pages_locked(pool, MIB));
	expect(munmap(pool, MIB) == 0);
	expect(helper_ends(helper, GONE_MS));
	expect(has_died(pulse));
	return 0;
}

/* At the fourth message, by what it would do if it were taken over. */
static int
killed_by_filter(const void *arg)
{
	const volatile uint32_t *pulse;
	struct wire_message reply;
	int socket, fd, plan = plan_open();
	pid_t helper;

	(void)arg;
	plan_set(plan, "openat", 4, EIO);
	become_nobody(0);
	helper = helper_connect(&socket, become_anything);
	pulse = greet_and_watch(socket);
	expect(lock_pool(socket, MIB) != NULL);
	expect(!has_died(pulse));
	expect(!ask_wire(socket, WIRE_STATUS, 0, 0, 0, &reply, &fd));
	expect(ended_by(helper, SIGSYS));
	expect(has_died(pulse));
	return 0;
}

/* Where a kernel has no F_SEAL_FUTURE_WRITE; by any call of that kind. */
static int
own_pulse(const void *arg)
{
	const size_t size = (size_t)sysconf(_SC_PAGESIZE);
	int socket, fd, none, status, plan = plan_open();
	struct wire_message reply;
	unsigned unsealed = 0;
	pid_t helper;

	(void)arg;
	become_nobody(0);
	for (uint32_t at = 1; at <= FCNTLS; at++) {
		plan_set(plan, "fcntl", at, EINVAL);
		helper = helper_connect(&socket, become_anything);
		if (ask_wire(socket, WIRE_HELLO, 0, WIRE_VERSION, WIRE_VERSION,
		    &reply, &fd)) {
			plan_set(plan, "", 0, 0);
			unsealed += (fcntl(fd, F_GET_SEALS) &
			    F_SEAL_FUTURE_WRITE) == 0;
			expect(say_adopt(socket, size, fd));
			expect(hear(socket, &reply, &none));
			expect(reply.status == WIRE_EINVAL);
			expect(ask_wire(socket, WIRE_STATUS, 0, 0, 0, &reply,
			    &none) && reply.b == 0);
			(void)close(fd);
		}
		(void)close(socket);
		expect(helper_gone(helper, GONE_MS, &status));
	}
	expect(unsealed == 1);
	return 0;
}

/* With the control that it was not locked in between. */
static int
adopted(const void *arg)
{
	int killer = killer_start(), sockets[3], fd, none;
	struct wire_message reply;
	unsigned char *pool;
	pid_t helpers[3];

	(void)arg;
	become_nobody(0);
	for (int i = 0; i < 3; i++) {
		helpers[i] = helper_connect(&sockets[i], become_anything);
		greet(sockets[i]);
	}
	pool = lock_pool_of(sockets[0], MIB, &fd);
	pool[MIB - 1] = 42;
	kill_by(killer, helpers[0]);
	expect(ended_by(helpers[0], SIGKILL));
	expect(!pages_locked(pool, MIB));
	/* By two of them: then either may go. */
	for (int i = 1; i < 3; i++) {
		expect(say_adopt(sockets[i], MIB, fd));
		expect(hear(sockets[i], &reply, &none));
		expect(reply.status == WIRE_OK && reply.a == MIB);
		expect(pages_locked(pool, MIB));
	}
	kill_by(killer, helpers[1]);
	expect(ended_by(helpers[1], SIGKILL));
	expect(pages_locked(pool, MIB) && pool[MIB - 1] == 42);
	(void)close(sockets[2]);
	expect(helper_stays(helpers[2], SILENCE_MS));
	expect(pages_locked(pool, MIB));
	expect(munmap(pool, MIB) == 0);
	expect(helper_ends(helpers[2], GONE_MS));
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
	{ "pulse", killed,
	    "a helper that is killed is told to be before its locks are gone" },
	{ "pulse", ended, "one that ends by itself is told to have ended then" },
	{ "filter", killed_by_filter, "so is one that the filter has killed" },
	{ "seals", own_pulse,
	    "no kernel lets a helper adopt its own pulse, which would stay" },
	{ "adopt", adopted,
	    "what a killed helper had locked, others lock that it is handed to" },
};

int
main(int argc, char *argv[])
{
	for (size_t i = 0; i < sizeof(promises) / sizeof(promises[0]); i++)
		if (argc < 2 || strcmp(argv[1], promises[i].name) == 0)
			ok(run_worker(promises[i].body, NULL, 30), "%s",
			    promises[i].promise);
	if (harness.run == 0)
		bail_out("usage: hostile [peers|hello|slack|replies|session|"
		    "pulse|filter|seals|adopt]");
	return done_testing();
}
