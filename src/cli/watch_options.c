/* SPDX-License-Identifier: ISC */
/* The options that two verbs have in common: see watch_options.h. */
#include "cli/watch_options.h"

#include <stddef.h>

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

bool hk_watch_options_tell(const struct hk_watch_options *options)
{
	return options->log != NULL || options->report != NULL || options->learn != NULL;
}
