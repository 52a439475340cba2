/* SPDX-License-Identifier: ISC */
/* A box's insides, shared by box.c (life) and run.c (what happens on the loop). Not for others. */
#ifndef HK_BOX_BOX_IMPL_H
#define HK_BOX_BOX_IMPL_H

#include "base/loop.h"
#include "box/box.h"
#include "box/channel_linux.h"
#include "box/confine.h"
#include "box/denials.h"
#include "box/devices.h"
#include "box/layout.h"
#include "box/policy.h"
#include "box/stdio_linux.h"
#include "box/tail.h"
#include "kernel/kernel.h"
#include "machine/machine.h"

/** enum hk_box_phase - in order */
enum hk_box_phase {
	HK_PHASE_MADE,
	HK_PHASE_BOOTING,       /* until the command runs */
	HK_PHASE_RUNNING,       /* until it has ended */
	HK_PHASE_DRAINING,      /* until its output has reached the user */
	HK_PHASE_SHUTTING_DOWN, /* until the guest has switched itself off */
	HK_PHASE_STOPPING,      /* until the vCPUs have stopped */
	HK_PHASE_STOPPED,       /* until what is left of the output has reached the user */
	HK_PHASE_ENDED,
};

enum { HK_BOX_SIGNALS_TO_STOP = 3 };

struct hk_box {
	struct hk_box_config config;
	struct hk_layout layout;
	struct hk_box_policy policy;
	struct hk_denials denials;
	struct hk_tail tail;
	struct hk_event console_event; /* whole lines for --verbose */
	struct hk_kernel kernel;
	struct hk_machine_owner machine_owner;
	struct hk_machine *machine; /* owned */
	struct hk_devices devices;
	struct hk_vsock_listener control_listener;
	struct hk_vsock_listener stream_listener;
	struct hk_channel_owner channel_owner;
	struct hk_channel channel;
	struct hk_stdio_owner stdio_owner;
	struct hk_stdio *stdio;                 /* owned */
	char confinement[HK_CONFINE_TEXT_SIZE]; /* what is active */

	enum hk_box_phase phase;
	struct hk_box_result result;
	uint64_t start_ns;
	struct hk_timer phase_timer;   /* the phase takes too long */
	struct hk_timer timeout_timer; /* config.timeout_ns, then the grace */
	struct hk_timer pulse_timer;   /* is the agent alive? */
	unsigned pulses_missed;
	uint64_t signals_ns[HK_BOX_SIGNALS_TO_STOP - 1]; /* when the last ones came, newest first */
	bool hurry;        /* the user does not want to wait for the rest of the output */
	uint64_t leave_ns; /* what each step of the way out may take */
	uint16_t rows, cols;
};

/* run.c: sets up the callbacks of an allocated box. */
void hk_box_init_handlers(struct hk_box *box);
void hk_box_run_started(struct hk_box *box);
void hk_box_disarm(struct hk_box *box);

#endif
