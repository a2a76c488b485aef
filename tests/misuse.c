/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * misuse.c: commits one misuse per run, the one that argv[1] names, for
 * misuse.bats to see how the process is stopped; it knows nothing of what is
 * said then.
 *
 * With a second argument, on_misuse is set, and does what that names; see
 * callbacks[].  Exit status: 0 if nothing stopped us, 2 if the misuse could not
 * be prepared.
 */
#include "config.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <err.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>

#include "harness.h"

enum {
	SMALL = 24,
	/* Fits neither a slot nor the first pool. */
	LARGE = 3 * 1024 * 1024,
	/* Goes into the first pool, but into no slot shared with others. */
	PAGES = 100 * 1000
};

static void (*callback)(const char *, const char *, void *);

/* Keeps the compiler from knowing where a pointer is from: we misuse it. */
static unsigned char *
launder(const void *ptr)
{
	uintptr_t address = (uintptr_t)ptr;

	__asm__ volatile ("" : "+r" (address));
	return (unsigned char *)address;
}

/* As a helper's client where the environment names one, else by ourselves. */
static int
start_with_pools(size_t pool_size)
{
	static char mine[] = "data";
	struct secmalloc_config config;

	test_config(&config, getenv("SECMALLOC_TEST_HELPER") != NULL ?
	    SECMALLOC_MODE_HELPER : SECMALLOC_MODE_INPROCESS);
	config.pool_size = pool_size;
	config.on_misuse = callback;
	config.callback_data = mine;
	return secmalloc_init(&config);
}

static int
start(void)
{
	return start_with_pools(0);
}

static unsigned char *
get(size_t size)
{
	unsigned char *p = launder(secmalloc(size));

	if (p == NULL)
		err(2, "secmalloc");
	return p;
}

static unsigned char *
get_freed(size_t size)
{
	unsigned char *p = get(size), *freed = launder(p);

	secfree(p);
	return freed;
}

/* BODY in a thread of its own, which has ended when this returns. */
static void
in_thread(void *(*body)(void *), void *arg)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, body, arg) != 0 ||
	    pthread_join(thread, NULL) != 0)
		errx(2, "no thread");
}

static void *
free_it(void *p)
{
	secfree(p);
	return NULL;
}

/* A byte other than the one that is there. */
static void
damage(unsigned char *p)
{
	*(volatile unsigned char *)p = (unsigned char)~*p;
}

/* The one byte that an unterminated string is read past: a NUL. */
static void
terminate(unsigned char *p)
{
	*(volatile unsigned char *)p = 0;
}

static void
nothing(void)
{
	unsigned char *small = get(SMALL), *large = get(LARGE);

	memset(small, 'x', SMALL);
	memset(large, 'x', LARGE);
	small = secrealloc(small, SMALL + 1);
	if (small == NULL)
		err(2, "secrealloc");
	(void)secmalloc_usable_size(small);
	secfree(NULL);
	secfree(small);
	secfree(large);
	secmalloc_shutdown();
}

static void
double_free_small(void)
{
	secfree(get_freed(SMALL));
}

static void
double_free_small_among_others(void)
{
	unsigned char *objects[64], *freed;

	for (size_t i = 0; i < 64; i++)
		objects[i] = get(SMALL);
	freed = launder(objects[33]);
	for (size_t i = 0; i < 64; i += 3)
		secfree(objects[i]);
	secfree(freed);
}

/* Out of every cache, for all that is known of any. */
static void
double_free_after_many(void)
{
	enum { MANY = 10000 };
	static unsigned char *objects[MANY];
	unsigned char *p = get(SMALL), *freed = launder(p);

	for (size_t i = 0; i < MANY; i++)
		objects[i] = get(SMALL);
	secfree(p);
	for (size_t i = 0; i < MANY; i++)
		secfree(objects[i]);
	secfree(freed);
}

static void
double_free_after_other_sizes(void)
{
	unsigned char *objects[64], *freed = get(SMALL), *other;

	for (size_t i = 0; i < 64; i++)
		objects[i] = get(i * i * 16);
	other = launder(freed);
	secfree(freed);
	for (size_t i = 0; i < 64; i++)
		secfree(objects[i]);
	secfree(other);
}

static void
double_free_by_another_thread(void)
{
	in_thread(free_it, get_freed(SMALL));
}

static void
double_free_after_another_thread(void)
{
	unsigned char *p = get(SMALL), *freed = launder(p);

	in_thread(free_it, p);
	secfree(freed);
}

static void
double_free_aligned(void)
{
	unsigned char *p = launder(secaligned_alloc(4096, SMALL)), *freed;

	if (p == NULL)
		err(2, "secaligned_alloc");
	freed = launder(p);
	secfree(p);
	secfree(freed);
}

/* Whether its pool is still there is not promised. */
static void
double_free_large(void)
{
	secfree(get_freed(LARGE));
}

static void
double_free_pages(void)
{
	secfree(get_freed(PAGES));
}

static void
double_free_empty(void)
{
	secfree(get_freed(0));
}

static void
double_free_after_realloc(void)
{
	unsigned char *p = get(SMALL), *old = launder(p);

	p = secrealloc(p, PAGES);
	if (p == NULL || p == old)
		errx(2, "the object did not move");
	secfree(old);
}

static void
double_free_after_realloc_in_place(void)
{
	unsigned char *p = get(SMALL - 1), *old = launder(p);

	p = launder(secrealloc(p, SMALL));
	if (p != old)
		errx(2, "the object moved");
	old = launder(p);
	secfree(p);
	secfree(old);
}

static void
foreign_stack(void)
{
	unsigned char array[64] = {0};

	secfree(launder(array + 16));
}

static void
foreign_heap(void)
{
	secfree(launder(malloc(SMALL)));
}

static void
foreign_heap_page(void)
{
	void *p;

	if (posix_memalign(&p, (size_t)sysconf(_SC_PAGESIZE), LARGE) != 0)
		errx(2, "posix_memalign");
	secfree(launder(p));
}

static void
foreign_unaligned(void)
{
	secfree(launder(malloc(SMALL)) + 3);
}

static void
foreign_code(void)
{
	secfree(launder((const void *)(uintptr_t)&get));
}

static void
foreign_static(void)
{
	static unsigned char array[64];

	secfree(launder(array));
}

static void
foreign_unmapped(void)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	void *p = mmap(NULL, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1,
	    0);

	if (p == MAP_FAILED || munmap(p, page) == -1)
		err(2, "mmap");
	secfree(launder(p));
}

static void
foreign_low(void)
{
	secfree(launder((void *)(uintptr_t)16));
}

static void
foreign_high(void)
{
	secfree(launder((void *)(UINTPTR_MAX - 15)));
}

static void
foreign_realloc(void)
{
	(void)!secrealloc(launder(malloc(SMALL)), 2 * SMALL);
}

static void
foreign_reallocarray(void)
{
	(void)!secreallocarray(launder(malloc(SMALL)), 2, SMALL);
}

static void
foreign_usable_size_low(void)
{
	(void)secmalloc_usable_size(launder((void *)(uintptr_t)1));
}

static void
foreign_usable_size_stack(void)
{
	unsigned char array[64] = {0};

	(void)secmalloc_usable_size(launder(array));
}

static void
foreign_usable_size(void)
{
	(void)secmalloc_usable_size(launder(malloc(SMALL)));
}

static void
after_shutdown(void)
{
	unsigned char *p = get(SMALL);

	secmalloc_shutdown();
	secfree(p);
}

static void
after_shutdown_and_start(void)
{
	unsigned char *p = get(LARGE);

	secmalloc_shutdown();
	if (start() == -1)
		err(2, "secmalloc_init");
	secfree(p);
}

/* Fills pools of their own, empties them, and takes one that is gone. */
static void
released_pool(void)
{
	enum { BURST = 4 };
	unsigned char *burst[BURST], *freed[BURST];
	int ends[2];

	if (pipe(ends) == -1)
		err(2, "pipe");
	for (size_t i = 0; i < BURST; i++) {
		burst[i] = get(LARGE);
		freed[i] = launder(burst[i]);
	}
	for (size_t i = 0; i < BURST; i++)
		secfree(burst[i]);
	for (size_t i = 0; i < BURST; i++)
		/* The kernel tells whether it can be read. */
		if (write(ends[1], freed[i], 1) == -1 && errno == EFAULT)
			secfree(freed[i]);
	errx(2, "no pool went back");
}

static void
interior_small(void)
{
	secfree(get(SMALL) + 8);
}

/* Where a slot of the smallest size might begin. */
static void
interior_sixteen(void)
{
	secfree(get(100) + 16);
}

static void
interior_aligned(void)
{
	unsigned char *p = launder(secaligned_alloc(1024, 2048));

	if (p == NULL)
		err(2, "secaligned_alloc");
	secfree(p + 1024);
}

static void
interior_large_page(void)
{
	secfree(get(LARGE) + 100 * (size_t)sysconf(_SC_PAGESIZE));
}

static void
interior_reallocarray(void)
{
	(void)!secreallocarray(get(PAGES) + 16, 2, PAGES);
}

static void
interior_realloc_zero(void)
{
	(void)!secrealloc(get(SMALL) + 8, 0);
}

static void
interior_usable_size_pages(void)
{
	(void)secmalloc_usable_size(get(PAGES) + PAGES / 2);
}

static void
interior_one(void)
{
	secfree(get(SMALL) + 1);
}

static void
interior_end(void)
{
	secfree(get(SMALL) + SMALL);
}

static void
interior_pages(void)
{
	secfree(get(PAGES) + (size_t)sysconf(_SC_PAGESIZE));
}

static void
interior_large(void)
{
	secfree(get(LARGE) + LARGE / 2);
}

static void
interior_large_last(void)
{
	secfree(get(LARGE) + LARGE - 1);
}

static void
interior_realloc(void)
{
	(void)!secrealloc(get(SMALL) + 8, 2 * SMALL);
}

static void
interior_usable_size(void)
{
	(void)secmalloc_usable_size(get(SMALL) + 8);
}

static void
overflow_small(void)
{
	unsigned char *p = get(SMALL);

	damage(p + SMALL);
	secfree(p);
}

static void
overflow_empty(void)
{
	unsigned char *p = get(0);

	damage(p);
	secfree(p);
}

static void
overflow_pages(void)
{
	unsigned char *p = get(PAGES);

	damage(p + PAGES);
	secfree(p);
}

static void
overflow_large(void)
{
	unsigned char *p = get(LARGE);

	damage(p + LARGE);
	secfree(p);
}

static void
overflow_aligned(void)
{
	unsigned char *p = launder(secaligned_alloc(1024, SMALL));

	if (p == NULL)
		err(2, "secaligned_alloc");
	damage(p + SMALL);
	secfree(p);
}

static void
overflow_shrunk(void)
{
	unsigned char *p = launder(secrealloc(get(SMALL), SMALL - 1));

	if (p == NULL)
		err(2, "secrealloc");
	damage(p + SMALL - 1);
	secfree(p);
}

static void
overflow_nul(void)
{
	unsigned char *p = get(SMALL);

	memset(p, 'x', SMALL);
	terminate(p + SMALL);
	secfree(p);
}

static void
overflow_nul_large(void)
{
	unsigned char *p = get(LARGE);

	terminate(p + LARGE);
	secfree(p);
}

static void
overflow_strdup(void)
{
	unsigned char *p = launder(secstrdup("a secret"));

	if (p == NULL)
		err(2, "secstrdup");
	damage(p + sizeof("a secret"));
	secfree(p);
}

static void
overflow_realloc_grow(void)
{
	unsigned char *p = get(SMALL);

	damage(p + SMALL);
	(void)!secrealloc(p, LARGE);
}

static void
overflow_realloc_shrink(void)
{
	unsigned char *p = get(SMALL);

	damage(p + SMALL);
	(void)!secrealloc(p, 1);
}

static void
overflow_realloc_zero(void)
{
	unsigned char *p = get(SMALL);

	damage(p + SMALL);
	(void)!secrealloc(p, 0);
}

static void
overflow_reallocarray(void)
{
	unsigned char *p = get(PAGES);

	damage(p + PAGES);
	(void)!secreallocarray(p, 2, PAGES);
}

/*
 * Two objects side by side, of which the first one's canary ends where the
 * second begins; there are some among many.
 */
static void
get_neighbours(unsigned char **first, unsigned char **second)
{
	enum { MANY = 1024 };
	unsigned char *objects[MANY];

	for (size_t i = 0; i < MANY; i++) {
		objects[i] = get(SMALL);
		for (size_t j = 0; j < i; j++) {
			bool before = objects[i] < objects[j];

			*first = before ? objects[i] : objects[j];
			*second = before ? objects[j] : objects[i];
			if (*second - *first == SMALL + 8)
				return;
		}
	}
	errx(2, "no two objects are neighbours");
}

static void
underflow(void)
{
	unsigned char *first, *second;

	get_neighbours(&first, &second);
	damage(second - 1);
	secfree(second);
	secfree(first);
}

static void
underflow_realloc(void)
{
	unsigned char *first, *second;

	get_neighbours(&first, &second);
	damage(second - 1);
	(void)!secrealloc(first, 1000);
}

/* Gets objects of SIZE until WAS, which was written to, comes back. */
static void
get_again(size_t size, const unsigned char *was, void *(*getter)(size_t))
{
	/* Within the limits of an ordinary process. */
	const size_t bytes = 4 * 1024 * 1024;

	for (size_t n = bytes / (size + 16); n > 0; n--) {
		const unsigned char *p = launder(getter(size));

		if (p == NULL)
			err(2, "no object");
		if (was >= p && was < p + size + 8)
			errx(3, "it was handed out");
	}
	errx(2, "it did not come back");
}

static void *
by_calloc(size_t size)
{
	return seccalloc(1, size);
}

static void *
by_aligned_alloc(size_t size)
{
	return secaligned_alloc(16, size);
}

/* It moves there. */
static void *
by_realloc(size_t size)
{
	return secrealloc(get(PAGES), size);
}

static void *
by_reallocarray(size_t size)
{
	return secreallocarray(NULL, 1, size);
}

static void *
by_strdup(size_t size)
{
	char string[200];

	memset(string, 'x', sizeof(string));
	string[size - 1] = '\0';
	return secstrdup(string);
}

static void *
by_strndup(size_t size)
{
	char string[200];

	memset(string, 'x', sizeof(string));
	return secstrndup(string, size - 1);
}

static void
written_and_got(void *(*getter)(size_t))
{
	unsigned char *freed = get_freed(100);

	damage(freed + 50);
	get_again(100, freed + 50, getter);
}

static void
written_malloc(void)
{
	written_and_got(secmalloc);
}

static void
written_calloc(void)
{
	written_and_got(by_calloc);
}

static void
written_aligned_alloc(void)
{
	written_and_got(by_aligned_alloc);
}

static void
written_realloc(void)
{
	written_and_got(by_realloc);
}

static void
written_reallocarray(void)
{
	written_and_got(by_reallocarray);
}

static void
written_strdup(void)
{
	written_and_got(by_strdup);
}

static void
written_strndup(void)
{
	written_and_got(by_strndup);
}

/* What another thread freed, and kept if it keeps anything, comes from it. */
static void
written_thread(void)
{
	unsigned char *p = get(100), *freed = launder(p);

	in_thread(free_it, p);
	damage(freed + 99);
	get_again(100, freed + 99, secmalloc);
}

/* One byte before an object, where nothing lives. */
static void
written_underflow(void)
{
	unsigned char *first, *second, *freed;

	get_neighbours(&first, &second);
	freed = launder(first);
	secfree(first);
	damage(second - 1);
	get_again(SMALL, freed, secmalloc);
}

static void
freed_realloc_moved(void)
{
	unsigned char *p = get(SMALL), *old = launder(p);

	p = secrealloc(p, PAGES);
	if (p == NULL || p == old)
		errx(2, "the object did not move");
	(void)!secrealloc(old, SMALL);
}

static void
freed_realloc(void)
{
	(void)!secrealloc(get_freed(SMALL), 2 * SMALL);
}

static void
freed_realloc_pages(void)
{
	(void)!secrealloc(get_freed(PAGES), 2 * PAGES);
}

static void
double_free_by_realloc(void)
{
	(void)!secrealloc(get_freed(SMALL), 0);
}

static void
freed_reallocarray(void)
{
	(void)!secreallocarray(get_freed(SMALL), 2, SMALL);
}

static void
freed_usable_size(void)
{
	(void)secmalloc_usable_size(get_freed(SMALL));
}

static void
freed_usable_size_pages(void)
{
	(void)secmalloc_usable_size(get_freed(PAGES));
}

static void
fork_and_leave(int sig)
{
	pid_t child = fork();

	(void)sig;
	if (child == 0)
		_exit(0);
	if (child == -1 || waitpid(child, NULL, 0) != child)
		_exit(2);
	_exit(7);
}

/* As one that reports crashes does.  SIGALRM says that it hangs. */
static void
fork_when_stopped(void)
{
	struct sigaction action = { .sa_handler = fork_and_leave };

	if (sigaction(SIGABRT, &action, NULL) == -1)
		err(2, "sigaction");
	(void)alarm(5);
	double_free_small();
}

/* Each of which misuses when all are there. */
static void *
misuse_together(void *barrier)
{
	unsigned char *freed = get_freed(SMALL);

	(void)pthread_barrier_wait(barrier);
	secfree(freed);
	return NULL;
}

static void
threads_at_once(void)
{
	enum { THREADS = 8 };
	pthread_t threads[THREADS];
	pthread_barrier_t barrier;

	if (pthread_barrier_init(&barrier, NULL, THREADS) != 0)
		errx(2, "no barrier");
	(void)alarm(5);
	for (size_t i = 0; i < THREADS; i++)
		if (pthread_create(&threads[i], NULL, misuse_together,
		    &barrier) != 0)
			errx(2, "no thread");
	for (size_t i = 0; i < THREADS; i++)
		(void)pthread_join(threads[i], NULL);
}

/* Ends at the next call that lets it, such as write(2). */
static void *
misuse_cancelled(void *freed)
{
	(void)pthread_cancel(pthread_self());
	secfree(freed);
	return NULL;
}

static void
cancelled_when_stopped(void)
{
	in_thread(misuse_cancelled, get_freed(SMALL));
}

/* Pointers of every kind, to which the answer is no, and nothing else. */
static void
questions(void)
{
	unsigned char array[16] = {0}, *large = get(LARGE), *p;
	unsigned char *other = malloc(SMALL);

	(void)alarm(5);
	if (!secmalloc_is_secure(large) ||
	    !secmalloc_is_secure(large + LARGE - 1) ||
	    !secmalloc_is_secure(get(SMALL) + 1))
		exit(1);
	p = get(SMALL);
	if (secmalloc_is_secure(p + SMALL) || secmalloc_is_secure(p - 1) ||
	    secmalloc_is_secure(large + LARGE) ||
	    secmalloc_is_secure(get_freed(SMALL)) ||
	    secmalloc_is_secure(get_freed(PAGES) + 1) ||
	    secmalloc_is_secure(get_freed(LARGE) + LARGE / 2) ||
	    secmalloc_is_secure(NULL) || secmalloc_is_secure(launder(array)) ||
	    secmalloc_is_secure(other) ||
	    secmalloc_is_secure(launder((void *)(uintptr_t)1)) ||
	    secmalloc_is_secure(launder((void *)UINTPTR_MAX)))
		exit(1);
	if (secmalloc_usable_size(NULL) != 0)
		exit(1);
	free(other);
}

static void at_every_size(void);
static void at_every_small_size(void);
static void by_every_byte(void);
static void written_at_every_place(void);

static const struct {
	const char *name;
	void (*commit)(void);
} misuses[] = {
	{"nothing", nothing},
	{"double-free-small", double_free_small},
	{"double-free-small-among-others", double_free_small_among_others},
	{"double-free-after-many", double_free_after_many},
	{"double-free-after-other-sizes", double_free_after_other_sizes},
	{"double-free-by-another-thread", double_free_by_another_thread},
	{"double-free-after-another-thread",
	    double_free_after_another_thread},
	{"double-free-aligned", double_free_aligned},
	{"double-free-pages", double_free_pages},
	{"double-free-empty", double_free_empty},
	{"double-free-after-realloc", double_free_after_realloc},
	{"double-free-after-realloc-in-place",
	    double_free_after_realloc_in_place},
	{"double-free-by-realloc", double_free_by_realloc},
	{"foreign-stack", foreign_stack},
	{"foreign-heap", foreign_heap},
	{"foreign-heap-page", foreign_heap_page},
	{"foreign-unaligned", foreign_unaligned},
	{"foreign-code", foreign_code},
	{"foreign-static", foreign_static},
	{"foreign-unmapped", foreign_unmapped},
	{"foreign-low", foreign_low},
	{"foreign-high", foreign_high},
	{"foreign-before-start", foreign_heap},
	{"foreign-realloc", foreign_realloc},
	{"foreign-reallocarray", foreign_reallocarray},
	{"foreign-usable-size", foreign_usable_size},
	{"foreign-usable-size-low", foreign_usable_size_low},
	{"foreign-usable-size-stack", foreign_usable_size_stack},
	{"after-shutdown", after_shutdown},
	{"after-shutdown-and-start", after_shutdown_and_start},
	{"released-pool", released_pool},
	{"interior-small", interior_small},
	{"interior-one", interior_one},
	{"interior-sixteen", interior_sixteen},
	{"interior-end", interior_end},
	{"interior-aligned", interior_aligned},
	{"interior-pages", interior_pages},
	{"interior-large", interior_large},
	{"interior-large-page", interior_large_page},
	{"interior-large-last", interior_large_last},
	{"interior-realloc", interior_realloc},
	{"interior-realloc-zero", interior_realloc_zero},
	{"interior-reallocarray", interior_reallocarray},
	{"interior-usable-size", interior_usable_size},
	{"interior-usable-size-pages", interior_usable_size_pages},
	{"overflow-small", overflow_small},
	{"overflow-empty", overflow_empty},
	{"overflow-pages", overflow_pages},
	{"overflow-large", overflow_large},
	{"overflow-aligned", overflow_aligned},
	{"overflow-shrunk", overflow_shrunk},
	{"overflow-nul", overflow_nul},
	{"overflow-nul-large", overflow_nul_large},
	{"overflow-strdup", overflow_strdup},
	{"overflow-realloc-grow", overflow_realloc_grow},
	{"overflow-realloc-shrink", overflow_realloc_shrink},
	{"overflow-realloc-zero", overflow_realloc_zero},
	{"overflow-reallocarray", overflow_reallocarray},
	{"underflow", underflow},
	{"underflow-realloc", underflow_realloc},
	{"freed-realloc", freed_realloc},
	{"freed-realloc-moved", freed_realloc_moved},
	{"freed-realloc-pages", freed_realloc_pages},
	{"freed-reallocarray", freed_reallocarray},
	{"freed-usable-size", freed_usable_size},
	{"freed-usable-size-pages", freed_usable_size_pages},
	{"written-malloc", written_malloc},
	{"written-calloc", written_calloc},
	{"written-aligned-alloc", written_aligned_alloc},
	{"written-realloc", written_realloc},
	{"written-reallocarray", written_reallocarray},
	{"written-strdup", written_strdup},
	{"written-strndup", written_strndup},
	{"written-thread", written_thread},
	{"written-underflow", written_underflow}
}, others[] = {
	/* Which row of the table is theirs depends. */
	{"large-twice", double_free_large},
	{"threads-at-once", threads_at_once},
	{"cancelled-when-stopped", cancelled_when_stopped},
	/* Ends by itself, with status 7. */
	{"fork-when-stopped", fork_when_stopped},
	/* No misuse. */
	{"questions", questions}
}, sweeps[] = {
	/* Not one misuse but all of one kind, in children; see there. */
	{"every-size", at_every_size},
	{"every-small-size", at_every_small_size},
	{"every-byte", by_every_byte},
	{"every-place", written_at_every_place}
};

/* --- Misuses of one kind in children --- */

#define OVERFLOW "libsecmalloc: secfree(): overflow past the end of an object\n"
#define WRITTEN "libsecmalloc: secmalloc(): " \
	"memory was written to after it was freed\n"

/* A misuse of an object of SIZE bytes, of which VALUE says more. */
typedef void misuse(size_t size, unsigned value);

/*
 * 1, and says so, if COMMIT is not stopped with the words SAID; in a child that
 * starts the library for itself.  Without SAID it is a control, and the child
 * must end by itself.
 */
static unsigned
unnoticed(misuse *commit, size_t size, unsigned value, const char *said)
{
	static int errors = -1;
	char got[256];
	ssize_t length;
	pid_t child;
	int status;

	if (errors == -1)
		errors = memfd_create("stderr", MFD_CLOEXEC);
	if (errors == -1 || ftruncate(errors, 0) == -1 ||
	    lseek(errors, 0, SEEK_SET) == -1 || (child = fork()) == -1)
		err(2, "child");
	if (child == 0) {
		if (dup2(errors, STDERR_FILENO) == -1 ||
		    start_with_pools(size <= 4096 ? 65536 : 0) == -1)
			_exit(3);
		commit(size, value);
		_exit(0);
	}
	if (waitpid(child, &status, 0) == -1 ||
	    (length = pread(errors, got, sizeof(got) - 1, 0)) == -1)
		err(2, "waitpid");
	got[length] = '\0';
	if (said == NULL ? status == 0 && length == 0 :
	    WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT &&
	    strcmp(got, said) == 0)
		return 0;
	printf("%zu bytes, %u: status %#x, said: %s\n", size, value,
	    (unsigned)status, got);
	return 1;
}

static void
use(size_t size, unsigned value)
{
	unsigned char *p = get(size);

	memset(p, (int)value, size);
	secfree(p);
}

/* Byte VALUE beyond the end. */
static void
overflow_at(size_t size, unsigned value)
{
	unsigned char *p = get(size);

	memset(p, 'x', size);
	damage(p + size + value);
	secfree(p);
}

/* VALUE where none should be; what is there is one of 256, and no misuse. */
static void
overflow_with(size_t size, unsigned value)
{
	unsigned char *p = get(size), was = p[size];

	*(volatile unsigned char *)(p + size) = (unsigned char)value;
	if (was == value)
		damage(p + size);
	secfree(p);
}

/* Once it is freed: the first byte, one in the middle, or the last. */
static void
write_freed(size_t size, unsigned value)
{
	unsigned char *freed = get_freed(size);
	size_t at = value == 0 ? 0 : value == 1 ? size / 2 : size - 1;

	damage(freed + at);
	get_again(size, freed + at, secmalloc);
}

static void
overwrite_freed(size_t size, unsigned value)
{
	unsigned char *freed = get_freed(size);

	for (size_t i = 0; i < size; i++)
		((volatile unsigned char *)freed)[i] = (unsigned char)value;
	get_again(size, freed, secmalloc);
}

__attribute__((noreturn)) static void
end_sweep(unsigned bad)
{
	fflush(stdout);
	exit(bad == 0 ? 0 : 1);
}

static void
at_every_size(void)
{
	enum { DENSE = 272, LAST = 512 * 1024 };
	unsigned bad = 0;

	for (size_t size = 0; size <= DENSE; size++)
		bad += unnoticed(overflow_at, size, 0, OVERFLOW);
	/* Eighths between powers of two, where classes and pages end. */
	for (size_t power = DENSE - 16; power < LAST; power *= 2)
		for (size_t at = power; at < 2 * power; at += power / 8)
			for (size_t size = at - 1; size <= at + 1; size++)
				bad += unnoticed(overflow_at, size, 0,
				    OVERFLOW);
	for (size_t size = 15; size < LAST; size = 2 * size + 1) {
		bad += unnoticed(overflow_with, size, 0, OVERFLOW);
		bad += unnoticed(use, size, 0, NULL);
	}
	end_sweep(bad);
}

static void
at_every_small_size(void)
{
	unsigned bad = 0;

	for (size_t size = 1; size <= 4096; size++)
		bad += unnoticed(overflow_at, size, 0, OVERFLOW);
	end_sweep(bad);
}

static void
by_every_byte(void)
{
	static const size_t sizes[] = {SMALL, 1001, PAGES};
	unsigned bad = 0;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		for (unsigned at = 0; at < 8; at++)
			bad += unnoticed(overflow_at, sizes[i], at, OVERFLOW);
	for (unsigned value = 0; value < 256; value++)
		bad += unnoticed(overflow_with, SMALL, value, OVERFLOW);
	/* One too far of a string is a NUL: none may be there already. */
	if (start() == -1)
		err(2, "secmalloc_init");
	for (size_t size = 0; size < 20000; size++) {
		unsigned char *p = get(size % 5000);

		if (p[size % 5000] == 0) {
			printf("%zu bytes: a NUL is behind them\n", size);
			bad++;
		}
		secfree(p);
	}
	end_sweep(bad);
}

static void
written_at_every_place(void)
{
	static const size_t sizes[] = {1, 16, 64, 100, 200, 400, 500};
	static const size_t larger[] = {600, 1000, 4000, 16000};
	unsigned bad = 0;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		for (unsigned place = 0; place < 3; place++)
			bad += unnoticed(write_freed, sizes[i], place,
			    WRITTEN);
		bad += unnoticed(use, sizes[i], 'x', NULL);
	}
	/* Of these not every byte need be looked at. */
	for (size_t i = 0; i < sizeof(larger) / sizeof(larger[0]); i++)
		bad += unnoticed(overwrite_freed, larger[i], 'x', WRITTEN);
	end_sweep(bad);
}

/* --- What on_misuse does --- */

static void
tell(const char *function, const char *what, void *data)
{
	dprintf(STDOUT_FILENO, "%s|%s|%s\n", function, what,
	    (const char *)data);
}

/* Where the library writes, and slowly. */
static void
tell_there(const char *function, const char *what, void *data)
{
	(void)function;
	(void)what;
	(void)data;
	(void)usleep(20000);
	if (write(STDERR_FILENO, "told\n", 5) != 5)
		_exit(2);
}

static void
crash(const char *function, const char *what, void *data)
{
	tell_there(function, what, data);
	(void)signal(SIGSEGV, SIG_DFL);
	(void)raise(SIGSEGV);
}

static void
misuse_again(const char *function, const char *what, void *data)
{
	tell_there(function, what, data);
	(void)alarm(5);
	secfree(launder(data));
}

/* A child, which can do what a child can. */
static void
report_in_child(const char *function, const char *what, void *data)
{
	pid_t child;
	int status;

	(void)alarm(5);
	if ((child = fork()) == 0) {
		unsigned char *p = secmalloc(SMALL);

		secfree(p);
		tell_there(function, what, data);
		_exit(p == NULL);
	}
	if (child == -1 || waitpid(child, &status, 0) != child || status != 0)
		_exit(2);
}

static const struct {
	const char *name;
	void (*function)(const char *, const char *, void *);
} callbacks[] = {
	{"tell", tell},
	{"tell-there", tell_there},
	{"crash", crash},
	{"misuse", misuse_again},
	{"fork", report_in_child}
};

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

int
main(int argc, char **argv)
{
	const struct rlimit no_core = {0, 0};

	if (argc < 2 || argc > 3)
		errx(2, "usage: misuse NAME [CALLBACK] | misuse --list");
	for (size_t i = 0; argc == 3 && i < COUNT(callbacks); i++)
		if (strcmp(argv[2], callbacks[i].name) == 0)
			callback = callbacks[i].function;
	if (argc == 3 && callback == NULL)
		errx(2, "no such callback: %s", argv[2]);
	(void)setrlimit(RLIMIT_CORE, &no_core);
	for (size_t i = 0; i < COUNT(sweeps); i++)
		if (strcmp(argv[1], sweeps[i].name) == 0)
			sweeps[i].commit();
	if (strcmp(argv[1], "foreign-before-start") != 0 &&
	    strcmp(argv[1], "--list") != 0 && start() == -1)
		err(2, "secmalloc_init");
	for (size_t i = 0; i < COUNT(misuses); i++) {
		if (strcmp(argv[1], "--list") == 0)
			puts(misuses[i].name);
		if (strcmp(argv[1], misuses[i].name) != 0)
			continue;
		misuses[i].commit();
		return 0;
	}
	for (size_t i = 0; i < COUNT(others); i++)
		if (strcmp(argv[1], others[i].name) == 0) {
			others[i].commit();
			return 0;
		}
	if (strcmp(argv[1], "--list") != 0)
		errx(2, "no such misuse: %s", argv[1]);
	return 0;
}
