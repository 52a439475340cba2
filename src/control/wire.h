/* SPDX-License-Identifier: ISC */
/*
 * Fields of the control protocol: little-endian integers, counted bytes, NUL-terminated counted
 * strings and lists. Inside of src/control only.
 */
#ifndef HK_CONTROL_WIRE_H
#define HK_CONTROL_WIRE_H

#include "control/control.h"

/** struct hk_wire_out - appends to @buf; the first error stays and stops all further writing */
struct hk_wire_out {
	struct hk_control_buf *buf;
	int error; /* 0, -ENOMEM, -E2BIG */
};

void hk_wire_put_u16(struct hk_wire_out *out, uint16_t v);
void hk_wire_put_u32(struct hk_wire_out *out, uint32_t v);
void hk_wire_put_u64(struct hk_wire_out *out, uint64_t v);
void hk_wire_put_raw(struct hk_wire_out *out, const void *bytes, size_t len);
void hk_wire_put_blob(struct hk_wire_out *out, const void *bytes, size_t len);
void hk_wire_put_string(struct hk_wire_out *out, const char *s); /* NULL: "" */
void hk_wire_put_list(struct hk_wire_out *out, const struct hk_control_list *list);

/**
 * struct hk_wire_in - takes fields off the front of @p
 *
 * After the first field that is not there or not as it must be, @bad stays set and all fields
 * read as zero or "".
 */
struct hk_wire_in {
	const uint8_t *p; /* borrowed */
	size_t left;
	bool bad;
};

uint16_t hk_wire_get_u16(struct hk_wire_in *in);
uint32_t hk_wire_get_u32(struct hk_wire_in *in);
uint64_t hk_wire_get_u64(struct hk_wire_in *in);
void hk_wire_get_raw(struct hk_wire_in *in, void *bytes, size_t len);
const uint8_t *hk_wire_get_blob(struct hk_wire_in *in, uint32_t *ret_len);
const char *hk_wire_get_string(struct hk_wire_in *in, size_t max_len);
/* Checks the count only: the elements are checked by hk_wire_check_strings(), ..._steps(). */
struct hk_control_list hk_wire_get_list(struct hk_wire_in *in);

/* A condition that the peer has to keep. */
static inline void hk_wire_require(struct hk_wire_in *in, bool condition)
{
	if (!condition) {
		in->bad = true;
	}
}

/* Fail @in unless @list holds exactly @list.count well-formed elements. */
void hk_wire_check_strings(struct hk_wire_in *in, struct hk_control_list list);
void hk_wire_check_steps(struct hk_wire_in *in, struct hk_control_list list);

#endif
