#!/usr/bin/env bats
# What a start, a fork and another helper cost, beside what they are compared with.

load helpers

@test "a window costs no more than a few instructions" {
	requires root pkeys
	local status=0
	"$STAGE/bin/window" cost >"$BATS_TEST_TMPDIR/said" 3>&- || status=$?
	grep '^#' "$BATS_TEST_TMPDIR/said" >&3 || true
	cat "$BATS_TEST_TMPDIR/said"
	[ "$status" = 0 ]
}

@test "starts, forks and kills cost what is in use, and the processes that they need" {
	requires root helper-a
	local status=0
	SECMALLOC_TEST_HELPER=$HELPER_A "$STAGE/bin/cost" >"$BATS_TEST_TMPDIR/said" 3>&- || status=$?
	grep '^#' "$BATS_TEST_TMPDIR/said" >&3 || true
	cat "$BATS_TEST_TMPDIR/said"
	[ "$status" = 0 ]
}

@test "to limit access to a guarded object costs little more than mprotect" {
	requires root helper-a
	local status=0
	SECMALLOC_TEST_HELPER=$HELPER_A "$STAGE/bin/guarded" cost >"$BATS_TEST_TMPDIR/said" 3>&- || status=$?
	grep '^#' "$BATS_TEST_TMPDIR/said" >&3 || true
	cat "$BATS_TEST_TMPDIR/said"
	[ "$status" = 0 ]
}
