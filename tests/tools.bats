#!/usr/bin/env bats
# A tool that watches accesses to memory watches those to ours: it reports each
# that is wrong, where it is done, and none that is not.

load helpers

setup() {
	requires root
}

# memcheck STATUS MISDEED [OPTION...]
memcheck() {
	run -"$1" valgrind --quiet --vgdb=no --error-exitcode=86 --leak-check=full \
		"${@:3}" "$STAGE/bin/tools" "$2"
}

# For each compiler's runtime, and linked with a library that knows of neither.
compile_address() {
	requires command:gcc command:clang
	local compiler
	for compiler in gcc clang; do
		"$compiler" -g -O1 -fsanitize=address -fno-omit-frame-pointer \
			"-I$abs_top_srcdir/include" -o "$BATS_TEST_TMPDIR/tools-$compiler" \
			"$abs_top_srcdir/tests/tools.c" "-L$abs_top_builddir/.libs" -lsecmalloc \
			"-Wl,-rpath,$abs_top_builddir/.libs"
	done
}

# Whether reports have names in them: gcc's runtime finds them by itself.
has_names() {
	[ "$1" = gcc ] || command -v llvm-symbolizer >/dev/null
}

# address STATUS COMPILER MISDEED [OPTION]
address() {
	ASAN_OPTIONS=exitcode=87:${4:-} run -"$1" "$BATS_TEST_TMPDIR/tools-$2" "$3"
}

# The misdeed, what is done by it, and where that is to memcheck.
ACCESSES='
read-past         read   0 bytes after a block of size 77
write-past        write  0 bytes after a block of size 77
read-past-room    read
read-before       read
write-past-large  write  0 bytes after a block of size 300001
write-past-grown  write  0 bytes after a block of size 77
write-past-cut    write  0 bytes after a block of size 70
read-freed        read   0 bytes inside a block of size 77 free.d
write-freed       write  76 bytes inside a block of size 77 free.d
read-freed-large  read   150000 bytes inside a block of size 300001 free.d
read-before-guarded read 8 bytes before a block of size 77
read-freed-guarded  read 3 bytes inside a block of size 77 free.d
write-past-guarded  write 0 bytes after a block of size 77
'

@test "memcheck reports each access that is not to a live object" {
	requires command:valgrind
	local misdeed does where
	while read -r misdeed does where; do
		[ -n "$misdeed" ] || continue
		# What overflows is found again when it is freed, and stops there; a
		# guarded object, by the processor.
		if [ "$misdeed" = write-past-guarded ]; then
			memcheck 139 "$misdeed"
		elif [[ "$misdeed" == write-past* ]]; then
			memcheck 134 "$misdeed"
			[[ "$output" == *"libsecmalloc: secfree(): overflow past the end"* ]]
		else
			memcheck 86 "$misdeed"
		fi
		same "$(grep -c 'Invalid' <<<"$output")" 1 "$misdeed"
		grep -q "Invalid $does of size 1\$" <<<"$output"
		# It takes a call and what is called for one, at times.
		grep -A 1 'Invalid' <<<"$output" | grep -Eq "at .*: (${does}_at|access_one) \\(tools\\.c"
		grep -q "Address 0x[0-9a-f]* is $where" <<<"${output//,/}"
	done <<<"$ACCESSES"
}

@test "memcheck says where a block was allocated and freed" {
	requires command:valgrind
	memcheck 86 read-freed
	grep -A 12 "bytes inside a block of size 77 free'd" <<<"$output" |
		grep -q 'by .*: freed (tools.c'
	grep -A 12 "Block was alloc'd at" <<<"$output" | grep -q 'by .*: freed (tools.c'
}

@test "memcheck has nothing to say of what is right" {
	requires command:valgrind
	local right
	for right in last last-large last-grown last-cut last-guarded rightly; do
		memcheck 0 "$right"
		same "$output" "# done" "$right"
	done
}

@test "memcheck reports a lost object, and who allocated it" {
	requires command:valgrind
	memcheck 86 lose
	grep -Eq ' (77 bytes in 1|154 bytes in 2) blocks are definitely lost' <<<"$output"
	grep -q 'by .*: lose (tools.c' <<<"$output"
	memcheck 86 lose-malloc
	grep -q '77 bytes in 1 blocks are definitely lost' <<<"$output"
	# And no object of malloc that ours point to.
	memcheck 0 keep-malloc
	same "$output" "# done"
}

@test "valgrind's other tools see no more than the program does" {
	requires command:valgrind
	local tool
	for tool in --tool=none "--tool=callgrind --callgrind-out-file=/dev/null"; do
		# shellcheck disable=SC2086
		run -0 valgrind --quiet --vgdb=no --log-file=/dev/null $tool "$STAGE/bin/tools" read-past
		same "$output" "# done" "$tool"
	done
}

@test "AddressSanitizer reports each access that is not to a live object" {
	compile_address
	local compiler misdeed does where
	for compiler in gcc clang; do
		while read -r misdeed does where; do
			[ -n "$misdeed" ] || continue
			address 87 "$compiler" "$misdeed"
			grep -q 'ERROR: AddressSanitizer: use-after-poison' <<<"$output"
			grep -q "^${does^^} of size 1 at" <<<"$output"
			! has_names "$compiler" ||
				grep -q "#0 .* in ${does}_at .*tools.c" <<<"$output"
		done <<<"$ACCESSES"
	done
}

@test "AddressSanitizer has nothing to say of what is right" {
	compile_address
	local compiler right
	for compiler in gcc clang; do
		for right in last last-large last-grown last-cut last-guarded rightly; do
			address 0 "$compiler" "$right"
			same "$output" "# done" "$compiler, $right"
		done
	done
}

@test "where AddressSanitizer may not be told, the canary finds what it can" {
	compile_address
	local compiler
	for compiler in gcc clang; do
		address 0 "$compiler" read-past allow_user_poisoning=0
		address 134 "$compiler" write-past allow_user_poisoning=0
		same "$output" "libsecmalloc: secfree(): overflow past the end of an object"
	done
}

@test "LeakSanitizer knows what our objects point to" {
	compile_address
	local compiler
	for compiler in gcc clang; do
		address 0 "$compiler" keep-malloc
		same "$output" "# done"
		address 87 "$compiler" lose-malloc
		grep -q 'Direct leak of 77 byte(s) in 1 object(s)' <<<"$output"
		! has_names "$compiler" || grep -q 'in lose_malloc ' <<<"$output"
	done
}

# It can be told of memory to search, but not of objects to search for.
@test "an object of ours that is lost is in the table at exit, if LeakSanitizer is silent" {
	compile_address
	local compiler
	export SECMALLOC_STATS=1
	for compiler in gcc clang; do
		address 0 "$compiler" lose
		[[ "$output" != *LeakSanitizer* ]]
		grep -qx '  live objects  *2' <<<"$output"
		grep -qx '  object bytes  *154' <<<"$output"
		address 0 "$compiler" last
		grep -qx '  live objects  *0' <<<"$output"
	done
}
