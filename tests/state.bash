# shellcheck shell=bash
# What /proc says of the helper whose process id is HELPER; knows nothing of how
# it was started.

# field NAME: a line of the helper's /proc/PID/status, blanks as one. Not in a
# loop of the shell's: bats comes by at each command of it.
field() {
	awk -v name="$1:" '$1 == name { $1 = ""; print substr($0, 2) }' "/proc/$HELPER/status"
}

# confined: nothing of its caller's is left, and no way to more than its task takes.
confined() {
	same "$(field CapInh)" 0000000000000000 CapInh
	same "$(field CapPrm)" 0000000000004000 CapPrm
	same "$(field CapEff)" 0000000000004000 CapEff
	same "$(field CapAmb)" 0000000000000000 CapAmb
	same "$(field NoNewPrivs)" 1 NoNewPrivs
	same "$(field SigBlk)" 0000000000000000 SigBlk
	same "$(field Umask)" 0077 Umask
	same "$(tr -d '\0' <"/proc/$HELPER/environ" | wc -c)" 0 environ
	same "$(readlink "/proc/$HELPER/cwd")" / cwd
	# Root owns what belongs to a process that is not dumpable.
	same "$(stat -c %u "/proc/$HELPER/environ")" 0 dumpable
	same "$(awk '{ print $6 }' "/proc/$HELPER/stat")" "$HELPER" session
	same "$(awk '/core file size/ { print $5, $6 }' "/proc/$HELPER/limits")" "0 0" core
}

# state UID GID: who it is, and that it is confined.
state() {
	same "$(field Uid)" "$1 $1 $1 $1" Uid
	same "$(field Gid)" "$2 $2 $2 $2" Gid
	same "$(field Groups)" "" Groups
	confined
}

# resource_allowed: whether root may exceed limits here (CAP_SYS_RESOURCE); some
# containers and virtual machines take that away.
resource_allowed() {
	(($(sed -n 's/^CapBnd:[[:space:]]*/0x/p' /proc/self/status) >> 24 & 1))
}
