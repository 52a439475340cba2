/* SPDX-License-Identifier: ISC */
/*
 * The smallest sensible policy under which a run would have gone the same way.
 *
 * Theory: deny everything, then allow what was asked for. Three things make that short, and right for the next run, too,
 * which is never quite the same:
 *
 *  - What comes with what was seen. Who created a name will find it there next time: he may read, write and remove it. Who
 *    made a link needed reading and writing of what is linked (a name must not lend rights).
 *  - Names that differ each time. A name that came and went, and has a part that looks made up (mkstemp, a process's number),
 *    stands with a star for that part.
 *  - Directories. For each class by itself: where at least MANY entries of a directory needed it, or MANY_BELOW
 *    rules below it would, the directory gets it with a double star. Not so directories that hold what has nothing to do
 *    with each other (`/`, `/home`, the home directory, `/etc`, ...). System directories are read, listed and run from as a
 *    whole as soon as anything in them was. Where files come to be in the current directory, all that was done
 *    there may be done to anything in it.
 *
 * A refusal stays one: it is not asked for again. What was hidden is hidden, what went to an upper layer goes there.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/str.h"
#include "fuse/audit_impl.h"

enum { MANY = 4, MANY_BELOW = 12, RANDOM_LEN = 6, NUMBER_LEN = 3 };

/**
 * struct need - what a node needs, as bits of classes
 * @self: the path itself
 * @deep: the path and all below
 * @star_at, @star_len: the part of the name that a star stands for; @star_len 0: none
 */
struct need {
	uint8_t self, deep;
	uint8_t cow;
	bool is_wide;
	uint16_t star_at, star_len;
};

struct learner {
	const struct hk_audit_results *results;
	const struct hk_tree *tree;
	struct need *needs; /* for each node */
	FILE *to;
	bool failed;
};

static const char *const system_directories[] = {"/usr", "/bin", "/sbin", "/lib", "/lib32",
	"/lib64", "/libx32", "/opt", "/nix/store", "/gnu/store"};
static const char *const wide_directories[] = {"/", "/home", "/root", "/etc", "/var", "/var/lib",
	"/var/cache", "/run", "/srv", "/mnt", "/media", "/nix", "/gnu"};

/* Names */

/* How far the run of letters and digits at @name goes that looks made up. Return: its length, or 0 */
static size_t made_up_len(const char *name, size_t len)
{
	size_t n = 0, digits = 0, switches = 0;
	int before = 0;

	while (n < len && isalnum((unsigned char)name[n]) != 0) {
		unsigned char c = (unsigned char)name[n];
		int kind = isdigit(c) ? 1 : isupper(c) ? 2 : 3;

		switches += n != 0 && kind != before;
		digits += kind == 1;
		before = kind;
		n++;
	}
	if (n >= RANDOM_LEN && switches >= 2) {
		return n;
	}
	return digits == n && n >= NUMBER_LEN ? n : 0;
}

/* Finds the part of @name that a further run would make differently. */
static void find_star(struct need *need, const char *name, size_t len)
{
	for (size_t at = 0; at < len;) {
		size_t n = 0;
		size_t start = at;

		if (isalnum((unsigned char)name[at]) == 0) {
			at++;
			continue;
		}
		while (at + n < len && isalnum((unsigned char)name[at + n]) != 0) {
			n++;
		}
		if (made_up_len(name + at, n) == 0) {
			/* Letters, then a number: "conf1234". */
			while (start < at + n && !isdigit((unsigned char)name[start])) {
				start++;
			}
		}
		if (made_up_len(name + start, at + n - start) != 0) {
			need->star_at = (uint16_t)start;
			need->star_len = (uint16_t)(at + n - start);
			return;
		}
		at += n;
	}
}

/* "cc" of "ccXyZ12b.s" stays, if it is in the name twice or more: gcc's habit of a prefix without a mark after it. */
static void keep_prefix(const struct hk_tree *tree, const struct hk_tree_node *node, struct need *need)
{
	static const char *const prefixes[] = {"cc", "tmp", "temp", "sh", "lto", "pip", "npm"};
	const char *name = tree->names + node->name + need->star_at;

	for (size_t i = 0; i < HK_ARRAY_SIZE(prefixes); i++) {
		size_t len = strlen(prefixes[i]);

		if (need->star_len >= len + RANDOM_LEN && strncmp(name, prefixes[i], len) == 0) {
			need->star_at = (uint16_t)(need->star_at + len);
			need->star_len = (uint16_t)(need->star_len - len);
			return;
		}
	}
}

/* What a node needs */

static uint8_t bits(enum hk_class a, enum hk_class b)
{
	return hk_class_bit(a) | hk_class_bit(b);
}

static uint8_t with_what_follows(const struct hk_tree_node *node)
{
	uint8_t asked = node->asked;

	if ((asked & hk_class_bit(HK_CLASS_CREATE)) != 0) {
		asked |= hk_class_bit(HK_CLASS_DELETE);
		asked |= (node->flags & HK_NODE_DIR) != 0
			? hk_class_bit(HK_CLASS_LIST)
			: bits(HK_CLASS_READ, HK_CLASS_WRITE);
	}
	if ((asked & hk_class_bit(HK_CLASS_LINK)) != 0) {
		asked |= bits(HK_CLASS_READ, HK_CLASS_WRITE);
	}
	return asked & (uint8_t)~node->refused;
}

static void gather(struct learner *l)
{
	for (uint32_t i = 0; i < l->tree->node_count; i++) {
		const struct hk_tree_node *node = &l->tree->nodes[i];
		struct need *need = &l->needs[i];

		need->self = with_what_follows(node);
		need->cow = node->cow;
		if ((node->flags & HK_NODE_OTHERS) != 0) {
			/* Stands for more paths than the tree has: all that was done to any of them. */
			need->deep = need->self;
		}
		if ((node->flags & HK_NODE_CREATED) != 0 && (node->flags & HK_NODE_GONE) != 0) {
			find_star(need, l->tree->names + node->name, node->name_len);
			keep_prefix(l->tree, node, need);
		}
	}
}

/* Sets needs of directories that are known by name. */
static void mark_known(struct learner *l)
{
	const char *home = l->results->home;
	uint32_t node;

	for (size_t i = 0; i < HK_ARRAY_SIZE(wide_directories); i++) {
		node = hk_tree_find(l->tree, wide_directories[i]);
		if (node != HK_TREE_NONE) {
			l->needs[node].is_wide = true;
		}
	}
	node = home != NULL ? hk_tree_find(l->tree, home) : HK_TREE_NONE;
	for (; node != HK_TREE_NONE; node = l->tree->nodes[node].parent) {
		l->needs[node].is_wide = true;
	}
}

/* All classes needed at or below each node; @ret_union has one for each. */
static void unite(const struct learner *l, uint8_t *ret_union)
{
	for (uint32_t i = l->tree->node_count; i-- > 0;) {
		ret_union[i] |= l->needs[i].self | l->needs[i].deep;
		if (i != HK_TREE_ROOT) {
			ret_union[l->tree->nodes[i].parent] |= ret_union[i];
		}
	}
}

/* Does anything come to be in @directory, now or by what it is told below? */
static void mark_whole(struct learner *l, const uint8_t *needed)
{
	const uint8_t look = bits(HK_CLASS_READ, HK_CLASS_LIST) | hk_class_bit(HK_CLASS_EXEC);
	uint32_t node;

	for (size_t i = 0; i < HK_ARRAY_SIZE(system_directories); i++) {
		node = hk_tree_find(l->tree, system_directories[i]);
		if (node != HK_TREE_NONE && (needed[node] & look) != 0) {
			l->needs[node].deep |= look;
		}
	}
	node = l->results->cwd != NULL ? hk_tree_find(l->tree, l->results->cwd) : HK_TREE_NONE;
	if (node != HK_TREE_NONE && !l->needs[node].is_wide &&
		(needed[node] & hk_class_bit(HK_CLASS_CREATE)) != 0) {
		l->needs[node].deep |= needed[node];
	}
}

/*
 * Generalizes one class, from the leaves to the root. @entries: how many entries of each node need it; @rules: how many
 * rules there would be at or below it.
 */
static void generalize(struct learner *l, enum hk_class class, uint32_t *entries, uint32_t *rules)
{
	uint8_t bit = hk_class_bit(class);

	memset(entries, 0, l->tree->node_count * sizeof(*entries));
	memset(rules, 0, l->tree->node_count * sizeof(*rules));
	for (uint32_t i = l->tree->node_count; i-- > 0;) {
		struct need *need = &l->needs[i];

		if (!need->is_wide && (entries[i] >= MANY || rules[i] >= MANY_BELOW)) {
			need->deep |= bit;
		}
		rules[i] += (need->self & bit) != 0;
		if ((need->deep & bit) != 0) {
			rules[i] = 1;
		}
		if (i != HK_TREE_ROOT && rules[i] != 0) {
			entries[l->tree->nodes[i].parent]++;
			rules[l->tree->nodes[i].parent] += rules[i];
		}
	}
}

static int decide(struct learner *l)
{
	uint32_t count = l->tree->node_count;
	autofree uint8_t *needed = hk_calloc(count, sizeof(*needed));
	autofree uint32_t *entries = hk_malloc(count * sizeof(*entries));
	autofree uint32_t *rules = hk_malloc(count * sizeof(*rules));

	if (needed == NULL || entries == NULL || rules == NULL) {
		return -ENOMEM;
	}
	gather(l);
	mark_known(l);
	unite(l, needed);
	mark_whole(l, needed);
	for (unsigned class = 0; class < HK_CLASS_COUNT; class++) {
		generalize(l, (enum hk_class)class, entries, rules);
	}
	return 0;
}

/* Writing */

/* Appends the path of a node as a glob: names quoted, stars for what is made up. */
static void add_glob(const struct learner *l, uint32_t node, struct hk_str *out)
{
	const struct hk_tree_node *at = &l->tree->nodes[node];
	const struct need *need = &l->needs[node];
	autofree char *name = NULL;

	if (node == HK_TREE_ROOT) {
		return;
	}
	if (l->results->cwd != NULL && node == hk_tree_find(l->tree, l->results->cwd)) {
		hk_str_add(out, "$PWD");
		return;
	}
	if (l->results->home != NULL && node == hk_tree_find(l->tree, l->results->home)) {
		hk_str_add(out, "$HOME");
		return;
	}
	add_glob(l, at->parent, out);
	hk_str_add(out, "/");
	name = hk_malloc((size_t)at->name_len + 1);
	if (name == NULL) {
		out->failed = true;
		return;
	}
	memcpy(name, l->tree->names + at->name, at->name_len);
	name[at->name_len] = '\0';
	if (need->star_len == 0) {
		hk_rules_quote(out, name);
		return;
	}
	/* The end first: quoting depends on what follows. */
	{
		const char *rest = name + need->star_at + need->star_len;
		struct hk_str tail = {0};

		hk_rules_quote(&tail, rest);
		name[need->star_at] = '\0';
		hk_rules_quote(out, name);
		hk_str_add(out, "*");
		hk_str_add(out, hk_str_text(&tail));
		out->failed |= tail.failed;
		hk_str_finish(&tail);
	}
}

static void write_rule(struct learner *l, enum hk_verdict verdict, uint8_t classes, uint32_t node,
	bool deep, struct hk_str *last)
{
	struct hk_str line = {0};
	const char *separator = "";

	hk_str_addf(&line, "%s ", hk_verdict_name(verdict));
	if (classes == (1u << HK_CLASS_COUNT) - 1) {
		hk_str_add(&line, "*");
	} else {
		for (unsigned class = 0; class < HK_CLASS_COUNT; class++) {
			if ((classes >> class & 1) != 0) {
				hk_str_addf(&line, "%s%s", separator,
					hk_class_name((enum hk_class)class));
				separator = ",";
			}
		}
	}
	hk_str_add(&line, " ");
	add_glob(l, node, &line);
	hk_str_add(&line, deep ? "/**" : node == HK_TREE_ROOT ? "/" : "");
	l->failed |= line.failed;
	/* Made-up names of one kind come one after the other. */
	if (!line.failed && strcmp(hk_str_text(last), hk_str_text(&line)) != 0) {
		fprintf(l->to, "%s\n", hk_str_text(&line));
		hk_str_finish(last);
		*last = line;
		return;
	}
	hk_str_finish(&line);
}

static void write_node(struct learner *l, uint32_t node, uint8_t *covered, struct hk_str *last)
{
	const struct need *need = &l->needs[node];
	uint8_t above = node == HK_TREE_ROOT ? 0 : covered[l->tree->nodes[node].parent];
	uint8_t deep = need->deep & (uint8_t)~above;
	uint8_t self = need->self & (uint8_t)~(above | deep);
	const uint8_t looks = bits(HK_CLASS_READ, HK_CLASS_LIST) | hk_class_bit(HK_CLASS_EXEC);
	uint8_t cow = need->cow & (uint8_t)~looks;

	covered[node] = above | deep;
	if ((deep & ~cow) != 0) {
		write_rule(l, HK_VERDICT_ALLOW, deep & (uint8_t)~cow, node, true, last);
	}
	if ((deep & cow) != 0) {
		write_rule(l, HK_VERDICT_COW, deep & cow, node, true, last);
	}
	if ((self & ~cow) != 0) {
		write_rule(l, HK_VERDICT_ALLOW, self & (uint8_t)~cow, node, false, last);
	}
	if ((self & cow) != 0) {
		write_rule(l, HK_VERDICT_COW, self & cow, node, false, last);
	}
}

/* What is allowed for a whole directory, and was refused or hidden for something in it. */
static void write_refused(struct learner *l, const uint32_t *sorted, const uint8_t *covered)
{
	struct hk_str last = {0};

	for (uint32_t i = 0; i < l->tree->node_count; i++) {
		const struct hk_tree_node *node = &l->tree->nodes[sorted[i]];
		uint8_t refused = node->refused & covered[sorted[i]];

		if ((node->flags & HK_NODE_HIDDEN) != 0) {
			write_rule(l, HK_VERDICT_HIDE, (1u << HK_CLASS_COUNT) - 1, sorted[i], false,
				&last);
		} else if (refused != 0) {
			write_rule(l, HK_VERDICT_DENY, refused, sorted[i], false, &last);
		}
	}
	hk_str_finish(&last);
}

static int write_policy(struct learner *l, const char *command)
{
	autofree uint32_t *sorted = hk_tree_sorted(l->tree);
	autofree uint8_t *covered = hk_calloc(l->tree->node_count, 1);
	struct hk_str last = {0};
	char shown[1024];

	if (sorted == NULL || covered == NULL) {
		return -ENOMEM;
	}
	hk_str_escape(shown, sizeof(shown), command, strlen(command));
	fprintf(l->to,
		"# What this run needed: %s\n"
		"# Learnt by hako trace --learn. See hako-policy(5); the last rule that matches decides.\n"
		"\n"
		"deny * /**\n"
		"\n",
		shown);
	for (uint32_t i = 0; i < l->tree->node_count; i++) {
		write_node(l, sorted[i], covered, &last);
	}
	hk_str_finish(&last);
	write_refused(l, sorted, covered);
	return l->failed ? -ENOMEM : 0;
}

int hk_audit_learn(struct hk_audit *audit, FILE *to, const char *command)
{
	struct learner l = {.results = hk_audit_results(audit), .to = to};
	autofree struct need *needs = NULL;
	int r;

	l.tree = l.results->tree;
	needs = hk_calloc(l.tree->node_count, sizeof(*needs));
	if (needs == NULL) {
		return -ENOMEM;
	}
	l.needs = needs;
	r = decide(&l);
	if (r == 0) {
		r = write_policy(&l, command);
	}
	errno = EIO;
	if (r == 0 && (fflush(to) != 0 || ferror(to))) {
		r = -errno;
	}
	return r;
}
