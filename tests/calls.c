/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * calls.c: that nothing in the library allocates, nor calls what does.  Of this
 * program malloc and its kin are defined here, and count who comes to them from
 * within a call of the library, in any thread.
 *
 *	calls helper|inprocess
 */
#include <sys/wait.h>

#include <pthread.h>

#include "harness.h"

#define ARENA_SIZE (4 * 1024 * 1024)
#include "arena.h"

enum { THREADS = 4, KEYS = 40, OBJECTS = 300 };

/* Volatile: the C library's headers say that it never calls back. */
static __thread volatile bool inside;
static volatile unsigned counted;

#define WITHIN(call) do { inside = true; call; inside = false; } while (0)

static void *
allocate(size_t align, size_t size)
{
	void *object = arena_allocate(align, size);

	if (inside)
		__atomic_fetch_add(&counted, 1, __ATOMIC_RELAXED);
	if (object == NULL)
		errno = ENOMEM;
	return object;
}

__attribute__((visibility("default"))) void *
malloc(size_t size)
{
	return allocate(1, size);
}

__attribute__((visibility("default"))) void
free(void *ptr)
{
	(void)ptr;
}

__attribute__((visibility("default"))) void *
calloc(size_t nmemb, size_t size)
{
	return allocate(1, nmemb * size);
}

__attribute__((visibility("default"))) void *
realloc(void *ptr, size_t size)
{
	void *moved = allocate(1, size);

	if (ptr != NULL && moved != NULL)
		memcpy(moved, ptr, size < arena_size(ptr) ? size :
		    arena_size(ptr));
	return moved;
}

__attribute__((visibility("default"))) void *
aligned_alloc(size_t alignment, size_t size)
{
	return allocate(alignment, size);
}

__attribute__((visibility("default"))) int
posix_memalign(void **memptr, size_t alignment, size_t size)
{
	return (*memptr = allocate(alignment, size)) != NULL ? 0 : ENOMEM;
}

static void
use_library(void)
{
	static __thread void *objects[OBJECTS];
	struct secmalloc_stats stats;

	for (size_t i = 0; i < OBJECTS; i++)
		WITHIN(objects[i] = secmalloc(i * i * 2));
	for (size_t i = 0; i < OBJECTS; i++)
		WITHIN(objects[i] = secrealloc(objects[i], i * 70 + 1));
	for (size_t i = 0; i < OBJECTS; i++)
		if (objects[i] == NULL)
			bail_out("no memory: %s", strerror(errno));
	WITHIN((void)secmalloc_stats(&stats));
	WITHIN((void)secmalloc_verify());
	WITHIN((void)secmalloc_lock_fd());
	WITHIN((void)secmalloc_open());
	WITHIN((void)secmalloc_close());
	WITHIN((void)secmalloc_is_secure(objects[1]));
	for (size_t i = 0; i < OBJECTS; i++)
		WITHIN(secfree(objects[i]));
	WITHIN(objects[0] = secaligned_alloc(8192, 100));
	WITHIN(objects[1] = secstrdup("a word"));
	WITHIN(secfree(objects[1]));
	WITHIN(secfree(objects[0]));
}

static void *
use_in_thread(void *nothing)
{
	use_library();
	/* What the library does when the thread ends is within it, too. */
	inside = true;
	return nothing;
}

static void
use_in_threads(void)
{
	pthread_t threads[THREADS];

	for (size_t i = 0; i < THREADS; i++)
		if (pthread_create(&threads[i], NULL, use_in_thread, NULL) != 0)
			bail_out("pthread_create");
	for (size_t i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
}

/* The child's status is the number of calls. */
static unsigned
use_in_child(void)
{
	int status = 0;
	void *kept;
	pid_t child;

	WITHIN(kept = secmalloc(100));
	WITHIN(child = fork());
	if (child == 0) {
		WITHIN(secfree(kept));
		use_library();
		use_in_threads();
		_exit((int)counted);
	}
	WITHIN(secfree(kept));
	if (waitpid(child, &status, 0) != child || !WIFEXITED(status))
		bail_out("the child: status %#x", (unsigned)status);
	return (unsigned)WEXITSTATUS(status);
}

/* As in programs in which other libraries came first. */
static void
take_keys(void)
{
	pthread_key_t key;

	for (int i = 0; i < KEYS; i++)
		if (pthread_key_create(&key, NULL) != 0)
			bail_out("pthread_key_create");
}

int
main(int argc, char **argv)
{
	struct secmalloc_config config;
	char *volatile word;
	unsigned before;
	int result;

	test_config(&config, argc > 1 && strcmp(argv[1], "helper") == 0 ?
	    SECMALLOC_MODE_HELPER : SECMALLOC_MODE_INPROCESS);
	if (argc > 2 && strcmp(argv[2], "keys") == 0)
		take_keys();

	WITHIN(word = strdup("a word"));
	ok(word != NULL && counted == 1, "what allocates is counted");
	counted = 0;

	WITHIN(result = secmalloc_init(&config));
	if (result == -1)
		bail_out("secmalloc_init: %s", strerror(errno));
	ok(counted == 0, "to start allocates nothing");
	use_library();
	ok(counted == 0, "none of the functions allocates");
	use_in_threads();
	ok(counted == 0, "nor in a thread, nor when that ends");
	before = use_in_child();
	ok(counted == 0 && before == 0, "nor in a fork, nor in the child");
	WITHIN(secmalloc_shutdown());
	use_library();
	ok(counted == 0, "nor at the end, nor after it");
	return done_testing();
}
