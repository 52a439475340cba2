/* SPDX-License-Identifier: ISC */
/*
 * See null_engine.h. hk_vcpu_run() waits for a kick or for null_engine_end(); one lock serves the
 * whole engine.
 */
#include "null_engine.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/util.h"
#include "engine/engines.h"
#include "engine/msr.h"

struct null_vcpu {
	struct hk_vcpu base;
	/* under the engine's lock */
	bool kicked;
	enum hk_run end; /* HK_RUN_COUNT: none asked for */
	struct hk_vcpu_state state;
};

struct null_engine {
	struct hk_engine base;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	/* under lock */
	bool level[HK_GSI_COUNT];
	unsigned pulses[HK_GSI_COUNT];
	struct hk_irqchip_state irqchip;
	struct hk_clock_state clock;
	struct null_vcpu vcpus[HK_MAX_VCPUS];
};

const struct hk_engine_ops *const hk_engines[] = {&hk_engine_null, NULL};

static struct null_engine *null_of(struct hk_engine *engine)
{
	assert(engine->ops == &hk_engine_null);
	return hk_container_of(engine, struct null_engine, base);
}

static struct null_vcpu *null_vcpu_of(struct hk_vcpu *vcpu)
{
	return hk_container_of(vcpu, struct null_vcpu, base);
}

static void null_probe(struct hk_engine_probe *probe)
{
	probe->usable = true;
	memcpy(probe->reason, "runs nothing", sizeof("runs nothing"));
}

static int null_create(const char *options, const struct hk_engine_config *config,
	struct hk_engine **ret_engine, struct hk_err *err)
{
	struct null_engine *null;
	unsigned msr_count;
	const uint32_t *msrs = hk_state_msrs(&msr_count);

	if (options[0] != '\0') {
		return hk_fail_msg(err, EINVAL, "option '%s': not known", options);
	}
	if (hk_new(null) == NULL) {
		return hk_fail(err, ENOMEM, "engine");
	}
	null->base = (struct hk_engine){.ops = &hk_engine_null, .config = *config};
	pthread_mutex_init(&null->lock, NULL);
	pthread_cond_init(&null->changed, NULL);
	for (unsigned i = 0; i < config->vcpu_count; i++) {
		struct null_vcpu *vcpu = &null->vcpus[i];

		vcpu->base = (struct hk_vcpu){.engine = &null->base, .index = i};
		vcpu->end = HK_RUN_COUNT;
		vcpu->state.mp_state = i == 0 ? HK_MP_RUNNING : HK_MP_WAIT_SIPI;
		vcpu->state.msr_count = msr_count;
		for (unsigned j = 0; j < msr_count; j++) {
			vcpu->state.msrs[j].index = msrs[j];
		}
	}
	*ret_engine = &null->base;
	return 0;
}

static void null_destroy(struct hk_engine *engine)
{
	struct null_engine *null = null_of(engine);

	pthread_mutex_destroy(&null->lock);
	pthread_cond_destroy(&null->changed);
	free(null);
}

static struct hk_vcpu *null_vcpu(struct hk_engine *engine, unsigned index)
{
	return &null_of(engine)->vcpus[index].base;
}

static int null_map(
	struct hk_engine *engine, const struct hk_mem_region *region, struct hk_err *err)
{
	return 0;
}

static int null_irq(struct hk_engine *engine, unsigned gsi, bool level)
{
	struct null_engine *null = null_of(engine);

	pthread_mutex_lock(&null->lock);
	null->pulses[gsi] += level && !null->level[gsi];
	null->level[gsi] = level;
	pthread_mutex_unlock(&null->lock);
	return 0;
}

static enum hk_run null_run(struct hk_vcpu *base, struct hk_err *err)
{
	struct null_engine *null = null_of(base->engine);
	struct null_vcpu *vcpu = null_vcpu_of(base);
	enum hk_run why = HK_RUN_KICKED;

	pthread_mutex_lock(&null->lock);
	while (!vcpu->kicked && vcpu->end == HK_RUN_COUNT) {
		pthread_cond_wait(&null->changed, &null->lock);
	}
	if (vcpu->kicked) {
		vcpu->kicked = false;
	} else {
		why = vcpu->end;
		vcpu->end = HK_RUN_COUNT;
	}
	pthread_mutex_unlock(&null->lock);
	if (why == HK_RUN_FAILED) {
		hk_fail_msg(err, EIO, "vCPU %u: as asked", base->index);
	}
	return why;
}

static void null_kick(struct hk_vcpu *base)
{
	struct null_engine *null = null_of(base->engine);

	pthread_mutex_lock(&null->lock);
	null_vcpu_of(base)->kicked = true;
	pthread_cond_broadcast(&null->changed);
	pthread_mutex_unlock(&null->lock);
}

static int null_get_state(struct hk_vcpu *base, struct hk_vcpu_state *state, struct hk_err *err)
{
	struct null_engine *null = null_of(base->engine);

	pthread_mutex_lock(&null->lock);
	*state = null_vcpu_of(base)->state;
	pthread_mutex_unlock(&null->lock);
	return 0;
}

static int null_set_state(
	struct hk_vcpu *base, const struct hk_vcpu_state *state, struct hk_err *err)
{
	struct null_engine *null = null_of(base->engine);

	pthread_mutex_lock(&null->lock);
	null_vcpu_of(base)->state = *state;
	pthread_mutex_unlock(&null->lock);
	return 0;
}

static int null_get_irqchip(
	struct hk_engine *engine, struct hk_irqchip_state *state, struct hk_err *err)
{
	*state = null_of(engine)->irqchip;
	return 0;
}

static int null_set_irqchip(
	struct hk_engine *engine, const struct hk_irqchip_state *state, struct hk_err *err)
{
	null_of(engine)->irqchip = *state;
	return 0;
}

static int null_get_clock(
	struct hk_engine *engine, struct hk_clock_state *state, struct hk_err *err)
{
	*state = null_of(engine)->clock;
	return 0;
}

static int null_set_clock(
	struct hk_engine *engine, const struct hk_clock_state *state, struct hk_err *err)
{
	null_of(engine)->clock = *state;
	return 0;
}

void null_engine_end(struct hk_engine *engine, unsigned index, enum hk_run why)
{
	struct null_engine *null = null_of(engine);

	pthread_mutex_lock(&null->lock);
	null->vcpus[index].end = why;
	pthread_cond_broadcast(&null->changed);
	pthread_mutex_unlock(&null->lock);
}

void null_engine_port(struct hk_engine *engine, uint16_t port, void *data, unsigned len, bool write)
{
	engine->config.client->ops->port(engine->config.client, port, data, len, write);
}

unsigned null_engine_pulses(struct hk_engine *engine, unsigned gsi)
{
	struct null_engine *null = null_of(engine);

	pthread_mutex_lock(&null->lock);

	unsigned pulses = null->pulses[gsi];

	pthread_mutex_unlock(&null->lock);
	return pulses;
}

const struct hk_engine_ops hk_engine_null = {
	.name = "null",
	.probe = null_probe,
	.create = null_create,
	.destroy = null_destroy,
	.vcpu = null_vcpu,
	.map = null_map,
	.irq = null_irq,
	.run = null_run,
	.kick = null_kick,
	.get_state = null_get_state,
	.set_state = null_set_state,
	.get_irqchip = null_get_irqchip,
	.set_irqchip = null_set_irqchip,
	.get_clock = null_get_clock,
	.set_clock = null_set_clock,
};
