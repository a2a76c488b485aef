/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What is compiled into programs: where the fields of the public structures are,
 * and what the constants are.  It is compiled, never run, and needs no header of
 * a C library's, so that it is for every machine a compiler knows.  Offsets are
 * in words of a size_t, or for an int in ints, and the two are one where they
 * have 32 bits.
 */
#include <stddef.h>

#include <secmalloc.h>

#define WORD sizeof(size_t)
#define INTS (2 * sizeof(int) / WORD) /* words that a pair of ints takes */

#define FIELD(type, field, at) \
	_Static_assert(offsetof(struct type, field) == (at), #type "." #field)
#define VALUE(name, value) _Static_assert((name) == (value), #name)

_Static_assert(sizeof(void *) == WORD, "a pointer is a word");
_Static_assert(sizeof(int) == 4 && (WORD == 4 || WORD == 8), "32 or 64 bits");

FIELD(secmalloc_config, initial_pools, 0);
FIELD(secmalloc_config, pool_size, WORD);
FIELD(secmalloc_config, max_locked, 2 * WORD);
FIELD(secmalloc_config, mode, 3 * WORD);
FIELD(secmalloc_config, fork_policy, 3 * WORD + 4);
FIELD(secmalloc_config, helper_path, (3 + INTS) * WORD);
FIELD(secmalloc_config, on_misuse, (4 + INTS) * WORD);
FIELD(secmalloc_config, on_lock_lost, (5 + INTS) * WORD);
FIELD(secmalloc_config, callback_data, (6 + INTS) * WORD);
FIELD(secmalloc_config, flags, (7 + INTS) * WORD);
FIELD(secmalloc_config, reserved, (8 + INTS) * WORD);
_Static_assert(sizeof(struct secmalloc_config) == (15 + INTS) * WORD,
    "secmalloc_config");

FIELD(secmalloc_stats, pools, 0);
FIELD(secmalloc_stats, locked_bytes, WORD);
FIELD(secmalloc_stats, objects, 2 * WORD);
FIELD(secmalloc_stats, object_bytes, 3 * WORD);
FIELD(secmalloc_stats, mode, 4 * WORD);
FIELD(secmalloc_stats, reserved_int, 4 * WORD + 4);
FIELD(secmalloc_stats, cached_bytes, (4 + INTS) * WORD);
FIELD(secmalloc_stats, metadata_bytes, (5 + INTS) * WORD);
FIELD(secmalloc_stats, guards, (6 + INTS) * WORD);
FIELD(secmalloc_stats, unguarded, (7 + INTS) * WORD);
FIELD(secmalloc_stats, reserved, (8 + INTS) * WORD);
_Static_assert(sizeof(struct secmalloc_stats) == (12 + INTS) * WORD,
    "secmalloc_stats");

VALUE(SECMALLOC_MODE_AUTO, 0);
VALUE(SECMALLOC_MODE_HELPER, 1);
VALUE(SECMALLOC_MODE_INPROCESS, 2);
VALUE(SECMALLOC_FORK_COPY, 0);
VALUE(SECMALLOC_FORK_DENY, 1);
VALUE(SECMALLOC_BELT, 1);
VALUE(SECMALLOC_SECRET, 2);
VALUE(SECMALLOC_SECRET_TRY, 4);
VALUE(SECMALLOC_PKEY, 8);
VALUE(SECMALLOC_NOACCESS, 0);
VALUE(SECMALLOC_READONLY, 1);
VALUE(SECMALLOC_READWRITE, 2);
