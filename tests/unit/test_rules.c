/* SPDX-License-Identifier: ISC */
/*
 * The rules' automaton: rulings, what places promise, against a plain matcher, in threads, and
 * where memory ends.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/str.h"
#include "base/util.h"
#include "fuse/rules.h"
#include "fuse/rules_impl.h"
#include "rules_fixture.h"
#include "rules_naive.h"

static void test_last_match_wins(void **state)
{
	struct hk_rules *rules = rules_parse("deny write,create,delete /**\n"
					     "allow * $PWD/**\n"
					     "hide * $HOME/.ssh/**\n"
					     "ask exec,link /usr/bin/*\r\n"
					     "cow * /var/lib/**\n");
	struct hk_ruling ruling = rules_ruling(rules, "/home/me/work/x/y", HK_CLASS_WRITE);

	assert_int_equal(ruling.verdict, HK_VERDICT_ALLOW);
	assert_int_equal(ruling.rule, 2);
	ruling = rules_ruling(rules, "/home/me/other", HK_CLASS_WRITE);
	assert_int_equal(ruling.verdict, HK_VERDICT_DENY);
	assert_int_equal(ruling.rule, 1);
	ruling = rules_ruling(rules, "/home/me/other", HK_CLASS_READ);
	assert_int_equal(ruling.verdict, HK_VERDICT_ALLOW);
	assert_int_equal(ruling.rule, 0);
	assert_int_equal(
		rules_ruling(rules, "/home/me/.ssh", HK_CLASS_LIST).verdict, HK_VERDICT_HIDE);
	assert_int_equal(rules_ruling(rules, "/usr/bin/cc", HK_CLASS_EXEC).verdict, HK_VERDICT_ASK);
	assert_int_equal(
		rules_ruling(rules, "/usr/bin/cc", HK_CLASS_READ).verdict, HK_VERDICT_ALLOW);
	assert_int_equal(
		rules_ruling(rules, "/var/lib", HK_CLASS_METADATA).verdict, HK_VERDICT_COW);
	hk_rules_free(rules);
}

static void test_no_rules(void **state)
{
	struct hk_rules *rules = rules_parse("\xef\xbb\xbf\n # nothing\n\n   ");

	assert_true(hk_rules_uniform(rules, hk_rules_root(rules)));
	assert_false(hk_rules_may_hide(rules, hk_rules_root(rules)));
	assert_int_equal(rules_ruling(rules, "/a/b", HK_CLASS_READ).rule, 0);
	assert_int_equal(hk_rules_place_count(rules), 2);
	hk_rules_free(rules);
}

static void test_uniform(void **state)
{
	static const struct {
		const char *text, *path;
		bool is_uniform;
	} cases[] = {
		{"deny read /**", "", true},
		{"deny read /a", "", false},
		{"deny read /a", "/a", true},
		{"deny read /a", "/b", true},
		{"deny read /a/*", "/a", false},
		{"deny read /a/*", "/a/x", true},
		{"deny read /a/**", "/a", true},
		{"deny read /**/x", "/a/b", false},
		/* What a later rule covers is not looked at any more... */
		{"deny read /**/x\nallow * /a/**", "/a", true},
		{"deny read /**/x\nallow * /a/**", "/b", false},
		/* ... for its classes, and if it is later. */
		{"deny read,write /**/x\nallow read /a/**", "/a", false},
		{"allow * /a/**\ndeny read /**/x", "/a", false},
		{"hide * /a/.ssh/**\nallow * /a/**", "/a", true},
		{"deny read /\nallow read /b", "", false},
	};

	for (size_t i = 0; i < HK_ARRAY_SIZE(cases); i++) {
		struct hk_rules *rules = rules_parse(cases[i].text);

		if (hk_rules_uniform(rules, rules_walk(rules, cases[i].path)) !=
			cases[i].is_uniform) {
			fail_msg("%s, at '%s'", cases[i].text, cases[i].path);
		}
		hk_rules_free(rules);
	}
}

static void test_may_hide(void **state)
{
	static const struct {
		const char *text, *path;
		bool may_hide;
	} cases[] = {
		{"hide * /a", "", true},
		{"hide * /a", "/a", false},
		{"hide * /a", "/b", false},
		{"hide * /a/**", "", true},
		{"hide * /a/**", "/a", true},
		{"hide * /a/**", "/a/b", true},
		{"hide * /a/b/**", "", false},
		{"hide * /*/b", "", false},
		{"hide * /*/b", "/x", true},
		{"hide * /**/b", "/x/y", true},
		{"hide list /**/*~", "/x", true},
		{"hide * /a/**\nallow * /**", "/a", false},
		{"hide * /a/**\nallow * /**", "", false},
		{"deny * /**", "", false},
	};

	for (size_t i = 0; i < HK_ARRAY_SIZE(cases); i++) {
		struct hk_rules *rules = rules_parse(cases[i].text);

		if (hk_rules_may_hide(rules, rules_walk(rules, cases[i].path)) !=
			cases[i].may_hide) {
			fail_msg("%s, at '%s'", cases[i].text, cases[i].path);
		}
		hk_rules_free(rules);
	}
}

/* Rules from elsewhere */

static void test_add(void **state)
{
	struct hk_rules *rules = hk_rules_new();
	const uint32_t all = (1u << HK_CLASS_COUNT) - 1;

	assert_int_equal(hk_rules_add(rules, HK_VERDICT_DENY, all, "/", true), 0);
	assert_int_equal(hk_rules_add(rules, HK_VERDICT_ALLOW, 3, "/a*//./b/", true), 0);
	hk_rules_make_quiet(rules);
	assert_int_equal(hk_rules_add(rules, HK_VERDICT_COW, all, "/c/../../d", false), 0);
	assert_int_equal(hk_rules_add(rules, HK_VERDICT_DENY, all, "d", false), -EINVAL);
	assert_int_equal(hk_rules_add(rules, HK_VERDICT_DENY, all, "", false), -EINVAL);
	assert_int_equal(hk_rules_add(rules, HK_VERDICT_DENY, 0, "/d", false), -EINVAL);
	assert_int_equal(hk_rules_add(rules, HK_VERDICT_DENY, all + 1, "/d", false), -EINVAL);
	assert_int_equal(hk_rules_add(rules, HK_VERDICT_REDIRECT, all, "/d", false), -EINVAL);
	assert_string_equal(hk_rules_text(rules, 1), "deny * /**");
	assert_string_equal(hk_rules_text(rules, 2), "allow read,write /a\\*//./b/**");
	assert_true(hk_rules_is_quiet(rules, 2));
	assert_false(hk_rules_is_quiet(rules, 1));
	assert_int_equal(rules_ruling(rules, "/a*/b/c", HK_CLASS_WRITE).rule, 2);
	assert_int_equal(rules_ruling(rules, "/a*/b/c", HK_CLASS_EXEC).rule, 1);
	assert_int_equal(rules_ruling(rules, "/ax/b/c", HK_CLASS_WRITE).rule, 1);
	assert_int_equal(rules_ruling(rules, "/d", HK_CLASS_WRITE).rule, 3);
	assert_int_equal(rules_ruling(rules, "/d/x", HK_CLASS_WRITE).rule, 1);
	assert_int_equal(hk_rules_add(rules, HK_VERDICT_DENY, all, "/d", false), -EBUSY);
	hk_rules_free(rules);
	hk_rules_free(NULL);
}

/* The automaton */

static void compare(struct hk_rules *rules, const struct naive_policy *policy, const char *path)
{
	hk_place place = rules_walk(rules, path);

	for (unsigned class = 0; class < HK_CLASS_COUNT; class ++) {
		struct hk_ruling ruling = hk_rules_at(rules, place, (enum hk_class) class);
		struct hk_ruling expected = naive_ruling(policy, path, (enum hk_class) class);

		if (ruling.rule != expected.rule || ruling.verdict != expected.verdict) {
			fail_msg("%s of %s: rule %u, expected %u, in:\n%s",
				hk_class_name((enum hk_class) class), path, ruling.rule,
				expected.rule, naive_text(policy));
		}
	}
}

/* What a place promises about the entries below it. */
static void check_promises(struct hk_rules *rules, const char *path, const char *name)
{
	hk_place place = rules_walk(rules, path);
	hk_place next = hk_rules_step(rules, place, name);

	for (unsigned class = 0; class < HK_CLASS_COUNT; class ++) {
		assert_true(hk_rules_may_hide(rules, place) ||
			hk_rules_at(rules, next, (enum hk_class) class).verdict != HK_VERDICT_HIDE);
	}
	if (hk_rules_uniform(rules, place)) {
		assert_int_equal(next, hk_rules_step(rules, place, "any other"));
		assert_int_equal(next, hk_rules_step(rules, next, "and below"));
		assert_true(hk_rules_uniform(rules, next));
	}
}

static void test_as_the_plain_matcher(void **state)
{
	struct random random = RANDOM(42);

	for (unsigned round = 0; round < 4000; round++) {
		struct naive_policy policy;
		autofree char *text = NULL;
		struct hk_rules *rules;

		naive_make_policy(&random.source, &policy);
		text = naive_text(&policy);
		rules = rules_parse(text);
		for (unsigned i = 0; i < 40; i++) {
			char path[NAIVE_TEXT];

			naive_make_path(&random.source, path);
			compare(rules, &policy, path);
			compare(rules, &policy, path);
			check_promises(rules, path, i % 2 != 0 ? "a" : "b.c");
		}
		hk_rules_free(rules);
	}
}

/* A program that looks up whatever comes to its mind. */
static void test_names_need_no_memory(void **state)
{
	struct hk_rules *rules =
		rules_parse("deny read /a/b/c/**\nhide read /**/*.o\ncow * /a/*x*/**\nask * /?");
	uint32_t places = 0;

	for (unsigned i = 0; i < 200000; i++) {
		char name[HK_RULES_SYMBOL_BITS * 8];

		assert_true(hk_fmt(name, sizeof(name), "/a/%u%s", i,
				    i % 3 == 0           ? "x"
					    : i % 3 == 1 ? ".o"
							 : "") > 0);
		assert_int_equal(rules_ruling(rules, name, HK_CLASS_READ).rule,
			i % 3 == 0           ? 3
				: i % 3 == 1 ? 2
					     : 0);
		if (i == 1000) {
			places = hk_rules_place_count(rules);
		}
	}
	assert_int_equal(hk_rules_place_count(rules), places);
	hk_rules_free(rules);
}

static void test_long_names(void **state)
{
	struct hk_rules *rules = rules_parse("deny read /**/a*b");
	char path[1 + 255 + 1] = "/";

	for (size_t len = 2; len <= 255; len++) {
		memset(path + 1, 'a', len - 1);
		path[len] = 'b';
		path[len + 1] = '\0';
		for (unsigned again = 0; again < 2; again++) {
			assert_int_equal(rules_ruling(rules, path, HK_CLASS_READ).rule, 1);
		}
		path[len] = 'c';
		assert_int_equal(rules_ruling(rules, path, HK_CLASS_READ).rule, 0);
	}
	hk_rules_free(rules);
}

/* A policy that needs 2^20 places: what does not fit is denied, and says so. */
static void test_too_many_places(void **state)
{
	struct hk_rules *rules =
		rules_parse("ask read /**/a/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*");
	struct random random = RANDOM(3);
	hk_place place = hk_rules_root(rules);

	rules->max_places = 1000;
	for (unsigned i = 0; i < 100000 && place != HK_PLACE_NOWHERE; i++) {
		place = hk_rules_step(
			rules, place, random_next(&random.source, 2) != 0 ? "a" : "b");
	}
	assert_int_equal(place, HK_PLACE_NOWHERE);
	assert_int_equal(hk_rules_step(rules, place, "a"), place);
	assert_int_equal(hk_rules_at(rules, place, HK_CLASS_LIST).verdict, HK_VERDICT_DENY);
	assert_int_equal(hk_rules_at(rules, place, HK_CLASS_LIST).rule, 2);
	assert_non_null(strstr(hk_rules_text(rules, 2), "no memory left"));
	assert_true(hk_rules_uniform(rules, place));
	/* What is known goes on. */
	assert_int_equal(hk_rules_at(rules, hk_rules_root(rules), HK_CLASS_READ).rule, 0);
	hk_rules_free(rules);
}

static void test_many_rules(void **state)
{
	struct hk_str text = {0};
	struct hk_rules *rules;
	char path[64];

	for (unsigned i = 0; i < 10000; i++) {
		hk_str_addf(&text, "deny write $HOME/d%u/**\nhide read /g/*.%u\n", i, i);
	}
	rules = rules_parse(hk_str_text(&text));
	for (unsigned i = 0; i < 10000; i++) {
		assert_true(hk_fmt(path, sizeof(path), "/home/me/d%u/x/y", i) > 0);
		assert_int_equal(rules_ruling(rules, path, HK_CLASS_WRITE).rule, 2 * i + 1);
	}
	for (unsigned i = 0; i < 10000; i += 97) {
		assert_true(hk_fmt(path, sizeof(path), "/g/x.%u", i) > 0);
		assert_int_equal(rules_ruling(rules, path, HK_CLASS_READ).rule, 2 * i + 2);
	}
	assert_int_equal(rules_ruling(rules, "/home/me/d10000", HK_CLASS_WRITE).rule, 0);
	hk_rules_free(rules);
	hk_str_finish(&text);
}

/* Threads */

enum { THREADS = 4, WALKS = 5000 };

struct walker {
	struct hk_rules *rules;
	const struct naive_policy *policy;
	uint64_t seed;
	atomic_uint *wrong;
};

static void *run_walker(void *arg)
{
	struct walker *walker = arg;
	struct random random = RANDOM(walker->seed);

	for (unsigned i = 0; i < WALKS; i++) {
		char path[NAIVE_TEXT];
		hk_place place;

		naive_make_path(&random.source, path);
		place = rules_walk(walker->rules, path);
		for (unsigned class = 0; class < HK_CLASS_COUNT; class ++) {
			struct hk_ruling ruling =
				hk_rules_at(walker->rules, place, (enum hk_class) class);
			struct hk_ruling expected =
				naive_ruling(walker->policy, path, (enum hk_class) class);

			if (ruling.rule != expected.rule) {
				atomic_fetch_add(walker->wrong, 1);
			}
		}
	}
	return NULL;
}

static void test_threads(void **state)
{
	struct random random = RANDOM(1);
	atomic_uint wrong = 0;

	for (unsigned round = 0; round < 5; round++) {
		struct naive_policy policy = {0};
		struct walker walkers[THREADS];
		pthread_t threads[THREADS];
		autofree char *text = NULL;
		struct hk_rules *rules;

		while (policy.count < NAIVE_RULES / 2) {
			naive_make_policy(&random.source, &policy);
		}
		text = naive_text(&policy);
		rules = rules_parse(text);
		for (unsigned i = 0; i < THREADS; i++) {
			walkers[i] = (struct walker){rules, &policy, 100 * round + i + 1, &wrong};
			assert_int_equal(
				pthread_create(&threads[i], NULL, run_walker, &walkers[i]), 0);
		}
		for (unsigned i = 0; i < THREADS; i++) {
			pthread_join(threads[i], NULL);
		}
		hk_rules_free(rules);
	}
	assert_int_equal(wrong, 0);
}

/* Memory runs out at each point there is: an error, or a denial; and no more than that. */
static void test_no_memory(void **state)
{
#ifdef HK_WITH_FAULT
	static const char text[] = "include two\ndeny read $HOME/**\nredirect * /r => /s\n"
				   "hide * /a/*/[b]/**\nask write /**/x";
	const char *paths[] = {"/home/me/x", "/a/b/b/c", "/one/two/three", "/a/x"};
	bool fired = true;

	for (uint64_t nth = 1; fired; nth++) {
		struct hk_err err = HK_ERR_INIT;
		struct hk_rules *rules = NULL;
		int r;

		hk_fault_arm(HK_FAULT_ALLOC, nth);
		r = hk_rules_parse("p", text, &rules_env, &rules, &err);
		if (r == 0) {
			for (size_t i = 0; i < HK_ARRAY_SIZE(paths); i++) {
				hk_place place = rules_walk(rules, paths[i]);

				(void)hk_rules_at(rules, place, HK_CLASS_READ);
				assert_true(place != HK_PLACE_NOWHERE || hk_fault_fired());
			}
		}
		fired = hk_fault_fired();
		hk_fault_arm(0, 0);
		assert_true(r == 0 || fired);
		hk_rules_free(rules);
	}
	for (uint64_t nth = 1; nth == 1 || fired; nth++) {
		struct hk_rules *rules = NULL;
		int r;

		hk_fault_arm(HK_FAULT_ALLOC, nth);
		r = hk_rules_parse_fusebox(
			"acl", "clearall\naddwrite /a\naddpredict /b\n", &rules, NULL);
		if (r == 0) {
			r = hk_rules_add(rules, HK_VERDICT_HIDE, 1, "/d/e", true);
		}
		fired = hk_fault_fired();
		hk_fault_arm(0, 0);
		assert_true(fired ? r == -ENOMEM : r == 0);
		hk_rules_free(rules);
	}
	hk_fault_arm(0, 0);
#else
	skip();
#endif
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_last_match_wins),
		cmocka_unit_test(test_no_rules),
		cmocka_unit_test(test_uniform),
		cmocka_unit_test(test_may_hide),
		cmocka_unit_test(test_add),
		cmocka_unit_test(test_as_the_plain_matcher),
		cmocka_unit_test(test_names_need_no_memory),
		cmocka_unit_test(test_long_names),
		cmocka_unit_test(test_too_many_places),
		cmocka_unit_test(test_many_rules),
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
