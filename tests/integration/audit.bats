#!/usr/bin/env bats
# What `hako trace` writes about a run: log, reports, the learnt policy. Needs /dev/fuse and leave to mount, no engine.

load helpers

setup_file() {
	find_trace
}

setup() {
	need_trace
	mkdir "$BATS_TEST_TMPDIR/work" "$BATS_TEST_TMPDIR/image"
	cd "$BATS_TEST_TMPDIR/work" || return
}

need() {
	command -v "$1" >/dev/null || skip "no $1"
}

# A small project, with all that makes a second run unlike the first: temporary files, names made up, ln -f.
project() {
	need make
	need gcc
	printf '%s\n' 'all: prog' 'prog: a.o b.o' '	gcc -o $@ $^' '%.o: %.c' '	gcc -c -o $@ $<' \
		'install: all' '	install -d $(DESTDIR)/bin' '	install -m755 prog $(DESTDIR)/bin/prog' \
		'	ln -sf prog $(DESTDIR)/bin/other' '	sed -i s/a/b/ $(DESTDIR)/conf' >Makefile
	echo 'int f(void); int main(void) { return f(); }' >a.c
	echo 'int f(void) { return 0; }' >b.c
	echo a >"$BATS_TEST_TMPDIR/image/conf"
}

@test "the learnt policy is enough, from scratch and once more" {
	project
	hako trace --learn ../learnt -- make install DESTDIR="$BATS_TEST_TMPDIR/image"
	cat ../learnt
	# Once more, where everything is there.
	hako trace --strict --policy ../learnt -- make install DESTDIR="$BATS_TEST_TMPDIR/image"
	# From scratch.
	rm -rf ./*.o prog ../image/bin
	hako trace --strict --policy ../learnt -- make install DESTDIR="$BATS_TEST_TMPDIR/image"
	# It is short, and does not give away what is none of the run's business.
	[ "$(wc -l <../learnt)" -lt 40 ]
	grep -q '^allow read,exec,list /usr/\*\*$' ../learnt
	grep -q '^allow .*write.* \$PWD/\*\*$' ../learnt
	run hako trace --strict --policy ../learnt -- sh -c 'echo x >"$1"/stranger' sh "$BATS_TEST_TMPDIR/image"
	[ "$status" -eq 123 ]
	run hako trace --strict --policy ../learnt -- cat /etc/shadow
	[ "$status" -eq 123 ]
}

@test "each line of the log is JSON, with names of any bytes, and who did it" {
	need python3
	hako trace --log ../log -- sh -c 'n=$(printf "caf\351"); echo x >"$n"; cat "$n" >/dev/null; rm "$n"; mkdir "a
b"'
	python3 - ../log <<-'END'
		import json, os, sys
		lines = [json.loads(line) for line in open(sys.argv[1], encoding="utf-8")]
		assert lines[0]["op"] == "begin" and lines[0]["version"] == 1
		assert lines[-1]["op"] == "end" and lines[-1]["events"] == len(lines) - 2
		name = os.getcwdb() + b"/caf\xe9"
		mine = [l for l in lines if bytes.fromhex(l.get("path_hex", "")) == name]
		ops = [(l["command"], l["op"]) for l in mine]
		for wanted in ("sh", "create"), ("cat", "open"), ("rm", "unlink"):
		    assert wanted in ops, ops
		assert sum(l.get("bytes_written", 0) for l in mine) == 2
		assert any(l.get("path") == os.getcwd() + "/a\nb" and l.get("mode") == "0777" for l in lines)
		assert any(l["op"] == "exec" and l["path"].endswith("/cat") for l in lines[1:-1])
		# What is closed was opened, be it by the kernel: a program, and its loader.
		opened = []
		for l in lines[1:-1]:
		    if l["op"] in ("open", "create", "exec") and "error" not in l:
		        opened.append(l["path"])
		    if l["op"] == "close":
		        opened.remove(l["path"])
		assert opened == [], opened
	END
}

@test "the page is whole, and its data is the report's" {
	need node
	hako trace --report ../page.html -- sh -c 'echo x >"</script><script>alert(1)"; cat /etc/passwd >copy'
	node - ../page.html <<-'END'
		const text = require("fs").readFileSync(process.argv[2], "utf8");
		const scripts = [...text.matchAll(/<script([^>]*)>([^]*?)<\/script>/g)];
		if (scripts.length !== 2) {
			throw new Error(scripts.length + " scripts");
		}
		const data = JSON.parse(scripts[0][2]);
		new Function(scripts[1][2]); /* is it JavaScript? */
		const names = data.paths.map((p) => p.name);
		if (!names.includes("copy") || !names.includes("<")) {
			throw new Error("a path is missing");
		}
		data.paths.forEach((p, i) => {
			if (i !== 0 && !(p.in < i)) {
				throw new Error("a path comes before the directory it is in");
			}
		});
	END
	if command -v chromium >/dev/null; then
		chromium --headless --no-sandbox --disable-gpu --virtual-time-budget=3000 --dump-dom "file://$(realpath ../page.html)" >../dom 2>/dev/null
		grep -q 'role="treeitem"' ../dom
		grep -q '>usr/' ../dom
	fi
}

@test "a slow reader of the log loses nothing" {
	mkfifo ../pipe
	(sleep 1; cat ../pipe >../log) &
	hako trace --log ../pipe -- sh -c 'for i in $(seq 2000); do echo x >file; done'
	wait
	[ "$(grep -c '"path":"'"$PWD"'/file"' ../log)" -ge 4000 ]
	tail -1 ../log | grep -q '"op":"end"'
}

@test "log, report and learnt policy are not written to a file with further names: by those it could be rewritten" {
	hako trace --log build.log -- true
	hako trace --log build.log --report report -- sh -c 'ln build.log x; ln report y; true'
	[ ! -e x ] && [ ! -e y ]
	# Nor by a name that an earlier run gave it, which knew nothing of its purpose.
	hako trace -q -- ln build.log x
	cp build.log before
	for option in --log --report --learn; do
		run hako trace "$option" build.log -- sh -c 'echo forged >x'
		[ "$status" -eq 125 ]
		expect_line "$output" "$option 'build.log'" "hard links" "remove"
		cmp before x
	done
	rm x
	hako trace --log build.log -- true
}

@test "where log, report and learnt policy cannot go: the option, why, and what to do" {
	for option in --log --report --learn; do
		run hako trace -q "$option" . -- true
		[ "$status" -eq 125 ]
		expect_line "$output" "$option '.': Is a directory" "name a file"
		run hako trace -q "$option" /dev/full -- true
		[ "$status" -eq 125 ]
		expect_line "$output" "$option" "No space left" "room"
	done
}
