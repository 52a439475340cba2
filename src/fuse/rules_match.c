/* SPDX-License-Identifier: ISC */
/*
 * Places and steps.
 *
 * Theory: a place is the set of the trie's nodes that a path has come to: one for its names, those
 * for its globs, and all double stars passed on the way. Sets are interned, so a place is a number,
 * and it knows its rulings. A step works the next set out once and notes it. It is then found again
 * by one of three ways, each without a lock:
 *
 *	literal  a name some pattern has at this place: in the memo, by (place, symbol). As long
 *	         as it needs to be: the policy bounds what can be in it
 *	glob     a name at a place that has globs: in the slots, by (place, name). Of fixed
 *	         number: a program that looks up millions of names gains nothing
 *	other    all the rest: one number in the place itself. Such names need no memory at all
 *
 * So a step costs the hash of a name and one or two looks into tables, however many rules there
 * are. What a first step costs: a look for each node of the set, a match for each glob that begins
 * or ends as the name does, and the mutex if the new set is not empty.
 *
 * A double star whose rule decides a class holds from there on for all below, and for good: rules
 * before it cannot matter any more, and nodes that lead to such rules only are left out of the set.
 * So a last rule that allows all below $PWD makes it a place with nothing left to match, whatever
 * was said before.
 *
 * Threads: the trie is constant. Places, once published, are too, but for @other. Who learns of a
 * place from the memo, the slots or @other does so by an acquire, which pairs with the release that
 * put it there.
 *
 * Limits: 2^20 places with 2^24 nodes in all. A policy made for it (a double star, a name, and
 * twenty single stars) reaches that; HK_PLACE_NOWHERE, which denies everything by a rule of its
 * own, then stands in for new places.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/util.h"
#include "fuse/rules_impl.h"

enum {
	MAX_STATES = 1 << 24,
	SET_INLINE = 32,
};

struct hk_place_info {
	uint32_t *states; /* owned: nodes, ascending */
	uint32_t state_count;
	atomic_uint other; /* place of the names that nothing matches; 0: not made yet */
	bool has_literals, has_globs, may_hide, limits_below;
	struct hk_ruling rulings[HK_CLASS_COUNT];
};

/* A set of nodes while it is made. */
struct set {
	uint32_t count, cap;
	uint32_t *nodes; /* @inline_nodes, or owned */
	uint32_t inline_nodes[SET_INLINE];
	bool failed;
	bool by_literal, by_glob; /* what the name matched, besides double stars */
};

static struct hk_place_info *info_of(const struct hk_rules *rules, hk_place place)
{
	/* Pairs with the release in new_info(). */
	struct hk_place_info *chunk =
		atomic_load_explicit(&rules->chunks[place / HK_RULES_CHUNK], memory_order_acquire);

	return &chunk[place % HK_RULES_CHUNK];
}

/* Sets */

static void set_init(struct set *set)
{
	set->count = 0;
	set->cap = SET_INLINE;
	set->nodes = set->inline_nodes;
	set->failed = set->by_literal = set->by_glob = false;
}

static void set_finish(struct set *set)
{
	if (set->nodes != set->inline_nodes) {
		free(set->nodes);
	}
}

static void set_add(struct set *set, uint32_t node)
{
	if (set->count == set->cap) {
		bool is_inline = set->nodes == set->inline_nodes;
		uint32_t *more = hk_realloc_array(
			is_inline ? NULL : set->nodes, 2 * (size_t)set->cap, sizeof(*more));

		if (more == NULL) {
			set->failed = true;
			return;
		}
		if (is_inline) {
			memcpy(more, set->inline_nodes, sizeof(set->inline_nodes));
		}
		set->nodes = more;
		set->cap *= 2;
	}
	set->nodes[set->count++] = node;
}

/* A double star is also no name at all: with a node comes its child by one. */
static void set_enter(const struct hk_rules *rules, struct set *set, uint32_t node)
{
	set_add(set, node);
	if (rules->nodes[node].deep_child != 0) {
		set_add(set, rules->nodes[node].deep_child);
	}
}

/* Adds the children of @node by globs that match. */
static void set_step_globs(const struct hk_rules *rules, struct set *set, uint32_t node,
	const struct hk_rules_key *key)
{
	for (unsigned kind = 0; kind < HK_GLOB_KINDS; kind++) {
		uint32_t child = 0;

		if ((rules->nodes[node].glob_kinds & 1u << kind) != 0 &&
			key->len >= hk_glob_kind_len(kind)) {
			child = hk_rules_edge(
				rules, node, hk_glob_bucket_of_name(kind, key->name, key->len));
		}
		for (; child != 0; child = rules->nodes[child].next_glob) {
			const struct hk_symbol *glob = &rules->symbols[rules->nodes[child].symbol];

			if (hk_glob_match(glob->data, glob->size / sizeof(uint32_t), key->name,
				    key->len)) {
				set->by_glob = true;
				set_enter(rules, set, child);
			}
		}
	}
}

/* Adds where @key leads from a place. No lock: the trie is constant. */
static void set_step(const struct hk_rules *rules, struct set *set,
	const struct hk_place_info *from, const struct hk_rules_key *key)
{
	for (uint32_t i = 0; i < from->state_count; i++) {
		uint32_t at = from->states[i];
		const struct hk_rules_node *node = &rules->nodes[at];
		uint32_t child = key->symbol != 0 ? hk_rules_edge(rules, at, key->symbol) : 0;

		if (hk_rules_is_deep(rules, at)) {
			set_add(set, at);
		}
		if (child != 0) {
			set->by_literal = true;
			set_enter(rules, set, child);
		}
		if (key->name != NULL && node->glob_kinds != 0) {
			set_step_globs(rules, set, at, key);
		}
	}
}

static int compare_nodes(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a;
	uint32_t y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

/* What the double stars of a set say of each class: no rule before that can matter from here on. */
static void set_floor(
	const struct hk_rules *rules, const struct set *set, uint32_t floor[HK_CLASS_COUNT])
{
	memset(floor, 0, HK_CLASS_COUNT * sizeof(floor[0]));
	for (uint32_t i = 0; i < set->count; i++) {
		const struct hk_rules_node *node = &rules->nodes[set->nodes[i]];
		bool is_deep = hk_rules_is_deep(rules, set->nodes[i]);

		for (unsigned c = 0; is_deep && c < HK_CLASS_COUNT; c++) {
			floor[c] = HK_MAX(floor[c], node->rule[c]);
		}
	}
}

/* Is one of these rules not before what the floor says of its class? */
static bool any_matters(const uint32_t rules[HK_CLASS_COUNT], const uint32_t floor[HK_CLASS_COUNT])
{
	for (unsigned c = 0; c < HK_CLASS_COUNT; c++) {
		if (rules[c] != 0 && rules[c] >= floor[c]) {
			return true;
		}
	}
	return false;
}

/*
 * Can a rule at @node, or at an entry below it, decide anything yet? The child by a double star is
 * asked for itself.
 */
static bool is_alive(const struct hk_rules_node *node, const uint32_t floor[HK_CLASS_COUNT])
{
	return any_matters(node->rule, floor) || any_matters(node->entries, floor);
}

/* Sorts, and leaves out doubles and what cannot matter. */
static void set_settle(
	const struct hk_rules *rules, struct set *set, const uint32_t floor[HK_CLASS_COUNT])
{
	uint32_t count = 0;

	if (set->count > 1) {
		qsort(set->nodes, set->count, sizeof(set->nodes[0]), compare_nodes);
	}
	for (uint32_t i = 0; i < set->count; i++) {
		uint32_t node = set->nodes[i];

		if ((count == 0 || set->nodes[count - 1] != node) &&
			is_alive(&rules->nodes[node], floor)) {
			set->nodes[count++] = node;
		}
	}
	set->count = count;
}

/* Places */

static struct hk_ruling ruling_of(const struct hk_rules *rules, uint32_t number)
{
	return (struct hk_ruling){
		.verdict = number != 0 ? rules->rules[number - 1].verdict : HK_VERDICT_ALLOW,
		.rule = number,
	};
}

static bool is_hiding(const struct hk_rules *rules, uint32_t number)
{
	return ruling_of(rules, number).verdict == HK_VERDICT_HIDE;
}

static bool is_limiting(const struct hk_rules *rules, const struct hk_rules_node *node)
{
	for (unsigned c = 0; c < HK_CLASS_COUNT; c++) {
		if (ruling_of(rules, node->rule[c]).verdict != HK_VERDICT_ALLOW) {
			return true;
		}
	}
	return node->limits_below;
}

static void fill_info(const struct hk_rules *rules, struct hk_place_info *info,
	const uint32_t floor[HK_CLASS_COUNT])
{
	uint32_t rule[HK_CLASS_COUNT] = {0};

	for (uint32_t i = 0; i < info->state_count; i++) {
		const struct hk_rules_node *node = &rules->nodes[info->states[i]];

		if (any_matters(node->entries, floor)) {
			info->has_literals |= node->has_literals;
			info->has_globs |= node->glob_kinds != 0;
			info->may_hide |= node->hides_entries;
			info->limits_below |= node->limits_below;
		}
		for (unsigned c = 0; c < HK_CLASS_COUNT; c++) {
			rule[c] = HK_MAX(rule[c], node->rule[c]);
		}
	}
	for (unsigned c = 0; c < HK_CLASS_COUNT; c++) {
		info->rulings[c] = ruling_of(rules, rule[c]);
		info->may_hide |= is_hiding(rules, floor[c]);
	}
}

static uint64_t set_hash(const uint32_t *nodes, uint32_t count)
{
	return hk_rules_hash(nodes, count * sizeof(nodes[0]));
}

static void put_place_slot(
	struct hk_rules *rules, uint32_t *slots, size_t slot_count, hk_place place)
{
	const struct hk_place_info *info = info_of(rules, place);
	size_t i = set_hash(info->states, info->state_count) & (slot_count - 1);

	while (slots[i] != 0) {
		i = (i + 1) & (slot_count - 1);
	}
	slots[i] = place;
}

static int grow_place_slots(struct hk_rules *rules)
{
	size_t count = HK_MAX(2 * rules->place_slot_count, (size_t)64);
	uint32_t *slots;

	if (2 * ((size_t)rules->place_count + 1) <= rules->place_slot_count) {
		return 0;
	}
	slots = hk_calloc(count, sizeof(*slots));
	if (slots == NULL) {
		return -ENOMEM;
	}
	for (hk_place i = HK_PLACE_NOWHERE + 1; i < rules->place_count; i++) {
		put_place_slot(rules, slots, count, i);
	}
	free(rules->place_slots);
	rules->place_slots = slots;
	rules->place_slot_count = count;
	return 0;
}

/*
 * Return: room for one place more; NULL: none. The place counts when place_count says so. Locked.
 */
static struct hk_place_info *new_info(struct hk_rules *rules)
{
	_Atomic(struct hk_place_info *) *chunk =
		&rules->chunks[rules->place_count / HK_RULES_CHUNK];
	struct hk_place_info *infos;

	if (atomic_load_explicit(chunk, memory_order_relaxed) == NULL) {
		infos = hk_calloc(HK_RULES_CHUNK, sizeof(*infos));
		if (infos == NULL) {
			return NULL;
		}
		/* Pairs with the acquire in info_of(). */
		atomic_store_explicit(chunk, infos, memory_order_release);
	}
	return info_of(rules, rules->place_count);
}

/* Locked. Return: HK_PLACE_NOWHERE if there is no room. */
static hk_place new_place(
	struct hk_rules *rules, const struct set *set, const uint32_t floor[HK_CLASS_COUNT])
{
	struct hk_place_info *info;

	if (rules->place_count == rules->max_places ||
		rules->state_count + set->count > MAX_STATES || grow_place_slots(rules) < 0) {
		return HK_PLACE_NOWHERE;
	}
	info = new_info(rules);
	if (info == NULL) {
		return HK_PLACE_NOWHERE;
	}
	info->states = hk_calloc(set->count + (size_t)1, sizeof(info->states[0]));
	if (info->states == NULL) {
		return HK_PLACE_NOWHERE;
	}
	if (set->count > 0) {
		memcpy(info->states, set->nodes, set->count * sizeof(set->nodes[0]));
	}
	info->state_count = set->count;
	fill_info(rules, info, floor);
	rules->state_count += set->count;
	put_place_slot(rules, rules->place_slots, rules->place_slot_count, rules->place_count);
	return rules->place_count++;
}

/* The place of a set. Locked. */
static hk_place place_of(struct hk_rules *rules, struct set *set)
{
	uint32_t floor[HK_CLASS_COUNT];
	size_t mask = rules->place_slot_count - 1;

	if (set->failed) {
		return HK_PLACE_NOWHERE;
	}
	set_floor(rules, set, floor);
	set_settle(rules, set, floor);
	if (rules->place_slot_count != 0) {
		size_t i = set_hash(set->nodes, set->count) & mask;

		for (; rules->place_slots[i] != 0; i = (i + 1) & mask) {
			const struct hk_place_info *info = info_of(rules, rules->place_slots[i]);

			if (info->state_count == set->count &&
				memcmp(info->states, set->nodes,
					set->count * sizeof(set->nodes[0])) == 0) {
				return rules->place_slots[i];
			}
		}
	}
	return new_place(rules, set, floor);
}

/* Locks, makes the place of @set, and notes that @key leads there. */
static hk_place step_to_set(
	struct hk_rules *rules, hk_place from, const struct hk_rules_key *key, struct set *set)
{
	struct hk_place_info *info = info_of(rules, from);
	hk_place next;

	pthread_mutex_lock(&rules->lock);
	next = place_of(rules, set);
	if (next == HK_PLACE_NOWHERE) {
		/* Perhaps there is memory next time. */
	} else if (set->by_literal) {
		hk_rules_memo_put(rules, from, key->symbol, next);
	} else if (set->by_glob) {
		hk_rules_slot_put(rules, from, key, next);
	} else {
		/* Pairs with the acquire in step_other(). */
		atomic_store_explicit(&info->other, next, memory_order_release);
	}
	pthread_mutex_unlock(&rules->lock);
	return next;
}

/* Where names lead that nothing matches. */
static hk_place step_other(struct hk_rules *rules, hk_place from)
{
	struct hk_place_info *info = info_of(rules, from);
	hk_place next = atomic_load_explicit(&info->other, memory_order_acquire);
	struct set set;

	if (next == 0) {
		set_init(&set);
		set_step(rules, &set, info, &(struct hk_rules_key){0});
		next = step_to_set(rules, from, NULL, &set);
		set_finish(&set);
	}
	return next;
}

static hk_place step_slowly(struct hk_rules *rules, hk_place from, const struct hk_rules_key *key)
{
	struct hk_place_info *info = info_of(rules, from);
	hk_place next;
	struct set set;

	set_init(&set);
	set_step(rules, &set, info, key);
	if (set.by_literal || set.by_glob || set.failed) {
		next = step_to_set(rules, from, key, &set);
	} else {
		next = step_other(rules, from);
		if (info->has_globs && next != HK_PLACE_NOWHERE) {
			pthread_mutex_lock(&rules->lock);
			hk_rules_slot_put(rules, from, key, next);
			pthread_mutex_unlock(&rules->lock);
		}
	}
	set_finish(&set);
	return next;
}

hk_place hk_rules_step(struct hk_rules *rules, hk_place place, const char *name)
{
	const struct hk_place_info *info = info_of(rules, place);
	struct hk_rules_key key = {.name = name};
	hk_place next;

	if (place == HK_PLACE_NOWHERE) {
		return place;
	}
	if (!info->has_literals && !info->has_globs) {
		return step_other(rules, place);
	}
	key.len = strlen(name);
	key.hash = hk_rules_hash(name, key.len);
	if (info->has_literals) {
		key.symbol = hk_rules_symbol(rules, key.hash, name, key.len, false);
		next = key.symbol != 0 ? hk_rules_memo_get(rules, place, key.symbol) : 0;
		if (next != 0) {
			return next;
		}
	}
	if (info->has_globs) {
		next = hk_rules_slot_get(rules, place, &key);
		if (next != 0) {
			return next;
		}
	} else if (key.symbol == 0) {
		return step_other(rules, place);
	}
	return step_slowly(rules, place, &key);
}

/* The beginning */

/* What the entries of a node lead to, for all nodes: children come after their parents. */
static void sum_up(struct hk_rules *rules)
{
	for (size_t i = rules->node_count; i-- > 1;) {
		const struct hk_rules_node *node = &rules->nodes[i];
		const struct hk_rules_node *deep = &rules->nodes[node->deep_child];
		struct hk_rules_node *parent = &rules->nodes[node->parent];
		bool has_deep = node->deep_child != 0;

		if (node->symbol != 0) {
			parent->limits_below |=
				is_limiting(rules, node) || (has_deep && is_limiting(rules, deep));
		}
		for (unsigned c = 0; c < HK_CLASS_COUNT && node->symbol != 0; c++) {
			uint32_t latest = HK_MAX(node->rule[c], node->entries[c]);

			if (has_deep) {
				latest = HK_MAX(latest, HK_MAX(deep->rule[c], deep->entries[c]));
			}
			parent->entries[c] = HK_MAX(parent->entries[c], latest);
			parent->hides_entries |= is_hiding(rules, node->rule[c]) ||
				(has_deep && is_hiding(rules, deep->rule[c]));
		}
	}
}

/* Locked. */
static hk_place make_root(struct hk_rules *rules)
{
	struct hk_place_info *nowhere = info_of(rules, HK_PLACE_NOWHERE);
	hk_place root;
	struct set set;

	for (unsigned c = 0; c < HK_CLASS_COUNT; c++) {
		nowhere->rulings[c].rule = (uint32_t)rules->rule_count + 1;
	}
	if (rules->has_globs && hk_rules_slots_init(rules) < 0) {
		return HK_PLACE_NOWHERE;
	}
	sum_up(rules);
	set_init(&set);
	set_enter(rules, &set, 0);
	root = place_of(rules, &set);
	set_finish(&set);
	return root;
}

hk_place hk_rules_root(struct hk_rules *rules)
{
	/* Pairs with the release below. */
	if (!atomic_load_explicit(&rules->is_ready, memory_order_acquire)) {
		pthread_mutex_lock(&rules->lock);
		if (!atomic_load_explicit(&rules->is_ready, memory_order_relaxed)) {
			rules->root = make_root(rules);
			atomic_store_explicit(&rules->is_ready, true, memory_order_release);
		}
		pthread_mutex_unlock(&rules->lock);
	}
	return rules->root;
}

struct hk_ruling hk_rules_at(const struct hk_rules *rules, hk_place place, enum hk_class class)
{
	return info_of(rules, place)->rulings[class];
}

bool hk_rules_uniform(const struct hk_rules *rules, hk_place place)
{
	const struct hk_place_info *info = info_of(rules, place);

	return !info->has_literals && !info->has_globs;
}

bool hk_rules_limits_below(const struct hk_rules *rules, hk_place place)
{
	return info_of(rules, place)->limits_below;
}

bool hk_rules_may_hide(const struct hk_rules *rules, hk_place place)
{
	return info_of(rules, place)->may_hide;
}

uint32_t hk_rules_place_count(struct hk_rules *rules)
{
	uint32_t count;

	pthread_mutex_lock(&rules->lock);
	count = rules->place_count;
	pthread_mutex_unlock(&rules->lock);
	return count;
}

int hk_rules_places_init(struct hk_rules *rules)
{
	struct hk_place_info *nowhere = hk_rules_memo_init(rules) == 0 ? new_info(rules) : NULL;

	if (nowhere == NULL) {
		return -ENOMEM;
	}
	for (unsigned c = 0; c < HK_CLASS_COUNT; c++) {
		nowhere->rulings[c].verdict = HK_VERDICT_DENY;
	}
	rules->place_count = 1;
	rules->max_places = 1 << HK_RULES_PLACE_BITS;
	return 0;
}

void hk_rules_places_finish(struct hk_rules *rules)
{
	for (unsigned i = 0; i < HK_RULES_CHUNKS; i++) {
		struct hk_place_info *chunk = atomic_load(&rules->chunks[i]);

		for (unsigned k = 0; chunk != NULL && k < HK_RULES_CHUNK; k++) {
			free(chunk[k].states);
		}
		free(chunk);
	}
	free(rules->place_slots);
	hk_rules_memo_finish(rules);
}
