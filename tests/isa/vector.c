/* SPDX-License-Identifier: ISC */
/* Writing and reading vectors; vector.h has the format. */
#include "vector.h"

#include <string.h>

enum {
	/* The defined part of struct isa_state: everything but the end of the FXSAVE image. */
	STATE_BYTES = offsetof(struct isa_state, fx) + ISA_FX_BYTES,
	MAX_BYTES = 3 * (STATE_BYTES + ISA_DATA_BYTES) + ISA_MAX_CODE + 64,
};

struct buffer {
	uint8_t bytes[MAX_BYTES];
	unsigned len, at;
	bool bad;
};

static void put(struct buffer *b, uint64_t value, unsigned len)
{
	for (unsigned i = 0; i < len && b->len < MAX_BYTES; i++) {
		b->bytes[b->len++] = (uint8_t)(value >> 8 * i);
	}
}

static uint64_t get(struct buffer *b, unsigned len)
{
	uint64_t value = 0;

	if (b->len - b->at < len) {
		b->bad = true;
		return 0;
	}
	for (unsigned i = 0; i < len; i++) {
		value |= (uint64_t)b->bytes[b->at++] << 8 * i;
	}
	return value;
}

/* The difference of two blocks; @from NULL: of zeros. */
static void put_stream(struct buffer *b, const uint8_t *from, const uint8_t *to, unsigned len)
{
	unsigned done = 0;

	for (;;) {
		unsigned at = done, n = 0;

		while (at < len && to[at] == (from != NULL ? from[at] : 0)) {
			at++;
		}
		/* Up to where two bytes are the same again */
		while (at + n < len && n < 255 &&
			(to[at + n] != (from != NULL ? from[at + n] : 0) ||
				(at + n + 1 < len &&
					to[at + n + 1] != (from != NULL ? from[at + n + 1] : 0)))) {
			n++;
		}
		if (n == 0) {
			break;
		}
		put(b, at - done, 2);
		put(b, n, 1);
		for (unsigned i = 0; i < n; i++) {
			put(b, to[at + i] ^ (from != NULL ? from[at + i] : 0), 1);
		}
		done = at + n;
	}
	put(b, 0, 3);
}

/* @to holds what the stream is the difference to. */
static void get_stream(struct buffer *b, uint8_t *to, unsigned len)
{
	unsigned at = 0;

	while (!b->bad) {
		at += (unsigned)get(b, 2);

		unsigned n = (unsigned)get(b, 1);

		if (n == 0) {
			return;
		}
		if (at > len || n > len - at) {
			b->bad = true;
			return;
		}
		for (unsigned i = 0; i < n; i++) {
			to[at++] ^= (uint8_t)get(b, 1);
		}
	}
}

static int write_number(FILE *file, uint32_t value, unsigned len)
{
	uint8_t bytes[4] = {(uint8_t)value, (uint8_t)(value >> 8), (uint8_t)(value >> 16),
		(uint8_t)(value >> 24)};

	return fwrite(bytes, 1, len, file) == len ? 0 : -1;
}

static int read_number(FILE *file, uint32_t *ret_value, unsigned len)
{
	uint8_t bytes[4] = {0};

	if (fread(bytes, 1, len, file) != len) {
		return -1;
	}
	*ret_value = bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
		(uint32_t)bytes[3] << 24;
	return 0;
}

int isa_vector_begin(FILE *file, uint32_t features)
{
	return write_number(file, ISA_VECTOR_MAGIC, 4) == 0 ? write_number(file, features, 4) : -1;
}

int isa_vector_write(
	FILE *file, const struct isa_case *c, const struct isa_result *r, struct isa_mask mask)
{
	static struct buffer b;
	static uint8_t memory[ISA_DATA_BYTES];

	b.len = 0;
	put(&b, c->len, 2);
	put(&b, c->code32, 1);
	put(&b, mask.lax, 1);
	put(&b, mask.rflags, 8);
	put(&b, c->memory, 1);
	put(&b, r->vector, 4);
	put(&b, r->code, 4);
	put(&b, r->cr2, 8);
	for (unsigned i = 0; i < c->len; i++) {
		put(&b, c->code[i], 1);
	}
	put_stream(&b, NULL, (const uint8_t *)&c->start, STATE_BYTES);
	put_stream(&b, (const uint8_t *)&c->start, (const uint8_t *)&r->state, STATE_BYTES);
	isa_memory_fill(c->memory, memory, ISA_DATA_BYTES);
	put_stream(&b, memory, r->data, ISA_DATA_BYTES);
	if (b.len > UINT16_MAX || write_number(file, b.len, 2) != 0) {
		return -1;
	}
	return fwrite(b.bytes, 1, b.len, file) == b.len ? 0 : -1;
}

int isa_vector_open(FILE *file, uint32_t *ret_features)
{
	uint32_t magic;

	return read_number(file, &magic, 4) == 0 && magic == ISA_VECTOR_MAGIC
		? read_number(file, ret_features, 4)
		: -1;
}

int isa_vector_read(FILE *file, struct isa_case *ret_case, struct isa_result *ret_result,
	struct isa_mask *ret_mask)
{
	static struct buffer b;
	struct isa_case *c = ret_case;
	struct isa_result *r = ret_result;
	uint32_t len;

	if (read_number(file, &len, 2) != 0) {
		return feof(file) ? 0 : -1;
	}
	b.at = 0;
	b.len = len;
	b.bad = len > MAX_BYTES || fread(b.bytes, 1, len, file) != len;
	if (b.bad) {
		return -1;
	}
	memset(c, 0, sizeof(*c));
	c->len = (uint16_t)get(&b, 2);
	c->code32 = get(&b, 1) != 0;
	ret_mask->lax = (uint8_t)get(&b, 1);
	ret_mask->rflags = get(&b, 8);
	c->memory = get(&b, 1);
	r->end = ISA_TRAP;
	r->vector = (uint8_t)get(&b, 4);
	r->code = (uint32_t)get(&b, 4);
	r->cr2 = get(&b, 8);
	if (c->len > ISA_MAX_CODE) {
		return -1;
	}
	for (unsigned i = 0; i < c->len; i++) {
		c->code[i] = (uint8_t)get(&b, 1);
	}
	get_stream(&b, (uint8_t *)&c->start, STATE_BYTES);
	r->state = c->start;
	get_stream(&b, (uint8_t *)&r->state, STATE_BYTES);
	isa_memory_fill(c->memory, r->data, ISA_DATA_BYTES);
	get_stream(&b, r->data, ISA_DATA_BYTES);
	/* The code has to be where the CPU's pages are. */
	if (c->start.rip < ISA_CODE ||
		c->start.rip - ISA_CODE > (uint64_t)(ISA_CODE_BYTES - c->len)) {
		return -1;
	}
	return b.bad ? -1 : 1;
}
