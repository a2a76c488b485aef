/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * admin.c: answers what an administrator asks on the command line, with no
 * more rights than who asks; must not serve anybody.
 */
#include "config.h"
#include "helper.h"

static void
check_config(const char *path, bool trusted)
{
	static struct client client;
	struct policy policy;
	char why[WHY_SIZE];

	client_from_process(&client);
	if (!policy_read(path, trusted, &client, &policy, why))
		errx(EX_CONFIG, "%s", why);
	printf("%s: %s\nuser %u: limit %" PRIu64 " bytes, helpers %" PRIu64
	    "; total %" PRIu64 " bytes\n", path, access(path, F_OK) == 0 ?
	    "correct" : "is missing: the defaults hold", client.uid,
	    policy.limit.value, policy.helpers.value, policy.total.value);
}

void
admin(int argc, char *argv[])
{
	const char *asked = argc > 1 ? argv[1] : "";
	bool checks = strcmp(asked, "--check-config") == 0;

	if (argc <= 1)
		return;
	privilege_abandon();
	if (argc > 3 || (argc == 3 && !checks))
		errx(EX_USAGE, "too many arguments; try --help");
	if (checks) {
		check_config(argc == 3 ? argv[2] : POLICY_FILE, argc == 3);
	} else if (strcmp(asked, "--usage") == 0) {
		if (getuid() != 0)
			errx(EX_NOPERM, "--usage is for root");
		if (!ledger_print())
			err(EX_UNAVAILABLE, "%s", LEDGER_DIR);
	} else if (strcmp(asked, "--version") == 0) {
		printf(NAME " " PACKAGE_VERSION "\nseccomp: %s\naccount: "
		    HELPER_USER "\npolicy:  " POLICY_FILE "\nledger:  "
		    LEDGER_DIR "\n", sandbox_name);
	} else if (strcmp(asked, "--help") == 0) {
		puts("usage: " NAME " [--check-config [FILE] | --help | "
		    "--usage | --version]\nWithout an option it is started by "
		    "libsecmalloc; see " NAME "(8).");
	} else
		errx(EX_USAGE, "unknown option; try --help");
	exit(fflush(stdout) == 0 ? EX_OK : EX_IOERR);
}
