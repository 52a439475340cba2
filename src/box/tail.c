/* SPDX-License-Identifier: ISC */
/*
 * The last bytes of a console: see tail.h.
 *
 * Theory: a ring of bytes, written by vCPU threads one or a few at a time, read line by line once
 * or never. Positions count from the first byte ever written; what is more than HK_TAIL_SIZE
 * behind is gone.
 *
 * Limits: a line longer than 512 bytes is cut.
 */
#include "box/tail.h"

#include <string.h>

#include "base/str.h"
#include "base/util.h"

enum { MAX_LINE = 512 };

void hk_tail_init(struct hk_tail *tail)
{
	pthread_mutex_init(&tail->lock, NULL);
	tail->total = 0;
	tail->taken = 0;
}

void hk_tail_finish(struct hk_tail *tail)
{
	pthread_mutex_destroy(&tail->lock);
}

bool hk_tail_write(struct hk_tail *tail, const uint8_t *bytes, size_t len)
{
	bool newline = false;

	pthread_mutex_lock(&tail->lock);
	for (size_t i = 0; i < len; i++) {
		tail->ring[tail->total++ % HK_TAIL_SIZE] = bytes[i];
		newline |= bytes[i] == '\n';
	}
	pthread_mutex_unlock(&tail->lock);
	return newline;
}

static uint64_t oldest_locked(const struct hk_tail *tail)
{
	return tail->total > HK_TAIL_SIZE ? tail->total - HK_TAIL_SIZE : 0;
}

static uint8_t byte_locked(const struct hk_tail *tail, uint64_t pos)
{
	return tail->ring[pos % HK_TAIL_SIZE];
}

/* The line [start, end), without carriage returns. Return: its length before escaping. */
static size_t copy_locked(
	const struct hk_tail *tail, uint64_t start, uint64_t end, char *line, size_t size)
{
	char raw[MAX_LINE];
	size_t len = 0;

	for (uint64_t pos = start; pos < end && len < sizeof(raw); pos++) {
		uint8_t byte = byte_locked(tail, pos);

		if (byte != '\r') {
			raw[len++] = (char)byte;
		}
	}
	hk_str_escape(line, size, raw, len);
	return len;
}

/* Moves [*start, *end) to the line before *start - 1. Return: false at the oldest byte. */
static bool previous_locked(const struct hk_tail *tail, uint64_t *start, uint64_t *end)
{
	uint64_t oldest = oldest_locked(tail);

	if (*start <= oldest) {
		return false;
	}
	*end = *start - 1;
	*start = *end;
	while (*start > oldest && byte_locked(tail, *start - 1) != '\n') {
		(*start)--;
	}
	return true;
}

/* As if a newline stood at the end, where none does. */
static void last_locked(const struct hk_tail *tail, uint64_t *start)
{
	*start = tail->total + 1;
	if (tail->total > 0 && byte_locked(tail, tail->total - 1) == '\n') {
		*start = tail->total;
	}
}

bool hk_tail_line(struct hk_tail *tail, unsigned back, char *line, size_t size)
{
	uint64_t start;
	uint64_t end;
	bool found = false;

	pthread_mutex_lock(&tail->lock);
	last_locked(tail, &start);
	while (!found && previous_locked(tail, &start, &end)) {
		if (copy_locked(tail, start, end, line, size) > 0) {
			found = back == 0;
			back--;
		}
	}
	pthread_mutex_unlock(&tail->lock);
	return found;
}

bool hk_tail_find(struct hk_tail *tail, const char *needle, char *line, size_t size)
{
	char whole[MAX_LINE];

	for (unsigned back = 0; hk_tail_line(tail, back, whole, sizeof(whole)); back++) {
		const char *at = strstr(whole, needle);

		if (at != NULL) {
			hk_fmt(line, size, "%s", at);
			return true;
		}
	}
	return false;
}

bool hk_tail_take_line(struct hk_tail *tail, char *line, size_t size)
{
	uint64_t end;
	bool found = false;

	pthread_mutex_lock(&tail->lock);
	tail->taken = HK_MAX(tail->taken, oldest_locked(tail));
	for (end = tail->taken; end < tail->total && !found; end++) {
		if (byte_locked(tail, end) == '\n') {
			copy_locked(tail, tail->taken, end, line, size);
			tail->taken = end + 1;
			found = true;
		}
	}
	pthread_mutex_unlock(&tail->lock);
	return found;
}
