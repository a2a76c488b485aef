#!/usr/bin/env bats
# What all helpers together hand out stays within the policy, whoever races, is
# killed, or stands in the way.

# shellcheck disable=SC2030,SC2031 # each test is a subshell, as it should be
load helpers

setup() {
	requires root helper-a helper-b
	# Of uids that no account has, to be printed as numbers.
	ALICE=64801 BOB=64802
	ALL=$(pages 1048576)
	HALF=$((ALL / 2))
	ledger_fresh
}

teardown() {
	[ "$(id -u)" = 0 ] || return 0
	rm -f "$POLICY"
	ledger_fresh
}

ledger_fresh() {
	rm -rf "$LEDGER"
	install -d -o "$HELPER_UID" -g 0 -m 700 "$LEDGER"
}

pages() {
	echo $(($1 / $(getconf PAGESIZE)))
}

# policy LINE...
policy() {
	printf '%s\n' "$@" >"$POLICY"
	chmod 644 "$POLICY"
}

# quota HELPER WORD...: see quota.c
quota() {
	"$STAGE/bin/quota" "$@" 3>&-
}

# row USER HELPERS PAGES: a line of --usage, as a pattern.
row() {
	echo "^$1 +$2 +$(($3 * $(getconf PAGESIZE)))\$"
}

# nothing_is_held: of the ledger, says the program, and says the kernel.
nothing_is_held() {
	local inode
	run -0 "$HELPER_NONE" --usage
	echo "$output"
	[ "${#lines[@]}" = 2 ]
	[[ ${lines[0]} =~ ^user\ +helpers\ +bytes$ ]]
	[[ ${lines[1]} =~ $(row total 0 0) ]]
	inode=$(stat -c %i "$LEDGER/ledger")
	run ! grep "OFDLCK.*:$inode " /proc/locks
}

# running HELPER: how many processes are that file.
running() {
	readlink /proc/[0-9]*/exe | grep -cx "$1" || true
}

@test "what is granted to one client of a user, locked or not, another cannot have" {
	local helper
	policy "limit * 1M"
	for helper in "$HELPER_A" "$HELPER_B"; do
		quota "$helper" a=65534 b=65534 \
			"a.hello:OK limit $ALL left $ALL" "b.hello:OK limit $ALL left $ALL" \
			"a.grant=$HALF:OK" "b.status:OK locked 0 left $HALF" \
			"b.take=$((HALF + 1)):EDQUOT" "b.take=$HALF:OK" \
			"a.status:OK locked 0 left 0" "a.lock:OK" "a.take=1:EDQUOT" \
			"a.status:OK locked $HALF left 0" "b.status:OK locked $HALF left 0" \
			"b.give=1:OK" "a.status:OK locked $HALF left $HALF" \
			"c=65534" "c.hello:OK limit $ALL left $HALF" \
			"a.take=$HALF:OK" "a.status:OK locked $ALL left 0" \
			"b.take=1:EDQUOT" "c.take=1:EDQUOT" \
			"a.end:exit 0" "c.status:OK locked 0 left $ALL" "c.take=$ALL:OK" \
			"c.end:exit 0" "b.end:exit 0"
		nothing_is_held
	done
}

@test "a grant that is withdrawn, or never locked, is given back" {
	local helper
	policy "limit * 1M"
	for helper in "$HELPER_A" "$HELPER_B"; do
		quota "$helper" a=65534 a.hello:OK\* b=65534 b.hello:OK\* \
			"a.grant=$ALL:OK" b.take=1:EDQUOT a.give=1:OK "b.take=$ALL:OK" b.give=1:OK \
			"a.grant=$ALL:OK" b.take=1:EDQUOT "a.end:exit 0" "b.take=$ALL:OK"
	done
}

@test "two users do not touch each other's quota" {
	local helper
	policy "limit * 1M" "limit $BOB 512K" "total 100%"
	for helper in "$HELPER_A" "$HELPER_B"; do
		quota "$helper" a=65534 a.hello:OK\* b="$ALICE" b.hello:OK\* c="$BOB" c.hello:OK\* \
			"a.take=$ALL:OK" a.take=1:EDQUOT \
			"b.status:OK locked 0 left $ALL" "b.take=$ALL:OK" b.take=1:EDQUOT \
			"c.status:OK locked 0 left $HALF" "c.take=$((HALF + 1)):EDQUOT" \
			"c.take=$HALF:OK" c.take=1:EDQUOT \
			a.give=1:OK b.take=1:EDQUOT "a.take=$ALL:OK"
	done
}

@test "the total is over all users" {
	local helper
	policy "limit * 1M" "total 1M"
	for helper in "$HELPER_A" "$HELPER_B"; do
		quota "$helper" a=65534 a.hello:OK\* b="$ALICE" b.hello:OK\* \
			"a.take=$((HALF + 1)):OK" "b.take=$HALF:EDQUOT" "b.take=$((HALF - 1)):OK" \
			b.take=1:EDQUOT a.take=1:EDQUOT a.give=1:OK "b.take=$((HALF + 1)):OK" \
			a.take=1:EDQUOT "b.end:exit 0" "a.take=$ALL:OK"
	done
}

@test "who asks on and on for more than there is takes nothing from others meanwhile" {
	local -a greedy=(b="$ALICE" b.hello:OK\*) modest=(c="$BOB" c.hello:OK\*)
	local more=$((HALF + HALF / 2))
	policy "limit * 1M" "total 1M"
	for _ in {1..3000}; do
		greedy+=("b.grant=$more:EDQUOT")
		modest+=("c.grant=$((HALF / 2)):OK" "c.give=1:OK")
	done
	quota "$HELPER_A" a=65534 a.hello:OK\* "a.take=$HALF:OK" '!sleep 10' &
	sleep 0.5
	quota "$HELPER_A" "${greedy[@]}" &
	quota "$HELPER_A" "${modest[@]}"
	wait
}

@test "what the total refuses is not charged to the user either" {
	policy "limit * 1M" "total 512K"
	quota "$HELPER_A" a=65534 a.hello:OK\* b="$ALICE" b.hello:OK\* "a.take=$HALF:OK" \
		b.take=1:EDQUOT b.take="$HALF":EDQUOT \
		"!'$HELPER_NONE' --usage | grep -Eq '^$ALICE +1 +0\$'" \
		"a.end:exit 0" "b.take=$HALF:OK"
}

@test "of a user's helpers there are as many as the policy says" {
	local helper
	policy "helpers * 3" "helpers $BOB 0" "helpers @5001 4"
	for helper in "$HELPER_A" "$HELPER_B"; do
		quota "$helper" a=65534 a.hello:OK\* b=65534 b.hello:OK\* c=65534 c.hello:OK\* \
			d=65534 d.hello:EDQUOT "d.end:exit 0" \
			e="$ALICE" e.hello:OK\* f="$BOB" f.hello:EDQUOT \
			g=65534+65534+5001 g.hello:OK\* h=65534+65534+5001 h.hello:EDQUOT \
			"g.end:exit 0" "b.end:exit 0" d=65534 d.hello:OK\* b=65534 b.hello:EDQUOT \
			c.kill:OK b=65534 b.hello:OK\*
	done
}

@test "who may have nothing gets nothing, and others do" {
	local helper
	policy "limit * 1M" "limit $BOB 0" "limit $ALICE 4095"
	for helper in "$HELPER_A" "$HELPER_B"; do
		quota "$helper" a="$BOB" "a.hello:OK limit 0 left 0" a.take=1:EDQUOT \
			b="$ALICE" "b.hello:OK limit 0 left 0" b.take=1:EDQUOT \
			c=65534 c.hello:OK\* "c.take=$ALL:OK"
	done
}

@test "a helper that is killed returns its share at once" {
	local helper
	policy "limit * 1M" "total 1M"
	for helper in "$HELPER_A" "$HELPER_B"; do
		quota "$helper" a=65534 a.hello:OK\* b=65534 b.hello:OK\* \
			"a.take=$HALF:OK" "a.grant=$HALF:OK" b.take=1:EDQUOT \
			a.kill:OK "b.soon=$ALL:OK" "b.end:exit 0"
		nothing_is_held
	done
}

@test "a client that is killed returns its share at once" {
	local helper
	policy "limit * 1M" "total 1M"
	for helper in "$HELPER_A" "$HELPER_B"; do
		quota "$helper" a=65534 a.hello:OK\* b=65534 b.hello:OK\* \
			"a.take=$ALL:OK" a.leave:OK b.take=1:EDQUOT \
			a.die:OK "b.soon=$ALL:OK" "a.end:exit 0" "b.end:exit 0"
		nothing_is_held
	done
}

@test "50 processes that race for the last megabyte, and are killed, never exceed it and get all of it" {
	local helper
	policy "limit * 1M" "helpers * 128"
	for helper in "$HELPER_A" "$HELPER_B"; do
		quota --race 3 "$ALL" "$helper"
		nothing_is_held
		quota "$helper" a=65534 "a.hello:OK limit $ALL left $ALL" "a.take=$ALL:OK"
	done
}

@test "a helper that is not bounded is seen by those who watch the race" {
	# The race believes in half of what the policy allows.
	policy "limit * 2M" "helpers * 128"
	run -1 quota --race 1 "$ALL" "$HELPER_A"
	echo "$output"
	[[ $output =~ ([0-9]+)\ excesses,\ 0\ failures ]]
	[ "${BASH_REMATCH[1]}" -gt 0 ]
}

@test "of a quota that is in crumbs all can be had" {
	local name words=()
	policy "limit * 1M"
	for name in {a..y} {A..Y}; do
		words+=("$name=65534" "$name.hello:OK*" "$name.take=1:OK")
	done
	quota "$HELPER_A" "${words[@]}" z=65534 "z.hello:OK limit $ALL left $((ALL - 50))" \
		"z.take=$((ALL - 50)):OK" z.take=1:EDQUOT
}

@test "clients that take turns get all of a quota, page by page" {
	local words=() i other each
	policy "limit * 4M" "total 4M"
	each=$((2 * ALL))
	for ((i = 0; i < each; i++)); do
		words+=(a.take=1:OK b.take=1:OK)
	done
	for other in 65534 "$ALICE"; do
		quota "$HELPER_A" a=65534 a.hello:OK\* "b=$other" b.hello:OK\* "${words[@]}" \
			a.take=1:EDQUOT b.take=1:EDQUOT "b.give=$each:OK" "a.take=$each:OK" \
			"a.give=2:OK" "b.take=2:OK" "a.end:exit 0" "b.end:exit 0" \
			>"$BATS_TEST_TMPDIR/output"
	done
}

@test "helpers that come and go leave nothing behind" {
	local words=() i
	policy "helpers * 2"
	quota "$HELPER_B" a=65534 a.hello:OK\* "!$(declare -f running); running '$HELPER_B' | grep -x 1"
	for ((i = 0; i < 500; i++)); do
		words+=("a=65534" "a.hello:OK*" "a.take=1:OK" "a.end:exit 0")
	done
	quota "$HELPER_B" "${words[@]}" >"$BATS_TEST_TMPDIR/output"
	nothing_is_held
	[ "$(ls -A "$LEDGER")" = ledger ]
	[ "$(stat -c '%s %u %a' "$LEDGER/ledger")" = "0 $HELPER_UID 600" ]
	[ "$(running "$HELPER_B")" = 0 ]
}

@test "nobody else can open the ledger, not even to read, and who could would block it" {
	local helper
	policy "limit * 1M"
	for helper in "$HELPER_A" "$HELPER_B"; do
		quota "$helper" a=65534 a.hello:OK\* a.take=1:OK \
			"a.steal=$NOBODY_UID:0" "a.steal=$ALICE:0" "a.steal=0:[1-9]*" \
			a.give=1:OK block=65534 a.take=1:EDQUOT "a.status:OK locked 0 left 0" \
			b="$ALICE" b.hello:OK\* b.take=1:OK unblock "a.take=$ALL:OK"
	done
}

@test "without its ledger no helper serves, and a set-user-ID root one makes it" {
	policy "limit * 1M"
	rm -r "$LEDGER"
	quota "$HELPER_A" a=65534 a.hello:EPERM "a.end:exit 0"
	[ ! -e "$LEDGER" ]
	quota "$HELPER_B" a=65534 a.hello:OK\* "a.take=$ALL:OK" b=65534 b.hello:OK\* b.take=1:EDQUOT
	[ "$(stat -c '%F %u %a' "$LEDGER")" = "directory $HELPER_UID 700" ]
	quota "$HELPER_A" a=65534 "a.hello:OK limit $ALL left $ALL"
	rm -r "$LEDGER"
	echo >"$LEDGER"
	quota "$HELPER_B" a=65534 a.hello:EPERM
}

@test "asking for the usage before anybody was served keeps nobody from being served" {
	run -0 "$HELPER_NONE" --usage
	quota "$HELPER_A" a=65534 a.hello:OK\* a.take=1:OK
}

@test "a helper that is its caller keeps no ledger, and the limit is each process's" {
	requires helper-c
	policy "limit * 1M" "helpers * 1"
	rm -r "$LEDGER"
	quota "$HELPER_C" a=65534 "a.hello:OK limit $ALL left $ALL" \
		b=65534 "b.hello:OK limit $ALL left $ALL" \
		"a.grant=$HALF:OK" "a.status:OK locked 0 left $HALF" "a.lock:OK" \
		"a.take=$((HALF + 1)):EDQUOT" "a.take=$HALF:OK" "a.status:OK locked $ALL left 0" \
		"b.status:OK locked 0 left $ALL" "b.take=$ALL:OK" b.take=1:EDQUOT
	[ ! -e "$LEDGER" ]
	ledger_fresh
	quota "$HELPER_C" a=65534 a.hello:OK\* a.take=1:OK
	[ -z "$(ls -A "$LEDGER")" ]
}

@test "--usage says to root who holds how much, by name or else by number" {
	local helper out=$BATS_TEST_TMPDIR/usage i row
	policy "limit * 1M"
	for helper in "$HELPER_A" "$HELPER_B"; do
		quota "$helper" a=0 a.hello:OK\* a.take=1:OK b="$ALICE" b.hello:OK\* b.take=3:OK \
			c="$ALICE" c.hello:OK\* c.grant=4:OK d="$BOB" d.hello:OK\* \
			"!'$helper' --usage >'$out'" \
			a.give=1:OK "c.end:exit 0" "b.take=5:OK" "!'$HELPER_NONE' --usage >>'$out'"
		mapfile -t lines <"$out"
		printf '%s\n' "${lines[@]}"
		[ "${#lines[@]}" = 10 ]
		i=0
		for row in '^user +helpers +bytes$' "$(row root 1 1)" "$(row "$ALICE" 2 7)" \
			"$(row "$BOB" 1 0)" "$(row total 4 8)" \
			'^user +helpers +bytes$' "$(row root 1 0)" "$(row "$ALICE" 1 8)" \
			"$(row "$BOB" 1 0)" "$(row total 3 8)"; do
			echo "$row"
			[[ ${lines[i++]} =~ $row ]]
		done
	done
	nothing_is_held
}

@test "--usage is refused to anybody but root" {
	requires helper-c
	local helper
	for helper in "$HELPER_A" "$HELPER_B" "$HELPER_C" "$HELPER_NONE"; do
		run -77 as_nobody "$helper" --usage
		[ "$output" = "secmalloc-helper: --usage is for root" ]
		# Not to the account, either.
		run -77 setpriv --reuid "$HELPER_UID" --regid "$HELPER_UID" --clear-groups \
			--inh-caps=-all "$helper" --usage
		run -0 "$helper" --usage
	done
}
