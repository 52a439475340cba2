/* SPDX-License-Identifier: ISC */
/* The audit: the log's lines, the queue behind a slow or a dead reader, sums, reports, and the policy that is learnt. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <setjmp.h>
#include <cmocka.h>

#include "base/fault.h"
#include "base/str.h"
#include "fuse/audit_impl.h"
#include "json_check.h"

#define HOME      "/home/anna"
#define CWD       "/home/anna/work"
#define START_NS  UINT64_C(1795276645123456789) /* 2026-11-21T15:57:25.123456789Z */
#define HUGE_PATH 60000

/* Helpers */

struct fixture {
	struct hk_audit *audit;
	struct hk_rules *rules;
	int log; /* a file */
	char *text;
	size_t len;
};

static int log_file(void)
{
	FILE *file = tmpfile();
	int fd;

	assert_non_null(file);
	fd = dup(fileno(file));
	fclose(file);
	assert_true(fd >= 0);
	return fd;
}

static void start(struct fixture *f, const char *proc)
{
	struct hk_err err = HK_ERR_INIT;
	struct hk_audit_options options = {
		.log_fd = f->log,
		.rules = f->rules,
		.home = HOME "/",
		.cwd = CWD,
		.proc = proc,
	};

	assert_int_equal(hk_audit_create(&options, &f->audit, &err), 0);
}

static struct fixture begin(void)
{
	struct fixture f = {.log = log_file()};

	start(&f, "");
	return f;
}

static void tell(struct fixture *f, struct hk_audit_event event)
{
	event.time_ns = event.time_ns != 0 ? event.time_ns : START_NS;
	event.exact = true;
	hk_audit_event(f->audit, &event);
}

static void finish(struct fixture *f)
{
	struct hk_err err = HK_ERR_INIT;

	assert_int_equal(hk_audit_finish(f->audit, &err), 0);
	free(f->text);
	f->len = (size_t)lseek(f->log, 0, SEEK_END);
	f->text = malloc(f->len + 1);
	assert_non_null(f->text);
	assert_int_equal(pread(f->log, f->text, f->len, 0), f->len);
	f->text[f->len] = '\0';
}

static void end(struct fixture *f)
{
	hk_audit_free(f->audit);
	hk_rules_free(f->rules);
	free(f->text);
	close(f->log);
}

/* Line @number of the log, from 0: "begin" is the first. It must be JSON. Good until the next call. */
static const char *line(const struct fixture *f, unsigned number)
{
	static char *copy;
	const char *at = f->text;

	while (number-- > 0) {
		at = strchr(at, '\n');
		assert_non_null(at);
		at++;
	}
	assert_non_null(strchr(at, '\n'));
	free(copy);
	copy = strndup(at, (size_t)(strchr(at, '\n') - at));
	assert_non_null(copy);
	assert_true(json_is_valid(copy, strlen(copy)));
	return copy;
}

static void assert_has(const char *text, const char *part)
{
	if (strstr(text, part) == NULL) {
		fail_msg("'%s' is not in '%s'", part, text);
	}
}

static void assert_has_not(const char *text, const char *part)
{
	if (strstr(text, part) != NULL) {
		fail_msg("'%s' is in '%s'", part, text);
	}
}

typedef int report_fn(struct hk_audit *audit, FILE *to, const char *command);

static char *report_of(
	struct hk_audit *audit, report_fn *report, const char *command, size_t *ret_len)
{
	char *text = NULL;
	size_t len = 0;
	FILE *to = open_memstream(&text, &len);

	assert_non_null(to);
	assert_int_equal(report(audit, to, command), 0);
	fclose(to);
	if (ret_len != NULL) {
		*ret_len = len;
	}
	return text;
}

static const char *variable(struct hk_rules_env *env, const char *name)
{
	(void)env;
	return strcmp(name, "HOME") == 0 ? HOME : strcmp(name, "PWD") == 0 ? CWD : NULL;
}

static struct hk_rules *parse(const char *text)
{
	struct hk_rules_env env = {.variable = variable};
	struct hk_rules *rules;
	struct hk_err err = HK_ERR_INIT;

	if (hk_rules_parse("policy", text, &env, &rules, &err) != 0) {
		fail_msg("%s in:\n%s", hk_err_text(&err), text);
	}
	return rules;
}

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

/* Lines */

static void test_every_operation_has_a_line(void **state)
{
	struct fixture f = begin();

	(void)state;
	for (unsigned op = 0; op < HK_EVENT_COUNT; op++) {
		tell(&f,
			(struct hk_audit_event){
				.op = op, .path = "/a b/\"c\"", .pid = 7, .uid = 1000});
	}
	finish(&f);
	assert_has(line(&f, 0), "\"op\":\"begin\",\"version\":1");
	for (unsigned op = 0; op < HK_EVENT_COUNT; op++) {
		char wanted[64];

		snprintf(wanted, sizeof(wanted), "\"op\":\"%s\"", hk_event_op_name(op));
		assert_has(line(&f, op + 1), wanted);
		assert_has(line(&f, op + 1),
			"{\"time\":\"2026-11-21T15:57:25.123456789Z\",\"pid\":7,\"ppid\":0,\"uid\":"
		        "1000,\"command\":\"\"");
		assert_has(line(&f, op + 1), "\"path\":\"/a b/\\\"c\\\"\"");
		assert_has(line(&f, op + 1), "\"verdict\":\"allow\"");
	}
	assert_has(line(&f, HK_EVENT_COUNT + 1), "\"op\":\"end\",\"events\":20,\"violations\":0");
	end(&f);
}

static void test_fields_follow_the_operation(void **state)
{
	struct fixture f = {.log = log_file(), .rules = parse("allow * /**\ndeny write /etc/**\n")};

	(void)state;
	start(&f, "");
	tell(&f,
		(struct hk_audit_event){.op = HK_EVENT_OPEN,
			.path = "/x",
			.flags = O_RDWR | O_CREAT | O_TRUNC | 0100000 | 0x20});
	tell(&f,
		(struct hk_audit_event){.op = HK_EVENT_MKDIR,
			.class = HK_CLASS_CREATE,
			.path = "/x",
			.flags = 0750,
			.error = EEXIST});
	tell(&f,
		(struct hk_audit_event){.op = HK_EVENT_RENAME,
			.class = HK_CLASS_DELETE,
			.path = "/x",
			.other = "/y"});
	tell(&f,
		(struct hk_audit_event){.op = HK_EVENT_OPEN,
			.class = HK_CLASS_WRITE,
			.path = "/etc/x",
			.flags = O_WRONLY,
			.verdict = HK_VERDICT_DENY,
			.rule = 2,
			.error = EACCES});
	tell(&f,
		(struct hk_audit_event){.op = HK_EVENT_CLOSE,
			.path = "/x",
			.bytes_read = 1234567,
			.bytes_written = UINT64_MAX});
	hk_audit_event(f.audit,
		&(struct hk_audit_event){.op = HK_EVENT_CLOSE, .path = "/x", .error = 4000});
	assert_int_equal(hk_audit_violations(f.audit), 1);
	finish(&f);
	assert_has(line(&f, 1), "\"flags\":\"O_RDWR|O_CREAT|O_TRUNC\"");
	assert_has_not(line(&f, 1), "error");
	assert_has(line(&f, 2), "\"mode\":\"0750\",\"verdict\":\"allow\",\"error\":\"EEXIST\"}");
	assert_has(line(&f, 3), "\"path\":\"/x\",\"other\":\"/y\"");
	assert_has(line(&f, 4),
		"\"verdict\":\"deny\",\"rule\":2,\"rule_text\":\"policy:2: deny write "
	        "/etc/**\",\"error\":\"EACCES\"}");
	assert_has(line(&f, 5), "\"bytes_read\":1234567,\"bytes_written\":18446744073709551615}");
	assert_has(line(&f, 6), "\"error\":\"E4000\"");
	assert_has(line(&f, 6), "\"exact\":false}");
	end(&f);
}

static void test_names_are_bytes(void **state)
{
	struct fixture f = begin();
	char path[260] = "/";
	char hex[600] = "\"path_hex\":\"2f";
	size_t len = 1;

	(void)state;
	for (unsigned c = 1; c < 256; c++) {
		if (c != '/') {
			path[len++] = (char)c;
			snprintf(hex + strlen(hex), 3, "%02x", c);
		}
	}
	snprintf(hex + strlen(hex), 2, "\"");
	tell(&f, (struct hk_audit_event){.path = path});
	tell(&f,
		(struct hk_audit_event){
			.path = "/gr\xc3\xbc\xc3\x9f/\xf0\x9f\x90\xa7", .other = "/\xff"});
	/* Overlong, a surrogate, beyond Unicode, cut short; C1 and DEL are escaped, but are text. */
	tell(&f, (struct hk_audit_event){.path = "/\xc0\xaf\xed\xa0\x80\xf4\x90\x80\x80\xe2\x82"});
	tell(&f, (struct hk_audit_event){.path = "/\xc2\x9b\x7f</script>"});
	finish(&f);
	assert_has(line(&f, 1), hex);
	assert_has(line(&f, 2),
		"\"path\":\"/gr\xc3\xbc\xc3\x9f/\xf0\x9f\x90\xa7\",\"other\":\"/"
	        "\\ufffd\",\"other_hex\":\"2fff\"");
	assert_has(line(&f, 3), "\"path_hex\":\"2fc0afeda080f4908080e282\"");
	assert_has(line(&f, 4), "\"path\":\"/\\u009b\\u007f\\u003c/script>\",\"verdict\"");
	end(&f);
}

static void test_huge_paths(void **state)
{
	struct fixture f = begin();
	char *path = malloc(300001);

	(void)state;
	assert_non_null(path);
	memset(path, '\1', 300000); /* six bytes each as JSON */
	path[0] = '/';
	path[300000] = '\0';
	path[HUGE_PATH] = '\0';
	tell(&f, (struct hk_audit_event){.path = path, .other = path});
	path[HUGE_PATH] = '\1';
	tell(&f, (struct hk_audit_event){.path = path});
	tell(&f, (struct hk_audit_event){.path = ""});
	finish(&f);
	assert_has_not(line(&f, 1), "\"cut\"");
	assert_true(strlen(line(&f, 1)) > 2 * 6 * (HUGE_PATH - 1));
	assert_has(line(&f, 2), "\"cut\":true");
	assert_true(strlen(line(&f, 2)) > 6 * (HK_AUDIT_PATH_MAX - 1));
	assert_has(line(&f, 3), "\"path\":\"\"");
	free(path);
	end(&f);
}

/* The queue */

enum { SLOW_EVENTS = 20000, THREADS = 4, THREAD_EVENTS = 4000 };

struct reader {
	int fd;
	bool slow;
	char *text;
	size_t len;
};

/* Reads all, in small bites with pauses where it is slow. */
static void *read_all(void *argument)
{
	struct reader *reader = argument;
	FILE *to = open_memstream(&reader->text, &reader->len);
	char buf[4096];
	ssize_t n;
	unsigned bites = 0;

	while ((n = read(reader->fd, buf, sizeof(buf))) > 0) {
		fwrite(buf, 1, (size_t)n, to);
		if (reader->slow && ++bites < 100) {
			nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
		}
	}
	fclose(to);
	return NULL;
}

struct pipe_log {
	struct fixture f;
	struct reader reader;
	pthread_t thread;
};

static void open_pipe(struct pipe_log *p, bool slow, int flags)
{
	int fds[2];

	*p = (struct pipe_log){0};
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	p->reader = (struct reader){.fd = fds[0], .slow = slow};
	p->f.log = fds[1];
	assert_int_equal(fcntl(fds[1], F_SETFL, flags), 0);
	assert_int_equal(pthread_create(&p->thread, NULL, read_all, &p->reader), 0);
	start(&p->f, "");
}

static void close_pipe(struct pipe_log *p)
{
	struct hk_err err = HK_ERR_INIT;

	assert_int_equal(hk_audit_finish(p->f.audit, &err), 0);
	close(p->f.log);
	p->f.log = -1;
	pthread_join(p->thread, NULL);
	close(p->reader.fd);
}

static void check_slow_reader(int flags)
{
	struct pipe_log p;
	const char *at;
	char path[300];

	open_pipe(&p, true, flags);
	for (unsigned i = 0; i < SLOW_EVENTS; i++) {
		snprintf(path, sizeof(path), "/%06u/%0200d", i, 0);
		tell(&p.f, (struct hk_audit_event){.path = path});
	}
	close_pipe(&p);
	assert_true(hk_audit_results(p.f.audit)->blocked_times > 0);
	assert_true(hk_audit_results(p.f.audit)->blocked_ns > 0);
	assert_int_equal(hk_audit_results(p.f.audit)->lines_lost, 0);
	at = p.reader.text;
	for (unsigned i = 0; i < SLOW_EVENTS; i++) {
		snprintf(path, sizeof(path), "\"path\":\"/%06u/", i);
		at = strstr(at, path);
		assert_non_null(at);
	}
	assert_has(at, "\"op\":\"end\",\"events\":20000");
	free(p.reader.text);
	end(&p.f);
}

static void test_slow_reader_loses_nothing(void **state)
{
	(void)state;
	check_slow_reader(0);
}

static void test_slow_reader_without_blocking(void **state)
{
	(void)state;
	check_slow_reader(O_NONBLOCK);
}

static void test_closed_pipe_is_told(void **state)
{
	struct fixture f = {0};
	struct hk_err err = HK_ERR_INIT;
	int fds[2];
	char *text;

	(void)state;
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	close(fds[0]);
	f.log = fds[1];
	start(&f, ""); /* no SIGPIPE ends us */
	for (unsigned i = 0; i < 5000; i++) {
		tell(&f, (struct hk_audit_event){.op = HK_EVENT_OPEN, .path = "/x"});
	}
	assert_int_equal(hk_audit_finish(f.audit, &err), -EPIPE);
	assert_string_equal(
		hk_err_text(&err), "audit log: 5000 events were not written: Broken pipe");
	/* The sums are right all the same. */
	text = report_of(f.audit, hk_audit_report_json, "x", NULL);
	assert_has(text, "\"events\":5000");
	assert_has(text, "\"lines_lost\":5000");
	free(text);
	end(&f);
}

struct teller {
	struct fixture *f;
	unsigned number;
	pthread_t thread;
};

static void *tell_many(void *argument)
{
	struct teller *teller = argument;
	char path[64];

	for (unsigned i = 0; i < THREAD_EVENTS; i++) {
		snprintf(path, sizeof(path), "/t%u/%06u", teller->number, i);
		tell(teller->f, (struct hk_audit_event){.path = path});
	}
	return NULL;
}

static void test_each_threads_order_is_kept(void **state)
{
	struct pipe_log p;
	struct teller tellers[THREADS];
	unsigned next[THREADS] = {0};
	unsigned count = 0;

	(void)state;
	open_pipe(&p, false, 0);
	for (unsigned i = 0; i < THREADS; i++) {
		tellers[i] = (struct teller){.f = &p.f, .number = i};
		assert_int_equal(
			pthread_create(&tellers[i].thread, NULL, tell_many, &tellers[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_join(tellers[i].thread, NULL);
	}
	close_pipe(&p);
	for (const char *at = p.reader.text; (at = strstr(at, "\"path\":\"/t")) != NULL; at += 10) {
		unsigned thread = (unsigned)(at[10] - '0');

		assert_true(thread < THREADS);
		assert_int_equal(strtoul(at + 12, NULL, 10), next[thread]);
		next[thread]++;
		count++;
	}
	assert_int_equal(count, THREADS * THREAD_EVENTS);
	free(p.reader.text);
	end(&p.f);
}

static void test_lines_come_soon(void **state)
{
	struct fixture f = begin();
	off_t before = 0;

	(void)state;
	tell(&f, (struct hk_audit_event){.path = "/x"});
	/* Without finish(): within its nap, but give a busy machine ten seconds. */
	for (unsigned i = 0; i < 1000 && before < 200; i++) {
		nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
		before = lseek(f.log, 0, SEEK_END);
	}
	assert_true(before >= 200);
	finish(&f);
	end(&f);
}

/* Processes */

static void put_status(const char *proc, unsigned pid, const char *text)
{
	char path[128];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%u", proc, pid);
	mkdir(path, 0700);
	snprintf(path, sizeof(path), "%s/%u/status", proc, pid);
	file = fopen(path, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static void drop_status(const char *proc, unsigned pid)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%u/status", proc, pid);
	unlink(path);
	snprintf(path, sizeof(path), "%s/%u", proc, pid);
	rmdir(path);
}

static void test_processes_are_looked_up_when_they_change(void **state)
{
	char proc[] = "/tmp/hako-test-proc-XXXXXX";
	struct hk_processes *processes;
	struct hk_process who;
	struct hk_err err = HK_ERR_INIT;
	uint64_t now = START_NS;

	(void)state;
	assert_non_null(mkdtemp(proc));
	put_status(proc, 20, "Name:\tsh\nUmask:\t0022\nTgid:\t20\nNgid:\t0\nPid:\t20\nPPid:\t10\n");
	put_status(proc, 21, "Name:\tworker\nTgid:\t20\nPid:\t21\nPPid:\t10\n");
	put_status(proc, 22, "Name:\ta\\nb\\\\c\nTgid:\t22\nPid:\t22\nPPid:\t1\n");
	assert_int_equal(hk_processes_create(proc, &processes, &err), 0);

	hk_processes_find(processes, 20, now, false, &who);
	assert_string_equal(who.command, "sh");
	assert_int_equal(who.pid, 20);
	assert_int_equal(who.ppid, 10);
	/* A thread: the process's number and name. */
	hk_processes_find(processes, 21, now, false, &who);
	assert_string_equal(who.command, "sh");
	assert_int_equal(who.pid, 20);
	hk_processes_find(processes, 22, now, false, &who);
	assert_string_equal(who.command, "a\nb\\c");

	/* It runs something: program, interpreter, linker; then it has the new name. */
	hk_processes_find(processes, 20, now, true, &who);
	put_status(proc, 20, "Name:\tcc1\nTgid:\t20\nPid:\t20\nPPid:\t10\n");
	hk_processes_find(processes, 20, now, true, &who);
	assert_string_equal(who.command, "sh");
	hk_processes_find(processes, 20, now, false, &who);
	assert_string_equal(who.command, "cc1");
	/* It changes its name: seen a second later. */
	put_status(proc, 20, "Name:\tas\nTgid:\t20\nPid:\t20\nPPid:\t1\n");
	hk_processes_find(processes, 20, now + HK_NS_PER_SEC - 1, false, &who);
	assert_string_equal(who.command, "cc1");
	hk_processes_find(processes, 20, now + HK_NS_PER_SEC, false, &who);
	assert_string_equal(who.command, "as");
	assert_int_equal(who.ppid, 1);
	/* Gone: the last that was known. Never known: nothing. */
	drop_status(proc, 20);
	hk_processes_find(processes, 20, now + 5 * HK_NS_PER_SEC, false, &who);
	assert_string_equal(who.command, "as");
	hk_processes_find(processes, 99, now, false, &who);
	assert_string_equal(who.command, "");
	assert_int_equal(who.pid, 99);
	/* The kernel. */
	hk_processes_find(processes, 0, now, false, &who);
	assert_string_equal(who.command, "");
	hk_processes_destroy(processes);
	drop_status(proc, 21);
	drop_status(proc, 22);
	rmdir(proc);
}

static void test_the_real_proc(void **state)
{
	struct fixture f = {.log = log_file()};
	char wanted[64];

	(void)state;
	start(&f, NULL);
	tell(&f, (struct hk_audit_event){.pid = getpid(), .path = "/x"});
	finish(&f);
	snprintf(wanted, sizeof(wanted),
		"\"pid\":%d,\"ppid\":%d,\"uid\":0,\"command\":\"test_audit\"", (int)getpid(),
		(int)getppid());
	assert_has(line(&f, 1), wanted);
	end(&f);
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
	        "passwd\",\"refused\":1,\"refused_classes\":[\"write\"],\"rule\":1,\"commands\":[0]"
	        "}");
	assert_has(text, "{\"path\":\"/usr/local/include/h00.h\",\"missing\":1");
	assert_has(text, "\"operations\":{\"lookup\":1,\"open\":62,");
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
		"allow read,write,create,delete /tmp/cc*.s\n"
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

/* Faults */

static void test_create_survives_faults(void **state)
{
	(void)state;
	for (unsigned nth = 1;; nth++) {
		struct hk_audit_options options = {.log_fd = -1, .home = HOME, .cwd = CWD};
		struct hk_audit *audit = NULL;
		struct hk_err err = HK_ERR_INIT;
		bool fired;
		int r;

		hk_fault_arm(HK_FAULT_ALLOC | HK_FAULT_SYSCALL, nth);
		r = hk_audit_create(&options, &audit, &err);
		fired = hk_fault_fired();
		hk_fault_arm(0, 0);
		if (r == 0) {
			hk_audit_free(audit);
		}
		if (!fired) {
			assert_int_equal(r, 0);
			assert_true(nth > 3);
			break;
		}
		assert_true(r < 0);
		assert_int_not_equal(hk_err_text(&err)[0], '\0');
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_operation_has_a_line),
		cmocka_unit_test(test_fields_follow_the_operation),
		cmocka_unit_test(test_names_are_bytes),
		cmocka_unit_test(test_huge_paths),
		cmocka_unit_test(test_slow_reader_loses_nothing),
		cmocka_unit_test(test_slow_reader_without_blocking),
		cmocka_unit_test(test_closed_pipe_is_told),
		cmocka_unit_test(test_each_threads_order_is_kept),
		cmocka_unit_test(test_lines_come_soon),
		cmocka_unit_test(test_processes_are_looked_up_when_they_change),
		cmocka_unit_test(test_the_real_proc),
		cmocka_unit_test(test_report_adds_up),
		cmocka_unit_test(test_summary_is_for_people),
		cmocka_unit_test(test_page_keeps_its_data_inside),
		cmocka_unit_test(test_too_many_paths_count_for_directories),
		cmocka_unit_test(test_learnt_policy_is_short_and_covers),
		cmocka_unit_test(test_learnt_policy_knows_what_comes_next_time),
		cmocka_unit_test(test_learnt_policy_says_no_again),
		cmocka_unit_test(test_learnt_policy_quotes_names),
		cmocka_unit_test(test_create_survives_faults),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
