/* SPDX-License-Identifier: ISC */
/*
 * Marks in the upper layer of a copy-on-write tree: whiteouts, opaque directories, records. See
 * overlay_impl.h.
 *
 * Theory: a whiteout is a character device 0:0, which every user may make since Linux 5.8, and
 * which overlayfs knows; or, where it cannot be made, an empty file with an attribute. Marks are
 * extended attributes user.*, which need no privilege, but which only files and directories have,
 * and which nobody but root reads or writes where the mode says no. So the record of anything else
 * stands in the layer's directory `origin`: a symbolic link, whose name is the number of the inode
 * and whose text is the record. It names the inode's time of birth as well, so that one left behind
 * is not taken for another's.
 *
 * Limits: a layer copied elsewhere takes the attributes along, but not what is in `origin`.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "fuse/overlay_impl.h"

enum { RECORD_TEXT = 256, RECORD_FIELDS = 12 };

void hk_ov_path(struct hk_overlay *ov, int dir, const char *name, char path[HK_OV_PATH_MAX])
{
	hk_fmt(path, HK_OV_PATH_MAX, "%s%s%s%s", hk_host_fd_prefix(ov->host), hk_fd_name(dir).text,
		name != NULL ? "/" : "", name != NULL ? name : "");
}

bool hk_ov_is_our_xattr(const char *name)
{
	return strncmp(name, "user.overlay.", 13) == 0 || strncmp(name, "user.hako.", 10) == 0;
}

/* Without following the last component, but following the number of @dir itself. */
ssize_t hk_ov_get_xattr(struct hk_overlay *ov, int dir, const char *name, const char *xattr,
	void *value, size_t size)
{
	char path[HK_OV_PATH_MAX];

	hk_ov_path(ov, dir, name, path);
	/* seccomp: getxattr lgetxattr */
	return HK_HOST_CALL(name != NULL ? lgetxattr(path, xattr, value, size)
					 : getxattr(path, xattr, value, size));
}

static int set_xattr_once(
	const char *path, bool follow, const char *xattr, const void *value, size_t size)
{
	/* seccomp write: setxattr lsetxattr */
	return HK_HOST_CALL(follow ? setxattr(path, xattr, value, size, 0)
				   : lsetxattr(path, xattr, value, size, 0));
}

/* Whoever is not root needs the right to write for this: takes it for a moment. */
static int set_xattr(struct hk_overlay *ov, int dir, const char *name, const char *xattr,
	const char *value, size_t size)
{
	char path[HK_OV_PATH_MAX];
	autoclose int obj = -1;
	struct hk_ov_lent lent;
	int back;
	int r;

	hk_ov_path(ov, dir, name, path);
	r = set_xattr_once(path, name == NULL, xattr, value, size);
	if (r != -EACCES || ov->is_root) {
		return r;
	}
	obj = name != NULL ? hk_host_open_name(dir, name, O_PATH, 0) : -1;
	if (hk_ov_lend(ov, name != NULL ? obj : dir, S_IWUSR, &lent) < 0 || !lent.is_lent) {
		return r;
	}
	r = set_xattr_once(path, name == NULL, xattr, value, size);
	back = hk_ov_take_back(ov, &lent);
	return r < 0 ? r : back;
}

int hk_ov_remove_mark(struct hk_overlay *ov, int dir, const char *xattr)
{
	struct hk_ov_lent lent;
	int r = hk_ov_lend(ov, dir, S_IWUSR, &lent);
	int back;

	if (r < 0) {
		return r;
	}
	r = hk_host_removexattr(ov->host, dir, xattr);
	back = hk_ov_take_back(ov, &lent);
	return r < 0 && r != -ENODATA ? r : back;
}

char hk_ov_get_mark(struct hk_overlay *ov, int dir, const char *name, const char *xattr)
{
	char value[4];

	return hk_ov_get_xattr(ov, dir, name, xattr, value, sizeof(value)) > 0 ? value[0] : '\0';
}

int hk_ov_set_mark(
	struct hk_overlay *ov, int dir, const char *name, const char *xattr, const char *value)
{
	return set_xattr(ov, dir, name, xattr, value, strlen(value));
}

/* --- records --- */

static int print_record(const struct hk_ov_record *r, char text[RECORD_TEXT])
{
	return hk_fmt(text, RECORD_TEXT,
		"%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRId64 " %" PRId64 " %" PRId64 " %" PRIu64
		" %" PRId64 " %" PRId64 " %d %" PRIu32 " %" PRIu64,
		r->id.dev, r->id.ino, r->id.mount, r->id.born_ns, r->ctime_ns, r->mtime_ns, r->size,
		r->uid, r->gid, r->is_indexed, r->links, r->path_hash);
}

/* Return: how many of the @count numbers there are. A sign is kept in the upper bit. */
static unsigned parse_numbers(const char *text, uint64_t *numbers, unsigned count)
{
	unsigned found = 0;

	while (found < count) {
		char *end;

		errno = 0;
		numbers[found] = text[0] == '-' ? (uint64_t)strtoll(text, &end, 10)
						: strtoull(text, &end, 10);
		if (end == text || errno != 0) {
			break;
		}
		found++;
		text = end;
		while (*text == ' ') {
			text++;
		}
	}
	return found;
}

static bool parse_record(const char *text, struct hk_ov_record *r)
{
	uint64_t n[RECORD_FIELDS];

	if (parse_numbers(text, n, RECORD_FIELDS) != RECORD_FIELDS) {
		return false;
	}
	*r = (struct hk_ov_record){
		.id = {.dev = n[0], .ino = n[1], .mount = n[2], .born_ns = (int64_t)n[3]},
		.ctime_ns = (int64_t)n[4],
		.mtime_ns = (int64_t)n[5],
		.size = n[6],
		.uid = (int64_t)n[7],
		.gid = (int64_t)n[8],
		.is_indexed = n[9] != 0,
		.links = (uint32_t)n[10],
		.path_hash = n[11],
	};
	return true;
}

struct side_name {
	char text[20];
};

static struct side_name side_name(const struct hk_stat *st)
{
	struct side_name name;

	hk_fmt(name.text, sizeof(name.text), "%" PRIx64, st->ino);
	return name;
}

static int get_side_record(
	struct hk_overlay *ov, const struct hk_stat *st, struct hk_ov_record *record)
{
	char text[RECORD_TEXT];
	uint64_t born;
	char *rest;
	/* seccomp: readlinkat */
	ssize_t n =
		HK_HOST_CALL(readlinkat(ov->origin, side_name(st).text, text, sizeof(text) - 1));

	if (n < 0) {
		return 0;
	}
	text[n] = '\0';
	rest = strchr(text, '/');
	return rest != NULL && parse_numbers(text, &born, 1) == 1 && (int64_t)born == st->born_ns &&
		parse_record(rest + 1, record);
}

int hk_ov_set_side_record(
	struct hk_overlay *ov, const struct hk_stat *st, const struct hk_ov_record *record)
{
	struct hk_ov_temp temp = hk_ov_temp(ov);
	char with_birth[RECORD_TEXT + 24];
	char text[RECORD_TEXT];
	int r = print_record(record, text);

	if (r < 0) {
		return r;
	}
	hk_fmt(with_birth, sizeof(with_birth), "%" PRId64 "/%s", st->born_ns, text);
	/* seccomp write: symlinkat */
	r = HK_HOST_CALL(symlinkat(with_birth, ov->work, temp.text));
	if (r == 0) {
		/* seccomp write: renameat */
		r = HK_HOST_CALL(renameat(ov->work, temp.text, ov->origin, side_name(st).text));
	}
	return r;
}

void hk_ov_drop_side_record(struct hk_overlay *ov, const struct hk_stat *st)
{
	/* seccomp write: unlinkat */
	unlinkat(ov->origin, side_name(st).text, 0);
}

int hk_ov_get_record(struct hk_overlay *ov, int dir, const char *name, const struct hk_stat *st,
	struct hk_ov_record *record)
{
	char text[RECORD_TEXT];
	ssize_t n;

	if (!S_ISREG(st->mode) && !S_ISDIR(st->mode)) {
		return get_side_record(ov, st, record);
	}
	n = hk_ov_get_xattr(ov, dir, name, HK_OV_ORIGIN, text, sizeof(text) - 1);
	if (n == -EACCES) {
		return get_side_record(ov, st, record);
	}
	if (n < 0) {
		return 0;
	}
	text[n] = '\0';
	return parse_record(text, record);
}

int hk_ov_set_record(
	struct hk_overlay *ov, int dir, const char *name, const struct hk_ov_record *record)
{
	char text[RECORD_TEXT];
	struct hk_stat st;
	int r = name != NULL ? ov->host->ops->lookup(ov->host, dir, name, &st)
			     : ov->host->ops->stat(ov->host, dir, &st);

	if (r < 0) {
		return r;
	}
	if (!S_ISREG(st.mode) && !S_ISDIR(st.mode)) {
		return hk_ov_set_side_record(ov, &st, record);
	}
	r = print_record(record, text);
	if (r >= 0) {
		r = set_xattr(ov, dir, name, HK_OV_ORIGIN, text, (size_t)r);
	}
	if (r == 0 && !ov->is_root && (st.mode & S_IRUSR) == 0) {
		r = hk_ov_set_side_record(ov, &st, record);
	}
	return r;
}

/* --- whiteouts --- */

bool hk_ov_is_whiteout(
	struct hk_overlay *ov, int dir, const char *name, const struct hk_stat *st, bool by_xattr)
{
	if (S_ISCHR(st->mode)) {
		return st->rdev == 0;
	}
	return by_xattr && S_ISREG(st->mode) && st->size == 0 &&
		hk_ov_get_xattr(ov, dir, name, HK_OV_WHITEOUT, NULL, 0) >= 0;
}

struct hk_ov_temp hk_ov_temp(struct hk_overlay *ov)
{
	struct hk_ov_temp temp;

	hk_fmt(temp.text, sizeof(temp.text), "t%x", atomic_fetch_add(&ov->temp_count, 1));
	return temp;
}

/* An empty file with the attribute, and the directory's own that says there may be such. */
static int make_xattr_whiteout(
	struct hk_overlay *ov, struct hk_ov_inode *dir, const struct hk_ov_temp *temp)
{
	int fd = hk_host_open_name(ov->work, temp->text, O_CREAT | O_EXCL | O_WRONLY, 0600);
	int r;

	if (fd < 0) {
		return fd;
	}
	close(fd);
	r = set_xattr(ov, ov->work, temp->text, HK_OV_WHITEOUT, "y", 1);
	if (r == 0 && !dir->xattr_whiteouts) {
		r = hk_ov_set_mark(
			ov, dir->upper, NULL, HK_OV_OPAQUE, dir->redirect != NULL ? "R" : "x");
		dir->xattr_whiteouts = r == 0;
	}
	return r;
}

int hk_ov_make_whiteout(struct hk_overlay *ov, struct hk_ov_inode *dir, const char *name)
{
	struct hk_ov_temp temp;
	/* seccomp write: mknodat */
	int r = HK_HOST_CALL(mknodat(dir->upper, name, S_IFCHR, 0));

	if (r == 0) {
		return 0;
	}
	/* There is something to be replaced, or it must be done another way. */
	temp = hk_ov_temp(ov);
	r = HK_HOST_CALL(mknodat(ov->work, temp.text, S_IFCHR, 0));
	if (r == -EPERM || r == -EOPNOTSUPP || r == -EINVAL) {
		r = make_xattr_whiteout(ov, dir, &temp);
	}
	if (r == 0) {
		r = HK_HOST_CALL(renameat(ov->work, temp.text, dir->upper, name));
	}
	if (r < 0) {
		unlinkat(ov->work, temp.text, 0);
	}
	return r;
}
