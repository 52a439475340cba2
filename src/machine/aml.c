/* SPDX-License-Identifier: ISC */
/*
 * AML writer. Lengths of blocks are not known when a block begins, so three bytes are
 * reserved for each PkgLength and filled in at its end (the long form is legal for any length).
 */
#include "machine/aml.h"

#include <assert.h>
#include <string.h>

#include "base/bytes.h"

enum {
	OP_ZERO = 0x00,
	OP_NAME = 0x08,
	OP_BYTE = 0x0a,
	OP_WORD = 0x0b,
	OP_DWORD = 0x0c,
	OP_STRING = 0x0d,
	OP_QWORD = 0x0e,
	OP_SCOPE = 0x10,
	OP_BUFFER = 0x11,
	OP_PACKAGE = 0x12,
	OP_METHOD = 0x14,
	OP_DUAL_NAME = 0x2e,
	OP_EXTENDED = 0x5b,
	OP_EXTENDED_DEVICE = 0x82,
	OP_NOTIFY = 0x86,
	PKG_LENGTH_BYTES = 3,
	METHOD_SERIALIZED = 1 << 3,
};

void hk_aml_bytes(struct hk_aml *aml, const void *bytes, size_t len)
{
	if (aml->overflow || len > aml->size - aml->len) {
		aml->overflow = true;
		return;
	}
	memcpy(aml->data + aml->len, bytes, len);
	aml->len += len;
}

void hk_aml_byte(struct hk_aml *aml, uint8_t byte)
{
	hk_aml_bytes(aml, &byte, 1);
}

static void add_le(struct hk_aml *aml, uint64_t value, size_t len)
{
	uint8_t bytes[8];

	hk_store_le64(bytes, value);
	hk_aml_bytes(aml, bytes, len);
}

void hk_aml_integer(struct hk_aml *aml, uint64_t value)
{
	if (value == 0) {
		hk_aml_byte(aml, OP_ZERO);
	} else if (value <= UINT8_MAX) {
		hk_aml_byte(aml, OP_BYTE);
		add_le(aml, value, 1);
	} else if (value <= UINT16_MAX) {
		hk_aml_byte(aml, OP_WORD);
		add_le(aml, value, 2);
	} else if (value <= UINT32_MAX) {
		hk_aml_byte(aml, OP_DWORD);
		add_le(aml, value, 4);
	} else {
		hk_aml_byte(aml, OP_QWORD);
		add_le(aml, value, 8);
	}
}

void hk_aml_string(struct hk_aml *aml, const char *text)
{
	hk_aml_byte(aml, OP_STRING);
	hk_aml_bytes(aml, text, strlen(text) + 1);
}

static void add_segment(struct hk_aml *aml, const char *four)
{
	assert(strlen(four) >= 4);
	hk_aml_bytes(aml, four, 4);
}

void hk_aml_name(struct hk_aml *aml, const char *four)
{
	hk_aml_byte(aml, OP_NAME);
	add_segment(aml, four);
}

/* One or two segments are all we need. */
void hk_aml_path(struct hk_aml *aml, const char *path)
{
	if (path[0] == '\\') {
		hk_aml_byte(aml, '\\');
		path++;
	}
	if (strlen(path) > 4) {
		hk_aml_byte(aml, OP_DUAL_NAME);
		add_segment(aml, path);
		path += 5;
	}
	add_segment(aml, path);
}

static size_t begin(struct hk_aml *aml)
{
	static const uint8_t reserved[PKG_LENGTH_BYTES];
	size_t mark = aml->len;

	hk_aml_bytes(aml, reserved, sizeof(reserved));
	return mark;
}

/*
 * PkgLength of three bytes: bits 6-7 of the first say that two follow, bits 0-3 are the low nibble.
 * It counts itself.
 */
void hk_aml_end(struct hk_aml *aml, size_t mark)
{
	size_t len = aml->len - mark;

	if (aml->overflow) {
		return;
	}
	assert(len < 1u << 20);
	aml->data[mark] = (uint8_t)(2 << 6 | (len & 0xf));
	aml->data[mark + 1] = (uint8_t)(len >> 4);
	aml->data[mark + 2] = (uint8_t)(len >> 12);
}

size_t hk_aml_scope(struct hk_aml *aml, const char *path)
{
	hk_aml_byte(aml, OP_SCOPE);

	size_t mark = begin(aml);

	hk_aml_path(aml, path);
	return mark;
}

size_t hk_aml_device(struct hk_aml *aml, const char *four)
{
	hk_aml_byte(aml, OP_EXTENDED);
	hk_aml_byte(aml, OP_EXTENDED_DEVICE);

	size_t mark = begin(aml);

	add_segment(aml, four);
	return mark;
}

size_t hk_aml_method(struct hk_aml *aml, const char *four, unsigned arg_count, bool serialized)
{
	hk_aml_byte(aml, OP_METHOD);

	size_t mark = begin(aml);

	add_segment(aml, four);
	hk_aml_byte(aml, (uint8_t)(arg_count | (serialized ? METHOD_SERIALIZED : 0)));
	return mark;
}

size_t hk_aml_package(struct hk_aml *aml, unsigned element_count)
{
	hk_aml_byte(aml, OP_PACKAGE);

	size_t mark = begin(aml);

	hk_aml_byte(aml, (uint8_t)element_count);
	return mark;
}

void hk_aml_notify(struct hk_aml *aml, const char *path, uint64_t value)
{
	hk_aml_byte(aml, OP_NOTIFY);
	hk_aml_path(aml, path);
	hk_aml_integer(aml, value);
}

/* A buffer's size comes before its bytes: a word, filled in at the end. */
enum { CRS_SIZE_BYTES = 2 };

size_t hk_aml_crs(struct hk_aml *aml)
{
	hk_aml_name(aml, "_CRS");
	hk_aml_byte(aml, OP_BUFFER);

	size_t mark = begin(aml);

	hk_aml_byte(aml, OP_WORD);
	add_le(aml, 0, CRS_SIZE_BYTES);
	return mark;
}

void hk_aml_crs_end(struct hk_aml *aml, size_t mark)
{
	static const uint8_t end_tag[] = {0x79, 0x00}; /* checksum 0: none */
	size_t size_at = mark + PKG_LENGTH_BYTES + 1;

	hk_aml_bytes(aml, end_tag, sizeof(end_tag));
	if (!aml->overflow) {
		hk_store_le16(aml->data + size_at, (uint16_t)(aml->len - size_at - CRS_SIZE_BYTES));
	}
	hk_aml_end(aml, mark);
}

void hk_aml_memory32(struct hk_aml *aml, uint32_t base, uint32_t len)
{
	enum { WRITABLE = 1 };

	hk_aml_byte(aml, 0x86); /* 32-bit fixed memory range, 9 bytes follow */
	add_le(aml, 9, 2);
	hk_aml_byte(aml, WRITABLE);
	add_le(aml, base, 4);
	add_le(aml, len, 4);
}

void hk_aml_io(struct hk_aml *aml, uint16_t base, uint8_t len)
{
	enum { DECODE_16 = 1 };

	hk_aml_byte(aml, 0x47); /* I/O port descriptor, 7 bytes follow */
	hk_aml_byte(aml, DECODE_16);
	add_le(aml, base, 2);
	add_le(aml, base, 2);
	hk_aml_byte(aml, 1); /* alignment */
	hk_aml_byte(aml, len);
}

void hk_aml_interrupt_edge(struct hk_aml *aml, uint32_t gsi)
{
	enum { CONSUMER = 1 << 0, EDGE = 1 << 1 };

	hk_aml_byte(aml, 0x89); /* extended interrupt, 6 bytes follow */
	add_le(aml, 6, 2);
	hk_aml_byte(aml, CONSUMER | EDGE);
	hk_aml_byte(aml, 1); /* one interrupt */
	add_le(aml, gsi, 4);
}
