#!/usr/bin/env bats
# The helper of a socket that somebody else listens at: whom it serves, for whom
# memory is charged, and how the library finds it.

# shellcheck disable=SC2030,SC2031 # each test is a subshell, as it should be
load helpers
load state

MIB32=33554432
OTHER_UID=64739
CRYPTO_GID=64740

# As a socket unit starts it: its account, one capability, no way to another.
# The bounding set goes first, while there is a right to lower it.
AS_ACCOUNT=(setpriv --reuid "$HELPER_UID" --regid "$HELPER_UID" --clear-groups
	"--inh-caps=-all,+ipc_lock" "--ambient-caps=-all,+ipc_lock"
	"--bounding-set=-all,+ipc_lock" --)

setup() {
	requires root helper-a command:systemd-socket-activate command:setpriv
	PLACE=$STAGE/listen
	install -d -o "$HELPER_UID" -g 0 -m 755 "$PLACE"
	SOCK=$PLACE/secmalloc.socket
	LISTENERS=()
	hold_setup "$STAGE/bin" "$BATS_TEST_TMPDIR"
}

teardown() {
	local pid
	for pid in "${!HOLD_PID[@]}"; do
		hold_kill "$pid"
	done
	for pid in "${LISTENERS[@]}"; do
		end_listener "$pid"
	done
	other_remove
	memcg_remove
	rm -rf "${PLACE:-}" "${ROOT:-}" "${POLICY:-}"
}

# listen SOCKET PROGRAM [OPTION]: each who connects gets a PROGRAM of his own.
# Sets LISTENER.
listen() {
	local i
	(
		[ -z "${LISTEN_IN:-}" ] || echo "$BASHPID" >"$LISTEN_IN/cgroup.procs"
		umask 0
		cd "$STAGE" || exit
		exec env SECRET=hunter2 "${AS_ACCOUNT[@]}" systemd-socket-activate \
			"${3:---seqpacket}" --accept --inetd -E SECRET=hunter2 -l "$1" "$2"
	) </dev/null >"$BATS_TEST_TMPDIR/listener" 2>&1 3>&- &
	LISTENER=$!
	LISTENERS+=("$LISTENER")
	for ((i = 0; i < 500; i++)); do
		grep -q '^Listening' "$BATS_TEST_TMPDIR/listener" && break
		sleep 0.01
	done
	# It gives nobody the right to connect, whatever the umask.
	chmod 666 "$1"
}

# end_listener PID: and all that it has started.
end_listener() {
	local child
	for child in $(children "$1"); do
		kill -KILL "$child" 2>/dev/null || true
	done
	kill -KILL "$1" 2>/dev/null || true
	wait "$1" 2>/dev/null || true
}

# children PID: of its only thread.
children() {
	cat "/proc/$1/task/$1/children" 2>/dev/null || true
}

# running PROGRAM: processes of that file.
running() {
	find /proc/[0-9]*/exe -prune -lname "$1" 2>/dev/null | wc -l
}

# expect_helpers COUNT: so many serve, within five seconds. Sets HELPER, the last.
expect_helpers() {
	local -a found=()
	for _ in {1..500}; do
		read -r -a found < <(children "$LISTENER") || true
		[ "${#found[@]}" != "$1" ] || break
		sleep 0.01
	done
	HELPER=${found[*]: -1}
	same "${#found[@]}" "$1" helpers
}

# who UID [GROUP...]: sets WHO to what makes a command this user's, with
# RLIMIT_MEMLOCK 0 and no capability.
who() {
	local groups=(--clear-groups)
	[ "$#" = 1 ] || groups=(--groups "$(IFS=, && echo "${*:2}")")
	WHO=(prlimit --memlock=0:0 -- setpriv --reuid "$1" --regid "$NOBODY_GID"
		"${groups[@]}" --inh-caps=-all --ambient-caps=-all --)
}

# hold NAME BYTES [CMD...]: an object of so many bytes, kept by CMD's hold, that
# by default is nobody's.
hold() {
	local name=$1 bytes=$2
	shift 2
	[ "$#" -gt 0 ] || set -- "${AS_NOBODY[@]}"
	hold_start "$name" "$name-secret" "$@" "$STAGE/bin/hold" secmalloc "$bytes" "$name"
}

expect_locked() {
	hold_pages "$1"
	[ "${PAGES[pages]}" -gt 0 ]
	same "${PAGES[mlocked]} ${PAGES[unevictable]}" "${PAGES[pages]} ${PAGES[pages]}" locked
}

# init CMD...: what a start of the library comes to, of which it prints one line.
init() {
	"$@" </dev/null 3>&- | sed 's/ ms=.*//'
}

# policy LINE...: of the tests' helper.
policy() {
	printf '%s\n' "$@" >"$POLICY"
	chmod 644 "$POLICY"
}

# new_root SOCKET: a root directory that has the test programs, the libraries that
# they need, and room to bind SOCKET to, as it is called outside. Sets ROOT.
new_root() {
	local library
	ROOT=$STAGE/root
	rm -rf "$ROOT"
	install -d -m 755 "$ROOT/bin" "$ROOT/proc" "$ROOT${1%/*}"
	: >"$ROOT$1"
	install -m 755 "$STAGE/bin/hold" "$STAGE/bin/socket" "$ROOT/bin"
	for library in $(ldd "$STAGE/bin/hold" | grep -o '/[^ ]*'); do
		install -D -m 755 "$library" "$ROOT$library"
	done
}

# new_namespace SOCKET: sets BOUND to what runs a command where SOCK is bound to
# SOCKET in ROOT, and UNBOUND to the same without that; the mounts end with it. A
# sanitizer reads its own /proc.
new_namespace() {
	# shellcheck disable=SC2016
	local script='
		[ -z "$2" ] || mount --bind "$2" "$1$3"
		[ -z "${SANITIZER_CFLAGS:-}" ] || mount --bind /proc "$1/proc"
		exec "${@:4}"'
	UNBOUND=(unshare --mount --propagation private bash -euc "$script" bash "$ROOT" "" "")
	BOUND=("${UNBOUND[@]:0:${#UNBOUND[@]}-2}" "$SOCK" "$1")
}

# nobody_in_root: sets INSIDE to what makes a command nobody's in ROOT.
nobody_in_root() {
	INSIDE=(prlimit --memlock=0:0 -- chroot --userspec "$NOBODY_UID:$NOBODY_GID"
		--groups= "$ROOT")
}

# Where the library looks for the socket that nobody named.
usual_socket() {
	LC_ALL=C grep -aoE '/[[:graph:]]*/secmalloc\.socket' "$STAGE/bin/socket" | head -n 1
}

# --- whom it serves ----------------------------------------------------------

@test "a listening helper locks memory for nobody" {
	listen "$SOCK" "$HELPER_NONE"
	SECMALLOC_TEST_HELPER=$SOCK hold object 1048576
	expect_helpers 1
	expect_locked object
	hold_end object
	expect_helpers 0
}

@test "a listening helper is its account, with one capability and no way to more" {
	listen "$SOCK" "$HELPER_NONE"
	grep -qz '^SECRET=' "/proc/$LISTENER/environ"
	SECMALLOC_TEST_HELPER=$SOCK hold object 65536
	expect_helpers 1
	state "$HELPER_UID" "$HELPER_UID"
	same "$(field CapBnd)" 0000000000004000 CapBnd
}

@test "a listening helper filters its system calls" {
	requires seccomp
	listen "$SOCK" "$HELPER_NONE"
	SECMALLOC_TEST_HELPER=$SOCK hold object 65536
	expect_helpers 1
	same "$(field Seccomp)" 2 Seccomp
}

@test "a listening helper has its socket open, the log, the ledger twice, its pools, and nothing else" {
	local fd seen=""
	listen "$SOCK" "$HELPER_NONE"
	SECMALLOC_TEST_HELPER=$SOCK hold object 65536
	expect_helpers 1
	for fd in "/proc/$HELPER/fd"/*; do
		seen+="${fd##*/}=$(readlink "$fd" | sed 's/:\[.*//; s/ (deleted)//') "
	done
	echo "$seen"
	# Where nobody listens at /dev/log, the pool is in the log's place.
	[[ $seen == "0=socket 1=/memfd:secmalloc 2=$LEDGER/ledger 3=$LEDGER/ledger " ||
		$seen == "0=socket 1=socket 2=$LEDGER/ledger 3=$LEDGER/ledger 4=/memfd:secmalloc " ]]
}

@test "whom it serves can neither kill, stop, limit, trace nor read a listening helper" {
	listen "$SOCK" "$HELPER_NONE"
	SECMALLOC_TEST_HELPER=$SOCK hold object 65536
	expect_helpers 1
	run -0 as_nobody "$STAGE/bin/socket" powers "$HELPER"
	same "$output" "powers probe=0 stop=0 signal=0 trace=0 limit=0 read=0 mem=0 fd=0 kill=0"
	hold_pages object
	hold_end object
	# The same against what is his.
	hold_start other secret "${AS_NOBODY[@]}" "$STAGE/bin/hold" malloc 65536 other
	run -0 as_nobody "$STAGE/bin/socket" powers "${HOLD_PID[other]}"
	echo "$output"
	[[ $output == "powers probe=1 stop=1 signal=1 "*"limit=1 "*"kill=1" ]]
}

@test "a listening helper serves who is under no_new_privs, where a setuid one cannot" {
	listen "$SOCK" "$HELPER_NONE"
	SECMALLOC_TEST_HELPER=$HELPER_A run -0 init as_nobody setpriv --no-new-privs "$STAGE/bin/socket" init
	same "$output" "EPERM mode=-1"
	SECMALLOC_TEST_HELPER=$SOCK hold object 262144 "${AS_NOBODY[@]}" setpriv --no-new-privs
	same "$(awk '/^NoNewPrivs/ { print $2 }' "/proc/${HOLD_PID[object]}/status")" 1
	expect_locked object
	hold_end object
}

@test "a listening helper serves who is in a user namespace, where a setuid one cannot" {
	requires userns
	local as
	listen "$SOCK" "$HELPER_NONE"
	for as in --map-root-user --map-current-user --user; do
		SECMALLOC_TEST_HELPER=$HELPER_A run -0 init as_nobody unshare --user "$as" "$STAGE/bin/socket" init
		same "$output" "EPERM mode=-1"
		SECMALLOC_TEST_HELPER=$SOCK hold object 262144 "${AS_NOBODY[@]}" unshare --user "$as"
		expect_locked object
		# The one who is outside, not root.
		expect_usage "$NOBODY_UID" 1 '*'
		expect_usage 0 0 0
		hold_end object
		expect_helpers 0
	done
}

@test "a listening helper serves who is in a chroot that has its socket" {
	listen "$SOCK" "$HELPER_NONE"
	new_root "$SOCK"
	new_namespace "$SOCK"
	nobody_in_root
	export SECMALLOC_TEST_HELPER=$SOCK
	# What is there before it is bound is a file.
	run -0 init "${UNBOUND[@]}" "${INSIDE[@]}" /bin/socket init
	same "$output" "EPERM mode=-1"
	hold_start object secret "${BOUND[@]}" "${INSIDE[@]}" /bin/hold secmalloc 262144 object
	same "$(readlink "/proc/${HOLD_PID[object]}/root")" "$ROOT"
	expect_helpers 1
	expect_locked object
	hold_end object
	expect_helpers 0
}

@test "a listening helper serves who is in a root of his own with its socket at the usual place" {
	listen "$SOCK" "$HELPER_NONE"
	new_root "$(usual_socket)"
	new_namespace "$(usual_socket)"
	nobody_in_root
	run -0 init "${UNBOUND[@]}" "${INSIDE[@]}" /bin/socket init
	same "$output" "EPERM mode=-1"
	hold_start object secret "${BOUND[@]}" "${INSIDE[@]}" /bin/hold secmalloc 262144 object
	expect_helpers 1
	expect_locked object
	hold_end object
}

@test "a listening helper serves an ordinary user's container that has nothing of its host's but the socket" {
	requires userns
	listen "$SOCK" "$HELPER_NONE"
	# shellcheck disable=SC2016
	hold_start object secret "${AS_NOBODY[@]}" unshare --user --map-root-user --mount \
		setpriv --no-new-privs bash -euc '
		mount -t tmpfs none "${1%/*}"
		: >"$1"
		mount --bind "$2" "$1"
		exec "$3" secmalloc 262144 object' \
		bash "$(usual_socket)" "$SOCK" "$STAGE/bin/hold"
	expect_helpers 1
	expect_locked object
	hold_end object
}

# --- who is charged ----------------------------------------------------------

@test "each who connects is charged to his own quota, and what he held is back when he ends" {
	listen "$SOCK" "$HELPER_NONE"
	who "$OTHER_UID"
	expect_usage "$NOBODY_UID" 0 0
	SECMALLOC_TEST_HELPER=$SOCK hold one $((1 << 20))
	SECMALLOC_TEST_HELPER=$SOCK hold two $((3 << 20)) "${WHO[@]}"
	expect_helpers 2
	# Objects of those sizes, and the first pools.
	expect_usage "$NOBODY_UID" 1 '1??????'
	expect_usage "$OTHER_UID" 1 '3??????'
	expect_usage "$HELPER_UID" 0 0
	expect_usage 0 0 0
	hold_end two
	expect_usage "$OTHER_UID" 0 0
	expect_usage "$NOBODY_UID" 1 '1??????'
	hold_kill one
	expect_usage "$NOBODY_UID" 0 0
	expect_helpers 0
}

@test "one who connects cannot use another's quota, nor more than his" {
	policy "limit $NOBODY_UID 1M" "limit $OTHER_UID 4M"
	listen "$SOCK" "$HELPER_NONE"
	who "$OTHER_UID"
	export SECMALLOC_TEST_HELPER=$SOCK
	run ! hold one $((2 << 20))
	[[ $output == *"Disk quota exceeded"* ]]
	hold two $((2 << 20)) "${WHO[@]}"
	# Locked by two processes, it is one user's.
	run ! hold three $((2 << 20)) "${WHO[@]}"
	[[ $output == *"Disk quota exceeded"* ]]
	hold one $((512 << 10))
	expect_locked one
	expect_locked two
}

@test "groups are those of who connects" {
	policy "limit * 512K" "limit @$CRYPTO_GID 4M"
	listen "$SOCK" "$HELPER_NONE"
	export SECMALLOC_TEST_HELPER=$SOCK
	who "$NOBODY_UID" 1 "$CRYPTO_GID"
	hold member $((2 << 20)) "${WHO[@]}"
	hold_end member
	who "$NOBODY_UID" 1
	run ! hold stranger $((2 << 20)) "${WHO[@]}"
	[[ $output == *"Disk quota exceeded"* ]]
	hold stranger $((128 << 10)) "${WHO[@]}"
}

@test "root who connects is charged as root" {
	listen "$SOCK" "$HELPER_NONE"
	SECMALLOC_TEST_HELPER=$SOCK hold object 65536 env
	expect_usage 0 1 '*'
	expect_locked object
	hold_end object
}

# A second memory cgroup. Sets OTHER.
other_make() {
	OTHER=$(mktemp -d "$MEMCG_ROOT/secmalloc-XXXXXX")
}

# Once those in it, who were killed, are gone.
other_remove() {
	[ -n "${OTHER:-}" ] || return 0
	for _ in {1..100}; do
		rmdir "$OTHER" 2>/dev/null && return
		sleep 0.1
	done
	echo "$OTHER could not be removed"
}

# charged DIR: bytes of a memory cgroup.
charged() {
	if [ "$MEMCG_VERSION" = 1 ]; then
		cat "$1/memory.usage_in_bytes"
	else
		cat "$1/memory.current"
	fi
}

# grown DIR: whole MiB since BEFORE was set so.
grown() {
	echo $((($(charged "$1") - ${BEFORE[$1]}) >> 20))
}

@test "memory is charged to the memory cgroup of the client, not of the helper" {
	requires memcg
	local -A BEFORE
	memcg_make
	other_make
	LISTEN_IN=$OTHER listen "$SOCK" "$HELPER_NONE"
	# Whatever is in the two, programs and their libraries, is there before.
	SECMALLOC_TEST_HELPER=$SOCK hold first 65536
	BEFORE=([$MEMCG]=$(charged "$MEMCG") [$OTHER]=$(charged "$OTHER"))
	SECMALLOC_TEST_HELPER=$SOCK hold object $MIB32
	expect_helpers 2
	grep -q "${OTHER##*/}" "/proc/$HELPER/cgroup"
	grep -q "${MEMCG##*/}" "/proc/${HOLD_PID[object]}/cgroup"
	expect_locked object
	echo "client $(grown "$MEMCG") MiB, helper $(grown "$OTHER") MiB"
	[ "$(grown "$MEMCG")" -ge 32 ] && [ "$(grown "$MEMCG")" -lt 44 ]
	[ "$(grown "$OTHER")" -lt 4 ]
	hold_end object

	# Were it the other way round, it would be seen: the same memory, locked in
	# the one, but populated in the other.
	BEFORE=([$MEMCG]=$(charged "$MEMCG") [$OTHER]=$(charged "$OTHER"))
	coproc CONTROL {
		echo "$BASHPID" >"$MEMCG/cgroup.procs"
		exec "$STAGE/bin/socket" charge "$OTHER/cgroup.procs" $MIB32
	} 3>&-
	read -r -t 20 -u "${CONTROL[0]}" REPLY
	same "$REPLY" charged
	echo "who locks $(grown "$MEMCG") MiB, who populates $(grown "$OTHER") MiB"
	[ "$(grown "$OTHER")" -ge 31 ]
	[ "$(grown "$MEMCG")" -lt 4 ]
	kill "$CONTROL_PID"
	wait "$CONTROL_PID" || true
}

# --- many at once ------------------------------------------------------------

# crowd_starts COUNT: so many of nobody's processes at once. REPLY says what they
# got; they hold it until crowd_ends.
crowd_starts() {
	coproc CROWD { exec "${AS_NOBODY[@]}" "$STAGE/bin/socket" crowd "$1"; } 3>&-
	CROWD_LEFT=$CROWD_PID
	read -r -t 90 -u "${CROWD[0]}" REPLY
}

crowd_ends() {
	local to=${CROWD[1]}
	exec {to}>&-
	wait "$CROWD_LEFT"
}

@test "of 200 who connect at once each is served or refused by policy, and none is left" {
	listen "$SOCK" "$HELPER_NONE"
	SECMALLOC_TEST_HELPER=$SOCK crowd_starts 200
	same "$REPLY" "crowd OK=64 EDQUOT=136"
	expect_helpers 64
	expect_usage "$NOBODY_UID" 64 '*'
	crowd_ends
	expect_helpers 0
	expect_usage "$NOBODY_UID" 0 0
}

@test "of 200 who start a helper at once each is served or refused by policy, and none is left" {
	SECMALLOC_TEST_HELPER=$HELPER_A crowd_starts 200
	same "$REPLY" "crowd OK=64 EDQUOT=136"
	same "$(running "$HELPER_A")" 64 helpers
	expect_usage "$NOBODY_UID" 64 '*'
	crowd_ends
	expect_usage "$NOBODY_UID" 0 0
	same "$(running "$HELPER_A")" 0 helpers
}

@test "where policy allows it, 200 who connect at once are served" {
	policy "helpers * 1000" "limit * 1G" "total 50%"
	listen "$SOCK" "$HELPER_NONE"
	SECMALLOC_TEST_HELPER=$SOCK crowd_starts 200
	same "$REPLY" "crowd OK=200"
	expect_helpers 200
	crowd_ends
	expect_helpers 0
}

@test "a helper whose client is killed ends, and what it held is back" {
	listen "$SOCK" "$HELPER_NONE"
	SECMALLOC_TEST_HELPER=$SOCK hold object $((4 << 20))
	expect_helpers 1
	expect_usage "$NOBODY_UID" 1 '4??????'
	hold_kill object
	expect_helpers 0
	expect_usage "$NOBODY_UID" 0 0
}

# --- how the library finds it ------------------------------------------------

# A helper to be started, beside the socket: where socket-here looks for both.
start_here() {
	cp "$1" "$PLACE/secmalloc-helper"
	chown --reference="$1" "$PLACE/secmalloc-helper"
	chmod --reference="$1" "$PLACE/secmalloc-helper"
	setcap cap_ipc_lock=p "$PLACE/secmalloc-helper"
}

# found_here RESULT HELPERS STARTED [ARG [CMD...]]: what a start comes to, and how
# many helpers then serve at the socket and how many were started instead.
found_here() {
	local cmd=("${@:5}") to pid
	[ "$#" -gt 4 ] || cmd=("${AS_NOBODY[@]}")
	coproc FOUND {
		cd "$PLACE" || exit
		exec "${cmd[@]}" "$STAGE/bin/socket-here" init ${4:+"$4"}
	} 3>&-
	pid=$FOUND_PID to=${FOUND[1]}
	read -r -t 60 -u "${FOUND[0]}" REPLY
	echo "$REPLY"
	same "${REPLY% ms=*}" "$1" result
	[ "$2" = - ] || expect_helpers "$2"
	same "$(running "$PLACE/secmalloc-helper")" "$3" started
	exec {to}>&-
	wait "$pid"
	for _ in {1..100}; do
		[ "$(running "$PLACE/secmalloc-helper")" != 0 ] || return 0
		sleep 0.01
	done
	echo "a helper that was started is still there"
	return 1
}

SERVED="OK mode=1" LOCKS_ITSELF="OK mode=2"

@test "the socket is asked first, then a helper is started, then the process locks" {
	local limited=(prlimit --memlock=8388608:8388608 -- setpriv --reuid "$NOBODY_UID"
		--regid "$NOBODY_GID" --clear-groups --inh-caps=-all --)
	found_here "EPERM mode=-1" - 0
	found_here "EPERM mode=-1" - 0 auto
	found_here "$LOCKS_ITSELF" - 0 auto "${limited[@]}"
	start_here "$HELPER_A"
	found_here "$SERVED" - 1
	found_here "$SERVED" - 1 auto "${limited[@]}"
	listen "$SOCK" "$HELPER_NONE"
	found_here "$SERVED" 1 0
	found_here "$SERVED" 1 0 auto "${limited[@]}"
	rm "$PLACE/secmalloc-helper"
	found_here "$SERVED" 1 0
}

@test "a socket at which nobody listens any more is passed over" {
	listen "$SOCK" "$HELPER_NONE"
	end_listener "$LISTENER"
	[ -S "$SOCK" ]
	found_here "EPERM mode=-1" - 0
	start_here "$HELPER_A"
	found_here "$SERVED" - 1
}

@test "a socket that the user may not connect to is passed over" {
	listen "$SOCK" "$HELPER_NONE"
	chmod 600 "$SOCK"
	found_here "EPERM mode=-1" 0 0
	start_here "$HELPER_A"
	found_here "$SERVED" 0 1
}

@test "who ends the conversation before it began is passed over" {
	listen "$SOCK" "$(command -v true)"
	found_here "EPROTO mode=-1" - 0
	start_here "$HELPER_A"
	found_here "$SERVED" - 1
}

@test "a socket of another type is passed over" {
	listen "$SOCK" "$HELPER_NONE" --inetd
	found_here "EPROTO mode=-1" 0 0
	start_here "$HELPER_A"
	found_here "$SERVED" 0 1
}

@test "a listening helper that has no privilege is passed over" {
	AS_ACCOUNT=(setpriv --reuid "$HELPER_UID" --regid "$HELPER_UID" --clear-groups
		--inh-caps=-all --bounding-set=-all --)
	listen "$SOCK" "$HELPER_NONE"
	found_here "EPERM mode=-1" - 0
	start_here "$HELPER_A"
	found_here "$SERVED" 0 1
}

@test "a listening helper whose quota of helpers is reached is passed over, and that is told" {
	local limited=(prlimit --memlock=0:0 -- setpriv --reuid "$NOBODY_UID"
		--regid "$NOBODY_GID" --clear-groups --inh-caps=-all --)
	policy "helpers $NOBODY_UID 1"
	listen "$SOCK" "$HELPER_NONE"
	SECMALLOC_TEST_HELPER=$SOCK hold object 65536
	unset SECMALLOC_TEST_HELPER
	# Nothing to start; and one that keeps the same ledger.
	found_here "EDQUOT mode=-1" 1 0
	found_here "EDQUOT mode=-1" 1 0 auto "${limited[@]}"
	start_here "$HELPER_A"
	found_here "EDQUOT mode=-1" 1 0
	# One that has no account, and keeps none.
	rm "$PLACE/secmalloc-helper"
	start_here "$HELPER_C"
	found_here "$SERVED" 1 1
	hold_end object
	found_here "$SERVED" 1 0
}

@test "a refusal of the helper that is started does not hide what the socket's was" {
	listen "$SOCK" "$(command -v true)"
	start_here "$HELPER_NONE"
	setcap -r "$PLACE/secmalloc-helper"
	found_here "EPROTO mode=-1" - 0
}

@test "who lets others wait for ever is waited for a few seconds, whatever interrupts that" {
	local to pid what waiting=()
	coproc DEAF { exec "$STAGE/bin/socket" deaf "$SOCK"; } 3>&-
	pid=$DEAF_PID to=${DEAF[1]}
	read -r -t 10 -u "${DEAF[0]}" REPLY
	same "$REPLY" deaf
	chmod 666 "$SOCK"
	start_here "$HELPER_A"
	for what in init ticking; do
		SECMALLOC_TEST_HELPER=$SOCK as_nobody "$STAGE/bin/socket" "$what" </dev/null \
			>"$BATS_TEST_TMPDIR/$what" &
		waiting+=($!)
	done
	found_here "$SERVED" - 1
	wait "${waiting[@]}"
	for what in init ticking; do
		read -r REPLY <"$BATS_TEST_TMPDIR/$what"
		echo "$what: $REPLY"
		[[ $REPLY == "EPROTO mode=-1 ms="[567]??? || $REPLY == "EPROTO mode=-1 ms=499?" ]]
	done
	exec {to}>&-
	wait "$pid"
}

@test "a socket whose name is too long for an address is not valid" {
	local long=$PLACE/a-directory-whose-name-is-long to pid
	while [ "${#long}" -lt 108 ]; do
		long+=/and-longer
	done
	mkdir -p "$long"
	coproc DEAF { cd "$long" && exec "$STAGE/bin/socket" deaf s; } 3>&-
	pid=$DEAF_PID to=${DEAF[1]}
	read -r -t 10 -u "${DEAF[0]}" REPLY
	chmod 666 "$long/s"
	SECMALLOC_TEST_HELPER=$long/s run -0 init as_nobody "$STAGE/bin/socket" init
	same "$output" "EINVAL mode=-1"
	exec {to}>&-
	wait "$pid"
}

@test "connection and pool are close-on-exec and keep clear of closed standard descriptors" {
	listen "$SOCK" "$HELPER_NONE"
	export SECMALLOC_TEST_HELPER=$SOCK
	run -0 as_nobody "$STAGE/bin/socket" descriptors
	echo "$output"
	[[ $output =~ ^OK(\ [0-9]+){2}$ ]]
	run -0 as_nobody "$STAGE/bin/socket" descriptors closed
	echo "$output"
	[[ $output =~ ^OK(\ ([3-9]|[0-9]{2})){2}$ ]]
}

@test "a child has locked copies by a connection of its own" {
	listen "$SOCK" "$HELPER_NONE"
	SECMALLOC_TEST_HELPER=$SOCK run -0 as_nobody "$STAGE/bin/socket" fork
	same "${lines[0]}" "child whole more=OK"
	same "${lines[1]}" "parent whole more=OK"
	expect_helpers 0
	expect_usage "$NOBODY_UID" 0 0
}

@test "a child of who changed his root has copies where the socket can be had, and else is told" {
	listen "$SOCK" "$HELPER_NONE"
	new_root "$SOCK"
	new_namespace "$SOCK"
	export SECMALLOC_TEST_HELPER=$SOCK
	run -0 "${UNBOUND[@]}" "$STAGE/bin/socket" fork "$ROOT" 3>&-
	same "${lines[0]}" "child told more=EPERM"
	same "${lines[1]}" "parent whole more=OK"
	run -0 "${BOUND[@]}" "$STAGE/bin/socket" fork "$ROOT" 3>&-
	same "${lines[0]}" "child whole more=OK"
	same "${lines[1]}" "parent whole more=OK"
	expect_helpers 0
}
