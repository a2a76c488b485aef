#!/usr/bin/env bats
# The manual, README.md and docs/: complete, and true as far as programs can tell.
# What they show as a program is one that compiles and runs.

load helpers

setup() {
	MAN=$abs_top_srcdir/man
	HEADER=$abs_top_srcdir/include/secmalloc.h
	TEXTS=("$abs_top_srcdir/README.md" "$abs_top_srcdir"/docs/*.md)
}

# --- what has to be described ------------------------------------------------

# The functions of the library.
symbols() {
	sed -n 's/^\t\t\([a-z_]*\);$/\1/p' "$abs_top_srcdir/libsecmalloc/libsecmalloc.map"
}

# What else the header names: values, and the fields of its structures.
names() {
	sed -nE -e 's/^\t(SECMALLOC_[A-Z_]*) = .*/\1/p' -e 's/^#define (SECMALLOC_VERSION[A-Z_]*).*/\1/p' \
		"$HEADER"
	sed -nE '/^struct .*\{/,/^\}/ {
		/reserved/d
		s/^\t[a-z][a-z_ ]* \**([a-z_]+);$/\1/p
		s/^\t.*\(\*([a-z_]+)\)\(.*/\1/p
	}' "$HEADER"
}

# pages DIRECTORY: those that are no link to another one.
pages() {
	grep -L '^\.so ' "$1"/*.[1-8]
}

# without_page DIRECTORY: symbols that no page has both as its name and in its synopsis.
without_page() {
	symbols | awk '
		FILENAME == "-" { if (!($1 in described)) print $1; next }
		FNR == 1 { split("", named) }
		/^\.Sh / { part = $2 }
		part == "NAME" && /^\.Nm / { named[$2] = 1 }
		part == "SYNOPSIS" && /^\.Fn / && ($2 in named) { described[$2] = 1 }
	' "$1"/*.3 -
}

# without_word DIRECTORY: names that no page says.
without_word() {
	names | awk '
		FILENAME == "-" { if (!($1 in said)) print $1; next }
		/^\.(D|V|F|It)/ { gsub(/[^A-Za-z0-9_]+/, " "); for (i = 1; i <= NF; i++) said[$i] = 1 }
	' "$1"/*.[37] -
}

@test "every function has a page that names it and shows how it is called" {
	[ "$(symbols | wc -l)" -ge 19 ]
	same "$(without_page "$MAN")" "" "without a page"
}

@test "a function without a page is found" {
	cp "$MAN"/*.3 "$BATS_TEST_TMPDIR"
	sed -i '/^\.Nm secstrndup/d' "$BATS_TEST_TMPDIR/secmalloc.3"
	sed -i '/^\.Fn secmalloc_close /d' "$BATS_TEST_TMPDIR/secmalloc_open.3"
	same "$(without_page "$BATS_TEST_TMPDIR" | xargs)" "secmalloc_close secstrndup"
}

@test "every value and every field of the header is described" {
	local got
	got=$(names)
	[[ $got == *SECMALLOC_SECRET_TRY* && $got == *SECMALLOC_VERSION_STRING* &&
		$got == *on_misuse* && $got == *helper_path* && $got == *unguarded* ]]
	same "$(without_word "$MAN")" "" "not described"
}

@test "a value and a field that are not described are found" {
	cp "$MAN"/*.[37] "$BATS_TEST_TMPDIR"
	sed -i '/SECMALLOC_BELT/d; /max_locked/d' "$BATS_TEST_TMPDIR"/*
	same "$(without_word "$BATS_TEST_TMPDIR" | xargs)" "SECMALLOC_BELT max_locked"
}

@test "every page has what pages of its section have" {
	local page part parts all
	for page in $(pages "$MAN"); do
		all=$(sed -n 's/^\.Sh //p' "$page")
		parts=(NAME DESCRIPTION EXAMPLES "SEE ALSO")
		case $page in
		*.3) parts+=(LIBRARY SYNOPSIS "RETURN VALUES" ERRORS HISTORY) ;;
		*.[18]) parts+=(SYNOPSIS "EXIT STATUS") ;;
		esac
		for part in "${parts[@]}"; do
			[[ $'\n'$all$'\n' == *$'\n'$part$'\n'* ]] || echo "${page##*/}: $part"
		done
	done >"$BATS_TEST_TMPDIR/missing"
	same "$(cat "$BATS_TEST_TMPDIR/missing")" "" missing
}

# --- how it reads ------------------------------------------------------------

@test "mandoc has nothing to say of any page" {
	requires command:mandoc
	mapfile -t found < <(pages "$MAN")
	run -0 mandoc -Tlint -W warning "${found[@]}"
	same "$output" ""
}

@test "every page is rendered by mandoc, and by man -l" {
	requires command:mandoc command:man
	local page title
	for page in $(pages "$MAN"); do
		title=$(sed -n 's/^\.Dt \(.*\) \([1-8]\)$/\1(\2)/p' "$page")
		mandoc -Tutf8 "$page" | grep -qF "$title"
		MANWIDTH=80 LC_ALL=C.UTF-8 man -l "$page" >"$BATS_TEST_TMPDIR/page" 2>"$BATS_TEST_TMPDIR/errors"
		same "$(cat "$BATS_TEST_TMPDIR/errors")" "" "${page##*/}"
		grep -qF "$title" "$BATS_TEST_TMPDIR/page"
		! grep -nE '.{81}' "$BATS_TEST_TMPDIR/page"
	done
}

@test "every function is found by its name once the manual is installed" {
	requires command:man command:col
	local symbol dir
	env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL make -C "$abs_top_builddir" install-man \
		DESTDIR="$BATS_TEST_TMPDIR/dest" >/dev/null
	dir=$(find "$BATS_TEST_TMPDIR/dest" -type d -name man3)
	for symbol in $(symbols); do
		man -M "${dir%/man3}" 3 "$symbol" 2>&1 | col -b | grep -qE "^ +.*\b$symbol\(" ||
			echo "$symbol"
	done >"$BATS_TEST_TMPDIR/missing"
	same "$(cat "$BATS_TEST_TMPDIR/missing")" "" "not found"
}

# references FILE...: our own pages that are named, as NAME.SECTION.
references() {
	sed -nE 's/^\.Xr (sec[a-z_.-]*) ([1-8]).*/\1.\2/p' "$@"
	grep -ohE '\bsec[a-z_.-]+\([1-8]\)' "$@" | sed 's/(\(.\))/.\1/'
}

# dangling FILE...: those of them that there are not.
dangling() {
	references "$@" | grep -v '^seccomp\.' | sort -u |
		grep -vxF -f <(symbols | sed 's/$/.3/'; cd "$MAN" && ls) || true
}

@test "every page of ours that is referred to is there" {
	local all
	mapfile -t all < <(pages "$MAN")
	same "$(dangling "${all[@]}" "${TEXTS[@]}" "$abs_top_srcdir/SECURITY.md")" ""
	printf '.Xr secmalloc_lost 3 ,\n' >"$BATS_TEST_TMPDIR/page"
	echo 'see secmalloc(3) and secmalloc-lost(8)' >"$BATS_TEST_TMPDIR/text"
	same "$(dangling "$BATS_TEST_TMPDIR"/*)" "secmalloc-lost.8
secmalloc_lost.3"
}

# broken_links FILE...: of Markdown, to files that there are not.
broken_links() {
	local file link
	for file in "$@"; do
		grep -oE '\]\([^)]*\)' "$file" | sed 's/^](//; s/[)#].*//' | while read -r link; do
			[[ $link == *:* ]] || [ -e "${file%/*}/$link" ] || echo "${file##*/}: $link"
		done
	done
}

@test "every link of README.md and docs/ leads somewhere" {
	same "$(broken_links "${TEXTS[@]}" "$abs_top_srcdir/SECURITY.md")" ""
	echo '[one](page.md) [two](lost.md#there) [three](https://example.org/)' \
		>"$BATS_TEST_TMPDIR/page.md"
	same "$(broken_links "$BATS_TEST_TMPDIR/page.md")" "page.md: lost.md"
}

# --- programs ----------------------------------------------------------------

# programs_of_page FILE PREFIX: each program of its examples, in PREFIX1.c, ...
programs_of_page() {
	awk -v prefix="$2" '
		/^\.Sh / { examples = /EXAMPLES/ }
		/^\.Bd -literal/ { first = examples; next }
		/^\.Ed/ { first = 0; file = ""; next }
		first && /^#include/ { file = prefix (++n) ".c" }
		{ first = 0 }
		file { gsub(/\\e/, "\\"); gsub(/\\&/, ""); gsub(/\\-/, "-"); print >file }
	' "$1"
}

# programs_of_text FILE PREFIX: the same of Markdown.
programs_of_text() {
	awk -v prefix="$2" '
		/^```/ { on = $0 == "```c"; file = ""; if (on) file = prefix (++n) ".c"; next }
		file { print >file }
	' "$1"
}

# The library, which finds the tests' helper, and no socket, in the usual places:
# sets LINK.
library() {
	local place=$BATS_TEST_TMPDIR/places.o source directories=()
	source=$(find "$abs_top_srcdir/libsecmalloc" -name bsd -prune -o -name source_helper.c -print)
	mapfile -t directories < <(find "$abs_top_srcdir/libsecmalloc" -type d)
	# shellcheck disable=SC2086
	cc -std=gnu11 ${SANITIZER_CFLAGS:-} -I"$abs_top_builddir" -I"$abs_top_srcdir/include" \
		"${directories[@]/#/-I}" -I"$abs_top_srcdir/helper" \
		-DSOCKET_PATH='"/nonexistent/secmalloc.socket"' -DHELPER_PATH="\"$HELPER_A\"" \
		-c -o "$place" "$source"
	LINK=("$place" "$abs_top_builddir/libsecmalloc/.libs/libsecmalloc-core.a" -lpthread)
}

# builds PROGRAM: from PROGRAM.c, as a newcomer would.
builds() {
	local libraries=("${LINK[@]}")
	! grep -q '^#include <sodium' "$1.c" || libraries=(-lsodium)
	! grep -q '^#include <openssl' "$1.c" || libraries=(-lcrypto)
	# shellcheck disable=SC2086
	cc -Wall -Wextra -Werror ${SANITIZER_CFLAGS:-} "-I$abs_top_srcdir/include" -o "$1" "$1.c" \
		"${libraries[@]}"
}

# runs PROGRAM: as nobody who may lock nothing; as root what gives that up.
runs() {
	local as=(as_nobody)
	! grep -q 'setuid(' "$1.c" || as=()
	"${as[@]}" "$1" <<<"0123456789abcdef0123456789abcdef" >"$1.out"
}

# Where nobody reaches them.
place() {
	DIR=$STAGE/manual
	rm -rf "$DIR"
	install -d -m 755 "$DIR"
}

@test "the programs that the pages show compile without a warning and run" {
	requires root helper-a command:cc
	local page program
	place
	library
	for page in "$MAN"/*.[37]; do
		programs_of_page "$page" "$DIR/$(basename "$page")-"
	done
	ls "$DIR"
	for page in $(pages "$MAN" | grep -E '\.[37]$'); do
		[ -e "$DIR/$(basename "$page")-1.c" ]
	done
	for program in "$DIR"/*.c; do
		echo "$program"
		builds "${program%.c}"
		runs "${program%.c}"
	done
	grep -qx '33 bytes, locked' "$DIR/secmalloc.3-1.out"
	grep -qx 'locked by a helper' "$DIR/secmalloc_stats.3-1.out"
}

@test "a program of a page that does not compile, or fails, is found" {
	requires root helper-a command:cc
	place
	library
	sed 's/secfree(secret)/secfree(secret, 1)/' "$MAN/secmalloc.3" >"$DIR/one.3"
	sed 's/return 0;/return 3;/' "$MAN/secmalloc.3" >"$DIR/two.3"
	programs_of_page "$DIR/one.3" "$DIR/one-"
	programs_of_page "$DIR/two.3" "$DIR/two-"
	run ! builds "$DIR/one-1"
	builds "$DIR/two-1"
	run ! runs "$DIR/two-1"
}

@test "the programs of README.md and docs/ compile without a warning and run" {
	requires root helper-a command:cc "header:sodium.h" "header:openssl/crypto.h"
	local text program
	place
	library
	for text in "${TEXTS[@]}"; do
		programs_of_text "$text" "$DIR/$(basename "$text")-"
	done
	[ -e "$DIR/README.md-1.c" ]
	[ -e "$DIR/migration.md-5.c" ]
	for program in "$DIR"/*.c; do
		echo "$program"
		builds "${program%.c}"
		runs "${program%.c}"
	done
}
