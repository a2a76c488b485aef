/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * locker.c: makes memfds, locks them, keeps them locked while they are mapped;
 * must not know who asks, nor ever write to or read from a pool.
 */
#include "config.h"
#include "helper.h"

#define MFD_NAME "secmalloc"
#define MFD_FLAGS (MFD_CLOEXEC | MFD_ALLOW_SEALING)

/* What is tried at the start: the library's first pool. */
#define TRIAL_BYTES ((size_t)256 << 10)

/* Nanoseconds between two looks at who still maps a pool; doubled up to MAX. */
#define PAUSE_MIN 1000000
#define PAUSE_MAX 250000000

struct pool {
	void *base; /* MAP_FAILED until it is locked */
	size_t size;
	uint32_t id;
	int fd;
};

/* The first pool_count are in use, in no order. */
static struct pool pools[WIRE_POOLS_MAX];
static uint32_t pool_count;
static uint32_t last_id;
struct locker locker;

uint64_t
page_size(void)
{
	return (uint64_t)sysconf(_SC_PAGESIZE);
}

int
memfd_make(size_t size)
{
	int fd = memfd_create(MFD_NAME, MFD_FLAGS | MFD_NOEXEC_SEAL);

	if (fd == -1 && errno == EINVAL)
		fd = memfd_create(MFD_NAME, MFD_FLAGS);
	if (fd != -1 && (fchmod(fd, 0) == -1 ||
	    ftruncate(fd, (off_t)size) == -1 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == -1)) {
		close(fd); /* which leaves errno alone */
		fd = -1;
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

	if (base != MAP_FAILED && (mlock(base, length) == -1 ||
	    mprotect(base, length, PROT_NONE) == -1)) {
		munmap(base, length); /* which leaves errno alone */
		base = MAP_FAILED;
	}
	return base;
}

/* The file is a whole pool's, since the caller's limits may be in force. */
enum wire_status
locker_open(uint64_t limit)
{
	const size_t page = (size_t)page_size();
	int fd = memfd_make(TRIAL_BYTES - TRIAL_BYTES % page + page);
	void *base = fd == -1 ? MAP_FAILED : memfd_lock(fd, page);
	enum wire_status status = base != MAP_FAILED ? WIRE_OK :
	    refuse_errno("this helper cannot lock memory");

	if (base != MAP_FAILED)
		munmap(base, page);
	if (fd != -1)
		close(fd);
	locker.limit = MIN(limit, SIZE_MAX / 2) / page_size() * page_size();
	return status;
}

static enum wire_status
pool_charge(uint64_t bytes)
{
	const char *against;

	if (bytes == 0 || bytes % page_size() != 0)
		return refuse(WIRE_EINVAL, "%" PRIu64 " bytes", bytes);
	against = bytes > locker.limit - locker.held ? "limit or total" :
	    pool_count == WIRE_POOLS_MAX || last_id == UINT32_MAX ?
	    "the number of pools" : ledger_take(bytes / page_size());
	return against == NULL ? WIRE_OK : refuse(WIRE_EDQUOT,
	    "%" PRIu64 " bytes more than %s", bytes, against);
}

/* The outstanding one: charged for, not locked yet. */
static void
pool_add(int fd, uint64_t bytes)
{
	locker.outstanding = ++last_id;
	pools[pool_count++] = (struct pool){ MAP_FAILED, (size_t)bytes,
	    last_id, fd };
	locker.held += bytes;
}

enum wire_status
locker_grant(uint64_t bytes, uint32_t *id, int *fd)
{
	enum wire_status status = pool_charge(bytes);

	if (status != WIRE_OK)
		return status;
	if ((*fd = memfd_make((size_t)bytes)) == -1) {
		ledger_give(bytes / page_size()); /* leaves errno alone */
		return refuse_errno("a pool");
	}
	pool_add(*fd, bytes);
	*id = last_id;
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
		locker.locked -= pool->size;
		locker.locked_pools--;
	}
	locker.held -= pool->size;
	ledger_give(pool->size / page_size());
	if (pool->id == locker.outstanding)
		locker.outstanding = 0;
	*pool = pools[--pool_count];
}

/*
 * Sealed first, so that what is found populated cannot be punched out again.
 * Before Linux 5.1 there is no such seal; a client can then spoil its own
 * lock, nobody else's.  Populated, so that the pages are in the client's memory
 * cgroup and not in ours.  Blocks do not tell that: those of a client's own
 * memfd may lie behind its end.
 */
enum wire_status
locker_lock(void)
{
	struct pool *pool = pool_find(locker.outstanding);
	enum wire_status status = WIRE_OK;
	struct stat st;

	if (pool == NULL)
		return WIRE_EINVAL;
	if ((fcntl(pool->fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE) == -1 &&
	    errno != EINVAL) || fstat(pool->fd, &st) == -1 ||
	    (uint64_t)st.st_size != pool->size ||
	    lseek(pool->fd, 0, SEEK_HOLE) != st.st_size)
		status = refuse(WIRE_EINVAL, "a pool that is not populated");
	else if ((pool->base = memfd_lock(pool->fd, pool->size)) == MAP_FAILED)
		status = refuse_errno("a lock");
	if (status != WIRE_OK) {
		pool_drop(pool);
		return status;
	}
	locker.locked += pool->size;
	locker.locked_pools++;
	locker.outstanding = 0;
	return WIRE_OK;
}

/*
 * A file that has these seals is a memfd.  Whose it is, and whether it was ever
 * locked, is not asked: it is locked on the same terms as one of ours.
 */
enum wire_status
locker_adopt(int fd, uint64_t bytes, uint32_t *id)
{
	const int seals = fcntl(fd, F_GET_SEALS);
	enum wire_status status;
	struct statfs fs;

	/* Asked first: a file of FUSE might not answer the other. */
	status = seals == -1 || (~seals & (F_SEAL_SHRINK | F_SEAL_GROW)) != 0 ||
	    fstatfs(fd, &fs) == -1 || fs.f_type != TMPFS_MAGIC ?
	    refuse(WIRE_EINVAL, "what is no pool") : pool_charge(bytes);
	if (status == WIRE_OK) {
		pool_add(fd, bytes);
		status = locker_lock();
	} else
		close(fd);
	*id = status == WIRE_OK ? last_id : 0;
	return status;
}

/* One that was reaped is still the client's to release. */
bool
locker_release(uint32_t id)
{
	struct pool *pool = pool_find(id);

	if (pool != NULL)
		pool_drop(pool);
	return id != 0 && id <= last_id;
}

uint64_t
locker_left(void)
{
	uint64_t own = locker.limit - locker.held, pages = ledger_left();

	return pages < own / page_size() ? pages * page_size() : own;
}

/*
 * The seal is refused with EBUSY while the memfd is mapped shared and writable
 * anywhere.  Where nobody maps it so, it is sealed for good, which is why this
 * must not be asked of a pool that is not locked: its client has yet to map it.
 * After the lock nobody can any more, by F_SEAL_FUTURE_WRITE.
 */
bool
locker_reap(void)
{
	for (uint32_t i = pool_count; i-- > 0;)
		if (pools[i].base != MAP_FAILED && (fcntl(pools[i].fd,
		    F_ADD_SEALS, F_SEAL_WRITE) == 0 || errno != EBUSY))
			pool_drop(&pools[i]);
	return locker.locked_pools != 0;
}

void
locker_linger(void)
{
	struct timespec pause = { .tv_nsec = PAUSE_MIN };

	for (locker_release(locker.outstanding); locker_reap();
	    pause.tv_nsec *= pause.tv_nsec < PAUSE_MAX ? 2 : 1)
		clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
}
