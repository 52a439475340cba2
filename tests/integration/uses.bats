#!/usr/bin/env bats
# What people use `hako trace` for: builds, packages, installations. Needs /dev/fuse and leave to mount, no engine.

load helpers
load packages

setup_file() {
	find_trace
}

setup() {
	need_trace
	cd "$BATS_TEST_TMPDIR" || return
}

# A build that may write to its own directory, and is ended if it tries more.
build_policy() {
	mkdir tmp
	export TMPDIR=$PWD/tmp
	printf '%s\n' 'deny write,create,delete,metadata,link /**' 'allow * $PWD/**' >policy
}

@test "an autotools package: configure, make, check, install, under a policy; what was learnt is enough" {
	make_autotools_package
	build_policy
	hako trace --strict --policy policy --log log -- sh -ec 'tar xf hello-1.0.tar.gz && cd hello-1.0 &&
		./configure --prefix=/usr && make -j2 && make check && make install DESTDIR="$PWD/../image" && make clean' >out
	grep -q '^# PASS:  1' out
	[ "$(image/usr/bin/hallo)" = hello ]
	[ -e image/usr/share/man/man1/hello.1 ]
	grep -q '"op":"create".*"path":"'"$PWD"'/image/usr/lib/libgreet.a"' log
	# The same build, by what the first one needed.
	cd hello-1.0
	hako trace --learn ../learnt -- sh -ec 'make && make install DESTDIR="$PWD/../image"' >out
	make clean >out
	hako trace --strict --policy ../learnt -- sh -ec 'make && make install DESTDIR="$PWD/../image"' >out
	# One that installs where it should not.
	run ! hako trace --policy ../policy -- make install
	[ ! -e /usr/share/man/man1/hello.1 ]
	[[ $output == *"create"*"/usr/"* ]]
}

@test "a Debian package is built from source, and installed into a copy-on-write root" {
	make_debian_package
	build_policy
	hako trace --strict --policy policy -- sh -ec 'dpkg-source -x hako-hello_1.0.dsc &&
		cd hako-hello-1.0 && dpkg-buildpackage -us -uc -b -d' >out 2>&1 || { cat out; false; }
	[ "$(dpkg-deb -f hako-hello_1.0_*.deb Package)" = hako-hello ]
	[ "$(id -u)" -eq 0 ] || skip "only root can install it"
	need_tools apt-get
	export XDG_DATA_HOME=$PWD/data
	hako trace --cow --keep t -- sh -ec 'apt-get install -y "$PWD"/hako-hello_1.0_*.deb && hako-hello && dpkg -s hako-hello' >out 2>&1 || {
		cat out
		! grep -q "user.\* attributes" out || skip "no user attributes here"
		false
	}
	grep -q '^hello$' out
	grep -q '^Status: install ok installed' out
	[ ! -e /usr/bin/hako-hello ]
	run ! dpkg -s hako-hello
	hako diff t >changes
	grep -q '^A *usr/bin/hako-hello$' changes
	grep -q '^+setting$' changes
	grep -q '^+Package: hako-hello$' changes
	hako discard t
}

@test "git clone and a build of what was cloned, and git goes on working there" {
	need_tools git make gcc
	export GIT_AUTHOR_NAME=x GIT_AUTHOR_EMAIL=x@y GIT_COMMITTER_NAME=x GIT_COMMITTER_EMAIL=x@y HOME=$PWD
	make_autotools_package
	tar xf hello-1.0.tar.gz
	git init -q hello-1.0
	git -C hello-1.0 add .
	git -C hello-1.0 commit -qm first
	build_policy
	hako trace --strict --policy policy -- sh -ec 'git clone -q hello-1.0 copy && cd copy && ./configure -q && make -s &&
		echo "more" >>hello.1 && git commit -qam second && git gc -q && git status --short hello.1 && git log --format=%s' >out
	[ "$(tail -n 2 out)" = $'second\nfirst' ]
	git -C copy fsck --strict
}

@test "npm install, without a network" {
	need_tools node npm
	mkdir dep app
	echo '{"name": "dep", "version": "1.2.3", "bin": {"dep": "run.js"}, "scripts": {"postinstall": "echo done >installed"}}' >dep/package.json
	printf '#!/usr/bin/env node\nconsole.log("dep " + require("./package.json").version);\n' >dep/run.js
	(cd dep && npm pack --silent >/dev/null)
	echo '{"name": "app", "version": "1.0.0", "dependencies": {"dep": "file:../dep/dep-1.2.3.tgz"}}' >app/package.json
	cd app
	HOME=$PWD/../home npm_config_update_notifier=false hako trace --net off --log ../log -- \
		npm install --offline --no-audit --no-fund --foreground-scripts >../out 2>&1 || { cat ../out; false; }
	[ "$(node_modules/.bin/dep)" = "dep 1.2.3" ]
	[ -e node_modules/dep/installed ]
	grep -q '"command":"sh".*'"$PWD"'/node_modules/dep/installed' ../log
}
