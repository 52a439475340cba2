/* SPDX-License-Identifier: ISC */
/*
 * ELF, as far as the store needs it.
 *
 * Theory: structures are copied out of the file by memcpy after a check of their bounds, so neither
 * alignment nor a lying offset matters. Nothing is believed beyond that: the machine's loader does
 * its own checks of what it puts in guest memory.
 *
 * Limits: 64-bit little-endian x86-64; no extended section or segment numbering.
 */
#include "kernel/elf_file.h"

#include <elf.h>
#include <stdint.h>
#include <string.h>

#include "base/util.h"
#include "kernel/release.h"

enum { XEN_ELFNOTE_PHYS32_ENTRY = 18 };

/* Copies @size bytes at @offset; false if they are not all within the file. */
static bool fetch(const uint8_t *data, size_t len, uint64_t offset, void *out, size_t size)
{
	if (!hk_range_within(offset, size, len)) {
		return false;
	}
	memcpy(out, data + offset, size);
	return true;
}

bool hk_elf_detect(const void *data, size_t len)
{
	return len >= SELFMAG && memcmp(data, ELFMAG, SELFMAG) == 0;
}

static int read_header(const uint8_t *data, size_t len, Elf64_Ehdr *ret_header, struct hk_err *err)
{
	if (!hk_elf_detect(data, len)) {
		return hk_fail_msg(err, ENOEXEC, "not an ELF file");
	}
	if (!fetch(data, len, 0, ret_header, sizeof(*ret_header))) {
		return hk_fail_msg(err, EBADMSG, "the ELF header is cut short");
	}
	if (ret_header->e_ident[EI_CLASS] != ELFCLASS64 ||
		ret_header->e_ident[EI_DATA] != ELFDATA2LSB || ret_header->e_machine != EM_X86_64) {
		return hk_fail_msg(err, ENOEXEC, "not for x86-64");
	}
	return 0;
}

/* Looks through the notes of one segment for the PVH entry. Sizes are padded to 4 bytes. */
static bool notes_have_pvh(const uint8_t *data, size_t len)
{
	size_t pos = 0;
	Elf64_Nhdr note;

	while (fetch(data, len, pos, &note, sizeof(note))) {
		uint64_t name = pos + sizeof(note);
		uint64_t desc = name + hk_align_up(note.n_namesz, 4);
		uint64_t next = desc + hk_align_up(note.n_descsz, 4);

		if (next > len) {
			return false;
		}
		if (note.n_type == XEN_ELFNOTE_PHYS32_ENTRY && note.n_namesz == sizeof("Xen") &&
			memcmp(data + name, "Xen", sizeof("Xen")) == 0 && note.n_descsz >= 4) {
			return true;
		}
		pos = (size_t)next;
	}
	return false;
}

int hk_elf_check_kernel(const void *data, size_t len, bool *ret_pvh, struct hk_err *err)
{
	const uint8_t *bytes = data;
	bool loadable = false;
	bool pvh = false;
	Elf64_Ehdr header;
	int r = read_header(bytes, len, &header, err);

	if (r < 0) {
		return r;
	}
	if (header.e_type != ET_EXEC && header.e_type != ET_DYN) {
		return hk_fail_msg(err, ENOEXEC, "an ELF file that is not a program");
	}
	if (header.e_phnum > 0 &&
		(header.e_phentsize != sizeof(Elf64_Phdr) ||
			!hk_range_within(
				header.e_phoff, header.e_phnum * sizeof(Elf64_Phdr), len))) {
		return hk_fail_msg(err, EBADMSG, "the ELF program headers are corrupt");
	}
	for (unsigned i = 0; i < header.e_phnum; i++) {
		Elf64_Phdr segment;

		memcpy(&segment, bytes + header.e_phoff + i * sizeof(segment), sizeof(segment));
		if (segment.p_type != PT_LOAD && segment.p_type != PT_NOTE) {
			continue;
		}
		if (!hk_range_within(segment.p_offset, segment.p_filesz, len)) {
			return hk_fail_msg(err, EBADMSG,
				"ELF segment %u is not all in the file, which may be cut short", i);
		}
		if (segment.p_type == PT_LOAD) {
			loadable = loadable || segment.p_memsz > 0;
		} else {
			pvh = pvh || notes_have_pvh(bytes + segment.p_offset, segment.p_filesz);
		}
	}
	if (!loadable) {
		return hk_fail_msg(err, ENOEXEC, "an ELF file with nothing to load");
	}
	*ret_pvh = pvh;
	return 0;
}

int hk_elf_kernel_release(const void *data, size_t len, char *ret_release, size_t size)
{
	static const char banner[] = "Linux version ";
	const char *pos = data;
	const char *end = pos + len;

	/* The words may also stand in a message; behind the banner's there is a number. */
	while ((pos = memmem(pos, (size_t)(end - pos), banner, sizeof(banner) - 1)) != NULL) {
		pos += sizeof(banner) - 1;
		if (hk_release_parse(pos, (size_t)(end - pos), ret_release, size) == 0) {
			return 0;
		}
	}
	return -ENOENT;
}

/* Finds a section by its name, whose bytes are all in the file. */
static int find_section(const uint8_t *data, size_t len, const Elf64_Ehdr *header, const char *name,
	Elf64_Shdr *ret_section)
{
	size_t name_size = strlen(name) + 1;
	Elf64_Shdr names;

	if (header->e_shentsize != sizeof(names) || header->e_shstrndx >= header->e_shnum ||
		!hk_range_within(header->e_shoff, header->e_shnum * sizeof(names), len)) {
		return -EBADMSG;
	}
	memcpy(&names, data + header->e_shoff + header->e_shstrndx * sizeof(names), sizeof(names));
	if (!hk_range_within(names.sh_offset, names.sh_size, len)) {
		return -EBADMSG;
	}
	for (unsigned i = 0; i < header->e_shnum; i++) {
		Elf64_Shdr section;

		memcpy(&section, data + header->e_shoff + i * sizeof(section), sizeof(section));
		if (!hk_range_within(section.sh_name, name_size, names.sh_size) ||
			memcmp(data + names.sh_offset + section.sh_name, name, name_size) != 0) {
			continue;
		}
		if (section.sh_type == SHT_NOBITS ||
			!hk_range_within(section.sh_offset, section.sh_size, len)) {
			return -EBADMSG;
		}
		*ret_section = section;
		return 0;
	}
	return -ENOENT;
}

/* "key=value" strings, each with its NUL; a last one without is not looked at. */
static void read_strings(const char *text, size_t len, struct hk_modinfo *modinfo)
{
	const char *end = text + len;
	const char *nul;

	for (; (nul = memchr(text, '\0', (size_t)(end - text))) != NULL; text = nul + 1) {
		if (strncmp(text, "depends=", 8) == 0) {
			modinfo->depends = text + 8;
		} else if (strncmp(text, "vermagic=", 9) == 0) {
			modinfo->release = text + 9;
			modinfo->release_len = strcspn(text + 9, " ");
		}
	}
}

int hk_elf_modinfo(const void *data, size_t len, struct hk_modinfo *ret_modinfo, struct hk_err *err)
{
	struct hk_modinfo modinfo = {.depends = ""};
	Elf64_Shdr section;
	Elf64_Ehdr header;
	int r = read_header(data, len, &header, err);

	if (r < 0) {
		return r;
	}
	r = header.e_type == ET_REL ? find_section(data, len, &header, ".modinfo", &section)
				    : -ENOENT;
	if (r == -ENOENT) {
		return hk_fail_msg(err, ENOEXEC, "not a kernel module");
	}
	if (r < 0) {
		return hk_fail_msg(err, -r, "the ELF sections are corrupt or cut short");
	}
	read_strings((const char *)data + section.sh_offset, section.sh_size, &modinfo);
	*ret_modinfo = modinfo;
	return 0;
}
