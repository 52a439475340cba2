/* SPDX-License-Identifier: ISC */
/*
 * Registers and interrupt controllers of a soft guest, out to and in from the engine-independent
 * structures. What KVM's encoding leaves open is as KVM has it.
 *
 * An exception is never pending between two runs of the core; one that another engine saved is
 * delivered first thing. So is an interrupt that was acknowledged, but not delivered (injected).
 */
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "engine/msr.h"
#include "engine/soft/flags.h"
#include "engine/soft/fpu/xsave.h"
#include "engine/soft/run.h"
#include "engine/soft/soft.h"
#include "engine/soft/sys.h"

enum { PHYSICAL_BITS = 39 }; /* of every model */

static void get_registers(const struct hk_cpu *cpu, struct hk_vcpu_state *state)
{
	memcpy(state->gpr, cpu->gpr, sizeof(state->gpr));
	memcpy(state->seg, cpu->seg, sizeof(state->seg));
	memcpy(state->dr, cpu->dr, sizeof(state->dr));
	state->rip = cpu->rip;
	state->rflags = hk_rflags_get(cpu);
	state->gdt = cpu->gdt;
	state->idt = cpu->idt;
	state->cr0 = cpu->cr0;
	state->cr2 = cpu->cr2;
	state->cr3 = cpu->cr3;
	state->cr4 = cpu->cr4;
	state->efer = cpu->efer;
	state->dr6 = cpu->dr6;
	state->dr7 = cpu->dr7;
	state->xcr0 = cpu->xcr0;
	hk_fpu_to_xsave(cpu, state->xsave);
}

static void set_registers(struct hk_cpu *cpu, const struct hk_vcpu_state *state)
{
	memcpy(cpu->gpr, state->gpr, sizeof(state->gpr));
	memcpy(cpu->seg, state->seg, sizeof(state->seg));
	memcpy(cpu->dr, state->dr, sizeof(state->dr));
	cpu->rip = state->rip;
	hk_rflags_set(cpu, state->rflags | HK_FLAG_FIXED);
	cpu->gdt = state->gdt;
	cpu->idt = state->idt;
	cpu->cr0 = state->cr0;
	cpu->cr2 = state->cr2;
	cpu->cr3 = state->cr3;
	cpu->cr4 = state->cr4;
	cpu->efer = state->efer;
	cpu->dr6 = state->dr6;
	cpu->dr7 = state->dr7;
	cpu->xcr0 = state->xcr0;
}

/* Could a CPU of this model have come to it? What follows counts on that. */
static bool is_possible(const struct hk_cpu *cpu, const struct hk_vcpu_state *state)
{
	const uint64_t efer_known = HK_EFER_SCE | HK_EFER_LME | HK_EFER_LMA | HK_EFER_NXE;
	bool paging = (state->cr0 & HK_CR0_PG) != 0;
	bool is_long = (state->efer & HK_EFER_LMA) != 0;

	return state->cr0 <= UINT32_MAX && (!paging || (state->cr0 & HK_CR0_PE) != 0) &&
		state->cr3 >> PHYSICAL_BITS == 0 && (state->cr4 & ~hk_cpu_cr4_known(cpu)) == 0 &&
		(state->efer & ~efer_known) == 0 &&
		is_long == (paging && (state->efer & HK_EFER_LME) != 0) &&
		(!is_long || (state->cr4 & HK_CR4_PAE) != 0) &&
		(state->xcr0 & HK_XSTATE_X87) != 0 &&
		(state->xcr0 & ~(HK_XSTATE_X87 | HK_XSTATE_SSE)) == 0;
}

/* An image may name components that its host had and this CPU has not; they are not in use. */
static bool set_fpu(struct hk_cpu *cpu, const uint8_t image[HK_XSAVE_SIZE])
{
	enum { HEADER = 512, HEADER_BYTES = 64 };
	uint8_t copy[HK_XSAVE_BASE_SIZE];
	uint64_t components = hk_load_le64(image + HEADER) & (HK_XSTATE_X87 | HK_XSTATE_SSE);

	memcpy(copy, image, sizeof(copy));
	memset(copy + HEADER, 0, HEADER_BYTES);
	hk_store_le64(copy + HEADER, components);
	return hk_fpu_from_xsave(cpu, copy);
}

static void get_msrs(struct hk_soft_vcpu *vcpu, struct hk_vcpu_state *state)
{
	unsigned count;
	const uint32_t *list = hk_state_msrs(&count);

	state->msr_count = 0;
	for (unsigned i = 0; i < count; i++) {
		struct hk_msr *msr = &state->msrs[state->msr_count];

		if (hk_cpu_msr_read(&vcpu->cpu, list[i], &msr->value)) {
			msr->index = list[i];
			state->msr_count++;
		}
	}
}

static int set_msr(struct hk_soft_vcpu *vcpu, const struct hk_msr *msr, struct hk_err *err)
{
	uint64_t current;

	if (hk_soft_msr_write(vcpu, msr->index, msr->value, true) ||
		hk_cpu_msr_write(&vcpu->cpu, msr->index, msr->value)) {
		return 0;
	}
	if (hk_cpu_msr_read(&vcpu->cpu, msr->index, &current) && current == msr->value) {
		return 0; /* read-only, and right already */
	}
	return hk_fail_msg(err, ENOTSUP, "vCPU %u: the soft engine refuses MSR 0x%x = 0x%llx",
		vcpu->base.index, msr->index, (unsigned long long)msr->value);
}

static void get_pending(struct hk_soft_vcpu *vcpu, struct hk_pending *p)
{
	const struct hk_cpu *cpu = &vcpu->cpu;

	*p = (struct hk_pending){
		.exception = cpu->event.pending,
		.exception_vector = cpu->event.vector,
		.exception_has_code = cpu->event.has_code,
		.exception_code = cpu->event.code,
		.exception_payload =
			cpu->event.vector == HK_VECTOR_PF ? cpu->event.cr2 : cpu->event.dr6,
		.interrupt = vcpu->injected >= 0,
		.interrupt_vector = vcpu->injected >= 0 ? (uint8_t)vcpu->injected : 0,
		.nmi = cpu->nmi_waits || (atomic_load(&cpu->attention) & HK_ATT_NMI) != 0,
		.nmi_masked = cpu->nmi_masked,
		.interrupt_shadow = cpu->shadow & (HK_SHADOW_STI | HK_SHADOW_MOV_SS),
	};
	if (vcpu->nmi_injected) {
		p->nmi = false;
		p->nmi_injected = true;
		p->nmi_masked = true;
	}
	if (!p->exception) {
		p->exception_vector = 0;
		p->exception_has_code = false;
		p->exception_code = 0;
		p->exception_payload = 0;
	}
}

static void set_pending(struct hk_soft_vcpu *vcpu, const struct hk_vcpu_state *state)
{
	const struct hk_pending *p = &state->pending;
	struct hk_cpu *cpu = &vcpu->cpu;
	bool is_page_fault = p->exception_vector == HK_VECTOR_PF;

	/* KVM puts CR2 in place before it delivers, and says it a second time at most. */
	cpu->event = (struct hk_cpu_event){
		.pending = p->exception,
		.vector = p->exception_vector,
		.has_code = p->exception_has_code,
		.code = p->exception_code,
		.cr2 = is_page_fault && p->exception_payload != 0 ? p->exception_payload
								  : state->cr2,
		.dr6 = p->exception_vector == HK_VECTOR_DB ? p->exception_payload : 0,
	};
	vcpu->injected = p->interrupt ? p->interrupt_vector : -1;
	cpu->nmi_waits = p->nmi || p->nmi_injected;
	vcpu->nmi_injected = p->nmi_injected;
	/* One that is being delivered masks others, but not itself. */
	cpu->nmi_masked = p->nmi_masked && !p->nmi_injected;
	cpu->shadow = p->interrupt_shadow & (HK_SHADOW_STI | HK_SHADOW_MOV_SS);
	cpu->irq_waits = false;
	cpu->failed = false;
}

static const enum hk_mp_state mp_states[] = {
	[HK_CPU_RUNNING] = HK_MP_RUNNING,
	[HK_CPU_HALTED] = HK_MP_HALTED,
	[HK_CPU_WAIT_SIPI] = HK_MP_WAIT_SIPI,
};

static uint8_t activity_of(enum hk_mp_state state)
{
	switch (state) {
	case HK_MP_RUNNING:
		return HK_CPU_RUNNING;
	case HK_MP_HALTED:
		return HK_CPU_HALTED;
	default:
		return HK_CPU_WAIT_SIPI;
	}
}

int hk_soft_get_state(struct hk_vcpu *base, struct hk_vcpu_state *state, struct hk_err *err)
{
	struct hk_soft_vcpu *vcpu = hk_soft_vcpu_of(base);
	struct hk_lapic_time now = hk_soft_now(vcpu);

	memset(state, 0, sizeof(*state));
	/*
	 * What no field can hold is taken in first: a start, and another CPU's wish that it wake.
	 */
	hk_soft_start_anew(vcpu);
	if (vcpu->unhalted && vcpu->cpu.activity == HK_CPU_HALTED) {
		vcpu->cpu.activity = HK_CPU_RUNNING;
		vcpu->unhalted = false;
	}
	get_registers(&vcpu->cpu, state);
	get_msrs(vcpu, state);
	pthread_mutex_lock(&vcpu->soft->chip_lock);
	hk_soft_pv_eoi_sync_locked(vcpu);
	hk_lapic_save(&vcpu->lapic, &now, state->lapic);
	state->apic_base = vcpu->lapic.base;
	state->cr8 = vcpu->lapic.reg[HK_LAPIC_TPR] >> 4;
	get_pending(vcpu, &state->pending);
	state->mp_state = mp_states[vcpu->cpu.activity];
	pthread_mutex_unlock(&vcpu->soft->chip_lock);
	return 0;
}

int hk_soft_set_state(struct hk_vcpu *base, const struct hk_vcpu_state *state, struct hk_err *err)
{
	struct hk_soft_vcpu *vcpu = hk_soft_vcpu_of(base);
	struct hk_soft *soft = vcpu->soft;
	struct hk_lapic_time now = hk_soft_now(vcpu);
	int r = 0;

	if (!is_possible(&vcpu->cpu, state)) {
		return hk_fail_msg(
			err, EINVAL, "vCPU %u: control registers that cannot be", base->index);
	}
	set_registers(&vcpu->cpu, state);
	if (!set_fpu(&vcpu->cpu, state->xsave)) {
		return hk_fail_msg(err, EINVAL, "vCPU %u: broken XSAVE image", base->index);
	}
	pthread_mutex_lock(&soft->chip_lock);
	vcpu->pv_eoi_set = false;
	vcpu->lapic.base = state->apic_base;
	hk_lapic_load(&vcpu->lapic, state->lapic, &now);
	hk_lapic_set_tpr(
		&vcpu->lapic, (uint8_t)(state->cr8 << 4 | (vcpu->lapic.reg[HK_LAPIC_TPR] & 0xf)));
	vcpu->startup = 0;
	vcpu->unhalted = false;
	hk_soft_timer_update_locked(vcpu);
	pthread_mutex_unlock(&soft->chip_lock);

	for (unsigned i = 0; r == 0 && i < state->msr_count; i++) {
		r = set_msr(vcpu, &state->msrs[i], err);
	}
	if (r < 0) {
		return r;
	}
	pthread_mutex_lock(&soft->chip_lock);
	set_pending(vcpu, state);
	vcpu->cpu.activity = activity_of(state->mp_state);
	hk_soft_irq_check_locked(vcpu);
	pthread_mutex_unlock(&soft->chip_lock);
	hk_cpu_flushed(&vcpu->cpu);
	return 0;
}

int hk_soft_get_irqchip(
	struct hk_engine *engine, struct hk_irqchip_state *state, struct hk_err *err)
{
	struct hk_soft *soft = hk_soft_of(engine);

	pthread_mutex_lock(&soft->chip_lock);
	hk_ioapic_save(&soft->ioapic, state);
	pthread_mutex_unlock(&soft->chip_lock);
	return 0;
}

int hk_soft_set_irqchip(
	struct hk_engine *engine, const struct hk_irqchip_state *state, struct hk_err *err)
{
	struct hk_soft *soft = hk_soft_of(engine);

	pthread_mutex_lock(&soft->chip_lock);
	hk_soft_service_locked(soft, hk_ioapic_load(&soft->ioapic, state));
	pthread_mutex_unlock(&soft->chip_lock);
	return 0;
}
