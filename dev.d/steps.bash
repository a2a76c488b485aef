# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# Steps that run beside each other, each with its log, their results and the
# sum of them.

PASSED=0 FAILED=0 SKIPPED=0

# How many steps run at a time. Their tests look after each other by a lock: see
# "Tests" in Makefile.am.
LANES=2
STEPS=() # those that have begun, and were not reported

# Each with a processor of its own.
steps_begin() {
	mkdir "$WORK/logs"
	touch "$WORK/told"
	[ "$(nproc)" -gt 1 ] || LANES=1
	export SECMALLOC_TURNS=$WORK/turns
	: >"$SECMALLOC_TURNS"
}

# results: of all of them, in the last line; and whether none failed.
results() {
	[ -z "$KEEP" ] || say "Logs are in $KEEP"
	say "$PASSED passed, $FAILED failed"
	[ "$FAILED" = 0 ]
}

log_of() {
	echo "$WORK/logs/${1//[^A-Za-z0-9]/-}.log"
}

# step NAME CMD...: begins once there is room for it, in a process group of its
# own, which can be ended as a whole.
step() {
	local name=$1 log
	log=$(log_of "$1")
	shift
	settle $((LANES - 1))
	STEPS+=("$name")
	set -m
	{
		local from=$SECONDS
		set +em
		(set -e && cd "$WORK" && "$@") >"$log" 2>&1
		echo "$? $((SECONDS - from))" >"$log.end"
	} </dev/null &
	set +m
}

# settle N: goes on once no more than N steps run.
settle() {
	while [ "$(jobs -pr | wc -l)" -gt "$1" ]; do
		wait -n || true
		report
	done
	report
}

# report: of the steps that have ended, in the order in which they began.
report() {
	local log
	while [ "${#STEPS[@]}" -gt 0 ]; do
		log=$(log_of "${STEPS[0]}")
		[ -s "$log.end" ] || [ -z "$(jobs -pr)" ] || break
		report_step "${STEPS[0]}" "$log"
		STEPS=("${STEPS[@]:1}")
	done
}

# report_step NAME LOG: one result, and with it those of every test it ran.
report_step() {
	local log=$2 status took passed failed skipped word
	read -r status took < <(cat "$log.end" 2>/dev/null || echo killed 0)
	passed=$(tap_sum "$log" PASS)
	failed=$(($(tap_sum "$log" FAIL) + $(tap_sum "$log" ERROR) + $(tap_sum "$log" XPASS)))
	skipped=$(tap_sum "$log" SKIP)
	if [ "$status" = 0 ]; then
		passed=$((passed + 1))
		word="${green}ok${plain}    "
	else
		failed=$((failed + 1))
		word="${red}FAILED${plain}"
	fi
	PASSED=$((PASSED + passed)) FAILED=$((FAILED + failed)) SKIPPED=$((SKIPPED + skipped))
	printf '%s  %-44s %4d s  %4d passed' "$word" "$1" "$took" "$passed"
	[ "$failed" = 0 ] || printf ', %d failed' "$failed"
	[ "$skipped" = 0 ] || printf ', %d skipped' "$skipped"
	printf '\n'
	if [ "$status" != 0 ]; then
		KEEP=$WORK/logs
		grep -E '^(FAIL|ERROR|XPASS): |error:' "$log" | head -n 20 || true
		tail -n 10 "$log"
		what_failed | head -n 60
	fi
}

# what_failed: what the tests that failed had to say, but for what their programs
# say of what went well; each once.
what_failed() {
	find "$WORK" -path '*/tests/*.log' -newer "$WORK/told" -exec awk '
		/^(not )?ok / { failed = /^not/; lines = 0 }
		failed && !/^# ok / && lines++ < 20' {} + || true
	touch "$WORK/told"
}

# tap_sum LOG KIND: of the summaries that make check prints.
tap_sum() {
	awk -v kind="# $2:" 'index($0, kind) == 1 { sum += $3 } END { print sum + 0 }' "$1"
}
