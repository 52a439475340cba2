/* SPDX-License-Identifier: ISC */
/*
 * A 16550A serial port at 0x3f8, GSI 4: the console a kernel has before any driver. Output
 * only goes somewhere; there is no input (terminals go over vsock).
 * Source: TL16C550C data sheet (Texas Instruments, SLLS177), register descriptions.
 */
#ifndef HK_MACHINE_SERIAL_H
#define HK_MACHINE_SERIAL_H

#include <pthread.h>
#include <stdint.h>

#include "base/state.h"
#include "machine/bus.h"

enum { HK_SERIAL_PORT = 0x3f8, HK_SERIAL_GSI = 4 };

struct hk_serial;

struct hk_serial_owner {
	/* One byte the guest sent. vCPU thread, serial's lock held. Required. */
	void (*output)(struct hk_serial_owner *owner, uint8_t byte);
	/* The interrupt line changes to @level. As above. Required. */
	void (*interrupt)(struct hk_serial_owner *owner, bool level);
};

/** struct hk_serial - registers by their data-sheet names; embedded in the machine */
struct hk_serial {
	struct hk_region region;
	struct hk_serial_owner *owner; /* borrowed */
	pthread_mutex_t lock;
	uint8_t ier, lcr, mcr, scr, fcr; /* under lock, like the rest */
	uint16_t divisor;
	bool thr_empty_pending; /* the "transmitter empty" interrupt, until IIR is read */
	bool line;              /* level of the interrupt */
};

void hk_serial_init(struct hk_serial *serial, struct hk_serial_owner *owner);
void hk_serial_finish(struct hk_serial *serial);
void hk_serial_save(struct hk_serial *serial, struct hk_writer *w);
void hk_serial_restore(struct hk_serial *serial, struct hk_reader *r);

#endif
