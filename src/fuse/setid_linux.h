/* SPDX-License-Identifier: ISC */
/*
 * The right to keep set-id bits (CAP_FSETID), which a thread of root's has, and at times must not
 * use (setid_linux.c). All functions are about the calling thread.
 */
#ifndef HK_FUSE_SETID_LINUX_H
#define HK_FUSE_SETID_LINUX_H

#include <stdbool.h>
#include <sys/types.h>

/**
 * hk_setid_lay_down() - until one of the others takes it up. Return: false where the thread may
 * still have it
 */
bool hk_setid_lay_down(void);

/** hk_setid_take_up() - what is done next sets such bits, or may let them stay */
void hk_setid_take_up(void);
/** hk_setid_take_up_for() - the same, if the mode has some */
void hk_setid_take_up_for(mode_t mode);
/** hk_setid_take_up_of() - the same, if the file, or object, has some */
void hk_setid_take_up_of(int fd);

/**
 * hk_setid_is_up() - it was taken up by other means: setfsuid(2) from somebody else back to root
 * does so
 */
void hk_setid_is_up(void);

#endif
