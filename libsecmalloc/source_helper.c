/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * source_helper.c: locked pages through the helper; must not know what they
 * are for, nor how the helper is spoken to.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "memory.h"
#include "secmalloc.h"
#include "source.h"

#if !defined(SOCKET_PATH) || !defined(HELPER_PATH)
# error "SOCKET_PATH, HELPER_PATH: where the system instance and the helper are"
#endif

/*
 * Where a helper is looked for, in this order.  The system instance comes
 * first: it also serves who may not gain a privilege by executing a file.
 */
static const char *const places[] = { SOCKET_PATH, HELPER_PATH };

/* Whatever the first one's refusal is, the next one may know better. */
static int
helper_open(struct source *source, const char *helper_path)
{
	int error = EPERM;

	if (helper_path != NULL)
		return client_open(&source->client, helper_path);
	for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
		if (client_open(&source->client, places[i]) == 0)
			return 0;
		error = source_refusal(error, errno);
	}
	errno = error;
	return -1;
}

/*
 * Whether FD is what a grant is: of that size, and sealed against becoming
 * shorter, which would turn our next touch into a SIGBUS.
 */
static int
check_grant(int fd, size_t size)
{
	struct stat st;
	int seals = fcntl(fd, F_GET_SEALS);

	if (seals == -1 || (seals & F_SEAL_SHRINK) == 0 ||
	    fstat(fd, &st) == -1 || (uintmax_t)st.st_size != size) {
		errno = EPROTO;
		return -1;
	}
	return 0;
}

static int
map_and_lock(struct source *source, void *at, size_t size, int fd,
    uint32_t ticket)
{
	int error;

	/*
	 * Populated by us and before the lock: the pages are charged to the
	 * cgroup of whoever touches them first.
	 */
	if (check_grant(fd, size) == 0 &&
	    memory_map_shared(at, size, fd) == 0 &&
	    memory_keep_from_core(at, size) == 0 &&
	    memory_populate(at, size) == 0)
		/* Refused, the grant is the helper's again. */
		return client_lock(&source->client, ticket);
	error = errno;
	(void)client_release(&source->client, ticket);
	errno = error;
	return -1;
}

static int
helper_provide(struct source *source, void *at, size_t size, uint32_t *ticket)
{
	int fd, error;

	if (client_grant(&source->client, size, ticket, &fd) == -1)
		return -1;
	if (map_and_lock(source, at, size, fd, *ticket) == 0) {
		(void)close(fd); /* the mapping keeps the memory */
		return 0;
	}
	error = errno;
	(void)close(fd);
	(void)memory_close_off(at, size);
	errno = error;
	return -1;
}

static void
helper_withdraw(struct source *source, uint32_t ticket)
{
	/* If the helper is gone, so is the lock. */
	(void)client_release(&source->client, ticket);
}

static bool
helper_alive(struct source *source)
{
	return client_alive(&source->client);
}

static int
helper_verify(struct source *source, const struct source_range *ranges,
    size_t count)
{
	uint64_t pools, bytes, expected = 0;

	for (size_t i = 0; i < count; i++)
		expected += ranges[i].size;
	if (client_status(&source->client, &pools, &bytes) == -1 ||
	    pools != count || bytes != expected) {
		errno = ENOLCK;
		return -1;
	}
	return 0;
}

static void
helper_close(struct source *source)
{
	client_close(&source->client);
}

const struct source_ops source_helper = {
	.mode = SECMALLOC_MODE_HELPER,
	.shared = true,
	.open = helper_open,
	.provide = helper_provide,
	.withdraw = helper_withdraw,
	.alive = helper_alive,
	.verify = helper_verify,
	.close = helper_close,
};
