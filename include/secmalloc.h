/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * secmalloc.h: memory for secrets, locked or refused.
 *
 * What is returned here is never written to swap and never in a core file, is
 * zero-filled, is aligned to 16 bytes or more, and is wiped when it is freed.
 * The pages are locked by a small privileged helper, so that a program needs
 * neither a privilege nor an RLIMIT_MEMLOCK of its own; where no helper can be
 * had, the process locks them itself if it may.  Where neither is possible a
 * call fails: nothing unlocked is ever returned.
 *
 * Layout.  Bookkeeping lives away from the data, between guard pages.  A canary
 * follows the last requested byte and is checked whenever the object is freed
 * or resized; free memory is zero, and looked at when it is handed out.  A
 * double free, a pointer that is not the start of a live object, a damaged
 * canary, or a write to what was freed stops the process (SIGABRT) with one
 * line on standard error that names the function.
 *
 * Cost.  The usual allocation and the usual free are a hundred instructions
 * together: no lock, no atomic operation, no system call.  Each thread keeps
 * some free memory at hand, up to half a megabyte; its exit gives that back.
 *
 * Threads.  Every function but secmalloc_shutdown() may be called from any
 * thread at any time, but only secmalloc_open() and secmalloc_close() from a
 * signal handler.
 *
 * Fork.  By default a child has its own locked copy of every object.  The
 * child of a _Fork(3) or a raw clone(2) gets its copy at its first call here.
 * See fork_policy below and secmalloc(7).
 *
 * Limits.  Registers, stacks and whatever a program copies elsewhere are not
 * covered; nor is anything kept from root, the kernel, or a debugger that runs
 * as the same user.
 *
 * Errors.  A function that fails returns NULL or -1 and sets errno:
 *
 *   ENOMEM   the size is too large, max_locked is reached, or the system is
 *            out of memory or of processes
 *   EDQUOT   the helper's policy refuses more memory, or more helpers
 *   EPERM    nothing here may lock memory: the helper is missing, has no
 *            privilege or serves nobody, and the process itself may not lock
 *   EAGAIN   RLIMIT_MEMLOCK is reached (locking in this process)
 *   ENOLCK   a lock was lost and could not be restored
 *   EPROTO   the helper and the library do not understand each other, or who
 *            listens for the helper's clients does not answer
 *   EINVAL   an argument or a field of the configuration is not valid
 *   EALREADY the library has started with another configuration
 *   EMFILE, ENFILE   no descriptor was left to reach the helper with
 *   ENOTSUP  what was asked for is not to be had here
 *
 * Where several ways to lock memory are tried in vain, errno is EDQUOT if a
 * helper said so, else what the first one said that did not say EPERM.
 */
#ifndef SECMALLOC_H
#define SECMALLOC_H

#include <stddef.h>

#define SECMALLOC_VERSION_MAJOR 1
#define SECMALLOC_VERSION_MINOR 0
#define SECMALLOC_VERSION_PATCH 0
#define SECMALLOC_VERSION_STRING "1.0.0"
/* Grows with each release, for #if: 0x00MMmmpp. */
#define SECMALLOC_VERSION \
	((SECMALLOC_VERSION_MAJOR << 16) | (SECMALLOC_VERSION_MINOR << 8) | \
	 SECMALLOC_VERSION_PATCH)

#if defined(__GNUC__)
# define SECMALLOC_API __attribute__((visibility("default")))
# define SECMALLOC_ALLOC_SIZE(...) __attribute__((alloc_size(__VA_ARGS__)))
# define SECMALLOC_WARN_UNUSED __attribute__((warn_unused_result))
# if __GNUC__ >= 11 && !defined(__clang__)
#  define SECMALLOC_MALLOC __attribute__((malloc, malloc(secfree, 1)))
#  define SECMALLOC_FREED_BY_SECFREE __attribute__((malloc(secfree, 1)))
# else
#  define SECMALLOC_MALLOC __attribute__((malloc))
#  define SECMALLOC_FREED_BY_SECFREE
# endif
#else
# define SECMALLOC_API
# define SECMALLOC_ALLOC_SIZE(...)
# define SECMALLOC_WARN_UNUSED
# define SECMALLOC_MALLOC
# define SECMALLOC_FREED_BY_SECFREE
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* secmalloc_config.mode: who locks. */
enum {
	/* The helper, by its socket or started; else this process, if it may. */
	SECMALLOC_MODE_AUTO = 0,
	/* The helper or nobody. */
	SECMALLOC_MODE_HELPER = 1,
	/*
	 * This process: root, CAP_IPC_LOCK or RLIMIT_MEMLOCK.  With
	 * initial_pools a program locks while it is privileged, then drops the
	 * privilege; what cannot be locked afterwards is refused.
	 */
	SECMALLOC_MODE_INPROCESS = 2
};

/* secmalloc_config.fork_policy: what a child gets. */
enum {
	/* Its own locked copy of every object, as of ordinary memory. */
	SECMALLOC_FORK_COPY = 0,
	/*
	 * None of the parent's objects: touching one faults, freeing one does
	 * nothing, and what the child allocates is its own.
	 */
	SECMALLOC_FORK_DENY = 1
};

/* secmalloc_config.flags: what is wanted besides; any of them, by bitwise or. */
enum {
	/*
	 * Pools that a helper locks are locked by this process as well, each as
	 * far as RLIMIT_MEMLOCK goes: so that they stay locked between the death
	 * of a helper and the moment when it is noticed.
	 */
	SECMALLOC_BELT = 1,
	/*
	 * Pools of memfd_secret(2): locked by what they are, and mapped by no
	 * page table but this process's.  Neither a debugger nor root can read
	 * them through the kernel, which cannot reach them itself.  Counted
	 * against RLIMIT_MEMLOCK; no helper is asked, so that
	 * SECMALLOC_MODE_HELPER is EINVAL.  While there are such pools the
	 * machine does not hibernate.
	 */
	SECMALLOC_SECRET = 2,
	/*
	 * The same if it can be had at the start, for good; else what mode says.
	 * With SECMALLOC_SECRET it is EINVAL.
	 */
	SECMALLOC_SECRET_TRY = 4,
	/*
	 * No thread has access to what is allocated here but in a window, from
	 * secmalloc_open() to secmalloc_close(): elsewhere a stray read or write
	 * faults.  By protection keys (pkeys(7)): ENOTSUP where the processor or
	 * the kernel has none, or none is left.
	 */
	SECMALLOC_PKEY = 8
};

/*
 * How to start.  All bytes zero means the defaults: use memset() or = {0}, so
 * that fields which later versions take from the reserved ones are zero too.
 */
struct secmalloc_config {
	/*
	 * Pools of pool_size that secmalloc_init() itself locks and that are
	 * kept until secmalloc_shutdown().  0 means 1.
	 */
	size_t initial_pools;
	/*
	 * Bytes in a pool, rounded up to whole pages; later pools double from
	 * here.  0 means 256 KiB, or 16 pages where that is more; and, if
	 * initial_pools is 0 as well, less where the limits leave no more.
	 */
	size_t pool_size;
	/* The most bytes ever locked at once; 0 means what the policy allows. */
	size_t max_locked;
	/* SECMALLOC_MODE_*. */
	int mode;
	/* SECMALLOC_FORK_*. */
	int fork_policy;
	/*
	 * The absolute path of the helper, or of a socket where one is to be
	 * had, and then no other is asked.  NULL means the system's socket, and
	 * if that gives none, the installed helper.
	 */
	const char *helper_path;
	/*
	 * Called first when the process is to be stopped for a misuse, with the
	 * name of the function that noticed and a few words on what it noticed.
	 * It may call what is safe in a signal handler, and no function of this
	 * library.  The process is stopped when it returns.
	 */
	void (*on_misuse)(const char *function, const char *what, void *data);
	/*
	 * Called once when it is noticed that memory handed out before is no
	 * longer locked and could not be locked anew, from the thread whose call
	 * noticed it and before that call returns.  Any function of this library
	 * may be called from it.
	 */
	void (*on_lock_lost)(void *data);
	/* Handed to both. */
	void *callback_data;
	/* SECMALLOC_BELT and the like. */
	size_t flags;
	/* Zero. */
	void *reserved[7];
};

/* secmalloc_protect(): what may be done with a guarded object. */
enum {
	SECMALLOC_NOACCESS = 0,
	SECMALLOC_READONLY = 1,
	SECMALLOC_READWRITE = 2
};

/* What secmalloc_stats() fills in. */
struct secmalloc_stats {
	/* Locked pools, and the bytes in them. */
	size_t pools;
	size_t locked_bytes;
	/* Live objects, and the sum of the sizes that were asked for. */
	size_t objects;
	size_t object_bytes;
	/*
	 * SECMALLOC_MODE_HELPER, or _INPROCESS, which secret memory is too: who
	 * locks; -1 before a start.
	 */
	int mode;
	int reserved_int;
	/* Free slots that threads and depots keep ready. */
	size_t cached_bytes;
	/* Bookkeeping of the pools, which is not locked. */
	size_t metadata_bytes;
	/*
	 * Live objects with a guard page behind them, large or guarded, and
	 * large ones without one.
	 */
	size_t guards;
	size_t unguarded;
	size_t reserved[4];
};

/*
 * Starts: chooses who locks and locks the first pools.  CONFIG may be NULL for
 * the defaults and is not kept.  Not required: the first allocation starts
 * with the defaults, or with the configuration that was given last, also if
 * that failed: after EINVAL an allocation fails with EINVAL.  Returns 0, or -1
 * with errno; then nothing is kept locked, and a later call tries anew.  Where
 * the library has started already, NULL changes nothing and returns 0, and a
 * configuration fails with EALREADY.
 */
SECMALLOC_API int secmalloc_init(const struct secmalloc_config *config);

/*
 * Frees an object; NULL does nothing.  Its bytes are zero before anybody can
 * get them again.  errno is kept.
 */
SECMALLOC_API void secfree(void *ptr);

/*
 * Returns SIZE zeroed bytes, or NULL with errno.  SIZE 0 gives a unique
 * pointer, to be freed as any other.
 */
SECMALLOC_API void *secmalloc(size_t size)
	SECMALLOC_MALLOC SECMALLOC_ALLOC_SIZE(1) SECMALLOC_WARN_UNUSED;

/* As secmalloc(NMEMB * SIZE); ENOMEM if the product does not fit a size_t. */
SECMALLOC_API void *seccalloc(size_t nmemb, size_t size)
	SECMALLOC_MALLOC SECMALLOC_ALLOC_SIZE(1, 2) SECMALLOC_WARN_UNUSED;

/*
 * Changes the size of an object, moving it if need be; bytes that are gained
 * are zero, bytes that are given up are wiped.  NULL as PTR is secmalloc(SIZE);
 * SIZE 0 frees PTR and returns NULL.  On failure returns NULL with errno, and
 * the object stays as it was.  ENOLCK also for an object that a fork did not
 * copy.
 */
SECMALLOC_API void *secrealloc(void *ptr, size_t size)
	SECMALLOC_FREED_BY_SECFREE SECMALLOC_ALLOC_SIZE(2)
	SECMALLOC_WARN_UNUSED;

/* As secrealloc(PTR, NMEMB * SIZE); ENOMEM if the product does not fit. */
SECMALLOC_API void *secreallocarray(void *ptr, size_t nmemb, size_t size)
	SECMALLOC_FREED_BY_SECFREE SECMALLOC_ALLOC_SIZE(2, 3)
	SECMALLOC_WARN_UNUSED;

/*
 * As secmalloc(SIZE), at a multiple of ALIGNMENT, which must be a power of two
 * (EINVAL).  SIZE need not be a multiple of it.
 */
SECMALLOC_API void *secaligned_alloc(size_t alignment, size_t size)
	SECMALLOC_MALLOC SECMALLOC_ALLOC_SIZE(2) SECMALLOC_WARN_UNUSED;

/*
 * As secmalloc(SIZE), on pages of its own between two that cannot be accessed.
 * The object ends where the second one begins, and so is aligned only as its
 * size makes it.  Before it on its first page are canaries, which are checked
 * when it is freed or resized.  secrealloc() always moves it, and the new one
 * is guarded, too.  Never without its guards: ENOMEM.
 */
SECMALLOC_API void *secmalloc_guarded(size_t size)
	SECMALLOC_MALLOC SECMALLOC_ALLOC_SIZE(1) SECMALLOC_WARN_UNUSED;

/*
 * Sets what all threads may do with a guarded object: ACCESS is
 * SECMALLOC_NOACCESS, _READONLY, or _READWRITE, which it begins with.  It may
 * be freed or resized in any case; once resized, it may be read and written.
 * 0, or -1 with EINVAL (ACCESS), ENOMEM, or ENOLCK (a fork did not copy it).
 * Any other pointer than a guarded object's is a misuse.
 */
SECMALLOC_API int secmalloc_protect(void *ptr, int access);

/* A copy of the string S; secstrndup() copies at most N bytes of it. */
SECMALLOC_API char *secstrdup(const char *s)
	SECMALLOC_MALLOC SECMALLOC_WARN_UNUSED;
SECMALLOC_API char *secstrndup(const char *s, size_t n)
	SECMALLOC_MALLOC SECMALLOC_WARN_UNUSED;

/*
 * The size that was asked for, exactly; 0 for NULL, and for an object that a
 * fork did not copy.
 */
SECMALLOC_API size_t secmalloc_usable_size(const void *ptr);

/*
 * 1 if PTR points to any byte of a live object and no loss of a lock is known,
 * else 0.  errno is kept.
 */
SECMALLOC_API int secmalloc_is_secure(const void *ptr);

/*
 * Fills in STATS; 0, or -1 with EINVAL if STATS is NULL.  Starts nothing: all
 * counts are 0 before a start.  Objects are counted when this is called, some
 * nanoseconds for each.  While other threads allocate, counts may be of moments
 * that are not quite the same.
 */
SECMALLOC_API int secmalloc_stats(struct secmalloc_stats *stats);

/*
 * Asks whoever locks (the helper, or the kernel's /proc/self/smaps) whether
 * every pool is locked now, and has what is not locked anew: by another helper,
 * or else by this process, as far as its RLIMIT_MEMLOCK goes.  0, or -1 with
 * ENOLCK, or with EMFILE, ENFILE or ENOMEM if that could not be found out; 0
 * before a start.
 */
SECMALLOC_API int secmalloc_verify(void);

/*
 * Returns a descriptor that becomes readable when the helper that locks ends,
 * for an event loop, which then calls secmalloc_verify(), and this function
 * again: the next helper has another descriptor.  It is the library's: not to be
 * read from, nor closed.  -1 with ENOTSUP if there is none to be had: this
 * process locks for itself, or the program has closed what belonged to a helper
 * that keeps locks yet; or with what secmalloc_init() and secmalloc_verify()
 * fail with.  Starts the library if need be.
 */
SECMALLOC_API int secmalloc_lock_fd(void);

/*
 * With SECMALLOC_PKEY: opens a window, in which the calling thread may read and
 * write all objects, and closes the last one that it opened; within another one
 * it stays open.  Windows are a thread's own.  A thread that is created within
 * one begins with access, and a secmalloc_close() of its own, without a window,
 * ends that.  A signal handler begins without, and may open and close windows
 * of its own: these two functions are async-signal-safe.
 *
 * 0, or -1 with ENOTSUP where there are no windows; secmalloc_open() with
 * EOVERFLOW where 63 are open, and then nothing is changed; secmalloc_close()
 * with EINVAL where none is: there is no access then.
 */
SECMALLOC_API int secmalloc_open(void);
SECMALLOC_API int secmalloc_close(void);

/*
 * Wipes and gives back everything.  Every pointer that was returned before is
 * invalid from here on.  No other thread may be in this library, or use its
 * memory, meanwhile.  The library may be started again.  Never called by the
 * library itself: programs free in atexit(3) handlers.
 */
SECMALLOC_API void secmalloc_shutdown(void);

#ifdef __cplusplus
}
#endif

#endif
