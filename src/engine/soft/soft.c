/* SPDX-License-Identifier: ISC */
/*
 * The soft engine: x86-64 in software, for hosts without KVM. It runs wherever this program does.
 *
 * The CPU core (run.h) knows no threads, no clock and no interrupt controllers; this is what ties
 * it to them.
 *
 * Files: vcpu.c (the loop of a vCPU, ports and memory-mapped accesses), chip.c (interrupts),
 * timer.c, clock.c, rest.c (what CPUs ask of each other), state.c (registers in and out).
 *
 * Limits: shared-memory windows cannot be mapped; interrupts of devices are no eventfds, so the
 * device pulses them itself.
 */
#include "engine/soft/soft.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/str.h"
#include "base/util.h"
#include "engine/engines.h"

struct hk_soft *hk_soft_of(struct hk_engine *engine)
{
	assert(engine->ops == &hk_engine_soft);
	return hk_container_of(engine, struct hk_soft, base);
}

struct hk_soft_vcpu *hk_soft_vcpu_of(struct hk_vcpu *vcpu)
{
	assert(vcpu->engine->ops == &hk_engine_soft);
	return hk_container_of(vcpu, struct hk_soft_vcpu, base);
}

static void soft_probe(struct hk_engine_probe *probe)
{
	probe->usable = true;
	hk_fmt(probe->reason, sizeof(probe->reason),
		"x86-64 in software, an interpreter; runs anywhere, slower than KVM");
}

/* There is nothing to choose yet but the interpreter, which can be asked for by name. */
static int check_options(const char *options, struct hk_err *err)
{
	while (*options != '\0') {
		size_t len = strcspn(options, ",");

		if (len != strlen("jit=off") || memcmp(options, "jit=off", len) != 0) {
			hk_fail_msg(err, EINVAL, "option '%.*s': not known", (int)len, options);
			hk_err_hint(err, "the one option is 'jit=off', the interpreter");
			return -EINVAL;
		}
		options += len;
		options += *options == ',';
	}
	return 0;
}

static void soft_destroy(struct hk_engine *engine)
{
	struct hk_soft *soft = hk_soft_of(engine);

	hk_soft_timer_stop(soft);
	for (unsigned i = 0; i < soft->vcpu_count; i++) {
		hk_soft_vcpu_destroy(soft->vcpus[i]);
	}
	hk_soft_mem_finish(&soft->mem);
	pthread_cond_destroy(&soft->rest_changed);
	pthread_cond_destroy(&soft->timer_changed);
	pthread_mutex_destroy(&soft->bell_lock);
	pthread_mutex_destroy(&soft->rest_lock);
	pthread_mutex_destroy(&soft->chip_lock);
	free(soft);
}

static void init_locks(struct hk_soft *soft)
{
	pthread_condattr_t attr;

	pthread_mutex_init(&soft->chip_lock, NULL);
	pthread_mutex_init(&soft->rest_lock, NULL);
	pthread_mutex_init(&soft->bell_lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&soft->timer_changed, &attr);
	pthread_condattr_destroy(&attr);
	pthread_cond_init(&soft->rest_changed, NULL);
}

static int soft_setup(struct hk_soft *soft, struct hk_err *err)
{
	autofree struct hk_cpuid *all = hk_malloc(sizeof(*all));
	int r = all == NULL ? hk_fail(err, ENOMEM, "CPUID table")
			    : hk_soft_mem_init(&soft->mem, soft->base.config.mem, err);

	if (r < 0) {
		return r;
	}
	hk_cpuid_soft(all);
	for (unsigned i = 0; r == 0 && i < soft->base.config.vcpu_count; i++) {
		r = hk_soft_vcpu_create(soft, i, all, err);
	}
	return r;
}

static int soft_create(const char *options, const struct hk_engine_config *config,
	struct hk_engine **ret_engine, struct hk_err *err)
{
	struct hk_soft *soft;
	int r = check_options(options, err);

	if (r < 0) {
		return r;
	}
	if (hk_new(soft) == NULL) {
		return hk_fail(err, ENOMEM, "engine");
	}
	soft->base = (struct hk_engine){.ops = &hk_engine_soft, .config = *config};
	soft->exclusive = -1;
	soft->timer_until = UINT64_MAX;
	soft->tsc_is_set = true;
	init_locks(soft);
	hk_pvclock_set(&soft->clock, hk_soft_host_ns(), 0, 0, HK_PVCLOCK_DEFAULT_KHZ);
	hk_ioapic_reset(&soft->ioapic);
	r = soft_setup(soft, err);
	if (r < 0) {
		soft_destroy(&soft->base);
		return r;
	}
	*ret_engine = &soft->base;
	return 0;
}

static struct hk_vcpu *soft_vcpu(struct hk_engine *engine, unsigned index)
{
	return &hk_soft_of(engine)->vcpus[index]->base;
}

static int soft_map(
	struct hk_engine *engine, const struct hk_mem_region *region, struct hk_err *err)
{
	return hk_fail_msg(err, ENOTSUP, "this engine cannot map shared memory at 0x%llx",
		(unsigned long long)region->gpa);
}

const struct hk_engine_ops hk_engine_soft = {
	.name = "soft",
	.probe = soft_probe,
	.create = soft_create,
	.destroy = soft_destroy,
	.vcpu = soft_vcpu,
	.map = soft_map,
	.irq = hk_soft_irq,
	.doorbell = hk_soft_doorbell,
	.written = hk_soft_written,
	.run = hk_soft_run,
	.kick = hk_soft_kick,
	.get_state = hk_soft_get_state,
	.set_state = hk_soft_set_state,
	.get_irqchip = hk_soft_get_irqchip,
	.set_irqchip = hk_soft_set_irqchip,
	.get_clock = hk_soft_get_clock,
	.set_clock = hk_soft_set_clock,
};
