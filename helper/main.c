/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * main.c: turns whatever a caller started into a process that trusts nothing it
 * inherited, then serves; must not know what a pool or a capability is.
 */
#include "config.h"
#include "helper.h"

/* Killing the helper frees no memory: its pools stay mapped elsewhere. */
#define OOM_SCORE_ADJ "-900"

/* Nanoseconds; the kernel's own default. */
#define TIMER_SLACK 50000UL

/* The kernel's default for fs.nr_open, and what a helper may use of it. */
#define NR_OPEN 1048576
#define FILES ((rlim_t)2 * WIRE_POOLS_MAX)

/*
 * Also what it held must not stay readable in this process.  The kernel puts it
 * between the arguments and the program's path (fs/exec.c); the dynamic linker
 * has made environ shorter by what it would not have.
 */
static void
environment_clear(char *last_argument)
{
	char *from = last_argument + strlen(last_argument) + 1;
	const uintptr_t end = getauxval(AT_EXECFN);

	if ((uintptr_t)from < end)
		memset(from, 0, end - (uintptr_t)from);
	environ = NULL;
}

static void
descriptors_close_from(unsigned first)
{
#ifdef SYS_close_range
	if (syscall(SYS_close_range, first, UINT_MAX, 0) == 0)
		return;
#endif
	/* Linux before 5.9.  A limit may be lower than descriptors in use. */
	for (unsigned fd = first; fd < NR_OPEN; fd++)
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
 * What cannot be raised is found out by locker_open() and by each request,
 * except the hard RLIMIT_CPU, whose SIGKILL nothing averts.
 */
static void
limits_reset(void)
{
	static const resource_t raised[] = { RLIMIT_AS, RLIMIT_CPU, RLIMIT_DATA,
	    RLIMIT_FSIZE, RLIMIT_NOFILE };
	static const struct rlimit zero;
	struct rlimit old, want;

	for (size_t i = 0; i < sizeof(raised) / sizeof(raised[0]); i++) {
		if (getrlimit(raised[i], &old) == -1)
			die("getrlimit");
		want.rlim_max = raised[i] != RLIMIT_NOFILE ? RLIM_INFINITY :
		    old.rlim_max > FILES ? old.rlim_max : FILES;
		want.rlim_cur = want.rlim_max;
		old.rlim_cur = old.rlim_max;
		if (setrlimit(raised[i], &want) == -1)
			setrlimit(raised[i], &old);
	}
	/* RLIMIT_MEMLOCK: so that only the capability can make mlock work. */
	if (setrlimit(RLIMIT_CORE, &zero) == -1 ||
	    setrlimit(RLIMIT_MEMLOCK, &zero) == -1)
		die("setrlimit");
}

/* The out-of-memory score and the priority are lowered where allowed only. */
static void
surroundings_reset(void)
{
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd != -1 && write(fd, OOM_SCORE_ADJ, strlen(OOM_SCORE_ADJ)) == -1)
		errno = 0; /* closed with what else is open */
	setpriority(PRIO_PROCESS, 0, 0);
	sched_setscheduler(0, SCHED_OTHER, &(struct sched_param){ 0 });
	prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0);
	umask(077);
	if (chdir("/") == -1)
		die("/");
	/* Refused to who leads a process group, as we may already. */
	if (setsid() == -1 && getsid(0) != getpid())
		die("cannot leave the caller's session");
	/* Who has led a session before has its terminal still. */
	if ((fd = open("/dev/tty", O_RDWR | O_CLOEXEC)) != -1)
		ioctl(fd, TIOCNOTTY);
}

/* Whether this helper can serve CLIENT, and how much it may have. */
static enum wire_status
service_prepare(const struct client *client)
{
	const struct account account = privilege_identify();
	enum wire_status able = WIRE_OK;
	struct policy policy;
	char why[WHY_SIZE];
	uid_t uid;

	if (!policy_read(POLICY_FILE, false, client, &policy, why))
		able = refuse(WIRE_EPERM, "%s", why);
	ledger_prepare(&account);
	uid = privilege_drop(account);
	descriptors_close_from(log_settle());
	/* Whose user we are can do to a ledger of ours what he likes. */
	if (able == WIRE_OK && uid != client->uid)
		able = ledger_open(client->uid, &policy);
	if (able == WIRE_OK)
		able = locker_open(MIN(policy.limit.value, policy.total.value));
	return able;
}

int
main(int argc, char *argv[])
{
	static struct client client;
	enum wire_status able;
	int pulse = -1;

	if (argc < 1)
		return EX_USAGE;
	program_invocation_short_name = (char []){ NAME };
	privilege_undumpable();
	environment_clear(argv[argc - 1]);
	descriptors_sanitise();
	admin(argc, argv);
	client_identify(&client);
	log_open(&client);
	signals_reset();
	limits_reset();
	surroundings_reset();
	able = service_prepare(&client);
	if (able == WIRE_OK && (pulse = pulse_start()) == -1)
		able = refuse_errno("a robust futex");
	sandbox_enter();
	serve(able, pulse);
	locker_linger();
	_exit(EX_OK);
}
