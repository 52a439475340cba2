/* SPDX-License-Identifier: ISC */
/*
 * Sums: for each path, command and rule.
 *
 * Theory: paths are nodes in one array, found by (parent, name) in a hash table; a node is made
 * when its path is first told of, after those it is in. An event counts at its path, and at the
 * other one if it has two. Which classes it asked for follows from the operation and the flags, as
 * one event may stand for several decisions: opening for reading and writing; a rename, which
 * deletes here and creates there. A refusal counts for the class that was refused, at the path it
 * was refused for.
 *
 * Limits: MAX_NODES paths; what is beyond counts for the directory it is in. Commands beyond
 * HK_COMMANDS_MAX share the last. Where memory runs out it is as if the limit was reached.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/hash.h"
#include "fuse/audit_impl.h"

enum { MAX_NODES = 4 << 20, MAX_RULES = 1 << 24, FIRST_NODES = 1024, FIRST_NAMES = 16384 };

/* Finding nodes */

static uint32_t hash_of(uint32_t parent, const char *name, size_t len)
{
	uint64_t hash = hk_hash_bytes(HK_HASH_START ^ parent, name, len);

	return (uint32_t)(hash ^ hash >> 32);
}

/* The slot of the entry @name of @parent, or the empty one where it would go. */
static uint32_t *slot_of(const struct hk_tree *tree, uint32_t parent, const char *name, size_t len)
{
	uint32_t mask = tree->slot_count - 1;
	uint32_t at = hash_of(parent, name, len) & mask;

	while (tree->slots[at] != HK_TREE_NONE) {
		const struct hk_tree_node *node = &tree->nodes[tree->slots[at]];

		if (node->parent == parent && node->name_len == len &&
			memcmp(tree->names + node->name, name, len) == 0) {
			break;
		}
		at = (at + 1) & mask;
	}
	return &tree->slots[at];
}

/* Room for one node more, in array and table, and for @len bytes of its name. */
static bool grow(struct hk_tree *tree, size_t len)
{
	if (tree->node_count == tree->node_cap) {
		uint32_t cap = tree->node_cap * 2;
		uint32_t *slots = hk_malloc((size_t)cap * 2 * sizeof(*slots));
		struct hk_tree_node *nodes =
			slots != NULL ? hk_realloc_array(tree->nodes, cap, sizeof(*nodes)) : NULL;

		if (nodes == NULL) {
			free(slots);
			return false;
		}
		free(tree->slots);
		tree->nodes = nodes;
		tree->node_cap = cap;
		tree->slots = slots;
		tree->slot_count = cap * 2;
		memset(slots, 0xff, (size_t)tree->slot_count * sizeof(*slots));
		for (uint32_t i = 1; i < tree->node_count; i++) {
			const struct hk_tree_node *node = &nodes[i];

			*slot_of(tree, node->parent, tree->names + node->name, node->name_len) = i;
		}
	}
	if (tree->names_len + len > tree->names_cap) {
		size_t cap = HK_MAX(tree->names_cap * 2, tree->names_len + len);
		char *names = cap <= UINT32_MAX ? hk_realloc_array(tree->names, cap, 1) : NULL;

		if (names == NULL) {
			return false;
		}
		tree->names = names;
		tree->names_cap = cap;
	}
	return true;
}

static void init_node(struct hk_tree_node *node, uint32_t parent)
{
	*node = (struct hk_tree_node){.parent = parent};
	for (unsigned i = 0; i < HK_NODE_COMMANDS; i++) {
		node->commands[i] = HK_COMMANDS_MAX;
		node->refused_by[i] = HK_COMMANDS_MAX;
	}
}

/* The entry @name of @parent, made if it is not there; HK_TREE_NONE where there can be no more. */
static uint32_t enter(struct hk_tree *tree, uint32_t parent, const char *name, size_t len)
{
	uint32_t *slot = slot_of(tree, parent, name, len);
	struct hk_tree_node *node;

	if (*slot != HK_TREE_NONE) {
		return *slot;
	}
	if (tree->node_count >= tree->node_limit || !grow(tree, len)) {
		return HK_TREE_NONE;
	}
	slot = slot_of(tree, parent, name, len);
	node = &tree->nodes[tree->node_count];
	init_node(node, parent);
	node->name = (uint32_t)tree->names_len;
	node->name_len = (uint16_t)len;
	memcpy(tree->names + tree->names_len, name, len);
	tree->names_len += len;
	tree->nodes[parent].flags |= HK_NODE_DIR;
	*slot = tree->node_count;
	return tree->node_count++;
}

/* Takes the next name off *@path. Return: its length, 0 at the end. */
static size_t next_name(const char **path)
{
	*path += strspn(*path, "/");
	return strcspn(*path, "/");
}

/* Remembers directory @node, whose path are the first @len bytes of @path, with the slash. */
static void note_dir(struct hk_tree *tree, const char *path, size_t len, uint32_t node)
{
	if (node != tree->last_dir_node && len <= sizeof(tree->last_dir)) {
		memcpy(tree->last_dir, path, len);
		tree->last_dir_len = len;
		tree->last_dir_node = node;
	}
}

static uint32_t enter_path(struct hk_tree *tree, const char *path, size_t path_len)
{
	const char *start = path;
	uint32_t at = HK_TREE_ROOT;
	uint32_t dir = HK_TREE_ROOT;
	size_t dir_len = 0;
	size_t len;

	/* The next path is mostly in the same directory. */
	if (path_len > tree->last_dir_len &&
		memcmp(path, tree->last_dir, tree->last_dir_len) == 0) {
		path += tree->last_dir_len;
		at = tree->last_dir_node;
	}
	while ((len = next_name(&path)) != 0) {
		uint32_t next = enter(tree, at, path, len);

		if (next == HK_TREE_NONE) {
			tree->nodes[at].flags |= HK_NODE_OTHERS;
			tree->beyond_limit++;
			return at;
		}
		dir = at;
		dir_len = (size_t)(path - start);
		at = next;
		path += len;
	}
	note_dir(tree, start, dir_len, dir);
	return at;
}

uint32_t hk_tree_find(const struct hk_tree *tree, const char *path)
{
	uint32_t at = HK_TREE_ROOT;
	size_t len;

	while (at != HK_TREE_NONE && (len = next_name(&path)) != 0) {
		at = len <= UINT16_MAX ? *slot_of(tree, at, path, len) : HK_TREE_NONE;
		path += len;
	}
	return at;
}

int hk_tree_init(struct hk_tree *tree)
{
	tree->node_cap = FIRST_NODES;
	tree->node_limit = MAX_NODES;
	tree->slot_count = 2 * FIRST_NODES;
	tree->nodes = hk_calloc(tree->node_cap, sizeof(*tree->nodes));
	tree->slots = hk_malloc(tree->slot_count * sizeof(*tree->slots));
	tree->names = hk_malloc(FIRST_NAMES);
	tree->names_cap = FIRST_NAMES;
	if (tree->nodes == NULL || tree->slots == NULL || tree->names == NULL) {
		return -ENOMEM; /* hk_tree_finish() frees the others */
	}
	memset(tree->slots, 0xff, tree->slot_count * sizeof(*tree->slots));
	init_node(&tree->nodes[HK_TREE_ROOT], HK_TREE_NONE);
	tree->nodes[HK_TREE_ROOT].flags = HK_NODE_DIR;
	tree->node_count = 1;
	return 0;
}

void hk_tree_finish(struct hk_tree *tree)
{
	free(tree->nodes);
	free(tree->names);
	free(tree->slots);
	free(tree->rules);
	*tree = (struct hk_tree){0};
}

/* Commands and rules */

static unsigned enter_command(struct hk_tree *tree, const char name[HK_COMMAND_SIZE])
{
	struct hk_tree_command *command;
	unsigned i = 0;

	if (tree->command_count != 0 &&
		strcmp(tree->commands[tree->last_command].name, name) == 0) {
		return tree->last_command;
	}
	while (i < tree->command_count && strcmp(tree->commands[i].name, name) != 0) {
		i++;
	}
	if (i < tree->command_count) {
		return i;
	}
	if (i == HK_COMMANDS_MAX) {
		return HK_COMMANDS_MAX - 1;
	}
	tree->command_count++;
	command = &tree->commands[i];
	memcpy(command->name, i == HK_COMMANDS_MAX - 1 ? "(others)" : name,
		i == HK_COMMANDS_MAX - 1 ? sizeof("(others)") : HK_COMMAND_SIZE);
	return i;
}

static void note_command(struct hk_tree_node *node, unsigned command)
{
	for (unsigned i = 0; i < HK_NODE_COMMANDS; i++) {
		if (node->commands[i] == HK_COMMANDS_MAX) {
			node->commands[i] = (uint16_t)command;
		}
		if (node->commands[i] == command) {
			return;
		}
	}
}

/* Who did more than look for it takes the place of who did not: there is room for few. */
static void note_refused(struct hk_tree_node *node, unsigned command, bool only_looked)
{
	unsigned i = 0;

	while (i < HK_NODE_COMMANDS && node->refused_by[i] != HK_COMMANDS_MAX &&
		node->refused_by[i] != command) {
		i++;
	}
	if (i == HK_NODE_COMMANDS && !only_looked) {
		i = 0;
		while (i < HK_NODE_COMMANDS && (node->refused_more >> i & 1) != 0) {
			i++;
		}
	}
	if (i < HK_NODE_COMMANDS) {
		node->refused_by[i] = (uint16_t)command;
		node->refused_more |= (uint8_t)(!only_looked << i);
	}
}

static void count_rule(struct hk_tree *tree, uint32_t rule, bool refused)
{
	if (rule == 0 || rule >= MAX_RULES) {
		return;
	}
	if (rule >= tree->rule_count) {
		uint32_t count =
			HK_MAX(rule + 1, HK_MIN(2 * tree->rule_count, (uint32_t)MAX_RULES));
		struct hk_tree_rule *rules =
			hk_realloc_array(tree->rules, count, sizeof(*tree->rules));

		if (rules == NULL) {
			return;
		}
		memset(rules + tree->rule_count, 0,
			(count - tree->rule_count) * sizeof(*tree->rules));
		tree->rules = rules;
		tree->rule_count = count;
	}
	tree->rules[rule].used++;
	tree->rules[rule].refusals += refused;
}

/* Events */

/** struct wish - classes that an event asks for: at its path, and at the other one */
struct wish {
	uint8_t path, other;
};

static uint8_t data_classes(uint32_t flags)
{
	uint8_t classes = 0;

	if ((flags & O_ACCMODE) != O_WRONLY) {
		classes |= hk_class_bit(HK_CLASS_READ);
	}
	if ((flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC) != 0) {
		classes |= hk_class_bit(HK_CLASS_WRITE);
	}
	return classes;
}

static struct wish wish_of(const struct hk_record *record)
{
	const uint8_t creates = hk_class_bit(HK_CLASS_CREATE);
	const uint8_t deletes = hk_class_bit(HK_CLASS_DELETE);

	switch ((enum hk_event_op)record->op) {
	case HK_EVENT_OPEN:
		return (struct wish){.path = data_classes(record->flags) |
				hk_class_bit((enum hk_class)record->class)};
	case HK_EVENT_CREATE:
		return (struct wish){.path = creates | data_classes(record->flags)};
	case HK_EVENT_MKDIR:
	case HK_EVENT_MKNOD:
	case HK_EVENT_SYMLINK:
		return (struct wish){.path = creates};
	case HK_EVENT_LINK:
		return (struct wish){.path = creates, .other = hk_class_bit(HK_CLASS_LINK)};
	case HK_EVENT_UNLINK:
	case HK_EVENT_RMDIR:
		return (struct wish){.path = deletes};
	case HK_EVENT_RENAME:
		/* By its new name it may be read, so by its old one, too: see hk_policy_move(). */
		return (struct wish){
			.path = deletes | hk_class_bit(HK_CLASS_READ), .other = creates};
	case HK_EVENT_READLINK:
		return (struct wish){.path = hk_class_bit(HK_CLASS_READ)};
	case HK_EVENT_TRUNCATE:
		return (struct wish){.path = hk_class_bit(HK_CLASS_WRITE)};
	case HK_EVENT_CHMOD:
	case HK_EVENT_CHOWN:
	case HK_EVENT_UTIMES:
	case HK_EVENT_SETXATTR:
	case HK_EVENT_REMOVEXATTR:
		return (struct wish){.path = hk_class_bit(HK_CLASS_METADATA)};
	case HK_EVENT_LIST:
		return (struct wish){.path = hk_class_bit(HK_CLASS_LIST)};
	case HK_EVENT_EXEC:
		return (struct wish){.path = hk_class_bit(HK_CLASS_EXEC)};
	case HK_EVENT_LOOKUP:
	case HK_EVENT_CLOSE:
	case HK_EVENT_COUNT:
		break;
	}
	return (struct wish){0};
}

/* Was it the other path that the policy refused? */
static bool is_other_refused(const struct hk_record *record)
{
	switch ((enum hk_event_op)record->op) {
	case HK_EVENT_LINK:
		return record->class != HK_CLASS_CREATE;
	case HK_EVENT_RENAME:
		return record->class != HK_CLASS_DELETE;
	default:
		return false;
	}
}

static void refuse(struct hk_tree_node *node, unsigned command, const struct hk_record *record)
{
	bool only_looked = record->op == HK_EVENT_LOOKUP;

	node->refusals++;
	node->refused_lookups += only_looked;
	node->rule = record->rule;
	note_refused(node, command, only_looked);
	if (record->verdict == HK_VERDICT_HIDE) {
		node->flags |= HK_NODE_HIDDEN;
	}
	if (!only_looked) {
		node->refused |= hk_class_bit((enum hk_class)record->class);
	}
}

static void count_classes(
	struct hk_tree_node *node, uint8_t classes, const struct hk_record *record)
{
	node->asked |= classes;
	if (record->verdict == HK_VERDICT_COW) {
		node->cow |= classes;
	}
	if (record->error != 0) {
		node->failures += classes != 0;
		return;
	}
	for (unsigned class = 0; class < HK_CLASS_COUNT; class ++) {
		node->done[class] += classes >> class & 1;
	}
}

/* The name is there, or is not any more. */
static void note_name(struct hk_tree_node *node, bool is_there)
{
	if (is_there) {
		node->flags = (uint8_t)((node->flags | HK_NODE_CREATED) & ~HK_NODE_GONE);
	} else {
		node->flags |= HK_NODE_GONE;
	}
}

static void note_names(
	struct hk_tree_node *node, struct hk_tree_node *other, const struct hk_record *record)
{
	switch ((enum hk_event_op)record->op) {
	case HK_EVENT_MKDIR:
		node->flags |= HK_NODE_DIR;
		note_name(node, true);
		break;
	case HK_EVENT_SYMLINK:
		node->flags |= HK_NODE_LINK;
		note_name(node, true);
		break;
	case HK_EVENT_CREATE:
	case HK_EVENT_MKNOD:
	case HK_EVENT_LINK:
		note_name(node, true);
		break;
	case HK_EVENT_READLINK:
		node->flags |= HK_NODE_LINK;
		break;
	case HK_EVENT_RMDIR:
		node->flags |= HK_NODE_DIR;
		note_name(node, false);
		break;
	case HK_EVENT_UNLINK:
		note_name(node, false);
		break;
	case HK_EVENT_RENAME:
		note_name(node, false);
		note_name(other, true);
		break;
	case HK_EVENT_LIST:
		node->flags |= HK_NODE_DIR;
		break;
	default:
		break;
	}
}

/* What has no whole path is seen, but nothing follows for other runs. */
static bool is_whole(const char *path, uint32_t len)
{
	return len > 0 && path[0] == '/';
}

static void count_bytes(struct hk_tree *tree, struct hk_tree_node *node,
	struct hk_tree_command *command, const struct hk_record *record)
{
	node->bytes_read += record->bytes_read;
	node->bytes_written += record->bytes_written;
	command->bytes_read += record->bytes_read;
	command->bytes_written += record->bytes_written;
	if (!record->exact) {
		node->flags |= HK_NODE_BOUND;
	}
}

void hk_tree_add(struct hk_tree *tree, const struct hk_record *record)
{
	bool refused = hk_verdict_refuses((enum hk_verdict)record->verdict, record->error);
	uint32_t at = enter_path(tree, record->paths, record->path_len);
	uint32_t other_at = record->has_other
		? enter_path(tree, hk_record_other(record), record->other_len)
		: at;
	unsigned command_at = enter_command(tree, record->process.command);
	/* Pointers now: the array does not grow any more. */
	struct hk_tree_node *node = &tree->nodes[at];
	struct hk_tree_node *other = &tree->nodes[other_at];
	struct hk_tree_command *command = &tree->commands[command_at];
	struct wish wish = wish_of(record);

	tree->last_command = command_at;
	tree->events++;
	tree->ops[record->op]++;
	tree->refusals += refused;
	tree->first_ns = tree->first_ns == 0 ? record->time_ns : tree->first_ns;
	tree->last_ns = HK_MAX(tree->last_ns, record->time_ns);
	count_rule(tree, record->rule, refused);
	command->events++;
	command->refusals += refused;
	command->execs += record->op == HK_EVENT_EXEC && record->error == 0;
	if (refused) {
		refuse(is_other_refused(record) ? other : node, command_at, record);
		return;
	}
	note_command(node, command_at);
	if (record->op == HK_EVENT_CLOSE) {
		count_bytes(tree, node, command, record);
		return;
	}
	if (!is_whole(record->paths, record->path_len)) {
		wish.path = 0;
	}
	if (record->has_other && !is_whole(hk_record_other(record), record->other_len)) {
		wish.other = 0;
	}
	node->missing += record->op == HK_EVENT_LOOKUP;
	count_classes(node, wish.path, record);
	if (record->has_other) {
		note_command(other, command_at);
		count_classes(other, wish.other, record);
	}
	if (record->error == 0) {
		note_names(node, other, record);
	}
}

/* Reading */

int hk_tree_path(const struct hk_tree *tree, uint32_t node, char **ret_path, size_t *ret_len)
{
	size_t len = 0;
	char *path;

	for (uint32_t at = node; at != HK_TREE_ROOT; at = tree->nodes[at].parent) {
		len += 1 + tree->nodes[at].name_len;
	}
	path = hk_malloc(len + 2);
	if (path == NULL) {
		return -ENOMEM;
	}
	*ret_path = path;
	*ret_len = HK_MAX(len, 1);
	path[0] = '/';
	path[*ret_len] = '\0';
	for (uint32_t at = node; at != HK_TREE_ROOT; at = tree->nodes[at].parent) {
		const struct hk_tree_node *step = &tree->nodes[at];

		len -= step->name_len;
		memcpy(path + len, tree->names + step->name, step->name_len);
		path[--len] = '/';
	}
	return 0;
}

static int by_name(const void *a, const void *b, void *argument)
{
	const struct hk_tree *tree = argument;
	const struct hk_tree_node *x = &tree->nodes[*(const uint32_t *)a];
	const struct hk_tree_node *y = &tree->nodes[*(const uint32_t *)b];
	int order;

	if (x->parent != y->parent) {
		return x->parent < y->parent ? -1 : 1;
	}
	order = memcmp(
		tree->names + x->name, tree->names + y->name, HK_MIN(x->name_len, y->name_len));
	return order != 0 ? order : (int)x->name_len - (int)y->name_len;
}

/*
 * Sorted by parent and name, the entries of each directory are one after the other: from there, a
 * walk.
 */
uint32_t *hk_tree_sorted(const struct hk_tree *tree)
{
	uint32_t count = tree->node_count;
	uint32_t *entries = hk_malloc(count * sizeof(*entries));
	uint32_t *first = hk_malloc(((size_t)count + 1) * sizeof(*first)); /* into @entries */
	uint32_t *sorted = hk_malloc(count * sizeof(*sorted));
	uint32_t at = 0;

	if (entries == NULL || first == NULL || sorted == NULL) {
		free(entries);
		free(first);
		free(sorted);
		return NULL;
	}
	for (uint32_t i = 1; i < count; i++) {
		entries[i - 1] = i;
	}
	entries[count - 1] = HK_TREE_ROOT; /* an end: nobody's entry */
	qsort_r(entries, count - 1, sizeof(*entries), by_name, (void *)tree);
	memset(first, 0xff, ((size_t)count + 1) * sizeof(*first));
	for (uint32_t i = count - 1; i-- > 0;) {
		first[tree->nodes[entries[i]].parent] = i;
	}
	sorted[at++] = HK_TREE_ROOT;
	for (uint32_t node = HK_TREE_ROOT; at < count;) {
		/* Down if there is an entry left, else up. @first moves on as entries are taken. */
		uint32_t i = first[node];

		if (i != HK_TREE_NONE && tree->nodes[entries[i]].parent == node &&
			entries[i] != HK_TREE_ROOT) {
			first[node]++;
			node = entries[i];
			sorted[at++] = node;
		} else {
			node = tree->nodes[node].parent;
		}
	}
	free(entries);
	free(first);
	return sorted;
}
