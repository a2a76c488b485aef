#!/usr/bin/env bats
# The administrator's policy: what is understood, whom it means, and that nothing
# is served by one that is wrong.

# shellcheck disable=SC2030,SC2031 # each test is a subshell, as it should be
load helpers

setup() {
	FILE=$STAGE/policy.$$
	DEFAULT_TOTAL=$(percent 25)
	UINT64_MAX=18446744073709551615
}

teardown() {
	rm -rf "$FILE"
	[ "$(id -u)" != 0 ] || rm -rf "$POLICY"
}

# percent N: of the memory, in bytes.
percent() {
	local one=$(($(getconf _PHYS_PAGES) * $(getconf PAGESIZE) / 100))
	echo $((one * $1))
}

# as UID GID[,GID...] CMD...
as() {
	local groups=(--clear-groups)
	[[ $2 != *,* ]] || groups=(--groups "${2#*,}")
	setpriv --reuid "$1" --regid "${2%%,*}" "${groups[@]}" --inh-caps=-all -- "${@:3}"
}

# content TEXT: of the file, with the escapes of printf.
content() {
	printf '%b' "$1" >"$FILE"
	chmod 644 "$FILE"
}

# alike NUMBER NUMBER: but for what rounding a percentage may take away.
alike() {
	[ "$1" = "$2" ] || { [ "$1" -gt 100000000 ] && [ $(($1 - $2)) -ge 0 ] &&
		[ $(($1 - $2)) -le $((100 * $(getconf PAGESIZE))) ]; }
}

# gives LIMIT HELPERS TOTAL CMD...: what the file gives who runs CMD.
gives() {
	run -0 "${@:4}" "$HELPER_NONE" --check-config "$FILE"
	[ "${lines[0]}" = "$FILE: correct" ]
	[[ ${lines[1]} =~ ^user\ [0-9]+:\ limit\ ([0-9]+)\ bytes,\ helpers\ ([0-9]+)\;\ total\ ([0-9]+)\ bytes$ ]] &&
		alike "$1" "${BASH_REMATCH[1]}" && [ "$2" = "${BASH_REMATCH[2]}" ] &&
		alike "$3" "${BASH_REMATCH[3]}" && return
	printf '%s\n' "$(cat -A "$FILE")" "$output" "where $1 $2 $3 was expected"
	return 1
}

@test "every way to write a size or a count is understood" {
	requires helper-none
	local text limit helpers total
	while IFS='|' read -r text limit helpers total; do
		content "$text"
		gives "${limit:-67108864}" "${helpers:-64}" "${total:-$DEFAULT_TOTAL}" as_nobody
	done <<-END
		|||
		\n\n|||
		# limit * 5|||
		\t # limit * 5\n|||
		total 0|||0
		total 1|||1
		total 1K\n|||1024
		total 3M # of all|||3145728
		total 2G\n\n|||2147483648
		total 0%|||0
		total 1%|||$(percent 1)
		total 100%|||$(percent 100)
		limit * 50%|$(percent 50)||
		limit * $UINT64_MAX|$UINT64_MAX||
		limit * 18014398509481983K|18446744073709550592||
		limit * 17592186044415M|18446744073708503040||
		limit * 17179869183G|18446744072635809792||
		limit * 0007|7||
		\tlimit\t*\t \t5K\t|5120||
		helpers * 0||0|
		helpers * 7\nlimit * 1M\ntotal 2M|1048576|7|2097152
		helpers * $UINT64_MAX||$UINT64_MAX|
		limit * 1\n#\xff\xfe\x01\nhelpers * 2|1|2|
	END
}

# refuses LINE WHAT: the file, naming the line and the word that is wrong.
refuses() {
	run -78 as_nobody "$HELPER_NONE" --check-config "$FILE"
	# shellcheck disable=SC2053
	[[ $output == "secmalloc-helper: $FILE:$1: "$2 ]] && return
	printf '%s\n' "$(head -c 200 "$FILE" | cat -A)" "$output" "where line $1: $2 was expected"
	return 1
}

@test "what is not understood is refused with the line and the word" {
	requires helper-none
	local line what text
	while IFS='|' read -r line what text; do
		content "$text"
		refuses "$line" "$what"
	done <<-'END'
		1|'frobnicate' *|frobnicate * 5
		1|'Total' *|Total 5
		1|'%' *|% 5
		1|'5' *|5
		1|'?total' *|\xfftotal 5
		1|'total?5' *|total\v5
		3|'foo' *|# of\n\nfoo
		4|'5Q' *|total 5\nlimit * 5\nhelpers * 5\nlimit * 5Q\n
		4|'foo' *|total 5\nlimit * 5\nhelpers * 5\nfoo\nbar
		1|'total' *|total
		1|'total' *|total # 5
		1|'total' *|total 5 6
		1|'total' *|total * 5
		1|'limit' *|limit
		1|'limit' *|limit *
		1|'limit' *|limit 64M
		1|'limit' *|limit *#5
		1|'limit' *|limit * 64M 5
		1|'limit' *|limit * 64 M
		1|'limit' *|limit root daemon 5
		1|'helpers' *|helpers
		1|'helpers' *|helpers 5
		1|'helpers' *|helpers * 5 5
		1|'%' *|limit % 5
		1|'??' *|limit \xff\xfe 5
		1|'-1' *|total -1
		1|'+5' *|total +5
		1|'0x10' *|total 0x10
		1|'1e3' *|total 1e3
		1|'1.5G' *|total 1.5G
		1|'K' *|total K
		1|'%' *|total %
		1|'5k' *|total 5k
		1|'5KB' *|total 5KB
		1|'5T' *|total 5T
		1|'5KK' *|total 5KK
		1|'5%%' *|total 5%%
		1|'5%K' *|total 5%K
		1|'M5' *|total M5
		1|'101%' *|total 101%
		1|'18446744073709551615%' *|total 18446744073709551615%
		1|'18446744073709551616%' *|total 18446744073709551616%
		1|'18446744073709551616' *|total 18446744073709551616
		1|'99999999999999999999999999' *|total 99999999999999999999999999
		1|'18014398509481984K' *|limit * 18014398509481984K
		1|'17592186044416M' *|limit * 17592186044416M
		1|'17179869184G' *|limit * 17179869184G
		1|'9223372036854775808G' *|limit * 9223372036854775808G
		1|'5K' *|helpers * 5K
		1|'5%' *|helpers * 5%
		1|'-1' *|helpers * -1
		1|'18446744073709551616' *|helpers * 18446744073709551616
		1|'@' *|limit @ 5
		1|'4294967295' *|limit 4294967295 5
		1|'4294967296' *|limit 4294967296 5
		1|'99999999999999999999999999' *|limit 99999999999999999999999999 5
		1|'@4294967295' *|limit @4294967295 5
		1|'total?' *|total\r\n
		1|'5?' *|total 5\r\nlimit * 5\r\n
		2|'?' *|total 5\n\r\n
		2|'total' *|total 5\ntotal 5
		3|'total' *|total 5\n\ntotal 6
	END
}

@test "a line is wrong whomever it means" {
	requires helper-none
	content "limit 65533 5Q"
	refuses 1 "'5Q' *"
	content "limit no-such-user-here 5Q"
	refuses 1 "'5Q' *"
	content "limit 65534 5\nhelpers @65533 5K"
	refuses 2 "'5K' *"
}

@test "a file of 64 KiB is read to its end, a longer one is refused, and so is a null byte" {
	requires helper-none
	{
		printf 'limit * 5\n#'
		head -c $((65536 - 11 - 12)) /dev/zero | tr '\0' x
		printf '\nhelpers * 3'
	} >"$FILE"
	[ "$(stat -c %s "$FILE")" = 65536 ]
	gives 5 3 "$DEFAULT_TOTAL" as_nobody
	printf '\n' >>"$FILE"
	run -78 as_nobody "$HELPER_NONE" --check-config "$FILE"
	[[ $output == "secmalloc-helper: $FILE: "*"64 KiB"* ]]
	content 'limit * 5\n\0'
	run -78 as_nobody "$HELPER_NONE" --check-config "$FILE"
	[[ $output == "secmalloc-helper: $FILE: "* ]]
	content 'limit * 5\0\nfoo'
	run -78 as_nobody "$HELPER_NONE" --check-config "$FILE"
	[[ $output == "secmalloc-helper: $FILE: "* ]]
}

@test "a very long line is refused with as much of it as a message holds" {
	requires helper-none
	local x
	x=$(head -c 65000 /dev/zero | tr '\0' x)
	content "$x"
	refuses 1 "'xxx*"
	[ "${#output}" -lt 300 ]
	content "total $x"
	refuses 1 "'xxx*"
	content "limit @$x"
	refuses 1 "'limit' *"
	content "limit * 5 $x"
	refuses 1 "'limit' *"
	content "limit $x 5"
	refuses 1 "'xxx*' is not known"
}

@test "the narrowest line counts, and of those that are alike the largest" {
	requires root helper-none
	local text limit helpers
	while IFS='|' read -r text limit helpers; do
		content "$text"
		gives "$limit" "$helpers" "$DEFAULT_TOTAL" as 65534 65534,5001,5002
		# In whatever order.
		printf '%b\n' "$text" | tac >"$FILE"
		gives "$limit" "$helpers" "$DEFAULT_TOTAL" as 65534 65534,5001,5002
	done <<-'END'
		limit * 9\nlimit * 3|9|64
		limit * 9\nlimit @5001 2|2|64
		limit * 9\nlimit @5001 2\nlimit @5002 3|3|64
		limit * 1\nlimit @5001 2\nlimit @5003 9|2|64
		limit * 1\nlimit @65534 2|2|64
		limit * 9\nlimit @5001 8\nlimit 65534 2|2|64
		limit 65534 4\nlimit 65534 2|4|64
		limit 65534 0\nlimit * 9|0|64
		limit 65533 1\nlimit @5003 1\nlimit 5001 1\nlimit @65533 1|67108864|64
		limit 65534 5\nhelpers * 6\nhelpers @5002 4|5|4
		helpers * 9\nhelpers 65534 1\nhelpers @5001 20|67108864|1
		helpers 65534 0|67108864|0
	END
}

@test "names are those of users and groups, and one that is not known is an error" {
	requires root helper-none
	local name
	name=$(id -gn 0)
	content "limit root 5\nhelpers @$name 6"
	gives 5 6 "$DEFAULT_TOTAL" as 0 0
	gives 67108864 6 "$DEFAULT_TOTAL" as 65534 65534,0
	gives 67108864 64 "$DEFAULT_TOTAL" as 65534 65534
	for name in no-such-user-here @no-such-group-here; do
		content "limit * 1M\nlimit $name 0"
		run -78 "$HELPER_NONE" --check-config "$FILE"
		[ "$output" = "secmalloc-helper: $FILE:2: '$name' is not known" ]
	done
}

@test "--check-config says what the policy gives its caller, whichever privilege the program has" {
	requires root helper-a helper-b helper-c
	local helper
	content "limit 65534 1M\nlimit 0 2M\nlimit $HELPER_UID 3M\nhelpers @65534 5\nhelpers @0 6"
	for helper in "$HELPER_A" "$HELPER_B" "$HELPER_C"; do
		run -0 as_nobody "$helper" --check-config "$FILE"
		[[ ${lines[1]} == "user 65534: limit 1048576 bytes, helpers 5; total "* ]]
		run -0 "$helper" --check-config "$FILE"
		[[ ${lines[1]} == "user 0: limit 2097152 bytes, helpers 6; total "* ]]
	done
}

@test "--check-config reads no file that its caller may not read" {
	requires root helper-a helper-b helper-c
	local helper owner
	content "hunter2\n"
	for owner in 0 "$HELPER_UID"; do
		chown "$owner:$owner" "$FILE"
		chmod 600 "$FILE"
		for helper in "$HELPER_A" "$HELPER_B" "$HELPER_C"; do
			run -78 as_nobody "$helper" --check-config "$FILE"
			[ "$output" = "secmalloc-helper: $FILE: Permission denied" ]
		done
	done
	# Who may read it is told.
	chown "$NOBODY_UID" "$FILE"
	for helper in "$HELPER_A" "$HELPER_B" "$HELPER_C"; do
		run -78 as_nobody "$helper" --check-config "$FILE"
		[[ $output == "secmalloc-helper: $FILE:1: 'hunter2' "* ]]
	done
}

@test "--check-config opens nothing but a regular file, and waits for none" {
	requires helper-none
	local path
	mkdir "$FILE"
	mkfifo -m 644 "$FILE/fifo"
	echo 'total 5' >"$FILE/good"
	ln -s good "$FILE/link"
	for path in "$FILE" "$FILE/fifo" "$FILE/link" /dev/null /dev/zero "$FILE/missing"; do
		run -78 as_nobody timeout 5 "$HELPER_NONE" --check-config "$path"
		echo "$output"
		[[ $output == "secmalloc-helper: $path: "* ]]
	done
	run -0 as_nobody "$HELPER_NONE" --check-config "$FILE/good"
	run -64 as_nobody "$HELPER_NONE" --check-config "$FILE/good" "$FILE/good"
}

# installed TEXT: as the helper's own policy.
installed() {
	rm -rf "$POLICY"
	printf '%b\n' "$1" >"$POLICY"
	chown 0:0 "$POLICY"
	chmod 644 "$POLICY"
}

@test "without a file name the installed policy is checked, its owner and mode too" {
	requires root helper-none
	rm -f "$POLICY"
	run -0 as_nobody "$HELPER_NONE" --check-config
	[[ ${lines[1]} == "user 65534: limit 67108864 bytes, helpers 64; total "* ]]
	installed "limit * 5"
	run -0 as_nobody "$HELPER_NONE" --check-config
	[[ ${lines[1]} == "user 65534: limit 5 bytes, helpers 64; total "* ]]
	local mode
	for mode in 664 646 666; do
		chmod "$mode" "$POLICY"
		run -78 as_nobody "$HELPER_NONE" --check-config
		[[ $output == "secmalloc-helper: $POLICY: "*written* ]]
		# Of a file that is yet to be installed that is not asked.
		run -0 as_nobody "$HELPER_NONE" --check-config "$POLICY"
	done
	chmod 644 "$POLICY"
	chown "$NOBODY_UID" "$POLICY"
	run -78 as_nobody "$HELPER_NONE" --check-config
	[[ $output == "secmalloc-helper: $POLICY: "*root* ]]
	installed "limit * 5\nlimit"
	run -78 as_nobody "$HELPER_NONE" --check-config
	[[ $output == "secmalloc-helper: $POLICY:2: 'limit' "* ]]
}

# pages BYTES
pages() {
	echo $(($1 / $(getconf PAGESIZE)))
}

@test "a helper serves what the policy gives its client, by user, by group and by default" {
	requires root helper-a helper-b helper-c
	local helper k256 m1 m4
	k256=$(pages 262144) m1=$(pages 1048576) m4=$(pages 4194304)
	installed "limit * 256K\nlimit @5001 1M\nlimit @5002 512K\nlimit 65532 4M"
	for helper in "$HELPER_A" "$HELPER_B" "$HELPER_C"; do
		"$STAGE/bin/quota" "$helper" a=65534 "a.hello:OK limit $k256 left $k256" \
			b=65534+65534+5002+5001 "b.hello:OK limit $m1 left $m1" \
			c=65533+5001 "c.hello:OK limit $m1 left $m1" \
			d=65532+65532+5001 "d.hello:OK limit $m4 left $m4" \
			d.grant=$((m4 + 1)):EDQUOT "d.take=$m4:OK" "d.end:exit 0" 3>&-
	done
}

@test "a percentage is of the machine's memory" {
	requires root helper-a
	local want
	installed "limit * 1%"
	want=$(pages "$(percent 1)")
	# MemTotal is in KiB.
	[ $((want * $(getconf PAGESIZE) / 1024)) -le $(($(awk '/MemTotal/ { print $2 }' /proc/meminfo) / 100)) ]
	"$STAGE/bin/quota" "$HELPER_A" a=65534 "a.hello:OK limit $want left $want" 3>&-
}

@test "no helper serves by a policy that is wrong, in whichever line" {
	requires root helper-a helper-b helper-c
	local helper text
	for text in "limit * 64M\nfoo" "limit no-such-user-here 5Q" "total 5\ntotal 5" "total 5\r"; do
		installed "$text"
		for helper in "$HELPER_A" "$HELPER_B" "$HELPER_C"; do
			run -0 as_nobody "$STAGE/bin/wire" "$helper" hello gone
			[ "${lines[1]}" = "hello EPERM id=0 a=0 b=0 c=0" ]
			[ "${lines[2]}" = "gone 0 promptly" ]
		done
	done
	# The same helpers serve without it.
	rm "$POLICY"
	for helper in "$HELPER_A" "$HELPER_B" "$HELPER_C"; do
		run -0 as_nobody "$STAGE/bin/wire" "$helper" hello hangup gone
		[[ ${lines[1]} == "hello OK "* ]]
	done
}

@test "a change of the policy is for helpers that start afterwards" {
	requires root helper-a
	local m1
	m1=$(pages 1048576)
	installed "limit * 1M\nhelpers * 2"
	"$STAGE/bin/quota" "$HELPER_A" a=65534 "a.hello:OK limit $m1 left $m1" \
		"!echo 'limit * 2M' >'$POLICY'" \
		b=65534 "b.hello:OK limit $((2 * m1)) left $((2 * m1))" \
		"a.take=$m1:OK" a.take=1:EDQUOT "b.take=$m1:OK" b.take=1:EDQUOT 3>&-
}
