/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * checks_process.c: what this process has inherited, and any program started
 * from the same place would: who it is, what it may gain, and what it may lock.
 */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tool.h"

#define USE_SOCKET "systemctl enable --now secmalloc.socket"

/* What the library's first pool is. */
#define POOL_BYTES (UINT64_C(256) * 1024)

void
check_user(struct doctor *d)
{
	const struct passwd *pw = getpwuid(getuid());
	const char *name = pw == NULL ? "without a name" : pw->pw_name;

	if (geteuid() == 0)
		found(d, LEVEL_INFO, "%u (%s): others may less; to see as USER:"
		    " sudo -u USER " TOOL_NAME " doctor", getuid(), name);
	else
		found(d, LEVEL_PASS, "%u (%s)", getuid(), name);
}

void
check_user_namespace(struct doctor *d)
{
	if (!d->in_user_namespace)
		found(d, LEVEL_PASS, "the machine's own");
	else {
		found(d, level_of_obstacle(d), "this is a user namespace (a"
		    " container?): no helper that is started here has a"
		    " privilege, but that of a socket has, outside; into a"
		    " container bind %s", d->options->socket);
		remedy(d, USE_SOCKET);
	}
}

void
check_no_new_privs(struct doctor *d)
{
	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
		found(d, LEVEL_PASS, "not set");
	else {
		found(d, level_of_obstacle(d), "no_new_privs is set"
		    " (NoNewPrivileges=, allowPrivilegeEscalation: false): no"
		    " helper that is started here gets its privilege, but that"
		    " of a socket has one");
		remedy(d, USE_SOCKET);
	}
}

void
check_bounding_set(struct doctor *d)
{
	if (prctl(PR_CAPBSET_READ, CAP_IPC_LOCK, 0, 0, 0) != 0)
		found(d, LEVEL_PASS, "it has CAP_IPC_LOCK");
	else {
		found(d, level_of_obstacle(d), "it lacks CAP_IPC_LOCK"
		    " (CapabilityBoundingSet=, --cap-drop): no helper that is"
		    " started here gets it, but that of a socket has it");
		remedy(d, USE_SOCKET);
	}
}

void
check_traced(struct doctor *d)
{
	FILE *file = fopen("/proc/self/status", "re");
	char line[256];
	long tracer = 0;

	while (file != NULL && fgets(line, sizeof(line), file) != NULL)
		if (strncmp(line, "TracerPid:", 10) == 0)
			tracer = strtol(line + 10, NULL, 10);
	if (file != NULL)
		(void)fclose(file);
	if (tracer == 0)
		found(d, LEVEL_PASS, "by nobody");
	else
		found(d, level_of_obstacle(d), "process %ld traces this one: a"
		    " helper that is started then gets no privilege; start it"
		    " without the tracer", tracer);
}

/* As limits.conf(5) has a user, who may have no name. */
static char *
limits_domain(void)
{
	const struct passwd *pw = getpwuid(getuid());

	return pw != NULL ? text_quote(pw->pw_name) :
	    text_make("%u:%u", getuid(), getuid());
}

void
check_memlock(struct doctor *d)
{
	struct rlimit limit;
	char *size, *who;

	if (getrlimit(RLIMIT_MEMLOCK, &limit) == -1) {
		found(d, LEVEL_INFO, "%s", strerror(errno));
		return;
	}
	size = limit.rlim_cur == RLIM_INFINITY ? text_make("unlimited") :
	    text_size(limit.rlim_cur);
	if (d->by_process.works && (limit.rlim_cur >= POOL_BYTES ||
	    geteuid() == 0))
		found(d, LEVEL_PASS, "%s", size);
	else if (d->by_process.works)
		found(d, LEVEL_INFO, "%s", size);
	else if (helper_locks(d) || privilege_is_meant())
		found(d, LEVEL_INFO, "%s: too little for this process to lock"
		    " for itself, which it need not with a helper", size);
	else {
		who = limits_domain();
		found(d, LEVEL_FAIL, "%s, and no helper is meant to have a"
		    " privilege here; from the next login on the user may have"
		    " 64 MiB", size);
		remedy(d, "echo '%s - memlock 65536'"
		    " >/etc/security/limits.d/secmalloc.conf", who);
		free(who);
	}
	free(size);
}
