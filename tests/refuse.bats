#!/usr/bin/env bats
# Whatever is in the way of locking: locked, or an errno that says why.

load helpers

setup() {
	requires root
	export SECMALLOC_TEST_HELPER_NONE=$HELPER_NONE
	export SECMALLOC_TEST_NONSENSE=$STAGE/nonsense
	printf '#!/bin/sh\necho nonsense >&0\n' >"$SECMALLOC_TEST_NONSENSE"
	chmod 755 "$SECMALLOC_TEST_NONSENSE"
}

# refuse HELPER ARG...: with a copy of HELPER, since it is taken away at times.
refuse() {
	local helper
	helper=$(mktemp -d "$STAGE/refuse.XXXXXX")/secmalloc-helper
	chmod 755 "${helper%/*}"
	cp -a "$1" "$helper"
	shift
	SECMALLOC_TEST_HELPER=$helper "$STAGE/bin/refuse" "$@" 3>&-
}

@test "an obstacle is an errno, with a helper owned by its user" {
	requires helper-a
	refuse "$HELPER_A"
}

@test "an obstacle is an errno, with a setuid-root helper" {
	requires helper-b
	refuse "$HELPER_B"
}

@test "an obstacle is an errno, with a helper with a capability" {
	requires helper-c
	refuse "$HELPER_C"
}

# They are the process's own, whatever the layout of its helper.
@test "the limit of mappings is an errno, with a helper and without" {
	requires helper-a
	refuse "$HELPER_A" mappings
}

@test "in a user namespace nothing locks, in any layout" {
	requires userns helper-a helper-b helper-c
	local helper
	for helper in "$HELPER_A" "$HELPER_B" "$HELPER_C"; do
		refuse "$helper" userns
	done
}
