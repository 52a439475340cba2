/* SPDX-License-Identifier: ISC */
/*
 * What of the agent touches the virtual machine. platform_vm.c is the real one; tests link their
 * own, with socketpairs for vsock and a directory for the shares.
 */
#ifndef HK_GUEST_PLATFORM_H
#define HK_GUEST_PLATFORM_H

#include <stdint.h>

/**
 * hk_platform_dial() - open a stream to the host
 * @port: HK_CONTROL_PORT or HK_STREAM_PORT
 *
 * Return: a non-blocking descriptor that may still be connecting (it becomes writable, or fails,
 * when that is over); -errno.
 */
int hk_platform_dial(uint32_t port);

/* The three below give a detached mount, see mount.h, or -errno. */
int hk_platform_mount_shares(void); /* its root has one entry for each export */
int hk_platform_mount_dev(void);    /* for the box's /dev, with links like fd and stdin in it */
int hk_platform_mount_sys(void);    /* for the box's /sys */

/* Become @uid and @gid for good, without supplementary groups. Return: 0 or -errno */
int hk_platform_become_user(uint32_t uid, uint32_t gid);

/* The clock, the random number generator and the name. Return: 0 or -errno. */
int hk_platform_set_clock(uint64_t wall_time_ns);
int hk_platform_add_entropy(const uint8_t *bytes, uint32_t len);
int hk_platform_set_hostname(const char *name);
int hk_platform_raise_loopback(void);

#endif
