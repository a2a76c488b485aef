#!/usr/bin/env bats
# The files for the system, as systemd reads them: units, and the directory of
# the ledger. That the units serve is shown elsewhere.

load helpers

setup_file() {
	unset MAKEFLAGS MFLAGS MAKELEVEL
	export DEST=$BATS_FILE_TMPDIR/dest
	make -C "$abs_top_builddir" install-data DESTDIR="$DEST" >/dev/null
}

# installed NAME: the one file of it.
installed() {
	find "$DEST" -path "*/$1" | grep .
}

# units_copy: into the test's directory, with a helper that is there.
units_copy() {
	cp "$(installed system/secmalloc.socket)" "$(installed system/secmalloc@.service)" \
		"$BATS_TEST_TMPDIR"
	SERVICE=$BATS_TEST_TMPDIR/secmalloc@.service
	sed -i "s|^ExecStart=.*|ExecStart=$HELPER_NONE|" "$SERVICE"
}

# units_verify: it says what it does not understand, and whether it could go on.
units_verify() {
	systemd-analyze verify --man=no "$BATS_TEST_TMPDIR/secmalloc.socket" "$SERVICE" 2>&1
}

@test "systemd understands every line of the units, and their program is there" {
	requires command:systemd-analyze helper-none
	units_copy
	run -0 units_verify
	[ -z "$output" ]
}

@test "control: a line that systemd does not know, and a program that is missing, are seen" {
	requires command:systemd-analyze helper-none
	units_copy
	sed -i 's/^MemoryDenyWriteExecute=/MemoryDenyWriteExecutes=/' "$SERVICE"
	run units_verify
	[[ "$output" == *"Unknown key"*"MemoryDenyWriteExecutes"* ]]
	units_copy
	sed -i 's|^ExecStart=.*|ExecStart=/nonexistent/secmalloc-helper|' "$SERVICE"
	run -1 units_verify
}

# exposure FILE: by systemd's own count, from 0 to 10.
exposure() {
	systemd-analyze security --offline=yes --no-pager "$1" |
		sed -n 's/.*Overall exposure level for [^:]*: \([0-9.]*\) .*/\1/p'
}

@test "systemd rates the exposure of a helper at 2.0 at most" {
	requires command:systemd-analyze
	units_copy
	rated=$(exposure "$SERVICE")
	[[ "$rated" =~ ^[0-9]+\.[0-9]+$ ]]
	awk -v rated="$rated" 'BEGIN { exit !(rated <= 2.0) }'
	# The control: without a system call filter it is more.
	sed -i '/^SystemCall/d' "$SERVICE"
	without=$(exposure "$SERVICE")
	awk -v rated="$without" 'BEGIN { exit !(rated > 2.0) }'
}

@test "a unit's helper keeps the right to lock, and no other" {
	service=$(installed system/secmalloc@.service)
	[ "$(grep -c '^AmbientCapabilities=' "$service")" = 1 ]
	grep -qx 'AmbientCapabilities=CAP_IPC_LOCK' "$service"
	grep -qx 'CapabilityBoundingSet=CAP_IPC_LOCK' "$service"
	grep -qx 'NoNewPrivileges=yes' "$service"
	# In a user namespace it would be worth nothing.
	run ! grep -q '^PrivateUsers=' "$service"
	# Requirements on what is stopped at shutdown, and so the helpers with it.
	run ! grep -qE '^(PrivateTmp|RequiresMountsFor|Requires|BindsTo|PartOf)=' "$service"
}

# calls_of WORD...: system calls that a SystemCallFilter= of these stands for.
calls_of() {
	local word
	for word; do
		if [[ "$word" == @* ]]; then
			# shellcheck disable=SC2046
			calls_of $(systemd-analyze syscall-filter "$word" | sed -n 's/^ *\([@a-z]\)/\1/p' |
				grep -vxF "$word")
		else
			echo "$word"
		fi
	done
}

@test "a unit's filter lets every call of a helper's life through, from its start" {
	requires root command:systemd-analyze command:strace helper-none
	filters=$(sed -n 's/^SystemCallFilter=//p' "$(installed system/secmalloc@.service)")
	# shellcheck disable=SC2046
	calls_of $(grep -v '^~' <<<"$filters") | sort -u >"$BATS_TEST_TMPDIR/listed"
	# shellcheck disable=SC2046
	calls_of $(sed -n 's/^~//p' <<<"$filters") | sort -u >"$BATS_TEST_TMPDIR/taken"
	comm -23 "$BATS_TEST_TMPDIR/listed" "$BATS_TEST_TMPDIR/taken" >"$BATS_TEST_TMPDIR/allowed"
	# The controls: what is taken away was in there, and is no longer.
	grep -qx add_key "$BATS_TEST_TMPDIR/listed"
	run ! grep -qx add_key "$BATS_TEST_TMPDIR/allowed"

	printf '#!/bin/sh\nexec strace -o %s %s\n' "$BATS_TEST_TMPDIR/trace" "$HELPER_NONE" \
		>"$BATS_TEST_TMPDIR/helper"
	chmod +x "$BATS_TEST_TMPDIR/helper"
	run -0 "$STAGE/bin/wire" "$BATS_TEST_TMPDIR/helper" hello grant=65536 populate lock=1 \
		status release=1 hangup gone
	[[ "$output" == *"lock OK"* ]]
	sed -n 's/^\([a-z0-9_]*\)(.*/\1/p' "$BATS_TEST_TMPDIR/trace" | sort -u \
		>"$BATS_TEST_TMPDIR/used"
	grep -qx mlock "$BATS_TEST_TMPDIR/used"
	run comm -23 "$BATS_TEST_TMPDIR/used" "$BATS_TEST_TMPDIR/allowed"
	echo "not let through: $output"
	[ -z "$output" ]
}

@test "the socket cannot be taken away from all users by one" {
	socket=$(installed system/secmalloc.socket)
	grep -qx 'TriggerLimitIntervalSec=0' "$socket"
	one=$(sed -n 's/^MaxConnectionsPerSource=//p' "$socket")
	all=$(sed -n 's/^MaxConnections=//p' "$socket")
	[ "$one" -ge 256 ]
	[ "$all" -ge $((4 * one)) ]
}

@test "the units, the ledger's directory and the helper name the same paths" {
	requires helper-none
	helper=$(find "$abs_top_builddir" -maxdepth 1 -name secmalloc-helper -type f)
	said=$("$helper" --version)
	ledger=$(sed -n 's/^ledger: *//p' <<<"$said")
	[[ "$ledger" == /*/secmalloc ]]
	grep -qx "ReadWritePaths=-$ledger" "$(installed system/secmalloc@.service)"
	grep -qx "ListenSequentialPacket=$ledger.socket" "$(installed system/secmalloc.socket)"
	grep -q "^d $ledger 0700 " "$(installed tmpfiles.d/secmalloc.conf)"
	policy=$(sed -n 's/^policy: *//p' <<<"$said")
	[ -f "$DEST$policy" ]
	account=$(sed -n 's/^account: *//p' <<<"$said")
	grep -qx "User=$account" "$(installed system/secmalloc@.service)"
	# A bare uid has no group that could be looked up.
	if [[ "$account" =~ ^[0-9]+$ ]]; then
		grep -qx "Group=$account" "$(installed system/secmalloc@.service)"
	else
		run ! grep -q '^Group=' "$(installed system/secmalloc@.service)"
	fi
}

@test "the ledger's directory is made for the helper alone, and never cleaned by age" {
	requires root command:systemd-tmpfiles
	conf=$BATS_TEST_TMPDIR/secmalloc.conf dir=$STAGE/tmpfiles
	sed -E "s|^d [^ ]+ 0700 [^ ]+ |d $dir 0700 $HELPER_UID |" \
		"$(installed tmpfiles.d/secmalloc.conf)" >"$conf"
	systemd-tmpfiles --create "$conf"
	[ "$(stat -c '%u %a %F' "$dir")" = "$HELPER_UID 700 directory" ]
	touch "$dir/ledger"
	systemd-tmpfiles --clean "$conf"
	[ -e "$dir/ledger" ]
	# The control: with an age, here of nothing, it goes.
	sed 's/ -$/ 0/' "$conf" >"$conf.aged"
	systemd-tmpfiles --clean "$conf.aged"
	[ ! -e "$dir/ledger" ]
}
