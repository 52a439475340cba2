#!/usr/bin/env bats
# What hako says when it cannot: one line, with the next step. Needs no KVM.

load helpers

setup() {
	cd "$BATS_TEST_TMPDIR" || return
}

# refuse STATUS WORD... -- ARGUMENT...: `hako run ARGUMENT...` ends so, and says so in one line
refuse() {
	local expected=$1 words=()
	shift
	while [ "$1" != -- ]; do
		words+=("$1")
		shift
	done
	shift
	box "$@"
	[ "$status" -eq "$expected" ]
	[ -z "$out" ]
	expect_line "$err" "hako run: " "${words[@]}"
}

@test "no command" {
	refuse 2 "no command" "hako run -- COMMAND" --
	refuse 2 "no command" "hako run -- COMMAND" -- --
}

@test "wrong options" {
	refuse 2 "unknown option --bogus" "hako run --help" -- --bogus -- true
	refuse 2 "unknown option -x" "hako run --help" -- -tx true
	refuse 2 "--memory needs a value" "hako run --help" -- --memory
	refuse 2 "--memory lots" "512M" -- --memory lots true
	refuse 2 "--log box:debug" "--debug" -- --log box:debug true
	refuse 2 "--cpus many" "number" -- --cpus many true
	refuse 2 "--timeout 0" "30s" -- --timeout 0 true
	refuse 2 "-e =x" "NAME=VALUE" -- -e =x true
	refuse 2 "--keep x" "DIR:cow" -- --keep x true
	refuse 2 "--keep x" ":ro or :rw" -- -v .:cow -v /usr:/b:cow --keep x true
	refuse 2 "none of ro, rw and cow" "HOST[:GUEST][:MODE]" -- -v /usr:/b:xx true
	refuse 2 "shared memory" "cow, dax or rw,dax" -- -v /usr:/b:cow,dax true
	refuse 2 "'486'" "hako-v2" -- --cpu 486 true
}

# It ends of its own accord within a minute, or it hangs; then it is killed, and the status is 137.
end_of() {
	local pid=$1 tries=600
	while kill -0 "$pid" 2>/dev/null && [ $((tries -= 1)) -gt 0 ]; do
		sleep 0.1
	done
	kill -KILL "$pid" 2>/dev/null || true
	status=0
	wait "$pid" || status=$?
}

@test "a policy from a pipe that nobody writes to: signals end it, and no rules are not made of it" {
	mkfifo pipe
	echo 'include pipe' >including
	for policy in pipe including; do
		"$HAKO_BIN" run --policy "$policy" -- true </dev/null 2>err &
		pid=$!
		exec 5>pipe # waits for who reads
		kill -TERM "$pid"
		end_of "$pid"
		exec 5>&-
		[ "$status" -eq 143 ]
		[ ! -s err ]
	done
	"$HAKO_BIN" run --policy pipe -- true </dev/null >out 2>err &
	pid=$!
	: >pipe
	end_of "$pid"
	[ "$status" -eq 125 ]
	expect_line "$(cat err)" "'pipe'" "nothing was written" "/dev/null"
}

@test "--strict and --ask: without rules they would do nothing, and who answers can be executed" {
	: >policy
	: >plain
	printf '#!/bin/sh\n' >helper
	chmod +x helper
	for option in --strict --ask=true; do
		refuse 2 "${option%=*}" "there is none" "--policy" -- "$option" -- true
		run hako trace "$option" -- true
		[ "$status" -eq 2 ]
		expect_line "$output" "${option%=*}" "there is none" "--policy, --fusebox-acl or -v"
	done
	for program in ./nosuch ./plain . nosuch-in-path; do
		refuse 2 "--ask $program" "can be executed" -- --policy policy --ask "$program" -- true
		run hako trace -v /tmp --ask "$program" -- true
		[ "$status" -eq 2 ]
		expect_line "$output" "--ask $program" "can be executed"
	done
	# What is right comes as far as the next mistake.
	for program in ./helper true; do
		refuse 2 "0 CPUs" -- --policy policy --strict --ask "$program" --cpus 0 -- true
	done
}

@test "a policy that is not there; a disk that is a directory" {
	refuse 125 "--policy: 'nosuch'" "No such file" "hako-policy(5)" -- --policy nosuch true
	refuse 125 "--policy: '.'" "Is a directory" "hako-policy(5)" -- --policy . true
	mkdir dir
	refuse 125 "disk 'dir'" "Is a directory" "-v" -- --disk dir true
}

@test "memory too small or larger than the host's, and as many CPUs as there are not" {
	refuse 2 "--memory 0" "512M" -- --memory 0 true
	refuse 2 "64 MiB" "too little" "128 MiB" -- --memory 64M true
	refuse 2 "8 MiB" "too little" "--memory" -- --memory 8M true
	refuse 125 "more than this host has" "--memory" -- --memory 900T true
	refuse 2 "0 CPUs" "1 to 16" -- --cpus 0 true
	refuse 2 "17 CPUs" "1 to 16" -- --cpus 17 true
}

@test "shares that cannot be" {
	mkfifo fifo
	refuse 125 "$PWD/missing" "No such file or directory" "make it first" -- -v missing true
	refuse 125 "$PWD/fifo" "FIFO" "only directories and regular files" -- -v fifo true
	refuse 125 "/dev/null" "device" "only directories and regular files" -- -v /dev/null:/x true
	refuse 2 "'b'" "from the root" -- -v /usr:b true
	refuse 2 "'/a/../b'" "without '..'" -- -v /usr:/a/../b true
	refuse 2 "box's root" "--rootfs" -- -v /usr:/ true
	refuse 2 "/proc" "another place" -- -v /usr:/proc/x true
	refuse 2 "two shares at /a" -- -v /usr:/a -v /etc:/a true
	refuse 2 "two shares at /a" -- -v /usr:/a -v /etc://a/ true
	mkdir dir
	refuse 125 "there is no $PWD/dir/in" "make the directory" -- -v dir:/a -v /etc:/a/in true
	rmdir dir
	refuse 125 "$PWD/dir" "No such file" -- -v dir true
}

@test "names, directories and root file systems that will not do" {
	refuse 2 "'a b'" "letters" -- --name 'a b' true
	refuse 2 "-w here" "from the box's root" -- -w here true
	refuse 125 "--rootfs $PWD/nope" "No such file" -- --rootfs nope true
	refuse 2 "empty word" -- ''
	refuse 2 "--rootfs ''" "directory" -- --rootfs "" true
	refuse 2 "-t and -i" "one of them" -- -ti true
}

@test "a current directory that is gone" {
	mkdir gone
	cd gone
	rmdir "$PWD"
	status=0
	"$HAKO_BIN" run -v . true </dev/null >../out 2>../err || status=$?
	cd ..
	[ "$status" -eq 2 ]
	expect_line "$(cat err)" "hako run: -v ." "current directory is gone"
}

@test "a command that is too long" {
	many=$(seq -s ' ' 70000)
	# shellcheck disable=SC2086 # many words are the point
	refuse 2 "70001 arguments" "65520" -- true $many
}

@test "an engine that is not there" {
	refuse 2 "'bogus'" "'kvm', 'soft'" -- --engine bogus true
	HAKO_ENGINE=bogus refuse 2 "'bogus'" -- true
}

# in_dev COMMANDS ARGUMENT...: hako run with a /dev made by COMMANDS
in_dev() {
	local commands=$1
	shift
	status=0
	unshare --mount --user --map-root-user sh -c "mount -t tmpfs dev /dev && $commands"'; exec "$@"' sh \
		"$HAKO_BIN" run "$@" </dev/null >out 2>err || status=$?
	out=$(cat out) err=$(cat err)
	printf '# %s: %s %s\n' "$status" "$out" "$err"
}

@test "no /dev/kvm" {
	unshare --mount --user --map-root-user true || skip "no user namespaces here"
	in_dev true --engine kvm -- true
	[ "$status" -eq 125 ]
	[ -z "$out" ]
	expect_line "$err" "/dev/kvm" ";"
}

@test "not permitted to open /dev/kvm" {
	unshare --mount --user --map-root-user true || skip "no user namespaces here"
	[ "$(id -u)" -ne 0 ] || as=(setpriv --reuid 65534 --regid 65534 --clear-groups)
	status=0
	# A file nobody may open stands for a device that only others may.
	unshare --mount sh -c 'mount -t tmpfs dev /dev && : >/dev/kvm && chmod 0 /dev/kvm && exec "$@"' sh \
		"${as[@]}" "$HAKO_BIN" run --engine kvm -- true </dev/null >out 2>err || status=$?
	cat err
	[ "$(id -u)" -eq 0 ] || skip "needs root, to make a device that is somebody else's"
	[ "$status" -eq 125 ]
	expect_line "$(cat err)" "/dev/kvm" "Permission denied" ";"
}

@test "/dev/kvm without vmx or svm" {
	[ -c /dev/kvm ] && [ -w /dev/kvm ] || skip "no /dev/kvm here"
	! grep -qwE 'vmx|svm' /proc/cpuinfo || skip "this CPU has them"
	refuse 125 "neither vmx nor svm" "hardware virtualization" -- --engine kvm true
	HAKO_ENGINE=kvm run hako doctor
	[ "$status" -eq 1 ]
	[[ $output == *"engine kvm   note "*"HAKO_ENGINE  no "* ]]
}

@test "kernels: none, unknown formats, corrupt ones" {
	export XDG_DATA_HOME=$PWD/data
	run hako kernel show
	[ "$status" -eq 125 ]
	expect_line "$output" "hako kernel: " "hako kernel fetch"
	echo "no kernel at all" >text
	run hako kernel fetch --kernel text
	[ "$status" -eq 125 ]
	expect_line "$(grep -v '^hako kernel: [a-z]*ing ' <<<"$output")" "text"
	run hako kernel fetch --kernel "$(readlink -f /bin/true)"
	[ "$status" -eq 125 ]
	run hako kernel fetch --kernel missing
	[ "$status" -eq 125 ]
	[[ $output == *"missing"*"No such file"* ]]
	run hako kernel list
	[ "$status" -eq 0 ]
	[ -z "$output" ]
}

@test "a box that could not be made leaves no layer" {
	export XDG_DATA_HOME=$PWD/data
	refuse 125 "hako kernel fetch" -- -v .:/w:cow --keep left -- true
	run hako layers
	[ "$status" -eq 0 ]
	[ -z "$output" ]
}

@test "verbs, help and version" {
	run hako
	[ "$status" -eq 2 ]
	run hako bogus
	[ "$status" -eq 2 ]
	expect_line "$output" "'bogus'" "hako --help"
	for verb in "" run doctor kernel version; do
		run --separate-stderr hako $verb --help
		[ "$status" -eq 0 ]
		[[ $output == *usage:* ]]
		[ -z "$stderr" ]
	done
	run hako version
	[ "$status" -eq 0 ]
	[[ $output == hako\ [0-9]*engines:*kvm* ]]
	run hako kernel bogus
	[ "$status" -eq 2 ]
	run hako kernel fetch --full --from-host
	[ "$status" -eq 2 ]
	run hako kernel remove
	[ "$status" -eq 2 ]
}

@test "output that cannot be written is a failure" {
	[ -c /dev/full ] || skip "no /dev/full here"
	run ! bash -c '"$1" --help >/dev/full' sh "$HAKO_BIN"
}
