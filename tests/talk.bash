# shellcheck shell=bash
# A conversation with a helper, word by word, through tests/wire; knows nothing
# of what is said.

# talk COMMAND...: runs wire in the background, to be told more by `expect`.
# Sets HELPER and CLIENT, their process ids.
talk() {
	coproc WIRE { "$@" - 2>&1; } 3>&-
	TALKING=$WIRE_PID
	# shellcheck disable=SC2034 # for whoever talks
	read -r -t 10 -u "${WIRE[0]}" _ HELPER _ CLIENT
}

hang_up() {
	local to=${WIRE[1]:-}
	[ -n "${TALKING:-}" ] || return 0
	[ -z "$to" ] || exec {to}>&-
	wait "$TALKING" || true
	TALKING=
}

# expect COMMAND [PATTERN]: tells the client COMMAND; its answer is in REPLY.
expect() {
	echo "$1" >&"${WIRE[1]}"
	read -r -t 10 -u "${WIRE[0]}" REPLY
	# shellcheck disable=SC2053
	[[ $REPLY == ${2:-*} ]] && return
	echo "$1: $REPLY, where ${2:-} was expected"
	return 1
}
