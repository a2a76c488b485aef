# shellcheck shell=bash
# What every bats file finds ready: the test programs and the helper, in each of
# its layouts, where uid nobody can reach them. Knows nothing of single tests.

setup_suite() {
	umask 022
	: "${abs_top_srcdir:=$(cd "$BATS_TEST_DIRNAME/.." && pwd)}"
	: "${abs_top_builddir:=$abs_top_srcdir}"
	export abs_top_srcdir abs_top_builddir

	STAGE=$(mktemp -d /var/tmp/secmalloc-test.XXXXXX)
	chmod 755 "$STAGE"
	export STAGE

	mkdir "$STAGE/bin"
	find "$abs_top_builddir/tests" -maxdepth 1 -type f -perm -u+x ! -name '*.*' \
		-exec cp -t "$STAGE/bin" {} +

	export NOBODY_UID=65534 NOBODY_GID=65534
	export HELPER_UID=${HELPER_UID:-64738}
	stage_check_dir
	stage_helpers
}

teardown_suite() {
	rm -rf "$STAGE"
	[ "$(id -u)" != 0 ] || rm -rf "$CHECK_DIR"
}

# Where the tests' helper finds a policy, if a test writes one, and keeps its
# ledger. The directory was compiled in, so it is the Makefile that knows it.
stage_check_dir() {
	if [ -z "${CHECK_DIR:-}" ]; then
		CHECK_DIR=$(sed -n 's/^CHECK_DIR = //p' "$abs_top_builddir/Makefile")
	fi
	# It is removed: let it not be anything else.
	[[ "$CHECK_DIR" =~ ^/run/secmalloc-check-[0-9]+$ ]]
	export CHECK_DIR POLICY=$CHECK_DIR/secmalloc.conf LEDGER=$CHECK_DIR/ledger
	[ "$(id -u)" = 0 ] || return 0
	rm -rf "$CHECK_DIR"
	install -d -o 0 -g 0 -m 755 "$CHECK_DIR"
	install -d -o "$HELPER_UID" -g 0 -m 700 "$LEDGER"
}

# The helper that the tests use drops to a bare number that no account has.
stage_helpers() {
	local built="" candidate
	for candidate in tests/secmalloc-helper helper/secmalloc-helper secmalloc-helper; do
		[ -z "$built" ] && [ -f "$abs_top_builddir/$candidate" ] &&
			built=$abs_top_builddir/$candidate
	done
	export HELPER_A=$STAGE/a/secmalloc-helper HELPER_B=$STAGE/b/secmalloc-helper
	export HELPER_C=$STAGE/c/secmalloc-helper HELPER_NONE=$STAGE/none/secmalloc-helper
	[ -n "$built" ] || return 0

	install -D -m 755 "$built" "$HELPER_NONE"
	[ "$(id -u)" = 0 ] || return 0
	install -D -o "$HELPER_UID" -g 0 -m 755 "$built" "$HELPER_A"
	install -D -o 0 -g 0 -m 755 "$built" "$HELPER_B"
	install -D -o 0 -g 0 -m 755 "$built" "$HELPER_C"
	chmod 4755 "$HELPER_A" "$HELPER_B"
	# Last, since chown drops it; where it cannot be set `requires` says so.
	setcap cap_ipc_lock=p "$HELPER_A" || true
	setcap cap_ipc_lock=p "$HELPER_C" || true
	stage_named
}

# One whose account is a name, if the system knows it.
stage_named() {
	local built=$abs_top_builddir/tests/secmalloc-helper-named
	export HELPER_NAMED_A=$STAGE/account-daemon/a/secmalloc-helper
	export HELPER_NAMED_B=$STAGE/account-daemon/b/secmalloc-helper
	[ -f "$built" ] && getent passwd daemon >/dev/null || return 0
	install -D -o daemon -g 0 -m 755 "$built" "$HELPER_NAMED_A"
	install -D -o 0 -g 0 -m 755 "$built" "$HELPER_NAMED_B"
	chmod 4755 "$HELPER_NAMED_A" "$HELPER_NAMED_B"
	setcap cap_ipc_lock=p "$HELPER_NAMED_A" || true
}
