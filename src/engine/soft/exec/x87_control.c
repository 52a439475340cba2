/* SPDX-License-Identifier: ISC */
/*
 * x87 control: control and status word, environment, FNSAVE and FRSTOR, FWAIT, EMMS.
 *
 * These do not move the instruction and data pointers. The FN forms do not wait for
 * pending exceptions; the forms without N are an FWAIT before them.
 *
 * The environment has four layouts: 16 or 32 bits by the operand size, and pointers as selector and
 * offset (protected mode) or linear (real and virtual-8086 mode). Source: Intel SDM vol. 1, 8.1.10.
 */
#include "engine/soft/exec/handlers.h"
#include "engine/soft/fpu/x87.h"

enum {
	ENV16_SIZE = 14,
	ENV32_SIZE = 28,
	REGISTERS_SIZE = 8 * 10,
	FOP_MASK = 0x7ff,
};

/* The seven fields of an environment, by their layouts' order. */
enum env_field { ENV_FCW, ENV_FSW, ENV_TAGS, ENV_IP, ENV_CS, ENV_DP, ENV_DS, ENV_FIELD_COUNT };

static bool real_layout(const struct hk_cpu *cpu)
{
	return (cpu->cr0 & HK_CR0_PE) == 0 || (cpu->rflags & HK_FLAG_VM) != 0;
}

static unsigned env_size(const struct hk_insn *insn)
{
	return hk_insn_size(insn) == 1 ? ENV16_SIZE : ENV32_SIZE;
}

static void env_pack(const struct hk_cpu *cpu, const struct hk_insn *insn, uint8_t *buf)
{
	const struct hk_x87 *x87 = &cpu->x87;
	uint32_t ip = (uint32_t)x87->fip, dp = (uint32_t)x87->fdp;
	/* The upper halves of 16-bit fields read all ones. */
	uint32_t field[ENV_FIELD_COUNT] = {
		[ENV_FCW] = UINT32_C(0xffff0000) | x87->fcw,
		[ENV_FSW] = UINT32_C(0xffff0000) | x87->fsw,
		[ENV_TAGS] = UINT32_C(0xffff0000) | hk_x87_tags(x87),
		[ENV_IP] = ip,
		[ENV_CS] = (uint32_t)x87->fop << 16 | x87->fcs,
		[ENV_DP] = dp,
		[ENV_DS] = UINT32_C(0xffff0000) | x87->fds,
	};

	if (real_layout(cpu)) {
		ip += (uint32_t)x87->fcs << 4;
		dp += (uint32_t)x87->fds << 4;
		field[ENV_IP] = UINT32_C(0xffff0000) | (ip & 0xffff);
		field[ENV_CS] = (ip >> 16) << 12 | x87->fop;
		field[ENV_DP] = UINT32_C(0xffff0000) | (dp & 0xffff);
		field[ENV_DS] = (dp >> 16) << 12;
	}
	for (unsigned i = 0; i < ENV_FIELD_COUNT; i++) {
		if (env_size(insn) == ENV16_SIZE) {
			memcpy(buf + 2 * i, &field[i], 2);
		} else {
			memcpy(buf + 4 * i, &field[i], 4);
		}
	}
}

static void env_unpack(struct hk_cpu *cpu, const struct hk_insn *insn, const uint8_t *buf)
{
	struct hk_x87 *x87 = &cpu->x87;
	uint32_t field[ENV_FIELD_COUNT] = {0};
	bool small = env_size(insn) == ENV16_SIZE;

	for (unsigned i = 0; i < ENV_FIELD_COUNT; i++) {
		memcpy(&field[i], buf + (small ? 2 : 4) * i, small ? 2 : 4);
	}
	x87->fcw = (uint16_t)((field[ENV_FCW] & HK_FCW_VALID) | HK_FCW_ONE);
	x87->fsw = (uint16_t)field[ENV_FSW];
	hk_x87_set_tags(x87, (uint16_t)field[ENV_TAGS]);
	hk_x87_update_es(x87);
	if (real_layout(cpu)) {
		x87->fip = (field[ENV_IP] & 0xffff) | (field[ENV_CS] & ~UINT32_C(0xfff)) << 4;
		x87->fdp = (field[ENV_DP] & 0xffff) | (field[ENV_DS] & ~UINT32_C(0xfff)) << 4;
		x87->fcs = 0;
		x87->fds = 0;
		x87->fop = field[ENV_CS] & FOP_MASK;
		return;
	}
	x87->fip = field[ENV_IP];
	x87->fdp = field[ENV_DP];
	x87->fcs = (uint16_t)field[ENV_CS];
	x87->fds = (uint16_t)field[ENV_DS];
	x87->fop = small ? 0 : field[ENV_CS] >> 16 & FOP_MASK;
}

HK_EXEC(fwait)
{
	/* By CR0.MP, not CR0.EM, unlike all others. */
	if ((cpu->cr0 & (HK_CR0_MP | HK_CR0_TS)) == (HK_CR0_MP | HK_CR0_TS)) {
		return hk_raise(cpu, insn, HK_VECTOR_NM);
	}
	if ((cpu->x87.fsw & HK_FSW_ES) != 0) {
		return hk_raise(cpu, insn, HK_VECTOR_MF);
	}
	return HK_NEXT(cpu, insn);
}

HK_EXEC(fninit)
{
	if (!hk_x87_ok(cpu, false)) {
		return hk_give_up(cpu, insn);
	}
	hk_x87_init(&cpu->x87);
	return HK_NEXT(cpu, insn);
}

HK_EXEC(fnclex)
{
	if (!hk_x87_ok(cpu, false)) {
		return hk_give_up(cpu, insn);
	}
	cpu->x87.fsw &= (uint16_t) ~(HK_FSW_B | HK_FSW_ES | HK_FSW_SF | HK_FP_ALL);
	return HK_NEXT(cpu, insn);
}

/* FENI, FDISI, FSETPM: instructions of the 8087 and 287 that do nothing any more */
HK_EXEC(fnop_old)
{
	return hk_x87_ok(cpu, false) ? HK_NEXT(cpu, insn) : hk_give_up(cpu, insn);
}

HK_EXEC(fldcw)
{
	uint16_t value;

	if (!hk_x87_ready(cpu) || !hk_x87_load16(cpu, insn, &value)) {
		return hk_give_up(cpu, insn);
	}
	cpu->x87.fcw = (uint16_t)((value & HK_FCW_VALID) | HK_FCW_ONE);
	hk_x87_update_es(&cpu->x87);
	return HK_NEXT(cpu, insn);
}

HK_EXEC(fnstcw)
{
	if (!hk_x87_ok(cpu, false) || !hk_x87_store_int(cpu, insn, 1, cpu->x87.fcw)) {
		return hk_give_up(cpu, insn);
	}
	return HK_NEXT(cpu, insn);
}

HK_EXEC(fnstsw)
{
	if (!hk_x87_ok(cpu, false) || !hk_x87_store_int(cpu, insn, 1, cpu->x87.fsw)) {
		return hk_give_up(cpu, insn);
	}
	return HK_NEXT(cpu, insn);
}

HK_EXEC(fnstsw_ax)
{
	if (!hk_x87_ok(cpu, false)) {
		return hk_give_up(cpu, insn);
	}
	hk_reg_set(cpu, HK_RAX, 1, cpu->x87.fsw);
	return HK_NEXT(cpu, insn);
}

/* All exceptions are masked after it, so that a handler can compute. */
HK_EXEC(fnstenv)
{
	uint8_t buf[ENV32_SIZE];

	if (!hk_x87_ok(cpu, false)) {
		return hk_give_up(cpu, insn);
	}
	env_pack(cpu, insn, buf);
	if (!hk_x87_store(cpu, insn, buf, env_size(insn))) {
		return hk_give_up(cpu, insn);
	}
	cpu->x87.fcw |= HK_FP_ALL;
	hk_x87_update_es(&cpu->x87);
	return HK_NEXT(cpu, insn);
}

HK_EXEC(fldenv)
{
	uint8_t buf[ENV32_SIZE];

	if (!hk_x87_ready(cpu) || !hk_x87_load(cpu, insn, buf, env_size(insn))) {
		return hk_give_up(cpu, insn);
	}
	env_unpack(cpu, insn, buf);
	return HK_NEXT(cpu, insn);
}

HK_EXEC(fnsave)
{
	uint8_t buf[ENV32_SIZE + REGISTERS_SIZE];
	unsigned size = env_size(insn);

	if (!hk_x87_ok(cpu, false)) {
		return hk_give_up(cpu, insn);
	}
	env_pack(cpu, insn, buf);
	for (unsigned i = 0; i < 8; i++) {
		const struct hk_f80 *st = hk_x87_st(&cpu->x87, i);

		memcpy(buf + size + 10 * i, &st->frac, 8);
		memcpy(buf + size + 10 * i + 8, &st->sign_exp, 2);
	}
	if (!hk_x87_store(cpu, insn, buf, size + REGISTERS_SIZE)) {
		return hk_give_up(cpu, insn);
	}
	hk_x87_init(&cpu->x87);
	return HK_NEXT(cpu, insn);
}

HK_EXEC(frstor)
{
	uint8_t buf[ENV32_SIZE + REGISTERS_SIZE];
	unsigned size = env_size(insn);

	if (!hk_x87_ready(cpu) || !hk_x87_load(cpu, insn, buf, size + REGISTERS_SIZE)) {
		return hk_give_up(cpu, insn);
	}
	env_unpack(cpu, insn, buf);
	for (unsigned i = 0; i < 8; i++) {
		struct hk_f80 *st = hk_x87_st(&cpu->x87, i);

		memcpy(&st->frac, buf + size + 10 * i, 8);
		memcpy(&st->sign_exp, buf + size + 10 * i + 8, 2);
	}
	return HK_NEXT(cpu, insn);
}

HK_EXEC(emms)
{
	if (!hk_mmx_ok(cpu)) {
		return hk_give_up(cpu, insn);
	}
	cpu->x87.tag_empty = 0xff;
	hk_x87_set_top(&cpu->x87, 0);
	return HK_NEXT(cpu, insn);
}
