/* SPDX-License-Identifier: ISC */
/* Power-off and reset registers: see power.h. */
#include "machine/power.h"

#include "base/util.h"

/* SLEEP_CONTROL_REG: SLP_EN in bit 5, SLP_TYP in bits 2-4. */
enum { SLP_EN = 1 << 5, SLP_TYP_SHIFT = 2, SLP_TYP_MASK = 7 };

static uint64_t power_read(struct hk_region *region, uint64_t offset, unsigned len)
{
	return 0; /* WAK_STS clear: it never slept */
}

static void power_write(struct hk_region *region, uint64_t offset, unsigned len, uint64_t value)
{
	struct hk_power *power = hk_container_of(region, struct hk_power, region);

	if (offset == HK_POWER_SLEEP_CONTROL && (value & SLP_EN) != 0 &&
		(value >> SLP_TYP_SHIFT & SLP_TYP_MASK) == HK_POWER_S5_TYPE) {
		power->owner->power_off(power->owner);
	} else if (offset == HK_POWER_RESET && (uint8_t)value == HK_POWER_RESET_VALUE) {
		power->owner->reset(power->owner);
	}
}

static const struct hk_region_ops region_ops = {
	.name = "power",
	.read = power_read,
	.write = power_write,
};

void hk_power_init(struct hk_power *power, struct hk_power_owner *owner)
{
	*power = (struct hk_power){
		.region =
			{
				.ops = &region_ops,
				.space = HK_SPACE_PORT,
				.base = HK_POWER_PORT,
				.size = HK_POWER_SIZE,
			},
		.owner = owner,
	};
}
