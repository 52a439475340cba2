/* SPDX-License-Identifier: ISC */
/* Private to the KVM engine. */
#ifndef HK_ENGINE_KVM_KVM_H
#define HK_ENGINE_KVM_KVM_H

#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#include "engine/engine_impl.h"

struct hk_kvm_vcpu {
	struct hk_vcpu base;
	int fd;              /* owned */
	struct kvm_run *run; /* shared page with KVM, owned mapping */
	atomic_bool kicked;
	pthread_mutex_t lock; /* guards what stands below it */
	bool running;         /* a thread is in hk_vcpu_run() */
	pthread_t thread;     /* that thread */
};

struct hk_kvm {
	struct hk_engine base;
	int kvm_fd;       /* /dev/kvm, owned */
	int vm_fd;        /* owned */
	size_t run_bytes; /* of each vCPU's kvm_run mapping */
	uint32_t tsc_khz;
	unsigned vcpu_count; /* created so far */
	struct hk_kvm_vcpu vcpus[HK_MAX_VCPUS];
};

struct hk_kvm *hk_kvm_of(struct hk_engine *engine);
struct hk_kvm_vcpu *hk_kvm_vcpu_of(struct hk_vcpu *vcpu);

/* probe.c */
void hk_kvm_probe(struct hk_engine_probe *probe);
/** hk_kvm_open() - /dev/kvm, checked. Return: descriptor, or -errno with reason and hint in @err.
 */
int hk_kvm_open(struct hk_err *err);
/** hk_kvm_open_device() - the same of any file and CPU, for tests */
int hk_kvm_open_device(const char *device, bool has_virtualization, struct hk_err *err);

/* vcpu.c */
int hk_kvm_vcpu_create(
	struct hk_kvm *kvm, unsigned index, const struct hk_cpuid *host, struct hk_err *err);
void hk_kvm_vcpu_finish(struct hk_kvm *kvm, struct hk_kvm_vcpu *vcpu);
enum hk_run hk_kvm_run(struct hk_vcpu *vcpu, struct hk_err *err);
void hk_kvm_kick(struct hk_vcpu *vcpu);
int hk_kvm_kick_signal_install(struct hk_err *err);

/* state.c */
int hk_kvm_get_state(struct hk_vcpu *vcpu, struct hk_vcpu_state *state, struct hk_err *err);
int hk_kvm_set_state(struct hk_vcpu *vcpu, const struct hk_vcpu_state *state, struct hk_err *err);
int hk_kvm_get_irqchip(
	struct hk_engine *engine, struct hk_irqchip_state *state, struct hk_err *err);
int hk_kvm_set_irqchip(
	struct hk_engine *engine, const struct hk_irqchip_state *state, struct hk_err *err);
int hk_kvm_get_clock(struct hk_engine *engine, struct hk_clock_state *state, struct hk_err *err);
int hk_kvm_set_clock(
	struct hk_engine *engine, const struct hk_clock_state *state, struct hk_err *err);
/** hk_kvm_set_msr() - Return: 0, or -ENOTSUP where KVM refuses it */
int hk_kvm_set_msr(struct hk_kvm_vcpu *vcpu, uint32_t index, uint64_t value);

#endif
