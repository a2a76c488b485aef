/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * checks_helper.c: whether the installed helper is there, and has its privilege
 * in one of the ways that secmalloc-helper(8) calls layouts.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "tool.h"

#if !defined(PRIVILEGE)
# error "PRIVILEGE: what make install-privileged gives: setuid, caps, ..."
#endif

#define IN_NAMESPACE "cannot be told in a user namespace"

bool
privilege_is_meant(void)
{
	return strcmp(PRIVILEGE, "none") != 0;
}

/* Of a file that nothing was given to, what was meant for it. */
static bool
meant(const char *privilege)
{
	return strcmp(PRIVILEGE, privilege) == 0;
}

/* Root's, without set-user-ID bit and capability. */
static bool
is_bare(const struct facts *f)
{
	return f->file.st_uid == 0 && (f->file.st_mode & S_ISUID) == 0 &&
	    !f->has_capability;
}

static bool
is_ours(const struct facts *f)
{
	return f->account_known && f->file.st_uid == f->uid;
}

/* The mode that it ought to have; who may execute it is the owner's choice. */
static unsigned
mode_wanted(const struct facts *f, bool setuid)
{
	return (f->file.st_mode & (0777 & ~(unsigned)(S_IWGRP | S_IWOTH))) |
	    (setuid ? S_ISUID : 0);
}

/* Where there is nothing to look at: said by the first check. */
static bool
is_there(struct doctor *d)
{
	if (d->facts.error == 0 && S_ISREG(d->facts.file.st_mode))
		return true;
	found(d, LEVEL_INFO, "there is no helper");
	return false;
}

/* The way in which files come to where this one is. */
static void
remedy_install(struct doctor *d)
{
	const bool packaged = strncmp(d->options->helper, "/usr/", 5) == 0 &&
	    strncmp(d->options->helper, "/usr/local/", 11) != 0;

	if (packaged && access("/usr/bin/apt-get", X_OK) == 0)
		remedy(d, "apt-get install --reinstall secmalloc-helper");
	else if (packaged && access("/usr/bin/dnf", X_OK) == 0)
		remedy(d, "dnf reinstall secmalloc-helper"
		    " || dnf install secmalloc-helper");
	else
		remedy(d, "make install install-privileged");
}

/* The directory above the helper that is closed to us, in new memory. */
static char *
closed_directory(const char *path)
{
	char *dir = text_make("%s", path);

	for (char *slash = strchr(dir + 1, '/'); slash != NULL;
	    slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (access(dir, X_OK) == -1)
			return dir;
		*slash = '/';
	}
	free(dir);
	return NULL;
}

static void
helper_missing(struct doctor *d)
{
	const char *path = d->options->helper;
	char *dir = closed_directory(path), *quoted;

	if (d->facts.error == EACCES && dir != NULL) {
		quoted = text_quote(dir);
		found(d, level_of_fault(d), "%s cannot be reached: %s is closed"
		    " to this user", path, dir);
		remedy(d, "chmod a+x %s", quoted);
		free(quoted);
	} else if (helper_locks(d) || !privilege_is_meant())
		found(d, LEVEL_INFO, "%s: %s", path, strerror(d->facts.error));
	else {
		found(d, LEVEL_FAIL, "%s: %s; install it: a package, or in the"
		    " tree that it was built in", path,
		    strerror(d->facts.error));
		remedy_install(d);
	}
	free(dir);
}

/* To all, or to who is no member of its group, as an administrator may want. */
static void
helper_closed(struct doctor *d)
{
	const struct stat *file = &d->facts.file;
	char *quoted;

	found(d, level_of_fault(d), "%s may not be executed by this user: it"
	    " has mode %04o and group %u%s", d->options->helper,
	    (unsigned)file->st_mode & 07777, file->st_gid,
	    (file->st_mode & S_IXGRP) == 0 ? "" :
	    ", whose members may, from their next login on");
	if ((file->st_mode & S_IXGRP) != 0 && remedy_group(d, file->st_gid))
		return;
	quoted = text_quote(d->options->helper);
	remedy(d, "chmod a+rx %s", quoted);
	free(quoted);
}

void
check_helper(struct doctor *d)
{
	const struct facts *f = &d->facts;
	const char *path = d->options->helper;

	if (f->error != 0)
		helper_missing(d);
	else if (!S_ISREG(f->file.st_mode)) {
		found(d, level_of_fault(d), "%s is no regular file", path);
		remedy_install(d);
	} else if (!f->executable)
		helper_closed(d);
	else if (!f->runs) {
		found(d, level_of_fault(d), "%s: %s", path, f->complaint);
		remedy_install(d);
	} else
		found(d, LEVEL_PASS, "%s", path);
}

void
check_account(struct doctor *d)
{
	const struct facts *f = &d->facts;
	char *quoted;

	if (f->account_known) {
		found(d, LEVEL_PASS, "%s", f->account);
		return;
	}
	/* Not needed by layout C, nor where the machine has none to find. */
	if (d->in_user_namespace || f->error != 0 ||
	    (f->has_capability && f->file.st_uid == 0) ||
	    !privilege_is_meant()) {
		found(d, LEVEL_INFO, "there is no %s, and none is needed",
		    f->account);
		return;
	}
	quoted = text_quote(f->account);
	found(d, level_of_fault(d), "the helper's account, %s, is missing",
	    f->account);
	remedy(d, "useradd --system --user-group --no-create-home --home-dir /"
	    " --shell /usr/sbin/nologin %s", quoted);
	free(quoted);
}

void
check_owner(struct doctor *d)
{
	const struct facts *f = &d->facts;
	char *account, *path;

	if (!is_there(d))
		return;
	if (d->in_user_namespace) {
		found(d, LEVEL_INFO, IN_NAMESPACE);
		return;
	}
	if (is_ours(f) || (f->file.st_uid == 0 &&
	    !(is_bare(f) && meant("setuid")))) {
		found(d, LEVEL_PASS, "%u, %s", f->file.st_uid,
		    f->file.st_uid == 0 ? "root" : "the helper's account");
		return;
	}
	account = text_quote(f->account);
	path = text_quote(f->path);
	found(d, level_of_fault(d), "%s belongs to %u, and not to %s", f->path,
	    f->file.st_uid, f->account);
	/* chown(2) takes mode bits and capabilities. */
	remedy(d, "chown %s %s && chmod %04o %s && setcap cap_ipc_lock=p %s",
	    account, path, mode_wanted(f, true), path, path);
	free(account);
	free(path);
}

void
check_mode(struct doctor *d)
{
	const struct facts *f = &d->facts;
	const unsigned mode = f->file.st_mode & 07777;
	bool setuid;
	char *path;

	if (!is_there(d))
		return;
	setuid = f->file.st_uid != 0 || (mode & S_ISUID) != 0 ||
	    (is_bare(f) && (meant("setuid") || meant("setuid-root")));
	/* An owner that is not known here is no reason to want the bit. */
	if (d->in_user_namespace)
		setuid = (mode & S_ISUID) != 0;
	if (mode == mode_wanted(f, setuid)) {
		found(d, LEVEL_PASS, "%04o", mode);
		return;
	}
	path = text_quote(f->path);
	found(d, level_of_fault(d), "%s has mode %04o: %s", f->path, mode,
	    setuid && (mode & S_ISUID) == 0 ? "the set-user-ID bit is missing" :
	    (mode & (S_IWGRP | S_IWOTH)) != 0 ? "others may write to it" :
	    "it has bits that it must not have");
	remedy(d, "chmod %04o %s", mode_wanted(f, setuid), path);
	free(path);
}

void
check_capability(struct doctor *d)
{
	const struct facts *f = &d->facts;
	char *path;

	if (!is_there(d))
		return;
	path = text_quote(f->path);
	if (f->has_capability && f->has_others) {
		found(d, LEVEL_WARN, "%s has more capabilities than"
		    " cap_ipc_lock", f->path);
		remedy(d, "setcap cap_ipc_lock=p %s", path);
	} else if (f->has_capability && f->has_effective) {
		found(d, LEVEL_WARN, "%s has cap_ipc_lock=ep: where the"
		    " bounding set lacks it, it cannot even say so", f->path);
		remedy(d, "setcap cap_ipc_lock=p %s", path);
	} else if (f->has_capability)
		found(d, LEVEL_PASS, "cap_ipc_lock=p");
	else if (d->in_user_namespace)
		found(d, LEVEL_INFO, IN_NAMESPACE);
	else if ((f->file.st_uid == 0 && (f->file.st_mode & S_ISUID) != 0) ||
	    (is_bare(f) && meant("setuid-root")))
		found(d, LEVEL_PASS, "none, and none is needed: it is"
		    " set-user-ID to root");
	else if (is_bare(f) && !privilege_is_meant())
		found(d, LEVEL_INFO, "none, as configured");
	else {
		found(d, level_of_fault(d), "%s lacks cap_ipc_lock", f->path);
		remedy(d, "setcap cap_ipc_lock=p %s", path);
	}
	free(path);
}

/* /proc/self/mountinfo has a blank and the like as \ and three octal digits. */
static void
unescape(char *word)
{
	char *to = word;

	while (*word != '\0')
		if (word[0] == '\\' && strspn(word + 1, "01234567") >= 3) {
			*to++ = (char)((word[1] - '0') << 6 |
			    (word[2] - '0') << 3 | (word[3] - '0'));
			word += 4;
		} else
			*to++ = *word++;
	*to = '\0';
}

/* Where the file system of PATH is mounted, in new memory; or NULL. */
static char *
mount_point(const char *path)
{
	char *real = realpath(path, NULL), *point = NULL, *line = NULL;
	FILE *mounts = fopen("/proc/self/mountinfo", "re");
	size_t room = 0;

	while (real != NULL && mounts != NULL &&
	    getline(&line, &room, mounts) != -1) {
		char *rest = line, *at;
		size_t length;

		/* The fifth word; what is mounted last is on top. */
		for (int i = 0; i < 4 && rest != NULL; i++)
			(void)strsep(&rest, " ");
		if ((at = strsep(&rest, " ")) == NULL)
			continue;
		unescape(at);
		length = strlen(at);
		if (length == 0 || strncmp(real, at, length) != 0 ||
		    (length > 1 && real[length] != '/') ||
		    (point != NULL && strlen(point) > length))
			continue;
		free(point);
		point = text_make("%s", at);
	}
	if (mounts != NULL)
		(void)fclose(mounts);
	free(line);
	free(real);
	return point;
}

void
check_nosuid(struct doctor *d)
{
	struct statvfs fs;
	char *point, *quoted;

	if (!is_there(d))
		return;
	if (statvfs(d->options->helper, &fs) == -1) {
		found(d, LEVEL_INFO, "%s", strerror(errno));
		return;
	}
	point = mount_point(d->options->helper);
	if ((fs.f_flag & ST_NOSUID) == 0)
		found(d, LEVEL_PASS, "%s allows set-user-ID programs",
		    point == NULL ? "the file system" : point);
	else if (point == NULL)
		found(d, level_of_fault(d), "the file system is mounted nosuid");
	else {
		quoted = text_quote(point);
		found(d, level_of_fault(d), "%s is mounted nosuid: no file"
		    " there has a privilege; for good, change /etc/fstab",
		    point);
		remedy(d, "mount -o remount,bind,suid %s", quoted);
		free(quoted);
	}
	free(point);
}
