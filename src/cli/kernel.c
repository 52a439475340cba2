/* SPDX-License-Identifier: ISC */
/* `hako kernel`: get and manage the kernels that boxes boot. The work is in kernel/. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/util.h"
#include "cli/builtin.h"
#include "cli/opts.h"
#include "cli/report.h"
#include "kernel/kernel.h"

enum { OPT_FULL, OPT_FROM_HOST, OPT_KERNEL, OPT_MODULES, OPT_HELP, OPT_COUNT };

static const struct hk_opt table[OPT_COUNT] = {
	[OPT_FULL] = {"full", 0, NULL,
		"fetch: linux-image-amd64 instead of linux-image-cloud-amd64"},
	[OPT_FROM_HOST] = {"from-host", 0, NULL, "fetch: this host's own, out of /boot"},
	[OPT_KERNEL] = {"kernel", 0, "FILE", "fetch: a bzImage or an ELF vmlinux"},
	[OPT_MODULES] = {"modules", 0, "DIR", "fetch: its modules (default: /lib/modules/RELEASE)"},
	[OPT_HELP] = {"help", 'h', NULL, "this"},
};

struct request {
	struct hk_kernel_store *store;
	struct hk_kernel_progress progress;
	bool on_terminal;
	bool full;
	bool from_host;
	const char *file;
	const char *modules_dir;
	const char *name; /* what stands after the subverb, or NULL */
};

static void print_help(void)
{
	puts("usage: hako kernel fetch [--full | --from-host | --kernel FILE [--modules DIR]]\n"
	     "       hako kernel list\n"
	     "       hako kernel show [KERNEL]\n"
	     "       hako kernel remove KERNEL\n\n"
	     "Gets and manages the kernels that boxes boot. KERNEL is an id, a release, or the\n"
	     "beginning of one.\n");
	hk_opts_print(stdout, table, OPT_COUNT);
}

static void step(struct hk_kernel_progress *progress, const char *what, int percent)
{
	struct request *request = hk_container_of(progress, struct request, progress);

	if (!request->on_terminal) {
		if (percent <= 0) {
			fprintf(stderr, "hako kernel: %s\n", what);
		}
		return;
	}
	fprintf(stderr, "\r\033[K");
	if (percent >= 0) {
		fprintf(stderr, "%s: %d %%", what, percent);
	} else {
		fputs(what, stderr);
	}
}

static void end_progress(const struct request *request)
{
	if (request->on_terminal) {
		fprintf(stderr, "\r\033[K");
	}
}

static int fetch(struct request *request, struct hk_err *err)
{
	struct hk_kernel_info info;
	int r;

	if (request->from_host) {
		r = hk_kernel_import_host(request->store, &request->progress, &info, err);
	} else if (request->file != NULL) {
		r = hk_kernel_import_file(request->store, request->file, request->modules_dir,
			&request->progress, &info, err);
	} else {
		r = hk_kernel_fetch(request->store,
			request->full ? HK_KERNEL_FULL : HK_KERNEL_CLOUD, &request->progress, &info,
			err);
	}
	end_progress(request);
	if (r == 0) {
		printf("%s  %s  %s\n", info.id, info.release, info.source);
	}
	return r;
}

static int list(struct request *request, struct hk_err *err)
{
	autofree struct hk_kernel_info *infos = NULL;
	size_t count;
	int r = hk_kernel_list(request->store, &infos, &count, err);

	for (size_t i = 0; r == 0 && i < count; i++) {
		printf("%s  %-6s %5" PRIu64 " MiB  %-28s %s\n", infos[i].id,
			hk_kernel_flavour_name(infos[i].flavour), infos[i].bytes / HK_MIB,
			infos[i].release, infos[i].source);
	}
	return r;
}

static int show(struct request *request, struct hk_err *err)
{
	struct hk_kernel_info info;
	char date[32] = "?";
	struct tm local;
	time_t added;
	int r = hk_kernel_find(request->store, request->name, &info, err);

	if (r < 0) {
		return r;
	}
	added = (time_t)info.added_s;
	if (localtime_r(&added, &local) != NULL) {
		strftime(date, sizeof(date), "%Y-%m-%d %H:%M", &local);
	}
	printf("id       %s\nrelease  %s\nflavour  %s\nsource   %s\nadded    %s\n", info.id,
		info.release, hk_kernel_flavour_name(info.flavour), info.source, date);
	printf("size     %" PRIu64 " MiB\nmodules  %u\nentry    %s\nplace    %s/%s\n",
		info.bytes / HK_MIB, info.module_count, info.pvh ? "PVH" : "64-bit",
		hk_kernel_store_dir(request->store), info.id);
	return 0;
}

static int forget(struct request *request, struct hk_err *err)
{
	struct hk_kernel_info info;
	int r = hk_kernel_find(request->store, request->name, &info, err);

	return r == 0 ? hk_kernel_remove(request->store, info.id, err) : r;
}

static const struct subverb {
	const char *name;
	int (*run)(struct request *request, struct hk_err *err);
	bool takes_name;
	bool needs_name;
	bool takes_options;
} subverbs[] = {
	{"fetch", fetch, .takes_options = true},
	{"list", list},
	{"show", show, .takes_name = true},
	{"remove", forget, .takes_name = true, .needs_name = true},
};

static const struct subverb *find_subverb(const char *name)
{
	for (size_t i = 0; name != NULL && i < HK_ARRAY_SIZE(subverbs); i++) {
		if (strcmp(subverbs[i].name, name) == 0) {
			return &subverbs[i];
		}
	}
	return NULL;
}

static int usage(const char *what)
{
	hk_report("kernel", "%s; see hako kernel --help", what);
	return HK_STATUS_USAGE;
}

/* Return: -1 to go on, or an exit status. */
static int parse_options(struct request *request, struct hk_opts *opts)
{
	struct hk_err err = HK_ERR_INIT;
	const char *value;
	int option;

	while ((option = hk_opts_next(opts, &value, &err)) != HK_OPTS_END) {
		switch (option) {
		case OPT_FULL:
			request->full = true;
			break;
		case OPT_FROM_HOST:
			request->from_host = true;
			break;
		case OPT_KERNEL:
			request->file = value;
			break;
		case OPT_MODULES:
			request->modules_dir = value;
			break;
		case OPT_HELP:
			print_help();
			return HK_STATUS_OK;
		default:
			return hk_report_err("kernel", &err, HK_STATUS_USAGE);
		}
	}
	return -1;
}

static bool has_options(const struct request *request)
{
	return request->full || request->from_host || request->file != NULL ||
		request->modules_dir != NULL;
}

static int check(const struct request *request, const struct subverb *subverb, char **rest)
{
	unsigned sources = (unsigned)request->full + request->from_host + (request->file != NULL);

	if (rest[0] != NULL && (!subverb->takes_name || rest[1] != NULL)) {
		return usage("too many words");
	}
	if (rest[0] == NULL && subverb->needs_name) {
		return usage("which kernel?");
	}
	if (has_options(request) && !subverb->takes_options) {
		return usage("this verb takes no options");
	}
	if (sources > 1 || (request->modules_dir != NULL && request->file == NULL)) {
		return usage("these options do not go together");
	}
	return -1;
}

static int execute(struct request *request, const struct subverb *subverb)
{
	struct hk_err err = HK_ERR_INIT;
	int r = hk_kernel_store_open(NULL, &request->store, &err);

	if (r == 0) {
		r = subverb->run(request, &err);
		hk_kernel_store_close(request->store);
	}
	return r < 0 ? hk_report_err("kernel", &err, HK_STATUS_FAILURE) : HK_STATUS_OK;
}

int hk_cmd_kernel(char **argv)
{
	struct request request = {.progress.step = step, .on_terminal = isatty(STDERR_FILENO) != 0};
	const struct subverb *subverb;
	struct hk_opts opts;
	char **words;
	int status;

	hk_opts_init(&opts, "kernel", table, OPT_COUNT, argv);
	status = parse_options(&request, &opts); /* before the subverb */
	if (status >= 0) {
		return status;
	}
	words = argv + opts.next;
	subverb = find_subverb(words[0]);
	if (subverb == NULL) {
		return usage(words[0] == NULL ? "what about it?" : "no such verb");
	}
	hk_opts_init(&opts, "kernel", table, OPT_COUNT, words);
	status = parse_options(&request, &opts);
	if (status < 0) {
		request.name = words[opts.next];
		status = check(&request, subverb, words + opts.next);
	}
	return status < 0 ? execute(&request, subverb) : status;
}
