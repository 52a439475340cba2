/* SPDX-License-Identifier: ISC */
/*
 * The decoder and the disassembler: what each corner of the encoding means, and that an independent
 * decoder (binutils' objdump) sees the same lengths, names and operands in every row of the table.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"
#include "engine/soft/decode.h"
#include "engine/vcpu_state.h"

#define ALL       UINT32_MAX /* features */
#define BASE_ONLY (UINT32_C(1) << HK_FEAT_BASE)
#define M16       HK_CODE_16
#define M32       HK_CODE_32
#define M64       HK_CODE_64

/* ---- The corners, one by one ---- */

static const struct text_case {
	uint8_t mode;
	const char *bytes; /* hexadecimal */
	const char *text;  /* at RIP 0x1000; NULL: #UD */
} text_cases[] = {
	/* Operand sizes */
	{M64, "88c8", "mov al, cl"},
	{M64, "6689c8", "mov ax, cx"},
	{M64, "89c8", "mov eax, ecx"},
	{M64, "4889c8", "mov rax, rcx"},
	{M64, "664889c8", "mov rax, rcx"},
	{M32, "89c8", "mov eax, ecx"},
	{M32, "6689c8", "mov ax, cx"},
	{M16, "89c8", "mov ax, cx"},
	{M16, "6689c8", "mov eax, ecx"},
	/* REX */
	{M64, "4589c8", "mov r8d, r9d"},
	{M64, "4d89c8", "mov r8, r9"},
	{M64, "41b801000000", "mov r8d, 0x1"},
	{M64, "49b88877665544332211", "mov r8, 0x1122334455667788"},
	{M32, "40", "inc eax"},
	{M32, "4f", "dec edi"},
	{M64, "484089c8", "mov eax, ecx"}, /* the last REX counts */
	{M64, "4866f7d8", "neg ax"},       /* REX before another prefix does not */
	{M64, "4864488b00", "mov rax, qword ptr fs:[rax]"},
	{M64, "482e8b00", "mov eax, dword ptr [rax]"},
	/* Byte registers */
	{M64, "88e0", "mov al, ah"},
	{M64, "88fb", "mov bl, bh"},
	{M64, "4088e0", "mov al, spl"},
	{M64, "4088fb", "mov bl, dil"},
	{M64, "4488c0", "mov al, r8b"},
	{M64, "b4ff", "mov ah, 0xff"},
	{M64, "40b4ff", "mov spl, 0xff"},
	{M32, "88e0", "mov al, ah"},
	{M64, "0fb6c4", "movzx eax, ah"},
	{M64, "400fb6c4", "movzx eax, spl"},
	{M64, "480fb6c0", "movzx rax, al"},
	{M64, "480fbfc1", "movsx rax, cx"},
	{M64, "4863c1", "movsxd rax, ecx"},
	{M32, "63c1", "arpl cx, ax"},
	/* NOP is XCHG of the accumulator with itself, but not in its upper half */
	{M64, "90", "nop"},
	{M64, "4890", "nop"},
	{M64, "6690", "nop"},
	{M64, "4190", "xchg r8d, eax"},
	{M64, "4990", "xchg r8, rax"},
	{M64, "f390", "pause"},
	{M64, "f34190", "xchg r8d, eax"},
	{M64, "91", "xchg ecx, eax"},
	{M64, "f30f1efa", "nop edx"}, /* ENDBR64 */
	{M64, "660f1f840000000000", "nop word ptr [rax+rax*1]"},
	/* Immediates */
	{M64, "83c0ff", "add eax, 0xffffffff"},
	{M64, "4883c0ff", "add rax, 0xffffffffffffffff"},
	{M64, "6683c0ff", "add ax, 0xffff"},
	{M64, "4805ffffffff", "add rax, 0xffffffffffffffff"},
	{M64, "660500ff", "add ax, 0xff00"},
	{M64, "04ff", "add al, 0xff"},
	{M64, "6aff", "push 0xffffffffffffffff"},
	{M64, "6800000080", "push 0xffffffff80000000"},
	{M64, "66680080", "push 0x8000"},
	{M32, "6aff", "push 0xffffffff"},
	{M32, "666aff", "push 0xffff"},
	{M64, "c21000", "ret 0x10"},
	{M64, "c8341202", "enter 0x1234, 0x2"},
	{M64, "6bc0ff", "imul eax, eax, 0xffffffff"},
	{M64, "d1e0", "shl eax, 1"},
	{M64, "d3f0", "shl eax, cl"},
	{M64, "c1f805", "sar eax, 0x5"},
	{M64, "0fa4c803", "shld eax, ecx, 0x3"},
	{M64, "0fa5c8", "shld eax, ecx, cl"},
	{M64, "f6c801", "test al, 0x1"},
	/* Default of 64 bits */
	{M64, "50", "push rax"},
	{M64, "6650", "push ax"},
	{M64, "4150", "push r8"},
	{M32, "50", "push eax"},
	{M64, "ff30", "push qword ptr [rax]"},
	{M64, "66ff30", "push word ptr [rax]"},
	{M64, "8f00", "pop qword ptr [rax]"},
	{M64, "ffd0", "call rax"},
	{M64, "66ffd0", "call rax"}, /* near branches ignore 66 */
	{M32, "66ffd0", "call ax"},
	{M64, "9c", "pushfq"},
	{M64, "669c", "pushfw"},
	{M32, "9c", "pushfd"},
	{M32, "669d", "popfw"},
	{M64, "cf", "iretd"},
	{M64, "48cf", "iretq"},
	{M64, "48cb", "retf"},
	{M64, "0fa0", "push fs"},
	{M32, "60", "pushad"},
	{M32, "6660", "pushaw"},
	{M64, "60", NULL},
	/* Branches */
	{M64, "ebfe", "jmp 0x1000"},
	{M64, "e8fbffffff", "call 0x1000"},
	{M64, "66e8faffffff", "call 0x1000"},
	{M32, "66e8fcff", "call 0x1000"},
	{M32, "66e9fcef", "jmp 0x0"},
	{M64, "7f10", "jg 0x1012"},
	{M64, "0f8610000000", "jbe 0x1016"},
	{M32, "e8fbefffff", "call 0x0"},
	{M32, "e8faefffff", "call 0xffffffff"},
	{M64, "e3fe", "jrcxz 0x1000"},
	{M64, "67e3fd", "jecxz 0x1000"},
	{M32, "67e3fd", "jcxz 0x1000"},
	{M64, "67e2fd", "a32 loop 0x1000"},
	{M64, "2e74fd", "je 0x1000"}, /* a hint of old */
	{M64, "f2c3", "ret"},
	{M64, "ff2425f0ff0000", "jmp qword ptr [0xfff0]"},
	{M32, "ea785634123400", "jmp 0x34:0x12345678"},
	{M32, "669a78563400", "call 0x34:0x5678"},
	{M64, "ea785634123400", NULL},
	{M64, "48ff28", "jmp far ptr [rax]"},
	{M64, "ffe8", NULL},
	{M64, "fff8", NULL},
	/* Addresses */
	{M64, "8b00", "mov eax, dword ptr [rax]"},
	{M64, "8b4010", "mov eax, dword ptr [rax+0x10]"},
	{M64, "8b40f0", "mov eax, dword ptr [rax-0x10]"},
	{M64, "8b8000010000", "mov eax, dword ptr [rax+0x100]"},
	{M64, "8b0424", "mov eax, dword ptr [rsp]"},
	{M64, "8b4500", "mov eax, dword ptr [rbp]"},
	{M64, "418b0424", "mov eax, dword ptr [r12]"},
	{M64, "418b4500", "mov eax, dword ptr [r13]"},
	{M64, "418b0500000000", "mov eax, dword ptr [rel 0x1007]"},
	{M64, "8b0488", "mov eax, dword ptr [rax+rcx*4]"},
	{M64, "428b04a0", "mov eax, dword ptr [rax+r12*4]"},
	{M64, "8b04cd00000000", "mov eax, dword ptr [rcx*8]"},
	{M64, "8b04e8", "mov eax, dword ptr [rax+rbp*8]"},
	{M64, "8b042578563412", "mov eax, dword ptr [0x12345678]"},
	{M64, "8b0425785634f2", "mov eax, dword ptr [0xfffffffff2345678]"},
	{M64, "428b042578563412", "mov eax, dword ptr [r12*1+0x12345678]"},
	{M64, "438b442500", "mov eax, dword ptr [r13+r12*1]"},
	{M64, "678b00", "mov eax, dword ptr [eax]"},
	{M64, "678b0510000000", "mov eax, dword ptr [rel 0x1017]"},
	{M64, "8b05f0ffffff", "mov eax, dword ptr [rel 0xff6]"},
	{M64, "c705100000007856ffff", "mov dword ptr [rel 0x101a], 0xffff5678"},
	{M32, "8b0510000000", "mov eax, dword ptr [0x10]"},
	{M32, "8b0425f0ffffff", "mov eax, dword ptr [0xfffffff0]"},
	{M32, "678b00", "mov eax, dword ptr [bx+si]"},
	{M16, "8b00", "mov ax, word ptr [bx+si]"},
	{M16, "8b03", "mov ax, word ptr [bp+di]"},
	{M16, "8b04", "mov ax, word ptr [si]"},
	{M16, "8b4601", "mov ax, word ptr [bp+0x1]"},
	{M16, "8b063412", "mov ax, word ptr [0x1234]"},
	{M16, "8b87fe00", "mov ax, word ptr [bx+0xfe]"},
	{M16, "67668b00", "mov eax, dword ptr [eax]"},
	{M64, "a18877665544332211", "mov eax, ds:[0x1122334455667788]"},
	{M64, "67a188776655", "mov eax, ds:[0x55667788]"},
	{M32, "a2887766f5", "mov ds:[0xf5667788], al"},
	{M64, "64a28877665544332211", "mov fs:[0x1122334455667788], al"},
	{M64, "488d0408", "lea rax, [rax+rcx*1]"},
	{M64, "8dc0", NULL},
	/* Segments */
	{M64, "658b00", "mov eax, dword ptr gs:[rax]"},
	{M64, "64658b00", "mov eax, dword ptr gs:[rax]"},
	{M64, "2e8b00", "mov eax, dword ptr [rax]"},
	{M64, "3e8b0424", "mov eax, dword ptr [rsp]"},
	{M64, "642e8b00", "mov eax, dword ptr fs:[rax]"},
	{M64, "36a4", "movsb"},
	{M32, "2e8b00", "mov eax, dword ptr cs:[eax]"},
	{M32, "642e8b00", "mov eax, dword ptr cs:[eax]"},
	{M32, "3e8b0424", "mov eax, dword ptr ds:[esp]"},
	{M32, "368b00", "mov eax, dword ptr ss:[eax]"},
	{M32, "368b0424", "mov eax, dword ptr [esp]"},
	{M32, "26a4", "es movsb"},
	{M32, "26aa", "stosb"},
	{M32, "65d7", "gs xlat"},
	/* Segment, control and debug registers */
	{M64, "8cd8", "mov eax, ds"},
	{M64, "488cd8", "mov rax, ds"},
	{M64, "8c18", "mov word ptr [rax], ds"},
	{M64, "488c18", "mov word ptr [rax], ds"},
	{M64, "8ed8", "mov ds, ax"},
	{M64, "448ed8", "mov ds, ax"},
	{M64, "8ec8", NULL}, /* CS */
	{M64, "8cf0", NULL},
	{M64, "8ef8", NULL},
	{M64, "8cc8", "mov eax, cs"},
	{M32, "06", "push es"},
	{M32, "1f", "pop ds"},
	{M64, "06", NULL},
	{M64, "0fa9", "pop gs"},
	{M32, "c400", "les eax, far ptr [eax]"},
	{M64, "0fb200", "lss eax, far ptr [rax]"},
	{M64, "0fb2c0", NULL},
	{M64, "0f20c0", "mov rax, cr0"},
	{M64, "0f2000", "mov rax, cr0"}, /* ModRM.mod does not matter */
	{M64, "0f2044", "mov rsp, cr0"},
	{M64, "440f22c0", "mov cr8, rax"},
	{M64, "410f22d8", "mov cr3, r8"},
	{M64, "660f20c0", "mov rax, cr0"},
	{M32, "660f20c0", "mov eax, cr0"},
	{M32, "0f22e0", "mov cr4, eax"},
	{M64, "0f20c8", NULL},
	{M64, "0f20e8", NULL},
	{M64, "440f20c8", NULL},
	{M64, "0f23f8", "mov dr7, rax"},
	{M64, "440f23c0", NULL},
	{M64, "f00f20c0", NULL},
	/* LOCK */
	{M64, "f00108", "lock add dword ptr [rax], ecx"},
	{M64, "f001c8", NULL},
	{M64, "f00308", NULL},
	{M64, "f08908", NULL},
	{M64, "f03908", NULL},
	{M64, "f08700", "lock xchg dword ptr [rax], eax"},
	{M64, "f0480fc708", "lock cmpxchg16b [rax]"},
	{M64, "0fc708", "cmpxchg8b [rax]"},
	{M64, "f0f20108", "lock add dword ptr [rax], ecx"}, /* XACQUIRE: nothing */
	{M64, "f00fa308", NULL},
	{M64, "f00fab08", "lock bts dword ptr [rax], ecx"},
	{M64, "f083380f", NULL},
	{M64, "f090", NULL},
	/* REP */
	{M64, "f3a4", "rep movsb"},
	{M64, "f348a5", "rep movsq"},
	{M64, "f3a6", "repe cmpsb"},
	{M64, "f2ae", "repne scasb"},
	{M64, "f2f3a4", "rep movsb"},
	{M64, "f3f2a4", "repne movsb"},
	{M64, "67f3ab", "rep a32 stosd"},
	{M64, "f36f", "rep outsd"},
	{M64, "f348c3", "ret"},
	{M64, "f301c8", "add eax, ecx"},
	/* Mandatory prefixes: F2 and F3 win over 66, but 66 stays an operand size */
	{M64, "f30fbcc1", "tzcnt eax, ecx"},
	{M64, "660fbcc1", "bsf ax, cx"},
	{M64, "f20fbcc1", "bsf eax, ecx"},
	{M64, "66f30fbcc1", "tzcnt ax, cx"},
	{M64, "f3660fb8c1", "popcnt ax, cx"},
	{M64, "0fb8c1", NULL},
	{M64, "f2f30fb8c1", "popcnt eax, ecx"},
	{M64, "f3f20fb8c1", NULL},
	{M64, "f20f38f0c1", "crc32 eax, cl"},
	{M64, "66f20f38f1c1", "crc32 eax, cx"},
	{M64, "f2480f38f1c1", "crc32 eax, rcx"},
	{M64, "0f38f000", "movbe eax, dword ptr [rax]"},
	{M64, "660f38f100", "movbe word ptr [rax], ax"},
	{M64, "f30f38f000", NULL},
	{M64, "0f38f0c0", NULL},
	{M64, "660f38f6c1", "adcx eax, ecx"},
	{M64, "f3480f38f6c1", "adox rax, rcx"},
	{M64, "660fc7f0", "rdrand ax"},
	{M64, "480fc7f8", "rdseed rax"},
	{M64, "f30fc7f8", NULL}, /* RDPID */
	{M64, "f30f09", "wbinvd"},
	{M64, "660fc300", NULL},
	{M64, "480fc308", "movnti qword ptr [rax], rcx"},
	/* Groups and whole bytes */
	{M64, "0f01f8", "swapgs"},
	{M32, "0f01f8", NULL},
	{M64, "0f01f9", "rdtscp"},
	{M64, "0f01d0", "xgetbv"},
	{M64, "0f01c1", "vmcall"},
	{M64, "0f01c2", NULL},
	{M64, "0f0138", "invlpg [rax]"},
	{M64, "0f0110", "lgdt [rax]"},
	{M64, "0f01e0", "smsw eax"},
	{M64, "0f0120", "smsw word ptr [rax]"},
	{M64, "0f01f0", "lmsw ax"},
	{M64, "0fae38", "clflush byte ptr [rax]"},
	{M64, "0faef0", "mfence"},
	{M64, "f30faec0", "rdfsbase eax"},
	{M64, "f3490faed8", "wrgsbase r8"},
	{M32, "f30faec0", NULL},
	{M64, "660f388208", "invpcid rcx, xmmword ptr [rax]"},
	{M32, "660f388208", "invpcid ecx, xmmword ptr [eax]"},
	{M64, "8fc0", "pop rax"},
	{M64, "8fc8", NULL},
	{M64, "c6c801", NULL},
	{M64, "fed0", NULL},
	{M64, "82c001", NULL},
	{M32, "82c001", "add al, 0x1"},
	/* System and old instructions */
	{M64, "0f05", "syscall"},
	{M32, "0f05", NULL},
	{M64, "480f07", "sysretq"},
	{M64, "0f07", "sysretd"},
	{M32, "0f34", "sysenter"},
	{M64, "480f35", "sysexitq"},
	{M64, "cd80", "int 0x80"},
	{M64, "cc", "int3"},
	{M64, "ce", NULL},
	{M32, "ce", "into"},
	{M64, "0f0b", "ud2"},
	{M64, "0fb9c1", "ud1 eax, ecx"},
	{M64, "0fff01", "ud0 eax, dword ptr [rcx]"},
	{M64, "0faa", NULL}, /* RSM */
	{M64, "0f04", NULL},
	{M64, "27", NULL},
	{M32, "27", "daa"},
	{M32, "d40a", "aam 0xa"},
	{M32, "6200", "bound eax, [eax]"},
	{M32, "62c0", NULL},
	{M64, "62f17c4828c0", NULL}, /* EVEX */
	{M64, "e410", "in al, 0x10"},
	{M64, "66e510", "in ax, 0x10"},
	{M64, "48ed", "in eax, dx"},
	{M64, "ee", "out dx, al"},
	{M64, "98", "cwde"},
	{M64, "4898", "cdqe"},
	{M64, "6699", "cwd"},
	/* VEX */
	{M64, "c4e270f2c3", "andn eax, ecx, ebx"},
	{M64, "c4e2f0f2c3", "andn rax, rcx, rbx"},
	{M64, "c44230f2c3", "andn r8d, r9d, r11d"},
	{M32, "c4e2f0f2c3", "andn eax, ecx, ebx"},
	{M64, "c4e274f2c3", NULL}, /* VEX.L */
	{M64, "c4e271f2c3", NULL}, /* another prefix */
	{M64, "c4e278f3cb", "blsr eax, ebx"},
	{M64, "c4e278f3c3", NULL},
	{M64, "c4e273f6c3", "mulx eax, ecx, ebx"},
	{M64, "c4e27bf0c305", NULL}, /* RORX is in the third map */
	{M64, "c4e37bf0c305", "rorx eax, ebx, 0x5"},
	{M64, "c4e373f0c305", NULL}, /* VEX.vvvv without a meaning */
	{M64, "c4e271f70424", "shlx eax, dword ptr [rsp], ecx"},
	{M64, "64c4e271f700", "shlx eax, dword ptr fs:[rax], ecx"},
	{M64, "66c4e270f2c3", NULL},
	{M64, "f3c4e270f2c3", NULL},
	{M64, "f0c4e270f2c3", NULL},
	{M64, "48c4e270f2c3", NULL},
	{M64, "4864c4e270f200",
		"andn eax, ecx, dword ptr fs:[rax]"}, /* a REX that does not count */
	{M64, "c4e070f2c3", NULL},
	{M64, "c4ff70f2c3", NULL},
	{M64, "c5f877", NULL}, /* VZEROUPPER: no AVX here */
	{M32, "c508", "lds ecx, far ptr [eax]"},
	{M32, "c5f828c0", NULL},
};

static unsigned parse_hex(const char *text, uint8_t bytes[HK_MAX_INSN_LEN])
{
	unsigned count = 0;

	for (; text[0] != '\0'; text += 2) {
		char byte[3] = {text[0], text[1], '\0'};

		assert_true(count < HK_MAX_INSN_LEN);
		bytes[count++] = (uint8_t)strtoul(byte, NULL, 16);
	}
	return count;
}

static struct hk_insn decode_ok(enum hk_code_mode mode, const char *hex, int off)
{
	uint8_t bytes[HK_MAX_INSN_LEN];
	unsigned len = parse_hex(hex, bytes);
	struct hk_insn insn;

	assert_int_equal(hk_decode(bytes, len, mode, ALL, off, &insn), HK_DECODE_OK);
	assert_int_equal(insn.len, len);
	assert_int_equal(insn.off, off);
	return insn;
}

static void bytes_mean_this(void **state)
{
	(void)state;
	for (size_t i = 0; i < HK_ARRAY_SIZE(text_cases); i++) {
		const struct text_case *c = &text_cases[i];
		uint8_t bytes[HK_MAX_INSN_LEN];
		unsigned len = parse_hex(c->bytes, bytes);
		char text[HK_DISASM_MAX] = "#UD";
		struct hk_insn insn;
		enum hk_decode result = hk_decode(bytes, len, c->mode, ALL, 0x234, &insn);

		if (result == HK_DECODE_OK) {
			hk_disasm(&insn, c->mode, 0x1000, text);
		}
		if (strcmp(text, c->text != NULL ? c->text : "#UD") != 0) {
			print_error("mode %u, %s: %s\n", c->mode, c->bytes, text);
		}
		assert_string_equal(text, c->text != NULL ? c->text : "#UD");
		assert_int_equal(result, c->text != NULL ? HK_DECODE_OK : HK_DECODE_UD);
		if (c->text != NULL) {
			assert_int_equal(insn.len, len);
		}
	}
}

static void missing_features_leave_the_older_instruction(void **state)
{
	static const struct {
		const char *bytes, *text;
	} cases[] = {
		{"f30fbcc1", "bsf eax, ecx"},
		{"f30fbdc1", "bsr eax, ecx"},
		{"f30faec0", NULL},
		{"c4e270f2c3", NULL},
		{"0f38f000", NULL},
		{"0fc7f0", NULL},
		{"0f01ca", NULL},
		{"660f388208", NULL},
	};

	(void)state;
	for (size_t i = 0; i < HK_ARRAY_SIZE(cases); i++) {
		uint8_t bytes[HK_MAX_INSN_LEN];
		unsigned len = parse_hex(cases[i].bytes, bytes);
		char text[HK_DISASM_MAX];
		struct hk_insn insn;
		enum hk_decode result = hk_decode(bytes, len, M64, BASE_ONLY, 0, &insn);

		assert_int_equal(result, cases[i].text != NULL ? HK_DECODE_OK : HK_DECODE_UD);
		if (cases[i].text != NULL) {
			hk_disasm(&insn, M64, 0, text);
			assert_string_equal(text, cases[i].text);
		}
	}
}

static void fields(void **state)
{
	struct hk_insn insn;

	(void)state;
	/* add [rax+rcx*4+0x10], edx */
	insn = decode_ok(M64, "01548810", 0);
	assert_int_equal(hk_insn_form(&insn), HK_FORM_RM_REG);
	assert_int_equal(hk_insn_size(&insn), 2);
	assert_int_equal(hk_insn_bytes(&insn), 4);
	assert_int_equal(hk_insn_addr_size(&insn), 3);
	assert_int_equal(hk_insn_scale(&insn), 2);
	assert_int_equal(hk_insn_seg(&insn), HK_DS);
	assert_true(hk_insn_mem(&insn));
	assert_int_equal(insn.base, HK_RAX);
	assert_int_equal(insn.index, HK_RCX);
	assert_int_equal(insn.reg, HK_RDX);
	assert_int_equal(insn.disp, 0x10);
	assert_null(insn.exec);

	/* Forms */
	assert_int_equal(hk_insn_form(&(struct hk_insn){.flags = decode_ok(M64, "03c1", 0).flags}),
		HK_FORM_REG_RM);
	insn = decode_ok(M64, "0405", 0); /* add al, 5 */
	assert_int_equal(hk_insn_form(&insn), HK_FORM_RM_IMM);
	assert_int_equal(insn.base, HK_RAX);
	assert_int_equal(insn.imm, 5);
	insn = decode_ok(M64, "b505", 0); /* mov ch, 5 */
	assert_int_equal(hk_insn_form(&insn), HK_FORM_RM_IMM);
	assert_int_equal(insn.base, 9);
	insn = decode_ok(M64, "d3c1", 0); /* rol ecx, cl */
	assert_int_equal(hk_insn_form(&insn), HK_FORM_RM_REG);
	assert_int_equal(insn.reg, 8);
	insn = decode_ok(M64, "d1c1", 0); /* rol ecx, 1 */
	assert_int_equal(hk_insn_form(&insn), HK_FORM_RM_IMM);
	assert_int_equal(insn.imm, 1);
	insn = decode_ok(M64, "50", 0); /* push rax */
	assert_int_equal(hk_insn_form(&insn), HK_FORM_RM);
	insn = decode_ok(M64, "4993", 0); /* xchg r11, rax */
	assert_int_equal(hk_insn_form(&insn), HK_FORM_RM_REG);
	assert_int_equal(insn.base, HK_R11);
	assert_int_equal(insn.reg, HK_RAX);
	insn = decode_ok(M64, "a08877665544332211", 0); /* mov al, moffs */
	assert_int_equal(hk_insn_form(&insn), HK_FORM_REG_RM);
	assert_int_equal(insn.imm, 0x1122334455667788);
	assert_false(insn.flags & HK_INSN_PLAIN);
	insn = decode_ok(M64, "0fa0", 0); /* push fs */
	assert_int_equal(insn.reg, HK_FS);

	/* Sizes: that of v, else of rm */
	assert_int_equal(decode_ok(M64, "480fb6c0", 0).flags & HK_INSN_SIZE, 3);
	assert_int_equal(decode_ok(M64, "8c18", 0).flags & HK_INSN_SIZE, 1);
	assert_int_equal(decode_ok(M64, "f2480f38f0c0", 0).flags & HK_INSN_SIZE, 0);
	assert_int_equal(decode_ok(M64, "48ee", 0).flags & HK_INSN_SIZE, 0);
	assert_int_equal(decode_ok(M64, "48ef", 0).flags & HK_INSN_SIZE, 2);
	assert_int_equal(decode_ok(M64, "6a00", 0).flags & HK_INSN_SIZE, 3);
	assert_int_equal(decode_ok(M64, "c3", 0).flags & HK_INSN_SIZE, 3);
	assert_int_equal(decode_ok(M32, "c3", 0).flags & HK_INSN_SIZE, 2);
	assert_int_equal(decode_ok(M64, "48cf", 0).flags & HK_INSN_SIZE, 3);

	/* Immediates that are put together */
	assert_int_equal(decode_ok(M64, "c8341205", 0).imm, 0x51234);
	assert_int_equal(decode_ok(M32, "ea785634120800", 0).imm, 0x812345678);
	assert_int_equal(decode_ok(M32, "66ea78560800", 0).imm, 0x800005678);
	assert_int_equal(decode_ok(M64, "4881c0ffffffff", 0).imm, UINT64_MAX);

	/* Conditions, segments of far pointers, VEX.vvvv */
	assert_int_equal(decode_ok(M64, "0f9fc0", 0).cond, 15);
	assert_int_equal(decode_ok(M64, "0fb400", 0).cond, HK_FS);
	assert_int_equal(decode_ok(M32, "c400", 0).cond, HK_ES);
	assert_int_equal(decode_ok(M32, "c500", 0).cond, HK_DS);
	assert_int_equal(decode_ok(M64, "0fb200", 0).cond, HK_SS);
	assert_int_equal(decode_ok(M64, "c4e208f2c3", 0).aux, HK_R14);
	assert_int_equal(decode_ok(M32, "c4e230f2c3", 0).aux, HK_RCX);
}

static void plain_addresses(void **state)
{
	(void)state;
	assert_true(decode_ok(M64, "8b00", 0).flags & HK_INSN_PLAIN);
	assert_true(decode_ok(M64, "8b0424", 0).flags & HK_INSN_PLAIN); /* SS, too */
	assert_int_equal(
		(decode_ok(M64, "8b0424", 0).flags & HK_INSN_SEG) >> HK_INSN_SEG_SHIFT, HK_SS);
	assert_true(decode_ok(M64, "8b0500000000", 0).flags & HK_INSN_PLAIN);
	assert_true(decode_ok(M64, "2e8b00", 0).flags & HK_INSN_PLAIN);
	assert_false(decode_ok(M64, "648b00", 0).flags & HK_INSN_PLAIN);
	assert_false(decode_ok(M64, "678b00", 0).flags & HK_INSN_PLAIN);
	assert_false(decode_ok(M32, "8b00", 0).flags & HK_INSN_PLAIN);
	assert_false(decode_ok(M64, "89c8", 0).flags & HK_INSN_PLAIN);
}

static void positions_count_from_the_page(void **state)
{
	static const uint8_t far_jump[] = {0xe9, 0xff, 0xff, 0xff, 0x7f};
	static const uint8_t far_load[] = {0x8b, 0x05, 0xff, 0xff, 0xff, 0x7f};
	struct hk_insn insn;

	(void)state;
	insn = decode_ok(M64, "e9f0ffffff", 0x100);
	assert_int_equal(insn.disp, 0x100 + 5 - 0x10);
	assert_null(insn.target);
	assert_int_equal(insn.link_gen, 0);
	insn = decode_ok(M64, "8b0510000000", 0x100);
	assert_int_equal(insn.base, HK_REG_PAGE);
	assert_int_equal(insn.index, HK_REG_ZERO);
	assert_int_equal(insn.disp, 0x100 + 6 + 0x10);

	assert_int_equal(hk_decode(far_jump, 5, M64, ALL, 0, &insn), HK_DECODE_FAR);
	assert_int_equal(insn.len, 5);
	assert_int_equal(hk_decode(far_jump, 5, M64, ALL, -5, &insn), HK_DECODE_OK);
	assert_int_equal(insn.disp, INT32_MAX);
	assert_int_equal(hk_decode(far_load, 6, M64, ALL, 0xff0, &insn), HK_DECODE_FAR);
	assert_int_equal(insn.len, 6);
	assert_int_equal(hk_decode(far_load, 6, M64, ALL, -6, &insn), HK_DECODE_OK);
	/* 32-bit addresses wrap around. */
	assert_int_equal(hk_decode(far_jump, 5, M32, ALL, 0x10, &insn), HK_DECODE_OK);
	assert_int_equal((uint32_t)insn.disp, 0x80000014);
}

static void fifteen_bytes_at_most(void **state)
{
	uint8_t bytes[32];
	struct hk_insn insn;

	(void)state;
	memset(bytes, 0x66, sizeof(bytes));
	assert_int_equal(hk_decode(bytes, 0, M64, ALL, 0, &insn), HK_DECODE_SHORT);
	assert_int_equal(hk_decode(bytes, 14, M64, ALL, 0, &insn), HK_DECODE_SHORT);
	assert_int_equal(hk_decode(bytes, 15, M64, ALL, 0, &insn), HK_DECODE_LONG);
	assert_int_equal(hk_decode(bytes, 32, M64, ALL, 0, &insn), HK_DECODE_LONG);
	bytes[14] = 0x90;
	assert_int_equal(hk_decode(bytes, 15, M64, ALL, 0, &insn), HK_DECODE_OK);
	assert_int_equal(insn.len, 15);
	bytes[14] = 0x66;
	bytes[15] = 0x90;
	assert_int_equal(hk_decode(bytes, 16, M64, ALL, 0, &insn), HK_DECODE_LONG);
	/* ModRM is the fifteenth byte, the displacement the sixteenth. */
	bytes[13] = 0x8b;
	bytes[14] = 0x40;
	assert_int_equal(hk_decode(bytes, 15, M64, ALL, 0, &insn), HK_DECODE_LONG);
	bytes[14] = 0xc0;
	assert_int_equal(hk_decode(bytes, 15, M64, ALL, 0, &insn), HK_DECODE_OK);
}

/* ---- The table itself ---- */

static bool has_operand(const struct hk_isa_row *row, const char *places)
{
	struct hk_operand operands[HK_MAX_OPERANDS];
	unsigned count = hk_isa_operands(row, operands);

	for (unsigned i = 0; i < count; i++) {
		if (strchr(places, operands[i].place) != NULL) {
			return true;
		}
	}
	return false;
}

static unsigned span(const struct hk_isa_row *row)
{
	return (row->flags & HK_ROW_CC) != 0 ? 16 : has_operand(row, "Z") ? 8 : 1;
}

static bool has_modrm(const struct hk_isa_row *row)
{
	return row->ext != EXT_ANY || has_operand(row, "EGRMSCDVWUPQNT") ||
		row->map == HK_MAP_0F38 || row->map == HK_MAP_0F3A;
}

static void rows_are_well_written(void **state)
{
	struct hk_operand operands[HK_MAX_OPERANDS];

	(void)state;
	assert_true(hk_isa_count > 300);
	for (unsigned i = 0; i < hk_isa_count; i++) {
		const struct hk_isa_row *row = &hk_isa[i];
		bool vex = row->map >= HK_MAP_V1;

		if (hk_isa_operands(row, operands) > HK_MAX_OPERANDS) {
			print_error("%s %s\n", row->name, row->operands);
		}
		assert_true(hk_isa_operands(row, operands) <= HK_MAX_OPERANDS);
		assert_true(row->op + span(row) <= 256);
		assert_true(span(row) == 1 || row->op % 8 == 0);
		assert_true(row->feature < HK_FEAT_COUNT);
		assert_true(strlen(row->name) > 0);
		assert_int_equal(row->flags & HK_ROW_I64 && row->flags & HK_ROW_O64, 0);
		assert_int_equal(row->flags & HK_ROW_W0 && row->flags & HK_ROW_W1, 0);
		assert_int_equal(has_operand(row, "B") && !vex, 0);
		assert_int_equal((row->flags & HK_ROW_L0) != 0, vex);
		assert_int_equal(vex && row->pp == HK_PP_ANY, 0);
	}
}

/* The prefixes, modes and ModRM bytes of a row as sets of bits. */
static bool match_modrm(const struct hk_isa_row *row, unsigned modrm)
{
	bool memory = modrm < 0xc0;
	bool control = has_operand(row, "CD");

	if (!control &&
		((memory && (row->ext & EXT_REG) != 0) || (!memory && (row->ext & EXT_MEM) != 0) ||
			(memory && has_operand(row, "RUNT")) ||
			(!memory && has_operand(row, "M")))) {
		return false;
	}
	if ((row->ext & EXT_HAS_BYTE) != 0) {
		return modrm == row->ext >> 8;
	}
	return (row->ext & EXT_HAS_N) == 0 || (modrm >> 3 & 7) == (row->ext & 7u);
}

static bool overlap(const struct hk_isa_row *a, const struct hk_isa_row *b)
{
	const uint16_t modes = HK_ROW_I64 | HK_ROW_O64, w = HK_ROW_W0 | HK_ROW_W1;

	if (a->map != b->map || a->op >= b->op + span(b) || b->op >= a->op + span(a)) {
		return false;
	}
	/* Named prefixes win over ANY, single opcodes over those with a register in them. */
	if (a->pp != b->pp || span(a) != span(b)) {
		return false;
	}
	if (((a->flags | b->flags) & modes) == modes || ((a->flags | b->flags) & w) == w) {
		return false;
	}
	for (unsigned modrm = 0; modrm < 256; modrm++) {
		if (match_modrm(a, modrm) && match_modrm(b, modrm)) {
			return true;
		}
	}
	return false;
}

static void no_two_rows_conflict(void **state)
{
	bool conflict = false;

	(void)state;
	for (unsigned i = 0; i < hk_isa_count; i++) {
		for (unsigned k = 0; k < i; k++) {
			const struct hk_isa_row *a = &hk_isa[i], *b = &hk_isa[k];
			bool same_opcode = a->map == b->map && a->op == b->op;

			if (same_opcode && has_modrm(a) != has_modrm(b)) {
				print_error("%s and %s: one has ModRM\n", a->name, b->name);
				conflict = true;
			} else if (overlap(a, b)) {
				print_error("%s %s and %s %s conflict\n", a->name, a->operands,
					b->name, b->operands);
				conflict = true;
			}
		}
	}
	assert_false(conflict);
}

/* ---- Against objdump ---- */

enum { VARIANTS = 8, SLOT = 32, MAX_TEXT = 256 };

static uint64_t seed;

static unsigned random_below(unsigned n)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(seed >> 33) % n;
}

/* A ModRM byte that the row accepts */
static uint8_t random_modrm(const struct hk_isa_row *row)
{
	unsigned modrm = random_below(256);

	while (!match_modrm(row, modrm)) {
		modrm = (modrm + 1) & 255;
	}
	return (uint8_t)modrm;
}

/*
 * An encoding of the row as compilers would write it: prefixes in the usual order, none without a
 * meaning.
 */
static void make_bytes(
	const struct hk_isa_row *row, unsigned op, enum hk_code_mode mode, uint8_t bytes[SLOT])
{
	static const uint8_t pp_bytes[] = {[HK_PP_66] = 0x66, [HK_PP_F3] = 0xf3, [HK_PP_F2] = 0xf2};
	static const uint8_t vex_pp[] = {[HK_PP_66] = 1, [HK_PP_F3] = 2, [HK_PP_F2] = 3};
	bool memory = has_operand(row, "EMWQ");
	bool branch = has_operand(row, "J");
	bool vex = row->map >= HK_MAP_V1;
	unsigned w = (row->flags & HK_ROW_W1) != 0 ||
		((row->flags & HK_ROW_W0) == 0 && random_below(3) == 0);
	unsigned n = 0;

	for (unsigned i = 0; i < SLOT; i++) {
		bytes[i] = (uint8_t)random_below(256);
	}
	if (memory && random_below(6) == 0) {
		bytes[n++] = random_below(2) != 0 ? 0x64 : 0x65;
	}
	if (memory && random_below(6) == 0) {
		bytes[n++] = 0x67;
	}
	if ((row->flags & HK_ROW_REP) != 0 && random_below(2) != 0) {
		bytes[n++] = random_below(2) != 0 ? 0xf2 : 0xf3;
	}
	if (vex) {
		bytes[n++] = 0xc4;
		bytes[n++] = (uint8_t)((mode == HK_CODE_64 ? random_below(8) << 5 : 0xe0) |
			(row->map - HK_MAP_V1 + 1));
		bytes[n++] = (uint8_t)((mode == HK_CODE_64 ? w << 7 : 0) |
			(has_operand(row, "B") ? (random_below(8) | 8) << 3 : 0x78) |
			vex_pp[row->pp]);
	} else {
		if (row->pp == HK_PP_ANY
				? !branch && has_operand(row, "EGZ") && random_below(4) == 0
				: row->pp >= HK_PP_66) {
			bytes[n++] = row->pp == HK_PP_ANY ? 0x66 : pp_bytes[row->pp];
		}
		if (mode == HK_CODE_64 && (w != 0 || random_below(3) == 0)) {
			bytes[n++] = (uint8_t)(0x40 | w << 3 | random_below(8));
		}
		if (row->map != HK_MAP_L) {
			bytes[n++] = 0x0f;
		}
		if (row->map >= HK_MAP_0F38) {
			bytes[n++] = row->map == HK_MAP_0F38 ? 0x38 : 0x3a;
		}
	}
	bytes[n++] = (uint8_t)op;
	if (has_modrm(row)) {
		bytes[n] = random_modrm(row);
	}
}

/* What objdump shows in another way, or does not know: only the length counts, or not even that. */
static const char *const names_that_differ[] = {"xlat", "pause", "xchg", "crc32", "lar", "lsl",
	"movsxd", "movmskps", "movmskpd", "pmovmskb", "cmpps", "cmppd", "cmpss", "cmpsd",
	"pclmulqdq", "nop"};
static const char *const names_not_known[] = {"salc", "nop", "lfence", "mfence", "sfence", "fwait",
	"fneni", "fndisi", "fnsetpm", "fcom2", "fcomp3", "fxch4", "fcomp5", "fxch7", "fstp8",
	"fstp9", "fstpnce"};
static const char *const prefix_names[] = {"rep", "repz", "repnz", "repe", "repne", "lock",
	"data16", "data32", "addr16", "addr32", "a16", "a32", "bnd", "notrack", "cs", "ds", "es",
	"fs", "gs", "ss"};
static const char *const size_names[] = {"byte", "word", "dword", "qword", "tbyte", "fword",
	"xmmword", "mmword", "oword", "far", "ptr", "short"};

static bool is_among(const char *word, const char *const *words, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (strcmp(word, words[i]) == 0) {
			return true;
		}
	}
	return false;
}

static void remove_all(char *text, const char *part)
{
	char *at;

	while ((at = strstr(text, part)) != NULL) {
		memmove(at, at + strlen(part), strlen(at + strlen(part)) + 1);
	}
}

/* An index that is none, a displacement that is zero: objdump shows that they were written. */
static void remove_nothings(char *text)
{
	char *at;

	while ((at = strstr(text, "+riz*")) != NULL || (at = strstr(text, "+eiz*")) != NULL) {
		memmove(at, at + 6, strlen(at + 6) + 1);
	}
	for (at = text; (at = strstr(at, "+0x0")) != NULL; at++) {
		if (at[4] == '\0' || at[4] == ',') {
			memmove(at, at + 4, strlen(at + 4) + 1);
		}
	}
}

/*
 * One spelling for both disassemblers: the name without prefixes, the operands without spaces,
 * sizes and brackets.
 */
static void canonical(const char *text, char name[MAX_TEXT], char operands[MAX_TEXT])
{
	static const char *const parts[] = {"[rel", "[", "]", "ds:", "ss:", "es:"};
	const char *comment = strstr(text, "# 0x");
	char words[MAX_TEXT], *save = NULL, *rip;
	size_t n = strcspn(text, "#<");

	name[0] = operands[0] = '\0';
	for (size_t i = 0; i <= n && i + 1 < sizeof(words); i++) {
		words[i] = i < n ? (char)tolower((unsigned char)text[i]) : '\0';
	}
	words[sizeof(words) - 1] = '\0';
	rip = strstr(words, "[rip");
	if (comment != NULL && rip != NULL) {
		char after[MAX_TEXT];

		/* [rip+0x10]  # 0x1016 */
		snprintf(after, sizeof(after), "%s", rip + strcspn(rip, "]"));
		snprintf(rip, sizeof(words) - (size_t)(rip - words), "[0x%llx%s",
			strtoull(comment + 2, NULL, 16), after);
	}
	for (char *w = strtok_r(words, " \t\n", &save); w != NULL;
		w = strtok_r(NULL, " \t\n", &save)) {
		if (name[0] == '\0') {
			if (strncmp(w, "rex", 3) != 0 &&
				!is_among(w, prefix_names, HK_ARRAY_SIZE(prefix_names))) {
				snprintf(name, MAX_TEXT, "%s", w);
			}
		} else {
			size_t len = strlen(operands);
			char *at = strrchr(w, ',');

			/* "eax,DWORD PTR [rax]" */
			if (is_among(at != NULL ? at + 1 : w, size_names,
				    HK_ARRAY_SIZE(size_names))) {
				w[at != NULL ? at + 1 - w : 0] = '\0';
			}
			snprintf(operands + len, MAX_TEXT - len, "%s", w);
		}
	}
	for (size_t i = 0; i < HK_ARRAY_SIZE(parts); i++) {
		remove_all(operands, parts[i]);
	}
	remove_nothings(operands);
}

/* Suffixes come and go: PUSHF and PUSHFQ, MOV and MOVABS. */
static bool same_name(const char *a, const char *b)
{
	size_t n = HK_MIN(strlen(a), strlen(b));

	return n > 0 && strncmp(a, b, n) == 0 && strlen(a) <= n + 3 && strlen(b) <= n + 3;
}

static bool agrees(const struct hk_insn *insn, enum hk_code_mode mode, unsigned at,
	const char *theirs, unsigned their_len)
{
	const struct hk_isa_row *row = &hk_isa[insn->row];
	char ours[HK_DISASM_MAX];
	char name[2][MAX_TEXT], operands[2][MAX_TEXT];

	if (is_among(row->name, names_not_known, HK_ARRAY_SIZE(names_not_known))) {
		return true;
	}
	hk_disasm(insn, mode, at, ours);
	canonical(ours, name[0], operands[0]);
	canonical(theirs, name[1], operands[1]);
	if (insn->len == their_len &&
		(is_among(name[0], names_that_differ, HK_ARRAY_SIZE(names_that_differ)) ||
			(same_name(name[0], name[1]) &&
				(strcmp(operands[0], operands[1]) == 0 || has_operand(row, "XYS") ||
					(mode == HK_CODE_16 && has_operand(row, "J")) ||
					strstr(theirs, "[eip") != NULL ||
					strstr(theirs, "[riz") != NULL ||
					strstr(theirs, "[eiz") != NULL)))) {
		return true;
	}
	print_error("at %x, mode %u: %s (%u bytes), objdump: %s (%u bytes)\n", at, mode, ours,
		insn->len, theirs, their_len);
	return false;
}

/* "   1a:\t48 89 c8             \tmov    rax,rcx" */
static bool parse_line(char *line, unsigned *ret_at, unsigned *ret_len, const char **ret_text)
{
	char *end;

	*ret_at = (unsigned)strtoul(line, &end, 16);
	if (end == line || end[0] != ':' || end[1] != '\t') {
		return false;
	}
	*ret_len = 0;
	for (line = end + 2; isxdigit((unsigned char)line[0]); line += 3) {
		++*ret_len;
	}
	line = strchr(line, '\t');
	if (line == NULL) {
		return false;
	}
	line[strcspn(line, "\n")] = '\0';
	*ret_text = line + 1;
	return true;
}

/*
 * Every row in @mode, VARIANTS times, SLOT bytes apart, the rest NOPs. Return: how many there are.
 */
static unsigned write_rows(FILE *out, enum hk_code_mode mode)
{
	unsigned not_in_mode = mode == HK_CODE_64 ? HK_ROW_I64 : HK_ROW_O64;
	unsigned count = 0;

	for (unsigned i = 0; i < hk_isa_count; i++) {
		const struct hk_isa_row *row = &hk_isa[i];
		unsigned good = 0,
			 tried = (row->flags & not_in_mode) != 0 ? 0 : VARIANTS * span(row);

		/* 32-bit modes have no W to set. */
		if (mode != HK_CODE_64 && (row->flags & HK_ROW_W1) != 0) {
			tried = 0;
		}
		for (unsigned v = 0; v < tried; v++) {
			uint8_t bytes[SLOT];
			struct hk_insn insn;

			make_bytes(row, row->op + v / VARIANTS, mode, bytes);
			/* No such register */
			if (hk_decode(bytes, SLOT, mode, ALL, 0, &insn) != HK_DECODE_OK) {
				continue;
			}
			assert_true(insn.row == i || row->op == 0x90);
			memset(bytes + insn.len, 0x90, SLOT - insn.len);
			assert_int_equal(fwrite(bytes, 1, SLOT, out), SLOT);
			good++;
		}
		if (good < tried / (has_operand(row, "SCD") ? 16 : 1)) {
			print_error(
				"%s %s: %u of %u decode\n", row->name, row->operands, good, tried);
			fail();
		}
		count += good;
	}
	return count;
}

static void objdump_agrees(enum hk_code_mode mode, const char *machine)
{
	char path[] = "/tmp/hako-decode-XXXXXX", command[256], line[512];
	int fd = mkstemp(path);
	uint8_t bytes[SLOT];
	unsigned count, seen = 0, wrong = 0;
	FILE *code, *listing;

	assert_true(fd >= 0);
	code = fdopen(fd, "w+");
	assert_non_null(code);
	seed = mode;
	count = write_rows(code, mode);
	assert_int_equal(fflush(code), 0);
	snprintf(command, sizeof(command),
		"objdump -D -b binary -m %s -w --insn-width=15 %s 2>/dev/null", machine, path);
	listing = popen(command, "r");
	assert_non_null(listing);
	while (fgets(line, sizeof(line), listing) != NULL) {
		struct hk_insn insn;
		const char *text;
		unsigned at, len;

		if (!parse_line(line, &at, &len, &text) || at % SLOT != 0) {
			continue;
		}
		assert_int_equal(fseek(code, at, SEEK_SET), 0);
		assert_int_equal(fread(bytes, 1, SLOT, code), SLOT);
		assert_int_equal(hk_decode(bytes, SLOT, mode, ALL, 0, &insn), HK_DECODE_OK);
		wrong += agrees(&insn, mode, at, text, len) ? 0 : 1;
		seen++;
	}
	pclose(listing);
	fclose(code);
	unlink(path);
	if (seen == 0 && getenv("MUST_WORK") == NULL) {
		print_message("no objdump for %s here\n", machine);
		skip();
	}
	assert_int_equal(seen, count);
	assert_int_equal(wrong, 0);
}

static void objdump_agrees_64(void **state)
{
	(void)state;
	objdump_agrees(HK_CODE_64, "i386:x86-64 -M intel,intel64");
}

static void objdump_agrees_32(void **state)
{
	(void)state;
	objdump_agrees(HK_CODE_32, "i386 -M intel");
}

static void objdump_agrees_16(void **state)
{
	(void)state;
	objdump_agrees(HK_CODE_16, "i8086 -M intel");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_mean_this),
		cmocka_unit_test(missing_features_leave_the_older_instruction),
		cmocka_unit_test(fields),
		cmocka_unit_test(plain_addresses),
		cmocka_unit_test(positions_count_from_the_page),
		cmocka_unit_test(fifteen_bytes_at_most),
		cmocka_unit_test(rows_are_well_written),
		cmocka_unit_test(no_two_rows_conflict),
		cmocka_unit_test(objdump_agrees_64),
		cmocka_unit_test(objdump_agrees_32),
		cmocka_unit_test(objdump_agrees_16),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
