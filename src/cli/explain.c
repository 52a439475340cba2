/* SPDX-License-Identifier: ISC */
/*
 * What is said at a box's end: see explain.h.
 *
 * Theory: a command that fails because of the box (something was denied, is not shared, is too
 * big) fails with words of its own, which know nothing of the box. So a failure is followed by the
 * facts that may have led to it, each with the option that changes it. A success is followed by
 * nothing.
 */
#include "cli/explain.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "base/util.h"
#include "box/layout.h"
#include "cli/parse.h"
#include "cli/report.h"

enum { CONSOLE_LINES = 8, LINES_BEFORE_PANIC = 2, LINE_SIZE = 1024 };

static bool is_shared(const struct hk_box_config *config, const char *path)
{
	for (unsigned i = 0; i < config->share_count; i++) {
		if (hk_path_within(path, config->shares[i].host) != NULL) {
			return true;
		}
	}
	return false;
}

/* Of the system the box has what everybody may read; is @path something that only we may? */
static bool is_private(const struct hk_box_config *config, const char *path)
{
	struct stat st;

	if (config->rootfs != NULL || is_shared(config, path) ||
		(hk_path_within(path, "/etc") == NULL && hk_path_within(path, "/usr") == NULL)) {
		return false;
	}
	return access(path, R_OK) == 0 && stat(path, &st) == 0 && (st.st_mode & S_IROTH) == 0;
}

/* Absolute and clean, if the host has it and the box does not; else NULL. Owned by the caller. */
static char *find_unshared(const struct hk_box_config *config, const char *word)
{
	autofree char *path = NULL;
	struct stat st;

	if (word[0] == '\0' || config->caller_dir == NULL ||
		hk_path_absolute(config->caller_dir, word, &path) < 0 || lstat(path, &st) < 0 ||
		hk_path_has_dotdot(path) ||
		(hk_box_shows(config, path) && !is_private(config, path))) {
		return NULL;
	}
	return take_ptr(path);
}

/* Also within a word: `sh -c "wc </data/x"`, --file=/data/x. Owned by the caller. */
static char *find_in_word(const struct hk_box_config *config, const char *word)
{
	static const char ends[] = " \t\n\"'`=<>(){};:,|&";
	char *found = find_unshared(config, word);

	for (const char *at = strchr(word, '/'); found == NULL && at != NULL;) {
		size_t len = strcspn(at, ends);
		struct hk_str path = {0};

		if (at == word || strchr(ends, at[-1]) != NULL) {
			hk_str_add_bytes(&path, at, len);
			found = path.failed ? NULL : find_unshared(config, path.data);
			hk_str_finish(&path);
		}
		at = strchr(at + len, '/');
	}
	return found;
}

/* The command's program, found as a shell on the host would; else NULL. Owned by the caller. */
static char *find_program(const struct hk_box_config *config)
{
	const char *name = config->argv[0];
	const char *path = getenv("PATH");

	if (strchr(name, '/') != NULL) {
		return find_unshared(config, name);
	}
	while (path != NULL && *path != '\0') {
		size_t len = strcspn(path, ":");
		struct hk_str file = {0};
		char *found = NULL;

		hk_str_add_bytes(&file, path, len);
		hk_str_addf(&file, "/%s", name);
		if (!file.failed && access(file.data, X_OK) == 0) {
			found = find_unshared(config, file.data);
		}
		hk_str_finish(&file);
		if (found != NULL) {
			return found;
		}
		path += len + (path[len] == ':');
	}
	return NULL;
}

static void escape(char line[LINE_SIZE], const char *text)
{
	hk_str_escape(line, LINE_SIZE, text, strlen(text));
}

void hk_hints_find(struct hk_hints *hints, const struct hk_box_config *config)
{
	hints->program = find_program(config);
	for (char *const *word = config->argv + 1; hints->word == NULL && *word != NULL; word++) {
		hints->word = find_in_word(config, *word);
	}
}

void hk_hints_finish(struct hk_hints *hints)
{
	free(hints->program);
	free(hints->word);
	*hints = (struct hk_hints){0};
}

static void explain_not_started(const struct hk_box_config *config, const struct hk_hints *hints,
	const struct hk_box_result *result)
{
	char name[LINE_SIZE];
	char path[LINE_SIZE];

	switch (result->stage) {
	case HK_EXEC_STAGE_EXEC:
		escape(name, config->argv[0]);
		if (hints->program != NULL) {
			escape(path, hints->program);
			hk_report("run",
				"%s: not found in the box; it is %s on the host: share it with -v "
				"%s",
				name, path, path);
		} else if (result->code == ENOENT) {
			hk_report("run", "%s: not found in the box", name);
		} else {
			hk_report(
				"run", "%s: cannot be executed: %s", name, strerror(result->code));
		}
		break;
	case HK_EXEC_STAGE_CWD:
		escape(path, config->workdir != NULL ? config->workdir : "the home directory");
		hk_report("run",
			"-w %s: %s in the box; share it with -v %s, or make it part of a share",
			path, strerror(result->code), path);
		break;
	case HK_EXEC_STAGE_USER:
		hk_report("run", "taking on the user's id in the box: %s", strerror(result->code));
		break;
	default:
		hk_report("run", "starting the command in the box: %s", strerror(result->code));
		break;
	}
}

static void explain_memory(const struct hk_box_config *config, const struct hk_box_result *result)
{
	bool itself = result->end == HK_BOX_SIGNALED && result->code == SIGKILL;

	hk_report("run",
		"%s killed: the box ran out of memory (%" PRIu64
		" MiB); give it more with --memory",
		itself ? "the command was" : "processes of the command were",
		config->memory_bytes / HK_MIB);
}

static void explain_denials(struct hk_box *box)
{
	uint64_t count = hk_box_denial_count(box);
	char line[LINE_SIZE];
	unsigned shown = 0;

	while (hk_box_denial(box, shown, line, sizeof(line))) {
		hk_report("run", "denied: %s", line);
		shown++;
	}
	if (count > shown) {
		hk_report("run", "denied: %" PRIu64 " more", count - shown);
	}
}

static void explain_unshared(const struct hk_hints *hints)
{
	char line[LINE_SIZE];

	escape(line, hints->word);
	hk_report("run", "hint: %s is not in the box; share it with -v %s", line, line);
}

static void explain_failure(struct hk_box *box, const struct hk_box_config *config,
	const struct hk_hints *hints, const struct hk_box_result *result)
{
	if (result->oom_kills > 0) {
		explain_memory(config, result);
	} else if (hk_box_denial_count(box) > 0) {
		explain_denials(box);
	} else if (result->end == HK_BOX_EXITED && hints->word != NULL) {
		explain_unshared(hints);
	}
}

/* The machine has no PCI, and the kernel says so at each boot: no cause of anything. */
static bool is_of_no_account(const char *line)
{
	return strstr(line, "PCI: Fatal: No config space access function found") != NULL;
}

/*
 * How many lines from the end on are worth a look. After a panic's own line there are a trace and
 * registers, many of them, which must not push it out of sight.
 */
static unsigned lines_to_show(struct hk_box *box)
{
	char line[LINE_SIZE];

	for (unsigned back = 0; hk_box_console_line(box, back, line, sizeof(line)); back++) {
		if (strstr(line, "Kernel panic") != NULL) {
			return HK_MAX(back + 1 + LINES_BEFORE_PANIC, (unsigned)CONSOLE_LINES);
		}
	}
	return CONSOLE_LINES;
}

static void show_console(struct hk_box *box)
{
	unsigned shown = 0;
	char line[LINE_SIZE];

	for (unsigned back = lines_to_show(box); back-- > 0 && shown < CONSOLE_LINES;) {
		if (hk_box_console_line(box, back, line, sizeof(line)) && !is_of_no_account(line)) {
			hk_report("run", "| %s", line);
			shown++;
		}
	}
}

static void explain_timeout(const struct hk_box_config *config)
{
	uint64_t ms = config->timeout_ns / HK_NS_PER_MS;

	hk_report(
		"run", "ended after %" PRIu64 ".%03" PRIu64 " s (--timeout)", ms / 1000, ms % 1000);
}

int hk_explain(struct hk_box *box, const struct hk_box_config *config, const struct hk_hints *hints)
{
	const struct hk_box_result *result = hk_box_result(box);
	int status = hk_box_status(result);

	switch (result->end) {
	case HK_BOX_EXITED:
	case HK_BOX_SIGNALED:
		if (status != 0) {
			explain_failure(box, config, hints, result);
		}
		break;
	case HK_BOX_NOT_STARTED:
		explain_not_started(config, hints, result);
		break;
	case HK_BOX_TIMED_OUT:
		explain_timeout(config);
		break;
	case HK_BOX_FAILED:
		hk_report_err("run", &result->err, 0);
		if (result->show_console) {
			show_console(box);
		}
		break;
	case HK_BOX_STOPPED:
	case HK_BOX_RUNS_STILL:
	case HK_BOX_END_COUNT:
		break;
	}
	return status;
}
