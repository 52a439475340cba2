/* SPDX-License-Identifier: ISC */
/* The encoding of CPU, interrupt-controller and clock state in a snapshot stream (base/state.h). */
#include "engine/vcpu_state.h"

#include <string.h>

#include "base/util.h"

enum {
	VCPU_VERSION = 1,
	IRQCHIP_VERSION = 1,
	CLOCK_VERSION = 1,
};

static void segment_save(const struct hk_segment *seg, struct hk_writer *w)
{
	hk_write_u64(w, seg->base);
	hk_write_u32(w, seg->limit);
	hk_write_u16(w, seg->selector);
	hk_write_u16(w, seg->attr);
	hk_write_u8(w, seg->unusable);
}

static void segment_restore(struct hk_segment *seg, struct hk_reader *r)
{
	seg->base = hk_read_u64(r);
	seg->limit = hk_read_u32(r);
	seg->selector = hk_read_u16(r);
	seg->attr = hk_read_u16(r);
	seg->unusable = hk_read_u8(r) != 0;
}

static void table_save(const struct hk_table_reg *table, struct hk_writer *w)
{
	hk_write_u64(w, table->base);
	hk_write_u16(w, table->limit);
}

static void table_restore(struct hk_table_reg *table, struct hk_reader *r)
{
	table->base = hk_read_u64(r);
	table->limit = hk_read_u16(r);
}

static void pending_save(const struct hk_pending *p, struct hk_writer *w)
{
	hk_write_u8(w, p->exception);
	hk_write_u8(w, p->exception_vector);
	hk_write_u8(w, p->exception_has_code);
	hk_write_u32(w, p->exception_code);
	hk_write_u64(w, p->exception_payload);
	hk_write_u8(w, p->interrupt);
	hk_write_u8(w, p->interrupt_vector);
	hk_write_u8(w, p->nmi);
	hk_write_u8(w, p->nmi_injected);
	hk_write_u8(w, p->nmi_masked);
	hk_write_u8(w, p->interrupt_shadow);
}

static void pending_restore(struct hk_pending *p, struct hk_reader *r)
{
	p->exception = hk_read_u8(r) != 0;
	p->exception_vector = hk_read_u8(r);
	p->exception_has_code = hk_read_u8(r) != 0;
	p->exception_code = hk_read_u32(r);
	p->exception_payload = hk_read_u64(r);
	p->interrupt = hk_read_u8(r) != 0;
	p->interrupt_vector = hk_read_u8(r);
	p->nmi = hk_read_u8(r) != 0;
	p->nmi_injected = hk_read_u8(r) != 0;
	p->nmi_masked = hk_read_u8(r) != 0;
	p->interrupt_shadow = hk_read_u8(r);
}

/*
 * The control and debug registers, in stream order. One list serves both directions, so that
 * they cannot drift apart.
 */
#define FOR_EACH_SYSTEM_REG(state, X) \
	X((state)->cr0) \
	X((state)->cr2) \
	X((state)->cr3) \
	X((state)->cr4) \
	X((state)->cr8) \
	X((state)->efer) \
	X((state)->apic_base) \
	X((state)->dr[0]) \
	X((state)->dr[1]) \
	X((state)->dr[2]) \
	X((state)->dr[3]) \
	X((state)->dr6) \
	X((state)->dr7) \
	X((state)->xcr0)

void hk_vcpu_state_save(const struct hk_vcpu_state *state, struct hk_writer *w)
{
	size_t mark = hk_writer_begin(w, "vcpu", VCPU_VERSION);

	for (unsigned i = 0; i < HK_GPR_COUNT; i++) {
		hk_write_u64(w, state->gpr[i]);
	}
	hk_write_u64(w, state->rip);
	hk_write_u64(w, state->rflags);
	for (unsigned i = 0; i < HK_SEG_COUNT; i++) {
		segment_save(&state->seg[i], w);
	}
	table_save(&state->gdt, w);
	table_save(&state->idt, w);
#define SAVE(reg) hk_write_u64(w, reg);
	FOR_EACH_SYSTEM_REG(state, SAVE)
#undef SAVE
	hk_write_blob(w, state->xsave, sizeof(state->xsave));
	hk_write_blob(w, state->lapic, sizeof(state->lapic));
	hk_write_u32(w, state->msr_count);
	for (unsigned i = 0; i < state->msr_count; i++) {
		hk_write_u32(w, state->msrs[i].index);
		hk_write_u64(w, state->msrs[i].value);
	}
	pending_save(&state->pending, w);
	hk_write_u8(w, (uint8_t)state->mp_state);
	hk_writer_end(w, mark);
}

static void fixed_blob_restore(void *out, size_t size, struct hk_reader *r)
{
	size_t len;
	const void *blob = hk_read_blob(r, &len);

	if (blob == NULL || len != size) {
		hk_reader_fail(r);
		return;
	}
	memcpy(out, blob, size);
}

void hk_vcpu_state_restore(struct hk_vcpu_state *state, struct hk_reader *r)
{
	struct hk_section section = hk_reader_begin(r, "vcpu", VCPU_VERSION);

	*state = (struct hk_vcpu_state){0};
	for (unsigned i = 0; i < HK_GPR_COUNT; i++) {
		state->gpr[i] = hk_read_u64(r);
	}
	state->rip = hk_read_u64(r);
	state->rflags = hk_read_u64(r);
	for (unsigned i = 0; i < HK_SEG_COUNT; i++) {
		segment_restore(&state->seg[i], r);
	}
	table_restore(&state->gdt, r);
	table_restore(&state->idt, r);
#define RESTORE(reg) reg = hk_read_u64(r);
	FOR_EACH_SYSTEM_REG(state, RESTORE)
#undef RESTORE
	fixed_blob_restore(state->xsave, sizeof(state->xsave), r);
	fixed_blob_restore(state->lapic, sizeof(state->lapic), r);

	uint32_t msr_count = hk_read_u32(r);

	if (msr_count > HK_MAX_MSRS) {
		hk_reader_fail(r);
		msr_count = 0;
	}
	for (unsigned i = 0; i < msr_count; i++) {
		state->msrs[i].index = hk_read_u32(r);
		state->msrs[i].value = hk_read_u64(r);
	}
	state->msr_count = msr_count;
	pending_restore(&state->pending, r);

	uint8_t mp_state = hk_read_u8(r);

	if (mp_state >= HK_MP_STATE_COUNT) {
		hk_reader_fail(r);
		mp_state = HK_MP_HALTED;
	}
	state->mp_state = mp_state;
	hk_reader_end(r, section);
}

void hk_irqchip_state_save(const struct hk_irqchip_state *state, struct hk_writer *w)
{
	size_t mark = hk_writer_begin(w, "ioapic", IRQCHIP_VERSION);

	hk_write_u32(w, state->id);
	hk_write_u32(w, state->ioregsel);
	hk_write_u32(w, state->irr);
	for (unsigned i = 0; i < HK_ARRAY_SIZE(state->redirection); i++) {
		hk_write_u64(w, state->redirection[i]);
	}
	hk_writer_end(w, mark);
}

void hk_irqchip_state_restore(struct hk_irqchip_state *state, struct hk_reader *r)
{
	struct hk_section section = hk_reader_begin(r, "ioapic", IRQCHIP_VERSION);

	state->id = hk_read_u32(r);
	state->ioregsel = hk_read_u32(r);
	state->irr = hk_read_u32(r);
	for (unsigned i = 0; i < HK_ARRAY_SIZE(state->redirection); i++) {
		state->redirection[i] = hk_read_u64(r);
	}
	hk_reader_end(r, section);
}

void hk_clock_state_save(const struct hk_clock_state *state, struct hk_writer *w)
{
	size_t mark = hk_writer_begin(w, "clock", CLOCK_VERSION);

	hk_write_u64(w, state->guest_ns);
	hk_write_u32(w, state->tsc_khz);
	hk_writer_end(w, mark);
}

void hk_clock_state_restore(struct hk_clock_state *state, struct hk_reader *r)
{
	struct hk_section section = hk_reader_begin(r, "clock", CLOCK_VERSION);

	state->guest_ns = hk_read_u64(r);
	state->tsc_khz = hk_read_u32(r);
	hk_reader_end(r, section);
}
