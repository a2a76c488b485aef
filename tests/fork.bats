#!/usr/bin/env bats
# A child has its own locked copy, or nothing at all, however it was made.

load helpers

setup() {
	requires root helper-a
	# A child cannot join the threads of its parent that had ended.
	add_options TSAN_OPTIONS report_thread_leaks=0
}

@test "fork, _Fork and clone keep their promises, with a helper" {
	# One of its own, since it is taken away at times.
	local helper=$STAGE/fork/secmalloc-helper
	install -D -o "$HELPER_UID" -g 0 -m 755 "$HELPER_NONE" "$helper"
	chmod 4755 "$helper"
	setcap cap_ipc_lock=p "$helper"
	SECMALLOC_TEST_HELPER=$helper "$STAGE/bin/fork" helper 3>&-
}

@test "fork, _Fork and clone keep their promises where a process locks by itself" {
	"$STAGE/bin/fork" inprocess 3>&-
}
