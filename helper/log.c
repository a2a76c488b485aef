/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * log.c: tells the administrator what was refused and to whom.  Not by
 * syslog(3), which opens another socket when the first one fails: later on that
 * is forbidden.  Must not know why anything is refused.
 */
#include "config.h"
#include "helper.h"

/* Lines at once; after that, one in so many seconds. */
enum { BURST = 10, SECONDS_PER_LINE = 10 };

static int log_fd = -1, log_pid;
static const struct client *log_client;

void
log_open(const struct client *client)
{
	static const struct sockaddr_un to = { AF_UNIX, _PATH_LOG };

	log_client = client;
	log_pid = getpid();
	log_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (connect(log_fd, (const struct sockaddr *)&to, sizeof(to)) == -1) {
		close(log_fd);
		log_fd = -1;
	}
}

unsigned
log_settle(void)
{
	if (log_fd != -1 && (log_fd = dup2(log_fd, 1)) == -1)
		die("log");
	return log_fd == -1 ? 1 : 2;
}

void
printable(char *text)
{
	for (; *text != '\0'; text++)
		if (*text < ' ' || *text > '~')
			*text = '?';
}

/* Lines that may be logged now. */
static time_t
credit(void)
{
	static time_t left = BURST, last;
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	left = MIN(left + (now.tv_sec - last) / SECONDS_PER_LINE, BURST);
	last = now.tv_sec - (now.tv_sec - last) % SECONDS_PER_LINE;
	return left > 0 ? left-- : 0;
}

enum wire_status
refuse(enum wire_status status, const char *format, ...)
{
	static unsigned missed;
	const int error = errno;
	char line[WHY_SIZE + 128], what[WHY_SIZE];
	va_list ap;

	missed++;
	if (log_fd == -1 || credit() == 0)
		return status;
	va_start(ap, format);
	vsnprintf(what, sizeof(what), format, ap);
	va_end(ap);
	snprintf(line, sizeof(line),
	    "<%d>" NAME "[%d]: uid %u pid %d: %s: %s (%u not logged before)",
	    LOG_AUTHPRIV | LOG_NOTICE, log_pid, log_client->uid,
	    log_client->pid, status == WIRE_OK ? "ended" : "refused", what,
	    missed - 1);
	if (missed == 1)
		strrchr(line, '(')[-1] = '\0';
	missed = 0;
	printable(line);
	/* A log that is full or gone must not keep us. */
	if (write(log_fd, line, strlen(line)) == -1)
		errno = error;
	return status;
}

/* EAGAIN is mlock's for pages that could not be had. */
enum wire_status
refuse_errno(const char *what)
{
	return refuse(errno == EPERM || errno == EACCES ? WIRE_EPERM :
	    WIRE_ENOMEM, "%s: %s", what, strerror(errno));
}

void
die(const char *what)
{
	refuse(WIRE_OK, "%s: %s", what, strerror(errno));
	err(EX_OSERR, "%s", what);
}
