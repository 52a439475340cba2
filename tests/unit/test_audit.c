/* SPDX-License-Identifier: ISC */
/* The audit's log: lines, the queue behind a slow or a dead reader, who a process is. */
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <time.h>

#include "audit_fixture.h"
#include "base/fault.h"
#include "base/str.h"

#define HUGE_PATH 60000

/* Lines */

static void test_every_operation_has_a_line(void **state)
{
	struct fixture f = begin();

	(void)state;
	for (unsigned op = 0; op < HK_EVENT_COUNT; op++) {
		tell(&f,
			(struct hk_audit_event){.op = op,
				.path = "/a b/\"c\"",
				.pid = 100 + (pid_t)op,
				.uid = 1000});
	}
	finish(&f);
	assert_has(line(&f, 0), "\"op\":\"begin\",\"version\":1");
	for (unsigned op = 0; op < HK_EVENT_COUNT; op++) {
		char wanted[128];

		snprintf(wanted, sizeof(wanted), "\"op\":\"%s\"", hk_event_op_name(op));
		assert_has(line(&f, op + 1), wanted);
		snprintf(wanted, sizeof(wanted),
			"{\"time\":\"2026-11-21T15:57:25.123456789Z\",\"pid\":%u,\"ppid\":0,"
			"\"uid\":1000,\"command\":\"\"",
			100 + op);
		assert_has(line(&f, op + 1), wanted);
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
	/*
	 * Overlong, a surrogate, beyond Unicode, cut short; C1 and DEL are escaped, but are text.
	 */
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

/* JSON */

struct text_json {
	struct hk_json json;
	char text[1024];
	size_t len;
};

static void put_text(struct hk_json *json, const char *bytes, size_t len)
{
	struct text_json *to = hk_container_of(json, struct text_json, json);

	assert_true(to->len + len < sizeof(to->text));
	memcpy(to->text + to->len, bytes, len);
	to->len += len;
}

/*
 * Each byte that may need an escape, at each place among those that need none: as it is written
 * alone.
 */
static void test_escapes_anywhere(void **state)
{
	struct text_json *alone = calloc(1, sizeof(*alone));
	struct text_json *among = calloc(1, sizeof(*among));
	char text[20];

	for (unsigned c = 1; c < 0x80; c++) {
		char byte = (char)c;

		for (size_t at = 0; at < sizeof(text); at++) {
			memset(text, 'x', sizeof(text));
			text[at] = byte;
			alone->len = 0;
			among->len = 0;
			alone->json.put = put_text;
			among->json.put = put_text;
			assert_true(hk_json_text(&alone->json, &byte, 1));
			assert_true(hk_json_text(&among->json, text, sizeof(text)));
			hk_json_flush(&alone->json);
			hk_json_flush(&among->json);
			assert_int_equal(among->len, alone->len + sizeof(text) - 1);
			assert_memory_equal(among->text + 1 + at, alone->text + 1, alone->len - 2);
			assert_int_equal(among->text[among->len - 2],
				at == sizeof(text) - 1 ? alone->text[alone->len - 2] : 'x');
		}
	}
	free(alone);
	free(among);
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

/*
 * What follows "path":"/ in the next line that has it, and moves *@at behind that line; NULL at the
 * end. (Not strstr(): sanitizers measure all that is left, each time.)
 */
static const char *next_path(const struct reader *reader, const char **at)
{
	static const char key[] = "\"path\":\"/";

	while (*at < reader->text + reader->len) {
		const char *line = *at;
		const char *end = memchr(line, '\n', (size_t)(reader->text + reader->len - line));
		const char *path;

		assert_non_null(end);
		*at = end + 1;
		path = memmem(line, (size_t)(end - line), key, strlen(key));
		if (path != NULL) {
			return path + strlen(key);
		}
	}
	return NULL;
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
		const char *told = next_path(&p.reader, &at);

		assert_non_null(told);
		assert_int_equal(strtoul(told, NULL, 10), i);
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
	assert_string_equal(hk_err_text(&err), "--log: 5000 events were not written: Broken pipe");
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
	const char *at, *told;

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
	at = p.reader.text;
	while ((told = next_path(&p.reader, &at)) != NULL) {
		unsigned thread = (unsigned)(told[1] - '0');

		assert_true(thread < THREADS);
		assert_int_equal(strtoul(told + 3, NULL, 10), next[thread]);
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

/* Nobody is looked up; but what a process has run is its name. */
static void test_processes_of_a_guest(void **state)
{
	static const struct {
		enum hk_event_op op;
		pid_t pid;
		const char *path, *command; /* before it */
	} rows[] = {
		{HK_EVENT_LOOKUP, 1, "/x", ""},
		{HK_EVENT_EXEC, 1, "/src/a-script-with-a-long-name", ""},
		{HK_EVENT_READLINK, 1, "/bin/sh", "a-script-with-a"},
		{HK_EVENT_EXEC, 1, "/usr/bin/dash", "a-script-with-a"},
		{HK_EVENT_OPEN, 1, "/lib/libc.so", "a-script-with-a"},
		/* The next one, by itself. */
		{HK_EVENT_EXEC, 1, "/usr/bin/cat", "a-script-with-a"},
		{HK_EVENT_OPEN, 1, "/x", "cat"},
		{HK_EVENT_OPEN, 2, "/x", ""},
		{HK_EVENT_OPEN, 0, "/x", ""},
	};
	struct hk_processes *processes;
	struct hk_err err = HK_ERR_INIT;

	(void)state;
	assert_int_equal(hk_processes_create("", &processes, &err), 0);
	for (size_t i = 0; i < HK_ARRAY_SIZE(rows); i++) {
		struct hk_audit_event event = {.op = rows[i].op,
			.pid = rows[i].pid,
			.path = rows[i].path,
			.time_ns = START_NS + i * HK_NS_PER_SEC};
		struct hk_process who;

		hk_processes_find(
			processes, event.pid, event.time_ns, event.op == HK_EVENT_EXEC, &who);
		assert_string_equal(who.command, rows[i].command);
		assert_int_equal(who.pid, rows[i].pid);
		hk_processes_note(processes, &event);
	}
	hk_processes_destroy(processes);
}

/* An audit that is started later has what was told before. */
static void test_start_later(void **state)
{
	struct fixture f = {.log = log_file()};
	struct hk_audit_options options = {.log_fd = f.log, .proc = "", .start_later = true};
	static const struct hk_audit_root roots[] = {
		{"/usr", "/usr"}, {"/src", "/home/me/a \"b\""}};
	struct hk_err err = HK_ERR_INIT;

	(void)state;
	options.roots = roots;
	options.root_count = HK_ARRAY_SIZE(roots);
	assert_int_equal(hk_audit_create(&options, &f.audit, &err), 0);
	tell(&f, (struct hk_audit_event){.path = "/early"});
	assert_int_equal(lseek(f.log, 0, SEEK_END), 0);
	assert_int_equal(hk_audit_start(f.audit, &err), 0);
	tell(&f, (struct hk_audit_event){.path = "/late"});
	finish(&f);
	assert_has(line(&f, 0),
		"\"roots\":[{\"path\":\"/usr\",\"host\":\"/usr\"},{\"path\":\"/src\",\"host\":"
		"\"/home/me/a \\\"b\\\"\"}]}");
	assert_non_null(strstr(f.text, "\"/early\""));
	assert_non_null(strstr(f.text, "\"/late\""));
	end(&f);
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
		cmocka_unit_test(test_escapes_anywhere),
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
		cmocka_unit_test(test_processes_of_a_guest),
		cmocka_unit_test(test_start_later),
		cmocka_unit_test(test_the_real_proc),
		cmocka_unit_test(test_create_survives_faults),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
