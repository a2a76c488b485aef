/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * exhaust.c: takes all that there is, layer by layer, and holds the library to
 * a refusal that says why and to losing nothing; it knows nothing of how memory
 * is laid out.
 *
 * argv[1] is "helper", "quota" (the policy leaves 4 MiB) or "inprocess" (root).
 */
#include "config.h"

#include "faults.h"

#define KIB ((size_t)1024)
#define MIB (1024 * KIB)

#if defined(__has_feature)
# if __has_feature(address_sanitizer) && !defined(__SANITIZE_ADDRESS__)
#  define __SANITIZE_ADDRESS__ 1
# endif
#endif
/* The runtimes of these take more addresses than any limit leaves. */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
# define VAST 1
#else
# define VAST 0
#endif

static int mode;

static struct secmalloc_config
configuration(size_t max_locked)
{
	struct secmalloc_config config;

	test_config(&config, mode);
	config.max_locked = max_locked;
	return config;
}

static void
start(size_t max_locked)
{
	struct secmalloc_config config = configuration(max_locked);

	expect(secmalloc_init(&config) == 0);
}

static struct secmalloc_stats
stats(void)
{
	struct secmalloc_stats now;

	expect(secmalloc_stats(&now) == 0);
	return now;
}

/* What every object here begins with; the list of all. */
struct link {
	struct link *next;
	size_t size;
};

static struct link *all;
static size_t live;

static bool
take(size_t size)
{
	struct link *p = secmalloc(size);
	const unsigned char *bytes = (const unsigned char *)p;

	if (p == NULL)
		return false;
	expect(bytes[size - 1] == 0 && bytes[size / 2] == 0 &&
	    p->next == NULL && p->size == 0);
	memset(p, 0x5a, size);
	*p = (struct link){all, size};
	all = p;
	live++;
	return true;
}

/* Until a refusal, which must be for ERROR; how many there are then. */
static size_t
take_all(size_t size, int error)
{
	size_t before = live;

	errno = 0;
	while (take(size))
		;
	expect(errno == error);
	/* Nor by another name. */
	errno = 0;
	expect(seccalloc(size, 1) == NULL && errno == error);
	errno = 0;
	expect(secaligned_alloc(64, size) == NULL && errno == error);
	expect(stats().objects == live);
	return live - before;
}

static void
give(struct link **at)
{
	struct link *p = *at;
	const unsigned char *bytes = (const unsigned char *)p;

	/* Of larger ones samples, and the end. */
	for (size_t i = sizeof(*p); i < p->size; i += i < 128 ? 1 : 61)
		expect(bytes[i] == 0x5a);
	expect(p->size == sizeof(*p) || bytes[p->size - 1] == 0x5a);
	*at = p->next;
	secfree(p);
	live--;
}

static void
give_all(void)
{
	while (all != NULL)
		give(&all);
	expect(stats().objects == 0 && stats().object_bytes == 0);
}

/* Frees every other one; how many. */
static size_t
give_half(void)
{
	size_t n = 0;

	for (struct link **at = &all; *at != NULL && (*at)->next != NULL; n++) {
		at = &(*at)->next;
		give(at);
	}
	return n;
}

/* --- Each in a process of its own --- */

/*
 * With LIMIT bytes, after which the refusal is ERROR: what is taken in one size
 * is to be had in any other once it is freed, and in half of LIMIT at once.
 */
static void
take_in_turns(size_t limit, int error)
{
	static const size_t sizes[] = {64, 1000, 16, 5000, 40000, 64, 100000};
	size_t first = take_all(64, error), again;

	/* Without what the rounding up to a slot takes. */
	expect(first * 64 > limit / 2);
	give_all();
	expect(take(limit / 2));
	give_all();
	again = take_all(64, error);
	expect(again >= first - first / 20);
	give_all();
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		size_t n = take_all(sizes[i], error);

		if (n * (sizes[i] + 32) < limit / 2)
			diag("only %zu objects of %zu bytes", n, sizes[i]);
		expect(n * (sizes[i] + 32) >= limit / 2);
		give_all();
	}
	expect(take(limit / 2));
	give_all();
	expect(secmalloc_verify() == 0);
}

static int
reach_max_locked(const void *arg)
{
	size_t limit = 8 * MIB;

	(void)arg;
	start(limit);
	take_in_turns(limit, ENOMEM);
	expect(stats().locked_bytes <= limit);
	return 0;
}

/* One pool, which neither grows nor goes. */
static int
reach_end_of_pool(const void *arg)
{
	static const size_t sizes[] = {24, 100, 1000, 4096, 10000};
	struct secmalloc_config config = configuration(512 * KIB);

	(void)arg;
	config.initial_pools = 1;
	config.pool_size = 512 * KIB;
	expect(secmalloc_init(&config) == 0);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		size_t n = take_all(sizes[i], ENOMEM), freed;
		unsigned char *p;

		/* One for another. */
		for (unsigned round = 0; round < 100; round++) {
			give(&all);
			expect(take(sizes[i]) && !take(sizes[i]));
		}
		/* A resize is refused, and nothing changed. */
		p = (unsigned char *)all;
		errno = 0;
		expect(secrealloc(p, 300 * KIB) == NULL && errno == ENOMEM);
		expect(secmalloc_usable_size(p) == sizes[i]);
		freed = give_half();
		expect(take_all(sizes[i], ENOMEM) == freed && live == n);
		give_all();
		expect(take(256 * KIB));
		give_all();
	}
	expect(stats().locked_bytes == config.pool_size && stats().pools == 1);
	return 0;
}

/* As many pools as there can be, of a page each. */
static int
reach_most_pools(const void *arg)
{
	enum { POOLS = 1024 };
	struct secmalloc_config config = configuration(0);
	size_t first;

	(void)arg;
	config.initial_pools = POOLS;
	config.pool_size = (size_t)sysconf(_SC_PAGESIZE);
	expect(secmalloc_init(&config) == 0);
	first = take_all(64, ENOMEM);
	give_all();
	expect(stats().pools == POOLS);
	expect(take_all(1000, ENOMEM) >= POOLS);
	give_all();
	expect(take_all(64, ENOMEM) >= first - first / 20);
	give_all();
	secmalloc_shutdown();
	config.initial_pools++;
	errno = 0;
	expect(secmalloc_init(&config) == -1 && errno == ENOMEM);
	expect(stats().pools == 0 && stats().locked_bytes == 0);
	return 0;
}

/* A process that has few addresses. */
static int
reach_end_of_addresses(const void *arg)
{
	struct rlimit limit = { 128 * MIB, 128 * MIB };
	size_t first;

	(void)arg;
	expect(setrlimit(RLIMIT_AS, &limit) == 0);
	start(0);
	first = take_all(MIB, ENOMEM);
	diag("%zu of 128 MiB of addresses", first);
	expect(first >= 16 && first < 128);
	give_all();
	expect(take_all(64 * KIB, ENOMEM) >= first * 8);
	give_all();
	expect(take(first / 2 * MIB));
	give_all();
	return 0;
}

static int
reach_rlimit_memlock(const void *arg)
{
	size_t limit = 2 * MIB;

	(void)arg;
	become_nobody(limit);
	start(0);
	/* The first pool, of 256 KiB, stays apart. */
	take_in_turns(limit - 256 * KIB, EAGAIN);
	return 0;
}

static int
reach_quota(const void *arg)
{
	size_t limit = 4 * MIB;

	(void)arg;
	start(0);
	take_in_turns(limit - 256 * KIB, EDQUOT);
	return 0;
}

/*
 * Takes and gives BATCH objects of a size again and again where that takes the
 * memory of another pool; how often what is locked changed.
 */
static unsigned
changes_at_edge(size_t size, size_t batch)
{
	enum { ROUNDS = 2000 };
	size_t locked = stats().locked_bytes;
	unsigned changes = 0;

	while (stats().locked_bytes == locked || live < batch)
		expect(take(size));
	locked = stats().locked_bytes;
	for (unsigned round = 0; round < ROUNDS; round++) {
		for (size_t i = 0; i < batch; i++)
			give(&all);
		changes += stats().locked_bytes != locked;
		locked = stats().locked_bytes;
		for (size_t i = 0; i < batch; i++)
			expect(take(size));
		changes += stats().locked_bytes != locked;
		locked = stats().locked_bytes;
	}
	return changes;
}

static int
stay_at_edge(const void *arg)
{
	static const size_t sizes[] = {24, 200, 1000, 5000, 20000, 100000};

	(void)arg;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		for (size_t batch = 1; batch <= 4; batch += 3) {
			unsigned changes;

			start(0);
			changes = changes_at_edge(sizes[i], batch);
			if (changes > 2)
				diag("%zu objects of %zu bytes: %u changes",
				    batch, sizes[i], changes);
			expect(changes <= 2);
			give_all();
			secmalloc_shutdown();
		}
	return 0;
}

/* From the control's point of view: pools do come and go. */
static int
come_and_go(const void *arg)
{
	size_t least;

	(void)arg;
	start(0);
	least = stats().locked_bytes;
	for (unsigned i = 0; i < 48; i++)
		expect(take(MIB));
	expect(stats().locked_bytes >= 48 * MIB);
	give_all();
	expect(stats().locked_bytes < 48 * MIB);
	expect(least <= 512 * KIB);
	return 0;
}

/* splitmix64, public domain, by Sebastiano Vigna. */
static uint64_t
draw(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static int
shrink_again(const void *arg)
{
	enum { PAIRS = 100000, KEPT = 16 };
	static const size_t sizes[] = {16, 100, 500, 3000, 30000, 200000};
	size_t taken[6] = {0}, initial, n, bytes = 0;
	uint64_t random = 1;

	(void)arg;
	start(0);
	initial = stats().locked_bytes;
	/* About as much of each, one among the other. */
	while (bytes < 40 * MIB) {
		size_t i = (size_t)draw(&random) % 6;

		if (taken[i] > bytes / 6)
			continue;
		expect(take(sizes[i]));
		taken[i] += sizes[i];
		bytes += sizes[i];
	}
	diag("%zu MiB are locked for %zu objects", stats().locked_bytes / MIB,
	    live);
	give_all();
	for (n = 0; n < PAIRS && stats().locked_bytes > initial + KEPT * MIB;
	    n++) {
		size_t size = sizes[draw(&random) % 5];

		expect(take(size - (size_t)draw(&random) % (size / 2 - 7)));
		give(&all);
	}
	diag("%zu KiB are left after %zu more pairs of calls",
	    stats().locked_bytes / KIB, n);
	expect(stats().locked_bytes <= initial + KEPT * MIB);
	return 0;
}

static int
keep_few_books(const void *arg)
{
	static const size_t sizes[] = {16, 64, KIB, 64 * KIB};

	(void)arg;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct secmalloc_stats full;

		start(64 * MIB);
		(void)take_all(sizes[i], ENOMEM);
		full = stats();
		diag("%zu bytes each: %zu KiB are locked, and %zu kept of "
		    "them", sizes[i], full.locked_bytes / KIB,
		    full.metadata_bytes / KIB);
		expect(full.locked_bytes > 60 * MIB);
		/* At the least a bit for what is live, of every 4 KiB. */
		expect(full.metadata_bytes > full.locked_bytes / 32768);
		expect(full.metadata_bytes <= full.locked_bytes / 100 * 6);
		give_all();
		secmalloc_shutdown();
		expect(stats().metadata_bytes < full.metadata_bytes / 16);
	}
	return 0;
}

/* PROMISE, which BODY keeps in a process of its own. */
static void
hold(const char *promise, int (*body)(const void *))
{
	pid_t child = fork();
	int status;

	if (child == 0) {
		(void)alarm(240);
		_exit(body(NULL));
	}
	if (child == -1 || waitpid(child, &status, 0) != child)
		bail_out("fork: %s", strerror(errno));
	if (WIFSIGNALED(status))
		diag("stopped by signal %d", WTERMSIG(status));
	ok(status == 0, "%s", promise);
}

int
main(int argc, char **argv)
{
	if (argc != 2 || (strcmp(argv[1], "helper") != 0 &&
	    strcmp(argv[1], "quota") != 0 &&
	    strcmp(argv[1], "inprocess") != 0))
		bail_out("usage: exhaust helper|quota|inprocess");
	mode = strcmp(argv[1], "inprocess") == 0 ? SECMALLOC_MODE_INPROCESS :
	    SECMALLOC_MODE_HELPER;
	if (strcmp(argv[1], "quota") == 0) {
		hold("what the policy leaves is to be had in any size, and "
		    "then EDQUOT", reach_quota);
		return done_testing();
	}
	hold("max_locked is to be had in any size, and then ENOMEM",
	    reach_max_locked);
	hold("the end of the only pool is ENOMEM, and nothing is lost there",
	    reach_end_of_pool);
	hold("control: pools come and go", come_and_go);
	hold("at the edge of a pool none comes and goes", stay_at_edge);
	hold("of 40 MiB that were freed 16 at most are kept", shrink_again);
	if (mode != SECMALLOC_MODE_INPROCESS)
		return done_testing();
	hold("what is kept of 64 MiB takes 6 in 100 of them at most",
	    keep_few_books);
	hold("more pools than there can be are ENOMEM", reach_most_pools);
	hold("RLIMIT_MEMLOCK is to be had in any size, and then EAGAIN",
	    reach_rlimit_memlock);
	if (!VAST)
		hold("the end of addresses is ENOMEM, and nothing is lost "
		    "there", reach_end_of_addresses);
	return done_testing();
}
