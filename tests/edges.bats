#!/usr/bin/env bats
# At the edges of what there is, nothing but an errno comes of it.

load helpers

@test "where the last mapping, the last byte or the lock is gone, calls fail and no more" {
	requires root
	"$STAGE/bin/edges" inprocess 3>&-
}

@test "a child keeps its objects, whoever calls first in it" {
	requires root helper-a
	SECMALLOC_TEST_HELPER=$HELPER_A "$STAGE/bin/edges" helper 3>&-
}
