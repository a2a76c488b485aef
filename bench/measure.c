/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * measure.c: one measurement, of one allocator under one workload, in a process
 * that has done and will do nothing else; it knows nothing of rounds.
 */
#include "config.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "bench.h"

enum {
	THREAD_COUNT = 2,
	/* Operations between two looks at whether it is time to stop. */
	STRETCH = 256,
	/* Objects that no peer fills its room with. */
	FILL_MAX = 1 << 20
};

typedef bool loop(struct work *work, size_t n);

uint16_t sizes[SIZES];

static const char no_memory[] = "it refuses so much memory";
static const char too_slow[] = "it takes too long to set up";
static const char no_thread[] = "no thread can be had";

int64_t
now_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void
sizes_draw(void)
{
	double size = 16;

	for (size_t i = 0; i < SIZES; i++) {
		sizes[i] = (uint16_t)size;
		size *= 1.001015867959941; /* 64 to the power of 1/SIZES */
	}
}

/* Not from malloc, which is being measured. */
static void *
pages(size_t size)
{
	void *at = mmap(NULL, size, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	return at == MAP_FAILED ? NULL : at;
}

/* Runs for half of TIME, then for TIME by the clock; ns of a turn of LOOP. */
static const char *
timed(loop *run, struct work *work, int64_t time, double *value)
{
	int64_t begun = now_ns(), last = begun, now;
	size_t stretch = 1, turns = 0;

	/* Stretches that are long beside the reading of the clock. */
	do {
		if (!run(work, stretch))
			return no_memory;
		now = now_ns();
		if (now - last < time / 32)
			stretch *= 2;
		last = now;
	} while (now - begun < time / 2);
	begun = now_ns();
	do {
		if (!run(work, stretch))
			return no_memory;
		turns += stretch;
		now = now_ns();
	} while (now - begun < time);
	*value = (double)(now - begun) / (double)turns;
	return NULL;
}

static const char *
grown(const struct loops *loops, struct work *work, int64_t time)
{
	work->live = pages(work->count * sizeof(struct object));
	if (work->live == NULL)
		return "the benchmark itself lacks memory";
	work->deadline = now_ns() + time;
	if (loops->grow(work) == work->count)
		return NULL;
	return now_ns() > work->deadline ? too_slow : no_memory;
}

/*
 * Has THREAD run on the Nth processor that there is for us: that a scheduler may
 * put two threads on one is not what is measured.
 */
static void
settle_on(pthread_t thread, size_t n)
{
#ifdef __linux__
	cpu_set_t all, one;

	if (sched_getaffinity(0, sizeof(all), &all) == -1)
		return;
	for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &all) || n-- != 0)
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		(void)pthread_setaffinity_np(thread, sizeof(one), &one);
		return;
	}
#else
	(void)thread;
	(void)n;
#endif
}

/* --- Two threads, each with a set of its own ------------------------------- */

static struct {
	const struct loops *loops;
	struct budget budget;
	pthread_barrier_t barrier;
	atomic_bool stop;
	const char *_Atomic why;
} team;

/* On a line of its own, so that one thread's draws do not slow another's. */
struct member {
	_Alignas(LINE) pthread_t id;
	struct work work;
	double ns; /* of an operation */
};

static void *
member_runs(void *arg)
{
	struct member *self = arg;
	const char *why = grown(team.loops, &self->work, team.budget.setup);
	int64_t begun;
	size_t turns = 0;

	if (why != NULL)
		team.why = why;
	(void)pthread_barrier_wait(&team.barrier);
	if (team.why != NULL)
		return NULL;
	begun = now_ns();
	while (now_ns() - begun < team.budget.measure / 2) {
		if (!team.loops->replace(&self->work, STRETCH))
			team.why = no_memory;
	}
	(void)pthread_barrier_wait(&team.barrier);
	begun = now_ns();
	while (team.why == NULL && !atomic_load_explicit(&team.stop,
	    memory_order_relaxed)) {
		if (!team.loops->replace(&self->work, STRETCH))
			team.why = no_memory;
		turns += STRETCH;
	}
	self->ns = (double)(now_ns() - begun) / (double)turns;
	return NULL;
}

static const char *
two_threads(const struct loops *loops, const struct work *work,
    const struct budget *budget, double *value)
{
	struct timespec time = {
		.tv_sec = (time_t)(budget->measure / 1000000000),
		.tv_nsec = (long)(budget->measure % 1000000000)
	};
	struct member members[THREAD_COUNT];

	team.loops = loops;
	team.budget = *budget;
	(void)pthread_barrier_init(&team.barrier, NULL, THREAD_COUNT + 1);
	for (size_t i = 0; i < THREAD_COUNT; i++) {
		members[i].work = *work;
		members[i].work.random += i;
		if (pthread_create(&members[i].id, NULL, member_runs,
		    &members[i]) != 0)
			return no_thread;
		settle_on(members[i].id, i);
	}
	(void)pthread_barrier_wait(&team.barrier);
	if (team.why == NULL) {
		(void)pthread_barrier_wait(&team.barrier);
		(void)nanosleep(&time, NULL);
		team.stop = true;
	}
	*value = 0;
	for (size_t i = 0; i < THREAD_COUNT; i++) {
		(void)pthread_join(members[i].id, NULL);
		*value += members[i].ns / THREAD_COUNT;
	}
	return team.why;
}

/* --- One thread allocates, another frees ----------------------------------- */

static void *
taker_runs(void *arg)
{
	struct work *work = arg;

	team.loops->take(work);
	return NULL;
}

static const char *
producer_consumer(const struct loops *loops, struct work *work,
    int64_t time, double *value)
{
	const char *why;
	pthread_t taker;

	work->ring = pages(sizeof(struct ring));
	if (work->ring == NULL)
		return "the benchmark itself lacks memory";
	team.loops = loops;
	if (pthread_create(&taker, NULL, taker_runs, work) != 0)
		return no_thread;
	settle_on(taker, 0);
	settle_on(pthread_self(), 1);
	why = timed(loops->put, work, time, value);
	loops->end(work);
	(void)pthread_join(taker, NULL);
	return why;
}

/* --- Payload of what is locked --------------------------------------------- */

static size_t
locked_by_kernel(void)
{
	FILE *status = fopen("/proc/self/status", "re");
	static const char name[] = "VmLck:";
	size_t kib = 0;
	char line[256];

	if (status == NULL)
		return 0;
	while (fgets(line, sizeof(line), status) != NULL) {
		if (strncmp(line, name, strlen(name)) == 0)
			kib = strtoul(line + strlen(name), NULL, 10);
	}
	(void)fclose(status);
	return kib * 1024;
}

static const char *
filled(const struct peer *peer, struct work *work, double *value)
{
	size_t objects, locked;

	if (peer->fill_objects != 0)
		work->count = peer->fill_objects;
	work->live = pages(work->count * sizeof(struct object));
	if (work->live == NULL)
		return "the benchmark itself lacks memory";
	objects = peer->loops->grow(work);
	locked = peer->locked != NULL ? peer->locked() : locked_by_kernel();
	if (locked == 0)
		return "nothing is locked";
	*value = (double)(objects * work->size) / (double)locked;
	return NULL;
}

/* --------------------------------------------------------------------------- */

static struct terms
terms_of(const struct peer *peer, const struct workload *workload,
    const char *helper)
{
	struct terms terms = { .room = 1 << 20, .helper = helper };
	/* Twice the mean of sizes[]. */
	size_t each = workload->size != 0 ? workload->size : 512;

	terms.room += workload->count * each *
	    (workload->kind == THREADS ? THREAD_COUNT : 1);
	if (workload->kind == FILL) {
		terms.room = peer->fill_room;
		terms.exactly = true;
	}
	return terms;
}

const char *
measure(const struct peer *peer, const struct workload *workload,
    const struct budget *budget, const char *helper, double *value)
{
	struct terms terms = terms_of(peer, workload, helper);
	const struct loops *loops = peer->loops;
	struct work work = {
		.size = workload->size,
		.count = workload->count,
		.random = 0x9e3779b97f4a7c15u
	};
	const char *why = NULL;

	if (workload->kind == FILL && peer->fill_room == 0)
		return "it locks nothing, or not all";
	if (peer->start != NULL)
		why = peer->start(terms);
	if (why != NULL)
		return why;
	switch (workload->kind) {
	case PAIR:
		return timed(loops->pair, &work, budget->measure, value);
	case SET:
		why = grown(loops, &work, budget->setup);
		return why != NULL ? why :
		    timed(loops->replace, &work, budget->measure, value);
	case THREADS:
		return two_threads(loops, &work, budget, value);
	case RING:
		return producer_consumer(loops, &work, budget->measure, value);
	case LIVE:
		why = grown(loops, &work, budget->setup);
		return why != NULL ? why :
		    timed(loops->pair, &work, budget->measure, value);
	case DOUBLING:
		why = timed(loops->doubling, &work, budget->measure, value);
		*value /= DOUBLINGS;
		return why;
	case STEPS:
		why = timed(loops->steps, &work, budget->measure, value);
		*value /= STEPS_UP;
		return why;
	case FILL:
		work.count = FILL_MAX;
		return filled(peer, &work, value);
	}
	return "there is no such workload";
}

/* What is counted from outside: warm first, then N pairs of 64 bytes. */
const char *
measure_nothing_but_pairs(const struct peer *peer, const char *helper,
    size_t n)
{
	struct terms terms = { .room = 1 << 20, .helper = helper };
	struct work work = { .size = 64 };
	const char *why = peer->start(terms);

	if (why != NULL)
		return why;
	return peer->loops->pair(&work, 4096) && peer->loops->pair(&work, n) ?
	    NULL : no_memory;
}
