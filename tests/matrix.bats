#!/usr/bin/env bats
# Each way to lock, each policy of forks, as a daemon or not: 24 lives.

load helpers

@test "a program, its daemon and its child keep what is promised them, whoever locks" {
	requires root helper-a helper-b helper-c command:setpriv
	SECMALLOC_TEST_ACCOUNT=$HELPER_UID "$STAGE/bin/matrix" A="$HELPER_A" B="$HELPER_B" \
		C="$HELPER_C" D="$HELPER_NONE" 3>&- | tee "$BATS_TEST_TMPDIR/said"
	same "$(grep -c '^ok' "$BATS_TEST_TMPDIR/said")" 24
}
