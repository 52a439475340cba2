/* SPDX-License-Identifier: ISC */
/* `hako diff`: shows what a kept layer changes. The work is in fuse/layer.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "base/util.h"
#include "cli/builtin.h"
#include "cli/layer.h"
#include "cli/opts.h"
#include "cli/report.h"
#include "fuse/layer.h"

enum { OPT_SUMMARY, OPT_HELP, OPT_COUNT };

static const struct hk_opt table[OPT_COUNT] = {
	[OPT_SUMMARY] = {"summary", 's', NULL, "the list only, no text"},
	[OPT_HELP] = {"help", 'h', NULL, "this"},
};

struct request {
	struct hk_layer *layer;
	char **paths;
	bool summary;
	bool on_terminal;
	struct hk_err *err;
};

static void print_help(void)
{
	puts("usage: hako diff [-s] NAME [PATH]...\n\n"
	     "Shows what layer NAME changes: a list (A added, C changed, D deleted, M metadata "
	     "only,\n"
	     "R renamed directory, with '!' where hako apply would leave it), then the changes as "
	     "text.\n");
	hk_opts_print(stdout, table, OPT_COUNT);
}

static bool is_asked_for(const struct request *request, const struct hk_change *change)
{
	return hk_cli_path_is_among(request->paths, change->path) ||
		(change->kind == HK_CHANGE_RENAMED &&
			hk_cli_path_is_among(request->paths, change->old_path));
}

static int print_line(void *arg, const struct hk_change *change)
{
	static const char letters[] = {[HK_CHANGE_ADDED] = 'A',
		[HK_CHANGE_CHANGED] = 'C',
		[HK_CHANGE_DELETED] = 'D',
		[HK_CHANGE_METADATA] = 'M',
		[HK_CHANGE_RENAMED] = 'R'};
	struct request *request = arg;
	const struct stat *st = change->kind == HK_CHANGE_DELETED ? &change->lower : &change->upper;
	char path[8192];

	if (!is_asked_for(request, change)) {
		return 0;
	}
	printf("%c%c ", letters[change->kind], change->conflict || change->loses_owner ? '!' : ' ');
	if (change->kind == HK_CHANGE_RENAMED) {
		hk_str_escape(path, sizeof(path), change->old_path, strlen(change->old_path));
		printf("%s/ -> ", path);
	}
	hk_str_escape(path, sizeof(path), change->path, strlen(change->path));
	printf("%s%s%s\n", path, S_ISDIR(st->st_mode) ? "/" : "",
		change->replaces ? " (in place of what is there)" : "");
	return 0;
}

/* A terminal gets no control characters of what a program has written. */
static void print_escaped(const char *text, size_t len)
{
	while (len > 0) {
		const char *end = memchr(text, '\n', len);
		size_t n = end != NULL ? (size_t)(end - text) : len;

		for (size_t at = 0; at < n;) {
			size_t part = HK_MIN(n - at, (size_t)1000);
			char line[4 * 1000 + 1];
			const char *tab = memchr(text + at, '\t', part);

			if (tab != NULL) {
				part = (size_t)(tab - text) - at;
			}
			hk_str_escape(line, sizeof(line), text + at, part);
			fputs(line, stdout);
			at += part;
			if (tab != NULL) {
				putchar('\t');
				at++;
			}
		}
		if (end == NULL) {
			return;
		}
		putchar('\n');
		text += n + 1;
		len -= n + 1;
	}
}

static int print_text(void *arg, const struct hk_change *change)
{
	struct request *request = arg;
	autofree char *text = NULL;
	size_t len = 0;
	FILE *memory;
	int r;

	if (!is_asked_for(request, change)) {
		return 0;
	}
	if (!request->on_terminal) {
		return hk_layer_diff(request->layer, change, stdout, request->err);
	}
	memory = open_memstream(&text, &len);
	if (memory == NULL) {
		return hk_fail(request->err, errno, "memory");
	}
	r = hk_layer_diff(request->layer, change, memory, request->err);
	if (fclose(memory) != 0 && r == 0) {
		r = hk_fail(request->err, errno, "memory");
	}
	if (r == 0) {
		print_escaped(text, len);
	}
	return r;
}

static int execute(struct request *request, char **words, struct hk_err *err)
{
	autofree char *lower = NULL;
	int r = hk_cli_open_layer(words[0], &request->layer, &lower, err);

	if (r < 0) {
		return r;
	}
	r = hk_cli_layer_paths(words + 1, lower, &request->paths, err);
	if (r == 0) {
		r = hk_layer_each(request->layer, print_line, request, err);
	}
	if (r == 0 && !request->summary) {
		r = hk_layer_each(request->layer, print_text, request, err);
	}
	hk_cli_free_paths(request->paths);
	hk_layer_close(request->layer);
	return r;
}

int hk_cmd_diff(char **argv)
{
	struct hk_err err = HK_ERR_INIT;
	struct request request = {.on_terminal = isatty(STDOUT_FILENO) != 0, .err = &err};
	struct hk_opts opts;
	const char *value;
	int option;

	hk_opts_init(&opts, "diff", table, OPT_COUNT, argv);
	while ((option = hk_opts_next(&opts, &value, &err)) != HK_OPTS_END) {
		switch (option) {
		case OPT_SUMMARY:
			request.summary = true;
			break;
		case OPT_HELP:
			print_help();
			return HK_STATUS_OK;
		default:
			return hk_report_err("diff", &err, HK_STATUS_USAGE);
		}
	}
	if (argv[opts.next] == NULL) {
		hk_report("diff", "which layer? See hako layers, hako diff --help");
		return HK_STATUS_USAGE;
	}
	return execute(&request, argv + opts.next, &err) < 0
		? hk_report_err("diff", &err, HK_STATUS_FAILURE)
		: HK_STATUS_OK;
}
