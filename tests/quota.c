/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * quota.c: several clients at once, each with a helper and of a user of its
 * own, so that what they hold together can be compared with what a policy
 * allows; knows the wire, but nothing of the library.  To be run as root.
 *
 *   quota HELPER WORD...
 *
 * does what the words say, and ends at the first answer that is not the one
 * expected.  A word is
 *
 *   NAME=UID[+GID...]        starts a helper for a client of that user; NAME is
 *                            one letter, the first group its own
 *   NAME.VERB[=N][:ANSWER]   does VERB for that client; ANSWER is a pattern of
 *                            the shell
 *   block=UID, unblock       takes and drops a read lock on that user's pages
 *                            in the ledger, which is below $LEDGER
 *   !COMMAND                 runs COMMAND in a shell, which has to succeed
 *
 *   quota --race SECONDS PAGES HELPER
 *
 * lets 50 clients of uid 65534 race for PAGES pages of quota.
 */
#include "config.h"

#include <ctype.h>
#include <err.h>
#include <fnmatch.h>
#include <limits.h>

#include "client.h"

enum {
	POOLS = 1024,       /* of one client */
	SOON_MS = 100,      /* in which what the dead held is back */
	END_MS = 1000,      /* in which a helper ends that has nothing to do */
	REPLY_MS = 5000,
	DESCRIPTORS = 16,   /* of a helper, looked at by thieves */

	RACERS = 50,
	KILLS = 2,                  /* more than these, and half of the quota */
	PATIENCE_US = 30 * 1000000, /* are waited for */
	/* Of one racer: all of them together want more than there is. */
	RACER_POOLS = 6,
	RACER_PAGES = 16    /* of one pool, at most */
};

struct client {
	pid_t helper;
	pid_t stand_in;     /* another process that holds all in its place */
	uid_t uid;
	int socket;         /* -1: none */
	bool granted;       /* the last pool is not locked yet */
	unsigned pool_count;
	struct {
		void *base;
		size_t size;
		uint32_t id;
	} pools[POOLS];
};

static const char *helper_path;
static size_t page;

/* --- One client --- */

/* GIDS may be the user's own number, or "GID+GID". */
static void
user_become(uid_t uid, const char *gids)
{
	const struct rlimit none = { 0, 0 };
	gid_t groups[32];
	size_t count = 0;
	char *end;

	while (*gids == '+' && count < sizeof(groups) / sizeof(groups[0])) {
		groups[count++] = (gid_t)strtoul(gids + 1, &end, 10);
		gids = end;
	}
	if (count == 0)
		groups[count++] = (gid_t)uid;
	if (setrlimit(RLIMIT_MEMLOCK, &none) == -1 ||
	    setgroups(count - 1, groups + 1) == -1 ||
	    setresgid(groups[0], groups[0], groups[0]) == -1 ||
	    setresuid(uid, uid, uid) == -1)
		err(1, "uid %u", (unsigned)uid);
}

/* Of the client that is about to start. */
static uid_t next_uid;
static const char *next_gids;

static void
become_next(void)
{
	if (geteuid() == 0)
		user_become(next_uid, next_gids);
}

static void
client_start(struct client *c, uid_t uid, const char *gids)
{
	next_uid = uid;
	next_gids = gids;
	c->helper = helper_connect(&c->socket, become_next);
	c->uid = uid;
	c->stand_in = 0;
	c->granted = false;
	c->pool_count = 0;
}

/* WIRE_EPROTO as well if there is no answer, or one that is malformed. */
static enum wire_status
ask_helper(const struct client *c, unsigned type, uint32_t id, uint64_t a,
    uint64_t b, struct wire_message *answer, int *fd)
{
	struct pollfd readable = { .fd = c->socket, .events = POLLIN };

	*fd = -1;
	return say(c->socket, type, id, a, b) &&
	    poll(&readable, 1, REPLY_MS) == 1 &&
	    hear(c->socket, answer, fd) ? answer->status : WIRE_EPROTO;
}

static enum wire_status
client_hello(const struct client *c, struct wire_message *answer)
{
	int pulse;
	enum wire_status status = ask_helper(c, WIRE_HELLO, 0, WIRE_VERSION,
	    WIRE_VERSION, answer, &pulse);

	if ((status == WIRE_OK) != (pulse != -1))
		errx(1, "a greeting without a pulse, or a refusal with one");
	if (pulse != -1)
		(void)close(pulse);
	return status;
}

/* Mapped and populated, so that it can be locked. */
static enum wire_status
client_grant(struct client *c, size_t pages)
{
	struct wire_message answer;
	enum wire_status status;
	void *base;
	int fd;

	if (c->pool_count == POOLS)
		errx(1, "too many pools");
	status = ask_helper(c, WIRE_GRANT, 0, pages * page, 0, &answer, &fd);
	if ((status == WIRE_OK) != (fd != -1))
		errx(1, "a grant that is none");
	if (status != WIRE_OK)
		return status;
	base = mmap(NULL, pages * page, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
	    0);
	if (base == MAP_FAILED)
		err(1, "mmap");
	(void)close(fd);
	memset(base, 0x5a, pages * page);
	c->pools[c->pool_count].base = base;
	c->pools[c->pool_count].size = pages * page;
	c->pools[c->pool_count].id = answer.id;
	c->pool_count++;
	c->granted = true;
	return WIRE_OK;
}

static void
client_unmap(struct client *c, unsigned pool)
{
	(void)munmap(c->pools[pool].base, c->pools[pool].size);
	c->pools[pool] = c->pools[--c->pool_count];
}

static enum wire_status
client_lock(struct client *c)
{
	struct wire_message answer;
	enum wire_status status;
	int fd;

	if (!c->granted)
		errx(1, "nothing to lock");
	status = ask_helper(c, WIRE_LOCK, c->pools[c->pool_count - 1].id, 0, 0,
	    &answer, &fd);
	c->granted = false;
	if (status != WIRE_OK)
		client_unmap(c, c->pool_count - 1);
	return status;
}

static enum wire_status
client_take(struct client *c, size_t pages)
{
	enum wire_status status = client_grant(c, pages);

	return status == WIRE_OK ? client_lock(c) : status;
}

static enum wire_status
client_release(struct client *c, unsigned pool)
{
	uint32_t id = c->pools[pool].id;
	struct wire_message answer;
	int fd;

	client_unmap(c, pool);
	c->granted = false;
	return ask_helper(c, WIRE_RELEASE, id, 0, 0, &answer, &fd);
}

static void
client_forget(struct client *c)
{
	while (c->pool_count > 0)
		client_unmap(c, c->pool_count - 1);
	if (c->socket != -1)
		(void)close(c->socket);
	c->socket = -1;
}

/* --- Thieves --- */

static unsigned
open_counts(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC);

	if (fd != -1)
		(void)close(fd);
	return fd != -1;
}

/*
 * In how many ways a descriptor of the ledger, or of its directory, can be had:
 * by its path, from the helper, or because this process has inherited one.
 */
static unsigned
steal(const struct client *c)
{
	static const int flags[] = { O_RDONLY, O_WRONLY, O_RDWR, O_PATH };
	const char *ledger = getenv("LEDGER");
	struct stat wanted, st;
	char path[4096];
	unsigned ways = 0;
	int pid;

	if (ledger == NULL || lstat(ledger, &wanted) == -1)
		err(1, "$LEDGER");
	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		(void)snprintf(path, sizeof(path), "%s/ledger", ledger);
		ways += open_counts(path, flags[i]);
		for (int fd = 0; fd < DESCRIPTORS; fd++) {
			(void)snprintf(path, sizeof(path), "/proc/%d/fd/%d",
			    (int)c->helper, fd);
			/* Mode 0 keeps nobody from O_PATH of a pool. */
			ways += stat(path, &st) == 0 && S_ISREG(st.st_mode) &&
			    open_counts(path, flags[i]);
		}
	}
	ways += open_counts(ledger, O_RDONLY | O_DIRECTORY);
	for (int fd = 0; fd < DESCRIPTORS; fd++)
		ways += fstat(fd, &st) == 0 && st.st_dev == wanted.st_dev &&
		    S_ISREG(st.st_mode) && st.st_uid != 0;
#if defined(SYS_pidfd_open) && defined(SYS_pidfd_getfd)
	if ((pid = (int)syscall(SYS_pidfd_open, c->helper, 0)) == -1)
		return ways;
	for (int fd = 0; fd < DESCRIPTORS; fd++) {
		int copy = (int)syscall(SYS_pidfd_getfd, pid, fd, 0);

		ways += copy != -1;
		if (copy != -1)
			(void)close(copy);
	}
	(void)close(pid);
#endif
	return ways;
}

/* As UID, in a process of its own. */
static unsigned
steal_as(const struct client *c, uid_t uid)
{
	unsigned ways;
	int status;
	pid_t pid = fork();

	if (pid == -1)
		err(1, "fork");
	if (pid == 0) {
		if (uid != 0)
			user_become(uid, "");
		ways = steal(c);
		_exit(ways > 99 ? 99 : (int)ways);
	}
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		errx(1, "the thief was caught");
	return (unsigned)WEXITSTATUS(status);
}

/* --- Words --- */

static const char *
status_name(enum wire_status status)
{
	static const char *const names[] = {
		"OK", "EPERM", "EDQUOT", "ENOMEM", "EINVAL", "EPROTO"
	};

	return (size_t)status < sizeof(names) / sizeof(names[0]) ?
	    names[status] : "?";
}

/* How the helper ended, if it does within END_MS. */
static void
say_end(struct client *c, char *answer, size_t size)
{
	int64_t end = now_us() + (int64_t)END_MS * 1000;
	pid_t ended;
	int status;

	while ((ended = waitpid(c->helper, &status, WNOHANG)) == 0 &&
	    now_us() < end)
		sleep_ms(1);
	if (ended == 0)
		(void)snprintf(answer, size, "stays");
	else if (ended == c->helper && WIFEXITED(status))
		(void)snprintf(answer, size, "exit %d", WEXITSTATUS(status));
	else
		(void)snprintf(answer, size, "killed");
}

/* Leaves all to another process, as fork() leaves shared mappings. */
static enum wire_status
leave(struct client *c)
{
	if ((c->stand_in = fork()) == -1)
		err(1, "fork");
	if (c->stand_in == 0) {
		for (unsigned i = 0; i < c->pool_count; i++)
			memset(c->pools[i].base, 0xa5, c->pools[i].size);
		for (;;)
			(void)pause();
	}
	client_forget(c);
	return WIRE_OK;
}

static enum wire_status
kill_and_wait(pid_t pid)
{
	int status;

	return kill(pid, SIGKILL) == 0 && waitpid(pid, &status, 0) == pid ?
	    WIRE_OK : WIRE_EPERM;
}

/* Takes as soon as that is possible. */
static enum wire_status
take_soon(struct client *c, size_t pages)
{
	int64_t end = now_us() + (int64_t)SOON_MS * 1000;
	enum wire_status status;

	while ((status = client_take(c, pages)) == WIRE_EDQUOT &&
	    now_us() < end)
		sleep_ms(1);
	return status;
}

static enum wire_status
give(struct client *c, uint64_t count)
{
	enum wire_status status = WIRE_OK;

	while (status == WIRE_OK && count-- > 0)
		status = client_release(c, c->pool_count - 1);
	return status;
}

/* All numbers in pages. */
static void
say_numbers(unsigned type, const struct client *c, char *text, size_t size)
{
	struct wire_message answer = { 0 };
	enum wire_status status;
	int fd;

	if (type == WIRE_HELLO)
		status = client_hello(c, &answer);
	else
		status = ask_helper(c, WIRE_STATUS, 0, 0, 0, &answer, &fd);
	if (status != WIRE_OK)
		(void)snprintf(text, size, "%s", status_name(status));
	else if (type == WIRE_HELLO)
		(void)snprintf(text, size, "OK limit %" PRIu64 " left %" PRIu64,
		    answer.b / page, answer.c / page);
	else
		(void)snprintf(text, size, "OK locked %" PRIu64 " left %"
		    PRIu64, answer.a / page, answer.c / page);
}

/* Asks, and leaves the answer unread. */
static enum wire_status
ask_only(const struct client *c)
{
	struct pollfd readable = { .fd = c->socket, .events = POLLIN };

	return say(c->socket, WIRE_STATUS, 0, 0, 0) &&
	    poll(&readable, 1, REPLY_MS) == 1 ? WIRE_OK : WIRE_EPROTO;
}

static void
client_do(struct client *c, const char *verb, uint64_t n, char *text,
    size_t size)
{
	enum wire_status status;

	if (strcmp(verb, "hello") == 0) {
		say_numbers(WIRE_HELLO, c, text, size);
		return;
	} else if (strcmp(verb, "status") == 0) {
		say_numbers(WIRE_STATUS, c, text, size);
		return;
	} else if (strcmp(verb, "steal") == 0) {
		(void)snprintf(text, size, "%u", steal_as(c, (uid_t)n));
		return;
	} else if (strcmp(verb, "end") == 0) {
		client_forget(c);
		say_end(c, text, size);
		return;
	} else if (strcmp(verb, "ask") == 0) {
		status = ask_only(c);
	} else if (strcmp(verb, "grant") == 0) {
		status = client_grant(c, (size_t)n);
	} else if (strcmp(verb, "lock") == 0) {
		status = client_lock(c);
	} else if (strcmp(verb, "take") == 0) {
		status = client_take(c, (size_t)n);
	} else if (strcmp(verb, "soon") == 0) {
		status = take_soon(c, (size_t)n);
	} else if (strcmp(verb, "give") == 0) {
		status = give(c, n);
	} else if (strcmp(verb, "leave") == 0) {
		status = leave(c);
	} else if (strcmp(verb, "kill") == 0) {
		status = kill_and_wait(c->helper);
		client_forget(c);
	} else if (strcmp(verb, "die") == 0) {
		status = kill_and_wait(c->stand_in);
	} else {
		errx(2, "unknown verb: %s", verb);
	}
	(void)snprintf(text, size, "%s", status_name(status));
}

/* As somebody could who has the file open, if only to read. */
static int
ledger_block(uid_t uid)
{
	const struct flock all = { .l_type = F_RDLCK, .l_whence = SEEK_SET,
	    .l_start = (off_t)uid << 30, .l_len = (off_t)1 << 29 };
	const char *ledger = getenv("LEDGER");
	char path[4096];
	int fd;

	(void)snprintf(path, sizeof(path), "%s/ledger", ledger);
	if ((fd = open(path, O_RDONLY | O_CLOEXEC)) == -1 ||
	    fcntl(fd, F_OFD_SETLK, &all) == -1)
		err(1, "%s", path);
	return fd;
}

static void
command_run(const char *command)
{
	pid_t pid;
	int status;

	(void)fflush(stdout);
	if ((pid = fork()) == -1)
		err(1, "fork");
	if (pid == 0) {
		execl("/bin/sh", "sh", "-c", command, (char *)NULL);
		_exit(127);
	}
	if (waitpid(pid, &status, 0) != pid || status != 0)
		errx(1, "%s: failed", command);
}

static void
word_do(const char *given)
{
	static struct client clients[UCHAR_MAX + 1];
	char word[1024], text[128], *verb, *value, *wanted;
	struct client *c;
	uid_t uid;

	(void)snprintf(word, sizeof(word), "%s", given);
	if (!isalpha((unsigned char)word[0]) || (word[1] != '=' &&
	    word[1] != '.'))
		errx(2, "unknown word: %s", word);
	c = &clients[(unsigned char)word[0]];
	if (word[1] == '=') {
		uid = (uid_t)strtoul(word + 2, &value, 10);
		client_start(c, uid, value);
		return;
	}
	verb = word + 2;
	if ((wanted = strchr(verb, ':')) != NULL)
		*wanted++ = '\0';
	if ((value = strchr(verb, '=')) != NULL)
		*value++ = '\0';
	client_do(c, verb, value == NULL ? 0 : strtoull(value, NULL, 10), text,
	    sizeof(text));
	printf("%c.%s %s\n", word[0], verb, text);
	if (wanted != NULL && fnmatch(wanted, text, 0) != 0)
		errx(1, "%s: %s", given, text);
}

/* --- The race --- */

/*
 * What the racers believe they hold.  Added to once a grant was answered and
 * taken from before a release is asked for: it may lag behind the ledger but
 * never exceed it, so that a total above the quota proves a grant too many.
 */
static struct race {
	uint64_t quota;     /* pages */
	uint64_t total, highest;
	uint64_t grants, refusals, failures, excesses;
	bool hoard;         /* nobody gives any more */
	bool stop;
	struct racer {
		uint64_t held;
		pid_t helper;
		bool busy;   /* what it holds may be about to change */
		bool robbed; /* its helper was killed, HELD taken back */
	} racers[RACERS];
} *race;

#define RACE_ADD(what, n) __atomic_add_fetch(&race->what, n, __ATOMIC_SEQ_CST)
#define RACE_GET(what) __atomic_load_n(&race->what, __ATOMIC_SEQ_CST)
#define RACE_SET(what, n) __atomic_store_n(&race->what, n, __ATOMIC_SEQ_CST)

static unsigned
chance(unsigned below)
{
	static uint32_t state;

	if (state == 0)
		state = (uint32_t)now_us() ^ (uint32_t)getpid() << 16;
	/* Numerical Recipes, chapter 7.1. */
	state = state * 1664525 + 1013904223;
	return (state >> 16) % below;
}

static void
racer_count(struct racer *me, uint64_t pages)
{
	uint64_t now = RACE_ADD(total, pages), highest = RACE_GET(highest);

	me->held += pages;
	RACE_ADD(grants, 1);
	if (now > race->quota)
		RACE_ADD(excesses, 1);
	while (now > highest && !__atomic_compare_exchange_n(&race->highest,
	    &highest, now, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		;
}

/* Both are false if the helper is gone. */
static bool
racer_take(struct client *c, struct racer *me)
{
	size_t pages = RACE_GET(hoard) ? 1 : 1 + chance(RACER_PAGES);
	enum wire_status status = client_grant(c, pages);

	if (status == WIRE_EDQUOT && pages > 1)
		status = client_grant(c, pages = 1);
	if (status == WIRE_EDQUOT) {
		RACE_ADD(refusals, 1);
		return true;
	}
	if (status == WIRE_OK) {
		racer_count(me, pages);
		status = client_lock(c);
	}
	if (status != WIRE_OK)
		RACE_ADD(failures, 1);
	return status == WIRE_OK;
}

static bool
racer_give(struct client *c, struct racer *me)
{
	unsigned pool = chance(c->pool_count);
	uint64_t pages = c->pools[pool].size / page;

	me->held -= pages;
	RACE_ADD(total, -pages);
	if (client_release(c, pool) == WIRE_OK)
		return true;
	RACE_ADD(failures, 1);
	return false;
}

/* False at the end, or if the helper was killed. */
static bool
racer_step(struct client *c, struct racer *me)
{
	bool stop = RACE_GET(stop), goes_on = false;

	__atomic_store_n(&me->busy, true, __ATOMIC_SEQ_CST);
	if (me->robbed || (stop && c->pool_count == 0))
		goes_on = false;
	else if (!stop && (c->pool_count == 0 || RACE_GET(hoard) ||
	    (chance(3) != 0 && c->pool_count < RACER_POOLS)))
		goes_on = racer_take(c, me);
	else
		goes_on = racer_give(c, me);
	__atomic_store_n(&me->busy, false, __ATOMIC_SEQ_CST);
	return goes_on;
}

__attribute__((noreturn)) static void
racer_run(struct racer *me)
{
	static struct client c;
	struct wire_message answer;
	int status;

	(void)setpriority(PRIO_PROCESS, 0, 0);
	become_nobody(0);
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	while (!RACE_GET(stop)) {
		client_start(&c, NOBODY, "");
		if (client_hello(&c, &answer) != WIRE_OK)
			errx(1, "no helper");
		me->robbed = false;
		__atomic_store_n(&me->helper, c.helper, __ATOMIC_SEQ_CST);
		while (racer_step(&c, me))
			sleep_ms(chance(4) == 0);
		__atomic_store_n(&me->helper, 0, __ATOMIC_SEQ_CST);
		client_forget(&c);
		(void)waitpid(c.helper, &status, 0);
	}
	_exit(0);
}

static pid_t
racer_start(struct racer *me)
{
	pid_t pid;

	memset(me, 0, sizeof(*me));
	if ((pid = fork()) == -1)
		err(1, "fork");
	if (pid == 0)
		racer_run(me);
	return pid;
}

/*
 * Kills a racer, or its helper: stops it first, at a moment when what it
 * believes to hold is what it holds, and takes that back.  Whether it did.
 */
static bool
racer_kill(struct racer *me, pid_t *pid, bool helper_only)
{
	int status;
	bool can;

	if (kill(*pid, SIGSTOP) == -1 ||
	    waitpid(*pid, &status, WUNTRACED) != *pid || !WIFSTOPPED(status))
		errx(1, "a racer ended");
	can = !me->busy && me->helper != 0 && !me->robbed;
	if (can) {
		RACE_ADD(total, -me->held);
		me->held = 0;
		me->robbed = true;
		if (kill(helper_only ? me->helper : *pid, SIGKILL) == -1)
			err(1, "kill");
	}
	(void)kill(*pid, SIGCONT);
	if (can && !helper_only) {
		(void)waitpid(*pid, &status, 0);
		*pid = racer_start(me);
	}
	return can;
}

/*
 * As the kernel sees it: how many pages of the quota somebody has locked.  A
 * lock beyond them is an excess.  What moves while the file is read may show
 * twice, and is counted once.
 */
static uint64_t
observe_locks(const struct stat *ledger)
{
	const uint64_t base = (uint64_t)NOBODY << 30;
	const uint64_t helpers = base + (UINT64_C(1) << 29);
	bool *locked = calloc((size_t)race->quota, sizeof(bool));
	FILE *locks = fopen("/proc/locks", "re");
	uint64_t from, to, count = 0;
	unsigned long inode;
	char line[256];

	if (locked == NULL || locks == NULL)
		err(1, "/proc/locks");
	while (fgets(line, sizeof(line), locks) != NULL) {
		if (sscanf(line, "%*u: OFDLCK ADVISORY WRITE %*d %*x:%*x:%lu %"
		    SCNu64 " %" SCNu64, &inode, &from, &to) != 3 ||
		    inode != ledger->st_ino || from < base || from >= helpers)
			continue;
		if (to - base >= race->quota)
			RACE_ADD(excesses, 1);
		for (; from <= to && from - base < race->quota; from++) {
			count += !locked[from - base];
			locked[from - base] = true;
		}
	}
	(void)fclose(locks);
	free(locked);
	return count;
}

/* What `--usage` says that all racers have, in pages. */
static uint64_t
observe_usage(void)
{
	char line[256], name[64];
	uint64_t bytes = 0;
	int out[2], status;
	FILE *usage;
	pid_t pid;

	if (pipe2(out, O_CLOEXEC) == -1 || (pid = fork()) == -1)
		err(1, "--usage");
	if (pid == 0) {
		(void)dup2(out[1], STDOUT_FILENO);
		execl(helper_path, "secmalloc-helper", "--usage", (char *)NULL);
		_exit(127);
	}
	(void)close(out[1]);
	if ((usage = fdopen(out[0], "r")) == NULL)
		err(1, "--usage");
	while (fgets(line, sizeof(line), usage) != NULL)
		if (sscanf(line, "%63s %*u %" SCNu64, name, &bytes) == 2)
			break;
	while (fgets(line, sizeof(line), usage) != NULL)
		;
	(void)fclose(usage);
	if (waitpid(pid, &status, 0) != pid || status != 0)
		errx(1, "--usage failed");
	return bytes / page;
}

static bool
race_report(uint64_t by_locks, uint64_t by_usage, unsigned kills,
    unsigned survivors)
{
	printf("quota %" PRIu64 ": at most %" PRIu64 " held, %" PRIu64
	    " locked, %" PRIu64 " listed; %" PRIu64 " grants, %" PRIu64
	    " refusals, %u kills\n%" PRIu64 " excesses, %" PRIu64
	    " failures, %u survivors\n", race->quota, race->highest, by_locks,
	    by_usage, race->grants, race->refusals, kills, race->excesses,
	    race->failures, survivors);
	/* And whoever looked did see something. */
	return race->excesses == 0 && race->failures == 0 && survivors == 0 &&
	    by_locks > race->quota / 2 && by_usage <= race->quota &&
	    by_usage > race->quota / 2 && race->refusals > 0 && kills > KILLS;
}

/* Whether they take all that there is, once they give no more. */
static bool
race_hoard(void)
{
	int64_t end = now_us() + (int64_t)END_MS * 10 * 1000;

	RACE_SET(hoard, true);
	while (RACE_GET(total) < race->quota && now_us() < end)
		sleep_ms(1);
	return RACE_GET(total) >= race->quota;
}

static unsigned
race_end(const pid_t racers[RACERS])
{
	int64_t end = now_us() + (int64_t)END_MS * 10 * 1000;
	unsigned survivors;
	int status;

	if (!race_hoard())
		RACE_ADD(failures, 1);
	RACE_SET(stop, true);
	for (int i = 0; i < RACERS; i++)
		if (waitpid(racers[i], &status, 0) != racers[i] || status != 0)
			RACE_ADD(failures, 1);
	/* The helpers of racers that were killed are our children by now. */
	do {
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		survivors = observe_children(true, NULL);
	} while (survivors > 0 && now_us() < end);
	return survivors;
}

static int
race_run(unsigned seconds, uint64_t pages)
{
	int64_t end = now_us() + (int64_t)seconds * 1000000;
	int64_t patience = now_us() + PATIENCE_US;
	uint64_t locks = 0, usage = 0, seen;
	const char *ledger = getenv("LEDGER");
	pid_t racers[RACERS];
	unsigned kills = 0, survivors, who;
	struct stat st;
	char path[4096];

	race = mmap(NULL, sizeof(*race), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (race == MAP_FAILED || ledger == NULL ||
	    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == -1)
		err(1, "race");
	race->quota = pages;
	/* The observer is not to wait in line with those that it observes. */
	(void)setpriority(PRIO_PROCESS, 0, -20);
	for (int i = 0; i < RACERS; i++)
		racers[i] = racer_start(&race->racers[i]);
	(void)snprintf(path, sizeof(path), "%s/ledger", ledger);
	while (stat(path, &st) == -1)
		if (now_us() < end)
			sleep_ms(1);
		else
			err(1, "%s", path);
	/* On a busy machine, on until there was something to see. */
	while (now_us() < end || (now_us() < patience && (kills <= KILLS ||
	    locks <= pages / 2 || usage <= pages / 2))) {
		if ((seen = observe_locks(&st)) > locks)
			locks = seen;
		if ((seen = observe_usage()) > usage)
			usage = seen;
		for (int tries = 0; tries < RACERS; tries++) {
			who = chance(RACERS);
			if (!racer_kill(&race->racers[who], &racers[who],
			    chance(2) == 0))
				continue;
			kills++;
			break;
		}
		sleep_ms(5);
	}
	survivors = race_end(racers);
	return race_report(locks, usage, kills, survivors) ? 0 : 1;
}

int
main(int argc, char *argv[])
{
	int blocking = -1;
	bool racing;

	(void)signal(SIGPIPE, SIG_IGN);
	page = (size_t)sysconf(_SC_PAGESIZE);
	if (geteuid() != 0)
		errx(2, "not root");
	racing = argc == 5 && strcmp(argv[1], "--race") == 0;
	if (argc < 3)
		errx(2, "no words");
	helper_path = argv[racing ? 4 : 1];
	if (setenv("SECMALLOC_TEST_HELPER", helper_path, 1) != 0)
		err(1, "setenv");
	if (racing)
		return race_run((unsigned)strtoul(argv[2], NULL, 10),
		    strtoull(argv[3], NULL, 10));
	for (int i = 2; i < argc; i++) {
		if (argv[i][0] == '!')
			command_run(argv[i] + 1);
		else if (strncmp(argv[i], "block=", 6) == 0)
			blocking = ledger_block((uid_t)strtoul(argv[i] + 6,
			    NULL, 10));
		else if (strcmp(argv[i], "unblock") == 0)
			(void)close(blocking);
		else
			word_do(argv[i]);
		(void)fflush(stdout);
	}
	return 0;
}
