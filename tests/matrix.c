/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * matrix.c: one life of a program, with each way to lock, each policy of forks,
 * and as a daemon or not; knows nothing of how any of it is done.
 *
 * usage: matrix A=PATH B=PATH C=PATH D=PATH
 *
 * Each path is of a helper in that layout; D's has no privilege of its own, and
 * is run with one by who listens at a socket.  SECMALLOC_TEST_ACCOUNT is the
 * number of the account that it runs as.
 */
#include "config.h"

#include <sys/un.h>

#include "faults.h"
#include "objects.h"

enum { GROWTH = 3 * 1024 * 1024 };

static const struct layout {
	const char *name;
	const char *letter;    /* whose path is an argument; or NULL */
	bool listens;
	bool keeps_privilege;  /* may lock for as long as it lives */
	size_t initial_pools;
} layouts[] = {
	{ "a setuid helper", "A", false, true, 0 },
	{ "a setuid-root helper", "B", false, true, 0 },
	{ "a helper with a file capability", "C", false, true, 0 },
	{ "a helper behind a socket", "D", true, true, 0 },
	{ "the process", NULL, false, true, 0 },
	{ "the process before it drops its privilege", NULL, false, false, 2 },
};

#define LAYOUTS (sizeof(layouts) / sizeof(layouts[0]))

struct cell {
	const struct layout *layout;
	const char *path;
	int fork_policy;
	bool daemon;
};

static int losses;

static void
count_loss(void *data)
{
	(void)data;
	losses++;
}

/* --- Who listens --- */

static _Noreturn void
become_helper(const char *path, int peer)
{
	const char *account = getenv("SECMALLOC_TEST_ACCOUNT");

	if (dup2(peer, STDIN_FILENO) != -1 && account != NULL)
		(void)execlp("setpriv", "setpriv", "--reuid", account,
		    "--regid", account, "--clear-groups",
		    "--inh-caps=-all,+ipc_lock", "--ambient-caps=-all,+ipc_lock",
		    "--bounding-set=-all,+ipc_lock", "--", path, NULL);
	_exit(1);
}

/* Until nobody holds the other end of UNTIL; a helper is nobody's child. */
static _Noreturn void
serve_all(const char *path, int listener, int until)
{
	struct pollfd polled[] = { { listener, POLLIN, 0 }, { until, POLLIN, 0 } };
	int peer;
	pid_t pid;

	while (poll(polled, 2, -1) > 0 && polled[1].revents == 0) {
		if ((peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) == -1)
			continue;
		if ((pid = fork()) == 0) {
			if (fork() == 0)
				become_helper(path, peer);
			_exit(0);
		}
		(void)waitpid(pid, NULL, 0);
		(void)close(peer);
	}
	_exit(0);
}

/* For as long as this process and its children live. */
static void
listen_at(struct sockaddr_un *address, const char *path)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	struct gate until = make_gate();
	pid_t pid;

	address->sun_family = AF_UNIX;
	expect((size_t)snprintf(address->sun_path, sizeof(address->sun_path),
	    "%s.socket", path) < sizeof(address->sun_path));
	(void)unlink(address->sun_path);
	expect(bind(fd, (struct sockaddr *)address, sizeof(*address)) == 0);
	expect(chmod(address->sun_path, 0666) == 0);
	expect(listen(fd, SOMAXCONN) == 0);
	if ((pid = fork()) == 0) {
		(void)close(until.ends[1]);
		if (fork() == 0)
			serve_all(path, fd, until.ends[0]);
		_exit(0);
	}
	expect(pid != -1 && child_succeeds(pid));
	(void)close(until.ends[0]);
	(void)close(fd);
}

/* --- A life --- */

static unsigned
helpers_wanted(const struct cell *cell)
{
	return cell->layout->letter != NULL;
}

/* Returns how many descriptors were open before. */
static unsigned
start(const struct cell *cell)
{
	static struct sockaddr_un address;
	struct secmalloc_config config;
	unsigned descriptors;

	test_config(&config, cell->layout->letter != NULL ?
	    SECMALLOC_MODE_HELPER : SECMALLOC_MODE_INPROCESS);
	config.helper_path = cell->path;
	config.fork_policy = cell->fork_policy;
	config.on_lock_lost = count_loss;
	config.initial_pools = cell->layout->initial_pools;
	if (config.initial_pools != 0)
		config.pool_size = 2 * MIB;
	if (cell->layout->listens) {
		listen_at(&address, cell->path);
		config.helper_path = address.sun_path;
	}
	if (cell->layout->letter != NULL)
		become_nobody(0);
	descriptors = count_descriptors();
	expect(secmalloc_init(&config) == 0);
	if (!cell->layout->keeps_privilege)
		become_nobody(0);
	return descriptors;
}

/* The library's word, and the kernel's on every page of every pool. */
static void
all_is_well(unsigned char seed)
{
	struct secmalloc_stats stats;

	expect(objects_are(seed) && secmalloc_verify() == 0 && losses == 0);
	expect(secmalloc_stats(&stats) == 0 && stats.locked_bytes != 0);
	expect(locked_in_pools(getpid()) == stats.locked_bytes);
}

/* More, where that can be locked; or else none, and all as it was. */
static void
grow(const struct cell *cell, unsigned char seed)
{
	unsigned char *more;

	use_allocator();
	errno = 0;
	more = secmalloc(GROWTH);
	expect((more != NULL) == cell->layout->keeps_privilege);
	if (more == NULL)
		expect(errno == EPERM || errno == EAGAIN);
	all_is_well(seed);
	secfree(more);
}

/* What its parent had, and who may lock has none of, or who may not either. */
static void
has_nothing(const struct cell *cell)
{
	bool copies = cell->fork_policy == SECMALLOC_FORK_COPY;

	expect(secmalloc_is_secure(objects[2]) == 0 && losses == copies);
	for (size_t i = 1; i < OBJECTS; i++)
		expect(faults(objects[i]) && faults(objects[i] + sizes[i] - 1));
	errno = 0;
	expect(secrealloc(objects[2], 100) == NULL && errno == ENOLCK);
	free_objects();
	if (cell->layout->keeps_privilege)
		return;
	errno = 0;
	expect(secmalloc(1) == NULL && errno == EPERM);
	expect(losses == copies);
}

/* Whether there are objects again: SEED is what they held, and hold. */
static bool
settle_as_child(const struct cell *cell, unsigned char seed)
{
	if (cell->fork_policy == SECMALLOC_FORK_COPY &&
	    cell->layout->keeps_privilege)
		expect(objects_are(seed));
	else
		has_nothing(cell);
	if (!cell->layout->keeps_privilege)
		return false;
	if (cell->fork_policy == SECMALLOC_FORK_DENY)
		make_objects(seed);
	all_is_well(seed);
	grow(cell, seed);
	return true;
}

static void
have_a_child(const struct cell *cell)
{
	unsigned descriptors = count_descriptors();
	pid_t pid = fork();

	expect(pid != -1);
	if (pid == 0) {
		(void)alarm(30);
		if (settle_as_child(cell, 1)) {
			fill_objects(2);
			all_is_well(2);
		}
		_exit(0);
	}
	expect(child_succeeds(pid));
	all_is_well(1);
	grow(cell, 1);
	/* Nothing of the child is left. */
	expect(waitpid(-1, NULL, __WALL) == -1 && errno == ECHILD);
	expect(helpers_become(helpers_wanted(cell)));
	expect(count_descriptors() == descriptors);
}

static void
become_daemon(void)
{
	int saved = dup(STDOUT_FILENO);

	expect(saved != -1 && daemon(0, 0) == 0);
	expect(dup2(saved, STDOUT_FILENO) != -1 && close(saved) == 0);
	(void)alarm(40);
}

static void
live(const struct cell *cell)
{
	unsigned descriptors = start(cell);

	make_objects(1);
	expect(helpers() == helpers_wanted(cell));
	all_is_well(1);
	grow(cell, 1);
	if (cell->daemon) {
		become_daemon();
		/* Its parent's go with its parent. */
		expect(helpers_become(cell->fork_policy ==
		    SECMALLOC_FORK_COPY ? helpers_wanted(cell) : 0));
		if (!settle_as_child(cell, 1))
			return;
	}
	have_a_child(cell);
	free_objects();
	secmalloc_shutdown();
	expect(helpers_become(0));
	expect(locked_in_pools(getpid()) == 0);
	expect(count_descriptors() == descriptors);
}

static int
one_cell(const void *arg)
{
	struct gate done = make_gate();
	pid_t pid = fork();

	expect(pid != -1);
	if (pid == 0) {
		(void)close(done.ends[0]);
		live(arg);
		open_gate(&done);
		_exit(0);
	}
	(void)close(done.ends[1]);
	expect(child_succeeds(pid));
	pass_gate(&done);
	return 0;
}

/* --- */

static const char *
path_of(const struct layout *layout, int argc, char *argv[])
{
	for (int i = 1; i < argc; i++)
		if (layout->letter != NULL && argv[i][0] == *layout->letter &&
		    argv[i][1] == '=')
			return argv[i] + 2;
	if (layout->letter != NULL)
		bail_out("usage: matrix A=PATH B=PATH C=PATH D=PATH");
	return NULL;
}

static const char *
outcome_of(const struct cell *cell)
{
	if (cell->fork_policy == SECMALLOC_FORK_DENY)
		return "nothing of its parent's";
	return cell->layout->keeps_privilege ? "what its parent had" :
	    "nothing, and is told";
}

int
main(int argc, char *argv[])
{
	static const int policies[] = {
		SECMALLOC_FORK_COPY, SECMALLOC_FORK_DENY
	};

	for (size_t i = 0; i < LAYOUTS * 4; i++) {
		struct cell cell = { .layout = &layouts[i / 4],
		    .fork_policy = policies[i / 2 % 2], .daemon = i % 2 == 1 };

		cell.path = path_of(cell.layout, argc, argv);
		ok(run_worker(one_cell, &cell, 60),
		    "%s locks, %s: a child%s has %s", cell.layout->name,
		    cell.fork_policy == SECMALLOC_FORK_COPY ? "COPY" : "DENY",
		    cell.daemon ? " that is a daemon, and its child," : "",
		    outcome_of(&cell));
	}
	return done_testing();
}
