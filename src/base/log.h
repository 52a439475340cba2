/* SPDX-License-Identifier: ISC */
/*
 * Logging: five levels, one channel per module, one sink.
 *
 * A file names its channel once, after its includes:
 *
 *	HK_LOG_CHANNEL("virtio");
 *
 * and then calls hk_log_debug("queue %u: %s", ...). Libraries log at most at
 * debug level: what the user must know travels as an error (err.h). Text that
 * came from a guest is passed through hk_str_escape() first.
 */
#ifndef HK_BASE_LOG_H
#define HK_BASE_LOG_H

#include <stdbool.h>

#include "base/err.h"

enum hk_log_level {
	HK_LOG_ERROR,
	HK_LOG_WARN,
	HK_LOG_INFO,
	HK_LOG_DEBUG,
	HK_LOG_TRACE,
	HK_LOG_LEVEL_COUNT,
};

/**
 * typedef hk_log_sink_fn - where lines go
 * @level: of this line
 * @channel: module name, borrowed
 * @text: one line without a newline, borrowed
 *
 * Called from any thread, one at a time. What a sink itself logs is dropped.
 */
typedef void hk_log_sink_fn(enum hk_log_level level, const char *channel, const char *text);

/** hk_log_set_sink() - replace the sink; NULL restores the default (stderr) */
void hk_log_set_sink(hk_log_sink_fn *sink);

/**
 * hk_log_configure() - set levels from "LEVEL" and "CHANNEL:LEVEL", comma separated
 * @spec: for instance "warn,virtio:debug,fuse:trace"
 * @err: says which word was wrong
 *
 * A LEVEL alone is for all channels that have none of their own, wherever it stands. Calls add up;
 * one that fails changes nothing. Up to 32 channels, with names of up to 23 bytes.
 *
 * Not thread-safe: call before threads are started.
 *
 * Return: 0, or -EINVAL.
 */
int hk_log_configure(const char *spec, struct hk_err *err);

/** hk_log_enabled() - would a line of this level on this channel be shown? Any thread, cheap. */
bool hk_log_enabled(enum hk_log_level level, const char *channel);

/**
 * hk_log() - write one line; long ones are cut at 1 KiB, control bytes become blanks. Any thread.
 *
 * Asks no level: hk_log_at() has done that. Keeps errno.
 */
void hk_log(enum hk_log_level level, const char *channel, const char *fmt, ...) HK_PRINTF(3, 4);

#define HK_LOG_CHANNEL(name) static const char *const hk_log_channel = name

#define hk_log_at(level, ...) \
	do { \
		if (hk_log_enabled(level, hk_log_channel)) { \
			hk_log(level, hk_log_channel, __VA_ARGS__); \
		} \
	} while (0)

#define hk_log_error(...) hk_log_at(HK_LOG_ERROR, __VA_ARGS__)
#define hk_log_warn(...)  hk_log_at(HK_LOG_WARN, __VA_ARGS__)
#define hk_log_info(...)  hk_log_at(HK_LOG_INFO, __VA_ARGS__)
#define hk_log_debug(...) hk_log_at(HK_LOG_DEBUG, __VA_ARGS__)
#define hk_log_trace(...) hk_log_at(HK_LOG_TRACE, __VA_ARGS__)

#endif
