#!/usr/bin/env bats
# Boxes one after another leave nothing: no process, no file, nothing in shared memory. HAKO_SOAK_RUNS says how many;
# the few of every test run only show what leaks each time. 200 take a quarter of an hour in the rig:
#
#	tests/rig/run --smp 1 --timeout 3000 --env HAKO_SOAK_RUNS=200 -- bats tests/integration/leaks.bats

load helpers

setup_file() {
	need_boxes
	# What earlier tests have killed may still be on its way out.
	for ((i = 0; i < 100; i++)); do
		pgrep -x hako >/dev/null || return 0
		sleep 0.1
	done
}

# What a box could leave: hako's processes, every file of the directory for temporary ones, and what bears
# hako's name in the places that all programs of the host share.
traces() {
	ps -e -o comm= | grep -E '^(hako|vcpu|fuse)' | sort | uniq -c
	find "$TMPDIR" "${XDG_DATA_HOME:-$HOME/.local/share}/hako" | sort
	find /dev/shm /run /tmp -maxdepth 1 -name '*hako*' 2>/dev/null | sort
}

@test "boxes leave nothing behind" {
	export TMPDIR=$BATS_TEST_TMPDIR/tmp
	mkdir "$TMPDIR"
	"$HAKO_BIN" run -- true </dev/null # makes what is made once
	traces >"$BATS_TEST_TMPDIR/before"
	for ((i = 0; i < ${HAKO_SOAK_RUNS:-6}; i++)); do
		"$HAKO_BIN" run -v /usr/share:/s -- sh -c 'ls /s >/dev/null' </dev/null >"$BATS_TEST_TMPDIR/out" 2>&1
		[ ! -s "$BATS_TEST_TMPDIR/out" ]
	done
	traces >"$BATS_TEST_TMPDIR/after"
	diff "$BATS_TEST_TMPDIR/before" "$BATS_TEST_TMPDIR/after"
}
