/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sandbox.c: leaves the process the few system calls that it serves with, and
 * no way to open, write or execute anything; must not know what they are for.
 */
#include "config.h"
#include "helper.h"

#ifdef HAVE_SECCOMP
#include <seccomp.h>

const char sandbox_name[] = "yes";

#define IS(n, value) { .arg = (n), .op = SCMP_CMP_EQ, .datum_a = (value) }
#define NOTHING_BUT(n, bits) { .arg = (n), .op = SCMP_CMP_MASKED_EQ, \
	.datum_a = ~(scmp_datum_t)(bits), .datum_b = 0 }

/* By name: no architecture has all of them.  Listed in secmalloc-helper(8). */
static const struct {
	const char *call;
	unsigned count;
	struct scmp_arg_cmp arguments[2];
} permitted[] = {
	{ "recvmsg", 1, { IS(0, 0) } }, { "sendmsg", 1, { IS(0, 0) } },
	{ "shutdown", 1, { IS(0, 0) } }, { "close", 0, {} },
	{ "poll", 0, {} }, { "ppoll", 0, {} }, { "ppoll_time64", 0, {} },
	{ "ioctl", 2, { IS(0, 0), IS(1, SIOCOUTQ) } },
	{ "write", 1, { IS(0, 1) } }, /* the log */
	{ "memfd_create", 0, {} }, { "fchmod", 1, { IS(1, 0) } },
	{ "ftruncate", 0, {} }, { "ftruncate64", 0, {} },
	{ "fcntl", 1, { IS(1, F_ADD_SEALS) } },
	{ "fcntl", 1, { IS(1, F_GET_SEALS) } },
	{ "fcntl", 1, { IS(1, F_OFD_GETLK) } },
	{ "fcntl", 1, { IS(1, F_OFD_SETLK) } },
	{ "fcntl64", 1, { IS(1, F_ADD_SEALS) } },
	{ "fcntl64", 1, { IS(1, F_GET_SEALS) } },
	{ "fcntl64", 1, { IS(1, F_OFD_GETLK) } },
	{ "fcntl64", 1, { IS(1, F_OFD_SETLK) } },
	{ "fstat", 0, {} }, { "fstat64", 0, {} },
	{ "fstatfs", 0, {} }, { "fstatfs64", 0, {} },
	{ "lseek", 1, { IS(2, SEEK_HOLE) } },
	{ "_llseek", 1, { IS(4, SEEK_HOLE) } },
	{ "newfstatat", 1, { IS(3, AT_EMPTY_PATH) } },
	{ "statx", 1, { NOTHING_BUT(2, AT_EMPTY_PATH | AT_NO_AUTOMOUNT) } },
	{ "mmap", 2, { NOTHING_BUT(2, PROT_READ), IS(3, MAP_PRIVATE) } },
	{ "mmap2", 2, { NOTHING_BUT(2, PROT_READ), IS(3, MAP_PRIVATE) } },
	{ "mprotect", 1, { IS(2, PROT_NONE) } },
	{ "mlock", 0, {} }, { "munmap", 0, {} }, { "exit_group", 0, {} },
	{ "clock_gettime", 0, {} }, { "clock_gettime64", 0, {} },
	{ "clock_nanosleep", 0, {} }, { "clock_nanosleep_time64", 0, {} },
	{ "restart_syscall", 0, {} },
};

/*
 * The default is for other architectures' calls as well.  What libseccomp has
 * allocated stays: to free it might take a call that is no longer permitted.
 */
void
sandbox_enter(void)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int call, error = filter == NULL ? -ENOMEM : seccomp_attr_set(filter,
	    SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);

	for (size_t i = 0; error == 0 &&
	    i < sizeof(permitted) / sizeof(permitted[0]); i++) {
		call = seccomp_syscall_resolve_name(permitted[i].call);
		if (call != __NR_SCMP_ERROR)
			error = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW,
			    call, permitted[i].count, permitted[i].arguments);
	}
	if (error == 0)
		error = seccomp_load(filter);
	if ((errno = -error) != 0)
		die("seccomp");
}
#else
const char sandbox_name[] = "no";

void
sandbox_enter(void)
{
}
#endif
