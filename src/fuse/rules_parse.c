/* SPDX-License-Identifier: ISC */
/*
 * The language of hako-policy(5): files, lines, and rules but for their patterns (rules_pattern.c).
 *
 * Theory: one rule a line, so a line is all that is looked at. Files that include each other are a
 * list from the innermost out, which is what tells a circle.
 *
 * Limits: files include each other 32 deep, 10,000 in all.
 */
#include "fuse/rules_parse.h"

#include <string.h>

#include "base/alloc.h"
#include "base/str.h"
#include "base/util.h"

enum { MAX_DEPTH = 32, MAX_INCLUDES = 10000 };

static void free_rules(struct hk_rules **rules)
{
	hk_rules_free(*rules);
}

/* The next word. Return: its length; 0 at the end of the line, or at a comment. */
static size_t take_word(struct hk_source *s, const char **ret_word)
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

/* Rules */

static int parse_class(
	struct hk_parser *p, struct hk_source *s, const char *word, size_t len, uint32_t *mask)
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

static int parse_classes(struct hk_parser *p, struct hk_source *s, uint32_t *ret_mask)
{
	const char *word;
	size_t len = take_word(s, &word);
	uint32_t mask = 0;
	int r = 0;

	if (len == 0 || strchr("/$\"", word[0]) != NULL) {
		return fail_at(p, s, (size_t)(word - s->line),
			"classes of operations expected, such as read,write, or * for all");
	}
	if (word_is(word, len, "*")) {
		*ret_mask = HK_CLASSES_ALL;
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
static int parse_target(struct hk_parser *p, struct hk_source *s, uint32_t node,
	const struct hk_pattern *pattern, char **ret_target)
{
	struct hk_pattern target autopattern = {0};
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
	r = hk_pattern_read(p, s, "the target's path", &target);
	if (r == 0 && target.ends_at_arrow) {
		return fail_at(p, s, s->at, "a second '=>'");
	}
	if (r == 0) {
		r = hk_pattern_check(p, s, &target, "the target");
	}
	return r < 0 ? r : hk_pattern_text(p, s, &target, "the target", ret_target);
}

static int rule_text(struct hk_parser *p, const struct hk_source *s, char **ret_text)
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

/* Where the pattern leads behind links: @node where that is not asked for. */
static int follow(struct hk_parser *p, enum hk_verdict verdict, uint32_t node, uint32_t *ret_node)
{
	int r = 0;

	*ret_node = node;
	if (verdict != HK_VERDICT_ALLOW && p->env != NULL && p->env->resolve != NULL) {
		/* To redirect a link does not redirect what it leads to. */
		r = hk_rules_follow(
			p->rules, p->env, node, verdict == HK_VERDICT_REDIRECT, ret_node);
	}
	return r < 0 ? fail_memory(p, r) : 0;
}

static int parse_rule(struct hk_parser *p, struct hk_source *s, enum hk_verdict verdict)
{
	struct hk_pattern pattern autopattern = {0};
	autofree char *text = NULL;
	autofree char *target = NULL;
	uint32_t mask = 0;
	uint32_t node = 0;
	uint32_t real_node = 0;
	size_t classes_at;
	int r;

	skip_blanks(s);
	classes_at = s->at;
	r = parse_classes(p, s, &mask);
	if (r == 0 && verdict == HK_VERDICT_REDIRECT && mask != HK_CLASSES_ALL) {
		return fail_at(p, s, classes_at,
			"a redirect of some classes only: what is written would not be what is "
			"read. Write redirect *, and deny classes by a rule for the target");
	}
	if (r == 0) {
		r = hk_pattern_read(p, s, "a pattern of paths", &pattern);
	}
	if (r == 0) {
		r = hk_pattern_check(p, s, &pattern, "the pattern");
	}
	if (r == 0) {
		r = hk_pattern_add(p, s, &pattern, &node);
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
	if (r == 0) {
		r = follow(p, verdict, node, &real_node);
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
	if (r < 0) {
		return fail_memory(p, r);
	}
	hk_rules_end_also(p->rules, real_node, mask);
	return 0;
}

/* Files */

static int parse_text(struct hk_parser *p, struct hk_source *s, const char *text);

static int check_include(
	struct hk_parser *p, const struct hk_source *s, size_t at, const char *name)
{
	for (const struct hk_source *open = s; open != NULL; open = open->from) {
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

static int parse_include(struct hk_parser *p, struct hk_source *s)
{
	struct hk_pattern file autopattern = {0};
	autofree char *path = NULL;
	autofree char *name = NULL;
	autofree char *text = NULL;
	struct hk_source included = {.from = s};
	int r = hk_pattern_read(p, s, "the name of a file", &file);

	if (r == 0 && file.ends_at_arrow) {
		return fail_at(p, s, s->at, "'=>' behind an include");
	}
	if (r == 0) {
		r = hk_pattern_text(p, s, &file, "the name of a file", &path);
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

static int parse_line(struct hk_parser *p, struct hk_source *s)
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

static int parse_text(struct hk_parser *p, struct hk_source *s, const char *text)
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
	struct hk_source source = {.name = name};
	struct hk_parser parser = {.rules = rules, .env = env, .err = err};
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
