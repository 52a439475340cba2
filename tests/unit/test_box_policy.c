/* SPDX-License-Identifier: ISC */
/* Rules and audit of a box, as they are made of its configuration. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/str.h"
#include "base/sys.h"
#include "base/util.h"
#include "box/policy.h"

static const char machine_id[] = "0123456789abcdef0123456789abcdef";
static char *const argv[] = {(char *)"true", NULL};

/*
 * dir/src (a directory), dir/src/hidden, dir/file, dir/layer, dir/policy; and dir/host, a system
 * with /usr and /etc.
 */
static char dir[64];
static char paths[8][128];

static const char *in_dir(unsigned slot, const char *name)
{
	hk_fmt(paths[slot], sizeof(paths[slot]), "%s/%s", dir, name);
	return paths[slot];
}

static void put(const char *name, const char *content)
{
	assert_int_equal(
		hk_write_file_atomic(in_dir(7, name), content, strlen(content), 0644, NULL), 0);
}

static int make_dir(void **state)
{
	static const char *const names[] = {"host/usr", "host/etc", "src/hidden", "layer"};

	hk_fmt(dir, sizeof(dir), "/tmp/hako-policy-XXXXXX");
	assert_non_null(mkdtemp(dir));
	for (size_t i = 0; i < HK_ARRAY_SIZE(names); i++) {
		assert_int_equal(hk_mkdir_p(in_dir(7, names[i]), 0755, NULL), 0);
	}
	put("file", "");
	return 0;
}

static int remove_dir(void **state)
{
	char command[128];

	hk_fmt(command, sizeof(command), "rm -rf %s", dir);
	return system(command);
}

struct fixture {
	struct hk_share shares[2];
	struct hk_box_config config;
	struct hk_box_owner owner;
	struct hk_layout layout;
	struct hk_box_policy policy;
	struct hk_err err;
	unsigned layer_count;             /* that were asked for */
	bool src_is_fixed, file_is_fixed; /* read-only */
};

static int layer(struct hk_box_owner *owner, const struct hk_share *share, const char **ret_path,
	struct hk_err *err)
{
	struct fixture *f = hk_container_of(owner, struct fixture, owner);

	f->layer_count++;
	*ret_path = in_dir(6, "layer");
	return 0;
}

/*
 * A box with dir/src as /src, writable, and dir/file as /file. @text: the policy, or NULL. Return:
 * what making gave
 */
static int make(struct fixture *f, const char *text)
{
	f->err = HK_ERR_INIT;
	f->shares[0] = (struct hk_share){
		.host = in_dir(0, "src"), .guest = "/src", .writable = !f->src_is_fixed};
	f->shares[1] = (struct hk_share){
		.host = in_dir(1, "file"), .guest = "/file", .writable = !f->file_is_fixed};
	f->owner.layer = layer;
	f->config = (struct hk_box_config){
		.owner = &f->owner,
		.argv = argv,
		.caller_uid = 1234,
		.caller_gid = 1234,
		.caller_name = "me",
		.caller_dir = in_dir(0, "src"),
		.caller_home = f->config.caller_home,
		.shares = f->shares,
		.share_count = 2,
		.log_fd = -1,
		.hidden = {f->config.hidden[0], f->config.hidden[1]},
		.hidden_count = f->config.hidden_count,
		.has_audit = f->config.has_audit,
	};
	if (text != NULL) {
		put("policy", text);
		f->config.policy = in_dir(2, "policy");
	}
	assert_int_equal(
		hk_layout_make(&f->layout, &f->config, in_dir(3, "host"), machine_id, &f->err), 0);
	return hk_box_policy_make(&f->policy, &f->layout, &f->err);
}

static void drop(struct fixture *f)
{
	hk_box_policy_finish(&f->policy);
	hk_layout_finish(&f->layout);
}

static const struct hk_fuse_export *export_at(const struct fixture *f, const char *root)
{
	for (unsigned i = 0; i < f->layout.export_count; i++) {
		if (strcmp(f->layout.exports[i].root, root) == 0) {
			return &f->layout.exports[i];
		}
	}
	fail_msg("no export at %s", root);
	return NULL;
}

static enum hk_verdict verdict_at(const struct fixture *f, const char *path, enum hk_class class)
{
	hk_place place = hk_rules_root(f->policy.rules);
	char copy[128];
	char *rest = copy;
	char *name;

	hk_fmt(copy, sizeof(copy), "%s", path + 1);
	while ((name = strsep(&rest, "/")) != NULL) {
		place = hk_rules_step(f->policy.rules, place, name);
	}
	return hk_rules_at(f->policy.rules, place, class).verdict;
}

static void expect_error(struct fixture *f, const char *text, const char *wanted)
{
	assert_int_equal(make(f, text), -EINVAL);
	if (strstr(hk_err_text(&f->err), wanted) == NULL) {
		fail_msg("'%s' is not in '%s'", wanted, hk_err_text(&f->err));
	}
	drop(f);
}

/* A box of which nothing was asked has neither rules nor an audit, and costs nothing. */
static void without(void **state)
{
	struct fixture f = {0};

	assert_int_equal(make(&f, NULL), 0);
	assert_null(f.policy.rules);
	assert_null(f.policy.audit);
	assert_null(export_at(&f, "/src")->rules);
	assert_null(export_at(&f, "/usr")->audit);
	drop(&f);
}

static void one_for_all_exports(void **state)
{
	struct fixture f = {.config.has_audit = true};

	assert_int_equal(make(&f, "deny write $PWD/x\nhide * $HOME/.ssh\ndeny read /$UID\n"), 0);
	assert_non_null(f.policy.audit);
	for (unsigned i = 0; i < f.layout.export_count; i++) {
		assert_ptr_equal(f.layout.exports[i].rules, f.policy.rules);
		assert_ptr_equal(f.layout.exports[i].audit, f.policy.audit);
	}
	assert_string_equal(export_at(&f, "/usr")->path, in_dir(4, "host/usr"));
	assert_string_equal(export_at(&f, "/src")->path, in_dir(4, "src"));
	/* The box's names: the caller's directory is a share; his home is not. */
	assert_int_equal(verdict_at(&f, "/src/x", HK_CLASS_WRITE), HK_VERDICT_DENY);
	assert_int_equal(verdict_at(&f, "/home/me/.ssh", HK_CLASS_READ), HK_VERDICT_HIDE);
	assert_int_equal(verdict_at(&f, "/1234", HK_CLASS_READ), HK_VERDICT_DENY);
	drop(&f);
}

/* Keys in a home that is shared elsewhere are meant, too. */
static void home_that_is_shared(void **state)
{
	struct fixture f = {.config.caller_home = in_dir(5, "src")};

	assert_int_equal(make(&f, "hide * $HOME/.ssh\n"), 0);
	assert_int_equal(verdict_at(&f, "/src/.ssh", HK_CLASS_READ), HK_VERDICT_HIDE);
	drop(&f);
}

/*
 * Files of ours behind a share; but not what is a share itself. They need no policy, and yield to
 * none.
 */
static void hidden(void **state)
{
	struct fixture f = {.config.hidden_count = 2};

	f.config.hidden[0] = in_dir(4, "src/hidden");
	f.config.hidden[1] = in_dir(5, "file");
	assert_int_equal(make(&f, NULL), 0);
	assert_int_equal(verdict_at(&f, "/src/hidden/x", HK_CLASS_READ), HK_VERDICT_HIDE);
	assert_int_equal(verdict_at(&f, "/src/hidde", HK_CLASS_READ), HK_VERDICT_ALLOW);
	assert_int_equal(verdict_at(&f, "/file", HK_CLASS_READ), HK_VERDICT_ALLOW);
	drop(&f);
	f = (struct fixture){.config.hidden_count = 1};
	f.config.hidden[0] = in_dir(4, "src/hidden");
	assert_int_equal(make(&f, "allow * /**\n"), 0);
	assert_int_equal(verdict_at(&f, "/src/hidden", HK_CLASS_LIST), HK_VERDICT_HIDE);
	drop(&f);
}

static void redirects(void **state)
{
	struct fixture f = {0};

	assert_int_equal(make(&f, "redirect * /src/a => /file\nredirect * /src/b => /usr/b\n"), 0);
	drop(&f);
	expect_error(&f, "redirect * /src/a => /tmp/b\n", "'/tmp/b' is in no share");
	expect_error(&f, "allow * /x\nredirect * /src/a => /src\n", ":2: redirect");
	expect_error(&f, "redirect * /src/a => /usrlocal\n", "'/usrlocal' is in no share");
}

static void layers(void **state)
{
	struct fixture f = {0};

	assert_int_equal(make(&f, "deny write /src/**\n"), 0);
	assert_int_equal(f.layer_count, 0);
	drop(&f);
	assert_int_equal(make(&f, "cow * /src/sub/**\n"), 0);
	assert_int_equal(f.layer_count, 1);
	for (unsigned i = 0; i < f.layout.export_count; i++) {
		bool is_src = strcmp(f.layout.exports[i].root, "/src") == 0;

		assert_int_equal(f.layout.layers[i] != NULL, is_src);
		assert_int_equal(f.policy.cows[i].rules != NULL, is_src);
	}
	drop(&f);
	expect_error(&f, "cow * /file\n", "'/file' is shared as a file");
	/* What cannot be changed needs none; but where nothing can be, the rule is a mistake. */
	f = (struct fixture){.src_is_fixed = true};
	assert_int_equal(make(&f, "cow * /src\ncow * /src/**\n"), 0);
	assert_int_equal(f.layer_count, 0);
	drop(&f);
	f = (struct fixture){.src_is_fixed = true, .file_is_fixed = true};
	expect_error(&f, "cow * /src\ncow * /src/**\n", "shared read-only");
	assert_int_equal(f.layer_count, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without),
		cmocka_unit_test(one_for_all_exports),
		cmocka_unit_test(home_that_is_shared),
		cmocka_unit_test(hidden),
		cmocka_unit_test(redirects),
		cmocka_unit_test(layers),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
