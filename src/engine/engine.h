/* SPDX-License-Identifier: ISC */
/*
 * Engine: the one interface between the machine and whatever runs its vCPUs.
 *
 * An engine owns CPUs, local APICs, one IOAPIC and the paravirtual clock. It knows
 * nothing of devices: port and memory accesses that hit no RAM go to the
 * `struct hk_engine_client`, which the machine implements. The machine in turn
 * knows nothing of how instructions run.
 *
 * All state that a guest can see goes in and out in the engine-independent structures
 * of vcpu_state.h, so that a machine saved under one engine goes on under another.
 *
 * Threads: one thread for each vCPU calls hk_vcpu_run() and hk_vcpu_get/set_state().
 * hk_vcpu_kick(), hk_engine_irq(), and the client's callbacks may come from any thread.
 * hk_engine_get/set_clock() and _irqchip() want all vCPUs out of hk_vcpu_run().
 *
 * Adding an engine: implement engine_impl.h, add it to the array in engine.c.
 */
#ifndef HK_ENGINE_ENGINE_H
#define HK_ENGINE_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "engine/cpuid.h"
#include "engine/mem.h"
#include "engine/vcpu_state.h"

enum {
	HK_MAX_VCPUS = 16,
	HK_GSI_COUNT = 24, /* pins of the IOAPIC */
};

#define HK_IOAPIC_GPA UINT64_C(0xfec00000)
#define HK_LAPIC_GPA  UINT64_C(0xfee00000)

struct hk_engine;
struct hk_vcpu;
struct hk_engine_client;

/* Whoever answers accesses outside RAM. Called on the vCPU's thread. */
struct hk_engine_client_ops {
	const char *name;
	/* A port access of 1, 2 or 4 bytes at @data. Required. Reads of nothing give all ones. */
	void (*port)(struct hk_engine_client *client, uint16_t port, void *data, unsigned len,
		bool write);
	/* A memory access of 1 to 8 bytes at @data. Required. */
	void (*mmio)(
		struct hk_engine_client *client, hk_gpa gpa, void *data, unsigned len, bool write);
};

struct hk_engine_client {
	const struct hk_engine_client_ops *ops;
};

/**
 * struct hk_engine_config - what an engine is made from
 * @mem: borrowed, outlives the engine
 * @client: borrowed, outlives the engine
 * @cpu: the CPUs to show
 * @vcpu_count: 1 to HK_MAX_VCPUS
 */
struct hk_engine_config {
	const struct hk_mem *mem;
	struct hk_engine_client *client;
	struct hk_cpu_model cpu;
	unsigned vcpu_count;
};

/** struct hk_engine_probe - can this host run it, and if not, why and what to do */
struct hk_engine_probe {
	const char *name;
	bool usable;
	char reason[256]; /* one sentence, both ways */
	char hint[256];   /* what would make it usable; may be empty */
};

/**
 * enum hk_run - why hk_vcpu_run() returned
 * @HK_RUN_KICKED: hk_vcpu_kick()
 * @HK_RUN_SHUTDOWN: the guest's CPU gave up (triple fault): reset or crash
 * @HK_RUN_FAILED: the engine cannot go on; @err says why
 */
enum hk_run {
	HK_RUN_KICKED,
	HK_RUN_SHUTDOWN,
	HK_RUN_FAILED,
	HK_RUN_COUNT,
};

/**
 * hk_engine_probe_all() - ask every engine about this host, in order of preference
 * @probes: @capacity elements
 *
 * Return: how many were filled in.
 */
unsigned hk_engine_probe_all(struct hk_engine_probe *probes, unsigned capacity);

/**
 * hk_engine_check_name() - is there an engine of this @name, options aside? Return: 0 or -EINVAL
 */
int hk_engine_check_name(const char *name, struct hk_err *err);

/**
 * hk_engine_create() - @name, or the first usable engine where @name is NULL
 *
 * @name may carry engine options after a comma ("soft,jit=off"); an engine refuses those it does
 * not know.
 *
 * Return: 0; -EINVAL for an unknown name; -ENODEV, -EACCES, -ENOTSUP as the engine found the host,
 * with the reason and a hint in @err.
 */
int hk_engine_create(const char *name, const struct hk_engine_config *config,
	struct hk_engine **ret_engine, struct hk_err *err);
void hk_engine_destroy(struct hk_engine *engine); /* all vCPU threads ended; NULL is fine */
const char *hk_engine_name(const struct hk_engine *engine);

/** hk_engine_vcpu() - borrowed; @index below vcpu_count */
struct hk_vcpu *hk_engine_vcpu(struct hk_engine *engine, unsigned index);
unsigned hk_vcpu_index(const struct hk_vcpu *vcpu);

/**
 * hk_engine_map() - show the guest a region that was added to the memory after the engine was made
 *
 * Before the first hk_vcpu_run() only.
 */
int hk_engine_map(struct hk_engine *engine, const struct hk_mem_region *region, struct hk_err *err);

/** hk_engine_irq() - set IOAPIC pin @gsi to @level (edge-triggered pins see the change). Any
 * thread. */
int hk_engine_irq(struct hk_engine *engine, unsigned gsi, bool level);

/**
 * hk_engine_irqfd() - let writes to @event_fd pulse @gsi without the monitor's help
 *
 * Return: 0, or -ENOTSUP: then the caller pulses with hk_engine_irq().
 */
int hk_engine_irqfd(struct hk_engine *engine, unsigned gsi, int event_fd, bool add);

/**
 * hk_engine_doorbell() - let 4-byte guest writes of @value at @gpa signal @event_fd directly
 *
 * Return: 0, or -ENOTSUP: then such writes arrive at the client, whose bus signals the eventfd.
 */
int hk_engine_doorbell(
	struct hk_engine *engine, hk_gpa gpa, uint32_t value, int event_fd, bool add);

/**
 * hk_engine_written() - something other than a vCPU wrote @len bytes of RAM at @gpa
 *
 * For engines that keep code decoded ahead; cheap where no code is. After the bytes are written,
 * before the guest is told. Any thread.
 */
void hk_engine_written(struct hk_engine *engine, hk_gpa gpa, uint64_t len);

/** hk_engine_watches_memory() - does hk_engine_written() do anything? */
bool hk_engine_watches_memory(const struct hk_engine *engine);

/** hk_vcpu_run() - run guest code until there is a reason to stop. The vCPU's thread. */
enum hk_run hk_vcpu_run(struct hk_vcpu *vcpu, struct hk_err *err);

/** hk_vcpu_kick() - make a running (or the next) hk_vcpu_run() return soon. Any thread. */
void hk_vcpu_kick(struct hk_vcpu *vcpu);

int hk_vcpu_get_state(struct hk_vcpu *vcpu, struct hk_vcpu_state *state, struct hk_err *err);
int hk_vcpu_set_state(struct hk_vcpu *vcpu, const struct hk_vcpu_state *state, struct hk_err *err);
int hk_engine_get_irqchip(
	struct hk_engine *engine, struct hk_irqchip_state *state, struct hk_err *err);
int hk_engine_set_irqchip(
	struct hk_engine *engine, const struct hk_irqchip_state *state, struct hk_err *err);
int hk_engine_get_clock(struct hk_engine *engine, struct hk_clock_state *state, struct hk_err *err);
int hk_engine_set_clock(
	struct hk_engine *engine, const struct hk_clock_state *state, struct hk_err *err);

#endif
