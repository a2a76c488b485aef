/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * main.c: secmalloc(1), which tells users whether memory can be locked for them
 * and how much of it they have.  An ordinary program: it has no privilege, and
 * looks as any other one does.
 */
#include "config.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "secmalloc.h"
#include "tool.h"

#if !defined(SOCKET_PATH) || !defined(HELPER_PATH)
# error "SOCKET_PATH, HELPER_PATH: where the system instance and the helper are"
#endif

static const char usage_text[] =
    "usage: " TOOL_NAME " doctor [--json] [--helper PATH] [--socket PATH]\n"
    "       " TOOL_NAME " status [--json] [--helper PATH] [--socket PATH]\n"
    "       " TOOL_NAME " --help | --version\n";

static const struct {
	const char *name;
	int (*run)(const struct options *);
} commands[] = {
	{ "doctor", doctor },
	{ "status", status },
};

static _Noreturn void
usage_error(const char *what, const char *word)
{
	(void)fprintf(stderr, TOOL_NAME ": %s%s%s\n%s", what,
	    word == NULL ? "" : ": ", word == NULL ? "" : word, usage_text);
	exit(EX_USAGE);
}

static void
options_read(int argc, char *argv[], struct options *options)
{
	static const struct option longs[] = {
		{ "helper", required_argument, NULL, 'h' },
		{ "json", no_argument, NULL, 'j' },
		{ "socket", required_argument, NULL, 's' },
		{ NULL, 0, NULL, 0 }
	};
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (c) {
		case 'h':
			options->helper = optarg;
			break;
		case 'j':
			options->json = true;
			break;
		case 's':
			options->socket = optarg;
			break;
		default:
			usage_error("unknown option, or one without its value",
			    argv[optind - 1]);
		}
	}
	if (optind < argc)
		usage_error("too many arguments", argv[optind]);
	/* The library takes no other path. */
	if (options->helper[0] != '/' || options->socket[0] != '/')
		usage_error("a path must be absolute", NULL);
}

int
main(int argc, char *argv[])
{
	struct options options = { .helper = HELPER_PATH,
	    .socket = SOCKET_PATH };
	const char *asked = argc > 1 ? argv[1] : "";
	int result;

	/* Who reads no further does not end us amid a helper's start. */
	(void)signal(SIGPIPE, SIG_IGN);
	(void)signal(SIGCHLD, SIG_DFL);
	if (strcmp(asked, "--version") == 0) {
		(void)puts(TOOL_NAME " " PACKAGE_VERSION);
		return fflush(stdout) == 0 ? EX_OK : EX_IOERR;
	}
	if (strcmp(asked, "--help") == 0) {
		(void)printf("%sdoctor: whether memory can be locked here, and"
		    " if not, what to do.\nstatus: how much of the quota is"
		    " used.\nSee " TOOL_NAME "(1).\n", usage_text);
		return fflush(stdout) == 0 ? EX_OK : EX_IOERR;
	}
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (strcmp(asked, commands[i].name) != 0)
			continue;
		options_read(argc - 1, argv + 1, &options);
		result = commands[i].run(&options);
		return fflush(stdout) == 0 ? result : EX_IOERR;
	}
	usage_error(argc > 1 ? "unknown command" : "a command is missing",
	    argc > 1 ? asked : NULL);
}
