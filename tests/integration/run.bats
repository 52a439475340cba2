#!/usr/bin/env bats
# `hako run` as users know it. Needs an engine: in the rig, tests/rig/run -- bats tests/integration.
# Each box takes some seconds there, so a box checks what it can.

load helpers

setup_file() {
	need_boxes
}

setup() {
	cd "$BATS_TEST_TMPDIR" || return
}

pty() {
	python3 "$BATS_TEST_DIRNAME/pty.py" "$@"
}

# bats test_tags=kvm
@test "a command runs as the caller, in a system without the host's identity, and its status is ours" {
	box -- sh -c 'uname -r; id -un; pwd; hostname; ls -A ~; ls -A /tmp; cat /etc/hostname; grep -c . /etc/passwd
		cat /etc/shadow 2>/dev/null; touch /usr/x 2>/dev/null && echo writable; ls /; exit 37' </dev/null
	[ "$status" -eq 37 ]
	if [ -r /etc/shadow ]; then
		expect_line "$err" "hint: /etc/shadow is not in the box" "-v /etc/shadow"
	else
		[ -z "$err" ]
	fi
	user=$(id -un)
	[ "$user" != root ] || user=user
	mapfile -t lines <<<"$out"
	[[ ${lines[0]} == [0-9]*.[0-9]* ]]
	[ "${lines[1]}" = "$user" ]
	[ "${lines[2]}" = "/home/$user" ]
	[ "${lines[3]}" = hako ]
	[ "${lines[4]}" = hako ]
	[ "${lines[5]}" = 3 ]
	[[ $out != *writable* ]]
	[[ $out == *$'\n'bin$'\n'dev$'\n'etc$'\n'home$'\n'* ]]
}

# bats test_tags=kvm
@test "--cpus" {
	box --cpus 4 -- nproc </dev/null
	[ "$status" -eq 0 ]
	[ "$out" = 4 ]
	[ -z "$err" ]
}

@test "standard streams are separate and binary-clean" {
	printf 'a\0b' >in
	box -- sh -c 'od -An -c; printf "\0\377" ; echo error >&2' <in
	[ "$status" -eq 0 ]
	[ "$err" = error ]
	[[ ${out%%$'\n'*} == *"a"*"\\0"*"b"* ]]
	[ "$(tail -c 2 out | od -An -tx1)" = " 00 ff" ]
}

# bats test_tags=kvm
@test "much data goes through, both ways" {
	head -c 8000000 /dev/urandom >in
	hako run -- cat <in >out
	cmp in out
}

# bats test_tags=kvm
@test "the reader of the output leaves" {
	hako run -- sh -c 'yes; echo "yes: $?" >&2' </dev/null 2>err | head -n 1 >out
	[ "$(cat out)" = y ]
	# yes(1) is killed by SIGPIPE or sees EPIPE, as on the host.
	[[ $(cat err) == *"yes: "[1-9]* ]]
}

# bats test_tags=kvm
@test "output that cannot be written is a failure" {
	status=0
	hako run -- sh -c 'seq 1 20000' </dev/null >/dev/full 2>err || status=$?
	[ "$status" -eq 125 ]
	expect_line "$(cat err)" "hako run: stdout: No space left on device"
}

# bats test_tags=kvm
@test "a signal's status" {
	box -- sh -c 'kill -9 $$' </dev/null
	[ "$status" -eq 137 ]
	[ -z "$err" ]
}

@test "no such command; a file that is none; one that the host has elsewhere" {
	box -- nosuchcommand </dev/null
	[ "$status" -eq 127 ]
	expect_line "$err" "hako run: nosuchcommand: not found in the box"
	box -- /etc/passwd </dev/null
	[ "$status" -eq 126 ]
	expect_line "$err" "/etc/passwd" "Permission denied"
	cp /bin/true ./here
	box -- ./here </dev/null
	[ "$status" -eq 127 ]
	expect_line "$err" "not found in the box" "-v $PWD/here"
}

# bats test_tags=kvm
@test "shares: read-only ones deny with a hint, writable ones write as the caller" {
	mkdir ro rw
	echo content >ro/file
	echo one >single
	box -v "$PWD/ro:/src:ro" -v rw:/dst:rw -v single -w /dst -- sh -c '
		cat /src/file "$1"; echo new >made; id -u >owner; ls -ln made | cut -d " " -f 3 >>owner; touch /src/x' sh "$PWD/single" </dev/null
	[ "$status" -eq 1 ]
	[ "$out" = $'content\none' ]
	[[ $err == *"Read-only file system"* ]]
	expect_line "$(grep '^hako run: ' <<<"$err")" "denied: " "/src/x" "-v $PWD/ro:/src:rw"
	[ ! -e ro/x ]
	[ "$(cat rw/made)" = new ]
	[ "$(stat -c %u rw/made)" -eq "$(id -u)" ]
	[ "$(sort -u rw/owner | wc -l)" -eq 1 ]
}

# bats test_tags=kvm
@test "a share :cow: the box may change all of it, and it stays as it is" {
	layer=${XDG_DATA_HOME:-$HOME/.local/share}/hako/layers/test-$$
	mkdir -p tree/sub
	echo one >tree/one
	echo two >tree/sub/two
	box -v "$PWD/tree:/w:cow" --keep "test-$$" -w /w -- \
		sh -c 'echo more >>one; mv sub elsewhere; rm -r elsewhere/two; echo new >new; ls' </dev/null
	if [[ $err == *"no user.* attributes"* ]]; then
		rm -r "$layer"
		skip "the data directory's file system keeps no user.* attributes (the rig's tmpfs, Linux 6.1)"
	fi
	[ "$status" -eq 0 ]
	[ "$out" = $'elsewhere\nnew\none' ]
	[ "$(cat tree/one tree/sub/two)" = $'one\ntwo' ]
	[ "$(ls tree)" = $'one\nsub' ]
	# Another run goes on where that one ended.
	box -v "$PWD/tree:/w:cow" --keep "test-$$" -- sh -c 'cat /w/one; ls /w' </dev/null
	rm -r "$layer"
	[ "$status" -eq 0 ]
	[ "$out" = $'one\nmore\nelsewhere\nnew\none' ]
}

@test "what is not shared is not there, and the user is told how to share it" {
	echo secret >file
	box -- cat "$PWD/file" </dev/null
	[ "$status" -eq 1 ]
	[ -z "$out" ]
	expect_line "$(grep '^hako run: ' <<<"$err")" "hint: $PWD/file is not in the box" "-v $PWD/file"
	box -- sh -c "exec wc <$PWD/file" </dev/null
	[ "$status" -ne 0 ]
	expect_line "$(grep '^hako run: ' <<<"$err")" "hint: $PWD/file is not in the box" "-v $PWD/file"
	box -w "$PWD" -- true </dev/null
	[ "$status" -eq 125 ]
	expect_line "$err" "$PWD" "No such file or directory" "-v $PWD"
}

@test "--root, --name, -e, and the current directory if it is shared" {
	box --root --name devbox -e FOO=bar -e HOME=/tmp -v .:rw -- sh -c '
		id -u; hostname; echo $FOO $HOME; pwd; echo x >made; stat -c %u made; touch /etc/new && echo etc' </dev/null
	[ "$status" -eq 0 ]
	[ "$out" = $'0\ndevbox\nbar /tmp\n'"$PWD"$'\n0\netc' ]
	[ "$(stat -c %u made)" -eq "$(id -u)" ]
}

@test "--rootfs: another system, whose writes are not kept" {
	busybox=$(type -P busybox) || skip "no static busybox"
	mkdir -p root/bin root/etc
	cp "$busybox" root/bin/busybox
	echo original >root/etc/hostname
	box --rootfs root --name alpine -- /bin/busybox sh -c '
		b=/bin/busybox; $b cat /etc/hostname; echo x >/tmp/y && $b ls /; echo changed >/etc/hostname; true' </dev/null
	[ "$status" -eq 0 ]
	[[ $out == alpine$'\n'bin$'\n'* ]]
	[[ $out != *usr* ]]
	[ "$(cat root/etc/hostname)" = original ]
	[ ! -e root/home ]
}

# bats test_tags=kvm
@test "a terminal: raw while the command has it, its size, Ctrl-C, restored" {
	run pty size=24x80 raw "expect=24 80" size=30x100 'send=go\r' "expect=30 100" 'expect=sleeping' 'send=\x03' \
		-- "$HAKO_BIN" run -t -- sh -c 'stty size; read x; stty size; tty >/dev/null && echo sleeping; exec sleep 100'
	echo "$output"
	[ "$status" -eq 130 ]
}

# bats test_tags=kvm
@test "the monitor is killed: the guest is gone, the terminal restored" {
	run pty size=24x80 raw "expect=24 80" kill=KILL cooked \
		-- "$HAKO_BIN" run -t -- sh -c 'stty size; exec sleep 100'
	echo "$output"
	[ "$status" -eq 137 ]
	! pgrep -f "^$HAKO_BIN run" 2>/dev/null
}

# bats test_tags=kvm
@test "signals are passed on" {
	mkfifo ready
	"$HAKO_BIN" run -- sh -c 'trap "echo got TERM; exit 9" TERM; echo ready; while :; do sleep 0.1; done' </dev/null >ready &
	pid=$!
	exec 5<ready
	read -r line <&5
	[ "$line" = ready ]
	kill -TERM "$pid"
	status=0
	wait "$pid" || status=$?
	[ "$status" -eq 9 ]
	[ "$(cat <&5)" = "got TERM" ]
}

# bats test_tags=kvm
@test "a signal before the command has started ends the box" {
	"$HAKO_BIN" run -- true </dev/null 2>err &
	pid=$!
	sleep 1
	kill -INT "$pid" # ignored: bash starts background jobs so
	kill -TERM "$pid"
	status=0
	wait "$pid" || status=$?
	[ "$status" -eq 143 ]
	[ -z "$(cat err)" ]
}

# bats test_tags=kvm
@test "--timeout" {
	box --timeout 100ms -- true </dev/null
	[ "$status" -eq 124 ]
	expect_line "$err" "ended after 0.100 s" "--timeout"
}

# bats test_tags=kvm
@test "--timeout ends it also if nobody reads the output" {
	mkfifo pipe
	sleep 100 <pipe 3>&- &
	reader=$!
	status=0 SECONDS=0
	"$HAKO_BIN" run --timeout 12s -- yes </dev/null >pipe 2>err || status=$?
	took=$SECONDS
	kill "$reader"
	[ "$status" -eq 124 ]
	expect_line "$(cat err)" "ended after 12.000 s" "--timeout"
	[ "$took" -le 20 ]
}

# bats test_tags=kvm
@test "out of memory ends with a clear line" {
	box --memory 128M -- python3 -c 'x=bytearray(10**9)' </dev/null
	[ "$status" -ne 0 ]
	expect_line "$(grep '^hako run: ' <<<"$err")" "out of memory (128 MiB)" "--memory"
}

# bats test_tags=kvm
@test "the guest's kernel panics: one line, and what it said last" {
	box --root -- sh -c 'echo c >/proc/sysrq-trigger; sleep 100' </dev/null
	[ "$status" -eq 125 ]
	expect_line "$(head -n 1 <<<"$err")" "hako run: the box crashed: Kernel panic"
	[ "$(grep -c '^hako run: | ' <<<"$err")" -ge 3 ]
}

# bats test_tags=kvm
@test "the agent is killed" {
	# Nothing in the box can signal it; so its memory is overwritten.
	box --root -- sh -c '
		range=$(grep r-xp /proc/1/maps | head -n 1); start=$((0x${range%%-*})); size=65536
		dd if=/dev/zero of=/proc/1/mem bs=4096 seek=$((start / 4096)) count=$((size / 4096)) conv=notrunc 2>/dev/null
		sleep 100' </dev/null
	[ "$status" -eq 125 ]
	expect_line "$(head -n 1 <<<"$err")" "hako run: the box crashed: Kernel panic" "init"
}

# bats test_tags=kvm
@test "a disk, and one that is truncated while the box runs" {
	truncate -s 4M disk
	box --root --disk disk -- sh -c 'blockdev --getsize64 /dev/vda; printf hello | dd of=/dev/vda conv=notrunc 2>/dev/null; sync' </dev/null
	[ "$status" -eq 0 ]
	[ "$out" = 4194304 ]
	[ "$(head -c 5 disk)" = hello ]
	mkfifo ready go
	exec 6<>go
	"$HAKO_BIN" run --root --disk disk:ro -- sh -c 'echo ready; read x; dd if=/dev/vda of=/dev/null bs=1M iflag=direct 2>/dev/null; echo "dd: $?"' <go >ready 2>err &
	pid=$!
	exec 5<ready
	read -r line <&5
	[ "$line" = ready ]
	truncate -s 1M disk
	echo >&6
	status=0
	wait "$pid" || status=$?
	[ "$status" -eq 0 ]
	[[ $(cat <&5) == "dd: "[01] ]]
	[ -z "$(cat err)" ]
}

# bats test_tags=kvm
@test "two boxes do not write one disk" {
	truncate -s 1M disk
	mkfifo ready
	python3 -c 'import fcntl, time; f = open("disk"); fcntl.lockf(f, fcntl.LOCK_SH); print(flush=True); time.sleep(100)' >ready 3>&- &
	holder=$!
	read -r _ <ready
	box --disk disk -- true </dev/null
	kill "$holder"
	[ "$status" -eq 125 ]
	expect_line "$err" "disk" "another box or program uses it" ":ro"
}

# bats test_tags=kvm
@test "nothing is left of all these boxes" {
	run pgrep -f "^$HAKO_BIN run"
	[ "$status" -eq 1 ]
	[ -z "$(find /dev/shm "${TMPDIR:-/tmp}" -maxdepth 1 -name '*hako*' -newer "$BATS_FILE_TMPDIR/doctor" 2>/dev/null)" ]
}
