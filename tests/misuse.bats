#!/usr/bin/env bats
# Misuse stops the process, with SIGABRT and one line that names the function.

load helpers

# One row: the misuse, who notices it, and in which words.
TABLE='
double-free-small              secfree               double free
double-free-small-among-others secfree               double free
double-free-pages              secfree               double free
double-free-empty              secfree               double free
double-free-after-realloc      secfree               double free
double-free-by-realloc         secrealloc            double free
foreign-stack                  secfree               not a pointer of this library
foreign-heap                   secfree               not a pointer of this library
foreign-static                 secfree               not a pointer of this library
foreign-unmapped               secfree               not a pointer of this library
foreign-low                    secfree               not a pointer of this library
foreign-high                   secfree               not a pointer of this library
foreign-before-start           secfree               not a pointer of this library
foreign-realloc                secrealloc            not a pointer of this library
foreign-reallocarray           secreallocarray       not a pointer of this library
foreign-usable-size            secmalloc_usable_size not a pointer of this library
after-shutdown                 secfree               not a pointer of this library
after-shutdown-and-start       secfree               not a pointer of this library
released-pool                  secfree               not a pointer of this library
interior-small                 secfree               pointer into the middle of an object
interior-one                   secfree               pointer into the middle of an object
interior-end                   secfree               pointer into the middle of an object
interior-pages                 secfree               pointer into the middle of an object
interior-large                 secfree               pointer into the middle of an object
interior-large-last            secfree               pointer into the middle of an object
interior-realloc               secrealloc            pointer into the middle of an object
interior-usable-size           secmalloc_usable_size pointer into the middle of an object
overflow-small                 secfree               overflow past the end of an object
overflow-empty                 secfree               overflow past the end of an object
overflow-pages                 secfree               overflow past the end of an object
overflow-large                 secfree               overflow past the end of an object
overflow-aligned               secfree               overflow past the end of an object
overflow-shrunk                secfree               overflow past the end of an object
overflow-nul                   secfree               overflow past the end of an object
overflow-nul-large             secfree               overflow past the end of an object
overflow-strdup                secfree               overflow past the end of an object
overflow-realloc-grow          secrealloc            overflow past the end of an object
overflow-realloc-shrink        secrealloc            overflow past the end of an object
overflow-realloc-zero          secrealloc            overflow past the end of an object
overflow-reallocarray          secreallocarray       overflow past the end of an object
freed-realloc                  secrealloc            object was freed before
freed-realloc-pages            secrealloc            object was freed before
freed-reallocarray             secreallocarray       object was freed before
freed-usable-size              secmalloc_usable_size object was freed before
freed-usable-size-pages        secmalloc_usable_size object was freed before
'

# misuse ARG...: as nobody through the helper where we may install one, else by
# ourselves, within RLIMIT_MEMLOCK. Sets STATUS and leaves what was said in $OUT and $ERR. The program
# opens neither, and the shell's own remark on a dead child goes elsewhere.
misuse() {
	OUT=$BATS_TEST_TMPDIR/out ERR=$BATS_TEST_TMPDIR/err
	STATUS=0
	# shellcheck disable=SC2016
	"${AS[@]}" sh -c 'exec "$@" >&8 2>&9 8>&- 9>&-' sh "$STAGE/bin/misuse" "$@" \
		8>"$OUT" 9>"$ERR" 2>/dev/null || STATUS=$?
}

setup() {
	AS=(as_nobody)
	export SECMALLOC_TEST_HELPER=$HELPER_A
	# KiB: what the largest row needs.
	local limit
	limit=$(ulimit -l)
	if [ -n "$(requires_why helper-a)" ] && { [ "$limit" = unlimited ] || [ "$limit" -ge 8192 ]; }; then
		AS=()
		unset SECMALLOC_TEST_HELPER
	else
		requires helper-a
	fi
}

# rows WORD [EXTRA]: holds every row of that kind against what happens.
rows() {
	local name function what bad=0 seen=0
	while read -r name function what; do
		[[ $name == $1-* ]] || continue
		seen=$((seen + 1))
		misuse "$name"
		if [ "$STATUS" != 134 ] || [ -s "$OUT" ] ||
			! cmp -s "$ERR" <(printf 'libsecmalloc: %s(): %s\n' "$function" "$what"); then
			printf '%s: status %s, said: %s\n' "$name" "$STATUS" "$(cat "$OUT" "$ERR")"
			bad=1
		fi
	done <<<"$TABLE"
	[ "$seen" -gt 0 ] && [ "$bad" = 0 ]
}

@test "a program without misuse is not stopped and nothing is said" {
	misuse nothing
	cat "$ERR"
	[ "$STATUS" = 0 ] && [ ! -s "$OUT" ] && [ ! -s "$ERR" ]
}

@test "an object that is freed twice stops the process" {
	rows double-free
}

@test "a pointer from elsewhere stops the process" {
	rows foreign
}

@test "a pointer from before a shutdown stops the process" {
	rows after-shutdown
}

@test "a pointer into a pool that went back stops the process" {
	requires helper-a
	rows released
}

@test "a pointer into the middle of an object stops the process" {
	rows interior
}

@test "one byte beyond the end stops the process when the object is freed or resized" {
	rows overflow
}

@test "use of an object that was freed stops the process" {
	rows freed
}

@test "one byte beyond the end is noticed at every size" {
	misuse every-size
	cat "$OUT" "$ERR"
	[ "$STATUS" = 0 ]
}

@test "on_misuse is told the function, the misuse and its data before the process stops" {
	local name function what bad=0
	requires helper-a
	while read -r name function what; do
		# Nobody has been told of a callback before a start.
		[ -n "$name" ] && [ "$name" != foreign-before-start ] || continue
		misuse "$name" callback
		if [ "$STATUS" != 134 ] || ! cmp -s "$OUT" <(echo "$function|$what|data") ||
			! cmp -s "$ERR" <(printf 'libsecmalloc: %s(): %s\n' "$function" "$what"); then
			printf '%s: status %s, said: %s\n' "$name" "$STATUS" "$(cat "$OUT" "$ERR")"
			bad=1
		fi
	done <<<"$TABLE"
	[ "$bad" = 0 ]
}

@test "a host may fork when it is stopped for a misuse" {
	misuse fork-when-stopped
	cat "$ERR"
	[ "$STATUS" = 7 ]
	[ "$(cat "$ERR")" = "libsecmalloc: secfree(): double free" ]
}

@test "memory locked by the process itself is checked alike" {
	requires root
	AS=()
	unset SECMALLOC_TEST_HELPER
	rows double-free
	rows interior
	rows overflow
	rows released
	misuse nothing
	[ "$STATUS" = 0 ] && [ ! -s "$ERR" ]
}

@test "the table has a row for every misuse that the program knows" {
	diff <("$STAGE/bin/misuse" --list | grep -vxe nothing -e every-size -e fork-when-stopped | sort) \
		<(awk 'NF { print $1 }' <<<"$TABLE" | sort)
}
