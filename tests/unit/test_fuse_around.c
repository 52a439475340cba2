/* SPDX-License-Identifier: ISC */
/*
 * Ways around the rules that a hostile guest, or just a program, may look for: each must end where
 * the rules say.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/state.h"
#include "base/util.h"
#include "fuse_judged.h"

/* FMODE_EXEC, as an execve's OPEN has it. */
enum { TO_EXECUTE = 1 << 5 };

/* How many lines of the log have both words? No events after it. */
static unsigned count_logged(const char *a, const char *b)
{
	unsigned count = 0;

	read_log();
	for (char *line = log_text; *line != '\0';) {
		char *end = strchr(line, '\n');

		assert_non_null(end);
		*end = '\0';
		count += strstr(line, a) != NULL && strstr(line, b) != NULL;
		*end = '\n';
		line = end + 1;
	}
	return count;
}

static void listing_from_the_middle(void **state)
{
	struct fuse_entry_out entry;
	char buf[4096];

	(void)state;
	start("deny list /x/shut\n");
	assert_int_equal(fc_mkdir(&fc, fc.root, "shut", &entry), 0);
	assert_int_equal(fc_readdir(&fc, entry.nodeid, 0, 0, false, buf, sizeof(buf)), -EACCES);
	assert_int_equal(fc_readdir(&fc, entry.nodeid, 0, 1, false, buf, sizeof(buf)), -EACCES);
	assert_int_equal(fc_readdir(&fc, entry.nodeid, 0, 1, true, buf, sizeof(buf)), -EACCES);
	assert_int_equal(count_logged("\"deny\"", "list"), 3);
	stop();
}

/* A listing is one event, however many requests it takes. */
static void listing_is_told_once(void **state)
{
	uint64_t offset = 0;
	unsigned requests = 0;
	char buf[128];
	int len;

	(void)state;
	start("deny list /x/shut\n");
	for (unsigned i = 0; i < 8; i++) {
		char name[] = "file-a";

		name[5] += (char)i;
		fc_host_file(fc.inside, name, "text");
	}
	while ((len = fc_readdir(&fc, fc.root, 0, offset, false, buf, sizeof(buf))) > 0) {
		struct fuse_dirent dirent;

		/* To the last one of this reply. */
		for (size_t at = 0; at < (size_t)len;) {
			memcpy(&dirent, buf + at, FUSE_NAME_OFFSET);
			offset = dirent.off;
			at += (size_t)hk_align_up(
				FUSE_NAME_OFFSET + dirent.namelen, sizeof(uint64_t));
		}
		requests++;
	}
	assert_int_equal(len, 0);
	assert_true(requests > 1);
	/* At its end once more, as a program that reads until there is nothing. */
	assert_int_equal(fc_readdir(&fc, fc.root, 0, offset, false, buf, sizeof(buf)), 0);
	assert_int_equal(count_logged("\"allow\"", "\"list\""), 1);
	stop();
}

static void running_is_not_writing(void **state)
{
	(void)state;
	start("deny write /x/prog\n"
	      "deny read /x/hidden\n"
	      "deny exec /x/data\n");
	fc_host_file(fc.inside, "prog", "text");
	fc_host_file(fc.inside, "hidden", "text");
	fc_host_file(fc.inside, "data", "text");
	assert_int_equal(open_of("prog", O_RDONLY | TO_EXECUTE), 0);
	assert_int_equal(open_of("prog", O_WRONLY | TO_EXECUTE), -EACCES);
	assert_int_equal(open_of("prog", O_RDWR | TO_EXECUTE), -EACCES);
	assert_int_equal(open_of("prog", O_RDONLY | O_TRUNC | TO_EXECUTE), -EACCES);
	assert_true(fc_host_has(fc.inside, "prog", "text"));
	/* What may be run need not be what may be read. */
	assert_int_equal(open_of("hidden", O_RDONLY), -EACCES);
	assert_int_equal(open_of("hidden", O_RDONLY | TO_EXECUTE), 0);
	assert_int_equal(open_of("hidden", O_RDWR | TO_EXECUTE), -EACCES);
	assert_int_equal(open_of("data", O_RDONLY | TO_EXECUTE), -EACCES);
	assert_int_equal(open_of("data", O_RDONLY), 0);
	stop();
}

static void attributes_together(void **state)
{
	struct fuse_setattr_in in = {.mode = 0700, .size = 1, .mtime = 1};
	struct stat st;
	uint64_t node;

	(void)state;
	start("deny metadata /x/kept\n"
	      "deny write /x/fixed\n");
	fc_host_file(fc.inside, "kept", "text");
	node = fc_node(&fc, fc.root, "kept");
	in.valid = FATTR_MODE | FATTR_SIZE;
	assert_int_equal(fc_setattr(&fc, node, &in), -EPERM);
	in.valid = FATTR_MTIME | FATTR_SIZE;
	assert_int_equal(fc_setattr(&fc, node, &in), -EPERM);
	assert_int_equal(fstatat(fc.inside_fd, "kept", &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0644);
	assert_int_equal(st.st_size, strlen("text"));
	fc_host_file(fc.inside, "fixed", "text");
	in.valid = FATTR_MODE | FATTR_SIZE;
	assert_int_equal(fc_setattr(&fc, fc_node(&fc, fc.root, "fixed"), &in), -EACCES);
	assert_true(fc_host_has(fc.inside, "fixed", "text"));
	/* Each is told of. */
	fc_host_file(fc.inside, "free", "text");
	assert_int_equal(fc_setattr(&fc, fc_node(&fc, fc.root, "free"), &in), 0);
	assert_int_equal(count_logged("\"/x/kept\"", "\"deny\""), 2);
	assert_int_equal(count_logged("\"/x/free\"", "\"truncate\""), 1);
	assert_int_equal(count_logged("\"/x/free\"", "\"chmod\""), 1);
	stop();
}

/* Answers: no to what is called "no" */
static char asked[8][64];
static unsigned asked_count;

static bool answer(struct hk_fuse_owner *owner, const char *path, const char *class_name, pid_t pid)
{
	(void)owner;
	(void)pid;
	must(asked_count < HK_ARRAY_SIZE(asked));
	must(snprintf(asked[asked_count++], sizeof(asked[0]), "%s %s", class_name, path) > 0);
	return strstr(path, "no") == NULL;
}

static void start_asked(const char *policy)
{
	start(policy);
	fc.owner.ask = answer;
	asked_count = 0;
}

/* Asked is about the name that the rule is about, whichever of a request's that is. */
static void questions_name_what_they_are_about(void **state)
{
	(void)state;
	start_asked("ask create /x/prot/*\n"
		    "ask write /x/prot/*\n");
	assert_int_equal(mkdirat(fc.inside_fd, "prot", 0755), 0);
	fc_host_file(fc.inside, "a", "text");
	fc_host_file(fc.inside, "b", "text");
	fc_host_file(fc.inside, "prot/linked", "text");
	{
		uint64_t prot = fc_node(&fc, fc.root, "prot");

		assert_int_equal(fc_rename(&fc, fc.root, "a", prot, "p1", 0), 0);
		assert_int_equal(fc_rename(&fc, fc.root, "b", prot, "no", 0), -EACCES);
		assert_int_equal(fc_rename(&fc, fc.root, "b", prot, "p2", 0), 0);
		assert_int_equal(asked_count, 3);
		assert_string_equal(asked[0], "create /x/prot/p1");
		assert_string_equal(asked[1], "create /x/prot/no");
		assert_string_equal(asked[2], "create /x/prot/p2");
		assert_int_equal(
			fc_link(&fc, fc_node(&fc, prot, "linked"), fc.root, "elsewhere"), 0);
		assert_string_equal(asked[3], "write /x/prot/linked");
	}
	stop();
}

/* By no further name is more allowed than by the first, of any class. */
static void links_lend_nothing(void **state)
{
	struct fuse_entry_out entry;
	uint64_t d;

	(void)state;
	start_asked("deny metadata /x/d/meta\n"
		    "deny exec /x/d/exec\n"
		    "ask metadata /x/d/no\n"
		    "deny metadata,exec /x/e/*\n");
	assert_int_equal(fc_mkdir(&fc, fc.root, "d", &entry), 0);
	d = entry.nodeid;
	assert_int_equal(fc_mkdir(&fc, fc.root, "e", &entry), 0);
	fc_host_file(fc.inside, "d/meta", "text");
	fc_host_file(fc.inside, "d/exec", "text");
	fc_host_file(fc.inside, "d/no", "text");
	assert_int_equal(fc_link(&fc, fc_node(&fc, d, "meta"), fc.root, "alias"), -EPERM);
	assert_int_equal(fc_link(&fc, fc_node(&fc, d, "exec"), fc.root, "alias"), -EACCES);
	assert_int_equal(fc_link(&fc, fc_node(&fc, d, "no"), fc.root, "alias"), -EPERM);
	assert_int_equal(asked_count, 1);
	assert_int_equal(fc_node(&fc, fc.root, "alias"), 0);
	/* Where the new name allows no more, it may be. */
	assert_int_equal(fc_link(&fc, fc_node(&fc, d, "meta"), entry.nodeid, "alias"), 0);
	assert_int_equal(fc_link(&fc, fc_node(&fc, d, "exec"), entry.nodeid, "other"), 0);
	assert_int_equal(count_logged("\"link\"", "\"deny\""), 2);
	stop();
}

/* A second server, that a guest has begun to use. */
static void start_again(struct fc *again, const struct hk_fuse_export *export)
{
	struct fuse_init_in in = {.major = FUSE_KERNEL_VERSION,
		.minor = FUSE_KERNEL_MINOR_VERSION,
		.flags = (uint32_t)FC_FEATURES};

	fc_again(again, &fc, export);
	assert_int_equal(fc_call(again, FUSE_INIT, 0, &(struct fc_part){&in, sizeof(in)}, 1,
				 &again->init, sizeof(again->init))
				 .error,
		0);
}

/*
 * What a guest takes up again is ruled as it was; a stream of anybody's opens nothing that the
 * guest could not.
 */
static void restored_is_ruled(void **state)
{
	struct fuse_open_out shut, run, ask, change;
	struct hk_writer w = {0};
	struct hk_reader r;
	struct fc again = {0};
	struct fc free_rules;
	uint64_t shut_node, run_node, ask_node, both_node, open_node;
	struct hk_fuse_export export = {.root = "/x"};
	struct hk_err err = HK_ERR_INIT;
	char buf[8];

	(void)state;
	start("deny read,write,exec /x/shut\n"
	      "deny read /x/run\n"
	      "ask read,exec /x/asked\n");
	fc_host_file(fc.inside, "open", "text");
	fc_host_file(fc.inside, "run", "text");
	fc_host_file(fc.inside, "asked", "text");
	assert_int_equal(linkat(fc.inside_fd, "open", fc.inside_fd, "shut", 0), 0);
	/* As no rules let it. */
	start_again(&free_rules, NULL);
	shut_node = fc_node(&free_rules, free_rules.root, "shut");
	run_node = fc_node(&free_rules, free_rules.root, "run");
	assert_int_equal(fc_open(&free_rules, shut_node, O_RDONLY, &shut), 0);
	ask_node = fc_node(&free_rules, free_rules.root, "asked");
	assert_int_equal(fc_open(&free_rules, run_node, O_RDONLY, &run), 0);
	assert_int_equal(fc_open(&free_rules, ask_node, O_RDONLY, &ask), 0);
	assert_int_equal(fc_open(&free_rules, run_node, O_RDWR, &change), 0);
	hk_fuse_server_save(free_rules.server, &w);
	fc_drop(&free_rules);
	export.rules = rules;
	fc_again(&again, &fc, &export);
	hk_reader_init(&r, w.data, w.len);
	hk_fuse_server_restore(again.server, &r);
	assert_int_equal(hk_reader_status(&r, &err), 0);
	assert_true(fc_read(&again, shut_node, shut.fh, 0, buf, sizeof(buf)) < 0);
	assert_int_equal(fc_read(&again, run_node, run.fh, 0, buf, sizeof(buf)), 4);
	/* What may be run may be read, but by who writes to it as well. */
	assert_true(fc_read(&again, run_node, change.fh, 0, buf, sizeof(buf)) < 0);
	/* Nobody is asked for it. */
	assert_true(fc_read(&again, ask_node, ask.fh, 0, buf, sizeof(buf)) < 0);
	fc_drop(&again);
	hk_writer_finish(&w);
	/* Two names that are ruled differently stay two nodes. */
	w = (struct hk_writer){0};
	start_again(&again, &export);
	open_node = fc_node(&again, again.root, "open");
	shut_node = fc_node(&again, again.root, "shut");
	assert_true(open_node != shut_node);
	hk_fuse_server_save(again.server, &w);
	fc_drop(&again);
	fc_again(&again, &fc, &export);
	hk_reader_init(&r, w.data, w.len);
	hk_fuse_server_restore(again.server, &r);
	assert_int_equal(hk_reader_status(&r, &err), 0);
	both_node = fc_node(&again, again.root, "open");
	assert_int_equal(both_node, open_node);
	assert_int_equal(fc_node(&again, again.root, "shut"), shut_node);
	assert_int_equal(fc_open(&again, shut_node, O_RDONLY, &shut), -EACCES);
	assert_int_equal(fc_open(&again, open_node, O_RDONLY, &shut), 0);
	fc_drop(&again);
	hk_writer_finish(&w);
	stop();
}

/* Nor does a stream open what an export shows to nobody. */
static void restored_is_public(void **state)
{
	struct hk_fuse_export export = {.root = "/x", .public_only = true};
	struct hk_err err = HK_ERR_INIT;
	struct fuse_open_out open, shut;
	struct hk_writer w = {0};
	struct hk_reader r;
	struct fc open_to_all, again;
	uint64_t open_node, shut_node;
	char buf[8];

	(void)state;
	start("");
	fc_host_file(fc.inside, "open", "text");
	fc_host_file(fc.inside, "shut", "text");
	assert_int_equal(fchmodat(fc.inside_fd, "shut", 0600, 0), 0);
	start_again(&open_to_all, NULL);
	open_node = fc_node(&open_to_all, open_to_all.root, "open");
	shut_node = fc_node(&open_to_all, open_to_all.root, "shut");
	assert_int_equal(fc_open(&open_to_all, open_node, O_RDONLY, &open), 0);
	assert_int_equal(fc_open(&open_to_all, shut_node, O_RDONLY, &shut), 0);
	hk_fuse_server_save(open_to_all.server, &w);
	fc_drop(&open_to_all);
	fc_again(&again, &fc, &export);
	hk_reader_init(&r, w.data, w.len);
	hk_fuse_server_restore(again.server, &r);
	assert_int_equal(hk_reader_status(&r, &err), 0);
	assert_int_equal(fc_read(&again, open_node, open.fh, 0, buf, sizeof(buf)), 4);
	assert_true(fc_read(&again, shut_node, shut.fh, 0, buf, sizeof(buf)) < 0);
	fc_drop(&again);
	hk_writer_finish(&w);
	stop();
}

/* Questions that nobody answers yet. */
enum { CROWD = HK_FUSE_WAITING_MAX + 1 };

static sem_t come, answered;
static atomic_uint questions, refused;

static bool answer_late(
	struct hk_fuse_owner *owner, const char *path, const char *class_name, pid_t pid)
{
	(void)owner;
	(void)path;
	(void)class_name;
	(void)pid;
	atomic_fetch_add(&questions, 1);
	sem_post(&come);
	while (sem_wait(&answered) < 0) {
	}
	sem_post(&answered); /* for the next one */
	return true;
}

static void *ask_for(void *arg)
{
	struct fuse_entry_out entry;
	char name[16];

	must(snprintf(name, sizeof(name), "asked-%u", *(unsigned *)arg) > 0);
	if (fc_mkdir(&fc, fc.root, name, &entry) < 0) {
		atomic_fetch_add(&refused, 1);
		sem_post(&come);
	}
	return NULL;
}

/* One is asked, the others wait, one too many is refused; who has no question goes on. */
static void questions_hold_up_nobody(void **state)
{
	pthread_t threads[CROWD];
	unsigned numbers[CROWD];
	struct fuse_entry_out entry;

	(void)state;
	start("ask create /x/asked-*\n");
	fc.owner.ask = answer_late;
	sem_init(&come, 0, 0);
	sem_init(&answered, 0, 0);
	for (unsigned i = 0; i < CROWD; i++) {
		numbers[i] = i;
		must(pthread_create(&threads[i], NULL, ask_for, &numbers[i]) == 0);
	}
	/* The question, and the refusal. */
	while (sem_wait(&come) < 0) {
	}
	while (sem_wait(&come) < 0) {
	}
	assert_int_equal(atomic_load(&questions), 1);
	assert_int_equal(atomic_load(&refused), 1);
	assert_int_equal(hk_fuse_server_waiting(fc.server), HK_FUSE_WAITING_MAX);
	assert_int_equal(fc_mkdir(&fc, fc.root, "plain", &entry), 0);
	sem_post(&answered);
	for (unsigned i = 0; i < CROWD; i++) {
		pthread_join(threads[i], NULL);
	}
	assert_int_equal(atomic_load(&questions), HK_FUSE_WAITING_MAX);
	assert_int_equal(atomic_load(&refused), 1);
	assert_int_equal(hk_fuse_server_waiting(fc.server), 0);
	sem_destroy(&come);
	sem_destroy(&answered);
	stop();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(listing_from_the_middle),
		cmocka_unit_test(listing_is_told_once),
		cmocka_unit_test(running_is_not_writing),
		cmocka_unit_test(attributes_together),
		cmocka_unit_test(questions_name_what_they_are_about),
		cmocka_unit_test(links_lend_nothing),
		cmocka_unit_test(restored_is_ruled),
		cmocka_unit_test(restored_is_public),
		cmocka_unit_test(questions_hold_up_nobody),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
