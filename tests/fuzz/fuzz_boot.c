/* SPDX-License-Identifier: ISC */
/*
 * Fuzz target: any bytes as a kernel. The first byte chooses the entry; with its second bit the
 * file's header is made right first, so that random bytes reach what is behind it.
 */
#include <elf.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/util.h"
#include "machine/boot.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PVH = 1, MEND_HEADER = 2, MEND_SEGMENTS = 4, FILE_MAX = 65536 };

/* Numbers from the input, brought to where they might make sense. */
static void mend(uint8_t *file, size_t len, unsigned how)
{
	Elf64_Ehdr *eh = (Elf64_Ehdr *)file;
	Elf64_Phdr *ph = (Elf64_Phdr *)(eh + 1);

	if ((how & MEND_HEADER) == 0 || len < sizeof(*eh)) {
		return;
	}
	memcpy(eh->e_ident, ELFMAG, SELFMAG);
	eh->e_ident[EI_CLASS] = ELFCLASS64;
	eh->e_machine = EM_X86_64;
	eh->e_phoff = sizeof(*eh);
	eh->e_phentsize = sizeof(*ph);
	eh->e_phnum = (uint16_t)HK_MIN((len - sizeof(*eh)) / sizeof(*ph), (size_t)8);
	for (unsigned i = 0; (how & MEND_SEGMENTS) != 0 && i < eh->e_phnum; i++) {
		ph[i].p_type = ph[i].p_type % 2 == 0 ? PT_LOAD : PT_NOTE;
		ph[i].p_paddr %= 64 * HK_MIB;
		ph[i].p_memsz %= 32 * HK_MIB;
		ph[i].p_filesz %= FILE_MAX;
		ph[i].p_offset %= FILE_MAX;
		eh->e_entry %= 64 * HK_MIB;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct hk_mem mem;
	static uint8_t file[FILE_MAX] __attribute__((aligned(16)));
	struct hk_err err = HK_ERR_INIT;
	struct hk_vcpu_state state = {0};
	autoclose int fd = memfd_create("kernel", MFD_CLOEXEC);
	unsigned how = size > 0 ? data[0] : 0;
	size_t len = size > 0 ? HK_MIN(size - 1, (size_t)FILE_MAX) : 0;

	if (mem.ram == NULL && hk_mem_create(&mem, 32 * HK_MIB, &err) < 0) {
		abort();
	}
	if (len > 0) {
		memcpy(file, data + 1, len);
		mend(file, len, how);
	}
	if (fd < 0 || write(fd, file, len) != (ssize_t)len) {
		abort();
	}

	struct hk_boot boot = {
		.vmlinux_fd = fd,
		.initramfs_fd = (how & 8) != 0 ? fd : -1,
		.cmdline = "",
		.pvh = (how & PVH) != 0,
	};

	if (hk_boot_load(&mem, &boot, 0xe0000, &state, &err) < 0) {
		if (hk_err_text(&err)[0] == '\0') {
			abort(); /* a refusal must say why */
		}
	} else if ((how & PVH) == 0 && hk_mem_at(&mem, state.rip, 1) == NULL) {
		abort(); /* an accepted kernel starts in RAM */
	}
	return 0;
}
