/* SPDX-License-Identifier: ISC */
/* Where nodes are for rules: in deep trees, while names move, and when the host moves them. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "fuse/server_impl.h"
#include "fuse_judged.h"
#include "stack.h"

static uint64_t make_dir(uint64_t parent, const char *name)
{
	struct fuse_entry_out entry;

	assert_int_equal(fc_mkdir(&fc, parent, name, &entry), 0);
	return entry.nodeid;
}

static int open_node(uint64_t node, int flags)
{
	struct fuse_open_out out;
	int r = fc_open(&fc, node, flags, &out);

	if (r == 0) {
		fc_release(&fc, node, out.fh);
	}
	return r;
}

/* Deeper than a server's thread could recurse. */
enum { DEPTH = 4000, STACK_BYTES = 64 << 10 };

struct deep {
	uint64_t bottom;
	int made, renamed, looked_up;
};

static void *go_deep(void *arg)
{
	struct deep *deep = arg;
	struct fuse_entry_out entry;
	uint64_t at = fc.root;

	for (int i = 0; i < DEPTH; i++) {
		deep->made = fc_mkdir(&fc, at, "d", &entry);
		if (deep->made < 0) {
			return NULL;
		}
		at = entry.nodeid;
	}
	fc_mkdir(&fc, fc.root, "a", &entry);
	deep->renamed =
		fc_rename(&fc, fc.root, "a", fc.root, "b", 0); /* all places are worked out anew */
	deep->looked_up = fc_lookup(&fc, at, "not-there", &entry);
	deep->bottom = at;
	return NULL;
}

static void deep_trees(void **state)
{
	struct deep deep = {0};
	struct fuse_entry_out entry;

	(void)state;
	start_without_audit("deny create /x/**/d/no\n");
	run_on_stack(STACK_BYTES, go_deep, &deep);
	assert_int_equal(deep.made, 0);
	assert_int_equal(deep.renamed, 0);
	assert_int_equal(deep.looked_up, -ENOENT);
	assert_int_equal(fc_mkdir(&fc, deep.bottom, "no", &entry), -EACCES);
	stop();
}

/*
 * The host moves a directory to where the guest has not seen it yet: until it has, it is under no
 * rule that allows.
 */
static void lost_and_found(void **state)
{
	struct fuse_entry_out entry;
	uint64_t a, b, file, fh;

	(void)state;
	start_without_audit("deny read /x/a/**\n");
	a = make_dir(fc.root, "a");
	b = make_dir(a, "b");
	assert_int_equal(fc_create(&fc, b, "file", O_RDWR, 0644, &file, &fh), 0);
	assert_int_equal(open_node(file, O_RDONLY), -EACCES);
	assert_int_equal(renameat(fc.inside_fd, "a/b", fc.inside_fd, "b"), 0);
	assert_int_equal(renameat(fc.inside_fd, "a", fc.inside_fd, "b/a"), 0);
	assert_int_equal(fc_lookup(&fc, b, "a", &entry), 0);
	assert_int_equal(entry.nodeid, a);
	/* a is in b, and b is not in a any more: so where? */
	assert_int_equal(open_node(file, O_RDONLY), -EACCES);
	assert_int_equal(open_node(file, O_WRONLY), -EACCES);
	assert_int_equal(fc_mkdir(&fc, a, "new", &entry), -EACCES);
	assert_int_equal(fc_mkdir(&fc, b, "new", &entry), -EACCES);
	assert_int_equal(fc_lookup(&fc, fc.root, "b", &entry), 0);
	assert_int_equal(entry.nodeid, b);
	assert_int_equal(open_node(file, O_RDONLY), 0);
	assert_int_equal(fc_mkdir(&fc, a, "new", &entry), 0);
	fc_release(&fc, file, fh);
	stop();
}

/* What never had a name is nobody's business but of who made it. */
static void nameless(void **state)
{
	struct fuse_create_in in = {.flags = O_RDWR, .mode = 0644};
	struct {
		struct fuse_entry_out entry;
		struct fuse_open_out open;
	} out;
	struct fc_part parts[] = {{&in, sizeof(in)}, {"/", 2}};
	struct fc_reply reply;

	(void)state;
	start_without_audit("deny write /x/*\n");
	reply = fc_call(&fc, FUSE_TMPFILE, fc.root, parts, 2, &out, sizeof(out));
	assert_int_equal(reply.error, 0);
	assert_int_equal(open_node(out.entry.nodeid, O_WRONLY), 0);
	fc_release(&fc, out.entry.nodeid, out.open.fh);
	stop();
}

/* A lookup that is slower than a rename does not bring a file back to where it was. */
static void entered_too_late(void **state)
{
	struct hk_node *dir, *node;
	struct hk_stat st;
	uint64_t file, renames;

	(void)state;
	start_without_audit("deny write /x/shut\n");
	fc_host_file(fc.inside, "open", "text");
	file = fc_node(&fc, fc.root, "open");
	assert_int_equal(open_node(file, O_WRONLY), 0);
	dir = hk_nodes_get(&fc.server->nodes, fc.root);
	assert_non_null(dir);
	renames = hk_nodes_renames(&fc.server->nodes);
	assert_int_equal(dir->export->backend->ops->lookup(
				 dir->export->backend, dir->export->backend->root, "open", &st),
		0);
	hk_judge_key(fc.server, &(struct hk_ref){.node = dir}, "open", &st);
	assert_int_equal(fc_rename(&fc, fc.root, "open", fc.root, "shut", 0), 0);
	assert_int_equal(
		hk_nodes_enter(&fc.server->nodes, dir->export, dir, "open", &st, 1, renames, &node),
		-EAGAIN);
	assert_int_equal(open_node(file, O_WRONLY), -EACCES);
	/* Nor while one runs. */
	hk_nodes_rename_begin(&fc.server->nodes);
	renames = hk_nodes_renames(&fc.server->nodes);
	assert_int_equal(
		hk_nodes_enter(&fc.server->nodes, dir->export, dir, "open", &st, 1, renames, &node),
		-EAGAIN);
	hk_nodes_rename_end(&fc.server->nodes);
	assert_int_equal(open_node(file, O_WRONLY), -EACCES);
	hk_node_put(&fc.server->nodes, dir);
	stop();
}

static struct {
	uint64_t a;
	atomic_bool stop;
} race;

static void *look_up(void *arg)
{
	struct fuse_entry_out entry;

	(void)arg;
	while (!atomic_load(&race.stop)) {
		fc_lookup(&fc, race.a, "b", &entry);
	}
	return NULL;
}

static void lookups_against_renames(void **state)
{
	pthread_t threads[2];
	uint64_t b, secret;
	unsigned opened = 0;

	(void)state;
	start_without_audit("deny read,list /x/**\n");
	race.a = make_dir(fc.root, "a");
	b = make_dir(race.a, "b");
	fc_host_file(fc.inside, "a/secret", "top");
	secret = fc_node(&fc, race.a, "secret");
	assert_int_equal(open_node(secret, O_RDONLY), -EACCES);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(pthread_create(&threads[i], NULL, look_up, NULL), 0);
	}
	for (unsigned i = 0; i < 2000; i++) {
		fc_rename(&fc, race.a, "b", fc.root, "b", 0);
		fc_rename(&fc, fc.root, "a", b, "a", 0);
		opened += open_node(secret, O_RDONLY) == 0;
		fc_rename(&fc, b, "a", fc.root, "a", 0);
		fc_rename(&fc, fc.root, "b", race.a, "b", 0);
	}
	atomic_store(&race.stop, true);
	for (unsigned i = 0; i < 2; i++) {
		pthread_join(threads[i], NULL);
	}
	assert_int_equal(opened, 0);
	stop();
}

/* @count names deep from the root on; nobody knows a path of these afterwards. */
static uint64_t make_deep(const char *name, unsigned count)
{
	struct fuse_entry_out entry;
	uint64_t at = fc.root;

	for (unsigned i = 0; i < count; i++) {
		at = make_dir(at, name);
	}
	make_dir(fc.root, "a");
	assert_int_equal(fc_rename(&fc, fc.root, "a", fc.root, "b", 0), 0);
	assert_int_equal(fc_lookup(&fc, at, "none", &entry), -ENOENT);
	return at;
}

static const char *path_of(uint64_t id, const char *name, char *buf, size_t size)
{
	struct hk_node *node = hk_nodes_get(&fc.server->nodes, id);
	const char *path;

	assert_non_null(node);
	path = hk_path_of(fc.server, node, name, buf, size);
	hk_node_put(&fc.server->nodes, node);
	return path;
}

static unsigned asked;

static bool says_yes(
	struct hk_fuse_owner *owner, const char *path, const char *operation, pid_t pid)
{
	(void)owner, (void)operation, (void)pid;
	assert_int_equal(path[0], '/');
	asked++;
	return true;
}

/* A path is whole, or shows that it is not, and is not judged by. */
static void long_paths(void **state)
{
	static const char name[] = "confdir3";
	static char buf[HK_PATH_BYTES];
	static char expected[HK_PATH_BYTES];
	char longest[256] = "";
	const char *path;
	uint64_t dir;
	size_t len;

	(void)state;
	start_without_audit("ask create /x/**\n");
	fc.owner.ask = says_yes;
	dir = make_deep(name, 300);
	len = 2;
	memcpy(expected, "/x", 3);
	for (unsigned i = 0; i < 300; i++) {
		len += (size_t)snprintf(expected + len, sizeof(expected) - len, "/%s", name);
	}
	for (unsigned i = 0; i < 2; i++) { /* put together, and kept */
		assert_string_equal(path_of(dir, NULL, buf, sizeof(buf)), expected);
		path = path_of(dir, "file", buf, sizeof(buf));
		assert_int_equal(strlen(path), len + strlen("/file"));
		assert_memory_equal(path, expected, len);
	}
	path = path_of(dir, "file", buf, 512);
	assert_memory_equal(path, "\xe2\x80\xa6/", 4);
	assert_string_equal(path + strlen(path) - strlen("/confdir3/file"), "/confdir3/file");
	assert_true(path >= buf && strlen(path) > 512 - 20);
	/* Where the limit is, no answer helps. */
	asked = 0;
	memset(longest, 'x', sizeof(longest) - 1);
	while (len < HK_PATH_BYTES - 3 * sizeof(longest)) {
		dir = make_dir(dir, longest);
		len += sizeof(longest);
	}
	assert_true(asked > 0);
	for (unsigned i = 0; i < 4; i++) {
		struct fuse_entry_out entry;
		int r = fc_mkdir(&fc, dir, longest, &entry);

		if (r < 0) {
			assert_int_equal(r, -EACCES);
			break;
		}
		assert_true(i < 3);
		dir = entry.nodeid;
	}
	stop();
}

/* Nor is one whole whose beginning nobody knows. */
static void lost_paths(void **state)
{
	struct fuse_entry_out entry;
	char buf[512];
	uint64_t a, b;

	(void)state;
	start_without_audit("allow * /**\n");
	a = make_dir(fc.root, "a");
	b = make_dir(a, "b");
	assert_int_equal(fc_lookup(&fc, b, "none", &entry), -ENOENT);
	assert_int_equal(renameat(fc.inside_fd, "a/b", fc.inside_fd, "b"), 0);
	assert_int_equal(renameat(fc.inside_fd, "a", fc.inside_fd, "b/a"), 0);
	assert_int_equal(fc_lookup(&fc, b, "a", &entry), 0);
	assert_string_equal(path_of(a, "file", buf, sizeof(buf)), "\xe2\x80\xa6/a/file");
	assert_int_equal(fc_lookup(&fc, fc.root, "b", &entry), 0);
	assert_string_equal(path_of(a, "file", buf, sizeof(buf)), "/x/b/a/file");
	stop();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(deep_trees),
		cmocka_unit_test(lost_and_found),
		cmocka_unit_test(nameless),
		cmocka_unit_test(entered_too_late),
		cmocka_unit_test(lookups_against_renames),
		cmocka_unit_test(long_paths),
		cmocka_unit_test(lost_paths),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
