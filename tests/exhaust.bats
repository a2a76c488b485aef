#!/usr/bin/env bats
# Where there is no more, a call says why, and nothing is lost.

load helpers

teardown() {
	[ "$(id -u)" != 0 ] || rm -f "$POLICY"
}

@test "all that may be locked by the helper can be used, again and again, in any size" {
	requires helper-a
	SECMALLOC_TEST_HELPER=$HELPER_A as_nobody "$STAGE/bin/exhaust" helper
}

@test "all that the policy leaves can be used, again and again, in any size" {
	requires helper-a
	echo "limit * 4M" >"$POLICY"
	chmod 644 "$POLICY"
	SECMALLOC_TEST_HELPER=$HELPER_A as_nobody "$STAGE/bin/exhaust" quota
}

@test "all that the process itself may lock can be used, again and again, in any size" {
	requires root
	"$STAGE/bin/exhaust" inprocess
}
