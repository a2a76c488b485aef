#!/usr/bin/env bats
# What a start, a fork, another helper and access cost, beside what they are compared
# with.

load helpers

@test "starts, forks and kills cost what is in use, and the processes that they need" {
	requires root helper-a
	local status=0
	SECMALLOC_TEST_HELPER=$HELPER_A "$STAGE/bin/cost" >"$BATS_TEST_TMPDIR/said" 3>&- || status=$?
	grep '^#' "$BATS_TEST_TMPDIR/said" >&3 || true
	cat "$BATS_TEST_TMPDIR/said"
	[ "$status" = 0 ]
}

# Not a test of its own, for that would skip on most machines: what a window costs is
# to be known only where the processor has keys. One that is emulated says nothing.
@test "to limit access costs little more than mprotect; to give it, few instructions" {
	requires root helper-a
	local status=0
	SECMALLOC_TEST_HELPER=$HELPER_A "$STAGE/bin/guarded" cost >"$BATS_TEST_TMPDIR/said" 3>&- || status=$?
	if [ -z "$(requires_why pkeys)" ]; then
		"$STAGE/bin/window" cost >>"$BATS_TEST_TMPDIR/said" 3>&- || status=$?
	fi
	grep '^#' "$BATS_TEST_TMPDIR/said" >&3 || true
	cat "$BATS_TEST_TMPDIR/said"
	[ "$status" = 0 ]
}
