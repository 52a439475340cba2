/* SPDX-License-Identifier: ISC */
/*
 * Fuzz target: any bytes as a snapshot of a machine. The first byte chooses between the input as
 * it is, and a good snapshot with the input's bytes written over it at places that the input
 * names: three bytes each, place (two) and value.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "machine/machine.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct hk_loop *loop;

static struct hk_machine *create(void)
{
	struct hk_machine_config config = {
		.loop = loop,
		.vcpu_count = 2,
		.ram_bytes = 32 * HK_MIB,
	};
	struct hk_err err = HK_ERR_INIT;
	struct hk_machine *machine;

	if (hk_machine_create(&config, &machine, &err) < 0) {
		abort();
	}
	return machine;
}

static void save(struct hk_machine *machine, struct hk_writer *w)
{
	struct hk_err err = HK_ERR_INIT;

	*w = (struct hk_writer){0};
	if (hk_machine_save(machine, w, &err) < 0) {
		abort();
	}
}

static void restore(struct hk_machine *machine, const void *data, size_t size)
{
	struct hk_err err = HK_ERR_INIT;
	struct hk_reader r;
	struct hk_writer w;

	hk_reader_init(&r, data, size);
	if (hk_machine_restore(machine, &r, &err) < 0) {
		if (hk_err_text(&err)[0] == '\0') {
			abort(); /* a refusal must say why */
		}
		return;
	}
	/* What was accepted can be saved, and that be restored. */
	save(machine, &w);
	hk_reader_init(&r, w.data, w.len);
	if (hk_machine_restore(machine, &r, &err) < 0) {
		abort();
	}
	hk_writer_finish(&w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct hk_machine *machine;
	static struct hk_writer good;
	struct hk_err err = HK_ERR_INIT;

	if (machine == NULL) {
		if (hk_loop_create(&loop, &err) < 0) {
			abort();
		}
		machine = create();
		save(machine, &good);
	}
	if (size == 0 || data[0] % 4 == 0) {
		restore(machine, data, size);
		return 0;
	}

	uint8_t *changed = malloc(good.len);

	if (changed == NULL) {
		abort();
	}
	memcpy(changed, good.data, good.len);
	for (size_t at = 1; at + 3 <= size; at += 3) {
		changed[(data[at] | data[at + 1] << 8) % good.len] = data[at + 2];
	}
	restore(machine, changed, good.len);
	free(changed);
	return 0;
}
