#!/usr/bin/env bats
# `hako trace` as users know it, and ways out of it. Needs /dev/fuse and leave to mount, no engine.

load helpers

setup_file() {
	find_trace
}

setup() {
	need_trace
	cd "$BATS_TEST_TMPDIR" || return
}

teardown() {
	if [ -n "$public" ]; then
		rm -rf "$public"
	fi
}

# -q, unless one of the options asks for something: what the command itself says is tested, without the summary.
quietly() {
	local word
	for word; do
		case $word in
		-p | --policy* | --fusebox-acl* | --log* | --report* | --learn* | --keep* | --verbose) return ;;
		--) break ;;
		esac
	done
	echo -q
}

# Runs it with what `run` cannot keep apart: $status, $out and $err.
trace() {
	status=0
	timeout 60 "$HAKO_BIN" trace $(quietly "$@") "$@" >"$BATS_TEST_TMPDIR/out" 2>"$BATS_TEST_TMPDIR/err" || status=$?
	out=$(tr '\0' '@' <"$BATS_TEST_TMPDIR/out")
	err=$(cat "$BATS_TEST_TMPDIR/err")
	# Seen only if the test fails.
	printf '# hako trace %s: %s\n%s\n%s\n' "$*" "$status" "$out" "$err"
}

pty() {
	TERM=dumb python3 "$BATS_TEST_DIRNAME/pty.py" "$@"
}

need_root() {
	[ "$(id -u)" -eq 0 ] || skip "only root can $1"
}

need_compiler() {
	command -v gcc >/dev/null || skip "no gcc"
}

# As a user who is not root, in a directory that everybody may use: $public. /dev/fuse is as udev makes it.
as_user() {
	need_root "become another user"
	public=$(mktemp -d /tmp/hako-trace-XXXXXX)
	chmod 1777 "$public"
	cp "$HAKO_BIN" "$public/hako"
	chmod 755 "$public/hako"
	mknod -m 666 "$public/fuse" c 10 229
	setpriv --reuid 12345 --regid 12345 --clear-groups unshare -U true 2>/dev/null ||
		skip "users may make no user namespaces here"
}

# $groups: those that the user is in besides.
user_trace() {
	status=0
	groups=${groups:---clear-groups} unshare -m sh -c 'mount --make-rprivate / && mount --bind "$1/fuse" /dev/fuse && cd "$1" && shift &&
		exec setpriv --reuid 12345 --regid 12345 $groups env HOME="$PWD" timeout 60 ./hako trace "$@"' \
		sh "$public" $(quietly "$@") "$@" >"$BATS_TEST_TMPDIR/out" 2>"$BATS_TEST_TMPDIR/err" || status=$?
	out=$(cat "$BATS_TEST_TMPDIR/out")
	err=$(cat "$BATS_TEST_TMPDIR/err")
	printf '# hako trace %s (user): %s\n%s\n%s\n' "$*" "$status" "$out" "$err"
}

# What it is like

@test "who asks for nothing in particular gets a summary; with -q none, nor with a log" {
	hako trace -- sh -c 'echo x >made' 2>err
	grep -q '^Files: sh -c' err
	grep -q ' 1 created' err
	[ "$(hako trace -q -- sh -c 'echo x >made' 2>&1)" = "" ]
	[ "$(hako trace --log log -- sh -c 'echo x >made' 2>&1)" = "" ]
	printf 'deny create /**\n' >policy
	run hako trace -q --policy policy -- sh -c 'echo x >other'
	[ "$status" -eq 2 ]
	[[ $output != *Refused* ]]
	[ "$(hako trace -- /nosuch 2>&1)" = "hako trace: '/nosuch': No such file or directory" ]
	run hako trace -q --verbose -- true
	[ "$status" -eq 2 ]
}

@test "status, directory, user, environment, limits and signals are the caller's" {
	mkdir here
	cd here
	ulimit -Sn 500
	FOO=bar trace -- sh -c 'pwd; id -u; echo $FOO; ulimit -n; grep -E "^Sig(Ign|Blk)" /proc/self/status; exit 37'
	[ "$status" -eq 37 ]
	[ -z "$err" ]
	[ "$out" = "$PWD
$(id -u)
bar
500
$(sh -c 'grep -E "^Sig(Ign|Blk)" /proc/self/status')" ]
}

@test "files are the host's, and what is written is there" {
	echo old >file
	trace -- sh -c 'cat file; echo new >file; echo x >made; chmod 640 made; ln -s made link; mkdir dir'
	[ "$status" -eq 0 ]
	[ "$out" = old ]
	[ "$(cat file)" = new ]
	[ "$(stat -c %a made)" = 640 ]
	[ "$(readlink link)" = made ]
	[ -d dir ]
}

@test "standard streams are the caller's own" {
	printf 'a\0b' >in
	trace -- sh -c 'cat; echo error >&2' <in
	[ "$out" = 'a@b' ]
	[ "$err" = error ]
	"$HAKO_BIN" trace -q -- yes | head -n 1 >first
	[ "$(cat first)" = y ]
}

@test "standard streams that are closed stay so, and nothing of hako's takes their place" {
	"$HAKO_BIN" trace --log log -- sh -c '[ ! -e /proc/self/fd/0 ] && [ ! -e /proc/self/fd/1 ] && echo x >made' <&- >&- 2>&-
	[ -e made ]
	grep -q "$PWD/made" log
	[ "$(head -c 1 log)" = '{' ]
	trace --policy nosuchfile -- true <&-
	[ "$status" -eq 125 ]
}

@test "many arguments, a long one, a long environment, a deep directory" {
	long=$(head -c 130000 /dev/zero | tr '\0' x)
	LONG=$long trace -- sh -c 'echo $# ${#1} ${#LONG}' sh "$long" $(seq 10000)
	[ "$out" = "10001 130000 130000" ]
	for _ in $(seq 20); do
		mkdir "${long:0:200}"
		cd "${long:0:200}"
	done
	trace -- sh -c 'echo x >made; cat made; pwd -P | wc -c'
	[ "$out" = "x
$(pwd -P | wc -c)" ]
}

@test "a directory that is gone, and one that another mount has" {
	need_root "mount"
	mkdir gone other bound
	cd gone
	rmdir ../gone
	trace -- true
	[ "$status" -eq 2 ]
	expect_line "$err" "current directory" "No such file" "change to one"
	cd ../other
	unshare -m sh -c 'mount --make-rprivate / && mount --bind ../bound . && cd ../other && "$1" trace -- sh -c "pwd; echo x >made"' \
		sh "$HAKO_BIN" >../out
	[ "$(cat ../out)" = "$PWD" ]
	[ -e ../bound/made ]
}

@test "in a trace, in a chroot, without /proc: said" {
	trace -- "$HAKO_BIN" trace -q -- true
	[ "$status" -eq 125 ]
	expect_line "$err" "inside of a hako trace"
	need_root "chroot"
	mkdir -p root/usr root/proc
	for name in bin lib lib64; do
		ln -s usr/$name root/$name
	done
	cp "$HAKO_BIN" root/hako
	# $1: what is done before
	in_chroot() {
		unshare -m sh -c 'mount --make-rprivate / && mount --bind /usr root/usr && eval "$1" && chroot root /hako trace -q -- true' sh "$1"
	}
	run in_chroot true
	[[ $output != *Sanitizer* ]] || skip "a sanitizer's runtime does not start without /proc"
	[ "$status" -eq 125 ]
	expect_line "$output" "/proc/self/mountinfo" "mount it"
	run in_chroot "mount -t proc proc root/proc"
	[ "$status" -eq 125 ]
	expect_line "$output" "no mount point" "chroot"
}

@test "a signal's status; no such command; a file that is none; no command" {
	trace -- sh -c 'kill -9 $$'
	[ "$status" -eq 137 ]
	trace -- nosuchcommand
	[ "$status" -eq 127 ]
	expect_line "$err" "hako trace: 'nosuchcommand': No such file"
	trace -- /etc/passwd
	[ "$status" -eq 126 ]
	expect_line "$err" "/etc/passwd" "Permission denied"
	trace -- ''
	[ "$status" -eq 127 ]
	expect_line "$err" "hako trace: '': No such file"
	for name in '' ../x .x a/b tmp.x; do
		trace --cow --keep "$name" -- true
		[ "$status" -eq 2 ]
		expect_line "$err" "--keep: '$name' cannot name a layer" "no slash"
	done
	trace --log log --gentoo true
	[ "$status" -eq 2 ]
	expect_line "$err" "--gentoo has to be the first" "hako-sandbox"
	[ ! -e log ]
	trace --net off
	[ "$status" -eq 2 ]
	trace --net maybe -- true
	[ "$status" -eq 2 ]
	expect_line "$err" "--net maybe" "on or off"
}

@test "processes: its own only, and none is left" {
	trace -- sh -c 'sleep 4242 & ls -d /proc/[0-9]* | wc -l; ps -eo pid= 2>/dev/null | head -n 1'
	[ "$status" -eq 0 ]
	[ "${out%%$'\n'*}" -le 5 ]
	[ -z "$(pgrep -f '^sleep 4242')" ]
}

@test "signals are passed on, once" {
	mkfifo ready
	"$HAKO_BIN" trace -q -- sh -c 'trap "echo got TERM" TERM; trap "exit 9" USR1; echo ready; while :; do sleep 0.1; done' >ready &
	pid=$!
	exec 5<ready
	read -r line <&5
	[ "$line" = ready ]
	kill -TERM "$pid"
	read -r line <&5
	[ "$line" = "got TERM" ]
	kill -USR1 "$pid"
	status=0
	wait "$pid" || status=$?
	[ "$status" -eq 9 ]
	[ -z "$(cat <&5)" ]
}

@test "a group that signals itself does so once" {
	# From inside, to all of the process group, which hako is in, too.
	run pty 'expect=done' -- "$HAKO_BIN" trace -q -- sh -c 'n=0; trap "n=\$((n + 1))" USR1; kill -USR1 0; sleep 0.5; echo "done $n"'
	[ "$status" -eq 0 ]
	[[ $output == *"done 1"* ]]
}

@test "Ctrl-C goes to the command" {
	run pty 'expect=ready' 'send=\x03' -- "$HAKO_BIN" trace -q -- sh -c 'echo ready; exec sleep 100'
	[ "$status" -eq 130 ]
	run pty 'expect=ready' 'send=\x03' -- "$HAKO_BIN" trace -q -- sh -c 'trap "exit 5" INT; echo ready; while :; do sleep 0.1; done'
	[ "$status" -eq 5 ]
}

@test "Ctrl-Z stops it for the shell outside; fg goes on" {
	# No child of it is started meanwhile: a shell in vfork(2) cannot be stopped.
	run pty 'expect=$ ' "send=$HAKO_BIN trace -- sh -c 'echo g\"\"o; until read x; do :; done; echo do\"\"ne; exit 4'\n" 'expect=go' \
		'send=\x1a' 'expect=Stopped' 'expect=$ ' 'send=fg\n' 'expect=exit 4' 'send=\n' 'expect=done' 'send=exit $?\n' -- \
		env PS1='$ ' bash --norc -i
	echo "$output"
	[ "$status" -eq 4 ]
}

@test "in the background it stops when it reads the terminal, and goes on in the foreground" {
	run pty 'expect=$ ' "send=$HAKO_BIN trace -- cat &\n" 'expect=$ ' 'send=while ! jobs | grep Stopped; do sleep 0.1; done\n' \
		'expect=Stopped' 'expect=$ ' 'send=fg\n' 'expect=cat' 'send=hello\n' 'expect=hello' 'expect=hello' 'send=\x04' \
		'expect=$ ' 'send=exit 7\n' -- env PS1='$ ' bash --norc -i
	echo "$output"
	[ "$status" -eq 7 ]
}

@test "the terminal's size, and its end" {
	run pty size=30x100 'expect=30 100' size=40x120 'expect=40 120' kill=HUP 'expect=hung up' -- "$HAKO_BIN" trace -q -- \
		sh -c 'trap "stty size" WINCH; trap "echo hung up; exit 3" HUP; stty size; while :; do sleep 0.1; done'
	echo "$output"
	[ "$status" -eq 3 ]
}

@test "a shell inside has job control, and the terminal is back afterwards" {
	cat >script <<-END
		PS1='in> ' $HAKO_BIN trace -- bash --norc -i
		read x
		echo "got \$x"
	END
	# A shell that replaces itself: one in vfork(2) cannot be stopped.
	run pty 'expect=in> ' 'send=sh -c "echo r\"\"un; exec sleep 100"\n' 'expect=run' 'send=\x1a' 'expect=Stopped' 'send=jobs\n' \
		'expect=Stopped' 'send=kill %1; fg\n' 'expect=in> ' 'send=exit 3\n' 'expect=exit' 'send=abc\n' 'expect=got abc' -- bash script
	echo "$output"
	[ "$status" -eq 0 ]
}

@test "a shell inside that is suspended goes on with fg" {
	run pty 'expect=$ ' "send=PS1='in> ' $HAKO_BIN trace -q -- bash --norc -i\n" 'expect=in> ' 'send=suspend\n' 'expect=Stopped' \
		'send=fg\n' 'expect=in> ' 'send=echo aw\"\"ake\n' 'expect=awake' 'send=exit 6\n' 'expect=exit' 'expect=$ ' 'send=exit $?\n' -- \
		env PS1='$ ' bash --norc -i
	echo "$output"
	[ "$status" -eq 6 ]
}

@test "what is sent to hako's group reaches a command that has left it" {
	for leave in "setsid" "setpgrp(0, 0)"; do
		[ "$leave" = setsid ] && start="POSIX::setsid()" || start=$leave
		setsid "$HAKO_BIN" trace -q -- perl -MPOSIX -e "$start; open(F, '>', 'left'); close(F); sleep 100" &
		pid=$!
		for _ in $(seq 100); do
			[ ! -e left ] || break
			sleep 0.1
		done
		rm left
		kill -TERM -- "-$pid"
		status=0
		wait "$pid" || status=$?
		[ "$status" -eq 143 ]
	done
}

@test "--cow keeps apart all but what -v lets through" {
	mkdir let in
	echo old >in/f
	trace --cow -v let:rw -- sh -c 'echo result >let/r; echo new >in/f; mv in/f in/g; echo x >let/../in/h'
	[ "$status" -eq 0 ]
	[ "$(cat let/r)" = result ]
	[ "$(cat in/f)" = old ]
	[ "$(ls in)" = f ]
	mkdir let/apart
	trace --cow -v let:rw -v let/apart:cow -- sh -c 'echo 1 >let/apart/r; echo 2 >let/s'
	[ "$status" -eq 0 ]
	[ -z "$(ls let/apart)" ]
	[ "$(cat let/s)" = 2 ]
}

@test "appending is what the file is set to now" {
	printf 1234 >file
	trace -- python3 -c '
import fcntl, os
f = os.open("file", os.O_RDWR | os.O_APPEND)
fcntl.fcntl(f, fcntl.F_SETFL, 0)
os.pwrite(f, b"ab", 0)
fcntl.fcntl(f, fcntl.F_SETFL, os.O_APPEND)
os.lseek(f, 0, 0)
os.write(f, b"end")'
	[ "$status" -eq 0 ]
	[ "$(cat file)" = ab34end ]
}

@test "--timeout" {
	trace --timeout 200ms -- sleep 100
	[ "$status" -eq 124 ]
	expect_line "$err" "ended after 0.200 s" "--timeout"
	trace --timeout 200ms -- sh -c 'trap "" TERM; sleep 100; sleep 100'
	[ "$status" -eq 124 ]
}

@test "--timeout goes on while the command is stopped, and hako with it" {
	for stop in 'kill -STOP $$' 'kill -STOP 0' 'trap "kill -STOP \$\$" TERM; kill -STOP $$'; do
		trace --timeout 500ms -- sh -c "$stop; sleep 100"
		[ "$status" -eq 124 ]
		expect_line "$err" "ended after 0.500 s" "--timeout"
	done
	echo 'deny create /**' >policy
	trace --strict --policy policy -- sh -c 'trap "kill -STOP \$\$" TERM; echo x >made; kill -STOP $$; sleep 100'
	[ "$status" -eq 123 ]
	# It is asked to end, and can hear that.
	trace --timeout 500ms -- sh -c 'trap "echo asked; exit" TERM; kill -STOP $$; sleep 100'
	[ "$status" -eq 124 ]
	[ "$out" = asked ]
}

@test "--timeout of a stopped job leaves the terminal to the shell" {
	run pty 'expect=$ ' "send=$HAKO_BIN trace --timeout 2s -- sh -c 'echo g\"\"o; kill -STOP \$\$; sleep 100'\n" 'expect=go' \
		'expect=Stopped' 'expect=$ ' 'send=sleep 4; echo a\"\"wake\n' 'expect=ended after 2.000 s' 'expect=awake' 'expect=$ ' \
		'send=read x; echo "got $x"\n' 'send=this\n' 'expect=got this' 'send=exit 7\n' -- env PS1='$ ' bash --norc -i
	echo "$output"
	[ "$status" -eq 7 ]
}

@test "--net off: a loopback of its own" {
	trace --net off -- cat /proc/net/dev
	[ "$status" -eq 0 ]
	[ "$(grep -c : <<<"$out")" -eq 1 ]
	[[ $out == *"lo:"* ]]
	command -v python3 >/dev/null || skip "no python3"
	# Neither families that know nothing of namespaces, nor what makes sockets unseen: EAFNOSUPPORT, ENOSYS.
	trace --net off -- python3 -c '
import ctypes, socket
try:
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
except OSError as e:
    print(e.errno)
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall(425, 1, None)
print(ctypes.get_errno())'
	[ "$out" = $'97\n38' ]
}

@test "/dev has no disks, and its own terminals and shared memory" {
	name=/dev/shm/hako-trace-test-$$
	echo secret >"$name"
	trace -- sh -c 'find /dev -type b; [ -e "$1" ] || echo none; echo x >"$1"; echo y >/dev/null && ! cat /dev/zero >/dev/full' sh "$name"
	[ "$(cat "$name")" = secret ]
	rm "$name"
	[ "$status" -eq 0 ]
	[ "$out" = none ]
	# What the host has of these.
	have='for name in kvm dri snd; do [ ! -e /dev/$name ] || echo $name; done'
	trace -- sh -c "$have"
	[ "$out" = "$(sh -c "$have")" ]
	trace --minimal-dev -- sh -c "$have"
	[ -z "$out" ]
}

# What it is for

@test "a policy denies and hides, a summary says so, --strict has a status" {
	mkdir build
	echo secret >key
	cat >policy <<-'END'
		deny write,create,delete,metadata /**
		allow * $PWD/build/**
		hide * $PWD/key
	END
	trace --policy policy -- sh -c 'echo x >build/made; echo x >outside; cat key; ls'
	[ "$status" -eq 0 ]
	[ -e build/made ]
	[ ! -e outside ]
	[[ $err == *"outside: Permission denied"* ]] || [[ $err == *"cannot create outside"* ]]
	[[ $err == *"No such file"* ]]
	[[ $out != *key* ]]
	[[ $err == *"create"*"./outside"* ]]
	# The first one ends the run, also of who does not want to end, or where it is the command that is denied.
	trace --strict --policy policy -- sh -c 'echo x >outside; sleep 100; echo on'
	[ "$status" -eq 123 ]
	[ -z "$out" ]
	[[ $err == *"the policy denied something"*"--strict"* ]]
	trace --strict --policy policy -- sh -c 'trap "echo asked" TERM; echo x >outside; while :; do sleep 0.1; done'
	[ "$status" -eq 123 ]
	[ "$out" = asked ]
	printf 'deny exec /**/cat\n' >noexec
	trace --strict --policy noexec -- cat key
	[ "$status" -eq 123 ]
	trace --policy noexec -- cat key
	[ "$status" -eq 126 ]
	[[ $err == *"exec "*"/cat"* ]]
	trace --strict --policy policy -- sh -c 'echo x >build/made'
	[ "$status" -eq 0 ]
	[ -z "$err" ]
}

@test "deny list holds wherever a program begins to read a directory" {
	mkdir shut && touch shut/name
	printf 'deny list $PWD/shut\n' >policy
	trace --policy policy --log log -- perl -e 'opendir D, "shut"; seekdir D, 1; print readdir D'
	[ -z "$out" ]
	grep '"list"' log | grep -q '"deny"'
}

@test "who has no question is not held up by those who have, however many" {
	mkdir asked asked/{1..24} && echo data >file
	printf 'ask create $PWD/asked/*/made\n' >policy
	printf '#!/bin/sh\nuntil [ -e %s/go ]; do sleep 0.02; done\n' "$PWD" >late
	chmod +x late
	trace --policy policy --ask ./late -- sh -c 'for i in $(seq 24); do (: >asked/$i/made) & done; sleep 1
		cat file; ls /etc/passwd; touch go; wait'
	[ "$status" -eq 0 ]
	[ "$out" = $'data\n/etc/passwd' ]
	[ "$(ls asked/*/made | wc -l)" -eq 24 ]
}

@test "what was learnt from a run with hard links suffices for the next" {
	cat >run <<-'END'
		echo data >made && ln made second && chmod 600 second && ln old third && chmod 700 third && cat old third
		rm made second third
	END
	echo old >old
	trace --learn learnt -- sh run
	[ "$status" -eq 0 ]
	trace --policy learnt --strict -- sh run
	[ "$status" -eq 0 ]
	[ "$out" = $'old\nold' ]
}

@test "the policy's files are read, and nothing else, by who is held to it" {
	mkdir dir
	printf 'allow * $PWD/**\ninclude dir/more\n' >policy
	printf 'hide * $PWD/none\n' >dir/more
	ln -s policy link
	cp policy before
	trace --policy link -- sh -c 'cat policy; for f in policy dir/more link; do
		echo "allow * /**" >>$f || mv before $f || mv $f other || ln $f other || rm -f $f || chmod 600 $f || ln -sf before $f || echo kept; done
		perl -e "rename(q(dir), q(moved)) or print qq(kept\n)"; echo x >dir/made'
	[ "$status" -eq 0 ]
	[ "$out" = "$(cat before)"$'\nkept\nkept\nkept\nkept' ]
	cmp before policy
	[ "$(cat dir/more)" = 'hide * $PWD/none' ]
	[ "$(readlink link)" = policy ]
	[ "$(ls)" = $'before\ndir\nerr\nlink\nout\npolicy' ]
	[ -e dir/made ]
	trace --policy policy -v "$PWD:rw" -- sh -c 'echo x >>policy'
	[ "$status" -ne 0 ]
	printf 'addread /\naddwrite %s\n' "$PWD" >acl
	cp acl before
	trace --fusebox-acl acl -- sh -c 'echo x >made; echo x >>acl'
	[ "$status" -ne 0 ]
	[ -e made ]
	cmp before acl
	# One that is no file has no name.
	timeout 60 "$HAKO_BIN" trace -q --policy /dev/stdin -- true <<<'deny write /none'
}

@test "a policy asks: a program, or the terminal; no answer is no" {
	echo data >file
	printf 'ask read $PWD/file\n' >policy
	printf '#!/bin/sh\necho "$1 $2" >>%s/asked\n[ "$2" = read ]\n' "$PWD" >yes
	printf '#!/bin/sh\nexit 1\n' >no
	chmod +x yes no
	trace --policy policy --ask ./yes -- sh -c 'cat file; cat file'
	[ "$out" = $'data\ndata' ]
	[ "$(cat asked)" = "$PWD/file read" ]
	# It finds signals as programs do.
	printf '#!/bin/sh\ngrep -E "^Sig(Blk|Ign)" /proc/self/status >%s/signals\n' "$PWD" >look
	chmod +x look
	trace --policy policy --ask ./look -- cat file
	[ "$out" = data ]
	[ "$(sed -n 's/^SigBlk:\t//p' signals)" = 0000000000000000 ]
	[ $((0x$(sed -n 's/^SigIgn:\t//p' signals) & 0x7fffffff)) -eq 0 ]
	trace --policy policy --ask ./no -- cat file
	[ "$status" -eq 1 ]
	echo '#!/nosuch/interpreter' >no
	trace --policy policy --ask ./no -- cat file
	[ "$status" -eq 1 ]
	[[ $err == *"--ask './no': No such file or directory"* ]]
	setsid -w "$HAKO_BIN" trace --policy policy -- cat file >out 2>&1 </dev/null || true
	[[ $(cat out) == *"Permission denied"* ]]
	run pty 'expect=[y/N]' 'send=y\n' 'expect=data' -- "$HAKO_BIN" trace --policy policy -- cat file
	[ "$status" -eq 0 ]
	run pty 'expect=[y/N]' 'send=n\n' 'expect=Permission denied' -- "$HAKO_BIN" trace --policy policy -- cat file
	[ "$status" -eq 1 ]
	# A name is no command to the terminal.
	echo data >$'red\e[31m'
	printf 'ask read $PWD/red*\n' >policy
	run pty 'expect=[y/N]' 'send=y\n' 'expect=data' -- "$HAKO_BIN" trace -q --policy policy -- sh -c 'cat red*'
	[ "$status" -eq 0 ]
	[[ $output == *"/red"*"[y/N]"* ]]
	[[ $output != *$'\e[31m'* ]]
}

@test "a policy that is none: which line, which column" {
	printf 'allow * /**\nforbid * /x\n' >policy
	trace --policy policy -- true
	[ "$status" -eq 125 ]
	expect_line "$err" "policy:2:1" "forbid"
	trace --policy nosuchfile -- true
	[ "$status" -eq 125 ]
	expect_line "$err" "nosuchfile" "No such file"
	echo 'include nosuchfile' >policy
	trace --policy policy -- true
	[ "$status" -eq 125 ]
	expect_line "$err" "policy:1:9" "nosuchfile" "No such file"
	mkdir sub
	echo 'include sub/b' >a
	printf 'allow * /**\ninclude ../a\n' >sub/b
	trace --policy a -- true
	[ "$status" -eq 125 ]
	expect_line "$err" "a:1" "sub/b:2:9" "/a' includes itself"
	head -c 100 /dev/zero >policy
	trace --policy policy -- true
	[ "$status" -eq 125 ]
	expect_line "$err" "policy" "not a text file"
	echo 'hide * /**' >policy
	trace --policy policy -- true
	[ "$status" -eq 125 ]
	expect_line "$err" "'$PWD': change directory: No such file" "the policy may hide"
}

@test "the log has each access, also of static programs and raw system calls; the command cannot see it" {
	need_compiler
	cat >raw.c <<-'END'
		#include <fcntl.h>
		#include <linux/openat2.h>
		#include <sys/syscall.h>
		#include <unistd.h>
		int main(int argc, char **argv)
		{
			struct open_how how = {.flags = O_CREAT | O_WRONLY, .mode = 0644};
			return syscall(SYS_openat2, AT_FDCWD, argv[1], &how, sizeof(how)) < 0;
		}
	END
	gcc -static -o raw raw.c || skip "no static libc"
	trace --log log -- sh -c 'env -i ./raw "$PWD/made"; ls log; echo x >log.x'
	[ -e made ]
	[[ $err == *"log': No such file"* ]]
	trace --log - -- true
	[[ $err == '{'*'"op":"end"'* ]]
	grep "\"command\":\"raw\"" log | grep -q "$PWD/made"
	printf 'deny create,write /**\n' >policy
	trace --policy policy -- ./raw "$PWD/other"
	[ "$status" -eq 1 ]
	[ ! -e other ]
}

@test "nodes of devices are the host's: they are used, and stay as they are" {
	stat -c '%a %u %g' /dev/null /dev/full /dev/tty >before
	for options in "" "--policy policy" "--minimal-dev" "--cow"; do
		echo 'deny metadata /**' >policy
		trace $options -- sh -c 'echo x >/dev/null && head -c 1 /dev/zero && ! echo x >/dev/full && exec 3<>/dev/null && echo >&3
			for i in null full tty; do chmod 666 /dev/$i || chown 0:0 /dev/$i || rm /dev/$i || echo $i; done'
		[ "$status" -eq 0 ] || [[ $options == --cow && $err == *"user.* attributes"* ]]
		[ "$status" -ne 0 ] || [ "$out" = $'@null\nfull\ntty' ]
	done
	stat -c '%a %u %g' /dev/null /dev/full /dev/tty >after
	cmp before after
}

@test "the terminal keeps its mode by way of /dev/console" {
	command -v python3 >/dev/null || skip "no python3"
	pty -- sh -c 'stat -c %a "$(tty)"; "$1" trace -q -- sh -c "chmod 606 /dev/console; echo written >/dev/console"; stat -c %a "$(tty)"' sh "$HAKO_BIN" >shown </dev/null
	cat shown
	[ "$(grep -cE '^[0-7]{3}' shown)" -eq 2 ]
	[ "$(grep -E '^[0-7]{3}' shown | sort -u | wc -l)" -eq 1 ]
	grep -q 'Read-only file system' shown
	grep -q written shown
}

@test "--report and --learn: what was learnt is enough for a second run" {
	mkdir work
	cd work
	trace --report r.html --learn learnt -- sh -c 'echo x >made'
	[ "$status" -eq 0 ]
	grep -qi '<html' r.html
	trace --report r.htm -- true
	grep -qi '<html' r.htm
	rm made
	trace --strict --policy learnt -- sh -c 'echo x >made'
	[ "$status" -eq 0 ]
	[ -e made ]
	trace --strict --policy learnt -- sh -c 'echo x >../unforeseen'
	[ "$status" -eq 123 ]
	[ ! -e ../unforeseen ]
}

@test "the command cannot choose what a report overwrites: the file is opened before, and hidden" {
	echo precious >victim
	cp victim before
	trace --report r.html --learn learnt -- sh -c 'ls; ln -s victim r.html; ln -sf victim learnt; mkfifo r.html; true'
	[ "$status" -eq 0 ]
	[ "$out" = $'before\nerr\nout\nvictim' ]
	cmp victim before
	grep -qi '<html' r.html
	[ ! -L learnt ]
	trace --report nosuch/r.html -- touch ran
	[ "$status" -eq 125 ]
	expect_line "$err" "--report 'nosuch/r.html': No such file"
	[ ! -e ran ]
}

@test "one file for two purposes; a log outlives a policy that is wrong" {
	echo 'deny write /**' >policy
	trace --log policy --policy ./policy -- true
	[ "$status" -eq 125 ]
	expect_line "$err" "--policy and --log are one file" "of its own"
	[ "$(cat policy)" = 'deny write /**' ]
	ln policy other
	trace --policy policy --learn other -- true
	[ "$status" -eq 125 ]
	trace --report same --learn same -- true
	expect_line "$err" "--report and --learn are one file"
	trace --log /dev/null --report /dev/null -- true
	[ "$status" -eq 0 ]
	echo 'a log' >log
	echo 'nonsense' >policy
	trace --log log --policy policy -- true
	[ "$status" -eq 125 ]
	[ "$(cat log)" = 'a log' ]
	# One that is right has it written anew.
	seq 100000 >log
	trace --log log -- true
	[ "$status" -eq 0 ]
	tail -n 1 log | grep -q '"op":"end"'
	echo err >errors
	timeout 60 "$HAKO_BIN" trace --log - -- true 2>>errors
	[ "$(head -1 errors)" = err ]
}

@test "--cow: the files stay; --keep: the next run goes on" {
	export XDG_DATA_HOME=$PWD/data
	echo old >file
	trace --cow -- sh -c 'echo new >file; rm -f data; echo x >made; cat file'
	[ "$status" -eq 0 ] || [[ $err == *"user.* attributes"* ]] && [ "$status" -ne 0 ] && skip "no user attributes here"
	[ "$out" = new ]
	[ "$(cat file)" = old ]
	[ ! -e made ]
	[ -z "$(ls data/hako/layers)" ]
	trace --cow --keep k -- sh -c 'echo new >file'
	[ "$(cat file)" = old ]
	trace --cow --keep k -- cat file
	[ "$out" = new ]
	trace --cow --keep ../k -- true
	[ "$status" -eq 2 ]
	echo 'allow * /**' >policy
	trace --policy policy --keep other -- true
	[ "$status" -eq 125 ]
	expect_line "$err" "--keep other" "nothing is to be kept apart" "--cow"
	[ ! -e data/hako/layers/other ]
	# Those of other runs are nobody's business.
	trace -- ls data/hako/layers
	[ "$status" -ne 0 ]
	[ -z "$out" ]
}

@test "-v: read-only, writable, copy-on-write, by directory" {
	export XDG_DATA_HOME=$PWD/data
	mkdir ro ro/rw cow
	echo old >cow/file
	trace -v ro -v ro/rw:rw -v cow:cow --keep k -- sh -c 'echo x >ro/x; echo x >ro/rw/x; echo new >cow/file; echo x >free; cat cow/file'
	[ "$status" -eq 0 ]
	[ "$out" = new ]
	[ ! -e ro/x ]
	[ -e ro/rw/x ]
	[ -e free ]
	[ "$(cat cow/file)" = old ]
	[ "$(cd data/hako/layers/k/upper && find . -type f)" = ".$PWD/cow/file" ]
	trace -v nosuch -- true
	[ "$status" -eq 2 ]
	expect_line "$err" "-v" "nosuch" "No such file"
}

@test "git clone and make" {
	need_compiler
	command -v git >/dev/null || skip "no git"
	mkdir origin
	cd origin
	printf 'all: hello\nhello: hello.c\n\t$(CC) -o $@ $<\ninstall: hello\n\tmkdir -p $(DESTDIR)/bin && install -m 755 hello $(DESTDIR)/bin\n' >Makefile
	printf '#include <stdio.h>\nint main(void) { puts("hello"); return 0; }\n' >hello.c
	git init -q . && git add . && git -c user.name=x -c user.email=x@y commit -qm x
	cd ..
	trace -- sh -c 'git clone -q origin copy && make -s -j2 -C copy && make -s -C copy install DESTDIR="$PWD/image" && image/bin/hello'
	[ "$status" -eq 0 ]
	[ "$out" = hello ]
	[ "$(image/bin/hello)" = hello ]
}

# The end

@test "the server is killed: the command and all it started are gone, no mount is left" {
	mkfifo ready
	"$HAKO_BIN" trace -q -- sh -c 'setsid sleep 4343 & (trap "" HUP TERM INT; while :; do cat /etc/passwd >/dev/null; done) & echo ready; wait' >ready &
	pid=$!
	exec 5<ready
	read -r line <&5
	[ "$line" = ready ]
	for _ in $(seq 100); do
		sleeper=$(pgrep -f '^sleep 4343') && break
		sleep 0.1
	done
	grep -q '^hako / fuse' /proc/"$sleeper"/mounts
	kill -9 "$pid"
	wait "$pid" || true
	for _ in $(seq 50); do
		[ -n "$(pgrep -f '^sleep 4343')" ] || break
		sleep 0.1
	done
	[ -z "$(pgrep -f '^sleep 4343')" ]
	[ -z "$(grep '^hako ' /proc/mounts)" ]
	# All writers are gone.
	timeout 10 cat <&5
}

# Ways out

@test "no way out by /proc, parents, or namespaces of others" {
	echo host >marker
	trace -- sh -c '
		for root in /proc/1/root /proc/self/root /proc/$PPID/root /proc/1/cwd/../../../../../../..; do
			[ "$(stat -c %d:%i $root/ 2>/dev/null || echo no)" = no ] ||
				[ "$(stat -c %d:%i $root/)" = "$(stat -c %d:%i /)" ] || echo "out: $root"
		done
		ls -d /../../.. >/dev/null
		nsenter -t 1 -m true && echo out: nsenter
		nsenter -t $PPID -a true && echo out: nsenter
		unshare -m true && echo out: mount namespace
		unshare -Um true && echo out: user namespace
		mount -t tmpfs x /mnt && echo out: mount
		mount --bind / /mnt && echo out: bind
		umount /proc && echo out: umount
		find /proc/1/fd /proc/1/ns -lname "/dev/fuse" 2>/dev/null
		true' 2>/dev/null
	[ "$status" -eq 0 ]
	[ -z "$out" ]
}

# Every way of escapes.c, by a dynamic and a static program, to names that begin with "by-".
all_ways() {
	gcc -O1 -o "$1/escapes" "$BATS_TEST_DIRNAME/escapes.c"
	gcc -O1 -static -o "$1/escapes-static" "$BATS_TEST_DIRNAME/escapes.c" || skip "no static libc"
	ways=$("$1/escapes" list)
	# Where the kernel has none, it is no way.
	(cd "$1" && ./escapes io_uring by-test 2>/dev/null) || ways=${ways//io_uring/}
	rm -f "$1/by-test"
	try_all="for way in $(echo $ways); do ./escapes \$way by-\$way 2>/dev/null; ./escapes-static \$way by-\$way-static 2>/dev/null; done; ls by-* | wc -l"
	count=$(($(wc -w <<<"$ways") * 2))
}

@test "what LD_PRELOAD and ptrace miss is in the log, and denied" {
	need_compiler
	all_ways .
	trace --log log -- sh -c "$try_all"
	[ "$out" = "$count" ]
	for way in $ways; do
		grep '"op":"\(create\|mknod\|rename\)"' log | grep -q "$PWD/by-$way\""
		grep '"op":"\(create\|mknod\|rename\)"' log | grep -q "$PWD/by-$way-static\""
	done
	rm by-*
	printf 'deny create $PWD/by-*\n' >policy
	trace --policy policy -- sh -c "$try_all"
	[ "$out" = 0 ]
	[ "$(find . -name 'by-*')" = "" ]
	as_user
	all_ways "$public"
	printf 'deny create %s/by-*\n' "$public" >"$public/policy"
	user_trace --policy policy --log log -- sh -c "$try_all"
	[ "$out" = 0 ]
	[ "$(grep -c '/by-.*"verdict":"deny"' "$public/log")" -ge "$count" ]
	user_trace -- sh -c "$try_all"
	[ "$out" = "$count" ]
}

@test "a policy cannot be left by moving what is above, linking, or racing" {
	mkdir -p top/secret top/open
	echo key >top/secret/key
	echo harmless >top/open/key
	printf 'deny * $PWD/top/secret/**\ndeny create,write $PWD/top/**/locked\n' >policy
	trace --policy policy -- sh -c '
		cat top/secret/key
		mv top/secret top/open/moved; cat top/open/moved/key
		ln top/secret/key top/link; cat top/link
		ln -s secret top/sym; cat top/sym/key
		python3 -c "import os; os.rename(\"top\", \"other\")"; cat other/secret/key
		mkdir -p new/sub; echo x >new/sub/locked; python3 -c "import os; os.rename(\"new\", \"top/new\")"; cat top/new/sub/locked
		mkdir two; mv two three; mv three/ top/open/three && echo moved'
	[ "$out" = moved ]
	[[ $err == *"Invalid cross-device link"* ]]
	[ ! -e other ]
	[ ! -e top/new/sub/locked ]
	printf 'deny read $PWD/top/secret/**\n' >weak
	trace --policy weak -- sh -c 'mv top/secret/key top/open/stolen; cat top/open/stolen; mv top/secret top/open/all; cat top/open/all/key'
	[ -z "$out" ]
	[ -e top/secret/key ]
	# What is read is what was judged, while names come and go.
	need_compiler
	cat >race.c <<-'END'
		#define _GNU_SOURCE
		#include <fcntl.h>
		#include <pthread.h>
		#include <stdio.h>
		#include <string.h>
		#include <sys/syscall.h>
		#include <unistd.h>
		static void *swap(void *arg)
		{
			for (;;) {
				unlink("way");
				symlink("top/open", "way");
				unlink("way");
				symlink("top/secret", "way");
				syscall(SYS_renameat2, AT_FDCWD, "top/open", AT_FDCWD, "top/secret", 2 /* EXCHANGE */);
				rename("top/open", "top/aside");
				rename("top/aside", "top/open");
			}
		}
		int main(void)
		{
			static const char *const paths[] = {"way/key", "top/open/key", "top/aside/key", "top/open/../secret/key"};
			pthread_t thread;
			int opened = 0;
			pthread_create(&thread, NULL, swap, NULL);
			for (int i = 0; i < 8000; i++) {
				char buf[16] = "";
				int fd = open(paths[i % 4], O_RDONLY);
				if (fd < 0)
					continue;
				opened++;
				if (read(fd, buf, sizeof(buf) - 1) > 0 && strncmp(buf, "key", 3) == 0)
					puts("out");
				close(fd);
			}
			puts(opened > 0 ? "some" : "none");
			return 0;
		}
	END
	gcc -O1 -pthread -o race race.c
	trace --policy policy -- ./race
	[ "$status" -eq 0 ]
	[ "$out" = some ]
}

@test "a directory that the caller has left open is one of the mirror" {
	mkdir secret
	echo key >secret/key
	echo free >free
	printf 'deny * $PWD/secret/**\n' >policy
	exec 7<"$PWD" 8</proc
	trace --policy policy -- sh -c 'cat /proc/self/fd/7/free; cat /proc/self/fd/7/secret/key; cat /proc/self/fd/8/self/comm; ls /proc/self/fd/8/ | grep -c "^[1-9]"'
	exec 7<&- 8<&-
	[ "${out%%$'\n'*}" = $'free' ]
	[[ $out != *key* ]]
	[[ $out == *cat$'\n'[1-5] ]]
}

@test "root: no devices, no kernel switches, no other processes' files" {
	need_root "try it"
	disk=$(stat -c '%Hd %Ld' / )
	trace -- sh -c '
		for place in . /tmp /dev /dev/shm /dev/pts /dev/dri /dev/snd /proc /sys; do
			mknod -m 666 $place/node b $1
			head -c 1 $place/node && echo out: $place, disk
			rm -f $place/node
			mknod -m 666 $place/node c 1 1
			head -c 1 $place/node && echo out: $place, memory
			rm -f $place/node
			mknod -m 666 $place/node c 1 5
			head -c 1 $place/node && echo out: $place, zero
			rm -f $place/node
		done
		echo x >/proc/sys/kernel/core_pattern && echo out: core_pattern
		echo x >/proc/sys/kernel/hostname && echo out: hostname
		echo b >/proc/sysrq-trigger && echo out: sysrq
		echo 1 >/sys/kernel/mm/ksm/run && echo out: sys
		dd if=/proc/kcore of=/dev/null bs=1 count=1 && echo out: kcore
		dmesg | grep . && echo out: dmesg
		true' sh "$disk" 2>/dev/null
	[ "$status" -eq 0 ]
	[ -z "$out" ]
	# A node that the host has does not work through the mirror.
	mknod disk b $disk
	trace -- dd if=disk of=/dev/null bs=512 count=1
	[ "$status" -ne 0 ]
	mknod -m 666 zero c 1 5 # one that is there on every host
	head -c 1 zero >/dev/null
	trace -- head -c 1 zero
	[ "$status" -ne 0 ]
	[ -z "$out" ]
	# Nothing is left on the host under a policy, whatever it allows.
	printf 'allow * /**\n' >policy
	trace --policy policy -- mknod left b $disk
	[ "$status" -ne 0 ]
	[ ! -e left ]
}

# The bounding set, of those in $1 that the caller has.
bounding_set() {
	printf '%016x' $((0x$(sed -n 's/^CapBnd:\t//p' /proc/self/status) & $1))
}

@test "root: what building and installing takes, and no more" {
	need_root "have it"
	printf 'allow * /**\n' >policy
	printf 'addread /\naddwrite /\n' >acl
	trace -- sed -n 's/^CapBnd:\t//p' /proc/self/status
	[ "$out" = "$(bounding_set 0x880404fb)" ]
	# Nor devices under a policy.
	trace --policy policy -- sed -n 's/^CapBnd:\t//p' /proc/self/status
	[ "$out" = "$(bounding_set 0x800404fb)" ]
	trace --fusebox-acl acl -- sed -n 's/^CapBnd:\t//p' /proc/self/status
	[ "$out" = "$(bounding_set 0x800404fb)" ]
	# Nor anything by a set-id program.
	trace -- sh -c 'grep "^hako / fuse" /proc/self/mounts; grep NoNewPrivs /proc/self/status'
	[[ $out == "hako / fuse rw,nosuid,nodev,"*$'\nNoNewPrivs:\t1' ]]
}

@test "no way out by handles, chroot, or typing" {
	need_root "try it"
	need_compiler
	cat >escape.c <<-'END'
		#define _GNU_SOURCE
		#include <errno.h>
		#include <fcntl.h>
		#include <sched.h>
		#include <stdio.h>
		#include <stdlib.h>
		#include <string.h>
		#include <sys/ioctl.h>
		#include <sys/mount.h>
		#include <sys/stat.h>
		#include <sys/syscall.h>
		#include <unistd.h>
		int main(void)
		{
			struct { struct file_handle h; unsigned char room[128]; } handle = {{128}};
			struct stat before, after;
			char *c = "x";
			int id, fd = open("/", O_RDONLY | O_DIRECTORY);
			fstat(fd, &before);
			if (name_to_handle_at(AT_FDCWD, "/etc", &handle.h, &id, 0) == 0 && open_by_handle_at(fd, &handle.h, 0) >= 0)
				puts("out: handle");
			/* the inode of the root of most file systems */
			memset(&handle, 0, sizeof(handle));
			handle.h.handle_bytes = 8;
			handle.h.handle_type = 1;
			handle.room[0] = 2;
			if (open_by_handle_at(fd, &handle.h, 0) >= 0 || errno != EPERM)
				puts("out: handle");
			mkdir("jail", 0755);
			if (chroot("jail") < 0 || fchdir(fd) < 0)
				puts("no chroot");
			for (int i = 0; i < 100; i++)
				chdir("..");
			chroot(".");
			stat("/", &after);
			if (before.st_dev != after.st_dev || before.st_ino != after.st_ino)
				puts("out: chroot");
			if (ioctl(0, TIOCSTI, c) == 0)
				puts("out: typing");
			/* Refused before anybody looks at the descriptor. */
			if (ioctl(-1, TIOCSTI, c) == 0 || errno != EPERM || ioctl(-1, TIOCLINUX, c) == 0 || errno != EPERM)
				puts("out: calls for typing");
			if (syscall(SYS_clone, CLONE_NEWNS | 17, 0, 0, 0, 0) >= 0)
				puts("out: clone");
			if (syscall(435, 0, 0) >= 0 || errno != ENOSYS)
				puts("out: clone3");
			if (syscall(428, AT_FDCWD, "/", 1) >= 0 || syscall(430, "tmpfs", 0) >= 0)
				puts("out: mount calls");
			if (syscall(SYS_mount, "/", "/mnt", 0, MS_BIND, 0) == 0 || setns(fd, 0) == 0)
				puts("out: mount");
			/* As a program of 32 bits: unshare, mount */
			asm volatile("int $0x80" : "=a"(id) : "a"(310), "b"(CLONE_NEWNS) : "memory");
			if (id != -EPERM && id != -ENOSYS)
				puts("out: unshare of 32 bits");
			asm volatile("int $0x80" : "=a"(id) : "a"(21), "b"(0), "c"(0), "d"(0), "S"(0), "D"(0) : "memory");
			if (id != -EPERM && id != -ENOSYS)
				puts("out: mount of 32 bits");
			return 0;
		}
	END
	gcc -w -o escape escape.c
	trace -- ./escape
	[ "$status" -eq 0 ]
	[ -z "$out" ]
	run pty 'expect=end' -- "$HAKO_BIN" trace -q -- sh -c './escape; echo end'
	[[ $output != *"out:"* ]]
}

@test "file systems of the kernel that stand elsewhere on the host are hidden" {
	need_root "mount"
	mkdir "else where" # a name that the list of mounts escapes
	unshare -m sh -c 'mount --make-rprivate / && mount -t proc proc "else where" &&
		exec "$1" trace -- ls "else where" "else where/1"' sh "$HAKO_BIN" >out 2>err || true
	[ -z "$(cat out)" ]
	[[ $(cat err) == *"No such file"* ]]
}

@test "sockets of the host do not answer" {
	python3 - <<-'END' 3>&- &
		import socket, time
		s = socket.socket(socket.AF_UNIX); s.bind("sock"); s.listen()
		c = socket.socket(socket.AF_UNIX); c.connect("sock"); open("ready", "w").close()
		time.sleep(60)
	END
	server=$!
	while [ ! -e ready ]; do sleep 0.05; done
	trace -- python3 -c 'import socket; socket.socket(socket.AF_UNIX).connect("sock")'
	kill "$server"
	[ "$status" -eq 1 ]
	[[ $err == *ConnectionRefused* ]]
}

@test "abstract sockets of the host do not answer, and signals to the group stay inside, where the kernel can do that" {
	abi=$(python3 -c 'import ctypes; print(ctypes.CDLL(None).syscall(444, None, 0, 1))')
	[ "$abi" -ge 6 ] || skip "no Landlock with scopes (Linux 6.12)"
	python3 - <<-'END' 3>&- &
		import socket, time
		s = socket.socket(socket.AF_UNIX); s.bind("\0hako-trace-test"); s.listen()
		open("ready", "w").close()
		time.sleep(60)
	END
	server=$!
	while [ ! -e ready ]; do sleep 0.05; done
	trace -- python3 -c '
import socket
socket.socket(socket.AF_UNIX).connect("\0hako-trace-test")'
	kill "$server"
	[ "$status" -eq 1 ]
	[[ $err == *PermissionError* ]]
	# Its own it reaches, and it may move and link between directories, which Landlock is known to forbid.
	trace -- python3 -c '
import os, socket
s = socket.socket(socket.AF_UNIX); s.bind("\0hako-trace-inner"); s.listen()
socket.socket(socket.AF_UNIX).connect("\0hako-trace-inner")
os.mkdir("a"); os.mkdir("b"); open("a/f", "w").close()
os.rename("a/f", "b/f"); os.link("b/f", "a/f"); os.rename("a", "b/a")'
	[ "$status" -eq 0 ]
	run setsid -w sh -c 'trap "echo outside" USR1; "$1" trace -q -- sh -c "trap \"echo inside\" USR1; kill -USR1 0; sleep 0.2"' sh "$HAKO_BIN"
	[ "$output" = inside ]
}

# Who is not root

@test "a user: his id, his files, /tmp; nobody else's" {
	as_user
	user_trace -- sh -c 'id -u; echo x >made; stat -c %u made; mkdir d; mv made d/moved; cat d/moved; rm -r d; echo y >/etc/x; cat /etc/shadow; exit 6'
	[ "$status" -eq 6 ]
	[ "$out" = $'12345\n12345\nx' ]
	[[ $err == *"/etc/x: Permission denied"* ]]
	[[ $err == *"shadow: Permission denied"* ]]
	[ ! -e "$public/d" ]
}

@test "a user: no capabilities, no network with --net off, a policy" {
	as_user
	user_trace --net off -- sh -c 'grep -E "^Cap(Prm|Bnd)" /proc/self/status | grep -v "0000000000000000"; grep -c : /proc/net/dev; unshare -U true || echo no'
	[ "$out" = $'1\nno' ]
	printf 'deny * %s/secret\n' "$public" >"$public/policy"
	echo x >"$public/secret"
	user_trace --policy policy -- cat secret
	[ "$status" -eq 1 ]
	[[ $err == *"Permission denied"* ]]
	user_trace --policy policy --strict -- cat secret
	[ "$status" -eq 123 ]
}

# A file for a group that the user is in, one for a group that he is not in, each also in a directory of that group.
group_files() {
	for group in 54321 54322; do
		mkdir -m 2770 "$public/$group"
		echo "of $group" | tee "$public/$group/file" >"$public/file-$group"
		chown -R root:$group "$public/$group" "$public/file-$group"
		chmod 660 "$public/$group/file" "$public/file-$group"
		echo "read by $group" >"$public/read-$group"
		chown root:$group "$public/read-$group"
		chmod 640 "$public/read-$group"
	done
}

use_groups='
	cat read-54321 && ! echo x 2>/dev/null >read-54321 && cat file-54321 && echo more >>file-54321 && cat 54321/file && echo x >54321/made && chmod 600 54321/made && rm 54321/file || echo no
	cat read-54322 || cat file-54322 || cat 54322/file || echo x >file-54322 || ls 54322 || echo x >54322/made && echo out'

@test "a user: what his groups may, and not what others may" {
	as_user
	group_files
	groups="--groups 54321" user_trace -- sh -c "$use_groups"
	[ "$out" = $'read by 54321\nof 54321\nof 54321' ]
	[ "$(cat "$public/file-54321")" = $'of 54321\nmore' ]
	[ "$(stat -c %u:%g "$public/54321/made")" = 12345:54321 ]
	[ ! -e "$public/54321/file" ]
	# The kernel does not know that group in here, and says so; natively it could be given.
	groups="--groups 54321" user_trace -- sh -c 'echo x >mine; chgrp 54321 mine'
	[ "$status" -eq 1 ]
	[[ $err == *"Invalid argument"* ]]
}

@test "a user: copy-on-write that is kept and applied, a report, what is learnt" {
	as_user
	# The verbs for layers, as that user.
	as_him() {
		(cd "$public" && setpriv --reuid 12345 --regid 12345 --clear-groups env HOME="$public" ./hako "$@")
	}
	mkdir -m 777 "$public/work"
	echo old >"$public/work/file"
	# His own: of another's, apply would say that it would lose its owner.
	chown 12345:12345 "$public/work/file"
	user_trace --cow --keep k --report r.html --learn learnt -- sh -c 'cd work && echo new >>file && mkdir dir && echo x >dir/made && rm -f none && cat file'
	[[ $err != *"user.* attributes"* ]] || skip "no user attributes here"
	[ "$status" -eq 0 ]
	[ "$out" = $'old\nnew' ]
	[ "$(cat "$public/work/file")" = old ]
	[ ! -e "$public/work/dir" ]
	grep -qi '<html' "$public/r.html"
	run -0 as_him diff k
	[[ $output == *"+new"* ]]
	[[ $output == *work/dir/made* ]]
	run -0 as_him apply k
	[ "$(cat "$public/work/file")" = $'old\nnew' ]
	[ "$(stat -c %u "$public/work/dir/made")" = 12345 ]
	run -0 as_him discard k
	rm -r "$public/work/dir"
	user_trace --cow --strict --policy learnt -- sh -c 'cd work && echo new >>file && mkdir dir && echo x >dir/made && rm -f none && cat file'
	[ "$status" -eq 0 ]
	user_trace --strict --policy learnt -- sh -c 'echo x >unforeseen'
	[ "$status" -eq 123 ]
	[ ! -e "$public/unforeseen" ]
}

# As nobody, as newuidmap wants a user with a name, with a range of ids.
nobody_trace() {
	status=0
	echo nobody:200000:65536 >"$public/range"
	chmod 644 "$public/range"
	unshare -m sh -c 'mount --make-rprivate / && mount --bind "$1/fuse" /dev/fuse && cd "$1" && shift &&
		{ [ -e /etc/subuid ] || touch /etc/subuid; } && { [ -e /etc/subgid ] || touch /etc/subgid; } &&
		mount --bind range /etc/subuid && mount --bind range /etc/subgid &&
		exec setpriv --reuid nobody --regid "$(id -g nobody)" --groups 54321 env HOME="$PWD" timeout 60 ./hako trace "$@"' \
		sh "$public" $(quietly "$@") "$@" >"$BATS_TEST_TMPDIR/out" 2>"$BATS_TEST_TMPDIR/err" || status=$?
	out=$(cat "$BATS_TEST_TMPDIR/out")
	err=$(cat "$BATS_TEST_TMPDIR/err")
	printf '# hako trace %s (nobody): %s\n%s\n%s\n' "$*" "$status" "$out" "$err"
}

@test "a user with a range of ids sees the owners of files, and is in his groups" {
	as_user
	command -v newuidmap >/dev/null || skip "no newuidmap (package uidmap)"
	group_files
	nobody_trace -- stat -c "%u:%g" /etc/passwd /tmp . 54321
	[ "$status" -eq 0 ]
	[ "$out" = "$(stat -c %u:%g /etc/passwd /tmp "$public" "$public/54321")" ]
	nobody_trace -- sh -c "id -G; $use_groups"
	[ "$out" = "$(id -g nobody) 54321"$'\nread by 54321\nof 54321\nof 54321' ]
	[ "$(stat -c %u:%g "$public/54321/made")" = "$(id -u nobody):54321" ]
	nobody_trace -- sh -c 'echo x >mine && chgrp 54321 mine && ! chgrp 54322 mine'
	[ "$status" -eq 0 ]
	[ "$(stat -c %g "$public/mine")" = 54321 ]
}

@test "a user without /dev/fuse is told what is missing" {
	as_user
	chmod 600 "$public/fuse"
	user_trace -- true
	[ "$status" -eq 125 ]
	expect_line "$err" "/dev/fuse" "Permission denied" "chmod 666"
	rm "$public/fuse"
	mkdir "$public/fuse" # what is bound there is no device
	status=0
	unshare -m sh -c 'mount --make-rprivate / && mount -t tmpfs none /dev && exec "$1" trace -- true' sh "$HAKO_BIN" 2>err || status=$?
	[ "$status" -eq 125 ]
	expect_line "$(cat err)" "/dev/fuse" "No such file" "mknod"
}

@test "without the module, or user namespaces: said, with what to do" {
	as_user
	mknod -m 666 "$public/none" c 10 250 # of a module that is not there
	mv "$public/none" "$public/fuse"
	user_trace -- true
	[ "$status" -eq 125 ]
	expect_line "$err" "No such device" "modprobe fuse"
	run unshare -Ur sh -c 'echo 0 >/proc/sys/user/max_user_namespaces &&
		exec setpriv --bounding-set=-all --inh-caps=-all "$1" trace -- true' sh "$HAKO_BIN"
	[ "$status" -eq 125 ]
	expect_line "$output" "user namespace" "sysctl user.max_user_namespaces"
}

@test "root of a user namespace that knows no other" {
	unshare -Urm true 2>/dev/null || skip "no user namespaces here"
	mkdir -m 1777 public
	run unshare -Urm "$HAKO_BIN" trace -q -- sh -c 'id -u; echo x >public/made; cat public/made; rm public/made; tty -s </dev/ptmx && echo terminal'
	[ "$status" -eq 0 ]
	[ "$output" = $'0\nx\nterminal' ]
}

@test "nothing is left of all these" {
	# Of others there may be some.
	for pid in $(pgrep -f "^$HAKO_BIN trace"); do
		[[ $(readlink "/proc/$pid/cwd") != "$BATS_RUN_TMPDIR"* ]]
	done
	[ -z "$(grep '^hako ' /proc/mounts)" ]
}

@test "what was written is not told as nothing, though nobody counted it: times set back, a file cut again" {
	echo old >set-back
	touch -d @1000000000 set-back
	trace --log log -- sh -c 'exec 3<>set-back 4>cut; echo new >&3; touch -d @1000000000 set-back
		head -c 1000000 /dev/zero >&4; truncate -s 0 cut'
	[ "$status" -eq 0 ]
	[ "$(cat set-back)" = new ]
	grep '"op":"close".*"/[^"]*/set-back","flags":"O_RDWR' log | grep -q '"bytes_written":4[,}]'
	grep '"op":"close".*"/[^"]*/cut"' log | grep -qE '"bytes_written":1000000[,}]|"exact":false'
	# To open a file is no change, though it is copied.
	trace --cow --log log -- sh -c 'exec 3<>set-back; read -r old <&3; echo "$old"'
	[ "$out" = new ]
	grep '"op":"close".*"/[^"]*/set-back",' log | grep -q '"bytes_written":0[,}]'
}

@test "a user without a range of ids: others' files in his own directory may go, and nowhere else" {
	as_user
	mkdir "$public/own" "$public/own/dir"
	echo root >"$public/theirs"
	echo root >"$public/own/secret"
	chmod 600 "$public/own/secret"
	touch "$public/own/file" "$public/own/moved" "$public/own/dir/kept"
	ln -s nowhere "$public/own/link"
	mkdir "$public/own/empty"
	chown 12345:12345 "$public/own"
	user_trace -- sh -c 'cd own && rm -f file link && mv moved new && rmdir empty && ls
		cat secret; rm -f dir/kept; rm -f ../theirs; stat -c %U /etc/passwd'
	[ "$out" = "dir
new
secret
nobody" ] || [ "$out" = "dir
new
secret
root" ]
	[[ $err == *"secret: Permission denied"* ]]
	[ -e "$public/own/dir/kept" ]
	[ -e "$public/theirs" ]
	[ ! -e "$public/own/moved" ]
}

@test "--timeout does not wait for a helper of --ask, which goes, with what it started" {
	printf 'ask read $PWD/file\n' >policy
	echo x >file
	printf '#!/bin/sh\nsleep 78.25\n' >slow
	chmod +x slow
	SECONDS=0
	trace --timeout 1 --policy policy --ask ./slow -- cat file
	[ "$status" = 124 ]
	[ "$SECONDS" -lt 40 ]
	! pgrep -f '^sleep 78.25$'
}
