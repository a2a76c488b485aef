/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * main.c: turns whatever a caller started into a process that trusts nothing it
 * inherited, then serves; must not know what a pool or a capability is.
 */
#include "config.h"

#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "locker.h"
#include "privilege.h"
#include "protocol.h"
#include "serve.h"

#define NAME "secmalloc-helper"

/* Killing the helper frees no memory: its pools stay mapped elsewhere. */
#define OOM_SCORE_ADJ "-900"

/* Nanoseconds; the kernel's own default. */
#define TIMER_SLACK 50000UL

/* The kernel's default for fs.nr_open. */
#define NR_OPEN 1048576

static void
options(int argc, char *argv[])
{
	if (argc == 1)
		return;
	if (argc == 2 && strcmp(argv[1], "--version") == 0) {
		puts(NAME " " PACKAGE_VERSION);
	} else if (argc == 2 && strcmp(argv[1], "--help") == 0) {
		puts("usage: " NAME " [--help | --version]\n"
		    "Locks memory for one program that uses libsecmalloc, which "
		    "starts it with a\nconnected socket as standard input.  "
		    "See " NAME "(8).");
	} else {
		errx(EX_USAGE, "%s; try --help", argc == 2 ?
		    "unknown option" : "too many arguments");
	}
	exit(fflush(stdout) == 0 ? EX_OK : EX_IOERR);
}

/* Also what the environment held must not stay readable in this process. */
static void
environment_clear(void)
{
	for (char **e = environ; e != NULL && *e != NULL; e++)
		memset(*e, 0, strlen(*e));
	environ = NULL;
}

static void
descriptors_close_from(unsigned first)
{
	struct rlimit l;
	unsigned end = NR_OPEN;

#ifdef SYS_close_range
	if (syscall(SYS_close_range, first, UINT_MAX, 0) == 0)
		return;
#endif
	/* Linux before 5.9.  A limit may be lower than descriptors in use. */
	if (getrlimit(RLIMIT_NOFILE, &l) == 0 && l.rlim_max > end &&
	    l.rlim_max <= INT_MAX)
		end = (unsigned)l.rlim_max;
	for (unsigned fd = first; fd < end; fd++)
		close((int)fd);
}

/* Leaves 0 to 2, so that no file opened here can be taken for one of them. */
static void
descriptors_sanitise(void)
{
	struct stat st;

	for (int fd = 0; fd <= 2; fd++)
		if (fstat(fd, &st) == -1 && open("/dev/null", O_RDWR) != fd)
			_exit(EX_OSERR);
	descriptors_close_from(3);
}

static void
socket_require(void)
{
	struct sockaddr_storage peer;
	socklen_t length = sizeof(int), peer_length = sizeof(peer);
	int domain, type;

	if (getsockopt(0, SOL_SOCKET, SO_DOMAIN, &domain, &length) == -1 ||
	    getsockopt(0, SOL_SOCKET, SO_TYPE, &type, &length) == -1 ||
	    domain != AF_UNIX || type != SOCK_SEQPACKET ||
	    getpeername(0, (struct sockaddr *)&peer, &peer_length) == -1)
		errx(EX_USAGE, "this program is started by libsecmalloc, with a"
		    " socket as standard input; see " NAME "(8)");
}

/*
 * Nothing but its socket's end tells the helper to stop.  A signal that is
 * ignored is also no longer pending; one that the kernel raises for a fault of
 * our own is fatal nevertheless.
 */
static void
signals_reset(void)
{
	static const struct itimerval off;
	sigset_t none;

	for (int sig = 1; sig < NSIG; sig++)
		signal(sig, SIG_IGN);
	setitimer(ITIMER_REAL, &off, NULL);
	setitimer(ITIMER_VIRTUAL, &off, NULL);
	setitimer(ITIMER_PROF, &off, NULL);
	prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0);
	/* Of every wait for a time; what was inherited may be without end. */
	prctl(PR_SET_TIMERSLACK, TIMER_SLACK, 0, 0, 0);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/*
 * What cannot be raised is found out by locker_trial() and by each request,
 * except the hard RLIMIT_CPU, whose SIGKILL nothing averts.
 */
static void
limits_reset(void)
{
	static const struct {
		unsigned resource;
		rlim_t enough;
	} raised[] = {
		{ RLIMIT_AS, RLIM_INFINITY },
		{ RLIMIT_CPU, RLIM_INFINITY },
		{ RLIMIT_DATA, RLIM_INFINITY },
		{ RLIMIT_FSIZE, RLIM_INFINITY },
		{ RLIMIT_NOFILE, (rlim_t)2 * WIRE_POOLS_MAX },
	};
	static const struct rlimit zero;
	struct rlimit hard, want;

	for (size_t i = 0; i < sizeof(raised) / sizeof(raised[0]); i++) {
		if (getrlimit(raised[i].resource, &hard) == -1)
			err(EX_OSERR, "getrlimit");
		hard.rlim_cur = hard.rlim_max;
		want = hard;
		if (want.rlim_max < raised[i].enough)
			want.rlim_cur = want.rlim_max = raised[i].enough;
		if (setrlimit(raised[i].resource, &want) == -1)
			setrlimit(raised[i].resource, &hard);
	}
	/* RLIMIT_MEMLOCK: so that only the capability can make mlock work. */
	if (setrlimit(RLIMIT_CORE, &zero) == -1 ||
	    setrlimit(RLIMIT_MEMLOCK, &zero) == -1)
		err(EX_OSERR, "setrlimit");
}

/* The out-of-memory score and the priority are lowered where allowed only. */
static void
surroundings_reset(void)
{
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd != -1) {
		if (write(fd, OOM_SCORE_ADJ, strlen(OOM_SCORE_ADJ)) == -1)
			errno = 0;
		close(fd);
	}
	if (getpriority(PRIO_PROCESS, 0) > 0)
		setpriority(PRIO_PROCESS, 0, 0);
	umask(077);
	if (chdir("/") == -1)
		err(EX_OSERR, "/");
	/* Refused to who leads a process group, as we may already. */
	if (setsid() == -1 && getsid(0) != getpid())
		errx(EX_OSERR, "cannot leave the caller's session");
}

int
main(int argc, char *argv[])
{
	if (argc < 1)
		return EX_USAGE;
	program_invocation_short_name = (char []){ NAME };
	privilege_undumpable();
	environment_clear();
	descriptors_sanitise();
	options(argc, argv);
	socket_require();
	signals_reset();
	privilege_raise();
	limits_reset();
	surroundings_reset();
	privilege_drop(privilege_identify());
	descriptors_close_from(1);
	serve(locker_trial());
	locker_linger();
	return EX_OK;
}
