/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pages.h: what the kernel says of another process's pages; knows nothing of
 * whose they are or what they should be.
 */
#ifndef TESTS_PAGES_H
#define TESTS_PAGES_H

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

/* Documentation/admin-guide/mm/pagemap.rst and linux/kernel-page-flags.h. */
#define PAGEMAP_PRESENT (UINT64_C(1) << 63)
#define PAGEMAP_SWAPPED (UINT64_C(1) << 62)
#define PAGEMAP_PFN ((UINT64_C(1) << 55) - 1)
#define KPF_UNEVICTABLE (UINT64_C(1) << 18)
#define KPF_MLOCKED (UINT64_C(1) << 33)

struct page_counts {
	uint64_t pages;
	uint64_t present;
	uint64_t swapped;
	uint64_t hidden;      /* present, but the kernel does not say where */
	uint64_t mlocked;
	uint64_t unevictable;
	uint64_t locked;      /* both; but see pages_count_pools() */
	uint64_t frame;       /* of the first page */
	bool flags;           /* whether mlocked and unevictable are known */
};

/* Of a process's memory and all frames; -1 where that may not be read. */
struct page_files {
	int map, flags;
};

static inline void
pages_open(struct page_files *files, pid_t pid)
{
	char name[64];

	(void)snprintf(name, sizeof(name), "/proc/%ld/pagemap", (long)pid);
	files->map = open(name, O_RDONLY | O_CLOEXEC);
	files->flags = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
}

static inline void
pages_close(struct page_files *files)
{
	if (files->map != -1)
		(void)close(files->map);
	if (files->flags != -1)
		(void)close(files->flags);
}

/* 0 for what cannot be read: a page that nobody has. */
static inline uint64_t
pages_entry(int fd, uint64_t index)
{
	uint64_t entry;

	return pread(fd, &entry, sizeof(entry), (off_t)(index *
	    sizeof(entry))) == (ssize_t)sizeof(entry) ? entry : 0;
}

/*
 * A new page is on a list of the processor that made it, and when it leaves that
 * list it is marked as unevictable, and who has locked it is counted from then
 * on.  Empties those of all processors, by MADV_COLD, which anybody may do
 * (mm/madvise.c: lru_add_drain()).
 */
static inline void
pages_drain(void)
{
	const size_t size = (size_t)sysconf(_SC_PAGESIZE);
	void *page = mmap(NULL, size, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	cpu_set_t before, one;
	bool fine = page != MAP_FAILED &&
	    sched_getaffinity(0, sizeof(before), &before) == 0;

	for (size_t cpu = 0; fine && cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &before))
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		fine = sched_setaffinity(0, sizeof(one), &one) == 0 &&
		    madvise(page, size, MADV_COLD) == 0;
	}
	if (!fine) {
		perror("pages_drain");
		exit(2);
	}
	(void)sched_setaffinity(0, sizeof(before), &before);
	(void)munmap(page, size);
}

/* Adds the pages of the SIZE bytes at AT to *COUNTS, zero at first. */
static inline void
pages_count(const struct page_files *files, uint64_t at, uint64_t size,
    struct page_counts *counts)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	uint64_t end = (at + size + page - 1) / page;

	counts->flags = files->flags != -1;
	for (uint64_t i = at / page; i < end; i++) {
		uint64_t entry = pages_entry(files->map, i), bits = 0;
		uint64_t frame = entry & PAGEMAP_PFN;

		counts->swapped += (entry & PAGEMAP_SWAPPED) != 0;
		if ((entry & PAGEMAP_PRESENT) == 0)
			frame = 0;
		else {
			counts->present++;
			counts->hidden += frame == 0;
		}
		if (counts->pages++ == 0)
			counts->frame = frame;
		if (frame != 0 && files->flags != -1)
			bits = pages_entry(files->flags, frame);
		counts->mlocked += (bits & KPF_MLOCKED) != 0;
		counts->unevictable += (bits & KPF_UNEVICTABLE) != 0;
		counts->locked += (bits & KPF_MLOCKED) != 0 &&
		    (bits & KPF_UNEVICTABLE) != 0;
	}
}

/*
 * Shared pages are found in a page table only once its process has touched
 * them: reads a byte of each for it.
 */
static inline void
pages_touch(pid_t pid, uint64_t at, uint64_t size)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	char name[64], byte;
	int fd;

	(void)snprintf(name, sizeof(name), "/proc/%ld/mem", (long)pid);
	if ((fd = open(name, O_RDONLY | O_CLOEXEC)) == -1)
		return;
	for (uint64_t i = 0; i < size; i += page)
		(void)!pread(fd, &byte, 1, (off_t)(at + i));
	(void)close(fd);
}

/*
 * Of all pools of PID: what it maps, writable or not at all, of files that a
 * helper has made, and what it has locked itself.  Of the latter every page that
 * is present counts as locked: where a process forks, the kernel may lose count
 * of who has locked a page, and clear its flag, which it restores before it would
 * take the page from a mapping that is locked (mm/rmap.c: try_to_unmap_one()).
 */
static inline void
pages_count_pools(pid_t pid, struct page_counts *counts)
{
	struct page_files files;
	uint64_t from = 0, end = 0;
	char name[64], *line = NULL;
	size_t room = 0;
	bool helper = false;
	FILE *smaps;

	(void)snprintf(name, sizeof(name), "/proc/%ld/smaps", (long)pid);
	if ((smaps = fopen(name, "re")) == NULL)
		return;
	pages_open(&files, pid);
	while (getline(&line, &room, smaps) != -1) {
		char *rest;
		uint64_t start = strtoull(line, &rest, 16);

		if (rest != line && *rest == '-') {
			from = start;
			end = strtoull(rest + 1, &rest, 16);
			/* What is only read tells whether a helper lives. */
			helper = strstr(rest, "/memfd:secmalloc ") != NULL &&
			    strncmp(rest, " r--s", 5) != 0;
		} else if (strncmp(line, "VmFlags:", 8) == 0 &&
		    (helper || strstr(line, " lo") != NULL)) {
			uint64_t present = counts->present;
			uint64_t locked = counts->locked;

			if (helper)
				pages_touch(pid, from, end - from);
			pages_count(&files, from, end - from, counts);
			if (!helper)
				counts->locked = locked + counts->present -
				    present;
		}
	}
	free(line);
	(void)fclose(smaps);
	pages_close(&files);
}

#endif
