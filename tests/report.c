/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * report.c: a program whose figures are known, for the table at its exit.
 *
 *	report helper|inprocess [WAY]
 *
 * prints what secmalloc_stats() says last, a name and a value to a line.
 */
#include <sys/wait.h>

#include <signal.h>

#include "harness.h"

static void *kept[4];

static void
allocate(const char *mode)
{
	static const size_t sizes[] = { 10, 100, 1000, 100000 };
	struct secmalloc_config config;

	test_config(&config, strcmp(mode, "helper") == 0 ?
	    SECMALLOC_MODE_HELPER : SECMALLOC_MODE_INPROCESS);
	if (secmalloc_init(&config) == -1)
		bail_out("no start: %s", strerror(errno));
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
		if ((kept[i] = secmalloc(sizes[i])) == NULL)
			bail_out("no memory: %s", strerror(errno));
}

static void
print_stats(void)
{
	struct secmalloc_stats stats;

	secmalloc_stats(&stats);
	printf("pid %d\neuid %d\n", (int)getpid(), (int)geteuid());
	printf("pools %zu\nlocked %zu\nobjects %zu\nbytes %zu\n", stats.pools,
	    stats.locked_bytes, stats.objects, stats.object_bytes);
	printf("cached %zu\nmetadata %zu\nguards %zu\nunguarded %zu\n",
	    stats.cached_bytes, stats.metadata_bytes, stats.guards,
	    stats.unguarded);
	(void)fflush(stdout);
}

/* What is said last is said of a state that is no longer that of main(). */
static void
free_one(void)
{
	secfree(kept[1]);
	print_stats();
}

static void
fork_one(void)
{
	pid_t child = fork();

	if (child == -1)
		bail_out("fork: %s", strerror(errno));
	if (child == 0) {
		secfree(kept[0]);
		print_stats();
		exit(0);
	}
	waitpid(child, NULL, 0);
	print_stats();
}

static void
break_stderr(void)
{
	int ends[2];

	if (pipe(ends) == -1 || dup2(ends[1], STDERR_FILENO) == -1)
		bail_out("pipe: %s", strerror(errno));
	close(ends[0]);
	close(ends[1]);
	(void)signal(SIGPIPE, SIG_DFL);
}

int
main(int argc, char **argv)
{
	const char *way = argc > 2 ? argv[2] : "";

	if (argc < 2)
		bail_out("usage: report helper|inprocess [WAY]");
	if (strcmp(way, "unset") == 0)
		unsetenv("SECMALLOC_STATS");
	if (strcmp(way, "set") == 0)
		setenv("SECMALLOC_STATS", "1", 1);
	if (strcmp(way, "idle") != 0)
		allocate(argv[1]);
	if (strcmp(way, "handler") == 0)
		return atexit(free_one);
	if (strcmp(way, "fork") == 0) {
		fork_one();
		return 0;
	}
	if (strcmp(way, "shutdown") == 0)
		secmalloc_shutdown();
	print_stats();
	if (strcmp(way, "closed") == 0)
		close(STDERR_FILENO);
	if (strncmp(way, "broken", strlen("broken")) == 0)
		break_stderr();
	if (strcmp(way, "broken-and-used") == 0)
		perror("nobody reads this");
	return strcmp(way, "three") == 0 ? 3 : 0;
}
