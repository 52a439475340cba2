/* SPDX-License-Identifier: ISC */
/* Ways around the rules that a hostile guest, or just a program, may look for: each must end where the rules say. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "fuse/audit.h"
#include "fuse/rules.h"
#include "fuse_client.h"

/* FMODE_EXEC, as an execve's OPEN has it. */
enum { TO_EXECUTE = 1 << 5 };

static struct fc fc;
static struct hk_rules *rules;
static struct hk_audit *audit;
static int log_fd;
static char log_text[65536];

/* The export is /x for the rules. */
static void start(const char *policy)
{
	struct hk_err err = HK_ERR_INIT;
	struct hk_rules_env none = {0};
	struct hk_fuse_export export = {.root = "/x"};
	char path[] = "/tmp/hako-around-XXXXXX";

	if (hk_rules_parse("test", policy, &none, &rules, &err) < 0) {
		fail_msg("%s", hk_err_text(&err));
	}
	log_fd = mkstemp(path);
	assert_true(log_fd >= 0);
	unlink(path);
	assert_int_equal(
		hk_audit_create(
			&(struct hk_audit_options){.log_fd = log_fd, .rules = rules}, &audit, &err),
		0);
	export.rules = rules;
	export.audit = audit;
	fc_start(&fc, &export, FC_FEATURES);
}

static void stop(void)
{
	fc_stop(&fc);
	hk_audit_free(audit);
	hk_rules_free(rules);
	close(log_fd);
}

/* How many lines of the log have both words? No events after it. */
static unsigned count_logged(const char *a, const char *b)
{
	struct hk_err err = HK_ERR_INIT;
	unsigned count = 0;
	ssize_t len;

	assert_int_equal(hk_audit_finish(audit, &err), 0);
	len = pread(log_fd, log_text, sizeof(log_text) - 1, 0);
	assert_true(len >= 0);
	log_text[len] = '\0';
	for (char *line = log_text; *line != '\0';) {
		char *end = strchr(line, '\n');

		assert_non_null(end);
		*end = '\0';
		count += strstr(line, a) != NULL && strstr(line, b) != NULL;
		*end = '\n';
		line = end + 1;
	}
	return count;
}

static int open_of(const char *name, int flags)
{
	struct fuse_open_out out;
	uint64_t node = fc_node(&fc, fc.root, name);
	int r = fc_open(&fc, node, flags, &out);

	assert_true(node != 0);
	if (r == 0) {
		fc_release(&fc, node, out.fh);
	}
	return r;
}

static void listing_from_the_middle(void **state)
{
	struct fuse_entry_out entry;
	char buf[4096];

	(void)state;
	start("deny list /x/shut\n");
	assert_int_equal(fc_mkdir(&fc, fc.root, "shut", &entry), 0);
	assert_int_equal(fc_readdir(&fc, entry.nodeid, 0, 0, false, buf, sizeof(buf)), -EACCES);
	assert_int_equal(fc_readdir(&fc, entry.nodeid, 0, 1, false, buf, sizeof(buf)), -EACCES);
	assert_int_equal(fc_readdir(&fc, entry.nodeid, 0, 1, true, buf, sizeof(buf)), -EACCES);
	assert_int_equal(count_logged("\"deny\"", "list"), 3);
	stop();
}

/* A listing is one event, however many requests it takes. */
static void listing_is_told_once(void **state)
{
	uint64_t offset = 0;
	unsigned requests = 0;
	char buf[128];
	int len;

	(void)state;
	start("deny list /x/shut\n");
	for (unsigned i = 0; i < 8; i++) {
		char name[] = "file-a";

		name[5] += (char)i;
		fc_host_file(fc.inside, name, "text");
	}
	while ((len = fc_readdir(&fc, fc.root, 0, offset, false, buf, sizeof(buf))) > 0) {
		struct fuse_dirent dirent;

		/* To the last one of this reply. */
		for (size_t at = 0; at < (size_t)len;) {
			memcpy(&dirent, buf + at, FUSE_NAME_OFFSET);
			offset = dirent.off;
			at += (size_t)hk_align_up(
				FUSE_NAME_OFFSET + dirent.namelen, sizeof(uint64_t));
		}
		requests++;
	}
	assert_int_equal(len, 0);
	assert_true(requests > 1);
	/* At its end once more, as a program that reads until there is nothing. */
	assert_int_equal(fc_readdir(&fc, fc.root, 0, offset, false, buf, sizeof(buf)), 0);
	assert_int_equal(count_logged("\"allow\"", "\"list\""), 1);
	stop();
}

static void running_is_not_writing(void **state)
{
	(void)state;
	start("deny write /x/prog\n"
	      "deny read /x/hidden\n"
	      "deny exec /x/data\n");
	fc_host_file(fc.inside, "prog", "text");
	fc_host_file(fc.inside, "hidden", "text");
	fc_host_file(fc.inside, "data", "text");
	assert_int_equal(open_of("prog", O_RDONLY | TO_EXECUTE), 0);
	assert_int_equal(open_of("prog", O_WRONLY | TO_EXECUTE), -EACCES);
	assert_int_equal(open_of("prog", O_RDWR | TO_EXECUTE), -EACCES);
	assert_int_equal(open_of("prog", O_RDONLY | O_TRUNC | TO_EXECUTE), -EACCES);
	assert_true(fc_host_has(fc.inside, "prog", "text"));
	/* What may be run need not be what may be read. */
	assert_int_equal(open_of("hidden", O_RDONLY), -EACCES);
	assert_int_equal(open_of("hidden", O_RDONLY | TO_EXECUTE), 0);
	assert_int_equal(open_of("hidden", O_RDWR | TO_EXECUTE), -EACCES);
	assert_int_equal(open_of("data", O_RDONLY | TO_EXECUTE), -EACCES);
	assert_int_equal(open_of("data", O_RDONLY), 0);
	stop();
}

static void attributes_together(void **state)
{
	struct fuse_setattr_in in = {.mode = 0700, .size = 1, .mtime = 1};
	struct stat st;
	uint64_t node;

	(void)state;
	start("deny metadata /x/kept\n"
	      "deny write /x/fixed\n");
	fc_host_file(fc.inside, "kept", "text");
	node = fc_node(&fc, fc.root, "kept");
	in.valid = FATTR_MODE | FATTR_SIZE;
	assert_int_equal(fc_setattr(&fc, node, &in), -EPERM);
	in.valid = FATTR_MTIME | FATTR_SIZE;
	assert_int_equal(fc_setattr(&fc, node, &in), -EPERM);
	assert_int_equal(fstatat(fc.inside_fd, "kept", &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0644);
	assert_int_equal(st.st_size, strlen("text"));
	fc_host_file(fc.inside, "fixed", "text");
	in.valid = FATTR_MODE | FATTR_SIZE;
	assert_int_equal(fc_setattr(&fc, fc_node(&fc, fc.root, "fixed"), &in), -EACCES);
	assert_true(fc_host_has(fc.inside, "fixed", "text"));
	/* Each is told of. */
	fc_host_file(fc.inside, "free", "text");
	assert_int_equal(fc_setattr(&fc, fc_node(&fc, fc.root, "free"), &in), 0);
	assert_int_equal(count_logged("\"/x/kept\"", "\"deny\""), 2);
	assert_int_equal(count_logged("\"/x/free\"", "\"truncate\""), 1);
	assert_int_equal(count_logged("\"/x/free\"", "\"chmod\""), 1);
	stop();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(listing_from_the_middle),
		cmocka_unit_test(listing_is_told_once),
		cmocka_unit_test(running_is_not_writing),
		cmocka_unit_test(attributes_together),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
