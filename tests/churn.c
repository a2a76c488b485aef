/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * churn.c: random allocations, resizes and frees by several threads, each
 * object held against a model of what it must contain; it knows nothing of how
 * memory is laid out.
 *
 * churn helper|inprocess [OPERATIONS [SEED [THREADS]]]
 *
 * Each thread draws the same numbers for the same seed, but since threads hand
 * objects to each other, two runs are alike, not equal.  A single thread also
 * looks at what it has freed, which nobody else can have got meanwhile.  Exit
 * status: 0 if the model was right to the end, 1 if not.
 */
#include "config.h"

#include <sys/types.h>

#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

#include "harness.h"

#define KIB ((size_t)1024)
#define MIB (1024 * KIB)

enum {
	OBJECTS = 1024,   /* of one thread */
	EXCHANGE = 64,    /* objects on their way between threads */
	THREADS_MAX = 64,
	SMALL = 4096,     /* checked in full up to here */
	CANARY = 8        /* bytes behind an object */
};

/* Live bytes of all threads together. */
#define LIVE_MAX (24 * MIB)

struct object {
	unsigned char *at;
	size_t size;
	/* What it was filled with; see pattern(). */
	uint64_t seed;
};

struct thread {
	pthread_t id;
	uint64_t random;
	uint64_t operations;
	uint64_t refused;
	uint64_t large; /* allocations of a megabyte and more */
	struct object objects[OBJECTS];
};

static atomic_size_t live;
static pthread_mutex_t exchange_lock = PTHREAD_MUTEX_INITIALIZER;
static struct object exchange[EXCHANGE];

/* splitmix64, public domain, by Sebastiano Vigna. */
static uint64_t
draw(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static size_t
draw_below(uint64_t *state, size_t bound)
{
	return (size_t)(draw(state) % bound);
}

/*
 * 0 to 8 MiB, each power of two as likely as the next within a range, and the
 * larger ranges rare: half a megabyte on average would take hours to fill.
 */
static size_t
draw_size(uint64_t *state)
{
	size_t which = draw_below(state, 1024);
	unsigned bits = which == 0 ? 24 : which < 32 ? 17 : 13;
	size_t size;

	bits = (unsigned)draw_below(state, bits);
	size = bits == 0 ? 0 : (size_t)1 << (bits - 1);
	return size + draw_below(state, size + 1);
}

__attribute__((format(printf, 1, 2), noreturn)) static void
wrong(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	harness_line("churn: ", fmt, ap);
	va_end(ap);
	_exit(1);
}

/* The word at WORD of what an object is filled with. */
static inline uint64_t
pattern(uint64_t seed, size_t word)
{
	return (seed + word) * 0x9e3779b97f4a7c15u;
}

static void
fill(const struct object *o)
{
	size_t words = o->size / 8, rest = o->size % 8;

	for (size_t i = 0; i < words; i++) {
		uint64_t word = pattern(o->seed, i);

		memcpy(o->at + 8 * i, &word, 8);
	}
	if (rest != 0) {
		uint64_t word = pattern(o->seed, words);

		memcpy(o->at + 8 * words, &word, rest);
	}
}

/* Whether words FROM to TO of O are as they were filled, or zero. */
static void
check_words(const struct object *o, size_t from, size_t to, bool zero)
{
	for (size_t i = from; i < to; i++) {
		uint64_t want = zero ? 0 : pattern(o->seed, i), word = want;
		size_t rest = o->size - 8 * i;

		memcpy(&word, o->at + 8 * i, rest < 8 ? rest : 8);
		if (rest < 8) {
			/* Only so many bytes of the word are there. */
			if (memcmp(&word, &want, rest) != 0)
				word = ~want;
			else
				word = want;
		}
		if (word != want)
			wrong("an object of %zu bytes has %#" PRIx64
			    " at %zu, not %#" PRIx64, o->size, word, 8 * i,
			    want);
	}
}

/* Small objects in full; of others both ends, and samples between them. */
static void
check(const struct object *o, size_t size, bool zero, uint64_t *random)
{
	struct object view = {o->at, size, o->seed};
	size_t words = (size + 7) / 8;

	if (size <= SMALL) {
		check_words(&view, 0, words, zero);
		return;
	}
	check_words(&view, 0, 32, zero);
	check_words(&view, words - 32, words, zero);
	for (unsigned i = 0; i < 64; i++) {
		size_t at = draw_below(random, words);

		check_words(&view, at, at + 1, zero);
	}
}

/* /proc/self/mem, or -1: nothing is looked at. */
static int mem = -1;
static uint64_t looks;

/* One in so many, of what is freed, moved or cut. */
static bool
looks_at(uint64_t *random)
{
	return mem != -1 && draw_below(random, 64) == 0;
}

/* Keeps the compiler from knowing that nothing should be there any more. */
static uintptr_t
address_of(const void *ptr)
{
	uintptr_t address = (uintptr_t)ptr;

	__asm__ volatile ("" : "+r" (address) : : "memory");
	return address;
}

/*
 * Bytes FROM to TO of what is or was at ADDRESS that are not zero, past every
 * protection of pages; what is not mapped counts as zero.
 */
static size_t
count_bytes(uintptr_t address, size_t from, size_t to)
{
	static unsigned char bytes[65536];
	size_t page = (size_t)sysconf(_SC_PAGESIZE), count = 0, n;

	looks++;
	for (size_t at = from; at < to; at += n) {
		ssize_t got;

		n = to - at < sizeof(bytes) ? to - at : sizeof(bytes);
		got = pread(mem, bytes, n, (off_t)(address + at));
		if (got == -1 && errno == EIO) {
			n = page - (size_t)(address + at) % page;
			continue;
		}
		if (got <= 0)
			wrong("/proc/self/mem: %s", strerror(errno));
		n = (size_t)got;
		for (size_t i = 0; i < n; i++)
			count += bytes[i] != 0;
	}
	return count;
}

/* The control: the same finds what malloc() leaves. */
static void
look_at_malloc(void)
{
	enum { SIZE = 2000 };
	struct object o = { malloc(SIZE), SIZE, 1 };
	unsigned char *pin = malloc(SIZE);
	uintptr_t was = address_of(o.at);

	if (o.at == NULL || pin == NULL)
		wrong("no memory");
	fill(&o);
	free(o.at);
	if (count_bytes(was, 0, SIZE) < SIZE / 2)
		wrong("what malloc leaves behind is not found");
	free(pin);
}

/* Whether SIZE more bytes may live; if so they are taken. */
static bool
take(size_t size)
{
	if (atomic_fetch_add(&live, size) + size <= LIVE_MAX)
		return true;
	atomic_fetch_sub(&live, size);
	return false;
}

static void
refused(struct thread *t)
{
	if (errno != ENOMEM && errno != EDQUOT)
		wrong("refused for another reason: %s", strerror(errno));
	t->refused++;
}

/* A string of SIZE - 1 bytes, copied by the library. */
static char *
duplicate(struct thread *t, size_t size)
{
	char string[SMALL + 8], *copy;
	size_t length = size - 1, more = draw_below(&t->random, 8);
	uint64_t letter = draw(&t->random);

	memset(string, 'a' + (int)(letter % 26), length + more);
	string[length + more] = '\0';
	if (more == 0)
		copy = secstrdup(string);
	else
		copy = secstrndup(string, length);
	string[length] = '\0';
	if (copy != NULL && memcmp(copy, string, size) != 0)
		wrong("a copy of a string of %zu bytes differs", length);
	return copy;
}

static void
allocate(struct thread *t, struct object *o)
{
	size_t size = draw_size(&t->random), alignment = 16;
	size_t verb = draw_below(&t->random, 8);
	bool zero = true;
	void *p;

	if (!take(size))
		return;
	switch (verb) {
	case 0:
		p = seccalloc(size, 1);
		break;
	case 1:
		alignment = (size_t)1 << draw_below(&t->random, 13);
		p = secaligned_alloc(alignment, size);
		break;
	case 2:
		p = secrealloc(NULL, size);
		break;
	case 3:
		if (size > 0 && size <= SMALL) {
			p = duplicate(t, size);
			zero = false;
			break;
		}
		/* FALLTHROUGH */
	default:
		p = secmalloc(size);
		break;
	}
	if (p == NULL) {
		refused(t);
		atomic_fetch_sub(&live, size);
		return;
	}
	if ((uintptr_t)p % alignment != 0 || (uintptr_t)p % 16 != 0)
		wrong("%p is not aligned to %zu", p, alignment);
	t->large += size >= MIB;
	*o = (struct object){p, size, draw(&t->random)};
	if (zero)
		check(o, size, true, &t->random);
	fill(o);
}

static void
release(struct thread *t, struct object *o)
{
	uintptr_t was = address_of(o->at);

	if (was == 0)
		return;
	check(o, o->size, false, &t->random);
	if (draw_below(&t->random, 16) != 0)
		secfree(o->at);
	else if (secrealloc(o->at, 0) != NULL)
		wrong("secrealloc(p, 0) returned something");
	if (looks_at(&t->random) && count_bytes(was, 0, o->size) != 0)
		wrong("%zu bytes that were freed are not zero", o->size);
	atomic_fetch_sub(&live, o->size);
	o->at = NULL;
}

static void
resize(struct thread *t, struct object *o)
{
	size_t size = draw_size(&t->random), old = o->size;
	uintptr_t was = address_of(o->at);
	struct object now;
	void *p;

	/* Half of them to about the same size. */
	if (draw_below(&t->random, 2) == 0)
		size = old - old / 4 + draw_below(&t->random, old / 2 + 16);
	/* To 0 would free; that is release()'s. */
	size += size == 0;
	/* Both may be there at once. */
	if (!take(size))
		return;
	p = secrealloc(o->at, size);
	if (p == NULL) {
		refused(t);
		atomic_fetch_sub(&live, size);
		check(o, old, false, &t->random);
		return;
	}
	atomic_fetch_sub(&live, old);
	/* Where it stays, a canary follows. */
	if (looks_at(&t->random) && ((uintptr_t)p != was ?
	    count_bytes(was, 0, old) : size + CANARY < old ?
	    count_bytes(was, size + CANARY, old) : 0) != 0)
		wrong("%zu bytes that became %zu left some behind", old, size);
	now = (struct object){p, size, o->seed};
	/* The last word that was kept may be cut, so what was gained starts
	 * at a whole one. */
	check(&now, old < size ? old : size, false, &t->random);
	for (size_t i = old; i < size && i % 8 != 0; i++)
		if (now.at[i] != 0)
			wrong("a byte that was gained is not zero");
	if (size > (old + 7) / 8 * 8) {
		struct object gained = {now.at + (old + 7) / 8 * 8,
		    size - (old + 7) / 8 * 8, 0};

		check(&gained, gained.size, true, &t->random);
	}
	*o = now;
	fill(o);
}

static void
ask(struct thread *t, const struct object *o)
{
	if (secmalloc_usable_size(o->at) != o->size)
		wrong("an object of %zu bytes claims %zu", o->size,
		    secmalloc_usable_size(o->at));
	if (!secmalloc_is_secure(o->at) || (o->size > 0 &&
	    !secmalloc_is_secure(o->at + draw_below(&t->random, o->size))))
		wrong("an object is said not to be secure");
}

/* Gives O to whoever comes next, and takes what somebody left there. */
static void
swap(struct thread *t, struct object *o)
{
	size_t at = draw_below(&t->random, EXCHANGE);
	struct object taken;

	pthread_mutex_lock(&exchange_lock);
	taken = exchange[at];
	exchange[at] = *o;
	pthread_mutex_unlock(&exchange_lock);
	*o = taken;
}

static void *
churn(void *argument)
{
	struct thread *t = argument;

	for (uint64_t i = 0; i < t->operations; i++) {
		struct object *o =
		    &t->objects[draw_below(&t->random, OBJECTS)];
		size_t what = draw_below(&t->random, 16);

		if (what == 0)
			swap(t, o);
		else if (o->at == NULL)
			allocate(t, o);
		else if (what <= 4)
			resize(t, o);
		else if (what <= 6)
			ask(t, o);
		else
			release(t, o);
	}
	for (size_t i = 0; i < OBJECTS; i++)
		release(t, &t->objects[i]);
	return NULL;
}

static uint64_t
argument(const char *text)
{
	char *end;
	unsigned long long value = strtoull(text, &end, 10);

	if (*end != '\0' || end == text || *text == '-')
		bail_out("not a number: %s", text);
	return value;
}

int
main(int argc, char **argv)
{
	uint64_t operations = argc > 2 ? argument(argv[2]) : 10000000;
	uint64_t seed = argc > 3 ? argument(argv[3]) : 1;
	uint64_t threads = argc > 4 ? argument(argv[4]) : 4;
	static struct thread all[THREADS_MAX];
	struct secmalloc_config config;
	struct secmalloc_stats stats;
	struct timespec from, to;
	uint64_t refusals = 0, large = 0;
	double seconds;

	if (argc < 2 || argc > 5 || threads < 1 || threads > THREADS_MAX ||
	    (strcmp(argv[1], "helper") != 0 &&
	    strcmp(argv[1], "inprocess") != 0))
		bail_out("usage: churn helper|inprocess "
		    "[OPERATIONS [SEED [THREADS]]]");
	test_config(&config, strcmp(argv[1], "helper") == 0 ?
	    SECMALLOC_MODE_HELPER : SECMALLOC_MODE_INPROCESS);
	if (secmalloc_init(&config) == -1)
		wrong("secmalloc_init: %s", strerror(errno));
	if (threads == 1) {
		mem = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
		if (mem == -1)
			wrong("/proc/self/mem: %s", strerror(errno));
		look_at_malloc();
	}

	clock_gettime(CLOCK_MONOTONIC, &from);
	for (size_t i = 0; i < threads; i++) {
		all[i].random = seed * THREADS_MAX + i;
		all[i].operations = operations / threads;
		if (pthread_create(&all[i].id, NULL, churn, &all[i]) != 0)
			wrong("no thread");
	}
	for (size_t i = 0; i < threads; i++) {
		pthread_join(all[i].id, NULL);
		refusals += all[i].refused;
		large += all[i].large;
	}
	clock_gettime(CLOCK_MONOTONIC, &to);
	for (size_t i = 0; i < EXCHANGE; i++)
		release(&all[0], &exchange[i]);

	seconds = (double)(to.tv_sec - from.tv_sec) +
	    (double)(to.tv_nsec - from.tv_nsec) / 1e9;
	printf("churn: %" PRIu64 " operations by %" PRIu64 " threads, seed %"
	    PRIu64 ": %.0f a second, %" PRIu64 " refused, %" PRIu64
	    " objects of 1 MiB to 8\n", operations, threads, seed,
	    (double)operations / seconds, refusals, large);
	fflush(stdout);
	if (refusals > operations / 100)
		wrong("more than one in a hundred was refused");
	if (threads == 1 && looks < operations / 500)
		wrong("too few looks at what was freed: %" PRIu64, looks);
	if (large < operations / 200000)
		wrong("too few large objects to prove anything");
	if (secmalloc_stats(&stats) == -1 || stats.objects != 0 ||
	    stats.object_bytes != 0)
		wrong("%zu objects and %zu bytes are left", stats.objects,
		    stats.object_bytes);
	if (secmalloc_verify() == -1)
		wrong("what is left is not locked: %s", strerror(errno));
	printf("churn: %zu pools of %zu bytes are left\n", stats.pools,
	    stats.locked_bytes);
	return 0;
}
