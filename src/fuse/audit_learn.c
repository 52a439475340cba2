/* SPDX-License-Identifier: ISC */
/*
 * The smallest sensible policy under which a run would have gone the same way.
 *
 * Theory: deny everything, then allow what was asked for. Three things make that short, and right
 * for the next run, too, which is never quite the same:
 *
 *  - What comes with what was seen. Who created a name will find it there next time: he may read, write and remove it. Who
 *    made a link needed all that its new name allows of what is linked, too (a name must not lend rights).
 *  - Names that differ each time. A name that came and went, and has a part that looks made up (mkstemp, a process's number),
 *    stands with a star for that part.
 *  - Directories. For each class by itself: where at least MANY entries of a directory needed it, or MANY_BELOW
 *    rules below it would, the directory gets it with a double star. Not so directories that hold what has nothing to do
 *    with each other (`/`, `/home`, the home directory, `/etc`, ...). System directories are read, listed and run from as a
 *    whole as soon as anything in them was. Where WORKS files come to be in the current directory, all that was
 *    done there may be done to anything in it.
 *
 * Nothing is widened over what the policy of the run ruled otherwise, and no directory has one rule
 * for what went to an upper layer and for what did not: see audit_wide.c.
 *
 * A refusal stays one: it is not asked for again. What was hidden is hidden, what went to an upper
 * layer goes there.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/str.h"
#include "fuse/audit_impl.h"

enum {
	MANY = 4,
	MANY_BELOW = 12,
	RANDOM_LEN = 6,
	NUMBER_LEN = 3,
	PREFIX_LEN = 2,
	PYTHON_LEN = 8,
	WORKS = 2
};

/**
 * struct need - what a node needs, as bits of classes
 * @self: the path itself
 * @deep: the path and all below
 * @cow: those of them that go to an upper layer
 * @is_wide: no directory to be allowed as a whole; @is_shared: not because of a few entries
 * @is_twin: another node has the same glob, and all needs of both
 * @has_ln: ln(1) was used in it. For a name that is there, `ln -f` makes "CuXXXXXX" first
 * @star_at, @star_len: the part of the name that a star stands for, or, if @is_exact, as many
 *	question marks; @star_len
 *	0: none
 */
struct need {
	uint8_t self, deep;
	uint8_t wide, denied; /* see hk_tree_wide() */
	uint8_t cow;
	uint8_t cow_below;
	bool is_wide, is_shared;
	bool is_twin;
	bool has_ln;
	bool is_exact;
	uint16_t star_at, star_len;
};

struct learner {
	const struct hk_tree *tree;
	struct need *needs; /* for each node */
	uint32_t home, cwd; /* nodes, or HK_TREE_NONE */
	FILE *to;
	bool failed;
};

/* What only looks, and what changes. */
enum {
	LOOKS = HK_CLASS_LOOKS,
	ALL = HK_CLASSES_ALL,
	CHANGES = ALL & ~LOOKS,
};

static const char *const system_directories[] = {"/usr", "/bin", "/sbin", "/lib", "/lib32",
	"/lib64", "/libx32", "/opt", "/nix/store", "/gnu/store"};
static const char *const wide_directories[] = {"/", "/home", "/root", "/etc", "/var", "/var/lib",
	"/var/cache", "/run", "/srv", "/mnt", "/media", "/nix", "/gnu"};
static const char *const shared_directories[] = {"/tmp", "/var/tmp", "/dev/shm"};

static const char *name_of(const struct learner *l, uint32_t node)
{
	return l->tree->names + l->tree->nodes[node].name;
}

/* Names */

static size_t word_len(const char *name, size_t len)
{
	size_t n = 0;

	while (n < len && isalnum((unsigned char)name[n]) != 0) {
		n++;
	}
	return n;
}

/*
 * Do these letters and digits look like mkstemp(3)'s? Those of a word, a name or a number do not.
 */
static bool is_random(const char *word, size_t len)
{
	size_t digits = 0, capitals = 0, switches = 0;
	int before = 0;

	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)word[i];
		int kind = isdigit(c) != 0 ? 1 : isupper(c) != 0 ? 2 : 3;

		switches += i != 0 && kind != before;
		digits += kind == 1;
		capitals += kind == 2;
		before = kind;
	}
	if (switches >= 2) {
		return len >= RANDOM_LEN && (capitals > 0 || digits > 1);
	}
	/* "zHIDET", "NGTSDw", but not "Widget" nor "README" nor "file12". */
	return len == RANDOM_LEN && switches == 1 && capitals > 0 &&
		(capitals > 1 || isupper((unsigned char)word[0]) == 0);
}

/* Names of which it is known who makes them of six letters and digits, whichever these are. */
static const struct {
	const char *prefix;
	bool is_shared; /* in a shared directory only */
} templates[] = {{"sed", false}, {"cc", true}};

/* How long is the prefix of the template that the first word was made of? 0: of none. */
static size_t template_len(const char *name, size_t word, bool is_shared)
{
	for (size_t i = 0; i < HK_ARRAY_SIZE(templates); i++) {
		size_t len = strlen(templates[i].prefix);

		if (word == len + RANDOM_LEN && strncmp(name, templates[i].prefix, len) == 0 &&
			(is_shared || !templates[i].is_shared)) {
			return len;
		}
	}
	return 0;
}

static bool is_lower(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (islower((unsigned char)text[i]) == 0) {
			return false;
		}
	}
	return true;
}

/* The number a word ends with: "conf1234". Return: its length, or 0 */
static size_t number_len(const char *word, size_t len)
{
	size_t n = 0;

	while (n < len && isdigit((unsigned char)word[len - 1 - n]) != 0) {
		n++;
	}
	return n >= NUMBER_LEN ? n : 0;
}

static void set_star(struct need *need, size_t at, size_t len, bool is_exact)
{
	need->star_at = (uint16_t)at;
	need->star_len = (uint16_t)len;
	need->is_exact = is_exact;
}

/* What Python's tempfile makes names of. */
static size_t python_len(const char *name, size_t len)
{
	size_t n = 0;

	while (n < len &&
		(islower((unsigned char)name[n]) != 0 || isdigit((unsigned char)name[n]) != 0 ||
			name[n] == '_')) {
		n++;
	}
	return n;
}

/* Finds the part of a temporary name that the next run will make differently. */
static void find_star(struct need *need, const char *name, size_t len, bool is_shared)
{
	size_t first = len > 0 && name[0] == '.';
	size_t prefix_len = template_len(name, word_len(name, len), is_shared);

	if (prefix_len != 0) {
		set_star(need, prefix_len, RANDOM_LEN, true);
		return;
	}
	/* Python's, with its prefix or, to see whether there is leave to write, as they are. */
	if (len > 3 && strncmp(name, "tmp", 3) == 0 &&
		python_len(name + 3, len - 3) >= PYTHON_LEN) {
		set_star(need, 3, PYTHON_LEN, true);
		return;
	}
	if (is_shared && len == PYTHON_LEN && python_len(name, len) == len) {
		set_star(need, 0, PYTHON_LEN, true);
		return;
	}
	for (size_t at = 0; at < len; at++) {
		size_t n = word_len(name + at, len - at);
		size_t prefix = n > RANDOM_LEN ? n - RANDOM_LEN : 0;
		size_t digits = number_len(name + at, n);

		/*
		 * The whole word; or, at the name's start, the end of it: "sedAbC123",
		 * "ccXyZ12b.s".
		 */
		if (at == first && is_lower(name + at, prefix) && prefix != 0 &&
			is_random(name + at + prefix, RANDOM_LEN)) {
			set_star(need, at + prefix, RANDOM_LEN, true);
			return;
		}
		if (is_random(name + at, n)) {
			set_star(need, at, n, true);
			return;
		}
		if (digits != 0) {
			set_star(need, at + n - digits, digits, false);
			return;
		}
		at += n;
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
		asked |= (node->flags & HK_NODE_DIR) != 0 ? hk_class_bit(HK_CLASS_LIST)
							  : bits(HK_CLASS_READ, HK_CLASS_WRITE);
	}
	if ((asked & hk_class_bit(HK_CLASS_LINK)) != 0) {
		asked |= bits(HK_CLASS_READ, HK_CLASS_WRITE) |
			bits(HK_CLASS_EXEC, HK_CLASS_METADATA);
	}
	return asked & (uint8_t)~node->refused;
}

static bool is_made_by_ln(const struct hk_tree *tree, const struct hk_tree_node *node)
{
	for (unsigned i = 0; i < HK_NODE_COMMANDS && node->commands[i] != HK_COMMANDS_MAX; i++) {
		if (strcmp(tree->commands[node->commands[i]].name, "ln") == 0) {
			return (node->flags & HK_NODE_CREATED) != 0 && node->parent != HK_TREE_NONE;
		}
	}
	return false;
}

static void gather(struct learner *l)
{
	for (uint32_t i = 0; i < l->tree->node_count; i++) {
		const struct hk_tree_node *node = &l->tree->nodes[i];
		struct need *need = &l->needs[i];
		bool is_shared;

		need->self = with_what_follows(node) & (uint8_t) ~(need->denied & ~node->asked);
		need->cow = node->cow;
		if (is_made_by_ln(l->tree, node)) {
			l->needs[node->parent].has_ln = true;
		}
		if ((node->flags & HK_NODE_OTHERS) != 0) {
			/*
			 * Stands for more paths than the tree has: all that was done to any of
			 * them.
			 */
			need->deep = need->self;
		}
		if ((node->flags & HK_NODE_CREATED) == 0 || i == HK_TREE_ROOT) {
			continue;
		}
		is_shared = l->needs[node->parent].is_shared;
		if ((node->flags & HK_NODE_GONE) != 0 || is_shared) {
			find_star(need, name_of(l, i), node->name_len, is_shared);
		}
	}
	/* An upper layer has a path as a whole. */
	for (uint32_t i = 0; i < l->tree->node_count; i++) {
		l->needs[i].cow = (l->needs[i].cow & CHANGES) != 0 ? CHANGES : 0;
	}
}

/* Order of made-up names: those that one glob can stand for come together. */
static int by_star(const void *a, const void *b, void *argument)
{
	const struct learner *l = argument;
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	const struct hk_tree_node *node_x = &l->tree->nodes[x], *node_y = &l->tree->nodes[y];
	const struct need *need_x = &l->needs[x], *need_y = &l->needs[y];
	size_t end_x = need_x->star_at + need_x->star_len,
	       end_y = need_y->star_at + need_y->star_len;
	int order;

	if (node_x->parent != node_y->parent) {
		return node_x->parent < node_y->parent ? -1 : 1;
	}
	if (need_x->cow != need_y->cow) {
		return need_x->cow < need_y->cow ? -1 : 1;
	}
	if (need_x->star_at != need_y->star_at) {
		return need_x->star_at < need_y->star_at ? -1 : 1;
	}
	order = memcmp(name_of(l, x), name_of(l, y), need_x->star_at);
	if (order != 0 || need_x->star_at >= PREFIX_LEN) {
		return order; /* "cc*" for "ccAbC123.s" and "ccDeF456.o" */
	}
	if (node_x->name_len - end_x != node_y->name_len - end_y) {
		return node_x->name_len - end_x < node_y->name_len - end_y ? -1 : 1;
	}
	return memcmp(name_of(l, x) + end_x, name_of(l, y) + end_y, node_x->name_len - end_x);
}

static bool is_same_end(const struct learner *l, uint32_t x, uint32_t y)
{
	size_t end_x = l->needs[x].star_at + l->needs[x].star_len;
	size_t end_y = l->needs[y].star_at + l->needs[y].star_len;
	size_t len_x = l->tree->nodes[x].name_len - end_x;

	return len_x == l->tree->nodes[y].name_len - end_y &&
		memcmp(name_of(l, x) + end_x, name_of(l, y) + end_y, len_x) == 0;
}

/*
 * One of several names with the same star speaks for all; a directory of such a name for what is in
 * it, too.
 */
static int merge_stars(struct learner *l, const uint8_t *needed)
{
	uint32_t count = 0;
	autofree uint32_t *stars = hk_malloc(l->tree->node_count * sizeof(*stars));

	if (stars == NULL) {
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < l->tree->node_count; i++) {
		if (l->needs[i].star_len != 0) {
			l->needs[i].deep |= (l->tree->nodes[i].flags & HK_NODE_DIR) != 0
				? needed[i] & l->needs[i].wide
				: 0;
			stars[count++] = i;
		}
	}
	qsort_r(stars, count, sizeof(*stars), by_star, l);
	for (uint32_t i = 1, first = 0; i < count; i++) {
		struct need *to = &l->needs[stars[first]];
		struct need *from = &l->needs[stars[i]];

		if (by_star(&stars[first], &stars[i], l) != 0) {
			first = i;
			continue;
		}
		to->is_exact &= from->is_exact && from->star_len == to->star_len;
		if (!is_same_end(l, stars[first], stars[i])) {
			to->is_exact = false;
			to->star_len = l->tree->nodes[stars[first]].name_len - to->star_at;
		}
		to->self |= from->self;
		to->deep |= from->deep;
		to->cow |= from->cow;
		from->self = from->deep = 0;
		from->is_twin = true;
	}
	return 0;
}

/* Sets needs of directories that are known by name. */
static void mark_known(struct learner *l)
{
	uint32_t node;

	for (size_t i = 0; i < HK_ARRAY_SIZE(wide_directories); i++) {
		node = hk_tree_find(l->tree, wide_directories[i]);
		if (node != HK_TREE_NONE) {
			l->needs[node].is_wide = true;
		}
	}
	for (size_t i = 0; i < HK_ARRAY_SIZE(shared_directories); i++) {
		node = hk_tree_find(l->tree, shared_directories[i]);
		if (node != HK_TREE_NONE) {
			l->needs[node].is_shared = true;
		}
	}
	for (node = l->home; node != HK_TREE_NONE; node = l->tree->nodes[node].parent) {
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

/* Did the run make more than one thing in the current directory? */
static bool has_works(const struct learner *l)
{
	unsigned count = 0;

	for (uint32_t i = 0; i < l->tree->node_count && count < WORKS; i++) {
		uint32_t at = (l->tree->nodes[i].flags & HK_NODE_CREATED) != 0 ? i : HK_TREE_NONE;

		while (at != HK_TREE_NONE && at != l->cwd) {
			at = l->tree->nodes[at].parent;
		}
		count += at != HK_TREE_NONE;
	}
	return count >= WORKS;
}

/* Directories that are allowed as a whole. */
static void mark_whole(struct learner *l, const uint8_t *needed)
{
	uint32_t node;

	for (size_t i = 0; i < HK_ARRAY_SIZE(system_directories); i++) {
		node = hk_tree_find(l->tree, system_directories[i]);
		if (node != HK_TREE_NONE && (needed[node] & LOOKS) != 0 &&
			(l->tree->nodes[node].flags & HK_NODE_LINK) == 0) {
			l->needs[node].deep |= LOOKS & l->needs[node].wide;
		}
	}
	if (l->cwd != HK_TREE_NONE && !l->needs[l->cwd].is_wide && has_works(l)) {
		l->needs[l->cwd].deep |= needed[l->cwd] & l->needs[l->cwd].wide;
	}
}

/*
 * Generalizes one class, from the leaves to the root. @entries: how many entries of each node need
 * it; @rules: how many rules there would be at or below it.
 */
static void generalize(struct learner *l, enum hk_class class, uint32_t *entries, uint32_t *rules)
{
	uint8_t bit = hk_class_bit(class);

	memset(entries, 0, l->tree->node_count * sizeof(*entries));
	memset(rules, 0, l->tree->node_count * sizeof(*rules));
	for (uint32_t i = l->tree->node_count; i-- > 0;) {
		struct need *need = &l->needs[i];

		if (!need->is_wide && (need->wide & bit) != 0 &&
			((entries[i] >= MANY && !need->is_shared) || rules[i] >= MANY_BELOW)) {
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

static int find_wide(struct learner *l, struct hk_rules *rules)
{
	uint32_t count = l->tree->node_count;
	autofree uint8_t *wide = hk_calloc(count, sizeof(*wide));
	autofree uint8_t *denied = hk_calloc(count, sizeof(*denied));
	int r;

	if (wide == NULL || denied == NULL) {
		return -ENOMEM;
	}
	r = hk_tree_wide(l->tree, rules, wide, denied);
	for (uint32_t i = 0; i < count; i++) {
		l->needs[i].wide = wide[i];
		l->needs[i].denied = denied[i];
	}
	return r;
}

static int decide(struct learner *l, struct hk_rules *rules)
{
	uint32_t count = l->tree->node_count;
	autofree uint8_t *needed = hk_calloc(count, sizeof(*needed));
	autofree uint32_t *entries = hk_malloc(count * sizeof(*entries));
	autofree uint32_t *below = hk_malloc(count * sizeof(*below));

	if (needed == NULL || entries == NULL || below == NULL || find_wide(l, rules) < 0) {
		return -ENOMEM;
	}
	mark_known(l);
	gather(l);
	unite(l, needed);
	mark_whole(l, needed);
	if (merge_stars(l, needed) < 0) {
		return -ENOMEM;
	}
	for (unsigned class = 0; class < HK_CLASS_COUNT; class ++) {
		generalize(l, (enum hk_class) class, entries, below);
	}
	/* A directory has an upper layer if anything in it has. */
	for (uint32_t i = count; i-- > 1;) {
		struct need *above = &l->needs[l->tree->nodes[i].parent];

		above->cow_below |= l->needs[i].cow | l->needs[i].cow_below;
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
	const char *tail;

	if (node == HK_TREE_ROOT) {
		return;
	}
	if (node == l->home || node == l->cwd) {
		hk_str_add(out, node == l->home ? "$HOME" : "$PWD");
		return;
	}
	add_glob(l, at->parent, out);
	hk_str_add(out, "/");
	name = hk_malloc((size_t)at->name_len + 1);
	if (name == NULL) {
		out->failed = true;
		return;
	}
	memcpy(name, name_of(l, node), at->name_len);
	name[at->name_len] = '\0';
	if (need->star_len == 0) {
		hk_rules_quote(out, name);
		return;
	}
	tail = name + need->star_at + need->star_len;
	name[need->star_at] = '\0';
	hk_rules_quote(out, name);
	for (unsigned i = 0; i < (need->is_exact ? need->star_len : 1); i++) {
		hk_str_add(out, need->is_exact ? "?" : "*");
	}
	hk_rules_quote(out, tail);
}

/* @below: what follows the path of @node: a slash and a glob, or nothing */
static void write_rule(struct learner *l, enum hk_verdict verdict, uint8_t classes, uint32_t node,
	const char *below)
{
	struct hk_str line = {0};
	const char *separator = "";

	if (classes == 0) {
		return;
	}
	hk_str_addf(&line, "%s ", hk_verdict_name(verdict));
	for (unsigned class = 0; class < HK_CLASS_COUNT && classes != ALL; class ++) {
		if ((classes >> class & 1) != 0) {
			hk_str_addf(&line, "%s%s", separator, hk_class_name((enum hk_class) class));
			separator = ",";
		}
	}
	hk_str_add(&line, classes == ALL ? "* " : " ");
	add_glob(l, node, &line);
	hk_str_add(&line, node == HK_TREE_ROOT && below[0] == '\0' ? "/" : below);
	l->failed |= line.failed;
	fprintf(l->to, "%s\n", hk_str_text(&line));
	hk_str_finish(&line);
}

static void write_node(struct learner *l, uint32_t node, uint8_t *covered)
{
	const struct need *need = &l->needs[node];
	uint8_t above = node == HK_TREE_ROOT ? 0 : covered[l->tree->nodes[node].parent];
	uint8_t deep = need->deep & (uint8_t)~above;
	uint8_t self = need->self & (uint8_t) ~(above | deep);
	uint8_t deep_cow = need->cow | need->cow_below;

	covered[node] = need->is_twin ? ALL : above | deep;
	write_rule(l, HK_VERDICT_ALLOW, (uint8_t)(deep & ~deep_cow), node, "/**");
	write_rule(l, HK_VERDICT_COW, deep & deep_cow, node, "/**");
	write_rule(l, HK_VERDICT_ALLOW, (uint8_t)(self & ~need->cow), node, "");
	write_rule(l, HK_VERDICT_COW, self & need->cow, node, "");
	if (need->has_ln) {
		uint8_t moves =
			bits(HK_CLASS_CREATE, HK_CLASS_DELETE) | hk_class_bit(HK_CLASS_READ);

		/* Whatever is made there goes where it goes. */
		write_rule(l, deep_cow != 0 ? HK_VERDICT_COW : HK_VERDICT_ALLOW,
			moves & (uint8_t)~covered[node], node, "/Cu??????");
	}
}

/* What is allowed for a whole directory, and was refused or hidden for something in it. */
static void write_refused(struct learner *l, const uint32_t *sorted, const uint8_t *covered)
{
	for (uint32_t i = 0; i < l->tree->node_count; i++) {
		const struct hk_tree_node *node = &l->tree->nodes[sorted[i]];
		uint8_t refused = node->refused & covered[sorted[i]];

		if ((node->flags & HK_NODE_HIDDEN) != 0) {
			write_rule(l, HK_VERDICT_HIDE, ALL, sorted[i], "");
		} else {
			write_rule(l, HK_VERDICT_DENY, refused, sorted[i], "");
		}
	}
}

static int write_policy(struct learner *l, const char *command)
{
	autofree uint32_t *sorted = hk_tree_sorted(l->tree);
	autofree uint8_t *covered = hk_calloc(l->tree->node_count, 1);
	char shown[1024];

	if (sorted == NULL || covered == NULL) {
		return -ENOMEM;
	}
	hk_str_escape(shown, sizeof(shown), command, strlen(command));
	fprintf(l->to,
		"# What this run needed: %s\n"
		"# Learnt by hako --learn. See hako-policy(5); the last rule that matches "
		"decides.\n"
		"\n"
		"deny * /**\n"
		"\n",
		shown);
	for (uint32_t i = 0; i < l->tree->node_count; i++) {
		write_node(l, sorted[i], covered);
	}
	write_refused(l, sorted, covered);
	return l->failed ? -ENOMEM : 0;
}

int hk_audit_learn(struct hk_audit *audit, FILE *to, const char *command)
{
	const struct hk_audit_results *results = hk_audit_results(audit);
	struct learner l = {.tree = results->tree, .to = to};
	autofree struct need *needs = NULL;
	int r;

	l.home = results->home != NULL ? hk_tree_find(l.tree, results->home) : HK_TREE_NONE;
	l.cwd = results->cwd != NULL ? hk_tree_find(l.tree, results->cwd) : HK_TREE_NONE;
	needs = hk_calloc(l.tree->node_count, sizeof(*needs));
	if (needs == NULL) {
		return -ENOMEM;
	}
	l.needs = needs;
	r = decide(&l, results->rules);
	if (r == 0) {
		r = write_policy(&l, command);
	}
	errno = EIO;
	if (r == 0 && (fflush(to) != 0 || ferror(to))) {
		r = -errno;
	}
	return r;
}
