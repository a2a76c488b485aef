/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * loglisten.c: stands in for syslog at a socket, and prints each message as a
 * line, with what is not printable as \xNN; knows nothing of who sends.
 *
 *   loglisten [-f] PATH
 *
 * says "ready" once it can be sent to.  With -f it reads nothing, and its queue
 * is full.
 */
#include "config.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <err.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Longer than any message may be. */
#define MESSAGE_MAX 8192

static void
print(const unsigned char *message, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if (message[i] >= ' ' && message[i] <= '~')
			putchar(message[i]);
		else
			printf("\\x%02x", message[i]);
	putchar('\n');
}

static void
fill(const struct sockaddr_un *to)
{
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd == -1 ||
	    connect(fd, (const struct sockaddr *)to, sizeof(*to)) == -1)
		err(1, "%s", to->sun_path);
	while (send(fd, "", 1, 0) != -1)
		;
	if (errno != EAGAIN)
		err(1, "send");
}

int
main(int argc, char *argv[])
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	unsigned char message[MESSAGE_MAX];
	ssize_t length;
	int full = argc == 3 && strcmp(argv[1], "-f") == 0;
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (argc != 2 + full)
		errx(2, "usage: loglisten [-f] PATH");
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s",
	    argv[1 + full]);
	if (fd == -1 || bind(fd, (const struct sockaddr *)&address,
	    sizeof(address)) == -1 || chmod(address.sun_path, 0666) == -1)
		err(1, "%s", address.sun_path);
	(void)setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
	if (full)
		fill(&address);
	puts("ready");
	if (full)
		for (;;)
			(void)pause();
	while ((length = recv(fd, message, sizeof(message), 0)) != -1)
		print(message, (size_t)length);
	err(1, "recv");
}
