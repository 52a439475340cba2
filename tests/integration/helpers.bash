# What the tests of the command line share. HAKO_BIN names the program (default: build/hako).
bats_require_minimum_version 1.5.0

HAKO_BIN=${HAKO_BIN:-$BATS_TEST_DIRNAME/../../build/hako}

hako() {
	"$HAKO_BIN" "$@"
}

# Boxes can run here, or the file's tests are skipped; with MUST_WORK=1 that is a failure.
need_boxes() {
	if ! hako doctor >"$BATS_FILE_TMPDIR/doctor" 2>&1; then
		cat "$BATS_FILE_TMPDIR/doctor" >&2
		[ -z "$MUST_WORK" ] || return 1
		skip "boxes cannot run here: see hako doctor"
	fi
}

# The same for `hako trace`, once for a file (setup_file) and in each test (setup), as only there bats can skip. It needs
# /dev/fuse and leave to mount, which containers lack: that is no failure of ours, so MUST_WORK does not count.
find_trace() {
	if hako doctor 2>&1 | grep -q '^trace *ok'; then
		export TRACE_WORKS=1
	fi
}

need_trace() {
	[ -n "$TRACE_WORKS" ] || skip "nothing can be traced here: see hako doctor"
}

# Runs hako with what `run` cannot keep apart: $status, $out and $err.
box() {
	status=0
	hako run "$@" >"$BATS_TEST_TMPDIR/out" 2>"$BATS_TEST_TMPDIR/err" || status=$?
	out=$(tr '\0' '@' <"$BATS_TEST_TMPDIR/out")
	err=$(cat "$BATS_TEST_TMPDIR/err")
	# Seen only if the test fails.
	printf '# hako run %s: %s\n%s\n%s\n' "$*" "$status" "$out" "$err"
}

# One line, with all of these words in it.
expect_line() {
	local text=$1 word
	shift
	if [ -z "$text" ] || [ "$(printf '%s\n' "$text" | wc -l)" -ne 1 ]; then
		echo "not one line: $text"
		return 1
	fi
	for word; do
		if [[ $text != *"$word"* ]]; then
			echo "'$word' is not in: $text"
			return 1
		fi
	done
}
