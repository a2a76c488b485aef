#!/usr/bin/env bats
# Random use by four threads never changes, loses or mixes up what is held.
# SECMALLOC_CHURN_OPS: fewer operations than the usual ten million, for builds
# whose every access is watched.

load helpers

setup() {
	OPS=${SECMALLOC_CHURN_OPS:-10000000}
}

@test "objects hold what was put into them, whatever four threads do, in memory locked by the helper" {
	requires helper-a
	SECMALLOC_TEST_HELPER=$HELPER_A as_nobody "$STAGE/bin/churn" helper "$OPS"
}

@test "objects hold what was put into them, whatever four threads do, in memory locked by the process" {
	requires root
	"$STAGE/bin/churn" inprocess "$((OPS / 10))" 2
}

@test "objects hold what was put into them, with one thread, which finds what it freed wiped, and with many" {
	requires helper-a
	SECMALLOC_TEST_HELPER=$HELPER_A as_nobody "$STAGE/bin/churn" helper "$((OPS / 20))" 3 1
	SECMALLOC_TEST_HELPER=$HELPER_A as_nobody "$STAGE/bin/churn" helper "$((OPS / 20))" 4 16
}
