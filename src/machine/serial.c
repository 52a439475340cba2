/* SPDX-License-Identifier: ISC */
/*
 * 16550A, transmit side. A byte is sent the moment it is written, so the transmitter is
 * always empty; enabling the transmitter interrupt therefore raises it at once. In
 * loopback mode (drivers probe with it) modem outputs come back as inputs, and data goes nowhere.
 */
#include "machine/serial.h"

#include "base/util.h"

enum {
	REG_DATA = 0, /* with DLAB: divisor, low byte */
	REG_IER = 1,  /* with DLAB: divisor, high byte */
	REG_IIR = 2,  /* read; FCR on write */
	REG_LCR = 3,
	REG_MCR = 4,
	REG_LSR = 5,
	REG_MSR = 6,
	REG_SCR = 7,
	REG_COUNT = 8,
};

enum {
	IER_MASK = 0x0f,
	IER_THR_EMPTY = 0x02,
	IIR_NONE = 0x01,
	IIR_THR_EMPTY = 0x02,
	IIR_FIFO = 0xc0,
	FCR_FIFO = 0x01,
	LCR_DLAB = 0x80,
	MCR_OUT2 = 0x08, /* gates the interrupt on PCs */
	MCR_LOOP = 0x10,
	MCR_MASK = 0x1f,
	LSR_TRANSMITTER_EMPTY = 0x60,
	MSR_CONNECTED = 0xb0, /* CTS, DSR, DCD */
};

static void update_interrupt(struct hk_serial *s)
{
	bool level =
		s->thr_empty_pending && (s->ier & IER_THR_EMPTY) != 0 && (s->mcr & MCR_OUT2) != 0;

	if (level != s->line) {
		s->line = level;
		s->owner->interrupt(s->owner, level);
	}
}

static uint8_t read_iir(struct hk_serial *s)
{
	uint8_t fifo = (s->fcr & FCR_FIFO) != 0 ? IIR_FIFO : 0;

	if (!s->thr_empty_pending || (s->ier & IER_THR_EMPTY) == 0) {
		return fifo | IIR_NONE;
	}
	s->thr_empty_pending = false; /* reading it acknowledges */
	update_interrupt(s);
	return fifo | IIR_THR_EMPTY;
}

/* In loopback: DTR->DSR, RTS->CTS, OUT1->RI, OUT2->DCD. */
static uint8_t read_msr(const struct hk_serial *s)
{
	if ((s->mcr & MCR_LOOP) == 0) {
		return MSR_CONNECTED;
	}
	return (uint8_t)((s->mcr & 0x0c) << 4 | (s->mcr & 0x02) << 3 | (s->mcr & 0x01) << 5);
}

static uint8_t read_register(struct hk_serial *s, unsigned reg)
{
	bool dlab = (s->lcr & LCR_DLAB) != 0;

	switch (reg) {
	case REG_DATA:
		return dlab ? (uint8_t)s->divisor : 0;
	case REG_IER:
		return dlab ? (uint8_t)(s->divisor >> 8) : s->ier;
	case REG_IIR:
		return read_iir(s);
	case REG_LCR:
		return s->lcr;
	case REG_MCR:
		return s->mcr;
	case REG_LSR:
		return LSR_TRANSMITTER_EMPTY;
	case REG_MSR:
		return read_msr(s);
	default:
		return s->scr;
	}
}

static void write_data(struct hk_serial *s, uint8_t value)
{
	if ((s->mcr & MCR_LOOP) == 0) {
		s->owner->output(s->owner, value);
	}
	s->thr_empty_pending = true;
	update_interrupt(s);
}

static void write_ier(struct hk_serial *s, uint8_t value)
{
	bool newly_enabled = (value & ~s->ier & IER_THR_EMPTY) != 0;

	s->ier = value & IER_MASK;
	s->thr_empty_pending |= newly_enabled;
	update_interrupt(s);
}

static void write_register(struct hk_serial *s, unsigned reg, uint8_t value)
{
	bool dlab = (s->lcr & LCR_DLAB) != 0;

	switch (reg) {
	case REG_DATA:
		if (dlab) {
			s->divisor = (uint16_t)((s->divisor & 0xff00) | value);
		} else {
			write_data(s, value);
		}
		break;
	case REG_IER:
		if (dlab) {
			s->divisor = (uint16_t)((s->divisor & 0x00ff) | value << 8);
		} else {
			write_ier(s, value);
		}
		break;
	case REG_IIR:
		s->fcr = value & FCR_FIFO;
		break;
	case REG_LCR:
		s->lcr = value;
		break;
	case REG_MCR:
		s->mcr = value & MCR_MASK;
		update_interrupt(s);
		break;
	case REG_SCR:
		s->scr = value;
		break;
	default: /* LSR and MSR are read-only */
		break;
	}
}

static struct hk_serial *serial_of(struct hk_region *region)
{
	return hk_container_of(region, struct hk_serial, region);
}

/* Registers are bytes; a wider access touches the next ones, as on the ISA bus. */
static uint64_t serial_read(struct hk_region *region, uint64_t offset, unsigned len)
{
	struct hk_serial *s = serial_of(region);
	uint64_t value = 0;

	pthread_mutex_lock(&s->lock);
	for (unsigned i = 0; i < len; i++) {
		value |= (uint64_t)read_register(s, (unsigned)offset + i) << (8 * i);
	}
	pthread_mutex_unlock(&s->lock);
	return value;
}

static void serial_write(struct hk_region *region, uint64_t offset, unsigned len, uint64_t value)
{
	struct hk_serial *s = serial_of(region);

	pthread_mutex_lock(&s->lock);
	for (unsigned i = 0; i < len; i++) {
		write_register(s, (unsigned)offset + i, (uint8_t)(value >> (8 * i)));
	}
	pthread_mutex_unlock(&s->lock);
}

static const struct hk_region_ops region_ops = {
	.name = "serial",
	.read = serial_read,
	.write = serial_write,
};

void hk_serial_init(struct hk_serial *s, struct hk_serial_owner *owner)
{
	*s = (struct hk_serial){
		.region =
			{
				.ops = &region_ops,
				.space = HK_SPACE_PORT,
				.base = HK_SERIAL_PORT,
				.size = REG_COUNT,
			},
		.owner = owner,
		.divisor = 12, /* 9600 baud, the power-on habit of PCs */
	};
	pthread_mutex_init(&s->lock, NULL);
}

void hk_serial_finish(struct hk_serial *s)
{
	pthread_mutex_destroy(&s->lock);
}

enum { SERIAL_VERSION = 1 };

void hk_serial_save(struct hk_serial *s, struct hk_writer *w)
{
	size_t mark = hk_writer_begin(w, "serial", SERIAL_VERSION);

	pthread_mutex_lock(&s->lock);
	hk_write_u8(w, s->ier);
	hk_write_u8(w, s->lcr);
	hk_write_u8(w, s->mcr);
	hk_write_u8(w, s->scr);
	hk_write_u8(w, s->fcr);
	hk_write_u16(w, s->divisor);
	hk_write_u8(w, s->thr_empty_pending);
	hk_write_u8(w, s->line);
	pthread_mutex_unlock(&s->lock);
	hk_writer_end(w, mark);
}

void hk_serial_restore(struct hk_serial *s, struct hk_reader *r)
{
	struct hk_section section = hk_reader_begin(r, "serial", SERIAL_VERSION);

	pthread_mutex_lock(&s->lock);
	s->ier = hk_read_u8(r) & IER_MASK;
	s->lcr = hk_read_u8(r);
	s->mcr = hk_read_u8(r) & MCR_MASK;
	s->scr = hk_read_u8(r);
	s->fcr = hk_read_u8(r) & FCR_FIFO;
	s->divisor = hk_read_u16(r);
	s->thr_empty_pending = hk_read_u8(r) != 0;
	s->line = hk_read_u8(r) != 0; /* the IOAPIC's state has the line's level already */
	pthread_mutex_unlock(&s->lock);
	hk_reader_end(r, section);
}
