#!/usr/bin/env bats
# The autoconf macro and the pkg-config file, as a project uses them that knows
# nothing of this tree.

load helpers

setup_file() {
	# Of the make that runs this: its job server is not for others.
	unset MAKEFLAGS MFLAGS MAKELEVEL
	export DEST=$BATS_FILE_TMPDIR/dest
	make -C "$abs_top_builddir" install DESTDIR="$DEST" >/dev/null

	local libdir
	libdir=$(dirname "$(find "$DEST" -name 'libsecmalloc.a')")
	export PKG_CONFIG_SYSROOT_DIR=$DEST
	export PKG_CONFIG_LIBDIR=$libdir/pkgconfig
	export LD_LIBRARY_PATH=$libdir
	# A library with a sanitizer needs programs with the same.
	export CC=${CC:-cc} CFLAGS=${SANITIZER_CFLAGS:-}
}

# project MINIMUM: a scratch project that asks for that version.
project() {
	local aclocal
	aclocal=$(dirname "$(find "$DEST" -name secmalloc.m4)")
	cd "$BATS_TEST_TMPDIR" || return
	cat >configure.ac <<-END
		AC_INIT([stranger], [1])
		AC_PROG_CC
		AM_PATH_SECMALLOC([$1], [result=found], [result=missing])
		AC_SUBST([result])
		AC_CONFIG_FILES([Makefile])
		AC_OUTPUT
	END
	cat >Makefile.in <<-'END'
		# result: @result@
		stranger: stranger.c
			@CC@ @CFLAGS@ @DEFS@ @SECMALLOC_CFLAGS@ -o $@ stranger.c @SECMALLOC_LIBS@
	END
	cat >stranger.c <<-'END'
		#include <secmalloc.h>
		#ifndef HAVE_SECMALLOC
		# error HAVE_SECMALLOC is not defined
		#endif
		int
		main(void)
		{
			return secmalloc_usable_size(NULL) == 0 ? 0 : 1;
		}
	END
	# A tab begins a recipe; the document above has lost its tabs.
	sed -i 's/^@CC@/\t&/' Makefile.in
	aclocal -I "$aclocal"
	autoconf
	./configure
}

@test "a project that asks by the autoconf macro builds and runs" {
	requires command:autoconf command:aclocal command:pkg-config
	project 1.0.0
	grep -q '^# result: found$' Makefile
	make
	./stranger
}

@test "a project that asks for a later version is told that there is none" {
	requires command:autoconf command:aclocal command:pkg-config
	project 99
	grep -q '^# result: missing$' Makefile
	run ! make
	[[ "$output" == *"secmalloc.h"* || "$output" == *HAVE_SECMALLOC* ]]
}

@test "pkg-config knows where the helper is" {
	requires command:pkg-config
	helper=$(pkg-config --variable=helper secmalloc)
	[ -x "$DEST${helper#"$DEST"}" ]
	[ "${helper##*/}" = secmalloc-helper ]
}
