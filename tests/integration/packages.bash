# Real packages, made on the spot: what builds, tests and installs as those of others do.

need_tools() {
	local tool
	for tool; do
		command -v "$tool" >/dev/null || skip "no $tool"
	done
}

# hello-1.0.tar.gz in the current directory, by autoconf and automake: a program, a library, a test, a manual page.
make_autotools_package() {
	need_tools autoconf automake make gcc
	mkdir hello-1.0 && (
		cd hello-1.0 && mkdir src &&
			cat >configure.ac <<-'END' &&
				AC_INIT([hello], [1.0])
				AM_INIT_AUTOMAKE([foreign subdir-objects])
				AC_PROG_CC
				AC_PROG_RANLIB
				AM_PROG_AR
				AC_CHECK_HEADERS([stdlib.h unistd.h sys/stat.h])
				AC_CHECK_FUNCS([strdup mmap])
				AC_TYPE_SIZE_T
				AC_CONFIG_HEADERS([config.h])
				AC_CONFIG_FILES([Makefile])
				AC_OUTPUT
			END
			cat >Makefile.am <<-'END' &&
				bin_PROGRAMS = hello
				hello_SOURCES = src/main.c
				hello_LDADD = libgreet.a
				lib_LIBRARIES = libgreet.a
				libgreet_a_SOURCES = src/greet.c src/greet.h
				dist_man_MANS = hello.1
				TESTS = greets.sh
				EXTRA_DIST = greets.sh
			END
			printf 'install-exec-hook:\n\tcd $(DESTDIR)$(bindir) && ln -sf hello hallo\n' >>Makefile.am &&
			printf 'const char *greeting(void);\n' >src/greet.h &&
			printf '#include "greet.h"\nconst char *greeting(void) { return "hello"; }\n' >src/greet.c &&
			printf '#include <config.h>\n#include <stdio.h>\n#include "greet.h"\nint main(void) { return puts(greeting()) < 0; }\n' >src/main.c &&
			printf '.TH HELLO 1\n' >hello.1 &&
			printf '#!/bin/sh\n./hello >said && grep -q hello said && rm said\n' >greets.sh && chmod +x greets.sh &&
			autoreconf -i >../autoreconf.log 2>&1
	) && tar czf hello-1.0.tar.gz hello-1.0 && rm -r hello-1.0
}

# A Debian source package in the current directory, hako-hello_1.0.dsc, with nothing but dpkg-dev.
make_debian_package() {
	need_tools dpkg-buildpackage dpkg-deb make gcc
	mkdir -p hako-hello-1.0/debian/source && (
		cd hako-hello-1.0 &&
			echo '3.0 (native)' >debian/source/format &&
			cat >debian/control <<-'END' &&
				Source: hako-hello
				Section: misc
				Priority: optional
				Maintainer: Nobody <nobody@localhost>
				Standards-Version: 4.6.2
				Rules-Requires-Root: no

				Package: hako-hello
				Architecture: any
				Description: says hello
			END
			cat >debian/changelog <<-'END' &&
				hako-hello (1.0) unstable; urgency=low

				  * Made for a test.

				 -- Nobody <nobody@localhost>  Sat, 01 Jan 2022 00:00:00 +0000
			END
			cat >debian/rules <<-'END' &&
				#!/usr/bin/make -f
				.RECIPEPREFIX = >
				build build-arch: hako-hello
				build-indep binary-indep:
				hako-hello: hello.c
				> $(CC) -o $@ $<
				binary binary-arch: build
				> install -D -m 755 hako-hello debian/tmp/usr/bin/hako-hello
				> install -d debian/tmp/DEBIAN debian/tmp/etc
				> echo setting >debian/tmp/etc/hako-hello.conf
				> echo /etc/hako-hello.conf >debian/tmp/DEBIAN/conffiles
				> dpkg-gencontrol
				> dpkg-deb --root-owner-group --build debian/tmp ..
				clean:
				> rm -rf debian/tmp debian/files hako-hello
			END
			chmod +x debian/rules &&
			printf '#include <stdio.h>\nint main(void) { return puts("hello") < 0; }\n' >hello.c
	) && dpkg-source -b hako-hello-1.0 >dpkg-source.log && rm -r hako-hello-1.0
}
