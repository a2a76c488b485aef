#!/usr/bin/env bats
# What is freed, moved or cut is gone before anybody can get its memory again.

load helpers

@test "memory locked by the helper is wiped when it is given up" {
	requires helper-a
	SECMALLOC_TEST_HELPER=$HELPER_A as_nobody "$STAGE/bin/wipe" helper
}

@test "memory locked by the process itself is wiped when it is given up" {
	requires root
	"$STAGE/bin/wipe" inprocess
}
