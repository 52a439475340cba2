#!/usr/bin/env bats
# Files mapped into a box: what host and box write each other, and what happens when one of them cuts a file short.

load helpers

setup_file() {
	cc -O2 -o "$BATS_FILE_TMPDIR/dax" "$BATS_TEST_DIRNAME/dax.c"
}

setup() {
	need_boxes
	dir=$(mktemp -d "/dev/shm/hako-dax-XXXXXX")
	chmod 755 "$dir"
	cp "$BATS_FILE_TMPDIR/dax" "$dir"
	dax=$dir/dax
}

teardown() {
	rm -rf "$dir"
}

# Only kvm can show a box files of the host as memory.
need_kvm() {
	"$HAKO_BIN" doctor | grep -q '^engine kvm *ok' || skip "needs KVM"
}

# bats test_tags=kvm
@test "an atomic counter is shared: host and box take turns" {
	need_kvm
	"$dax" turns "$dir/counter" 1 200 >"$dir/host" &
	box --root --cpus 1 -v /dev/shm:/dev/shm:rw -- "$dax" turns "$dir/counter" 0 200
	wait $!
	[ "$status" -eq 0 ]
	[ "$out" = 400 ]
	[ "$(cat "$dir/host")" = 400 ]
}

# bats test_tags=kvm
@test "what one side writes to a mapping, the other reads; devices read and write there, too" {
	need_kvm
	"$dax" write "$dir/host" 5000001
	head -c 1048576 "$dir/host" >"$dir/disk"
	# The program itself is run from the share, and writes what lies in its own mapped pages.
	box --debug confine:debug --root --cpus 1 --disk "$dir/disk:ro" -v "$dir:/d:rw,dax" -w /d -- sh -ec '
		./dax check host 5000001
		./dax write box 3000003
		cp box copy
		printf more >>copy
		./dax into direct /dev/vda 1048576'
	[ "$status" -eq 0 ]
	[ "$out" = $'right\nright' ]
	[[ $err != *'is not allowed'* ]]
	[ "$("$dax" check "$dir/box" 3000003)" = right ]
	cmp -n 3000003 "$dir/box" "$dir/copy"
	[ "$(tail -c 4 "$dir/copy")" = more ]
	cmp "$dir/disk" "$dir/direct"
}

# bats test_tags=kvm
@test "a mapped share can be read-only" {
	need_kvm
	"$dax" write "$dir/file" 10000
	box --root --cpus 1 -v "$dir:/d:dax" -w /d -- sh -c './dax check file 10000; ./dax write file 10000'
	[ "$status" -eq 1 ]
	[ "${out%%$'\n'*}" = right ]
	[[ $err == *'Read-only file system'* ]]
	[ "$("$dax" check "$dir/file" 10000)" = right ]
}

# bats test_tags=kvm
@test "a file that is cut short while it is mapped: zeroes, a warning, and the box goes on" {
	need_kvm
	head -c 1000000 /dev/zero | tr '\0' '\1' >"$dir/file"
	{
		for _ in {1..900}; do
			[ -e "$dir/file.held" ] && break
			sleep 0.1
		done
		truncate -s 4096 "$dir/file"
		touch "$dir/file.cut"
	} &
	box --root --cpus 1 -v "$dir:/d:rw,dax" -w /d -- sh -c './dax hold file 1000000; echo goes on'
	wait $!
	[ "$status" -eq 0 ]
	[ "$out" = $'1\ngoes on' ]
	[[ $err == *"/d/file became shorter"* ]]
	[ "$(stat -c %s "$dir/file")" = 4096 ]
}

@test "where the engine cannot: a share that must be mapped is refused, shared memory is a share like others" {
	box --engine soft -v "$dir:/d:rw,dax" -- true
	[ "$status" -eq 125 ]
	[[ $err == *"share '$dir': dax"* ]]
	[[ $err == *"leave ':dax' out"* ]]
	echo text >"$dir/file"
	box --engine soft --root --cpus 1 -v /dev/shm:/dev/shm:rw -- cat "$dir/file"
	[ "$status" -eq 0 ]
	[ "$out" = text ]
	box -v "$dir:/d:cow,dax" -- true
	[ "$status" -eq 2 ]
	expect_line "${err%%$'\n'*}" ":cow,dax" "cannot be shared memory"
}
