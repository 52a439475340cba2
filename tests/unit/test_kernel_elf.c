/* SPDX-License-Identifier: ISC */
/* ELF kernels and modules: what is read from them, and what is not believed. */
#include <elf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/util.h"
#include "kernel/elf_file.h"
#include "kernel/release.h"
#include "test_kernel_fixture.h"

static void test_kernel(void **state)
{
	for (int pvh = 0; pvh <= 1; pvh++) {
		struct fx_bytes kernel = fx_vmlinux(FX_RELEASE, pvh != 0, "", 100);
		struct hk_err err = HK_ERR_INIT;
		char release[65];
		bool has_pvh = !pvh;

		assert_int_equal(hk_elf_check_kernel(kernel.data, kernel.len, &has_pvh, &err), 0);
		assert_int_equal(has_pvh, pvh);
		assert_int_equal(hk_elf_kernel_release(kernel.data, kernel.len, release, 65), 0);
		assert_string_equal(release, FX_RELEASE);
		/* No room for it is as if there was none. */
		assert_int_equal(
			hk_elf_kernel_release(kernel.data, kernel.len, release, 5), -ENOENT);
		free(kernel.data);
	}
}

static void test_damaged_kernel(void **state)
{
	enum { PHDR = sizeof(Elf64_Ehdr), NOTE = sizeof(Elf64_Ehdr) + 2 * sizeof(Elf64_Phdr) };
	static const struct {
		size_t offset;
		unsigned size;
		uint64_t value;
		int result; /* 1: good, but without PVH */
		const char *text;
	} cases[] = {
		{0, 1, 'E', -ENOEXEC, "not an ELF file"},
		{EI_CLASS, 1, ELFCLASS32, -ENOEXEC, "not for x86-64"},
		{EI_DATA, 1, ELFDATA2MSB, -ENOEXEC, "not for x86-64"},
		{offsetof(Elf64_Ehdr, e_machine), 2, EM_AARCH64, -ENOEXEC, "not for x86-64"},
		{offsetof(Elf64_Ehdr, e_type), 2, ET_REL, -ENOEXEC,
			"an ELF file that is not a program"},
		{offsetof(Elf64_Ehdr, e_phentsize), 2, 32, -EBADMSG,
			"the ELF program headers are corrupt"},
		{offsetof(Elf64_Ehdr, e_phnum), 2, 0xffff, -EBADMSG,
			"the ELF program headers are corrupt"},
		{offsetof(Elf64_Ehdr, e_phnum), 2, 0, -ENOEXEC, "an ELF file with nothing to load"},
		{offsetof(Elf64_Ehdr, e_phoff), 8, UINT64_MAX, -EBADMSG,
			"the ELF program headers are corrupt"},
		{PHDR + offsetof(Elf64_Phdr, p_offset), 8, UINT64_MAX, -EBADMSG,
			"ELF segment 0 is not all in the file, which may be cut short"},
		{PHDR + offsetof(Elf64_Phdr, p_filesz), 8, UINT64_MAX, -EBADMSG,
			"ELF segment 0 is not all in the file, which may be cut short"},
		{PHDR + offsetof(Elf64_Phdr, p_memsz), 8, 0, -ENOEXEC,
			"an ELF file with nothing to load"},
		{PHDR + sizeof(Elf64_Phdr) + offsetof(Elf64_Phdr, p_filesz), 8, UINT64_MAX,
			-EBADMSG, "ELF segment 1 is not all in the file, which may be cut short"},
		{NOTE + offsetof(Elf64_Nhdr, n_namesz), 4, UINT32_MAX, 1, NULL},
		{NOTE + offsetof(Elf64_Nhdr, n_descsz), 4, UINT32_MAX, 1, NULL},
		{NOTE + offsetof(Elf64_Nhdr, n_descsz), 4, 3, 1, NULL},
		{NOTE + offsetof(Elf64_Nhdr, n_type), 4, 17, 1, NULL},
		{NOTE + sizeof(Elf64_Nhdr), 4, 0x006e6559, 1, NULL}, /* "Yen" */
	};

	for (size_t i = 0; i < HK_ARRAY_SIZE(cases); i++) {
		struct fx_bytes kernel = fx_vmlinux(FX_RELEASE, true, "", 100);
		struct hk_err err = HK_ERR_INIT;
		uint8_t value[8];
		bool pvh = true;
		int r;

		hk_store_le64(value, cases[i].value);
		memcpy(kernel.data + cases[i].offset, value, cases[i].size);
		r = hk_elf_check_kernel(kernel.data, kernel.len, &pvh, &err);
		assert_int_equal(r, HK_MIN(cases[i].result, 0));
		if (cases[i].text != NULL) {
			assert_string_equal(hk_err_text(&err), cases[i].text);
		} else {
			assert_false(pvh);
		}
		free(kernel.data);
	}
}

static void test_cut_short(void **state)
{
	struct fx_bytes kernel = fx_vmlinux(FX_RELEASE, true, "", 100);
	struct fx_bytes module = fx_module("a", "b,c", FX_RELEASE);

	for (size_t len = 0; len < kernel.len; len++) {
		struct hk_err err = HK_ERR_INIT;
		uint8_t *cut = malloc(len + (len == 0));
		bool pvh;

		memcpy(cut, kernel.data, len);
		assert_int_equal(hk_elf_check_kernel(cut, len, &pvh, &err),
			len < SELFMAG ? -ENOEXEC : -EBADMSG);
		free(cut);
	}
	for (size_t len = 0; len < module.len; len++) {
		struct hk_err err = HK_ERR_INIT;
		uint8_t *cut = malloc(len + (len == 0));
		struct hk_modinfo modinfo;

		memcpy(cut, module.data, len);
		assert_int_equal(hk_elf_modinfo(cut, len, &modinfo, &err),
			len < SELFMAG ? -ENOEXEC : -EBADMSG);
		free(cut);
	}
	free(kernel.data);
	free(module.data);
}

static void test_modinfo(void **state)
{
	struct fx_bytes module = fx_module("a", "b,c-d", FX_RELEASE);
	struct fx_bytes kernel = fx_vmlinux(FX_RELEASE, true, "", 100);
	struct hk_err err = HK_ERR_INIT;
	struct hk_modinfo modinfo;

	assert_int_equal(hk_elf_modinfo(module.data, module.len, &modinfo, &err), 0);
	assert_string_equal(modinfo.depends, "b,c-d");
	assert_int_equal(modinfo.release_len, strlen(FX_RELEASE));
	assert_memory_equal(modinfo.release, FX_RELEASE, modinfo.release_len);

	assert_int_equal(hk_elf_modinfo(kernel.data, kernel.len, &modinfo, &err), -ENOEXEC);
	assert_string_equal(hk_err_text(&err), "not a kernel module");
	free(module.data);
	free(kernel.data);
}

static void test_damaged_module(void **state)
{
	enum {
		NAMES = sizeof(Elf64_Ehdr) + sizeof(Elf64_Shdr),
		MODINFO = NAMES + sizeof(Elf64_Shdr)
	};
	static const struct {
		size_t offset;
		unsigned size;
		uint64_t value;
		int result;
	} cases[] = {
		{offsetof(Elf64_Ehdr, e_shoff), 8, UINT64_MAX, -EBADMSG},
		{offsetof(Elf64_Ehdr, e_shnum), 2, 0xffff, -EBADMSG},
		{offsetof(Elf64_Ehdr, e_shnum), 2, 0, -EBADMSG},
		{offsetof(Elf64_Ehdr, e_shnum), 2, 2, -ENOEXEC},
		{offsetof(Elf64_Ehdr, e_shentsize), 2, 0, -EBADMSG},
		{offsetof(Elf64_Ehdr, e_shstrndx), 2, 3, -EBADMSG},
		{NAMES + offsetof(Elf64_Shdr, sh_offset), 8, UINT64_MAX, -EBADMSG},
		{NAMES + offsetof(Elf64_Shdr, sh_size), 8, UINT64_MAX, -EBADMSG},
		{NAMES + offsetof(Elf64_Shdr, sh_size), 8, 0, -ENOEXEC},
		{MODINFO + offsetof(Elf64_Shdr, sh_name), 4, UINT32_MAX, -ENOEXEC},
		{MODINFO + offsetof(Elf64_Shdr, sh_offset), 8, UINT64_MAX - 1, -EBADMSG},
		{MODINFO + offsetof(Elf64_Shdr, sh_size), 8, UINT64_MAX - 1, -EBADMSG},
		{MODINFO + offsetof(Elf64_Shdr, sh_type), 4, SHT_NOBITS, -EBADMSG},
		{MODINFO + offsetof(Elf64_Shdr, sh_size), 8, 0, 0},
	};

	for (size_t i = 0; i < HK_ARRAY_SIZE(cases); i++) {
		struct fx_bytes module = fx_module("a", "b", FX_RELEASE);
		struct hk_err err = HK_ERR_INIT;
		struct hk_modinfo modinfo;
		uint8_t value[8];

		hk_store_le64(value, cases[i].value);
		memcpy(module.data + cases[i].offset, value, cases[i].size);
		assert_int_equal(
			hk_elf_modinfo(module.data, module.len, &modinfo, &err), cases[i].result);
		if (cases[i].result == 0) {
			assert_string_equal(modinfo.depends, "");
			assert_null(modinfo.release);
		}
		free(module.data);
	}
}

static void test_release(void **state)
{
	static const struct {
		const char *text;
		const char *release; /* NULL: refused */
	} cases[] = {
		{"6.1.0-56-cloud-amd64 (debian", "6.1.0-56-cloud-amd64"},
		{"6.1", "6.1"},
		{"6.1\n", "6.1"},
		{"6.12.9+bpo~1_x", "6.12.9+bpo~1_x"},
		{"", NULL},
		{" 6.1", NULL},
		{"v6.1", NULL},
		{"../6", NULL},
		{"6/1", NULL},
		{"6.1\t", NULL},
		{"6.1\xc3\xa4", NULL},
		{"%s (", NULL},
	};

	for (size_t i = 0; i < HK_ARRAY_SIZE(cases); i++) {
		char release[65] = "untouched";
		int r = hk_release_parse(
			cases[i].text, strlen(cases[i].text), release, sizeof(release));

		assert_int_equal(r, cases[i].release != NULL ? 0 : -EINVAL);
		assert_string_equal(
			release, cases[i].release != NULL ? cases[i].release : "untouched");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kernel),
		cmocka_unit_test(test_damaged_kernel),
		cmocka_unit_test(test_cut_short),
		cmocka_unit_test(test_modinfo),
		cmocka_unit_test(test_damaged_module),
		cmocka_unit_test(test_release),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
