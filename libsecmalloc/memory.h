/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * memory.h: every system call that shapes the address space, and nothing that
 * knows what the memory is for.
 *
 * Sizes are bytes and multiples of the page size.  What can fail for want of
 * memory, address space or permission returns -1 (or NULL) with errno; what
 * can only fail if an argument is wrong stops the process.
 */
#ifndef MEMORY_H
#define MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

size_t memory_page_size(void);

/* SIZE rounded up to whole pages; 0 if that does not fit a size_t. */
size_t memory_round_up(size_t size);

/*
 * Reserves SIZE inaccessible bytes between two inaccessible pages, which are
 * reserved too.  Returns the first byte after the first of these.  Made
 * accessible they are zero, and take memory where they are written.
 */
void *memory_reserve(size_t size);
void memory_unreserve(void *at, size_t size);

/* Replaces the mapping at AT, which was reserved, by readable and writable ... */
int memory_map_private(void *at, size_t size); /* zero pages of our own */
/*
 * ... or by pages that nobody else can have, which are never evicted, and
 * backed by memory now ...  ENOTSUP: there are none; EPERM: the limit is 0;
 * EAGAIN: RLIMIT_MEMLOCK may be reached; ENOMEM also for RLIMIT_FSIZE.
 */
int memory_map_secret(void *at, size_t size);
/* ... or, once more, by nothing that can be touched. */
int memory_close_off(void *at, size_t size);

/* Leaves SIZE bytes at AT, which are a whole mapping, to whoever maps next. */
void memory_vacate(void *at, size_t size);

/* Makes SIZE unmapped bytes at AT inaccessible; -1 if they are not unmapped. */
int memory_claim(void *at, size_t size);

/* Moves a mapping over another of the same size, which is lost. */
int memory_move(void *to, void *from, size_t size);

/* Inaccessible, readable, or writable too; -1 with ENOMEM. */
int memory_make_inaccessible(void *at, size_t size);
int memory_make_readable(void *at, size_t size);
int memory_make_writable(void *at, size_t size);

/*
 * Marks SIZE bytes at AT, so that the kernel does not make one mapping of them
 * and of what has another mark, though the protection be the same: changing the
 * protection of all that has one mark takes no mapping.  -1 with ENOMEM; never
 * if the mark is PLAIN, and what has one becomes so as a whole.
 */
enum memory_mark { MEMORY_PLAIN, MEMORY_FRONT, MEMORY_REAR };
int memory_mark(void *at, size_t size, enum memory_mark mark);

/*
 * Another mapping, inaccessible at first, of the shared pages at AT, which are
 * so and stay so, or of those of FD from OFFSET on; NULL with errno, which is
 * ENOTSUP where there are no shared pages.
 */
void *memory_view(void *at, size_t size);
void *memory_view_file(int fd, size_t offset, size_t size);
void memory_unview(const void *view, size_t size);

/* Gives the memory of private pages back; they are zero from here on. */
void memory_discard(void *at, size_t size);

/* The same of pages that are locked, and that cannot be written. */
void memory_discard_locked(void *at, size_t size);

/* How many mappings the kernel grants a process. */
size_t memory_map_limit(void);

/* How many bytes of addresses RLIMIT_AS grants; SIZE_MAX if any number. */
size_t memory_address_limit(void);

/*
 * Locks.  EPERM: this process may lock nothing; EAGAIN: RLIMIT_MEMLOCK is
 * reached; ENOMEM: there is no memory.
 */
int memory_lock(void *at, size_t size);

/* Whether this process has locked every page: a system call for each. */
bool memory_is_locked(void *at, size_t size);

/*
 * A protection key (pkeys(7)) that the calling thread has no access by; -1 with
 * ENOTSUP.  Given back, it must not be any memory's.
 */
int memory_key_make(void);
void memory_key_give(int key);

/* Makes memory readable, and WRITABLE or not, but only by KEY; -1 with ENOMEM. */
int memory_set_key(void *at, size_t size, int key, bool writable);

/* Advice that must hold: no core file, no child. */
int memory_keep_from_core(void *at, size_t size);
int memory_keep_from_children(void *at, size_t size);

/*
 * SIZE bytes which are zero in every child that does not share this address
 * space, however that child was made, to be given back by memory_unreserve();
 * NULL with errno.  Where only fork(2) makes children they may be as they were.
 */
void *memory_wiped_on_fork(size_t size);

/*
 * Linux's alone, with what is shared in it: memory_map_private() and
 * memory_is_locked() of other pages.
 */

/* Pages of FD, shared, which are FROM bytes behind its beginning ... */
int memory_map_shared(void *at, size_t size, int fd, size_t from);
/* ... or such as can only be read. */
int memory_map_readable(void *at, size_t size, int fd);

/* Backs every page with memory now, charged to this process's cgroup. */
int memory_populate(void *at, size_t size);

/* Whether every page is of memory_map_secret(). */
bool memory_is_secret(void *at, size_t size);

/* As memcpy(); other threads may write to what is copied. */
void memory_copy(void *to, const void *from, size_t size);

/* Zeroes by a store that no compiler leaves out. */
static inline void
memory_wipe(void *at, size_t size)
{
	/* Whatever is known of it, the C library's memset() is the quicker. */
	__asm__("" : "+r"(size));
	memset(at, 0, size);
	__asm__ volatile("" : : "r"(at) : "memory");
}

#endif
