/* SPDX-License-Identifier: ISC */
/* Lines on the console: only what cannot be said over the control channel. */
#ifndef HK_GUEST_SAY_H
#define HK_GUEST_SAY_H

/** hk_say() - print "hako-guest: ..." and a newline on the console, in one write */
void hk_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
