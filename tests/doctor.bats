#!/usr/bin/env bats
# What secmalloc(1) says of set-ups that were broken on purpose: the cause, and a
# remedy, which is then applied as it was printed, by root, and does what it should.

# shellcheck disable=SC2030,SC2031 # each test is a subshell, as it should be
# shellcheck disable=SC2317 # some functions are called by run alone
load helpers

# As a socket unit starts a helper; see tests/socket.bats.
AS_ACCOUNT=(setpriv --reuid "$HELPER_UID" --regid "$HELPER_UID" --clear-groups
	"--inh-caps=-all,+ipc_lock" "--ambient-caps=-all,+ipc_lock"
	"--bounding-set=-all,+ipc_lock" --)

OTHER_UID=64739

setup_file() {
	unset MAKEFLAGS MFLAGS MAKELEVEL
	install -m 755 "$abs_top_builddir/secmalloc" "$STAGE/bin/secmalloc"
}

setup() {
	DIR=$(mktemp -d "$STAGE/doctor.XXXXXX")
	chmod 755 "$DIR"
	HELPER=$DIR/secmalloc-helper
	SOCK=$DIR/secmalloc.socket
	HERE=()
	hold_setup "$STAGE/bin" "$BATS_TEST_TMPDIR"
}

teardown() {
	local name child pid children=()
	for name in "${!HOLD_PID[@]}"; do
		hold_kill "$name"
	done
	if [ -e "$DIR/listener" ]; then
		pid=$(<"$DIR/listener")
		read -ra children <"/proc/$pid/task/$pid/children" || true
		for child in "${children[@]}"; do
			kill -KILL "$child" 2>/dev/null || true
		done
		kill -KILL "$pid" 2>/dev/null || true
		gone "$pid"
	fi
	[ "$(id -u)" != 0 ] || rm -rf "$POLICY"
	rm -rf "$DIR"
}

# A helper that works, to be broken.
place() {
	requires root helper-a
	rm -f "$HELPER"
	cp -a "${1:-$HELPER_A}" "$HELPER"
}

# doctor [ARG...]: as nobody, who may lock nothing; by HERE, if it says how.
doctor() {
	as_nobody "${HERE[@]}" "$STAGE/bin/secmalloc" doctor --helper "$HELPER" \
		--socket "$SOCK" "$@"
}

# says LEVEL NAME TEXT: in the output, a line of that check, with the text in it.
says() {
	local line
	while read -r line; do
		[[ $line == "$1  $2 "*"$3"* ]] && return
	done <<<"$output"
	echo "no line with $1 $2 $3 in: $output"
	return 1
}

# Nobody and nothing is at fault.
fine() {
	run -0 doctor
	[[ $output != *FAIL* ]]
	[[ $output != *"First of all"* ]]
	[[ $output == *"Locked memory: yes, by "* ]]
}

# broken STATUS NAME TEXT REMEDY: what is found, and what is to be done before all
# else. Sets REMEDY to the latter, as it was printed.
broken() {
	run -"$1" doctor
	says FAIL "$2" "$3"
	REMEDY=$(sed -n 's/^First of all, as root: //p' <<<"$output")
	same "$REMEDY" "$4" remedy
	# It is that check's own, too.
	sed -n "/^FAIL  $2 /{n;p}" <<<"$output" | grep -qxF "      as root: $REMEDY"
}

# In the shell of an administrator, word by word as it was printed.
apply() {
	(cd "${1:-/}" && umask 022 && sh -euc "$REMEDY") 3>&-
}

# The words of systemctl that are printed, without systemd: a listener of its kind
# starts the program of the unit's ExecStart at the address of the socket unit, as the
# account and with the capability that the service unit names. What stands in is
# systemctl and systemd themselves, and the places, which are the test's.
systemctl_stands_in() {
	requires command:systemd-socket-activate command:setpriv
	local unit=$abs_top_srcdir/system
	grep -qx 'AmbientCapabilities=CAP_IPC_LOCK' "$unit/secmalloc@.service.in"
	mkdir "$DIR/path"
	cat >"$DIR/path/systemctl" <<-END
		#!$BASH
		set -euo pipefail
		[ "\$*" = "enable --now secmalloc.socket" ]
		address=\$(sed -n 's|@SOCKET_PATH@|$SOCK|; s/^ListenSequentialPacket=//p' \
			"$unit/secmalloc.socket.in")
		program=\$(sed -n 's|@libexecdir@|${HELPER_NONE%/*}|; s/^ExecStart=//p' \
			"$unit/secmalloc@.service.in")
		cd /
		${AS_ACCOUNT[*]} systemd-socket-activate --seqpacket --accept --inetd \
			-l "\$address" "\$program" </dev/null >"$DIR/said" 2>&1 &
		echo \$! >"$DIR/listener"
		for ((i = 0; i < 500; i++)); do
			grep -q '^Listening' "$DIR/said" && break
			sleep 0.01
		done
		chmod 666 "\$address"
	END
	chmod 755 "$DIR/path/systemctl"
	# The listener makes its socket here.
	chown "$HELPER_UID" "$DIR"
	PATH=$DIR/path:$PATH
}

# --- what is fine ------------------------------------------------------------

@test "control: of a helper that works nothing is at fault, in each layout" {
	requires root helper-a helper-b helper-c
	for helper in "$HELPER_A" "$HELPER_B" "$HELPER_C"; do
		place "$helper"
		fine
		[[ $output == *"Locked memory: yes, by the helper." ]]
		says PASS lock-helper "64 KiB locked and verified"
		says INFO lock-process "secmalloc_init: "
		[[ $output != *"as root: s"* ]]
	done
}

@test "root is told that others may less, and sees its pages as the kernel does" {
	place
	run -0 "$STAGE/bin/secmalloc" doctor --helper "$HELPER" --socket "$SOCK" 3>&-
	says INFO user "sudo -u USER secmalloc doctor"
	says PASS lock-helper "the kernel has 16 of 16 pages as mlocked and unevictable"
	says PASS lock-process "the kernel has 16 of 16 pages as mlocked and unevictable"
}

@test "without a helper and without root, it says what this process may" {
	run as_nobody "$STAGE/bin/secmalloc" doctor --helper "$HELPER" --socket "$SOCK"
	[ "$status" = 2 ]
	[[ $output == *$'\nLocked memory: no.\n'* ]]
	if [ "$(id -u)" != 0 ]; then
		run prlimit --memlock=1048576:1048576 -- "$STAGE/bin/secmalloc" doctor \
			--helper "$HELPER" --socket "$SOCK" 3>&-
		# Where its hard limit is lower, it cannot be raised.
		[[ $output == *"failed to set"* ]] || {
			[ "$status" != 2 ]
			[[ $output == *"Locked memory: yes, by this process itself."* ]]
		}
	fi
}

# A helper whose mlock() does nothing, and says that it did.
@test "control: what is said to be locked and is not, the kernel's own flags tell" {
	requires root helper-none
	read -ra cc <<<"${CC:-cc}"
	echo '#include <stddef.h>
int mlock(const void *at, size_t size) { (void)at; (void)size; return 0; }' |
		"${cc[@]}" -shared -fPIC -xc - -o "$DIR/liar.so"
	printf '#!/bin/sh\nLD_PRELOAD=%s exec %s "$@"\n' "$DIR/liar.so" "$HELPER_NONE" >"$HELPER"
	chmod 755 "$HELPER"
	run -1 "$STAGE/bin/secmalloc" doctor --helper "$HELPER" --socket "$SOCK" 3>&-
	says FAIL lock-helper "the kernel has only 0 of 16 pages as mlocked and unevictable"
	[[ $output == *"Locked memory: yes, by this process itself."* ]]
}

# --- what is broken, and mended as it says -------------------------------------

# The tree's own `make`, to a prefix that is the test's, with the helper that the
# tests have, which leaves the machine's policy and ledger alone.
@test "a helper that is missing" {
	requires root helper-a
	! grep -qx 'PRIVILEGE = none' "$abs_top_builddir/Makefile" ||
		skip "is nothing to mend in this build"
	HELPER=$DIR/libexec/secmalloc-helper
	broken 2 helper "$HELPER: No such file or directory" "make install install-privileged"
	export MAKEFLAGS="prefix=$DIR exec_prefix=$DIR sysconfdir=$DIR/etc \
systemdsystemunitdir=$DIR/units libexec_PROGRAMS=tests/secmalloc-helper \
PRIVILEGE=setuid HELPER_USER=$HELPER_UID LEDGER_DIR=$LEDGER"
	apply "$abs_top_builddir" >"$DIR/make.log" 2>&1
	unset MAKEFLAGS
	fine
}

@test "a set-user-ID bit that is missing" {
	place
	chmod 0755 "$HELPER"
	# By its capability it locks yet, but its user may kill it.
	broken 1 mode "$HELPER has mode 0755: the set-user-ID bit is missing" \
		"chmod 4755 $HELPER"
	apply
	fine
}

@test "a capability that is missing" {
	place
	setcap -r "$HELPER"
	broken 2 capability "$HELPER lacks cap_ipc_lock" "setcap cap_ipc_lock=p $HELPER"
	apply
	fine
}

@test "a helper of another owner" {
	place
	chown "$OTHER_UID" "$HELPER"
	chmod 4755 "$HELPER"
	setcap cap_ipc_lock=p "$HELPER"
	broken 2 owner "$HELPER belongs to $OTHER_UID, and not to $HELPER_UID" \
		"chown $HELPER_UID $HELPER && chmod 4755 $HELPER && setcap cap_ipc_lock=p $HELPER"
	apply
	fine
}

# In a mount namespace, which takes the mount with it; the kernel tells of its blank
# by a number.
@test "a file system that is mounted nosuid" {
	place
	mv "$HELPER" "$DIR/aside"
	cat >"$DIR/script" <<-'END'
		set -euo pipefail
		mkdir "$DIR/a mount"
		mount -t tmpfs -o nosuid,nodev,mode=755 none "$DIR/a mount"
		HELPER="$DIR/a mount/secmalloc-helper"
		cp -a "$DIR/aside" "$HELPER"
		doctor=(prlimit --memlock=0:0 -- setpriv --reuid 65534 --regid 65534
			--clear-groups --inh-caps=-all -- "$STAGE/bin/secmalloc" doctor
			--helper "$HELPER" --socket "$DIR/none")
		"${doctor[@]}" >"$DIR/before" && exit 1
		echo "status $?"
		sh -euc "$(sed -n 's/^First of all, as root: //p' "$DIR/before")"
		"${doctor[@]}" >"$DIR/after"
		echo "status $?"
		findmnt -no OPTIONS "$DIR/a mount"
	END
	export DIR
	run -0 unshare --mount "$BASH" "$DIR/script" 3>&-
	[[ $output == "status 2"$'\n'"status 0"$'\n'*nodev* ]]
	[[ $output != *nosuid* ]]
	grep -q "^FAIL  nosuid .*$DIR/a mount is mounted nosuid" "$DIR/before"
	grep -qx "First of all, as root: mount -o remount,bind,suid '$DIR/a mount'" \
		"$DIR/before"
	run -1 grep FAIL "$DIR/after"
}

# use_socket NAME TEXT: where a helper gets no privilege, that of a socket has one.
use_socket() {
	place
	systemctl_stands_in
	broken 2 "$1" "$2" "systemctl enable --now secmalloc.socket"
	apply
	fine
	says INFO "$1" "$2"
	says PASS socket "$SOCK: a helper serves"
	[[ $output == *"Locked memory: yes, by the helper of the socket." ]]
}

@test "no_new_privs" {
	HERE=(setpriv --no-new-privs --)
	use_socket no_new_privs "no_new_privs is set"
}

@test "a bounding set without the capability" {
	requires root
	# Only root may lower it: before it becomes nobody.
	doctor() {
		setpriv --bounding-set=-ipc_lock -- "${AS_NOBODY[@]}" \
			"$STAGE/bin/secmalloc" doctor --helper "$HELPER" --socket "$SOCK" 3>&-
	}
	use_socket bounding-set "it lacks CAP_IPC_LOCK"
}

@test "a user namespace" {
	requires userns
	HERE=(unshare --user --)
	use_socket user-namespace "this is a user namespace"
}

@test "a quota that is spent" {
	place
	echo 'limit * 256K' >"$POLICY"
	SECMALLOC_TEST_HELPER=$HELPER hold_start all secret "${AS_NOBODY[@]}" \
		"$STAGE/bin/hold" secmalloc 4096 all
	broken 2 quota "nothing is left of the 256 KiB that the policy allows this user" \
		"echo 'limit $NOBODY_UID 64M' >>$POLICY && chmod 0644 $POLICY"
	apply
	fine
	says PASS quota "63.7 MiB left of 64 MiB"
	hold_end all
}

@test "a policy with an error" {
	place
	printf '%s\n' 'limit * 64M' 'limti @web 4G' 'helpers * 8' >"$POLICY"
	broken 2 policy "$POLICY:2: 'limti' is no keyword" "sed -i '2s/^/#/' $POLICY"
	apply
	fine
	same "$(<"$POLICY")" $'limit * 64M\n#limti @web 4G\nhelpers * 8' policy
}

@test "a total that is spent" {
	place
	printf '%s\n' 'total 256K' 'limit 0 1M' >"$POLICY"
	SECMALLOC_TEST_HELPER=$HELPER hold_start all secret "$STAGE/bin/hold" \
		secmalloc 4096 all
	broken 2 quota "too little is left of the 256 KiB that the policy allows all users" \
		"touch $POLICY && sed -i '/^[[:space:]]*total[[:space:]]/d' $POLICY && echo 'total 64M' >>$POLICY && chmod 0644 $POLICY"
	apply
	fine
	same "$(<"$POLICY")" $'limit 0 1M\ntotal 64M' policy
	hold_end all
}

@test "helpers that are all in use" {
	place
	echo 'helpers * 1' >"$POLICY"
	SECMALLOC_TEST_HELPER=$HELPER hold_start all secret "${AS_NOBODY[@]}" \
		"$STAGE/bin/hold" secmalloc 4096 all
	broken 2 quota "this user has as many helpers as the policy allows, 1:" \
		"echo 'helpers $NOBODY_UID 64' >>$POLICY && chmod 0644 $POLICY"
	apply
	fine
	hold_end all
}

@test "one helper is enough for all that it tries" {
	place
	echo 'helpers * 1' >"$POLICY"
	for _ in 1 2 3; do
		fine
	done
}

@test "a policy that others may write to, and one that not all may read" {
	place
	echo 'limit * 64M' >"$POLICY"
	chmod 0666 "$POLICY"
	broken 2 policy "can be written by others than root" \
		"chown root $POLICY && chmod 0644 $POLICY"
	apply
	fine
	chmod 0600 "$POLICY"
	broken 2 policy "Permission denied" "mv $POLICY $POLICY.wrong"
	chmod 0640 "$POLICY"
	chgrp "$NOBODY_GID" "$POLICY"
	broken 2 policy "cannot be read by all" "chmod 0644 $POLICY"
	apply
	fine
}

@test "a ledger that is missing, and one that is not the helper's" {
	place
	rm -rf "$LEDGER"
	broken 2 ledger "$LEDGER: No such file or directory" \
		"install -d -o $HELPER_UID -g root -m 0700 $LEDGER"
	apply
	fine
	chown 0 "$LEDGER"
	broken 2 ledger "$LEDGER belongs to 0 and has mode 0700" \
		"chown $HELPER_UID $LEDGER && chmod 0700 $LEDGER"
	apply
	fine
}

@test "a directory that is closed, whatever it is called" {
	requires root helper-a
	HELPER="$DIR/it's closed/secmalloc-helper"
	install -d -m 700 "${HELPER%/*}"
	cp -a "$HELPER_A" "$HELPER"
	broken 2 helper "$DIR/it's closed is closed to this user" \
		"chmod a+x '$DIR/it'\\''s closed'"
	apply
	fine
}

@test "a helper that hangs, one that talks nonsense and one that is none do not keep it" {
	requires root
	for script in 'exec sleep 60' 'echo nonsense >&0' 'kill -SEGV $$'; do
		printf '#!/bin/sh\n%s\n' "$script" >"$HELPER"
		chmod 755 "$HELPER"
		run -2 doctor
		says FAIL helper "$HELPER: "
	done
}

# In a mount namespace where /etc is a copy: the user becomes a member there only.
@test "a helper for the members of a group" {
	requires root helper-a command:usermod account:daemon account:nobody
	place
	chgrp daemon "$HELPER"
	chmod 4750 "$HELPER"
	setcap cap_ipc_lock=p "$HELPER"
	cp -a /etc "$BATS_TEST_TMPDIR/etc"
	cat >"$DIR/script" <<-'END'
		set -euo pipefail
		mount --bind "$1" /etc
		doctor=(prlimit --memlock=0:0 -- setpriv --reuid nobody --regid 65534
			--init-groups --inh-caps=-all -- "$STAGE/bin/secmalloc" doctor
			--helper "$DIR/secmalloc-helper" --socket "$DIR/none")
		"${doctor[@]}" >"$DIR/before" && exit 1
		sh -euc "$(sed -n 's/^First of all, as root: //p' "$DIR/before")" >/dev/null
		"${doctor[@]}"
	END
	export DIR
	run -0 unshare --mount "$BASH" "$DIR/script" "$BATS_TEST_TMPDIR/etc" 3>&-
	says PASS helper "$HELPER"
	says PASS mode 4750
	grep -q "^FAIL  helper .*$HELPER may not be executed by this user: it has mode 4750" \
		"$DIR/before"
	grep -qx 'First of all, as root: usermod -aG daemon nobody' "$DIR/before"
}

@test "what is wrong with a helper while the socket serves is a warning" {
	place
	systemctl_stands_in
	REMEDY="systemctl enable --now secmalloc.socket"
	apply
	setcap -r "$HELPER"
	fine
	says WARN capability "$HELPER lacks cap_ipc_lock"
	[[ $output == *"      as root: setcap cap_ipc_lock=p $HELPER"* ]]
}

@test "a socket at which nobody listens is a warning, and where there is no helper a fault" {
	requires command:python3
	place
	python3 -c 'import socket, sys
socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).bind(sys.argv[1])' "$SOCK"
	chmod 666 "$SOCK"
	fine
	says WARN socket "$SOCK: nobody listens"
	setcap -r "$HELPER"
	run -2 doctor
	says FAIL socket "$SOCK: nobody listens"
	[[ $output == *"      as root: systemctl restart secmalloc.socket"* ]]
}

@test "who is traced is told" {
	requires command:strace
	place
	# What looks for leaks would be a tracer itself.
	HERE=(env ASAN_OPTIONS=detect_leaks=0 strace -f -qq -o /dev/null)
	run -2 doctor
	says FAIL traced "a helper that is started then gets no privilege"
	[[ $output == *"Where no check has a reason, the log has it"* ]]
}

@test "what others may write to is no helper" {
	place
	chmod 4777 "$HELPER"
	broken 1 mode "$HELPER has mode 4777: others may write to it" "chmod 4755 $HELPER"
	apply
	fine
}

# What the kernel would say of another machine, and systemctl, are stood in for, in a
# mount namespace; the unit is masked where systemctl would.
@test "swap, zram, and a hibernation that writes all memory to what is not encrypted" {
	place
	[ -d /etc/systemd/system ] || skip "needs /etc/systemd/system"
	mkdir -p "$DIR/power" "$DIR/path" "$DIR/block/zram1"
	printf '%s\n' /dev/backing >"$DIR/block/zram1/backing_dev"
	printf '%s\n' 'freeze mem disk' >"$DIR/power/state"
	printf '%s\n' '[platform] shutdown' >"$DIR/power/disk"
	printf '%s\n' 'Filename Type Size Used Priority' \
		"$DIR/swap partition 1 0 -2" '/dev/zram0 partition 1 0 100' \
		'/dev/zram1 partition 1 0 100' >"$DIR/swaps"
	printf '%s\n' '|/bin/handler %P' >"$DIR/pattern"
	cat >"$DIR/path/systemctl" <<-'END'
		#!/bin/sh
		[ "$1" = mask ] && shift && for unit; do
			ln -s /dev/null "/etc/systemd/system/$unit" || exit
		done
	END
	chmod 755 "$DIR/path/systemctl"
	cat >"$DIR/script" <<-'END'
		set -euo pipefail
		mount -t tmpfs none /etc/systemd/system
		mount --bind "$DIR/power" /sys/power
		mount --bind "$DIR/block" /sys/block
		mount --bind "$DIR/swaps" /proc/swaps
		mount --bind "$DIR/pattern" /proc/sys/kernel/core_pattern
		doctor=(prlimit --memlock=0:0 -- setpriv --reuid 65534 --regid 65534
			--clear-groups --inh-caps=-all -- "$STAGE/bin/secmalloc" doctor
			--helper "$DIR/secmalloc-helper" --socket "$DIR/none")
		"${doctor[@]}" | tee "$DIR/before"
		remedy=$(grep -A1 '^WARN  hibernation' "$DIR/before" | sed -n 's/^ *as root: //p')
		PATH=$DIR/path:$PATH sh -euc "$remedy"
		"${doctor[@]}" >"$DIR/after"
	END
	export DIR
	run -0 unshare --mount "$BASH" "$DIR/script" 3>&-
	says INFO swap "$DIR/swap, /dev/zram0, /dev/zram1: no locked memory goes"
	says INFO zram "/dev/zram0, /dev/zram1: compressed memory, and may be written to /dev/backing"
	says WARN hibernation "it writes all memory, also what is locked, to $DIR/swap, which"
	says PASS core-files "they go to a program (/bin/handler %P)"
	grep -q '^PASS  hibernation .*masked' "$DIR/after"
	rm -r "$DIR/power"
}

# --- how it says it --------------------------------------------------------------

# lines_of: LEVEL NAME of each check in the output.
lines_of() {
	sed -nE 's/^(PASS|INFO|WARN|FAIL)  ([^ ]+) .*/\1 \2/p' <<<"$output"
}

@test "--json is JSON, and says the same" {
	requires command:python3
	for wrong in no yes; do
		if [ "$(id -u)" = 0 ] && [ "$wrong" = no ]; then
			place
		else
			rm -f "$HELPER"
		fi
		run doctor
		text=$status
		listed=$(lines_of)
		[ "$(wc -l <<<"$listed")" -gt 20 ]
		run doctor --json
		same "$status" "$text" status
		python3 -m json.tool <<<"$output" >/dev/null
		same "$(python3 -c '
import json, sys
report = json.load(sys.stdin)
for check in report["checks"]:
    print(check["result"], check["name"])
assert report["status"] == int(sys.argv[1])
assert report["locked"] == (report["status"] != 2) == (report["by"] != [])
assert (report["remedy"] is None) == (report["status"] == 0)
' "$text" <<<"$output")" "$listed" checks
	done
}

@test "--json is JSON, whatever a path has in it" {
	requires command:python3
	HELPER=$DIR/$'a"b\\c\td\xff\xe9\n\xc3\xa4'
	run doctor --json
	same "$(python3 -c 'import json, sys; print(json.load(sys.stdin)["helper"].split("/")[-1].encode())' \
		<<<"$output")" "b'a\"b\\\\c\\td??\\n\\xc3\\xa4'" helper
	run doctor
	[[ $output != *$'\t'* ]]
}

@test "colour is for a terminal alone, which wants it" {
	requires command:script
	esc=$'\033'
	in_terminal() {
		script -qec "$1 $STAGE/bin/secmalloc doctor --helper $HELPER --socket $SOCK" /dev/null \
			</dev/null 3>&-
	}
	run in_terminal "env -u NO_COLOR TERM=xterm"
	[[ $output == *"${esc}[3"* ]]
	run in_terminal "env NO_COLOR=1 TERM=xterm"
	[[ $output == *PASS* && $output != *"$esc"* ]]
	run in_terminal "env -u NO_COLOR TERM=dumb"
	[[ $output == *PASS* && $output != *"$esc"* ]]
	TERM=xterm run doctor
	[[ $output == *PASS* && $output != *"$esc"* ]]
}

@test "wrong arguments are an error of their own" {
	for arguments in "" "doctr" "doctor --jsn" "doctor --helper" "doctor more" \
		"doctor --helper relative" "status --socket relative" "status more"; do
		# shellcheck disable=SC2086
		run -64 "$STAGE/bin/secmalloc" $arguments
		[[ $output == *"usage: secmalloc doctor"* ]]
	done
	run -0 "$STAGE/bin/secmalloc" --help
	[[ $output == "usage: secmalloc doctor"* ]]
	run -0 "$STAGE/bin/secmalloc" --version
	same "$output" "secmalloc $(sed -n 's/^Version: //p' "$abs_top_builddir/secmalloc.pc")"
	# shellcheck disable=SC2016
	run -74 bash -c '"$1" --help >/dev/full' bash "$STAGE/bin/secmalloc"
}

# complete_words WORD...: what the last one can be.
complete_words() {
	# shellcheck disable=SC2016
	"$BASH" -euc '
		source "$1"
		complete -p secmalloc >/dev/null
		COMP_WORDS=(secmalloc "${@:2}")
		COMP_CWORD=$(($# - 1))
		_secmalloc
		echo "${COMPREPLY[*]}"' bash "$abs_top_srcdir/tool/completion/secmalloc" "$@"
}

@test "the completion knows each command and option, as they are" {
	same "$(complete_words d)" doctor
	same "$(complete_words '')" "doctor status --help --version"
	same "$(complete_words doctor --j)" --json
	same "$(complete_words status '')" "--helper --json --socket"
	same "$(complete_words nonsense '')" ""
	same "$(complete_words doctor --helper "$STAGE/bin/hol")" "$STAGE/bin/hold"
	# No more and no less than the program has.
	same "$("$STAGE/bin/secmalloc" --help | grep -oE -- '--[a-z]+' | sort -u | paste -sd' ')" \
		"$(complete_words '' | cat - <(complete_words doctor '') | grep -oE -- '--[a-z]+' | sort -u | paste -sd' ')"
}

@test "the manual has each check that there is" {
	run doctor
	names=$(lines_of | cut -d' ' -f2)
	same "$(sed -n '/^\.\\" checks begin/,/^\.\\" checks end/s/^\.It //p' \
		"$abs_top_srcdir/man/secmalloc.1")" "$names"
}
