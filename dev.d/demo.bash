# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# ./dev demo: one program in locked memory beside one in malloc's, while the
# machine is made to swap.

DEMO_SECRET='the default secret of ./dev demo'

demo_read_secret() {
	SECRET=
	if [ ! -t 0 ]; then
		IFS= read -r SECRET || true
	fi
	SECRET=${SECRET:0:256}
	SECRET=${SECRET:-$DEMO_SECRET}
}

demo_build() {
	source_copy
	build build --prefix="$WORK/prefix" --runstatedir="$WORK/run" \
		--with-helper-user="$(unused_uid)" --with-privilege="$1"
	make tests/hold tests/pages
	make install
	make install-privileged
	install -D -t "$WORK/bin" tests/hold tests/pages
}

# Starts the two holds: in what memory, and by whom it can be locked, depends on
# what the machine allows.
demo_hold() {
	local -a as=("${AS_NOBODY[@]}") kind=(secmalloc)
	local limit
	BYTES=$((16 * MIB))
	WHO="uid 65534 with RLIMIT_MEMLOCK 0 and no capability"
	LOCKED_BY="by the helper ($PRIVILEGE)"
	mkdir -m 700 "$WORK/holds"
	hold_setup "$WORK/bin" "$WORK/holds"

	if ! is_root; then
		LEFT_OUT+=("no root, so the helper has no privilege and the program locks what its own limit allows")
		as=() kind=(inprocess)
		limit=$(ulimit -l)
		if [ "$limit" != unlimited ] && [ $((limit * 1024)) -lt $((2 * BYTES)) ]; then
			BYTES=$((limit * 1024 / 2))
		fi
		[ "$BYTES" -gt $((8 * 1024)) ] ||
			die "without root nothing can be shown here: RLIMIT_MEMLOCK is $limit KiB"
		WHO="uid $(id -u) with RLIMIT_MEMLOCK $limit KiB"
		LOCKED_BY="by the program itself"
	elif [ "$PRIVILEGE" = none ]; then
		LEFT_OUT+=("/var/tmp is mounted nosuid, so the helper has no privilege there")
		as=() kind=(inprocess)
		WHO="uid 65534"
		LOCKED_BY="by the program itself before it gave up root"
	fi
	hold_start locked "$SECRET" "${as[@]}" "$WORK/bin/hold" "${kind[@]}" "$BYTES" locked: ||
		return 1
	hold_start plain "$SECRET" "${as[@]}" "$WORK/bin/hold" malloc "$BYTES" plain:
}

# Sets SQUEEZED where there is swap and a cgroup to squeeze.
demo_squeeze() {
	SQUEEZED=
	is_root || return 0
	if [ -z "$MEMCG" ]; then
		LEFT_OUT+=("no memory cgroup: nothing was squeezed")
	elif ! swap_make "$WORK" 64 2>"$WORK/swap.err"; then
		LEFT_OUT+=("no swap: $(tail -n 1 "$WORK/swap.err")")
	elif squeeze $((2 * MIB)) plain; then
		SQUEEZED=yes
	else
		return 1
	fi
}

# row NAME LOCKED PLAIN [EXPECTED-LOCKED]
row() {
	local colour=
	if [ -n "${4:-}" ]; then
		colour=$green
		[ "$2" = "$4" ] || { colour=$red && VERDICT=1; }
	fi
	printf '  %-22s %s%14s%s %20s\n' "$1" "$colour" "$2" "${colour:+$plain}" "$3"
}

found() {
	if [ "$1" = 0 ]; then
		echo "not found"
	else
		echo "$1 times"
	fi
}

demo_table() {
	local pages word in_locked in_plain
	local -A locked

	hold_pages locked || return 1
	for word in "${!PAGES[@]}"; do
		locked[$word]=${PAGES[$word]}
	done
	pages=${locked[pages]}
	hold_pages plain || return 1
	if [ -z "${locked[mlocked]:-}" ] && is_root; then
		LEFT_OUT+=("no /proc/kpageflags: mlocked and unevictable cannot be seen from outside")
	fi

	printf '\n  %s%-22s %14s %20s%s\n' "$bold" "" secmalloc malloc "$plain"
	row pages "$pages" "${PAGES[pages]}"
	row present "${locked[present]}" "${PAGES[present]}" "$pages"
	if [ -n "${locked[mlocked]:-}" ]; then
		row mlocked "${locked[mlocked]}" "${PAGES[mlocked]}" "$pages"
		row unevictable "${locked[unevictable]}" "${PAGES[unevictable]}" "$pages"
	fi
	row swapped "${locked[swapped]}" "${PAGES[swapped]}" 0
	if [ -n "$SQUEEZED" ]; then
		in_locked=$(swap_count "locked:$SECRET") && in_plain=$(swap_count "plain:$SECRET") ||
			return 1
		row "secret in swap file" "$(found "$in_locked")" "$(found "$in_plain")" "not found"
		# The control: a search that finds nothing anywhere has shown nothing.
		[ "$in_plain" != 0 ] || VERDICT=1
	fi
	say
}

demo_verdict() {
	local line
	for line in "${LEFT_OUT[@]}"; do
		say "  Left out: $line."
	done
	if [ "$VERDICT" != 0 ]; then
		say "  ${red}It does not hold.${plain}"
	elif [ -n "$SQUEEZED" ]; then
		say "  ${green}Under the same pressure malloc's memory went to swap and secmalloc's stayed.${plain}"
	else
		say "  Locked, as far as can be seen here. That it stays out of swap was not shown."
	fi
	return "$VERDICT"
}

demo() {
	PRIVILEGE='' VERDICT=0
	LEFT_OUT=()

	demo_read_secret
	work_make demo
	packages_install "$NEEDED_BY_DEMO"
	PRIVILEGE=$(privilege_possible)
	say "Building in $WORK"
	quietly demo_build "$PRIVILEGE"
	! is_root || memcg_make 2>/dev/null || MEMCG=
	demo_hold || die "nothing here may lock memory, and so the library returned none"
	say "$((BYTES / 1024)) KiB of each kind, held by $WHO;"
	say "secmalloc's is locked $LOCKED_BY."
	demo_squeeze || die "the squeeze had no force, so it shows nothing"
	demo_table || die "the pages or the swap file could not be read"
	hold_end locked || VERDICT=1
	hold_end plain || VERDICT=1
	demo_verdict
}
