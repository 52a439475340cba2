#!/usr/bin/env bats
# A confined monitor still does all that boxes need: with debug lines on, it tells of each system call that is refused,
# and there is to be none. (What confinement refuses is in tests/unit/test_confine.c.) Needs an engine: in the rig.

load helpers

setup_file() {
	need_boxes
}

setup() {
	cd "$BATS_TEST_TMPDIR" || return
}

# Everything a share and a disk can be asked for, in one box. $as: what comes before hako.
use_share_and_disk() {
	mkdir share
	printf 'int main(void) { return 7; }\n' >share/a.c
	truncate -s 32M disk
	[ ${#as[@]} -eq 0 ] || chown -R 1000:1000 .
	status=0
	"${as[@]}" "$HAKO_BIN" run --debug confine:debug --verbose --cpus 2 --root --disk disk -v "$PWD/share:/share:rw" -- sh -ec '
		cd /share
		mkdir d e && cp a.c d/b.c && mv d/b.c e/ && ln e/b.c e/c.c && ln -s b.c e/l && mkfifo e/p
		gcc -o a.out a.c && ! ./a.out && chmod 700 a.out && touch -d 2001-02-03 a.out && truncate -s 100 a.out
		python3 -c "
import mmap, os, tempfile
f = tempfile.TemporaryFile(dir=\".\")
f.write(b\"x\" * 100000)
f.flush()
os.fsync(f.fileno())
m = mmap.mmap(f.fileno(), 0)
m[0:2] = b\"ab\"
m.flush()
os.posix_fallocate(f.fileno(), 0, 200000)
os.lseek(f.fileno(), 0, os.SEEK_DATA)
os.copy_file_range(f.fileno(), os.open(\"copy\", os.O_RDWR | os.O_CREAT), 4096)
os.chown(\"copy\", -1, os.getgid())
try:
    os.setxattr(\"copy\", \"user.k\", b\"v\")
    os.getxattr(\"copy\", \"user.k\")
    os.listxattr(\"copy\")
    os.removexattr(\"copy\", \"user.k\")
except OSError as e:
    print(\"no attributes here:\", e)
"
		tar cf e.tar e && rm -r d e
		mkfs.ext4 -q /dev/vda && mount /dev/vda /mnt && cp a.c /mnt && sync && umount /mnt && blkdiscard /dev/vda
		df /share >/dev/null' </dev/null >out 2>err || status=$?
	cat out err
	[ "$status" -eq 0 ]
	grep -q "confined: Landlock.*seccomp" err
	[ "$(grep -c "is not allowed" err)" -eq 0 ]
	[ "$(stat -c %s share/copy)" = 4096 ]
}

@test "no system call of a box with a writable share and a disk is refused" {
	as=()
	use_share_and_disk
}

@test "nor if the monitor is run by an ordinary user" {
	[ "$EUID" -eq 0 ] || skip "not root, so the test before this one was it"
	mkdir data
	cp -r "${XDG_DATA_HOME:-$HOME/.local/share}/hako" data/
	chmod 711 "$BATS_RUN_TMPDIR" "$BATS_FILE_TMPDIR" "${BATS_TEST_TMPDIR%/*}" "$BATS_TEST_TMPDIR"
	as=(setpriv --reuid 1000 --regid 1000 --clear-groups env HOME="$PWD" XDG_DATA_HOME="$PWD/data")
	use_share_and_disk
	grep -q "no capabilities" err
}

# glibc loads a library to end a thread that still waits for input: it has to be there already.
@test "a box ends while its monitor waits for input" {
	mkfifo input
	exec {held}<>input
	box --debug confine:debug -- true <&"$held"
	[ "$status" -eq 0 ]
	[ -z "$err" ]
}
