/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * window.c: what SECMALLOC_PKEY promises: no access but in a window; knows
 * nothing of the library's inside.
 *
 * usage: window trial|none|cost|helper|inprocess|secret
 *
 * trial says by its exit status whether there are protection keys; none takes
 * all that there are.  cost measures a window.  The others hold all promises to
 * the one who locks; SECMALLOC_TEST_HELPER names the helper, whose workers are
 * nobody.
 *
 * With WINDOW_EMULATED there is no such processor: see keys.h.  Then a key is
 * for all threads, and nothing becomes of it in a signal handler.
 */
#include "config.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <sys/time.h>

#include "children.h"

#ifdef WINDOW_EMULATED
# include "keys.h"
#endif

#ifndef SEGV_PKUERR
# define SEGV_PKUERR 4
#endif

#define KIB ((size_t)1024)
#define MIB (1024 * KIB)

enum {
	DEEPEST = 63,
	THREADS = 4,
	OBJECTS = 24,
	KEYS_MAX = 16
};

static enum { HELPER, INPROCESS, SECRET } who;

static int
init_with(size_t flags, int fork_policy, void (*misused)(const char *,
    const char *, void *))
{
	const struct rlimit limit = { 256 * MIB, 256 * MIB };
	struct secmalloc_config config;

	test_config(&config, who == HELPER ? SECMALLOC_MODE_HELPER :
	    SECMALLOC_MODE_INPROCESS);
	config.flags = flags | (who == SECRET ? SECMALLOC_SECRET : 0);
	/* Of later kernels the limit for secret memory is also root's. */
	if (geteuid() == 0)
		(void)setrlimit(RLIMIT_MEMLOCK, &limit);
	config.fork_policy = fork_policy;
	config.on_misuse = misused;
	return secmalloc_init(&config);
}

static void
start(void)
{
	if (who == HELPER)
		become_nobody(0);
	expect(init_with(SECMALLOC_PKEY, SECMALLOC_FORK_COPY, NULL) == 0);
}

/* --- Whether an access faults --- */

static _Thread_local sigjmp_buf before_fault;
static _Thread_local volatile sig_atomic_t fault_code, expecting_fault;

static void
on_fault(int number, siginfo_t *info, void *context)
{
	(void)context;
	fault_code = info->si_code;
	if (expecting_fault)
		siglongjmp(before_fault, 1);
	/* It faults again. */
	(void)signal(number, SIG_DFL);
}

/* Of what is free, AddressSanitizer would have something to say as well. */
#ifdef __SANITIZE_ADDRESS__
__attribute__((no_sanitize("address")))
#endif
static void
touch(volatile unsigned char *at, bool by_write)
{
	if (by_write)
		*at = 1;
	else
		(void)*at;
}

/* By the key, if there are such. */
static bool
faults(volatile unsigned char *at, bool by_write)
{
	const struct sigaction action = {
		.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO
	};
	volatile bool faulted = false;

	/* All threads have the same, for good. */
	expect(sigaction(SIGSEGV, &action, NULL) == 0);
	fault_code = 0;
	expecting_fault = 1;
	if (sigsetjmp(before_fault, 1) != 0)
		faulted = true;
	else
		touch(at, by_write);
	expecting_fault = 0;
#ifndef WINDOW_EMULATED
	expect(!faulted || fault_code == SEGV_PKUERR);
#endif
	return faulted;
}

/* The same address, of which the compiler knows nothing. */
static void *
launder(const void *ptr)
{
	uintptr_t address = (uintptr_t)ptr;

	__asm__ volatile("" : "+r"(address));
	return (void *)address;
}

/* Neither way; what is there, if anything can be had, is not looked at. */
static bool
shut(unsigned char *at)
{
	return faults(at, false) && faults(at, true);
}

static bool
reads(unsigned char *at, int value, size_t size)
{
	bool same = true;

	expect(secmalloc_open() == 0);
	for (size_t i = 0; i < size; i++)
		same &= at[i] == (unsigned char)value;
	expect(secmalloc_close() == 0);
	return same;
}

static void
writes(unsigned char *at, int value, size_t size)
{
	expect(secmalloc_open() == 0);
	memset(at, value, size);
	expect(secmalloc_close() == 0);
}

/* --- Objects that are there throughout --- */

static unsigned char *object[OBJECTS];
static size_t object_size[OBJECTS];

static void
fill(void)
{
	for (unsigned i = 0; i < OBJECTS; i++) {
		object_size[i] = i < OBJECTS - 2 ? 1 + (size_t)i * i * i :
		    (i - OBJECTS + 3) * 384 * KIB;
		object[i] = secmalloc(object_size[i]);
		expect(object[i] != NULL);
		writes(object[i], (int)i + 1, object_size[i]);
	}
}

static bool
whole(void)
{
	for (unsigned i = 0; i < OBJECTS; i++)
		if (!reads(object[i], (int)i + 1, object_size[i]))
			return false;
	return true;
}

static bool
all_shut(void)
{
	for (unsigned i = 0; i < OBJECTS; i++)
		if (!shut(object[i]) ||
		    !shut(object[i] + object_size[i] - 1))
			return false;
	return true;
}

/* --- One thread --- */

static int
strays(const void *unused)
{
	unsigned char *at;

	(void)unused;
	start();
	fill();
	expect(all_shut());
	expect(whole() && all_shut());
	/* A slot that is free, and the rest of a pool. */
	at = launder(object[3]);
	secfree(object[3]);
	expect(shut(at));
	expect((object[3] = secmalloc(object_size[3])) != NULL);
	writes(object[3], 4, object_size[3]);
	expect(whole());
	return 0;
}

static int
without_the_flag(const void *unused)
{
	unsigned char *at;

	(void)unused;
	if (who == HELPER)
		become_nobody(0);
	errno = 0;
	expect(secmalloc_open() == -1 && errno == ENOTSUP);
	errno = 0;
	expect(secmalloc_close() == -1 && errno == ENOTSUP);
	expect(init_with(0, SECMALLOC_FORK_COPY, NULL) == 0);
	expect((at = secmalloc(100)) != NULL);
	expect(!faults(at, false) && !faults(at, true));
	errno = 0;
	expect(secmalloc_open() == -1 && errno == ENOTSUP);
	errno = 0;
	expect(secmalloc_close() == -1 && errno == ENOTSUP);
	expect(!faults(at, false) && !faults(at, true));
	return 0;
}

/* All verbs, the caller's window being open or shut; it stays as it was. */
static void
verbs(bool open)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);
	static const size_t sizes[] = { 1, 24, 100, 1000, 5000, 60000, 100000,
	    700000 };
	struct secmalloc_stats stats;
	unsigned char *at, *big;
	char *text;

#define AS_IT_WAS(at) expect(faults((at), false) == !open)
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		size_t size = sizes[i];

		expect((at = secmalloc(size)) != NULL);
		AS_IT_WAS(at);
		expect(reads(at, 0, size));
		writes(at, 7, size);
		expect(secmalloc_usable_size(at) == size);
		expect(secmalloc_is_secure(at + size - 1) == 1);
		/* In its place, and then in another. */
		expect((at = secrealloc(at, size + 1)) != NULL);
		AS_IT_WAS(at);
		expect(reads(at, 7, size) && reads(at + size, 0, 1));
		expect((at = secreallocarray(at, 3, size)) != NULL);
		AS_IT_WAS(at);
		expect(reads(at, 7, size) && reads(at + size + 1, 0,
		    2 * size - 1));
		expect((at = secrealloc(at, size)) != NULL);
		expect(reads(at, 7, size));
		expect((at = secrealloc(at, 1)) != NULL && reads(at, 7, 1));
		AS_IT_WAS(at);
		secfree(at);
		expect((at = seccalloc(size, 2)) != NULL);
		expect(reads(at, 0, 2 * size));
		secfree(at);
		expect((at = secaligned_alloc(page, size)) != NULL);
		AS_IT_WAS(at);
		expect((uintptr_t)at % page == 0 && reads(at, 0, size));
		secfree(at);
		expect((at = secmalloc_guarded(size)) != NULL);
		AS_IT_WAS(at);
		writes(at, 7, size);
		expect(secmalloc_protect(at, SECMALLOC_READONLY) == 0);
		AS_IT_WAS(at);
		expect(reads(at, 7, size));
		expect((at = secrealloc(at, size + 1)) != NULL);
		AS_IT_WAS(at);
		expect(reads(at, 7, size) && reads(at + size, 0, 1));
		expect(secmalloc_protect(at, SECMALLOC_NOACCESS) == 0);
		secfree(at);
	}
	expect((text = secstrdup("a secret")) != NULL);
	AS_IT_WAS((unsigned char *)text);
	expect(secmalloc_open() == 0 && strcmp(text, "a secret") == 0);
	expect(secmalloc_close() == 0);
	/* What is copied is read as the caller may. */
	if (open) {
		char *copy = secstrdup(text);

		expect(copy != NULL && strcmp(copy, "a secret") == 0);
		secfree(copy);
	}
	secfree(text);
	expect((text = secstrndup("a secret", 3)) != NULL);
	expect(secmalloc_open() == 0 && strcmp(text, "a s") == 0);
	expect(secmalloc_close() == 0);
	secfree(text);
	expect((big = secmalloc(300 * KIB)) != NULL);
	/* The guard is no window's. */
	expect(secmalloc_stats(&stats) == 0 && stats.guards >= 1);
	expect(stats.cached_bytes == 0);
	expect(secmalloc_verify() == 0);
	AS_IT_WAS(big);
	secfree(big);
#undef AS_IT_WAS
}

static int
verbs_shut(const void *unused)
{
	(void)unused;
	start();
	fill();
	verbs(false);
	expect(all_shut() && whole());
	for (unsigned i = 0; i < OBJECTS; i++)
		secfree(object[i]);
	return 0;
}

static int
verbs_open(const void *unused)
{
	(void)unused;
	start();
	fill();
	expect(secmalloc_open() == 0);
	verbs(true);
	expect(secmalloc_close() == 0);
	expect(all_shut() && whole());
	return 0;
}

static int
system_calls(const void *unused)
{
	unsigned char *at;
	int ends[2];

	(void)unused;
	start();
	expect((at = secmalloc(100)) != NULL && pipe(ends) == 0);
	writes(at, 5, 100);
	errno = 0;
	expect(write(ends[1], at, 100) == -1 && errno == EFAULT);
	expect(write(ends[1], "123", 3) == 3);
	errno = 0;
	expect(read(ends[0], at, 3) == -1 && errno == EFAULT);
	expect(secmalloc_open() == 0);
	expect(read(ends[0], at, 3) == 3 && memcmp(at, "123", 3) == 0);
	expect(write(ends[1], at, 100) == 100);
	expect(secmalloc_close() == 0);
	return 0;
}

static int
nesting(const void *unused)
{
	unsigned char *at;

	(void)unused;
	start();
	expect((at = secmalloc(100)) != NULL);
	for (unsigned round = 0; round < 3; round++) {
		expect(shut(at));
		errno = 0;
		expect(secmalloc_close() == -1 && errno == EINVAL && shut(at));
		for (unsigned i = 0; i < DEEPEST; i++) {
			expect(secmalloc_open() == 0);
			expect(!faults(at, true));
		}
		errno = 0;
		expect(secmalloc_open() == -1 && errno == EOVERFLOW);
		for (unsigned i = 0; i < DEEPEST; i++) {
			expect(!faults(at, true));
			expect(secmalloc_close() == 0);
		}
	}
	errno = 0;
	expect(secmalloc_close() == -1 && errno == EINVAL && shut(at));
	return 0;
}

/* More often than there are keys. */
static int
again(const void *unused)
{
	unsigned char *at;
	size_t mapped = 0;

	(void)unused;
	start();
	for (unsigned round = 0; round < 2 * KEYS_MAX; round++) {
		fill();
		expect(all_shut() && whole());
		/* It need not be shut to stop. */
		expect(round % 2 == 0 || secmalloc_open() == 0);
		secmalloc_shutdown();
		expect(secmalloc_open() == -1 && errno == ENOTSUP);
		if (round == 1)
			mapped = count_mapped();
		expect(round == 0 || count_mapped() == mapped);
		/* Now and then without. */
		expect(init_with(round % 3 == 0 ? 0 : SECMALLOC_PKEY,
		    SECMALLOC_FORK_COPY, NULL) == 0);
		expect((at = secmalloc(100)) != NULL);
		expect(faults(at, true) == (round % 3 != 0));
		secfree(at);
		secmalloc_shutdown();
		expect(init_with(SECMALLOC_PKEY, SECMALLOC_FORK_COPY,
		    NULL) == 0);
		errno = 0;
		expect(secmalloc_close() == -1 && errno == EINVAL);
	}
	return 0;
}

static int
no_key_left(const void *unused)
{
	int keys[KEYS_MAX], n = 0;
	unsigned char *at;

	(void)unused;
	if (who == HELPER)
		become_nobody(0);
	while (n < KEYS_MAX && (keys[n] = pkey_alloc(0, 0)) != -1)
		n++;
	expect(n > 0);
	for (unsigned i = 0; i < 3; i++) {
		errno = 0;
		expect(init_with(SECMALLOC_PKEY, SECMALLOC_FORK_COPY,
		    NULL) == -1 && errno == ENOTSUP);
		errno = 0;
		expect(secmalloc(1) == NULL && errno == ENOTSUP);
		expect(helpers() == 0);
	}
	expect(pkey_free(keys[n - 1]) == 0);
	expect((at = secmalloc(1)) != NULL && shut(at));
	return 0;
}

/* A start that fails for another reason keeps no key. */
static int
no_start(const void *unused)
{
	struct secmalloc_config config;
	unsigned char *at;

	(void)unused;
	if (who == HELPER)
		become_nobody(0);
	test_config(&config, SECMALLOC_MODE_HELPER);
	config.helper_path = "/nonexistent";
	config.flags = SECMALLOC_PKEY;
	for (unsigned i = 0; i < 2 * KEYS_MAX; i++) {
		errno = 0;
		expect(secmalloc_init(&config) == -1 && errno == EPERM);
	}
	expect(init_with(SECMALLOC_PKEY, SECMALLOC_FORK_COPY, NULL) == 0);
	expect((at = secmalloc(1)) != NULL && shut(at));
	return 0;
}

/* --- Misuse --- */

static const char *expected_misuse;
static unsigned char *misused_object;

static void
misused(const char *function, const char *what, void *data)
{
	(void)function;
	(void)data;
	/* And the library's own window is shut when it is told. */
	_exit(strcmp(what, expected_misuse) == 0 && (misused_object == NULL ||
	    faults(misused_object, false)) ? 42 : 1);
}

static bool
noticed(void (*misuse)(void), const char *what)
{
	int status;
	pid_t pid = fork();

	expect(pid != -1);
	if (pid == 0) {
		expected_misuse = what;
		misuse();
		_exit(2);
	}
	expect(waitpid(pid, &status, 0) == pid);
	return WIFEXITED(status) && WEXITSTATUS(status) == 42;
}

/* Whatever the canary is, it is another then. */
static void
spill(unsigned i)
{
	expect(secmalloc_open() == 0);
	object[i][object_size[i]] ^= 1;
	expect(secmalloc_close() == 0);
}

static void
overflow(void)
{
	misused_object = object[0];
	spill(5);
	secfree(object[5]);
}

static void
overflow_and_resize(void)
{
	misused_object = object[0];
	spill(5);
	object[5] = secrealloc(object[5], 1);
}

static void
double_free(void)
{
	unsigned char *freed = launder(object[7]);

	misused_object = object[0];
	secfree(object[7]);
	secfree(freed);
}

static void
foreign(void)
{
	static _Alignas(16) unsigned char plain[64];

	misused_object = object[0];
	secfree(launder(plain));
}

static void
late_write(void)
{
	unsigned char *freed = launder(object[7]);

	misused_object = object[0];
	secfree(object[7]);
	writes(freed, 1, 1);
	for (unsigned i = 0; i < 100000; i++)
		if (secmalloc(object_size[7]) == NULL)
			break;
}

static int
misuses(const void *unused)
{
	(void)unused;
	if (who == HELPER)
		become_nobody(0);
	expect(init_with(SECMALLOC_PKEY, SECMALLOC_FORK_COPY, misused) == 0);
	fill();
	expect(noticed(overflow, "overflow past the end of an object"));
	expect(noticed(overflow_and_resize,
	    "overflow past the end of an object"));
	expect(noticed(double_free, "double free"));
	expect(noticed(foreign, "not a pointer of this library"));
	expect(noticed(late_write,
	    "memory was written to after it was freed"));
	expect(whole());
	return 0;
}

/* --- Children --- */

static void
in_child(way *how, bool open, unsigned generation)
{
	unsigned char *own, *sealed;
	int status;
	pid_t pid;

	expect((sealed = secmalloc_guarded(5000)) != NULL);
	writes(sealed, 5, 5000);
	expect(secmalloc_protect(sealed, SECMALLOC_NOACCESS) == 0);
	expect(!open || secmalloc_open() == 0);
	expect((pid = how()) != -1);
	if (pid == 0) {
		expect((own = secmalloc(100)) != NULL);
		expect(faults(own, false) == !open);
		expect(faults(object[4], false) == !open);
		expect(!open || secmalloc_close() == 0);
		expect(all_shut() && whole() && shut(own));
		expect(secmalloc_protect(sealed, SECMALLOC_READWRITE) == 0);
		expect(shut(sealed) && reads(sealed, 5, 5000));
		secfree(sealed);
		errno = 0;
		expect(secmalloc_close() == -1 && errno == EINVAL);
		expect(secmalloc_verify() == 0);
		verbs(false);
		for (unsigned i = 0; i < OBJECTS; i++)
			writes(object[i], (int)i + 1, object_size[i]);
		if (generation < 2)
			in_child(how, open, generation + 1);
		for (unsigned i = 0; i < OBJECTS; i++) {
			writes(object[i], 99, object_size[i]);
			secfree(object[i]);
		}
		secmalloc_shutdown();
		_exit(0);
	}
	expect(waitpid(pid, &status, 0) == pid);
	if (status != 0)
		diag("a child of generation %u, %s, ended with %#x", generation,
		    how == way_clone ? "unseen" : "seen", (unsigned)status);
	expect(status == 0);
	expect(faults(object[4], false) == !open);
	expect(!open || secmalloc_close() == 0);
	expect(whole() && all_shut());
	expect(secmalloc_protect(sealed, SECMALLOC_READONLY) == 0);
	expect(reads(sealed, 5, 5000));
	secfree(sealed);
	expect(secmalloc_verify() == 0);
}

static int
children(const void *unused)
{
	(void)unused;
	start();
	fill();
	in_child(way_fork, false, 0);
	in_child(way_fork, true, 0);
	in_child(way_clone, false, 0);
	in_child(way_clone, true, 0);
	return 0;
}

static int
denied_children(const void *unused)
{
	unsigned char *at;
	int status;
	pid_t pid;

	(void)unused;
	if (who == HELPER)
		become_nobody(0);
	expect(init_with(SECMALLOC_PKEY, SECMALLOC_FORK_DENY, NULL) == 0);
	fill();
	expect((pid = fork()) != -1);
	if (pid == 0) {
		secfree(object[0]);
		expect((at = secmalloc(100)) != NULL && shut(at));
		expect(reads(at, 0, 100));
		_exit(0);
	}
	expect(waitpid(pid, &status, 0) == pid && status == 0);
	expect(whole() && all_shut());
	return 0;
}

/* --- Helpers that die --- */

static bool
all_locked(void)
{
	for (unsigned i = 0; i < OBJECTS; i++)
		if (!pages_locked(object[i], object_size[i]))
			return false;
	return true;
}

static int
helper_dies(const void *flags)
{
	struct secmalloc_config config;
	const bool belt = *(const size_t *)flags == SECMALLOC_BELT;

	test_config(&config, SECMALLOC_MODE_HELPER);
	config.flags = SECMALLOC_PKEY | *(const size_t *)flags;
	become_nobody(8 * MIB);
	expect(secmalloc_init(&config) == 0);
	fill();
	for (unsigned i = 0; i < 5; i++) {
		expect(kill_helpers() == 1);
		expect(all_locked() == belt);
		expect(secmalloc_verify() == 0 && helpers() == 1);
		expect(all_locked() && all_shut() && whole());
	}
	/* None comes after it: the process locks what it cannot read. */
	chmod_helper(0);
	expect(kill_helpers() == 1);
	expect(secmalloc_verify() == 0 && helpers() == 0);
	expect(all_locked() && all_shut() && whole());
	chmod_helper(04755);
	expect(secmalloc(4 * MIB) != NULL && helpers() == 1);
	expect(secmalloc_verify() == 0 && all_shut() && whole());
	return 0;
}

#ifdef WINDOW_EMULATED

/* --- What is not worth a window --- */

static unsigned keys_before;

static void
foreign_quietly(void)
{
	static _Alignas(16) unsigned char plain[64];

	keys_before = keys_set();
	secfree(launder(plain));
}

static void
no_window_was_open(const char *function, const char *what, void *data)
{
	(void)function;
	(void)what;
	(void)data;
	_exit(keys_set() == keys_before ? 42 : 1);
}

static int
no_needless_windows(const void *unused)
{
	struct secmalloc_stats stats;
	unsigned before;

	(void)unused;
	if (who == HELPER)
		become_nobody(0);
	expect(init_with(SECMALLOC_PKEY, SECMALLOC_FORK_COPY,
	    no_window_was_open) == 0);
	fill();
	before = keys_set();
	expect(secmalloc_usable_size(object[3]) == object_size[3]);
	expect(secmalloc_is_secure(object[OBJECTS - 1]) == 1);
	expect(secmalloc_stats(&stats) == 0 && stats.objects == OBJECTS);
	expect(secmalloc_verify() == 0);
	expect(keys_set() == before);
	/* Nor is a pointer that is none. */
	expect(noticed(foreign_quietly, ""));
	/* But to free an object is, once to look at it and once to wipe it. */
	secfree(object[3]);
	expect(keys_set() > before);
	return 0;
}

#else

/* --- Threads --- */

struct meeting {
	unsigned char *at;
	pthread_barrier_t barrier;
};

static void *
no_business_of_mine(void *arg)
{
	struct meeting *meeting = arg;

	pthread_barrier_wait(&meeting->barrier); /* ours was open when it began */
	expect(!faults(meeting->at, false));
	expect(secmalloc_close() == 0 && shut(meeting->at));
	errno = 0;
	expect(secmalloc_close() == -1 && errno == EINVAL);
	pthread_barrier_wait(&meeting->barrier);
	/* Theirs is shut now, and ours is our own. */
	pthread_barrier_wait(&meeting->barrier);
	expect(secmalloc_open() == 0 && !faults(meeting->at, true));
	pthread_barrier_wait(&meeting->barrier);
	pthread_barrier_wait(&meeting->barrier);
	expect(secmalloc_close() == 0 && shut(meeting->at));
	return NULL;
}

static void *
before_the_start(void *arg)
{
	struct meeting *meeting = arg;

	pthread_barrier_wait(&meeting->barrier);
	expect(shut(meeting->at));
	expect(secmalloc_open() == 0 && !faults(meeting->at, false));
	expect(secmalloc_close() == 0);
	expect(shut(meeting->at));
	return NULL;
}

static int
one_thread_each(const void *unused)
{
	struct meeting meeting;
	pthread_t early, other;

	(void)unused;
	if (who == HELPER)
		become_nobody(0);
	expect(pthread_barrier_init(&meeting.barrier, NULL, 2) == 0);
	expect(pthread_create(&early, NULL, before_the_start, &meeting) == 0);
	expect(init_with(SECMALLOC_PKEY, SECMALLOC_FORK_COPY, NULL) == 0);
	expect((meeting.at = secmalloc(100)) != NULL);
	pthread_barrier_wait(&meeting.barrier);
	expect(pthread_join(early, NULL) == 0);

	expect(secmalloc_open() == 0);
	expect(pthread_create(&other, NULL, no_business_of_mine,
	    &meeting) == 0);
	pthread_barrier_wait(&meeting.barrier);
	pthread_barrier_wait(&meeting.barrier);
	/* It has shut its own: not ours. */
	expect(!faults(meeting.at, true));
	expect(secmalloc_close() == 0 && shut(meeting.at));
	pthread_barrier_wait(&meeting.barrier);
	pthread_barrier_wait(&meeting.barrier);
	/* It has opened one: not ours. */
	expect(shut(meeting.at));
	pthread_barrier_wait(&meeting.barrier);
	expect(pthread_join(other, NULL) == 0);
	return 0;
}

static void *
allocate_and_use(void *arg)
{
	const int mine = (int)(uintptr_t)arg;
	unsigned char *at[32] = { NULL };

	for (unsigned i = 0; i < 4000; i++) {
		unsigned n = i % 32;
		size_t size = 1 + i * 37 % 3000;

		if (at[n] != NULL) {
			expect(reads(at[n], mine, 1));
			expect(i % 64 != 0 || shut(at[n]));
		}
		expect((at[n] = secrealloc(at[n], size)) != NULL);
		writes(at[n], mine, size);
		if (i % 3 == 0) {
			secfree(at[n]);
			at[n] = NULL;
		}
	}
	return NULL;
}

static int
many_threads(const void *unused)
{
	pthread_t thread[THREADS];
	int status;
	pid_t pid;

	(void)unused;
	start();
	fill();
	for (uintptr_t i = 0; i < THREADS; i++)
		expect(pthread_create(&thread[i], NULL, allocate_and_use,
		    (void *)(i + 1)) == 0);
	for (unsigned i = 0; i < 5; i++) {
		expect((pid = fork()) != -1);
		if (pid == 0) {
			expect(whole() && all_shut());
			_exit(0);
		}
		expect(waitpid(pid, &status, 0) == pid && status == 0);
	}
	for (unsigned i = 0; i < THREADS; i++)
		expect(pthread_join(thread[i], NULL) == 0);
	expect(whole() && all_shut());
	return 0;
}

/* --- Signals --- */

static volatile sig_atomic_t handled;

/* No expect() in here: a handler that finds fault does not count itself. */
static void
on_signal(int signal)
{
	int error = errno;

	(void)signal;
	errno = 0;
	if (secmalloc_open() == 0 && secmalloc_open() == 0) {
		object[1][0] = 2;
		if (secmalloc_close() == 0) {
			object[1][0] = 2;
			if (secmalloc_close() == 0)
				handled++;
		}
	}
	errno = error;
}

static volatile sig_atomic_t shut_in_handler;

static void
on_probe(int signal)
{
	(void)signal;
	shut_in_handler = shut(object[2]);
}

static int
signals(const void *unused)
{
	const struct itimerval often = { { 0, 50 }, { 0, 50 } };
	const struct itimerval never = { { 0, 0 }, { 0, 0 } };
	struct sigaction action = { .sa_handler = on_probe };

	(void)unused;
	start();
	fill();
	/* Whatever was open, in a handler it is not; and is again after it. */
	expect(sigaction(SIGUSR1, &action, NULL) == 0);
	expect(raise(SIGUSR1) == 0 && shut_in_handler && shut(object[2]));
	expect(secmalloc_open() == 0);
	shut_in_handler = 0;
	expect(raise(SIGUSR1) == 0 && shut_in_handler);
	expect(!faults(object[2], false));
	expect(secmalloc_close() == 0 && shut(object[2]));

	/* At any moment. */
	action.sa_handler = on_signal;
	expect(sigaction(SIGALRM, &action, NULL) == 0);
	expect(setitimer(ITIMER_REAL, &often, NULL) == 0);
	for (unsigned n = 0; handled < 5000; n++) {
		unsigned deep = 1 + n % 5;

		for (unsigned i = 0; i < deep; i++)
			expect(secmalloc_open() == 0);
		for (unsigned i = 0; i < deep; i++) {
			object[2][0] = 3;
			expect(secmalloc_close() == 0);
		}
		errno = 0;
		expect(secmalloc_close() == -1 && errno == EINVAL);
		if (n % 256 == 0) {
			secfree(object[0]);
			expect((object[0] = secmalloc(1)) != NULL);
		}
	}
	expect(setitimer(ITIMER_REAL, &never, NULL) == 0);
	writes(object[0], 1, 1);
	expect(whole() && all_shut());
	return 0;
}

static jmp_buf out_of_window;
static sigjmp_buf out_of_handler;

static void
on_leap(int signal)
{
	(void)signal;
	siglongjmp(out_of_handler, 1);
}

static void
close_all(void)
{
	while (secmalloc_close() == 0)
		;
	expect(errno == EINVAL);
}

static int
jumps(const void *unused)
{
	const struct sigaction action = { .sa_handler = on_leap };

	(void)unused;
	start();
	fill();
	/* A window is not left by a jump ... */
	if (setjmp(out_of_window) == 0) {
		expect(secmalloc_open() == 0 && secmalloc_open() == 0);
		longjmp(out_of_window, 1);
	}
	expect(!faults(object[2], false));
	close_all();
	expect(shut(object[2]));
	/* ... and not opened again by one out of a handler. */
	expect(sigaction(SIGUSR1, &action, NULL) == 0);
	expect(secmalloc_open() == 0);
	if (sigsetjmp(out_of_handler, 1) == 0)
		expect(raise(SIGUSR1) == 0);
	expect(shut(object[2]));
	expect(secmalloc_open() == 0 && !faults(object[2], false));
	expect(secmalloc_close() == 0 && shut(object[2]));
	expect(secmalloc_close() == 0 && shut(object[2]));
	errno = 0;
	expect(secmalloc_close() == -1 && errno == EINVAL);
	expect(whole());
	return 0;
}

/* --- What it costs --- */

enum { ROUNDS = 101, PAIRS = 10000, MOST_NS = 40 };

static int
compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double
now_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int
cost(void)
{
	static double pair[ROUNDS], within[ROUNDS];

	who = INPROCESS;
	start();
	for (unsigned i = 0; i < ROUNDS; i++) {
		double begun = now_ns();

		for (unsigned n = 0; n < PAIRS; n++) {
			(void)secmalloc_open();
			(void)secmalloc_close();
		}
		pair[i] = (now_ns() - begun) / PAIRS;
		(void)secmalloc_open();
		begun = now_ns();
		for (unsigned n = 0; n < PAIRS; n++) {
			(void)secmalloc_open();
			(void)secmalloc_close();
		}
		within[i] = (now_ns() - begun) / PAIRS;
		(void)secmalloc_close();
	}
	qsort(pair, ROUNDS, sizeof(*pair), compare);
	qsort(within, ROUNDS, sizeof(*within), compare);
	diag("window %6.1f ns (quartiles %.1f and %.1f)", pair[ROUNDS / 2],
	    pair[ROUNDS / 4], pair[ROUNDS * 3 / 4]);
	diag("within %6.1f ns (quartiles %.1f and %.1f)", within[ROUNDS / 2],
	    within[ROUNDS / 4], within[ROUNDS * 3 / 4]);
	ok(pair[ROUNDS / 2] <= MOST_NS,
	    "a window costs at most %d ns", MOST_NS);
	return done_testing();
}

#endif

/* Where there are none at all, by the kernel's word, or none is left. */
static int
none(void)
{
	struct secmalloc_stats stats;

	while (pkey_alloc(0, 0) != -1)
		;
	who = INPROCESS;
	for (unsigned i = 0; i < 3; i++) {
		errno = 0;
		ok(init_with(SECMALLOC_PKEY, SECMALLOC_FORK_COPY, NULL) == -1 &&
		    errno == ENOTSUP, "a start fails");
	}
	errno = 0;
	ok(secmalloc(1) == NULL && errno == ENOTSUP, "so does an allocation");
	ok(secmalloc_stats(&stats) == 0 && stats.pools == 0 && stats.mode == -1,
	    "and nothing is locked");
	ok(init_with(0, SECMALLOC_FORK_COPY, NULL) == 0 && secmalloc(1) != NULL,
	    "without the flag there is memory");
	errno = 0;
	ok(secmalloc_open() == -1 && errno == ENOTSUP, "and no window");
	return done_testing();
}

static int
trial(void)
{
	int key = pkey_alloc(0, 0);

	return key == -1 ? 1 : 0;
}

int
main(int argc, char *argv[])
{
	static const size_t flags[] = { 0, SECMALLOC_BELT };

	if (argc == 2 && strcmp(argv[1], "trial") == 0)
		return trial();
	if (argc == 2 && strcmp(argv[1], "none") == 0)
		return none();
#ifndef WINDOW_EMULATED
	if (argc == 2 && strcmp(argv[1], "cost") == 0)
		return cost();
#endif
	if (argc == 2 && strcmp(argv[1], "helper") == 0)
		who = HELPER;
	else if (argc == 2 && strcmp(argv[1], "inprocess") == 0)
		who = INPROCESS;
	else if (argc == 2 && strcmp(argv[1], "secret") == 0)
		who = SECRET;
	else
		bail_out("usage: window trial|none|cost|helper|inprocess|secret");

	ok(run_worker(without_the_flag, NULL, 20),
	    "without the flag there are no windows, and a stray access is none");
	ok(run_worker(strays, NULL, 60),
	    "with it a stray read and a stray write fault");
	ok(run_worker(verbs_shut, NULL, 60),
	    "all verbs work without a window, and open none");
	ok(run_worker(verbs_open, NULL, 60),
	    "all verbs work in a window, and leave it open");
	ok(run_worker(system_calls, NULL, 20),
	    "system calls have access in a window only");
	ok(run_worker(nesting, NULL, 20),
	    "windows nest, 63 deep");
	ok(run_worker(again, NULL, 60),
	    "a stop ends windows, and gives the key back");
	ok(run_worker(no_key_left, NULL, 20),
	    "where no key is to be had, nothing starts");
	ok(run_worker(no_start, NULL, 60),
	    "a start that fails keeps no key");
	/* AddressSanitizer notices them before. */
	if (!WATCHED)
		ok(run_worker(misuses, NULL, 60),
		    "misuses are noticed without a window");
	ok(run_worker(children, NULL, 60),
	    "a child has its parent's windows, and its own copy behind them");
	ok(run_worker(denied_children, NULL, 20),
	    "what a child has that was denied its parent's is behind them, too");
	for (unsigned i = 0; who == HELPER && i < 2; i++)
		ok(run_worker(helper_dies, &flags[i], 60),
		    "what is locked anew is so without a window%s",
		    i == 0 ? "" : ", with a belt");
#ifdef WINDOW_EMULATED
	ok(run_worker(no_needless_windows, NULL, 20),
	    "no window is opened where nothing is touched");
#else
	ok(run_worker(one_thread_each, NULL, 20),
	    "a window is its thread's, and one that is inherited can be shut");
	ok(run_worker(many_threads, NULL, 120),
	    "threads open windows, allocate and fork at once");
	ok(run_worker(signals, NULL, 120),
	    "a handler begins without a window, and disturbs none");
	ok(run_worker(jumps, NULL, 20),
	    "a jump leaves windows open; one out of a handler, shut");
#endif
	return done_testing();
}
