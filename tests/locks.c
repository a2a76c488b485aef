/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * locks.c: kills helpers and closes what belongs to the library, as hosts and
 * their surroundings do, and holds the library to its word: locked, or said to
 * be not; knows nothing of the library's inside.
 *
 * Every worker but those that may lock is nobody, with RLIMIT_MEMLOCK=0.
 */
#include "config.h"

#include <pthread.h>
#include <stdatomic.h>

#include "faults.h"

#define KIB ((size_t)1024)
#define MIB (1024 * KIB)

enum {
	KEPT = 40,
	/* No more than the hard limit that the kernel gives root. */
	LIMIT = 8 * 1024 * 1024,
	THREADS = 4,
	KILLS = WATCHED ? 50 : 500,
	BELT_KILLS = 200
};

/* --- Objects that are there throughout --- */

static unsigned char *kept[KEPT];
static size_t kept_size[KEPT];
static unsigned losses;

static void
lost(void *data)
{
	(void)data;
	losses++;
}

static void
start_with(rlim_t memlock, size_t flags)
{
	struct secmalloc_config config;

	test_config(&config, SECMALLOC_MODE_HELPER);
	config.on_lock_lost = lost;
	config.flags = flags;
	become_nobody(memlock);
	expect(secmalloc_init(&config) == 0);
	/* From small ones to one with a guard page and a pool of its own. */
	for (unsigned i = 0; i < KEPT; i++) {
		kept_size[i] = i < KEPT - 2 ? 1 + i * i * i : i * 8 * KIB;
		kept[i] = secmalloc(kept_size[i]);
		expect(kept[i] != NULL);
		memset(kept[i], (int)i + 1, kept_size[i]);
	}
}

static void
start(void)
{
	start_with(0, 0);
}

static bool
kept_whole(void)
{
	for (unsigned i = 0; i < KEPT; i++)
		for (size_t j = 0; j < kept_size[i]; j++)
			if (kept[i][j] != i + 1)
				return false;
	return true;
}

static bool
kept_locked(void)
{
	for (unsigned i = 0; i < KEPT; i++)
		if (!pages_locked(kept[i], kept_size[i]))
			return false;
	return true;
}

/* The library's word, and the kernel's. */
static void
all_is_well(void)
{
	expect(secmalloc_verify() == 0);
	expect(kept_locked() && kept_whole());
	expect(secmalloc_is_secure(kept[KEPT - 1]) == 1);
	expect(losses == 0);
}

static void
kill_helper(void)
{
	expect(kill_helpers() == 1);
	/* The control for all that is said of locked pages. */
	expect(!kept_locked());
}

/* --- A helper that is gone --- */

static int
replaced(const void *ask_first)
{
	unsigned descriptors, n = 0;
	size_t mapped;

	start();
	all_is_well();
	descriptors = count_descriptors();
	mapped = count_mapped();
	for (; n < 20; n++) {
		kill_helper();
		if (ask_first == NULL)
			expect(secmalloc_is_secure(kept[0]) == 1);
		else
			expect((kept[0] = secrealloc(kept[0], 1)) != NULL &&
			    secmalloc_verify() == 0);
		expect(kept_locked());
		all_is_well();
		expect(helpers() == 1);
	}
	expect(count_descriptors() == descriptors && count_mapped() == mapped);
	for (unsigned i = 0; i < KEPT; i++)
		secfree(kept[i]);
	secmalloc_shutdown();
	expect(helpers_become(0));
	return 0;
}

static int
noticed_by_growth(const void *unused)
{
	void *more;

	(void)unused;
	start();
	kill_helper();
	expect((more = secmalloc(4 * MIB)) != NULL);
	expect(kept_locked() && pages_locked(more, 4 * MIB));
	all_is_well();
	return 0;
}

/* Nearly all that the policy gives: what the dead one held has to be free. */
static int
replaced_at_the_limit(const void *unused)
{
	void *most;

	(void)unused;
	start();
	expect((most = secmalloc(40 * MIB)) != NULL);
	for (unsigned n = 0; n < 10; n++) {
		kill_helper();
		all_is_well();
		expect(pages_locked(most, 40 * MIB));
	}
	return 0;
}

static void
nothing_to_be_had(void)
{
	errno = 0;
	expect(secmalloc(1) == NULL && errno == ENOLCK);
	errno = 0;
	expect(secmalloc(1 * MIB) == NULL && errno == ENOLCK);
	errno = 0;
	expect(secrealloc(kept[1], 2 * MIB) == NULL && errno == ENOLCK);
	expect(secmalloc_is_secure(kept[1]) == 0 && kept_whole());
}

static int
gone_and_back(const void *unused)
{
	(void)unused;
	start();
	for (unsigned n = 1; n <= 3; n++) {
		chmod_helper(0);
		kill_helper();
		expect(secmalloc_verify() == -1 && errno == ENOLCK);
		expect(losses == n);
		nothing_to_be_had();
		expect(secmalloc_lock_fd() == -1 && errno == ENOLCK);
		expect(losses == n && kept_whole());
		chmod_helper(04755);
		if (n == 2)
			sleep_ms(500);
		expect(n == 2 ? (kept[0] = secrealloc(kept[0], 2)) != NULL :
		    secmalloc_verify() == 0);
		if (n == 2) {
			kept[0][1] = 1;
			kept_size[0] = 2;
		}
		expect(kept_locked() && kept_whole());
		expect(secmalloc_is_secure(kept[1]) == 1);
	}
	expect(secmalloc_verify() == 0 && losses == 3);
	return 0;
}

static int
locked_by_itself(const void *unused)
{
	(void)unused;
	start_with(LIMIT, 0);
	chmod_helper(0);
	kill_helper();
	all_is_well();
	/* What is locked goes round; more is for a helper to give. */
	for (unsigned i = 0; i < KEPT; i++) {
		secfree(kept[i]);
		expect((kept[i] = secmalloc(kept_size[i])) != NULL);
		memset(kept[i], (int)i + 1, kept_size[i]);
	}
	errno = 0;
	expect(secmalloc(8 * MIB) == NULL && errno == EPERM);
	all_is_well();
	chmod_helper(04755);
	expect(secmalloc(8 * MIB) != NULL);
	all_is_well();
	return 0;
}

static atomic_bool stop;
static atomic_ulong verified;

/* Has a helper wherever one is missing. */
static void *
relocks(void *unused)
{
	(void)unused;
	while (!atomic_load(&stop)) {
		expect(secmalloc_verify() == 0);
		atomic_fetch_add(&verified, 1);
	}
	return NULL;
}

/* What can be seen of pages that are not locked for so long. */
static unsigned
seen_unlocked(size_t flags, unsigned *samples)
{
	pthread_t thread;
	unsigned kills = 0, seen = 0;

	start_with(LIMIT, flags);
	expect(pthread_create(&thread, NULL, relocks, NULL) == 0);
	while (kills < BELT_KILLS) {
		unsigned long before = atomic_load(&verified);

		kills += (unsigned)ask(ASK_KILL, NULL, 0).count;
		/* Every other one is killed before it is done, or soon after. */
		do {
			size_t i = KEPT - 1 - ++*samples % 2;

			seen += !pages_locked(kept[i], kept_size[i]);
		} while (kills % 2 == 0 &&
		    atomic_load(&verified) < before + 2);
	}
	atomic_store(&stop, true);
	expect(pthread_join(thread, NULL) == 0);
	all_is_well();
	return seen;
}

/* Not for a moment: neither before the next helper, nor while it takes over. */
static int
belted(const void *unused)
{
	unsigned samples = 0;

	(void)unused;
	expect(seen_unlocked(SECMALLOC_BELT, &samples) == 0);
	diag("%u samples", samples);
	return 0;
}

static int
without_belt(const void *unused)
{
	unsigned samples = 0;

	(void)unused;
	expect(seen_unlocked(0, &samples) != 0);
	return 0;
}

/* --- Children of those who took over from a helper --- */

static void
in_child(void (*body)(size_t), size_t limit)
{
	int status = -1;
	pid_t pid = fork();

	expect(pid != -1);
	if (pid == 0) {
		body(limit);
		_exit(0);
	}
	expect(waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
	    WEXITSTATUS(status) == 0);
}

static size_t
locked_bytes(void)
{
	struct secmalloc_stats stats;

	expect(secmalloc_stats(&stats) == 0);
	return stats.locked_bytes;
}

static void
is_within(size_t limit)
{
	expect(secmalloc_verify() == 0);
	expect(locked_bytes() <= limit);
	errno = 0;
	expect(secmalloc(2 * limit) == NULL && errno == ENOMEM);
}

/* Its first pool has a hole, and it has locked as much elsewhere. */
static void
take_over_at_limit(size_t limit)
{
	while (secmalloc(64 * KIB) != NULL)
		;
	expect(errno == ENOMEM && locked_bytes() <= limit);
	/* The control: without the hole it would be beyond. */
	expect(locked_bytes() + limit / 4 > limit);
	chmod_helper(0);
	expect(kill_helpers() == 2);
	expect(secmalloc_verify() == 0 && losses == 0);
	chmod_helper(04755);
	in_child(is_within, limit);
}

static int
limit_for_children(const void *unused)
{
	const size_t limit = 4 * MIB;
	struct secmalloc_config config;

	(void)unused;
	test_config(&config, SECMALLOC_MODE_HELPER);
	config.on_lock_lost = lost;
	config.initial_pools = 1;
	config.pool_size = limit / 2;
	config.max_locked = limit;
	become_nobody(LIMIT);
	expect(secmalloc_init(&config) == 0 && secmalloc(1) != NULL);
	in_child(take_over_at_limit, limit);
	return 0;
}

/* --- Descriptors that are the host's to close --- */

enum { FIRST = STDERR_FILENO + 1, LAST = 64 };

/* All but what the observer is asked through. */
static void
close_all(void)
{
	for (int fd = FIRST; fd < LAST; fd++)
		if (fd != observer)
			(void)close(fd);
}

/* Every number is a file of our own then, which nobody else may touch. */
static char own[] = "/tmp/secmalloc-locks.XXXXXX";

static void
take_all_numbers(void)
{
	int fd = mkstemp(own);

	expect(fd != -1 && unlink(own) == 0);
	for (int n = FIRST; n < LAST; n++)
		if (n != observer && n != fd)
			expect(dup2(fd, n) == n);
}

static bool
numbers_are_ours(void)
{
	struct stat first, st;

	if (fstat(observer == FIRST ? FIRST + 1 : FIRST, &first) == -1)
		return false;
	for (int n = FIRST; n < LAST; n++)
		if (n != observer && (fstat(n, &st) == -1 ||
		    st.st_dev != first.st_dev || st.st_ino != first.st_ino ||
		    st.st_size != 0))
			return false;
	return true;
}

static int
descriptors_closed(const void *reuse)
{
	void *more;

	start();
	all_is_well();
	close_all();
	if (reuse != NULL)
		take_all_numbers();
	all_is_well();
	expect(helpers() == 1);
	errno = 0;
	expect(secmalloc_lock_fd() == -1 && errno == ENOTSUP);
	/* More is the next one's. */
	expect((more = secmalloc(4 * MIB)) != NULL);
	expect(pages_locked(more, 4 * MIB) && helpers() == 2);
	all_is_well();
	for (unsigned i = 0; i < KEPT; i++)
		secfree(kept[i]);
	secfree(more);
	secmalloc_shutdown();
	expect(helpers_become(0));
	expect(reuse == NULL || numbers_are_ours());
	return 0;
}

/* Then nobody can be handed the pools. */
static int
closed_and_killed(const void *unused)
{
	(void)unused;
	start();
	close_all();
	all_is_well();
	kill_helper();
	expect(secmalloc_verify() == -1 && errno == ENOLCK && losses == 1);
	nothing_to_be_had();
	expect(losses == 1);
	return 0;
}

static int
closed_and_killed_but_able(const void *unused)
{
	(void)unused;
	start_with(LIMIT, 0);
	close_all();
	kill_helper();
	all_is_well();
	return 0;
}

/* --- An event loop --- */

static bool
is_readable(int fd)
{
	struct pollfd polled = { .fd = fd, .events = POLLIN };

	return poll(&polled, 1, 0) == 1 && (polled.revents & POLLIN) != 0;
}

static int
event_loop(const void *unused)
{
	int fd;

	(void)unused;
	start();
	for (unsigned n = 0; n < 3; n++) {
		expect((fd = secmalloc_lock_fd()) != -1 && !is_readable(fd));
		kill_helper();
		expect(is_readable(fd));
		expect(secmalloc_verify() == 0 && kept_locked());
	}
	expect((fd = secmalloc_lock_fd()) != -1 && !is_readable(fd));
	return 0;
}

/* --- Kills and work --- */

static atomic_ulong refused;

struct shadow {
	unsigned char *at;
	size_t size;
	unsigned char value;
};

static bool
is_whole(const struct shadow *s)
{
	for (size_t i = 0; i < s->size; i++)
		if (s->at[i] != s->value)
			return false;
	return true;
}

/* What was put into an object is in it, whoever locks it. */
static void *
works(void *seed)
{
	enum { OBJECTS = 200 };
	struct shadow shadows[OBJECTS] = { { NULL, 0, 0 } };
	uint64_t random = (uintptr_t)seed;
	uintptr_t operations = 0;

	while (!atomic_load(&stop)) {
		struct shadow *s;
		size_t size;

		random = random * 6364136223846793005 + 1442695040888963407;
		s = &shadows[(random >> 33) % OBJECTS];
		size = (size_t)1 << ((random >> 40) % 15);
		size += (size_t)(random >> 45) % size;
		expect(is_whole(s));
		secfree(s->at);
		*s = (struct shadow){ secmalloc(size), size,
		    (unsigned char)(random >> 56) };
		if (s->at == NULL) {
			expect(errno == ENOLCK);
			atomic_fetch_add(&refused, 1);
			s->size = 0;
			continue;
		}
		expect(is_whole(&(struct shadow){ s->at, size, 0 }));
		memset(s->at, s->value, size);
		operations++;
	}
	for (unsigned i = 0; i < OBJECTS; i++) {
		expect(is_whole(&shadows[i]));
		secfree(shadows[i].at);
	}
	return (void *)operations;
}

static int
killed_at_work(const void *unused)
{
	pthread_t threads[THREADS];
	unsigned descriptors, kills = 0;
	uintptr_t operations = 0;
	void *done;

	(void)unused;
	start();
	descriptors = count_descriptors();
	for (uintptr_t i = 0; i < THREADS; i++)
		expect(pthread_create(&threads[i], NULL, works,
		    (void *)(i + 1)) == 0);
	while (kills < KILLS) {
		kills += (unsigned)ask(ASK_KILL, NULL, 0).count;
		sleep_ms(kills % 4);
		/* Whether or not a thread comes by. */
		expect(secmalloc_verify() == 0);
	}
	atomic_store(&stop, true);
	for (unsigned i = 0; i < THREADS; i++) {
		expect(pthread_join(threads[i], &done) == 0);
		operations += (uintptr_t)done;
	}
	diag("%u kills, %ju operations, %lu refused", kills,
	    (uintmax_t)operations, atomic_load(&refused));
	expect(operations > KILLS);
	all_is_well();
	expect(helpers_become(1));
	/* Pools that came later may be here yet. */
	expect(count_descriptors() <= descriptors + 16);
	for (unsigned i = 0; i < KEPT; i++)
		secfree(kept[i]);
	secmalloc_shutdown();
	expect(helpers_become(0));
	return 0;
}

/* --- */

static const struct {
	int (*body)(const void *);
	const char *arg;
	const char *promise;
} promises[] = {
	{ replaced, NULL,
	    "a helper that was killed is replaced by whoever asks next" },
	{ replaced, "work",
	    "a helper that was killed is replaced at work" },
	{ noticed_by_growth, NULL,
	    "a helper that was killed is replaced when more is locked" },
	{ replaced_at_the_limit, NULL,
	    "the next helper has what the last one held of the quota" },
	{ gone_and_back, NULL,
	    "where no helper can be had, that is told once, and so until one can" },
	{ locked_by_itself, NULL,
	    "where no helper can be had, a process locks what it may itself" },
	{ limit_for_children, NULL,
	    "max_locked binds the children of a process that took over, too" },
	{ belted, NULL,
	    "with a belt, nothing is unlocked while 200 helpers are killed" },
	{ without_belt, NULL, "without one, that is seen" },
	{ descriptors_closed, NULL,
	    "locks outlive the descriptors that they were had by" },
	{ descriptors_closed, "reuse",
	    "numbers that the host has taken are the host's" },
	{ closed_and_killed, NULL,
	    "what nobody can be handed any more is lost, and that is said" },
	{ closed_and_killed_but_able, NULL,
	    "unless the process may lock it itself" },
	{ event_loop, NULL,
	    "an event loop sees at once that a helper was killed" },
	{ killed_at_work, NULL,
	    "helpers are killed and killed, and threads work on" },
};

#define PROMISES (sizeof(promises) / sizeof(promises[0]))

int
main(int argc, char *argv[])
{
	const char *only = argc > 1 ? argv[1] : NULL;

	for (size_t i = 0; i < PROMISES; i++)
		if (only == NULL || strtoul(only, NULL, 10) == i)
			ok(run_worker(promises[i].body, promises[i].arg, 120),
			    "%s", promises[i].promise);
	return done_testing();
}
