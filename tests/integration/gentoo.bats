#!/usr/bin/env bats
# `sandbox`, as Portage calls it: phases of a build, what a violation leaves behind, changes at run time, ways around.
# Needs /dev/fuse and leave to mount, no engine.

load helpers
load packages

setup_file() {
	find_trace
}

# As doebuild sets it: the build's own directory is written to, the rest is read.
setup() {
	need_trace
	base=$(readlink -f "$BATS_TEST_TMPDIR")
	mkdir "$base/bin" "$base/build" "$base/build/temp" "$base/other"
	ln -s "$(readlink -f "$HAKO_BIN")" "$base/bin/sandbox"
	cd "$base/build" || return
	export T=$base/build/temp TMPDIR=$base/build/temp PORTAGE_TMPDIR=$base NOCOLOR=yes
	export SANDBOX_LOG=$T/sandbox.log SANDBOX_WRITE=$base/build SANDBOX_PREDICT=$base/predicted
	export SANDBOX_READ=/ SANDBOX_DENY=
	unset SANDBOX_ACTIVE SANDBOX_ON SANDBOX_VERBOSE SANDBOX_DEBUG
}

sandbox() {
	status=0
	timeout 60 "$base/bin/sandbox" "$@" >"$base/out" 2>"$base/err" || status=$?
	out=$(cat "$base/out")
	err=$(cat "$base/err")
	# Seen only if the test fails.
	printf '# sandbox %s: %s\n%s\n%s\n' "$*" "$status" "$out" "$err"
}

# A record for each "FUNCTION PASSED PATH COMMAND" line of standard input.
expected_log() {
	cat <<-EOF
		VERSION 1.0
		FORMAT: F - Function called
		FORMAT: S - Access Status
		FORMAT: P - Path as passed to function
		FORMAT: A - Absolute Path (not canonical)
		FORMAT: R - Canonical Path
		FORMAT: C - Command Line
	EOF
	while read -r function passed path command; do
		printf '\nF: %s\nS: deny\nP: %s\nA: %s\nR: %s\nC: %s \n' \
			"$function" "$passed" "$path" "$path" "$command"
	done
}

# $base/other/hello-1.0.tar.gz
make_package() {
	cd "$base/other"
	make_autotools_package
	rm autoreconf.log
	cd "$base/build"
}

# As ebuild.sh: one bash for each phase, which sets its own limits.
make_ebuild() {
	cat >"$base/bin/ebuild.sh" <<-'EOF'
		#!/bin/bash
		unset BASH_ENV
		__sb_append_var() { local var="SANDBOX_$1"; export ${var}="${!var:+${!var}:}$2"; }
		addwrite() { __sb_append_var WRITE "$1"; }
		addpredict() { __sb_append_var PREDICT "$1"; }
		src_unpack() { tar xf "$OTHER/hello-1.0.tar.gz"; }
		src_configure() { cd hello-1.0 && ./configure --prefix=/usr --quiet; }
		src_compile() { cd hello-1.0 && make; }
		src_test() { addpredict /; cd hello-1.0 && make check && ! touch "$OTHER/tested"; }
		src_install() { cd hello-1.0 && make install DESTDIR="$PWD/../image"; }
		src_wrong() { cd hello-1.0 && make install DESTDIR="$OTHER/image"; }
		"src_$1"
	EOF
	chmod +x "$base/bin/ebuild.sh"
	export OTHER=$base/other
}

@test "the phases of a build leave no log" {
	make_package
	make_ebuild
	for phase in unpack configure compile test install; do
		sandbox "$base/bin/ebuild.sh $phase"
		[ "$status" -eq 0 ]
		[[ $err != *ACCESS* ]]
		[ ! -e "$SANDBOX_LOG" ]
	done
	[ "$(image/usr/bin/hallo)" = hello ]
	[ "$(ls "$base/other")" = hello-1.0.tar.gz ]
}

@test "a phase that writes elsewhere: log, messages, summary, status" {
	make_package
	make_ebuild
	sandbox "$base/bin/ebuild.sh unpack; $base/bin/ebuild.sh configure; $base/bin/ebuild.sh compile"
	[ "$status" -eq 0 ]
	sandbox "$base/bin/ebuild.sh wrong"
	[ "$status" -eq 2 ] # make's
	[ ! -e "$base/other/image" ]
	# mkdir(1) cuts its argument at a slash while it works, and the log has what /proc shows then.
	expected_log >"$base/expected" <<<"mkdir image $base/other/image /usr/bin/mkdir -p $base/other/image usr/bin"
	cmp "$base/expected" "$SANDBOX_LOG"
	[ "$(stat -c %a "$SANDBOX_LOG")" = 644 ]
	grep -qxF " * ACCESS DENIED:  mkdir:          $base/other/image" "$base/err"
	grep -qxF " * LOG FILE: \"$SANDBOX_LOG\"" "$base/err"
	grep -qF 'SANDBOX ACCESS VIOLATION SUMMARY' "$base/err"
}

@test "a denial makes a status of 0 a 1, and other statuses stay" {
	sandbox "touch $base/other/a; true"
	[ "$status" -eq 1 ]
	expected_log >"$base/expected" <<<"open_wr_creat $base/other/a $base/other/a touch $base/other/a"
	cmp "$base/expected" "$SANDBOX_LOG"
	grep -qxF " * ACCESS DENIED:  open_wr_creat:  $base/other/a" "$base/err"
	umask 077
	sandbox "touch $base/other/a; exit 7"
	[ "$(stat -c %a "$SANDBOX_LOG")" = 644 ] # Portage reads it
	[ "$status" -eq 7 ]
	sandbox "exit 7" # and the log of before is gone
	[ "$status" -eq 7 ]
	[ ! -e "$SANDBOX_LOG" ]
}

@test "the log stays where it was to be, whatever stands there now" {
	export SANDBOX_LOG=$T/logs/s.log SANDBOX_WRITE=$base/build:$base/victim
	mkdir "$T/logs" "$base/victim"
	echo precious >"$base/victim/s.log"
	sandbox "mv $T/logs $T/moved && ln -s $base/victim $T/logs && touch $base/other/a"
	[ "$status" -eq 1 ]
	[ "$(cat "$base/victim/s.log")" = precious ]
	grep -q "^P: $base/other/a" "$T/moved/s.log"
	grep -q "^P: $base/other/a" "$base/err"
	rm -r "$T/logs" "$T/moved"
	mkdir "$T/logs"
	sandbox "ln $base/victim/s.log $T/logs/s.log && touch $base/other/a"
	[ "$status" -eq 1 ]
	[ "$(cat "$base/victim/s.log")" = precious ]
	[[ $err == *"hako sandbox: '$SANDBOX_LOG': Too many links"* ]]
	rm "$T/logs/s.log"
	sandbox "ln -s $base/victim/s.log $T/logs/s.log && touch $base/other/a"
	[ "$status" -eq 1 ]
	[ "$(cat "$base/victim/s.log")" = precious ]
	[[ $err == *"hako sandbox: '$SANDBOX_LOG': Too many levels of symbolic links"* ]]
	rm "$T/logs/s.log"
	# Nobody waits for who reads a pipe.
	sandbox "mkfifo $T/logs/s.log && touch $base/other/a"
	[ "$status" -eq 1 ]
	[[ $err == *"hako sandbox: '$SANDBOX_LOG': "* ]]
}

@test "what each operation is called" {
	cd "$base/other"
	mkdir d
	touch f
	sandbox 'ulimit -c 0; mkdir a; rmdir d; rm -f f; ln -s x l; ln f h; mv f g; chmod 600 f; touch -d @0 f;
		truncate -s 0 f; mkfifo p; : >>f; : >n; exec true'
	[ "$status" -eq 1 ]
	called=$(sed -n 's/^F: //p' "$SANDBOX_LOG" | tr '\n' ' ')
	echo "$called"
	# touch(1) goes on to utimensat() where it cannot open
	[ "$called" = "mkdir rmdir unlink symlink link rename chmod open_wr utimensat open_wr mkfifo open_wr open_wr_creat " ]
	[ "$(ls)" = "$(printf 'd\nf')" ]
}

@test "the log has the path as it was written, where it is, and where it leads" {
	ln -s "$base/other" to
	touch "$base/other/f"
	ln -s ../other/f file
	sandbox 'cd to; touch ../other/./a; cd ..; touch .//to/b; : >>file; mv file to/c; ln -s x ../other/l'
	[ "$(grep '^[FPAR]: ' "$SANDBOX_LOG" | sed "s:$base:BASE:")" = "$(
		cat <<-'EOF'
			F: open_wr_creat
			P: ../other/./a
			A: BASE/other/a
			R: BASE/other/a
			F: open_wr_creat
			P: .//to/b
			A: BASE/build/to/b
			R: BASE/other/b
			F: open_wr
			P: file
			A: BASE/build/file
			R: BASE/other/f
			F: rename
			P: to/c
			A: BASE/build/to/c
			R: BASE/other/c
			F: symlink
			P: ../other/l
			A: BASE/other/l
			R: BASE/other/l
		EOF
	)" ]
	grep -qxF " * ACCESS DENIED:  open_wr_creat:  $base/build/to/b" "$base/err"
}

@test "predicted: refused without a word" {
	mkdir "$base/predicted"
	sandbox "touch $base/predicted/x; touch $base/predictedX"
	[ "$status" -eq 1 ]
	[ ! -e "$base/predicted/x" ]
	[ "$(grep -c '^F:' "$SANDBOX_LOG")" -eq 1 ]
	grep -qxF "R: $base/predictedX" "$SANDBOX_LOG"
}

@test "looking is never refused, reading only by DENY and READ" {
	echo secret >"$base/other/s"
	export SANDBOX_DENY=$base/other
	sandbox "stat -c %s $base/other/s && cat $base/other/s"
	[ "$out" = 7 ]
	grep -qxF "F: open_rd" "$SANDBOX_LOG"
	export SANDBOX_DENY= SANDBOX_READ=/usr:/lib:/lib64:/bin:/etc:$base/build
	sandbox "cat $base/other/s"
	[ "$status" -eq 1 ]
	[ -z "$out" ]
}

@test "a running bash changes its own rules, and those of what it starts" {
	sandbox "export SANDBOX_WRITE=\$SANDBOX_WRITE:$base/other
		: >$base/other/1 && touch $base/other/2
		( SANDBOX_WRITE=/nowhere; : >$base/other/no1 )
		bash -c 'export SANDBOX_WRITE=/nowhere; touch $base/other/no2'
		: >$base/other/3
		export SANDBOX_WRITE=/nowhere
		: >$base/other/no3
		touch $base/other/no4
		SANDBOX_ON=0
		: >$base/other/4
		SANDBOX_ON=1
		: >$base/other/no5
		SANDBOX_ON=0 touch $base/other/5
		env -i /usr/bin/touch $base/other/no6
		addwrite $base/other
		touch $base/other/6
		adddeny $base/other/6
		cat $base/other/6
		addpredict /
		unset SANDBOX_WRITE
		touch $base/other/no7"
	[ "$(ls "$base/other" | tr '\n' ' ')" = "1 2 3 4 5 6 " ]
	[ "$(sed -n "s|^R: $base/other/||p" "$SANDBOX_LOG" | tr '\n' ' ')" = "no1 no2 no3 no4 no5 no6 6 " ]
}

@test "what is told may be long; what is nonsense, or from many processes, does no harm" {
	sandbox "long=\$(printf '/none/%04d:' {1..2000})
		export SANDBOX_WRITE=\$long\$SANDBOX_WRITE:$base/other
		: >$base/other/1
		export SANDBOX_WRITE=\$long
		: >$base/other/no1
		head -c 100000 /dev/urandom >&\$HAKO_SANDBOX_FD
		printf 'SANDBOX_ON=0' >&\$HAKO_SANDBOX_FD
		: >$base/other/no2
		for i in {1..200}; do ( SANDBOX_ON=0; : >$base/other/2 ) & done; wait
		: >$base/other/no3"
	[ "$(ls "$base/other" | tr '\n' ' ')" = "1 2 " ]
	[ "$(sed -n "s|^R: $base/other/||p" "$SANDBOX_LOG" | tr '\n' ' ')" = "no1 no2 no3 " ]
}

@test "with SANDBOX_DEBUG what is allowed is written down, too" {
	export SANDBOX_DEBUG=1 SANDBOX_DEBUG_LOG=$T/debug.log
	sandbox "touch made; touch $base/other/no"
	[ "$status" -eq 1 ]
	grep -qxF " * ACCESS ALLOWED:  open_wr_creat:  $base/build/made" "$base/err"
	[ "$(grep -A 2 -xF 'F: open_wr_creat' "$T/debug.log" | grep '^[SP]')" = \
		"$(printf 'S: allow\nP: made\nS: deny\nP: %s' "$base/other/no")" ]
	[ "$(grep -c '^F:' "$SANDBOX_LOG")" -eq 1 ]
}

@test "no way around it" {
	cc -O1 -o escapes "$BATS_TEST_DIRNAME/escapes.c"
	cc -O1 -static -o escapes-static "$BATS_TEST_DIRNAME/escapes.c"
	for way in $(./escapes list); do
		for program in ./escapes ./escapes-static; do
			sandbox "$program $way made"
			# Where the way is not there at all, it leads nowhere.
			if [ "$way" != io_uring ]; then
				[ "$status" -eq 0 ]
				[ -e made ]
			fi
			rm -f made
			sandbox "$program $way $base/other/made"
			[ "$status" -eq 1 ]
			[ ! -e "$base/other/made" ]
			if [ "$way" != io_uring ]; then
				grep -qxF "R: $base/other/made" "$SANDBOX_LOG"
			fi
		done
	done
}

@test "the command line" {
	sandbox -h
	[ "$status" -eq 0 ]
	[[ $out == usage:* ]]
	sandbox -V
	[ "$status" -eq 0 ]
	sandbox -x
	[ "$status" -eq 1 ]
	sandbox /bin/echo 'a  b' '$HOME'
	[ "$out" = 'a  b $HOME' ]
	sandbox -c echo 'a  b' '${SANDBOX_ON}'
	[ "$out" = 'a b 1' ]
	run -0 timeout 60 "$HAKO_BIN" trace --gentoo 'echo $SANDBOX_ACTIVE'
	[ "$output" = armedandready ]
	SANDBOX_ACTIVE=armedandready sandbox true
	[ "$status" -eq 1 ]
	[[ $err == *"already running"* ]]
	# Nothing of ours stays behind.
	[ -z "$(ls "$T")" ]
	# Under its policy root makes no devices: CAP_MKNOD is bit 27.
	sandbox 'sed -n "s/^CapBnd:\t//p" /proc/self/status'
	[ "$status" -eq 0 ]
	[ $((0x$out >> 27 & 1)) -eq 0 ]
}

# As configure does, to see what getcwd(3) makes of it.
@test "a tree as deep as it likes is judged by its whole path" {
	cat >deep.sh <<-'EOS'
		mkdir a
		for i in $(seq 300); do mkdir confdir3 && cd confdir3 || exit 3; done
		mv "$T/../a" "$T/../b"
		echo written >file || exit 4
		for i in $(seq 300); do cd .. || exit 5; done
		rm -r confdir3 || exit 6
		# Where it may not be.
		cd ../other
		mkdir confdir3 2>/dev/null && exit 7
		exit 0
	EOS
	sandbox bash deep.sh
	[ "$status" = 1 ]
	[ -d b ]
	[ ! -e confdir3 ]
	[ "$(grep -c '^F: ' "$SANDBOX_LOG")" = 1 ]
	grep -q "^A: $base/other/confdir3$" "$SANDBOX_LOG"
}
