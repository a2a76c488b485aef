/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * start.c: becomes another program in surroundings as hostile as it is told to
 * make them, and does to one that runs whatever its caller might try; knows of
 * the helper the first two requests, and nothing of what it locks.
 *
 *   start HAZARD... -- PROGRAM [ARGUMENT...]
 *   start --attack PID          prints what was not refused, one a line
 *   start --end HELPER          says HELLO; prints the answer and the end
 *   start --unread N HELPER     leaves N descriptors unreceived, each sent by a
 *                               helper of its own, until standard input ends
 *   start --listen PATH         prints the answer to HELLO of each helper that
 *                               is connected to PATH, and hangs up at a line
 *   start --plan FILE FUNCTION  the first call of FUNCTION is to fail
 *   start --pages PID ADDRESS BYTES   prints how many pages are locked of how
 *                               many, as root
 */
#include "config.h"

#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>

#include <err.h>
#include <limits.h>
#include <linux/kcmp.h>
#include <linux/perf_event.h>
#include <stdlib.h>

#include "../helper/protocol.h"
#include "faults.h"

#define ENVIRONMENT_MAX ((size_t)2 << 20)
/* Nanoseconds, of what a test waits for in vain. */
#define SLACK_ENDLESS ULONG_MAX
/* All there are, with those that the C library keeps to itself. */
#define SIGNALS (_NSIG - 1)
/* Seconds after which what was left behind ends. */
#define PATIENCE 30

/* Of Linux 5.1, 5.3, 5.6 and 5.10; the same number everywhere. */
#ifndef SYS_pidfd_send_signal
# define SYS_pidfd_send_signal 424
#endif
#ifndef SYS_pidfd_open
# define SYS_pidfd_open 434
#endif
#ifndef SYS_pidfd_getfd
# define SYS_pidfd_getfd 438
#endif
#ifndef SYS_process_madvise
# define SYS_process_madvise 440
#endif
#ifndef MADV_COLD
# define MADV_COLD 20
#endif

/* --- Hazards --- */

static char **arguments;
static char *no_arguments[] = { NULL };

static void
argv0(char *name)
{
	arguments[0] = name;
}

static void
no_argv(char *value)
{
	(void)value;
	arguments = no_arguments;
}

/* After all that needs one; nothing opens any in between. */
static const char *closed = "";

static void
close_descriptors(char *digits)
{
	closed = digits;
}

/* As many as asked for, of which one is a directory, and one high up. */
static void
descriptors(char *number)
{
	int n = atoi(number), fd = -1;

	for (int i = 0; i < n; i++)
		if ((fd = open(i == 0 ? "/" : "/dev/null", O_RDONLY)) == -1)
			err(1, "open");
	if (fcntl(fd, F_DUPFD, 1000) == -1)
		err(1, "F_DUPFD");
}

static void
environment(char *assignment)
{
	if (putenv(assignment) != 0)
		err(1, "putenv");
}

static int
socket_at(const char *path, struct sockaddr_un *address)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	*address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (fd == -1 || strlen(path) >= sizeof(address->sun_path))
		err(1, "socket");
	(void)snprintf(address->sun_path, sizeof(address->sun_path), "%s",
	    path);
	return fd;
}

/* Descriptor 0 is of somebody else's making: who listens at PATH. */
static void
peer(char *path)
{
	struct sockaddr_un address;
	int fd = socket_at(path, &address);

	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == -1 ||
	    dup2(fd, 0) == -1)
		err(1, "%s", path);
	(void)close(fd);
}

/*
 * All that fits, which is 2 MiB unless the stack's limit is another one than
 * usual: in strings of a quarter of the longest, 32 pages (MAX_ARG_STRLEN of
 * linux/binfmts.h).
 */
static void
environment_huge(char *value)
{
	size_t each = 8 * (size_t)sysconf(_SC_PAGESIZE);
	size_t room = (size_t)sysconf(_SC_ARG_MAX) - each;
	char *text = malloc(each), name[32];

	(void)value;
	if (text == NULL)
		err(1, "malloc");
	if (room > ENVIRONMENT_MAX)
		room = ENVIRONMENT_MAX;
	memset(text, 'x', each - 1);
	text[each - 1] = '\0';
	for (unsigned i = 0; room > 2 * each; i++, room -= each + 64) {
		(void)snprintf(name, sizeof(name), "HUGE_%u", i);
		if (setenv(name, text, 1) != 0)
			err(1, "setenv");
	}
}

/* By the kernel's own call, since the C library leaves some out. */
static void
block(char *value)
{
	unsigned char all[_NSIG / 8];

	(void)value;
	memset(all, 0xff, sizeof(all));
	if (syscall(SYS_rt_sigprocmask, SIG_SETMASK, all, NULL,
	    sizeof(all)) == -1)
		err(1, "rt_sigprocmask");
}

/* That of the number VALUE, or all. */
static void
ignore(char *value)
{
	for (int sig = 1; sig <= SIGNALS; sig++)
		if (value == NULL || sig == atoi(value))
			(void)signal(sig, SIG_IGN);
}

/* But for those that no program can ignore, or not by its C library. */
static void
pending(char *value)
{
	block(value);
	for (int sig = 1; sig <= SIGNALS; sig++)
		if (signal(sig, SIG_DFL) != SIG_ERR &&
		    kill(getpid(), sig) == -1)
			err(1, "kill");
}

/* Of time, and of work, which a helper's start is much less than. */
static void
timers(char *value)
{
	const struct timeval soon = { .tv_usec = 30000 };
	const struct itimerval work = { soon, soon };
	const struct itimerval time = { soon, { .tv_usec = 200000 } };

	(void)value;
	if (setitimer(ITIMER_REAL, &time, NULL) == -1 ||
	    setitimer(ITIMER_VIRTUAL, &work, NULL) == -1 ||
	    setitimer(ITIMER_PROF, &work, NULL) == -1)
		err(1, "setitimer");
}

/* RESOURCE:HARD, or with "soft" RESOURCE:SOFT; RESOURCE is a number. */
static void
limit_set(char *value, bool soft)
{
	struct rlimit l;
	char *end;
	resource_t resource = (resource_t)strtoul(value, &end, 10);
	rlim_t number = strtoull(*end == ':' ? end + 1 : "", NULL, 10);

	if (prlimit(0, resource, NULL, &l) == -1)
		err(1, "prlimit");
	/* Up only root can. */
	if (number > l.rlim_max)
		number = l.rlim_max;
	l.rlim_cur = number;
	if (!soft)
		l.rlim_max = number;
	if (prlimit(0, resource, &l, NULL) == -1)
		err(1, "limit %s", value);
}

static void
limit(char *value)
{
	limit_set(value, false);
}

static void
soft_limit(char *value)
{
	limit_set(value, true);
}

static void
mask(char *value)
{
	(void)umask((mode_t)strtoul(value, NULL, 8));
}

static void
directory_deleted(char *path)
{
	if (mkdir(path, 0700) == -1 || chdir(path) == -1 || rmdir(path) == -1)
		err(1, "%s", path);
}

static void
directory_forbidden(char *path)
{
	if (mkdir(path, 0700) == -1 || chdir(path) == -1 ||
	    chmod(".", 0) == -1)
		err(1, "%s", path);
}

/* A child that is told apart from its parent by keeping ONE descriptor only. */
static void
keep_only(int one)
{
	for (int fd = 0; fd < 1024; fd++)
		if (fd != one)
			(void)close(fd);
	(void)alarm(PATIENCE);
}

/*
 * A controlling terminal.  The process that holds its other side writes its
 * number to the file PATH; with its end the terminal hangs up.
 */
static void
terminal(char *path)
{
	int side = posix_openpt(O_RDWR | O_NOCTTY), file, tty;
	const char *name;
	pid_t pid;

	if (side == -1 || grantpt(side) == -1 || unlockpt(side) == -1 ||
	    (pid = fork()) == -1)
		err(1, "terminal");
	if (pid == 0) {
		keep_only(side);
		for (;;)
			(void)pause();
	}
	if ((name = ptsname(side)) == NULL || setsid() == -1 ||
	    (tty = open(name, O_RDWR)) == -1 ||
	    ioctl(tty, TIOCSCTTY, 0) == -1)
		err(1, "terminal");
	(void)close(side);
	if ((file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC,
	    0644)) == -1 || dprintf(file, "%d\n", (int)pid) < 0)
		err(1, "%s", path);
	(void)close(file);
}

static void
priority(char *value)
{
	const struct sched_param none = { 0 };
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	(void)value;
	if (setpriority(PRIO_PROCESS, 0, 19) == -1 ||
	    sched_setscheduler(0, SCHED_IDLE, &none) == -1 ||
	    fd == -1 || write(fd, "1000", 4) != 4)
		err(1, "priority");
	(void)close(fd);
}

static void
no_huge_pages(char *value)
{
	(void)value;
	if (prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == -1)
		err(1, "PR_SET_THP_DISABLE");
}

static void
slack(char *value)
{
	(void)value;
	if (prctl(PR_SET_TIMERSLACK, SLACK_ENDLESS, 0, 0, 0) == -1)
		err(1, "PR_SET_TIMERSLACK");
}

static void
death_signal(char *value)
{
	(void)value;
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == -1)
		err(1, "PR_SET_PDEATHSIG");
}

static void
undumpable(char *value)
{
	(void)value;
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == -1)
		err(1, "PR_SET_DUMPABLE");
}

static void
trace(pid_t traced)
{
	int status;

	while (waitpid(traced, &status, __WALL) == traced &&
	    WIFSTOPPED(status)) {
		int sig = WSTOPSIG(status);

		if (status >> 16 != 0) /* an event of the tracer's own */
			sig = 0;
		(void)ptrace(PTRACE_CONT, traced, NULL, (long)sig);
	}
	_exit(0);
}

/* By a child, who lets it run on and is the tracer still when it executes. */
static void
traced(char *value)
{
	pid_t self = getpid(), pid;
	int ready[2];
	char byte;

	(void)value;
	if (pipe(ready) == -1 || (pid = fork()) == -1)
		err(1, "fork");
	if (pid == 0) {
		keep_only(ready[1]);
		if (ptrace(PTRACE_SEIZE, self, NULL, NULL) == -1 ||
		    write(ready[1], "", 1) != 1)
			_exit(1);
		(void)close(ready[1]);
		trace(self);
	}
	(void)close(ready[1]);
	if (read(ready[0], &byte, 1) != 1)
		errx(1, "not traced");
	(void)close(ready[0]);
}

/* With another process: one's chdir() would be the other's. */
static void
directory_shared(char *value)
{
	long pid = syscall(SYS_clone, CLONE_FS | SIGCHLD, NULL, NULL, NULL,
	    NULL);

	(void)value;
	if (pid == -1)
		err(1, "clone");
	if (pid == 0) {
		keep_only(-1);
		for (;;)
			(void)pause();
	}
}

static const struct {
	const char *name;
	void (*make)(char *);
} hazards[] = {
	{ "argv0", argv0 },
	{ "no-argv", no_argv },
	{ "close", close_descriptors },
	{ "descriptors", descriptors },
	{ "peer", peer },
	{ "env", environment },
	{ "huge-environment", environment_huge },
	{ "block", block },
	{ "ignore", ignore },
	{ "pending", pending },
	{ "timers", timers },
	{ "limit", limit },
	{ "soft-limit", soft_limit },
	{ "umask", mask },
	{ "directory-deleted", directory_deleted },
	{ "directory-forbidden", directory_forbidden },
	{ "directory-shared", directory_shared },
	{ "terminal", terminal },
	{ "priority", priority },
	{ "no-huge-pages", no_huge_pages },
	{ "slack", slack },
	{ "death-signal", death_signal },
	{ "undumpable", undumpable },
	{ "traced", traced },
};

static void
hazard(char *word)
{
	char *value = strchr(word, '=');

	if (value != NULL)
		*value++ = '\0';
	for (size_t i = 0; i < sizeof(hazards) / sizeof(hazards[0]); i++)
		if (strcmp(hazards[i].name, word) == 0) {
			hazards[i].make(value);
			return;
		}
	errx(2, "unknown hazard: %s", word);
}

/* --- Attacks --- */

static unsigned attacks;

/* An errno other than of a refusal tells that it was not refused. */
static void
attack(const char *name, long result)
{
	bool refused = result == -1 && (errno == EPERM || errno == EACCES);

	attacks++;
	if (!refused)
		puts(name);
}

static void
attack_files(pid_t pid)
{
	static const char *const readable[] = { "mem", "maps", "environ",
	    "auxv", "fd", "fdinfo", "cwd", "root", "exe", "ns/mnt", "pagemap",
	    "smaps", "syscall", "personality", "io", "map_files" };
	static const char *const writable[] = { "oom_score_adj", "clear_refs",
	    "coredump_filter", "mem" };
	char path[64], text[128];
	int fd;

	for (size_t i = 0; i < sizeof(readable) / sizeof(readable[0]); i++) {
		(void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid,
		    readable[i]);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		/* Of some it is the reading that is refused. */
		if (fd != -1 && read(fd, text, 1) == -1 &&
		    (errno == EPERM || errno == EACCES)) {
			(void)close(fd);
			fd = -1;
		}
		(void)snprintf(text, sizeof(text), "read %s", readable[i]);
		attack(text, fd);
	}
	for (size_t i = 0; i < sizeof(writable) / sizeof(writable[0]); i++) {
		(void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid,
		    writable[i]);
		(void)snprintf(text, sizeof(text), "write %s", writable[i]);
		attack(text, open(path, O_WRONLY | O_CLOEXEC));
	}
}

static void
attack_memory(pid_t pid, int pidfd)
{
	unsigned long nodes = 1;
	char byte;
	struct iovec here = { &byte, 1 }, there = { &byte, 1 };
	struct perf_event_attr event = { .type = PERF_TYPE_SOFTWARE,
	    .size = sizeof(event), .config = PERF_COUNT_SW_CPU_CLOCK,
	    .exclude_kernel = 1, .exclude_hv = 1 };

	attack("process_vm_readv", process_vm_readv(pid, &here, 1, &there, 1,
	    0));
	attack("process_vm_writev", process_vm_writev(pid, &here, 1, &there, 1,
	    0));
	attack("migrate_pages", syscall(SYS_migrate_pages, pid,
	    8 * sizeof(nodes), &nodes, &nodes));
	attack("move_pages", syscall(SYS_move_pages, pid, 0UL, NULL, NULL,
	    NULL, 0));
	attack("process_madvise", syscall(SYS_process_madvise, pidfd, &there,
	    1UL, MADV_COLD, 0));
	attack("pidfd_getfd", syscall(SYS_pidfd_getfd, pidfd, 0, 0));
	attack("kcmp", syscall(SYS_kcmp, pid, getpid(), KCMP_VM, 0, 0));
	attack("perf_event_open", syscall(SYS_perf_event_open, &event, pid, -1,
	    -1, 0UL));
	if (ptrace(PTRACE_SEIZE, pid, NULL, NULL) == -1)
		attack("ptrace", ptrace(PTRACE_ATTACH, pid, NULL, NULL));
	else
		attack("ptrace", 0);
	(void)ptrace(PTRACE_INTERRUPT, pid, NULL, NULL);
	if (waitpid(pid, NULL, WNOHANG | __WALL) == 0)
		(void)waitpid(pid, NULL, __WALL);
	(void)ptrace(PTRACE_DETACH, pid, NULL, NULL);
}

static void
attack_scheduling(pid_t pid)
{
	const struct sched_param none = { 0 };
	const struct rlimit some = { 64, 64 };
	struct rlimit old;
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(0, &cpus);
	attack("prlimit read", prlimit(pid, RLIMIT_NOFILE, NULL, &old));
	attack("prlimit", prlimit(pid, RLIMIT_NOFILE, &some, NULL));
	attack("sched_setaffinity", sched_setaffinity(pid, sizeof(cpus),
	    &cpus));
	attack("sched_setscheduler", sched_setscheduler(pid, SCHED_IDLE,
	    &none));
	attack("setpriority", setpriority(PRIO_PROCESS, (id_t)pid, 19));
	/* IOPRIO_WHO_PROCESS, IOPRIO_CLASS_IDLE: linux/ioprio.h is young. */
	attack("ioprio_set", syscall(SYS_ioprio_set, 1, pid, 3 << 13));
}

/* By a descriptor whose owner, so it says, is the other process. */
static void
signal_by_descriptor(pid_t pid, int sig)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == -1)
		err(1, "socketpair");
	if (fcntl(pair[0], F_SETOWN, pid) == -1 && errno == ESRCH)
		return; /* it has been ended */
	if (fcntl(pair[0], F_SETSIG, sig) == -1 ||
	    fcntl(pair[0], F_SETFL, O_ASYNC) == -1 ||
	    write(pair[1], "", 1) != 1)
		err(1, "O_ASYNC");
}

/* One that does nothing comes first, and last what ends any process. */
static void
attack_signals(pid_t pid, int pidfd)
{
	siginfo_t info = { .si_code = SI_QUEUE };
	bool by_kill = false, by_tgkill = false, by_pidfd = false,
	    by_queue = false;

	for (int i = 0; i <= SIGNALS + 2; i++) {
		int sig = i <= SIGNALS ? i : i == SIGNALS + 1 ? SIGSTOP :
		    SIGKILL;

		if (i == SIGSTOP || i == SIGKILL)
			continue;
		info.si_signo = sig;
		by_kill |= kill(pid, sig) == 0;
		by_tgkill |= syscall(SYS_tgkill, pid, pid, sig) == 0;
		by_pidfd |= syscall(SYS_pidfd_send_signal, pidfd, sig, NULL,
		    0) == 0;
		by_queue |= syscall(SYS_rt_sigqueueinfo, pid, sig,
		    &info) == 0;
	}
	errno = EPERM;
	attack("kill", by_kill ? 0 : -1);
	attack("tgkill", by_tgkill ? 0 : -1);
	attack("pidfd_send_signal", by_pidfd ? 0 : -1);
	attack("rt_sigqueueinfo", by_queue ? 0 : -1);
	signal_by_descriptor(pid, SIGSTOP);
	signal_by_descriptor(pid, SIGKILL);
}

static int
attack_all(pid_t pid)
{
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);

	if (pidfd == -1)
		err(1, "pidfd_open");
	attack_files(pid);
	attack_memory(pid, pidfd);
	attack_scheduling(pid);
	attack_signals(pid, pidfd);
	printf("%u attacks\n", attacks);
	return 0;
}

/* --- Helpers of our own --- */

/* Starts a helper; our end of its socket. */
static int
helper_start(char *path, pid_t *pid)
{
	char *argv[] = { path, NULL };
	int sv[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) == -1 ||
	    (*pid = fork()) == -1)
		err(1, "helper");
	if (*pid == 0) {
		if (dup2(sv[1], 0) == -1)
			_exit(126);
		execv(path, argv);
		_exit(127);
	}
	(void)close(sv[1]);
	return sv[0];
}

static void
request_send(int to, uint16_t type, uint64_t a, uint64_t b)
{
	const struct wire_message m = { .version = WIRE_VERSION, .type = type,
	    .a = a, .b = b };
	unsigned char packet[WIRE_REQUEST_LEN];

	wire_pack(packet, sizeof(packet), &m);
	(void)send(to, packet, sizeof(packet), MSG_NOSIGNAL);
}

/* The status of HELLO, or -1 if there was no answer. */
static int
hello(int to)
{
	unsigned char packet[WIRE_REPLY_LEN];
	struct wire_message m;

	request_send(to, WIRE_HELLO, WIRE_VERSION, WIRE_VERSION);
	if (recv(to, packet, sizeof(packet), 0) != WIRE_REPLY_LEN ||
	    wire_unpack(packet, sizeof(packet), &m) == -1)
		return -1;
	return (int)m.status;
}

static int
end(char *path)
{
	pid_t pid;
	int to = helper_start(path, &pid), status = hello(to), ended;

	(void)close(to);
	if (waitpid(pid, &ended, 0) != pid)
		err(1, "waitpid");
	printf("hello %d %s %d\n", status,
	    WIFSIGNALED(ended) ? "killed" : "exited",
	    WIFSIGNALED(ended) ? WTERMSIG(ended) : WEXITSTATUS(ended));
	return 0;
}

static int
unread(int n, char *path)
{
	struct pollfd answer = { .events = POLLIN };
	pid_t pid;
	char byte;

	for (int i = 0; i < n; i++) {
		answer.fd = helper_start(path, &pid);
		if (hello(answer.fd) != WIRE_OK)
			errx(1, "helper %d does not serve", i);
		request_send(answer.fd, WIRE_GRANT,
		    (uint64_t)sysconf(_SC_PAGESIZE), 0);
		if (poll(&answer, 1, PATIENCE * 1000) != 1)
			errx(1, "helper %d does not answer", i);
	}
	printf("%d unread\n", n);
	(void)fflush(stdout);
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	return 0;
}

/* Anybody may connect. */
static int
answers(const char *path)
{
	struct sockaddr_un address;
	int listener = socket_at(path, &address), to;
	char line[2];

	if (bind(listener, (struct sockaddr *)&address,
	    sizeof(address)) == -1 || chmod(path, 0666) == -1 ||
	    listen(listener, 1) == -1)
		err(1, "%s", path);
	(void)puts("listening");
	while (fflush(stdout) == 0 && (to = accept4(listener, NULL, NULL,
	    SOCK_CLOEXEC)) != -1) {
		printf("hello %d\n", hello(to));
		(void)fflush(stdout);
		if (read(STDIN_FILENO, line, sizeof(line)) <= 0)
			return 0;
		(void)close(to);
	}
	err(1, "accept");
}

static int
plan_write(const char *path, const char *function)
{
	struct plan plan = { .at = 1, .error = EIO };
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	(void)snprintf(plan.function, sizeof(plan.function), "%s", function);
	if (fd == -1 || write(fd, &plan, sizeof(plan)) !=
	    (ssize_t)sizeof(plan))
		err(1, "%s", path);
	return 0;
}

static int
pages(const char *pid, const char *address, const char *bytes)
{
	struct ask question = { .at = strtoumax(address, NULL, 16),
	    .size = strtoumax(bytes, NULL, 10), .pid = atoi(pid) };
	struct answer answer;

	pages_drain();
	answer = observe_pages(&question);
	printf("%" PRIu64 " of %" PRIu64 "\n", answer.count - answer.unlocked,
	    answer.count);
	return 0;
}

static int
become(int argc, char *argv[])
{
	char *program;
	int i, dashes = 1;

	while (dashes < argc && strcmp(argv[dashes], "--") != 0)
		dashes++;
	if (dashes + 1 >= argc)
		errx(2, "nothing to become");
	program = argv[dashes + 1];
	arguments = argv + dashes + 1;
	for (i = 1; i < dashes; i++)
		hazard(argv[i]);
	for (; *closed != '\0'; closed++)
		(void)close(*closed - '0');
	execve(program, arguments, environ);
	_exit(127);
}

int
main(int argc, char *argv[])
{
	if (argc == 3 && strcmp(argv[1], "--attack") == 0)
		return attack_all((pid_t)atoi(argv[2]));
	if (argc == 3 && strcmp(argv[1], "--end") == 0)
		return end(argv[2]);
	if (argc == 4 && strcmp(argv[1], "--unread") == 0)
		return unread(atoi(argv[2]), argv[3]);
	if (argc == 3 && strcmp(argv[1], "--listen") == 0)
		return answers(argv[2]);
	if (argc == 4 && strcmp(argv[1], "--plan") == 0)
		return plan_write(argv[2], argv[3]);
	if (argc == 5 && strcmp(argv[1], "--pages") == 0)
		return pages(argv[2], argv[3], argv[4]);
	return become(argc, argv);
}
