# Policy, audit, learning and copy-on-write by rules in boxes: hako run --policy, --log, --report, --learn, --strict, --ask.
#
# The scripts are for the shell in the box.
# shellcheck disable=SC2016
load helpers

setup_file() {
	need_boxes
	mkdir "$BATS_FILE_TMPDIR/bin"
	if ! command -v cc >/dev/null; then
		return
	fi
	cc -D_GNU_SOURCE -o "$BATS_FILE_TMPDIR/bin/breakouts" "$BATS_TEST_DIRNAME/breakouts.c" -lpthread
	cc -O1 -o "$BATS_FILE_TMPDIR/bin/escapes" "$BATS_TEST_DIRNAME/escapes.c"
	cc -O1 -static -o "$BATS_FILE_TMPDIR/bin/escapes-static" "$BATS_TEST_DIRNAME/escapes.c"
}

setup() {
	# Layers of its own, the kernels that there are.
	mkdir -p "$BATS_TEST_TMPDIR/data/hako"
	ln -s "${XDG_DATA_HOME:-$HOME/.local/share}/hako/kernels" "$BATS_TEST_TMPDIR/data/hako/kernels"
	export XDG_DATA_HOME=$BATS_TEST_TMPDIR/data
	cd "$BATS_TEST_TMPDIR" || return 1
	mkdir w w/sub
	echo one >w/one
	echo two >w/sub/two
}

# A box with w as /w, the policy of standard input, and its log in "log".
under() {
	cat >policy
	box -v "$PWD/w:/w:rw" -w /w --policy policy --log log "$@" </dev/null
}

# Has the log a line with all of these words?
logged() {
	local lines word
	lines=$(cat log)
	for word; do
		lines=$(grep -F -- "$word" <<<"$lines") || {
			echo "no line with: $*"
			return 1
		}
	done
}

# bats test_tags=kvm
@test "a policy denies and hides; log and summary say so; \$PWD and paths are the box's" {
	mkdir w/secret
	echo key >w/secret/key
	under -- sh -c 'echo x >new; echo x >one; cat secret/key; ls; cat sub/two' <<-'END'
		deny write,create,delete,metadata /**
		allow * $PWD/**
		deny write $PWD/one
		hide * $PWD/secret/**
	END
	[ "$status" -eq 0 ]
	[ "$out" = $'new\none\nsub\ntwo' ]
	[ "$(cat w/one w/new)" = $'one\nx' ]
	[[ $err == *"cannot create one: Permission denied"* ]]
	[[ $err == *"secret/key: No such file"* ]]
	[[ $err == *"write "*"./one"* ]]
	[[ $err == *"policy:3: deny write \$PWD/one"* ]]
	logged '"op":"begin"' "{\"path\":\"/w\",\"host\":\"$PWD/w\"}" '{"path":"/usr","host":"/usr"}'
	logged "\"command\":\"$(basename "$(readlink -f /bin/sh)")\"" '"op":"create"' '"path":"/w/new"' '"verdict":"allow"'
	logged '"path":"/w/one"' '"verdict":"deny"' '"error":"EACCES"' '"rule":3'
	logged '"op":"lookup"' '"path":"/w/secret"' '"verdict":"hide"'
	logged '"op":"exec"' '"path":"/usr/bin/cat"'
	logged '"op":"end"' '"violations":1'
}

@test "what a read-only share refuses is in the log; without rules it is no violation" {
	box -v "$PWD/w:/w" --log log -- sh -c 'echo x >/w/one; rm /w/sub/two; mkdir /w/new; chmod 700 /w/one' </dev/null
	[ "$status" -ne 0 ]
	logged '"op":"open"' '"path":"/w/one"' '"error":"EROFS"'
	logged '"op":"unlink"' '"path":"/w/sub/two"' '"error":"EROFS"'
	logged '"op":"mkdir"' '"path":"/w/new"' '"error":"EROFS"'
	logged '"op":"chmod"' '"path":"/w/one"' '"error":"EROFS"'
	logged '"op":"end"' '"violations":0'
	[[ $err == *"denied: "*"-v $PWD/w:/w:rw"* ]]
}

@test "the root of --rootfs has the same rules and audit" {
	mkdir -p root/etc
	cp -r --parents /bin/busybox root 2>/dev/null || skip "there is no busybox"
	echo secret >root/etc/secret
	echo 'hide * /etc/secret' >policy
	box --rootfs root --policy policy --log log -- /bin/busybox cat /etc/secret /etc/hostname </dev/null
	[ "$status" -eq 1 ]
	[[ $err == *"/etc/secret"* ]]
	logged '"op":"exec"' '"path":"/bin/busybox"'
}

@test "--strict: the first violation ends the run with status 123" {
	under --strict -- sh -c 'echo x >no; sleep 1000' <<<'deny create $PWD/no'
	[ "$status" -eq 123 ]
	[[ $err == *"as --strict says"* ]]
	under --strict -- sh -c 'echo x >yes' <<<'deny create $PWD/no'
	[ "$status" -eq 0 ]
	[ -z "$err" ]
}

@test "ask: a program answers, once for each path, or the terminal, where it is not the box's" {
	cat >answers <<-END
		#!/bin/sh
		echo "\$1 \$2" >>$PWD/asked
		case \$1 in */yes) exit 0 ;; esac
		exit 1
	END
	chmod +x answers
	under --ask "$PWD/answers" -- sh -c 'echo 1 >yes; rm yes; echo 1 >yes; echo 1 >no; echo 1 >no; true' <<<'ask create /w/**'
	[ "$status" -eq 0 ]
	[ "$(cat asked)" = $'/w/yes create\n/w/no create' ]
	[ -e w/yes ]
	[ ! -e w/no ]
	logged '"path":"/w/no"' '"verdict":"ask"' '"error":"EACCES"'
	rm w/yes
	python3 "$BATS_TEST_DIRNAME/pty.py" 'expect=create /w/yes? [y/N] ' 'send=y\n' expect=made -- \
		sh -c '"$0" run -i -v "$PWD/w:/w:rw" --policy policy -- sh -c "cd /w; echo >yes; echo made" </dev/null' "$HAKO_BIN"
	[ -e w/yes ]
	under -t -- true <<<'ask create $PWD/**'
	[ "$status" -eq 125 ]
	expect_line "$err" "the terminal is the box's" "--ask"
}

@test "ask: who has no question goes on, however many have one" {
	mkdir w/asked w/asked/{1..6}
	printf '#!/bin/sh\nuntil [ -e %s/w/go ]; do sleep 0.02; done\n' "$PWD" >late
	chmod +x late
	under --ask "$PWD/late" -- sh -c 'for i in 1 2 3 4 5 6; do (: >asked/$i/made) & done; sleep 1
		cat one; : >go; wait; ls asked/*/made | wc -l' <<<'ask create $PWD/asked/*/made'
	[ "$status" -eq 0 ]
	[ "$out" = $'one\n6' ]
}

@test "rules of copy-on-write: what they name goes to a layer, the rest to the share" {
	under --keep t -- sh -c 'echo 2 >sub/two; echo x >sub/new; echo 1 >one; cat sub/two' <<<'cow * $PWD/sub/**'
	if [[ $err == *"no user.* attributes"* ]]; then
		skip "the data directory's file system keeps no user.* attributes (the rig's tmpfs, Linux 6.1)"
	fi
	[ "$status" -eq 0 ]
	[ "$out" = 2 ]
	[ "$(cat w/one w/sub/two)" = $'1\ntwo' ]
	[ ! -e w/sub/new ]
	logged '"path":"/w/sub/two"' '"verdict":"cow"'
	[ "$(hako diff -s t)" = $'A  sub/new\nC  sub/two' ]
	# Without a name it goes with the run; so does that of a share :cow, with a policy as well.
	under -- sh -c 'echo 2 >sub/two' <<<'cow * $PWD/sub/**'
	[ "$status" -eq 0 ]
	echo 'deny delete /w/one' >policy
	box -v "$PWD/w:/w:cow" --policy policy -- sh -c 'rm /w/one; echo 3 >/w/one; cat /w/one' </dev/null
	[ "$status" -eq 0 ]
	[ "$out" = 3 ]
	[ "$(cat w/one w/sub/two)" = $'1\ntwo' ]
	[ "$(ls "$XDG_DATA_HOME/hako/layers")" = t ]
}

@test "hako is killed: its temporary layer goes nevertheless" {
	"$HAKO_BIN" run -v "$PWD/w:/w:cow" -- sh -c 'echo 2 >/w/one; echo ready; sleep 1000' >out 2>err </dev/null &
	pid=$!
	for _ in $(seq 600); do
		if [ -s out ] || ! kill -0 $pid; then
			break
		fi
		sleep 0.2
	done
	if grep -q "no user.* attributes" err; then
		skip "the data directory's file system keeps no user.* attributes (the rig's tmpfs, Linux 6.1)"
	fi
	[ "$(cat out)" = ready ]
	[ "$(find "$XDG_DATA_HOME/hako/layers" -name one)" ]
	kill -9 $pid
	for _ in $(seq 100); do
		if [ -z "$(ls "$XDG_DATA_HOME/hako/layers")" ]; then
			break
		fi
		sleep 0.1
	done
	[ -z "$(ls "$XDG_DATA_HOME/hako/layers")" ]
	[ "$(cat w/one)" = one ]
}

@test "the policy's files can be read in a share, and not be changed" {
	printf 'allow * /w/**\ninclude more\n' >w/policy
	echo 'hide * /none' >w/more
	cp w/policy before
	box -v "$PWD/w:/w:rw" -w /w --policy w/policy -- sh -c 'cat policy; for f in policy more; do
		echo x >>$f || mv $f other || rm -f $f || echo kept; done; echo x >made' </dev/null
	[ "$status" -eq 0 ]
	[ "$out" = "$(cat before)"$'\nkept\nkept' ]
	cmp before w/policy
	[ "$(cat w/more)" = 'hide * /none' ]
	[ -e w/made ]
}

@test "a redirect across shares; to what is in none" {
	mkdir other
	echo right >other/file
	cat >policy <<<'redirect * /w/one => /o/file'
	box -v "$PWD/w:/w:rw" -v "$PWD/other:/o" --policy policy -- cat /w/one /o/file /w/sub/two </dev/null
	[ "$status" -eq 0 ]
	[ "$out" = $'right\nright\ntwo' ]
	under -- true <<<'redirect * /w/one => /nowhere/file'
	[ "$status" -eq 125 ]
	expect_line "$err" "policy:1: " "'/nowhere/file' is in no share" "-v"
	under --keep t -- true <<<'deny read /w/one'
	[ "$status" -eq 125 ]
	expect_line "$err" "--keep t" "cow"
	under -- true <<<'deny raed /w/one'
	[ "$status" -eq 125 ]
	expect_line "$err" "policy:1:6: 'raed'" "expected read, write"
}

@test "--learn: a second run under what was learnt goes the same way, and another does not" {
	box -v "$PWD/w:/w:rw" -w /w --learn learnt -- sh -c 'cat one; echo x >new; rm sub/two' </dev/null
	[ "$status" -eq 0 ]
	[ -z "$err" ]
	grep -q '^allow .*\$PWD' learnt
	rm w/new
	echo two >w/sub/two
	box -v "$PWD/w:/w:rw" -w /w --policy learnt --strict -- sh -c 'cat one; echo x >new; rm sub/two' </dev/null
	[ "$status" -eq 0 ]
	[ ! -e w/sub/two ]
	box -v "$PWD/w:/w:rw" -w /w --policy learnt --strict -- sh -c 'echo x >one' </dev/null
	[ "$status" -eq 123 ]
	[ "$(cat w/one)" = one ]
}

@test "reports; a log that is a pipe; what is written lies in a share and is hidden there" {
	echo old >w/report.json
	mkfifo pipe
	cat pipe >log &
	box -v "$PWD/w:/w:rw" --log pipe --report w/report.json -- sh -c 'ls /w; echo x >/w/new; cat /w/report.json' </dev/null
	wait $!
	[ "$status" -eq 1 ]
	[ "$out" = $'one\nsub' ]
	grep -q '"path":"/w/new"' w/report.json
	[[ $(<w/report.json) != *old* ]]
	logged '"op":"end"'
	box -v "$PWD/w:/w:rw" --log w/log --report - -- sh -c 'cat /w/log' </dev/null
	[ "$status" -eq 1 ]
	[[ $err == *"By command"* ]]
	grep -q '"op":"end"' w/log
	box --log /nowhere/log -- true </dev/null
	[ "$status" -eq 125 ]
	expect_line "$err" "--log '/nowhere/log'"
}

@test "a log that nobody reads any more: the run goes on, and it is said" {
	mkfifo pipe
	head -c 1 pipe >first &
	box --log pipe -- sh -c 'for i in $(seq 50); do ls /usr/bin >/tmp/x; done; echo done' </dev/null
	wait $!
	[ "$status" -eq 125 ]
	[ "$out" = "done" ]
	[[ $err == *"events were not written"* ]]
}

# Whoever is root in a box may do more there, and must not get further. Each in a test of its own: they take their time.
break_out() {
	[ -x "$BATS_FILE_TMPDIR/bin/breakouts" ] || skip "no C compiler"
	mkdir w/shut w/here
	echo secret >w/shut/secret
	cp "$BATS_FILE_TMPDIR/bin/breakouts" w
	under "$@" -- sh -c 'cd here && ../breakouts /w/shut'
}

@test "mounts, handles, links, renames, other processes' views: no way around a policy for a user" {
	break_out <<<'deny * $PWD/shut/**'
	[ "$status" -eq 0 ]
	[ -z "$out" ]
	[ "$(ls w/shut)" = secret ]
	logged '"path":"/w/shut/made-by-proc-root"' '"verdict":"deny"'
}

@test "nor for the box's root" {
	break_out --root <<<'deny * $PWD/shut/**'
	[ "$status" -eq 0 ]
	[ -z "$out" ]
	[ "$(ls w/shut)" = secret ]
	logged '"path":"/w/shut/made-by-bind"' '"verdict":"deny"'
	logged '"path":"/w/shut/made-by-handle"' '"verdict":"deny"'
	logged '"path":"/w/shut/made-by-mounting-again"' '"verdict":"deny"'
}

@test "without a policy they are ways" {
	break_out --root <<<''
	[ "$status" -eq 1 ]
	for way in name dotdot symlink proc-root init-root other-process handle bind mounting-again overlay chroot link rename; do
		grep -qx "$way: read" <<<"$out"
	done
}

# bats test_tags=kvm
@test "the 15 escapes, in a box" {
	[ -x "$BATS_FILE_TMPDIR/bin/escapes" ] || skip "no C compiler"
	mkdir w/shut
	cp "$BATS_FILE_TMPDIR/bin/"escapes* w
	under -- sh -c 'for program in ./escapes ./escapes-static; do
		for way in $($program list); do $program $way shut/$program-$way && echo $program $way; $program $way $program-$way || echo $way; done
		done' <<<'deny * $PWD/shut/**'
	[ "$status" -eq 0 ]
	[ -z "$out" ]
	[ -z "$(ls w/shut)" ]
	for program in escapes escapes-static; do
		for way in $(w/escapes list); do
			logged "\"path\":\"/w/shut/$program-$way\"" '"deny"' || logged "\"other\":\"/w/shut/$program-$way\"" '"deny"'
		done
	done
}

@test "nothing outside of a share is reached through it" {
	mkdir outside
	echo secret >outside/secret
	ln -s ../outside w/up
	ln -s "$PWD/outside" w/absolute
	ln -s /proc/1/root w/proc
	under --root -- sh -c 'cat up/secret absolute/secret ../outside/secret "proc/$1/secret" "/w/../$1/secret"
		mkdir d; cd d; mv /w/d /w/sub/d; ls ..; cat ../../../outside/secret ../../../../outside/secret' \
		sh "$PWD/outside" <<<''
	[ "$status" -eq 1 ]
	[ "$out" = $'d\ntwo' ]
}

@test "--timeout does not wait for a helper of --ask, which goes, with what it started" {
	printf '#!/bin/sh\nsleep 78.5\n' >slow
	chmod +x slow
	SECONDS=0
	under --timeout 3 --ask "$PWD/slow" -- sh -c 'echo 1 >new' <<<'ask create /w/**'
	[ "$status" = 124 ]
	[ "$SECONDS" -lt 50 ]
	[[ $err != *abandoned* ]]
	! pgrep -f '^sleep 78.5$'
}

@test "what cannot be kept apart is refused at the start, and leaves no layer" {
	run hako run -v "$PWD/w/one:cow" --keep file -- true
	[ "$status" = 2 ]
	[[ $output == *"only a directory can be :cow"* ]]
	[ ! -e "$XDG_DATA_HOME/hako/layers/file" ]
	echo 'cow * /w/**' >policy
	run hako run -v "$PWD/w:/w" --policy policy -- true
	[ "$status" = 125 ]
	[[ $output == *"shared read-only"*":rw"* ]]
}
