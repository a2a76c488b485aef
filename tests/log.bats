#!/usr/bin/env bats
# What the administrator reads in the log: who was refused what, and why, once and
# without a byte that could do harm; and that the log is never in the way.

# shellcheck disable=SC2030,SC2031 # each test is a subshell, as it should be
load helpers

# A /dev of our own, so that neither the machine's log is written to nor any other
# helper to ours.
setup() {
	requires root helper-a helper-b helper-c command:nsenter
	DIR=$STAGE/log.$BATS_TEST_NUMBER
	LOG=$DIR/messages
	mkdir -p "$DIR/dev"
	# shellcheck disable=SC2016
	unshare --mount --propagation private sh -c '
		mount -t tmpfs tmpfs "$1/dev" && touch "$1/dev/null" &&
		mount --bind /dev/null "$1/dev/null" &&
		mount --rbind "$1/dev" /dev && echo ready && exec sleep 600
	' sh "$DIR" >"$DIR/ready" 3>&- &
	HOLDER=$!
	line_in "$DIR/ready" ready
}

teardown() {
	[ -z "${LISTENER:-}" ] || kill "$LISTENER"
	[ -z "${HOLDER:-}" ] || kill "$HOLDER"
	rm -rf "$DIR"
	[ "$(id -u)" != 0 ] || rm -f "$POLICY"
	[ ! -d "$LEDGER.away" ] || mv "$LEDGER.away" "$LEDGER"
}

# inside CMD...: where our /dev is.
inside() {
	nsenter --mount="/proc/$HOLDER/ns/mnt" -- "$@" 3>&-
}

# nobody_inside CMD...
nobody_inside() {
	inside "${AS_NOBODY[@]}" "$@"
}

# line_in FILE LINE: waits for it.
line_in() {
	local _
	for _ in {1..500}; do
		grep -qxF "$2" "$1" && return
		sleep 0.01
	done
	return 1
}

# listen [-f]: see loglisten.c
listen() {
	nsenter --mount="/proc/$HOLDER/ns/mnt" -- "$STAGE/bin/loglisten" "$@" /dev/log >"$LOG" 3>&- &
	LISTENER=$!
	line_in "$LOG" ready
}

# logged COUNT: the messages so far, which are as many, in MESSAGES.
logged() {
	local _
	for _ in {1..100}; do
		mapfile -t MESSAGES < <(tail -n +2 "$LOG")
		[ "${#MESSAGES[@]}" -lt "$1" ] || break
		sleep 0.01
	done
	[ "${#MESSAGES[@]}" = "$1" ] && return
	printf 'logged: %s\n' "${MESSAGES[@]}"
	echo "where $1 were expected"
	return 1
}

# logs HELPER WHY COMMAND...: nobody's wire says these to HELPER, which logs just
# one message, WHY.
logs() {
	local why=$2 helper client before=$COUNT
	run -0 nobody_inside "$STAGE/bin/wire" "$1" "${@:3}"
	echo "$output"
	read -r _ helper _ client <<<"${lines[0]}"
	logged $((before + 1))
	COUNT=${#MESSAGES[@]}
	# shellcheck disable=SC2053
	[[ ${MESSAGES[before]} == "<85>secmalloc-helper[$helper]: uid $NOBODY_UID pid $client: "$why ]] && return
	echo "logged: ${MESSAGES[before]}, where $why was expected"
	return 1
}

policy() {
	printf '%b\n' "$@" >"$POLICY"
	chmod 644 "$POLICY"
}

@test "each refusal is logged once, with user, process and reason" {
	local helper
	COUNT=0
	listen
	for helper in "$HELPER_A" "$HELPER_B" "$HELPER_C"; do
		policy "limit * 1M"
		logs "$helper" "refused: 0 bytes*" hello grant=0
		logs "$helper" "refused: 4097 bytes*" hello grant=4097
		logs "$helper" "refused: 2097152 bytes*limit*" hello grant=2097152
		logs "$helper" "refused: *populated*" hello grant=262144 lock=1
		logs "$helper" "refused: *version*" packet=1,0,2,7
		policy "limit * 1M" "total 512K"
		logs "$helper" "refused: 1048576 bytes*" hello grant=1048576
	done
	logs "$HELPER_NONE" "refused: *Operation not permitted*" hello gone
	policy "helpers * 0"
	for helper in "$HELPER_A" "$HELPER_B"; do
		logs "$helper" "refused: *0 helpers*" hello gone
	done
	policy "limit * 1M" "helpers * 1"
	"$STAGE/bin/quota" "$HELPER_A" a=65534 a.hello:OK\* \
		"!nsenter --mount=/proc/$HOLDER/ns/mnt ${AS_NOBODY[*]} '$STAGE/bin/wire' '$HELPER_A' hello" 3>&-
	logged $((COUNT + 1))
	[[ ${MESSAGES[COUNT]} == *"uid $NOBODY_UID pid "*": refused: "*" 1 helpers"* ]]
}

@test "a total that is reached is told from a user's limit" {
	COUNT=0
	listen
	policy "limit * 1M" "total 1M"
	"$STAGE/bin/quota" "$HELPER_A" a=64801 a.hello:OK\* a.take=$((524288 / $(getconf PAGESIZE))):OK \
		"!nsenter --mount=/proc/$HOLDER/ns/mnt ${AS_NOBODY[*]} '$STAGE/bin/wire' '$HELPER_A' hello grant=1048576" 3>&-
	logged 1
	[[ ${MESSAGES[0]} == *"refused: 1048576 bytes more than the total"* ]]
}

@test "a ledger that is not to be had is logged by its name" {
	COUNT=0
	listen
	mv "$LEDGER" "$LEDGER.away"
	logs "$HELPER_A" "refused: $LEDGER: No such file or directory*" hello gone
	ln -s "$LEDGER.away" "$LEDGER"
	logs "$HELPER_A" "refused: $LEDGER: *" hello gone
	logs "$HELPER_B" "refused: $LEDGER: *" hello gone
	rm "$LEDGER"
}

@test "a policy that is wrong is logged with file, line and word, by every helper" {
	local helper
	COUNT=0
	listen
	policy "# comment" "limit * 1M" "limit @no-such-group 5Q"
	for helper in "$HELPER_A" "$HELPER_B" "$HELPER_C"; do
		logs "$helper" "refused: $POLICY:3: '5Q' is *" hello gone
	done
	policy "limit * 1M"
	chmod 666 "$POLICY"
	for helper in "$HELPER_A" "$HELPER_B" "$HELPER_C"; do
		logs "$helper" "refused: $POLICY: *written*" hello gone
	done
}

@test "a request that breaks the rules is logged as the end of the conversation" {
	local bad
	COUNT=0
	listen
	for bad in "bad-magic status" "bad-version status" "bad-padding status" "short status" \
		"long status" "attach status" packet=1,0,1,1 packet=4,99 packet=5,1 \
		packet=2,0,262144,1 packet=0 packet=65535; do
		# shellcheck disable=SC2086
		logs "$HELPER_A" "ended: *" hello $bad gone
	done
}

@test "nothing is logged of a conversation in which nothing is refused" {
	local helper
	listen
	for helper in "$HELPER_A" "$HELPER_B" "$HELPER_C"; do
		run -0 nobody_inside "$STAGE/bin/wire" "$helper" hello grant=262144 populate lock=1 \
			status release=1 unmap hangup gone
		[ "${lines[-1]}" = "gone 0 promptly" ]
		run -0 nobody_inside "$STAGE/bin/wire" "$helper" hangup gone
		# Who is killed may leave an answer unread.
		inside "$STAGE/bin/quota" "$helper" a=65534 a.hello:OK\* a.ask:OK "a.end:exit 0"
	done
	# The end of another one is: it would have been seen.
	COUNT=0
	logs "$HELPER_A" "ended: *" hello packet=0 gone
}

@test "what is not printable is logged as a question mark, and no message is longer than 255 bytes" {
	COUNT=0
	listen
	policy 'total \033[31m\0200\0377\07\tx'
	logs "$HELPER_A" "refused: $POLICY:1: 'total' *" hello
	policy 'total \033[31m\0200\0377\07\r'
	logs "$HELPER_A" "refused: $POLICY:1: '[?][[]31m[?][?][?][?]' is not a number*" hello
	policy '\001\033]0;%s%n<0>\033x'
	logs "$HELPER_A" "refused: $POLICY:1: '[?][?]]0;%s%n<0>[?]x' is *" hello
	policy "$(head -c 60000 /dev/zero | tr '\0' '\377')"
	logs "$HELPER_A" "refused: $POLICY:1: '[?][?][?]*" hello
	policy "limit $(head -c 60000 /dev/zero | tr '\0' A) 5\\033"
	logs "$HELPER_A" "refused: $POLICY:1: '5[?]' is *" hello
	run ! grep -F '\x' "$LOG"
	run ! grep -E '.{256}' "$LOG"
}

@test "of a burst of refusals ten are logged, and later how many were not" {
	local words=() i last
	listen
	for ((i = 0; i < 1000; i++)); do
		words+=(grant=0)
	done
	{
		# More than it takes to earn one more line.
		sleep 11
		echo grant=0
	} | nobody_inside "$STAGE/bin/wire" "$HELPER_A" hello "${words[@]}" - >"$DIR/replies"
	[ "$(grep -c '^grant EINVAL' "$DIR/replies")" = 1001 ]
	sleep 0.1
	mapfile -t MESSAGES < <(tail -n +2 "$LOG")
	printf '%s\n' "${MESSAGES[@]}"
	# The clock may tick within the burst.
	[ "${#MESSAGES[@]}" -ge 11 ]
	[ "${#MESSAGES[@]}" -le 12 ]
	last=${MESSAGES[-1]}
	[[ $last == *"refused: 0 bytes"* ]]
	[[ $last == *$((1000 - ${#MESSAGES[@]} + 1))" "*not\ logged* ]]
	[[ ${MESSAGES[0]} != *"not logged"* ]]
}

# served: a helper serves and refuses as ever, without waiting.
served() {
	local helper from=$SECONDS
	for helper in "$HELPER_A" "$HELPER_B" "$HELPER_C"; do
		run -0 timeout 10 nsenter --mount="/proc/$HOLDER/ns/mnt" "${AS_NOBODY[@]}" \
			"$STAGE/bin/wire" "$helper" hello grant=0 grant=0 grant=0 grant=262144 \
			populate lock=1 unmap packet=0 gone
		echo "$output"
		[[ ${lines[1]} == "hello OK "* ]]
		[[ ${lines[4]} == "grant EINVAL "* ]]
		[[ ${lines[7]} == "lock OK "* ]]
		[ "${lines[-1]}" = "gone 0 promptly" ]
	done
	[ $((SECONDS - from)) -le 3 ]
}

@test "without a log the service goes on" {
	inside test ! -e /dev/log
	served
}

@test "a log that is full, and read by nobody, keeps no helper waiting" {
	listen -f
	served
}

@test "a log whose reader has died keeps no helper waiting, before its start or after" {
	listen
	coproc WIRE { nobody_inside "$STAGE/bin/wire" "$HELPER_A" hello grant=0 -; }
	local wire=$WIRE_PID to=${WIRE[1]} from=${WIRE[0]} reply _
	for _ in 1 2 3; do
		read -r -t 5 -u "$from" reply
	done
	[[ $reply == "grant EINVAL "* ]]
	logged 1
	kill "$LISTENER"
	wait "$LISTENER" || true
	LISTENER=
	for _ in {1..20}; do
		echo grant=0 >&"$to"
		read -r -t 5 -u "$from" reply
		[[ $reply == "grant EINVAL "* ]]
	done
	exec {to}>&-
	wait "$wire"
	inside test -S /dev/log
	served
}
