/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * checks_kernel.c: what the kernel has of what library and helper use, found by
 * using it.  Only the first of these is needed.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "tool.h"

/* Later than some headers. */
#ifndef MFD_NOEXEC_SEAL
# define MFD_NOEXEC_SEAL 0x0008U
#endif
#ifndef F_SEAL_FUTURE_WRITE
# define F_SEAL_FUTURE_WRITE 0x0010
#endif
#ifndef MADV_POPULATE_WRITE
# define MADV_POPULATE_WRITE 23
#endif
#ifndef SYS_memfd_secret
# define SYS_memfd_secret 447
#endif

/* As the helper makes one: where vm.memfd_noexec is 2 there is no other. */
static int
memfd_make(unsigned flags)
{
	return memfd_create(TOOL_NAME, MFD_CLOEXEC | MFD_ALLOW_SEALING | flags);
}

static int
memfd_make_any(void)
{
	int fd = memfd_make(MFD_NOEXEC_SEAL);

	return fd != -1 || errno != EINVAL ? fd : memfd_make(0);
}

void
check_kernel(struct doctor *d)
{
	struct utsname name;

	if (uname(&name) == -1)
		found(d, LEVEL_INFO, "uname: %s", strerror(errno));
	else
		found(d, LEVEL_PASS, "%s %s, %s", name.sysname, name.release,
		    name.machine);
}

void
check_memfd(struct doctor *d)
{
	int fd = memfd_make_any();

	if (fd == -1 || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) == -1)
		found(d, level_of_obstacle(d),
		    "no memfd_create with seals: %s; helpers need Linux 3.17",
		    strerror(errno));
	else
		found(d, LEVEL_PASS, "memfd_create with seals");
	if (fd != -1)
		(void)close(fd);
}

void
check_noexec(struct doctor *d)
{
	int fd = memfd_make(MFD_NOEXEC_SEAL);

	if (fd == -1)
		found(d, LEVEL_INFO,
		    "pools could be executed: MFD_NOEXEC_SEAL is of Linux 6.3");
	else
		found(d, LEVEL_PASS, "no pool can be executed");
	if (fd != -1)
		(void)close(fd);
}

void
check_future_write(struct doctor *d)
{
	int fd = memfd_make_any();

	if (fd != -1 && fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE) == 0)
		found(d, LEVEL_PASS, "nobody else can map a pool to write");
	else
		found(d, LEVEL_INFO,
		    "no F_SEAL_FUTURE_WRITE, which is of Linux 5.1");
	if (fd != -1)
		(void)close(fd);
}

/* What is asked of a page: whether madvise() knows ADVICE. */
static bool
advice_works(int advice)
{
	const size_t size = (size_t)sysconf(_SC_PAGESIZE);
	void *page = mmap(NULL, size, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	bool works;

	if (page == MAP_FAILED)
		return false;
	works = madvise(page, size, advice) == 0;
	(void)munmap(page, size);
	return works;
}

void
check_populate(struct doctor *d)
{
	if (advice_works(MADV_POPULATE_WRITE))
		found(d, LEVEL_PASS, "pools are populated by one call");
	else
		found(d, LEVEL_INFO, "pools are populated page by page:"
		    " MADV_POPULATE_WRITE is of Linux 5.14");
}

void
check_wipe_on_fork(struct doctor *d)
{
	if (advice_works(MADV_WIPEONFORK))
		found(d, LEVEL_PASS, "children of raw clone(2) are noticed");
	else
		found(d, LEVEL_INFO,
		    "no MADV_WIPEONFORK, which is of Linux 4.14");
}

void
check_secret(struct doctor *d)
{
	int fd = (int)syscall(SYS_memfd_secret, O_CLOEXEC);

	if (fd == -1)
		found(d, LEVEL_INFO, "no secret memory (SECMALLOC_SECRET): %s",
		    errno == ENOSYS ?
		    "it takes Linux 5.14, started with secretmem.enable=1" :
		    strerror(errno));
	else
		found(d, LEVEL_PASS, "secret memory (SECMALLOC_SECRET), by"
		    " RLIMIT_MEMLOCK");
	if (fd != -1)
		(void)close(fd);
}

void
check_pkeys(struct doctor *d)
{
	int key = -1;

#ifdef HAVE_PKEY_ALLOC
	key = pkey_alloc(0, 0);
#else
	errno = ENOSYS;
#endif
	if (key == -1)
		found(d, LEVEL_INFO, "no windows of access (SECMALLOC_PKEY): %s",
		    errno == ENOSYS || errno == EINVAL || errno == ENOSPC ?
		    "no protection key is to be had of this processor" :
		    strerror(errno));
	else
		found(d, LEVEL_PASS, "windows of access (SECMALLOC_PKEY)");
#ifdef HAVE_PKEY_ALLOC
	if (key != -1)
		(void)pkey_free(key);
#endif
}
