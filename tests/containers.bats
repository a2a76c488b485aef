#!/usr/bin/env bats
# docs/kubernetes: manifests that are well-formed, and whose commands do what they
# are for, without Kubernetes.

load helpers

setup() {
	MANIFESTS=$abs_top_srcdir/docs/kubernetes
	NODE=$STAGE/node
	LISTENER=""
}

teardown() {
	[ -z "$LISTENER" ] || listener_ends
	rm -rf "$NODE"
}

# manifest FILE EXPRESSION: of its first document d.
manifest() {
	python3 -c 'import sys, yaml
d = list(yaml.safe_load_all(open(sys.argv[1])))[0]
print(eval(sys.argv[2]))' "$MANIFESTS/$1" "$2"
}

# The DaemonSet's listener, with the capabilities of its pod and no other.
listener_starts() {
	local script capabilities
	script=$(manifest daemonset.yaml 'd["spec"]["template"]["spec"]["containers"][0]["command"][2]')
	capabilities=$(manifest daemonset.yaml '",".join("+" + c.lower() for c in
		d["spec"]["template"]["spec"]["containers"][0]["securityContext"]["capabilities"]["add"])')
	SOCKET=$NODE/secmalloc.socket
	# Not what an earlier one has said.
	: >"$BATS_TEST_TMPDIR/listener"
	env ACCOUNT="$HELPER_UID" HELPER="$HELPER_NONE" LEDGER="$LEDGER" SOCKET="$SOCKET" \
		setpriv --inh-caps=-all "--bounding-set=-all,$capabilities" --no-new-privs -- \
		/bin/sh -euc "$script" </dev/null >"$BATS_TEST_TMPDIR/listener" 2>&1 3>&- &
	LISTENER=$!
	for _ in {1..500}; do
		grep -q '^Listening' "$BATS_TEST_TMPDIR/listener" &&
			[ "$(stat -c %a "$SOCKET" 2>/dev/null)" = 666 ] && return
		sleep 0.01
	done
	cat "$BATS_TEST_TMPDIR/listener"
	return 1
}

# With its helpers, as all processes of a pod end.
listener_ends() {
	local child children
	read -r -a children <"/proc/$LISTENER/task/$LISTENER/children" || true
	for child in "${children[@]}"; do
		kill -KILL "$child" 2>/dev/null || true
	done
	kill -KILL "$LISTENER" 2>/dev/null || true
	wait "$LISTENER" 2>/dev/null || true
	LISTENER=""
}

# container: nobody's program in namespaces of its own, without a right to gain any,
# with the listener's directory and a link to it where the library looks.
container() {
	local usual
	usual=$(LC_ALL=C grep -aoE '/[[:graph:]]*/secmalloc\.socket' "$STAGE/bin/socket" | head -n 1)
	# shellcheck disable=SC2016
	as_nobody unshare --user --map-root-user --mount setpriv --no-new-privs bash -euc '
		mount -t tmpfs none "${1%/*}"
		mkdir "${1%/*}/secmalloc-node"
		mount --bind "$2" "${1%/*}/secmalloc-node"
		[ -z "$3" ] || ln -s "secmalloc-node/$3" "$1"
		exec "$4" init' bash "$usual" "$NODE" "$1" "$STAGE/bin/socket" </dev/null | sed 's/ ms=.*//'
}

@test "the manifests are well-formed, and the pod asks for no privilege" {
	requires command:python3 python:yaml
	same "$(manifest pod.yaml 'd["kind"]') $(manifest daemonset.yaml 'd["kind"]')" "Pod DaemonSet"
	same "$(manifest pod.yaml '(lambda s, c: (s["volumes"][0]["hostPath"]["type"],
		c["allowPrivilegeEscalation"], c["capabilities"]))(d["spec"],
		d["spec"]["containers"][0]["securityContext"])')" "('Socket', False, {'drop': ['ALL']})"
	# Each mount is of a volume that there is.
	local file
	for file in pod.yaml daemonset.yaml; do
		same "$(manifest $file '(lambda s: {m["name"] for c in s["containers"] for m in c["volumeMounts"]} ^
			{v["name"] for v in s["volumes"]})(d["spec"].get("template", d)["spec"])')" "set()"
	done
}

@test "the policy of the DaemonSet is one, and what the defaults are" {
	requires root command:python3 python:yaml helper-none
	python3 -c 'import sys, yaml
for d in yaml.safe_load_all(open(sys.argv[1])):
    if d["kind"] == "ConfigMap": print(d["data"]["secmalloc.conf"], end="")' \
		"$MANIFESTS/daemonset.yaml" >"$BATS_TEST_TMPDIR/policy"
	run -0 "$HELPER_NONE" --check-config "$BATS_TEST_TMPDIR/policy"
	same "${lines[1]}" "$("$HELPER_NONE" --check-config | tail -n 1)"
}

@test "the DaemonSet's listener serves a container, and a new one after it" {
	requires root userns command:python3 python:yaml command:systemd-socket-activate helper-none
	listener_starts
	run -0 container secmalloc.socket
	same "$output" "OK mode=1"
	# Without the link, and without the listener, there is nothing to be had.
	run -0 container ""
	same "$output" "EPERM mode=-1"
	listener_ends
	run -0 container secmalloc.socket
	same "$output" "EPERM mode=-1"
	listener_starts
	run -0 container secmalloc.socket
	same "$output" "OK mode=1"
}

@test "the DaemonSet's helpers are their account, with one capability" {
	requires root command:python3 python:yaml command:systemd-socket-activate helper-none
	local helpers
	listener_starts
	coproc CLIENT { SECMALLOC_TEST_HELPER=$SOCKET exec "${AS_NOBODY[@]}" "$STAGE/bin/socket" init; } 3>&-
	local pid=$CLIENT_PID to=${CLIENT[1]}
	read -r -t 20 -u "${CLIENT[0]}" REPLY
	[[ $REPLY == "OK mode=1"* ]]
	read -r -a helpers <"/proc/$LISTENER/task/$LISTENER/children" || true
	same "$(awk '/^(Uid|CapPrm|CapBnd|NoNewPrivs):/ { print $2 }' "/proc/${helpers[*]: -1}/status" | xargs)" \
		"$HELPER_UID 0000000000004000 0000000000004000 1"
	exec {to}>&-
	wait "$pid"
}
