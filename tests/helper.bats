#!/usr/bin/env bats
# The helper by itself: who it becomes, what it answers, how long it stays.

# shellcheck disable=SC2030,SC2031 # each test is a subshell, as it should be
load helpers
load state
load talk

# By the shell's own kill: a small system has no other.
nobody_kills() {
	# shellcheck disable=SC2016
	as_nobody bash -c 'kill "$@"' bash "$@"
}

KIB256=262144
MIB64=67108864

teardown() {
	[ -z "${KEEPER:-}" ] || kill "$KEEPER" 2>/dev/null || true
	hang_up
}

# talk_to HELPER: the same as nobody.
talk_to() {
	talk as_nobody "$STAGE/bin/wire" "$@"
}

# Grants a pool and fills it. Sets ADDRESS.
expect_granted() {
	expect "grant=$1" "grant OK id=* at=*"
	ADDRESS=${REPLY##*at=}
	expect populate
}

expect_locked() {
	expect hello "hello OK id=0 a=1 b=$MIB64 c=$MIB64"
	expect_granted "$1"
	expect lock=1 "lock OK id=0 a=$1 b=0 c=0"
}

# expect_pages PID BYTES all|few|none: how many of the last pool's are locked, as
# that process maps it. The kernel takes its time to unlock the last few.
expect_pages() {
	local pages=$(($2 / $(getconf PAGESIZE))) locked
	[ "$pages" -gt 0 ]
	locked=$("$STAGE/bin/start" --pages "$1" "$ADDRESS" "$2")
	echo "locked: $locked"
	case $3 in
	all) [ "$locked" = "$pages of $pages" ] ;;
	few) [ "${locked%% *}" -lt $((pages / 2)) ] ;;
	none) [ "$locked" = "0 of $pages" ] ;;
	esac
}

# expect_gone PID: a process that is not our child ends within a second.
expect_gone() {
	for _ in {1..100}; do
		[ -d "/proc/$1" ] && ! grep -q '^State:.Z' "/proc/$1/status" || return 0
		sleep 0.01
	done
	echo "process $1 is still there"
	return 1
}

# expect_end: the client lets go of everything, and the helper ends.
expect_end() {
	expect unmap
	expect hangup hangup
	expect gone "gone 0 promptly"
	hang_up
}

serves() {
	talk_to "$1"
	expect hello "hello OK id=0 a=1 b=$MIB64 c=$MIB64"
	expect_granted $KIB256
	expect_pages "$CLIENT" $KIB256 none
	expect lock=1 "lock OK id=0 a=$KIB256 b=0 c=0"
	expect_pages "$CLIENT" $KIB256 all
	expect status "status OK id=0 a=$KIB256 b=1 c=$((MIB64 - KIB256))"
	expect release=1 "release OK id=0 a=0 b=0 c=0"
	expect_pages "$CLIENT" $KIB256 few
	expect_end
}

# expect_descriptors [WORD...]: what the helper has open, by number, but for the
# log, and for the ledger, which is open twice where it is kept.
expect_descriptors() {
	local fd name found=() ledgers=0 kept=2
	for fd in "/proc/$HELPER/fd"/*; do
		name=$(readlink "$fd")
		name=${name%:\[*}
		case ${fd##*/},$name in
		1,socket) ;;
		[23],"$LEDGER/ledger") ledgers=$((ledgers + 1)) ;;
		*) found+=("${name% (deleted)}") ;;
		esac
	done
	same "${found[*]}" "$*" descriptors
	[ "$(readlink "/proc/$HELPER/exe")" != "$HELPER_C" ] || kept=0
	same "$ledgers" "$kept" ledgers
}

# ends_in_state LAYOUT UID GID: nothing is left of what the caller left behind.
ends_in_state() {
	exec 9</etc/passwd
	talk as_nobody env SECRET=hunter2 "$STAGE/bin/wire" "$1"
	exec 9<&-
	expect hello "hello OK *"
	[ -e "/proc/$CLIENT/fd/9" ]
	grep -q hunter2 "/proc/$CLIENT/environ"
	state "$2" "$3"
	expect_descriptors socket
	expect_granted $KIB256
	expect lock=1 "lock OK *"
	expect_descriptors socket /memfd:secmalloc
	expect_end
}

@test "a set-user-ID helper with the capability locks memory for nobody" {
	requires root helper-a
	serves "$HELPER_A"
}

@test "a set-user-ID root helper locks memory for nobody" {
	requires root helper-b
	serves "$HELPER_B"
}

@test "a helper with nothing but the capability locks memory for nobody" {
	requires root helper-c
	serves "$HELPER_C"
}

@test "a set-user-ID helper is its owner, with one capability and no way to more" {
	requires root helper-a
	ends_in_state "$HELPER_A" "$HELPER_UID" "$NOBODY_GID"
}

@test "a set-user-ID root helper is its account, with one capability and no way to more" {
	requires root helper-b
	ends_in_state "$HELPER_B" "$HELPER_UID" "$HELPER_UID"
}

@test "a helper with a file capability is its caller, with no other capability and no way to more" {
	requires root helper-c
	ends_in_state "$HELPER_C" "$NOBODY_UID" "$NOBODY_GID"
}

@test "a set-user-ID root helper has no bounding set, none of its caller's groups, and is spared when memory is short" {
	requires root helper-b
	local spared=-900
	resource_allowed || spared=$(cat /proc/self/oom_score_adj)
	talk setpriv --reuid "$NOBODY_UID" --regid "$NOBODY_GID" --groups 12345 \
		--inh-caps=-all "$STAGE/bin/wire" "$HELPER_B"
	expect hello "hello OK *"
	same "$(field Groups)" "" Groups
	same "$(field CapBnd)" 0000000000000000 CapBnd
	same "$(cat "/proc/$HELPER/oom_score_adj")" "$spared" oom_score_adj
	expect_end
}

@test "a helper that root starts is not root" {
	requires root helper-a helper-b helper-c
	local helper
	for helper in "$HELPER_A" "$HELPER_B" "$HELPER_C"; do
		talk setpriv --groups 12345 "$STAGE/bin/wire" "$helper"
		expect_locked $KIB256
		expect_pages "$CLIENT" $KIB256 all
		same "$(field Groups)" "" Groups
		same "$(field Uid)" "$HELPER_UID $HELPER_UID $HELPER_UID $HELPER_UID" Uid
		same "$(field CapPrm)" 0000000000004000 CapPrm
		same "$(field CapBnd)" 0000000000000000 CapBnd
		expect_end
	done
}

@test "a caller can neither kill, stop nor limit a helper that has a user of its own" {
	requires root helper-a helper-b
	local helper
	for helper in "$HELPER_A" "$HELPER_B"; do
		talk_to "$helper"
		expect hello "hello OK *"
		nobody_kills -0 "$CLIENT"
		run ! nobody_kills -KILL "$HELPER"
		run ! nobody_kills -STOP "$HELPER"
		run ! as_nobody prlimit --pid "$HELPER" --nofile=1:1
		expect status "status OK *"
		expect_end
	done
}

@test "signals do not end a helper that serves" {
	requires root helper-a
	local signal
	talk_to "$HELPER_A"
	expect_locked $KIB256
	for signal in HUP INT QUIT TERM TSTP TTIN TTOU PIPE ALRM USR1 USR2 XFSZ XCPU VTALRM PROF; do
		kill -"$signal" "$HELPER"
	done
	expect status "status OK id=0 a=$KIB256 *"
	expect_end
}

@test "blocked and ignored signals and a running timer are not inherited" {
	requires root helper-a
	run -0 as_nobody "$STAGE/bin/wire" -t -a 5 "$(command -v sleep)" gone
	[ "${lines[1]}" = "gone killed" ]
	talk as_nobody env --block-signal --ignore-signal=TERM \
		"$STAGE/bin/wire" -t "$HELPER_A"
	expect hello "hello OK *"
	same "$(field SigBlk)" 0000000000000000 SigBlk
	sleep 0.3
	expect status "status OK *"
	expect_end
}

@test "closed standard descriptors do no harm, and without a socket there is no start" {
	requires root helper-a helper-b helper-c
	local helper
	for helper in "$HELPER_A" "$HELPER_B" "$HELPER_C"; do
		talk_to -x 12 "$helper"
		expect_locked $KIB256
		expect_descriptors socket /memfd:secmalloc
		expect_end
		run -0 as_nobody "$STAGE/bin/wire" -x 0 "$helper" gone
		[ "${lines[2]}" = "gone 64 promptly" ]
		run -0 as_nobody "$STAGE/bin/wire" -x 012 "$helper" gone
		[ "${lines[1]}" = "gone 64 promptly" ]
	done
}

@test "started by hand it says what it is" {
	run -64 as_nobody "$HELPER_NONE" </dev/null
	[[ $output == "secmalloc-helper: this program is started by libsecmalloc"* ]]
	run -64 as_nobody "$HELPER_NONE" 0<&-
	run -64 as_nobody "$HELPER_NONE" < <(sleep 0.1)
}

@test "it has four options, of which one may be followed by a file" {
	: >"$STAGE/empty"
	run -0 as_nobody "$HELPER_NONE" --version
	[[ ${lines[0]} =~ ^secmalloc-helper\ [0-9.]+$ ]]
	run -0 as_nobody "$HELPER_NONE" --help
	[[ $output == usage:*--check-config\ \[FILE\]*--help*--usage*--version* ]]
	run -0 as_nobody "$HELPER_NONE" --check-config "$STAGE/empty"
	run -64 as_nobody "$HELPER_NONE" --check-config "$STAGE/empty" "$STAGE/empty"
	run -77 as_nobody "$HELPER_NONE" --usage
	run -64 as_nobody "$HELPER_NONE" --usage "$STAGE/empty"
	run -64 as_nobody "$HELPER_NONE" --frobnicate </dev/null
	[ "$output" = "secmalloc-helper: unknown option; try --help" ]
	run -64 as_nobody "$HELPER_NONE" -- </dev/null
	run -64 as_nobody "$HELPER_NONE" "" </dev/null
	run -64 as_nobody "$HELPER_NONE" --version --help </dev/null
	[ "$output" = "secmalloc-helper: too many arguments; try --help" ]
	run -0 as_nobody "$STAGE/bin/wire" -a --frobnicate "$HELPER_NONE" gone
	[ "${lines[2]}" = "gone 64 promptly" ]
}

@test "without any argument vector it refuses or serves, and does nothing else" {
	# Linux gives such a program one empty argument since 5.18.
	requires root helper-b
	run -0 as_nobody "$STAGE/bin/wire" -0 "$HELPER_B" hello hangup gone
	[[ $output == *"hello OK"*"gone 0 promptly" || $output == *"hello closed"*"gone 64 promptly" ]]
}

# refuses STATUS COMMAND...: wire, started so, is told the reason; the helper ends.
refuses() {
	local reason=$1
	shift
	run -0 "$@" hello gone
	echo "$output"
	[ "${lines[1]}" = "hello $reason id=0 a=0 b=0 c=0" ]
	[ "${lines[2]}" = "gone 0 promptly" ]
}

@test "without its privilege it says so" {
	refuses EPERM as_nobody "$STAGE/bin/wire" "$HELPER_NONE"
	refuses EPERM as_nobody "$STAGE/bin/wire" -x 12 "$HELPER_NONE"
}

@test "under no_new_privs it says that it may not lock" {
	requires root helper-a helper-b helper-c
	local helper
	for helper in "$HELPER_A" "$HELPER_B" "$HELPER_C"; do
		refuses EPERM as_nobody setpriv --no-new-privs "$STAGE/bin/wire" "$helper"
	done
}

@test "in a user namespace it says that it may not lock" {
	requires root helper-a helper-b helper-c userns
	local helper
	for helper in "$HELPER_A" "$HELPER_B" "$HELPER_C" "$HELPER_NONE"; do
		refuses EPERM as_nobody unshare --user --map-root-user "$STAGE/bin/wire" "$helper"
		refuses EPERM as_nobody unshare --user --map-current-user "$STAGE/bin/wire" "$helper"
		refuses EPERM as_nobody unshare --user "$STAGE/bin/wire" "$helper"
	done
}

@test "with the capability cut from the bounding set it says that it may not lock" {
	requires root helper-a helper-b helper-c
	local helper cut
	for helper in "$HELPER_A" "$HELPER_B" "$HELPER_C"; do
		for cut in -ipc_lock -setuid,-ipc_lock -all; do
			refuses EPERM setpriv --reuid "$NOBODY_UID" --regid "$NOBODY_GID" \
				--clear-groups --inh-caps=-all --bounding-set="$cut" \
				prlimit --memlock=0:0 "$STAGE/bin/wire" "$helper"
		done
	done
}

@test "a right to lock that is only the caller's RLIMIT_MEMLOCK is not used" {
	requires root
	[ "$(ulimit -H -l)" != 0 ]
	ulimit -l "$(ulimit -H -l)"
	refuses EPERM setpriv --reuid "$NOBODY_UID" --regid "$NOBODY_GID" --clear-groups \
		--inh-caps=-all "$STAGE/bin/wire" "$HELPER_NONE"
}

@test "no core file or trace of it can be had, even where its file gives it no privilege" {
	requires root
	talk_to "$HELPER_NONE"
	for _ in {1..100}; do
		[ "$(field NoNewPrivs)" = 1 ] && break
		sleep 0.01
	done
	# Root owns what belongs to a process that is not dumpable.
	same "$(stat -c %u "/proc/$CLIENT/environ")" "$NOBODY_UID" client
	same "$(stat -c %u "/proc/$HELPER/environ")" 0 helper
	expect hello "hello EPERM *"
}

@test "a set-user-ID root helper that cannot become its account becomes the caller and serves nobody" {
	requires root helper-b
	talk setpriv --reuid "$NOBODY_UID" --regid "$NOBODY_GID" --clear-groups \
		--inh-caps=-all --bounding-set=-setuid "$STAGE/bin/wire" "$HELPER_B"
	for _ in {1..100}; do
		[ "$(field NoNewPrivs)" = 1 ] && break
		sleep 0.01
	done
	same "$(field Uid)" "$NOBODY_UID $NOBODY_UID $NOBODY_UID $NOBODY_UID" Uid
	same "$(field Gid)" "$NOBODY_GID $NOBODY_GID $NOBODY_GID $NOBODY_GID" Gid
	same "$(field CapPrm)" 0000000000000000 CapPrm
	expect hello "hello EPERM *"
	expect gone "gone 0 promptly"
}

@test "a file size limit is raised where that is allowed, and is the answer where it is not" {
	requires root helper-a helper-b helper-c
	refuses ENOMEM as_nobody prlimit --fsize=1:1 "$STAGE/bin/wire" "$HELPER_A"
	refuses ENOMEM as_nobody prlimit --fsize=1:1 "$STAGE/bin/wire" "$HELPER_C"
	if resource_allowed; then
		run -0 as_nobody prlimit --fsize=1:1 "$STAGE/bin/wire" "$HELPER_B" hello hangup gone
		[[ ${lines[1]} == "hello OK"* ]]
	else
		refuses ENOMEM as_nobody prlimit --fsize=1:1 "$STAGE/bin/wire" "$HELPER_B"
	fi
	run -0 as_nobody prlimit --fsize=1: "$STAGE/bin/wire" "$HELPER_A" hello hangup gone
	[[ ${lines[1]} == "hello OK"* ]]
}

# limited HELPER LIMIT...: a program that sets the limit and becomes HELPER.
limited() {
	LIMITED=$STAGE/limited
	printf '#!/bin/sh\nulimit %s\nexec %s\n' "${*:2}" "$1" >"$LIMITED"
	chmod 755 "$LIMITED"
}

@test "a file size limit that leaves room for small pools refuses large ones, and goes on" {
	requires root helper-a
	limited "$HELPER_A" -f 1024 # of 512 bytes
	talk_to "$LIMITED"
	expect_locked $KIB256
	expect grant=1048576 "grant ENOMEM id=0 a=0 b=0 c=0"
	expect_granted $KIB256
	expect lock=2 "lock OK *"
	expect_end
}

@test "an address space limit refuses the lock, and the grant is withdrawn" {
	requires root helper-a
	limited "$HELPER_A" -v 16384 # KiB
	talk_to "$LIMITED"
	expect hello "hello OK *"
	expect_granted $((MIB64 / 2))
	expect lock=1 "lock ENOMEM id=0 a=0 b=0 c=0"
	expect status "status OK id=0 a=0 b=0 c=$MIB64"
	expect_descriptors socket
	expect_granted $KIB256
	expect lock=2 "lock OK *"
	expect_end
}

@test "a descriptor limit refuses the pool, granted or adopted, that it leaves no room for" {
	requires root helper-a
	local i used
	limited "$HELPER_A" -n 8
	talk_to "$LIMITED"
	expect hello "hello OK *"
	used=$(find "/proc/$HELPER/fd" -type l | wc -l)
	[ "$used" -ge 3 ]
	for ((i = 1; i <= 8 - used; i++)); do
		expect_granted $KIB256
		expect lock=$i "lock OK *"
	done
	expect grant=$KIB256 "grant ENOMEM *"
	expect adopt "adopt ENOMEM id=0 a=0 b=0 c=0"
	expect status "status OK id=0 a=$(((8 - used) * KIB256)) b=$((8 - used)) *"
	expect release=1 "release OK *"
	expect adopt "adopt OK id=$i a=$(((8 - used) * KIB256)) *"
	expect release=2 "release OK *"
	expect_granted $KIB256
	expect_end
}

@test "sizes that are no whole pages are refused, and the conversation goes on" {
	requires root helper-a
	talk_to "$HELPER_A"
	expect hello "hello OK *"
	expect grant=0 "grant EINVAL id=0 a=0 b=0 c=0"
	expect grant=1 "grant EINVAL *"
	expect grant=$((KIB256 + 1)) "grant EINVAL *"
	expect grant=18446744073709551615 "grant EINVAL *"
	expect_granted $KIB256
	expect_end
}

@test "the limit is kept, granted and locked bytes together" {
	requires root helper-a
	local page
	page=$(getconf PAGESIZE)
	talk_to "$HELPER_A"
	expect hello "hello OK *"
	expect grant=$((MIB64 + page)) "grant EDQUOT id=0 a=0 b=0 c=0"
	expect packet=2,0,$((0xffffffff00000000)) "packet EDQUOT *"
	expect_granted $((MIB64 - page))
	expect status "status OK id=0 a=0 b=0 c=$page"
	expect lock=1 "lock OK id=0 a=$((MIB64 - page)) b=0 c=0"
	expect grant=$((2 * page)) "grant EDQUOT *"
	expect_granted "$page"
	expect lock=2 "lock OK id=0 a=$MIB64 b=0 c=0"
	expect grant="$page" "grant EDQUOT *"
	expect status "status OK id=0 a=$MIB64 b=2 c=0"
	expect release=1 "release OK id=0 a=$page b=0 c=0"
	expect status "status OK id=0 a=$page b=1 c=$((MIB64 - page))"
	expect_granted "$((MIB64 - page))"
	expect_end
}

@test "as many pools as the protocol allows can be had, and no more" {
	requires root helper-a
	local i page
	page=$(getconf PAGESIZE)
	talk as_nobody prlimit --nofile=4096 "$STAGE/bin/wire" "$HELPER_A"
	expect hello "hello OK *"
	for ((i = 1; i <= 1024; i++)); do
		expect_granted "$page"
		expect lock=$i "lock OK *"
	done
	expect grant="$page" "grant EDQUOT *"
	# Released from the middle while another is outstanding.
	expect release=500 "release OK *"
	expect_granted "$page"
	expect release=3 "release OK *"
	expect lock=1025 "lock OK *"
	expect status "status OK id=0 a=$((1023 * page)) b=1023 *"
	expect_end
}

@test "a pool that is not populated is refused and withdrawn" {
	requires root helper-a
	talk_to "$HELPER_A"
	expect hello "hello OK *"
	expect grant=$KIB256 "grant OK id=1 *"
	expect lock=1 "lock EINVAL id=0 a=0 b=0 c=0"
	expect_descriptors socket
	expect_granted $KIB256
	expect lock=2 "lock OK *"
	expect_end
}

@test "a pool cannot be resized or reopened, nor, once locked, emptied or mapped again" {
	requires root helper-a
	talk_to "$HELPER_A"
	expect_locked $KIB256
	expect tamper "tamper shrink=0 grow=0 punch=0 map=0 reopen=0"
	expect_pages "$CLIENT" $KIB256 all
	expect_granted $KIB256
	expect tamper "tamper shrink=0 grow=0 punch=1 map=1 reopen=0"
	expect_end
}

@test "memory stays locked while another process maps it, and the helper ends when that does" {
	requires root helper-a helper-b helper-c
	local helper
	for helper in "$HELPER_A" "$HELPER_B" "$HELPER_C"; do
		talk_to "$helper"
		expect_locked $KIB256
		expect keep "keeper *"
		KEEPER=${REPLY#keeper }
		kill -KILL "$CLIENT"
		hang_up
		sleep 0.7
		[ -d "/proc/$HELPER" ]
		expect_pages "$KEEPER" $KIB256 all
		expect_descriptors /memfd:secmalloc
		kill -KILL "$KEEPER"
		KEEPER=
		expect_gone "$HELPER"
	done
}

@test "only pools that are still mapped are kept" {
	requires root helper-a
	talk_to "$HELPER_A"
	expect_locked $KIB256
	expect unmap
	expect_granted $KIB256
	expect lock=2 "lock OK *"
	expect hangup hangup
	sleep 0.5
	expect_descriptors /memfd:secmalloc
	expect_pages "$CLIENT" $KIB256 all
	expect unmap
	expect gone "gone 0 promptly"
}

@test "a grant that was never locked keeps no helper, mapped or not" {
	requires root helper-a
	talk_to "$HELPER_A"
	expect hello "hello OK *"
	expect_granted $KIB256
	expect hangup hangup
	expect gone "gone 0 promptly"
}

@test "a malformed packet ends the conversation, and the lock stays while it is mapped" {
	requires root helper-a
	local bad
	for bad in "bad-magic status" "bad-version status" "bad-padding status" \
		"short status" "long status" "attach status" empty "attach empty" \
		packet=1,0,1,1 packet=3,1 packet=3,99 packet=4,0 packet=4,99 packet=5,1 \
		packet=5,0,1 packet=5,0,0,1 packet=2,1,$KIB256 packet=2,0,$KIB256,1 \
		packet=4,1,1 packet=0 packet=6 packet=6,0,$KIB256 "attach packet=6,1,$KIB256" \
		"attach packet=6,0,$KIB256,1" packet=7 packet=65535; do
		echo "$bad"
		talk_to "$HELPER_A"
		expect_locked $KIB256
		for word in $bad; do
			expect "$word"
		done
		[[ $REPLY == *" closed" ]]
		sleep 0.05
		expect_pages "$CLIENT" $KIB256 all
		expect_descriptors /memfd:secmalloc
		expect_end
	done
}

@test "one grant may be outstanding, and no lock but its own be asked for" {
	requires root helper-a
	local bad
	for bad in packet=2,0,$KIB256 packet=3,1 packet=3,3; do
		echo "$bad"
		talk_to "$HELPER_A"
		expect_locked $KIB256
		expect_granted $KIB256
		expect "$bad" "packet closed"
		sleep 0.05
		expect_descriptors /memfd:secmalloc
		expect_end
	done
}

@test "nothing is answered before HELLO, and no HELLO but a possible one" {
	requires root helper-a
	local bad
	for bad in status grant=$KIB256 lock=1 release=1 empty packet=1,0,2,1 packet=1,1,1,1; do
		run -0 as_nobody "$STAGE/bin/wire" "$HELPER_A" "$bad" gone
		echo "$bad: $output"
		[[ ${lines[1]} == *" closed" ]]
		[ "${lines[2]}" = "gone 0 promptly" ]
	done
}

@test "a version is agreed on, or there is none and it says so" {
	requires root helper-a
	run -0 as_nobody "$STAGE/bin/wire" "$HELPER_A" packet=1,0,0,7 hangup gone
	[[ ${lines[1]} == "packet OK id=0 a=1 "* ]]
	run -0 as_nobody "$STAGE/bin/wire" "$HELPER_A" packet=1,0,2,7 gone
	[ "${lines[1]}" = "packet EPROTO id=0 a=0 b=0 c=0" ]
	[ "${lines[2]}" = "gone 0 promptly" ]
}

@test "a client that asks and never reads does not park the helper" {
	requires root helper-a
	talk_to "$HELPER_A"
	expect_locked $KIB256
	expect flood "flood closed"
	sleep 0.05
	expect_pages "$CLIENT" $KIB256 all
	expect_end
}

@test "a client that goes away at any step leaves no helper behind" {
	requires root helper-a helper-b helper-c
	local helper steps
	for helper in "$HELPER_A" "$HELPER_B" "$HELPER_C"; do
		for steps in "" "hello" "hello grant=$KIB256" "hello grant=$KIB256 populate" \
			"hello grant=$KIB256 populate lock=1" \
			"hello grant=$KIB256 populate lock=1 release=1" \
			"hello grant=$KIB256 populate lock=1 grant=$KIB256"; do
			# shellcheck disable=SC2086
			run -0 as_nobody "$STAGE/bin/wire" "$helper" $steps hangup unmap gone
			[[ $output == *"gone 0 promptly" ]]
			# shellcheck disable=SC2086
			run -0 as_nobody "$STAGE/bin/wire" "$helper" $steps
			read -r _ HELPER _ <<<"${lines[0]}"
			expect_gone "$HELPER"
		done
	done
}
