/* SPDX-License-Identifier: ISC */
/* What the file server refused, kept so that the user hears of it. Any thread. */
#ifndef HK_BOX_DENIALS_H
#define HK_BOX_DENIALS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "box/layout.h"
#include "fuse/server.h"

enum { HK_DENIALS_MAX = 16, HK_DENIAL_PATH_SIZE = 256 };

struct hk_denial {
	char export_name[HK_EXPORT_NAME_SIZE];
	char path[HK_DENIAL_PATH_SIZE]; /* within the export, its end cut if need be */
	char operation[16];
	int error;
};

/**
 * struct hk_denials - hk_denials_init(); @owner is what the server is given, and tells @box_owner
 * of what is his
 */
struct hk_denials {
	struct hk_fuse_owner owner;
	struct hk_box_owner *box_owner; /* borrowed; may be NULL */
	pthread_mutex_t lock;
	struct hk_denial kept[HK_DENIALS_MAX]; /* lock; each one once */
	unsigned count;                        /* lock; of @kept */
	uint64_t total;                        /* lock; those that were not kept, too */
};

void hk_denials_init(struct hk_denials *denials, struct hk_box_owner *box_owner);
void hk_denials_finish(struct hk_denials *denials);

uint64_t hk_denials_total(struct hk_denials *denials);

/**
 * hk_denials_line() - what was refused and which flag allows it, in one escaped line
 * @layout: whose exports the denials are of
 *
 * Return: false if there are no more than @index.
 */
bool hk_denials_line(struct hk_denials *denials, const struct hk_layout *layout, unsigned index,
	char *line, size_t size);

#endif
