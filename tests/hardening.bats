#!/usr/bin/env bats
# How the programs and the library are built, as readelf sees what is installed:
# nothing writable that need not be, nothing looked for in a place of the build.

load helpers

setup_file() {
	unset MAKEFLAGS MFLAGS MAKELEVEL
	export DEST=$BATS_FILE_TMPDIR/dest
	make -C "$abs_top_builddir" install DESTDIR="$DEST" >/dev/null
}

# What configure found that compiler and linker take.
flags() {
	sed -n "s/^$1 = //p" "$abs_top_builddir/Makefile"
}

# installed: every ELF file, one a line.
installed() {
	local file
	find "$DEST" -type f | while read -r file; do
		[ "$(head -c 4 "$file" | od -An -tx1 | tr -d ' ')" != 7f454c46 ] || echo "$file"
	done
}

# faults FILE: what a program or a shared library should not be, a word a line.
faults() {
	local headers dynamic symbols
	headers=$(readelf --file-header --program-headers --wide "$1")
	dynamic=$(readelf --dynamic --wide "$1")
	symbols=$(readelf --dyn-syms --wide "$1")
	grep -q 'Type: *DYN' <<<"$headers" || echo no-pie
	grep -q 'GNU_RELRO' <<<"$headers" || echo no-relro
	grep -q 'BIND_NOW\|FLAGS_1.*NOW' <<<"$dynamic" || echo lazy
	grep 'GNU_STACK' <<<"$headers" | grep -q ' RW ' || echo executable-stack
	! grep 'LOAD' <<<"$headers" | grep -q ' RWE ' || echo writable-code
	! grep -q '(TEXTREL)\|FLAGS.*TEXTREL' <<<"$dynamic" || echo text-relocations
	! grep -q '(RPATH)\|(RUNPATH)' <<<"$dynamic" || echo rpath
	grep -q '__stack_chk_fail\|__stack_chk_guard' <<<"$symbols" || echo no-stack-protector
	grep -q ' __[a-z]*_chk[@ ]' <<<"$symbols" || echo no-fortify
}

# unmarked FILE: the objects in it that the processor could not hold to where
# indirect jumps may lead (IBT and SHSTK of x86, BTI of aarch64).
unmarked() {
	local machine notes
	machine=$(readelf --file-header "$1" | sed -n 's/^ *Machine: *//p' | sed 1q)
	notes=$(readelf --notes --wide "$1" 2>/dev/null)
	case $machine in
	*X86-64 | *80386) grep -cvE 'IBT.*SHSTK' ;;
	AArch64) grep -cvE 'BTI' ;;
	esac < <(awk '/^File: / { if (file) print file, marks; file = $2; marks = "" }
		/Properties:|x86 feature:|AArch64 feature:/ { marks = marks $0 }
		END { print file, marks }' <<<"$notes")
}

# A program with something for each flag to be about.
sample() {
	cat >"$BATS_TEST_TMPDIR/sample.c" <<-'END'
		#include <stdio.h>
		#include <unistd.h>
		int
		main(int argc, char **argv)
		{
			char line[64];
			ssize_t n = read(0, line, (size_t)argc);
			snprintf(line + argc, sizeof line - (size_t)argc, "%s", argv[0]);
			return n > 0 && puts(line) == EOF;
		}
	END
	# shellcheck disable=SC2086
	$CC -O2 $1 -o "$BATS_TEST_TMPDIR/sample" "$BATS_TEST_TMPDIR/sample.c"
}

GOOD='-fPIE -pie -fstack-protector-all -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2
	-Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack'

@test "the library and each program are hardened: relro, now, PIE, stack, fortify, no rpath" {
	requires command:readelf
	[[ "$(flags HARDEN_LDFLAGS)" == *-z,relro*-z,now*-z,noexecstack* ]]
	mapfile -t files < <(installed)
	printf '%s\n' "${files[@]}"
	[[ " ${files[*]} " == */libsecmalloc.so.* ]]
	[ -z "$(find "$DEST" -name secmalloc-helper)" ] ||
		[[ "${files[*]}" == */secmalloc-helper* ]]
	for file in "${files[@]}"; do
		same "$(faults "$file")" "" "$file"
	done
}

@test "what is not hardened is found, each kind of it" {
	requires command:readelf
	sample "$GOOD"
	[ -z "$(faults "$BATS_TEST_TMPDIR/sample")" ]
	while read -r fault flags; do
		sample "$GOOD $flags"
		same "$(faults "$BATS_TEST_TMPDIR/sample")" "$fault" "$flags"
	done <<-'END'
		no-pie             -fno-pie -no-pie
		no-relro           -Wl,-z,norelro
		lazy               -Wl,-z,lazy
		executable-stack   -Wl,-z,execstack
		rpath              -Wl,-rpath,/nowhere
		no-stack-protector -fno-stack-protector
		no-fortify         -D_FORTIFY_SOURCE=0 -Wno-builtin-macro-redefined
	END
}

@test "a library whose code has to be written to is found" {
	requires command:readelf
	printf '%s\n' 'extern int elsewhere(void);' \
		'__asm__(".section .text\n.balign 8\n.dc.a elsewhere\n.previous");' \
		>"$BATS_TEST_TMPDIR/text.c"
	$CC -shared -fPIC -Wl,-z,notext -o "$BATS_TEST_TMPDIR/text.so" \
		"$BATS_TEST_TMPDIR/text.c" 2>/dev/null
	faults "$BATS_TEST_TMPDIR/text.so" | grep -x text-relocations
	$CC -shared -fPIC -Wl,-z,relro -o "$BATS_TEST_TMPDIR/clean.so" -xc - <<<'int x;'
	run -1 grep -x text-relocations <(faults "$BATS_TEST_TMPDIR/clean.so")
}

@test "every object is marked for indirect branch tracking, where the compiler does that" {
	requires command:readelf
	case $(flags HARDEN_CFLAGS) in
	*-fcf-protection*) wanted=-fcf-protection unwanted=-fcf-protection=none ;;
	*-mbranch-protection*) wanted=-mbranch-protection=standard unwanted=-mbranch-protection=none ;;
	*) skip "no marks on this processor" ;;
	esac
	[[ "$(flags CFLAGS)" != *-flto* ]] || skip "objects are no machine code yet"
	objects=$abs_top_builddir/libsecmalloc/.libs/libsecmalloc-core.a
	[ "$(ar t "$objects" | wc -l)" -gt 10 ]
	same "$(unmarked "$objects")" 0 "$objects"
	for object in "$abs_top_builddir"/helper/*.o; do
		[ -e "$object" ] || continue
		same "$(unmarked "$object")" 0 "$object"
	done
	# One without the mark is found, alone and among others.
	echo 'int x(void) { return 1; }' >"$BATS_TEST_TMPDIR/x.c"
	$CC "$wanted" -c -o "$BATS_TEST_TMPDIR/marked.o" "$BATS_TEST_TMPDIR/x.c"
	$CC "$unwanted" -c -o "$BATS_TEST_TMPDIR/bare.o" "$BATS_TEST_TMPDIR/x.c"
	[ "$(unmarked "$BATS_TEST_TMPDIR/marked.o")" = 0 ]
	[ "$(unmarked "$BATS_TEST_TMPDIR/bare.o")" = 1 ]
	cp "$objects" "$BATS_TEST_TMPDIR/mixed.a"
	ar q "$BATS_TEST_TMPDIR/mixed.a" "$BATS_TEST_TMPDIR/bare.o"
	[ "$(unmarked "$BATS_TEST_TMPDIR/mixed.a")" = 1 ]
}
