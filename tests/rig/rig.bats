#!/usr/bin/env bats
# Tests of the rig itself. Every boot costs seconds, so setup_file boots four machines and the tests look at what they left.

bats_require_minimum_version 1.5.0

setup_file() {
	local rig=$BATS_TEST_DIRNAME program
	for program in qemu-system-x86_64 busybox setpriv script; do
		if ! type -P $program >/dev/null; then
			[ "${MUST_WORK-}" != 1 ] || return 1
			skip "no $program"
		fi
	done
	"$rig/kernel" >/dev/null
	cd "$BATS_FILE_TMPDIR" || return
	mkdir tmp
	export TMPDIR=$PWD/tmp
	printf 'a\0b\377c' >stdin
	cat >ends-well <<-'END'
		cat >"$HAKO_RIG_OUT/stdin"
		pwd
		echo "to stderr" >&2
		printf '\0\n\r\377' >"$HAKO_RIG_OUT/bytes"
		cat "$HAKO_RIG_OUT/bytes"
		cd "$HAKO_RIG_OUT"
		env >env
		grep -E 'Sig(Ign|Blk)' /proc/self/status >signals
		cp /proc/cpuinfo /proc/mounts .
		ls -l /dev >dev
		sha256sum "$RIG_TEST_FILE" >sum
		echo lost >"$RIG_TEST_DIR/written" && cat "$RIG_TEST_DIR/written" >written
		unshare --user --map-root-user id -u >userns
		modprobe -v loop >modprobe 2>&1
		sleep 1000 &
		exit 42
	END
	boot good --smp 2 --out out --env RIG_TEST_FILE="$rig/run" --env RIG_TEST_DIR="$PWD" -- \
		sh "$PWD/ends-well" "it's" <stdin &
	boot hung --timeout 12 -- sh -c 'echo before; sleep 1000' </dev/null &
	boot dead -- sh -c 'echo c >/proc/sysrq-trigger' </dev/null &
	mkdir tty
	script -qec "stty rows 33 cols 101; '$rig/run' -t -- sh -c 'tty; stty size; exit 9'" /dev/null \
		</dev/null >tty/stdout 2>tty/stderr && echo 0 >tty/status || echo $? >tty/status &
	wait
}

boot() { # boot NAME ARGUMENT...: leaves NAME/{stdout,stderr,status}
	local name=$1 status=0
	shift
	mkdir "$name"
	"$BATS_TEST_DIRNAME/run" "$@" >"$name/stdout" 2>"$name/stderr" || status=$?
	echo $status >"$name/status"
}

setup() {
	cd "$BATS_FILE_TMPDIR" || return
}

@test "the command's exit status is the rig's, whatever it leaves running" {
	[ "$(cat good/status)" = 42 ]
}

@test "stdin, stdout and stderr are separate and keep every byte" {
	cmp stdin out/stdin
	{ pwd && printf '\0\n\r\377'; } | cmp - good/stdout
	[ "$(cat good/stderr)" = "to stderr" ]
}

@test "files are at their own paths; what is written goes nowhere but to --out" {
	(cd out && sha256sum --check sum)
	[ "$(cat out/written)" = lost ]
	[ ! -e written ]
}

@test "KVM is there, on an AMD processor, with the devices that tests need" {
	grep -q '^flags.* svm ' out/cpuinfo
	[ "$(grep -c '^processor' out/cpuinfo)" = 2 ]
	grep -q '^crw-rw-rw- .* kvm$' out/dev
	grep -q '^crw-rw-rw- .* fuse$' out/dev
	grep -q ' vsock$' out/dev
}

@test "the surroundings are ordinary: environment, signals, namespaces, modules" {
	grep -qx HAKO_RIG=1 out/env
	grep -qx "PATH=$PATH" out/env
	run ! grep -v ':[[:space:]]*0*$' out/signals
	[ "$(cat out/userns)" = 0 ]
	grep -q loop.ko out/modprobe
}

@test "a hung machine is cut off: 124, what it had said, its log" {
	[ "$(cat hung/status)" = 124 ]
	[ "$(cat hung/stdout)" = before ]
	grep -q '^rig: cut off after 12 s' hung/stderr
	grep -q 'sleep 1000 .*hrtimer_nanosleep' hung/stderr
	log=$(sed -n "s/^rig: the machine's console log is \(.*\);.*/\1/p" hung/stderr)
	[ -s "$log" ]
}

@test "a panic of the machine's kernel: 125 and the reason" {
	[ "$(cat dead/status)" = 125 ]
	grep -q '^rig: Kernel panic - not syncing: sysrq' dead/stderr
}

@test "with -t the command has a terminal of the right size" {
	[ "$(cat tty/status)" = 9 ]
	grep -q '/dev/hvc0' tty/stdout
	grep -q '^33 101' tty/stdout
}

@test "mistakes on the command line need no boot" {
	run -2 "$BATS_TEST_DIRNAME/run" --nonsense
	run -127 "$BATS_TEST_DIRNAME/run" -- no-such-command
	[ "$output" = "rig: no-such-command: command not found" ]
}

@test "nothing is left" {
	[ -z "$(ls tmp)" ]
	run ! pgrep -f "path=$PWD/tmp"
}
