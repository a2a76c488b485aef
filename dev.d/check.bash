# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# ./dev check: every build there is, and every test.

# Of the slower builds, fewer operations of the random test, and the tests that
# the compiler can make a difference to, or the sanitizer can find fault with. The
# helper is built without sanitizers, and so its own tests are not among them.
SLOW_OPS=200000
WATCHED_OPS=2000000
TESTS_OF_CODE='tests/api.bats tests/churn.bats tests/examples.bats tests/exhaust.bats
	tests/guarded.bats tests/header.bats tests/host.bats tests/misuse.bats tests/model.bats
	tests/refuse.bats tests/threads.bats tests/wipe.bats'
TESTS_OF_MEMORY="$TESTS_OF_CODE tests/faults.bats tests/fork.bats tests/hosts.bats
	tests/matrix.bats tests/soak.bats"
TESTS_OF_THREADS='tests/api.bats tests/churn.bats tests/examples.bats tests/fork.bats
	tests/host.bats tests/model.bats tests/threads.bats'
# What AddressSanitizer is told of each object takes the caches' place: these once
# more without that.
TESTS_OF_CACHES='tests/api.bats tests/misuse.bats tests/model.bats tests/threads.bats'
# Where there is no bats, for 32 bits and for the other order of bytes.
PROGRAMS_OF_CODE='tests/api tests/churn tests/fork tests/guarded tests/model tests/threads
	tests/wipe'

# With the tests, of which the next step runs all.
check_gcc() {
	build gcc CC=gcc --enable-werror --with-helper-user="$HELPER"
	make check TESTS=
}

# Every test, in a build of what is in the tarball.
check_dist() {
	cd "$WORK/gcc"
	make distcheck DISTCHECK_CONFIGURE_FLAGS="CC=gcc --enable-werror --with-helper-user=$HELPER"
}

check_clang() {
	build clang CC=clang --enable-werror --with-helper-user="$HELPER"
	make check SECMALLOC_CHURN_OPS="$SLOW_OPS" TESTS="$TESTS_OF_CODE"
}

# What a machine without libseccomp would make of it.
check_without_seccomp() {
	build plain CC=gcc --enable-werror --with-seccomp=no --with-helper-user="$HELPER"
	./secmalloc-helper --version | grep -x 'seccomp: no'
	if ldd secmalloc-helper | grep seccomp; then
		return 1
	fi
}

# check_sanitizer DIR LIST TESTS
check_sanitizer() {
	build "$1" CC=gcc CFLAGS='-O1 -g' --enable-sanitizers="$2" --with-helper-user="$HELPER"
	make check SECMALLOC_CHURN_OPS="$WATCHED_OPS" TESTS="$3"
}

check_asan() {
	check_sanitizer asan address,undefined "$TESTS_OF_MEMORY"
	ASAN_OPTIONS=allow_user_poisoning=0 make check TESTS="$TESTS_OF_CACHES"
}

check_tsan() {
	check_sanitizer tsan thread "$TESTS_OF_THREADS"
}

# As somebody who is not root and has no right to lock; what needs root is
# skipped here, and was not above.
check_nobody() {
	local -a as=(setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all --)
	install -d -o 65534 -g 65534 "$WORK/nobody"
	cd "$WORK/nobody"
	export HOME=$WORK/nobody
	unset SECMALLOC_NO_SKIP
	"${as[@]}" "$WORK/src/configure" CC=gcc
	"${as[@]}" make -j"$(nproc)"
	# What takes the machine for itself is skipped.
	"${as[@]}" make check SECMALLOC_CHURN_OPS="$SLOW_OPS" TESTS_ALONE=
}

# Optimised as a whole, where what is wiped could be left out as never read, and
# calling the C library without a table of jumps: COMPILER AR NM RANLIB ARG...
check_lto() {
	local name=$1 program
	build "lto-$name" CC="$1" AR="$2" NM="$3" RANLIB="$4" --enable-werror --disable-helper \
		CFLAGS='-O2 -g -flto -fno-plt' "${@:5}"
	make tests/api tests/wipe
	for program in api wipe; do
		"tests/$program" inprocess
	done
	# Of objects that are no machine code yet the other tests make nothing.
	export abs_top_srcdir=$WORK/src abs_top_builddir=$PWD CC=$1
	bats --tap --filter 'exports the functions' "$WORK/src/tests/abi.bats"
	bats --tap --filter 'is hardened|are hardened' "$WORK/src/tests/hardening.bats"
}

# Without a shared library: what is installed then, and used by others.
check_static() {
	build static CC=gcc --enable-werror --disable-shared --disable-helper \
		--prefix="$WORK/static-prefix"
	make install
	make installcheck
}

# Twice, each time from the start.
check_reproducible() {
	"$WORK/src/build-aux/reproducible" "$WORK/src"
}

check_lint() {
	cd "$WORK/gcc"
	make lint
}

# The library and some tests, without what the machine has only for itself.
build_other() {
	build "$1" --host="$1" --disable-helper --disable-shared --enable-werror
	# shellcheck disable=SC2086
	make LDFLAGS=-all-static $PROGRAMS_OF_CODE
}

# What the stranger installed keeps one ledger, and each user has one quota.
use_installed() {
	export SECMALLOC_TEST_HELPER=$WORK/prefix/libexec/secmalloc-helper
	exec {INSTALLED}<"$WORK/prefix"
	flock "$INSTALLED"
}

# The helper is of this machine's own architecture, as it may be in use.
check_32_bits() {
	local test
	local -a words
	build_other i686-linux-gnu
	use_installed
	for test in "api helper" "wipe helper" "churn helper" "model helper 3" threads; do
		read -ra words <<<"$test"
		cp "tests/${words[0]}" "$WORK/prefix/${words[0]}-32"
		"${AS_NOBODY[@]}" "$WORK/prefix/${words[0]}-32" "${words[@]:1}"
	done
	tests/fork helper # which becomes nobody by itself
	tests/guarded helper # likewise
}

check_big_endian() {
	local test
	local -a words
	build_other s390x-linux-gnu
	for test in "api inprocess" "churn inprocess $SLOW_OPS" "model inprocess 3"; do
		read -ra words <<<"$test"
		qemu-s390x "tests/${words[0]}" "${words[@]:1}"
	done
}

others_possible() {
	is_root && command -v apt-get >/dev/null && [ "$(uname -m)" = x86_64 ]
}

# What a stranger does, in the words of the README.
check_stranger() {
	local dir=$WORK/stranger
	cp -R "$WORK/src" "$dir"
	cd "$dir"
	autoreconf -fi
	./configure --prefix="$WORK/prefix" --runstatedir="$WORK/run" \
		--with-helper-user="$HELPER" --with-privilege="$PRIVILEGE"
	make
	make install
	make install-privileged
	cat >x.c <<-'END'
	#include <secmalloc.h>
	#include <string.h>

	int
	main(void)
	{
		char *p = secmalloc(4096);

		if (p == NULL)
			return 1;
		strcpy(p, "a secret");
		if (secmalloc_verify() != 0)
			return 2;
		secfree(p);
		return 0;
	}
	END
	export PKG_CONFIG_PATH=$WORK/prefix/lib/pkgconfig
	# shellcheck disable=SC2046
	cc x.c $(pkg-config --cflags --libs secmalloc) -o "$WORK/prefix/x"
	export LD_LIBRARY_PATH=$WORK/prefix/lib
	"${AS_NOBODY[@]}" "$WORK/prefix/x"
}

# The C tests under valgrind, with the helper that the stranger installed; the
# helper itself it cannot follow.
check_valgrind() {
	local test
	local -a words
	use_installed
	cd "$WORK/gcc"
	for test in "api helper" "api inprocess" "wipe helper" "wipe inprocess" \
		"churn helper 20000" "churn inprocess 20000" \
		"example-classic $SECMALLOC_TEST_HELPER" "example-helper $SECMALLOC_TEST_HELPER" \
		"example-threads $SECMALLOC_TEST_HELPER" "example-fork $SECMALLOC_TEST_HELPER"; do
		read -ra words <<<"$test"
		echo "== $test"
		# Without --vgdb=no it leaves pipes of programs that change their user.
		valgrind --quiet --vgdb=no --error-exitcode=86 --leak-check=full \
			--show-leak-kinds=all --errors-for-leak-kinds=definite,possible \
			"tests/${words[0]}" "${words[@]:1}"
	done
}

check() {
	work_make check
	packages_install "$NEEDED_BY_CHECK"
	! others_possible || packages_install "$NEEDED_BY_OTHERS"
	! machine_possible || machine_fetch
	HELPER=$(unused_uid)
	PRIVILEGE=$(privilege_possible)
	if is_root; then
		export SECMALLOC_NO_SKIP=1
	else
		say "No root and no sudo: what needs root is skipped, which proves less."
		unset SECMALLOC_NO_SKIP
	fi

	steps_begin
	step "autoreconf" source_copy
	settle 0
	step "gcc, warnings are errors" check_gcc
	! is_root || step "a stranger installs it and builds a program" check_stranger
	settle 0
	# The longest first, so that none is left over in the end.
	step "distcheck, with the whole suite" check_dist
	step "address and undefined behaviour sanitizers" check_asan
	step "thread sanitizer" check_tsan
	step "clang, warnings are errors" check_clang
	! is_root || step "as nobody, without what needs root" check_nobody
	! is_root || step "valgrind" check_valgrind
	step "lint" check_lint
	step "link-time optimisation by gcc" check_lto gcc gcc-ar gcc-nm gcc-ranlib
	step "link-time optimisation by clang" check_lto \
		clang llvm-ar llvm-nm llvm-ranlib LDFLAGS=-fuse-ld=lld
	step "a static library alone" check_static
	step "tarballs, made twice" check_reproducible
	if others_possible; then
		step "32 bits" check_32_bits
		step "big-endian, emulated" check_big_endian
	fi
	step "without libseccomp" check_without_seccomp
	settle 0
	others_possible ||
		say "Left out: 32 bits and big-endian, which need root and compilers that Debian has for x86-64."
	keys_at_hand || machine_possible ||
		say "Left out: a real protection key, which needs a processor that has them, or root and Debian on x86-64."

	if [ "$SKIPPED" != 0 ] && is_root; then
		say "As root nothing was skipped. The $SKIPPED that nobody could not run ran as root."
	elif [ "$SKIPPED" != 0 ]; then
		say "$SKIPPED skipped, not counted below: they need root."
	fi
	results
}
