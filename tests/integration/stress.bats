# Random work on files (tests/stress) in a trace, with copy-on-write, and in a box; devices and memory
# that are shared with the host.
#
# The scripts are for the shell in the run.
# shellcheck disable=SC2016
load helpers

setup_file() {
	find_trace
	programs=$(cd "$(dirname "$HAKO_BIN")/src/fuse" && pwd)
	export programs
}

setup() {
	[ -x "$programs/fsstress" ] || skip "the stress programs are not built"
	work=$BATS_TEST_TMPDIR/work
	twin=$BATS_TEST_TMPDIR/twin
	mkdir "$work" "$twin"
	cd "$work" || return 1
}

# The same in both directories: natively in $twin, with COMMAND... in front in $work.
same() {
	"$programs/fsx" --ops 500 "$twin" >"$BATS_TEST_TMPDIR/native"
	"$programs/fsstress" --ops 1000 "$twin" >>"$BATS_TEST_TMPDIR/native"
	"$@" sh -ec '"$1/fsx" --ops 500 "$2" && "$1/fsstress" --ops 1000 "$2"' \
		sh "$programs" "$work" >"$BATS_TEST_TMPDIR/out"
	diff "$BATS_TEST_TMPDIR/native" "$BATS_TEST_TMPDIR/out"
}

@test "random work in a trace comes out as without it" {
	need_trace
	same hako trace -q --
	# And that is what the host has.
	"$programs/fsstress" --ops 0 "$work" >"$BATS_TEST_TMPDIR/out"
	"$programs/fsstress" --ops 0 "$twin" | diff "$BATS_TEST_TMPDIR/out" -
	hako trace -q -- "$programs/fsstress" --processes 4 --ops 300 "$work" >/dev/null
}

@test "random work under a policy and in a log comes out as without" {
	need_trace
	printf 'allow * /**\ndeny write %s/nothing/**\n' "$work" >"$BATS_TEST_TMPDIR/policy"
	same hako trace --policy "$BATS_TEST_TMPDIR/policy" --log "$BATS_TEST_TMPDIR/log" --
	[ -s "$BATS_TEST_TMPDIR/log" ]
}

@test "random work with copy-on-write comes out as without, and stays apart" {
	need_trace
	# Whether space can be zeroed depends on where the layer is: beside it, then.
	export XDG_DATA_HOME=$BATS_TEST_TMPDIR/data
	"$programs/fsstress" --seed 9 --ops 300 "$work" >/dev/null
	"$programs/fsstress" --seed 9 --ops 300 "$twin" >/dev/null
	"$programs/fsstress" --ops 0 "$work" >"$BATS_TEST_TMPDIR/before"
	run hako trace --cow --keep t -- true
	[ "$status" -eq 0 ] || skip "no layers can be kept here"
	same hako trace --cow --keep t --
	"$programs/fsstress" --ops 0 "$work" | diff "$BATS_TEST_TMPDIR/before" -
	# Applied, it is what the twin is.
	hako apply t "$work"
	"$programs/fsstress" --ops 0 "$work" >"$BATS_TEST_TMPDIR/out"
	"$programs/fsstress" --ops 0 "$twin" | diff "$BATS_TEST_TMPDIR/out" -
}

# bats test_tags=kvm
@test "random work in a box comes out as without it" {
	need_boxes
	root=
	[ "$(id -u)" != 0 ] || root=--root
	# shellcheck disable=SC2086 # may be no word
	same hako run --timeout 100s $root -v "$work:$work:rw" -v "$programs:$programs" --
	"$programs/fsstress" --ops 0 "$work" >"$BATS_TEST_TMPDIR/out"
	"$programs/fsstress" --ops 0 "$twin" | diff "$BATS_TEST_TMPDIR/out" -
}

# bats test_tags=kvm
@test "root's writable share: device nodes are made as root makes them, and open nowhere" {
	need_boxes
	[ "$(id -u)" = 0 ] || skip "needs root"
	box --root -v "$work:/w:rw" -- sh -c '
		cd /w && mknod null c 1 3 && mknod -m 660 disk b 7 0 && chown 3:4 disk && stat -c "%n %F %t:%T %a %u:%g" disk null
		cat null && echo "opened in the box"'
	if [[ $err == *"mknod"*"not permitted"* ]]; then
		skip "no mounts can be made here"
	fi
	[ "$out" = 'disk block special file 7:0 660 3:4
null character special file 1:3 644 0:0' ]
	[ "$(stat -c '%F %t:%T %a %u:%g' disk)" = 'block special file 7:0 660 3:4' ]
	# Under a policy nothing is left that outlives it.
	printf 'allow * /**\n' >"$BATS_TEST_TMPDIR/policy"
	box --root --policy "$BATS_TEST_TMPDIR/policy" -v "$work:/w:rw" -- mknod /w/left c 1 3
	[ "$status" -ne 0 ]
	[ ! -e left ]
}

@test "what the command maps is the host's memory" {
	need_trace
	command -v python3 >/dev/null || skip "needs python3"
	[ -z "$HAKO_RIG" ] || skip "python is too slow there"
	head -c 4096 /dev/zero >m
	echo '
import mmap, os, time
fd = os.open("m", os.O_RDWR)
m = mmap.mmap(fd, 4096)
def until(at, what):
    end = time.time() + 20
    while m[at:at + 4] != what and time.time() < end: time.sleep(0.01)
    return m[at:at + 4] == what
me, other, at, from_at = (b"host", b"here", 0, 8) if os.environ.get("SIDE") == "host" else (b"here", b"host", 8, 0)
m[at:at + 4] = me
if not until(from_at, other): raise SystemExit("not seen")
time.sleep(0.1)' >meet.py
	if [ "$(id -u)" != 0 ]; then
		skip "only root's trace shares memory"
	fi
	SIDE=host python3 meet.py &
	hako trace -q -- python3 "$work/meet.py"
	wait $!
}
