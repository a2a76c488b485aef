#!/usr/bin/env bats
# Threads, children and dying helpers, all at once. For longer than this: make soak.

load helpers

setup() {
	requires root helper-a
	export SECMALLOC_TEST_HELPER=$HELPER_A
}

@test "three seconds of everything at once leave all as it should be, and nothing behind" {
	"$STAGE/bin/soak" 3 3>&-
}

@test "control: a byte that changes, a descriptor and a process that stay are found" {
	local planted
	for planted in byte descriptor process; do
		run -1 "$STAGE/bin/soak" 1 "$planted" 3>&-
		[[ "$output" == *" 1 failures"* ]]
	done
}
