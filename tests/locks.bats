#!/usr/bin/env bats
# Locks hold whatever becomes of those who hold them, or it is said that they do not.

load helpers

@test "what is locked stays so, or is said not to be, when helpers die and descriptors go" {
	requires root helper-a
	SECMALLOC_TEST_HELPER=$HELPER_A "$STAGE/bin/locks" 3>&-
}
