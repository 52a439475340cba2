/* SPDX-License-Identifier: ISC */
/*
 * The inside of the rules, shared by their files:
 *
 *	rules.c		the rules themselves, and the trie they stand in
 *	rules_glob.c	globs within one name
 *	rules_parse.c	the language of hako-policy(5); rules_pattern.c: its patterns
 *	rules_links.c	and where they lead behind symbolic links
 *	rules_fusebox.c	Fusebox's commands
 *	rules_match.c	places and steps
 *	rules_memo.c	what steps remember
 */
#ifndef HK_FUSE_RULES_IMPL_H
#define HK_FUSE_RULES_IMPL_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/str.h"
#include "fuse/rules.h"

/* Places, symbols and places again share a word of 64 bits: see rules_memo.c. */
enum {
	HK_RULES_PLACE_BITS = 20,
	HK_RULES_SYMBOL_BITS = 24,
	HK_RULES_CHUNK = 512,
	HK_RULES_CHUNKS = (1 << HK_RULES_PLACE_BITS) / HK_RULES_CHUNK,
};

/** struct hk_rules_char - one byte of a pattern, after quotes, escapes and variables */
struct hk_rules_char {
	uint8_t byte;
	bool is_literal;  /* quoted, escaped, or a variable's: stands for itself */
	bool is_variable; /* a variable's */
	uint32_t at;      /* where in the line */
};

/* Globs: rules_glob.c. Compiled they are words, equal for globs that are. */

bool hk_glob_is_wild(const struct hk_rules_char *chars, size_t count);

/**
 * hk_glob_compile() - compile what stands between two slashes
 * @ret_words: malloc'd, *@ret_count of them
 * @ret_at: the character that is wrong, an index into @chars; @ret_problem: what about it
 *
 * Return: 0, -EINVAL or -ENOMEM.
 */
int hk_glob_compile(const struct hk_rules_char *chars, size_t count, uint32_t **ret_words,
	size_t *ret_count, size_t *ret_at, const char **ret_problem);

/*
 * Many globs of one place are told apart by characters they begin or end with, three at most: the
 * kind says which.
 *
 *	31  30    27 26  24 23                 0
 *	+---+-------+------+-------------------+
 *	| 1 | 0     | kind | characters        |    as the symbol of an edge: no name's
 *	+---+-------+------+-------------------+
 */
enum { HK_GLOB_ANYWHERE, HK_GLOB_HEAD = 1, HK_GLOB_TAIL = 4, HK_GLOB_KINDS = 7 };

/** hk_glob_bucket() - of a glob */
uint32_t hk_glob_bucket(const uint32_t *words, size_t count);

/**
 * hk_glob_bucket_kind() - Return: HK_GLOB_ANYWHERE, or HK_GLOB_HEAD or _TAIL plus how many
 * characters but one
 */
unsigned hk_glob_bucket_kind(uint32_t bucket);

/**
 * hk_glob_bucket_of_name() - where globs of this kind are that may match; @name has as many bytes
 * as the kind has characters
 */
uint32_t hk_glob_bucket_of_name(unsigned kind, const char *name, size_t len);

/** hk_glob_kind_len() - how many characters this kind is about */
size_t hk_glob_kind_len(unsigned kind);

bool hk_glob_match(const uint32_t *words, size_t count, const char *name, size_t len);

/** struct hk_rule - one rule; its number is its index plus one */
struct hk_rule {
	char *text;   /* owned */
	char *target; /* owned; of HK_VERDICT_REDIRECT */
	enum hk_verdict verdict;
	bool is_quiet;
};

/** struct hk_symbol - a name, or a glob, that patterns contain */
struct hk_symbol {
	uint64_t hash;
	void *data; /* owned: bytes of a name, words of a glob */
	size_t size;
	bool is_glob;
};

/**
 * struct hk_rules_node - a node of the trie of all patterns: what rules agree on from the left is
 * there once
 *
 * Children by a name are found in the table of edges. Those by a glob are there twice: by the glob,
 * and in lists by what the glob begins or ends with (hk_glob_bucket()), so that a name is held
 * against few. The child by a double star stays where it is at every further name. Node 0 is the
 * root, and as a child it is none.
 */
struct hk_rules_node {
	uint32_t parent;
	uint32_t symbol; /* what led here from @parent; 0: a double star */
	uint32_t deep_child;
	uint32_t next_glob; /* of the same parent and bucket */
	bool has_literals;
	uint8_t glob_kinds; /* bits of those that children have */
	bool hides_entries; /* a rule that hides ends at a child by name or glob */
	bool limits_below;  /* one that does not allow ends there, or below */
	/* The last rule that ends here, for each class; 0: none. */
	uint32_t rule[HK_CLASS_COUNT];
	/* The last one at children by name or glob, or below them. */
	uint32_t entries[HK_CLASS_COUNT];
};

struct hk_rules_edge {
	uint64_t key; /* parent << 32 | symbol; 0: free */
	uint32_t child;
};

struct hk_place_info;
struct hk_rules_memo;
struct hk_rules_slot;

struct hk_rules {
	/* Built by the parser; constant once @is_ready. */
	struct hk_rule *rules;
	size_t rule_count, rule_cap;
	struct hk_symbol *symbols; /* [0] is none */
	size_t symbol_count, symbol_cap;
	uint32_t *symbol_slots; /* hash table of indices */
	size_t symbol_slot_count;
	struct hk_rules_node *nodes;
	size_t node_count, node_cap;
	struct hk_rules_edge *edges; /* hash table */
	size_t edge_count, edge_slot_count;
	uint32_t verdicts; /* bits of those there are */
	bool has_globs;
	atomic_bool is_ready;

	/* Places: never moved, never freed; see rules_match.c. */
	_Atomic(struct hk_place_info *) chunks[HK_RULES_CHUNKS];
	_Atomic(struct hk_rules_memo *) memo;
	struct hk_rules_slot *slots; /* NULL: no globs */
	hk_place root;

	pthread_mutex_t lock; /* around the making of places; what follows is under it */
	uint32_t place_count, max_places;
	unsigned slot_turn;
	size_t state_count; /* of all places */
	uint32_t *place_slots;
	size_t place_slot_count;
};

static inline uint64_t hk_rules_mix(uint64_t x)
{
	x *= UINT64_C(0x9e3779b97f4a7c15);
	return x ^ x >> 32;
}

uint64_t hk_rules_hash(const void *data, size_t size);
/** hk_rules_symbol() - Return: the index; 0 if there is none */
uint32_t hk_rules_symbol(
	const struct hk_rules *rules, uint64_t hash, const void *data, size_t size, bool is_glob);
/** hk_rules_edge() - the child of @node by @symbol; 0: none */
uint32_t hk_rules_edge(const struct hk_rules *rules, uint32_t node, uint32_t symbol);

/**
 * hk_rules_child() - the child of @node by a name or a glob, made where there is none
 *
 * Return: 0 or -errno.
 */
int hk_rules_child(struct hk_rules *rules, uint32_t node, const void *data, size_t size,
	bool is_glob, uint32_t *ret_child);

/** hk_rules_deep_child() - the child by a double star; a node that is one is its own */
int hk_rules_deep_child(struct hk_rules *rules, uint32_t node, uint32_t *ret_child);
bool hk_rules_is_deep(const struct hk_rules *rules, uint32_t node);

/**
 * hk_rules_end() - a rule ends at @node; takes over what @rule owns, on failure too
 *
 * Return: 0 or -errno.
 */
int hk_rules_end(
	struct hk_rules *rules, uint32_t node, const struct hk_rule *rule, uint32_t class_mask);

/** hk_rules_end_also() - the rule that was added last ends at @node, too */
void hk_rules_end_also(struct hk_rules *rules, uint32_t node, uint32_t class_mask);

/**
 * hk_rules_path() - the node of a path as it is written, ".." leads back; adds what is not there.
 * Return: 0 or -errno
 */
int hk_rules_path(struct hk_rules *rules, const char *path, uint32_t *ret_node);

/**
 * hk_rules_follow() - the node of the same pattern behind symbolic links: see rules_links.c
 * @env: with a @resolve
 * @but_the_last: not through the last name of a pattern without globs
 * @ret_node: may be @node itself
 *
 * Return: 0 or -errno.
 */
int hk_rules_follow(struct hk_rules *rules, struct hk_rules_env *env, uint32_t node,
	bool but_the_last, uint32_t *ret_node);

/** hk_rules_add_path() - hk_rules_add(), for a rule with a text; takes over what @rule owns */
int hk_rules_add_path(struct hk_rules *rules, const struct hk_rule *rule, uint32_t class_mask,
	const char *path, bool with_all_below);

/** hk_rules_places_init(), _finish() - rules_match.c's part of making and freeing */
int hk_rules_places_init(struct hk_rules *rules);
void hk_rules_places_finish(struct hk_rules *rules);

/** struct hk_rules_key - a name on its way through a step */
struct hk_rules_key {
	const char *name; /* NULL: one that nothing matches */
	size_t len;
	uint64_t hash;
	uint32_t symbol; /* 0: no pattern has it as it is */
};

/*
 * rules_memo.c. To get takes no lock, and gives 0 where nothing is known; to put is done under the
 * lock, and may do nothing where there is no memory. The memo knows names that patterns have, the
 * slots any names.
 */
int hk_rules_memo_init(struct hk_rules *rules);
int hk_rules_slots_init(struct hk_rules *rules);
void hk_rules_memo_finish(struct hk_rules *rules); /* the slots as well */
hk_place hk_rules_memo_get(struct hk_rules *rules, hk_place place, uint32_t symbol);
void hk_rules_memo_put(struct hk_rules *rules, hk_place place, uint32_t symbol, hk_place next);
hk_place hk_rules_slot_get(struct hk_rules *rules, hk_place place, const struct hk_rules_key *key);
void hk_rules_slot_put(
	struct hk_rules *rules, hk_place place, const struct hk_rules_key *key, hk_place next);

/** hk_rules_place_count() - for tests and benchmarks */
uint32_t hk_rules_place_count(struct hk_rules *rules);

#endif
