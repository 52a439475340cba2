/* SPDX-License-Identifier: ISC */
/* How errors look: "hako VERB: what: why; what to do next", one line on stderr. */
#ifndef HK_CLI_REPORT_H
#define HK_CLI_REPORT_H

#include "base/err.h"

/** hk_report() - a line of hako's own on stderr */
void hk_report(const char *verb, const char *fmt, ...) HK_PRINTF(2, 3);

/** hk_report_err() - @err and its hint. Return: @status, to return it. */
int hk_report_err(const char *verb, const struct hk_err *err, int status);

/** hk_report_on_raw_terminal() - from now on lines need a carriage return (or no longer do) */
void hk_report_on_raw_terminal(int raw);

#endif
