/* SPDX-License-Identifier: ISC */
/*
 * `hako doctor`: what this host can do, and why not. One line for each check: what, verdict, why;
 * where something is missing, what to do about it on the line below.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "base/util.h"
#include "box/box.h"
#include "box/confine.h"
#include "cli/builtin.h"
#include "cli/opts.h"
#include "cli/report.h"
#include "engine/engine.h"
#include "kernel/kernel.h"
#include "trace/sandbox_linux.h"

enum { MAX_ENGINES = 8 };

/* What a check found. BAD: boxes cannot run. */
enum verdict { GOOD, NOTE, BAD };

struct finding {
	enum verdict verdict;
	char why[320];
	char hint[320]; /* may be empty */
};

static void find(struct finding *finding, enum verdict verdict, const char *why, const char *hint)
{
	finding->verdict = verdict;
	hk_fmt(finding->why, sizeof(finding->why), "%s", why);
	hk_fmt(finding->hint, sizeof(finding->hint), "%s", hint);
}

static void find_err(struct finding *finding, enum verdict verdict, const struct hk_err *err)
{
	find(finding, verdict, hk_err_text(err), err->hint);
}

static void check_kernel(struct finding *finding)
{
	struct hk_err err = HK_ERR_INIT;
	struct hk_kernel_store *store;
	struct hk_kernel_info info;
	char why[320];

	if (hk_kernel_store_open(NULL, &store, &err) < 0) {
		find_err(finding, BAD, &err);
		return;
	}
	if (hk_kernel_find(store, NULL, &info, &err) < 0) {
		find_err(finding, BAD, &err);
	} else {
		hk_fmt(why, sizeof(why), "%s (%s)", info.release,
			hk_kernel_flavour_name(info.flavour));
		find(finding, GOOD, why, "");
	}
	hk_kernel_store_close(store);
}

static void check_agent(struct finding *finding)
{
	size_t len;

	hk_guest_blob(&len);
	if (len == 0) {
		find(finding, BAD, "this hako was built without its guest agent",
			"build it again with musl-gcc installed (package musl-tools)");
	} else {
		find(finding, GOOD, "built in", "");
	}
}

static void check_memory(struct finding *finding)
{
	uint64_t total_bytes;
	uint64_t available_bytes;
	char why[320];

	hk_box_host_memory(&total_bytes, &available_bytes);
	hk_fmt(why, sizeof(why),
		"%" PRIu64 " MiB, %" PRIu64 " MiB available; a box gets %" PRIu64 " MiB by default",
		total_bytes / HK_MIB, available_bytes / HK_MIB,
		hk_box_default_memory(available_bytes) / HK_MIB);
	if (available_bytes < HK_BOX_MIN_MEMORY_BYTES) {
		find(finding, NOTE, why, "end some programs before you run boxes");
	} else {
		find(finding, GOOD, why, "");
	}
}

static void check_files(struct finding *finding)
{
	struct rlimit limit;
	char why[320];

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0) {
		find(finding, NOTE, strerror(errno), "");
		return;
	}
	hk_fmt(why, sizeof(why), "%" PRIu64 " may be open at once", (uint64_t)limit.rlim_max);
	if (limit.rlim_max < 4096) {
		find(finding, NOTE, why,
			"raise the hard limit (ulimit -Hn) for large shared trees");
	} else {
		find(finding, GOOD, why, "");
	}
}

static void check_uring(struct finding *finding)
{
	/* No parameters: where io_uring may be used at all, that is what it complains of. */
	if (syscall(SYS_io_uring_setup, 1, NULL) < 0 && errno == EFAULT) {
		find(finding, GOOD, "io_uring serves them", "");
	} else {
		find(finding, NOTE, "no io_uring here: threads serve them, a little slower", "");
	}
}

static void check_confinement(struct finding *finding)
{
	char why[HK_CONFINE_TEXT_SIZE];

	if (hk_confine_probe(why)) {
		find(finding, GOOD, why, "");
	} else {
		find(finding, NOTE, why,
			"a kernel that has both holds hako back should a guest take it over");
	}
}

static void check_trace(struct finding *finding)
{
	struct hk_err err = HK_ERR_INIT;

	if (hk_sandbox_probe(&err) < 0) {
		find_err(finding, NOTE, &err);
	} else {
		find(finding, GOOD,
			geteuid() == 0 ? "/dev/fuse can be mounted"
				       : "/dev/fuse can be mounted, in a user namespace",
			"");
	}
}

static const struct {
	const char *name;
	void (*check)(struct finding *finding);
} checks[] = {
	{"kernel", check_kernel},
	{"agent", check_agent},
	{"memory", check_memory},
	{"files", check_files},
	{"disks", check_uring},
	{"confinement", check_confinement},
	{"trace", check_trace},
};

static void print(const char *name, const struct finding *finding)
{
	static const char *const words[] = {[GOOD] = "ok", [NOTE] = "note", [BAD] = "no"};

	printf("%-12s %-5s %s\n", name, words[finding->verdict], finding->why);
	if (finding->hint[0] != '\0') {
		printf("%-12s %-5s -> %s\n", "", "", finding->hint);
	}
}

/*
 * HAKO_ENGINE asks for @wish, and boxes get that or nothing; without it they would get @other,
 * which may be NULL. Return: the engine's name, or NULL.
 */
static const char *check_wish(
	const char *wish, const char *other, const struct hk_engine_probe *probes, unsigned count)
{
	size_t len = strcspn(wish, ",");
	struct finding finding = {.verdict = BAD};
	const char *chosen = NULL;

	hk_fmt(finding.why, sizeof(finding.why), "asks for '%s', which this hako does not have",
		wish);
	for (unsigned i = 0; i < count; i++) {
		if (strlen(probes[i].name) != len || memcmp(probes[i].name, wish, len) != 0) {
			continue;
		}
		if (probes[i].usable) {
			chosen = probes[i].name;
			finding.verdict = GOOD;
		}
		hk_fmt(finding.why, sizeof(finding.why), "asks for '%s'%s", wish,
			probes[i].usable ? "" : ", which cannot be used: see above");
	}
	if (chosen == NULL && other != NULL) {
		hk_fmt(finding.hint, sizeof(finding.hint), "unset it, or set it to '%s'", other);
	}
	print("HAKO_ENGINE", &finding);
	return chosen;
}

/*
 * One usable engine is enough; the others explain themselves. Boxes get the first usable one, or
 * the one that HAKO_ENGINE names.
 */
static const char *check_engines(void)
{
	const char *wish = getenv("HAKO_ENGINE");
	struct hk_engine_probe probes[MAX_ENGINES];
	unsigned count = hk_engine_probe_all(probes, HK_ARRAY_SIZE(probes));
	const char *chosen = NULL;

	for (unsigned i = 0; i < count; i++) {
		if (chosen == NULL && probes[i].usable) {
			chosen = probes[i].name;
		}
	}
	for (unsigned i = 0; i < count; i++) {
		struct finding finding;
		char name[32];
		enum verdict missing = chosen != NULL ? NOTE : BAD;

		hk_fmt(name, sizeof(name), "engine %s", probes[i].name);
		find(&finding, probes[i].usable ? GOOD : missing, probes[i].reason, probes[i].hint);
		print(name, &finding);
	}
	if (wish != NULL && wish[0] != '\0') {
		chosen = check_wish(wish, chosen, probes, count);
	}
	return chosen;
}

static int examine(void)
{
	const char *engine = check_engines();
	bool good = engine != NULL;

	for (size_t i = 0; i < HK_ARRAY_SIZE(checks); i++) {
		struct finding finding;

		checks[i].check(&finding);
		print(checks[i].name, &finding);
		good &= finding.verdict != BAD;
	}
	if (good) {
		printf("\nBoxes can run here, with the engine '%s'.\n", engine);
	} else {
		puts("\nBoxes cannot run here: see what is marked 'no'.");
	}
	return good ? HK_STATUS_OK : HK_STATUS_NO;
}

enum { OPT_HELP };

static const struct hk_opt options[] = {
	[OPT_HELP] = {"help", 'h', NULL, "this"},
};

int hk_cmd_doctor(char **argv)
{
	struct hk_err err = HK_ERR_INIT;
	struct hk_opts opts;
	const char *value;

	hk_opts_init(&opts, "doctor", options, HK_ARRAY_SIZE(options), argv);
	switch (hk_opts_next(&opts, &value, &err)) {
	case OPT_HELP:
		puts("usage: hako doctor\n\nSays what this host can do, and why not. The exit "
		     "status is 0 if boxes "
		     "can run, else 1.");
		return HK_STATUS_OK;
	case HK_OPTS_END:
		return examine();
	default:
		return hk_report_err("doctor", &err, HK_STATUS_USAGE);
	}
}
