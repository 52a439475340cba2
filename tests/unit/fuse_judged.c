/* SPDX-License-Identifier: ISC */
/* A server under rules: see fuse_judged.h. */
#include "fuse_judged.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

struct fc fc;
struct hk_rules *rules;
struct hk_audit *audit;
char log_text[65536];
static int log_fd = -1;

struct hk_rules *parse(const char *policy)
{
	struct hk_err err = HK_ERR_INIT;
	struct hk_rules_env none = {0};
	struct hk_rules *made = NULL;

	if (hk_rules_parse("test", policy, &none, &made, &err) < 0) {
		fprintf(stderr, "%s\n", hk_err_text(&err));
		abort();
	}
	return made;
}

static void start_audit(void)
{
	struct hk_audit_options options = {.rules = rules};
	struct hk_err err = HK_ERR_INIT;
	char path[] = "/tmp/hako-judged-XXXXXX";

	log_fd = mkstemp(path);
	must(log_fd >= 0);
	unlink(path);
	options.log_fd = log_fd;
	must(hk_audit_create(&options, &audit, &err) == 0);
}

void start_with(struct hk_rules *made, bool with_audit, bool read_only)
{
	struct hk_fuse_export export = {.root = "/x", .rules = made, .read_only = read_only};

	must(made != NULL);
	rules = made;
	if (with_audit) {
		start_audit();
	}
	export.audit = audit;
	fc_start(&fc, &export, FC_FEATURES);
}

void start(const char *policy)
{
	start_with(parse(policy), true, false);
}

void start_without_audit(const char *policy)
{
	start_with(parse(policy), false, false);
}

void stop(void)
{
	fc_stop(&fc);
	hk_audit_free(audit);
	hk_rules_free(rules);
	audit = NULL;
	if (log_fd >= 0) {
		close(log_fd);
	}
	log_fd = -1;
}

const char *read_log(void)
{
	struct hk_err err = HK_ERR_INIT;
	ssize_t len;

	must(hk_audit_finish(audit, &err) == 0);
	len = pread(log_fd, log_text, sizeof(log_text) - 1, 0);
	must(len >= 0);
	log_text[len] = '\0';
	return log_text;
}

int open_of(const char *name, int flags)
{
	struct fuse_open_out out;
	uint64_t node = fc_node(&fc, fc.root, name);
	int r;

	if (node == 0) {
		return -ENOENT;
	}
	r = fc_open(&fc, node, flags, &out);
	if (r == 0) {
		fc_release(&fc, node, out.fh);
	}
	return r;
}
