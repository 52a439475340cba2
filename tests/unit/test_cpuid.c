/* SPDX-License-Identifier: ISC */
/* CPU models: hako-v2 is the same everywhere, and says so when a host cannot give it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "base/util.h"
#include "engine/cpuid.h"
#include "engine/soft/isa.h"

static const struct hk_cpu_model v2 = {.base = HK_CPU_HAKO_V2};
static const struct hk_cpu_model host_model = {.base = HK_CPU_HOST};

/* A host that has every feature, and much more than the model shows. */
static void make_rich_host(struct hk_cpuid *host)
{
	static const uint32_t functions[] = {0, 1, 6, 7, 0xd, 0x40000000, 0x40000001, 0x80000000,
		0x80000001, 0x80000007, 0x80000008};

	*host = (struct hk_cpuid){0};
	for (size_t i = 0; i < HK_ARRAY_SIZE(functions); i++) {
		host->leaves[host->count++] = (struct hk_cpuid_leaf){
			.function = functions[i],
			.eax = UINT32_MAX,
			.ebx = UINT32_MAX,
			.ecx = UINT32_MAX,
			.edx = UINT32_MAX,
		};
	}
}

static struct hk_cpuid build(const struct hk_cpu_model *model, unsigned apic_id, unsigned count)
{
	struct hk_cpuid host, cpuid;

	make_rich_host(&host);
	assert_int_equal(hk_cpuid_build(model, &host, apic_id, count, 2700000, &cpuid, NULL), 0);
	return cpuid;
}

static const struct hk_cpuid_leaf *leaf(const struct hk_cpuid *cpuid, uint32_t function)
{
	const struct hk_cpuid_leaf *found = hk_cpuid_find(cpuid, function, 0);

	assert_non_null(found);
	return found;
}

/*
 * The bits of the model, written down a second time from DESIGN section 4 and the psABI's
 * definition of x86-64-v2, not from cpuid.c.
 */
static void hako_v2_is_exactly_this(void **state)
{
	struct hk_cpuid c = build(&v2, 0, 1);

	assert_int_equal(leaf(&c, 1)->eax, 0x000206a7);
	assert_int_equal(leaf(&c, 1)->ecx, 0x87b82203);
	assert_int_equal(leaf(&c, 1)->edx, 0x078bfbfd & ~(1u << 1)); /* no VME */
	assert_int_equal(leaf(&c, 7)->ebx, 0);                       /* no AVX2, BMI, SMEP */
	assert_int_equal(leaf(&c, 7)->ecx, 0);
	assert_int_equal(leaf(&c, 7)->edx, 1u << 29);
	assert_int_equal(leaf(&c, 0xd)->eax, 3);
	assert_int_equal(leaf(&c, 0xd)->ebx, 576);
	assert_int_equal(leaf(&c, 0x80000001)->ecx, 1);
	assert_int_equal(leaf(&c, 0x80000001)->edx, 0x2c100800);
	assert_null(hk_cpuid_find(&c, 0x80000007, 0)); /* no invariant TSC */
	assert_int_equal(leaf(&c, 0x40000001)->eax, 1u << 24 | 1u << 6 | 1u << 3 | 1u << 1);
	assert_int_equal(leaf(&c, 0x80000008)->eax, 39 | 48 << 8);
}

static void vendors(void **state)
{
	struct hk_cpuid c = build(&v2, 0, 1);
	char text[13] = "";

	memcpy(text, &leaf(&c, 0)->ebx, 4);
	memcpy(text + 4, &leaf(&c, 0)->edx, 4);
	memcpy(text + 8, &leaf(&c, 0)->ecx, 4);
	assert_string_equal(text, "GenuineIntel");
	memcpy(text, &leaf(&c, 0x40000000)->ebx, 4);
	memcpy(text + 4, &leaf(&c, 0x40000000)->ecx, 4);
	memcpy(text + 8, &leaf(&c, 0x40000000)->edx, 4);
	assert_string_equal(text, "KVMKVMKVM");
}

static void topology(void **state)
{
	struct hk_cpuid c = build(&v2, 5, 6);

	assert_int_equal(leaf(&c, 1)->ebx >> 24, 5);
	assert_int_equal(leaf(&c, 1)->ebx >> 16 & 0xff, 6);
	assert_int_equal(leaf(&c, 1)->edx >> 28 & 1, 1);
	assert_int_equal(hk_cpuid_find(&c, 0xb, 0)->edx, 5);
	assert_int_equal(hk_cpuid_find(&c, 0xb, 1)->eax, 3); /* six cores need three bits */
	assert_int_equal(hk_cpuid_find(&c, 0xb, 1)->ebx, 6);
	assert_int_equal(hk_cpuid_find(&c, 0xb, 2)->ecx, 2);
}

/* Each feature that comes from the host, taken away in turn, must be named. */
static void missing_features_are_named(void **state)
{
	static const struct {
		uint32_t function;
		char reg;
		unsigned bit;
		const char *name;
	} table[] = {
		{1, 'c', 20, "sse4.2"},
		{1, 'c', 23, "popcnt"},
		{1, 'c', 25, "aes"},
		{1, 'c', 26, "xsave"},
		{1, 'c', 13, "cx16"},
		{1, 'd', 26, "sse2"},
		{0x80000001, 'd', 20, "nx"},
		{0x80000001, 'd', 26, "pdpe1gb"},
		{0x80000001, 'd', 29, "lm"},
		{0x40000001, 'a', 3, "kvmclock2"},
	};

	for (size_t i = 0; i < HK_ARRAY_SIZE(table); i++) {
		struct hk_err err = HK_ERR_INIT;
		struct hk_cpuid host, cpuid;

		make_rich_host(&host);

		struct hk_cpuid_leaf *l = (struct hk_cpuid_leaf *)leaf(&host, table[i].function);
		uint32_t mask = ~(1u << table[i].bit);

		l->eax &= table[i].reg == 'a' ? mask : UINT32_MAX;
		l->ecx &= table[i].reg == 'c' ? mask : UINT32_MAX;
		l->edx &= table[i].reg == 'd' ? mask : UINT32_MAX;
		assert_int_equal(hk_cpuid_build(&v2, &host, 0, 1, 0, &cpuid, &err), -ENOTSUP);
		assert_non_null(strstr(hk_err_text(&err), table[i].name));
		assert_non_null(strstr(err.hint, "--cpu host"));
	}
}

static void features_that_we_make_need_no_host(void **state)
{
	struct hk_cpuid host, cpuid;

	make_rich_host(&host);
	((struct hk_cpuid_leaf *)leaf(&host, 1))->ecx &= ~(1u << 24 | 1u << 21 | 1u << 31);
	((struct hk_cpuid_leaf *)leaf(&host, 7))->edx = 0;
	assert_int_equal(hk_cpuid_build(&v2, &host, 0, 1, 0, &cpuid, NULL), 0);
	assert_int_equal(leaf(&cpuid, 1)->ecx & 1u << 24, 1u << 24);
}

static void host_model_keeps_features_and_corrects_identity(void **state)
{
	struct hk_cpuid c = build(&host_model, 3, 4);

	assert_int_equal(leaf(&c, 7)->ebx, UINT32_MAX);
	assert_int_equal(leaf(&c, 1)->ebx >> 24, 3);
	assert_int_equal(hk_cpuid_find(&c, 0xb, 0)->edx, 3);
	assert_null(hk_cpuid_find(&c, 0xa, 0));
	assert_int_equal(leaf(&c, 0x40000010)->eax, 2700000);
}

static void parse(void **state)
{
	struct hk_cpu_model model;
	struct hk_err err = HK_ERR_INIT;

	assert_int_equal(hk_cpu_model_parse("host", &model, &err), 0);
	assert_int_equal(model.base, HK_CPU_HOST);
	assert_int_equal(hk_cpu_model_parse("hako-v2", &model, &err), 0);
	assert_int_equal(model.base, HK_CPU_HAKO_V2);
	assert_int_equal(hk_cpu_model_parse("hako-v9", &model, &err), -EINVAL);
	assert_string_equal(hk_err_text(&err), "CPU model 'hako-v9': not known");
	assert_int_equal(hk_cpu_model_parse("", &model, &err), -EINVAL);
}

static void parse_features(void **state)
{
	struct hk_cpu_model model;
	struct hk_err err = HK_ERR_INIT;

	assert_int_equal(hk_cpu_model_parse("hako-v2,+bmi1,+sha", &model, &err), 0);
	assert_int_equal(model.base, HK_CPU_HAKO_V2);
	assert_int_equal(model.features, 1u << HK_FEAT_BMI1 | 1u << HK_FEAT_SHA);
	assert_int_equal(hk_cpu_model_parse("hako-v2,+fsrm", &model, &err), 0);
	assert_int_equal(model.features, 1u << HK_FEAT_FSRM | 1u << HK_FEAT_ERMS);
	assert_int_equal(hk_cpu_model_parse("host,+rdrand", &model, &err), 0);
	assert_int_equal(model.base, HK_CPU_HOST);

	assert_int_equal(hk_cpu_model_parse("hako-v2,+avx2", &model, &err), -EINVAL);
	assert_string_equal(
		hk_err_text(&err), "CPU model 'hako-v2,+avx2': feature '+avx2': not known");
	assert_non_null(strstr(err.hint,
		"fsgsbase smep smap umip pcid invpcid erms fsrm rdrand "
		"rdseed movbe bmi1 bmi2 lzcnt adx sha"));
	assert_int_equal(hk_cpu_model_parse("hako-v2,", &model, NULL), -EINVAL);
	assert_int_equal(hk_cpu_model_parse("hako-v2,bmi1", &model, NULL), -EINVAL);
	assert_int_equal(hk_cpu_model_parse("hako-v2,+", &model, NULL), -EINVAL);
	assert_int_equal(hk_cpu_model_parse("hako-v2,+bmi", &model, NULL), -EINVAL);
	assert_int_equal(hk_cpu_model_parse("hako-v2x,+bmi1", &model, NULL), -EINVAL);
}

static void assert_same_leaves(const struct hk_cpuid *a, const struct hk_cpuid *b)
{
	assert_int_equal(a->count, b->count);
	for (unsigned i = 0; i < a->count; i++) {
		const struct hk_cpuid_leaf *x = &a->leaves[i], *y = &b->leaves[i];

		assert_int_equal(x->function, y->function);
		assert_int_equal(x->index, y->index);
		assert_int_equal(x->has_index, y->has_index);
		assert_int_equal(x->eax, y->eax);
		assert_int_equal(x->ebx, y->ebx);
		assert_int_equal(x->ecx, y->ecx);
		assert_int_equal(x->edx, y->edx);
	}
}

/* Where the SDM has them (vol. 2A, CPUID), once more; and nothing else changes (but for fsrm, which
 * brings erms). */
static void features_can_be_added(void **state)
{
	static const struct {
		const char *name;
		uint32_t function;
		char reg;
		unsigned bit;
	} rows[] = {
		{"fsgsbase", 7, 'b', 0},
		{"bmi1", 7, 'b', 3},
		{"smep", 7, 'b', 7},
		{"bmi2", 7, 'b', 8},
		{"erms", 7, 'b', 9},
		{"invpcid", 7, 'b', 10},
		{"rdseed", 7, 'b', 18},
		{"adx", 7, 'b', 19},
		{"smap", 7, 'b', 20},
		{"sha", 7, 'b', 29},
		{"umip", 7, 'c', 2},
		{"fsrm", 7, 'd', 4},
		{"pcid", 1, 'c', 17},
		{"movbe", 1, 'c', 22},
		{"rdrand", 1, 'c', 30},
		{"lzcnt", 0x80000001, 'c', 5},
	};
	static struct hk_cpuid plain, more;

	plain = build(&v2, 1, 2);
	assert_int_equal(hk_cpuid_features(&plain), 0);
	for (size_t i = 0; i < HK_ARRAY_SIZE(rows); i++) {
		struct hk_cpu_model model;
		char text[32] = "hako-v2,+";

		memcpy(text + 9, rows[i].name, strlen(rows[i].name) + 1);
		assert_int_equal(hk_cpu_model_parse(text, &model, NULL), 0);
		more = build(&model, 1, 2);
		assert_int_equal(hk_cpuid_features(&more), model.features);

		struct hk_cpuid_leaf *l = (struct hk_cpuid_leaf *)leaf(&more, rows[i].function);
		uint32_t *reg = rows[i].reg == 'b' ? &l->ebx
			: rows[i].reg == 'c'       ? &l->ecx
						   : &l->edx;

		assert_int_not_equal(*reg & 1u << rows[i].bit, 0);
		*reg &= ~(1u << rows[i].bit);
		if (strcmp(rows[i].name, "fsrm") == 0) {
			((struct hk_cpuid_leaf *)leaf(&more, 7))->ebx &= ~(1u << 9);
		}
		assert_same_leaves(&more, &plain);
	}
}

static void added_features_must_be_there(void **state)
{
	static struct hk_cpuid host, cpuid;
	struct hk_cpu_model model;
	struct hk_err err = HK_ERR_INIT;

	make_rich_host(&host);
	assert_int_equal(hk_cpu_model_parse("hako-v2,+adx,+sha", &model, NULL), 0);
	((struct hk_cpuid_leaf *)leaf(&host, 7))->ebx &= ~(1u << 29);
	assert_int_equal(hk_cpuid_build(&model, &host, 0, 1, 1000, &cpuid, &err), -ENOTSUP);
	assert_string_equal(hk_err_text(&err), "CPU feature 'sha': this host's CPU has none");
}

/* The CPU in software has all that can be asked for. */
static void software_has_everything(void **state)
{
	static struct hk_cpuid soft, cpuid;
	struct hk_cpu_model all = {.base = HK_CPU_HAKO_V2};

	hk_cpuid_soft(&soft);
	all.features = (1u << HK_FEAT_COUNT) - 1 - (1u << HK_FEAT_BASE);
	assert_int_equal(hk_cpuid_build(&all, &soft, 0, 1, 1000000, &cpuid, NULL), 0);
	assert_int_equal(hk_cpuid_features(&cpuid), all.features);
	assert_int_equal(hk_cpuid_build(&v2, &soft, 0, 1, 1000000, &cpuid, NULL), 0);
	assert_int_equal(hk_cpuid_features(&cpuid), 0);
	assert_int_equal(hk_cpuid_build(&host_model, &soft, 3, 4, 1000000, &cpuid, NULL), 0);
	assert_int_equal(hk_cpuid_features(&cpuid), all.features);
	assert_int_equal(leaf(&cpuid, 0x40000010)->eax, 1000000);
	assert_int_equal(leaf(&cpuid, 1)->ebx >> 24, 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hako_v2_is_exactly_this),
		cmocka_unit_test(vendors),
		cmocka_unit_test(topology),
		cmocka_unit_test(missing_features_are_named),
		cmocka_unit_test(features_that_we_make_need_no_host),
		cmocka_unit_test(host_model_keeps_features_and_corrects_identity),
		cmocka_unit_test(parse),
		cmocka_unit_test(parse_features),
		cmocka_unit_test(features_can_be_added),
		cmocka_unit_test(added_features_must_be_there),
		cmocka_unit_test(software_has_everything),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
