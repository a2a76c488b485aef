/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * descriptor.c: tells our open files from the host's; must not know what they
 * are for.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "descriptor.h"

static int
above_standard(int fd)
{
	int moved;

	if (fd == -1 || fd > STDERR_FILENO)
		return fd;
	moved = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	if (moved == -1 && errno == EINVAL)
		errno = EMFILE; /* RLIMIT_NOFILE leaves only those */
	(void)close(fd); /* which leaves errno alone */
	return moved;
}

int
descriptor_keep(struct descriptor *kept, int fd)
{
	struct stat st;

	kept->fd = -1;
	if ((fd = above_standard(fd)) == -1)
		return -1;
	if (fstat(fd, &st) == -1) {
		(void)close(fd);
		errno = ENOMEM;
		return -1;
	}
	*kept = (struct descriptor){ fd, st.st_dev, st.st_ino };
	return 0;
}

bool
descriptor_is_ours(const struct descriptor *kept)
{
	struct stat st;

	return kept->fd != -1 && fstat(kept->fd, &st) == 0 &&
	    st.st_dev == kept->dev && st.st_ino == kept->ino;
}

void
descriptor_close(struct descriptor *kept)
{
	if (descriptor_is_ours(kept))
		(void)close(kept->fd);
	kept->fd = -1;
}
