/* SPDX-License-Identifier: ISC */
/*
 * Few directories that say where something happened, for the summary.
 *
 * Theory: start with one group, of everything. A directory in which all that counts is in one entry
 * gives way to that entry. Then split the largest group, again and again, into the directories it
 * has, and what is directly in it, as long as the groups fit. So a run that worked in one directory
 * shows what is in there, and one that worked everywhere shows the system's top directories.
 *
 * A directory with many small ones is left whole: a split must not make more groups than there is
 * room for.
 */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "fuse/audit_impl.h"

/* Work in progress: groups by entry lists made once. */
struct grouping {
	const struct hk_tree *tree;
	const uint64_t *files, *bytes; /* sums with all below */
	uint64_t *own_files, *own_bytes;
	uint32_t *next;  /* next entry of the same parent that counts */
	uint32_t *first; /* first entry of it that counts */
};

static bool is_leaf(const struct grouping *g, uint32_t node)
{
	return g->first[node] == HK_TREE_NONE;
}

/* While everything is in one directory: that one. */
static uint32_t descend(const struct grouping *g, uint32_t node)
{
	for (;;) {
		uint32_t entry = g->first[node];

		if (entry == HK_TREE_NONE || g->next[entry] != HK_TREE_NONE || is_leaf(g, entry) ||
			g->own_files[node] != 0) {
			return node;
		}
		node = entry;
	}
}

/* How many groups would a split of @group make? 0: it cannot be split. */
static unsigned split_size(const struct grouping *g, const struct hk_group *group)
{
	unsigned count = 0;
	bool has_leaves = g->own_files[group->node] != 0;

	if (group->only_entries) {
		return 0;
	}
	for (uint32_t entry = g->first[group->node]; entry != HK_TREE_NONE;
		entry = g->next[entry]) {
		if (is_leaf(g, entry)) {
			has_leaves = true;
		} else {
			count++;
		}
	}
	return count == 0 ? 0 : count + has_leaves;
}

static struct hk_group group_of(const struct grouping *g, uint32_t node)
{
	return (struct hk_group){.node = node, .files = g->files[node], .bytes = g->bytes[node]};
}

/*
 * Puts what @groups[@at] splits into behind the others, and what is directly in it in its place.
 * Return: the new count
 */
static unsigned split(
	const struct grouping *g, struct hk_group *groups, unsigned count, unsigned at)
{
	struct hk_group rest = group_of(g, groups[at].node);

	rest.only_entries = true;
	for (uint32_t entry = g->first[rest.node]; entry != HK_TREE_NONE; entry = g->next[entry]) {
		if (!is_leaf(g, entry)) {
			rest.files -= g->files[entry];
			rest.bytes -= g->bytes[entry];
			groups[count++] = group_of(g, descend(g, entry));
		}
	}
	if (rest.files != 0 || rest.bytes != 0) {
		groups[at] = rest;
	} else {
		groups[at] = groups[--count];
	}
	return count;
}

/* A group of one path is better called by that path. */
static void name_single(const struct grouping *g, struct hk_group *group)
{
	uint32_t node = group->node;

	if (group->files != 1) {
		return;
	}
	while (g->own_files[node] == 0) {
		uint32_t entry = g->first[node];

		while (entry != HK_TREE_NONE &&
			(g->files[entry] == 0 || (group->only_entries && !is_leaf(g, entry)))) {
			entry = g->next[entry];
		}
		if (entry == HK_TREE_NONE) {
			return; /* bytes without a path that counts, beside it */
		}
		node = entry;
	}
	group->node = node;
	group->only_entries = false;
}

static int by_size(const void *a, const void *b)
{
	const struct hk_group *x = a, *y = b;

	if (x->bytes != y->bytes) {
		return x->bytes > y->bytes ? -1 : 1;
	}
	if (x->files != y->files) {
		return x->files > y->files ? -1 : 1;
	}
	return x->node < y->node ? -1 : x->node > y->node;
}

static unsigned group(const struct grouping *g, struct hk_group *groups, unsigned max)
{
	unsigned count = 1;

	groups[0] = group_of(g, descend(g, HK_TREE_ROOT));
	for (;;) {
		unsigned best = count;

		for (unsigned i = 0; i < count; i++) {
			unsigned size = split_size(g, &groups[i]);

			if (size != 0 && count + size <= max &&
				(best == count || groups[i].files > groups[best].files)) {
				best = i;
			}
		}
		/* A handful of files needs no finer picture. */
		if (best == count || groups[best].files <= 4) {
			break;
		}
		count = split(g, groups, count, best);
	}
	for (unsigned i = 0; i < count; i++) {
		name_single(g, &groups[i]);
	}
	qsort(groups, count, sizeof(*groups), by_size);
	return count;
}

unsigned hk_tree_group(const struct hk_tree *tree, uint64_t *files, uint64_t *bytes,
	struct hk_group *ret_groups, unsigned max)
{
	uint32_t count = tree->node_count;
	struct grouping g = {.tree = tree, .files = files, .bytes = bytes};
	unsigned group_count = 0;

	g.own_files = hk_malloc(count * sizeof(*g.own_files));
	g.own_bytes = hk_malloc(count * sizeof(*g.own_bytes));
	g.next = hk_malloc(count * sizeof(*g.next));
	g.first = hk_malloc(count * sizeof(*g.first));
	if (g.own_files != NULL && g.own_bytes != NULL && g.next != NULL && g.first != NULL) {
		memcpy(g.own_files, files, count * sizeof(*files));
		memcpy(g.own_bytes, bytes, count * sizeof(*bytes));
		memset(g.next, 0xff, count * sizeof(*g.next));
		memset(g.first, 0xff, count * sizeof(*g.first));
		/* Backwards: entries are done before what they are in. */
		for (uint32_t i = count; i-- > 1;) {
			uint32_t parent = tree->nodes[i].parent;

			if (files[i] == 0 && bytes[i] == 0) {
				continue;
			}
			files[parent] += files[i];
			bytes[parent] += bytes[i];
			g.next[i] = g.first[parent];
			g.first[parent] = i;
		}
		if (files[HK_TREE_ROOT] != 0 || bytes[HK_TREE_ROOT] != 0) {
			group_count = group(&g, ret_groups, max);
		}
	}
	free(g.own_files);
	free(g.own_bytes);
	free(g.next);
	free(g.first);
	return group_count;
}
