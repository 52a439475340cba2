/* SPDX-License-Identifier: ISC */
/*
 * CPU models as CPUID leaves.
 *
 * The features of `hako-v2` are one table; leaves 1, 6, 7, 0x80000001 and KVM's feature leaf
 * follow from it. It says Intel and family 6 because Linux then probes least, and sets every "not
 * affected" bit of IA32_ARCH_CAPABILITIES: inside a box there is one user, whose own programs the
 * mitigations would keep apart from one another.
 *
 * What can be added by name, ",+FEATURE", stands in a second table.
 *
 * `host` starts from what the engine supports and changes what must be right for a guest:
 * APIC ids, topology, the hypervisor leaves.
 *
 * Sources: Intel SDM vol. 2A, CPUID; Linux Documentation/virt/kvm/x86/cpuid.rst.
 */
#include "engine/cpuid.h"

#include <assert.h>
#include <string.h>

#include "base/str.h"
#include "base/util.h"
#include "engine/msr.h"
#include "engine/soft/isa.h" /* enum hk_feature */

enum reg { EAX, EBX, ECX, EDX, REG_COUNT };

enum feature_source {
	FROM_HOST, /* the host must have it */
	OURS,      /* the engine makes it, whatever the host's CPUID says */
};

struct feature {
	const char *name;
	uint32_t function;
	enum reg reg;
	unsigned bit;
	enum feature_source source;
};

enum {
	LEAF_BASIC = 1,
	LEAF_CACHE = 4,
	LEAF_POWER = 6,
	LEAF_STRUCTURED = 7,
	LEAF_TOPOLOGY = 0xb,
	LEAF_XSAVE = 0xd,
};
#define LEAF_HYPERVISOR   0x40000000u
#define LEAF_KVM_FEATURES 0x40000001u
#define LEAF_TIMING       0x40000010u
#define LEAF_EXTENDED     0x80000001u
#define LEAF_BRAND        0x80000002u
#define LEAF_ADDRESS_SIZE 0x80000008u

/* hako-v2: x86-64-v2 and what DESIGN names beside it. Nothing may be added: a new list is a new
 * model. */
static const struct feature hako_v2[] = {
	{"fpu", LEAF_BASIC, EDX, 0, FROM_HOST},
	{"de", LEAF_BASIC, EDX, 2, FROM_HOST},
	{"pse", LEAF_BASIC, EDX, 3, FROM_HOST},
	{"tsc", LEAF_BASIC, EDX, 4, FROM_HOST},
	{"msr", LEAF_BASIC, EDX, 5, FROM_HOST},
	{"pae", LEAF_BASIC, EDX, 6, FROM_HOST},
	{"mce", LEAF_BASIC, EDX, 7, FROM_HOST},
	{"cx8", LEAF_BASIC, EDX, 8, FROM_HOST},
	{"apic", LEAF_BASIC, EDX, 9, FROM_HOST},
	{"sep", LEAF_BASIC, EDX, 11, FROM_HOST},
	{"mtrr", LEAF_BASIC, EDX, 12, FROM_HOST},
	{"pge", LEAF_BASIC, EDX, 13, FROM_HOST},
	{"mca", LEAF_BASIC, EDX, 14, FROM_HOST},
	{"cmov", LEAF_BASIC, EDX, 15, FROM_HOST},
	{"pat", LEAF_BASIC, EDX, 16, FROM_HOST},
	{"pse36", LEAF_BASIC, EDX, 17, FROM_HOST},
	{"clflush", LEAF_BASIC, EDX, 19, FROM_HOST},
	{"mmx", LEAF_BASIC, EDX, 23, FROM_HOST},
	{"fxsr", LEAF_BASIC, EDX, 24, FROM_HOST},
	{"sse", LEAF_BASIC, EDX, 25, FROM_HOST},
	{"sse2", LEAF_BASIC, EDX, 26, FROM_HOST},
	{"sse3", LEAF_BASIC, ECX, 0, FROM_HOST},
	{"pclmulqdq", LEAF_BASIC, ECX, 1, FROM_HOST},
	{"ssse3", LEAF_BASIC, ECX, 9, FROM_HOST},
	{"cx16", LEAF_BASIC, ECX, 13, FROM_HOST},
	{"sse4.1", LEAF_BASIC, ECX, 19, FROM_HOST},
	{"sse4.2", LEAF_BASIC, ECX, 20, FROM_HOST},
	{"x2apic", LEAF_BASIC, ECX, 21, OURS},
	{"popcnt", LEAF_BASIC, ECX, 23, FROM_HOST},
	{"tsc-deadline", LEAF_BASIC, ECX, 24, OURS},
	{"aes", LEAF_BASIC, ECX, 25, FROM_HOST},
	{"xsave", LEAF_BASIC, ECX, 26, FROM_HOST},
	{"hypervisor", LEAF_BASIC, ECX, 31, OURS},
	{"arat", LEAF_POWER, EAX, 2, OURS}, /* the APIC timer never stops */
	{"arch-capabilities", LEAF_STRUCTURED, EDX, 29, OURS},
	{"lahf", LEAF_EXTENDED, ECX, 0, FROM_HOST},
	{"syscall", LEAF_EXTENDED, EDX, 11, FROM_HOST},
	{"nx", LEAF_EXTENDED, EDX, 20, FROM_HOST},
	{"pdpe1gb", LEAF_EXTENDED, EDX, 26, FROM_HOST},
	{"rdtscp", LEAF_EXTENDED, EDX, 27, FROM_HOST},
	{"lm", LEAF_EXTENDED, EDX, 29, FROM_HOST},
	{"kvm-nop-io-delay", LEAF_KVM_FEATURES, EAX, 1, OURS},
	{"kvmclock2", LEAF_KVM_FEATURES, EAX, 3, FROM_HOST},
	{"kvm-pv-eoi", LEAF_KVM_FEATURES, EAX, 6, FROM_HOST},
	{"kvmclock-stable", LEAF_KVM_FEATURES, EAX, 24, FROM_HOST},
};

/* What can be switched on beyond a model's own list. */
static const struct feature options[HK_FEAT_COUNT] = {
	[HK_FEAT_FSGSBASE] = {"fsgsbase", LEAF_STRUCTURED, EBX, 0, FROM_HOST},
	[HK_FEAT_SMEP] = {"smep", LEAF_STRUCTURED, EBX, 7, FROM_HOST},
	[HK_FEAT_SMAP] = {"smap", LEAF_STRUCTURED, EBX, 20, FROM_HOST},
	[HK_FEAT_UMIP] = {"umip", LEAF_STRUCTURED, ECX, 2, FROM_HOST},
	[HK_FEAT_PCID] = {"pcid", LEAF_BASIC, ECX, 17, FROM_HOST},
	[HK_FEAT_INVPCID] = {"invpcid", LEAF_STRUCTURED, EBX, 10, FROM_HOST},
	[HK_FEAT_ERMS] = {"erms", LEAF_STRUCTURED, EBX, 9, FROM_HOST},
	[HK_FEAT_FSRM] = {"fsrm", LEAF_STRUCTURED, EDX, 4, FROM_HOST},
	[HK_FEAT_RDRAND] = {"rdrand", LEAF_BASIC, ECX, 30, FROM_HOST},
	[HK_FEAT_RDSEED] = {"rdseed", LEAF_STRUCTURED, EBX, 18, FROM_HOST},
	[HK_FEAT_MOVBE] = {"movbe", LEAF_BASIC, ECX, 22, FROM_HOST},
	[HK_FEAT_BMI1] = {"bmi1", LEAF_STRUCTURED, EBX, 3, FROM_HOST},
	[HK_FEAT_BMI2] = {"bmi2", LEAF_STRUCTURED, EBX, 8, FROM_HOST},
	[HK_FEAT_LZCNT] = {"lzcnt", LEAF_EXTENDED, ECX, 5, FROM_HOST},
	[HK_FEAT_ADX] = {"adx", LEAF_STRUCTURED, EBX, 19, FROM_HOST},
	[HK_FEAT_SHA] = {"sha", LEAF_STRUCTURED, EBX, 29, FROM_HOST},
};

enum {
	FAMILY_6_MODEL_2A = 0x000206a7,
	CLFLUSH_8_QWORDS = 8 << 8,
	PHYSICAL_BITS = 39, /* the least among hosts of the last ten years */
	LINEAR_BITS = 48,
	XSAVE_LEGACY_BYTES = 576, /* x87 and SSE state, and the header */
};

/* Deterministic cache parameters (leaf 4): only what schedulers and libraries size themselves by.
 */
static const struct hk_cpuid_leaf caches[] = {
	/* 32 KiB L1 data: type 1, level 1, 64-byte lines, 8 ways, 64 sets; then the same for code
         */
	{LEAF_CACHE, 0, true, 0x00000121, 0x01c0003f, 0x0000003f, 0},
	{LEAF_CACHE, 1, true, 0x00000122, 0x01c0003f, 0x0000003f, 0},
	/* 1 MiB unified L2: 16 ways, 1024 sets */
	{LEAF_CACHE, 2, true, 0x00000143, 0x03c0003f, 0x000003ff, 0},
	{LEAF_CACHE, 3, true, 0, 0, 0, 0},
};

static const char brand[48] = "Hako virtual CPU v2";

/* IA32_ARCH_CAPABILITIES: RDCL, SKIP_L1DFL, SSB, MDS, PSCHANGE_MC, TAA, SBDR_SSDP, FBSDP, PSDP,
 * BHI, PBRSB, GDS, RFDS: not affected, nothing to do. Source: Intel SDM vol. 4, table 2-2. */
#define ARCH_CAP_NOT_AFFECTED \
	((1u << 0) | (1u << 3) | (1u << 4) | (1u << 5) | (1u << 6) | (1u << 8) | (1u << 13) | \
		(1u << 14) | (1u << 15) | (1u << 20) | (1u << 24) | (1u << 26) | (1u << 27))

/* What the guest may look at and the hypervisors of different hosts answer differently. */
static const struct hk_msr_value hako_v2_msrs[] = {
	{HK_MSR_MICROCODE_REVISION, UINT64_C(1) << 32},
	{HK_MSR_PLATFORM_INFO, 0}, /* no CPUID faulting: it would be state to save */
	{HK_MSR_ARCH_CAPABILITIES, ARCH_CAP_NOT_AFFECTED},
};

/* The feature of that name, or HK_FEAT_COUNT. */
static unsigned find_option(const char *name, size_t len)
{
	unsigned i = 0;

	while (i < HK_FEAT_COUNT &&
		(options[i].name == NULL || strlen(options[i].name) != len ||
			memcmp(options[i].name, name, len) != 0)) {
		i++;
	}
	return i;
}

static int fail_option(const char *model, const char *name, size_t len, struct hk_err *err)
{
	char known[160] = "";
	size_t used = 0;

	for (unsigned i = 0; i < HK_FEAT_COUNT; i++) {
		if (options[i].name != NULL) {
			int n = hk_fmt(known + used, sizeof(known) - used, "%s%s",
				used > 0 ? " " : "", options[i].name);

			used += n > 0 ? (size_t)n : 0;
		}
	}
	hk_fail_msg(
		err, EINVAL, "CPU model '%s': feature '%.*s': not known", model, (int)len, name);
	hk_err_hint(err, "after a '+' can stand: %s", known);
	return -EINVAL;
}

static int fail_model(const char *text, struct hk_err *err)
{
	hk_fail_msg(err, EINVAL, "CPU model '%s': not known", text);
	hk_err_hint(err, "the models are 'hako-v2' and 'host'");
	return -EINVAL;
}

static bool is_word(const char *text, size_t len, const char *word)
{
	return len == strlen(word) && memcmp(text, word, len) == 0;
}

int hk_cpu_model_parse(const char *text, struct hk_cpu_model *ret_model, struct hk_err *err)
{
	size_t len = strcspn(text, ",");
	struct hk_cpu_model model = {.base = HK_CPU_HAKO_V2};

	if (is_word(text, len, "host")) {
		model.base = HK_CPU_HOST;
	} else if (!is_word(text, len, "hako-v2")) {
		return fail_model(text, err);
	}
	for (const char *at = text + len; *at != '\0'; at += len) {
		unsigned feature;

		at++;
		len = strcspn(at, ",");
		if (*at != '+' || (feature = find_option(at + 1, len - 1)) == HK_FEAT_COUNT) {
			return fail_option(text, at, len, err);
		}
		model.features |= 1u << feature;
		/* No CPU has the one without the other, and Linux's memmove() relies on that. */
		if (feature == HK_FEAT_FSRM) {
			model.features |= 1u << HK_FEAT_ERMS;
		}
	}
	*ret_model = model;
	return 0;
}

const struct hk_msr_value *hk_cpu_model_msrs(const struct hk_cpu_model *model, unsigned *ret_count)
{
	if (model->base != HK_CPU_HAKO_V2) {
		*ret_count = 0;
		return NULL;
	}
	*ret_count = HK_ARRAY_SIZE(hako_v2_msrs);
	return hako_v2_msrs;
}

const struct hk_cpuid_leaf *hk_cpuid_find(
	const struct hk_cpuid *cpuid, uint32_t function, uint32_t index)
{
	for (unsigned i = 0; i < cpuid->count; i++) {
		const struct hk_cpuid_leaf *leaf = &cpuid->leaves[i];

		if (leaf->function == function && (!leaf->has_index || leaf->index == index)) {
			return leaf;
		}
	}
	return NULL;
}

static uint32_t *leaf_reg(struct hk_cpuid_leaf *leaf, enum reg reg)
{
	switch (reg) {
	case EAX:
		return &leaf->eax;
	case EBX:
		return &leaf->ebx;
	case ECX:
		return &leaf->ecx;
	default:
		assert(reg == EDX);
		return &leaf->edx;
	}
}

static struct hk_cpuid_leaf *add_leaf(struct hk_cpuid *cpuid, const struct hk_cpuid_leaf *leaf)
{
	assert(cpuid->count < HK_MAX_CPUID_LEAVES);
	cpuid->leaves[cpuid->count] = *leaf;
	return &cpuid->leaves[cpuid->count++];
}

#define ADD(cpuid, ...) add_leaf(cpuid, &(struct hk_cpuid_leaf){__VA_ARGS__})

/* The twelve bytes of a vendor string; leaf 0 gives them in EBX, EDX, ECX, hypervisors in order. */
static void set_vendor(const char text[12], uint32_t *first, uint32_t *second, uint32_t *third)
{
	memcpy(first, text, 4);
	memcpy(second, text + 4, 4);
	memcpy(third, text + 8, 4);
}

static bool has(const struct hk_cpuid *cpuid, const struct feature *f)
{
	const struct hk_cpuid_leaf *found = hk_cpuid_find(cpuid, f->function, 0);
	struct hk_cpuid_leaf leaf = {0};

	if (found != NULL) {
		leaf = *found;
	}
	return (*leaf_reg(&leaf, f->reg) >> f->bit & 1) != 0;
}

static int check_base(const struct hk_cpuid *host, struct hk_err *err)
{
	for (size_t i = 0; i < HK_ARRAY_SIZE(hako_v2); i++) {
		const struct feature *f = &hako_v2[i];

		if (f->source == FROM_HOST && !has(host, f)) {
			hk_fail_msg(err, ENOTSUP, "CPU model 'hako-v2': this host's CPU has no %s",
				f->name);
			hk_err_hint(err, "--cpu host shows the guest what this host has");
			return -ENOTSUP;
		}
	}
	return 0;
}

static int check_options(
	const struct hk_cpu_model *model, const struct hk_cpuid *host, struct hk_err *err)
{
	for (unsigned i = 0; i < HK_FEAT_COUNT; i++) {
		if ((model->features >> i & 1) != 0 && !has(host, &options[i])) {
			hk_fail_msg(err, ENOTSUP, "CPU feature '%s': this host's CPU has none",
				options[i].name);
			hk_err_hint(err, "leave '+%s' out, or use --engine soft", options[i].name);
			return -ENOTSUP;
		}
	}
	return 0;
}

static void set_options(struct hk_cpuid *cpuid, uint32_t features)
{
	for (unsigned i = 0; i < cpuid->count; i++) {
		struct hk_cpuid_leaf *leaf = &cpuid->leaves[i];

		for (unsigned f = 0; f < HK_FEAT_COUNT; f++) {
			if ((features >> f & 1) != 0 && options[f].function == leaf->function &&
				(!leaf->has_index || leaf->index == 0)) {
				*leaf_reg(leaf, options[f].reg) |= 1u << options[f].bit;
			}
		}
	}
}

uint32_t hk_cpuid_features(const struct hk_cpuid *cpuid)
{
	uint32_t features = 0;

	for (unsigned i = 0; i < HK_FEAT_COUNT; i++) {
		if (options[i].name != NULL && has(cpuid, &options[i])) {
			features |= 1u << i;
		}
	}
	return features;
}

static void set_features(struct hk_cpuid_leaf *leaf)
{
	for (size_t i = 0; i < HK_ARRAY_SIZE(hako_v2); i++) {
		if (hako_v2[i].function == leaf->function) {
			*leaf_reg(leaf, hako_v2[i].reg) |= 1u << hako_v2[i].bit;
		}
	}
}

static struct hk_cpuid_leaf *add_features(struct hk_cpuid *cpuid, uint32_t function)
{
	struct hk_cpuid_leaf *leaf = ADD(cpuid, .function = function);

	set_features(leaf);
	return leaf;
}

/* Leaf 0xb: one thread a core, all cores in one package. */
static void add_topology(struct hk_cpuid *cpuid, unsigned apic_id, unsigned vcpu_count)
{
	unsigned core_bits = 0;

	while (1u << core_bits < vcpu_count) {
		core_bits++;
	}
	/* eax: bits to shift for the next level; ecx: level number and type (1 thread, 2 core). */
	ADD(cpuid, LEAF_TOPOLOGY, 0, true, 0, 1, 0x100, apic_id);
	ADD(cpuid, LEAF_TOPOLOGY, 1, true, core_bits, vcpu_count, 0x201, apic_id);
	ADD(cpuid, LEAF_TOPOLOGY, 2, true, 0, 0, 2, apic_id);
}

static void add_hypervisor(struct hk_cpuid *cpuid, uint32_t kvm_features, uint32_t tsc_khz)
{
	enum { APIC_BUS_KHZ = 1000000 };

	struct hk_cpuid_leaf *hypervisor =
		ADD(cpuid, .function = LEAF_HYPERVISOR, .eax = LEAF_TIMING);

	set_vendor("KVMKVMKVM\0\0", &hypervisor->ebx, &hypervisor->ecx, &hypervisor->edx);
	ADD(cpuid, .function = LEAF_KVM_FEATURES, .eax = kvm_features);
	ADD(cpuid, .function = LEAF_TIMING, .eax = tsc_khz, .ebx = APIC_BUS_KHZ);
}

static uint32_t basic_ebx(unsigned apic_id, unsigned vcpu_count)
{
	return CLFLUSH_8_QWORDS | vcpu_count << 16 | apic_id << 24;
}

static void build_hako_v2(
	struct hk_cpuid *cpuid, unsigned apic_id, unsigned vcpu_count, uint32_t tsc_khz)
{
	enum { HTT = 1 << 28 }; /* leaf 1 EBX[23:16] is valid */

	struct hk_cpuid_leaf *vendor = ADD(cpuid, .function = 0, .eax = LEAF_XSAVE);

	set_vendor("GenuineIntel", &vendor->ebx, &vendor->edx, &vendor->ecx);

	struct hk_cpuid_leaf *basic = add_features(cpuid, LEAF_BASIC);

	basic->eax = FAMILY_6_MODEL_2A;
	basic->ebx = basic_ebx(apic_id, vcpu_count);
	basic->edx |= vcpu_count > 1 ? HTT : 0;

	for (size_t i = 0; i < HK_ARRAY_SIZE(caches); i++) {
		struct hk_cpuid_leaf *cache = add_leaf(cpuid, &caches[i]);

		if ((cache->eax & 0x1f) != 0) {
			cache->eax |= (vcpu_count - 1) << 26;
		}
	}
	add_features(cpuid, LEAF_POWER);

	struct hk_cpuid_leaf *structured = add_features(cpuid, LEAF_STRUCTURED);

	structured->has_index = true;
	add_topology(cpuid, apic_id, vcpu_count);
	ADD(cpuid, LEAF_XSAVE, 0, true, HK_CPU_HAKO_V2_XCR0, XSAVE_LEGACY_BYTES, XSAVE_LEGACY_BYTES,
		0);
	ADD(cpuid, LEAF_XSAVE, 1, true, 0, 0, 0, 0);

	struct hk_cpuid_leaf kvm = {.function = LEAF_KVM_FEATURES};

	set_features(&kvm);
	add_hypervisor(cpuid, kvm.eax, tsc_khz);

	ADD(cpuid, .function = 0x80000000u, .eax = LEAF_ADDRESS_SIZE);
	add_features(cpuid, LEAF_EXTENDED);
	for (unsigned i = 0; i < 3; i++) {
		struct hk_cpuid_leaf *part = ADD(cpuid, .function = LEAF_BRAND + i);

		memcpy(&part->eax, brand + 16 * i, 4);
		memcpy(&part->ebx, brand + 16 * i + 4, 4);
		memcpy(&part->ecx, brand + 16 * i + 8, 4);
		memcpy(&part->edx, brand + 16 * i + 12, 4);
	}
	ADD(cpuid, .function = LEAF_ADDRESS_SIZE, .eax = PHYSICAL_BITS | LINEAR_BITS << 8);
}

static void build_host(struct hk_cpuid *cpuid, const struct hk_cpuid *host, unsigned apic_id,
	unsigned vcpu_count, uint32_t tsc_khz)
{
	uint32_t kvm_features = 0;

	for (unsigned i = 0; i < host->count; i++) {
		struct hk_cpuid_leaf leaf = host->leaves[i];

		switch (leaf.function) {
		case LEAF_BASIC:
			set_features(&leaf); /* x2apic, tsc-deadline, hypervisor among them */
			leaf.ebx = basic_ebx(apic_id, vcpu_count);
			break;
		case LEAF_POWER:
			leaf = (struct hk_cpuid_leaf){.function = LEAF_POWER};
			set_features(&leaf);
			break;
		case LEAF_KVM_FEATURES:
			kvm_features = leaf.eax;
			continue;
		case LEAF_TOPOLOGY:
		case 0x1f:       /* topology again, version 2 */
		case 0xa:        /* no performance counters: they are not saved */
		case 0x8000001e: /* AMD's topology: the host's APIC ids */
			continue;
		default:
			if (leaf.function >= LEAF_HYPERVISOR && leaf.function <= LEAF_TIMING) {
				continue;
			}
			break;
		}
		if (cpuid->count < HK_MAX_CPUID_LEAVES - 8) {
			add_leaf(cpuid, &leaf);
		}
	}
	add_topology(cpuid, apic_id, vcpu_count);
	add_hypervisor(cpuid, kvm_features, tsc_khz);
}

void hk_cpuid_soft(struct hk_cpuid *ret_cpuid)
{
	*ret_cpuid = (struct hk_cpuid){0};
	build_hako_v2(ret_cpuid, 0, 1, 0);
	set_options(ret_cpuid, UINT32_MAX & ~(1u << HK_FEAT_BASE));
	for (unsigned i = 0; i < ret_cpuid->count; i++) {
		if (ret_cpuid->leaves[i].function == LEAF_KVM_FEATURES) {
			ret_cpuid->leaves[i].eax |= HK_KVM_PV_UNHALT;
		}
	}
}

int hk_cpuid_build(const struct hk_cpu_model *model, const struct hk_cpuid *host, unsigned apic_id,
	unsigned vcpu_count, uint32_t tsc_khz, struct hk_cpuid *ret_cpuid, struct hk_err *err)
{
	*ret_cpuid = (struct hk_cpuid){0};

	int r = model->base == HK_CPU_HAKO_V2 ? check_base(host, err) : 0;

	r = r < 0 ? r : check_options(model, host, err);
	if (r < 0) {
		return r;
	}
	if (model->base == HK_CPU_HOST) {
		build_host(ret_cpuid, host, apic_id, vcpu_count, tsc_khz);
	} else {
		build_hako_v2(ret_cpuid, apic_id, vcpu_count, tsc_khz);
	}
	set_options(ret_cpuid, model->features);
	return 0;
}
