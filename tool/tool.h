/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tool.h: what the files of secmalloc(1) offer each other; knows nothing of how
 * they do it.  Everything here runs with no more rights than who started it.
 */
#ifndef SECMALLOC_TOOL_H
#define SECMALLOC_TOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#define TOOL_NAME "secmalloc"

/* Of linux/capability.h, which not every C library comes with. */
#ifndef CAP_IPC_LOCK
# define CAP_IPC_LOCK 14
#endif

/* --- report.c: what was found, as text or as JSON ------------------------- */

enum level { LEVEL_PASS, LEVEL_INFO, LEVEL_WARN, LEVEL_FAIL };

/* One check, one line.  REMEDY is a command for root, or NULL. */
struct finding {
	const char *name;
	enum level level;
	char *text;
	char *remedy;
};

/* As printf() into new memory.  Ends the process where there is none. */
char *text_make(const char *format, ...)
    __attribute__((format(printf, 1, 2)));

/* PATH as a shell has to be given it, in new memory. */
char *text_quote(const char *path);

/* SIZE with a unit, in new memory. */
char *text_size(uint64_t size);

/* A JSON string, or null. */
void json_string(const char *text);

/* --- run.c: other programs, for a time ------------------------------------ */

/* What a child comes to that does not come to anything. */
enum { RUN_FAILED = -1, RUN_TIMEOUT = -2 };

/*
 * Runs ARGV for five seconds at most.  What it says, on either output, is in
 * SAID.  Returns its exit status, or one of the above; a signal is a failure.
 */
int run_program(char *const argv[], char *said, size_t size);

/*
 * Lets a child make RESULT, of SIZE bytes, in SECONDS at most.  Whatever it
 * meets is met by the child alone.  0, or one of the above.
 */
int run_child(void (*child)(const void *argument, void *result),
    const void *argument, void *result, size_t size, int seconds);

/* Waits for PID to end, up to MILLISECONDS; then ends it.  As run_program(). */
int run_wait(pid_t pid, int milliseconds);

/* --- talk.c: one question to a helper ------------------------------------- */

enum answer_kind {
	ANSWER_NONE,     /* nobody was asked */
	ANSWER_ERROR,    /* nobody could be: error */
	ANSWER_SILENT,   /* none, or none that is understood */
	ANSWER_REFUSED,  /* status, of helper/protocol.h */
	ANSWER_SERVES
};

struct answer {
	enum answer_kind kind;
	int error;
	uint32_t status;
	uint64_t limit, left; /* bytes */
};

/*
 * Asks the helper that listens at a socket, or is started by its path, what it
 * would do for us.  It ends before this returns, or is let go.
 */
void talk_to_socket(const char *path, struct answer *);
void talk_to_helper(const char *path, struct answer *);

/* --- facts.c: what a helper says of itself and of its policy -------------- */

struct facts {
	const char *path;
	int error;             /* of stat(); 0: it is there */
	struct stat file;
	bool executable;       /* for us */
	bool runs;             /* it is a helper: it says its version */
	char *complaint;       /* what it said instead */
	char *account;         /* also where it does not run: as configured */
	char *policy, *ledger; /* NULL where it does not run */
	bool account_known;
	uid_t uid;
	bool has_capability;   /* the file: CAP_IPC_LOCK */
	bool has_others;       /* ... and what it does not need */
	bool has_effective;    /* ... raised by the kernel */
	int policy_status;     /* of --check-config, or -1 */
	char *policy_said;
	uint64_t limit, helpers, total; /* where that is 0 */
};

/* What is found of the helper at PATH. */
void facts_find(const char *path, struct facts *);

/* Whether an account, or a number, is of this system, and its uid. */
bool account_find(const char *name, uid_t *uid);

/* --- pages.c: what the kernel says of pages ------------------------------- */

/* Of the SIZE bytes at AT of this process; -1 where that may not be known. */
int pages_locked(const void *at, size_t size, size_t *pages, size_t *locked);

/* --- doctor.c, status.c: the commands ------------------------------------- */

struct options {
	const char *helper, *socket;
	bool json;
};

/* They return the exit status. */
int doctor(const struct options *);
int status(const struct options *);

/* --- trial.c: a real lock ------------------------------------------------- */

struct trial {
	bool tried;
	bool works;       /* locked, and verified */
	int error;        /* errno, where it does not */
	const char *step; /* the call that failed */
	int outcome;      /* of run_child() */
	bool looked;      /* at the kernel's own flags, of ... */
	size_t pages, locked;
};

/* MODE is SECMALLOC_MODE_*.  PATH is the helper's or the socket's, or NULL. */
void trial_make(int mode, const char *path, struct trial *);

/* --- what the checks know ------------------------------------------------- */

enum { FINDINGS_MAX = 48 };

struct doctor {
	const struct options *options;
	struct facts facts;
	struct stat socket_file;      /* zero where there is none */
	struct answer socket, helper; /* what they said */
	struct trial by_socket, by_helper, by_process;
	bool in_user_namespace;
	struct finding findings[FINDINGS_MAX];
	size_t count;
};

/* What the check that is running has found; its last word counts. */
void found(struct doctor *, enum level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void remedy(struct doctor *, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/*
 * Has the user join a group, if both have names and it is not root's; false if
 * not.
 */
bool remedy_group(struct doctor *, gid_t group);

/* Whether a helper, of either kind, locks. */
static inline bool
helper_locks(const struct doctor *d)
{
	return d->by_socket.works || d->by_helper.works;
}

/* Of what is wrong with a helper that another one stands in for. */
static inline enum level
level_of_fault(const struct doctor *d)
{
	return d->by_socket.works ? LEVEL_WARN : LEVEL_FAIL;
}

/* Of what keeps this process from a helper's privilege. */
static inline enum level
level_of_obstacle(const struct doctor *d)
{
	return helper_locks(d) ? LEVEL_INFO : LEVEL_FAIL;
}

/* Whether the installed helper was meant to have a privilege. */
bool privilege_is_meant(void);

/* checks_kernel.c */
void check_kernel(struct doctor *);
void check_memfd(struct doctor *);
void check_noexec(struct doctor *);
void check_future_write(struct doctor *);
void check_populate(struct doctor *);
void check_wipe_on_fork(struct doctor *);
void check_secret(struct doctor *);
void check_pkeys(struct doctor *);

/* checks_process.c */
void check_user(struct doctor *);
void check_user_namespace(struct doctor *);
void check_no_new_privs(struct doctor *);
void check_bounding_set(struct doctor *);
void check_traced(struct doctor *);
void check_memlock(struct doctor *);

/* checks_helper.c */
void check_helper(struct doctor *);
void check_account(struct doctor *);
void check_owner(struct doctor *);
void check_mode(struct doctor *);
void check_capability(struct doctor *);
void check_nosuid(struct doctor *);

/* checks_service.c */
void check_policy(struct doctor *);
void check_ledger(struct doctor *);
void check_socket(struct doctor *);
void check_quota(struct doctor *);

/* checks_system.c */
void check_swap(struct doctor *);
void check_zram(struct doctor *);
void check_hibernation(struct doctor *);
void check_core(struct doctor *);

/* checks_lock.c */
void check_lock_socket(struct doctor *);
void check_lock_helper(struct doctor *);
void check_lock_process(struct doctor *);

#endif
