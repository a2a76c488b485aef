#!/usr/bin/env bats
# What `secmalloc status` says of one's own quota.

load helpers

setup_file() {
	install -m 755 "$abs_top_builddir/secmalloc" "$STAGE/bin/secmalloc"
}

setup() {
	hold_setup "$STAGE/bin" "$BATS_TEST_TMPDIR"
	NOWHERE=$STAGE/nowhere
}

teardown() {
	local name
	for name in "${!HOLD_PID[@]}"; do
		hold_kill "$name"
	done
	[ "$(id -u)" != 0 ] || rm -rf "$POLICY"
}

# status_of HELPER [ARG...]: as nobody.
status_of() {
	as_nobody "$STAGE/bin/secmalloc" status --socket "$NOWHERE" --helper "$@"
}

# policy LINE...: of the tests' helper.
policy() {
	printf '%s\n' "$@" >"$POLICY"
	chmod 644 "$POLICY"
}

# used_by HELPER: bytes of nobody's.
used_by() {
	status_of "$1" | sed -n 's/^used *\([0-9]*\) bytes.*/\1/p'
}

@test "it tells limit, use and what is left, in all of the user's processes" {
	requires root helper-a
	policy 'limit * 3M' 'helpers * 5'
	run -0 status_of "$HELPER_A"
	same "$output" "user     $NOBODY_UID ($(id -nu "$NOBODY_UID"))
by       $HELPER_A
limit    3145728 bytes (3 MiB)
used     0 bytes (0 bytes)
left     3145728 bytes (3 MiB)
helpers  5 allowed"
	for name in one two; do
		SECMALLOC_TEST_HELPER=$HELPER_A hold_start "$name" secret "${AS_NOBODY[@]}" \
			"$STAGE/bin/hold" secmalloc 4096 "$name"
	done
	# And what root holds is root's.
	SECMALLOC_TEST_HELPER=$HELPER_A hold_start root secret "$STAGE/bin/hold" \
		secmalloc 4096 root
	run -0 status_of "$HELPER_A"
	same "$(grep -A1 '^used' <<<"$output")" "used     524288 bytes (512 KiB)
left     2621440 bytes (2.5 MiB)"
	hold_end one
	expect_usage "$NOBODY_UID" 1 262144
	same "$(used_by "$HELPER_A")" 262144 used
}

@test "it takes nothing of the quota, and is served when that is spent" {
	requires root helper-a
	policy 'limit * 256K' 'helpers * 2'
	SECMALLOC_TEST_HELPER=$HELPER_A hold_start all secret "${AS_NOBODY[@]}" \
		"$STAGE/bin/hold" secmalloc 4096 all
	for _ in 1 2 3; do
		same "$(used_by "$HELPER_A")" 262144 used
	done
	run -0 status_of "$HELPER_A"
	[[ $output == *"left     0 bytes"* ]]
	expect_usage "$NOBODY_UID" 1 262144
}

@test "root is told how many helpers run" {
	requires root helper-a
	policy 'helpers 0 7'
	SECMALLOC_TEST_HELPER=$HELPER_A hold_start root secret "$STAGE/bin/hold" \
		secmalloc 4096 root
	run -0 "$STAGE/bin/secmalloc" status --socket "$NOWHERE" --helper "$HELPER_A" 3>&-
	[[ $output == *"helpers  7 allowed, 1 running" ]]
}

@test "where no ledger is kept, it says so" {
	requires root helper-c
	run -0 status_of "$HELPER_C"
	[[ $output == *"for      each process by itself" ]]
	run -0 status_of "$HELPER_C" --json
	[[ $output == *'"per_process": true,'* ]]
}

@test "--json is JSON, and says the same" {
	requires root helper-a command:python3
	policy 'limit * 1M' 'helpers * 9'
	SECMALLOC_TEST_HELPER=$HELPER_A hold_start one secret "${AS_NOBODY[@]}" \
		"$STAGE/bin/hold" secmalloc 4096 one
	run -0 status_of "$HELPER_A" --json
	same "$(python3 -c 'import json, sys; print(sorted(json.load(sys.stdin).items()))' <<<"$output")" \
		"[('by', '$HELPER_A'), ('helpers_allowed', 9), ('helpers_running', None), ('left', 786432), ('limit', 1048576), ('per_process', False), ('uid', $NOBODY_UID), ('used', 262144)]"
}

@test "where nobody serves, it says why, and who can say more" {
	requires helper-none
	run -2 status_of "$NOWHERE"
	[ "$output" = "secmalloc: $NOWHERE: No such file or directory; try 'secmalloc doctor'" ]
	run -2 status_of "$HELPER_NONE"
	[ "$output" = "secmalloc: $HELPER_NONE: the helper refuses; try 'secmalloc doctor'" ]
}
