/* SPDX-License-Identifier: ISC */
/*
 * The bus: which device answers at which port or memory address.
 *
 * Devices embed a `struct hk_region`, are added before the vCPUs start and stay until the
 * machine is gone, so that look-ups on vCPU threads need no lock. What a region's
 * handlers touch is the device's own to lock.
 */
#ifndef HK_MACHINE_BUS_H
#define HK_MACHINE_BUS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "engine/engine.h"

enum hk_space { HK_SPACE_PORT, HK_SPACE_MMIO, HK_SPACE_COUNT };

struct hk_region;

struct hk_region_ops {
	const char *name;
	/* @offset from the region's start; the access lies wholly within the region. Little-endian
	 * value of @len (1, 2, 4, 8) bytes. Called on vCPU threads, several at once. Both required.
	 */
	uint64_t (*read)(struct hk_region *region, uint64_t offset, unsigned len);
	void (*write)(struct hk_region *region, uint64_t offset, unsigned len, uint64_t value);
};

struct hk_region {
	const struct hk_region_ops *ops;
	enum hk_space space;
	uint64_t base;
	uint64_t size;
};

enum { HK_BUS_MAX_REGIONS = 64 };

struct hk_bus {
	struct hk_engine_client client; /* given to the engine */
	struct hk_region
		*regions[HK_SPACE_COUNT][HK_BUS_MAX_REGIONS]; /* sorted by base, borrowed */
	unsigned counts[HK_SPACE_COUNT];
	uint64_t stray; /* accesses that hit nothing; statistics */
};

void hk_bus_init(struct hk_bus *bus);

/** hk_bus_add() - @region is borrowed. Return: 0; -EEXIST where it overlaps; -ENOSPC. */
int hk_bus_add(struct hk_bus *bus, struct hk_region *region, struct hk_err *err);

/* What the engine's client does, for tests and for engines without accelerated doorbells. */
void hk_bus_access(struct hk_bus *bus, enum hk_space space, uint64_t addr, void *data, unsigned len,
	bool write);

#endif
