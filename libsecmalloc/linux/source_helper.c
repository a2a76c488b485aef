/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * source_helper.c: locked pages through the helper; must not know what they
 * are for, nor how the helper is spoken to.
 */
#include "config.h"

#include <errno.h>

#include "memory.h"
#include "secmalloc.h"
#include "source.h"
#include "window.h"

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
 * One after another out of FD.  Populated by us and before the lock: the pages
 * are charged to the cgroup of whoever touches them first.
 */
static int
map(const struct source_range *ranges, size_t count, int fd)
{
	size_t from = 0;

	for (size_t i = 0; i < count; i++) {
		if (memory_map_shared(ranges[i].at, ranges[i].size, fd,
		    from) == -1 ||
		    memory_keep_from_core(ranges[i].at, ranges[i].size) == -1 ||
		    memory_populate(ranges[i].at, ranges[i].size) == -1 ||
		    window_cover(ranges[i].at, ranges[i].size) == -1)
			return -1;
		from += ranges[i].size;
	}
	return 0;
}

static int
map_and_lock(struct source *source, const struct source_range *ranges,
    size_t count, int fd, uint32_t ticket)
{
	int error;

	if (client_check(fd, source_bytes(ranges, count)) == 0 &&
	    map(ranges, count, fd) == 0)
		/* Refused, the grant is the helper's again. */
		return client_lock(&source->client, ticket);
	error = errno;
	(void)client_release(&source->client, ticket);
	errno = error;
	return -1;
}

/* The descriptor stays open, for the helper that comes after this one. */
static int
helper_provide(struct source *source, const struct source_range *ranges,
    size_t count, struct grant *grant)
{
	int fd, error;

	if (client_grant(&source->client, source_bytes(ranges, count),
	    &grant->ticket, &fd) == -1)
		return -1;
	if (descriptor_keep(&grant->memory, fd) == -1) {
		error = errno;
		(void)client_release(&source->client, grant->ticket);
		errno = error;
		return -1;
	}
	if (map_and_lock(source, ranges, count, grant->memory.fd,
	    grant->ticket) == 0)
		return 0;
	error = errno;
	descriptor_close(&grant->memory);
	for (size_t i = 0; i < count; i++)
		(void)memory_close_off(ranges[i].at, ranges[i].size);
	errno = error;
	return -1;
}

static int
helper_adopt(struct source *source, const struct source_range *ranges,
    size_t count, struct grant *grant)
{
	if (descriptor_is_ours(&grant->memory))
		return client_adopt(&source->client,
		    source_bytes(ranges, count), grant->memory.fd,
		    &grant->ticket);
	errno = ENOLCK;
	return -1;
}

static void
helper_withdraw(struct source *source, struct grant *grant)
{
	/* A helper that does not answer sees for itself who maps what. */
	(void)client_release(&source->client, grant->ticket);
	descriptor_close(&grant->memory);
}

static bool
helper_answers(struct source *source)
{
	return client_answers(&source->client);
}

static bool
helper_keeps(const struct source *source)
{
	return client_lives(&source->client);
}

static int
helper_verify(struct source *source, const struct source_range *ranges,
    size_t count)
{
	uint64_t pools, bytes;

	if (client_status(&source->client, &pools, &bytes) == 0 &&
	    pools == source->pools && bytes == source_bytes(ranges, count))
		return 0;
	/* Not asked, it keeps what is mapped as long as it lives. */
	if (!client_answers(&source->client) && client_lives(&source->client))
		return 0;
	errno = ENOLCK;
	return -1;
}

static int
helper_descriptor(const struct source *source)
{
	return source->client.socket.fd;
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
	.adopt = helper_adopt,
	.withdraw = helper_withdraw,
	.answers = helper_answers,
	.keeps = helper_keeps,
	.verify = helper_verify,
	.descriptor = helper_descriptor,
	.close = helper_close,
};
