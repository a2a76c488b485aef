#!/usr/bin/env bats
# The benchmark runs, and leaves nobody out. What it measures is not judged here:
# that takes a machine of its own, and longer.

load helpers

setup() {
	BENCH=$abs_top_builddir/bench/bench
}

# Names and titles of what configure found, besides what is always there.
installed() {
	local word name
	echo "secmalloc secmalloc"
	echo "glibc glibc"
	echo "bzero glibc+bzero"
	while read -r word name; do
		if grep -q "^#define $word " "$abs_top_builddir/config.h"; then
			echo "$name"
		fi
	done <<-END
		HAVE_PEER_SODIUM sodium libsodium
		HAVE_PEER_OPENSSL openssl OpenSSL
		HAVE_PEER_GCRYPT gcrypt libgcrypt
		HAVE_PEER_BOTAN botan Botan
		PEER_JEMALLOC jemalloc jemalloc
		PEER_MIMALLOC mimalloc mimalloc
	END
}

@test "every allocator that is installed is in the table, the JSON and the picture" {
	requires root command:python3
	local name title
	run -0 "$BENCH" --quick --workloads pair-64,ring \
		--json "$BATS_TEST_TMPDIR/json" --svg "$BATS_TEST_TMPDIR/svg"
	echo "$output"
	while read -r name title; do
		# A title, a median, a spread: in both workloads.
		same "$(grep -cE "^  ${title/+/[+]} +[0-9.]+ +[0-9.]+\.\.[0-9.]+" <<<"$output")" 2 "$title"
		same "$(grep -cE "\"peer\": \"$name\", \"median\": [0-9.e+]+," "$BATS_TEST_TMPDIR/json")" 2 "$name"
		grep -q ">$title</text>" "$BATS_TEST_TMPDIR/svg"
	done < <(installed)
	[[ $output == *"pair-64 / glibc "* ]]
	python3 -m json.tool "$BATS_TEST_TMPDIR/json" >/dev/null
	python3 -c 'import sys, xml.dom.minidom as m; m.parse(sys.argv[1])' "$BATS_TEST_TMPDIR/svg"
}

@test "ours is put through every workload, and none of them fails" {
	requires root
	local json=$BATS_TEST_TMPDIR/json
	run -0 "$BENCH" --quick --peers secmalloc --setup 10000 --json "$json"
	echo "$output"
	same "$(grep -c '^  secmalloc ' <<<"$output")" 21
	[[ $output != *"  n/a  "* ]]
	same "$(grep -c '"median": ' "$json")" 21
}

@test "what cannot be measured is named with the reason" {
	run -0 "$BENCH" --quick --peers glibc --workloads fill
	[[ $output == *"glibc"*"n/a  it locks nothing"* ]]
}

@test "instructions are counted without those of the start" {
	requires root command:valgrind
	run -0 "$BENCH" --quick --peers secmalloc --workloads pair-64
	[[ $output =~ "of ours: "([0-9]+)[.0-9]*" within secmalloc() and secfree(), "([0-9]+) ]]
	# The start alone takes more than a hundred thousand.
	((BASH_REMATCH[1] > 10 && BASH_REMATCH[1] < 5000))
	((BASH_REMATCH[2] > 2 && BASH_REMATCH[2] < 100))
}

@test "a goal that is missed is told by the exit status, if asked" {
	requires root
	run "$BENCH" --quick --peers secmalloc,glibc --workloads pair-64 --goals
	if [[ $output == *"  MISS"* ]]; then
		same "$status" 1
	else
		same "$status" 0
	fi
}
