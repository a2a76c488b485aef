/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Uses every verb and macro of secmalloc.h from C++11; it is compiled, never
 * run, and knows nothing but the header.
 */
#include <secmalloc.h>

#if SECMALLOC_VERSION < 0x010000
# error the version is for #if
#endif

static_assert(SECMALLOC_VERSION == ((SECMALLOC_VERSION_MAJOR << 16) |
    (SECMALLOC_VERSION_MINOR << 8) | SECMALLOC_VERSION_PATCH), "");
static_assert(sizeof(SECMALLOC_VERSION_STRING) > 1, "");

static void
on_misuse(const char *, const char *, void *)
{
}

static void
on_lock_lost(void *)
{
}

int
main()
{
	secmalloc_config config = secmalloc_config();
	struct secmalloc_stats stats;

	config.initial_pools = 1;
	config.pool_size = 1 << 20;
	config.max_locked = 1 << 24;
	config.mode = SECMALLOC_MODE_AUTO;
	config.mode = SECMALLOC_MODE_HELPER;
	config.mode = SECMALLOC_MODE_INPROCESS;
	config.fork_policy = SECMALLOC_FORK_COPY;
	config.fork_policy = SECMALLOC_FORK_DENY;
	config.helper_path = "/helper";
	config.on_misuse = on_misuse;
	config.on_lock_lost = on_lock_lost;
	config.callback_data = &stats;
	config.flags = SECMALLOC_BELT;
	if (secmalloc_init(&config) != 0 || ::secmalloc_stats(&stats) != 0)
		return 1;

	int *p = static_cast<int *>(secmalloc(sizeof(int)));
	p = static_cast<int *>(secrealloc(p, 2 * sizeof(int)));
	p = static_cast<int *>(secreallocarray(p, 3, sizeof(int)));
	secfree(p);
	p = static_cast<int *>(seccalloc(1, sizeof(int)));
	secfree(p);
	void *a = secaligned_alloc(64, 64);
	secfree(a);
	p = static_cast<int *>(secmalloc_guarded(sizeof(int)));
	if (secmalloc_protect(p, SECMALLOC_NOACCESS) != 0 ||
	    secmalloc_protect(p, SECMALLOC_READONLY) != 0 ||
	    secmalloc_protect(p, SECMALLOC_READWRITE) != 0)
		return 2;
	secfree(p);
	char *s = secstrdup("s");
	char *t = secstrndup(s, 1);
	bool good = secmalloc_usable_size(s) == 2 &&
	    secmalloc_is_secure(s) == 1 && secmalloc_verify() == 0 &&
	    secmalloc_lock_fd() != 0 && secmalloc_open() == -1 &&
	    secmalloc_close() == -1;
	secfree(t);
	secfree(s);
	secmalloc_shutdown();
	return good ? 0 : 1;
}
