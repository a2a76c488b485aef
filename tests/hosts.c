/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * hosts.c: does to itself what hosts do (daemons, sessions, users, namespaces,
 * roots, execs), and has the pages of all pools looked at from outside before
 * and after; it knows nothing of how memory is locked.
 *
 * argv[1] says who locks: "helper" or "inprocess".
 */
#include "config.h"

#include "faults.h"
#include "objects.h"

enum {
	PLAIN = 64 * 1024,
	/* More than half of what the policy gives a user, without a file of it. */
	MUCH = 40 * 1024 * 1024,
	/* What is nobody's any more is gone by then, in milliseconds. */
	GONE_MS = 2000,
	/* Above what daemon() and the observer need. */
	FIRST_CLOSED = 5
};

static int mode;
static int losses;
static unsigned char *plain;

static void
count_loss(void *data)
{
	(void)data;
	losses++;
}

/* Whoever started as root may lock until it gives that up. */
static void
start(bool privileged)
{
	struct rlimit none = { 0, 0 };
	struct secmalloc_config config;

	test_config(&config, mode);
	config.on_lock_lost = count_loss;
	if (mode == SECMALLOC_MODE_INPROCESS) {
		config.initial_pools = 1;
		config.pool_size = 4 * MIB;
	} else if (!privileged)
		become_nobody(0);
	expect(setrlimit(RLIMIT_MEMLOCK, &none) == 0);
	expect(secmalloc_init(&config) == 0);
	expect((plain = malloc(PLAIN)) != NULL);
	memset(plain, 1, PLAIN);
}

static unsigned
helpers_wanted(unsigned n)
{
	return mode == SECMALLOC_MODE_HELPER ? n : 0;
}

static void
locked_from_outside(void)
{
	struct secmalloc_stats stats;

	expect(secmalloc_stats(&stats) == 0 && stats.locked_bytes != 0);
	expect(locked_in_pools(getpid()) == stats.locked_bytes);
	/* The control: the same question, of ordinary memory. */
	expect(!pages_locked(plain, PLAIN));
}

/* The library's word, and the kernel's on every page of every pool. */
static void
all_is_well(unsigned char seed)
{
	expect(objects_are(seed));
	expect(secmalloc_verify() == 0 && losses == 0);
	expect(secmalloc_is_secure(objects[OBJECTS - 1]) == 1);
	locked_from_outside();
}

/* A pool more, and another helper in place of the one that is killed. */
static void
life_goes_on(unsigned char seed)
{
	unsigned char *more;
	unsigned helpers_now;

	use_allocator();
	expect((more = secmalloc(6 * MIB)) != NULL);
	all_is_well(seed);
	helpers_now = kill_helpers();
	expect((helpers_now != 0) == (mode == SECMALLOC_MODE_HELPER));
	/* The control for what was seen of the pages. */
	expect(helpers_now == 0 || locked_in_pools(getpid()) == 0);
	all_is_well(seed);
	expect(helpers() == helpers_wanted(1));
	secfree(more);
}

/* --- Daemons --- */

/* A parent ends in daemon(), and its child says to the worker how it went. */
static void
become_daemon(bool keep_standard)
{
	int saved = dup(STDOUT_FILENO);

	expect(saved != -1 && fcntl(saved, F_SETFD, FD_CLOEXEC) == 0);
	expect(daemon(0, keep_standard) == 0);
	expect(dup2(saved, STDOUT_FILENO) != -1 && close(saved) == 0);
	(void)alarm(40);
}

/* For what BODY does in a child of the worker's, and its child after that. */
static int
watch(void (*body)(void), bool privileged)
{
	struct gate done = make_gate();
	pid_t pid = fork();

	expect(pid != -1);
	if (pid == 0) {
		start(privileged);
		make_objects(1);
		all_is_well(1);
		expect(helpers() == helpers_wanted(1));
		body();
		open_gate(&done);
		_exit(0);
	}
	expect(child_succeeds(pid));
	(void)close(done.ends[1]);
	pass_gate(&done);
	return 0;
}

static void
daemonize(void)
{
	become_daemon(false);
	/* Its own: the parent's is gone with its parent. */
	expect(helpers_become(helpers_wanted(1)));
	all_is_well(1);
	fill_objects(2);
	life_goes_on(2);
	free_objects();
}

static int
daemons(const void *arg)
{
	(void)arg;
	return watch(daemonize, false);
}

static void
close_from(int first)
{
#ifdef HAVE_CLOSEFROM
	closefrom(first);
#else
	for (int fd = first; fd < 1024; fd++)
		(void)close(fd);
#endif
}

/* All that a program does not know of, but not how we are told of it. */
static int
keep_below(int fd, int kept)
{
	expect(dup2(fd, kept) == kept);
	expect(fcntl(kept, F_SETFD, FD_CLOEXEC) == 0);
	return kept;
}

static void
close_others(void)
{
	expect(count_descriptors() > FIRST_CLOSED);
	close_from(FIRST_CLOSED);
	expect(count_descriptors() <= FIRST_CLOSED);
}

/* ARG: whether to close before daemon(). */
static int
daemon_that_closes(const void *arg)
{
	struct gate done;
	bool before = *(const unsigned *)arg != 0;
	pid_t pid;

	observer = keep_below(observer, 3);
	done = make_gate();
	if ((pid = fork()) == 0) {
		(void)close(done.ends[0]);
		done.ends[1] = keep_below(done.ends[1], 4);
		start(false);
		make_objects(1);
		if (before) {
			close_others();
			all_is_well(1);
		}
		become_daemon(true);
		expect(helpers_become(helpers_wanted(1)));
		if (!before) {
			all_is_well(1);
			close_others();
		}
		all_is_well(1);
		fill_objects(2);
		use_allocator();
		expect(secmalloc(6 * MIB) != NULL);
		all_is_well(2);
		open_gate(&done);
		_exit(0);
	}
	expect(pid != -1 && child_succeeds(pid));
	(void)close(done.ends[1]);
	pass_gate(&done);
	return 0;
}

/* Of three generations each has its own, also when the middle one is gone. */
static int
double_fork(const void *arg)
{
	struct gate up, down, middle;
	pid_t *grandchild, child;

	(void)arg;
	start(false);
	make_objects(1);
	grandchild = mmap(NULL, sizeof(*grandchild), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	expect(grandchild != MAP_FAILED);
	up = make_gate();
	down = make_gate();
	middle = make_gate();
	if ((child = fork()) == 0) {
		(void)alarm(40);
		expect(objects_are(1));
		fill_objects(2);
		expect(setsid() == getpid());
		if ((child = fork()) == 0) {
			(void)alarm(40);
			expect(objects_are(2));
			fill_objects(3);
			expect(chdir("/") == 0);
			open_gate(&up);
			pass_gate(&down);
			all_is_well(3);
			life_goes_on(3);
			free_objects();
			open_gate(&up);
			_exit(0);
		}
		expect(child != -1);
		*grandchild = child;
		open_gate(&up);
		pass_gate(&middle);
		all_is_well(2);
		_exit(0);
	}
	expect(child != -1);
	pass_gate(&up);
	pass_gate(&up);
	expect(helpers() == helpers_wanted(3));
	expect(locked_in_pools(child) != 0);
	expect(locked_in_pools(*grandchild) != 0);
	all_is_well(1);
	open_gate(&middle);
	expect(child_succeeds(child));
	expect(helpers_become(helpers_wanted(2)));
	expect(locked_in_pools(*grandchild) != 0);
	all_is_well(1);
	/* Here they end, and the grandchild's lock does not. */
	secmalloc_shutdown();
	expect(helpers_become(helpers_wanted(1)));
	expect(locked_in_pools(*grandchild) != 0);
	expect(locked_in_pools(getpid()) == 0);
	open_gate(&down);
	(void)close(up.ends[1]);
	pass_gate(&up);
	expect(helpers_become(0));
	return 0;
}

/* --- Users --- */

/* As programs do it, and no call more. */
static void
drop_privileges(void)
{
	expect(setgroups(0, NULL) == 0);
	expect(setgid(NOBODY) == 0 && setuid(NOBODY) == 0);
	expect(setuid(0) == -1 && geteuid() == NOBODY);
}

static void
cannot_grow(unsigned char seed)
{
	use_allocator();
	errno = 0;
	expect(secmalloc(6 * MIB) == NULL);
	expect(errno == EPERM || errno == EAGAIN);
	all_is_well(seed);
}

static int
dropped(const void *arg)
{
	(void)arg;
	start(true);
	make_objects(1);
	all_is_well(1);
	drop_privileges();
	all_is_well(1);
	if (mode == SECMALLOC_MODE_HELPER)
		life_goes_on(1);
	else
		cannot_grow(1);
	all_is_well(1);
	return 0;
}

/* --- Namespaces --- */

enum { SPACES = CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS };

static int
unshared(const void *arg)
{
	(void)arg;
	start(true);
	make_objects(1);
	all_is_well(1);
	expect(unshare(SPACES) == 0);
	all_is_well(1);
	life_goes_on(1);
	drop_privileges();
	all_is_well(1);
	return 0;
}

static void
enter_namespace_of(pid_t pid, const char *name)
{
	char path[64];
	struct stat before, after;
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/self/ns/%s", name);
	expect(stat(path, &before) == 0);
	(void)snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)pid, name);
	expect((fd = open(path, O_RDONLY | O_CLOEXEC)) != -1);
	expect(setns(fd, 0) == 0 && close(fd) == 0);
	(void)snprintf(path, sizeof(path), "/proc/self/ns/%s", name);
	expect(stat(path, &after) == 0);
	expect(before.st_ino != after.st_ino);
}

static int
entered(const void *arg)
{
	static const char *const names[] = { "net", "ipc", "uts",
	/* Not for who has threads, of which ThreadSanitizer is one. */
#ifndef __SANITIZE_THREAD__
	    "mnt"
#endif
	};
	struct gate up = make_gate(), down = make_gate();
	pid_t pid;

	(void)arg;
	if ((pid = fork()) == 0) {
		(void)alarm(40);
		expect(unshare(SPACES) == 0);
		open_gate(&up);
		pass_gate(&down);
		_exit(0);
	}
	expect(pid != -1);
	pass_gate(&up);
	start(true);
	make_objects(1);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		enter_namespace_of(pid, names[i]);
		all_is_well(1);
	}
	open_gate(&down);
	expect(child_succeeds(pid));
	life_goes_on(1);
	return 0;
}

/* The next helper gains no privilege there: that is a loss, and is said. */
static void
is_lost(unsigned char seed)
{
	expect(kill_helpers() == 1);
	expect(secmalloc_verify() == -1 && errno == ENOLCK && losses == 1);
	errno = 0;
	expect(secmalloc(1) == NULL && errno == ENOLCK);
	errno = 0;
	expect(secrealloc(objects[1], 6 * MIB) == NULL && errno == ENOLCK);
	expect(secmalloc_is_secure(objects[1]) == 0);
	expect(objects_are(seed) && losses == 1);
	expect(locked_in_pools(getpid()) == 0);
	free_objects();
}

static bool
makes_user_namespaces(void)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		become_nobody(0);
		_exit(unshare(CLONE_NEWUSER) == 0 ? 0 : 2);
	}
	return pid != -1 && waitpid(pid, &status, 0) == pid && status == 0;
}

static int
user_unshared(const void *arg)
{
	(void)arg;
	start(false);
	make_objects(1);
	all_is_well(1);
	expect(unshare(CLONE_NEWUSER) == 0);
	all_is_well(1);
	if (mode == SECMALLOC_MODE_INPROCESS) {
		cannot_grow(1);
		return 0;
	}
	use_allocator();
	expect(secmalloc(6 * MIB) != NULL);
	all_is_well(1);
	is_lost(1);
	return 0;
}

/* --- Another root --- */

/* An empty directory, which is gone before we are in it. */
static void
change_root(void)
{
	char empty[] = "/tmp/secmalloc-hosts.XXXXXX";

	expect(mkdtemp(empty) != NULL && chdir(empty) == 0);
	expect(rmdir(empty) == 0 && chroot(".") == 0 && chdir("/") == 0);
	expect(access("/proc", F_OK) == -1 && errno == ENOENT);
}

/* In an empty root a child has nobody to lock for it, but its parent has. */
static void
child_without_helper(void)
{
	pid_t pid = fork();

	expect(pid != -1);
	if (pid == 0) {
		(void)alarm(20);
		expect(secmalloc_is_secure(objects[2]) == 0 && losses == 1);
		expect(faults(objects[2]));
		errno = 0;
		expect(secmalloc(1) == NULL && errno == EPERM);
		_exit(0);
	}
	expect(child_succeeds(pid));
}

static int
root_changed(const void *arg)
{
	(void)arg;
	start(true);
	make_objects(1);
	change_root();
	drop_privileges();
	all_is_well(1);
	if (mode == SECMALLOC_MODE_INPROCESS) {
		cannot_grow(1);
		/*
		 * What is not locked is seen without /proc, too.  A sanitizer's
		 * own munlock() does nothing.
		 */
		expect(syscall(SYS_munlock, objects[OBJECTS - 1], (size_t)1) ==
		    0);
		expect(secmalloc_verify() == -1 && errno == ENOLCK);
		expect(losses == 1 && objects_are(1));
		return 0;
	}
	/* The one that lives serves on. */
	use_allocator();
	expect(secmalloc(6 * MIB) != NULL);
	all_is_well(1);
	child_without_helper();
	all_is_well(1);
	is_lost(1);
	return 0;
}

static int
root_changed_but_able(const void *arg)
{
	(void)arg;
	start(true);
	make_objects(1);
	change_root();
	all_is_well(1);
	expect(kill_helpers() == 1);
	all_is_well(1);
	expect(helpers() == 0);
	/* What is locked goes round; more is for a helper to give. */
	free_objects();
	make_objects(2);
	errno = 0;
	expect(secmalloc(6 * MIB) == NULL && errno == EPERM);
	all_is_well(2);
	return 0;
}

/* --- Other programs --- */

static unsigned
descriptors_of(pid_t pid)
{
	char path[64];
	unsigned n = 0;
	DIR *dir;

	(void)snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	expect((dir = opendir(path)) != NULL);
	while (readdir(dir) != NULL)
		n++;
	(void)closedir(dir);
	return n - 2;
}

/* Of this process: what a program that it executes is given. */
static unsigned
descriptors_to_pass(void)
{
	unsigned n = 0;

	for (int fd = 0; fd < 1024; fd++) {
		int flags = fcntl(fd, F_GETFD);

		n += flags != -1 && (flags & FD_CLOEXEC) == 0;
	}
	return n;
}

/* In kilobytes: what the process itself has locked. */
static unsigned long
locked_by(pid_t pid)
{
	char path[64], line[256];
	unsigned long kib = 0;
	FILE *status;

	(void)snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	expect((status = fopen(path, "re")) != NULL);
	while (fgets(line, sizeof(line), status) != NULL)
		if (strncmp(line, "VmLck:", 6) == 0)
			kib = strtoul(line + 6, NULL, 10);
	(void)fclose(status);
	return kib;
}

/* What is left when the quota that it takes is free, at the latest. */
static void
quota_is_back(void)
{
	int64_t end = now_us() + GONE_MS * 1000;
	struct secmalloc_config config;
	void *much;

	test_config(&config, mode);
	expect(secmalloc_init(&config) == 0);
	while ((much = secmalloc(MUCH)) == NULL) {
		expect(errno == EDQUOT && now_us() < end);
		sleep_ms(5);
	}
	secfree(much);
	secmalloc_shutdown();
	expect(helpers_become(0));
}

static void
quota_is_taken(void)
{
	struct secmalloc_config config;

	test_config(&config, mode);
	expect(secmalloc_init(&config) == 0);
	expect(secmalloc(MUCH) == NULL && errno == EDQUOT);
	secmalloc_shutdown();
	expect(helpers_become(1));
}

/* With two descriptors of the program's own, one of which is to be passed on. */
static void
become_sleep(struct gate *up, struct gate *down)
{
	char name[] = "sleep", long_enough[] = "100";
	char *argv[] = { name, long_enough, NULL }, *envp[] = { NULL };

	start(false);
	make_objects(1);
	if (mode == SECMALLOC_MODE_HELPER)
		expect(secmalloc(MUCH) != NULL);
	all_is_well(1);
	/* One that fails changes nothing. */
	expect(execve("/nonexistent", argv, envp) == -1);
	all_is_well(1);
	open_gate(up);
	pass_gate(down);
	expect(fcntl(up->ends[1], F_SETFD, 0) == 0);
	(void)execve("/bin/sleep", argv, envp);
	_exit(1);
}

static bool
runs_sleep(pid_t pid)
{
	char path[64], name[16] = "";
	ssize_t got = -1;
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	if ((fd = open(path, O_RDONLY | O_CLOEXEC)) != -1) {
		got = read(fd, name, sizeof(name) - 1);
		(void)close(fd);
	}
	return got > 0 && strcmp(name, "sleep\n") == 0;
}

static int
executed(const void *arg)
{
	struct gate up = make_gate(), down = make_gate();
	unsigned given = descriptors_to_pass();
	int64_t end;
	pid_t pid;

	(void)arg;
	if ((pid = fork()) == 0)
		become_sleep(&up, &down);
	expect(pid != -1);
	if (mode == SECMALLOC_MODE_HELPER)
		become_nobody(0);
	pass_gate(&up);
	/* A control, as is the end of the gate below. */
	expect(descriptors_of(pid) > given + 1);
	expect(locked_in_pools(pid) != 0);
	if (mode == SECMALLOC_MODE_HELPER)
		quota_is_taken();
	else
		expect(locked_by(pid) >= 4 * KIB);
	open_gate(&down);
	end = now_us() + GONE_MS * 1000;
	while (!runs_sleep(pid) || helpers() != 0) {
		expect(now_us() < end);
		sleep_ms(2);
	}
	if (mode == SECMALLOC_MODE_HELPER)
		quota_is_back();
	expect(locked_by(pid) == 0 && locked_in_pools(pid) == 0);
	/* It lives on, with what it was given, and nothing that is ours. */
	expect(descriptors_of(pid) == given + 1);
	expect(kill(pid, 0) == 0 && kill(pid, SIGKILL) == 0);
	expect(waitpid(pid, NULL, 0) == pid);
	return 0;
}

/* --- */

static const struct {
	const char *modes; /* h: helper, i: in-process */
	int (*body)(const void *);
	unsigned which;
	const char *promise;
} promises[] = {
	{ "hi", daemons, 0,
	    "a daemon has what it had, locked, and its parent leaves no lock" },
	{ "hi", double_fork, 0,
	    "so has a grandchild in a session of its own, whoever ends before" },
	{ "hi", daemon_that_closes, 0,
	    "a daemon may close all descriptors that it does not know" },
	{ "hi", daemon_that_closes, 1,
	    "or have closed them before it became one" },
	{ "hi", dropped, 0,
	    "what root has locked stays so when it becomes nobody" },
	{ "hi", unshared, 0,
	    "new namespaces of mounts, net, ipc and names change nothing" },
	{ "hi", entered, 0, "nor does it to enter another process's" },
	{ "hi", user_unshared, 0,
	    "in a user namespace locks hold, or it is said that they do not" },
	{ "hi", root_changed, 0,
	    "in an empty root locks hold, or it is said that they do not" },
	{ "h", root_changed_but_able, 0,
	    "there, root itself locks what a helper did that was killed" },
	{ "hi", executed, 0,
	    "another program in the same process has no lock and no descriptor" },
};

int
main(int argc, char *argv[])
{
	bool helper = argc > 1 && strcmp(argv[1], "helper") == 0;
	const char *only = argc > 2 ? argv[2] : NULL;

	mode = helper ? SECMALLOC_MODE_HELPER : SECMALLOC_MODE_INPROCESS;
	for (size_t i = 0; i < sizeof(promises) / sizeof(promises[0]); i++) {
		if (strchr(promises[i].modes, helper ? 'h' : 'i') == NULL ||
		    (only != NULL && strtoul(only, NULL, 10) != i))
			continue;
		if (promises[i].body == user_unshared && !makes_user_namespaces())
			skip(promises[i].promise,
			    "needs user namespaces for ordinary users");
		else
			ok(run_worker(promises[i].body, &promises[i].which, 60),
			    "%s", promises[i].promise);
	}
	return done_testing();
}
