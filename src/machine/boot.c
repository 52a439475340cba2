/* SPDX-License-Identifier: ISC */
/*
 * Boot: from an ELF file to a vCPU at its first instruction.
 *
 * The segments go to their physical addresses, the initramfs to the end of the RAM below the
 * MMIO hole, and the hand-over structures to the low addresses of layout.h. Then either
 *  - the 64-bit entry: long mode, identity-mapped first GiB, RSI at the zero page; or
 *  - the PVH entry, found in an ELF note: 32-bit protected mode, no paging, EBX at the start info.
 * The 64-bit entry is the default: it leaves the kernel less to do.
 */
#include "machine/boot.h"

#include <assert.h>
#include <elf.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/alloc.h"
#include "base/sys.h"
#include "base/util.h"
#include "machine/layout.h"

enum {
	MAX_PROGRAM_HEADERS = 64,
	MAX_NOTE_BYTES = 65536,
	NOTE_XEN_PHYS32_ENTRY = 18,
};

struct kernel {
	uint64_t entry;
	uint64_t pvh_entry; /* 0: none */
	uint64_t end;       /* first address after the highest segment */
};

struct initramfs {
	hk_gpa gpa;
	uint64_t len;
};

/* --- ELF ------------------------------------------------------------------ */

static int too_small(const struct hk_mem *mem, const char *what, struct hk_err *err)
{
	hk_fail_msg(err, ENOMEM, "guest memory of %llu MiB: too small for %s",
		(unsigned long long)(mem->ram_bytes / HK_MIB), what);
	hk_err_hint(err, "give the box more with --memory");
	return -ENOMEM;
}

static int load_segment(struct hk_mem *mem, int fd, const Elf64_Phdr *ph, struct hk_err *err)
{
	if (ph->p_filesz > ph->p_memsz) {
		return hk_fail_msg(err, ENOEXEC, "segment larger in the file than in memory");
	}
	if (ph->p_paddr < HK_HIGH_RAM_GPA) {
		return hk_fail_msg(err, ENOEXEC, "segment below 1 MiB");
	}

	/* The part that is zero is so already: RAM is fresh. Still it must be there. */
	uint8_t *host = hk_mem_at(mem, ph->p_paddr, ph->p_memsz);

	if (host == NULL) {
		return too_small(mem, "the kernel", err);
	}

	ssize_t n = hk_pread_full(fd, host, ph->p_filesz, ph->p_offset);

	if (n < 0) {
		return hk_fail(err, (int)-n, "read");
	}
	return (size_t)n == ph->p_filesz ? 0 : hk_fail_msg(err, ENOEXEC, "cut short");
}

/* Walks "name size, data size, type, name, data" records, each padded to 4 bytes. */
static uint64_t find_pvh_entry(const uint8_t *notes, size_t len)
{
	size_t at = 0;

	while (len - at >= sizeof(Elf64_Nhdr)) {
		Elf64_Nhdr note;

		memcpy(&note, notes + at, sizeof(note));
		at += sizeof(note);

		uint64_t name_bytes = hk_align_up(note.n_namesz, 4);
		uint64_t desc_bytes = hk_align_up(note.n_descsz, 4);

		if (!hk_range_within(name_bytes, desc_bytes, len - at)) {
			return 0;
		}
		if (note.n_type == NOTE_XEN_PHYS32_ENTRY && note.n_namesz == 4 &&
			memcmp(notes + at, "Xen", 4) == 0 && note.n_descsz >= 4) {
			return hk_load_le32(notes + at + name_bytes);
		}
		at += name_bytes + desc_bytes;
	}
	return 0;
}

static int read_notes(int fd, const Elf64_Phdr *ph, struct kernel *kernel, struct hk_err *err)
{
	size_t len = HK_MIN(ph->p_filesz, (uint64_t)MAX_NOTE_BYTES);
	autofree uint8_t *notes = hk_malloc(len + 1);

	if (notes == NULL) {
		return hk_fail(err, ENOMEM, "notes");
	}

	ssize_t n = hk_pread_full(fd, notes, len, ph->p_offset);

	if (n < 0) {
		return hk_fail(err, (int)-n, "read");
	}
	if (kernel->pvh_entry == 0) { /* there may be several segments of notes */
		kernel->pvh_entry = find_pvh_entry(notes, (size_t)n);
	}
	return 0;
}

static int read_header(int fd, Elf64_Ehdr *eh, struct hk_err *err)
{
	ssize_t n = hk_pread_full(fd, eh, sizeof(*eh), 0);

	if (n < 0) {
		return hk_fail(err, (int)-n, "read");
	}
	if ((size_t)n != sizeof(*eh) || memcmp(eh->e_ident, ELFMAG, SELFMAG) != 0 ||
		eh->e_ident[EI_CLASS] != ELFCLASS64 || eh->e_machine != EM_X86_64) {
		return hk_fail_msg(err, ENOEXEC, "not an x86-64 ELF file");
	}
	if (eh->e_phentsize != sizeof(Elf64_Phdr) || eh->e_phnum == 0 ||
		eh->e_phnum > MAX_PROGRAM_HEADERS) {
		return hk_fail_msg(err, ENOEXEC, "has %u program headers of %u bytes", eh->e_phnum,
			eh->e_phentsize);
	}
	return 0;
}

static int load_kernel(struct hk_mem *mem, int fd, struct kernel *kernel, struct hk_err *err)
{
	Elf64_Ehdr eh;
	Elf64_Phdr phs[MAX_PROGRAM_HEADERS];
	int r = read_header(fd, &eh, err);

	if (r < 0) {
		return r;
	}

	size_t bytes = eh.e_phnum * sizeof(phs[0]);
	ssize_t n = hk_pread_full(fd, phs, bytes, eh.e_phoff);

	if (n < 0 || (size_t)n != bytes) {
		return hk_fail_msg(err, ENOEXEC, "program headers cut short");
	}
	*kernel = (struct kernel){.entry = eh.e_entry};
	for (unsigned i = 0; i < eh.e_phnum; i++) {
		if (phs[i].p_type == PT_LOAD) {
			r = load_segment(mem, fd, &phs[i], err);
			kernel->end = HK_MAX(kernel->end, phs[i].p_paddr + phs[i].p_memsz);
		} else if (phs[i].p_type == PT_NOTE) {
			r = read_notes(fd, &phs[i], kernel, err);
		}
		if (r < 0) {
			return r;
		}
	}
	if (hk_mem_at(mem, kernel->entry, 1) == NULL) {
		return hk_fail_msg(err, ENOEXEC, "entry point 0x%llx is outside the guest's memory",
			(unsigned long long)kernel->entry);
	}
	return 0;
}

/* --- initramfs and command line ------------------------------------------- */

static uint64_t low_ram_end(const struct hk_mem *mem)
{
	return HK_MIN(mem->ram_bytes, HK_MMIO_HOLE_START);
}

static int load_initramfs(struct hk_mem *mem, int fd, uint64_t kernel_end,
	struct initramfs *initramfs, struct hk_err *err)
{
	struct stat st;

	*initramfs = (struct initramfs){0};
	if (fd < 0) {
		return 0;
	}
	if (fstat(fd, &st) < 0) {
		return hk_fail(err, errno, "initramfs");
	}

	uint64_t len = (uint64_t)st.st_size;
	uint64_t end = low_ram_end(mem);

	if (kernel_end > end || len > end - kernel_end) {
		return too_small(mem, "kernel and initramfs", err);
	}

	hk_gpa gpa = hk_align_down(end - len, HK_PAGE_SIZE);
	uint8_t *host = gpa < kernel_end ? NULL : hk_mem_at(mem, gpa, len);

	if (host == NULL) {
		return too_small(mem, "kernel and initramfs", err);
	}

	ssize_t n = hk_pread_full(fd, host, len, 0);

	if (n < 0 || (uint64_t)n != len) {
		return hk_fail(err, n < 0 ? (int)-n : EIO, "initramfs: read");
	}
	*initramfs = (struct initramfs){.gpa = gpa, .len = len};
	return 0;
}

static int load_cmdline(struct hk_mem *mem, const char *cmdline, struct hk_err *err)
{
	size_t len = strlen(cmdline);

	if (len > HK_CMDLINE_MAX) {
		return hk_fail_msg(err, E2BIG, "kernel command line of %zu bytes: at most %d fit",
			len, HK_CMDLINE_MAX);
	}
	return hk_mem_write(mem, HK_CMDLINE_GPA, cmdline, len + 1);
}

/* --- memory map ------------------------------------------------------------ */

enum { E820_RAM = 1, E820_RESERVED = 2, E820_ACPI = 3, MAP_MAX_ENTRIES = 8 };

struct map_entry {
	uint64_t gpa;
	uint64_t len;
	uint32_t type;
};

static unsigned memory_map(const struct hk_mem *mem, struct map_entry map[MAP_MAX_ENTRIES])
{
	unsigned n = 0;

	map[n++] = (struct map_entry){0, HK_LOW_RAM_END, E820_RAM};
	map[n++] = (struct map_entry){HK_ACPI_GPA, HK_ACPI_SIZE, E820_ACPI};
	map[n++] = (struct map_entry){HK_GENERATION_GPA, HK_PAGE_SIZE, E820_RESERVED};
	map[n++] =
		(struct map_entry){HK_HIGH_RAM_GPA, low_ram_end(mem) - HK_HIGH_RAM_GPA, E820_RAM};
	for (unsigned i = 0; i < mem->region_count; i++) {
		const struct hk_mem_region *region = &mem->regions[i];

		if (region->kind == HK_REGION_RAM && region->gpa >= HK_MMIO_HOLE_END) {
			map[n++] = (struct map_entry){region->gpa, region->len_bytes, E820_RAM};
		}
	}
	return n;
}

/* --- the 64-bit entry ------------------------------------------------------- */

/* Offsets in the zero page: Documentation/x86/zero-page.rst. */
enum {
	ZP_RSDP = 0x70,
	ZP_E820_COUNT = 0x1e8,
	ZP_BOOT_FLAG = 0x1fe,
	ZP_HEADER_MAGIC = 0x202,
	ZP_VERSION = 0x206,
	ZP_LOADER_TYPE = 0x210,
	ZP_RAMDISK_IMAGE = 0x218,
	ZP_RAMDISK_SIZE = 0x21c,
	ZP_CMDLINE = 0x228,
	ZP_KERNEL_ALIGNMENT = 0x230,
	ZP_CMDLINE_SIZE = 0x238,
	ZP_E820_TABLE = 0x2d0,
	ZP_E820_ENTRY_BYTES = 20,
	ZP_BYTES = 4096,
};

static void write_zero_page(struct hk_mem *mem, const struct initramfs *initramfs, hk_gpa rsdp)
{
	uint8_t *zp = hk_mem_at(mem, HK_ZERO_PAGE_GPA, ZP_BYTES);
	struct map_entry map[MAP_MAX_ENTRIES];
	unsigned count = memory_map(mem, map);

	memset(zp, 0, ZP_BYTES);
	hk_store_le64(zp + ZP_RSDP, rsdp);
	hk_store_le16(zp + ZP_BOOT_FLAG, 0xaa55);
	memcpy(zp + ZP_HEADER_MAGIC, "HdrS", 4);
	hk_store_le16(zp + ZP_VERSION, 0x020f);
	zp[ZP_LOADER_TYPE] = 0xff; /* none of the assigned ones */
	hk_store_le32(zp + ZP_RAMDISK_IMAGE, (uint32_t)initramfs->gpa);
	hk_store_le32(zp + ZP_RAMDISK_SIZE, (uint32_t)initramfs->len);
	hk_store_le32(zp + ZP_CMDLINE, (uint32_t)HK_CMDLINE_GPA);
	hk_store_le32(zp + ZP_KERNEL_ALIGNMENT, 0x200000);
	hk_store_le32(zp + ZP_CMDLINE_SIZE, HK_CMDLINE_MAX);
	zp[ZP_E820_COUNT] = (uint8_t)count;
	for (unsigned i = 0; i < count; i++) {
		uint8_t *entry = zp + ZP_E820_TABLE + i * ZP_E820_ENTRY_BYTES;

		hk_store_le64(entry, map[i].gpa);
		hk_store_le64(entry + 8, map[i].len);
		hk_store_le32(entry + 16, map[i].type);
	}
}

enum {
	CR0_PE = 1 << 0,
	CR0_ET = 1 << 4,
	CR4_PAE = 1 << 5,
	EFER_LME = 1 << 8,
	EFER_LMA = 1 << 10,
	RFLAGS_FIXED = 1 << 1,
	PTE_PRESENT_WRITABLE = 3,
	PTE_LARGE = 1 << 7,
};
#define CR0_PG (UINT64_C(1) << 31)

/* One GiB with 2 MiB pages: every CPU can, and the kernel makes its own tables at once. */
static void write_page_tables(struct hk_mem *mem)
{
	enum { ENTRIES = 512 };
	uint8_t *pml4 = hk_mem_at(mem, HK_PAGE_TABLE_GPA, 3 * HK_PAGE_SIZE);
	uint8_t *pdpt = pml4 + HK_PAGE_SIZE;
	uint8_t *pd = pdpt + HK_PAGE_SIZE;

	memset(pml4, 0, 2 * HK_PAGE_SIZE);
	hk_store_le64(pml4, (HK_PAGE_TABLE_GPA + HK_PAGE_SIZE) | PTE_PRESENT_WRITABLE);
	hk_store_le64(pdpt, (HK_PAGE_TABLE_GPA + 2 * HK_PAGE_SIZE) | PTE_PRESENT_WRITABLE);
	for (uint64_t i = 0; i < ENTRIES; i++) {
		hk_store_le64(pd + 8 * i, i * 2 * HK_MIB | PTE_PRESENT_WRITABLE | PTE_LARGE);
	}
}

/* Segment attributes as in a descriptor: see struct hk_segment. */
enum {
	ATTR_CODE64 = 0xa09b,
	ATTR_CODE32 = 0xc09b,
	ATTR_DATA = 0xc093,
	ATTR_TSS_BUSY = 0x008b,
	SELECTOR_CODE = 0x10,
	SELECTOR_DATA = 0x18,
	SELECTOR_TSS = 0x20,
};

static uint64_t descriptor(uint16_t attr)
{
	return (uint64_t)attr << 40 | UINT64_C(0xf) << 48 | 0xffff;
}

static void set_segments(struct hk_mem *mem, struct hk_vcpu_state *state, uint16_t code_attr)
{
	enum { ENTRIES = 5 };
	uint8_t *gdt = hk_mem_at(mem, HK_GDT_GPA, 8 * ENTRIES);
	struct hk_segment data = {
		.limit = UINT32_MAX, .selector = SELECTOR_DATA, .attr = ATTR_DATA};

	memset(gdt, 0, 8 * ENTRIES);
	hk_store_le64(gdt + SELECTOR_CODE, descriptor(code_attr));
	hk_store_le64(gdt + SELECTOR_DATA, descriptor(ATTR_DATA));
	hk_store_le64(gdt + SELECTOR_TSS, descriptor(ATTR_TSS_BUSY));

	state->gdt = (struct hk_table_reg){HK_GDT_GPA, 8 * ENTRIES - 1};
	state->idt = (struct hk_table_reg){0, 0};
	for (unsigned i = HK_ES; i <= HK_GS; i++) {
		state->seg[i] = data;
	}
	state->seg[HK_CS] = (struct hk_segment){
		.limit = UINT32_MAX, .selector = SELECTOR_CODE, .attr = code_attr};
	state->seg[HK_TR] = (struct hk_segment){
		.limit = 0xffff, .selector = SELECTOR_TSS, .attr = ATTR_TSS_BUSY};
	state->seg[HK_LDTR].unusable = true;
}

static void enter_64bit(struct hk_mem *mem, const struct kernel *kernel,
	const struct initramfs *initramfs, hk_gpa rsdp, struct hk_vcpu_state *state)
{
	write_zero_page(mem, initramfs, rsdp);
	write_page_tables(mem);
	set_segments(mem, state, ATTR_CODE64);
	state->cr0 = CR0_PE | CR0_ET | CR0_PG;
	state->cr3 = HK_PAGE_TABLE_GPA;
	state->cr4 = CR4_PAE;
	state->efer = EFER_LME | EFER_LMA;
	state->rflags = RFLAGS_FIXED;
	state->rip = kernel->entry;
	state->gpr[HK_RSI] = HK_ZERO_PAGE_GPA;
}

/* --- the PVH entry ----------------------------------------------------------- */

/* struct hvm_start_info version 1, and what it points to, all in one page. */
enum {
	PVH_MAGIC = 0x336ec578,
	PVH_MODULES_AT = 0x100,
	PVH_MAP_AT = 0x200,
	PVH_MAP_ENTRY_BYTES = 24,
};

static void enter_pvh(struct hk_mem *mem, const struct kernel *kernel,
	const struct initramfs *initramfs, hk_gpa rsdp, struct hk_vcpu_state *state)
{
	uint8_t *page = hk_mem_at(mem, HK_PVH_GPA, HK_PAGE_SIZE);
	struct map_entry map[MAP_MAX_ENTRIES];
	unsigned count = memory_map(mem, map);

	memset(page, 0, HK_PAGE_SIZE);
	hk_store_le32(page, PVH_MAGIC);
	hk_store_le32(page + 4, 1);                           /* version */
	hk_store_le32(page + 12, initramfs->len > 0 ? 1 : 0); /* modules */
	hk_store_le64(page + 16, HK_PVH_GPA + PVH_MODULES_AT);
	hk_store_le64(page + 24, HK_CMDLINE_GPA);
	hk_store_le64(page + 32, rsdp);
	hk_store_le64(page + 40, HK_PVH_GPA + PVH_MAP_AT);
	hk_store_le32(page + 48, count);
	hk_store_le64(page + PVH_MODULES_AT, initramfs->gpa);
	hk_store_le64(page + PVH_MODULES_AT + 8, initramfs->len);
	for (unsigned i = 0; i < count; i++) {
		uint8_t *entry = page + PVH_MAP_AT + i * PVH_MAP_ENTRY_BYTES;

		hk_store_le64(entry, map[i].gpa);
		hk_store_le64(entry + 8, map[i].len);
		hk_store_le32(entry + 16, map[i].type);
	}

	set_segments(mem, state, ATTR_CODE32);
	state->cr0 = CR0_PE | CR0_ET;
	state->cr3 = 0;
	state->cr4 = 0;
	state->efer = 0;
	state->rflags = RFLAGS_FIXED;
	state->rip = kernel->pvh_entry;
	state->gpr[HK_RBX] = HK_PVH_GPA;
}

int hk_boot_load(struct hk_mem *mem, const struct hk_boot *boot, hk_gpa rsdp,
	struct hk_vcpu_state *state, struct hk_err *err)
{
	struct kernel kernel;
	struct initramfs initramfs;
	int r = load_kernel(mem, boot->vmlinux_fd, &kernel, err);

	if (r < 0) {
		hk_err_ctx(err, "kernel");
		return r;
	}
	if (boot->pvh && kernel.pvh_entry == 0) {
		return hk_fail_msg(err, ENOEXEC, "kernel: has no PVH entry point");
	}
	if ((r = load_initramfs(mem, boot->initramfs_fd, kernel.end, &initramfs, err)) < 0 ||
		(r = load_cmdline(mem, boot->cmdline, err)) < 0) {
		return r;
	}
	memset(state->gpr, 0, sizeof(state->gpr));
	if (boot->pvh) {
		enter_pvh(mem, &kernel, &initramfs, rsdp, state);
	} else {
		enter_64bit(mem, &kernel, &initramfs, rsdp, state);
	}
	return 0;
}
