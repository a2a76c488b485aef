#!/usr/bin/env bats
# A guarded object cannot be run off, nor used in a way that was not allowed.

load helpers

setup() {
	requires root helper-a
	# The processor is to notice it, before AddressSanitizer can.
	add_options ASAN_OPTIONS allow_user_poisoning=0
}

@test "guarded objects keep their promises, with a helper" {
	# One of its own, since it is taken away at times.
	local helper=$STAGE/guarded/secmalloc-helper
	install -D -o "$HELPER_UID" -g 0 -m 755 "$HELPER_NONE" "$helper"
	chmod 4755 "$helper"
	setcap cap_ipc_lock=p "$helper"
	SECMALLOC_TEST_HELPER=$helper "$STAGE/bin/guarded" helper 3>&-
}

@test "guarded objects keep their promises where a process locks by itself" {
	"$STAGE/bin/guarded" inprocess 3>&-
}
