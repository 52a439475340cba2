/* SPDX-License-Identifier: ISC */
/*
 * The headless engine: it runs no code and needs no host support, but keeps all state, can be
 * kicked, and says what was asked of it. For tests of the machine, and of whatever stands on it.
 *
 * A program that links null_engine.c has it as its only engine ("null"): it defines hk_engines.
 */
#ifndef HK_TESTS_NULL_ENGINE_H
#define HK_TESTS_NULL_ENGINE_H

#include "engine/engine_impl.h"

extern const struct hk_engine_ops hk_engine_null;

/** null_engine_end() - let vCPU @index return @why from its current (or next) run. Any thread. */
void null_engine_end(struct hk_engine *engine, unsigned index, enum hk_run why);

/** null_engine_port() - what the guest's port access would do. Any thread. */
void null_engine_port(
	struct hk_engine *engine, uint16_t port, void *data, unsigned len, bool write);

/** null_engine_pulses() - how often @gsi went up */
unsigned null_engine_pulses(struct hk_engine *engine, unsigned gsi);

#endif
