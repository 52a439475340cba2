/* SPDX-License-Identifier: ISC */
/*
 * The report for programs: all sums as one JSON object. hako-audit(5) is its schema.
 *
 * The page (audit_html.c) has the same object in it, but for paths: there each has a name and the
 * index of the directory it is in, so that a tree of many files stays small, and directories in
 * which nothing happened are there, too.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/str.h"
#include "fuse/audit_impl.h"

static void add_count(struct hk_json *json, const char *key, uint64_t value)
{
	if (value != 0) {
		hk_json_number(json, key, value);
	}
}

static void add_time(struct hk_json *json, const char *key, uint64_t time_ns)
{
	time_t seconds = (time_t)(time_ns / HK_NS_PER_SEC);
	char text[64];
	struct tm tm;

	gmtime_r(&seconds, &tm);
	hk_fmt(text, sizeof(text), "%04d-%02d-%02dT%02d:%02d:%02d.%03uZ", tm.tm_year + 1900,
		tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
		(unsigned)(time_ns % HK_NS_PER_SEC / HK_NS_PER_MS));
	hk_json_key(json, key);
	hk_json_text(json, text, strlen(text));
}

static void add_ops(struct hk_json *json, const struct hk_tree *tree)
{
	hk_json_key(json, "operations");
	hk_json_open(json, '{');
	for (unsigned op = 0; op < HK_EVENT_COUNT; op++) {
		add_count(json, hk_event_op_name((enum hk_event_op)op), tree->ops[op]);
	}
	hk_json_close(json, '}');
}

static void add_rules(struct hk_json *json, const struct hk_audit_results *results)
{
	const struct hk_tree *tree = results->tree;

	hk_json_key(json, "rules");
	hk_json_open(json, '[');
	for (uint32_t i = 0; i < tree->rule_count; i++) {
		const char *text = hk_audit_rule_text(results, i);

		if (tree->rules[i].used == 0) {
			continue;
		}
		hk_json_element(json);
		hk_json_open(json, '{');
		hk_json_number(json, "rule", i);
		if (text != NULL) {
			hk_json_bytes(json, "text", text, strlen(text));
		}
		hk_json_number(json, "used", tree->rules[i].used);
		hk_json_number(json, "refused", tree->rules[i].refusals);
		hk_json_close(json, '}');
	}
	hk_json_close(json, ']');
}

static void add_commands(struct hk_json *json, const struct hk_tree *tree)
{
	hk_json_key(json, "commands");
	hk_json_open(json, '[');
	for (unsigned i = 0; i < tree->command_count; i++) {
		const struct hk_tree_command *command = &tree->commands[i];

		hk_json_element(json);
		hk_json_open(json, '{');
		hk_json_bytes(json, "command", command->name, strlen(command->name));
		hk_json_number(json, "events", command->events);
		hk_json_number(json, "refused", command->refusals);
		hk_json_number(json, "ran", command->execs);
		hk_json_number(json, "bytes_read", command->bytes_read);
		hk_json_number(json, "bytes_written", command->bytes_written);
		hk_json_close(json, '}');
	}
	hk_json_close(json, ']');
}

static void add_classes(struct hk_json *json, const char *key, uint8_t classes)
{
	if (classes == 0) {
		return;
	}
	hk_json_key(json, key);
	hk_json_open(json, '[');
	for (unsigned class = 0; class < HK_CLASS_COUNT; class ++) {
		const char *name = hk_class_name((enum hk_class) class);

		if ((classes >> class & 1) != 0) {
			hk_json_element(json);
			hk_json_text(json, name, strlen(name));
		}
	}
	hk_json_close(json, ']');
}

static void add_flag(struct hk_json *json, const char *key, bool set)
{
	if (set) {
		hk_json_key(json, key);
		hk_json_raw(json, "true");
	}
}

static void add_commands_of(
	struct hk_json *json, const char *key, const uint16_t commands[HK_NODE_COMMANDS])
{
	if (commands[0] == HK_COMMANDS_MAX) {
		return;
	}
	hk_json_key(json, key);
	hk_json_open(json, '[');
	for (unsigned i = 0; i < HK_NODE_COMMANDS && commands[i] != HK_COMMANDS_MAX; i++) {
		hk_json_element(json);
		hk_json_u64(json, commands[i]);
	}
	hk_json_close(json, ']');
}

static void add_sums(struct hk_json *json, const struct hk_tree_node *node)
{
	for (unsigned class = 0; class < HK_CLASS_COUNT; class ++) {
		add_count(json, hk_class_name((enum hk_class) class), node->done[class]);
	}
	add_count(json, "refused", node->refusals);
	add_count(json, "refused_lookups", node->refused_lookups);
	add_classes(json, "refused_classes", node->refused);
	add_count(json, "rule", node->rule);
	add_count(json, "missing", node->missing);
	add_count(json, "failed", node->failures);
	add_count(json, "bytes_read", node->bytes_read);
	add_count(json, "bytes_written", node->bytes_written);
	if ((node->flags & HK_NODE_BOUND) != 0) {
		hk_json_key(json, "exact");
		hk_json_raw(json, "false");
	}
	add_flag(json, "dir", (node->flags & HK_NODE_DIR) != 0);
	add_flag(json, "symlink", (node->flags & HK_NODE_LINK) != 0);
	add_flag(json, "created", (node->flags & HK_NODE_CREATED) != 0);
	add_flag(json, "gone", (node->flags & HK_NODE_GONE) != 0);
	add_flag(json, "others", (node->flags & HK_NODE_OTHERS) != 0);
	add_commands_of(json, "commands", node->commands);
	add_commands_of(json, "refused_by", node->refused_by);
}

/* Did anything happen to the path itself? */
static bool is_of_interest(const struct hk_tree_node *node)
{
	return node->asked != 0 || node->refusals != 0 || node->missing != 0 ||
		node->commands[0] != HK_COMMANDS_MAX;
}

static int add_path(struct hk_json *json, const struct hk_tree *tree, uint32_t node)
{
	autofree char *path = NULL;
	size_t len;
	int r;

	if (!is_of_interest(&tree->nodes[node])) {
		return 0;
	}
	r = hk_tree_path(tree, node, &path, &len);
	if (r < 0) {
		return r;
	}
	hk_json_element(json);
	hk_json_open(json, '{');
	hk_json_bytes(json, "path", path, len);
	add_sums(json, &tree->nodes[node]);
	hk_json_close(json, '}');
	return 0;
}

static void add_node(
	struct hk_json *json, const struct hk_tree *tree, uint32_t at, const uint32_t *positions)
{
	const struct hk_tree_node *node = &tree->nodes[at];

	hk_json_element(json);
	hk_json_open(json, '{');
	if (at != HK_TREE_ROOT) {
		hk_json_number(json, "in", positions[node->parent]);
		hk_json_bytes(json, "name", tree->names + node->name, node->name_len);
	}
	add_sums(json, node);
	hk_json_close(json, '}');
}

static int add_paths(struct hk_json *json, const struct hk_tree *tree, bool as_tree)
{
	autofree uint32_t *sorted = hk_tree_sorted(tree);
	autofree uint32_t *positions = hk_malloc(tree->node_count * sizeof(*positions));
	int r = 0;

	if (sorted == NULL || positions == NULL) {
		return -ENOMEM;
	}
	hk_json_key(json, "paths");
	hk_json_open(json, '[');
	for (uint32_t i = 0; r == 0 && i < tree->node_count; i++) {
		positions[sorted[i]] = i;
		if (as_tree) {
			add_node(json, tree, sorted[i], positions);
		} else {
			r = add_path(json, tree, sorted[i]);
		}
	}
	hk_json_close(json, ']');
	return r;
}

int hk_audit_report_body(struct hk_json *json, const struct hk_audit_results *results,
	const char *command, bool as_tree)
{
	const struct hk_tree *tree = results->tree;
	int r;

	hk_json_open(json, '{');
	hk_json_number(json, "version", HK_AUDIT_VERSION);
	hk_json_key(json, "hako");
	hk_json_text(json, HAKO_VERSION, strlen(HAKO_VERSION));
	hk_json_bytes(json, "command", command, strlen(command));
	add_time(json, "begin", tree->first_ns);
	add_time(json, "end", tree->last_ns);
	hk_json_number(json, "events", tree->events);
	hk_json_number(json, "refused", tree->refusals);
	hk_json_number(json, "violations", results->violations);
	hk_json_number(json, "blocked_ns", results->blocked_ns);
	hk_json_number(json, "lines_lost", results->lines_lost);
	hk_json_number(json, "events_beyond_limit", tree->beyond_limit);
	add_ops(json, tree);
	add_rules(json, results);
	add_commands(json, tree);
	r = add_paths(json, tree, as_tree);
	hk_json_close(json, '}');
	return r;
}

int hk_audit_report_json(struct hk_audit *audit, FILE *to, const char *command)
{
	autofree struct hk_json_file *file = hk_malloc(sizeof(*file));
	int r, written;

	if (file == NULL) {
		return -ENOMEM;
	}
	hk_json_file_init(file, to);
	r = hk_audit_report_body(&file->json, hk_audit_results(audit), command, false);
	hk_json_raw(&file->json, "\n");
	written = hk_json_file_finish(file);
	return r < 0 ? r : written;
}
