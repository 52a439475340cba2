/* SPDX-License-Identifier: ISC */
/*
 * The command line of `hako run`: see run_options.h.
 *
 * Theory: options are taken in order into the configuration; what is not given is filled in
 * afterwards. The libraries check what it means (hk_box_check()); here is only what concerns the
 * words themselves and the caller's surroundings.
 */
#include "cli/run_options.h"

#include <inttypes.h>
#include <limits.h>
#include <pwd.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/str.h"
#include "base/sys.h"
#include "base/util.h"
#include "cli/opts.h"
#include "cli/parse.h"
#include "cli/terminal_linux.h"

enum { DEFAULT_MAX_CPUS = 4 };

enum {
	OPT_VOLUME,
	OPT_WORKDIR,
	OPT_ENV,
	OPT_TTY,
	OPT_INTERACTIVE,
	OPT_ROOT,
	OPT_CPUS,
	OPT_MEMORY,
	OPT_DISK,
	OPT_KEEP,
	OPT_WATCH,
	OPT_ROOTFS = OPT_WATCH + HK_WATCH_COUNT,
	OPT_NAME,
	OPT_TIMEOUT,
	OPT_KERNEL,
	OPT_ENGINE,
	OPT_CPU,
	OPT_VERBOSE,
	OPT_DEBUG,
	OPT_HELP,
	OPT_COUNT,
};

static const struct hk_opt table[OPT_COUNT] = {
	[OPT_VOLUME] = {"volume", 'v', "HOST[:GUEST][:MODE]",
		"share it; MODE: ro (default), rw, cow, dax or rw,dax"},
	[OPT_KEEP] = {"keep", 0, "NAME",
		"what is changed in a share :cow; for hako diff and apply"},
	[OPT_WATCH] = HK_WATCH_ROWS,
	[OPT_WORKDIR] = {"workdir", 'w', "DIR", "where the command starts"},
	[OPT_ENV] = {"env", 'e', "NAME[=VALUE]", "set a variable, or pass yours on"},
	[OPT_TTY] = {"tty", 't', NULL, "give the command a terminal (default if you have one)"},
	[OPT_INTERACTIVE] = {"interactive", 'i', NULL, "no terminal: plain streams"},
	[OPT_ROOT] = {"root", 0, NULL, "run the command as the box's root"},
	[OPT_CPUS] = {"cpus", 0, "N", "CPUs (1 to 16; default: yours, at most 4)"},
	[OPT_MEMORY] = {"memory", 'm', "SIZE", "memory, such as 512M (default: 1G)"},
	[OPT_DISK] = {"disk", 0, "FILE[:ro]", "a raw disk image; becomes /dev/vda, ..."},
	[OPT_ROOTFS] = {"rootfs", 0, "DIR", "another system than the host's; writes are not kept"},
	[OPT_NAME] = {"name", 0, "NAME", "the box's name and hostname"},
	[OPT_TIMEOUT] = {"timeout", 0, "TIME", "end it after 30, 30s, 5m, ...: exit status 124"},
	[OPT_KERNEL] = {"kernel", 0, "KERNEL", "id, release or file; see hako kernel list"},
	[OPT_ENGINE] = {"engine", 0, "ENGINE", "kvm or soft; see hako doctor"},
	[OPT_CPU] = {"cpu", 0, "MODEL", "hako-v2 (default) or host; ,+FEATURE adds to it"},
	[OPT_VERBOSE] = {"verbose", 0, NULL, "tell of each step, and what the box's kernel says"},
	[OPT_DEBUG] = {"debug", 0, "LEVELS", "what hako says of its work, such as virtio:debug"},
	[OPT_HELP] = {"help", 'h', NULL, "this"},
};

void hk_run_options_print_help(void)
{
	puts("usage: hako run [option]... [--] COMMAND [ARGUMENT]...\n\n"
	     "Runs COMMAND in a microVM of its own, with this host's programs, and nothing else\n"
	     "of yours unless named here.\n");
	hk_opts_print(stdout, table, OPT_COUNT);
	puts("\nThe exit status is the command's; 128+N if signal N killed it, 127 if it was not\n"
	     "found, 126 if it cannot be executed, 125 if hako itself failed. See hako-run(1).");
}

/* Values */

/* By default the box shows a file where the host has it, under the name that was given. */
static int default_guest(
	const struct hk_share_spec *spec, const char *dir, const char *host, char **ret_guest)
{
	if (spec->guest != NULL) {
		/* One place has one name; the box's check refuses what is not from the root. */
		if (spec->guest[0] == '/') {
			return hk_path_absolute("/", spec->guest, ret_guest);
		}
		*ret_guest = hk_strdup(spec->guest);
	} else if (hk_path_has_dotdot(spec->host)) {
		*ret_guest = hk_strdup(host);
	} else {
		return hk_path_absolute(dir, spec->host, ret_guest);
	}
	return *ret_guest == NULL ? -ENOMEM : 0;
}

/* The real path where there is one; the box's check says what is wrong where there is none. */
static int real_path(const char *dir, const char *path, char **ret_path)
{
	autofree char *absolute = NULL;
	int r = hk_path_absolute(dir, path, &absolute);

	if (r < 0) {
		return r;
	}
	*ret_path = realpath(absolute, NULL);
	if (*ret_path == NULL) {
		*ret_path = take_ptr(absolute);
	}
	return 0;
}

/* What @path of @option starts from: there may be nothing. */
static int check_start(const struct hk_run_options *options, const char *option, const char *path,
	struct hk_err *err)
{
	if (path[0] == '/' || options->caller_dir != NULL) {
		return 0;
	}
	return hk_opts_bad_value(option, path,
		"the current directory is gone: change to another one, or give a path from /", err);
}

static int set_rootfs(struct hk_run_options *options, const char *value, struct hk_err *err)
{
	int r;

	if (value[0] == '\0') {
		return hk_opts_bad_value("--rootfs", "''", "name a directory", err);
	}
	r = check_start(options, "--rootfs", value, err);
	if (r < 0) {
		return r;
	}
	free(options->rootfs);
	options->rootfs = NULL;
	r = real_path(options->caller_dir, value, &options->rootfs);
	return r < 0 ? hk_fail(err, -r, "--rootfs") : 0;
}

/* Shared memory of the host's is that in a box, too. */
static enum hk_share_dax dax_of(const struct hk_share_spec *spec, const char *host)
{
	static const char shm[] = "/dev/shm";
	size_t len = strlen(shm);

	if (spec->dax) {
		return HK_SHARE_DAX_YES;
	}
	if (!spec->cow && strncmp(host, shm, len) == 0 && (host[len] == '\0' || host[len] == '/')) {
		return HK_SHARE_DAX_IF_POSSIBLE;
	}
	return HK_SHARE_DAX_NO;
}

static int add_share(struct hk_run_options *options, const char *value, struct hk_err *err)
{
	unsigned i = options->config.share_count;
	struct hk_share_spec spec = {0};
	char *host = NULL;
	char *guest = NULL;
	int r = hk_share_spec_parse(value, &spec, err);

	if (r < 0) {
		return r;
	}
	if (i == HK_ARRAY_SIZE(options->shares)) {
		hk_share_spec_finish(&spec);
		return hk_opts_bad_value(
			"-v", value, "there are too many; share a directory above them", err);
	}
	r = check_start(options, "-v", spec.host, err);
	if (r < 0) {
		hk_share_spec_finish(&spec);
		return r;
	}
	r = real_path(options->caller_dir, spec.host, &host);
	if (r == 0) {
		r = default_guest(&spec, options->caller_dir, host, &guest);
	}
	options->shares[i] =
		(struct hk_share){.host = host, .guest = guest, .writable = spec.writable};
	if (r == 0) {
		options->shares[i].dax = dax_of(&spec, host);
	}
	options->is_cow[i] = spec.cow;
	options->config.share_count++;
	hk_share_spec_finish(&spec);
	return r < 0 ? hk_fail(err, -r, "-v %s", value) : 0;
}

static int add_disk(struct hk_run_options *options, const char *value, struct hk_err *err)
{
	unsigned i = options->config.disk_count;
	char *path = NULL;
	bool read_only;
	int r;

	if (i == HK_ARRAY_SIZE(options->disks)) {
		return hk_opts_bad_value("--disk", value, "there are too many", err);
	}
	r = hk_disk_spec_parse(value, &path, &read_only, err);
	if (r == 0) {
		options->disks[i] = (struct hk_box_disk){.path = path, .read_only = read_only};
		options->config.disk_count++;
	}
	return r;
}

/* Takes @entry over; NULL is a failed allocation. */
static int append_env(struct hk_run_options *options, char *entry, struct hk_err *err)
{
	char **grown;

	if (entry == NULL) {
		return hk_fail(err, ENOMEM, "-e");
	}
	grown = hk_realloc_array(options->env, options->env_count + 1, sizeof(*grown));
	if (grown == NULL) {
		free(entry);
		return hk_fail(err, ENOMEM, "-e");
	}
	options->env = grown;
	options->env[options->env_count++] = entry;
	return 0;
}

static int pass_env(struct hk_run_options *options, const char *name, struct hk_err *err)
{
	const char *value = getenv(name);
	struct hk_str entry = {0};
	char *text = NULL;

	if (value == NULL) {
		return 0; /* not set here, not set there */
	}
	hk_str_addf(&entry, "%s=%s", name, value);
	hk_str_take(&entry, &text);
	hk_str_finish(&entry);
	return append_env(options, text, err);
}

static int add_env(struct hk_run_options *options, const char *value, struct hk_err *err)
{
	if (value[0] == '\0' || value[0] == '=') {
		return hk_opts_bad_value("-e", value, "give it as -e NAME or -e NAME=VALUE", err);
	}
	if (strchr(value, '=') == NULL) {
		return pass_env(options, value, err);
	}
	return append_env(options, hk_strdup(value), err);
}

static int set_number(unsigned *ret_number, const char *value, struct hk_err *err)
{
	uint64_t number;

	if (hk_parse_uint(value, 0, 1000, &number) < 0) {
		return hk_opts_bad_value("--cpus", value, "give it a number", err);
	}
	*ret_number = (unsigned)number;
	return 0;
}

static int set_memory(uint64_t *ret_bytes, const char *value, struct hk_err *err)
{
	uint64_t bytes;

	if (hk_parse_size(value, &bytes) < 0 || bytes == 0) {
		return hk_opts_bad_value(
			"--memory", value, "give it a size such as 512M or 2G", err);
	}
	*ret_bytes = hk_align_up(HK_MIN(bytes, UINT64_C(1) << 52), HK_MIB);
	return 0;
}

/* Levels were once given to --log, and would now be written to a file of that name. */
static int check_log(const char *value, struct hk_err *err)
{
	struct hk_err ignored = HK_ERR_INIT;

	return hk_log_configure(value, &ignored) < 0
		? 0
		: hk_opts_bad_value("--log", value,
			  "it names a file; log levels are given with --debug", err);
}

static int take(struct hk_run_options *options, int option, const char *value, struct hk_err *err)
{
	struct hk_box_config *config = &options->config;

	if (hk_watch_options_take(&options->watch, option - OPT_WATCH, value)) {
		return option == OPT_WATCH + HK_WATCH_LOG ? check_log(value, err) : 0;
	}
	switch (option) {
	case OPT_VOLUME:
		return add_share(options, value, err);
	case OPT_WORKDIR:
		config->workdir = value;
		return 0;
	case OPT_ENV:
		return add_env(options, value, err);
	case OPT_TTY:
		options->want_tty = true;
		return 0;
	case OPT_INTERACTIVE:
		options->want_pipes = true;
		return 0;
	case OPT_ROOT:
		config->as_root = true;
		return 0;
	case OPT_CPUS:
		return set_number(&config->vcpu_count, value, err);
	case OPT_MEMORY:
		return set_memory(&config->memory_bytes, value, err);
	case OPT_DISK:
		return add_disk(options, value, err);
	case OPT_ROOTFS:
		return set_rootfs(options, value, err);
	case OPT_KEEP:
		options->layers.keep = value;
		return 0;
	case OPT_NAME:
		config->name = value;
		return 0;
	case OPT_TIMEOUT:
		return hk_opts_take_time("--timeout", value, &config->timeout_ns, err);
	case OPT_KERNEL:
		config->kernel = value;
		return 0;
	case OPT_ENGINE:
		config->engine = value;
		return 0;
	case OPT_CPU:
		return hk_cpu_model_parse(value, &config->cpu, err);
	case OPT_VERBOSE:
		config->verbose = true;
		return 0;
	case OPT_DEBUG:
		return hk_log_configure(value, err);
	case OPT_HELP:
		options->help = true;
		return 0;
	default:
		return 0;
	}
}

/* What was not given */

static unsigned usable_cpus(void)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set) < 0) {
		return 1;
	}
	return (unsigned)HK_MIN(CPU_COUNT(&set), (int)DEFAULT_MAX_CPUS);
}

static int look_at_caller(struct hk_run_options *options, struct hk_err *err)
{
	struct hk_box_config *config = &options->config;
	const struct passwd *entry;

	options->caller_dir = getcwd(NULL, 0);
	/*
	 * It may be gone, or be out of reach ("(unreachable)/..."): nothing is relative to it then.
	 */
	if (options->caller_dir != NULL && options->caller_dir[0] != '/') {
		free(options->caller_dir);
		options->caller_dir = NULL;
	}
	config->caller_uid = getuid();
	config->caller_gid = getgid();
	entry = getpwuid(config->caller_uid);
	options->caller_name = hk_strdup(entry == NULL ? "user" : entry->pw_name);
	if (options->caller_name == NULL) {
		return hk_fail(err, ENOMEM, "start");
	}
	options->caller_home = getenv("HOME") == NULL ? NULL : realpath(getenv("HOME"), NULL);
	config->caller_dir = options->caller_dir;
	config->caller_home = options->caller_home;
	config->caller_name = options->caller_name;
	return 0;
}

/* How people read and write, which no program should have to be told twice. */
static int pass_locale(struct hk_run_options *options, struct hk_err *err)
{
	static const char *const names[] = {
		"LANG",
		"LANGUAGE",
		"LC_ALL",
		"LC_ADDRESS",
		"LC_COLLATE",
		"LC_CTYPE",
		"LC_IDENTIFICATION",
		"LC_MEASUREMENT",
		"LC_MESSAGES",
		"LC_MONETARY",
		"LC_NAME",
		"LC_NUMERIC",
		"LC_PAPER",
		"LC_TELEPHONE",
		"LC_TIME",
	};
	int r = 0;

	for (size_t i = 0; r == 0 && i < HK_ARRAY_SIZE(names); i++) {
		r = pass_env(options, names[i], err);
	}
	return r;
}

/* Later ones win, and the user's own word is to. */
static int pass_env_below(struct hk_run_options *options, const char *name, struct hk_err *err)
{
	size_t len = strlen(name);

	for (unsigned i = 0; i < options->env_count; i++) {
		if (strncmp(options->env[i], name, len) == 0 && options->env[i][len] == '=') {
			return 0;
		}
	}
	return pass_env(options, name, err);
}

static int set_streams(struct hk_run_options *options, struct hk_err *err)
{
	struct hk_box_config *config = &options->config;
	bool all = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) && isatty(STDERR_FILENO);
	int r;

	config->stdin_fd = STDIN_FILENO;
	config->stdout_fd = STDOUT_FILENO;
	config->stderr_fd = STDERR_FILENO;
	config->tty = options->want_tty || (all && !options->want_pipes);
	if (!config->tty) {
		return 0;
	}
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
		if (hk_terminal_size(fd, &config->rows, &config->cols)) {
			break;
		}
	}
	r = pass_env_below(options, "TERM", err);
	return r == 0 ? pass_env_below(options, "COLORTERM", err) : r;
}

static int set_defaults(struct hk_run_options *options, struct hk_err *err)
{
	struct hk_box_config *config = &options->config;
	uint64_t available_bytes;

	if (config->memory_bytes == 0) {
		hk_box_host_memory(NULL, &available_bytes);
		config->memory_bytes = hk_box_default_memory(available_bytes);
	}
	if (config->engine == NULL) {
		config->engine = getenv("HAKO_ENGINE");
	}
	if (config->engine != NULL && config->engine[0] == '\0') {
		config->engine = NULL;
	}
	config->policy = options->watch.policy;
	config->has_audit = config->policy != NULL || options->watch.strict ||
		hk_watch_options_tell(&options->watch);
	config->log_fd = -1;
	config->shares = options->shares;
	config->disks = options->disks;
	config->rootfs = options->rootfs;
	return set_streams(options, err);
}

int hk_run_options_parse(struct hk_run_options *options, char **argv, struct hk_err *err)
{
	struct hk_box_config *config = &options->config;
	const char *log_spec = getenv("HAKO_LOG");
	struct hk_opts opts;
	const char *value;
	int option;
	int r = log_spec == NULL ? 0 : hk_log_configure(log_spec, err);

	if (r < 0) {
		return hk_err_ctx(err, "HAKO_LOG");
	}
	config->vcpu_count = usable_cpus();
	r = look_at_caller(options, err);
	if (r == 0) {
		r = pass_locale(options, err);
	}
	hk_opts_init(&opts, "run", table, OPT_COUNT, argv);
	while (r == 0 && (option = hk_opts_next(&opts, &value, err)) != HK_OPTS_END) {
		r = option < 0 ? option : take(options, option, value, err);
	}
	if (r < 0 || options->help) {
		return r;
	}
	if (options->want_tty && options->want_pipes) {
		hk_fail_msg(err, EINVAL, "-t and -i: the command has a terminal or plain streams");
		hk_err_hint(err, "give one of them");
		return -EINVAL;
	}
	config->argv = argv + opts.next;
	r = set_defaults(options, err);
	config->env = (const char *const *)options->env;
	config->env_count = options->env_count;
	if (r == 0) {
		r = hk_watch_options_check(
			&options->watch, config->policy != NULL, "--policy", err);
	}
	if (r == 0) {
		r = hk_box_check_values(config, err);
	}
	return r == 0 ? hk_run_layers_make(&options->layers, options->shares, options->is_cow,
				options->config.share_count, config->policy != NULL, err)
		      : r;
}

void hk_run_options_finish(struct hk_run_options *options)
{
	for (unsigned i = 0; i < options->config.share_count; i++) {
		free((char *)options->shares[i].host);
		free((char *)options->shares[i].guest);
	}
	for (unsigned i = 0; i < options->config.disk_count; i++) {
		free((char *)options->disks[i].path);
	}
	for (unsigned i = 0; i < options->env_count; i++) {
		free(options->env[i]);
	}
	free(options->env);
	free(options->caller_dir);
	free(options->caller_name);
	free(options->rootfs);
	hk_run_layers_finish(&options->layers);
	free(options->caller_home);
	*options = (struct hk_run_options){0};
}
