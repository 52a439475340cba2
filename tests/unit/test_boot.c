/* SPDX-License-Identifier: ISC */
/* Boot: a made-up kernel lands where its ELF says, and a kernel of lies lands nowhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <elf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/util.h"
#include "machine/boot.h"
#include "machine/layout.h"

/* An ELF file of one loaded segment and one PVH note. */
struct image {
	Elf64_Ehdr eh;
	Elf64_Phdr ph[2];
	struct {
		Elf64_Nhdr head;
		char name[4];
		uint32_t entry;
	} note;
	uint8_t code[16];
};

static struct image make_image(void)
{
	return (struct image){
		.eh =
			{
				.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB,
					EV_CURRENT},
				.e_type = ET_EXEC,
				.e_machine = EM_X86_64,
				.e_entry = 0x1000000,
				.e_phoff = offsetof(struct image, ph),
				.e_phentsize = sizeof(Elf64_Phdr),
				.e_phnum = 2,
			},
		.ph =
			{
				{
					.p_type = PT_LOAD,
					.p_offset = offsetof(struct image, code),
					.p_paddr = 0x1000000,
					.p_filesz = 16,
					.p_memsz = 0x10000,
				},
				{
					.p_type = PT_NOTE,
					.p_offset = offsetof(struct image, note),
					.p_filesz = sizeof(((struct image *)0)->note),
				},
			},
		.note = {.head = {4, 4, 18}, .name = "Xen", .entry = 0x1000040},
		.code = "the kernel code",
	};
}

struct outcome {
	int result;
	struct hk_err err;
	struct hk_vcpu_state cpu;
	struct hk_mem mem;
};

static int file_of(const void *bytes, size_t len)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	assert_int_equal(write(fd, bytes, len), (ssize_t)len);
	return fd;
}

static struct outcome *load_bytes(
	const void *bytes, size_t len, bool pvh, uint64_t ram_mib, size_t initramfs_bytes)
{
	struct outcome *o = calloc(1, sizeof(*o));
	autoclose int vmlinux = file_of(bytes, len);
	autofree void *zeros = calloc(1, initramfs_bytes + 1);
	autoclose int initramfs = initramfs_bytes > 0 ? file_of(zeros, initramfs_bytes) : -1;
	struct hk_boot boot = {vmlinux, initramfs, "quiet", pvh};

	o->err = HK_ERR_INIT;
	assert_int_equal(hk_mem_create(&o->mem, ram_mib * HK_MIB, NULL), 0);
	o->result = hk_boot_load(&o->mem, &boot, 0xe0000, &o->cpu, &o->err);
	return o;
}

static struct outcome *load(const struct image *image, bool pvh)
{
	return load_bytes(image, sizeof(*image), pvh, 64, 0);
}

static void done(struct outcome *o)
{
	hk_mem_finish(&o->mem);
	free(o);
}

static void entry_64bit(void **state)
{
	struct image image = make_image();
	struct outcome *o = load_bytes(&image, sizeof(image), false, 64, 5000);
	const uint8_t *zp = hk_mem_at(&o->mem, HK_ZERO_PAGE_GPA, 4096);

	assert_int_equal(o->result, 0);
	assert_memory_equal(hk_mem_at(&o->mem, 0x1000000, 16), "the kernel code", 16);
	assert_int_equal(o->cpu.rip, 0x1000000);
	assert_int_equal(o->cpu.gpr[HK_RSI], HK_ZERO_PAGE_GPA);
	assert_int_equal(o->cpu.efer, 0x500);
	assert_int_equal(o->cpu.cr0 & 0x80000001, 0x80000001);
	assert_int_equal(o->cpu.seg[HK_CS].attr >> 13 & 1, 1); /* long */

	assert_memory_equal(zp + 0x202, "HdrS", 4);
	assert_int_equal(hk_load_le64(zp + 0x70), 0xe0000);
	assert_string_equal(hk_mem_at(&o->mem, hk_load_le32(zp + 0x228), 6), "quiet");
	assert_int_equal(hk_load_le32(zp + 0x218), 64 * HK_MIB - 8192); /* page below the top */
	assert_int_equal(hk_load_le32(zp + 0x21c), 5000);
	assert_int_equal(zp[0x1e8], 4);

	/* The identity map: the entry point through all three levels. */
	const uint8_t *pml4 = hk_mem_at(&o->mem, o->cpu.cr3, 4096);
	const uint8_t *pdpt = hk_mem_at(&o->mem, hk_load_le64(pml4) & ~0xfffu, 4096);
	const uint8_t *pd = hk_mem_at(&o->mem, hk_load_le64(pdpt) & ~0xfffu, 4096);

	assert_int_equal(hk_load_le64(pd + 8 * (0x1000000 >> 21)), 0x1000000 | 0x83);
	done(o);
}

static void entry_pvh(void **state)
{
	struct image image = make_image();
	struct outcome *o = load(&image, true);
	const uint8_t *info = hk_mem_at(&o->mem, o->cpu.gpr[HK_RBX], 56);

	assert_int_equal(o->result, 0);
	assert_int_equal(o->cpu.rip, 0x1000040);
	assert_int_equal(o->cpu.cr0 & 0x80000001, 1);
	assert_int_equal(o->cpu.efer, 0);
	assert_int_equal(o->cpu.seg[HK_CS].attr >> 13 & 3, 2); /* 32-bit */
	assert_int_equal(hk_load_le32(info), 0x336ec578);
	assert_int_equal(hk_load_le32(info + 12), 0);
	assert_int_equal(hk_load_le64(info + 32), 0xe0000);
	assert_int_equal(hk_load_le32(info + 48), 4);
	done(o);
}

static void no_pvh_note(void **state)
{
	struct image image = make_image();

	image.note.head.n_type = 17;

	struct outcome *o = load(&image, true);

	assert_int_equal(o->result, -ENOEXEC);
	assert_string_equal(hk_err_text(&o->err), "kernel: has no PVH entry point");
	done(o);
}

struct lie {
	const char *name;
	size_t offset;
	size_t len;
	uint64_t value;
	int result;
};

#define EH(field) offsetof(struct image, eh.field), sizeof(((Elf64_Ehdr *)0)->field)
#define PH(field) offsetof(struct image, ph[0].field), sizeof(((Elf64_Phdr *)0)->field)

static void kernels_that_lie(void **state)
{
	static const struct lie lies[] = {
		{"no ELF", EH(e_ident[0]), 0, -ENOEXEC},
		{"32-bit", EH(e_ident[EI_CLASS]), ELFCLASS32, -ENOEXEC},
		{"another machine", EH(e_machine), EM_AARCH64, -ENOEXEC},
		{"no segments", EH(e_phnum), 0, -ENOEXEC},
		{"too many segments", EH(e_phnum), 65535, -ENOEXEC},
		{"odd header size", EH(e_phentsize), 32, -ENOEXEC},
		{"headers past the end", EH(e_phoff), 1 << 20, -ENOEXEC},
		{"headers at the end of the world", EH(e_phoff), UINT64_MAX - 8, -ENOEXEC},
		{"entry outside memory", EH(e_entry), 0xd0000000, -ENOEXEC},
		{"file part larger", PH(p_filesz), 0x20000, -ENOEXEC},
		{"data past the end", PH(p_offset), 1 << 20, -ENOEXEC},
		{"low segment", PH(p_paddr), 0x7000, -ENOEXEC},
		{"segment beyond RAM", PH(p_paddr), 64 * HK_MIB, -ENOMEM},
		{"segment over the end of RAM", PH(p_paddr), 64 * HK_MIB - 4096, -ENOMEM},
		{"segment wraps", PH(p_paddr), UINT64_MAX - 0x1000, -ENOMEM},
		{"huge segment", PH(p_memsz), UINT64_MAX, -ENOMEM},
	};

	for (size_t i = 0; i < HK_ARRAY_SIZE(lies); i++) {
		struct image image = make_image();

		memcpy((uint8_t *)&image + lies[i].offset, &lies[i].value, lies[i].len);

		struct outcome *o = load(&image, false);

		if (o->result != lies[i].result) {
			fail_msg("%s: %d, %s", lies[i].name, o->result, hk_err_text(&o->err));
		}
		done(o);
	}
}

static void every_truncation(void **state)
{
	struct image image = make_image();

	for (size_t len = 0; len < offsetof(struct image, code) + sizeof(image.code); len++) {
		struct outcome *o = load_bytes(&image, len, false, 32, 0);

		assert_int_equal(o->result, -ENOEXEC);
		done(o);
	}
}

static void memory_too_small(void **state)
{
	struct image image = make_image();
	struct outcome *o = load_bytes(&image, sizeof(image), false, 32, 20 * HK_MIB);

	assert_int_equal(o->result, -ENOMEM);
	assert_non_null(strstr(hk_err_text(&o->err), "32 MiB: too small"));
	assert_non_null(strstr(o->err.hint, "--memory"));
	done(o);
}

static void command_line_too_long(void **state)
{
	struct image image = make_image();
	autoclose int vmlinux = file_of(&image, sizeof(image));
	char cmdline[3000];
	struct hk_vcpu_state cpu;
	struct hk_err err = HK_ERR_INIT;
	struct hk_mem mem;

	memset(cmdline, 'x', sizeof(cmdline));
	cmdline[sizeof(cmdline) - 1] = '\0';
	assert_int_equal(hk_mem_create(&mem, 32 * HK_MIB, NULL), 0);

	struct hk_boot boot = {vmlinux, -1, cmdline, false};

	assert_int_equal(hk_boot_load(&mem, &boot, 0, &cpu, &err), -E2BIG);
	cmdline[HK_CMDLINE_MAX] = '\0';
	assert_int_equal(hk_boot_load(&mem, &boot, 0, &cpu, &err), 0);
	hk_mem_finish(&mem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(entry_64bit),
		cmocka_unit_test(entry_pvh),
		cmocka_unit_test(no_pvh_note),
		cmocka_unit_test(kernels_that_lie),
		cmocka_unit_test(every_truncation),
		cmocka_unit_test(memory_too_small),
		cmocka_unit_test(command_line_too_long),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
