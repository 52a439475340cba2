/* SPDX-License-Identifier: ISC */
/*
 * The inside of copy-on-write, shared by its files:
 *
 *	overlay_linux.c		opening a layer, the table of operations
 *	overlay_inode_linux.c	which inode a name stands for
 *	overlay_live_linux.c	the inodes that are in use
 *	overlay_moved_linux.c	directories that are elsewhere below than above
 *	overlay_slot_linux.c	objects and files: what the server holds by a number
 *	overlay_mark_linux.c	records, whiteouts and opaque directories: the marks in the upper layer
 *	overlay_copy_linux.c	copy-up
 *	overlay_hidden_linux.c	what was below when it was hidden
 *	overlay_remove_linux.c	trees that are in the way
 *	overlay_rights_linux.c	rights that who is not root lends himself
 *	overlay_name_linux.c	making and removing names; overlay_rename_linux.c: renaming
 *	overlay_file_linux.c	attributes and data
 *	overlay_dir_linux.c	listings
 *	transfer_linux.c	data and metadata from one inode to another; layers use it, too
 *
 * An *inode* is one that something refers to: it has its descriptors (O_PATH) in the lower and the
 * upper tree, and remembers where it was found last, because that is where a copy goes. All objects
 * and files of one inode share it, so all of them see a copy-up. A directory that only inodes in it
 * refer to is *parked*: it has a name, and no descriptors.
 *
 * Locks, in this order:
 *
 *	tree		for writing: what is in which layer changes. For reading: it does not
 *	copy_lock	that a copy which others wait for has ended
 *	live_lock	the table of inodes, their references and places
 *	slots_lock	free slots
 */
#ifndef HK_FUSE_OVERLAY_IMPL_H
#define HK_FUSE_OVERLAY_IMPL_H

#include <pthread.h>
#include <stdatomic.h>

#include "fuse/host_impl_linux.h"
#include "fuse/overlay.h"

#define HK_OV_WHITEOUT "user.overlay.whiteout"
#define HK_OV_OPAQUE   "user.overlay.opaque"
#define HK_OV_IMPURE   "user.overlay.impure"
#define HK_OV_REDIRECT "user.overlay.redirect"
#define HK_OV_ORIGIN   "user.hako.origin"

enum {
	HK_OV_BUCKETS = 4096,
	HK_OV_CHUNK = 1024,
	HK_OV_CHUNKS = 4096,
	HK_OV_PATH_MAX = 320, /* /proc/self/fd/N/NAME */
};

/** struct hk_ov_id - which inode it is, to the server */
struct hk_ov_id {
	uint64_t dev, ino, mount;
	int64_t born_ns;
};

/**
 * struct hk_ov_record - what an upper inode remembers of the lower one it was copied from
 * @id: which it was, and goes on being to the server
 * @ctime_ns, @mtime_ns, @size: of that moment: whether it was changed since
 * @uid, @gid: to be shown, where the copy could not be given to them; -1: the copy's own
 * @is_indexed: it had several names, so the index has one, too
 * @links: of these names, how many still stand below only
 * @path_hash: of the lower path it was copied from: if there is nothing any more, it was removed
 *	below
 */
struct hk_ov_record {
	struct hk_ov_id id;
	int64_t ctime_ns, mtime_ns;
	uint64_t size;
	int64_t uid, gid;
	bool is_indexed;
	uint32_t links;
	uint64_t path_hash;
};

struct hk_ov_inode {
	/* Constant. */
	struct hk_ov_id id;
	uint32_t type; /* S_IFMT */
	bool is_cow;

	/* Under live_lock. */
	struct hk_ov_inode *hash_next;
	unsigned refs;              /* slots, children, calls at work */
	unsigned children;          /* inodes whose parent this is */
	bool is_parked;             /* upper and lower are closed, until hk_ov_wake() */
	struct hk_ov_inode *parent; /* counted in its refs; NULL: the root, or without a name */
	char *name;                 /* owned */

	/* Under the tree lock. */
	int upper, lower; /* O_PATH; -1: not there. Directories may have both */
	bool has_record;
	bool xattr_whiteouts; /* a directory that may have some */
	bool is_impure;       /* a directory in which something has a record */
	bool is_copying;
	struct hk_ov_record record;
	char *redirect; /* owned; the path of @lower, "/a/b"; NULL: where it is above, or there is none */

	atomic_bool is_copied; /* files open below look here, without a lock */
};

struct hk_ov_listing;

/** struct hk_ov_slot - what stands behind an object or a file */
struct hk_ov_slot {
	struct hk_ov_inode *inode; /* a reference; NULL: free */
	uint32_t next_free;
	atomic_int fd; /* of a file; -1: an object */
	int old_fd;    /* what @fd was before copy-up: others may be using it still */
	int flags;
	atomic_bool is_below; /* @fd is the lower one's, until copy-up */
	struct hk_ov_listing *listing;
};

struct hk_overlay {
	struct hk_backend base;
	struct hk_backend *host; /* owned; the lower directory, and all calls on descriptors */
	bool (*is_cow)(void *arg, const char *path);
	void *arg;
	int layer, upper, work, index, origin; /* directories of the layer */
	int hidden;                            /* a file; -1: an old layer has none */
	uint64_t layer_dev, layer_ino;         /* hidden, if it is below */
	bool is_root;
	uid_t uid; /* the monitor's, with its groups */
	gid_t gid;
	gid_t *groups; /* owned */
	size_t group_count;
	atomic_uint temp_count;
	atomic_bool has_index;

	pthread_rwlock_t tree;
	unsigned wait_count;       /* under tree, for writing */
	pthread_mutex_t copy_lock; /* with copied: an inode's is_copying has ended */
	pthread_cond_t copied;

	pthread_mutex_t live_lock;
	struct hk_ov_inode *buckets[HK_OV_BUCKETS];
	struct hk_ov_inode *root;

	pthread_mutex_t slots_lock;
	_Atomic(struct hk_ov_slot *) chunks[HK_OV_CHUNKS];
	uint32_t free_first; /* + 1; 0: none */
	uint32_t slot_count;
};

static inline struct hk_overlay *hk_overlay_of(struct hk_backend *backend)
{
	return (struct hk_overlay *)backend; /* first member */
}

/**
 * struct hk_ov_found - what is at a name
 * @has_upper, @has_lower: where; a directory may be in both
 * @is_whiteout: the upper tree says that there is nothing
 * @by_index: @upper is in the index, not at this name
 * @mark: of an upper directory, HK_OV_OPAQUE's; 0 also where it does not matter
 * @upper_fd, @lower_fd: O_PATH, if asked for
 * @redirect: owned; with @lower_fd: see struct hk_ov_inode
 */
struct hk_ov_found {
	bool is_cow;
	bool has_upper, has_lower;
	bool is_whiteout;
	bool by_index;
	bool has_record;
	char mark;
	int upper_fd, lower_fd;
	struct hk_stat upper, lower;
	struct hk_ov_record record;
	char *redirect;
};

/* overlay_inode_linux.c. The tree is locked. */

/**
 * hk_ov_find() - Return: 0; -ENOENT, then @found says if by whiteout; -errno. Descriptors only with
 * @want_fds and 0.
 */
int hk_ov_find(struct hk_overlay *ov, struct hk_ov_inode *dir, const char *name, bool want_fds,
	struct hk_ov_found *found);
void hk_ov_found_finish(struct hk_ov_found *found);
/** hk_ov_found_stat() - what the server is told */
void hk_ov_found_stat(const struct hk_ov_found *found, struct hk_stat *st);
/** hk_ov_reach() - the inode at a name, with a reference */
int hk_ov_reach(struct hk_overlay *ov, struct hk_ov_inode *dir, const char *name,
	struct hk_ov_inode **ret_inode);
/**
 * hk_ov_inode_new() - of what was just made in the upper tree (or below, if not cow). @fd is taken,
 * also on failure
 */
int hk_ov_inode_new(struct hk_overlay *ov, struct hk_ov_inode *dir, const char *name, int fd,
	bool is_cow, struct hk_ov_inode **ret_inode);
int hk_ov_inode_stat(struct hk_overlay *ov, struct hk_ov_inode *inode, struct hk_stat *st);
/** hk_ov_is_cow() - does this name go to the upper layer? */
bool hk_ov_is_cow(struct hk_overlay *ov, struct hk_ov_inode *dir, const char *name);
/**
 * hk_ov_lower_path() - of @name in the lower directory of @dir, "/a/b". Return: 0; -ENOENT:
 * nowhere; -ENOMEM
 */
int hk_ov_lower_path(
	struct hk_overlay *ov, struct hk_ov_inode *dir, const char *name, char **ret_path);
/** hk_ov_path_hash() - of that, without the slash; 0: it is nowhere */
uint64_t hk_ov_path_hash(struct hk_overlay *ov, struct hk_ov_inode *dir, const char *name);
/** hk_ov_hash() - FNV-1a */
uint64_t hk_ov_hash(const char *text);
/** hk_ov_lower_has() - is there anything at the name below? 1, 0 or -errno */
int hk_ov_lower_has(struct hk_overlay *ov, struct hk_ov_inode *dir, const char *name);
struct hk_ov_id hk_ov_id_of(const struct hk_stat *st);
struct hk_ov_index_name {
	char text[40];
};
/** hk_ov_index_name() - the name of a lower inode in the index */
struct hk_ov_index_name hk_ov_index_name(const struct hk_ov_id *id);
/** hk_ov_stat_with() - what a record has to say about the upper inode's own attributes */
void hk_ov_stat_with(const struct hk_ov_record *record, struct hk_stat *st);

/* overlay_moved_linux.c */

/**
 * hk_ov_is_moved() - does this mark (HK_OV_OPAQUE) say that the directory's lower one is elsewhere?
 */
static inline bool hk_ov_is_moved(char mark)
{
	return mark == 'r' || mark == 'R';
}
/**
 * hk_ov_is_original() - is @st what @record was copied from? Device numbers change with each boot
 */
bool hk_ov_is_original(const struct hk_ov_record *record, const struct hk_stat *st);
/**
 * hk_ov_walk() - a directory by its path from @root, slashes as they come. Return: O_PATH
 * descriptor or -errno
 */
int hk_ov_walk(int root, const char *path);
/**
 * hk_ov_open_moved() - the lower directory of a moved one, if it still is where and what it was
 * @dir, @name: the upper one, as for marks; @record: its record
 * @ret_path: the caller's
 *
 * Return: O_PATH descriptor; -ENOENT where it is gone, or another; -errno
 */
int hk_ov_open_moved(struct hk_overlay *ov, int dir, const char *name,
	const struct hk_ov_record *record, struct hk_stat *ret_st, char **ret_path);
/**
 * hk_ov_make_movable() - let a directory be renamed in the upper tree, whatever is below. The tree
 * is locked for writing
 */
int hk_ov_make_movable(struct hk_overlay *ov, struct hk_ov_inode *inode);

/* overlay_live_linux.c */

/**
 * hk_ov_live() - the inode of this identity, if something refers to it, with a reference; else NULL
 */
struct hk_ov_inode *hk_ov_live(struct hk_overlay *ov, const struct hk_ov_id *id);
/**
 * hk_ov_enter() - put @inode, which has no references yet, into the table; or find the one that is
 * there, and free it
 */
struct hk_ov_inode *hk_ov_enter(struct hk_overlay *ov, struct hk_ov_inode *inode);
/** hk_ov_enter_root() - put ov->root into the table */
void hk_ov_enter_root(struct hk_overlay *ov);
void hk_ov_unref(struct hk_overlay *ov, struct hk_ov_inode *inode); /* NULL is fine */
/**
 * hk_ov_wake() - a reference to an inode that is known as a parent only. The tree is locked for
 * writing. Return: 0; -ESTALE where it is not found again; -errno
 */
int hk_ov_wake(struct hk_overlay *ov, struct hk_ov_inode *inode);
/**
 * hk_ov_place() - it is found at @dir and @name from now on; @dir NULL: nowhere. Return: 0;
 * -ENOMEM; -ESTALE where @dir is within it, by what was known
 */
int hk_ov_place(struct hk_overlay *ov, struct hk_ov_inode *inode, struct hk_ov_inode *dir,
	const char *name);
/** hk_ov_unplace() - if the inode @id is in use and was known at this name, it is nowhere now */
void hk_ov_unplace(struct hk_overlay *ov, const struct hk_ov_id *id, struct hk_ov_inode *dir,
	const char *name);

/* overlay_slot_linux.c */
void hk_ov_close(struct hk_backend *backend, int id);
struct hk_ov_slot *hk_ov_slot(struct hk_overlay *ov, int id);
/**
 * hk_ov_slot_new() - Return: its number, or -errno. The reference and @fd are taken, also on
 * failure.
 */
int hk_ov_slot_new(struct hk_overlay *ov, struct hk_ov_inode *inode, int fd, int flags);
void hk_ov_slots_finish(struct hk_overlay *ov);

/* overlay_mark_linux.c: of the inode @name in @dir, or of @dir itself where @name is NULL. */
void hk_ov_path(struct hk_overlay *ov, int dir, const char *name, char path[HK_OV_PATH_MAX]);
/** hk_ov_get_xattr() - an attribute of ours. Return: its length or -errno */
ssize_t hk_ov_get_xattr(struct hk_overlay *ov, int dir, const char *name, const char *xattr,
	void *value, size_t size);
/**
 * hk_ov_get_mark() - the first byte of an attribute; 0: none
 *
 * Of HK_OV_OPAQUE: 'y' nothing is below; 'x' there may be whiteouts by xattr; 'r' what is below is
 * elsewhere, as HK_OV_REDIRECT says; 'R' both of these.
 */
char hk_ov_get_mark(struct hk_overlay *ov, int dir, const char *name, const char *xattr);
int hk_ov_set_mark(
	struct hk_overlay *ov, int dir, const char *name, const char *xattr, const char *value);
/** hk_ov_get_record() - Return: 1, 0 where it has none */
int hk_ov_get_record(struct hk_overlay *ov, int dir, const char *name, const struct hk_stat *st,
	struct hk_ov_record *record);
int hk_ov_set_record(
	struct hk_overlay *ov, int dir, const char *name, const struct hk_ov_record *record);
/** hk_ov_set_side_record() - beside it, for when the attribute cannot be read any more */
int hk_ov_set_side_record(
	struct hk_overlay *ov, const struct hk_stat *st, const struct hk_ov_record *record);
void hk_ov_drop_side_record(struct hk_overlay *ov, const struct hk_stat *st);
bool hk_ov_is_whiteout(
	struct hk_overlay *ov, int dir, const char *name, const struct hk_stat *st, bool by_xattr);
/** hk_ov_make_whiteout() - at @name of @dir, replacing what non-directory is there */
int hk_ov_make_whiteout(struct hk_overlay *ov, struct hk_ov_inode *dir, const char *name);
/** hk_ov_remove_mark() - of @dir itself. Return: 0, also where there was none; -errno */
int hk_ov_remove_mark(struct hk_overlay *ov, int dir, const char *xattr);
bool hk_ov_is_our_xattr(const char *name);
struct hk_ov_temp {
	char text[16];
};
struct hk_ov_temp hk_ov_temp(struct hk_overlay *ov); /* a name for the work directory */

/*
 * overlay_hidden_linux.c: what was below when a layer came to hide it. The tree is locked for
 * writing.
 */

/**
 * hk_ov_digest(), hk_ov_record_digest() - what tells an inode below from what it may be later; a
 * record: of no directory
 */
uint64_t hk_ov_digest(const struct hk_stat *st);
uint64_t hk_ov_record_digest(const struct hk_ov_record *record);
/** hk_ov_note_hidden() - what is below, and was shown, is not any more. @what: its digest */
void hk_ov_note_hidden(struct hk_overlay *ov, uint64_t what);
/** hk_ov_note_found_hidden() - the same of what was found at a name; nothing, if it was above */
void hk_ov_note_found_hidden(struct hk_overlay *ov, const struct hk_ov_found *found);
/** hk_ov_note_dir_hidden() - the same of a directory's lower one; before that is closed */
void hk_ov_note_dir_hidden(struct hk_overlay *ov, const struct hk_ov_inode *dir);

/**
 * struct hk_ov_hidden - all digests; owned, sorted. @is_known: false where an old layer has no
 * notes
 */
struct hk_ov_hidden {
	bool is_known;
	uint64_t *list;
	size_t count, cap;
};
int hk_ov_hidden_read(struct hk_overlay *ov, struct hk_ov_hidden *hidden);
/** hk_ov_hidden_has() - is this below what was hidden? */
bool hk_ov_hidden_has(const struct hk_ov_hidden *hidden, uint64_t what);
void hk_ov_hidden_finish(struct hk_ov_hidden *hidden);

/* overlay_rights_linux.c */

/** struct hk_ov_lent - what an inode was like before its owner was lent rights */
struct hk_ov_lent {
	int obj; /* borrowed; -1: nothing */
	struct hk_stat st;
	bool is_lent;
};

/** hk_ov_find_groups() - who we are. Return: 0; -ENOMEM */
int hk_ov_find_groups(struct hk_overlay *ov);
bool hk_ov_is_in_group(const struct hk_overlay *ov, gid_t gid);
/**
 * hk_ov_lend() - let us, not being root, do with our own file or directory what @rights (0700) say,
 * for one operation
 * @obj: O_PATH, and open until the rights are back; -1: nothing is done
 *
 * Where that may not be, nothing is lent: the operation says why. Return: 0; -errno where @obj
 * cannot be looked at.
 */
int hk_ov_lend(struct hk_overlay *ov, int obj, mode_t rights, struct hk_ov_lent *lent);
/** hk_ov_take_back() - it gets its mode back; hk_ov_leave_as_was(): and its times */
int hk_ov_take_back(struct hk_overlay *ov, const struct hk_ov_lent *lent);
void hk_ov_leave_as_was(struct hk_overlay *ov, const struct hk_ov_lent *lent);

/* overlay_remove_linux.c */

/** hk_ov_remove_tree() - all that is in @dir, however deep */
int hk_ov_remove_tree(int dir);

/* overlay_copy_linux.c. The tree is locked for writing. */

enum { HK_OV_EMPTY = 1 << 0, HK_OV_ALONE = 1 << 1, HK_OV_NAMELESS = 1 << 2 };
/**
 * hk_ov_copy_up() - let the inode be in the upper tree
 * @how: HK_OV_EMPTY: its data is about to be cut off, so leave it; HK_OV_ALONE: the lock may be
 * given up in between, so that others go on while much data is copied; HK_OV_NAMELESS: one with
 * several names, to the index only
 *
 * Waits where another thread copies the inode: the lock was given up then, and wait_count tells.
 */
int hk_ov_copy_up(struct hk_overlay *ov, struct hk_ov_inode *inode, unsigned how);
/**
 * hk_ov_upper_dir() - let the directory be in the upper tree; also one that is not cow, as a place
 * for what is
 */
int hk_ov_upper_dir(struct hk_overlay *ov, struct hk_ov_inode *dir);
/**
 * hk_ov_own_tree() - copy up a directory with all that is in it; then nothing of it is below.
 * Return: 0; -EXDEV where not all of it is cow, or it is very deep; -errno
 */
int hk_ov_own_tree(struct hk_overlay *ov, struct hk_ov_inode *dir);
/** hk_ov_give_name() - an inode that is in the index gets the upper name of what it is below */
int hk_ov_give_name(struct hk_overlay *ov, struct hk_ov_inode *dir, const char *name,
	struct hk_ov_inode *inode);
/** hk_ov_note_impure() - an inode with a record of its own comes into the directory */
int hk_ov_note_impure(struct hk_overlay *ov, struct hk_ov_inode *dir);
/** hk_ov_save_record() - the record has changed */
int hk_ov_save_record(struct hk_overlay *ov, struct hk_ov_inode *inode);
/** hk_ov_name_gone() - one name of an indexed inode is gone; @was_below: it was below only */
void hk_ov_name_gone(struct hk_overlay *ov, struct hk_ov_inode *inode, bool was_below);

/* overlay_dir_linux.c */
struct hk_ov_entry {
	uint64_t position;
	uint64_t ino;
	const char *name;
	uint8_t type;
	bool is_upper;
};
struct hk_ov_listing {
	struct hk_ov_entry *entries; /* owned; sorted by position, without "." and ".." */
	size_t count, cap;
	size_t next;               /* 0 is ".", 1 is "..", then the entries */
	struct hk_ov_names *names; /* owned; of the entries */
	bool is_read;
};
int hk_ov_list(struct hk_overlay *ov, struct hk_ov_inode *dir, struct hk_ov_listing *listing);
void hk_ov_list_finish(struct hk_ov_listing *listing);
/** hk_ov_clear_whiteouts() - remove them from an upper directory */
int hk_ov_clear_whiteouts(struct hk_overlay *ov, struct hk_ov_inode *dir);
/** hk_ov_check_empty() - Return: 0, -ENOTEMPTY, -errno */
int hk_ov_check_empty(struct hk_overlay *ov, struct hk_ov_inode *dir);

#define HK_OV_OP(result, name, ...) result hk_ov_##name(struct hk_backend *backend, __VA_ARGS__)

/* overlay_name_linux.c, overlay_rename_linux.c */
HK_OV_OP(
	int, create, int dir, const char *name, int flags, mode_t mode, const struct hk_cred *cred);
HK_OV_OP(int, tmpfile, int dir, int flags, mode_t mode, const struct hk_cred *cred);
HK_OV_OP(int, mknod, int dir, const char *name, mode_t mode, uint64_t rdev,
	const struct hk_cred *cred);
HK_OV_OP(int, mkdir, int dir, const char *name, mode_t mode, const struct hk_cred *cred);
HK_OV_OP(int, symlink, int dir, const char *name, const char *target, const struct hk_cred *cred);
HK_OV_OP(int, link, int obj, int dir, const char *name);
HK_OV_OP(int, unlink, int dir, const char *name, bool is_dir);
HK_OV_OP(int, rename, int old_dir, const char *old_name, int new_dir, const char *new_name,
	unsigned flags);

/* overlay_file_linux.c */
HK_OV_OP(int, lookup, int dir, const char *name, struct hk_stat *st);
HK_OV_OP(int, reach_obj, int dir, const char *name);
HK_OV_OP(int, stat, int obj, struct hk_stat *st);
HK_OV_OP(ssize_t, readlink, int obj, char *buf, size_t size);
HK_OV_OP(int, statfs, int obj, struct statvfs *st);
HK_OV_OP(int, chmod, int obj, mode_t mode);
HK_OV_OP(int, chown, int obj, uid_t uid, gid_t gid);
HK_OV_OP(int, utimes, int obj, const struct timespec times[2]);
HK_OV_OP(int, truncate, int obj, uint64_t size_bytes);
HK_OV_OP(ssize_t, getxattr, int obj, const char *name, void *value, size_t size);
HK_OV_OP(ssize_t, listxattr, int obj, char *names, size_t size);
HK_OV_OP(int, setxattr, int obj, const char *name, const void *value, size_t size, int flags);
HK_OV_OP(int, removexattr, int obj, const char *name);
HK_OV_OP(int, open_file, int obj, int flags);
HK_OV_OP(int, real_fd, int file);
HK_OV_OP(ssize_t, read, int file, const struct iovec *iov, unsigned count, uint64_t offset);
HK_OV_OP(ssize_t, write, int file, const struct iovec *iov, unsigned count, uint64_t offset,
	bool append);
HK_OV_OP(int, resize, int file, uint64_t size_bytes);
HK_OV_OP(int, fsync, int file, bool data_only);
HK_OV_OP(int, allocate, int file, int mode, uint64_t offset, uint64_t len);
HK_OV_OP(int64_t, seek, int file, uint64_t offset, int whence);
HK_OV_OP(ssize_t, copy, int from, uint64_t from_offset, int to, uint64_t to_offset, size_t len);

/* overlay_dir_linux.c */
HK_OV_OP(int, open_dir, int obj);
HK_OV_OP(ssize_t, read_dir, int file, void *buf, size_t size);
HK_OV_OP(int, seek_dir, int file, uint64_t position);

#endif
