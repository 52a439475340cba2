/* SPDX-License-Identifier: ISC */
/*
 * The language of hako-policy(5).
 *
 * Theory: one rule a line, so a line is all that is looked at. What follows the classes is read into bytes that remember
 * whether they were quoted, escaped or a variable's, and from which column they came (read_pattern()); only then
 * is it cut at the slashes and put into the trie, name by name (add_pattern()). So a variable's value can bring slashes, but
 * no stars.
 *
 * Whatever could mean two things is an error that says how to write either: a pattern that is relative, or ends with a
 * slash, a variable that is unknown or empty, `a**b`, an escape nobody knows.
 *
 * Limits: files include each other 32 deep, 10,000 in all.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/str.h"
#include "base/util.h"
#include "fuse/rules_impl.h"

enum { MAX_DEPTH = 32, MAX_INCLUDES = 10000, WORD_SHOWN = 64 };

/* One file that is being read. */
struct source {
	const struct source *from; /* the file that includes this one; NULL: none */
	const char *name;
	unsigned line_number;
	const char *line; /* not NUL-terminated */
	size_t len;
	size_t at; /* how far it was read */
};

struct parser {
	struct hk_rules *rules;
	struct hk_rules_env *env; /* may be NULL */
	struct hk_err *err;
	unsigned depth, includes;
};

/* What was read of a line: a pattern, a target, the name of a file. */
struct pattern {
	struct hk_rules_char *chars; /* owned */
	size_t count, cap;
	size_t start;
	bool ends_at_arrow;
};

static void pattern_finish(struct pattern *pattern)
{
	free(pattern->chars);
}

#define autopattern HK_CLEANUP(pattern_finish)

static void free_rules(struct hk_rules **rules)
{
	hk_rules_free(*rules);
}

/* Columns count characters, as editors do. */
static unsigned column_of(const struct source *source, size_t at)
{
	unsigned column = 1;

	for (size_t i = 0; i < at && i < source->len; i++) {
		column += ((uint8_t)source->line[i] & 0xc0) != 0x80;
	}
	return column;
}

#define fail_at(parser, source, at, fmt, ...) \
	hk_fail_msg((parser)->err, EINVAL, "%s:%u:%u: " fmt, (source)->name, \
		(source)->line_number, column_of(source, at), ##__VA_ARGS__)

static int fail_memory(struct parser *p, int error)
{
	return hk_fail(p->err, -error, "the rules");
}

/* Words of the line, in messages. */
struct shown {
	char text[WORD_SHOWN];
};

static const char *show(struct shown *shown, const char *bytes, size_t len)
{
	hk_str_escape(shown->text, sizeof(shown->text), bytes, len);
	return shown->text;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static void skip_blanks(struct source *s)
{
	while (s->at < s->len && is_blank(s->line[s->at])) {
		s->at++;
	}
}

/* The next word. Return: its length; 0 at the end of the line, or at a comment. */
static size_t take_word(struct source *s, const char **ret_word)
{
	size_t start;

	skip_blanks(s);
	start = s->at;
	*ret_word = s->line + start;
	if (s->at < s->len && s->line[s->at] == '#') {
		return 0;
	}
	while (s->at < s->len && !is_blank(s->line[s->at])) {
		s->at++;
	}
	return s->at - start;
}

static bool word_is(const char *word, size_t len, const char *text)
{
	return strlen(text) == len && memcmp(word, text, len) == 0;
}

/* Patterns */

static int add_char(struct parser *p, struct pattern *pattern, struct hk_rules_char c)
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
	struct parser *p, struct pattern *pattern, uint8_t byte, bool is_literal, size_t at)
{
	return add_char(p, pattern,
		(struct hk_rules_char){.byte = byte, .is_literal = is_literal, .at = (uint32_t)at});
}

static bool is_name_char(char c, bool is_first)
{
	return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		(!is_first && c >= '0' && c <= '9');
}

static int add_value(
	struct parser *p, struct source *s, struct pattern *pattern, const char *name, size_t at)
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
static int read_variable(struct parser *p, struct source *s, struct pattern *pattern)
{
	char name[WORD_SHOWN];
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
static int read_escape(struct parser *p, struct source *s, struct pattern *pattern)
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
static bool ends_here(const struct source *s, struct pattern *pattern)
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

static int read_char(struct parser *p, struct source *s, struct pattern *pattern, bool is_quoted)
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
static int read_pattern(
	struct parser *p, struct source *s, const char *expected, struct pattern *pattern)
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
static int check_path(
	struct parser *p, struct source *s, const struct pattern *pattern, const char *what)
{
	const struct hk_rules_char *last = &pattern->chars[pattern->count - 1];
	struct shown shown;

	if (pattern->chars[0].byte != '/') {
		return fail_at(p, s, pattern->start,
			"%s '%s' is relative: it has to begin with '/', or a variable such as "
			"$PWD/",
			what, show(&shown, s->line + pattern->start, s->at - pattern->start));
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

static int add_glob(struct parser *p, struct source *s, const struct hk_rules_char *chars,
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
	struct parser *p, const struct hk_rules_char *chars, size_t count, uint32_t *node)
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
static int leave(struct parser *p, struct source *s, const struct hk_rules_char *at, uint32_t *node)
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
static int add_part(struct parser *p, struct source *s, const struct hk_rules_char *chars,
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

static int add_pattern(
	struct parser *p, struct source *s, const struct pattern *pattern, uint32_t *ret_node)
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
static int plain_text(struct parser *p, struct source *s, const struct pattern *pattern,
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

/* Rules */

static int parse_class(
	struct parser *p, struct source *s, const char *word, size_t len, uint32_t *mask)
{
	struct shown shown;

	for (unsigned class = 0; class < HK_CLASS_COUNT; class ++) {
		if (word_is(word, len, hk_class_name((enum hk_class) class))) {
			*mask |= 1u << class;
			return 0;
		}
	}
	return fail_at(p, s, (size_t)(word - s->line),
		"'%s' is not a class of operations: expected read, write, create, delete, exec, "
		"metadata, link or list, with commas between them, or *",
		show(&shown, word, len));
}

static int parse_classes(struct parser *p, struct source *s, uint32_t *ret_mask)
{
	const char *word;
	size_t len = take_word(s, &word);
	uint32_t mask = 0;
	int r = 0;

	if (len == 0) {
		return fail_at(p, s, s->at,
			"classes of operations expected, such as read,write, or * for all");
	}
	if (word_is(word, len, "*")) {
		*ret_mask = (1u << HK_CLASS_COUNT) - 1;
		return 0;
	}
	for (;;) {
		const char *comma = memchr(word, ',', len);
		size_t one = comma != NULL ? (size_t)(comma - word) : len;

		r = parse_class(p, s, word, one, &mask);
		if (r < 0 || comma == NULL) {
			break;
		}
		word = comma + 1;
		len -= one + 1;
	}
	*ret_mask = mask;
	return r;
}

/* "=> TARGET", for a rule whose pattern led to @node. */
static int parse_target(struct parser *p, struct source *s, uint32_t node,
	const struct pattern *pattern, char **ret_target)
{
	struct pattern target autopattern = {0};
	int r;

	if (!pattern->ends_at_arrow) {
		return fail_at(
			p, s, s->len, "'=> TARGET' expected behind the pattern of a redirect");
	}
	if (hk_rules_is_deep(p->rules, node)) {
		return fail_at(p, s, pattern->chars[pattern->count - 1].at,
			"'**' at the end of a redirect: a directory brings along what is in it, "
			"leave "
			"'/**' out");
	}
	skip_blanks(s);
	s->at += 2;
	r = read_pattern(p, s, "the target's path", &target);
	if (r == 0 && target.ends_at_arrow) {
		return fail_at(p, s, s->at, "a second '=>'");
	}
	if (r == 0) {
		r = check_path(p, s, &target, "the target");
	}
	return r < 0 ? r : plain_text(p, s, &target, "the target", ret_target);
}

static int rule_text(struct parser *p, const struct source *s, char **ret_text)
{
	struct hk_str text = {0};
	size_t start = 0;
	int r;

	while (is_blank(s->line[start])) {
		start++;
	}
	hk_str_addf(&text, "%s:%u: ", s->name, s->line_number);
	hk_str_add_bytes(&text, s->line + start, s->at - start);
	r = hk_str_take(&text, ret_text);
	if (r < 0) {
		hk_str_finish(&text);
		return fail_memory(p, r);
	}
	return 0;
}

static int parse_rule(struct parser *p, struct source *s, enum hk_verdict verdict)
{
	struct pattern pattern autopattern = {0};
	autofree char *text = NULL;
	autofree char *target = NULL;
	uint32_t mask = 0;
	uint32_t node = 0;
	int r = parse_classes(p, s, &mask);

	if (r == 0) {
		r = read_pattern(p, s, "a pattern of paths", &pattern);
	}
	if (r == 0) {
		r = check_path(p, s, &pattern, "the pattern");
	}
	if (r == 0) {
		r = add_pattern(p, s, &pattern, &node);
	}
	if (r == 0 && verdict == HK_VERDICT_REDIRECT) {
		r = parse_target(p, s, node, &pattern, &target);
	} else if (r == 0 && pattern.ends_at_arrow) {
		skip_blanks(s);
		return fail_at(p, s, s->at,
			"'=>' in a rule that is no redirect: write \\=> if a name "
			"has it");
	}
	if (r == 0) {
		r = rule_text(p, s, &text);
	}
	if (r < 0) {
		return r;
	}
	r = hk_rules_end(p->rules, node,
		&(struct hk_rule){
			.text = take_ptr(text),
			.target = take_ptr(target),
			.verdict = verdict,
		},
		mask);
	return r < 0 ? fail_memory(p, r) : 0;
}

/* Files */

static int parse_text(struct parser *p, struct source *s, const char *text);

static int check_include(struct parser *p, const struct source *s, size_t at, const char *name)
{
	for (const struct source *open = s; open != NULL; open = open->from) {
		if (strcmp(open->name, name) == 0) {
			return hk_fail_msg(p->err, ELOOP, "%s:%u:%u: '%s' includes itself%s",
				s->name, s->line_number, column_of(s, at), name,
				open == s ? "" : " through other files");
		}
	}
	if (p->depth == MAX_DEPTH) {
		return hk_fail_msg(p->err, ELOOP, "%s:%u:%u: more than %d files include each other",
			s->name, s->line_number, column_of(s, at), MAX_DEPTH);
	}
	if (++p->includes > MAX_INCLUDES) {
		return fail_at(p, s, at, "more than %d includes in all", MAX_INCLUDES);
	}
	return 0;
}

static int parse_include(struct parser *p, struct source *s)
{
	struct pattern file autopattern = {0};
	autofree char *path = NULL;
	autofree char *name = NULL;
	autofree char *text = NULL;
	struct source included = {.from = s};
	int r = read_pattern(p, s, "the name of a file", &file);

	if (r == 0 && file.ends_at_arrow) {
		return fail_at(p, s, s->at, "'=>' behind an include");
	}
	if (r == 0) {
		r = plain_text(p, s, &file, "the name of a file", &path);
	}
	if (r < 0) {
		return r;
	}
	if (p->env == NULL || p->env->include == NULL) {
		return fail_at(p, s, file.start, "no file can be included here");
	}
	text = p->env->include(p->env, s->name, path, &name, p->err);
	if (text == NULL || name == NULL) {
		r = p->err != NULL && p->err->code != 0 ? -p->err->code : -EIO;
		(void)hk_err_ctx(
			p->err, "%s:%u:%u", s->name, s->line_number, column_of(s, file.start));
		return r;
	}
	r = check_include(p, s, file.start, name);
	if (r < 0) {
		return r;
	}
	included.name = name;
	p->depth++;
	r = parse_text(p, &included, text);
	p->depth--;
	if (r < 0) {
		(void)hk_err_ctx(p->err, "%s:%u", s->name, s->line_number);
	}
	return r;
}

static int parse_line(struct parser *p, struct source *s)
{
	struct shown shown;
	const char *word;
	size_t len;

	for (size_t i = 0; i < s->len; i++) {
		uint8_t c = (uint8_t)s->line[i];

		if ((c < ' ' && c != '\t') || c == 0x7f) {
			return fail_at(p, s, i,
				"control character \\x%02x: write it so if it is meant", c);
		}
	}
	len = take_word(s, &word);
	if (len == 0) {
		return 0;
	}
	if (word_is(word, len, "include")) {
		return parse_include(p, s);
	}
	for (unsigned verdict = 0; verdict < HK_VERDICT_COUNT; verdict++) {
		if (word_is(word, len, hk_verdict_name((enum hk_verdict)verdict))) {
			return parse_rule(p, s, (enum hk_verdict)verdict);
		}
	}
	return fail_at(p, s, (size_t)(word - s->line),
		"'%s' is not a verdict: expected allow, deny, hide, cow, ask or redirect, or "
		"include",
		show(&shown, word, len));
}

static int parse_text(struct parser *p, struct source *s, const char *text)
{
	static const char byte_order_mark[] = "\xef\xbb\xbf";
	int r = 0;

	if (strncmp(text, byte_order_mark, strlen(byte_order_mark)) == 0) {
		text += strlen(byte_order_mark);
	}
	while (r == 0 && *text != '\0') {
		size_t len = strcspn(text, "\n");

		s->line = text;
		s->len = len > 0 && text[len - 1] == '\r' ? len - 1 : len;
		s->at = 0;
		s->line_number++;
		r = s->len > INT32_MAX ? fail_at(p, s, 0, "a line of %zu bytes", s->len)
				       : parse_line(p, s);
		text += len;
		text += *text == '\n';
	}
	return r;
}

int hk_rules_parse(const char *name, const char *text, struct hk_rules_env *env,
	struct hk_rules **ret_rules, struct hk_err *err)
{
	struct hk_rules *rules HK_CLEANUP(free_rules) = hk_rules_new();
	struct source source = {.name = name};
	struct parser parser = {.rules = rules, .env = env, .err = err};
	int r;

	if (rules == NULL) {
		return hk_fail(err, ENOMEM, "%s", name);
	}
	r = parse_text(&parser, &source, text);
	if (r == 0) {
		*ret_rules = take_ptr(rules);
	}
	return r;
}
