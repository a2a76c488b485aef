/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * faults.c: fails the first, second, third ... call of every function that the
 * library, or the helper, asks the system with, and holds the library to an
 * errno, no crash, no leak and nothing unlocked; it knows nothing else.
 *
 * argv[1] is where the faults are: "library", "socket" or "inprocess" (here,
 * by --wrap, with a helper that is started, with one that listens, and
 * without), or "helper": in tests/helper-faults.c, which SECMALLOC_TEST_HELPER
 * then names and which shares the plan beside it.
 */
#include "config.h"

#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include "faults.h"

#define KIB ((size_t)1024)

/* No function is called so often in a scenario. */
#define CALLS_MAX 400

static int mode;
static int fork_policy;
static struct plan *plan_in_force;
static struct sockaddr_un listener; /* its path is empty if there is none */

/* --- The functions that fail here --- */

/* Of newer headers. */
#ifndef MADV_POPULATE_WRITE
# define MADV_POPULATE_WRITE 23
#endif

/*
 * The harness calls the same functions: only what is called between two marks
 * counts.  Two names for the sake of 32-bit systems with large files.
 */
static volatile bool armed;
static bool not_here; /* the plan is the helper's */

#define HITS(function) \
	(armed && !not_here && plan_hits(plan_in_force, function))

WRAP(mmap, "mmap", void *, (void *at, size_t size, int protection, int flags,
    int fd, off_t offset), (at, size, protection, flags, fd, offset))
WRAP(socketpair, "socketpair", int, (int domain, int type, int protocol,
    int *pair), (domain, type, protocol, pair))
WRAP(socket, "socket", int, (int domain, int type, int protocol),
    (domain, type, protocol))
WRAP(setsockopt, "setsockopt", int, (int fd, int level, int name,
    const void *value, socklen_t n), (fd, level, name, value, n))
WRAP(connect, "connect", int, (int fd, const struct sockaddr *to, socklen_t n),
    (fd, to, n))
WRAP(stat, "stat", int, (const char *path, struct stat *st), (path, st))
WRAP(fstat, "fstat", int, (int fd, struct stat *st), (fd, st))
WRAP(sendmsg, "sendmsg", ssize_t, (int fd, const struct msghdr *msg, int flags),
    (fd, msg, flags))
WRAP(recvmsg, "recvmsg", ssize_t, (int fd, struct msghdr *msg, int flags),
    (fd, msg, flags))
WRAP(pipe2, "pipe2", int, (int *ends, int flags), (ends, flags))
WRAP(poll, "poll", int, (struct pollfd *fds, nfds_t n, int timeout),
    (fds, n, timeout))
WRAP(dup2, "dup2", int, (int from, int to), (from, to))
WRAP(execve, "execve", int, (const char *path, char *const *argv,
    char *const *envp), (path, argv, envp))
WRAP(waitpid, "waitpid", pid_t, (pid_t pid, int *status, int flags),
    (pid, status, flags))
WRAP(getrandom, "getrandom", ssize_t, (void *to, size_t n, unsigned flags),
    (to, n, flags))
WRAP(open, "open", int, (const char *path, int flags), (path, flags))
#ifdef __GLIBC__
WRAP(mmap64, "mmap", void *, (void *at, size_t size, int protection, int flags,
    int fd, off64_t offset), (at, size, protection, flags, fd, offset))
WRAP(stat64, "stat", int, (const char *path, struct stat64 *st), (path, st))
WRAP(fstat64, "fstat", int, (int fd, struct stat64 *st), (fd, st))
WRAP(open64, "open", int, (const char *path, int flags), (path, flags))
#endif

int __wrap_madvise(void *at, size_t size, int advice);
int __real_madvise(void *at, size_t size, int advice);

int
__wrap_madvise(void *at, size_t size, int advice)
{
	return HITS(advice == MADV_POPULATE_WRITE ? "populate" : "madvise") ?
	    -1 : __real_madvise(at, size, advice);
}

void *__wrap_mremap(void *from, size_t old, size_t size, int flags, ...);
void *__real_mremap(void *from, size_t old, size_t size, int flags, ...);

void *
__wrap_mremap(void *from, size_t old, size_t size, int flags, ...)
{
	va_list ap;
	void *to;

	va_start(ap, flags);
	to = va_arg(ap, void *);
	va_end(ap);
	return HITS("mremap") ? MAP_FAILED :
	    __real_mremap(from, old, size, flags, to);
}

int __wrap_clone(int (*run)(void *), void *stack, int flags, void *arg, ...);
int __real_clone(int (*run)(void *), void *stack, int flags, void *arg, ...);

int
__wrap_clone(int (*run)(void *), void *stack, int flags, void *arg, ...)
{
	return HITS("clone") ? -1 : __real_clone(run, stack, flags, arg);
}

#ifdef __GLIBC__
/* Its other name, by which TSan does not know it. */
int __wrap___clone(int (*run)(void *), void *stack, int flags, void *arg, ...);
int __real___clone(int (*run)(void *), void *stack, int flags, void *arg, ...);

int
__wrap___clone(int (*run)(void *), void *stack, int flags, void *arg, ...)
{
	return HITS("clone") ? -1 : __real___clone(run, stack, flags, arg);
}
#endif

/* Of all that may be asked for so, only the lock. */
long __wrap_syscall(long number, ...);
long __real_syscall(long number, ...);

long
__wrap_syscall(long number, ...)
{
	long a, b, c, d, e, f;
	va_list ap;

	va_start(ap, number);
	a = va_arg(ap, long);
	b = va_arg(ap, long);
	c = va_arg(ap, long);
	d = va_arg(ap, long);
	e = va_arg(ap, long);
	f = va_arg(ap, long);
	va_end(ap);
	return number == SYS_mlock && HITS("mlock") ? -1 :
	    __real_syscall(number, a, b, c, d, e, f);
}

WRAP_FCNTL(fcntl)
#ifdef __GLIBC__
WRAP_FCNTL(fcntl64)
#endif

/* Returns its error. */
int __wrap_pthread_atfork(void (*prepare)(void), void (*parent)(void),
    void (*child)(void));
int __real_pthread_atfork(void (*prepare)(void), void (*parent)(void),
    void (*child)(void));

int
__wrap_pthread_atfork(void (*prepare)(void), void (*parent)(void),
    void (*child)(void))
{
	/* When the library is loaded it fails, so that a start has to do it. */
	if (plan_in_force == NULL)
		return ENOMEM;
	return HITS("pthread_atfork") ? plan_in_force->error :
	    __real_pthread_atfork(prepare, parent, child);
}

/* --- A helper that listens --- */

static _Noreturn void
serve_all(int socket)
{
	const char *helper = getenv("SECMALLOC_TEST_HELPER");
	int peer;
	pid_t pid;

	while ((peer = accept4(socket, NULL, NULL, SOCK_CLOEXEC)) != -1) {
		/* Nobody's child, as are those that the library starts. */
		if ((pid = fork()) == 0) {
			if (fork() != 0)
				_exit(0);
			if (helper != NULL && dup2(peer, STDIN_FILENO) != -1)
				(void)execl(helper, "secmalloc-helper", NULL);
			_exit(1);
		}
		(void)waitpid(pid, NULL, 0);
		(void)close(peer);
	}
	_exit(1);
}

/* Serves whoever connects there for as long as this process lives. */
static void
listen_for_all(void)
{
	const struct sockaddr *at = (const struct sockaddr *)&listener;
	int socket_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	pid_t parent = getpid(), pid;

	(void)unlink(listener.sun_path);
	expect(bind(socket_fd, at, sizeof(listener)) == 0);
	expect(chmod(listener.sun_path, 0666) == 0);
	expect(listen(socket_fd, SOMAXCONN) == 0);
	expect((pid = fork()) != -1);
	if (pid == 0) {
		/* As who may be killed by the one that it is to end with. */
		become_nobody(0);
		if (prctl(PR_SET_PDEATHSIG, SIGKILL) == -1 ||
		    getppid() != parent)
			_exit(1);
		serve_all(socket_fd);
	}
	(void)close(socket_fd);
}

/* The configuration that is tested, and who there is for it. */
static void
configure(struct secmalloc_config *config)
{
	test_config(config, mode);
	config->fork_policy = fork_policy;
	if (listener.sun_path[0] != '\0') {
		listen_for_all();
		config->helper_path = listener.sun_path;
	}
	if (mode == SECMALLOC_MODE_HELPER)
		become_nobody(0);
	else
		/* Room for the child's copies as well. */
		expect(geteuid() == 0);
}

/* --- The scenario --- */

static int losses;

static void
count_loss(void *data)
{
	(void)data;
	losses++;
}

/*
 * What a call may fail with; and only once a fault has struck.  EINVAL is not
 * among it: no argument is at fault.
 */
static void
excused(const char *file, int line)
{
	static const int documented[] = {
		ENOMEM, EDQUOT, EPERM, EAGAIN, ENOLCK, EPROTO, EMFILE, ENFILE
	};
	int error = errno;

	if (plan_in_force->fired)
		for (size_t i = 0; i < sizeof(documented) /
		    sizeof(documented[0]); i++)
			if (error == documented[i])
				return;
	expect_failed(plan_in_force->fired ? "the errno is documented" :
	    "nothing fails of itself", file, line);
}

#define EXCUSED() excused(__FILE__, __LINE__)

static const size_t sizes[] = { 1, 100, 5000, 60 * KIB, 500 * KIB };

#define OBJECTS (sizeof(sizes) / sizeof(sizes[0]))

static unsigned char *objects[OBJECTS];

static void
check_object(size_t i, size_t size)
{
	for (size_t at = 0; at < size; at++)
		expect(objects[i][at] == (unsigned char)(7 + i));
}

static void
check_objects(void)
{
	for (size_t i = 0; i < OBJECTS; i++)
		if (objects[i] != NULL)
			check_object(i, sizes[i]);
}

/* All that was handed out is locked. */
static void
check_locks(void)
{
	armed = false;
	for (size_t i = 0; i < OBJECTS; i++)
		expect(objects[i] == NULL ||
		    pages_locked(objects[i], sizes[i]));
	armed = true;
}

static void
allocate(void)
{
	for (size_t i = 0; i < OBJECTS; i++) {
		if ((objects[i] = secmalloc(sizes[i])) == NULL) {
			EXCUSED();
			continue;
		}
		for (size_t at = 0; at < sizes[i]; at++)
			expect(objects[i][at] == 0);
		memset(objects[i], (int)(7 + i), sizes[i]);
	}
}

static void
resize(void)
{
	for (size_t i = 0; i < OBJECTS; i++) {
		unsigned char *moved;

		if (objects[i] == NULL)
			continue;
		if ((moved = secrealloc(objects[i], 2 * sizes[i])) == NULL) {
			EXCUSED();
			check_object(i, sizes[i]);
			continue;
		}
		objects[i] = moved;
		check_object(i, sizes[i]);
		for (size_t at = sizes[i]; at < 2 * sizes[i]; at++)
			expect(moved[at] == 0);
		expect((moved = secrealloc(moved, sizes[i])) != NULL ||
		    plan_in_force->fired);
		if (moved != NULL)
			objects[i] = moved;
		check_object(i, sizes[i]);
	}
}

static void
verify(void)
{
	if (secmalloc_verify() == -1)
		EXCUSED();
}

static void
free_objects(void)
{
	for (size_t i = 0; i < OBJECTS; i++)
		secfree(objects[i]);
	memset(objects, 0, sizeof(objects));
}

/*
 * The child has whole copies, or none at all and is told so; under DENY none
 * and is told nothing.
 */
static void
in_child(int had)
{
	bool whole = true;

	for (size_t i = 0; i < OBJECTS; i++) {
		bool secure;

		if (objects[i] == NULL)
			continue;
		secure = secmalloc_is_secure(objects[i]) == 1;
		if (secure)
			check_object(i, sizes[i]);
		whole = whole && secure;
	}
	if (fork_policy == SECMALLOC_FORK_DENY)
		expect(!whole && losses == had);
	else if (!whole) {
		expect(plan_in_force->fired);
		expect(losses > had || had != 0);
	}
	free_objects();
	allocate();
	check_locks();
	verify();
	free_objects();
	secmalloc_shutdown();
	armed = false;
	_exit(0);
}

static void
make_child(void)
{
	int status, had = losses;
	pid_t pid = fork();

	expect(pid != -1);
	if (pid == 0) {
		(void)alarm(20);
		in_child(had);
	}
	armed = false;
	expect(waitpid(pid, &status, 0) == pid);
	if (status != 0)
		diag("the child's status is %#x", (unsigned)status);
	expect(status == 0);
	armed = true;
}

/*
 * A fault strikes once: a helper that is killed is replaced at the first attempt
 * or, after that was told, at the second.
 */
static void
replace_helper(void)
{
	if (mode != SECMALLOC_MODE_HELPER)
		return;
	armed = false;
	expect(kill_helpers() != 0);
	armed = true;
	if (secmalloc_verify() == -1) {
		expect(errno == ENOLCK && losses == 1);
		EXCUSED();
		expect(secmalloc_verify() == 0);
	}
	check_objects();
	check_locks();
}

static bool
start(const struct secmalloc_config *config)
{
	struct secmalloc_stats stats;

	if (secmalloc_init(config) == 0)
		return true;
	EXCUSED();
	expect(secmalloc_stats(&stats) == 0);
	expect(stats.pools == 0 && stats.locked_bytes == 0);
	return false;
}

static void
live(const struct secmalloc_config *config)
{
	losses = 0;
	/* A fault strikes once: what failed succeeds the next time. */
	if (!start(config))
		expect(secmalloc_init(config) == 0);
	allocate();
	check_locks();
	resize();
	check_locks();
	verify();
	make_child();
	check_objects();
	check_locks();
	verify();
	check_locks();
	expect(losses == 0);
	replace_helper();
	free_objects();
	allocate();
	check_locks();
	free_objects();
	secmalloc_shutdown();
}

static int
scenario(const void *arg)
{
	struct secmalloc_config config;
	size_t mapped, more = kept_for_good();
	unsigned descriptors;
	uint32_t fired = 0;

	(void)arg;
	configure(&config);
	config.on_lock_lost = count_loss;
	(void)count_mapped();
	mapped = count_mapped();
	descriptors = count_descriptors();
	for (int i = 0; i < 2; i++) {
		armed = true;
		live(&config);
		armed = false;
		expect(helpers_become(0));
		expect(count_descriptors() == descriptors);
		expect(count_mapped() <= mapped + more);
		mapped = count_mapped();
		more = 0;
		/* All is as before, and so all of a second time succeeds. */
		fired |= plan_in_force->fired;
		plan_in_force->at = plan_in_force->fired = 0;
	}
	plan_in_force->fired = fired;
	return 0;
}

/* --- What is to fail, and how --- */

struct kind {
	/*
	 * l: library, s: the same with a helper that listens, i: in-process,
	 * h: the helper; d: under DENY as well
	 */
	const char *where;
	const char *function;
	int errors[4];     /* 0: no more */
};

static const struct kind kinds[] = {
	{ "lid", "mmap", { ENOMEM, EAGAIN } },
	{ "l", "mremap", { ENOMEM } },
	{ "lid", "madvise", { ENOMEM } },
	{ "l", "populate", { ENOMEM, EFAULT, EINVAL, EHWPOISON } },
	{ "i", "mlock", { ENOMEM, EAGAIN, EPERM } },
	{ "ls", "stat", { ENOENT, ENOMEM } },
	{ "l", "socketpair", { EMFILE, ENFILE, ENOMEM } },
	{ "s", "socket", { EMFILE, ENOBUFS, EAFNOSUPPORT } },
	{ "s", "setsockopt", { ENOPROTOOPT } },
	{ "s", "connect", { ECONNREFUSED, EAGAIN, EINTR } },
	{ "l", "clone", { EAGAIN, ENOMEM, EPERM } },
	{ "l", "dup2", { EMFILE, EBUSY } },
	{ "l", "execve", { ENOENT, EACCES, ENOMEM, EAGAIN } },
	{ "l", "waitpid", { EINTR, ECHILD } },
	{ "ls", "sendmsg", { EPIPE, ECONNRESET, ENOBUFS, EINTR } },
	{ "ls", "recvmsg", { ECONNRESET, EAGAIN, ENOMEM, EINTR } },
	{ "l", "poll", { EINTR, ENOMEM } },
	{ "l", "fcntl", { EINVAL } },
	{ "i", "pipe2", { EMFILE, ENFILE } },
	{ "i", "open", { EMFILE, ENFILE, ENOMEM, EACCES } },
	{ "li", "getrandom", { EAGAIN, ENOSYS } },
	{ "li", "pthread_atfork", { ENOMEM } },

	{ "h", "memfd_create", { ENOMEM, EMFILE, ENFILE, EINVAL } },
	{ "h", "ftruncate", { ENOMEM, EFBIG } },
	{ "h", "fchmod", { EPERM, EIO } },
	{ "h", "fcntl", { EPERM, EBUSY, EINVAL } },
	{ "h", "fstat", { ENOMEM } },
	{ "h", "mmap", { ENOMEM, EAGAIN } },
	{ "h", "mlock", { ENOMEM, EAGAIN, EPERM } },
	{ "h", "mprotect", { ENOMEM } },
	{ "h", "sendmsg", { EPIPE, EAGAIN, ETOOMANYREFS, ENOBUFS } },
	{ "h", "recvmsg", { ECONNRESET, ENOMEM, EAGAIN, EINTR } },
	{ "h", "getrlimit", { EPERM } },
	{ "h", "setrlimit", { EPERM } },
	{ "h", "setgroups", { EPERM, ENOMEM } },
	{ "h", "setresgid", { EPERM, EAGAIN } },
	{ "h", "setresuid", { EPERM, EAGAIN } },
	{ "h", "capget", { EPERM } },
	{ "h", "capset", { EPERM } },
	{ "h", "chdir", { EACCES } },
};

/* What a start fails with, if the first call of a function fails with ERROR. */
static const struct refusal {
	const char *where;
	const char *function;
	int error;
	int result; /* 0: it succeeds */
} refusals[] = {
	{ "ls", "stat", ENOENT, EPERM },
	{ "ls", "stat", EACCES, EPERM },
	{ "ls", "stat", ENOMEM, ENOMEM },
	{ "s", "socket", EMFILE, EMFILE },
	{ "s", "socket", ENFILE, ENFILE },
	{ "s", "socket", ENOBUFS, ENOMEM },
	{ "s", "socket", ENOMEM, ENOMEM },
	{ "s", "socket", EAFNOSUPPORT, EPERM },
	{ "s", "setsockopt", ENOPROTOOPT, EPERM },
	{ "s", "connect", ECONNREFUSED, EPERM },
	{ "s", "connect", EACCES, EPERM },
	{ "s", "connect", ENOENT, EPERM },
	{ "s", "connect", ENOMEM, ENOMEM },
	{ "s", "connect", EAGAIN, EPROTO },
	{ "s", "connect", EPROTOTYPE, EPROTO },
	{ "s", "connect", EINTR, 0 },
	{ "s", "sendmsg", EPIPE, EPROTO },
	{ "s", "recvmsg", ECONNRESET, EPROTO },
};

static int
start_refused(const void *arg)
{
	const struct refusal *refusal_due = arg;
	struct secmalloc_config config;
	unsigned descriptors;

	configure(&config);
	descriptors = count_descriptors();
	armed = true;
	if (refusal_due->result == 0)
		expect(secmalloc_init(&config) == 0);
	else {
		expect(secmalloc_init(&config) == -1);
		expect(errno == refusal_due->result);
		expect(helpers_become(0));
		expect(count_descriptors() == descriptors);
		expect(secmalloc_init(&config) == 0);
	}
	armed = false;
	expect(plan_in_force->fired);
	secmalloc_shutdown();
	expect(helpers_become(0));
	expect(count_descriptors() == descriptors);
	return 0;
}

/* What this process and its children, or the helper, both see. */
static struct plan *
share_plan(bool with_helper)
{
	const char *helper = getenv("SECMALLOC_TEST_HELPER");
	int flags = MAP_SHARED, fd = -1;
	char path[4096];
	struct plan *plan;

	if (with_helper) {
		if (helper == NULL)
			bail_out("SECMALLOC_TEST_HELPER is not set");
		(void)snprintf(path, sizeof(path), "%s.plan", helper);
		/* The helper, which is another user, writes to it. */
		fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (fd == -1 || fchmod(fd, 0666) == -1 ||
		    ftruncate(fd, sizeof(*plan)) == -1)
			bail_out("%s: %s", path, strerror(errno));
	} else
		flags |= MAP_ANONYMOUS;
	plan = mmap(NULL, sizeof(*plan), PROT_READ | PROT_WRITE, flags, fd, 0);
	if (plan == MAP_FAILED)
		bail_out("plan: %s", strerror(errno));
	if (fd != -1)
		(void)close(fd);
	return plan;
}

static void
plan_failure(const char *function, uint32_t at, int error)
{
	struct plan *plan = plan_in_force;

	memset(plan, 0, sizeof(*plan));
	(void)snprintf(plan->function, sizeof(plan->function), "%s", function);
	plan->at = at;
	plan->error = error;
}

/*
 * Fails each call of one function in turn, until one run is not struck.  How
 * many were is the proof that the faults are what was meant.
 */
static void
fail_each(const struct kind *kind, int error)
{
	struct plan *plan = plan_in_force;
	uint32_t at = 0, wrong = 0;

	do {
		plan_failure(kind->function, ++at, error);
		if (!run_worker(scenario, NULL, 60)) {
			diag("%s: call %" PRIu32 " fails with %s",
			    kind->function, at, strerror(error));
			wrong++;
		}
	} while (plan->fired && at < CALLS_MAX);
	ok(wrong == 0 && at > 1 && at < CALLS_MAX,
	    "%s fails at any one of %" PRIu32 " calls%s: an errno, no crash, "
	    "no leak (%s)", kind->function, at - 1,
	    fork_policy == SECMALLOC_FORK_DENY ? " under DENY" : "",
	    strerror(error));
}

/* Fails the first call, that of a start, in every way that is to be told. */
static void
fail_first(char where, const char *function)
{
	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
		const struct refusal *due = &refusals[i];

		if (strchr(due->where, where) == NULL || (function != NULL &&
		    strcmp(function, due->function) != 0))
			continue;
		plan_failure(due->function, 1, due->error);
		ok(run_worker(start_refused, due, 60),
		    "%s fails with \"%s\", the start with \"%s\"",
		    due->function, strerror(due->error),
		    due->result == 0 ? "nothing" : strerror(due->result));
	}
}

/* Beside the helper, which is where nobody can get. */
static void
place_listener(void)
{
	const char *helper = getenv("SECMALLOC_TEST_HELPER");
	size_t room = sizeof(listener.sun_path);

	listener.sun_family = AF_UNIX;
	if (helper == NULL || (size_t)snprintf(listener.sun_path, room,
	    "%s.socket", helper) >= room)
		bail_out("SECMALLOC_TEST_HELPER is not set, or too long");
}

int
main(int argc, char *argv[])
{
	char where;
	int errors;

	if (argc < 2)
		bail_out("usage: faults library|socket|inprocess|helper "
		    "[function]");
	where = argv[1][0];
	mode = where == 'i' ? SECMALLOC_MODE_INPROCESS : SECMALLOC_MODE_HELPER;
	not_here = where == 'h';
	/* To the library one error of the helper's is like the next. */
	errors = !WATCHED ? 4 : not_here ? 1 : 2;
	if (where == 's')
		place_listener();
	plan_in_force = share_plan(not_here);
	memset(plan_in_force, 0, sizeof(*plan_in_force));
	ok(run_worker(scenario, NULL, 60),
	    "without a fault everything succeeds");
	fail_first(where, argc > 2 ? argv[2] : NULL);
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		const struct kind *kind = &kinds[i];

		if (strchr(kind->where, where) == NULL ||
		    (argc > 2 && strcmp(argv[2], kind->function) != 0))
			continue;
		for (int e = 0; e < errors && kind->errors[e] != 0; e++) {
			fork_policy = SECMALLOC_FORK_COPY;
			fail_each(kind, kind->errors[e]);
			if (strchr(kind->where, 'd') == NULL)
				continue;
			fork_policy = SECMALLOC_FORK_DENY;
			fail_each(kind, kind->errors[e]);
		}
	}
	return done_testing();
}
