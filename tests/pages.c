/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pages.c: prints what the kernel says of another process's pages;
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

#include "pages.h"

int
main(int argc, char *argv[])
{
	struct page_counts counts = { .pages = 0 };
	struct page_files files;

	if (argc != 4)
		errx(2, "usage: pages PID ADDRESS BYTES");
	pages_drain();
	pages_open(&files, (pid_t)strtol(argv[1], NULL, 10));
	if (files.map == -1)
		err(1, "the pages of process %s", argv[1]);
	pages_count(&files, strtoull(argv[2], NULL, 0),
	    strtoull(argv[3], NULL, 0), &counts);
	pages_close(&files);
	if (counts.flags && counts.hidden != 0)
		errx(1, "the kernel hides page frames: CAP_SYS_ADMIN is missing");

	(void)printf("pages=%" PRIu64 " present=%" PRIu64 " swapped=%" PRIu64,
	    counts.pages, counts.present, counts.swapped);
	if (counts.flags)
		(void)printf(" mlocked=%" PRIu64 " unevictable=%" PRIu64,
		    counts.mlocked, counts.unevictable);
	(void)putchar('\n');
	return 0;
}
