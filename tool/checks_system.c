/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * checks_system.c: where memory that is not locked may go, and what may go there
 * although it is.  None of it keeps memory from being locked.
 */
#include "config.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "tool.h"

enum { LINE_MAX_BYTES = 512, DEPTH_MAX = 8 };

/* The first line of a file; empty if there is none. */
static void
line_read(const char *path, char line[LINE_MAX_BYTES])
{
	FILE *file = fopen(path, "re");

	line[0] = '\0';
	if (file == NULL)
		return;
	if (fgets(line, LINE_MAX_BYTES, file) == NULL)
		line[0] = '\0';
	line[strcspn(line, "\n")] = '\0';
	(void)fclose(file);
}

/* Whether the block device at a directory of /sys is, or lies on, dm-crypt. */
static bool
block_is_encrypted(const char *sys, int depth)
{
	char line[LINE_MAX_BYTES], *path = text_make("%s/dm/uuid", sys);
	bool encrypted, any = false;
	struct dirent *entry;
	DIR *slaves;

	line_read(path, line);
	free(path);
	encrypted = strncmp(line, "CRYPT-", 6) == 0;
	path = text_make("%s/slaves", sys);
	slaves = encrypted || depth == 0 ? NULL : opendir(path);
	while (slaves != NULL && (entry = readdir(slaves)) != NULL) {
		char *below;

		if (entry->d_name[0] == '.')
			continue;
		below = text_make("%s/%s", path, entry->d_name);
		encrypted = (encrypted || !any) &&
		    block_is_encrypted(below, depth - 1);
		any = true;
		free(below);
	}
	if (slaves != NULL)
		(void)closedir(slaves);
	free(path);
	return encrypted;
}

/* Of a partition, or of a file. */
static bool
place_is_encrypted(const char *path)
{
	struct stat st;
	dev_t device;
	bool encrypted;
	char *sys;

	if (stat(path, &st) == -1)
		return false;
	device = S_ISBLK(st.st_mode) ? st.st_rdev : st.st_dev;
	sys = text_make("/sys/dev/block/%u:%u", major(device), minor(device));
	encrypted = block_is_encrypted(sys, DEPTH_MAX);
	free(sys);
	return encrypted;
}

struct swaps {
	char *names;      /* with a comma between */
	char *zram;       /* those that are memory, compressed */
	char *backing;    /* what these may be written to */
	char *disks;      /* those that are not, to which a machine hibernates */
	bool unencrypted; /* any of which has what is written there as it is */
};

static void
name_add(char **names, const char *name)
{
	char *both = text_make("%s%s%s", *names == NULL ? "" : *names,
	    *names == NULL ? "" : ", ", name);

	free(*names);
	*names = both;
}

/* What is in memory that is compressed may yet go to a disk. */
static void
zram_add(struct swaps *swaps, const char *name)
{
	char line[LINE_MAX_BYTES], *path = text_make("/sys/block/%s/backing_dev",
	    name + strlen("/dev/"));

	line_read(path, line);
	free(path);
	name_add(&swaps->zram, name);
	if (line[0] == '/')
		name_add(&swaps->backing, line);
}

/* A line of /proc/swaps begins with a path, with its blanks as \040. */
static void
swaps_find(struct swaps *swaps)
{
	FILE *file = fopen("/proc/swaps", "re");
	char line[LINE_MAX_BYTES];

	*swaps = (struct swaps){ .names = NULL };
	while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
		line[strcspn(line, " \t\n")] = '\0';
		if (line[0] != '/')
			continue;
		name_add(&swaps->names, line);
		if (strncmp(line, "/dev/zram", 9) == 0)
			zram_add(swaps, line);
		else {
			name_add(&swaps->disks, line);
			swaps->unencrypted |= !place_is_encrypted(line);
		}
	}
	if (file != NULL)
		(void)fclose(file);
}

static void
swaps_free(struct swaps *swaps)
{
	free(swaps->names);
	free(swaps->zram);
	free(swaps->backing);
	free(swaps->disks);
}

void
check_swap(struct doctor *d)
{
	struct swaps swaps;

	swaps_find(&swaps);
	if (swaps.names == NULL)
		found(d, LEVEL_PASS, "there is none");
	else
		found(d, LEVEL_INFO, "%s: no locked memory goes there, but all"
		    " else of a program may%s", swaps.names,
		    swaps.disks == NULL || swaps.unencrypted ? "" : ", encrypted");
	swaps_free(&swaps);
}

void
check_zram(struct doctor *d)
{
	struct swaps swaps;

	swaps_find(&swaps);
	if (swaps.zram == NULL)
		found(d, LEVEL_PASS, "no swap is on zram");
	else
		found(d, LEVEL_INFO, "%s: compressed memory%s%s", swaps.zram,
		    swaps.backing == NULL ? "" : ", and may be written to ",
		    swaps.backing == NULL ? "" : swaps.backing);
	swaps_free(&swaps);
}

/* What systemd would not even try. */
static bool
is_masked(const char *unit)
{
	static const char *const places[] = { "/etc/systemd/system",
	    "/run/systemd/system", "/usr/lib/systemd/system" };
	char target[sizeof("/dev/null")];
	ssize_t length = -1;

	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		char *path = text_make("%s/%s", places[i], unit);

		if (length == -1)
			length = readlink(path, target, sizeof(target));
		free(path);
	}
	return length == (ssize_t)strlen("/dev/null") &&
	    memcmp(target, "/dev/null", (size_t)length) == 0;
}

void
check_hibernation(struct doctor *d)
{
	char states[LINE_MAX_BYTES], how[LINE_MAX_BYTES];
	struct swaps swaps;

	line_read("/sys/power/state", states);
	line_read("/sys/power/disk", how);
	swaps_find(&swaps);
	if (strstr(states, "disk") == NULL || strstr(how, "[disabled]") != NULL)
		found(d, LEVEL_PASS, "this machine cannot");
	else if (swaps.disks == NULL)
		found(d, LEVEL_PASS, "there is no swap to write it to");
	else if (!swaps.unencrypted)
		found(d, LEVEL_PASS, "the swap that it writes to is encrypted");
	else if (is_masked("hibernate.target"))
		found(d, LEVEL_PASS, "hibernate.target is masked");
	else {
		found(d, LEVEL_WARN, "it writes all memory, also what is"
		    " locked, to %s, which is not known to be encrypted",
		    swaps.disks);
		remedy(d, "systemctl mask hibernate.target hybrid-sleep.target"
		    " suspend-then-hibernate.target");
	}
	swaps_free(&swaps);
}

void
check_core(struct doctor *d)
{
	char pattern[LINE_MAX_BYTES];
	struct rlimit limit;

	line_read("/proc/sys/kernel/core_pattern", pattern);
	if (pattern[0] == '|')
		found(d, LEVEL_PASS, "they go to a program (%s): without what"
		    " is locked, but with registers and stacks", pattern + 1);
	else if (getrlimit(RLIMIT_CORE, &limit) == 0 && limit.rlim_cur == 0)
		found(d, LEVEL_PASS, "RLIMIT_CORE is 0: there are none");
	else
		found(d, LEVEL_PASS, "core_pattern is \"%s\": without what is"
		    " locked, but with registers and stacks", pattern);
}
