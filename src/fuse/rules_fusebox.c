/* SPDX-License-Identifier: ISC */
/*
 * Fusebox's commands as rules. Fusebox is a sandbox of 2020 for Portage; its acl file takes one
 * command a line.
 *
 *	clearall		forgets all before it
 *	allowread, denyread	read, exec
 *	allowwrite, denywrite	write, create, delete, metadata, link
 *	discardwrite		the classes of writing, copy-on-write
 *	addread			allowread
 *	addwrite		allowread and allowwrite
 *	adddeny			denyread and denywrite
 *	addpredict		allowread, and denywrite without a word: what Gentoo means by it
 *
 * Each with a path, which is taken as it is to the end of the line. Nothing is allowed but by a
 * command; the last one that covers a path decides. Commands may be in capitals.
 *
 * Where we differ: a path covers itself and what is below, not all that begins with the same
 * letters (`/usr` is not `/usrlocal`). Names come into being, go, and change their modes as
 * writing. Looking up and listing were free in Fusebox, and are. A write that is discarded is seen
 * by the program that wrote it, until the run ends. Fusebox took addpredict for a discarded write,
 * and skipped lines that it did not understand: here they are errors.
 *
 * Source: pluser/fusebox, fusebox/pseudo.py.
 */
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/util.h"
#include "fuse/rules_impl.h"

enum {
	READING = 1 << HK_CLASS_READ | 1 << HK_CLASS_EXEC,
	WRITING = HK_CLASSES_CHANGING,
};

enum effect { NOTHING, ALLOW, DENY, COW, DENY_QUIETLY };

static const struct command {
	const char *name;
	enum effect reading, writing;
} commands[] = {
	{"clearall", NOTHING, NOTHING},
	{"allowread", ALLOW, NOTHING},
	{"allowwrite", NOTHING, ALLOW},
	{"denyread", DENY, NOTHING},
	{"denywrite", NOTHING, DENY},
	{"discardwrite", NOTHING, COW},
	{"addread", ALLOW, NOTHING},
	{"addwrite", ALLOW, ALLOW},
	{"adddeny", DENY, DENY},
	{"addpredict", ALLOW, DENY_QUIETLY},
};

static const enum hk_verdict verdicts[] = {
	[ALLOW] = HK_VERDICT_ALLOW,
	[DENY] = HK_VERDICT_DENY,
	[COW] = HK_VERDICT_COW,
	[DENY_QUIETLY] = HK_VERDICT_DENY,
};

struct line {
	const char *file;
	unsigned number;  /* 0: none */
	const char *text; /* not NUL-terminated, without blanks around it */
	size_t len;
	size_t indent;
};

static void free_rules(struct hk_rules **rules)
{
	hk_rules_free(*rules);
}

static int add_effect(struct hk_rules *rules, const struct line *line, enum effect effect,
	uint32_t mask, const char *path)
{
	struct hk_str text = {0};
	struct hk_rule rule = {.verdict = verdicts[effect], .is_quiet = effect == DENY_QUIETLY};
	int r;

	if (effect == NOTHING) {
		return 0;
	}
	hk_str_add(&text, line->file);
	if (line->number != 0) {
		hk_str_addf(&text, ":%u", line->number);
	}
	hk_str_add(&text, ": ");
	hk_str_add_bytes(&text, line->text, line->len);
	r = hk_str_take(&text, &rule.text);
	if (r < 0) {
		hk_str_finish(&text);
		return r;
	}
	return hk_rules_add_path(rules, &rule, mask, path, true);
}

/* Forgets what was said; nothing is allowed. */
static int start_over(struct hk_rules **rules, const char *file)
{
	static const char nothing[] = "nothing allows it";
	struct line line = {.file = file, .text = nothing, .len = strlen(nothing)};

	hk_rules_free(*rules);
	*rules = hk_rules_new();
	return *rules == NULL ? -ENOMEM : add_effect(*rules, &line, DENY, READING | WRITING, "/");
}

static const struct command *find_command(const char *word, size_t len)
{
	for (size_t i = 0; i < HK_ARRAY_SIZE(commands); i++) {
		if (strlen(commands[i].name) == len &&
			strncasecmp(commands[i].name, word, len) == 0) {
			return &commands[i];
		}
	}
	return NULL;
}

static int parse_line(struct hk_rules **rules, const struct line *line, struct hk_err *err)
{
	size_t word_len = 0;
	size_t path_at;
	autofree char *path = NULL;
	const struct command *command;
	char shown[64];
	int r;

	while (word_len < line->len && line->text[word_len] != ' ' &&
		line->text[word_len] != '\t') {
		word_len++;
	}
	command = find_command(line->text, word_len);
	if (command == NULL) {
		hk_str_escape(shown, sizeof(shown), line->text, word_len);
		return hk_fail_msg(err, EINVAL,
			"%s:%u:%zu: '%s' is not a command of Fusebox: expected clearall, "
			"allowread, "
			"allowwrite, denyread, denywrite, discardwrite, addread, addwrite, adddeny "
			"or "
			"addpredict",
			line->file, line->number, line->indent + 1, shown);
	}
	path_at = word_len;
	while (path_at < line->len && (line->text[path_at] == ' ' || line->text[path_at] == '\t')) {
		path_at++;
	}
	if (command == &commands[0]) {
		if (path_at < line->len) {
			return hk_fail_msg(err, EINVAL,
				"%s:%u:%zu: nothing expected behind clearall", line->file,
				line->number, line->indent + path_at + 1);
		}
		r = start_over(rules, line->file);
		return r < 0 ? hk_fail(err, -r, "%s", line->file) : 0;
	}
	if (path_at == line->len || line->text[path_at] != '/') {
		return hk_fail_msg(err, EINVAL, "%s:%u:%zu: a path expected that begins with '/'",
			line->file, line->number, line->indent + path_at + 1);
	}
	path = hk_calloc(1, line->len - path_at + 1);
	if (path != NULL) {
		memcpy(path, line->text + path_at, line->len - path_at);
	}
	r = path == NULL ? -ENOMEM : add_effect(*rules, line, command->reading, READING, path);
	if (r == 0) {
		r = add_effect(*rules, line, command->writing, WRITING, path);
	}
	return r < 0 ? hk_fail(err, -r, "%s", line->file) : 0;
}

int hk_rules_parse_fusebox(
	const char *name, const char *text, struct hk_rules **ret_rules, struct hk_err *err)
{
	struct hk_rules *rules HK_CLEANUP(free_rules) = NULL;
	struct line line = {.file = name};
	int r = start_over(&rules, name);

	if (r < 0) {
		return hk_fail(err, -r, "%s", name);
	}
	while (r == 0 && *text != '\0') {
		size_t len = strcspn(text, "\n");
		size_t end = len;

		line.number++;
		line.indent = strspn(text, " \t");
		while (end > line.indent && strchr(" \t\r", text[end - 1]) != NULL) {
			end--;
		}
		if (end > line.indent && text[line.indent] != '#') {
			line.text = text + line.indent;
			line.len = end - line.indent;
			r = parse_line(&rules, &line, err);
		}
		text += len;
		text += *text == '\n';
	}
	if (r == 0) {
		*ret_rules = take_ptr(rules);
	}
	return r;
}
