/* SPDX-License-Identifier: ISC */
/*
 * What the kernel store reads from files: bzImages, compressed streams, ELF kernels and modules,
 * module indexes, apt's answers. The first byte of the input says which; the marks that each format
 * begins with are put in place, so that random bytes get further than the first check.
 */
#include <elf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/util.h"
#include "kernel/apt.h"
#include "kernel/bzimage.h"
#include "kernel/elf_file.h"
#include "kernel/modules.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LIMIT_BYTES = 1 << 20 };

static void try_unpack(enum hk_pack pack, const uint8_t *data, size_t len)
{
	struct hk_err err = HK_ERR_INIT;
	void *out;
	size_t out_len;

	if (hk_unpack(pack, data, len, LIMIT_BYTES, &out, &out_len, &err) == 0) {
		if (out_len > LIMIT_BYTES) {
			abort();
		}
		free(out);
	}
}

static void try_bzimage(uint8_t *data, size_t len)
{
	struct hk_err err = HK_ERR_INIT;
	struct hk_bzimage image;
	void *vmlinux;
	size_t vmlinux_len;

	if (len >= 0x310) {
		data[0x1f1] &= 1;
		hk_store_le16(data + 0x1fe, 0xaa55);
		memcpy(data + 0x202, "HdrS", 4);
		hk_store_le16(data + 0x206, 0x020f);
		data[0x20f] = 0;
		data[0x20e] = (uint8_t)(data[0x20e] | 0x50); /* behind the header */
		memcpy(data + 0x200 + data[0x20e], "6.1 ", 4);
		hk_store_le32(data + 0x248, hk_load_le32(data + 0x248) % 0x200);
		hk_store_le32(data + 0x24c, hk_load_le32(data + 0x24c) % 0x200);
	}
	if (hk_bzimage_parse(data, len, &image, &err) < 0) {
		return;
	}
	if (!hk_range_within(image.payload_offset, image.payload_len, len) ||
		image.vmlinux_len > HK_VMLINUX_MAX_BYTES) {
		abort();
	}
	image.vmlinux_len = HK_MIN(image.vmlinux_len, (size_t)LIMIT_BYTES);
	if (hk_bzimage_extract(data, &image, &vmlinux, &vmlinux_len, &err) == 0) {
		free(vmlinux);
	}
}

static void try_elf(uint8_t *data, size_t len, uint16_t type)
{
	struct hk_err err = HK_ERR_INIT;
	struct hk_modinfo modinfo;
	char release[HK_KERNEL_RELEASE_SIZE];
	bool pvh;

	if (len >= sizeof(Elf64_Ehdr)) {
		memcpy(data, ELFMAG "\2\1\1", 7);
		hk_store_le16(data + offsetof(Elf64_Ehdr, e_type), type);
		hk_store_le16(data + offsetof(Elf64_Ehdr, e_machine), EM_X86_64);
		hk_store_le16(data + offsetof(Elf64_Ehdr, e_phentsize), sizeof(Elf64_Phdr));
		hk_store_le16(data + offsetof(Elf64_Ehdr, e_shentsize), sizeof(Elf64_Shdr));
	}
	hk_elf_check_kernel(data, len, &pvh, &err);
	hk_elf_kernel_release(data, len, release, sizeof(release));
	if (hk_elf_modinfo(data, len, &modinfo, &err) == 0) {
		const uint8_t *depends = (const uint8_t *)modinfo.depends;
		size_t depends_len = strlen(modinfo.depends);

		if (depends_len > 0 && (depends < data || depends + depends_len >= data + len)) {
			abort();
		}
	}
}

/* Every module exists and says the same of itself. */
static int read_any(struct hk_module_reader *reader, const char *path, void **ret_data,
	size_t *ret_len, struct hk_err *err)
{
	static const char names[] = "\0.modinfo";
	struct {
		Elf64_Ehdr header;
		Elf64_Shdr sections[2];
		char names[sizeof(names)];
		char modinfo[13];
	} *module = calloc(1, sizeof(*module));

	memcpy(module->header.e_ident, ELFMAG "\2\1\1", 7);
	module->header.e_type = ET_REL;
	module->header.e_machine = EM_X86_64;
	module->header.e_shoff = offsetof(__typeof__(*module), sections);
	module->header.e_shentsize = sizeof(Elf64_Shdr);
	module->header.e_shnum = 2;
	module->sections[0].sh_offset = offsetof(__typeof__(*module), names);
	module->sections[0].sh_size = sizeof(names);
	module->sections[1].sh_name = 1;
	module->sections[1].sh_type = SHT_PROGBITS;
	module->sections[1].sh_offset = offsetof(__typeof__(*module), modinfo);
	module->sections[1].sh_size = sizeof(module->modinfo);
	memcpy(module->names, names, sizeof(names));
	memcpy(module->modinfo, "depends=c,d", 12);
	*ret_data = module;
	*ret_len = sizeof(*module);
	return 0;
}

static void try_modules(const uint8_t *data, size_t len)
{
	static const struct hk_module_need needs[] = {
		{"a", HK_MODULE_EARLY, ""},
		{"b", HK_MODULE_LATE, "", "b", "B"},
		{NULL},
	};
	struct hk_module_reader reader = {.read = read_any};
	struct hk_err err = HK_ERR_INIT;
	struct hk_module_set set = {0};
	struct hk_modules *modules;
	const char *text = (const char *)data;
	size_t half = len / 2;

	if (hk_modules_create(&modules, &err) < 0) {
		abort();
	}
	hk_modules_add_dep(modules, text, half, &err);
	hk_modules_add_builtin(modules, text + half, len - half, &err);
	hk_modules_add_file(modules, "b.ko", &err);
	if (hk_modules_pick(modules, needs, "6.1", "", 0, &reader, &set, &err) < 0 &&
		set.count > 0) {
		abort();
	}
	for (size_t i = 0; i < set.count; i++) { /* each once */
		for (size_t k = 0; k < i; k++) {
			if (strcmp(set.files[i].name, set.files[k].name) == 0 &&
				set.files[i].data == set.files[k].data) {
				abort();
			}
		}
	}
	hk_module_set_finish(&set);
	hk_modules_destroy(modules);
}

static void try_apt(const uint8_t *data, size_t len)
{
	struct hk_apt_package package;
	char *text = malloc(len + 10);

	memcpy(text, "Depends: ", 9);
	memcpy(text + 9, data, len);
	text[len + 9] = '\0';
	hk_apt_parse_depends(text, &package);
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	size_t len = size - 1;
	uint8_t *data;

	if (size == 0) {
		return 0;
	}
	data = malloc(len + (len == 0));
	memcpy(data, input + 1, len);
	switch (input[0] % 12) {
	case 0:
		try_bzimage(data, len);
		break;
	case 1:
		try_elf(data, len, ET_EXEC);
		break;
	case 2:
		try_elf(data, len, ET_REL);
		break;
	case 3:
		try_modules(data, len);
		break;
	case 4:
		try_apt(data, len);
		break;
	default:
		try_unpack((enum hk_pack)(HK_PACK_GZIP + input[0] % 12 - 5), data, len);
		break;
	}
	free(data);
	return 0;
}
