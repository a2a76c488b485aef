# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# ./dev packages: the RPM and the Debian packages, made of the tarball by somebody
# who is not root, and then, as root, installed, used and removed in roots of their
# own. Both kinds are made on Debian, which has the tools for both.

NEEDED_BY_PACKAGES="$NEEDED_BY_DEMO
bats               bats           -
pkg-config         pkg-config     -
xz                 xz-utils       -
rpm                rpm            -
rpmbuild           rpm            -
dpkg-buildpackage  dpkg-dev       -
/var/lib/dpkg/info/build-essential.list build-essential -
dh                 debhelper      -
lintian            lintian        -
debootstrap        debootstrap    -
"
# What the packages depend on, and to compile there; and no systemd.
IN_ROOT=gcc,libc6-dev,libcap2-bin,libseccomp2,pkg-config,systemd-standalone-sysusers

HELD=$MIB
HELPER_THERE=/usr/libexec/secmalloc-helper
POLICY_THERE=/etc/secmalloc.conf

fail() {
	echo "$*" >&2
	return 1
}

# --- making ------------------------------------------------------------------

# as_builder DIR CMD...: in DIR, as nobody, to whom it is given; packages are made
# without root.
as_builder() {
	local dir=$1
	local -a as=()
	shift
	unset SECMALLOC_NO_SKIP
	if is_root; then
		chown -R 65534:65534 "$dir"
		as=(setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all --)
	fi
	cd "$dir"
	HOME=$dir DEB_BUILD_OPTIONS="parallel=$(nproc)" "${as[@]}" "$@"
}

packages_dist() {
	mkdir "$WORK/dist" "$WORK/bin"
	cd "$WORK/dist"
	"$WORK/src/configure" --disable-dependency-tracking
	make tests/pages dist
	install -t "$WORK/bin" tests/pages
}

# rpm_build DIR TARBALL ARG...: rpm does not know what dpkg has installed, so it
# is told not to ask.
rpm_build() {
	local dir=$1 tarball=$2
	shift 2
	mkdir -p "$dir"
	cp "$tarball" "$dir"
	as_builder "$dir" rpmbuild -ta --nodeps "$@" --define "_topdir $dir" "$dir/${tarball##*/}"
}

rpm_make() {
	rpm_build "$WORK/rpm" "$WORK/dist/secmalloc-$VERSION.tar.gz"
}

# The next release, from the other kind of tarball: another default policy, so that
# an upgrade has to decide.
rpm_make_next() {
	mkdir "$WORK/next"
	cd "$WORK/next"
	tar -xf "$WORK/dist/secmalloc-$VERSION.tar.xz"
	echo '# Of the next release.' >>"secmalloc-$VERSION/system/secmalloc.conf"
	sed -i 's/^Release: .*/Release: 2/' "secmalloc-$VERSION/secmalloc.spec"
	tar -cJf "secmalloc-$VERSION.tar.xz" "secmalloc-$VERSION"
	rpm_build "$WORK/rpm-next" "$PWD/secmalloc-$VERSION.tar.xz" --without check
}

# As debian/README.source says.
deb_make() {
	mkdir "$WORK/deb"
	cd "$WORK/deb"
	tar -xf "$WORK/dist/secmalloc-$VERSION.tar.xz"
	cp "$WORK/dist/secmalloc-$VERSION.tar.xz" "secmalloc_$VERSION.orig.tar.xz"
	cp -R "$WORK/src/debian" "secmalloc-$VERSION/"
	as_builder "$WORK/deb" sh -c "cd secmalloc-$VERSION && dpkg-buildpackage -us -uc"
}

deb_lint() {
	cd "$WORK/deb"
	lintian --allow-root --fail-on error,warning --tag-display-limit 0 ./*.changes
}

# Without root, what the packages would install, and that the helper has there, or
# in its maintainer script, what it takes.
rpm_look() {
	local list
	list=$(rpm -qp --qf '[%{FILEMODES:perms} %{FILEUSERNAME} %{FILECAPS} %{FILENAMES}\n]' \
		"$WORK"/rpm/RPMS/*/secmalloc-helper-*.rpm)
	grep -E "^-rws.* secmalloc .*cap_ipc_lock.p $HELPER_THERE\$" <<<"$list"
	rpm -qpc "$WORK"/rpm/RPMS/*/secmalloc-helper-*.rpm | grep -x "$POLICY_THERE"
}

# --- roots of their own ------------------------------------------------------

# The base of both: this machine's own release, from where it has its packages.
root_make() {
	local mirror release
	# shellcheck source=/dev/null
	release=$(. /etc/os-release && echo "$VERSION_CODENAME")
	# shellcheck disable=SC2016
	mirror=$(apt-get indextargets --format '$(SITE) $(RELEASE) $(COMPONENT)' \
		'Created-By: Packages' | sed -n "s/ $release main\$//p" | sed 1q)
	[ -n "$mirror" ] || fail "apt-get does not say where $release comes from"
	# What it mounts there is gone with the namespace.
	unshare --mount debootstrap --variant=minbase --include="$IN_ROOT" \
		"$release" "$WORK/root" "$mirror"
	rm -f "$WORK"/root/var/cache/apt/archives/*.deb
	mkdir "$WORK/root/usr/src/hold"
	: >"$WORK/root/usr/src/hold/config.h"
	cp "$WORK/src/tests/hold.c" "$WORK/root/usr/src/hold/"
	cp -a "$WORK/root" "$WORK/root-rpm"
	mv "$WORK/root" "$WORK/root-deb"
	# Where RPM's systems have their libraries, and have told the linker; and what
	# other packages of theirs have.
	echo /usr/lib64 >"$WORK/root-rpm/etc/ld.so.conf.d/lib64.conf"
	mkdir -p "$WORK"/root-rpm/usr/{lib/{sysusers.d,tmpfiles.d},lib64/pkgconfig,share/licenses}
	files_of "$WORK/root-rpm" >"$WORK/rpm.before"
	files_of "$WORK/root-deb" >"$WORK/deb.before"
}

# IN_THERE ROOT ROOT CMD...: in ROOT, which has a /proc for as long.
# shellcheck disable=SC2016
IN_THERE=(unshare --mount sh -euc 'mount -t proc proc "$0/proc"; exec chroot "$@"')

in_there() {
	local root=$1
	shift
	env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/ DEBIAN_FRONTEND=noninteractive \
		PKG_CONFIG_PATH=/usr/lib64/pkgconfig AUTOPKGTEST_TMP=/usr/src \
		"${IN_THERE[@]}" "$root" "$root" "$@"
}

# files_of ROOT: what is there, whose, and what accounts there are; without what
# package managers keep for themselves, caches, logs, and copies of the accounts as
# they were before.
files_of() {
	(
		cd "$1"
		find . \( -path ./var/lib/dpkg -o -path ./var/lib/rpm -o -path ./var/cache \
			-o -path ./var/log -o -path ./proc -o -path ./usr/src \) -prune \
			-o ! -path ./etc/ld.so.cache ! -path ./etc/.pwd.lock ! -path './etc/*-' \
			-printf '%M %U %G %p %l\n' | sort -k 4
		md5sum etc/passwd etc/group etc/shadow etc/gshadow
	)
}

# Whoever started in ROOT; helpers end a moment after their programs.
all_ended() {
	local i pid left
	for ((i = 0; i < 100; i++)); do
		left=
		for pid in /proc/[0-9]*; do
			[ ! "$pid/root/." -ef "$1" ] || left=$pid
		done
		[ -n "$left" ] || return 0
		sleep 0.1
	done
	fail "$left does not end"
}

# helper_is ROOT OWNER MODE CAPABILITY
helper_is() {
	local found
	found=$(in_there "$1" stat -c '%U %a' "$HELPER_THERE"; getcap "$1$HELPER_THERE" | sed 's/.* //')
	[ "$found" = "$2 $3${4:+$'\n'$4}" ] || fail "the helper is $found"
}

# hold_there ROOT KIND: begins to hold HELD bytes there, as nobody without a right to
# lock anything.
hold_there() {
	hold_start "$2" 'a secret' "${IN_THERE[@]}" "$1" "$1" "${AS_NOBODY[@]}" \
		/usr/src/hold/hold "$2" "$HELD" "$2:"
}

# use_there ROOT: compiles a program with what is installed there, and has memory
# locked for it by the helper that is. The program is not told where that is.
use_there() {
	local root=$1
	# shellcheck disable=SC2016
	in_there "$root" sh -euc 'cd /usr/src/hold
		cc -D_GNU_SOURCE -I. hold.c -o hold $(pkg-config --cflags --libs secmalloc)
		ldd hold | grep libsecmalloc.so.1'
	mkdir -m 700 "$WORK/holds-${root##*-}"
	hold_setup "$WORK/bin" "$WORK/holds-${root##*-}"
	trap squeeze_cleanup EXIT

	hold_there "$root" secmalloc
	hold_ask secmalloc
	hold_pages secmalloc
	declare -p PAGES
	if [ -e /proc/kpageflags ]; then
		[ "${PAGES[pages]}" -ge $((HELD / $(getconf PAGESIZE))) ]
		[ "${PAGES[mlocked]}" = "${PAGES[pages]}" ]
		[ "${PAGES[unevictable]}" = "${PAGES[pages]}" ]
		# The control: of other memory the kernel says otherwise.
		hold_there "$root" malloc
		hold_pages malloc
		[ "${PAGES[mlocked]}" = 0 ]
		hold_end malloc
	fi
	hold_end secmalloc

	# The control: it is by the privilege that the package gave.
	setcap -r "$root$HELPER_THERE"
	! hold_there "$root" secmalloc || fail "a helper without a capability locks memory"
	setcap cap_ipc_lock=p "$root$HELPER_THERE"
	hold_there "$root" secmalloc
	hold_end secmalloc
	all_ended "$root"
}

# policy_change ROOT: what an administrator may have written there.
policy_change() {
	echo 'limit * 8M' >"$1$POLICY_THERE"
}

policy_is_changed() {
	[ "$(cat "$1$POLICY_THERE")" = 'limit * 8M' ] || fail "the policy was overwritten"
	in_there "$1" "$HELPER_THERE" --check-config | grep 'limit 8388608 bytes'
}

# --- RPM ---------------------------------------------------------------------

# rpm_there ARG...: of the root's own files, which are dpkg's, it does not know, and so
# finds none of what the packages require: --nodeps.
rpm_there() {
	rpm --root "$WORK/root-rpm" --dbpath /var/lib/rpm --force-debian "$@"
}

rpm_install() {
	rpm_there -i --nodeps "$WORK"/rpm/RPMS/*/secmalloc-{,devel-,helper-}"$VERSION"-1*.rpm
	helper_is "$WORK/root-rpm" secmalloc 4755 cap_ipc_lock=p
	# Owner, mode, capability and contents of each file, as packed.
	rpm_there -V --nodeps secmalloc secmalloc-devel secmalloc-helper
}

rpm_use() {
	use_there "$WORK/root-rpm"
}

rpm_upgrade() {
	local root=$WORK/root-rpm
	policy_change "$root"
	rpm_there -U --nodeps "$WORK"/rpm-next/RPMS/*/secmalloc-{,devel-,helper-}"$VERSION"-2*.rpm
	[ "$(rpm_there -q secmalloc-helper --qf '%{RELEASE}')" = 2 ]
	policy_is_changed "$root"
	grep 'Of the next release' "$root$POLICY_THERE.rpmnew"
	helper_is "$root" secmalloc 4755 cap_ipc_lock=p
}

# The account stays, a policy that was changed, and the ledger.
rpm_erase() {
	local root=$WORK/root-rpm
	rpm_there -e --nodeps secmalloc secmalloc-devel secmalloc-helper
	files_of "$root" >"$WORK/rpm.after"
	diff "$WORK/rpm.before" "$WORK/rpm.after" >"$WORK/rpm.left" || true
	cat "$WORK/rpm.left"
	[ "$(cut -d ' ' -f 1,5 "$WORK/rpm.left" | grep '^[<>] \.' | sort)" = \
		"> .$POLICY_THERE.rpmnew
> .$POLICY_THERE.rpmsave
> ./run/secmalloc
> ./run/secmalloc/ledger" ]
	in_there "$root" getent passwd secmalloc
}

# --- Debian ------------------------------------------------------------------

deb_there() {
	in_there "$WORK/root-deb" "$@"
}

# deb_put FILE...: dpkg itself, so that whatever is not said to be required, or is
# and not there, is an error.
deb_put() {
	cp "$@" "$WORK/root-deb/usr/src"
	deb_there dpkg --force-confdef -i "${@/#*\///usr/src/}"
}

deb_install() {
	deb_put "$WORK"/deb/{libsecmalloc1,libsecmalloc-dev,secmalloc-helper}_*.deb
	helper_is "$WORK/root-deb" secmalloc 4755 cap_ipc_lock=p
	[ "$(deb_there stat -c '%U %G %a' /run/secmalloc)" = 'secmalloc root 700' ]
	# What nobody asked for is not enabled.
	[ -z "$(find "$WORK/root-deb/etc/systemd" -name 'secmalloc*')" ]
}

deb_use() {
	use_there "$WORK/root-deb"
}

# What autopkgtest would run.
deb_test() {
	local tree=$WORK/root-deb/usr/src/tree
	mkdir -p "$tree/build-aux"
	cp "$WORK/src/build-aux/check-helper.c" "$tree/build-aux"
	cp -R "$WORK/src/debian" "$tree"
	deb_there sh -euc 'cd /usr/src/tree && debian/tests/locks'
	all_ended "$WORK/root-deb"
}

# The package as it is, with an override, without one, and where no capability can
# be kept.
deb_override() {
	local root=$WORK/root-deb helper
	helper=$(echo "$WORK"/deb/secmalloc-helper_*.deb)
	deb_there dpkg-statoverride --update --add root root 755 "$HELPER_THERE"
	deb_put "$helper"
	helper_is "$root" root 755 ''
	deb_there dpkg-statoverride --remove "$HELPER_THERE"
	deb_there dpkg-statoverride --update --add secmalloc daemon 4750 "$HELPER_THERE"
	deb_put "$helper"
	helper_is "$root" secmalloc 4750 cap_ipc_lock=p
	deb_there dpkg-statoverride --remove "$HELPER_THERE"
	deb_put "$helper"
	helper_is "$root" secmalloc 4755 cap_ipc_lock=p
	deb_there sh -euc "mount -t ramfs ramfs ${HELPER_THERE%/*}
		dpkg -i /usr/src/${helper##*/}
		stat -c '%U %a' $HELPER_THERE" | tail -n 1 | grep -x 'root 4755'
	deb_put "$helper"
	helper_is "$root" secmalloc 4755 cap_ipc_lock=p
}

# deb_make_next: the next release has another default policy.
deb_make_next() {
	local dir=$WORK/deb-next
	dpkg-deb -R "$WORK"/deb/secmalloc-helper_*.deb "$dir"
	echo '# Of the next release.' >>"$dir$POLICY_THERE"
	sed -i 's/^Version: .*/&.next/' "$dir/DEBIAN/control"
	dpkg-deb -b "$dir" "$WORK/secmalloc-helper_next.deb"
}

deb_upgrade() {
	local root=$WORK/root-deb
	policy_change "$root"
	deb_make_next
	deb_put "$WORK/secmalloc-helper_next.deb"
	policy_is_changed "$root"
	grep 'Of the next release' "$root$POLICY_THERE.dpkg-dist"
	helper_is "$root" secmalloc 4755 cap_ipc_lock=p
}

# Removed, it leaves the policy and the account; purged, nothing.
deb_purge() {
	local root=$WORK/root-deb
	deb_there dpkg -r secmalloc-helper libsecmalloc-dev libsecmalloc1
	[ ! -e "$root$HELPER_THERE" ]
	[ "$(cat "$root$POLICY_THERE")" = 'limit * 8M' ]
	deb_there getent passwd secmalloc
	deb_there dpkg -P secmalloc-helper libsecmalloc-dev libsecmalloc1
	files_of "$root" >"$WORK/deb.after"
	diff -u "$WORK/deb.before" "$WORK/deb.after"
}

# --- all of it ---------------------------------------------------------------

packages() {
	local usable=no
	work_make packages
	command -v apt-get >/dev/null ||
		die "packages are made on Debian and its family, which have the tools for both kinds"
	[ -d "$TOP/debian" ] || die "debian/ is missing: it is in a clone, not in a tarball"
	packages_install "$NEEDED_BY_PACKAGES"
	VERSION=$(sed -n 's/^AC_INIT(\[secmalloc\], \[\(.*\)\])$/\1/p' "$TOP/configure.ac")
	[ "$(privilege_possible)" != setuid ] || usable=yes

	steps_begin
	step "autoreconf" source_copy
	settle 0
	step "make dist" packages_dist
	settle 0
	# Who only waits for a network leaves a processor to the others.
	LANES=3
	[ "$usable" = no ] || step "debootstrap" root_make
	step "rpmbuild -ta, .tar.gz, with its tests" rpm_make
	step "dpkg-buildpackage, with its tests" deb_make
	step "rpmbuild -ta, .tar.xz" rpm_make_next
	settle 0
	if [ "$FAILED" != 0 ]; then
		results
		return
	fi
	LANES=2
	step "rpm: owner, mode and capability are packed" rpm_look
	step "deb: lintian" deb_lint
	settle 0
	if [ "$usable" = no ]; then
		say "Left out: to install the packages, to use and to remove them, which needs root, and a /var/tmp where a helper can have its privilege."
		results
		return
	fi
	step "rpm: installed, as packed" rpm_install
	step "deb: installed" deb_install
	settle 0
	step "rpm: locks for nobody, a program compiled there" rpm_use
	step "deb: locks for nobody, a program compiled there" deb_use
	settle 0
	step "rpm: an upgrade keeps a changed policy" rpm_upgrade
	step "deb: the test of the package" deb_test
	settle 0
	step "deb: overrides are kept, a lost privilege is given" deb_override
	step "rpm: erased, all but what it should leave" rpm_erase
	settle 0
	step "deb: an upgrade keeps a changed policy" deb_upgrade
	settle 0
	step "deb: removed, then purged without a trace" deb_purge
	settle 0
	[ "$SKIPPED" = 0 ] ||
		say "$SKIPPED skipped, not counted below: they need root, which makes no package."
	results
}
