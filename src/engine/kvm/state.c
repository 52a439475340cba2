/* SPDX-License-Identifier: ISC */
/*
 * Registers, interrupt controllers and clock of a KVM guest, out to and in from the
 * engine-independent structures.
 *
 * Order matters on the way in: CPUID came at creation; special registers (APIC base, EFER)
 * before the local APIC, the local APIC before the TSC deadline, XCR0 before XSAVE.
 * Source: Linux Documentation/virt/kvm/api.rst.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/util.h"
#include "engine/kvm/kvm.h"
#include "engine/msr.h"

static int vcpu_ioctl(struct hk_kvm_vcpu *vcpu, unsigned long request, void *arg, const char *name,
	struct hk_err *err)
{
	if (ioctl(vcpu->fd, request, arg) < 0) {
		return hk_fail(err, errno, "vCPU %u: %s", vcpu->base.index, name);
	}
	return 0;
}

#define VCPU_IOCTL(vcpu, request, arg, err) vcpu_ioctl(vcpu, request, arg, #request, err)

/* KVM's order of general registers differs from the encoding's; state order on the left. */
static void copy_gprs(struct kvm_regs *regs, uint64_t *gpr, bool to_kvm)
{
	__u64 *const kvm_gpr[HK_GPR_COUNT] = {
		[HK_RAX] = &regs->rax,
		[HK_RCX] = &regs->rcx,
		[HK_RDX] = &regs->rdx,
		[HK_RBX] = &regs->rbx,
		[HK_RSP] = &regs->rsp,
		[HK_RBP] = &regs->rbp,
		[HK_RSI] = &regs->rsi,
		[HK_RDI] = &regs->rdi,
		[HK_R8] = &regs->r8,
		[HK_R9] = &regs->r9,
		[HK_R10] = &regs->r10,
		[HK_R11] = &regs->r11,
		[HK_R12] = &regs->r12,
		[HK_R13] = &regs->r13,
		[HK_R14] = &regs->r14,
		[HK_R15] = &regs->r15,
	};

	for (unsigned i = 0; i < HK_GPR_COUNT; i++) {
		if (to_kvm) {
			*kvm_gpr[i] = gpr[i];
		} else {
			gpr[i] = *kvm_gpr[i];
		}
	}
}

static struct hk_segment segment_from_kvm(const struct kvm_segment *s)
{
	return (struct hk_segment){
		.base = s->base,
		.limit = s->limit,
		.selector = s->selector,
		.attr = (uint16_t)(s->type | s->s << 4 | s->dpl << 5 | s->present << 7 |
			s->avl << 12 | s->l << 13 | s->db << 14 | s->g << 15),
		.unusable = s->unusable != 0,
	};
}

static struct kvm_segment segment_to_kvm(const struct hk_segment *s)
{
	return (struct kvm_segment){
		.base = s->base,
		.limit = s->limit,
		.selector = s->selector,
		.type = s->attr & 0xf,
		.s = s->attr >> 4 & 1,
		.dpl = s->attr >> 5 & 3,
		.present = s->attr >> 7 & 1,
		.avl = s->attr >> 12 & 1,
		.l = s->attr >> 13 & 1,
		.db = s->attr >> 14 & 1,
		.g = s->attr >> 15 & 1,
		.unusable = s->unusable,
	};
}

static struct kvm_segment *kvm_seg(struct kvm_sregs *sregs, enum hk_seg seg)
{
	struct kvm_segment *const all[HK_SEG_COUNT] = {
		[HK_ES] = &sregs->es,
		[HK_CS] = &sregs->cs,
		[HK_SS] = &sregs->ss,
		[HK_DS] = &sregs->ds,
		[HK_FS] = &sregs->fs,
		[HK_GS] = &sregs->gs,
		[HK_LDTR] = &sregs->ldt,
		[HK_TR] = &sregs->tr,
	};

	return all[seg];
}

static void sregs_to_state(struct kvm_sregs *sregs, struct hk_vcpu_state *state)
{
	for (unsigned i = 0; i < HK_SEG_COUNT; i++) {
		state->seg[i] = segment_from_kvm(kvm_seg(sregs, i));
	}
	state->gdt = (struct hk_table_reg){sregs->gdt.base, sregs->gdt.limit};
	state->idt = (struct hk_table_reg){sregs->idt.base, sregs->idt.limit};
	state->cr0 = sregs->cr0;
	state->cr2 = sregs->cr2;
	state->cr3 = sregs->cr3;
	state->cr4 = sregs->cr4;
	state->cr8 = sregs->cr8;
	state->efer = sregs->efer;
	state->apic_base = sregs->apic_base;
}

static struct kvm_sregs sregs_from_state(const struct hk_vcpu_state *state)
{
	struct kvm_sregs sregs = {
		.gdt = {.base = state->gdt.base, .limit = state->gdt.limit},
		.idt = {.base = state->idt.base, .limit = state->idt.limit},
		.cr0 = state->cr0,
		.cr2 = state->cr2,
		.cr3 = state->cr3,
		.cr4 = state->cr4,
		.cr8 = state->cr8,
		.efer = state->efer,
		.apic_base = state->apic_base,
	};

	for (unsigned i = 0; i < HK_SEG_COUNT; i++) {
		*kvm_seg(&sregs, i) = segment_to_kvm(&state->seg[i]);
	}
	return sregs;
}

static void events_to_state(const struct kvm_vcpu_events *events, struct hk_pending *p)
{
	*p = (struct hk_pending){
		.exception = events->exception.injected || events->exception.pending,
		.exception_vector = events->exception.nr,
		.exception_has_code = events->exception.has_error_code != 0,
		.exception_code = events->exception.error_code,
		.exception_payload = events->exception_has_payload ? events->exception_payload : 0,
		.interrupt = events->interrupt.injected && !events->interrupt.soft,
		.interrupt_vector = events->interrupt.nr,
		.nmi = events->nmi.pending != 0,
		.nmi_injected = events->nmi.injected != 0,
		.nmi_masked = events->nmi.masked != 0,
		.interrupt_shadow = events->interrupt.shadow,
	};
}

static struct kvm_vcpu_events events_from_state(const struct hk_pending *p)
{
	return (struct kvm_vcpu_events){
		.flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW,
		.exception =
			{
				.injected = p->exception,
				.nr = p->exception_vector,
				.has_error_code = p->exception_has_code,
				.error_code = p->exception_code,
			},
		.interrupt =
			{
				.injected = p->interrupt,
				.nr = p->interrupt_vector,
				.shadow = p->interrupt_shadow,
			},
		.nmi =
			{
				.pending = p->nmi,
				.injected = p->nmi_injected,
				.masked = p->nmi_masked,
			},
	};
}

static int get_msr(struct hk_kvm_vcpu *vcpu, uint32_t index, uint64_t *ret_value)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} msrs = {.head.nmsrs = 1, .entry.index = index};

	if (ioctl(vcpu->fd, KVM_GET_MSRS, &msrs) != 1) {
		return -ENOTSUP;
	}
	*ret_value = msrs.entry.data;
	return 0;
}

int hk_kvm_set_msr(struct hk_kvm_vcpu *vcpu, uint32_t index, uint64_t value)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} msrs = {.head.nmsrs = 1, .entry = {.index = index, .data = value}};

	return ioctl(vcpu->fd, KVM_SET_MSRS, &msrs) == 1 ? 0 : -ENOTSUP;
}

static void get_msrs(struct hk_kvm_vcpu *vcpu, struct hk_vcpu_state *state)
{
	unsigned count;
	const uint32_t *list = hk_state_msrs(&count);

	state->msr_count = 0;
	for (unsigned i = 0; i < count; i++) {
		struct hk_msr *msr = &state->msrs[state->msr_count];

		/* A host that does not know one cannot have let the guest set it. */
		if (get_msr(vcpu, list[i], &msr->value) == 0) {
			msr->index = list[i];
			state->msr_count++;
		}
	}
}

static int set_msrs(struct hk_kvm_vcpu *vcpu, const struct hk_vcpu_state *state, struct hk_err *err)
{
	for (unsigned i = 0; i < state->msr_count; i++) {
		const struct hk_msr *msr = &state->msrs[i];
		uint64_t current;

		if (hk_kvm_set_msr(vcpu, msr->index, msr->value) == 0) {
			continue;
		}
		if (get_msr(vcpu, msr->index, &current) == 0 && current == msr->value) {
			continue; /* read-only here, and right already */
		}
		return hk_fail_msg(err, ENOTSUP, "vCPU %u: KVM refuses MSR 0x%x = 0x%llx",
			vcpu->base.index, msr->index, (unsigned long long)msr->value);
	}
	return 0;
}

static enum hk_mp_state mp_from_kvm(uint32_t kvm_state)
{
	switch (kvm_state) {
	case KVM_MP_STATE_RUNNABLE:
		return HK_MP_RUNNING;
	case KVM_MP_STATE_HALTED:
		return HK_MP_HALTED;
	default: /* UNINITIALIZED, INIT_RECEIVED, SIPI_RECEIVED: it starts with a SIPI */
		return HK_MP_WAIT_SIPI;
	}
}

static uint32_t mp_to_kvm(enum hk_mp_state state)
{
	switch (state) {
	case HK_MP_RUNNING:
		return KVM_MP_STATE_RUNNABLE;
	case HK_MP_HALTED:
		return KVM_MP_STATE_HALTED;
	default:
		return KVM_MP_STATE_INIT_RECEIVED;
	}
}

int hk_kvm_get_state(struct hk_vcpu *base, struct hk_vcpu_state *state, struct hk_err *err)
{
	struct hk_kvm_vcpu *vcpu = hk_kvm_vcpu_of(base);
	struct kvm_mp_state mp;
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_xsave xsave;
	struct kvm_xcrs xcrs;
	struct kvm_debugregs debug;
	struct kvm_lapic_state lapic;
	struct kvm_vcpu_events events;
	int r;

	static_assert(sizeof(xsave.region) == HK_XSAVE_SIZE, "XSAVE image");
	static_assert(sizeof(lapic.regs) == HK_LAPIC_SIZE, "APIC page");

	/* The MP state first: asking for it makes KVM take in what the APIC has pending. */
	if ((r = VCPU_IOCTL(vcpu, KVM_GET_MP_STATE, &mp, err)) < 0 ||
		(r = VCPU_IOCTL(vcpu, KVM_GET_REGS, &regs, err)) < 0 ||
		(r = VCPU_IOCTL(vcpu, KVM_GET_SREGS, &sregs, err)) < 0 ||
		(r = VCPU_IOCTL(vcpu, KVM_GET_XSAVE, &xsave, err)) < 0 ||
		(r = VCPU_IOCTL(vcpu, KVM_GET_XCRS, &xcrs, err)) < 0 ||
		(r = VCPU_IOCTL(vcpu, KVM_GET_DEBUGREGS, &debug, err)) < 0 ||
		(r = VCPU_IOCTL(vcpu, KVM_GET_LAPIC, &lapic, err)) < 0 ||
		(r = VCPU_IOCTL(vcpu, KVM_GET_VCPU_EVENTS, &events, err)) < 0) {
		return r;
	}
	*state = (struct hk_vcpu_state){
		.rip = regs.rip,
		.rflags = regs.rflags,
		.dr = {debug.db[0], debug.db[1], debug.db[2], debug.db[3]},
		.dr6 = debug.dr6,
		.dr7 = debug.dr7,
		.xcr0 = xcrs.nr_xcrs > 0 ? xcrs.xcrs[0].value : 1,
		.mp_state = mp_from_kvm(mp.mp_state),
	};
	copy_gprs(&regs, state->gpr, false);
	sregs_to_state(&sregs, state);
	memcpy(state->xsave, xsave.region, sizeof(state->xsave));
	memcpy(state->lapic, lapic.regs, sizeof(state->lapic));
	events_to_state(&events, &state->pending);
	get_msrs(vcpu, state);
	return 0;
}

int hk_kvm_set_state(struct hk_vcpu *base, const struct hk_vcpu_state *state, struct hk_err *err)
{
	struct hk_kvm_vcpu *vcpu = hk_kvm_vcpu_of(base);
	struct kvm_regs regs = {.rip = state->rip, .rflags = state->rflags};
	struct kvm_sregs sregs = sregs_from_state(state);
	struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs[0] = {.xcr = 0, .value = state->xcr0}};
	struct kvm_debugregs debug = {.dr6 = state->dr6, .dr7 = state->dr7};
	struct kvm_vcpu_events events = events_from_state(&state->pending);
	struct kvm_mp_state mp = {.mp_state = mp_to_kvm(state->mp_state)};
	struct kvm_xsave xsave;
	struct kvm_lapic_state lapic;
	int r;

	copy_gprs(&regs, (uint64_t *)state->gpr, true);
	memcpy(debug.db, state->dr, sizeof(debug.db));
	memcpy(xsave.region, state->xsave, sizeof(state->xsave));
	memcpy(lapic.regs, state->lapic, sizeof(state->lapic));

	if ((r = VCPU_IOCTL(vcpu, KVM_SET_SREGS, &sregs, err)) < 0 ||
		(r = VCPU_IOCTL(vcpu, KVM_SET_REGS, &regs, err)) < 0 ||
		(r = VCPU_IOCTL(vcpu, KVM_SET_XCRS, &xcrs, err)) < 0 ||
		(r = VCPU_IOCTL(vcpu, KVM_SET_XSAVE, &xsave, err)) < 0 ||
		(r = VCPU_IOCTL(vcpu, KVM_SET_DEBUGREGS, &debug, err)) < 0 ||
		(r = VCPU_IOCTL(vcpu, KVM_SET_LAPIC, &lapic, err)) < 0 ||
		(r = set_msrs(vcpu, state, err)) < 0 ||
		(r = VCPU_IOCTL(vcpu, KVM_SET_MP_STATE, &mp, err)) < 0) {
		return r;
	}
	return VCPU_IOCTL(vcpu, KVM_SET_VCPU_EVENTS, &events, err);
}

int hk_kvm_get_irqchip(struct hk_engine *engine, struct hk_irqchip_state *state, struct hk_err *err)
{
	struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_IOAPIC};
	const struct kvm_ioapic_state *ioapic = &chip.chip.ioapic;

	if (ioctl(hk_kvm_of(engine)->vm_fd, KVM_GET_IRQCHIP, &chip) < 0) {
		return hk_fail(err, errno, "KVM_GET_IRQCHIP");
	}
	*state = (struct hk_irqchip_state){
		.id = ioapic->id,
		.ioregsel = ioapic->ioregsel,
		.irr = ioapic->irr,
	};
	for (unsigned i = 0; i < HK_GSI_COUNT; i++) {
		state->redirection[i] = ioapic->redirtbl[i].bits;
	}
	return 0;
}

int hk_kvm_set_irqchip(
	struct hk_engine *engine, const struct hk_irqchip_state *state, struct hk_err *err)
{
	struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_IOAPIC};
	struct kvm_ioapic_state *ioapic = &chip.chip.ioapic;

	ioapic->base_address = HK_IOAPIC_GPA;
	ioapic->id = state->id;
	ioapic->ioregsel = state->ioregsel;
	ioapic->irr = state->irr;
	for (unsigned i = 0; i < HK_GSI_COUNT; i++) {
		ioapic->redirtbl[i].bits = state->redirection[i];
	}
	if (ioctl(hk_kvm_of(engine)->vm_fd, KVM_SET_IRQCHIP, &chip) < 0) {
		return hk_fail(err, errno, "KVM_SET_IRQCHIP");
	}
	return 0;
}

int hk_kvm_get_clock(struct hk_engine *engine, struct hk_clock_state *state, struct hk_err *err)
{
	struct hk_kvm *kvm = hk_kvm_of(engine);
	struct kvm_clock_data clock = {0};

	if (ioctl(kvm->vm_fd, KVM_GET_CLOCK, &clock) < 0) {
		return hk_fail(err, errno, "KVM_GET_CLOCK");
	}
	*state = (struct hk_clock_state){.guest_ns = clock.clock, .tsc_khz = kvm->tsc_khz};
	return 0;
}

int hk_kvm_set_clock(
	struct hk_engine *engine, const struct hk_clock_state *state, struct hk_err *err)
{
	struct kvm_clock_data clock = {.clock = state->guest_ns};

	/* The guest reads the TSC's rate from the clock's page, so a host with another rate is
	 * fine. */
	if (ioctl(hk_kvm_of(engine)->vm_fd, KVM_SET_CLOCK, &clock) < 0) {
		return hk_fail(err, errno, "KVM_SET_CLOCK");
	}
	return 0;
}
