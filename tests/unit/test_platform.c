/* SPDX-License-Identifier: ISC */
/* The platform devices: serial port and power registers, as a driver sees them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "base/util.h"
#include "machine/power.h"
#include "machine/serial.h"

struct wires {
	struct hk_serial_owner owner;
	char sent[64];
	unsigned sent_len;
	bool line;
	unsigned edges;
};

static void on_output(struct hk_serial_owner *owner, uint8_t byte)
{
	struct wires *w = hk_container_of(owner, struct wires, owner);

	assert_true(w->sent_len < sizeof(w->sent) - 1);
	w->sent[w->sent_len++] = (char)byte;
}

static void on_interrupt(struct hk_serial_owner *owner, bool level)
{
	struct wires *w = hk_container_of(owner, struct wires, owner);

	assert_int_not_equal(level, w->line);
	w->line = level;
	w->edges += level;
}

static struct wires wires = {{on_output, on_interrupt}, "", 0, false, 0};

static uint8_t in(struct hk_serial *s, unsigned reg)
{
	return (uint8_t)s->region.ops->read(&s->region, reg, 1);
}

static void out(struct hk_serial *s, unsigned reg, uint8_t value)
{
	s->region.ops->write(&s->region, reg, 1, value);
}

static void start(struct hk_serial *s)
{
	wires = (struct wires){{on_output, on_interrupt}, "", 0, false, 0};
	hk_serial_init(s, &wires.owner);
}

static void bytes_go_out(void **state)
{
	struct hk_serial s;

	start(&s);
	for (const char *c = "box\n"; *c != '\0'; c++) {
		assert_int_equal(in(&s, 5) & 0x60, 0x60); /* always ready */
		out(&s, 0, (uint8_t)*c);
	}
	assert_string_equal(wires.sent, "box\n");
	hk_serial_finish(&s);
}

/* What Linux's autoconfig() does to tell a 16550A. */
static void probing(void **state)
{
	struct hk_serial s;

	start(&s);
	out(&s, 7, 0x5a);
	assert_int_equal(in(&s, 7), 0x5a);
	out(&s, 1, 0x0f);
	assert_int_equal(in(&s, 1), 0x0f);
	out(&s, 1, 0xf0);
	assert_int_equal(in(&s, 1), 0x00); /* no 16750 bits */
	out(&s, 2, 0x01);
	assert_int_equal(in(&s, 2) & 0xc0, 0xc0); /* FIFO works: 16550A */
	out(&s, 2, 0x00);
	assert_int_equal(in(&s, 2) & 0xc0, 0x00);

	out(&s, 4, 0x1a); /* loopback, OUT2, RTS */
	assert_int_equal(in(&s, 6) & 0xf0, 0x90);
	out(&s, 0, 'x');
	assert_int_equal(wires.sent_len, 0);
	out(&s, 4, 0x00);

	out(&s, 3, 0x80); /* divisor latch */
	out(&s, 0, 0x01);
	out(&s, 1, 0x02);
	assert_int_equal(s.divisor, 0x0201);
	assert_int_equal(in(&s, 0), 0x01);
	assert_int_equal(in(&s, 1), 0x02);
	assert_int_equal(wires.sent_len, 0);
	hk_serial_finish(&s);
}

static void transmitter_interrupt(void **state)
{
	struct hk_serial s;

	start(&s);
	out(&s, 1, 0x02);
	assert_false(wires.line); /* OUT2 gates it */
	out(&s, 4, 0x08);
	assert_true(wires.line);
	assert_int_equal(in(&s, 2) & 0x0f, 0x02);
	assert_false(wires.line); /* reading IIR acknowledged */
	assert_int_equal(in(&s, 2) & 0x0f, 0x01);
	out(&s, 0, 'a');
	assert_true(wires.line);
	out(&s, 1, 0x00);
	assert_false(wires.line);
	assert_int_equal(wires.edges, 2);
	hk_serial_finish(&s);
}

/* Saved between the interrupt and its acknowledgement, it goes on there. */
static void serial_round_trip(void **state)
{
	struct hk_serial a, b;
	struct hk_writer w = {0};
	struct hk_reader r;

	start(&a);
	out(&a, 4, 0x08);
	out(&a, 7, 0x77);
	out(&a, 2, 0x01);
	out(&a, 1, 0x02);
	hk_serial_save(&a, &w);
	hk_serial_init(&b, &wires.owner);
	hk_reader_init(&r, w.data, w.len);
	hk_serial_restore(&b, &r);
	assert_int_equal(hk_reader_status(&r, NULL), 0);
	assert_int_equal(in(&b, 7), 0x77);
	assert_int_equal(in(&b, 2), 0xc2);
	assert_false(wires.line);
	for (size_t len = 0; len < w.len; len++) {
		hk_reader_init(&r, w.data, len);
		hk_serial_restore(&b, &r);
		assert_int_not_equal(hk_reader_status(&r, NULL), 0);
	}
	hk_writer_finish(&w);
	hk_serial_finish(&a);
	hk_serial_finish(&b);
}

static unsigned power_offs, resets;

static void on_power_off(struct hk_power_owner *owner)
{
	power_offs++;
}

static void on_reset(struct hk_power_owner *owner)
{
	resets++;
}

static void power(void **state)
{
	static const struct {
		unsigned offset;
		uint8_t value;
		unsigned power_offs, resets;
	} table[] = {
		{HK_POWER_SLEEP_CONTROL, 5 << 2 | 1 << 5, 1, 0},
		{HK_POWER_SLEEP_CONTROL, 5 << 2, 0, 0},          /* SLP_EN not set */
		{HK_POWER_SLEEP_CONTROL, 3 << 2 | 1 << 5, 0, 0}, /* no such state */
		{HK_POWER_SLEEP_STATUS, 5 << 2 | 1 << 5, 0, 0},
		{HK_POWER_RESET, HK_POWER_RESET_VALUE, 0, 1},
		{HK_POWER_RESET, 0, 0, 0},
	};
	struct hk_power_owner owner = {on_power_off, on_reset};
	struct hk_power p;

	hk_power_init(&p, &owner);
	for (size_t i = 0; i < HK_ARRAY_SIZE(table); i++) {
		power_offs = 0;
		resets = 0;
		p.region.ops->write(&p.region, table[i].offset, 1, table[i].value);
		assert_int_equal(power_offs, table[i].power_offs);
		assert_int_equal(resets, table[i].resets);
	}
	assert_int_equal(p.region.ops->read(&p.region, HK_POWER_SLEEP_STATUS, 1), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_go_out),
		cmocka_unit_test(probing),
		cmocka_unit_test(transmitter_interrupt),
		cmocka_unit_test(serial_round_trip),
		cmocka_unit_test(power),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
