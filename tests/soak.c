/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * soak.c: keeps threads, children and the death of helpers at it for as long as
 * one likes, and holds all that comes of it against what is known; it knows
 * nothing of the library's inside.
 *
 * usage: soak SECONDS [byte|descriptor|process]
 *
 * This process stays root, kills helpers, and looks at the pages of the other
 * one, which is nobody and works.  A word plants a fault of that kind, which has
 * to be found.  Exit status 0 says that nothing was wrong and nothing is left.
 */
#include "config.h"

#include <pthread.h>
#include <stdatomic.h>

#include "faults.h"
#include "objects.h"

enum {
	WORKERS = 4,          /* that allocate; one forks, one asks */
	SHADOWS = 200,        /* objects of each */
	KILL_MS = 150,        /* between two kills, at most */
	BURST = 4,            /* one in so many is followed by two at once */
	RELOCKED_MS = 10000,  /* by then somebody has to have noticed */
	GONE_MS = 2000,
	LINE_S = 30
};

/* --- What both sides see --- */

static struct {
	atomic_ulong operations;
	atomic_ulong refused;   /* allocations, while nothing could lock more */
	atomic_ulong forks;
	atomic_ulong bare;      /* children that were told that they have no copy */
	atomic_ulong verifies;
	atomic_bool ready;      /* the objects below are there */
	atomic_bool stop;
	atomic_bool stopped;    /* nobody works any more */
	atomic_bool looked;     /* nor does the other side look */
	uintptr_t kept;         /* one of the objects, and how large all pools are */
	size_t locked;
} *shared;

static const char *planted = "";

static uint64_t
draw(uint64_t *state)
{
	*state = *state * 6364136223846793005 + 1442695040888963407;
	return *state >> 33;
}

/* --- The one that works --- */

static int losses;

static void
count_loss(void *data)
{
	(void)data;
	losses++;
}

struct shadow {
	unsigned char *at;
	size_t size;
	unsigned char value;
};

static void
whole(const struct shadow *s)
{
	for (size_t i = 0; i < s->size; i++)
		expect(s->at[i] == s->value);
	expect(s->at == NULL || secmalloc_usable_size(s->at) == s->size);
}

/* Most are small; of the others a few make pools come and go. */
static size_t
draw_size(uint64_t *random)
{
	size_t most = draw(random) % 64 == 0 ? 300 * KIB :
	    (size_t)16 << draw(random) % 11;

	return (size_t)draw(random) % most;
}

static unsigned char *
allocate(uint64_t *random, size_t size)
{
	switch (draw(random) % 4) {
	case 0:
		return seccalloc(1, size);
	case 1:
		return secaligned_alloc((size_t)16 << draw(random) % 6, size);
	default:
		return secmalloc(size);
	}
}

static void
refused(void)
{
	expect(errno == ENOLCK || errno == EDQUOT);
	atomic_fetch_add(&shared->refused, 1);
}

static void
replace(struct shadow *s, uint64_t *random)
{
	unsigned char value = (unsigned char)draw(random);

	whole(s);
	secfree(s->at);
	*s = (struct shadow){ NULL, draw_size(random), 0 };
	if ((s->at = allocate(random, s->size)) == NULL) {
		refused();
		s->size = 0;
		return;
	}
	whole(s);
	memset(s->at, value, s->size);
	s->value = value;
}

static void
resize(struct shadow *s, uint64_t *random)
{
	size_t size = draw_size(random) + 1;
	unsigned char *moved;

	whole(s);
	if ((moved = secrealloc(s->at, size)) == NULL) {
		refused();
		return;
	}
	for (size_t i = 0; i < size; i++)
		expect(moved[i] == (i < s->size ? s->value : 0));
	memset(moved, s->value, size);
	s->at = moved;
	s->size = size;
}

static void *
allocates(void *seed)
{
	struct shadow shadows[SHADOWS] = { { NULL, 0, 0 } };
	uint64_t random = (uintptr_t)seed;
	bool plant = strcmp(planted, "byte") == 0;

	for (unsigned long n = 1; !atomic_load(&shared->stop); n++) {
		struct shadow *s = &shadows[draw(&random) % SHADOWS];

		if (draw(&random) % 3 == 0)
			resize(s, &random);
		else
			replace(s, &random);
		if (n % 64 == 0)
			atomic_fetch_add(&shared->operations, 64);
		if (plant && n > 100 && s->size != 0) {
			s->at[s->size / 2] ^= 1;
			plant = false;
		}
	}
	for (unsigned i = 0; i < SHADOWS; i++) {
		whole(&shadows[i]);
		secfree(shadows[i].at);
	}
	return NULL;
}

static _Noreturn void
be_a_child(unsigned kind)
{
	unsigned char *more;
	pid_t pid;

	(void)alarm(30);
	/* Its helper may be killed while it is made: then it is told so. */
	if (secmalloc_is_secure(objects[2]) == 0) {
		expect(losses == 1 && faults(objects[2]));
		_exit(2);
	}
	expect(objects_are(1));
	if (kind % 2 == 0)
		for (int fd = 3; fd < 1024; fd++)
			(void)close(fd);
	fill_objects(2);
	expect(objects_are(2) && losses == 0);
	/* Who has closed all has nothing to hand to the next helper. */
	if (kind % 2 == 0) {
		expect(secmalloc_verify() == 0 || errno == ENOLCK);
		expect(objects_are(2));
		_exit(0);
	}
	expect(secmalloc_verify() == 0);
	if ((more = secmalloc(200 * KIB)) != NULL)
		secfree(more);
	if (kind == 1) {
		if ((pid = fork()) == 0) {
			if (secmalloc_is_secure(objects[2]) != 0)
				expect(objects_are(2));
			_exit(0);
		}
		expect(pid != -1 && child_succeeds(pid));
	}
	expect(objects_are(2) && secmalloc_verify() == 0 && losses == 0);
	free_objects();
	_exit(0);
}

/* Of a child made behind its back ThreadSanitizer knows nothing that is true. */
static pid_t
make_child(unsigned kind)
{
#if defined(HAVE__FORK) && !defined(__SANITIZE_THREAD__)
	return kind % 4 == 3 ? _Fork() : fork();
#else
	(void)kind;
	return fork();
#endif
}

static void *
forks(void *seed)
{
	uint64_t random = (uintptr_t)seed;
	int status;

	while (!atomic_load(&shared->stop)) {
		unsigned kind = draw(&random) % 8;
		pid_t pid = make_child(kind);

		expect(pid != -1);
		if (pid == 0)
			be_a_child(kind);
		expect(waitpid(pid, &status, 0) == pid);
		expect(WIFEXITED(status) && WEXITSTATUS(status) % 2 == 0);
		atomic_fetch_add(&shared->forks, 1);
		if (WEXITSTATUS(status) != 0)
			atomic_fetch_add(&shared->bare, 1);
		sleep_ms((long)(draw(&random) % 20));
	}
	return NULL;
}

static void *
asks(void *seed)
{
	uint64_t random = (uintptr_t)seed;

	while (!atomic_load(&shared->stop)) {
		unsigned char *p = objects[draw(&random) % OBJECTS];

		if (draw(&random) % 4 == 0)
			expect(secmalloc_is_secure(p) == 1);
		else
			expect(secmalloc_verify() == 0);
		expect(objects_are(1));
		atomic_fetch_add(&shared->verifies, 1);
		sleep_ms((long)(draw(&random) % 10));
	}
	return NULL;
}

/* All that works stands still; the other side looks at the pages. */
static void
stand_still(void)
{
	struct secmalloc_stats stats;

	expect(objects_are(1) && secmalloc_verify() == 0 && losses == 0);
	expect(secmalloc_stats(&stats) == 0 && stats.objects == OBJECTS);
	shared->locked = stats.locked_bytes;
	atomic_store(&shared->stopped, true);
	while (!atomic_load(&shared->looked))
		sleep_ms(1);
}

static void
work(unsigned seconds)
{
	pthread_t threads[WORKERS + 2];
	struct secmalloc_config config;
	unsigned descriptors;

	become_nobody(0);
	descriptors = count_descriptors();
	test_config(&config, SECMALLOC_MODE_HELPER);
	config.on_lock_lost = count_loss;
	expect(secmalloc_init(&config) == 0);
	make_objects(1);
	shared->kept = (uintptr_t)objects[OBJECTS - 1];
	atomic_store(&shared->ready, true);
	for (uintptr_t i = 0; i < WORKERS + 2; i++)
		expect(pthread_create(&threads[i], NULL, i < WORKERS ?
		    allocates : i == WORKERS ? forks : asks,
		    (void *)(i + 1)) == 0);
	for (int64_t end = now_us() + seconds * INT64_C(1000000);
	    now_us() < end; )
		sleep_ms(10);
	atomic_store(&shared->stop, true);
	for (unsigned i = 0; i < WORKERS + 2; i++)
		expect(pthread_join(threads[i], NULL) == 0);
	stand_still();
	free_objects();
	secmalloc_shutdown();
	if (strcmp(planted, "descriptor") == 0)
		expect(dup(STDIN_FILENO) != -1);
	else if (strcmp(planted, "process") == 0 && fork() == 0)
		for (;;)
			(void)pause();
	expect(count_descriptors() == descriptors);
	expect(waitpid(-1, NULL, WNOHANG | __WALL) == (strcmp(planted,
	    "process") == 0 ? 0 : -1));
}

/* --- The one that kills --- */

static unsigned long kills, relocks, failures;
static uintmax_t pool_inode;
static pid_t keeper;              /* of the worker's pool, when last looked for */
static pid_t found_keeper, victim;
static uint64_t dice;

/* The file that PID has mapped at AT, or INODE if that is mapped anywhere; or 0. */
static uintmax_t
inode_in(pid_t pid, uintptr_t at, uintmax_t inode)
{
	char path[64], line[512];
	uintmax_t found = 0;
	FILE *maps;

	(void)snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	if ((maps = fopen(path, "re")) == NULL)
		return 0;
	while (found == 0 && fgets(line, sizeof(line), maps) != NULL) {
		uintmax_t from, end, file;

		if (sscanf(line, "%jx-%jx %*s %*s %*s %ju", &from, &end,
		    &file) == 3 && file != 0 && (inode != 0 ? file == inode :
		    from <= at && at < end))
			found = file;
	}
	(void)fclose(maps);
	return found;
}

static void
visit_helper(pid_t pid)
{
	/* There may be two for a moment. */
	if ((found_keeper == 0 || found_keeper != keeper) &&
	    inode_in(pid, 0, pool_inode) != 0)
		found_keeper = pid;
	if (victim == 0 || draw(&dice) % 2 == 0)
		victim = pid;
}

static void
fail(const char *what)
{
	failures++;
	diag("%s", what);
}

static void
kill_one(pid_t pid)
{
	if (kill(pid, SIGKILL) == 0)
		kills++;
}

/* All, the worker's own, or any one, which may be a child's. */
static void
kill_some(void)
{
	static int64_t unlocked_since;

	found_keeper = victim = 0;
	(void)observe_children(false, visit_helper);
	if (found_keeper == 0) {
		if (unlocked_since == 0)
			unlocked_since = now_us();
		if (now_us() > unlocked_since + RELOCKED_MS * 1000) {
			fail("nobody locks what a dead helper did");
			unlocked_since = 0;
		}
		return;
	}
	unlocked_since = 0;
	relocks += keeper != 0 && found_keeper != keeper;
	keeper = found_keeper;
	switch (draw(&dice) % 3) {
	case 0:
		kills += observe_children(false, observe_kill);
		break;
	case 1:
		kill_one(victim);
		break;
	default:
		kill_one(keeper);
	}
}

static void
say(const char *when, unsigned long seconds)
{
	diag("%s %lu s: %lu operations, %lu forks, %lu kills, %lu relocks, "
	    "%lu verifies, %lu refused, %lu children without a copy, "
	    "%lu failures", when, seconds, atomic_load(&shared->operations),
	    atomic_load(&shared->forks), kills, relocks,
	    atomic_load(&shared->verifies), atomic_load(&shared->refused),
	    atomic_load(&shared->bare), failures);
}

/* Whether all that the worker has is locked, as the kernel sees it. */
static void
look(pid_t worker)
{
	struct ask question = { .what = ASK_POOLS, .pid = worker };
	struct answer answer = observe_pages_drained(&question);

	if (answer.unlocked != 0 || answer.count *
	    (uint64_t)sysconf(_SC_PAGESIZE) != shared->locked)
		fail("not every page of the pools is locked");
	atomic_store(&shared->looked, true);
}

/* True once the worker has ended. */
static bool
reap(pid_t worker)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;

		if (pid == worker && status != 0)
			fail("the worker ended as it should not");
		else if (pid != worker && status != 0 && !killed)
			fail("a process ended as it should not");
		if (pid == worker)
			return true;
	}
	return false;
}

static void
watch(pid_t worker)
{
	int64_t start = now_us(), line = LINE_S, next = 0;
	bool looked = false;

	while (!reap(worker)) {
		int64_t now = now_us() - start;

		if (now > line * 1000000) {
			say("after", (unsigned long)line);
			line += LINE_S;
		}
		if (atomic_load(&shared->stopped) && !looked) {
			look(worker);
			looked = true;
		} else if (atomic_load(&shared->ready) && now > next &&
		    !atomic_load(&shared->stop)) {
			if (pool_inode == 0)
				pool_inode = inode_in(worker, shared->kept, 0);
			kill_some();
			next = now + (int64_t)(draw(&dice) % BURST == 0 ? 0 :
			    draw(&dice) % (KILL_MS * 1000));
		}
		sleep_ms(1);
	}
}

/* Helpers and children of whoever worked. */
static void
nothing_is_left(void)
{
	int64_t end = now_us() + GONE_MS * 1000;
	unsigned left;

	while ((left = observe_children(true, NULL)) != 0 && now_us() < end) {
		(void)reap(-1);
		sleep_ms(5);
	}
	if (left == 0)
		return;
	diag("%u processes are left", left);
	fail("somebody outlives the worker");
	(void)observe_children(true, observe_kill);
}

int
main(int argc, char *argv[])
{
	unsigned seconds = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 0;
	pid_t worker;

	if (seconds == 0 || seconds > 1000000)
		bail_out("usage: soak SECONDS [byte|descriptor|process]");
	if (geteuid() != 0)
		bail_out("the observer must be root");
	if (argc > 2)
		planted = argv[2];
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED ||
	    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == -1)
		bail_out("soak: %s", strerror(errno));
	dice = (uint64_t)now_us();
	if ((worker = fork()) == 0) {
		(void)alarm(seconds + 60);
		work(seconds);
		_exit(0);
	}
	if (worker == -1)
		bail_out("fork: %s", strerror(errno));
	watch(worker);
	nothing_is_left();
	if (failures == 0 && (kills == 0 || relocks == 0))
		fail("no helper was killed and replaced");
	say("in", seconds);
	return failures == 0 ? 0 : 1;
}
