#!/usr/bin/env bats
# Whole programs whose malloc is made of the library, and what they compute is
# what they compute without it. And the reason why that can work: the library
# takes nothing from malloc.

load helpers

# What allocates, or may, of what a C library has.
ALLOCATES='
malloc calloc realloc reallocarray free cfree memalign aligned_alloc posix_memalign
valloc pvalloc malloc_usable_size strdup strndup wcsdup asprintf vasprintf __asprintf_chk
__vasprintf_chk open_memstream fopen fopen64 fdopen freopen tmpfile popen getline
getdelim __getdelim printf fprintf vfprintf dprintf vdprintf __printf_chk __fprintf_chk
__vfprintf_chk __dprintf_chk __vdprintf_chk puts fputs perror psignal qsort opendir
fdopendir scandir nftw ftw glob wordexp regcomp getpwnam getpwuid getgrnam getgrgid
getaddrinfo gethostbyname syslog vsyslog openlog setenv putenv unsetenv setlocale
newlocale iconv_open dlopen dlsym dlerror backtrace backtrace_symbols strerror strsignal
realpath getcwd get_current_dir_name canonicalize_file_name atexit on_exit __cxa_atexit
hcreate tsearch pthread_create timer_create mq_notify sem_open fmemopen setvbuf
_Znwm _Znam _ZdlPv
'

setup() {
	requires root
	OUT=$BATS_TEST_TMPDIR
	SHIM=$STAGE/preload
	install -D -t "$SHIM" "${abs_top_builddir:?}/.libs/libsecmalloc.so.1" \
		"$abs_top_builddir/tests/.libs/preload.so"
	export LC_ALL=C HOME=$OUT TZ=UTC
	unset PRELOAD_HELPER PRELOAD_FAULT SECMALLOC_STATS
}

# preloaded CMD...
preloaded() {
	LD_PRELOAD="$SHIM/libsecmalloc.so.1 $SHIM/preload.so" SECMALLOC_STATS=1 "$@"
}

# alike CMD...: the same words and the same status, with the shim and without;
# and with it every object was the library's, in each of PROCESSES at the least.
alike() {
	local status=0
	"$@" >"$OUT/without" 2>"$OUT/without.err" || return
	preloaded "$@" >"$OUT/with" 2>"$OUT/with.err" || status=$?
	[ "$status" = 0 ] || { tail "$OUT/with.err" && return 1; }
	[ -s "$OUT/without" ]
	diff "$OUT/without" "$OUT/with"
	tables "$OUT/with.err" "${PROCESSES:-1}" "${BY:-in-process}"
}

# tables FILE PROCESSES BY: in FILE are tables of as many processes for which the
# library had started, and no other words of it.
tables() {
	run -1 grep '^libsecmalloc: [^p]' "$1"
	[ "$(grep -c '^libsecmalloc: process [0-9]* at its exit$' "$1")" -ge "$2" ]
	same "$(sed -n 's/^  locked by  *//p' "$1" | sort -u)" "$3"
	[ "$(grep -cE '^  locked bytes +[1-9]' "$1")" -ge "$2" ]
}

# With everything that a shell forks for.
bash_script() {
	cat >"$OUT/script" <<-'END'
	declare -a list=()
	declare -A squares=()
	for i in {1..300}; do
		list+=("item $i")
		squares[$i]=$((i * i))
	done
	echo "${#list[@]} ${list[299]} ${squares[17]}"
	printf '%s\n' "${list[@]}" | sort -r | head -n 5 | while read -r a b; do echo "$b $a"; done
	total=0
	for i in {1..20}; do
		total=$((total + $(echo "${squares[$i]}" | cat)))
	done
	echo "$total"
	(list[0]=changed; echo "${list[0]}"; (echo "deeper ${list[1]}"))
	echo "${list[0]}"
	text=$(printf 'x%.0s' {1..20000})
	text=${text//x/yz}
	echo "${#text} $(cksum <<<"$text")"
	for i in 1 2 3; do (exit "$i") & wait $! || echo "status $?"; done
	cat <(echo substituted) - <<<"here"
	END
	echo "$OUT/script"
}

sql_script() {
	cat >"$OUT/sql" <<-'END'
	create table t(id integer primary key, word text, n integer);
	with recursive c(i) as (select 1 union all select i + 1 from c where i < 20000)
		insert into t(word, n) select printf('word-%05d', (i * 7919) % 20011), i % 97 from c;
	create index by_word on t(word);
	select count(*), sum(n), min(word), max(word) from t;
	select n, count(*), group_concat(id) from t group by n order by count(*) desc, n limit 3;
	select word from t order by substr(word, 8), word desc limit 5;
	delete from t where id % 3 = 0;
	vacuum;
	update t set word = word || hex(zeroblob(300)) where n < 10;
	select count(*), sum(length(word)) from t;
	pragma integrity_check;
	END
	echo "$OUT/sql"
}

python_script() {
	cat >"$OUT/script.py" <<-'END'
	import hashlib, json, os, subprocess, sys, threading
	results = {}
	def work(n):
	    d = {str(i): [i] * (i % 50) for i in range(n * 400)}
	    text = json.dumps(sorted(d.items()))
	    results[n] = hashlib.sha256(text.encode()).hexdigest()
	threads = [threading.Thread(target=work, args=(n,)) for n in range(1, 7)]
	for t in threads: t.start()
	for t in threads: t.join()
	for n in sorted(results): print(n, results[n])
	big = bytearray(3000000)
	for i in range(0, len(big), 4096): big[i] = i % 251
	print(hashlib.sha256(big * 2).hexdigest())
	sys.stdout.flush()
	for n in range(3):
	    pid = os.fork()
	    if pid == 0:
	        big[0] = n + 1
	        work(3)
	        print("child", n, sum(big), results[3])
	        sys.stdout.flush()
	        os._exit(n)
	    print("status", os.waitpid(pid, 0)[1], sum(big))
	    sys.stdout.flush()
	out = subprocess.run(["sort", "-r"], input="a\nc\nb\n", text=True, capture_output=True)
	print(out.returncode, out.stdout.split())
	END
	echo "$OUT/script.py"
}

git_script() {
	cat >"$OUT/git.sh" <<-'END'
	set -e
	rm -rf "$1"
	git init -q -b main "$1"
	cd "$1"
	export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.org GIT_CONFIG_NOSYSTEM=1
	export GIT_COMMITTER_NAME=c GIT_COMMITTER_EMAIL=c@example.org
	for i in 1 2 3 4 5 6; do
		seq $((i * 100)) $((i * 1000)) >"file$((i % 4))"
		export GIT_AUTHOR_DATE="200000000$i +0000" GIT_COMMITTER_DATE="200000000$i +0000"
		git add .
		git commit -q -m "change $i"
	done
	git log --stat --format='%H %an %s'
	git gc -q --aggressive
	git fsck --strict
	git diff HEAD~3 HEAD | cksum
	git count-objects -v | grep -E '^(in-pack|packs|garbage)'
	END
	echo "$OUT/git.sh"
}

@test "bash: arrays, pipes and subshells" {
	requires command:bash
	PROCESSES=40 alike bash "$(bash_script)"
}

@test "sqlite3: inserts, sorts and a database in memory" {
	requires command:sqlite3
	alike sqlite3 :memory: ".read $(sql_script)"
	grep -qx ok "$OUT/with"
}

@test "python3: threads, forks and what it starts" {
	requires command:python3
	local python
	python=$(python3 -c 'import sys; print(sys.executable)')
	# All of it: by itself, it takes from malloc only what is large.
	export PYTHONMALLOC=malloc PYTHONHASHSEED=0
	alike "$python" "$(python_script)"
	grep -c '^child' "$OUT/with" | grep -qx 3
}

@test "git: commits, a pack and the log" {
	requires command:git
	PROCESSES=20 alike sh "$(git_script)" "$OUT/repository"
}

@test "openssl: a key, what it is worth, and a digest" {
	requires command:openssl
	seq 100000 >"$OUT/data"
	alike openssl dgst -sha256 "$OUT/data"
	preloaded openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$OUT/key" \
		2>"$OUT/errors"
	tables "$OUT/errors" 1 in-process
	alike openssl pkey -in "$OUT/key" -check -noout
	grep -qx 'Key is valid' "$OUT/with"
	alike openssl pkey -in "$OUT/key" -text -noout
	# Of the same key the same signature, and each takes the other's.
	alike openssl dgst -sha256 -sign "$OUT/key" -hex "$OUT/data"
}

@test "a program of nobody's, whose memory the helper locks" {
	requires helper-a command:sqlite3
	local sql
	sql=$(sql_script)
	install -m 644 "$sql" "$STAGE/sql"
	export PRELOAD_HELPER=$HELPER_A
	BY=helper alike as_nobody sqlite3 :memory: ".read $STAGE/sql"
}

@test "a shim with a fault is noticed" {
	local script
	script=$(bash_script)
	export PRELOAD_FAULT=short
	run -1 alike bash "$script"
	grep -q '^libsecmalloc: sec[a-z]*(): overflow past the end of an object$' "$OUT/with.err"
}

@test "without the shim nobody has a table" {
	requires command:sqlite3
	LD_PRELOAD=$SHIM/libsecmalloc.so.1 SECMALLOC_STATS=1 \
		sqlite3 :memory: ".read $(sql_script)" >"$OUT/without" 2>"$OUT/errors"
	run ! tables "$OUT/errors" 1 in-process
}

# allocators FILE: those of the list that it wants from other libraries.
allocators() {
	nm -D --undefined-only "$1" | awk '{ sub(/@.*/, "", $2); print $2 }' |
		grep -Fx -f <(xargs -n 1 <<<"$ALLOCATES")
}

@test "the library wants nothing of malloc's from anybody" {
	requires command:nm
	run -1 allocators "$SHIM/libsecmalloc.so.1"
	same "$output" ""
	# Nor is it for want of symbols, or of looking.
	nm -D --undefined-only "$SHIM/libsecmalloc.so.1" | grep -q ' mmap\(64\)\?@'
	run -0 allocators "$STAGE/bin/tools"
	grep -qx malloc <<<"$output"
}

@test "nothing that the library calls allocates" {
	requires helper-a
	"$STAGE/bin/calls" inprocess
	SECMALLOC_TEST_HELPER=$HELPER_A as_nobody "$STAGE/bin/calls" helper
}

# For the values of more keys than a thread has room for, the C library allocates:
# what the library keeps for a thread must not be one of these.
@test "nor does it where other libraries have taken the keys of threads" {
	"$STAGE/bin/calls" inprocess keys
}
