/* SPDX-License-Identifier: ISC */
/*
 * Patterns whose paths run through symbolic links.
 *
 * Theory: file systems ask about the path behind the links, so a rule for /bin/id says nothing
 * where /bin is a link to /usr/bin. The leading names of a pattern, up to its first glob, are a
 * path that can be looked up when the rules are read. If it leads elsewhere the rule ends there,
 * too, with what is left of the pattern.
 *
 * A rule that allows is not followed: who may write below $PWD could place a link there, and the
 * next run would allow what it leads to.
 *
 * Limits: links behind a glob are not followed, nor those made later.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "fuse/rules_impl.h"

/** struct chain - the nodes that lead to one, from the root on */
struct chain {
	uint32_t *nodes; /* owned */
	size_t count;
	size_t literals; /* so many of them are names, up to the first glob */
};

static bool is_name(const struct hk_rules *rules, uint32_t node)
{
	uint32_t symbol = rules->nodes[node].symbol;

	return symbol != 0 && !rules->symbols[symbol].is_glob;
}

static int chain_init(struct chain *chain, const struct hk_rules *rules, uint32_t node)
{
	size_t at;

	for (uint32_t up = node; up != 0; up = rules->nodes[up].parent) {
		chain->count++;
	}
	chain->nodes = hk_malloc((chain->count + 1) * sizeof(*chain->nodes));
	if (chain->nodes == NULL) {
		return -ENOMEM;
	}
	at = chain->count;
	for (uint32_t up = node; up != 0; up = rules->nodes[up].parent) {
		chain->nodes[--at] = up;
	}
	while (chain->literals < chain->count && is_name(rules, chain->nodes[chain->literals])) {
		chain->literals++;
	}
	return 0;
}

static int path_of(const struct hk_rules *rules, const struct chain *chain, char **ret_path)
{
	struct hk_str path = {0};
	int r;

	for (size_t i = 0; i < chain->literals; i++) {
		const struct hk_symbol *name =
			&rules->symbols[rules->nodes[chain->nodes[i]].symbol];

		hk_str_add(&path, "/");
		hk_str_add_bytes(&path, name->data, name->size);
	}
	r = hk_str_take(&path, ret_path);
	hk_str_finish(&path);
	return r;
}

/* The rest of the pattern again, below @node. */
static int add_rest(struct hk_rules *rules, const struct chain *chain, uint32_t *node)
{
	int r = 0;

	for (size_t i = chain->literals; r == 0 && i < chain->count; i++) {
		uint32_t symbol = rules->nodes[chain->nodes[i]].symbol;
		/* A copy: the array may move. What @data points to does not. */
		struct hk_symbol part = rules->symbols[symbol];

		r = symbol == 0
			? hk_rules_deep_child(rules, *node, node)
			: hk_rules_child(rules, *node, part.data, part.size, part.is_glob, node);
	}
	return r;
}

int hk_rules_follow(struct hk_rules *rules, struct hk_rules_env *env, uint32_t node,
	bool but_the_last, uint32_t *ret_node)
{
	struct chain chain = {0};
	autofree char *path = NULL;
	autofree char *real = NULL;
	int r = chain_init(&chain, rules, node);

	*ret_node = node;
	if (r == 0 && but_the_last && chain.literals == chain.count && chain.count > 0) {
		chain.literals--;
	}
	if (r == 0 && chain.literals > 0) {
		r = path_of(rules, &chain, &path);
	}
	if (r == 0 && path != NULL) {
		real = env->resolve(env, path);
		if (real != NULL && strcmp(real, path) != 0) {
			r = hk_rules_path(rules, real, ret_node);
			r = r == 0 ? add_rest(rules, &chain, ret_node) : r;
		}
	}
	free(chain.nodes);
	return r;
}
