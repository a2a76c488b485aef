#!/usr/bin/env bats
# Each call to the system fails once: an errno, no crash, no leak, no lock less.

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

@test "a call of the helper that fails is an errno" {
	local helper=$STAGE/faults/secmalloc-helper
	install -D -o "$HELPER_UID" -g 0 -m 755 "$STAGE/bin/secmalloc-helper-faults" "$helper"
	chmod 4755 "$helper"
	setcap cap_ipc_lock=p "$helper"
	SECMALLOC_TEST_HELPER=$helper "$STAGE/bin/faults" helper 3>&-
}
