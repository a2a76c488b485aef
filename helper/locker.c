/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * locker.c: makes memfds, locks them, keeps them locked while anybody maps them;
 * must not know who asks, nor ever write to or read from a pool.
 */
#include "config.h"

#include <sys/mman.h>
#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include "locker.h"

/* Of Linux 6.3 and 5.1; older headers lack them. */
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

#define MFD_NAME "secmalloc"
#define MFD_FLAGS (MFD_CLOEXEC | MFD_ALLOW_SEALING)

/* What is tried at the start: the library's first pool, or 16 pages. */
#define TRIAL_BYTES ((uint64_t)256 << 10)
#define TRIAL_PAGES 16

/* Milliseconds between two looks at who still maps a pool. */
#define PAUSE_MIN 1
#define PAUSE_MAX 250

struct pool {
	void *base; /* MAP_FAILED until it is locked */
	size_t size;
	uint32_t id;
	int fd;
};

/* The first pool_count are in use, in no order. */
static struct pool pools[WIRE_POOLS_MAX];
static uint32_t pool_count;
static uint32_t outstanding;
static uint32_t last_id;
static uint64_t bytes_held;   /* granted and locked */
static uint64_t bytes_locked;

static uint64_t
page_size(void)
{
	return (uint64_t)sysconf(_SC_PAGESIZE);
}

/*
 * A memfd that cannot be resized, executed, or opened by another process of
 * this user through /proc.  -1 with errno.
 */
static int
memfd_make(size_t size)
{
	int fd = memfd_create(MFD_NAME, MFD_FLAGS | MFD_NOEXEC_SEAL);

	if (fd == -1 && errno == EINVAL)
		fd = memfd_create(MFD_NAME, MFD_FLAGS);
	if (fd == -1)
		return -1;
	if (fchmod(fd, 0) == -1 || ftruncate(fd, (off_t)size) == -1 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == -1) {
		close(fd); /* which leaves errno alone */
		return -1;
	}
	return fd;
}

/*
 * Maps and locks the first LENGTH bytes of a memfd.  The mapping is private,
 * which does not count as writable when somebody probes with F_SEAL_WRITE, and
 * in the end lets nobody here read it.  MAP_FAILED with errno.
 */
static void *
memfd_lock(int fd, size_t length)
{
	void *base = mmap(NULL, length, PROT_READ, MAP_PRIVATE, fd, 0);

	if (base == MAP_FAILED)
		return MAP_FAILED;
	if (mlock(base, length) == -1 ||
	    mprotect(base, length, PROT_NONE) == -1) {
		munmap(base, length); /* which leaves errno alone */
		return MAP_FAILED;
	}
	return base;
}

/* EAGAIN is mlock's for pages that could not be had. */
static enum wire_status
status_of_errno(void)
{
	return errno == EPERM ? WIRE_EPERM : WIRE_ENOMEM;
}

/*
 * One page is locked, for the sake of time; room is asked for a whole pool,
 * since the caller's limits may be in force.
 */
enum wire_status
locker_trial(void)
{
	uint64_t bytes = TRIAL_PAGES * page_size();
	enum wire_status status = WIRE_OK;
	void *base, *locked;
	int fd;

	if (bytes < TRIAL_BYTES)
		bytes = TRIAL_BYTES;
	if ((fd = memfd_make((size_t)bytes)) == -1)
		return status_of_errno();
	base = mmap(NULL, (size_t)bytes, PROT_NONE, MAP_PRIVATE, fd, 0);
	locked = memfd_lock(fd, (size_t)page_size());
	if (base == MAP_FAILED || locked == MAP_FAILED)
		status = status_of_errno();
	if (base != MAP_FAILED)
		munmap(base, (size_t)bytes);
	if (locked != MAP_FAILED)
		munmap(locked, (size_t)page_size());
	close(fd);
	return status;
}

enum wire_status
locker_grant(uint64_t bytes, uint32_t *id, int *fd)
{
	struct pool *pool = &pools[pool_count];

	if (bytes == 0 || bytes % page_size() != 0)
		return WIRE_EINVAL;
	if (bytes > HELPER_CEILING - bytes_held ||
	    pool_count == WIRE_POOLS_MAX || last_id == UINT32_MAX)
		return WIRE_EDQUOT;
	if ((pool->fd = memfd_make((size_t)bytes)) == -1)
		return status_of_errno();
	pool->base = MAP_FAILED;
	pool->size = (size_t)bytes;
	pool->id = ++last_id;
	pool_count++;
	bytes_held += bytes;
	outstanding = pool->id;
	*id = pool->id;
	*fd = pool->fd;
	return WIRE_OK;
}

static struct pool *
pool_find(uint32_t id)
{
	for (uint32_t i = 0; i < pool_count; i++)
		if (pools[i].id == id)
			return &pools[i];
	return NULL;
}

/* The memfd's own blocks go with the last mapping, of whomever it is. */
static void
pool_drop(struct pool *pool)
{
	/* First, so that the last mapping ends the memory with the lock. */
	close(pool->fd);
	if (pool->base != MAP_FAILED) {
		munmap(pool->base, pool->size);
		bytes_locked -= pool->size;
	}
	bytes_held -= pool->size;
	if (pool->id == outstanding)
		outstanding = 0;
	*pool = pools[--pool_count];
}

/*
 * Sealed first, so that what is found populated cannot be punched out again.
 * Before Linux 5.1 there is no such seal; a client can then spoil its own
 * lock, nobody else's.  Populated, so that the pages are in the client's memory
 * cgroup and not in ours.
 */
enum wire_status
locker_lock(void)
{
	struct pool *pool = pool_find(outstanding);
	enum wire_status status = WIRE_OK;
	struct stat st;

	if (pool == NULL)
		return WIRE_EINVAL;
	if ((fcntl(pool->fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE) == -1 &&
	    errno != EINVAL) || fstat(pool->fd, &st) == -1 ||
	    (uint64_t)st.st_blocks * 512 < pool->size)
		status = WIRE_EINVAL;
	else if ((pool->base = memfd_lock(pool->fd, pool->size)) == MAP_FAILED)
		status = status_of_errno();
	if (status != WIRE_OK) {
		pool_drop(pool);
		return status;
	}
	bytes_locked += pool->size;
	outstanding = 0;
	return WIRE_OK;
}

/* One that was reaped is still the client's to release. */
bool
locker_release(uint32_t id)
{
	struct pool *pool = pool_find(id);

	if (pool == NULL)
		return id != 0 && id <= last_id;
	pool_drop(pool);
	return true;
}

uint32_t
locker_outstanding(void)
{
	return outstanding;
}

struct locker_totals
locker_totals(void)
{
	return (struct locker_totals){
		.locked = bytes_locked,
		.pools = pool_count - (outstanding != 0),
		.left = HELPER_CEILING - bytes_held,
	};
}

/*
 * The seal is refused with EBUSY while the memfd is mapped shared and writable
 * anywhere.  Where nobody maps it so, it is sealed for good, which is why this
 * must not be asked of a pool that is not locked: its client has yet to map it.
 * After the lock nobody can any more, by F_SEAL_FUTURE_WRITE.
 */
static bool
pool_is_mapped(const struct pool *pool)
{
	return fcntl(pool->fd, F_ADD_SEALS, F_SEAL_WRITE) == -1 &&
	    errno == EBUSY;
}

bool
locker_reap(void)
{
	for (uint32_t i = pool_count; i-- > 0;)
		if (pools[i].base != MAP_FAILED && !pool_is_mapped(&pools[i]))
			pool_drop(&pools[i]);
	return bytes_locked != 0;
}

void
locker_linger(void)
{
	long pause = PAUSE_MIN;
	struct timespec t;

	locker_release(outstanding);
	while (locker_reap()) {
		t = (struct timespec){ .tv_nsec = pause * 1000000 };
		clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
		pause = pause > PAUSE_MAX / 2 ? PAUSE_MAX : pause * 2;
	}
}
