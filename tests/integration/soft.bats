#!/usr/bin/env bats
# Boxes on the software CPU: programs that nobody here wrote do as they do on the host, the CPU is the one
# that was asked for, and what dies says so. Where HAKO_ENGINE does not ask for that engine, as in the rig,
# all of this is skipped: KVM's own emulator would run the software that runs these programs.
#
# Each box takes a second or two, so a box checks what it can.

load helpers

# Names for --cpu, and what Linux calls them. fsrm comes with erms.
features=(fsgsbase smep smap umip pcid invpcid erms fsrm rdrand rdseed movbe bmi1 bmi2 lzcnt adx sha)
declare -gA flag_of=([lzcnt]=abm [sha]=sha_ni)

setup_file() {
	[[ $HAKO_ENGINE == soft* ]] || return 0 # Debian 12's bats cannot skip here
	need_boxes
	export LC_ALL=C PATH=/usr/bin:/bin
	make_programs
}

setup() {
	[[ $HAKO_ENGINE == soft* ]] || skip "HAKO_ENGINE is not soft"
	cd "$BATS_FILE_TMPDIR/src" || return
}

soft() {
	box --engine soft "$@" </dev/null
}

# same SCRIPT: a shell script says the same in a box as here, and ends the same
same() {
	local natively=0
	sh -c "$1" </dev/null >"$BATS_TEST_TMPDIR/native" 2>&1 || natively=$?
	soft -v "$PWD" -- sh -c "exec 2>&1; $1"
	[ "$status" -eq "$natively" ]
	[ -z "$err" ]
	diff "$BATS_TEST_TMPDIR/native" "$BATS_TEST_TMPDIR/out"
}

# has WORD: is it among the CPU flags in $out?
has() {
	grep -qw "$1" <<<"$out"
}

# Of the guest's /proc/cpuinfo. (A "!" in the middle of a test would be passed over.)
flag() {
	grep '^flags' <<<"$out" | grep -qw "$1"
}

no_flag() {
	! flag "$1"
}

make_programs() {
	mkdir "$BATS_FILE_TMPDIR/src"
	cd "$BATS_FILE_TMPDIR/src" || return

	cat >sum.c <<-'END'
		#include <math.h>
		#include <stdio.h>
		#include <stdlib.h>

		static int by_value(const void *a, const void *b)
		{
			double x = *(const double *)a, y = *(const double *)b;
			return (x > y) - (x < y);
		}

		int main(void)
		{
			static double roots[1000];
			long double sum = 0;

			for (int i = 0; i < 1000; i++) {
				roots[i] = sqrt((i * 7919) % 1000);
				sum += sinl(roots[i]);
			}
			qsort(roots, 1000, sizeof(roots[0]), by_value);
			printf("%.17g %.17g %.21Lg %a\n", roots[10], roots[999], sum, exp(roots[500]));
			return 0;
		}
	END

	# How a program dies.
	cat >die.c <<-'END'
		#include <signal.h>
		#include <stdlib.h>
		#include <string.h>

		int main(int argc, char **argv)
		{
			volatile int zero = argc - 2;
			const char *how = argv[1];

			if (strcmp(how, "read") == 0) {
				return *(volatile int *)(long)zero;
			} else if (strcmp(how, "write") == 0) {
				*(volatile char *)main = 1;
			} else if (strcmp(how, "wild") == 0) {
				return *(volatile int *)(0x8000000000000000 + zero);
			} else if (strcmp(how, "jump") == 0) {
				((void (*)(void))(long)zero)();
			} else if (strcmp(how, "data") == 0) {
				static unsigned char ret = 0xc3;
				((void (*)(void))&ret)();
			} else if (strcmp(how, "divide") == 0) {
				return 100 * argc / zero;
			} else if (strcmp(how, "ud2") == 0) {
				__asm__ volatile("ud2");
			} else if (strcmp(how, "int3") == 0) {
				__asm__ volatile("int3");
			} else if (strcmp(how, "step") == 0) {
				__asm__ volatile("pushfq; orl $0x100, (%rsp); popfq; nop");
			} else if (strcmp(how, "hlt") == 0) {
				__asm__ volatile("hlt");
			} else if (strcmp(how, "out") == 0) {
				__asm__ volatile("outb %al, $0x80");
			} else if (strcmp(how, "align") == 0) {
				__asm__ volatile("pushfq; orl $0x40000, (%rsp); popfq; movl 1(%rsp), %eax");
			} else if (strcmp(how, "sse") == 0) {
				unsigned mxcsr = 0x1f80 & ~0x80u; /* invalid operation */
				__asm__ volatile("ldmxcsr %0; xorps %%xmm0, %%xmm0; divsd %%xmm0, %%xmm0" ::"m"(mxcsr) : "xmm0");
			} else {
				abort();
			}
			return 0;
		}
	END
	gcc -O0 -o die die.c || return

	# Which instructions a program can use: from what it prints, one line each.
	cat >insns.c <<-'END'
		#include <setjmp.h>
		#include <signal.h>
		#include <stdio.h>

		static sigjmp_buf back;

		static void caught(int sig)
		{
			siglongjmp(back, sig);
		}

		#define TRY(name, ...) \
			do { \
				if (sigsetjmp(back, 1) == 0) { \
					__asm__ volatile(__VA_ARGS__ ::: "rax", "rcx", "rdx", "xmm0", "xmm1", "cc"); \
					puts(name " works"); \
				} else { \
					puts(name " faults"); \
				} \
			} while (0)

		int main(void)
		{
			struct { unsigned short limit; unsigned long base; } __attribute__((packed)) gdt;
			unsigned lzcnt = 0;

			signal(SIGILL, caught);
			TRY("ssse3", "pabsb %%xmm0, %%xmm1");
			TRY("sse4.2", "crc32b %%al, %%ecx");
			TRY("aes", "aesenc %%xmm0, %%xmm1");
			TRY("popcnt", "popcnt %%rax, %%rcx");
			TRY("fsgsbase", "rdfsbase %%rax");
			TRY("rdrand", "rdrand %%rax");
			TRY("rdseed", "rdseed %%eax");
			TRY("movbe", "movbe -8(%%rsp), %%rax");
			TRY("bmi1", "andn %%rax, %%rcx, %%rdx");
			TRY("bmi2", "pdep %%rax, %%rcx, %%rdx");
			TRY("adx", "adcx %%rax, %%rcx");
			TRY("sha", "sha256msg1 %%xmm0, %%xmm1");
			TRY("avx", "vaddps %%ymm0, %%ymm0, %%ymm1");
			TRY("avx2", "vpaddb %%ymm0, %%ymm0, %%ymm1");
			TRY("avx512", "vpaddb %%zmm0, %%zmm0, %%zmm0");
			TRY("fma", "vfmadd132ps %%xmm0, %%xmm0, %%xmm1");
			__asm__("lzcnt %1, %0" : "=r"(lzcnt) : "r"(1u)); /* else BSR, which says 0 */
			printf("lzcnt %s\n", lzcnt == 31 ? "works" : "faults");
			__asm__("sgdt %0" : "=m"(gdt)); /* with UMIP, Linux makes up an answer */
			printf("umip %s\n", gdt.limit == 0 ? "works" : "faults");
			return 0;
		}
	END
	gcc -O1 -o insns insns.c || return

	# 32 bits, no library: system calls by INT 0x80 and, where the kernel has that, by SYSENTER in its vDSO.
	cat >i386.S <<-'END'
			.globl _start
		_start:
			mov $4, %eax
			mov $1, %ebx
			mov $int80, %ecx
			mov $int80_len, %edx
			int $0x80
			mov %esp, %esi		/* argc, argv, 0, environment, 0, auxiliary vector */
			lodsl
			lea 4(%esi,%eax,4), %esi
		1:	lodsl
			test %eax, %eax
			jnz 1b
		2:	lodsl
			mov %eax, %ecx
			lodsl
			jecxz 3f
			cmp $32, %ecx		/* AT_SYSINFO */
			jne 2b
			mov %eax, %edi
			mov $4, %eax
			mov $1, %ebx
			mov $vdso, %ecx
			mov $vdso_len, %edx
			call *%edi
		3:	push %es		/* things that 64-bit code does not have */
			pop %es
			mov $0x1f, %al
			add $8, %al		/* carries out of the low digit */
			daa
			aam
			into
			movzx %ax, %ebx
			mov $1, %eax
			int $0x80
			.data
		int80:	.ascii "by INT 0x80\n"
			.set int80_len, . - int80
		vdso:	.ascii "by the vDSO\n"
			.set vdso_len, . - vdso
			.section .note.GNU-stack,"",@progbits
	END

	# Kernels that die: as soon as they run; by going where there is no memory.
	cat >kernel.S <<-'END'
			.globl _start
		_start:	lidt none(%rip)
		#ifdef LOST
			mov $0x7ffffff000, %rax
			jmp *%rax
		#else
			mov $0x1234, %ebx
			ud2
		#endif
		none:	.quad 0, 0
			.section .rodata
			.asciz "Linux version 6.1.0-hako (test) #1 SMP\n"
			.asciz "LNRO0005"
			.asciz " virtio_mmio"
			.asciz " vmw_vsock_virtio_transport"
			.asciz " virtiofs"
			.section .note.GNU-stack,"",@progbits
	END
	local link=(-nostdlib -static -no-pie -Ttext 0x1000000 "-Wl,--build-id=none")
	gcc "${link[@]}" -o kernel kernel.S && gcc "${link[@]}" -DLOST -o lost kernel.S
}

@test "uname and nproc" {
	soft --cpus 2 -- sh -c 'uname -a; nproc'
	[ "$status" -eq 0 ]
	[ -z "$err" ]
	[[ $out == "Linux hako "*" x86_64 GNU/Linux"$'\n'2 ]]
}

@test "apt-get, perl, awk, sed" {
	command -v apt-get || skip "no apt-get here"
	same 'apt-get --version | head -n 1
		perl -e "print join(q{ }, map { sprintf q{%.15g}, sqrt } 1 .. 50), qq{\n}; print reverse(sort(split //, q{hako box})), qq{\n}"
		awk "BEGIN { for (i = 1; i < 30; i++) printf \"%.14g %d\n\", exp(i / 3), 2 ^ i }"
		sed -n "s/[^ ]*main\(.*\)/<\1>/p" sum.c'
}

@test "a pipeline of coreutils" {
	same 'seq 1 9999 | shuf --random-source=sum.c 2>/dev/null | sort -n | tail -n 3
		seq 1 3000 | sort -R --random-source=die | md5sum
		seq 1 5000 | tr 1-9 b-j | fold -w 60 | cut -c 3-20 | sort -u | wc
		yes hako | head -c 300000 | gzip -9 | gunzip | sha512sum | rev
		factor 18446744073709551557 340282366920938463463374607431768211297; date -u -d @1700000000
		cat sum.c die.c | sha1sum; cksum die; b2sum die; sum die; base64 sum.c | base64 -d | cmp - sum.c
		numfmt --to=iec 123456789 5000000000; printf "%.20Lf\n" 0.1 2>&1; false'
}

@test "python" {
	[ -x /usr/bin/python3 ] || skip "no python3 in /usr"
	same 'python3 -c "
import hashlib, math, random, struct, zlib, json
print(2**100, 3**500 // 7**100, pow(3, 10**30, 10**40 + 1))
data = b\"x\" * 10**6
for name in \"sha256\", \"sha1\", \"md5\", \"sha3_256\", \"blake2b\":
    print(name, hashlib.new(name, data).hexdigest())
random.seed(4)
print([random.gauss(0, 1) for _ in range(5)], math.fsum(1 / n for n in range(1, 9999)), math.gamma(7.3))
print(zlib.crc32(zlib.compress(data)), struct.pack(\"<e\", 1 / 3).hex(), 1e308 * 10, 5e-324 / 2, float(\"nan\"))
print(json.dumps(sorted(str(n) for n in range(99))))
"'
}

@test "gcc makes a program, which runs; one of 32 bits, too" {
	gcc -m32 -nostdlib -static -no-pie -o "$BATS_TEST_TMPDIR/i386" i386.S || skip "no 32-bit assembler here"
	gcc -O2 -o "$BATS_TEST_TMPDIR/sum" sum.c -lm
	mkdir "$BATS_TEST_TMPDIR/share"
	cp sum.c i386.S "$BATS_TEST_TMPDIR/share"
	soft -v "$BATS_TEST_TMPDIR/share:/src:rw" -w /src -- sh -c '
		gcc -O2 -o sum sum.c -lm && ./sum && gcc -m32 -nostdlib -static -no-pie -o i386 i386.S && ./i386'
	# 0x27 corrected to 0x2d, which is 45: its last digit
	[ "$status" -eq 5 ]
	[ -z "$err" ]
	[ "$out" = "$("$BATS_TEST_TMPDIR/sum")
by INT 0x80
by the vDSO" ]
	# What was made in the box is a program here.
	[ "$("$BATS_TEST_TMPDIR/share/sum")" = "$("$BATS_TEST_TMPDIR/sum")" ]
}

@test "node" {
	[[ $(readlink -f "$(command -v node)") == /usr/* ]] || skip "no node in /usr"
	same 'node -e "
		const crypto = require(\"crypto\");
		let sum = 0;
		for (let i = 0; i < 200000; i++) sum = (sum * 31 + i) % 1000003; // enough to be compiled
		console.log(process.versions.v8, sum, 0.1 + 0.2, Math.sin(1e22), 2n ** 200n);
		console.log(crypto.createHash(\"sha256\").update(\"x\".repeat(100000)).digest(\"hex\"));
		console.log([5, 1, 4].sort().map(x => x / 3), /(\\w+) box/.exec(\"hako box\")[1]);"'
}

@test "openssl speed, and its ciphers" {
	[ -x /usr/bin/openssl ] || skip "no openssl in /usr"
	soft -- openssl speed -seconds 1 -bytes 1024 sha256
	[ "$status" -eq 0 ]
	[[ ${out##*$'\n'} == sha256*[1-9]*k ]]
	same 'for cipher in aes-128-gcm aes-256-cbc aes-128-ctr chacha20 camellia-128-cbc; do
			printf "%s " $cipher
			openssl enc -$cipher -K 000102030405060708090a0b0c0d0e0f -iv 0102030405060708 -in sum.c 2>&1 | md5sum
		done
		openssl dgst -sha512 -mac hmac -macopt hexkey:aa sum.c; openssl prime -generate -bits 64 | wc -l'
}

@test "what kills a program here kills it there, with the same signal" {
	soft -v "$PWD" -- ./die ud2
	[ "$status" -eq 132 ]
	[ -z "$err" ]
	same 'for how in read write wild jump data divide ud2 int3 step hlt out align sse abort; do
			./die $how
			echo "$how: $?"
		done 2>/dev/null'
	[[ $out == *"read: 139"*"divide: 136"*"ud2: 132"*"int3: 133"*"align: 135"*"sse: 136"*"abort: 134"* ]]
}

@test "hako-v2 has what the model says, and no more" {
	soft -v "$PWD" -- sh -c 'grep -m1 flags /proc/cpuinfo; ./insns'
	[ "$status" -eq 0 ]
	for flag in sse2 pni ssse3 sse4_1 sse4_2 popcnt cx16 aes pclmulqdq xsave x2apic tsc_deadline_timer rdtscp pdpe1gb; do
		flag "$flag"
	done
	for feature in "${features[@]}" avx fma f16c; do
		no_flag "${flag_of[$feature]:-$feature}"
	done
	for works in ssse3 sse4.2 aes popcnt; do
		has "$works works"
	done
	[ "$(grep -c faults <<<"$out")" -eq 14 ]
}

@test "features are switched on by name: every second one, the others, all" {
	local even odd
	even=$(printf ',+%s' fsgsbase smap pcid erms rdrand movbe bmi2 adx)
	odd=$(printf ',+%s' smep umip invpcid fsrm rdseed bmi1 lzcnt sha)
	for list in "$even" "$odd" "$even$odd"; do
		soft -v "$PWD" --cpu "hako-v2$list" -- sh -c 'grep -m1 flags /proc/cpuinfo; ./insns'
		[ "$status" -eq 0 ]
		[ -z "$err" ]
		[[ $list != *fsrm* ]] || list+=,+erms
		for feature in "${features[@]}"; do
			works=faults
			if [[ $list, == *",+$feature,"* ]]; then
				works=works
				flag "${flag_of[$feature]:-$feature}"
			else
				no_flag "${flag_of[$feature]:-$feature}"
			fi
			! grep -q "^$feature " <<<"$out" || has "$feature $works"
		done
		has "avx faults"
	done
}

@test "CPUs and features that are not known: one line, with those that are" {
	for cpu in hako-v2,+avx hako-v2,+sha_ni hako-v2,+ hako-v2,movbe 'hako-v2,'; do
		soft --cpu "$cpu" -- true
		[ "$status" -eq 2 ]
		[ -z "$out" ]
		expect_line "$err" "hako run: CPU model '$cpu'" "not known" "'+'" "${features[@]}"
	done
	soft --cpu 486 -- true
	[ "$status" -eq 2 ]
	expect_line "$err" "'486'" "hako-v2" "host"
}

@test "engines are chosen by --engine, else by HAKO_ENGINE" {
	soft -- true
	[ "$status" -eq 0 ]
	box --engine soft,jit=off -- grep -m1 'model name' /proc/cpuinfo </dev/null
	[ "$status" -eq 0 ]
	[ -z "$err" ]
	[[ $out == *"Hako virtual CPU"* ]]
	HAKO_ENGINE=soft,jit=off box -- true </dev/null
	[ "$status" -eq 0 ]
	HAKO_ENGINE=bogus box --engine soft -- true </dev/null
	[ "$status" -eq 0 ]
	HAKO_ENGINE=bogus box -- true </dev/null
	[ "$status" -eq 2 ]
	expect_line "$err" "engine 'bogus'" "not known" "'kvm', 'soft'" "HAKO_ENGINE"
	box --engine bogus -- true </dev/null
	[ "$status" -eq 2 ]
	expect_line "$err" "engine 'bogus'" "not known" "'kvm', 'soft'" "--engine"
	for option in jit=on jit= bogus jit=off,x; do
		box --engine "soft,$option" -- true </dev/null
		[ "$status" -eq 125 ]
		expect_line "$err" "engine 'soft'" "not known" "'jit=off'"
	done
}

@test "doctor names the engine that boxes get, and why it is not KVM" {
	HAKO_ENGINE='' run hako doctor
	[ "$status" -eq 0 ]
	[[ $output == *"engine soft  ok "* ]]
	if [[ $output == *"engine kvm   note "* ]]; then
		[[ $output == *"engine kvm   note  /dev/kvm: "*"with the engine 'soft'."* ]]
		HAKO_ENGINE=kvm run hako doctor
		[ "$status" -eq 1 ]
		[[ $output == *"HAKO_ENGINE  no    asks for 'kvm', which cannot be used"*"-> unset it, or set it to 'soft'"* ]]
		[[ $output == *"Boxes cannot run here"* ]]
	fi
	HAKO_ENGINE=soft,jit=off run hako doctor
	[ "$status" -eq 0 ]
	[[ $output == *"HAKO_ENGINE  ok    asks for 'soft,jit=off'"*"with the engine 'soft'."* ]]
	HAKO_ENGINE=bogus run hako doctor
	[ "$status" -eq 1 ]
	[[ $output == *"HAKO_ENGINE  no    asks for 'bogus', which this hako does not have"*"-> unset it"* ]]
}

# crashes KERNEL WORD...: a box that boots it ends at once, with one line that has these words
crashes() {
	local kernel=$1
	shift
	XDG_DATA_HOME=$BATS_FILE_TMPDIR/data soft --kernel "./$kernel" -- true
	[ "$status" -eq 125 ]
	[ -z "$out" ]
	expect_line "$err" "hako run: the box crashed: " "triple fault" "$@"
}

@test "a kernel that dies at once: where, what was there, what to do" {
	crashes kernel "at RIP 0x100000c: 0f 0b" "; --verbose shows its registers"
	crashes lost "at RIP 0x7ffffff000, where no memory is mapped" "; --verbose"
	XDG_DATA_HOME=$BATS_FILE_TMPDIR/data soft --verbose --kernel ./kernel -- true
	[ "$status" -eq 125 ]
	grep -q '| CPU 0: rip 000000000100000c rflags ' <<<"$err"
	grep -q '| at rip: ud2$' <<<"$err"
	grep -q 'rbx 0000000000001234' <<<"$err"
	grep -q '| cr0 .* cr2 .* cr3 .* cr4 ' <<<"$err"
	grep -q '| cs ' <<<"$err"
	expect_line "$(grep 'the box crashed' <<<"$err")" "at RIP 0x100000c: 0f 0b"
	[[ $err != *"shows its registers"* ]]
}

# Linux resets a machine by a triple fault, if it is told to.
@test "a box that dies in the middle: one line, and what its kernel said last" {
	soft --root -- sh -c 'echo triple >/sys/kernel/reboot/type && echo b >/proc/sysrq-trigger; sleep 100'
	[ "$status" -eq 125 ]
	expect_line "$(head -n 1 <<<"$err")" "triple fault" "at RIP 0xffffffff8" ": cc " "; --verbose"
	[[ $(tail -n 1 <<<"$err") == "hako run: | "*"sysrq: Resetting" ]]
}

@test "a box whose kernel panics, restarts or switches off" {
	soft --root -- sh -c 'echo c >/proc/sysrq-trigger; sleep 100'
	[ "$status" -eq 125 ]
	expect_line "$(head -n 1 <<<"$err")" "the box crashed: Kernel panic" "; --verbose shows all"
	# What led to it, its own line, and what follows, before registers.
	[ "$(grep -c '^hako run: | ' <<<"$err")" -eq 8 ]
	[[ $err == *"| "*"Trigger a crash"*"| "*"Kernel panic"*"| "*"Call Trace:"* ]]
	[[ $err != *"PCI: Fatal"* ]]
	soft --root -- sh -c 'echo b >/proc/sysrq-trigger; sleep 100'
	[ "$status" -eq 125 ]
	expect_line "$(head -n 1 <<<"$err")" "restarted itself before the command ended" "; --verbose"
	[[ $err == *"Resetting"* ]]
	[[ $err != *"PCI: Fatal"* ]]
	soft --root -- sh -c 'echo o >/proc/sysrq-trigger; sleep 100'
	[ "$status" -eq 125 ]
	expect_line "$err" "switched itself off before the command ended"
}
