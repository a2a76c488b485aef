/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * faults.h: what tests need that watch a process from outside: workers that
 * run one promise each as nobody, and an observer, which stays root, counts
 * their helpers and looks at their pages; and plans of which call is to fail.
 * It knows nothing of the library's inside.
 *
 * The observer never starts the library.  It is the subreaper of all that
 * follows, so that every helper becomes its child: it can count them, tell
 * them from those of other programs, and see to it that none is left.
 */
#ifndef TESTS_FAULTS_H
#define TESTS_FAULTS_H

#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>

#include "harness.h"
#include "pages.h"

#if defined(__has_feature)
# if __has_feature(thread_sanitizer) && !defined(__SANITIZE_THREAD__)
#  define __SANITIZE_THREAD__ 1
# endif
# if __has_feature(address_sanitizer) && !defined(__SANITIZE_ADDRESS__)
#  define __SANITIZE_ADDRESS__ 1
# endif
#endif

enum {
	/* By AddressSanitizer: slow, so that less is repeated. */
#ifdef __SANITIZE_ADDRESS__
	WATCHED = 1,
#else
	WATCHED = 0,
#endif
	NOBODY = 65534,
	/* How long a helper may outlive its process, in milliseconds. */
	HELPER_GONE_MS = 1000
};

/* What setrlimit takes is of a type by itself in glibc. */
#ifdef __GLIBC__
typedef __rlimit_resource_t resource_t;
#else
typedef int resource_t;
#endif

/* --- Both sides --- */

static inline int64_t
now_us(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static inline void
sleep_ms(long ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000 };

	(void)nanosleep(&t, NULL);
}

/* A worker's promise is broken: says where, and ends the process. */
__attribute__((noreturn)) static inline void
expect_failed(const char *what, const char *file, int line)
{
	diag("%s:%d: pid %d: not so: %s (errno %d, %s)", file, line,
	    (int)getpid(), what, errno, strerror(errno));
	_exit(1);
}

#define expect(cond) \
	((cond) ? (void)0 : expect_failed(#cond, __FILE__, __LINE__))

/* --- The worker's side of the observer --- */

enum { ASK_PAGES, ASK_KEPT, ASK_POOLS, ASK_HELPERS, ASK_KILL, ASK_CHMOD };

struct ask {
	uint64_t at, size;
	int32_t what, pid;
};

struct answer {
	uint64_t count;    /* of pages or helpers */
	uint64_t unlocked; /* pages that lack one of the flags */
	uint64_t frame;    /* of the first page */
};

static int observer = -1;

static inline struct answer
ask_of(pid_t pid, int what, const void *at, size_t size)
{
	struct ask question = { (uintptr_t)at, size, what, (int32_t)pid };
	struct answer answer;

	if (send(observer, &question, sizeof(question), MSG_NOSIGNAL) !=
	    (ssize_t)sizeof(question) ||
	    recv(observer, &answer, sizeof(answer), 0) !=
	    (ssize_t)sizeof(answer))
		expect_failed("the observer answers", __FILE__, __LINE__);
	return answer;
}

static inline struct answer
ask(int what, const void *at, size_t size)
{
	return ask_of(getpid(), what, at, size);
}

/*
 * Whether every page of the SIZE bytes at AT is there, and MLOCKED and
 * UNEVICTABLE in /proc/kpageflags.
 */
static inline bool
pages_locked(const void *at, size_t size)
{
	struct answer answer = ask(ASK_PAGES, at, size);

	return answer.count != 0 && answer.unlocked == 0;
}

/* The bytes in the pools of PID, if every page of them is locked so; else 0. */
static inline size_t
locked_in_pools(pid_t pid)
{
	struct answer answer = ask_of(pid, ASK_POOLS, NULL, 0);

	return answer.unlocked != 0 ? 0 :
	    (size_t)answer.count * (size_t)sysconf(_SC_PAGESIZE);
}

/* The same but for MLOCKED: kept in memory, for whatever reason. */
static inline bool
pages_kept(const void *at, size_t size)
{
	struct answer answer = ask(ASK_KEPT, at, size);

	return answer.count != 0 && answer.unlocked == 0;
}

/* The number of the page frame that AT lies in. */
static inline uint64_t
page_frame(const void *at)
{
	return ask(ASK_PAGES, at, 1).frame;
}

/* Living helpers of this worker and all that descend from it. */
static inline unsigned
helpers(void)
{
	return (unsigned)ask(ASK_HELPERS, NULL, 0).count;
}

/* Whether their number becomes N within a second. */
static inline bool
helpers_become(unsigned n)
{
	int64_t end = now_us() + HELPER_GONE_MS * 1000;

	while (helpers() != n) {
		if (now_us() > end)
			return false;
		sleep_ms(2);
	}
	return true;
}

/* Kills them, and returns once they are dead. */
static inline unsigned
kill_helpers(void)
{
	unsigned n = (unsigned)ask(ASK_KILL, NULL, 0).count;

	(void)helpers_become(0);
	return n;
}

/* Changes the mode of the helper's file. */
static inline void
chmod_helper(mode_t mode)
{
	(void)ask(ASK_CHMOD, NULL, mode);
}

/* --- The observer's side --- */

static inline struct answer
observe_pages(const struct ask *question)
{
	struct page_counts counts = { .pages = 0 };
	struct page_files files;

	pages_open(&files, question->pid);
	if (files.map == -1 || files.flags == -1)
		bail_out("the pages of %d, /proc/kpageflags: %s",
		    (int)question->pid, strerror(errno));
	if (question->what == ASK_POOLS)
		pages_count_pools(question->pid, &counts);
	else
		pages_count(&files, question->at, question->size, &counts);
	pages_close(&files);
	return (struct answer){
		counts.pages, counts.pages - (question->what == ASK_KEPT ?
		    counts.unevictable : counts.locked), counts.frame
	};
}

static inline struct answer
observe_pages_drained(const struct ask *question)
{
	struct answer answer = observe_pages(question);

	if (answer.unlocked == 0)
		return answer;
	pages_drain();
	return observe_pages(question);
}

/*
 * Whether LINE, "PID (NAME) STATE PARENT ...", is of a child that lives, and
 * whether that is a helper.  The kernel keeps 15 characters of a name.
 */
static inline bool
is_living_child(const char *line, bool *helper)
{
	const char *name = strchr(line, '('), *rest = strrchr(line, ')');

	if (name == NULL || rest == NULL || strlen(rest) < 5)
		return false;
	*helper = strncmp(name, "(secmalloc-helpe)", 17) == 0;
	return rest[2] != 'Z' && rest[2] != 'X' &&
	    strtol(rest + 4, NULL, 10) == (long)getpid();
}

/* Calls VISIT for each living child, or each helper; their number. */
static inline unsigned
observe_children(bool all, void (*visit)(pid_t))
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	unsigned n = 0;

	if (proc == NULL)
		bail_out("/proc: %s", strerror(errno));
	while ((entry = readdir(proc)) != NULL) {
		long pid = strtol(entry->d_name, NULL, 10);
		char path[64], line[512];
		bool helper;
		ssize_t got;
		int fd;

		if (pid <= 0)
			continue;
		(void)snprintf(path, sizeof(path), "/proc/%ld/stat", pid);
		if ((fd = open(path, O_RDONLY | O_CLOEXEC)) == -1)
			continue;
		got = read(fd, line, sizeof(line) - 1);
		(void)close(fd);
		line[got > 0 ? got : 0] = '\0';
		if (!is_living_child(line, &helper) || !(all || helper))
			continue;
		n++;
		if (visit != NULL)
			visit((pid_t)pid);
	}
	(void)closedir(proc);
	return n;
}

static inline void
observe_kill(pid_t pid)
{
	(void)kill(pid, SIGKILL);
}

static inline void
observe_answer(int socket)
{
	const char *helper = getenv("SECMALLOC_TEST_HELPER");
	struct answer answer = { 0, 0, 0 };
	struct ask question;

	if (recv(socket, &question, sizeof(question), MSG_DONTWAIT) !=
	    (ssize_t)sizeof(question))
		return;
	switch (question.what) {
	case ASK_PAGES:
	case ASK_KEPT:
	case ASK_POOLS:
		answer = observe_pages_drained(&question);
		break;
	case ASK_HELPERS:
		answer.count = observe_children(false, NULL);
		break;
	case ASK_KILL:
		answer.count = observe_children(false, observe_kill);
		break;
	default:
		if (helper == NULL ||
		    chmod(helper, (mode_t)question.size) == -1)
			bail_out("chmod: %s", strerror(errno));
	}
	if (send(socket, &answer, sizeof(answer), MSG_NOSIGNAL) == -1)
		diag("a worker does not wait for its answer");
}

/* Becomes nobody, who may lock nothing. */
static inline void
become_nobody(rlim_t memlock)
{
	struct rlimit limit = { memlock, memlock };

	if (setrlimit(RLIMIT_MEMLOCK, &limit) == -1 ||
	    setgroups(0, NULL) == -1 ||
	    setresgid(NOBODY, NOBODY, NOBODY) == -1 ||
	    setresuid(NOBODY, NOBODY, NOBODY) == -1 ||
	    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == -1)
		expect_failed("becomes nobody", __FILE__, __LINE__);
}

/*
 * Runs BODY in a worker, still root, for SECONDS at most, and says whether it
 * returned 0 and nothing it started outlived it by more than a second.
 */
static inline bool
run_worker(int (*body)(const void *), const void *arg, unsigned seconds)
{
	int pair[2], status = -1;
	bool running = true, orphans_succeed = true;
	int64_t end = 0;
	pid_t worker, pid;

	if (geteuid() != 0)
		bail_out("the observer must be root");
	if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == -1 ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == -1 ||
	    (worker = fork()) == -1)
		bail_out("worker: %s", strerror(errno));
	if (worker == 0) {
		(void)close(pair[0]);
		observer = pair[1];
		(void)alarm(seconds);
		_exit(body(arg));
	}
	(void)close(pair[1]);
	for (;;) {
		struct pollfd asked = { pair[0], POLLIN, 0 };
		int ended;

		while ((pid = waitpid(-1, &ended, WNOHANG)) > 0)
			if (pid == worker) {
				status = ended;
				running = false;
				end = now_us() + HELPER_GONE_MS * 1000;
			} else if ((WIFSIGNALED(ended) &&
			    WTERMSIG(ended) != SIGKILL) ||
			    (WIFEXITED(ended) && WEXITSTATUS(ended) == 1))
				/* No helper ends so. */
				orphans_succeed = false;
		if (pid == -1 || (!running && now_us() > end))
			break;
		if (poll(&asked, 1, 1) > 0 && (asked.revents & POLLIN) != 0)
			observe_answer(pair[0]);
		else if (!running || (asked.revents & POLLHUP) != 0)
			sleep_ms(1);
	}
	(void)close(pair[0]);
	if (pid == 0) {
		diag("%u processes outlive the worker",
		    observe_children(true, observe_kill));
		while (waitpid(-1, NULL, 0) > 0)
			;
		return false;
	}
	if (WIFSIGNALED(status))
		diag("the worker was stopped by signal %d", WTERMSIG(status));
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 &&
	    orphans_succeed;
}

/* --- What a process has open --- */

static inline unsigned
count_descriptors(void)
{
	unsigned n = 0;

	for (int fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) != -1;
	return n;
}

/*
 * Bytes that are mapped: unlike mappings, which the kernel merges and splits,
 * what is unmapped again leaves their number as it was.  The stacks and what
 * malloc keeps are left out.  0 under ThreadSanitizer, which maps memory for
 * its own books as it goes.
 */
static inline size_t
count_mapped(void)
{
#ifdef __SANITIZE_THREAD__
	return 0;
#else
	static char text[256 * 1024];
	size_t used = 0, total = 0;
	ssize_t got;
	int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);

	while (fd != -1 && used < sizeof(text) - 1 &&
	    (got = read(fd, text + used, sizeof(text) - 1 - used)) > 0)
		used += (size_t)got;
	text[used] = '\0';
	(void)close(fd);
	for (char *line = text; *line != '\0'; ) {
		char *end = strchr(line, '\n'), *rest;
		uintmax_t from = strtoumax(line, &rest, 16), to;

		if (end == NULL)
			break;
		*end = '\0';
		to = strtoumax(rest + 1, NULL, 16);
		if (strchr(line, '[') == NULL)
			total += (size_t)(to - from);
		line = end + 1;
	}
	return total;
#endif
}

/*
 * From its first start on, the library keeps the page by which it knows a child,
 * a list of caches, and what guards both; and a cache.
 */
static inline size_t
kept_for_good(void)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE), cache = 28 * 1024;

	return 8 * page + (cache + page - 1) / page * page;
}

/* --- Plans: which call of which function is to fail --- */

struct plan {
	char function[32];
	uint32_t at;    /* 1: the first; 0: none */
	int32_t error;
	uint32_t calls; /* so far, of all processes that share the plan */
	uint32_t fired;
};

/* Whether this call of FUNCTION is the one; then errno is set. */
static inline bool
plan_hits(struct plan *plan, const char *function)
{
	if (plan == NULL || strcmp(plan->function, function) != 0 ||
	    __atomic_add_fetch(&plan->calls, 1, __ATOMIC_SEQ_CST) != plan->at)
		return false;
	plan->fired = 1;
	errno = plan->error;
	return true;
}

/*
 * Linked with --wrap, a function fails where HITS() of its plan's name for it
 * is true; that is for each program to define.
 */
#define WRAP(name, function, type, parameters, arguments) \
	type __wrap_##name parameters; \
	type __real_##name parameters; \
	type \
	__wrap_##name parameters \
	{ \
		return HITS(function) ? (type)-1 : __real_##name arguments; \
	}

/* Of either name, with or without a third argument. */
#define WRAP_FCNTL(name) \
	int __wrap_##name(int fd, int command, ...); \
	int __real_##name(int fd, int command, ...); \
	int \
	__wrap_##name(int fd, int command, ...) \
	{ \
		va_list ap; \
		long arg; \
\
		va_start(ap, command); \
		arg = va_arg(ap, long); \
		va_end(ap); \
		return HITS("fcntl") ? -1 : __real_##name(fd, command, arg); \
	}

#endif
