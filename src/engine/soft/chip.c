/* SPDX-License-Identifier: ISC */
/*
 * Interrupt controllers: carries messages between the IOAPIC, the local APICs and the CPUs.
 *
 * All of them are under one lock. A message sets a bit in the target's APIC, then HK_ATT_IRQ, then
 * wakes the CPU's thread where it is halted. The CPU takes the interrupt when it may, through
 * hk_soft_interrupt().
 *
 * PV EOI: the guest offers a byte of memory. It is set when an edge-triggered interrupt is taken
 * and no other waits; the guest may then clear it instead of writing EOI. Whenever the APIC is
 * looked at, the byte is read first: if it has been cleared, the interrupt has ended. It is always
 * taken back then, and offered again if that is still right. While it is set HK_ATT_IRQ is raised
 * for every message, because the priorities that the APIC shows may be out of date.
 * Source: Linux Documentation/virt/kvm/x86/msr.rst, MSR_KVM_EOI_EN.
 */
#include <string.h>

#include "base/util.h"
#include "engine/msr.h"
#include "engine/soft/run.h"
#include "engine/soft/soft.h"

enum { IOAPIC_BYTES = 0x1000, LAPIC_BYTES = 0x1000, PV_EOI_BIT = 1 };

void hk_soft_attend_locked(struct hk_soft_vcpu *vcpu, uint32_t bits)
{
	hk_cpu_attend(&vcpu->cpu, bits);
	if (vcpu->idle) {
		pthread_cond_signal(&vcpu->wake);
	}
}

void hk_soft_irq_check_locked(struct hk_soft_vcpu *vcpu)
{
	if (hk_lapic_pending(&vcpu->lapic) >= 0 || vcpu->injected >= 0 ||
		(vcpu->pv_eoi_set && hk_lapic_highest(&vcpu->lapic, HK_LAPIC_IRR) >= 0)) {
		hk_soft_attend_locked(vcpu, HK_ATT_IRQ);
	}
}

static void accept_locked(struct hk_soft_vcpu *vcpu, const struct hk_ipi *ipi)
{
	unsigned want = hk_lapic_accept(&vcpu->lapic, ipi);

	if ((want & HK_LAPIC_WANT_IRQ) != 0) {
		hk_soft_irq_check_locked(vcpu);
	}
	if ((want & HK_LAPIC_WANT_NMI) != 0) {
		hk_soft_attend_locked(vcpu, HK_ATT_NMI);
	}
	if ((want & HK_LAPIC_WANT_INIT) != 0) {
		vcpu->startup = HK_SOFT_INIT;
		hk_soft_attend_locked(vcpu, HK_ATT_KICK);
	}
	if ((want & HK_LAPIC_WANT_STARTUP) != 0) {
		vcpu->startup = (vcpu->startup & HK_SOFT_INIT) | HK_SOFT_SIPI | ipi->vector;
		hk_soft_attend_locked(vcpu, HK_ATT_KICK);
	}
}

static void deliver_locked(struct hk_soft *soft, const struct hk_ipi *ipi, unsigned source)
{
	uint32_t targets =
		hk_lapic_targets(soft->lapics, soft->vcpu_count, ipi, source, &soft->turn);

	for (; targets != 0; targets &= targets - 1) {
		accept_locked(soft->vcpus[__builtin_ctz(targets)], ipi);
	}
}

void hk_soft_service_locked(struct hk_soft *soft, uint32_t pins)
{
	for (; pins != 0; pins &= pins - 1) {
		struct hk_ipi ipi;

		if (hk_ioapic_service(&soft->ioapic, (unsigned)__builtin_ctz(pins), &ipi)) {
			deliver_locked(soft, &ipi, 0);
		}
	}
}

int hk_soft_irq(struct hk_engine *engine, unsigned gsi, bool level)
{
	struct hk_soft *soft = hk_soft_of(engine);

	pthread_mutex_lock(&soft->chip_lock);
	if (hk_ioapic_set(&soft->ioapic, gsi, level)) {
		hk_soft_service_locked(soft, 1u << gsi);
	}
	pthread_mutex_unlock(&soft->chip_lock);
	return 0;
}

/* What a CPU's write to its APIC causes; there may be an interrupt to take now. */
static void apply_locked(struct hk_soft_vcpu *vcpu, const struct hk_lapic_effect *effect)
{
	if (effect->timer) {
		hk_soft_timer_update_locked(vcpu);
	}
	if (effect->eoi) {
		hk_soft_service_locked(
			vcpu->soft, hk_ioapic_eoi(&vcpu->soft->ioapic, effect->eoi_vector));
	}
	if (effect->send) {
		deliver_locked(vcpu->soft, &effect->ipi, vcpu->base.index);
	}
	hk_soft_irq_check_locked(vcpu);
}

/* PV EOI. Nobody looks for code in that byte. */

void hk_soft_pv_eoi_sync_locked(struct hk_soft_vcpu *vcpu)
{
	struct hk_lapic_effect effect = {0};

	if (!vcpu->pv_eoi_set) {
		return;
	}
	vcpu->pv_eoi_set = false;
	if ((__atomic_fetch_and(vcpu->pv_eoi_byte, (uint8_t)~PV_EOI_BIT, __ATOMIC_SEQ_CST) &
		    PV_EOI_BIT) == 0) {
		hk_lapic_eoi(&vcpu->lapic, &effect);
		apply_locked(vcpu, &effect);
	}
}

/* Offers to do without the EOI of the interrupt in service, where nothing else hangs on it. */
static void pv_eoi_offer_locked(struct hk_soft_vcpu *vcpu)
{
	int vector = hk_lapic_highest(&vcpu->lapic, HK_LAPIC_ISR);

	if (vcpu->pv_eoi_byte == NULL || vector < 0 ||
		hk_lapic_highest(&vcpu->lapic, HK_LAPIC_IRR) >= 0 ||
		(vcpu->lapic.reg[HK_LAPIC_TMR + vector / 32] >> vector % 32 & 1) != 0) {
		return;
	}
	__atomic_fetch_or(vcpu->pv_eoi_byte, PV_EOI_BIT, __ATOMIC_SEQ_CST);
	vcpu->pv_eoi_set = true;
}

bool hk_soft_set_pv_eoi(struct hk_soft_vcpu *vcpu, uint64_t value)
{
	enum { ENABLE = 1, ALIGNMENT = 4 };
	hk_gpa gpa = value & ~(uint64_t)ENABLE;
	uint8_t *byte = NULL;

	if (gpa % ALIGNMENT != 0) {
		return false;
	}
	if ((value & ENABLE) != 0) {
		byte = hk_mem_at(vcpu->soft->mem.mem, gpa, 1);
		if (byte == NULL) {
			return false;
		}
	}
	pthread_mutex_lock(&vcpu->soft->chip_lock);
	hk_soft_pv_eoi_sync_locked(vcpu);
	vcpu->pv_eoi = value;
	vcpu->pv_eoi_byte = byte;
	pthread_mutex_unlock(&vcpu->soft->chip_lock);
	return true;
}

/* The CPU */

/* Each of the CPU's own accesses to its APIC stands between these. */
static void access_begin(struct hk_soft_vcpu *vcpu)
{
	pthread_mutex_lock(&vcpu->soft->chip_lock);
	hk_soft_pv_eoi_sync_locked(vcpu);
}

static void access_end(struct hk_soft_vcpu *vcpu)
{
	pv_eoi_offer_locked(vcpu);
	pthread_mutex_unlock(&vcpu->soft->chip_lock);
}

int hk_soft_interrupt(struct hk_cpu *cpu)
{
	struct hk_soft_vcpu *vcpu = hk_soft_vcpu_of_cpu(cpu);
	int vector = vcpu->injected;

	access_begin(vcpu);
	if (vector >= 0) {
		vcpu->injected = -1;
		hk_soft_irq_check_locked(vcpu);
	} else {
		vector = hk_lapic_ack(&vcpu->lapic);
	}
	access_end(vcpu);
	return vector;
}

uint8_t hk_soft_get_cr8(struct hk_cpu *cpu)
{
	/* Only this thread writes it. */
	return (uint8_t)(hk_soft_vcpu_of_cpu(cpu)->lapic.reg[HK_LAPIC_TPR] >> 4);
}

void hk_soft_set_cr8(struct hk_cpu *cpu, uint8_t value)
{
	struct hk_soft_vcpu *vcpu = hk_soft_vcpu_of_cpu(cpu);

	access_begin(vcpu);
	hk_lapic_set_tpr(&vcpu->lapic, (uint8_t)(value << 4));
	hk_soft_irq_check_locked(vcpu);
	access_end(vcpu);
}

static void ioapic_access(
	struct hk_soft_vcpu *vcpu, unsigned offset, void *data, unsigned len, bool write)
{
	struct hk_soft *soft = vcpu->soft;
	uint32_t value = 0;

	pthread_mutex_lock(&soft->chip_lock);
	if (write) {
		memcpy(&value, data, HK_MIN(len, (unsigned)sizeof(value)));

		int pin = hk_ioapic_write(&soft->ioapic, offset, value);

		if (pin >= 0) {
			hk_soft_service_locked(soft, 1u << pin);
		}
	} else {
		value = hk_ioapic_read(&soft->ioapic, offset);
		memcpy(data, &value, HK_MIN(len, (unsigned)sizeof(value)));
	}
	pthread_mutex_unlock(&soft->chip_lock);
}

/* Registers are written in 4 bytes; some guests read parts of them. */
static void lapic_access(
	struct hk_soft_vcpu *vcpu, unsigned offset, void *data, unsigned len, bool write)
{
	struct hk_lapic_time now = hk_soft_now(vcpu);
	unsigned within = offset % 16;
	uint32_t value;

	if (within + len > sizeof(value) || (write && len != sizeof(value))) {
		return;
	}
	access_begin(vcpu);
	if (write) {
		struct hk_lapic_effect effect;

		memcpy(&value, data, sizeof(value));
		hk_lapic_mmio_write(&vcpu->lapic, offset, value, &now, &effect);
		apply_locked(vcpu, &effect);
	} else {
		value = hk_lapic_mmio_read(&vcpu->lapic, offset - within, &now);
		memcpy(data, (const uint8_t *)&value + within, len);
		hk_soft_irq_check_locked(vcpu); /* a read can be an error, which may interrupt */
	}
	access_end(vcpu);
}

bool hk_soft_chip_mmio(struct hk_soft_vcpu *vcpu, hk_gpa gpa, void *data, unsigned len, bool write)
{
	uint64_t lapic_gpa = vcpu->lapic.base & HK_APIC_BASE_ADDR;

	if (gpa - lapic_gpa < LAPIC_BYTES && hk_lapic_enabled(&vcpu->lapic) &&
		!hk_lapic_x2apic(&vcpu->lapic)) {
		if (!write) {
			memset(data, 0, len);
		}
		lapic_access(vcpu, (unsigned)(gpa - lapic_gpa), data, len, write);
		return true;
	}
	if (gpa - HK_IOAPIC_GPA < IOAPIC_BYTES) {
		if (!write) {
			memset(data, 0, len);
		}
		ioapic_access(vcpu, (unsigned)(gpa - HK_IOAPIC_GPA), data, len, write);
		return true;
	}
	return false;
}

bool hk_soft_apic_rdmsr(struct hk_soft_vcpu *vcpu, uint32_t index, uint64_t *ret_value)
{
	struct hk_lapic_time now = hk_soft_now(vcpu);
	bool ok = true;

	access_begin(vcpu);
	switch (index) {
	case HK_MSR_APIC_BASE:
		*ret_value = vcpu->lapic.base;
		break;
	case HK_MSR_TSC_DEADLINE:
		*ret_value = hk_lapic_get_deadline(&vcpu->lapic);
		break;
	default:
		ok = hk_lapic_msr_read(&vcpu->lapic, index, &now, ret_value);
		break;
	}
	access_end(vcpu);
	return ok;
}

bool hk_soft_apic_wrmsr(struct hk_soft_vcpu *vcpu, uint32_t index, uint64_t value)
{
	struct hk_lapic_time now = hk_soft_now(vcpu);
	struct hk_lapic_effect effect = {0};
	bool ok = true;

	access_begin(vcpu);
	switch (index) {
	case HK_MSR_APIC_BASE:
		ok = hk_lapic_set_base(&vcpu->lapic, value);
		effect.timer = true;
		break;
	case HK_MSR_TSC_DEADLINE:
		hk_lapic_set_deadline(&vcpu->lapic, value);
		effect.timer = true;
		break;
	default:
		ok = hk_lapic_msr_write(&vcpu->lapic, index, value, &now, &effect);
		break;
	}
	if (ok) {
		apply_locked(vcpu, &effect);
	}
	access_end(vcpu);
	return ok;
}
