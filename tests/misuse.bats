#!/usr/bin/env bats
# Misuse stops the process, with SIGABRT and one line that names the function.

load helpers

# One row: the misuse, who notices it, and in which words.
TABLE='
double-free-small                  secfree               double free
double-free-small-among-others     secfree               double free
double-free-after-many             secfree               double free
double-free-after-other-sizes      secfree               double free
double-free-by-another-thread      secfree               double free
double-free-after-another-thread   secfree               double free
double-free-aligned                secfree               double free
double-free-pages                  secfree               double free
double-free-empty                  secfree               double free
double-free-after-realloc          secfree               double free
double-free-after-realloc-in-place secfree               double free
double-free-by-realloc             secrealloc            double free
foreign-stack                      secfree               not a pointer of this library
foreign-heap                       secfree               not a pointer of this library
foreign-heap-page                  secfree               not a pointer of this library
foreign-unaligned                  secfree               not a pointer of this library
foreign-code                       secfree               not a pointer of this library
foreign-static                     secfree               not a pointer of this library
foreign-unmapped                   secfree               not a pointer of this library
foreign-low                        secfree               not a pointer of this library
foreign-high                       secfree               not a pointer of this library
foreign-before-start               secfree               not a pointer of this library
foreign-realloc                    secrealloc            not a pointer of this library
foreign-reallocarray               secreallocarray       not a pointer of this library
foreign-usable-size                secmalloc_usable_size not a pointer of this library
foreign-usable-size-low            secmalloc_usable_size not a pointer of this library
foreign-usable-size-stack          secmalloc_usable_size not a pointer of this library
after-shutdown                     secfree               not a pointer of this library
after-shutdown-and-start           secfree               not a pointer of this library
released-pool                      secfree               not a pointer of this library
interior-small                     secfree               pointer into the middle of an object
interior-one                       secfree               pointer into the middle of an object
interior-sixteen                   secfree               pointer into the middle of an object
interior-end                       secfree               pointer into the middle of an object
interior-aligned                   secfree               pointer into the middle of an object
interior-pages                     secfree               pointer into the middle of an object
interior-large                     secfree               pointer into the middle of an object
interior-large-page                secfree               pointer into the middle of an object
interior-large-last                secfree               pointer into the middle of an object
interior-realloc                   secrealloc            pointer into the middle of an object
interior-realloc-zero              secrealloc            pointer into the middle of an object
interior-reallocarray              secreallocarray       pointer into the middle of an object
interior-usable-size               secmalloc_usable_size pointer into the middle of an object
interior-usable-size-pages         secmalloc_usable_size pointer into the middle of an object
overflow-small                     secfree               overflow past the end of an object
overflow-empty                     secfree               overflow past the end of an object
overflow-pages                     secfree               overflow past the end of an object
overflow-large                     secfree               overflow past the end of an object
overflow-aligned                   secfree               overflow past the end of an object
overflow-shrunk                    secfree               overflow past the end of an object
overflow-nul                       secfree               overflow past the end of an object
overflow-nul-large                 secfree               overflow past the end of an object
overflow-strdup                    secfree               overflow past the end of an object
overflow-realloc-grow              secrealloc            overflow past the end of an object
overflow-realloc-shrink            secrealloc            overflow past the end of an object
overflow-realloc-zero              secrealloc            overflow past the end of an object
overflow-reallocarray              secreallocarray       overflow past the end of an object
underflow                          secfree               overflow past the end of an object
underflow-realloc                  secrealloc            overflow past the end of an object
freed-realloc                      secrealloc            object was freed before
freed-realloc-moved                secrealloc            object was freed before
freed-realloc-pages                secrealloc            object was freed before
freed-reallocarray                 secreallocarray       object was freed before
freed-usable-size                  secmalloc_usable_size object was freed before
freed-usable-size-pages            secmalloc_usable_size object was freed before
written-malloc                     secmalloc             memory was written to after it was freed
written-calloc                     seccalloc             memory was written to after it was freed
written-aligned-alloc              secaligned_alloc      memory was written to after it was freed
written-realloc                    secrealloc            memory was written to after it was freed
written-reallocarray               secreallocarray       memory was written to after it was freed
written-strdup                     secstrdup             memory was written to after it was freed
written-strndup                    secstrndup            memory was written to after it was freed
written-thread                     secmalloc             memory was written to after it was freed
written-underflow                  secmalloc             memory was written to after it was freed
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
	# What the library notices, before AddressSanitizer can.
	add_options ASAN_OPTIONS allow_user_poisoning=0
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

# From here on memory is locked without a helper.
by_ourselves() {
	AS=()
	unset SECMALLOC_TEST_HELPER
}

# sweep NAME: what the program commits in children of its own.
sweep() {
	misuse "$1"
	cat "$OUT" "$ERR"
	[ "$STATUS" = 0 ]
}

# rows WORD: holds every row of that kind against what happens.
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

@test "one byte before an object stops the process when the object before it is freed or resized" {
	rows underflow
}

@test "use of an object that was freed stops the process" {
	rows freed
}

@test "what is written to an object that was freed stops the process, whoever is handed its memory" {
	rows written
}

@test "a large object that is freed twice stops the process, also if its pool went back" {
	misuse large-twice
	cat "$ERR"
	[ "$STATUS" = 134 ]
	[[ "$(cat "$ERR")" =~ ^"libsecmalloc: secfree(): "("double free"|"not a pointer of this library")$ ]]
}

@test "one byte beyond the end is noticed at every size" {
	sweep every-size
}

@test "one byte beyond the end is noticed at every size up to 4096 without an exception" {
	requires root
	by_ourselves
	sweep every-small-size
}

@test "whichever byte is written beyond the end, and wherever in the canary, is noticed" {
	sweep every-byte
}

@test "whichever byte of a freed object is written to is noticed" {
	sweep every-place
}

@test "questions about any pointer stop nothing" {
	misuse questions
	cat "$ERR"
	[ "$STATUS" = 0 ] && [ ! -s "$ERR" ]
}

@test "on_misuse is told the function, the misuse and its data before the process stops" {
	local name function what bad=0
	requires helper-a
	while read -r name function what; do
		# Nobody has been told of a callback before a start.
		[ -n "$name" ] && [ "$name" != foreign-before-start ] || continue
		misuse "$name" tell
		if [ "$STATUS" != 134 ] || ! cmp -s "$OUT" <(echo "$function|$what|data") ||
			! cmp -s "$ERR" <(printf 'libsecmalloc: %s(): %s\n' "$function" "$what"); then
			printf '%s: status %s, said: %s\n' "$name" "$STATUS" "$(cat "$OUT" "$ERR")"
			bad=1
		fi
	done <<<"$TABLE"
	[ "$bad" = 0 ]
}

# double_free CALLBACK [MISUSE]: with that callback, which says "told".
double_free() {
	misuse "${2:-double-free-small}" "$1"
	echo "status $STATUS, said: $(cat "$ERR")"
}

@test "on_misuse comes before the message" {
	double_free tell-there
	[ "$STATUS" = 134 ]
	diff "$ERR" <(printf '%s\n' told "libsecmalloc: secfree(): double free")
}

@test "an on_misuse that crashes stops the process as well" {
	double_free crash
	[ "$STATUS" = 139 ] && [ "$(cat "$ERR")" = told ]
}

@test "an on_misuse that commits a misuse is not called again" {
	double_free misuse
	[ "$STATUS" = 134 ]
	diff "$ERR" <(printf '%s\n' told "libsecmalloc: secfree(): not a pointer of this library")
}

@test "an on_misuse may fork, and its child allocate" {
	double_free fork
	[ "$STATUS" = 134 ]
	diff "$ERR" <(printf '%s\n' told "libsecmalloc: secfree(): double free")
}

@test "of threads that are stopped at once one is heard" {
	for _ in {1..10}; do
		double_free tell-there threads-at-once
		[ "$STATUS" = 134 ]
		diff "$ERR" <(printf '%s\n' told "libsecmalloc: secfree(): double free")
	done
}

@test "a thread that is cancelled does not get away with a misuse" {
	double_free tell-there cancelled-when-stopped
	[ "$STATUS" = 134 ]
	diff "$ERR" <(printf '%s\n' told "libsecmalloc: secfree(): double free")
}

@test "once on_misuse returns, one write is made, and nothing is waited for or allocated" {
	local trace=$BATS_TEST_TMPDIR/trace calls
	requires root command:strace
	by_ourselves
	AS=(strace -o "$trace")
	double_free tell-there
	calls=$(sed -n '/^write(2, "told/,/--- SIGABRT/p' "$trace" | sed 's/(.*//')
	echo "$calls"
	[ "$(sed -n 1,2p <<<"$calls")" = "$(printf '%s\n' write writev)" ]
	[ "$(grep -c '^write' <<<"$calls")" = 2 ]
	grep -qx -- '--- SIGABRT.*' "$trace"
	# What abort(3) does, and a sanitizer where a function does not return.
	[ -z "$(sed -e 1,2d -e '/^---/d' -e '/^rt_sig/d' -e '/^get.id$/d' -e '/^tg*kill$/d' -e '/^sigaltstack$/d' <<<"$calls")" ]
}

@test "a host may fork when it is stopped for a misuse" {
	misuse fork-when-stopped
	cat "$ERR"
	[ "$STATUS" = 7 ]
	[ "$(cat "$ERR")" = "libsecmalloc: secfree(): double free" ]
}

@test "memory locked by the process itself is checked alike" {
	requires root
	by_ourselves
	rows double-free
	rows interior
	rows overflow
	rows underflow
	rows released
	misuse nothing
	[ "$STATUS" = 0 ] && [ ! -s "$ERR" ]
}

@test "the table has a row for every misuse that the program knows" {
	diff <("$STAGE/bin/misuse" --list | grep -vx nothing | sort) \
		<(awk 'NF { print $1 }' <<<"$TABLE" | sort)
}
