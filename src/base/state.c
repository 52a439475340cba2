/* SPDX-License-Identifier: ISC */
/*
 * The snapshot stream: state.h has the layout.
 *
 * Theory: the writer appends to a doubling buffer; a section's length is left zero by
 * hk_writer_begin() and patched by hk_writer_end(). The reader is a window [pos, end) that only
 * ever shrinks towards the section being read: each access goes through take(), which checks the
 * window, and a length from the stream is compared with what is left before it is used. A failed
 * reader has an empty window, so every later access fails in the same place. To say where a reader
 * failed it remembers where in the stream the name of the current section lies.
 *
 * Limits: section names have 1 to 65535 bytes, of which errors show the first 63. A failed write
 * makes all later ones no-ops, with w->error telling.
 */
#include "base/state.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/str.h"
#include "base/util.h"

void hk_writer_finish(struct hk_writer *w)
{
	free(w->data);
	*w = (struct hk_writer){0};
}

/* Appends @len bytes whose content the caller fills in; NULL on failure. */
static uint8_t *extend(struct hk_writer *w, size_t len)
{
	size_t cap = w->cap == 0 ? 256 : w->cap;
	uint8_t *data;

	if (w->error != 0) {
		return NULL;
	}
	if (len > PTRDIFF_MAX - w->len) {
		w->error = -ENOMEM;
		return NULL;
	}
	while (cap < w->len + len) {
		cap = cap > PTRDIFF_MAX / 2 ? PTRDIFF_MAX : cap * 2;
	}
	if (cap != w->cap) {
		data = hk_realloc_array(w->data, cap, 1);
		if (data == NULL) {
			w->error = -ENOMEM;
			return NULL;
		}
		w->data = data;
		w->cap = cap;
	}
	w->len += len;
	return w->data + w->len - len;
}

size_t hk_writer_begin(struct hk_writer *w, const char *name, uint32_t version)
{
	size_t len = strlen(name);

	assert(len > 0 && len <= UINT16_MAX);
	hk_write_u16(w, (uint16_t)len);
	hk_write_bytes(w, name, len);
	hk_write_u32(w, version);
	hk_write_u64(w, 0);
	return w->len;
}

void hk_writer_end(struct hk_writer *w, size_t mark)
{
	if (w->error != 0) {
		return;
	}
	assert(mark >= sizeof(uint64_t) && mark <= w->len);
	hk_store_le64(w->data + mark - sizeof(uint64_t), w->len - mark);
}

void hk_write_u8(struct hk_writer *w, uint8_t v)
{
	hk_write_bytes(w, &v, sizeof(v));
}

void hk_write_u16(struct hk_writer *w, uint16_t v)
{
	uint8_t *p = extend(w, sizeof(v));

	if (p != NULL) {
		hk_store_le16(p, v);
	}
}

void hk_write_u32(struct hk_writer *w, uint32_t v)
{
	uint8_t *p = extend(w, sizeof(v));

	if (p != NULL) {
		hk_store_le32(p, v);
	}
}

void hk_write_u64(struct hk_writer *w, uint64_t v)
{
	uint8_t *p = extend(w, sizeof(v));

	if (p != NULL) {
		hk_store_le64(p, v);
	}
}

void hk_write_bytes(struct hk_writer *w, const void *bytes, size_t len)
{
	uint8_t *p;

	if (len == 0) {
		return;
	}
	p = extend(w, len);
	if (p != NULL) {
		memcpy(p, bytes, len);
	}
}

void hk_write_blob(struct hk_writer *w, const void *bytes, size_t len)
{
	hk_write_u64(w, len);
	hk_write_bytes(w, bytes, len);
}

void hk_reader_init(struct hk_reader *r, const void *data, size_t len)
{
	*r = (struct hk_reader){.data = data, .end = len};
}

/* Fails with @error in section @name, which may be text of the stream's. */
static void fail(struct hk_reader *r, int error, const void *name, size_t name_len)
{
	if (r->error != 0) {
		return;
	}
	r->error = error;
	hk_str_escape(r->what, sizeof(r->what), name, name_len);
	r->pos = r->end;
}

void hk_reader_fail(struct hk_reader *r)
{
	if (r->name_len == 0) {
		fail(r, -EPROTO, "", 0);
	} else {
		fail(r, -EPROTO, r->data + r->name_pos, r->name_len);
	}
}

/* The next @len bytes, or NULL and a failed reader. */
static const uint8_t *take(struct hk_reader *r, size_t len)
{
	if (r->error != 0) {
		return NULL;
	}
	if (len > r->end - r->pos) {
		hk_reader_fail(r);
		return NULL;
	}
	r->pos += len;
	return r->data + r->pos - len;
}

/* Puts the name that was found instead of the expected one where hk_reader_status() looks. */
static void fail_other(struct hk_reader *r, const char *want, const uint8_t *found, size_t len)
{
	if (r->error == 0) {
		hk_str_escape(r->found, sizeof(r->found), found, len);
	}
	fail(r, -ENOMSG, want, strlen(want));
}

struct hk_section hk_reader_begin(struct hk_reader *r, const char *name, uint32_t newest)
{
	struct hk_section section = {
		.outer_end = r->end,
		.outer_name_pos = r->name_pos,
		.outer_name_len = r->name_len,
	};
	size_t len = hk_read_u16(r);
	size_t name_pos = r->pos;
	const uint8_t *found = take(r, len);
	uint64_t body;

	if (found == NULL) {
		goto failed;
	}
	if (len != strlen(name) || memcmp(found, name, len) != 0) {
		fail_other(r, name, found, len);
		goto failed;
	}
	section.version = hk_read_u32(r);
	body = hk_read_u64(r);
	if (r->error != 0) {
		goto failed;
	}
	if (section.version > newest) {
		fail(r, -ENOTSUP, name, len);
		goto failed;
	}
	r->name_pos = name_pos;
	r->name_len = (uint16_t)len;
	if (body > r->end - r->pos) {
		hk_reader_fail(r);
		goto failed;
	}
	section.end = r->pos + (size_t)body;
	r->end = section.end;
	return section;
failed:
	section.version = 0;
	section.end = r->end;
	return section;
}

void hk_reader_end(struct hk_reader *r, struct hk_section section)
{
	if (r->error != 0) {
		return;
	}
	assert(section.end == r->end); /* sections are closed in the order in which they nest */
	r->pos = section.end;
	r->end = section.outer_end;
	r->name_pos = section.outer_name_pos;
	r->name_len = section.outer_name_len;
}

uint8_t hk_read_u8(struct hk_reader *r)
{
	const uint8_t *p = take(r, sizeof(uint8_t));

	return p != NULL ? *p : 0;
}

uint16_t hk_read_u16(struct hk_reader *r)
{
	const uint8_t *p = take(r, sizeof(uint16_t));

	return p != NULL ? hk_load_le16(p) : 0;
}

uint32_t hk_read_u32(struct hk_reader *r)
{
	const uint8_t *p = take(r, sizeof(uint32_t));

	return p != NULL ? hk_load_le32(p) : 0;
}

uint64_t hk_read_u64(struct hk_reader *r)
{
	const uint8_t *p = take(r, sizeof(uint64_t));

	return p != NULL ? hk_load_le64(p) : 0;
}

void hk_read_bytes(struct hk_reader *r, void *bytes, size_t len)
{
	const uint8_t *p;

	if (len == 0) {
		return;
	}
	p = take(r, len);
	if (p != NULL) {
		memcpy(bytes, p, len);
	} else {
		memset(bytes, 0, len);
	}
}

const void *hk_read_blob(struct hk_reader *r, size_t *ret_len)
{
	uint64_t len = hk_read_u64(r);
	const uint8_t *p;

	*ret_len = 0;
	if (r->error == 0 && len > r->end - r->pos) {
		hk_reader_fail(r);
	}
	p = take(r, (size_t)len);
	if (p != NULL) {
		*ret_len = (size_t)len;
	}
	return p;
}

int hk_reader_status(const struct hk_reader *r, struct hk_err *err)
{
	switch (r->error) {
	case 0:
		return 0;
	case -ENOMSG:
		return hk_fail_msg(
			err, ENOMSG, "state: section '%s' expected, '%s' found", r->what, r->found);
	case -ENOTSUP:
		return hk_fail_msg(err, ENOTSUP,
			"state: section '%s' is of a newer version than this hako can read",
			r->what);
	default:
		if (r->what[0] == '\0') {
			return hk_fail_msg(err, EPROTO, "state: cut short or damaged");
		}
		return hk_fail_msg(
			err, EPROTO, "state: section '%s': cut short or damaged", r->what);
	}
}
