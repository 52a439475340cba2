/* SPDX-License-Identifier: ISC */
/* Private to machine/: the machine's insides, and its vCPU threads. */
#ifndef HK_MACHINE_MACHINE_IMPL_H
#define HK_MACHINE_MACHINE_IMPL_H

#include <pthread.h>

#include "machine/crash.h"
#include "machine/machine.h"
#include "machine/power.h"
#include "machine/serial.h"

/**
 * struct hk_run_control - the vCPU threads and how they are paused and ended
 * @lock: guards what stands below it
 * @changed: signalled when any of it changes
 */
struct hk_run_control {
	struct hk_machine *machine;
	pthread_t threads[HK_MAX_VCPUS];
	unsigned thread_count; /* to be joined; the loop's thread only */
	struct hk_post ended;  /* posted by the last thread to end */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool pause;          /* asked for */
	bool end;            /* asked for */
	unsigned live;       /* threads that have not ended */
	unsigned parked;     /* of these, waiting for `pause` to go */
	unsigned next_index; /* of the thread that starts next */
	enum hk_stop why;
	struct hk_err error;   /* with HK_STOP_ENGINE */
	struct hk_crash crash; /* with HK_STOP_CRASH */
};

struct hk_machine {
	struct hk_machine_config config;
	struct hk_mem mem;
	struct hk_bus bus;
	struct hk_engine *engine; /* owned */
	struct hk_mem_watcher watcher;
	struct hk_slot slots[HK_MAX_SLOTS];
	unsigned slot_count;
	struct hk_serial serial;
	struct hk_serial_owner serial_owner;
	struct hk_power power;
	struct hk_power_owner power_owner;
	struct hk_run_control run;
};

/** hk_machine_end() - ask all vCPU threads to end; the first reason given stays. Any thread. */
void hk_machine_end(struct hk_machine *machine, enum hk_stop why);

void hk_run_init(struct hk_run_control *run, struct hk_machine *machine);
void hk_run_finish(struct hk_run_control *run); /* asked to end before; joins. Loop's thread. */

#endif
