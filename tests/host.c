/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * host.c: looks for any trace that the library and its helper leave in the
 * program that uses them; it knows nothing of how the helper is started.
 *
 * argv[1] says who locks: "helper" (for nobody) or "inprocess" (root).
 * "--descriptors" prints those that are open and ends: what an exec leaves.
 */
#include "config.h"

#include <pthread.h>
#include <stdatomic.h>

#include "faults.h"

#define KIB ((size_t)1024)
#define MIB (1024 * KIB)

static int mode;

static struct secmalloc_config
configuration(void)
{
	struct secmalloc_config config;

	test_config(&config, mode);
	return config;
}

static void
become_user(void)
{
	if (mode == SECMALLOC_MODE_HELPER)
		become_nobody(0);
}

static unsigned
helpers_wanted(void)
{
	return mode == SECMALLOC_MODE_HELPER;
}

/* Everything at which a trace could be left: a start, growth, a fork, an end. */
static void
whole_life(void)
{
	struct secmalloc_config config = configuration();
	void *p, *q;
	pid_t pid;

	expect(secmalloc_init(&config) == 0);
	expect((p = secmalloc(100)) != NULL);
	expect((q = secmalloc(1 * MIB)) != NULL);
	expect(secmalloc_verify() == 0);
	if ((pid = fork()) == 0) {
		memset(p, 1, 100);
		_exit(secmalloc_verify() == 0 ? 0 : 1);
	}
	expect(pid != -1);
	/* ECHILD: whoever ignores SIGCHLD has no child to wait for. */
	while (waitpid(pid, NULL, 0) == -1 && errno != ECHILD)
		expect(errno == EINTR);
	secfree(p);
	secfree(q);
	expect(secmalloc_verify() == 0);
	secmalloc_shutdown();
	expect(secmalloc_init(&config) == 0);
	expect((p = secmalloc(100)) != NULL);
	expect(pages_locked(p, 100));
}

/* --- Children and signals --- */

static int
no_child(const void *arg)
{
	struct secmalloc_config config = configuration();
	void *p;

	(void)arg;
	become_user();
	expect(waitpid(-1, NULL, 0) == -1 && errno == ECHILD);
	expect(secmalloc_init(&config) == 0);
	expect(helpers() == helpers_wanted());
	expect(waitpid(-1, NULL, 0) == -1 && errno == ECHILD);
	expect(waitpid(-1, NULL, __WALL) == -1 && errno == ECHILD);
	expect((p = secmalloc(1 * MIB)) != NULL);
	expect(waitpid(-1, NULL, __WALL) == -1 && errno == ECHILD);
	/* Nor for another helper. */
	expect(kill_helpers() == helpers_wanted());
	expect(secmalloc_verify() == 0 && pages_locked(p, 1 * MIB));
	expect(helpers() == helpers_wanted());
	expect(waitpid(-1, NULL, __WALL) == -1 && errno == ECHILD);
	secfree(p);
	secmalloc_shutdown();
	expect(helpers_become(0));
	expect(waitpid(-1, NULL, __WALL) == -1 && errno == ECHILD);
	return 0;
}

static atomic_int signals;

static void
count_signal(int sig)
{
	(void)sig;
	signals++;
}

/*
 * The number of SIGCHLDs, of which the one child that whole_life() makes is
 * due to the host itself.
 */
static int
no_sigchld(const void *arg)
{
	struct sigaction action = { .sa_handler = count_signal };

	(void)arg;
	become_user();
	expect(sigaction(SIGCHLD, &action, NULL) == 0);
	whole_life();
	secmalloc_shutdown();
	expect(helpers_become(0));
	expect(signals == 1);
	return 0;
}

static int
sigchld_ignored(const void *arg)
{
	struct sigaction action = { .sa_handler = SIG_IGN }, after;

	(void)arg;
	become_user();
	expect(sigaction(SIGCHLD, &action, NULL) == 0);
	whole_life();
	expect(sigaction(SIGCHLD, NULL, &after) == 0);
	expect(after.sa_handler == SIG_IGN);
	return 0;
}

static int
sigchld_nocldwait(const void *arg)
{
	struct sigaction action = {
		.sa_handler = count_signal, .sa_flags = SA_NOCLDWAIT
	}, after;

	(void)arg;
	become_user();
	expect(sigaction(SIGCHLD, &action, NULL) == 0);
	whole_life();
	expect(sigaction(SIGCHLD, NULL, &after) == 0);
	expect((after.sa_flags & SA_NOCLDWAIT) != 0);
	expect(signals <= 1);
	return 0;
}

static int
sigchld_blocked(const void *arg)
{
	struct secmalloc_config config = configuration();
	sigset_t set;

	(void)arg;
	become_user();
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	expect(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
	expect(secmalloc_init(&config) == 0);
	secfree(secmalloc(1 * MIB));
	secmalloc_shutdown();
	expect(helpers_become(0));
	expect(sigpending(&set) == 0 && sigismember(&set, SIGCHLD) == 0);
	whole_life();
	return 0;
}

static int
signals_unchanged(const void *arg)
{
	struct sigaction before[NSIG], after;
	sigset_t mask, now;
	int sig;

	(void)arg;
	become_user();
	sigemptyset(&mask);
	sigaddset(&mask, SIGUSR1);
	sigaddset(&mask, SIGPIPE);
	expect(sigprocmask(SIG_SETMASK, &mask, NULL) == 0);
	expect(signal(SIGHUP, SIG_IGN) != SIG_ERR);
	expect(signal(SIGUSR2, count_signal) != SIG_ERR);
	for (sig = 1; sig < NSIG; sig++)
		(void)sigaction(sig, NULL, &before[sig]);
	expect(sigprocmask(SIG_SETMASK, NULL, &mask) == 0);
	whole_life();
	expect(sigprocmask(SIG_SETMASK, NULL, &now) == 0);
	for (sig = 1; sig < NSIG; sig++) {
		expect(sigismember(&mask, sig) == sigismember(&now, sig));
		if (sigaction(sig, NULL, &after) == -1)
			continue;
		expect(after.sa_handler == before[sig].sa_handler &&
		    after.sa_flags == before[sig].sa_flags);
	}
	return 0;
}

/* Keys on a terminal reach every process of its foreground group. */
static int
signals_to_group(const void *arg)
{
	static const int keys[] = { SIGINT, SIGHUP, SIGTERM, SIGQUIT };
	struct secmalloc_config config = configuration();
	void *p;

	(void)arg;
	become_user();
	expect(setpgid(0, 0) == 0);
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		expect(signal(keys[i], SIG_IGN) != SIG_ERR);
	expect(secmalloc_init(&config) == 0);
	expect((p = secmalloc(100)) != NULL);
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		expect(kill(0, keys[i]) == 0);
	sleep_ms(50);
	expect(helpers() == helpers_wanted());
	expect(secmalloc_verify() == 0 && pages_locked(p, 100));
	return 0;
}

/* A handler that interrupts and looks, every 100 µs. */
static void
tick(int sig)
{
	(void)sig;
	signals++;
}

static int
interrupted(const void *arg)
{
	struct sigaction action = { .sa_handler = tick };
	struct itimerspec often = {
		.it_interval = { 0, 100000 }, .it_value = { 0, 100000 }
	};
	struct sigevent event = {
		.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1
	};
	struct secmalloc_config config = configuration();
	timer_t timer;

	(void)arg;
	become_user();
	expect(sigaction(SIGUSR1, &action, NULL) == 0);
	expect(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
	expect(timer_settime(timer, 0, &often, NULL) == 0);
	for (int i = 0; i < 50; i++) {
		void *p;

		expect(secmalloc_init(&config) == 0);
		expect((p = secmalloc(1 * MIB)) != NULL);
		expect(secmalloc_verify() == 0);
		secfree(p);
		secmalloc_shutdown();
	}
	expect(signals > 0);
	(void)timer_delete(timer);
	return 0;
}

/* --- The surroundings --- */

static int
surroundings_unchanged(const void *arg)
{
	char before[4096], after[4096];
	pid_t group = getpgrp(), session = getsid(0);
	int dumpable;

	(void)arg;
	become_user();
	dumpable = prctl(PR_GET_DUMPABLE, 0, 0, 0, 0);
	expect(chdir("/usr") == 0);
	(void)umask(0137);
	expect(getcwd(before, sizeof(before)) != NULL);
	whole_life();
	expect(getcwd(after, sizeof(after)) != NULL);
	expect(strcmp(before, after) == 0);
	expect(umask(0) == 0137);
	expect(getpgrp() == group && getsid(0) == session);
	expect(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == dumpable);
	expect(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0);
	return 0;
}

/* The descriptors that a program executed from here finds, as it says. */
static void
list_after_exec(char *list, size_t size)
{
	char path[] = "/proc/self/exe", word[] = "--descriptors";
	char *argv[] = { path, word, NULL };
	size_t used = 0;
	ssize_t got;
	int ends[2];
	pid_t pid;

	expect(pipe2(ends, O_CLOEXEC) == 0);
	if ((pid = fork()) == 0) {
		(void)dup2(ends[1], STDOUT_FILENO);
		execv(path, argv);
		_exit(127);
	}
	(void)close(ends[1]);
	while ((got = read(ends[0], list + used, size - 1 - used)) > 0)
		used += (size_t)got;
	list[used] = '\0';
	(void)close(ends[0]);
	expect(waitpid(pid, NULL, 0) == pid && used != 0);
}

static int
nothing_after_exec(const void *arg)
{
	char before[4096], after[4096];
	struct secmalloc_stats stats;
	unsigned open_before, open_after;
	int control;

	(void)arg;
	become_user();
	list_after_exec(before, sizeof(before));
	open_before = count_descriptors();
	whole_life();
	open_after = count_descriptors();
	/* The conversation and each pool, and only in this process. */
	expect(secmalloc_stats(&stats) == 0);
	expect(open_after - open_before == helpers_wanted() *
	    (1 + stats.pools));
	list_after_exec(after, sizeof(after));
	expect(strcmp(before, after) == 0);
	/* The control: what is not closed on exec is listed. */
	expect((control = dup(0)) != -1);
	list_after_exec(after, sizeof(after));
	expect(strcmp(before, after) != 0);
	return 0;
}

static int
environment_unused(const void *arg)
{
	static const char *const names[] = {
		"SECMALLOC_HELPER", "SECMALLOC_HELPER_PATH", "SECMALLOC_PATH",
		"SECMALLOC_MODE", "SECMALLOC_TEST_HELPER", "HELPER_PATH"
	};
	struct secmalloc_config config = configuration();
	const char *helper = config.helper_path;

	(void)arg;
	become_user();
	/* Nor does one keep the helper from what it is to do. */
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		expect(setenv(names[i], "/bin/true", 1) == 0);
	expect(setenv("LD_PRELOAD", "/nonexistent.so", 1) == 0);
	expect(setenv("LD_LIBRARY_PATH", "/nonexistent", 1) == 0);
	expect(setenv("GLIBC_TUNABLES", "glibc.malloc.check=3", 1) == 0);
	config.helper_path = helper != NULL ? strdup(helper) : NULL;
	expect(secmalloc_init(&config) == 0);
	expect(secmalloc_verify() == 0);
	return 0;
}

/* --- Threads --- */

static atomic_bool stop;
static atomic_uint started;

static void *
work(void *arg)
{
	unsigned long n = 0;

	(void)arg;
	while (!stop) {
		char *p = malloc(1 + n++ % 5000);

		if (p != NULL)
			*p = 1;
		free(p);
		if (n % 64 == 0) {
			int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

			if (fd != -1)
				(void)close(fd);
		}
	}
	return NULL;
}

static void *
work_and_start(void *arg)
{
	struct secmalloc_config config = configuration();
	int result;

	(void)arg;
	result = secmalloc_init(&config);
	if (result == 0)
		started++;
	else if (errno != EALREADY)
		return (void *)1;
	for (int i = 0; i < 100; i++)
		secfree(secmalloc((size_t)i * 100));
	return secmalloc_verify() == 0 ? NULL : (void *)1;
}

enum { THREADS = 8 };

static int
beside_threads(const void *arg)
{
	pthread_t threads[THREADS];

	(void)arg;
	become_user();
	for (int i = 0; i < THREADS; i++)
		expect(pthread_create(&threads[i], NULL, work, NULL) == 0);
	for (int i = 0; i < 20; i++) {
		whole_life();
		secmalloc_shutdown();
	}
	stop = true;
	for (int i = 0; i < THREADS; i++)
		expect(pthread_join(threads[i], NULL) == 0);
	expect(helpers_become(0));
	return 0;
}

static int
one_start(const void *arg)
{
	pthread_t threads[THREADS];
	void *result;

	(void)arg;
	become_user();
	for (int i = 0; i < THREADS; i++)
		expect(pthread_create(&threads[i], NULL, work_and_start,
		    NULL) == 0);
	for (int i = 0; i < THREADS; i++)
		expect(pthread_join(threads[i], &result) == 0 &&
		    result == NULL);
	expect(started == 1 && helpers() == helpers_wanted());
	return 0;
}

static void *
start_and_stop(void *arg)
{
	const struct secmalloc_config *config = arg;

	for (;;) {
		void *p;

		pthread_testcancel();
		if (secmalloc_init(config) == -1)
			return (void *)1;
		p = secmalloc(1 * MIB);
		(void)secmalloc_verify();
		secfree(p);
		secmalloc_shutdown();
	}
}

/* Wherever it strikes, the others go on and nothing is left. */
static int
cancelled(const void *arg)
{
	struct secmalloc_config config = configuration();
	unsigned descriptors;

	(void)arg;
	become_user();
	descriptors = count_descriptors();
	for (int i = 0; i < 100; i++) {
		pthread_t thread;
		void *result;

		expect(pthread_create(&thread, NULL, start_and_stop,
		    &config) == 0);
		for (volatile int spin = 0; spin < i * 20000; spin++)
			;
		expect(pthread_cancel(thread) == 0);
		expect(pthread_join(thread, &result) == 0);
		expect(result == PTHREAD_CANCELED);
		expect(secmalloc_verify() == 0);
		secmalloc_shutdown();
		expect(count_descriptors() == descriptors);
	}
	expect(helpers_become(0));
	return 0;
}

/* --- Standard descriptors --- */

/* ARG: a bit for each of 0 to 2 that is closed. */
static int
standard_closed(const void *arg)
{
	struct secmalloc_config config = configuration();
	unsigned which = *(const unsigned *)arg;
	struct stat st;
	void *p;
	pid_t pid;
	int status;

	become_user();
	for (int fd = 0; fd < 3; fd++)
		if ((which & 1U << fd) != 0)
			(void)close(fd);
	expect(secmalloc_init(&config) == 0);
	expect((p = secmalloc(1 * MIB)) != NULL);
	expect(pages_locked(p, 1 * MIB) && secmalloc_verify() == 0);
	/* They are the host's still: what it writes there goes nowhere. */
	for (int fd = 0; fd < 3; fd++)
		if ((which & 1U << fd) != 0)
			expect(fstat(fd, &st) == -1 && errno == EBADF);
	if ((pid = fork()) == 0)
		_exit(secmalloc_verify() == 0 ? 0 : 1);
	expect(waitpid(pid, &status, 0) == pid && status == 0);
	for (int fd = 0; fd < 3; fd++)
		if ((which & 1U << fd) != 0)
			expect(fstat(fd, &st) == -1 && errno == EBADF);
	secfree(p);
	secmalloc_shutdown();
	return 0;
}

/* A host that closes what it did not open, and gets the numbers again. */
static int
closed_by_host(const void *arg)
{
	struct secmalloc_config config = configuration();
	char byte[2];
	int ends[2];
	void *p, *q;

	(void)arg;
	become_user();
	expect(secmalloc_init(&config) == 0);
	expect((p = secmalloc(100)) != NULL);
	for (int fd = 3; fd < 256; fd++)
		if (fd != observer)
			(void)close(fd);
	expect(pipe(ends) == 0);
	expect(pages_locked(p, 100));
	expect(secmalloc_verify() == 0 && secmalloc_is_secure(p) == 1);
	expect(helpers() == helpers_wanted());
	/* Who is asked for more is another. */
	expect((q = secmalloc(1 * MIB)) != NULL);
	expect(helpers() == 2 * helpers_wanted());
	expect(pages_locked(p, 100) && pages_locked(q, 1 * MIB));
	expect(secmalloc_verify() == 0);
	secmalloc_shutdown();
	expect(helpers_become(0));
	/* Neither end was written to, read from or closed. */
	expect(write(ends[1], "x", 1) == 1);
	expect(read(ends[0], byte, sizeof(byte)) == 1);
	expect(secmalloc_init(&config) == 0);
	return 0;
}

/* --- */

static int
list_descriptors(void)
{
	for (int fd = 0; fd < 1024; fd++)
		if (fcntl(fd, F_GETFD) != -1)
			(void)printf("%d\n", fd);
	return fflush(stdout) == 0 ? 0 : 1;
}

static const struct {
	int (*body)(const void *);
	unsigned which;
	const char *promise;
} promises[] = {
	{ no_child, 0, "the host has no child that it did not make" },
	{ no_sigchld, 0, "no SIGCHLD comes but those of its own children" },
	{ sigchld_ignored, 0, "a host may ignore SIGCHLD" },
	{ sigchld_nocldwait, 0, "or set SA_NOCLDWAIT" },
	{ sigchld_blocked, 0, "or block SIGCHLD, and none is pending" },
	{ signals_unchanged, 0, "signal mask and dispositions are unchanged" },
	{ signals_to_group, 0,
	    "signals to the host's process group do not end the lock" },
	{ interrupted, 0, "a host's signal handlers may run at any time" },
	{ surroundings_unchanged, 0,
	    "directory, umask, session, process group are unchanged" },
	{ nothing_after_exec, 0, "no new descriptor survives an exec" },
	{ environment_unused, 0, "the environment chooses nothing" },
	{ beside_threads, 0, "a start succeeds while eight threads work" },
	{ one_start, 0, "of eight starts at once, one is the start" },
	{ cancelled, 0, "a thread may be cancelled in any call" },
	{ standard_closed, 1, "a start succeeds with 0 closed" },
	{ standard_closed, 2, "with 1 closed" },
	{ standard_closed, 4, "with 2 closed" },
	{ standard_closed, 7, "with 0, 1 and 2 closed" },
	{ closed_by_host, 0,
	    "a host that closes all descriptors keeps its locks, and gets more" },
};

int
main(int argc, char *argv[])
{
	if (argc > 1 && strcmp(argv[1], "--descriptors") == 0)
		return list_descriptors();
	mode = argc > 1 && strcmp(argv[1], "helper") == 0 ?
	    SECMALLOC_MODE_HELPER : SECMALLOC_MODE_INPROCESS;
	for (size_t i = 0; i < sizeof(promises) / sizeof(promises[0]); i++)
		ok(run_worker(promises[i].body, &promises[i].which, 60), "%s",
		    promises[i].promise);
	return done_testing();
}
