/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pages.c: what the kernel says of this process's pages; must not know who has
 * locked them.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tool.h"

/* Documentation/admin-guide/mm/pagemap.rst, linux/kernel-page-flags.h. */
#define PAGEMAP_PRESENT (UINT64_C(1) << 63)
#define PAGEMAP_FRAME ((UINT64_C(1) << 55) - 1)
#define FLAGS_WANTED (UINT64_C(1) << 18 | UINT64_C(1) << 33)

#ifndef MADV_COLD
# define MADV_COLD 20
#endif

/*
 * A page is marked when it leaves a list of the processor that has made it:
 * MADV_COLD empties that list (mm/madvise.c: lru_add_drain()).  False where the
 * kernel has no such call, as before Linux 5.4, or an emulator does not make it:
 * of what is not mapped it would be ENOMEM.
 */
static bool
lists_drain(size_t page_size)
{
	void *page = mmap(NULL, page_size, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	cpu_set_t before, one;

	if (page == MAP_FAILED)
		return false;
	if (sched_getaffinity(0, sizeof(before), &before) == 0) {
		for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
			if (!CPU_ISSET(cpu, &before))
				continue;
			CPU_ZERO(&one);
			CPU_SET(cpu, &one);
			if (sched_setaffinity(0, sizeof(one), &one) == 0)
				(void)madvise(page, page_size, MADV_COLD);
		}
		(void)sched_setaffinity(0, sizeof(before), &before);
	}
	(void)munmap(page, page_size);
	return madvise(page, page_size, MADV_COLD) == -1 && errno == ENOMEM;
}

static uint64_t
entry_read(int fd, uint64_t index)
{
	uint64_t entry;

	return pread(fd, &entry, sizeof(entry), (off_t)(index *
	    sizeof(entry))) == (ssize_t)sizeof(entry) ? entry : 0;
}

int
pages_locked(const void *at, size_t size, size_t *pages, size_t *locked)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);
	const uint64_t from = (uintptr_t)at / page;
	const uint64_t end = ((uintptr_t)at + size + page - 1) / page;
	int map = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	int flags = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
	int result = map == -1 || flags == -1 ? -1 : 0;
	bool drained = false;

	*pages = *locked = 0;
	if (result == 0)
		drained = lists_drain(page);
	for (uint64_t i = from; result == 0 && i < end; i++) {
		uint64_t entry = entry_read(map, i);
		uint64_t frame = entry & PAGEMAP_FRAME;

		++*pages;
		if ((entry & PAGEMAP_PRESENT) != 0 && frame == 0)
			result = -1; /* CAP_SYS_ADMIN is missing */
		else if ((entry & PAGEMAP_PRESENT) != 0 &&
		    (entry_read(flags, frame) & FLAGS_WANTED) == FLAGS_WANTED)
			++*locked;
	}
	if (*locked < *pages && !drained)
		result = -1;
	if (map != -1)
		(void)close(map);
	if (flags != -1)
		(void)close(flags);
	return result;
}
