#!/usr/bin/env bats
# That `make installcheck` finds what is installed below DESTDIR, and would find
# what is wrong with it. tests/consumer/ has the project that is built there.

load helpers

setup_file() {
	# Of the make that runs this: its job server is not for others.
	unset MAKEFLAGS MFLAGS MAKELEVEL
	export DEST=$BATS_FILE_TMPDIR/dest
	make -C "$abs_top_builddir" install DESTDIR="$DEST" >/dev/null
}

# With the environment of nobody's test: bats would take it for its own.
installcheck() {
	env -i PATH="$PATH" HOME="${HOME:-/}" \
		SECMALLOC_NO_SKIP="${SECMALLOC_NO_SKIP:-}" "$@" \
		make -C "$abs_top_builddir" installcheck DESTDIR="$DEST" 3>&-
}

@test "projects find and use what is installed, by autoconf, pkg-config and CMake" {
	run -0 installcheck
	echo "$output"
	[[ "$output" == *"a project that asks by the autoconf macro"* ]]
}

@test "what is installed wrongly is found" {
	requires command:pkg-config command:autoreconf
	pc=$(find "$DEST" -name secmalloc.pc)
	m4=$(find "$DEST" -name secmalloc.m4)
	sed -i.kept 's/-lsecmalloc/-lsecmallox/' "$pc"
	sed -i.kept 's/HAVE_SECMALLOC/HAVE_SECMALLOX/' "$m4"
	run -2 installcheck
	mv "$pc.kept" "$pc"
	mv "$m4.kept" "$m4"
	for name in "by the autoconf macro is configured" "a static program"; do
		grep "not ok .*$name" <<<"$output"
	done
}
