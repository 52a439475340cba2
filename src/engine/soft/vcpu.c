/* SPDX-License-Identifier: ISC */
/*
 * One vCPU of the soft engine: creation, the loop around hk_cpu_run(), and the world that the CPU
 * core sees (struct hk_cpu_bus_ops).
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>

#include "base/alloc.h"
#include "engine/soft/run.h"
#include "engine/soft/soft.h"
#include "engine/soft/sys.h"

/* Accesses of the guest */

static void bus_port(struct hk_cpu *cpu, uint16_t port, void *data, unsigned len, bool write)
{
	struct hk_engine_client *client = hk_soft_vcpu_of_cpu(cpu)->base.engine->config.client;

	client->ops->port(client, port, data, len, write);
}

int hk_soft_doorbell(struct hk_engine *engine, hk_gpa gpa, uint32_t value, int event_fd, bool add)
{
	struct hk_soft *soft = hk_soft_of(engine);
	int r = add ? -ENOSPC : -ENOENT;

	pthread_mutex_lock(&soft->bell_lock);
	if (add && soft->bell_count < HK_SOFT_MAX_BELLS) {
		soft->bells[soft->bell_count++] = (struct hk_soft_bell){gpa, value, event_fd};
		r = 0;
	}
	for (unsigned i = 0; !add && i < soft->bell_count; i++) {
		if (soft->bells[i].gpa == gpa && soft->bells[i].value == value) {
			soft->bells[i] = soft->bells[--soft->bell_count];
			r = 0;
		}
	}
	pthread_mutex_unlock(&soft->bell_lock);
	return r;
}

static bool ring(struct hk_soft *soft, hk_gpa gpa, const void *data, unsigned len)
{
	bool found = false;
	uint32_t value;

	if (len != sizeof(value)) {
		return false;
	}
	memcpy(&value, data, sizeof(value));
	pthread_mutex_lock(&soft->bell_lock);
	for (unsigned i = 0; i < soft->bell_count && !found; i++) {
		const struct hk_soft_bell *bell = &soft->bells[i];

		found = bell->gpa == gpa && bell->value == value;
		if (found) {
			/* Fails only where the counter is full: then it is readable already. */
			/* seccomp: write */
			(void)eventfd_write(bell->fd, 1);
		}
	}
	pthread_mutex_unlock(&soft->bell_lock);
	return found;
}

static void bus_mmio(struct hk_cpu *cpu, hk_gpa gpa, void *data, unsigned len, bool write)
{
	struct hk_soft_vcpu *vcpu = hk_soft_vcpu_of_cpu(cpu);
	struct hk_engine_client *client = vcpu->base.engine->config.client;

	if (hk_soft_chip_mmio(vcpu, gpa, data, len, write) ||
		(write && ring(vcpu->soft, gpa, data, len))) {
		return;
	}
	client->ops->mmio(client, gpa, data, len, write);
}

static bool bus_rdmsr(struct hk_cpu *cpu, uint32_t index, uint64_t *ret_value)
{
	return hk_soft_msr_read(hk_soft_vcpu_of_cpu(cpu), index, ret_value);
}

static bool bus_wrmsr(struct hk_cpu *cpu, uint32_t index, uint64_t value)
{
	return hk_soft_msr_write(hk_soft_vcpu_of_cpu(cpu), index, value, false);
}

/* From a store of bytes, so that RDRAND is no system call each time. */
static void bus_random(struct hk_cpu *cpu, void *buf, size_t len_bytes)
{
	struct hk_soft_vcpu *vcpu = hk_soft_vcpu_of_cpu(cpu);

	assert(len_bytes <= sizeof(vcpu->random));
	if (vcpu->random_left < len_bytes) {
		/* seccomp: getrandom */
		ssize_t n = getrandom(vcpu->random, sizeof(vcpu->random), 0);

		/* Requests of up to 256 bytes do not fail once the kernel's pool is ready. */
		assert(n == (ssize_t)sizeof(vcpu->random));
		vcpu->random_left = n > 0 ? sizeof(vcpu->random) : 0;
	}
	vcpu->random_left -= (unsigned)len_bytes;
	memcpy(buf, vcpu->random + vcpu->random_left, len_bytes);
	memset(vcpu->random + vcpu->random_left, 0, len_bytes);
}

/* Hypercalls. Source: Linux Documentation/virt/kvm/x86/hypercalls.rst, uapi/linux/kvm_para.h. */

enum { KVM_HC_VAPIC_POLL_IRQ = 1, KVM_HC_KICK_CPU = 5, KVM_ENOSYS = 1000, KVM_EPERM = 1 };

static bool shows_unhalt(const struct hk_soft_vcpu *vcpu)
{
	const struct hk_cpuid_leaf *leaf = hk_cpuid_find(&vcpu->cpuid, 0x40000001, 0);

	return leaf != NULL && (leaf->eax & HK_KVM_PV_UNHALT) != 0;
}

/* Another CPU's next or present HLT is to end. */
static void kick_cpu(struct hk_soft *soft, uint64_t apic_id)
{
	if (apic_id >= soft->vcpu_count) {
		return;
	}
	pthread_mutex_lock(&soft->chip_lock);
	soft->vcpus[apic_id]->unhalted = true;
	hk_soft_attend_locked(soft->vcpus[apic_id], HK_ATT_KICK);
	pthread_mutex_unlock(&soft->chip_lock);
}

static void bus_hypercall(struct hk_cpu *cpu)
{
	struct hk_soft_vcpu *vcpu = hk_soft_vcpu_of_cpu(cpu);
	int64_t result = -KVM_ENOSYS;
	uint64_t number = cpu->gpr[HK_RAX];
	uint64_t apic_id = cpu->gpr[HK_RCX];

	if (cpu->mode != HK_CODE_64) {
		number = (uint32_t)number;
		apic_id = (uint32_t)apic_id;
	}
	if (cpu->cpl != 0) {
		result = -KVM_EPERM;
	} else if (number == KVM_HC_VAPIC_POLL_IRQ) {
		result = 0;
	} else if (number == KVM_HC_KICK_CPU && shows_unhalt(vcpu)) {
		kick_cpu(vcpu->soft, apic_id);
		result = 0;
	}
	cpu->gpr[HK_RAX] = cpu->mode == HK_CODE_64 ? (uint64_t)result : (uint32_t)result;
}

static const struct hk_cpu_bus_ops bus_ops = {
	.port = bus_port,
	.mmio = bus_mmio,
	.tsc = hk_soft_tsc,
	.rdmsr = bus_rdmsr,
	.wrmsr = bus_wrmsr,
	.get_cr8 = hk_soft_get_cr8,
	.set_cr8 = hk_soft_set_cr8,
	.interrupt = hk_soft_interrupt,
	.random = bus_random,
	.hypercall = bus_hypercall,
	.yield = hk_soft_yield,
	.work = hk_soft_work,
	.exclusive_begin = hk_soft_exclusive_begin,
	.exclusive_end = hk_soft_exclusive_end,
	.protect_page = hk_soft_protect_page,
	.drop_code = hk_soft_drop_code,
};

/* Life */

int hk_soft_vcpu_create(
	struct hk_soft *soft, unsigned index, const struct hk_cpuid *host, struct hk_err *err)
{
	const struct hk_engine_config *config = &soft->base.config;
	struct hk_soft_vcpu *vcpu;
	pthread_condattr_t attr;

	if (hk_new(vcpu) == NULL) {
		return hk_fail(err, ENOMEM, "vCPU %u", index);
	}
	vcpu->base = (struct hk_vcpu){.engine = &soft->base, .index = index};
	vcpu->soft = soft;
	vcpu->timer_ns = UINT64_MAX;
	vcpu->injected = -1;

	int r = hk_cpuid_build(&config->cpu, host, index, config->vcpu_count, soft->clock.tsc_khz,
		&vcpu->cpuid, err);

	if (r == 0 &&
		hk_cpu_init(&vcpu->cpu, index, &vcpu->cpuid, hk_cpuid_features(&vcpu->cpuid),
			&soft->mem, &bus_ops) < 0) {
		r = hk_fail(err, ENOMEM, "vCPU %u", index);
	}
	if (r < 0) {
		free(vcpu);
		return r;
	}
	/* As firmware leaves the x87, and KVM: after FNINIT, exceptions masked. */
	vcpu->cpu.x87 = (struct hk_x87){.fcw = 0x37f, .tag_empty = 0xff};
	vcpu->cpu.activity = index == 0 ? HK_CPU_RUNNING : HK_CPU_WAIT_SIPI;
	hk_lapic_reset(&vcpu->lapic, index, index == 0);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&vcpu->wake, &attr);
	pthread_condattr_destroy(&attr);
	soft->vcpus[index] = vcpu;
	soft->lapics[index] = &vcpu->lapic;
	soft->vcpu_count = index + 1;
	return 0;
}

void hk_soft_vcpu_destroy(struct hk_soft_vcpu *vcpu)
{
	if (vcpu == NULL) {
		return;
	}
	hk_cpu_finish(&vcpu->cpu);
	pthread_cond_destroy(&vcpu->wake);
	free(vcpu);
}

/* INIT and SIPI, between two runs of the core. */
void hk_soft_start_anew(struct hk_soft_vcpu *vcpu)
{
	struct hk_soft *soft = vcpu->soft;

	pthread_mutex_lock(&soft->chip_lock);

	uint32_t startup = vcpu->startup;

	vcpu->startup = 0;
	if ((startup & HK_SOFT_INIT) != 0) {
		hk_lapic_init(&vcpu->lapic);
		vcpu->timer_ns = UINT64_MAX;
		vcpu->pv_eoi = 0;
		vcpu->pv_eoi_byte = NULL;
		vcpu->pv_eoi_set = false;
		vcpu->injected = -1;
		vcpu->unhalted = false;
	}
	pthread_mutex_unlock(&soft->chip_lock);

	if ((startup & HK_SOFT_INIT) != 0) {
		vcpu->system_time = 0;
		hk_cpu_init_signal(&vcpu->cpu);
		vcpu->cpu.activity = (vcpu->lapic.base & HK_APIC_BASE_BSP) != 0 ? HK_CPU_RUNNING
										: HK_CPU_WAIT_SIPI;
	}
	if ((startup & HK_SOFT_SIPI) != 0 && vcpu->cpu.activity == HK_CPU_WAIT_SIPI) {
		hk_cpu_startup(&vcpu->cpu, (uint8_t)startup);
		vcpu->cpu.activity = HK_CPU_RUNNING;
	}
}

static enum hk_run run_until_exit(struct hk_soft_vcpu *vcpu)
{
	for (;;) {
		if (atomic_exchange(&vcpu->kicked, false)) {
			return HK_RUN_KICKED;
		}
		hk_soft_begin(vcpu);
		hk_soft_start_anew(vcpu);

		enum hk_cpu_stop stop = hk_cpu_run(&vcpu->cpu);

		hk_soft_end(vcpu);
		switch (stop) {
		case HK_CPU_IDLE:
			hk_soft_idle(vcpu);
			break;
		case HK_CPU_DEAD:
			return HK_RUN_SHUTDOWN;
		default: /* a kick, or somebody set `startup` or `unhalted` */
			break;
		}
	}
}

enum hk_run hk_soft_run(struct hk_vcpu *base, struct hk_err *err)
{
	struct hk_soft_vcpu *vcpu = hk_soft_vcpu_of(base);

	if (hk_soft_timer_start(vcpu->soft, err) < 0) {
		return HK_RUN_FAILED;
	}
	vcpu->nmi_injected = false;
	hk_soft_timer_attach(vcpu, true);

	enum hk_run why = run_until_exit(vcpu);

	hk_soft_timer_attach(vcpu, false);
	return why;
}

void hk_soft_kick(struct hk_vcpu *base)
{
	struct hk_soft_vcpu *vcpu = hk_soft_vcpu_of(base);

	atomic_store(&vcpu->kicked, true);
	pthread_mutex_lock(&vcpu->soft->chip_lock);
	hk_soft_attend_locked(vcpu, HK_ATT_KICK);
	pthread_mutex_unlock(&vcpu->soft->chip_lock);
}
