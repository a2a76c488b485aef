/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Example: an ordinary program, without any privilege and whatever its
 * RLIMIT_MEMLOCK, keeps a key in memory that the helper locks for it.
 *
 *	cc example-helper.c -lsecmalloc
 *	example-helper [helper]
 *
 * The argument is for a helper that is not installed in the usual place.
 */
#include <sys/random.h>
#include <sys/resource.h>

#include <err.h>
#include <stdio.h>
#include <unistd.h>

#include <secmalloc.h>

int
main(int argc, char **argv)
{
	struct secmalloc_config config = {0};
	struct secmalloc_stats stats;
	struct rlimit limit;
	unsigned char *key, *table;
	const size_t key_size = 32, table_size = 2 * 1024 * 1024;

	/*
	 * The helper or nobody.  The default, SECMALLOC_MODE_AUTO, goes on to
	 * lock in this process where there is no helper.
	 */
	config.mode = SECMALLOC_MODE_HELPER;
	if (argc > 1)
		config.helper_path = argv[1];
	if (secmalloc_init(&config) == -1)
		err(1, "secmalloc_init");

	/* Secrets go straight into locked memory, through no other buffer. */
	key = secmalloc(key_size);
	if (key == NULL)
		err(1, "secmalloc");
	if (getrandom(key, key_size, 0) != (ssize_t)key_size)
		err(1, "getrandom");

	/* More than the first pool holds: another is locked now. */
	table = seccalloc(table_size / key_size, key_size);
	if (table == NULL)
		err(1, "seccalloc");
	for (size_t i = 0; i < table_size; i++)
		table[i] = key[i % key_size];

	/* Every allocation was locked when it was made.  Is it still? */
	if (secmalloc_verify() == -1)
		err(1, "secmalloc_verify");

	if (getrlimit(RLIMIT_MEMLOCK, &limit) == -1)
		err(1, "getrlimit");
	if (secmalloc_stats(&stats) == -1)
		err(1, "secmalloc_stats");
	printf("uid %u, RLIMIT_MEMLOCK %llu: %zu objects of %zu bytes in %zu "
	    "locked bytes\n", (unsigned)getuid(),
	    (unsigned long long)limit.rlim_cur, stats.objects,
	    stats.object_bytes, stats.locked_bytes);

	secfree(table);
	secfree(key);
	return 0;
}
