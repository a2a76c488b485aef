# shellcheck shell=bash
# Makes memory scarce for chosen processes and looks at what came of it: a swap
# file, a memory cgroup, the squeeze, the search of the raw swap file. Shared by
# the tests and the demonstration; decides nothing about what ought to be found.
#
# Every function returns non-zero and says why on standard error when the
# machine does not allow what it does. Whoever calls swap_make or memcg_make
# also calls swap_remove or memcg_remove, whatever happens in between.

# As uid and gid nobody, with RLIMIT_MEMLOCK 0, no capability, no other group.
# An array, so that exec and a background job have no shell in between.
# shellcheck disable=SC2034
AS_NOBODY=(prlimit --memlock=0:0 -- setpriv --reuid 65534 --regid 65534
	--clear-groups --inh-caps=-all --ambient-caps=-all --)

# --- swap --------------------------------------------------------------------

SWAP_FILE=
ZSWAP=/sys/module/zswap/parameters/enabled
ZSWAP_WAS=

# swap_make DIR MIB: all swapping goes to DIR/swap, which held nothing but zeros.
swap_make() {
	SWAP_FILE=$1/swap
	(umask 077 && : >"$SWAP_FILE") || return 1
	# Btrfs swaps only to files that are not copied on write; others do not care.
	chattr +C "$SWAP_FILE" 2>/dev/null || true
	dd if=/dev/zero of="$SWAP_FILE" bs=1M count="$2" oflag=direct \
		conv=notrunc,fsync status=none || return 1
	mkswap "$SWAP_FILE" >/dev/null || return 1
	# Zswap would keep in memory what is looked for in the file.
	if [ -r "$ZSWAP" ] && [ "$(<"$ZSWAP")" = Y ]; then
		ZSWAP_WAS=Y
		echo N >"$ZSWAP" || return 1
	fi
	swapon --priority 32767 "$SWAP_FILE"
}

swap_remove() {
	[ -n "$SWAP_FILE" ] || return 0
	swapoff "$SWAP_FILE" 2>/dev/null || true
	rm -f "$SWAP_FILE"
	[ -z "$ZSWAP_WAS" ] || echo "$ZSWAP_WAS" >"$ZSWAP"
	SWAP_FILE='' ZSWAP_WAS=''
}

# count_in FILE PATTERN [dd-flag]: how often, without the pattern appearing on a
# command line. A file that cannot be read is an error, not a count of 0.
count_in() (
	set -o pipefail
	dd if="$1" bs=1M iflag="${3:-fullblock}" status=none |
		{ LC_ALL=C grep -aoF -f <(printf '%s\n' "$2") || [ $? = 1 ]; } | wc -l
)

# swap_count PATTERN: past the page cache, what is on the disk.
swap_count() {
	count_in "$SWAP_FILE" "$1" direct
}

# --- memory cgroup -----------------------------------------------------------

MEMCG=
MEMCG_VERSION=
MEMCG_ENABLED_AT=

# memcg_root: sets MEMCG_ROOT and MEMCG_VERSION to where one can be made.
memcg_root() {
	local where kind options
	MEMCG_ROOT='' MEMCG_VERSION=''
	while read -r _ where kind options _; do
		if [ "$kind" = cgroup ] && [[ ,$options, == *,memory,* ]]; then
			MEMCG_VERSION=1
		elif [ "$kind" = cgroup2 ] &&
			[[ " $(cat "$where/cgroup.controllers" 2>/dev/null) " == *" memory "* ]]; then
			MEMCG_VERSION=2
		else
			continue
		fi
		[ -w "$where/cgroup.procs" ] || continue
		MEMCG_ROOT=$where
		return 0
	done </proc/self/mounts
	echo "no memory cgroup can be made here" >&2
	return 1
}

memcg_make() {
	memcg_root || return 1
	if [ "$MEMCG_VERSION" = 2 ] &&
		[[ " $(<"$MEMCG_ROOT/cgroup.subtree_control") " != *" memory "* ]]; then
		echo +memory >"$MEMCG_ROOT/cgroup.subtree_control" || return 1
		MEMCG_ENABLED_AT=$MEMCG_ROOT
	fi
	MEMCG=$(mktemp -d "$MEMCG_ROOT/secmalloc-XXXXXX") || return 1
	[ "$MEMCG_VERSION" = 2 ] || echo 100 >"$MEMCG/memory.swappiness"
}

# Waits for the processes in it, which their starters have ended, to be gone.
memcg_remove() {
	local i
	if [ -n "$MEMCG" ]; then
		for ((i = 0; i < 100; i++)); do
			rmdir "$MEMCG" 2>/dev/null && break
			sleep 0.1
		done
		[ ! -d "$MEMCG" ] || echo "$MEMCG could not be removed" >&2
	fi
	[ -z "$MEMCG_ENABLED_AT" ] ||
		echo -memory >"$MEMCG_ENABLED_AT/cgroup.subtree_control" || true
	MEMCG='' MEMCG_ENABLED_AT=''
}

# memcg_reclaim BYTES: once, down to BYTES if that can be. Locked memory is in
# the way of that, so a refusal (EBUSY, EAGAIN) is expected.
memcg_reclaim() {
	local excess
	if [ "$MEMCG_VERSION" = 1 ]; then
		{ echo "$1" >"$MEMCG/memory.limit_in_bytes"; } 2>/dev/null || true
		echo -1 >"$MEMCG/memory.limit_in_bytes"
		return 0
	fi
	excess=$(($(<"$MEMCG/memory.current") - $1))
	[ "$excess" -gt 0 ] || return 0
	if [ -e "$MEMCG/memory.reclaim" ]; then
		# The second form for kernels before 6.14.
		{ echo "$excess swappiness=max" >"$MEMCG/memory.reclaim" ||
			echo "$excess" >"$MEMCG/memory.reclaim"; } 2>/dev/null || true
	else
		{ echo "$1" >"$MEMCG/memory.high"; } 2>/dev/null || true
		echo max >"$MEMCG/memory.high"
	fi
}

# memcg_helpers: the process ids of the helpers in it, a line each.
memcg_helpers() {
	local pid
	while read -r pid; do
		if [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = secmalloc-helpe ]; then
			echo "$pid"
		fi
	done <"$MEMCG/cgroup.procs"
}

# squeeze BYTES NAME...: again and again, three times at least, until every
# hold NAME has lost more than nine tenths of its pages; fails if that is not
# to be had, since then the squeeze shows nothing about anybody else.
squeeze() {
	local bytes=$1 round name lost
	shift
	for ((round = 1; round <= 30; round++)); do
		memcg_reclaim "$bytes"
		[ "$round" -ge 3 ] || continue
		lost=yes
		for name in "$@"; do
			hold_pages "$name" || return 1
			[ $((PAGES[present] * 10)) -lt "${PAGES[pages]}" ] || lost=no
		done
		[ "$lost" = no ] || return 0
		sleep 0.1
	done
	echo "$round squeezes did not move the unlocked memory out" >&2
	return 1
}

# --- processes that hold a secret --------------------------------------------

HOLD_BIN=
HOLD_DIR=
declare -gA HOLD_PID=() HOLD_FD=() HOLD_RANGE=() PAGES=()

# hold_setup BIN DIR: where the programs hold and pages are, and where their
# pipes may be made.
hold_setup() {
	HOLD_BIN=$1 HOLD_DIR=$2
}

# hold_start NAME SECRET CMD...: CMD, which ends in a call of hold, in the memory
# cgroup if there is one. The secret goes from here into that memory and nowhere
# else: the pipe is the kernel's.
hold_start() {
	local name=$1 secret=$2 fd i word pid address bytes
	shift 2
	mkfifo -m 600 "$HOLD_DIR/$name.in" || return 1
	(
		[ -z "$MEMCG" ] || echo "$BASHPID" >"$MEMCG/cgroup.procs"
		ulimit -S -c 0
		exec "$@"
	) <"$HOLD_DIR/$name.in" >"$HOLD_DIR/$name.out" 2>"$HOLD_DIR/$name.err" 3>&- 4>&- &
	HOLD_PID[$name]=$!
	exec {fd}>"$HOLD_DIR/$name.in"
	HOLD_FD[$name]=$fd
	(trap '' PIPE && printf '%s\n' "$secret" >&"$fd") 2>/dev/null || true

	for ((i = 0; i < 200; i++)); do
		if read -r word pid address bytes <"$HOLD_DIR/$name.out" && [ "$word" = ready ]; then
			HOLD_PID[$name]=$pid
			HOLD_RANGE[$name]="$address $bytes"
			return 0
		fi
		kill -0 "${HOLD_PID[$name]}" 2>/dev/null || break
		sleep 0.05
	done
	cat "$HOLD_DIR/$name.err" >&2
	hold_kill "$name"
	return 1
}

# hold_pages NAME: fills PAGES: pages, present, swapped, mlocked, unevictable.
hold_pages() {
	local word line
	# shellcheck disable=SC2086
	line=$("$HOLD_BIN/pages" "${HOLD_PID[$1]}" ${HOLD_RANGE[$1]}) || return 1
	PAGES=()
	for word in $line; do
		PAGES[${word%%=*}]=${word#*=}
	done
}

# hold_ask NAME: whether the library finds the memory locked, which also has it
# locked again if it is not.
hold_ask() {
	local i lines
	lines=$(wc -l <"$HOLD_DIR/$1.out")
	echo >&"${HOLD_FD[$1]}"
	for ((i = 0; i < 200; i++)); do
		if [ "$(wc -l <"$HOLD_DIR/$1.out")" -gt "$lines" ]; then
			tail -n 1 "$HOLD_DIR/$1.out" | grep -qx locked && return 0
			break
		fi
		sleep 0.05
	done
	tail -n 1 "$HOLD_DIR/$1.out" >&2
	return 1
}

# hold_end NAME: lets it compare its bytes and end; returns what it found.
hold_end() {
	local name=$1 status=0 fd=${HOLD_FD[$1]}
	exec {fd}>&-
	wait "${HOLD_PID[$name]}" || status=$?
	[ "$status" = 0 ] || cat "$HOLD_DIR/$name.err" >&2
	hold_forget "$name"
	return "$status"
}

# hold_kill NAME [SIGNAL]: when it has not ended, or not as it should.
hold_kill() {
	local name=$1 fd=${HOLD_FD[$1]}
	kill -s "${2:-KILL}" "${HOLD_PID[$name]}" 2>/dev/null || true
	exec {fd}>&-
	wait "${HOLD_PID[$name]}" 2>/dev/null || true
	hold_forget "$name"
}

hold_forget() {
	rm -f "$HOLD_DIR/$1.in" "$HOLD_DIR/$1.out" "$HOLD_DIR/$1.err"
	unset "HOLD_PID[$1]" "HOLD_FD[$1]" "HOLD_RANGE[$1]"
}

# Whatever was made above and is still there.
squeeze_cleanup() {
	local name
	for name in "${!HOLD_PID[@]}"; do
		hold_kill "$name"
	done
	memcg_remove
	swap_remove
}
