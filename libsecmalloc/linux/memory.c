/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * memory.c: the system calls of Linux that shape the address space; must not
 * know what the memory is for.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fatal.h"
#include "memory.h"
#include "memory_parts.h"

/* Linux 5.14; older headers lack it. */
#ifndef MADV_POPULATE_WRITE
# define MADV_POPULATE_WRITE 23
#endif

/* The same; of nearly every architecture that has it. */
#ifndef SYS_memfd_secret
# define SYS_memfd_secret 447
#endif

/*
 * Not mlock() and munlock(): the sanitizers' runtimes replace these by
 * functions that do nothing.
 */
static int
lock(void *at, size_t size)
{
	return (int)syscall(SYS_mlock, at, size);
}

static int
unlock(void *at, size_t size)
{
	return (int)syscall(SYS_munlock, at, size);
}

void *
memory_map_new(void *at, size_t size, int protection, int flags)
{
	return mmap(at, size, protection, MAP_PRIVATE | MAP_ANONYMOUS | flags,
	    -1, 0);
}

/*
 * Under mlockall(MCL_FUTURE) the reservation itself counts as locked; what is
 * mapped over it will count again.
 */
static void *
reserve(size_t size)
{
	void *at = memory_map_new(NULL, size, PROT_NONE, MAP_NORESERVE);

	if (at != MAP_FAILED)
		(void)unlock(at, size);
	return at;
}

/* Where that counts for too much: what is not locked may grow. */
static void *
reserve_by_growth(size_t size)
{
	size_t page = memory_page_size();
	void *at = reserve(page), *grown;

	if (at == MAP_FAILED)
		return MAP_FAILED;
	grown = mremap(at, page, size, MREMAP_MAYMOVE);
	if (grown == MAP_FAILED)
		(void)munmap(at, page);
	return grown;
}

void *
memory_map_reserved(size_t size)
{
	void *at = reserve(size);

	return at == MAP_FAILED && errno == EAGAIN ? reserve_by_growth(size) :
	    at;
}

static int
map_file(void *at, size_t size, int protection, int fd, size_t from)
{
	return memory_mapped(mmap(at, size, protection, MAP_SHARED | MAP_FIXED,
	    fd, (off_t)from), size);
}

int
memory_map_shared(void *at, size_t size, int fd, size_t from)
{
	return map_file(at, size, PROT_READ | PROT_WRITE, fd, from);
}

int
memory_map_readable(void *at, size_t size, int fd)
{
	return map_file(at, size, PROT_READ, fd, 0);
}

int
memory_close_off(void *at, size_t size)
{
	/* So that there is room, under the same, for what is to replace it. */
	(void)unlock(at, size);
	if (memory_map_new(at, size, PROT_NONE, MAP_NORESERVE | MAP_FIXED) ==
	    MAP_FAILED)
		return -1;
	(void)unlock(at, size); /* as of a reservation */
	return 0;
}

int
memory_claim(void *at, size_t size)
{
	void *got = memory_map_new(at, size, PROT_NONE, MAP_NORESERVE |
	    MAP_FIXED_NOREPLACE);

	if (got == MAP_FAILED)
		return -1;
	if (got == at)
		return 0;
	(void)munmap(got, size); /* Linux before 4.17 takes AT for a hint */
	return -1;
}

int
memory_move(void *to, void *from, size_t size)
{
	return mremap(from, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, to) ==
	    MAP_FAILED ? -1 : 0;
}

/*
 * Advice on reading ahead, of which nothing is read here; but mappings of which
 * the kernel was told different things stay apart (mm/vma.c).
 */
int
memory_mark(void *at, size_t size, enum memory_mark mark)
{
	static const int advice[] = {
		[MEMORY_PLAIN] = MADV_NORMAL,
		[MEMORY_FRONT] = MADV_RANDOM,
		[MEMORY_REAR] = MADV_SEQUENTIAL
	};

	if (madvise(at, size, advice[mark]) == 0)
		return 0;
	errno = ENOMEM; /* mm/madvise.c makes EAGAIN of it */
	return -1;
}

/* VIEW is a mapping, or not. */
static void *
make_view(void *view, size_t size)
{
	if (memory_mapped(view, size) == -1)
		return NULL;
	if (memory_keep_from_core(view, size) == -1 ||
	    memory_keep_from_children(view, size) == -1) {
		memory_vacate(view, size);
		errno = ENOMEM;
		return NULL;
	}
	return view;
}

void *
memory_view(void *at, size_t size)
{
	/* Of shared pages, a size of 0 leaves the old mapping as it is. */
	return make_view(mremap(at, 0, size, MREMAP_MAYMOVE), size);
}

void *
memory_view_file(int fd, size_t offset, size_t size)
{
	return make_view(mmap(NULL, size, PROT_NONE, MAP_SHARED, fd,
	    (off_t)offset), size);
}

void
memory_discard_locked(void *at, size_t size)
{
	(void)unlock(at, size);
	(void)madvise(at, size, MADV_DONTNEED);
	/* What is inaccessible is not populated, but marked as locked. */
	(void)lock(at, size);
}

void
memory_discard(void *at, size_t size)
{
	if (madvise(at, size, MADV_DONTNEED) == -1)
		memset(at, 0, size); /* locked, by mlockall() */
}

size_t
memory_map_limit(void)
{
	enum { DEFAULT = 65530 }; /* include/linux/mm.h */
	char digits[24];
	size_t limit = 0;
	ssize_t n = -1;
	int fd = open("/proc/sys/vm/max_map_count", O_RDONLY | O_CLOEXEC);

	if (fd != -1) {
		n = read(fd, digits, sizeof digits);
		(void)close(fd);
	}
	for (ssize_t i = 0; i < n && digits[i] >= '0' && digits[i] <= '9'; i++)
		limit = limit * 10 + (size_t)(digits[i] - '0');
	return limit != 0 ? limit : DEFAULT;
}

int
memory_populate(void *at, size_t size)
{
	volatile unsigned char *byte = at;

	if (madvise(at, size, MADV_POPULATE_WRITE) == 0)
		return 0;
	if (errno != EINVAL) {
		/* EFAULT, EHWPOISON, EAGAIN: all of them, no page was to be had */
		errno = ENOMEM;
		return -1;
	}
	for (size_t i = 0; i < size; i += memory_page_size())
		byte[i] = 0;
	return 0;
}

int
memory_lock(void *at, size_t size)
{
	struct rlimit limit;

	if (lock(at, size) == 0)
		return 0;
	/*
	 * mm/mlock.c: EPERM if the limit is 0, ENOMEM both for a limit that is
	 * reached and for want of memory.
	 */
	if (errno == ENOMEM && getrlimit(RLIMIT_MEMLOCK, &limit) == 0 &&
	    limit.rlim_cur != RLIM_INFINITY)
		errno = EAGAIN;
	return -1;
}

/* A mapping that is locked refuses to be invalidated (mm/msync.c). */
bool
memory_is_locked(void *at, size_t size)
{
	unsigned char *byte = at;

	for (size_t i = 0; i < size; i += memory_page_size())
		if (msync(byte + i, memory_page_size(), MS_ASYNC |
		    MS_INVALIDATE) == 0 || errno != EBUSY)
			return false;
	return true;
}

/* Nothing but page tables leads to what mm/gup.c refuses to look at. */
bool
memory_is_secret(void *at, size_t size)
{
	unsigned char *byte = at, got;
	struct iovec to = { &got, 1 }, from = { at, 1 };

	for (size_t i = 0; i < size; i += memory_page_size()) {
		from.iov_base = byte + i;
		if (process_vm_readv(getpid(), &to, 1, &from, 1, 0) != -1 ||
		    errno != EFAULT)
			return false;
	}
	return true;
}

/* A file of SIZE bytes of them. */
static int
secret_file(size_t size)
{
	struct rlimit limit;
	int fd;

	/* To go beyond it is a signal, which is the host's. */
	if (getrlimit(RLIMIT_FSIZE, &limit) == 0 &&
	    limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur < size) {
		errno = ENOMEM;
		return -1;
	}
	fd = (int)syscall(SYS_memfd_secret, O_CLOEXEC);
	if (fd == -1) {
		/* ENOSYS, or what a filter of system calls says instead. */
		if (errno != EMFILE && errno != ENFILE && errno != ENOMEM)
			errno = ENOTSUP;
		return -1;
	}
	if (ftruncate(fd, (off_t)size) == 0)
		return fd;
	(void)close(fd);
	errno = ENOMEM;
	return -1;
}

/*
 * mm/gup.c refuses MADV_POPULATE_WRITE.  Where pages are counted when they are
 * touched, and not when they are mapped, one too many is a SIGBUS; but to a
 * system call that writes there it is an error.
 */
static int
populate_secret(void *at, size_t size)
{
	size_t page = memory_page_size();

	for (size_t i = 0; i < size; i += page) {
		void *mask = (unsigned char *)at + i;

		if (sigprocmask(SIG_SETMASK, NULL, mask) == -1)
			return -1;
		memory_wipe(mask, sizeof(sigset_t));
	}
	return 0;
}

int
memory_map_secret(void *at, size_t size)
{
	int fd = secret_file(size), result, error;
	struct rlimit limit;

	if (fd == -1)
		return -1;
	result = memory_map_shared(at, size, fd, 0);
	error = errno;
	(void)close(fd);
	if (result == 0 && populate_secret(at, size) == 0)
		return 0;
	/* Of both kinds, any limit. */
	if (getrlimit(RLIMIT_MEMLOCK, &limit) == -1)
		limit.rlim_cur = 0;
	if (result == 0)
		error = limit.rlim_cur == RLIM_INFINITY ? ENOMEM : EAGAIN;
	errno = error == EAGAIN && limit.rlim_cur == 0 ? EPERM : error;
	return -1;
}

int
memory_keep_from_core(void *at, size_t size)
{
	return madvise(at, size, MADV_DONTDUMP);
}

int
memory_keep_from_children(void *at, size_t size)
{
	return madvise(at, size, MADV_DONTFORK);
}

int
memory_wipe_in_children(void *at, size_t size)
{
	return madvise(at, size, MADV_WIPEONFORK);
}
