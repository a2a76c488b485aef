#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# soak.bash SECONDS: threads, children and the death of helpers, for so long, by
# uid nobody, with a helper as it is installed by default. Called by make soak.
set -euo pipefail

# shellcheck source=tests/setup_suite.bash
. "$abs_top_srcdir/tests/setup_suite.bash"

[ "$(id -u)" = 0 ] || {
	echo "make soak: needs root, to install a privileged helper" >&2
	exit 1
}
trap teardown_suite EXIT
setup_suite
SECMALLOC_TEST_HELPER=$HELPER_A "$STAGE/bin/soak" "$1"
