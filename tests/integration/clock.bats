#!/usr/bin/env bats
# Time in a box: waiting costs the host nothing, timers are right, and its clocks keep to the host's.
# No bound here depends on how busy the host is, or only on its best moment.
# shellcheck disable=SC2016 # the box's shell and perl have variables, too
# shellcheck disable=SC2154 # out: of box()

load helpers

setup_file() {
	need_boxes
}

setup() {
	cd "$BATS_TEST_TMPDIR" || return
}

# CPU time of a process and all below it, in ms.
cpu_ms() {
	cat /proc/[0-9]*/stat 2>/dev/null | awk -v root="$1" -v per_second="$(getconf CLK_TCK)" '
		{
			rest = $0
			sub(/^.*\) /, "", rest) # the name may have spaces
			split(rest, field, " ")
			parent[$1] = field[2]
			ticks[$1] = field[12] + field[13]
		}
		END {
			for (pid in ticks) {
				for (above = pid; above > 1 && above != root; above = parent[above]) {
				}
				sum += above == root ? ticks[pid] : 0
			}
			print sum * 1000 / per_second
		}'
}

@test "a box that waits for input leaves the host's CPUs alone" {
	mkfifo ready go
	"$HAKO_BIN" run --cpus 2 -- sh -c 'echo ready; read -r status; exit "$status"' <go >ready 2>err 3>&- &
	pid=$!
	exec 8>go
	read -r line <ready
	[ "$line" = ready ]
	sleep 1 # what Linux does after its start
	before=$(cpu_ms "$pid")
	sleep 5
	after=$(cpu_ms "$pid")
	echo 7 >&8
	exec 8>&-
	status=0
	wait "$pid" || status=$?
	[ "$status" -eq 7 ]
	echo "# from $before to $after ms of CPU time in 5 s"
	# Or nothing was measured: no box starts in so little.
	[ "$before" -ge 50 ]
	# 3 % of one CPU
	[ $((after - before)) -le 150 ]
}

@test "sleeps end in time: never early, and the best of fifty less than 1 ms late" {
	box -- perl -MTime::HiRes=clock_gettime,nanosleep,CLOCK_MONOTONIC -e '
		for (1 .. 50) {
			my $start = clock_gettime(CLOCK_MONOTONIC);
			nanosleep(5e6);
			push @late_us, 1e6 * (clock_gettime(CLOCK_MONOTONIC) - $start) - 5000;
		}
		@late_us = sort { $a <=> $b } @late_us;
		printf "%d %d\n", @late_us[0, 24];' </dev/null
	[ "$status" -eq 0 ]
	read -r least median <<<"$out"
	echo "# late by $least us at least, by $median us in the median"
	[ "$least" -ge 0 ]
	[ "$least" -lt 1000 ]
}

# The host's clock stamps directories of a share, and a box is not behind it, however busy the host is. It is ahead by as
# long as HELLO takes to get there.
@test "a box has the time of its host: what is made in a share is of now" {
	mkdir w
	box -v "$PWD/w:/w:rw" -- sh -c 'date +%s.%N; mkdir /w/made; date +%s.%N' </dev/null
	[ "$status" -eq 0 ]
	readarray -t in_box <<<"$out"
	made=$(stat -c %.9Y w/made)
	echo "# in the box ${in_box[0]}, made $made, in the box ${in_box[1]}"
	perl -e 'exit !($ARGV[0] - 5 <= $ARGV[1] && $ARGV[1] <= $ARGV[2] + 0.05)' \
		"${in_box[0]}" "$made" "${in_box[1]}"
}

@test "the clocks of a box go as the host's does: at most 100 ms in 10 minutes apart" {
	perl "$BATS_TEST_DIRNAME/drift.pl" "$HAKO_BIN" run -- \
		perl -MTime::HiRes=clock_gettime,CLOCK_MONOTONIC,CLOCK_REALTIME -e '
			$| = 1;
			while (sysread STDIN, my $byte, 1) {
				printf "%.6f %.6f\n", clock_gettime(CLOCK_MONOTONIC), clock_gettime(CLOCK_REALTIME);
			}'
}
