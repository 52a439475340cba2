/* SPDX-License-Identifier: ISC */
/*
 * The parser of policies, shared by rules_parse.c (files, lines, rules) and rules_pattern.c (what
 * names paths in them).
 */
#ifndef HK_FUSE_RULES_PARSE_H
#define HK_FUSE_RULES_PARSE_H

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "fuse/rules_impl.h"

enum { HK_WORD_SHOWN = 64 };

/** struct hk_source - one file that is being read, line by line */
struct hk_source {
	const struct hk_source *from; /* the file that includes this one; NULL: none */
	const char *name;
	unsigned line_number;
	const char *line; /* not NUL-terminated */
	size_t len;
	size_t at; /* how far it was read */
};

/** struct hk_parser - what all files of a policy share */
struct hk_parser {
	struct hk_rules *rules;
	struct hk_rules_env *env; /* may be NULL */
	struct hk_err *err;
	unsigned depth, includes;
};

/** struct hk_pattern - what was read of a line: a pattern, a target, the name of a file */
struct hk_pattern {
	struct hk_rules_char *chars; /* owned */
	size_t count, cap;
	size_t start;
	bool ends_at_arrow;
};

/* Columns count characters, as editors do. */
static inline unsigned column_of(const struct hk_source *source, size_t at)
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

static inline int fail_memory(struct hk_parser *p, int error)
{
	return hk_fail(p->err, -error, "the rules");
}

/* Words of the line, in messages. */
struct shown {
	char text[HK_WORD_SHOWN];
};

static inline const char *show(struct shown *shown, const char *bytes, size_t len)
{
	hk_str_escape(shown->text, sizeof(shown->text), bytes, len);
	return shown->text;
}

static inline bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static inline void skip_blanks(struct hk_source *s)
{
	while (s->at < s->len && is_blank(s->line[s->at])) {
		s->at++;
	}
}

/**
 * hk_pattern_read() - read up to the end of the line, a comment or an arrow, without the blanks
 * before these
 * @expected: what, for a message
 *
 * Return: 0, -EINVAL or -ENOMEM, as all below.
 */
int hk_pattern_read(
	struct hk_parser *p, struct hk_source *s, const char *expected, struct hk_pattern *pattern);

/** hk_pattern_check() - is it absolute, and nothing that could be taken for something else? */
int hk_pattern_check(struct hk_parser *p, struct hk_source *s, const struct hk_pattern *pattern,
	const char *what);

/** hk_pattern_add() - put it into the trie. @ret_node: where it ends */
int hk_pattern_add(struct hk_parser *p, struct hk_source *s, const struct hk_pattern *pattern,
	uint32_t *ret_node);

/** hk_pattern_text() - the bytes of one that has to be without globs. @ret_text: malloc'd */
int hk_pattern_text(struct hk_parser *p, struct hk_source *s, const struct hk_pattern *pattern,
	const char *what, char **ret_text);

void hk_pattern_finish(struct hk_pattern *pattern);

#define autopattern HK_CLEANUP(hk_pattern_finish)

#endif
