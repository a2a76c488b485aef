#!/usr/bin/env bats
# Every verb does what secmalloc.h says of it, whoever locks.

load helpers

# limited BYTES CMD...: as nobody, who may lock BYTES by himself.
limited() {
	local bytes=$1
	shift
	if [ "$(id -u)" = 0 ]; then
		prlimit --memlock="$bytes:$bytes" -- setpriv --reuid "$NOBODY_UID" \
			--regid "$NOBODY_GID" --clear-groups --inh-caps=-all --ambient-caps=-all -- "$@" 3>&-
	else
		prlimit --memlock="$bytes:$bytes" -- "$@" 3>&-
	fi
}

@test "the verbs do what the header says, for nobody, through a helper owned by its user" {
	requires helper-a
	SECMALLOC_TEST_HELPER=$HELPER_A as_nobody "$STAGE/bin/api" helper
}

@test "the verbs do what the header says, for nobody, through a setuid-root helper" {
	requires helper-b
	SECMALLOC_TEST_HELPER=$HELPER_B as_nobody "$STAGE/bin/api" helper
}

@test "the verbs do what the header says, for nobody, through a helper with a capability" {
	requires helper-c
	SECMALLOC_TEST_HELPER=$HELPER_C as_nobody "$STAGE/bin/api" helper
}

@test "the verbs do what the header says where root locks by itself" {
	requires root
	"$STAGE/bin/api" inprocess
}

@test "within a limit of 64 KiB memory is locked up to that limit" {
	limited 65536 "$STAGE/bin/api" limited
}

@test "without a helper and with a limit of 0 everything is refused" {
	as_nobody "$STAGE/bin/api" refused
}
