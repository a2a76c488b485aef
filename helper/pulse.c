/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pulse.c: a word in memory that tells whoever maps it when this process ends,
 * also one that has no descriptor left to ask by.  It is a robust futex
 * (Documentation/locking/robust-futexes.rst): the kernel sets FUTEX_OWNER_DIED
 * in what the process holds when it dies, however it dies, before any lock of
 * its memory is gone.  Must not know what depends on it.
 */
#include "config.h"
#include "helper.h"

#include <linux/futex.h>

/* The kernel finds the word by its distance from an entry of the list. */
static struct robust_list entry;
static struct robust_list_head list = { .list.next = &entry };

int
pulse_start(void)
{
	const size_t size = (size_t)page_size();
	int fd = memfd_make(size);
	void *page = fd == -1 ? MAP_FAILED : mmap(NULL, size,
	    PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	entry.next = &list.list;
	list.futex_offset = (char *)page - (char *)&entry;
	/*
	 * Nobody else is to write it; before Linux 5.1 that cannot be had.  Nor
	 * is it to be adopted as a pool, which we would map ourselves for ever.
	 */
	if (page != MAP_FAILED && (fcntl(fd, F_ADD_SEALS,
	    F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) == 0 || (errno == EINVAL &&
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL) == 0)) &&
	    syscall(SYS_set_robust_list, &list, sizeof(list)) == 0) {
		*(uint32_t *)page = (uint32_t)syscall(SYS_gettid);
		return fd;
	}
	if (fd != -1)
		close(fd); /* which leaves errno alone */
	return -1;
}
