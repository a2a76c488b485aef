# shellcheck shell=bash
# What the bats files share: when to skip, how to run something as nobody, and how
# to compare.

bats_require_minimum_version 1.5.0
load "${BASH_SOURCE[0]%/*}/squeeze"
load "${BASH_SOURCE[0]%/*}/machine"

# requires WORD...: skips the test, with the reason, unless the machine has it.
# That is a failure where nothing is to be skipped, but for keys of the processor
# where no kernel was named for a machine that has them: nobody can install those.
requires() {
	local word why
	for word in "$@"; do
		why=$(requires_why "$word") || return 1
		[ -n "$why" ] || continue
		if [ "${SECMALLOC_NO_SKIP:-}" = 1 ] &&
			[[ $word != machine || -n ${SECMALLOC_MACHINE_KERNEL:-} ]]; then
			echo "a skip is a failure here: $why" >&2
			return 1
		fi
		skip "$why"
	done
}

# Prints why WORD is not to be had; nothing if it is.
requires_why() {
	local why
	case $1 in
	root)
		[ "$(id -u)" = 0 ] || echo "needs root"
		;;
	swap) requires_swap ;;
	memcg)
		if [ "$(id -u)" != 0 ]; then
			echo "needs root for a memory cgroup"
		elif ! memcg_root 2>/dev/null; then
			echo "needs the memory cgroup controller"
		fi
		;;
	core)
		if [ "$(id -u)" != 0 ]; then
			echo "needs root to say where core files go"
		elif [ ! -w /proc/sys/kernel/core_pattern ]; then
			echo "needs a writable kernel.core_pattern"
		fi
		;;
	helper-a) requires_helper "$HELPER_A" ;;
	helper-b) requires_helper "$HELPER_B" ;;
	helper-c) requires_helper "$HELPER_C" ;;
	helper-none) [ -x "$HELPER_NONE" ] || echo "needs a built helper" ;;
	seccomp)
		"$HELPER_NONE" --version 2>/dev/null | grep -qx 'seccomp: yes' ||
			echo "needs a helper built with libseccomp"
		;;
	pkeys)
		"$STAGE/bin/window" trial || echo "needs a processor with protection keys"
		;;
	machine)
		why=$(machine_why)
		[ -z "$why" ] ||
			echo "needs a processor with protection keys, or an emulated machine, which $why"
		;;
	secretmem)
		# Held by root, so that no limit is in question; and at once no more.
		"$STAGE/bin/hold" secret 4096 '' </dev/null 2>&1 | grep -q 'not supported' &&
			echo "needs secret memory (secretmem.enable=1 of the kernel)"
		true
		;;
	userns)
		as_nobody unshare --user true 2>/dev/null ||
			echo "needs user namespaces for ordinary users"
		;;
	static)
		echo 'int main(void) { return 0; }' |
			${CC:-cc} -static -xc - -o /dev/null 2>/dev/null ||
			echo "needs a C library to link statically"
		;;
	libfuzzer)
		echo 'int LLVMFuzzerTestOneInput(void) { return 0; }' |
			clang -fsanitize=address,fuzzer -xc - -o /dev/null 2>/dev/null ||
			echo "needs clang with libFuzzer"
		;;
	account:*)
		getent passwd "${1#account:}" >/dev/null || echo "needs an account ${1#account:}"
		;;
	header:*)
		echo "#include <${1#header:}>" | cc -E - >/dev/null 2>&1 || echo "needs ${1#header:}"
		;;
	python:*)
		python3 -c "import ${1#python:}" 2>/dev/null || echo "needs python3 with ${1#python:}"
		;;
	command:*)
		command -v "${1#command:}" >/dev/null || echo "needs ${1#command:}"
		;;
	*)
		echo "requires: unknown word: $1" >&2
		return 1
		;;
	esac
}

# By trial: containers and some file systems refuse.
requires_swap() {
	local dir
	if [ "$(id -u)" != 0 ]; then
		echo "needs root for a swap file"
		return 0
	fi
	dir=$(mktemp -d "$STAGE/trial.XXXXXX")
	swap_make "$dir" 4 >/dev/null 2>&1 || echo "needs swapon, and a file system under /var/tmp that allows it"
	swap_remove
	rmdir "$dir"
}

# requires_helper PATH: whether that layout could be installed with its privilege.
requires_helper() {
	if [ "$(id -u)" != 0 ]; then
		echo "needs root to install a privileged helper"
	elif [ ! -x "$1" ]; then
		echo "needs a built helper"
	elif [[ ",$(findmnt -no OPTIONS -T "$1")," == *,nosuid,* ]]; then
		echo "needs a file system without nosuid under /var/tmp"
	elif [ "$1" != "$HELPER_B" ] && [ -z "$(getcap "$1")" ]; then
		echo "needs a file system with file capabilities under /var/tmp"
	fi
}

# same GOT EXPECTED [WHAT]
same() {
	[ "$1" = "$2" ] && return
	echo "${3:-}: '$1', not '$2'"
	return 1
}

# add_options VARIABLE OPTIONS: for a sanitizer, after those that it has.
add_options() {
	local -n options=$1
	export "$1=${options:+$options:}$2"
}

# as_nobody CMD...: whoever is not root stays who he is and loses the limit only.
# Descriptor 3 is bats' own: who holds it open in the background hangs it.
as_nobody() {
	if [ "$(id -u)" = 0 ]; then
		"${AS_NOBODY[@]}" "$@" 3>&-
	else
		prlimit --memlock=0:0 -- "$@" 3>&-
	fi
}

# usage_of UID|total: helpers and bytes, as root is told of the ledger.
usage_of() {
	local name
	name=$(id -nu "$1" 2>/dev/null || echo "$1")
	"$HELPER_NONE" --usage | awk -v name="$name" '
		$1 == name { print $(NF - 1), $NF; found = 1 }
		END { if (!found) print 0, 0 }'
}

# expect_usage UID HELPERS BYTES: bytes may be a pattern. Within two seconds: the
# kernel takes a lock back when it ends the process, not when it is killed.
expect_usage() {
	local got
	for _ in {1..100}; do
		got=$(usage_of "$1")
		# shellcheck disable=SC2053
		[[ $got == "$2 "$3 ]] && return
		sleep 0.02
	done
	echo "usage of $1: $got, not $2 $3"
	return 1
}

# gone PID: within two seconds, and all that it held. A zombie holds nothing.
gone() {
	local _
	for _ in {1..200}; do
		grep -qs '^State:[[:space:]]*[^ZX]' "/proc/$1/status" || return 0
		sleep 0.01
	done
	echo "process $1 is there yet"
	return 1
}
