#!/usr/bin/env bats
# A caller that means harm neither keeps a helper for ever nor holds by it more than is his.

load helpers

# The helper whose patience is short; its plan is that nothing fails.
setup() {
	requires root helper-a
	local helper=$STAGE/hostile/secmalloc-helper
	install -D -o "$HELPER_UID" -g 0 -m 755 "$STAGE/bin/secmalloc-helper-faults" "$helper"
	chmod 4755 "$helper"
	setcap cap_ipc_lock=p "$helper"
	truncate -s 4096 "$helper.plan"
	chown "$HELPER_UID" "$helper.plan"
	export SECMALLOC_TEST_HELPER=$helper
}

@test "two helpers that are each other's peer end, and what they locked with them" {
	"$STAGE/bin/hostile" peers 3>&-
}

@test "a helper that gets no HELLO ends" {
	"$STAGE/bin/hostile" hello 3>&-
}

@test "an inherited timer slack does not keep a helper for ever" {
	"$STAGE/bin/hostile" slack 3>&-
}

@test "who reads no reply is not served on" {
	"$STAGE/bin/hostile" replies 3>&-
}

@test "who falls silent, or is stopped, is waited for only while he maps what is locked" {
	SECMALLOC_TEST_LEDGER=$LEDGER/ledger "$STAGE/bin/requests" silence 3>&-
}

@test "a helper's end is told before its locks are gone, however it ends" {
	requires seccomp
	"$STAGE/bin/hostile" pulse 3>&-
	"$STAGE/bin/hostile" filter 3>&-
}

@test "a helper does not keep its own pulse, on whichever kernel" {
	"$STAGE/bin/hostile" seals 3>&-
}

@test "what a killed helper had locked is locked by another one, with all that is in it" {
	"$STAGE/bin/hostile" adopt 3>&-
}

@test "a process-group leader still gets a helper with a session of its own, or none" {
	"$STAGE/bin/hostile" session 3>&-
}
