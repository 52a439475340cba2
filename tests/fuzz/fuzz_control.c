/* SPDX-License-Identifier: ISC */
/*
 * The control protocol's decoder, for both directions.
 *
 * The first byte says how the input is cut into pieces and which side it comes from. Whatever is
 * decoded is put again, and has to give bytes that decode to the same.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "control/control.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
	if (!condition) {
		abort();
	}
}

static void walk_steps(struct hk_control_list list)
{
	uint32_t count = list.count;
	struct hk_step step;

	while (hk_control_next_step(&list, &step)) {
		require(step.path[0] == '/' && strlen(step.path) <= HK_CONTROL_MAX_PATH);
		if (step.type == HK_STEP_OVERLAY) {
			walk_steps(step.upper);
		}
		count--;
	}
	require(count == 0);
}

static void walk_strings(struct hk_control_list list)
{
	uint32_t count = list.count;
	const char *s;

	while (hk_control_next_string(&list, &s)) {
		require(strlen(s) <= HK_CONTROL_MAX_STRING);
		count--;
	}
	require(count == 0);
}

/* What was decoded can be sent, and comes out the same. */
static void round_trip(const struct hk_control_msg *msg, enum hk_control_dir dir)
{
	struct hk_control_buf first = {0};
	struct hk_control_buf second = {0};
	struct hk_control_decoder dec;
	struct hk_control_msg back;
	const uint8_t *bytes;
	size_t len;

	require(hk_control_put(&first, msg) == 0);
	hk_control_decoder_init(&dec, dir);
	bytes = first.data;
	len = first.len;
	require(hk_control_feed(&dec, &bytes, &len, &back) == 1 && len == 0);
	require(hk_control_put(&second, &back) == 0);
	require(first.len == second.len && memcmp(first.data, second.data, first.len) == 0);
	hk_control_decoder_finish(&dec);
	hk_control_buf_finish(&first);
	hk_control_buf_finish(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hk_stream_preamble preamble;
	struct hk_control_decoder dec;
	enum hk_control_dir dir;
	size_t piece;

	if (size >= HK_STREAM_PREAMBLE_BYTES) {
		(void)hk_stream_preamble_get(data, &preamble);
	}
	if (size < 1) {
		return 0;
	}
	dir = data[0] & 1 ? HK_CONTROL_FROM_HOST : HK_CONTROL_FROM_GUEST;
	piece = (data[0] >> 1) + 1;
	data++;
	size--;
	hk_control_decoder_init(&dec, dir);
	for (int r = 0; size && r >= 0;) {
		size_t len = piece < size ? piece : size;
		struct hk_control_msg msg;

		size -= len;
		while ((r = hk_control_feed(&dec, &data, &len, &msg)) == 1) {
			if (msg.type == HK_MSG_SETUP) {
				walk_steps(msg.setup.steps);
			} else if (msg.type == HK_MSG_EXEC) {
				walk_strings(msg.exec.argv);
				walk_strings(msg.exec.env);
			}
			round_trip(&msg, dir);
		}
		require(r < 0 || len == 0);
	}
	hk_control_decoder_finish(&dec);
	return 0;
}
