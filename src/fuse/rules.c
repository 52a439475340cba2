/* SPDX-License-Identifier: ISC */
/*
 * Rules, and the trie they stand in.
 *
 * Theory: a pattern is a path in a trie. Each step is a name, a glob or a double star, and what
 * patterns agree on from the left is there once: ten thousand rules below one home directory share
 * its node. A rule is noted at the node where its pattern ends, for each of its classes; a later
 * one at the same node replaces it there. The trie is all that is left of the patterns;
 * rules_match.c walks it.
 *
 * Names and globs are symbols, numbered, so that an edge is two numbers.
 *
 * Limits: 2^24 - 1 symbols, 2^32 - 1 nodes; then -E2BIG.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/util.h"
#include "fuse/rules_impl.h"

static const char *const verdict_names[] = {
	[HK_VERDICT_ALLOW] = "allow",
	[HK_VERDICT_DENY] = "deny",
	[HK_VERDICT_HIDE] = "hide",
	[HK_VERDICT_COW] = "cow",
	[HK_VERDICT_ASK] = "ask",
	[HK_VERDICT_REDIRECT] = "redirect",
};
static_assert(HK_ARRAY_SIZE(verdict_names) == HK_VERDICT_COUNT, "a name for each verdict");

static const char *const class_names[] = {
	[HK_CLASS_READ] = "read",
	[HK_CLASS_WRITE] = "write",
	[HK_CLASS_CREATE] = "create",
	[HK_CLASS_DELETE] = "delete",
	[HK_CLASS_EXEC] = "exec",
	[HK_CLASS_METADATA] = "metadata",
	[HK_CLASS_LINK] = "link",
	[HK_CLASS_LIST] = "list",
};
static_assert(HK_ARRAY_SIZE(class_names) == HK_CLASS_COUNT, "a name for each class");

const char *hk_verdict_name(enum hk_verdict verdict)
{
	return (unsigned)verdict < HK_VERDICT_COUNT ? verdict_names[verdict] : "?";
}

const char *hk_class_name(enum hk_class class)
{
	return (unsigned)class < HK_CLASS_COUNT ? class_names[class] : "?";
}

/*
 * Makes room for one element more behind @count. Return: the array, maybe elsewhere; NULL: no
 * memory, @array is good.
 */
static void *make_room(void *array, size_t count, size_t *cap, size_t size)
{
	size_t more = *cap != 0 ? 2 * *cap : 16;

	if (count < *cap) {
		return array;
	}
	array = hk_realloc_array(array, more, size);
	if (array != NULL) {
		*cap = more;
	}
	return array;
}

/* Symbols */

uint64_t hk_rules_hash(const void *data, size_t size)
{
	const uint8_t *at = data;
	uint64_t hash = size;
	uint64_t word;

	for (; size >= sizeof(word); size -= sizeof(word), at += sizeof(word)) {
		memcpy(&word, at, sizeof(word));
		hash = hk_rules_mix(hash ^ word);
	}
	word = 0;
	memcpy(&word, at, size);
	return hk_rules_mix(hash ^ word);
}

uint32_t hk_rules_symbol(
	const struct hk_rules *rules, uint64_t hash, const void *data, size_t size, bool is_glob)
{
	size_t mask = rules->symbol_slot_count - 1;

	if (rules->symbol_slot_count == 0) {
		return 0;
	}
	for (size_t i = hash & mask; rules->symbol_slots[i] != 0; i = (i + 1) & mask) {
		const struct hk_symbol *symbol = &rules->symbols[rules->symbol_slots[i]];

		if (symbol->hash == hash && symbol->size == size && symbol->is_glob == is_glob &&
			memcmp(symbol->data, data, size) == 0) {
			return rules->symbol_slots[i];
		}
	}
	return 0;
}

static void put_symbol_slot(uint32_t *slots, size_t slot_count, uint64_t hash, uint32_t symbol)
{
	size_t i = hash & (slot_count - 1);

	while (slots[i] != 0) {
		i = (i + 1) & (slot_count - 1);
	}
	slots[i] = symbol;
}

/* At most a quarter full: each step looks here. */
static int grow_symbol_slots(struct hk_rules *rules)
{
	size_t count = HK_MAX(2 * rules->symbol_slot_count, (size_t)64);
	uint32_t *slots;

	if (4 * (rules->symbol_count + 1) <= rules->symbol_slot_count) {
		return 0;
	}
	slots = hk_calloc(count, sizeof(*slots));
	if (slots == NULL) {
		return -ENOMEM;
	}
	for (size_t i = 1; i < rules->symbol_count; i++) {
		put_symbol_slot(slots, count, rules->symbols[i].hash, (uint32_t)i);
	}
	free(rules->symbol_slots);
	rules->symbol_slots = slots;
	rules->symbol_slot_count = count;
	return 0;
}

static int intern(
	struct hk_rules *rules, const void *data, size_t size, bool is_glob, uint32_t *ret_symbol)
{
	uint64_t hash = hk_rules_hash(data, size);
	uint32_t found = hk_rules_symbol(rules, hash, data, size, is_glob);
	struct hk_symbol *symbols;
	void *copy;

	if (found != 0) {
		*ret_symbol = found;
		return 0;
	}
	if (rules->symbol_count == (size_t)1 << HK_RULES_SYMBOL_BITS) {
		return -E2BIG;
	}
	symbols = make_room(
		rules->symbols, rules->symbol_count, &rules->symbol_cap, sizeof(*symbols));
	if (symbols == NULL) {
		return -ENOMEM;
	}
	rules->symbols = symbols;
	copy = hk_malloc(size);
	if (copy == NULL || grow_symbol_slots(rules) < 0) {
		free(copy);
		return -ENOMEM;
	}
	memcpy(copy, data, size);
	*ret_symbol = (uint32_t)rules->symbol_count++;
	symbols[*ret_symbol] = (struct hk_symbol){
		.hash = hash,
		.data = copy,
		.size = size,
		.is_glob = is_glob,
	};
	put_symbol_slot(rules->symbol_slots, rules->symbol_slot_count, hash, *ret_symbol);
	return 0;
}

/* The trie */

uint32_t hk_rules_edge(const struct hk_rules *rules, uint32_t node, uint32_t symbol)
{
	uint64_t key = (uint64_t)node << 32 | symbol;
	size_t mask = rules->edge_slot_count - 1;

	if (rules->edge_slot_count == 0) {
		return 0;
	}
	for (size_t i = hk_rules_mix(key) & mask; rules->edges[i].key != 0; i = (i + 1) & mask) {
		if (rules->edges[i].key == key) {
			return rules->edges[i].child;
		}
	}
	return 0;
}

static void put_edge(
	struct hk_rules_edge *edges, size_t slot_count, const struct hk_rules_edge *edge)
{
	size_t i = hk_rules_mix(edge->key) & (slot_count - 1);

	while (edges[i].key != 0) {
		i = (i + 1) & (slot_count - 1);
	}
	edges[i] = *edge;
}

/* Makes room for two. */
static int grow_edges(struct hk_rules *rules)
{
	size_t count = HK_MAX(2 * rules->edge_slot_count, (size_t)64);
	struct hk_rules_edge *edges;

	if (2 * (rules->edge_count + 2) <= rules->edge_slot_count) {
		return 0;
	}
	edges = hk_calloc(count, sizeof(*edges));
	if (edges == NULL) {
		return -ENOMEM;
	}
	for (size_t i = 0; i < rules->edge_slot_count; i++) {
		if (rules->edges[i].key != 0) {
			put_edge(edges, count, &rules->edges[i]);
		}
	}
	free(rules->edges);
	rules->edges = edges;
	rules->edge_slot_count = count;
	return 0;
}

/* There is room. */
static void add_edge(struct hk_rules *rules, uint32_t node, uint32_t symbol, uint32_t child)
{
	put_edge(rules->edges, rules->edge_slot_count,
		&(struct hk_rules_edge){.key = (uint64_t)node << 32 | symbol, .child = child});
	rules->edge_count++;
}

static void add_to_bucket(struct hk_rules *rules, uint32_t node, uint32_t bucket, uint32_t child)
{
	uint32_t first = hk_rules_edge(rules, node, bucket);

	if (first == 0) {
		add_edge(rules, node, bucket, child);
	} else {
		rules->nodes[child].next_glob = rules->nodes[first].next_glob;
		rules->nodes[first].next_glob = child;
	}
	rules->nodes[node].glob_kinds |= (uint8_t)(1u << hk_glob_bucket_kind(bucket));
	rules->has_globs = true;
}

static int add_node(struct hk_rules *rules, uint32_t parent, uint32_t symbol, uint32_t *ret_node)
{
	struct hk_rules_node *nodes;

	if (rules->node_count == UINT32_MAX) {
		return -E2BIG;
	}
	nodes = make_room(rules->nodes, rules->node_count, &rules->node_cap, sizeof(*nodes));
	if (nodes == NULL) {
		return -ENOMEM;
	}
	rules->nodes = nodes;
	*ret_node = (uint32_t)rules->node_count++;
	nodes[*ret_node] = (struct hk_rules_node){.parent = parent, .symbol = symbol};
	return 0;
}

bool hk_rules_is_deep(const struct hk_rules *rules, uint32_t node)
{
	return node != 0 && rules->nodes[node].symbol == 0;
}

int hk_rules_deep_child(struct hk_rules *rules, uint32_t node, uint32_t *ret_child)
{
	int r = 0;

	*ret_child = hk_rules_is_deep(rules, node) ? node : rules->nodes[node].deep_child;
	if (*ret_child == 0) {
		r = add_node(rules, node, 0, ret_child);
		if (r == 0) {
			rules->nodes[node].deep_child = *ret_child;
		}
	}
	return r;
}

int hk_rules_child(struct hk_rules *rules, uint32_t node, const void *data, size_t size,
	bool is_glob, uint32_t *ret_child)
{
	uint32_t symbol;
	int r = intern(rules, data, size, is_glob, &symbol);

	if (r < 0) {
		return r;
	}
	*ret_child = hk_rules_edge(rules, node, symbol);
	if (*ret_child != 0) {
		return 0;
	}
	r = grow_edges(rules);
	if (r == 0) {
		r = add_node(rules, node, symbol, ret_child);
	}
	if (r < 0) {
		return r;
	}
	add_edge(rules, node, symbol, *ret_child);
	if (is_glob) {
		add_to_bucket(
			rules, node, hk_glob_bucket(data, size / sizeof(uint32_t)), *ret_child);
	} else {
		rules->nodes[node].has_literals = true;
	}
	return 0;
}

/* Rules */

static void rule_finish(struct hk_rule *rule)
{
	free(rule->text);
	free(rule->target);
}

int hk_rules_end(
	struct hk_rules *rules, uint32_t node, const struct hk_rule *rule, uint32_t class_mask)
{
	struct hk_rule copy = *rule;
	struct hk_rule *more = rules->rule_count < UINT32_MAX - 1
		? make_room(rules->rules, rules->rule_count, &rules->rule_cap, sizeof(*more))
		: NULL;

	if (more == NULL) {
		rule_finish(&copy);
		return -ENOMEM;
	}
	rules->rules = more;
	more[rules->rule_count++] = copy;
	rules->verdicts |= 1u << copy.verdict;
	hk_rules_end_also(rules, node, class_mask);
	return 0;
}

void hk_rules_end_also(struct hk_rules *rules, uint32_t node, uint32_t class_mask)
{
	for (unsigned class = 0; class < HK_CLASS_COUNT; class ++) {
		if ((class_mask & 1u << class) != 0) {
			rules->nodes[node].rule[class] = (uint32_t)rules->rule_count;
		}
	}
}

int hk_rules_path(struct hk_rules *rules, const char *path, uint32_t *ret_node)
{
	uint32_t node = 0;
	int r = 0;

	while (r == 0 && *path != '\0') {
		size_t len = strcspn(path, "/");

		if (len == 2 && memcmp(path, "..", 2) == 0) {
			node = rules->nodes[node].parent;
		} else if (len != 0 && !(len == 1 && path[0] == '.')) {
			r = hk_rules_child(rules, node, path, len, false, &node);
		}
		path += len;
		path += *path == '/';
	}
	*ret_node = node;
	return r;
}

int hk_rules_add_path(struct hk_rules *rules, const struct hk_rule *rule, uint32_t class_mask,
	const char *path, bool with_all_below)
{
	struct hk_rule copy = *rule;
	uint32_t node;
	int r = hk_rules_path(rules, path, &node);

	if (r == 0 && with_all_below) {
		r = hk_rules_deep_child(rules, node, &node);
	}
	if (r < 0) {
		rule_finish(&copy);
		return r;
	}
	return hk_rules_end(rules, node, &copy, class_mask);
}

int hk_rules_add(struct hk_rules *rules, enum hk_verdict verdict, uint32_t class_mask,
	const char *path, bool with_all_below)
{
	const uint32_t all = HK_CLASSES_ALL;
	struct hk_rule rule = {.verdict = verdict};
	struct hk_str text = {0};
	const char *separator = "";
	int r;

	if (path[0] != '/' || class_mask == 0 || class_mask > all ||
		(unsigned)verdict >= HK_VERDICT_REDIRECT) {
		return -EINVAL;
	}
	if (atomic_load(&rules->is_ready)) {
		return -EBUSY;
	}
	hk_str_addf(&text, "%s ", verdict_names[verdict]);
	for (unsigned class = 0; class < HK_CLASS_COUNT && class_mask != all; class ++) {
		if ((class_mask & 1u << class) != 0) {
			hk_str_addf(&text, "%s%s", separator, class_names[class]);
			separator = ",";
		}
	}
	hk_str_add(&text, class_mask == all ? "* " : " ");
	hk_rules_quote(&text, path);
	if (with_all_below) {
		hk_str_add(&text, path[strlen(path) - 1] == '/' ? "**" : "/**");
	}
	r = hk_str_take(&text, &rule.text);
	if (r < 0) {
		hk_str_finish(&text);
		return r;
	}
	return hk_rules_add_path(rules, &rule, class_mask, path, with_all_below);
}

struct hk_rules *hk_rules_new(void)
{
	struct hk_rules *rules;
	uint32_t root;

	if (hk_new(rules) == NULL) {
		return NULL;
	}
	pthread_mutex_init(&rules->lock, NULL);
	rules->symbol_count = 1;
	if (add_node(rules, 0, 0, &root) < 0 || hk_rules_places_init(rules) < 0) {
		hk_rules_free(rules);
		return NULL;
	}
	return rules;
}

void hk_rules_free(struct hk_rules *rules)
{
	if (rules == NULL) {
		return;
	}
	hk_rules_places_finish(rules);
	for (size_t i = 0; i < rules->rule_count; i++) {
		rule_finish(&rules->rules[i]);
	}
	for (size_t i = 1; i < rules->symbol_count; i++) {
		free(rules->symbols[i].data);
	}
	free(rules->rules);
	free(rules->symbols);
	free(rules->symbol_slots);
	free(rules->nodes);
	free(rules->edges);
	pthread_mutex_destroy(&rules->lock);
	free(rules);
}

bool hk_rules_any(const struct hk_rules *rules, enum hk_verdict verdict)
{
	return (unsigned)verdict < HK_VERDICT_COUNT && (rules->verdicts & 1u << verdict) != 0;
}

/* Number @number's rule; NULL: none. */
static const struct hk_rule *rule_of(const struct hk_rules *rules, uint32_t number)
{
	return number != 0 && number <= rules->rule_count ? &rules->rules[number - 1] : NULL;
}

const char *hk_rules_text(const struct hk_rules *rules, uint32_t number)
{
	const struct hk_rule *rule = rule_of(rules, number);

	if (rule != NULL) {
		return rule->text;
	}
	return number != 0 && number == rules->rule_count + 1
		? "deny * (its path is not known, or no memory left to look the rules up)"
		: NULL;
}

const char *hk_rules_target(const struct hk_rules *rules, uint32_t number)
{
	const struct hk_rule *rule = rule_of(rules, number);

	return rule != NULL ? rule->target : NULL;
}

bool hk_rules_is_quiet(const struct hk_rules *rules, uint32_t number)
{
	const struct hk_rule *rule = rule_of(rules, number);

	return rule != NULL && rule->is_quiet;
}

void hk_rules_make_quiet(struct hk_rules *rules)
{
	if (rules->rule_count > 0) {
		rules->rules[rules->rule_count - 1].is_quiet = true;
	}
}

void hk_rules_quote(struct hk_str *out, const char *path)
{
	static const char hex[] = "0123456789abcdef";

	for (; *path != '\0'; path++) {
		uint8_t c = (uint8_t)*path;
		/*
		 * A blank has a meaning in front of these, and of the end, which is found as well.
		 */
		bool is_blank = c == ' ' && strchr("#=/", path[1]) != NULL;

		if (c < ' ' || c == 0x7f) {
			char escape[] = {'\\', 'x', hex[c >> 4], hex[c & 15]};

			hk_str_add_bytes(out, escape, sizeof(escape));
			continue;
		}
		if (is_blank || strchr("\\*?[\"$#", c) != NULL) {
			hk_str_add_bytes(out, "\\", 1);
		}
		hk_str_add_bytes(out, &c, 1);
	}
}
