/* SPDX-License-Identifier: ISC */
/*
 * Checks of a box's configuration: everything that can be known to be wrong before anything is
 * started, each with the user's object and the next step.
 */
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "base/util.h"
#include "box/box.h"
#include "box/layout.h"
#include "engine/engine.h"

void hk_box_host_memory(uint64_t *ret_total_bytes, uint64_t *ret_available_bytes)
{
	autofclose FILE *file = fopen("/proc/meminfo", "re");
	char line[128];
	uint64_t total_kib = 0;
	uint64_t available_kib = 0;

	while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
		sscanf(line, "MemTotal: %" SCNu64, &total_kib);
		sscanf(line, "MemAvailable: %" SCNu64, &available_kib);
	}
	if (ret_total_bytes != NULL) {
		*ret_total_bytes = total_kib * HK_KIB;
	}
	if (ret_available_bytes != NULL) {
		*ret_available_bytes = available_kib * HK_KIB;
	}
}

uint64_t hk_box_default_memory(uint64_t available_bytes)
{
	uint64_t bytes = hk_align_down(HK_MIN(HK_GIB, available_bytes / 2), HK_MIB);

	return HK_MAX(bytes, HK_BOX_MIN_MEMORY_BYTES);
}

static int check_name(const char *name, struct hk_err *err)
{
	static const char allowed[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
	size_t len;

	if (name == NULL) {
		return 0;
	}
	len = strlen(name);
	if (len == 0 || len > HK_BOX_MAX_NAME || name[0] == '-' || name[0] == '.' ||
		strspn(name, allowed) != len) {
		hk_fail_msg(err, EINVAL, "the name '%.80s' will not do", name);
		return hk_err_hint(err,
			"use 1 to %d letters, digits, '.', '_' and '-', not starting with '-' or "
			"'.'",
			HK_BOX_MAX_NAME);
	}
	return 0;
}

static int check_machine(const struct hk_box_config *config, struct hk_err *err)
{
	uint64_t mib = config->memory_bytes / HK_MIB;

	if (config->vcpu_count < 1 || config->vcpu_count > HK_MAX_VCPUS) {
		hk_fail_msg(err, EINVAL, "%u CPUs", config->vcpu_count);
		return hk_err_hint(err, "give it 1 to %d with --cpus", HK_MAX_VCPUS);
	}
	if (config->memory_bytes < HK_BOX_MIN_MEMORY_BYTES) {
		hk_fail_msg(
			err, EINVAL, "%" PRIu64 " MiB of memory are too little for a kernel", mib);
		return hk_err_hint(err, "give it at least %" PRIu64 " MiB with --memory",
			HK_BOX_MIN_MEMORY_BYTES / HK_MIB);
	}
	return 0;
}

static int check_host_memory(
	const struct hk_box_config *config, uint64_t host_memory_bytes, struct hk_err *err)
{
	uint64_t mib = config->memory_bytes / HK_MIB;

	if (host_memory_bytes != 0 && config->memory_bytes > host_memory_bytes) {
		hk_fail_msg(
			err, EINVAL, "%" PRIu64 " MiB of memory are more than this host has", mib);
		return hk_err_hint(err, "give it less than %" PRIu64 " MiB with --memory",
			host_memory_bytes / HK_MIB);
	}
	return 0;
}

static const char *kind_of(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFIFO:
		return "a FIFO";
	case S_IFSOCK:
		return "a socket";
	case S_IFCHR:
	case S_IFBLK:
		return "a device";
	default:
		return "no file";
	}
}

static int check_share_host(const struct hk_share *share, struct hk_err *err)
{
	struct stat st;

	if (stat(share->host, &st) < 0) {
		bool missing = errno == ENOENT;

		hk_fail(err, errno, "-v %s", share->host);
		return hk_err_hint(err, "%s",
			missing ? "make it first, or name what exists"
				: "only what you may see yourself can be shared");
	}
	if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode)) {
		hk_fail_msg(err, EINVAL, "-v %s: it is %s", share->host, kind_of(st.st_mode));
		return hk_err_hint(err,
			"only directories and regular files can be shared; share the "
			"directory it is in");
	}
	return 0;
}

static bool is_clean_path(const char *path)
{
	if (path[0] != '/') {
		return false;
	}
	for (const char *at = path; *at != '\0';) {
		size_t len;

		at++;
		len = strcspn(at, "/");
		if ((len == 1 && at[0] == '.') || (len == 2 && at[0] == '.' && at[1] == '.')) {
			return false;
		}
		at += len;
	}
	return strlen(path) <= HK_CONTROL_MAX_PATH;
}

/* The kernel makes what is in there. Not shared memory: that is a directory like any other. */
static bool is_kernels(const char *path, const char *dir)
{
	return hk_path_within(path, dir) != NULL && hk_path_within(path, "/dev/shm") == NULL;
}

static int check_share_guest(const struct hk_share *share, struct hk_err *err)
{
	static const char *const kernels[] = {"/proc", "/sys", "/dev"};

	if (!is_clean_path(share->guest)) {
		hk_fail_msg(err, EINVAL, "-v %s: the path in the box is '%s'", share->host,
			share->guest);
		return hk_err_hint(
			err, "give it from the root, without '..': -v %s:/PATH", share->host);
	}
	if (share->guest[strspn(share->guest, "/")] == '\0') {
		hk_fail_msg(err, EINVAL, "-v %s: it cannot be the box's root", share->host);
		return hk_err_hint(err, "use --rootfs %s", share->host);
	}
	for (size_t i = 0; i < HK_ARRAY_SIZE(kernels); i++) {
		if (is_kernels(share->guest, kernels[i])) {
			hk_fail_msg(err, EINVAL, "-v %s: %s is the box's kernel's", share->host,
				kernels[i]);
			return hk_err_hint(
				err, "choose another place for it: -v %s:/PATH", share->host);
		}
	}
	return 0;
}

/* The share on which @share's place is, if it is not the box's own. */
static const struct hk_share *share_below(
	const struct hk_box_config *config, const struct hk_share *share)
{
	const struct hk_share *found = NULL;

	for (unsigned i = 0; i < config->share_count; i++) {
		const struct hk_share *other = &config->shares[i];

		if (other != share && hk_path_within(share->guest, other->guest) != NULL &&
			(found == NULL || strlen(other->guest) > strlen(found->guest))) {
			found = other;
		}
	}
	return found;
}

/* In what the guest may not write it cannot make a place for a share. */
static int check_share_place(
	const struct hk_box_config *config, const struct hk_share *share, struct hk_err *err)
{
	const struct hk_share *below = share_below(config, share);
	char place[PATH_MAX];
	struct stat st;

	if (below == NULL || below->writable || below->layer != NULL ||
		hk_fmt(place, sizeof(place), "%s%s", below->host,
			hk_path_within(share->guest, below->guest)) < 0 ||
		lstat(place, &st) == 0 || errno != ENOENT) {
		return 0;
	}
	hk_fail_msg(err, EROFS, "-v %s:%s: there is no %s, and -v %s is read-only", share->host,
		share->guest, place, below->host);
	return hk_err_hint(err, "make the %s %s first",
		stat(share->host, &st) == 0 && S_ISREG(st.st_mode) ? "file" : "directory", place);
}

static int check_share_values(const struct hk_box_config *config, struct hk_err *err)
{
	if (config->share_count > HK_BOX_MAX_SHARES) {
		hk_fail_msg(err, E2BIG, "%u shares", config->share_count);
		return hk_err_hint(
			err, "at most %d can be given; share a directory above", HK_BOX_MAX_SHARES);
	}
	for (unsigned i = 0; i < config->share_count; i++) {
		const struct hk_share *share = &config->shares[i];
		int r = check_share_guest(share, err);

		if (r < 0) {
			return r;
		}
		for (unsigned j = 0; j < i; j++) {
			if (strcmp(share->guest, config->shares[j].guest) == 0) {
				hk_fail_msg(err, EEXIST, "-v: two shares at %s", share->guest);
				return hk_err_hint(err, "give each a place of its own: -v %s:/PATH",
					share->host);
			}
		}
	}
	return 0;
}

static int check_shares(const struct hk_box_config *config, struct hk_err *err)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < config->share_count; i++) {
		r = check_share_host(&config->shares[i], err);
	}
	for (unsigned i = 0; r == 0 && i < config->share_count; i++) {
		r = check_share_place(config, &config->shares[i], err);
	}
	return r;
}

static int check_rootfs(const char *rootfs, struct hk_err *err)
{
	struct stat st;

	if (rootfs == NULL) {
		return 0;
	}
	if (stat(rootfs, &st) < 0) {
		hk_fail(err, errno, "--rootfs %s", rootfs);
	} else if (!S_ISDIR(st.st_mode)) {
		hk_fail(err, ENOTDIR, "--rootfs %s", rootfs);
	} else {
		return 0;
	}
	return hk_err_hint(err, "name a directory that holds a root file system");
}

static int check_disks(const struct hk_box_config *config, struct hk_err *err)
{
	if (config->disk_count > HK_BOX_MAX_DISKS) {
		hk_fail_msg(err, E2BIG, "%u disks", config->disk_count);
		return hk_err_hint(err, "at most %d can be given", HK_BOX_MAX_DISKS);
	}
	return 0;
}

/**
 * struct sum - what words add up to
 * @bytes: on the control channel
 */
struct sum {
	size_t count;
	size_t bytes;
	size_t longest;
};

static void add_word(struct sum *sum, const char *word)
{
	enum { OVERHEAD = 8 }; /* a length and an end, generously */
	size_t len = strlen(word);

	sum->count++;
	sum->bytes += len + OVERHEAD;
	sum->longest = HK_MAX(sum->longest, len);
}

static int check_size(const struct hk_box_config *config, struct hk_err *err)
{
	struct sum argv = {0};
	struct sum env = {0};

	for (char *const *arg = config->argv; *arg != NULL; arg++) {
		add_word(&argv, *arg);
	}
	for (unsigned i = 0; i < config->env_count; i++) {
		add_word(&env, config->env[i]);
	}
	if (HK_MAX(argv.count, env.count) > HK_BOX_MAX_WORDS) {
		hk_fail_msg(err, E2BIG, "%zu arguments and %zu variables; at most %d fit of either",
			argv.count, env.count, HK_BOX_MAX_WORDS);
	} else if (HK_MAX(argv.longest, env.longest) > HK_CONTROL_MAX_STRING) {
		hk_fail_msg(err, E2BIG, "an argument or variable of %zu bytes; at most %d fit",
			HK_MAX(argv.longest, env.longest), HK_CONTROL_MAX_STRING);
	} else if (argv.bytes + env.bytes > HK_BOX_MAX_COMMAND_BYTES) {
		hk_fail_msg(err, E2BIG, "arguments and environment of %zu KiB; at most %d KiB fit",
			(argv.bytes + env.bytes) / 1024, HK_BOX_MAX_COMMAND_BYTES / 1024);
	} else {
		return 0;
	}
	return hk_err_hint(err, "pass them by standard input or a file");
}

static int check_command(const struct hk_box_config *config, struct hk_err *err)
{
	if (config->argv == NULL || config->argv[0] == NULL) {
		hk_fail_msg(err, EINVAL, "no command");
		return hk_err_hint(err, "say what to run: hako run -- COMMAND");
	}
	if (config->argv[0][0] == '\0') {
		return hk_fail_msg(err, EINVAL, "the command is an empty word");
	}
	if (config->workdir != NULL && !is_clean_path(config->workdir)) {
		hk_fail_msg(err, EINVAL, "-w %s", config->workdir);
		return hk_err_hint(err, "give the directory from the box's root, without '..'");
	}
	for (unsigned i = 0; i < config->env_count; i++) {
		if (strcspn(config->env[i], "=") == 0 || strchr(config->env[i], '=') == NULL) {
			hk_fail_msg(err, EINVAL, "-e %s", config->env[i]);
			return hk_err_hint(err, "give it as -e NAME=VALUE");
		}
	}
	return check_size(config, err);
}

int hk_box_check_values(const struct hk_box_config *config, struct hk_err *err)
{
	int r = check_command(config, err);

	if (r == 0) {
		r = check_name(config->name, err);
	}
	if (r == 0 && config->engine != NULL) {
		r = hk_engine_check_name(config->engine, err);
	}
	if (r == 0) {
		r = check_machine(config, err);
	}
	if (r == 0) {
		r = check_share_values(config, err);
	}
	return r == 0 ? check_disks(config, err) : r;
}

int hk_box_check(const struct hk_box_config *config, uint64_t host_memory_bytes, struct hk_err *err)
{
	int r = hk_box_check_values(config, err);

	if (r == 0) {
		r = check_host_memory(config, host_memory_bytes, err);
	}
	if (r == 0) {
		r = check_shares(config, err);
	}
	return r == 0 ? check_rootfs(config->rootfs, err) : r;
}
