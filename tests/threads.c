/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * threads.c: objects that go from thread to thread, and threads that come, end,
 * are cancelled and fork meanwhile; it knows nothing of what a thread keeps.
 *
 * threads            all promises, as a report
 * threads ends       allocates from before main() until after exit(3)
 *
 * As a helper's client where the environment names one, else by ourselves.
 */
#include "config.h"

#include <sys/wait.h>

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>

#include "harness.h"

#define KIB ((size_t)1024)
#define MIB (1024 * KIB)

#if defined(__has_feature)
# if __has_feature(thread_sanitizer) && !defined(__SANITIZE_THREAD__)
#  define __SANITIZE_THREAD__ 1
# endif
# if __has_feature(address_sanitizer) && !defined(__SANITIZE_ADDRESS__)
#  define __SANITIZE_ADDRESS__ 1
# endif
#endif
/* Builds whose every access is watched are held to less, and take longer. */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
# define WATCHED 1
#else
# define WATCHED 0
#endif

enum {
	THREADS = 4,
	MAILBOXES = 64,
	LETTERS = WATCHED ? 20000 : 150000 /* of one thread */
};

/* What every object of these tests begins with. */
struct letter {
	size_t size; /* of the whole object */
	uint64_t seed;
};

static atomic_uint failures;

/* From any thread: counted, and reported by the main one. */
__attribute__((format(printf, 1, 2))) static void
wrong(const char *fmt, ...)
{
	va_list ap;

	if (atomic_fetch_add(&failures, 1) > 10)
		return;
	va_start(ap, fmt);
	harness_line("# ", fmt, ap);
	va_end(ap);
}

static bool
none_wrong(void)
{
	return atomic_exchange(&failures, 0) == 0;
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

/* From a letter's head to 128 KiB, the larger the rarer. */
static size_t
draw_size(uint64_t *state)
{
	unsigned bits = draw(state) % 64 == 0 ? 17 : draw(state) % 8 == 0 ?
	    12 : 9;
	size_t size = (size_t)1 << (4 + draw(state) % (bits - 3));

	return size + (size_t)draw(state) % size;
}

static unsigned char
pattern(uint64_t seed, size_t i)
{
	return (unsigned char)((seed + i) * 0x9e3779b97f4a7c15u >> 56);
}

static struct letter *
write_letter(size_t size, uint64_t seed)
{
	unsigned char *p = secmalloc(size);

	if (p == NULL) {
		wrong("%zu bytes: %s", size, strerror(errno));
		return NULL;
	}
	for (size_t i = 0; i < size; i++)
		if (p[i] != 0) {
			wrong("byte %zu of %zu is not zero", i, size);
			break;
		}
	*(struct letter *)(void *)p = (struct letter){size, seed};
	for (size_t i = sizeof(struct letter); i < size; i++)
		p[i] = pattern(seed, i);
	return (struct letter *)(void *)p;
}

static bool
letter_is_whole(const struct letter *letter)
{
	const unsigned char *p = (const unsigned char *)letter;

	for (size_t i = sizeof(*letter); i < letter->size; i++)
		if (p[i] != pattern(letter->seed, i))
			return false;
	return true;
}

static void
read_letter(struct letter *letter)
{
	if (letter == NULL)
		return;
	if (!letter_is_whole(letter))
		wrong("%zu bytes did not arrive as they were sent",
		    letter->size);
	secfree(letter);
}

static void
start(size_t max_locked)
{
	struct secmalloc_config config;

	test_config(&config, getenv("SECMALLOC_TEST_HELPER") != NULL ?
	    SECMALLOC_MODE_HELPER : SECMALLOC_MODE_INPROCESS);
	config.max_locked = max_locked;
	if (secmalloc_init(&config) == -1)
		bail_out("secmalloc_init: %s", strerror(errno));
}

static struct secmalloc_stats
stats(void)
{
	struct secmalloc_stats now;

	(void)secmalloc_stats(&now);
	return now;
}

static void
restart(size_t max_locked)
{
	secmalloc_shutdown();
	start(max_locked);
}

static pthread_t
begin(void *(*body)(void *), void *arg)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, body, arg) != 0)
		bail_out("no thread");
	return thread;
}

static void
await(pthread_t thread)
{
	if (pthread_join(thread, NULL) != 0)
		bail_out("a thread is not to be joined");
}

static uint64_t
number(void *arg)
{
	return (uint64_t)(uintptr_t)arg;
}

static void *
numbered(uint64_t n)
{
	return (void *)(uintptr_t)n;
}

/* --- From hand to hand --- */

static struct letter *_Atomic mailboxes[MAILBOXES];

static void *
correspond(void *arg)
{
	uint64_t random = number(arg);

	for (unsigned i = 0; i < LETTERS; i++) {
		size_t box = (size_t)draw(&random) % MAILBOXES;
		size_t size = draw_size(&random);

		read_letter(atomic_exchange(&mailboxes[box],
		    write_letter(size, draw(&random))));
	}
	return NULL;
}

static void
any_thread_frees(void)
{
	pthread_t threads[THREADS];

	for (size_t i = 0; i < THREADS; i++)
		threads[i] = begin(correspond, numbered(i + 1));
	for (size_t i = 0; i < THREADS; i++)
		await(threads[i]);
	for (size_t i = 0; i < MAILBOXES; i++)
		read_letter(atomic_exchange(&mailboxes[i], NULL));
	ok(none_wrong() && stats().objects == 0 && stats().object_bytes == 0,
	    "what one thread allocates another may free, as it was written");
}

static void *
produce(void *arg)
{
	uint64_t random = number(arg);

	for (unsigned i = 0; i < LETTERS; i++) {
		struct letter *letter = write_letter(
		    16 + (size_t)draw(&random) % 1000, i);

		while (atomic_load(&mailboxes[i % MAILBOXES]) != NULL)
			(void)sched_yield();
		atomic_store(&mailboxes[i % MAILBOXES], letter);
	}
	return NULL;
}

static void *
consume(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < LETTERS; i++) {
		struct letter *letter;

		while ((letter = atomic_exchange(&mailboxes[i % MAILBOXES],
		    NULL)) == NULL)
			(void)sched_yield();
		if (letter->seed != i)
			wrong("letter %u is another", i);
		read_letter(letter);
	}
	return NULL;
}

static void
freed_memory_returns(void)
{
	pthread_t producer, consumer;

	restart(8 * MIB);
	producer = begin(produce, numbered(7));
	consumer = begin(consume, NULL);
	await(producer);
	await(consumer);
	/* LETTERS of 516 bytes on average are far more than 8 MiB. */
	ok(none_wrong() && stats().objects == 0,
	    "what only one thread frees comes back to the one that allocates");
}

/* --- Threads that end --- */

/* All that is to be had in objects of 64 bytes, in a list; how many. */
static size_t
take_all(void ***all)
{
	size_t n = 0;
	void **p;

	*all = NULL;
	while ((p = secmalloc(64)) != NULL) {
		*p = *all;
		*all = p;
		n++;
	}
	if (errno != ENOMEM && errno != EDQUOT)
		wrong("refused for another reason: %s", strerror(errno));
	return n;
}

static void
give_all(void **all)
{
	while (all != NULL) {
		void **next = *all;

		secfree(all);
		all = next;
	}
}

static void *
take_and_give_all(void *count)
{
	void **all;

	*(size_t *)count = take_all(&all);
	give_all(all);
	return NULL;
}

static void
ended_threads_keep_nothing(void)
{
	size_t first, second;
	void **all;

	restart(4 * MIB);
	await(begin(take_and_give_all, &first));
	second = take_all(&all);
	give_all(all);
	diag("%zu objects, then %zu", first, second);
	ok(none_wrong() && first > 3 * MIB / 100 && second >= first -
	    first / 100, "what a thread kept is to be had when it has ended");
	await(begin(take_and_give_all, &first));
	ok(none_wrong() && first >= second - second / 100,
	    "and by a third thread, but for what a live one keeps");
}

/* Lines of /proc/self/maps; those of stacks and of malloc's change too. */
static size_t
count_mappings(void)
{
	static char text[65536];
	int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	size_t lines = 0;
	ssize_t got;

	if (fd == -1)
		bail_out("/proc/self/maps: %s", strerror(errno));
	while ((got = read(fd, text, sizeof(text))) > 0)
		for (ssize_t i = 0; i < got; i++)
			lines += text[i] == '\n';
	(void)close(fd);
	return lines;
}

static void *
live_shortly(void *arg)
{
	enum { OBJECTS = 100 };
	struct letter *letters[OBJECTS];
	uint64_t random = number(arg);

	for (size_t i = 0; i < OBJECTS; i++)
		letters[i] = write_letter(16 + (size_t)draw(&random) % 500,
		    draw(&random));
	for (size_t i = 0; i < OBJECTS; i++)
		read_letter(letters[i]);
	return NULL;
}

static void
many_threads_leave_nothing(void)
{
	enum { WARM = 20, MANY = 1000 };
	struct secmalloc_stats before, after;
	size_t mappings;

	restart(0);
	for (uint64_t i = 0; i < WARM; i++)
		await(begin(live_shortly, numbered(i)));
	before = stats();
	mappings = count_mappings();
	for (uint64_t i = 0; i < MANY; i++)
		await(begin(live_shortly, numbered(i)));
	after = stats();
	diag("%zu bytes locked, then %zu; %zu mappings, then %zu",
	    before.locked_bytes, after.locked_bytes, mappings,
	    count_mappings());
	ok(none_wrong() && after.objects == 0 &&
	    after.locked_bytes <= before.locked_bytes,
	    "a thousand threads, one after another, lock no more than twenty");
	diag("%zu KiB kept of them, then %zu", before.metadata_bytes / KIB,
	    after.metadata_bytes / KIB);
	ok(after.metadata_bytes <= before.metadata_bytes,
	    "nor is more kept of them");
	/* A sanitizer maps memory of its own. */
	if (!WATCHED)
		ok(count_mappings() <= mappings, "and leave no mapping");
}

/* --- Destructors of threads --- */

static pthread_key_t early_key, late_key;
static atomic_uint destructions;

/*
 * Frees what the thread left, and allocates; and wants to be called again, when
 * the library may have seen the thread's end.
 */
static void
destroy(pthread_key_t key, struct letter *letter)
{
	uint64_t again = letter->seed;

	(void)atomic_fetch_add(&destructions, 1);
	read_letter(letter);
	for (uint64_t i = 0; i < 50; i++)
		read_letter(write_letter(16 + 30 * (size_t)i, i));
	if (again > 0)
		(void)pthread_setspecific(key, write_letter(100, again - 1));
}

static void
destroy_early(void *letter)
{
	destroy(early_key, letter);
}

static void
destroy_late(void *letter)
{
	destroy(late_key, letter);
}

/* Before the library, which may make a key as soon as it is loaded. */
__attribute__((constructor(101))) static void
make_early_key(void)
{
	(void)pthread_key_create(&early_key, destroy_early);
}

static void *
leave_to_destructors(void *arg)
{
	(void)pthread_setspecific(early_key, write_letter(200, number(arg)));
	(void)pthread_setspecific(late_key, write_letter(300, number(arg)));
	return live_shortly(arg);
}

/* One whose only use of the library is in its destructor. */
static void *
leave_unused(void *arg)
{
	(void)pthread_setspecific(early_key, arg);
	return NULL;
}

static void
destructors_may_allocate(void)
{
	enum { ROUNDS = 200, AGAIN = 2, WARM = 10 };
	size_t locked = 0;
	bool steady = true;

	restart(0);
	if (pthread_key_create(&late_key, destroy_late) != 0)
		bail_out("no key");
	for (unsigned i = 0; i < ROUNDS; i++) {
		await(begin(leave_to_destructors, numbered(AGAIN)));
		await(begin(leave_unused, write_letter(64, AGAIN)));
		if (i == WARM)
			locked = stats().locked_bytes;
	}
	steady = stats().locked_bytes <= locked;
	(void)pthread_key_delete(late_key);
	ok(none_wrong() && stats().objects == 0,
	    "a thread's destructors may free and allocate, whoever is first");
	ok(destructions == ROUNDS * 3 * (AGAIN + 1),
	    "control: they were called again and again (%u)",
	    atomic_load(&destructions));
	ok(steady, "and what they got is not lost with the thread");
}

/* --- At the same place --- */

enum { SHARED = 4000 };

static struct letter *shared[SHARED];
static pthread_barrier_t together;

static void *
free_every_other(void *arg)
{
	(void)pthread_barrier_wait(&together);
	for (size_t i = (size_t)number(arg); i < SHARED; i += 2)
		read_letter(shared[i]);
	return NULL;
}

static int
compare_letters(const void *a, const void *b)
{
	uintptr_t first = (uintptr_t)*(struct letter *const *)a;
	uintptr_t second = (uintptr_t)*(struct letter *const *)b;

	return first < second ? -1 : first > second;
}

static void
neighbours_are_freed_at_once(void)
{
	static const size_t sizes[] = {16, 24, 100, 200, 1000, 5000};
	enum { ROUNDS = WATCHED ? 2 : 10 };
	unsigned doubled = 0;

	restart(0);
	if (pthread_barrier_init(&together, NULL, 2) != 0)
		bail_out("no barrier");
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]) * ROUNDS;
	    i++) {
		pthread_t threads[2];

		for (size_t j = 0; j < SHARED; j++)
			shared[j] = write_letter(sizes[i / ROUNDS], j);
		qsort(shared, SHARED, sizeof(struct letter *),
		    compare_letters);
		for (size_t j = 1; j < SHARED; j++)
			doubled += shared[j] == shared[j - 1];
		for (size_t j = 0; j < 2; j++)
			threads[j] = begin(free_every_other, numbered(j));
		for (size_t j = 0; j < 2; j++)
			await(threads[j]);
	}
	(void)pthread_barrier_destroy(&together);
	ok(none_wrong() && doubled == 0 && stats().objects == 0,
	    "two threads may free neighbours at the same time");
}

/* --- Cancelled --- */

struct holding {
	struct letter *letters[16];
	uint64_t random;
};

static void
free_holding(void *arg)
{
	struct holding *holding = arg;

	for (size_t i = 0; i < 16; i++)
		read_letter(holding->letters[i]);
}

static atomic_uint working;

/* Until cancelled; some of it makes the library ask for memory and give it. */
static void *
work_on(void *arg)
{
	struct holding holding = { .random = number(arg) };
	int type;

	pthread_cleanup_push(free_holding, &holding);
	(void)atomic_fetch_add(&working, 1);
	for (;;) {
		size_t i = (size_t)draw(&holding.random) % 16;
		size_t size = draw(&holding.random) % 64 == 0 ? MIB :
		    draw_size(&holding.random);
		volatile unsigned spin = 100;

		read_letter(holding.letters[i]);
		holding.letters[i] = NULL;
		holding.letters[i] = write_letter(size, 1);
		pthread_testcancel();
		/* At any moment, but not within the library. */
		/* NOLINTNEXTLINE(cert-pos47-c) */
		(void)pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS,
		    &type);
		while (spin > 0)
			spin--;
		(void)pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &type);
	}
	pthread_cleanup_pop(0);
	return NULL;
}

static void
cancelled_threads_hold_no_lock(void)
{
	enum { ROUNDS = WATCHED ? 10 : 50 };
	unsigned cancelled = 0;

	restart(0);
	for (unsigned round = 0; round < ROUNDS; round++) {
		pthread_t threads[2];
		uint64_t random = round;

		working = 0;
		for (size_t i = 0; i < 2; i++)
			threads[i] = begin(work_on, numbered(draw(&random)));
		while (working != 2)
			(void)sched_yield();
		(void)usleep((useconds_t)(draw(&random) % 5000));
		for (size_t i = 0; i < 2; i++) {
			void *end;

			(void)pthread_cancel(threads[i]);
			if (pthread_join(threads[i], &end) == 0)
				cancelled += end == PTHREAD_CANCELED;
		}
		read_letter(write_letter(1000, round));
	}
	ok(none_wrong() && cancelled == 2 * ROUNDS && stats().objects == 0,
	    "threads may be cancelled at work, and nothing is lost or locked");
}

/* --- Fork --- */

static atomic_bool enough;

static void *
allocate_on(void *arg)
{
	struct holding holding = { .random = number(arg) };

	(void)atomic_fetch_add(&working, 1);
	while (!atomic_load(&enough)) {
		size_t i = (size_t)draw(&holding.random) % 16;

		read_letter(holding.letters[i]);
		holding.letters[i] = write_letter(
		    draw_size(&holding.random), i);
	}
	free_holding(&holding);
	return NULL;
}

/* What a child of one thread among others can do with what that one held. */
static int
use_in_child(struct letter **mine, size_t n)
{
	(void)alarm(20);
	for (size_t i = 0; i < n; i++)
		if (!letter_is_whole(mine[i]))
			return 1;
	for (size_t i = 0; i < n; i += 2)
		secfree(mine[i]);
	for (size_t i = 0; i < n; i += 2) {
		mine[i] = write_letter(16 + 40 * i, i);
		if (mine[i] == NULL)
			return 2;
	}
	for (size_t i = 0; i < n; i++)
		read_letter(mine[i]);
	for (uint64_t i = 0; i < 100; i++)
		read_letter(write_letter(16 + 16 * (size_t)i, i));
	return none_wrong() ? 0 : 3;
}

static void
children_of_one_among_threads(void)
{
	enum { OBJECTS = 64, FORKS = WATCHED ? 40 : 200 };
	struct letter *mine[OBJECTS];
	pthread_t threads[THREADS - 1];
	unsigned good = 0;

	restart(0);
	enough = false;
	working = 0;
	for (size_t i = 0; i < OBJECTS; i++)
		mine[i] = write_letter(16 + 37 * i, i);
	for (size_t i = 0; i < THREADS - 1; i++)
		threads[i] = begin(allocate_on, numbered(i + 1));
	while (working != THREADS - 1)
		(void)sched_yield();
	for (unsigned i = 0; i < FORKS; i++) {
		size_t at = i % OBJECTS;
		pid_t child;
		int status;

		/* So that what is held is old and new. */
		read_letter(mine[at]);
		mine[at] = write_letter(16 + i, i);
		if ((child = fork()) == 0)
			_exit(use_in_child(mine, OBJECTS));
		if (child == -1 || waitpid(child, &status, 0) != child)
			break;
		if (status == 0)
			good++;
		else
			diag("child %u: status %#x", i, (unsigned)status);
	}
	enough = true;
	for (size_t i = 0; i < THREADS - 1; i++)
		await(threads[i]);
	for (size_t i = 0; i < OBJECTS; i++)
		read_letter(mine[i]);
	ok(none_wrong() && good == FORKS && stats().objects == 0,
	    "a thread may fork while others allocate: its child has what it "
	    "held, and more (%u of %d)", good, (int)FORKS);
}

/* --- Before main() and after exit() --- */

static struct letter *from_the_start;
static bool ends;

static void
say(const char *line)
{
	if (write(STDOUT_FILENO, line, strlen(line)) == -1)
		_exit(99);
}

/* The order of these is that of exit(3): the last that was asked for first. */
static void
free_at_exit(void)
{
	read_letter(write_letter(500, 1));
	say("atexit\n");
}

__attribute__((constructor)) static void
allocate_at_start(void)
{
	/* To a constructor, the environment is what argv is to main(). */
	ends = getenv("SECMALLOC_TEST_ENDS") != NULL;
	if (!ends)
		return;
	(void)atexit(free_at_exit);
	start(0);
	from_the_start = write_letter(1000, 1);
	say("constructor\n");
}

__attribute__((destructor(101))) static void
free_at_end(void)
{
	if (!ends)
		return;
	read_letter(write_letter(2000, 1));
	if (from_the_start == NULL || !letter_is_whole(from_the_start))
		wrong("what was written at the start is gone");
	read_letter(from_the_start);
	if (!none_wrong())
		_exit(1);
	say("destructor\n");
}

/* Exits while threads are at work; they hold some objects for ever. */
static int
end_at_work(void)
{
	(void)atexit(free_at_exit);
	for (uint64_t i = 0; i < THREADS - 1; i++)
		(void)begin(allocate_on, numbered(i + 1));
	while (working != THREADS - 1)
		(void)sched_yield();
	say("main\n");
	return 0;
}

int
main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "ends") == 0 && ends)
		return end_at_work();
	if (argc != 1)
		bail_out("usage: threads | SECMALLOC_TEST_ENDS=1 threads ends");
	/* A lock that is held for ever is to be noticed. */
	(void)alarm(240);
	start(0);
	any_thread_frees();
	freed_memory_returns();
	ended_threads_keep_nothing();
	many_threads_leave_nothing();
	destructors_may_allocate();
	neighbours_are_freed_at_once();
	cancelled_threads_hold_no_lock();
	children_of_one_among_threads();
	secmalloc_shutdown();
	return done_testing();
}
