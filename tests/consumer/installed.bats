#!/usr/bin/env bats
# What is installed, as projects use it that know nothing of this tree: the
# autoconf macro, the pkg-config file, and CMake through that. Run by
# `make installcheck`, which says where; knows nothing of how it was built.

load ../helpers

setup_file() {
	# Of the make that runs this: its job server is not for others.
	unset MAKEFLAGS MFLAGS MAKELEVEL CONFIG_SITE
	: "${abs_top_srcdir:?}" "${INSTALLED_LIBDIR:?}" "${INSTALLED_DATADIR:?}"
	export DESTDIR=${DESTDIR:-}
	# What the .pc file says is below DESTDIR yet.
	[ -z "$DESTDIR" ] || export PKG_CONFIG_SYSROOT_DIR=$DESTDIR
	export PKG_CONFIG_LIBDIR=$DESTDIR$INSTALLED_LIBDIR/pkgconfig
	export LD_LIBRARY_PATH=$DESTDIR$INSTALLED_LIBDIR
	unset PKG_CONFIG_PATH PKG_CONFIG SECMALLOC_CFLAGS SECMALLOC_LIBS
	# A library with a sanitizer needs programs with the same.
	export CC=${CC:-cc} CFLAGS=${SANITIZER_CFLAGS:-}

	export PROJECT=$BATS_FILE_TMPDIR/project
	mkdir "$PROJECT"
	cp "$abs_top_srcdir"/tests/consumer/{configure.ac,Makefile.am,CMakeLists.txt,consumer.c} \
		"$PROJECT"
	chmod -R u+w "$PROJECT"
	! have_autotools || (cd "$PROJECT" && generate)
}

# As a user does; the source of the tests may be read-only.
generate() {
	ACLOCAL_PATH=$DESTDIR$INSTALLED_DATADIR/aclocal autoreconf -fi
}

have_autotools() {
	command -v autoreconf >/dev/null && command -v automake >/dev/null &&
		command -v pkg-config >/dev/null
}

setup() {
	BUILD=$BATS_TEST_TMPDIR/build
	mkdir "$BUILD"
	cd "$BUILD" || return
}

requires_autotools() {
	requires command:autoreconf command:automake command:aclocal command:pkg-config
}

# Whoever is root can lock; others only as far as their limits go.
runs_and_locks() {
	run -0 "$@"
	if [ "$(id -u)" = 0 ]; then
		[ "$output" = "found, locked" ]
	else
		[[ "$output" == "found, "* ]]
	fi
}

# asks_for VERSION [IF-NOT-FOUND]: the same project, that asks for this.
asks_for() {
	cp -R "$PROJECT" "$BATS_TEST_TMPDIR/project"
	cd "$BATS_TEST_TMPDIR/project" || return
	sed -i "s/^SECMALLOC_CHECK_CONFIG.*/SECMALLOC_CHECK_CONFIG([$1], [found=yes]${2:-})/" \
		configure.ac
	grep -qF "SECMALLOC_CHECK_CONFIG([$1]," configure.ac
	generate
	cd "$BUILD" || return
}

@test "a project that asks by the autoconf macro is configured, built and run" {
	requires_autotools
	run -0 "$PROJECT/configure"
	[[ "$output" == *"secmalloc: yes"* ]]
	grep -qx '#define HAVE_SECMALLOC 1' config.h
	make
	runs_and_locks ./consumer
	# Linked with the installed library, and with no other.
	[[ "$(ldd ./consumer)" == *"libsecmalloc.so"*"=> $DESTDIR$INSTALLED_LIBDIR/"* ]] ||
		[ ! -e "$DESTDIR$INSTALLED_LIBDIR/libsecmalloc.so" ]
}

@test "a project that asks for a later version does without" {
	requires_autotools
	asks_for 99 ', [found=no]'
	run -0 "$BATS_TEST_TMPDIR/project/configure"
	[[ "$output" == *"secmalloc: no"* ]]
	run ! grep -q '#define HAVE_SECMALLOC' config.h
	make
	run -0 ./consumer
	[ "$output" = "not found" ]
}

@test "a project that cannot do without is stopped, and told which version there is" {
	requires_autotools
	asks_for 99
	run -1 "$BATS_TEST_TMPDIR/project/configure"
	[[ "$output" == *"secmalloc >= 99"* ]]
	[[ "$output" == *"$(pkg-config --modversion secmalloc)"* ]]
	[ ! -e Makefile ]
}

@test "a project that asks for no version takes what is there" {
	requires_autotools
	asks_for ''
	run -0 "$BATS_TEST_TMPDIR/project/configure"
	[[ "$output" == *"secmalloc: yes"* ]]
}

@test "where nothing is installed a project does without" {
	requires_autotools
	PKG_CONFIG_LIBDIR=$BATS_TEST_TMPDIR run -0 "$PROJECT/configure"
	[[ "$output" == *"secmalloc: no"* ]]
	make
	run -0 ./consumer
	[ "$output" = "not found" ]
}

@test "without pkg-config a user says himself where the library is" {
	requires_autotools
	cflags=$(pkg-config --cflags secmalloc) libs=$(pkg-config --libs secmalloc)
	run -0 "$PROJECT/configure" PKG_CONFIG=false \
		SECMALLOC_CFLAGS="$cflags " SECMALLOC_LIBS="$libs"
	[[ "$output" == *"secmalloc: yes"* ]]
	make
	runs_and_locks ./consumer
}

@test "a static program needs what pkg-config --static says" {
	requires command:pkg-config static
	[ -e "$DESTDIR$INSTALLED_LIBDIR/libsecmalloc.a" ] ||
		skip "no static library is installed"
	[ -z "$CFLAGS" ] || skip "no sanitizer is linked statically"
	# shellcheck disable=SC2046
	$CC -static -DHAVE_SECMALLOC -o static "$PROJECT/consumer.c" \
		$(pkg-config --static --cflags --libs secmalloc)
	run -1 grep INTERP <(readelf --program-headers --wide static)
	runs_and_locks env -u LD_LIBRARY_PATH ./static
}

@test "a CMake project is configured, built and run" {
	requires command:cmake command:pkg-config
	run -0 cmake -S "$PROJECT" -B .
	make
	runs_and_locks ./consumer
}

@test "a CMake project that asks for a later version does without" {
	requires command:cmake command:pkg-config
	run -0 cmake -S "$PROJECT" -B . -DSECMALLOC_WANTED=99
	make
	run -0 ./consumer
	[ "$output" = "not found" ]
}

@test "pkg-config knows where the helper is" {
	requires command:pkg-config
	helper=$(pkg-config --variable=helper secmalloc)
	[ "${helper##*/}" = secmalloc-helper ]
	[ "${INSTALLED_HELPER:-yes}" = no ] || [ -x "$DESTDIR${helper#"$DESTDIR"}" ]
}
