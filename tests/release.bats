#!/usr/bin/env bats
# That tarballs are the same when they are made again, that release-check misses
# nothing that is missing, and that signatures are made and verified as
# RELEASING.md says. `make reproducible` does the first from the start.

load helpers

setup() {
	unset MAKEFLAGS MFLAGS MAKELEVEL SOURCE_DATE_EPOCH
	TOOLS=$abs_top_srcdir/build-aux
	cd "$BATS_TEST_TMPDIR" || return
}

# --- Tarballs ----------------------------------------------------------------

# tarball DIR [VARIABLE=VALUE]: what `make dist` makes of DIR/secmalloc.
tarball() {
	# shellcheck disable=SC2016
	printf 'include Makefile\ntarball:\n\t@tardir=secmalloc; %s | gzip $(GZIP_ENV) -c >%s\n' \
		'$(am__tar)' "$1/tarball" |
		TAR="tar -C $1" make -s -C "$abs_top_builddir" -f - tarball "${@:2}"
}

@test "a tarball is the same at another time, in another place, with another umask and owner" {
	mkdir one two
	(umask 022 && make -s -C "$abs_top_builddir" distdir distdir="$PWD/one/secmalloc")
	sleep 1
	(umask 002 && cp -R one/secmalloc two/secmalloc && chmod -R g+w two/secmalloc)
	[ "$(id -u)" != 0 ] || chown -R 65534:65534 two/secmalloc
	# In another order in their directories.
	mv two/secmalloc/NEWS two/NEWS && mv two/NEWS two/secmalloc/NEWS
	tarball "$PWD/one"
	sleep 1
	tarball "$PWD/two"
	cmp one/tarball two/tarball
	# Without the flags that configure found it is not, and is seen.
	# shellcheck disable=SC2016
	tarball "$PWD/one" 'am__tar=$${TAR-tar} -cf - "$$tardir"'
	# shellcheck disable=SC2016
	tarball "$PWD/two" 'am__tar=$${TAR-tar} -cf - "$$tardir"'
	run -1 cmp -s one/tarball two/tarball
}

@test "what is in a tarball is root's, and of the date that was asked for" {
	mkdir one
	make -s -C "$abs_top_builddir" distdir distdir="$PWD/one/secmalloc"
	SOURCE_DATE_EPOCH=86400 tarball "$PWD/one"
	tar -tzf one/tarball --utc --full-time --numeric-owner -v >list
	[ "$(wc -l <list)" -gt 100 ]
	run -1 grep -vE '^[-d]rwxr-xr-x 0/0|^-rw-r--r-- 0/0' list
	run -1 grep -v ' 1970-01-02 00:00:00 ' list
}

@test "a tarball's date is the commit's, or that of the tarball it was made from" {
	requires command:git
	mkdir tree
	touch -d @1000 tree/NEWS
	run -0 "$TOOLS/source-date" tree
	[ "$output" = 1000 ]
	git -C tree init -q
	git -C tree add NEWS
	GIT_COMMITTER_DATE='@2000 +0900' git -C tree -c user.name=x -c user.email=x \
		commit -q -m x
	run -0 "$TOOLS/source-date" tree
	[ "$output" = 2000 ]
	[ "$(id -u)" != 0 ] || chown -R 65534 tree
	run -0 "$TOOLS/source-date" tree
	[ "$output" = 2000 ]
	SOURCE_DATE_EPOCH=3000 run -0 "$TOOLS/source-date" tree
	[ "$output" = 3000 ]
}

# --- Readiness ---------------------------------------------------------------

git_here() {
	git -c user.name=x -c user.email=x "$@"
}

# A tree whose release 1.0.1 lacks nothing, after 1.0.0.
ready() {
	local library=$abs_top_builddir/.libs/libsecmalloc.so
	mkdir -p tree/include tree/abi tree/debian
	cd tree || return
	git init -q
	version 1.0.0
	echo '	-version-info 1:0:0' >Makefile.am
	"$TOOLS/abi" dump "$library" "$abs_top_srcdir/include" abi/libsecmalloc-1.0.0-here.abi
	fewer "$BATS_TEST_TMPDIR/fewer.abi"
	git add -A
	git_here commit -q -m 1.0.0
	git tag v1.0.0
	version 1.0.1
	echo '	-version-info 1:1:0' >Makefile.am
	cp abi/libsecmalloc-1.0.0-here.abi abi/libsecmalloc-1.0.1-here.abi
	git add -A
	git_here commit -q -m 1.0.1
	cd ..
}

# The interface before secstrndup was there.
fewer() {
	grep -v 'secstrndup;' "$abs_top_srcdir/libsecmalloc/libsecmalloc.map" >../fewer.map
	$CC -shared -o ../fewer.so -Wl,-soname,libsecmalloc.so.1 \
		-Wl,--version-script=../fewer.map -Wl,--whole-archive \
		"$abs_top_builddir/libsecmalloc/.libs/libsecmalloc-core.a" \
		-Wl,--no-whole-archive -pthread
	"$TOOLS/abi" dump ../fewer.so "$abs_top_srcdir/include" "$1"
}

version() {
	echo "AC_INIT([secmalloc], [$1])" >configure.ac
	echo "#define SECMALLOC_VERSION_STRING \"$1\"" >include/secmalloc.h
	printf 'secmalloc %s (2026-01-31)\n\nsecmalloc 0.5\n' "$1" >NEWS
	echo 'Version:        @PACKAGE_VERSION@' >secmalloc.spec.in
	echo "secmalloc ($1-1) unstable; urgency=medium" >debian/changelog
}

release_check() {
	RELEASE_REPRODUCIBLE=${reproducible:-true} "$TOOLS/release-check" tree 1.0.1 \
		"$abs_top_builddir/.libs/libsecmalloc.so" here
}

# misses TEXT CMD: that, and nothing else, when CMD was run in the tree, which is
# put right again.
misses() {
	local said
	cp -a tree kept
	(cd tree && bash -euc "$2")
	case $1 in
	'changes '*) ;;
	*) (cd tree && git add -A && git_here commit -q --allow-empty -m x) ;;
	esac
	! said=$(release_check) || return 1
	rm -rf tree
	mv kept tree
	[[ "$said" == *"missing  $1"* ]]
	[ "$(grep -c '^missing' <<<"$said")" = 1 ]
}

@test "a release that lacks nothing is ready, and each thing that lacks is named" {
	requires command:git command:abidiff command:abidw command:ssh-keygen
	ready
	run -0 release_check
	echo "$output"
	run -1 grep -v '^ok ' <<<"$output"

	# Nor does a first one, before which there was no tag.
	git -C tree tag -d v1.0.0
	run -0 release_check
	[[ "$output" == *"of the first release"* ]]
	git -C tree tag v1.0.0 HEAD~1

	misses 'configure.ac has version 1.0.2' 'echo "AC_INIT([x], [1.0.2])" >configure.ac
		echo "Version: 1.0.1" >secmalloc.spec.in'
	misses 'include/secmalloc.h has version none' ': >include/secmalloc.h'
	misses 'NEWS has version 1.0.0' 'sed -i s/1.0.1/1.0.0/ NEWS'
	misses 'NEWS has no date' 'sed -i "1s/ (.*//" NEWS'
	misses 'secmalloc.spec.in has version 1' 'echo "Version: 1" >secmalloc.spec.in'
	misses 'debian/changelog has version 1.0.0' 'sed -i s/1.0.1/1.0.0/ debian/changelog'
	misses 'changes that are not committed' 'echo x >>Makefile.am'
	misses 'tag v1.0.1 is there already' 'git tag v1.0.1'
	misses 'version-info is 2:0:1, and the interface is same since v1.0.0: make it 1:1:0' \
		'echo "	-version-info 2:0:1" >Makefile.am'
	misses 'version-info is 1:1:0, and the interface is added since v1.0.0: make it 2:0:1' \
		'cp ../fewer.abi abi/libsecmalloc-1.0.0-here.abi'
	misses 'version-info is 1:1:0, and the interface is broken since v1.0.0: make it 2:0:0' \
		'sed -i "s/libsecmalloc.so.1/libsecmalloc.so.0/" abi/libsecmalloc-1.0.0-here.abi'
	misses 'abi/libsecmalloc-1.0.1-here.abi: make abi-dump' 'rm abi/libsecmalloc-1.0.1*'
	misses 'abi/libsecmalloc-1.0.1-here.abi is not' \
		'cp ../fewer.abi abi/libsecmalloc-1.0.1-here.abi'
	reproducible=false misses 'tarballs that are the same' :
}

# --- Signatures --------------------------------------------------------------

# What RELEASING.md has to be typed after that mark.
steps() {
	sed -n "/^<!-- $1 -->\$/,/^[^ <]/s/^    //p" "$abs_top_srcdir/RELEASING.md"
}

@test "signatures are made and verified as RELEASING.md says, and nothing else is" {
	requires command:ssh-keygen
	ssh-keygen -q -t ed25519 -N '' -C '' -f key
	ssh-keygen -q -t ed25519 -N '' -C '' -f another
	echo "releases@secmalloc $(cat key.pub)" >secmalloc.signers
	echo one >secmalloc-1.0.0.tar.gz
	echo two >secmalloc-1.0.0.tar.xz
	[ "$(steps sign | wc -l)" = 2 ]
	[ "$(steps verify | wc -l)" = 2 ]
	KEY=key VERSION=1.0.0 bash -euxc "$(steps sign)"
	bash -euc "$(steps verify)"
	# One of the two is enough; another one is none.
	rm secmalloc-1.0.0.tar.xz
	bash -euc "$(steps verify)"
	echo other >secmalloc-1.0.0.tar.gz
	run -1 bash -euc "$(steps verify)"
	sha256sum secmalloc-1.0.0.tar.gz >SHA256SUMS
	run -255 bash -euc "$(steps verify)"
	rm SHA256SUMS.sig
	ssh-keygen -Y sign -f another -n file SHA256SUMS
	run -255 bash -euc "$(steps verify)"
	rm SHA256SUMS.sig
	ssh-keygen -Y sign -f key -n file SHA256SUMS
	bash -euc "$(steps verify)"
}
