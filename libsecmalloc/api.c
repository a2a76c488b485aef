/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * api.c: the public functions: each checks its arguments and makes one call
 * down, to the thread's cache, or with the lock to the heap; must not know how
 * anything is done.
 */
#include "config.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "cache.h"
#include "fatal.h"
#include "fork.h"
#include "heap.h"
#include "memory.h"
#include "pool.h"
#include "report.h"
#include "secmalloc.h"
#include "window.h"

#define NOINLINE __attribute__((noinline))

/* The configuration in force, or to be tried next.  Under the heap's lock. */
static struct {
	bool started;
	bool invalid; /* what was asked for last was: nothing else will do */
	struct secmalloc_config config;
	char helper_path[PATH_MAX]; /* empty: none was given */
} state;

static bool
is_zero(void *const *words, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (words[i] != NULL)
			return false;
	return true;
}

static int
take_config(const struct secmalloc_config *config)
{
	const size_t secret = SECMALLOC_SECRET | SECMALLOC_SECRET_TRY;
	const char *path = config->helper_path;

	if (config->mode < SECMALLOC_MODE_AUTO ||
	    config->mode > SECMALLOC_MODE_INPROCESS ||
	    config->fork_policy < SECMALLOC_FORK_COPY ||
	    config->fork_policy > SECMALLOC_FORK_DENY ||
	    config->pool_size > PTRDIFF_MAX ||
	    (config->flags & ~(secret | SECMALLOC_BELT | SECMALLOC_PKEY)) !=
	    0 || (config->flags & secret) == secret ||
	    ((config->flags & SECMALLOC_SECRET) != 0 &&
	    config->mode == SECMALLOC_MODE_HELPER) ||
	    (path != NULL && (path[0] != '/' ||
	    strlen(path) >= sizeof state.helper_path)) ||
	    !is_zero(config->reserved, sizeof config->reserved /
	    sizeof *config->reserved)) {
		state.invalid = true;
		errno = EINVAL;
		return -1;
	}
	state.invalid = false;
	state.config = *config;
	state.helper_path[0] = '\0';
	if (path != NULL)
		memcpy(state.helper_path, path, strlen(path) + 1);
	return 0;
}

/* The key last: what has it needs it to be wiped. */
static void
stop_pools(void)
{
	pool_stop();
	window_stop();
}

static int
start(void)
{
	const struct secmalloc_config *config = &state.config;
	struct pool_config pools = {
		.initial_pools = config->initial_pools,
		.pool_size = memory_round_up(config->pool_size),
		.max_locked = config->max_locked,
		.mode = config->mode,
		.secret = (config->flags &
		    (SECMALLOC_SECRET | SECMALLOC_SECRET_TRY)) != 0,
		.secret_else = (config->flags & SECMALLOC_SECRET_TRY) != 0,
		.copy_on_fork = config->fork_policy == SECMALLOC_FORK_COPY,
		.belt = (config->flags & SECMALLOC_BELT) != 0,
		.helper_path = state.helper_path[0] != '\0' ?
		    state.helper_path : NULL
	};

	if (state.started)
		return 0;
	if (state.invalid) {
		errno = EINVAL;
		return -1;
	}
	fatal_set_callback(config->on_misuse, config->callback_data);
	if (fork_start() == -1)
		return -1;
	fixed_open();
	/* Of the parent, whose other thread was about to start or to stop. */
	if (fixed.window != 0)
		stop_pools();
	if ((config->flags & SECMALLOC_PKEY) != 0 && window_start() == -1)
		return -1;
	if (pool_start(&pools) == -1) {
		int error = errno;

		window_stop();
		errno = error;
		return -1;
	}
	heap_start();
	cache_start();
	fixed_seal();
	state.started = true;
	return 0;
}

/*
 * Tells the host of a loss, once; without the lock, since it may call us.  Of
 * a loss that is known before an operation, it must know before, too: it may
 * shut the library down.
 */
static void
tell_news(void)
{
	void (*tell)(void *) = state.config.on_lock_lost;
	void *data = state.config.callback_data;
	int error = errno;

	if (!pool_lost_news())
		return;
	cache_close(); /* nothing is handed out from here on */
	if (tell == NULL)
		return;
	heap_unlock();
	tell(data);
	heap_lock();
	errno = error;
}

static void
enter(void)
{
	fork_enter();
	heap_lock();
	tell_news();
}

static void
leave(void)
{
	tell_news();
	heap_unlock();
}

/*
 * Stops the process unless FAULT is none.  Without the lock: the host may fork
 * when it is stopped, to report that.
 */
static void
check(const char *function, enum heap_fault fault, const char *freed)
{
	if (fault == HEAP_FINE || fault == HEAP_DENIED)
		return;
	switch (fault) {
	case HEAP_FREED:
		fatal_misuse(function, freed);
	case HEAP_INTERIOR:
		fatal_misuse(function, "pointer into the middle of an object");
	case HEAP_OVERFLOW:
		fatal_misuse(function, "overflow past the end of an object");
	case HEAP_UNDERFLOW:
		fatal_misuse(function, "underflow before the start of an "
		    "object");
	case HEAP_UNGUARDED:
		fatal_misuse(function, "not a guarded object");
	case HEAP_WRITTEN:
		fatal_misuse(function, "memory was written to after it was "
		    "freed");
	default:
		fatal_misuse(function, "not a pointer of this library");
	}
}

/* Of the heap, where the cache cannot serve; or lets that serve after all. */
static enum heap_fault
allocate_locked(void **ptr, size_t align, size_t size, bool *again)
{
	enum heap_fault fault = HEAP_FINE;

	*again = false;
	enter();
	if (start() == 0) {
		(void)pool_keep();
		*again = cache_fill(size, align);
		if (!*again)
			fault = heap_allocate(ptr, size, align);
		if (!*again && fault == HEAP_FINE && *ptr == NULL &&
		    cache_drain())
			fault = heap_allocate(ptr, size, align);
	}
	leave();
	return fault;
}

static NOINLINE void *
allocate(const char *function, size_t align, size_t size)
{
	void *ptr;
	enum heap_fault fault = cache_allocate(&ptr, size, align);
	bool again = true;

	while (again && ptr == NULL && fault == HEAP_FINE) {
		int error;

		fault = allocate_locked(&ptr, align, size, &again);
		error = errno;
		cache_attend(); /* it may have a cache, if nothing else */
		errno = error;
		if (again)
			fault = cache_allocate(&ptr, size, align);
	}
	check(function, fault, "");
	return ptr;
}

static NOINLINE void
release(const char *function, void *ptr)
{
	enum heap_fault fault = HEAP_FINE;
	int error = errno;
	bool again = true;

	while (ptr != NULL && again && !cache_free(ptr)) {
		enter();
		again = cache_spill(ptr);
		if (!again)
			fault = heap_free(ptr);
		if (pool_has_shrunk())
			(void)cache_drain();
		leave();
		cache_attend();
	}
	check(function, fault, "double free");
	errno = error;
}

/*
 * Apart from the usual ways, which so need no frame on the stack, and with what
 * they were called with still in its place.
 */
static NOINLINE void *
allocate_long(size_t size, const char *function)
{
	void *ptr = cache_take_long(size);

	return ptr != NULL ? ptr : allocate(function, SLOT_ALIGN, size);
}

static NOINLINE void
release_long(void *ptr, const char *function)
{
	if (!cache_give_long(ptr))
		release(function, ptr);
}

/* Another one of SIZE for PTR, which is guarded, or NULL. */
static enum heap_fault
move_guarded(void **moved, void *ptr, size_t size)
{
	enum heap_fault fault;

	(void)pool_keep();
	fault = heap_move_guarded(moved, ptr, size);
	if (fault == HEAP_FINE && *moved == NULL && cache_drain())
		fault = heap_move_guarded(moved, ptr, size);
	return fault;
}

/*
 * Whether *PTR, of *OLD bytes, is one of SIZE now, in its place unless it is
 * guarded; *OLD is SIZE_MAX if it cannot become one, for the reason in errno.
 */
static bool
resize_locked(const char *function, void **ptr, size_t size, bool forced,
    size_t *old)
{
	enum heap_fault fault;
	void *moved = NULL;
	bool done = false;

	enter();
	if (heap_is_guarded(*ptr)) {
		fault = move_guarded(&moved, *ptr, size);
		*old = SIZE_MAX;
	} else
		fault = heap_resize(*ptr, size, forced, old, &done);
	leave();
	check(function, fault, "object was freed before");
	if (fault == HEAP_DENIED) {
		*old = SIZE_MAX;
		errno = ENOLCK;
	}
	if (moved != NULL)
		*ptr = moved;
	return done || moved != NULL;
}

/* In the usual ways, if they lead to anything. */
static INLINE void *
take(const char *function, size_t size)
{
	void *ptr = cache_is_small(size) ? cache_take(size) : NULL;

	return ptr != NULL ? ptr : allocate_long(size, function);
}

/* A copy of PTR, with SIZE bytes, in another place; PTR is no more then. */
static void *
move(const char *function, void *ptr, size_t old, size_t size)
{
	size_t roomy = heap_headroom(old, size), less = size < old ? size : old;
	void *moved = take(function, roomy);
	bool entered;

	if (roomy != size && (moved == NULL ||
	    !cache_resize(moved, size, &roomy))) {
		if (moved != NULL)
			release(function, moved);
		moved = take(function, size);
	}
	if (moved == NULL)
		return NULL;
	entered = window_enter();
	memcpy(moved, ptr, less);
	window_leave(entered);
	if (!cache_give(ptr))
		release_long(ptr, function);
	return moved;
}

static NOINLINE void *
resize(const char *function, void *ptr, size_t size)
{
	void *moved;
	size_t old;

	if (ptr == NULL)
		return allocate(function, SLOT_ALIGN, size);
	if (size == 0) {
		release(function, ptr);
		return NULL;
	}
	if (cache_resize(ptr, size, &old) || (old == 0 &&
	    resize_locked(function, &ptr, size, false, &old)))
		return ptr;
	if (old == SIZE_MAX)
		return NULL;
	if ((moved = move(function, ptr, old, size)) == NULL) {
		int error = errno;

		/* To become smaller takes no room. */
		if (size <= old &&
		    resize_locked(function, &ptr, size, true, &old))
			return ptr;
		errno = error;
		return NULL;
	}
	return moved;
}

int
secmalloc_init(const struct secmalloc_config *config)
{
	static const struct secmalloc_config defaults;
	int result = -1;

	enter();
	if (state.started) {
		if (config == NULL)
			result = 0;
		else
			errno = EALREADY;
	} else if (take_config(config != NULL ? config : &defaults) == 0)
		result = start();
	leave();
	return result;
}

void
secmalloc_shutdown(void)
{
	enter();
	if (state.started) {
		/* First: a child may be a picture of any moment of this. */
		__atomic_store_n(&state.started, false, __ATOMIC_RELEASE);
		fixed_open();
		cache_stop();
		heap_stop();
		stop_pools();
	}
	leave();
}

void *
secmalloc(size_t size)
{
	return take("secmalloc", size);
}

void *
seccalloc(size_t nmemb, size_t size)
{
	size_t bytes;

	if (__builtin_mul_overflow(nmemb, size, &bytes)) {
		errno = ENOMEM;
		return NULL;
	}
	return take("seccalloc", bytes);
}

void
secfree(void *ptr)
{
	if (!cache_give(ptr))
		release_long(ptr, "secfree");
}

void *
secrealloc(void *ptr, size_t size)
{
	return cache_grow(ptr, size) ? ptr : resize("secrealloc", ptr, size);
}

void *
secreallocarray(void *ptr, size_t nmemb, size_t size)
{
	size_t bytes;

	if (__builtin_mul_overflow(nmemb, size, &bytes)) {
		errno = ENOMEM;
		return NULL;
	}
	return resize("secreallocarray", ptr, bytes);
}

void *
secaligned_alloc(size_t alignment, size_t size)
{
	if (alignment == 0 || (alignment & (alignment - 1)) != 0) {
		errno = EINVAL;
		return NULL;
	}
	return allocate("secaligned_alloc", alignment < SLOT_ALIGN ?
	    SLOT_ALIGN : alignment, size);
}

void *
secmalloc_guarded(size_t size)
{
	enum heap_fault fault = HEAP_FINE;
	void *ptr = NULL;

	enter();
	if (start() == 0) {
		(void)pool_keep();
		fault = heap_allocate_guarded(&ptr, size);
		if (fault == HEAP_FINE && ptr == NULL && cache_drain())
			fault = heap_allocate_guarded(&ptr, size);
	}
	leave();
	check("secmalloc_guarded", fault, "");
	return ptr;
}

int
secmalloc_protect(void *ptr, int access)
{
	enum heap_fault fault;
	int result;

	if (access < SECMALLOC_NOACCESS || access > SECMALLOC_READWRITE) {
		errno = EINVAL;
		return -1;
	}
	enter();
	fault = heap_protect(ptr, access, &result);
	leave();
	check("secmalloc_protect", fault, "object was freed before");
	if (fault == HEAP_DENIED)
		errno = ENOLCK;
	return result;
}

static char *
copy_string(const char *function, const char *s, size_t length)
{
	char *copy = allocate(function, SLOT_ALIGN, length + 1);
	bool entered;

	if (copy == NULL)
		return NULL;
	entered = window_enter();
	memcpy(copy, s, length); /* the end is there: it is zero */
	window_leave(entered);
	return copy;
}

char *
secstrdup(const char *s)
{
	return copy_string("secstrdup", s, strlen(s));
}

char *
secstrndup(const char *s, size_t n)
{
	return copy_string("secstrndup", s, strnlen(s, n));
}

size_t
secmalloc_usable_size(const void *ptr)
{
	enum heap_fault fault;
	size_t size;

	if (ptr == NULL)
		return 0;
	if (cache_size(ptr, &size))
		return size;
	enter();
	fault = heap_size(ptr, &size);
	leave();
	check("secmalloc_usable_size", fault, "object was freed before");
	return size;
}

int
secmalloc_is_secure(const void *ptr)
{
	int error = errno, secure;

	enter();
	secure = pool_keep() && heap_contains(ptr);
	leave();
	errno = error;
	return secure;
}

int
secmalloc_stats(struct secmalloc_stats *stats)
{
	struct pool_totals pools;
	struct heap_totals heap;
	size_t cached;

	if (stats == NULL) {
		errno = EINVAL;
		return -1;
	}
	enter();
	pool_totals(&pools);
	heap_totals(&heap);
	cached = cache_bytes();
	leave();
	memset(stats, 0, sizeof *stats);
	stats->pools = pools.pools;
	stats->locked_bytes = pools.bytes;
	stats->objects = heap.objects;
	stats->object_bytes = heap.bytes;
	stats->mode = pools.mode;
	stats->cached_bytes = cached;
	stats->metadata_bytes = pools.books;
	stats->guards = pools.guards;
	stats->unguarded = heap.guardable - pools.guards;
	return 0;
}

__attribute__((constructor)) static void
look_at_environment(void)
{
	report_start(secmalloc_stats);
}

int
secmalloc_lock_fd(void)
{
	int fd;

	enter();
	fd = start() == 0 ? pool_lock_fd() : -1;
	leave();
	return fd;
}

int
secmalloc_verify(void)
{
	int result;

	enter();
	result = pool_verify();
	leave();
	return result;
}
