#!/usr/bin/env bats
# The table at exit: who gets it, and that its figures are those of the library.

load helpers

setup() {
	requires root
	SAID=$BATS_TEST_TMPDIR/said ERRORS=$BATS_TEST_TMPDIR/errors
	unset SECMALLOC_STATS
}

# report STATS ARG...: the program's own figures go to SAID, the table to ERRORS.
report() {
	SECMALLOC_STATS=$1 "$STAGE/bin/report" "${@:2}" >"$SAID" 2>"$ERRORS"
}

# table BY: what the table must be, from what the program has said last.
table() {
	local name value tenths
	local -A said
	while read -r name value; do
		said[$name]=$value
	done <"$SAID"
	tenths=$((said[metadata] * 1000 / said[locked]))
	echo "libsecmalloc: process ${said[pid]} at its exit"
	printf '  %-18s%12s\n' "locked by" "$1" pools "${said[pools]}" \
		"locked bytes" "${said[locked]}" "live objects" "${said[objects]}" \
		"object bytes" "${said[bytes]}" "cached bytes" "${said[cached]}"
	printf '  %-18s%12s  (%s%% of locked)\n' "metadata bytes" "${said[metadata]}" \
		"$((tenths / 10)).$((tenths % 10))"
	printf '  %-18s%12s\n' "guarded objects" "${said[guards]}" \
		"unguarded objects" "${said[unguarded]}"
}

@test "with SECMALLOC_STATS=1 the table is the figures of the library" {
	report 1 inprocess
	diff "$ERRORS" <(table in-process)
	grep -qx '  live objects  *4' "$ERRORS"
	grep -qx '  object bytes  *101110' "$ERRORS"
	grep -Eqx '  locked bytes  *[1-9][0-9]{5,}' "$ERRORS"
	grep -Eqx '  pools  *[1-9]' "$ERRORS"
}

@test "the table says when the helper locks" {
	requires helper-a
	SECMALLOC_TEST_HELPER=$HELPER_A report 1 helper
	diff "$ERRORS" <(table helper)
}

@test "the table comes when the program's own handlers are done" {
	report 1 inprocess handler
	diff "$ERRORS" <(table in-process)
	grep -qx '  live objects  *3' "$ERRORS"
}

@test "the environment counts as it was when the library was loaded" {
	report 1 inprocess unset
	diff "$ERRORS" <(table in-process)
	report '' inprocess set
	[ ! -s "$ERRORS" ]
}

@test "nothing is said unless it is asked for" {
	"$STAGE/bin/report" inprocess >"$SAID" 2>"$ERRORS"
	[ ! -s "$ERRORS" ]
	report '' inprocess
	[ ! -s "$ERRORS" ]
	report 0 inprocess
	[ ! -s "$ERRORS" ]
}

@test "nothing is said of a library that has not started, or was shut down" {
	report 1 inprocess idle
	[ ! -s "$ERRORS" ]
	report 1 inprocess shutdown
	[ ! -s "$ERRORS" ]
}

@test "a child that exits has a table of its own" {
	report 1 inprocess fork
	same "$(grep -c '^libsecmalloc: process ' "$ERRORS")" 2
	# The child was first to say and first to exit; the parent waited.
	cp "$SAID" "$SAID.both"
	cp "$ERRORS" "$ERRORS.both"
	head -n 10 "$SAID.both" >"$SAID"
	diff <(head -n 10 "$ERRORS.both") <(table in-process)
	tail -n 10 "$SAID.both" >"$SAID"
	diff <(tail -n 10 "$ERRORS.both") <(table in-process)
	same "$(sed -n 's/^  live objects  *//p' "$ERRORS.both" | xargs)" "3 4"
}

@test "the exit status is the program's own, also if nobody reads" {
	run -3 --separate-stderr env SECMALLOC_STATS=1 "$STAGE/bin/report" inprocess three
	report 1 inprocess closed
	[ ! -s "$ERRORS" ]
	report 1 inprocess broken
	# The control: SIGPIPE ends a program that writes there itself.
	run -141 "$STAGE/bin/report" inprocess broken-and-used
}

@test "nothing is said by a program that runs with somebody else's privilege" {
	requires helper-b
	local set=$STAGE/report-setuid
	export SECMALLOC_STATS=1
	install -o 0 -g 0 -m 4755 "$STAGE/bin/report" "$set"
	as_nobody "$set" inprocess >"$SAID" 2>"$ERRORS"
	grep -qx 'euid 0' "$SAID"
	[ ! -s "$ERRORS" ]
	# The same user, without that privilege.
	SECMALLOC_TEST_HELPER=$HELPER_B as_nobody "$STAGE/bin/report" helper >"$SAID" 2>"$ERRORS"
	grep -qx "euid $NOBODY_UID" "$SAID"
	diff "$ERRORS" <(table helper)
}
