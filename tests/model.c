/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * model.c: random lists of calls by one thread, each call held against a model
 * of what must come of it; a list that fails is cut down to what fails still.
 * It knows nothing of how memory is laid out.
 *
 * model helper|inprocess SECONDS [SEED]    lists of SEED, SEED + 1, ...
 * model helper|inprocess planted           the model is made wrong on purpose
 *
 * A list is run in a child, which starts the library for itself.  The same
 * seed makes the same list.  Exit status: 0 if the model was right, and for
 * "planted", if that was found and cut down; else 1.
 */
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/wait.h>

#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <time.h>

#include "harness.h"

#define KIB ((size_t)1024)
#define MIB (1024 * KIB)

enum {
	CALLS_MAX = 20000,
	OBJECTS_MAX = 256,
	/* After so many calls every object is looked at. */
	REVIEW = 1000,
	/* A list takes no longer, in seconds. */
	PATIENCE = 60
};

/* The most that is live at once, and the largest object. */
#define LIVE_MAX (16 * MIB)
#define SIZE_MAX_HERE (3 * MIB)

enum verb {
	MALLOC, CALLOC, ALIGNED, STRDUP, REALLOC, REALLOCARRAY, FREE,
	ASK, REFUSED, SHUTDOWN
};

/*
 * Any call can be left out of a list: one that finds no object where it needs
 * one, or one where it needs none, does nothing.
 */
struct call {
	enum verb verb;
	uint16_t object;
	size_t size;
	size_t extra; /* an alignment, or a number of members */
};

struct object {
	unsigned char *at;
	size_t size;
	uint32_t fill;
	/* Asked for an alignment beyond the usual, and resized since then. */
	bool aligned, resized;
};

/* What a child says of its end; shared with it. */
struct verdict {
	size_t call; /* the one that it came to */
	char why[256];
};

static int mode;
static bool planted;
static struct verdict *verdict;

/* --- In the child: the model --- */

static struct object objects[OBJECTS_MAX];
static size_t live_objects, live_bytes;
static uint32_t fills;

__attribute__((format(printf, 1, 2), noreturn)) static void
wrong(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(verdict->why, sizeof(verdict->why), fmt, ap);
	va_end(ap);
	_exit(1);
}

/* Keeps the compiler from knowing what it could of pointers and sizes. */
static uintptr_t
launder(uintptr_t value)
{
	__asm__ volatile ("" : "+r" (value));
	return value;
}

static unsigned char
filling(const struct object *o, size_t i)
{
	return (unsigned char)((o->fill + (uint32_t)i) * 2654435761u >> 23);
}

static void
fill(struct object *o)
{
	o->fill = ++fills * 40503u;
	for (size_t i = 0; i < o->size; i++)
		o->at[i] = filling(o, i);
}

static void
check_filling(const struct object *o, size_t size)
{
	for (size_t i = 0; i < size; i++)
		if (o->at[i] != filling(o, i))
			wrong("byte %zu of %zu has changed", i, o->size);
}

static void
check_zero(const struct object *o, size_t from)
{
	for (size_t i = from; i < o->size; i++)
		if (o->at[i] != 0)
			wrong("byte %zu of %zu is new and not zero", i,
			    o->size);
}

/*
 * The fault that is planted in the model, and which the program must find: it
 * is wrong about some sizes that an aligned object is given later.
 */
static size_t
size_expected(const struct object *o)
{
	bool rare = o->aligned && o->resized && o->size % 4 == 3;

	return planted && rare ? o->size + 1 : o->size;
}

static void
check_size(const struct object *o)
{
	size_t size = secmalloc_usable_size(o->at);

	if (size != size_expected(o))
		wrong("%zu bytes were asked for, and the size is %zu",
		    size_expected(o), size);
}

static void
check_place(const struct object *o, size_t alignment)
{
	uintptr_t from = (uintptr_t)o->at, to = from + o->size;

	if (from % 16 != 0 || from % alignment != 0)
		wrong("not at a multiple of %zu", alignment);
	for (size_t i = 0; i < OBJECTS_MAX; i++) {
		uintptr_t at = (uintptr_t)objects[i].at;

		if (at == 0 || &objects[i] == o)
			continue;
		/* No two of size 0 are at the same place either. */
		if (from == at || (from < at + objects[i].size && at < to))
			wrong("%zu bytes overlap another object's %zu",
			    o->size, objects[i].size);
	}
}

static void
check_totals(void)
{
	struct secmalloc_stats stats;

	if (secmalloc_stats(&stats) == -1)
		wrong("no totals: %s", strerror(errno));
	if (stats.objects != live_objects || stats.object_bytes != live_bytes)
		wrong("%zu objects of %zu bytes are counted as %zu of %zu",
		    live_objects, live_bytes, stats.objects,
		    stats.object_bytes);
	if (stats.locked_bytes < live_bytes)
		wrong("%zu bytes are live, and %zu are locked", live_bytes,
		    stats.locked_bytes);
}

static void
check_secure(const struct object *o)
{
	errno = ERANGE;
	if (!secmalloc_is_secure(o->at))
		wrong("an object is not secure");
	if (o->size != 0 && (!secmalloc_is_secure(o->at + o->size - 1) ||
	    !secmalloc_is_secure(o->at + o->size / 2)))
		wrong("a byte of an object of %zu is not secure", o->size);
	if (o->size != 0 && secmalloc_is_secure(o->at + o->size))
		wrong("the byte after an object is called secure");
	if (secmalloc_is_secure(&errno))
		wrong("memory of another kind is called secure");
	if (errno != ERANGE)
		wrong("secmalloc_is_secure changed errno");
}

static void
review(void)
{
	for (size_t i = 0; i < OBJECTS_MAX; i++)
		if (objects[i].at != NULL) {
			check_filling(&objects[i], objects[i].size);
			check_size(&objects[i]);
		}
}

/* AT is new; the model is told, and believes only what it finds. */
static void
born(struct object *o, void *at, size_t size, size_t alignment)
{
	if (at == NULL)
		wrong("%zu bytes are refused: %s", size, strerror(errno));
	*o = (struct object){
		.at = at, .size = size, .aligned = alignment > 16
	};
	live_objects++;
	live_bytes += size;
	check_place(o, alignment);
}

static void
forget(struct object *o)
{
	live_objects--;
	live_bytes -= o->size;
	*o = (struct object){ .at = NULL };
}

static void
make(struct object *o, const struct call *call)
{
	static char string[SIZE_MAX_HERE];
	size_t size = call->size, members = call->extra;
	char *copy;

	if (o->at != NULL || live_bytes + size > LIVE_MAX)
		return;
	switch (call->verb) {
	case CALLOC:
		size = size / members * members;
		born(o, seccalloc(members, size / members), size, 16);
		break;
	case ALIGNED:
		born(o, secaligned_alloc(call->extra, size), size,
		    call->extra);
		break;
	case STRDUP:
		/* A string of SIZE bytes with its end. */
		size = size == 0 ? 1 : size;
		memset(string, 'x', size);
		string[size - 1] = '\0';
		copy = call->extra % 2 == 0 ? secstrdup(string) :
		    secstrndup(string, size - 1);
		born(o, copy, size, 16);
		if (memcmp(copy, string, size) != 0)
			wrong("a copy of a string of %zu differs", size - 1);
		/* The rest is said of zeros. */
		memset(copy, 0, size);
		break;
	case REALLOC:
		born(o, secrealloc(NULL, size), size, 16);
		break;
	default:
		born(o, secmalloc(size), size, 16);
		break;
	}
	check_zero(o, 0);
	check_size(o);
	check_secure(o);
	fill(o);
}

static void
release(struct object *o)
{
	const void *was = (const void *)launder((uintptr_t)o->at);

	if (o->at == NULL)
		return;
	check_filling(o, o->size);
	errno = ERANGE;
	secfree(o->at);
	if (errno != ERANGE)
		wrong("secfree changed errno");
	forget(o);
	if (secmalloc_is_secure(was))
		wrong("what was freed is called secure");
}

static void
resize(struct object *o, const struct call *call)
{
	struct object old = *o;
	size_t members = call->verb == REALLOCARRAY ? call->extra : 1;
	size_t size = call->size / members * members;
	void *at;

	/* Both may be there at once. */
	if (live_bytes + size > LIVE_MAX)
		return;
	check_filling(o, o->size);
	at = call->verb == REALLOC ? secrealloc(o->at, size) :
	    secreallocarray(o->at, members, size / members);
	forget(o);
	if (size == 0) {
		if (at != NULL)
			wrong("a resize to 0 returned something");
		return;
	}
	born(o, at, size, 16);
	o->aligned = old.aligned;
	o->resized = true;
	o->fill = old.fill;
	check_filling(o, old.size < size ? old.size : size);
	if (old.size < size)
		check_zero(o, old.size);
	fill(o);
	check_size(o);
	check_secure(o);
}

/* What must be refused, and leave an object as it is. */
static void
be_refused(const struct object *o)
{
	size_t huge = (size_t)launder(SIZE_MAX), half = huge / 2;

	errno = 0;
	if (secmalloc(huge) != NULL || errno != ENOMEM)
		wrong("all of the address space was given");
	errno = 0;
	if (secmalloc(half) != NULL || errno != ENOMEM)
		wrong("half of the address space was given");
	errno = 0;
	if (seccalloc(half, 3) != NULL || errno != ENOMEM)
		wrong("a product that does not fit was given");
	errno = 0;
	if (secaligned_alloc((size_t)launder(48), 48) != NULL ||
	    errno != EINVAL)
		wrong("an alignment of 48 was accepted");
	if (o->at == NULL)
		return;
	errno = 0;
	if (secrealloc(o->at, half) != NULL || errno != ENOMEM)
		wrong("an object has half of the address space");
	errno = 0;
	if (secreallocarray(o->at, half, 3) != NULL || errno != ENOMEM)
		wrong("an object has a size that does not fit");
	check_filling(o, o->size);
	check_size(o);
}

static void
start(void)
{
	struct secmalloc_config config;

	test_config(&config, mode);
	if (secmalloc_init(&config) == -1)
		wrong("secmalloc_init: %s", strerror(errno));
}

static void
shut_down(void)
{
	secmalloc_shutdown();
	for (size_t i = 0; i < OBJECTS_MAX; i++) {
		const void *was = (const void *)launder(
		    (uintptr_t)objects[i].at);

		if (was == NULL)
			continue;
		forget(&objects[i]);
		if (secmalloc_is_secure(was))
			wrong("what was shut down is called secure");
	}
	check_totals();
	start();
}

static void
perform(const struct call *call)
{
	struct object *o = &objects[call->object];

	switch (call->verb) {
	case REALLOC:
	case REALLOCARRAY:
		if (o->at != NULL)
			resize(o, call);
		else
			make(o, call);
		break;
	case FREE:
		release(o);
		break;
	case ASK:
		if (o->at == NULL)
			break;
		check_filling(o, o->size);
		check_size(o);
		check_secure(o);
		break;
	case REFUSED:
		be_refused(o);
		break;
	case SHUTDOWN:
		shut_down();
		break;
	default:
		make(o, call);
		break;
	}
	check_totals();
}

__attribute__((noreturn)) static void
child(const struct call *calls, size_t n)
{
	(void)alarm(PATIENCE);
	start();
	for (size_t i = 0; i < n; i++) {
		verdict->call = i;
		perform(&calls[i]);
		if (i % REVIEW == REVIEW - 1)
			review();
	}
	review();
	for (size_t i = 0; i < OBJECTS_MAX; i++)
		release(&objects[i]);
	check_totals();
	if (secmalloc_verify() == -1)
		wrong("what is left is not locked: %s", strerror(errno));
	secmalloc_shutdown();
	_exit(0);
}

/* --- Lists --- */

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

/* About the quarters between powers of two: there, classes end. */
static size_t
draw_edge(uint64_t *state, unsigned doublings)
{
	static const int beside[] = {
		0, 0, 1, -1, 7, -7, 8, -8, 9, -9, 15, -15, 16, -16, 17, -17,
		24, -24, 31, -31, 32, -32
	};
	size_t edge = (4 + draw_below(state, 4)) <<
	    draw_below(state, doublings);
	int by = beside[draw_below(state, sizeof(beside) / sizeof(beside[0]))];

	/* From 1 to 7/4 of the last power of two. */
	edge /= 4;
	if (by < 0 && edge < (size_t)-by)
		return 0;
	return by < 0 ? edge - (size_t)-by : edge + (size_t)by;
}

static size_t
draw_size(uint64_t *state)
{
	size_t which = draw_below(state, 256), size;

	if (which == 0)
		size = draw_below(state, SIZE_MAX_HERE);
	else if (which == 1)
		size = draw_edge(state, 22);
	else if (which < 16)
		size = draw_edge(state, 19);
	else if (which < 64)
		size = draw_below(state, 640);
	else
		size = draw_edge(state, 14);
	return size < SIZE_MAX_HERE ? size : SIZE_MAX_HERE;
}

static enum verb
draw_verb(uint64_t *state)
{
	static const enum verb often[] = {
		MALLOC, MALLOC, MALLOC, CALLOC, ALIGNED, STRDUP, REALLOC,
		REALLOC, REALLOCARRAY, FREE, FREE, FREE, FREE, FREE, ASK
	};
	size_t which = draw_below(state, 8192);

	if (which == 0)
		return SHUTDOWN;
	if (which < 32)
		return REFUSED;
	return often[draw_below(state, sizeof(often) / sizeof(often[0]))];
}

/* A list of SEED; some use few objects, some few sizes. */
static size_t
make_list(struct call *calls, uint64_t seed)
{
	uint64_t state = seed * 0x2545f4914f6cdd1du;
	size_t n = 500 + draw_below(&state, CALLS_MAX - 500);
	size_t among = (size_t)4 << draw_below(&state, 7);
	size_t few[4], how_few = draw_below(&state, 3);

	for (size_t i = 0; i < 4; i++)
		few[i] = draw_size(&state);
	for (size_t i = 0; i < n; i++) {
		struct call *call = &calls[i];

		call->verb = draw_verb(&state);
		call->object = (uint16_t)draw_below(&state, among);
		call->size = how_few != 0 || draw_below(&state, 4) == 0 ?
		    draw_size(&state) : few[draw_below(&state, 4)];
		call->extra = 1 + draw_below(&state, 9);
		if (call->verb != ALIGNED)
			continue;
		/* 16 and less is no alignment at all; few reach 2 MiB. */
		call->extra = (size_t)1 << draw_below(&state,
		    draw_below(&state, 32) == 0 ? 22 : 13);
		if (call->extra > 64 * KIB && call->size > 256 * KIB)
			call->size /= 16;
	}
	return n;
}

static void
print_call(size_t i, const struct call *call)
{
	unsigned o = call->object;
	size_t size = call->size, extra = call->extra;

	switch (call->verb) {
	case MALLOC:
		diag("%4zu  p[%u] = secmalloc(%zu)", i, o, size);
		break;
	case CALLOC:
		diag("%4zu  p[%u] = seccalloc(%zu, %zu)", i, o, extra,
		    size / extra);
		break;
	case ALIGNED:
		diag("%4zu  p[%u] = secaligned_alloc(%zu, %zu)", i, o, extra,
		    size);
		break;
	case STRDUP:
		diag("%4zu  p[%u] = secstr%sdup(of %zu with its end)", i, o,
		    extra % 2 == 0 ? "" : "n", size);
		break;
	case REALLOC:
		diag("%4zu  p[%u] = secrealloc(p[%u], %zu)", i, o, o, size);
		break;
	case REALLOCARRAY:
		diag("%4zu  p[%u] = secreallocarray(p[%u], %zu, %zu)", i, o,
		    o, extra, size / extra);
		break;
	case FREE:
		diag("%4zu  secfree(p[%u])", i, o);
		break;
	case ASK:
		diag("%4zu  questions about p[%u]", i, o);
		break;
	case REFUSED:
		diag("%4zu  what must be refused, also of p[%u]", i, o);
		break;
	case SHUTDOWN:
		diag("%4zu  secmalloc_shutdown()", i);
		break;
	}
}

/* Whether a list passes; else *verdict says why not. */
static bool
passes(const struct call *calls, size_t n)
{
	int status;
	pid_t pid;

	memset(verdict, 0, sizeof(*verdict));
	if ((pid = fork()) == -1)
		bail_out("fork: %s", strerror(errno));
	if (pid == 0)
		child(calls, n);
	if (waitpid(pid, &status, 0) != pid)
		bail_out("waitpid: %s", strerror(errno));
	if (WIFSIGNALED(status))
		(void)snprintf(verdict->why, sizeof(verdict->why),
		    "stopped by signal %d", WTERMSIG(status));
	else if (WEXITSTATUS(status) != 0 && verdict->why[0] == '\0')
		(void)snprintf(verdict->why, sizeof(verdict->why),
		    "status %d", WEXITSTATUS(status));
	return status == 0;
}

static double
now(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Leaves out of a list that fails what it fails without; its new length. */
static size_t
shrink(struct call *calls, size_t n)
{
	static struct call without[CALLS_MAX];
	double end = now() + PATIENCE;
	size_t chunk, before;

	if (verdict->call + 1 < n && !passes(calls, verdict->call + 1))
		n = verdict->call + 1;
	for (chunk = n / 2 + 1; chunk > 0 && now() < end; ) {
		before = n;
		for (size_t from = 0; from < n && now() < end; ) {
			size_t to = from + chunk < n ? from + chunk : n;

			memcpy(without, calls, from * sizeof(*calls));
			memcpy(without + from, calls + to,
			    (n - to) * sizeof(*calls));
			if (passes(without, n - (to - from))) {
				from = to;
				continue;
			}
			n -= to - from;
			memcpy(calls, without, n * sizeof(*calls));
		}
		/* Single calls until none can go. */
		if (chunk > 1 || before == n)
			chunk /= 2;
	}
	return n;
}

/* Shrinks and shows a list that failed; its new length. */
static size_t
report(struct call *calls, size_t n, uint64_t seed)
{
	diag("seed %" PRIu64 ", call %zu of %zu: %s", seed, verdict->call, n,
	    verdict->why);
	n = shrink(calls, n);
	if (passes(calls, n)) {
		diag("not every time");
		return n;
	}
	diag("%zu calls are enough, of which call %zu: %s", n, verdict->call,
	    verdict->why);
	for (size_t i = 0; i < n; i++)
		print_call(i, &calls[i]);
	return n;
}

static struct call calls[CALLS_MAX];

static bool
hold_to_model(double seconds, uint64_t seed)
{
	double end = now() + seconds;
	size_t lists = 0, all = 0;

	diag("seeds from %" PRIu64 " on", seed);
	for (; lists == 0 || now() < end; seed++, lists++) {
		size_t n = make_list(calls, seed);

		all += n;
		if (!passes(calls, n)) {
			(void)report(calls, n, seed);
			return false;
		}
	}
	diag("%zu lists, %zu calls", lists, all);
	return true;
}

/* The control: what is wrong is found, and cut down to its cause. */
static bool
find_planted(void)
{
	enum { ENOUGH = 3 };
	size_t n = 0;
	uint64_t seed;

	planted = true;
	for (seed = 1; seed < 100; seed++) {
		n = make_list(calls, seed);
		if (!passes(calls, n))
			break;
	}
	if (seed == 100) {
		diag("it was not found");
		return false;
	}
	n = report(calls, n, seed);
	if (passes(calls, n) || n > ENOUGH)
		return false;
	planted = false;
	return passes(calls, n);
}

static uint64_t
number(const char *text)
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
	uint64_t seed;

	if (argc < 3 || argc > 4 || (strcmp(argv[1], "helper") != 0 &&
	    strcmp(argv[1], "inprocess") != 0))
		bail_out("usage: model helper|inprocess SECONDS [SEED] | "
		    "planted");
	mode = strcmp(argv[1], "helper") == 0 ? SECMALLOC_MODE_HELPER :
	    SECMALLOC_MODE_INPROCESS;
	verdict = mmap(NULL, sizeof(*verdict), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (verdict == MAP_FAILED)
		bail_out("mmap: %s", strerror(errno));
	if (strcmp(argv[2], "planted") == 0) {
		ok(find_planted(),
		    "control: a model that is wrong is found out, and why");
		return done_testing();
	}
	if (argc == 4)
		seed = number(argv[3]);
	else if (getrandom(&seed, sizeof(seed), 0) != (ssize_t)sizeof(seed))
		bail_out("getrandom: %s", strerror(errno));
	ok(hold_to_model((double)number(argv[2]), seed),
	    "every call does what the model says");
	return done_testing();
}
