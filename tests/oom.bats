#!/usr/bin/env bats
# Where memory ends the kernel kills: a helper is replaced then, and a helper whose
# client was killed ends. In a memory cgroup of its own, so that nobody else pays.

load helpers

MIB=$((1024 * 1024))

# A client in a cgroup that has room for it and little more, none of it swap.
setup() {
	requires root memcg helper-a
	hold_setup "$STAGE/bin" "$BATS_TEST_TMPDIR"
	memcg_make
	if [ "$MEMCG_VERSION" = 1 ]; then
		echo 0 >"$MEMCG/memory.swappiness"
	elif [ -e "$MEMCG/memory.swap.max" ]; then
		echo 0 >"$MEMCG/memory.swap.max"
	fi
	SECRET=$(od -An -tx8 -N16 /dev/urandom | tr -d ' \n')
	hold_start client "$SECRET" env SECMALLOC_TEST_HELPER="$HELPER_A" \
		"${AS_NOBODY[@]}" "$HOLD_BIN/hold" secmalloc $((16 * MIB)) client:
	HELPER=$(memcg_helpers)
	[[ $HELPER =~ ^[0-9]+$ ]]
	expect_usage "$NOBODY_UID" 1 '1???????'
	memcg_limit $((32 * MIB))
}

teardown() {
	squeeze_cleanup
}

memcg_limit() {
	if [ "$MEMCG_VERSION" = 1 ]; then
		echo "$1" >"$MEMCG/memory.limit_in_bytes"
	else
		echo "$1" >"$MEMCG/memory.max"
	fi
}

# How many processes the kernel has killed here for want of memory.
oom_kills() {
	awk '$1 == "oom_kill" { print $2 }' "$MEMCG"/memory.oom_control \
		"$MEMCG"/memory.events 2>/dev/null
}

# fill: with ordinary memory, until the kernel kills the one who does it. Of
# PID..., which it is to kill before, none may be left.
fill() {
	local pid status=0
	for pid in "$@"; do
		echo 1000 >"/proc/$pid/oom_score_adj"
	done
	(
		echo "$BASHPID" >"$MEMCG/cgroup.procs"
		echo 500 >"/proc/$BASHPID/oom_score_adj"
		exec "${AS_NOBODY[@]}" "$HOLD_BIN/hold" malloc $((64 * MIB)) filler:
	) <<<"$SECRET" >/dev/null 3>&- || status=$?
	same "$status" 137 "the status of the filler"
	same "$(oom_kills)" $(($# + 1)) "killed for want of memory"
	dmesg 2>/dev/null | grep 'Memory cgroup out of memory' | tail -n $(($# + 1)) || true
}

expect_locked() {
	hold_pages client
	[ "${PAGES[pages]}" -ge $((16 * MIB / $(getconf PAGESIZE))) ]
	same "${PAGES[mlocked]} ${PAGES[unevictable]}" "${PAGES[pages]} ${PAGES[pages]}" locked
}

@test "a helper that the kernel kills for want of memory is replaced, and nothing is lost" {
	expect_locked
	fill "$HELPER"
	gone "$HELPER"
	# The control: what is now found to be locked was not.
	hold_pages client
	same "${PAGES[mlocked]}" 0 "between two helpers"
	same "${PAGES[present]}" "${PAGES[pages]}" "between two helpers"
	hold_ask client
	expect_locked
	second=$(memcg_helpers)
	[[ $second =~ ^[0-9]+$ ]]
	[ "$second" != "$HELPER" ]
	expect_usage "$NOBODY_UID" 1 '1???????'
	hold_end client
	gone "$second"
	expect_usage "$NOBODY_UID" 0 0
}

@test "the helper of a client that the kernel kills for want of memory ends, and gives all back" {
	expect_locked
	fill "${HOLD_PID[client]}"
	gone "${HOLD_PID[client]}"
	gone "$HELPER"
	expect_usage "$NOBODY_UID" 0 0
	same "$(memcg_helpers)" "" helpers
	same "$(cat "$MEMCG/cgroup.procs")" "" processes
	status=0
	hold_end client || status=$?
	same "$status" 137 "the status of the client"
}
