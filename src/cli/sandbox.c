/* SPDX-License-Identifier: ISC */
/*
 * `sandbox`, and `hako trace --gentoo`: stands in for Gentoo's sandbox as Portage calls it. See
 * hako-sandbox(1).
 *
 * Theory: what the environment and /etc/sandbox.conf say becomes variables of our own environment,
 * which the command inherits; the run's policy is made of them (gentoo_run_linux.c); and the
 * command runs in a trace, whose questions that policy answers.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/str.h"
#include "base/sys.h"
#include "base/util.h"
#include "cli/builtin.h"
#include "cli/opts.h"
#include "cli/report.h"
#include "trace/gentoo.h"

/* Above what scripts use for themselves. */
enum { CONTROL_FD_MIN = 200, CONFIG_MAX = 1 << 20 };

static const char config_file[] = "/etc/sandbox.conf";
static const char config_dir[] = "/etc/sandbox.d";

struct sandbox {
	char *hook;     /* owned; the file's path, or NULL */
	char *line;     /* owned; what bash is to run */
	int control_fd; /* owned; ours */
	int told_fd;    /* owned; the command's end */
	/* The logs' paths and directories are owned. */
	struct hk_gentoo_options options;
	struct hk_gentoo_run *run;
};

/* The configuration */

static const char *variable(const char *name)
{
	return getenv(name);
}

static bool read_config(const char *path, const char *name, bool is_list, struct hk_str *out)
{
	void *data = NULL;
	size_t len;
	bool is_set;

	if (hk_read_file(path, CONFIG_MAX, &data, &len, NULL) < 0) {
		return false;
	}
	is_set = hk_gentoo_config(data, name, is_list, variable, out);
	free(data);
	return is_set;
}

static int is_config(const struct dirent *entry)
{
	size_t len = strlen(entry->d_name);

	return entry->d_name[0] != '.' && entry->d_name[len - 1] != '~';
}

static bool read_config_dir(const char *name, struct hk_str *out)
{
	struct dirent **entries;
	int count = scandir(config_dir, &entries, is_config, alphasort);
	bool is_set = false;

	for (int i = 0; i < count; i++) {
		struct hk_str path = {0};

		hk_str_addf(&path, "%s/%s", config_dir, entries[i]->d_name);
		is_set |= read_config(hk_str_text(&path), name, true, out);
		hk_str_finish(&path);
		free(entries[i]);
	}
	if (count >= 0) {
		free(entries);
	}
	return is_set;
}

/* The file's paths come before those of the environment; the directory's only stand in for them. */
static int configure_list(enum hk_gentoo_var var, const char *fallback)
{
	const char *name = hk_gentoo_var_name(var);
	const char *given = getenv(name);
	struct hk_str value = {0};
	bool is_set = read_config(config_file, name, true, &value);
	int r;

	if (given != NULL) {
		hk_str_add(&value, is_set ? ":" : "");
		hk_str_add(&value, given);
	} else {
		is_set |= read_config_dir(name, &value);
	}
	r = value.failed ? -ENOMEM : 0;
	if (r == 0 && (is_set || given != NULL)) {
		r = setenv(name, hk_str_text(&value), 1) < 0 ? -errno : 0;
	} else if (r == 0 && fallback != NULL) {
		r = setenv(name, fallback, 1) < 0 ? -errno : 0;
	}
	hk_str_finish(&value);
	return r;
}

/* The environment's value comes before the file's. */
static int configure_switch(const char *name, const char *fallback)
{
	struct hk_str value = {0};
	bool is_set = read_config(config_file, name, false, &value);
	int r = value.failed ? -ENOMEM : 0;

	if (r == 0) {
		r = setenv(name, is_set ? hk_str_text(&value) : fallback, 0) < 0 ? -errno : 0;
	}
	hk_str_finish(&value);
	return r;
}

/* Outside of Portage the current directory may be written to. */
static int configure(bool is_interactive)
{
	autofree char *work_dir = getenv("PORTAGE_TMPDIR") == NULL ? getcwd(NULL, 0) : NULL;
	const char *home;
	int r;

	setenv("TMPDIR", "/tmp", 0);
	setenv("HOME", getenv("TMPDIR"), 0);
	home = getenv("HOME");
	unsetenv("SANDBOX_WORKDIR");
	if (is_interactive && work_dir != NULL) {
		setenv("SANDBOX_WORKDIR", work_dir, 1);
	}
	r = configure_switch("SANDBOX_VERBOSE", "1");
	r = r < 0 ? r : configure_switch("SANDBOX_DEBUG", "0");
	r = r < 0 ? r : configure_switch("NOCOLOR", "no");
	r = r < 0 ? r : configure_switch("SANDBOX_METHOD", "any");
	r = r < 0 ? r : configure_list(HK_GENTOO_DENY, NULL);
	r = r < 0 ? r : configure_list(HK_GENTOO_READ, "/");
	r = r < 0 ? r : configure_list(HK_GENTOO_WRITE, work_dir);
	return r < 0 ? r : configure_list(HK_GENTOO_PREDICT, home);
}

/* What the command finds */

static char *absolute(const char *path)
{
	struct hk_str out = {0};
	char *text = NULL;

	if (path[0] != '/') {
		autofree char *cwd = getcwd(NULL, 0);

		hk_str_addf(&out, "%s/", cwd == NULL ? "" : cwd);
	}
	hk_str_add(&out, path);
	(void)hk_str_take(&out, &text);
	return text;
}

/*
 * Where the log is: as @name says, or in the directory for logs, or of temporary files. An old one
 * goes.
 */
static int place_log(
	const char *name, const char *file, struct hk_gentoo_log *ret_log, struct hk_err *err)
{
	const char *given = getenv(name);
	const char *dir =
		access("/var/log/sandbox", W_OK) == 0 ? "/var/log/sandbox" : getenv("TMPDIR");
	char made[PATH_MAX];
	autofree char *parent = NULL;

	hk_fmt(made, sizeof(made), "%s/%s-%d.log", dir, file, (int)getpid());
	ret_log->path = absolute(given != NULL ? given : made);
	parent = ret_log->path == NULL ? NULL : hk_strdup(ret_log->path);
	if (parent == NULL || setenv(name, ret_log->path, 1) < 0) {
		return hk_fail(err, ENOMEM, "%s", name);
	}
	if (unlink(ret_log->path) < 0 && errno != ENOENT && errno != ENOTDIR) {
		return hk_fail(err, errno, "%s: the old log '%s'", name, ret_log->path);
	}
	strrchr(parent, '/')[1] = '\0';
	ret_log->dir = hk_open(AT_FDCWD, parent, O_PATH | O_DIRECTORY, 0);
	return 0; /* without a directory, the first violation will tell */
}

static int place_hook(struct sandbox *sandbox, struct hk_err *err)
{
	autoclose int fd = -1;
	struct hk_str path = {0};
	int r;

	hk_str_addf(&path, "%s/hako-sandbox-XXXXXX", getenv("TMPDIR"));
	if (hk_str_take(&path, &sandbox->hook) < 0) {
		hk_str_finish(&path);
		return hk_fail(err, ENOMEM, "TMPDIR");
	}
	fd = mkostemp(sandbox->hook, O_CLOEXEC);
	if (fd < 0) {
		r = hk_fail(err, errno, "'%s'", sandbox->hook);
		free(take_ptr(sandbox->hook));
		return r;
	}
	/* For whoever the command becomes. */
	r = fchmod(fd, 0644) < 0 ? -errno
				 : hk_write_full(fd, hk_gentoo_hook, strlen(hk_gentoo_hook));
	if (r < 0) {
		return hk_fail(err, -r, "'%s'", sandbox->hook);
	}
	setenv("SANDBOX_BASHRC", sandbox->hook, 1);
	setenv("BASH_ENV", sandbox->hook, 1);
	return 0;
}

static int place_control(struct sandbox *sandbox, struct hk_err *err)
{
	const int on = 1;
	char number[16];
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) {
		return hk_fail(err, errno, "control socket");
	}
	sandbox->control_fd = ends[0];
	sandbox->told_fd = fcntl(ends[1], F_DUPFD, CONTROL_FD_MIN);
	close(ends[1]);
	if (sandbox->told_fd < 0 ||
		setsockopt(sandbox->control_fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) < 0) {
		return hk_fail(err, errno, "control socket");
	}
	hk_fmt(number, sizeof(number), "%d", sandbox->told_fd);
	setenv("HAKO_SANDBOX_FD", number, 1);
	return 0;
}

/* In the words of the hook: what the first bash need not tell. */
static int note_told(struct hk_err *err)
{
	static const char *const names[] = {"SANDBOX_ON", "SANDBOX_DENY", "SANDBOX_READ",
		"SANDBOX_WRITE", "SANDBOX_PREDICT", "SANDBOX_VERBOSE", "SANDBOX_DEBUG"};
	struct hk_str told = {0};
	int r;

	for (size_t i = 0; i < HK_ARRAY_SIZE(names); i++) {
		const char *value = getenv(names[i]);

		hk_str_add(&told, i > 0 ? "|" : "");
		hk_str_add(&told, value == NULL ? "" : value);
	}
	r = told.failed || setenv("HAKO_SANDBOX_TOLD", hk_str_text(&told), 1) < 0
		? hk_fail(err, ENOMEM, "environment")
		: 0;
	hk_str_finish(&told);
	return r;
}

static int prepare(struct sandbox *sandbox, bool is_interactive, struct hk_err *err)
{
	int r = configure(is_interactive);

	if (r < 0) {
		return hk_fail(err, -r, "configuration");
	}
	setenv("SANDBOX_ON", "1", 1);
	setenv("SANDBOX_LIB", "", 1);
	setenv("SANDBOX_ACTIVE", "armedandready", 1);
	r = place_log("SANDBOX_LOG", "sandbox", &sandbox->options.log, err);
	if (r == 0) {
		r = place_log(
			"SANDBOX_DEBUG_LOG", "sandbox-debug", &sandbox->options.debug_log, err);
	}
	if (r == 0) {
		r = place_hook(sandbox, err);
	}
	if (r == 0) {
		r = place_control(sandbox, err);
	}
	if (r == 0) {
		r = note_told(err);
	}
	if (r < 0) {
		return r;
	}
	sandbox->options.control_fd = sandbox->control_fd;
	sandbox->options.color = !hk_gentoo_is_on(getenv("NOCOLOR"));
	r = hk_gentoo_run_create(&sandbox->options, &sandbox->run);
	return r < 0 ? hk_fail(err, -r, "policy") : 0;
}

/* The command */

static int join(char **words, char **ret_line)
{
	struct hk_str line = {0};
	int r;

	for (size_t i = 0; words[i] != NULL; i++) {
		hk_str_add(&line, i > 0 ? " " : "");
		hk_str_add(&line, words[i]);
	}
	r = hk_str_take(&line, ret_line);
	hk_str_finish(&line);
	return r;
}

/*
 * Words for a shell are one string; a program and its arguments stay as they are; nothing is an
 * interactive shell.
 */
static int run(struct sandbox *sandbox, char **words, bool in_bash)
{
	char *bash[] = {
		"trace", "-q", "--", "/bin/bash", "-rcfile", sandbox->hook, NULL, NULL, NULL};
	const size_t before = 3; /* the command: the same options for others */
	autofree char **argv = NULL;
	size_t count = 0;

	if (words[0] == NULL) {
		return hk_trace_judged(bash, hk_gentoo_run_judge, sandbox->run);
	}
	if (in_bash || (words[1] == NULL && access(words[0], X_OK) != 0)) {
		if (join(words, &sandbox->line) < 0) {
			return HK_STATUS_FAILURE;
		}
		bash[6] = "-c";
		bash[7] = sandbox->line;
		return hk_trace_judged(bash, hk_gentoo_run_judge, sandbox->run);
	}
	while (words[count] != NULL) {
		count++;
	}
	argv = hk_calloc(before + count + 1, sizeof(*argv));
	if (argv == NULL) {
		return HK_STATUS_FAILURE;
	}
	memcpy(argv, bash, before * sizeof(*argv));
	memcpy(argv + before, words, count * sizeof(*argv));
	return hk_trace_judged(argv, hk_gentoo_run_judge, sandbox->run);
}

/* Return: the exit status, which is not 0 where there is a log. */
static int conclude(const struct sandbox *sandbox, int status)
{
	const char *color = sandbox->options.color ? "\033[31;01m" : "";
	const char *plain = sandbox->options.color ? "\033[0m" : "";
	autofree char *text = NULL;
	autoclose int fd = -1;
	char opened[32];
	void *data = NULL;
	size_t len;

	if (!hk_gentoo_run_violated(sandbox->run)) {
		return status;
	}
	fd = hk_gentoo_log_open(&sandbox->options.log, O_RDONLY);
	hk_fmt(opened, sizeof(opened), "/proc/self/fd/%d", fd);
	if (fd >= 0 && hk_read_file(opened, INT_MAX, &data, &len, NULL) == 0) {
		text = data;
		fprintf(stderr,
			" %s*%s ----------------------- SANDBOX ACCESS VIOLATION SUMMARY "
			"-----------------------\n %s*%s LOG FILE: \"%s\"\n %s*%s \n%s",
			color, plain, color, plain, sandbox->options.log.path, color, plain, text);
		fprintf(stderr,
			" %s*%s "
			"--------------------------------------------------------------------------"
			"------\n",
			color, plain);
	}
	return status == 0 ? 1 : status;
}

static void finish(struct sandbox *sandbox)
{
	if (sandbox->hook != NULL) {
		unlink(sandbox->hook);
	}
	hk_gentoo_run_destroy(sandbox->run);
	hk_close(&sandbox->control_fd);
	hk_close(&sandbox->told_fd);
	free(sandbox->hook);
	hk_close(&sandbox->options.log.dir);
	hk_close(&sandbox->options.debug_log.dir);
	free((char *)sandbox->options.log.path);
	free((char *)sandbox->options.debug_log.path);
	free(sandbox->line);
}

enum { OPT_BASH, OPT_HELP, OPT_VERSION, OPT_COUNT };

static const struct hk_opt table[OPT_COUNT] = {
	[OPT_BASH] = {"bash", 'c', NULL, "run the words as a command of bash"},
	[OPT_HELP] = {"help", 'h', NULL, "this"},
	[OPT_VERSION] = {"version", 'V', NULL, "say which version this is"},
};

static void print_help(void)
{
	puts("usage: sandbox [option]... [PROGRAM [ARGUMENT]...]\n\n"
	     "Runs PROGRAM, or a shell, where it may write only to what SANDBOX_WRITE names.\n"
	     "A single word that is no program is a command of bash. Settings come from the\n"
	     "environment, /etc/sandbox.conf and /etc/sandbox.d.\n");
	hk_opts_print(stdout, table, OPT_COUNT);
	puts("\nThe exit status is the program's; 1 where that was 0 but something was denied.\n"
	     "See hako-sandbox(1).");
}

int hk_cmd_sandbox(char **argv)
{
	struct sandbox sandbox = {
		.control_fd = -1, .told_fd = -1, .options = {.log.dir = -1, .debug_log.dir = -1}};
	struct hk_err err = HK_ERR_INIT;
	struct hk_opts opts;
	bool in_bash = false;
	const char *value;
	int option;
	int status;

	hk_opts_init(&opts, "sandbox", table, OPT_COUNT, argv);
	while ((option = hk_opts_next(&opts, &value, &err)) != HK_OPTS_END) {
		switch (option) {
		case OPT_BASH:
			in_bash = true;
			break;
		case OPT_HELP:
			print_help();
			return HK_STATUS_OK;
		case OPT_VERSION:
			printf("Gentoo path sandbox, as hako %s has it\n", HAKO_VERSION);
			return HK_STATUS_OK;
		default:
			return hk_report_err("sandbox", &err, HK_STATUS_NO);
		}
	}
	if (getenv("SANDBOX_ACTIVE") != NULL) {
		hk_report("sandbox",
			"not launching a new sandbox as one is already running in "
			"this process hierarchy");
		return HK_STATUS_NO;
	}
	argv += opts.next;
	if (prepare(&sandbox, argv[0] == NULL, &err) < 0) {
		status = hk_report_err("sandbox", &err, HK_STATUS_NO);
	} else {
		status = conclude(&sandbox, run(&sandbox, argv, in_bash));
	}
	finish(&sandbox);
	return status;
}
