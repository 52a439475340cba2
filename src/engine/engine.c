/* SPDX-License-Identifier: ISC */
/*
 * Choice of an engine, and the public wrappers around its operations. The array below
 * is the one place that names the engines, in order of preference.
 */
#include "engine/engine.h"

#include <assert.h>
#include <string.h>

#include "base/str.h"
#include "base/util.h"
#include "engine/engine_impl.h"
#include "engine/engines.h"

unsigned hk_engine_probe_all(struct hk_engine_probe *probes, unsigned capacity)
{
	unsigned count = 0;

	for (; count < capacity && hk_engines[count] != NULL; count++) {
		probes[count] = (struct hk_engine_probe){.name = hk_engines[count]->name};
		hk_engines[count]->probe(&probes[count]);
	}
	return count;
}

static const struct hk_engine_ops *find_named(const char *name, size_t len)
{
	for (unsigned i = 0; hk_engines[i] != NULL; i++) {
		if (strlen(hk_engines[i]->name) == len &&
			memcmp(hk_engines[i]->name, name, len) == 0) {
			return hk_engines[i];
		}
	}
	return NULL;
}

static int fail_unknown(const char *name, struct hk_err *err)
{
	char known[128] = "";
	size_t used = 0;

	for (unsigned i = 0; hk_engines[i] != NULL; i++) {
		int n = hk_fmt(known + used, sizeof(known) - used, "%s'%s'", i > 0 ? ", " : "",
			hk_engines[i]->name);

		used += n > 0 ? (size_t)n : 0;
	}
	hk_fail_msg(err, EINVAL, "engine '%s': not known", name);
	hk_err_hint(err, "this hako has %s, to be named by --engine or HAKO_ENGINE", known);
	return -EINVAL;
}

int hk_engine_check_name(const char *name, struct hk_err *err)
{
	return find_named(name, strcspn(name, ",")) == NULL ? fail_unknown(name, err) : 0;
}

/* No engine works here: the reason of the first (the fastest) is the one to tell. */
static int fail_none_usable(const struct hk_engine_probe *first, struct hk_err *err)
{
	hk_fail_msg(err, ENODEV, "engine '%s': %s", first->name, first->reason);
	hk_err_hint(err, "%s", first->hint[0] != '\0' ? first->hint : "see hako doctor");
	return -ENODEV;
}

static int pick(const char **name, const struct hk_engine_ops **ret_ops, struct hk_err *err)
{
	if (*name != NULL) {
		*ret_ops = find_named(*name, strcspn(*name, ","));
		return *ret_ops == NULL ? fail_unknown(*name, err) : 0;
	}

	struct hk_engine_probe first = {0};

	for (unsigned i = 0; hk_engines[i] != NULL; i++) {
		struct hk_engine_probe probe = {.name = hk_engines[i]->name};

		hk_engines[i]->probe(&probe);
		if (probe.usable) {
			*name = hk_engines[i]->name;
			*ret_ops = hk_engines[i];
			return 0;
		}
		if (i == 0) {
			first = probe;
		}
	}
	return fail_none_usable(&first, err);
}

int hk_engine_create(const char *name, const struct hk_engine_config *config,
	struct hk_engine **ret_engine, struct hk_err *err)
{
	const struct hk_engine_ops *ops = NULL;
	int r = pick(&name, &ops, err);

	if (r < 0) {
		return r;
	}
	assert(config->vcpu_count >= 1 && config->vcpu_count <= HK_MAX_VCPUS);

	const char *comma = strchr(name, ',');

	r = ops->create(comma == NULL ? "" : comma + 1, config, ret_engine, err);
	if (r < 0) {
		hk_err_ctx(err, "engine '%s'", ops->name);
		return r;
	}
	return 0;
}

void hk_engine_destroy(struct hk_engine *engine)
{
	if (engine != NULL) {
		engine->ops->destroy(engine);
	}
}

const char *hk_engine_name(const struct hk_engine *engine)
{
	return engine->ops->name;
}

struct hk_vcpu *hk_engine_vcpu(struct hk_engine *engine, unsigned index)
{
	assert(index < engine->config.vcpu_count);
	return engine->ops->vcpu(engine, index);
}

unsigned hk_vcpu_index(const struct hk_vcpu *vcpu)
{
	return vcpu->index;
}

int hk_engine_map(struct hk_engine *engine, const struct hk_mem_region *region, struct hk_err *err)
{
	return engine->ops->map(engine, region, err);
}

int hk_engine_irq(struct hk_engine *engine, unsigned gsi, bool level)
{
	assert(gsi < HK_GSI_COUNT);
	return engine->ops->irq(engine, gsi, level);
}

int hk_engine_irqfd(struct hk_engine *engine, unsigned gsi, int event_fd, bool add)
{
	assert(gsi < HK_GSI_COUNT);
	return engine->ops->irqfd == NULL ? -ENOTSUP
					  : engine->ops->irqfd(engine, gsi, event_fd, add);
}

int hk_engine_doorbell(struct hk_engine *engine, hk_gpa gpa, uint32_t value, int event_fd, bool add)
{
	return engine->ops->doorbell == NULL
		? -ENOTSUP
		: engine->ops->doorbell(engine, gpa, value, event_fd, add);
}

void hk_engine_written(struct hk_engine *engine, hk_gpa gpa, uint64_t len)
{
	if (engine->ops->written != NULL) {
		engine->ops->written(engine, gpa, len);
	}
}

bool hk_engine_watches_memory(const struct hk_engine *engine)
{
	return engine->ops->written != NULL;
}

enum hk_run hk_vcpu_run(struct hk_vcpu *vcpu, struct hk_err *err)
{
	return vcpu->engine->ops->run(vcpu, err);
}

void hk_vcpu_kick(struct hk_vcpu *vcpu)
{
	vcpu->engine->ops->kick(vcpu);
}

int hk_vcpu_get_state(struct hk_vcpu *vcpu, struct hk_vcpu_state *state, struct hk_err *err)
{
	return vcpu->engine->ops->get_state(vcpu, state, err);
}

int hk_vcpu_set_state(struct hk_vcpu *vcpu, const struct hk_vcpu_state *state, struct hk_err *err)
{
	return vcpu->engine->ops->set_state(vcpu, state, err);
}

int hk_engine_get_irqchip(
	struct hk_engine *engine, struct hk_irqchip_state *state, struct hk_err *err)
{
	return engine->ops->get_irqchip(engine, state, err);
}

int hk_engine_set_irqchip(
	struct hk_engine *engine, const struct hk_irqchip_state *state, struct hk_err *err)
{
	return engine->ops->set_irqchip(engine, state, err);
}

int hk_engine_get_clock(struct hk_engine *engine, struct hk_clock_state *state, struct hk_err *err)
{
	return engine->ops->get_clock(engine, state, err);
}

int hk_engine_set_clock(
	struct hk_engine *engine, const struct hk_clock_state *state, struct hk_err *err)
{
	return engine->ops->set_clock(engine, state, err);
}
