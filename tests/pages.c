/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pages.c: counts what the kernel says of another process's pages;
 * knows nothing of whose they are or what they should be.
 *
 * usage: pages PID ADDRESS BYTES
 *
 * prints "pages=N present=N swapped=N mlocked=N unevictable=N", the last two for
 * root only.  A page of shared memory that was swapped out is counted as neither
 * present nor swapped: the kernel keeps no trace of it in the page table.
 */
#include "config.h"

#include <err.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Documentation/admin-guide/mm/pagemap.rst and linux/kernel-page-flags.h. */
#define PAGEMAP_PRESENT (UINT64_C(1) << 63)
#define PAGEMAP_SWAPPED (UINT64_C(1) << 62)
#define PAGEMAP_PFN ((UINT64_C(1) << 55) - 1)
#define KPF_UNEVICTABLE (UINT64_C(1) << 18)
#define KPF_MLOCKED (UINT64_C(1) << 33)

static uint64_t
entry_at(int fd, const char *name, uint64_t index)
{
	uint64_t entry;

	if (pread(fd, &entry, sizeof(entry), (off_t)(index * sizeof(entry))) !=
	    (ssize_t)sizeof(entry))
		err(1, "%s", name);
	return entry;
}

int
main(int argc, char *argv[])
{
	char name[64];
	uint64_t page, first, last;
	unsigned long present = 0, swapped = 0, mlocked = 0, unevictable = 0;
	int pagemap, flags;

	if (argc != 4)
		errx(2, "usage: pages PID ADDRESS BYTES");
	page = (uint64_t)sysconf(_SC_PAGESIZE);
	first = strtoull(argv[2], NULL, 0) / page;
	last = (strtoull(argv[2], NULL, 0) + strtoull(argv[3], NULL, 0) +
	    page - 1) / page;

	(void)snprintf(name, sizeof(name), "/proc/%ld/pagemap",
	    strtol(argv[1], NULL, 10));
	pagemap = open(name, O_RDONLY | O_CLOEXEC);
	if (pagemap < 0)
		err(1, "%s", name);
	flags = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);

	for (uint64_t i = first; i < last; i++) {
		uint64_t entry = entry_at(pagemap, name, i), kpf;

		if (entry & PAGEMAP_SWAPPED)
			swapped++;
		if (!(entry & PAGEMAP_PRESENT))
			continue;
		present++;
		if (flags < 0)
			continue;
		if ((entry & PAGEMAP_PFN) == 0)
			errx(1, "the kernel hides page frames: CAP_SYS_ADMIN is missing");
		kpf = entry_at(flags, "/proc/kpageflags", entry & PAGEMAP_PFN);
		mlocked += (kpf & KPF_MLOCKED) != 0;
		unevictable += (kpf & KPF_UNEVICTABLE) != 0;
	}
	(void)printf("pages=%" PRIu64 " present=%lu swapped=%lu", last - first,
	    present, swapped);
	if (flags >= 0)
		(void)printf(" mlocked=%lu unevictable=%lu", mlocked, unevictable);
	(void)putchar('\n');
	return 0;
}
