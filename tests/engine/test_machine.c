/* SPDX-License-Identifier: ISC */
/*
 * The machine on an engine that runs nothing: threads, pausing, ends, and snapshots. Needs no KVM,
 * and is quick enough for ThreadSanitizer.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fault.h"
#include "base/util.h"
#include "machine/machine.h"
#include "null_engine.h"

enum {
	POWER_PORT = 0x600,
	RESET_PORT = 0x602,
	SERIAL_PORT = 0x3f8,
	SERIAL_GSI = 4,
	GENERATION_GSI = 5
};

struct fixture {
	struct hk_machine_owner owner;
	struct hk_loop *loop;
	struct hk_machine *machine;
	char output[16];
	unsigned output_len;
	unsigned stops;
	enum hk_stop why;
};

static struct fixture f;

static void on_stopped(struct hk_machine_owner *owner, enum hk_stop why)
{
	f.stops++;
	f.why = why;
}

static void on_serial(struct hk_machine_owner *owner, const uint8_t *bytes, unsigned len)
{
	assert_true(f.output_len + len <= sizeof(f.output));
	memcpy(f.output + f.output_len, bytes, len);
	f.output_len += len;
}

static int try_create(unsigned vcpus, struct hk_err *err)
{
	f = (struct fixture){.owner = {.stopped = on_stopped, .serial = on_serial}};

	int r = hk_loop_create(&f.loop, err);
	struct hk_machine_config config = {
		.loop = f.loop,
		.vcpu_count = vcpus,
		.ram_bytes = 32 * HK_MIB,
		.owner = &f.owner,
	};

	return r < 0 ? r : hk_machine_create(&config, &f.machine, err);
}

static void create(unsigned vcpus)
{
	struct hk_err err = HK_ERR_INIT;

	assert_int_equal(try_create(vcpus, &err), 0);
}

static void destroy(void)
{
	hk_machine_destroy(f.machine);
	hk_loop_destroy(f.loop);
	f.machine = NULL;
	f.loop = NULL;
}

static void start(void)
{
	struct hk_err err = HK_ERR_INIT;

	assert_int_equal(hk_machine_start(f.machine, &err), 0);
}

static void wait_for_stop(enum hk_stop why)
{
	for (unsigned i = 0; i < 100 && f.stops == 0; i++) {
		hk_loop_run_once(f.loop, 100);
	}
	assert_int_equal(f.stops, 1);
	assert_int_equal(f.why, why);
}

static struct hk_engine *engine(void)
{
	return hk_machine_engine(f.machine);
}

static void out(uint16_t port, uint8_t value)
{
	null_engine_port(engine(), port, &value, 1, true);
}

static void test_ends(void **arg)
{
	static const struct {
		uint16_t port; /* or an end of vCPU 1 */
		uint8_t value;
		enum hk_run run;
		enum hk_stop why;
	} table[] = {
		{POWER_PORT, 1 << 5 | 5 << 2, 0, HK_STOP_POWER_OFF},
		{RESET_PORT, 1, 0, HK_STOP_RESET},
		{0, 0, HK_RUN_SHUTDOWN, HK_STOP_CRASH},
		{0, 0, HK_RUN_FAILED, HK_STOP_ENGINE},
	};

	for (unsigned i = 0; i < HK_ARRAY_SIZE(table); i++) {
		create(2);
		start();
		if (table[i].port != 0) {
			out(table[i].port, table[i].value);
		} else {
			null_engine_end(engine(), 1, table[i].run);
		}
		wait_for_stop(table[i].why);
		assert_string_equal(hk_machine_stop_error(f.machine),
			table[i].why == HK_STOP_ENGINE ? "vCPU 1: as asked" : "");
		hk_machine_stop(f.machine); /* too late to matter */
		hk_loop_run_once(f.loop, 0);
		assert_int_equal(f.stops, 1);
		destroy();
	}
}

/* Several reasons at once: one is told, once. */
static void test_first_end_counts(void **arg)
{
	create(4);
	start();
	out(RESET_PORT, 1);
	out(POWER_PORT, 1 << 5 | 5 << 2);
	hk_machine_stop(f.machine);
	null_engine_end(engine(), 2, HK_RUN_FAILED);
	wait_for_stop(HK_STOP_RESET);
	destroy();
}

static void test_pause_200_times(void **arg)
{
	struct hk_err err = HK_ERR_INIT;

	create(8);
	start();
	for (unsigned i = 0; i < 200; i++) {
		assert_int_equal(hk_machine_pause(f.machine, &err), 0);
		assert_int_equal(hk_machine_resume(f.machine, &err), 0);
	}
	hk_machine_stop(f.machine);
	wait_for_stop(HK_STOP_ASKED);
	assert_int_equal(hk_machine_pause(f.machine, &err), -ESRCH);
	destroy();
}

static void test_stop_at_any_moment(void **arg)
{
	for (unsigned i = 0; i < 200; i++) {
		create(4);
		start();
		if (i % 4 > 0) {
			usleep(i % 4 * 50);
		}
		if (i % 3 == 0) {
			destroy(); /* at work */
			continue;
		}
		hk_machine_stop(f.machine);
		wait_for_stop(HK_STOP_ASKED);
		destroy();
	}
}

static void test_halt_tells_nobody(void **arg)
{
	create(4);
	start();
	hk_machine_halt(f.machine);
	hk_loop_run_once(f.loop, 0);
	assert_int_equal(f.stops, 0);
	hk_machine_halt(f.machine);
	destroy();
}

static void test_serial_and_generation(void **arg)
{
	static const uint8_t id[16] = {1, 2, 3};
	uint8_t written[16];

	create(1);
	out(SERIAL_PORT, 'h');
	out(SERIAL_PORT, 'i');
	assert_int_equal(f.output_len, 2);
	assert_memory_equal(f.output, "hi", 2);
	out(SERIAL_PORT + 4, 8); /* MCR: OUT2 */
	out(SERIAL_PORT + 1, 2); /* IER: transmitter empty */
	assert_int_equal(null_engine_pulses(engine(), SERIAL_GSI), 1);

	hk_machine_new_generation(f.machine, id);
	assert_int_equal(null_engine_pulses(engine(), GENERATION_GSI), 1);
	assert_int_equal(hk_mem_read(hk_machine_mem(f.machine), 0xff000, written, 16), 0);
	assert_memory_equal(written, id, 16);
	destroy();
}

static void save(struct hk_writer *w)
{
	struct hk_err err = HK_ERR_INIT;

	*w = (struct hk_writer){0};
	assert_int_equal(hk_machine_save(f.machine, w, &err), 0);
}

/* Fills vCPU @index with values of its own. */
static void scramble(unsigned index)
{
	static struct hk_vcpu_state state;
	struct hk_vcpu *vcpu = hk_engine_vcpu(engine(), index);
	struct hk_err err = HK_ERR_INIT;

	assert_int_equal(hk_vcpu_get_state(vcpu, &state, &err), 0);
	for (unsigned i = 0; i < HK_GPR_COUNT; i++) {
		state.gpr[i] = (uint64_t)index << 32 | i;
	}
	state.rip = UINT64_C(0xffffffff81000000) + index;
	memset(state.xsave, (int)index + 1, sizeof(state.xsave));
	memset(state.lapic, (int)index + 2, sizeof(state.lapic));
	for (unsigned i = 0; i < state.msr_count; i++) {
		state.msrs[i].value = (uint64_t)i << 8 | index;
	}
	assert_int_equal(hk_vcpu_set_state(vcpu, &state, &err), 0);
}

/* Saved, restored into another machine and saved again: the same bytes. */
static void test_save_restore_save(void **arg)
{
	struct hk_irqchip_state chip = {.id = 1, .ioregsel = 2, .irr = 3, .redirection = {[7] = 8}};
	struct hk_clock_state clock = {.guest_ns = 12345, .tsc_khz = 2000000};
	struct hk_err err = HK_ERR_INIT;
	struct hk_writer first, second;
	struct hk_reader r;

	create(3);
	for (unsigned i = 0; i < 3; i++) {
		scramble(i);
	}
	assert_int_equal(hk_engine_set_irqchip(engine(), &chip, &err), 0);
	assert_int_equal(hk_engine_set_clock(engine(), &clock, &err), 0);
	out(SERIAL_PORT + 7, 0x5a); /* the scratch register */
	save(&first);
	destroy();

	create(3);
	save(&second);
	assert_true(first.len == second.len && memcmp(first.data, second.data, first.len) != 0);
	hk_writer_finish(&second);
	hk_reader_init(&r, first.data, first.len);
	assert_int_equal(hk_machine_restore(f.machine, &r, &err), 0);
	save(&second);
	assert_int_equal(first.len, second.len);
	assert_memory_equal(first.data, second.data, first.len);
	destroy();
	hk_writer_finish(&first);
	hk_writer_finish(&second);
}

static void test_cut_snapshot_is_refused(void **arg)
{
	struct hk_writer w;
	struct hk_reader r;

	create(1);
	save(&w);
	for (size_t len = 0; len < w.len; len += len < 200 || len + 200 > w.len ? 1 : 97) {
		struct hk_err err = HK_ERR_INIT;

		hk_reader_init(&r, w.data, len);
		assert_true(hk_machine_restore(f.machine, &r, &err) < 0);
		assert_true(hk_err_text(&err)[0] != '\0');
	}
	destroy();
	hk_writer_finish(&w);
}

static void test_snapshot_of_another_machine(void **arg)
{
	struct hk_err err = HK_ERR_INIT;
	struct hk_slot slot;
	struct hk_writer w;
	struct hk_reader r;

	create(2);
	assert_int_equal(hk_machine_slot(f.machine, &slot, &err), 0);
	save(&w);
	destroy();
	for (unsigned slots = 0; slots < 3; slots++) {
		create(2);
		for (unsigned i = 0; i < slots; i++) {
			assert_int_equal(hk_machine_slot(f.machine, &slot, &err), 0);
		}
		hk_reader_init(&r, w.data, w.len);
		err = HK_ERR_INIT;
		assert_int_equal(hk_machine_restore(f.machine, &r, &err), slots == 1 ? 0 : -EINVAL);
		destroy();
	}
	hk_writer_finish(&w);
}

static void test_faults(void **arg)
{
	for (unsigned nth = 1;; nth++) {
		struct hk_err err = HK_ERR_INIT;
		struct hk_writer w = {0};

		hk_fault_arm(HK_FAULT_ALLOC | HK_FAULT_SYSCALL, nth);

		int r = try_create(2, &err);

		r = r < 0 ? r : hk_machine_start(f.machine, &err);
		r = r < 0 ? r : hk_machine_pause(f.machine, &err);
		r = r < 0 ? r : hk_machine_save(f.machine, &w, &err);
		bool fired = hk_fault_fired();

		hk_fault_arm(0, 0);
		destroy();
		hk_writer_finish(&w);
		if (r == 0) {
			assert_false(fired);
			assert_true(nth > 3);
			return;
		}
		assert_true(fired);
		assert_true(hk_err_text(&err)[0] != '\0');
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ends),
		cmocka_unit_test(test_first_end_counts),
		cmocka_unit_test(test_pause_200_times),
		cmocka_unit_test(test_stop_at_any_moment),
		cmocka_unit_test(test_halt_tells_nobody),
		cmocka_unit_test(test_serial_and_generation),
		cmocka_unit_test(test_save_restore_save),
		cmocka_unit_test(test_cut_snapshot_is_refused),
		cmocka_unit_test(test_snapshot_of_another_machine),
		cmocka_unit_test(test_faults),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
