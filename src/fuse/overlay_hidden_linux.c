/* SPDX-License-Identifier: ISC */
/*
 * What a layer hid first: see overlay_impl.h, and layer_scan_linux.c, which reads it.
 *
 * Theory: hako apply must know whether what stands below is still what the run saw there. Times do
 * not tell: a second run makes whiteouts and files anew, and many things happen within one tick of
 * the kernel's clock. So at the moment when something below is shown no more (a whiteout, a copy,
 * something else at its name), a line goes into the layer's file `hidden`: a digest of what it was,
 * without its path, for hako apply renames directories. A name is hidden once only, until it is
 * applied, so the file has a line for each at most. What has no line was never seen by a run.
 *
 * Limits: the line is written after the fact, and its failure is no error: what is killed, or has
 * no space, in between leaves a change that is taken for a conflict.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/hash.h"
#include "base/str.h"
#include "base/sys.h"
#include "fuse/overlay_impl.h"

enum { LINE = 17, LINES = 1024 };

static uint64_t digest(const uint64_t *numbers, size_t count)
{
	return hk_hash_bytes(HK_HASH_START, numbers, count * sizeof(*numbers));
}

static uint64_t digest_of_file(uint64_t ino, int64_t born_ns, int64_t ctime_ns, uint64_t size)
{
	return digest((uint64_t[]){ino, (uint64_t)born_ns, (uint64_t)ctime_ns, size}, 4);
}

uint64_t hk_ov_digest(const struct hk_stat *st)
{
	if (!S_ISDIR(st->mode)) {
		return digest_of_file(st->ino, st->born_ns, hk_timespec_ns(st->ctime), st->size);
	}
	/* Its times change with what is in it, and that has lines of its own. */
	return digest((uint64_t[]){st->ino, (uint64_t)st->born_ns, st->mode, st->uid, st->gid}, 5);
}

uint64_t hk_ov_record_digest(const struct hk_ov_record *record)
{
	return digest_of_file(record->id.ino, record->id.born_ns, record->ctime_ns, record->size);
}

void hk_ov_note_hidden(struct hk_overlay *ov, uint64_t what)
{
	char line[LINE + 1];

	if (ov->hidden >= 0) {
		hk_fmt(line, sizeof(line), "%016" PRIx64 "\n", what);
		/* seccomp write: write */
		hk_write_full(ov->hidden, line, LINE);
	}
}

void hk_ov_note_found_hidden(struct hk_overlay *ov, const struct hk_ov_found *found)
{
	if (found->by_index) {
		hk_ov_note_hidden(ov, hk_ov_record_digest(&found->record));
	} else if (!found->has_upper) {
		hk_ov_note_hidden(ov, hk_ov_digest(&found->lower));
	}
}

void hk_ov_note_dir_hidden(struct hk_overlay *ov, const struct hk_ov_inode *dir)
{
	struct hk_stat st;

	if (ov->hidden >= 0 && dir->lower >= 0 &&
		ov->host->ops->stat(ov->host, dir->lower, &st) == 0) {
		hk_ov_note_hidden(ov, hk_ov_digest(&st));
	}
}

/* --- reading --- */

static int by_value(const void *a, const void *b)
{
	const uint64_t *x = a;
	const uint64_t *y = b;

	return *x < *y ? -1 : *x > *y;
}

static int add_line(struct hk_ov_hidden *hidden, const char *text)
{
	if (hidden->count == hidden->cap) {
		size_t cap = hidden->cap == 0 ? LINES : hidden->cap * 2;
		uint64_t *list = hk_realloc_array(hidden->list, cap, sizeof(*list));

		if (list == NULL) {
			return -ENOMEM;
		}
		hidden->list = list;
		hidden->cap = cap;
	}
	hidden->list[hidden->count++] = strtoull(text, NULL, 16);
	return 0;
}

int hk_ov_hidden_read(struct hk_overlay *ov, struct hk_ov_hidden *hidden)
{
	autofree char *buf = hk_malloc((size_t)LINE * LINES + 1);
	uint64_t offset = 0;
	ssize_t n;
	int r = buf == NULL ? -ENOMEM : 0;

	*hidden = (struct hk_ov_hidden){.is_known = ov->hidden >= 0};
	while (r == 0 && hidden->is_known) {
		n = hk_pread_full(ov->hidden, buf, (size_t)LINE * LINES, offset);
		if (n < LINE) {
			r = n < 0 ? (int)n : 0;
			break;
		}
		buf[n] = '\0';
		for (ssize_t at = 0; r == 0 && at + LINE <= n; at += LINE) {
			r = add_line(hidden, buf + at);
		}
		offset += (uint64_t)n;
	}
	if (hidden->count > 1) {
		qsort(hidden->list, hidden->count, sizeof(hidden->list[0]), by_value);
	}
	if (r < 0) {
		hk_ov_hidden_finish(hidden);
	}
	return r;
}

bool hk_ov_hidden_has(const struct hk_ov_hidden *hidden, uint64_t what)
{
	return hidden->count > 0 &&
		bsearch(&what, hidden->list, hidden->count, sizeof(what), by_value) != NULL;
}

void hk_ov_hidden_finish(struct hk_ov_hidden *hidden)
{
	free(hidden->list);
	*hidden = (struct hk_ov_hidden){0};
}
