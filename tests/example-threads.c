/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Example: threads.  Every function may be called from any thread, and an
 * object may be freed by another thread than the one that allocated it.  Here
 * workers make session keys and hand them to the main thread.
 *
 *	cc example-threads.c -lsecmalloc
 *	example-threads [helper]
 *
 * The argument is for a helper that is not installed in the usual place.
 */
#include <sys/random.h>

#include <err.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include <secmalloc.h>

enum { WORKERS = 4, KEYS = 256, KEY_SIZE = 32 };

struct worker {
	pthread_t thread;
	unsigned char *keys[KEYS];
};

static void *
work(void *argument)
{
	struct worker *worker = argument;

	for (size_t i = 0; i < KEYS; i++) {
		unsigned char *scratch = secmalloc(1024);

		worker->keys[i] = secmalloc(KEY_SIZE);
		if (scratch == NULL || worker->keys[i] == NULL)
			err(1, "secmalloc");
		if (getrandom(scratch, KEY_SIZE, 0) != KEY_SIZE)
			err(1, "getrandom");
		memcpy(worker->keys[i], scratch, KEY_SIZE);
		secfree(scratch);
	}
	return NULL;
}

int
main(int argc, char **argv)
{
	struct secmalloc_config config = {0};
	struct secmalloc_stats stats;
	static struct worker workers[WORKERS];
	int error;

	if (argc > 1)
		config.helper_path = argv[1];
	if (secmalloc_init(&config) == -1)
		err(1, "secmalloc_init");

	for (size_t i = 0; i < WORKERS; i++) {
		error = pthread_create(&workers[i].thread, NULL, work,
		    &workers[i]);
		if (error != 0)
			errx(1, "pthread_create: %s", strerror(error));
	}
	for (size_t i = 0; i < WORKERS; i++)
		pthread_join(workers[i].thread, NULL);

	if (secmalloc_stats(&stats) == -1)
		err(1, "secmalloc_stats");
	printf("%zu keys of %d bytes from %d threads\n", stats.objects,
	    KEY_SIZE, WORKERS);

	for (size_t i = 0; i < WORKERS; i++)
		for (size_t j = 0; j < KEYS; j++)
			secfree(workers[i].keys[j]);
	if (secmalloc_stats(&stats) == -1)
		err(1, "secmalloc_stats");
	if (stats.objects != 0)
		errx(1, "%zu objects are left", stats.objects);
	return 0;
}
