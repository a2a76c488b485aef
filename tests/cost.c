/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cost.c: measures a start, a fork and the replacement of a helper beside what
 * they are to be compared with, in one run and in turns; it knows nothing of how
 * any is done.
 *
 * For nobody, with the helper that SECMALLOC_TEST_HELPER names.  Each round is
 * a fresh process, so that a start is the first one of its process:
 *
 *   spawn   posix_spawn() of /bin/true until it has been waited for
 *   init    secmalloc_init() with the defaults
 *   fork    with 1 MiB in use: until fork() has returned in the parent ...
 *   child   ... and until the child has read its copy
 *   plain   fork() of the same process before the start, for comparison
 *   init16  secmalloc_init() that locks a pool of 16 MiB
 *   roomy   fork() with 1 MiB in use of those 16 ...
 *   full    ... and with 15 MiB in use
 *   relock  secmalloc_verify() after its helper was killed
 */
#include "config.h"

#include <spawn.h>

#include "faults.h"

enum {
	ROUNDS = 101,
	/* Measured once more, so often at most, if the machine was at work. */
	TRIES = 3,
	IN_USE = 1024 * 1024,
	POOL = 16 * IN_USE,
	OBJECT = 16 * 1024,
	/* What a start may cost over twice a spawn, in microseconds. */
	INIT_MORE_US = 1500,
	/* What a fork may cost in starts. */
	FORK_INITS = 5,
	/* What a fork may cost in those of a process with less locked. */
	ROOMY_FORKS = 2,
	/* What another helper may cost in starts of as much. */
	RELOCK_INITS = 3
};

struct times {
	int64_t spawn, init, fork, child, plain;
	int64_t init16, roomy, full, relock;
};

static struct times *shared;    /* of the round */
static int64_t *child_is_ready;

static int64_t
time_spawn(void)
{
	char name[] = "true";
	char *argv[] = { name, NULL }, *envp[] = { NULL };
	int64_t begun = now_us();
	int status;
	pid_t pid;

	expect(posix_spawn(&pid, "/bin/true", NULL, NULL, argv, envp) == 0);
	expect(waitpid(pid, &status, 0) == pid && status == 0);
	return now_us() - begun;
}

static int64_t
time_plain_fork(void)
{
	int64_t begun = now_us(), took;
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	took = now_us() - begun;
	expect(pid != -1 && waitpid(pid, NULL, 0) == pid);
	return took;
}

static unsigned char *objects[POOL / OBJECT];
static size_t count;

static void
put_in_use(size_t bytes)
{
	for (; count < bytes / OBJECT; count++) {
		expect((objects[count] = secmalloc(OBJECT)) != NULL);
		memset(objects[count], (int)count, OBJECT);
	}
}

static int64_t
time_start(size_t pool_size)
{
	struct secmalloc_config config;
	int64_t begun;

	test_config(&config, SECMALLOC_MODE_HELPER);
	config.pool_size = pool_size;
	begun = now_us();
	expect(secmalloc_init(&config) == 0);
	return now_us() - begun;
}

static int64_t
time_fork(void)
{
	int64_t begun = now_us(), took;
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		for (size_t i = 0; i < count; i++)
			expect(objects[i][OBJECT / 2] == (unsigned char)i);
		*child_is_ready = now_us();
		_exit(secmalloc_verify() == 0 ? 0 : 1);
	}
	took = now_us() - begun;
	expect(pid != -1 && waitpid(pid, &status, 0) == pid && status == 0);
	shared->child = *child_is_ready - begun;
	return took;
}

static int
one_round(const void *arg)
{
	(void)arg;
	become_nobody(0);
	shared->spawn = time_spawn();
	shared->plain = time_plain_fork();
	shared->init = time_start(0);
	put_in_use(IN_USE);
	shared->fork = time_fork();
	return 0;
}

static int
round_of_16_mib(const void *arg)
{
	int64_t begun, child = shared->child;

	(void)arg;
	become_nobody(0);
	shared->init16 = time_start(POOL);
	put_in_use(IN_USE);
	shared->roomy = time_fork();
	expect(helpers_become(1) && kill_helpers() == 1);
	expect(!pages_locked(objects[0], OBJECT));
	begun = now_us();
	expect(secmalloc_verify() == 0);
	shared->relock = now_us() - begun;
	expect(pages_locked(objects[0], OBJECT));
	put_in_use(POOL - IN_USE);
	shared->full = time_fork();
	shared->child = child;
	return 0;
}

static int
compare(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

static int64_t
median(const char *what, int64_t samples[ROUNDS])
{
	qsort(samples, ROUNDS, sizeof(*samples), compare);
	diag("%-6s %6" PRId64 " us (quartiles %" PRId64 " and %" PRId64 ")",
	    what, samples[ROUNDS / 2], samples[ROUNDS / 4],
	    samples[ROUNDS * 3 / 4]);
	return samples[ROUNDS / 2];
}

static struct {
	int64_t spawn, init, fork, child; /* medians */
	int64_t init16, roomy, full, relock;
	unsigned failed;
} cost;

/* False if the machine was at something else, and starts so are far apart. */
static bool
measure(void)
{
	static int64_t spawns[ROUNDS], inits[ROUNDS], forks[ROUNDS],
	    children[ROUNDS], plains[ROUNDS], inits16[ROUNDS],
	    roomy[ROUNDS], full[ROUNDS], relocks[ROUNDS];

	for (int i = 0; i < ROUNDS; i++) {
		cost.failed += !run_worker(one_round, NULL, 20);
		cost.failed += !run_worker(round_of_16_mib, NULL, 20);
		spawns[i] = shared->spawn;
		inits[i] = shared->init;
		forks[i] = shared->fork;
		children[i] = shared->child;
		plains[i] = shared->plain;
		inits16[i] = shared->init16;
		roomy[i] = shared->roomy;
		full[i] = shared->full;
		relocks[i] = shared->relock;
	}
	cost.spawn = median("spawn", spawns);
	cost.init = median("init", inits);
	(void)median("plain", plains);
	cost.fork = median("fork", forks);
	cost.child = median("child", children);
	cost.init16 = median("init16", inits16);
	cost.roomy = median("roomy", roomy);
	cost.full = median("full", full);
	cost.relock = median("relock", relocks);
	return inits[ROUNDS * 3 / 4] <= 2 * inits[ROUNDS / 4];
}

int
main(void)
{
	shared = mmap(NULL, sizeof(*shared) + sizeof(*child_is_ready),
	    PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		bail_out("mmap: %s", strerror(errno));
	child_is_ready = (int64_t *)(shared + 1);
	for (unsigned tries = 0; !measure() && tries < TRIES; tries++)
		;
	ok(cost.failed == 0, "%d rounds of starts, forks and kills succeed",
	    ROUNDS);
	ok(cost.init <= 2 * cost.spawn + INIT_MORE_US,
	    "a start costs at most two spawns of /bin/true and 1.5 ms");
	ok(cost.fork <= FORK_INITS * cost.init,
	    "with 1 MiB in use, fork() returns within five times a start");
	ok(cost.child <= FORK_INITS * cost.init,
	    "and the child has its copy within five times a start");
	ok(cost.roomy <= ROOMY_FORKS * cost.fork,
	    "with 16 MiB locked it costs at most twice as much");
	ok(cost.full > ROOMY_FORKS * cost.roomy,
	    "unless they are in use");
	ok(cost.relock <= RELOCK_INITS * cost.init16,
	    "another helper has locked 16 MiB within three times a start "
	    "with 16 MiB");
	return done_testing();
}
