/* SPDX-License-Identifier: ISC */
/*
 * Globs within one name: '*', '?', '[a-z]', '[!a-z]'.
 *
 * Theory: a glob is compiled to words. The first tells the byte each matching name ends with, where
 * that is fixed: most names fail there. Then each word is a character, or one of the marks below; a
 * set is followed by how many ranges it has and by their ends. Equal globs have equal words, so the
 * words name a glob, too.
 *
 * Characters are those of UTF-8. A byte that belongs to none, in a pattern or a name, is a
 * character of its own, beyond all others: names are bytes, and each of them matches '?*'.
 *
 * Where there are many globs, a name is held against those only whose ASCII characters in front of
 * the first mark, or behind the last, it begins or ends with (hk_glob_bucket()): ten thousand
 * suffixes are no more work than ten. Left over are globs that begin and end with a mark.
 *
 * Matching remembers the last star only: when the rest fails, that star takes one character more.
 * So it takes at most (length of the name) * (length of the glob) steps.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/util.h"
#include "fuse/rules_impl.h"

enum {
	BEYOND_UNICODE = 0x110000, /* plus the byte */
	ANY = 0x200000,            /* ? */
	STAR,                      /* * */
	SET,                       /* [...]: ranges, then two words for each */
	SET_NOT,                   /* [!...] */
};

/* See hk_glob_bucket(). */
#define BUCKET UINT32_C(0x80000000)
enum { BUCKET_CHARS = 3, BUCKET_BITS = 8 * BUCKET_CHARS, BUCKET_MASK = (1 << BUCKET_BITS) - 1 };

/* Reads the character at @p. Return: its value; *@ret_used: its bytes, at least 1. */
static uint32_t decode(const uint8_t *p, size_t len, size_t *ret_used)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	size_t size = p[0] < 0x80 ? 1 : p[0] < 0xc0 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
	uint32_t value;

	*ret_used = 1;
	if (size == 1) {
		return p[0];
	}
	if (size == 0 || p[0] > 0xf4 || size > len) {
		return BEYOND_UNICODE + p[0];
	}
	value = p[0] & (0xffu >> (size + 1));
	for (size_t i = 1; i < size; i++) {
		if ((p[i] & 0xc0) != 0x80) {
			return BEYOND_UNICODE + p[0];
		}
		value = value << 6 | (p[i] & 0x3f);
	}
	if (value < least[size] || value >= BEYOND_UNICODE || (value >= 0xd800 && value < 0xe000)) {
		return BEYOND_UNICODE + p[0];
	}
	*ret_used = size;
	return value;
}

static bool is_plain(const struct hk_rules_char *c, char byte)
{
	return !c->is_literal && c->byte == (uint8_t)byte;
}

bool hk_glob_is_wild(const struct hk_rules_char *chars, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (is_plain(&chars[i], '*') || is_plain(&chars[i], '?') ||
			is_plain(&chars[i], '[')) {
			return true;
		}
	}
	return false;
}

/* A glob while it is compiled. */
struct compiler {
	const struct hk_rules_char *chars;
	size_t count, at;
	uint32_t *words;
	size_t word_count;
	const char *problem;
};

static bool plain_at(const struct compiler *c, size_t at, char byte)
{
	return at < c->count && is_plain(&c->chars[at], byte);
}

static uint32_t take_char(struct compiler *c)
{
	uint8_t bytes[4];
	size_t len = 0;
	size_t used;
	uint32_t value;

	while (len < sizeof(bytes) && c->at + len < c->count) {
		bytes[len] = c->chars[c->at + len].byte;
		len++;
	}
	value = decode(bytes, len, &used);
	c->at += used;
	return value;
}

/* From behind '[' to behind ']'. A ']' that comes first is a member. */
static int compile_set(struct compiler *c)
{
	size_t start = c->at - 1;
	bool is_not = plain_at(c, c->at, '!') || plain_at(c, c->at, '^');
	size_t ranges_at;
	size_t first;

	c->words[c->word_count++] = is_not ? SET_NOT : SET;
	ranges_at = c->word_count++;
	c->words[ranges_at] = 0;
	c->at += is_not;
	for (first = c->at; c->at < c->count; c->words[ranges_at]++) {
		size_t member = c->at;
		uint32_t low, high;

		if (plain_at(c, c->at, ']') && c->at > first) {
			c->at++;
			return 0;
		}
		if (plain_at(c, c->at, '[') &&
			(plain_at(c, c->at + 1, ':') || plain_at(c, c->at + 1, '.') ||
				plain_at(c, c->at + 1, '='))) {
			c->problem = "classes of characters by name are not known: write ranges, "
				     "as in [a-z], or \\[ for the character";
			return -EINVAL;
		}
		low = high = take_char(c);
		if (plain_at(c, c->at, '-') && c->at + 1 < c->count &&
			!plain_at(c, c->at + 1, ']')) {
			c->at++;
			high = take_char(c);
		}
		if (high < low) {
			c->at = member;
			c->problem = "a range that ends before it begins";
			return -EINVAL;
		}
		c->words[c->word_count++] = low;
		c->words[c->word_count++] = high;
	}
	c->at = start;
	c->problem = "'[' without its ']' in the same name: write \\[ for the character";
	return -EINVAL;
}

static int compile(struct compiler *c)
{
	uint32_t last = 0;

	c->words[c->word_count++] = 0;
	while (c->at < c->count) {
		const struct hk_rules_char *this = &c->chars[c->at];

		last = 0;
		if (is_plain(this, '*')) {
			if (plain_at(c, ++c->at, '*')) {
				c->at--;
				c->problem = "'**' stands alone between slashes: write '*' for any "
					     "part of a name";
				return -EINVAL;
			}
			c->words[c->word_count++] = STAR;
		} else if (is_plain(this, '?')) {
			c->at++;
			c->words[c->word_count++] = ANY;
		} else if (is_plain(this, '[')) {
			int r;

			c->at++;
			r = compile_set(c);
			if (r < 0) {
				return r;
			}
		} else {
			last = take_char(c);
			c->words[c->word_count++] = last;
		}
	}
	c->words[0] = last < 0x80 ? last : 0;
	return 0;
}

int hk_glob_compile(const struct hk_rules_char *chars, size_t count, uint32_t **ret_words,
	size_t *ret_count, size_t *ret_at, const char **ret_problem)
{
	/* At most two words for each character, and one in front. */
	struct compiler c = {
		.chars = chars,
		.count = count,
		.words = hk_calloc(2 * count + 1, sizeof(*c.words)),
	};
	int r;

	if (c.words == NULL) {
		return -ENOMEM;
	}
	r = compile(&c);
	if (r < 0) {
		free(c.words);
		*ret_at = c.at < count ? c.at : count - 1;
		*ret_problem = c.problem;
		return r;
	}
	*ret_words = c.words;
	*ret_count = c.word_count;
	return 0;
}

/* Behind the word at @at, and what belongs to it. */
static size_t next_word(const uint32_t *words, size_t at)
{
	bool is_set = words[at] == SET || words[at] == SET_NOT;

	return is_set ? at + 2 + 2 * words[at + 1] : at + 1;
}

uint32_t hk_glob_bucket(const uint32_t *words, size_t count)
{
	uint32_t head = 0, tail = 0;
	unsigned head_len = 0, tail_len = 0;
	bool in_head = true;

	for (size_t at = 1; at < count; at = next_word(words, at)) {
		if (words[at] >= 0x80) {
			in_head = false;
			tail = tail_len = 0;
			continue;
		}
		if (in_head && head_len < BUCKET_CHARS) {
			head = head << 8 | words[at];
			head_len++;
		}
		tail = (tail << 8 | words[at]) & BUCKET_MASK;
		tail_len = HK_MIN(tail_len + 1, (unsigned)BUCKET_CHARS);
	}
	if (head_len == 0 && tail_len == 0) {
		return BUCKET;
	}
	return head_len > tail_len ? BUCKET | (HK_GLOB_HEAD + head_len - 1) << BUCKET_BITS | head
				   : BUCKET | (HK_GLOB_TAIL + tail_len - 1) << BUCKET_BITS | tail;
}

unsigned hk_glob_bucket_kind(uint32_t bucket)
{
	return bucket >> BUCKET_BITS & 7;
}

size_t hk_glob_kind_len(unsigned kind)
{
	return kind >= HK_GLOB_TAIL ? kind - HK_GLOB_TAIL + 1 : kind;
}

uint32_t hk_glob_bucket_of_name(unsigned kind, const char *name, size_t len)
{
	size_t chars = hk_glob_kind_len(kind);
	const char *at = kind >= HK_GLOB_TAIL ? name + len - chars : name;
	uint32_t packed = 0;

	for (size_t i = 0; i < chars; i++) {
		packed = packed << 8 | (uint8_t)at[i];
	}
	return BUCKET | kind << BUCKET_BITS | packed;
}

/* Does @value match the word at *@at? Moves *@at behind it if so. */
static bool match_one(const uint32_t *words, size_t *at, uint32_t value)
{
	uint32_t word = words[*at];
	uint32_t ranges;
	bool is_in = false;

	if (word != SET && word != SET_NOT) {
		*at += word == ANY || word == value;
		return word == ANY || word == value;
	}
	ranges = words[*at + 1];
	for (uint32_t i = 0; i < ranges && !is_in; i++) {
		const uint32_t *range = &words[*at + 2 + 2 * i];

		is_in = value >= range[0] && value <= range[1];
	}
	if (is_in == (word == SET_NOT)) {
		return false;
	}
	*at += 2 + 2 * ranges;
	return true;
}

/*
 * Where from @at on the word behind a star can match; beyond @len: nowhere. ASCII is always a
 * character's first byte.
 */
static size_t seek(uint32_t word, const uint8_t *bytes, size_t at, size_t len)
{
	const uint8_t *found;

	if (word >= 0x80) {
		return at;
	}
	found = memchr(bytes + at, (int)word, len - at);
	return found != NULL ? (size_t)(found - bytes) : len + 1;
}

bool hk_glob_match(const uint32_t *words, size_t count, const char *name, size_t len)
{
	const uint8_t *bytes = (const uint8_t *)name;
	size_t word = 1;
	size_t at = 0;
	size_t star_word = 0; /* behind the last star; 0: none */
	size_t star_at = 0;   /* what follows it is tried from here */
	size_t used;

	if (words[0] != 0 && (len == 0 || bytes[len - 1] != words[0])) {
		return false;
	}
	while (at < len || word < count) {
		if (word < count && words[word] == STAR) {
			star_word = ++word;
			if (word == count) {
				return true;
			}
			at = star_at = seek(words[word], bytes, at, len);
			if (at > len) {
				return false;
			}
			continue;
		}
		if (at < len && word < count &&
			match_one(words, &word, decode(bytes + at, len - at, &used))) {
			at += used;
			continue;
		}
		if (star_word == 0 || star_at >= len) {
			return false;
		}
		(void)decode(bytes + star_at, len - star_at, &used);
		at = star_at = seek(words[star_word], bytes, star_at + used, len);
		word = star_word;
		if (at > len) {
			return false;
		}
	}
	return true;
}
