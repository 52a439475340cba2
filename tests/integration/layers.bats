# Kept layers of copy-on-write: hako diff, apply, discard, layers. The layers are made by hako trace --cow.
#
# The scripts are for the shell in the run.
# shellcheck disable=SC2016
load helpers

setup_file() {
	find_trace
}

teardown() {
	if mountpoint -q "$XDG_DATA_HOME"; then
		umount "$XDG_DATA_HOME"
	fi
	if [ -n "$public" ]; then
		chmod -R u+rwX "$public"
		rm -rf "$public"
	fi
}

setup() {
	need_trace
	export XDG_DATA_HOME=$BATS_TEST_TMPDIR/data HOME=$BATS_TEST_TMPDIR
	dir=$BATS_TEST_TMPDIR/dir
	mkdir "$dir"
	cd "$dir" || return 1
}

# Runs a shell script in copy-on-write, and keeps the changes as t.
cow() {
	run hako trace --cow --keep t -- sh -ec "cd '$dir'; $1"
	if [ "$status" = 125 ] && [ -z "$MUST_WORK" ]; then
		skip "hako trace cannot run here: $output"
	fi
	echo "$output"
	[ "$status" = 0 ]
}

# A place for a user who is not root. Before user: umask and owners of what is in $public/dir as the test wants them.
as_user() {
	if [ "$(id -u)" != 0 ]; then
		skip "only root can become another user"
	fi
	setpriv --reuid 12345 --regid 12345 --clear-groups unshare -U true 2>/dev/null ||
		skip "users may make no user namespaces here"
	public=$(mktemp -d /tmp/hako-layers-XXXXXX)
	chmod 755 "$public"
	cp "$HAKO_BIN" "$public/hako"
	chmod 755 "$public/hako"
	mknod -m 666 "$public/fuse" c 10 229
	mkdir "$public/dir" "$public/home"
	chown 12345:12345 "$public/dir" "$public/home"
	cd "$public/dir" || return 1
}

# Runs a shell script as that user; $groups: those that he is in besides. cow in it: the rest of the words in copy-on-write, kept as t.
user() {
	run unshare -m sh -c 'mount --make-rprivate / && mount --bind "$1/fuse" /dev/fuse &&
		exec setpriv --reuid 12345 --regid 12345 $3 env HOME="$1/home" XDG_DATA_HOME= PATH="$1:$PATH" timeout 60 sh -c "cow() {
			hako trace -q --cow --keep t -- sh -ec \"\$@\"
		}
		umask 022
		$2"' sh "$public" "$1" "${groups:---clear-groups}"
	echo "$output"
}

# What differs within the test's directory, without its path.
summary() {
	hako diff -s t "$dir" | sed "s|${dir#/}/||g"
}

@test "diff lists what was added, changed, deleted, and what only has another mode" {
	echo one >changed
	echo two >gone
	echo three >mode
	echo four >touched
	echo five >kept
	mkdir -p sub/old
	echo x >sub/old/f
	cow 'echo ONE >changed; rm gone; chmod 700 mode; echo six >new; rm -r sub/old; mkdir newdir; echo >newdir/f;
		: >>kept; touch -d @5 touched'
	[ "$(cat changed)" = one ]
	[ -e gone ]
	run summary
	[ "$output" = "C  changed
D  gone
M  mode
A  new
A  newdir/
A  newdir/f
D  sub/old/
M  touched" ]
}

@test "diff shows text as a unified diff, all else in a line" {
	seq 20 >text
	ln -s a link
	printf 'a\0b' >binary
	cow "sed -i 's/^7\$/seven/' text; ln -sfn b link; printf 'a\\0c' >binary; mkfifo fifo; chmod 640 text"
	run hako diff t "$dir/text"
	[[ "$output" == *"
--- a/"*"/text
+++ b/"*"/text
@@ -4,7 +4,7 @@"*"
-7
+seven
"* ]]
	run hako diff t "$dir"
	[[ "$output" == *"Binary files "* ]]
	[[ "$output" == *"link: symbolic link to 'a' replaced by symbolic link to 'b'"* ]]
	[[ "$output" == *"fifo: FIFO added"* ]]
}

@test "apply makes it so, and leaves nothing in the layer" {
	echo one >changed
	echo two >gone
	ln changed linked
	mkdir -p sub/old moved/deep
	echo x >sub/old/f
	echo y >moved/deep/g
	cow 'cat linked; echo ONE >changed; rm gone; rm -r sub/old; mkdir -m 750 newdir; echo n >newdir/f; ln newdir/f newdir/g;
		mv moved elsewhere; mkdir sub/old; echo z >sub/old/h; truncate -s 1M sparse; echo end >>sparse;
		touch -d @1000000000 newdir; rm linked; ln changed linked'
	run hako apply t "$dir"
	[ "$status" = 0 ]
	[ "$(cat changed linked)" = "ONE
ONE" ]
	[ changed -ef linked ]
	[ ! -e gone ]
	[ ! -e moved ]
	[ ! -e sub/old/f ]
	[ "$(cat sub/old/h elsewhere/deep/g)" = "z
y" ]
	[ newdir/f -ef newdir/g ]
	[ "$(stat -c '%a %Y' newdir)" = "750 1000000000" ]
	[ "$(stat -c %b sparse)" -lt 100 ]
	run summary
	[ "$output" = "" ]
	[ -z "$(ls "$XDG_DATA_HOME/hako/layers/t/index")" ]
	# And a further run over it sees the same.
	cow 'test "$(cat changed)" = ONE; test "$(ls sub/old)" = h; test "$(ls -A newdir)" = "f
g"; test ! -e gone'
}

@test "apply takes only the paths it is given, with the directories around them" {
	mkdir a
	cow 'echo 1 >one; echo 2 >two; mkdir -p deep/er; echo 3 >deep/er/three; echo 4 >deep/four; rmdir a'
	run hako apply t "$dir/one" "$dir/deep/er/three"
	[ "$status" = 0 ]
	[ "$(cat one deep/er/three)" = "1
3" ]
	[ ! -e two ]
	[ ! -e deep/four ]
	[ -e a ]
	run summary
	[ "$output" = "D  a/
A  deep/four
A  two" ]
	run hako apply t
	[ ! -e a ]
	[ "$(cat deep/four two)" = "4
2" ]
}

@test "what changed below meanwhile is left and told; --force applies it" {
	for f in changed gone removed both; do
		echo "$f" >$f
	done
	cow 'for f in changed removed both; do echo new >$f; done; rm gone; echo box >fresh; echo fine >other'
	sleep 0.02
	echo other >changed
	echo other >gone
	echo host >fresh
	rm removed
	run hako diff -s t "$dir"
	[[ "$output" == *"C! "*"/changed"* && "$output" == *"D! "*"/gone"* ]]
	[[ "$output" == *"A! "*"/removed"* && "$output" == *"C! "*"/fresh"* ]]
	[[ "$output" == *"C  "*"/both"* ]]
	run hako apply t "$dir"
	[ "$status" = 1 ]
	[ "$(grep -c 'has changed below' <<<"$output")" = 4 ]
	[ "$(cat changed gone fresh both other)" = "other
other
host
new
fine" ]
	run hako apply t "$dir" --force
	[ "$status" = 0 ]
	[ "$(cat changed fresh removed)" = "new
box
new" ]
	[ ! -e gone ]
}

@test "what another made below is never lost to a second run in the layer" {
	# What is there, what the first run does, what another does, what the second run does.
	local cases=(
		'echo a >f|echo b >f|echo HOST >f|rm f'
		'echo a >f|echo b >f|echo HOST >f|sed -i s/b/c/ f'
		'echo a >f|echo b >f|echo HOST >f|mv f g'
		'echo a >f|rm f|echo HOST >f|touch f; rm f'
		'echo a >f|rm f|echo HOST >f|echo x >f'
		'mkdir f; echo a >f/f|echo b >f/f|echo HOST >f/f|rm -r f'
		'mkdir f; echo a >f/f|rm -r f|rm -r f; mkdir f; echo HOST >f/f|mkdir f; rm -r f; mkdir f'
		'mkdir f; echo a >f/f|rm -r f|rm -r f; mkdir f; echo HOST >f/f|mkdir f; echo x >f/f'
		':|mkdir f; echo x >f/f|mkdir f; echo HOST >f/f|rm -r f; mkdir f'
		':|mkdir f; echo x >f/f|mkdir f; echo HOST >f/f|rm -r f'
		':|echo x >f|echo HOST >f|rm f'
		'mkdir f; echo a >f/f|mv f g; echo b >g/f|echo HOST >f/f|rm -r g'
		'ln -s a f|ln -sf b f|rm f; echo HOST >f|ln -sf c f'
	)
	local case made first meanwhile second host

	for case in "${cases[@]}"; do
		IFS='|' read -r made first meanwhile second <<<"$case"
		echo "# $case"
		rm -rf f g l
		bash -c "$made"
		cow "$first"
		bash -c "$meanwhile"
		cow "$second"
		host=$(grep -r HOST .)
		run hako apply t
		[ "$status" = 1 ]
		[[ $output == *"changed below"* ]]
		[ "$(grep -r HOST .)" = "$host" ]
		hako discard t
	done
}

@test "within one tick of the clock, what another made is told from what was hidden" {
	local i

	for i in 1 2 3 4 5; do
		echo a >f
		cow 'rm f; exec >&- 2>&-'
		echo HOST >f
		touch -d "@$(stat -c %.9Y "$XDG_DATA_HOME/hako/layers/t/upper$dir/f")" f
		run hako apply t
		[ "$status" = 1 ]
		[ "$(cat f)" = HOST ]
		hako discard t
	done
}

@test "runs one after the other are applied, where nobody else was there" {
	local cases=(
		'echo a >f|echo b >f|rm f'
		'echo a >f|echo b >f|sed -i s/b/c/ f'
		'echo a >f|rm f|echo x >f; mv f g'
		'mkdir f; echo a >f/f|rm -r f|mkdir f; echo x >f/g'
		'mkdir -p f/d; echo a >f/d/f|mv f g; echo x >g/d/g|rm -r g'
		'echo a >f; ln f l; mkdir d|echo b >l; mv f d|rm -r d l'
		'mkdir f g; echo a >f/a; echo b >g/b|rm -r g; mv f g|rm g/a; mv g f; mkdir g'
		'mkdir f; mkfifo f/p; ln -s x f/s|chmod 600 f/p; ln -sf y f/s|rm -r f'
	)
	local case made first second want

	for case in "${cases[@]}"; do
		IFS='|' read -r made first second <<<"$case"
		echo "# $case"
		rm -rf "$BATS_TEST_TMPDIR/want" ./*
		mkdir "$BATS_TEST_TMPDIR/want"
		bash -c "$made"
		(cd "$BATS_TEST_TMPDIR/want" && bash -c "$made; $first; $second")
		cow "$first"
		cow "$second"
		hako apply t
		diff -r --no-dereference "$BATS_TEST_TMPDIR/want" .
		hako discard t
	done
}

@test "attributes are applied to what they were changed of, and to nothing else" {
	command -v python3 >/dev/null || skip "no python3"
	echo x >noted
	echo y >shut
	python3 -c 'import os; os.setxattr("noted", "user.note", b"x"); os.setxattr("noted", "user.kept", b"x")'
	cow 'chmod 600 shut; python3 -c "import os; os.removexattr(\"noted\", \"user.note\")"'
	ln shut other # somebody's name for the same file, later
	run summary
	[ "$output" = "M  noted
M! shut" ]
	[[ $(hako diff t "$dir/noted") == *"/noted: attributes user.note" ]]
	run hako apply t "$dir" --force
	[ "$status" = 0 ]
	[ "$(python3 -c 'import os; print(os.listxattr("noted"))')" = "['user.kept']" ]
	[ "$(stat -c %a shut other)" = "600
644" ]
}

@test "a layer is listed, is discarded, and is then none" {
	cow 'echo x >f'
	run hako layers
	[[ "$output" == "t "*"  /" ]]
	run hako discard t
	[ "$status" = 0 ]
	[ ! -e "$XDG_DATA_HOME/hako/layers/t" ]
	[ ! -e f ]
	for verb in diff apply discard; do
		run hako $verb t
		[ "$status" = 125 ]
		expect_line "$output" "there is no layer 't'" "hako layers"
	done
	run hako layers
	[ "$output" = "" ]
}

@test "wrong words and odd names are told" {
	cow 'echo x >f'
	for verb in diff apply discard; do
		run hako $verb
		[ "$status" = 2 ]
		run hako $verb ../t
		[ "$status" = 125 ]
		expect_line "$output" "cannot name a layer"
		run hako $verb --help
		[ "$status" = 0 ]
	done
	run hako diff t /../etc
	[ "$status" = 125 ]
	echo nonsense >"$XDG_DATA_HOME/hako/layers/t/version"
	run hako diff t
	[ "$status" = 125 ]
	expect_line "$output" "no layer of a version"
}

@test "a layer in use is left alone" {
	cow 'true'
	"$HAKO_BIN" trace --cow --keep t -- sh -c 'echo started; sleep 2' >"$BATS_TEST_TMPDIR/out" 2>/dev/null &
	pid=$!
	for _ in $(seq 200); do
		[ ! -s "$BATS_TEST_TMPDIR/out" ] || break
		sleep 0.05
	done
	run hako diff t
	[ "$status" = 125 ]
	[[ "$output" == *"in use"* ]]
	run hako discard t
	[ "$status" = 125 ]
	wait $pid
	run hako discard t
	echo "$output"
	[ "$status" = 0 ]
}

@test "a killed run leaves a layer that can be read" {
	cow 'true'
	"$HAKO_BIN" trace --cow --keep t -- sh -c "cd '$dir'; i=0; while :; do i=\$((i + 1)); echo \$i >f\$i; mv f\$i g; done" \
		>/dev/null 2>&1 &
	pid=$!
	for _ in $(seq 200); do
		[ ! -e "$XDG_DATA_HOME/hako/layers/t/upper$dir/g" ] || break
		sleep 0.05
	done
	kill -9 $pid
	wait $pid || true
	for _ in $(seq 100); do
		run hako diff -s t "$dir"
		[ "$status" != 0 ] || break
		sleep 0.05
	done
	[ "$status" = 0 ]
	[[ "$output" == *"/g"* ]]
}

@test "a renamed directory is told and applied as one, with what was changed in it" {
	mkdir -p big/sub big/out pair1 pair2
	for f in $(seq 300); do
		echo "$f" >"big/sub/f$f"
	done
	echo a >pair1/a
	echo b >pair2/b
	cow 'mv big moved; echo new >moved/sub/f1; rm moved/sub/f2; mv moved/out out; mkdir big; echo x >big/again;
		mv pair1 t; mv pair2 pair1; mv t pair2; mkdir -p new/place; mv moved/sub new/place/sub2; cat new/place/sub2/f3'
	# Nothing was copied for it.
	[ "$(find "$XDG_DATA_HOME/hako/layers/t/upper" -type f | wc -l)" = 2 ]
	run summary
	[[ "$output" == *"R  big/ -> moved/"* ]]
	[[ "$output" == *"R  big/out/ -> out/"* ]]
	[[ "$output" == *"R  big/sub/ -> new/place/sub2/
C  new/place/sub2/f1
D  new/place/sub2/f2"* ]]
	[[ "$output" == *"A  big/
A  big/again"* ]]
	run hako diff t "$dir/new"
	[[ "$output" == *"--- a/"*"/big/sub/f1
+++ b/"*"/new/place/sub2/f1"* ]]
	inode=$(stat -c %i big/sub)
	run hako apply t
	echo "$output"
	[ "$status" = 0 ]
	[ "$(stat -c %i new/place/sub2)" = "$inode" ]
	[ "$(cat new/place/sub2/f1 new/place/sub2/f3 big/again pair1/b pair2/a)" = "new
3
x
b
a" ]
	[ ! -e new/place/sub2/f2 ]
	[ -d out ]
	[ -d moved ]
	[ "$(ls big)" = again ]
	run hako diff -s t
	[ "$output" = "" ]
}

@test "a directory renamed to where another was says so, and takes its place" {
	mkdir one two
	echo 1 >one/f
	echo 2 >two/g
	cow 'rm two/g; mv -T one two'
	run summary
	[ "$output" = "R  one/ -> two/ (in place of what is there)" ]
	# It is meant by its old name, too.
	run hako apply t "$dir/one"
	[ "$status" = 0 ]
	[ ! -e one ]
	[ "$(ls two)" = f ]
}

@test "a renamed directory that is gone below is a conflict, and shows no other's files" {
	mkdir one two
	echo 1 >one/f
	echo 2 >two/f
	cow 'mv one uno; mv two due; echo 3 >due/g'
	rm -r one
	mv two three
	mkdir two
	echo other >two/h
	run hako trace --cow --keep t -- sh -ec "cd '$dir'; ls uno due three"
	echo "$output"
	[ "$status" = 0 ]
	[[ "$output" == "due:
g

three:
f

uno:" ]]
	run hako diff -s t "$dir"
	[[ "$output" == *"A! "*"/due/"* ]]
	run hako apply t "$dir"
	[ "$status" = 1 ]
	[ "$(cat three/f two/h)" = "2
other" ]
}

@test "apply of a path without a change is an error, and does nothing" {
	echo x >f
	cow 'echo y >f; echo z >g'
	run hako apply t "$dir/g" "$dir/none"
	[ "$status" = 125 ]
	expect_line "$output" "the layer has no change at" "hako diff --summary"
	[ ! -e g ]
}

@test "what changed deep in a directory that the layer removes is a conflict" {
	mkdir -p gone/deep/er anew/deep
	echo x >gone/deep/er/f
	echo x >anew/deep/f
	cow 'rm -r gone anew; mkdir anew; echo y >anew/g'
	sleep 0.02
	echo later >gone/deep/er/f
	echo later >anew/deep/f
	run hako diff -s t "$dir"
	[[ "$output" == *"D! "*"/gone/"* && "$output" == *"D! "*"/anew/deep/"* ]]
	run hako apply t "$dir"
	[ "$status" = 1 ]
	[ "$(cat gone/deep/er/f anew/deep/f)" = "later
later" ]
	[ "$(cat anew/g)" = y ]
	# Also the next time.
	run hako apply t "$dir"
	[ "$status" = 1 ]
	[ -e anew/deep/f ]
	run hako apply t "$dir" --force
	[ "$status" = 0 ]
	[ ! -e gone ]
	[ "$(ls anew)" = g ]
}

@test "a tree larger than the number of descriptors allowed" {
	for d in $(seq 40); do
		mkdir -p "a$((d % 4))/b$((d % 10))/c$d"
		for f in $(seq 25); do
			echo "$d $f" >"a$((d % 4))/b$((d % 10))/c$d/f$f"
		done
	done
	ulimit -n 256
	cow 'test $(find . -type f | wc -l) = 1000; for d in a*/b*/c*; do echo x >>$d/f1; done;
		test $(cat $(find . -name f1) | wc -l) = 80; mv a0 z; rm -r a1; test $(find z a2 -type f | wc -l) = 500; rm -r z a2'
	run hako diff -s t "$dir"
	[ "$(grep -c '^C .*/f1$' <<<"$output")" = 10 ]
	[ "$(grep -c '^D ' <<<"$output")" = 3 ]
}

# Layers on a file system of their own, for the time of a test.
mount_layers() {
	mkdir -p "$XDG_DATA_HOME"
	mount -t "$1" -o "$2" hako-test "$XDG_DATA_HOME" 2>/dev/null || skip "$1 cannot be mounted here"
}

@test "a full disk is told to the command, and nothing below or in the layer is lost" {
	head -c 300000 /dev/zero >below
	head -c 3000000 /dev/zero >large
	mount_layers tmpfs size=2m
	cow 'echo kept >kept; ! echo x >>large; ! head -c 4000000 /dev/zero >big; rm -f big; echo x >>below; rm kept2 2>/dev/null || :
		cat kept; mv below moved; echo new >new'
	[[ "$output" == *"No space left on device"* ]]
	[ "$(stat -c %s below large)" = "300000
3000000" ]
	run summary
	[ "$output" = "D  below
A  kept
A  moved
A  new" ]
	run hako apply t "$dir"
	[ "$status" = 0 ]
	[ "$(stat -c %s moved large)" = "300002
3000000" ]
	[ "$(cat kept new)" = "kept
new" ]
}

@test "a file system without the attributes a layer needs is told at the start" {
	mount_layers ramfs size=1m
	run hako trace --cow --keep t -- true
	echo "$output"
	[ "$status" = 125 ]
	expect_line "$output" "t'" "attributes"
	[[ "$output" == *XDG_DATA_HOME* ]]
}

@test "odd names come through, and reach no terminal as they are" {
	local nl=$'new\nline' esc=$'esc\e[31m' bytes=$'bytes\xff\xfe'
	echo 1 >"$nl"
	echo 2 >"$esc"
	cow "for f in *; do echo x >>\"\$f\"; done; echo 3 >\"\$(printf 'bytes\377\376')\"; echo >-dash; echo >'  blank '"
	run hako diff t "$dir"
	echo "$output" | cat -v
	[ "$status" = 0 ]
	[[ "$output" != *$'\e'* ]]
	[[ "$output" == *'new\nline'* || "$output" == *'new\x0aline'* ]]
	run hako apply t "$dir/$bytes" "$dir/$esc"
	[ "$status" = 0 ]
	[ "$(cat "$bytes" "$esc")" = "3
2
x" ]
	[ "$(cat "$nl")" = 1 ]
	run hako apply t
	[ "$status" = 0 ]
	[ "$(cat "$nl")" = "1
x" ]
	[ -e ./-dash ]
	[ -e "  blank " ]
}

@test "what is large or sparse is told without being read for long" {
	truncate -s 20G sparse
	cow 'echo x >>sparse; truncate -s 30G new'
	[ "$(du -s "$XDG_DATA_HOME" | cut -f 1)" -lt 10000 ]
	run timeout 100 "$HAKO_BIN" diff t "$dir"
	echo "$output"
	[ "$status" = 0 ]
	[[ "$output" == *"Binary files "*"sparse"* && "$output" == *"Binary files "*"new"* ]]
	[ "$(stat -c %s sparse)" = 21474836480 ]
}

@test "a file that gets the number of what was copied is not taken for the copy" {
	echo original >d
	cow 'mv d e; echo changed >>e'
	rm d
	echo hostfile >x # ext4 hands the number out again at once
	cow 'cat x e; echo APPEND >>x; cat e; cp x y; cp e z; [ "$(stat -c %i x)" != "$(stat -c %i e)" ]'
	[ "$output" = "hostfile
original
changed
original
changed" ]
	[ "$(cat x)" = hostfile ]
}

@test "nor is it where the host makes it during the run" {
	echo original >d
	(
		until [ -s "$BATS_TEST_TMPDIR/data/hako/layers/t/upper$dir/ready" ]; do
			sleep 0.05
		done
		rm d
		for i in $(seq 40); do # one of them gets the number
			echo hostfile >"x$i"
		done
		: >made
	) 3>&- &
	cow 'mv d e; echo changed >>e; exec 5<e; echo >ready; until [ -e made ]; do sleep 0.05; done
		cat x* | uniq; for x in x*; do echo APPEND >>$x; done; cat e; cat <&5'
	wait
	[ "$output" = "hostfile
original
changed
original
changed" ]
}

@test "diff tells the modes, owners, attributes and devices that apply would make" {
	[ "$(id -u)" = 0 ] || skip "only root has owners and devices to give"
	echo x >meta
	echo x >content
	chmod 644 meta content
	mkdir empty
	cow 'cp /bin/true suid; chmod 4755 suid; : >plain; chmod 644 plain; : >given; chmod 644 given; chown 7:8 given
		: >lent; chmod 644 lent; chgrp 8 lent; chown 5:6 meta; chmod 2750 meta; touch -d 2001-01-01 meta
		echo y >content; chmod 4711 content; mkdir private; chmod 700 private; mknod dev c 1 3 || :
		python3 -c "import os; os.setxattr(\"plain\", \"user.note\", b\"x\"); os.setxattr(\"meta\", \"user.note\", b\"x\")"'
	run hako diff t "$dir"
	echo "$output"
	[[ $output == *"/suid: mode 4755"$'\n'* ]]
	[[ $output == *"/plain: attributes user.note"$'\n'* ]]
	[[ $output == *"/given: owner 7:8"$'\n'* ]]
	[[ $output == *"/lent: owner 0:8"$'\n'* ]]
	[[ $output == *"/meta: mode 0644 to 2750 owner 0:0 to 5:6 time attributes user.note"$'\n'* ]]
	[[ $output == *"/content: mode 0644 to 4711"$'\n'* ]]
	[[ $output == *"/private: mode 0700"$'\n'* ]]
	if hako diff -s t "$dir" | grep -q '/dev$'; then
		[[ $output == *"/dev: character device 1:3 added"$'\n'* ]]
	fi
}

@test "a device that a layer would read as nothing is refused, not lost" {
	mknod dev c 0 0 || skip "no device can be made here"
	cow 'if mknod made c 0 0 || chmod 600 dev || mv dev moved; then exit 1; fi; [ -c dev ]; rm dev'
	run summary
	[ "$output" = "D  dev" ]
}

@test "hako layers shows names without control characters; none begins with a dash" {
	cow 'true'
	mv "$XDG_DATA_HOME/hako/layers/t" "$XDG_DATA_HOME/hako/layers/"$'a\e[31m\nb'
	run hako layers
	[ "${#lines[@]}" = 1 ]
	[[ $output != *$'\e'* ]]
	run hako trace --cow --keep -x -- true
	[ "$status" = 125 ]
	expect_line "$output" "'-x' cannot name a layer" "dash"
}

@test "a user: what is in directories that nobody may write in is changed, and applied" {
	as_user
	mkdir -p anc/x/mine old
	echo o >old/f
	chmod 555 anc/x old
	chown -R 12345:12345 anc/x/mine old
	user 'cow "echo 1 >anc/x/mine/f; echo x >>old/f; touch old; mv old new; mkdir -p mod/v1; echo a >mod/v1/a; chmod 555 mod/v1"'
	[ "$status" = 0 ]
	user 'hako apply t && hako diff t'
	[ "$status" = 0 ]
	[ "$output" = "" ]
	[ "$(cat anc/x/mine/f new/f mod/v1/a)" = $'1\no\nx\na' ]
	[ "$(stat -c %a anc/x new mod/v1 | tr '\n' ' ')" = "555 555 555 " ]
}

@test "a user: what cannot be applied is told and left, the rest is applied" {
	as_user
	mkdir a d
	echo a >a/f
	echo d >d/f
	chmod 666 a/f d/f
	chmod 777 d
	user 'cow "echo x >>a/f; mkdir b; echo b >b/f; mkdir d/e; echo e >d/e/f; echo z >z"'
	[ "$status" = 0 ]
	# Its mode would be a change, too. What is in it is tried all the same; but not what is in what cannot be made.
	chmod 755 d
	user 'hako apply -f t'
	[ "$status" = 125 ]
	grep -q "a/f' cannot be changed: Permission denied: left as it is" <<<"$output"
	grep -q "d/e' cannot be changed: Permission denied: left as it is" <<<"$output"
	! grep -q "d/e/f'" <<<"$output" || false
	grep -q "3 of the changes cannot be made: left in the layer" <<<"$output"
	[ "$(cat a/f b/f z)" = $'a\nb\nz' ]
	user "hako diff -s t | sed 's|${public#/}/dir/||'"
	[ "$output" = $'C! a/f\nM  d/\nA  d/e/\nA  d/e/f' ]
	# The next one goes on with what can be made by then.
	chmod 777 d
	user 'hako apply -f t'
	[ "$status" = 125 ]
	[ "$(cat a/f d/e/f)" = $'a\ne' ]
	user "hako diff -s t | sed 's|${public#/}/dir/||'"
	[ "$output" = 'C! a/f' ]
}

@test "a user: a change that would lose the owner below is left and told; --force applies it" {
	as_user
	echo a >f
	chmod 666 f
	chown 7:8 f
	user 'cow "echo x >>f; echo z >z"; hako diff t'
	[ "$status" = 0 ]
	grep -q "^C! .*/f$" <<<"$output"
	grep -q "/f: owner 7:8 (which applying it cannot keep)$" <<<"$output"
	user 'hako apply t'
	[ "$status" = 1 ]
	grep -q "/f' has owner 7:8 below, which it would lose: left as it is" <<<"$output"
	[ "$(stat -c %u:%g f)" = 7:8 ]
	[ "$(cat f z)" = $'a\nz' ]
	user 'hako apply --force t'
	[ "$status" = 0 ]
	[ "$(stat -c %u:%g f)" = 12345:12345 ]
	[ "$(cat f)" = $'a\nx' ]
}

@test "root without the right to give owners loses none, but with --force" {
	setpriv --bounding-set -chown true 2>/dev/null || skip "no right can be given up here"
	echo a >f
	chown 7:8 f
	cow 'echo x >>f; echo z >z'
	run setpriv --bounding-set -chown "$HAKO_BIN" apply t
	[ "$status" = 125 ]
	grep -q "/f' cannot be changed: Operation not permitted" <<<"$output"
	[ "$(cat f z)" = $'a\nz' ]
	run setpriv --bounding-set -chown "$HAKO_BIN" apply --force t
	[ "$status" = 0 ]
	[ "$(stat -c %u:%g f)" = 0:0 ]
}

@test "a user: what a member of its group makes in a set-group-id directory has that group" {
	as_user
	mkdir gr
	chown 1000:54321 gr
	chmod 2770 gr
	groups="--groups 54321"
	user 'cow "echo n >gr/new; mkdir gr/sub"; hako diff -s t'
	[ "$status" = 0 ]
	[ "${#lines[@]}" = 2 ]
	grep -q "^A  .*/gr/new$" <<<"$output"
	user 'hako apply t'
	[ "$status" = 0 ]
	[ "$(stat -c %u:%g:%a gr gr/new gr/sub | tr '\n' ' ')" = "1000:54321:2770 12345:54321:644 12345:54321:2755 " ]
}

@test "the time that a directory was set to is kept; one that changed with what is in it is no change" {
	mkdir set grown both
	touch -d 2001-01-01 set grown both
	cow 'touch -d 2005-05-05 set; echo x >grown/f; echo x >both/f; touch -d 2005-05-05 both'
	run summary
	[ "$output" = "M  both/
A  both/f
A  grown/f
M  set/" ]
	run hako diff t "$dir/set"
	[[ $output == *"/set: time"* ]]
	run hako apply t
	[ "$status" = 0 ]
	[ "$(stat -c %y set both | cut -d' ' -f1 | tr '\n' ' ')" = "2005-05-05 2005-05-05 " ]
	run summary
	[ "$output" = "" ]
}

@test "a user: a renamed directory that cannot be brought below holds up nothing else" {
	as_user
	mkdir -p from/d to
	echo 1 >from/d/f
	chown -R 12345:12345 from/d
	chmod 777 from to
	user 'cow "mkdir to/n; mv from/d to/n/e; echo 2 >to/n/e/g; echo z >z"'
	[ "$status" = 0 ]
	chmod 755 from
	user 'hako apply t'
	[ "$status" = 125 ]
	grep -q "to/n/e' cannot be changed: Permission denied" <<<"$output"
	[ "$(cat from/d/f z)" = $'1\nz' ]
	[ ! -e to/n/e ]
	chmod 777 from
	user 'hako apply t && hako diff t'
	[ "$output" = "" ]
	[ "$(cat to/n/e/f to/n/e/g)" = $'1\n2' ]
	[ ! -e from/d ]
}

@test "a full disk ends an apply at once; what was done stays done" {
	small=$BATS_TEST_TMPDIR/small
	mkdir "$small"
	unshare -m mount -t tmpfs -o size=64k none "$small" 2>/dev/null || skip "no file system can be mounted"
	run unshare -m sh -ec 'mount -t tmpfs -o size=64k none "$1"
		$2 trace -q --cow --keep t -- sh -c "cd $1; echo a >a; head -c 500000 /dev/zero >b; echo c >c"
		status=0; $2 apply t || status=$?; ls "$1"; exit $status' sh "$small" "$HAKO_BIN"
	echo "$output"
	[ "$status" = 125 ]
	grep -q "small/b': No space left on device" <<<"$output"
	[ "${lines[-1]}" = a ]
}

@test "messages: in use, hidden, not whole, a path from the root" {
	cow 'echo x >f'
	run hako apply t "$dir/f/none"
	expect_line "$output" "the layer has no change at '$dir/f/none'" "hako diff --summary"
	run flock "$XDG_DATA_HOME/hako/layers/t" "$HAKO_BIN" apply t
	[ "$status" = 125 ]
	[ "$output" = "hako apply: layer 't' is in use by a run; wait for it" ]
	run hako trace -q -- "$HAKO_BIN" layers
	expect_line "$output" "is hidden here, as it is from all that hako runs"
	mkdir "$XDG_DATA_HOME/hako/layers/half"
	run hako apply half
	[ "$output" = "hako apply: layer 'half' is not whole: its run could not begin; hako discard half removes it" ]
	hako discard half
}
