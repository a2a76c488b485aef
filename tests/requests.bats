#!/usr/bin/env bats
# Whatever a client says to its helper, it is answered as the protocol promises
# or the conversation is over; another client's service goes on, and all that
# the helper held is given back.

load helpers

# requests HELPER GROUP...: see requests.c
requests() {
	local helper=$1 shares=$LEDGER/ledger
	shift
	[ "$helper" != "$HELPER_C" ] || shares=
	SECMALLOC_TEST_HELPER=$helper SECMALLOC_TEST_LEDGER=$shares \
		"$STAGE/bin/requests" "$@" 3>&-
	# Nothing of it is left, once the last of the helpers has ended.
	for _ in {1..100}; do
		run -0 "$HELPER_A" --usage
		[[ $output == *nobody* || ! ${lines[-1]} =~ ^total[\ 0]+$ ]] || return 0
		sleep 0.05
	done
	echo "$output"
	return 1
}

# everywhere GROUP: in each layout.
everywhere() {
	requires root helper-a helper-b helper-c
	requests "$HELPER_A" "$1"
	requests "$HELPER_B" "$1"
	requests "$HELPER_C" "$1"
}

@test "each request is answered at its time, and ends the conversation at any other" {
	everywhere order
}

@test "a request that breaks a rule of form ends the conversation, and no lock" {
	everywhere form
}

@test "so it does before HELLO and while a pool is granted" {
	requires root helper-a
	requests "$HELPER_A" form-elsewhen
}

@test "an id is that of the client's own pool, or ends the conversation" {
	everywhere ids
}

@test "a size that is no whole pages or beyond the limit is refused, and the conversation goes on" {
	everywhere sizes
}

@test "no descriptor that is sent stays open, whatever it is of" {
	requires root helper-a
	requests "$HELPER_A" descriptors
}

@test "a pool that is not whole is refused, and a locked one stays whole" {
	everywhere memory
}

@test "what is adopted is a whole memfd of ordinary pages, within the limit, or refused" {
	everywhere adopt
}

@test "what the client set on the socket is no matter to the helper" {
	requires root helper-a
	requests "$HELPER_A" options
}

@test "a client that leaves, in whichever way, keeps what it maps and no more" {
	everywhere leaving
}

@test "a hundred thousand requests at once delay nobody, and leave nothing" {
	requires root helper-a
	requests "$HELPER_A" bursts
}

@test "a thousand grants and releases leave memory and descriptors where they were" {
	everywhere sequences
}
