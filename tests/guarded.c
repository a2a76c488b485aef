/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * guarded.c: runs off guarded objects and against their limits, in every state
 * that secmalloc_protect() can bring them to; knows nothing of how they are
 * made.
 *
 * argv[1] says who locks, and so as whom the workers run: "helper" (nobody, who
 * may lock nothing) or "inprocess" (root); or it is "cost", which compares
 * secmalloc_protect() with bare mprotect(), in turns and in one process.
 */
#include "config.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/syscall.h>

#include "children.h"

#define KIB ((size_t)1024)
#define MIB (1024 * KIB)

enum {
	SMALL = 77, /* in the middle of whatever words a processor has */
	ROUNDS = WATCHED ? 20 : 100,
	THREADS = 4
};

static int mode;
static size_t page;

static void
become_user(rlim_t memlock)
{
	if (mode == SECMALLOC_MODE_HELPER)
		become_nobody(memlock);
}

static atomic_int losses;

static void
count_loss(void *data)
{
	(void)data;
	losses++;
}

static void
start_with(rlim_t memlock)
{
	struct secmalloc_config config;

	test_config(&config, mode);
	config.on_lock_lost = count_loss;
	become_user(memlock);
	expect(secmalloc_init(&config) == 0);
}

static void
start(void)
{
	start_with(0);
}

/* --- Accesses, and what becomes of them --- */

static __thread sigjmp_buf fault;
static __thread unsigned char *volatile fault_at;
static __thread volatile unsigned char sink; /* valgrind omits idle reads */

static void
on_fault(int sig, siginfo_t *info, void *context)
{
	(void)context;
	fault_at = info->si_addr;
	siglongjmp(fault, sig);
}

static void
catch_faults(void)
{
	struct sigaction catch = {
		.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO
	};

	expect(sigaction(SIGSEGV, &catch, NULL) == 0);
}

/* Whether reading AT is a SIGSEGV, at that very address; and writing. */
static bool
read_faults(volatile unsigned char *at)
{
	int sig = sigsetjmp(fault, 1);

	if (sig != 0)
		return sig == SIGSEGV && fault_at == at;
	sink = *at;
	return false;
}

static bool
write_faults(volatile unsigned char *at)
{
	int sig = sigsetjmp(fault, 1);

	if (sig != 0)
		return sig == SIGSEGV && fault_at == at;
	*at = (unsigned char)~*at;
	return false;
}

/* The compiler knows how large an object is. */
static unsigned char *
out_of_sight(void *p)
{
	__asm__ volatile ("" : "+r" (p));
	return p;
}

static unsigned char *
get(size_t size)
{
	unsigned char *p = out_of_sight(secmalloc_guarded(size));

	expect(p != NULL);
	return p;
}

static unsigned char *
filled(size_t size, int value)
{
	unsigned char *p = get(size);

	memset(p, value, size);
	return p;
}

static bool
all_are(const unsigned char *p, size_t size, unsigned char value)
{
	for (size_t i = 0; i < size; i++)
		if (p[i] != value)
			return false;
	return true;
}

static void
protect(void *p, int access)
{
	expect(secmalloc_protect(p, access) == 0);
}

/* Whether P, of SIZE bytes that are VALUE, is what ACCESS makes of it. */
static bool
is_as(unsigned char *p, size_t size, unsigned char value, int access)
{
	if (!read_faults(p + size) || !write_faults(p + size))
		return false;
	if (access == SECMALLOC_NOACCESS) {
		bool whole;

		if (!read_faults(p) || !read_faults(p + size - 1) ||
		    !write_faults(p) || !write_faults(p + size - 1))
			return false;
		protect(p, SECMALLOC_READONLY);
		whole = all_are(p, size, value);
		protect(p, SECMALLOC_NOACCESS);
		return whole && read_faults(p);
	}
	if (!all_are(p, size, value))
		return false;
	if (access == SECMALLOC_READONLY)
		return write_faults(p) && write_faults(p + size - 1) &&
		    all_are(p, size, value);
	if (write_faults(p) || write_faults(p + size - 1))
		return false;
	p[0] = p[size - 1] = value;
	return true;
}

static const int accesses[] = {
	SECMALLOC_NOACCESS, SECMALLOC_READONLY, SECMALLOC_READWRITE
};

#define ACCESSES (sizeof(accesses) / sizeof(accesses[0]))

/* --- Where they are --- */

static int
all_sizes(const void *unused)
{
	size_t before = 0;

	(void)unused;
	start();
	for (size_t size = 0; size <= 3 * page; size += size / 9 + 1) {
		struct secmalloc_stats stats;
		unsigned char *p = get(size), *other = get(size);

		expect(p != other && secmalloc_usable_size(p) == size);
		expect(all_are(p, size, 0));
		memset(p, 0x5a, size);
		expect(((uintptr_t)p + size) % page == 0);
		expect(read_faults(p + size) && write_faults(p + size));
		expect(secmalloc_is_secure(p) == 1);
		expect(size == 0 || secmalloc_is_secure(p + size - 1) == 1);
		expect(size == 0 || secmalloc_is_secure(p + size) == 0);
		expect(secmalloc_is_secure(p - 1) == 0);
		expect(size == 0 || pages_locked(p, size));
		expect(all_are(p, size, 0x5a) && all_are(other, size, 0));
		expect(secmalloc_stats(&stats) == 0);
		expect(stats.objects == 2 && stats.object_bytes == 2 * size);
		expect(stats.guards == 2 && stats.unguarded == 0);
		expect(stats.locked_bytes >= 2 * size + 4 * page);
		before = stats.locked_bytes;
		secfree(p);
		secfree(other);
		expect(secmalloc_stats(&stats) == 0);
		expect(stats.objects == 0 && stats.guards == 0);
		expect(stats.locked_bytes <= before);
	}
	expect(secmalloc_verify() == 0);
	for (size_t n = 1; n < 4 * page; n += page / 2) {
		volatile size_t most = SIZE_MAX - n, much = PTRDIFF_MAX - n;

		errno = 0;
		expect(secmalloc_guarded(most) == NULL && errno == ENOMEM);
		errno = 0;
		expect(secmalloc_guarded(much) == NULL && errno == ENOMEM);
	}
	return 0;
}

/* One of malloc's kind, for what does not fault. */
static int
overflow(const void *unused)
{
	const size_t sizes[] = { 1, 8, SMALL, page - 1, page, page + 1,
	    100 * KIB };
	unsigned char *control;

	(void)unused;
	start();
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		unsigned char *p = get(sizes[i]);

		expect(!write_faults(p) && !write_faults(p + sizes[i] - 1));
		expect(read_faults(p + sizes[i]) && write_faults(p + sizes[i]));
		expect(write_faults(p + sizes[i] + page - 1));
		secfree(p);
	}
	expect((control = out_of_sight(secmalloc(SMALL))) != NULL);
	expect(!write_faults(control + SMALL));
	expect(!write_faults(control + SMALL)); /* as it was */
	secfree(control);
	return 0;
}

static int
underflow(const void *unused)
{
	unsigned char *p, *control;

	(void)unused;
	start();
	/* A multiple of pages has the guard right before it. */
	for (size_t n = 1; n <= 3; n++) {
		p = get(n * page);
		expect(read_faults(p - 1) && write_faults(p - 1));
		expect(write_faults(p - page));
		secfree(p);
	}
	p = get(page + SMALL);
	expect(!read_faults(p - 1) && !read_faults(p - page + SMALL));
	expect(read_faults(p - page + SMALL - 1));
	expect(write_faults(p - page + SMALL - 1));
	secfree(p);
	expect((control = out_of_sight(secmalloc(16 * KIB))) != NULL);
	expect(!read_faults(control + 8 * KIB - 1));
	secfree(control);
	return 0;
}

/* --- Misuse --- */

struct misdeed {
	void (*commit)(unsigned char *);
	ptrdiff_t offset;
	const char *says;
};

/* Whether a child that commits it is stopped, and what it says. */
static bool
is_stopped(const struct misdeed *misdeed, unsigned char *p)
{
	char said[256], wanted[256];
	size_t used = 0;
	ssize_t got;
	int ends[2], status;
	pid_t pid;

	expect(pipe2(ends, O_CLOEXEC) == 0);
	if ((pid = fork()) == 0) {
		struct rlimit none = { 0, 0 };

		(void)setrlimit(RLIMIT_CORE, &none);
		(void)dup2(ends[1], STDERR_FILENO);
		misdeed->commit(out_of_sight(p + misdeed->offset));
		_exit(0);
	}
	expect(pid != -1);
	(void)close(ends[1]);
	while (used < sizeof(said) - 1 &&
	    (got = read(ends[0], said + used, sizeof(said) - 1 - used)) > 0)
		used += (size_t)got;
	said[used] = '\0';
	(void)close(ends[0]);
	expect(waitpid(pid, &status, 0) == pid);
	(void)snprintf(wanted, sizeof(wanted), "libsecmalloc: %s\n",
	    misdeed->says);
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT &&
	    strcmp(said, wanted) == 0)
		return true;
	diag("status %#x, said: %s; not: %s", (unsigned)status, said, wanted);
	return false;
}

static void
do_free(unsigned char *p)
{
	secfree(p);
}

static void
do_free_twice(unsigned char *p)
{
	unsigned char *same = out_of_sight(p);

	secfree(p);
	secfree(same);
}

static void
do_realloc(unsigned char *p)
{
	p = secrealloc(p, 2 * SMALL);
	expect(p != NULL);
}

static void
do_realloc_freed(unsigned char *p)
{
	unsigned char *same = out_of_sight(p);

	secfree(p);
	do_realloc(same);
}

static void
do_ask(unsigned char *p)
{
	(void)secmalloc_usable_size(p);
}

static void
do_protect(unsigned char *p)
{
	(void)secmalloc_protect(p, SECMALLOC_READONLY);
}

static void
do_protect_freed(unsigned char *p)
{
	unsigned char *same = out_of_sight(p);

	secfree(p);
	do_protect(same);
}

static void
do_protect_moved(unsigned char *p)
{
	unsigned char *same = out_of_sight(p), *moved = secrealloc(p, SMALL);

	expect(moved != NULL && moved != same);
	do_protect(same);
}

static void
do_protect_none(unsigned char *p)
{
	(void)p;
	do_protect(NULL);
}

static void
do_protect_plain(unsigned char *p)
{
	(void)p;
	do_protect(secmalloc(SMALL));
}

static void
do_protect_large(unsigned char *p)
{
	(void)p;
	do_protect(secmalloc(100 * KIB));
}

static int
misuse(const void *unused)
{
	const struct misdeed misdeeds[] = {
		{ do_free_twice, 0, "secfree(): double free" },
		{ do_realloc_freed, 0,
		    "secrealloc(): object was freed before" },
		{ do_protect_freed, 0,
		    "secmalloc_protect(): object was freed before" },
		{ do_protect_moved, 0,
		    "secmalloc_protect(): object was freed before" },
		{ do_free, 1,
		    "secfree(): pointer into the middle of an object" },
		{ do_free, -1,
		    "secfree(): pointer into the middle of an object" },
		{ do_free, SMALL,
		    "secfree(): pointer into the middle of an object" },
		{ do_free, SMALL - (ptrdiff_t)page,
		    "secfree(): pointer into the middle of an object" },
		{ do_free, SMALL - 2 * (ptrdiff_t)page,
		    "secfree(): pointer into the middle of an object" },
		{ do_realloc, SMALL - 1,
		    "secrealloc(): pointer into the middle of an object" },
		{ do_ask, 3, "secmalloc_usable_size(): pointer into the middle "
		    "of an object" },
		{ do_protect, 1, "secmalloc_protect(): pointer into the middle "
		    "of an object" },
		{ do_protect_none, 0,
		    "secmalloc_protect(): not a pointer of this library" },
		{ do_protect_plain, 0,
		    "secmalloc_protect(): not a guarded object" },
		{ do_protect_large, 0,
		    "secmalloc_protect(): not a guarded object" },
	};
	unsigned char *p;

	(void)unused;
	start();
	for (size_t n = 0; n < ACCESSES; n++) {
		p = get(SMALL);
		protect(p, accesses[n]);
		for (size_t i = 0; i < sizeof(misdeeds) / sizeof(misdeeds[0]);
		    i++)
			expect(is_stopped(&misdeeds[i], p));
		secfree(p);
	}
	return 0;
}

/* Of the slack each byte counts. */
static int
slack(const void *unused)
{
	const struct misdeed freed = {
		do_free, 0, "secfree(): underflow before the start of an object"
	}, resized = {
		do_realloc, 0,
		"secrealloc(): underflow before the start of an object"
	};
	unsigned char *p;

	(void)unused;
	start();
	p = get(SMALL);
	for (size_t n = 1; n <= page - SMALL; n += n < 20 ? 1 : n - 19) {
		expect(!write_faults(p - n));
		expect(is_stopped(&freed, p));
		expect(is_stopped(&resized, p));
		expect(!write_faults(p - n)); /* as it was */
	}
	expect(!write_faults(p + SMALL - page));
	protect(p, SECMALLOC_NOACCESS);
	expect(is_stopped(&freed, p) && is_stopped(&resized, p));
	protect(p, SECMALLOC_READWRITE);
	expect(!write_faults(p + SMALL - page));
	secfree(p);
	return 0;
}

/* --- What access there is --- */

static int
limited(const void *unused)
{
	const size_t sizes[] = { 1, SMALL, page, page + 1, 100 * KIB };

	(void)unused;
	start();
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		unsigned char *p = filled(sizes[i], 3), *beside = filled(1, 4);

		expect(is_as(p, sizes[i], 3, SECMALLOC_READWRITE));
		for (size_t n = 0; n < ACCESSES * ACCESSES * 2; n++) {
			int access = accesses[n / ACCESSES % ACCESSES];

			protect(p, access);
			expect(is_as(p, sizes[i], 3, access));
			access = accesses[n % ACCESSES];
			protect(p, access);
			expect(is_as(p, sizes[i], 3, access));
			expect(is_as(beside, 1, 4, SECMALLOC_READWRITE));
			errno = 0;
			expect(secmalloc_protect(p, -1) == -1 &&
			    errno == EINVAL);
			errno = 0;
			expect(secmalloc_protect(p, 3) == -1 &&
			    errno == EINVAL);
			expect(is_as(p, sizes[i], 3, access));
			expect(secmalloc_usable_size(p) == sizes[i]);
			expect(secmalloc_is_secure(p) == 1);
			expect(secmalloc_verify() == 0 && losses == 0);
			expect(pages_locked(p, sizes[i]));
		}
		secfree(p);
		secfree(beside);
	}
	/* There is nothing of it to limit, but that is no error. */
	protect(get(0), SECMALLOC_NOACCESS);
	return 0;
}

static int
resized(const void *unused)
{
	const size_t sizes[] = { 1, SMALL, page, 2 * page + 5, SMALL - 1 };
	volatile size_t much = SIZE_MAX / 2;

	(void)unused;
	start();
	for (size_t n = 0; n < ACCESSES; n++) {
		size_t size = 3 * SMALL;
		unsigned char *p = filled(size, 6);

		for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
			unsigned char *old = out_of_sight(p);
			size_t both = sizes[i] < size ? sizes[i] : size;

			protect(p, accesses[n]);
			p = out_of_sight(secrealloc(p, sizes[i]));
			expect(p != NULL && p != old);
			expect(secmalloc_usable_size(p) == sizes[i]);
			expect(all_are(p, both, 6));
			expect(all_are(p + both, sizes[i] - both, 0));
			size = sizes[i];
			memset(p, 6, size);
			expect(is_as(p, size, 6, SECMALLOC_READWRITE));
		}
		protect(p, accesses[n]);
		errno = 0;
		expect(secrealloc(p, much) == NULL && errno == ENOMEM);
		errno = 0;
		expect(secreallocarray(p, much, 3) == NULL &&
		    errno == ENOMEM);
		expect(is_as(p, size, 6, accesses[n]));
		expect(secrealloc(p, 0) == NULL);
	}
	return 0;
}

/* --- What is left of them --- */

static int memory = -1;

/* Whatever its protection. */
static bool
holds(uintptr_t at, size_t size, unsigned char value)
{
	static unsigned char bytes[64 * 1024];

	expect(size <= sizeof(bytes));
	expect(pread(memory, bytes, size, (off_t)at) == (ssize_t)size);
	return all_are(bytes, size, value);
}

static int
wiped(const void *unused)
{
	const size_t sizes[] = { 1, SMALL, page, page + 7 };
	void *stays;

	(void)unused;
	start();
	memory = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
	expect(memory != -1 && (stays = secmalloc(1)) != NULL);
	for (size_t n = 0; n < ACCESSES; n++)
		for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
			size_t size = sizes[i];
			size_t inside = (size + page - 1) / page * page;
			unsigned char *p = filled(size, 0xa7), *q;
			uintptr_t at = (uintptr_t)p, whole = at + size - inside;

			/* The control. */
			expect(holds(at, size, 0xa7));
			protect(p, accesses[n]);
			secfree(p);
			expect(holds(whole - page, inside + 2 * page, 0));
			p = filled(size, 0xa7);
			at = (uintptr_t)p;
			whole = at + size - inside;
			protect(p, accesses[n]);
			expect((q = secrealloc(p, size)) != NULL);
			expect(holds(whole - page, inside + 2 * page, 0));
			expect(holds((uintptr_t)q, size, 0xa7));
			secfree(q);
		}
	secfree(stays);
	return 0;
}

static int
shut_down(const void *unused)
{
	struct secmalloc_stats stats;
	size_t mapped;

	(void)unused;
	start();
	secmalloc_shutdown();
	mapped = count_mapped();
	for (unsigned round = 0; round < 3; round++) {
		for (size_t n = 0; n < ACCESSES; n++)
			protect(filled((n + round) * SMALL, 1), accesses[n]);
		secmalloc_shutdown();
		expect(count_mapped() == mapped);
		expect(secmalloc_stats(&stats) == 0);
		expect(stats.guards == 0 && stats.objects == 0);
	}
	expect(helpers_become(0));
	return 0;
}

/* --- Fork --- */

static const size_t forked_sizes[] = { 1, SMALL, 5000, 70 * 1024 };

#define FORKED (sizeof(forked_sizes) / sizeof(forked_sizes[0]))

static unsigned char *forked[FORKED][ACCESSES];

/* Whether each is as BEGIN and its own number make it. */
static bool
forked_are(unsigned char value, size_t begin)
{
	for (size_t i = 0; i < FORKED; i++)
		for (size_t n = 0; n < ACCESSES; n++)
			if (!is_as(forked[i][n], forked_sizes[i], value,
			    accesses[(begin + n) % ACCESSES]))
				return false;
	return true;
}

static void
change_forked(unsigned char value, size_t begin)
{
	for (size_t i = 0; i < FORKED; i++)
		for (size_t n = 0; n < ACCESSES; n++) {
			protect(forked[i][n], SECMALLOC_READWRITE);
			memset(forked[i][n], value, forked_sizes[i]);
			protect(forked[i][n],
			    accesses[(begin + n) % ACCESSES]);
		}
}

static void
free_forked(void)
{
	for (size_t i = 0; i < FORKED; i++)
		for (size_t n = 0; n < ACCESSES; n++)
			secfree(forked[i][n]);
}

static void
wait_for(atomic_int *stage, int value)
{
	while (atomic_load(stage) != value)
		sleep_ms(1);
}

/* All but what the observer is asked through. */
static void
close_descriptors(void)
{
	for (int fd = STDERR_FILENO + 1; fd < 64; fd++)
		if (fd != observer)
			(void)close(fd);
}

/* Once they have started: */
static int
with_own_states(way *make)
{
	struct secmalloc_stats before, after;
	atomic_int *stage;
	pid_t pid;

	stage = mmap(NULL, sizeof(*stage), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	expect(stage != MAP_FAILED);
	for (size_t i = 0; i < FORKED; i++)
		for (size_t n = 0; n < ACCESSES; n++)
			forked[i][n] = get(forked_sizes[i]);
	change_forked(10, 0);
	expect(secmalloc_stats(&before) == 0);
	pid = make();
	expect(pid != -1);
	if (pid == 0) {
		(void)alarm(20);
		/* After fork() all is done before the child's first call. */
		if (make != way_fork)
			(void)secmalloc_is_secure(NULL);
		expect(forked_are(10, 0));
		expect(secmalloc_stats(&after) == 0);
		expect(after.guards == before.guards &&
		    after.objects == before.objects);
		change_forked(20, 1);
		atomic_store(stage, 1);
		wait_for(stage, 2);
		expect(forked_are(20, 1) && secmalloc_verify() == 0);
		free_forked();
		secfree(get(SMALL));
		secmalloc_shutdown();
		_exit(losses == 0 ? 0 : 1);
	}
	wait_for(stage, 1);
	expect(forked_are(10, 0));
	change_forked(30, 2);
	atomic_store(stage, 2);
	expect(child_succeeds(pid));
	expect(forked_are(30, 2) && secmalloc_verify() == 0 && losses == 0);
	free_forked();
	return 0;
}

/* ARG: the way to make the child. */
static int
own_states(const void *arg)
{
	start();
	return with_own_states(*(way *const *)arg);
}

/* With much between them that is free, of which no child gets a copy. */
static int
generations(const void *arg)
{
	enum { GENERATIONS = 4 };
	void *between[FORKED][ACCESSES];
	pid_t pid = 0, ancestor = getpid();

	start();
	for (size_t i = 0; i < FORKED; i++)
		for (size_t n = 0; n < ACCESSES; n++) {
			between[i][n] = secmalloc(100 * KIB);
			expect(between[i][n] != NULL);
			forked[i][n] = get(forked_sizes[i]);
		}
	change_forked(0, 0);
	for (unsigned i = 0; i < GENERATIONS; i++) {
		for (size_t n = 0; n < ACCESSES; n++)
			secfree(between[i % FORKED][n]);
		expect((pid = (*(way *const *)arg)()) != -1);
		if (pid != 0)
			break;
		(void)alarm(20);
		(void)secmalloc_is_secure(NULL);
		expect(forked_are((unsigned char)i, i));
		change_forked((unsigned char)(i + 1), i + 1);
		secfree(get(SMALL));
		expect(secmalloc_verify() == 0 && losses == 0);
	}
	expect(pid == 0 || child_succeeds(pid));
	if (getpid() != ancestor)
		_exit(0);
	expect(forked_are(0, 0) && secmalloc_verify() == 0);
	free_forked();
	return 0;
}

/* What the library has open is the host's to close. */
static int
own_states_without_descriptors(const void *arg)
{
	start();
	secfree(get(100 * KIB));
	close_descriptors();
	return with_own_states(*(way *const *)arg);
}

/* By this process, as far as it may and not further. */
static int
own_states_with_belt(const void *arg)
{
	struct secmalloc_config config;

	test_config(&config, mode);
	config.flags = SECMALLOC_BELT;
	config.on_lock_lost = count_loss;
	config.pool_size = 2 * MIB;
	become_user(2 * MIB);
	expect(secmalloc_init(&config) == 0);
	return with_own_states(*(way *const *)arg);
}

static int
denied(const void *arg)
{
	struct secmalloc_config config;
	unsigned char *p;
	pid_t pid;

	test_config(&config, mode);
	config.fork_policy = SECMALLOC_FORK_DENY;
	become_user(0);
	expect(secmalloc_init(&config) == 0);
	p = filled(SMALL, 1);
	if ((pid = (*(way *const *)arg)()) == 0) {
		(void)secmalloc_is_secure(NULL);
		expect(read_faults(p));
		errno = 0;
		expect(secmalloc_protect(p, SECMALLOC_READWRITE) == -1 &&
		    errno == ENOLCK);
		expect(read_faults(p));
		errno = 0;
		expect(secrealloc(p, 1) == NULL && errno == ENOLCK);
		secfree(p);
		p = filled(SMALL, 2);
		expect(is_as(p, SMALL, 2, SECMALLOC_READWRITE));
		_exit(0);
	}
	expect(pid != -1 && child_succeeds(pid));
	expect(is_as(p, SMALL, 1, SECMALLOC_READWRITE));
	return 0;
}

/* --- What other threads see --- */

static atomic_bool stop;
static atomic_ulong tries, hits;

/* Tries again and again what must not be possible. */
static void *
keeps_reading(void *p)
{
	while (!atomic_load(&stop)) {
		atomic_fetch_add(&hits, !read_faults(p));
		atomic_fetch_add(&tries, 1);
	}
	return NULL;
}

static void *
keeps_writing(void *p)
{
	while (!atomic_load(&stop)) {
		atomic_fetch_add(&hits, !write_faults(p));
		atomic_fetch_add(&tries, 1);
	}
	return NULL;
}

static unsigned long
tried(void *(*body)(void *), void *p, void (*meanwhile)(void))
{
	pthread_t thread;

	atomic_store(&stop, false);
	atomic_store(&tries, 0);
	atomic_store(&hits, 0);
	expect(pthread_create(&thread, NULL, body, p) == 0);
	while (atomic_load(&tries) == 0)
		sleep_ms(1);
	meanwhile();
	atomic_store(&stop, true);
	expect(pthread_join(thread, NULL) == 0);
	expect(atomic_load(&tries) > 0);
	return atomic_load(&hits);
}

static void
nap(void)
{
	sleep_ms(5);
}

static unsigned char *sealed;

static void
many_forks(void)
{
	for (unsigned n = 0; n < ROUNDS; n++) {
		pid_t pid = fork();

		if (pid == 0)
			_exit(read_faults(sealed) ? 0 : 1);
		expect(pid != -1 && child_succeeds(pid));
	}
}

static int
not_opened_by_fork(const void *unused)
{
	unsigned char *open_one;

	(void)unused;
	start();
	sealed = filled(3 * page, 5);
	open_one = filled(SMALL, 5);
	protect(sealed, SECMALLOC_NOACCESS);
	expect(tried(keeps_reading, sealed, many_forks) == 0);
	/* The control. */
	expect(tried(keeps_reading, open_one, nap) != 0);
	protect(sealed, SECMALLOC_READWRITE);
	expect(is_as(sealed, 3 * page, 5, SECMALLOC_READWRITE));
	secfree(sealed);
	secfree(open_one);
	return 0;
}

static unsigned char *readable, *plain;

/* By the process itself, which finds its mapping unlocked each time. */
static void
many_locks(void)
{
	for (unsigned n = 0; n < ROUNDS; n++) {
		expect(syscall(SYS_munlock, plain, (size_t)1) == 0);
		expect(!pages_locked(plain, 1));
		expect(secmalloc_verify() == 0 && pages_locked(plain, 1));
	}
}

static void
locks_again(void)
{
	readable = filled(SMALL, 2);
	protect(readable, SECMALLOC_READONLY);
	expect((plain = secmalloc(SMALL)) != NULL);
	if (mode == SECMALLOC_MODE_HELPER) {
		chmod_helper(0);
		expect(kill_helpers() == 1);
		expect(secmalloc_verify() == 0);
		expect(pages_locked(plain, 1));
	}
	expect(tried(keeps_writing, sealed, many_locks) == 0);
	expect(tried(keeps_writing, readable, many_locks) == 0);
	expect(tried(keeps_writing, plain, nap) != 0);
	if (mode == SECMALLOC_MODE_HELPER)
		chmod_helper(04755);
}

static int
not_written_when_locked(const void *unused)
{
	unsigned char *other;

	(void)unused;
	start_with(4 * MIB);
	sealed = filled(2 * page, 7);
	/* One beside the other, and a guard page of another kind. */
	other = filled(2 * page, 8);
	expect(secmalloc(100 * KIB) != NULL);
	protect(sealed, SECMALLOC_NOACCESS);
	protect(other, SECMALLOC_NOACCESS);
	locks_again();
	expect(is_as(sealed, 2 * page, 7, SECMALLOC_NOACCESS));
	expect(is_as(other, 2 * page, 8, SECMALLOC_NOACCESS));
	expect(is_as(readable, SMALL, 2, SECMALLOC_READONLY));
	protect(sealed, SECMALLOC_READWRITE);
	protect(other, SECMALLOC_READWRITE);
	expect(is_as(sealed, 2 * page, 7, SECMALLOC_READWRITE));
	expect(is_as(other, 2 * page, 8, SECMALLOC_READWRITE));
	secfree(sealed);
	secfree(other);
	secfree(readable);
	expect(losses == 0);
	return 0;
}

/* --- At the limits --- */

static unsigned char *filler;

/* Takes all the mappings that the kernel grants; returns how long it is. */
static size_t
take_mappings(void)
{
	size_t most = 4 * 65530 * page, used = 0;

	filler = mmap(NULL, most, PROT_NONE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	expect(filler != MAP_FAILED);
	while (mprotect(filler + used, page, PROT_READ) == 0) {
		used += 2 * page;
		expect(used < most);
	}
	expect(errno == ENOMEM);
	return most;
}

static int
without_mappings(const void *unused)
{
	enum { MANY = 9 };
	struct secmalloc_stats before, after;
	unsigned char *objects[MANY], *more;
	size_t length;

	(void)unused;
	start();
	for (size_t i = 0; i < MANY; i++) {
		objects[i] = filled(i * page / 2 + 1, (int)i);
		protect(objects[i], accesses[i % ACCESSES]);
	}
	/* There is room in the pool for one more. */
	more = get(SMALL);
	secfree(more);
	expect(secmalloc_stats(&before) == 0);
	length = take_mappings();
	for (unsigned n = 0; n < 10; n++) {
		errno = 0;
		expect(secmalloc_guarded(SMALL) == NULL && errno == ENOMEM);
		errno = 0;
		expect(secrealloc(objects[n % MANY], 1) == NULL &&
		    errno == ENOMEM);
	}
	expect(secmalloc_stats(&after) == 0);
	expect(memcmp(&before, &after, sizeof(before)) == 0);
	/* Of those that are there, none needs another mapping. */
	for (unsigned round = 0; round < 3; round++)
		for (size_t i = 0; i < MANY; i++) {
			int access = accesses[(i + round) % ACCESSES];

			expect(is_as(objects[i], i * page / 2 + 1,
			    (unsigned char)i, round == 0 ? access :
			    accesses[(i + round - 1) % ACCESSES]));
			protect(objects[i], access);
		}
	for (size_t i = 0; i < MANY; i++)
		secfree(objects[i]);
	expect(secmalloc_stats(&after) == 0);
	expect(after.guards == 0 && after.objects == 0);
	expect(munmap(filler, length) == 0);
	/* No page of what was freed was lost. */
	for (size_t i = 0; i < MANY; i++)
		objects[i] = filled(i * page / 2 + 1, (int)i);
	expect(secmalloc_stats(&after) == 0);
	expect(after.locked_bytes == before.locked_bytes);
	for (size_t i = 0; i < MANY; i++)
		expect(is_as(objects[i], i * page / 2 + 1, (unsigned char)i,
		    SECMALLOC_READWRITE));
	return 0;
}

/* More than the library grants itself: it leaves the host the others. */
static int
as_many_as_there_are(const void *unused)
{
	static unsigned char *objects[65530];
	struct secmalloc_stats stats;
	void *large;
	size_t n = 0;

	(void)unused;
	start();
	while ((objects[n] = secmalloc_guarded(1)) != NULL)
		expect(++n < 65530);
	expect(errno == ENOMEM);
	diag("%zu guarded objects", n);
	expect(n > 1000);
	expect(secmalloc_stats(&stats) == 0);
	expect(stats.guards == n && stats.unguarded == 0);
	for (size_t i = 0; i < n; i++)
		expect(read_faults(objects[i] + 1) &&
		    read_faults(objects[i] + 1 - 2 * page + page - 1));
	/* Another kind does without, and says so. */
	expect((large = secmalloc(100 * KIB)) != NULL);
	expect(secmalloc_stats(&stats) == 0);
	expect(stats.guards == n && stats.unguarded == 1);
	for (size_t i = 0; i < n; i += 2)
		secfree(objects[i]);
	for (size_t i = 0; i < n; i += 2)
		expect(read_faults(get(1) + 1));
	return 0;
}

/* Private pages that can be written count: the host may have lowered it since. */
static int
without_data(const void *unused)
{
	struct rlimit before, little = { 4096, 0 };
	unsigned char *p, *q, *r;
	uintptr_t at, other;

	(void)unused;
	start();
	memory = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
	p = filled(SMALL, 0xa7);
	q = filled(SMALL, 0xa7);
	r = filled(SMALL, 0xa7);
	at = (uintptr_t)p;
	other = (uintptr_t)out_of_sight(r);
	protect(p, SECMALLOC_NOACCESS);
	protect(q, SECMALLOC_NOACCESS);
	protect(r, SECMALLOC_READONLY);
	expect(holds(at, SMALL, 0xa7));
	expect(getrlimit(RLIMIT_DATA, &before) == 0);
	little.rlim_max = before.rlim_max;
	expect(setrlimit(RLIMIT_DATA, &little) == 0);
	errno = 0;
	expect(secmalloc_protect(q, SECMALLOC_READWRITE) == -1 &&
	    errno == ENOMEM);
	errno = 0;
	expect(secrealloc(q, 1) == NULL && errno == ENOMEM);
	secfree(p);
	secfree(r);
	expect(holds(at, SMALL, 0) && holds(other, SMALL, 0));
	expect(secmalloc_verify() == 0 && losses == 0);
	expect(read_faults(q));
	expect(setrlimit(RLIMIT_DATA, &before) == 0);
	protect(q, SECMALLOC_READWRITE);
	expect(is_as(q, SMALL, 0xa7, SECMALLOC_READWRITE));
	secfree(q);
	q = filled(SMALL, 1);
	expect(is_as(q, SMALL, 1, SECMALLOC_READWRITE));
	return 0;
}

/* --- Threads --- */

static void *
works(void *seed)
{
	unsigned random = (unsigned)(uintptr_t)seed;

	for (unsigned n = 0; n < 20 * ROUNDS; n++) {
		size_t size;
		unsigned char *p;
		int access;

		random = random * 1103515245 + 12345;
		size = random / 65536 % (2 * page) + 1;
		access = accesses[random / 1024 % ACCESSES];
		p = filled(size, (int)n);
		protect(p, access);
		if (n % 16 == 0)
			expect(is_as(p, size, (unsigned char)n, access));
		if (n % 3 == 0) {
			expect((p = secrealloc(p, size / 2 + 1)) != NULL);
			expect(all_are(p, size / 2 + 1, (unsigned char)n));
		}
		secfree(p);
	}
	return NULL;
}

static int
many_threads(const void *arg)
{
	struct secmalloc_stats stats;
	pthread_t threads[THREADS];

	start();
	for (uintptr_t i = 0; i < THREADS; i++)
		expect(pthread_create(&threads[i], NULL, works,
		    (void *)(i + 1)) == 0);
	for (unsigned n = 0; n < ROUNDS / 2; n++) {
		pid_t pid = (*(way *const *)arg)();

		if (pid == 0) {
			(void)alarm(20);
			(void)secmalloc_is_secure(NULL);
			(void)works((void *)(uintptr_t)n);
			expect(secmalloc_verify() == 0);
			_exit(0);
		}
		expect(pid != -1 && child_succeeds(pid));
		sleep_ms(1);
	}
	for (size_t i = 0; i < THREADS; i++)
		expect(pthread_join(threads[i], NULL) == 0);
	expect(secmalloc_stats(&stats) == 0 && stats.guards == 0);
	expect(secmalloc_verify() == 0 && losses == 0);
	return 0;
}

/* --- Cost --- */

enum { SAMPLES = 501, PAIRS = 50, TRIES = 3 };

static int64_t
now_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int64_t
time_bare(void *at)
{
	int64_t begun = now_ns();

	for (unsigned i = 0; i < PAIRS; i++)
		if (mprotect(at, page, PROT_NONE) == -1 ||
		    mprotect(at, page, PROT_READ | PROT_WRITE) == -1)
			expect_failed("mprotect", __FILE__, __LINE__);
	return now_ns() - begun;
}

static int64_t
time_ours(void *p)
{
	int64_t begun = now_ns();

	for (unsigned i = 0; i < PAIRS; i++)
		if (secmalloc_protect(p, SECMALLOC_NOACCESS) == -1 ||
		    secmalloc_protect(p, SECMALLOC_READWRITE) == -1)
			expect_failed("protect", __FILE__, __LINE__);
	return now_ns() - begun;
}

static int
compare(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

static int64_t
median(const char *what, int64_t samples[SAMPLES])
{
	qsort(samples, SAMPLES, sizeof(*samples), compare);
	diag("%s: a pair takes %" PRId64 " ns (quartiles %" PRId64 " and %"
	    PRId64 ")", what, samples[SAMPLES / 2] / PAIRS,
	    samples[SAMPLES / 4] / PAIRS, samples[SAMPLES * 3 / 4] / PAIRS);
	return samples[SAMPLES / 2];
}

/* A page that is a mapping of its own, of which nothing has to be split off. */
static void *
page_apart(void)
{
	unsigned char *at = mmap(NULL, 3 * page, PROT_NONE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	expect(at != MAP_FAILED && mmap(at + page, page,
	    PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED,
	    -1, 0) == at + page);
	memset(at + page, 1, page);
	return at + page;
}

static int
cost(const void *unused)
{
	static int64_t bare[SAMPLES], ours[SAMPLES];
	unsigned char *p;
	void *apart;
	int64_t one, other;

	(void)unused;
	start();
	expect(secmalloc(SMALL) != NULL);
	p = filled(page, 1);
	apart = page_apart();
	for (unsigned n = 0; n < TRIES; n++) {
		for (size_t i = 0; i < SAMPLES; i++) {
			bare[i] = time_bare(apart);
			ours[i] = time_ours(p);
		}
		one = median("mprotect", bare);
		other = median("secmalloc_protect", ours);
		if (2 * other <= 3 * one)
			return 0;
	}
	return 1;
}

/* --- */

static const struct {
	const char *modes; /* h: helper, i: in-process */
	int (*body)(const void *);
	way *make;
	const char *promise;
} promises[] = {
	{ "hi", all_sizes, NULL,
	    "an object of any size is zero, locked, and ends where a page does" },
	{ "hi", overflow, NULL, "an overflow by one byte faults at once" },
	{ "hi", underflow, NULL,
	    "what runs off the first page to the front faults at once" },
	{ "hi", slack, NULL,
	    "what was written before the object is noticed when it is freed" },
	{ "hi", misuse, NULL,
	    "misuse of a guarded object, or of one that is none, is noticed" },
	{ "hi", limited, NULL,
	    "what is not allowed faults, and what is does not" },
	{ "hi", resized, NULL,
	    "an object can be resized whatever is allowed, and stays guarded" },
	{ "hi", wiped, NULL,
	    "nothing is left of an object, whatever was allowed" },
	{ "hi", shut_down, NULL,
	    "a shutdown leaves nothing of objects, whatever is allowed" },
	{ "hi", own_states, way_fork,
	    "a child has the same guards, and limits of its own from there on" },
	{ "hi", own_states, way_bare_fork, "so has a child by _Fork" },
	{ "hi", own_states, way_clone, "so has a child by clone" },
	{ "hi", generations, way_fork, "so have its own children, and theirs" },
	{ "hi", generations, way_clone, "also where all are made by clone" },
	{ "h", own_states_without_descriptors, way_fork,
	    "and one of a parent that has closed what was not its own" },
	{ "h", own_states_with_belt, way_fork,
	    "and one of a parent that locks as much as it may itself" },
	{ "hi", denied, way_fork, "DENY: a child has none of them" },
	{ "hi", denied, way_clone, "DENY: nor has a child by clone" },
	{ "hi", not_opened_by_fork, NULL,
	    "a fork lets no other thread read what cannot be accessed" },
	{ "hi", not_written_when_locked, NULL,
	    "what is locked anew cannot be written by any thread meanwhile" },
	{ "hi", without_mappings, NULL,
	    "where no mapping is left there is no new one, and the old ones go on" },
	{ "i", as_many_as_there_are, NULL,
	    "each has its guards, as many as there are" },
	{ "i", without_data, NULL,
	    "what cannot be made writable is gone all the same when it is freed" },
	{ "hi", many_threads, way_fork,
	    "threads have, limit and free objects while others fork" },
	{ "hi", many_threads, way_bare_fork, "and while others _Fork" },
};

#define PROMISES (sizeof(promises) / sizeof(promises[0]))

int
main(int argc, char *argv[])
{
	const char *who = argc > 1 ? argv[1] : "helper";
	const char *only = argc > 2 ? argv[2] : NULL;
	bool helper = strcmp(who, "inprocess") != 0;

	mode = helper ? SECMALLOC_MODE_HELPER : SECMALLOC_MODE_INPROCESS;
	page = (size_t)sysconf(_SC_PAGESIZE);
	catch_faults();
	if (strcmp(who, "cost") == 0) {
		ok(run_worker(cost, NULL, 60), "secmalloc_protect() costs at "
		    "most one and a half times what mprotect() does");
		return done_testing();
	}
	for (size_t i = 0; i < PROMISES; i++) {
		if (strchr(promises[i].modes, helper ? 'h' : 'i') == NULL ||
		    (only != NULL && strtoul(only, NULL, 10) != i))
			continue;
		ok(run_worker(promises[i].body, &promises[i].make, 60), "%s",
		    promises[i].promise);
	}
	return done_testing();
}
