/* SPDX-License-Identifier: ISC */
/*
 * The file tree of a box: see layout.h.
 *
 *	/		tmpfs, or an overlay over --rootfs
 *	/usr		the host's, read-only, only what every user of the host may read
 *	/bin, /lib, ...	as on the host: links into /usr, or directories exported like it
 *	/etc		the host's below, the box's own identity above (etc.c)
 *	/home/USER	empty; so are /tmp, /run (the agent's own doing), /var, ...
 *	shares		where -v put them, parents first
 *
 * Theory: each host directory is an export of one file server. Shares are mounted writable in the
 * guest also where they are read-only, so that the server hears of the attempt and the user learns
 * of it; it is the server that refuses. The system is mounted read-only.
 *
 * Whose files: the server acts as the caller. Where the command's uid is another than the caller's
 * (root without --root, users with it), the two are swapped in the attributes of shares. A root
 * file system of --rootfs is not the caller's: its ids stay as they are.
 *
 * Limits: a mount point within a read-only share has to exist already.
 */
#include "box/layout.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/str.h"
#include "base/util.h"
#include "box/etc.h"

/* What makes up the system besides /usr and /etc; those that the host has not are left out. */
static const char *const system_dirs[] = {"bin", "sbin", "lib", "lib32", "lib64", "libx32"};

/* Directories of the box's own, for programs that expect them. */
static const struct {
	const char *path;
	uint32_t mode;
} own_dirs[] = {
	{"/home", 0755},
	{"/root", 0700},
	{"/mnt", 0755},
	{"/media", 0755},
	{"/opt", 0755},
	{"/srv", 0755},
	{"/var/cache", 0755},
	{"/var/lib", 0755},
	{"/var/log", 0755},
	{"/var/tmp", 01777},
};

bool hk_export_is_share(const char *export_name)
{
	return export_name[0] == 'v' && export_name[1] >= '0' && export_name[1] <= '9';
}

/* Users */

static bool is_user_name(const char *name)
{
	size_t len = name == NULL ? 0 : strlen(name);

	return len > 0 && len < HK_USER_NAME_SIZE && name[0] != '-' && name[0] != '.' &&
		strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") ==
		len &&
		strcmp(name, "root") != 0 && strcmp(name, "nobody") != 0;
}

void hk_box_user_init(struct hk_box_user *user, const struct hk_box_config *config)
{
	enum { STAND_IN_ID = 1000 };

	if (config->as_root) {
		*user = (struct hk_box_user){.name = "root", .home = "/root"};
		return;
	}
	user->uid = config->caller_uid == 0 ? STAND_IN_ID : config->caller_uid;
	user->gid = config->caller_gid == 0 ? STAND_IN_ID : config->caller_gid;
	hk_fmt(user->name, sizeof(user->name), "%s",
		is_user_name(config->caller_name) ? config->caller_name : "user");
	hk_fmt(user->home, sizeof(user->home), "/home/%s", user->name);
}

/* Exports and steps */

static int add_export(struct hk_layout *layout, const struct hk_fuse_export *export,
	const char *host_root, struct hk_err *err)
{
	unsigned i = layout->export_count;
	struct hk_str path = {0};

	hk_str_add(&path, host_root);
	hk_str_add(&path, export->path);
	if (hk_str_take(&path, &layout->paths[i]) < 0) {
		return hk_fail(err, ENOMEM, "file tree of the box");
	}
	hk_fmt(layout->names[i], sizeof(layout->names[i]), "%s", export->name);
	layout->exports[i] = *export;
	layout->exports[i].name = layout->names[i];
	layout->exports[i].path = layout->paths[i];
	if (export->root == NULL) {
		layout->exports[i].root = layout->paths[i] + strlen(host_root);
	}
	layout->export_count++;
	return 0;
}

static void add_step(struct hk_layout *layout, const struct hk_step *step)
{
	hk_control_add_step(&layout->steps, step); /* errors stick to the builder */
}

static void add_dir(struct hk_layout *layout, const char *path, uint32_t mode)
{
	add_step(layout, &(struct hk_step){.type = HK_STEP_DIR, .path = path, .mode = mode});
}

static void add_home(struct hk_layout *layout)
{
	const struct hk_box_user *user = &layout->user;
	char runtime_dir[32];

	if (!layout->config->as_root) {
		add_step(layout,
			&(struct hk_step){.type = HK_STEP_TMPFS,
				.path = user->home,
				.mode = 0700,
				.uid = user->uid,
				.gid = user->gid});
	}
	hk_fmt(runtime_dir, sizeof(runtime_dir), "/run/user/%u", user->uid);
	add_dir(layout, "/run/user", 0755);
	add_step(layout,
		&(struct hk_step){.type = HK_STEP_DIR,
			.path = runtime_dir,
			.mode = 0700,
			.uid = user->uid,
			.gid = user->gid});
}

static int add_system_export(struct hk_layout *layout, const char *name, const char *path,
	const char *host_root, struct hk_err *err)
{
	return add_export(layout,
		&(struct hk_fuse_export){
			.name = name, .path = path, .read_only = true, .public_only = true},
		host_root, err);
}

/* One of /bin, /lib, ...: what it is on the host, it is in the box. */
static int add_system_dir(
	struct hk_layout *layout, const char *name, const char *host_root, struct hk_err *err)
{
	char path[32];
	char host_path[PATH_MAX];
	char target[PATH_MAX];
	struct stat st;
	ssize_t len;

	hk_fmt(path, sizeof(path), "/%s", name);
	if (hk_fmt(host_path, sizeof(host_path), "%s%s", host_root, path) < 0 ||
		lstat(host_path, &st) < 0) {
		return 0;
	}
	if (S_ISLNK(st.st_mode)) {
		len = readlink(host_path, target, sizeof(target) - 1);
		if (len > 0) {
			target[len] = '\0';
			add_step(layout,
				&(struct hk_step){
					.type = HK_STEP_SYMLINK, .path = path, .source = target});
		}
		return 0;
	}
	if (!S_ISDIR(st.st_mode)) {
		return 0;
	}
	add_step(layout,
		&(struct hk_step){
			.type = HK_STEP_FS, .path = path, .source = name, .flags = HK_STEP_RO});
	return add_system_export(layout, name, path, host_root, err);
}

static int add_etc(
	struct hk_layout *layout, const char *host_root, const char *machine_id, struct hk_err *err)
{
	struct hk_control_builder upper = {0};
	int r = add_system_export(layout, "etc", "/etc", host_root, err);

	if (r < 0) {
		return r;
	}
	r = hk_etc_add(&upper, "", layout->config->name, &layout->user, host_root, machine_id, err);
	if (r == 0) {
		add_step(layout,
			&(struct hk_step){.type = HK_STEP_OVERLAY,
				.path = "/etc",
				.source = "etc",
				.upper = hk_control_built(&upper)});
	}
	hk_control_builder_finish(&upper);
	return r;
}

static int add_host_system(
	struct hk_layout *layout, const char *host_root, const char *machine_id, struct hk_err *err)
{
	int r = add_system_export(layout, "usr", "/usr", host_root, err);

	add_step(layout,
		&(struct hk_step){
			.type = HK_STEP_FS, .path = "/usr", .source = "usr", .flags = HK_STEP_RO});
	for (size_t i = 0; r == 0 && i < HK_ARRAY_SIZE(system_dirs); i++) {
		r = add_system_dir(layout, system_dirs[i], host_root, err);
	}
	if (r == 0) {
		r = add_etc(layout, host_root, machine_id, err);
	}
	for (size_t i = 0; i < HK_ARRAY_SIZE(own_dirs); i++) {
		add_dir(layout, own_dirs[i].path, own_dirs[i].mode);
	}
	add_step(layout,
		&(struct hk_step){.type = HK_STEP_SYMLINK, .path = "/var/run", .source = "/run"});
	return r;
}

/* Where the command's user is not the caller, shares are the caller's on either side. */
static void map_ids(struct hk_fuse_export *export, const struct hk_layout *layout)
{
	export->map_ids = layout->user.uid != layout->config->caller_uid ||
		layout->user.gid != layout->config->caller_gid;
	export->host_uid = layout->config->caller_uid;
	export->host_gid = layout->config->caller_gid;
	export->guest_uid = layout->user.uid;
	export->guest_gid = layout->user.gid;
}

/* Programs of a root file system know nothing of the host, so only names and addresses are ours. */
static int add_rootfs(struct hk_layout *layout, const char *machine_id, struct hk_err *err)
{
	struct hk_control_builder upper = {0};
	struct hk_fuse_export export = {
		.name = "root", .path = layout->config->rootfs, .root = "/", .read_only = true};
	int r;

	r = add_export(layout, &export, "", err);
	if (r < 0) {
		return r;
	}
	hk_etc_add_names(&upper, "/etc", layout->config->name, machine_id);
	add_step(layout,
		&(struct hk_step){.type = HK_STEP_OVERLAY,
			.path = "/",
			.source = "root",
			.upper = hk_control_built(&upper)});
	r = upper.error;
	hk_control_builder_finish(&upper);
	return r < 0 ? hk_fail(err, -r, "file tree of the box") : 0;
}

static int by_guest_path(const void *a, const void *b)
{
	const struct hk_share *const *x = a;
	const struct hk_share *const *y = b;

	return strcmp((*x)->guest, (*y)->guest);
}

/* Parents first: "/a" sorts before "/a/b". */
static int add_shares(struct hk_layout *layout, struct hk_err *err)
{
	const struct hk_box_config *config = layout->config;
	const struct hk_share *sorted[HK_BOX_MAX_SHARES];

	for (unsigned i = 0; i < config->share_count; i++) {
		sorted[i] = &config->shares[i];
	}
	qsort(sorted, config->share_count, sizeof(sorted[0]), by_guest_path);
	for (unsigned i = 0; i < config->share_count; i++) {
		char name[HK_EXPORT_NAME_SIZE];
		struct hk_fuse_export export = {.name = name,
			.path = sorted[i]->host,
			.root = sorted[i]->guest,
			.read_only = !sorted[i]->writable && sorted[i]->layer == NULL,
			.dax = sorted[i]->dax != HK_SHARE_DAX_NO};
		int r;

		hk_fmt(name, sizeof(name), "v%u", (unsigned)(sorted[i] - config->shares));
		map_ids(&export, layout);
		layout->layers[layout->export_count] = sorted[i]->layer;
		r = add_export(layout, &export, "", err);
		if (r < 0) {
			return r;
		}
		add_step(layout,
			&(struct hk_step){
				.type = HK_STEP_FS, .path = sorted[i]->guest, .source = name});
	}
	return 0;
}

int hk_layout_make(struct hk_layout *layout, const struct hk_box_config *config,
	const char *host_root, const char *machine_id, struct hk_err *err)
{
	int r;

	layout->config = config;
	hk_box_user_init(&layout->user, config);
	if (config->rootfs != NULL) {
		r = add_rootfs(layout, machine_id, err);
	} else {
		r = add_host_system(layout, host_root, machine_id, err);
	}
	if (r < 0) {
		return r;
	}
	add_home(layout);
	r = add_shares(layout, err);
	if (r < 0) {
		return r;
	}
	if (layout->steps.error < 0) {
		return hk_fail(err, -layout->steps.error, "file tree of the box");
	}
	return 0;
}

void hk_layout_finish(struct hk_layout *layout)
{
	for (unsigned i = 0; i < layout->export_count; i++) {
		free(layout->paths[i]);
	}
	hk_control_builder_finish(&layout->steps);
	*layout = (struct hk_layout){0};
}

const struct hk_share *hk_layout_share(const struct hk_layout *layout, const char *export_name)
{
	uint64_t index;

	if (!hk_export_is_share(export_name) ||
		hk_parse_uint(export_name + 1, 0, HK_BOX_MAX_SHARES, &index) < 0 ||
		index >= layout->config->share_count) {
		return NULL;
	}
	return &layout->config->shares[index];
}

bool hk_layout_map(
	const struct hk_box_config *config, const char *path, char *ret_path, size_t size)
{
	size_t best = 0;

	for (unsigned i = 0; path != NULL && i < config->share_count; i++) {
		const struct hk_share *share = &config->shares[i];
		const char *rest = hk_path_within(path, share->host);

		/* Of shares within each other, the innermost. */
		if (rest != NULL && strlen(share->host) > best &&
			hk_fmt(ret_path, size, "%s%s", share->guest, rest) >= 0) {
			best = strlen(share->host);
		}
	}
	return best > 0;
}

const char *hk_layout_workdir(struct hk_layout *layout)
{
	const struct hk_box_config *config = layout->config;

	if (config->workdir != NULL) {
		return config->workdir;
	}
	if (hk_layout_map(config, config->caller_dir, layout->workdir, sizeof(layout->workdir))) {
		return layout->workdir;
	}
	return layout->user.home;
}

static bool is_own_dir(const char *path)
{
	static const char *const others[] = {"/run", "/tmp", "/var"};

	for (size_t i = 0; i < HK_ARRAY_SIZE(others); i++) {
		if (strcmp(path, others[i]) == 0) {
			return true;
		}
	}
	for (size_t i = 0; i < HK_ARRAY_SIZE(own_dirs); i++) {
		if (strcmp(path, own_dirs[i].path) == 0) {
			return true;
		}
	}
	return false;
}

bool hk_box_shows(const struct hk_box_config *config, const char *path)
{
	static const char *const places[] = {"/usr", "/etc", "/proc", "/sys", "/dev"};

	if (config->rootfs != NULL || strcmp(path, "/") == 0 || is_own_dir(path)) {
		return true; /* of a root file system, who knows */
	}
	for (unsigned i = 0; i < config->share_count; i++) {
		if (hk_path_within(path, config->shares[i].host) != NULL) {
			return true;
		}
	}
	for (size_t i = 0; i < HK_ARRAY_SIZE(places); i++) {
		if (hk_path_within(path, places[i]) != NULL) {
			return true;
		}
	}
	for (size_t i = 0; i < HK_ARRAY_SIZE(system_dirs); i++) {
		char dir[32];

		hk_fmt(dir, sizeof(dir), "/%s", system_dirs[i]);
		if (hk_path_within(path, dir) != NULL) {
			return true;
		}
	}
	return false;
}
