#!/usr/bin/env bats
# shellcheck shell=bash
# What is allocated here is in no core file, though the kernel is asked to dump
# every mapping that there is. Memory of the same two shapes that nobody excluded
# is found in such files.

load helpers

MIB=$((1024 * 1024))
PATTERN=/proc/sys/kernel/core_pattern

setup() {
	requires core
	hold_setup "$STAGE/bin" "$BATS_TEST_TMPDIR"
	SECRET=$(od -An -tx8 -N16 /dev/urandom | tr -d ' \n')
	CORES=$(mktemp -d "$STAGE/cores.XXXXXX")
	chmod 1777 "$CORES"
	# Two runs of this file on one machine take turns.
	exec {TURN}<"$PATTERN"
	flock "$TURN"
	PATTERN_WAS=$(<"$PATTERN")
	echo "$CORES/core" >"$PATTERN"
}

teardown() {
	squeeze_cleanup
	if [ -n "${PATTERN_WAS:-}" ]; then
		echo "$PATTERN_WAS" >"$PATTERN"
		exec {TURN}<&-
	fi
	[ -z "${CORES:-}" ] || rm -rf "$CORES"
}

# crash LABEL CMD...: CMD holds the secret and is killed by a signal that makes
# it dump everything; sets CORE.
crash() {
	local label=$1
	shift
	# shellcheck disable=SC2016
	hold_start it "$SECRET" prlimit --core=unlimited -- \
		sh -c 'echo 0x1ff >/proc/self/coredump_filter; exec "$@"' sh "$@" $((4 * MIB)) "$label"
	hold_kill it SEGV
	CORE=$(find "$CORES" -type f -size +0)
	[ -f "$CORE" ]
	# The arguments are on the stack, so a core file without them is not whole.
	[ "$(count_in "$CORE" "$label")" -gt 0 ]
}

crash_finds() {
	local found
	crash "$@"
	found=$(count_in "$CORE" "$1$SECRET")
	echo "found $found times"
	[ "$found" -gt 50000 ]
}

crash_finds_nothing() {
	local found
	crash "$@"
	found=$(count_in "$CORE" "$SECRET")
	echo "found $found times"
	[ "$found" = 0 ]
}

@test "a core file has what malloc holds" {
	crash_finds plain: "${AS_NOBODY[@]}" "$HOLD_BIN/hold" malloc
}

@test "a core file has what a shared memfd holds" {
	crash_finds shared: "${AS_NOBODY[@]}" "$HOLD_BIN/hold" memfd
}

@test "a core file has nothing of what a helper locked" {
	requires helper-a
	crash_finds_nothing locked: env SECMALLOC_TEST_HELPER="$HELPER_A" \
		"${AS_NOBODY[@]}" "$HOLD_BIN/hold" secmalloc
}

@test "a core file has nothing of what the process locked itself" {
	crash_finds_nothing locked: "$HOLD_BIN/hold" inprocess
}

@test "a core file has nothing of secret memory" {
	requires secretmem
	crash_finds_nothing secret: "$HOLD_BIN/hold" secret
}
