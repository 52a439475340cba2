/* SPDX-License-Identifier: ISC */
/*
 * The KVM engine: hardware virtualization by the host's kernel.
 *
 * Interrupt controllers (local APICs, IOAPIC) and the paravirtual clock are KVM's own.
 * Doorbells are ioeventfds and interrupts irqfds, so that neither passes through a
 * vCPU thread. There is no PIC, PIT or real-mode code: a reduced-hardware machine needs none.
 *
 * Files: probe.c (is it usable), vcpu.c (creation, the run loop), state.c (registers in and out).
 */
#include "engine/kvm/kvm.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/util.h"
#include "engine/engines.h"

struct hk_kvm *hk_kvm_of(struct hk_engine *engine)
{
	assert(engine->ops == &hk_engine_kvm);
	return hk_container_of(engine, struct hk_kvm, base);
}

static int get_host_cpuid(struct hk_kvm *kvm, struct hk_cpuid *ret, struct hk_err *err)
{
	autofree struct kvm_cpuid2 *list =
		hk_calloc(1, sizeof(*list) + HK_MAX_CPUID_LEAVES * sizeof(struct kvm_cpuid_entry2));

	if (list == NULL) {
		return hk_fail(err, ENOMEM, "CPUID table");
	}
	list->nent = HK_MAX_CPUID_LEAVES;
	if (ioctl(kvm->kvm_fd, KVM_GET_SUPPORTED_CPUID, list) < 0) {
		return hk_fail(err, errno, "KVM_GET_SUPPORTED_CPUID");
	}
	*ret = (struct hk_cpuid){.count = list->nent};
	for (unsigned i = 0; i < list->nent; i++) {
		const struct kvm_cpuid_entry2 *e = &list->entries[i];

		ret->leaves[i] = (struct hk_cpuid_leaf){
			.function = e->function,
			.index = e->index,
			.has_index = (e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) != 0,
			.eax = e->eax,
			.ebx = e->ebx,
			.ecx = e->ecx,
			.edx = e->edx,
		};
	}
	return 0;
}

/* A region's slot number is its index, which stays as it is when others are added behind it. */
static int kvm_map(struct hk_engine *engine, const struct hk_mem_region *region, struct hk_err *err)
{
	struct kvm_userspace_memory_region slot = {
		.slot = (uint32_t)(region - engine->config.mem->regions),
		.guest_phys_addr = region->gpa,
		.memory_size = region->len_bytes,
		.userspace_addr = (uintptr_t)region->host,
	};

	/* seccomp: ioctl:KVM_SET_USER_MEMORY_REGION */
	if (ioctl(hk_kvm_of(engine)->vm_fd, KVM_SET_USER_MEMORY_REGION, &slot) < 0) {
		return hk_fail(
			err, errno, "map guest memory at 0x%llx", (unsigned long long)region->gpa);
	}
	return 0;
}

static int map_memory(struct hk_kvm *kvm, struct hk_err *err)
{
	const struct hk_mem *mem = kvm->base.config.mem;
	int r = 0;

	for (unsigned i = 0; r == 0 && i < mem->region_count; i++) {
		r = kvm_map(&kvm->base, &mem->regions[i], err);
	}
	return r;
}

/* Route each GSI to the IOAPIC pin of its number and nowhere else: the PIC that KVM makes stays
 * unused. */
static int route_interrupts(struct hk_kvm *kvm, struct hk_err *err)
{
	struct {
		struct kvm_irq_routing head;
		struct kvm_irq_routing_entry entries[HK_GSI_COUNT];
	} table = {.head.nr = HK_GSI_COUNT};

	for (unsigned gsi = 0; gsi < HK_GSI_COUNT; gsi++) {
		table.entries[gsi] = (struct kvm_irq_routing_entry){
			.gsi = gsi,
			.type = KVM_IRQ_ROUTING_IRQCHIP,
			.u.irqchip = {.irqchip = KVM_IRQCHIP_IOAPIC, .pin = gsi},
		};
	}
	if (ioctl(kvm->vm_fd, KVM_SET_GSI_ROUTING, &table) < 0) {
		return hk_fail(err, errno, "KVM_SET_GSI_ROUTING");
	}
	return 0;
}

static int create_vm(struct hk_kvm *kvm, struct hk_err *err)
{
	/* Intel needs three pages for its real-mode TSS, in the hole where no RAM can be. */
	static const uint64_t tss_gpa = 0xfffbd000;
	static const uint64_t identity_map_gpa = 0xfffbc000;

	do {
		kvm->vm_fd = ioctl(kvm->kvm_fd, KVM_CREATE_VM, 0);
	} while (kvm->vm_fd < 0 && errno == EINTR);
	if (kvm->vm_fd < 0) {
		return hk_fail(err, errno, "KVM_CREATE_VM");
	}
	if (ioctl(kvm->vm_fd, KVM_SET_TSS_ADDR, tss_gpa) < 0 ||
		ioctl(kvm->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map_gpa) < 0) {
		return hk_fail(err, errno, "KVM_SET_TSS_ADDR");
	}
	if (ioctl(kvm->vm_fd, KVM_CREATE_IRQCHIP, 0) < 0) {
		return hk_fail(err, errno, "KVM_CREATE_IRQCHIP");
	}

	int r = route_interrupts(kvm, err);

	return r < 0 ? r : map_memory(kvm, err);
}

static int create_vcpus(struct hk_kvm *kvm, struct hk_err *err)
{
	autofree struct hk_cpuid *host = hk_malloc(sizeof(*host));

	if (host == NULL) {
		return hk_fail(err, ENOMEM, "CPUID table");
	}

	int r = get_host_cpuid(kvm, host, err);

	for (unsigned i = 0; r == 0 && i < kvm->base.config.vcpu_count; i++) {
		r = hk_kvm_vcpu_create(kvm, i, host, err);
	}
	return r;
}

static void kvm_destroy(struct hk_engine *engine)
{
	struct hk_kvm *kvm = hk_kvm_of(engine);

	for (unsigned i = 0; i < kvm->vcpu_count; i++) {
		hk_kvm_vcpu_finish(kvm, &kvm->vcpus[i]);
	}
	hk_close(&kvm->vm_fd);
	hk_close(&kvm->kvm_fd);
	free(kvm);
}

static int kvm_setup(struct hk_kvm *kvm, struct hk_err *err)
{
	kvm->kvm_fd = hk_kvm_open(err);
	if (kvm->kvm_fd < 0) {
		return kvm->kvm_fd;
	}

	int run_bytes = ioctl(kvm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);

	if (run_bytes < (int)sizeof(struct kvm_run)) {
		return hk_fail_msg(err, EIO, "KVM_GET_VCPU_MMAP_SIZE gives %d bytes", run_bytes);
	}
	kvm->run_bytes = (size_t)run_bytes;

	int r = hk_kvm_kick_signal_install(err);

	r = r < 0 ? r : create_vm(kvm, err);
	return r < 0 ? r : create_vcpus(kvm, err);
}

static int kvm_create(const char *options, const struct hk_engine_config *config,
	struct hk_engine **ret_engine, struct hk_err *err)
{
	struct hk_kvm *kvm;

	if (options[0] != '\0') {
		return hk_fail_msg(err, EINVAL, "option '%s': not known, there are none", options);
	}
	if (hk_new(kvm) == NULL) {
		return hk_fail(err, ENOMEM, "engine");
	}
	kvm->base.ops = &hk_engine_kvm;
	kvm->base.config = *config;
	kvm->kvm_fd = -1;
	kvm->vm_fd = -1;

	int r = kvm_setup(kvm, err);

	if (r < 0) {
		kvm_destroy(&kvm->base);
		return r;
	}
	*ret_engine = &kvm->base;
	return 0;
}

static struct hk_vcpu *kvm_vcpu(struct hk_engine *engine, unsigned index)
{
	return &hk_kvm_of(engine)->vcpus[index].base;
}

static int kvm_irq(struct hk_engine *engine, unsigned gsi, bool level)
{
	struct kvm_irq_level irq = {.irq = gsi, .level = level};

	/* seccomp: ioctl:KVM_IRQ_LINE */
	return ioctl(hk_kvm_of(engine)->vm_fd, KVM_IRQ_LINE, &irq) < 0 ? -errno : 0;
}

static int kvm_irqfd(struct hk_engine *engine, unsigned gsi, int event_fd, bool add)
{
	struct kvm_irqfd irqfd = {
		.fd = (uint32_t)event_fd,
		.gsi = gsi,
		.flags = add ? 0 : KVM_IRQFD_FLAG_DEASSIGN,
	};

	/* seccomp: ioctl:KVM_IRQFD */
	return ioctl(hk_kvm_of(engine)->vm_fd, KVM_IRQFD, &irqfd) < 0 ? -errno : 0;
}

static int kvm_doorbell(
	struct hk_engine *engine, hk_gpa gpa, uint32_t value, int event_fd, bool add)
{
	struct kvm_ioeventfd doorbell = {
		.datamatch = value,
		.addr = gpa,
		.len = sizeof(value),
		.fd = event_fd,
		.flags = KVM_IOEVENTFD_FLAG_DATAMATCH | (add ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN),
	};

	/* seccomp: ioctl:KVM_IOEVENTFD */
	return ioctl(hk_kvm_of(engine)->vm_fd, KVM_IOEVENTFD, &doorbell) < 0 ? -errno : 0;
}

const struct hk_engine_ops hk_engine_kvm = {
	.name = "kvm",
	.probe = hk_kvm_probe,
	.create = kvm_create,
	.destroy = kvm_destroy,
	.vcpu = kvm_vcpu,
	.map = kvm_map,
	.irq = kvm_irq,
	.irqfd = kvm_irqfd,
	.doorbell = kvm_doorbell,
	.run = hk_kvm_run,
	.kick = hk_kvm_kick,
	.get_state = hk_kvm_get_state,
	.set_state = hk_kvm_set_state,
	.get_irqchip = hk_kvm_get_irqchip,
	.set_irqchip = hk_kvm_set_irqchip,
	.get_clock = hk_kvm_get_clock,
	.set_clock = hk_kvm_set_clock,
};
