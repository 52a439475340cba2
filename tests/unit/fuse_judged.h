/* SPDX-License-Identifier: ISC */
/*
 * A server under rules, with the log of its audit. The export is /x for the rules. One at a time.
 */
#ifndef HK_TESTS_FUSE_JUDGED_H
#define HK_TESTS_FUSE_JUDGED_H

#include <stdbool.h>
#include <stddef.h>

#include "fuse/audit.h"
#include "fuse/rules.h"
#include "fuse_client.h"

extern struct fc fc;
extern struct hk_rules *rules;
extern struct hk_audit *audit; /* NULL: it has none */
extern char log_text[65536];   /* as read_log() found it */

void start(const char *policy);
void start_without_audit(const char *policy);
/* @made: rules, taken over */
void start_with(struct hk_rules *made, bool with_audit, bool read_only);
struct hk_rules *parse(const char *policy);
void stop(void);

/* All lines so far; no events after it. */
const char *read_log(void);

/* Opens an entry of the export, and closes it. Return: 0 or -errno; -ENOENT: it is not there */
int open_of(const char *name, int flags);

#endif
