/* SPDX-License-Identifier: ISC */
/*
 * What the generator knows of the rows of the instruction table: which are run, what has to be
 * prepared for them, which flags they touch.
 */
#include "gen_impl.h"

#include <stdlib.h>

#include "base/util.h"

/* Rows that are not run, by mnemonic. */
static const struct excuse {
	const char *name, *reason;
} excuses[] = {
	{"cpuid", "each CPU has its own answers"},
	{"rdpmc", "whether user code may is the kernel's choice"},
	{"sgdt", "UMIP: kernels emulate it"},
	{"sidt", "UMIP: kernels emulate it"},
	{"sldt", "UMIP: kernels emulate it"},
	{"str", "UMIP: kernels emulate it"},
	{"smsw", "UMIP: kernels emulate it"},
	{"syscall", "would be a system call"},
	{"sysenter", "would be a system call"},
	{"vmcall", "would be a hypercall"},
	{"vmmcall", "would be a hypercall"},
	{"monitor", "differs between makers in user mode"},
	{"mwait", "differs between makers in user mode"},
};

static const struct {
	const char *name;
	enum special special;
} specials[] = {
	{"movsb", STRING},
	{"movsw", STRING},
	{"cmpsb", STRING},
	{"cmpsw", STRING},
	{"stosb", STRING},
	{"stosw", STRING},
	{"lodsb", STRING},
	{"lodsw", STRING},
	{"scasb", STRING},
	{"scasw", STRING},
	{"div", DIVIDE},
	{"idiv", DIVIDE},
	{"shl", SHIFT},
	{"shr", SHIFT},
	{"sar", SHIFT},
	{"rol", ROTATE},
	{"ror", ROTATE},
	{"rcl", ROTATE_CARRY},
	{"rcr", ROTATE_CARRY},
	{"shld", SHIFT_DOUBLE},
	{"shrd", SHIFT_DOUBLE},
	{"ret", RETURN},
	{"retf", RETURN_FAR},
	{"iretw", RETURN_INT},
	{"popfw", POP_FLAGS},
	{"lar", SELECTOR},
	{"lsl", SELECTOR},
	{"verr", SELECTOR},
	{"verw", SELECTOR},
	{"les", LOAD_FAR},
	{"lds", LOAD_FAR},
	{"lss", LOAD_FAR},
	{"lfs", LOAD_FAR},
	{"lgs", LOAD_FAR},
	{"int", INTERRUPT},
	{"enter", ENTER},
	{"rdtsc", NO_COMPARE},
	{"rdtscp", NO_COMPARE},
	{"rdpid", NO_COMPARE},
	{"rdrand", NO_COMPARE},
	{"rdseed", NO_COMPARE},
	{"xgetbv", NO_COMPARE},
	{"bswap", NO_OPSIZE},
	{"rcpps", RCP},
	{"rcpss", RCP},
	{"rsqrtps", RCP},
	{"rsqrtss", RCP},
	{"f2xm1", SMALL_ARGUMENT},
	{"fcos", INEXACT},
	{"fpatan", INEXACT},
	{"fptan", INEXACT},
	{"fsin", INEXACT},
	{"fsincos", INEXACT},
	{"fyl2x", INEXACT},
	{"fyl2xp1", SMALL_ARGUMENT},
	{"dpps", ANY_NAN},
	{"dppd", ANY_NAN},
	{"maskmovq", MASKED_MOVE},
	{"maskmovdqu", MASKED_MOVE},
	{"fbstp", LONG},
	{"cvtpi2ps", MMX_MODE},
	{"cvtpi2pd", MMX_MODE},
	{"fldenv", FRESH_X87},
	{"fnstenv", FRESH_X87},
	{"fnsave", FRESH_X87},
	{"frstor", FRESH_X87},
	{"fxsave", FRESH_X87},
	{"fxsave64", FRESH_X87},
	{"fxrstor", FRESH_X87},
	{"fxrstor64", FRESH_X87},
	{"xsave", XSAVE},
	{"xsave64", XSAVE},
	{"xsaveopt", XSAVE},
	{"xsaveopt64", XSAVE},
	{"xrstor", XSAVE},
	{"xrstor64", XSAVE},
};

static const char *find_excuse(const struct isa_gen *gen, const struct hk_isa_row *row)
{
	for (unsigned i = 0; i < HK_ARRAY_SIZE(excuses); i++) {
		if (isa_gen_is_called(row, excuses[i].name)) {
			return excuses[i].reason;
		}
	}
	if ((gen->options.features >> row->feature & 1) == 0) {
		return row->feature == HK_FEAT_SMAP || row->feature == HK_FEAT_INVPCID
			? "of the system"
			: "this host does not have it";
	}
	if ((row->flags & HK_ROW_I64) != 0 && !gen->options.code32) {
		return "this host does not run 32-bit code";
	}
	if (!gen->options.fsgsbase && strpbrk(row->operands, "S") != NULL) {
		return "without FSGSBASE, FS is the C library's";
	}
	if (!gen->options.fsgsbase &&
		(strcmp(row->operands, "fs") == 0 || strcmp(row->operands, "gs") == 0 ||
			isa_gen_is_called(row, "lfs") || isa_gen_is_called(row, "lgs"))) {
		return "without FSGSBASE, FS is the C library's";
	}
	return NULL;
}

static enum special find_special(const struct hk_isa_row *row)
{
	for (unsigned i = 0; i < HK_ARRAY_SIZE(specials); i++) {
		if (isa_gen_is_called(row, specials[i].name)) {
			return specials[i].special;
		}
	}
	if (row->map == HK_MAP_L && row->op == 0xff) {
		unsigned ext = row->ext & 7;

		return ext == 2 || ext == 4 ? BRANCH_RM : ext == 3 || ext == 5 ? FAR_MEM : PLAIN;
	}
	if (strcmp(row->operands, "Ap") == 0) {
		return FAR_IMM;
	}
	if (strcmp(row->operands, "Sw,Ew") == 0) {
		return SELECTOR;
	}
	if (strcmp(row->operands, "Mt") == 0) {
		return LONG;
	}
	if (strcmp(row->name, "pop") == 0 && strlen(row->operands) == 2 &&
		row->operands[1] == 's') {
		return POP_SELECTOR;
	}
	return PLAIN;
}

static void describe(struct isa_gen *gen, unsigned index)
{
	const struct hk_isa_row *isa = &hk_isa[index];
	struct row *row = &gen->rows[index];

	row->operand_count = hk_isa_operands(isa, row->operands);
	row->excuse = row->operand_count > HK_MAX_OPERANDS ? "its operands cannot be read"
							   : find_excuse(gen, isa);
	row->special = find_special(isa);
	row->has_modrm = isa->ext != EXT_ANY;
	row->family = isa->map == HK_MAP_L && isa->op >= 0xd8 && isa->op <= 0xdf ? X87 : INTEGER;
	for (unsigned i = 0; i < row->operand_count && i < HK_MAX_OPERANDS; i++) {
		char place = row->operands[i].place;

		if (strchr("EGRMSCDVWUPQNT", place) != NULL) {
			row->has_modrm = true;
		}
		if (strchr("PQN", place) != NULL) {
			row->family = MMX;
		} else if (strchr("VWU", place) != NULL && row->family != MMX) {
			row->family = SSE;
		}
	}
	for (unsigned i = 0; i < HK_ARRAY_SIZE(isa_flags_rules); i++) {
		if (isa_gen_is_called(isa, isa_flags_rules[i].name)) {
			row->flags = isa_flags_rules[i];
		}
	}
}

static bool fits_mode(const struct hk_isa_row *row, bool code64)
{
	return (row->flags & (code64 ? HK_ROW_I64 : HK_ROW_O64)) == 0 &&
		(code64 || row->map == HK_MAP_L || row->map >= HK_MAP_V1 ||
			(row->flags & HK_ROW_W1) == 0);
}

static bool fill_pools(struct isa_gen *gen)
{
	const char *only = gen->options.only;

	for (unsigned mode = 0; mode < 2; mode++) {
		for (unsigned family = 0; family <= FAMILY_COUNT; family++) {
			struct pool *pool = &gen->pools[mode][family];

			pool->rows = calloc(hk_isa_count + 1, sizeof(*pool->rows));
			if (pool->rows == NULL) {
				return false;
			}
			for (unsigned i = 0; i < hk_isa_count; i++) {
				const struct row *row = &gen->rows[i];

				if (row->excuse == NULL && fits_mode(&hk_isa[i], mode == 0) &&
					(family == FAMILY_COUNT || row->family == family) &&
					(only == NULL || isa_gen_is_called(&hk_isa[i], only))) {
					pool->rows[pool->count++] = (uint16_t)i;
				}
			}
		}
	}
	return gen->pools[0][FAMILY_COUNT].count + gen->pools[1][FAMILY_COUNT].count > 0;
}

struct isa_gen *isa_gen_create(const struct isa_gen_options *options)
{
	struct isa_gen *gen = calloc(1, sizeof(*gen));

	if (gen == NULL) {
		return NULL;
	}
	gen->options = *options;
	gen->rows = calloc(hk_isa_count, sizeof(*gen->rows));
	for (unsigned i = 0; gen->rows != NULL && i < hk_isa_count; i++) {
		describe(gen, i);
	}
	if (gen->rows == NULL || !fill_pools(gen)) {
		isa_gen_destroy(gen);
		return NULL;
	}
	return gen;
}

void isa_gen_destroy(struct isa_gen *gen)
{
	if (gen == NULL) {
		return;
	}
	for (unsigned mode = 0; mode < 2; mode++) {
		for (unsigned family = 0; family <= FAMILY_COUNT; family++) {
			free(gen->pools[mode][family].rows);
		}
	}
	free(gen->rows);
	free(gen);
}

const char *isa_gen_excuse(const struct isa_gen *gen, unsigned row)
{
	return gen->rows[row].excuse;
}

uint64_t isa_gen_surprises(const struct isa_gen *gen)
{
	return gen->surprises;
}
