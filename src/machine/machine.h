/* SPDX-License-Identifier: ISC */
/*
 * Machine: RAM, bus, engine, the few platform devices, boot, and the run loop.
 *
 * Life: hk_machine_create(); devices take slots (hk_machine_slot()) and windows; hk_machine_load()
 * puts the kernel, tables and command line in memory (or hk_machine_restore() a snapshot);
 * hk_machine_start() starts the vCPU threads. It ends by itself (the owner's @stopped is called on
 * the loop's thread) or by hk_machine_stop(). hk_machine_pause()/resume() bracket
 * hk_machine_save().
 */
#ifndef HK_MACHINE_MACHINE_H
#define HK_MACHINE_MACHINE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/loop.h"
#include "base/state.h"
#include "engine/engine.h"
#include "machine/bus.h"
#include "machine/crash.h"

struct hk_machine;

/** enum hk_stop - how a machine ended */
enum hk_stop {
	HK_STOP_POWER_OFF, /* the guest switched itself off */
	HK_STOP_RESET,     /* the guest asked for a reset: panic or reboot */
	HK_STOP_CRASH,     /* triple fault */
	HK_STOP_ENGINE,    /* the engine failed; see hk_machine_stop_error() */
	HK_STOP_ASKED,     /* hk_machine_stop() */
	HK_STOP_COUNT,
};

/**
 * struct hk_machine_config - all a machine is made from
 * @loop: runs the devices; borrowed, outlives the machine
 * @engine: name as for hk_engine_create(); NULL picks one
 * @cpu: CPU model
 * @vcpu_count: 1 to HK_MAX_VCPUS
 * @ram_bytes: multiple of 4 KiB, at least 32 MiB
 * @owner: borrowed; told what happens; may be NULL
 */
struct hk_machine_config {
	struct hk_loop *loop;
	const char *engine;
	struct hk_cpu_model cpu;
	unsigned vcpu_count;
	uint64_t ram_bytes;
	struct hk_machine_owner *owner;
};

/* Embedded in whoever owns a machine; called on the loop's thread but for @serial. */
struct hk_machine_owner {
	/* The machine has stopped; all vCPU threads have ended. Optional. */
	void (*stopped)(struct hk_machine_owner *owner, enum hk_stop why);
	/* Output of the serial port. Any vCPU thread. Optional. */
	void (*serial)(struct hk_machine_owner *owner, const uint8_t *bytes, unsigned len);
};

/** struct hk_boot - what to start; fds are borrowed until hk_machine_load() returns */
struct hk_boot {
	int vmlinux_fd;      /* ELF64 */
	int initramfs_fd;    /* -1: none */
	const char *cmdline; /* at most 2047 bytes */
	bool pvh;            /* PVH entry; else the 64-bit entry */
};

/** struct hk_slot - where a device stands: one page of registers and one interrupt */
struct hk_slot {
	hk_gpa gpa;
	uint64_t len_bytes; /* HK_SLOT_SIZE */
	unsigned gsi;
};

enum { HK_SLOT_SIZE = 0x1000, HK_MAX_SLOTS = 16 };

int hk_machine_create(const struct hk_machine_config *config, struct hk_machine **ret_machine,
	struct hk_err *err);
void hk_machine_destroy(struct hk_machine *machine); /* stops it first; NULL is fine */

/** hk_machine_slot() - the next free slot; the DSDT will show a virtio device (LNRO0005) there */
int hk_machine_slot(struct hk_machine *machine, struct hk_slot *ret_slot, struct hk_err *err);

/** hk_machine_add_window() - reserve guest addresses for a shared-memory region; see
 * hk_mem_add_window() */
int hk_machine_add_window(struct hk_machine *machine, uint64_t len_bytes,
	const struct hk_mem_region **ret_region, struct hk_err *err);

struct hk_bus *hk_machine_bus(struct hk_machine *machine);
struct hk_mem *hk_machine_mem(struct hk_machine *machine);
struct hk_loop *hk_machine_loop(struct hk_machine *machine);
struct hk_engine *hk_machine_engine(struct hk_machine *machine);

int hk_machine_load(struct hk_machine *machine, const struct hk_boot *boot, struct hk_err *err);
int hk_machine_start(struct hk_machine *machine, struct hk_err *err);
void hk_machine_stop(struct hk_machine *machine); /* any thread; waits for nothing */
/** hk_machine_halt() - stop and wait for the vCPU threads; the owner is not told. Loop's thread. */
void hk_machine_halt(struct hk_machine *machine);
const char *hk_machine_stop_error(const struct hk_machine *machine); /* after HK_STOP_ENGINE */

/** hk_machine_crash() - after HK_STOP_CRASH: what the CPU that gave up was doing; borrowed */
const struct hk_crash *hk_machine_crash(const struct hk_machine *machine);

/** hk_machine_pause() - returns once no vCPU runs; loop's thread. Nests not. */
int hk_machine_pause(struct hk_machine *machine, struct hk_err *err);
int hk_machine_resume(struct hk_machine *machine, struct hk_err *err);

/** hk_machine_save() - CPUs, interrupt controllers, clock, platform devices (not RAM, not virtio);
 * paused */
int hk_machine_save(struct hk_machine *machine, struct hk_writer *w, struct hk_err *err);
/** hk_machine_restore() - instead of hk_machine_load(); same configuration and slots */
int hk_machine_restore(struct hk_machine *machine, struct hk_reader *r, struct hk_err *err);

/** hk_machine_new_generation() - tell the guest that it was copied: 16 random bytes, then an
 * interrupt */
void hk_machine_new_generation(struct hk_machine *machine, const uint8_t id[16]);

#endif
