/* SPDX-License-Identifier: ISC */
/*
 * What Gentoo's sandbox wants to know of a process: its environment, and for the log its command
 * line and the path that it gave.
 *
 * Theory: for all of these the kernel takes the lock of the process's memory map, which one of its
 * threads may hold while it waits for us to read a page. So they are errands: who judges holds no
 * lock meanwhile, waits no longer than a second, and goes on without what it could not learn.
 */
#include <stdlib.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/str.h"
#include "base/sys.h"
#include "base/util.h"
#include "trace/errand.h"
#include "trace/gentoo.h"

enum { TEXT_MAX = 4 << 20, PATIENCE_MS = 1000 };

/**
 * struct look - @file: of /proc/PID; @text: what is in it, malloc'd
 * @real: for hk_gentoo_passed(), owned; NULL: that is not wanted
 */
struct look {
	struct hk_errand errand;
	pid_t pid;
	const char *file;
	char *real;
	char *text;
	size_t len;
	struct hk_gentoo_words words;
};

static void free_look(struct hk_errand *errand)
{
	struct look *look = hk_container_of(errand, struct look, errand);

	free(look->real);
	free(look->text);
	free(look->words.passed);
	free(look->words.absolute);
	free(look);
}

static void work(struct hk_errand *errand)
{
	struct look *look = hk_container_of(errand, struct look, errand);
	char path[48];
	void *data = NULL;

	hk_fmt(path, sizeof(path), "/proc/%d/%s", (int)look->pid, look->file);
	if (hk_read_file(path, TEXT_MAX, &data, &look->len, NULL) == 0) {
		look->text = data;
	}
	if (look->real != NULL) {
		hk_gentoo_passed(look->pid, look->real, &look->words.passed, &look->words.absolute);
	}
}

/* Return: NULL where there was no time for it. */
static struct look *look_at(pid_t pid, const char *file, const char *real)
{
	struct look *look;

	if (hk_new(look) == NULL) {
		return NULL;
	}
	look->errand.work = work;
	look->errand.free = free_look;
	look->pid = pid;
	look->file = file;
	look->real = real != NULL ? hk_strdup(real) : NULL;
	return hk_errand_run(&look->errand, PATIENCE_MS) ? look : NULL;
}

char *hk_gentoo_environ(pid_t pid, size_t *ret_len)
{
	struct look *look = look_at(pid, "environ", NULL);
	char *text = NULL;

	if (look != NULL) {
		*ret_len = look->len;
		text = take_ptr(look->text);
		free_look(&look->errand);
	}
	return text;
}

void hk_gentoo_words(pid_t tid, const char *real, struct hk_gentoo_words *ret_words)
{
	struct look *look = look_at(tid, "cmdline", real);

	*ret_words = (struct hk_gentoo_words){0};
	if (look == NULL) {
		return;
	}
	for (size_t i = 0; look->text != NULL && i < look->len; i++) {
		look->text[i] = look->text[i] == '\0' ? ' ' : look->text[i];
	}
	ret_words->command = take_ptr(look->text);
	ret_words->passed = take_ptr(look->words.passed);
	ret_words->absolute = take_ptr(look->words.absolute);
	free_look(&look->errand);
}

void hk_gentoo_words_finish(struct hk_gentoo_words *words)
{
	free(words->command);
	free(words->passed);
	free(words->absolute);
}
