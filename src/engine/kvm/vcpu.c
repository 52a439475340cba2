/* SPDX-License-Identifier: ISC */
/*
 * One KVM vCPU: creation and the run loop.
 *
 * A kick sets `immediate_exit` in the page shared with KVM and sends a signal to the
 * thread inside KVM_RUN. The flag closes the race between the thread's last look at it and
 * the ioctl; the signal ends a KVM_RUN that is under way. A run that ends so has finished the
 * access that was pending, so that the registers are those between two instructions.
 *
 * `kicked` is what a kick means, `immediate_exit` only how it is heard. The kicker raises them in
 * this order and the runner takes them down in the other, so that a flag left standing never
 * comes without a kick, or it would end every KVM_RUN from then on. The lock keeps the thread from
 * leaving, and so from ending, while it is sent a signal.
 */
#include <assert.h>
#include <errno.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/util.h"
#include "engine/engines.h"
#include "engine/kvm/kvm.h"
#include "engine/msr.h"

HK_LOG_CHANNEL("kvm");

#define KICK_SIGNAL (SIGRTMIN)

struct hk_kvm_vcpu *hk_kvm_vcpu_of(struct hk_vcpu *vcpu)
{
	assert(vcpu->engine->ops == &hk_engine_kvm);
	return hk_container_of(vcpu, struct hk_kvm_vcpu, base);
}

static void ignore_kick(int signo)
{
}

int hk_kvm_kick_signal_install(struct hk_err *err)
{
	struct sigaction action = {.sa_handler = ignore_kick};

	/* Without SA_RESTART: KVM_RUN is to end with EINTR. */
	if (sigaction(KICK_SIGNAL, &action, NULL) < 0) {
		return hk_fail(err, errno, "sigaction");
	}
	return 0;
}

static int set_cpuid(struct hk_kvm *kvm, struct hk_kvm_vcpu *vcpu, const struct hk_cpuid *host,
	struct hk_err *err)
{
	autofree struct hk_cpuid *cpuid = hk_malloc(sizeof(*cpuid));
	autofree struct kvm_cpuid2 *list =
		hk_calloc(1, sizeof(*list) + HK_MAX_CPUID_LEAVES * sizeof(struct kvm_cpuid_entry2));

	if (cpuid == NULL || list == NULL) {
		return hk_fail(err, ENOMEM, "CPUID table");
	}

	int r = hk_cpuid_build(&kvm->base.config.cpu, host, vcpu->base.index,
		kvm->base.config.vcpu_count, kvm->tsc_khz, cpuid, err);

	if (r < 0) {
		return r;
	}
	list->nent = cpuid->count;
	for (unsigned i = 0; i < cpuid->count; i++) {
		const struct hk_cpuid_leaf *leaf = &cpuid->leaves[i];

		list->entries[i] = (struct kvm_cpuid_entry2){
			.function = leaf->function,
			.index = leaf->index,
			.flags = leaf->has_index ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
			.eax = leaf->eax,
			.ebx = leaf->ebx,
			.ecx = leaf->ecx,
			.edx = leaf->edx,
		};
	}
	if (ioctl(vcpu->fd, KVM_SET_CPUID2, list) < 0) {
		return hk_fail(err, errno, "KVM_SET_CPUID2");
	}
	return 0;
}

static void set_model_msrs(struct hk_kvm *kvm, struct hk_kvm_vcpu *vcpu)
{
	unsigned count;
	const struct hk_msr_value *msrs = hk_cpu_model_msrs(&kvm->base.config.cpu, &count);

	for (unsigned i = 0; i < count; i++) {
		if (hk_kvm_set_msr(vcpu, msrs[i].index, msrs[i].value) < 0) {
			/* The guest then takes mitigations it does not need: slower, not wrong. */
			hk_log_debug(
				"MSR 0x%x: KVM does not take the model's value", msrs[i].index);
		}
	}
}

/* KVM shows as many machine check banks as it can unless told otherwise. */
static int set_machine_check(struct hk_kvm_vcpu *vcpu, struct hk_err *err)
{
	uint64_t mcg_cap = HK_MCG_CAP;

	if (ioctl(vcpu->fd, KVM_X86_SETUP_MCE, &mcg_cap) < 0) {
		return hk_fail(err, errno, "KVM_X86_SETUP_MCE");
	}
	return 0;
}

int hk_kvm_vcpu_create(
	struct hk_kvm *kvm, unsigned index, const struct hk_cpuid *host, struct hk_err *err)
{
	struct hk_kvm_vcpu *vcpu = &kvm->vcpus[index];

	vcpu->base.engine = &kvm->base;
	vcpu->base.index = index;
	vcpu->run = MAP_FAILED;
	pthread_mutex_init(&vcpu->lock, NULL);
	vcpu->fd = ioctl(kvm->vm_fd, KVM_CREATE_VCPU, (unsigned long)index);
	if (vcpu->fd < 0) {
		return hk_fail(err, errno, "KVM_CREATE_VCPU %u", index);
	}
	kvm->vcpu_count = index + 1;
	vcpu->run = mmap(NULL, kvm->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
	if (vcpu->run == MAP_FAILED) {
		return hk_fail(err, errno, "map vCPU %u", index);
	}
	if (index == 0) {
		int khz = ioctl(vcpu->fd, KVM_GET_TSC_KHZ, 0);

		kvm->tsc_khz = khz > 0 ? (uint32_t)khz : 0;
	}

	int r = set_cpuid(kvm, vcpu, host, err);

	if (r < 0 || (r = set_machine_check(vcpu, err)) < 0) {
		return r;
	}
	set_model_msrs(kvm, vcpu);
	return 0;
}

void hk_kvm_vcpu_finish(struct hk_kvm *kvm, struct hk_kvm_vcpu *vcpu)
{
	if (vcpu->run != MAP_FAILED) {
		munmap(vcpu->run, kvm->run_bytes);
	}
	hk_close(&vcpu->fd);
	pthread_mutex_destroy(&vcpu->lock);
}

/* A string instruction (REP OUTS) arrives as several accesses to one port. */
static void handle_port(struct hk_kvm_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	struct hk_engine_client *client = vcpu->base.engine->config.client;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;

	for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size) {
		client->ops->port(client, run->io.port, data, run->io.size,
			run->io.direction == KVM_EXIT_IO_OUT);
	}
}

static void handle_mmio(struct hk_kvm_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	struct hk_engine_client *client = vcpu->base.engine->config.client;

	client->ops->mmio(
		client, run->mmio.phys_addr, run->mmio.data, run->mmio.len, run->mmio.is_write);
}

static enum hk_run fail_with_rip(struct hk_kvm_vcpu *vcpu, struct hk_err *err)
{
	struct kvm_regs regs;

	/* seccomp: ioctl:KVM_GET_REGS */
	if (ioctl(vcpu->fd, KVM_GET_REGS, &regs) == 0) {
		hk_err_ctx(err, "vCPU %u at rip 0x%llx", vcpu->base.index,
			(unsigned long long)regs.rip);
	} else {
		hk_err_ctx(err, "vCPU %u", vcpu->base.index);
	}
	return HK_RUN_FAILED;
}

/* Return: HK_RUN_COUNT to go on. */
static enum hk_run handle_exit(struct hk_kvm_vcpu *vcpu, struct hk_err *err)
{
	struct kvm_run *run = vcpu->run;

	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		handle_port(vcpu);
		return HK_RUN_COUNT;
	case KVM_EXIT_MMIO:
		handle_mmio(vcpu);
		return HK_RUN_COUNT;
	case KVM_EXIT_INTR:
		return HK_RUN_COUNT;
	case KVM_EXIT_SHUTDOWN:
		return HK_RUN_SHUTDOWN;
	case KVM_EXIT_FAIL_ENTRY:
		hk_fail_msg(err, EIO, "the CPU refused to enter the guest, hardware reason 0x%llx",
			(unsigned long long)run->fail_entry.hardware_entry_failure_reason);
		return fail_with_rip(vcpu, err);
	case KVM_EXIT_INTERNAL_ERROR:
		hk_fail_msg(err, EIO, "KVM could not emulate an instruction (internal error %u)",
			run->internal.suberror);
		return fail_with_rip(vcpu, err);
	default:
		hk_fail_msg(err, EIO, "KVM stopped for reason %u, which we do not know",
			run->exit_reason);
		return fail_with_rip(vcpu, err);
	}
}

/*
 * KVM says so of memory that has a place and nothing there: in windows, files are mapped that
 * others may cut short.
 */
static enum hk_run fail_on_memory(struct hk_kvm_vcpu *vcpu, struct hk_err *err)
{
	hk_fail_msg(err, EFAULT, "the guest used memory that is not there");
	hk_err_hint(err,
		"if a share is mapped (:dax): its disk may be full, or the box's kernel is broken");
	return fail_with_rip(vcpu, err);
}

static enum hk_run run_until_exit(struct hk_kvm_vcpu *vcpu, struct hk_err *err)
{
	for (;;) {
		/* seccomp: ioctl:KVM_RUN */
		if (ioctl(vcpu->fd, KVM_RUN, 0) < 0) {
			if (errno == EAGAIN) { /* an application processor got its INIT */
				continue;
			}
			if (errno == EFAULT) {
				if (hk_mem_mend(vcpu->base.engine->config.mem)) {
					continue;
				}
				return fail_on_memory(vcpu, err);
			}
			if (errno != EINTR) {
				hk_fail(err, errno, "KVM_RUN");
				return fail_with_rip(vcpu, err);
			}
			__atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
			if (atomic_exchange(&vcpu->kicked, false)) {
				return HK_RUN_KICKED;
			}
			continue; /* a stray signal */
		}

		enum hk_run result = handle_exit(vcpu, err);

		if (result != HK_RUN_COUNT) {
			return result;
		}
	}
}

static void set_running(struct hk_kvm_vcpu *vcpu, bool running)
{
	pthread_mutex_lock(&vcpu->lock);
	vcpu->thread = pthread_self();
	vcpu->running = running;
	pthread_mutex_unlock(&vcpu->lock);
}

enum hk_run hk_kvm_run(struct hk_vcpu *base, struct hk_err *err)
{
	struct hk_kvm_vcpu *vcpu = hk_kvm_vcpu_of(base);

	set_running(vcpu, true);

	enum hk_run result = run_until_exit(vcpu, err);

	set_running(vcpu, false);
	return result;
}

void hk_kvm_kick(struct hk_vcpu *base)
{
	struct hk_kvm_vcpu *vcpu = hk_kvm_vcpu_of(base);

	atomic_store(&vcpu->kicked, true);
	__atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	pthread_mutex_lock(&vcpu->lock);
	if (vcpu->running) {
		pthread_kill(vcpu->thread, KICK_SIGNAL);
	}
	pthread_mutex_unlock(&vcpu->lock);
}
