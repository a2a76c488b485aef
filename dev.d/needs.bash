# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# The packages that the commands of dev need, and their installing.

# What is looked for: a command, a file, a header with its angle brackets, a library that
# is loaded, a module of python3, or what clang has to link with; then the package that
# has it, of Debian's family and of Fedora's.
NEEDED_BY_DEMO='
cc                 gcc            gcc
<stdio.h>          libc6-dev      glibc-devel
make               make           make
autoconf           autoconf       autoconf
automake           automake       automake
libtoolize         libtool        libtool
<sys/capability.h> libcap-dev     libcap-devel
<seccomp.h>        libseccomp-dev libseccomp-devel
setcap             libcap2-bin    libcap
setpriv            util-linux     util-linux
findmnt            util-linux     util-linux
mkswap             util-linux     util-linux
swapon             mount          util-linux
tar                tar            tar
awk                mawk           gawk
diff               diffutils      diffutils
find               findutils      findutils
'
NEEDED_BY_CHECK="$NEEDED_BY_DEMO
c++                g++            gcc-c++
clang              clang          clang
clang-tidy         clang-tidy     clang-tools-extra
cppcheck           cppcheck       cppcheck
shellcheck         shellcheck     ShellCheck
mandoc             mandoc         mandoc
man                man-db         man-db
col                bsdextrautils  util-linux
bats               bats           bats
valgrind           valgrind       valgrind
pkg-config         pkg-config     pkgconf-pkg-config
xz                 xz-utils       xz
unshare            util-linux     util-linux
strace             strace         strace
systemd-analyze    systemd        systemd
-fsanitize=fuzzer  libclang-rt-dev compiler-rt
sqlite3            sqlite3        sqlite
openssl            openssl        openssl
git                git            git-core
python3            python3        python3
python3:yaml       python3-yaml   python3-pyyaml
<sodium.h>         libsodium-dev  libsodium-devel
<openssl/crypto.h> libssl-dev     openssl-devel
<gcrypt.h>         libgcrypt20-dev libgcrypt-devel
libbotan-2.so      libbotan-2-dev botan2-devel
libjemalloc.so.2   libjemalloc2   jemalloc
libmimalloc.so.2   libmimalloc2.0 mimalloc
libc.a             libc6-dev      glibc-static
cmake              cmake          cmake
abidiff            abigail-tools  libabigail
ssh-keygen         openssh-client openssh
lld                lld            lld
llvm-ar            llvm           llvm
"
# Of Debian's family on x86-64, which alone packages compilers with their C
# libraries for others.
NEEDED_BY_OTHERS='
i686-linux-gnu-gcc  gcc-i686-linux-gnu    -
i686-linux-gnu-gcc  libc6-dev-i386-cross  -
s390x-linux-gnu-gcc gcc-s390x-linux-gnu   -
s390x-linux-gnu-gcc libc6-dev-s390x-cross -
qemu-s390x          qemu-user             -
'
# Of ./dev cross, beside the builds that are check's.
NEEDED_BY_CROSS="$NEEDED_BY_DEMO$NEEDED_BY_OTHERS
aarch64-linux-gnu-gcc     gcc-aarch64-linux-gnu    -
aarch64-linux-gnu-gcc     libc6-dev-arm64-cross    -
arm-linux-gnueabihf-gcc   gcc-arm-linux-gnueabihf  -
arm-linux-gnueabihf-gcc   libc6-dev-armhf-cross    -
powerpc-linux-gnu-gcc     gcc-powerpc-linux-gnu    -
powerpc-linux-gnu-gcc     libc6-dev-powerpc-cross  -
musl-gcc                  musl-tools               -
qemu-ppc                  qemu-user                -
bats                      bats                     -
pkg-config                pkg-config               -
xz                        xz-utils                 -
"
# Of Debian's family on x86-64, where the processor has no protection keys.
NEEDED_BY_MACHINE='
qemu-system-x86_64  qemu-system-x86       -
cpio                cpio                  -
'
# Fedora alone has these apart from the compiler.
FEDORA_SANITIZERS='libasan libubsan libtsan'

is_there() {
	case $1 in
	/*) [ -e "$1" ] ;;
	'<'*) echo "#include $1" | cc -E - >/dev/null 2>&1 ;;
	-*)
		echo 'int LLVMFuzzerTestOneInput(void) { return 0; }' |
			clang "$1" -xc - -o /dev/null >/dev/null 2>&1
		;;
	python3:*) python3 -c "import ${1#*:}" 2>/dev/null ;;
	lib*.so* | lib*.a)
		# What is not found is printed as it was asked for.
		[[ $(cc -print-file-name="$1" 2>/dev/null) == /* ]]
		;;
	*) command -v "$1" >/dev/null ;;
	esac
}

# packages_install NEEDED...
packages_install() {
	local what deb rpm manager
	local -a missing=()

	if command -v apt-get >/dev/null; then
		manager=apt
	elif command -v dnf >/dev/null; then
		manager=dnf
	else
		manager=none
	fi
	while read -r what deb rpm; do
		[ -n "$what" ] || continue
		is_there "$what" && continue
		case $manager in
		apt) missing+=("$deb") ;;
		dnf) missing+=("$rpm") ;;
		none) missing+=("$what") ;;
		esac
	done <<<"$1"
	if [ "$manager" = dnf ] && [ "$1" = "$NEEDED_BY_CHECK" ]; then
		for what in $FEDORA_SANITIZERS; do
			rpm -q "$what" >/dev/null 2>&1 || missing+=("$what")
		done
	fi
	[ "${#missing[@]}" -gt 0 ] || return 0
	mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)

	if [ "$manager" = none ] || ! is_root; then
		die "missing here, and not to be installed without $(is_root && echo apt-get or dnf || echo root): ${missing[*]}"
	fi
	say "Installing ${missing[*]}"
	if [ "$manager" = apt ]; then
		{ apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y \
			--no-install-recommends "${missing[@]}"; } </dev/null >"$WORK/packages.log" 2>&1
	else
		dnf install -y "${missing[@]}" </dev/null >"$WORK/packages.log" 2>&1
	fi || {
		tail -n 20 "$WORK/packages.log" >&2
		die "could not be installed: ${missing[*]}"
	}
}

# Protection keys are the processor's, if the kernel has switched them on.
keys_at_hand() {
	grep -qsw ospke /proc/cpuinfo
}

# A machine with keys is emulated where those packages are to be had that others
# are, too.
machine_possible() {
	others_possible && ! keys_at_hand
}

# Sets SECMALLOC_MACHINE_KERNEL, unless somebody has.
machine_fetch() {
	packages_install "$NEEDED_BY_MACHINE"
	[ -z "${SECMALLOC_MACHINE_KERNEL:-}" ] || return 0
	say "Fetching a kernel for an emulated machine with protection keys"
	quietly machine_unpack
	export SECMALLOC_MACHINE_KERNEL=$WORK/machine/vmlinuz
}

# The kernel is not installed. That of clouds is small and has its drivers built in;
# in Ubuntu it has another name.
machine_unpack() {
	mkdir "$WORK/machine"
	cd "$WORK/machine"
	machine_download || {
		apt-get update -q
		machine_download
	}
	dpkg-deb -x linux-image-*.deb .
	mv boot/vmlinuz-* vmlinuz
}

# Of packages that name no version, what the first depends on.
machine_download() {
	local package
	package=$(apt-cache depends linux-image-cloud-amd64 linux-image-virtual |
		sed -n 's/^ *Depends: \(linux-image-[0-9].*\)$/\1/p' | sed 1q)
	[ -n "$package" ] && apt-get download -q -o APT::Sandbox::User=root "$package"
}
