#!/usr/bin/env bats
# Whatever one thread calls, all comes as a model says, to the byte.
# SECMALLOC_MODEL_SECONDS: how long each test draws new lists of calls.

load helpers

setup() {
	SECONDS_EACH=${SECMALLOC_MODEL_SECONDS:-3}
}

@test "lists of calls that never change do what the model says, in memory locked by the helper" {
	requires helper-a
	SECMALLOC_TEST_HELPER=$HELPER_A as_nobody "$STAGE/bin/model" helper "$SECONDS_EACH" 1
}

@test "lists of calls never made before do what the model says, in memory locked by the process" {
	requires root
	"$STAGE/bin/model" inprocess "$SECONDS_EACH"
}

@test "a model that is wrong about one call in many is found out, and why" {
	requires root
	"$STAGE/bin/model" inprocess planted
}
