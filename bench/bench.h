/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * bench.h: what the parts of the benchmark share: allocators, the loops that
 * each of them is put through, and what came of it.
 */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct object {
	unsigned char *at;
	size_t size;
};

enum {
	RING_SLOTS = 1024,
	LINE = 64,
	/* Calls to realloc on the way from 16 bytes to 64 KiB. */
	DOUBLINGS = 12,
	STEPS_UP = 4095
};

/*
 * One thread puts, another takes.  Each has a cache line of its own, and keeps
 * there what it last saw of the other's, so as to look only when it must.
 */
struct ring {
	_Alignas(LINE) atomic_size_t put;
	size_t taken_seen;
	_Alignas(LINE) atomic_size_t taken;
	size_t put_seen;
	_Alignas(LINE) unsigned char *slots[RING_SLOTS];
};

/* What one thread works on. */
struct work {
	size_t size;           /* of each object; 0: drawn from sizes[] */
	size_t count;          /* of objects kept alive */
	struct object *live;
	int64_t deadline;      /* of grow(), CLOCK_MONOTONIC in ns; 0: none */
	uint64_t random;
	struct ring *ring;
};

/*
 * What an allocator is put through, compiled once for each (loops.h).  False
 * means that it refused memory.
 */
struct loops {
	/* Allocates until COUNT are live; returns how many it came to. */
	size_t (*grow)(struct work *work);
	bool (*pair)(struct work *work, size_t n);
	bool (*replace)(struct work *work, size_t n);
	bool (*put)(struct work *work, size_t n);
	/* Tells who takes that no more comes. */
	void (*end)(struct work *work);
	void (*take)(struct work *work);
	bool (*doubling)(struct work *work, size_t n);
	bool (*steps)(struct work *work, size_t n);
};

struct terms {
	size_t room;           /* bytes that will be live, headers apart */
	bool exactly;          /* and no more than that may be locked */
	const char *helper;    /* of ours */
};

struct peer {
	const char *name;      /* as --peers has it */
	const char *title;
	const char *remark;
	bool locks;
	const char *preload;   /* a library that replaces malloc, else NULL */
	const struct loops *loops; /* NULL where it was missing at configure */
	/* NULL, or why it cannot be used. */
	const char *(*start)(struct terms terms);
	/* What to fill to exhaustion; 0: it cannot be, or locks nothing. */
	size_t fill_room;
	/* Where nothing else ends it. */
	size_t fill_objects;
	/* Bytes locked; NULL: what the kernel says of this process. */
	size_t (*locked)(void);
};

extern const struct peer peer_secmalloc, peer_glibc, peer_bzero, peer_openssl,
    peer_sodium, peer_gcrypt, peer_botan, peer_jemalloc, peer_mimalloc;
/* All of them, ours first. */
extern const struct peer *const peers[];
enum { PEERS = 9, OURS = 0 };

enum kind { PAIR, SET, THREADS, RING, LIVE, DOUBLING, STEPS, FILL };

struct workload {
	const char *name;      /* as --workloads has it */
	const char *title;
	enum kind kind;
	size_t size;
	size_t count;
};

extern const struct workload workloads[];
enum { WORKLOADS = 21 };

enum { ROUNDS_MAX = 99, REASON_MAX = 64 };

/* What all rounds gave for one peer and workload. */
struct cell {
	unsigned rounds;       /* 0: see reason */
	double value[ROUNDS_MAX];
	char reason[REASON_MAX];
};

struct results {
	unsigned rounds;
	bool quick;
	const char *locked_by; /* ours */
	bool selected[PEERS];
	bool wanted[WORKLOADS];
	struct cell cells[WORKLOADS][PEERS];
	double instructions;   /* of a pair of ours; 0: not known */
	double instructions_of_loop; /* that were not within a pair */
	char no_instructions[REASON_MAX];
};

struct budget {
	int64_t measure;       /* ns of one measurement */
	int64_t setup;         /* ns until live objects must be there */
};

/* 16 to 1024 bytes, each doubling as likely as the next. */
enum { SIZES = 4096 };
extern uint16_t sizes[SIZES];

/* measure.c; what returns a string returns NULL, or why there is no *VALUE. */
int64_t now_ns(void);
void sizes_draw(void);
const char *measure(const struct peer *peer, const struct workload *workload,
    const struct budget *budget, const char *helper, double *value);
const char *measure_nothing_but_pairs(const struct peer *peer,
    const char *helper, size_t n);

/* report.c */
struct spread {
	double median, min, max;
};
/* False if there is none. */
bool spread_of(const struct cell *cell, struct spread *spread);
/* Of the ratios of A to B, round by round. */
bool ratios_of(const struct cell *a, const struct cell *b,
    struct spread *spread);
const struct cell *cell_named(const struct results *results,
    const char *workload, const char *peer);
bool wanted(const struct results *results, const char *workload);
/* Processor and kernel. */
void machine(char text[512]);
void report_table(FILE *out, const struct results *results);
/* How many goals were missed. */
unsigned report_goals(FILE *out, const struct results *results);
void report_json(FILE *out, const struct results *results);

/* chart.c */
void chart(FILE *out, const struct results *results);

#endif
