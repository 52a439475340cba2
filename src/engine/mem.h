/* SPDX-License-Identifier: ISC */
/*
 * Guest memory: what stands at which guest physical address (GPA), and the one
 * checked way from a GPA to a host pointer.
 *
 * The layout is that of every Hako machine, on every engine:
 *
 *	0           RAM, up to 3 GiB
 *	0xc0000000  the MMIO hole: devices, IOAPIC, LAPIC
 *	0x100000000 RAM beyond the first 3 GiB
 *	...         next GiB boundary: windows (virtio shared-memory regions)
 *
 * RAM is one memfd, mapped once and contiguously in the host; windows are reserved address
 * space that a device maps pages into (DAX, GPU blobs).
 *
 * The guest writes its memory whenever it likes: read a field once, through
 * hk_mem_read() or an hk_load_once*() of the pointer, then check what was read.
 */
#ifndef HK_ENGINE_MEM_H
#define HK_ENGINE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* A guest physical address. Never a pointer: hk_mem_at() is the only way to one. */
typedef uint64_t hk_gpa;

enum {
	HK_PAGE_SIZE = 4096,
	HK_MEM_MAX_REGIONS = 16,
};

#define HK_MMIO_HOLE_START UINT64_C(0xc0000000)
#define HK_MMIO_HOLE_END   UINT64_C(0x100000000)

enum hk_region_kind {
	HK_REGION_RAM,
	HK_REGION_WINDOW, /* a virtio shared-memory region */
	HK_REGION_KIND_COUNT,
};

/**
 * struct hk_mem_region - a range of GPAs with host memory behind it
 * @gpa: first address, page-aligned
 * @len_bytes: multiple of the page size
 * @host: first byte, mapped read-write for as long as the memory lives
 * @offset: of @gpa within the RAM memfd (RAM only)
 */
struct hk_mem_region {
	enum hk_region_kind kind;
	hk_gpa gpa;
	uint64_t len_bytes;
	uint8_t *host;
	uint64_t offset;
};

/* Told of what devices write into RAM. Any thread. */
struct hk_mem_watcher {
	void (*written)(struct hk_mem_watcher *watcher, hk_gpa gpa, uint64_t len);
};

/* Whoever fills windows: told when a vCPU touched memory that is not there. Any vCPU thread. */
struct hk_mem_mender {
	/* Return: is it there now, so that the vCPU may try again? */
	bool (*mend)(struct hk_mem_mender *mender);
};

/**
 * struct hk_mem - all memory of one guest; set up before the vCPUs start, constant after
 * @fd: RAM memfd, owned
 * @ram_bytes: size of RAM
 * @watcher: borrowed; NULL: nobody wants to know
 * @mender: borrowed; NULL: what is not there cannot be mended
 */
struct hk_mem {
	struct hk_mem_watcher *watcher;
	struct hk_mem_mender *mender;
	int fd;
	uint8_t *ram; /* host address of the RAM memfd, owned mapping */
	uint64_t ram_bytes;
	struct hk_mem_region regions[HK_MEM_MAX_REGIONS]; /* sorted by gpa */
	unsigned region_count;
};

/**
 * hk_mem_create() - RAM of @ram_bytes (a multiple of the page size, at least 32 MiB)
 *
 * Return: 0; -EINVAL for a size that cannot be, -ENOMEM where the host cannot give it.
 */
int hk_mem_create(struct hk_mem *mem, uint64_t ram_bytes, struct hk_err *err);
void hk_mem_finish(struct hk_mem *mem); /* fine on a zeroed or half-made one */

/**
 * hk_mem_add_window() - reserve @len_bytes of address space above RAM, 1 GiB aligned; the host's 2
 * MiB
 * @ret_region: borrowed from @mem; host pages are PROT_NONE until the owner maps some
 *
 * Before the vCPUs start only.
 */
int hk_mem_add_window(struct hk_mem *mem, uint64_t len_bytes,
	const struct hk_mem_region **ret_region, struct hk_err *err);

/**
 * hk_mem_at() - the checked translator
 * @len: bytes the caller will touch; the whole range must be in one RAM region
 *
 * Windows are not reachable through it: their pages come and go. Any thread.
 *
 * Return: host pointer, valid while the memory lives, or NULL.
 */
void *hk_mem_at(const struct hk_mem *mem, hk_gpa gpa, uint64_t len);

/**
 * hk_mem_buffer_at() - the same for data that the guest wants moved, which may be in a window, too
 *
 * A guest reads and writes what it has mapped like any other memory, so also with requests to
 * devices. What is not there gives EFAULT to a system call; the monitor's own accesses find an
 * empty page.
 */
void *hk_mem_buffer_at(const struct hk_mem *mem, hk_gpa gpa, uint64_t len);

/** hk_mem_gpa() - both backwards: @host is what they gave, or within. Any thread. */
hk_gpa hk_mem_gpa(const struct hk_mem *mem, const void *host);

/** hk_mem_read() / hk_mem_write() - copy once. Return: 0, or -EFAULT (then nothing was copied). */
int hk_mem_read(const struct hk_mem *mem, hk_gpa gpa, void *buf, uint64_t len);
int hk_mem_write(const struct hk_mem *mem, hk_gpa gpa, const void *buf, uint64_t len);

/**
 * hk_mem_written() - RAM was written in another way than by hk_mem_write()
 *
 * So that an engine forgets the code that it decoded there. To be called after the bytes are there
 * and before the guest hears of it: what a vCPU decodes in between may be either. Any thread.
 */
static inline void hk_mem_written(const struct hk_mem *mem, hk_gpa gpa, uint64_t len)
{
	if (mem->watcher != NULL) {
		mem->watcher->written(mem->watcher, gpa, len);
	}
}

/**
 * hk_mem_mend() - a vCPU touched memory that is not there. Return: may it try again? Any vCPU
 * thread.
 */
static inline bool hk_mem_mend(const struct hk_mem *mem)
{
	return mem->mender != NULL && mem->mender->mend(mem->mender);
}

/* Loads and stores of memory that the guest may change meanwhile: exactly once, aligned. */
#define hk_load_once(p)        __atomic_load_n((p), __ATOMIC_RELAXED)
#define hk_load_acquire(p)     __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define hk_store_once(p, v)    __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define hk_store_release(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)

#endif
