/* SPDX-License-Identifier: ISC */
/* The file tree of a box, worked out from made-up hosts. */
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
#include "box/env.h"
#include "box/layout.h"

static const char machine_id[] = "0123456789abcdef0123456789abcdef";
static char *const argv[] = {(char *)"true", NULL};

static char host[64];

static void put(const char *path, const char *content)
{
	char full[256];
	char *slash;

	hk_fmt(full, sizeof(full), "%s%s", host, path);
	slash = strrchr(full, '/');
	*slash = '\0';
	assert_int_equal(hk_mkdir_p(full, 0755, NULL), 0);
	*slash = '/';
	assert_int_equal(hk_write_file_atomic(full, content, strlen(content), 0644, NULL), 0);
}

/* A host with merged /usr, but for a /lib32 of its own and a /lib64 that is missing. */
static int make_host(void **state)
{
	char path[256];

	hk_fmt(host, sizeof(host), "/tmp/hako-layout-XXXXXX");
	assert_non_null(mkdtemp(host));
	put("/usr/bin/true", "");
	put("/usr/bin/bash", "");
	put("/lib32/x", "");
	put("/etc/passwd", "me:x:1:1::/home/me:/bin/sh\n");
	put("/etc/subuid", "me:100000:65536\n");
	put("/etc/fstab", "UUID=secret / ext4\n");
	put("/etc/ssh/ssh_host_rsa_key.pub", "host key\n");
	put("/etc/ssh/ssh_config", "");
	hk_fmt(path, sizeof(path), "%s/bin", host);
	assert_int_equal(symlink("usr/bin", path), 0);
	return 0;
}

static int remove_host(void **state)
{
	char command[128];

	hk_fmt(command, sizeof(command), "rm -rf %s", host);
	return system(command);
}

static struct hk_box_config basic(void)
{
	return (struct hk_box_config){
		.argv = argv,
		.caller_uid = 1234,
		.caller_gid = 2345,
		.caller_name = "me",
	};
}

static void describe_steps(struct hk_str *out, struct hk_control_list list, const char *indent)
{
	static const char *const names[] = {
		"?", "FS", "TMPFS", "DIR", "SYMLINK", "FILE", "OVERLAY", "HIDE"};
	struct hk_step step;

	while (hk_control_next_step(&list, &step)) {
		hk_str_addf(out, "%s%s %s", indent, names[step.type], step.path);
		if (step.source != NULL && step.source[0] != '\0') {
			hk_str_addf(out, " %s", step.source);
		}
		if (step.type == HK_STEP_DIR || step.type == HK_STEP_TMPFS) {
			hk_str_addf(out, " %o %u:%u", step.mode, step.uid, step.gid);
		}
		if ((step.flags & HK_STEP_RO) != 0) {
			hk_str_add(out, " ro");
		}
		hk_str_add(out, "\n");
		if (step.type == HK_STEP_OVERLAY) {
			describe_steps(out, step.upper, "  ");
		}
	}
}

static void make(struct hk_layout *layout, const struct hk_box_config *config, struct hk_str *text)
{
	struct hk_err err = HK_ERR_INIT;

	*layout = (struct hk_layout){0};
	if (hk_layout_make(layout, config, host, machine_id, &err) < 0) {
		fail_msg("%s", hk_err_text(&err));
	}
	describe_steps(text, hk_control_built(&layout->steps), "");
}

static void test_host_system(void **state)
{
	static const char expected[] = "FS /usr usr ro\n"
				       "SYMLINK /bin usr/bin\n"
				       "FS /lib32 lib32 ro\n"
				       "OVERLAY /etc etc\n"
				       "  FILE /hostname\n"
				       "  FILE /hosts\n"
				       "  FILE /resolv.conf\n"
				       "  FILE /machine-id\n"
				       "  FILE /passwd\n"
				       "  FILE /group\n"
				       "  HIDE /fstab\n"
				       "  HIDE /subuid\n"
				       "  HIDE /ssh/ssh_host_rsa_key.pub\n"
				       "DIR /home 755 0:0\n"
				       "DIR /root 700 0:0\n"
				       "DIR /mnt 755 0:0\n"
				       "DIR /media 755 0:0\n"
				       "DIR /opt 755 0:0\n"
				       "DIR /srv 755 0:0\n"
				       "DIR /var/cache 755 0:0\n"
				       "DIR /var/lib 755 0:0\n"
				       "DIR /var/log 755 0:0\n"
				       "DIR /var/tmp 1777 0:0\n"
				       "SYMLINK /var/run /run\n"
				       "TMPFS /home/me 700 1234:2345\n"
				       "DIR /run/user 755 0:0\n"
				       "DIR /run/user/1234 700 1234:2345\n";
	struct hk_box_config config = basic();
	struct hk_str text = {0};
	struct hk_layout layout;

	make(&layout, &config, &text);
	assert_string_equal(hk_str_text(&text), expected);
	assert_int_equal(layout.export_count, 3);
	for (unsigned i = 0; i < layout.export_count; i++) {
		assert_true(layout.exports[i].read_only);
		assert_true(layout.exports[i].public_only);
		assert_false(hk_export_is_share(layout.exports[i].name));
	}
	assert_string_equal(hk_layout_workdir(&layout), "/home/me");
	hk_str_finish(&text);
	hk_layout_finish(&layout);
}

/* The content of a FILE step in the upper layer of /etc. */
static void etc_file(struct hk_layout *layout, const char *path, char *content, size_t size)
{
	struct hk_control_list list = hk_control_built(&layout->steps);
	struct hk_step step;

	content[0] = '\0';
	while (hk_control_next_step(&list, &step)) {
		struct hk_step file;

		while (step.type == HK_STEP_OVERLAY && hk_control_next_step(&step.upper, &file)) {
			if (strcmp(file.path, path) == 0) {
				hk_fmt(content, size, "%.*s", (int)file.content_len,
					(const char *)file.content);
			}
		}
	}
}

static void test_identity(void **state)
{
	struct hk_box_config config = basic();
	struct hk_str text = {0};
	struct hk_layout layout;
	char content[512];

	config.name = "devbox";
	make(&layout, &config, &text);
	etc_file(&layout, "/hostname", content, sizeof(content));
	assert_string_equal(content, "devbox\n");
	etc_file(&layout, "/machine-id", content, sizeof(content));
	assert_string_equal(content, "0123456789abcdef0123456789abcdef\n");
	etc_file(&layout, "/passwd", content, sizeof(content));
	assert_non_null(strstr(content, "me:x:1234:2345::/home/me:/bin/bash\n"));
	assert_non_null(strstr(content, "root:x:0:0:"));
	etc_file(&layout, "/group", content, sizeof(content));
	assert_non_null(strstr(content, "me:x:2345:\n"));
	hk_str_finish(&text);
	hk_layout_finish(&layout);
}

static void test_users(void **state)
{
	static const struct {
		uid_t uid;
		gid_t gid;
		const char *caller;
		bool as_root;
		uid_t expected_uid;
		gid_t expected_gid;
		const char *name, *home;
	} rows[] = {
		{1234, 2345, "me", false, 1234, 2345, "me", "/home/me"},
		{0, 0, "root", false, 1000, 1000, "user", "/home/user"},
		{1234, 0, "me", false, 1234, 1000, "me", "/home/me"},
		{0, 0, "root", true, 0, 0, "root", "/root"},
		{1234, 2345, "me", true, 0, 0, "root", "/root"},
		{1, 1, NULL, false, 1, 1, "user", "/home/user"},
		{1, 1, "", false, 1, 1, "user", "/home/user"},
		{1, 1, "a:b", false, 1, 1, "user", "/home/user"},
		{1, 1, "../x", false, 1, 1, "user", "/home/user"},
		{1, 1, "-rf", false, 1, 1, "user", "/home/user"},
		{1, 1, "a-name-that-is-longer-than-what-linux-takes", false, 1, 1, "user",
			"/home/user"},
	};

	for (size_t i = 0; i < HK_ARRAY_SIZE(rows); i++) {
		struct hk_box_config config = {.caller_uid = rows[i].uid,
			.caller_gid = rows[i].gid,
			.caller_name = rows[i].caller,
			.as_root = rows[i].as_root};
		struct hk_box_user user;

		hk_box_user_init(&user, &config);
		assert_int_equal(user.uid, rows[i].expected_uid);
		assert_int_equal(user.gid, rows[i].expected_gid);
		assert_string_equal(user.name, rows[i].name);
		assert_string_equal(user.home, rows[i].home);
	}
}

static void test_shares(void **state)
{
	const struct hk_share shares[] = {
		{"/data/inner", "/src/inner", false},
		{"/data", "/src", true},
		{"/elsewhere", "/elsewhere", false},
	};
	struct hk_box_config config = basic();
	struct hk_str text = {0};
	struct hk_layout layout;
	const char *parent;
	const char *child;

	config.shares = shares;
	config.share_count = HK_ARRAY_SIZE(shares);
	config.caller_uid = 0;
	config.caller_gid = 0;
	config.caller_dir = "/data/inner/deep";
	make(&layout, &config, &text);
	parent = strstr(hk_str_text(&text), "FS /src v1\n");
	child = strstr(hk_str_text(&text), "FS /src/inner v0\n");
	assert_non_null(parent);
	assert_non_null(child);
	assert_true(parent < child);
	assert_string_equal(hk_layout_workdir(&layout), "/src/inner/deep");
	for (unsigned i = 0; i < layout.export_count; i++) {
		const struct hk_fuse_export *export = &layout.exports[i];
		const struct hk_share *share = hk_layout_share(&layout, export->name);

		assert_int_equal(share != NULL, hk_export_is_share(export->name));
		if (share != NULL) {
			assert_string_equal(
				export->path + strlen(export->path) - strlen(share->host),
				share->host);
			assert_int_equal(export->read_only, !share->writable);
			assert_false(export->public_only);
			assert_true(export->map_ids);
			assert_int_equal(export->host_uid, 0);
			assert_int_equal(export->guest_uid, 1000);
		}
	}
	hk_str_finish(&text);
	hk_layout_finish(&layout);
}

static void test_rootfs(void **state)
{
	struct hk_box_config config = basic();
	struct hk_str text = {0};
	struct hk_layout layout;

	config.rootfs = "/images/alpine";
	make(&layout, &config, &text);
	assert_ptr_equal(strstr(hk_str_text(&text), "OVERLAY / root\n"), hk_str_text(&text));
	assert_non_null(strstr(hk_str_text(&text), "  FILE /etc/hostname\n"));
	assert_null(strstr(hk_str_text(&text), "/usr"));
	assert_null(strstr(hk_str_text(&text), "passwd"));
	assert_string_equal(layout.exports[0].path, "/images/alpine");
	hk_str_finish(&text);
	hk_layout_finish(&layout);
}

static void test_shows(void **state)
{
	static const struct {
		const char *path;
		bool shown;
	} rows[] = {
		{"/", true},
		{"/usr", true},
		{"/usr/bin/ls", true},
		{"/usrx", false},
		{"/bin/ls", true},
		{"/tmp", true},
		{"/tmp/x", false},
		{"/home", true},
		{"/home/me/x", false},
		{"/data", true},
		{"/data/x", true},
		{"/data2", false},
		{"/opt/tool/bin/x", false},
	};
	const struct hk_share share = {"/data", "/src", false};
	struct hk_box_config config = basic();

	config.shares = &share;
	config.share_count = 1;
	for (size_t i = 0; i < HK_ARRAY_SIZE(rows); i++) {
		if (hk_box_shows(&config, rows[i].path) != rows[i].shown) {
			fail_msg("%s", rows[i].path);
		}
	}
}

static bool has(struct hk_control_builder *env, const char *entry)
{
	struct hk_control_list list = hk_control_built(env);
	const char *string;

	while (hk_control_next_string(&list, &string)) {
		if (strcmp(string, entry) == 0) {
			return true;
		}
	}
	return false;
}

static void test_env(void **state)
{
	static const char *const entries[] = {"LANG=C", "HOME=/mine", "A=1", "A=2", "LANGUAGE="};
	struct hk_control_builder env = {0};
	struct hk_box_config config = basic();
	struct hk_box_user user;

	config.env = entries;
	config.env_count = HK_ARRAY_SIZE(entries);
	hk_box_user_init(&user, &config);
	hk_env_make(&env, &config, &user, "/work");
	assert_int_equal(env.error, 0);
	assert_true(has(&env, "HOME=/mine"));
	assert_false(has(&env, "HOME=/home/me"));
	assert_true(has(&env, "A=2"));
	assert_false(has(&env, "A=1"));
	assert_true(has(&env, "LANG=C"));
	assert_true(has(&env, "LANGUAGE="));
	assert_true(has(&env, "PWD=/work"));
	assert_true(has(&env, "USER=me"));
	assert_false(has(&env, "TERM=xterm"));
	hk_control_builder_finish(&env);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_host_system),
		cmocka_unit_test(test_identity),
		cmocka_unit_test(test_users),
		cmocka_unit_test(test_shares),
		cmocka_unit_test(test_rootfs),
		cmocka_unit_test(test_shows),
		cmocka_unit_test(test_env),
	};

	return cmocka_run_group_tests(tests, make_host, remove_host);
}
