#!/usr/bin/env bats
# shellcheck shell=bash
# What is allocated here never reaches swap. Each test squeezes a cgroup in which
# ordinary memory is held as well, and is void unless that memory is found in the
# raw swap file.

load helpers

MIB=$((1024 * 1024))

setup() {
	requires root swap memcg
	hold_setup "$STAGE/bin" "$BATS_TEST_TMPDIR"
	PLACE=$(mktemp -d "$STAGE/swap.XXXXXX")
	SECRET=$(od -An -tx8 -N16 /dev/urandom | tr -d ' \n')
	swap_make "$PLACE" 128
	memcg_make
}

teardown() {
	squeeze_cleanup
	[ -z "${PLACE:-}" ] || rm -rf "$PLACE"
}

# Three kinds of memory in one cgroup, 16 MiB of each; CMD holds the locked one.
hold_three() {
	hold_start locked "$SECRET" "$@" $((16 * MIB)) locked:
	hold_start plain "$SECRET" "${AS_NOBODY[@]}" "$HOLD_BIN/hold" malloc $((16 * MIB)) plain:
	hold_start shared "$SECRET" "${AS_NOBODY[@]}" "$HOLD_BIN/hold" memfd $((16 * MIB)) shared:
}

# only_controls_swapped [FLAG...]: of the three only the two controls are in the swap
# file, and no copy of the secret is there that is not one of theirs. Every page
# of the locked one has the flags, mlocked and unevictable if none is named.
only_controls_swapped() {
	local locked plain shared all flag
	[ $# != 0 ] || set -- mlocked unevictable

	squeeze $((2 * MIB)) plain shared

	hold_pages locked
	declare -p PAGES
	[ "${PAGES[pages]}" -ge $((16 * MIB / $(getconf PAGESIZE))) ]
	[ "${PAGES[present]}" = "${PAGES[pages]}" ]
	for flag in "$@"; do
		[ "${PAGES[$flag]}" = "${PAGES[pages]}" ]
	done
	[ "${PAGES[swapped]}" = 0 ]

	locked=$(swap_count "locked:$SECRET")
	plain=$(swap_count "plain:$SECRET")
	shared=$(swap_count "shared:$SECRET")
	all=$(swap_count "$SECRET")
	echo "in the swap file: locked $locked, plain $plain, shared $shared, all $all"
	[ "$plain" -gt 100000 ]
	[ "$shared" -gt 100000 ]
	[ "$locked" = 0 ]
	# A copy whose label is in the page before is counted with the rest.
	[ $((all - plain - shared)) -lt $((plain / 100)) ]

	hold_end locked
	hold_end plain
	hold_end shared
}

# helper_keeps_out_of_swap HELPER: for uid nobody with RLIMIT_MEMLOCK 0.
helper_keeps_out_of_swap() {
	hold_three env SECMALLOC_TEST_HELPER="$1" "${AS_NOBODY[@]}" "$HOLD_BIN/hold" secmalloc
	only_controls_swapped
}

@test "locked by a setuid helper, uid nobody's secret never reaches swap" {
	requires helper-a
	helper_keeps_out_of_swap "$HELPER_A"
}

@test "locked by a setuid-root helper, uid nobody's secret never reaches swap" {
	requires helper-b
	helper_keeps_out_of_swap "$HELPER_B"
}

@test "locked by a helper with a file capability, uid nobody's secret never reaches swap" {
	requires helper-c
	helper_keeps_out_of_swap "$HELPER_C"
}

# The control: between the two helpers, the kernel may take all of it.
@test "locked again by another helper when one is killed, a secret never reaches swap" {
	requires helper-a
	hold_three env SECMALLOC_TEST_HELPER="$HELPER_A" "${AS_NOBODY[@]}" "$HOLD_BIN/hold" secmalloc
	first=$(memcg_helpers)
	[[ $first =~ ^[0-9]+$ ]]
	kill -KILL "$first"
	gone "$first"
	hold_pages locked
	same "${PAGES[mlocked]} ${PAGES[unevictable]}" "0 0" "between two helpers"
	hold_ask locked
	second=$(memcg_helpers)
	[[ $second =~ ^[0-9]+$ ]]
	[ "$second" != "$first" ]
	only_controls_swapped
}

@test "had as secret memory before the process gave up root, a secret never reaches swap" {
	requires secretmem
	hold_three "$HOLD_BIN/hold" secret
	# Not all kernels call it locked.
	only_controls_swapped unevictable
}

@test "locked by the process itself before it gave up root, a secret never reaches swap" {
	hold_three "$HOLD_BIN/hold" inprocess
	only_controls_swapped
}
