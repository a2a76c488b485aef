/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * privilege.c: who asks, and who to be; gives up everything but CAP_IPC_LOCK
 * and proves that it is gone.  Must not know what the capability is used for.
 */
#include "config.h"

#include <sys/capability.h>

#include "helper.h"

#define BITS_LOCKED (SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | \
	SECBIT_NO_SETUID_FIXUP | SECBIT_NO_SETUID_FIXUP_LOCKED | \
	SECBIT_KEEP_CAPS_LOCKED | \
	SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED)

void
privilege_undumpable(void)
{
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == -1 ||
	    prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0)
		die("core files");
}

/* The helper's account.  A bare number is its own group. */
static bool
account_find(struct account *who)
{
	const struct passwd *pw;
	char *end;

	who->uid = who->gid = (uid_t)strtoul(HELPER_USER, &end, 10);
	who->may_lock = true;
	if (*end != '\0') {
		if ((pw = getpwnam(HELPER_USER)) == NULL)
			return false;
		who->uid = pw->pw_uid;
		who->gid = pw->pw_gid;
	}
	return who->uid != 0 && who->uid != (uid_t)-1 &&
	    who->gid != 0 && who->gid != (gid_t)-1;
}

/* Root may lock anyhow; anybody else is to be told that we may not. */
static struct account
caller(void)
{
	return (struct account){ getuid(), getgid(), getuid() == 0 };
}

/*
 * Started as root, by a set-user-ID bit or by root: the helper's account.
 * Otherwise the effective user: the file's owner or the caller.
 */
struct account
privilege_identify(void)
{
	struct account who = { geteuid(), getegid(), true }, account;

	if ((who.uid == 0 || getuid() == 0) && account_find(&account))
		return account;
	return who.uid != 0 ? who : caller();
}

void
client_from_process(struct client *client)
{
	int n = getgroups(NGROUPS_MAX, client->groups);

	if (n == -1)
		die("groups");
	client->uid = getuid();
	client->group_count = (size_t)n;
	client->groups[client->group_count++] = getgid();
}

/*
 * Our real user is who started us, and cannot be borrowed as a socket can.  The
 * system, as root or as our own account, has done so for the socket's peer.  An
 * account that cannot be looked up, and be it by the caller's limits, is taken
 * to be our effective user: where that is wrong, the ledger cannot be opened.
 */
void
client_identify(struct client *client)
{
	socklen_t length = sizeof(int), peer_length = sizeof(struct ucred),
	    groups_length = NGROUPS_MAX * sizeof(gid_t);
	struct account account;
	struct ucred peer;
	int type;

	/* Without a user: it is not connected, or not of the Unix domain. */
	if (getsockopt(0, SOL_SOCKET, SO_TYPE, &type, &length) == -1 ||
	    getsockopt(0, SOL_SOCKET, SO_PEERCRED, &peer, &peer_length) == -1 ||
	    type != SOCK_SEQPACKET || peer.uid == (uid_t)-1)
		errx(EX_USAGE, "this program is started by libsecmalloc, with a"
		    " socket as standard input; see " NAME "(8)");
	client_from_process(client);
	client->pid = peer.pid;
	if (client->uid != 0 && client->uid !=
	    (account_find(&account) ? account.uid : geteuid()))
		return;
	/* Before Linux 4.13 a peer has no group but its primary one. */
	if (getsockopt(0, SOL_SOCKET, SO_PEERGROUPS, client->groups,
	    &groups_length) == -1)
		groups_length = 0;
	client->uid = peer.uid;
	client->group_count = groups_length / sizeof(gid_t);
	client->groups[client->group_count++] = peer.gid;
}

/*
 * Leaves those of WANTED that are permitted, raised, and nothing else; FORCE
 * tries to have them also where they are not.  Whether it has all of them.
 */
static bool
capabilities_set(uint32_t wanted, bool force)
{
	struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct caps[_LINUX_CAPABILITY_U32S_3];

	if (capget(&h, caps) == -1)
		die("capabilities");
	caps[0].permitted = wanted & (caps[0].permitted | -(uint32_t)force);
	caps[0].effective = caps[0].permitted;
	caps[0].inheritable = 0;
	caps[1] = (struct __user_cap_data_struct){ 0, 0, 0 };
	if ((capset(&h, caps) == -1 && !force) || capget(&h, caps) == -1)
		die("capabilities");
	return caps[0].permitted == wanted;
}

/* An id that a user namespace does not map cannot be set, not even again. */
static bool
become(const struct account *who)
{
	uid_t r, e, s;
	gid_t rg, eg, sg;

	if (setresgid(who->gid, who->gid, who->gid) == -1 ||
	    setresuid(who->uid, who->uid, who->uid) == -1)
		errno = EPERM;
	if (getresuid(&r, &e, &s) == -1 || getresgid(&rg, &eg, &sg) == -1)
		die("user and group");
	privilege_undumpable();
	return r == who->uid && e == who->uid && s == who->uid &&
	    rg == who->gid && eg == who->gid && sg == who->gid;
}

/* Tries the ways back up.  User 0 is the caller's own, or it would not be. */
static void
regain_try(const struct account *who)
{
	errno = EPERM;
	if (who->uid != 0 && (setresuid(0, 0, 0) == 0 ||
	    setresuid((uid_t)-1, 0, (uid_t)-1) == 0))
		die("root could be regained");
	if (capabilities_set(CAP_TO_MASK(CAP_SETUID), true) ||
	    capabilities_set(CAP_TO_MASK(CAP_SYS_ADMIN), true))
		die("capabilities could be regained");
}

uid_t
privilege_drop(struct account who)
{
	const uint32_t lock = CAP_TO_MASK(CAP_IPC_LOCK);
	const struct account fallback = caller();
	int bits = prctl(PR_GET_SECUREBITS, 0, 0, 0, 0);
	bool setpcap;

	/* Permitted is not yet effective, where root starts a file of ours. */
	capabilities_set(lock | CAP_TO_MASK(CAP_SETPCAP) |
	    CAP_TO_MASK(CAP_SETGID) | CAP_TO_MASK(CAP_SETUID), false);
	for (cap_value_t cap = 0; cap_get_bound(cap) >= 0; cap++)
		if (cap_drop_bound(cap) == -1)
			break; /* without CAP_SETPCAP there is no more to do */
	prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0);
	/*
	 * The groups are still the caller's own.  One who was not root is left
	 * with them, for want of CAP_SETGID; root's must go.
	 */
	if ((setgroups(0, NULL) == -1 && geteuid() == 0) || !become(&who)) {
		who = fallback;
		if (!become(&who))
			die("cannot become the caller");
	}
	prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0);
	setpcap = capabilities_set(lock | CAP_TO_MASK(CAP_SETPCAP), false);
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	if (setpcap && (bits == -1 ||
	    prctl(PR_SET_SECUREBITS, bits | BITS_LOCKED, 0, 0, 0) == -1))
		die("securebits");
	capabilities_set(who.may_lock ? lock : 0, false);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1)
		die("no_new_privs");
	privilege_undumpable();
	regain_try(&who);
	return who.uid;
}

void
privilege_abandon(void)
{
	struct account who = caller();

	if (!become(&who))
		die("cannot become the caller");
	if (who.uid != 0)
		capabilities_set(0, false);
}
