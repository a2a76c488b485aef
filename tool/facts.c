/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * facts.c: what is known of an installed helper without asking it to serve;
 * must not know what of it is wrong.
 */
#include "config.h"

#include <errno.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tool.h"

#if !defined(HELPER_USER)
# error "HELPER_USER: the account that helpers are configured for"
#endif

enum { SAID_MAX = 2048 };

/* VFS_CAP_FLAGS_EFFECTIVE of linux/capability.h. */
#define FLAG_EFFECTIVE 1

bool
account_find(const char *name, uid_t *uid)
{
	const struct passwd *pw;
	char *end;

	*uid = (uid_t)strtoul(name, &end, 10);
	if (*name != '\0' && *end == '\0')
		return true;
	if ((pw = getpwnam(name)) != NULL)
		*uid = pw->pw_uid;
	return pw != NULL;
}

/* Little-endian, as all of the attribute is. */
static uint32_t
number_read(const unsigned char *at)
{
	return (uint32_t)at[0] | (uint32_t)at[1] << 8 |
	    (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

/*
 * The capabilities of the file, as linux/capability.h has them: a number with
 * revision and flag, then permitted and inheritable ones, 32 at a time.
 */
static void
capabilities_find(struct facts *facts)
{
	unsigned char data[64];
	ssize_t size = getxattr(facts->path, "security.capability", data,
	    sizeof(data));
	uint32_t low, high = 0;

	if (size < 12)
		return;
	low = number_read(data + 4);
	if (size >= 20)
		high = number_read(data + 12);
	facts->has_capability = (low & (UINT32_C(1) << CAP_IPC_LOCK)) != 0;
	facts->has_others = (low & ~(UINT32_C(1) << CAP_IPC_LOCK)) != 0 ||
	    high != 0;
	facts->has_effective =
	    (number_read(data) & FLAG_EFFECTIVE) != 0;
}

/* What follows KEY on a line of its own, in new memory; NULL if none does. */
static char *
value_of(const char *said, const char *key)
{
	const size_t length = strlen(key);

	for (const char *line = said; line != NULL && *line != '\0';
	    line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, key, length) != 0)
			continue;
		line += length;
		line += strspn(line, " ");
		return text_make("%.*s", (int)strcspn(line, "\n"), line);
	}
	return NULL;
}

static void
version_ask(struct facts *facts)
{
	char *path = text_make("%s", facts->path), option[] = "--version";
	char *argv[] = { path, option, NULL }, said[SAID_MAX];
	int result = run_program(argv, said, sizeof(said));
	char *account = value_of(said, "account:");

	facts->policy = value_of(said, "policy:");
	facts->ledger = value_of(said, "ledger:");
	facts->runs = result == 0 && account != NULL && facts->policy != NULL &&
	    facts->ledger != NULL;
	if (facts->runs) {
		free(facts->account);
		facts->account = account;
	} else {
		free(account);
		facts->complaint = text_make("%s", result == RUN_TIMEOUT ?
		    "it does not answer" : result == 0 ? "it is no helper" :
		    said[0] == '\0' ? "it fails without a word" : said);
	}
	free(path);
}

/* The number behind KEY in what --check-config says; 0 if there is none. */
static uint64_t
number_of(const char *said, const char *key)
{
	const char *at = strstr(said, key);

	return at == NULL ? 0 : strtoull(at + strlen(key), NULL, 10);
}

static void
policy_ask(struct facts *facts)
{
	char *path = text_make("%s", facts->path), option[] = "--check-config";
	char *argv[] = { path, option, NULL }, said[SAID_MAX];

	facts->policy_status = run_program(argv, said, sizeof(said));
	facts->policy_said = text_make("%s", said);
	if (facts->policy_status == 0) {
		facts->limit = number_of(said, ": limit ");
		facts->helpers = number_of(said, ", helpers ");
		facts->total = number_of(said, "; total ");
	}
	free(path);
}

void
facts_find(const char *path, struct facts *facts)
{
	*facts = (struct facts){ .path = path, .policy_status = -1,
	    .account = text_make("%s", HELPER_USER) };
	if (stat(path, &facts->file) == -1)
		facts->error = errno;
	else if (S_ISREG(facts->file.st_mode)) {
		facts->executable = access(path, X_OK) == 0;
		capabilities_find(facts);
	}
	if (facts->executable)
		version_ask(facts);
	if (facts->runs)
		policy_ask(facts);
	facts->account_known = account_find(facts->account, &facts->uid);
}
