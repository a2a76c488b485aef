/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * helper-faults.c: linked into a copy of the helper with --wrap, makes one
 * call of one function fail, as the plan says that is shared with the test
 * through a file beside the program (<program>.plan): a helper is given neither
 * argument nor environment.  It must not know what the helper does.
 */
#include "config.h"

#include <sys/capability.h>

#include <limits.h>
#include <stdarg.h>

#include "faults.h"

static struct plan *plan_in_force;

/* Before main(), which forgets where it is and closes what is open. */
__attribute__((constructor)) static void
take_plan(void)
{
	char path[PATH_MAX];
	ssize_t length = readlink("/proc/self/exe", path,
	    sizeof(path) - sizeof(".plan"));
	void *plan;
	int fd;

	if (length == -1)
		_exit(98);
	memcpy(path + length, ".plan", sizeof(".plan"));
	if ((fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW)) == -1)
		_exit(98);
	/* Not through what may fail. */
	plan = mmap(NULL, sizeof(*plan_in_force), PROT_READ | PROT_WRITE,
	    MAP_SHARED, fd, 0);
	if (plan == MAP_FAILED)
		_exit(98);
	(void)close(fd);
	plan_in_force = plan;
}

#define HITS(function) plan_hits(plan_in_force, function)

#define WRAP(name, function, type, parameters, arguments) \
	type __wrap_##name parameters; \
	type __real_##name parameters; \
	type \
	__wrap_##name parameters \
	{ \
		return HITS(function) ? (type)-1 : __real_##name arguments; \
	}

WRAP(memfd_create, "memfd_create", int, (const char *name, unsigned flags),
    (name, flags))
WRAP(ftruncate, "ftruncate", int, (int fd, off_t size), (fd, size))
WRAP(ftruncate64, "ftruncate", int, (int fd, off64_t size), (fd, size))
WRAP(fchmod, "fchmod", int, (int fd, mode_t bits), (fd, bits))
WRAP(fstat, "fstat", int, (int fd, struct stat *st), (fd, st))
WRAP(mmap, "mmap", void *, (void *at, size_t size, int protection, int flags,
    int fd, off_t offset), (at, size, protection, flags, fd, offset))
WRAP(mmap64, "mmap", void *, (void *at, size_t size, int protection, int flags,
    int fd, off64_t offset), (at, size, protection, flags, fd, offset))
WRAP(mlock, "mlock", int, (const void *at, size_t size), (at, size))
WRAP(mprotect, "mprotect", int, (void *at, size_t size, int protection),
    (at, size, protection))
WRAP(sendmsg, "sendmsg", ssize_t, (int fd, const struct msghdr *msg,
    int flags), (fd, msg, flags))
WRAP(recvmsg, "recvmsg", ssize_t, (int fd, struct msghdr *msg, int flags),
    (fd, msg, flags))
WRAP(getrlimit, "getrlimit", int, (__rlimit_resource_t resource,
    struct rlimit *limit), (resource, limit))
WRAP(setrlimit, "setrlimit", int, (__rlimit_resource_t resource,
    const struct rlimit *limit), (resource, limit))
WRAP(setgroups, "setgroups", int, (size_t n, const gid_t *groups),
    (n, groups))
WRAP(setresgid, "setresgid", int, (gid_t r, gid_t e, gid_t s), (r, e, s))
WRAP(setresuid, "setresuid", int, (uid_t r, uid_t e, uid_t s), (r, e, s))
WRAP(cap_set_proc, "cap_set_proc", int, (cap_t caps), (caps))
WRAP(chdir, "chdir", int, (const char *path), (path))

cap_t __wrap_cap_get_proc(void);
cap_t __real_cap_get_proc(void);

cap_t
__wrap_cap_get_proc(void)
{
	return HITS("cap_get_proc") ? NULL : __real_cap_get_proc();
}

int __wrap_fcntl(int fd, int command, ...);
int __real_fcntl(int fd, int command, ...);
int __wrap_fcntl64(int fd, int command, ...);

int
__wrap_fcntl(int fd, int command, ...)
{
	va_list ap;
	long arg;

	va_start(ap, command);
	arg = va_arg(ap, long);
	va_end(ap);
	return HITS("fcntl") ? -1 : __real_fcntl(fd, command, arg);
}

int
__wrap_fcntl64(int fd, int command, ...)
{
	va_list ap;
	long arg;

	va_start(ap, command);
	arg = va_arg(ap, long);
	va_end(ap);
	return HITS("fcntl") ? -1 : __real_fcntl(fd, command, arg);
}
