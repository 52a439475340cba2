/* SPDX-License-Identifier: ISC */
/*
 * Denials: see denials.h.
 *
 * Theory: only what the user can change is kept, and that is shares. That the host's system shows
 * no more than every user may read is how a box is, and `ls -l /etc` is no reason for twenty lines.
 *
 * Limits: the first HK_DENIALS_MAX different ones; the rest is counted.
 */
#include "box/denials.h"

#include <errno.h>
#include <string.h>

#include "base/str.h"
#include "base/util.h"

static bool is_same(const struct hk_denial *a, const struct hk_denial *b)
{
	return a->error == b->error && strcmp(a->export_name, b->export_name) == 0 &&
		strcmp(a->operation, b->operation) == 0 && strcmp(a->path, b->path) == 0;
}

static void keep_locked(struct hk_denials *denials, const struct hk_denial *denial)
{
	for (unsigned i = 0; i < denials->count; i++) {
		if (is_same(&denials->kept[i], denial)) {
			return;
		}
	}
	denials->total++;
	if (denials->count < HK_DENIALS_MAX) {
		denials->kept[denials->count++] = *denial;
	}
}

static void denied(struct hk_fuse_owner *owner, const struct hk_fuse_denial *denial)
{
	struct hk_denials *denials = hk_container_of(owner, struct hk_denials, owner);
	struct hk_denial copy = {.error = denial->error};
	const char *path = denial->path == NULL ? "" : denial->path;

	if (denial->by_rules) {
		/* The audit keeps it; the user reads of it there. */
		if (denials->box_owner != NULL && denials->box_owner->violated != NULL) {
			denials->box_owner->violated(denials->box_owner);
		}
		return;
	}
	if (denial->export_name == NULL || !hk_export_is_share(denial->export_name)) {
		return;
	}
	while (*path == '/') {
		path++;
	}
	hk_fmt(copy.export_name, sizeof(copy.export_name), "%s", denial->export_name);
	hk_fmt(copy.path, sizeof(copy.path), "%s", path);
	hk_fmt(copy.operation, sizeof(copy.operation), "%s", denial->operation);
	pthread_mutex_lock(&denials->lock);
	keep_locked(denials, &copy);
	pthread_mutex_unlock(&denials->lock);
}

static bool ask(struct hk_fuse_owner *owner, const char *path, const char *class_name, pid_t pid)
{
	struct hk_denials *denials = hk_container_of(owner, struct hk_denials, owner);
	struct hk_box_owner *box_owner = denials->box_owner;

	return box_owner != NULL && box_owner->ask != NULL &&
		box_owner->ask(box_owner, path, class_name, pid);
}

void hk_denials_init(struct hk_denials *denials, struct hk_box_owner *box_owner)
{
	denials->owner = (struct hk_fuse_owner){.denied = denied, .ask = ask};
	denials->box_owner = box_owner;
	pthread_mutex_init(&denials->lock, NULL);
	denials->count = 0;
	denials->total = 0;
}

void hk_denials_finish(struct hk_denials *denials)
{
	pthread_mutex_destroy(&denials->lock);
}

uint64_t hk_denials_total(struct hk_denials *denials)
{
	uint64_t total;

	pthread_mutex_lock(&denials->lock);
	total = denials->total;
	pthread_mutex_unlock(&denials->lock);
	return total;
}

static void describe(
	const struct hk_denial *denial, const struct hk_layout *layout, char *line, size_t size)
{
	const struct hk_share *share = hk_layout_share(layout, denial->export_name);
	char raw[1024];
	char place[512];

	hk_fmt(place, sizeof(place), "%s%s%s", share->guest, denial->path[0] == '\0' ? "" : "/",
		denial->path);
	if (denial->error == EROFS && !share->writable) {
		bool same = strcmp(share->host, share->guest) == 0;

		hk_fmt(raw, sizeof(raw),
			"%s %s: %s is shared read-only; allow it with -v %s%s%s:rw",
			denial->operation, place, share->guest, share->host, same ? "" : ":",
			same ? "" : share->guest);
	} else {
		hk_fmt(raw, sizeof(raw), "%s %s: the host refused it to you: %s", denial->operation,
			place, strerrordesc_np(denial->error));
	}
	hk_str_escape(line, size, raw, strlen(raw));
}

bool hk_denials_line(struct hk_denials *denials, const struct hk_layout *layout, unsigned index,
	char *line, size_t size)
{
	struct hk_denial denial;
	bool found;

	pthread_mutex_lock(&denials->lock);
	found = index < denials->count;
	if (found) {
		denial = denials->kept[index];
	}
	pthread_mutex_unlock(&denials->lock);
	if (found) {
		describe(&denial, layout, line, size);
	}
	return found;
}
