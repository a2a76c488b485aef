/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * edges.c: takes away mappings, data pages, locks and the right moment, and
 * holds the library to an errno and to what it had handed out; it knows
 * nothing of the library's inside.
 *
 * argv[1] says who locks, and so as whom the workers run: "helper" (nobody,
 * who may lock nothing) or "inprocess" (root).
 */
#include "config.h"

#include <pthread.h>

#include "faults.h"

#define KIB ((size_t)1024)
#define MIB (1024 * KIB)

static int mode;

/* --- Shared by all --- */

static struct secmalloc_config
configuration(void)
{
	struct secmalloc_config config;

	test_config(&config, mode);
	return config;
}

static void
start(void)
{
	struct secmalloc_config config = configuration();

	if (mode == SECMALLOC_MODE_HELPER)
		become_nobody(0);
	expect(secmalloc_init(&config) == 0);
}

static void *
in_thread(void *(*run)(void *), void *data)
{
	pthread_t thread;
	void *result;

	expect(pthread_create(&thread, NULL, run, data) == 0);
	expect(pthread_join(thread, &result) == 0);
	return result;
}

static bool
all_are(const unsigned char *at, size_t size, int value)
{
	for (size_t i = 0; i < size; i++)
		if (at[i] != value)
			return false;
	return true;
}

static bool
child_succeeds(pid_t pid)
{
	int status;

	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
	    WEXITSTATUS(status) == 0;
}

/* --- A lock that is lost --- */

enum { OBJECTS = 300, AT_ONCE = 3, SIZE = 100 };

static void *
free_some_and_ask(void *objects)
{
	for (size_t i = 0; i < AT_ONCE; i++)
		secfree(((void **)objects)[i]);
	expect(secmalloc(SIZE) == NULL && errno == ENOLCK);
	for (size_t size = 1; size < 100 * KIB; size += size / 2 + 1) {
		errno = 0;
		expect(secmalloc(size) == NULL && errno == ENOLCK);
	}
	return NULL;
}

static int
nothing_after_loss(const void *unused)
{
	void *objects[OBJECTS];

	(void)unused;
	start();
	for (size_t i = 0; i < OBJECTS; i++)
		expect((objects[i] = secmalloc(SIZE)) != NULL);
	/* Or it would be locked anew. */
	become_nobody(0);
	expect(munlock(objects[0], 1) == 0);
	expect(secmalloc_verify() == -1 && errno == ENOLCK);
	/* What is free from here on is not to be had, though it is at hand. */
	for (size_t i = 0; i < OBJECTS / 2; i += AT_ONCE)
		(void)free_some_and_ask(objects + i);
	for (size_t i = OBJECTS / 2; i < OBJECTS; i += AT_ONCE)
		(void)in_thread(free_some_and_ask, objects + i);
	return 0;
}

/* A guard behind what was unlocked is a guard again. */
static int
locked_anew(const void *unused)
{
	struct secmalloc_stats before, after;
	size_t sizes[] = { SIZE, 100 * KIB, 3 * MIB };
	enum { SIZES = sizeof sizes / sizeof *sizes };
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	unsigned char *objects[SIZES];
	int status;
	pid_t pid;

	(void)unused;
	start();
	for (size_t i = 0; i < SIZES; i++) {
		expect((objects[i] = secmalloc(sizes[i])) != NULL);
		memset(objects[i], 7, sizes[i]);
	}
	expect(secmalloc_stats(&before) == 0);
	for (size_t i = 0; i < SIZES; i++) {
		expect(munlock(objects[i], 1) == 0);
		expect(!pages_locked(objects[i], 1));
		expect(secmalloc_verify() == 0);
		for (size_t j = 0; j < SIZES; j++)
			expect(pages_locked(objects[j], sizes[j]) &&
			    all_are(objects[j], sizes[j], 7));
		expect(secmalloc_is_secure(objects[i]) == 1);
	}
	expect(secmalloc_stats(&after) == 0);
	expect(before.guards == 2 && after.guards == 2);
	expect((pid = fork()) != -1);
	if (pid == 0) {
		/* In this page, or the next one, which is the guard. */
		for (size_t i = 0; i < 2 * page; i++)
			((volatile unsigned char *)objects[1])[sizes[1] + i] = 1;
		_exit(0);
	}
	/* AddressSanitizer ends the child in its own way. */
	expect(waitpid(pid, &status, 0) == pid && (WATCHED ? status != 0 :
	    WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV));
	for (size_t i = 0; i < SIZES; i++)
		secfree(objects[i]);
	return 0;
}

/* --- Growing --- */

static int
room_enough(const void *unused)
{
	struct secmalloc_config config = configuration();
	struct secmalloc_stats before, after;
	void *object, *behind, *rest;

	(void)unused;
	config.pool_size = 8 * MIB;
	expect(secmalloc_init(&config) == 0);
	expect((object = secmalloc(3 * MIB)) != NULL);
	expect((behind = secmalloc(100 * KIB)) != NULL);
	/* What is left has room for what is asked for, and little more. */
	expect((rest = secmalloc(1400 * KIB)) != NULL);
	expect(secmalloc_stats(&before) == 0);
	expect((object = secrealloc(object, 3 * MIB + 40 * KIB)) != NULL);
	expect(secmalloc_stats(&after) == 0);
	expect(after.locked_bytes == before.locked_bytes);
	secfree(object);
	secfree(behind);
	secfree(rest);
	return 0;
}

/* --- Threads that get nothing --- */

static unsigned
mappings(void)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	unsigned n = 0;
	int c;

	expect(maps != NULL);
	while ((c = getc(maps)) != EOF)
		n += c == '\n';
	(void)fclose(maps);
	return n;
}

static void *
ask_in_vain(void *unused)
{
	(void)unused;
	expect(secmalloc(2000) == NULL && errno == ENOMEM);
	return NULL;
}

static int
nothing_left_behind(const void *unused)
{
	enum { THREADS = 50 };
	struct secmalloc_config config = configuration();
	unsigned before;

	(void)unused;
	config.max_locked = 256 * KIB;
	expect(secmalloc_init(&config) == 0);
	while (secmalloc(2000) != NULL)
		;
	for (unsigned i = 0; i < THREADS; i++)
		(void)in_thread(ask_in_vain, NULL);
	before = mappings();
	for (unsigned i = 0; i < THREADS; i++)
		(void)in_thread(ask_in_vain, NULL);
	expect(mappings() < before + THREADS / 2);
	return 0;
}

/* --- Mappings --- */

/*
 * Parts one mapping in as many as the kernel grants, but for SPARE; false if
 * it grants too many.
 */
static bool
take_mappings(size_t spare)
{
	enum { MOST = 200 * 1000 };
	size_t page = (size_t)sysconf(_SC_PAGESIZE), n = 0;
	unsigned char *at = mmap(NULL, 2 * MOST * page, PROT_READ,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	expect(at != MAP_FAILED);
	while (n < MOST && mprotect(at + (2 * n + 1) * page, page,
	    PROT_NONE) == 0)
		n++;
	for (size_t i = 0; i < spare; i++)
		expect(mprotect(at + (2 * i + 1) * page, page,
		    PROT_READ) == 0);
	return n < MOST;
}

static void
use_what_there_is(void)
{
	enum { SOME = 64 };
	struct secmalloc_config config = configuration();
	void *objects[SOME];

	for (unsigned i = 0; i < 2; i++) {
		if (secmalloc_init(&config) == -1) {
			expect(errno == ENOMEM);
			continue;
		}
		for (size_t n = 0; n < SOME; n++) {
			objects[n] = secmalloc(n * 5 * KIB);
			expect(objects[n] != NULL || errno == ENOMEM);
		}
		for (size_t n = 0; n < SOME; n++)
			secfree(objects[n]);
		secmalloc_shutdown();
	}
}

static int
few_mappings(const void *unused)
{
	enum { FEW = 60 };

	(void)unused;
	for (size_t spare = 0; spare < FEW; spare++) {
		pid_t pid = fork();

		expect(pid != -1);
		if (pid == 0) {
			/* Where there are so many, nothing is to be shown. */
			if (take_mappings(spare))
				use_what_there_is();
			_exit(0);
		}
		expect(child_succeeds(pid));
	}
	return 0;
}

/* --- Pages of data --- */

static int
no_data_left(const void *unused)
{
	enum { LARGE = 100 * 1000, BEFORE = 5 };
	static const size_t sizes[] = {
		LARGE - 1000, LARGE - 5000, LARGE / 2, LARGE + 1, 3 * LARGE
	};
	struct rlimit none = { 4096, 4096 };
	unsigned char *objects[BEFORE];

	(void)unused;
	start();
	for (size_t i = 0; i < BEFORE; i++) {
		expect((objects[i] = secmalloc(LARGE)) != NULL);
		memset(objects[i], 7, LARGE);
	}
	/* From here on nothing that was made inaccessible can be used again. */
	expect(setrlimit(RLIMIT_DATA, &none) == 0);
	for (size_t i = 0; i < BEFORE; i++) {
		unsigned char *moved = secrealloc(objects[i], sizes[i]);
		size_t size = LARGE;

		if (moved != NULL) {
			objects[i] = moved;
			if (sizes[i] < size)
				size = sizes[i];
		}
		expect(all_are(objects[i], size, 7));
		expect(secmalloc_usable_size(objects[i]) ==
		    (moved != NULL ? sizes[i] : LARGE));
		secfree(objects[i]);
	}
	return 0;
}

/* --- A stop --- */

static int
stops_without_data(const void *unused)
{
	struct rlimit was, none;

	(void)unused;
	expect(getrlimit(RLIMIT_DATA, &was) == 0);
	none = was;
	none.rlim_cur = 4096;
	for (int i = 0; i < 3; i++) {
		struct secmalloc_config config;

		test_config(&config, mode);
		expect(secmalloc_init(&config) == 0);
		secfree(secmalloc(100));
		expect(setrlimit(RLIMIT_DATA, &none) == 0);
		secmalloc_shutdown();
		expect(setrlimit(RLIMIT_DATA, &was) == 0);
	}
	return 0;
}

/* --- errno --- */

/* What is locked by others, too, is given back in another way. */
static int
errno_is_kept(const void *unused)
{
	enum { MANY = 4000, ROUNDS = 30 * 1000 };
	static void *objects[MANY];

	(void)unused;
	start();
	expect(mlockall(MCL_CURRENT) == 0);
	for (size_t i = 0; i < MANY; i++)
		expect((objects[i] = secmalloc(1000)) != NULL);
	for (size_t i = 0; i < MANY; i++) {
		errno = 0;
		secfree(objects[i]);
		expect(errno == 0);
	}
	for (size_t i = 0; i < ROUNDS; i++) {
		void *object = secmalloc(1);

		expect(object != NULL);
		errno = 0;
		secfree(object);
		expect(errno == 0);
	}
	return 0;
}

/* --- Children --- */

#if defined(HAVE__FORK) && !defined(__SANITIZE_THREAD__)
# define bare_fork _Fork
#else
# define bare_fork fork
#endif

enum { SIZES = 8, OF_EACH = 24 };

static size_t
size_of(size_t i)
{
	return 1100 + i * 7000;
}

static void *
come_and_go(void *unused)
{
	void *objects[OF_EACH];

	(void)unused;
	for (size_t n = 0;; n++) {
		for (size_t i = 0; i < OF_EACH; i++)
			objects[i] = secmalloc(size_of(n % SIZES));
		for (size_t i = 0; i < OF_EACH; i++)
			secfree(objects[i]);
	}
	return NULL;
}

static void
use_all_sizes(void)
{
	void *objects[SIZES][OF_EACH];

	memset(objects, 0, sizeof objects);
	for (unsigned round = 0; round < 3; round++)
		for (size_t n = 0; n < SIZES; n++)
			for (size_t i = 0; i < OF_EACH; i++) {
				secfree(objects[n][i]);
				objects[n][i] = secmalloc(size_of(n));
				expect(objects[n][i] != NULL);
			}
	for (size_t n = 0; n < SIZES; n++)
		for (size_t i = 0; i < OF_EACH; i++)
			secfree(objects[n][i]);
}

/* At any moment of what another thread does with what slots are in. */
static int
child_of_any_moment(const void *unused)
{
	enum { CHILDREN = WATCHED ? 50 : 500 };
	struct secmalloc_config config = configuration();
	pthread_t thread;

	(void)unused;
	config.pool_size = 8 * MIB;
	expect(secmalloc_init(&config) == 0);
	expect(pthread_create(&thread, NULL, come_and_go, NULL) == 0);
	for (unsigned i = 0; i < CHILDREN; i++) {
		pid_t pid = bare_fork();

		expect(pid != -1);
		if (pid == 0) {
			(void)alarm(20);
			use_all_sizes();
			_exit(0);
		}
		expect(child_succeeds(pid));
	}
	return 0;
}

static void *to_be_freed;

static void
free_in_child(void)
{
	secfree(to_be_freed);
}

/* Before the library's own handlers are registered, as it is loaded. */
__attribute__((constructor(101))) static void
be_first(void)
{
	(void)pthread_atfork(NULL, NULL, free_in_child);
}

static int
handler_comes_first(const void *unused)
{
	char *object;
	pid_t pid;

	(void)unused;
	start();
	expect((to_be_freed = secmalloc(100)) != NULL);
	expect((object = secstrdup("kept")) != NULL);
	expect((pid = fork()) != -1);
	if (pid == 0) {
		(void)alarm(20);
		expect(secmalloc_is_secure(to_be_freed) == 0);
		expect(secmalloc_is_secure(object) == 1);
		expect(strcmp(object, "kept") == 0);
		secfree(object);
		_exit(0);
	}
	expect(child_succeeds(pid));
	expect(secmalloc_is_secure(to_be_freed) == 1);
	return 0;
}

/* --- Giving back --- */

static size_t
locked(void)
{
	struct secmalloc_stats stats;

	expect(secmalloc_stats(&stats) == 0);
	return stats.locked_bytes;
}

/*
 * What a program had at its most is free again, in no order, and scattered over
 * a thread's cache and the depots; then it works with as much as these hold.
 */
static int
shrinks_at_work(const void *unused)
{
	/* A few more than a thread keeps, so that it asks the depot. */
	enum { MANY = 1 << 17, WORK = 65, FREES = 1 << 19 };
	static void *objects[MANY], *work[WORK];
	uint64_t random = 1;
	size_t most;

	(void)unused;
	start();
	for (size_t i = 0; i < MANY; i++)
		expect((objects[i] = secmalloc(SIZE)) != NULL);
	most = locked();
	expect(most >= MANY * (size_t)SIZE);
	for (size_t i = MANY; i > 0; i--) {
		size_t other;

		random = random * 6364136223846793005 + 1442695040888963407;
		other = (size_t)(random >> 33) % i;
		secfree(objects[other]);
		objects[other] = objects[i - 1];
	}
	for (size_t n = 0; n < FREES; n += WORK) {
		for (size_t i = 0; i < WORK; i++)
			expect((work[i] = secmalloc(SIZE)) != NULL);
		for (size_t i = 0; i < WORK; i++)
			secfree(work[i]);
	}
	expect(locked() <= most / 2);
	return 0;
}

/* --- */

static const struct {
	const char *modes; /* h: helper, i: in-process */
	int (*body)(const void *);
	const char *promise;
} promises[] = {
	{ "i", nothing_after_loss,
	    "once a lock is lost nothing is handed out, whatever is freed" },
	{ "i", locked_anew, "a lock that is found gone is taken anew" },
	{ "i", room_enough, "no more is locked for an object to move than it needs" },
	{ "i", nothing_left_behind,
	    "of a thread that gets nothing, nothing is left" },
	{ "i", few_mappings, "where mappings are few, calls fail with ENOMEM" },
	{ "i", no_data_left,
	    "where no page is to be had, large objects keep what they hold" },
	{ "ih", stops_without_data, "a stop needs no more data than there was" },
	{ "i", errno_is_kept, "secfree() keeps errno, whatever it gives back" },
	{ "i", child_of_any_moment,
	    "a child of any moment can use all sizes" },
	{ "i", shrinks_at_work,
	    "memory goes back while a thread goes on with little of it" },
	{ "hi", handler_comes_first,
	    "a child's handler may free before the library's own has run" },
};

#define PROMISES (sizeof(promises) / sizeof(promises[0]))

int
main(int argc, char *argv[])
{
	bool helper = argc > 1 && strcmp(argv[1], "helper") == 0;
	const char *only = argc > 2 ? argv[2] : NULL;

	mode = helper ? SECMALLOC_MODE_HELPER : SECMALLOC_MODE_INPROCESS;
	for (size_t i = 0; i < PROMISES; i++) {
		if (strchr(promises[i].modes, helper ? 'h' : 'i') == NULL ||
		    (only != NULL && strtoul(only, NULL, 10) != i))
			continue;
		ok(run_worker(promises[i].body, NULL, 60), "%s",
		    promises[i].promise);
	}
	return done_testing();
}
