#!/usr/bin/env bats
# The program that uses the library sees nothing of how it is done.

load helpers

@test "the host sees nothing of a helper" {
	requires root helper-a
	SECMALLOC_TEST_HELPER=$HELPER_A "$STAGE/bin/host" helper 3>&-
}

@test "the host sees nothing where it locks by itself" {
	requires root
	"$STAGE/bin/host" inprocess 3>&-
}

@test "the library reads no environment but for its table, and calls no malloc" {
	requires command:nm
	nm -A --undefined-only "$abs_top_builddir/libsecmalloc/.libs/libsecmalloc-core.a" |
		awk '{ sub(/.*-/, "", $1); print $1, $NF }' >"$BATS_TEST_TMPDIR/used"
	# The control: what it does call is found there.
	grep -qx 'memory.o: madvise' "$BATS_TEST_TMPDIR/used"
	run grep -E ' ((secure_|system_)?getenv|setenv|putenv|environ|malloc|calloc|realloc|free|atexit|on_exit)$' \
		"$BATS_TEST_TMPDIR/used"
	same "$(sort <<<"$output")" "report.o: system_getenv
system.o: secure_getenv"
}
