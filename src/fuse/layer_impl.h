/* SPDX-License-Identifier: ISC */
/* The inside of kept layers, shared by layer_*_linux.c. */
#ifndef HK_FUSE_LAYER_IMPL_H
#define HK_FUSE_LAYER_IMPL_H

#include "base/str.h"
#include "fuse/layer.h"
#include "fuse/overlay_impl.h"

/** struct hk_layer - an overlay that nobody is served from */
struct hk_layer {
	struct hk_backend *backend; /* owned */
	struct hk_overlay *ov;      /* the same */
	char *lower;                /* owned; what it was made over, without a slash at the end */
};

/** struct hk_change_list - owned, with the paths; sorted */
struct hk_change_list {
	struct hk_change *list;
	size_t count, cap;
};

/** struct hk_layer_move - a renamed directory; both paths without a slash at the front, owned */
struct hk_layer_move {
	char *from, *to;
};

/** struct hk_layer_moves - owned; sorted by @from */
struct hk_layer_moves {
	struct hk_layer_move *list;
	size_t count, cap;
};

/**
 * struct hk_changes - what is in a layer
 * @differ: what hk_layer_each() tells
 * @same: copies that are as what they are copies of; no directories
 * @hidden: the layer's notes of what it hid
 */
struct hk_changes {
	struct hk_change_list differ, same;
	struct hk_layer_moves moves;
	struct hk_ov_hidden hidden;
};

int hk_changes_collect(struct hk_layer *layer, struct hk_changes *changes, struct hk_err *err);
void hk_changes_finish(struct hk_changes *changes);

/**
 * hk_layer_open_upper() - a regular file of the layer (@obj: O_PATH) for reading, whatever its
 * mode. Return: descriptor or -errno
 */
int hk_layer_open_upper(struct hk_overlay *ov, int obj);

/**
 * hk_layer_fail() - hk_fail() about a path, of which nobody knows what is in it. @doing: NULL or a
 * word. Return: @r
 */
int hk_layer_fail(struct hk_err *err, int r, const char *path, const char *doing);

/**
 * hk_layer_is_same_meta() - mode, owner, attributes of two objects; and the time, of directories
 * only if it was set
 */
bool hk_layer_is_same_meta(struct hk_overlay *ov, int upper, int lower);

/** hk_path_enter() - add a name to a path; hk_path_leave() - back to what had @len bytes */
void hk_path_enter(struct hk_str *path, const char *name);
void hk_path_leave(struct hk_str *path, size_t len);

/* layer_moves_linux.c */

/** hk_layer_moves_find() - all renamed directories of which the lower one is still there */
int hk_layer_moves_find(struct hk_layer *layer, struct hk_layer_moves *moves, struct hk_err *err);
void hk_layer_moves_finish(struct hk_layer_moves *moves);
/** hk_layer_moves_has() - was the lower directory @from renamed? */
bool hk_layer_moves_has(const struct hk_layer_moves *moves, const char *from);
/** hk_layer_moves_map() - where the layer shows the lower @path. Return: 0 or -ENOMEM */
int hk_layer_moves_map(
	const struct hk_layer_moves *moves, const char *path, struct hk_str *ret_path);
/**
 * hk_layer_reach() - the inode that the layer shows at @path, with a reference. The tree is locked
 */
int hk_layer_reach(struct hk_overlay *ov, const char *path, struct hk_ov_inode **ret_inode);

/**
 * hk_layer_find_links() - give names in the layer to what it has by number only: hard links of what
 * was changed
 */
int hk_layer_find_links(
	struct hk_layer *layer, const struct hk_layer_moves *moves, struct hk_err *err);

/** struct hk_layer_names - what is in a directory, sorted, without "." and ".." */
struct hk_layer_names {
	char **list; /* owned */
	size_t count, cap;
};

/** hk_layer_names_add() - those of @dir (O_PATH; -1: none). Return: 0 or -errno */
int hk_layer_names_add(struct hk_layer_names *names, int dir);
/** hk_layer_names_sort() - and leave each once */
void hk_layer_names_sort(struct hk_layer_names *names);
void hk_layer_names_finish(struct hk_layer_names *names);

/**
 * struct hk_layer_tour - a way through all that is in a directory, however deep; to be embedded
 * @entry: called for each name but "." and "..", with its directory, which is open for reading.
 * Return: 1 to go into it, if it is a directory; 0; -errno to end
 * @path: of the entry at hand, from the top; zero-initialize, hk_str_finish(). After an error: of
 *	what it was about
 * @skips_closed: leave out what may not be read; else that is an error
 */
struct hk_layer_tour {
	int (*entry)(struct hk_layer_tour *tour, int dir, const struct hk_dirent *entry);
	struct hk_str path;
	bool skips_closed;
};

/**
 * hk_layer_tour() - @top: O_PATH. No recursion, and three descriptors at most. Return: 0 or -errno
 */
int hk_layer_tour(struct hk_layer_tour *tour, int top);

enum { HK_LAYER_MAX_DEPTH = 4096 };

/** struct hk_layer_dirs - a directory in both trees, on a way down; O_PATH, -1: not there */
struct hk_layer_dirs {
	int upper, lower;
	unsigned depth; /* how many are around it */
	/* While it is left: */
	bool is_left;
	dev_t dev[2];
	ino_t ino[2];
};

/**
 * hk_layer_dirs_leave() - on the way into one in it: where many are open already, these are closed.
 * Return: 0; -ENAMETOOLONG: too deep; -errno
 */
int hk_layer_dirs_leave(struct hk_layer_dirs *dirs);
/**
 * hk_layer_dirs_return() - back from @sub; they are open again
 * @upper_path, @lower_path: where they are, for when the way back from @sub is another; NULL: not
 *	known
 *
 * Return: 0; -ESTALE where it is moved; -errno.
 */
int hk_layer_dirs_return(struct hk_overlay *ov, struct hk_layer_dirs *dirs,
	const struct hk_layer_dirs *sub, const char *upper_path, const char *lower_path);

/**
 * hk_layer_walk() - the directory that @path is in, from @root; *@ret_name points into @path.
 * Return: O_PATH descriptor or -errno
 */
int hk_layer_walk(int root, const char *path, const char **ret_name);

/* --- applying --- */

/**
 * struct hk_layer_made - a name below that is, or has been made of, an inode in the layer: further
 * names of it become links
 */
struct hk_layer_made {
	dev_t dev;
	ino_t ino;
	ino_t lower; /* where it was there before; 0: it is new */
	const char *path;
};

/**
 * struct hk_apply - one run of hk_layer_apply()
 * @is_selected, @is_done: owned, one for each change that differs
 * @failed: owned, the same: -errno where it could not be made, else 0
 * @first_failure: of all of them, also those that have been told
 */
struct hk_apply {
	struct hk_layer *layer;
	struct hk_overlay *ov;
	struct hk_changes changes;
	bool *is_selected, *is_done;
	int *failed;
	size_t *renames; /* owned; which changes are */
	size_t rename_count;
	bool force;
	bool has_renamed;
	struct hk_layer_made *made; /* owned */
	size_t made_count;
	unsigned temp_count;
	void (*left)(void *arg, const struct hk_change *change, const char *why);
	void *arg;
	unsigned failure_count;
	int first_failure;
};

/** hk_apply_ends_with() - is it no use to go on with other changes after @r? */
bool hk_apply_ends_with(int r);
/** hk_apply_is_kept_back() - a conflict, which is left unless it is forced */
bool hk_apply_is_kept_back(const struct hk_apply *apply, const struct hk_change *change);
/** hk_apply_change() - make it so below, whatever is there. Return: 0 or -errno */
int hk_apply_change(struct hk_apply *apply, const struct hk_change *change);

/* layer_leave_linux.c */

/**
 * hk_apply_leave_all() - bring all to storage; then what is done leaves the layer
 * @whole: nothing was left out, so copies that are no changes go, too
 */
int hk_apply_leave_all(struct hk_apply *apply, bool whole, struct hk_err *err);

/* overlay_remove_linux.c */

/** hk_apply_remove_at() - with all that is in it */
int hk_apply_remove_at(int dir, const char *name);

/* layer_opaque_linux.c */

/**
 * hk_apply_unfold_around() - let no directory that @path is in hide what is below: whiteouts do,
 * name by name
 */
int hk_apply_unfold_around(struct hk_overlay *ov, const char *path);
/** hk_apply_unfold_tree() - nor any at or in @dirs */
int hk_apply_unfold_tree(struct hk_overlay *ov, struct hk_layer_dirs *dirs);

/* layer_rename_linux.c */

/** hk_apply_select() - also the renames without which what is selected would destroy something */
void hk_apply_select(struct hk_apply *apply);
/** hk_apply_holds_source() - is there anything at or in @path, below, that is to be renamed yet? */
bool hk_apply_holds_source(const struct hk_apply *apply, const char *path);
/**
 * hk_apply_renames() - do those that are selected
 * @ret_again: what cannot be renamed was copied into the layer: the changes are others now
 */
int hk_apply_renames(struct hk_apply *apply, bool *ret_again, struct hk_err *err);

#endif
