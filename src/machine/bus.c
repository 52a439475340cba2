/* SPDX-License-Identifier: ISC */
/*
 * The bus: sorted tables of regions, one for ports and one for memory, searched by
 * bisection. Constant once the vCPUs run, so there is no lock. See bus.h.
 */
#include "machine/bus.h"

#include <assert.h>
#include <string.h>

#include "base/bytes.h"
#include "base/util.h"

/* The last region that starts at or below @addr, or NULL. */
static struct hk_region *find(const struct hk_bus *bus, enum hk_space space, uint64_t addr)
{
	struct hk_region *const *regions = bus->regions[space];
	unsigned low = 0;
	unsigned high = bus->counts[space];

	while (low < high) {
		unsigned middle = (low + high) / 2;

		if (regions[middle]->base <= addr) {
			low = middle + 1;
		} else {
			high = middle;
		}
	}
	return low == 0 ? NULL : regions[low - 1];
}

void hk_bus_access(struct hk_bus *bus, enum hk_space space, uint64_t addr, void *data, unsigned len,
	bool write)
{
	struct hk_region *region = find(bus, space, addr);
	uint8_t bytes[8] = {0};

	assert(len >= 1 && len <= sizeof(bytes));
	/* An access across two pages arrives in two parts, of any length: no register is that. */
	if (region == NULL || (len & (len - 1)) != 0 ||
		!hk_range_within(addr - region->base, len, region->size)) {
		__atomic_fetch_add(&bus->stray, 1, __ATOMIC_RELAXED);
		if (!write) {
			memset(data, 0xff, len);
		}
		return;
	}
	if (write) {
		memcpy(bytes, data, len);
		region->ops->write(region, addr - region->base, len, hk_load_le64(bytes));
		return;
	}
	hk_store_le64(bytes, region->ops->read(region, addr - region->base, len));
	memcpy(data, bytes, len);
}

static struct hk_bus *bus_of(struct hk_engine_client *client)
{
	return hk_container_of(client, struct hk_bus, client);
}

static void client_port(
	struct hk_engine_client *client, uint16_t port, void *data, unsigned len, bool write)
{
	hk_bus_access(bus_of(client), HK_SPACE_PORT, port, data, len, write);
}

static void client_mmio(
	struct hk_engine_client *client, hk_gpa gpa, void *data, unsigned len, bool write)
{
	hk_bus_access(bus_of(client), HK_SPACE_MMIO, gpa, data, len, write);
}

static const struct hk_engine_client_ops client_ops = {
	.name = "bus",
	.port = client_port,
	.mmio = client_mmio,
};

void hk_bus_init(struct hk_bus *bus)
{
	*bus = (struct hk_bus){.client.ops = &client_ops};
}

int hk_bus_add(struct hk_bus *bus, struct hk_region *region, struct hk_err *err)
{
	struct hk_region **regions = bus->regions[region->space];
	unsigned count = bus->counts[region->space];
	unsigned at = 0;

	assert(region->size > 0);
	if (count == HK_BUS_MAX_REGIONS) {
		return hk_fail_msg(err, ENOSPC, "%s: the bus has no room for another device",
			region->ops->name);
	}
	while (at < count && regions[at]->base < region->base) {
		at++;
	}
	if ((at > 0 && regions[at - 1]->base + regions[at - 1]->size > region->base) ||
		(at < count && region->base + region->size > regions[at]->base)) {
		return hk_fail_msg(err, EEXIST, "%s: 0x%llx is taken", region->ops->name,
			(unsigned long long)region->base);
	}
	memmove(&regions[at + 1], &regions[at], (count - at) * sizeof(regions[0]));
	regions[at] = region;
	bus->counts[region->space]++;
	return 0;
}
