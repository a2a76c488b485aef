#!/usr/bin/env bats
# What programs that are compiled already rely on stays: the names and versions
# of the functions, their types, and the layout of the structures.

load helpers

setup() {
	unset MAKEFLAGS MFLAGS MAKELEVEL
	LIBRARY=$abs_top_builddir/.libs/libsecmalloc.so
	ABI=$abs_top_srcdir/build-aux/abi
	INCLUDE=$abs_top_srcdir/include
}

# Names and versions, as in abi/symbols; that of the version itself is none.
exported() {
	nm --dynamic --defined-only --with-symbol-versions "$1" |
		awk '$2 != "A" { sub(/@@?/, " ", $3); print $3 }' | LC_ALL=C sort
}

listed() {
	grep -v '^#' "$abs_top_srcdir/abi/symbols"
}

# layout INCLUDE ARG...: to clang, which needs no C library of the machine.
layout() {
	clang -std=c11 -ffreestanding -fsyntax-only -Wall -Wextra -Werror -Wno-c11-extensions \
		-I"$1" "${@:2}" "$abs_top_srcdir/tests/abi.c"
}

# library NAME: one with a changed copy of include/, api.c or the map, which are in
# BATS_TEST_TMPDIR/NAME if so.
library() {
	local dir=$BATS_TEST_TMPDIR/$1 core=$abs_top_builddir/libsecmalloc/.libs
	local file
	for file in include/secmalloc.h libsecmalloc/api.c libsecmalloc/libsecmalloc.map; do
		[ -e "$dir/${file##*/}" ] || cp "$abs_top_srcdir/$file" "$dir"
	done
	cp "$core/libsecmalloc-core.a" "$dir/core.a"
	ar d "$dir/core.a" libsecmalloc_core_la-api.o
	$CC -std=gnu11 -g -O1 -fPIC -fvisibility=hidden -I"$dir" -I"$abs_top_builddir" \
		-I"$abs_top_srcdir/libsecmalloc" -c -o "$dir/api.o" "$dir/api.c"
	$CC -shared -o "$dir/libsecmalloc.so" -Wl,-soname,libsecmalloc.so.1 \
		-Wl,--version-script="$dir/libsecmalloc.map" "$dir/api.o" \
		-Wl,--whole-archive "$dir/core.a" -Wl,--no-whole-archive -pthread
}

# changed NAME FILE SED: a library that is otherwise.
changed() {
	local dir=$BATS_TEST_TMPDIR/$1 file
	mkdir -p "$dir"
	for file in $2; do
		sed "$3" "$abs_top_srcdir/$file" >"$dir/${file##*/}"
		run ! cmp -s "$abs_top_srcdir/$file" "$dir/${file##*/}"
	done
	library "$1"
}

check() {
	"$ABI" check "$BATS_TEST_TMPDIR/$1/libsecmalloc.so" \
		"$BATS_TEST_TMPDIR/release.abi"
}

change() {
	"$ABI" change "$BATS_TEST_TMPDIR/$1/libsecmalloc.so" \
		"$BATS_TEST_TMPDIR/release.abi" 2>/dev/null
}

@test "the library exports the functions of abi/symbols, with their versions" {
	requires command:nm
	[ "$(listed | wc -l)" -ge 19 ]
	diff <(listed) <(exported "$LIBRARY")
}

@test "abi/symbols and the version script have the same" {
	diff <(listed) <(awk '/[{]$/ { version = $1 } /global:/ { take = 1 }
		/local:/ { take = 0 } take && /;$/ { sub(/;/, "", $1); print $1, version }' \
		"$abs_top_srcdir/libsecmalloc/libsecmalloc.map" | LC_ALL=C sort)
}

@test "a function that was taken away is found" {
	requires command:nm
	mkdir "$BATS_TEST_TMPDIR/removed"
	grep -v secstrndup "$abs_top_srcdir/libsecmalloc/libsecmalloc.map" \
		>"$BATS_TEST_TMPDIR/removed/libsecmalloc.map"
	library removed
	run -1 diff <(listed) <(exported "$BATS_TEST_TMPDIR/removed/libsecmalloc.so")
	[[ "$output" == *"< secstrndup SECMALLOC_1.0" ]]
}

@test "structures and constants are the same on machines of every kind" {
	requires command:clang
	for machine in x86_64 i686 aarch64 powerpc powerpc64le s390x riscv64 riscv32 mips; do
		layout "$INCLUDE" "--target=$machine-linux-gnu"
	done
	layout "$INCLUDE" --target=x86_64-linux-gnux32
	layout "$INCLUDE" --target=armv7-linux-gnueabihf
}

@test "a field or a constant that was moved is found, with 32 bits and with 64" {
	requires command:clang
	mkdir "$BATS_TEST_TMPDIR/moved"
	for edit in 's/size_t max_locked;/char max_locked[12];/' 's/reserved\[7\]/reserved[8]/' \
		's/size_t objects;/int more; &/' 's/SECMALLOC_READONLY = 1/SECMALLOC_READONLY = 3/'; do
		sed "$edit" "$INCLUDE/secmalloc.h" >"$BATS_TEST_TMPDIR/moved/secmalloc.h"
		for machine in x86_64 i686; do
			run -1 layout "$BATS_TEST_TMPDIR/moved" "--target=$machine-linux-gnu"
			[[ "$output" == *"static_assert failed"* || "$output" == *"static assertion failed"* ]]
		done
	done
}

@test "a library is compared with the last release: what was added is found, and what was changed" {
	requires command:abidiff command:abidw
	changed release libsecmalloc/api.c '1a /* A comment. */'
	"$ABI" dump "$BATS_TEST_TMPDIR/release/libsecmalloc.so" \
		"$BATS_TEST_TMPDIR/release" "$BATS_TEST_TMPDIR/release.abi"
	grep -q "name='secmalloc_config'" "$BATS_TEST_TMPDIR/release.abi"
	# No path of where it was made.
	run -1 grep -F "$BATS_TEST_TMPDIR" "$BATS_TEST_TMPDIR/release.abi"
	run -0 check release
	[ "$(change release)" = same ]

	mkdir "$BATS_TEST_TMPDIR/more"
	sed 's/secstrndup;/secstrndup; secmalloc_more;/' \
		"$abs_top_srcdir/libsecmalloc/libsecmalloc.map" \
		>"$BATS_TEST_TMPDIR/more/libsecmalloc.map"
	sed 's/^SECMALLOC_API void secmalloc_shutdown(void);/&\nSECMALLOC_API int secmalloc_more(void);/' \
		"$INCLUDE/secmalloc.h" >"$BATS_TEST_TMPDIR/more/secmalloc.h"
	{
		cat "$abs_top_srcdir/libsecmalloc/api.c"
		echo 'int secmalloc_more(void) { return 1; }'
	} >"$BATS_TEST_TMPDIR/more/api.c"
	library more
	run -0 check more
	[ "$(change more)" = added ]

	# One argument of another type; a field of another; a function fewer.
	changed argument "include/secmalloc.h libsecmalloc/api.c" \
		's/\(void \*ptr, \)int access/\1long access/; s/heap_protect(ptr, access/heap_protect(ptr, (int)access/
		/^secmalloc_protect(void \*ptr, int access)/s/int/long/'
	changed field include/secmalloc.h 's/size_t max_locked;/unsigned max_locked;/'
	changed removed libsecmalloc/libsecmalloc.map '/secstrndup;/d'
	for name in argument field removed; do
		run -1 check "$name"
		[[ "$output" == *"not as in release.abi"* ]]
		[ "$(change "$name")" = broken ]
	done
}

@test "before the first release there is nothing to compare with, and abi-check says so" {
	run -0 make -s -C "$abs_top_builddir" abi-check ABI_DIR="$BATS_TEST_TMPDIR"
	[ "$output" = "abi: no release yet" ]
}

@test "what abi-dump writes is what abi-check compares with" {
	requires command:abidw command:abidiff
	readelf -SW "$LIBRARY" | grep -q debug_info || skip "needs a build with -g"
	run -0 make -s -C "$abs_top_builddir" abi-dump ABI_DIR="$BATS_TEST_TMPDIR"
	run -0 make -s -C "$abs_top_builddir" abi-check ABI_DIR="$BATS_TEST_TMPDIR"
	[[ "$output" == *"abi: as in libsecmalloc-"*.abi ]]
	# The newest by its number.
	dump=$(find "$BATS_TEST_TMPDIR" -name '*.abi')
	machine=${dump##*-}
	for version in 0.9.0 10.0.0 9.0.0; do
		cp "$dump" "$BATS_TEST_TMPDIR/libsecmalloc-$version-$machine"
	done
	run -0 "$ABI" newest "$BATS_TEST_TMPDIR" "${machine%.abi}"
	[ "${output##*/}" = "libsecmalloc-10.0.0-$machine" ]
}
