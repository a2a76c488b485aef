/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * checks_service.c: what decides whether a helper that has its privilege also
 * serves: policy, ledger, quota; and the helper that others listen for.
 */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "../helper/protocol.h"
#include "tool.h"

/* What a policy that leaves too little is to give at least. */
#define LIMIT_LEAST (UINT64_C(64) << 20)
#define HELPERS_LEAST 64

/*
 * The line that POLICY's parser is at odds with, of "PATH:LINE: ..." ; 0 if it
 * is not about a line.
 */
static unsigned long
line_of(const char *said, const char *path)
{
	const size_t length = strlen(path);
	unsigned long line;
	char *end;

	if (strncmp(said, path, length) != 0 || said[length] != ':')
		return 0;
	line = strtoul(said + length + 1, &end, 10);
	return *end == ':' ? line : 0;
}

static void
policy_remedy(struct doctor *d, const char *said)
{
	const char *path = d->facts.policy;
	char *quoted = text_quote(path);
	unsigned long line = line_of(said, path);

	if (line != 0)
		remedy(d, "sed -i '%lus/^/#/' %s", line, quoted);
	else if (strstr(said, "by others than root") != NULL)
		remedy(d, "chown root %s && chmod 0644 %s", quoted, quoted);
	else if (strstr(said, "cannot be read by all") != NULL)
		remedy(d, "chmod 0644 %s", quoted);
	else
		remedy(d, "mv %s %s.wrong", quoted, quoted);
	free(quoted);
}

void
check_policy(struct doctor *d)
{
	const struct facts *f = &d->facts;
	const char *said = f->policy_said;

	if (!f->runs)
		found(d, LEVEL_INFO, "there is no helper to ask");
	else if (f->policy_status == EX_OK)
		found(d, LEVEL_PASS, "%s", access(f->policy, F_OK) == 0 ?
		    f->policy : "there is none: the defaults hold");
	else {
		/* Said by the helper of the socket, too: it is the same file. */
		if (strncmp(said, "secmalloc-helper: ", 18) == 0)
			said += 18;
		found(d, level_of_fault(d), "no helper serves, for %s%s", said,
		    line_of(said, f->policy) != 0 ? "; correct that line, or"
		    " have it as a comment" : "");
		policy_remedy(d, said);
	}
}

/* Whether the helpers here keep one; those that are their caller do not. */
static bool
ledger_is_kept(const struct doctor *d)
{
	return d->facts.runs && (d->socket.kind != ANSWER_NONE ||
	    (d->facts.file.st_mode & S_ISUID) != 0);
}

void
check_ledger(struct doctor *d)
{
	const struct facts *f = &d->facts;
	char *path, *account;
	struct stat st;

	if (!ledger_is_kept(d) || !f->account_known || d->in_user_namespace) {
		found(d, LEVEL_INFO, "%s", d->in_user_namespace ?
		    "cannot be told in a user namespace" : "none is kept here");
		return;
	}
	path = text_quote(f->ledger);
	account = text_quote(f->account);
	if (lstat(f->ledger, &st) == -1 && errno == ENOENT &&
	    f->file.st_uid == 0 && (f->file.st_mode & S_ISUID) != 0)
		found(d, LEVEL_PASS, "%s: the helper makes it", f->ledger);
	else if (lstat(f->ledger, &st) == -1) {
		found(d, level_of_fault(d), "no helper serves, for %s: %s",
		    f->ledger, strerror(errno));
		if (errno == ENOENT)
			remedy(d, "install -d -o %s -g root -m 0700 %s",
			    account, path);
	} else if (!S_ISDIR(st.st_mode)) {
		found(d, level_of_fault(d),
		    "no helper serves, for %s is no directory", f->ledger);
		remedy(d, "rm -f %s && install -d -o %s -g root -m 0700 %s",
		    path, account, path);
	} else if (st.st_uid != f->uid ||
	    (st.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
		found(d, level_of_fault(d), "no helper serves, for %s belongs"
		    " to %u and has mode %04o", f->ledger, st.st_uid,
		    (unsigned)st.st_mode & 07777);
		remedy(d, "chown %s %s && chmod 0700 %s", account, path, path);
	} else
		found(d, LEVEL_PASS, "%s", f->ledger);
	free(path);
	free(account);
}

/* What a helper refused with, in words. */
static const char *
refusal(uint32_t status)
{
	switch (status) {
	case WIRE_EPERM:
		return "it may not lock, or is not set up; its log says why";
	case WIRE_EDQUOT:
		return "this user has as many helpers as the policy allows";
	case WIRE_ENOMEM:
		return "a limit that it inherited leaves no room; its log says"
		    " which";
	case WIRE_EPROTO:
		return "it is of a release that this one does not understand";
	default:
		return "it answers what it should not";
	}
}

/* Neither is there to be waited for, nor is anything wrong. */
static bool
socket_is_missing(const struct doctor *d)
{
	return d->socket.kind == ANSWER_NONE || (d->socket.kind ==
	    ANSWER_ERROR && d->socket.error == ENOENT);
}

void
check_socket(struct doctor *d)
{
	const enum level fault = d->by_helper.works ? LEVEL_WARN : LEVEL_FAIL;
	const char *path = d->options->socket;

	if (socket_is_missing(d)) {
		found(d, LEVEL_INFO, "%s is not there: it is for programs that"
		    " cannot start a helper", path);
		return;
	}
	switch (d->socket.kind) {
	case ANSWER_SERVES:
		found(d, LEVEL_PASS, "%s: a helper serves", path);
		return;
	case ANSWER_REFUSED:
		found(d, fault, "%s: a helper refuses: %s", path,
		    refusal(d->socket.status));
		return;
	case ANSWER_SILENT:
		found(d, fault, "%s: no helper answers", path);
		break;
	default:
		found(d, fault, "%s: %s", path, d->socket.error == EACCES ?
		    "it is not for this user" : d->socket.error ==
		    ECONNREFUSED ? "nobody listens" :
		    strerror(d->socket.error));
		if (d->socket.error == EACCES) {
			(void)remedy_group(d, d->socket_file.st_gid);
			return;
		}
	}
	remedy(d, "systemctl restart secmalloc.socket");
}

/*
 * A line more in the policy: of those that mean a user, the largest counts.  In
 * a namespace neither the file nor the number is the one that counts.
 */
static void
remedy_line(struct doctor *d, const char *line)
{
	const char *policy = d->facts.runs && !d->in_user_namespace ?
	    d->facts.policy : NULL;
	char *quoted;

	if (policy == NULL)
		return;
	quoted = text_quote(policy);
	remedy(d, "echo '%s' >>%s && chmod 0644 %s", line, quoted, quoted);
	free(quoted);
}

static void
helpers_spent(struct doctor *d)
{
	const uint64_t more = 2 * d->facts.helpers;
	char *line = text_make("helpers %u %" PRIu64, getuid(),
	    more > HELPERS_LEAST ? more : HELPERS_LEAST);

	found(d, level_of_obstacle(d), "this user has as many helpers as the"
	    " policy allows, %" PRIu64 ": one for each process that has locked"
	    " memory", d->facts.helpers);
	remedy_line(d, line);
	free(line);
}

static void
limit_spent(struct doctor *d, uint64_t limit)
{
	char *size = text_size(limit), *line;

	line = text_make("limit %u %" PRIu64 "M", getuid(),
	    limit > LIMIT_LEAST / 2 ? 2 * limit >> 20 : LIMIT_LEAST >> 20);
	found(d, level_of_obstacle(d), "nothing is left of the %s that the"
	    " policy allows this user", size);
	remedy_line(d, line);
	free(line);
	free(size);
}

/* There may be only one such line. */
static void
total_spent(struct doctor *d)
{
	const uint64_t total = d->facts.total;
	char *size = text_size(total), *quoted;

	found(d, level_of_obstacle(d), "too little is left of the %s that the"
	    " policy allows all users", size);
	if (d->facts.runs && !d->in_user_namespace) {
		quoted = text_quote(d->facts.policy);
		remedy(d, "touch %s && sed -i '/^[[:space:]]*total[[:space:]]/d'"
		    " %s && echo 'total %" PRIu64 "M' >>%s && chmod 0644 %s",
		    quoted, quoted, total > LIMIT_LEAST / 2 ? 2 * total >> 20 :
		    LIMIT_LEAST >> 20, quoted, quoted);
		free(quoted);
	}
	free(size);
}

void
check_quota(struct doctor *d)
{
	const struct answer *asked = d->socket.kind == ANSWER_SERVES ?
	    &d->socket : d->helper.kind == ANSWER_SERVES ? &d->helper :
	    d->socket.kind == ANSWER_REFUSED ? &d->socket : &d->helper;
	char *left, *limit;

	if (asked->kind == ANSWER_REFUSED && asked->status == WIRE_EDQUOT)
		helpers_spent(d);
	else if (asked->kind != ANSWER_SERVES)
		found(d, LEVEL_INFO, "no helper serves that could tell");
	else if (asked->left == 0)
		limit_spent(d, asked->limit);
	else if (!helper_locks(d) && (d->by_helper.error == EDQUOT ||
	    d->by_socket.error == EDQUOT))
		total_spent(d);
	else {
		left = text_size(asked->left);
		limit = text_size(asked->limit);
		found(d, LEVEL_PASS, "%s left of %s%s", left, limit,
		    asked == &d->socket || ledger_is_kept(d) ? "" :
		    ", for each process by itself");
		free(left);
		free(limit);
	}
}
