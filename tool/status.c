/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * status.c: what this user has of what the policy allows; asks a helper, and
 * locks nothing.
 */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../helper/protocol.h"
#include "tool.h"

/* Who answered, and what. */
struct usage {
	const char *place;
	bool per_process; /* nobody knows of the user's other processes */
	struct answer answer;
	uint64_t helpers; /* allowed; 0: not known */
	long running;     /* helpers; -1: not known */
};

static const char *
why_not(const struct answer *answer)
{
	switch (answer->kind) {
	case ANSWER_REFUSED:
		return answer->status == WIRE_EDQUOT ?
		    "this user has as many helpers as the policy allows" :
		    "the helper refuses";
	case ANSWER_SILENT:
		return "the helper does not answer";
	default:
		return strerror(answer->error);
	}
}

/* As a program does: the socket, and if that gives none, the helper. */
static bool
usage_ask(const struct options *o, const struct facts *facts,
    struct usage *usage)
{
	usage->place = o->socket;
	talk_to_socket(o->socket, &usage->answer);
	/* Of a socket that is there, in the end, more is known than of nothing. */
	if (usage->answer.kind == ANSWER_SERVES || (facts->error != 0 &&
	    usage->answer.error != ENOENT))
		return usage->answer.kind == ANSWER_SERVES;
	usage->place = o->helper;
	usage->per_process = (facts->file.st_mode & S_ISUID) == 0 &&
	    geteuid() != 0;
	talk_to_helper(o->helper, &usage->answer);
	return usage->answer.kind == ANSWER_SERVES;
}

/* The second last word of our line in what --usage tells root. */
static long
helpers_count(const char *path)
{
	char *helper = text_make("%s", path), option[] = "--usage";
	char *argv[] = { helper, option, NULL }, said[4096];
	const struct passwd *pw = getpwuid(getuid());
	char *name = pw != NULL ? text_make("%s ", pw->pw_name) :
	    text_make("%u ", getuid());
	long count = 0;

	if (run_program(argv, said, sizeof(said)) != 0)
		count = -1;
	for (const char *line = said; count == 0 && line != NULL;
	    line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, name, strlen(name)) == 0)
			count = strtol(line + strlen(name), NULL, 10);
	}
	free(name);
	free(helper);
	return count;
}

static void
print_size(const char *name, uint64_t size)
{
	char *text = text_size(size);

	(void)printf("%-9s%" PRIu64 " bytes (%s)\n", name, size, text);
	free(text);
}

static void
print_text(const struct usage *u)
{
	const struct passwd *pw = getpwuid(getuid());

	(void)printf("%-9s%u (%s)\n", "user", getuid(),
	    pw == NULL ? "without a name" : pw->pw_name);
	(void)printf("%-9s%s\n", "by", u->place);
	print_size("limit", u->answer.limit);
	print_size("used", u->answer.limit - u->answer.left);
	print_size("left", u->answer.left);
	if (u->per_process)
		(void)printf("%-9seach process by itself\n", "for");
	else if (u->helpers != 0) {
		(void)printf("%-9s%" PRIu64 " allowed", "helpers", u->helpers);
		if (u->running != -1)
			(void)printf(", %ld running", u->running);
		(void)printf("\n");
	}
}

static void
print_json(const struct usage *u)
{
	(void)printf("{\n  \"uid\": %u,\n  \"by\": ", getuid());
	json_string(u->place);
	(void)printf(",\n  \"limit\": %" PRIu64 ",\n  \"used\": %" PRIu64
	    ",\n  \"left\": %" PRIu64 ",\n  \"per_process\": %s",
	    u->answer.limit, u->answer.limit - u->answer.left, u->answer.left,
	    u->per_process ? "true" : "false");
	if (u->helpers != 0 && !u->per_process)
		(void)printf(",\n  \"helpers_allowed\": %" PRIu64, u->helpers);
	else
		(void)printf(",\n  \"helpers_allowed\": null");
	if (u->running != -1)
		(void)printf(",\n  \"helpers_running\": %ld\n}\n", u->running);
	else
		(void)printf(",\n  \"helpers_running\": null\n}\n");
}

int
status(const struct options *options)
{
	struct usage usage = { .running = -1 };
	static struct facts facts;

	facts_find(options->helper, &facts);
	if (!usage_ask(options, &facts, &usage)) {
		(void)fprintf(stderr, TOOL_NAME ": %s: %s; try '" TOOL_NAME
		    " doctor'\n", usage.place, why_not(&usage.answer));
		return 2;
	}
	usage.helpers = facts.helpers;
	if (facts.runs && geteuid() == 0)
		usage.running = helpers_count(options->helper);
	if (options->json)
		print_json(&usage);
	else
		print_text(&usage);
	return 0;
}
