/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * checks_lock.c: what became of the real locks.
 */
#include "config.h"

#include <string.h>

#include "tool.h"

/* What is said of a trial that was made, whatever else it is worth. */
static void
trial_tell(struct doctor *d, const struct trial *trial, enum level level)
{
	if (trial->works && trial->looked)
		found(d, LEVEL_PASS, "64 KiB locked and verified; the kernel"
		    " has %zu of %zu pages as mlocked and unevictable",
		    trial->locked, trial->pages);
	else if (trial->works)
		found(d, LEVEL_PASS, "64 KiB locked and verified");
	else if (trial->outcome == RUN_TIMEOUT)
		found(d, level, "it does not come to an end");
	else if (trial->outcome != 0)
		found(d, level, "it ended without a result");
	else if (trial->error != 0)
		found(d, level, "%s: %s", trial->step, strerror(trial->error));
	else
		found(d, LEVEL_FAIL, "the kernel has only %zu of %zu pages as"
		    " mlocked and unevictable", trial->locked, trial->pages);
}

void
check_lock_socket(struct doctor *d)
{
	if (!d->by_socket.tried)
		found(d, LEVEL_INFO, "not tried: no helper serves there");
	else
		trial_tell(d, &d->by_socket,
		    d->by_helper.works ? LEVEL_WARN : LEVEL_FAIL);
}

void
check_lock_helper(struct doctor *d)
{
	const enum level level = d->by_socket.works || !privilege_is_meant() ?
	    LEVEL_INFO : LEVEL_FAIL;

	if (d->by_helper.tried)
		trial_tell(d, &d->by_helper, level);
	else if (d->facts.error != 0)
		found(d, LEVEL_INFO, "not tried: there is none");
	else
		found(d, level, "not tried: %s", d->helper.kind == ANSWER_ERROR ?
		    strerror(d->helper.error) : d->helper.kind ==
		    ANSWER_REFUSED ? "it refuses" : "it does not answer");
}

void
check_lock_process(struct doctor *d)
{
	trial_tell(d, &d->by_process, LEVEL_INFO);
}
