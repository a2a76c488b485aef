#!/usr/bin/env bats
# What is locked stays so whatever its host does to itself, and ends with it.

load helpers

@test "daemons, users, namespaces, roots and execs keep the locks that a helper holds, or end them" {
	requires root helper-a
	SECMALLOC_TEST_HELPER=$HELPER_A "$STAGE/bin/hosts" helper 3>&-
}

@test "daemons, users, namespaces, roots and execs keep the locks of a process, or end them" {
	requires root
	"$STAGE/bin/hosts" inprocess 3>&-
}
