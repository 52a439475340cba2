/* SPDX-License-Identifier: ISC */
/* The end of the guest's console, kept for the day something goes wrong. Any thread. */
#ifndef HK_BOX_TAIL_H
#define HK_BOX_TAIL_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HK_TAIL_SIZE = 16384 };

/** struct hk_tail - a ring of the last bytes; hk_tail_init() */
struct hk_tail {
	pthread_mutex_t lock;
	uint64_t total;             /* lock; bytes ever written */
	uint64_t taken;             /* lock; how far hk_tail_take_line() is */
	uint8_t ring[HK_TAIL_SIZE]; /* lock */
};

void hk_tail_init(struct hk_tail *tail);
void hk_tail_finish(struct hk_tail *tail);

/** hk_tail_write() - append. Return: true if a newline was among it */
bool hk_tail_write(struct hk_tail *tail, const uint8_t *bytes, size_t len);

/**
 * hk_tail_line() - the last lines, empty ones left out
 * @back: 0 for the last one
 * @line: escaped; @size bytes
 *
 * Return: false if there are not so many.
 */
bool hk_tail_line(struct hk_tail *tail, unsigned back, char *line, size_t size);

/** hk_tail_find() - the last line that holds @needle, from there on. Return: false if none does */
bool hk_tail_find(struct hk_tail *tail, const char *needle, char *line, size_t size);

/** hk_tail_take_line() - the next whole line that was not taken yet, oldest first; for --verbose */
bool hk_tail_take_line(struct hk_tail *tail, char *line, size_t size);

#endif
