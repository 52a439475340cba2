/* SPDX-License-Identifier: ISC */
/*
 * Which directories a learnt policy may rule as a whole: see hk_tree_wide().
 *
 * Theory: a rule for all below a directory also speaks of names the run never touched, strangers.
 * That is right only where the policy of the run says of a stranger what it said of everything that
 * was used there. So the tree is walked along with the rules, and each directory is asked about a
 * name that nobody has.
 *
 * Limits: a rule that names something the run never looked at is not seen.
 */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "fuse/audit_impl.h"

enum { NAME_SIZE = UINT16_MAX + 1 };

/* No program makes such a name, and few globs but stars match it. */
static const char stranger_name[] = "\001\002hako";

/*
 * What the rules say of a node and of strangers in it, and, as bits, of all that was used at or
 * below it.
 */
struct view {
	hk_place place;
	uint8_t own[HK_CLASS_COUNT], stranger[HK_CLASS_COUNT];
	uint8_t used[HK_CLASS_COUNT];
	bool has_cow, has_plain; /* changes at or below it, as they happened */
};

static uint8_t verdict_of(struct hk_rules *rules, hk_place place, enum hk_class class)
{
	enum hk_verdict verdict =
		rules == NULL ? HK_VERDICT_ALLOW : hk_rules_at(rules, place, class).verdict;

	/* To look at something, both are the same. */
	if (verdict == HK_VERDICT_COW && (HK_CLASS_LOOKS >> class & 1) != 0) {
		verdict = HK_VERDICT_ALLOW;
	}
	return (uint8_t)verdict;
}

/* Each node after the one above it. */
static void look(const struct hk_tree *tree, struct hk_rules *rules, struct view *views, char *name)
{
	for (uint32_t i = 0; i < tree->node_count; i++) {
		const struct hk_tree_node *node = &tree->nodes[i];
		struct view *view = &views[i];
		hk_place stranger = HK_PLACE_NOWHERE;
		uint8_t changes = node->asked & (uint8_t)~HK_CLASS_LOOKS;

		if (rules != NULL) {
			memcpy(name, tree->names + node->name, node->name_len);
			name[node->name_len] = '\0';
			view->place = i == HK_TREE_ROOT
				? hk_rules_root(rules)
				: hk_rules_step(rules, views[node->parent].place, name);
			stranger = hk_rules_step(rules, view->place, stranger_name);
		}
		for (unsigned class = 0; class < HK_CLASS_COUNT; class ++) {
			view->own[class] = verdict_of(rules, view->place, (enum hk_class) class);
			view->stranger[class] = verdict_of(rules, stranger, (enum hk_class) class);
			if ((node->asked >> class & 1) != 0) {
				view->used[class] = (uint8_t)(1u << view->own[class]);
			}
			if ((node->flags & HK_NODE_DIR) != 0) {
				view->used[class] |= (uint8_t)(1u << view->stranger[class]);
			}
		}
		view->has_cow = (node->cow & ~HK_CLASS_LOOKS) != 0;
		view->has_plain = changes != 0 && !view->has_cow;
	}
}

static bool is_granted(uint8_t verdict)
{
	return verdict == HK_VERDICT_ALLOW || verdict == HK_VERDICT_COW;
}

static void decide(const struct view *view, uint8_t *ret_wide, uint8_t *ret_denied)
{
	for (unsigned class = 0; class < HK_CLASS_COUNT; class ++) {
		uint8_t bit = hk_class_bit((enum hk_class) class);
		uint8_t stranger = view->stranger[class];
		bool is_mixed = view->has_cow && view->has_plain && (HK_CLASS_LOOKS & bit) == 0;

		if (is_granted(stranger) && (view->used[class] & ~(1u << stranger)) == 0 &&
			!is_mixed) {
			*ret_wide |= bit;
		}
		if (view->own[class] == HK_VERDICT_DENY || view->own[class] == HK_VERDICT_HIDE) {
			*ret_denied |= bit;
		}
	}
}

int hk_tree_wide(
	const struct hk_tree *tree, struct hk_rules *rules, uint8_t *ret_wide, uint8_t *ret_denied)
{
	autofree struct view *views = hk_calloc(tree->node_count, sizeof(*views));
	autofree char *name = hk_malloc(NAME_SIZE);

	if (views == NULL || name == NULL) {
		return -ENOMEM;
	}
	look(tree, rules, views, name);
	for (uint32_t i = tree->node_count; i-- > 0;) {
		struct view *above = &views[i == HK_TREE_ROOT ? i : tree->nodes[i].parent];

		for (unsigned class = 0; class < HK_CLASS_COUNT; class ++) {
			above->used[class] |= views[i].used[class];
		}
		above->has_cow |= views[i].has_cow;
		above->has_plain |= views[i].has_plain;
		decide(&views[i], &ret_wide[i], &ret_denied[i]);
	}
	return 0;
}
