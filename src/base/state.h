/* SPDX-License-Identifier: ISC */
/*
 * The snapshot stream: how guest-visible state is written and read back.
 *
 * A stream is a sequence of sections. Each has a name, a version, a length and a
 * body of little-endian fields in the order in which the owner writes them:
 *
 *	 0      2          2+n     6+n       14+n
 *	+------+---------+--------+---------+------ ... ---+
 *	| n    | name    | version| length  | body         |
 *	+------+---------+--------+---------+------ ... ---+
 *	  u16    n bytes   u32      u64       length bytes
 *
 * Sections nest. A reader may skip the rest of a section that was made longer without a new
 * version; a field read past the end of its section, or a section that is not the expected one,
 * makes the reader fail: sticky, checked once with hk_reader_status(). A reader trusts no length:
 * snapshots may come from anywhere.
 */
#ifndef HK_BASE_STATE_H
#define HK_BASE_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/** struct hk_writer - a growing stream; zero-initialize, then hk_writer_finish() */
struct hk_writer {
	uint8_t *data; /* owned */
	size_t len;
	size_t cap;
	int error; /* sticky: 0 or -ENOMEM */
};

void hk_writer_finish(struct hk_writer *w);

/** hk_writer_begin() - open a section. Return: a mark for hk_writer_end() */
size_t hk_writer_begin(struct hk_writer *w, const char *name, uint32_t version);
void hk_writer_end(struct hk_writer *w, size_t mark);

void hk_write_u8(struct hk_writer *w, uint8_t v);
void hk_write_u16(struct hk_writer *w, uint16_t v);
void hk_write_u32(struct hk_writer *w, uint32_t v);
void hk_write_u64(struct hk_writer *w, uint64_t v);
void hk_write_bytes(struct hk_writer *w, const void *bytes, size_t len);
/** hk_write_blob() - u64 length, then the bytes */
void hk_write_blob(struct hk_writer *w, const void *bytes, size_t len);

/**
 * struct hk_reader - reads a stream that it borrows; made by hk_reader_init()
 * @error: sticky: 0, -EPROTO (cut short), -ENOMSG (other section), -ENOTSUP (newer version)
 * @what: the section in which it failed, escaped
 * @found: -ENOMSG: the section that was there instead, escaped; may be cut
 *
 * All fields are the reader's own; owners may look at @error.
 */
struct hk_reader {
	const uint8_t *data;
	size_t pos;
	size_t end; /* of the section being read */
	int error;
	char what[64];
	char found[32];
	size_t name_pos;   /* in @data, of the section being read */
	uint16_t name_len; /* 0 outside of sections */
};

void hk_reader_init(struct hk_reader *r, const void *data, size_t len);

/** struct hk_section - what hk_reader_begin() opened; give it back to hk_reader_end() */
struct hk_section {
	uint32_t version;
	size_t end;
	size_t outer_end;
	size_t outer_name_pos;
	uint16_t outer_name_len;
};

/**
 * hk_reader_begin() - enter the next section, which must be @name of version <= @newest
 *
 * Return: its bounds; on failure the reader is failed and all further reads give zeros.
 */
struct hk_section hk_reader_begin(struct hk_reader *r, const char *name, uint32_t newest);
void hk_reader_end(struct hk_reader *r, struct hk_section section); /* skips what was not read */

uint8_t hk_read_u8(struct hk_reader *r);
uint16_t hk_read_u16(struct hk_reader *r);
uint32_t hk_read_u32(struct hk_reader *r);
uint64_t hk_read_u64(struct hk_reader *r);
void hk_read_bytes(struct hk_reader *r, void *bytes, size_t len); /* zero-filled on failure */
/** hk_read_blob() - borrowed pointer into the stream, or NULL with *@ret_len 0 */
const void *hk_read_blob(struct hk_reader *r, size_t *ret_len);

/** hk_reader_fail() - the owner found a value that cannot be; sticky -EPROTO */
void hk_reader_fail(struct hk_reader *r);

/** hk_reader_status() - Return: 0, or the sticky error with the section named in @err */
int hk_reader_status(const struct hk_reader *r, struct hk_err *err);

#endif
