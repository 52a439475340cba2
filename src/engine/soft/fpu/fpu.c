/* SPDX-License-Identifier: ISC */
/*
 * The x87 and MMX unit as a whole: whether it may be used, pending exceptions, tags.
 *
 * Of the tags only "empty" is state; valid, zero and special are worked out from the registers when
 * the tag word is stored, as hardware does since the 387.
 *
 * #MF comes at the next waiting instruction whatever CR0.NE says: the way of the PC/AT, through the
 * interrupt controller (IGNNE#), is of a time before our guests.
 */
#include "engine/soft/fpu/x87.h"

bool hk_x87_ok(struct hk_cpu *cpu, bool wait)
{
	if ((cpu->cr0 & (HK_CR0_EM | HK_CR0_TS)) != 0) {
		return hk_fault(cpu, HK_VECTOR_NM);
	}
	if (wait && (cpu->x87.fsw & HK_FSW_ES) != 0) {
		return hk_fault(cpu, HK_VECTOR_MF);
	}
	return true;
}

bool hk_mmx_ok(struct hk_cpu *cpu)
{
	if (hk_likely(
		    (cpu->cr0 & (HK_CR0_EM | HK_CR0_TS)) == 0 && (cpu->x87.fsw & HK_FSW_ES) == 0)) {
		return true;
	}
	if ((cpu->cr0 & HK_CR0_EM) != 0) {
		return hk_fault(cpu, HK_VECTOR_UD);
	}
	return hk_x87_ok(cpu, true);
}

void hk_x87_update_es(struct hk_x87 *x87)
{
	if ((x87->fsw & ~x87->fcw & HK_FP_ALL) != 0) {
		x87->fsw |= HK_FSW_ES | HK_FSW_B;
	} else {
		x87->fsw &= (uint16_t) ~(HK_FSW_ES | HK_FSW_B);
	}
}

/* The eleven bits of opcode that FOP shows. They are not kept with the decoded instruction, so
 * they are read from memory again: opcode and ModRM, after prefixes. */
static uint16_t opcode(struct hk_cpu *cpu, const struct hk_insn *insn)
{
	uint8_t bytes[HK_MAX_INSN_LEN] = {0};
	struct hk_cpu_event event = cpu->event;
	unsigned have = hk_fetch_bytes(
		cpu, cpu->seg_base[HK_CS] + hk_insn_rip(cpu, insn), bytes, insn->len);

	cpu->event = event; /* code that is gone by now is no fault */
	for (unsigned i = 0; i + 1 < have; i++) {
		if ((bytes[i] & 0xf8) == 0xd8) {
			return (uint16_t)((bytes[i] & 7) << 8 | bytes[i + 1]);
		}
	}
	return 0;
}

void hk_x87_unmasked(struct hk_cpu *cpu, const struct hk_insn *insn)
{
	cpu->x87.fsw |= HK_FSW_ES | HK_FSW_B;
	cpu->x87.fop = opcode(cpu, insn);
}

void hk_x87_init(struct hk_x87 *x87)
{
	x87->fcw = HK_FCW_RESET;
	x87->fsw = 0;
	x87->tag_empty = 0xff;
	x87->fop = 0;
	x87->fip = 0;
	x87->fdp = 0;
	x87->fcs = 0;
	x87->fds = 0;
}

/* Source: Intel SDM vol. 1, 8.1.7. */
enum tag { TAG_VALID, TAG_ZERO, TAG_SPECIAL, TAG_EMPTY };

static enum tag tag(struct hk_f80 value)
{
	unsigned exp = value.sign_exp & 0x7fff;

	if (exp == 0 && value.frac == 0) {
		return TAG_ZERO;
	}
	return exp == 0 || exp == 0x7fff || value.frac >> 63 == 0 ? TAG_SPECIAL : TAG_VALID;
}

uint16_t hk_x87_tags(const struct hk_x87 *x87)
{
	unsigned tags = 0;

	for (unsigned i = 0; i < 8; i++) {
		bool empty = (x87->tag_empty >> i & 1) != 0;

		tags |= (unsigned)(empty ? TAG_EMPTY : tag(x87->r[i])) << 2 * i;
	}
	return (uint16_t)tags;
}

void hk_x87_set_tags(struct hk_x87 *x87, uint16_t tags)
{
	x87->tag_empty = 0;
	for (unsigned i = 0; i < 8; i++) {
		if ((tags >> 2 * i & 3) == TAG_EMPTY) {
			x87->tag_empty |= (uint8_t)(1u << i);
		}
	}
}
