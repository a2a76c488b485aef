#!/usr/bin/env bats
# Memory that nobody else can read, where the kernel has it.

load helpers

@test "secret memory is out of reach also for root, is copied in forks, and keeps to its limits" {
	requires root helper-a secretmem
	SECMALLOC_TEST_HELPER=$HELPER_A "$STAGE/bin/secret" 3>&-
}
