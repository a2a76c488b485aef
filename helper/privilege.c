/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * privilege.c: gives up everything but CAP_IPC_LOCK and proves that it is gone;
 * must not know what the capability is used for.
 */
#include "config.h"

#include <sys/capability.h>
#include <sys/prctl.h>

#include <err.h>
#include <errno.h>
#include <grp.h>
#include <linux/securebits.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sysexits.h>
#include <unistd.h>

#include "privilege.h"

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

#define BITS_LOCKED (SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | \
	SECBIT_NO_SETUID_FIXUP | SECBIT_NO_SETUID_FIXUP_LOCKED | \
	SECBIT_KEEP_CAPS_LOCKED | \
	SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED)

void
privilege_undumpable(void)
{
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == -1 ||
	    prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0)
		errx(EX_OSERR, "cannot forbid core files");
}

/*
 * Leaves those of WANTED that are permitted, raised, and nothing else.
 * Returns whether all of them were.
 */
static bool
capabilities_keep(const cap_value_t *wanted, int count)
{
	cap_t now = cap_get_proc(), kept = cap_init();
	cap_flag_value_t value;
	bool all = true;

	if (now == NULL || kept == NULL)
		err(EX_OSERR, "capabilities");
	for (int i = 0; i < count; i++) {
		if (cap_get_flag(now, wanted[i], CAP_PERMITTED, &value) == -1)
			err(EX_OSERR, "capabilities");
		if (value != CAP_SET) {
			all = false;
			continue;
		}
		if (cap_set_flag(kept, CAP_PERMITTED, 1, &wanted[i],
		    CAP_SET) == -1 || cap_set_flag(kept, CAP_EFFECTIVE, 1,
		    &wanted[i], CAP_SET) == -1)
			err(EX_OSERR, "capabilities");
	}
	if (cap_set_proc(kept) == -1)
		err(EX_OSERR, "capabilities");
	cap_free(now);
	cap_free(kept);
	return all;
}

void
privilege_raise(void)
{
	static const cap_value_t starting[] = {
		CAP_IPC_LOCK, CAP_SETGID, CAP_SETPCAP, CAP_SETUID,
		CAP_SYS_NICE, CAP_SYS_RESOURCE,
	};

	capabilities_keep(starting, COUNT(starting));
}

/* A bare number is its own group. */
static int
account_find(struct identity *who)
{
	const char *name = HELPER_USER;
	const struct passwd *pw;
	unsigned long number;
	char *end;

	if (name[0] >= '0' && name[0] <= '9') {
		errno = 0;
		number = strtoul(name, &end, 10);
		if (errno != 0 || *end != '\0' || number >= (uid_t)-1)
			return -1;
		who->uid = (uid_t)number;
		who->gid = (gid_t)number;
	} else {
		if ((pw = getpwnam(name)) == NULL)
			return -1;
		who->uid = pw->pw_uid;
		who->gid = pw->pw_gid;
	}
	return who->uid == 0 || who->uid == (uid_t)-1 ||
	    who->gid == 0 || who->gid == (gid_t)-1 ? -1 : 0;
}

/* Root may lock anyhow; anybody else is to be told that we may not. */
static struct identity
caller(void)
{
	return (struct identity){ getuid(), getgid(), getuid() == 0 };
}

/*
 * Started as root, by a set-user-ID bit or by root: the helper's account.
 * Otherwise the effective user: the file's owner or the caller.
 */
struct identity
privilege_identify(void)
{
	struct identity who = { geteuid(), getegid(), true };

	if (who.uid == 0 && account_find(&who) == -1)
		who = caller();
	return who;
}

/* Without a capability: does what it may, as little as that is. */
static void
bounding_clear(void)
{
	for (cap_value_t cap = 0; cap_get_bound(cap) >= 0; cap++)
		if (cap_drop_bound(cap) == -1)
			break;
}

static bool
identity_is(const struct identity *who)
{
	uid_t r, e, s;
	gid_t rg, eg, sg;

	if (getresuid(&r, &e, &s) == -1 || getresgid(&rg, &eg, &sg) == -1)
		err(EX_OSERR, "user and group");
	return r == who->uid && e == who->uid && s == who->uid &&
	    rg == who->gid && eg == who->gid && sg == who->gid;
}

/* An id that a user namespace does not map cannot be set, not even again. */
static int
become(const struct identity *who)
{
	if (!identity_is(who) &&
	    (setresgid(who->gid, who->gid, who->gid) == -1 ||
	    setresuid(who->uid, who->uid, who->uid) == -1))
		return -1;
	privilege_undumpable();
	return 0;
}

/* Tries the ways back up.  User 0 is the caller's own, or it would not be. */
static void
regain_try(const struct identity *who)
{
	static const cap_value_t more[] = { CAP_SETUID, CAP_SYS_ADMIN };
	cap_t wider;

	if (!identity_is(who))
		errx(EX_OSERR, "user and group did not change");
	if (who->uid != 0 && (setresuid(0, 0, 0) == 0 ||
	    setresuid((uid_t)-1, 0, (uid_t)-1) == 0))
		errx(EX_OSERR, "root could be regained");
	for (int i = 0; i < COUNT(more); i++) {
		if ((wider = cap_get_proc()) == NULL ||
		    cap_set_flag(wider, CAP_PERMITTED, 1, &more[i],
		    CAP_SET) == -1)
			err(EX_OSERR, "capabilities");
		if (cap_set_proc(wider) == 0)
			errx(EX_OSERR, "capabilities could be regained");
		cap_free(wider);
	}
}

void
privilege_drop(struct identity who)
{
	static const cap_value_t last[] = { CAP_IPC_LOCK, CAP_SETPCAP };
	const struct identity fallback = caller();
	bool setpcap;
	int bits;

	bounding_clear();
	prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0);
	/*
	 * The groups are still the caller's own.  One who was not root is left
	 * with them, for want of CAP_SETGID; root's must go.
	 */
	if ((setgroups(0, NULL) == -1 && geteuid() == 0) ||
	    become(&who) == -1) {
		who = fallback;
		if (become(&who) == -1)
			err(EX_OSERR, "cannot become the caller");
	}
	prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0);
	setpcap = capabilities_keep(last, COUNT(last));
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	bits = prctl(PR_GET_SECUREBITS, 0, 0, 0, 0);
	if (setpcap && (bits == -1 ||
	    prctl(PR_SET_SECUREBITS, bits | BITS_LOCKED, 0, 0, 0) == -1))
		err(EX_OSERR, "securebits");
	capabilities_keep(last, who.may_lock ? 1 : 0);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1)
		err(EX_OSERR, "no_new_privs");
	privilege_undumpable();
	regain_try(&who);
}
