#!/usr/bin/env bats
# The header is all there is of the interface, and every compiler takes it.

load helpers

setup() {
	INCLUDE=${abs_top_srcdir:?}/include
	LIBRARY=${abs_top_builddir:?}/.libs
	# A library built for a sanitizer looks for its runtime in the program.
	LINK=("-L$LIBRARY" -lsecmalloc "-Wl,--allow-shlib-undefined")
	STRICT=(-Wall -Wextra -Wpedantic -Werror "-I$INCLUDE")
}

# Compiles without a warning: COMPILER STANDARD FILE.
takes() {
	"$1" "-std=$2" "${STRICT[@]}" -fsyntax-only "$3"
}

@test "the header is C99, C11, C17 and C23, to gcc and clang" {
	requires command:gcc command:clang
	echo '#include <secmalloc.h>' >"$BATS_TEST_TMPDIR/alone.c"
	local compiler standard
	for compiler in gcc clang; do
		for standard in c99 c11 c17 gnu17 c2x; do
			takes "$compiler" "$standard" "$BATS_TEST_TMPDIR/alone.c"
		done
	done
}

@test "the header is C++11, C++17 and C++20, to g++ and clang++" {
	requires command:g++ command:clang++
	local compiler standard
	for compiler in g++ clang++; do
		for standard in c++11 c++17 c++20; do
			takes "$compiler" "$standard" "$abs_top_srcdir/tests/header.cc"
		done
	done
}

@test "a C++ program calls what the library defines" {
	requires command:g++
	g++ -std=c++11 "-I$INCLUDE" -o "$BATS_TEST_TMPDIR/header" \
		"$abs_top_srcdir/tests/header.cc" "${LINK[@]}"
}

@test "the examples compile with plain cc and no warning" {
	requires command:cc
	local example
	for example in "$abs_top_srcdir"/tests/example-*.c; do
		cc -Werror "-I$INCLUDE" -o "$BATS_TEST_TMPDIR/example" "$example" "${LINK[@]}"
		cc -Wall -Wextra -O2 -Werror "-I$INCLUDE" -c -o /dev/null "$example"
	done
}

@test "the library exports what the header declares, and nothing else" {
	requires command:nm
	# SECMALLOC_1.0 is the version itself, an absolute symbol.
	diff <(sed -n 's/^SECMALLOC_API .*[ *]\([a-z_]*\)(.*/\1/p' "$INCLUDE/secmalloc.h" | sort) \
		<(nm -D --defined-only "$LIBRARY/libsecmalloc.so" |
			awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | sort)
}

@test "a program written for 0.5 runs as it is, as root, who then is nobody" {
	requires root
	run -0 "$STAGE/bin/compat"
	[ "$output" = "ok 1 default secret" ]
}
