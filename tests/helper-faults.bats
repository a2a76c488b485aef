#!/usr/bin/env bats
# Each call of the helper to the system fails once: an errno for its client, which
# loses no lock.

load helpers

@test "a call of the helper that fails is an errno" {
	requires root helper-a
	local helper=$STAGE/faults/secmalloc-helper
	install -D -o "$HELPER_UID" -g 0 -m 755 "$STAGE/bin/secmalloc-helper-faults" "$helper"
	chmod 4755 "$helper"
	setcap cap_ipc_lock=p "$helper"
	SECMALLOC_TEST_HELPER=$helper "$STAGE/bin/faults" helper 3>&-
}
