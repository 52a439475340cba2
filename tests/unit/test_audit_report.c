/* SPDX-License-Identifier: ISC */
/* What the audit says in the end: sums, reports, and the policy that is learnt. */
#include "audit_fixture.h"

static enum hk_verdict verdict_of(struct hk_rules *rules, const char *path, enum hk_class class)
{
	hk_place place = hk_rules_root(rules);
	char name[4096];

	while (*(path += strspn(path, "/")) != '\0') {
		size_t len = strcspn(path, "/");

		assert_true(len < sizeof(name));
		memcpy(name, path, len);
		name[len] = '\0';
		place = hk_rules_step(rules, place, name);
		path += len;
	}
	return hk_rules_at(rules, place, class).verdict;
}

/* Sums and reports */

/* A small build: reads headers, writes objects, is refused something. */
static void tell_build(struct fixture *f)
{
	char path[128];

	tell(f,
		(struct hk_audit_event){
			.op = HK_EVENT_EXEC, .class = HK_CLASS_EXEC, .path = "/usr/bin/cc"});
	tell(f, (struct hk_audit_event){.op = HK_EVENT_OPEN, .path = "/etc/ld.so.cache"});
	tell(f, (struct hk_audit_event){.op = HK_EVENT_LIST, .class = HK_CLASS_LIST, .path = CWD});
	for (unsigned i = 0; i < 30; i++) {
		snprintf(path, sizeof(path), "/usr/include/h%02u.h", i);
		tell(f, (struct hk_audit_event){.op = HK_EVENT_OPEN, .path = path});
		tell(f,
			(struct hk_audit_event){
				.op = HK_EVENT_CLOSE, .path = path, .bytes_read = 1000});
		snprintf(path, sizeof(path), CWD "/src/%02u.c", i);
		tell(f, (struct hk_audit_event){.op = HK_EVENT_OPEN, .path = path});
		snprintf(path, sizeof(path), "/tmp/cc%c%dYz%c8.s", 'A' + i % 26, 1 + i % 9,
			'Q' + i % 9);
		tell(f,
			(struct hk_audit_event){.op = HK_EVENT_CREATE,
				.class = HK_CLASS_CREATE,
				.path = path,
				.flags = O_RDWR});
		tell(f,
			(struct hk_audit_event){
				.op = HK_EVENT_UNLINK, .class = HK_CLASS_DELETE, .path = path});
		snprintf(path, sizeof(path), CWD "/build/%02u.o", i);
		tell(f,
			(struct hk_audit_event){.op = HK_EVENT_CREATE,
				.class = HK_CLASS_CREATE,
				.path = path,
				.flags = O_WRONLY});
		tell(f,
			(struct hk_audit_event){.op = HK_EVENT_CLOSE,
				.class = HK_CLASS_WRITE,
				.path = path,
				.bytes_written = 5000});
	}
	tell(f,
		(struct hk_audit_event){.op = HK_EVENT_LOOKUP,
			.path = "/usr/local/include/h00.h",
			.error = ENOENT});
	tell(f,
		(struct hk_audit_event){.op = HK_EVENT_OPEN,
			.class = HK_CLASS_WRITE,
			.path = "/etc/passwd",
			.flags = O_WRONLY,
			.verdict = HK_VERDICT_DENY,
			.rule = 1,
			.error = EACCES});
}

static void test_report_adds_up(void **state)
{
	struct fixture f = begin();
	char *text;
	size_t len;

	(void)state;
	tell_build(&f);
	finish(&f);
	text = report_of(f.audit, hk_audit_report_json, "make \"all\" \xff", &len);
	assert_true(json_is_valid(text, len));
	assert_has(text, "\"command\":\"make \\\"all\\\" \\ufffd\",\"command_hex\":");
	assert_has(text, "\"refused\":1,\"violations\":1");
	assert_has(text,
		"{\"path\":\"/usr/include/"
		"h00.h\",\"read\":1,\"bytes_read\":1000,\"commands\":[0]}");
	assert_has(text,
		"{\"path\":\"" CWD "/build/"
		"29.o\",\"write\":1,\"create\":1,\"bytes_written\":5000,"
		"\"created\":true,\"commands\":[0]}");
	assert_has(text,
		"{\"path\":\"/etc/"
		"passwd\",\"refused\":1,\"refused_classes\":[\"write\"],\"rule\":1,\"refused_by\":["
		"0]"
		"}");
	assert_has(text, "{\"path\":\"/usr/local/include/h00.h\",\"missing\":1");
	assert_has(text, "\"operations\":{\"lookup\":1,\"open\":62,");
	free(text);
	end(&f);
}

static void test_summary_has_changed_directories(void **state)
{
	static const char *const changed[] = {"/srv/dir", "/srv/dir/in/file", "/srv/dir/in"};
	static const char *const made[] = {"/var/new", "/var/new/a", "/var/new/b", "/var/new/c"};
	struct fixture f = begin();
	char *text;

	(void)state;
	for (size_t i = 0; i < HK_ARRAY_SIZE(changed); i++) {
		tell(&f,
			(struct hk_audit_event){.op = HK_EVENT_CHMOD,
				.class = HK_CLASS_METADATA,
				.path = changed[i]});
	}
	/* Of a new one, what was made in it is all there is to tell. */
	for (size_t i = 0; i < HK_ARRAY_SIZE(made); i++) {
		tell(&f,
			(struct hk_audit_event){
				.op = HK_EVENT_CREATE, .class = HK_CLASS_CREATE, .path = made[i]});
	}
	finish(&f);
	text = report_of(f.audit, hk_audit_summary, "make", NULL);
	assert_has(text, "4 created, 3 changed, 0 deleted");
	assert_has(text, "3 files  /srv/dir/\n");
	assert_has(text, "3 files  /var/new/\n");
	free(text);
	end(&f);
}

static void test_summary_is_for_people(void **state)
{
	struct fixture f = begin();
	char *text;

	(void)state;
	tell_build(&f);
	tell(&f,
		(struct hk_audit_event){.op = HK_EVENT_UNLINK,
			.class = HK_CLASS_DELETE,
			.path = HOME "/a\nb\033[m"});
	finish(&f);
	text = report_of(f.audit, hk_audit_summary, "make", NULL);
	assert_has(text, "Files: make\n");
	assert_has(text,
		"61 read (29 KiB), 30 created, 0 changed, 1 deleted (146 KiB written), 1 "
		"refused\n");
	assert_has(text, "/etc/passwd\n");
	assert_has(text, "  146 KiB       30 files  ./build/\n");
	assert_has(text, "29 KiB       30 files  /usr/include/\n");
	assert_has(text, "30 temporary files came and went");
	/* No terminal: no colours; and names cannot bring any. */
	assert_null(strchr(text, '\033'));
	assert_has(text, "~/a\\nb\\x1b[m\n");
	for (const char *at = text; *at != '\0'; at += strcspn(at, "\n") + 1) {
		assert_true(strcspn(at, "\n") <= 100);
	}
	free(text);
	end(&f);
}

static void test_page_keeps_its_data_inside(void **state)
{
	struct fixture f = begin();
	char *text;
	const char *data, *rest;
	size_t len;

	(void)state;
	tell_build(&f);
	tell(&f,
		(struct hk_audit_event){
			.op = HK_EVENT_OPEN, .path = "/x</script><script>alert(1)//"});
	tell(&f, (struct hk_audit_event){.op = HK_EVENT_OPEN, .path = "/<!--<script>"});
	finish(&f);
	text = report_of(f.audit, hk_audit_report_html, "</title></script>", &len);
	assert_int_equal(strlen(text), len);
	data = strstr(text, "id=\"data\">");
	assert_non_null(data);
	data += strlen("id=\"data\">");
	rest = strstr(data, "</script>");
	assert_non_null(rest);
	assert_true(json_is_valid(data, (size_t)(rest - data)));
	/* The page's own script is all that follows. */
	assert_non_null(strstr(rest + 1, "</script>"));
	assert_null(strstr(strstr(rest + 1, "</script>") + 1, "</script>"));
	assert_has_not(text, "alert(1)</");
	assert_null(strstr(text, "@DATA@"));
	/* Nothing is loaded. */
	assert_has_not(text, "src=");
	assert_has_not(text, "http://");
	assert_has_not(text, "https://");
	free(text);
	end(&f);
}

/* Who used a path is not who was refused it; and to look for what is hidden is not to make it. */
static void test_the_refused_are_named(void **state)
{
	static const char *const programs[] = {"cat", "grep", "wc", "head", "mkdir"};
	struct fixture f = begin();
	char path[64];
	char *text;
	size_t len;

	(void)state;
	for (unsigned i = 0; i < HK_ARRAY_SIZE(programs); i++) {
		pid_t pid = (pid_t)i + 1;

		snprintf(path, sizeof(path), "/bin/%s", programs[i]);
		tell(&f,
			(struct hk_audit_event){.op = HK_EVENT_EXEC,
				.class = HK_CLASS_EXEC,
				.pid = pid,
				.path = path});
		tell(&f, (struct hk_audit_event){.op = HK_EVENT_OPEN, .pid = pid, .path = "/file"});
		tell(&f,
			(struct hk_audit_event){.op = HK_EVENT_LOOKUP,
				.pid = pid,
				.path = "/hidden",
				.verdict = HK_VERDICT_HIDE,
				.error = ENOENT});
	}
	for (const char *const *name = (const char *const[]){"/file", "/hidden", NULL};
		*name != NULL; name++) {
		tell(&f,
			(struct hk_audit_event){.op = HK_EVENT_CREATE,
				.class = HK_CLASS_CREATE,
				.pid = HK_ARRAY_SIZE(programs), /* the last one */
				.path = *name,
				.verdict = HK_VERDICT_DENY,
				.error = EACCES});
	}
	finish(&f);
	text = report_of(f.audit, hk_audit_summary, "make", NULL);
	assert_has(text, "1x  create      /hidden\n           by mkdir; looked for in vain 5x\n");
	assert_has(text, "1x  create      /file\n           by mkdir\n");
	free(text);
	text = report_of(f.audit, hk_audit_report_json, "make", &len);
	assert_has(text,
		"\"read\":5,\"refused\":1,\"refused_classes\":[\"create\"],"
		"\"commands\":[1,2,3,4],\"refused_by\":[5]}");
	assert_has(text, "\"refused\":6,\"refused_lookups\":5,");
	free(text);
	end(&f);
}

static void test_too_many_paths_count_for_directories(void **state)
{
	struct hk_tree tree = {0};
	char bytes[sizeof(struct hk_record) + 128];
	struct hk_record *record = (struct hk_record *)(void *)bytes;

	(void)state;
	assert_int_equal(hk_tree_init(&tree), 0);
	tree.node_limit = 50;
	for (unsigned i = 0; i < 100; i++) {
		memset(bytes, 0, sizeof(bytes));
		record->op = HK_EVENT_OPEN;
		record->path_len = (uint32_t)snprintf(record->paths, 64, "/d/%u/x", i);
		hk_tree_add(&tree, record);
	}
	assert_int_equal(tree.node_count, 50);
	assert_int_equal(tree.events, 100);
	assert_int_equal(tree.beyond_limit, 100 - 24);
	assert_int_equal(tree.nodes[hk_tree_find(&tree, "/d")].done[HK_CLASS_READ], 100 - 24);
	hk_tree_finish(&tree);
}

/* What is learnt */

static char *learn(struct fixture *f)
{
	finish(f);
	return report_of(f->audit, hk_audit_learn, "make", NULL);
}

static void test_learnt_policy_is_short_and_covers(void **state)
{
	struct fixture f = begin();
	struct hk_rules *rules;
	char *text;

	(void)state;
	tell_build(&f);
	text = learn(&f);
	rules = parse(text);
	assert_string_equal(strstr(text, "deny"),
		"deny * /**\n"
		"\n"
		"allow read /etc/ld.so.cache\n"
		"allow read,write,create,delete,list $PWD/**\n"
		"allow read,write,create,delete /tmp/cc??????.s\n"
		"allow read,exec,list /usr/**\n");
	assert_int_equal(verdict_of(rules, CWD, HK_CLASS_LIST), HK_VERDICT_ALLOW);
	assert_int_equal(verdict_of(rules, CWD "/build/x/y", HK_CLASS_WRITE), HK_VERDICT_ALLOW);
	assert_int_equal(verdict_of(rules, "/tmp/ccK9xYz1.s", HK_CLASS_DELETE), HK_VERDICT_ALLOW);
	assert_int_equal(verdict_of(rules, "/tmp/other", HK_CLASS_READ), HK_VERDICT_DENY);
	assert_int_equal(verdict_of(rules, "/etc/passwd", HK_CLASS_WRITE), HK_VERDICT_DENY);
	assert_int_equal(verdict_of(rules, HOME "/.ssh/id", HK_CLASS_READ), HK_VERDICT_DENY);
	hk_rules_free(rules);
	free(text);
	end(&f);
}

static void test_learnt_policy_knows_what_comes_next_time(void **state)
{
	struct fixture f = begin();
	struct hk_rules *rules;
	char *text;

	(void)state;
	/* Made now, there next time: written, listed, replaced. */
	tell(&f,
		(struct hk_audit_event){
			.op = HK_EVENT_MKDIR, .class = HK_CLASS_CREATE, .path = "/srv/new"});
	tell(&f,
		(struct hk_audit_event){.op = HK_EVENT_CREATE,
			.class = HK_CLASS_CREATE,
			.path = "/srv/new/a",
			.flags = O_WRONLY});
	/* Replaced by rename, from a made-up name, in a directory that is nobody's to have. */
	tell(&f,
		(struct hk_audit_event){.op = HK_EVENT_CREATE,
			.class = HK_CLASS_CREATE,
			.path = "/etc/sedAbC123",
			.flags = O_RDWR});
	tell(&f,
		(struct hk_audit_event){.op = HK_EVENT_RENAME,
			.class = HK_CLASS_DELETE,
			.path = "/etc/sedAbC123",
			.other = "/etc/conf"});
	tell(&f,
		(struct hk_audit_event){.op = HK_EVENT_LINK,
			.class = HK_CLASS_CREATE,
			.path = "/srv/to",
			.other = "/srv/from"});
	tell(&f,
		(struct hk_audit_event){
			.op = HK_EVENT_MKDIR, .class = HK_CLASS_CREATE, .path = "/var/tmp.xY12Zw"});
	tell(&f,
		(struct hk_audit_event){.op = HK_EVENT_CREATE,
			.class = HK_CLASS_CREATE,
			.path = "/var/tmp.xY12Zw/in",
			.flags = O_RDWR});
	tell(&f,
		(struct hk_audit_event){.op = HK_EVENT_UNLINK,
			.class = HK_CLASS_DELETE,
			.path = "/var/tmp.xY12Zw/in"});
	tell(&f,
		(struct hk_audit_event){
			.op = HK_EVENT_RMDIR, .class = HK_CLASS_DELETE, .path = "/var/tmp.xY12Zw"});
	/* What failed must fail in the same way. */
	tell(&f,
		(struct hk_audit_event){.op = HK_EVENT_CHMOD,
			.class = HK_CLASS_METADATA,
			.path = "/srv/failed",
			.error = EPERM});
	text = learn(&f);
	rules = parse(text);
	assert_int_equal(verdict_of(rules, "/srv/new", HK_CLASS_LIST), HK_VERDICT_ALLOW);
	assert_int_equal(verdict_of(rules, "/srv/new", HK_CLASS_CREATE), HK_VERDICT_ALLOW);
	assert_int_equal(verdict_of(rules, "/srv/new/a", HK_CLASS_WRITE), HK_VERDICT_ALLOW);
	assert_int_equal(verdict_of(rules, "/srv/new/a", HK_CLASS_DELETE), HK_VERDICT_ALLOW);
	assert_int_equal(verdict_of(rules, "/srv/other", HK_CLASS_CREATE), HK_VERDICT_DENY);
	assert_int_equal(verdict_of(rules, "/etc/sedZyX987", HK_CLASS_CREATE), HK_VERDICT_ALLOW);
	assert_int_equal(verdict_of(rules, "/etc/conf", HK_CLASS_DELETE), HK_VERDICT_ALLOW);
	assert_int_equal(verdict_of(rules, "/etc/shadow", HK_CLASS_READ), HK_VERDICT_DENY);
	assert_int_equal(verdict_of(rules, "/srv/from", HK_CLASS_LINK), HK_VERDICT_ALLOW);
	assert_int_equal(verdict_of(rules, "/srv/from", HK_CLASS_READ), HK_VERDICT_ALLOW);
	assert_int_equal(verdict_of(rules, "/srv/from", HK_CLASS_WRITE), HK_VERDICT_ALLOW);
	assert_int_equal(
		verdict_of(rules, "/var/tmp.Qr34St/out", HK_CLASS_CREATE), HK_VERDICT_ALLOW);
	assert_int_equal(verdict_of(rules, "/srv/failed", HK_CLASS_METADATA), HK_VERDICT_ALLOW);
	assert_int_equal(verdict_of(rules, "/", HK_CLASS_LIST), HK_VERDICT_DENY);
	hk_rules_free(rules);
	free(text);
	end(&f);
}

/* A file made and removed: is another one of its kind learnt? */
static void test_learnt_policy_knows_made_up_names(void **state)
{
	static const struct {
		const char *made, *next;
		enum hk_verdict verdict;
	} rows[] = {
		{"/srv/sedAbC123", "/srv/sedxyzxyz", HK_VERDICT_ALLOW},
		{"/srv/sedcxgpnf", "/srv/sedZyX987", HK_VERDICT_ALLOW},
		{"/srv/seds6xqsp", "/srv/sedESEOS8", HK_VERDICT_ALLOW},
		{"/srv/sedSnoyzw", "/srv/sedcxgpnf", HK_VERDICT_ALLOW},
		{"/tmp/ccserver.s", "/tmp/ccaaaaaa.s", HK_VERDICT_ALLOW},
		{"/srv/ccserver.s", "/srv/ccaaaaaa.s", HK_VERDICT_DENY},
		{"/srv/tmp_obj_NGTSDw", "/srv/tmp_obj_xHIDET", HK_VERDICT_ALLOW},
		{"/srv/tmp_obj_ESEOS8", "/srv/tmp_obj_aB3dE6", HK_VERDICT_ALLOW},
		{"/srv/sedation", "/srv/sedative", HK_VERDICT_DENY},
		{"/srv/Widget.o", "/srv/Gadget.o", HK_VERDICT_DENY},
		{"/srv/README", "/srv/RENAME", HK_VERDICT_DENY},
		{"/srv/file12.o", "/srv/film34.o", HK_VERDICT_DENY},
		{"/srv/parser.o", "/srv/others.o", HK_VERDICT_DENY},
	};

	(void)state;
	for (size_t i = 0; i < HK_ARRAY_SIZE(rows); i++) {
		struct fixture f = begin();
		struct hk_rules *rules;
		char *text;

		tell(&f,
			(struct hk_audit_event){.op = HK_EVENT_CREATE,
				.class = HK_CLASS_CREATE,
				.path = rows[i].made,
				.flags = O_RDWR});
		tell(&f,
			(struct hk_audit_event){.op = HK_EVENT_UNLINK,
				.class = HK_CLASS_DELETE,
				.path = rows[i].made});
		text = learn(&f);
		rules = parse(text);
		assert_int_equal(
			verdict_of(rules, rows[i].made, HK_CLASS_CREATE), HK_VERDICT_ALLOW);
		if (verdict_of(rules, rows[i].next, HK_CLASS_CREATE) != rows[i].verdict) {
			fail_msg("after '%s', '%s':\n%s", rows[i].made, rows[i].next, text);
		}
		hk_rules_free(rules);
		free(text);
		end(&f);
	}
}

static void test_learnt_policy_says_no_again(void **state)
{
	struct fixture f = begin();
	struct hk_rules *rules;
	char *text;

	(void)state;
	for (unsigned i = 0; i < 6; i++) {
		char path[64];

		snprintf(path, sizeof(path), "/srv/www/%u", i);
		tell(&f, (struct hk_audit_event){.op = HK_EVENT_OPEN, .path = path});
		snprintf(path, sizeof(path), "/opt/data/%u", i);
		tell(&f,
			(struct hk_audit_event){.op = HK_EVENT_CREATE,
				.class = HK_CLASS_CREATE,
				.path = path,
				.flags = O_WRONLY,
				.verdict = HK_VERDICT_COW});
	}
	tell(&f,
		(struct hk_audit_event){.op = HK_EVENT_OPEN,
			.path = "/srv/www/secret",
			.verdict = HK_VERDICT_DENY,
			.rule = 1,
			.error = EACCES});
	tell(&f,
		(struct hk_audit_event){.op = HK_EVENT_LOOKUP,
			.path = "/srv/www/.git",
			.verdict = HK_VERDICT_HIDE,
			.error = ENOENT});
	text = learn(&f);
	rules = parse(text);
	assert_int_equal(verdict_of(rules, "/srv/www/new", HK_CLASS_READ), HK_VERDICT_ALLOW);
	assert_int_equal(verdict_of(rules, "/srv/www/new", HK_CLASS_WRITE), HK_VERDICT_DENY);
	assert_int_equal(verdict_of(rules, "/srv/www/secret", HK_CLASS_READ), HK_VERDICT_DENY);
	assert_int_equal(verdict_of(rules, "/srv/www/.git", HK_CLASS_READ), HK_VERDICT_HIDE);
	assert_int_equal(verdict_of(rules, "/opt/data/new", HK_CLASS_CREATE), HK_VERDICT_COW);
	hk_rules_free(rules);
	free(text);
	end(&f);
}

static void tell_made(struct fixture *f, const char *dir, enum hk_verdict verdict)
{
	for (unsigned i = 0; i < 10; i++) {
		char path[64];

		snprintf(path, sizeof(path), CWD "/%s/%u", dir, i);
		tell(f,
			(struct hk_audit_event){.op = HK_EVENT_CREATE,
				.class = HK_CLASS_CREATE,
				.path = path,
				.flags = O_WRONLY,
				.verdict = verdict});
	}
}

/* What was written for good is written for good, what was denied stays denied. */
static void test_learnt_policy_keeps_verdicts_apart(void **state)
{
	struct fixture f = {.log = log_file(),
		.rules = parse("deny write,create,delete,metadata,link /**\n"
			       "allow * $PWD/a/**\n"
			       "cow * $PWD/cow/**\n"
			       "allow * $PWD/[0-9]*\n"
			       "hide * /usr/lib/*\n")};
	struct hk_rules *rules;
	char *text;

	(void)state;
	start(&f, "");
	tell_made(&f, "a", HK_VERDICT_ALLOW);
	tell_made(&f, "cow", HK_VERDICT_COW);
	tell_made(&f, ".", HK_VERDICT_ALLOW);
	tell(&f, (struct hk_audit_event){.op = HK_EVENT_OPEN, .path = "/usr/bin/cc"});
	text = learn(&f);
	rules = parse(text);
	assert_int_equal(verdict_of(rules, CWD "/a/1", HK_CLASS_WRITE), HK_VERDICT_ALLOW);
	assert_int_equal(verdict_of(rules, CWD "/a/new", HK_CLASS_CREATE), HK_VERDICT_ALLOW);
	assert_int_equal(verdict_of(rules, CWD "/cow/1", HK_CLASS_WRITE), HK_VERDICT_COW);
	assert_int_equal(verdict_of(rules, CWD "/cow/new", HK_CLASS_CREATE), HK_VERDICT_COW);
	assert_int_equal(verdict_of(rules, CWD "/1", HK_CLASS_CREATE), HK_VERDICT_ALLOW);
	assert_int_equal(verdict_of(rules, CWD "/new", HK_CLASS_CREATE), HK_VERDICT_DENY);
	assert_int_equal(verdict_of(rules, CWD "/new", HK_CLASS_WRITE), HK_VERDICT_DENY);
	assert_int_equal(verdict_of(rules, "/usr/bin/ld", HK_CLASS_READ), HK_VERDICT_ALLOW);
	hk_rules_free(rules);
	free(text);
	end(&f);
}

/*
 * Where some of a directory's changes were thrown away, and some not, nobody knows of the next one.
 */
static void test_learnt_policy_of_both(void **state)
{
	struct fixture f = {.log = log_file()};
	struct hk_rules *rules;
	char *text;

	(void)state;
	start(&f, "");
	tell_made(&f, "both", HK_VERDICT_ALLOW);
	tell(&f,
		(struct hk_audit_event){.op = HK_EVENT_CREATE,
			.class = HK_CLASS_CREATE,
			.path = CWD "/both/kept-apart",
			.flags = O_WRONLY,
			.verdict = HK_VERDICT_COW});
	text = learn(&f);
	rules = parse(text);
	assert_int_equal(verdict_of(rules, CWD "/both/1", HK_CLASS_CREATE), HK_VERDICT_ALLOW);
	assert_int_equal(
		verdict_of(rules, CWD "/both/kept-apart", HK_CLASS_CREATE), HK_VERDICT_COW);
	assert_int_equal(verdict_of(rules, CWD "/both/new", HK_CLASS_CREATE), HK_VERDICT_DENY);
	hk_rules_free(rules);
	free(text);
	end(&f);
}

static void test_learnt_policy_quotes_names(void **state)
{
	static const char *const names[] = {"/srv/a*b", "/srv/[x]", "/srv/$HOME", "/srv/ x ",
		"/srv/a\nb", "/srv/#", "/srv/\xff\xfe", "/srv/\\x41", "/srv/\"q\"", "/srv/a # b",
		"/srv/a => b"};
	struct hk_rules *rules;
	char *text;

	(void)state;
	for (size_t i = 0; i < HK_ARRAY_SIZE(names); i++) {
		struct fixture f = begin();

		tell(&f, (struct hk_audit_event){.op = HK_EVENT_OPEN, .path = names[i]});
		text = learn(&f);
		rules = parse(text);
		assert_int_equal(verdict_of(rules, names[i], HK_CLASS_READ), HK_VERDICT_ALLOW);
		assert_int_equal(verdict_of(rules, "/srv/aXb", HK_CLASS_READ), HK_VERDICT_DENY);
		hk_rules_free(rules);
		free(text);
		end(&f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_report_adds_up),
		cmocka_unit_test(test_summary_is_for_people),
		cmocka_unit_test(test_summary_has_changed_directories),
		cmocka_unit_test(test_page_keeps_its_data_inside),
		cmocka_unit_test(test_the_refused_are_named),
		cmocka_unit_test(test_too_many_paths_count_for_directories),
		cmocka_unit_test(test_learnt_policy_is_short_and_covers),
		cmocka_unit_test(test_learnt_policy_knows_what_comes_next_time),
		cmocka_unit_test(test_learnt_policy_knows_made_up_names),
		cmocka_unit_test(test_learnt_policy_says_no_again),
		cmocka_unit_test(test_learnt_policy_keeps_verdicts_apart),
		cmocka_unit_test(test_learnt_policy_of_both),
		cmocka_unit_test(test_learnt_policy_quotes_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
