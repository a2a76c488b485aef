# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# ./dev cross: builds for other processors and systems, and runs what can be run.
#
#   processor, C library      library      helper          run here
#   x86-64, glibc             yes          yes             yes: ./dev check
#   x86-64, musl              yes          yes [1]         yes, as it is
#   i386, glibc               yes          yes             yes, as it is
#   aarch64, glibc            yes          yes [1]         emulated
#   armhf, glibc              yes          yes [1]         emulated
#   powerpc, glibc            yes          yes [1]         emulated; big-endian
#   s390x, glibc              yes          no              emulated: ./dev check
#   other systems             see cross_systems.bash, where it is there
#
#   [1] without libseccomp
#
# Emulated is: by qemu-user, with pages of 4 KiB, and each process locks for itself.
# Nothing was run with larger pages, and no helper is emulated. Nor does an emulated
# client start this machine's: qemu-user refuses a clone that ends without a signal.
# Left out there is what reads /proc/self/mem, which shows the emulator (wipe), and
# what makes processes in ways that the emulator does not know (fork, guarded).

# Of musl, what has to do with the C library more than with the code.
TESTS_OF_MUSL='tests/api.bats tests/churn.bats tests/exhaust.bats tests/fork.bats
	tests/guarded.bats tests/helper.bats tests/model.bats tests/threads.bats
	tests/wipe.bats'
# With either way to lock, and what each may take.
CLIENTS_RUN='api
churn 50000
model 3'

# --- what is linked with ----------------------------------------------------------

# cross_apt ARG...: of Debian's release here, but with the packages of i386 and
# sources; this machine's apt and dpkg learn nothing of them.
cross_apt() {
	apt-get -q -o APT::Architecture=i386 -o APT::Architectures::=i386 \
		-o Dir::State="$WORK/apt" -o Dir::State::status=/dev/null \
		-o Dir::Cache="$WORK/apt" -o Dir::Etc::SourceList="$WORK/apt/sources" \
		-o Dir::Etc::SourceParts=/dev/null -o APT::Sandbox::User=root "$@"
}

# libcap's sources, since powerpc has no packages in Debian, nor musl; and libseccomp
# of i386. Of the release, whose lists never change while they are fetched.
cross_fetch() {
	mkdir -p "$WORK/apt/lists/partial" "$WORK/apt/archives/partial"
	cd "$WORK/apt"
	# shellcheck disable=SC2016
	apt-get indextargets --format '$(SITE) $(RELEASE) $(COMPONENT)' \
		'Created-By: Packages' | grep -E '^[^ ]*(debian|ubuntu) [a-z]* main$' |
		sort -u | sed -e 's/^/deb /p' -e 's/^deb /deb-src /' >sources
	cross_apt update
	cross_apt source --download-only libcap2
	cross_apt download libseccomp-dev:i386
	mkdir "$WORK/libcap" "$WORK/i386"
	tar -C "$WORK/libcap" --strip-components=1 -xf libcap2_*.orig.tar.xz
	dpkg-deb -x libseccomp-dev_*_i386.deb "$WORK/i386"
}

# libcap_make DIR COMPILER: DIR/include and DIR/lib.
libcap_make() {
	mkdir -p "$1/include/sys" "$1/lib"
	cp -R "$WORK/libcap" "$1/libcap"
	make -C "$1/libcap/libcap" libcap.a CC="$2" BUILD_CC=cc USE_GPERF=no
	cp "$1/libcap/libcap/libcap.a" "$1/lib/"
	cp "$1/libcap/libcap/include/sys/capability.h" "$1/include/sys/"
}

# --- glibc -------------------------------------------------------------------

# cross_build HOST ARG...: library, helper and some tests, which run anywhere.
cross_build() {
	local host=$1 with=$WORK/with-$1
	shift
	libcap_make "$with" "$host-gcc"
	mkdir "$WORK/cross-$host"
	cd "$WORK/cross-$host"
	"$WORK/src/configure" --host="$host" --disable-shared --enable-werror \
		--with-helper-user="$HELPER" CPPFLAGS="-I$with/include ${CROSS_CPPFLAGS:-}" \
		LDFLAGS="-L$with/lib ${CROSS_LDFLAGS:-}" "$@"
	# shellcheck disable=SC2086
	make LDFLAGS="-all-static -L$with/lib ${CROSS_LDFLAGS:-}" all $PROGRAMS_OF_CODE
}

# clients_run HELPER NAME EMULATOR...: as nobody, in memory that HELPER locks.
clients_run() {
	local helper=$1 name=$2 test
	local -a words
	shift 2
	while read -ra words; do
		test=$WORK/prefix/${words[0]}-$name
		cp "tests/${words[0]}" "$test"
		echo "== $* ${words[*]}, $helper"
		SECMALLOC_TEST_HELPER=$helper \
			"${AS_NOBODY[@]}" "$@" "$test" helper "${words[@]:1}"
	done <<<"$CLIENTS_RUN"
}

# emulated HOST EMULATOR
emulated() {
	local words
	local -a each
	cross_build "$1" --with-seccomp=no
	"$2" ./secmalloc-helper --version
	while read -r words; do
		read -ra each <<<"$words"
		echo "== $2 ${each[0]} inprocess"
		"$2" "tests/${each[0]}" inprocess "${each[@]:1}"
	done <<<"$CLIENTS_RUN"
}

cross_powerpc() { emulated powerpc-linux-gnu qemu-ppc; }
cross_aarch64() { emulated aarch64-linux-gnu qemu-aarch64; }
cross_armhf() { emulated arm-linux-gnueabihf qemu-arm; }

# Its helper is installed and is given its privilege, which is what tries it.
cross_i386() {
	CROSS_CPPFLAGS=-I$WORK/i386/usr/include
	CROSS_LDFLAGS=-L$WORK/i386/usr/lib/i386-linux-gnu
	cross_build i686-linux-gnu --with-seccomp=yes --prefix="$WORK/prefix-32" \
		--runstatedir="$WORK/run-32" --with-privilege="$PRIVILEGE"
	make install
	make install-privileged
	"$WORK/prefix-32/libexec/secmalloc-helper" --version | grep -x 'seccomp: yes'
	use_installed
	clients_run "$WORK/prefix-32/libexec/secmalloc-helper" 32-32 env
	clients_run "$WORK/prefix/libexec/secmalloc-helper" 32-64 env
	cd "$WORK/stranger"
	# shellcheck disable=SC2086
	make $PROGRAMS_OF_CODE
	clients_run "$WORK/prefix-32/libexec/secmalloc-helper" 64-32 env
}

# One configuration for compilers of both sizes and orders: but for what is found
# in packages of this machine.
cross_configuration() {
	local other
	cd "$WORK"
	for other in cross-*/config.h; do
		diff <(configuration stranger/config.h) <(configuration "$other")
	done
}

configuration() {
	grep '^#define' "$1" | grep -v -e PEER -e VALGRIND -e SECCOMP
}

# --- musl --------------------------------------------------------------------

cross_musl() {
	local with=$WORK/with-musl kernel=$WORK/with-musl/kernel
	mkdir -p "$kernel"
	ln -s /usr/include/linux /usr/include/asm-generic "$kernel"
	ln -s "/usr/include/$(gcc -print-multiarch)/asm" "$kernel"
	libcap_make "$with" "musl-gcc -isystem $kernel"
	build musl CC=musl-gcc CPPFLAGS="-isystem $kernel -I$with/include" \
		LDFLAGS="-L$with/lib" --enable-werror --with-seccomp=no \
		--with-helper-user="$HELPER"
	make check SECMALLOC_CHURN_OPS="$SLOW_OPS" TESTS="$TESTS_OF_MUSL"
}

cross() {
	others_possible ||
		die "cross needs root, and x86-64 with Debian's packages: elsewhere there are no compilers for others"
	work_make cross
	packages_install "$NEEDED_BY_CROSS"
	[ -z "${NEEDED_BY_SYSTEMS:-}" ] || packages_install "$NEEDED_BY_SYSTEMS"
	HELPER=$(unused_uid)
	PRIVILEGE=$(privilege_possible)
	export SECMALLOC_NO_SKIP=1

	steps_begin
	step "autoreconf" source_copy
	step "libraries of others, fetched" cross_fetch
	settle 0
	step "x86-64, which others talk to" check_stranger
	settle 0
	step "x86-64 with musl" cross_musl
	step "i386, client and helper, with either size" cross_i386
	step "big-endian powerpc, emulated" cross_powerpc
	step "aarch64, emulated" cross_aarch64
	step "armhf, emulated" cross_armhf
	! declare -F cross_systems_steps >/dev/null || cross_systems_steps
	settle 0
	step "one configuration for all of them" cross_configuration
	settle 0
	results
}
