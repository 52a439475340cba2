/* SPDX-License-Identifier: ISC */
/*
 * CPU models: which CPU a guest sees, as a table of CPUID leaves and MSRs.
 *
 * `hako-v2` is fixed: the same bits on every engine and host, so that a box can move.
 * `host` shows what the host has and ties the box to it.
 */
#ifndef HK_ENGINE_CPUID_H
#define HK_ENGINE_CPUID_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum { HK_MAX_CPUID_LEAVES = 128 };

/** struct hk_cpuid_leaf - one answer of the CPUID instruction */
struct hk_cpuid_leaf {
	uint32_t function;
	uint32_t index;
	bool has_index; /* does ECX select among sub-leaves? */
	uint32_t eax, ebx, ecx, edx;
};

struct hk_cpuid {
	struct hk_cpuid_leaf leaves[HK_MAX_CPUID_LEAVES];
	unsigned count;
};

enum { HK_CPU_HAKO_V2_XCR0 = 3 }; /* x87 and SSE state */

enum hk_cpu_base { HK_CPU_HAKO_V2, HK_CPU_HOST, HK_CPU_BASE_COUNT };

/**
 * struct hk_cpu_model - a parsed --cpu value
 * @features: switched on beyond the base: bit n is enum hk_feature n (soft/isa.h)
 */
struct hk_cpu_model {
	enum hk_cpu_base base;
	uint32_t features;
};

/** hk_cpu_model_parse() - "hako-v2" or "host", then ",+FEATURE" any number of times. Return: 0 or
 * -EINVAL. */
int hk_cpu_model_parse(const char *text, struct hk_cpu_model *ret_model, struct hk_err *err);

/**
 * hk_cpuid_build() - the leaves that vCPU @apic_id of @vcpu_count shows
 * @host: what the engine can support; every bit of `hako-v2` and every feature that was added must
 *	be among it
 * @tsc_khz: frequency of the guest's TSC, told to the guest in leaf 0x40000010
 *
 * Return: 0; -ENOTSUP where the host lacks a feature of the model, which is named in @err.
 */
int hk_cpuid_build(const struct hk_cpu_model *model, const struct hk_cpuid *host, unsigned apic_id,
	unsigned vcpu_count, uint32_t tsc_khz, struct hk_cpuid *ret_cpuid, struct hk_err *err);

/** hk_cpuid_soft() - all that the CPU in software can do: @host for hk_cpuid_build() */
void hk_cpuid_soft(struct hk_cpuid *ret_cpuid);

/** hk_cpuid_features() - the optional features among @cpuid, as in hk_cpu_model */
uint32_t hk_cpuid_features(const struct hk_cpuid *cpuid);

/* Leaf 0x40000001, EAX: a halted CPU can be woken by hypercall. */
#define HK_KVM_PV_UNHALT (1u << 7)

/** hk_cpuid_find() - NULL where the leaf is not there */
const struct hk_cpuid_leaf *hk_cpuid_find(
	const struct hk_cpuid *cpuid, uint32_t function, uint32_t index);

/* MSRs whose value the model fixes (IA32_ARCH_CAPABILITIES, microcode revision, ...). */
struct hk_msr_value {
	uint32_t index;
	uint64_t value;
};
const struct hk_msr_value *hk_cpu_model_msrs(const struct hk_cpu_model *model, unsigned *ret_count);

#endif
