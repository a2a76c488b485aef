/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * secret.c: what SECMALLOC_SECRET and SECMALLOC_SECRET_TRY promise: memory that
 * nobody else can read, also through the kernel; knows nothing of the library's
 * inside.
 *
 * SECMALLOC_TEST_HELPER names a helper that would serve.
 */
#include "config.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

#include "objects.h"

#ifndef SYS_memfd_secret
# define SYS_memfd_secret 447
#endif

/* Of later kernels the limit is also root's, who may be able to raise it. */
static void
raise_limit(void)
{
	const struct rlimit limit = { 64 * MIB, 64 * MIB };

	(void)setrlimit(RLIMIT_MEMLOCK, &limit);
}

static int
init(int mode, size_t flags)
{
	struct secmalloc_config config;

	test_config(&config, mode);
	config.flags = flags;
	return secmalloc_init(&config);
}

/* Whether all bytes are in mappings that the kernel calls secretmem. */
static bool
is_secret(const void *at, size_t size)
{
	uintptr_t next = (uintptr_t)at, end = next + size;
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512];

	expect(maps != NULL);
	while (next < end && fgets(line, sizeof(line), maps) != NULL) {
		char *rest;
		uintmax_t from = strtoumax(line, &rest, 16);
		uintmax_t to = strtoumax(rest + 1, NULL, 16);

		if (next >= from && next < to &&
		    strstr(line, " /secretmem (deleted)\n") != NULL)
			next = (uintptr_t)to;
	}
	(void)fclose(maps);
	return next >= end;
}

static int
mode_in_force(void)
{
	struct secmalloc_stats stats;

	expect(secmalloc_stats(&stats) == 0);
	return stats.mode;
}

/* The kernel keeps it so for what the memory is, and not only for a lock. */
static void
all_is_secret(void)
{
	expect(objects_all(is_secret) && objects_all(pages_kept));
	expect(secmalloc_verify() == 0);
	expect(secmalloc_is_secure(objects[OBJECTS - 1]) == 1);
	expect(mode_in_force() == SECMALLOC_MODE_INPROCESS);
	expect(helpers() == 0);
}

static void
all_is_well(void)
{
	expect(objects_are(1));
	all_is_secret();
}

/* --- It is secret --- */

static int
all_of_it(const void *unused)
{
	static unsigned char plain[1];
	size_t mapped;

	(void)unused;
	raise_limit();
	/* What the library keeps for good is there before. */
	expect(init(SECMALLOC_MODE_AUTO, SECMALLOC_SECRET) == 0);
	secfree(secmalloc(1));
	secmalloc_shutdown();
	mapped = count_mapped();
	expect(init(SECMALLOC_MODE_AUTO, SECMALLOC_SECRET) == 0);
	make_objects(1);
	all_is_well();
	/* What is not ours is neither: the control. */
	plain[0] = 1;
	expect(!is_secret(plain, 1) && !pages_kept(plain, 1));
	expect(secmalloc_lock_fd() == -1 && errno == ENOTSUP);
	for (unsigned i = 0; i < OBJECTS; i++) {
		objects[i] = secrealloc(objects[i], sizes[i] * 2 + 1);
		expect(objects[i] != NULL);
		expect(is_secret(objects[i], sizes[i] * 2 + 1));
		expect(bytes_are(i, 1) && objects[i][sizes[i] * 2] == 0);
	}
	all_is_secret();
	free_objects();
	secmalloc_shutdown();
	expect(count_mapped() == mapped);
	return 0;
}

/* Whether root, from another process, reads what is at AT in TARGET: how. */
static unsigned
ways_to_read(pid_t target, unsigned char *at)
{
	unsigned char byte = 0;
	struct iovec here = { &byte, 1 }, there = { at, 1 };
	unsigned ways = 0;
	char path[64];
	int fd, status;
	long word;

	(void)snprintf(path, sizeof(path), "/proc/%d/mem", (int)target);
	expect((fd = open(path, O_RDONLY | O_CLOEXEC)) != -1);
	ways += pread(fd, &byte, 1, (off_t)(uintptr_t)at) == 1 && byte == *at;
	byte = 0;
	ways += process_vm_readv(target, &here, 1, &there, 1, 0) == 1 &&
	    byte == *at;
	expect(ptrace(PTRACE_ATTACH, target, NULL, NULL) == 0);
	expect(waitpid(target, &status, 0) == target && WIFSTOPPED(status));
	errno = 0;
	word = ptrace(PTRACE_PEEKDATA, target, at, NULL);
	ways += errno == 0 && (unsigned char)(word & 0xff) == *at;
	expect(ptrace(PTRACE_DETACH, target, NULL, NULL) == 0);
	return ways;
}

/* The one that is read is a child, in which objects are at the same places. */
static unsigned
ways_from_outside(unsigned char *at)
{
	int ready[2];
	pid_t pid;
	unsigned ways;
	char byte;

	/* All that PEEKDATA reads, whatever the order of bytes. */
	memset(at, 0x5a, sizeof(long));
	expect(pipe(ready) == 0 && (pid = fork()) != -1);
	if (pid == 0) {
		if (at[0] != 0x5a || write(ready[1], "", 1) != 1)
			_exit(1);
		for (;;)
			(void)pause();
	}
	expect(read(ready[0], &byte, 1) == 1);
	ways = ways_to_read(pid, at);
	(void)kill(pid, SIGKILL);
	expect(waitpid(pid, NULL, 0) == pid);
	return ways;
}

static int
not_read_by_root(const void *unused)
{
	static unsigned char plain[64];
	unsigned char *secret;

	(void)unused;
	raise_limit();
	expect(init(SECMALLOC_MODE_AUTO, SECMALLOC_SECRET) == 0);
	expect((secret = secmalloc(64)) != NULL);
	expect(ways_from_outside(plain) == 3);
	expect(ways_from_outside(secret) == 0);
	secmalloc_shutdown();
	/* Nor is it the library that makes the difference. */
	expect(init(SECMALLOC_MODE_INPROCESS, 0) == 0);
	expect((secret = secmalloc(64)) != NULL);
	expect(ways_from_outside(secret) == 3);
	return 0;
}

/* What copies takes it as any memory; what pins pages does not get them. */
static void
transfers(bool secret)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);
	unsigned char *at = secaligned_alloc(page, page), seen[16];
	struct iovec iov = { at, page };
	char path[] = "/var/tmp/secmalloc-secret.XXXXXX";
	int ends[2], file;
	ssize_t got;

	expect(at != NULL && pipe(ends) == 0);
	expect(write(ends[1], "0123456789abcdef", 16) == 16);
	expect(read(ends[0], at, 16) == 16);
	expect(write(ends[1], at, 16) == 16);
	expect(read(ends[0], seen, 16) == 16);
	expect(memcmp(seen, "0123456789abcdef", 16) == 0);
	errno = 0;
	got = vmsplice(ends[1], &iov, 1, 0);
	expect(secret ? got == -1 && errno == EFAULT : got == (ssize_t)page);

	expect((file = mkstemp(path)) != -1 && unlink(path) == 0);
	if (fcntl(file, F_SETFL, O_DIRECT) == -1)
		diag("no direct I/O under /var/tmp: %s", strerror(errno));
	else {
		errno = 0;
		got = pwrite(file, at, page, 0);
		expect(secret ? got == -1 && errno == EFAULT :
		    got == (ssize_t)page);
	}
	secfree(at);
}

static int
not_pinned(const void *unused)
{
	(void)unused;
	expect(init(SECMALLOC_MODE_AUTO, SECMALLOC_SECRET) == 0);
	transfers(true);
	secmalloc_shutdown();
	expect(init(SECMALLOC_MODE_INPROCESS, 0) == 0);
	transfers(false);
	return 0;
}

/* --- In children --- */

/* Each writes to its own, and both are secret. */
static void
copied(way *how)
{
	unsigned char *own;
	int status, go[2];
	char byte;
	pid_t pid;

	expect(pipe(go) == 0 && (pid = how()) != -1);
	if (pid == 0) {
		expect((own = secmalloc(100)) != NULL); /* settles, if need be */
		expect(is_secret(own, 100) && objects_are(1));
		expect(objects_all(is_secret));
		fill_objects(0x77);
		expect(write(go[1], "", 1) == 1);
		expect(secmalloc_verify() == 0 && objects_all(pages_kept));
		free_objects();
		expect(secmalloc_verify() == 0);
		_exit(0);
	}
	expect(read(go[0], &byte, 1) == 1);
	expect(objects_are(1));
	expect(waitpid(pid, &status, 0) == pid && status == 0);
	all_is_well();
	(void)close(go[0]);
	(void)close(go[1]);
}

static int
forks(const void *unused)
{
	size_t mapped;

	(void)unused;
	become_nobody(8 * MIB);
	expect(init(SECMALLOC_MODE_AUTO, SECMALLOC_SECRET) == 0);
	make_objects(1);
	mapped = count_mapped();
	for (unsigned n = 0; n < 10; n++) {
		copied(way_fork);
		copied(way_clone);
	}
	expect(count_mapped() == mapped);
	return 0;
}

/* A fork for which the limit is too low leaves the child without. */
static int
fork_beyond_the_limit(const void *unused)
{
	int status;
	pid_t pid;

	(void)unused;
	become_nobody(3 * MIB / 2);
	expect(init(SECMALLOC_MODE_AUTO, SECMALLOC_SECRET) == 0);
	make_objects(1);
	expect((pid = fork()) != -1);
	if (pid == 0) {
		unsigned char *own;

		expect(secmalloc_is_secure(objects[1]) == 0);
		secfree(objects[1]);
		expect((own = secmalloc(100)) != NULL && is_secret(own, 100));
		_exit(0);
	}
	expect(waitpid(pid, &status, 0) == pid && status == 0);
	all_is_well();
	return 0;
}

/* --- Within limits --- */

static int
limited(const void *unused)
{
	struct secmalloc_stats stats;
	unsigned n = 0;

	(void)unused;
	become_nobody(1 * MIB);
	expect(init(SECMALLOC_MODE_AUTO, SECMALLOC_SECRET) == 0);
	while (secmalloc(60 * KIB) != NULL)
		n++;
	expect(errno == EAGAIN);
	expect(n >= 12);
	expect(secmalloc_stats(&stats) == 0 && stats.locked_bytes <= 1 * MIB);
	expect(secmalloc_verify() == 0 && helpers() == 0);
	return 0;
}

static int
not_allowed(const void *unused)
{
	(void)unused;
	become_nobody(0);
	errno = 0;
	expect(init(SECMALLOC_MODE_AUTO, SECMALLOC_SECRET) == -1);
	expect(errno == EPERM);
	errno = 0;
	expect(secmalloc(1) == NULL && errno == EPERM);
	expect(helpers() == 0);
	return 0;
}

static int
file_size_limited(const void *unused)
{
	const struct rlimit limit = { 64 * KIB, RLIM_INFINITY };

	(void)unused;
	expect(setrlimit(RLIMIT_FSIZE, &limit) == 0);
	expect(init(SECMALLOC_MODE_AUTO, SECMALLOC_SECRET) == 0);
	errno = 0;
	expect(secmalloc(100 * KIB) == NULL && errno == ENOMEM);
	expect(secmalloc(100) != NULL && secmalloc_verify() == 0);
	return 0;
}

static int
locked_while_root(const void *unused)
{
	struct secmalloc_config config;
	unsigned char *first, *more;

	(void)unused;
	raise_limit();
	test_config(&config, SECMALLOC_MODE_INPROCESS);
	config.flags = SECMALLOC_SECRET;
	config.initial_pools = 2;
	config.pool_size = 1 * MIB;
	expect(secmalloc_init(&config) == 0);
	become_nobody(0);
	expect((first = secmalloc(800 * KIB)) != NULL);
	expect((more = secmalloc(800 * KIB)) != NULL);
	memset(first, 1, 800 * KIB);
	memset(more, 2, 800 * KIB);
	expect(is_secret(first, 800 * KIB) && is_secret(more, 800 * KIB));
	expect(secmalloc_verify() == 0);
	errno = 0;
	expect(secmalloc(1 * MIB) == NULL && errno == EPERM);
	return 0;
}

static int
refused(const void *unused)
{
	(void)unused;
	raise_limit();
	errno = 0;
	expect(init(SECMALLOC_MODE_HELPER, SECMALLOC_SECRET) == -1);
	expect(errno == EINVAL);
	errno = 0;
	expect(init(SECMALLOC_MODE_AUTO,
	    SECMALLOC_SECRET | SECMALLOC_SECRET_TRY) == -1);
	expect(errno == EINVAL);
	errno = 0;
	expect(init(SECMALLOC_MODE_AUTO, 16) == -1 && errno == EINVAL);
	/* The belt is for what a helper locks. */
	expect(init(SECMALLOC_MODE_INPROCESS,
	    SECMALLOC_SECRET | SECMALLOC_BELT) == 0);
	make_objects(1);
	all_is_well();
	return 0;
}

/* --- The lock that can be lost --- */

static unsigned losses;

static void
lost(void *data)
{
	(void)data;
	losses++;
}

static int
replaced(const void *unused)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);
	struct secmalloc_config config;
	unsigned char *at;

	(void)unused;
	test_config(&config, SECMALLOC_MODE_AUTO);
	config.flags = SECMALLOC_SECRET;
	config.on_lock_lost = lost;
	expect(secmalloc_init(&config) == 0);
	expect((at = secaligned_alloc(page, page)) != NULL);
	expect(secmalloc_verify() == 0 && losses == 0);
	/* Locked, but not what it was. */
	expect(mmap(at, page, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_PRIVATE |
	    MAP_ANONYMOUS, -1, 0) == at);
	expect(mlock(at, page) == 0);
	expect(secmalloc_verify() == -1 && errno == ENOLCK);
	expect(losses == 1 && secmalloc_is_secure(at) == 0);
	errno = 0;
	expect(secmalloc(1) == NULL && errno == ENOLCK);
	return 0;
}

/* --- Or else --- */

/* The system call fails with ERROR from here on. */
static void
filter_secret(int error)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
		    offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_memfd_secret, 0, 1),
		BPF_STMT(BPF_RET | BPF_K,
		    SECCOMP_RET_ERRNO | (unsigned)error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
	};
	const struct sock_fprog program = {
		sizeof(code) / sizeof(*code), code
	};

	/* Root's, so that the helper may still gain its privilege. */
	expect(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

static int
not_there(const void *error)
{
	filter_secret(*(const int *)error);
	errno = 0;
	expect(init(SECMALLOC_MODE_AUTO, SECMALLOC_SECRET) == -1);
	expect(errno == ENOTSUP);
	errno = 0;
	expect(secmalloc(1) == NULL && errno == ENOTSUP);
	expect(helpers() == 0);
	become_nobody(0);
	expect(init(SECMALLOC_MODE_AUTO, SECMALLOC_SECRET_TRY) == 0);
	expect(mode_in_force() == SECMALLOC_MODE_HELPER && helpers() == 1);
	make_objects(1);
	expect(objects_locked() && secmalloc_verify() == 0);
	expect(!is_secret(objects[1], 1));
	return 0;
}

static int
tried(const void *unused)
{
	(void)unused;
	become_nobody(8 * MIB);
	expect(init(SECMALLOC_MODE_HELPER, SECMALLOC_SECRET_TRY) == 0);
	make_objects(1);
	all_is_well();
	/* For good: what comes later is of the same. */
	while (secmalloc(200 * KIB) != NULL)
		;
	expect(errno == EAGAIN && helpers() == 0);
	return 0;
}

/* Too little for a pool is nothing. */
static int
tried_in_vain(const void *memlock)
{
	become_nobody((rlim_t)*(const size_t *)memlock);
	expect(init(SECMALLOC_MODE_AUTO, SECMALLOC_SECRET_TRY) == 0);
	expect(mode_in_force() == SECMALLOC_MODE_HELPER && helpers() == 1);
	make_objects(1);
	expect(objects_locked() && secmalloc_verify() == 0);
	expect(!is_secret(objects[1], 1));
	return 0;
}

int
main(void)
{
	static const int errors[] = { EPERM, ENOSYS };
	static const size_t none = 0, little = 64 * 1024;

	ok(run_worker(all_of_it, NULL, 20),
	    "every object is in secret memory, which goes back");
	ok(run_worker(not_read_by_root, NULL, 20),
	    "root reads plain memory of another process in three ways, and "
	    "secret memory in none");
	ok(run_worker(not_pinned, NULL, 20),
	    "it can be read into and written from, but not by direct I/O nor "
	    "by vmsplice()");
	ok(run_worker(forks, NULL, 60),
	    "a child has its own copy, which is secret, too");
	ok(run_worker(fork_beyond_the_limit, NULL, 20),
	    "a child has none where the limit leaves too little for both");
	ok(run_worker(limited, NULL, 20),
	    "it grows up to RLIMIT_MEMLOCK; then it is EAGAIN");
	ok(run_worker(not_allowed, NULL, 20),
	    "with a limit of 0 it is EPERM, and no helper is asked");
	ok(run_worker(file_size_limited, NULL, 20),
	    "beyond RLIMIT_FSIZE it is ENOMEM, and no signal");
	ok(run_worker(locked_while_root, NULL, 20),
	    "what was had as root is there for nobody, and no more");
	ok(run_worker(refused, NULL, 20),
	    "flags that contradict each other, or are none, are EINVAL");
	ok(run_worker(replaced, NULL, 20),
	    "what is no longer secret memory is noticed, locked or not");
	for (unsigned i = 0; i < 2; i++)
		ok(run_worker(not_there, &errors[i], 20),
		    "where the kernel says %s it is ENOTSUP, or else a helper's",
		    strerror(errors[i]));
	ok(run_worker(tried, NULL, 20),
	    "where it can be had it is had, and no helper is asked");
	ok(run_worker(tried_in_vain, &none, 20),
	    "where there is no limit to lock by, a helper locks");
	ok(run_worker(tried_in_vain, &little, 20),
	    "where the limit is below a pool, a helper locks");
	return done_testing();
}
