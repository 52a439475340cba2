/* SPDX-License-Identifier: ISC */
/* Kernel modules, in the order that the host chose: /modules/order of the initramfs. */
#ifndef HK_GUEST_MODULES_H
#define HK_GUEST_MODULES_H

/**
 * hk_modules_load() - load the modules of the next stage and delete their files
 *
 * The list names a file of /modules a line; "--" ends a stage. To be called once for each stage.
 * No list means that all is built in. What cannot be loaded is said on the console; what is
 * missing because of that will fail with a better message.
 */
void hk_modules_load(void);

#endif
