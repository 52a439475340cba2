/* SPDX-License-Identifier: ISC */
/*
 * Paths of nodes, for rules that ask, for the audit and for messages.
 *
 * Theory: a node knows its parent and its name; a path is put together from them, from its end on.
 * As most of what is told happens in few directories, a directory keeps its path once it was asked
 * for, for as long as no directory of the export moves (hk_export, @place_epoch, as for places:
 * place.c).
 *
 * Where names move meanwhile it is put together once more, at last with directories held where they
 * are.
 *
 * A path that is not whole begins with PATH_CUT, so that nobody takes it for another: it does not
 * fit, or nobody knows where its beginning is (place.c).
 *
 * Limits: what does not fit is cut off at the front. Long paths are not kept: a guest can make
 * many.
 */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/util.h"
#include "fuse/server_impl.h"

#define PATH_CUT "\xe2\x80\xa6/" /* an ellipsis */

enum { CUT_LEN = sizeof(PATH_CUT) - 1, KEPT_MAX = 1024, TRIES = 4 };

/**
 * struct path - a path that grows at its front
 * @at: where it starts, in the @buf of its user
 * @dir, @dir_end: the directory that its last name is in, 0: not known; and where that one's path
 *	ends
 */
struct path {
	char *buf;
	size_t at;
	uint64_t dir;
	size_t dir_end;
};

/* Return: false where it does not fit. There is always room for PATH_CUT. */
static bool put_before(struct path *path, const char *text, size_t len)
{
	if (len + 1 + CUT_LEN > path->at) {
		return false;
	}
	if (path->buf[path->at] != '\0' && len > 0) {
		path->buf[--path->at] = '/';
	}
	path->at -= len;
	memcpy(path->buf + path->at, text, len);
	return true;
}

/* Keeps the directory's path, known to be so in @epoch. */
static void keep(struct hk_fuse_server *server, const struct path *path, uint64_t epoch)
{
	size_t len = path->dir_end > path->at ? path->dir_end - path->at : 0;
	struct hk_node *dir =
		len > 0 && len <= KEPT_MAX ? hk_nodes_get(&server->nodes, path->dir) : NULL;
	char *text;

	if (dir == NULL) {
		return; /* of the export's root there is nothing to keep */
	}
	text = hk_malloc(len + 1);
	if (text != NULL) {
		memcpy(text, path->buf + path->at, len);
		text[len] = '\0';
		hk_node_lock(&server->nodes, dir);
		free(dir->path);
		dir->path = text;
		dir->path_epoch = epoch;
		hk_node_unlock(&server->nodes, dir);
	}
	hk_node_put(&server->nodes, dir);
}

enum step_result { STEP_UP, STEP_KEPT, STEP_END };

/*
 * Puts what @node knows before @path. STEP_UP: its name; *@ret_parent goes on. STEP_KEPT: its path,
 * so this is all.
 */
static enum step_result step(struct hk_fuse_server *server, struct hk_node *node, uint64_t epoch,
	struct path *path, uint64_t *ret_parent)
{
	enum step_result result = STEP_END;

	hk_node_lock(&server->nodes, node);
	if (node->path != NULL && node->path_epoch == epoch &&
		put_before(path, node->path, strlen(node->path))) {
		result = STEP_KEPT;
	} else if (node->parent != NULL && node->name != NULL &&
		put_before(path, node->name, strlen(node->name))) {
		*ret_parent = hk_node_id(node->parent);
		result = STEP_UP;
	}
	hk_node_unlock(&server->nodes, node);
	return result;
}

/*
 * Puts the path of @node before @path: from the export's root on, without a slash before it.
 * Return: is it whole?
 */
static bool climb(
	struct hk_fuse_server *server, struct hk_node *node, uint64_t epoch, struct path *path)
{
	uint64_t root = hk_node_id(node->export->node);
	uint64_t id = hk_node_id(node);
	enum step_result result = STEP_UP;

	while (result == STEP_UP && id != root) {
		struct hk_node *at = hk_nodes_get(&server->nodes, id);
		uint64_t here = id;

		if (at == NULL) {
			return false;
		}
		if (path->dir == 0 && path->buf[path->at] != '\0') {
			path->dir = here;
			path->dir_end = path->at - 1; /* where the slash will be */
		}
		result = step(server, at, epoch, path, &id);
		hk_node_put(&server->nodes, at);
		if (result == STEP_KEPT && path->dir == here) {
			return true; /* it was this one's */
		}
	}
	if (path->dir != 0 && result != STEP_END) {
		keep(server, path, epoch);
	}
	return result != STEP_END;
}

/* One try. Return: false where names have moved meanwhile. */
static bool try_path_to(struct hk_fuse_server *server, struct hk_node *node, const char *name,
	struct path *path, bool *ret_whole)
{
	uint64_t epoch = atomic_load(&node->export->place_epoch);

	path->buf[path->at] = '\0';
	*ret_whole = name == NULL || put_before(path, name, strlen(name));
	*ret_whole = *ret_whole && climb(server, node, epoch, path);
	return atomic_load(&node->export->place_epoch) == epoch;
}

/* Return: is it whole? */
static bool path_to(struct hk_fuse_server *server, struct hk_node *node, const char *name,
	char *buf, size_t size, struct path *ret_path)
{
	bool is_whole;

	for (unsigned i = 0; i < TRIES; i++) {
		*ret_path = (struct path){.buf = buf, .at = size - 1};
		if (try_path_to(server, node, name, ret_path, &is_whole) && is_whole) {
			return true;
		}
	}
	pthread_mutex_lock(&server->nodes.parent_lock);
	*ret_path = (struct path){.buf = buf, .at = size - 1};
	try_path_to(server, node, name, ret_path, &is_whole);
	pthread_mutex_unlock(&server->nodes.parent_lock);
	return is_whole;
}

static const char *cut(struct path *path)
{
	path->at -= CUT_LEN;
	memcpy(path->buf + path->at, PATH_CUT, CUT_LEN);
	return path->buf + path->at;
}

const char *hk_path_in_export(struct hk_fuse_server *server, struct hk_node *node, const char *name,
	char *buf, size_t size)
{
	struct path path;

	return path_to(server, node, name, buf, size, &path) ? buf + path.at : cut(&path);
}

const char *hk_path_of(struct hk_fuse_server *server, struct hk_node *node, const char *name,
	char *buf, size_t size)
{
	const char *root = node->export->root != NULL ? node->export->root : "";
	size_t root_len = strlen(root);
	struct path path;

	if (!path_to(server, node, name, buf, size, &path) || root_len + 1 > path.at) {
		return cut(&path);
	}
	buf[--path.at] = '/';
	path.at -= root_len;
	memcpy(buf + path.at, root, root_len);
	return buf + path.at;
}
