# shellcheck shell=bash
# Runs programs as root of a machine that is emulated whole, for what the processor
# at hand lacks. It has a kernel, the files it is given, no disk and no network; knows
# nothing of what the programs do.

MACHINE=qemu-system-x86_64
MACHINE_SECONDS=480 # ten times what it takes

# machine_kernel: the path of one; nothing if there is none.
machine_kernel() {
	if [ -n "${SECMALLOC_MACHINE_KERNEL:-}" ]; then
		echo "$SECMALLOC_MACHINE_KERNEL"
	else
		find -L /boot -maxdepth 1 -name 'vmlinuz-*' -type f -readable | sort -V | tail -n 1
	fi
}

# machine_why: prints why there is none; nothing if there is one.
machine_why() {
	local kernel word
	if [ "$(uname -m)" != x86_64 ]; then
		echo "needs to run on x86-64"
		return
	fi
	for word in "$MACHINE" cpio ldd; do
		command -v "$word" >/dev/null || {
			echo "needs $word"
			return
		}
	done
	kernel=$(machine_kernel)
	[ -r "$kernel" ] || echo "needs a kernel, ${kernel:-/boot/vmlinuz-*}, that can be read"
}

# machine_take DIR FILE...: what is to be there under the same name, a directory with
# all that is in it, a program with the libraries that it is linked with.
machine_take() {
	local tree=$1/tree file
	local -a files
	shift
	mkdir -p "$tree"
	mapfile -t files < <(for file in "$@"; do
		echo "$file"
		[ -d "$file" ] || ldd "$file" 2>/dev/null | grep -o '/[^ )]*'
	done | sort -u)
	(set -o pipefail && tar -C / -chf - "${files[@]#/}" | tar -C "$tree" --numeric-owner -xpf -)
}

# machine_init COMMAND...: its first process. The programs have the second serial
# line for themselves, since the kernel may say something on the first at any time.
# What is closed has been sent. Then it is switched off; or the end of this process
# does it.
machine_init() {
	local n=0 command
	cat <<-END
		#!$BASH
		$(command -v mount) -t proc proc /proc
		$(command -v mount) -t sysfs sys /sys
		$(command -v mount) -t devtmpfs dev /dev
		$(command -v mount) -t tmpfs tmp /tmp
		{
	END
	for command in "$@"; do
		n=$((n + 1))
		cat <<-END
			echo "== $n begins"
			( $command )
			printf '\n== $n ends: %d\n' \$?
		END
	done
	cat <<-'END'
		} </dev/null >/dev/ttyS1 2>&1
		echo o >/proc/sysrq-trigger
		read -r -t 10 _ </dev/ttyS1
	END
}

# machine_run DIR COMMAND...: one after another, with the files that were taken. What
# they say goes to DIR/said, what the kernel says to DIR/console.
machine_run() {
	local dir=$1 kernel
	shift
	machine_take "$dir" "$BASH" "$(command -v mount)" || return 1
	(cd "$dir/tree" && mkdir -p dev proc sys && install -d -m 1777 tmp) || return 1
	machine_init "$@" >"$dir/tree/init" && chmod 755 "$dir/tree/init" || return 1
	# Capabilities of files it knows nothing of; owners and modes it keeps.
	(cd "$dir/tree" && find . | cpio --quiet -o -H newc) >"$dir/initrd" || return 1
	rm -r "$dir/tree"
	kernel=$(machine_kernel)
	# In the foreground, so that what ends the tests ends it as well.
	timeout --foreground -k 10 "$MACHINE_SECONDS" "$MACHINE" -accel tcg -cpu max -m 768 \
		-nodefaults -no-user-config -display none -no-reboot \
		-serial "file:$dir/console" -serial "file:$dir/said" \
		-kernel "$kernel" -initrd "$dir/initrd" \
		-append "console=ttyS0 panic=-1 mitigations=off nopti secretmem.enable=1" \
		</dev/null 3>&-
}

# machine_status DIR N: prints what the Nth command said; its status is that one's.
machine_status() {
	local status
	tr -d '\r' <"$1/said" >"$1/lines" || return 1
	awk -v n="$2" '
		$0 ~ "^== " n " ends: " { exit }
		begun { print }
		$0 == "== " n " begins" { begun = 1 }' "$1/lines"
	status=$(sed -n "s/^== $2 ends: \([0-9]*\)$/\1/p" "$1/lines")
	if [ -z "$status" ]; then
		echo "It did not end. The kernel's last words:"
		tail -n 20 "$1/console"
		return 1
	fi
	return "$status"
}
