/* SPDX-License-Identifier: ISC */
/*
 * Logging: levels per channel, one sink.
 *
 * Theory: the levels live in a small fixed table that hk_log_configure() replaces as a whole,
 * before threads start; from then on it is only read. hk_log_enabled() compares with the highest
 * level set anywhere first, so that a debug line nobody asked for costs one comparison. A line is
 * formatted on its caller's stack and then given to the sink under a mutex.
 *
 * Limits: MAX_CHANNELS channels with a level of their own. A sink that logs would wait for itself,
 * so lines logged by a sink are dropped. Control bytes in a line become blanks: a line stays one
 * line whatever it was made of. Neither hk_log() nor hk_log_enabled() changes errno.
 */
#include "base/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"

enum { MAX_CHANNELS = 32, CHANNEL_SIZE = 24, LINE_SIZE = 1024 };

struct levels {
	enum hk_log_level fallback; /* of channels that are not listed */
	enum hk_log_level highest;  /* of all */
	unsigned count;
	struct {
		char name[CHANNEL_SIZE];
		enum hk_log_level level;
	} channels[MAX_CHANNELS];
};

static const char *const level_names[HK_LOG_LEVEL_COUNT] = {
	[HK_LOG_ERROR] = "error",
	[HK_LOG_WARN] = "warn",
	[HK_LOG_INFO] = "info",
	[HK_LOG_DEBUG] = "debug",
	[HK_LOG_TRACE] = "trace",
};

static struct levels levels = {.fallback = HK_LOG_WARN, .highest = HK_LOG_WARN};

static void write_to_stderr(enum hk_log_level level, const char *channel, const char *text);

static pthread_mutex_t sink_lock = PTHREAD_MUTEX_INITIALIZER;
static hk_log_sink_fn *sink = write_to_stderr; /* sink_lock */
static __thread bool inside_sink;

static void write_to_stderr(enum hk_log_level level, const char *channel, const char *text)
{
	char line[LINE_SIZE + 128];
	int n = snprintf(
		line, sizeof(line) - 1, "hako: %s %.64s: %s", level_names[level], channel, text);
	size_t len = n < 0 ? 0 : HK_MIN((size_t)n, sizeof(line) - 2);
	ssize_t written;

	line[len] = '\n';
	do {
		/* seccomp: write */
		written = write(STDERR_FILENO, line, len + 1);
	} while (written < 0 && errno == EINTR);
}

void hk_log_set_sink(hk_log_sink_fn *new_sink)
{
	pthread_mutex_lock(&sink_lock);
	sink = new_sink != NULL ? new_sink : write_to_stderr;
	pthread_mutex_unlock(&sink_lock);
}

static int parse_level(const char *word, size_t len, enum hk_log_level *ret_level)
{
	for (int i = 0; i < HK_LOG_LEVEL_COUNT; i++) {
		if (strlen(level_names[i]) == len && memcmp(level_names[i], word, len) == 0) {
			*ret_level = (enum hk_log_level)i;
			return 0;
		}
	}
	return -EINVAL;
}

static int set_channel(struct levels *l, const char *name, size_t len, enum hk_log_level level)
{
	unsigned i;

	if (len == 0 || len >= CHANNEL_SIZE) {
		return -EINVAL;
	}
	for (i = 0; i < l->count; i++) {
		if (strlen(l->channels[i].name) == len &&
			memcmp(l->channels[i].name, name, len) == 0) {
			break;
		}
	}
	if (i == MAX_CHANNELS) {
		return -ENOSPC;
	}
	memcpy(l->channels[i].name, name, len);
	l->channels[i].name[len] = '\0';
	l->channels[i].level = level;
	l->count = HK_MAX(l->count, i + 1);
	return 0;
}

static int apply_word(struct levels *l, const char *word, size_t len, struct hk_err *err)
{
	const char *colon = memchr(word, ':', len);
	const char *name = colon != NULL ? colon + 1 : word;
	size_t name_len = len - (size_t)(name - word);
	enum hk_log_level level;

	if (parse_level(name, name_len, &level) < 0) {
		hk_fail_msg(err, EINVAL, "log '%.*s': no level '%.*s'", (int)HK_MIN(len, 64), word,
			(int)HK_MIN(name_len, 64), name);
		hk_err_hint(err, "levels are error, warn, info, debug and trace");
		return -EINVAL;
	}
	if (colon == NULL) {
		l->fallback = level;
		return 0;
	}
	switch (set_channel(l, word, (size_t)(colon - word), level)) {
	case 0:
		return 0;
	case -ENOSPC:
		return hk_fail_msg(err, EINVAL, "log '%.*s': more than %d channels",
			(int)HK_MIN(len, 64), word, MAX_CHANNELS);
	default:
		return hk_fail_msg(
			err, EINVAL, "log '%.*s': not a channel", (int)HK_MIN(len, 64), word);
	}
}

int hk_log_configure(const char *spec, struct hk_err *err)
{
	struct levels next = levels;

	for (;;) {
		size_t len = strcspn(spec, ",");

		if (apply_word(&next, spec, len, err) < 0) {
			return -EINVAL;
		}
		if (spec[len] == '\0') {
			break;
		}
		spec += len + 1;
	}
	next.highest = next.fallback;
	for (unsigned i = 0; i < next.count; i++) {
		next.highest = HK_MAX(next.highest, next.channels[i].level);
	}
	levels = next;
	return 0;
}

bool hk_log_enabled(enum hk_log_level level, const char *channel)
{
	if (level > levels.highest) {
		return false;
	}
	for (unsigned i = 0; i < levels.count; i++) {
		if (strcmp(levels.channels[i].name, channel) == 0) {
			return level <= levels.channels[i].level;
		}
	}
	return level <= levels.fallback;
}

/* Marks the cut and drops what would break the line; UTF-8 passes. */
static void tidy(char *text, size_t size, int formatted_len)
{
	if (formatted_len < 0) {
		text[0] = '\0';
	} else if ((size_t)formatted_len >= size) {
		memcpy(text + size - 4, "...", 4);
	}
	for (unsigned char *c = (unsigned char *)text; *c != '\0'; c++) {
		if (*c < ' ' || *c == 0x7f) {
			*c = ' ';
		}
	}
}

void hk_log(enum hk_log_level level, const char *channel, const char *fmt, ...)
{
	char text[LINE_SIZE];
	int saved_errno = errno;
	va_list ap;
	int n;

	if (inside_sink) {
		return;
	}
	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	tidy(text, sizeof(text), n);

	pthread_mutex_lock(&sink_lock);
	inside_sink = true;
	sink(level, channel, text);
	inside_sink = false;
	pthread_mutex_unlock(&sink_lock);
	errno = saved_errno;
}
