/* SPDX-License-Identifier: ISC */
/*
 * Copy-on-write: opening a layer, and the table of operations. See overlay.h and overlay_impl.h.
 *
 * Theory: a layer is a directory with
 *
 *	version	"hako layer 1"; written last, so a layer is whole or none
 *	lower	the absolute path of what it was made over
 *	upper/	what has changed, at its place
 *	work/	copies in the making; emptied when the layer is opened
 *	index/	files with several names below, by their number there
 *	origin/	records of what can have no attribute
 *	hidden	what was below where it is hidden (overlay_hidden_linux.c)
 *
 * An flock(2) on the directory keeps other runs out; it goes with the process, however that ends.
 */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/str.h"
#include "base/sys.h"
#include "base/util.h"
#include "fuse/overlay_impl.h"
#include "fuse/transfer.h"

#define VERSION "hako layer 1\n"

static int sync_layers(struct hk_backend *backend)
{
	struct hk_overlay *ov = hk_overlay_of(backend);
	autoclose int fd = HK_HOST_CALL(openat(ov->upper, ".", O_RDONLY | O_CLOEXEC));
	/* seccomp: syncfs */
	int r = fd < 0 ? fd : HK_HOST_CALL(syncfs(fd));

	return r == 0 && ov->is_cow != NULL ? hk_host_sync(ov->host) : r;
}

static void destroy(struct hk_backend *backend)
{
	struct hk_overlay *ov = hk_overlay_of(backend);

	hk_ov_slots_finish(ov);
	if (ov->host != NULL) {
		ov->host->ops->destroy(ov->host);
	}
	pthread_mutex_destroy(&ov->slots_lock);
	pthread_mutex_destroy(&ov->live_lock);
	pthread_cond_destroy(&ov->copied);
	pthread_mutex_destroy(&ov->copy_lock);
	pthread_rwlock_destroy(&ov->tree);
	hk_close(&ov->hidden);
	hk_close(&ov->origin);
	hk_close(&ov->index);
	hk_close(&ov->work);
	hk_close(&ov->upper);
	hk_close(&ov->layer); /* with the lock */
	free(ov->groups);
	free(ov);
}

static const struct hk_backend_ops overlay_ops = {
	.name = "overlay",
	.lookup = hk_ov_lookup,
	.reach = hk_ov_reach_obj,
	.stat = hk_ov_stat,
	.close = hk_ov_close,
	.readlink = hk_ov_readlink,
	.statfs = hk_ov_statfs,
	.chmod = hk_ov_chmod,
	.chown = hk_ov_chown,
	.utimes = hk_ov_utimes,
	.truncate = hk_ov_truncate,
	.getxattr = hk_ov_getxattr,
	.listxattr = hk_ov_listxattr,
	.setxattr = hk_ov_setxattr,
	.removexattr = hk_ov_removexattr,
	.create = hk_ov_create,
	.tmpfile = hk_ov_tmpfile,
	.mknod = hk_ov_mknod,
	.mkdir = hk_ov_mkdir,
	.symlink = hk_ov_symlink,
	.link = hk_ov_link,
	.unlink = hk_ov_unlink,
	.rename = hk_ov_rename,
	.open = hk_ov_open_file,
	.real_fd = hk_ov_real_fd,
	.read = hk_ov_read,
	.write = hk_ov_write,
	.resize = hk_ov_resize,
	.fsync = hk_ov_fsync,
	.allocate = hk_ov_allocate,
	.seek = hk_ov_seek,
	.copy = hk_ov_copy,
	.open_dir = hk_ov_open_dir,
	.read_dir = hk_ov_read_dir,
	.seek_dir = hk_ov_seek_dir,
	.sync = sync_layers,
	.destroy = destroy,
};

static int init(struct hk_overlay *ov)
{
	pthread_rwlockattr_t attr;
	int lock_error;
	int r;

	ov->base.ops = &overlay_ops;
	ov->base.fds_each = 3;     /* an open one, and those of its inode in both trees */
	ov->base.has_twins = true; /* a copy goes on as what it was made of, which may be gone */
	ov->layer = -1;
	ov->upper = -1;
	ov->work = -1;
	ov->index = -1;
	ov->origin = -1;
	ov->hidden = -1;
	ov->is_root = geteuid() == 0;
	r = hk_ov_find_groups(ov);
	pthread_rwlockattr_init(&attr);
	/* No thread locks it twice; and a writer must not wait for ever. */
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	lock_error = pthread_rwlock_init(&ov->tree, &attr);
	pthread_rwlockattr_destroy(&attr);
	pthread_mutex_init(&ov->copy_lock, NULL);
	pthread_cond_init(&ov->copied, NULL);
	pthread_mutex_init(&ov->live_lock, NULL);
	pthread_mutex_init(&ov->slots_lock, NULL);
	return r < 0 ? r : -lock_error;
}

/* --- the layer's directory --- */

static int write_small(int dir, const char *name, const char *text)
{
	autoclose int fd = hk_open(dir, "new", O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0644);
	int r = fd < 0 ? fd : hk_write_full(fd, text, strlen(text));

	if (r == 0) {
		r = HK_HOST_CALL(fsync(fd));
	}
	return r < 0 ? r : HK_HOST_CALL(renameat(dir, "new", dir, name));
}

static const char *const subdirs[] = {"upper", "work", "index", "origin"};

/* Nothing in it that we have not made, maybe in a run that was killed just then. */
static bool may_become_layer(int dir)
{
	static const char *const files[] = {".", "..", "new", "lower", "hidden"};
	int copy = dup(dir);
	DIR *list = copy < 0 ? NULL : fdopendir(copy);
	const struct dirent *entry;
	bool is_fine = list != NULL;

	while (is_fine && (entry = readdir(list)) != NULL) {
		is_fine = false;
		for (size_t i = 0; i < HK_ARRAY_SIZE(files); i++) {
			is_fine |= strcmp(entry->d_name, files[i]) == 0;
		}
		for (size_t i = 0; i < HK_ARRAY_SIZE(subdirs); i++) {
			is_fine |= strcmp(entry->d_name, subdirs[i]) == 0;
		}
	}
	if (list != NULL) {
		closedir(list);
	} else {
		hk_close(&copy);
	}
	return is_fine;
}

static int make_layer(int dir, const char *lower, const char *path, struct hk_err *err)
{
	int r = 0;

	if (!may_become_layer(dir)) {
		return hk_fail_msg(err, EINVAL,
			"'%s': neither a layer nor an empty directory to make one in", path);
	}
	for (size_t i = 0; r == 0 && i < HK_ARRAY_SIZE(subdirs); i++) {
		r = HK_HOST_CALL(mkdirat(dir, subdirs[i], 0700));
		r = r == -EEXIST ? 0 : r;
	}
	if (r == 0) {
		r = write_small(dir, "hidden", "");
	}
	if (r == 0) {
		r = write_small(dir, "lower", lower);
	}
	if (r == 0) {
		r = write_small(dir, "version", VERSION);
	}
	return r < 0 ? hk_fail(err, -r, "'%s'", path) : 0;
}

static int check_layer(int dir, const char *lower, const char *path, struct hk_err *err)
{
	char text[4200];
	ssize_t n = hk_read_text(dir, "version", text, sizeof(text));

	if (n == -ENOENT) {
		return make_layer(dir, lower, path, err);
	}
	if (n < 0) {
		return hk_fail(err, (int)-n, "'%s/version'", path);
	}
	if (strcmp(text, VERSION) != 0) {
		hk_fail_msg(err, EINVAL, "'%s' is no layer of a version this hako knows", path);
		hk_err_hint(err, "see hako-layer(5)");
		return -EINVAL;
	}
	n = hk_read_text(dir, "lower", text, sizeof(text));
	if (n < 0) {
		return hk_fail(err, (int)-n, "'%s/lower'", path);
	}
	if (strcmp(text, lower) != 0) {
		return hk_fail_msg(
			err, EINVAL, "'%s' was made over '%s', not over '%s'", path, text, lower);
	}
	return 0;
}

static int open_subdir(
	struct hk_overlay *ov, const char *name, const char *path, int *ret_fd, struct hk_err *err)
{
	int fd = hk_host_open_name(ov->layer, name, O_PATH | O_DIRECTORY, 0);

	if (fd < 0) {
		return hk_fail(err, -fd, "'%s/%s'", path, name);
	}
	*ret_fd = fd;
	return 0;
}

static int open_layer(
	struct hk_overlay *ov, const char *path, const char *lower, struct hk_err *err)
{
	struct hk_stat st;
	int r;

	ov->layer = hk_open(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0);
	if (ov->layer < 0) {
		return hk_fail(err, -ov->layer, "layer '%s'", path);
	}
	if (flock(ov->layer, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK) {
			return hk_fail(err, errno, "layer '%s': lock", path);
		}
		hk_fail_msg(err, EBUSY, "layer '%s' is in use by another run", path);
		hk_err_hint(err, "wait for it, or give this one another name");
		return -EBUSY;
	}
	r = check_layer(ov->layer, lower, path, err);
	for (size_t i = 0; r == 0 && i < HK_ARRAY_SIZE(subdirs); i++) {
		int *const fds[] = {&ov->upper, &ov->work, &ov->index, &ov->origin};

		r = open_subdir(ov, subdirs[i], path, fds[i], err);
	}
	if (r < 0) {
		return r;
	}
	ov->hidden = hk_open(ov->layer, "hidden", O_RDWR | O_APPEND | O_NOFOLLOW, 0);
	if (ov->hidden < 0 && ov->hidden != -ENOENT) {
		return hk_fail(err, -ov->hidden, "'%s/hidden'", path);
	}
	r = ov->host->ops->stat(ov->host, ov->layer, &st);
	if (r == 0) {
		ov->layer_dev = st.dev;
		ov->layer_ino = st.ino;
		r = hk_ov_remove_tree(ov->work);
	}
	if (r < 0) {
		return hk_fail(err, -r, "layer '%s'", path);
	}
	/* Is anything in the index? rmdir() says so without a listing. */
	r = HK_HOST_CALL(unlinkat(ov->layer, "index", AT_REMOVEDIR));
	atomic_init(&ov->has_index, r < 0);
	if (r == 0) {
		hk_close(&ov->index);
		r = HK_HOST_CALL(mkdirat(ov->layer, "index", 0700));
		return r < 0 ? hk_fail(err, -r, "'%s/index'", path)
			     : open_subdir(ov, "index", path, &ov->index, err);
	}
	return 0;
}

/* --- the root --- */

/* The top of a new layer gets what the directory below has. */
static int adopt_root(struct hk_overlay *ov, struct hk_ov_record *record)
{
	struct hk_transfer_left left = {0};
	struct hk_stat st;
	int r = ov->host->ops->stat(ov->host, ov->host->root, &st);

	if (r < 0) {
		return r;
	}
	*record = (struct hk_ov_record){
		.id = hk_ov_id_of(&st),
		.ctime_ns = hk_timespec_ns(st.ctime),
		.mtime_ns = hk_timespec_ns(st.mtime),
		.size = st.size,
		.uid = -1,
		.gid = -1,
	};
	r = hk_transfer_meta(ov->host, ov->host->root, ov->upper, &st, hk_ov_is_our_xattr, &left);
	record->uid = left.uid ? (int64_t)st.uid : -1;
	record->gid = left.gid ? (int64_t)st.gid : -1;
	return r < 0 ? r : hk_ov_set_record(ov, ov->upper, NULL, record);
}

static int open_root(struct hk_overlay *ov, const char *layer, struct hk_err *err)
{
	struct hk_ov_inode *root;
	struct hk_stat upper;
	int r = ov->host->ops->stat(ov->host, ov->upper, &upper);

	if (hk_new(root) == NULL) {
		return hk_fail(err, ENOMEM, "layer '%s'", layer);
	}
	root->type = S_IFDIR;
	root->is_cow = ov->is_cow == NULL || ov->is_cow(ov->arg, "/");
	root->refs = 1;
	root->upper = HK_HOST_CALL(openat(ov->upper, ".", O_PATH | O_CLOEXEC));
	root->lower = HK_HOST_CALL(openat(ov->host->root, ".", O_PATH | O_CLOEXEC));
	if (r == 0 && (root->upper < 0 || root->lower < 0)) {
		r = root->upper < 0 ? root->upper : root->lower;
	}
	if (r == 0 && !hk_ov_get_record(ov, ov->upper, NULL, &upper, &root->record)) {
		r = adopt_root(ov, &root->record);
	}
	if (r < 0) {
		hk_close(&root->upper);
		hk_close(&root->lower);
		free(root);
		hk_fail(err, -r, "layer '%s'", layer);
		if (r == -EOPNOTSUPP) {
			hk_err_hint(err,
				"its file system has no user.* attributes (tmpfs has them "
				"since Linux 6.6): name a place elsewhere with "
				"XDG_DATA_HOME");
		}
		return r;
	}
	root->has_record = true;
	root->id = root->record.id;
	root->xattr_whiteouts = hk_ov_get_mark(ov, root->upper, NULL, HK_OV_OPAQUE) == 'x';
	root->is_impure = hk_ov_get_mark(ov, root->upper, NULL, HK_OV_IMPURE) != '\0';
	atomic_init(&root->is_copied, root->is_cow);
	ov->root = root;
	hk_ov_enter_root(ov);
	r = hk_ov_slot_new(ov, root, -1, 0);
	ov->base.root = r;
	return r < 0 ? hk_fail(err, -r, "layer '%s'", layer) : 0;
}

int hk_overlay_open(const struct hk_overlay_options *options, struct hk_backend **ret_backend,
	struct hk_err *err)
{
	autofree char *lower = realpath(options->lower, NULL);
	struct hk_overlay *ov;
	struct stat st;
	int r;

	if (lower == NULL || stat(lower, &st) < 0) {
		return hk_fail(err, errno, "'%s'", options->lower);
	}
	if (!S_ISDIR(st.st_mode)) {
		return hk_fail(err, ENOTDIR, "'%s'", options->lower);
	}
	if (hk_new(ov) == NULL) {
		return hk_fail(err, ENOMEM, "'%s'", options->lower);
	}
	ov->is_cow = options->is_cow;
	ov->arg = options->arg;
	r = init(ov);
	if (r < 0) {
		hk_fail(err, -r, "'%s'", options->lower);
	} else {
		r = hk_host_open(lower, &ov->host, err);
	}
	if (r == 0) {
		r = open_layer(ov, options->layer, lower, err);
	}
	if (r == 0) {
		r = open_root(ov, options->layer, err);
	}
	if (r < 0) {
		destroy(&ov->base);
		return r;
	}
	*ret_backend = &ov->base;
	return 0;
}
