/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * helper.h: what the files of the helper offer each other, in the order in
 * which main() comes to them, and what of the system they use; knows nothing of
 * how they do it.
 */
#ifndef SECMALLOC_HELPER_H
#define SECMALLOC_HELPER_H

#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/param.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/vfs.h>

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/securebits.h>
#include <linux/sockios.h>
#include <paths.h>
#include <poll.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "protocol.h"

/* What setrlimit() takes is of a type by itself in glibc. */
#ifdef __GLIBC__
typedef __rlimit_resource_t resource_t;
#else
typedef int resource_t;
#endif

#define NAME "secmalloc-helper"

/* Of Linux 6.3, 5.1 and 6.5; older headers lack them. */
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif
#ifndef SCM_PIDFD
#define SCM_PIDFD 0x04
#endif

/* For whom memory is locked, and who is charged for it. */
struct client {
	uid_t uid;
	pid_t pid;          /* good for messages only */
	size_t group_count; /* the primary group among them */
	gid_t groups[NGROUPS_MAX + 1];
};

/* --- log.c: syslog's authpriv; where there is no syslog, nothing ---------- */

/* Later messages name CLIENT, which must stay. */
void log_open(const struct client *client);

/* Makes the log, if there is one, descriptor 1.  Returns the one after it. */
unsigned log_settle(void);

/*
 * Logs that the client was refused something, or its conversation ended, and
 * why; not more of that than a burst and then a few a minute.  Returns STATUS.
 */
enum wire_status refuse(enum wire_status status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The same with errno's meaning, and what of EPERM and ENOMEM it comes to. */
enum wire_status refuse_errno(const char *what);

/* With errno's meaning to the log and standard error; ends the process. */
_Noreturn void die(const char *what);

/* Replaces what would do more on a terminal than be read. */
void printable(char *text);

/* --- admin.c: what is asked on the command line --------------------------- */

/* Returns if there is no argument, and exits otherwise. */
void admin(int argc, char *argv[]);

/* --- privilege.c ---------------------------------------------------------- */

struct account {
	uid_t uid;
	gid_t gid;
	bool may_lock;
};

/* Neither traceable by others of the same user nor ever in a core file. */
void privilege_undumpable(void);

/* Who has started this process. */
void client_from_process(struct client *client);

/* Who is served on descriptor 0.  Exits if that is no socket of ours. */
void client_identify(struct client *client);

/* Whom to become: the helper's account, or where it is missing the caller. */
struct account privilege_identify(void);

/*
 * Becomes WHO, with CAP_IPC_LOCK if it is permitted and WHO may lock.  Where
 * that cannot be, becomes the caller, who may lock only if root.  There is no
 * way back from either.  Returns whom it became.
 */
uid_t privilege_drop(struct account who);

/* Becomes the caller, with no capability unless that is root. */
void privilege_abandon(void);

/* --- policy.c ------------------------------------------------------------- */

/* A number, and how narrowly the line that it is from means the client. */
struct rule {
	uint64_t value;
	enum rank { RANK_NONE, RANK_ALL, RANK_GROUP, RANK_USER } rank;
};

struct policy {
	struct rule total;   /* bytes of all users together */
	struct rule limit;   /* bytes of the client's user */
	struct rule helpers; /* processes of the client's user */
};

#define WHY_SIZE 512

/*
 * What PATH grants CLIENT; a file that is not there, the defaults.  False with
 * the reason in WHY.  A TRUSTED file has to be there, and may be anybody's.
 */
bool policy_read(const char *path, bool trusted, const struct client *client,
    struct policy *policy, char why[WHY_SIZE]);

/* The same for the text of PATH, which it changes. */
bool policy_parse(const char *path, char *text, const struct client *client,
    struct policy *policy, char why[WHY_SIZE]);

/* --- ledger.c ------------------------------------------------------------- */

/* Makes the directory if it is missing and we may. */
void ledger_prepare(const struct account *owner);

/* Opens it, and takes the place of one more helper of UID. */
enum wire_status ledger_open(uid_t uid, const struct policy *policy);

/* NULL, or what of the policy stands against it.  Without a ledger, nothing. */
const char *ledger_take(uint64_t pages);
void ledger_give(uint64_t pages);

/* Pages that the user may yet have; without a ledger, UINT64_MAX. */
uint64_t ledger_left(void);

/* Prints who holds how much.  False with errno. */
bool ledger_print(void);

/* --- pulse.c -------------------------------------------------------------- */

/*
 * From here on the first 32 bits of a page tell of this process's end, for good.
 * Returns the page's memfd, or -1 with errno.
 */
int pulse_start(void);

/* --- locker.c ------------------------------------------------------------- */

/* The pools of this conversation.  Written by the locker alone. */
extern struct locker {
	uint64_t limit;       /* bytes that they may have together */
	uint64_t held;        /* bytes granted and locked */
	uint64_t locked;      /* bytes */
	uint32_t locked_pools;
	uint32_t outstanding; /* the id of the one that is not locked, or 0 */
} locker;

uint64_t page_size(void);

/*
 * A memfd that cannot be resized, executed, or opened by another process of
 * this user through /proc.  -1 with errno.
 */
int memfd_make(size_t size);

/* Sets the limit.  Whether memory can be locked, found out by doing it. */
enum wire_status locker_open(uint64_t limit);

/*
 * Makes a pool of BYTES.  *FD is its memfd, which stays the locker's.  It is
 * outstanding until it is locked or released; there may be but one such.
 */
enum wire_status locker_grant(uint64_t bytes, uint32_t *id, int *fd);

/* Locks the outstanding pool.  On failure it is withdrawn. */
enum wire_status locker_lock(void);

/* Makes a pool of FD, of BYTES, which becomes the locker's, and locks it. */
enum wire_status locker_adopt(int fd, uint64_t bytes, uint32_t *id);

/* Gives up a pool in whichever state.  False if there was none of that id. */
bool locker_release(uint32_t id);

/* Gives up what is locked and mapped by nobody.  Whether anything remains. */
bool locker_reap(void);

/* Bytes that may yet be granted. */
uint64_t locker_left(void);

/*
 * To be called once nobody can ask any more: keeps what is locked for as long
 * as some process maps it, then returns.
 */
void locker_linger(void);

/* --- sandbox.c ------------------------------------------------------------ */

/* What --version says of it. */
extern const char sandbox_name[];

/* From here on only the calls that secmalloc-helper(8) lists are possible. */
void sandbox_enter(void);

/* --- serve.c -------------------------------------------------------------- */

/*
 * Answers on descriptor 0 until the other side ends the conversation or breaks
 * its rules, and closes it.  ABLE other than OK answers HELLO, and is all.
 * PULSE is for the client.
 */
void serve(enum wire_status able, int pulse);

#endif
