# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# What all commands of dev share: what they say, root, the directory they work in.

WORK=            # our directory, which uid nobody can reach
KEEP=            # what of it stays when a check failed
MIB=$((1024 * 1024))

# --- saying ------------------------------------------------------------------

green='' red='' bold='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ] && [ "${TERM:-dumb}" != dumb ]; then
	green=$'\e[32m' red=$'\e[31m' bold=$'\e[1m' plain=$'\e[0m'
fi

say() {
	printf '%s\n' "$*"
}

die() {
	printf 'dev: %s\n' "$*" >&2
	exit 1
}

# --- root --------------------------------------------------------------------

is_root() {
	[ "$(id -u)" = 0 ]
}

# Once more as root, where sudo gives that. Its question goes to the terminal;
# where there is none it may not ask.
become_root() {
	local -a ask=(-n)
	is_root && return 0
	command -v sudo >/dev/null || return 0
	if [ -t 2 ] && { : </dev/tty; } 2>/dev/null; then
		ask=()
	fi
	sudo "${ask[@]}" true 2>/dev/null || return 0
	say "Using sudo for what needs root."
	exec sudo "${ask[@]}" env NO_COLOR="${NO_COLOR:-}" TERM="${TERM:-dumb}" \
		SECMALLOC_NO_SKIP="${SECMALLOC_NO_SKIP:-}" \
		SECMALLOC_MACHINE_KERNEL="${SECMALLOC_MACHINE_KERNEL:-}" "$TOP/dev" "$@"
}

# The process among our ancestors that is outside of the chroot we are in, if
# we are in one.
outsider() {
	local pid=$$ key value
	while [ "$pid" -gt 1 ]; do
		if [ -e "/proc/$pid/root/." ] && [ ! / -ef "/proc/$pid/root/." ]; then
			echo "$pid"
			return
		fi
		while read -r key value; do
			[ "$key" != PPid: ] || pid=$value
		done <"/proc/$pid/status"
	done
}

# in_own_root PID CMD...: in a mount namespace whose root is our chroot, which
# PID is outside of. Nothing outside of that namespace changes.
in_own_root() {
	local pid=$1
	shift
	# shellcheck disable=SC2016
	chroot "/proc/$pid/root" unshare --mount sh -euc '
		root=$(readlink /proc/self/fd/9)
		mount --rbind "$root" "$root"
		cd "$root"
		pivot_root . .
		umount -l .
		exec chroot . "$@" 9<&-' sh "$@" 9</
}

# In a chroot the kernel makes no user namespace, and unshare no mount namespace
# that is private; some tests need both.
leave_chroot() {
	local pid
	is_root || return 0
	pid=$(outsider)
	[ -n "$pid" ] && in_own_root "$pid" true 2>/dev/null || return 0
	in_own_root "$pid" "$TOP/dev" "$@"
	exit
}

# Nobody has an account or a process of this uid.
unused_uid() {
	local uid=64738
	while getent passwd "$uid" >/dev/null ||
		grep -qsE "^Uid:.*[[:space:]]$uid([[:space:]]|\$)" /proc/[0-9]*/status; do
		uid=$((uid + 1))
	done
	echo "$uid"
}

# --- our directory -----------------------------------------------------------

work_make() {
	WORK=$(mktemp -d "/var/tmp/secmalloc-$1.XXXXXX")
	chmod 755 "$WORK"
	trap work_remove EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
}

work_remove() {
	local group
	trap '' INT TERM HUP
	# Steps that still run; their tests put right what they changed.
	for group in $(jobs -pr); do
		! kill -INT -- "-$group" 2>/dev/null || wait "$group" || true
	done
	squeeze_cleanup
	[ -n "$WORK" ] || return 0
	if [ -n "$KEEP" ]; then
		find "$WORK" -mindepth 1 -maxdepth 1 ! -path "$KEEP" -exec rm -rf {} +
	else
		rm -rf "$WORK"
	fi
}

# The tree without what building in it may have left there, which make would
# take for its own.
source_copy() {
	mkdir "$WORK/src"
	tar -C "$TOP" --exclude=./.git --exclude=./autom4te.cache --exclude=.libs \
		--exclude=.deps --exclude=.dirstamp --exclude='*.o' --exclude='*.lo' \
		--exclude='*.la' --exclude='*.log' --exclude='*.trs' --exclude=./Makefile \
		--exclude=./config.h --exclude=./config.status -cf - . |
		tar -C "$WORK/src" --no-same-owner -xf -
	(cd "$WORK/src" && autoreconf -fi)
}

# build DIR ARG...: configures and makes in WORK/DIR.
build() {
	local dir=$WORK/$1
	shift
	mkdir -p "$dir"
	cd "$dir"
	"$WORK/src/configure" "$@"
	make -j"$(nproc)"
}

# Which privilege a helper under WORK can be given, and have any use of.
privilege_possible() {
	if ! is_root; then
		echo none
	elif [[ ",$(findmnt -no OPTIONS -T "$WORK" || true)," == *,nosuid,* ]]; then
		echo none
	elif : >"$WORK/trial" && setcap cap_ipc_lock=p "$WORK/trial" 2>/dev/null; then
		echo setuid
	else
		echo setuid-root
	fi
	rm -f "$WORK/trial"
}

# quietly CMD...: its output is of interest only if it fails. Not to be called
# where bash ignores set -e.
quietly() {
	local status
	set +e
	(set -e && "$@") >"$WORK/log" 2>&1 </dev/null
	status=$?
	set -e
	[ "$status" = 0 ] && return 0
	tail -n 30 "$WORK/log" >&2
	die "$1 failed"
}
