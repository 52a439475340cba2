/* SPDX-License-Identifier: ISC */
/*
 * Patterns of paths, as policies write them.
 *
 * Theory: what follows the classes is read into bytes that remember whether they were quoted,
 * escaped or a variable's, and from where in the line they came (hk_pattern_read()); only then is
 * it cut at the slashes and put into the trie, name by name (hk_pattern_add()). So a variable's
 * value can bring slashes, but no stars.
 *
 * Whatever could mean two things is an error that says how to write either: a pattern that is
 * relative, or ends with a slash, a variable that is unknown or empty, `a**b`, an escape nobody
 * knows. What has one meaning only is taken: `//`, `.`, and `..` behind a name.
 */
#include "fuse/rules_parse.h"

#include <string.h>

#include "base/alloc.h"
#include "base/str.h"
#include "base/util.h"

static int add_char(struct hk_parser *p, struct hk_pattern *pattern, struct hk_rules_char c)
{
	if (pattern->count == pattern->cap) {
		size_t cap = HK_MAX(2 * pattern->cap, (size_t)64);
		struct hk_rules_char *more = hk_realloc_array(pattern->chars, cap, sizeof(*more));

		if (more == NULL) {
			return fail_memory(p, -ENOMEM);
		}
		pattern->chars = more;
		pattern->cap = cap;
	}
	pattern->chars[pattern->count++] = c;
	return 0;
}

static int add_byte(
	struct hk_parser *p, struct hk_pattern *pattern, uint8_t byte, bool is_literal, size_t at)
{
	return add_char(p, pattern,
		(struct hk_rules_char){.byte = byte, .is_literal = is_literal, .at = (uint32_t)at});
}

static bool is_name_char(char c, bool is_first)
{
	return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		(!is_first && c >= '0' && c <= '9');
}

static int add_value(struct hk_parser *p, struct hk_source *s, struct hk_pattern *pattern,
	const char *name, size_t at)
{
	const char *value = NULL;
	int r = 0;

	if (p->env != NULL && p->env->variable != NULL) {
		value = p->env->variable(p->env, name);
	}
	if (value == NULL) {
		return fail_at(p, s, at, "unknown variable $%s", name);
	}
	if (*value == '\0') {
		return fail_at(
			p, s, at, "variable $%s is empty: the rule would mean other files", name);
	}
	for (; r == 0 && *value != '\0'; value++) {
		r = add_char(p, pattern,
			(struct hk_rules_char){
				.byte = (uint8_t)*value,
				.is_literal = true,
				.is_variable = true,
				.at = (uint32_t)at,
			});
	}
	return r;
}

/* $NAME or ${NAME}; @s->at is behind the '$'. */
static int read_variable(struct hk_parser *p, struct hk_source *s, struct hk_pattern *pattern)
{
	char name[HK_WORD_SHOWN];
	size_t start = s->at - 1;
	bool is_braced = s->at < s->len && s->line[s->at] == '{';
	size_t name_at;
	size_t len;

	s->at += is_braced;
	name_at = s->at;
	while (s->at < s->len && is_name_char(s->line[s->at], s->at == name_at)) {
		s->at++;
	}
	len = s->at - name_at;
	if (len == 0) {
		return fail_at(
			p, s, start, "'$' without a variable's name: write \\$ for the character");
	}
	if (is_braced && (s->at == s->len || s->line[s->at] != '}')) {
		return fail_at(p, s, s->at, "'}' expected at the end of the variable's name");
	}
	s->at += is_braced;
	if (len >= sizeof(name)) {
		return fail_at(p, s, start, "a variable's name of %zu characters", len);
	}
	memcpy(name, s->line + name_at, len);
	name[len] = '\0';
	return add_value(p, s, pattern, name, start);
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9') {
		return c - '0';
	}
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* @s->at is behind the backslash. */
static int read_escape(struct hk_parser *p, struct hk_source *s, struct hk_pattern *pattern)
{
	size_t start = s->at - 1;
	char c = s->at < s->len ? s->line[s->at++] : '\0';
	int high, low;

	if (c == '\0') {
		return fail_at(p, s, start,
			"'\\' at the end of the line: a rule is one line; "
			"write \\\\ for the character");
	}
	if (c == 'n' || c == 't') {
		return add_byte(p, pattern, c == 'n' ? '\n' : '\t', true, start);
	}
	if (c == 'x') {
		high = s->at < s->len ? hex_digit(s->line[s->at]) : -1;
		low = s->at + 1 < s->len ? hex_digit(s->line[s->at + 1]) : -1;
		if (high < 0 || low < 0 || (high == 0 && low == 0) || high * 16 + low == '/') {
			return fail_at(p, s, start,
				"'\\x' without the two digits of a byte that "
				"can be in a name, as in \\xe9");
		}
		s->at += 2;
		return add_byte(p, pattern, (uint8_t)(high * 16 + low), true, start);
	}
	if (is_name_char(c, false) && c != '_') {
		return fail_at(p, s, start,
			"unknown escape '\\%c': there are \\n, \\t, \\xHH, and "
			"'\\' before any mark or blank",
			c);
	}
	return add_byte(p, pattern, (uint8_t)c, true, start);
}

/* At a blank: does a comment or an arrow follow? Then the pattern ends here. */
static bool ends_here(const struct hk_source *s, struct hk_pattern *pattern)
{
	size_t next = s->at;

	while (next < s->len && is_blank(s->line[next])) {
		next++;
	}
	if (next + 1 < s->len && memcmp(s->line + next, "=>", 2) == 0 &&
		(next + 2 == s->len || is_blank(s->line[next + 2]))) {
		pattern->ends_at_arrow = true;
		return true;
	}
	return next == s->len || s->line[next] == '#';
}

static int read_char(
	struct hk_parser *p, struct hk_source *s, struct hk_pattern *pattern, bool is_quoted)
{
	char c = s->line[s->at++];

	switch (c) {
	case '\\':
		return read_escape(p, s, pattern);
	case '$':
		return read_variable(p, s, pattern);
	case '\t':
		return fail_at(p, s, s->at - 1, "a tab in a name: write \\t if it is meant");
	default:
		return add_byte(p, pattern, (uint8_t)c, is_quoted, s->at - 1);
	}
}

/* Reads up to the end of the line, a comment, or an arrow, without the blanks before these. */
int hk_pattern_read(
	struct hk_parser *p, struct hk_source *s, const char *expected, struct hk_pattern *pattern)
{
	bool is_quoted = false;
	size_t quote_at = 0;
	int r = 0;

	skip_blanks(s);
	pattern->start = s->at;
	if (s->at == s->len || s->line[s->at] == '#') {
		return fail_at(p, s, s->at, "%s expected", expected);
	}
	while (r == 0 && s->at < s->len) {
		if (!is_quoted && is_blank(s->line[s->at]) && ends_here(s, pattern)) {
			break;
		}
		if (s->line[s->at] == '"') {
			is_quoted = !is_quoted;
			quote_at = s->at++;
			continue;
		}
		r = read_char(p, s, pattern, is_quoted);
	}
	if (r == 0 && is_quoted) {
		return fail_at(p, s, quote_at,
			"'\"' without another one that ends it: write \\\" for the character");
	}
	if (r == 0 && pattern->count == 0) {
		return fail_at(p, s, pattern->start, "%s expected, not an empty one", expected);
	}
	return r;
}

/* Absolute, and nothing that could be taken for something else. */
int hk_pattern_check(struct hk_parser *p, struct hk_source *s, const struct hk_pattern *pattern,
	const char *what)
{
	const struct hk_rules_char *last = &pattern->chars[pattern->count - 1];
	struct shown shown;

	if (pattern->chars[0].byte != '/') {
		return fail_at(p, s, pattern->start,
			"%s '%s' is relative: it has to begin with '/', or a variable such as "
			"$PWD/",
			what, show(&shown, s->line + pattern->start, s->at - pattern->start));
	}
	for (size_t i = 1; i < pattern->count; i++) {
		const struct hk_rules_char *blank = &pattern->chars[i - 1];

		if (blank->byte == ' ' && !blank->is_literal && pattern->chars[i].byte == '/') {
			return fail_at(p, s, blank->at,
				"a blank in front of '/': there is one path on a line; write '\\ ' "
				"if a "
				"name ends with it");
		}
	}
	if (pattern->count > 1 && last->byte == '/' && !last->is_variable) {
		return fail_at(p, s, last->at,
			"%s ends with '/': leave it out for the directory itself, write '/**' for "
			"all that is in it, too",
			what);
	}
	return 0;
}

static bool part_is(const struct hk_rules_char *chars, size_t count, const char *text)
{
	if (strlen(text) != count) {
		return false;
	}
	for (size_t i = 0; i < count; i++) {
		if (chars[i].byte != (uint8_t)text[i]) {
			return false;
		}
	}
	return true;
}

static int add_glob(struct hk_parser *p, struct hk_source *s, const struct hk_rules_char *chars,
	size_t count, uint32_t *node)
{
	autofree uint32_t *words = NULL;
	const char *problem = NULL;
	size_t word_count = 0;
	size_t at = 0;
	int r = hk_glob_compile(chars, count, &words, &word_count, &at, &problem);

	if (r == -EINVAL) {
		return fail_at(p, s, chars[at].at, "%s", problem);
	}
	if (r == 0) {
		r = hk_rules_child(p->rules, *node, words, word_count * sizeof(*words), true, node);
	}
	return r < 0 ? fail_memory(p, r) : 0;
}

static int add_name(
	struct hk_parser *p, const struct hk_rules_char *chars, size_t count, uint32_t *node)
{
	autofree char *name = hk_malloc(count);
	int r;

	if (name == NULL) {
		return fail_memory(p, -ENOMEM);
	}
	for (size_t i = 0; i < count; i++) {
		name[i] = (char)chars[i].byte;
	}
	r = hk_rules_child(p->rules, *node, name, count, false, node);
	return r < 0 ? fail_memory(p, r) : 0;
}

/* "..": back to the parent, where that is clear. */
static int leave(
	struct hk_parser *p, struct hk_source *s, const struct hk_rules_char *at, uint32_t *node)
{
	const struct hk_rules_node *nodes = p->rules->nodes;
	uint32_t symbol = nodes[*node].symbol;

	if (*node == 0) {
		return fail_at(p, s, at->at, "'..' leads out of '/'");
	}
	if (symbol == 0 || p->rules->symbols[symbol].is_glob) {
		return fail_at(p, s, at->at, "'..' behind a glob");
	}
	*node = nodes[*node].parent;
	return 0;
}

/* One part between slashes: from *@node to where it leads. */
static int add_part(struct hk_parser *p, struct hk_source *s, const struct hk_rules_char *chars,
	size_t count, uint32_t *node)
{
	int r;

	if (count == 0 || part_is(chars, count, ".")) {
		return 0;
	}
	if (part_is(chars, count, "..")) {
		return leave(p, s, chars, node);
	}
	if (part_is(chars, count, "**") && !chars[0].is_literal && !chars[1].is_literal) {
		r = hk_rules_deep_child(p->rules, *node, node);
		return r < 0 ? fail_memory(p, r) : 0;
	}
	return hk_glob_is_wild(chars, count) ? add_glob(p, s, chars, count, node)
					     : add_name(p, chars, count, node);
}

int hk_pattern_add(struct hk_parser *p, struct hk_source *s, const struct hk_pattern *pattern,
	uint32_t *ret_node)
{
	size_t start = 0;
	uint32_t node = 0;

	for (size_t i = 0; i <= pattern->count; i++) {
		if (i == pattern->count || pattern->chars[i].byte == '/') {
			int r = add_part(p, s, pattern->chars + start, i - start, &node);

			if (r < 0) {
				return r;
			}
			start = i + 1;
		}
	}
	*ret_node = node;
	return 0;
}

/* The bytes of a pattern that has to be without globs. */
int hk_pattern_text(struct hk_parser *p, struct hk_source *s, const struct hk_pattern *pattern,
	const char *what, char **ret_text)
{
	struct hk_str text = {0};
	int r;

	for (size_t i = 0; i < pattern->count; i++) {
		const struct hk_rules_char *c = &pattern->chars[i];

		if (hk_glob_is_wild(c, 1)) {
			hk_str_finish(&text);
			return fail_at(p, s, c->at,
				"'%c' in %s, which is one path: write \\%c for the character",
				c->byte, what, c->byte);
		}
		hk_str_add_bytes(&text, &c->byte, 1);
	}
	r = hk_str_take(&text, ret_text);
	if (r < 0) {
		hk_str_finish(&text);
		return fail_memory(p, r);
	}
	return 0;
}

void hk_pattern_finish(struct hk_pattern *pattern)
{
	free(pattern->chars);
}
