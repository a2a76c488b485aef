#!/usr/bin/env bats
# Behind a protection key there is no access but in a window.

load helpers

emulated() {
	SECMALLOC_TEST_HELPER=$HELPER_A "$STAGE/bin/window-emulated" "$1" 3>&-
}

# real WHO N: by the keys of the processor, or else of one that is emulated with its
# machine, where all three run one after another when the first is asked for.
real() {
	local dir=$BATS_FILE_TMPDIR/machine window=$STAGE/bin/window
	if "$window" trial; then
		case $1 in
		helper) requires helper-a ;;
		secret) requires secretmem ;;
		esac
		SECMALLOC_TEST_HELPER=$HELPER_A "$window" "$1" 3>&-
		return
	fi
	requires machine
	if [ ! -d "$dir" ]; then
		machine_take "$dir" "$window" "$HELPER_B" "$CHECK_DIR"
		machine_run "$dir" "SECMALLOC_TEST_HELPER=$HELPER_B $window helper" \
			"$window inprocess" "$window secret" || echo "the machine ended with $?"
	fi
	machine_status "$dir" "$2"
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
	real helper 1
}

@test "a stray access faults where root locks by itself" {
	real inprocess 2
}

@test "a stray access faults in secret memory" {
	real secret 3
}

@test "where no protection key is to be had, nothing starts that was to have one" {
	"$STAGE/bin/window" none
}
