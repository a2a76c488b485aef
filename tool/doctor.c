/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * doctor.c: makes the trials, has each check look at what came of them, and
 * gives the verdict; must not know what any check is of.
 */
#include "config.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "secmalloc.h"
#include "tool.h"

/* Exit statuses, which are those that monitors know. */
enum { STATUS_FINE = 0, STATUS_FAILED = 1, STATUS_NO_LOCK = 2 };

/* In the order in which things are to be mended. */
static const struct {
	const char *name;
	void (*check)(struct doctor *);
} checks[] = {
	{ "kernel", check_kernel },
	{ "memfd", check_memfd },
	{ "noexec-seal", check_noexec },
	{ "write-seal", check_future_write },
	{ "populate", check_populate },
	{ "wipe-on-fork", check_wipe_on_fork },
	{ "secret-memory", check_secret },
	{ "pkeys", check_pkeys },
	{ "user", check_user },
	{ "user-namespace", check_user_namespace },
	{ "no_new_privs", check_no_new_privs },
	{ "bounding-set", check_bounding_set },
	{ "traced", check_traced },
	{ "helper", check_helper },
	{ "account", check_account },
	{ "owner", check_owner },
	{ "mode", check_mode },
	{ "capability", check_capability },
	{ "nosuid", check_nosuid },
	{ "policy", check_policy },
	{ "ledger", check_ledger },
	{ "socket", check_socket },
	{ "quota", check_quota },
	{ "memlock", check_memlock },
	{ "swap", check_swap },
	{ "zram", check_zram },
	{ "hibernation", check_hibernation },
	{ "core-files", check_core },
	{ "lock-socket", check_lock_socket },
	{ "lock-helper", check_lock_helper },
	{ "lock-process", check_lock_process },
};

#define CHECKS (sizeof(checks) / sizeof(checks[0]))

_Static_assert(CHECKS <= (size_t)FINDINGS_MAX, "a finding for each check");

static const struct {
	const char *word, *colour;
} levels[] = {
	[LEVEL_PASS] = { "PASS", "\033[32m" },
	[LEVEL_INFO] = { "INFO", "\033[36m" },
	[LEVEL_WARN] = { "WARN", "\033[33m" },
	[LEVEL_FAIL] = { "FAIL", "\033[31m" },
};

/* A line is a line, whatever a path or a program has in it. */
static void
make_printable(char *text)
{
	for (; *text != '\0'; text++)
		if ((unsigned char)*text < ' ' || *text == 0x7f)
			*text = '?';
}

__attribute__((format(printf, 1, 0))) static char *
text_of(const char *format, va_list ap)
{
	char *text;

	if (vasprintf(&text, format, ap) == -1)
		return text_make("out of memory");
	make_printable(text);
	return text;
}

void
found(struct doctor *d, enum level level, const char *format, ...)
{
	struct finding *finding = &d->findings[d->count];
	va_list ap;

	va_start(ap, format);
	free(finding->text);
	finding->level = level;
	finding->text = text_of(format, ap);
	va_end(ap);
}

/* Where nothing is wrong there is nothing to mend. */
void
remedy(struct doctor *d, const char *format, ...)
{
	struct finding *finding = &d->findings[d->count];
	va_list ap;

	if (finding->level < LEVEL_WARN)
		return;
	va_start(ap, format);
	free(finding->remedy);
	finding->remedy = text_of(format, ap);
	va_end(ap);
}

bool
remedy_group(struct doctor *d, gid_t group)
{
	const struct group *gr = getgrgid(group);
	const struct passwd *pw = getpwuid(getuid());
	char *group_name, *user_name;

	/* Root's group is more than a right to connect. */
	if (group == 0 || gr == NULL || pw == NULL || d->in_user_namespace)
		return false;
	group_name = text_quote(gr->gr_name);
	user_name = text_quote(pw->pw_name);
	remedy(d, "usermod -aG %s %s", group_name, user_name);
	free(group_name);
	free(user_name);
	return true;
}

/* One that maps each user to itself is as good as none. */
static bool
in_user_namespace(void)
{
	FILE *map = fopen("/proc/self/uid_map", "re");
	char line[128], all[3][24];
	bool identity = false;

	if (map == NULL)
		return false;
	if (fgets(line, sizeof(line), map) != NULL)
		identity = sscanf(line, "%23s %23s %23s", all[0], all[1],
		    all[2]) == 3 && strcmp(all[0], "0") == 0 &&
		    strcmp(all[1], "0") == 0 &&
		    strcmp(all[2], "4294967295") == 0;
	(void)fclose(map);
	return !identity;
}

/* What all checks need to know, before any of them. */
static void
examine(struct doctor *d)
{
	const struct options *o = d->options;

	d->in_user_namespace = in_user_namespace();
	facts_find(o->helper, &d->facts);
	if (stat(o->socket, &d->socket_file) == -1 && errno == ENOENT)
		d->socket.kind = ANSWER_NONE;
	else
		talk_to_socket(o->socket, &d->socket);
	if (d->facts.runs)
		talk_to_helper(o->helper, &d->helper);
	if (d->socket.kind == ANSWER_SERVES)
		trial_make(SECMALLOC_MODE_HELPER, o->socket, &d->by_socket);
	if (d->helper.kind == ANSWER_SERVES)
		trial_make(SECMALLOC_MODE_HELPER, o->helper, &d->by_helper);
	trial_make(SECMALLOC_MODE_INPROCESS, NULL, &d->by_process);
}

static void
check_all(struct doctor *d)
{
	for (size_t i = 0; i < CHECKS; i++) {
		d->findings[i].name = checks[i].name;
		checks[i].check(d);
		d->count++;
	}
}

/* The one thing to do: the first that failed and can be mended. */
static const char *
first_remedy(const struct doctor *d)
{
	for (size_t i = 0; i < d->count; i++)
		if (d->findings[i].level == LEVEL_FAIL &&
		    d->findings[i].remedy != NULL)
			return d->findings[i].remedy;
	return NULL;
}

static int
verdict(const struct doctor *d)
{
	if (!helper_locks(d) && !d->by_process.works)
		return STATUS_NO_LOCK;
	for (size_t i = 0; i < d->count; i++)
		if (d->findings[i].level == LEVEL_FAIL)
			return STATUS_FAILED;
	return STATUS_FINE;
}

/* Colour is for eyes, of those who have not asked for none. */
static bool
colour_is_wanted(void)
{
	const char *none = getenv("NO_COLOR"), *term = getenv("TERM");

	return isatty(STDOUT_FILENO) == 1 && (none == NULL || *none == '\0') &&
	    term != NULL && *term != '\0' && strcmp(term, "dumb") != 0;
}

static void
print_text(const struct doctor *d)
{
	const bool colour = colour_is_wanted();
	const char *first = first_remedy(d);
	bool any = false;

	for (size_t i = 0; i < d->count; i++) {
		const struct finding *f = &d->findings[i];

		(void)printf("%s%s%s  %-15s %s\n",
		    colour ? levels[f->level].colour : "",
		    levels[f->level].word, colour ? "\033[0m" : "", f->name,
		    f->text);
		if (f->remedy != NULL)
			(void)printf("      as root: %s\n", f->remedy);
	}
	(void)printf("\nLocked memory: ");
	if (verdict(d) == STATUS_NO_LOCK)
		(void)printf("no.\n");
	else {
		(void)printf("yes, by");
		if (d->by_socket.works)
			(void)printf(" the helper of the socket");
		any = d->by_socket.works;
		if (d->by_helper.works)
			(void)printf("%s the helper", any ? "," : "");
		any |= d->by_helper.works;
		if (d->by_process.works)
			(void)printf("%s this process itself", any ? "," : "");
		(void)printf(".\n");
	}
	if (first != NULL)
		(void)printf("First of all, as root: %s\n", first);
	else if (verdict(d) == STATUS_NO_LOCK)
		(void)printf("Where no check has a reason, the log has it,"
		    " facility authpriv.\n");
}

static void
print_by(const struct doctor *d)
{
	const char *between = "";

	(void)printf("[");
	if (d->by_socket.works) {
		(void)printf("\"socket\"");
		between = ", ";
	}
	if (d->by_helper.works) {
		(void)printf("%s\"helper\"", between);
		between = ", ";
	}
	if (d->by_process.works)
		(void)printf("%s\"process\"", between);
	(void)printf("]");
}

static void
print_json(const struct doctor *d)
{
	(void)printf("{\n  \"version\": ");
	json_string(SECMALLOC_VERSION_STRING);
	(void)printf(",\n  \"uid\": %u,\n  \"helper\": ", getuid());
	json_string(d->options->helper);
	(void)printf(",\n  \"socket\": ");
	json_string(d->options->socket);
	(void)printf(",\n  \"checks\": [");
	for (size_t i = 0; i < d->count; i++) {
		const struct finding *f = &d->findings[i];

		(void)printf("%s\n    {\"name\": ", i == 0 ? "" : ",");
		json_string(f->name);
		(void)printf(", \"result\": ");
		json_string(levels[f->level].word);
		(void)printf(", \"text\": ");
		json_string(f->text);
		(void)printf(", \"remedy\": ");
		json_string(f->remedy);
		(void)printf("}");
	}
	(void)printf("\n  ],\n  \"locked\": %s,\n  \"by\": ",
	    verdict(d) == STATUS_NO_LOCK ? "false" : "true");
	print_by(d);
	(void)printf(",\n  \"remedy\": ");
	json_string(first_remedy(d));
	(void)printf(",\n  \"status\": %d\n}\n", verdict(d));
}

int
doctor(const struct options *options)
{
	static struct doctor d;

	d.options = options;
	examine(&d);
	check_all(&d);
	if (options->json)
		print_json(&d);
	else
		print_text(&d);
	return verdict(&d);
}
