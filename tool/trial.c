/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * trial.c: locks memory by the library as any program does, in a child of its
 * own, and asks whether it is locked; must not know what to make of it.
 */
#include "config.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "secmalloc.h"
#include "tool.h"

enum {
	TRIAL_BYTES = 64 * 1024,
	/* More than the library waits for a helper that does not answer. */
	TRIAL_SECONDS = 40,
	/* In which the helper of the trial before has ended. */
	TRIAL_PAUSE_MS = 500
};

struct order {
	int mode;
	const char *path;
};

static const char *const steps[] = { "secmalloc_init", "secmalloc",
	"secmalloc_verify" };

struct outcome {
	int error, step;
	bool looked;
	size_t pages, locked;
};

static void
try(const void *argument, void *result)
{
	const struct order *order = argument;
	struct secmalloc_config config = { .mode = order->mode,
	    .helper_path = order->path };
	struct outcome *out = result;
	void *p = NULL;

	memset(out, 0, sizeof(*out));
	if (secmalloc_init(&config) == -1)
		out->error = errno;
	else if ((p = secmalloc(TRIAL_BYTES)) == NULL) {
		out->step = 1;
		out->error = errno;
	} else {
		memset(p, 0x5a, TRIAL_BYTES);
		if (secmalloc_verify() == -1) {
			out->step = 2;
			out->error = errno;
		}
		out->looked = pages_locked(p, TRIAL_BYTES, &out->pages,
		    &out->locked) == 0;
		secfree(p);
	}
	secmalloc_shutdown();
}

void
trial_make(int mode, const char *path, struct trial *trial)
{
	const struct order order = { mode, path };
	struct outcome out = { .error = 0 };

	*trial = (struct trial){ .tried = true };
	for (int i = 0; i < 2; i++) {
		trial->outcome = run_child(try, &order, &out, sizeof(out),
		    TRIAL_SECONDS);
		/* Of one's own helpers, too, there may be no more than one. */
		if (trial->outcome != 0 || out.error != EDQUOT || i == 1)
			break;
		(void)poll(NULL, 0, TRIAL_PAUSE_MS);
	}
	if (trial->outcome != 0)
		return;
	trial->error = out.error;
	trial->step = steps[out.step];
	trial->looked = out.looked;
	trial->pages = out.pages;
	trial->locked = out.locked;
	trial->works = out.error == 0 &&
	    (!out.looked || out.locked == out.pages);
}
