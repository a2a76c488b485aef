/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * wipe.c: what is left at an address after its object was freed, moved or cut,
 * as /proc/self/mem shows it, past every protection of pages; it knows nothing
 * of how memory is wiped.
 *
 * argv[1] is "helper" or "inprocess".
 */
#include "config.h"

#include <sys/types.h>

#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>

#include "harness.h"

enum {
	PAGE_RUN = 100 * 1000,
	LARGE = 3 * 1024 * 1024,
	CANARY = 8, /* bytes behind an object */
	/*
	 * So many bytes of the secret in a row are a remnant.  A canary, which
	 * is random, may show that many once in 2^32.
	 */
	REMNANT = 4
};

static int mem = -1, pagemap = -1;
/* How often secrealloc() has moved an object. */
static unsigned moves;

/* Where an object is or was, out of the compiler's sight. */
static uintptr_t
address_of(const void *ptr)
{
	uintptr_t address = (uintptr_t)ptr;

	__asm__ volatile ("" : "+r" (address));
	return address;
}

/* The secret's byte I: no zero, and no two places alike for long. */
static unsigned char
secret(size_t i)
{
	uint64_t word = (i / 8 + 1) * 0x9e3779b97f4a7c15u;

	return (unsigned char)(word >> (56 - 8 * (i % 8))) | 1;
}

/* Stores that are seen by somebody, for all that the compiler knows. */
static void
write_secret(void *ptr, size_t from, size_t to)
{
	unsigned char *p = ptr;

	for (size_t i = from; i < to; i++)
		p[i] = secret(i);
	__asm__ volatile ("" : : "r" (ptr) : "memory");
}

static bool
holds_secret(const void *ptr, size_t size)
{
	const unsigned char *p = ptr;

	for (size_t i = 0; i < size; i++)
		if (p[i] != secret(i))
			return false;
	return true;
}

static bool
holds_zeros(const void *ptr, size_t from, size_t to)
{
	const unsigned char *p = ptr;

	for (size_t i = from; i < to; i++)
		if (p[i] != 0)
			return false;
	return true;
}

enum found { ALL_ZERO, UNMAPPED, THE_SECRET, A_REMNANT, SOMETHING_ELSE };

static const char *const found_names[] = {
	"all zero", "unmapped", "the secret", "a remnant", "something else"
};

/*
 * Whether there is memory at ADDRESS.  Addresses may stay reserved when what
 * was there is gone, and then /proc/self/mem reads zeroes.
 */
static bool
is_present(uintptr_t address)
{
	const uint64_t present_or_swapped = (uint64_t)3 << 62;
	uintptr_t page = address / (uintptr_t)sysconf(_SC_PAGESIZE);
	uint64_t entry;

	if (pread(pagemap, &entry, sizeof(entry),
	    (off_t)(page * sizeof(entry))) != sizeof(entry))
		bail_out("/proc/self/pagemap: %s", strerror(errno));
	return (entry & present_or_swapped) != 0;
}

/* What is at ADDRESS now, where the secret's bytes FROM to TO were. */
static enum found
look(uintptr_t address, size_t from, size_t to)
{
	static unsigned char bytes[65536];
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t zeros = 0, whole = 0, row = 0, unmapped = 0;
	bool remnant = false;

	for (size_t at = from, n; at < to; at += n) {
		ssize_t got;

		n = page - (size_t)(address + at) % page;
		n = to - at < n ? to - at : n;
		got = is_present(address + at) ?
		    pread(mem, bytes, n, (off_t)(address + at)) : -1;
		if (got == -1 && (errno == EIO || !is_present(address + at))) {
			unmapped += n;
			row = 0;
			continue;
		}
		if (got <= 0)
			bail_out("/proc/self/mem: %s", strerror(errno));
		n = (size_t)got;
		for (size_t i = 0; i < n; i++) {
			zeros += bytes[i] == 0;
			whole += bytes[i] == secret(at + i);
			row = bytes[i] == secret(at + i) ? row + 1 : 0;
			remnant |= row >= REMNANT;
		}
	}
	if (whole == to - from)
		return THE_SECRET;
	if (remnant)
		return A_REMNANT;
	if (unmapped == to - from)
		return UNMAPPED;
	return zeros + unmapped == to - from ? ALL_ZERO : SOMETHING_ELSE;
}

static void *
get(size_t size)
{
	void *p = secmalloc(size);

	if (p == NULL)
		bail_out("secmalloc(%zu): %s", size, strerror(errno));
	return p;
}

static void *
get_secret(size_t size)
{
	void *p = get(size);

	write_secret(p, 0, size);
	return p;
}

static void
control_malloc(void)
{
	enum { SIZE = 512 };
	/* malloc() writes its own lists at the start of what is freed. */
	const size_t skipped = 64;
	void *p = malloc(SIZE), *pin = malloc(SIZE);
	uintptr_t was = address_of(p);
	enum found found;

	if (p == NULL || pin == NULL)
		bail_out("malloc");
	write_secret(p, 0, SIZE);
	free(p);
	found = look(was, skipped, SIZE);
	ok(found == THE_SECRET || found == A_REMNANT,
	    "control: malloc leaves the secret behind (%s)",
	    found_names[found]);
	free(pin);
}

static void
control_live(void)
{
	void *small = get_secret(512), *large = get_secret(LARGE);
	enum found found = look(address_of(small), 0, 512);

	ok(found == THE_SECRET, "control: a live object shows it (%s)",
	    found_names[found]);
	found = look(address_of(large), 0, LARGE);
	ok(found == THE_SECRET, "control: a large live object shows it (%s)",
	    found_names[found]);
	secfree(small);
	secfree(large);
}

static void
freed(void)
{
	static const size_t sizes[] = {
		1, 2, 7, 8, 15, 16, 17, 24, 31, 32, 33, 48, 63, 64, 65, 100,
		127, 128, 129, 255, 256, 257, 500, 511, 512, 513, 1000, 1023,
		1024, 1025, 2000, 2048, 2049, 4000, 4095, 4096, 4097, 8191,
		8192, 8193, 16384, 16385, 32768, 65535, 65536, PAGE_RUN, LARGE
	};
	unsigned bad = 0;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		/* Alone, and among others that keep its pool alive. */
		for (int pinned = 0; pinned < 2; pinned++) {
			void *before = pinned ? get(sizes[i]) : NULL;
			void *p = get_secret(sizes[i]);
			void *after = pinned ? get(sizes[i]) : NULL;
			uintptr_t was = address_of(p);
			enum found found;

			secfree(p);
			found = look(was, 0, sizes[i]);
			if (found != ALL_ZERO && found != UNMAPPED) {
				diag("%zu bytes%s: %s", sizes[i],
				    pinned ? " among others" : "",
				    found_names[found]);
				bad++;
			}
			secfree(before);
			secfree(after);
		}
	}
	ok(bad == 0, "what is freed is zero at once, whatever its size");
}

/* Not wiped, or so it seems; 1 if so. */
static unsigned
is_left(const char *how, uintptr_t was, size_t size)
{
	enum found found = look(was, 0, size);

	if (found == ALL_ZERO || found == UNMAPPED)
		return 0;
	diag("%zu bytes %s: %s", size, how, found_names[found]);
	return 1;
}

static void
freed_every_size(void)
{
	unsigned bad = 0;

	for (size_t size = 1; size <= 4200; size++) {
		void *p = get_secret(size);
		uintptr_t was = address_of(p);

		secfree(p);
		bad += is_left("that were freed", was, size);
	}
	ok(bad == 0, "at every size up to 4200");
}

static void
freed_aligned(void)
{
	unsigned bad = 0;

	for (size_t alignment = 32; alignment <= 65536; alignment *= 2)
		for (size_t size = 24; size < 200000; size *= 5) {
			void *p = secaligned_alloc(alignment, size);
			uintptr_t was = address_of(p);

			if (p == NULL)
				bail_out("secaligned_alloc: %s",
				    strerror(errno));
			write_secret(p, 0, size);
			secfree(p);
			bad += is_left("with an alignment", was, size);
		}
	ok(bad == 0, "and at every alignment");
}

static void *
free_all(void *objects)
{
	for (void **p = objects; *p != NULL; p++)
		secfree(*p);
	return NULL;
}

/* Looked at when the thread has ended: what it kept, if it does, is here. */
static void
freed_by_threads(void)
{
	enum { OBJECTS = 500 };
	void *objects[OBJECTS + 1];
	uintptr_t was[OBJECTS];
	pthread_t thread;
	unsigned bad = 0;

	for (size_t i = 0; i < OBJECTS; i++) {
		objects[i] = get_secret(1 + i * 7);
		was[i] = address_of(objects[i]);
	}
	objects[OBJECTS] = NULL;
	if (pthread_create(&thread, NULL, free_all, objects) != 0 ||
	    pthread_join(thread, NULL) != 0)
		bail_out("no thread");
	for (size_t i = 0; i < OBJECTS; i++)
		bad += is_left("that a thread freed", was[i], 1 + i * 7);
	ok(bad == 0, "and when a thread freed it that has ended since");
}

static void
freed_many(void)
{
	enum { MANY = 2000, SIZE = 200 };
	static void *objects[MANY];
	static uintptr_t was[MANY];
	unsigned bad = 0;

	for (size_t i = 0; i < MANY; i++) {
		objects[i] = get_secret(SIZE);
		was[i] = address_of(objects[i]);
	}
	for (size_t i = 0; i < MANY; i += 2)
		secfree(objects[i]);
	for (size_t i = 0; i < MANY; i++) {
		enum found found = look(was[i], 0, SIZE);

		bad += i % 2 == 1 ? found != THE_SECRET :
		    found != ALL_ZERO && found != UNMAPPED;
	}
	ok(bad == 0, "of many objects just the freed ones are wiped");
	for (size_t i = 1; i < MANY; i += 2)
		secfree(objects[i]);
	bad = 0;
	for (size_t i = 0; i < MANY; i++) {
		enum found found = look(was[i], 0, SIZE);

		bad += found != ALL_ZERO && found != UNMAPPED;
	}
	ok(bad == 0, "and then all");
}

static void
obtained_again(void)
{
	enum { ROUNDS = 3000 };
	static void *kept[16];
	unsigned bad = 0;

	for (size_t round = 0; round < ROUNDS; round++) {
		size_t slot = round % 16, size = 1 + round * 7919 % 3000;

		secfree(kept[slot]);
		kept[slot] = get(size);
		bad += !holds_zeros(kept[slot], 0, size);
		write_secret(kept[slot], 0, size);
	}
	for (size_t i = 0; i < 16; i++)
		secfree(kept[i]);
	ok(bad == 0, "what is obtained again is zero");
}

static void
cut(size_t size, size_t rest)
{
	unsigned char *p = get_secret(size), *q;
	uintptr_t was = address_of(p);
	enum found found;

	q = secrealloc(p, rest);
	if (q == NULL)
		bail_out("secrealloc: %s", strerror(errno));
	ok(holds_secret(q, rest), "%zu bytes cut to %zu keep those", size,
	    rest);
	found = look(was, rest, size);
	ok(found != THE_SECRET && found != A_REMNANT,
	    "%zu bytes cut to %zu leave no remnant (%s)", size, rest,
	    found_names[found]);
	if (address_of(q) != was) {
		found = look(was, 0, rest);
		ok(found == ALL_ZERO || found == UNMAPPED,
		    "nor where they were before (%s)", found_names[found]);
	} else if (rest + CANARY < size) {
		found = look(was, rest + CANARY, size);
		ok(found == ALL_ZERO || found == UNMAPPED,
		    "but zeros, behind the canary (%s)", found_names[found]);
	}
	/* What was given up must not come back. */
	q = secrealloc(q, size);
	if (q == NULL)
		bail_out("secrealloc: %s", strerror(errno));
	ok(holds_secret(q, rest) && holds_zeros(q, rest, size),
	    "%zu bytes cut to %zu and grown again gain zeros", size, rest);
	secfree(q);
}

static void
moved(size_t size, size_t larger)
{
	void *p = get_secret(size), *pin = get(size), *q;
	uintptr_t was = address_of(p);
	enum found found;

	q = secrealloc(p, larger);
	if (q == NULL)
		bail_out("secrealloc: %s", strerror(errno));
	ok(holds_secret(q, size) && holds_zeros(q, size, larger),
	    "%zu bytes grown to %zu are kept, and gain zeros", size, larger);
	if (address_of(q) != was) {
		moves++;
		found = look(was, 0, size);
		ok(found == ALL_ZERO || found == UNMAPPED,
		    "and left nothing behind when they moved (%s)",
		    found_names[found]);
	}
	secfree(pin);
	secfree(q);
}

static void
given_up(void)
{
	void *p = get_secret(300);
	uintptr_t was = address_of(p);
	enum found found;

	ok(secrealloc(p, 0) == NULL && ((found = look(was, 0, 300)),
	    found == ALL_ZERO || found == UNMAPPED),
	    "secrealloc(p, 0) wipes");
}

static void
pools_that_went_back(void)
{
	enum { BURST = 8 };
	struct secmalloc_stats full, empty;
	void *burst[BURST];
	uintptr_t was[BURST];
	unsigned unmapped = 0, bad = 0;

	for (size_t i = 0; i < BURST; i++) {
		burst[i] = get_secret(LARGE);
		was[i] = address_of(burst[i]);
	}
	(void)secmalloc_stats(&full);
	for (size_t i = 0; i < BURST; i++)
		secfree(burst[i]);
	(void)secmalloc_stats(&empty);
	/* One that is empty may be kept for what comes next. */
	ok(full.locked_bytes >= (size_t)BURST * LARGE &&
	    empty.locked_bytes < 2 * LARGE,
	    "pools go back (%zu bytes, then %zu)", full.locked_bytes,
	    empty.locked_bytes);
	for (size_t i = 0; i < BURST; i++) {
		enum found found = look(was[i], 0, LARGE);

		unmapped += found == UNMAPPED;
		bad += found != UNMAPPED && found != ALL_ZERO;
	}
	ok(unmapped >= BURST - 1, "what went back is not mapped any more "
	    "(%u of %d)", unmapped, BURST);
	ok(bad == 0, "and nothing is left there or in what was kept");
}

static void
shut_down(void)
{
	void *small = get_secret(100), *large = get_secret(LARGE);
	uintptr_t small_was = address_of(small), large_was = address_of(large);
	enum found found;

	secmalloc_shutdown();
	found = look(small_was, 0, 100);
	ok(found == UNMAPPED || found == ALL_ZERO,
	    "a shutdown leaves nothing of a small object (%s)",
	    found_names[found]);
	found = look(large_was, 0, LARGE);
	ok(found == UNMAPPED || found == ALL_ZERO,
	    "a shutdown leaves nothing of a large object (%s)",
	    found_names[found]);
}

int
main(int argc, char **argv)
{
	struct secmalloc_config config;

	if (argc != 2 || (strcmp(argv[1], "helper") != 0 &&
	    strcmp(argv[1], "inprocess") != 0))
		bail_out("usage: wipe helper|inprocess");
	mem = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
	pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (pagemap == -1)
		bail_out("/proc/self/pagemap: %s", strerror(errno));
	if (mem == -1)
		bail_out("/proc/self/mem: %s", strerror(errno));
	control_malloc();
	test_config(&config, strcmp(argv[1], "helper") == 0 ?
	    SECMALLOC_MODE_HELPER : SECMALLOC_MODE_INPROCESS);
	if (secmalloc_init(&config) == -1)
		bail_out("secmalloc_init: %s", strerror(errno));
	control_live();
	freed();
	freed_every_size();
	freed_aligned();
	freed_by_threads();
	freed_many();
	obtained_again();
	cut(1000, 10);
	cut(64, 60);
	cut(200, 190);
	cut(PAGE_RUN, 100);
	cut(PAGE_RUN, PAGE_RUN / 2);
	cut(LARGE, LARGE / 2 + 1);
	cut(LARGE, 1);
	moved(24, 1000);
	moved(1000, PAGE_RUN);
	moved(PAGE_RUN, LARGE);
	moved(LARGE, 2 * LARGE);
	ok(moves >= 2, "control: objects did move");
	given_up();
	pools_that_went_back();
	shut_down();
	return done_testing();
}
