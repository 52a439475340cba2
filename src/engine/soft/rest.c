/* SPDX-License-Identifier: ISC */
/*
 * What CPUs ask of each other while they run: to give up the right to write a page without a look,
 * to forget decoded code, to stand still.
 *
 * A CPU is `running` while it is within hk_cpu_run(), but not while it waits here. Its TLB is its
 * own while it runs; else it is whoever's that holds rest_lock. So protect_page() does the work
 * itself for CPUs that do not run, and asks the others, who come by soon: HK_ATT_WORK makes them
 * call hk_soft_work() at their next branch. The asker does not run while it waits, so two that ask
 * each other do not wait for ever.
 *
 * Decoded code is forgotten by its CPU only, which is told and not waited for.
 *
 * A CPU that runs alone waits until no other runs; others that want to start, or to go on after a
 * wait, wait until it is done.
 */
#include <assert.h>
#include <sched.h>
#include <string.h>

#include "base/util.h"
#include "engine/soft/code.h"
#include "engine/soft/run.h"
#include "engine/soft/soft.h"

/* What has been asked of a CPU's TLB; by its thread, or while it does not run. */
static void serve_locked(struct hk_soft_vcpu *vcpu)
{
	struct hk_soft *soft = vcpu->soft;

	if (vcpu->protect_from == 0) {
		return;
	}
	for (; vcpu->protect_from != 0; vcpu->protect_from &= vcpu->protect_from - 1) {
		unsigned asker = (unsigned)__builtin_ctz(vcpu->protect_from);

		hk_tlb_protect(&vcpu->cpu, vcpu->protect[asker]);
		soft->vcpus[asker]->protect_waits--;
	}
	pthread_cond_broadcast(&soft->rest_changed);
}

static void rest_locked(struct hk_soft_vcpu *vcpu)
{
	serve_locked(vcpu);
	vcpu->running = false;
	if (vcpu->soft->exclusive >= 0) {
		pthread_cond_broadcast(&vcpu->soft->rest_changed);
	}
}

static void unrest_locked(struct hk_soft_vcpu *vcpu)
{
	struct hk_soft *soft = vcpu->soft;

	while (soft->exclusive >= 0 && soft->exclusive != (int)vcpu->base.index) {
		pthread_cond_wait(&soft->rest_changed, &soft->rest_lock);
	}
	vcpu->running = true;
}

void hk_soft_begin(struct hk_soft_vcpu *vcpu)
{
	pthread_mutex_lock(&vcpu->soft->rest_lock);
	unrest_locked(vcpu);
	pthread_mutex_unlock(&vcpu->soft->rest_lock);
}

void hk_soft_end(struct hk_soft_vcpu *vcpu)
{
	pthread_mutex_lock(&vcpu->soft->rest_lock);
	rest_locked(vcpu);
	pthread_mutex_unlock(&vcpu->soft->rest_lock);
}

/* Nobody has to wait meanwhile until the host lets this CPU's thread run again. */
void hk_soft_yield(struct hk_cpu *cpu)
{
	struct hk_soft_vcpu *vcpu = hk_soft_vcpu_of_cpu(cpu);

	if (vcpu->soft->vcpu_count == 1) {
		return;
	}
	hk_soft_end(vcpu);
	/* seccomp: sched_yield */
	sched_yield();
	hk_soft_begin(vcpu);
}

void hk_soft_work(struct hk_cpu *cpu)
{
	struct hk_soft_vcpu *vcpu = hk_soft_vcpu_of_cpu(cpu);
	struct hk_soft *soft = vcpu->soft;
	struct hk_soft_drop drops[HK_SOFT_MAX_DROPS];

	pthread_mutex_lock(&soft->rest_lock);
	rest_locked(vcpu);
	unrest_locked(vcpu);

	unsigned count = vcpu->drop_count;
	bool all = vcpu->drop_all;

	memcpy(drops, vcpu->drops, count * sizeof(drops[0]));
	vcpu->drop_count = 0;
	vcpu->drop_all = false;
	pthread_mutex_unlock(&soft->rest_lock);

	if (all) {
		hk_code_drop_all(cpu);
		return;
	}
	for (unsigned i = 0; i < count; i++) {
		hk_code_drop(cpu, drops[i].gpa, drops[i].len);
	}
}

static bool others_run(const struct hk_soft *soft, unsigned but)
{
	for (unsigned i = 0; i < soft->vcpu_count; i++) {
		if (i != but && soft->vcpus[i]->running) {
			return true;
		}
	}
	return false;
}

void hk_soft_exclusive_begin(struct hk_cpu *cpu)
{
	struct hk_soft_vcpu *vcpu = hk_soft_vcpu_of_cpu(cpu);
	struct hk_soft *soft = vcpu->soft;

	if (soft->vcpu_count == 1) {
		return;
	}
	pthread_mutex_lock(&soft->rest_lock);
	rest_locked(vcpu);
	unrest_locked(vcpu);
	assert(soft->exclusive < 0);
	soft->exclusive = (int)vcpu->base.index;
	vcpu->running = false; /* others, on their way here, may want something of our TLB */
	for (unsigned i = 0; i < soft->vcpu_count; i++) {
		if (soft->vcpus[i]->running) {
			hk_cpu_attend(&soft->vcpus[i]->cpu, HK_ATT_WORK);
		}
	}
	while (others_run(soft, vcpu->base.index)) {
		pthread_cond_wait(&soft->rest_changed, &soft->rest_lock);
	}
	vcpu->running = true;
	pthread_mutex_unlock(&soft->rest_lock);
}

void hk_soft_exclusive_end(struct hk_cpu *cpu)
{
	struct hk_soft *soft = hk_soft_vcpu_of_cpu(cpu)->soft;

	if (soft->vcpu_count == 1) {
		return;
	}
	pthread_mutex_lock(&soft->rest_lock);
	soft->exclusive = -1;
	pthread_cond_broadcast(&soft->rest_changed);
	pthread_mutex_unlock(&soft->rest_lock);
}

void hk_soft_protect_page(struct hk_cpu *cpu, hk_gpa page, uint32_t cpu_mask)
{
	struct hk_soft_vcpu *vcpu = hk_soft_vcpu_of_cpu(cpu);
	struct hk_soft *soft = vcpu->soft;
	unsigned self = vcpu->base.index;

	if ((cpu_mask >> self & 1) != 0) {
		hk_tlb_protect(cpu, page);
		cpu_mask &= ~(1u << self);
	}
	if (cpu_mask == 0) {
		return;
	}
	pthread_mutex_lock(&soft->rest_lock);
	for (; cpu_mask != 0; cpu_mask &= cpu_mask - 1) {
		struct hk_soft_vcpu *target = soft->vcpus[__builtin_ctz(cpu_mask)];

		if (!target->running) {
			hk_tlb_protect(&target->cpu, page);
			continue;
		}
		target->protect[self] = page;
		target->protect_from |= 1u << self;
		vcpu->protect_waits++;
		hk_cpu_attend(&target->cpu, HK_ATT_WORK);
	}
	if (vcpu->protect_waits > 0) {
		rest_locked(vcpu);
		while (vcpu->protect_waits > 0) {
			pthread_cond_wait(&soft->rest_changed, &soft->rest_lock);
		}
		unrest_locked(vcpu);
	}
	pthread_mutex_unlock(&soft->rest_lock);
}

/* Code */

static void queue_drop_locked(struct hk_soft_vcpu *vcpu, hk_gpa gpa, uint64_t len)
{
	struct hk_soft_drop *last =
		vcpu->drop_count > 0 ? &vcpu->drops[vcpu->drop_count - 1] : NULL;

	if (last != NULL && last->gpa + last->len == gpa) {
		last->len += len;
	} else if (vcpu->drop_count < HK_SOFT_MAX_DROPS) {
		vcpu->drops[vcpu->drop_count++] = (struct hk_soft_drop){gpa, len};
	} else {
		vcpu->drop_all = true;
	}
	hk_cpu_attend(&vcpu->cpu, HK_ATT_WORK);
}

static void queue_drops(struct hk_soft *soft, hk_gpa gpa, uint64_t len, uint32_t cpu_mask)
{
	pthread_mutex_lock(&soft->rest_lock);
	for (; cpu_mask != 0; cpu_mask &= cpu_mask - 1) {
		queue_drop_locked(soft->vcpus[__builtin_ctz(cpu_mask)], gpa, len);
	}
	pthread_mutex_unlock(&soft->rest_lock);
}

void hk_soft_drop_code(struct hk_cpu *cpu, hk_gpa gpa, unsigned len, uint32_t cpu_mask)
{
	queue_drops(hk_soft_vcpu_of_cpu(cpu)->soft, gpa, len, cpu_mask);
}

void hk_soft_written(struct hk_engine *engine, hk_gpa gpa, uint64_t len)
{
	struct hk_soft *soft = hk_soft_of(engine);

	/*
	 * First the bytes, then the look who has decoded them. Pairs with the decoder's fetch_or.
	 */
	atomic_thread_fence(memory_order_seq_cst);

	uint32_t cpus = hk_soft_mem_code_cpus(&soft->mem, gpa, len);

	if (cpus != 0) {
		queue_drops(soft, gpa, len, cpus);
	}
}

int hk_soft_store(struct hk_soft *soft, hk_gpa gpa, const void *bytes, uint64_t len)
{
	void *at = hk_mem_at(soft->mem.mem, gpa, len);

	if (at == NULL) {
		return -EFAULT;
	}
	memcpy(at, bytes, len);
	hk_soft_written(&soft->base, gpa, len);
	return 0;
}
