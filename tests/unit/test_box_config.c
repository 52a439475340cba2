/* SPDX-License-Identifier: ISC */
/* What hk_box_check() lets through, what it says of the rest, and exit statuses. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/str.h"
#include "base/util.h"
#include "box/box.h"

static char *const command[] = {(char *)"true", NULL};
static char *const no_command[] = {NULL};
static char *const empty_command[] = {(char *)"", NULL};

static char fifo[64];

static int make_fifo(void **state)
{
	hk_fmt(fifo, sizeof(fifo), "/tmp/hako-config-%d", (int)getpid());
	return mkfifo(fifo, 0600);
}

static int remove_fifo(void **state)
{
	return unlink(fifo);
}

static struct hk_box_config basic(void)
{
	return (struct hk_box_config){
		.argv = command, .vcpu_count = 1, .memory_bytes = 256 * HK_MIB};
}

/* @says: in the message; @hints: in the hint. NULL, NULL: it is fine. */
static void expect(const struct hk_box_config *config, const char *says, const char *hints)
{
	struct hk_err err = HK_ERR_INIT;
	int r = hk_box_check(config, 2 * HK_GIB, &err);

	if (says == NULL) {
		if (r != 0) {
			fail_msg("%s", hk_err_text(&err));
		}
		return;
	}
	assert_true(r < 0);
	if (strstr(hk_err_text(&err), says) == NULL) {
		fail_msg("'%s' is not in '%s'", says, hk_err_text(&err));
	}
	if (strstr(err.hint, hints) == NULL) {
		fail_msg("'%s' is not in '%s'", hints, err.hint);
	}
	assert_null(strchr(hk_err_text(&err), '\n'));
}

static void test_machine(void **state)
{
	static const struct {
		unsigned cpus;
		uint64_t mib;
		const char *says, *hints;
	} rows[] = {
		{1, 256, NULL, NULL},
		{16, 2048, NULL, NULL},
		{0, 256, "0 CPUs", "1 to 16"},
		{17, 256, "17 CPUs", "1 to 16"},
		{1, 128, NULL, NULL},
		{1, 127, "too little", "--memory"},
		{1, 0, "too little", "--memory"},
		{1, 2049, "more than this host", "2048 MiB"},
	};

	for (size_t i = 0; i < HK_ARRAY_SIZE(rows); i++) {
		struct hk_box_config config = basic();

		config.vcpu_count = rows[i].cpus;
		config.memory_bytes = rows[i].mib * HK_MIB;
		expect(&config, rows[i].says, rows[i].hints);
	}
}

static void test_names(void **state)
{
	static const struct {
		const char *name;
		bool good;
	} rows[] = {
		{"a", true},
		{"A.b_c-9", true},
		{"", false},
		{"-a", false},
		{".a", false},
		{"a b", false},
		{"a/b", false},
		{"caf\xc3\xa9", false},
		{"123456789012345678901234567890123456789012345678901234567890123", true},
		{"1234567890123456789012345678901234567890123456789012345678901234", false},
	};

	for (size_t i = 0; i < HK_ARRAY_SIZE(rows); i++) {
		struct hk_box_config config = basic();

		config.name = rows[i].name;
		expect(&config, rows[i].good ? NULL : "will not do", "letters");
	}
}

static void test_shares(void **state)
{
	const struct {
		struct hk_share share;
		const char *says, *hints;
	} rows[] = {
		{{"/usr", "/src", false}, NULL, NULL},
		{{"/usr", "/src/..x", false}, NULL, NULL},
		{{"/etc/passwd", "/p", true}, NULL, NULL},
		{{"/no/such", "/src", false}, "No such file", "make it first"},
		{{fifo, "/src", false}, "FIFO", "only directories and regular files"},
		{{"/dev/null", "/src", false}, "device", "only directories"},
		{{"/usr", "src", false}, "'src'", "from the root"},
		{{"/usr", "/a/../b", false}, "'/a/../b'", "from the root"},
		{{"/usr", "/a/.", false}, "'/a/.'", "from the root"},
		{{"/usr", "/", false}, "root", "--rootfs"},
		{{"/usr", "//", false}, "root", "--rootfs"},
		{{"/usr", "/proc/x", false}, "/proc", "another place"},
		{{"/usr", "/dev", false}, "/dev", "another place"},
	};

	for (size_t i = 0; i < HK_ARRAY_SIZE(rows); i++) {
		struct hk_box_config config = basic();

		config.shares = &rows[i].share;
		config.share_count = 1;
		expect(&config, rows[i].says, rows[i].hints);
	}
}

static void test_twice_at_one_place(void **state)
{
	const struct hk_share shares[] = {{"/usr", "/a", false}, {"/etc", "/a", false}};
	struct hk_box_config config = basic();

	config.shares = shares;
	config.share_count = 2;
	expect(&config, "two shares at /a", "-v /etc:");
}

static void test_command(void **state)
{
	static const char *const good[] = {"A=", "B=c=d"};
	static const char *const bad[] = {"=x"};
	static const char *const bare[] = {"A"};
	struct hk_box_config config = basic();

	config.env = good;
	config.env_count = 2;
	config.workdir = "/x";
	expect(&config, NULL, NULL);
	config.env = bad;
	config.env_count = 1;
	expect(&config, "-e =x", "NAME=VALUE");
	config.env = bare;
	expect(&config, "-e A", "NAME=VALUE");
	config = basic();
	config.argv = no_command;
	expect(&config, "no command", "hako run --");
	config.argv = empty_command;
	expect(&config, "empty word", "");
	config = basic();
	config.workdir = "x";
	expect(&config, "-w x", "from the box's root");
	config = basic();
	config.rootfs = "/etc/passwd";
	expect(&config, "--rootfs /etc/passwd: Not a directory", "root file system");
}

static void test_command_size(void **state)
{
	enum { COUNT = HK_BOX_MAX_WORDS + 1 };
	struct hk_box_config config = basic();
	char **argv = calloc(COUNT + 1, sizeof(*argv));
	char *word = calloc(1, HK_CONTROL_MAX_STRING + 2);

	assert_non_null(argv);
	assert_non_null(word);
	config.argv = argv;
	memset(word, 'x', HK_CONTROL_MAX_STRING);
	argv[0] = word;
	expect(&config, NULL, NULL);
	for (size_t i = 1; i < 7; i++) {
		argv[i] = word;
	}
	expect(&config, NULL, NULL);
	argv[7] = word;
	expect(&config, "at most 1008 KiB", "standard input");
	argv[1] = NULL;
	word[HK_CONTROL_MAX_STRING] = 'x';
	expect(&config, "at most 131071", "standard input");
	for (size_t i = 0; i < COUNT; i++) {
		argv[i] = word + HK_CONTROL_MAX_STRING;
	}
	expect(&config, "65521 arguments", "standard input");
	argv[COUNT - 1] = NULL;
	expect(&config, NULL, NULL);
	free(argv);
	free(word);
}

/* A place for a share in one that the guest cannot write has to be there. */
static void test_share_in_share(void **state)
{
	struct hk_share shares[] = {{"/usr", "/a", false}, {"/etc", "/a/bin", false}};
	struct hk_box_config config = basic();

	config.shares = shares;
	config.share_count = 2;
	expect(&config, NULL, NULL);
	shares[1].guest = "/a/hako-none";
	expect(&config,
		"-v /etc:/a/hako-none: there is no /usr/hako-none, and -v /usr is read-only",
		"make the directory /usr/hako-none first");
	shares[1].host = "/etc/passwd";
	expect(&config, "/usr/hako-none", "make the file");
	shares[0].writable = true;
	expect(&config, NULL, NULL);
}

static void test_default_memory(void **state)
{
	assert_int_equal(hk_box_default_memory(64 * HK_GIB), HK_GIB);
	assert_int_equal(hk_box_default_memory(HK_GIB + 5), 512 * HK_MIB);
	assert_int_equal(hk_box_default_memory(0), 128 * HK_MIB);
}

static void test_status(void **state)
{
	static const struct {
		struct hk_box_result result;
		int status;
	} rows[] = {
		{{.end = HK_BOX_EXITED, .code = 0}, 0},
		{{.end = HK_BOX_EXITED, .code = 37}, 37},
		{{.end = HK_BOX_EXITED, .code = 255}, 255},
		{{.end = HK_BOX_SIGNALED, .code = SIGKILL}, 137},
		{{.end = HK_BOX_SIGNALED, .code = SIGTERM}, 143},
		{{.end = HK_BOX_STOPPED, .code = SIGINT}, 130},
		{{.end = HK_BOX_NOT_STARTED, .code = ENOENT, .stage = HK_EXEC_STAGE_EXEC}, 127},
		{{.end = HK_BOX_NOT_STARTED, .code = EACCES, .stage = HK_EXEC_STAGE_EXEC}, 126},
		{{.end = HK_BOX_NOT_STARTED, .code = ENOEXEC, .stage = HK_EXEC_STAGE_EXEC}, 126},
		{{.end = HK_BOX_NOT_STARTED, .code = ENOENT, .stage = HK_EXEC_STAGE_CWD}, 125},
		{{.end = HK_BOX_NOT_STARTED, .code = EAGAIN, .stage = HK_EXEC_STAGE_SPAWN}, 125},
		{{.end = HK_BOX_TIMED_OUT}, 124},
		{{.end = HK_BOX_FAILED}, 125},
		{{.end = HK_BOX_RUNS_STILL}, 125},
	};

	for (size_t i = 0; i < HK_ARRAY_SIZE(rows); i++) {
		assert_int_equal(hk_box_status(&rows[i].result), rows[i].status);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_machine),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_shares),
		cmocka_unit_test(test_twice_at_one_place),
		cmocka_unit_test(test_command),
		cmocka_unit_test(test_command_size),
		cmocka_unit_test(test_share_in_share),
		cmocka_unit_test(test_default_memory),
		cmocka_unit_test(test_status),
	};

	return cmocka_run_group_tests(tests, make_fifo, remove_fifo);
}
