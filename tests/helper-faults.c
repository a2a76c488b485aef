/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * helper-faults.c: linked into a copy of the helper with --wrap, makes one
 * call of one function fail, or a call that the helper never makes, as the plan
 * says that is shared with the test through a file beside the program
 * (<program>.plan): a helper is given neither argument nor environment.  It
 * must not know what the helper does.
 */
#include "config.h"

#include <sys/capability.h>

#include <sys/ioctl.h>

#include <limits.h>
#include <linux/sockios.h>

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

WRAP(memfd_create, "memfd_create", int, (const char *name, unsigned flags),
    (name, flags))
WRAP(ftruncate, "ftruncate", int, (int fd, off_t size), (fd, size))
WRAP(fchmod, "fchmod", int, (int fd, mode_t bits), (fd, bits))
WRAP(fstat, "fstat", int, (int fd, struct stat *st), (fd, st))
WRAP(mmap, "mmap", void *, (void *at, size_t size, int protection, int flags,
    int fd, off_t offset), (at, size, protection, flags, fd, offset))
WRAP(mlock, "mlock", int, (const void *at, size_t size), (at, size))
WRAP(mprotect, "mprotect", int, (void *at, size_t size, int protection),
    (at, size, protection))
WRAP(sendmsg, "sendmsg", ssize_t, (int fd, const struct msghdr *msg,
    int flags), (fd, msg, flags))
WRAP(getrlimit, "getrlimit", int, (resource_t resource,
    struct rlimit *limit), (resource, limit))
WRAP(setrlimit, "setrlimit", int, (resource_t resource,
    const struct rlimit *limit), (resource, limit))
WRAP(setgroups, "setgroups", int, (size_t n, const gid_t *groups),
    (n, groups))
WRAP(setresgid, "setresgid", int, (gid_t r, gid_t e, gid_t s), (r, e, s))
WRAP(setresuid, "setresuid", int, (uid_t r, uid_t e, uid_t s), (r, e, s))
WRAP(capget, "capget", int, (cap_user_header_t h, cap_user_data_t data),
    (h, data))
WRAP(capset, "capset", int, (cap_user_header_t h, cap_user_data_t data),
    (h, data))
WRAP(chdir, "chdir", int, (const char *path), (path))
WRAP_FCNTL(fcntl)
#ifdef __GLIBC__
WRAP(fstat64, "fstat", int, (int fd, struct stat64 *st), (fd, st))
WRAP(getrlimit64, "getrlimit", int, (resource_t resource,
    struct rlimit64 *limit), (resource, limit))
WRAP(setrlimit64, "setrlimit", int, (resource_t resource,
    const struct rlimit64 *limit), (resource, limit))
WRAP(ftruncate64, "ftruncate", int, (int fd, off64_t size), (fd, size))
WRAP(mmap64, "mmap", void *, (void *at, size_t size, int protection, int flags,
    int fd, off64_t offset), (at, size, protection, flags, fd, offset))
WRAP_FCNTL(fcntl64)
#endif

/* --- Calls that a helper which was taken over might make ------------------ */

#ifdef SYS_mmap2
# define SYS_MMAP SYS_mmap2
#else
# define SYS_MMAP SYS_mmap
#endif
#ifdef SYS_fcntl64
# define SYS_FCNTL SYS_fcntl64
#else
# define SYS_FCNTL SYS_fcntl
#endif
/* asm/unistd.h of x86: the bit that tells calls of the x32 ABI. */
#define X32_CALL 0x40000000L

static char page[65536] __attribute__((aligned(65536)));

#define ADDRESS(what) ((long)(intptr_t)(what))
/* Of no descriptor: that is found out after the call was permitted. */
#define MAPPING(access, flags) { 0, sizeof(page), (access), (flags), -1, 0 }

static const struct {
	const char *name;
	long number, arguments[6];
} strays[] = {
	{ "mmap executable", SYS_MMAP,
	    MAPPING(PROT_READ | PROT_EXEC, MAP_PRIVATE) },
	{ "mmap writable", SYS_MMAP,
	    MAPPING(PROT_READ | PROT_WRITE, MAP_PRIVATE) },
	{ "mmap shared", SYS_MMAP, MAPPING(PROT_READ, MAP_SHARED) },
	{ "mmap shared and writable", SYS_MMAP,
	    MAPPING(PROT_READ | PROT_WRITE, MAP_SHARED) },
	{ "mprotect to read", SYS_mprotect,
	    { ADDRESS(page), sizeof(page), PROT_READ } },
	{ "fcntl F_SETFL", SYS_FCNTL, { 0, F_SETFL, O_NONBLOCK } },
	{ "fcntl F_DUPFD", SYS_FCNTL, { 0, F_DUPFD, 0 } },
	{ "fcntl F_OFD_SETLKW", SYS_FCNTL, { 0, F_OFD_SETLKW, 0 } },
	{ "fcntl F_SETOWN", SYS_FCNTL, { 0, F_SETOWN, 1 } },
	{ "ioctl FIONREAD", SYS_ioctl, { 0, FIONREAD, ADDRESS(page) } },
	{ "ioctl on another descriptor", SYS_ioctl,
	    { 1, SIOCOUTQ, ADDRESS(page) } },
	{ "fchmod to 0777", SYS_fchmod, { 0, 0777 } },
#ifdef SYS_open
	{ "open", SYS_open, { ADDRESS("/dev/null"), O_RDONLY } },
#endif
	{ "openat", SYS_openat, { AT_FDCWD, ADDRESS("/dev/null"), O_RDONLY } },
	{ "socket", SYS_socket, { AF_UNIX, SOCK_DGRAM, 0 } },
	{ "execve", SYS_execve, { ADDRESS("/bin/true"), 0, 0 } },
	{ "clone", SYS_clone, { SIGCHLD } },
	{ "kill", SYS_kill, { 0, 0 } },
	{ "ptrace", SYS_ptrace, { 0 } },
	{ "setuid", SYS_setuid, { 0 } },
	{ "process_vm_readv", SYS_process_vm_readv, { 1, 0, 0, 0, 0, 0 } },
	{ "write to the socket", SYS_write, { 0, ADDRESS(page), 1 } },
#ifdef __x86_64__
	{ "a call of another ABI", X32_CALL | SYS_close, { -1 } },
#endif
	/* What it may do. */
	{ "mmap readable", SYS_MMAP, MAPPING(PROT_READ, MAP_PRIVATE) },
	{ "mprotect to none", SYS_mprotect,
	    { ADDRESS(page), sizeof(page), PROT_NONE } },
	{ "fcntl F_ADD_SEALS", SYS_FCNTL, { 0, F_ADD_SEALS, 0 } },
	{ "ioctl SIOCOUTQ", SYS_ioctl, { 0, SIOCOUTQ, ADDRESS(page) } },
	{ "fchmod to 0", SYS_fchmod, { -1, 0 } },
	{ "close", SYS_close, { -1 } },
	{ "write to the log", SYS_write, { 1, ADDRESS(page), 0 } },
};

static void
stray(void)
{
	for (size_t i = 0; i < sizeof(strays) / sizeof(strays[0]); i++) {
		const long *with = strays[i].arguments;

		if (HITS(strays[i].name))
			(void)syscall(strays[i].number, with[0], with[1],
			    with[2], with[3], with[4], with[5]);
	}
}

ssize_t __wrap_recvmsg(int fd, struct msghdr *msg, int flags);
ssize_t __real_recvmsg(int fd, struct msghdr *msg, int flags);

/* Once it reads from its client, its start is over. */
ssize_t
__wrap_recvmsg(int fd, struct msghdr *msg, int flags)
{
	stray();
	return HITS("recvmsg") ? -1 : __real_recvmsg(fd, msg, flags);
}
