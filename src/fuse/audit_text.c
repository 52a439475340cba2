/* SPDX-License-Identifier: ISC */
/*
 * The summary: what a run did to files, for a person who reads it in a terminal.
 *
 * What was refused comes first, path by path with the rule, as that is what one has to act on. Then
 * what was changed and what was read, by directory (audit_group.c), the programs that ran, and who
 * did most. Each section is a handful of lines; the reports have all.
 *
 * Paths below the current directory start with "./", those below the home directory with "~/".
 * Sizes with a '~' are an estimate: the kernel moved the data by itself, and nobody counts how
 * often.
 */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/str.h"
#include "fuse/audit_impl.h"

enum { MAX_GROUPS = 10, MAX_REFUSED = 20, MAX_PROGRAMS = 8, MAX_COMMANDS = 6 };

enum colour { PLAIN, BOLD, DIM, RED, GREEN, YELLOW };

struct summary {
	const struct hk_audit_results *results;
	const struct hk_tree *tree;
	struct hk_terminal terminal;
	FILE *to;
};

/* Pieces of text */

static const char *colour(const struct summary *s, enum colour which)
{
	static const char *const codes[] = {
		"\033[m", "\033[1m", "\033[2m", "\033[1;31m", "\033[32m", "\033[33m"};

	return s->terminal.colours ? codes[which] : "";
}

static void heading(const struct summary *s, enum colour which, const char *text)
{
	fprintf(s->to, "\n%s%s%s\n", colour(s, which), text, colour(s, PLAIN));
}

/* "1,234,567" */
static const char *number(uint64_t value, char buf[32])
{
	size_t at = 31;

	buf[at] = '\0';
	for (unsigned digits = 0; value != 0 || digits == 0; digits++, value /= 10) {
		if (digits != 0 && digits % 3 == 0) {
			buf[--at] = ',';
		}
		buf[--at] = (char)('0' + value % 10);
	}
	return buf + at;
}

/* "0", "812 B", "1.5 KiB", "213 MiB" */
static const char *size(uint64_t bytes, bool bound, char buf[32])
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	unsigned unit = 0;
	double value = (double)bytes;

	while (value >= 999.5 && unit + 1 < HK_ARRAY_SIZE(units)) {
		value /= 1024;
		unit++;
	}
	hk_fmt(buf, 32, unit > 0 && value < 9.95 ? "%s%.1f %s" : "%s%.0f %s", bound ? "~" : "",
		value, units[unit]);
	return buf;
}

/* The rest of @path below @directory ("" or "/..."), or NULL. */
static const char *below(const char *path, const char *directory)
{
	size_t len = directory != NULL ? strlen(directory) : 0;

	if (len == 0 || strncmp(path, directory, len) != 0 ||
		(path[len] != '/' && path[len] != '\0')) {
		return NULL;
	}
	return path + len;
}

/* How many columns UTF-8 takes, if all its characters take one. */
static size_t columns_of(const char *text)
{
	size_t columns = 0;

	for (; *text != '\0'; text++) {
		columns += ((uint8_t)*text & 0xc0) != 0x80;
	}
	return columns;
}

static const char *skip_columns(const char *text, size_t columns)
{
	while (columns > 0 && *text != '\0') {
		text++;
		columns -= ((uint8_t)*text & 0xc0) != 0x80;
	}
	return text;
}

/* Writes @text, with "..." in its middle where it is too long. */
static void write_fitting(const struct summary *s, const char *text, size_t columns)
{
	size_t all = columns_of(text);
	size_t head, tail;

	if (all <= columns || columns < 8) {
		fputs(text, s->to);
		return;
	}
	head = (columns - 3) / 3;
	tail = columns - 3 - head;
	fprintf(s->to, "%.*s...%s", (int)(skip_columns(text, head) - text), text,
		skip_columns(text, all - tail));
}

/* The path of a node for people, and @suffix. @used: columns the line has already. */
static void write_path(
	const struct summary *s, uint32_t node, const char *suffix, enum colour which, size_t used)
{
	autofree char *path = NULL;
	autofree char *shown = NULL;
	const char *prefix = "";
	const char *rest;
	size_t len;
	size_t room = s->terminal.columns > used ? s->terminal.columns - used : 1;

	if (hk_tree_path(s->tree, node, &path, &len) < 0) {
		fputs("(out of memory)\n", s->to);
		return;
	}
	rest = path;
	if (below(path, s->results->cwd) != NULL) {
		prefix = ".";
		rest = below(path, s->results->cwd);
	} else if (below(path, s->results->home) != NULL) {
		prefix = "~";
		rest = below(path, s->results->home);
	}
	len = strlen(rest);
	if (strcmp(rest, "/") == 0 && suffix[0] == '/') {
		suffix++;
	}
	shown = hk_malloc(4 * len + 16);
	if (shown == NULL) {
		fputs("(out of memory)\n", s->to);
		return;
	}
	len = (size_t)hk_fmt(shown, 4 * len + 16, "%s", prefix);
	len += hk_str_escape(shown + len, 4 * strlen(rest) + 1, rest, strlen(rest));
	hk_fmt(shown + len, 8, "%s", suffix);
	fputs(colour(s, which), s->to);
	write_fitting(s, shown, room);
	fprintf(s->to, "%s\n", colour(s, PLAIN));
}

static void write_escaped(const struct summary *s, const char *text, size_t columns)
{
	char shown[1024];

	hk_str_escape(shown, sizeof(shown), text, strlen(text));
	write_fitting(s, shown, columns);
}

/* Totals */

struct totals {
	uint64_t read, written, created, deleted, temporary, run, others;
	uint64_t bytes_read, bytes_written;
	bool is_read_bound, is_written_bound;
};

static bool is_temporary(const struct hk_tree_node *node)
{
	return (node->flags & HK_NODE_CREATED) != 0 && (node->flags & HK_NODE_GONE) != 0;
}

/* A node that was changed, and has something to show for it. */
static bool is_changed(const struct hk_tree_node *node)
{
	return !is_temporary(node) && hk_node_changes(node) != 0;
}

/* It was there before, and still is, with other attributes. */
static bool is_changed_itself(const struct hk_tree_node *node)
{
	return (node->flags & (HK_NODE_CREATED | HK_NODE_GONE)) == 0 &&
		node->done[HK_CLASS_METADATA] != 0;
}

static bool is_read(const struct hk_tree_node *node)
{
	return (node->flags & (HK_NODE_DIR | HK_NODE_LINK)) == 0 && !is_temporary(node) &&
		(node->done[HK_CLASS_READ] != 0 || node->bytes_read != 0);
}

static struct totals total_of(const struct hk_tree *tree)
{
	struct totals t = {0};

	for (uint32_t i = 0; i < tree->node_count; i++) {
		const struct hk_tree_node *node = &tree->nodes[i];
		bool exists = (node->flags & HK_NODE_GONE) == 0;
		bool created = (node->flags & HK_NODE_CREATED) != 0;

		t.read += is_read(node);
		t.created += created && exists;
		t.deleted += !created && !exists;
		t.temporary += created && !exists;
		t.written += !created && exists &&
			(node->done[HK_CLASS_WRITE] != 0 || node->done[HK_CLASS_METADATA] != 0);
		t.run += node->done[HK_CLASS_EXEC] != 0;
		t.bytes_read += node->bytes_read;
		t.bytes_written += node->bytes_written;
		if ((node->flags & HK_NODE_BOUND) != 0) {
			/* Of what was written nothing may be left to be seen. */
			t.is_read_bound |= node->bytes_read != 0;
			t.is_written_bound |= node->done[HK_CLASS_WRITE] != 0;
		}
		t.others += (node->flags & HK_NODE_OTHERS) != 0;
	}
	return t;
}

static void write_totals(const struct summary *s, const struct totals *t)
{
	char a[32], b[32];

	fprintf(s->to, "  %s%s read%s (%s)", colour(s, GREEN), number(t->read, a), colour(s, PLAIN),
		size(t->bytes_read, t->is_read_bound, b));
	fprintf(s->to, ", %s%s created%s", colour(s, YELLOW), number(t->created, a),
		colour(s, PLAIN));
	fprintf(s->to, ", %s%s changed%s", colour(s, YELLOW), number(t->written, a),
		colour(s, PLAIN));
	fprintf(s->to, ", %s%s deleted%s", colour(s, YELLOW), number(t->deleted, a),
		colour(s, PLAIN));
	fprintf(s->to, " (%s written)", size(t->bytes_written, t->is_written_bound, b));
	if (s->tree->refusals != 0) {
		fprintf(s->to, ", %s%s refused%s", colour(s, RED), number(s->tree->refusals, a),
			colour(s, PLAIN));
	}
	fputc('\n', s->to);
}

/* Sections */

/* Writes "read, write" for the bits of @classes. Return: columns */
static size_t write_classes(const struct summary *s, uint8_t classes)
{
	char text[96] = "";
	size_t len = 0;

	for (unsigned class = 0; class < HK_CLASS_COUNT; class ++) {
		if ((classes >> class & 1) != 0) {
			len += (size_t)hk_fmt(text + len, sizeof(text) - len, "%s%s",
				len == 0 ? "" : ",", hk_class_name((enum hk_class) class));
		}
	}
	len = (size_t)fprintf(s->to, "%-10s  ", len == 0 ? "hidden" : text);
	return len;
}

/*
 * Nodes for which @weight is not 0, the heaviest first; @ret_total of them in all. Return: how many
 * are in @ret_nodes.
 */
static unsigned heaviest(const struct hk_tree *tree,
	uint64_t (*weight)(const struct hk_tree *tree, const struct hk_tree_node *node),
	uint32_t *ret_nodes, unsigned max, uint64_t *ret_total)
{
	unsigned count = 0;

	*ret_total = 0;
	for (uint32_t i = 0; i < tree->node_count; i++) {
		uint64_t w = weight(tree, &tree->nodes[i]);
		unsigned at;

		if (w == 0) {
			continue;
		}
		++*ret_total;
		for (at = count; at > 0 && weight(tree, &tree->nodes[ret_nodes[at - 1]]) < w;
			at--) {
			if (at < max) {
				ret_nodes[at] = ret_nodes[at - 1];
			}
		}
		if (at < max) {
			ret_nodes[at] = i;
			count += count < max;
		}
	}
	return count;
}

static void write_rest(const struct summary *s, uint64_t total, unsigned shown, const char *what)
{
	char buf[32];

	if (total > shown) {
		fprintf(s->to, "  %s... and %s more %s%s\n", colour(s, DIM),
			number(total - shown, buf), what, colour(s, PLAIN));
	}
}

static uint64_t refusals_of(const struct hk_tree *tree, const struct hk_tree_node *node)
{
	(void)tree;
	return node->refusals;
}

/* The dynamic linker comes with nearly each program, and says nothing. */
static bool is_dynamic_linker(const struct hk_tree *tree, const struct hk_tree_node *node)
{
	const char *name = tree->names + node->name;

	return node->name_len > 3 && memcmp(name, "ld-", 3) == 0 &&
		memmem(name, node->name_len, ".so", 3) != NULL;
}

static uint64_t runs_of(const struct hk_tree *tree, const struct hk_tree_node *node)
{
	return is_dynamic_linker(tree, node) ? 0 : node->done[HK_CLASS_EXEC];
}

/* Who was refused. Where somebody did more than look for it, those are who matters. */
static void write_who(const struct summary *s, const struct hk_tree_node *node)
{
	const char *separator = "by ";

	for (unsigned i = 0; i < HK_NODE_COMMANDS && node->refused_by[i] != HK_COMMANDS_MAX; i++) {
		const char *name = s->tree->commands[node->refused_by[i]].name;

		if (node->refused_more != 0 && (node->refused_more >> i & 1) == 0) {
			continue;
		}
		fputs(separator, s->to);
		write_escaped(s, name[0] != '\0' ? name : "(unknown)", 60);
		separator = ", ";
	}
}

static void write_refused(const struct summary *s)
{
	uint32_t nodes[MAX_REFUSED];
	uint64_t total;
	unsigned count = heaviest(s->tree, refusals_of, nodes, MAX_REFUSED, &total);

	if (count == 0) {
		return;
	}
	heading(s, RED, "Refused");
	for (unsigned i = 0; i < count; i++) {
		const struct hk_tree_node *node = &s->tree->nodes[nodes[i]];
		const char *rule = hk_audit_rule_text(s->results, node->rule);
		bool only_looked = node->refusals == node->refused_lookups;
		unsigned times = node->refusals - (only_looked ? 0 : node->refused_lookups);
		size_t used = (size_t)fprintf(s->to, "  %6ux  ", times);

		used += write_classes(s, node->refused);
		write_path(s, nodes[i], "", PLAIN, used);
		fprintf(s->to, "           %s", colour(s, DIM));
		write_who(s, node);
		if (!only_looked && node->refused_lookups != 0) {
			fprintf(s->to, "; looked for in vain %ux", node->refused_lookups);
		}
		if (rule != NULL) {
			fputs("; ", s->to);
			write_escaped(s, rule, s->terminal.columns - 30);
		}
		fprintf(s->to, "%s\n", colour(s, PLAIN));
	}
	write_rest(s, total, count, "paths");
}

static void write_groups(const struct summary *s, const char *title, enum colour which,
	bool (*counts)(const struct hk_tree_node *node), bool written)
{
	uint32_t node_count = s->tree->node_count;
	autofree uint64_t *files = hk_calloc(node_count, sizeof(*files));
	autofree uint64_t *bytes = hk_calloc(node_count, sizeof(*bytes));
	autofree bool *below = hk_calloc(node_count, sizeof(*below)); /* something there counts */
	struct hk_group groups[MAX_GROUPS];
	bool is_bound = false;
	unsigned count;

	if (files == NULL || bytes == NULL || below == NULL) {
		return;
	}
	for (uint32_t i = node_count; i-- > 0;) {
		const struct hk_tree_node *node = &s->tree->nodes[i];

		if (i != HK_TREE_ROOT) {
			below[node->parent] |= below[i] || counts(node);
		}
		if (counts(node)) {
			/*
			 * Not a directory in which something counts: that shows. Unless it was
			 * changed itself.
			 */
			files[i] = !below[i] || (written && is_changed_itself(node));
			bytes[i] = written ? node->bytes_written : node->bytes_read;
			is_bound |=
				(written || bytes[i] != 0) && (node->flags & HK_NODE_BOUND) != 0;
		}
	}
	count = hk_tree_group(s->tree, files, bytes, groups, MAX_GROUPS);
	if (count == 0) {
		return;
	}
	heading(s, BOLD, title);
	for (unsigned i = 0; i < count; i++) {
		const struct hk_group *group = &groups[i];
		bool is_file = group->files == 1 && files[group->node] == 1 &&
			counts(&s->tree->nodes[group->node]);
		char a[32], b[32];
		size_t used =
			(size_t)fprintf(s->to, "  %9s  %7s %-5s  ", size(group->bytes, is_bound, a),
				number(group->files, b), group->files == 1 ? "file" : "files");

		write_path(s, group->node,
			is_file                       ? ""
				: group->only_entries ? "/*"
						      : "/",
			which, used);
	}
}

static void write_programs(const struct summary *s)
{
	uint32_t nodes[MAX_PROGRAMS];
	uint64_t total;
	unsigned count = heaviest(s->tree, runs_of, nodes, MAX_PROGRAMS, &total);

	if (count == 0) {
		return;
	}
	heading(s, BOLD, "Ran");
	for (unsigned i = 0; i < count; i++) {
		char buf[32];
		size_t used = (size_t)fprintf(s->to, "  %8sx  ",
			number(s->tree->nodes[nodes[i]].done[HK_CLASS_EXEC], buf));

		write_path(s, nodes[i], "", PLAIN, used);
	}
	write_rest(s, total, count, "programs");
}

static int by_events(const void *a, const void *b)
{
	const struct hk_tree_command *x = a, *y = b;

	return x->events != y->events ? (x->events > y->events ? -1 : 1) : strcmp(x->name, y->name);
}

static void write_commands(const struct summary *s)
{
	unsigned count = s->tree->command_count;
	autofree struct hk_tree_command *commands = hk_malloc((count + 1) * sizeof(*commands));

	if (count == 0 || commands == NULL) {
		return;
	}
	memcpy(commands, s->tree->commands, count * sizeof(*commands));
	qsort(commands, count, sizeof(*commands), by_events);
	heading(s, BOLD, "By command");
	for (unsigned i = 0; i < count && i < MAX_COMMANDS; i++) {
		const struct hk_tree_command *command = &commands[i];
		char a[32], b[32], c[32];

		fprintf(s->to, "  %9s read  %9s written  %9s events  ",
			size(command->bytes_read, false, a), size(command->bytes_written, false, b),
			number(command->events, c));
		write_escaped(s, command->name[0] != '\0' ? command->name : "(unknown)", 60);
		if (command->refusals != 0) {
			fprintf(s->to, "  %s%s refused%s", colour(s, RED),
				number(command->refusals, a), colour(s, PLAIN));
		}
		fputc('\n', s->to);
	}
	write_rest(s, count, MAX_COMMANDS, "commands");
}

static void write_notes(const struct summary *s, const struct totals *t)
{
	char a[32], b[32];

	fprintf(s->to, "\n%s  %s events", colour(s, DIM), number(s->tree->events, a));
	if (t->temporary != 0) {
		fprintf(s->to, "; %s temporary files came and went", number(t->temporary, a));
	}
	if (t->is_read_bound || t->is_written_bound) {
		fputs("; sizes with ~ are an estimate", s->to);
	}
	fprintf(s->to, "%s\n", colour(s, PLAIN));
	if (s->results->blocked_ns > HK_NS_PER_SEC / 10) {
		fprintf(s->to,
			"  The log's reader was slow: the run waited for it %s times, %.1f s.\n",
			number(s->results->blocked_times, a), (double)s->results->blocked_ns / 1e9);
	}
	if (s->results->lines_lost != 0) {
		fprintf(s->to, "  %sThe log is not complete: %s events were not written.%s\n",
			colour(s, RED), number(s->results->lines_lost, a), colour(s, PLAIN));
	}
	if (t->others != 0) {
		fprintf(s->to, "  Too many paths: %s events count for one of %s directories.\n",
			number(s->tree->beyond_limit, a), number(t->others, b));
	}
}

int hk_audit_summary(struct hk_audit *audit, FILE *to, const char *command)
{
	struct summary s = {.results = hk_audit_results(audit), .to = to};
	struct totals t;

	s.tree = s.results->tree;
	s.terminal = hk_terminal_of(to);
	t = total_of(s.tree);
	fprintf(to, "%sFiles: ", colour(&s, BOLD));
	write_escaped(&s, command, s.terminal.columns - 7);
	fprintf(to, "%s\n", colour(&s, PLAIN));
	write_totals(&s, &t);
	write_refused(&s);
	write_groups(&s, "Created, changed, deleted", YELLOW, is_changed, true);
	write_groups(&s, "Read", GREEN, is_read, false);
	write_programs(&s);
	write_commands(&s);
	write_notes(&s, &t);
	errno = EIO;
	return fflush(to) != 0 || ferror(to) ? -errno : 0;
}
