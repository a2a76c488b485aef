#!/usr/bin/env bats
# Behind a protection key there is no access but in a window.

load helpers

emulated() {
	SECMALLOC_TEST_HELPER=$HELPER_A "$STAGE/bin/window-emulated" "$1" 3>&-
}

real() {
	SECMALLOC_TEST_HELPER=$HELPER_A "$STAGE/bin/window" "$1" 3>&-
}

setup() {
	requires root
	[ -x "$STAGE/bin/window" ] || skip "needs a C library that has protection keys"
}

@test "with keys that are emulated the library needs no window of its caller's, for nobody" {
	requires helper-a
	emulated helper
}

@test "with keys that are emulated the library needs no window of its caller's, for root" {
	emulated inprocess
}

@test "with keys that are emulated the library needs no window of its caller's, in secret memory" {
	requires secretmem
	emulated secret
}

@test "a stray access faults, for nobody, through a helper" {
	requires helper-a pkeys
	real helper
}

@test "a stray access faults where root locks by itself" {
	requires pkeys
	real inprocess
}

@test "a stray access faults in secret memory" {
	requires pkeys secretmem
	real secret
}

@test "where there are no protection keys, nothing starts that was to have them" {
	requires no-pkeys
	"$STAGE/bin/window" none
}
