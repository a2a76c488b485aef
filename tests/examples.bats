#!/usr/bin/env bats
# The examples, which people will copy, work: for root, and for an ordinary user
# who may lock nothing by himself.

load helpers

# everyone EXAMPLE: as root, who needs no helper, and as nobody with each helper.
everyone() {
	requires root helper-a helper-b helper-c
	local helper
	"$STAGE/bin/$1" /nonexistent/secmalloc-helper
	"$STAGE/bin/$1" "$HELPER_A"
	for helper in "$HELPER_A" "$HELPER_B" "$HELPER_C"; do
		as_nobody "$STAGE/bin/$1" "$helper"
	done
}

# refused EXAMPLE: where nothing may lock memory it fails and says so.
refused() {
	run -1 as_nobody "$STAGE/bin/$1" "$HELPER_NONE"
	[[ $output == *"$2"* ]]
}

@test "a program of 0.5 locks as root and goes on as nobody" {
	everyone example-classic
	run -0 "$STAGE/bin/example-classic" /nonexistent/secmalloc-helper
	[ "$output" = "as uid 65534: 28 bytes of password in locked memory" ]
}

@test "an ordinary program keeps 2 MiB of keys with the helper" {
	requires helper-a helper-b helper-c
	local helper
	for helper in "$HELPER_A" "$HELPER_B" "$HELPER_C"; do
		run -0 as_nobody "$STAGE/bin/example-helper" "$helper"
		[[ $output == "uid 65534, RLIMIT_MEMLOCK 0: 2 objects of 2097184 bytes in "*" locked bytes" ]]
	done
}

@test "the event of failure is handled" {
	# The library's event, before AddressSanitizer has one.
	add_options ASAN_OPTIONS allow_user_poisoning=0
	everyone example-failure
	requires helper-a
	run -0 --separate-stderr as_nobody "$STAGE/bin/example-failure" "$HELPER_A"
	[[ ${lines[0]} == "cannot grow to "*": too large, or more than max_locked, or the system is out of memory" ]]
	[ "${lines[1]}" = "misuse noticed by secfree: overflow past the end of an object" ]
	[ "${lines[2]}" = "the child that overflowed was stopped" ]
	# shellcheck disable=SC2154
	[ "$stderr" = "libsecmalloc: secfree(): overflow past the end of an object" ]
}

@test "threads hand locked memory to each other" {
	everyone example-threads
}

@test "a child has its own copy, or none" {
	everyone example-fork
}

@test "a key is out of reach but while it is used" {
	# What it does wrong is the kernel's to stop, not a sanitizer's.
	add_options ASAN_OPTIONS allow_user_poisoning=0:handle_segv=0
	add_options TSAN_OPTIONS handle_segv=0
	everyone example-guarded
	requires helper-a
	run -0 as_nobody "$STAGE/bin/example-guarded" "$HELPER_A"
	[ "${lines[0]}" = "guarded: out of reach but while it is used" ]
	if [ -z "$(requires_why pkeys)" ]; then
		[ "${lines[1]}" = "windows: all objects are out of reach" ]
	else
		[ "${lines[1]}" = "windows: this processor has no protection keys" ]
	fi
}

@test "where nothing may lock memory the examples say so and fail" {
	requires helper-none
	refused example-classic "secmalloc_init: Operation not permitted"
	refused example-helper "secmalloc_init: Operation not permitted"
	refused example-failure "no locked memory: nothing here may lock memory"
	refused example-threads "secmalloc_init: Operation not permitted"
	refused example-fork "secmalloc_init: Operation not permitted"
	refused example-guarded "secmalloc_init: Operation not permitted"
}
