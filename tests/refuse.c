/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * refuse.c: puts every obstacle in the way of locking and holds the library to
 * "locked, or an errno that says why"; it knows nothing of the library's
 * inside.  Run as root; the workers become nobody, who may lock nothing.
 *
 * SECMALLOC_TEST_HELPER names the helper, whatever its layout,
 * SECMALLOC_TEST_HELPER_NONE one without privilege, and
 * SECMALLOC_TEST_NONSENSE a program that answers with nonsense.  With the
 * argument "userns" only user namespaces are in the way, which not every system
 * lets nobody make, and with "mappings" only their limit; without it everything
 * else is.  Linked with --wrap=madvise, through which the test notices the
 * moment between a grant and its lock.
 */
#include "config.h"

#include <sched.h>

#include "faults.h"

#define KIB ((size_t)1024)
#define MIB (1024 * KIB)

/* Of newer headers. */
#ifndef MADV_POPULATE_WRITE
# define MADV_POPULATE_WRITE 23
#endif

/* What every refusal keeps to, in microseconds. */
#define SOON 1000000

/* --- Obstacles --- */

static const char *helper_path; /* what the configuration says */

static void
limit(resource_t resource, rlim_t value)
{
	struct rlimit both = { value, value };

	expect(setrlimit(resource, &both) == 0);
}

static void
no_helper(void)
{
	helper_path = "/nonexistent/secmalloc-helper";
}

/* A regular file that nobody may execute. */
static void
helper_not_executable(void)
{
	helper_path = "/etc/passwd";
}

static void
helper_a_directory(void)
{
	helper_path = "/usr";
}

static void
helper_without_privilege(void)
{
	helper_path = getenv("SECMALLOC_TEST_HELPER_NONE");
	expect(helper_path != NULL);
}

static void
helper_is_true(void)
{
	helper_path = "/bin/true";
}

/* Says something else. */
static void
helper_talks_nonsense(void)
{
	helper_path = getenv("SECMALLOC_TEST_NONSENSE");
	expect(helper_path != NULL);
}

static void
no_new_privileges(void)
{
	expect(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
}

static void
user_namespace(void)
{
	expect(unshare(CLONE_NEWUSER) == 0);
}

static void
root_of_user_namespace(void)
{
	static const char map[] = "0 65534 1";
	int fd;

	user_namespace();
	fd = open("/proc/self/uid_map", O_WRONLY | O_CLOEXEC);
	expect(fd != -1);
	expect(write(fd, map, sizeof(map) - 1) == (ssize_t)sizeof(map) - 1);
	expect(close(fd) == 0 && getuid() == 0);
}

static void
no_descriptor(void)
{
	limit(RLIMIT_NOFILE, 0);
}

/* Leaves room for N more. */
static void
descriptors(int n)
{
	int fds[2], last = -1;

	for (int i = 0; i < n; i++)
		expect((fds[i] = last = dup(0)) != -1);
	limit(RLIMIT_NOFILE, (rlim_t)last + 1);
	for (int i = 0; i < n; i++)
		expect(close(fds[i]) == 0);
}

static void
one_descriptor(void)
{
	descriptors(1);
}

static void
two_descriptors(void)
{
	descriptors(2);
}

static void
small_files(void)
{
	limit(RLIMIT_FSIZE, 4096);
}

static void
no_process(void)
{
	limit(RLIMIT_NPROC, 0);
}

static rlim_t
address_space(void)
{
	FILE *statm = fopen("/proc/self/statm", "re");
	unsigned long pages;
	char line[128];

	expect(statm != NULL && fgets(line, sizeof(line), statm) != NULL);
	(void)fclose(statm);
	pages = strtoul(line, NULL, 10);
	expect(pages != 0);
	return (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE);
}

static void
no_address_space(void)
{
	limit(RLIMIT_AS, address_space());
}

#ifndef __SANITIZE_ADDRESS__ /* its runtime needs memory, or ends the process */
static void
no_data(void)
{
	limit(RLIMIT_DATA, 0);
}
#endif

/*
 * Everything mapped from here on counts as locked by this process.  The
 * sanitizers' own mlockall() does nothing.
 */
static void
lock_future(void)
{
	expect(syscall(SYS_mlockall, MCL_FUTURE) == 0);
}

/* --- The moment between a grant and its lock --- */

static mode_t helper_mode; /* of its file, which differs between layouts */

static void
take_helper_away(void)
{
	const char *helper = getenv("SECMALLOC_TEST_HELPER");
	struct stat st;

	expect(helper != NULL && stat(helper, &st) == 0);
	helper_mode = st.st_mode & 07777;
	chmod_helper(0);
}

static void
bring_helper_back(void)
{
	chmod_helper(helper_mode);
}

static void (*at_populate)(void);

int __wrap_madvise(void *at, size_t size, int advice);
int __real_madvise(void *at, size_t size, int advice);

int
__wrap_madvise(void *at, size_t size, int advice)
{
	if (advice == MADV_POPULATE_WRITE && at_populate != NULL)
		at_populate();
	return __real_madvise(at, size, advice);
}

static void
kill_at_populate(void)
{
	expect(kill_helpers() == 1);
	at_populate = NULL;
}

static void
kill_for_good_at_populate(void)
{
	take_helper_away();
	kill_at_populate();
}

static void
killed_before_lock(void)
{
	at_populate = kill_at_populate;
}

static void
killed_for_good_before_lock(void)
{
	at_populate = kill_for_good_at_populate;
}

/* --- At the start --- */

struct start {
	int mode;
	rlim_t memlock;
	void (*as_root)(void);
	void (*as_nobody)(void);
	int error; /* 0: it succeeds */
	const char *promise;
};

static void
cut_bounding_set(void)
{
	for (unsigned long cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0;
	    cap++)
		expect(prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) == 0);
}

/* One initial pool of the default size, so that it is had whole or not. */
static struct secmalloc_config
configuration(int mode)
{
	struct secmalloc_config config;

	test_config(&config, mode);
	config.helper_path = helper_path;
	return config;
}

static void
locked_for_sure(size_t size)
{
	unsigned char *p = secmalloc(size);

	expect(p != NULL);
	memset(p, 0x5a, size);
	expect(pages_locked(p, size));
	/* By itself it needs a descriptor to find out. */
	expect(secmalloc_verify() == 0 || (errno == EMFILE && dup(0) == -1));
	secfree(p);
}

static int
starts(const void *arg)
{
	const struct start *row = arg;
	struct secmalloc_config config;
	struct secmalloc_stats stats;
	unsigned descriptors;
	size_t mapped;
	int64_t begun;
	int result, error;

	helper_path = getenv("SECMALLOC_TEST_HELPER");
	if (row->as_root != NULL)
		row->as_root();
	become_nobody(row->memlock);
	(void)count_mapped(); /* its buffer is mapped */
	if (row->as_nobody != NULL)
		row->as_nobody();
	mapped = count_mapped();
	descriptors = count_descriptors();
	config = configuration(row->mode);
	begun = now_us();
	errno = 0;
	result = secmalloc_init(&config);
	error = errno;
	expect(now_us() - begun < SOON);
	/* What was to come between has. */
	expect(at_populate == NULL);
	if (row->error == 0) {
		errno = error;
		expect(result == 0);
		locked_for_sure(10 * KIB);
		return 0;
	}
	errno = error;
	expect(result == -1 && error == row->error);
	expect(count_descriptors() == descriptors);
	expect(count_mapped() <= mapped + kept_for_good());
	expect(secmalloc_stats(&stats) == 0);
	expect(stats.pools == 0 && stats.locked_bytes == 0);
	expect(stats.mode == -1);
	expect(secmalloc_verify() == 0);
	expect(helpers_become(0));
	/* An allocation starts anew, with the configuration that failed. */
	errno = 0;
	expect(secmalloc(1) == NULL);
	expect(errno == row->error);
	errno = 0;
	expect(secstrdup("secret") == NULL && errno == row->error);
	if (row->as_nobody == killed_for_good_before_lock) {
		bring_helper_back();
		expect(secmalloc_init(&config) == 0);
		locked_for_sure(10 * KIB);
	}
	return 0;
}

#define AUTO SECMALLOC_MODE_AUTO
#define HELPER SECMALLOC_MODE_HELPER
#define INPROCESS SECMALLOC_MODE_INPROCESS

static const struct start at_start[] = {
	{ HELPER, 0, NULL, NULL, 0,
	    "with nothing in the way the helper locks" },
	{ AUTO, 0, NULL, NULL, 0, "so it does for AUTO" },
	{ INPROCESS, 1 * MIB, NULL, NULL, 0,
	    "with a limit that suffices a process locks by itself" },

	{ HELPER, 0, NULL, no_helper, EPERM,
	    "a helper that is missing: EPERM" },
	{ AUTO, 0, NULL, no_helper, EPERM,
	    "a helper that is missing and a limit of 0: EPERM" },
	{ AUTO, 1 * MIB, NULL, no_helper, 0,
	    "a helper that is missing and a limit that suffices: locked" },
	{ HELPER, 1 * MIB, NULL, no_helper, EPERM,
	    "HELPER means the helper or nobody: EPERM" },
	{ HELPER, 0, NULL, helper_not_executable, EPERM,
	    "a helper that is not executable: EPERM" },
	{ HELPER, 0, NULL, helper_a_directory, EPERM,
	    "a directory for a helper: EPERM" },
	{ HELPER, 0, NULL, helper_without_privilege, EPERM,
	    "a helper without privilege: EPERM" },
	{ AUTO, 0, NULL, helper_without_privilege, EPERM,
	    "a helper without privilege and a limit of 0: EPERM" },
	{ AUTO, 1 * MIB, NULL, helper_without_privilege, 0,
	    "a helper without privilege and a limit that suffices: locked" },
	{ HELPER, 0, NULL, helper_is_true, EPROTO,
	    "a program that says nothing: EPROTO" },
	{ HELPER, 0, NULL, helper_talks_nonsense, EPROTO,
	    "a program that talks nonsense: EPROTO" },
	{ AUTO, 0, NULL, helper_is_true, EPROTO,
	    "a program that says nothing and a limit of 0: EPROTO" },

	{ HELPER, 0, NULL, no_new_privileges, EPERM,
	    "under no_new_privs: EPERM" },
	{ AUTO, 0, NULL, no_new_privileges, EPERM,
	    "under no_new_privs with a limit of 0: EPERM" },
	{ AUTO, 1 * MIB, NULL, no_new_privileges, 0,
	    "under no_new_privs with a limit that suffices: locked" },
	{ HELPER, 0, NULL, user_namespace, EPERM,
	    "in a user namespace: EPERM" },
	{ AUTO, 0, NULL, user_namespace, EPERM,
	    "in a user namespace with a limit of 0: EPERM" },
	{ AUTO, 1 * MIB, NULL, user_namespace, 0,
	    "in a user namespace with a limit that suffices: locked" },
	{ HELPER, 0, NULL, root_of_user_namespace, EPERM,
	    "as root of a user namespace: EPERM" },
	{ AUTO, 0, NULL, root_of_user_namespace, EPERM,
	    "as root of a user namespace with a limit of 0: EPERM" },
	{ HELPER, 0, cut_bounding_set, NULL, EPERM,
	    "with the bounding set cut: EPERM" },
	{ AUTO, 0, cut_bounding_set, NULL, EPERM,
	    "with the bounding set cut and a limit of 0: EPERM" },
	{ AUTO, 1 * MIB, cut_bounding_set, NULL, 0,
	    "with the bounding set cut and a limit that suffices: locked" },

	{ HELPER, 0, NULL, killed_before_lock, 0,
	    "a helper killed between grant and lock is replaced: locked" },
	{ HELPER, 0, NULL, killed_for_good_before_lock, EPERM,
	    "a helper killed between grant and lock, and no other: EPERM" },

	{ INPROCESS, 0, NULL, NULL, EPERM,
	    "by itself with a limit of 0: EPERM" },
	{ INPROCESS, 64 * KIB, NULL, NULL, 0,
	    "by itself with a limit of 64 KiB: locked" },
	{ AUTO, 64 * KIB, NULL, no_helper, 0,
	    "AUTO without a helper and with a limit of 64 KiB: locked" },

	{ HELPER, 0, NULL, no_descriptor, EMFILE,
	    "without a descriptor: EMFILE" },
	{ AUTO, 0, NULL, no_descriptor, EMFILE,
	    "AUTO without a descriptor and a limit of 0: EMFILE" },
	{ AUTO, 1 * MIB, NULL, no_descriptor, 0,
	    "AUTO without a descriptor and a limit that suffices: locked" },
	{ HELPER, 0, NULL, one_descriptor, EMFILE,
	    "with one descriptor: EMFILE" },
	{ HELPER, 0, NULL, two_descriptors, 0,
	    "with two descriptors: locked" },
	{ HELPER, 0, NULL, small_files, ENOMEM,
	    "under a tiny RLIMIT_FSIZE: ENOMEM" },
	{ INPROCESS, 1 * MIB, NULL, small_files, 0,
	    "by itself under a tiny RLIMIT_FSIZE: locked" },
	{ HELPER, 0, NULL, no_process, ENOMEM,
	    "under an RLIMIT_NPROC of 0: ENOMEM" },
	{ HELPER, 0, NULL, no_address_space, ENOMEM,
	    "with RLIMIT_AS reached: ENOMEM" },
	{ INPROCESS, 1 * MIB, NULL, no_address_space, ENOMEM,
	    "by itself with RLIMIT_AS reached: ENOMEM" },
#ifndef __SANITIZE_ADDRESS__
	{ HELPER, 0, NULL, no_data, ENOMEM,
	    "with RLIMIT_DATA reached: ENOMEM" },
#endif

	{ HELPER, 8 * MIB, NULL, lock_future, 0,
	    "under mlockall(MCL_FUTURE) with a limit that suffices: locked" },
	{ INPROCESS, 8 * MIB, NULL, lock_future, 0,
	    "by itself under the same: locked" },
	{ HELPER, 4 * KIB, NULL, lock_future, EAGAIN,
	    "under mlockall(MCL_FUTURE) with a tiny limit: EAGAIN" },
	{ HELPER, 256 * KIB, NULL, lock_future, 0,
	    "under the same with a limit for less than wanted: locked" },
};

/* --- Later --- */

static int losses;

static void
count_loss(void *data)
{
	(void)data;
	losses++;
}

/* Objects whose pages must stay locked whatever is refused. */
enum { KEPT = 8 };

static unsigned char *kept[KEPT];
static const size_t kept_size = 20 * KIB;

static void
keep(void)
{
	for (int i = 0; i < KEPT; i++) {
		expect((kept[i] = secmalloc(kept_size)) != NULL);
		memset(kept[i], 0x30 + i, kept_size);
	}
}

static void
kept_whole(void)
{
	for (int i = 0; i < KEPT; i++)
		for (size_t at = 0; at < kept_size; at++)
			expect(kept[i][at] == 0x30 + i);
}

static void
kept_locked(void)
{
	kept_whole();
	for (int i = 0; i < KEPT; i++)
		expect(pages_locked(kept[i], kept_size));
	expect(secmalloc_verify() == 0);
	expect(losses == 0);
}

static struct secmalloc_config
growing(int mode)
{
	struct secmalloc_config config;

	helper_path = getenv("SECMALLOC_TEST_HELPER");
	config = configuration(mode);
	config.on_lock_lost = count_loss;
	return config;
}

struct growth {
	int mode;
	rlim_t memlock;
	void (*obstacle)(void);
	int error;
	const char *promise;
};

static void
nothing(void)
{
}

static void
fill_descriptors(void)
{
	limit(RLIMIT_NOFILE, 64);
	while (dup(0) != -1)
		;
	expect(errno == EMFILE);
}

static int
grows(const void *arg)
{
	const struct growth *row = arg;
	struct secmalloc_config config = growing(row->mode);
	void *p;

	become_nobody(row->memlock);
	expect(secmalloc_init(&config) == 0);
	keep();
	kept_locked();
	row->obstacle();
	for (int i = 0; i < 3; i++) {
		int64_t begun = now_us();

		errno = 0;
		p = secmalloc(2 * MIB);
		expect(now_us() - begun < SOON);
		if (row->error == 0) {
			expect(p != NULL);
			expect(pages_locked(p, 2 * MIB));
			secfree(p);
		} else
			expect(p == NULL && errno == row->error);
		kept_locked();
		errno = 0;
		p = secrealloc(kept[0], 2 * MIB);
		if (row->error == 0) {
			expect(p != NULL && pages_locked(p, 2 * MIB));
			kept[0] = secrealloc(p, kept_size);
			expect(kept[0] != NULL);
		} else
			expect(p == NULL && errno == row->error);
		kept_locked();
	}
	/* What fits into what is locked is had as before. */
	secfree(kept[1]);
	expect((kept[1] = secmalloc(kept_size)) != NULL);
	memset(kept[1], 0x31, kept_size);
	kept_locked();
	return 0;
}

static const struct growth later[] = {
	{ HELPER, 0, nothing, 0,
	    "with nothing in the way more is locked later" },
	{ INPROCESS, 8 * MIB - 4096, nothing, 0,
	    "so it is by itself" },
	{ HELPER, 0, no_helper, 0,
	    "once started, the helper's file is not needed to grow" },
	{ HELPER, 0, fill_descriptors, EMFILE,
	    "later, without a descriptor: EMFILE" },
	{ HELPER, 0, no_address_space, ENOMEM,
	    "later, with RLIMIT_AS reached: ENOMEM" },
	{ INPROCESS, 8 * MIB - 4096, no_address_space, ENOMEM,
	    "later, by itself with RLIMIT_AS reached: ENOMEM" },
	{ INPROCESS, 1 * MIB, nothing, EAGAIN,
	    "later, by itself with the limit reached: EAGAIN" },
	{ AUTO, 0, no_new_privileges, 0,
	    "once started, no_new_privs takes nothing away" },
};

/* By itself, page by page to the very limit, and the last one refused. */
static int
limit_reached(const void *arg)
{
	struct secmalloc_config config = growing(*(const int *)arg);
	size_t got = 0;
	void *p;

	helper_path = "/nonexistent";
	config.helper_path = helper_path;
	become_nobody(64 * KIB);
	expect(secmalloc_init(&config) == 0);
	while ((p = secmalloc(2000)) != NULL) {
		memset(p, 1, 2000);
		expect(pages_locked(p, 2000));
		expect(++got < 100);
	}
	expect(errno == EAGAIN);
	expect(got * 2000 > 32 * KIB);
	expect(secmalloc_verify() == 0);
	return 0;
}

static int
max_locked(const void *arg)
{
	struct secmalloc_config config = growing(*(const int *)arg);
	struct secmalloc_stats stats;

	config.max_locked = 512 * KIB;
	become_nobody(8 * MIB - 4096);
	expect(secmalloc_init(&config) == 0);
	keep();
	expect(secmalloc(600 * KIB) == NULL && errno == ENOMEM);
	kept_locked();
	for (int i = 0; secmalloc(kept_size) != NULL; i++)
		expect(i < 100);
	expect(errno == ENOMEM);
	expect(secmalloc_stats(&stats) == 0);
	expect(stats.locked_bytes <= config.max_locked);
	expect(stats.locked_bytes > config.max_locked / 2);
	kept_locked();
	return 0;
}

/* What the policy gives a user. */
static int
policy_limit(const void *arg)
{
	struct secmalloc_config config = growing(HELPER);

	(void)arg;
	become_nobody(0);
	expect(secmalloc_init(&config) == 0);
	keep();
	errno = 0;
	expect(secmalloc(65 * MIB) == NULL && errno == EDQUOT);
	for (int i = 0; secmalloc(1 * MIB) != NULL; i++)
		expect(i < 64);
	expect(errno == EDQUOT);
	kept_locked();
	return 0;
}

static void
nothing_to_be_had(void)
{
	errno = 0;
	expect(secmalloc(1) == NULL && errno == ENOLCK);
	errno = 0;
	expect(secmalloc(1 * MIB) == NULL && errno == ENOLCK);
	errno = 0;
	expect(secrealloc(kept[0], 1 * MIB) == NULL && errno == ENOLCK);
	expect(secmalloc_is_secure(kept[0]) == 0);
}

/* While no other can be had. */
static void
kill_helper(bool by_verify)
{
	take_helper_away();
	expect(kill_helpers() == 1);
	/* The control for all that is said of locked pages. */
	expect(!pages_locked(kept[0], kept_size));
	errno = 0;
	if (by_verify)
		expect(secmalloc_verify() == -1);
	else
		expect(secmalloc(2 * MIB) == NULL);
	expect(errno == ENOLCK);
}

static void
kept_locked_anew(bool by_verify)
{
	void *p;

	/* An allocation does not look again at once. */
	if (by_verify)
		expect(secmalloc_verify() == 0);
	else {
		sleep_ms(500);
		expect((p = secmalloc(2 * MIB)) != NULL);
		expect(pages_locked(p, 2 * MIB));
		secfree(p);
	}
	kept_whole();
	for (int i = 0; i < KEPT; i++)
		expect(pages_locked(kept[i], kept_size));
	expect(secmalloc_verify() == 0);
	expect(secmalloc_is_secure(kept[0]) == 1);
	expect(helpers() == 1);
}

/* Where there is no other helper; then there is; then there is none again. */
static int
killed(const void *arg)
{
	bool by_verify = *(const bool *)arg;
	struct secmalloc_config config = growing(HELPER);

	become_nobody(0);
	expect(secmalloc_init(&config) == 0);
	keep();
	kept_locked();
	for (int n = 1; n <= 2; n++) {
		kill_helper(by_verify);
		expect(losses == n);
		for (int i = 0; i < 3; i++) {
			errno = 0;
			expect(secmalloc_verify() == -1 && errno == ENOLCK);
			nothing_to_be_had();
		}
		kept_whole();
		bring_helper_back();
		kept_locked_anew(by_verify);
		expect(losses == n);
	}
	kill_helper(by_verify);
	kept_whole();
	for (int i = 0; i < KEPT; i++)
		secfree(kept[i]);
	/* What is free is not locked either. */
	errno = 0;
	expect(secmalloc(kept_size) == NULL && errno == ENOLCK);
	expect(losses == 3);
	secmalloc_shutdown();
	/* A new start locks anew, and a loss is told anew. */
	bring_helper_back();
	losses = 0;
	expect(secmalloc_init(&config) == 0);
	keep();
	kept_locked();
	kill_helper(true);
	expect(losses == 1);
	bring_helper_back();
	return 0;
}

/* Between a later grant and its lock. */
static int
killed_while_growing(const void *arg)
{
	struct secmalloc_config config = growing(HELPER);
	void *p;

	(void)arg;
	become_nobody(0);
	expect(secmalloc_init(&config) == 0);
	keep();
	for (int i = 0; i < 3; i++) {
		at_populate = kill_at_populate;
		expect((p = secmalloc(3 * MIB)) != NULL);
		expect(at_populate == NULL);
		expect(pages_locked(p, 3 * MIB) && helpers() == 1);
		kept_locked();
	}
	for (int i = 0; i < KEPT; i++)
		secfree(kept[i]);
	return 0;
}

static int
killed_for_good_while_growing(const void *arg)
{
	struct secmalloc_config config = growing(HELPER);

	(void)arg;
	become_nobody(0);
	expect(secmalloc_init(&config) == 0);
	keep();
	at_populate = kill_for_good_at_populate;
	errno = 0;
	expect(secmalloc(2 * MIB) == NULL && errno == ENOLCK);
	expect(at_populate == NULL && losses == 1);
	kept_whole();
	expect(secmalloc_verify() == -1 && errno == ENOLCK);
	nothing_to_be_had();
	expect(losses == 1);
	bring_helper_back();
	kept_locked_anew(true);
	expect(losses == 1);
	for (int i = 0; i < KEPT; i++)
		secfree(kept[i]);
	return 0;
}

/* Whoever locked by itself may lose the right to, but not the lock. */
static int
privilege_dropped(const void *arg)
{
	struct secmalloc_config config = growing(INPROCESS);

	(void)arg;
	config.initial_pools = 2;
	config.pool_size = 128 * KIB;
	expect(secmalloc_init(&config) == 0);
	become_nobody(0);
	keep();
	kept_locked();
	errno = 0;
	expect(secmalloc(1 * MIB) == NULL && errno == EPERM);
	kept_locked();
	return 0;
}

/*
 * The kernel's limit of mappings (vm.max_map_count), with room for none, one,
 * two ... more, so that it is met at each step of whatever maps.
 */
enum { MAPPINGS_MAX = 70000, ROOM_MAX = 16 };

/* 0: not known, or no test of ours, since ThreadSanitizer dies of it. */
static long
mappings_allowed(void)
{
#ifdef __SANITIZE_THREAD__
	return 0;
#else
	FILE *file = fopen("/proc/sys/vm/max_map_count", "re");
	char line[32] = "";

	if (file == NULL)
		return 0;
	if (fgets(line, sizeof(line), file) == NULL)
		line[0] = '\0';
	(void)fclose(file);
	return strtol(line, NULL, 10);
#endif
}

/* Two mappings a time, since their protection differs. */
static void
leave_mappings(int room)
{
	static void *filled[MAPPINGS_MAX];
	static size_t n;
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	void *at;

	while ((at = mmap(NULL, 2 * page, PROT_NONE, MAP_PRIVATE |
	    MAP_ANONYMOUS, -1, 0)) != MAP_FAILED) {
		if (mprotect(at, page, PROT_READ) == -1) {
			expect(munmap(at, 2 * page) == 0);
			break;
		}
		filled[n++] = at;
		expect(n < MAPPINGS_MAX);
	}
	for (int i = 0; i < room; i++) {
		n -= i % 2 == 0;
		at = (unsigned char *)filled[n] + (i % 2 == 0 ? page : 0);
		expect(munmap(at, page) == 0);
	}
	/* Half of the last one may be left, for good. */
}

/* Fork may fail, and the child have nothing; no more may happen. */
static void
fork_within_mappings(unsigned char *const *objects, int n)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		if (secmalloc_is_secure(kept[0]))
			kept_whole();
		else
			expect(losses == 1);
		for (int i = 0; i < KEPT; i++)
			secfree(kept[i]);
		for (int i = 0; i < n; i++)
			secfree(objects[i]);
		secmalloc_shutdown();
		_exit(0);
	}
	expect(pid == -1 ? errno == ENOMEM :
	    waitpid(pid, &status, 0) == pid && status == 0);
}

static int
mappings_reached(const void *arg)
{
	static const size_t sizes[] = { 300 * KIB, 500 * KIB, 700 * KIB };
	enum { OBJECTS = 6 };
	int mode = *(const int *)arg, status;

	for (int room = 0; room <= ROOM_MAX; room += 2) {
		struct secmalloc_config config = growing(mode);
		unsigned char *objects[OBJECTS];
		pid_t pid = fork();

		expect(pid != -1);
		if (pid != 0) {
			expect(waitpid(pid, &status, 0) == pid && status == 0);
			continue;
		}
		become_nobody(mode == HELPER ? 0 : 8 * MIB - 4096);
		expect(secmalloc_init(&config) == 0);
		keep();
		for (int i = 0; i < OBJECTS; i++)
			expect((objects[i] = secmalloc(sizes[0])) != NULL);
		leave_mappings(room);
		for (size_t i = 0; i < 3 * (size_t)OBJECTS; i++) {
			unsigned char **object = &objects[i % OBJECTS];

			secfree(*object);
			errno = 0;
			*object = secmalloc(sizes[i % 3]);
			expect(*object != NULL ? pages_locked(*object,
			    sizes[i % 3]) : errno == ENOMEM);
		}
		kept_whole();
		for (int left = 0; room % 8 == 0 && left <= ROOM_MAX; left++) {
			leave_mappings(left);
			fork_within_mappings(objects, OBJECTS);
		}
		kept_locked();
		secmalloc_shutdown();
		_exit(0);
	}
	return 0;
}

/* --- */

static bool
needs_namespace(const struct start *row)
{
	return row->as_nobody == user_namespace ||
	    row->as_nobody == root_of_user_namespace;
}

/*
 * ThreadSanitizer has a thread of its own, beside which nobody can leave for a
 * user namespace, and maps memory as it goes, which is fatal where that counts
 * as locked.
 */
static bool
is_possible(const struct start *row)
{
#ifdef __SANITIZE_THREAD__
	return !needs_namespace(row) && row->as_nobody != lock_future;
#else
	(void)row;
	return true;
#endif
}

static const int modes[] = { AUTO, INPROCESS, HELPER };

/* Where the limit is far away nobody meets it. */
static int
mappings(void)
{
	if (mappings_allowed() > 0 && mappings_allowed() < MAPPINGS_MAX) {
		ok(run_worker(mappings_reached, &modes[2], 60),
		    "at the limit of mappings: ENOMEM");
		ok(run_worker(mappings_reached, &modes[1], 60),
		    "by itself at the limit of mappings: ENOMEM");
	} else
		diag("the limit of mappings is not met");
	return done_testing();
}

int
main(int argc, char *argv[])
{
	static const bool ways[] = { true, false };
	bool namespaces = argc > 1 && strcmp(argv[1], "userns") == 0;

	if (argc > 1 && strcmp(argv[1], "mappings") == 0)
		return mappings();
	for (size_t i = 0; i < sizeof(at_start) / sizeof(at_start[0]); i++)
		if (needs_namespace(&at_start[i]) == namespaces &&
		    is_possible(&at_start[i]))
			ok(run_worker(starts, &at_start[i], 20), "%s",
			    at_start[i].promise);
	if (namespaces)
		return done_testing();
	for (size_t i = 0; i < sizeof(later) / sizeof(later[0]); i++)
		ok(run_worker(grows, &later[i], 20), "%s", later[i].promise);
	ok(run_worker(limit_reached, &modes[0], 20),
	    "AUTO locks up to the limit of 64 KiB and then says EAGAIN");
	ok(run_worker(limit_reached, &modes[1], 20),
	    "INPROCESS locks up to the limit of 64 KiB and then says EAGAIN");
	ok(run_worker(max_locked, &modes[1], 20),
	    "max_locked is kept to by itself: ENOMEM");
	ok(run_worker(max_locked, &modes[2], 20),
	    "max_locked is kept to with a helper: ENOMEM");
	ok(run_worker(policy_limit, NULL, 20),
	    "more than the policy's limit: EDQUOT");
	ok(run_worker(killed, &ways[0], 20),
	    "a killed helper without another is noticed by secmalloc_verify "
	    "and told once, and so is the next one");
	ok(run_worker(killed, &ways[1], 20),
	    "a killed helper without another is noticed by growth and told "
	    "once, and so is the next one");
	ok(run_worker(killed_while_growing, NULL, 20),
	    "a helper killed between a later grant and its lock is replaced");
	ok(run_worker(killed_for_good_while_growing, NULL, 20),
	    "a helper killed there without another: ENOLCK, until there is one");
	ok(run_worker(privilege_dropped, NULL, 20),
	    "with its privilege dropped a process keeps its locks: EPERM");
	return done_testing();
}
