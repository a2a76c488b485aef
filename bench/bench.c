/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * bench.c: times secmalloc beside other allocators, in one run and in turns.
 *
 * bench [--rounds N] [--quick] [--time MS] [--peers LIST] [--workloads LIST]
 *       [--helper PATH] [--json FILE] [--svg FILE] [--goals]
 * bench --callgrind-pair N [--helper PATH]
 *
 * Each round puts every allocator through every workload, one after another,
 * each time in a fresh process which does nothing else.  So whatever else the
 * machine does meets all alike, and a ratio is taken within a round.
 *
 * LIST is of names, or of their beginnings: --workloads pair,set-10k.  --quick
 * is for tests of the benchmark, not of what it measures.  With --goals the
 * exit status is 1 if one is missed.
 */
#include "config.h"

#include <dlfcn.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"
#include "secmalloc.h"

enum { MS = 1000000 };

const struct peer *const peers[] = {
	&peer_secmalloc, &peer_glibc, &peer_bzero, &peer_jemalloc,
	&peer_mimalloc, &peer_openssl, &peer_gcrypt, &peer_botan, &peer_sodium
};
_Static_assert(sizeof(peers) / sizeof(peers[0]) == PEERS, "all are counted");

#define KIB ((size_t)1024)

const struct workload workloads[] = {
	{ "pair-16", "pair of 16 bytes", PAIR, 16, 0 },
	{ "pair-64", "pair of 64 bytes", PAIR, 64, 0 },
	{ "pair-256", "pair of 256 bytes", PAIR, 256, 0 },
	{ "pair-1k", "pair of 1 KiB", PAIR, KIB, 0 },
	{ "pair-4k", "pair of 4 KiB", PAIR, 4 * KIB, 0 },
	{ "pair-16k", "pair of 16 KiB", PAIR, 16 * KIB, 0 },
	{ "pair-64k", "pair of 64 KiB", PAIR, 64 * KIB, 0 },
	{ "set-1k", "set of 1000 objects", SET, 0, 1000 },
	{ "set-10k", "set of 10000 objects", SET, 0, 10000 },
	{ "set-100k", "set of 100000 objects", SET, 0, 100000 },
	{ "threads-1k", "2 threads, 1000 objects each", THREADS, 0, 1000 },
	{ "threads-10k", "2 threads, 10000 objects each", THREADS, 0, 10000 },
	{ "threads-100k", "2 threads, 100000 objects each", THREADS, 0,
	    100000 },
	{ "ring", "one thread allocates, one frees", RING, 64, 0 },
	{ "live-100", "pair beside 100 objects", LIVE, 64, 100 },
	{ "live-1k", "pair beside 1000 objects", LIVE, 64, 1000 },
	{ "live-10k", "pair beside 10000 objects", LIVE, 64, 10000 },
	{ "live-100k", "pair beside 100000 objects", LIVE, 64, 100000 },
	{ "double", "realloc by doubling", DOUBLING, 0, 0 },
	{ "step", "realloc by 16 bytes more", STEPS, 0, 0 },
	{ "fill", "payload of a locked byte", FILL, 64, 0 },
};
_Static_assert(sizeof(workloads) / sizeof(workloads[0]) == WORKLOADS,
    "all are counted");

static struct {
	unsigned rounds;
	bool quick;
	struct budget budget;
	const char *peers;
	const char *workloads;
	const char *helper;
	const char *json;
	const char *svg;
	bool goals;
} options = {
	.rounds = 9,
	.budget = { .measure = 50 * MS, .setup = 2000 * (int64_t)MS },
};

/* Whether NAME, or what it begins with before a '-', is in LIST. */
static bool
listed(const char *list, const char *name)
{
	size_t whole = strlen(name), begin = strcspn(name, "-");

	if (list == NULL)
		return true;
	for (;;) {
		size_t length = strcspn(list, ",");

		if ((length == whole || length == begin) &&
		    strncmp(list, name, length) == 0)
			return true;
		if (list[length] == '\0')
			return false;
		list += length + 1;
	}
}

/* --- A process for each measurement ----------------------------------------- */

/* The number behind WORD, if that is in LINE. */
static bool
number_behind(const char *line, const char *word, double *value)
{
	const char *at = strstr(line, word);
	char *end;

	if (at == NULL)
		return false;
	at += strlen(word);
	*value = strtod(at, &end);
	return end != at;
}

/* What one process is asked for. */
struct question {
	const char *program;
	const char *const *argv;
	const char *preload;   /* or NULL */
	bool both;             /* streams are read */
	const char *word;      /* the number comes behind it */
};

_Noreturn static void
become(const struct question *question, int out)
{
	if (question->preload != NULL)
		(void)setenv("LD_PRELOAD", question->preload, 1);
	if (dup2(out, STDOUT_FILENO) == -1 ||
	    (question->both && dup2(out, STDERR_FILENO) == -1))
		_exit(2);
	(void)execvp(question->program,
	    (char *const *)(uintptr_t)question->argv);
	_exit(127);
}

/* True and *VALUE, or REASON, which is the first line of what it says. */
static bool
ask(const struct question *question, double *value, char reason[REASON_MAX])
{
	char line[512];
	bool first = true, found = false;
	int pipes[2], status;
	FILE *answer;
	pid_t pid;

	if (pipe2(pipes, O_CLOEXEC) == -1 || (pid = fork()) == -1)
		err(2, "cannot start a process");
	if (pid == 0)
		become(question, pipes[1]);
	(void)close(pipes[1]);
	answer = fdopen(pipes[0], "r");
	if (answer == NULL)
		err(2, "fdopen");
	(void)snprintf(reason, REASON_MAX, "it does not start");
	while (fgets(line, sizeof(line), answer) != NULL) {
		line[strcspn(line, "\n")] = '\0';
		if (first)
			(void)snprintf(reason, REASON_MAX, "%.*s",
			    REASON_MAX - 1, line);
		first = false;
		if (number_behind(line, question->word, value))
			found = true;
	}
	(void)fclose(answer);
	if (waitpid(pid, &status, 0) != pid)
		err(2, "waitpid");
	if (WIFSIGNALED(status))
		(void)snprintf(reason, REASON_MAX, "ended by signal %d",
		    WTERMSIG(status));
	else if (WEXITSTATUS(status) == 127)
		(void)snprintf(reason, REASON_MAX, "%s is missing",
		    question->program);
	if (found && status == 0) {
		reason[0] = '\0';
		return true;
	}
	return false;
}

static bool
ask_itself(const char *const argv[], const char *preload, double *value,
    char reason[REASON_MAX])
{
	const struct question question = {
		.program = "/proc/self/exe",
		.argv = argv,
		.preload = preload,
		.word = "value "
	};

	return ask(&question, value, reason);
}

static const char *
in_ms(int64_t ns, char text[32])
{
	(void)snprintf(text, 32, "%lld", (long long)(ns / MS));
	return text;
}

static bool
ask_to_measure(const struct peer *peer, const struct workload *workload,
    double *value, char reason[REASON_MAX])
{
	char time[32], setup[32];
	const char *const argv[] = {
		"bench", "--measure", peer->name, "--workloads", workload->name,
		"--time", in_ms(options.budget.measure, time),
		"--setup", in_ms(options.budget.setup, setup),
		options.helper != NULL ? "--helper" : NULL, options.helper,
		NULL
	};

	return ask_itself(argv, peer->preload, value, reason);
}

/* The linker only warns where it cannot preload. */
static bool
is_preloaded(const char *library)
{
	const char *name = strrchr(library, '/');
	void *symbol = dlsym(RTLD_DEFAULT, "malloc");
	Dl_info info;

	return symbol != NULL && dladdr(symbol, &info) != 0 &&
	    strstr(info.dli_fname, name != NULL ? name : library) != NULL;
}

/* Who locks for ours, in a process as all the others. */
static int
be_asked_who(void)
{
	struct terms terms = { .helper = options.helper };
	struct secmalloc_stats stats;
	const char *why = peer_secmalloc.start(terms);

	if (why == NULL && secmalloc_stats(&stats) == 0)
		(void)printf("value %d\n", stats.mode);
	else
		(void)printf("%s\n", why);
	return fflush(stdout) == 0 && why == NULL ? 0 : 1;
}

static const char *
who_locks(void)
{
	static char reason[REASON_MAX];
	const char *const argv[] = { "bench", "--who",
		options.helper != NULL ? "--helper" : NULL, options.helper,
		NULL };
	double mode;

	if (!ask_itself(argv, NULL, &mode, reason))
		return reason;
	return mode == SECMALLOC_MODE_HELPER ? "a helper" :
	    "the process itself";
}

static int
be_measured(const char *name, const char *workload)
{
	const char *why = "there is no such measurement";
	double value = 0;

	sizes_draw();
	for (size_t p = 0; p < PEERS; p++) {
		if (strcmp(peers[p]->name, name) != 0)
			continue;
		if (peers[p]->preload != NULL &&
		    !is_preloaded(peers[p]->preload)) {
			why = "it could not be preloaded";
			break;
		}
		for (size_t w = 0; w < WORKLOADS; w++) {
			if (strcmp(workloads[w].name, workload) == 0)
				why = measure(peers[p], &workloads[w],
				    &options.budget, options.helper, &value);
		}
	}
	if (why == NULL)
		(void)printf("value %.6g\n", value);
	else
		(void)printf("%s\n", why);
	return fflush(stdout) == 0 && why == NULL ? 0 : 1;
}

/* --- Instructions ----------------------------------------------------------- */

/*
 * What callgrind collects in the course of N pairs: within the two functions,
 * or of all else as well.
 */
static bool
count_pairs(const char *n, bool within, double *instructions,
    char reason[REASON_MAX])
{
	char self[4096];
	const char *const argv[] = {
		"valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null",
		within ? "--toggle-collect=secmalloc" : "--dump-instr=no",
		within ? "--toggle-collect=secfree" : "--dump-instr=no",
		self, "--callgrind-pair", n,
		options.helper != NULL ? "--helper" : NULL, options.helper,
		NULL
	};
	const struct question question = {
		.program = argv[0],
		.argv = argv,
		.both = true,
		.word = "Collected : "
	};
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (length == -1)
		err(2, "/proc/self/exe");
	self[length] = '\0';
	return ask(&question, instructions, reason);
}

static void
count_instructions(struct results *results)
{
	double few, many;
	char *no = results->no_instructions;

	if (count_pairs("1000", true, &few, no) &&
	    count_pairs("101000", true, &many, no))
		results->instructions = (many - few) / 100000;
	if (count_pairs("1000", false, &few, no) &&
	    count_pairs("101000", false, &many, no))
		results->instructions_of_loop = (many - few) / 100000 -
		    results->instructions;
}

/* --------------------------------------------------------------------------- */

static void
select_cells(struct results *results)
{
	bool some_peer = false, some_workload = false;

	for (size_t p = 0; p < PEERS; p++) {
		results->selected[p] = listed(options.peers, peers[p]->name) &&
		    peers[p]->loops != NULL;
		some_peer = some_peer || results->selected[p];
	}
	for (size_t w = 0; w < WORKLOADS; w++) {
		results->wanted[w] = listed(options.workloads,
		    workloads[w].name);
		some_workload = some_workload || results->wanted[w];
	}
	if (!some_peer)
		errx(2, "--peers %s: none of that name is here",
		    options.peers);
	if (!some_workload)
		errx(2, "--workloads %s: there is none of that name",
		    options.workloads);
}

static void
run_rounds(struct results *results)
{
	bool shown = isatty(STDERR_FILENO) == 1;

	for (unsigned r = 0; r < options.rounds; r++) {
		for (size_t i = 0; i < (size_t)WORKLOADS * PEERS; i++) {
			size_t w = i / PEERS, p = i % PEERS;
			struct cell *cell = &results->cells[w][p];

			if (!results->selected[p] || !results->wanted[w] ||
			    cell->reason[0] != '\0')
				continue;
			if (shown)
				(void)fprintf(stderr, "\r%u/%u %-14s%-10s", r + 1,
				    options.rounds, workloads[w].name,
				    peers[p]->name);
			if (ask_to_measure(peers[p], &workloads[w],
			    &cell->value[r], cell->reason))
				cell->rounds = r + 1;
			else
				cell->rounds = 0;
		}
	}
	if (shown)
		(void)fprintf(stderr, "\r%40s\r", "");
}

static void
write_file(const char *name, void (*report)(FILE *out,
    const struct results *results), const struct results *results)
{
	FILE *out = fopen(name, "we");

	if (out == NULL)
		err(2, "%s", name);
	report(out, results);
	if (ferror(out) || fclose(out) != 0)
		err(2, "%s", name);
}

static unsigned long
number(const char *text, unsigned long most)
{
	char *end;
	unsigned long value;

	errno = 0;
	value = strtoul(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || value == 0 ||
	    value > most)
		errx(2, "%s: not a number from 1 to %lu", text, most);
	return value;
}

static void
help(void)
{
	(void)printf("usage: bench [option ...]\n"
	    "  --rounds N         of all measurements; %u unless given\n"
	    "  --time MS          of each measurement\n"
	    "  --setup MS         at most, before it\n"
	    "  --quick            one short round, to see that all works\n"
	    "  --peers NAMES      some of them, separated by commas\n"
	    "  --workloads NAMES  the same; \"pair\" is all that begin so\n"
	    "  --helper PATH      lock with that helper, not in the process\n"
	    "  --json FILE, --svg FILE\n"
	    "  --goals            exit with 1 if a goal is missed\npeers:",
	    options.rounds);
	for (size_t i = 0; i < PEERS; i++)
		(void)printf(" %s", peers[i]->name);
	(void)printf("\nworkloads:\n");
	for (size_t i = 0; i < WORKLOADS; i++)
		(void)printf("  %-14s %s\n", workloads[i].name,
		    workloads[i].title);
}

int
main(int argc, char *argv[])
{
	enum { ROUNDS = 256, QUICK, TIME, SETUP, PEER_LIST, WORKLOAD_LIST,
	    HELPER, JSON, SVG, GOALS, CALLGRIND, MEASURE, WHO, HELP };
	static const struct option known[] = {
		{ "rounds", required_argument, NULL, ROUNDS },
		{ "quick", no_argument, NULL, QUICK },
		{ "time", required_argument, NULL, TIME },
		{ "setup", required_argument, NULL, SETUP },
		{ "peers", required_argument, NULL, PEER_LIST },
		{ "workloads", required_argument, NULL, WORKLOAD_LIST },
		{ "helper", required_argument, NULL, HELPER },
		{ "json", required_argument, NULL, JSON },
		{ "svg", required_argument, NULL, SVG },
		{ "goals", no_argument, NULL, GOALS },
		{ "callgrind-pair", required_argument, NULL, CALLGRIND },
		{ "measure", required_argument, NULL, MEASURE },
		{ "who", no_argument, NULL, WHO },
		{ "help", no_argument, NULL, HELP },
		{ NULL, 0, NULL, 0 }
	};
	static struct results results;
	const struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY };
	const char *why, *name = NULL;
	size_t pairs = 0;
	bool who = false;
	unsigned missed;
	int option;

	while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
		switch (option) {
		case ROUNDS:
			options.rounds = (unsigned)number(optarg, ROUNDS_MAX);
			break;
		case QUICK:
			options.quick = true;
			options.rounds = 1;
			options.budget = (struct budget){ 2 * MS, 100 * MS };
			break;
		case TIME:
			options.budget.measure = (int64_t)number(optarg,
			    60000) * MS;
			break;
		case SETUP:
			options.budget.setup = (int64_t)number(optarg,
			    600000) * MS;
			break;
		case PEER_LIST:
			options.peers = optarg;
			break;
		case WORKLOAD_LIST:
			options.workloads = optarg;
			break;
		case HELPER:
			options.helper = optarg;
			break;
		case JSON:
			options.json = optarg;
			break;
		case SVG:
			options.svg = optarg;
			break;
		case GOALS:
			options.goals = true;
			break;
		case CALLGRIND:
			pairs = number(optarg, 1000000000);
			break;
		case MEASURE:
			name = optarg;
			break;
		case WHO:
			who = true;
			break;
		case HELP:
			help();
			return fflush(stdout) == 0 ? 0 : 2;
		default:
			return 2;
		}
	}
	if (optind != argc)
		errx(2, "%s: not an option", argv[optind]);
	/* As far as it may be: those that do not ask a helper need it. */
	(void)setrlimit(RLIMIT_MEMLOCK, &all);
	if (pairs != 0) {
		why = measure_nothing_but_pairs(&peer_secmalloc,
		    options.helper, pairs);
		if (why != NULL)
			errx(2, "%s", why);
		return 0;
	}
	if (name != NULL)
		return be_measured(name, options.workloads != NULL ?
		    options.workloads : "");

	if (who)
		return be_asked_who();

	results.rounds = options.rounds;
	results.quick = options.quick;
	results.locked_by = who_locks();
	select_cells(&results);
	run_rounds(&results);
	if (results.selected[OURS])
		count_instructions(&results);
	report_table(stdout, &results);
	missed = report_goals(stdout, &results);
	if (options.json != NULL)
		write_file(options.json, report_json, &results);
	if (options.svg != NULL)
		write_file(options.svg, chart, &results);
	if (fflush(stdout) != 0)
		err(2, "standard output");
	return options.goals && missed != 0 ? 1 : 0;
}
