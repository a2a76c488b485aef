/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * misuse.c: commits one misuse per run, the one that argv[1] names, for
 * misuse.bats to see how the process is stopped; it knows nothing of what is
 * said then.
 *
 * With a second argument, on_misuse is set and writes what it is told to
 * standard output.  Exit status: 0 if nothing stopped us, 2 if the misuse could
 * not be prepared.
 */
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <err.h>
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

static bool with_callback;

/* Keeps the compiler from knowing where a pointer is from: we misuse it. */
static unsigned char *
launder(const void *ptr)
{
	uintptr_t address = (uintptr_t)ptr;

	__asm__ volatile ("" : "+r" (address));
	return (unsigned char *)address;
}

static void
told(const char *function, const char *what, void *data)
{
	dprintf(STDOUT_FILENO, "%s|%s|%s\n", function, what,
	    (const char *)data);
}

/* As a helper's client where the environment names one, else by ourselves. */
static int
start(void)
{
	static char mine[] = "data";
	struct secmalloc_config config;

	test_config(&config, getenv("SECMALLOC_TEST_HELPER") != NULL ?
	    SECMALLOC_MODE_HELPER : SECMALLOC_MODE_INPROCESS);
	if (with_callback) {
		config.on_misuse = told;
		config.callback_data = mine;
	}
	return secmalloc_init(&config);
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
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	for (size_t i = 0; i < BURST; i++) {
		burst[i] = get(LARGE);
		freed[i] = launder(burst[i]);
	}
	for (size_t i = 0; i < BURST; i++)
		secfree(burst[i]);
	for (size_t i = 0; i < BURST; i++)
		if (msync(freed[i] - (uintptr_t)freed[i] % page, page,
		    MS_ASYNC) == -1 && errno == ENOMEM)
			secfree(freed[i]);
	errx(2, "no pool went back");
}

static void
interior_small(void)
{
	secfree(get(SMALL) + 8);
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

static void unnoticed_at_every_size(void);

static const struct {
	const char *name;
	void (*commit)(void);
	/* Commits it without a start of the library. */
	bool unstarted;
} misuses[] = {
	{"nothing", nothing, false},
	{"double-free-small", double_free_small, false},
	{"double-free-small-among-others", double_free_small_among_others,
	    false},
	{"double-free-pages", double_free_pages, false},
	{"double-free-empty", double_free_empty, false},
	{"double-free-after-realloc", double_free_after_realloc, false},
	{"double-free-by-realloc", double_free_by_realloc, false},
	{"foreign-stack", foreign_stack, false},
	{"foreign-heap", foreign_heap, false},
	{"foreign-static", foreign_static, false},
	{"foreign-unmapped", foreign_unmapped, false},
	{"foreign-low", foreign_low, false},
	{"foreign-high", foreign_high, false},
	{"foreign-before-start", foreign_heap, true},
	{"foreign-realloc", foreign_realloc, false},
	{"foreign-reallocarray", foreign_reallocarray, false},
	{"foreign-usable-size", foreign_usable_size, false},
	{"after-shutdown", after_shutdown, false},
	{"after-shutdown-and-start", after_shutdown_and_start, false},
	{"released-pool", released_pool, false},
	{"interior-small", interior_small, false},
	{"interior-one", interior_one, false},
	{"interior-end", interior_end, false},
	{"interior-pages", interior_pages, false},
	{"interior-large", interior_large, false},
	{"interior-large-last", interior_large_last, false},
	{"interior-realloc", interior_realloc, false},
	{"interior-usable-size", interior_usable_size, false},
	{"overflow-small", overflow_small, false},
	{"overflow-empty", overflow_empty, false},
	{"overflow-pages", overflow_pages, false},
	{"overflow-large", overflow_large, false},
	{"overflow-aligned", overflow_aligned, false},
	{"overflow-shrunk", overflow_shrunk, false},
	{"overflow-nul", overflow_nul, false},
	{"overflow-nul-large", overflow_nul_large, false},
	{"overflow-strdup", overflow_strdup, false},
	{"overflow-realloc-grow", overflow_realloc_grow, false},
	{"overflow-realloc-shrink", overflow_realloc_shrink, false},
	{"overflow-realloc-zero", overflow_realloc_zero, false},
	{"overflow-reallocarray", overflow_reallocarray, false},
	{"freed-realloc", freed_realloc, false},
	{"freed-realloc-pages", freed_realloc_pages, false},
	{"freed-reallocarray", freed_reallocarray, false},
	{"freed-usable-size", freed_usable_size, false},
	{"freed-usable-size-pages", freed_usable_size_pages, false},
	/* Ends by itself, with status 7. */
	{"fork-when-stopped", fork_when_stopped, false},
	/* Not one misuse but all of one kind, in children; see there. */
	{"every-size", unnoticed_at_every_size, true}
};

/*
 * 1, and says so, if what SPOIL does beyond the end of an object of SIZE bytes
 * goes unnoticed; in a child that starts the library for itself.  Without SPOIL
 * it is the control: the child must survive.
 */
static unsigned
unnoticed(size_t size, void (*spoil)(unsigned char *), const char *how)
{
	pid_t child = fork();
	int status;

	if (child == -1)
		err(2, "fork");
	if (child == 0) {
		unsigned char *p;

		/* Its message is the table's business. */
		if (freopen("/dev/null", "w", stderr) == NULL || start() == -1)
			_exit(3);
		p = get(size);
		memset(p, 'x', size);
		if (spoil != NULL)
			spoil(p + size);
		secfree(p);
		_exit(0);
	}
	if (waitpid(child, &status, 0) == -1)
		err(2, "waitpid");
	if (spoil == NULL ? status == 0 :
	    WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT)
		return 0;
	printf("%zu bytes, %s: status %#x\n", size, how, (unsigned)status);
	return 1;
}

static void
unnoticed_at_every_size(void)
{
	enum { DENSE = 272, LAST = 512 * 1024 };
	unsigned bad = 0;

	for (size_t size = 0; size <= DENSE; size++)
		bad += unnoticed(size, damage, "changed");
	/* Eighths between powers of two, where classes and pages end. */
	for (size_t power = DENSE - 16; power < LAST; power *= 2)
		for (size_t at = power; at < 2 * power; at += power / 8)
			for (size_t size = at - 1; size <= at + 1; size++) {
				bad += unnoticed(size, damage, "changed");
				if (size % 2 == 1)
					bad += unnoticed(size, terminate,
					    "made a NUL");
			}
	for (size_t size = 15; size < LAST; size = 2 * size + 1) {
		bad += unnoticed(size, terminate, "made a NUL");
		bad += unnoticed(size, NULL, "untouched");
	}
	fflush(stdout);
	exit(bad == 0 ? 0 : 1);
}

int
main(int argc, char **argv)
{
	const struct rlimit no_core = {0, 0};

	if (argc < 2 || argc > 3)
		errx(2, "usage: misuse NAME [callback] | misuse --list");
	with_callback = argc == 3;
	(void)setrlimit(RLIMIT_CORE, &no_core);
	for (size_t i = 0; i < sizeof(misuses) / sizeof(misuses[0]); i++) {
		if (strcmp(argv[1], "--list") == 0) {
			puts(misuses[i].name);
			continue;
		}
		if (strcmp(argv[1], misuses[i].name) != 0)
			continue;
		if (!misuses[i].unstarted && start() == -1)
			err(2, "secmalloc_init");
		misuses[i].commit();
		return 0;
	}
	if (strcmp(argv[1], "--list") != 0)
		errx(2, "no such misuse: %s", argv[1]);
	return 0;
}
