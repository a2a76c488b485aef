/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * api.c: holds every verb to what secmalloc.h says of it; it knows nothing
 * else.
 *
 * argv[1] says what this process is allowed, and so what is promised to it:
 *   helper     nothing by itself; SECMALLOC_TEST_HELPER locks for it
 *   inprocess  to lock as much as it likes (root)
 *   limited    to lock 64 KiB (RLIMIT_MEMLOCK)
 *   refused    to lock nothing
 */
#include "config.h"

#include <sys/resource.h>

#include <fcntl.h>
#include <poll.h>
#include <stdint.h>

#include "harness.h"

#define KIB ((size_t)1024)
#define MIB (1024 * KIB)

/* The most that the helper locks for one process. */
#define CEILING (64 * MIB)

static int mode;

static void
start(void)
{
	struct secmalloc_config config;

	test_config(&config, mode);
	if (secmalloc_init(&config) == -1)
		bail_out("secmalloc_init: %s", strerror(errno));
}

/* Out of the compiler's sight: some calls below are wrong on purpose. */
static size_t
number(size_t n)
{
	__asm__ volatile ("" : "+r" (n));
	return n;
}

static void *
unknown(const void *ptr)
{
	uintptr_t address = (uintptr_t)ptr;

	__asm__ volatile ("" : "+r" (address));
	return (void *)address;
}

static unsigned char *
get(size_t size)
{
	unsigned char *p = secmalloc(size);

	if (p == NULL)
		bail_out("secmalloc(%zu): %s", size, strerror(errno));
	return p;
}

static struct secmalloc_stats
stats(void)
{
	struct secmalloc_stats now;

	if (secmalloc_stats(&now) == -1)
		bail_out("secmalloc_stats: %s", strerror(errno));
	return now;
}

static bool
all(const unsigned char *p, size_t from, size_t to, unsigned char value)
{
	for (size_t i = from; i < to; i++)
		if (p[i] != value)
			return false;
	return true;
}

static bool
aligned(const void *p, size_t alignment)
{
	return (uintptr_t)p % alignment == 0;
}

static void
before_a_start(void)
{
	struct secmalloc_stats now;
	int local = 0;

	memset(&now, 0xff, sizeof(now));
	ok(secmalloc_stats(&now) == 0 && now.pools == 0 &&
	    now.locked_bytes == 0 && now.objects == 0 &&
	    now.object_bytes == 0 && now.mode == -1,
	    "before a start all counts are 0 and nobody locks");
	ok(secmalloc_verify() == 0, "before a start everything is locked");
	ok(secmalloc_is_secure(&local) == 0, "before a start nothing is ours");
	secfree(NULL);
	ok(secmalloc_usable_size(NULL) == 0, "NULL has no bytes");
	secmalloc_shutdown();
	ok(stats().mode == -1, "a shutdown before a start does nothing");
	errno = 0;
	ok(secmalloc_stats(NULL) == -1 && errno == EINVAL,
	    "stats need somewhere to go");
}

static void
refuses_config(const struct secmalloc_config *config, const char *field)
{
	int result;

	errno = 0;
	result = secmalloc_init(config);
	ok(result == -1 && errno == EINVAL && stats().mode == -1,
	    "a configuration with a bad %s is refused", field);
	if (result == 0)
		secmalloc_shutdown();
}

static void
bad_configurations(void)
{
	struct secmalloc_config config;
	static char byte;

	test_config(&config, 99);
	refuses_config(&config, "mode");
	test_config(&config, -1);
	refuses_config(&config, "negative mode");
	test_config(&config, mode);
	config.fork_policy = 7;
	refuses_config(&config, "fork_policy");
	test_config(&config, mode);
	config.fork_policy = -1;
	refuses_config(&config, "negative fork_policy");
	test_config(&config, mode);
	config.helper_path = "secmalloc-helper";
	refuses_config(&config, "helper_path, a relative one");
	test_config(&config, mode);
	config.helper_path = "";
	refuses_config(&config, "helper_path, an empty one");
	for (size_t i = 0; i < 7; i += 6) {
		test_config(&config, mode);
		config.reserved[i] = &byte;
		refuses_config(&config, "reserved field");
	}
	for (size_t flag = 2 * SECMALLOC_PKEY; flag != 0; flag <<= 1) {
		test_config(&config, mode);
		config.flags = flag | SECMALLOC_BELT;
		refuses_config(&config, "flag");
	}
	for (int i = 0; i < 2; i++) {
		test_config(&config, mode);
		if (i == 0)
			config.pool_size = SIZE_MAX;
		else
			config.initial_pools = SIZE_MAX;
		/* Why, depends on which limit is looked at first. */
		errno = 0;
		ok(secmalloc_init(&config) == -1 && (errno == ENOMEM ||
		    errno == EDQUOT || errno == EAGAIN || errno == EPERM ||
		    errno == EINVAL) && stats().mode == -1,
		    "more than an address space is refused at the start");
	}
}

/* A helper's, which is not ended; nobody's, where this process locks. */
static bool
lock_fd_is_right(int fd)
{
	struct pollfd end = { .fd = fd, .events = POLLIN };

	if (mode != SECMALLOC_MODE_HELPER)
		return fd == -1 && errno == ENOTSUP;
	return fd > STDERR_FILENO && poll(&end, 1, 0) == 0 &&
	    (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0;
}

static void
starts(void)
{
	struct secmalloc_config config;
	struct secmalloc_stats now;
	unsigned char *p;
	int fd;

	test_config(&config, SECMALLOC_MODE_HELPER);
	config.helper_path = "/nonexistent/secmalloc-helper";
	errno = 0;
	ok(secmalloc_init(&config) == -1 && errno == EPERM,
	    "a helper that is not there cannot lock");
	ok(stats().mode == -1 && stats().locked_bytes == 0,
	    "a start that fails keeps nothing locked");
	errno = 0;
	p = secmalloc(10);
	ok(p == NULL && errno == EPERM,
	    "an allocation tries anew with the configuration that failed");

	start();
	now = stats();
	ok(now.mode == mode && now.pools == 1 && now.locked_bytes > 0 &&
	    now.objects == 0 && now.object_bytes == 0,
	    "a start after one that failed locks the first pool");
	ok(secmalloc_init(NULL) == 0, "once started, NULL changes nothing");
	test_config(&config, mode);
	errno = 0;
	ok(secmalloc_init(&config) == -1 && errno == EALREADY,
	    "once started, a configuration comes too late");
	ok(stats().locked_bytes == now.locked_bytes, "and locks nothing");
	ok(secmalloc_verify() == 0, "what is locked is locked");

	fd = secmalloc_lock_fd();
	ok(lock_fd_is_right(fd), mode == SECMALLOC_MODE_HELPER ?
	    "there is a descriptor that tells of the helper's end" :
	    "no descriptor tells of an end of what this process locks");
	ok(secmalloc_lock_fd() == fd, "which is the same when asked again");

	p = get(10);
	secmalloc_shutdown();
	ok(fd == -1 || fcntl(fd, F_GETFD) == -1,
	    "a shutdown closes that descriptor");
	now = stats();
	ok(now.pools == 0 && now.locked_bytes == 0 && now.objects == 0 &&
	    now.mode == -1, "a shutdown gives everything back");
	ok(secmalloc_is_secure(unknown(p)) == 0,
	    "after a shutdown nothing is ours");

	ok(lock_fd_is_right(secmalloc_lock_fd()) && stats().mode == mode &&
	    stats().pools == 1, "to ask for the descriptor starts the library");
	secmalloc_shutdown();

	test_config(&config, mode);
	config.flags = SECMALLOC_BELT;
	ok(secmalloc_init(&config) == 0 && stats().mode == mode,
	    "a belt is had where it can be, and no reason not to start");
	p = get(MIB);
	ok(secmalloc_verify() == 0 && secmalloc_is_secure(p) == 1,
	    "what has it is locked");
	secfree(p);
	secmalloc_shutdown();

	test_config(&config, mode);
	config.initial_pools = 3;
	config.pool_size = MIB + 1;
	ok(secmalloc_init(&config) == 0 && stats().pools == 3 &&
	    stats().locked_bytes >= 3 * MIB + 3 &&
	    stats().locked_bytes < 4 * MIB,
	    "a start anew locks as many pools as it is asked, and as large");
	p = get(MIB / 2);
	secfree(p);
	ok(stats().pools == 3, "initial pools are kept when they are empty");
	secmalloc_shutdown();
}

static void
fresh(void)
{
	static const size_t sizes[] = {
		1, 15, 16, 17, 100, 1000, 4096, 10000, 100000, 3 * 1024 * 1024
	};
	unsigned dirty = 0, skew = 0;

	for (unsigned round = 0; round < 3; round++)
		for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
			unsigned char *p = get(sizes[i]);
			unsigned char *q = seccalloc(sizes[i], 1);

			if (q == NULL)
				bail_out("seccalloc: %s", strerror(errno));
			dirty += !all(p, 0, sizes[i], 0);
			dirty += !all(q, 0, sizes[i], 0);
			skew += !aligned(p, 16) || !aligned(q, 16);
			memset(p, 0xff, sizes[i]);
			memset(q, 0xff, sizes[i]);
			secfree(p);
			secfree(q);
		}
	ok(dirty == 0, "what is allocated is zero, also the second time");
	ok(skew == 0, "what is allocated is aligned to 16");
}

static void
alignments(void)
{
	static const size_t sizes[] = {0, 1, 24, 5000, 300 * 1024};
	static const size_t bad[] = {0, 3, 48, SIZE_MAX};
	unsigned skew = 0, failed = 0, wrong = 0;

	for (size_t alignment = 1; alignment <= MIB; alignment *= 2)
		for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
			unsigned char *p = secaligned_alloc(alignment,
			    sizes[i]);
			unsigned char *q = secaligned_alloc(alignment,
			    sizes[i]);

			if (p == NULL || q == NULL) {
				diag("alignment %zu, size %zu: %s", alignment,
				    sizes[i], strerror(errno));
				failed++;
			} else {
				skew += !aligned(p, alignment) ||
				    !aligned(q, alignment) ||
				    !aligned(p, 16) || p == q;
				wrong += !all(p, 0, sizes[i], 0) ||
				    secmalloc_usable_size(p) != sizes[i];
				memset(p, 0xff, sizes[i]);
			}
			secfree(p);
			secfree(q);
		}
	ok(failed == 0, "every power of two up to 1 MiB is an alignment");
	ok(skew == 0, "alignment is what was asked for, and 16 at least");
	ok(wrong == 0, "aligned objects are zero and of the size asked for");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		void *p;

		errno = 0;
		p = secaligned_alloc(number(bad[i]), 64);
		ok(p == NULL && errno == EINVAL,
		    "%zu is no alignment", bad[i]);
	}
	errno = 0;
	ok(secaligned_alloc(4096, number(SIZE_MAX)) == NULL &&
	    errno == ENOMEM, "no alignment makes SIZE_MAX fit");
	errno = 0;
	ok(secaligned_alloc(number(SIZE_MAX / 2 + 1), 1) == NULL &&
	    errno == ENOMEM, "half an address space is too large an alignment");
}

static void
empty_objects(void)
{
	enum { MANY = 100 };
	void *objects[MANY];
	unsigned alike = 0;

	for (size_t i = 0; i < MANY; i++) {
		objects[i] = i % 2 == 0 ? secmalloc(0) : seccalloc(i, 0);
		if (objects[i] == NULL)
			bail_out("secmalloc(0): %s", strerror(errno));
		for (size_t j = 0; j < i; j++)
			alike += objects[i] == objects[j];
	}
	ok(alike == 0, "objects of no bytes have addresses of their own");
	ok(stats().objects == MANY && stats().object_bytes == 0,
	    "and count as objects");
	for (size_t i = 0; i < MANY; i++)
		secfree(objects[i]);
	ok(stats().objects == 0, "until they are freed");
}

static void
resizes(void)
{
	static const size_t steps[] = {
		1, 2, 15, 16, 17, 40, 100, 99, 3, 1000, 5000, 4096, 20000,
		100000, 100001, 50000, 3 * 1024 * 1024, 1024 * 1024, 200, 10
	};
	unsigned char *p = secrealloc(NULL, 0), *q;
	size_t size = 0;
	unsigned lost = 0, dirty = 0, inexact = 0;

	ok(p != NULL, "secrealloc(NULL, 0) allocates");
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		size_t kept = size < steps[i] ? size : steps[i];

		q = i % 3 == 0 ? secreallocarray(p, steps[i], 1) :
		    secrealloc(p, steps[i]);
		if (q == NULL)
			bail_out("secrealloc: %s", strerror(errno));
		p = q;
		lost += !all(p, 0, kept, 0xa5);
		dirty += !all(p, kept, steps[i], 0);
		inexact += secmalloc_usable_size(p) != steps[i] ||
		    stats().objects != 1 || stats().object_bytes != steps[i];
		memset(p, 0xa5, steps[i]);
		size = steps[i];
	}
	ok(lost == 0, "an object keeps its bytes when it is resized");
	ok(dirty == 0, "bytes that are gained are zero");
	ok(inexact == 0, "sizes and counts follow");

	/* One byte at a time, so that some grow and shrink in place. */
	lost = 0;
	dirty = 0;
	for (; size < 300; size++) {
		p = secrealloc(p, size + 1);
		if (p == NULL)
			bail_out("secrealloc: %s", strerror(errno));
		lost += !all(p, 0, size, 0xa5);
		dirty += p[size] != 0;
		p[size] = 0xa5;
	}
	for (; size > 1; size--) {
		p = secrealloc(p, size - 1);
		if (p == NULL)
			bail_out("secrealloc: %s", strerror(errno));
		lost += !all(p, 0, size - 1, 0xa5);
	}
	p = secrealloc(p, 300);
	if (p == NULL)
		bail_out("secrealloc: %s", strerror(errno));
	dirty += !all(p, 1, 300, 0);
	ok(lost == 0 && dirty == 0, "also byte by byte");
	ok(secrealloc(p, 0) == NULL && stats().objects == 0,
	    "secrealloc(p, 0) frees");
	q = secreallocarray(NULL, 10, 10);
	ok(q != NULL && secmalloc_usable_size(q) == 100,
	    "secreallocarray(NULL, n, size) allocates");
	ok(secreallocarray(q, 10, 0) == NULL && stats().objects == 0,
	    "secreallocarray(p, n, 0) frees");

	p = get(100);
	memset(p, 0xa5, 100);
	for (int i = 0; i < 4; i++) {
		size_t large = i % 2 == 0 ? SIZE_MAX - (size_t)i :
		    (size_t)PTRDIFF_MAX + (size_t)i - 1;

		errno = 0;
		q = secrealloc(p, number(large));
		ok(q == NULL && errno == ENOMEM && all(p, 0, 100, 0xa5) &&
		    secmalloc_usable_size(p) == 100 && stats().objects == 1,
		    "an object stays as it was when it cannot be resized");
	}
	errno = 0;
	q = secreallocarray(p, number(SIZE_MAX / 2), number(3));
	ok(q == NULL && errno == ENOMEM && all(p, 0, 100, 0xa5),
	    "a product that does not fit is no size to resize to");
	secfree(p);
}

static void
refuses_size(size_t size)
{
	void *p;

	errno = 0;
	p = secmalloc(number(size));
	ok(p == NULL && errno == ENOMEM, "%zu bytes are too many", size);
}

static void
too_large(void)
{
	void *p;

	for (size_t i = 0; i < 70; i += 23)
		refuses_size(SIZE_MAX - i);
	refuses_size(SIZE_MAX - 4 * KIB);
	refuses_size(SIZE_MAX / 2 + 1);
	refuses_size(PTRDIFF_MAX);
	errno = 0;
	p = seccalloc(number(SIZE_MAX), number(2));
	ok(p == NULL && errno == ENOMEM, "SIZE_MAX * 2 does not wrap");
	errno = 0;
	p = seccalloc(number((size_t)1 << (sizeof(size_t) * 4)),
	    number((size_t)1 << (sizeof(size_t) * 4)));
	ok(p == NULL && errno == ENOMEM, "a product of 0 modulo SIZE_MAX + 1 "
	    "does not wrap");
	p = seccalloc(3, 7);
	ok(secmalloc_usable_size(p) == 21, "seccalloc multiplies");
	secfree(p);
	ok(stats().objects == 0, "what was refused is not counted");
}

static void
strings(void)
{
	static const char raw[4] = {'a', 'b', 'c', 'd'};
	char *s;

	s = secstrdup("a secret");
	ok(s != NULL && strcmp(s, "a secret") == 0 &&
	    secmalloc_usable_size(s) == 9, "a string is copied");
	secfree(s);
	s = secstrdup("");
	ok(s != NULL && *s == '\0' && secmalloc_usable_size(s) == 1,
	    "an empty string is copied");
	secfree(s);
	s = secstrndup("a secret", 3);
	ok(s != NULL && strcmp(s, "a s") == 0 &&
	    secmalloc_usable_size(s) == 4, "the start of a string is copied");
	secfree(s);
	s = secstrndup("a secret", 8);
	ok(s != NULL && strcmp(s, "a secret") == 0 &&
	    secmalloc_usable_size(s) == 9, "a string of n bytes is copied");
	secfree(s);
	s = secstrndup("a secret", number(SIZE_MAX));
	ok(s != NULL && strcmp(s, "a secret") == 0 &&
	    secmalloc_usable_size(s) == 9,
	    "no more than the string is copied");
	secfree(s);
	s = secstrndup(unknown(raw), sizeof(raw));
	ok(s != NULL && memcmp(s, "abcd", 5) == 0,
	    "n bytes without a terminator get one");
	secfree(s);
	s = secstrndup("a secret", 0);
	ok(s != NULL && *s == '\0' && secmalloc_usable_size(s) == 1,
	    "0 bytes of a string are an empty one");
	secfree(s);
}

static void
sizes(void)
{
	static unsigned char *objects[5001];
	size_t sum = 0;
	unsigned wrong = 0;

	for (size_t size = 0; size <= 5000; size++) {
		objects[size] = get(size);
		memset(objects[size], (int)(size & 0x7f), size);
		sum += size;
	}
	ok(stats().objects == 5001 && stats().object_bytes == sum,
	    "objects and their bytes are counted exactly");
	for (size_t size = 0; size <= 5000; size++) {
		wrong += secmalloc_usable_size(objects[size]) != size;
		wrong += !all(objects[size], 0, size,
		    (unsigned char)(size & 0x7f));
	}
	ok(wrong == 0, "the size of an object is exactly what was asked for");
	ok(stats().locked_bytes >= sum, "all of it is in locked bytes");
	ok(secmalloc_verify() == 0, "all of it is locked");
	for (size_t size = 0; size <= 5000; size++)
		secfree(objects[size]);
	for (size_t size = 5000; size < 8 * MIB; size = size * 2 + 1) {
		unsigned char *p = get(size);

		wrong += secmalloc_usable_size(p) != size;
		p[size - 1] = 1;
		secfree(p);
	}
	ok(wrong == 0, "also of a large one");
	ok(stats().objects == 0 && stats().object_bytes == 0,
	    "nothing is counted that was freed");
}

static void
whose(void)
{
	static const size_t lengths[] = {
		1, 24, 100, 4096, 100000, 3 * 1024 * 1024
	};
	static int global;
	unsigned wrong = 0, freed = 0;
	void *elsewhere = malloc(100);

	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		unsigned char *p = get(lengths[i]);
		const unsigned char *was = unknown(p);

		for (size_t at = 0; at < lengths[i]; at += 1 + at / 7)
			wrong += secmalloc_is_secure(p + at) != 1;
		wrong += secmalloc_is_secure(p + lengths[i] - 1) != 1;
		wrong += secmalloc_is_secure(p + lengths[i]) != 0;
		secfree(p);
		freed += secmalloc_is_secure(was) != 0;
		freed += secmalloc_is_secure(was + lengths[i] / 2) != 0;
	}
	ok(wrong == 0, "every byte of a live object is secure, and not one more");
	ok(freed == 0, "no byte of a freed object is");
	errno = 4711;
	ok(secmalloc_is_secure(&wrong) == 0 &&
	    secmalloc_is_secure(&global) == 0 &&
	    secmalloc_is_secure(elsewhere) == 0 &&
	    secmalloc_is_secure(NULL) == 0 &&
	    secmalloc_is_secure(unknown((void *)(uintptr_t)1)) == 0 &&
	    secmalloc_is_secure(unknown((void *)UINTPTR_MAX)) == 0,
	    "nothing from elsewhere is");
	ok(errno == 4711, "to ask leaves errno alone");
	free(elsewhere);
}

static void
kept_errno(void)
{
	unsigned char *small = get(10), *large = get(3 * MIB);

	errno = 4711;
	secfree(small);
	ok(errno == 4711, "secfree keeps errno");
	secfree(large);
	ok(errno == 4711, "secfree keeps errno, also when a pool goes back");
	secfree(NULL);
	ok(errno == 4711, "secfree keeps errno, also when it does nothing");
}

static void
pools(void)
{
	enum { BURST = 20 * 4, PIECE = 256 * 1024 };
	static unsigned char *burst[BURST];
	struct secmalloc_stats before = stats(), full;
	void *p;

	for (size_t i = 0; i < BURST; i++)
		burst[i] = get(PIECE);
	full = stats();
	ok(full.locked_bytes >= 20 * MIB &&
	    full.locked_bytes - before.locked_bytes <= CEILING,
	    "a burst of 20 MiB is locked (%zu bytes)", full.locked_bytes);
	ok(full.pools - before.pools <= 12,
	    "pools double: the burst took %zu", full.pools - before.pools);
	ok(secmalloc_verify() == 0, "all of it is locked");
	for (size_t i = 0; i < BURST; i++)
		secfree(burst[i]);
	ok(stats().locked_bytes <= before.locked_bytes + MIB,
	    "pools go back after the burst (%zu bytes, then %zu)",
	    full.locked_bytes, stats().locked_bytes);
	ok(secmalloc_verify() == 0, "what is left is locked");

	/* One that is empty may be kept, but not of any size. */
	secmalloc_shutdown();
	start();
	before = stats();
	p = get(20 * MIB);
	secfree(p);
	ok(stats().locked_bytes <= before.locked_bytes + 16 * MIB,
	    "so does one that was made for a single object (%zu bytes left)",
	    stats().locked_bytes);
}

/* What can still be done when nothing more is to be had. */
static void
at_the_limit(void)
{
	enum { PIECE = 100 * 1024, MANY = 64 };
	static unsigned char *objects[MANY];
	struct secmalloc_config config;
	size_t n = 0, more = 0;
	void *p;

	test_config(&config, mode);
	config.max_locked = 2 * MIB;
	if (secmalloc_init(&config) == -1)
		bail_out("secmalloc_init: %s", strerror(errno));
	while (n < MANY && (objects[n] = secmalloc(PIECE)) != NULL)
		memset(objects[n++], 0xa5, PIECE);
	/* The rest, in ever smaller objects. */
	for (size_t size = PIECE; size > 0; size /= 2)
		while (secmalloc(size) != NULL)
			;
	errno = 0;
	ok(n > 1 && secmalloc(1) == NULL && errno == ENOMEM,
	    "memory can be used up to the last byte");
	if (n < 2)
		return;
	errno = 0;
	p = secrealloc(objects[0], PIECE + 1);
	ok(p != NULL || (errno == ENOMEM && all(objects[0], 0, PIECE, 0xa5)),
	    "an object that cannot grow stays as it was");
	for (size_t i = 1; i < n; i++) {
		p = secrealloc(objects[i], PIECE / 2);
		if (p == NULL || !all(p, 0, PIECE / 2, 0xa5))
			break;
		more++;
	}
	ok(more == n - 1, "an object can be halved when there is no other room");
	for (more = 0; secmalloc(PIECE / 4) != NULL; more++)
		;
	ok(more >= n - 1, "what was cut off can be had again");
	for (size_t size = PIECE; size > 0; size /= 2)
		while (secmalloc(size) != NULL)
			;
	objects[1] = secrealloc(objects[1], 100);
	ok(objects[1] != NULL && all(objects[1], 0, 100, 0xa5) &&
	    secmalloc_usable_size(objects[1]) == 100,
	    "an object can be made small when there is no other room");
	secmalloc_shutdown();
}

static void
own_limit(void)
{
	enum { PIECE = 256 * 1024, MANY = 64 };
	static unsigned char *objects[MANY];
	struct secmalloc_config config;
	size_t n = 0;

	secmalloc_shutdown();
	test_config(&config, mode);
	config.max_locked = 4 * MIB;
	if (secmalloc_init(&config) == -1)
		bail_out("secmalloc_init: %s", strerror(errno));
	errno = 0;
	while (n < MANY && (objects[n] = secmalloc(PIECE)) != NULL)
		n++;
	ok(n < MANY && errno == ENOMEM,
	    "max_locked is where allocation ends (after %zu KiB)",
	    n * PIECE / 1024);
	ok(n >= 8, "not before half of it is used");
	ok(stats().locked_bytes <= 4 * MIB, "no more than max_locked is locked");
	errno = 0;
	ok(secmalloc(5 * MIB) == NULL && errno == ENOMEM,
	    "an object larger than max_locked is refused");
	if (n == 0)
		return;
	memset(objects[0], 1, PIECE);
	secfree(objects[--n]);
	objects[n] = secmalloc(PIECE);
	ok(objects[n] != NULL, "what is freed at the limit can be had again");
	for (size_t i = 0; i <= n; i++)
		secfree(objects[i]);
	objects[0] = secmalloc(2 * MIB);
	ok(objects[0] != NULL, "also in another size");
	secmalloc_shutdown();
	at_the_limit();

	test_config(&config, mode);
	config.max_locked = MIB;
	config.pool_size = 2 * MIB;
	errno = 0;
	n = (size_t)secmalloc_init(&config);
	ok(n == (size_t)-1 && (errno == ENOMEM || errno == EINVAL) &&
	    stats().mode == -1,
	    "a first pool larger than max_locked is refused");
	secmalloc_shutdown();
	start();
}

/* The first pool is all there is: 256 KiB, or as many pages as that takes. */
static void
kept_spans(void)
{
	enum { OBJECTS = 16 };
	static unsigned char *objects[OBJECTS];
	struct secmalloc_config config;
	size_t unit, n = 0;
	void *p, *q;

	start();
	test_config(&config, mode);
	config.max_locked = stats().locked_bytes;
	secmalloc_shutdown();
	unit = config.max_locked / (256 * KIB);

	if (secmalloc_init(&config) == -1)
		bail_out("secmalloc_init: %s", strerror(errno));
	while (n < OBJECTS && (objects[n] = secmalloc(16000)) != NULL)
		n++;
	while (n > 0)
		secfree(objects[--n]);
	p = secmalloc(100000 * unit);
	ok(p != NULL, "spans kept for speed make room for what is asked");
	q = secmalloc(100);
	ok(q != NULL, "also for what is small");
	secfree(p);
	secfree(q);
	secmalloc_shutdown();

	if (secmalloc_init(&config) == -1)
		bail_out("secmalloc_init: %s", strerror(errno));
	for (size_t size = 1; size <= 16000; size += 37)
		secfree(get(size));
	p = secmalloc(150000 * unit);
	ok(p != NULL, "also where each size was used once");
	secfree(p);
	secmalloc_shutdown();
}

#if SIZE_MAX > UINT32_MAX /* elsewhere no size is so far beyond it */
/* KiB, the most there ever was. */
static long
resident(void)
{
	struct rusage usage;

	if (getrusage(RUSAGE_SELF, &usage) == -1)
		bail_out("getrusage: %s", strerror(errno));
	return usage.ru_maxrss;
}

/* Before anything else: what was once resident hides what is so later. */
static void
beyond_limit(void)
{
	long before, grown;
	void *p;

	start();
	before = resident();
	errno = 0;
	/* Within what there is of addresses, also while a tool watches. */
	p = secmalloc(number(96 * MIB));
	ok(p == NULL && errno == EDQUOT,
	    "a size beyond the policy's limit is refused");
	grown = resident() - before;
	ok(grown < 4 * 1024, "without touching memory (%ld KiB)", grown);
	secmalloc_shutdown();
}
#endif

static void
policy(void)
{
	enum { PIECE = 1024 * 1024, MANY = 80 };
	static unsigned char *objects[MANY];
	size_t n = 0;

	errno = 0;
	ok(secmalloc(CEILING + 1) == NULL && errno == EDQUOT,
	    "the helper's policy refuses an object larger than it");
	errno = 0;
	while (n < MANY && (objects[n] = secmalloc(PIECE)) != NULL) {
		memset(objects[n], 0xa5, PIECE);
		n++;
	}
	ok(n < MANY && errno == EDQUOT, "and many that are (after %zu MiB)", n);
	ok(n >= 48, "not before most of it is used");
	ok(stats().locked_bytes <= CEILING, "no more than policy is locked");
	ok(secmalloc_verify() == 0, "what was locked before stays locked");
	for (size_t i = 0; i < n; i++)
		if (!all(objects[i], 0, PIECE, 0xa5))
			bail_out("an object was changed");
	if (n > 0) {
		secfree(objects[n - 1]);
		objects[n - 1] = secmalloc(PIECE);
		ok(objects[n - 1] != NULL,
		    "what is freed there can be had again");
	}
	for (size_t i = 0; i < n; i++)
		secfree(objects[i]);
	objects[0] = secmalloc(20 * MIB);
	ok(objects[0] != NULL, "quota that is given back can be had again");
	secfree(objects[0]);
}

/* RLIMIT_MEMLOCK is 64 KiB. */
static void
limited(void)
{
	enum { PIECE = 1000, MANY = 100 };
	static unsigned char *objects[MANY];
	struct secmalloc_config config;
	size_t n = 0;

	start();
	ok(stats().mode == SECMALLOC_MODE_INPROCESS &&
	    stats().locked_bytes > 0 && stats().locked_bytes <= 64 * KIB,
	    "the first pool is as large as the limit leaves room for");
	errno = 0;
	while (n < MANY && (objects[n] = secmalloc(PIECE)) != NULL)
		n++;
	ok(n < MANY && errno == EAGAIN,
	    "the limit is where allocation ends (after %zu bytes)", n * PIECE);
	ok(n >= 16, "not before a quarter of it is used");
	ok(secmalloc_verify() == 0, "what was had is locked");
	errno = 0;
	ok(secmalloc(MIB) == NULL && errno == EAGAIN,
	    "an object larger than the limit is refused");
	if (n > 0) {
		secfree(objects[--n]);
		objects[n] = secmalloc(PIECE);
		ok(objects[n] != NULL, "what is freed can be had again");
	}
	secmalloc_shutdown();

	test_config(&config, mode);
	config.pool_size = MIB;
	errno = 0;
	ok(secmalloc_init(&config) == -1 && errno == EAGAIN &&
	    stats().locked_bytes == 0,
	    "a pool that was asked for and exceeds the limit is refused");
}

/* Nothing may be locked. */
static void
refused(void)
{
	struct secmalloc_config config;
	void *p;

	test_config(&config, SECMALLOC_MODE_INPROCESS);
	errno = 0;
	ok(secmalloc_init(&config) == -1 && errno == EPERM,
	    "who may not lock is refused at the start");
	ok(stats().mode == -1 && stats().locked_bytes == 0,
	    "nothing is kept then");
	errno = 0;
	p = secmalloc(1);
	ok(p == NULL && errno == EPERM, "and at every allocation");
	errno = 0;
	ok(secmalloc_lock_fd() == -1 && errno == EPERM,
	    "no descriptor is to be had then");
	test_config(&config, SECMALLOC_MODE_AUTO);
	config.helper_path = "/nonexistent/secmalloc-helper";
	errno = 0;
	ok(secmalloc_init(&config) == -1 && errno == EPERM,
	    "also where there might have been a helper");
	errno = 0;
	p = secstrdup("a secret");
	ok(p == NULL && errno == EPERM, "a string is not copied either");
	errno = 0;
	p = secrealloc(NULL, 10);
	ok(p == NULL && errno == EPERM, "nor is anything resized");
}

int
main(int argc, char **argv)
{
	const char *allowed = argc == 2 ? argv[1] : "";

	mode = SECMALLOC_MODE_INPROCESS;
	if (strcmp(allowed, "helper") == 0)
		mode = SECMALLOC_MODE_HELPER;
	else if (strcmp(allowed, "inprocess") != 0 &&
	    strcmp(allowed, "limited") != 0 && strcmp(allowed, "refused") != 0)
		bail_out("usage: api helper|inprocess|limited|refused");

	ok(SECMALLOC_VERSION == 0x010000 && SECMALLOC_VERSION_MAJOR == 1 &&
	    SECMALLOC_VERSION_MINOR == 0 && SECMALLOC_VERSION_PATCH == 0 &&
	    strcmp(SECMALLOC_VERSION_STRING, PACKAGE_VERSION) == 0,
	    "the header says which version this is");
	before_a_start();
	bad_configurations();
	if (strcmp(allowed, "refused") == 0)
		refused();
	else if (strcmp(allowed, "limited") == 0)
		limited();
	else {
#if SIZE_MAX > UINT32_MAX
		if (mode == SECMALLOC_MODE_HELPER)
			beyond_limit();
#endif
		kept_spans();
		starts();
		start();
		fresh();
		alignments();
		empty_objects();
		resizes();
		too_large();
		strings();
		sizes();
		whose();
		kept_errno();
		pools();
		own_limit();
		if (mode == SECMALLOC_MODE_HELPER)
			policy();
		ok(stats().objects == 0, "nothing is left at the end");
		secmalloc_shutdown();
	}
	return done_testing();
}
