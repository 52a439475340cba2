/* SPDX-License-Identifier: ISC */
/* For implementers of engines only; callers include engine.h. */
#ifndef HK_ENGINE_ENGINE_IMPL_H
#define HK_ENGINE_ENGINE_IMPL_H

#include "engine/engine.h"

/* Contracts (threads, results) are those of the public wrappers in engine.h. */
struct hk_engine_ops {
	const char *name;
	/* All required, but for irqfd and doorbell: absent means -ENOTSUP; and written: absent
	 * means that the engine need not know. */
	void (*probe)(struct hk_engine_probe *probe);
	int (*create)(const char *options, const struct hk_engine_config *config,
		struct hk_engine **ret_engine, struct hk_err *err);
	void (*destroy)(struct hk_engine *engine);
	struct hk_vcpu *(*vcpu)(struct hk_engine *engine, unsigned index);
	int (*map)(
		struct hk_engine *engine, const struct hk_mem_region *region, struct hk_err *err);
	int (*irq)(struct hk_engine *engine, unsigned gsi, bool level);
	int (*irqfd)(struct hk_engine *engine, unsigned gsi, int event_fd, bool add);
	int (*doorbell)(
		struct hk_engine *engine, hk_gpa gpa, uint32_t value, int event_fd, bool add);
	void (*written)(struct hk_engine *engine, hk_gpa gpa, uint64_t len);
	enum hk_run (*run)(struct hk_vcpu *vcpu, struct hk_err *err);
	void (*kick)(struct hk_vcpu *vcpu);
	int (*get_state)(struct hk_vcpu *vcpu, struct hk_vcpu_state *state, struct hk_err *err);
	int (*set_state)(
		struct hk_vcpu *vcpu, const struct hk_vcpu_state *state, struct hk_err *err);
	int (*get_irqchip)(
		struct hk_engine *engine, struct hk_irqchip_state *state, struct hk_err *err);
	int (*set_irqchip)(
		struct hk_engine *engine, const struct hk_irqchip_state *state, struct hk_err *err);
	int (*get_clock)(
		struct hk_engine *engine, struct hk_clock_state *state, struct hk_err *err);
	int (*set_clock)(
		struct hk_engine *engine, const struct hk_clock_state *state, struct hk_err *err);
};

/* First member of every implementation. */
struct hk_engine {
	const struct hk_engine_ops *ops;
	struct hk_engine_config config;
};

struct hk_vcpu {
	struct hk_engine *engine; /* borrowed */
	unsigned index;           /* also its APIC id */
};

#endif
