/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * policy.c: reads what the administrator grants a client, secmalloc.conf(5);
 * refuses all of a file unless it understands every line.  Must not know how a
 * limit is kept.
 */
#include "config.h"
#include "helper.h"

#define FILE_MAX (64 * 1024) /* bytes */

/* What is wrong with WORD, or NULL; as all of these parsers. */
static const char *
number_parse(const char *word, bool is_size, uint64_t *number)
{
	uint64_t unit = 1;
	char *end;

	errno = 0;
	*number = strtoull(word, &end, 10);
	if (strspn(word, "0123456789") == 0)
		return "is not a number";
	if (is_size && *end != '\0') {
		unit = *end == 'K' ? 1 << 10 : *end == 'M' ? 1 << 20 :
		    *end == 'G' ? 1 << 30 : *end == '%' ? page_size() *
		    ((uint64_t)sysconf(_SC_PHYS_PAGES) / 100) : 0;
		if (*end++ == '%' && *number > 100)
			return "is more than all memory";
	}
	if (unit == 0 || *end != '\0')
		return is_size ? "is not a size" : "is not a number";
	if (errno != 0 || *number > UINT64_MAX / unit)
		return "is too large";
	*number *= unit;
	return NULL;
}

/* How narrowly DOMAIN means the client. */
static const char *
domain_parse(const char *domain, const struct client *client, enum rank *rank)
{
	const bool is_group = *domain == '@';
	const char *name = domain + is_group;
	const struct passwd *pw = NULL;
	const struct group *gr = NULL;
	uint64_t id = UINT64_MAX;

	*rank = RANK_NONE;
	if (strcmp(domain, "*") == 0)
		*rank = RANK_ALL;
	else if (*name == '\0')
		return "is no name";
	else if (name[strspn(name, "0123456789")] == '\0') {
		if (number_parse(name, false, &id) != NULL || id >= (id_t)-1)
			return "is too large";
	} else if (is_group && (gr = getgrnam(name)) != NULL)
		id = gr->gr_gid;
	else if (!is_group && (pw = getpwnam(name)) != NULL)
		id = pw->pw_uid;
	else /* or could not be asked for, and is whom the line restricts */
		return "is not known";
	if (!is_group && id == client->uid)
		*rank = RANK_USER;
	for (size_t i = 0; is_group && i < client->group_count; i++)
		if (client->groups[i] == id)
			*rank = RANK_GROUP;
	return NULL;
}

/* *WORD is the one that is wrong. */
static const char *
line_parse(char *line, const struct client *client, struct policy *policy,
    const char **word)
{
	char *words[4], *rest;
	enum rank rank = RANK_ALL;
	const char *wrong;
	struct rule *rule;
	uint64_t value;
	int count = 0;

	line[strcspn(line, "#")] = '\0';
	while (count < 4 && (words[count] = strtok_r(count == 0 ? line : NULL,
	    " \t", &rest)) != NULL)
		count++;
	if (count == 0)
		return NULL;
	*word = words[0];
	rule = strcmp(*word, "total") == 0 ? &policy->total :
	    strcmp(*word, "limit") == 0 ? &policy->limit :
	    strcmp(*word, "helpers") == 0 ? &policy->helpers : NULL;
	if (rule == NULL)
		return "is no keyword";
	if (count != (rule == &policy->total ? 2 : 3))
		return rule == &policy->total ? "needs a size" :
		    "needs a user, @group or *, and a number";
	if (rule == &policy->total && rule->rank != RANK_NONE)
		return "was given before";
	*word = words[count - 1];
	wrong = number_parse(*word, rule != &policy->helpers, &value);
	if (wrong == NULL && count == 3)
		wrong = domain_parse(*word = words[1], client, &rank);
	if (wrong == NULL && rank != RANK_NONE && (rank > rule->rank ||
	    (rank == rule->rank && value > rule->value)))
		*rule = (struct rule){ value, rank };
	return wrong;
}

bool
policy_parse(const char *path, char *text, const struct client *client,
    struct policy *policy, char why[WHY_SIZE])
{
	const char *wrong, *word;
	char *line;

	*policy = (struct policy){ .limit.value = (uint64_t)64 << 20,
	    .helpers.value = 64 };
	number_parse("25%", true, &policy->total.value);
	for (int n = 1; (line = strsep(&text, "\n")) != NULL; n++) {
		if ((wrong = line_parse(line, client, policy, &word)) != NULL) {
			snprintf(why, WHY_SIZE, "%s:%d: '%.32s' %s", path, n,
			    word, wrong);
			printable(why);
			return false;
		}
	}
	return true;
}

static const char *
file_read(const char *path, bool trusted, char text[FILE_MAX + 1])
{
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	const char *wrong = NULL;
	size_t length = 0;
	struct stat st;
	ssize_t n = 1;

	text[0] = '\0';
	if (fd == -1)
		return errno == ENOENT && !trusted ? NULL : strerror(errno);
	if (fstat(fd, &st) == -1 || !S_ISREG(st.st_mode))
		wrong = "is not a regular file";
	else if (!trusted && (st.st_uid != 0 ||
	    (st.st_mode & (S_IWGRP | S_IWOTH)) != 0))
		wrong = "can be written by others than root";
	else if (!trusted && (st.st_mode & S_IROTH) == 0)
		wrong = "cannot be read by all";
	for (; wrong == NULL && n > 0 && length <= FILE_MAX;
	    length += (size_t)n)
		if ((n = read(fd, text + length, FILE_MAX + 1 - length)) == -1)
			wrong = strerror(errno);
	close(fd);
	if (wrong != NULL)
		return wrong;
	if (length > FILE_MAX)
		return "is longer than 64 KiB";
	text[length] = '\0';
	return strlen(text) == length ? NULL : "has a null byte";
}

bool
policy_read(const char *path, bool trusted, const struct client *client,
    struct policy *policy, char why[WHY_SIZE])
{
	static char text[FILE_MAX + 1];
	const char *wrong = file_read(path, trusted, text);

	if (wrong == NULL)
		return policy_parse(path, text, client, policy, why);
	snprintf(why, WHY_SIZE, "%s: %s", path, wrong);
	return false;
}
