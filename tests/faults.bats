#!/usr/bin/env bats
# Each call of the library to the system fails once: an errno, no crash, no leak, no
# lock less.

load helpers

setup() {
	requires root helper-a
}

@test "a call of the library that fails is an errno, with a helper" {
	SECMALLOC_TEST_HELPER=$HELPER_A "$STAGE/bin/faults" library 3>&-
}

@test "a call of the library that fails is an errno, with a helper that listens" {
	SECMALLOC_TEST_HELPER=$HELPER_A "$STAGE/bin/faults" socket 3>&-
}

@test "a call of the library that fails is an errno, without a helper" {
	"$STAGE/bin/faults" inprocess 3>&-
}
