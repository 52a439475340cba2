/* SPDX-License-Identifier: ISC */
/*
 * Power-off and reset: two byte-wide registers that the FADT names. They keep no state.
 * Source: ACPI 6.4, sections 4.8.3.7 (sleep control and status), 4.8.3.6 (reset register).
 */
#ifndef HK_MACHINE_POWER_H
#define HK_MACHINE_POWER_H

#include "machine/bus.h"

enum {
	HK_POWER_PORT = 0x600,
	HK_POWER_SLEEP_CONTROL = 0,
	HK_POWER_SLEEP_STATUS = 1,
	HK_POWER_RESET = 2,
	HK_POWER_SIZE = 4,
	HK_POWER_RESET_VALUE = 1,
	HK_POWER_S5_TYPE = 5, /* SLP_TYP of the soft-off state, as the DSDT's _S5 says */
};

struct hk_power_owner {
	/* The guest switches itself off, or asks for a reset. vCPU thread. Both required. */
	void (*power_off)(struct hk_power_owner *owner);
	void (*reset)(struct hk_power_owner *owner);
};

struct hk_power {
	struct hk_region region;
	struct hk_power_owner *owner; /* borrowed */
};

void hk_power_init(struct hk_power *power, struct hk_power_owner *owner);

#endif
