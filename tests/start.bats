#!/usr/bin/env bats
# The helper's start, however its caller arranges it, and what the caller can do
# to it afterwards: one hazard a test, in every layout that it is one in.
#
# Hazards that are tested elsewhere: what is wrong with messages, and peers that
# stall, in requests.bats and hostile.bats; how policy is spelt, and what is
# logged, in quota.bats; user namespaces, no_new_privs and the bounding set in
# helper.bats ("... it says that it may not lock").

# shellcheck disable=SC2030,SC2031 # each test is a subshell, as it should be
load helpers
load state
load talk

KIB256=262144
MIB64=67108864

setup() {
	requires root helper-a helper-b helper-c
	LAYOUTS=("$HELPER_A" "$HELPER_B" "$HELPER_C")
	WORK=$STAGE/start
	mkdir "$WORK"
	chmod 1777 "$WORK"
}

teardown() {
	[ -z "${SPARE:-}" ] || kill -KILL "$SPARE" 2>/dev/null || true
	hang_up
	[ -n "${WORK:-}" ] || return 0
	rm -rf "$WORK" "$POLICY" "$LEDGER"
	install -d -o "$HELPER_UID" -g 0 -m 700 "$LEDGER"
}

# --- A conversation ---

# hazardous HELPER HAZARD...: sets PROGRAM, which becomes HELPER, but in those
# surroundings.
hazardous() {
	PROGRAM=$(mktemp "$WORK/program.XXXXXX")
	printf '#!/bin/sh\nexec %s/bin/start %s -- %s\n' "$STAGE" "${*:2}" "$1" >"$PROGRAM"
	chmod 755 "$PROGRAM"
}

# begins HELPER [HAZARD...]: nobody has a helper, and it serves.
begins() {
	hazardous "$@"
	talk as_nobody "$STAGE/bin/wire" "$PROGRAM"
	expect hello "hello OK id=0 a=1 b=$MIB64 c=$MIB64"
}

# locks [BYTES]: and what it says that it has locked is locked.
locks() {
	local bytes=${1:-$KIB256} pages
	pages=$((bytes / $(getconf PAGESIZE)))
	expect "grant=$bytes" "grant OK id=* at=*"
	ADDRESS=${REPLY##*at=}
	expect populate
	expect lock=1 "lock OK id=0 a=$bytes b=0 c=0"
	same "$("$STAGE/bin/start" --pages "$CLIENT" "$ADDRESS" "$bytes")" "$pages of $pages" pages
}

ends() {
	expect status "status OK *"
	expect unmap
	expect hangup hangup
	expect gone "gone 0 promptly"
	hang_up
}

# plainly PROGRAM HAZARD...: a program that takes no care of what it inherits, as
# HELPER, to show that there is something to inherit.
plainly() {
	hazardous "$@"
	talk as_nobody "$STAGE/bin/wire" "$PROGRAM"
	sleep 0.1
}

# serves HELPER [HAZARD...]: its whole life, and nothing is left of the hazard.
serves() {
	echo "$@"
	begins "$@"
	clean
	locks
	ends
}

# refuses REASON HELPER [HAZARD...]: says so, and ends. One that does not is not
# waited for.
refuses() {
	local lines=()
	echo "${@:2}"
	hazardous "${@:2}"
	as_nobody "$STAGE/bin/wire" "$PROGRAM" hello gone >"$WORK/answers" 2>&1 || true
	mapfile -t lines <"$WORK/answers"
	if [ "${lines[2]:-}" != "gone 0 promptly" ]; then
		read -r _ HELPER _ <<<"${lines[0]}"
		kill -KILL "$HELPER" || true
	fi
	same "${lines[1]:-}" "hello $1 id=0 a=0 b=0 c=0"
	same "${lines[2]:-}" "gone 0 promptly"
}

# --- What /proc says of it ---

# number N: a field of the helper's /proc/PID/stat. Its name has no blanks.
number() {
	cut -d' ' -f"$1" "/proc/$HELPER/stat"
}

# A zombie is none: there may be nobody who waits for it.
alive() {
	[ -d "/proc/$HELPER" ] && [[ $(field State 2>/dev/null) != Z* ]]
}

# Within a second.
dead() {
	for _ in {1..100}; do
		alive || return 0
		sleep 0.01
	done
	echo "process $HELPER is still there"
	return 1
}

# Of a helper that serves: its socket, the log if there is one, and the ledger
# twice, but not in layout C.
descriptors() {
	local links=("/proc/$HELPER/fd"/*)
	readlink "${links[@]}" | sed 's/:\[.*//; s/ (deleted)//' | xargs
}

descriptors_expected() {
	local expected=socket
	[ ! -S /dev/log ] || expected+=" socket"
	[ "$(field Uid)" = "$NOBODY_UID $NOBODY_UID $NOBODY_UID $NOBODY_UID" ] ||
		expected+=" $LEDGER/ledger $LEDGER/ledger"
	echo "$expected"
}

# clean: a helper that serves, and has locked nothing yet, has nothing of its
# caller's.
clean() {
	# The pulse it closes once that was sent.
	for _ in {1..100}; do
		[[ $(descriptors) == *memfd* ]] || break
		sleep 0.01
	done
	same "$(descriptors)" "$(descriptors_expected)" descriptors
	confined
	same "$(field SigPnd)" 0000000000000000 SigPnd
	same "$(field ShdPnd)" 0000000000000000 ShdPnd
	same "$(field SigCgt)" 0000000000000000 SigCgt
	# HUP INT QUIT TERM TSTP PIPE, as signals(7) numbers them almost everywhere.
	same $((0x$(field SigIgn) & 0x85007)) $((0x85007)) SigIgn
	same "$(number 7)" 0 terminal
}

# --- What its caller leaves it ---

@test "without an argument vector it looks at none" {
	local helper
	for helper in "${LAYOUTS[@]}"; do
		hazardous "$helper" no-argv
		run -0 as_nobody "$STAGE/bin/wire" "$PROGRAM" hello hangup gone
		# Linux gives it an empty one since 5.18.
		if [[ $output == *"hello OK"* ]]; then
			serves "$helper" no-argv
		else
			[[ $output == *"hello closed"*"gone 64 promptly" ]]
		fi
	done
}

@test "descriptors 0 to 2, closed in any combination, cost the service at most" {
	local helper digits
	for helper in "${LAYOUTS[@]}"; do
		for digits in 1 2 12; do
			serves "$helper" close=$digits
		done
		for digits in 0 01 02 012; do
			hazardous "$helper" close=$digits
			run -0 as_nobody "$STAGE/bin/wire" "$PROGRAM" hello gone
			[[ $output == *"hello closed"*"gone 64 promptly"* ]]
		done
	done
}

@test "of 300 inherited descriptors none is left" {
	local helper
	for helper in "${LAYOUTS[@]}"; do
		serves "$helper" descriptors=300
	done
	plainly "$(command -v cat)" descriptors=300
	[ "$(find "/proc/$HELPER/fd" -lname /dev/null | wc -l)" -ge 300 ]
}

@test "an environment as large as can be is gone" {
	local helper size
	for helper in "${LAYOUTS[@]}"; do
		serves "$helper" huge-environment
	done
	plainly "$(command -v cat)" huge-environment
	size=$(wc -c <"/proc/$HELPER/environ")
	[ "$size" -gt $(($(getconf ARG_MAX) * 3 / 4)) ] || [ "$size" -gt 1500000 ]
}

# What a preloaded library does shows in a file that it makes.
preload() {
	cat >"$WORK/mark.c" <<-END
		#include <fcntl.h>
		__attribute__((constructor)) static void
		mark(void)
		{
			(void)open("$WORK/mark", O_CREAT | O_WRONLY, 0644);
		}
	END
	"${CC:-cc}" -shared -fPIC -o "$WORK/mark.so" "$WORK/mark.c"
}

@test "LD_PRELOAD and LD_LIBRARY_PATH load nothing into it" {
	requires command:"${CC:-cc}"
	local helper library
	preload
	library=$(ldd "$HELPER_A" | awk '/libcap/ { print $1 }')
	[ -n "$library" ]
	mkdir "$WORK/lib"
	cp "$WORK/mark.so" "$WORK/lib/$library"
	for helper in "${LAYOUTS[@]}"; do
		serves "$helper" "env=LD_PRELOAD=$WORK/mark.so"
		serves "$helper" "env=LD_LIBRARY_PATH=$WORK/lib"
		serves "$helper" "env=LD_AUDIT=$WORK/mark.so"
		[ ! -e "$WORK/mark" ]
	done
	# Without a privilege they do; a library that lacks what is needed ends it.
	hazardous "$HELPER_NONE" "env=LD_PRELOAD=$WORK/mark.so"
	as_nobody "$STAGE/bin/wire" "$PROGRAM" hello
	[ -e "$WORK/mark" ]
	hazardous "$HELPER_NONE" "env=LD_LIBRARY_PATH=$WORK/lib"
	run as_nobody "$STAGE/bin/wire" "$PROGRAM" hello
	[[ $output == *"hello closed"* ]]
}

@test "GLIBC_TUNABLES, however long or malformed, tunes nothing in it" {
	local helper tunables
	# The form of CVE-2023-4911, and one that has every allocation mapped.
	for tunables in \
		glibc.malloc.mxfast=glibc.malloc.mxfast="$(printf '%03000d' 7)" \
		glibc.malloc.mmap_threshold=1:glibc.malloc.check=3; do
		for helper in "${LAYOUTS[@]}"; do
			serves "$helper" "env=GLIBC_TUNABLES=$tunables"
		done
	done
}

@test "unknown options and trailing arguments are refused with a privilege as without" {
	local helper arguments
	for helper in "${LAYOUTS[@]}"; do
		for arguments in --frobnicate -- "''" -h "--version --help" \
			"--version --version" "--check-config /dev/null /dev/null"; do
			echo "$helper $arguments"
			hazardous "$helper $arguments"
			run -0 as_nobody "$STAGE/bin/wire" "$PROGRAM" hello gone
			[[ $output == *"hello closed"*"gone 64 promptly"* ]]
		done
	done
}

@test "signals that are blocked, ignored and pending are none of these afterwards" {
	local helper
	for helper in "${LAYOUTS[@]}"; do
		serves "$helper" block
		serves "$helper" ignore
		serves "$helper" block ignore
		serves "$helper" pending
		serves "$helper" pending ignore
	done
	# They are inherited, by a program that lets them be.
	plainly "$(command -v cat)" pending
	[ "$(field ShdPnd)" != 0000000000000000 ]
	same "$(field SigBlk)" fffffffffffbfeff control
}

@test "timers that its caller armed do not go off in it" {
	local helper
	for helper in "${LAYOUTS[@]}"; do
		begins "$helper" timers
		sleep 0.3
		# Work for a tenth of a second or so, more than the others are set to.
		locks $MIB64
		ends
	done
	hazardous "$(command -v sleep) 5" timers
	run -0 as_nobody "$STAGE/bin/wire" "$PROGRAM" gone
	same "${lines[1]}" "gone killed" control
	hazardous "/bin/sh -c 'while :; do :; done'" timers
	run -0 as_nobody "$STAGE/bin/wire" "$PROGRAM" gone
	same "${lines[1]}" "gone killed" control
}

@test "its caller's death does not end it while the memory is mapped" {
	local helper
	for helper in "${LAYOUTS[@]}"; do
		begins "$helper" death-signal
		locks
		expect keep "keeper *"
		SPARE=${REPLY#keeper }
		kill -KILL "$CLIENT"
		hang_up
		sleep 0.1
		same "$("$STAGE/bin/start" --pages "$SPARE" "$ADDRESS" $KIB256)" "64 of 64" pages
		kill -KILL "$SPARE"
		SPARE=
		dead
	done
	plainly "$(command -v sleep) 30" death-signal
	alive
	kill -KILL "$CLIENT"
	hang_up
	dead
}

# tried HELPER HAZARD: it serves, or it refuses with a reason, or it cannot even
# be loaded: then a program that does nothing cannot either. Counts them.
tried() {
	hazardous "$@"
	run -0 as_nobody "$STAGE/bin/wire" "$PROGRAM" hello "grant=$KIB256" populate lock=1 hangup unmap gone
	echo "$*: $output"
	[[ $output != *"gone never" ]]
	# RLIMIT_CPU: with no time at all, the next tick of the clock is the end.
	[[ $2 != *limit=0:0 ]] || return 0
	if [[ $output == *"hello OK"*"lock OK"*"gone 0 promptly" ]]; then
		serves "$@"
		SERVED=$((SERVED + 1))
	elif [[ $output == *" E"*"gone 0 promptly" && $output != *"lock OK"* ]]; then
		REFUSED=$((REFUSED + 1))
	else
		hazardous "$(command -v true)" "${@:2}"
		run -0 as_nobody "$STAGE/bin/wire" "$PROGRAM" gone
		[[ $output != *"gone 0 "* ]]
	fi
}

# limits HAZARD REFUSALS: of each resource to 0 and to 1; most do not concern it.
limits() {
	local helper resource value
	for helper in "${LAYOUTS[@]}"; do
		for value in 0 1; do
			SERVED=0 REFUSED=0
			for resource in {0..15}; do
				tried "$helper" "$1=$resource:$value"
			done
			[ "$SERVED" -ge 10 ]
			# shellcheck disable=SC2053
			[[ $REFUSED == $2 ]]
		done
	done
}

@test "under each limit, at 0 and at 1, it serves properly or says that it cannot" {
	# The size of files does concern it.
	local some='[1-9]*'
	! resource_allowed || some='*'
	limits limit "$some"
}

@test "a soft limit, at 0 or at 1, is raised" {
	limits soft-limit 0
}

@test "its umask is its own, and so is what it makes" {
	local helper value
	for value in 0 777; do
		rm -rf "$LEDGER"
		for helper in "$HELPER_B" "$HELPER_A" "$HELPER_C"; do
			serves "$helper" umask=$value
		done
		same "$(stat -c '%a %u' "$LEDGER")" "700 $HELPER_UID" directory
		same "$(stat -c '%a %u' "$LEDGER/ledger")" "600 $HELPER_UID" ledger
	done
}

@test "a working directory that is deleted, forbidden or shared is left" {
	local helper
	for helper in "${LAYOUTS[@]}"; do
		serves "$helper" "directory-deleted=$WORK/deleted"
		serves "$helper" "directory-forbidden=$WORK/forbidden.$RANDOM$RANDOM"
		# The kernel gives no privilege to who shares it with another process.
		refuses EPERM "$helper" directory-shared
	done
}

@test "a terminal that hangs up does not end it, and it has none" {
	local helper
	for helper in "${LAYOUTS[@]}"; do
		# Of the caller's session.
		hazardous "$STAGE/bin/wire $helper -" ignore=1 "terminal=$WORK/terminal"
		coproc WIRE { as_nobody "$PROGRAM" 2>&1; } 3>&-
		# shellcheck disable=SC2034 # for hang_up
		TALKING=$WIRE_PID
		read -r -t 10 -u "${WIRE[0]}" _ HELPER _ CLIENT
		expect hello "hello OK *"
		[ "$(cut -d' ' -f7 "/proc/$CLIENT/stat")" != 0 ]
		clean
		kill -KILL "$(cat "$WORK/terminal")"
		locks
		ends
		# Of the session that the helper itself leads.
		begins "$helper" "terminal=$WORK/terminal"
		clean
		kill -KILL "$(cat "$WORK/terminal")"
		locks
		ends
	done
}

@test "niceness, idle scheduling and being the first to be killed are given up where that is allowed" {
	local helper spared=-900
	for helper in "${LAYOUTS[@]}"; do
		serves "$helper" priority
	done
	begins "$HELPER_B" priority
	same "$(number 19)" 0 nice
	same "$(number 41)" 0 policy # SCHED_OTHER
	resource_allowed || spared=1000
	same "$(cat "/proc/$HELPER/oom_score_adj")" "$spared" oom_score_adj
	ends
	plainly "$(command -v cat)" priority
	same "$(number 19) $(number 41) $(cat "/proc/$HELPER/oom_score_adj")" "19 5 1000" control
}

@test "huge pages, disabled by its caller, are not disabled in it" {
	local helper
	for helper in "${LAYOUTS[@]}"; do
		begins "$helper" no-huge-pages
		same "$(field THP_enabled)" 1 THP_enabled
		locks
		ends
	done
	plainly "$(command -v cat)" no-huge-pages
	same "$(field THP_enabled)" 0 control
}

@test "a timer slack without end is not inherited" {
	local helper
	for helper in "${LAYOUTS[@]}"; do
		begins "$helper" slack
		same "$(cat "/proc/$HELPER/timerslack_ns")" 50000 slack
		locks
		ends
	done
	plainly "$(command -v cat)" slack
	[ "$(cat "/proc/$HELPER/timerslack_ns")" != 50000 ]
}

# --- Who it is ---

@test "under a tracer it has no privilege, and says so" {
	local helper
	for helper in "${LAYOUTS[@]}"; do
		refuses EPERM "$helper" traced
		serves "$helper" undumpable
	done
}

@test "it ends as one user with one capability and, where root has started it, no way to any other" {
	local helper uid gid groups bounding
	for helper in "${LAYOUTS[@]}"; do
		talk setpriv --reuid "$NOBODY_UID" --regid "$NOBODY_GID" --groups 12345 \
			--inh-caps=-all prlimit --memlock=0:0 "$STAGE/bin/wire" "$helper"
		expect hello "hello OK *"
		clean
		uid=$HELPER_UID gid=$NOBODY_GID groups=12345
		bounding=$(sed -n 's/^CapBnd:[[:space:]]*//p' /proc/self/status)
		case $helper in
		"$HELPER_B") gid=$HELPER_UID groups="" bounding=0000000000000000 ;;
		"$HELPER_C") uid=$NOBODY_UID ;;
		esac
		same "$(field Uid)" "$uid $uid $uid $uid" Uid
		same "$(field Gid)" "$gid $gid $gid $gid" Gid
		same "$(field Groups)" "$groups" Groups
		same "$(field CapBnd)" "$bounding" CapBnd
		ends
	done
}

@test "a filter of system calls is in force" {
	requires seccomp
	local helper
	for helper in "${LAYOUTS[@]}"; do
		begins "$helper"
		same "$(field Seccomp)" 2 Seccomp
		same "$(field Seccomp_filters)" 1 Seccomp_filters
		ends
	done
}

# talk_traced HELPER: as nobody, with what it asks of the system in TRACE: a file
# of its own, where no call of its client's comes between one and its result. A
# tracer that is root takes no privilege away.
talk_traced() {
	talk strace -ff -qq -e signal=none -o "$WORK/trace" \
		"${AS_NOBODY[@]}" "$STAGE/bin/wire" "$1"
	TRACE=$WORK/trace.$HELPER
}

# steps: the calls of TRACE in which privilege is given up, in their order; which
# of capabilities, the ambient ones and securebits comes first does not matter.
steps() {
	local filter=""
	[[ $("$HELPER_NONE" --version) != *"seccomp: yes"* ]] || filter=1
	awk -v filter=$filter '
		function step(name) { if (name != last) print last = name }
		function set(name) { if (last == "no-keepcaps") seen[name] = 1 }
		/^prctl\(PR_CAPBSET_DROP, .*= 0$/ { step("bounding") }
		/^prctl\(PR_SET_KEEPCAPS, 1.*= 0$/ { step("keepcaps") }
		/^setgroups\(0, .*= 0$/ { step("setgroups") }
		/^setresgid\(.*= 0$/ { step("setresgid") }
		/^setresuid\(.*= 0$/ { step("setresuid") }
		/^prctl\(PR_SET_KEEPCAPS, 0.*= 0$/ { step("no-keepcaps") }
		/^prctl\(PR_SET_SECUREBITS, .*= 0$/ { set("securebits") }
		/^prctl\(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL.*= 0$/ { set("ambient") }
		/^capset\(.*= 0$/ { set("capset") }
		/^prctl\(PR_SET_NO_NEW_PRIVS, 1.*= 0$/ && !n++ {
			if ("capset" in seen) step("capset")
			if ("ambient" in seen) step("ambient")
			if ("securebits" in seen) step("securebits")
			step("no_new_privs")
		}
		/^setresuid\(.*= -1 EPERM/ { step("regain-user") }
		/^capset\(.*= -1 EPERM/ { step("regain-capability") }
		filter && /^seccomp\(SECCOMP_SET_MODE_FILTER, .*= 0$/ { step("filter") }
		/^recvmsg\(/ { step("serve"); exit }' "$TRACE" | xargs
}

@test "privilege goes in the order that loses none of it halfway, and then cannot be had again" {
	requires command:strace
	local tail="no_new_privs regain-user regain-capability"
	[[ $("$HELPER_NONE" --version) != *"seccomp: yes"* ]] || tail+=" filter"
	tail+=" serve"
	talk_traced "$HELPER_B"
	expect hello "hello OK *"
	clean
	ends
	same "$(steps)" "bounding keepcaps setgroups setresgid setresuid no-keepcaps capset ambient securebits $tail" B
	grep -Eq 'PR_SET_SECUREBITS, SECBIT_NOROOT\|SECBIT_NOROOT_LOCKED\|SECBIT_NO_SETUID_FIXUP\|SECBIT_NO_SETUID_FIXUP_LOCKED\|SECBIT_KEEP_CAPS_LOCKED\|' "$TRACE"
	talk_traced "$HELPER_A"
	expect hello "hello OK *"
	clean
	ends
	same "$(steps)" "keepcaps setresgid setresuid no-keepcaps capset ambient $tail" A
	talk_traced "$HELPER_C"
	expect hello "hello OK *"
	clean
	ends
	same "$(steps | sed 's/setresgid setresuid //')" "keepcaps no-keepcaps capset ambient $tail" C
}

@test "without a trial that locks, it does not say that it can" {
	local helper cut
	for helper in "${LAYOUTS[@]}"; do
		for cut in -ipc_lock -all; do
			run -0 setpriv --reuid "$NOBODY_UID" --regid "$NOBODY_GID" --clear-groups \
				--inh-caps=-all --bounding-set="$cut" \
				prlimit --memlock=0:0 "$STAGE/bin/wire" "$helper" hello gone
			same "${lines[1]}" "hello EPERM id=0 a=0 b=0 c=0"
			same "${lines[2]}" "gone 0 promptly"
		done
	done
	requires userns
	for helper in "${LAYOUTS[@]}"; do
		run -0 as_nobody unshare --user --map-root-user \
			"$STAGE/bin/wire" "$helper" hello gone
		same "${lines[1]}" "hello EPERM id=0 a=0 b=0 c=0"
		same "${lines[2]}" "gone 0 promptly"
	done
}

# attacked UID [COMMAND...]: what UID could do to the helper, as one line.
attacked() {
	setpriv --reuid "$1" --regid "$1" --clear-groups --inh-caps=-all "${@:2}" \
		"$STAGE/bin/start" --attack "$HELPER" 3>&- | paste -sd,
}

@test "who may not be its equal can neither kill, stop, trace, read nor limit it" {
	requires userns
	local helper all
	for helper in "$HELPER_A" "$HELPER_B"; do
		begins "$helper"
		all=$(attacked "$NOBODY_UID")
		same "$all" "39 attacks" "$helper"
		all=$(attacked "$NOBODY_UID" unshare --user --map-root-user)
		same "$all" "39 attacks" "$helper, in a user namespace"
		locks
		all=$(attacked "$NOBODY_UID")
		same "$all" "39 attacks" "$helper, locked"
		ends
	done
	begins "$HELPER_C"
	all=$(attacked $((NOBODY_UID - 1)))
	same "$all" "39 attacks" "$HELPER_C, by another user"
	locks
	ends
	# Each but one of the attacks works on an ordinary process; that one takes
	# a capability.
	"${AS_NOBODY[@]}" sleep 30 3>&- &
	SPARE=$! HELPER=$!
	sleep 0.1
	all=$(attacked "$NOBODY_UID")
	same "$(tr ',' '\n' <<<"$all" | wc -l)" 39 control
	[[ $all == *",ptrace,"*",kill,"*",39 attacks" ]]
}

@test "its caller, whose user it is in layout C, may end and limit it, and no more" {
	local all
	begins "$HELPER_C"
	locks
	all=$(attacked "$NOBODY_UID")
	same "$all" "prlimit read,prlimit,kill,tgkill,pidfd_send_signal,rt_sigqueueinfo,39 attacks"
	expect gone "gone killed"
	# What it had locked may be swapped now, but is still the client's alone.
	same "$("$STAGE/bin/start" --pages "$CLIENT" "$ADDRESS" $KIB256)" "0 of 64" pages
	expect hello "hello closed"
}

# --- What it reads and keeps ---

# refused: by all layouts, and who was not to be waited for was not.
refused() {
	local helper
	echo "$1"
	for helper in "${LAYOUTS[@]}"; do
		refuses EPERM "$helper"
	done
}

# granted BYTES: the limit that is in force in all layouts.
granted() {
	local helper
	for helper in "${LAYOUTS[@]}"; do
		run -0 as_nobody "$STAGE/bin/wire" "$helper" hello hangup gone
		same "${lines[1]%% c=*}" "hello OK id=0 a=1 b=$1"
	done
}

policy() {
	rm -rf "$POLICY"
	printf '%s\n' "limit * 1M" "$@" >"$POLICY"
}

@test "a policy file that anybody but root may have written is not believed" {
	policy
	granted 1048576
	chown "$NOBODY_UID" "$POLICY"
	refused "owned by nobody"
	chown "$HELPER_UID" "$POLICY"
	refused "owned by the helper's account"
	policy
	chgrp "$NOBODY_GID" "$POLICY"
	chmod 664 "$POLICY"
	refused "writable by a group"
	policy
	chmod 646 "$POLICY"
	refused "writable by others"
	policy
	mv "$POLICY" "$WORK/policy"
	ln -s "$WORK/policy" "$POLICY"
	refused "a symbolic link"
	rm "$POLICY"
	ln -s "$WORK/none" "$POLICY"
	refused "a symbolic link to nothing"
	policy
	chmod 444 "$POLICY"
	granted 1048576
}

@test "a policy file that is no file, or too long, is refused at once" {
	local size
	rm -f "$POLICY"
	mkfifo -m 644 "$POLICY"
	refused "a pipe"
	rm "$POLICY"
	mkdir -m 755 "$POLICY"
	refused "a directory"
	rmdir "$POLICY"
	mknod -m 644 "$POLICY" c 1 3
	refused "a device"
	policy
	size=$(stat -c %s "$POLICY")
	printf '#%*s' $((65536 - size - 1)) "" >>"$POLICY"
	same "$(stat -c %s "$POLICY")" 65536
	granted 1048576
	printf ' ' >>"$POLICY"
	refused "a byte more than 64 KiB"
}

@test "a policy file with an unknown key is refused whole, and one that cannot be read is none" {
	policy "frobnicate * 1"
	refused "an unknown key"
	policy
	chmod 600 "$POLICY"
	refused "mode 0600, which but one layout could read"
}

# by_module COMMAND...: names are known from a module alone, which the C library
# has to load first.
by_module() {
	# shellcheck disable=SC2016 # for the shell that it starts
	unshare --mount --propagation private sh -c \
		'mount --bind "$0" /etc/nsswitch.conf && exec "$@"' "$WORK/nsswitch.conf" "$@"
}

# restricted PROGRAM: nobody may have 4 KiB, if the helper serves; never 16 MiB.
# Counts in REFUSED and GRANTED.
restricted() {
	run -0 by_module "${AS_NOBODY[@]}" "$STAGE/bin/wire" "$1" hello hangup gone 3>&-
	echo "${*:2}: $output"
	case $output in
	*"hello OK id=0 a=1 b=4096 "*) GRANTED=$((GRANTED + 1)) ;;
	*"hello EPERM "*) REFUSED=$((REFUSED + 1)) ;;
	*"hello closed"* | *"hello ENOMEM "*) ;;
	*) return 1 ;;
	esac
}

@test "a name that the system cannot be asked for is not taken for nobody's" {
	local helper limit module
	# The first that is there; the last is a part of the C library.
	for module in systemd compat files; do
		echo "passwd: $module" >"$WORK/nsswitch.conf"
		! by_module getent passwd nobody >/dev/null || break
	done
	policy "limit * 16M" "limit nobody 4K"
	for helper in "${LAYOUTS[@]}"; do
		run -0 as_user $((NOBODY_UID - 1)) "$STAGE/bin/wire" "$helper" hello hangup gone
		same "${lines[1]%% c=*}" "hello OK id=0 a=1 b=16777216"
		REFUSED=0 GRANTED=0
		restricted "$helper" control
		same "$REFUSED $GRANTED" "0 1" control
		# By their numbers almost everywhere: RLIMIT_NOFILE, _DATA and _AS.
		for limit in 7:{3..8} 2:{700000..1100000..8192} 9:{3000000..5500000..32768}; do
			hazardous "$helper" "limit=$limit"
			restricted "$PROGRAM" "$helper" "$limit"
		done
		# From where it cannot be asked for to where it can; B raises all limits.
		[ "$GRANTED" -ge 2 ]
		[ "$REFUSED" -ge 1 ] || [ "$helper" = "$HELPER_B" ] || [ "$module" = files ]
	done
}

@test "a name that is not known is an error, and nobody is served" {
	policy "limit no-such-user-here 4K"
	refused "a user that is not known"
	policy "limit @no-such-group-here 4K"
	refused "a group that is not known"
}

@test "its name and its place are nothing to it" {
	local helper number=0
	for helper in "${LAYOUTS[@]}"; do
		mkdir -p "$WORK/$number/bin"
		# As it might look for them from where it is.
		echo "limit * 4K" | tee "$WORK/secmalloc.conf" "$WORK/$number/secmalloc.conf" \
			"$WORK/$number/bin/secmalloc.conf" >/dev/null
		ln "$helper" "$WORK/$number/bin/another-name"
		ln -s "$WORK/$number/bin/another-name" "$WORK/$number/link"
		serves "$WORK/$number/bin/another-name"
		serves "$WORK/$number/link"
		mv "$WORK/$number/bin" "$WORK/$number/moved"
		serves "$WORK/$number/moved/another-name"
		serves "$helper" argv0=/etc/shadow
		serves "$helper" argv0=--version
		serves "$helper" "argv0=''"
		number=$((number + 1))
	done
	# A copy has no privilege, and takes none from where it is.
	as_nobody cp "$HELPER_A" "$WORK/copy"
	refuses EPERM "$WORK/copy"
}

@test "without a ledger's directory of its own it serves nobody, but where root can make one" {
	local helper
	for helper in "$HELPER_A" "$HELPER_B"; do
		rm -rf "$LEDGER"
		[ "$helper" = "$HELPER_B" ] || refuses EPERM "$helper"
		: >"$LEDGER"
		chown "$HELPER_UID" "$LEDGER"
		chmod 700 "$LEDGER"
		refuses EPERM "$helper"
		rm "$LEDGER"
		install -d -o "$HELPER_UID" -m 700 "$WORK/ledger"
		ln -s "$WORK/ledger" "$LEDGER"
		refuses EPERM "$helper"
		rm "$LEDGER"
		install -d -o "$NOBODY_UID" -m 700 "$LEDGER"
		refuses EPERM "$helper"
		for mode in 710 701 770 707 755; do
			rm -rf "$LEDGER"
			install -d -o "$HELPER_UID" -m $mode "$LEDGER"
			refuses EPERM "$helper"
		done
		rm -rf "$LEDGER"
		install -d -o "$HELPER_UID" -m 700 "$LEDGER"
		serves "$helper"
	done
	rm -rf "$LEDGER"
	serves "$HELPER_C"
	[ ! -e "$LEDGER" ]
	serves "$HELPER_B"
	same "$(stat -c '%a %u %F' "$LEDGER")" "700 $HELPER_UID directory" made
	serves "$HELPER_A"
}

# left_alone HELPER PATH...: it refuses, and owner and mode stay as they are.
left_alone() {
	local before
	before=$(stat -c '%n %F %a %u %g' "${@:2}")
	refuses EPERM "$1"
	same "$(stat -c '%n %F %a %u %g' "${@:2}")" "$before"
}

@test "a directory that was made and not handed over is taken over" {
	rm -rf "$LEDGER"
	install -d -o 0 -g 0 -m 700 "$LEDGER"
	left_alone "$HELPER_A" "$LEDGER"
	serves "$HELPER_B"
	same "$(stat -c '%a %u %F' "$LEDGER")" "700 $HELPER_UID directory" directory
	same "$(stat -c '%a %u' "$LEDGER/ledger")" "600 $HELPER_UID" ledger
	serves "$HELPER_A"
}

@test "what the helper has not made itself is not given to its account" {
	local helper mode target=$WORK/target
	for helper in "$HELPER_B" "$HELPER_A"; do
		for mode in 755 750 701 1777; do
			rm -rf "$LEDGER"
			install -d -o 0 -g 0 -m $mode "$LEDGER"
			left_alone "$helper" "$LEDGER"
		done
		rm -rf "$LEDGER" "$target"
		install -d -o 0 -g 0 -m 700 "$target"
		ln -s "$target" "$LEDGER"
		left_alone "$helper" "$LEDGER" "$target"
		rm "$LEDGER"
		install -d -o "$NOBODY_UID" -g "$NOBODY_GID" -m 700 "$LEDGER"
		left_alone "$helper" "$LEDGER"
		rmdir "$LEDGER"
		install -o 0 -g 0 -m 600 /dev/null "$LEDGER"
		left_alone "$helper" "$LEDGER"
	done
}

@test "a ledger that others could open, or that is no file, is not used" {
	local helper file=$LEDGER/ledger
	for helper in "$HELPER_A" "$HELPER_B"; do
		rm -f "$file"
		install -o "$HELPER_UID" -m 600 /dev/null "$WORK/elsewhere"
		ln -s "$WORK/elsewhere" "$file"
		refuses EPERM "$helper"
		rm "$file"
		ln -s "$WORK/none" "$file"
		refuses EPERM "$helper"
		[ ! -e "$WORK/none" ]
		rm "$file"
		mkfifo -m 600 "$file"
		chown "$HELPER_UID" "$file"
		refuses EPERM "$helper"
		rm "$file"
		install -d -o "$HELPER_UID" -m 700 "$file"
		refuses EPERM "$helper"
		rmdir "$file"
		install -o "$NOBODY_UID" -m 600 /dev/null "$file"
		refuses EPERM "$helper"
		for mode in 660 606 640 604 666; do
			install -o "$HELPER_UID" -m $mode /dev/null "$file"
			refuses EPERM "$helper"
		done
		install -o "$HELPER_UID" -m 600 /dev/null "$file"
		serves "$helper"
	done
}

# as_user UID COMMAND...
as_user() {
	setpriv --reuid "$1" --regid "$1" --clear-groups --inh-caps=-all \
		prlimit --memlock=0:0 "${@:2}"
}

@test "the user with the largest number is served, and charged for it" {
	local helper largest=4294967294
	for helper in "${LAYOUTS[@]}"; do
		talk as_user $largest "$STAGE/bin/wire" "$helper"
		expect hello "hello OK id=0 a=1 b=$MIB64 c=$MIB64"
		locks
		run -0 "$HELPER_NONE" --usage
		if [ "$helper" = "$HELPER_C" ]; then
			[[ $output != *$largest* ]]
		else
			[[ $output =~ $largest\ +1\ +$KIB256 ]]
		fi
		ends
	done
}

@test "only who is root by real user is taken for root" {
	local helper
	printf '%s\n' "limit * 1M" "limit 0 8M" "limit $NOBODY_UID 2M" >"$POLICY"
	for helper in "${LAYOUTS[@]}" "$HELPER_NONE"; do
		echo "$helper"
		run -0 setpriv --ruid "$NOBODY_UID" "$STAGE/bin/wire" "$helper" hello hangup gone
		if [ "$helper" = "$HELPER_C" ]; then
			# Neither root, who could become the account, nor just nobody.
			same "${lines[1]}" "hello EPERM id=0 a=0 b=0 c=0"
		else
			same "${lines[1]%% c=*}" "hello OK id=0 a=1 b=2097152"
		fi
		run -0 setpriv --reuid $((NOBODY_UID - 1)) --clear-groups --inh-caps=-all \
			"$STAGE/bin/wire" "$HELPER_A" hello hangup gone
		same "${lines[1]%% c=*}" "hello OK id=0 a=1 b=1048576"
		run -0 "$STAGE/bin/wire" "$helper" hello hangup gone
		same "${lines[1]%% c=*}" "hello OK id=0 a=1 b=8388608"
	done
}

# listens: root waits at $WORK/socket for a helper to be connected.
listens() {
	coproc LISTENER { exec "$STAGE/bin/start" --listen "$WORK/socket" 2>&1; } 3>&-
	SPARE=$LISTENER_PID
	read -r -t 10 -u "${LISTENER[0]}" REPLY
	same "$REPLY" listening
}

# borrows UID HELPER [HAZARD...]: UID gives HELPER that socket, whose peer is root.
# Counts in ROOT and OTHERS whom the ledger names while the helper lives.
borrows() {
	local borrower charged user
	as_user "$1" "$STAGE/bin/start" "peer=$WORK/socket" "${@:3}" -- "$2" 3>&- &
	borrower=$!
	read -r -t 10 -u "${LISTENER[0]}" REPLY
	charged=$("$STAGE/bin/secmalloc-helper-named" --usage)
	echo >&"${LISTENER[1]}"
	wait "$borrower" || true
	charged=$(awk 'NR > 1 && $1 != "total" { print $1 }' <<<"$charged" | xargs)
	echo "user $1, ${*:2}: $REPLY, charged: $charged"
	for user in $charged; do
		[ "$user" = root ] && ROOT=$((ROOT + 1)) || OTHERS=$((OTHERS + 1))
	done
}

@test "who is charged is the caller, also where limits keep the helper from finding its account out" {
	requires account:daemon
	local helper value
	chown daemon "$LEDGER"
	listens
	for helper in "$HELPER_NAMED_A" "$HELPER_NAMED_B"; do
		ROOT=0 OTHERS=0
		borrows 0 "$helper"
		same "$ROOT $OTHERS" "1 0" control
		ROOT=0
		# RLIMIT_NOFILE, _DATA and _AS, as above.
		for value in {3..6}; do
			borrows "$NOBODY_UID" "$helper" "soft-limit=7:$value"
		done
		for value in {600000..1000000..8192}; do
			borrows "$NOBODY_UID" "$helper" "soft-limit=2:$value"
		done
		for value in {2500000..4500000..20480}; do
			borrows "$NOBODY_UID" "$helper" "soft-limit=9:$value"
		done
		same "$ROOT" 0 "$helper"
		# From where the program cannot be loaded to where all is as usual.
		[ "$OTHERS" -ge 3 ]
	done
}

@test "descriptors that nobody receives are an answer to others at worst, and never the end" {
	local few=(as_nobody prlimit --nofile=8:8 "$STAGE/bin/wire" "$HELPER_A") to
	talk "${few[@]}"
	expect hello "hello OK *"
	coproc UNREAD { as_user $((NOBODY_UID - 1)) "$STAGE/bin/start" --unread 20 "$HELPER_A" 2>&1; } 3>&-
	read -r -t 10 -u "${UNREAD[0]}" REPLY
	same "$REPLY" "20 unread"
	SPARE=$UNREAD_PID
	# They count for all helpers of one account, by the limit of who sends.
	expect "grant=$KIB256" "grant ENOMEM id=0 a=0 b=0 c=0"
	expect status "status OK id=0 a=0 b=0 c=$MIB64"
	expect hangup hangup
	expect gone "gone 0 promptly"
	# The other process of ours may hold open what it reads from.
	kill "$CLIENT"
	hang_up
	run -0 "${few[@]}" hello hangup gone
	same "${lines[1]}" "hello ENOMEM id=0 a=0 b=0 c=0"
	same "${lines[-1]}" "gone 0 promptly"
	serves "$HELPER_A"
	to=${UNREAD[1]}
	exec {to}>&-
	wait "$SPARE" || true
	SPARE=
	sleep 0.1
	run -0 "${few[@]}" hello "grant=$KIB256" hangup gone
	[[ ${lines[2]} == "grant OK id=1 "* ]]
}

# --- What it asks of the system ---

# documented: the calls that the manual lists, one a line.
documented() {
	sed -n '/^\.\\" syscalls begin/,/^\.\\" syscalls end/p' \
		"$abs_top_srcdir/man/secmalloc-helper.8" | grep -v '^\.\\"' |
		tr -s '[:blank:]' '\n' | grep -Ex '[a-z_][a-z0-9_]*' | sort -u
}

# asked: those that TRACE shows after the filter was loaded.
asked() {
	sed '1,/^seccomp(SECCOMP_SET_MODE_FILTER, .*= 0$/d' "$TRACE" |
		sed -En 's/^([a-z_][a-z0-9_]*)\(.*/\1/p' | sort -u
}

@test "in a whole life it makes no system call but those that the manual lists" {
	requires command:strace seccomp
	local helper calls undocumented
	calls=$(documented)
	[ -n "$calls" ]
	for helper in "${LAYOUTS[@]}"; do
		talk_traced "$helper"
		expect hello "hello OK *"
		expect "grant=1" "grant EINVAL *"
		expect "grant=$((2 * MIB64))" "grant EDQUOT *"
		expect "grant=$KIB256" "grant OK *"
		expect lock=1 "lock EINVAL *"
		expect "grant=$KIB256" "grant OK *"
		expect populate
		expect lock=2 "lock OK *"
		expect status "status OK *"
		expect release=2 "release OK *"
		expect "grant=$KIB256" "grant OK *"
		expect populate
		expect lock=3 "lock OK *"
		expect adopt "adopt OK *"
		expect keep "keeper *"
		SPARE=${REPLY#keeper }
		expect packet=99 "packet closed"
		sleep 0.3
		kill -KILL "$SPARE"
		SPARE=
		expect unmap
		expect gone "gone 0 promptly"
		hang_up
		undocumented=$(comm -23 <(asked) <(echo "$calls"))
		same "$undocumented" "" "$helper"
		for call in recvmsg sendmsg memfd_create fstatfs mlock clock_nanosleep exit_group; do
			asked | grep -qx $call
		done
	done
	# With one entry fewer it would be noticed.
	same "$(comm -23 <(asked) <(echo "$calls" | grep -vx mlock))" mlock control
}

@test "the manual lists exactly what the filter permits" {
	diff <(documented) \
		<(grep -oE '\{ "[a-z0-9_]+", [0-9]' "$abs_top_srcdir/helper/sandbox.c" |
			cut -d'"' -f2 | sort -u)
}

# strays CALL...: a helper that makes it; its end is in output.
strays() {
	local helper=$WORK/filter/secmalloc-helper
	if [ ! -e "$helper" ]; then
		install -D -o "$HELPER_UID" -g 0 -m 755 "$STAGE/bin/secmalloc-helper-faults" "$helper"
		chmod 4755 "$helper"
		setcap cap_ipc_lock=p "$helper"
		truncate -s 4096 "$helper.plan"
		chown "$HELPER_UID" "$helper.plan"
	fi
	echo "$1"
	"$STAGE/bin/start" --plan "$helper.plan" "$1"
	run -0 as_nobody "$STAGE/bin/start" --end "$helper"
	echo "$output"
	# The last of the plan's numbers: whether the call was made.
	same "$(od -An -t u4 -j 44 -N 4 "$helper.plan" | tr -d ' ')" 1 made
}

@test "a call that is not permitted, or not so, is its end" {
	requires seccomp
	local call sigsys
	sigsys=$(kill -l SYS)
	for call in "mmap executable" "mmap writable" "mmap shared" \
		"mmap shared and writable" "mprotect to read" "fcntl F_SETFL" \
		"fcntl F_DUPFD" "fcntl F_OFD_SETLKW" "fcntl F_SETOWN" "ioctl FIONREAD" \
		"ioctl on another descriptor" "fchmod to 0777" openat socket execve clone \
		kill ptrace setuid process_vm_readv "write to the socket"; do
		strays "$call"
		same "$output" "hello -1 killed $sigsys"
	done
	if [ "$(uname -m)" = x86_64 ]; then
		for call in open "a call of another ABI"; do
			strays "$call"
			same "$output" "hello -1 killed $sigsys"
		done
	fi
	for call in "mmap readable" "mprotect to none" "fcntl F_ADD_SEALS" \
		"ioctl SIOCOUTQ" "fchmod to 0" close "write to the log"; do
		strays "$call"
		same "$output" "hello 0 exited 0"
	done
}
