/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * random.h: random numbers of the kernel, many at a time.  Used under the
 * heap's lock.
 */
#ifndef RANDOM_H
#define RANDOM_H

#include <stddef.h>
#include <stdint.h>

/* 64 bits that nobody can foretell. */
uint64_t random_bits(void);

/* A number below BOUND, which is not 0; nearly evenly. */
uint32_t random_below(uint32_t bound);

/* In a child: what is left over is the parent's too. */
void random_fork(void);

/* COUNT times 64 bits of the kernel's: entropy.c, which each system has. */
void random_fill(uint64_t *bits, size_t count);

#endif
