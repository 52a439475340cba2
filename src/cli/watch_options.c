/* SPDX-License-Identifier: ISC */
/* The options that two verbs have in common: see watch_options.h. */
#include "cli/watch_options.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/str.h"
#include "cli/opts.h"

bool hk_watch_options_take(struct hk_watch_options *options, int option, const char *value)
{
	switch (option) {
	case HK_WATCH_POLICY:
		options->policy = value;
		return true;
	case HK_WATCH_STRICT:
		options->strict = true;
		return true;
	case HK_WATCH_ASK:
		options->ask = value;
		return true;
	case HK_WATCH_LOG:
		options->log = value;
		return true;
	case HK_WATCH_REPORT:
		options->report = value;
		return true;
	case HK_WATCH_LEARN:
		options->learn = value;
		return true;
	default:
		return false;
	}
}

static bool is_program(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

/* As posix_spawnp(3) will look for it. */
static bool is_in_path(const char *name)
{
	const char *path = getenv("PATH");
	bool found = false;

	if (path == NULL) {
		path = "/bin:/usr/bin";
	}
	while (!found) {
		size_t len = strcspn(path, ":");
		struct hk_str file = {0};

		hk_str_add_bytes(&file, path, len);
		hk_str_addf(&file, "%s%s", len > 0 ? "/" : "", name);
		found = file.failed || is_program(file.data);
		hk_str_finish(&file);
		if (path[len] == '\0') {
			break;
		}
		path += len + 1;
	}
	return found;
}

static int needs_rules(const char *option, const char *rules, struct hk_err *err)
{
	hk_fail_msg(err, EINVAL, "%s: it is about a policy, and there is none", option);
	return hk_err_hint(err, "give one with %s, or leave it out", rules);
}

int hk_watch_options_check(const struct hk_watch_options *options, bool has_rules,
	const char *rules, struct hk_err *err)
{
	const char *ask = options->ask;

	if (!has_rules && (options->strict || ask != NULL)) {
		return needs_rules(options->strict ? "--strict" : "--ask", rules, err);
	}
	if (ask != NULL && !(strchr(ask, '/') != NULL ? is_program(ask) : is_in_path(ask))) {
		return hk_opts_bad_value("--ask", ask, "name a program that can be executed", err);
	}
	return 0;
}

bool hk_watch_options_tell(const struct hk_watch_options *options)
{
	return options->log != NULL || options->report != NULL || options->learn != NULL;
}
