#!/usr/bin/env bats
# What libFuzzer makes up for a client to do, and for an administrator to write,
# in seconds; see `make fuzz`, and tests/fuzz for what is held against it.

load helpers

setup() {
	requires libfuzzer
	unset MAKEFLAGS MFLAGS MAKELEVEL
	DIR=$BATS_TEST_TMPDIR/fuzz
	SEEDS=$abs_top_srcdir/tests/fuzz
}

# fuzz SECONDS VARIABLE=VALUE...
fuzz() {
	local seconds=$1
	shift
	make -C "$abs_top_builddir" fuzz FUZZ_SECONDS="$seconds" FUZZ_DIR="$DIR" "$@"
}

# finds NAME WHAT: with a fault planted in fuzzer NAME, it says WHAT of it.
finds() {
	local found
	run fuzz 120 FUZZERS="$1" FUZZ_CPPFLAGS=-DPLANTED
	echo "$output"
	[ "$status" = 2 ]
	[[ $output == *"make fuzz: $1: a finding"* && $output == *"$2"* ]]
	# Not given it by a seed.
	"$DIR/$1" -runs=0 "$SEEDS/$1"
	found=("$DIR/$1"-crash-*)
	run ! "$DIR/$1" "${found[0]}"
	[[ $output == *"$2"* ]]
}

@test "neither fuzzer finds anything in seconds, nor leaves anything in the tree" {
	local before
	before=$(find "$SEEDS" -type f -exec cksum {} + | sort)
	run fuzz 5
	echo "$output"
	[ "$status" = 0 ]
	# Each has started from its seeds, and come further.
	[ "$(grep -c DONE <<<"$output")" = 2 ]
	while read -r _ units; do
		[ "$units" -gt 500 ]
	done < <(grep number_of_executed_units <<<"$output")
	[ "$(find "$DIR" -path '*.inputs/*' | wc -l)" -gt 10 ]
	[ "$before" = "$(find "$SEEDS" -type f -exec cksum {} + | sort)" ]
}

@test "a pool that is not locked though the client was told so is found" {
	finds requests "kernel_locked() == locker.locked"
}

@test "a name that overflows a buffer is found" {
	finds policy "stack-buffer-overflow"
}

@test "without a compiler that has libFuzzer it says so, and what to install" {
	run -2 fuzz 5 FUZZ_CC=false
	[[ $output == *"no false that has libFuzzer: install clang"* ]]
}
