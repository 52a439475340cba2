/* SPDX-License-Identifier: ISC */
/*
 * What steps remember, to be read without a lock: see rules_match.c.
 *
 * Theory: the memo is a hash table of words, each a whole entry, stored by release and read by
 * acquire. It grows into a new table; the old ones stay until the end, for whoever still reads them
 * (together they are no larger than the last).
 *
 * The slots are a cache of a fixed size, four ways for each name. A slot is a sequence lock: its
 * version is odd while it changes. Stores of its contents are releases and loads are acquires,
 * which does for fences: who reads a new content sees the odd version before it.
 *
 * Limits: 2^22 entries in the memo, then steps are worked out each time; so are those by names over
 * 112 bytes that could match a glob.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/util.h"
#include "fuse/rules_impl.h"

enum {
	PLACE_MASK = (1 << HK_RULES_PLACE_BITS) - 1,
	FIRST_MEMO = 256,
	MAX_MEMO = 1 << 22,
	SLOT_SETS = 1 << 12,
	SLOT_WAYS = 4,
	SLOT_WORDS = 14,
	SLOT_NAME = SLOT_WORDS * 8,
};

/*
 * The memo: an open hash table of words.
 *
 *	63        44 43              20 19         0
 *	+-----------+------------------+-----------+
 *	| place     | symbol           | next      |    0: free
 *	+-----------+------------------+-----------+
 */
struct hk_rules_memo {
	struct hk_rules_memo *older; /* owned */
	size_t mask;
	size_t used;
	_Atomic uint64_t words[];
};

static_assert(2 * HK_RULES_PLACE_BITS + HK_RULES_SYMBOL_BITS == 64, "the memo's words");

/* Two cache lines. */
struct hk_rules_slot {
	atomic_uint version;
	atomic_uint place, next, len;
	_Atomic uint64_t name[SLOT_WORDS];
};

static_assert(sizeof(struct hk_rules_slot) == 128, "slots have two cache lines");

/* The memo */

static size_t memo_slot(const struct hk_rules_memo *memo, uint64_t key)
{
	return hk_rules_mix(key) & memo->mask;
}

static uint64_t memo_key(hk_place place, uint32_t symbol)
{
	return (uint64_t)place << HK_RULES_SYMBOL_BITS | symbol;
}

hk_place hk_rules_memo_get(struct hk_rules *rules, hk_place place, uint32_t symbol)
{
	uint64_t key = memo_key(place, symbol);
	/* Pairs with the release in memo_grow(). */
	struct hk_rules_memo *memo = atomic_load_explicit(&rules->memo, memory_order_acquire);
	uint64_t word;

	for (size_t i = memo_slot(memo, key);; i = (i + 1) & memo->mask) {
		/* Pairs with the release in hk_rules_memo_put(). */
		word = atomic_load_explicit(&memo->words[i], memory_order_acquire);
		if (word == 0) {
			return 0;
		}
		if (word >> HK_RULES_PLACE_BITS == key) {
			return (hk_place)(word & PLACE_MASK);
		}
	}
}

static struct hk_rules_memo *memo_new(size_t slots)
{
	struct hk_rules_memo *memo = hk_calloc(1, sizeof(*memo) + slots * sizeof(memo->words[0]));

	if (memo != NULL) {
		memo->mask = slots - 1;
	}
	return memo;
}

static void memo_insert(struct hk_rules_memo *memo, uint64_t word)
{
	size_t i = memo_slot(memo, word >> HK_RULES_PLACE_BITS);

	while (atomic_load_explicit(&memo->words[i], memory_order_relaxed) != 0) {
		i = (i + 1) & memo->mask;
	}
	atomic_store_explicit(&memo->words[i], word, memory_order_release);
	memo->used++;
}

/* Return: the memo, with room for one more; NULL: full, or no memory. Locked. */
static struct hk_rules_memo *memo_grow(struct hk_rules *rules)
{
	struct hk_rules_memo *memo = atomic_load_explicit(&rules->memo, memory_order_relaxed);
	struct hk_rules_memo *more;

	if (2 * (memo->used + 1) <= memo->mask + 1) {
		return memo;
	}
	more = memo->used < MAX_MEMO ? memo_new(2 * (memo->mask + 1)) : NULL;
	if (more == NULL) {
		return NULL;
	}
	for (size_t i = 0; i <= memo->mask; i++) {
		uint64_t word = atomic_load_explicit(&memo->words[i], memory_order_relaxed);

		if (word != 0) {
			memo_insert(more, word);
		}
	}
	more->older = memo;
	atomic_store_explicit(&rules->memo, more, memory_order_release);
	return more;
}

/* It is no more than a memo: without memory there is no note. Locked. */
void hk_rules_memo_put(struct hk_rules *rules, hk_place place, uint32_t symbol, hk_place next)
{
	struct hk_rules_memo *memo = memo_grow(rules);

	if (memo != NULL && hk_rules_memo_get(rules, place, symbol) == 0) {
		memo_insert(memo, memo_key(place, symbol) << HK_RULES_PLACE_BITS | next);
	}
}

/* The slots */

/* The ways of a name's set. */
static struct hk_rules_slot *slots_of(
	struct hk_rules *rules, hk_place place, const struct hk_rules_key *key)
{
	return &rules->slots[hk_rules_mix(key->hash + place) % SLOT_SETS * SLOT_WAYS];
}

/* Word @i of a name, with zeros behind its end. */
static uint64_t name_word(const struct hk_rules_key *key, size_t i)
{
	uint64_t word = 0;

	memcpy(&word, key->name + 8 * i, HK_MIN(key->len - 8 * i, sizeof(word)));
	return word;
}

/* Return: where @key leads, if it is this slot that knows; else 0. */
static hk_place slot_read(
	const struct hk_rules_slot *slot, hk_place place, const struct hk_rules_key *key)
{
	unsigned version = atomic_load_explicit(&slot->version, memory_order_acquire);
	hk_place next;

	if (version % 2 != 0 || atomic_load_explicit(&slot->place, memory_order_acquire) != place ||
		atomic_load_explicit(&slot->len, memory_order_acquire) != key->len) {
		return 0;
	}
	for (size_t i = 0; 8 * i < key->len; i++) {
		if (atomic_load_explicit(&slot->name[i], memory_order_acquire) !=
			name_word(key, i)) {
			return 0;
		}
	}
	next = atomic_load_explicit(&slot->next, memory_order_acquire);
	return atomic_load_explicit(&slot->version, memory_order_relaxed) == version ? next : 0;
}

hk_place hk_rules_slot_get(struct hk_rules *rules, hk_place place, const struct hk_rules_key *key)
{
	const struct hk_rules_slot *slots = slots_of(rules, place, key);
	hk_place next = 0;

	for (unsigned way = 0; way < SLOT_WAYS && next == 0 && key->len <= SLOT_NAME; way++) {
		next = slot_read(&slots[way], place, key);
	}
	return next;
}

/* Which slot is to take a name: one that is free, else they take turns. Locked. */
static struct hk_rules_slot *slot_to_fill(
	struct hk_rules *rules, hk_place place, const struct hk_rules_key *key)
{
	struct hk_rules_slot *slots = slots_of(rules, place, key);

	for (unsigned way = 0; way < SLOT_WAYS; way++) {
		if (atomic_load_explicit(&slots[way].version, memory_order_relaxed) == 0) {
			return &slots[way];
		}
	}
	return &slots[rules->slot_turn++ % SLOT_WAYS];
}

/* Locked. */
void hk_rules_slot_put(
	struct hk_rules *rules, hk_place place, const struct hk_rules_key *key, hk_place next)
{
	struct hk_rules_slot *slot = slot_to_fill(rules, place, key);
	unsigned version = atomic_load_explicit(&slot->version, memory_order_relaxed);

	if (key->len > SLOT_NAME) {
		return;
	}
	atomic_store_explicit(&slot->version, version + 1, memory_order_relaxed);
	atomic_store_explicit(&slot->place, place, memory_order_release);
	atomic_store_explicit(&slot->len, (unsigned)key->len, memory_order_release);
	for (size_t i = 0; 8 * i < key->len; i++) {
		atomic_store_explicit(&slot->name[i], name_word(key, i), memory_order_release);
	}
	atomic_store_explicit(&slot->next, next, memory_order_release);
	atomic_store_explicit(&slot->version, version + 2, memory_order_release);
}

/* Both */

int hk_rules_memo_init(struct hk_rules *rules)
{
	struct hk_rules_memo *memo = memo_new(FIRST_MEMO);

	atomic_store(&rules->memo, memo);
	return memo != NULL ? 0 : -ENOMEM;
}

int hk_rules_slots_init(struct hk_rules *rules)
{
	rules->slots = hk_calloc(SLOT_SETS * SLOT_WAYS, sizeof(*rules->slots));
	return rules->slots != NULL ? 0 : -ENOMEM;
}

void hk_rules_memo_finish(struct hk_rules *rules)
{
	struct hk_rules_memo *memo = atomic_load(&rules->memo);

	while (memo != NULL) {
		struct hk_rules_memo *older = memo->older;

		free(memo);
		memo = older;
	}
	free(rules->slots);
}
