/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tools.c: what a tool that watches accesses must report of our memory, and
 * what it must not; one misdeed a run.  It takes the public header only, and
 * can be compiled for AddressSanitizer, linked with a library that was not.
 *
 *	tools MISDEED
 */
#include <sys/wait.h>

#include <pthread.h>
#include <stdint.h>

#include "harness.h"

/* So that a report names it, and nothing of it is done elsewhere. */
#ifdef __clang__
# define APART __attribute__((noinline))
#else
# define APART __attribute__((noipa))
#endif

enum {
	SIZE = 77,      /* in the middle of eight bytes, and of a slot */
	LARGE = 300001, /* a run of pages */
	CUT = 70
};

static void *volatile kept;
static volatile unsigned char sink;

APART static void
read_at(const unsigned char *at)
{
	sink = *at;
}

APART static void
write_at(unsigned char *at)
{
	*at = 2; /* what no canary begins with */
}

APART static unsigned char *
allocate(size_t size)
{
	unsigned char *object = secmalloc(size);

	if (object == NULL)
		bail_out("secmalloc: %s", strerror(errno));
	return object;
}

static unsigned char *
resized(size_t from, size_t to)
{
	unsigned char *object = secrealloc(allocate(from), to);

	if (object == NULL)
		bail_out("secrealloc: %s", strerror(errno));
	return object;
}

static unsigned char *
freed(size_t size)
{
	unsigned char *object = allocate(size);

	secfree(object);
	return object;
}

APART static unsigned char *
allocate_guarded(size_t size)
{
	unsigned char *object = secmalloc_guarded(size);

	if (object == NULL)
		bail_out("secmalloc_guarded: %s", strerror(errno));
	return object;
}

/* One that has another before it, wherever each of them is put. */
static unsigned char *
second(size_t size)
{
	unsigned char *one = allocate(size), *other = allocate(size);

	return one > other ? one : other;
}

/* Out of reach of who searches memory for pointers. */
static uintptr_t
hidden(const void *object)
{
	return ~(uintptr_t)object;
}

/* Two, for the books point to where a pool begins, which one may be. */
APART static void
lose(void)
{
	volatile uintptr_t away;

	away = hidden(allocate(SIZE));
	away = hidden(allocate(SIZE));
	(void)away;
}

APART static void
lose_malloc(bool in_our_memory)
{
	uintptr_t *holder = seccalloc(1, sizeof *holder);
	void *object = malloc(SIZE);

	if (holder == NULL || object == NULL)
		bail_out("no memory: %s", strerror(errno));
	*holder = in_our_memory ? (uintptr_t)object : hidden(object);
	kept = holder;
}

/* What lies about on the stack may still point to what was lost. */
APART static void
overwrite_stack(void)
{
	volatile unsigned char bytes[4096];

	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] = 0;
}

/*
 * All that is allowed.
 */

static void
use(unsigned char *object, size_t size)
{
	for (size_t i = 0; i < size; i++)
		if (object[i] != 0)
			bail_out("byte %zu is not zero", i);
	memset(object, 0x55, size);
}

static void *
use_sizes(void *nothing)
{
	unsigned char *objects[64];

	for (int round = 0; round < 4; round++) {
		for (size_t i = 0; i < 64; i++)
			use(objects[i] = allocate(i * i * 3), i * i * 3);
		for (size_t i = 0; i < 64; i++) {
			size_t to = (i * 37) % 64 * 50 + 1, from = i * i * 3;

			objects[i] = secrealloc(objects[i], to);
			if (objects[i] == NULL)
				bail_out("secrealloc: %s", strerror(errno));
			if (to > from)
				use(objects[i] + from, to - from);
		}
		for (size_t i = 0; i < 64; i++)
			secfree(objects[i]);
	}
	return nothing;
}

static void
use_large(void)
{
	unsigned char *object = allocate(LARGE);

	use(object, LARGE);
	object = secrealloc(object, LARGE / 2);
	object = secrealloc(object, 2 * (size_t)LARGE);
	if (object == NULL)
		bail_out("secrealloc: %s", strerror(errno));
	use(object + LARGE / 2, 2 * (size_t)LARGE - LARGE / 2);
	secfree(object);
	object = secaligned_alloc(8192, SIZE);
	use(object, SIZE);
	secfree(object);
}

static void
protect(void *object, int access)
{
	if (secmalloc_protect(object, access) == -1)
		bail_out("secmalloc_protect: %s", strerror(errno));
}

static void
use_guarded(void)
{
	for (size_t size = 0; size < 10000; size += 1 + size / 3) {
		unsigned char *object = allocate_guarded(size);
		size_t more = size + size / 3 + 1;

		use(object, size);
		protect(object, SECMALLOC_NOACCESS);
		protect(object, SECMALLOC_READONLY);
		if (size != 0)
			read_at(object + size - 1);
		object = secrealloc(object, more);
		if (object == NULL)
			bail_out("secrealloc: %s", strerror(errno));
		use(object + size, more - size);
		protect(object, SECMALLOC_NOACCESS);
		secfree(object);
	}
}

static void
use_in_child(void)
{
	unsigned char *object = allocate(SIZE), *large = allocate(LARGE);
	unsigned char *guarded = allocate_guarded(SIZE);
	int status;
	pid_t child;

	use(object, SIZE);
	use(large, LARGE);
	use(guarded, SIZE);
	protect(guarded, SECMALLOC_NOACCESS);
	if ((child = fork()) == 0) {
		protect(guarded, SECMALLOC_READWRITE);
		if (guarded[0] != 0x55 || guarded[SIZE - 1] != 0x55)
			exit(2);
		guarded = secrealloc(guarded, CUT);
		secfree(guarded);
		use_guarded();
		if (object[SIZE - 1] != 0x55 || large[LARGE - 1] != 0x55)
			exit(2);
		secfree(object);
		large = secrealloc(large, SIZE);
		secfree(large);
		use_sizes(NULL);
		exit(0);
	}
	if (waitpid(child, &status, 0) != child || status != 0)
		bail_out("the child: status %#x", (unsigned)status);
	if (object[0] != 0x55)
		bail_out("the child wrote to its parent's object");
	secfree(object);
	secfree(large);
	secfree(guarded);
}

static void
use_rightly(void)
{
	pthread_t threads[3];

	use_sizes(NULL);
	for (size_t i = 0; i < 3; i++)
		if (pthread_create(&threads[i], NULL, use_sizes, NULL) != 0)
			bail_out("pthread_create");
	for (size_t i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	use_large();
	use_guarded();
	use_in_child();
	/* With live objects, of which none is one afterwards. */
	protect(allocate_guarded(SIZE), SECMALLOC_NOACCESS);
	kept = allocate_guarded(SIZE);
	kept = allocate(LARGE);
	kept = allocate(SIZE);
	secmalloc_shutdown();
	kept = NULL;
	use_sizes(NULL);
	use_large();
	use_guarded();
	use_in_child();
}

static const struct {
	const char *name;
	size_t from, size; /* resized from the first, if it is not 0 */
	ptrdiff_t offset;
	bool freed, writes, guarded;
} accesses[] = {
	{ "read-past", 0, SIZE, SIZE, false, false, false },
	{ "write-past", 0, SIZE, SIZE, false, true, false },
	{ "read-past-room", 0, SIZE, SIZE + 10, false, false, false },
	{ "read-before", 0, SIZE, -1, false, false, false },
	{ "write-past-large", 0, LARGE, LARGE, false, true, false },
	{ "write-past-grown", CUT, SIZE, SIZE, false, true, false },
	{ "write-past-cut", SIZE, CUT, CUT, false, true, false },
	{ "read-freed", 0, SIZE, 0, true, false, false },
	{ "write-freed", 0, SIZE, SIZE - 1, true, true, false },
	{ "read-freed-large", 0, LARGE, LARGE / 2, true, false, false },
	{ "read-before-guarded", 0, SIZE, -8, false, false, true },
	{ "read-freed-guarded", 0, SIZE, 3, true, false, true },
	{ "write-past-guarded", 0, SIZE, SIZE, false, true, true },
	{ "last-guarded", 0, SIZE, SIZE - 1, false, true, true },
	{ "last", 0, SIZE, SIZE - 1, false, true, false },
	{ "last-large", 0, LARGE, LARGE - 1, false, true, false },
	{ "last-grown", CUT, SIZE, SIZE - 1, false, true, false },
	{ "last-cut", SIZE, CUT, CUT - 1, false, true, false }
};

static unsigned char *
guarded(size_t size, bool freed)
{
	unsigned char *object = allocate_guarded(size);

	if (freed)
		secfree(object);
	return object;
}

static bool
access_one(const char *name)
{
	for (size_t i = 0; i < sizeof accesses / sizeof *accesses; i++) {
		unsigned char *object;

		if (strcmp(name, accesses[i].name) != 0)
			continue;
		if (accesses[i].guarded)
			object = guarded(accesses[i].size, accesses[i].freed);
		else if (accesses[i].freed)
			object = freed(accesses[i].size);
		else if (accesses[i].from != 0)
			object = resized(accesses[i].from, accesses[i].size);
		else if (accesses[i].offset < 0)
			object = second(accesses[i].size);
		else
			object = allocate(accesses[i].size);
		if (accesses[i].writes)
			write_at(object + accesses[i].offset);
		else
			read_at(object + accesses[i].offset);
		/* Found by the canary, where nobody watched. */
		if (!accesses[i].freed)
			secfree(object);
		return true;
	}
	return false;
}

int
main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : "";
	struct secmalloc_config config;

	test_config(&config, SECMALLOC_MODE_INPROCESS);
	if (secmalloc_init(&config) == -1)
		bail_out("secmalloc_init: %s", strerror(errno));
	if (strcmp(name, "rightly") == 0)
		use_rightly();
	else if (strcmp(name, "lose") == 0)
		lose();
	else if (strcmp(name, "keep-malloc") == 0)
		lose_malloc(true);
	else if (strcmp(name, "lose-malloc") == 0)
		lose_malloc(false);
	else if (!access_one(name))
		bail_out("usage: tools MISDEED");
	overwrite_stack();
	diag("done");
	return 0;
}
