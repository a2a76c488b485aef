#!/usr/bin/env bats
# Whatever threads do to each other's objects, and however they end.

load helpers

@test "threads share memory locked by the helper" {
	requires helper-a
	SECMALLOC_TEST_HELPER=$HELPER_A as_nobody "$STAGE/bin/threads"
}

@test "threads share memory locked by the process itself" {
	requires root
	"$STAGE/bin/threads"
}

@test "constructors, exit handlers and destructors may allocate and free, also while threads are at work" {
	requires helper-a
	export SECMALLOC_TEST_ENDS=1
	for _ in {1..10}; do
		SECMALLOC_TEST_HELPER=$HELPER_A as_nobody "$STAGE/bin/threads" ends >"$BATS_TEST_TMPDIR/said"
		diff "$BATS_TEST_TMPDIR/said" <(printf '%s\n' constructor main atexit atexit destructor)
	done
}
