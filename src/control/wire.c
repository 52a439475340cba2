/* SPDX-License-Identifier: ISC */
/*
 * The growing buffer, and the fields of the control protocol in both directions.
 *
 * Theory: a writer and a reader with sticky errors, so that a message's put and get functions are
 * plain lists of fields, checked once at the end. Strings carry their NUL on the wire, hence the
 * reader gives pointers into the message and copies nothing.
 *
 * Limits: a buffer holds at most BUF_MAX bytes; a peer that reads nothing cannot make it grow on.
 */
#include "control/wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { BUF_MAX = 8 << 20 };

void hk_control_buf_finish(struct hk_control_buf *buf)
{
	free(buf->data);
	*buf = (struct hk_control_buf){0};
}

void hk_control_buf_consume(struct hk_control_buf *buf, size_t len)
{
	if (len < buf->len) {
		memmove(buf->data, buf->data + len, buf->len - len);
		buf->len -= len;
	} else {
		buf->len = 0;
	}
}

static int reserve(struct hk_control_buf *buf, size_t len)
{
	size_t cap = buf->cap ? buf->cap : 256;
	uint8_t *data;

	if (len > BUF_MAX - buf->len) {
		return -E2BIG;
	}
	if (buf->len + len <= buf->cap) {
		return 0;
	}
	while (cap < buf->len + len) {
		cap *= 2;
	}
	data = realloc(buf->data, cap);
	if (!data) {
		return -ENOMEM;
	}
	buf->data = data;
	buf->cap = cap;
	return 0;
}

void hk_wire_put_raw(struct hk_wire_out *out, const void *bytes, size_t len)
{
	if (!out->error) {
		out->error = reserve(out->buf, len);
	}
	if (!out->error && len) {
		memcpy(out->buf->data + out->buf->len, bytes, len);
		out->buf->len += len;
	}
}

static void put_le(struct hk_wire_out *out, uint64_t v, size_t size)
{
	uint8_t bytes[8];

	for (size_t i = 0; i < size; i++) {
		bytes[i] = (uint8_t)(v >> (8 * i));
	}
	hk_wire_put_raw(out, bytes, size);
}

void hk_wire_put_u16(struct hk_wire_out *out, uint16_t v)
{
	put_le(out, v, 2);
}

void hk_wire_put_u32(struct hk_wire_out *out, uint32_t v)
{
	put_le(out, v, 4);
}

void hk_wire_put_u64(struct hk_wire_out *out, uint64_t v)
{
	put_le(out, v, 8);
}

void hk_wire_put_blob(struct hk_wire_out *out, const void *bytes, size_t len)
{
	if (len > BUF_MAX) {
		out->error = out->error ? out->error : -E2BIG;
		return;
	}
	hk_wire_put_u32(out, (uint32_t)len);
	hk_wire_put_raw(out, bytes, len);
}

void hk_wire_put_string(struct hk_wire_out *out, const char *s)
{
	hk_wire_put_blob(out, s ? s : "", s ? strlen(s) : 0);
	hk_wire_put_raw(out, "", 1);
}

void hk_wire_put_list(struct hk_wire_out *out, const struct hk_control_list *list)
{
	if (list->error && !out->error) {
		out->error = list->error;
	}
	hk_wire_put_u32(out, list->count);
	hk_wire_put_blob(out, list->data, list->len_bytes);
}

/* The next @len bytes, or NULL. */
static const uint8_t *take(struct hk_wire_in *in, size_t len)
{
	const uint8_t *p = in->p;

	if (in->bad || len > in->left) {
		in->bad = true;
		return NULL;
	}
	in->p += len;
	in->left -= len;
	return p;
}

void hk_wire_get_raw(struct hk_wire_in *in, void *bytes, size_t len)
{
	const uint8_t *p = take(in, len);

	if (p) {
		memcpy(bytes, p, len);
	} else {
		memset(bytes, 0, len);
	}
}

static uint64_t get_le(struct hk_wire_in *in, size_t size)
{
	const uint8_t *p = take(in, size);
	uint64_t v = 0;

	for (size_t i = 0; p && i < size; i++) {
		v |= (uint64_t)p[i] << (8 * i);
	}
	return v;
}

uint16_t hk_wire_get_u16(struct hk_wire_in *in)
{
	return (uint16_t)get_le(in, 2);
}

uint32_t hk_wire_get_u32(struct hk_wire_in *in)
{
	return (uint32_t)get_le(in, 4);
}

uint64_t hk_wire_get_u64(struct hk_wire_in *in)
{
	return get_le(in, 8);
}

const uint8_t *hk_wire_get_blob(struct hk_wire_in *in, uint32_t *ret_len)
{
	uint32_t len = hk_wire_get_u32(in);
	const uint8_t *p = take(in, len);

	*ret_len = p ? len : 0;
	return p;
}

const char *hk_wire_get_string(struct hk_wire_in *in, size_t max_len)
{
	uint32_t len;
	const uint8_t *bytes = hk_wire_get_blob(in, &len);
	const uint8_t *nul = take(in, 1);

	/* One NUL, behind the last byte: no bytes hide behind an earlier one. */
	hk_wire_require(in, bytes && nul && len <= max_len && memchr(bytes, 0, len + 1) == nul);
	return in->bad ? "" : (const char *)bytes;
}

struct hk_control_list hk_wire_get_list(struct hk_wire_in *in)
{
	struct hk_control_list list = {.count = hk_wire_get_u32(in)};

	list.data = hk_wire_get_blob(in, &list.len_bytes);
	hk_wire_require(in, list.count <= HK_CONTROL_MAX_COUNT);
	if (in->bad) {
		list = (struct hk_control_list){0};
	}
	return list;
}
