#!/usr/bin/env bats
# What `make install` puts where, and what install-privileged does to a helper:
# its privilege and nobody else's, all of it or none.

load helpers

setup_file() {
	unset MAKEFLAGS MFLAGS MAKELEVEL
	export DEST=$BATS_FILE_TMPDIR/dest
	make -C "$abs_top_builddir" install DESTDIR="$DEST" \
		>"$BATS_FILE_TMPDIR/install.log"
}

setup() {
	HELPER=$STAGE/install/$BATS_TEST_NUMBER/secmalloc-helper
	PROGRAM=$abs_top_builddir/build-aux/check-helper
	export LEDGER_DIR=$LEDGER
}

# As the other tests expect to find it.
teardown() {
	[ "$(id -u)" = 0 ] || return 0
	rm -rf "$POLICY" "$LEDGER"
	install -d -o "$HELPER_UID" -g 0 -m 700 "$LEDGER"
}

# The helper of the tests, as `make install` leaves it.
place_helper() {
	install -D -m 755 "${1:-$HELPER_NONE}" "$HELPER"
}

install_privileged() {
	"$abs_top_srcdir/build-aux/install-privileged" "$@" "$HELPER" "$PROGRAM" 3>&-
}

looks_like() {
	[ "$(stat -c '%u %a' "$HELPER")" = "$1 $2" ]
	[ "$(getcap "$HELPER")" = "${3:+$HELPER $3}" ]
}

# A tmpfiles.d(5) file that makes DIR for UID.
tmpfiles_for() {
	sed "s|@LEDGER_DIR@|$1|; s|@HELPER_USER@|$2|" \
		"$abs_top_srcdir/system/tmpfiles.conf.in" >"$BATS_TEST_TMPDIR/tmpfiles.conf"
	echo "$BATS_TEST_TMPDIR/tmpfiles.conf"
}

# Not one of sysusers.d or tmpfiles.d.
policy_in() {
	find "$1" -name secmalloc.conf ! -path '*.d/*' | grep .
}

ledger_looks_like() {
	[ "$(stat -c '%u %a %F' "$LEDGER_DIR")" = "$1 700 directory" ]
}

# In a mount namespace where /etc is a copy: accounts are made there only.
with_own_etc() {
	cp -a /etc "$BATS_TEST_TMPDIR/etc"
	# shellcheck disable=SC2016
	unshare --mount bash -euc 'mount --bind "$1" /etc; shift; "$@"' bash \
		"$BATS_TEST_TMPDIR/etc" "$@" 3>&-
}

@test "the header's version is the package's" {
	header=$(sed -n 's/^#define SECMALLOC_VERSION_STRING "\(.*\)"$/\1/p' \
		"$abs_top_srcdir/include/secmalloc.h")
	package=$(sed -n 's/^Version: //p' "$abs_top_builddir/secmalloc.pc")
	[ -n "$header" ]
	[ "$header" = "$package" ]
	numbers=$(sed -n 's/^#define SECMALLOC_VERSION_\(MAJOR\|MINOR\|PATCH\) //p' \
		"$abs_top_srcdir/include/secmalloc.h" | paste -sd.)
	[ "$header" = "$numbers" ]
}

@test "every verb has a man page, and every link leads to a page that names it" {
	while read -r verb; do
		page=$(find "$DEST" -path "*/man3/$verb.3")
		[ -n "$page" ]
		if read -r so target <"$page" && [ "$so" = .so ]; then
			page=${page%/man3/*}/$target
		fi
		grep -qE "^\.Nm $verb( ,)?$" "$page"
	done < <(sed -n 's/^SECMALLOC_API [^(]*[ *]\([a-z_]*\)(.*/\1/p' \
		"$abs_top_srcdir/include/secmalloc.h")
}

@test "make install gives nothing a privilege and names the step that does" {
	helper=$(find "$DEST" -name secmalloc-helper)
	[ "$(stat -c %a "$helper")" = 755 ]
	[ -z "$(find "$DEST" -perm /6000)" ]
	[ -z "$(getcap -r "$DEST")" ]
	grep -q 'secmalloc-helper has no privilege' "$BATS_FILE_TMPDIR/install.log"
}

@test "make install enables nothing" {
	[ -z "$(find "$DEST" -type l -path '*systemd*')" ]
	[ -z "$(find "$DEST" -name '*.wants')" ]
}

@test "the policy that is installed is what holds without one" {
	requires helper-none
	installed=$(policy_in "$DEST")
	[ ! -e "$POLICY" ]
	grants() {
		"$HELPER_NONE" --check-config "$@" | grep '^user '
	}
	default=$(grants)
	[ -n "$default" ]
	[ "$(grants "$installed")" = "$default" ]
	# What is commented out as default is default, and would be understood.
	sed -nE '/^#(total|limit|helpers) /{/ (\*|[0-9]+%)( |$)/s/^#//p}' "$installed" \
		>"$BATS_TEST_TMPDIR/defaults"
	[ "$(wc -l <"$BATS_TEST_TMPDIR/defaults")" = 3 ]
	[ "$(grants "$BATS_TEST_TMPDIR/defaults")" = "$default" ]
	# So are the examples beside it, for names that the system knows.
	sed -E 's/^#(total|limit|helpers) /\1 /; s/ alice / root /; s/ @[a-z]+ / @0 /' \
		"$installed" >"$BATS_TEST_TMPDIR/all"
	grants "$BATS_TEST_TMPDIR/all"
}

@test "a policy that is there is neither overwritten nor removed, an untouched one goes" {
	dest=$BATS_TEST_TMPDIR/dest
	make -C "$abs_top_builddir" install DESTDIR="$dest" >/dev/null
	installed=$(policy_in "$dest")
	cmp "$installed" "$abs_top_srcdir/system/secmalloc.conf"
	echo 'limit * 1M' >"$installed"
	make -C "$abs_top_builddir" install DESTDIR="$dest" >/dev/null
	[ "$(cat "$installed")" = 'limit * 1M' ]
	make -C "$abs_top_builddir" uninstall DESTDIR="$dest" >/dev/null
	[ "$(find "$dest" ! -type d)" = "$installed" ]
	rm "$installed"
	make -C "$abs_top_builddir" install DESTDIR="$dest" >/dev/null
	make -C "$abs_top_builddir" uninstall DESTDIR="$dest" >/dev/null
	[ -z "$(find "$dest" ! -type d)" ]
}

@test "layout setuid: owner, mode and capability are set and the helper works" {
	requires root helper-a
	place_helper
	run -0 install_privileged setuid "$HELPER_UID"
	[[ "$output" == *"locked memory: yes"* ]]
	looks_like "$HELPER_UID" 4755 cap_ipc_lock=p
}

@test "layout setuid-root: owner and mode are set and the helper works" {
	requires root helper-b
	place_helper
	run -0 install_privileged setuid-root "$HELPER_UID"
	[[ "$output" == *"locked memory: yes"* ]]
	looks_like 0 4755
}

@test "layout caps: the capability is set and the helper works" {
	requires root helper-c
	place_helper
	run -0 install_privileged caps "$HELPER_UID"
	[[ "$output" == *"locked memory: yes"* ]]
	looks_like 0 755 cap_ipc_lock=p
}

@test "a second run changes nothing" {
	requires root helper-a
	place_helper
	run -0 install_privileged setuid "$HELPER_UID"
	run -0 install_privileged setuid "$HELPER_UID"
	looks_like "$HELPER_UID" 4755 cap_ipc_lock=p
}

@test "layout none: a helper has no privilege, and no longer has one" {
	requires root helper-a
	place_helper
	run -0 install_privileged none secmalloc
	[[ "$output" == *": no privilege, as configured." ]]
	run -0 install_privileged setuid "$HELPER_UID"
	looks_like "$HELPER_UID" 4755 cap_ipc_lock=p
	run -0 install_privileged none secmalloc
	looks_like 0 755 ''
}

@test "under DESTDIR nothing is done, and what a package has to do is said" {
	place_helper
	DESTDIR=/elsewhere run -1 install_privileged setuid "$HELPER_UID"
	[[ "$output" == *"owner $HELPER_UID, mode 4755, capability cap_ipc_lock=p"* ]]
	[ "$(stat -c %a "$HELPER")" = 755 ]
}

@test "without root nothing is done" {
	place_helper
	# A tree below a home directory is closed to others.
	install -m 755 "$abs_top_srcdir/build-aux/install-privileged" \
		"${HELPER%/*}/script"
	run -1 as_nobody "${HELPER%/*}/script" setuid "$NOBODY_UID" "$HELPER" \
		/bin/true
	[[ "$output" == *"this needs root"* ]]
}

@test "a helper that does not work is left without a privilege" {
	requires root helper-a
	place_helper /bin/true
	run -1 install_privileged setuid "$HELPER_UID"
	[[ "$output" == *"locked memory: no"*"left without a privilege"* ]]
	looks_like 0 755
}

@test "a helper that others cannot reach is left without a privilege, and why is said" {
	requires root helper-a
	place_helper
	chmod 700 "${HELPER%/*}"
	run -1 install_privileged setuid "$HELPER_UID"
	[[ "$output" == *"a directory above it is closed to them"* ]]
	looks_like 0 755
}

@test "a nosuid file system is named as the reason" {
	requires root helper-a
	mkdir -p "${HELPER%/*}"
	# shellcheck disable=SC2016
	run -1 unshare --mount bash -euc '
		mount -t tmpfs -o nosuid,mode=755 none "${2%/*}"
		install -m 755 "$1" "$2"
		"$3/build-aux/install-privileged" setuid "$4" "$2" "$5"' bash \
		"$HELPER_NONE" "$HELPER" "$abs_top_srcdir" "$HELPER_UID" "$PROGRAM" 3>&-
	[[ "$output" == *"is mounted nosuid"* ]]
}

@test "no_new_privs is named as the reason" {
	requires root helper-a
	place_helper
	run -1 setpriv --no-new-privs \
		"$abs_top_srcdir/build-aux/install-privileged" setuid "$HELPER_UID" \
		"$HELPER" "$PROGRAM" 3>&-
	[[ "$output" == *"runs under no_new_privs"* ]]
	looks_like 0 755
}

# account_test [SYSUSERS_FILE]: what is left of an account that was missing. The
# ledger has to become its own.
account_test() {
	rm -rf "$LEDGER"
	# shellcheck disable=SC2016
	SYSUSERS_FILE=${1:-} with_own_etc bash -uc '
		"$1/build-aux/install-privileged" setuid secmalloc-bats "$2" "$3"
		echo "status $?"
		getent passwd secmalloc-bats || echo "no account"
		stat -c "%U %a" "$2"
		stat -c "%U %a" "$LEDGER_DIR" || echo "no ledger"' bash \
		"$abs_top_srcdir" "$HELPER" "$PROGRAM"
}

@test "a missing account is made by the sysusers.d file" {
	requires root helper-a command:systemd-sysusers
	place_helper
	sed 's/@HELPER_USER@/secmalloc-bats/' "$abs_top_srcdir/system/sysusers.conf.in" \
		>"$BATS_TEST_TMPDIR/secmalloc.conf"
	run -0 account_test "$BATS_TEST_TMPDIR/secmalloc.conf"
	[[ "$output" == *"locked memory: yes"*"status 0"*"locks memory for others"* ]]
	[[ "$output" == *"secmalloc-bats 4755"*"secmalloc-bats 700" ]]
}

@test "a missing account is made without a sysusers.d file" {
	requires root helper-a command:useradd
	place_helper
	run -0 account_test
	[[ "$output" == *"locked memory: yes"*"status 0"*"nologin"* ]]
	[[ "$output" == *"secmalloc-bats 4755"*"secmalloc-bats 700" ]]
}

@test "an account that was made goes again when the helper does not work" {
	requires root helper-a command:useradd
	place_helper /bin/true
	run -0 account_test
	[[ "$output" == *"made the account"*"status 1"*"no account"*"root 755"*"no ledger" ]]
}

@test "the ledger's directory is made by the tmpfiles.d file" {
	requires root helper-a command:systemd-tmpfiles
	place_helper
	LEDGER_DIR=$STAGE/ledger-$BATS_TEST_NUMBER
	# What only systemd-tmpfiles would do.
	file=$(tmpfiles_for "$LEDGER_DIR" "$HELPER_UID")
	echo "f $LEDGER_DIR.witness 0600 root - -" >>"$file"
	TMPFILES_FILE=$file run -0 install_privileged setuid "$HELPER_UID"
	[[ "$output" == *"made $LEDGER_DIR"*"locked memory: yes"* ]]
	ledger_looks_like "$HELPER_UID"
	[ -e "$LEDGER_DIR.witness" ]
}

@test "the ledger's directory is made without it, or where it does not work, below what is missing" {
	requires root helper-a helper-b
	for layout in setuid setuid-root; do
		place_helper
		LEDGER_DIR=$STAGE/run-$BATS_TEST_NUMBER-$layout/secmalloc
		run -0 install_privileged "$layout" "$HELPER_UID"
		[[ "$output" == *"made $LEDGER_DIR"* ]]
		ledger_looks_like "$HELPER_UID"
	done
	LEDGER_DIR=$STAGE/run-$BATS_TEST_NUMBER-again/secmalloc
	TMPFILES_FILE=$(tmpfiles_for "$LEDGER_DIR" no-such-account-here) \
		run -0 install_privileged setuid "$HELPER_UID"
	ledger_looks_like "$HELPER_UID"
}

@test "a ledger that is there is kept, with what is in it" {
	requires root helper-a
	place_helper /bin/true
	touch "$LEDGER/ledger"
	run -1 install_privileged setuid "$HELPER_UID"
	[ -e "$LEDGER/ledger" ]
	[[ "$output" != *"made $LEDGER"* ]]
}

@test "a ledger that was made goes again when the helper does not work" {
	requires root helper-a
	place_helper /bin/true
	LEDGER_DIR=$STAGE/ledger-$BATS_TEST_NUMBER
	run -1 install_privileged setuid "$HELPER_UID"
	[[ "$output" == *"made $LEDGER_DIR"* ]]
	[ ! -e "$LEDGER_DIR" ]
}

@test "another account's ledger, an open one, a link and a file are refused, and nothing is done" {
	requires root helper-a
	LEDGER_DIR=$STAGE/ledger-$BATS_TEST_NUMBER
	for wrong in owner mode link file; do
		rm -rf "$LEDGER_DIR"
		case $wrong in
		owner) install -d -m 700 -o "$NOBODY_UID" "$LEDGER_DIR" ;;
		mode) install -d -m 750 -o "$HELPER_UID" "$LEDGER_DIR" ;;
		link) ln -s "$LEDGER" "$LEDGER_DIR" ;;
		file) install -m 700 -o "$HELPER_UID" /dev/null "$LEDGER_DIR" ;;
		esac
		before=$(stat -c '%u %a %F' "$LEDGER_DIR")
		place_helper
		run -1 install_privileged setuid "$HELPER_UID"
		[[ "$output" == *"nothing done"*"--runstatedir"*"rm -r $LEDGER_DIR" ]]
		looks_like 0 755 ''
		[ "$(stat -c '%u %a %F' "$LEDGER_DIR")" = "$before" ]
	done
}

@test "layout caps makes no ledger" {
	requires root helper-c
	place_helper
	LEDGER_DIR=$STAGE/ledger-$BATS_TEST_NUMBER
	run -0 install_privileged caps "$HELPER_UID"
	[ ! -e "$LEDGER_DIR" ]
}

@test "who has to make the ledger again at each start of the machine is told so" {
	requires root helper-a
	place_helper
	LEDGER_DIR=$STAGE/ledger-$BATS_TEST_NUMBER/secmalloc
	run -0 install_privileged setuid "$HELPER_UID"
	[[ "$output" != *"install -d"* ]]
	# In memory it does not stay.
	# shellcheck disable=SC2016
	run -0 unshare --mount bash -euc '
		mount -t tmpfs -o mode=755 none "${LEDGER_DIR%/*}"
		"$1/build-aux/install-privileged" setuid "$2" "$3" "$4"' bash \
		"$abs_top_srcdir" "$HELPER_UID" "$HELPER" "$PROGRAM" 3>&-
	[[ "$output" == *"install -d -m 0700 -o $HELPER_UID -g 0 $LEDGER_DIR" ]]
}

@test "a policy that the helper refuses is named as the reason" {
	requires root helper-a
	place_helper
	echo 'limit *' >"$POLICY"
	run -1 install_privileged setuid "$HELPER_UID"
	[[ "$output" == *"the policy is refused:"*"$POLICY:1:"* ]]
	looks_like 0 755 ''
}

@test "a policy that not everybody may read is named as the reason, in every layout" {
	requires root helper-a helper-b helper-c
	echo 'limit * 64M' >"$POLICY"
	chmod 600 "$POLICY"
	for layout in setuid setuid-root caps; do
		place_helper
		run -1 install_privileged "$layout" "$HELPER_UID"
		[[ "$output" == *"the policy is refused:"*"$POLICY: cannot be read by all"* ]]
		looks_like 0 755 ''
	done
}

@test "a policy that gives nobody anything takes no helper's privilege away" {
	requires root helper-a helper-b helper-c
	install -m 755 "$PROGRAM" "$STAGE/bin/check-helper"
	for line in 'limit * 0' 'helpers * 0' "limit $NOBODY_UID 0" 'total 0'; do
		echo "$line" >"$POLICY"
		for layout in setuid setuid-root caps; do
			# Without a ledger there are no helpers to count.
			[ "$layout $line" != 'caps helpers * 0' ] || continue
			place_helper
			run -0 install_privileged "$layout" "$HELPER_UID"
			[[ "$output" == *"the policy refuses this user, as it may"* ]]
			[[ "$output" != *"locked memory"* ]]
			case $layout in
			setuid) looks_like "$HELPER_UID" 4755 cap_ipc_lock=p ;;
			setuid-root) looks_like 0 4755 '' ;;
			caps) looks_like 0 755 cap_ipc_lock=p ;;
			esac
		done
		# One without a privilege is none that works.
		run -1 as_nobody "$STAGE/bin/check-helper" "$HELPER_NONE"
		[[ "$output" == "locked memory: no "* ]]
	done
}

@test "--with-seccomp=yes insists on libseccomp, and without it names the packages" {
	cd "$BATS_TEST_TMPDIR"
	run -1 "$abs_top_srcdir/configure" --with-seccomp=yes ac_cv_header_seccomp_h=no
	[[ "$output" == *"libseccomp-dev (Debian), libseccomp-devel (Fedora)"* ]]
}
