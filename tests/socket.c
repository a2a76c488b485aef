/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * socket.c: what a shell cannot do to a helper that listens, to who listens in
 * its place, and to memory cgroups; knows nothing of what ought to come of it.
 *
 *   socket init [auto]        starts the library, and goes on
 *   socket ticking            the same, while a timer interrupts it
 *   socket descriptors [closed]
 *                             with 0 to 2 closed; lists what it opened
 *   socket crowd COUNT        so many processes do so at once
 *   socket fork [ROOT]        makes a child, after chroot(ROOT)
 *   socket powers PID         what this user can do to a process
 *   socket deaf PATH          listens there, but there is no room to wait in
 *   socket charge PROCS BYTES maps and locks what another process populates,
 *                             which first joins the cgroup of that file
 *
 * SECMALLOC_TEST_HELPER is where the helper is.  All that go on until standard
 * input ends say so by a line.
 */
#include "config.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#include "harness.h"

enum {
	CROWD_MAX = 1000,
	/* A process that has not come back by then hangs. */
	CROWD_MS = 60 * 1000
};

static const struct {
	int error;
	const char *name;
} names[] = {
	{ 0, "OK" }, { EAGAIN, "EAGAIN" }, { EDQUOT, "EDQUOT" },
	{ EINVAL, "EINVAL" }, { EMFILE, "EMFILE" }, { ENFILE, "ENFILE" },
	{ ENOLCK, "ENOLCK" }, { ENOMEM, "ENOMEM" }, { EPERM, "EPERM" },
	{ EPROTO, "EPROTO" }
};

#define NAMES (sizeof(names) / sizeof(names[0]))

static size_t
name_index(int error)
{
	for (size_t i = 0; i < NAMES; i++)
		if (names[i].error == error)
			return i;
	bail_out("errno %d is not documented", error);
}

static long
now_ms(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (long)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* 0, or errno. */
static int
start(int mode)
{
	struct secmalloc_config config;

	test_config(&config, mode);
	return secmalloc_init(&config) == 0 ? 0 : errno;
}

static void
wait_for_end(void)
{
	char c;

	while (read(STDIN_FILENO, &c, 1) > 0 || errno == EINTR)
		errno = 0;
}

static void
say(const char *line)
{
	if (puts(line) == EOF || fflush(stdout) == EOF)
		bail_out("standard output");
}

static int
init(int mode)
{
	struct secmalloc_stats stats;
	long from = now_ms();
	int error = start(mode);

	if (secmalloc_stats(&stats) == -1)
		bail_out("secmalloc_stats");
	(void)printf("%s mode=%d ms=%ld", names[name_index(error)].name,
	    stats.mode, now_ms() - from);
	say("");
	wait_for_end();
	return 0;
}

static void
tick(int sig)
{
	(void)sig;
}

static int
ticking(void)
{
	const struct sigaction action = { .sa_handler = tick };
	const struct itimerval often = { { 0, 2000 }, { 0, 2000 } };

	if (sigaction(SIGALRM, &action, NULL) == -1 ||
	    setitimer(ITIMER_REAL, &often, NULL) == -1)
		bail_out("timer");
	return init(SECMALLOC_MODE_HELPER);
}

/* Each as its number, with "e" if it would survive an exec. */
static int
descriptors(bool closed)
{
	enum { LOOKED_AT = 100 };
	int out = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, LOOKED_AT), error;
	bool before[LOOKED_AT];

	for (int fd = 0; closed && fd <= 2; fd++)
		(void)close(fd);
	for (int fd = 0; fd < LOOKED_AT; fd++)
		before[fd] = fcntl(fd, F_GETFD) != -1;
	error = start(SECMALLOC_MODE_HELPER);
	(void)dprintf(out, "%s", names[name_index(error)].name);
	for (int fd = 0; fd < LOOKED_AT; fd++) {
		int flags = fcntl(fd, F_GETFD);

		if (flags != -1 && !before[fd])
			(void)dprintf(out, " %d%s", fd,
			    (flags & FD_CLOEXEC) != 0 ? "" : "e");
	}
	(void)dprintf(out, "\n");
	return 0;
}

/* One of a crowd: starts when GO ends, reports, and holds until STAY ends. */
static void
crowd_member(int go, int report, int stay)
{
	struct pollfd end = { .fd = go };
	unsigned char result;
	int error;

	(void)poll(&end, 1, -1);
	error = start(SECMALLOC_MODE_HELPER);
	if (error == 0 && (secmalloc(100) == NULL || secmalloc_verify() == -1))
		error = errno;
	result = (unsigned char)name_index(error);
	end.fd = stay;
	if (write(report, &result, 1) == 1)
		(void)poll(&end, 1, -1);
	_exit(0);
}

static void
pipe_make(int ends[2])
{
	if (pipe2(ends, O_CLOEXEC) == -1)
		bail_out("pipe2: %s", strerror(errno));
}

static int
crowd(unsigned count)
{
	int go[2], report[2], stay[2];
	unsigned got = 0, by_name[NAMES] = { 0 };
	long end = now_ms() + CROWD_MS;
	unsigned char result;

	if (count > CROWD_MAX)
		bail_out("more than %d", CROWD_MAX);
	pipe_make(go);
	pipe_make(report);
	pipe_make(stay);
	for (unsigned i = 0; i < count; i++) {
		pid_t pid = fork();

		if (pid == -1)
			bail_out("fork: %s", strerror(errno));
		if (pid == 0) {
			(void)close(go[1]);
			(void)close(stay[1]);
			crowd_member(go[0], report[1], stay[0]);
		}
	}
	(void)close(go[1]);
	while (got < count && now_ms() < end) {
		struct pollfd next = { .fd = report[0], .events = POLLIN };

		if (poll(&next, 1, 100) == 1 && read(report[0], &result, 1) == 1) {
			got++;
			by_name[result < NAMES ? result : 0]++;
		}
	}
	(void)printf("crowd");
	for (size_t i = 0; i < NAMES; i++)
		if (by_name[i] != 0)
			(void)printf(" %s=%u", names[i].name, by_name[i]);
	say(got == count ? "" : " HUNG");
	wait_for_end();
	(void)close(stay[1]);
	while (wait(NULL) != -1)
		;
	return 0;
}

static volatile sig_atomic_t losses;

static void
count_loss(void *data)
{
	(void)data;
	losses = losses + 1;
}

static const char *
describe(const unsigned char *object)
{
	if (secmalloc_is_secure(object) != 1)
		return losses == 1 ? "told" : "untold";
	if (object[0] != 7 || secmalloc_verify() == -1)
		return "broken";
	return "whole";
}

/* Whether the child has a copy, and whether both can have more afterwards. */
static int
make_child(const char *root)
{
	struct secmalloc_config config;
	unsigned char *object;
	int status;
	pid_t pid;

	test_config(&config, SECMALLOC_MODE_HELPER);
	config.on_lock_lost = count_loss;
	if (secmalloc_init(&config) == -1 || (object = secmalloc(64)) == NULL)
		bail_out("start: %s", strerror(errno));
	object[0] = 7;
	if (root != NULL && (chroot(root) == -1 || chdir("/") == -1))
		bail_out("%s: %s", root, strerror(errno));
	(void)fflush(stdout);
	if ((pid = fork()) == 0) {
		(void)printf("child %s", describe(object));
		(void)printf(" more=%s\n", secmalloc((size_t)1 << 20) != NULL ?
		    "OK" : names[name_index(errno)].name);
		(void)fflush(stdout);
		_exit(0);
	}
	if (pid == -1 || waitpid(pid, &status, 0) != pid)
		bail_out("child: %s", strerror(errno));
	(void)printf("parent %s", describe(object));
	(void)printf(" more=%s\n", secmalloc((size_t)1 << 20) != NULL ? "OK" :
	    names[name_index(errno)].name);
	return status == 0 ? 0 : 1;
}

static void
power(const char *name, bool has)
{
	(void)printf(" %s=%d", name, has);
}

/* What succeeds is undone where it can be; SIGKILL comes last. */
static int
powers(pid_t pid)
{
	const struct rlimit few = { 16, 16 };
	char byte, path[64];
	struct iovec here = { &byte, 1 }, there = { path, 1 };
	bool has;

	(void)printf("powers");
	power("probe", kill(pid, 0) == 0);
	has = kill(pid, SIGSTOP) == 0;
	power("stop", has);
	if (has)
		(void)kill(pid, SIGCONT);
	power("signal", kill(pid, SIGURG) == 0);
	has = ptrace(PTRACE_SEIZE, pid, NULL, NULL) == 0;
	power("trace", has);
	if (has)
		(void)ptrace(PTRACE_DETACH, pid, NULL, NULL);
	power("limit", prlimit(pid, RLIMIT_NOFILE, &few, NULL) == 0);
	power("read", process_vm_readv(pid, &here, 1, &there, 1, 0) == 1 ||
	    errno == EFAULT);
	(void)snprintf(path, sizeof(path), "/proc/%ld/mem", (long)pid);
	power("mem", open(path, O_RDONLY | O_CLOEXEC) != -1);
	(void)snprintf(path, sizeof(path), "/proc/%ld/fd/0", (long)pid);
	power("fd", readlink(path, &byte, 1) == 1);
	(void)fflush(stdout);
	power("kill", kill(pid, SIGKILL) == 0);
	(void)putchar('\n');
	return 0;
}

static int
deaf(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	int caller;

	if (strlen(path) >= sizeof(address.sun_path))
		bail_out("%s: too long", path);
	memcpy(address.sun_path, path, strlen(path));
	if (bind(listener, (const struct sockaddr *)&address,
	    sizeof(address)) == -1 || listen(listener, 0) == -1)
		bail_out("%s: %s", path, strerror(errno));
	do
		caller = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC |
		    SOCK_NONBLOCK, 0);
	while (connect(caller, (const struct sockaddr *)&address,
	    sizeof(address)) == 0);
	if (errno != EAGAIN)
		bail_out("connect: %s", strerror(errno));
	say("deaf");
	wait_for_end();
	return 0;
}

static void
populate_elsewhere(const char *procs, int fd, size_t size)
{
	unsigned char *p;
	int file = open(procs, O_WRONLY | O_CLOEXEC);

	/* 0: whoever writes it. */
	if (file == -1 || write(file, "0", 1) != 1)
		bail_out("%s: %s", procs, strerror(errno));
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		bail_out("mmap: %s", strerror(errno));
	memset(p, 7, size);
	_exit(0);
}

static int
charge(const char *procs, size_t size)
{
	int fd = memfd_create("control", MFD_CLOEXEC), status;
	void *p;
	pid_t pid;

	if (fd == -1 || ftruncate(fd, (off_t)size) == -1 ||
	    (pid = fork()) == -1)
		bail_out("memfd: %s", strerror(errno));
	if (pid == 0)
		populate_elsewhere(procs, fd, size);
	if (waitpid(pid, &status, 0) != pid || status != 0)
		bail_out("the other process failed");
	p = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED || mlock(p, size) == -1)
		bail_out("mlock: %s", strerror(errno));
	say("charged");
	wait_for_end();
	return 0;
}

int
main(int argc, char *argv[])
{
	const char *what = argc > 1 ? argv[1] : "";
	const char *arg = argc > 2 ? argv[2] : NULL;

	if (strcmp(what, "init") == 0)
		return init(arg != NULL ? SECMALLOC_MODE_AUTO :
		    SECMALLOC_MODE_HELPER);
	if (strcmp(what, "ticking") == 0)
		return ticking();
	if (strcmp(what, "descriptors") == 0)
		return descriptors(arg != NULL);
	if (strcmp(what, "fork") == 0)
		return make_child(arg);
	if (strcmp(what, "crowd") == 0 && arg != NULL)
		return crowd((unsigned)strtoul(arg, NULL, 10));
	if (strcmp(what, "powers") == 0 && arg != NULL)
		return powers((pid_t)strtol(arg, NULL, 10));
	if (strcmp(what, "deaf") == 0 && arg != NULL)
		return deaf(arg);
	if (strcmp(what, "charge") == 0 && arg != NULL && argc > 3)
		return charge(arg, (size_t)strtoul(argv[3], NULL, 10));
	bail_out("usage: socket COMMAND [ARGUMENT...]");
}
